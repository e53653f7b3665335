# Transaction ids go round: batches whose transactions nobody has resolved yet, committed and
# failed, survive until VACUUM takes their xids off the pages; relfrozenxid is honest, autovacuum
# comes to its end, the commit log is cut, and xids that were on pages once mean nothing when they
# come again.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

# no twin: pg_resetwal leaves holes in WAL
my $node = KafkaPg->broker('main', twin => 0, conf => <<'CONF');
autovacuum = off
autovacuum_naptime = 1
autovacuum_multixact_freeze_max_age = 10000
vacuum_freeze_min_age = 0
vacuum_freeze_table_age = 0
CONF
$node->create_stop_functions;
$node->expect_crashes;

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub rows
{
	my ($topic) = @_;
	return sql(qq{SELECT string_agg(kafka.to_text(value), ' ' ORDER BY "offset") FROM topics.$topic});
}

# The age of what a topic's table says about the xids in it
sub frozen_age
{
	my ($topic) = @_;
	return sql("SELECT age(relfrozenxid) FROM pg_class WHERE oid = 'topics.$topic'::regclass");
}

# ------------------------------------------------------------------------------------------
# An open transaction's xid is on a page: VACUUM does not move past it
# ------------------------------------------------------------------------------------------

sql(q{SELECT kafka.create_topic('open');
	CREATE PROCEDURE burn(n int) LANGUAGE plpgsql AS
		$$ BEGIN FOR i IN 1 .. n LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$});
sql(q{SELECT kafka.produce('open', 'one')});
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
sql(q{SELECT kafka_test.stop_arm('ktable-after-append')});
$session->query_until(qr/go/, "\\echo go\nSELECT kafka.produce('open', 'open');\n");
is(sql(q{SELECT kafka_test.stop_await('ktable-after-append')}), 't', 'a transaction has appended');
my $xid = sql("SELECT backend_xid FROM pg_stat_activity WHERE pid = $pid");
sql('SET synchronous_commit = off; CALL burn(3000)');
sql('VACUUM FREEZE topics.open');
is(sql(qq{SELECT age(relfrozenxid) >= age('$xid'::xid) FROM pg_class WHERE oid = 'topics.open'::regclass}),
	't', 'relfrozenxid stays behind a transaction that is open');
sql("SELECT pg_cancel_backend($pid)");
sql(q{SELECT kafka_test.stop_release('ktable-after-append')});
$session->quit;
is(rows('open'), 'one', 'cancelled: its record was never there');
sql(q{SELECT kafka.produce('open', 'two')});
sql('VACUUM FREEZE topics.open');
cmp_ok(frozen_age('open'), '<', 100, 'relfrozenxid moves when it is over');
is(rows('open'), 'one two', 'the others are');

# ------------------------------------------------------------------------------------------
# Round and round. Nothing is resolved before the crash: the keeper is stopped.
# ------------------------------------------------------------------------------------------

# Continues with another transaction id, as if all before it had been used.
sub jump
{
	my ($epoch, $to) = @_;
	my $size = 32 * 32768;		# transactions of a file of pg_xact
	my $file = sprintf('%s/pg_xact/%04X', $node->data_dir, $to / $size);

	$node->stop('fast');
	die "$to is not at the start of a file" if $to % $size != 0;
	if (!-e $file)
	{
		open my $out, '>', $file or die "$file: $!";
		print $out "\0" x (32 * 8192);
		close $out or die;
	}
	# Not yet: the autovacuum that prevents a wraparound runs also when autovacuum is off.
	$node->append_conf('postgresql.conf', 'autovacuum_freeze_max_age = 2000000000');
	my ($out, $err) = run_command([ 'pg_resetwal', '-e', $epoch, '-x', $to || 3, '-D', $node->data_dir ]);
	like($out, qr/Write-ahead log reset/, "continue with transaction $epoch:$to") or diag($err);
	$node->start;
	return;
}

sub unresolved_batches
{
	my ($topic) = @_;

	sql("SELECT kafka.create_topic('$topic')");
	my $keeper = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'kafka keeper'});
	kill 'STOP', $keeper or die 'no keeper';
	sql("SELECT kafka.produce('$topic', '$_')") for qw(a b);
	$node->append_in_vain($topic, 1);
	sql("SELECT kafka.produce('$topic', 'c')");
	$node->append_in_vain($topic, 1);
	is(rows($topic), 'a b c', "$topic: before");
	sql('CHECKPOINT');
	kill 'KILL', $keeper;
	$node->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'kafka keeper' AND pid <> $keeper}) or die 'no other keeper';
	return;
}

sub xact_files { return scalar(() = glob($node->data_dir . '/pg_xact/*')); }

# [epoch, transaction]: twice as many as there are numbers
my @rounds = ([ 0, 1811 * 1048576 ], [ 0, 3500 * 1048576 ], [ 1, 0 ], [ 1, 1900 * 1048576 ]);
my @topics;
my %expected;

sub check_rows
{
	my ($what) = @_;
	is(join(',', map { rows($_) } @topics), join(',', map { $expected{$_} } @topics), $what);
	return;
}

for my $round (@rounds)
{
	my $topic = 'round' . @topics;
	unresolved_batches($topic);
	push @topics, $topic;
	$expected{$topic} = 'a b c';
	my $old = sql("SELECT relfrozenxid FROM pg_class WHERE oid = 'topics.$topic'::regclass");

	jump(@$round);
	check_rows('and the old transactions are known');
	cmp_ok(frozen_age($topic), '>', 1e8, "$topic: the table says how old they are");
	is(sql(qq{SELECT relfrozenxid FROM pg_class WHERE oid = 'topics.$topic'::regclass}), $old,
		"$topic: nobody has vacuumed it");
	$node->append_conf('postgresql.conf', "autovacuum = on\nautovacuum_freeze_max_age = 100000");
	$node->restart;
	$node->poll_query_until('postgres', q{SELECT max(age(datfrozenxid)) < 100000 FROM pg_database})
	  or die 'autovacuum does not come to its end';
	cmp_ok(frozen_age($_), '<', 100000, "$_: relfrozenxid has advanced") for @topics;
	is(xact_files(), 1, 'the commit log is cut');
	check_rows('nobody needs it');
	is($node->problems, '', 'no problem in any topic');
	$node->append_conf('postgresql.conf', 'autovacuum = off');
	$node->reload;

	# Numbers that were on pages come again, this time for transactions that fail, or commit
	sql('SET synchronous_commit = off; CALL burn(800)');
	$node->psql('postgres', 'BEGIN; SELECT pg_current_xact_id(); ROLLBACK') for 1 .. 3;
	check_rows('new transactions change nothing');
	sql("SELECT kafka.produce('$_', 'd')") for @topics;
	$expected{$_} .= ' d' for @topics;
	check_rows('all go on');
	$node->wait_for_kafka;
	is($node->kcat('-C', '-t', $topic, '-e', '-q', '-f', '%s '), 'a b c d ', 'for a Kafka client, too');
}

KafkaPg::done();
