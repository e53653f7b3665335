# Topics as tables, beyond what one session can see: dump and restore, commits that are stopped or
# killed between append and commit, DDL while others produce, other databases, a standby.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main', conf => "allow_in_place_tablespaces = on\n");
$node->create_stop_functions;

# All of a topic, whole and in short
sub records
{
	my ($server, $topic) = @_;
	return $server->safe_psql('postgres', qq{SELECT * FROM topics."$topic" ORDER BY partition, "offset"});
}

sub rows
{
	my ($topic) = @_;
	return $node->safe_psql('postgres',
		qq{SELECT partition, "offset", kafka.to_text(key) FROM topics."$topic" ORDER BY 1, 2});
}

# Until it has recovered. (poll_query_until dies when psql does not wait for its input.)
sub wait_for_server
{
	for (1 .. 600)
	{
		return if run_log([ 'pg_isready', '-q', '-d', $node->connstr('postgres') ]);
		select(undef, undef, undef, 0.1);
	}
	die 'the server does not come back';
}

# ------------------------------------------------------------------------------------------
# Dump and restore: the same records at the same offsets, in whatever order things come back
# ------------------------------------------------------------------------------------------

$node->safe_psql('postgres', <<'SQL');
SELECT kafka.create_topic('orders.v1', 3, '{"compression.type": "lz4"}');
INSERT INTO topics."orders.v1" (key, value, headers, "timestamp")
  SELECT CASE WHEN g % 5 > 0 THEN g::text::bytea END,
         CASE WHEN g % 7 > 0 THEN convert_to(repeat(chr(g % 1000 + 32), g % 300), 'UTF8') END,
         (SELECT array_agg(kafka.header('h' || h || chr(g % 1000 + 32), CASE WHEN h % 2 = 0 THEN h::text::bytea END))
            FROM generate_series(1, g % 4) h),
         timestamptz '2024-01-01Z' - g * interval '1 h 1 ms'
    FROM generate_series(1, 5000) g;
SELECT kafka.create_topic('gaps', 2);
INSERT INTO topics.gaps (partition, "offset", key, "timestamp") VALUES
  (0, 1000000000000, 'far', NULL), (0, 1000000000007, 'gap', 'infinity'), (1, 3, NULL, '-infinity');
BEGIN;
INSERT INTO topics.gaps (partition, "offset", key) VALUES (1, 5, 'gone');
ROLLBACK;
INSERT INTO topics.gaps (partition, key) VALUES (1, 'end');
SELECT kafka.create_topic('empty', 5);
SQL
my @topics = ('orders.v1', 'gaps', 'empty');
my %expected = map { $_ => records($node, $_) } @topics;
is(scalar(split /\n/, $expected{'orders.v1'}), 5000, 'records to be dumped');
is($expected{gaps},
	"0|1000000000000||\\x666172||{}\n0|1000000000007|infinity|\\x676170||{}\n"
	  . '1|3|-infinity|||{}' . "\n" . (split /\n/, $expected{gaps})[3],
	'offsets with gaps');

my $dir = $node->basedir;
$node->PostgreSQL::Test::Cluster::command_ok(
	[ 'pg_dump', '-Fd', '-f', "$dir/dump", '-N', 'kafka_test', 'postgres' ], 'pg_dump');
$node->PostgreSQL::Test::Cluster::command_ok(
	[ 'pg_dump', '-f', "$dir/dump.sql", '-N', 'kafka_test', 'postgres' ], 'pg_dump as SQL');
# Topics are served in one database of a server: another server takes them.
my $target = KafkaPg->broker('target', extension => 0);
for my $how ('', '--single-transaction', '--jobs=2', 'sql')
{
	my $name = 'restored ' . ($how || 'plainly');
	my @command =
	  $how eq 'sql'
	  ? ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", 'postgres')
	  : ('pg_restore', '--exit-on-error', ($how || ()), '-d', 'postgres', "$dir/dump");

	$target->PostgreSQL::Test::Cluster::command_ok(\@command, $name);
	is(records($target, $_), $expected{$_}, "$name: $_") for @topics;
	is( $target->safe_psql('postgres', q{
			INSERT INTO topics.gaps (partition, key) VALUES (0, 'next'), (1, 'next');
			SELECT partition, "offset" FROM topics.gaps WHERE key = 'next' ORDER BY 1}),
		"0|1000000000008\n1|7", "$name: numbering goes on");
	is($target->problems, '', "$name: no problem in any topic")
	  if $target->safe_psql('postgres', q{SELECT to_regprocedure('kafka.check_topic(regclass)')});
	$target->safe_psql('postgres', 'DROP EXTENSION kafka_pg CASCADE');
}

# A dump sees the topics as of its beginning, while others produce
{
	my $session = $node->background_psql('postgres');
	$session->query_safe(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM topics."orders.v1"});
	$node->safe_psql('postgres', q{INSERT INTO topics."orders.v1" (key) VALUES ('later')});
	is($session->query_safe(q{SELECT count(*) FROM topics."orders.v1"}), '5000', 'a snapshot stays');
	$session->query_safe('COMMIT');
	is($session->query_safe(q{SELECT count(*) FROM topics."orders.v1"}), '5001', 'and ends');
	$session->quit;
}

# ------------------------------------------------------------------------------------------
# What SQL has no exact word for, from a Kafka client
# ------------------------------------------------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka.create_topic('odd')});
$node->kcat({ in => "\0\xff\n" }, '-P', '-t', 'odd', '-k', "k\xfe",
	'-H', "\xff\xfeab\\=x", '-H', "ok\\=\xfe", '-H', 'ok', '-H', "\xc3\xa4=");
is( $node->safe_psql('postgres', q{SELECT "offset", t.key, t.value, h.key, h.value
		FROM topics.odd t, unnest(headers) WITH ORDINALITY h ORDER BY ordinality}),
	join("\n",
		'0|\x6bfe|\x00ff|\xff\xfeab\\\\|\x78', '0|\x6bfe|\x00ff|ok\\|\xfe',
		'0|\x6bfe|\x00ff|ok|', "0|\\x6bfe|\\x00ff|\xc3\xa4|\\x"),
	'header keys that are not text are shown escaped, others as they are');
$node->safe_psql('postgres', q{SELECT kafka.produce('odd', 'from SQL', 'k',
	ARRAY[kafka.header('ä', 'ö'), kafka.header('n', NULL)], 0, '2024-01-01 00:00:00.001Z')});
is($node->kcat('-C', '-t', 'odd', '-o', '1', '-e', '-q', '-f', '%o %k %s %T %h\n'),
	"1 k from SQL 1704067200001 \xc3\xa4=\xc3\xb6,n=NULL\n", 'and the other way round');

# ------------------------------------------------------------------------------------------
# Between append and commit
# ------------------------------------------------------------------------------------------

$node->safe_psql('postgres', q{SELECT kafka.create_topic('t', 2)});

sub produce
{
	my ($key, $partition) = (@_, 0);
	return "INSERT INTO topics.t (partition, key) VALUES ($partition, '$key')";
}

{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('ktable-after-append')});
	$session->query_until(qr/go/, "\\echo go\n" . produce('one') . ";\n");
	ok($node->safe_psql('postgres', q{SELECT kafka_test.stop_await('ktable-after-append')}), 'a commit is stopped');
	is(rows('t'), '', 'what it has appended is not seen');

	$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('ktable-after-append', 'wait', 1000)});
	$node->safe_psql('postgres', produce('two') . ';' . produce('two', 1));
	is(rows('t'), '1|0|two', 'nor what follows it in its partition');
	$node->safe_psql('postgres', q{SELECT kafka_test.stop_release('ktable-after-append')});
	$session->query_safe('SELECT 1');
	is(rows('t'), "0|0|one\n0|1|two\n1|0|two", 'until it is committed');
	$session->quit;
}

# killed there, when its WAL is flushed: the whole server goes through a crash
$node->expect_crashes;
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('ktable-after-append')});
	$session->query_until(qr/go/, "\\echo go\n" . produce('killed') . ";\n");
	$node->safe_psql('postgres', q{SELECT kafka_test.stop_await('ktable-after-append')});
	$node->safe_psql('postgres', 'CREATE TABLE flushes ()');
	kill 'KILL', $pid;
	eval { $session->quit };
}
wait_for_server();
is(rows('t'), "0|0|one\n0|1|two\n1|0|two", 'killed between append and commit: its record is not there');
$node->safe_psql('postgres', produce('after'));
is(rows('t'), "0|0|one\n0|1|two\n0|3|after\n1|0|two", 'its offset is not given again');

# an immediate shutdown with an open transaction that has written rows with offsets
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe(q{BEGIN; INSERT INTO topics.t (partition, "offset", key) VALUES (1, 10, 'open')});
	$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
	$node->stop('immediate');
	eval { $session->quit };
	$node->start;
}
is(rows('t'), "0|0|one\n0|1|two\n0|3|after\n1|0|two", 'an open transaction is forgotten');
$node->safe_psql('postgres', produce('after', 1));
is(rows('t'), "0|0|one\n0|1|two\n0|3|after\n1|0|two\n1|11|after", 'its offsets are not');
$node->safe_psql('postgres', 'VACUUM topics.t');
is(rows('t'), "0|0|one\n0|1|two\n0|3|after\n1|0|two\n1|11|after", 'nor after VACUUM');

# ------------------------------------------------------------------------------------------
# DDL while others produce and read
# ------------------------------------------------------------------------------------------

$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION ''");
$node->safe_psql('postgres', q{SELECT kafka.create_topic('busy', 4); CREATE TABLE done (n int)});
my $script = "$dir/busy.sql";
append_to_file($script, <<'SQL');
BEGIN;
INSERT INTO topics.busy (key) SELECT random()::text::bytea FROM generate_series(1, 5);
INSERT INTO done VALUES (5);
COMMIT;
SELECT count(*) FROM topics.busy WHERE partition = 1;
SQL
my $bench = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '4', '-t', '200', '-f', $script, $node->connstr('postgres') ],
	'>', \my $bench_out, '2>', \my $bench_err);
for my $i (1 .. 5)
{
	$node->safe_psql('postgres', 'ALTER TABLE topics.busy SET TABLESPACE ' . ($i % 2 ? 'elsewhere' : 'pg_default'));
	$node->safe_psql('postgres', 'VACUUM ANALYZE topics.busy');
	$node->safe_psql('postgres', q{BEGIN; ALTER TABLE topics.busy SET TABLESPACE pg_default;
		INSERT INTO topics.busy (key) VALUES ('gone'); ROLLBACK});
}
ok(IPC::Run::finish($bench), 'sessions produce while the table moves') or diag $bench_err;
is( $node->safe_psql('postgres', q{
		SELECT sum(n) = (SELECT count(*) FROM topics.busy),
		       sum(n) = (SELECT count(DISTINCT (partition, "offset")) FROM topics.busy) FROM done}),
	't|t', 'all that was committed is there, once');

# ------------------------------------------------------------------------------------------
# Created, used and dropped over and over, while the same happens to other topics
# ------------------------------------------------------------------------------------------

for my $i (1 .. 20)
{
	$node->safe_psql('postgres', qq{SELECT kafka.create_topic('short', 3);
		INSERT INTO topics.short (partition, key) SELECT g % 3, '$i' FROM generate_series(1, 10) g;
		BEGIN; INSERT INTO topics.short (key) VALUES ('x'); SELECT kafka.drop_topic('short'); COMMIT;});
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'short'}), '0', 'nothing is left');

KafkaPg::done();
