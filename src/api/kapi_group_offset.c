/*
 * kapi_group_offset.c
 *		OffsetCommit.
 *
 * A commit is checked when it arrives, and written at the end of the turn together with all
 * others (kapi_group_turn.c); partitions whose row somebody else is just writing are tried again.
 * Meanwhile the group may have given a partition to another member, whose commits must not be
 * overwritten.  So it is checked again when the rows are written and, until the transaction
 * ends, locked: a member that is still the owner then has written before any later owner can.
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "api/kapi_group.h"
#include "api/kapi_wait.h"
#include "group/koffset.h"
#include "kguc.h"

/* A commit that cannot be written is given up then; as Kafka's offsets.commit.timeout.ms. */
#define COMMIT_LIMIT	5000	/* ms */

/*
 * All commits of a turn are written in one transaction, but for as long only; and of one commit at
 * most so many parts, fewer than that all at once.
 */
#define WRITE_US		10000
#define WRITE_PARTS		2000

/* In that turn there is no time any more. */
static uint64 written_turn;

int16
kapi_group_topic(KRequest * req, bool by_id, KStr name, const KUuid * id, bool describe,
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
		int16		error = kapi_group_topic(req, req->version >= 10, from->name,
											 &from->topic_id, false, &topic, &busy);

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

/* May the group's member commit?  False: to be tried again.  *error is that of all partitions. */
static bool
check_member(KRequest * req, KCommit * commit, int16 *error)
{
	const		KOffsetCommitRequest *body = req->body;
	KOffsetCommitter committer = {
		.member_id = body->member_id,.instance_id = body->group_instance_id,
		.generation = body->generation_id_or_member_epoch,.api_version = req->version
	};
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
	commit->stamp.slot = -1;
	if (kcoord_lock(body->group_id, false, &slot) == KCOORD_LOCKED)
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
		(check_member(req, commit, &error) && error == KERR_NONE);
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
	if (!check_parts(req, commit) || !check_member(req, commit, &error))
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

	if (written_turn == kapi_turn())
		return false;
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

static bool
time_is_up(instr_time begun)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, begun);
	return INSTR_TIME_GET_MICROSEC(now) >= WRITE_US;
}

static void
write_commit(KCoordTable *table, KCommit *commit, instr_time begun)
{
	int			n = 0;

	commit->tried = true;
	commit->partly = false;
	for (int32 i = 0; i < commit->n; i++)
	{
		KCommitPart *part = &commit->parts[i];

		part->put = false;
		if (part->done || commit->partly)
			continue;
		commit->partly = n == WRITE_PARTS || (commit->separate && n > 0 && time_is_up(begun));
		if (commit->partly)
			continue;
		part->put = write_part(table, part) == KCOORD_PUT;
		n++;
	}
	if (commit->partly)
		written_turn = kapi_turn();
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
	instr_time	begun;
	bool		busy;
	bool		all_valid = true;

	dlist_foreach(iter, &commits)
		dlist_container(KCommit, node, iter.cur)->tried = false;
	if (dlist_is_empty(&commits) || written_turn == kapi_turn())
		return true;
	INSTR_TIME_SET_CURRENT(begun);
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
		if (n > 0 && time_is_up(begun))
		{
			written_turn = kapi_turn();
			break;
		}
		write_commit(&table, commit, begun);
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
		if (commit->partly)
		{
			/* goes on in the next turn, behind those that have waited for it */
			commit->partly = false;
			dlist_delete(&commit->node);
			dlist_push_tail(&commits, &commit->node);
			kapi_wait_clear(commit->req);
			kapi_wait_until(commit->req, kapi_now() + COMMIT_LIMIT, commit_late);
			continue;
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
