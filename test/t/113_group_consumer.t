# The consumer protocol (KIP-848) with three broker processes: one of them is killed at the end.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 3\n");

$node->expect_crashes;
KafkaWire::run($node, 'group_consumer');
KafkaPg::done();
