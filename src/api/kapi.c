/*
 * kapi.c
 *		From a frame to its answer: order, memory, errors, and the turn of the loop.
 *
 * A request lives in one memory context of its own, from its frame's arrival until the last
 * chunk of its answer has been released.  It is begun when those before it on the connection are
 * finished; Produce requests may overlap each other, since appends keep their order by
 * partition and answers keep theirs in the loop.
 */
#include "postgres.h"

#include "access/xlog.h"
#include <limits.h>

#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/kapi_request.h"
#include "api/kapi_stat.h"
#include "api/kapi_wait.h"
#include "kguc.h"
#include "kstop.h"

/* A decoded request may take this much more memory than its bytes. */
#define DECODE_FACTOR		32
#define DECODE_EXTRA		(64 * 1024)
#define DECODE_MAX			((size_t) 64 * 1024 * 1024)

/* Records of at least this size are sent from where they are. */
#define REFERENCE_MIN		4096

/* So much of a client's id is shown in the log. */
#define MAX_CLIENT_ID		100

/* A process says so often in so many milliseconds what is wrong with clients. */
#define MAX_COMPLAINTS		100
#define COMPLAINTS_MS		10000

/* Looks at everything parked so often in one turn, if there is progress. */
#define MAX_ROUNDS			8

/* Most WAL that a broker flushes itself instead of asking the flusher. */
#define MAX_INLINE_FLUSH	(128 * 1024)

const		KApiIo *kapi_io;
int			kapi_broker;
bool		kapi_standby;
MemoryContext kapi_context;

static int64 turn_now;
static uint64 turn_number;
static bool draining;

/* A step may still look at a request that it has finished: that goes when the step returns. */
static int	running;
static slist_head dead = SLIST_STATIC_INIT(dead);

/* Connections whose next request may be begun. */
static dlist_head advancing = DLIST_STATIC_INIT(advancing);

int64
kapi_now(void)
{
	/* With the server's end all time is over. */
	if (draining)
		return PG_INT64_MAX / 2;
	return turn_now;
}

uint64
kapi_turn(void)
{
	return turn_number;
}

int64
kapi_wall_clock(void)
{
	return (GetCurrentTimestamp() / 1000) +
		((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * SECS_PER_DAY * 1000;
}

void
kapi_attach(const KApiIo * io, int broker)
{
	kapi_io = io;
	kapi_broker = broker;
	kapi_standby = RecoveryInProgress();
	kapi_context = AllocSetContextCreate(CurrentMemoryContext, "kafka requests",
										 ALLOCSET_DEFAULT_SIZES);
	kapi_wait_init();
	kapi_stat_attach();
	if (!kapi_standby)
		kapi_group_attach();
}

/* ------------------------------------------------------------------------
 * Connections
 * ------------------------------------------------------------------------
 */

/* What kapi_conn_open() allocates. */
typedef struct NewConn
{
	const KApiPeer *peer;
	MemoryContext ctx;
	KApiConn   *conn;
} NewConn;

static void
new_conn(void *arg)
{
	NewConn    *new = arg;

	new->ctx = AllocSetContextCreate(kapi_context, "kafka connection", ALLOCSET_SMALL_SIZES);
	new->conn = MemoryContextAllocZero(new->ctx, sizeof(KApiConn));
	new->conn->ctx = new->ctx;
	new->conn->client = MemoryContextStrdup(new->ctx, new->peer->client);
	new->conn->client_host = MemoryContextStrdup(new->ctx, new->peer->client_host);
	new->conn->protocol = MemoryContextStrdup(new->ctx, new->peer->protocol);
	new->conn->local_host = MemoryContextStrdup(new->ctx, new->peer->local_host);
}

KApiConn   *
kapi_conn_open(void *io_conn, const KApiPeer * peer)
{
	NewConn		new = {.peer = peer};
	KApiConn   *conn;

	if (!kapi_guard(new_conn, &new, "accepting a Kafka connection"))
	{
		if (new.ctx != NULL)
			MemoryContextDelete(new.ctx);
		return NULL;
	}
	conn = new.conn;
	conn->io_conn = io_conn;
	conn->client_port = peer->client_port;
	conn->connected = GetCurrentTimestamp();
	conn->local_port = peer->local_port;
	dlist_init(&conn->requests);
	kapi_stat_open(conn);

	/* Who needs no authentication is known from the beginning: its first frame may be large. */
	if (!kapi_is_refused(conn))
	{
		conn->trusted = true;
		kapi_io->trust(io_conn);
	}
	return conn;
}

static void
want_advance(KApiConn * conn)
{
	if (!conn->advance)
	{
		conn->advance = true;
		dlist_push_tail(&advancing, &conn->advance_node);
	}
}

/* Frees a connection that has gone, when its last request has. */
static void
conn_release(KApiConn * conn)
{
	if (!conn->gone || conn->advancing || !dlist_is_empty(&conn->requests))
		return;
	if (conn->advance)
		dlist_delete(&conn->advance_node);
	MemoryContextDelete(conn->ctx);
}

void
kapi_conn_closed(KApiConn * conn)
{
	dlist_mutable_iter iter;
	bool		by_us = conn->closing;

	conn->closing = true;

	/*
	 * What has been received whole is appended: acks=0 has no other promise.  That goes for what
	 * waits behind a request that is kept, too, as long as there is no error.
	 */
	if (kapi_produce_pending())
		kapi_produce_flush();

	dlist_foreach_modify(iter, &conn->requests)
	{
		KRequest   *req = dlist_container(KRequest, node, iter.cur);

		if (req->state == KREQUEST_BEGUN && req->entry->keep != NULL && req->entry->keep(req))
		{
			conn->last_words = !by_us;
			continue;
		}
		if (req->state == KREQUEST_QUEUED && conn->last_words && req->entry->key == KAPI_PRODUCE)
			continue;
		kapi_answer_none(req);
	}
	conn->gone = true;
	kapi_stat_close(conn);
	conn_release(conn);
}

/* ------------------------------------------------------------------------
 * Finishing
 * ------------------------------------------------------------------------
 */

/* Takes the request off its connection; its memory stays. */
static void
finish(KRequest * req)
{
	KApiConn   *conn = req->conn;

	Assert(req->state != KREQUEST_FINISHED);
	kapi_wait_clear(req);
	if (req->state == KREQUEST_BEGUN && req->entry->end != NULL)
		req->entry->end(req);
	req->state = KREQUEST_FINISHED;
	dlist_delete(&req->node);
	if (!dlist_is_empty(&conn->requests))
		want_advance(conn);
}

static void
request_free(KRequest * req)
{
	if (running > 0)
		slist_push_head(&dead, &req->dead_node);
	else
		MemoryContextDelete(req->ctx);
}

static void
chunk_released(void *arg)
{
	KRequest   *req = arg;

	if (--req->chunks == 0)
		request_free(req);
}

void
kapi_answer_none(KRequest * req)
{
	KApiConn   *conn = req->conn;
	void	   *slot = req->slot;

	finish(req);
	kapi_io->reply_none(slot);
	request_free(req);
	conn_release(conn);
}

/* Clients may do wrong faster than the log should grow. */
static bool
may_complain(void)
{
	static int64 since;
	static int	count;

	if (turn_now - since >= COMPLAINTS_MS)
	{
		if (count > MAX_COMPLAINTS)
			ereport(LOG,
					(errmsg("%d more messages about Kafka clients were left out",
							count - MAX_COMPLAINTS)));
		since = turn_now;
		count = 0;
	}
	return count++ < MAX_COMPLAINTS;
}

/* No more requests are read; kapi_conn_closed() follows later. */
static void
close_conn(KApiConn * conn)
{
	if (!conn->closing)
	{
		conn->closing = true;
		kapi_io->close(conn->io_conn);
	}
}

void
kapi_close(KRequest * req, const char *reason)
{
	KApiConn   *conn = req->conn;

	if (reason != NULL && may_complain())
		ereport(LOG,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("closing connection of Kafka client %s: %s", conn->client, reason)));
	close_conn(conn);
	conn->last_words = false;
	kapi_answer_none(req);
}

void
kapi_fail(KRequest * req, int16 error)
{
	if (req->entry != NULL && req->entry->fail != NULL && req->body != NULL)
		req->entry->fail(req, error);
	else
		kapi_close(req, kerr_name(error));
}

static void *
writer_resize(void *ctx, void *old, size_t used, size_t size)
{
	void	   *new;

	if (size > MaxAllocHugeSize)
		return NULL;
	new = MemoryContextAllocExtended(ctx, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (new != NULL && old != NULL)
	{
		memcpy(new, old, used);
		pfree(old);
	}
	return new;
}

/* Makes a chunk of a piece of the answer. */
static void
chunk_make(KRequest * req, const KMsgPiece * piece, KChunk * chunk)
{
	slist_iter	iter;

	*chunk = (KChunk)
	{
		.data = piece->data,.len = piece->len,.release = chunk_released,.arg = req
	};
	slist_foreach(iter, &req->lent)
	{
		KLent	   *lent = slist_container(KLent, node, iter.cur);

		if (piece->data == (const void *) lent)
		{
			chunk->data = NULL;
			chunk->lender = lent->lender;
			chunk->lender_arg = lent;
			break;
		}
	}
}

void
kapi_answer(KRequest * req, const void *response)
{
	kapi_answer_version(req, req->version, response);
}

void
kapi_answer_version(KRequest * req, int version, const void *response)
{
	KApiConn   *conn = req->conn;
	KMsgWriter	writer;
	const char *err = NULL;
	KMsgPiece  *pieces;
	KChunk	   *chunks;
	int			n;

	if (conn->gone)
	{
		kapi_answer_none(req);
		return;
	}

	kmsg_writer_init(&writer, REFERENCE_MIN, writer_resize, req->ctx);
	if (!kmsg_response_encode(req->info, version, req->correlation_id, response, &writer, &err))
	{
		ereport(LOG,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not encode answer to Kafka client %s: %s", conn->client, err),
				 errcontext("%s version %d%s%s", req->info->name, version,
							writer.field ? ", field " : "", writer.field ? writer.field : "")));
		kapi_close(req, NULL);
		return;
	}

	n = 2 * (int) Min(writer.nrefs, INT_MAX / 4) + 1;
	pieces = MemoryContextAllocHuge(req->ctx, n * sizeof(KMsgPiece));
	chunks = MemoryContextAllocHuge(req->ctx, n * sizeof(KChunk));
	n = kmsg_writer_pieces(&writer, 0, pieces, n);
	for (int i = 0; i < n; i++)
		chunk_make(req, &pieces[i], &chunks[i]);
	req->chunks = n;
	finish(req);
	kapi_io->reply(req->slot, chunks, n);
}

/* ------------------------------------------------------------------------
 * Steps and their errors
 * ------------------------------------------------------------------------
 */

static void
request_context(void *arg)
{
	KRequest   *req = arg;

	errcontext("Kafka request %s version %d from client %s \"%.*s\"",
			   req->info->name, req->version, req->conn->client,
			   Max((int) req->client_id.len, 0),
			   req->client_id.len > 0 ? req->client_id.data : "");
}

static void
work_context(void *arg)
{
	errcontext("%s for Kafka clients", (const char *) arg);
}

/*
 * The error of the step that has just thrown, into the log; the transaction goes.  Orders to stop
 * are FATAL and never come here.
 */
static void
step_failed(MemoryContext caller)
{
	MemoryContextSwitchTo(kapi_context);
	HOLD_INTERRUPTS();
	EmitErrorReport();
	FlushErrorState();
	/* what the end of a transaction lets go of, should there be none */
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	UnlockBuffers();
	kapi_txn_abort();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(caller);
}

bool
kapi_guard(void (*step) (void *arg), void *arg, const char *what)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorContextCallback context;
	volatile bool ok = true;

	context.callback = work_context;
	context.arg = unconstify(char *, what);
	context.previous = error_context_stack;
	error_context_stack = &context;
	PG_TRY();
	{
		step(arg);
	}
	PG_CATCH();
	{
		error_context_stack = context.previous;
		ok = false;
		step_failed(caller);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	MemoryContextSwitchTo(caller);
	return ok;
}

static void
fail_step(KRequest * req)
{
	kapi_fail(req, KERR_UNKNOWN_SERVER_ERROR);
}

static bool
run_guarded(KRequest * req, void (*step) (KRequest * req))
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorContextCallback context;
	volatile bool ok = true;

	context.callback = request_context;
	context.arg = req;
	context.previous = error_context_stack;
	error_context_stack = &context;
	PG_TRY();
	{
		MemoryContextSwitchTo(req->ctx);
		step(req);
	}
	PG_CATCH();
	{
		ok = false;
		step_failed(caller);
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	MemoryContextSwitchTo(caller);
	return ok;
}

void
kapi_run(KRequest * req, void (*step) (KRequest * req))
{
	running++;
	if (!run_guarded(req, step) && req->state != KREQUEST_FINISHED)
	{
		/* An answer that cannot even say so: out of memory, most likely. */
		if (!run_guarded(req, fail_step) && req->state != KREQUEST_FINISHED)
			kapi_close(req, "an error could not be answered");
	}
	if (req->state == KREQUEST_BEGUN && !req->parked && !req->held)
	{
		Assert(false);
		kapi_close(req, "a request was forgotten");
	}
	/* A Produce that has found its place lets the next one begin. */
	if (req->state == KREQUEST_BEGUN && req->ordered)
		want_advance(req->conn);
	running--;

	while (running == 0 && !slist_is_empty(&dead))
	{
		KRequest   *gone = slist_container(KRequest, dead_node, slist_pop_head_node(&dead));

		MemoryContextDelete(gone->ctx);
	}
}

/* ------------------------------------------------------------------------
 * From frames to requests
 * ------------------------------------------------------------------------
 */

static void *
arena_grow(void *ctx, size_t size)
{
	if (size > MaxAllocHugeSize)
		return NULL;
	return MemoryContextAllocExtended(ctx, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

/* Decodes the body and hands it to its handler. */
static void
begin_step(KRequest * req)
{
	KArena		arena;
	const char *err = NULL;
	size_t		consumed;
	size_t		len = req->len - req->body_offset;

	if (kapi_is_refused(req->conn) && !req->entry->anonymous)
	{
		/* What a Kafka listener that wants authentication does with other requests. */
		if (may_complain())
			ereport(LOG,
					(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					 errmsg("refusing Kafka client %s: it is not authenticated", req->conn->client),
					 errhint("Set kafka_pg.anonymous_role to the role whose rights it is to have.")));
		kapi_close(req, NULL);
		return;
	}

	KSTOP("kapi-begin-request");
	karena_init(&arena, NULL, 0, Min(len * DECODE_FACTOR + DECODE_EXTRA, DECODE_MAX),
				arena_grow, req->ctx);
	req->body = palloc(req->info->request->size);
	if (!kmsg_decode(req->info->request, req->version, req->data + req->body_offset, len,
					 &consumed, &arena, req->body, &err))
	{
		req->body = NULL;
		if (may_complain())
			ereport(LOG,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("closing connection of Kafka client %s: malformed request: %s",
							req->conn->client, err)));
		kapi_close(req, NULL);
		return;
	}
	if (!req->entry->anonymous)
	{
		Oid			role = kapi_role(req);

		if (!OidIsValid(role))
		{
			/*
			 * The role does not exist, as the log says; what PUBLIC may do is not meant for
			 * strangers.
			 */
			kapi_close(req, NULL);
			return;
		}
		kapi_stat_role(req->conn, role);
	}
	if (req->entry->standby_error != 0 && kapi_standby)
	{
		kapi_fail(req, req->entry->standby_error);
		return;
	}
	req->entry->handle(req);
}

/* May the request be begun, with the earlier ones of its connection as they are? */
static bool
may_begin(KRequest * req)
{
	dlist_iter	iter;

	dlist_foreach(iter, &req->conn->requests)
	{
		KRequest   *earlier = dlist_container(KRequest, node, iter.cur);

		if (earlier == req)
			return true;
		if (!earlier->ordered || req->entry->key != KAPI_PRODUCE)
			return false;
	}
	return false;
}

/* Begins requests of a connection as long as it may; frees one that is gone and has no more. */
static void
advance(KApiConn * conn)
{
	conn->advancing = true;
	for (;;)
	{
		KRequest   *next = NULL;
		dlist_iter	iter;

		if (conn->advance)
		{
			conn->advance = false;
			dlist_delete(&conn->advance_node);
		}
		dlist_foreach(iter, &conn->requests)
		{
			KRequest   *req = dlist_container(KRequest, node, iter.cur);

			if (req->state == KREQUEST_QUEUED)
			{
				next = req;
				break;
			}
		}
		if (next == NULL)
			break;
		if (conn->closing && !conn->last_words)
		{
			kapi_answer_none(next);
			continue;
		}
		if (!may_begin(next))
			break;
		next->state = KREQUEST_BEGUN;
		next->begun = kapi_now();
		kapi_run(next, begin_step);
		if (kapi_produce_is_full())
			kapi_produce_flush();
	}
	conn->advancing = false;
	conn_release(conn);
}

/* What kapi_conn_frame() allocates. */
typedef struct NewRequest
{
	KStr		client_id;
	MemoryContext ctx;
	KRequest   *req;
} NewRequest;

static void
new_request(void *arg)
{
	NewRequest *new = arg;
	KStr	   *client_id;

	new->ctx = AllocSetContextCreate(kapi_context, "kafka request", ALLOCSET_DEFAULT_SIZES);
	new->req = MemoryContextAllocZero(new->ctx, sizeof(KRequest));
	new->req->ctx = new->ctx;

	/* For the log: bounded, printable, and not in the frame, which may be given back early. */
	client_id = &new->req->client_id;
	*client_id = new->client_id;
	if (client_id->len > 0)
	{
		char	   *copy;

		client_id->len = Min(client_id->len, MAX_CLIENT_ID);
		copy = MemoryContextAlloc(new->ctx, client_id->len);
		for (int i = 0; i < client_id->len; i++)
		{
			char		c = client_id->data[i];

			copy[i] = c >= 32 && c <= 126 ? c : '?';
		}
		client_id->data = copy;
	}
}

void
kapi_conn_frame(KApiConn * conn, void *slot, uint8 *data, size_t len)
{
	NewRequest	new = {0};
	KRequest   *req;
	KRequestFrame frame;
	const char *err = NULL;
	const char *problem = NULL;

	if (!kmsg_request_header_decode(data, len, &frame, &err))
		problem = err;
	else
		new.client_id = frame.client_id;
	if (!kapi_guard(new_request, &new, "receiving a Kafka request"))
	{
		if (new.ctx != NULL)
			MemoryContextDelete(new.ctx);
		conn->last_words = false;
		close_conn(conn);
		kapi_io->reply_none(slot);
		return;
	}
	req = new.req;
	req->conn = conn;
	req->slot = slot;
	req->data = data;
	req->len = len;
	req->state = KREQUEST_QUEUED;
	slist_init(&req->wait.watches);
	slist_init(&req->lent);
	dlist_push_tail(&conn->requests, &req->node);

	if (conn->closing || draining)
	{
		kapi_answer_none(req);
		return;
	}
	if (!conn->trusted && !kapi_is_refused(conn))
	{
		conn->trusted = true;
		kapi_io->trust(conn->io_conn);
	}

	if (problem == NULL)
	{
		kapi_stat_request(conn, frame.client_id);
		req->entry = kapi_entry(frame.api_key);
		req->info = frame.api;
		req->version = frame.api_version;
		req->correlation_id = frame.correlation_id;
		req->body_offset = frame.body;
		if (req->entry == NULL)
			problem = "it sent a request of an API that is not served";
		else if (req->info == NULL && frame.api_key == KAPI_API_VERSIONS)
		{
			/* The one answer that tells a newer client which versions to use. */
			req->info = kapi_info(KAPI_API_VERSIONS);
			req->state = KREQUEST_BEGUN;
			kapi_run(req, kapi_api_versions_unsupported);
			return;
		}
		else if (req->info == NULL)
			problem = "it sent a request in a version that is not served";
	}
	if (problem != NULL)
	{
		kapi_close(req, problem);
		return;
	}
	advance(conn);
}

/* ------------------------------------------------------------------------
 * The turn
 * ------------------------------------------------------------------------
 */

void
kapi_turn_begin(int64 now_ms)
{
	turn_now = now_ms;
	turn_number++;
}

/*
 * Has what parked requests wait for flushed: here and now, or by the flusher.  Here spares a few
 * little ones the way to another process and back, and is not for a flush that takes longer than
 * that way, nor while an answer would wait behind it: clients send more when they have their
 * answers.
 */
static void
flush_step(void *arg)
{
	/* a test that acknowledges what is not flushed keeps the flusher from its work, not us */
	bool		idle = *(bool *) arg && !kguc_test_ack_before_flush;
	XLogRecPtr	lsn = Max(kapi_wait_greatest_lsn(),
								  Max(kapi_produce_lsn(), kapi_group_lsn()));
	XLogRecPtr	flushed = klog_flushed_lsn();

	if (XLogRecPtrIsInvalid(lsn) || lsn <= klog_durable_lsn())
		return;
	if (lsn > flushed && !(idle && lsn - flushed <= MAX_INLINE_FLUSH &&
						   !kapi_wait_lsn_reached() && klog_flush_inline(lsn)))
		klog_request_flush(lsn);
	if (lsn > klog_durable_lsn())
		klog_broker_wants_durable(kapi_broker);
}

static void
end_step(void *arg)
{
	kapi_txn_end();
}

long
kapi_turn_end(int64 now_ms, bool idle)
{
	bool		again = true;
	long		timeout;
	long		others[2];

	turn_now = now_ms;
	for (int round = 0; again && round < MAX_ROUNDS; round++)
	{
		again = false;
		if (kapi_produce_pending())
			kapi_produce_flush();
		if (kapi_group_turn())
			again = true;
		if (!kapi_guard(flush_step, &idle, "flushing WAL"))
			again = true;
		if (kapi_wait_wake(round == 0))
			again = true;
		while (!dlist_is_empty(&advancing))
		{
			again = true;
			advance(dlist_container(KApiConn, advance_node, dlist_head_node(&advancing)));
		}
	}
	kapi_guard(end_step, NULL, "ending a turn");

	if (again)
		return 0;
	timeout = kapi_wait_timeout();
	others[0] = kapi_produce_timeout();
	others[1] = kapi_group_timeout();
	for (int i = 0; i < (int) lengthof(others); i++)
	{
		if (others[i] >= 0 && (timeout < 0 || others[i] < timeout))
			timeout = others[i];
	}
	return timeout;
}

void
kapi_turn_close(void)
{
	if (kapi_in_txn())
		kapi_guard(end_step, NULL, "ending a turn");
}

void
kapi_drain(void)
{
	draining = true;
}
