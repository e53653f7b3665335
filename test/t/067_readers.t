# Nothing blocks a broker's loop: states of partitions, pages that are not in shared buffers and
# idempotent producers are read by reader processes, and others are served meanwhile.
use strict;
use warnings;

use KafkaPg;
use Test::More;

# One broker: what it serves, it serves beside what it waits for.
my $node = KafkaPg->broker('main', conf => <<'CONF');
kafka_pg.brokers = 1
kafka_pg.readers = 2
shared_buffers = 4MB
autovacuum = off
CONF
$node->expect_crashes;
$node->create_stop_functions;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub arm { return sql("SELECT kafka_test.stop_arm('$_[0]', '$_[1]')"); }
sub await { return is(sql("SELECT kafka_test.stop_await('$_[0]')"), 't', $_[1]); }
sub release { return sql("SELECT kafka_test.stop_release('$_[0]')"); }

my @read = (qw(-C -e -q -p 0 -o beginning -f), '%s,');
sub consumed { return $node->kcat(@read, '-t', $_[0]); }

# What a client with this input does in the background, and what comes of it.
sub client
{
	my ($in, @arguments) = @_;
	my %client = (out => '', err => '');

	$client{run} = IPC::Run::start(
		[ 'sh', '-c', 'printf "$0" | kcat "$@"', $in, '-b', $node->bootstrap, @arguments ],
		'>', \$client{out}, '2>', \$client{err}, IPC::Run::timeout(180));
	return \%client;
}

sub result
{
	my ($client) = @_;

	$client->{run}->finish;
	return $client->{err} . $client->{out};
}

# SQL builds the state of this one, and reads its pages.
sub serves_others
{
	my ($what) = @_;

	$node->kcat({ in => "b\n" }, qw(-P -p 0 -t quick));
	return like(consumed('quick'), qr/^a,(b,)+$/, "others are served: $what");
}

sub warm { return sql(q{SELECT count(*) FROM topics.quick}); }

# Everything that is in shared buffers makes room for this.
sub evict { return sql(q{UPDATE big SET x = x + 1; UPDATE big SET x = x + 1}); }

sql(q{SELECT kafka.create_topic('quick'), kafka.create_topic('slow', 1, '{"internal.segment.bytes": "100"}'),
	kafka.create_topic('gone')});
sql(q{SELECT kafka.produce('quick', 'a')});
sql(qq{SELECT kafka.produce('slow', '$_')}) for 1 .. 230;
sql(q{SELECT kafka.produce('gone', 'x')});
sql(q{CREATE TABLE big AS SELECT g AS x, repeat('x', 500) AS y FROM generate_series(1, 16000) g});
my $all = join('', map { "$_," } 1 .. 230);

# ---- a build that takes its time, before and under the partition's lock
for my $point (qw(klog-reader-attach klog-build-begin))
{
	$node->restart;
	$node->wait_for_kafka;
	warm();
	arm($point, 'wait');
	my $client = client('', @read, '-t', 'slow');
	await($point, "a reader builds what the broker has asked for: $point");
	my $producer = client("231\n", qw(-P -p 0 -t slow));
	serves_others($point);
	release($point);
	like(result($client), qr/^$all/, 'and who waited has it all');
	is(result($producer), '', 'a producer, too');
	$all .= '231,';
}

# ---- a reader that ends in the middle of it
for my $action (qw(error fatal kill))
{
	$node->restart;
	$node->wait_for_kafka;
	warm();
	arm('klog-build-begin', $action);
	my $client;
	if ($action eq 'kill')
	{
		$node->crash(sub { $client = client('', @read, '-t', 'slow') });
		$client->{run}->kill_kill;
		$node->wait_for_kafka;
		is(consumed('slow'), $all, 'kill: read when the server has started again');
		next;
	}
	$client = client('', @read, '-t', 'slow');
	await('klog-build-begin', "a reader meets $action");
	serves_others("after $action");
	release('klog-build-begin');
	# after an error it is told that the partition cannot be read, and tries again
	is(result($client), $all, 'the client does not notice');
}

# ---- a topic that is dropped meanwhile
$node->restart;
$node->wait_for_kafka;
warm();
arm('klog-reader-attach', 'wait');
my $client = client('', @read, '-t', 'gone');
await('klog-reader-attach', 'a reader is about to build');
my $session = $node->background_psql('postgres');
$session->query_until(qr/started/, qq{\\echo started\nDROP TABLE topics.gone;\n});
serves_others('while DROP waits for the reader');
release('klog-reader-attach');
$session->quit;
is(sql(q{SELECT to_regclass('topics.gone') IS NULL}), 't', 'dropped');
$client->{run}->kill_kill;
serves_others('after the drop');

# ---- pages that are not in shared buffers: header, map, heads, data
consumed('slow');
evict();
warm();
arm('klog-reader-pages', 'wait');
$client = client('', @read, '-t', 'slow');
await('klog-reader-pages', 'the way to old segments comes from disk by a reader');
serves_others('while pages come');
release('klog-reader-pages');
is(result($client), $all, 'all is read');

evict();
warm();
arm('klog-reader-pages', 'wait');
$client = client("232\n", qw(-P -p 0 -t slow));
await('klog-reader-pages', 'so does what an append needs');
serves_others('while they come');
release('klog-reader-pages');
is(result($client), '', 'appended');
is(consumed('slow'), $all . '232,', 'and there');

evict();
like($node->kcat('-Q', '-t', 'slow:0:-2'), qr/offset 0\b/, 'offsets are looked up on cold pages');
like($node->kcat('-Q', '-t', 'slow:0:1'), qr/offset 0\b/, 'by time, too');

# ---- idempotent producers
$node->restart;
$node->wait_for_kafka;
consumed('slow');
warm();
arm('kproducer-rebuild', 'wait');
$client = client("233\n", qw(-P -p 0 -t slow -X enable.idempotence=true));
await('kproducer-rebuild', 'a reader learns the producers');
serves_others('while they are learnt');
is($node->kcat({ in => "plain\n" }, qw(-P -p 0 -t slow)), '', 'also who appends to the same partition');
release('kproducer-rebuild');
is(result($client), '', 'the idempotent batch is appended');
is(consumed('slow'), $all . '232,plain,233,', 'once');
is($node->problems, '', 'no problem');

KafkaPg::done();
