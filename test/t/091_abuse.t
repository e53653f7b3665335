# Clients that misuse the server, in great numbers, beside one that does not.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'CONF');
kafka_pg.max_connections = 600
kafka_pg.max_connections_per_address = 400
kafka_pg.max_request_size = 8MB
kafka_pg.max_inflight_bytes = 32MB
kafka_pg.connection_idle_timeout = 3s
CONF

$node->wait_for_kafka;
KafkaWire::run($node, 'abuse');
KafkaPg::done();
