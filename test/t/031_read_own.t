# Who commits and then looks sees its records, whatever others are just doing.
use strict;
use warnings;

use KafkaPg;
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
KafkaPg::done();
