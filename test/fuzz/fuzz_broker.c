/*
 * fuzz_broker.c
 *		A broker process: any bytes on some connections, in any pieces, through framing, codec,
 *		handlers and the log, and back.
 *
 * Input: two bytes of flags and configs, then operations: bytes arrive, sockets take bytes or not,
 * connections come and go, time passes, other processes do their part, a turn of the loop.
 *
 * Real are src/net, src/wire, src/api, src/txn, src/log, src/batch; the sockets are this file's, and
 * the rest of the server is test/fuzz/fake.  Beyond memory errors and what the fake server forbids,
 * these are findings: any error thrown but of a full disk or memory that was made short; an answer
 * that cannot be encoded, or decoded again; answers out of order, or to nothing; batches in an
 * answer that are not whole; anything that is left when the connections have gone; what klog_check
 * finds.
 */
#include "fuzz_input.h"
#include "coord/kcoord.h"

#include <sys/epoll.h>
#include <sys/uio.h>
#include <time.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "common/pg_prng.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "fuzz_requests.h"
#include "kguc.h"
#include "log/klog_state.h"
#include "log/klog_xlog.h"
#include "net/knet_int.h"
#include "txn/kproducer.h"

#define MAX_OPS			48
#define CONNECTIONS		4
#define FIRST_FD		1000000
#define EPOLL_FD		999999
#define MAX_EXPECTED	256
#define ANSWER_BYTES	(4 * 1024 * 1024)

/* The first byte */
#define STANDBY			0x01
#define BUSY			0x02	/* locks are often not free */
#define SHORT_MEMORY	0x04
#define SMALL_DISK		0x08
#define FULL_PAGES		0x10
#define SMALL_BUDGET	0x20	/* of bytes in flight */

/* The other end of a connection. */
typedef struct Peer
{
	bool		open;			/* as the broker has it */
	bool		gone;			/* the client has closed */
	uint32		interest;
	void	   *epoll_ptr;
	uint8	   *in;				/* on its way to the broker */
	size_t		in_len;
	size_t		in_off;
	size_t		window;			/* bytes that the socket takes */
	uint8	   *out;			/* what the broker has sent, from the last whole answer on */
	size_t		out_len;
	struct
	{
		const KApiInfo *info;
		int32		correlation_id;
		int16		version;
	}			expected[MAX_EXPECTED];
	int			nexpected;
} Peer;

static Peer peers[CONNECTIONS + 1];	/* the last one is ours, for the end */
static uint8 flags;
static uint32 read_step;		/* most bytes that a read gives */

/* ------------------------------------------------------------------------
 * System calls.  build.mk has the linker send the broker's here.
 * ------------------------------------------------------------------------
 */

extern int	__real_close(int fd);
extern int	__real_clock_gettime(clockid_t clock, struct timespec *ts);
extern int	__wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int mode);
extern int	__wrap_clock_gettime(clockid_t clock, struct timespec *ts);
extern int	__wrap_close(int fd);
extern int	__wrap_epoll_create1(int mode);
extern int	__wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
extern int	__wrap_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout);
extern ssize_t __wrap_readv(int fd, const struct iovec *iov, int count);
extern ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int mode);
extern int	__wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
extern int	__wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len);

static Peer *
peer_of(int fd)
{
	if (fd < FIRST_FD || fd > FIRST_FD + CONNECTIONS || !peers[fd - FIRST_FD].open)
		fake_fail("a system call with descriptor %d, which is not open", fd);
	return &peers[fd - FIRST_FD];
}

int
__wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int mode)
{
	errno = EAGAIN;
	return -1;
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	ts->tv_sec = fake_clock_us / 1000000;
	ts->tv_nsec = fake_clock_us % 1000000 * 1000;
	return 0;
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	(void) peer_of(fd);
	return 0;
}

int
__wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	(void) peer_of(fd);
	memset(addr, 0, *len);
	addr->sa_family = AF_INET;
	return 0;
}

int
__wrap_close(int fd)
{
	if (fd < EPOLL_FD)
		return __real_close(fd);
	peer_of(fd)->open = false;
	return 0;
}

int
__wrap_epoll_create1(int mode)
{
	return EPOLL_FD;
}

int
__wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	Peer	   *peer = peer_of(fd);

	peer->interest = event->events;
	peer->epoll_ptr = event->data.ptr;
	return 0;
}

int
__wrap_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	int			n = 0;

	for (int i = 0; i <= CONNECTIONS && n < max; i++)
	{
		Peer	   *peer = &peers[i];
		uint32		ready = 0;

		if (!peer->open)
			continue;
		if (peer->in_off < peer->in_len || peer->gone)
			ready |= EPOLLIN;
		if (peer->gone)
			ready |= EPOLLRDHUP;
		if (peer->window > 0)
			ready |= EPOLLOUT;
		ready &= peer->interest;
		if (peer->gone && peer->interest == 0)
			ready |= EPOLLHUP;
		if (ready == 0)
			continue;
		events[n].events = ready;
		events[n++].data.ptr = peer->epoll_ptr;
	}
	return n;
}

ssize_t
__wrap_readv(int fd, const struct iovec *iov, int count)
{
	Peer	   *peer = peer_of(fd);
	size_t		left = Min(peer->in_len - peer->in_off, read_step);
	ssize_t		got = 0;

	if (left == 0)
	{
		errno = EAGAIN;
		return peer->gone ? 0 : -1;
	}
	for (int i = 0; i < count && left > 0; i++)
	{
		size_t		n = Min(iov[i].iov_len, left);

		memcpy(iov[i].iov_base, peer->in + peer->in_off, n);
		peer->in_off += n;
		left -= n;
		got += n;
	}
	return got;
}

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------
 */

/* Records of a Fetch answer are whole batches with the right checksum. */
static void
check_records(const KFetchResponse *resp)
{
	for (int i = 0; i < resp->responses.count; i++)
	{
		for (int p = 0; p < resp->responses.items[i].partitions.count; p++)
		{
			KBytes		records = resp->responses.items[i].partitions.items[p].records;
			KBatchWalker walker;
			KBatchHeader header;
			const uint8 *batch;
			size_t		len = 0;

			if (records.len <= 0)
				continue;
			kbatch_walk_begin(&walker, records.data, records.len);
			while (kbatch_walk_next(&walker, &header, &batch) == KBATCH_OK)
			{
				if (!kbatch_check_crc(batch, kbatch_size(&header)))
					fake_fail("a batch with a wrong CRC is answered");
				len += kbatch_size(&header);
			}
			if (len != (size_t) records.len)
				fake_fail("half a batch is answered");
		}
	}
}

static void
check_answer(Peer *peer, const uint8 *data, size_t len)
{
	KArena		arena;
	Pool		pool = {0};
	const char *err = NULL;
	const KApiInfo *info = NULL;
	int			version = 0;
	size_t		consumed;
	size_t		header;
	uint32		correlation_id;
	int			at = 0;
	void	   *msg;

	memcpy(&correlation_id, data, 4);
	correlation_id = pg_ntoh32(correlation_id);
	/* requests that were not answered are passed over */
	while (at < peer->nexpected && peer->expected[at].correlation_id != (int32) correlation_id)
		at++;
	if (at == peer->nexpected)
		fake_fail("an answer to nothing, or out of order");
	info = peer->expected[at].info;
	version = peer->expected[at].version;
	peer->nexpected -= at + 1;
	memmove(peer->expected, peer->expected + at + 1, peer->nexpected * sizeof(peer->expected[0]));
	if (info == NULL)
		return;

	header = kapi_response_header_version(info, version) > 0 ? 5 : 4;
	msg = malloc(info->response->size);
	karena_init(&arena, NULL, 0, SIZE_MAX, pool_alloc, &pool);
	if (len < header ||
		!kmsg_decode(info->response, version, data + header, len - header, &consumed, &arena, msg,
					 &err))
		fake_fail("the answer of %s %d cannot be decoded: %s", info->name, version, err);
	if (consumed != len - header)
		fake_fail("the answer of %s %d is too long", info->name, version);
	if (info->key == KAPI_FETCH)
		check_records(msg);
	free(msg);
	pool_free(&pool);
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *message, int mode)
{
	Peer	   *peer = peer_of(fd);
	size_t		left = peer->window;
	size_t		done = 0;
	ssize_t		sent = 0;

	if (peer->gone || left == 0)
	{
		errno = peer->gone ? EPIPE : EAGAIN;
		return -1;
	}
	for (size_t i = 0; i < message->msg_iovlen && left > 0; i++)
	{
		size_t		n = Min(message->msg_iov[i].iov_len, left);

		peer->out = realloc(peer->out, peer->out_len + n + 1);
		memcpy(peer->out + peer->out_len, message->msg_iov[i].iov_base, n);
		peer->out_len += n;
		left -= n;
		sent += n;
	}
	peer->window = left;
	while (peer->out_len - done >= 4)
	{
		uint32		len;

		memcpy(&len, peer->out + done, 4);
		len = pg_ntoh32(len);
		if (len < 4 || len > 64 * 1024 * 1024)
			fake_fail("an answer of %u bytes", len);
		if (peer->out_len - done - 4 < len)
			break;
		check_answer(peer, peer->out + done + 4, len);
		done += 4 + len;
	}
	memmove(peer->out, peer->out + done, peer->out_len - done);
	peer->out_len -= done;
	return sent;
}

/* ------------------------------------------------------------------------
 * The broker, as in src/worker/kworker_broker.c
 * ------------------------------------------------------------------------
 */

static Peer *
peer_of_conn(KConn *conn)
{
	for (int i = 0; i <= CONNECTIONS; i++)
	{
		if (peers[i].epoll_ptr == conn)
			return &peers[i];
	}
	fake_fail("a connection that is nobody's");
}

static void
broker_opened(KConn *conn)
{
	KApiPeer	peer = {.client = "192.0.2.1:5",.client_host = "192.0.2.1",.client_port = 5,
	.protocol = flags & BUSY ? "SASL_SSL" : "PLAINTEXT",.local_host = "127.0.0.1",
	.local_port = 9092};
	KApiConn   *user;

	user = kapi_conn_open(conn, &peer);
	knet_conn_set_user(conn, user);
	if (user == NULL)
		knet_close_after_answers(conn);
}

static void
broker_frame(KConn *conn, KNetSlot *slot, uint8 *data, size_t len)
{
	Peer	   *peer = peer_of_conn(conn);
	KRequestFrame frame;
	const char *err;

	if (peer->nexpected == MAX_EXPECTED)
	{
		/* so many that nobody answers: forget the oldest */
		peer->nexpected--;
		memmove(peer->expected, peer->expected + 1, peer->nexpected * sizeof(peer->expected[0]));
	}
	if (kmsg_request_header_decode(data, len, &frame, &err))
	{
		peer->expected[peer->nexpected].info = frame.api;
		peer->expected[peer->nexpected].correlation_id = frame.correlation_id;
		peer->expected[peer->nexpected++].version = frame.api_version;
	}
	kapi_conn_frame(knet_conn_user(conn), slot, data, len);
}

static void
broker_closed(KConn *conn)
{
	if (knet_conn_user(conn) != NULL)
		kapi_conn_closed(knet_conn_user(conn));
}

static void
broker_turn_begin(void)
{
	knet_loop_stop();			/* after this turn */
	kapi_turn_begin(knet_now_us() / 1000);
}

static long
broker_turn_end(bool idle)
{
	return kapi_turn_end(knet_now_us() / 1000, idle);
}

static void
io_reply(void *slot, const KChunk *chunks, int count)
{
	knet_reply(slot, chunks, count);
}

static void
io_reply_none(void *slot)
{
	knet_reply_none(slot);
}

static void
io_frame_free(void *slot)
{
	knet_frame_free(slot);
}

static void
io_close(void *conn)
{
	knet_close_after_answers(conn);
}

static void
io_trust(void *conn)
{
	knet_conn_trust(conn, kguc_max_request_size);
}

static void
io_meter(void *conn, pg_atomic_uint64 *received, pg_atomic_uint64 *sent)
{
	knet_conn_meter(conn, received, sent);
}

static uint32
io_round_trip(void *conn)
{
	uint32		us = knet_conn_round_trip(conn);

	/* the socket here is no TCP's: clients are near all the same, some of the time */
	return flags & SMALL_BUDGET ? us : 0;
}

static const KNetHandlers handlers = {
	.opened = broker_opened,.frame = broker_frame,.closed = broker_closed,
	.turn_begin = broker_turn_begin,.turn_end = broker_turn_end,.turn_close = kapi_turn_close
};

static const KApiIo io = {
	.reply = io_reply,.reply_none = io_reply_none,.frame_free = io_frame_free,.close = io_close,
	.trust = io_trust,.meter = io_meter,.answer_room = knet_answer_room,
	.round_trip = io_round_trip,
	.ddl_submit = fake_ddl_submit,.ddl_poll = fake_ddl_poll,.ddl_cancel = fake_ddl_cancel
};

static void
set_limits(void)
{
	KNetLimits	limits = {.first_frame_limit = 64 * 1024,.inflight_bytes = 4 * 1024 * 1024,
		.answer_bytes = ANSWER_BYTES,.max_connections = 100,.max_connections_per_address = 100,
	.idle_ms = 60000};

	if (flags & SMALL_BUDGET)
		limits.inflight_bytes = 20000;
	knet_loop_limits(&limits);
}

static void
turn(void)
{
	fake_reads_left = 200000;
	knet_loop_run();
	fake_check_released();
}

/* ------------------------------------------------------------------------
 * Operations
 * ------------------------------------------------------------------------
 */

static void
open_peer(Peer *peer)
{
	KNetPeer	address = {{(uint8) (peer - peers)}};
	const char *why;

	if (peer->open || peer->epoll_ptr != NULL)
		return;
	if (!knet_shared_admit(&address, &why))
		return;
	peer->open = true;
	peer->window = 100000;
	knet_conn_accept(FIRST_FD + (int) (peer - peers), &address, 5, "192.0.2.1:5");
}

static void
receive(Peer *peer, const uint8 *data, size_t len)
{
	peer->in = realloc(peer->in, peer->in_len + len + 1);
	memcpy(peer->in + peer->in_len, data, len);
	peer->in_len += len;
}

/* A session of somebody appends in a transaction, which ends either way. */
static void
append_in_transaction(bool commit, int topic)
{
	static TransactionId next;
	KBatchHeader header = {.magic = KBATCH_MAGIC,.producer_id = KBATCH_NO_PRODUCER_ID,
	.batch_length = KBATCH_HEADER_SIZE + 8 - KBATCH_LENGTH_OVERHEAD,.record_count = 1};
	uint8		batch[KBATCH_HEADER_SIZE + 8] = {0};
	KLogBatch	in = {.data = batch,.len = sizeof(batch)};
	KLogAppend	how = {.leader_epoch = 3,.segment_bytes = 1024 * 1024,.partitions = 2};
	Relation	rel = fake_relation(topic);
	KLogPartition *part;
	int			done;

	if (fake_recovery || fake_topic(topic) == NULL)
		return;
	next = FirstNormalTransactionId + (next + 1) % (FAKE_XIDS - FirstNormalTransactionId);
	if (fake_xacts[next] != FAKE_ABORTED)
		return;
	/* a record without key and value */
	memcpy(batch + KBATCH_HEADER_SIZE, "\x0c\0\0\0\1\1\0", 7);
	header.batch_length = KBATCH_HEADER_SIZE + 7 - KBATCH_LENGTH_OVERHEAD;
	in.len = KBATCH_HEADER_SIZE + 7;
	kbatch_header_write(batch, &header);
	header.crc = kbatch_compute_crc(batch, in.len);
	kbatch_header_write(batch, &header);
	fake_transaction_begin();
	fake_xacts[next] = FAKE_RUNNING;
	how.xid = next;
	part = klog_attach(rel, 0, false);
	klog_lock(part, false);
	while (klog_append(rel, part, &how, &in, 1, &done, NULL) == KLOG_NO_EXTENT)
	{
		klog_unlock(part);
		(void) klog_grow(rel, false);
		klog_lock(part, false);
	}
	klog_unlock(part);
	if (commit)
	{
		XLogBeginInsert();
		XactLastCommitEnd = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_HEARTBEAT);
	}
	fake_xacts[next] = commit ? FAKE_COMMITTED : FAKE_ABORTED;
	fake_transaction_end(commit);
}

/* What other processes do. */
static void
others(void *arg)
{
	uint8		what = *(uint8 *) arg;
	KLogReaderRequest request;

	switch (what % 8)
	{
		case 0:
			fake_ddl_turn();
			break;
		case 1:
			if (!klog_flusher_turn())
				klog_publish();
			break;
		case 2:
			while (klog_reader_take(&request))
				klog_reader_do(&request);
			break;
		case 3:
			fake_evict();
			break;
		case 4:
			(void) klog_keeper_turn();
			break;
		default:
			append_in_transaction(what & 0x40, what >> 3 & 1);
			break;
	}
}

static void
guarded(void (*fn) (void *arg), void *arg)
{
	MemoryContext ctx = AllocSetContextCreate(TopMemoryContext, "another process",
											  ALLOCSET_DEFAULT_SIZES);

	CurrentMemoryContext = ctx;
	if (!fake_try(fn, arg))
		fake_transaction_end(false);
	CurrentMemoryContext = TopMemoryContext;
	MemoryContextDelete(ctx);
	fake_check_released();
}

static void
operation(Input *in)
{
	uint8		op = take8(in);
	Peer	   *peer = &peers[(op >> 3) % CONNECTIONS];
	size_t		len;
	const uint8 *bytes;

	switch (op % 8)
	{
		case 0:
		case 1:
		case 2:
			len = take16(in);
			bytes = take_bytes(in, &len);
			open_peer(peer);
			if (peer->open && !peer->gone)
				receive(peer, bytes, len);
			if (op & 0x80)
				return;
			break;
		case 3:
			len = take8(in);
			fake_clock_us += INT64CONST(1) << len % 28;
			break;
		case 4:
			peer->window += INT64CONST(1) << (take8(in) % 22);
			break;
		case 5:
			if (op & 0x80)
				peer->gone = peer->open;
			else
				read_step = 1 + take16(in);
			break;
		default:
			op = take8(in);
			guarded(others, &op);
			break;
	}
	turn();
}

/* ------------------------------------------------------------------------
 * The end
 * ------------------------------------------------------------------------
 */

/* Ends fetch sessions, as their clients would: they are not the connections'. */
static void
close_sessions(void)
{
	Peer	   *peer = &peers[CONNECTIONS];

	for (uint64 i = 0; i < pg_global_prng_state.s0; i++)
	{
		KFetchRequest body;
		KMsgWriter	w;
		const char *err;

		kmsg_init(kapi_info(KAPI_FETCH)->request, &body);
		body.session_id = (int32) (i + 1) << 6;
		body.session_epoch = -1;
		kmsg_writer_init(&w, 0, heap_resize, NULL);
		if (!kmsg_request_encode(kapi_info(KAPI_FETCH), 12, (int32) i, KSTR_NULL, &body, &w, &err))
			fake_fail("%s", err);
		open_peer(peer);
		receive(peer, w.data, w.len);
		writer_free(&w);
		peer->window = 100000;
		turn();
	}
}

static void
all_done(void)
{
	for (int i = 0; i < 6; i++)
	{
		uint8		op = i % 3;

		fake_clock_us += INT64CONST(20000000);
		guarded(others, &op);
		turn();
	}
}

static void
on_problem(void *arg, int32 partition, BlockNumber block, int64 offset, const char *problem)
{
	fake_fail("kafka.check_topic: topic %d partition %d block %u offset %lld: %s", *(int *) arg,
			  partition, block, (long long) offset, problem);
}

static void
check_topics(void *arg)
{
	for (int i = 0; i < FAKE_TOPICS; i++)
	{
		if (fake_topic(i) != NULL)
			klog_check(fake_relation(i), on_problem, &i);
	}
}

static bool
expected(int elevel, int code, const char *message)
{
	if (elevel < ERROR)
		return ((flags & SHORT_MEMORY) != 0 && strstr(message, "no memory") != NULL) ||
			(strstr(message, "could not encode") == NULL &&
			 strstr(message, "was forgotten") == NULL && strstr(message, "corrupt") == NULL);
	if (elevel > ERROR)
		return false;
	return (code == ERRCODE_DISK_FULL && (flags & SMALL_DISK) != 0) ||
		(code == ERRCODE_OUT_OF_MEMORY && (flags & SHORT_MEMORY) != 0) ||
		code == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
}

static void
start(void)
{
	KNetLimits	limits = {.max_connections = 100};

	fake_start();
	fake_error_expected = expected;
	fake_begin(0);
	fake_storage_reset();
	fake_catalog_reset(0);
	klog_shmem_init();
	kproducer_shmem_init();
	knet_shmem_init(100);
	kapi_shmem_init();
	klog_xact_register();
	kproducer_init();
	klog_broker_attach(0);
	knet_loop_init(0, &handlers, &limits);
	CurrentMemoryContext = TopMemoryContext;
	kapi_attach(&io, 0);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static bool started;
	Input		in = {data, size};
	uint8		variant;

	if (!started)
		start();
	started = true;
	flags = take8(&in);
	variant = take8(&in);
	fake_begin(variant);
	fake_shmem_reset();
	fake_storage_reset();
	fake_catalog_reset(variant | take8(&in) << 8);
	klog_shmem_init();
	kcoord_shmem_init();
	kproducer_shmem_init();
	klog_broker_attach(0);
	set_limits();
	memset(peers, 0, sizeof(peers));
	read_step = 100000;
	fake_busy = flags & BUSY ? 25 : 0;
	fake_full_pages = flags & FULL_PAGES ? 30 : 0;
	fake_memory_limit = flags & SHORT_MEMORY ? fake_memory_used() + 300000 :
		fake_memory_used() + 256 * 1024 * 1024;
	if (flags & SMALL_DISK)
		fake_disk = 200;
	if (flags & STANDBY)
	{
		uint8		what[] = {0x45, 0x05, 0x4D, 1};

		for (int i = 0; i < (int) lengthof(what); i++)
			guarded(others, &what[i]);
		klog_forget(FAKE_FIRST_RELID);
		klog_forget(FAKE_FIRST_RELID + 1);
		fake_recovery = kapi_standby = true;
	}

	for (int i = 0; i < MAX_OPS && in.left > 0; i++)
		operation(&in);

	/* everybody goes, and what was begun comes to its end */
	fake_busy = 0;
	fake_memory_limit = 0;
	fake_disk = 100000;
	read_step = 100000;
	for (int i = 0; i < CONNECTIONS; i++)
		peers[i].gone = peers[i].open;
	all_done();
	close_sessions();
	peers[CONNECTIONS].gone = peers[CONNECTIONS].open;
	all_done();
	for (int i = 0; i <= CONNECTIONS; i++)
	{
		if (peers[i].open)
			fake_fail("connection %d has not gone", i);
		free(peers[i].in);
		free(peers[i].out);
	}
	if (fake_contexts("kafka request") + fake_contexts("kafka connection") +
		fake_contexts("kafka fetch session") > 0)
		fake_fail("%d requests, %d connections, %d sessions are left",
				  fake_contexts("kafka request"), fake_contexts("kafka connection"),
				  fake_contexts("kafka fetch session"));
	if (fake_ddl_tickets() > 0)
		fake_fail("DDL is left");
	if (knet_answer_room() != ANSWER_BYTES)
		fake_fail("bytes of answers are left");
	if (!kapi_standby)
		guarded(check_topics, NULL);
	kapi_standby = false;
	if (fake_memory_used() > 4 * 1024 * 1024)
		fake_fail("%zu bytes of memory are left", fake_memory_used());
	return 0;
}

/* ------------------------------------------------------------------------
 * Operations that say something
 * ------------------------------------------------------------------------
 */

size_t
LLVMFuzzerCustomMutator(uint8 *data, size_t size, size_t max_size, unsigned int seed)
{
	Random		r = {seed};
	Pool		pool = {0};
	int			n;

	if (size > 3 && random_below(&r, 3))
		return LLVMFuzzerMutate(data, size, max_size);
	if (max_size < 64)
		return size;
	if (size < 3 || size + 200 > max_size || random_below(&r, 12) == 0)
	{
		data[0] = random_below(&r, 2) ? 0 : (uint8) random_bits(&r);
		data[1] = random_bits(&r);
		data[2] = random_bits(&r);
		size = 3;
	}
	n = 1 + random_below(&r, 4);
	for (int i = 0; i < n && size + 4 < max_size; i++)
	{
		if (random_below(&r, 3))
		{
			KBytes		frame = random_request(&r, &pool);

			if (frame.len <= 0 || size + 3 + frame.len > max_size || frame.len > UINT16_MAX)
				continue;
			data[size++] = (uint8) (random_below(&r, CONNECTIONS) << 3 |
									(random_below(&r, 4) ? 0 : 0x80));
			data[size++] = (uint8) frame.len;
			data[size++] = (uint8) (frame.len >> 8);
			memcpy(data + size, frame.data, frame.len);
			size += frame.len;
		}
		else
		{
			data[size++] = 3 + random_below(&r, 5) + 8 * random_below(&r, 32);
			data[size++] = random_bits(&r);
		}
	}
	pool_free(&pool);
	return size;
}
