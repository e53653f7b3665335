# Leader epochs over several promotions: OffsetForLeaderEpoch, diverging fetches and fenced clients;
# then the same with pages that are on disk.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $primary = KafkaPg->broker('primary');
$primary->safe_psql('postgres', q{SELECT kafka.create_topic('e', 4, '{"segment.bytes": "1048576"}')});
my $node = KafkaPg->standby($primary, 'standby');
$ENV{KWIRE_STATE} = $node->basedir . '/epochs.json';

# The first primary goes on for a moment without its standby, which then takes its place.
KafkaWire::run($primary, 'epochs', $_) for qw(write_first ends);
$primary->wait_for_catchup($node, 'replay', $primary->lsn('insert'));
$node->stop;
KafkaWire::run($primary, 'epochs', 'write_lost');
$primary->stop('immediate');
$node->start;
$node->wait_for_kafka;
KafkaWire::run($node, 'epochs', 'promoted_while_asked');
$node->wait_for_kafka;
KafkaWire::run($node, 'epochs', $_) for qw(after_loss ends write_second ends);

# Another timeline, and another: a server that recovers as a standby and is promoted
sub promote_again
{
	$node->stop;
	$node->set_standby_mode;
	$node->start;
	$node->promote;
	$node->wait_for_kafka;
	return;
}
promote_again();
KafkaWire::run($node, 'epochs', 'write_third');
KafkaWire::run($node, 'epochs', 'ends', 'diverging', 'believed', 'times');
promote_again();
KafkaWire::run($node, 'epochs', 'ends', 'diverging');

unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/ERROR: /,
	'clients of a standby are in nobody\'s way when it is promoted');

# Nothing in shared buffers, and never much
$node->create_stop_functions;
$node->append_conf('postgresql.conf', <<'CONF');
shared_buffers = 2MB
kafka_pg.brokers = 1
kafka_pg.readers = 1
CONF
$node->restart;
$node->wait_for_kafka;
KafkaWire::run($node, 'epochs', 'parked');
for my $test (qw(times ends diverging))
{
	$node->restart;
	$node->wait_for_kafka;
	KafkaWire::run($node, 'epochs', $test);
}
KafkaPg::done();
