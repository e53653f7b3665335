# Floors: a partition restored from a dump gives no offset anew, although what had the last ones was
# not in the dump.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = KafkaPg->broker('source');
my $node = $source;
$node->create_stop_functions;

sub sql { my ($query) = @_; return $node->safe_psql('postgres', $query); }

sub floor_is
{
	my ($topic, $offset) = @_;
	ok($node->poll_query_until('postgres',
			qq{SELECT coalesce((SELECT next_offset FROM kafka.partition
				WHERE "table" = 'topics.$topic'::regclass), 0) = $offset}),
		$node->name . ": $topic: the floor is $offset");
	return;
}

sub ends_are
{
	my ($topic, $offset, $name) = @_;
	$node->poll_query_until('postgres',
		"SELECT high_watermark = end_offset FROM kafka.partitions WHERE topic = '$topic'");
	is(sql("SELECT high_watermark, end_offset FROM kafka.partitions WHERE topic = '$topic'"),
		"$offset|$offset", $node->name . ": $topic: $name");
	return;
}

sql(q{SELECT kafka.create_topic(t) FROM unnest('{mixed,only,live,follows}'::text[]) t});
sql(qq{SELECT kafka.produce('$_', i::text) FROM generate_series(0, 2) i}) for qw(mixed live follows);
$node->append_in_vain('mixed', 100);
$node->append_in_vain('only', 50);
$node->append_in_vain('follows', 10);
floor_is('mixed', 103);
floor_is('only', 50);
sql(q{SELECT kafka.produce('follows', 'end')});
ends_are('mixed', 103, 'before');
is(sql(q{SELECT count(*) FROM kafka.partition WHERE "table" = 'topics.live'::regclass}), 0,
	'a partition without dead batches needs no floor');
$node->append_in_vain('mixed', 7);
floor_is('mixed', 110);

# The row was lost in a crash, RESOLVE was not.
sql(q{DELETE FROM kafka.partition WHERE "table" = 'topics.only'::regclass});
$node->stop('immediate');
$node->start;
ends_are('only', 50, 'after a crash');
floor_is('only', 50);

# A dump as a script, and one that two processes restore in any order.
my $dir = $node->basedir;
command_ok([ 'pg_dump', '-f', "$dir/dump.sql", $node->connstr('postgres') ], 'pg_dump');
command_ok([ 'pg_dump', '-Fd', '-f', "$dir/dump", $node->connstr('postgres') ], 'pg_dump -Fd');

sub check_restored
{
	ends_are('mixed', 110, 'restored');
	ends_are('only', 50, 'restored');
	ends_are('live', 3, 'restored');
	ends_are('follows', 14, 'restored');
	is($node->offsets_from('mixed', 0), '0 1 2', 'a client comes to the end');
	is($node->offsets_from('mixed', $_), '', "from $_") for 3, 50, 109, 110;
	is($node->offsets_from('only', $_), '', "of the other one, from $_") for 0, 49, 50;
	is(sql(q{SELECT count(*) FROM topics.mixed}), 3, 'SQL reads');
	is(sql(q{SELECT count(*) FROM kafka.fetch('mixed', 0, 0)}), 3, 'and fetches');
	is($node->problems, '', 'no problem');
	return;
}

for my $how ('script', 'parallel')
{
	$node = KafkaPg->broker($how, extension => 0);
	if ($how eq 'script')
	{
		command_ok([ 'psql', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql",
				$node->connstr('postgres') ], 'restored by psql');
	}
	else
	{
		command_ok([ 'pg_restore', '-j2', '-d', $node->connstr('postgres'), "$dir/dump" ],
			'restored by pg_restore -j2');
	}
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 4 FROM kafka.partitions}), 'there');
	check_restored();
	$node->stop('immediate');
	$node->start;
	check_restored();

	is($node->kcat({ in => "new\n" }, qw(-P -t mixed -p 0)), '', 'a client produces');
	is($node->offsets_from('mixed', 0), '0 1 2 110', 'behind the floor');
	is($node->offsets_from('mixed', 3), '110', 'found from below');
	sql(q{SELECT kafka.produce('only', 'new')});
	is($node->offsets_from('only', 0), '50', 'SQL produces behind the floor, too');
	ends_are('mixed', 111, 'goes on');
	$node->stop('immediate');
	$node->start;
	ends_are('mixed', 111, 'after a crash');
	ends_are('only', 51, 'after a crash');
	is($node->offsets_from('mixed', 0), '0 1 2 110', 'as before');
	is(sql(q{SELECT string_agg("offset"::text, ' ') FROM topics.mixed}), '0 1 2 110', 'for SQL, too');
}

# Records may come after the floor, and after somebody has looked.
sql(q{SELECT kafka.create_topic('late')});
ends_are('late', 0, 'new');
sql(q{INSERT INTO kafka.partition VALUES ('topics.late', 0, 0, 200)});
ends_are('late', 200, 'a floor is known when it is committed');
sql(q{BEGIN; INSERT INTO kafka.partition VALUES ('topics.live', 0, 0, 300); ROLLBACK});
sql(q{BEGIN; SAVEPOINT s; INSERT INTO kafka.partition VALUES ('topics.live', 0, 0, 300);
	ROLLBACK TO s; COMMIT});
ends_are('live', 3, 'not when it is rolled back');
is($node->offsets_from('late', 0), '', 'a client finds nothing');
sql(q{INSERT INTO topics.late (partition, "offset", "timestamp", value)
	SELECT 0, i, now(), 'x' FROM generate_series(5, 9) i});
is($node->offsets_from('late', 'beginning'), '5 6 7 8 9', 'what was restored behind the floor is there');
ends_are('late', 200, 'and the floor');
sql(q{SELECT kafka.produce('late', 'new')});
is($node->offsets_from('late', 7), '7 8 9 200', 'the next one');
my (undef, undef, $error) = $node->psql('postgres',
	q{INSERT INTO topics.late (partition, "offset", "timestamp", value) VALUES (0, 20, now(), 'x')});
like($error, qr/has been given already/, 'then the gap is closed');

# Records of a restore may lie on both sides of a floor.
sql(q{SELECT kafka.create_topic('across')});
sql(q{INSERT INTO kafka.partition VALUES ('topics.across', 0, 0, 20)});
ends_are('across', 20, 'a floor');
sql(q{INSERT INTO topics.across (partition, "offset", "timestamp", value)
	SELECT 0, i, now(), 'x' FROM generate_series(18, 22) i});
ends_are('across', 23, 'records across it');
is($node->offsets_from('across', $_->[0]), $_->[1], "from $_->[0]")
	for [ 'beginning', '18 19 20 21 22' ], [ 19, '19 20 21 22' ], [ 21, '21 22' ];

# A floor of the log's start: what a partition had that retention has emptied.
sql(q{SELECT kafka.create_topic('emptied')});
sql(q{INSERT INTO kafka.partition VALUES ('topics.emptied', 0, 1000, 1000)});
ends_are('emptied', 1000, 'emptied');
is(sql(q{SELECT log_start FROM kafka.partitions WHERE topic = 'emptied'}), 1000, 'it starts there');
is($node->kcat({ in => "new\n" }, qw(-P -t emptied -p 0)), '', 'a client produces');
is($node->offsets_from('emptied', 'beginning'), '1000', 'the first record');

sql(q{SELECT kafka.drop_topic('late')});
is(sql(q{SELECT count(*) FROM kafka.partition WHERE "table"::oid NOT IN (SELECT oid FROM pg_class)}),
	0, 'a floor goes away with its table');
KafkaPg::done();
