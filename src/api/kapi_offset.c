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
	LOOK_UP_COLD,				/* pages or the state are on their way from disk */
	LOOK_UP_MORE				/* it takes more than a turn */
} LookUp;

/* A partition to be looked at. */
typedef struct OffsetPart
{
	KStr		topic;
	const KListOffsetsRequestPartition *in;
	KListOffsetsResponsePartition *out;
	bool		twice;			/* the request has it more than once */
} OffsetPart;

typedef struct OffsetWork
{
	KListOffsetsResponse resp;
	OffsetPart *parts;
	int32		nparts;
	int32		next;			/* the next one to look at */
	KLogSearch	search;			/* in that one */
	KColdPages	cold;
} OffsetWork;

static void
set_error(KListOffsetsResponsePartition * out, int16 error)
{
	out->error_code = error;
	out->timestamp = -1;
	out->offset = -1;
	out->leader_epoch = -1;
}

static OffsetWork *
make_work(KRequest * req)
{
	const		KListOffsetsRequest *body = req->body;
	OffsetWork *work = palloc0(sizeof(OffsetWork));
	KListOffsetsResponse *resp = &work->resp;
	const		KMsgDesc *desc;
	int32		ntopics = Max(body->topics.count, 0);
	int32		n = 0;
	int32		k = 0;
	KStr	   *topics = palloc_extended((ntopics + 1) * sizeof(KStr), MCXT_ALLOC_HUGE);
	int32	   *counts = palloc_extended((ntopics + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	int32	   *indexes;
	KApiShape	shape;

	for (int32 i = 0; i < ntopics; i++)
	{
		topics[i] = body->topics.items[i].name;
		counts[i] = Max(body->topics.items[i].partitions.count, 0);
		n += counts[i];
	}
	indexes = palloc_extended((n + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	for (int32 i = 0; i < ntopics; i++)
	{
		for (int32 p = 0; p < counts[i]; p++)
			indexes[k++] = body->topics.items[i].partitions.items[p].partition_index;
	}
	kapi_shape(topics, counts, ntopics, indexes, &shape);

	kmsg_init(&kmsg_list_offsets_response, resp);
	resp->topics.count = shape.ntopics;
	resp->topics.items = kapi_items(&kmsg_list_offsets_response,
									offsetof(KListOffsetsResponse, topics), shape.ntopics, &desc);
	for (int32 t = 0; t < shape.ntopics; t++)
	{
		KListOffsetsResponseTopic *out = &resp->topics.items[t];

		out->name = topics[shape.source[t]];
		out->partitions.items = kapi_items(desc, offsetof(KListOffsetsResponseTopic, partitions),
										   shape.counts[t], NULL);
	}
	work->parts = palloc_extended((shape.nparts + 1) * sizeof(OffsetPart),
								  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	k = 0;
	for (int32 i = 0; i < ntopics; i++)
	{
		for (int32 p = 0; p < counts[i]; p++, k++)
		{
			KListOffsetsResponseTopic *out = &resp->topics.items[shape.topic[k]];
			OffsetPart *part = &work->parts[shape.part[k]];

			if (shape.part[k] != work->nparts)
			{
				part->twice = true;
				continue;
			}
			work->nparts++;
			part->topic = topics[i];
			part->in = &body->topics.items[i].partitions.items[p];
			part->out = &out->partitions.items[out->partitions.count++];
			part->out->partition_index = indexes[k];
		}
	}
	return work;
}

void
kapi_list_offsets_fail(KRequest * req, int16 error)
{
	OffsetWork *work = make_work(req);

	for (int32 i = 0; i < work->nparts; i++)
		set_error(work->parts[i].out, error);
	kapi_answer(req, &work->resp);
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
	bool		failed;
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
	part = kapi_partition(rel, in->partition_index, &failed);
	if (failed)
	{
		set_error(out, KERR_KAFKA_STORAGE_ERROR);
		return LOOK_UP_DONE;
	}
	if (part == NULL)
		return LOOK_UP_COLD;

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
		if (kapi_ask_reader(rel, part, work->search.cold,
							work->search.reading ? READ_AHEAD_ALL : READ_AHEAD, &work->cold))
			return LOOK_UP_COLD;
		set_error(out, KERR_KAFKA_STORAGE_ERROR);
		return LOOK_UP_DONE;
	}
	if (work->search.more)
		return LOOK_UP_MORE;
	out->offset = found.offset;
	out->timestamp = found.timestamp;
	out->leader_epoch = req->version >= 4 ? found.leader_epoch : -1;
	return LOOK_UP_DONE;
}

/* Kafka's error for a partition that is not looked at, or 0. */
static int16
refusal(KRequest * req, const OffsetPart *part, const KTopic * topic, bool may)
{
	if (topic != NULL && !may)
		return KERR_TOPIC_AUTHORIZATION_FAILED;
	if (part->twice)
		return KERR_INVALID_REQUEST;
	if (is_unsupported(part->in->timestamp, req->version))
		return KERR_UNSUPPORTED_VERSION;
	if (topic == NULL || part->in->partition_index < 0 ||
		part->in->partition_index >= topic->partitions)
		return KERR_UNKNOWN_TOPIC_OR_PARTITION;
	return kapi_check_epoch(part->in->current_leader_epoch);
}

static void
list_offsets_step(KRequest * req)
{
	OffsetWork *work = req->work;
	Oid			role = kapi_role(req);
	const char *name = NULL;	/* of the topic looked up last */
	const		KTopic *topic = NULL;
	bool		may = false;
	int			partitions = 0;
	int			searches = 0;

	for (; work->next < work->nparts; work->next++)
	{
		OffsetPart *part = &work->parts[work->next];
		int16		error;

		if (name == NULL || name != part->topic.data)
		{
			bool		busy;

			topic = kapi_topic(part->topic, &busy);
			if (busy)
			{
				kapi_retry(req, list_offsets_step);
				return;
			}
			name = part->topic.data;
			may = topic != NULL && kacl_topic_describe(topic->relid, role);
		}
		error = refusal(req, part, topic, may);
		if (error != 0)
		{
			set_error(part->out, error);
			work->search = (KLogSearch) {0};
			work->cold = (KColdPages) {0};
			continue;
		}
		if (partitions >= MAX_PARTITIONS || searches >= MAX_SEARCHES)
		{
			kapi_wait_turn(req, list_offsets_step);
			return;
		}
		partitions++;
		if (part->in->timestamp >= 0 || part->in->timestamp == TS_MAX_TIMESTAMP)
			searches++;
		switch (look_up(req, topic, part->in, part->out))
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
					set_error(part->out, KERR_REQUEST_TIMED_OUT);
					break;
				}
				if (work->search.more)
				{
					kapi_wait_turn(req, list_offsets_step);
					return;
				}
				kapi_wait_poll(req, list_offsets_step);
				kapi_wait_retry(req, list_offsets_step);
				kapi_wait_until(req, kapi_now() + KAPI_COLD_AGAIN, list_offsets_step);
				return;
		}
		work->search = (KLogSearch) {0};
		work->cold = (KColdPages) {0};
		kapi_wait_progress(req);
	}
	kapi_answer(req, &work->resp);
}

void
kapi_list_offsets(KRequest * req)
{
	const		KListOffsetsRequest *body = req->body;

	if (body->isolation_level != 0 && body->isolation_level != 1)
	{
		/* There are no others; Kafka finds no better word either. */
		kapi_fail(req, KERR_UNKNOWN_SERVER_ERROR);
		return;
	}
	req->work = make_work(req);
	list_offsets_step(req);
}
