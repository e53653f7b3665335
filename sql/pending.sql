-- Records wait for their transaction: commit, rollback, savepoints, spilling
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT kafka.create_topic('w', 2);
CREATE VIEW w AS
  SELECT partition, "offset", kafka.to_text(value) AS value FROM topics.w ORDER BY partition, "offset";
CREATE FUNCTION w(partition int, value text) RETURNS void LANGUAGE sql AS
  'INSERT INTO topics.w (partition, value) VALUES ($1, convert_to($2, ''UTF8''))';

-- not visible before the commit, in the order of the statements after it
BEGIN;
SELECT w(0, 'a'), w(1, 'b'), w(0, 'c');
SELECT * FROM w;
SELECT w(0, 'd');
COMMIT;
SELECT * FROM w;

-- rollback
BEGIN;
SELECT w(0, 'gone');
ROLLBACK;
BEGIN;
SELECT w(0, 'gone');
SELECT 1/0;
COMMIT;
SELECT count(*) FROM w;

-- savepoints: rolled back, released, nested, rolled back after a release
BEGIN;
SELECT w(0, '1');
SAVEPOINT a;
SELECT w(0, 'gone'), w(1, 'gone');
ROLLBACK TO a;
SELECT w(0, '2');
SAVEPOINT b;
SELECT w(0, '3');
SAVEPOINT c;
SELECT w(0, 'gone'), w(1, 'gone');
ROLLBACK TO c;
SELECT w(0, '4');
RELEASE c;
SELECT w(0, '5');
RELEASE b;
SAVEPOINT d;
SELECT w(0, 'gone');
SAVEPOINT e;
SELECT w(0, 'gone');
RELEASE e;
SELECT w(0, 'gone'), w(1, 'gone');
ROLLBACK TO d;
RELEASE d;
RELEASE a;
SELECT w(1, '6');
COMMIT;
SELECT * FROM w WHERE value ~ '^[0-9]|gone';

-- the same in PL/pgSQL, at random, compared with an ordinary table
CREATE TABLE model (n serial, partition int, value text);
CREATE FUNCTION play(depth int, steps int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE p int; v text;
BEGIN
  FOR i IN 1 .. steps LOOP
    p := floor(random() * 2);
    v := 'm' || random() || repeat('.', (random() * 3000)::int);
    INSERT INTO model (partition, value) VALUES (p, v);
    PERFORM w(p, v);
    IF depth > 0 AND random() < 0.3 THEN
      BEGIN
        PERFORM play(depth - 1, (random() * 8)::int);
        IF random() < 0.4 THEN
          RAISE EXCEPTION 'back';
        END IF;
      EXCEPTION WHEN raise_exception THEN
        NULL;
      END;
    END IF;
  END LOOP;
END $$;
CREATE FUNCTION same() RETURNS bool LANGUAGE sql AS $$
  SELECT (SELECT array_agg((partition, value)::text ORDER BY partition, "offset") FROM w WHERE value LIKE 'm%')
      IS NOT DISTINCT FROM
         (SELECT array_agg((partition, value)::text ORDER BY partition, n) FROM model)
$$;
SELECT setseed(0.42);
SELECT play(4, 100);
SELECT count(*) > 100 AS many FROM model;
SELECT same();

-- spilled to a file: a little memory, large records
SET kafka_pg.produce_buffer_size = '64kB';
SELECT play(4, 100);
SELECT same();
BEGIN;
SELECT play(3, 60);
SAVEPOINT s;
SELECT play(3, 60);
ROLLBACK TO s;
SELECT play(3, 60);
RELEASE s;
SELECT play(3, 60);
COMMIT;
SELECT same();
BEGIN;
SELECT play(3, 60);
ROLLBACK;
SELECT same();
-- a file that was made in a subtransaction outlives it
BEGIN;
SELECT w(0, 'first');
SAVEPOINT s;
INSERT INTO topics.w (partition, value) SELECT 1, convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 1000);
ROLLBACK TO s;
INSERT INTO topics.w (partition, value) SELECT 1, convert_to(repeat('y', 1000), 'UTF8') FROM generate_series(1, 1000);
COMMIT;
SELECT count(*), min(value), max(length(value)) FROM w WHERE value ~ '^(x|y|first)';

-- a load that no transaction block surrounds is appended while it goes on: what fails is dead
SELECT kafka.create_topic('load', 2);
INSERT INTO topics.load (partition, value)
  SELECT g % 2, convert_to(repeat('x', 1000) || 1 / (1000 - g), 'UTF8') FROM generate_series(1, 1000) g;
SELECT count(*) FROM topics.load;
INSERT INTO topics.load (partition, key) VALUES (0, 'after'), (1, 'after');
SELECT partition, "offset" > 100 AS behind FROM topics.load ORDER BY 1;
-- in a block it waits
SELECT kafka.create_topic('wait', 1);
BEGIN;
INSERT INTO topics.wait (value)
  SELECT convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 1000) g;
ROLLBACK;
INSERT INTO topics.wait (key) VALUES ('first');
SELECT "offset" FROM topics.wait;
-- compressed; with the time of the append; a record of several batches' size; into two topics by turns
SELECT kafka.create_topic('load4', 1, '{"compression.type": "lz4", "message.timestamp.type": "LogAppendTime"}');
DO $$
BEGIN
  FOR i IN 1 .. 200 LOOP
    INSERT INTO topics.load4 (key, value, "timestamp")
      SELECT i::text::bytea, convert_to(repeat(md5(g::text), CASE WHEN i = 100 THEN 20000 ELSE 30 END), 'UTF8'), '2001-01-01Z'
        FROM generate_series(i, i + 2) g;
    INSERT INTO topics.load (partition, key, value) VALUES (i % 2, i::text::bytea, convert_to(repeat('y', 900), 'UTF8'));
    BEGIN
      INSERT INTO topics.load4 (key, value) VALUES ('gone', convert_to(repeat('z', 30000), 'UTF8'));
      RAISE EXCEPTION 'back';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    BEGIN
      INSERT INTO topics.load (partition, key) VALUES (i % 2, (i || 'b')::bytea);
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
  END LOOP;
END $$;
SELECT count(*), count(*) FILTER (WHERE right_one), max(size), min("timestamp") > '2020-01-01' AS now
  FROM (SELECT kafka.to_text(key) = ((row_number() OVER (ORDER BY "offset") + 2) / 3)::text AS right_one,
               length(value) AS size, "timestamp" FROM topics.load4) r;
SELECT partition, string_agg(kafka.to_text(key), ' ' ORDER BY "offset") =
    (SELECT string_agg(i || ' ' || i || 'b', ' ' ORDER BY i) FROM generate_series(2 - partition, 200, 2) i) AS right
  FROM topics.load WHERE key <> 'after' GROUP BY 1 ORDER BY 1;
RESET kafka_pg.produce_buffer_size;

-- compressed, cut in the middle of finished batches
SELECT kafka.create_topic('z', 1, '{"compression.type": "lz4"}');
BEGIN;
INSERT INTO topics.z (key) SELECT g::text::bytea FROM generate_series(1, 1000) g;
SAVEPOINT s;
INSERT INTO topics.z (key, value) SELECT 'gone', convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 1000);
ROLLBACK TO s;
INSERT INTO topics.z (key, headers) SELECT g::text::bytea, ARRAY[kafka.header('h', NULL)] FROM generate_series(1001, 1100) g;
SAVEPOINT s2;
INSERT INTO topics.z (key, value) SELECT 'gone', convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 1000);
ROLLBACK TO s2;
SAVEPOINT s3;
INSERT INTO topics.z (key, value) SELECT 'gone', convert_to(repeat('x', 1000), 'UTF8') FROM generate_series(1, 1000);
ROLLBACK TO s;
INSERT INTO topics.z (key) SELECT g::text::bytea FROM generate_series(1001, 1010) g;
COMMIT;
SELECT count(*), count(*) FILTER (WHERE "offset" + 1 = kafka.to_text(key)::int) AS right FROM topics.z;

-- a commit that fails
CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO deferred VALUES (1), (1);
SELECT w(0, 'failed');
COMMIT;
SELECT count(*) FROM w WHERE value = 'failed';

-- prepared transactions
BEGIN;
SELECT w(0, 'prepared');
PREPARE TRANSACTION 'p';
BEGIN;
INSERT INTO topics.w (partition, "offset", value) VALUES (0, 1000000, 'prepared');
PREPARE TRANSACTION 'p';
SELECT count(*) FROM w WHERE value = 'prepared';

-- a topic dropped by the transaction that produced to it, and one created by it
BEGIN;
INSERT INTO topics.z (value) VALUES ('x');
SELECT kafka.drop_topic('z');
SELECT kafka.create_topic('z');
INSERT INTO topics.z (value) VALUES ('y');
COMMIT;
SELECT "offset", value FROM topics.z;
BEGIN;
SELECT kafka.create_topic('never');
INSERT INTO topics.never (value) VALUES ('y');
ROLLBACK;

-- many topics and partitions in one transaction
SELECT count(kafka.create_topic('many' || g, 10)) FROM generate_series(1, 5) g;
DO $$
BEGIN
  FOR t IN 1 .. 5 LOOP
    EXECUTE format('INSERT INTO topics.many%s (partition, value) SELECT g %% 10, ''x'' FROM generate_series(1, 100) g', t);
  END LOOP;
END $$;
SELECT count(*), count(DISTINCT partition) FROM topics.many3;

-- committed inside a procedure
CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 4 LOOP
    PERFORM w(0, 'procedure' || i);
    IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
  END LOOP;
END $$;
CALL commits();
SELECT value FROM w WHERE value LIKE 'procedure%';

-- a deferred trigger produces while the transaction commits
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM w(0, 'late'); RETURN NULL; END $$;
CREATE TABLE trig (a int);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON trig DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION late();
BEGIN;
INSERT INTO trig VALUES (1);
SELECT count(*) FROM w WHERE value = 'late';
COMMIT;
SELECT count(*) FROM w WHERE value = 'late';

DROP TABLE trig, deferred, model;
DROP FUNCTION late, same, play, w;
DROP PROCEDURE commits;
DROP VIEW w;
SELECT kafka_test.keep_topics();
