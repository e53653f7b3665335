# Point-in-time recovery into the middle of a load, to each kind of target: the server opens, has
# exactly what was committed before the target, and is a broker that goes on in a leader epoch of
# its own.
use strict;
use warnings;

use KafkaLoad;
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main', init => { has_archiving => 1 });

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{SELECT kafka.create_topic('marks', 1)});
KafkaLoad::create($node);
$node->backup('base');

# Marks in the middle of a load
my $load = KafkaLoad->start($node);
my %target;
$load->wait_for_more;
# Everything up to this transaction, which writes what it is.
$target{xid} = (split /\n/, sql(q{BEGIN; SELECT kafka.produce('marks', 'xid');
	SELECT pg_current_xact_id()::xid; COMMIT}))[1];
$load->wait_for_more;
sql(q{SELECT kafka.produce('marks', 'name')});
$target{name} = 'here';
sql(q{SELECT pg_create_restore_point('here')});
$load->wait_for_more;
sql(q{SELECT kafka.produce('marks', 'lsn')});
$target{lsn} = sql('SELECT pg_current_wal_insert_lsn()');
$load->wait_for_more;
sql(q{SELECT kafka.produce('marks', 'time')});
$target{time} = sql('SELECT clock_timestamp()');
$load->wait_for_more;
sql(q{SELECT kafka.produce('marks', 'end')});
$target{immediate} = undef;

$load->stop;
my $last = sql('SELECT pg_walfile_name(pg_switch_wal())');
$node->poll_query_until('postgres', "SELECT '$last' <= last_archived_wal FROM pg_stat_archiver") or die 'archive';
my $epoch = sql('SELECT epoch FROM kafka.leader_epoch');
my $end = sql('SELECT count(*) FROM ledger');
$node->stop('fast');

my %marks = (
	immediate => '', xid => 'xid', name => 'xid name', lsn => 'xid name lsn',
	time => 'xid name lsn time');
my $before = -1;
for my $kind ('immediate', 'xid', 'name', 'lsn', 'time')
{
	my $restored = KafkaPg->restored($node, 'base', "to_$kind", archive => 1);
	my $value =
	  $kind eq 'immediate' ? "recovery_target = 'immediate'" : "recovery_target_$kind = '$target{$kind}'";
	$restored->append_conf('postgresql.conf', "$value\nrecovery_target_action = 'promote'\n");
	$restored->start;
	$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'still in recovery';
	my $query = sub { return $restored->safe_psql('postgres', $_[0]) };

	is($query->(q{SELECT string_agg(kafka.to_text(value), ' ' ORDER BY "offset") FROM topics.marks}),
		$marks{$kind}, "$kind: what was before the target is there, and nothing else");
	my $rows = $query->('SELECT count(*) FROM ledger');
	cmp_ok($rows, '>', $before, "$kind: more than at the target before");
	cmp_ok($rows, '<', $end, "$kind: less than at the end");
	$before = $rows;
	KafkaLoad::check($restored, $kind);

	# It goes on: in another epoch, with the next offsets, for SQL and for clients
	$restored->poll_query_until('postgres', "SELECT epoch > $epoch FROM kafka.leader_epoch") or die 'no new epoch';
	KafkaLoad::goes_on($restored, $kind);
	is($query->(q{SELECT min(leader_epoch) FROM kafka.partitions WHERE topic = 'sql'}), $epoch + 1,
		"$kind: in the next leader epoch");
	KafkaLoad::check($restored, "$kind, later");
	$restored->stop('fast');
}

KafkaPg::done();
