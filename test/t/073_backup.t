# Base backups taken under load and started as servers of their own, checked by Postgres' own
# tools; pg_rewind of an old primary.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main', conf => "wal_keep_size = 512MB\n");

sub sql { return $node->safe_psql('postgres', $_[0]); }

# KafkaPg imports a function of the name of the parent's method.
sub command
{
	my ($what, @command) = @_;
	return $node->PostgreSQL::Test::Cluster::command_ok(\@command, $what);
}

sql(q{SELECT kafka.create_topic('sql', 3, '{"segment.bytes": 1048576}'); SELECT kafka.create_topic('wire', 2);
	CREATE TABLE ledger (n int, partition int)});
my $script = $node->basedir . '/load.sql';
append_to_file($script, <<'SQL');
\set n random(1, 1000000000)
\set many random(1, 40)
BEGIN;
INSERT INTO topics.sql (partition, key, value)
  SELECT :n % 3, convert_to(:n::text, 'UTF8'), convert_to(repeat('x', 500), 'UTF8')
    FROM generate_series(1, :many);
INSERT INTO ledger SELECT :n, :n % 3 FROM generate_series(1, :many);
SAVEPOINT s;
SELECT kafka.produce('sql', 'rolled back', 'gone');
ROLLBACK TO s;
COMMIT;
SQL
my @load;

sub start_load
{
	unlink 'stop';
	@load = (
		IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-T', '120', '-f', $script, $node->connstr('postgres') ],
			'>', \my $bench_out, '2>', \my $bench_err),
		IPC::Run::start(
			[ 'sh', '-c', 'while [ ! -e stop ]; do seq 1 200; sleep 0.01; done |'
				  . ' kcat -P -X enable.idempotence=true -X linger.ms=2 -t wire -b ' . $node->bootstrap ],
			'>', \my $kcat_out, '2>', \my $kcat_err));
	return;
}

sub stop_load
{
	append_to_file('stop', '');
	$load[0]->signal('TERM');
	eval { IPC::Run::finish($_) } for @load;
	return;
}

sub wait_for_more
{
	my $n = sql('SELECT count(*) FROM ledger');
	$node->poll_query_until('postgres', "SELECT count(*) > $n + 500 FROM ledger") or die 'no load';
	return;
}

# What must be true of any server that has come from this one
sub check_server
{
	my ($server, $what) = @_;
	my $query = sub { return $server->safe_psql('postgres', $_[0]) };

	is($query->(q{SELECT count(*) FROM (
			(SELECT n::text, partition FROM ledger
				EXCEPT ALL SELECT kafka.to_text(key), partition FROM topics.sql)
			UNION ALL
			(SELECT kafka.to_text(key), partition FROM topics.sql
				EXCEPT ALL SELECT n::text, partition FROM ledger)) q}),
		'0', "$what: the topic agrees with the table");
	$server->poll_query_until('postgres', q{SELECT bool_and(high_watermark = end_offset) FROM kafka.partitions})
	  or die 'watermarks';
	is($query->(q{SELECT count(*) FILTER (WHERE "offset" <> n - 1) FROM (SELECT "offset",
			row_number() OVER (PARTITION BY partition ORDER BY "offset") AS n FROM topics.wire) q}),
		'0', "$what: a client's records, without gaps");
	is($server->problems, '', "$what: no problem in any topic");
	return;
}

sub goes_on
{
	my ($server, $what) = @_;
	my $next = $server->safe_psql('postgres',
		q{SELECT end_offset FROM kafka.partitions WHERE topic = 'wire' AND partition = 1});
	$server->wait_for_kafka;
	$server->kcat({ in => "after\n" }, '-P', '-X', 'enable.idempotence=true', '-t', 'wire', '-p', 1);
	is($server->kcat('-C', '-t', 'wire', '-p', 1, '-o', -1, '-c', 1, '-e', '-q', '-f', '%o %s'), "$next after",
		"$what: a client goes on");
	return;
}

# ------------------------------------------------------------------------------------------
# pg_basebackup under load
# ------------------------------------------------------------------------------------------
chdir $node->basedir or die;
$node->wait_for_kafka;
start_load();
wait_for_more();
$node->backup('one', backup_options => [ '--manifest-checksums=SHA256' ]);
wait_for_more();
$node->backup('two', backup_options => [ '--wal-method=fetch', '--checkpoint=spread' ]);
stop_load();
for my $name ('one', 'two')
{
	command("pg_verifybackup of $name", 'pg_verifybackup', $node->backup_dir . "/$name");
	my $copy = KafkaPg->restored($node, $name, "copy_$name");
	$copy->start;
	check_server($copy, $name);
	goes_on($copy, $name);
	$copy->stop('fast');
	command("pg_checksums of $name", 'pg_checksums', '--check', '-D', $copy->data_dir);
}

# ------------------------------------------------------------------------------------------
# pg_rewind of the old primary after a promotion it did not hear of
# ------------------------------------------------------------------------------------------
my $standby = KafkaPg->standby($node, 'standby');
start_load();
wait_for_more();
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'promotion';
wait_for_more();			# on the old primary: this will be lost
stop_load();
sql(q{SELECT kafka.produce('sql', 'lost', 'lost', partition => 0); SELECT kafka.create_topic('lost')});
check_server($standby, 'promoted');
$standby->safe_psql('postgres', q{SELECT kafka.produce('sql', 'kept', '1', partition => 0);
	INSERT INTO ledger VALUES (1, 0)});
goes_on($standby, 'promoted');
$node->stop('fast');
$standby->safe_psql('postgres', 'CHECKPOINT');
command('pg_rewind', 'pg_rewind', '--no-sync', '--source-server=' . $standby->connstr('postgres'),
	'--target-pgdata=' . $node->data_dir);
$node->append_conf('postgresql.conf', 'port = ' . $node->port . "\nkafka_pg.port = "
	. $node->kafka_port . "\nprimary_conninfo = '" . $standby->connstr . "'\n");
append_to_file($node->data_dir . '/standby.signal', '');
$node->start;
$standby->wait_for_catchup($node);
my $sum = q{SELECT count(*), md5(string_agg(t::text, '' ORDER BY partition, "offset")) FROM topics.};
for my $topic ('sql', 'wire')
{
	my $expected = $standby->safe_psql('postgres', $sum . $topic . ' t');
	$node->poll_query_until('postgres', $sum . $topic . ' t', $expected);
	is(sql($sum . $topic . ' t'), $expected, "rewound: $topic is the new primary's");
}
is(sql(q{SELECT to_regclass('topics.lost'), count(*) FROM topics.sql WHERE key = 'lost'}), '|0',
	'rewound: nothing of the other history');
check_server($node, 'rewound');
$standby->stop('fast');
$node->promote;
$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'promotion';
goes_on($node, 'rewound and promoted');
is(sql('SELECT epoch FROM kafka.leader_epoch'), '2', 'in the third leader epoch');
check_server($node, 'at last');

KafkaPg::done();
