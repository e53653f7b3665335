# Batches that become much when they are decompressed: on the wire, and where SQL reads them.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

# One broker: whoever is disturbed by another's batch is disturbed here.
my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 1\n");

$node->wait_for_kafka;
KafkaWire::run($node, 'bombs');
KafkaPg::done();
