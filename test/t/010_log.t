# The log alone, called through test/log/klog_test.c: batches of all sizes, segments that roll and
# overflow into map pages, transactions, crashes between any two steps, offsets given explicitly.
use strict;
use warnings;

use Cwd qw(abs_path);
use KafkaPg;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = KafkaPg->broker('main', conf => "kafka_pg.max_pending_appends = 64\nautovacuum = off\n");
my $module = abs_path('build/log/klog_test.so');
$node->expect_crashes;
$node->{logs} = ['t.log'];
$node->create_stop_functions;

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(<<"SQL");
CREATE SCHEMA t;
CREATE FUNCTION t.append(rel regclass, partition int, sizes int[], nrecords int, ts bigint,
		segment_bytes bigint, transactional bool, base bigint)
	RETURNS text[] LANGUAGE c AS '$module', 'klog_test_append';
CREATE FUNCTION t.read(rel regclass, partition int, from_offset bigint, cap int, hints bool,
		OUT base bigint, OUT last bigint, OUT size int, OUT control bool, OUT digest text)
	RETURNS SETOF record LANGUAGE c AS '$module', 'klog_test_read';
CREATE FUNCTION t.offsets(rel regclass, partition int) RETURNS text
	LANGUAGE c AS '$module', 'klog_test_offsets';
CREATE FUNCTION t.check(rel regclass) RETURNS text LANGUAGE c AS '$module', 'klog_test_check';
CREATE FUNCTION t.find(rel regclass, partition int, ts bigint) RETURNS text
	LANGUAGE c AS '$module', 'klog_test_find';
CREATE FUNCTION t.resolve(rel regclass) RETURNS bigint
	LANGUAGE c AS '$module', 'klog_test_resolve';
CREATE FUNCTION t.headers(rel regclass, partition int, from_offset bigint) RETURNS bigint
	LANGUAGE c AS '$module', 'klog_test_headers';

CREATE TABLE t.log(x int);
-- what must be there, in order; committed with the append
CREATE TABLE t.expected(part int, seq serial, digest text);
CREATE FUNCTION t.go(part int, sizes int[], nrecords int DEFAULT 1, ts bigint DEFAULT 1,
		segment_bytes bigint DEFAULT 1073741824, transactional bool DEFAULT true,
		base bigint DEFAULT NULL) RETURNS void LANGUAGE sql
	AS \$\$INSERT INTO t.expected(part, digest) SELECT part, d
		FROM unnest(t.append('t.log', part, sizes, nrecords, ts, segment_bytes, transactional, base)) d\$\$;
-- read, expected, different
CREATE FUNCTION t.diff(part int, cap int DEFAULT 262144, hints bool DEFAULT true) RETURNS text
	LANGUAGE sql AS \$\$
	SELECT concat_ws(' ', count(a), count(b), count(*) FILTER (WHERE a.digest IS DISTINCT FROM b.digest))
	FROM (SELECT digest, row_number() OVER () n FROM t.read('t.log', part, 0, cap, hints)
		WHERE NOT control) a
	FULL JOIN (SELECT digest, row_number() OVER (ORDER BY seq) n FROM t.expected e
		WHERE e.part = diff.part) b USING (n)\$\$;
SQL

# ---- sizes, segments, searches
is(sql(q{SELECT t.offsets('t.log', 7)}), '0 0 0', 'a partition without pages is empty');
sql(q{SELECT setseed(0.5); SELECT t.go(0, (SELECT array_agg((random() * 3000)::int)
	FROM generate_series(1, 6000)), 1, 1, 20000)});
is(sql(q{SELECT t.offsets('t.log', 0)}), '0 6000 6000', 'offsets after 6000 batches');
is(sql(q{SELECT t.diff(0)}), '6000 6000 0', 'read back, over hundreds of segments');
is(sql(q{SELECT t.diff(0, 5000, false)}), '6000 6000 0', 'in small pieces, searching each time');
is(sql(q{SELECT count(*) FROM generate_series(0, 5999, 41) o WHERE o IS DISTINCT FROM
	(SELECT base FROM t.read('t.log', 0, o, 100, true) LIMIT 1)}), '0', 'every offset is found');
is(sql(q{SELECT string_agg(t.headers('t.log', 0, o)::text, ' ' ORDER BY o)
	FROM unnest('{0,1500,3001,5999}'::bigint[]) o}), '6000 4500 2999 1', 'walks begin at the batch');
is(sql(q{SELECT string_agg(t.find('t.log', 0, ts), ', ' ORDER BY ts)
	FROM unnest('{0,1,2,3500,6000,6001}'::bigint[]) ts}),
	'0 1, 0 1, 1 2, 3499 3500, 5999 6000, -1 -1', 'found by time');
is(sql(q{SELECT t.find('t.log', 0, NULL)}), '5999 6000', 'the greatest timestamp');

sql(q{SELECT t.go(1, '{300000,10,1000000,5000000,20,33000000,8067,8068,8066}')});
is(sql(q{SELECT t.diff(1)}), '9 9 0', 'batches that are longer than a WAL record');
sql(q{SELECT t.go(9, '{100}'), t.go(13, '{100}'), t.go(1000, '{100}')});
is(sql(q{SELECT string_agg(t.diff(p), ', ') FROM unnest('{9,13,1000}'::int[]) p}),
	'1 1 0, 1 1 0, 1 1 0', 'partitions with headers beyond the first unit');
is(sql(q{SELECT t.check('t.log')}), '', 'no problem');

# ---- transactions
sql(q{BEGIN; SELECT t.go(2, '{10,20,30}', 5, 100); COMMIT});
$node->psql('postgres', q{BEGIN; SELECT t.go(2, '{10,9000,400000}', 5, 1000); ROLLBACK});
sql(q{BEGIN; SELECT t.go(2, '{10}', 5, 200); SAVEPOINT s; SELECT t.go(2, '{11}', 5, 300);
	ROLLBACK TO s; SELECT t.go(2, '{12}', 5, 400); COMMIT});
is(sql(q{SELECT t.offsets('t.log', 2)}), '0 45 45', 'offsets are used up by aborted batches too');
is(sql(q{SELECT t.diff(2)}), '5 5 0', 'aborted batches are not shown');
is(sql(q{SELECT string_agg(base || '-' || last, ' ' ORDER BY base) FROM t.read('t.log', 2, 0, 99, true)
	WHERE control}), '15-19 20-24 25-29 35-39', 'control batches stand for them');
is(sql(q{SELECT t.find('t.log', 2, NULL)}), '40 400', 'the greatest timestamp that can be read');
is(sql(q{SELECT t.resolve('t.log')}), '0', 'all are resolved');
is(sql(q{SELECT t.diff(2)}), '5 5 0', 'and read the same');

my $open = $node->background_psql('postgres');
$open->query_safe(q{BEGIN; SELECT t.go(3, '{10,20}', 2)});
sql(q{SELECT t.append('t.log', 3, '{77}', 3, 1, 1073741824, false, NULL)});
is(sql(q{SELECT t.offsets('t.log', 3)}), '0 0 7', 'an open transaction holds the watermark');
like(sql(q{SELECT t.resolve('t.log')}), qr/^[1-9]/, 'its xid stays on the page');
$open->query_safe('COMMIT');
is(sql(q{SELECT t.offsets('t.log', 3)}), '0 7 7', 'and lets go of it');
$open->quit;
is(sql(q{SELECT t.resolve('t.log')}), '0', 'resolved after the commit');
is(sql(q{SELECT count(*) FROM t.read('t.log', 3, 0, 99, true)}), '3', 'three batches');
sql(q{INSERT INTO t.expected(part, digest) SELECT 3, digest FROM t.read('t.log', 3, 4, 99, true)});

my (undef, undef, $err) = $node->psql('postgres',
	q{BEGIN; SELECT t.go(p, '{1}') FROM generate_series(100, 170) p; COMMIT});
like($err, qr/too many partitions are written by transactions in progress/,
	'the pool of pending appends is bounded');
like($err, qr/HINT:.*kafka_pg\.max_pending_appends/, 'with a hint');
ok($node->poll_query_until('postgres', q{SELECT t.offsets('t.log', 100)}, '0 1 1'),
	'and nothing is stuck after the error');

# ---- offsets given explicitly
sql(q{SELECT t.go(4, '{10,20}', 2, 1, 1073741824, true, 1000)});
is(sql(q{SELECT t.offsets('t.log', 4)}), '1000 1004 1004', 'the log starts where its first batch does');
sql(q{SELECT t.go(4, '{10}', 2, 1, 1073741824, true, 2000)});
is(sql(q{SELECT string_agg(base::text, ' ') FROM t.read('t.log', 4, 1500, 1000, true)}), '2000',
	'a read in a gap finds the next batch');
(undef, undef, $err) = $node->psql('postgres', q{SELECT t.go(4, '{10}', 2, 1, 1073741824, true, 1500)});
like($err, qr/klog_append: result/, 'offsets never go back');
(undef, undef, $err) = $node->psql('postgres',
	q{SELECT t.go(4, '{10}', 2, 1, 1073741824, true, 9223372036854775806)});
like($err, qr/klog_append: result/, 'nor beyond what an int8 holds');
is(sql(q{SELECT t.check('t.log')}), '', 'no problem');

sub crash_and_compare
{
	my ($what) = @_;

	$node->stop('immediate');
	$node->start;
	is(sql(q{SELECT t.check('t.log')}), '', "$what: no problem after the crash");
	is(sql(q{SELECT string_agg(DISTINCT split_part(t.diff(part), ' ', 3), ',') FROM
		(SELECT DISTINCT part FROM t.expected WHERE part <> 4) p}), '0', "$what: contents after the crash");
	is(sql(q{SELECT count(*) FROM
		(SELECT part, count(*) n FROM t.expected WHERE part <> 4 GROUP BY part) e
		WHERE split_part(t.diff(part), ' ', 1)::int <> n}), '0', "$what: number of batches");
	return;
}
crash_and_compare('all of the above');

# ---- crashes between any two steps
for my $point (
	[ 'klog-append-before-insert', q{'{100}'} ],
	[ 'klog-append-after-insert', q{'{100}'} ],
	[ 'klog-append-long-page', q{'{2000000}'} ],
	[ 'klog-extent-before-insert', q{'{90000,90000}'} ],
	[ 'klog-extent-after-insert', q{'{90000,90000}'} ],
	[ 'klog-segment-before-insert', q{'{9000,9000}', 1, 1, 10000} ],
	[ 'klog-segment-after-insert', q{'{9000,9000}', 1, 1, 10000} ],
	[ 'klog-resolve-before-insert', q{'{10,20}'} ])
{
	my ($name, $arguments) = @$point;

	# a partition of its own, so that each step is taken; a second one that is only read
	my $part = 20 + $node->{crashes}++;
	sql("SELECT t.go($part, '{50,60}'); SELECT kafka_test.stop_arm('$name', 'kill')");
	my $sql = "BEGIN; SELECT t.go($part, $arguments); COMMIT; SELECT t.resolve('t.log')";
	$node->crash(sub { $node->psql('postgres', $sql) });
	sql("SELECT t.go($part, '{70,300000,80}', 2)");
	crash_and_compare($name);
}

KafkaPg::done();
