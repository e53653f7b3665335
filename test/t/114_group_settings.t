# Settings of consumer groups, and groups' own configs.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 1\n");

KafkaWire::run($node, 'group_settings');
$node->restart;
KafkaWire::run($node, 'group_settings', 'after_restart');
KafkaPg::done();
