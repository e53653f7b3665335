# Topics beside Postgres' other ways to move data: logical decoding and replication, postgres_fdw
# and dblink, pg_dump's variants, and the contrib modules that look into any table.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main', conf => "wal_level = logical\n");

sub sql { return $node->safe_psql('postgres', $_[0]); }

# ------------------------------------------------------------------------------------------
# Logical decoding passes over records, and is not disturbed by them
# ------------------------------------------------------------------------------------------
sql(q{CREATE TABLE h (a int PRIMARY KEY, b text); SELECT kafka.create_topic('t', 2);
	CREATE PUBLICATION everything FOR ALL TABLES;
	SELECT pg_create_logical_replication_slot('slot', 'test_decoding')});
sql(q{SELECT kafka.produce('t', 'alone'); INSERT INTO h VALUES (1, 'alone')});
sql(q{BEGIN; INSERT INTO h VALUES (2, 'both'); SELECT kafka.produce('t', 'both');
	SAVEPOINT s; INSERT INTO h VALUES (3, 'gone'); SELECT kafka.produce('t', 'gone'); ROLLBACK TO s;
	SAVEPOINT s; INSERT INTO h VALUES (4, 'sub'); INSERT INTO topics.t (partition, "offset") VALUES (1, 100);
	RELEASE s; COMMIT});
sql(q{BEGIN; SELECT kafka.produce('t', 'gone'); INSERT INTO h VALUES (5, 'gone'); ROLLBACK});
$node->wait_for_kafka;
$node->kcat({ in => join("\n", 1 .. 100) }, '-P', '-t', 't', '-p', 0);
sql('VACUUM topics.t');
my $decode = q{SELECT data FROM pg_logical_slot_%s_changes('slot', NULL, NULL,
	'include-xids', '0') WHERE data ~ '^table'};
my $expected = join "\n",
  map { "table public.h: INSERT: a[integer]:$_->[0] b[text]:'$_->[1]'" }
  ([ 1, 'alone' ], [ 2, 'both' ], [ 4, 'sub' ]);
is(sql(sprintf $decode, 'peek'), $expected, 'test_decoding gives the tables\' changes');
$node->restart;
is(sql(sprintf $decode, 'get'), $expected, 'after a restart, too');
is(sql('SELECT count(*) FROM topics.t'), '103', 'the records are in the topic');

# A subscriber's apply process is a producer like any other
my $subscriber = KafkaPg->broker('subscriber');
$subscriber->safe_psql('postgres', q{CREATE TABLE h (a int PRIMARY KEY, b text); SELECT kafka.create_topic('applied');
	CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM kafka.produce('applied', NEW.b, NEW.a::text); RETURN NULL; END $$;
	CREATE TRIGGER tell AFTER INSERT ON h FOR EACH ROW EXECUTE FUNCTION tell();
	ALTER TABLE h ENABLE ALWAYS TRIGGER tell});
sql('CREATE PUBLICATION h FOR TABLE h');
my $from = $node->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$from' PUBLICATION h");
my $applied = q{SELECT string_agg(kafka.to_text(key), ' ' ORDER BY kafka.to_text(key)) FROM topics.applied};
$subscriber->poll_query_until('postgres', $applied, '1 2 4') or die 'no initial copy';
sql(q{BEGIN; INSERT INTO h VALUES (6, 'x'), (7, 'x'); SELECT kafka.produce('t', 'x'); COMMIT});
ok($subscriber->poll_query_until('postgres', $applied, '1 2 4 6 7'), 'a trigger of a subscriber produces');
$subscriber->wait_for_kafka;
is($subscriber->kcat('-C', '-t', 'applied', '-e', '-q', '-o', '-2', '-f', '%k '), '6 7 ',
	'for Kafka clients, in the order of the commits');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION s');

# ------------------------------------------------------------------------------------------
# A foreign server that is this one
# ------------------------------------------------------------------------------------------
my ($host, $port) = ($node->host, $node->port);
sql(qq{CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink;
	CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw
		OPTIONS (host '$host', port '$port', dbname 'postgres', batch_size '10');
	CREATE USER MAPPING FOR CURRENT_USER SERVER self;
	SELECT kafka.create_topic('f');
	CREATE FOREIGN TABLE far (partition int, "offset" bigint, "timestamp" timestamptz, key bytea, value bytea)
		SERVER self OPTIONS (schema_name 'topics', table_name 'f')});
sql(q{INSERT INTO far (key, "timestamp") SELECT g::text::bytea, now() FROM generate_series(0, 24) g;
	BEGIN; INSERT INTO far (key) VALUES ('gone'); ROLLBACK;
	BEGIN; INSERT INTO far (key) VALUES ('25'); SAVEPOINT s; INSERT INTO far (key) VALUES ('gone'); ROLLBACK TO s; COMMIT});
is(sql(q{SELECT count(*), count(*) FILTER (WHERE "offset"::text = kafka.to_text(key)) FROM far}), '26|26',
	'postgres_fdw inserts and selects');
is(sql(q{SELECT "offset" FROM far WHERE partition = 0 AND "offset" > 23}), "24\n25", 'with conditions');
for my $statement ('UPDATE far SET key = NULL', 'DELETE FROM far', 'TRUNCATE far',
	q{UPDATE far SET key = NULL WHERE random() < 2})
{
	my (undef, undef, $message) = $node->psql('postgres', $statement);
	like($message, qr/cannot (update|delete|truncate|lock) .*topic table "f"/, "$statement: refused");
}
sql('ANALYZE far');
is(sql(qq{SELECT p FROM dblink('host=$host port=$port dbname=postgres',
		\$\$SELECT kafka.produce('f', 'by dblink')\$\$) AS x (p int)}), '0', 'dblink produces');
sql('DROP SERVER self CASCADE; DROP EXTENSION dblink, postgres_fdw');

# ------------------------------------------------------------------------------------------
# Contrib modules: each looks at pages as pages, or says that it is for heap tables
# ------------------------------------------------------------------------------------------
for my $module (
	[ amcheck => q{SELECT * FROM verify_heapam('topics.t')}, 1 ],
	[ pgstattuple => q{SELECT * FROM pgstattuple('topics.t')}, 1 ],
	[ pg_surgery => q{SELECT heap_force_kill('topics.t', '{"(8,1)"}')}, 1 ],
	[ pgrowlocks => q{SELECT * FROM pgrowlocks('topics.t')}, 1 ],
	[ pg_visibility => q{SELECT count(*) FROM pg_check_frozen('topics.t')}, 0 ],
	[ pageinspect => q{SELECT count(lsn) FROM generate_series(0, 8) b,
		page_header(get_raw_page('topics.t', b)) WHERE lsn > '0/0'}, 0 ],
	[ pg_prewarm => q{SELECT pg_prewarm('topics.t')}, 0 ],
	[ pg_freespacemap => q{SELECT count(*) FROM pg_freespace('topics.t')}, 0 ])
{
	my ($name, $query, $refuses) = @$module;
	my ($code, undef, $message) = $node->psql('postgres', "CREATE EXTENSION $name; $query");
	if ($refuses) { like($message, qr/only heap AM is supported/, "$name: refuses") }
	else { is($code, 0, "$name: works") or diag($message) }
}
$node->PostgreSQL::Test::Cluster::command_ok([ 'pg_amcheck', 'postgres' ], 'pg_amcheck passes over topics');

# ------------------------------------------------------------------------------------------
# pg_dump's variants
# ------------------------------------------------------------------------------------------
sql(q{DROP PUBLICATION everything, h; SELECT pg_drop_replication_slot('slot');
	DROP EXTENSION amcheck, pgstattuple, pg_surgery, pgrowlocks, pg_visibility, pageinspect,
		pg_prewarm, pg_freespacemap});
my $facts = q{SELECT t::text FROM topics.t t ORDER BY partition, "offset"; SELECT name, id FROM kafka.topics ORDER BY 1};
my $before = sql($facts);
my $target = KafkaPg->broker('target', extension => 0);
my $dump = $node->basedir . '/dump.sql';
for my $options ([['--inserts']], [[ '--column-inserts', '--rows-per-insert=50' ]], [['--schema-only'], ['--data-only']],
	[[ '--section=pre-data' ], [ '--section=data' ], [ '--section=post-data' ]])
{
	my $what = join ', ', map { join ' ', @$_ } @$options;
	for my $o (@$options)
	{
		$node->PostgreSQL::Test::Cluster::command_ok([ 'pg_dump', @$o, '-f', $dump, 'postgres' ], "pg_dump @$o");
		$target->PostgreSQL::Test::Cluster::command_ok(
			[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'postgres' ], 'restored');
	}
	is($target->safe_psql('postgres', $facts), $before, "$what: the same");
	is($target->problems, '', "$what: no problem in any topic");
	$target->safe_psql('postgres', 'DROP TABLE h; DROP EXTENSION kafka_pg CASCADE');
}
# One table of many: its records, which are a topic once one has been declared
$target->safe_psql('postgres', q{CREATE EXTENSION kafka_pg; SELECT kafka.create_topic('t', 2)});
$node->PostgreSQL::Test::Cluster::command_ok([ 'pg_dump', '--data-only', '-t', 'topics.t', '-f', $dump, 'postgres' ], 'pg_dump -t');
$target->safe_psql('postgres', "\\i $dump");
is($target->safe_psql('postgres', (split /;/, $facts)[0]), sql((split /;/, $facts)[0]), 'the records of one topic into another');

# ------------------------------------------------------------------------------------------
# A promoted server raises its leader epoch, also with a publication that holds that table
# ------------------------------------------------------------------------------------------
sql('CREATE PUBLICATION everything FOR ALL TABLES');
my $standby = KafkaPg->standby($node, 'standby');
$node->wait_for_catchup($standby);
$node->stop('fast');
$standby->promote;
ok($standby->poll_query_until('postgres', 'SELECT epoch = 1 FROM kafka.leader_epoch'), 'the next leader epoch');
is($standby->safe_psql('postgres', q{SELECT kafka.produce('t', 'after', partition => 0)}), '0', 'which takes records');

KafkaPg::done();
