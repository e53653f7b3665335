# What is wrong with one group in a table does not concern the next one of that name, nor others.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'EOF');
kafka_pg.brokers = 1
kafka_pg.group_initial_rebalance_delay = 0
EOF

KafkaWire::run($node, 'group_damage', 'damage');
$node->restart;
KafkaWire::run($node, 'group_damage', 'begin_anew');
like(slurp_file($node->logfile), qr/could not restore 1 consumer groups/, 'the log tells');
my $length = -s $node->logfile;
$node->restart;
KafkaWire::run($node, 'group_damage', 'go_on');
unlike(slurp_file($node->logfile, $length), qr/could not restore/, 'not after the next start');
KafkaPg::done();
