/*
 * kapi.h
 *		Kafka's requests: a frame goes in, its answer comes out.  This is the only header of
 *		src/api that other modules include.
 *
 * The module never sees a socket, and never waits.  A broker process gives it whole frames and
 * gets back answers to write, each for the slot that came with the frame; what must wait is
 * parked inside, and looked at again at the end of each turn of the loop.
 *
 * A turn of the broker's loop is, with interrupts and signals served by the broker in between:
 *
 *		wait for latch, sockets or the timeout given by the last kapi_turn_end()
 *		kapi_turn_begin()
 *		kapi_conn_open(), kapi_conn_frame(), kapi_conn_closed() as the sockets have it
 *		kapi_turn_end()			appends what was collected, ends the transaction
 *		write what io->reply() has queued
 *		kapi_turn_close()
 *
 * The callbacks of KApiIo are called from the functions below only, and must not call back into
 * this module, except that the release functions of chunks may be called at any time, and their
 * lenders whenever sockets are written to.
 *
 * src/api/README.md says who owns what, and what is parked where.
 */
#ifndef KAPI_H
#define KAPI_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "kchunk.h"

/* One connection as seen from here. */
typedef struct KApiConn KApiConn;

/* What a broker knows of the other end; strings are copied. */
typedef struct KApiPeer
{
	const char *client;			/* "192.0.2.7:40312", for the server's log */
	const char *client_host;	/* the same in two; '' when it is not known */
	int			client_port;
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
	KAPI_DDL_DELETE_TOPIC,
	KAPI_DDL_EXPIRE_OFFSETS		/* no DDL, but may have to wait as well; needs nothing else */
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
	bool		more;			/* expiry: other requests have come in between, ask again */
} KApiDdlResult;

/* ------------------------------------------------------------------------
 * What the broker lends
 * ------------------------------------------------------------------------
 */
typedef struct KApiIo
{
	/*
	 * Finish a slot with one whole answer, length prefix included.  Chunks as in kchunk.h: all
	 * have a release function, which is called once whether the bytes could be sent or not, from
	 * within this call at the earliest.  Answers leave in the order of requests.
	 */
	void		(*reply) (void *slot, const KChunk * chunks, int count);

	/* Finish a slot without an answer. */
	void		(*reply_none) (void *slot);

	/* The slot's frame is not needed any longer; its answer comes later. */
	void		(*frame_free) (void *slot);

	/*
	 * Read no more, write what is answered, then close.  The requests that are not finished yet
	 * are finished later as any other.  kapi_conn_closed() follows, not from within.
	 */
	void		(*close) (void *conn);

	/* The client is known: its frames may be as large as kafka_pg.max_request_size allows. */
	void		(*trust) (void *conn);

	/*
	 * Add the bytes that the connection receives and sends from now on to these; NULL: no more.
	 * Nobody else writes them.
	 */
	void		(*meter) (void *conn, pg_atomic_uint64 *received, pg_atomic_uint64 *sent);

	/* Bytes of answers for which the server has room; a fetch returns no more. */
	size_t		(*answer_room) (void);

	/* How far away the client is: microseconds there and back at best; UINT32_MAX: not known. */
	uint32		(*round_trip) (void *conn);

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

/* NULL: out of memory, the connection has to be closed. */
extern KApiConn *kapi_conn_open(void *conn, const KApiPeer *peer);

/*
 * One request, without its length prefix.  data[0 .. len) is
 * writable (base offsets are filled in where the batches lie) and stays in place until
 * io->frame_free(slot) or the slot is finished, either of which may come at once.  Every slot is
 * finished once.
 *
 * Requests of a connection are worked on in order; one may be begun while an earlier one waits,
 * where nobody could tell.  The broker bounds the number of unfinished slots of a connection,
 * and the bytes of their frames.
 */
extern void kapi_conn_frame(KApiConn *conn, void *slot, uint8 *data, size_t len);

/*
 * The connection has gone: what it waits for is forgotten, its unfinished slots are finished
 * without an answer, now or, if they hold something that is to be appended, later.
 */
extern void kapi_conn_closed(KApiConn *conn);

/* now_ms is a monotonic clock, read once a turn. */
extern void kapi_turn_begin(int64 now_ms);

/*
 * Appends what the turn has collected, asks for the flush, looks at everything parked that may
 * have become ready, and ends the transaction, if one was opened.  idle: no socket is known to
 * be readable, so that flushing the WAL here and now delays nobody.  Returns how long the broker
 * may wait for latch and sockets: milliseconds, 0 (come back at once), or -1 (no limit).
 *
 * It throws only if the process should not live on.
 */
extern long kapi_turn_end(int64 now_ms, bool idle);

/* What was queued has been written, as far as sockets took it: ends what that has opened. */
extern void kapi_turn_close(void);

/*
 * The server shuts down: answers what is durable already, ends everything else that is parked as
 * a timeout would, takes no more requests.  Call kapi_turn_end() and write what is queued
 * afterwards.
 */
extern void kapi_drain(void);

/* ------------------------------------------------------------------------
 * What all processes may know of the connections: kafka.stat_connection
 * ------------------------------------------------------------------------
 */

/* Room for strings; what clients send is cut off there. */
#define KAPI_STAT_HOST			46	/* as INET6_ADDRSTRLEN */
#define KAPI_STAT_CLIENT_ID		128
#define KAPI_STAT_SOFTWARE		64

/*
 * One connection as it was a moment ago.  Strings but the host are not terminated, and any bytes
 * that a client liked to send; a length of -1: null.
 */
typedef struct KApiStat
{
	int			broker;
	int			pid;
	Oid			role;			/* InvalidOid: not known yet, or none */
	TimestampTz connected;
	TimestampTz last_request;	/* 0: none yet */
	uint64		requests;
	uint64		received;		/* bytes */
	uint64		sent;
	uint32		parked;			/* requests that wait for something */
	char		host[KAPI_STAT_HOST];	/* '': not known */
	int			port;
	int16		client_id_len;
	int16		software_name_len;
	int16		software_version_len;
	char		client_id[KAPI_STAT_CLIENT_ID];
	char		software_name[KAPI_STAT_SOFTWARE];
	char		software_version[KAPI_STAT_SOFTWARE];
} KApiStat;

extern Size kapi_shmem_size(void);
extern void kapi_shmem_init(void);

/* In any process: i from 0 to below the capacity; false: there is no connection. */
extern int	kapi_stat_capacity(void);
extern bool kapi_stat_read(int i, KApiStat *stat);

#endif							/* KAPI_H */
