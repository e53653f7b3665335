/*
 * kcoord_expire.c
 *		Offsets that were committed too long ago, and groups of which nothing is left.
 *
 * Follows Kafka's GroupCoordinatorShard.cleanupGroupMetadata() and KIP-211.  An offset that has
 * expired is looked at twice, as any commit: in between somebody may have joined the group who
 * goes on from it.  Groups are deleted by brokers, which alone change them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "coord/kcoord_int.h"
#include "group/koffset.h"
#include "kstop.h"
#include "topic/ktopic.h"

/* An opened group may use so much memory. */
#define WORK_MAX		((size_t) 256 * 1024 * 1024)

/* Where the next call goes on. */
static KStr last_group = {NULL, -1};
static bool groups_done;
static int	next_slot;
static MemoryContext last_context;

/* Whether this call has come further, and an error will not be met by the next one. */
static bool got_on;

static void *
arena_grow(void *ctx, size_t size)
{
	if (size > MaxAllocHugeSize)
		return NULL;
	return MemoryContextAllocExtended(ctx, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

typedef struct Expiry
{
	KGroup	   *g;
	int64		retention_ms;
} Expiry;

static bool
offset_expired(void *arg, const KCoordOffset *offset)
{
	Expiry	   *expiry = arg;
	KStr		name = {"", 0}; /* of a topic that is no more, which nobody reads */
	const KTopic *topic;
	pg_uuid_t	id;

	memcpy(id.data, offset->topic_id.b, UUID_LEN);
	topic = ktopic_by_id(&id, NULL);
	if (topic != NULL)
		name = (KStr)
	{
		topic->name, (int32) strlen(topic->name)
	};
	return koffset_expired(expiry->g, name, offset->commit_ms, offset->expire_ms,
						   expiry->retention_ms);
}

/*
 * Is the group as it was?  While brokers begin anew a group that is not there may be one that has
 * not been read yet.
 */
static bool
still(KStr id, const KCoordStamp *stamp)
{
	KCoordSlot *slot;

	if (stamp->slot >= 0)
		return kcoord_unchanged(stamp);
	if (kcoord_lock(id, false, &slot) == KCOORD_NO_GROUP)
		return kcoord_loaded();
	kcoord_unlock(slot);
	return false;
}

/* False: it has changed, and the transaction must be undone. */
static bool
expire_group(KCoordTable *table, KStr id, int64 wall_ms, int64 retention_ms)
{
	Expiry		expiry = {.retention_ms = retention_ms};
	KCoordStamp stamp = {.slot = -1};
	KCoordSlot *slot = NULL;
	KArena		arena;
	KGroupEnv	env = {.config = kgroup_config_defaults,.arena = &arena,.wall_ms = wall_ms};
	const uint8 *image = NULL;
	size_t		len = 0;

	karena_init(&arena, NULL, 0, WORK_MAX, arena_grow, CurrentMemoryContext);
	if (kcoord_lock(id, false, &slot) == KCOORD_LOCKED)
	{
		stamp = kcoord_stamp(slot);
		image = kcoord_image(slot, &len);
	}
	expiry.g = kgroup_open(&env, kcoord_now(), id, image, len);
	if (stamp.slot >= 0)
		kcoord_unlock(slot);
	if (expiry.g == NULL)
		return true;
	if (image == NULL)
		koffset_has_offsets(expiry.g);
	return kcoord_offset_delete_some(table, id, offset_expired, &expiry) == 0 ||
		still(id, &stamp);
}

/* Before anything is done with it: what is wrong with one group does not concern the next one. */
static void
remember_group(KStr id)
{
	char	   *data = MemoryContextAlloc(last_context, Max(id.len, 1));

	memcpy(data, id.data, id.len);
	if (last_group.len >= 0)
		pfree(unconstify(char *, last_group.data));
	last_group = (KStr)
	{
		data, id.len
	};
	got_on = true;
}

/* The next group's offsets; false: there is none any more, or no table. */
static bool
expire_next(int64 wall_ms, int64 retention_ms)
{
	MemoryContext caller = CurrentMemoryContext;
	KCoordTable table;
	KStr		id;
	bool		busy;
	bool		found = false;
	bool		undo = false;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (kcoord_offset_open(&table, RowExclusiveLock, &busy))
	{
		found = kcoord_offset_next_group(&table, last_group, &id);
		if (found)
		{
			remember_group(id);
			KSTOP(psprintf("group-expire-%.*s", id.len, id.data));
			undo = !expire_group(&table, id, wall_ms, retention_ms);
		}
		kcoord_table_close(&table);
	}
	if (undo)
		AbortCurrentTransaction();
	else
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	kcoord_offset_deleted();
	MemoryContextSwitchTo(caller);
	return found;
}

/* Is the group of this slot empty, with rows of its own? */
static bool
look_at_slot(int number, KStr *id, KCoordStamp *stamp)
{
	KCoordSlot *slot;
	KGroupSummary summary;
	const uint8 *image;
	size_t		len;
	bool		empty;

	if (kcoord_lock_number(number, &slot) != KCOORD_LOCKED)
		return false;
	image = kcoord_image(slot, &len);
	empty = image != NULL && kgroup_image_summary(image, len, &summary) &&
		summary.type != KGROUP_NONE && summary.state == KGROUP_EMPTY && summary.version > 0;
	*stamp = kcoord_stamp(slot);
	if (empty)
		*id = kcoord_id(slot);
	if (empty)
		id->data = pnstrdup(id->data, id->len);
	/* gives the slot back that an error has left without an image */
	kcoord_unlock(slot);
	return empty;
}

static void
expire_slot(int number)
{
	MemoryContext caller = CurrentMemoryContext;
	KCoordTable table;
	KCoordStamp stamp;
	KCoordSlot *slot;
	KStr		id;
	bool		busy;
	bool		forsaken = false;

	if (!look_at_slot(number, &id, &stamp))
		return;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (kcoord_offset_open(&table, AccessShareLock, &busy))
	{
		forsaken = !kcoord_offset_any(&table, id);
		kcoord_table_close(&table);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	if (!forsaken || kcoord_lock(id, false, &slot) != KCOORD_LOCKED)
		return;
	if (kcoord_unchanged(&stamp))
		kcoord_forsake(slot);
	kcoord_unlock(slot);
}

bool
kcoord_expire(int64 wall_ms, int64 retention_ms, bool (*go_on) (void))
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext ctx = AllocSetContextCreate(caller, "kafka expiry", ALLOCSET_DEFAULT_SIZES);

	if (last_context == NULL)
		last_context = AllocSetContextCreate(TopMemoryContext, "kafka expiry's place",
											 ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(ctx);
	got_on = false;
	while (!groups_done && go_on())
	{
		groups_done = !expire_next(wall_ms, retention_ms);
		MemoryContextReset(ctx);
	}
	while (groups_done && next_slot < kcoord_capacity() && go_on())
	{
		got_on = true;
		expire_slot(next_slot++);
		MemoryContextReset(ctx);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(ctx);
	if (next_slot < kcoord_capacity())
		return false;
	next_slot = 0;
	groups_done = false;
	last_group = KSTR_NULL;
	MemoryContextReset(last_context);
	return true;
}

bool
kcoord_expire_failed(const char **group_id)
{
	kcoord_offset_deleted();
	*group_id = groups_done || !got_on ? NULL : pnstrdup(last_group.data, last_group.len);
	return got_on;
}
