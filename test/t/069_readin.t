# Old records come back from the file as they are, many pages with one call, past the kernel's page
# cache or through it; also while what they are is being settled.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'CONF');
kafka_pg.brokers = 1
kafka_pg.readers = 1
shared_buffers = 8MB
autovacuum = off
CONF
$node->create_stop_functions;

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub arm { return sql("SELECT kafka_test.stop_arm('$_[0]', 'wait')"); }
sub await { return is(sql("SELECT kafka_test.stop_await('$_[0]')"), 't', $_[1]); }
sub release { return sql("SELECT kafka_test.stop_release('$_[0]')"); }

# Everything that is in shared buffers makes room for this; what was dirty is in the files.
sub evict { return sql(q{UPDATE big SET x = x + 1; UPDATE big SET x = x + 1; CHECKPOINT}); }

sub lines { return join('', map { sprintf("%s-%d-%s\n", $_[0], $_, 'x' x 1000) } 1 .. $_[1]); }

sub produced { return $node->kcat({ in => $_[1] }, qw(-P -p 0 -t), $_[0]); }

my @read = qw(-C -e -q -p 0 -o beginning);

sub reads_all
{
	my ($topic, $expected, $what) = @_;

	return ok($node->kcat(@read, '-t', $topic) eq $expected, $what);
}

sql(q{CREATE TABLE big AS SELECT g AS x, repeat('x', 500) AS y FROM generate_series(1, 30000) g});
sql(q{SELECT kafka.create_topic('old', 2), kafka.create_topic('mixed')});

# ---- more than shared buffers, with transactions in between
my $old = '';
for my $round (1 .. 8)
{
	my $more = lines("round $round", 1500);

	is(produced('old', $more), '', "round $round");
	$node->kcat({ in => $more }, qw(-P -p 1 -t old));
	$node->append_in_vain('old', 100);
	sql(qq{SELECT kafka.produce('old', 'done $round', partition => 0)});
	$old .= $more . "done $round\n";
}
for my $drop (qw(on off))
{
	sql(qq{ALTER SYSTEM SET kafka_pg.drop_behind = $drop});
	$node->restart;
	$node->wait_for_kafka;
	reads_all('old', $old, "after a start, drop_behind $drop");
	evict();
	reads_all('old', $old, "after others had the buffers, drop_behind $drop");
}
sql(q{ALTER SYSTEM RESET kafka_pg.drop_behind});
$node->restart;
$node->wait_for_kafka;

# ---- a page is settled, written and given away between reading the file and using what was read
my ($before, $after) = (lines('before', 100), lines('after', 100));

produced('mixed', $before);
arm('ktable-after-append');
my $session = $node->background_psql('postgres');
$session->query_until(qr/begun/, q{
\echo begun
SELECT kafka.produce('mixed', 'settled late');
\echo ended
});
await('ktable-after-append', 'a transaction has appended');
produced('mixed', $after);
evict();
arm('klog-readin-read');
my %client = (out => '');
$client{run} = IPC::Run::start([ 'kcat', '-b', $node->bootstrap, @read, '-t', 'mixed' ],
	'>', \$client{out}, IPC::Run::timeout(180));
await('klog-readin-read', 'a reader has read the file');
arm('klog-resolve-before-insert');
release('ktable-after-append');
await('klog-resolve-before-insert', 'the keeper settles the batch');
release('klog-resolve-before-insert');
evict();
release('klog-readin-read');
$client{run}->finish;
like($client{out}, qr/^before-1-/, 'the client reads what is settled');
my $mixed = $before . "settled late\n" . $after;
reads_all('mixed', $mixed, 'then all of it');
is(sql(q{SELECT count(*) FROM topics.mixed}), 201, 'in SQL, too');
$session->quit;
evict();
reads_all('mixed', $mixed, 'and after the next eviction');
is($node->problems, '', 'no problem');

# ---- a standby's file ends with the last page that was replayed
my $standby = KafkaPg->standby($node, 'standby', conf => "kafka_pg.node_id = 2\n");
my @times = (42, 45, 48, 51, 54);

for my $times (@times)
{
	sql(qq{SELECT kafka.create_topic('grown$times')});
	produced("grown$times", $before x $times);
}
sql('CHECKPOINT');
$standby->poll_query_until('postgres', "SELECT count(*) = 100 * $_ FROM topics.grown$_")
	or die 'not replayed'
	for @times;
$standby->safe_psql('postgres', 'CHECKPOINT');
# else clients would be sent there
$node->stop;
$standby->restart;
$standby->wait_for_kafka;
ok($standby->kcat(@read, '-t', "grown$_") eq $before x $_, "a standby reads it: $_") for @times;
$node->start;
unlike(slurp_file($standby->logfile), qr/could not read/, 'nothing is read that is not there');

KafkaPg::done();
