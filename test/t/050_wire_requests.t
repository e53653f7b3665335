# Requests byte by byte: frames, metadata, topics, in every version.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 2\nkafka_pg.auto_create_topics = on\n");

KafkaWire::run($node, 'framing');
KafkaWire::run($node, 'metadata');
KafkaWire::run($node, 'topics');

$node->safe_psql('postgres', q{ALTER SYSTEM SET kafka_pg.advertised_listeners = 'PLAINTEXT://broker.example:19092'});
$node->safe_psql('postgres', q{ALTER SYSTEM SET kafka_pg.rack = 'r1'});
$node->reload;
KafkaWire::run($node, 'metadata', 'advertised');
KafkaPg::done();
