/*
 * kapi.h
 *		Kafka's requests: a frame goes in, its answer comes out.  This is the only header of
 *		src/api that other modules include.
 *
 * The module never sees a socket, and never waits.  A broker process gives it whole frames and
 * gets back, in the order of each connection's requests, answers to write; what must wait is
 * parked inside, and looked at again at the end of each turn of the loop.
 *
 * A turn of the broker's loop is, with interrupts and signals served by the broker in between:
 *
 *		wait for latch, sockets or the timeout given by the last kapi_turn_end()
 *		kapi_turn_begin()
 *		kapi_conn_open(), kapi_conn_frame(), kapi_conn_closed() as the sockets have it
 *		kapi_turn_end()			appends what was collected, ends the transaction
 *		write what io->reply() has queued
 *
 * The callbacks of KApiIo are called from kapi_conn_frame() and kapi_turn_end() only, and never call
 * back into this module, except kapi_reply_sent(), which may come from within io->reply().
 *
 * src/api/README.md says who owns what, and what is parked where.
 */
#ifndef KAPI_H
#define KAPI_H

#include <sys/uio.h>

#include "access/xlogdefs.h"

/* One connection as seen from here, and one answer on its way out. Both opaque. */
typedef struct KApiConn KApiConn;
typedef struct KApiReply KApiReply;

/* What a broker knows of the other end; strings are copied. */
typedef struct KApiPeer
{
	const char *client;			/* "192.0.2.7:40312", for the server's log */
	const char *protocol;		/* PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL */
	const char *local_host;		/* the address that the client connected to */
	int			local_port;
} KApiPeer;

/* ------------------------------------------------------------------------
 * CREATE and DROP, which a process of its own does for all brokers
 * ------------------------------------------------------------------------
 */

#define KAPI_TOPIC_NAME_MAX		249
#define KAPI_DDL_MESSAGE_SIZE	256

typedef enum KApiDdlOp
{
	KAPI_DDL_CREATE_TOPIC,
	KAPI_DDL_DELETE_TOPIC
} KApiDdlOp;

typedef struct KApiDdl
{
	KApiDdlOp	op;
	Oid			role;			/* who asks: becomes the owner, or must be */
	const char *name;			/* as Kafka's, at most KAPI_TOPIC_NAME_MAX bytes */
	/* delete: the topic with this id only; all zero: whatever has the name */
	uint8		topic_id[16];
	/* create */
	int32		partitions;
	const char *config;			/* a JSON object of strings, or NULL */
	int			timeout_ms;		/* give up waiting for locks after that */
} KApiDdl;

/*
 * Filled in by the DDL process.  Error codes are Kafka's; it maps SQLSTATEs that it has no better
 * answer for to UNKNOWN_SERVER_ERROR and logs them.
 */
typedef struct KApiDdlResult
{
	int16		error;
	char		message[KAPI_DDL_MESSAGE_SIZE]; /* '' = none */
	uint8		topic_id[16];
	XLogRecPtr	lsn;			/* the end of its commit record; Invalid when nothing was written */
} KApiDdlResult;

/* ------------------------------------------------------------------------
 * What the broker lends
 * ------------------------------------------------------------------------
 */
typedef struct KApiIo
{
	/*
	 * Queue one whole answer, length prefix included, to be written after those queued before.
	 * The vector and the bytes stay in place until kapi_reply_sent(handle), which is owed exactly
	 * once, whether the bytes could be written or the connection has gone.
	 */
	void		(*reply) (void *conn, const struct iovec *iov, int niov, size_t bytes,
						  KApiReply *handle);

	/*
	 * Give no more frames of this connection (and hand over none already read) until it is
	 * called with false.  It is called with a change only.
	 */
	void		(*pause) (void *conn, bool paused);

	/*
	 * Read no more, write what is queued, then close.  kapi_conn_closed() follows later, not
	 * from within.  The reason is a constant, for the log; NULL when it was logged here.
	 */
	void		(*close) (void *conn, const char *reason);

	/* The frame given to kapi_conn_frame() is not needed any longer. */
	void		(*frame_free) (void *conn, void *frame);

	/*
	 * Hand DDL over.  Returns a ticket, or 0 when the queue is full (it is tried again later).
	 * What *ddl points to is copied.  When it is done, the latch of this process is set.
	 */
	uint64		(*ddl_submit) (const KApiDdl *ddl);

	/* Has it been done?  True: *result is filled in and the ticket is used up. */
	bool		(*ddl_poll) (uint64 ticket, KApiDdlResult *result);

	/* Nobody waits for it any longer; it may be done nevertheless.  The ticket is used up. */
	void		(*ddl_cancel) (uint64 ticket);
} KApiIo;

/* ------------------------------------------------------------------------
 * What the broker calls
 * ------------------------------------------------------------------------
 */

/*
 * Once per process, after klog_broker_attach(broker).  *io must stay.  Memory is kept under
 * the memory context that is current.
 */
extern void kapi_attach(const KApiIo *io, int broker);

extern KApiConn *kapi_conn_open(void *conn, const KApiPeer *peer);

/*
 * One request, without its length prefix.  data[0 .. len) is writable (base offsets are filled in where the
 * batches lie) and stays in place until io->frame_free(conn, frame), which may come at once.
 * Requests are worked on in order; one may be begun while an earlier one waits, where nobody
 * could tell, but answers always keep the order of requests.
 *
 * May be called after io->pause(conn, true) or io->close() only for frames that were passed in already; such are
 * kept, or freed at once.
 */
extern void kapi_conn_frame(KApiConn *conn, uint8 *data, uint32 len, void *frame);

/*
 * The connection has gone: whatever it waits for is forgotten, frames are freed.  Replies not yet
 * reported by kapi_reply_sent() may be reported before or after.
 */
extern void kapi_conn_closed(KApiConn *conn);

extern void kapi_reply_sent(KApiReply *handle);

/* now_ms is a monotonic clock, read once a turn. */
extern void kapi_turn_begin(int64 now_ms);

/*
 * Appends what the turn has collected, asks for the flush, looks at everything parked that may have
 * become ready, and ends the transaction, if one was opened.  idle: no socket is known to be readable, so that
 * flushing the WAL here and now delays nobody.  Returns how long the broker may wait for
 * latch and sockets: milliseconds, 0 (come back at once), or -1 (no limit).
 *
 * It throws only if the process should not live on.
 */
extern long kapi_turn_end(int64 now_ms, bool idle);

/*
 * The server shuts down: answers what is durable already, ends everything else that is parked as a timeout would,
 * takes no more requests.  Call kapi_turn_end() and write what is queued afterwards.
 */
extern void kapi_drain(void);

/* Numbers for the broker's title and statistics. */
typedef struct KApiCounts
{
	int			connections;
	int			parked;			/* requests that wait for something */
	uint64		requests;		/* since the process began */
} KApiCounts;

extern void kapi_counts(KApiCounts *counts);

#endif							/* KAPI_H */
