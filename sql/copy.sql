-- COPY: out and in again, with and without offsets; rows with offsets
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';

SELECT kafka.create_topic('c', 2);
COPY topics.c (partition, key, value, "timestamp") FROM stdin;
0	a	1	2024-01-01 00:00:00Z
0	b	\N	2024-01-01 00:00:00.001Z
1	\N	3	2024-01-01 00:00:01Z
0	\\x00ff		2024-01-01 00:00:02Z
\.
COPY topics.c TO stdout;
COPY topics.c (key, "offset") TO stdout (FORMAT csv, FORCE_QUOTE (key));
COPY (SELECT kafka.to_text(value) FROM topics.c WHERE partition = 0) TO stdout;

-- columns left out; more than one buffer of COPY's
COPY topics.c (key) FROM PROGRAM 'seq 1 5000';
SELECT count(*), count(DISTINCT partition) FROM topics.c WHERE "timestamp" > '2025-01-01';
SELECT count(*) FROM (SELECT "offset" - lag("offset") OVER (PARTITION BY partition ORDER BY "offset") AS step
                        FROM topics.c) q WHERE step <> 1;

-- an error in the middle leaves nothing
COPY topics.c (partition, key) FROM stdin;
0	x
9	y
\.
SELECT count(*) FROM topics.c WHERE key = 'x';

-- offsets given: as they are, gaps included, NULL timestamps and all
SELECT kafka.create_topic('r', 2);
COPY topics.r FROM stdin;
0	5	2024-01-01 00:00:00.123Z	a	1	{}
0	6	\N	b	\N	{"(h,\\"\\\\\\\\x01\\")","(h,)"}
0	7	infinity	c	\N	\N
0	20	-infinity	\N	\N	\N
1	0	2024-01-01 00:00:00Z	d	\N	\N
0	21	2024-01-01 00:00:00Z	e	\N	\N
\.
COPY topics.r TO stdout;
-- and the partition goes on from there
INSERT INTO topics.r (partition, key) VALUES (0, 'next');
SELECT "offset", key FROM topics.r WHERE partition = 0 ORDER BY "offset" DESC LIMIT 1;
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 30, 'later') RETURNING partition, "offset", "timestamp", key;

-- given twice, or out of order
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 30, 'twice');
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 40, 'a'), (0, 39, 'b');
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 0, 'before the start');
-- what is wrong with a row
INSERT INTO topics.r ("offset", key) VALUES (100, 'where');
INSERT INTO topics.r (partition, "offset", key) VALUES (2, 0, 'no such partition');
INSERT INTO topics.r (partition, "offset", key) VALUES (0, -1, 'negative');
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 9223372036854775807, 'last');
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 9223372036854775806, 'last');
SELECT "offset", key FROM topics.r WHERE partition = 0;

-- rolled back, and by a savepoint: the offsets stay taken
BEGIN;
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 50, 'gone');
ROLLBACK;
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 50, 'again');
BEGIN;
SAVEPOINT s;
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 60, 'gone');
ROLLBACK TO s;
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 70, 'kept');
COMMIT;
SELECT "offset", key FROM topics.r WHERE partition = 0 AND "offset" > 30;

-- with and without in one statement
INSERT INTO topics.r (partition, "offset", key) VALUES (1, 1, 'given'), (1, NULL, 'assigned'), (1, 2, 'given');
SELECT "offset", key FROM topics.r WHERE partition = 1;

-- only by the owner
CREATE ROLE copier;
GRANT USAGE ON SCHEMA topics TO copier;
GRANT INSERT, SELECT ON topics.r TO copier;
SET ROLE copier;
INSERT INTO topics.r (partition, "offset", key) VALUES (0, 100, 'x');
INSERT INTO topics.r (partition, key) VALUES (0, 'by copier');
RESET ROLE;
SELECT "offset", key FROM topics.r WHERE key = 'by copier';
REVOKE ALL ON topics.r FROM copier;
REVOKE ALL ON SCHEMA topics FROM copier;
DROP ROLE copier;

-- a table made, or emptied, by the same transaction: COPY FREEZE and TRUNCATE as in pg_restore
BEGIN;
CREATE TABLE topics.n (LIKE topics.r) USING kafka_log;
COPY topics.n FROM stdin (FREEZE);
0	3	\N	a	\N	\N
2	9	\N	b	\N	\N
\.
COMMIT;
SELECT partition, "offset", key FROM topics.n;
CREATE TABLE topics.m (LIKE topics.r) USING kafka_log;
BEGIN;
TRUNCATE topics.m;
COPY topics.m FROM stdin;
0	3	\N	a	\N	\N
\.
COMMIT;
SELECT partition, "offset", key FROM topics.m;
TRUNCATE topics.m;
-- an aborted one leaves its numbers to the next
CREATE TABLE topics.k (LIKE topics.r) USING kafka_log;
BEGIN;
TRUNCATE topics.k;
INSERT INTO topics.k (partition, "offset") VALUES (0, 5);
ROLLBACK;
INSERT INTO topics.k (partition, "offset") VALUES (0, 0);
SELECT partition, "offset" FROM topics.k;
DROP TABLE topics.n, topics.m, topics.k;

-- binary format
COPY topics.r TO '/tmp/kafka_pg_copy_test.bin' (FORMAT binary);
SELECT kafka.create_topic('b', 2);
COPY topics.b FROM '/tmp/kafka_pg_copy_test.bin' (FORMAT binary);
SELECT (SELECT array_agg(t::text ORDER BY partition, "offset") FROM topics.r t) =
       (SELECT array_agg(t::text ORDER BY partition, "offset") FROM topics.b t) AS same;
\! rm /tmp/kafka_pg_copy_test.bin

SELECT kafka_test.keep_topics();
