# A full disk, for data, for temporary files and for WAL, and room again: what was acknowledged is
# there, once; producers are held up or told, and go on.
use strict;
use warnings;

use Cwd qw(abs_path);
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main', start => 0, conf => <<'CONF', init => { extra => ['--wal-segsize=1'] });
min_wal_size = 2MB
max_wal_size = 8MB
wal_recycle = off
CONF
$node->expect_full_disk;
my $shim = abs_path('build/crash/fullshim.so');
my $full = $node->basedir . '/full';

sub start_with_shim
{
	my (@param) = @_;
	local $ENV{LD_PRELOAD} = $shim;
	local $ENV{FULLSHIM} = $full;
	return $node->start(@param);
}

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub fill
{
	my ($path) = @_;
	append_to_file("$full.new", "$path\n");
	rename "$full.new", $full or die;
	return;
}

sub free { unlink $full or die; return; }

my ($run, $out, $err);

sub start_producer
{
	unlink $node->basedir . '/stop';
	($out, $err) = ('', '');
	local $ENV{KAFKA_BOOTSTRAP} = $node->bootstrap;
	$run = IPC::Run::start([ '/usr/bin/python3', 'test/crash/steady', 'wire', $node->basedir . '/stop' ],
		'>', \$out, '2>', \$err);
	return;
}

# Waits until the producer has been told of so many more records.
sub wait_for_acks
{
	my ($n) = @_;
	my $before = () = $out =~ /^acked/mg;
	my $timer = IPC::Run::timer(60);
	$timer->start;
	for (;;)
	{
		$run->pump_nb;
		return 1 if (() = $out =~ /^acked/mg) >= $before + $n;
		return 0 if $timer->is_expired;
		select(undef, undef, undef, 0.05);
	}
}

sub stop_producer
{
	my ($what) = @_;
	append_to_file($node->basedir . '/stop', '');
	ok(IPC::Run::finish($run), "$what: the producer ends") or diag($err);
	like($out, qr/^left 0$/m, "$what: no record is without an answer");
	my @acked = $out =~ /^acked (\d+)$/mg;
	my %stored;
	$stored{$_}++ for split /\n/, sql(q{SELECT kafka.to_text(key) FROM topics.wire});
	is(join(' ', grep { ($stored{$_} // 0) != 1 } @acked), '', "$what: all that was acknowledged is there, once");
	is(join(' ', grep { $stored{$_} > 1 } keys %stored), '', "$what: and nothing twice");
	note("$what: " . @acked . ' acknowledged, failed: ' . join(',', $out =~ /^failed \d+ (\S+)/mg));
	sql(q{SELECT kafka.drop_topic('wire'); SELECT kafka.create_topic('wire', 2)});
	return;
}

start_with_shim();
sql(q{CREATE EXTENSION kafka_pg; SELECT kafka.create_topic('wire', 2); SELECT kafka.create_topic('sql', 2);
	CREATE TABLE ledger (n int);});

my $data = '/base/' . sql(q{SELECT oid FROM pg_database WHERE datname = 'postgres'}) . '/';

# ------------------------------------------------------------------------------------------
# No room for data
# ------------------------------------------------------------------------------------------
$node->wait_for_kafka;
start_producer();
ok(wait_for_acks(100), 'data: a producer');
fill($data);
# Everybody meets it: the file is used up, then nothing goes
my ($code, $message);
for (1 .. 200)
{
	($code, undef, $message) = $node->psql('postgres', q{INSERT INTO topics.sql (value)
		SELECT convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 1000)});
	last if $code;
}
like($message, qr/could not extend file .*No space left on device/, 'data: SQL is told');
my $rows = sql('SELECT count(*) FROM topics.sql');
is($rows % 1000, 0, 'data: nothing of the failed statement is there');
for (1 .. 100)
{
	my $before = () = $out =~ /^acked/mg;
	select(undef, undef, undef, 0.5);
	$run->pump_nb;
	last if $before == (() = $out =~ /^acked/mg);
}
is(sql('SELECT 1'), '1', 'data: the server lives');
is(sql('SELECT count(*) FROM topics.sql'), $rows, 'data: what is there can be read');
my $log_before = -s $node->logfile;
sleep 1;
my $log_grown = (-s $node->logfile) - $log_before;
cmp_ok($log_grown, '<', 1e6, 'data: the log is not flooded');
free();
ok(wait_for_acks(100), 'data: the producer goes on when there is room');
sql(q{INSERT INTO topics.sql (value) SELECT convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 1000)});
is(sql('SELECT count(*) FROM topics.sql'), $rows + 1000, 'data: and so does SQL');
stop_producer('data');
is($node->problems, '', 'data: no problem in any topic');

# The first record of all, and a batch that is larger than a WAL record
sql(q{SELECT kafka.create_topic('first', 3);
	SELECT kafka.create_topic('large', 1, '{"max.message.bytes": 33554432}');
	SELECT kafka.produce('large', 'small')});
fill($data);
for my $statement (q{SELECT kafka.produce('first', 'x', partition => 2)},
	q{INSERT INTO topics.large (value) SELECT convert_to(repeat('x', 20000000), 'UTF8')},
	q{BEGIN; SELECT kafka.produce('first', 'x', partition => 1);
		INSERT INTO topics.large (value) SELECT convert_to(repeat('x', 20000000), 'UTF8'); COMMIT})
{
	(undef, undef, $message) = $node->psql('postgres', $statement);
	like($message, qr/could not extend file .*No space left on device/, 'data: SQL is told again');
}
($code, undef, $message) = $node->kcat({ in => "x\n", ok => 0 },
	'-P', '-t', 'first', '-p', 0, '-X', 'message.timeout.ms=1000');
isnt($code, 0, 'data: and so is a client');
is($node->problems, '', 'data: no problem in any topic while it is full');
free();
is(sql(q{INSERT INTO topics.large (value) SELECT convert_to(repeat('y', 20000000), 'UTF8');
		SELECT string_agg(length(value) || right(kafka.to_text(value), 1), ' ' ORDER BY "offset") FROM topics.large}),
	'5l 20000000y', 'data: a large record when there is room');
$node->kcat({ in => "y\n" }, '-P', '-t', 'first', '-p', $_) for 0 .. 2;
is(sql(q{SELECT partition, kafka.to_text(value) FROM topics.first WHERE value = 'y' ORDER BY 1}), "0|y\n1|y\n2|y",
	'data: and the first records');
is($node->problems, '', 'data: no problem in any topic');

# ------------------------------------------------------------------------------------------
# Starting without room for data
# ------------------------------------------------------------------------------------------
$node->stop('fast');
fill($data);
start_with_shim();
$node->wait_for_kafka;
# partitions come in any order
is(join(' ', sort $node->kcat('-C', '-t', 'first', '-o', 'beginning', '-e', '-q', '-f', '%p%s ') =~ /\S+/g),
	'0y 1y 2y', 'start: a full disk does not keep clients from reading');
like(($node->psql('postgres', q{INSERT INTO topics.large (value)
		SELECT convert_to(repeat('x', 20000000), 'UTF8')}))[2],
	qr/could not extend file .*No space left on device/, 'start: who needs room is told');
free();

# Redo needs room for a topic that was dropped, as it would for any table
sql(q{CHECKPOINT; SELECT kafka.create_topic('dropped', 1)});
sql(q{INSERT INTO topics.dropped (value) SELECT convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 3000)});
my $before_crash = sql(q{SELECT kafka.drop_topic('dropped'); SELECT count(*) FROM topics.sql});
$node->stop('immediate');
fill($data);
ok(!start_with_shim(fail_ok => 1), 'start: a server that cannot redo does not start');
like(slurp_file($node->logfile), qr/FATAL: .*could not extend file .*No space left on device/, 'start: and says why');
free();
start_with_shim();
is("\n" . sql('SELECT count(*) FROM topics.sql'), $before_crash, 'start: with room again, all is there');
is($node->problems, '', 'start: no problem in any topic');

# ------------------------------------------------------------------------------------------
# No room for temporary files
# ------------------------------------------------------------------------------------------
fill('/pgsql_tmp/');
my $insert = q{INSERT INTO topics.sql (key, value)
	SELECT 'temp', convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 2000)};
($code, undef, $message) = $node->psql('postgres', qq{SET kafka_pg.produce_buffer_size = '64kB'; BEGIN;
	$insert}, on_error_stop => 0);
like($message, qr/could not write.*No space left on device/, 'temporary files: SQL is told');
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe(q{SET kafka_pg.produce_buffer_size = '64kB'; BEGIN;
	INSERT INTO topics.sql (key) VALUES ('kept'); SAVEPOINT s});
$session->query($insert);
$session->query('ROLLBACK TO s');
free();
$session->query("$insert; COMMIT");
$session->quit;
is(sql(q{SELECT kafka.to_text(key), count(*) FROM topics.sql WHERE key IS NOT NULL
		GROUP BY 1 ORDER BY 1}),
	"kept|1\ntemp|2000", 'temporary files: a savepoint takes back what failed, and there is room again');
(undef, undef, $message) = $node->psql('postgres', qq{SET kafka_pg.produce_buffer_size = '64kB';
	SET temp_file_limit = '1MB'; BEGIN; $insert; COMMIT});
like($message, qr/temporary file size exceeds temp_file_limit/, 'temporary files: their limit holds');
is(sql(q{SELECT count(*) FROM topics.sql WHERE key = 'temp'}), '2000', 'temporary files: nothing of it is there');

# ------------------------------------------------------------------------------------------
# No room for WAL: the server stops itself, again and again
# ------------------------------------------------------------------------------------------
start_producer();
ok(wait_for_acks(100), 'WAL: a producer');
my $acked = 0;
fill('/pg_wal/');
for my $i (1 .. 100000)
{
	($code) = $node->psql('postgres', qq{BEGIN; INSERT INTO ledger SELECT $i;
		INSERT INTO topics.sql (key, value) SELECT '$i', convert_to(repeat('y', 1000), 'UTF8') FROM generate_series(1, 200); COMMIT});
	last if $code;
	$acked = $i;
}
isnt($code, 0, 'WAL: SQL cannot commit');
like(slurp_file($node->logfile), qr/PANIC: .*No space left on device/, 'WAL: the server stops, as Postgres does');
# It tries to come back by itself; when its recovery meets the full disk it is gone.
my $pid = $node->{_pid};
for (1 .. 50)
{
	last if !kill(0, $pid);
	select(undef, undef, undef, 0.1);
}
# Started while the disk is full it may get as far again, or not. What it has it keeps.
if (!kill(0, $pid))
{
	$node->{_pid} = undef;
	note('WAL: started while full: ' . (start_with_shim(fail_ok => 1) ? 'yes' : 'no'));
}
free();
start_with_shim() if !defined $node->{_pid} || !kill(0, $node->{_pid});
$node->wait_for_server;
ok(wait_for_acks(100), 'WAL: the producer goes on when there is room');
is(sql("SELECT count(*) FROM generate_series(1, $acked) g WHERE g NOT IN (SELECT n FROM ledger)"), '0',
	'WAL: what was committed is in the table');
sql(q{CREATE VIEW y AS SELECT kafka.to_text(key) AS n FROM topics.sql WHERE value LIKE 'yy%'});
is(sql(q{SELECT count(*) FROM ((SELECT n::text FROM ledger EXCEPT SELECT n FROM y)
		UNION ALL (SELECT n FROM y EXCEPT SELECT n::text FROM ledger)) q}), '0',
	'WAL: and in the topic');
stop_producer('WAL');
is($node->problems, '', 'WAL: no problem in any topic');

KafkaPg::done();
