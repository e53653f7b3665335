# Topics beyond one session: waiting, DROP EXTENSION, dump and restore, the leader epoch.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main');

sub sql { my ($query) = @_; return $node->safe_psql('postgres', $query); }

# KafkaPg imports a function of the name of the parent's method.
sub ok_command { return $node->PostgreSQL::Test::Cluster::command_ok(@_); }

# Starts a statement in a session of its own, and returns the session when it waits.
sub waiting
{
	my ($statement) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_until(qr/started/, "\\echo started\n$statement;\n\\echo finished\n");
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE query LIKE '%1 hour%' AND state = 'active' AND wait_event IS NOT NULL
			AND pid <> pg_backend_pid()}), "waits: $statement");
	return $session;
}

sub finished
{
	my ($session, $test) = @_;
	my $output = $session->query_until(qr/finished/, '');
	$session->quit;
	ok(1, $test);
	return $output;
}

# kafka.wait and kafka.fetch with max_wait: woken by a commit, ended by a cancellation and by
# DROP TABLE, which needs not wait for them
sql(q{SELECT kafka.create_topic('w')});
my $session = waiting(q{CALL kafka.wait('w', 0, 0, '1 hour')});
is(sql(q{SELECT backend_xid IS NULL AND backend_xmin IS NULL FROM pg_stat_activity
		WHERE query LIKE 'CALL%1 hour%'}), 't', 'kafka.wait holds neither snapshot nor xid');
sql(q{SELECT kafka.produce('w', 'first')});
finished($session, 'kafka.wait ends with a commit');

$session = waiting(q{SELECT kafka.to_text(value) FROM kafka.fetch('w', 0, 1, max_wait => '1 hour')});
sql(q{BEGIN; SELECT kafka.produce('w', 'never'); ROLLBACK});
sql(q{SELECT kafka.produce('w', 'second')});
like(finished($session, 'kafka.fetch ends with a commit'), qr/^second$/m, 'and returns the record');

for my $statement (q{CALL kafka.wait('w', 0, 2, '1 hour')},
	q{SELECT count(*) FROM kafka.fetch('w', 0, 2, max_wait => '1 hour')})
{
	$session = waiting($statement);
	sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity
		WHERE query LIKE '%1 hour%' AND pid <> pg_backend_pid()});
	finished($session, "cancelled: $statement");
	$session = waiting($statement);
	sql(q{BEGIN; SET LOCAL lock_timeout = '5s'; SELECT kafka.drop_topic('w'); COMMIT});
	finished($session, "DROP TABLE ends: $statement");
	sql(q{SELECT kafka.create_topic('w'), kafka.produce('w', 'x'); SELECT kafka.produce('w', 'x')})
	  if $statement =~ /CALL/;
}

# A dump has topics, rights and records, and a restored server goes on numbering
sql(q{
	SELECT kafka.create_topic('orders', 3, '{"retention.ms": 86400000}');
	SELECT kafka.create_topic(rpad('long', 200, 'x'));
	CREATE ROLE writer;
	GRANT INSERT ON topics.orders TO writer;
	GRANT CREATE ON SCHEMA topics TO writer;
	ALTER TABLE topics.orders OWNER TO writer;
	SELECT count(kafka.produce('orders', 'value ' || i, 'key ' || i,
		ARRAY[kafka.header('n', i::text::bytea)])) FROM generate_series(1, 1000) i;
	SELECT kafka.produce(rpad('long', 200, 'x'), NULL, 'key', "timestamp" => '2000-01-01');
	SELECT setval('kafka.producer_id_seq', 77)});
my $facts = q{
	SELECT name, id, "table", owner, partitions, config, created FROM kafka.topics ORDER BY name;
	SELECT topic, partition, log_start, high_watermark, end_offset FROM kafka.partitions
		ORDER BY topic, partition;
	SELECT md5(string_agg(t::text, '' ORDER BY partition, "offset")) FROM topics.orders t;
	SELECT has_schema_privilege('writer', 'topics', 'CREATE');
	SELECT last_value FROM kafka.producer_id_seq};
my $before = sql($facts);
my $cluster_id = sql('SELECT id FROM kafka.cluster');
my $dump = $node->basedir . '/dump';
ok_command([ 'pg_dump', '-Fp', '-f', "$dump.sql", 'postgres' ], 'pg_dump, as a script');
ok_command([ 'pg_dump', '-Fd', '-f', "$dump.dir", '-j', '2', 'postgres' ],
	'pg_dump, parallel');

my ($code, $out, $err) = $node->psql('postgres', 'DROP EXTENSION kafka_pg');
isnt($code, 0, 'DROP EXTENSION with topics fails');
like($err, qr/table topics\.orders depends on access method kafka_log/, 'and says why');
is(sql('SELECT count(*) FROM kafka.topics'), 2, 'and drops nothing');

# Somebody who has looked at topics stays connected, and finds them gone, and there again.
my $other = $node->background_psql('postgres', on_error_stop => 0);
$other->query(q{SELECT count(*) FROM kafka.fetch('orders', 0, 0)});
for my $restore ([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql", 'postgres' ],
	[ 'pg_restore', '-j', '2', '-d', 'postgres', "$dump.dir" ])
{
	sql('DROP EXTENSION kafka_pg CASCADE');
	is(sql(q{SELECT count(*) FROM pg_class WHERE relname IN ('orders', 'topic')}), 0,
		'DROP EXTENSION CASCADE drops everything');
	is($other->query(q{SELECT 'alive'}), 'alive', 'another session lives on');
	ok_command($restore, "$restore->[0] restores");
	is(sql($facts), $before, 'topics, rights and records are there again');
	is($other->query(q{SELECT count(*) > 0 FROM kafka.fetch('orders', 0, 0)}), 't',
		'in another session, too');
}
$other->quit;
isnt(sql('SELECT id FROM kafka.cluster'), $cluster_id, 'a restored server is another cluster');
is(sql(q{SELECT kafka.produce('orders', 'next', partition => 0);
		SELECT max("offset") - min("offset") + 1 = count(*) FROM topics.orders WHERE partition = 0}),
	"0\nt", 'and goes on numbering');

# Leader epoch: kept by a restart, also of a new extension; raised by a promotion
my $epoch = 'SELECT epoch, timeline FROM kafka.leader_epoch';
my $leader_epoch = q{SELECT max(leader_epoch) FROM kafka.partitions};
is(sql($epoch), '0|1', 'the first leader epoch');
$node->restart;
is(sql($epoch), '0|1', 'is kept by a restart');
my $standby = KafkaPg->standby($node, 'standby');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $epoch), '0|1', 'a standby knows it');
$node->stop('fast');
$standby->promote;
ok($standby->poll_query_until('postgres',
		q{SELECT kafka.produce('orders', 'after promotion', partition => 0) = 0}),
	'a promoted standby takes records');
is($standby->safe_psql('postgres', $epoch), '1|2', 'with a new leader epoch');
is($standby->safe_psql('postgres', $leader_epoch), '1', 'which is shown');
$standby->restart;
is($standby->safe_psql('postgres', $epoch), '1|2', 'and kept');
$standby->safe_psql('postgres', 'DROP EXTENSION kafka_pg CASCADE; CREATE EXTENSION kafka_pg');
is($standby->safe_psql('postgres', $epoch), '1|2', 'a new extension goes on from it');

# Topics in a database that is no more the one we serve: not to be used, but to be dropped
$standby->safe_psql('postgres', q{SELECT kafka.create_topic('left'); SELECT kafka.produce('left', 'x');
	CREATE DATABASE other});
$standby->append_conf('postgresql.conf', "kafka_pg.database = 'other'\n");
$standby->restart;
for my $statement ('TABLE topics."left"', q{SELECT kafka.produce('left', 'x')},
	q{SELECT kafka.create_topic('new')})
{
	($code, $out, $err) = $standby->psql('postgres', $statement);
	like($err, qr/topics are served in database "other", not in "postgres"/, $statement);
}
$standby->safe_psql('postgres', q{SELECT kafka.drop_topic('left'); DROP EXTENSION kafka_pg});
is($standby->safe_psql('postgres', q{SELECT to_regclass('topics.left'), to_regnamespace('kafka')}),
	'|', 'but dropping works');

KafkaPg::done();
