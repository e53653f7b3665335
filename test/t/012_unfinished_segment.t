# What an append leaves behind when it ends between opening a segment and writing to it, and what
# a rolled back change of a table's file leaves in shared memory.
use strict;
use warnings;

use KafkaPg;
use Test::More;

my $node = KafkaPg->broker('main', conf => "autovacuum = off\n");
$node->expect_crashes;
$node->create_stop_functions;

sub sql { return $node->safe_psql('postgres', $_[0]); }

# An append that fails just after its segment was opened.
sub fail_append
{
	my ($sql) = @_;

	$node->psql('postgres', qq{SELECT kafka_test.stop_arm('klog-segment-after-insert', 'error');
		$sql});
	sql(q{SELECT kafka_test.stop_release('klog-segment-after-insert')});
	return;
}

sub read_by
{
	my ($topic, $how) = @_;

	return sql(qq{SELECT string_agg("offset" || ' ' || convert_from(value, 'UTF8'), ',' ORDER BY "offset")
		FROM topics.$topic}) if $how eq 'SQL';
	my $out = $node->kcat(qw(-C -e -q -p 0 -o beginning -f), '%o %s,', '-t', $topic);
	$out =~ s/,$//;
	return $out;
}

# ---- a crash leaves an empty segment at the end
sql(q{SELECT kafka.create_topic('roll', 1, '{"internal.segment.bytes": "100"}')});
sql(qq{SELECT kafka.produce('roll', '$_')}) for 0 .. 2;
sql(q{SELECT kafka_test.stop_arm('klog-segment-after-insert', 'wait')});
my $session = $node->background_psql('postgres');
$session->query_until(qr/started/, qq{\\echo started\nSELECT kafka.produce('roll', 'never');\n});
sql(q{SELECT kafka_test.stop_await('klog-segment-after-insert')});
# a commit flushes what the other session has logged
sql(q{CREATE TABLE flush()});
$node->stop('immediate');
$session->{run}->kill_kill;
$node->start;
is(read_by('roll', 'SQL'), '0 0,1 1,2 2', 'SQL reads what is before an empty segment');
is(read_by('roll', 'kcat'), '0 0,1 1,2 2', 'and so does a client');
sql(q{SELECT kafka.produce('roll', '3')});
is(read_by('roll', 'SQL'), '0 0,1 1,2 2,3 3', 'the empty segment is used');
is(sql(q{SELECT string_agg(problem, ', ') FROM kafka.check_topic('topics.roll')}), '', 'without problems');

# ---- an append with explicit offsets fails: its segment begins where it wanted to
sql(q{SELECT kafka.create_topic('gap', 1, '{"internal.segment.bytes": "100"}')});
sql(q{SELECT kafka.produce('gap', 'zero')});
fail_append(q{INSERT INTO topics.gap (partition, "offset", value) VALUES (0, 1000, 'never')});
sql(q{SELECT kafka.produce('gap', 'next')});
like(read_by('gap', 'SQL'), qr/^0 zero,\d+ next$/, 'what is produced then can be read');
is(sql(q{SELECT string_agg(problem, ', ') FROM kafka.check_topic('topics.gap')}), '', 'without problems');

# and after a restart, which takes the map's word for where the log ends
sql(q{SELECT kafka.create_topic('end', 1, '{"internal.segment.bytes": "100"}')});
sql(q{SELECT kafka.produce('end', 'zero')});
fail_append(q{INSERT INTO topics.end (partition, "offset", value) VALUES (0, 1000, 'never')});
$node->restart;
$node->wait_for_kafka;
is(sql(q{SELECT high_watermark FROM kafka.partitions WHERE topic = 'end'}), '1000', 'the log goes on there');
is(read_by('end', 'kcat'), '0 zero', 'a client reads up to the end, where nothing is');
is(read_by('end', 'SQL'), '0 zero', 'and so does SQL');
is($node->kcat(qw(-C -e -q -p 0 -o 500 -t end)), '', 'also from the middle of the gap');
sql(q{SELECT kafka.produce('end', 'next')});
is(read_by('end', 'kcat'), '0 zero,1000 next', 'and over it');
ok($node->poll_query_until('postgres',
		q{SELECT next_offset >= 1000 FROM kafka.partition WHERE "table" = 'topics.end'::regclass}),
	'a dump knows that these offsets were told of');

sql(q{SELECT kafka.create_topic('first', 1)});
fail_append(q{INSERT INTO topics.first (partition, "offset", value) VALUES (0, 1000, 'never')});
sql(q{SELECT kafka.produce('first', 'next')});
like(read_by('first', 'SQL'), qr/^\d+ next$/, 'also in the first segment of all');
is(sql(q{SELECT string_agg(problem, ', ') FROM kafka.check_topic('topics.first')}), '', 'without problems');

# ---- a new file that is rolled back
sql(q{CREATE TABLE topics.file (LIKE topics.roll) USING kafka_log});
sql(q{BEGIN; TRUNCATE topics.file; INSERT INTO topics.file (partition, "offset", value) VALUES (0, 5, 'x');
	ROLLBACK});
$session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; INSERT INTO topics.file (partition, "offset", value) VALUES (0, 0, 'open')});
is(sql(q{SELECT string_agg(problem, ', ') FROM kafka.check_topic('topics.file')}), '',
	'its watermark is not that of the file that stays');
$session->query_safe('ROLLBACK');
$session->quit;

KafkaPg::done();
