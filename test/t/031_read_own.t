# Who commits and then looks sees its records, whatever others are just doing; and the high
# watermark is never left behind.
use strict;
use warnings;

use IPC::Run ();
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main');
$node->create_stop_functions;
$node->safe_psql('postgres', q{SELECT kafka.create_topic('t')});

sub seen
{
	my ($sql) = @_;
	return $node->safe_psql('postgres',
		$sql . q{; SELECT string_agg(kafka.to_text(value), ',' ORDER BY "offset") FROM topics.t});
}

# The flusher has taken the partition off the list of those whose watermark is to move, and has not
# come to moving it.
$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('klog-publish-taken', 'wait')});
$node->safe_psql('postgres', q{SET synchronous_commit = off; SELECT kafka.produce('t', 'one')});
is($node->safe_psql('postgres', q{SELECT kafka_test.stop_await('klog-publish-taken')}), 't',
	'the flusher stands in the middle of it');
like(seen(q{SELECT kafka.produce('t', 'two')}), qr/one,two$/, 'a session sees what it committed');
like(seen(q{BEGIN; SELECT kafka.produce('t', 'three'); SAVEPOINT a; SELECT kafka.produce('t', 'four');
	ROLLBACK TO a; SELECT kafka.produce('t', 'five'); COMMIT}), qr/one,two,three,five$/,
	'what of it was not rolled back');

# Another transaction before it is not over: nobody reads past that.
my $other = $node->background_psql('postgres');
$other->query_until(qr/begun/, q{
BEGIN;
SET kafka_pg.produce_buffer_size = '64kB';
INSERT INTO topics.t (value) SELECT 'x' FROM generate_series(1, 3);
\echo begun
});
like(seen(q{SELECT kafka.produce('t', 'six')}), qr/five,six$/, 'one that has appended nothing yet');
$other->query_until(qr/ended/, q{
COMMIT;
\echo ended
});
$other->quit;
is($node->safe_psql('postgres', q{SELECT kafka_test.stop_release('klog-publish-taken')}), 't',
	'released');
is(seen(q{SELECT 1 WHERE false}), 'one,two,three,five,six,x,x,x', 'all of it');

# A broker has written its WAL record, and others' flush overtakes it before it says so.
$node->safe_psql('postgres', q{SELECT kafka.create_topic('overtaken')});
$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('klog-append-inserted', 'wait')});
my $line = $node->basedir . '/line';
append_to_file($line, "late\n");
my $kcat = IPC::Run::start(
	[ 'kcat', '-b', $node->bootstrap, '-P', '-t', 'overtaken', '-X', 'acks=all', '-l', $line ],
	'>', \my $out, '2>', \my $err);
is($node->safe_psql('postgres', q{SELECT kafka_test.stop_await('klog-append-inserted')}), 't',
	'a broker stands behind its WAL record');
$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('klog-append-inserted', 'wait', 1000)});
$node->safe_psql('postgres', q{SELECT kafka.produce('t', 'overtakes')});
$node->safe_psql('postgres', q{SELECT kafka_test.stop_release('klog-append-inserted')});
ok($kcat->finish, 'and answers') or diag($err);
ok($node->poll_query_until('postgres',
	q{SELECT high_watermark = 1 FROM kafka.partitions WHERE topic = 'overtaken'}),
	'what is acknowledged can be read');
KafkaPg::done();
