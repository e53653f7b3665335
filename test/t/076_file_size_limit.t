# A limit of file size (ulimit -f): Postgres ignores the signal, and so do our processes. Reaching
# the limit is an error then, as a full disk is: for data and temporary files one that somebody is
# told, for WAL the end of the server until there is room.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main',
	conf => "autovacuum = off\nmin_wal_size = 32MB\nwal_recycle = off\n");
$node->expect_full_disk;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Sets the limit of the server's processes, and so of those to come.
sub limit
{
	my ($megabytes) = @_;
	my $bytes = $megabytes ? $megabytes * 1024 * 1024 : 'unlimited';
	my $postmaster = $node->{_pid};

	for my $pid ($postmaster, split /\s+/, qx(ps -o pid= --ppid $postmaster))
	{
		system("prlimit --pid $pid --fsize=$bytes: 2>&1") if $pid;
	}
	return;
}

my $insert = q{INSERT INTO topics.sql (value) SELECT convert_to(repeat('x', 10000), 'UTF8')
	FROM generate_series(1, 100)};

sql(q{SELECT kafka.create_topic('sql', 2); SELECT kafka.create_topic('wire', 1)});
$node->wait_for_kafka;

# ------------------------------------------------------------------------------------------
# Data
# ------------------------------------------------------------------------------------------
limit(17);		# more than a WAL file, which is written anew and again
my ($code, $message);
for (1 .. 40)
{
	($code, undef, $message) = $node->psql('postgres', $insert);
	last if $code;
}
like($message, qr/could not extend file "base.*": File too large/, 'data: SQL is told');
my $rows = sql('SELECT count(*) FROM topics.sql');
is($rows % 100, 0, 'data: nothing of the failed statement is there');
my $in = join '', map { 'x' x 10000 . "\n" } 1 .. 100;
my $acked = 0;
for (1 .. 40)
{
	($code, undef, $message) = $node->kcat({ in => $in, ok => 0 },
		'-P', '-t', 'wire', '-p', 0, '-X', 'message.timeout.ms=2000');
	last if $code;
	$acked += 100;
}
isnt($code, 0, 'data: and so are clients');
cmp_ok($acked, '>', 0, 'data: which could produce before');
cmp_ok(sql('SELECT count(*) FROM topics.wire'), '>=', $acked, 'data: what was acknowledged is there');
sql('CHECKPOINT');
is($node->crashes, '', 'data: nothing crashed');
is($node->problems, '', 'data: no problem in any topic');
limit();
sql($insert);
is(sql('SELECT count(*) FROM topics.sql'), $rows + 100, 'data: SQL goes on without the limit');
$node->kcat({ in => "last\n" }, '-P', '-t', 'wire', '-p', 0);
is($node->kcat('-C', '-t', 'wire', '-p', 0, '-o', -1, '-c', 1, '-e', '-q'), "last\n", 'data: and so does a client');

# ------------------------------------------------------------------------------------------
# Temporary files
# ------------------------------------------------------------------------------------------
limit(17);
(undef, undef, $message) = $node->psql('postgres', q{SET kafka_pg.produce_buffer_size = '64kB'; BEGIN;
	INSERT INTO topics.sql (key, value) SELECT 'temp', convert_to(repeat('x', 100000), 'UTF8')
	  FROM generate_series(1, 250); COMMIT});
like($message, qr/could not write to file "base\/pgsql_tmp.*: File too large/, 'temporary files: SQL is told');
limit();
is(sql(q{SELECT count(*) FROM topics.sql WHERE key = 'temp'}), '0', 'temporary files: nothing is there');

# ------------------------------------------------------------------------------------------
# WAL: data files are below the limit, a WAL file is not.
# ------------------------------------------------------------------------------------------
sql(q{SELECT kafka.drop_topic(name) FROM kafka.topics; SELECT kafka.create_topic('sql', 1); CREATE TABLE ledger (n int)});
sql('CHECKPOINT');
limit(12);
my $done = 0;
for my $n (1 .. 1000)
{
	($code) = $node->psql('postgres', qq{BEGIN; INSERT INTO ledger VALUES ($n);
		INSERT INTO topics.sql (key) SELECT '$n' FROM generate_series(1, 10);
		SELECT pg_logical_emit_message(false, '', repeat('x', 200000)); COMMIT});
	last if $code;
	$done = $n;
}
isnt($code, 0, 'WAL: SQL cannot commit');
like(slurp_file($node->logfile), qr/PANIC: .*File too large/, 'WAL: the server stops, as Postgres does');
for (1 .. 50)
{
	last if !kill(0, $node->{_pid});
	limit();
	select(undef, undef, undef, 0.1);
}
if (!kill(0, $node->{_pid}))
{
	$node->{_pid} = undef;
	$node->start;
}
$node->wait_for_server;
limit();
is(sql("SELECT count(*) FROM generate_series(1, $done) g WHERE g NOT IN (SELECT n FROM ledger)"), '0',
	'WAL: what was committed is in the table');
is(sql(q{SELECT count(*) FROM (
		SELECT n::text, count(*) * 10 FROM ledger GROUP BY 1
		EXCEPT SELECT kafka.to_text(key), count(*) FROM topics.sql GROUP BY 1) q}), '0', 'WAL: and in the topic');
is(sql('SELECT count(*) - 10 * (SELECT count(*) FROM ledger) FROM topics.sql'), '0', 'WAL: and nothing else');
$node->wait_for_kafka;
$node->kcat({ in => "after\n" }, '-P', '-t', 'sql', '-p', 0);
is($node->kcat('-C', '-t', 'sql', '-p', 0, '-o', -1, '-c', 1, '-e', '-q'), "after\n", 'WAL: a client goes on');

KafkaPg::done();
