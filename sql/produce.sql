-- kafka.produce: every form of call, transactions, and what is refused
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT kafka.create_topic('p');
CREATE VIEW p AS
  SELECT "offset", kafka.to_text(key) AS key, kafka.to_text(value) AS value, headers
    FROM topics.p ORDER BY "offset";

-- values of each type, as literals and not, without a key
SELECT kafka.produce('p', 'unknown');
SELECT kafka.produce('p', 'text'::text);
SELECT kafka.produce('p', 'varchar'::varchar);
SELECT kafka.produce('p', '\x6279746561'::bytea);
SELECT kafka.produce('p', '{"json":  1}'::json);
SELECT kafka.produce('p', '{"jsonb":  1}'::jsonb);
SELECT kafka.produce('p', NULL);
SELECT kafka.produce('p', NULL::jsonb);
SELECT kafka.produce('p', '');

-- with a key of each type
SELECT kafka.produce('p', 'unknown', 'unknown');
SELECT kafka.produce('p', 'unknown', 'text'::text);
SELECT kafka.produce('p', 'unknown', 'varchar'::varchar);
SELECT kafka.produce('p', 'unknown', '\x6b'::bytea);
SELECT kafka.produce('p', 'text'::text, 'k'::text);
SELECT kafka.produce('p', 'text'::text, '\x6b'::bytea);
SELECT kafka.produce('p', '\x76'::bytea, 'unknown');
SELECT kafka.produce('p', '\x76'::bytea, 'k'::text);
SELECT kafka.produce('p', '\x76'::bytea, '\x6b'::bytea);
SELECT kafka.produce('p', '{}'::json, 'unknown');
SELECT kafka.produce('p', '{}'::json, 'k'::text);
SELECT kafka.produce('p', '{}'::json, '\x6b'::bytea);
SELECT kafka.produce('p', '{}'::jsonb, 'unknown');
SELECT kafka.produce('p', '{}'::jsonb, 'k'::text);
SELECT kafka.produce('p', '{}'::jsonb, '\x6b'::bytea);
SELECT kafka.produce('p', 'null key', NULL);
SELECT kafka.produce('p', 'null key', NULL::bytea);
SELECT kafka.produce('p', NULL, 'tombstone');
SELECT kafka.produce('p', NULL, '\x746f6d6273746f6e65'::bytea);
SELECT kafka.produce('p', NULL, NULL);
SELECT kafka.produce('p', '', '');
CREATE TEMP TABLE r (id int, name text);
INSERT INTO r VALUES (1, 'one');
SELECT kafka.produce('p', to_jsonb(r), r.id::text) FROM r;
SELECT kafka.produce('p', to_json(r), r.id::text) FROM r;
SELECT kafka.produce('p', row_to_json(r)::text, r.id::text) FROM r;
SELECT kafka.produce('p', json_build_object('a', 1), 'k');

-- all arguments, by position and by name
SELECT kafka.produce('p', 'v', 'k', ARRAY[kafka.header('h', 'x')]);
SELECT kafka.produce('p', 'v', 'k', ARRAY[kafka.header('h', '\x78'), kafka.header('h', NULL)]);
SELECT kafka.produce('p', 'v', 'k', '{}');
SELECT kafka.produce('p', 'v', 'k', NULL);
SELECT kafka.produce('p', 'v', 'k', NULL, 0);
SELECT kafka.produce('p', 'v', 'k', NULL, NULL);
SELECT kafka.produce('p', 'v', 'k', NULL, 0, '2020-01-01 00:00:00.123456+00');
SELECT kafka.produce('p', 'v', 'k', NULL, 0, NULL);
SELECT kafka.produce('p', 'v', NULL, NULL, NULL, NULL);
SELECT kafka.produce('p', '{}'::jsonb, '\x6b'::bytea, NULL, 0, now());
SELECT kafka.produce(topic => 'p', value => 'named');
SELECT kafka.produce(topic => 'p', value => 'named', key => 'k');
SELECT kafka.produce(value => 'named', key => '\x6b'::bytea, topic => 'p');
SELECT kafka.produce('p', 'named', headers => ARRAY[kafka.header('h', 'x')]);
SELECT kafka.produce('p', 'named', partition => 0);
SELECT kafka.produce('p', 'named', "timestamp" => '2020-01-01 00:00:00+00');
SELECT kafka.produce('p', '{"named": 1}'::jsonb, partition => 0, key => 'k');
SELECT kafka.produce('p', '{"named": 1}'::json, partition => 0);
SELECT kafka.produce('p', '\x76'::bytea, headers => NULL, partition => NULL);
SELECT * FROM p;
SELECT "offset", "timestamp" AT TIME ZONE 'UTC' AS utc FROM topics.p WHERE "timestamp" < '2021-01-01';

-- with the transaction, and its savepoints
SELECT kafka.create_topic('tx');
CREATE TABLE app (id int);
CREATE VIEW tx AS SELECT "offset", kafka.to_text(value) AS value FROM topics.tx ORDER BY "offset";
BEGIN;
INSERT INTO app VALUES (1);
SELECT kafka.produce('tx', 'committed');
SELECT * FROM tx;
COMMIT;
SELECT * FROM tx;
BEGIN;
INSERT INTO app VALUES (2);
SELECT kafka.produce('tx', 'rolled back');
ROLLBACK;
BEGIN;
SELECT kafka.produce('tx', 'before');
SAVEPOINT a;
SELECT kafka.produce('tx', 'taken back');
SAVEPOINT b;
SELECT kafka.produce('tx', 'taken back, too');
RELEASE b;
ROLLBACK TO a;
SELECT kafka.produce('tx', 'after');
SAVEPOINT c;
SELECT kafka.produce('tx', 'kept');
RELEASE c;
COMMIT;
SELECT * FROM tx;
DO $$
BEGIN
  PERFORM kafka.produce('tx', 'in a block that fails');
  PERFORM 1 / 0;
EXCEPTION WHEN division_by_zero THEN
  PERFORM kafka.produce('tx', 'in its handler');
END $$;
SELECT * FROM tx;
SELECT * FROM app;
BEGIN;
SELECT kafka.produce('tx', 'never');
PREPARE TRANSACTION 'x';
BEGIN READ ONLY;
SELECT kafka.produce('tx', 'never');
ROLLBACK;
BEGIN;
SELECT kafka.create_topic('new');
SELECT kafka.produce('new', 'in the transaction that creates the topic');
COMMIT;
SELECT kafka.to_text(value) FROM topics.new;
BEGIN;
SELECT kafka.produce('new', 'v');
SELECT kafka.drop_topic('new');
COMMIT;

-- partitions: of the key as the Java client computes them, or any but one for a while
SELECT kafka.create_topic('many', 10);
SELECT k, kafka.produce('many', 'v', k) FROM unnest('{a,b,c,order-1,order-2,"",ä}'::text[]) k;
SELECT count(DISTINCT kafka.produce('many', 'v')) FROM generate_series(1, 10);
SELECT kafka.produce('many', 'v', 'a', partition => 9);
INSERT INTO topics.many (key, value) SELECT kafka.to_bytea(k), 'insert' FROM unnest('{a,b,c}'::text[]) k;
SELECT partition, kafka.to_text(key) AS key FROM topics.many WHERE value = 'insert' ORDER BY 2;

-- mistakes
SELECT kafka.produce('no_such_topic', 'v');
SELECT kafka.produce(NULL, 'v');
SELECT kafka.produce('many', 'v', partition => 10);
SELECT kafka.produce('many', 'v', partition => -1);
SELECT kafka.produce('p', 'v', headers => ARRAY[kafka.header(NULL, 'x')]);
SELECT kafka.produce('p', 'v', headers => ARRAY[NULL::kafka.header]);
SELECT kafka.produce('p', 17);
SELECT kafka.create_topic('small', 1, '{"max.message.bytes": 1000}');
SELECT kafka.produce('small', repeat('x', 2000));
SELECT kafka.produce('small', repeat('x', 500));
SELECT length(value) FROM topics.small;

DROP VIEW p, tx;
DROP TABLE app;
SELECT kafka_test.keep_topics();
