# Exactly once: workers move records from a topic into a table with a unique key, and into another
# topic, while sessions end, processes are killed and the server crashes. Each record is there once.
#
# CRASH_ROUNDS and CRASH_SEED choose a longer or another run.
use strict;
use warnings;

use IPC::Run ();
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $rounds = $ENV{CRASH_ROUNDS} || 12;
my $seed = $ENV{CRASH_SEED} || int(rand 1e6);
my $workers = 4;
diag "CRASH_SEED=$seed CRASH_ROUNDS=$rounds";
srand $seed;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 1\n");
$node->expect_crashes;
$node->safe_psql('postgres', <<'SQL');
SELECT kafka.create_topic('moved', 4), kafka.create_topic('next', 2);
CREATE TABLE moved (partition int, "offset" bigint, value text, PRIMARY KEY (partition, "offset"));
SQL

my ($in, $out, $err) = ('', '', '');
my $timer = IPC::Run::timeout(3 * $PostgreSQL::Test::Utils::timeout_default);
local %ENV = $node->_get_env(CRASH_SEED => $seed);
my $movers = IPC::Run::start([ 'test/crash/movers', 'moved', 'movers', 'moved', $workers, 'next' ],
	'<', \$in, '>', \$out, '2>', \$err, $timer);

# A session of the movers, or any process of a kind.
sub pids_of
{
	my ($condition) = @_;
	my ($code, $rows) =
		$node->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $condition ORDER BY random()");
	return split /\n/, $rows;
}

my $moved = 0;
for my $round (1 .. $rounds)
{
	sleep 0.5 + rand 1;
	my $way = ('session', 'backend', 'server', 'walwriter')[ ($round - 1) % 4 ];

	if ($way eq 'session')
	{
		my @pids = pids_of("backend_type = 'client backend' AND pid <> pg_backend_pid()");
		$node->psql('postgres', 'SELECT pg_terminate_backend(' . $_ . ')') for @pids[ 0 .. 2 ];
	}
	elsif ($way eq 'server')
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		my ($pid) = pids_of($way eq 'walwriter' ? "backend_type = 'walwriter'" :
				"backend_type = 'client backend' AND pid <> pg_backend_pid()");
		$node->crash(sub { kill 'KILL', $pid });
	}
	$node->wait_for_kafka;
	my $before = $moved;
	$node->poll_query_until('postgres', "SELECT count(*) > $before FROM moved");
	$moved = $node->safe_psql('postgres', 'SELECT count(*) FROM moved');
	cmp_ok($moved, '>', $before, "round $round, $way: it goes on");
}

$in .= "end\n";
IPC::Run::finish($movers);
note($out);
is($err, '', 'the movers say nothing else');
my %done = $out =~ /^(.*): (\d+)$/mg;
is(join("\n", grep { /^wrong/ } sort keys %done), '', 'nothing went wrong');
ok($done{$_}, "$_ did something") for 'produced', 'given back', 'lost', map { "w$_" } 0 .. $workers - 1;
is($node->safe_psql('postgres', <<'SQL'), '0|0', 'each record is there once, and nothing else');
SELECT (SELECT count(*) FROM (SELECT partition, "offset", kafka.to_text(value) FROM topics.moved
                              EXCEPT ALL SELECT partition, "offset", value FROM moved) x),
       (SELECT count(*) FROM (SELECT partition, "offset", value FROM moved
                              EXCEPT ALL SELECT partition, "offset", kafka.to_text(value) FROM topics.moved) x)
SQL
is($node->safe_psql('postgres', <<'SQL'), '0|0', 'and so it is in the next topic');
SELECT (SELECT count(*) FROM (SELECT value FROM topics.moved
                              EXCEPT ALL SELECT value FROM topics.next) x),
       (SELECT count(*) FROM (SELECT value FROM topics.next
                              EXCEPT ALL SELECT value FROM topics.moved) x)
SQL
is($node->safe_psql('postgres', q{SELECT sum(lag) FROM kafka.group_lag WHERE group_id = 'movers'}),
	'0', 'nothing is left');
KafkaPg::done();
