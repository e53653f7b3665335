# A hot standby: topics are read there in SQL up to the primary's watermark, and no further;
# after promotion it goes on as a primary.
use strict;
use warnings;

use IO::Socket::INET;
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = KafkaPg->broker('primary');
my $standby = KafkaPg->standby($primary, 'standby', conf => "kafka_pg.node_id = 2\n");

sub values_on
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		q{SELECT string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY "offset") FROM topics.t});
}

sub wait_for
{
	my ($expected, $test) = @_;
	$standby->poll_query_until('postgres',
		q{SELECT string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY "offset") FROM topics.t}, $expected);
	is(values_on($standby), $expected, $test);
	return;
}

$primary->safe_psql('postgres', q{SELECT kafka.create_topic('t')});
$primary->wait_for_catchup($standby);
is(values_on($standby), '', 'an empty topic');

$primary->safe_psql('postgres', q{SELECT kafka.produce('t', 'one')});
wait_for('one', 'the last record before a pause arrives too');

# One that is committed later than one behind it
my $session = $primary->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT kafka.produce('t', 'two')});
$primary->safe_psql('postgres', q{SELECT kafka.produce('t', 'three')});
wait_for('one three', 'committed first, there first');
$session->query_safe('COMMIT');
wait_for('one three two', 'the order is the order of commits');
$session->quit;

# An aborted batch in the middle: a commit that fails after its append
$primary->create_stop_functions;
$primary->safe_psql('postgres', q{SELECT kafka_test.stop_arm('ktable-after-append', 'error')});
$primary->psql('postgres', q{SELECT kafka.produce('t', 'dead')});
$primary->safe_psql('postgres', q{SELECT kafka_test.stop_release('ktable-after-append')});
$primary->safe_psql('postgres', q{SELECT kafka.produce('t', 'four')});
wait_for('one three two four', 'a dead batch is not shown');

my $offsets = q{SELECT log_start, high_watermark FROM kafka.partitions WHERE topic = 't'};
is($standby->safe_psql('postgres', $offsets), $primary->safe_psql('postgres', $offsets),
	'the watermarks are the same');

# Waiting on the standby
my $waiter = $standby->background_psql('postgres');
$waiter->{stdin} .= qq{CALL kafka.wait('t', 0, 5, '60 s'); SELECT 'woken';\n};
$waiter->{run}->pump_nb;
$primary->safe_psql('postgres', q{SELECT kafka.produce('t', 'five')});
like($waiter->query('SELECT 1'), qr/woken/, 'a wait on the standby ends when the record is there');
$waiter->quit;

my ($code, $out, $err) = $standby->psql('postgres', q{SELECT kafka.produce('t', 'here')});
isnt($code, 0, 'producing on a standby is refused');
is($standby->problems, '', 'the standby finds no problem in its topics');

# Many small ones, in several segments, while the standby is read all the time
$primary->safe_psql('postgres', q{SELECT kafka.create_topic('many', 2, '{"segment.bytes": "1048576"}')});
$primary->wait_for_catchup($standby);
my $last = 0;
for my $round (1 .. 20)
{
	$primary->safe_psql('postgres', q{SELECT count(kafka.produce('many', repeat('x', 500), g::text))
		FROM generate_series(1, 500) g});
	my $n = $standby->safe_psql('postgres', 'SELECT count(*) FROM topics.many');
	die "$n after $last" if $n < $last;
	$last = $n;
}
$standby->poll_query_until('postgres', 'SELECT count(*) = 10000 FROM topics.many') or die 'not all arrived';
is($standby->safe_psql('postgres', q{SELECT count(*), count(DISTINCT (partition, "offset")) FROM topics.many}),
	'10000|10000', 'all of a load, once');

# The wire: brokers of the standby serve what is read
sub consumed
{
	my ($node) = @_;
	return $node->kcat('-C', '-t', 't', '-p', '0', '-o', 'beginning', '-e', '-q', '-f', '%s ');
}
$standby->poll_query_until('postgres',
	q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'kafka broker%'}) or die 'no broker';
is(consumed($standby), 'one three two four five ', 'a Kafka client reads on the standby');
my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $standby->kafka_port);
ok($standby->poll_query_until('postgres', 'SELECT count(*) = 1 FROM kafka.stat_connection WHERE client_port = '
	. $client->sockport), 'clients of the standby are shown there');
close $client;
like($standby->kcat('-L', '-t', 't'), qr/broker 2 at [^\n]*\n[^\n]*\n.*partition 0, leader 2, replicas: 2/s,
	'the primary is not known: the standby names itself');
is($standby->kcat('-Q', '-t', 't:0:-1'), $primary->kcat('-Q', '-t', 't:0:-1'), 'the same latest offset');
($code, $out, $err) = $standby->kcat({ ok => 0, in => "x\n" }, '-P', '-t', 't', '-p', '0', '-X',
	'message.timeout.ms=3000', '-X', 'topic.message.timeout.ms=3000');
isnt($code, 0, 'producers are refused there');
is(consumed($primary), 'one three two four five ', 'and nothing arrived');

$primary->append_conf('postgresql.conf',
	"kafka_pg.advertised_listeners = 'PLAINTEXT://" . $primary->bootstrap . "'");
$primary->restart;
$standby->poll_query_until('postgres', 'SELECT count(*) = 1 FROM kafka.node WHERE leads') or die 'no node';
like($standby->kcat('-L', '-t', 't'), qr/partition 0, leader 1, replicas: 2,1/, 'the primary leads');
is($standby->kcat({ in => "five-b\n" }, '-P', '-t', 't', '-p', '0'), '', 'a producer is sent there');
wait_for('one three two four five five-b', 'and what it wrote comes back');

$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'promotion';
is(values_on($standby), 'one three two four five five-b', 'after promotion');
$standby->safe_psql('postgres', q{SELECT kafka.produce('t', 'six')});
is(values_on($standby), 'one three two four five five-b six', 'and it can be written');
$standby->poll_query_until('postgres',
	q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'kafka flusher'}) or die 'no flusher';
my $tries = 0;
do
{
	($code, $out, $err) = $standby->kcat({ ok => 0, in => "seven\n" }, '-P', '-t', 't', '-p', '0',
		'-X', 'message.timeout.ms=10000');
} while ($code != 0 && ++$tries < 5);
is($code, 0, 'on the wire too');
is(consumed($standby), 'one three two four five five-b six seven ', 'and read');

KafkaPg::done();
