-- What may not be done to a topic's table; each with a hint of what to do instead
\set SHOW_CONTEXT never
SET client_min_messages = warning;

SELECT kafka.create_topic('t');
SELECT kafka.produce('t', 'v', 'k');

-- columns
ALTER TABLE topics.t ADD COLUMN x int;
ALTER TABLE topics.t DROP COLUMN key;
ALTER TABLE topics.t RENAME COLUMN key TO k;
ALTER TABLE topics.t ALTER COLUMN key TYPE text USING key::text;
ALTER TABLE topics.t ALTER COLUMN key SET NOT NULL;
ALTER TABLE topics.t ALTER COLUMN key SET DEFAULT 'x';
ALTER TABLE topics.t ALTER COLUMN "offset" ADD GENERATED ALWAYS AS IDENTITY;
CREATE TYPE t_type AS (partition int, "offset" bigint, "timestamp" timestamptz, key bytea,
  value bytea, headers kafka.header[]);
ALTER TABLE topics.t OF t_type;
DROP TYPE t_type;

-- what hangs on a table
ALTER TABLE topics.t ADD CHECK (partition = 0);
ALTER TABLE topics.t ADD PRIMARY KEY (partition, "offset");
ALTER TABLE topics.t ADD UNIQUE (partition, "offset");
CREATE INDEX ON topics.t (partition);
CREATE INDEX CONCURRENTLY ON topics.t (partition);
CREATE INDEX ON topics.t ((key IS NULL));
CREATE TABLE referenced (partition int PRIMARY KEY);
ALTER TABLE topics.t ADD FOREIGN KEY (partition) REFERENCES referenced;
DROP TABLE referenced;
CREATE TRIGGER tr BEFORE INSERT ON topics.t
  FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE RULE r AS ON INSERT TO topics.t DO INSTEAD NOTHING;
CREATE POLICY p ON topics.t;

-- row-level security can be switched on, but then the table cannot be used
ALTER TABLE topics.t ENABLE ROW LEVEL SECURITY;
SELECT kafka.produce('t', 'v');
SELECT count(*) FROM topics.t;
ALTER TABLE topics.t DISABLE ROW LEVEL SECURITY;

-- inheritance and partitioning
CREATE TABLE child () INHERITS (topics.t);
CREATE TABLE child (LIKE topics.t);
ALTER TABLE child INHERIT topics.t;
ALTER TABLE topics.t INHERIT child;
DROP TABLE child;
CREATE TABLE parent (LIKE topics.t) PARTITION BY LIST (partition);
ALTER TABLE parent ATTACH PARTITION topics.t FOR VALUES IN (0);
CREATE TABLE topics.part PARTITION OF parent FOR VALUES IN (0) USING kafka_log;
DROP TABLE parent;

-- storage
ALTER TABLE topics.t SET UNLOGGED;
ALTER TABLE topics.t SET ACCESS METHOD heap;
CREATE TABLE plain (LIKE topics.t);
ALTER TABLE plain SET ACCESS METHOD kafka_log;
DROP TABLE plain;
CREATE TABLE wrong (a int) USING kafka_log;
CREATE TABLE wrong (partition int DEFAULT 0, "offset" bigint, "timestamp" timestamptz, key bytea,
  value bytea, headers kafka.header[]) USING kafka_log;
CREATE TABLE wrong (partition int NOT NULL, "offset" bigint, "timestamp" timestamptz, key bytea,
  value bytea, headers kafka.header[]) USING kafka_log;
CREATE TABLE wrong (partition int, "offset" bigint, "timestamp" timestamptz, key text,
  value bytea, headers kafka.header[]) USING kafka_log;
CREATE TABLE wrong (key bytea, partition int, "offset" bigint, "timestamp" timestamptz,
  value bytea, headers kafka.header[]) USING kafka_log;
CREATE TEMP TABLE wrong (LIKE topics.t) USING kafka_log;
CREATE UNLOGGED TABLE wrong (LIKE topics.t) USING kafka_log;
CREATE MATERIALIZED VIEW wrong USING kafka_log AS SELECT * FROM topics.t;

-- rows
UPDATE topics.t SET value = NULL;
DELETE FROM topics.t;
TRUNCATE topics.t;
SELECT * FROM topics.t FOR UPDATE;
INSERT INTO topics.t (value) VALUES ('v') ON CONFLICT DO NOTHING;
CLUSTER topics.t;

SELECT key, value FROM topics.t;
SELECT kafka.drop_topic('t');
