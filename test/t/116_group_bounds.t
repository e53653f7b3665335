# Bounds of consumer groups: their number, their memory, sizes and times that clients may ask for.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'EOF');
kafka_pg.brokers = 2
kafka_pg.max_groups = 20
kafka_pg.group_memory = 1MB
kafka_pg.max_offset_metadata = 100
kafka_pg.group_max_bytes = 110000B
kafka_pg.group_max_size = 2
kafka_pg.group_min_session_timeout = 7s
kafka_pg.group_max_session_timeout = 60s
kafka_pg.offset_expiry_interval = 200ms
EOF

KafkaWire::run($node, 'group_bounds');
KafkaPg::done();
