# Proof that the crash tests can fail: a server that acknowledges records before their WAL is
# flushed loses them in a crash, and the checker says so; so does an SQL session that lies about
# its commits. Honest, in the same circumstances, nothing is lost.
use strict;
use warnings;

use lib 'test/crash';

use CrashTest;
use KafkaPg;
use Test::More;
use Time::HiRes qw(sleep);

# WAL stays in memory for as long as nobody asks for a flush.
my $conf = <<'CONF';
wal_buffers = 64MB
wal_writer_delay = 10s
wal_writer_flush_after = 1GB
checkpoint_timeout = 1h
autovacuum = off
CONF

# Producers without idempotence (which could not start without a flush), or one SQL session with
# synchronous_commit = off; no readers.
my %clients = (
	wire => { only => '^w\.(all|one)-(none|gzip|lz4|snappy)' },
	sql => { only => '^s\.async', liar => 1 });

# crash_unflushed(node, crash): a load of a second while nobody flushes, then a crash. Returns what
# the checker finds, and what was done.
sub crash_unflushed
{
	my ($node, $crash) = @_;

	$crash->command('run');
	sleep 0.5;
	my @pids = split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT pid FROM pg_stat_activity
 WHERE backend_type IN ('kafka flusher', 'kafka keeper', 'walwriter', 'checkpointer', 'background writer')
SQL
	is(kill('STOP', @pids), 5, 'nobody flushes');
	sleep 1;
	$crash->kill_tree;
	$crash->recover;
	sleep 0.5;
	my %done = $crash->command('stop') =~ /^(.*): (\d+)$/mg;
	return ($crash->command('check'), \%done);
}

for my $kind (qw(wire sql))
{
	my $node = KafkaPg->broker($kind, conf => $conf);
	my $crash = CrashTest->new($node, seed => 5, %{ $clients{$kind} });

	my ($problems, $done) = crash_unflushed($node, $crash);
	if ($kind eq 'wire')
	{
		ok($done->{'acked all-none'} && $done->{'acked one-lz4'}, 'honest: work was done');
		is($problems, '', 'honest: nothing is lost');
		$node->append_conf('postgresql.conf', 'kafka_pg.test_ack_before_flush = on');
		$node->restart;
		$crash->wait_until_serving;
		($problems, $done) = crash_unflushed($node, $crash);
		ok($done->{'acked all-none'} && $done->{'acked one-lz4'}, 'dishonest: work was done');
		like($problems, qr/^  \('w\.all-\w+\.1', \d+\) acknowledged at/m, 'acks=all: lost');
		like($problems, qr/^  \('w\.[a-z-]*\.1', \d+\) acknowledged at crash_\w\/\d offset \d+; there is/m,
			'the report says which, and what is in their place');
	}
	else
	{
		ok($done->{'committed s.async'}, 'dishonest session: work was done');
	}
	my ($lost) = $problems =~ /^lost: (\d+)$/m;
	note $problems;
	cmp_ok($lost // 0, '>', 10, "$kind: the checker finds what is lost");
	is(join(' ', grep { $_ ne 'lost' } $problems =~ /^([a-z ]+): \d+$/mg), '', 'and nothing else');
	is($node->problems, '', "$kind: what is left is in order");
	$crash->quit;
}

KafkaPg::done();
