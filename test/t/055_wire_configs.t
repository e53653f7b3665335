# DescribeConfigs, and who may.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main');

KafkaWire::run($node, 'config', 'topic_configs');
KafkaWire::run($node, 'config', 'broker_configs');
KafkaWire::run($node, 'config', 'mistakes');

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE clients;
GRANT USAGE ON SCHEMA topics TO clients;
SELECT kafka.create_topic(t) FROM unnest('{readable,hidden}'::text[]) t;
GRANT SELECT ON topics.readable TO clients;
ALTER SYSTEM SET kafka_pg.anonymous_role = 'clients';
SQL
$node->reload;
KafkaWire::run($node, 'config', 'limited_role');

KafkaPg::done();
