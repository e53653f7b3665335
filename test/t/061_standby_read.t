# A hot standby: topics are read there in SQL up to the primary's watermark, and no further;
# after promotion it goes on as a primary.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = KafkaPg->broker('primary');
my $standby = KafkaPg->standby($primary, 'standby');

sub values_on
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		q{SELECT string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY "offset") FROM topics.t});
}

sub wait_for
{
	my ($expected, $test) = @_;
	$standby->poll_query_until('postgres',
		q{SELECT string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY "offset") FROM topics.t}, $expected);
	is(values_on($standby), $expected, $test);
	return;
}

$primary->safe_psql('postgres', q{SELECT kafka.create_topic('t')});
$primary->wait_for_catchup($standby);
is(values_on($standby), '', 'an empty topic');

$primary->safe_psql('postgres', q{SELECT kafka.produce('t', 'one')});
wait_for('one', 'the last record before a pause arrives too');

# One that is committed later than one behind it
my $session = $primary->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT kafka.produce('t', 'two')});
$primary->safe_psql('postgres', q{SELECT kafka.produce('t', 'three')});
wait_for('one three', 'committed first, there first');
$session->query_safe('COMMIT');
wait_for('one three two', 'the order is the order of commits');
$session->quit;

# An aborted batch in the middle: a commit that fails after its append
$primary->create_stop_functions;
$primary->safe_psql('postgres', q{SELECT kafka_test.stop_arm('ktable-after-append', 'error')});
$primary->psql('postgres', q{SELECT kafka.produce('t', 'dead')});
$primary->safe_psql('postgres', q{SELECT kafka_test.stop_release('ktable-after-append')});
$primary->safe_psql('postgres', q{SELECT kafka.produce('t', 'four')});
wait_for('one three two four', 'a dead batch is not shown');

my $offsets = q{SELECT log_start, high_watermark FROM kafka.partitions WHERE topic = 't'};
is($standby->safe_psql('postgres', $offsets), $primary->safe_psql('postgres', $offsets),
	'the watermarks are the same');

# Waiting on the standby
my $waiter = $standby->background_psql('postgres');
$waiter->{stdin} .= qq{CALL kafka.wait('t', 0, 5, '60 s'); SELECT 'woken';\n};
$waiter->{run}->pump_nb;
$primary->safe_psql('postgres', q{SELECT kafka.produce('t', 'five')});
like($waiter->query('SELECT 1'), qr/woken/, 'a wait on the standby ends when the record is there');
$waiter->quit;

my ($code, $out, $err) = $standby->psql('postgres', q{SELECT kafka.produce('t', 'here')});
isnt($code, 0, 'producing on a standby is refused');
is($standby->problems, '', 'the standby finds no problem in its topics');

# Many small ones, in several segments, while the standby is read all the time
$primary->safe_psql('postgres', q{SELECT kafka.create_topic('many', 2, '{"segment.bytes": "1048576"}')});
$primary->wait_for_catchup($standby);
my $last = 0;
for my $round (1 .. 20)
{
	$primary->safe_psql('postgres', q{SELECT count(kafka.produce('many', repeat('x', 500), g::text))
		FROM generate_series(1, 500) g});
	my $n = $standby->safe_psql('postgres', 'SELECT count(*) FROM topics.many');
	die "$n after $last" if $n < $last;
	$last = $n;
}
$standby->poll_query_until('postgres', 'SELECT count(*) = 10000 FROM topics.many') or die 'not all arrived';
is($standby->safe_psql('postgres', q{SELECT count(*), count(DISTINCT (partition, "offset")) FROM topics.many}),
	'10000|10000', 'all of a load, once');

$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'promotion';
is(values_on($standby), 'one three two four five', 'after promotion');
$standby->safe_psql('postgres', q{SELECT kafka.produce('t', 'six')});
is(values_on($standby), 'one three two four five six', 'and it can be written');

KafkaPg::done();
