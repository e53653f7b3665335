# Very many groups and offsets in one request.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'EOF');
kafka_pg.brokers = 2
kafka_pg.group_initial_rebalance_delay = 0
EOF

KafkaWire::run($node, 'group_many');
KafkaPg::done();
