-- Topics: names, configs, creation and removal with transactions, their catalog row
\set SHOW_CONTEXT never

SELECT kafka.create_topic('orders', 4, '{"retention.ms": 1000, "cleanup.policy": ["compact", "delete"]}');
\d topics.orders
SELECT name, id ~ '^[A-Za-z0-9_][A-Za-z0-9_-]{21}$' AS id, "table", owner = current_user AS owner,
       partitions, config, created <= now() AS created
  FROM kafka.topics;
SELECT kafka.create_topic(name => 'named', config => '{"compression.type": "zstd"}');
SELECT id ~ '^[A-Za-z0-9_][A-Za-z0-9_-]{21}$' AS cluster_id FROM kafka.cluster;

-- Kafka's names
SELECT kafka.create_topic('a.b');
SELECT kafka.create_topic('a_b');
SELECT kafka.create_topic('a.b');
SELECT kafka.create_topic('');
SELECT kafka.create_topic('.');
SELECT kafka.create_topic('..');
SELECT kafka.create_topic('x y');
SELECT kafka.create_topic('ä');
SELECT kafka.create_topic(NULL);
SELECT kafka.create_topic(rpad('long', 250, 'x'));

-- longer than an identifier: two that begin alike, and each found again
SELECT kafka.create_topic(rpad('long', 248, 'x'));
SELECT kafka.create_topic(rpad('long', 249, 'x'));
SELECT length(name), length("table"::text) FROM kafka.topics WHERE name LIKE 'long%' ORDER BY 1;
SELECT kafka.drop_topic(rpad('long', 248, 'x'));
SELECT length(name) FROM kafka.topics WHERE name LIKE 'long%' ORDER BY 1;

-- a table that is in the way
CREATE TABLE topics.obstacle (a int);
SELECT kafka.create_topic('obstacle');
DROP TABLE topics.obstacle;

-- partitions and configs
SELECT kafka.create_topic('bad', 0);
SELECT kafka.create_topic('bad', -1);
SELECT kafka.create_topic('bad', 10001);
SELECT kafka.create_topic('bad', NULL);
SELECT kafka.create_topic('bad', config => NULL);
SELECT kafka.create_topic('bad', 1, '[]');
SELECT kafka.create_topic('bad', 1, '{"no.such.config": 1}');
SELECT kafka.create_topic('bad', 1, '{"retention.ms": "soon"}');
SELECT kafka.create_topic('bad', 1, '{"retention.ms": -2}');
SELECT kafka.create_topic('bad', 1, '{"retention.ms": null}');
SELECT kafka.create_topic('bad', 1, '{"retention.ms": {"a": 1}}');
SELECT kafka.create_topic('bad', 1, '{"retention.ms": 99999999999999999999}');
SELECT kafka.create_topic('bad', 1, '{"max.message.bytes": 3000000000}');
SELECT kafka.create_topic('bad', 1, '{"segment.bytes": 1000}');
SELECT kafka.create_topic('bad', 1, '{"compression.type": "bzip2"}');
SELECT kafka.create_topic('bad', 1, '{"compression.gzip.level": 0}');
SELECT kafka.create_topic('bad', 1, '{"cleanup.policy": "delete,shred"}');
SELECT kafka.create_topic('bad', 1, '{"cleanup.policy": ["delete", "delete"]}');
SELECT kafka.create_topic('bad', 1, '{"cleanup.policy": "delete,"}');
SELECT kafka.create_topic('bad', 1, '{"preallocate": "perhaps"}');
SELECT kafka.create_topic('bad', 1, '{"min.cleanable.dirty.ratio": 1.5}');
SELECT kafka.create_topic('bad', 1, '{"min.compaction.lag.ms": 2, "max.compaction.lag.ms": 1}');
SELECT kafka.create_topic('bad', 1, '{"remote.storage.enable": true}');
SELECT kafka.create_topic('bad', 1, '{"leader.replication.throttled.replicas": "1:2,3"}');
SELECT kafka.create_topic('good', 1, '{"retention.ms": " 1000 ", "preallocate": "TRUE",
  "cleanup.policy": "compact, delete", "min.cleanable.dirty.ratio": "0.25",
  "leader.replication.throttled.replicas": "*", "follower.replication.throttled.replicas": "1:2,3:4",
  "message.timestamp.type": "LogAppendTime", "retention.bytes": -5, "compression.gzip.level": -1,
  "internal.segment.bytes": 100}');

-- transactions
BEGIN;
SELECT kafka.create_topic('gone');
SELECT name FROM kafka.topics WHERE name = 'gone';
ROLLBACK;
SELECT name FROM kafka.topics WHERE name = 'gone';
SELECT to_regclass('topics.gone');
BEGIN;
SAVEPOINT s;
SELECT kafka.create_topic('half');
ROLLBACK TO s;
SELECT kafka.create_topic('half', 2);
COMMIT;
SELECT name, partitions FROM kafka.topics WHERE name = 'half';
BEGIN;
SELECT kafka.drop_topic('half');
SELECT kafka.create_topic('half', 3);
COMMIT;
SELECT name, partitions FROM kafka.topics WHERE name = 'half';
BEGIN;
SELECT kafka.drop_topic('half');
ROLLBACK;
SELECT name, partitions FROM kafka.topics WHERE name = 'half';

-- dropping
SELECT kafka.drop_topic('no_such_topic');
SELECT kafka.drop_topic(NULL);
CREATE VIEW uses_orders AS SELECT key FROM topics.orders;
SELECT kafka.drop_topic('orders');
DROP VIEW uses_orders;
INSERT INTO kafka.partition SELECT "table", 0, 5, 7 FROM kafka.topic WHERE name = 'orders';
SELECT kafka.drop_topic('orders');
SELECT count(*) FROM kafka.partition;
DROP TABLE topics."a.b", topics.half;
SELECT name FROM kafka.topics WHERE length(name) < 100 ORDER BY name;
SELECT kafka.create_topic('a_b');

-- the table may be renamed and moved; the topic keeps its name
ALTER TABLE topics.good RENAME TO better;
CREATE SCHEMA elsewhere;
ALTER TABLE topics.better SET SCHEMA elsewhere;
ALTER TABLE elsewhere.better ALTER COLUMN value SET STATISTICS 10;
SELECT name, "table" FROM kafka.topics WHERE name = 'good';
SELECT kafka.create_topic('good');
SELECT kafka.drop_topic('good');
DROP SCHEMA elsewhere;

-- updating to the installed version is no change
ALTER EXTENSION kafka_pg UPDATE TO '0.1';

SELECT kafka_test.keep_topics();
SELECT count(*) FROM kafka.topic;
