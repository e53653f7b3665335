/*
 * klog_keeper.c
 *		What is done behind the appenders' backs: files extended ahead of need, ended transactions
 *		resolved, full pages written out.
 *
 * Appenders and ending transactions put partitions on a list; the keeper takes the list and
 * goes through it, each partition in a transaction of its own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "log/klog_buffer.h"

/* Free space that the keeper maintains: an eighth of the file within these bounds, in units. */
#define FREE_MIN_UNITS		96
#define FREE_MAX_UNITS		512

#define RETRY_MS			20
#define MARK_MS				200		/* between two looks at the watermarks that have moved */
#define MARK_LIST			256		/* partitions looked at in one go */

static klog_growth_callback growth_callback = NULL;

void
klog_on_growth(klog_growth_callback cb)
{
	Assert(growth_callback == NULL);
	growth_callback = cb;
}

/* Puts a partition on the keeper's list; false: it is there already. */
static bool
keeper_list(KLogPartition *part, bool grow)
{
	bool		push;

	SpinLockAcquire(&part->mutex);
	push = !part->keep_queued;
	part->keep_queued = true;
	part->keep_grow |= grow;
	SpinLockRelease(&part->mutex);
	if (!push)
		return false;
	SpinLockAcquire(&klog_shared->mutex);
	part->keep_next = klog_shared->keep_head;
	klog_shared->keep_head = klog_partition_index(part);
	SpinLockRelease(&klog_shared->mutex);
	return true;
}

/*
 * The same, for whoever has work for the keeper. grow: its file is nearly used up. Does not throw.
 */
void
klog_keeper_queue(KLogPartition *part, bool grow)
{
	if (keeper_list(part, grow))
		klog_wake_keeper();
}

/*
 * The watermark moved, perhaps past a batch that can be resolved now. Every small transaction of
 * SQL does that, so only the first wakes the keeper, which looks at all of them a moment later.
 *
 * Pages carry the watermark of the last append, so a last move that no append follows would never
 * be told to a standby: when it has rested for a moment, the partition header gets it.
 */
void
klog_keeper_moved(KLogPartition *part)
{
	bool		first = false;

	SpinLockAcquire(&klog_shared->mutex);
	if (!part->mark_listed)
	{
		first = klog_shared->mark_head == KLOG_NO_INDEX;
		part->mark_listed = true;
		part->mark_next = klog_shared->mark_head;
		klog_shared->mark_head = klog_partition_index(part);
	}
	SpinLockRelease(&klog_shared->mutex);
	if (first)
		klog_wake_keeper();
}

static void
grow_ahead(Relation rel)
{
	uint32		units = RelationGetNumberOfBlocks(rel) / KLOG_UNIT_BLOCKS;
	uint32		want = Min(Max(units / 8, FREE_MIN_UNITS), FREE_MAX_UNITS);

	while (klog_extent_free(rel) < want)
	{
		(void) klog_grow(rel, false);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Tells who wants to know that a partition has grown by some megabytes or a segment. */
static void
tell_growth(Relation rel, KLogPartition *part)
{
	bool		grown;

	SpinLockAcquire(&part->mutex);
	grown = klog_has_grown(part);
	if (grown || part->told_bytes > part->total_bytes)
		part->told_bytes = part->total_bytes;
	part->told_segment = part->last_segment;
	SpinLockRelease(&part->mutex);
	if (grown && growth_callback)
		growth_callback(rel, part, part->partition);
}

/* Does what there is to do for one partition; returns when to go on: -1 is never, 0 at once. */
static long
keep_partition(Oid relid, int32 partition, bool grow)
{
	KLogPartition *part;
	Relation	rel;
	bool		busy;
	bool		more;
	bool		told;

	rel = klog_relation_open(relid, RowExclusiveLock, &busy);
	if (rel == NULL)
		return busy ? RETRY_MS : -1;
	part = klog_attach_build(rel, partition);
	if (part == NULL)
	{
		RelationClose(rel);
		return RETRY_MS;
	}
	if (grow)
		grow_ahead(rel);
	klog_resolve_partition(rel, part, false);
	/* what is above the watermark is resolved when that moves: it puts us on the list again */
	more = klog_writeout(rel, part);
	told = klog_floor_tell(rel, part);
	tell_growth(rel, part);
	RelationClose(rel);
	return more ? 0 : told ? -1 : RETRY_MS;
}

/* Takes the first partition off the list; NULL: it is empty. */
static KLogPartition *
keeper_take(void)
{
	KLogPartition *part = NULL;

	SpinLockAcquire(&klog_shared->mutex);
	if (klog_shared->keep_head != KLOG_NO_INDEX)
	{
		part = &klog_partitions[klog_shared->keep_head];
		klog_shared->keep_head = part->keep_next;
	}
	SpinLockRelease(&klog_shared->mutex);
	return part;
}

/*
 * Writes the watermarks that have come to rest, and lists partitions that have something to be
 * resolved. Returns whether there are others to look at again.
 */
static bool
mark_turn(void)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();
	/* kept, so that an ERROR in one leaves the others to the next turn */
	static int	list[MARK_LIST];
	static int	n = 0;
	static int	at = 0;
	bool		again;

	SpinLockAcquire(&klog_shared->mutex);
	if (at == n && TimestampDifferenceExceeds(last, now, MARK_MS))
	{
		last = now;
		n = at = 0;
		while (n < MARK_LIST && klog_shared->mark_head != KLOG_NO_INDEX)
		{
			KLogPartition *part = &klog_partitions[klog_shared->mark_head];

			list[n++] = klog_shared->mark_head;
			klog_shared->mark_head = part->mark_next;
			part->mark_listed = false;	/* who moves from now on is listed anew */
		}
	}
	again = klog_shared->mark_head != KLOG_NO_INDEX;
	SpinLockRelease(&klog_shared->mutex);
	while (at < n)
	{
		KLogPartition *part = &klog_partitions[list[at++]];
		int64		watermark = klog_watermark(part);
		Relation	rel;
		bool		busy;

		/* a look without the lock: who lists a batch later moves the watermark later */
		if (part->unresolved_from >= 0)
			(void) keeper_list(part, false);
		if (watermark != part->mark_seen)
		{
			part->mark_seen = watermark;
			klog_keeper_moved(part);
			again = true;
			continue;
		}
		StartTransactionCommand();
		rel = klog_relation_open(part->relid, RowExclusiveLock, &busy);
		if (rel != NULL)
		{
			KLogPartition *now_part = klog_attach_build(rel, part->partition);

			/* looked at anew: the slot may have got another owner since */
			if (now_part == part)
				klog_write_mark(rel, part, 0, klog_watermark(part));
			RelationClose(rel);
		}
		else if (busy)
		{
			klog_keeper_moved(part);
			again = true;
		}
		CommitTransactionCommand();
	}
	return again;
}

long
klog_keeper_turn(void)
{
	long		wait = mark_turn() ? MARK_MS : -1;
	static int	again[64];
	static int	nagain = 0;
	KLogPartition *part;

	/* those of a turn that an ERROR cut short */
	while (nagain > 0)
		(void) keeper_list(&klog_partitions[again[--nagain]], false);

	/* one at a time: an ERROR leaves the others on the list */
	while (nagain < (int) lengthof(again) && (part = keeper_take()) != NULL)
	{
		Oid			relid = part->relid;
		int32		partition = part->partition;
		uint64		generation = part->generation;
		bool		grow;
		long		next;

		SpinLockAcquire(&part->mutex);
		grow = part->keep_grow;
		part->keep_grow = false;
		part->keep_queued = false;
		SpinLockRelease(&part->mutex);
		if (generation == 0)
			continue;
		StartTransactionCommand();
		next = keep_partition(relid, partition, grow);
		if (next >= 0 && part->generation == generation)
		{
			SpinLockAcquire(&part->mutex);
			part->keep_grow |= grow;
			SpinLockRelease(&part->mutex);
			again[nagain++] = klog_partition_index(part);
			wait = wait < 0 ? next : Min(wait, next);
		}
		CommitTransactionCommand();
	}
	/* without a wake-up, or the pause before the next try would end at once */
	while (nagain > 0)
		(void) keeper_list(&klog_partitions[again[--nagain]], false);
	return wait;
}
