# Power loss: the server is killed, and its files become what a disk would have that keeps only what
# was fsynced. Nothing that was acknowledged, or that anybody has read, may be lost. With
# fsync = off it must be: else this test could not fail.
#
# POWER_CUTS and CRASH_SEED choose a longer or another run.
use strict;
use warnings;

use lib 'test/crash';

use CrashTest;
use KafkaPg;
use PowerLoss;
use Test::More;
use Time::HiRes qw(sleep time);

my $cuts = $ENV{POWER_CUTS} || 20;
my $seed = $ENV{CRASH_SEED} || int(rand 1e6);
note "CRASH_SEED=$seed POWER_CUTS=$cuts";
srand $seed;

# As many cuts as one server sees: its files grow, and every fsync copies a whole one.
my $cuts_of_server = 20;

# Lets the load run for a moment and cuts the power. Returns how.
sub cut_power
{
	my ($node, $crash, $cut) = @_;
	my $way = 'at a random moment';

	$crash->command('run');
	sleep 0.4 + rand 0.8;
	if ($cut % 2)
	{
		# exactly after some fsync: of WAL, or of a data file in a checkpoint
		$node->psql('postgres', 'CHECKPOINT', timeout => 5, timed_out => \my $late) if $cut % 4 == 1;
		my $n = 1 + int rand 40;
		my $last = $node->fsyncs + $n;
		$node->stop_disk_after($n);
		$way = "after $n more fsyncs";
		my $end = time + 2;
		sleep 0.02 while $node->fsyncs <= $last && time < $end;
		sleep 0.3;
	}
	$crash->kill_tree > 1 or die 'there was nothing to kill';
	$node->restore;
	return $way;
}

my ($node, $crash);
my ($acked, $committed, $fsyncs) = (0, 0, 0);

for my $cut (1 .. $cuts)
{
	if ($cut % $cuts_of_server == 1)
	{
		my $server = 'power' . (1 + int($cut / $cuts_of_server));
		$node = PowerLoss->broker($server,
			conf => "max_wal_size = 32MB\nmin_wal_size = 4MB\ncheckpoint_timeout = 30s\n");
		$crash = CrashTest->new($node, seed => $seed + $cut - 1);
	}
	my $way = cut_power($node, $crash, $cut);
	$crash->recover;
	my %done = $crash->command('stop') =~ /^(.*): (\d+)$/mg;
	my ($records, $transactions) = (0, 0);
	$records += $done{$_} for grep { /^acked / } keys %done;
	$transactions += $done{$_} for grep { /^committed / } keys %done;
	$acked += $records;
	$committed += $transactions;
	is($crash->command('check'), '',
		"cut $cut ($way; $records records, $transactions transactions): nothing lost, nothing wrong");
	is($node->problems, '', "cut $cut: no problem in any topic");
	if ($cut % $cuts_of_server == 0 || $cut == $cuts)
	{
		$fsyncs += $node->fsyncs;
		is($crash->command('final'), '', $node->name . ': all of it: nothing lost, nothing wrong');
		if ($cut < $cuts)
		{
			ok($crash->quit, $node->name . ': the workload ends well');
			$node->scrap;
		}
	}
}
cmp_ok($acked, '>', 100 * $cuts / 2, 'records were acknowledged');
cmp_ok($committed, '>', 10 * $cuts / 2, 'transactions were committed');
diag "$cuts cuts, $fsyncs fsyncs, $acked records acknowledged, $committed transactions committed"
  if $ENV{CRASH_VERBOSE};

# The control: the same without fsync, on a disk that has what a clean shutdown has left on it.
$node->stop('fast');
$node->append_conf('postgresql.conf', "fsync = off\nmax_wal_size = 1GB\ncheckpoint_timeout = 1h");
$node->start;
$crash->wait_until_serving;
$crash->command('run');
sleep 3;
$crash->kill_tree;
$node->restore;
$node->start;
$crash->wait_until_serving;
$crash->command('up');
$crash->command('stop');
my $problems = $crash->command('check');
like($problems, qr/^lost: \d+$/m, 'without fsync acknowledged records are lost, and it is noticed');
like($problems, qr/acknowledged at crash_/, 'of clients');
note $problems;

$crash->quit;
KafkaPg::done();
