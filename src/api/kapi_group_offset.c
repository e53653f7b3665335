/*
 * kapi_group_offset.c
 *		OffsetCommit and OffsetFetch.
 *
 * A commit is checked when it arrives, and written at the end of the turn together with all
 * others (kapi_group_turn.c); partitions whose row somebody else is just writing are tried again.
 * Meanwhile the group may have given a partition to another member, whose commits must not be
 * overwritten.  So it is checked again when the rows are written and, until the transaction
 * ends, locked: a member that is still the owner then has written before any later owner can.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "api/kapi_group.h"
#include "api/kapi_wait.h"
#include "group/koffset.h"
#include "kguc.h"

/* A commit that cannot be written is given up then; as Kafka's offsets.commit.timeout.ms. */
#define COMMIT_LIMIT	5000	/* ms */

/* ------------------------------------------------------------------------
 * Topics that a request names, by name or by id
 * ------------------------------------------------------------------------
 */

static int16
find_topic(KRequest * req, bool by_id, KStr name, const KUuid * id, bool describe,
		   const KTopic * *topic, bool *busy)
{
	*topic = by_id ? kapi_topic_by_uuid(id, busy) : kapi_topic(name, busy);
	if (*topic == NULL)
		return by_id ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
	if (!(describe ? kacl_topic_describe((*topic)->relid, kapi_role(req)) :
		  kacl_topic_read((*topic)->relid, kapi_role(req))))
		return KERR_TOPIC_AUTHORIZATION_FAILED;
	return KERR_NONE;
}

/* ------------------------------------------------------------------------
 * OffsetCommit
 * ------------------------------------------------------------------------
 */

static dlist_head commits = DLIST_STATIC_INIT(commits);

static void
answer_commit(KRequest * req, int16 error, const KCommitPart * parts)
{
	const		KOffsetCommitRequest *body = req->body;
	KOffsetCommitResponse resp;
	int32		k = 0;

	kmsg_init(&kmsg_offset_commit_response, &resp);
	resp.topics.items = kapi_items(&kmsg_offset_commit_response,
								   offsetof(KOffsetCommitResponse, topics), body->topics.count,
								   NULL);
	for (int32 t = 0; t < body->topics.count; t++)
	{
		const		KOffsetCommitRequestTopic *from = &body->topics.items[t];
		KOffsetCommitResponseTopic *to;

		if (from->partitions.count <= 0)
			continue;
		to = &resp.topics.items[resp.topics.count++];
		to->name = from->name;
		to->topic_id = from->topic_id;
		to->partitions.count = from->partitions.count;
		to->partitions.items = kapi_items(&kmsg_offset_commit_response_topic,
										  offsetof(KOffsetCommitResponseTopic, partitions),
										  to->partitions.count, NULL);
		for (int32 p = 0; p < to->partitions.count; p++, k++)
		{
			to->partitions.items[p].partition_index = from->partitions.items[p].partition_index;
			to->partitions.items[p].error_code = parts != NULL ? parts[k].error : error;
		}
	}
	kapi_answer(req, &resp);
}

void
kapi_offset_commit_fail(KRequest * req, int16 error)
{
	answer_commit(req, error, NULL);
}

void
kapi_commit_end(KRequest * req)
{
	KCommit    *commit = req->work;

	if (commit != NULL && commit->listed)
		dlist_delete(&commit->node);
}

/* Not written in time, or the server's end. */
static void
commit_late(KRequest * req)
{
	kapi_fail(req, KERR_REQUEST_TIMED_OUT);
}

static void
commit_durable(KRequest * req)
{
	answer_commit(req, 0, ((KCommit *) req->work)->parts);
}

void
kapi_commit_start(KRequest * req, KCommit * commit, void (*then) (KRequest * req))
{
	bool		any = false;

	for (int32 i = 0; i < commit->n; i++)
	{
		commit->parts[i].done = commit->parts[i].error != KERR_NONE;
		any = any || !commit->parts[i].done;
	}
	if (!any)
	{
		then(req);
		return;
	}
	commit->req = req;
	commit->then = then;
	commit->listed = true;
	dlist_push_tail(&commits, &commit->node);
	kapi_wait_until(req, req->begun + COMMIT_LIMIT, commit_late);
}

/* The partitions, and what is wrong with each; false: a catalog was locked. */
static bool
check_parts(KRequest * req, KCommit * commit)
{
	const		KOffsetCommitRequest *body = req->body;
	int64		now = kapi_wall_clock();
	int32		k = 0;

	commit->n = 0;
	for (int32 t = 0; t < body->topics.count; t++)
		commit->n += body->topics.items[t].partitions.count;
	commit->parts = palloc_extended((commit->n + 1) * sizeof(KCommitPart),
									MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int32 t = 0; t < body->topics.count; t++)
	{
		const		KOffsetCommitRequestTopic *from = &body->topics.items[t];
		const		KTopic *topic;
		bool		busy;
		int16		error = find_topic(req, req->version >= 10, from->name, &from->topic_id, false,
									   &topic, &busy);

		if (busy)
			return false;
		for (int32 p = 0; p < from->partitions.count; p++, k++)
		{
			const		KOffsetCommitRequestPartition *wanted = &from->partitions.items[p];
			KCommitPart *part = &commit->parts[k];

			part->error = error;
			if (error == KERR_NONE && (wanted->partition_index < 0 ||
									   wanted->partition_index >= topic->partitions))
				part->error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
			else if (error == KERR_NONE && wanted->committed_metadata.len >
					 kguc_max_offset_metadata)
				part->error = KERR_OFFSET_METADATA_TOO_LARGE;
			if (part->error != KERR_NONE)
				continue;
			part->group_id = body->group_id;
			part->offset = (KCoordOffset)
			{
				.topic_id = kapi_uuid(&topic->id),.partition = wanted->partition_index,
					.offset = wanted->committed_offset,
					.leader_epoch = wanted->committed_leader_epoch,
					.metadata = wanted->committed_metadata,.commit_ms = now,
					.expire_ms = body->retention_time_ms >= 0 ?
					now + Min(body->retention_time_ms, PG_INT64_MAX / 4) : -1
			};
		}
	}
	return true;
}

/*
 * May the group's member commit?  False: to be tried again; not if "wait".  *error is that of all
 * partitions.
 */
static bool
check_member(KRequest * req, KCommit * commit, bool wait, int16 *error)
{
	const		KOffsetCommitRequest *body = req->body;
	KOffsetCommitter committer = {
		.member_id = body->member_id,.instance_id = body->group_instance_id,
		.generation = body->generation_id_or_member_epoch,.api_version = req->version
	};
	KCoordLock	lock;
	KCoordSlot *slot;
	KCoordVersion version;
	const		KGroupAnswer *own;
	KGroupWork	work;
	KGroupResult result;
	uint8	   *image = NULL;
	size_t		len = 0;
	KGroup	   *g;
	bool		by_partition = false;

	if (!kapi_group_work(&work))
		return false;
	lock = wait ? kcoord_lock_wait(body->group_id, &slot) :
		kcoord_lock(body->group_id, false, &slot);
	commit->stamp.slot = -1;
	if (lock == KCOORD_LOCKED)
	{
		commit->stamp = kcoord_stamp(slot);
		image = kcoord_image(slot, &len);
		if (image != NULL && koffset_image_commit(image, len, kcoord_now(), &committer))
		{
			kcoord_unlock(slot);
			kapi_group_work_end(&work);
			*error = KERR_NONE;
			return true;
		}
	}
	else
		slot = NULL;
	if (lock == KCOORD_BUSY)
	{
		kapi_group_work_end(&work);
		return false;
	}

	g = kapi_group_open(&work, body->group_id, image, len);
	if (g == NULL)
	{
		if (slot != NULL)
			kcoord_unlock(slot);
		*error = KERR_COORDINATOR_NOT_AVAILABLE;
		kapi_group_work_end(&work);
		return true;
	}
	result = koffset_check_commit(g, &committer, error, &by_partition);
	for (int32 i = 0; by_partition && *error == KERR_NONE && i < commit->n; i++)
	{
		const		KCommitPart *part = &commit->parts[i];

		if (part->error == KERR_NONE)
			*error = koffset_check_partition(g, &committer, &part->offset.topic_id,
											 part->offset.partition);
	}
	/* a session that cannot be prolonged for lack of memory does not keep the offset out */
	(void) kapi_group_finish(&work, slot, g, result, 0, &own, &version);
	kapi_group_work_end(&work);
	return true;
}

static bool
commit_valid(KRequest * req)
{
	KCommit    *commit = req->work;
	int16		error;

	return kcoord_unchanged(&commit->stamp) ||
		(check_member(req, commit, true, &error) && error == KERR_NONE);
}

void
kapi_offset_commit(KRequest * req)
{
	const		KOffsetCommitRequest *body = req->body;
	int16		error = kapi_group_check(body->group_id);
	MemoryContext attempt = kapi_group_attempt(req);
	KCommit    *commit = palloc0_object(KCommit);

	if (error != KERR_NONE)
	{
		kapi_fail(req, error);
		return;
	}
	if (!check_parts(req, commit) || !check_member(req, commit, false, &error))
	{
		kapi_group_retry(req, attempt, kapi_offset_commit);
		return;
	}
	if (error != KERR_NONE)
	{
		kapi_fail(req, error);
		return;
	}
	commit->attempt = attempt;
	commit->valid = commit_valid;
	commit->again = kapi_offset_commit;
	req->work = commit;
	kapi_commit_start(req, commit, commit_durable);
}

bool
kapi_commits_pending(void)
{
	dlist_iter	iter;
	int64		now = kcoord_now();

	dlist_foreach(iter, &commits)
	{
		if (dlist_container(KCommit, node, iter.cur)->when <= now)
			return true;
	}
	return false;
}

long
kapi_commits_timeout(void)
{
	dlist_iter	iter;
	int64		now = kcoord_now();
	long		ms = -1;

	dlist_foreach(iter, &commits)
	{
		long		left = Max(dlist_container(KCommit, node, iter.cur)->when - now, 0);

		ms = ms < 0 ? left : Min(ms, left);
	}
	return ms;
}

static KCoordPut
write_part(KCoordTable *table, const KCommitPart *part)
{
	switch (part->op)
	{
		case KCOMMIT_PUT:
			return kcoord_offset_put(table, part->group_id, &part->offset);
		case KCOMMIT_DELETE:
			return kcoord_offset_delete(table, part->group_id, &part->offset.topic_id,
										part->offset.partition);
		case KCOMMIT_DELETE_ALL:
			break;
	}
	return kcoord_offset_delete_all(table, part->group_id);
}

static void
write_commit(KCoordTable *table, KCommit *commit)
{
	commit->tried = true;
	for (int32 i = 0; i < commit->n; i++)
	{
		KCommitPart *part = &commit->parts[i];

		part->put = !part->done && write_part(table, part) == KCOORD_PUT;
	}
}

bool
kapi_commits_write(void)
{
	KCoordTable table;
	MemoryContext ctx;
	MemoryContext old;
	dlist_iter	iter;
	int64		now = kcoord_now();
	int			n = 0;
	bool		busy;
	bool		all_valid = true;

	dlist_foreach(iter, &commits)
		dlist_container(KCommit, node, iter.cur)->tried = false;
	if (dlist_is_empty(&commits))
		return true;
	if (!kcoord_offset_open(&table, RowExclusiveLock, &busy))
	{
		dlist_foreach(iter, &commits)
			dlist_container(KCommit, node, iter.cur)->when = now + 2;
		return true;
	}
	ctx = AllocSetContextCreate(CurrentMemoryContext, "kafka commits", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(ctx);
	dlist_foreach(iter, &commits)
	{
		KCommit    *commit = dlist_container(KCommit, node, iter.cur);

		if (commit->when > now || (commit->alone && n > 0))
			continue;
		write_commit(&table, commit);
		n++;
		MemoryContextReset(ctx);
		if (commit->alone)
			break;
	}
	kcoord_table_close(&table);
	dlist_foreach(iter, &commits)
	{
		KCommit    *commit = dlist_container(KCommit, node, iter.cur);

		commit->overtaken = commit->tried && !commit->valid(commit->req);
		all_valid = all_valid && !commit->overtaken;
		MemoryContextReset(ctx);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(ctx);
	return all_valid;
}

/* Somebody was writing a row of it, or the group has changed: begins anew. */
static void
commit_again(KRequest * req)
{
	KCommit    *commit = req->work;

	if (kapi_now() > req->begun + COMMIT_LIMIT)
	{
		commit_late(req);
		return;
	}
	req->work = NULL;
	kapi_group_retry(req, commit->attempt, commit->again);
}

static void
begin_again(KCommit *commit)
{
	dlist_delete(&commit->node);
	commit->listed = false;
	kapi_wait_clear(commit->req);
	kapi_run(commit->req, commit_again);
}

void
kapi_commits_written(XLogRecPtr lsn)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &commits)
	{
		KCommit    *commit = dlist_container(KCommit, node, iter.cur);
		bool		all = true;

		if (!commit->tried)
			continue;
		commit->tried = false;
		for (int32 i = 0; i < commit->n; i++)
		{
			commit->parts[i].done = commit->parts[i].done || commit->parts[i].put;
			all = all && commit->parts[i].done;
		}
		if (!all && commit->again != NULL)
		{
			begin_again(commit);
			continue;
		}
		if (!all)
		{
			commit->backoff = Min(Max(commit->backoff * 2, 1), 50);
			commit->when = kcoord_now() + commit->backoff;
			continue;
		}
		dlist_delete(&commit->node);
		commit->listed = false;
		kapi_wait_clear(commit->req);
		kapi_wait_lsn(commit->req, lsn, true, commit->then);
	}
}

void
kapi_commits_overtaken(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &commits)
	{
		KCommit    *commit = dlist_container(KCommit, node, iter.cur);

		commit->tried = false;
		if (commit->overtaken && commit->again != NULL)
			begin_again(commit);
	}
}

static void
commit_failed(KRequest * req)
{
	kapi_fail(req, KERR_UNKNOWN_SERVER_ERROR);
}

void
kapi_commits_failed(void)
{
	dlist_iter	iter;
	KCommit    *failed = NULL;

	dlist_foreach(iter, &commits)
	{
		KCommit    *commit = dlist_container(KCommit, node, iter.cur);

		if (!commit->tried)
			continue;
		commit->tried = false;
		if (commit->alone)
			failed = commit;
		commit->alone = true;
	}
	if (failed != NULL)
	{
		kapi_wait_clear(failed->req);
		kapi_run(failed->req, commit_failed);
	}
}

/* ------------------------------------------------------------------------
 * OffsetFetch
 * ------------------------------------------------------------------------
 */

/* The answer, while it waits for commits that it tells of. */
typedef struct Fetching
{
	KOffsetFetchResponse resp;
	bool		missed;			/* an offset that is not there: it may have been deleted */
	XLogRecPtr	lsn;			/* of what is there */
} Fetching;

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
	if (lock != KCOORD_BUSY)
	{
		g = kapi_group_open(&work, group->group_id, image, len);
		if (lock == KCOORD_LOCKED)
			kcoord_unlock(slot);
		*error = g == NULL ? KERR_COORDINATOR_NOT_AVAILABLE :
			koffset_check_fetch(g, group->member_id, group->member_epoch);
		if (*error == KERR_GROUP_ID_NOT_FOUND)
			*error = KERR_NONE;
	}
	kapi_group_work_end(&work);
	return lock != KCOORD_BUSY;
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
fetch_all(KRequest * req, KCoordTable * table, KStr group_id, KOffsetFetchResponseGroup * out,
		  Fetching * work)
{
	KCoordOffset *offsets;
	int			n = kcoord_offset_list(table, group_id, &offsets, &work->lsn);

	work->missed = true;
	out->topics.items = kapi_items(&kmsg_offset_fetch_response_group,
								   offsetof(KOffsetFetchResponseGroup, topics), n, NULL);
	for (int first = 0, end; first < n; first = end)
	{
		const KUuid *id = &offsets[first].topic_id;
		const		KTopic *topic;
		FetchPart  *parts;
		bool		busy;
		int16		error;

		/* they come in the order of the key */
		for (end = first + 1; end < n; end++)
		{
			if (memcmp(&offsets[end].topic_id, id, sizeof(KUuid)) != 0)
				break;
		}
		error = find_topic(req, true, KSTR_NULL, id, true, &topic, &busy);
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

static bool
fetch_named(KRequest * req, KCoordTable * table, const KOffsetFetchRequestGroup * group,
			KOffsetFetchResponseGroup * out, Fetching * work)
{
	out->topics.count = group->topics.count;
	out->topics.items = kapi_items(&kmsg_offset_fetch_response_group,
								   offsetof(KOffsetFetchResponseGroup, topics),
								   group->topics.count, NULL);
	for (int32 t = 0; t < group->topics.count; t++)
	{
		const		KOffsetFetchRequestGroupTopic *from = &group->topics.items[t];
		FetchTopic *to = &out->topics.items[t];
		FetchPart  *parts = make_parts(to, from->partition_indexes.count);
		const		KTopic *topic;
		bool		busy;
		int16		error = find_topic(req, req->version >= 10, from->name, &from->topic_id, true,
									   &topic, &busy);

		if (busy)
			return false;
		/* of a name that there is not, nothing is committed */
		if (error == KERR_UNKNOWN_TOPIC_OR_PARTITION)
			error = KERR_NONE;
		to->name = from->name;
		to->topic_id = from->topic_id;
		for (int32 p = 0; p < to->partitions.count; p++)
		{
			KCoordOffset offset;
			KUuid		id;

			parts[p].partition_index = from->partition_indexes.items[p];
			parts[p].error_code = error;
			if (error != KERR_NONE || topic == NULL)
				continue;
			id = kapi_uuid(&topic->id);
			if (kcoord_offset_get(table, group->group_id, &id, parts[p].partition_index, &offset,
								  &work->lsn))
				tell_offset(&parts[p], &offset);
			else
				work->missed = true;
		}
	}
	return true;
}

/* False: busy. */
static bool
fetch_group(KRequest * req, KCoordTable * table, const KOffsetFetchRequestGroup * group,
			KOffsetFetchResponseGroup * out, Fetching * work)
{
	out->group_id = group->group_id;
	out->error_code = kapi_group_check(group->group_id);
	if (out->error_code != KERR_NONE)
		return true;
	if (req->version >= 9 && !check_fetch(group, &out->error_code))
		return false;
	if (out->error_code != KERR_NONE)
		return true;
	if (group->topics.count < 0)
		return fetch_all(req, table, group->group_id, out, work);
	return fetch_named(req, table, group, out, work);
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

void
kapi_offset_fetch(KRequest * req)
{
	const		KOffsetFetchRequest *body = req->body;
	MemoryContext attempt = kapi_group_attempt(req);
	Fetching   *work = palloc0_object(Fetching);
	KOffsetFetchResponseGroup *groups;
	KCoordTable table;
	int32		n = req->version < 8 ? 1 : body->groups.count;
	bool		busy;
	bool		ok = true;

	kapi_txn();
	if (!kcoord_offset_open(&table, AccessShareLock, &busy))
	{
		kapi_group_retry(req, attempt, kapi_offset_fetch);
		return;
	}
	kmsg_init(&kmsg_offset_fetch_response, &work->resp);
	groups = kapi_items(&kmsg_offset_fetch_response, offsetof(KOffsetFetchResponse, groups), n,
						NULL);
	PushActiveSnapshot(GetLatestSnapshot());
	for (int32 i = 0; ok && i < n; i++)
	{
		const		KOffsetFetchRequestGroup *group = req->version < 8 ? group_of_old(body) :
		&body->groups.items[i];

		if (n > 1 && MemoryContextMemAllocated(attempt, false) > KAPI_GROUP_ANSWER_MAX)
		{
			groups[i].group_id = group->group_id;
			groups[i].error_code = KERR_COORDINATOR_NOT_AVAILABLE;
		}
		else
			ok = fetch_group(req, &table, group, &groups[i], work);
	}
	PopActiveSnapshot();
	kcoord_table_close(&table);
	if (!ok)
	{
		kapi_group_retry(req, attempt, kapi_offset_fetch);
		return;
	}
	if (req->version < 8)
		old_of_group(req, &groups[0], &work->resp);
	else
	{
		work->resp.groups.count = n;
		work->resp.groups.items = groups;
	}
	req->work = work;
	fetch_durable(req);
}
