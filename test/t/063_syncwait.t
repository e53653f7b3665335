# Synchronous replication: nothing is readable before the quorum has it, a cancelled wait
# acknowledges nothing, and what was readable stays so over a restart without the quorum.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = KafkaPg->broker('primary', conf => "autovacuum = off\n");
my $standby = KafkaPg->standby($primary, 'standby');

sub sql { return $primary->safe_psql('postgres', $_[0]); }

# log start, high watermark, end of the topic's only partition
sub offsets
{
	return sql(q{SELECT log_start, high_watermark, end_offset FROM kafka.partitions WHERE topic = 't'});
}

sub set_quorum
{
	my ($names) = @_;
	$primary->append_conf('postgresql.conf', "synchronous_standby_names = '$names'");
	$primary->reload;
	my $n = $names eq '' ? 0 : 1;
	$primary->poll_query_until('postgres',
		"SELECT count(*) = $n FROM pg_stat_activity WHERE backend_type = 'kafka syncwait'")
	  or die 'syncwait';
	return;
}

sql(q{SELECT kafka.create_topic('t')});
sql(q{SELECT kafka.produce('t', 'one')});
is(offsets(), '0|1|1', 'without a quorum a commit is enough');

set_quorum('ANY 1 (standby)');
sql(q{SELECT kafka.produce('t', 'two')});
is(offsets(), '0|2|2', 'with the standby there, too');

# The standby leaves.  A session that does not wait commits; nobody may read what it wrote.
$standby->stop('fast');
sql(q{SET synchronous_commit = local; SELECT kafka.produce('t', 'three')});
sleep(1);
is(offsets(), '0|2|3', 'quorum lost: committed here, but not readable');
is(sql(q{SELECT string_agg(convert_from(value, 'UTF8'), ' ') FROM topics.t}), 'one two',
	'a scan does not see it');

# A commit that waits for the quorum and is cancelled
my $session = $primary->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query('SELECT pg_backend_pid()');
$session->{stdin} .= "SELECT kafka.produce('t', 'four');\n";
$session->{run}->pump_nb;
$primary->poll_query_until('postgres',
	"SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid") or die 'no wait';
sql("SELECT pg_cancel_backend($pid)");
$primary->poll_query_until('postgres',
	"SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid") or die 'not cancelled';
sleep(1);
is(offsets(), '0|2|4', 'a cancelled wait acknowledges nothing');
$session->quit;

# The process that waits is ended: no acknowledgement either
sql(q{SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'kafka syncwait'});
sleep(1);
is(offsets(), '0|2|4', 'nor does a syncwait process that is terminated');

# A restart without the quorum: what was readable is, the rest is not.
for my $mode ('fast', 'immediate')
{
	$primary->stop($mode);
	$primary->start;
	is(offsets(), '0|2|4', "after a restart ($mode) without the quorum");
}

$standby->start;
$primary->poll_query_until('postgres',
	q{SELECT high_watermark = 4 FROM kafka.partitions WHERE topic = 't'})
  or die 'the watermark does not follow the standby';
is(sql(q{SELECT string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY "offset") FROM topics.t}),
	'one two three four', 'the quorum is back: all is readable');

# Asked for no longer, while something waits
$standby->stop('fast');
sql(q{SET synchronous_commit = local; SELECT kafka.produce('t', 'five')});
is(offsets(), '0|4|5', 'quorum lost again');
set_quorum('');
$primary->poll_query_until('postgres',
	q{SELECT high_watermark = 5 FROM kafka.partitions WHERE topic = 't'})
  or die 'the watermark does not follow the setting';
is(offsets(), '0|5|5', 'no quorum is asked for: readable');

# Promotion of the standby that acknowledged
set_quorum('ANY 1 (standby)');
$standby->start;
sql(q{SELECT kafka.produce('t', 'six')});
$primary->stop('immediate');
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'promotion';
is($standby->safe_psql('postgres', q{SELECT string_agg(convert_from(value, 'UTF8'), ' ' ORDER BY "offset")
	FROM topics.t}), 'one two three four five six', 'the promoted standby has all that was acknowledged');
$standby->poll_query_until('postgres', 'SELECT epoch > 0 FROM kafka.leader_epoch')
  or die 'the leader epoch was not raised';
is($standby->safe_psql('postgres', q{SELECT kafka.produce('t', 'seven'); SELECT leader_epoch
	FROM kafka.partitions WHERE topic = 't'}), "0\n1", 'and goes on in the next leader epoch');

KafkaPg::done();
