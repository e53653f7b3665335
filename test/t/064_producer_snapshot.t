# Producer snapshots: after a crash a partition knows its idempotent producers again, from a
# snapshot and what follows it, or from all of its batches when there is no good snapshot.
use strict;
use warnings;

use Cwd 'abs_path';
use File::Basename;
use KafkaPg;
use Test::More;

my $script = abs_path(dirname(__FILE__) . '/../wire/idempotent.py');
my $node = KafkaPg->broker('main', conf => "log_min_messages = debug1\nkafka_pg.brokers = 1\n");
$node->expect_crashes;
$node->create_stop_functions;

sub create
{
	my ($topic) = @_;
	$node->safe_psql('postgres',
		qq{SELECT kafka.create_topic('$topic', 1, '{"segment.bytes": "1048576"}')});
	return;
}

# "error offset" of each batch that producer sends
sub send_batches
{
	my ($topic, $producer, $first, $count, $bytes) = @_;
	return join(', ',
		split /\n/, $node->python('-B', $script, $topic, $producer, $first, $count, $bytes // 0));
}

sub offsets
{
	my ($first, $last) = @_;
	return join(', ', map { "NONE $_" } $first .. $last);
}

sub snapshot_of
{
	my ($topic) = @_;
	return $node->safe_psql('postgres', qq{SELECT next_offset FROM kafka.producer_snapshot
		WHERE "table" = 'topics.$topic'::regclass AND relfilenumber = pg_relation_filenode("table")});
}

sub wait_for_snapshot
{
	my ($topic, $above) = @_;
	ok($node->poll_query_until('postgres',
			qq{SELECT count(*) = 1 FROM kafka.producer_snapshot
				WHERE "table" = 'topics.$topic'::regclass AND next_offset > $above}),
		"$topic: a snapshot above $above is written");
	return snapshot_of($topic);
}

sub crash
{
	$node->stop('immediate');
	$node->start;
	return;
}

# What the log says of rebuilds since position: "batches from".
sub rebuilds
{
	my ($topic, $position) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $position);
	my @found = $log =~
		/partition 0 of "$topic": looked at (\d+ batches from offset \d+) on for their producers/g;
	return "@found";
}

# Producer 2 is seen at the beginning only; a segment ends after 10 of producer 1's batches.
create('t');
is(send_batches('t', 2, 0, 5), offsets(0, 4), 'producer 2');
is(send_batches('t', 1, 0, 12, 100_000), offsets(5, 16), 'producer 1 fills a segment');
my $at = wait_for_snapshot('t', 5);
is(send_batches('t', 1, 12, 3), offsets(17, 19), 'and goes on');

my $position = -s $node->logfile;
crash();
is(send_batches('t', 1, 10, 5), offsets(15, 19), 'after a crash the last five are known again');
is(send_batches('t', 2, 0, 5), offsets(0, 4), 'also those that only the snapshot has');
is(rebuilds('t', $position), (20 - $at) . " batches from offset $at", 'the log is read from there');
is(send_batches('t', 1, 16, 1), 'OUT_OF_ORDER_SEQUENCE_NUMBER -1', 'a gap');
is(send_batches('t', 1, 15, 1), 'NONE 20', 'the next one');
is(send_batches('t', 2, 5, 1), 'NONE 21', "producer 2's, too");

for my $damage (
	[ 'deleted', q{DELETE FROM kafka.producer_snapshot} ],
	[ 'with a bit turned', q{UPDATE kafka.producer_snapshot SET state = set_bit(state, 77, 1 - get_bit(state, 77))} ],
	[ 'cut off', q{UPDATE kafka.producer_snapshot SET state = substr(state, 1, 20)} ],
	[ 'empty', q{UPDATE kafka.producer_snapshot SET state = ''} ],
	[ 'of another offset', q{UPDATE kafka.producer_snapshot SET next_offset = next_offset - 1} ],
	[ 'ahead of the log', q{UPDATE kafka.producer_snapshot SET next_offset = 1000000} ],
	[ 'of another file', q{UPDATE kafka.producer_snapshot SET relfilenumber = 1} ])
{
	$node->safe_psql('postgres', "$damage->[1]; CHECKPOINT");
	$position = -s $node->logfile;
	crash();
	is(send_batches('t', 1, 11, 5), offsets(16, 20), "a snapshot $damage->[0]: known again");
	is(send_batches('t', 2, 1, 5), '' . offsets(1, 4) . ', NONE 21', 'both producers');
	is(rebuilds('t', $position), '22 batches from offset 0', 'all batches are read');
}

# Killed while a snapshot is written: the older one, or none, serves.
my ($next, $end) = (16, 22);
for my $stop ('kproducer-snapshot-copied', 'kproducer-snapshot-written')
{
	$node->safe_psql('postgres', "SELECT kafka_test.stop_arm('$stop', 'kill')");
	my $last = $end + 11;
	is(send_batches('t', 1, $next, 12, 100_000), offsets($end, $last),
		"$stop: the keeper is killed, the producer goes on");
	$node->wait_for_server;
	is(send_batches('t', 1, $next + 7, 5, 100_000), offsets($last - 4, $last), 'duplicates are known');
	($next, $end) = ($next + 12, $last + 1);
	cmp_ok($node->safe_psql('postgres', q{SELECT coalesce(max(next_offset), 0)
		FROM kafka.producer_snapshot}), '<=', $end, 'no snapshot knows more than the log');
}
is(send_batches('t', 1, $next, 12, 100_000), offsets($end, $end + 11), 'more');
($next, $end) = ($next + 12, $end + 12);
wait_for_snapshot('t', $end - 12);
is($node->safe_psql('postgres', q{SELECT count(*) FROM kafka.producer_snapshot}), 1, 'one row');

# A standby that is promoted has the snapshot.
my $standby = KafkaPg->standby($node, 'standby', conf => "log_min_messages = debug1\n");
$at = snapshot_of('t');
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
ok($standby->poll_query_until('postgres', 'SELECT timeline = 2 FROM kafka.leader_epoch'),
	'the new primary has its leader epoch');
my $primary = $node;
$node = $standby;
is(send_batches('t', 1, $next - 5, 5, 100_000), offsets($end - 5, $end - 1),
	'duplicates are known after a promotion');
is(rebuilds('t', 0), ($end - $at) . " batches from offset $at", 'from the snapshot');

# A partition that is larger than what one turn reads.
create('big');
is(send_batches('big', 1, 0, 1), offsets(0, 0), 'a producer');
$node->safe_psql('postgres', q{SELECT kafka.produce('big', repeat('x', 1000000))
	FROM generate_series(1, 40)});
is(send_batches('big', 1, 1, 4), offsets(41, 44), 'and more of it');
$node->safe_psql('postgres', 'DELETE FROM kafka.producer_snapshot');
$position = -s $node->logfile;
crash();
is(send_batches('big', 1, 0, 5), offsets(0, 0) . ', ' . offsets(41, 44), 'known again');
my @turns = rebuilds('big', $position) =~ /(\d+ batches)/g;
cmp_ok(scalar @turns, '>', 1, 'read in several turns: ' . join(', ', @turns));

# Dropped tables leave nothing.
my $rows = q{SELECT count(*) FROM kafka.producer_snapshot};
$node->safe_psql('postgres', q{SELECT kafka.drop_topic('t'), kafka.drop_topic('big')});
is($node->safe_psql('postgres', $rows), 0, 'rows go away with their tables');
$node->safe_psql('postgres', q{CREATE ROLE nobody});
my (undef, undef, $error) = $node->psql('postgres', "SET ROLE nobody; $rows");
like($error, qr/permission denied for table producer_snapshot/, 'not for everybody');

$node = $primary;
KafkaPg::done();
