/*
 * kapi_group_admin.c
 *		ListGroups, DescribeGroups, DeleteGroups, OffsetDelete.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "api/kapi_group.h"
#include "api/kapi_wait.h"
#include "group/koffset.h"

/* ------------------------------------------------------------------------
 * ListGroups
 * ------------------------------------------------------------------------
 */

void
kapi_list_groups_fail(KRequest * req, int16 error)
{
	KListGroupsResponse resp;

	kmsg_init(&kmsg_list_groups_response, &resp);
	resp.error_code = error;
	kapi_answer(req, &resp);
}

static void
list_one(const KListGroupsRequest * body, KStr id, const KGroupSummary * summary,
		 KListGroupsResponse * resp)
{
	KListGroupsResponseGroup *item;

	if (!kgroup_summary_matches(summary, &body->states_filter, &body->types_filter))
		return;
	item = &resp->groups.items[resp->groups.count++];
	item->group_id.data = pnstrdup(id.data, id.len);
	item->group_id.len = id.len;
	item->protocol_type.data = pnstrdup(summary->protocol_type.data,
										Max(summary->protocol_type.len, 0));
	item->protocol_type.len = Max(summary->protocol_type.len, 0);
	item->group_state = kapi_kstr(kgroup_state_name(summary->state));
	item->group_type = kapi_kstr(kgroup_type_name(summary->type));
}

/* Ids of groups that are read at one time. */
#define SOME_IDS	256

/*
 * How far a list has come: first the groups that have offsets, by their rows, then those in memory;
 * a group may be both.  Groups that come or go meanwhile are in it or not.
 */
typedef struct Listing
{
	KStr	   *ids;			/* of groups with offsets, sorted */
	bool	   *listed;			/* these, from memory */
	int			count;
	int			room;
	bool		read;			/* all of them */
	int			slot;			/* the next one */
	KListGroupsResponse resp;
} Listing;

/* False: busy. */
static bool
read_some_ids(Listing * work)
{
	KCoordTable table;
	bool		busy;
	int			n;

	kapi_txn();
	if (!kcoord_offset_open(&table, AccessShareLock, &busy))
		return false;
	if (work->count + SOME_IDS > work->room)
	{
		work->room = Max(2 * work->room, SOME_IDS);
		work->ids = work->ids == NULL ? palloc(work->room * sizeof(KStr)) :
			repalloc_huge(work->ids, work->room * sizeof(KStr));
	}
	PushActiveSnapshot(GetLatestSnapshot());
	n = kcoord_offset_groups(&table, work->count > 0 ? work->ids[work->count - 1] : KSTR_NULL,
							 &work->ids[work->count], SOME_IDS);
	PopActiveSnapshot();
	kcoord_table_close(&table);
	work->count += n;
	work->read = n < SOME_IDS;
	return true;
}

static int
compare_ids(const void *a, const void *b)
{
	const		KStr *x = a;
	const		KStr *y = b;
	int			c = memcmp(x->data, y->data, Min(x->len, y->len));

	return c != 0 ? c : x->len - y->len;
}

static void
list_slot(const KListGroupsRequest * body, int i, Listing * work)
{
	KCoordSlot *slot;
	KGroupSummary summary;
	const uint8 *image;
	size_t		len;

	if (kcoord_lock_number(i, &slot) != KCOORD_LOCKED)
		return;
	image = kcoord_image(slot, &len);
	if (image != NULL && kgroup_image_summary(image, len, &summary) &&
		summary.type != KGROUP_NONE)
	{
		KStr		id = kcoord_id(slot);
		const		KStr *known = work->count == 0 ? NULL :
		bsearch(&id, work->ids, work->count, sizeof(KStr), compare_ids);

		if (known != NULL)
			work->listed[known - work->ids] = true;
		list_one(body, id, &summary, &work->resp);
	}
	kcoord_unlock(slot);
}

/* A group that only has offsets is an empty classic one. */
static void
list_others(const KListGroupsRequest * body, Listing * work)
{
	KGroupSummary simple = {.type = KGROUP_CLASSIC,.state = KGROUP_EMPTY};

	for (int i = 0; i < work->count; i++)
	{
		if (!work->listed[i])
			list_one(body, work->ids[i], &simple, &work->resp);
	}
}

void
kapi_list_groups(KRequest * req)
{
	Listing    *work = req->work;
	bool		any = false;

	if (!kapi_group_ready())
	{
		kapi_fail(req, KERR_COORDINATOR_LOAD_IN_PROGRESS);
		return;
	}
	if (work == NULL)
	{
		req->work = work = palloc0_object(Listing);
		kmsg_init(&kmsg_list_groups_response, &work->resp);
	}
	while (!work->read || work->slot < kcoord_capacity())
	{
		if (kapi_group_share_used() && any)
		{
			kapi_wait_turn(req, kapi_list_groups);
			return;
		}
		any = true;
		if (work->read)
		{
			list_slot(req->body, work->slot++, work);
			continue;
		}
		if (!read_some_ids(work))
		{
			kapi_retry(req, kapi_list_groups);
			return;
		}
		if (work->read)
		{
			work->listed = palloc_extended(work->count + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
			work->resp.groups.items = kapi_items(&kmsg_list_groups_response,
												 offsetof(KListGroupsResponse, groups),
												 kcoord_capacity() + work->count, NULL);
		}
	}
	list_others(req->body, work);
	kapi_answer(req, &work->resp);
}

/* ------------------------------------------------------------------------
 * Groups that are named
 * ------------------------------------------------------------------------
 */

/* Has the group committed offsets?  False: busy. */
static bool
has_offsets(KStr id, bool *has)
{
	KCoordTable table;
	bool		busy;

	kapi_txn();
	if (!kcoord_offset_open(&table, AccessShareLock, &busy))
		return false;
	PushActiveSnapshot(GetLatestSnapshot());
	*has = kcoord_offset_any(&table, id);
	PopActiveSnapshot();
	kcoord_table_close(&table);
	return true;
}

KGroup *
kapi_group_open_any(KGroupWork * work, KStr id, KCoordSlot * *slot)
{
	const uint8 *image = NULL;
	size_t		len = 0;
	KCoordLock	lock;
	KGroup	   *g;
	bool		offsets;

	*slot = NULL;
	/* before the lock, since it reads a table */
	if (!has_offsets(id, &offsets))
		return NULL;
	lock = kcoord_lock(id, false, slot);
	if (lock == KCOORD_LOCKED)
		image = kcoord_image(*slot, &len);
	else
		*slot = NULL;
	g = kapi_group_open(work, id, image, len);
	if (g == NULL && *slot != NULL)
		kcoord_unlock(*slot);
	if (g != NULL && image == NULL && offsets)
		koffset_has_offsets(g);
	return g;
}

void
kapi_describe_groups_fail(KRequest * req, int16 error)
{
	const		KDescribeGroupsRequest *body = req->body;
	KDescribeGroupsResponse resp;

	kmsg_init(&kmsg_describe_groups_response, &resp);
	resp.groups.count = body->groups.count;
	resp.groups.items = kapi_items(&kmsg_describe_groups_response,
								   offsetof(KDescribeGroupsResponse, groups),
								   resp.groups.count, NULL);
	for (int32 i = 0; i < resp.groups.count; i++)
	{
		resp.groups.items[i].group_id = body->groups.items[i];
		resp.groups.items[i].error_code = error;
	}
	kapi_answer(req, &resp);
}

KGroup *
kapi_group_open_described(KDescribing * describing, KStr id, int16 *error)
{
	KCoordSlot *slot;
	KGroup	   *g;

	describing->group.ctx = NULL;
	*error = kapi_group_check(id);
	if (*error == KERR_NONE && describing->used > KAPI_GROUP_ANSWER_MAX)
		*error = KERR_COORDINATOR_NOT_AVAILABLE;
	if (*error != KERR_NONE || !kapi_group_work(&describing->group))
		return NULL;
	g = kapi_group_open_any(&describing->group, id, &slot);
	if (g == NULL)
		kapi_group_work_end(&describing->group);
	else if (slot != NULL)
		kcoord_unlock(slot);
	return g;
}

bool
kapi_group_describe(KRequest * req, KDescribing * work, int32 count,
					bool (*one) (KRequest * req, int32 i), void (*again) (KRequest * req))
{
	for (bool any = false; work->next < count; work->next++, any = true)
	{
		if (kapi_group_share_used() && any)
		{
			kapi_wait_turn(req, again);
			return false;
		}
		if (!one(req, work->next))
		{
			kapi_retry(req, again);
			return false;
		}
		if (work->group.ctx != NULL)
			work->used += MemoryContextMemAllocated(work->group.ctx, true);
		kapi_wait_progress(req);
	}
	return true;
}

/* How far a request has come. */
typedef struct Describing
{
	KDescribing work;
	KDescribeGroupsResponse resp;
} Describing;

static bool
describe_one(KRequest * req, int32 i)
{
	const		KDescribeGroupsRequest *body = req->body;
	Describing *describing = req->work;
	KDescribeGroupsResponseGroup *out = &describing->resp.groups.items[i];
	KStr		id = body->groups.items[i];
	int16		error;
	KGroup	   *g = kapi_group_open_described(&describing->work, id, &error);

	if (g == NULL && error == KERR_NONE)
		return false;
	out->group_id = id;
	out->error_code = error;
	if (g != NULL && !kgroup_describe(g, req->version, out))
	{
		out->group_id = id;
		out->error_code = KERR_COORDINATOR_NOT_AVAILABLE;
	}
	if (body->include_authorized_operations && out->error_code == KERR_NONE)
		out->authorized_operations = KAPI_GROUP_OPERATIONS;
	return true;
}

void
kapi_describe_groups(KRequest * req)
{
	const		KDescribeGroupsRequest *body = req->body;
	Describing *work = req->work;

	if (work == NULL)
	{
		req->work = work = palloc0_object(Describing);
		kmsg_init(&kmsg_describe_groups_response, &work->resp);
		work->resp.groups.items = kapi_items(&kmsg_describe_groups_response,
											 offsetof(KDescribeGroupsResponse, groups),
											 body->groups.count, NULL);
		work->resp.groups.count = body->groups.count;
	}
	if (kapi_group_describe(req, &work->work, body->groups.count, describe_one,
							kapi_describe_groups))
		kapi_answer(req, &work->resp);
}

/* ------------------------------------------------------------------------
 * DeleteGroups
 * ------------------------------------------------------------------------
 */
typedef struct Deletion
{
	KCommit		commit;			/* first: one part a group */
	KCoordVersion *versions;	/* of what takes the groups' own rows away */
	int32		next;			/* the groups before that are looked at */
	int64		until;
} Deletion;

/* How long those rows are waited for; clients have given up by then. */
#define DELETION_LIMIT	60000	/* ms */

static void
answer_deletion(KRequest * req, const KCommitPart * parts, int16 error)
{
	const		KDeleteGroupsRequest *body = req->body;
	int32		n = Max(body->groups_names.count, 0);
	int32	   *first = palloc_extended((n + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	KDeleteGroupsResponse resp;

	kmsg_init(&kmsg_delete_groups_response, &resp);
	resp.results.items = kapi_items(&kmsg_delete_groups_response,
									offsetof(KDeleteGroupsResponse, results), n, NULL);
	kapi_find_first(body->groups_names.items, n, first);
	for (int32 i = 0; i < n; i++)
	{
		KDeleteGroupsResponseResult *out;

		/* each group once, as in Kafka */
		if (first[i] != i)
			continue;
		out = &resp.results.items[resp.results.count++];
		out->group_id = body->groups_names.items[i];
		out->error_code = parts != NULL ? parts[i].error : error;
	}
	kapi_answer(req, &resp);
}

void
kapi_delete_groups_fail(KRequest * req, int16 error)
{
	answer_deletion(req, NULL, error);
}

/* The offsets have gone; another broker may be at the group's own rows. */
static void
deletion_durable(KRequest * req)
{
	Deletion   *deletion = req->work;

	if (deletion->until == 0)
		deletion->until = kapi_now() + DELETION_LIMIT;
	for (int32 i = 0; i < deletion->commit.n; i++)
	{
		if (kcoord_is_durable(&deletion->versions[i]))
			continue;
		if (kapi_now() >= deletion->until)
		{
			deletion->commit.parts[i].error = KERR_COORDINATOR_NOT_AVAILABLE;
			continue;
		}
		kapi_wait_poll(req, deletion_durable);
		kapi_wait_until(req, deletion->until, deletion_durable);
		return;
	}
	answer_deletion(req, deletion->commit.parts, 0);
}

/* A group that has come to life again keeps what offsets it has. */
static bool
deletion_valid(KRequest * req)
{
	Deletion   *deletion = req->work;
	bool		valid = true;

	for (int32 i = 0; i < deletion->commit.n; i++)
	{
		KCommitPart *part = &deletion->commit.parts[i];
		KCoordSlot *slot;
		KGroupSummary summary;
		const uint8 *image;
		size_t		len;

		if (!part->put || kcoord_lock(part->group_id, false, &slot) != KCOORD_LOCKED)
			continue;
		image = kcoord_image(slot, &len);
		if (image != NULL && kgroup_image_summary(image, len, &summary) &&
			summary.type != KGROUP_NONE && summary.state != KGROUP_EMPTY)
		{
			part->error = KERR_NON_EMPTY_GROUP;
			part->done = true;
			valid = false;
		}
		kcoord_unlock(slot);
	}
	return valid;
}

/* Deletes one group from memory.  False: busy. */
static bool
delete_group(KCommitPart * part, KCoordVersion * rows_version)
{
	KGroupWork	work;
	const		KGroupRow *rows;
	uint64		number;
	KGroupResult result;
	KCoordSlot *slot;
	KCoordVersion version;
	const		KGroupAnswer *own;
	KGroup	   *g;

	part->op = KCOMMIT_DELETE_ALL;
	part->error = kapi_group_check(part->group_id);
	if (part->error != KERR_NONE)
		return true;
	if (!kapi_group_work(&work))
		return false;
	g = kapi_group_open_any(&work, part->group_id, &slot);
	if (g != NULL)
	{
		result = kgroup_delete(g, &part->error);
		if (part->error == KERR_NONE && kcoord_session_active(part->group_id))
		{
			part->error = KERR_NON_EMPTY_GROUP;
			result = KGROUP_UNCHANGED;
		}
		else if (slot != NULL && kgroup_rows(g, &rows, &number) > 0)
			*rows_version = kcoord_version(slot, number);
		if (!kapi_group_finish(&work, slot, g, result, 0, &own, &version))
			part->error = KERR_COORDINATOR_NOT_AVAILABLE;
	}
	kapi_group_work_end(&work);
	return g != NULL;
}

void
kapi_delete_groups(KRequest * req)
{
	const		KDeleteGroupsRequest *body = req->body;
	Deletion   *deletion = req->work;
	bool		any = false;

	if (deletion == NULL)
	{
		req->work = deletion = palloc0_object(Deletion);
		deletion->commit.n = body->groups_names.count;
		deletion->commit.parts = palloc_extended((deletion->commit.n + 1) * sizeof(KCommitPart),
												 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		deletion->versions = palloc_extended((deletion->commit.n + 1) * sizeof(KCoordVersion),
											 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		deletion->commit.valid = deletion_valid;
		deletion->commit.separate = true;
	}
	for (; deletion->next < deletion->commit.n; deletion->next++)
	{
		KCommitPart *part = &deletion->commit.parts[deletion->next];

		if (kapi_group_share_used() && any)
		{
			kapi_wait_turn(req, kapi_delete_groups);
			return;
		}
		any = true;
		part->group_id = body->groups_names.items[deletion->next];
		if (!delete_group(part, &deletion->versions[deletion->next]))
		{
			kapi_retry(req, kapi_delete_groups);
			return;
		}
	}
	kapi_commit_start(req, &deletion->commit, deletion_durable);
}

/* ------------------------------------------------------------------------
 * OffsetDelete
 * ------------------------------------------------------------------------
 */

static void
answer_offsets(KRequest * req, const KCommitPart * parts, int16 error)
{
	const		KOffsetDeleteRequest *body = req->body;
	KOffsetDeleteResponse resp;
	int32		k = 0;

	kmsg_init(&kmsg_offset_delete_response, &resp);
	resp.error_code = error;
	if (parts != NULL)
	{
		resp.topics.count = body->topics.count;
		resp.topics.items = kapi_items(&kmsg_offset_delete_response,
									   offsetof(KOffsetDeleteResponse, topics),
									   resp.topics.count, NULL);
	}
	for (int32 t = 0; t < resp.topics.count; t++)
	{
		const		KOffsetDeleteRequestTopic *from = &body->topics.items[t];
		KOffsetDeleteResponseTopic *to = &resp.topics.items[t];

		to->name = from->name;
		to->partitions.count = from->partitions.count;
		to->partitions.items = kapi_items(&kmsg_offset_delete_response_topic,
										  offsetof(KOffsetDeleteResponseTopic, partitions),
										  to->partitions.count, NULL);
		for (int32 p = 0; p < to->partitions.count; p++, k++)
		{
			to->partitions.items[p].partition_index = from->partitions.items[p].partition_index;
			to->partitions.items[p].error_code = parts[k].error;
		}
	}
	kapi_answer(req, &resp);
}

void
kapi_offset_delete_fail(KRequest * req, int16 error)
{
	answer_offsets(req, NULL, error);
}

static void
offsets_durable(KRequest * req)
{
	answer_offsets(req, ((KCommit *) req->work)->parts, 0);
}

/* What the group reads has not changed since it was asked. */
static bool
offsets_valid(KRequest * req)
{
	KCommit    *commit = req->work;
	KCoordSlot *slot;

	if (commit->stamp.slot >= 0)
		return kcoord_unchanged(&commit->stamp);
	if (kcoord_lock(commit->parts[0].group_id, false, &slot) == KCOORD_NO_GROUP)
		return true;
	kcoord_unlock(slot);
	return false;
}

/* Which offsets may go.  False: a catalog was locked. */
static bool
check_offsets(KRequest * req, KGroup * g, KCommit * commit)
{
	const		KOffsetDeleteRequest *body = req->body;
	int32		k = 0;

	for (int32 t = 0; t < body->topics.count; t++)
	{
		const		KOffsetDeleteRequestTopic *from = &body->topics.items[t];
		bool		busy;
		const		KTopic *topic = kapi_topic(from->name, &busy);
		int16		error;

		if (busy)
			return false;
		if (topic == NULL)
			error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
		else if (!kacl_topic_read(topic->relid, kapi_role(req)))
			error = KERR_TOPIC_AUTHORIZATION_FAILED;
		else
			error = koffset_check_delete_topic(g, from->name);
		for (int32 p = 0; p < from->partitions.count; p++, k++)
		{
			KCommitPart *part = &commit->parts[k];

			part->op = KCOMMIT_DELETE;
			part->group_id = body->group_id;
			part->error = error;
			if (topic != NULL && error != KERR_TOPIC_AUTHORIZATION_FAILED &&
				(from->partitions.items[p].partition_index < 0 ||
				 from->partitions.items[p].partition_index >= topic->partitions))
				part->error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
			if (topic != NULL)
				part->offset.topic_id = kapi_uuid(&topic->id);
			part->offset.partition = from->partitions.items[p].partition_index;
		}
	}
	return true;
}

void
kapi_offset_delete(KRequest * req)
{
	const		KOffsetDeleteRequest *body = req->body;
	int16		error = body->group_id.len == 0 ? KERR_INVALID_GROUP_ID :
		kapi_group_check(body->group_id);
	MemoryContext attempt = kapi_group_attempt(req);
	KCommit    *commit = palloc0_object(KCommit);
	KGroupWork	work;
	KCoordSlot *slot;
	KGroup	   *g = NULL;
	bool		ok = false;

	if (error != KERR_NONE)
	{
		kapi_fail(req, error);
		return;
	}
	for (int32 t = 0; t < body->topics.count; t++)
		commit->n += body->topics.items[t].partitions.count;
	commit->parts = palloc_extended((commit->n + 1) * sizeof(KCommitPart),
									MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	if (kapi_group_work(&work))
	{
		g = kapi_group_open_any(&work, body->group_id, &slot);
		/* the opened group is a copy: it can be asked without the lock */
		commit->stamp.slot = -1;
		if (g != NULL && slot != NULL)
		{
			commit->stamp = kcoord_stamp(slot);
			kcoord_unlock(slot);
		}
		if (g != NULL)
		{
			error = koffset_check_delete(g);
			ok = error != KERR_NONE || check_offsets(req, g, commit);
		}
		kapi_group_work_end(&work);
	}
	if (!ok)
		kapi_group_retry(req, attempt, kapi_offset_delete);
	else if (error != KERR_NONE)
		kapi_fail(req, error);
	else
	{
		commit->attempt = attempt;
		commit->valid = offsets_valid;
		commit->again = kapi_offset_delete;
		req->work = commit;
		kapi_commit_start(req, commit, offsets_durable);
	}
}
