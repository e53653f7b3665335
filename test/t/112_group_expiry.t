# Offsets of consumer groups expire, and groups of which nothing is left; offsets of dropped topics
# go with them.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'EOF');
kafka_pg.brokers = 2
kafka_pg.offset_retention = 1min
kafka_pg.offset_expiry_interval = 200ms
EOF

$node->create_stop_functions;
KafkaWire::run($node, 'group_expiry');
KafkaPg::done();
