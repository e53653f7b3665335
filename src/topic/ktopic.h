/*
 * ktopic.h
 *		Topics: their names, catalog rows, configs and rights; the cluster's id and the leader
 *		epoch.  This is the header of src/topic that other modules include (kpartitioner.h aside).
 *
 * A topic is a row of kafka.topic together with the table of access method kafka_log that the
 * row names.  Rows come and go with ordinary transactions; every process keeps a cache of
 * them that follows the server's own cache invalidation.
 *
 * All functions need a transaction unless their comment says otherwise.
 * src/topic/README.md has the catalogs, the invalidation and the locks.
 */
#ifndef KTOPIC_H
#define KTOPIC_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/uuid.h"

/* Kafka's limit on a topic's name, in bytes (names are ASCII). */
#define KTOPIC_NAME_MAX			249
/* And what the log can hold. */
#define KTOPIC_MAX_PARTITIONS	10000

/* ------------------------------------------------------------------------
 * Configs: ktopic_config.c
 * ------------------------------------------------------------------------
 */

typedef enum KCompressionType
{
	KCOMPRESSION_PRODUCER = -1, /* store what the producer sent */
	/* the others are the codec numbers of a record batch's attributes */
	KCOMPRESSION_UNCOMPRESSED = 0,
	KCOMPRESSION_GZIP = 1,
	KCOMPRESSION_SNAPPY = 2,
	KCOMPRESSION_LZ4 = 3,
	KCOMPRESSION_ZSTD = 4
} KCompressionType;

/* What this server acts upon, parsed.  The other configs are checked and kept, no more. */
typedef struct KTopicConfig
{
	bool		cleanup_compact;	/* cleanup.policy */
	bool		cleanup_delete;
	KCompressionType compression_type;
	int			compression_gzip_level;
	int			compression_lz4_level;
	int			compression_zstd_level;
	int32		max_message_bytes;
	bool		log_append_time;	/* message.timestamp.type = LogAppendTime */
	int64		timestamp_before_max_ms;
	int64		timestamp_after_max_ms;
	int32		min_insync_replicas;
	int64		segment_bytes;
	int64		segment_ms;
	int64		retention_bytes;	/* -1: no limit */
	int64		retention_ms;	/* -1: no limit */
	int64		delete_retention_ms;
	int64		min_compaction_lag_ms;
	int64		max_compaction_lag_ms;
	double		min_cleanable_dirty_ratio;
} KTopicConfig;

typedef enum KConfigType
{
	KCONFIG_BOOLEAN,
	KCONFIG_STRING,
	KCONFIG_INT,
	KCONFIG_LONG,
	KCONFIG_DOUBLE,
	KCONFIG_LIST
} KConfigType;

/* One topic config that Kafka knows; for DescribeConfigs and CreateTopics' answer. */
typedef struct KTopicConfigDef
{
	const char *name;
	KConfigType type;
	const char *default_value;	/* as text; NULL: no default */
	const char *doc;
} KTopicConfigDef;

/* All of them, ordered by name. */
extern const KTopicConfigDef *const *ktopic_config_defs(int *n);

/*
 * Parses the configs of a topic: *config starts from the defaults.  Returns NULL, or what is wrong
 * with the first bad one as a sentence in Kafka's words (palloc'd); the good ones
 * are in *config even then.  Never throws because of a value.
 */
extern char *ktopic_config_parse(Jsonb *json, KTopicConfig *config);
extern void ktopic_config_defaults(KTopicConfig *config);

/* The value of one config as text, as given or the default; NULL when it has neither. */
extern char *ktopic_config_value(Jsonb *json, const KTopicConfigDef *def, bool *is_default);

/*
 * Names and values as a request carries them, as the jsonb that ktopic_create takes.  A NULL value
 * is left out: the default.
 */
extern Jsonb *ktopic_config_build(int n, const char *const *names, const char *const *values);

/* ------------------------------------------------------------------------
 * Lookup: ktopic_cache.c
 * ------------------------------------------------------------------------
 */

/* Good until the end of the transaction, whatever happens to the topic meanwhile. */
typedef struct KTopic
{
	Oid			relid;			/* its table */
	pg_uuid_t	id;
	const char *name;
	int32		partitions;
	KTopicConfig config;
	Jsonb	   *config_given;	/* as stored */
	TimestampTz created;
} KTopic;

/*
 * Return NULL when there is no such topic; never throw for that.  What is in the cache
 * costs a hash lookup.  Otherwise kafka.topic is read under AccessShareLock: with busy = NULL that
 * lock is waited for; else it is taken conditionally, and *busy tells that it was not free
 * (then NULL says nothing about the topic: try again later).
 */
extern const KTopic *ktopic_by_name(const char *name, bool *busy);
extern const KTopic *ktopic_by_id(const pg_uuid_t *id, bool *busy);
extern const KTopic *ktopic_by_relid(Oid relid, bool *busy);

/* All topics, ordered by name (a list of const KTopic *). */
extern List *ktopic_list(bool *busy);

/* For SQL: ERROR with a hint when there is no such topic. */
extern const KTopic *ktopic_get(const char *name);

/* Registers the invalidation callbacks and the object access hook; from _PG_init. */
extern void ktopic_init(void);

/* ------------------------------------------------------------------------
 * Create and drop: ktopic.c
 * ------------------------------------------------------------------------
 */

/* NULL when the name is one that Kafka allows, else what is wrong with it (static or palloc'd). */
extern const char *ktopic_name_problem(const char *name);

/*
 * Creates table and catalog row; the current user becomes the owner and needs CREATE on schema
 * topics.  ERRORs carry the SQLSTATEs that ktopic_error_code knows.  Returns the table's OID.
 */
extern Oid	ktopic_create(const char *name, int32 partitions, Jsonb *config);

/* Drops it as the current user, who must own the table. */
extern void ktopic_drop(const char *name);

/*
 * Kafka's error code for an SQLSTATE raised by these functions; -1 (UNKNOWN_SERVER_ERROR) for
 * others.  For a bad config the error's detail is the sentence that Kafka would give.
 */
extern int16 ktopic_error_code(int sqlerrcode);

/* ------------------------------------------------------------------------
 * Floors: kfloor.c
 *
 * kafka.partition keeps where log and numbering of a partition may start at the lowest, when its
 * records do not tell; see README.md.
 * ------------------------------------------------------------------------
 */

/* Registers what the log asks and tells; from _PG_init. */
extern void kfloor_init(void);

/* ------------------------------------------------------------------------
 * Rights: kacl.c
 *
 * A role's rights on a topic are its privileges on the table, and USAGE on the table's schema.
 * False when the table is gone.
 * ------------------------------------------------------------------------
 */

extern bool kacl_topic_read(Oid relid, Oid roleid); /* SELECT: Read */
extern bool kacl_topic_write(Oid relid, Oid roleid);	/* INSERT: Write */
extern bool kacl_topic_describe(Oid relid, Oid roleid); /* either of them, or owner: Describe */
extern bool kacl_topic_owner(Oid relid, Oid roleid);	/* owner: Alter, Delete */
extern bool kacl_topic_create(Oid roleid);	/* CREATE on schema topics: Create */

/* ------------------------------------------------------------------------
 * Cluster id and leader epoch: kepoch.c
 * ------------------------------------------------------------------------
 */

#define KCLUSTER_ID_LEN		22

/* Kafka's cluster id, palloc'd; NULL when the extension is not created. */
extern const char *kcluster_id(void);

extern Size kepoch_shmem_size(void);
extern void kepoch_shmem_init(void);

/*
 * The launcher's, on a primary, before brokers start and again after CREATE EXTENSION: makes the
 * row of kafka.leader_epoch name this server and timeline, with a new epoch if it named others,
 * durably, and lets appenders go on.  Outside a transaction: it runs its own.  False: the
 * extension is not created.
 */
extern bool kepoch_startup(void);

/*
 * The leader epoch that a new batch carries.  Waits, up to some seconds, for the launcher to make
 * it durable after a start or promotion; ERROR with a hint after that.  A broker process that
 * appends is started when it is there, and so never waits.  On a standby: the primary's.
 */
extern int32 kepoch_current(void);

/* The same for a broker, which may not wait.  False: not now; *epoch means nothing. */
extern bool kepoch_known(int32 *epoch);

/*
 * The same without waiting, for answers: from a promotion to the moment in which the new epoch is
 * known, which the brokers of a standby may live to see, the one before it.
 */
extern int32 kepoch_latest(void);

/* ------------------------------------------------------------------------
 * Nodes: knode.c
 * ------------------------------------------------------------------------
 */

typedef struct KNode
{
	int32		id;
	char	   *host;			/* in the current memory context */
	int			port;
	char	   *rack;			/* NULL: none */
} KNode;

/*
 * For the launcher of a primary, outside of transactions: makes kafka.node say that this server
 * leads, and where it is, if kafka_pg.advertised_listeners tells that for PLAINTEXT.
 */
extern void knode_startup(void);

/* Who leads, as the primary that this standby follows has written; false: not known. */
extern bool knode_leader(KNode *node);

#endif							/* KTOPIC_H */
