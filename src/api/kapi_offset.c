/*
 * kapi_offset.c
 *		ListOffsets: where a partition begins and ends, and what was written when.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "api/kapi_request.h"
#include "api/kapi_wait.h"

/* Timestamps that mean something else. */
#define TS_LATEST					INT64CONST(-1)
#define TS_EARLIEST					INT64CONST(-2)
#define TS_MAX_TIMESTAMP			INT64CONST(-3)
#define TS_EARLIEST_LOCAL			INT64CONST(-4)
#define TS_LATEST_TIERED			INT64CONST(-5)
#define TS_EARLIEST_PENDING_UPLOAD	INT64CONST(-6)

/* A turn's share of one request: searches by time look at pages, the others do not. */
#define MAX_SEARCHES	16
#define MAX_PARTITIONS	512

/* So much is brought in from disk with a page that is looked at, and where all is read. */
#define READ_AHEAD		(64 * 1024)
#define READ_AHEAD_ALL	(1024 * 1024)

/* So long the pages that a search needs are waited for; Kafka's clients wait 30 s by default. */
#define COLD_LIMIT		20000	/* ms */

typedef enum LookUp
{
	LOOK_UP_DONE,
	LOOK_UP_BUSY,				/* a lock was not free */
	LOOK_UP_COLD,				/* pages are on their way from disk */
	LOOK_UP_MORE				/* it takes more than a turn */
} LookUp;

typedef struct OffsetWork
{
	KListOffsetsResponse resp;
	/* the next partition to look at */
	int32		topic;
	int32		partition;
	KLogSearch	search;			/* in that one */
	KColdPage	cold;
} OffsetWork;

static void
set_error(KListOffsetsResponsePartition * out, int16 error)
{
	out->error_code = error;
	out->timestamp = -1;
	out->offset = -1;
	out->leader_epoch = -1;
}

/* The answer's shape, with one partition for each that is asked for. */
static void
make_response(KRequest * req, KListOffsetsResponse * resp)
{
	const		KListOffsetsRequest *body = req->body;
	const		KMsgDesc *desc;
	int32		n = Max(body->topics.count, 0);

	kmsg_init(&kmsg_list_offsets_response, resp);
	resp->topics.count = n;
	resp->topics.items = kapi_items(&kmsg_list_offsets_response,
									offsetof(KListOffsetsResponse, topics), n, &desc);
	for (int32 i = 0; i < n; i++)
	{
		KListOffsetsRequestTopic *in = &body->topics.items[i];
		KListOffsetsResponseTopic *out = &resp->topics.items[i];
		int32		np = Max(in->partitions.count, 0);

		out->name = in->name;
		out->partitions.count = np;
		out->partitions.items = kapi_items(desc, offsetof(KListOffsetsResponseTopic, partitions),
										   np, NULL);
		for (int32 p = 0; p < np; p++)
			out->partitions.items[p].partition_index = in->partitions.items[p].partition_index;
	}
}

void
kapi_list_offsets_fail(KRequest * req, int16 error)
{
	KListOffsetsResponse resp;

	make_response(req, &resp);
	for (int32 i = 0; i < resp.topics.count; i++)
	{
		for (int32 p = 0; p < resp.topics.items[i].partitions.count; p++)
			set_error(&resp.topics.items[i].partitions.items[p], error);
	}
	kapi_answer(req, &resp);
}

/* Is the special timestamp one that came with a later version of the request? */
static bool
is_unsupported(int64 timestamp, int version)
{
	switch (timestamp)
	{
		case TS_LATEST:
		case TS_EARLIEST:
			return false;
		case TS_MAX_TIMESTAMP:
			return version < 7;
		case TS_EARLIEST_LOCAL:
			return version < 8;
		case TS_LATEST_TIERED:
			return version < 9;
		case TS_EARLIEST_PENDING_UPLOAD:
			return version < 11;
		default:
			return timestamp < 0;
	}
}

/* What the client asked for, of a partition that it may see. */
static LookUp
look_up(KRequest * req, const KTopic * topic, const KListOffsetsRequestPartition * in,
		KListOffsetsResponsePartition * out)
{
	OffsetWork *work = req->work;
	bool		busy;
	Relation	rel;
	KLogPartition *part;
	KLogFound	found = {-1, -1, -1};

	rel = kapi_relation(topic->relid, AccessShareLock, &busy);
	if (rel == NULL)
	{
		if (!busy)
			set_error(out, KERR_UNKNOWN_TOPIC_OR_PARTITION);
		return busy ? LOOK_UP_BUSY : LOOK_UP_DONE;
	}
	part = klog_attach(rel, in->partition_index, true);
	if (part == NULL)
		return LOOK_UP_BUSY;

	work->search.cold = KLOG_NO_POSITION;
	work->search.more = false;

	/* There are no Kafka transactions yet: the last stable offset is the high watermark. */
	switch (in->timestamp)
	{
		case TS_LATEST:
			found.offset = klog_high_watermark(part);
			found.leader_epoch = kepoch_latest();
			break;
		case TS_EARLIEST:
		case TS_EARLIEST_LOCAL:
			found.offset = klog_log_start(part);
			if (found.offset < klog_high_watermark(part))
				found.leader_epoch = klog_epoch_at(rel, part, found.offset, &work->search.cold);
			if (found.leader_epoch < 0)
				found.leader_epoch = kepoch_latest();
			break;
		case TS_LATEST_TIERED:
		case TS_EARLIEST_PENDING_UPLOAD:
			/* Nothing is tiered. */
			break;
		case TS_MAX_TIMESTAMP:
			found = klog_find_max_timestamp(rel, part, klog_high_watermark(part), &work->search);
			break;
		default:
			found = klog_find_timestamp(rel, part, in->timestamp, klog_high_watermark(part),
										&work->search);
			break;
	}
	if (work->search.cold.page != 0)
	{
		kapi_ask_reader(rel, part, work->search.cold,
						work->search.reading ? READ_AHEAD_ALL : READ_AHEAD, &work->cold);
		return LOOK_UP_COLD;
	}
	if (work->search.more)
		return LOOK_UP_MORE;
	out->offset = found.offset;
	out->timestamp = found.timestamp;
	out->leader_epoch = req->version >= 4 ? found.leader_epoch : -1;
	return LOOK_UP_DONE;
}

static void
list_offsets_step(KRequest * req)
{
	const		KListOffsetsRequest *body = req->body;
	OffsetWork *work = req->work;
	Oid			role = kapi_role(req);
	int			partitions = 0;
	int			searches = 0;

	for (; work->topic < work->resp.topics.count; work->topic++, work->partition = 0)
	{
		KListOffsetsRequestTopic *in = &body->topics.items[work->topic];
		KListOffsetsResponseTopic *out = &work->resp.topics.items[work->topic];
		bool		busy;
		const		KTopic *topic;
		bool		may;

		topic = kapi_topic(in->name, &busy);
		if (busy)
		{
			kapi_retry(req, list_offsets_step);
			return;
		}
		may = topic != NULL && kacl_topic_describe(topic->relid, role);
		for (; work->partition < out->partitions.count; work->partition++)
		{
			KListOffsetsRequestPartition *in_part = &in->partitions.items[work->partition];
			KListOffsetsResponsePartition *out_part = &out->partitions.items[work->partition];
			int16		error = out_part->error_code;

			/* The duplicates are marked already. */
			if (topic != NULL && !may)
				error = KERR_TOPIC_AUTHORIZATION_FAILED;
			else if (error == 0 && is_unsupported(in_part->timestamp, req->version))
				error = KERR_UNSUPPORTED_VERSION;
			else if (error == 0 && (topic == NULL || in_part->partition_index < 0 ||
									in_part->partition_index >= topic->partitions))
				error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
			else if (error == 0)
				error = kapi_check_epoch(in_part->current_leader_epoch);
			if (error != 0)
			{
				set_error(out_part, error);
				continue;
			}
			if (partitions >= MAX_PARTITIONS || searches >= MAX_SEARCHES)
			{
				kapi_wait_turn(req, list_offsets_step);
				return;
			}
			partitions++;
			if (in_part->timestamp >= 0 || in_part->timestamp == TS_MAX_TIMESTAMP)
				searches++;
			switch (look_up(req, topic, in_part, out_part))
			{
				case LOOK_UP_DONE:
					break;
				case LOOK_UP_BUSY:
					kapi_retry(req, list_offsets_step);
					return;
				case LOOK_UP_COLD:
				case LOOK_UP_MORE:
					if (kapi_now() - req->begun > COLD_LIMIT)
					{
						set_error(out_part, KERR_REQUEST_TIMED_OUT);
						break;
					}
					if (work->search.more)
					{
						kapi_wait_turn(req, list_offsets_step);
						return;
					}
					kapi_wait_poll(req, list_offsets_step);
					kapi_wait_until(req, kapi_now() + KAPI_COLD_AGAIN, list_offsets_step);
					return;
			}
			work->search = (KLogSearch) {0};
			work->cold = (KColdPage) {0};
			kapi_wait_progress(req);
		}
	}
	kapi_answer(req, &work->resp);
}

typedef struct PartitionKey
{
	KStr		topic;
	int32		partition;
	int32		i;				/* where in the answer */
	int32		p;
} PartitionKey;

static int
compare_keys(const void *a, const void *b)
{
	const PartitionKey *x = a;
	const PartitionKey *y = b;
	int			c;

	if (x->topic.len != y->topic.len)
		return x->topic.len < y->topic.len ? -1 : 1;
	c = x->topic.len > 0 ? memcmp(x->topic.data, y->topic.data, x->topic.len) : 0;
	if (c != 0)
		return c;
	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	if (x->i != y->i)
		return x->i < y->i ? -1 : 1;
	return x->p < y->p ? -1 : x->p > y->p ? 1 : 0;
}

/* Partitions named more than once are refused, as Kafka does. */
static void
mark_duplicates(KListOffsetsResponse * resp)
{
	PartitionKey *keys;
	Size		n = 0;
	Size		total = 0;

	for (int32 i = 0; i < resp->topics.count; i++)
		total += resp->topics.items[i].partitions.count;
	keys = palloc_extended(Max(total, 1) * sizeof(PartitionKey), MCXT_ALLOC_HUGE);
	for (int32 i = 0; i < resp->topics.count; i++)
	{
		for (int32 p = 0; p < resp->topics.items[i].partitions.count; p++)
		{
			keys[n].topic = resp->topics.items[i].name;
			keys[n].partition = resp->topics.items[i].partitions.items[p].partition_index;
			keys[n].i = i;
			keys[n++].p = p;
		}
	}
	qsort(keys, n, sizeof(PartitionKey), compare_keys);
	for (Size k = 1; k < n; k++)
	{
		PartitionKey *a = &keys[k - 1];
		PartitionKey *b = &keys[k];

		if (a->partition != b->partition || a->topic.len != b->topic.len ||
			(a->topic.len > 0 && memcmp(a->topic.data, b->topic.data, a->topic.len) != 0))
			continue;
		resp->topics.items[a->i].partitions.items[a->p].error_code = KERR_INVALID_REQUEST;
		resp->topics.items[b->i].partitions.items[b->p].error_code = KERR_INVALID_REQUEST;
	}
	pfree(keys);
}

void
kapi_list_offsets(KRequest * req)
{
	const		KListOffsetsRequest *body = req->body;
	OffsetWork *work = palloc0(sizeof(OffsetWork));

	if (body->isolation_level != 0 && body->isolation_level != 1)
	{
		/* There are no others; Kafka finds no better word either. */
		kapi_fail(req, KERR_UNKNOWN_SERVER_ERROR);
		return;
	}

	make_response(req, &work->resp);
	mark_duplicates(&work->resp);
	req->work = work;
	list_offsets_step(req);
}
