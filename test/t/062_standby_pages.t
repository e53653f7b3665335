# A hot standby between two steps of its primary, and a promoted one whose file ends early.
use strict;
use warnings;

use KafkaPg;
use Test::More;

my $primary = KafkaPg->broker('primary', conf => "autovacuum = off\n");
$primary->create_stop_functions;
my $standby = KafkaPg->standby($primary, 'standby');

sub sql { return $primary->safe_psql('postgres', $_[0]); }

# What is in WAL on the primary is replayed on the standby; a commit has it flushed.
sub catch_up
{
	sql(q{CREATE TABLE flush(); DROP TABLE flush});
	$primary->wait_for_catchup($standby);
	return;
}

my $count = 'SELECT count(*) FROM topics.t';

# ---- a segment was opened, its first batch is not there yet
sql(q{SELECT kafka.create_topic('t', 1, '{"internal.segment.bytes": "60000"}')});
sql(q{SELECT kafka.produce('t', 'a'), kafka.produce('t', repeat('b', 59000))});
sql(q{SELECT kafka_test.stop_arm('klog-segment-after-insert', 'wait')});
my $session = $primary->background_psql('postgres');
$session->query_until(qr/started/, q{
\echo started
SELECT kafka.produce('t', repeat('c', 10000));
});
sql(q{SELECT kafka_test.stop_await('klog-segment-after-insert')});
catch_up();
is($standby->safe_psql('postgres', $count), '2', 'an empty segment hides nothing');
sql(q{SELECT kafka_test.stop_release('klog-segment-after-insert')});
$session->quit;
catch_up();
$standby->poll_query_until('postgres', $count, '3');
is($standby->safe_psql('postgres', $count), '3', 'and is filled');

# ---- a batch is replayed between two looks at the end: onto the page where the last one ends
$standby->safe_psql('postgres', q{SELECT kafka_test.stop_arm('klog-find-tail-next', 'wait')});
sql(q{SELECT kafka.produce('t', repeat('another on two pages, so that the standby looks again', 200))});
catch_up();
my $reader = $standby->background_psql('postgres', on_error_stop => 0);
$reader->query_until(qr/started/, qq{
\\echo started
$count;
});
is($standby->safe_psql('postgres', q{SELECT kafka_test.stop_await('klog-find-tail-next')}), 't',
	'a reader on the standby is at the page behind the first of the last batch');
sql(q{SELECT kafka.produce('t', 'd')});
catch_up();
$standby->safe_psql('postgres', q{SELECT kafka_test.stop_release('klog-find-tail-next')});
$reader->quit;
unlike($reader->{stderr}, qr/corrupt/, 'it does not take what came meanwhile for damage');

# ---- while one session builds the state anew, another one reads on
sql(q{SELECT kafka.create_topic('long', 1)});
sql(q{SELECT count(kafka.produce('long', repeat('x', 1000))) FROM generate_series(1, 3000)});
catch_up();
$standby->poll_query_until('postgres', 'SELECT count(*) = 3000 FROM topics.long');
my $cursor = $standby->background_psql('postgres', on_error_stop => 0);
$cursor->query_safe('BEGIN; DECLARE c CURSOR FOR SELECT "offset" FROM topics.long; FETCH 1 FROM c');
sql(q{SELECT kafka.produce('long', 'y')});
catch_up();
$standby->safe_psql('postgres', q{SELECT kafka_test.stop_arm('klog-build-begin', 'wait')});
$reader = $standby->background_psql('postgres', on_error_stop => 0);
$reader->query_until(qr/started/, q{
\echo started
SELECT count(*) FROM topics.long;
});
is($standby->safe_psql('postgres', q{SELECT kafka_test.stop_await('klog-build-begin')}), 't',
	'a session builds');
my $rows = () = $cursor->query('FETCH ALL FROM c') =~ /^\d+$/mg;
is($rows, 2999, 'the other one reads to its end');
$standby->safe_psql('postgres', q{SELECT kafka_test.stop_release('klog-build-begin')});
$reader->quit;
$cursor->quit;

# ---- the first append to a file ended before its header and its segment were there
sql(q{SELECT kafka.create_topic('v', 2)});
sql(q{SELECT kafka_test.stop_arm('klog-segment-before-insert', 'error')});
$primary->psql('postgres', q{SELECT kafka.produce('v', 'never', partition => 0)});
catch_up();
$primary->stop('immediate');
$standby->promote;
$standby->safe_psql('postgres', q{SELECT kafka.produce('v', 'one', partition => 1)});
$standby->safe_psql('postgres', q{SELECT kafka.produce('v', 'two', partition => 0)});
is($standby->safe_psql('postgres',
		q{SELECT string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY partition) FROM topics.v}),
	'two one', 'a promoted standby makes what is missing');
is($standby->safe_psql('postgres', $count), '5', 'and has everything else');

KafkaPg::done();
