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
KafkaPg::done();
