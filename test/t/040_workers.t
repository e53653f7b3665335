# The processes: which run when, who starts them again, and why clients are not served.
use strict;
use warnings;

use IO::Socket::INET;
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

# Names of the running processes, as text.
sub workers
{
	my ($node) = @_;
	return $node->safe_psql('postgres', <<'SQL');
SELECT string_agg(replace(backend_type, 'kafka ', ''), ' ' ORDER BY backend_type)
  FROM pg_stat_activity WHERE backend_type LIKE 'kafka %'
SQL
}

sub poll_workers
{
	my ($node, $expected, $test) = @_;
	my $found = '';

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$found = workers($node);
		last if $found eq $expected;
		select(undef, undef, undef, 0.1);
	}
	is($found, $expected, $test);
	return;
}

sub worker_pid
{
	my ($node, $name) = @_;
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'kafka $name'");
}

# Can a client connect, and does nobody close the connection at once?
sub listens
{
	my ($node) = @_;
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->kafka_port) ? 1 : 0;
}

sub poll_listens
{
	my ($node, $test) = @_;
	my $listens;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if $listens = listens($node);
		select(undef, undef, undef, 0.1);
	}
	ok($listens, $test);
	return;
}

# Waits until the log has $pattern somewhere after byte $from.
sub wait_log
{
	my ($node, $pattern, $from, $test) = @_;
	my $found;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		last if $found = slurp_file($node->logfile, $from) =~ $pattern;
		select(undef, undef, undef, 0.1);
	}
	ok($found, $test);
	return;
}

my $all = 'broker 0 broker 1 flusher keeper launcher prealloc reader 0 reader 1';
my $core = 'flusher keeper launcher prealloc';

# -------------------------------------------------------------------------------------------
# From nothing to all of them, and back
# -------------------------------------------------------------------------------------------
# no twin: with wal_level = minimal WAL does not tell all
my $node = KafkaPg->broker('main', extension => 0, twin => 0, conf => <<'CONF');
kafka_pg.brokers = 2
kafka_pg.readers = 2
CONF

is(workers($node), 'launcher', 'without the extension there is the launcher alone');
ok(!listens($node), 'and nobody listens');

$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION kafka_pg; ROLLBACK');
is(workers($node), 'launcher', 'an extension rolled back starts nothing');

$node->safe_psql('postgres', 'CREATE EXTENSION kafka_pg');
poll_workers($node, $all, 'CREATE EXTENSION starts all');
poll_listens($node, 'and clients can connect');

# -------------------------------------------------------------------------------------------
# Each of them ends, and comes back alone
# -------------------------------------------------------------------------------------------
for my $name ('flusher', 'keeper', 'prealloc', 'reader 1', 'broker 0', 'launcher')
{
	my $postmaster = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
	my $pid = worker_pid($node, $name);
	my $other = worker_pid($node, 'broker 1');

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 60000)");
	poll_workers($node, $all, "$name is started again");
	isnt(worker_pid($node, $name), $pid, 'as another process');
	is(worker_pid($node, 'broker 1'), $other, 'the others live on');
}

# Two at once, the one that starts processes among them.
$node->safe_psql('postgres', <<'SQL');
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type IN ('kafka launcher', 'kafka broker 0', 'kafka flusher')
SQL
poll_workers($node, $all, 'launcher, broker and flusher are started again');

# -------------------------------------------------------------------------------------------
# DROP EXTENSION while clients are connected
# -------------------------------------------------------------------------------------------
poll_listens($node, 'clients can connect');
my @clients = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->kafka_port) }
  1 .. 5;
is(scalar(grep { defined } @clients), 5, 'clients are connected');
$node->safe_psql('postgres', 'DROP EXTENSION kafka_pg');
poll_workers($node, 'launcher', 'DROP EXTENSION stops all but the launcher');
ok(!listens($node), 'nobody listens any more');
for my $client (@clients)
{
	my $byte;
	$client->timeout(10);
	is(sysread($client, $byte, 1) || 0, 0, 'a client was disconnected');
}

$node->safe_psql('postgres', 'CREATE EXTENSION kafka_pg');
poll_workers($node, $all, 'created again');

# No process may keep what it knows of one extension for the next.
my $pids = $node->safe_psql('postgres', <<'SQL');
SELECT array_agg(pid) FROM pg_stat_activity
 WHERE backend_type ~ 'kafka (broker|flusher|keeper|prealloc|reader)'
SQL
$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION kafka_pg; CREATE EXTENSION kafka_pg; COMMIT');
$node->poll_query_until('postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ANY ('$pids')")
  or die 'processes of the old extension are still there';
poll_workers($node, $all, 'dropped and created in one transaction: all are new');

# -------------------------------------------------------------------------------------------
# Reasons not to serve clients
# -------------------------------------------------------------------------------------------
my $from = -s $node->logfile;
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$node->reload;
poll_workers($node, "$all syncwait", 'synchronous_standby_names: syncwait starts');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$node->reload;
poll_workers($node, $all, 'and ends when it is empty again');

# The port is taken, without and with SO_REUSEPORT; then it becomes free.
$node->stop('fast');
for my $reuse (0, 1)
{
	my $taker = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1',
		LocalPort => $node->kafka_port,
		Listen => 5,
		ReuseAddr => 1,
		ReusePort => $reuse) or die "could not take the port: $!";
	$from = -s $node->logfile;
	$node->start;
	wait_log($node,
		qr/not served: (bind|listen)\(\) for 127\.0\.0\.1:\d+ failed: Address already in use/,
		$from, "port taken (SO_REUSEPORT $reuse): the log says so");
	is(workers($node), $core, 'no broker runs, the rest does');
	close($taker);
	poll_workers($node, $all, 'brokers start when the port is free') if $reuse;
	$node->stop('fast');
}

my @refused = (
	[
		"kafka_pg.listen_addresses = '0.0.0.0'",
		qr/not served: address 0\.0\.0\.0:\d+ is not a loopback address\n.*HINT:.*authenticate/,
		'an address that is not loopback'
	],
	[
		"kafka_pg.listen_addresses = '127.0.0.1, *'", qr/not served: address .* is not a loopback/,
		'all addresses'
	],
	[ "kafka_pg.listen_addresses = ''", qr/not served: .*is empty/, 'no address' ],
	[
		"kafka_pg.listen_addresses = '127.0.0.1'\nwal_level = minimal\nmax_wal_senders = 0",
		qr/not served: wal_level is "minimal"\n.*HINT:.*wal_level/, 'wal_level = minimal'
	]);
for my $case (@refused)
{
	my ($conf, $pattern, $test) = @$case;
	$node->append_conf('postgresql.conf', $conf);
	$from = -s $node->logfile;
	$node->start;
	wait_log($node, $pattern, $from, "$test: refused");
	poll_workers($node, $core, "$test: no broker runs, the rest does");
	$node->stop('fast');
}
$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 10");

# A database that is not UTF8.
$node->start;
$node->safe_psql('postgres',
	q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'});
$node->append_conf('postgresql.conf', "kafka_pg.database = 'latin'");
$node->stop('fast');
$from = -s $node->logfile;
$node->start;
$node->psql('latin', 'CREATE EXTENSION kafka_pg');
wait_log($node, qr/not served: database "latin" has encoding "LATIN1"/, $from,
	'a database that is not UTF8: refused');
$node->append_conf('postgresql.conf', "kafka_pg.database = 'postgres'");

# Too few background workers.
$node->append_conf('postgresql.conf', 'max_worker_processes = 5');
$node->stop('fast');
$from = -s $node->logfile;
$node->start;
wait_log(
	$node,
	qr/no\ room\ for\ \d\ of\ the\ 10\ background\ workers\ of\ kafka_pg\n
		.*launcher,\ flusher,\ syncwait,\ keeper,\ prealloc,\ ddl,\ 2\ readers\ and\ 2\ brokers.*\n
		.*HINT:.*max_worker_processes\ to\ at\ least\ \d+/x,
	$from,
	'too few background workers: the log says how many');
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server works all the same');
$node->append_conf('postgresql.conf', 'max_worker_processes = 16');
$node->restart;
poll_workers($node, $all, 'enough of them: all run');

# -------------------------------------------------------------------------------------------
# Crash and shutdown
# -------------------------------------------------------------------------------------------
$node->expect_crashes;
$node->crash(sub { kill 'KILL', worker_pid($node, 'broker 1') });
poll_workers($node, $all, 'after the crash of a broker all are started once');

poll_listens($node, 'clients can connect');
my $idle = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->kafka_port);
ok($idle, 'an idle client is connected');
my $begin = time;
$node->stop('fast');
cmp_ok(time - $begin, '<', 30, 'and does not hold up a fast shutdown');

KafkaPg::done();
