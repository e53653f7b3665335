# DROP EXTENSION with live topics: refused without CASCADE, complete with it, while clients produce
# and consume.
use strict;
use warnings;

use IPC::Run ();
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main');

$node->safe_psql('postgres', <<'SQL');
SELECT kafka.create_topic('live', 4);
SELECT kafka.create_topic('idle', 2);
SQL
$node->kcat({ in => join('', map { "line $_\n" } 1 .. 1000) }, '-P', '-t', 'live');
$node->kcat({ in => "one\n" }, '-P', '-t', 'idle');

# Clients that never stop by themselves.
my @clients;
{
	local %ENV = $node->_get_env(KAFKA_BOOTSTRAP => $node->bootstrap);
	for my $args ([ 'produce', 'live' ], [ 'consume', 'live' ], [ 'consume', 'idle' ])
	{
		push @clients,
		  IPC::Run::start([ '/usr/bin/python3', 'test/clients/endless.py', @$args ],
			'<', \'', '>', '/dev/null', '2>', '/dev/null');
	}
}
$node->poll_query_until('postgres',
	q{SELECT sum(high_watermark) > 1100 FROM kafka.partitions WHERE topic = 'live'})
  or die 'the producer does not produce';

my ($code, $stdout, $stderr) = $node->psql('postgres', 'DROP EXTENSION kafka_pg');
isnt($code, 0, 'refused while there are topics');
like($stderr, qr/cannot drop extension kafka_pg because other objects depend on it/, 'with the reason');
like($stderr, qr/table topics\.live/, 'and what depends on it');
is($node->kcat('-C', '-t', 'idle', '-e', '-q'), "one\n", 'nothing has happened');

my $path = $node->safe_psql('postgres', q{SELECT pg_relation_filepath('topics.live')});
$node->safe_psql('postgres', "SET lock_timeout = '60s'; DROP EXTENSION kafka_pg CASCADE");
pass('dropped with CASCADE');
$node->poll_query_until('postgres', <<'SQL') or die 'processes are still there';
SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type LIKE 'kafka %'
SQL
is($node->safe_psql('postgres',
		q{SELECT count(*) FROM pg_namespace WHERE nspname IN ('kafka', 'topics')}),
	'0', 'nothing is left in the catalogs');
$node->safe_psql('postgres', 'CHECKPOINT');
ok(!-e $node->data_dir . "/$path", 'nor on disk');

# The clients are still at it, and find a new broker with a topic of the same name.
$node->safe_psql('postgres',
	q{CREATE EXTENSION kafka_pg; SELECT kafka.create_topic('live', 4)});
$node->poll_query_until('postgres',
	q{SELECT sum(high_watermark) > 10 FROM kafka.partitions WHERE topic = 'live'})
  or die 'the producer has not come back';
pass('created again, the clients go on');

for my $client (@clients)
{
	$client->kill_kill(grace => 1);
}
KafkaPg::done();
