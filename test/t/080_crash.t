# Durability: producers, SQL sessions and readers work on while the server is killed again and
# again, in every way. Nothing that was acknowledged, or that anybody has read, may be lost or
# changed.
#
# CRASH_ROUNDS and CRASH_SEED choose a longer or another run, CRASH_VERBOSE shows each round; see
# test/crash/run.
use strict;
use warnings;

use lib 'test/crash';

use CrashTest;
use KafkaPg;
use Test::More;
use Time::HiRes qw(sleep);

my $rounds = $ENV{CRASH_ROUNDS} || 30;
my $seed = $ENV{CRASH_SEED} || int(rand 1e6);
diag "CRASH_SEED=$seed CRASH_ROUNDS=$rounds";
srand $seed;

sub show { return $ENV{CRASH_VERBOSE} ? diag(@_) : note(@_); }

my $node = KafkaPg->broker('crash', conf => "kafka_pg.brokers = 2\n");
my $crash = CrashTest->new($node, seed => $seed);

# How each round ends; the rest of them by chance.
my @ways = ('tree', 'kafka broker', 'client backend', 'kafka flusher', 'kafka keeper', 'twice');

# Rounds with checkpoints in the middle, and without any.
my @checkpoints = (
	"max_wal_size = 32MB\nmin_wal_size = 32MB\ncheckpoint_timeout = 30s\n",
	"max_wal_size = 1GB\nmin_wal_size = 80MB\ncheckpoint_timeout = 5min\n");

my (%total, %killed);
for my $round (1 .. $rounds)
{
	my $way = $round <= @ways ? $ways[ $round - 1 ] : CrashTest::random_of(@ways);

	$node->append_conf('postgresql.conf', CrashTest::random_of(@checkpoints));
	$node->reload;
	$crash->command('run');
	sleep 0.5 + rand 1.5;
	$node->psql('postgres', 'CHECKPOINT') if rand() < 0.2;
	my $n = $way =~ /tree|twice/ ? $crash->kill_tree : $crash->kill_process($way);
	my $seconds = $crash->recover($way eq 'twice' ? (again => rand 0.1) : ());
	$killed{$way}++ if $n;
	sleep 0.3 + rand 0.5;

	my %done = $crash->command('stop') =~ /^(.*): (\d+)$/mg;
	my ($acked, $committed, $seen) = map { my $what = $_; my $sum = 0;
		$sum += $done{$_} for grep { /^$what / } keys %done; $sum } qw(acked committed seen);
	$total{$_} += $done{$_} for keys %done;
	show(sprintf 'round %d: %s, %d killed, back after %.1f s; %d acknowledged, %d committed, %d seen',
		$round, $way, $n, $seconds, $acked, $committed, $seen);
	ok($n && $acked && $committed && $seen, "round $round ($way): a crash, and work done");
	is($crash->command('check'), '', "round $round: nothing lost, nothing wrong");
	is($node->problems, '', "round $round: no problem in any topic");
}

show(join "\n", map { "$_: $total{$_}" } sort keys %total);
show($crash->command('tell'));
ok($total{$_}, "there were $_ in all") for grep { !/^failed|^unknown/ } sort keys %total;
is(scalar(keys %killed), $rounds < @ways ? $rounds : @ways, 'there were crashes of each kind');
is($crash->command('final'), '', 'all of it, on the wire and in SQL: nothing lost, nothing wrong');

# The same with another client, and sizes only
my $wire = join '', sort split /^/, join '', map {
	$node->kcat('-C', '-t', $_, '-o', 'beginning', '-e', '-q', '-f', "$_ %p %o %S\\n") }
  qw(crash_a crash_b crash_c);
my $sql = join '', sort split /^/, join '', map {
	$node->safe_psql('postgres', qq{SELECT '$_', partition, "offset", length(value) FROM topics.$_})
	  =~ tr/|/ /r . "\n" } qw(crash_a crash_b crash_c);
ok($wire eq $sql, 'kcat reads what SQL reads');

ok($crash->quit, 'the workload ends well');
KafkaPg::done();
