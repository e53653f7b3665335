-- Queries on topics: conditions that choose pages, what EXPLAIN shows, snapshots, cursors, joins
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';

SELECT kafka.create_topic('s', 3);
-- 1,000 records of 1 KB in each partition, one a second
INSERT INTO topics.s (partition, key, value, "timestamp")
  SELECT p, g::text::bytea, convert_to(repeat('v', 1000), 'UTF8'),
         timestamptz '2024-01-01Z' + g * interval '1 s'
    FROM generate_series(0, 999) g, generate_series(0, 2) p;

-- conditions on partition and offset
EXPLAIN (COSTS OFF) SELECT * FROM topics.s;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition = 1;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition = 1 AND "offset" >= 10 AND "offset" < 20;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition IN (0, 2) AND "offset" BETWEEN 10 AND 20;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE 1 >= partition AND 10 < "offset";
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition = 1 AND key = '17';
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE "timestamp" >= '2024-01-01 00:10Z' AND "timestamp" < '2024-01-01 00:11Z';
EXPLAIN (COSTS OFF, VERBOSE) SELECT key FROM topics.s x WHERE partition = 1 AND "offset" = ANY ('{1,3}');
-- not these
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition + 0 = 1 AND "offset" <> 5;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition = (random() * 0)::int;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition = "offset";

-- and what they give
SELECT partition, count(*), min("offset"), max("offset") FROM topics.s GROUP BY 1 ORDER BY 1;
SELECT partition, "offset", kafka.to_text(key) AS key, "timestamp" FROM topics.s
 WHERE partition = 1 AND "offset" >= 10 AND "offset" < 13;
SELECT partition, "offset" FROM topics.s WHERE "offset" = 999;
SELECT count(*) FROM topics.s WHERE partition IN (0, 2, 2, 7, NULL) AND "offset" > 989;
SELECT count(*) FROM topics.s WHERE partition = ANY ('{0,1}') AND partition = ANY ('{1,2}');
SELECT count(*) FROM topics.s WHERE partition < 2 AND partition >= 1 AND "offset" <= 5;
SELECT count(*) FROM topics.s WHERE partition = 1 AND partition = 2;
SELECT count(*) FROM topics.s WHERE "offset" > 9223372036854775807;
SELECT count(*) FROM topics.s WHERE "offset" < (-9223372036854775808);
SELECT count(*) FROM topics.s WHERE "offset" > -5 AND partition > -5 AND partition < 100000::bigint;
SELECT count(*) FROM topics.s WHERE "offset" = NULL::bigint;
SELECT count(*) FROM topics.s WHERE "offset" = ANY (NULL::bigint[]);
SELECT count(*) FROM topics.s WHERE "offset" = ANY ('{}'::bigint[]);
SELECT partition, "offset" FROM topics.s WHERE "offset" = ANY ('{3,900,NULL,1}') AND partition = 0;
SELECT count(*) FROM topics.s WHERE partition = 1::smallint AND "offset" < 3::smallint;

-- timestamps
SELECT count(*), min("timestamp"), max("timestamp") FROM topics.s WHERE "timestamp" >= '2024-01-01 00:10Z';
SELECT count(*) FROM topics.s WHERE "timestamp" > '2024-01-01 00:10Z';
SELECT count(*) FROM topics.s WHERE "timestamp" > '2024-01-01 00:09:59.9995Z' AND partition = 0;
SELECT count(*) FROM topics.s WHERE "timestamp" = '2024-01-01 00:10Z';
SELECT count(*) FROM topics.s WHERE "timestamp" BETWEEN '2024-01-01 00:10Z' AND '2024-01-01 00:10:09Z';
SELECT count(*) FROM topics.s WHERE "timestamp" >= 'infinity';
SELECT count(*) FROM topics.s WHERE "timestamp" > '-infinity';
SELECT count(*) FROM topics.s WHERE "timestamp" >= date '2024-01-02' OR "timestamp" IS NULL;
SELECT count(*) FROM topics.s WHERE "timestamp" >= date '2024-01-01' AND "timestamp" > timestamp '2024-01-01 00:16:00';
-- they need not rise
SELECT kafka.create_topic('zigzag');
INSERT INTO topics.zigzag (key, "timestamp")
  SELECT g::text::bytea, timestamptz '2024-01-01Z' + ((g * 7919) % 1000) * interval '1 s' FROM generate_series(0, 999) g;
SELECT count(*) FROM topics.zigzag WHERE "timestamp" >= '2024-01-01 00:15Z';
SELECT count(*) FROM topics.zigzag WHERE "timestamp" >= '2024-01-01 00:15Z' AND "timestamp" < '2024-01-01 00:15:10Z';
SELECT count(*) FROM topics.zigzag WHERE "timestamp" < '2024-01-01 00:01Z';

-- what a scan reads
CREATE FUNCTION reads(query text) RETURNS TABLE (batches int, few_pages bool) LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
  EXECUTE 'EXPLAIN (ANALYZE, FORMAT json) ' || query INTO plan;
  plan := plan->0->'Plan';
  WHILE plan->>'Batches Read' IS NULL LOOP
    plan := plan->'Plans'->0;
  END LOOP;
  RETURN QUERY SELECT (plan->>'Batches Read')::int, (plan->>'Pages Read')::int <= 40;
END $$;
SELECT * FROM reads('SELECT * FROM topics.s WHERE partition = 1 AND "offset" = 500');
SELECT * FROM reads('SELECT * FROM topics.s WHERE partition = 5');
SELECT * FROM reads('SELECT * FROM topics.s WHERE "timestamp" > ''2025-01-01''');
SELECT * FROM reads('SELECT * FROM topics.s WHERE "timestamp" >= ''2024-01-01 00:16:39Z''');
SELECT * FROM reads('SELECT * FROM topics.s LIMIT 1');

-- the order is known
EXPLAIN (COSTS OFF) SELECT * FROM topics.s ORDER BY partition, "offset" LIMIT 5;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition = 1 ORDER BY "offset" LIMIT 5;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition IN (0, 1) ORDER BY partition, "offset" LIMIT 5;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s ORDER BY "offset" LIMIT 5;
EXPLAIN (COSTS OFF) SELECT min("offset") FROM topics.s WHERE partition = 1;
SELECT min("offset"), max("offset") FROM topics.s WHERE partition = 1;
SELECT partition, "offset" FROM topics.s WHERE partition IN (2, 1) ORDER BY partition, "offset" LIMIT 2 OFFSET 999;

-- backward: the newest records first
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE partition = 1 ORDER BY "offset" DESC LIMIT 5;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE "offset" < 100 ORDER BY partition DESC, "offset" DESC;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s ORDER BY partition, "offset" DESC;
EXPLAIN (COSTS OFF) SELECT max("offset") FROM topics.s WHERE partition = 1;
SELECT partition, "offset", kafka.to_text(key) AS key FROM topics.s WHERE partition = 1 ORDER BY "offset" DESC LIMIT 3;
SELECT * FROM reads('SELECT * FROM topics.s WHERE partition = 1 ORDER BY "offset" DESC LIMIT 3');
SELECT * FROM reads('SELECT max("offset") FROM topics.s WHERE partition = 1');
-- all of it, in one order and in the other: many batches, a large one, gaps, dead batches
SELECT kafka.create_topic('b', 3);
DO $$
BEGIN
  FOR i IN 1 .. 200 LOOP
    INSERT INTO topics.b (partition, key) SELECT i % 2, g::text::bytea FROM generate_series(1, i % 37 + 1) g;
  END LOOP;
END $$;
INSERT INTO topics.b (partition, key) SELECT 0, g::text::bytea FROM generate_series(1, 30000) g;
INSERT INTO topics.b (partition, "offset", key) SELECT 0, 1000000000000 + g * 3, 'x' FROM generate_series(1, 100) g;
BEGIN;
INSERT INTO topics.b (partition, "offset", key) SELECT 0, 2000000000000 + g, 'x' FROM generate_series(1, 100) g;
ROLLBACK;
INSERT INTO topics.b (partition, key) SELECT g % 3, g::text::bytea FROM generate_series(1, 3000) g;
CREATE TEMP TABLE forward AS
  SELECT row_number() OVER () AS n, * FROM (SELECT * FROM topics.b ORDER BY partition, "offset") q;
CREATE TEMP TABLE backward AS
  SELECT row_number() OVER () AS n, * FROM (SELECT * FROM topics.b ORDER BY partition DESC, "offset" DESC) q;
SELECT count(*) FROM forward;
SELECT count(*) FROM forward f JOIN backward b ON f.n = (SELECT count(*) + 1 FROM backward) - b.n
 WHERE (f.partition, f."offset", f.key) = (b.partition, b."offset", b.key);
SELECT partition, "offset", key FROM topics.b WHERE partition IN (0, 2) AND "offset" BETWEEN 5 AND 1000000000003
 ORDER BY partition DESC, "offset" DESC OFFSET 993 LIMIT 4;
SELECT partition, (SELECT "offset" FROM topics.b t WHERE t.partition = p.partition ORDER BY "offset" DESC OFFSET 1 LIMIT 1)
  FROM generate_series(0, 3) AS p (partition);
DROP TABLE forward, backward;

-- parameters
SET plan_cache_mode = force_generic_plan;
PREPARE by_offset (int, bigint, bigint) AS
  SELECT partition, "offset" FROM topics.s WHERE partition = $1 AND "offset" BETWEEN $2 AND $3;
EXPLAIN (COSTS OFF) EXECUTE by_offset (1, 2, 3);
EXECUTE by_offset (1, 2, 3);
EXECUTE by_offset (2, 998, 5000);
EXECUTE by_offset (NULL, 2, 3);
PREPARE by_list (int[], timestamptz) AS
  SELECT partition, count(*) FROM topics.s WHERE partition = ANY ($1) AND "timestamp" >= $2 GROUP BY 1 ORDER BY 1;
EXECUTE by_list ('{0,2}', '2024-01-01 00:16:30Z');
EXECUTE by_list ('{}', '2024-01-01 00:16:30Z');
RESET plan_cache_mode;

-- joins: nested loops look up their records
CREATE TABLE wanted (p int, o bigint);
INSERT INTO wanted SELECT g % 3, g * 10 FROM generate_series(0, 9) g;
ANALYZE topics.s, wanted;
EXPLAIN (COSTS OFF) SELECT w.*, t.key FROM wanted w JOIN topics.s t ON t.partition = w.p AND t."offset" = w.o;
SELECT w.*, kafka.to_text(t.key) AS key FROM wanted w JOIN topics.s t ON t.partition = w.p AND t."offset" = w.o ORDER BY o;
SELECT w.o, l.n FROM wanted w,
  LATERAL (SELECT count(*) AS n FROM topics.s t WHERE t.partition = w.p AND t."offset" >= w.o) l WHERE o < 30 ORDER BY o;
SELECT o, (SELECT kafka.to_text(key) FROM topics.s WHERE partition = p AND "offset" = o) FROM wanted WHERE o < 30 ORDER BY o;
SELECT count(*) FROM topics.s a JOIN topics.s b USING (partition, "offset");
SELECT count(*) FROM wanted w LEFT JOIN topics.s t ON t.partition = w.p AND t."offset" = w.o + 5000;
SELECT count(*) FROM topics.s WHERE EXISTS (SELECT FROM wanted WHERE p = partition AND o = "offset");

-- other tables changed by what a topic says
CREATE TABLE state (key text PRIMARY KEY, n int);
INSERT INTO state SELECT g::text, 0 FROM generate_series(0, 4) g;
UPDATE state SET n = t."offset" FROM topics.s t WHERE state.key = kafka.to_text(t.key) AND t.partition = 2;
DELETE FROM state USING topics.s t WHERE state.key = kafka.to_text(t.key) AND t."offset" = 3;
MERGE INTO state s USING (SELECT * FROM topics.s WHERE partition = 0 AND "offset" < 5) t ON s.key = kafka.to_text(t.key)
  WHEN MATCHED THEN UPDATE SET n = n + 100 WHEN NOT MATCHED THEN INSERT VALUES (kafka.to_text(t.key), -1);
SELECT * FROM state ORDER BY key;
SELECT state.key FROM state JOIN topics.s t ON state.key = kafka.to_text(t.key) AND t.partition = 0
 WHERE "offset" < 2 ORDER BY 1 FOR UPDATE OF state;

-- whole rows, system columns
SELECT t FROM (SELECT partition, "offset", key FROM topics.s WHERE partition = 0 AND "offset" = 1) t;
SELECT (t).key, t."timestamp" FROM topics.s t WHERE partition = 0 AND "offset" = 1;
SELECT tableoid::regclass FROM topics.s WHERE partition = 0 AND "offset" = 1;
SELECT xmin FROM topics.s WHERE partition = 0 AND "offset" = 1;
SELECT * FROM topics.s TABLESAMPLE system (1);

-- cursors
BEGIN;
DECLARE forward CURSOR FOR SELECT "offset" FROM topics.s WHERE partition = 0;
FETCH 2 FROM forward;
INSERT INTO topics.s (partition) VALUES (0);
MOVE 995 IN forward;
FETCH ALL FROM forward;
FETCH PRIOR FROM forward;
ROLLBACK;
BEGIN;
DECLARE both_ways SCROLL CURSOR FOR SELECT "offset" FROM topics.s WHERE partition = 0;
FETCH LAST FROM both_ways;
FETCH PRIOR FROM both_ways;
FETCH ABSOLUTE 10 FROM both_ways;
FETCH BACKWARD 2 FROM both_ways;
COMMIT;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT "offset" FROM topics.s WHERE partition = 0 AND "offset" > 997;
COMMIT;
FETCH ALL FROM held;
CLOSE held;

-- no parallel plan, also where other tables have one
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 4;
EXPLAIN (COSTS OFF) SELECT count(*) FROM topics.s;
SELECT count(*) FROM topics.s;
SET force_parallel_mode = regress;
SELECT count(*) FROM topics.s;
RESET force_parallel_mode;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET max_parallel_workers_per_gather;

-- other kinds of scans are out of the planner's reach
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM topics.s WHERE ctid = '(0,1)';
RESET enable_seqscan;

-- a plan stays good while the topic grows
PREPARE counted AS SELECT count(*) FROM topics.s;
EXECUTE counted;
INSERT INTO topics.s (partition) VALUES (0);
EXECUTE counted;

DROP FUNCTION reads;
DROP TABLE wanted, state;
SELECT kafka_test.keep_topics();
