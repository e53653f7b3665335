-- Rights on topics are rights on their tables
\set SHOW_CONTEXT never
SET client_min_messages = warning;

CREATE ROLE kafka_creator;
CREATE ROLE kafka_writer;
CREATE ROLE kafka_reader;
CREATE ROLE kafka_nobody;
GRANT CREATE ON SCHEMA topics TO kafka_creator;

-- creating
SET ROLE kafka_nobody;
SELECT kafka.create_topic('t');
SET ROLE kafka_creator;
SELECT kafka.create_topic('t', 2);
RESET ROLE;
SELECT name, owner FROM kafka.topics;
GRANT INSERT ON topics.t TO kafka_writer;
GRANT SELECT ON topics.t TO kafka_reader;

-- the owner
SET ROLE kafka_creator;
SELECT kafka.produce('t', 'by the owner', partition => 0);
SELECT kafka.to_text(value) FROM kafka.fetch('t', 0, 0);
SELECT name FROM kafka.topics;

-- who may write
SET ROLE kafka_writer;
SELECT kafka.produce('t', 'by the writer', partition => 0);
INSERT INTO topics.t (partition, value) VALUES (0, 'by INSERT');
SELECT * FROM kafka.fetch('t', 0, 0);
SELECT * FROM topics.t;
SELECT kafka.offset_at('t', 0, 'epoch');
CALL kafka.wait('t', 0, 0, '1 ms');
SELECT kafka.check_topic('topics.t');
SELECT name FROM kafka.topics;
SELECT topic, partition, end_offset FROM kafka.partitions;
SELECT kafka.drop_topic('t');
INSERT INTO topics.t (partition, "offset", value) VALUES (0, 1000, 'with an offset');

-- who may read
SET ROLE kafka_reader;
SELECT kafka.produce('t', 'by the reader', partition => 0);
SELECT kafka.to_text(value) FROM kafka.fetch('t', 0, 0);
SELECT kafka.to_text(value) FROM topics.t;
SELECT kafka.offset_at('t', 0, 'epoch');
CALL kafka.wait('t', 0, 0, '1 ms');
SELECT * FROM kafka.check_topic('topics.t');
SELECT name FROM kafka.topics;
SELECT kafka.drop_topic('t');

-- everybody else
SET ROLE kafka_nobody;
SELECT kafka.produce('t', 'by nobody');
SELECT * FROM kafka.fetch('t', 0, 0);
SELECT * FROM topics.t;
SELECT * FROM kafka.check_topic('topics.t');
SELECT name FROM kafka.topics;
SELECT topic FROM kafka.partitions;
SELECT * FROM kafka.topic_partitions('topics.t');
SELECT kafka.drop_topic('t');

-- without the schema the table's rights are of no use
RESET ROLE;
REVOKE USAGE ON SCHEMA topics FROM PUBLIC;
SET ROLE kafka_reader;
SELECT * FROM kafka.fetch('t', 0, 0);
RESET ROLE;
GRANT USAGE ON SCHEMA topics TO PUBLIC;

-- the catalogs are nobody's
SET ROLE kafka_creator;
SELECT * FROM kafka.topic;
INSERT INTO kafka.topic VALUES ('x', gen_random_uuid(), 'topics.t', 1);
DELETE FROM kafka.topic;
UPDATE kafka.leader_epoch SET epoch = 0;
SELECT * FROM kafka.partition;
SELECT nextval('kafka.producer_id_seq');
SELECT kafka.leader_epoch_claim();
CREATE TABLE kafka.mine (a int);
RESET ROLE;

-- what everybody may execute: nothing that gives a right of its own
SELECT p.oid::regprocedure
  FROM pg_proc p
 WHERE pronamespace = 'kafka'::regnamespace AND has_function_privilege('kafka_nobody', p.oid, 'EXECUTE')
 ORDER BY p.oid::regprocedure::text COLLATE "C";
-- what has no comment
SELECT p.oid::regprocedure
  FROM pg_proc p
 WHERE pronamespace = 'kafka'::regnamespace AND has_function_privilege('kafka_nobody', p.oid, 'EXECUTE')
   AND obj_description(p.oid, 'pg_proc') IS NULL
 ORDER BY p.oid::regprocedure::text COLLATE "C";

SET ROLE kafka_creator;
SELECT kafka.drop_topic('t');
RESET ROLE;
REVOKE CREATE ON SCHEMA topics FROM kafka_creator;
DROP ROLE kafka_creator, kafka_writer, kafka_reader, kafka_nobody;
