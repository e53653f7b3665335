# Consumer groups: members come and go, offsets are committed, a broker is killed; three broker
# processes, so that members of one group are served by different ones.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 3\n");

$node->expect_crashes;
KafkaWire::run($node, '../clients/groups');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT group_id) FROM kafka.group_offset'),
	'2', 'offsets are rows');

KafkaPg::done();
