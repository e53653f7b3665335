/*
 * kapi_request.h
 *		A request on its way through this module, and what handlers work with.
 *		For src/api only.
 */
#ifndef KAPI_REQUEST_H
#define KAPI_REQUEST_H

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "storage/lockdefs.h"
#include "utils/palloc.h"
#include "utils/relcache.h"

#include "api/kapi.h"
#include "log/klog.h"
#include "topic/ktopic.h"
#include "wire/kmsg.h"

typedef struct KRequest KRequest;
typedef struct KFetchCache KFetchCache;
typedef struct KApiStatSlot KApiStatSlot;

struct KApiConn
{
	void	   *io_conn;
	MemoryContext ctx;
	char	   *client;
	char	   *client_host;
	int			client_port;
	TimestampTz connected;
	char	   *protocol;
	char	   *local_host;
	int			local_port;
	dlist_head	requests;		/* not finished, in order */
	dlist_node	advance_node;	/* in the list of those whose next request may be begun */
	bool		advance;
	bool		trusted;		/* io->trust() has been called */
	bool		closing;		/* io->close() has been called: begin nothing more */
	bool		gone;			/* kapi_conn_closed() has been called */
	bool		last_words;		/* gone, but not for an error: its Produce requests are begun */
	bool		advancing;		/* in advance(), which frees it if need be */
	int			nparked;		/* requests that wait for something */
	KFetchCache *fetch_cache;	/* kapi_fetch.c; NULL until the first fetch */
	KApiStatSlot *stat;			/* kapi_stat.c; NULL: no room for now, or gone */
};

/* ------------------------------------------------------------------------
 * The table of APIs: kapi_table.c
 * ------------------------------------------------------------------------
 */
typedef struct KApiEntry
{
	int16		key;

	/*
	 * Answers, or parks the request.  req->body is decoded.  Runs in the request's memory context,
	 * and may throw.
	 */
	void		(*handle) (KRequest *req);

	/* Answers with this error in the API's own shape.  NULL: the connection is closed. */
	void		(*fail) (KRequest *req, int16 error);

	/*
	 * The request is finished, answered or not: let go of what is not in its memory.  May be NULL.
	 */
	void		(*end) (KRequest *req);

	/* The connection has gone: must the request go on all the same?  NULL: it need not. */
	bool		(*keep) (KRequest *req);

	bool		anonymous;		/* allowed before the client is known */
	int16		standby_error;	/* what a standby answers; 0: it serves this API */
} KApiEntry;

extern const KApiEntry kapi_table[];
extern const int kapi_table_size;

/* NULL when the API is not served. */
extern const KApiEntry *kapi_entry(int key);

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------
 */

/* What a parked request waits for; see kapi_wait.h. */
typedef struct KWait
{
	void		(*wake) (KRequest *req);

	bool		timed;
	int64		deadline;		/* on kapi_now()'s clock */
	pairingheap_node time_node;

	bool		for_lsn;
	bool		quorum;			/* the durable LSN, not the flushed one */
	XLogRecPtr	lsn;
	pairingheap_node lsn_node;

	bool		polled;
	dlist_node	poll_node;

	slist_head	watches;		/* of partitions' high watermarks */

	bool		ready;			/* about to be woken */
	dlist_node	ready_node;

	int			backoff;		/* of kapi_wait_retry() */
} KWait;

typedef enum KRequestState
{
	KREQUEST_QUEUED,
	KREQUEST_BEGUN,
	KREQUEST_FINISHED
} KRequestState;

struct KRequest
{
	KApiConn   *conn;
	dlist_node	node;			/* in conn->requests */
	MemoryContext ctx;			/* all of it; goes when the answer's last chunk is released */
	KRequestState state;
	void	   *slot;
	const KApiEntry *entry;
	const		KApiInfo *info;
	int16		version;
	int32		correlation_id;
	KStr		client_id;
	uint8	   *data;
	size_t		len;
	size_t		body_offset;
	void	   *body;			/* the decoded request */
	void	   *work;			/* the handler's own, while parked */
	struct KDdlWork *ddl;		/* kapi_ddl.c */
	int64		begun;			/* when, on kapi_now()'s clock */
	KWait		wait;
	bool		parked;			/* waits for something: kapi_wait.h */
	bool		held;			/* or for its turn to be appended: kapi_produce.c */
	bool		ordered;		/* a Produce that has its place among the appends */
	dlist_node	appended_node;
	slist_node	dead_node;
	int			chunks;			/* of the answer, not yet released */
	slist_head	lent;			/* KLent: records of the answer that are lent */
};

/*
 * Records of an answer that stay where they are until they are sent. As the data of a KBytes
 * field its address stands for them.
 */
typedef struct KLent
{
	slist_node	node;
	const KChunkLender *lender;
} KLent;

/* The process' own. */
extern const KApiIo *kapi_io;
extern int	kapi_broker;		/* number of this process */

/*
 * Started during recovery: this process answers as a standby to its end, which comes soon after
 * that of recovery.  Others serve the primary that the server becomes.
 */
extern bool kapi_standby;
extern MemoryContext kapi_context;

/* Milliseconds, as told at the turn's begin. */
extern int64 kapi_now(void);

/* Which turn it is. */
extern uint64 kapi_turn(void);

/* Milliseconds since 1970. */
extern int64 kapi_wall_clock(void);

/*
 * Finishing a request.  After one of these it must not be touched any longer, except that the
 * handler which called it may read it until it returns.
 */
extern void kapi_answer(KRequest *req, const void *response);
extern void kapi_answer_version(KRequest *req, int version, const void *response);
extern void kapi_answer_none(KRequest *req);

/*
 * Answers nothing and closes the connection; reason: a constant for the log, NULL when said
 * already.
 */
extern void kapi_close(KRequest *req, const char *reason);

/* entry->fail, or closes. */
extern void kapi_fail(KRequest *req, int16 error);

/*
 * Runs a step of a request, in its memory: the one place where errors thrown in handlers end.
 * They are logged, and the request fails with UNKNOWN_SERVER_ERROR, if it is not finished.
 */
extern void kapi_run(KRequest *req, void (*step) (KRequest *req));

/* The same for work that belongs to no request; false: it threw.  what: for the log's context. */
extern bool kapi_guard(void (*step) (void *arg), void *arg, const char *what);

/* ------------------------------------------------------------------------
 * The turn's transaction: kapi_turn.c
 * ------------------------------------------------------------------------
 */

/* Makes sure that there is one.  The current memory context stays. */
extern void kapi_txn(void);
extern bool kapi_in_txn(void);

/* After an error. */
extern void kapi_txn_abort(void);

/* At the end of the turn. */
extern void kapi_txn_end(void);

/*
 * A relation, locked for the rest of the turn's transaction without waiting.  NULL: *busy tells
 * whether it was the lock (try again later), else there is no such kafka_log relation any
 * longer.
 */
extern Relation kapi_relation(Oid relid, LOCKMODE mode, bool *busy);

/* The role whose rights the client has; InvalidOid: none. */
extern Oid	kapi_role(KRequest *req);

/* The same by the settings, without looking the role up. */
extern bool kapi_is_refused(KApiConn *conn);

/* ------------------------------------------------------------------------
 * What requests name, and parts of answers: kapi_lookup.c
 * ------------------------------------------------------------------------
 */

/*
 * Looks a topic up without waiting; good until the turn's end.  NULL: *busy tells whether the
 * catalog was locked (try again later), else there is none.
 */
extern const KTopic *kapi_topic(KStr name, bool *busy);
extern const KTopic *kapi_topic_by_uuid(const KUuid * id, bool *busy);

/*
 * Tries the step again later, because something was busy; after too long a time the request
 * fails with REQUEST_TIMED_OUT.
 */
extern void kapi_retry(KRequest *req, void (*step) (KRequest *req));

extern KUuid kapi_uuid(const pg_uuid_t *id);
extern bool kapi_uuid_is_zero(const KUuid * id);

/* A copy with a terminator; NULL when it is null or has a zero byte inside. */
extern char *kapi_cstring(KStr s);

/* Why no topic can have this name, in Kafka's words; NULL: one can. */
extern const char *kapi_topic_name_problem(KStr name);

/* NULL: the null string.  Not copied. */
extern KStr kapi_kstr(const char *s);

/*
 * first[i] becomes the index of the first string that is equal to strings[i]; null equals
 * nothing.
 */
extern void kapi_find_first(const KStr * strings, int32 n, int32 *first);

/*
 * Which topics and partitions an answer has when it has each once, however often the request names
 * it, and no topic without partitions: Kafka's way where it puts them into a map.  All in order of
 * their first appearance; partitions of the request are counted over all topics.
 */
typedef struct KApiShape
{
	int32		ntopics;
	int32	   *source;			/* topic of the answer: which one of the request it is */
	int32	   *counts;			/* its partitions */
	int32		nparts;
	int32	   *topic;			/* partition of the request: topic of the answer */
	int32	   *part;			/* partition of the request: which of nparts */
} KApiShape;

/*
 * topics[]: their names, or ids as bytes; indexes[]: their partitions, npartitions[] of each.
 * Allocates in the current memory context.
 */
extern void kapi_shape(const KStr * topics, const int32 *npartitions, int32 ntopics,
					   const int32 *indexes, KApiShape * shape);

/*
 * n structs for the array that stands at this offset in the message or struct of desc, each with
 * its defaults, in the current memory context.  *sub, if asked for, becomes their descriptor.
 */
extern void *kapi_items(const KMsgDesc * desc, Size offset, int32 n, const KMsgDesc * *sub);

/*
 * The state of a partition.  NULL, *failed false: not there yet, as klog_attach(nowait) says.
 * NULL, *failed true: a reader has failed to build it a moment ago.
 */
extern KLogPartition *kapi_partition(Relation rel, int32 partition, bool *failed);

/* The pages of a partition that were last asked for, and when; all zero: none. */
typedef struct KColdPages
{
	KLogPosition position;
	uint32		npages;
	int64		asked;
} KColdPages;

/*
 * So long after that it is asked for again, and whoever waits for it should look again: it may
 * have gone from shared buffers before anybody came.
 */
#define KAPI_COLD_AGAIN		200 /* ms */

/* Is this page one of them? */
extern bool kapi_was_asked(const KColdPages *last, KLogPosition page);

/*
 * Has pages brought in from this one on, unless that was asked for a moment ago.  False: it cannot
 * be read.
 */
extern bool kapi_ask_reader(Relation rel, KLogPartition *part, KLogPosition cold, Size bytes,
							KColdPages *last);

/* The address that this connection's clients are to use for this node. */
extern void kapi_endpoint(KApiConn *conn, KStr * host, int32 *port);

typedef struct KApiNode
{
	int32		id;
	KStr		host;
	int32		port;
	KStr		rack;
} KApiNode;

/* The nodes that clients are told of; a primary tells of itself, a standby of its primary too. */
typedef struct KApiNodes
{
	int			count;
	int			leader;			/* index of the one that leads, as far as is known */
	KApiNode	node[2];
} KApiNodes;

extern void kapi_nodes(KApiConn *conn, KApiNodes * nodes);

/* Kafka's authorized operations, as a bit field. */
extern int32 kapi_topic_operations(const KTopic * topic, Oid role);
extern int32 kapi_cluster_operations(Oid role);

/*
 * Kafka's error code for the leader epoch that a client believes in (-1: none, and nothing else is
 * none, but in Fetch); 0 if it is right.
 */
extern int16 kapi_check_epoch(int32 epoch);

/* ------------------------------------------------------------------------
 * CREATE and DROP through the DDL process: kapi_ddl.c
 * ------------------------------------------------------------------------
 */
typedef struct KDdlJob
{
	KApiDdl		ddl;
	int			index;			/* of the topic in the request, for whoever asked */
	uint64		ticket;			/* 0: not handed over */
	bool		done;
	KApiDdlResult result;
} KDdlJob;

/*
 * Has jobs done, and parks the request until they are, and durable, or the time is over: then
 * what is not done has the error REQUEST_TIMED_OUT.  "then" continues the request.
 */
extern void kapi_ddl_run(KRequest *req, KDdlJob *jobs, int n, int timeout_ms,
						 void (*then) (KRequest *req));

/* ------------------------------------------------------------------------
 * Handlers
 * ------------------------------------------------------------------------
 */
extern void kapi_api_versions(KRequest *req);
extern void kapi_api_versions_unsupported(KRequest *req);
extern void kapi_api_versions_fail(KRequest *req, int16 error);
extern void kapi_metadata(KRequest *req);
extern void kapi_metadata_fail(KRequest *req, int16 error);
extern void kapi_describe_cluster(KRequest *req);
extern void kapi_describe_cluster_fail(KRequest *req, int16 error);
extern void kapi_find_coordinator(KRequest *req);
extern void kapi_find_coordinator_fail(KRequest *req, int16 error);
extern void kapi_produce(KRequest *req);
extern void kapi_produce_fail(KRequest *req, int16 error);
extern void kapi_produce_end(KRequest *req);
extern bool kapi_produce_keep(KRequest *req);
extern void kapi_fetch(KRequest *req);
extern void kapi_fetch_fail(KRequest *req, int16 error);
extern void kapi_list_offsets(KRequest *req);
extern void kapi_list_offsets_fail(KRequest *req, int16 error);
extern void kapi_offset_for_leader_epoch(KRequest *req);
extern void kapi_offset_for_leader_epoch_fail(KRequest *req, int16 error);
extern void kapi_describe_topic_partitions(KRequest *req);
extern void kapi_describe_topic_partitions_fail(KRequest *req, int16 error);
extern void kapi_create_topics(KRequest *req);
extern void kapi_create_topics_fail(KRequest *req, int16 error);
extern void kapi_delete_topics(KRequest *req);
extern void kapi_delete_topics_fail(KRequest *req, int16 error);
extern void kapi_ddl_end(KRequest *req);
extern void kapi_describe_configs(KRequest *req);
extern void kapi_describe_configs_fail(KRequest *req, int16 error);
extern void kapi_init_producer_id(KRequest *req);
extern void kapi_init_producer_id_fail(KRequest *req, int16 error);

extern void kapi_join_group(KRequest *req);
extern void kapi_join_group_fail(KRequest *req, int16 error);
extern void kapi_sync_group(KRequest *req);
extern void kapi_sync_group_fail(KRequest *req, int16 error);
extern void kapi_heartbeat(KRequest *req);
extern void kapi_heartbeat_fail(KRequest *req, int16 error);
extern void kapi_leave_group(KRequest *req);
extern void kapi_leave_group_fail(KRequest *req, int16 error);
extern void kapi_group_end(KRequest *req);
extern void kapi_offset_commit(KRequest *req);
extern void kapi_offset_commit_fail(KRequest *req, int16 error);
extern void kapi_commit_end(KRequest *req);
extern void kapi_offset_fetch(KRequest *req);
extern void kapi_offset_fetch_fail(KRequest *req, int16 error);

extern void kapi_delete_groups(KRequest *req);
extern void kapi_delete_groups_fail(KRequest *req, int16 error);
extern void kapi_offset_delete(KRequest *req);
extern void kapi_offset_delete_fail(KRequest *req, int16 error);
extern void kapi_list_groups(KRequest *req);
extern void kapi_list_groups_fail(KRequest *req, int16 error);
extern void kapi_describe_groups(KRequest *req);
extern void kapi_describe_groups_fail(KRequest *req, int16 error);
extern void kapi_consumer_group_heartbeat(KRequest *req);
extern void kapi_consumer_group_heartbeat_fail(KRequest *req, int16 error);
extern void kapi_consumer_group_describe(KRequest *req);
extern void kapi_consumer_group_describe_fail(KRequest *req, int16 error);

/* kapi_group_turn.c, once in a process that serves groups: takes its part in them. */
extern void kapi_group_attach(void);

/*
 * What groups need of a turn: answers from other brokers, deadlines, rows, offsets.  True: there
 * was
 * something.  Ends the turn's transaction, if it writes.
 */
extern bool kapi_group_turn(void);

/* End of the last commit that groups wait for; milliseconds until something is due, -1: never. */
extern XLogRecPtr kapi_group_lsn(void);
extern long kapi_group_timeout(void);

/* kapi_produce.c: appends what is collected, as far as locks are free. */
extern void kapi_produce_flush(void);

/* Is anything collected that should be tried now? */
extern bool kapi_produce_pending(void);

/* So much that it should not wait for the end of the turn? */
extern bool kapi_produce_is_full(void);

/* End of the last append. */
extern XLogRecPtr kapi_produce_lsn(void);

/* Milliseconds until something is to be tried again, -1: nothing is. */
extern long kapi_produce_timeout(void);

#endif							/* KAPI_REQUEST_H */
