# The cache of fetch sessions: its bounds, and which session makes room for which.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'CONF');
kafka_pg.brokers = 1
kafka_pg.max_fetch_sessions = 3
kafka_pg.test_fetch_session_age = 3s
CONF

KafkaWire::run($node, 'sessions');
KafkaPg::done();
