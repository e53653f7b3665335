-- INSERT into topics: what is filled in, what is checked, what RETURNING gives
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';

SELECT kafka.create_topic('i', 3);

-- keys choose their partition as in Kafka's clients; the offset exists at commit only
INSERT INTO topics.i (key, value, "timestamp")
  SELECT ('key' || g)::bytea, ('value' || g)::bytea, '2024-01-01 00:00:00.1239Z'
    FROM generate_series(1, 6) g
  RETURNING partition, "offset", "timestamp", kafka.to_text(key), headers;
SELECT partition, "offset", "timestamp", kafka.to_text(key) AS key, kafka.to_text(value) AS value,
       headers
  FROM topics.i ORDER BY partition, "offset";

-- a partition given; empty and null; a timestamp that nobody gave is now
INSERT INTO topics.i (partition, key, value) VALUES (0, '', ''), (0, NULL, NULL), (0, '\x00ff', '\x00')
  RETURNING partition, "offset", "timestamp" BETWEEN now() - interval '1 s' AND clock_timestamp();
SELECT "offset", key, value FROM topics.i WHERE partition = 0 AND "offset" > 0;

-- without a key: one partition for a while
INSERT INTO topics.i (value) SELECT 'sticky' FROM generate_series(1, 100);
SELECT count(DISTINCT partition) FROM topics.i WHERE value = 'sticky';
-- and another later
INSERT INTO topics.i (value) SELECT repeat('sticky', 100)::bytea FROM generate_series(1, 1000);
SELECT count(DISTINCT partition) FROM topics.i WHERE value = repeat('sticky', 100)::bytea;

-- headers: order, duplicates, null and empty values
SELECT kafka.create_topic('h');
INSERT INTO topics.h (key, headers) VALUES
  ('none', NULL),
  ('empty', '{}'),
  ('some', ARRAY[kafka.header('b', '1'), kafka.header('a', '2'), kafka.header('b', '1')]),
  ('null', ARRAY[kafka.header('n', NULL), kafka.header('', ''), kafka.header('ä€😀"\', '\x00')]);
SELECT kafka.to_text(key) AS of, headers FROM topics.h ORDER BY "offset";
SELECT kafka.to_text(t.key) AS of, h.* FROM topics.h t, unnest(headers) WITH ORDINALITY h
 ORDER BY "offset", ordinality;
-- values that lie compressed in another table
CREATE TABLE toasted (v bytea, h kafka.header[]);
INSERT INTO toasted SELECT convert_to(string_agg(g::text, ','), 'UTF8'),
       array_agg(kafka.header('h' || g, convert_to(repeat('x', g), 'UTF8')))
  FROM generate_series(1, 1000) g;
INSERT INTO topics.h (key, value, headers) SELECT 'toasted', v, h FROM toasted;
SELECT value = v AND headers = h AS same FROM topics.h, toasted WHERE key = 'toasted';

-- timestamps at the ends
SELECT kafka.create_topic('times', 1, '{"message.timestamp.after.max.ms": "9223372036854775807"}');
INSERT INTO topics.times (key, "timestamp") VALUES
  ('min', '4714-11-24 00:00:00Z BC'), ('max', '294276-12-31 23:59:59.999Z'),
  ('1970', '1970-01-01Z'), ('before', '1969-12-31 23:59:59.999Z'), ('-2', '1969-12-31 23:59:59.998Z');
SELECT kafka.to_text(key), "timestamp" FROM topics.times ORDER BY "offset";

-- refused
INSERT INTO topics.i (partition) VALUES (3);
INSERT INTO topics.i (partition) VALUES (-1);
INSERT INTO topics.i ("timestamp") VALUES ('infinity');
INSERT INTO topics.i ("timestamp") VALUES ('-infinity');
INSERT INTO topics.i (headers) VALUES (ARRAY[kafka.header(NULL, 'x')]);
INSERT INTO topics.i (headers) VALUES (ARRAY[NULL::kafka.header]);
INSERT INTO topics.i VALUES (0, -1);
-- none of them left anything
SELECT count(*) FROM topics.i;

-- the topic's configs
SELECT kafka.create_topic('compacted', 1, '{"cleanup.policy": "compact"}');
INSERT INTO topics.compacted (value) VALUES ('x');
INSERT INTO topics.compacted (key) VALUES ('tombstone');
SELECT kafka.create_topic('append_time', 1, '{"message.timestamp.type": "LogAppendTime"}');
INSERT INTO topics.append_time ("timestamp") VALUES ('2000-01-01');
SELECT "timestamp" > now() - interval '1 min' AS now FROM topics.append_time;
SELECT kafka.create_topic('narrow', 1,
  '{"message.timestamp.before.max.ms": "3600000", "message.timestamp.after.max.ms": "3600000"}');
INSERT INTO topics.narrow ("timestamp") VALUES (now() - interval '2 h');
INSERT INTO topics.narrow ("timestamp") VALUES (now() + interval '2 h');
INSERT INTO topics.narrow ("timestamp") VALUES (now() - interval '10 min'), (now() + interval '10 min');
SELECT count(*) FROM topics.narrow;
SELECT kafka.create_topic('short', 1, '{"max.message.bytes": "1000"}');
INSERT INTO topics.short (value) VALUES (convert_to(repeat('x', 1000), 'UTF8'));
INSERT INTO topics.short (value) SELECT convert_to(repeat('x', 900), 'UTF8') FROM generate_series(1, 3);
SELECT "offset", length(value) FROM topics.short;

-- compressed topics: a large record passes if it is small when compressed, as in Kafka
DO $$
DECLARE codec text;
BEGIN
  FOREACH codec IN ARRAY '{uncompressed,gzip,snappy,lz4,zstd}'::text[] LOOP
    PERFORM kafka.create_topic('c.' || codec, 1,
      jsonb_build_object('compression.type', codec, 'max.message.bytes', '100000'));
    EXECUTE format($q$INSERT INTO topics.%I (key, value, headers)
      SELECT g::text::bytea, convert_to(repeat(md5(g::text), 50), 'UTF8'), ARRAY[kafka.header('g', g::text::bytea)]
        FROM generate_series(1, 1000) g$q$, 'c.' || codec);
  END LOOP;
END $$;
SELECT name, n, sum, bad FROM kafka.topics t, LATERAL (
  SELECT (xpath('/row/n/text()', x))[1]::text::int AS n, (xpath('/row/s/text()', x))[1]::text::int AS sum,
         (xpath('/row/b/text()', x))[1]::text::int AS bad
    FROM query_to_xml(format($q$SELECT count(*) AS n, sum(length(value)) AS s,
      count(*) FILTER (WHERE "offset" + 1 <> kafka.to_text(key)::int OR headers[1].value <> key) AS b
      FROM topics.%I$q$, t.name), true, true, '') x) q
 WHERE name LIKE 'c.%' ORDER BY name;
INSERT INTO topics."c.gzip" (value) VALUES (convert_to(repeat('x', 300000), 'UTF8'));
INSERT INTO topics."c.uncompressed" (value) VALUES (convert_to(repeat('x', 300000), 'UTF8'));
SELECT length(value) FROM topics."c.gzip" ORDER BY "offset" DESC LIMIT 1;

-- random bytes do not compress
INSERT INTO topics."c.gzip" (value)
  SELECT decode(string_agg(md5(g::text), ''), 'hex') FROM generate_series(1, 20000) g;

-- a table of our access method that is not a topic
CREATE TABLE topics.orphan (LIKE topics.i) USING kafka_log;
INSERT INTO topics.orphan (value) VALUES ('x');
DROP TABLE topics.orphan;

-- INSERT ... SELECT from another topic, and in a data-modifying CTE
WITH moved AS (INSERT INTO topics.h (key) SELECT key FROM topics.compacted RETURNING key)
SELECT kafka.to_text(key) FROM moved;

-- in a parallel query's place: nothing of it runs in a worker
SET force_parallel_mode = on;
INSERT INTO topics.h (key) VALUES ('serial');
SELECT count(*) FROM topics.h WHERE key = 'serial';
RESET force_parallel_mode;

DROP TABLE toasted;
SELECT kafka_test.keep_topics();
