/*
 * kapi_epoch.c
 *		OffsetForLeaderEpoch: where the batches of a leader epoch end, so that a consumer notices
 *		when what it has read was lost with an old primary.
 */
#include "postgres.h"

#include "api/kapi_epoch.h"
#include "api/kapi_request.h"
#include "api/kapi_wait.h"

/* A turn's share of one request. */
#define MAX_PARTITIONS	64

/* So much is brought in from disk with a page that is looked at. */
#define READ_AHEAD		(64 * 1024)
#define COLD_LIMIT		20000	/* ms */

KLogResult
kapi_epoch_end(Relation rel, KLogPartition *part, int32 epoch, KLogEpochEnd *end,
			   KColdPages *last)
{
	int32		current = kepoch_latest();
	KLogPosition cold;
	KLogResult	result;

	if (epoch == -1 || epoch > current)
	{
		end->epoch = -1;
		end->end_offset = -1;
		return KLOG_OK;
	}
	if (epoch == current)
	{
		end->epoch = current;
		end->end_offset = klog_end_offset(part);
		return KLOG_OK;
	}
	result = klog_epoch_end(rel, part, epoch, end, &cold);
	if (result == KLOG_COLD && !kapi_ask_reader(rel, part, cold, READ_AHEAD, last))
		result = KLOG_CORRUPT;

	/* Before everything that the log has: it ends where that begins. */
	if (result == KLOG_OK && end->epoch == -1)
		end->epoch = epoch;
	return result;
}

typedef struct EpochWork
{
	KOffsetForLeaderEpochResponse resp;
	/* the next partition to look at */
	int32		topic;
	int32		partition;
	KColdPages	cold;			/* of that one */
} EpochWork;

static void
set_error(KOffsetForLeaderEpochResponsePartition *out, int16 error)
{
	out->error_code = error;
	out->leader_epoch = -1;
	out->end_offset = -1;
}

static void
make_response(KRequest *req, KOffsetForLeaderEpochResponse *resp)
{
	const		KOffsetForLeaderEpochRequest *body = req->body;
	const		KMsgDesc *desc;
	int32		n = Max(body->topics.count, 0);

	kmsg_init(&kmsg_offset_for_leader_epoch_response, resp);
	resp->topics.count = n;
	resp->topics.items = kapi_items(&kmsg_offset_for_leader_epoch_response,
									offsetof(KOffsetForLeaderEpochResponse, topics), n, &desc);
	for (int32 i = 0; i < n; i++)
	{
		KOffsetForLeaderEpochRequestTopic *in = &body->topics.items[i];
		KOffsetForLeaderEpochResponseTopic *out = &resp->topics.items[i];
		int32		np = Max(in->partitions.count, 0);

		out->topic = in->topic;
		out->partitions.count = np;
		out->partitions.items =
			kapi_items(desc, offsetof(KOffsetForLeaderEpochResponseTopic, partitions), np, NULL);
		for (int32 p = 0; p < np; p++)
			out->partitions.items[p].partition = in->partitions.items[p].partition;
	}
}

void
kapi_offset_for_leader_epoch_fail(KRequest *req, int16 error)
{
	KOffsetForLeaderEpochResponse resp;

	make_response(req, &resp);
	for (int32 i = 0; i < resp.topics.count; i++)
	{
		for (int32 p = 0; p < resp.topics.items[i].partitions.count; p++)
			set_error(&resp.topics.items[i].partitions.items[p], error);
	}
	kapi_answer(req, &resp);
}

/* One partition that the client may see.  KLOG_BUSY, KLOG_COLD: not now. */
static KLogResult
look_up(const KTopic *topic, const KOffsetForLeaderEpochRequestPartition *in,
		KOffsetForLeaderEpochResponsePartition *out, KColdPages *cold)
{
	bool		busy;
	bool		failed;
	Relation	rel = kapi_relation(topic->relid, AccessShareLock, &busy);
	KLogPartition *part;
	KLogEpochEnd end;
	KLogResult	result;

	if (rel == NULL)
	{
		if (busy)
			return KLOG_BUSY;
		set_error(out, KERR_UNKNOWN_TOPIC_OR_PARTITION);
		return KLOG_OK;
	}
	part = kapi_partition(rel, in->partition, &failed);
	if (part == NULL && !failed)
		return KLOG_COLD;
	result = failed ? KLOG_CORRUPT : kapi_epoch_end(rel, part, in->leader_epoch, &end, cold);
	if (result == KLOG_OK)
	{
		out->leader_epoch = end.epoch;
		out->end_offset = end.end_offset;
	}
	else if (result != KLOG_COLD)
	{
		set_error(out, KERR_KAFKA_STORAGE_ERROR);
		result = KLOG_OK;
	}
	return result;
}

static void
epoch_step(KRequest *req)
{
	const		KOffsetForLeaderEpochRequest *body = req->body;
	EpochWork  *work = req->work;
	Oid			role = kapi_role(req);
	int			partitions = 0;

	for (; work->topic < work->resp.topics.count; work->topic++, work->partition = 0)
	{
		KOffsetForLeaderEpochRequestTopic *in = &body->topics.items[work->topic];
		KOffsetForLeaderEpochResponseTopic *out = &work->resp.topics.items[work->topic];
		bool		busy;
		const		KTopic *topic = kapi_topic(in->topic, &busy);
		bool		may;

		if (busy)
		{
			kapi_retry(req, epoch_step);
			return;
		}
		may = topic != NULL && kacl_topic_describe(topic->relid, role);
		for (; work->partition < out->partitions.count; work->partition++)
		{
			KOffsetForLeaderEpochRequestPartition *in_part =
				&in->partitions.items[work->partition];
			KOffsetForLeaderEpochResponsePartition *out_part =
				&out->partitions.items[work->partition];
			int16		error;

			if (topic != NULL && !may)
				error = KERR_TOPIC_AUTHORIZATION_FAILED;
			else if (topic == NULL || in_part->partition < 0 ||
					 in_part->partition >= topic->partitions)
				error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
			else
				error = kapi_check_epoch(in_part->current_leader_epoch);
			if (error != 0)
			{
				set_error(out_part, error);
				continue;
			}
			if (partitions++ >= MAX_PARTITIONS)
			{
				kapi_wait_turn(req, epoch_step);
				return;
			}
			switch (look_up(topic, in_part, out_part, &work->cold))
			{
				case KLOG_BUSY:
					kapi_retry(req, epoch_step);
					return;
				case KLOG_COLD:
					if (kapi_now() - req->begun > COLD_LIMIT)
					{
						set_error(out_part, KERR_REQUEST_TIMED_OUT);
						break;
					}
					kapi_wait_poll(req, epoch_step);
					kapi_wait_retry(req, epoch_step);
					kapi_wait_until(req, kapi_now() + KAPI_COLD_AGAIN, epoch_step);
					return;
				default:
					break;
			}
			work->cold = (KColdPages) {0};
			kapi_wait_progress(req);
		}
	}
	kapi_answer(req, &work->resp);
}

void
kapi_offset_for_leader_epoch(KRequest *req)
{
	EpochWork  *work = palloc0(sizeof(EpochWork));

	make_response(req, &work->resp);
	req->work = work;
	epoch_step(req);
}
