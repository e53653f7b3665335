/*
 * kapi_group_fetch.c
 *		OffsetFetch.
 *
 * What is asked for is read in slices, each with a snapshot of its own: each offset is one that was
 * committed when the request was there, and they need not be of one moment.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "api/kapi_group.h"
#include "api/kapi_wait.h"
#include "group/koffset.h"

/* Offsets that are read at one time. */
#define SOME_OFFSETS	64

/* How far a fetch has come, and then the answer, while it waits for commits that it tells of. */
typedef struct Fetching
{
	MemoryContext ctx;			/* of all of this */
	const		KOffsetFetchRequestGroup *asked;
	KOffsetFetchResponseGroup *groups;
	int32		n;
	int32		next;			/* group */
	bool		begun;			/* it may be read, and has been in part: */
	int32		topic;			/* up to there, if topics are named */
	int32		partition;
	KCoordOffsets all;			/* these, if all are asked for */
	KOffsetFetchResponse resp;
	bool		missed;			/* an offset that is not there: it may have been deleted */
	XLogRecPtr	lsn;			/* of what is there */
} Fetching;

typedef enum FetchStep
{
	FETCH_DONE,
	FETCH_MORE,					/* go on in the next turn */
	FETCH_BUSY					/* try again later */
} FetchStep;

static void
fetch_durable(KRequest * req)
{
	Fetching   *work = req->work;

	if (work->missed && !kcoord_offset_missed(&work->lsn))
	{
		kapi_retry(req, fetch_durable);
		return;
	}
	work->missed = false;
	if (work->lsn > klog_durable_lsn())
		kapi_wait_lsn(req, work->lsn, true, fetch_durable);
	else
		kapi_answer(req, &work->resp);
}

/* The error of a whole group, and of an answer of the old versions. */
static void
fail_old(KRequest * req, KOffsetFetchResponse * resp, int16 error)
{
	const		KOffsetFetchRequest *body = req->body;

	resp->error_code = error;
	if (req->version >= 2)
		return;
	resp->topics.count = Max(body->topics.count, 0);
	resp->topics.items = kapi_items(&kmsg_offset_fetch_response,
									offsetof(KOffsetFetchResponse, topics), resp->topics.count,
									NULL);
	for (int32 t = 0; t < resp->topics.count; t++)
	{
		KOffsetFetchResponseTopic *to = &resp->topics.items[t];
		const		KOffsetFetchRequestTopic *from = &body->topics.items[t];

		to->name = from->name;
		to->partitions.count = from->partition_indexes.count;
		to->partitions.items = kapi_items(&kmsg_offset_fetch_response_topic,
										  offsetof(KOffsetFetchResponseTopic, partitions),
										  to->partitions.count, NULL);
		for (int32 p = 0; p < to->partitions.count; p++)
		{
			to->partitions.items[p].partition_index = from->partition_indexes.items[p];
			to->partitions.items[p].committed_offset = -1;
			to->partitions.items[p].metadata = kapi_kstr("");
			to->partitions.items[p].error_code = error;
		}
	}
}

void
kapi_offset_fetch_fail(KRequest * req, int16 error)
{
	const		KOffsetFetchRequest *body = req->body;
	KOffsetFetchResponse resp;

	kmsg_init(&kmsg_offset_fetch_response, &resp);
	if (req->version < 8)
		fail_old(req, &resp, error);
	else
	{
		resp.groups.count = body->groups.count;
		resp.groups.items = kapi_items(&kmsg_offset_fetch_response,
									   offsetof(KOffsetFetchResponse, groups),
									   resp.groups.count, NULL);
		for (int32 i = 0; i < resp.groups.count; i++)
		{
			resp.groups.items[i].group_id = body->groups.items[i].group_id;
			resp.groups.items[i].error_code = error;
		}
	}
	kapi_answer(req, &resp);
}

/* May the member of a version 9 or later see the group's offsets?  False: busy. */
static bool
check_fetch(const KOffsetFetchRequestGroup * group, int16 *error)
{
	KGroupWork	work;
	KCoordSlot *slot;
	KCoordLock	lock;
	uint8	   *image = NULL;
	size_t		len = 0;
	KGroup	   *g;

	*error = KERR_NONE;
	if (group->member_id.len < 0 && group->member_epoch < 0)
		return true;
	if (!kapi_group_work(&work))
		return false;
	lock = kcoord_lock(group->group_id, false, &slot);
	if (lock == KCOORD_LOCKED)
		image = kcoord_image(slot, &len);
	g = kapi_group_open(&work, group->group_id, image, len);
	if (lock == KCOORD_LOCKED)
		kcoord_unlock(slot);
	*error = g == NULL ? KERR_COORDINATOR_NOT_AVAILABLE :
		koffset_check_fetch(g, group->member_id, group->member_epoch);
	if (*error == KERR_GROUP_ID_NOT_FOUND)
		*error = KERR_NONE;
	kapi_group_work_end(&work);
	return true;
}

typedef KOffsetFetchResponseGroupPartition FetchPart;
typedef KOffsetFetchResponseGroupTopic FetchTopic;

static FetchPart *
make_parts(FetchTopic * topic, int32 n)
{
	topic->partitions.count = n;
	topic->partitions.items = kapi_items(&kmsg_offset_fetch_response_group_topic,
										 offsetof(FetchTopic, partitions), n, NULL);
	for (int32 p = 0; p < n; p++)
	{
		topic->partitions.items[p].committed_offset = -1;
		topic->partitions.items[p].committed_leader_epoch = -1;
		topic->partitions.items[p].metadata = kapi_kstr("");
	}
	return topic->partitions.items;
}

static void
tell_offset(FetchPart * part, const KCoordOffset * offset)
{
	part->partition_index = offset->partition;
	part->committed_offset = offset->offset;
	part->committed_leader_epoch = offset->leader_epoch;
	part->metadata = offset->metadata;
}

/* All offsets of a group, of topics that exist and that the client may describe.  False: busy. */
static bool
tell_all(KRequest * req, const KCoordOffsets * all, KOffsetFetchResponseGroup * out)
{
	const KCoordOffset *offsets = all->items;

	out->topics.count = 0;
	out->topics.items = kapi_items(&kmsg_offset_fetch_response_group,
								   offsetof(KOffsetFetchResponseGroup, topics), all->count, NULL);
	for (int first = 0, end; first < all->count; first = end)
	{
		const KUuid *id = &offsets[first].topic_id;
		const		KTopic *topic;
		FetchPart  *parts;
		bool		busy;
		int16		error;

		/* they come in the order of the key */
		for (end = first + 1; end < all->count; end++)
		{
			if (memcmp(&offsets[end].topic_id, id, sizeof(KUuid)) != 0)
				break;
		}
		error = kapi_group_topic(req, true, KSTR_NULL, id, true, &topic, &busy);
		if (busy)
			return false;
		if (error != KERR_NONE)
			continue;
		out->topics.items[out->topics.count].name = kapi_kstr(pstrdup(topic->name));
		out->topics.items[out->topics.count].topic_id = *id;
		parts = make_parts(&out->topics.items[out->topics.count++], end - first);
		for (int i = first; i < end; i++)
			tell_offset(&parts[i - first], &offsets[i]);
	}
	return true;
}

static FetchStep
fetch_all(KRequest * req, KCoordTable * table, KStr group_id, KOffsetFetchResponseGroup * out,
		  Fetching * work)
{
	while (kcoord_offset_list(table, group_id, SOME_OFFSETS, &work->all, &work->lsn))
	{
		if (kapi_group_share_used())
			return FETCH_MORE;
	}
	work->missed = true;
	return tell_all(req, &work->all, out) ? FETCH_DONE : FETCH_BUSY;
}

/* Goes on with the partitions of one topic. */
static FetchStep
fetch_topic(KRequest * req, KCoordTable * table, KStr group_id,
			const KOffsetFetchRequestGroupTopic * from, FetchTopic * to, Fetching * work)
{
	FetchPart  *parts = to->partitions.items;
	const		KTopic *topic;
	bool		busy;
	int16		error = kapi_group_topic(req, req->version >= 10, from->name, &from->topic_id, true,
										 &topic, &busy);

	if (busy)
		return FETCH_BUSY;
	/* of a name that there is not, nothing is committed */
	if (error == KERR_UNKNOWN_TOPIC_OR_PARTITION)
		error = KERR_NONE;
	while (work->partition < to->partitions.count)
	{
		int32		p = work->partition++;
		KCoordOffset offset;
		KUuid		id;

		parts[p].partition_index = from->partition_indexes.items[p];
		parts[p].error_code = error;
		if (error != KERR_NONE || topic == NULL)
			continue;
		id = kapi_uuid(&topic->id);
		if (kcoord_offset_get(table, group_id, &id, parts[p].partition_index, &offset, &work->lsn))
			tell_offset(&parts[p], &offset);
		else
			work->missed = true;
		if (p % SOME_OFFSETS == SOME_OFFSETS - 1 && kapi_group_share_used())
			return FETCH_MORE;
	}
	return FETCH_DONE;
}

static FetchStep
fetch_named(KRequest * req, KCoordTable * table, const KOffsetFetchRequestGroup * group,
			KOffsetFetchResponseGroup * out, Fetching * work)
{
	for (; work->topic < group->topics.count; work->topic++)
	{
		const		KOffsetFetchRequestGroupTopic *from = &group->topics.items[work->topic];
		FetchTopic *to = &out->topics.items[work->topic];
		FetchStep	step;

		if (to->partitions.items == NULL)
		{
			to->name = from->name;
			to->topic_id = from->topic_id;
			make_parts(to, from->partition_indexes.count);
			work->partition = 0;
		}
		step = fetch_topic(req, table, group->group_id, from, to, work);
		if (step != FETCH_DONE)
			return step;
		if (work->topic + 1 < group->topics.count && kapi_group_share_used())
		{
			work->topic++;
			return FETCH_MORE;
		}
	}
	return FETCH_DONE;
}

/* May the group be read?  False: busy. */
static bool
begin_group(KRequest * req, const KOffsetFetchRequestGroup * group,
			KOffsetFetchResponseGroup * out, Fetching * work)
{
	out->group_id = group->group_id;
	out->error_code = kapi_group_check(group->group_id);
	if (out->error_code == KERR_NONE && work->n > 1 &&
		MemoryContextMemAllocated(work->ctx, false) > KAPI_GROUP_ANSWER_MAX)
		out->error_code = KERR_COORDINATOR_NOT_AVAILABLE;
	if (out->error_code == KERR_NONE && req->version >= 9 &&
		!check_fetch(group, &out->error_code))
		return false;
	work->begun = true;
	work->topic = 0;
	work->all = (KCoordOffsets) {0};
	if (out->error_code == KERR_NONE && group->topics.count >= 0)
	{
		out->topics.count = group->topics.count;
		out->topics.items = kapi_items(&kmsg_offset_fetch_response_group,
									   offsetof(KOffsetFetchResponseGroup, topics),
									   group->topics.count, NULL);
	}
	return true;
}

static FetchStep
fetch_groups(KRequest * req, KCoordTable * table, Fetching * work)
{
	/* the first of a turn begins its share */
	(void) kapi_group_share_used();
	for (; work->next < work->n; work->next++)
	{
		const		KOffsetFetchRequestGroup *group = &work->asked[work->next];
		KOffsetFetchResponseGroup *out = &work->groups[work->next];
		FetchStep	step = FETCH_DONE;

		if (!work->begun && !begin_group(req, group, out, work))
			return FETCH_BUSY;
		if (out->error_code == KERR_NONE)
			step = group->topics.count < 0 ?
				fetch_all(req, table, group->group_id, out, work) :
				fetch_named(req, table, group, out, work);
		if (step != FETCH_DONE)
			return step;
		work->begun = false;
		if (work->next + 1 < work->n && kapi_group_share_used())
		{
			work->next++;
			return FETCH_MORE;
		}
	}
	return FETCH_DONE;
}

/* The only group of an old version, as a group of the new ones; topics keep their layout. */
static KOffsetFetchRequestGroup *
group_of_old(const KOffsetFetchRequest * body)
{
	KOffsetFetchRequestGroup *group = palloc0_object(KOffsetFetchRequestGroup);

	group->group_id = body->group_id;
	group->member_id = KSTR_NULL;
	group->member_epoch = -1;
	group->topics.count = body->topics.count;
	group->topics.items = kapi_items(&kmsg_offset_fetch_request_group,
									 offsetof(KOffsetFetchRequestGroup, topics),
									 Max(body->topics.count, 0), NULL);
	for (int32 t = 0; t < body->topics.count; t++)
	{
		group->topics.items[t].name = body->topics.items[t].name;
		group->topics.items[t].partition_indexes = body->topics.items[t].partition_indexes;
	}
	return group;
}

static void
old_of_group(KRequest * req, const KOffsetFetchResponseGroup * group, KOffsetFetchResponse * resp)
{
	if (group->error_code != KERR_NONE)
	{
		fail_old(req, resp, group->error_code);
		return;
	}
	resp->topics.count = group->topics.count;
	resp->topics.items = kapi_items(&kmsg_offset_fetch_response,
									offsetof(KOffsetFetchResponse, topics), resp->topics.count,
									NULL);
	for (int32 t = 0; t < resp->topics.count; t++)
	{
		const		FetchTopic *from = &group->topics.items[t];
		KOffsetFetchResponseTopic *to = &resp->topics.items[t];

		to->name = from->name;
		to->partitions.count = from->partitions.count;
		to->partitions.items = kapi_items(&kmsg_offset_fetch_response_topic,
										  offsetof(KOffsetFetchResponseTopic, partitions),
										  to->partitions.count, NULL);
		for (int32 p = 0; p < to->partitions.count; p++)
		{
			const		FetchPart *part = &from->partitions.items[p];

			to->partitions.items[p].partition_index = part->partition_index;
			to->partitions.items[p].committed_offset = part->committed_offset;
			to->partitions.items[p].committed_leader_epoch = part->committed_leader_epoch;
			to->partitions.items[p].metadata = part->metadata;
			to->partitions.items[p].error_code = part->error_code;
		}
	}
}

static void
fetch_step(KRequest * req)
{
	Fetching   *work = req->work;
	FetchStep	step = FETCH_BUSY;
	KCoordTable table;
	bool		busy;

	MemoryContextSwitchTo(work->ctx);
	kapi_txn();
	if (kcoord_offset_open(&table, AccessShareLock, &busy))
	{
		PushActiveSnapshot(GetLatestSnapshot());
		step = fetch_groups(req, &table, work);
		PopActiveSnapshot();
		kcoord_table_close(&table);
	}
	switch (step)
	{
		case FETCH_BUSY:
			kapi_retry(req, fetch_step);
			return;
		case FETCH_MORE:
			kapi_wait_progress(req);
			kapi_wait_turn(req, fetch_step);
			return;
		case FETCH_DONE:
			break;
	}
	if (req->version < 8)
		old_of_group(req, &work->groups[0], &work->resp);
	else
	{
		work->resp.groups.count = work->n;
		work->resp.groups.items = work->groups;
	}
	kapi_wait_progress(req);
	fetch_durable(req);
}

void
kapi_offset_fetch(KRequest * req)
{
	const		KOffsetFetchRequest *body = req->body;
	MemoryContext ctx = kapi_group_attempt(req);
	Fetching   *work = palloc0_object(Fetching);

	work->ctx = ctx;
	work->n = req->version < 8 ? 1 : body->groups.count;
	work->asked = req->version < 8 ? group_of_old(body) : body->groups.items;
	work->groups = kapi_items(&kmsg_offset_fetch_response, offsetof(KOffsetFetchResponse, groups),
							  work->n, NULL);
	kmsg_init(&kmsg_offset_fetch_response, &work->resp);
	req->work = work;
	fetch_step(req);
}
