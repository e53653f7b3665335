-- Consumer groups from SQL: committed offsets, kafka.consume, kafka.wait_group, the views
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT kafka.create_topic('g', 2);
INSERT INTO topics.g (partition, "timestamp", value)
  SELECT n % 2, '2020-01-01 00:00:00+00'::timestamptz + n * interval '1 second', kafka.to_bytea('r' || n)
  FROM generate_series(0, 39) n;

-- committed offsets
SELECT kafka.committed_offset('a', 'g', 0);
SELECT kafka.commit_offset('a', 'g', 0, 7, 'by hand');
SELECT kafka.committed_offset('a', 'g', 0), kafka.committed_offset('a', 'g', 1);
SELECT "offset", leader_epoch, metadata, expires FROM kafka.group_offset WHERE group_id = 'a';
BEGIN;
SELECT kafka.commit_offset('a', 'g', 0, 8);
SAVEPOINT s;
SELECT kafka.commit_offset('a', 'g', 0, 9);
SELECT kafka.commit_offset('a', 'g', 1, 1);
SELECT kafka.committed_offset('a', 'g', 0), kafka.committed_offset('a', 'g', 1);
ROLLBACK TO s;
SELECT kafka.committed_offset('a', 'g', 0), kafka.committed_offset('a', 'g', 1);
ROLLBACK;
SELECT kafka.committed_offset('a', 'g', 0);
-- back, and past the end, as in Kafka
SELECT kafka.commit_offset('a', 'g', 0, 3), kafka.commit_offset('a', 'g', 0, 2);
SELECT kafka.committed_offset('a', 'g', 0);
SELECT kafka.commit_offset('a', 'g', 0, 9223372036854775807);
SELECT * FROM kafka.consume('a', 'g');
CALL kafka.wait_group('a', 'g', '10 ms');
SELECT kafka.commit_offset('a', 'g', 0, 0);

-- what is refused
SELECT kafka.commit_offset('a', 'g', 0, -1);
SELECT kafka.commit_offset('a', 'g', 2, 0);
SELECT kafka.commit_offset('a', 'g', -1, 0);
SELECT kafka.commit_offset('a', 'there is none', 0, 0);
SELECT kafka.commit_offset('', 'g', 0, 0);
SELECT kafka.commit_offset(repeat('x', 1025), 'g', 0, 0);
SELECT kafka.commit_offset(repeat('x', 1024), 'g', 0, 0, repeat('m', 4096));
SELECT kafka.commit_offset('a', 'g', 0, 0, repeat('m', 4097));
SELECT kafka.commit_offset(NULL, 'g', 0, 0);
SELECT kafka.commit_offset('a', 'g', 0, 0, NULL);
SELECT kafka.committed_offset('a', 'g', 2);
SELECT kafka.committed_offset('', 'g', 0);
SELECT * FROM kafka.consume('a', 'there is none');
SELECT * FROM kafka.consume('', 'g');
SELECT * FROM kafka.consume('a', 'g', 0);
SELECT * FROM kafka.consume('a', 'g', 1, '-1 s');
SELECT * FROM kafka.consume('a', 'g', NULL);
BEGIN READ ONLY;
SELECT * FROM kafka.consume('a', 'g');
ROLLBACK;
BEGIN;
CALL kafka.wait_group('a', 'g', '1 ms');
ROLLBACK;
CALL kafka.wait_group('a', 'there is none', '1 ms');
DELETE FROM kafka.group_offset;

-- consuming: all of it, each record once, in the partition's order
CREATE TABLE got (n serial, partition int, "offset" bigint, value text);
INSERT INTO got (partition, "offset", value)
  SELECT partition, "offset", kafka.to_text(value) FROM kafka.consume('b', 'g', 7);
SELECT count(*), count(DISTINCT partition), min("offset"), max("offset") FROM got;
SELECT sum(committed_offset), sum(lag) FROM kafka.group_lag WHERE group_id = 'b';
DO $$
BEGIN
  LOOP
    INSERT INTO got (partition, "offset", value)
      SELECT partition, "offset", kafka.to_text(value) FROM kafka.consume('b', 'g', 7);
    EXIT WHEN NOT FOUND;
    COMMIT;
  END LOOP;
END $$;
SELECT partition, count(*), count(DISTINCT "offset"), min("offset"), max("offset"),
       bool_and(value = 'r' || "offset" * 2 + partition) AS right
  FROM got GROUP BY partition ORDER BY partition;
SELECT count(*) FROM (SELECT "offset" < lag("offset") OVER (PARTITION BY partition ORDER BY n) AS back FROM got) x
 WHERE back;
SELECT topic, partition, committed_offset, high_watermark, lag, last_commit > now() - interval '1 hour' AS recently
  FROM kafka.group_lag WHERE group_id = 'b' ORDER BY partition;
TRUNCATE got;

-- the columns are those of kafka.fetch
SELECT * FROM kafka.reset_offsets('b', 'g', 'earliest');
SELECT count(*) FROM (SELECT * FROM kafka.consume('b', 'g') EXCEPT TABLE topics.g) x;

-- again in a transaction: what comes next; a rollback gives it back
SELECT * FROM kafka.reset_offsets('b', 'g', 'earliest');
BEGIN;
SELECT count(*) FROM kafka.consume('b', 'g', 15);
SELECT count(*) FROM kafka.consume('b', 'g', 15);
SAVEPOINT s;
SELECT count(*) FROM kafka.consume('b', 'g', 15);
SELECT count(*) FROM kafka.consume('b', 'g', 15);
ROLLBACK TO s;
SELECT count(*) FROM kafka.consume('b', 'g', 15);
SELECT count(*) FROM kafka.consume('b', 'g', 15);
ROLLBACK;
SELECT sum(lag) FROM kafka.group_lag WHERE group_id = 'b';
-- several times in a statement
SELECT n, (SELECT count(*) FROM kafka.consume('b', 'g', 15 + 0 * n)) FROM generate_series(1, 4) n;
-- what an EXCEPTION block undoes
SELECT * FROM kafka.reset_offsets('b', 'g', 'earliest');
DO $$
BEGIN
  BEGIN
    PERFORM * FROM kafka.consume('b', 'g');
    RAISE division_by_zero;
  EXCEPTION WHEN division_by_zero THEN NULL;
  END;
  RAISE WARNING 'after the exception: %', (SELECT count(*) FROM kafka.consume('b', 'g'));
END $$;
-- of a transaction that looks at a stable end
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM kafka.consume('b', 'g');
SELECT kafka.commit_offset('b', 'g', 0, 5), kafka.commit_offset('b', 'g', 0, 10);
SELECT count(*) FROM kafka.consume('b', 'g');
COMMIT;

-- each call begins with the next partition: none has to wait for another's end
SELECT * FROM kafka.reset_offsets('fair', 'g', 'earliest');
DO $$
BEGIN
  FOR i IN 1 .. 6 LOOP
    PERFORM * FROM kafka.consume('fair', 'g', 1);
  END LOOP;
END $$;
SELECT partition, committed_offset FROM kafka.group_lag WHERE group_id = 'fair' ORDER BY partition;

-- what a transaction produces itself is not there yet
BEGIN;
SELECT kafka.produce('g', 'mine', partition => 0);
SELECT count(*) FROM kafka.consume('b', 'g');
COMMIT;
CALL kafka.wait_group('b', 'g', '1 min');
SELECT kafka.to_text(value) FROM kafka.consume('b', 'g', max_wait => '1 min');
-- records of failed transactions are passed, and the offsets get to the end
BEGIN;
SELECT kafka.produce('g', 'never', partition => 0);
ROLLBACK;
SELECT kafka.produce('g', 'behind it', partition => 0);
SELECT kafka.to_text(value) FROM kafka.consume('b', 'g', max_wait => '1 min');
SELECT sum(lag) FROM kafka.group_lag WHERE group_id = 'b';
SELECT count(*) FROM kafka.consume('b', 'g', max_wait => '10 ms');

-- wait_group in a worker's loop, in which it holds no snapshot
DO $$
BEGIN
  PERFORM kafka.produce('g', 'for the worker');
  COMMIT;
  CALL kafka.wait_group('b', 'g', '1 min');
  RAISE WARNING 'worker: %', (SELECT kafka.to_text(value) FROM kafka.consume('b', 'g'));
  CALL kafka.wait_group('b', 'g', '10 ms');
END $$;

-- a wait can be ended
SET statement_timeout = '50 ms';
CALL kafka.wait_group('b', 'g', '1 hour');
SELECT * FROM kafka.consume('b', 'g', max_wait => '1 hour');
RESET statement_timeout;

-- resetting, and what is brought into range
SELECT * FROM kafka.reset_offsets('c', 'g', shift_by => 1);
SELECT * FROM kafka.reset_offsets('c', 'g', target_time => '2020-01-01 00:00:10+00');
SELECT * FROM kafka.reset_offsets('c', 'g', target_time => '2020-01-01 00:00:10.0001+00');
SELECT * FROM kafka.reset_offsets('c', 'g', target_time => '-infinity');
SELECT partition, "offset" >= 20 AS "end" FROM kafka.reset_offsets('c', 'g', target_time => 'infinity');
SELECT * FROM kafka.reset_offsets('c', 'g', target_offset => 12);
SELECT * FROM kafka.reset_offsets('c', 'g', shift_by => -2);
SELECT * FROM kafka.reset_offsets('c', 'g', shift_by => -9223372036854775808);
SELECT partition, "offset" >= 20 AS "end" FROM kafka.reset_offsets('c', 'g', shift_by => 9223372036854775807);
SELECT partition, "offset" >= 20 AS "end" FROM kafka.reset_offsets('c', 'g', target_offset => 9223372036854775807);
SELECT partition, "offset" >= 20 AS "end" FROM kafka.reset_offsets('c', 'g', 'latest');
SELECT partition, kafka.committed_offset('c', 'g', partition) >= 20 AS "end" FROM generate_series(0, 1) partition;
SELECT * FROM kafka.reset_offsets('c', 'g');
SELECT * FROM kafka.reset_offsets('c', 'g', 'earliest', 0);
SELECT * FROM kafka.reset_offsets('c', 'g', target_offset => 0, shift_by => 0);
SELECT * FROM kafka.reset_offsets('c', 'g', 'middle');
SELECT * FROM kafka.reset_offsets('c', 'g', target_offset => -1);
SELECT * FROM kafka.reset_offsets('', 'g', 'latest');
SELECT * FROM kafka.reset_offsets('c', NULL, 'latest');

-- a topic made again is another one: the group begins anew
SELECT kafka.drop_topic('g');
SELECT count(*) FROM kafka.group_lag WHERE group_id = 'b';
SELECT kafka.create_topic('g');
SELECT kafka.produce('g', 'new');
SELECT kafka.committed_offset('b', 'g', 0);
CALL kafka.wait_group('b', 'g', '1 min');
SELECT "offset", kafka.to_text(value) FROM kafka.consume('b', 'g');

-- a restored partition, whose log does not begin with 0
SELECT kafka.create_topic('late');
INSERT INTO topics.late (partition, "offset", value) SELECT 0, n, 'x' FROM generate_series(1000, 1009) n;
SELECT min("offset"), max("offset") FROM kafka.consume('b', 'late', 5);
SELECT kafka.commit_offset('b', 'late', 0, 3);
SELECT committed_offset, high_watermark, lag FROM kafka.group_lag WHERE topic = 'late';
SELECT min("offset"), max("offset") FROM kafka.consume('b', 'late', 5);
SELECT * FROM kafka.reset_offsets('b', 'late', 'earliest');
SELECT * FROM kafka.reset_offsets('b', 'late', target_offset => 3);

-- large records: a call is over after some 50 MB of them
SELECT kafka.create_topic('big', 1, '{"max.message.bytes": 20000000}');
INSERT INTO topics.big (value) SELECT kafka.to_bytea(repeat('x', 12000000)) FROM generate_series(1, 7);
SELECT count(*) FROM kafka.consume('b', 'big');
SELECT count(*) FROM kafka.consume('b', 'big');
SELECT kafka.drop_topic('big');

-- rights: those on the topic, and pg_monitor for the views
CREATE ROLE kafka_consumer;
CREATE ROLE kafka_watcher IN ROLE pg_monitor;
SET ROLE kafka_consumer;
SELECT * FROM kafka.consume('b', 'g');
CALL kafka.wait_group('b', 'g', '1 ms');
SELECT kafka.commit_offset('b', 'g', 0, 0);
SELECT kafka.committed_offset('b', 'g', 0);
SELECT * FROM kafka.reset_offsets('b', 'g', 'earliest');
SELECT * FROM kafka.groups;
SELECT * FROM kafka.group_members;
SELECT * FROM kafka.stat_get_group();
SELECT * FROM kafka.stat_get_group_member();
SELECT kafka.group_sessions('b');
SELECT group_id, topic FROM kafka.group_lag;
-- nor does a function that the planner would rather call first
CREATE FUNCTION pg_temp.tell(group_id text) RETURNS bool IMMUTABLE COST 0.0001 LANGUAGE plpgsql
AS $$BEGIN RAISE WARNING 'group %', group_id; RETURN true; END$$;
SELECT group_id, topic FROM kafka.group_lag WHERE pg_temp.tell(group_id);
SELECT topic FROM kafka.partitions WHERE pg_temp.tell(topic);
DROP FUNCTION pg_temp.tell(text);
SELECT * FROM kafka.group_offset;
RESET ROLE;
-- a superuser may change the table, which stops who relies on it
BEGIN;
ALTER TABLE kafka.group_offset ADD COLUMN more int;
SELECT kafka.committed_offset('b', 'g', 0);
ROLLBACK;
GRANT SELECT ON topics.g TO kafka_consumer;
SET ROLE kafka_consumer;
SELECT * FROM kafka.reset_offsets('b', 'g', 'earliest');
SELECT count(*) FROM kafka.consume('b', 'g');
SELECT kafka.commit_offset('b', 'g', 0, 0);
SELECT kafka.committed_offset('b', 'g', 0);
SELECT group_id, topic, committed_offset, lag FROM kafka.group_lag;
SET ROLE kafka_watcher;
SELECT group_id, state, type, protocol_type, epoch, members, sessions FROM kafka.groups WHERE length(group_id) < 10
 ORDER BY group_id;
SELECT count(*) FROM kafka.group_members;
SELECT group_id, topic, committed_offset, lag FROM kafka.group_lag ORDER BY group_id, topic;
SELECT topic FROM kafka.partitions ORDER BY topic COLLATE "C";
SELECT * FROM kafka.consume('b', 'g');
RESET ROLE;

-- everything that a user sees has a comment
SELECT relname FROM pg_class
 WHERE relnamespace = 'kafka'::regnamespace AND relname LIKE 'group%' AND relkind IN ('r', 'v')
   AND obj_description(oid, 'pg_class') IS NULL;
SELECT oid::regprocedure FROM pg_proc
 WHERE pronamespace = 'kafka'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
   AND has_function_privilege('kafka_watcher', oid, 'EXECUTE');

SELECT kafka.drop_topic('late'), kafka.drop_topic('g');
DELETE FROM kafka.group_offset;
DROP TABLE got;
DROP ROLE kafka_consumer, kafka_watcher;
