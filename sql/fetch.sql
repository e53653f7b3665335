-- Reading: kafka.fetch, kafka.wait, kafka.offset_at, the views
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT kafka.create_topic('f', 2);
SELECT * FROM kafka.partitions WHERE topic = 'f';
SELECT * FROM kafka.fetch('f', 0, 0);
SELECT count(kafka.produce('f', 'value ' || n, 'key ' || n, ARRAY[kafka.header('n', n::text::bytea)], 0,
                           '2020-01-01 00:00:00+00'::timestamptz + n * interval '1 second'))
  FROM generate_series(0, 999) n;
SELECT topic, partition, log_start, high_watermark, end_offset, bytes > 0 AS bytes
  FROM kafka.partitions WHERE topic = 'f';

SELECT partition, "offset", "timestamp" AT TIME ZONE 'UTC' AS utc, kafka.to_text(key) AS key,
       kafka.to_text(value) AS value, kafka.header_text(headers, 'n') AS n
  FROM kafka.fetch('f', 0, 500, 3);
SELECT (f).partition, (f)."offset", kafka.to_text((f).value) AS value, (f).headers
  FROM (SELECT kafka.fetch('f', 0, 998) AS f) x;
SELECT count(*), min("offset"), max("offset") FROM kafka.fetch('f', 0, 10);
SELECT count(*), min("offset"), max("offset") FROM kafka.fetch('f', 0, 10, 2000);
SELECT count(*) FROM kafka.fetch('f', 0, 10, 0);
SELECT count(*) FROM kafka.fetch('f', 0, 1000);
SELECT count(*) FROM kafka.fetch('f', 1, 0);
SELECT count(*) FROM kafka.fetch(topic => 'f', partition => 0, "offset" => 990, max_records => 20, max_wait => '1 hour');
SELECT count(*) FROM kafka.fetch('f', 0, 1000, max_wait => '10 ms');
-- the same rows as the table's
SELECT count(*) FROM (TABLE topics.f EXCEPT SELECT * FROM kafka.fetch('f', 0, 0, 1000)) x;

-- not yet committed is not there, for this transaction either
BEGIN;
SELECT kafka.produce('f', 'pending', partition => 1);
SELECT count(*) FROM kafka.fetch('f', 1, 0);
ROLLBACK;
SELECT count(*) FROM kafka.fetch('f', 1, 0);

-- a transaction that looks at a stable end
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM kafka.fetch('f', 0, 999);
SELECT kafka.produce('f', 'later', partition => 0);
SELECT count(*) FROM kafka.fetch('f', 0, 999);
COMMIT;
SELECT count(*) FROM kafka.fetch('f', 0, 999);

-- mistakes
SELECT * FROM kafka.fetch('no_such_topic', 0, 0);
SELECT * FROM kafka.fetch('f', 2, 0);
SELECT * FROM kafka.fetch('f', -1, 0);
SELECT * FROM kafka.fetch('f', 0, -1);
SELECT * FROM kafka.fetch('f', 0, 5000);
SELECT * FROM kafka.fetch('f', 0, 0, -1);
SELECT * FROM kafka.fetch('f', 0, 0, max_wait => '-1 s');
SELECT * FROM kafka.fetch(NULL, 0, 0);
SELECT * FROM kafka.fetch('f', NULL, 0);
SELECT * FROM kafka.fetch('f', 0, NULL);
SELECT * FROM kafka.fetch('f', 0, 0, NULL);

-- waiting
CALL kafka.wait('f', 0, 5, '1 hour');
CALL kafka.wait('f', 0, 5, '170000000 years');
CALL kafka.wait('f', 1, 0, '10 ms');
CALL kafka.wait('f', 1, 0, '0');
CALL kafka.wait('f', 2, 0, '0');
CALL kafka.wait('f', 1, 77, '0');
CALL kafka.wait('no_such_topic', 1, 0, '0');
CALL kafka.wait('f', 1, 0, NULL);
BEGIN;
CALL kafka.wait('f', 1, 0, '10 ms');
ROLLBACK;
DO $$ BEGIN CALL kafka.wait('f', 1, 0, '10 ms'); END $$;
-- Ctrl-C, or here a timeout, ends it at once
SET statement_timeout = '200ms';
CALL kafka.wait('f', 1, 0, '170000000 years');
SELECT * FROM kafka.fetch('f', 1, 0, max_wait => '1 hour');
RESET statement_timeout;

-- offsets by time
SELECT kafka.offset_at('f', 0, '2020-01-01 00:00:00+00');
SELECT kafka.offset_at('f', 0, '2020-01-01 00:05:00+00');
SELECT kafka.offset_at('f', 0, '2020-01-01 00:05:00.000001+00');
SELECT kafka.offset_at('f', 0, '2020-01-01 00:04:59.999999+00');
SELECT kafka.offset_at('f', 0, '-infinity');
SELECT kafka.offset_at('f', 0, 'infinity');
SELECT kafka.offset_at('f', 0, '2300-01-01 00:00:00+00');
SELECT kafka.offset_at('f', 1, '2020-01-01 00:00:00+00');
SELECT kafka.offset_at('f', 1, '-infinity');
SELECT kafka.offset_at('f', 2, '2020-01-01 00:00:00+00');
SELECT kafka.offset_at('f', 0, NULL);

SELECT * FROM kafka.check_topic('topics.f');
SELECT * FROM kafka.check_topic('pg_class');
SELECT kafka.drop_topic('f');
