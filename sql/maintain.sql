-- ANALYZE, VACUUM, sizes, tablespaces, and tables made from topics
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT kafka.create_topic('m', 4);
-- an empty topic
SELECT count(*) FROM topics.m;
ANALYZE topics.m;
VACUUM topics.m;
VACUUM FULL topics.m;
SELECT reltuples, relpages FROM pg_class WHERE oid = 'topics.m'::regclass;
SELECT pg_relation_size('topics.m');

INSERT INTO topics.m (partition, key, value)
  SELECT g % 4, g::text::bytea, convert_to(repeat('x', 100), 'UTF8') FROM generate_series(1, 20000) g;
SELECT pg_stat_force_next_flush();
ANALYZE topics.m;
SELECT reltuples BETWEEN 15000 AND 25000 AS rows, relpages > 300 AS pages
  FROM pg_class WHERE oid = 'topics.m'::regclass;
SELECT attname, null_frac, CASE WHEN n_distinct BETWEEN 0 AND 10 THEN n_distinct END AS few
  FROM pg_stats WHERE schemaname = 'topics' AND tablename = 'm' AND attname <> 'timestamp' ORDER BY attname;
SELECT n_tup_ins, n_live_tup BETWEEN 15000 AND 25000 AS live, n_dead_tup
  FROM pg_stat_user_tables WHERE relid = 'topics.m'::regclass;

-- batches that are larger than a page, and than what a scan reads at once
SELECT kafka.create_topic('large', 1, '{"max.message.bytes": "33554432"}');
INSERT INTO topics.large (key, value)
  SELECT g::text::bytea, convert_to(repeat(g::text, (3000000 / length(g::text))::int), 'UTF8') FROM generate_series(8, 11) g;
SELECT "offset", key, length(value), md5(value) = md5(convert_to(repeat(kafka.to_text(key), (3000000 / length(key))::int), 'UTF8')) AS same
  FROM topics.large;
INSERT INTO topics.large (value) SELECT convert_to(repeat('x', 20000000), 'UTF8');
SELECT length(value) FROM topics.large WHERE "offset" = 4;
ANALYZE topics.large;

-- VACUUM takes xids off the pages and says so
SELECT age(relfrozenxid) AS before FROM pg_class WHERE oid = 'topics.m'::regclass \gset
VACUUM topics.m;
SELECT age(relfrozenxid) < :before AS younger, reltuples FROM pg_class WHERE oid = 'topics.m'::regclass;
VACUUM (FREEZE, ANALYZE) topics.m, topics.large;
VACUUM FULL topics.m;
SELECT count(*) FROM topics.m;
INSERT INTO topics.m (partition, key) VALUES (0, 'after');
SELECT "offset" FROM topics.m WHERE key = 'after';
CLUSTER topics.m;

-- another tablespace, and back
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE elsewhere LOCATION '';
ALTER TABLE topics.m SET TABLESPACE elsewhere;
SELECT count(*) FROM topics.m;
INSERT INTO topics.m (partition, key) VALUES (0, 'moved');
BEGIN;
INSERT INTO topics.m (partition, key) VALUES (0, 'pending');
ALTER TABLE topics.m SET TABLESPACE pg_default;
INSERT INTO topics.m (partition, key) VALUES (0, 'moved back');
ROLLBACK;
BEGIN;
INSERT INTO topics.m (partition, key) VALUES (0, 'pending');
ALTER TABLE topics.m SET TABLESPACE pg_default;
INSERT INTO topics.m (partition, key) VALUES (0, 'moved back');
COMMIT;
SELECT "offset", kafka.to_text(key) FROM topics.m WHERE partition = 0 AND "offset" >= 5000;
DROP TABLESPACE elsewhere;

-- into ordinary tables and out of them
CREATE TABLE plain AS SELECT * FROM topics.m;
SELECT count(*), count(DISTINCT (partition, "offset")) FROM plain;
CREATE TABLE topics.again USING kafka_log AS SELECT * FROM plain ORDER BY partition, "offset";
SELECT count(*) FROM (SELECT * FROM plain EXCEPT SELECT * FROM topics.again) q;
DROP TABLE topics.again;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
ANALYZE plain;
EXPLAIN (COSTS OFF) CREATE TABLE topics.again USING kafka_log AS
  SELECT 0 AS partition, 7::bigint AS "offset", now() AS "timestamp", ''::bytea AS key, ''::bytea AS value, '{}'::kafka.header[] AS headers FROM plain WHERE key = '17';
CREATE TABLE topics.again USING kafka_log AS
  SELECT 0 AS partition, 7::bigint AS "offset", now() AS "timestamp", ''::bytea AS key, ''::bytea AS value, '{}'::kafka.header[] AS headers FROM plain WHERE key = '17';
SELECT "offset" FROM topics.again;
DROP TABLE topics.again;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
CREATE MATERIALIZED VIEW per_partition AS SELECT partition, count(*) FROM topics.m GROUP BY 1;
SELECT * FROM per_partition ORDER BY 1;
INSERT INTO topics.m (partition) VALUES (3);
REFRESH MATERIALIZED VIEW per_partition;
SELECT * FROM per_partition ORDER BY 1;
DROP MATERIALIZED VIEW per_partition;
DROP TABLE plain;

-- TRUNCATE is for topics that never held anything
TRUNCATE topics.m;
SELECT kafka.create_topic('empty');
TRUNCATE topics.empty;
INSERT INTO topics.empty (value) VALUES ('x');
TRUNCATE topics.empty;

SELECT kafka_test.keep_topics();
