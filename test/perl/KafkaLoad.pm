package KafkaLoad;

# A load whose outcome any server that comes from the loaded one can be asked about: SQL
# transactions that write the same numbers into a table and into a topic, some of them rolled back;
# and a client that produces idempotently.
#
#	KafkaLoad::create($node);			# topics "sql" and "wire", table "ledger"
#	my $load = KafkaLoad->start($node);
#	$load->wait_for_more;
#	$load->stop;
#	KafkaLoad::check($restored, 'what it is');
#	KafkaLoad::goes_on($restored, 'what it is');

use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $script = <<'SQL';
\set n random(1, 1000000000)
\set many random(1, 40)
BEGIN;
INSERT INTO topics.sql (partition, key, value)
  SELECT :n % 3, convert_to(:n::text, 'UTF8'), convert_to(repeat('x', 500), 'UTF8')
    FROM generate_series(1, :many);
INSERT INTO ledger SELECT :n, :n % 3 FROM generate_series(1, :many);
SAVEPOINT s;
SELECT kafka.produce('sql', 'rolled back', 'gone');
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT kafka.produce('sql', 'rolled back', 'gone');
ROLLBACK;
SQL

# Makes what the load writes to.
sub create
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{
		SELECT kafka.create_topic('sql', 3, '{"segment.bytes": 1048576}');
		SELECT kafka.create_topic('wire', 2);
		CREATE TABLE ledger (n int, partition int)});
	return;
}

sub start
{
	my ($class, $node) = @_;
	my $self = bless { node => $node, stop => $node->basedir . '/stop', out => '' }, $class;
	my $file = $node->basedir . '/load.sql';

	unlink $self->{stop}, $file;
	append_to_file($file, $script);
	$node->wait_for_kafka;
	$self->{sql} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '2', '-T', '120', '-f', $file, $node->connstr('postgres') ],
		'>&', \$self->{out});
	$self->{wire} = IPC::Run::start(
		[ 'sh', '-c', 'while [ ! -e "$0" ]; do seq 1 200; sleep 0.01; done |'
			  . ' kcat -P -X enable.idempotence=true -X linger.ms=2 -t wire -b "$1"',
			$self->{stop}, $node->bootstrap ],
		'>&', \$self->{out});
	return $self;
}

# Waits until the load has come further.
sub wait_for_more
{
	my ($self) = @_;
	my $node = $self->{node};
	my $n = $node->safe_psql('postgres', 'SELECT count(*) FROM ledger');

	$node->poll_query_until('postgres', "SELECT count(*) > $n + 500 FROM ledger") or die 'no load';
	return;
}

sub stop
{
	my ($self) = @_;

	append_to_file($self->{stop}, '');
	$self->{sql}->signal('TERM');
	eval { IPC::Run::finish($self->{$_}) } for qw(sql wire);
	return;
}

# What must be true of any server that has come from the loaded one
sub check
{
	my ($server, $what) = @_;
	my $query = sub { return $server->safe_psql('postgres', $_[0]) };

	is($query->(q{SELECT count(*) FROM (
			(SELECT n::text, partition FROM ledger
				EXCEPT ALL SELECT kafka.to_text(key), partition FROM topics.sql)
			UNION ALL
			(SELECT kafka.to_text(key), partition FROM topics.sql
				EXCEPT ALL SELECT n::text, partition FROM ledger)) q}),
		'0', "$what: the topic agrees with the table, and has nothing that was rolled back");
	$server->poll_query_until('postgres',
		'SELECT bool_and(high_watermark = end_offset) FROM kafka.partitions') or die 'watermarks';
	is($query->(q{SELECT count(*) FILTER (WHERE "offset" <> n - 1) FROM (SELECT "offset",
			row_number() OVER (PARTITION BY partition ORDER BY "offset") AS n FROM topics.wire) q}),
		'0', "$what: a client's records, without gaps");
	is($query->(q{SELECT sum(high_watermark) - (SELECT count(*) FROM topics.wire)
			FROM kafka.partitions WHERE topic = 'wire'}), '0', "$what: up to the watermark");
	is($server->problems, '', "$what: no problem in any topic");
	return;
}

# A client and SQL can write to it, at the next offsets.
sub goes_on
{
	my ($server, $what) = @_;
	my $query = sub { return $server->safe_psql('postgres', $_[0]) };
	my $next = $query->(q{SELECT end_offset FROM kafka.partitions
		WHERE topic = 'wire' AND partition = 1});

	$server->wait_for_kafka;
	$server->kcat({ in => "after\n" }, '-P', '-X', 'enable.idempotence=true', '-t', 'wire', '-p', 1);
	is($server->kcat('-C', '-t', 'wire', '-p', 1, '-o', -1, '-c', 1, '-e', '-q', '-f', '%o %s'),
		"$next after", "$what: a client goes on");
	my $before = $query->('SELECT count(*) FROM topics.sql');
	$query->(q{INSERT INTO topics.sql (partition, key) SELECT g % 3, '0' FROM generate_series(1, 300) g;
		INSERT INTO ledger SELECT 0, g % 3 FROM generate_series(1, 300) g});
	is($query->('SELECT count(*) FROM topics.sql'), $before + 300, "$what: SQL goes on");
	return;
}

1;
