# The event loop, met with raw sockets: framing, order, limits, deadlines, and clients that behave
# badly.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use KafkaPg;
use PostgreSQL::Test::Utils;
use Socket qw(SHUT_WR);
use Test::More;
use Time::HiRes qw(time sleep);

my $timeout = $PostgreSQL::Test::Utils::timeout_default;
my $node;

sub client
{
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->kafka_port);
}

# A frame with an ApiVersions request, version 0; the client's name makes it as long as one likes.
sub api_versions
{
	my ($correlation, $name_length) = @_;
	return pack('N/a*',
		pack('nnN', 18, 0, $correlation) . pack('n/a*', 'x' x ($name_length // 0)));
}

# Fetch version 4 of partition 0 of a topic: waits up to $wait ms for a record at $offset.
sub fetch
{
	my ($correlation, $topic, $offset, $wait) = @_;
	return pack('N/a*',
		pack('nnN', 1, 4, $correlation)
		  . pack('n/a*', 'raw')
		  . pack('NNNNC', 0xffffffff, $wait, 1, 1 << 20, 0)
		  . pack('N', 1)
		  . pack('n/a*', $topic)
		  . pack('N', 1)
		  . pack('NQ>N', 0, $offset, 1 << 20));
}

# Writes all of it, or dies.
sub put
{
	my ($client, $bytes) = @_;
	my $written = 0;
	local $SIG{PIPE} = 'IGNORE';
	while ($written < length $bytes)
	{
		my $n = syswrite($client, $bytes, length($bytes) - $written, $written);
		die "write: $!" if !defined $n;
		$written += $n;
	}
	return;
}

# Reads exactly $length bytes; undef at the end of the connection.
sub get
{
	my ($client, $length) = @_;
	my $bytes = '';
	while (length $bytes < $length)
	{
		die "no answer after $timeout s\n" if !IO::Select->new($client)->can_read($timeout);
		my $n = sysread($client, $bytes, $length - length $bytes, length $bytes);
		return undef if !$n;
	}
	return $bytes;
}

# The correlation id of the next answer; undef at the end of the connection.
sub answer
{
	my ($client) = @_;
	my $head = get($client, 4);
	return undef if !defined $head;
	my $frame = get($client, unpack('N', $head));
	return defined $frame ? unpack('N', $frame) : undef;
}

sub is_closed
{
	my ($client, $test) = @_;
	my $n = 0;
	while (defined get($client, 1)) { $n++ }
	pass($test);
	return;
}

sub works
{
	my ($test) = @_;
	my $client = client();
	put($client, api_versions(77));
	is(answer($client), 77, $test);
	return;
}

sub broker_pids
{
	return split /\n/, $node->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'kafka broker%' ORDER BY 1});
}

# Adds up a line of /proc/PID/status over processes.
sub proc_status
{
	my ($what, @pids) = @_;
	my $sum = 0;
	for my $pid (@pids)
	{
		slurp_file("/proc/$pid/status") =~ /^$what:\s+(\d+)/m or die "no $what";
		$sum += $1;
	}
	return $sum;
}

sub restart_with
{
	my ($conf) = @_;
	$node->append_conf('postgresql.conf', $conf);
	$node->restart;
	wait_listening();
	return;
}

sub wait_listening
{
	for (1 .. 10 * $timeout)
	{
		return if client();
		sleep 0.1;
	}
	die 'nobody listens';
}

$node = KafkaPg->broker('main', conf => <<'CONF');
kafka_pg.brokers = 1
kafka_pg.max_request_size = 1MB
kafka_pg.max_inflight_bytes = 2MB
CONF
wait_listening();
$node->safe_psql('postgres', q{SELECT kafka.create_topic('empty')});

# -------------------------------------------------------------------------------------------
# Frames and order
# -------------------------------------------------------------------------------------------
my $client = client();
put($client, join '', map { api_versions($_) } 1 .. 1000);
is(join(' ', map { answer($client) } 1 .. 1000), join(' ', 1 .. 1000),
	'1000 requests at once are answered in order');

$client = client();
$client->sockopt(Socket::TCP_NODELAY(), 1);
put($client, $_) && sleep 0.002 for split //, api_versions(1) . api_versions(2, 300);
is(answer($client) . answer($client), '12', 'requests that arrive byte by byte');

put($client, api_versions(3, 30000));
is(answer($client), 3, 'a request longer than the first read');

put($client, fetch(4, 'empty', 0, 800) . api_versions(5) . api_versions(6));
is(join(' ', map { answer($client) } 1 .. 3), '4 5 6',
	'answers leave in order though the first one takes longest');

# -------------------------------------------------------------------------------------------
# Frames that are none
# -------------------------------------------------------------------------------------------
for my $length (0, 0xffffffff, 0x80000000, 0x7fffffff, 64 * 1024 + 1)
{
	$client = client();
	put($client, pack('N', $length));
	is_closed($client, "a frame of $length bytes is refused");
}
$client = client();
put($client, api_versions(1) . pack('N', 1024 * 1024 + 1));
is(answer($client), 1, 'a client that is known');
is_closed($client, 'may not send more than kafka_pg.max_request_size either');
$client = client();
put($client, api_versions(1) . pack('N', 0xffffffff));
is(answer($client), 1, 'what came before a bad frame is answered');
is_closed($client, 'then the connection is closed');

# -------------------------------------------------------------------------------------------
# Clients that go away
# -------------------------------------------------------------------------------------------
$client = client();
put($client, api_versions(1));
shutdown($client, SHUT_WR);
is(answer($client), 1, 'a client that has said all still gets its answer');
is_closed($client, 'then the connection is closed');

for (1 .. 50)
{
	$client = client();
	put($client, fetch(1, 'empty', 0, 60000) . api_versions(2) . substr(api_versions(3), 0, 7));
	setsockopt($client, Socket::SOL_SOCKET(), Socket::SO_LINGER(), pack('ii', 1, 0)) if $_ % 2;
	close($client);
}
works('50 clients that left in the middle of everything do no harm');

# -------------------------------------------------------------------------------------------
# Back-pressure: who does not read is not read
# -------------------------------------------------------------------------------------------
$client = client();
$client->blocking(0);
{
	my $sent = 0;
	my $request = 0;
	my $rest = '';
	while (1)
	{
		$rest = join '', map { api_versions(++$request) } 1 .. 1000 if $rest eq '';
		my $n = syswrite($client, $rest);
		if (defined $n)
		{
			$sent += $n;
			substr($rest, 0, $n) = '';
			die 'the broker reads from a client that does not' if $sent > 200 * 1024 * 1024;
			next;
		}
		# twice no room, with a pause: nobody takes it
		last if !IO::Select->new($client)->can_write(1);
	}
	pass('a client that does not read cannot go on writing');
	works('others are served');

	# Now it reads, and everything is there.
	my $in_order = 1;
	my $whole = $request;
	my $writing = 1;
	for my $expected (1 .. $whole)
	{
		while ($writing)
		{
			my $n = syswrite($client, $rest);
			substr($rest, 0, $n) = '' if defined $n;
			$writing = $rest ne '';
			last if !defined $n;
		}
		my $correlation = answer($client);
		$in_order &&= defined $correlation && $correlation == $expected;
		last if !$in_order;
	}
	ok($in_order, 'when it reads, it finds all answers in order');
}

# -------------------------------------------------------------------------------------------
# Memory: a frame has to be paid for by the server's budget before it is read
# -------------------------------------------------------------------------------------------
my $before = proc_status('RssAnon', broker_pids());
my $holder = client();
put($holder, api_versions(1));
is(answer($holder), 1, 'a client has shown who it is');
put($holder, pack('N', 1024 * 1024) . 'x' x 10);
sleep 0.2;
$client = client();
put($client, api_versions(1, 20000));
ok(!IO::Select->new($client)->can_read(0.5), 'a request waits while another holds all the memory');
works('small ones do not');
cmp_ok(proc_status('RssAnon', broker_pids()) - $before, '<', 700,
	'memory grows with what arrives, not with what is announced');
close($holder);
is(answer($client), 1, 'and goes on when that is gone');

# Who announces much and sends nothing has it only while nobody else needs it, and waits in line
# behind smaller frames.
my @liars = map { client() } 1 .. 50;
put($_, pack('N', 1024 * 1024) . 'x' x 10) for @liars;
sleep 0.2;
$client = client();
{
	my $began = time;
	put($client, api_versions(1, 20000));
	is(answer($client), 1, 'a request gets through beside 50 that are only announced');
	cmp_ok(time - $began, '<', 20, 'long before these have run out of time');
}
@liars = ();

my @idle = map { client() } 1 .. 400;
put($_, api_versions(1, 5000)) for @idle;
is(scalar(grep { answer($_) == 1 } @idle), 400, '400 clients are served');
put($_, api_versions(2, 5000)) for @idle;
is(scalar(grep { answer($_) == 2 } @idle), 400, 'twice');
$before = proc_status('RssAnon', broker_pids()) - $before;
cmp_ok($before, '<', 400 * 16, "idle, they cost less than 16 kB each (now $before kB in all)");

# -------------------------------------------------------------------------------------------
# Nothing to do: nobody wakes up
# -------------------------------------------------------------------------------------------
my @pids = split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT pid FROM pg_stat_activity WHERE backend_type ~ '^kafka (broker|flusher|reader|launcher)'
SQL
my $switches = 0;
for (1 .. 5)
{
	sleep 2;
	$before = proc_status('voluntary_ctxt_switches', @pids);
	sleep 3;
	$switches = proc_status('voluntary_ctxt_switches', @pids) - $before;
	last if $switches == 0;
}
is($switches, 0, 'with 400 idle clients no process wakes up for 3 s');
@idle = ();

# -------------------------------------------------------------------------------------------
# Deadlines
# -------------------------------------------------------------------------------------------
$node->append_conf('postgresql.conf', 'kafka_pg.connection_idle_timeout = 1s');
$node->reload;
sleep 0.5;
$client = client();
put($client, api_versions(1));
is(answer($client), 1, 'the idle timeout has changed by a reload');
my $begin = time;
is_closed($client, 'an idle client is disconnected');
cmp_ok(time - $begin, '>', 0.9, 'not before the time is up');

$client = client();
put($client, fetch(1, 'empty', 0, 2500));
is(answer($client), 1, 'a client that waits for its answer is not idle');

# Not read any more, since it has asked for so much, it is still seen to leave.
$client = client();
put($client, fetch(1, 'empty', 0, 600_000) . join '', map { api_versions($_) } 2 .. 200);
sleep 0.3;
close($client);
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM kafka.stat_connection'),
	'a client that left many requests behind one that waits is given up');

$client = client();
{
	my $bytes = api_versions(1, 200);
	my $sent = 0;
	local $SIG{PIPE} = 'IGNORE';
	while ($sent < length $bytes)
	{
		last if IO::Select->new($client)->can_read(0.2);
		last if !defined syswrite($client, $bytes, 1, $sent);
		$sent++;
	}
	cmp_ok($sent, '<', 150, 'a slow sender is disconnected in the middle of its frame');
}

# -------------------------------------------------------------------------------------------
# Caps on connections
# -------------------------------------------------------------------------------------------
restart_with("kafka_pg.connection_idle_timeout = 10min\n"
	  . "kafka_pg.max_connections_per_address = 20\n"
	  . "kafka_pg.max_connections = 30\nkafka_pg.brokers = 2\n");

# How many of $n new clients are served; they stay connected in the second value.
sub served
{
	my ($n) = @_;
	my @clients = map { client() } 1 .. $n;
	my @served;
	for my $client (@clients)
	{
		next if !eval { put($client, api_versions(1)); 1 };
		push @served, $client if defined answer($client);
	}
	return (scalar(@served), \@served);
}

# Those that only looked whether somebody listens may not have been noticed to be gone.
sub poll_served
{
	my ($n, $expected, $test) = @_;
	my ($count, $served);
	for (1 .. 50)
	{
		($count, $served) = served($n);
		last if $count == $expected;
		$served = undef;
		sleep 0.2;
	}
	is($count, $expected, $test);
	return $served;
}

my $served = poll_served(40, 20, 'the cap on one address holds over all processes');
my ($more) = served(5);
is($more, 0, 'no more are let in');
$served = undef;
$served = poll_served(25, 20, 'when they are gone others are');

# A process that ends takes its connections along, in the counts too.
$node->safe_psql('postgres',
	q{SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE backend_type = 'kafka broker 0'});
$served = undef;
$served = poll_served(40, 20, 'after the end of a broker its connections count no more');
$served = undef;

$node->append_conf('postgresql.conf', 'kafka_pg.max_connections_per_address = 1000');
$node->reload;
$served = poll_served(40, 30, 'the cap on all connections');
$served = undef;

# -------------------------------------------------------------------------------------------
# Fewer descriptors than connections
# -------------------------------------------------------------------------------------------
$node->append_conf('postgresql.conf', "kafka_pg.max_connections = 1000\nkafka_pg.brokers = 1\n"
	  . "max_files_per_process = 100\n");
$node->stop('fast');
my $from = -s $node->logfile;
system('sh', '-c', 'ulimit -n 256; exec pg_ctl -w -D "$0" -l "$1" start',
	$node->data_dir, $node->logfile) == 0
  or die 'the server does not start';
$node->_update_pid(1);
wait_listening();
like(
	slurp_file($node->logfile, $from),
	qr/can have only \d+ connections of kafka_pg.max_connections = 1000/,
	'the log says that there are too few descriptors');
my ($some, $held) = served(200);
cmp_ok($some, '<', 150, "$some of 200 clients are served");
is($node->safe_psql('postgres', 'SELECT count(*) > 0 FROM pg_class'), 't', 'the server works');
$held = undef;
works('and so does the broker');

KafkaPg::done();
