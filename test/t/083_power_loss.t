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

my $node = PowerLoss::broker('power',
	conf => "max_wal_size = 32MB\nmin_wal_size = 4MB\ncheckpoint_timeout = 30s\n");
my $crash = CrashTest->new($node, seed => $seed);
my $acked = 0;

for my $cut (1 .. $cuts)
{
	$crash->command('run');
	sleep 0.4 + rand 0.8;
	my $way = 'at a random moment';
	if ($cut % 2)
	{
		# exactly after some fsync: of WAL, or of a data file in a checkpoint
		$node->psql('postgres', 'CHECKPOINT', timeout => 5) if $cut % 4 == 1;
		my $n = 1 + int rand 40;
		my $last = PowerLoss::fsyncs() + $n;
		PowerLoss::stop_disk_after($n);
		$way = "after $n more fsyncs";
		my $end = time + 2;
		sleep 0.02 while PowerLoss::fsyncs() <= $last && time < $end;
		sleep 0.3;
	}
	my $killed = $crash->kill_tree;
	PowerLoss::restore($node);
	$crash->recover;
	my %done = $crash->command('stop') =~ /^(.*): (\d+)$/mg;
	my $n = 0;
	$n += $done{$_} for grep { /^acked / } keys %done;
	$acked += $n;
	ok($killed, "cut $cut ($way): $n acknowledged");
	is($crash->command('check'), '', "cut $cut: nothing lost, nothing wrong");
	is($node->problems, '', "cut $cut: no problem in any topic");
}
cmp_ok($acked, '>', 100 * $cuts / 2, 'records were acknowledged');
is($crash->command('final'), '', 'all of it: nothing lost, nothing wrong');

is($node->crashes, '', 'and no crash but those on purpose');

# The control
$node->append_conf('postgresql.conf', "fsync = off\nsynchronous_commit = on");
$node->restart;
$crash->command('run');
sleep 3;
$crash->kill_tree;
PowerLoss::restore($node);
my $lost = eval { $crash->recover; $crash->command('stop'); $crash->command('check') } // 'no recovery';
like($lost, qr/lost|gone|no recovery/, 'without fsync acknowledged records are lost, and it is noticed');

# what is left of that server is nobody's business, its log neither
eval { $crash->quit };
$node->stop('immediate', fail_ok => 1);
unlink $node->logfile;
KafkaPg::done();
