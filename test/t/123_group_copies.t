# What SQL sessions have consumed, in copies of a server: a standby shows it and refuses to go on
# until it is promoted; a dump has a table and the offsets that belong to it, even if it was made in
# the middle.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = KafkaPg->broker('primary');
my $standby = KafkaPg->standby($primary, 'standby', conf => "kafka_pg.node_id = 2\n");
my $move = q{INSERT INTO moved SELECT "offset" FROM kafka.consume('g', 't', %d)};

sub move { my ($node, $n) = @_; return $node->safe_psql('postgres', sprintf $move, $n); }

$primary->safe_psql('postgres', <<'SQL');
SELECT kafka.create_topic('t');
CREATE TABLE moved ("offset" bigint PRIMARY KEY);
INSERT INTO topics.t (value) SELECT 'x' FROM generate_series(1, 100);
SQL
move($primary, 40);

# a dump, while a session has ten more
my $dump = $primary->basedir . '/dump';
my $session = $primary->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe(sprintf $move, 10);
command_ok([ 'pg_dump', '-f', "$dump.sql", $primary->connstr('postgres') ], 'pg_dump');
command_ok([ 'pg_dump', '-Fd', '-j2', '-f', "$dump.dir", $primary->connstr('postgres') ],
	'pg_dump -Fd -j2');
$session->query_safe('COMMIT');
$session->quit;

# a standby
$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT kafka.committed_offset('g', 't', 0)}), '50',
	'a standby has the offset');
is($standby->safe_psql('postgres', q{SELECT committed_offset FROM kafka.group_lag}), '50',
	'and shows it');
is($standby->safe_psql('postgres', q{SELECT group_id, state, members, sessions FROM kafka.groups}),
	'g|Empty|0|0', 'as an empty group');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM kafka.group_members}), '0',
	'without members');
for my $what (
	q{SELECT kafka.consume('g', 't')}, q{SELECT kafka.consume('g', 't', 1, '1 hour')},
	q{SELECT kafka.commit_offset('g', 't', 0, 1)}, q{SELECT kafka.reset_offsets('g', 't', 'latest')},
	q{CALL kafka.wait_group('g', 't', '1 hour')})
{
	my ($code, $out, $err) = $standby->psql('postgres', $what);
	like($err, qr/cannot execute kafka\.\w+\(\) (?:in a read-only transaction|during recovery)/,
		"refused: $what");
}

# the copies
for my $how ('script', 'parallel')
{
	my $copy = KafkaPg->broker($how, extension => 0);
	if ($how eq 'script')
	{
		command_ok([ 'psql', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql",
				$copy->connstr('postgres') ], 'restored by psql');
	}
	else
	{
		command_ok([ 'pg_restore', '-j2', '-d', $copy->connstr('postgres'), "$dump.dir" ],
			'restored by pg_restore -j2');
	}
	is($copy->safe_psql('postgres', q{SELECT count(*), min("offset"), max("offset") FROM moved}),
		'40|0|39', "$how: the table is there as it was");
	is($copy->safe_psql('postgres', q{SELECT kafka.committed_offset('g', 't', 0)}), '40',
		"$how: and the offset");
	move($copy, 1000);
	is($copy->safe_psql('postgres', q{SELECT count(*), max("offset") FROM moved}), '100|99',
		"$how: the rest is moved, each record once");
}

$primary->stop;
$standby->promote;
$standby->wait_for_kafka;
move($standby, 1000);
is($standby->safe_psql('postgres', q{SELECT count(*), max("offset") FROM moved}), '100|99',
	'promoted: the rest is moved, each record once');
KafkaPg::done();
