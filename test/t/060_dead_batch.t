# Batches of transactions that failed after they had appended: nobody sees them, everybody gets
# past them, also where nothing follows.
use strict;
use warnings;

use KafkaPg;
use Test::More;

my $node = KafkaPg->broker('main');
$node->create_stop_functions;

sub watermark_is
{
	my ($topic, $offset, $name) = @_;

	ok($node->poll_query_until('postgres',
			"SELECT high_watermark = $offset FROM kafka.partitions WHERE topic = '$topic'"), $name);
	return;
}

$node->safe_psql('postgres', q{SELECT kafka.create_topic('t', 1)});
$node->safe_psql('postgres', q{SELECT kafka.produce('t', i::text) FROM generate_series(0, 2) i});
$node->append_in_vain('t', 100);
watermark_is('t', 103, 'the watermark passes a dead batch at the end, with nobody else writing');
is($node->offsets_from('t', 0), '0 1 2', 'a client reads what is before it, and comes to the end');
is($node->offsets_from('t', $_), '', "a client that starts at $_ comes to the end") for 3, 50, 102;

$node->safe_psql('postgres', q{SELECT kafka.produce('t', i::text) FROM generate_series(3, 5) i});
watermark_is('t', 106, 'what follows is visible');
is($node->offsets_from('t', 0), '0 1 2 103 104 105', 'a client steps over the dead batch');
is($node->offsets_from('t', 50), '103 104 105', 'also from within it');
is($node->safe_psql('postgres', q{SELECT array_agg(value_text) FROM kafka.fetch('t', 0, 0)
		CROSS JOIN LATERAL convert_from(value, 'UTF8') value_text}),
	'{0,1,2,3,4,5}', 'and so does SQL');

# Nobody but the dead batch, and a crash.
$node->safe_psql('postgres', q{SELECT kafka.create_topic('only', 1)});
$node->append_in_vain('only', 1);
watermark_is('only', 1, 'a partition with nothing else');
is($node->offsets_from('only', 0), '', 'has nothing to read');
$node->stop('immediate');
$node->start;
watermark_is('only', 1, 'and after a crash');
watermark_is('t', 106, 'the other one, too');
is($node->offsets_from('t', 0), '0 1 2 103 104 105', 'is as it was');

KafkaPg::done();
