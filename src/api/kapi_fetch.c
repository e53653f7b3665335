/*
 * kapi_fetch.c
 *		Fetch: reading a consumer's partitions, and waiting until there is enough to read.
 *
 * An attempt reads what there is, partition by partition in the request's order, into memory of
 * its own; if that is not enough yet it is thrown away and the request waits for the high
 * watermarks to move.  A few records are copied into the memory from which they are sent; many
 * are only measured, and lent to the socket from their pages when it takes them.
 *
 * Where one answer has not room for all partitions, the next one begins with the first that got
 * too little.
 *
 * Which partitions a request is about, and which of them are answered, is a matter of its session:
 * kapi_session.c.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "api/kapi_epoch.h"
#include "api/kapi_request.h"
#include "api/kapi_session.h"
#include "api/kapi_wait.h"
#include "kguc.h"

/* One answer carries no more, except that its first batch is always whole. */
#define MAX_RESPONSE		(8 * 1024 * 1024)

/*
 * And no more than that for a client that is near: it gets the next one at once, and works on what
 * is in its processor's cache, in memory that need not be mapped each time.
 */
#define NEAR_RESPONSE		(1024 * 1024)

/*
 * All fetches of one turn read about that much, what is only measured counting an eighth; then the
 * sockets get their turn.
 */
#define MAX_TURN			(16 * 1024 * 1024)

/* How much is copied at first, before a partition shows how much it has. */
#define FIRST_READ			(16 * 1024)

/* A partition's records are lent if there are so many bytes of them. */
#define LEND_MIN			(32 * 1024)

/* So much is lent at a time. */
#define LEND_BYTES			(512 * 1024)

/* So much is brought in from disk at a time. */
#define READ_AHEAD			(1024 * 1024)

/* How long cold pages are waited for, beyond the client's own limit. */
#define COLD_LIMIT			5000	/* ms */

/*
 * Where a connection's last reads of some partitions ended, and how much they gave, so that the
 * next one need not search.  Two partitions of one place take turns.
 */
#define CACHE_SIZE			256

typedef struct FetchCacheEntry
{
	Oid			relid;
	int32		partition;
	uint32		len;
	KLogPosition position;
	KColdPages	cold;
} FetchCacheEntry;

struct KFetchCache
{
	FetchCacheEntry entries[CACHE_SIZE];
	KFetchTurn	turn;
};

typedef struct FetchWork
{
	KFetchContext context;
	KFetchPart *parts;			/* to be fetched ... */
	KFetchResponsePartition *outs;	/* ... and what they gave */
	bool	   *refused;		/* not even looked at: answered behind the others */
	int32		nparts;
	int32		first;			/* of parts: there an attempt begins, and goes round */
	int64		deadline;
	int64		cold_deadline;
	Size		min_bytes;
	Size		wanted;			/* the client's max_bytes, as far as we go along */
	Size		max_bytes;		/* of the current attempt */
	MemoryContext records;		/* of the current attempt */

	/* what the current attempt has found */
	Size		total;
	bool		busy;			/* some partition was locked or being built */
	bool		cold;			/* some partition's pages must come from disk */
	bool		failed;			/* some partition could not be read */
	bool		readable;		/* there are partitions that can be waited for */
	bool		rest;			/* the last one read has more than there was room for */
} FetchWork;

static uint64 bytes_turn;
static Size bytes_read;

static void fetch_step(KRequest * req);

static FetchCacheEntry *
cache_entry(KApiConn * conn, Oid relid, int32 partition)
{
	uint32		hash = hash_combine(murmurhash32(relid), murmurhash32((uint32) partition));
	FetchCacheEntry *entry;

	if (conn->fetch_cache == NULL)
		conn->fetch_cache = MemoryContextAllocZero(conn->ctx, sizeof(KFetchCache));
	entry = &conn->fetch_cache->entries[hash % CACHE_SIZE];
	if (entry->relid != relid || entry->partition != partition)
	{
		entry->relid = relid;
		entry->partition = partition;
		entry->len = 0;
		entry->position = KLOG_NO_POSITION;
		entry->cold = (KColdPages) {0};
	}
	return entry;
}

/* An answer with all partitions of the request as it stands, none of them read. */
static void
make_response(KRequest * req, KFetchResponse * resp)
{
	const		KFetchRequest *body = req->body;
	const		KMsgDesc *desc;
	int32		n = Max(body->topics.count, 0);

	kmsg_init(&kmsg_fetch_response, resp);
	resp->responses.count = n;
	resp->responses.items = kapi_items(&kmsg_fetch_response,
									   offsetof(KFetchResponse, responses), n, &desc);
	for (int32 i = 0; i < n; i++)
	{
		KFetchRequestTopic *in = &body->topics.items[i];
		KFetchResponseTopic *out = &resp->responses.items[i];
		int32		np = Max(in->partitions.count, 0);

		out->topic = in->topic;
		out->topic_id = in->topic_id;
		out->partitions.count = np;
		out->partitions.items = kapi_items(desc, offsetof(KFetchResponseTopic, partitions),
										   np, NULL);
		for (int32 p = 0; p < np; p++)
			out->partitions.items[p].partition_index = in->partitions.items[p].partition;
	}
}

/* Nothing known, nothing read. */
static void
set_empty(KFetchResponsePartition * out, int16 error)
{
	out->error_code = error;
	out->high_watermark = -1;
	out->last_stable_offset = -1;
	out->log_start_offset = -1;
	out->aborted_transactions.count = -1;
	out->preferred_read_replica = -1;
	out->records = (KBytes)
	{
		NULL, 0
	};
}

void
kapi_fetch_fail(KRequest * req, int16 error)
{
	KFetchResponse resp;

	make_response(req, &resp);
	resp.error_code = error;
	if (req->version >= 13)
		resp.responses.count = 0;
	for (int32 i = 0; i < resp.responses.count; i++)
	{
		for (int32 p = 0; p < resp.responses.items[i].partitions.count; p++)
		{
			set_empty(&resp.responses.items[i].partitions.items[p], error);
			resp.responses.items[i].partitions.items[p].aborted_transactions.count = 0;
		}
	}
	kapi_answer(req, &resp);
}

/* ------------------------------------------------------------------------
 * Records that are lent
 * ------------------------------------------------------------------------
 */

/* In the memory of the attempt; when it is answered, that goes with the answer's last chunk. */
typedef struct LentRecords
{
	KLent		lent;			/* what the answer points to */
	Oid			relid;
	int32		partition;
	KLogSpan	span;
	KColdPages	cold;

	/* of one call */
	struct iovec *iov;
	int			niov;			/* in: room; out: the result */
} LentRecords;

static void
lend_step(void *arg)
{
	LentRecords *lent = arg;
	int			niov = lent->niov;
	bool		busy;
	bool		failed;
	Relation	rel;
	KLogPartition *part;
	KLogPosition cold;

	lent->niov = -1;
	kapi_txn();
	MemoryContextSwitchTo(CurTransactionContext);
	rel = kapi_relation(lent->relid, AccessShareLock, &busy);
	part = rel == NULL ? NULL : kapi_partition(rel, lent->partition, &failed);
	if (part == NULL)
	{
		if (rel != NULL ? !failed : busy)
			lent->niov = 0;
		return;
	}
	switch (klog_lend(rel, part, &lent->span, LEND_BYTES, lent->iov, &niov, &cold))
	{
		case KLOG_OK:
			lent->niov = niov;
			break;
		case KLOG_COLD:
			if (kapi_ask_reader(rel, part, cold, Min(lent->span.remaining, READ_AHEAD),
								&lent->cold))
				lent->niov = 0;
			break;
		default:
			break;
	}
}

static int
lend(void *arg, struct iovec *iov, int max)
{
	LentRecords *lent = arg;

	lent->iov = iov;
	lent->niov = max;
	return kapi_guard(lend_step, lent, "sending records") ? lent->niov : -1;
}

static void
lend_settle(void *arg, size_t sent)
{
	klog_lend_end(&((LentRecords *) arg)->span, sent);
}

static const KChunkLender records_lender = {lend, lend_settle};

/* Has the answer lend what klog_read has measured. */
static void
lend_records(KRequest * req, Relation rel, int32 partition, const KLogRead * r, KBytes * records)
{
	FetchWork  *work = req->work;
	LentRecords *lent = MemoryContextAllocZero(work->records, sizeof(LentRecords));

	lent->lent.lender = &records_lender;
	lent->relid = RelationGetRelid(rel);
	lent->partition = partition;
	lent->span.segment = r->begin.segment;
	lent->span.page = r->begin.page;
	lent->span.pos = r->begin.pos;
	lent->span.remaining = r->len;
	lent->cold = (KColdPages) {0};
	slist_push_head(&req->lent, &lent->lent.node);
	records->data = (const uint8 *) &lent->lent;
}

/* Forgets what an attempt has read. */
static void
forget_records(KRequest * req)
{
	FetchWork  *work = req->work;

	slist_init(&req->lent);
	MemoryContextReset(work->records);
}

/* ------------------------------------------------------------------------
 * One attempt
 * ------------------------------------------------------------------------
 */

/*
 * Reads a partition's records from offset to below limit, up to max bytes; at least one batch,
 * however long, if nothing has been read for this answer yet.  Returns what ended it, KLOG_OK
 * also when there was not room for more.  *cold becomes the first page that is not at hand.
 */
static KLogResult
read_records(KRequest * req, Relation rel, KLogPartition * part, int32 partition,
			 int64 offset, int64 limit, Size max, KBytes * records, KLogPosition * cold)
{
	FetchWork  *work = req->work;
	FetchCacheEntry *entry = cache_entry(req->conn, RelationGetRelid(rel), partition);
	KLogRead	r = {0};
	Size		cap = Min(Max((Size) entry->len + entry->len / 4, FIRST_READ), max);
	KLogResult	result = KLOG_TOO_SMALL;

	r.offset = offset;
	r.limit = limit;
	r.nowait = true;
	if (cap < LEND_MIN)
	{
		r.position = entry->position;
		r.buf = MemoryContextAlloc(work->records, Max(cap, 1));
		r.cap = cap;
		result = klog_read(rel, part, &r);
		*cold = r.cold;
		if (result == KLOG_OK && (r.next_offset >= limit || r.cold.page != 0 || cap == max))
			records->data = r.buf;
	}
	if (records->data == NULL && (result == KLOG_OK || result == KLOG_TOO_SMALL))
	{
		/* there is more than that, or will be, going by the last time */
		r.buf = NULL;
		r.cap = max;
		r.position = entry->position;
		result = klog_read(rel, part, &r);
		if (result == KLOG_TOO_SMALL && work->total == 0)
		{
			r.cap = r.needed;
			r.position = entry->position;
			result = klog_read(rel, part, &r);
		}
		*cold = r.cold;
		if (result == KLOG_OK && r.len >= LEND_MIN && r.begin.page != 0)
			lend_records(req, rel, partition, &r, records);
		else if (result == KLOG_OK && r.len > 0)
		{
			r.cap = r.len;
			r.buf = MemoryContextAllocHuge(work->records, r.cap);
			r.position = entry->position;
			result = klog_read(rel, part, &r);
			records->data = r.buf;
		}
	}
	if (result != KLOG_OK)
	{
		records->data = NULL;
		work->rest = result == KLOG_TOO_SMALL;
		return work->rest ? KLOG_OK : result;
	}
	work->rest = r.next_offset < limit && r.cold.page == 0;
	entry->position = r.position;
	entry->len = (uint32) Min(r.len, MAX_RESPONSE);
	if (r.len == 0)
		records->data = NULL;
	records->len = (int32) r.len;
	work->total += r.len;
	bytes_read += r.buf == NULL ? r.len / 8 : r.len;
	return KLOG_OK;
}

static int16
storage_error(KRequest * req)
{
	/* Clients of old versions do not know the new code. */
	return req->version <= 5 ? KERR_NOT_LEADER_OR_FOLLOWER : KERR_KAFKA_STORAGE_ERROR;
}

/*
 * Who goes through old records shall find the next ones in memory: READ_AHEAD bytes of them at
 * least, and twice that at most; less where many such would not find room.  That ends with the
 * first page that is there already, or is not there at all.
 */
static void
read_ahead(Relation rel, KLogPartition *part, FetchCacheEntry *entry)
{
	KColdPages *asked = &entry->cold;
	KLogPosition end = asked->position;
	Size		ahead = Min(READ_AHEAD, (Size) NBuffers / 64 * BLCKSZ);
	uint32		npages = 0;

	if (!kapi_was_asked(asked, entry->position))
		return;
	end.page += asked->npages;
	if ((Size) (end.page - entry->position.page) * BLCKSZ > ahead)
		return;
	if (klog_page_is_cold(rel, part, end))
	{
		npages = klog_reader_request(rel, part, end, ahead, kapi_broker);
		if (npages == 0)
			return;
	}
	asked->npages = npages > 0 ? end.page + npages - entry->position.page : 0;
	asked->position = entry->position;
	asked->asked = kapi_now();
}

/* Reads one partition that exists and may be read; fills in *out. */
static void
fetch_partition(KRequest * req, const KTopic * topic, KFetchPart * fetched,
				KFetchResponsePartition * out)
{
	const		KFetchRequest *body = req->body;
	const		KFetchRequestPartition *in = &fetched->in;
	FetchWork  *work = req->work;
	int16		error = kapi_check_epoch(Max(in->current_leader_epoch, -1));
	bool		busy;
	bool		failed = false;
	Relation	rel;
	KLogPartition *part;
	int64		start;
	int64		high;
	Size		share;
	Size		max;
	KLogPosition cold = KLOG_NO_POSITION;
	KLogResult	result = KLOG_OK;

	if (error != 0)
	{
		work->failed = true;
		set_empty(out, error);
		if (error == KERR_FENCED_LEADER_EPOCH && req->version >= 16)
		{
			KApiNodes	nodes;

			kapi_nodes(req->conn, &nodes);
			out->current_leader.leader_id = nodes.node[nodes.leader].id;
			out->current_leader.leader_epoch = kepoch_latest();
		}
		return;
	}
	rel = kapi_relation(topic->relid, AccessShareLock, &busy);
	part = rel == NULL ? NULL : kapi_partition(rel, in->partition, &failed);
	if (failed)
	{
		work->failed = true;
		set_empty(out, storage_error(req));
		return;
	}
	if (part == NULL)
	{
		if (rel == NULL && !busy)
		{
			work->failed = true;
			set_empty(out, KERR_UNKNOWN_TOPIC_OR_PARTITION);
			return;
		}
		work->busy = true;
		/* its state is not there: that is like its pages */
		work->cold |= rel != NULL;
		set_empty(out, 0);
		return;
	}

	start = klog_log_start(part);
	high = klog_high_watermark(part);
	if (in->last_fetched_epoch >= 0 && req->version >= 12)
	{
		KLogEpochEnd end = {-1, -1};

		result = kapi_epoch_end(rel, part, in->last_fetched_epoch, &end,
								&cache_entry(req->conn, topic->relid, in->partition)->cold);
		set_empty(out, 0);
		if (result == KLOG_COLD)
		{
			work->cold = true;
			return;
		}
		if (result != KLOG_OK || end.end_offset < 0)
		{
			work->failed = true;
			set_empty(out, result != KLOG_OK ? storage_error(req) : KERR_OFFSET_OUT_OF_RANGE);
			return;
		}
		if (end.epoch < in->last_fetched_epoch || end.end_offset < in->fetch_offset)
		{
			/* What the client has read is not what is here: it goes back to where they part. */
			work->failed = true;
			out->diverging_epoch.epoch = end.epoch;
			out->diverging_epoch.end_offset = end.end_offset;
			out->high_watermark = high;
			out->last_stable_offset = high;
			out->log_start_offset = start;
			return;
		}
	}
	if (in->fetch_offset < start ||
		(in->fetch_offset > high && in->fetch_offset > klog_end_offset(part)))
	{
		work->failed = true;
		set_empty(out, KERR_OFFSET_OUT_OF_RANGE);
		return;
	}

	set_empty(out, 0);
	out->high_watermark = high;
	out->last_stable_offset = high;
	out->log_start_offset = start;
	out->aborted_transactions.count = body->isolation_level == 1 ? 0 : -1;
	if (in->fetch_offset >= high)
		return;

	share = Min((Size) Max(in->partition_max_bytes, 0), work->max_bytes);
	max = Min(share, work->max_bytes - Min(work->total, work->max_bytes));
	if (max == 0 && work->total > 0)
	{
		fetched->curtailed = true;
		return;
	}
	result = read_records(req, rel, part, in->partition, in->fetch_offset, high, max,
						  &out->records, &cold);
	fetched->curtailed = result == KLOG_OK && work->rest &&
		(max < share || out->records.len == 0);

	if (result == KLOG_OK && cold.page == 0)
		read_ahead(rel, part, cache_entry(req->conn, topic->relid, in->partition));

	/* What comes next is wanted soon, even if this answer has something to give. */
	if (cold.page != 0 &&
		!kapi_ask_reader(rel, part, cold, READ_AHEAD,
						 &cache_entry(req->conn, topic->relid, in->partition)->cold) &&
		result == KLOG_COLD)
		result = KLOG_CORRUPT;
	switch (result)
	{
		case KLOG_OK:
		case KLOG_TOO_SMALL:
			break;
		case KLOG_COLD:
			work->cold = true;
			break;
		case KLOG_OUT_OF_RANGE:
			work->failed = true;
			set_empty(out, KERR_OFFSET_OUT_OF_RANGE);
			break;
		case KLOG_BUSY:
			work->busy = true;
			break;
		default:
			work->failed = true;
			set_empty(out, storage_error(req));
			break;
	}
}

/* The topic of parts[i]; *last is that of the part before, if it is the same. */
static const KTopic *
part_topic(KRequest * req, int32 i, const KTopic * last, bool *busy)
{
	FetchWork  *work = req->work;
	KFetchPart *part = &work->parts[i];

	*busy = false;
	if (req->version >= 13)
	{
		if (last != NULL && memcmp(&part[-1].topic_id, &part->topic_id, sizeof(KUuid)) == 0)
			return last;
		return kapi_topic_by_uuid(&part->topic_id, busy);
	}
	if (last != NULL && part[-1].topic.data == part->topic.data)
		return last;
	return kapi_topic(part->topic, busy);
}

/* One attempt at all partitions, from the first one on and round. */
static void
attempt(KRequest * req)
{
	const		KFetchRequest *body = req->body;
	FetchWork  *work = req->work;
	Oid			role = kapi_role(req);
	bool		follower = body->replica_id >= 0 || body->replica_state.replica_id >= 0;
	const		KTopic *topic = NULL;
	bool		may = false;

	forget_records(req);
	work->total = 0;
	work->busy = work->cold = work->failed = work->readable = false;
	for (int32 n = 0; n < work->nparts; n++)
	{
		bool		round = n >= work->nparts - work->first;
		int32		i = work->first + n - (round ? work->nparts : 0);
		KFetchRequestPartition *in = &work->parts[i].in;
		KFetchResponsePartition *out = &work->outs[i];
		const		KTopic *last = i == 0 ? NULL : topic;
		int16		error = 0;
		bool		busy;

		work->parts[i].curtailed = false;
		topic = part_topic(req, i, last, &busy);
		if (topic != last)
			may = topic != NULL && !follower && kacl_topic_read(topic->relid, role);
		out->diverging_epoch.epoch = -1;
		out->diverging_epoch.end_offset = -1;
		if (busy)
		{
			work->busy = work->readable = true;
			set_empty(out, 0);
			continue;
		}
		if (topic == NULL)
			error = req->version >= 13 ? KERR_UNKNOWN_TOPIC_ID :
				KERR_UNKNOWN_TOPIC_OR_PARTITION;
		else if (!may)
			error = KERR_TOPIC_AUTHORIZATION_FAILED;
		else if (in->partition < 0 || in->partition >= topic->partitions)
			error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
		work->refused[i] = error != 0;
		if (error != 0)
		{
			set_empty(out, error);
			out->aborted_transactions.count = 0;
			continue;
		}
		work->readable = true;
		fetch_partition(req, topic, &work->parts[i], out);
	}
}

/* Has the request woken when one of its partitions gets more to read than the attempt has seen. */
static void
watch_partitions(KRequest * req)
{
	FetchWork  *work = req->work;
	const		KTopic *topic = NULL;

	for (int32 i = 0; i < work->nparts; i++)
	{
		KFetchResponsePartition *out = &work->outs[i];
		bool		busy;

		topic = part_topic(req, i, topic, &busy);
		if (topic != NULL && out->error_code == 0 && out->high_watermark >= 0)
			kapi_wait_data(req, topic->relid, out->partition_index,
						   Max(out->high_watermark, work->parts[i].in.fetch_offset), fetch_step);
	}
}

/* Are these partitions of one topic? */
static bool
same_topic(const KFetchPart * a, const KFetchPart * b)
{
	return a->topic.len == b->topic.len &&
		(a->topic.len <= 0 || memcmp(a->topic.data, b->topic.data, a->topic.len) == 0) &&
		memcmp(&a->topic_id, &b->topic_id, sizeof(KUuid)) == 0;
}

/*
 * The answer has those that were refused last, as Kafka's, and neighbours of one topic together.
 */
static void
fetch_answer(KRequest * req)
{
	FetchWork  *work = req->work;
	KFetchResponse resp;
	const		KMsgDesc *desc;
	KFetchResponsePartition *items;
	Size		most = Max(work->nparts, 1);
	const		KFetchPart **parts = palloc_extended(most * sizeof(KFetchPart *),
													 MCXT_ALLOC_HUGE);
	KFetchResponsePartition **outs = palloc_extended(most * sizeof(KFetchResponsePartition *),
													 MCXT_ALLOC_HUGE);
	bool		fenced = false;
	int32		n = 0;

	for (int refused = 0; refused <= 1; refused++)
	{
		for (int32 i = 0; i < work->nparts; i++)
		{
			if (work->refused[i] != (bool) refused)
				continue;
			parts[n] = &work->parts[i];
			outs[n++] = &work->outs[i];
		}
	}
	if (work->context.mode != KFETCH_INCREMENTAL && req->conn->fetch_cache != NULL)
		kapi_turn_pass(&req->conn->fetch_cache->turn, work->parts, work->nparts, work->first);
	kmsg_init(&kmsg_fetch_response, &resp);
	resp.error_code = kapi_session_end(req, &work->context, parts, outs, &n, &resp.session_id);
	if (resp.error_code != 0)
		n = 0;

	resp.responses.count = 0;
	resp.responses.items = kapi_items(&kmsg_fetch_response, offsetof(KFetchResponse, responses),
									  n, &desc);
	items = kapi_items(desc, offsetof(KFetchResponseTopic, partitions), n, NULL);
	for (int32 i = 0; i < n; i++)
	{
		KFetchResponseTopic *topic;

		if (i == 0 || !same_topic(parts[i], parts[i - 1]))
		{
			topic = &resp.responses.items[resp.responses.count++];
			topic->topic = parts[i]->topic;
			topic->topic_id = parts[i]->topic_id;
			topic->partitions.items = &items[i];
			topic->partitions.count = 0;
		}
		topic = &resp.responses.items[resp.responses.count - 1];
		topic->partitions.items[topic->partitions.count++] = *outs[i];
		fenced |= outs[i]->error_code == KERR_FENCED_LEADER_EPOCH;
	}
	if (fenced && req->version >= 16)
	{
		KApiNodes	nodes;
		KApiNode   *leader;

		kapi_nodes(req->conn, &nodes);
		leader = &nodes.node[nodes.leader];
		resp.node_endpoints.count = 1;
		resp.node_endpoints.items = kapi_items(&kmsg_fetch_response,
											   offsetof(KFetchResponse, node_endpoints), 1, NULL);
		resp.node_endpoints.items[0].node_id = leader->id;
		resp.node_endpoints.items[0].host = leader->host;
		resp.node_endpoints.items[0].port = leader->port;
		resp.node_endpoints.items[0].rack = leader->rack;
	}
	kapi_answer(req, &resp);
}

static void
fetch_step(KRequest * req)
{
	FetchWork  *work = req->work;
	bool		late = kapi_now() >= work->deadline;
	size_t		room;

	if (bytes_turn != kapi_turn())
	{
		bytes_turn = kapi_turn();
		bytes_read = 0;
	}
	if (bytes_read >= MAX_TURN)
	{
		kapi_wait_turn(req, fetch_step);
		return;
	}

	/* Where answers pile up that nobody takes, no more are made, unless time is over. */
	room = kapi_io->answer_room();
	if (room == 0 && !late)
	{
		kapi_wait_retry(req, fetch_step);
		kapi_wait_until(req, work->deadline, fetch_step);
		return;
	}
	work->max_bytes = Min(work->wanted, Max(room, 1));
	attempt(req);

	/* Pages on disk are worth waiting for even if the client would not: it could never get them. */
	if (work->cold && work->total == 0 && !work->failed && kapi_now() < work->cold_deadline)
	{
		forget_records(req);
		if (work->busy)
			kapi_wait_retry(req, fetch_step);
		kapi_wait_poll(req, fetch_step);
		kapi_wait_until(req, Min(work->cold_deadline, kapi_now() + KAPI_COLD_AGAIN), fetch_step);
		return;
	}
	if (late || work->failed || !work->readable || work->total >= work->min_bytes)
	{
		fetch_answer(req);
		return;
	}

	forget_records(req);
	if (work->busy)
		kapi_wait_retry(req, fetch_step);
	else
		kapi_wait_progress(req);
	watch_partitions(req);
	kapi_wait_until(req, work->deadline, fetch_step);
}

/*
 * How much an answer has at most, as far as the request alone says.  One that a client wants to be
 * large is: batches are whole, so that only half of a limit is sure to be reached.
 */
static Size
response_limit(KRequest * req)
{
	const		KFetchRequest *body = req->body;
	FetchWork  *work = req->work;
	Size		limit = Min(Max(body->max_bytes, 0), MAX_RESPONSE);
	Size		shares = 0;

	if (limit <= NEAR_RESPONSE || body->min_bytes > NEAR_RESPONSE / 2)
		return limit;
	for (int32 i = 0; i < work->nparts && shares <= NEAR_RESPONSE; i++)
		shares += Max(work->parts[i].in.partition_max_bytes, 0);
	if (shares <= NEAR_RESPONSE ||
		kapi_io->round_trip(req->conn->io_conn) >= (uint32) kguc_test_near_round_trip)
		return limit;
	return NEAR_RESPONSE;
}

void
kapi_fetch(KRequest * req)
{
	const		KFetchRequest *body = req->body;
	FetchWork  *work;
	int16		error;
	const		KMsgDesc *desc;

	if (body->isolation_level != 0 && body->isolation_level != 1)
	{
		/* There are no others; Kafka finds no better word either. */
		kapi_fail(req, KERR_UNKNOWN_SERVER_ERROR);
		return;
	}
	work = palloc0(sizeof(FetchWork));
	error = kapi_session_begin(req, &work->context, &work->parts, &work->nparts);
	if (error != 0)
	{
		KFetchResponse resp;

		kmsg_init(&kmsg_fetch_response, &resp);
		resp.error_code = error;
		kapi_answer(req, &resp);
		return;
	}
	req->work = work;
	kapi_items(&kmsg_fetch_response, offsetof(KFetchResponse, responses), 0, &desc);
	work->outs = kapi_items(desc, offsetof(KFetchResponseTopic, partitions), work->nparts, NULL);
	work->refused = palloc_extended(Max(work->nparts, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int32 i = 0; i < work->nparts; i++)
		work->outs[i].partition_index = work->parts[i].in.partition;
	work->records = AllocSetContextCreate(req->ctx, "kafka fetched records",
										  ALLOCSET_DEFAULT_SIZES);
	if (work->context.mode != KFETCH_INCREMENTAL && req->conn->fetch_cache != NULL)
		work->first = kapi_turn_find(&req->conn->fetch_cache->turn, work->parts, work->nparts);
	work->wanted = response_limit(req);
	work->min_bytes = Min((Size) Max(body->min_bytes, 0), work->wanted);
	work->deadline = kapi_now() + Max(body->max_wait_ms, 0);
	work->cold_deadline = kapi_now() + Max(body->max_wait_ms, COLD_LIMIT);
	fetch_step(req);
}
