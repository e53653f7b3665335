# Point-in-time recovery into the middle of a load, to each kind of target: the server opens, has
# exactly what was committed before the target, and is a broker that goes on in a leader epoch of
# its own.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main', init => { has_archiving => 1 });

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{SELECT kafka.create_topic('sql', 3, '{"segment.bytes": 1048576}'); SELECT kafka.create_topic('wire', 2);
	SELECT kafka.create_topic('marks', 1); CREATE TABLE ledger (n int, partition int)});
$node->backup('base');

# The load: SQL transactions, each of which writes the same number into the ledger and into the
# topic, some of them rolled back; and a client that produces idempotently.
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
BEGIN;
SELECT kafka.produce('sql', 'rolled back', 'gone');
ROLLBACK;
SQL
chdir $node->basedir or die;
$node->wait_for_kafka;
my @load = (
	IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-T', '60', '-f', $script, $node->connstr('postgres') ],
		'>', \my $bench_out, '2>', \my $bench_err),
	IPC::Run::start(
		[ 'sh', '-c', 'while [ ! -e stop ]; do seq 1 200; sleep 0.01; done |'
			  . ' kcat -P -X enable.idempotence=true -X linger.ms=2 -t wire -b ' . $node->bootstrap ],
		'>', \my $kcat_out, '2>', \my $kcat_err));

# Marks in the middle of it
sub wait_for_more
{
	my $n = sql('SELECT count(*) FROM ledger');
	$node->poll_query_until('postgres', "SELECT count(*) > $n + 500 FROM ledger") or die 'no load';
	return;
}
my %target;
wait_for_more();
# Everything up to this transaction, which writes what it is.
$target{xid} = (split /\n/, sql(q{BEGIN; SELECT kafka.produce('marks', 'xid');
	SELECT pg_current_xact_id()::xid; COMMIT}))[1];
wait_for_more();
sql(q{SELECT kafka.produce('marks', 'name')});
$target{name} = 'here';
sql(q{SELECT pg_create_restore_point('here')});
wait_for_more();
sql(q{SELECT kafka.produce('marks', 'lsn')});
$target{lsn} = sql('SELECT pg_current_wal_insert_lsn()');
wait_for_more();
sql(q{SELECT kafka.produce('marks', 'time')});
$target{time} = sql('SELECT clock_timestamp()');
wait_for_more();
sql(q{SELECT kafka.produce('marks', 'end')});
$target{immediate} = undef;

append_to_file('stop', '');
$load[0]->signal('TERM');
eval { IPC::Run::finish($_) } for @load;
my $last = sql('SELECT pg_walfile_name(pg_switch_wal())');
$node->poll_query_until('postgres', "SELECT '$last' <= last_archived_wal FROM pg_stat_archiver") or die 'archive';
my $epoch = sql('SELECT epoch FROM kafka.leader_epoch');
my $end = sql('SELECT count(*) FROM ledger');
$node->stop('fast');

my %marks = (
	immediate => '', xid => 'xid', name => 'xid name', lsn => 'xid name lsn',
	time => 'xid name lsn time');
my $before = -1;
for my $kind ('immediate', 'xid', 'name', 'lsn', 'time')
{
	my $restored = KafkaPg->restored($node, 'base', "to_$kind", archive => 1);
	my $value =
	  $kind eq 'immediate' ? "recovery_target = 'immediate'" : "recovery_target_$kind = '$target{$kind}'";
	$restored->append_conf('postgresql.conf', "$value\nrecovery_target_action = 'promote'\n");
	$restored->start;
	$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'still in recovery';
	my $query = sub { return $restored->safe_psql('postgres', $_[0]) };

	is($query->(q{SELECT string_agg(kafka.to_text(value), ' ' ORDER BY "offset") FROM topics.marks}),
		$marks{$kind}, "$kind: what was before the target is there, and nothing else");
	my $rows = $query->('SELECT count(*) FROM ledger');
	cmp_ok($rows, '>', $before, "$kind: more than at the target before");
	cmp_ok($rows, '<', $end, "$kind: less than at the end");
	$before = $rows;
	is($query->(q{SELECT count(*) FROM (
			(SELECT n::text, partition FROM ledger
				EXCEPT ALL SELECT kafka.to_text(key), partition FROM topics.sql)
			UNION ALL
			(SELECT kafka.to_text(key), partition FROM topics.sql
				EXCEPT ALL SELECT n::text, partition FROM ledger)) q}),
		'0', "$kind: the topic agrees with the table");
	is($query->(q{SELECT count(*) FROM topics.sql WHERE key = 'gone'}), '0', "$kind: nothing rolled back");
	is($query->(q{SELECT count(*) - (SELECT sum(high_watermark) FROM kafka.partitions
			WHERE topic = 'wire') FROM topics.wire}),
		'0', "$kind: a client's records, without gaps") if $kind ne 'immediate';
	is($restored->problems, '', "$kind: no problem in any topic");

	# It goes on: in another epoch, with the next offsets, for SQL and for clients
	$restored->poll_query_until('postgres', "SELECT epoch > $epoch FROM kafka.leader_epoch") or die 'no new epoch';
	my $next = $query->(q{SELECT end_offset FROM kafka.partitions WHERE topic = 'wire' AND partition = 1});
	$restored->wait_for_kafka;
	$restored->kcat({ in => "after\n" }, '-P', '-X', 'enable.idempotence=true', '-t', 'wire', '-p', 1);
	is($restored->kcat('-C', '-t', 'wire', '-p', 1, '-o', -1, '-c', 1, '-e', '-q', '-f', '%o %s'), "$next after",
		"$kind: a client goes on");
	$query->(q{INSERT INTO topics.sql (partition, key) SELECT g % 3, 'after' FROM generate_series(1, 300) g});
	is($query->(q{SELECT count(*) FROM topics.sql WHERE key = 'after'}), '300', "$kind: SQL goes on");
	is($query->(q{SELECT min(leader_epoch) FROM kafka.partitions WHERE topic = 'sql'}), $epoch + 1,
		"$kind: in the next leader epoch");
	is($restored->problems, '', "$kind: no problem after that");
	is($query->(q{SELECT count(*) FROM (SELECT "offset" - lag("offset")
			OVER (PARTITION BY partition ORDER BY "offset") AS step FROM topics.wire) q WHERE step <> 1}), '0', "$kind: no number is given twice or left out");
	$restored->stop('fast');
}

KafkaPg::done();
