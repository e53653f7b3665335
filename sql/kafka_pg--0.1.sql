/* kafka_pg 0.1 */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION kafka_pg" to load this file. \quit

-- Rules for this file and its successors: everything is named with its schema, since the
-- search path of a script is the installing session's; columns of catalog tables are only ever added at
-- the end (src/topic/kcatalog.h numbers them); a change after a release goes into
-- kafka_pg--OLD--NEW.sql and leaves this file alone.

-- First, so that nothing else is made in a database that is not served, or in a server that did
-- not load the library at its start.
CREATE FUNCTION pg_temp.kafka_pg_check_database() RETURNS void
  LANGUAGE c AS 'MODULE_PATHNAME', 'kafka_pg_sql_check_database';
SELECT pg_temp.kafka_pg_check_database();
DROP FUNCTION pg_temp.kafka_pg_check_database();

-- ------------------------------------------------------------------------------------------
-- Schemas: the broker's functions, views and state in one, topics in the other.  Topics are not
-- members of the extension: they are dumped and restored like any table.
-- ------------------------------------------------------------------------------------------

CREATE SCHEMA kafka;
COMMENT ON SCHEMA kafka IS 'functions, views and state of the Kafka broker';
GRANT USAGE ON SCHEMA kafka TO PUBLIC;

CREATE SCHEMA topics;
COMMENT ON SCHEMA topics IS 'the tables of Kafka topics; GRANT CREATE lets a role create topics';
GRANT USAGE ON SCHEMA topics TO PUBLIC;

-- ------------------------------------------------------------------------------------------
-- Types
-- ------------------------------------------------------------------------------------------

CREATE TYPE kafka.header AS (key text, value bytea);
COMMENT ON TYPE kafka.header IS 'a record''s header';

CREATE TYPE kafka.record AS (
  partition int,
  "offset" bigint,
  "timestamp" timestamptz,
  key bytea,
  value bytea,
  headers kafka.header[]
);
COMMENT ON TYPE kafka.record IS 'a record as kafka.fetch returns it: the columns of every topic';

-- ------------------------------------------------------------------------------------------
-- Catalogs.  Only superusers and the functions below write them.
-- ------------------------------------------------------------------------------------------

CREATE TABLE kafka.cluster (
  id text NOT NULL
);
COMMENT ON TABLE kafka.cluster IS 'the cluster id that Kafka clients see; one row';
CREATE UNIQUE INDEX cluster_one_row ON kafka.cluster ((true));

-- A random uuid in Kafka's form, which never begins with a dash.
INSERT INTO kafka.cluster (id)
  SELECT regexp_replace(translate(rtrim(encode(uuid_send(gen_random_uuid()), 'base64'), '='),
                                  '+/', '-_'),
                        '^-', 'A');

CREATE TABLE kafka.leader_epoch (
  system_identifier bigint NOT NULL,
  timeline int NOT NULL,
  epoch int NOT NULL
);
COMMENT ON TABLE kafka.leader_epoch IS
  'the leader epoch of all partitions, and the server and timeline that it belongs to; one row';
CREATE UNIQUE INDEX leader_epoch_one_row ON kafka.leader_epoch ((true));
-- A publication FOR ALL TABLES must not keep a promoted server from updating it.
ALTER TABLE kafka.leader_epoch REPLICA IDENTITY FULL;

CREATE TABLE kafka.node (
  node_id int PRIMARY KEY,
  host text NOT NULL,
  port int NOT NULL,
  rack text,
  leads boolean NOT NULL
);
COMMENT ON TABLE kafka.node IS
  'where clients reach the servers that know this database: a primary that has kafka_pg.advertised_listeners writes itself here, and its standbys send producers there';

CREATE TABLE kafka.topic (
  name text COLLATE "C" PRIMARY KEY,
  id uuid NOT NULL UNIQUE,
  "table" regclass NOT NULL UNIQUE,
  partitions int NOT NULL CHECK (partitions > 0),
  config jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
  created timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE kafka.topic IS 'topics; a row goes away with its table';
COMMENT ON COLUMN kafka.topic.config IS 'the topic configs as they were given; all others have Kafka''s defaults';

-- Names that Kafka's metrics could not tell apart.
CREATE UNIQUE INDEX topic_name_collision ON kafka.topic (replace(name, '.', '_') COLLATE "C");

CREATE TABLE kafka.partition (
  "table" regclass NOT NULL,
  partition int NOT NULL,
  log_start bigint NOT NULL CHECK (log_start >= 0),
  next_offset bigint NOT NULL CHECK (next_offset >= log_start),
  PRIMARY KEY ("table", partition)
);
COMMENT ON TABLE kafka.partition IS
  'lower bounds of log start and next offset, so that a restored partition continues its numbering';

CREATE SEQUENCE kafka.producer_id_seq MINVALUE 0 START 0;
COMMENT ON SEQUENCE kafka.producer_id_seq IS 'ids of idempotent producers';

-- Not dumped: it belongs to this server's files.  "table" is an oid, since a row may outlive its table for
-- a moment and a name would not be found.  Rows are rewritten over and over: room for HOT.
CREATE TABLE kafka.producer_snapshot (
  "table" oid NOT NULL,
  partition int NOT NULL,
  relfilenumber oid NOT NULL,
  next_offset bigint NOT NULL,
  state bytea NOT NULL,
  PRIMARY KEY ("table", partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE kafka.producer_snapshot IS
  'what partitions know of idempotent producers, up to an offset: a start need not read all records';

-- Members are what clients send: any bytes.  The row of the group itself has an empty member_id.
CREATE TABLE kafka.group_state (
  group_id text COLLATE "C",
  member_id bytea,
  data bytea NOT NULL,
  PRIMARY KEY (group_id, member_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE kafka.group_state IS
  'consumer groups and their members, as they must be after a restart';
REVOKE ALL ON kafka.group_state FROM PUBLIC;

CREATE TABLE kafka.group_offset (
  group_id text COLLATE "C",
  topic_id uuid,
  partition int,
  "offset" bigint NOT NULL,
  leader_epoch int NOT NULL DEFAULT -1,
  metadata bytea NOT NULL DEFAULT '',
  committed timestamptz NOT NULL DEFAULT now(),
  expires timestamptz,
  PRIMARY KEY (group_id, topic_id, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE kafka.group_offset IS 'the offsets that consumer groups have committed';

CREATE TABLE kafka.group_config (
  group_id text COLLATE "C" PRIMARY KEY,
  config jsonb NOT NULL
);
COMMENT ON TABLE kafka.group_config IS
  'what consumer groups have of their own in the place of the server''s settings; see kafka.alter_group';

SELECT pg_extension_config_dump('kafka.group_config', '');
SELECT pg_extension_config_dump('kafka.group_offset', '');
SELECT pg_extension_config_dump('kafka.topic', '');
SELECT pg_extension_config_dump('kafka.partition', '');
SELECT pg_extension_config_dump('kafka.producer_id_seq', '');

-- Tells every process that its cache of topics is out of date; also when the row came through
-- logical replication.
CREATE FUNCTION kafka.topic_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'ktopic_changed' LANGUAGE C;
REVOKE EXECUTE ON FUNCTION kafka.topic_changed() FROM PUBLIC;

CREATE TRIGGER topic_changed AFTER INSERT OR UPDATE OR DELETE ON kafka.topic
  FOR EACH ROW EXECUTE FUNCTION kafka.topic_changed();
CREATE TRIGGER topic_truncated AFTER TRUNCATE ON kafka.topic
  FOR EACH STATEMENT EXECUTE FUNCTION kafka.topic_changed();
-- The same for the configs of groups.
CREATE TRIGGER group_config_changed AFTER INSERT OR UPDATE OR DELETE ON kafka.group_config
  FOR EACH ROW EXECUTE FUNCTION kafka.topic_changed();
CREATE TRIGGER group_config_truncated AFTER TRUNCATE ON kafka.group_config
  FOR EACH STATEMENT EXECUTE FUNCTION kafka.topic_changed();
ALTER TABLE kafka.group_config ENABLE ALWAYS TRIGGER group_config_changed;
ALTER TABLE kafka.group_config ENABLE ALWAYS TRIGGER group_config_truncated;
-- Tells partitions in use of a floor, in whatever order a dump is restored.
CREATE FUNCTION kafka.floor_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'kfloor_changed' LANGUAGE C;
REVOKE EXECUTE ON FUNCTION kafka.floor_changed() FROM PUBLIC;

CREATE TRIGGER floor_changed AFTER INSERT OR UPDATE ON kafka.partition
  FOR EACH ROW EXECUTE FUNCTION kafka.floor_changed();
ALTER TABLE kafka.partition ENABLE ALWAYS TRIGGER floor_changed;

ALTER TABLE kafka.topic ENABLE ALWAYS TRIGGER topic_changed;
ALTER TABLE kafka.topic ENABLE ALWAYS TRIGGER topic_truncated;

-- ------------------------------------------------------------------------------------------
-- The access method of topics' tables.
-- ------------------------------------------------------------------------------------------

CREATE FUNCTION kafka.kafka_log_handler(internal) RETURNS table_am_handler
AS 'MODULE_PATHNAME', 'kafka_log_handler' LANGUAGE C STRICT;
REVOKE EXECUTE ON FUNCTION kafka.kafka_log_handler(internal) FROM PUBLIC;
COMMENT ON FUNCTION kafka.kafka_log_handler(internal) IS 'handler of access method kafka_log';

CREATE ACCESS METHOD kafka_log TYPE TABLE HANDLER kafka.kafka_log_handler;
COMMENT ON ACCESS METHOD kafka_log IS 'topics: partitions of Kafka record batches';

-- The row of kafka.leader_epoch made to name this server and timeline; returns the epoch.  The
-- launcher does the same at its start.
CREATE FUNCTION kafka.leader_epoch_claim() RETURNS int
AS 'MODULE_PATHNAME', 'kepoch_claim_sql' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION kafka.leader_epoch_claim() FROM PUBLIC;
SELECT kafka.leader_epoch_claim();

-- ------------------------------------------------------------------------------------------
-- Topics.  Everybody may call these functions; each asks for the right that it needs.
-- ------------------------------------------------------------------------------------------

CREATE FUNCTION kafka.create_topic(name text, partitions int DEFAULT 1, config jsonb DEFAULT '{}')
RETURNS regclass
AS 'MODULE_PATHNAME', 'ksql_create_topic' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.create_topic(text, int, jsonb) IS
  'creates a topic and returns its table; needs CREATE on schema topics';

CREATE FUNCTION kafka.drop_topic(name text) RETURNS void
AS 'MODULE_PATHNAME', 'ksql_drop_topic' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.drop_topic(text) IS
  'drops a topic with all its records; only its owner can';

CREATE FUNCTION kafka.id_text(id uuid) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN translate(rtrim(encode(uuid_send(id), 'base64'), '='), '+/', '-_');
COMMENT ON FUNCTION kafka.id_text(uuid) IS 'a topic''s id as Kafka''s tools write it';

CREATE VIEW kafka.topics AS
  SELECT t.name, kafka.id_text(t.id) AS id, t."table", pg_get_userbyid(c.relowner) AS owner,
         t.partitions, t.config, t.created, pg_relation_size(c.oid) AS bytes
  FROM kafka.topic t JOIN pg_class c ON c.oid = t."table"
  WHERE has_table_privilege(c.oid, 'SELECT') OR has_table_privilege(c.oid, 'INSERT');
COMMENT ON VIEW kafka.topics IS 'the topics that you may read or write';
GRANT SELECT ON kafka.topics TO PUBLIC;

-- ------------------------------------------------------------------------------------------
-- Keys, values and headers as text and JSON, and back.  None fails because of what a producer
-- has stored.
-- ------------------------------------------------------------------------------------------

CREATE FUNCTION kafka.header(key text, value bytea) RETURNS kafka.header
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW(key, value)::kafka.header;
COMMENT ON FUNCTION kafka.header(text, bytea) IS 'a record''s header';

CREATE FUNCTION kafka.to_text(bytes bytea) RETURNS text
AS 'MODULE_PATHNAME', 'ksql_to_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION kafka.to_text(bytea) IS
  'a key or value as text; bytes that are not valid text are shown as \xNN';

CREATE FUNCTION kafka.to_jsonb(bytes bytea) RETURNS jsonb
AS 'MODULE_PATHNAME', 'ksql_to_jsonb' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION kafka.to_jsonb(bytea) IS
  'a key or value as jsonb; NULL when it is not JSON that jsonb can hold';

CREATE FUNCTION kafka.to_bytea(value text) RETURNS bytea
AS 'MODULE_PATHNAME', 'ksql_to_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION kafka.to_bytea(text) IS 'text as bytes, for INSERT and headers';

CREATE FUNCTION kafka.to_bytea(value json) RETURNS bytea
AS 'MODULE_PATHNAME', 'ksql_to_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION kafka.to_bytea(json) IS 'JSON as bytes, as it is written';

CREATE FUNCTION kafka.to_bytea(value jsonb) RETURNS bytea
AS 'MODULE_PATHNAME', 'ksql_jsonb_to_bytea' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION kafka.to_bytea(jsonb) IS 'JSON as bytes';

CREATE FUNCTION kafka.header_value(headers kafka.header[], key text) RETURNS bytea
AS 'MODULE_PATHNAME', 'ksql_header_value' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION kafka.header_value(kafka.header[], text) IS
  'the value of the last header with this key';

CREATE FUNCTION kafka.header_text(headers kafka.header[], key text) RETURNS text
AS 'MODULE_PATHNAME', 'ksql_header_text' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION kafka.header_text(kafka.header[], text) IS
  'the value of the last header with this key as text; bytes that are not valid text are shown as \xNN';

-- ------------------------------------------------------------------------------------------
-- Producing.  One function for each type of value and key, so that literals need no cast: of
-- those that fit a literal, Postgres prefers text. Only the forms with a key of type text have a
-- default for it: a call without key finds one function for each type of value.
-- ------------------------------------------------------------------------------------------

CREATE FUNCTION kafka.produce(topic text, value text, key text DEFAULT NULL,
  headers kafka.header[] DEFAULT NULL, partition int DEFAULT NULL,
  "timestamp" timestamptz DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_produce' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.produce(text, text, text, kafka.header[], int, timestamptz) IS
  'adds a record to a topic with this transaction''s commit; returns its partition';

CREATE FUNCTION kafka.produce(topic text, value bytea, key text DEFAULT NULL,
  headers kafka.header[] DEFAULT NULL, partition int DEFAULT NULL,
  "timestamp" timestamptz DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_produce' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.produce(text, bytea, text, kafka.header[], int, timestamptz) IS
  'adds a record to a topic with this transaction''s commit; returns its partition';

CREATE FUNCTION kafka.produce(topic text, value json, key text DEFAULT NULL,
  headers kafka.header[] DEFAULT NULL, partition int DEFAULT NULL,
  "timestamp" timestamptz DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_produce' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.produce(text, json, text, kafka.header[], int, timestamptz) IS
  'adds a record to a topic with this transaction''s commit; returns its partition';

CREATE FUNCTION kafka.produce(topic text, value jsonb, key text DEFAULT NULL,
  headers kafka.header[] DEFAULT NULL, partition int DEFAULT NULL,
  "timestamp" timestamptz DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_produce_jsonb' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.produce(text, jsonb, text, kafka.header[], int, timestamptz) IS
  'adds a record to a topic with this transaction''s commit; returns its partition';

CREATE FUNCTION kafka.produce(topic text, value text, key bytea,
  headers kafka.header[] DEFAULT NULL, partition int DEFAULT NULL,
  "timestamp" timestamptz DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_produce' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.produce(text, text, bytea, kafka.header[], int, timestamptz) IS
  'adds a record to a topic with this transaction''s commit; returns its partition';

CREATE FUNCTION kafka.produce(topic text, value bytea, key bytea,
  headers kafka.header[] DEFAULT NULL, partition int DEFAULT NULL,
  "timestamp" timestamptz DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_produce' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.produce(text, bytea, bytea, kafka.header[], int, timestamptz) IS
  'adds a record to a topic with this transaction''s commit; returns its partition';

CREATE FUNCTION kafka.produce(topic text, value json, key bytea,
  headers kafka.header[] DEFAULT NULL, partition int DEFAULT NULL,
  "timestamp" timestamptz DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_produce' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.produce(text, json, bytea, kafka.header[], int, timestamptz) IS
  'adds a record to a topic with this transaction''s commit; returns its partition';

CREATE FUNCTION kafka.produce(topic text, value jsonb, key bytea,
  headers kafka.header[] DEFAULT NULL, partition int DEFAULT NULL,
  "timestamp" timestamptz DEFAULT NULL) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_produce_jsonb' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.produce(text, jsonb, bytea, kafka.header[], int, timestamptz) IS
  'adds a record to a topic with this transaction''s commit; returns its partition';

-- ------------------------------------------------------------------------------------------
-- Reading
-- ------------------------------------------------------------------------------------------

CREATE FUNCTION kafka.fetch(topic text, partition int, "offset" bigint,
  max_records int DEFAULT 500, max_wait interval DEFAULT '0') RETURNS SETOF kafka.record
AS 'MODULE_PATHNAME', 'ksql_fetch' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.fetch(text, int, bigint, int, interval) IS
  'records of a partition from an offset on; waits up to max_wait when there is none yet';

CREATE PROCEDURE kafka.wait(topic text, partition int, "offset" bigint, max_wait interval)
AS 'MODULE_PATHNAME', 'ksql_wait' LANGUAGE C;
COMMENT ON PROCEDURE kafka.wait(text, int, bigint, interval) IS
  'waits until the record at an offset can be read, or max_wait is over; holds no snapshot meanwhile';

CREATE FUNCTION kafka.offset_at(topic text, partition int, "timestamp" timestamptz) RETURNS bigint
AS 'MODULE_PATHNAME', 'ksql_offset_at' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.offset_at(text, int, timestamptz) IS
  'offset of the first record that is not older; NULL when there is none';

CREATE FUNCTION kafka.topic_partitions(topic_table regclass, OUT partition int,
  OUT leader_epoch int, OUT log_start bigint, OUT high_watermark bigint, OUT end_offset bigint,
  OUT bytes bigint) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ksql_topic_partitions' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.topic_partitions(regclass) IS 'the partitions of a topic and their state';

CREATE VIEW kafka.partitions WITH (security_barrier) AS
  SELECT t.name AS topic, p.partition, p.leader_epoch, p.log_start, p.high_watermark,
         p.end_offset, p.bytes
  FROM kafka.topic t CROSS JOIN LATERAL kafka.topic_partitions(t."table") p;
COMMENT ON VIEW kafka.partitions IS
  'the partitions of the topics that you may read or write; of all topics for members of pg_monitor';
GRANT SELECT ON kafka.partitions TO PUBLIC;

CREATE FUNCTION kafka.check_topic(topic_table regclass, OUT partition int, OUT block bigint,
  OUT "offset" bigint, OUT problem text) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ksql_check_topic' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.check_topic(regclass) IS
  'reads all pages of a topic and reports what is wrong with them';

-- ------------------------------------------------------------------------------------------
-- Consumer groups.  Rights are those on the topic: SELECT.  A group has Kafka clients as members,
-- or sessions that use these functions, never both at one time: sessions are refused with SQLSTATE
-- 55006 (object_in_use), clients with INCONSISTENT_GROUP_PROTOCOL.
-- ------------------------------------------------------------------------------------------

-- Arguments: the offset of the next record to be consumed, any that there may ever be; metadata, at
-- most kafka_pg.max_offset_metadata bytes.  Errors: 22003 a partition that there is not, a negative
-- offset; 22001 metadata too long; 22023 a group_id that is empty or longer than 1024 bytes.  As
-- Kafka's OffsetCommit.
CREATE FUNCTION kafka.commit_offset(group_id text, topic text, partition int, "offset" bigint,
  metadata text DEFAULT '') RETURNS void
AS 'MODULE_PATHNAME', 'ksql_commit_offset' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.commit_offset(text, text, int, bigint, text) IS
  'commits a group''s offset with this transaction; waits for others who write it';

-- As Kafka's OffsetFetch.
CREATE FUNCTION kafka.committed_offset(group_id text, topic text, partition int) RETURNS bigint
AS 'MODULE_PATHNAME', 'ksql_committed_offset' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION kafka.committed_offset(text, text, int) IS
  'the offset that a group has committed; NULL when there is none';

-- Arguments: exactly one of strategy ('earliest', 'latest'), target_offset, target_time (the first
-- record that is not older) and shift_by (records, forward or backward).  Returns what was set, a
-- row a partition: as kafka-consumer-groups --reset-offsets, brought into the range of offsets that the
-- partition has.  Errors: 22023 none or several of them; P0002 shift_by without a committed offset.
CREATE FUNCTION kafka.reset_offsets(group_id text, topic text, strategy text DEFAULT NULL,
  target_offset bigint DEFAULT NULL, target_time timestamptz DEFAULT NULL,
  shift_by bigint DEFAULT NULL)
RETURNS TABLE (topic_name text, partition int, "offset" bigint)
AS 'MODULE_PATHNAME', 'ksql_reset_offsets' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.reset_offsets(text, text, text, bigint, timestamptz, bigint) IS
  'sets a group''s offsets of all partitions of a topic with this transaction, and returns them';

-- Arguments: max_records, of all partitions together (the records' bytes are bounded as well, by
-- some 50 MB); max_wait, for the first record that nobody has claimed.  Where the group has no
-- offset, or one that retention has passed, it begins at the log start.  Errors: 22003 an offset
-- behind the partition's end; under REPEATABLE READ and above 40001, as an UPDATE.
CREATE FUNCTION kafka.consume(group_id text, topic text, max_records int DEFAULT 500,
  max_wait interval DEFAULT '0') RETURNS SETOF kafka.record
AS 'MODULE_PATHNAME', 'ksql_consume' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.consume(text, text, int, interval) IS
  'the next records of a group, whose offsets move with this transaction''s commit; their partitions are this session''s until then';

CREATE PROCEDURE kafka.wait_group(group_id text, topic text, max_wait interval)
AS 'MODULE_PATHNAME', 'ksql_wait_group' LANGUAGE C;
COMMENT ON PROCEDURE kafka.wait_group(text, text, interval) IS
  'waits until there are records that kafka.consume would return, or max_wait is over; holds no snapshot meanwhile';

CREATE FUNCTION kafka.stat_get_group(OUT group_id text, OUT state text, OUT type text,
  OUT protocol_type text, OUT epoch int, OUT members int) RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ksql_stat_get_group' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 100;
COMMENT ON FUNCTION kafka.stat_get_group() IS 'the groups in shared memory, for view kafka.groups';
REVOKE EXECUTE ON FUNCTION kafka.stat_get_group() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kafka.stat_get_group() TO pg_monitor;

CREATE FUNCTION kafka.group_sessions(group_id text) RETURNS int
AS 'MODULE_PATHNAME', 'ksql_group_sessions' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION kafka.group_sessions(text) IS
  'how many other transactions consume in a group, or commit its offsets, just now';
REVOKE EXECUTE ON FUNCTION kafka.group_sessions(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kafka.group_sessions(text) TO pg_monitor;

CREATE FUNCTION kafka.stat_get_group_member(OUT group_id text, OUT member_id text,
  OUT instance_id text, OUT client_id text, OUT client_host text, OUT rack text,
  OUT protocol text, OUT epoch int, OUT partitions int, OUT assignment jsonb, OUT target jsonb)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ksql_stat_get_group_member' LANGUAGE C VOLATILE PARALLEL RESTRICTED
  ROWS 1000;
COMMENT ON FUNCTION kafka.stat_get_group_member() IS
  'the members of all groups, for view kafka.group_members';
REVOKE EXECUTE ON FUNCTION kafka.stat_get_group_member() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kafka.stat_get_group_member() TO pg_monitor;

-- As ListGroups: groups that have only offsets are empty and classic.
CREATE VIEW kafka.groups AS
  SELECT g.group_id, g.state, g.type, g.protocol_type, g.epoch, g.members,
         kafka.group_sessions(g.group_id) AS sessions
  FROM kafka.stat_get_group() g
  UNION ALL
  SELECT o.group_id, 'Empty', 'classic', '', NULL, 0, kafka.group_sessions(o.group_id)
  FROM (SELECT DISTINCT group_id FROM kafka.group_offset) o
  WHERE o.group_id NOT IN (SELECT s.group_id FROM kafka.stat_get_group() s);
COMMENT ON VIEW kafka.groups IS 'consumer groups; for members of pg_monitor';
COMMENT ON COLUMN kafka.groups.state IS 'Kafka''s name of it: Empty, PreparingRebalance, CompletingRebalance, Stable, Assigning, Reconciling';
COMMENT ON COLUMN kafka.groups.type IS 'classic or consumer (KIP-848)';
COMMENT ON COLUMN kafka.groups.epoch IS 'the generation of a classic group, the epoch of a consumer group';
COMMENT ON COLUMN kafka.groups.members IS 'Kafka clients';
COMMENT ON COLUMN kafka.groups.sessions IS 'SQL sessions that consume or commit offsets just now, without this one';
GRANT SELECT ON kafka.groups TO pg_monitor;

CREATE VIEW kafka.group_members AS
  SELECT m.group_id, m.member_id, m.instance_id, m.client_id, m.client_host, m.rack, m.protocol,
         m.epoch, m.partitions, m.assignment, m.target
  FROM kafka.stat_get_group_member() m;
COMMENT ON VIEW kafka.group_members IS
  'members of consumer groups, all of them Kafka clients; for members of pg_monitor';
COMMENT ON COLUMN kafka.group_members.instance_id IS 'of a static member (KIP-345)';
COMMENT ON COLUMN kafka.group_members.partitions IS 'how many it has';
COMMENT ON COLUMN kafka.group_members.assignment IS 'those partitions, by topic; NULL when they are not in Kafka''s layout';
COMMENT ON COLUMN kafka.group_members.target IS 'the partitions that it shall have (KIP-848)';
GRANT SELECT ON kafka.group_members TO pg_monitor;

-- All partitions of each topic of which the group has committed an offset.
CREATE VIEW kafka.group_lag WITH (security_barrier) AS
  SELECT g.group_id, t.name AS topic, p.partition, o."offset" AS committed_offset, p.high_watermark,
         greatest(p.high_watermark - coalesce(o."offset", p.log_start), 0) AS lag,
         o.committed AS last_commit
  FROM (SELECT DISTINCT group_id, topic_id FROM kafka.group_offset) g
  JOIN kafka.topic t ON t.id = g.topic_id
  CROSS JOIN LATERAL kafka.topic_partitions(t."table") p
  LEFT JOIN kafka.group_offset o
    ON o.group_id = g.group_id AND o.topic_id = g.topic_id AND o.partition = p.partition;
COMMENT ON VIEW kafka.group_lag IS
  'committed offsets of the topics that you may read or write, and how many offsets lie behind them; of all topics for members of pg_monitor';
COMMENT ON COLUMN kafka.group_lag.committed_offset IS 'of the next record; NULL when the group has none of this partition';
COMMENT ON COLUMN kafka.group_lag.lag IS 'offsets from there, or from the log start, to the high watermark';
GRANT SELECT ON kafka.group_lag TO PUBLIC;

-- ------------------------------------------------------------------------------------------
-- Statistics
-- ------------------------------------------------------------------------------------------

CREATE FUNCTION kafka.stat_get_connection(OUT broker int, OUT pid int, OUT role oid,
  OUT client_id text, OUT client_addr inet, OUT client_port int, OUT client_software_name text,
  OUT client_software_version text, OUT connected timestamptz, OUT last_request timestamptz,
  OUT requests bigint, OUT parked_requests int, OUT bytes_received bigint, OUT bytes_sent bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ksql_stat_get_connection' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
  ROWS 100;
COMMENT ON FUNCTION kafka.stat_get_connection() IS
  'the connections of Kafka clients, as view kafka.stat_connection shows them';

CREATE VIEW kafka.stat_connection AS
  SELECT s.broker, s.pid, pg_get_userbyid(s.role) AS role, s.client_id, s.client_addr,
         s.client_port, s.client_software_name, s.client_software_version, s.connected,
         s.last_request, s.requests, s.parked_requests, s.bytes_received, s.bytes_sent
  FROM kafka.stat_get_connection() s;
COMMENT ON VIEW kafka.stat_connection IS
  'the connections of Kafka clients; most columns are for members of its role and of pg_read_all_stats only';
GRANT SELECT ON kafka.stat_connection TO PUBLIC;

CREATE FUNCTION kafka.stat_get_group_memory(OUT groups int, OUT max_groups int,
  OUT blocks bigint, OUT bytes bigint, OUT max_bytes bigint)
AS 'MODULE_PATHNAME', 'ksql_stat_get_group_memory' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION kafka.stat_get_group_memory() IS
  'the memory of consumer groups, as view kafka.stat_group_memory shows it';

CREATE VIEW kafka.stat_group_memory AS
  SELECT m.groups, m.max_groups, m.blocks, m.bytes, m.max_bytes
  FROM kafka.stat_get_group_memory() m;
COMMENT ON VIEW kafka.stat_group_memory IS
  'shared memory of consumer groups with members, and what the settings allow';
GRANT SELECT ON kafka.stat_group_memory TO PUBLIC;

-- ------------------------------------------------------------------------------------------
-- Configs of consumer groups.  Needs the right to write kafka.group_config.
-- ------------------------------------------------------------------------------------------

CREATE FUNCTION kafka.alter_group(group_id text, configs jsonb) RETURNS void
AS 'MODULE_PATHNAME', 'ksql_alter_group' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION kafka.alter_group(text, jsonb) IS
  'sets configs of a consumer group; a null takes one away';
