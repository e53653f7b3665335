# Nothing blocks a broker's loop: requests that must wait are parked, and others are served.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.test_near_round_trip = 0\n");

$node->safe_psql('postgres', q{SELECT kafka.create_topic(t, 2) FROM unnest('{a,b}'::text[]) t});
KafkaWire::run($node, 'waits');
KafkaPg::done();
