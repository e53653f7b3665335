# Consumer groups while the server is killed, in the middle of rebalances and commits: at any
# moment, exactly between two steps, and on a disk that keeps only what was fsynced. No acknowledged
# commit is lost, none goes back, and members go on with their ids and generations.
#
# CRASH_ROUNDS, POWER_CUTS and CRASH_SEED choose a longer or another run.
use strict;
use warnings;

use lib 'test/crash';

use CrashTest;
use KafkaPg;
use PowerLoss;
use Test::More;
use Time::HiRes qw(sleep time);

my $rounds = $ENV{CRASH_ROUNDS} || 6;
my $cuts = $ENV{POWER_CUTS} || 4;
my $seed = $ENV{CRASH_SEED} || int(rand 1e6);
note "CRASH_SEED=$seed";
srand $seed;

# Members only: other tests have them among producers and readers.
my $who = '^g[.]';

# Lets the members go on for a moment. Returns the number of commits that were acknowledged.
sub work
{
	my ($crash, $seconds) = @_;
	my $commits = 0;

	$crash->command('run');
	sleep $seconds;
	my %done = $crash->command('stop') =~ /^(.*): (\d+)$/mg;
	$commits += $done{$_} for grep { /^offsets / } keys %done;
	return $commits;
}

sub nothing_wrong
{
	my ($crash, $how) = @_;
	is($crash->command('check'), '', "$how: nothing lost, nobody moved");
	return;
}

my $node = KafkaPg->broker('groups', conf => "kafka_pg.brokers = 3\n");
my $crash = CrashTest->new($node, seed => $seed, only => $who);
$node->create_stop_functions;

# the first rebalance has its delay
cmp_ok(work($crash, 8), '>', 10, 'offsets are committed');
nothing_wrong($crash, 'before');

for my $round (1 .. $rounds)
{
	my $way = $round % 2 ? 'tree' : 'kafka broker';

	$crash->command('run');
	sleep 0.5 + rand;
	$way eq 'tree' ? $crash->kill_tree : $crash->kill_process($way);
	$crash->recover;
	cmp_ok(work($crash, 1.5), '>', 0, "round $round ($way): they go on");
	nothing_wrong($crash, "round $round");
}

# Rows are written and not committed; committed and not flushed.
for my $point ('group-before-commit', 'group-after-commit')
{
	for my $skip (0, 20 + int rand 50)
	{
		$crash->command('run');
		sleep 0.3;
		$crash->command("crash $point");
		$node->safe_psql('postgres', "SELECT kafka_test.stop_arm('$point', 'kill', $skip)");
		$crash->recover;
		cmp_ok(work($crash, 1), '>', 0, "killed at $point, pass $skip: they go on");
		nothing_wrong($crash, $point);
	}
}

# A broker process that ends in good order takes nobody along, nor does a server.
for my $what ('broker', 'server')
{
	$crash->command('run');
	sleep 0.5;
	if ($what eq 'broker')
	{
		$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type LIKE 'kafka broker%' LIMIT 1});
	}
	else
	{
		$node->restart;
		$crash->wait_until_serving;
	}
	cmp_ok(work($crash, 2), '>', 0, "a $what ends and is started again: they go on");
	nothing_wrong($crash, $what);
}
ok($crash->quit, 'the workload ends well');

$node = PowerLoss->broker('power', conf => "max_wal_size = 32MB\nmin_wal_size = 32MB\n");
$crash = CrashTest->new($node, seed => $seed, only => $who);
cmp_ok(work($crash, 8), '>', 10, 'offsets are committed');
for my $cut (1 .. $cuts)
{
	$crash->command('run');
	sleep 0.5 + rand;
	if ($cut % 2)
	{
		my $n = 1 + int rand 40;
		my $end = time + 2;
		my $last = $node->fsyncs + $n;

		$node->stop_disk_after($n);
		sleep 0.02 while $node->fsyncs <= $last && time < $end;
		sleep 0.2;
	}
	$crash->kill_tree;
	$node->restore;
	$crash->recover;
	cmp_ok(work($crash, 1.5), '>', 0, "cut $cut: they go on");
	nothing_wrong($crash, "cut $cut");
}
$crash->quit;
KafkaPg::done();
