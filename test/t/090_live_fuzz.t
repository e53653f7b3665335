# Mutated requests at full speed against a live server, beside a client that behaves: nothing
# crashes, nothing is left over, memory is bounded, and the other client loses nothing and is never
# left without an answer.
#
# KAFKA_PG_LIVE_SECONDS says for how long (test/fuzz/live SECONDS [SEED]).
use strict;
use warnings;

use Cwd 'abs_path';
use File::Basename;
use IO::Select;
use IO::Socket::INET;
use IPC::Run ();
use KafkaPg;
use List::Util 'max';
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $seconds = $ENV{KAFKA_PG_LIVE_SECONDS} || 20;
my $seed = $ENV{KAFKA_PG_LIVE_SEED} || 1;
my $connections = 64;
my $top = abs_path(dirname(__FILE__) . '/../..');
my $fuzz = "$top/test/fuzz";
my $timeout = $PostgreSQL::Test::Utils::timeout_default;

# What brokers may use: the budget of requests and answers, and this on top, in each process: caches
# of catalogs and topics, codecs, one decoded request, and what malloc() keeps for the next time.
my $budget_mb = 32;
my $extra_mb = 96;
# What a round may leave behind in a process that no round before it did. malloc() does not always
# give back what lies between other things, so one round may leave more than the one before; what
# leaks is left by each.
my $growth_mb = 16;
my $rounds = 5;

my $node = KafkaPg->broker('main', conf => <<CONF);
kafka_pg.max_inflight_bytes = ${budget_mb}MB
kafka_pg.auto_create_topics = off
CONF

# The fire may do everything to its own topics, and only write to and read from others: a request
# that deletes one of those that are looked at in the end does come together now and then.
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE fuzz LOGIN;
GRANT CREATE, USAGE ON SCHEMA topics TO fuzz;
SET ROLE fuzz;
SELECT kafka.create_topic('fuzz-own');
RESET ROLE;
SELECT kafka.create_topic('fuzz-a', 2);
SELECT kafka.create_topic('fuzz-b');
SELECT kafka.create_topic('fuzz-compact', 1, '{"cleanup.policy": "compact"}');
SELECT kafka.create_topic('fuzz-zstd', 1, '{"compression.type": "zstd"}');
SELECT kafka.create_topic('bystander');
GRANT SELECT, INSERT ON topics."fuzz-a", topics."fuzz-b", topics."fuzz-compact",
	topics."fuzz-zstd", topics.bystander TO fuzz;
SQL

sub reload_with
{
	my ($conf) = @_;
	$node->append_conf('postgresql.conf', $conf);
	$node->reload;
	sleep 1;
	return;
}

# The lasting processes: "pid name"; kafka ddl comes and goes with its work.
sub workers
{
	return $node->safe_psql('postgres', <<'SQL');
SELECT pid, backend_type FROM pg_stat_activity
 WHERE backend_type LIKE 'kafka %' AND backend_type <> 'kafka ddl' ORDER BY 2
SQL
}

sub broker_pids
{
	return map { /^(\d+)\|kafka broker/ } split /\n/, workers();
}

# The private memory of the hungriest broker, in MB.
sub memory
{
	my $most = 0;
	for my $pid (@_)
	{
		my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m;
		$most = $kb / 1024 if $kb / 1024 > $most;
	}
	return $most;
}

# The connections of others than the bystander, which may have more or fewer itself.
sub strangers
{
	return $node->safe_psql('postgres', <<'SQL');
SELECT * FROM kafka.stat_connection WHERE client_id IS DISTINCT FROM 'bystander'
SQL
}

$node->wait_for_kafka;

# -------------------------------------------------------------------------------------------
# What is mutated
# -------------------------------------------------------------------------------------------
my $proxy = PostgreSQL::Test::Cluster::get_free_port();
my $requests = $node->basedir . '/requests';

reload_with("kafka_pg.advertised_listeners = '127.0.0.1:$proxy'\n");
my $made = $node->python("-B", "$fuzz/live_requests.py", '--record', $proxy, $requests,
	qw(fuzz-a fuzz-b fuzz-compact fuzz-zstd fuzz-own));
like($made, qr/^\d{3,} made, \d{2,} recorded$/, 'requests to start from');
note($made);
my $user = getpwuid($<);
reload_with("kafka_pg.advertised_listeners = ''\nkafka_pg.anonymous_role = fuzz\n");

# -------------------------------------------------------------------------------------------
# The bystander, at first alone
# -------------------------------------------------------------------------------------------
my ($say, $heard, $complaint) = ('', '', '');
local $ENV{KAFKA_BOOTSTRAP} = $node->bootstrap;
my $bystander = IPC::Run::start(
	[ '/usr/bin/python3', '-B', "$fuzz/bystander.py", 'bystander' ],
	'<', \$say, '>', \$heard, '2>', \$complaint, IPC::Run::timeout($seconds + 3 * $timeout));
$bystander->pump until $heard =~ /ready/;

sub pass_time
{
	my ($s, $watch) = @_;
	my $end = time + $s;
	while (time < $end)
	{
		$watch->() if $watch;
		sleep 0.2;
		$bystander->pump_nb;
	}
	return;
}

pass_time(5);
my $workers = workers();
my @pids = broker_pids();
my @memory = (memory(@pids));

# -------------------------------------------------------------------------------------------
# Two rounds of the same, and more while each leaves more behind
# -------------------------------------------------------------------------------------------
my $peak = 0;
# A connection that is not read, because it waits for memory or behind a long Fetch, and has more to
# say than the kernel takes: its client's end stands behind all that, and nobody can see it. As
# with Kafka it is let go of when the client's kernel gives up, or by the idle timeout.
sub unread
{
	my ($port) = $_[0] =~ /\|127\.0\.0\.1\|(\d+)\|/;
	my $pair = sprintf '0100007F:%04X 0100007F:%04X', $node->kafka_port, $port;

	open my $tcp, '<', '/proc/net/tcp' or die "/proc/net/tcp: $!";
	return scalar grep { /\Q$pair\E 01 \w+:(\w+)/ && hex($1) > 0 } <$tcp>;
}

my $stays = 0;
for my $round (1 .. $rounds)
{
	last if $round > 2 && $memory[-1] - max(@memory[ 1 .. $#memory - 1 ]) < $growth_mb;

	my ($out, $err) = ('', '');
	$say .= "mark fire $round\n";
	my $fire = IPC::Run::start(
		[
			"$top/build/fuzz/fire", '127.0.0.1', $node->kafka_port, $requests, $seconds / 2,
			$connections, $seed
		],
		'>', \$out, '2>', \$err, IPC::Run::timeout($seconds + $timeout));
	pass_time($seconds / 2 + 0.5, sub { my $now = memory(@pids); $peak = $now if $now > $peak; });
	ok($fire->finish, "round $round") or diag($err);
	note($out);
	my ($frames, $answers) = $out =~ /^(\d+) frames .*, (\d+) answers/;
	cmp_ok($answers, '>', 1000, "round $round: the server has answered $answers requests");
	$say .= "mark quiet again\n";

	# Whatever the requests wait for, their clients have gone, which is noticed after 10 s.
	my $left;
	for (1 .. 150)
	{
		$left = strangers();
		last if $left eq '';
		pass_time(0.2);
	}
	my @unread = grep { unread($_) } split /\n/, $left;
	$stays += @unread;
	$left = join "\n", grep { !unread($_) } split /\n/, $left;
	is($left, '', "round $round: no connection is left that could be known to have gone");
	note('not read to the end: ', scalar @unread);
	pass_time(2);
	push @memory, memory(@pids);
}

$say .= "stop\n";
$bystander->pump_nb until $say eq '';
ok($bystander->finish, 'the bystander') or diag($complaint);
is(join("\n", $heard =~ /^(problem: .*)/mg), '',
	'the bystander finds all that was acknowledged, in order, once, and always had answers');
diag($_) for $heard =~ /^(.*acknowledged after.*)/mg;

# -------------------------------------------------------------------------------------------
# Afterwards
# -------------------------------------------------------------------------------------------
is(workers(), $workers, 'no process was started anew');
my $numbers = sprintf('%.0f MB before, %.0f MB at most, %s MB after', $memory[0], $peak,
	join(', ', map { sprintf '%.0f', $_ } @memory[ 1 .. $#memory ]));
diag("memory of a broker: $numbers");
cmp_ok($peak, '<', $budget_mb + $extra_mb, "memory is bounded ($numbers)");
cmp_ok($memory[-1] - max(@memory[ 1 .. $#memory - 1 ]), '<', $growth_mb,
	'not every round adds to it');

ok( $node->poll_query_until('postgres', <<'SQL'), 'no lock is left');
SELECT count(*) = 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE a.backend_type LIKE 'kafka broker%' AND locktype <> 'virtualxid'
SQL
is( $node->safe_psql('postgres', <<'SQL'), '0', 'no transaction is left');
SELECT count(*) FROM pg_stat_activity
 WHERE backend_type LIKE 'kafka broker%' AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
SQL

# A request of the whole budget is only let in when nothing else is in flight, not one byte.
reload_with("kafka_pg.anonymous_role = '$user'\nkafka_pg.max_inflight_bytes = 1MB\n");
{
	my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->kafka_port);
	# a Metadata request for no topics, and what follows it is one large tagged field
	my $head = pack('nnNn', 3, 9, 7, 0xffff) . "\0" . pack('C', 1) . "\0\0\0" . "\1\x63";
	my $size = 512 * 1024 + 1000;
	my $n = $size - length($head) - 3;
	my $length = pack('CCC', $n & 0x7f | 0x80, $n >> 7 & 0x7f | 0x80, $n >> 14);
	syswrite($client, pack('N', $size) . $head . $length . 'x' x $n);
	my $got = '';
	ok($stays || IO::Select->new($client)->can_read($timeout) && sysread($client, $got, 8) == 8
		&& unpack('x4N', $got) == 7, 'no byte is in flight any more');
}

# What was written can be recovered, and read by everybody.
$node->stop('immediate');
$node->start;
$node->wait_for_kafka;
cmp_ok($node->safe_psql('postgres', q{SELECT count(value) FROM topics."fuzz-a"}), '>', 0,
	'what was written is there after a crash');
for my $topic (qw(fuzz-a fuzz-b fuzz-compact fuzz-zstd))
{
	my ($code) = $node->kcat({ ok => 0 }, '-C', '-t', $topic, '-e', '-q');
	is($code, 0, "librdkafka can read $topic to its end");
}

KafkaPg::done();
