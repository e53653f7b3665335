# kafka.stat_connection: one row a connection, who sees what, and connections whose process is gone.
use strict;
use warnings;

use IO::Socket::INET;
use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.brokers = 2\n");
$node->wait_for_kafka;

KafkaWire::run($node, 'connections');

# A real client
$node->safe_psql('postgres', q{SELECT kafka.create_topic('t')});
my ($out, $err);
my $consumer = IPC::Run::start(
	[ 'kcat', '-b', $node->bootstrap, '-C', '-t', 't', '-X', 'client.id=reading', '-u' ],
	'>', \$out, '2>', \$err, IPC::Run::timeout(120));
$node->poll_query_until('postgres', <<'SQL') or die 'no consumer';
SELECT count(*) > 0 FROM kafka.stat_connection
 WHERE client_id = 'reading' AND client_software_name = 'librdkafka' AND parked_requests = 1
SQL
like($node->safe_psql('postgres', q{
	SELECT client_software_version, requests > 1, bytes_received > 100, bytes_sent > 100,
		last_request BETWEEN connected AND clock_timestamp()
	FROM kafka.stat_connection WHERE client_id = 'reading' AND parked_requests = 1}),
	qr/^[0-9][0-9.]+\|t\|t\|t\|t$/, 'what librdkafka says of itself');

# Who sees what
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE clients;
GRANT USAGE ON SCHEMA topics TO clients;
GRANT SELECT ON topics.t TO clients;
CREATE ROLE stranger LOGIN;
CREATE ROLE member LOGIN IN ROLE clients;
CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
ALTER SYSTEM SET kafka_pg.anonymous_role = 'clients';
SQL
$node->reload;
my $columns = q{role, client_id, client_addr, client_port > 0, client_software_name,
	client_software_version IS NULL, connected IS NULL, last_request IS NULL, requests IS NULL,
	parked_requests, bytes_received IS NULL, bytes_sent IS NULL};
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM kafka.stat_connection
	WHERE client_id = 'reading' AND role = 'clients' AND parked_requests = 1}) or die 'the role has not changed';
for my $case (
	[ 'stranger', 'clients|reading||||t|t|t|t||t|t' ],
	map { [ $_, 'clients|reading|127.0.0.1|t|librdkafka|f|f|f|f|1|f|f' ] } qw(member monitor))
{
	my ($role, $expected) = @$case;
	is($node->safe_psql('postgres', "SELECT $columns FROM kafka.stat_connection
		WHERE client_id = 'reading' AND role = 'clients' AND coalesce(parked_requests, 1) = 1",
		extra_params => [ '-U', $role ]), $expected, "what $role sees");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM kafka.stat_connection s
	WHERE NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = s.pid)}), '0',
	'the pid is that of pg_stat_activity');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET kafka_pg.anonymous_role');
$node->reload;
IPC::Run::kill_kill($consumer);

# A broker that ends with FATAL closes nothing; its rows go, those of the other process stay.
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM kafka.stat_connection') or die 'still there';
my @clients = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->kafka_port) } 1 .. 20;
$node->poll_query_until('postgres', q{SELECT count(*) = 20 FROM kafka.stat_connection}) or die 'not there';
my ($pid, $n) = split /\|/, $node->safe_psql('postgres',
	'SELECT pid, count(*) FROM kafka.stat_connection GROUP BY 1 ORDER BY 2 DESC LIMIT 1');
$node->create_stop_functions;
$node->safe_psql('postgres', q{SELECT kafka_test.stop_arm('kapi-begin-request', 'fatal')});
my ($port) = $node->safe_psql('postgres',
	"SELECT client_port FROM kafka.stat_connection WHERE pid = $pid LIMIT 1");
my ($client) = grep { $_->sockport == $port } @clients;
print $client pack('N nnN n', 10, 18, 0, 1, 0);
$client->flush;
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'alive';
is($node->safe_psql('postgres', 'SELECT count(*) FROM kafka.stat_connection'), 20 - $n,
	'connections of a process that is gone are not shown, others are');
$node->safe_psql('postgres', q{SELECT kafka_test.stop_release('kapi-begin-request')});
close $_ for @clients;
$node->wait_for_kafka;

# As many slots as connections
$node->append_conf('postgresql.conf', "kafka_pg.max_connections = 8\nkafka_pg.max_connections_per_address = 100");
$node->restart;
$node->wait_for_kafka;
KafkaWire::run($node, 'connections', 'bounded');

# After a crash the view is empty, and works
$node->expect_crashes;
my $held = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $node->kafka_port);
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM kafka.stat_connection') or die 'not there';
$node->crash(sub { kill KILL => $node->safe_psql('postgres', 'SELECT min(pid) FROM kafka.stat_connection') });
$node->wait_for_kafka;
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM kafka.stat_connection')
	or die 'connections from before the crash';
KafkaWire::run($node, 'connections', 'one_connection');
KafkaPg::done();
