# Large answers are sent from the pages of the log, while the client takes them: what comes between.
use strict;
use warnings;

use KafkaPg;
use KafkaWire;
use Test::More;

my $node = KafkaPg->broker('main', conf => <<'CONF');
shared_buffers = 16MB
autovacuum = off
kafka_pg.test_near_round_trip = 0
CONF
$node->create_stop_functions;

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION pg_buffercache;
CREATE TABLE filler AS SELECT i AS n, repeat(md5(i::text), 200) AS v
	FROM generate_series(1, 3000) i;
ALTER TABLE filler ALTER v SET STORAGE PLAIN;
UPDATE filler SET v = v || 'x';
SELECT kafka.create_topic(t) FROM unnest('{mixed,long}'::text[]) t;
SQL

# batches of all sizes, some of them of transactions that failed after they had appended
for my $i (1 .. 60)
{
	my $dead = $i % 15 == 0;
	my $arm = $dead ? q{SELECT kafka_test.stop_arm('ktable-after-append', 'error');} : '';
	my $disarm = $dead ? q{SELECT kafka_test.stop_release('ktable-after-append');} : '';
	my $n = $i % 7 == 0 ? 1 : 1 + $i % 13 * 20;

	$node->psql('postgres', <<"SQL", on_error_stop => 0);
$arm
SELECT kafka.produce('mixed', repeat(md5(i::text), 4), partition => 0)
	FROM generate_series(1, $n) i;
$disarm
SQL
}
KafkaWire::run($node, 'lend');
KafkaPg::done();
