# pg_upgrade of a cluster with topics, its files copied or linked: the same ids, offsets and rights
# on the other side, in the next leader epoch. Old and new are the same release: what is proved is
# that all we keep in the catalogs goes through pg_dump --binary-upgrade, and what we keep in files
# is found again.
use strict;
use warnings;

use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

# no twins: pg_upgrade writes files without WAL, and takes the old one's in the end
my $old = KafkaPg->broker('old', twin => 0, conf => "autovacuum = off\n");
$old->create_stop_functions;

# Topics of all kinds: several segments, long names, other owners, nothing in them, a dead batch,
# and batches that nobody has resolved (autovacuum is off; the keeper resolves what it likes).
$old->safe_psql('postgres', <<'SQL');
CREATE ROLE writer;
SELECT kafka.create_topic('orders', 3, '{"segment.bytes": 1048576, "retention.ms": 86400000}');
SELECT kafka.create_topic(rpad('long', 200, 'x'));
SELECT kafka.create_topic('empty', 5);
ALTER TABLE topics.orders OWNER TO writer;
GRANT SELECT ON topics.empty TO writer;
SELECT count(kafka.produce('orders', repeat('v' || i, 100), 'k' || i, ARRAY[kafka.header('n', i::text::bytea)]))
  FROM generate_series(1, 20000) i;
SELECT kafka.produce(rpad('long', 200, 'x'), NULL, 'key', "timestamp" => '2000-01-01');
COMMENT ON TABLE topics.orders IS 'what people want';
CREATE VIEW order_view AS SELECT partition, "offset", kafka.to_text(value) AS value FROM topics.orders;
CREATE FUNCTION order_it(what text) RETURNS int LANGUAGE sql AS $$ SELECT kafka.produce('orders', what) $$;
SQL
$old->append_in_vain('orders', 1);
$old->wait_for_kafka;
$old->kcat({ in => "by kcat\n" }, '-P', '-t', 'orders', '-p', '2');
$old->safe_psql('postgres', 'DROP SCHEMA kafka_test CASCADE');

my $facts = q{
	SELECT name, id, "table", "table"::oid, owner, partitions, config, created
	  FROM kafka.topics ORDER BY name;
	SELECT topic, partition, log_start, high_watermark, end_offset
	  FROM kafka.partitions ORDER BY 1, 2;
	SELECT md5(string_agg(t::text, '' ORDER BY partition, "offset")) FROM topics.orders t;
	SELECT relname, relfilenode, relacl, obj_description(oid) FROM pg_class
	 WHERE relnamespace = 'topics'::regnamespace ORDER BY 1;
	SELECT id FROM kafka.cluster;
	SELECT last_value, is_called FROM kafka.producer_id_seq;
	SELECT count(*), max("offset") FROM order_view;
	SELECT deptype, count(*) FROM pg_depend
	 WHERE refclassid = 'pg_extension'::regclass
	   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'kafka_pg') GROUP BY 1};
my $before = $old->safe_psql('postgres', $facts);
my $epoch = $old->safe_psql('postgres', 'SELECT epoch FROM kafka.leader_epoch');
$old->stop;
$old->PostgreSQL::Test::Cluster::command_ok(
	[ 'pg_checksums', '--check', '-D', $old->data_dir ], 'checksums of the old cluster');

# How many names the file of a topic has
sub links
{
	my ($node) = @_;
	my $file = $node->safe_psql('postgres', q{SELECT pg_relation_filepath('topics.orders')});
	return (stat($node->data_dir . "/$file"))[3];
}

sub upgrade
{
	my ($name, @options) = @_;
	my $new = KafkaPg->broker($name, start => 0, twin => 0);
	my $bin = $new->config_data('--bindir');

	chdir $new->basedir or die;
	for my $how ('--check', '--retain')
	{
		my @command = ('pg_upgrade', $how, @options, '-d', $old->data_dir, '-D', $new->data_dir,
			'-b', $bin, '-B', $bin, '-s', $new->host, '-p', $old->port, '-P', $new->port);
		my $ok = run_log(\@command, '>', \my $out);
		ok($ok, "$name: pg_upgrade $how @options") or diag($out);
	}
	my @logs = glob($new->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log');
	is(scalar @logs, 1, "$name: its servers wrote a log");
	unlike(slurp_file($logs[0]), qr/listening for Kafka|kafka launcher|(?<!expected )ERROR|FATAL/,
		"$name: and none of our processes ran in them");

	$new->start;
	is($new->safe_psql('postgres', $facts), $before, "$name: topics, rights and records are the same");
	is($new->problems, '', "$name: no problem in any topic");
	$new->poll_query_until('postgres', "SELECT epoch = $epoch + 1 FROM kafka.leader_epoch")
	  or die 'no new leader epoch';
	is($new->safe_psql('postgres', q{SELECT kafka.produce('orders', 'after', partition => 0);
			SELECT "offset" - (SELECT max("offset") FROM topics.orders WHERE partition = 0 AND kafka.to_text(value) <> 'after')
			  FROM topics.orders WHERE partition = 0 AND kafka.to_text(value) = 'after'}),
		"0\n2", "$name: numbering goes on behind the dead batch");
	is($new->safe_psql('postgres', q{SELECT max(leader_epoch) FROM kafka.partitions}), $epoch + 1,
		"$name: in the next leader epoch");
	$new->wait_for_kafka;
	$new->kcat({ in => "to new\n" }, '-P', '-t', 'orders', '-p', '2');
	is($new->kcat('-C', '-t', 'orders', '-p', '2', '-o', '-1', '-c', '1', '-e', '-q'), "to new\n",
		"$name: kcat writes and reads");
	$new->safe_psql('postgres', 'VACUUM (FREEZE, ANALYZE)');
	is($new->safe_psql('postgres', q{
			SELECT kafka.create_topic('fresh', 2); SELECT kafka.produce('fresh', 'x', partition => 1);
			SELECT kafka.drop_topic('empty'); SELECT count(*) FROM topics.fresh;
			ALTER EXTENSION kafka_pg UPDATE; SELECT count(*) FROM order_view WHERE value = 'to new'}),
		"topics.fresh\n1\n\n1\n1", "$name: topics come and go");
	return $new;
}

is(links(upgrade('copied')), 1, 'copied: the files are its own');
is(links(upgrade('linked', '--link')), 2, 'linked: the files are those of the old cluster');
KafkaPg::done();
