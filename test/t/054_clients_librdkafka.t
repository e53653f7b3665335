# librdkafka's producers, consumers and admin client; three broker processes.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 3\n");

KafkaWire::run($node, '../clients/librdkafka');

# kcat reads from a server that has just started: nothing is in shared buffers yet.
my $lines = join('', map { "line $_ " . ('x' x ($_ % 700)) . "\n" } 1 .. 20000);
$node->safe_psql('postgres', q{SELECT kafka.create_topic('cold')});
$node->kcat({ in => $lines }, '-P', '-t', 'cold');
$node->restart;
is($node->kcat('-C', '-t', 'cold', '-e', '-q'), $lines, 'records are read from disk');

KafkaPg::done();
