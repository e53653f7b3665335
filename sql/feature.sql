-- What else meets a table in Postgres: each works, or is refused with a sentence. (Elsewhere: what is
-- refused always, refused.sql; queries, cursors, plans, scan.sql; COPY, copy.sql; maintenance, maintain.sql.)
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';

SELECT kafka.create_topic('f', 2);
INSERT INTO topics.f (partition, key, value) VALUES (0, 'a', '1'), (1, 'b', '2'), (0, 'c', '3');

-- ------------------------------------------------------------------------------------------
-- Forms of ALTER TABLE that change nothing about the records
-- ------------------------------------------------------------------------------------------
ALTER TABLE topics.f ALTER COLUMN key SET STORAGE plain;
ALTER TABLE topics.f ALTER COLUMN key SET COMPRESSION pglz;
ALTER TABLE topics.f ALTER COLUMN key SET STATISTICS 50, ALTER COLUMN value SET (n_distinct = 5);
ALTER TABLE topics.f ALTER COLUMN key DROP DEFAULT, ALTER COLUMN key DROP NOT NULL;
ALTER TABLE topics.f ALTER COLUMN key TYPE bytea;
ALTER TABLE topics.f SET (fillfactor = 50, parallel_workers = 4, autovacuum_freeze_max_age = 100000);
ALTER TABLE topics.f RESET (fillfactor, parallel_workers, autovacuum_freeze_max_age);
ALTER TABLE topics.f SET LOGGED;
ALTER TABLE topics.f SET WITHOUT OIDS, SET WITHOUT CLUSTER;
ALTER TABLE topics.f SET ACCESS METHOD kafka_log;
ALTER TABLE topics.f REPLICA IDENTITY FULL;
ALTER TABLE topics.f REPLICA IDENTITY DEFAULT;
ALTER TABLE topics.f DISABLE TRIGGER ALL;
ALTER TABLE topics.f FORCE ROW LEVEL SECURITY;
ALTER TABLE topics.f NO FORCE ROW LEVEL SECURITY;
ALTER TABLE topics.f ADD COLUMN IF NOT EXISTS key bytea;
COMMENT ON TABLE topics.f IS 'a topic';
COMMENT ON COLUMN topics.f.key IS 'its key';
CREATE STATISTICS pk ON partition, key FROM topics.f;
ANALYZE topics.f (partition, key);
DROP STATISTICS pk;
GRANT UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON topics.f TO PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON topics.f FROM PUBLIC;
BEGIN;
ALTER TABLE topics.f ALTER COLUMN key SET STATISTICS 100;
CREATE TABLE topics.other (LIKE topics.f INCLUDING ALL) USING kafka_log;
ALTER TABLE topics.f SET TABLESPACE pg_default;
ROLLBACK;
-- the topic's name stays, whatever its table is called and wherever it is
ALTER TABLE topics.f RENAME TO renamed;
CREATE SCHEMA elsewhere;
ALTER TABLE topics.renamed SET SCHEMA elsewhere;
SELECT kafka.produce('f', 'moved', partition => 0);
SELECT name, "table" FROM kafka.topics;
ALTER TABLE elsewhere.renamed SET SCHEMA topics;
ALTER TABLE topics.renamed RENAME TO f;
DROP SCHEMA elsewhere;
-- these would change them
ALTER TABLE topics.f ALTER COLUMN partition TYPE int USING 1 - partition;
ALTER TABLE topics.f ALTER COLUMN key TYPE bytea USING key || 'x';
ALTER TABLE topics.f ADD COLUMN x int, DROP COLUMN key;
ALTER TABLE topics.f ADD CONSTRAINT e EXCLUDE (partition WITH =);
ALTER TABLE topics.f ADD CHECK (false) NOT VALID;
CREATE VIEW f AS SELECT partition AS p, "offset" AS o, kafka.to_text(key) AS key,
  kafka.to_text(value) AS value FROM topics.f;

SELECT * FROM f;

-- ------------------------------------------------------------------------------------------
-- Publications: nobody is left to believe that records are published
-- ------------------------------------------------------------------------------------------
-- (not that wal_level is insufficient)
SET client_min_messages = error;
CREATE PUBLICATION p FOR TABLE topics.f;
CREATE PUBLICATION p FOR TABLE kafka.topic, topics.f;
CREATE PUBLICATION p;
ALTER PUBLICATION p ADD TABLE topics.f;
ALTER PUBLICATION p SET TABLE kafka.topic, topics.f;
ALTER PUBLICATION p ADD TABLES IN SCHEMA topics;
DROP PUBLICATION p;
CREATE PUBLICATION p FOR ALL TABLES;
INSERT INTO topics.f (partition, key) VALUES (0, 'published');
-- as the launcher does after a promotion
UPDATE kafka.leader_epoch SET epoch = epoch;
DROP PUBLICATION p;
SET client_min_messages = warning;

-- ------------------------------------------------------------------------------------------
-- Owners
-- ------------------------------------------------------------------------------------------
CREATE ROLE alice;
CREATE ROLE bob;
GRANT USAGE, CREATE ON SCHEMA topics TO alice;
GRANT INSERT, SELECT ON topics.f TO alice;
SET ROLE alice;
SELECT kafka.create_topic('a');
RESET ROLE;
REASSIGN OWNED BY alice TO bob;
SELECT name, owner = 'bob' AS bobs FROM kafka.topics;
SET ROLE bob;
SELECT kafka.produce('a', 'by bob');
RESET ROLE;
DROP OWNED BY alice;
SET ROLE alice;
SELECT kafka.produce('f', 'by alice');
RESET ROLE;
DROP OWNED BY bob;
SELECT name, to_regclass('topics.a') FROM kafka.topics;
DROP ROLE alice, bob;

-- ------------------------------------------------------------------------------------------
-- Triggers and rules of other tables produce
-- ------------------------------------------------------------------------------------------
CREATE TABLE o (id int PRIMARY KEY, v text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM kafka.produce('f', to_jsonb(coalesce(NEW, OLD)), TG_OP, partition => 1);
  RETURN NEW;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON o FOR EACH ROW EXECUTE FUNCTION tell();
INSERT INTO o VALUES (1, 'a'), (2, 'b');
INSERT INTO o VALUES (3, 'a'), (2, 'duplicate');
INSERT INTO o VALUES (3, 'a'), (2, 'b') ON CONFLICT (id) DO UPDATE SET v = 'c';
UPDATE o SET v = v || v WHERE id > 1;
DELETE FROM o WHERE id = 1;
COPY o FROM stdin;
7	x
8	y
\.
COPY o FROM stdin;
9	x
8	duplicate
\.
SELECT key, value FROM f WHERE p = 1 AND o > 0;
DROP TRIGGER tell ON o;
CREATE FUNCTION tell_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO topics.f (partition, key) SELECT 1, v::bytea FROM new_rows;
  RETURN NULL;
END $$;
CREATE TRIGGER tell_all AFTER INSERT ON o REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION tell_all();
CREATE RULE deleted AS ON DELETE TO o DO ALSO INSERT INTO topics.f (partition, key) VALUES (1, OLD.v::bytea);
CREATE RULE updated AS ON UPDATE TO o DO INSTEAD SELECT kafka.produce('f', NULL::text, NEW.v, partition => 1);
INSERT INTO o SELECT g, 'many' || g FROM generate_series(11, 13) g;
DELETE FROM o WHERE id = 7;
UPDATE o SET v = 'updated' WHERE id = 8;
SELECT key FROM f WHERE p = 1 AND value IS NULL;
DROP TABLE o;
-- views
INSERT INTO f (key) VALUES ('not a column');
CREATE VIEW simple AS SELECT key, value, partition FROM topics.f WHERE partition = 0 WITH CHECK OPTION;
INSERT INTO simple VALUES ('through', 'a view', 0) RETURNING partition, key;
\set VERBOSITY terse
INSERT INTO simple VALUES ('through', 'a view', 1);
\set VERBOSITY default
UPDATE simple SET key = 'x';
DELETE FROM simple;
DROP VIEW simple;
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM kafka.produce('f', NEW.value, NEW.key, partition => 0);
  RETURN NEW;
END $$;
CREATE TRIGGER instead INSTEAD OF INSERT ON f FOR EACH ROW EXECUTE FUNCTION instead();
INSERT INTO f (key, value) VALUES ('instead', 'of');
SELECT * FROM f WHERE key IN ('instead', 'through');
DROP TRIGGER instead ON f;
DROP FUNCTION tell, tell_all, instead;

-- event triggers: their records belong to the command's transaction
CREATE FUNCTION ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF tg_event = 'sql_drop' THEN
    PERFORM kafka.produce('f', object_identity, tg_event) FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table';
  ELSE
    PERFORM kafka.produce('f', object_identity, command_tag) FROM pg_event_trigger_ddl_commands();
  END IF;
END $$;
CREATE EVENT TRIGGER created ON ddl_command_end EXECUTE FUNCTION ddl();
CREATE EVENT TRIGGER dropped ON sql_drop EXECUTE FUNCTION ddl();
SELECT kafka.create_topic('e');
SELECT kafka.drop_topic('e');
BEGIN;
CREATE TABLE rolled_back ();
ROLLBACK;
DROP EVENT TRIGGER created;
DROP EVENT TRIGGER dropped;
DROP FUNCTION ddl;
SELECT key, value FROM f WHERE value ~ 'topics|rolled' ORDER BY key;

-- ------------------------------------------------------------------------------------------
-- Types, partitions, foreign keys, access methods
-- ------------------------------------------------------------------------------------------
CREATE TABLE uses (r topics.f);
INSERT INTO uses SELECT t FROM topics.f t WHERE partition = 0 AND "offset" < 2;
SELECT (r)."offset", (r).key FROM uses;
DROP TABLE uses;
CREATE TABLE fk (a int REFERENCES topics.f (partition));
CREATE TABLE fk (a int, b bigint, FOREIGN KEY (a, b) REFERENCES topics.f);
CREATE TABLE parted (LIKE topics.f) PARTITION BY RANGE (partition);
CREATE TABLE parted0 PARTITION OF parted FOR VALUES FROM (0) TO (1);
INSERT INTO parted SELECT * FROM topics.f WHERE partition = 0;
SELECT count(*) = (SELECT count(*) FROM f WHERE p = 0) AS same FROM parted;
CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (1) TO (2) USING kafka_log;
ALTER TABLE parted ATTACH PARTITION topics.f FOR VALUES FROM (1) TO (2);
DROP TABLE parted;
SET default_table_access_method = kafka_log;
CREATE TABLE bad (a int);
CREATE TEMP TABLE bad (a int);
CREATE TABLE bad AS SELECT 1;
CREATE MATERIALIZED VIEW bad AS SELECT 1;
RESET default_table_access_method;
SELECT * INTO TEMP copied FROM topics.f;
SELECT count(*) = (SELECT count(*) FROM f) AS same FROM copied;
DROP TABLE copied;

-- ------------------------------------------------------------------------------------------
-- Locks, isolation, read-only, NOTIFY, exceptions
-- ------------------------------------------------------------------------------------------
BEGIN;
LOCK TABLE topics.f IN ACCESS EXCLUSIVE MODE;
SELECT kafka.produce('f', 'locked', partition => 0);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) AS before FROM f \gset
SELECT kafka.produce('f', 'serializable', partition => 0);
SELECT count(*) = :before AS same FROM f;
COMMIT;
BEGIN READ ONLY;
SELECT kafka.produce('f', 'x');
ROLLBACK;
BEGIN READ ONLY;
COPY topics.f (key) FROM stdin;
x
\.
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SELECT count(*) - :before AS more FROM f;
COMMIT;
CREATE FUNCTION attempts() RETURNS text LANGUAGE plpgsql AS $$
DECLARE caught text := '';
BEGIN
  FOR i IN 1 .. 5 LOOP
    BEGIN
      PERFORM kafka.produce('f', 'attempt ' || i, partition => 0);
      IF i = 2 THEN PERFORM 1 / 0; END IF;
      IF i = 3 THEN PERFORM kafka.produce('f', 'nowhere', partition => 99); END IF;
      IF i = 4 THEN PERFORM kafka.produce('no_such_topic', 'x'); END IF;
    EXCEPTION WHEN OTHERS THEN
      caught := caught || ' ' || i;
    END;
  END LOOP;
  RETURN caught;
END $$;
SELECT attempts();
SELECT value FROM f WHERE value LIKE 'attempt%';
DROP FUNCTION attempts;

-- ------------------------------------------------------------------------------------------
-- Statements about rows
-- ------------------------------------------------------------------------------------------
INSERT INTO topics.f (partition, key) VALUES (0, 'x') ON CONFLICT (partition) DO UPDATE SET key = 'y';
MERGE INTO topics.f USING (VALUES (7)) v (a) ON partition = a
  WHEN NOT MATCHED THEN INSERT (partition, key) VALUES (0, 'merged');
MERGE INTO topics.f USING (VALUES (0)) v (a) ON partition = a WHEN MATCHED THEN DELETE;
MERGE INTO topics.f USING (VALUES (0)) v (a) ON partition = a WHEN MATCHED THEN UPDATE SET key = 'x';
WITH x AS (INSERT INTO topics.f (partition, key) VALUES (0, 'cte') RETURNING *)
  SELECT partition, "offset", kafka.to_text(key), (SELECT count(*) FROM f WHERE key = 'cte') FROM x;
SELECT key FROM f WHERE key IN ('merged', 'cte', 'x', 'y');
BEGIN;
DECLARE c CURSOR FOR SELECT partition FROM topics.f WHERE partition = 0;
FETCH 1 FROM c;
SAVEPOINT s;
UPDATE topics.f SET key = 'x' WHERE CURRENT OF c;
ROLLBACK TO s;
DELETE FROM topics.f WHERE CURRENT OF c;
ROLLBACK TO s;
DECLARE d CURSOR FOR SELECT * FROM topics.f FOR UPDATE;
ROLLBACK;
COPY (DELETE FROM topics.f RETURNING *) TO stdout;
COPY topics.f (partition, key) FROM stdin WHERE key > 'k';
0	j
0	l
\.
SELECT key FROM f WHERE key IN ('j', 'l');
SELECT currtid2('topics.f', '(0,1)');
SELECT count(*) FROM topics.f TABLESAMPLE bernoulli (50);
REINDEX TABLE topics.f;
VACUUM (FULL, FREEZE) topics.f;
VACUUM (PARALLEL 2, INDEX_CLEANUP on, TRUNCATE on, DISABLE_PAGE_SKIPPING) topics.f;
SELECT pg_table_size('topics.f') = pg_relation_size('topics.f') AS one_fork, pg_indexes_size('topics.f');
EXPLAIN (ANALYZE, WAL, COSTS OFF, TIMING OFF, SUMMARY OFF) INSERT INTO topics.f (partition) VALUES (0);

-- every statement in a parallel worker that may run in one
SET force_parallel_mode = on;
SELECT count(*) > 0 AS some FROM topics.f;
SELECT count(*) > 0 AS some FROM kafka.fetch('f', 0, 0);
SELECT kafka.produce('f', 'n', partition => 1);
SELECT count(*) FROM kafka.partitions WHERE topic = 'f';
SELECT kafka.offset_at('f', 0, '2000-01-01');
RESET force_parallel_mode;

DROP VIEW f;
SELECT kafka_test.keep_topics();
