# A batch that nobody may read hides what is behind it from a search by time: the log is read on
# from there, from disk, and to an end.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $records = 20000;
my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 1\nshared_buffers = 4MB\n");

$node->create_stop_functions;
$node->safe_psql('postgres', q{SELECT kafka.create_topic('d', 1,
	'{"segment.bytes": "4194304", "message.timestamp.after.max.ms": "9223372036854775807"}')});
$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('ktable-after-append', 'error')});
my ($code, $out, $err) = $node->psql('postgres',
	q{SELECT kafka.produce('d', 'dead', "timestamp" => '2100-01-01 00:00:00+00')});
like($err, qr/stop point/, 'a commit that fails after its append');
$node->safe_psql('postgres', q{SELECT kafka_test.stop_release('ktable-after-append')});
$node->safe_psql('postgres', qq{
	SELECT count(kafka.produce('d', repeat('x', 1000), "timestamp" => to_timestamp(g)))
	FROM generate_series($_ * 1000 + 1, $_ * 1000 + 1000) g}) for 0 .. $records / 1000 - 1;
is($node->safe_psql('postgres', 'SELECT min("offset"), max("offset") FROM topics.d'), "1|$records",
	'the failed one is not shown');

$ENV{KWIRE_RECORDS} = $records;
KafkaWire::run($node, 'times');
$node->restart;
KafkaWire::run($node, 'times');
is($node->safe_psql('postgres', q{SELECT kafka.offset_at('d', 0, '2099-01-01')}), '',
	'the same in SQL');
KafkaPg::done();
