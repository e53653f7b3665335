# Produce, Fetch and ListOffsets byte by byte, in every version; the clients of a test meet in two
# broker processes.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 2\n");

KafkaWire::run($node, 'produce');
KafkaWire::run($node, 'fetch');

# What was written byte by byte is there for SQL, and after a crash; from now on everybody is near.
my $count = q{SELECT sum(end_offset - log_start) FROM kafka.partitions};
my $before = $node->safe_psql('postgres', $count);
ok($before > 100, "$before records are in the log");
$node->stop('immediate');
$node->append_conf('postgresql.conf', "kafka_pg.test_near_round_trip = 2147483647\n");
$node->start;
is($node->safe_psql('postgres', $count), $before, 'and after a crash');
KafkaWire::run($node, 'produce', 'versions', 'idempotent_producer');
KafkaWire::run($node, 'turns');
KafkaPg::done();
