# The server is killed exactly where it hurts: before and after each kind of WAL record, between the
# parts of a long batch. First by one statement whose result is known, then under load.
use strict;
use warnings;

use lib 'test/crash';

use CrashTest;
use IPC::Run ();
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

# What is written survives the death of processes without being synced.
my $node = KafkaPg->broker('points', conf => "fsync = off\n");
my $crash = CrashTest->new($node, seed => 3);
$node->create_stop_functions;

sub count { return $node->safe_psql('postgres', 'SELECT count(*) FROM topics.one'); }

# Each: stop point, passes before it strikes, statement, whether its records are there afterwards
# (undef: another process dies, so either is right).
my $small = q{INSERT INTO topics.one (value) SELECT '\x61' FROM generate_series(1, 3)};
my $medium = q{INSERT INTO topics.one (value) SELECT decode(repeat(md5(g::text), 500), 'hex') FROM generate_series(1, 60) g};
my $long = q{INSERT INTO topics.one (value) SELECT string_agg(sha512(g::text::bytea), '') FROM generate_series(1, 14000) g};

my @cases = (
	[ 'klog-append-before-insert', 0, $small, 0 ],
	[ 'klog-append-after-insert', 0, $small, 0 ],
	[ 'klog-append-before-insert', 0, $long, 0 ],
	[ 'klog-append-after-insert', 0, $long, 0 ],
	[ 'klog-append-long-page', 0, $long, 0 ],
	[ 'klog-append-long-page', 2, $long, 0 ],
	[ 'klog-append-after-insert', 1, $medium, 0 ],
	[ 'klog-segment-before-insert', 0, $medium, 0 ],
	[ 'klog-segment-after-insert', 0, $medium, 0 ],
	[ 'klog-extent-before-insert', 0, $long, 0 ],
	[ 'klog-extent-after-insert', 0, $long, 0 ],
	[ 'klog-resolve-before-insert', 0, $small, 1 ],
	[ 'ktable-before-append', 0, $small, 0 ],
	[ 'ktable-after-append', 0, $small, 0 ]);

$node->safe_psql('postgres', q{SELECT kafka.create_topic('one', 1, '{"segment.bytes": 1048576}')});
for my $case (@cases)
{
	my ($point, $skip, $sql, $there) = @$case;

	# Twice: the last WAL records are lost with the process, or all are on disk before the crash.
	for my $durable (0, 1)
	{
		my $label = "$point, pass " . ($skip + 1) . ($durable ? ', flushed' : '');

		# Something to crash into, some of it dead
		$node->safe_psql('postgres', $small);
		$node->safe_psql('postgres', "SELECT kafka_test.stop_arm('ktable-after-append', 'error')");
		my ($failed) = $node->psql('postgres', $small);
		$node->safe_psql('postgres', "SELECT kafka_test.stop_release('ktable-after-append')");
		isnt($failed, 0, "$label: a transaction fails after its append");
		# Fill the segment so that the statement needs another.
		$node->safe_psql('postgres', $long) if $point =~ /segment/;
		my $before = count();
		my $n = $sql eq $small ? 3 : $sql eq $medium ? 60 : 1;

		# The keeper is to be done with what came before.
		sleep 0.2;
		$crash->command("crash $point");
		if ($durable)
		{
			$node->safe_psql('postgres', "SELECT kafka_test.stop_arm('$point', 'wait', $skip)");
			my $session = IPC::Run::start(
				[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $sql ], '>&', \my $out);
			is($node->safe_psql('postgres', "SELECT kafka_test.stop_await('$point')"), 't', "$label: reached");
			$node->safe_psql('postgres', 'CREATE TABLE flushed (); DROP TABLE flushed');
			$crash->kill_tree_now;
			$session->finish;
		}
		else
		{
			$node->safe_psql('postgres', "SELECT kafka_test.stop_arm('$point', 'kill', $skip)");
			my ($code) = $node->psql('postgres', $sql);
			isnt($code, 0, "$label: the session dies") if !$there;
		}
		$crash->recover;
		is(count(), $before + ($there ? $n : 0),
			"$label: the records are " . ($there ? '' : 'not ') . 'there');
		is($node->problems, '', "$label: no problem in any topic");
		is($node->safe_psql('postgres', "$sql; SELECT count(*) FROM topics.one"),
			$before + ($there ? $n : 0) + $n, "$label: and the topic goes on");
		is($node->safe_psql('postgres', <<'SQL'), 't', "$label: its records are whole");
SELECT bool_and(length(value) IN (1, 8000, 896000)) FROM topics.one
SQL
	}
}

# Under load: whoever comes by first
for my $case (
	[ 'klog-append-before-insert', 40 ], [ 'klog-append-after-insert', 40 ],
	[ 'klog-append-long-page', 1 ], [ 'klog-segment-before-insert', 0 ],
	[ 'klog-segment-after-insert', 0 ], [ 'klog-extent-before-insert', 1 ],
	[ 'klog-extent-after-insert', 1 ], [ 'klog-resolve-before-insert', 10 ])
{
	my ($point, $skip) = @$case;

	$crash->command('run');
	sleep 0.5;
	$crash->command("crash $point");
	$node->safe_psql('postgres', "SELECT kafka_test.stop_arm('$point', 'kill', $skip)");
	$crash->recover;
	sleep 0.5;
	my %done = $crash->command('stop') =~ /^(.*): (\d+)$/mg;
	ok($done{'committed s.insert'} && $done{'acked idem-zstd'} && $done{'seen r.all'},
		"$point under load: work was done");
	is($crash->command('check'), '', "$point under load: nothing lost, nothing wrong");
	is($node->problems, '', "$point under load: no problem in any topic");
}
# Records that are durable, but whose answers are lost: brokers stop behind the WAL record,
# something else flushes it, then all is killed. A producer that retries sends them again; one with
# idempotence must not have them twice, though the server that it asks has just started. Whose
# batches the brokers stand behind is chance: so it goes on until one was of the first kind.
my %found;
for my $round (1 .. 12)
{
	last if $round > 4 && $found{copies} > 0;

	$crash->command('run');
	sleep 0.5;
	$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('klog-append-after-insert')});
	ok($node->safe_psql('postgres', q{SELECT kafka_test.stop_await('klog-append-after-insert', 2)}) eq 't',
		"answers lost, round $round: brokers stand behind their records");
	sleep 0.2;
	$node->safe_psql('postgres', 'CREATE TEMPORARY TABLE t (); SELECT pg_switch_wal()');
	$crash->kill_tree;
	$crash->recover;
	sleep 0.5;
	$crash->command('stop');
	is($crash->command('check'), '', "answers lost, round $round: nothing lost, nothing wrong");
	%found = $crash->command('tell') =~ /^(.*): (\d+)$/mg;
}
note join ', ', map { "$_: $found{$_}" } sort keys %found;
cmp_ok($found{copies}, '>', 0, 'producers without idempotence did send records again');
cmp_ok($found{'offsets without record'}, '>', 0, 'crashes left dead batches behind');

is($crash->command('final'), '', 'all of it, on the wire and in SQL: nothing lost, nothing wrong');
ok($crash->quit, 'the workload ends well');
KafkaPg::done();
