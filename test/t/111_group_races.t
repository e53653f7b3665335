# Consumer groups on two broker processes: what one has checked may have changed when it writes.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 2\n");

$node->create_stop_functions;
KafkaWire::run($node, 'group_races');
KafkaPg::done();
