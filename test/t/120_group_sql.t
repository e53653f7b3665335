# Consumer groups that SQL sessions and Kafka clients use: who is refused, and what meets in a row.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main',
	conf => "kafka_pg.brokers = 2\nmax_prepared_transactions = 2\n");

KafkaWire::run($node, 'group_sql');
KafkaPg::done();
