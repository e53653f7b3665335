/*
 * klog_durable.c
 *		What is durable, what may be read, and who is told.
 *
 * flushed: WAL up to here is on this machine's disk.  durable: and with the quorum, if
 * synchronous_standby_names asks for one; without, the two are the same.  A partition's
 * high watermark follows the durable LSN by two marks, see klog_watermark_advance().
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "kstop.h"
#include "log/klog_buffer.h"

/* Raises *var to value; true when it was lower. */
static bool
raise_to(pg_atomic_uint64 *var, uint64 value)
{
	uint64		old = pg_atomic_read_u64(var);

	while (old < value)
	{
		if (pg_atomic_compare_exchange_u64(var, &old, value))
			return true;
	}
	return false;
}

XLogRecPtr
klog_flushed_lsn(void)
{
	return pg_atomic_read_u64(&klog_shared->flushed);
}

XLogRecPtr
klog_durable_lsn(void)
{
	return pg_atomic_read_u64(&klog_shared->durable);
}

/* ------------------------------------------------------------------------
 * Latches
 * ------------------------------------------------------------------------
 */

static void
set_latch(Latch *const *where)
{
	Latch	   *latch;

	SpinLockAcquire(&klog_shared->mutex);
	latch = *where;
	SpinLockRelease(&klog_shared->mutex);
	if (latch)
		SetLatch(latch);
}

static void
attach_latch(Latch **where)
{
	SpinLockAcquire(&klog_shared->mutex);
	*where = MyLatch;
	SpinLockRelease(&klog_shared->mutex);
}

void
klog_wake_brokers(uint64 bits)
{
	for (int i = 0; bits != 0; i++, bits >>= 1)
	{
		if (bits & 1)
			set_latch(&klog_shared->broker[i]);
	}
}

void
klog_flusher_attach(void)
{
	attach_latch(&klog_shared->flusher);
}

void
klog_syncwait_attach(void)
{
	attach_latch(&klog_shared->syncwait);
}

void
klog_prealloc_attach(void)
{
	attach_latch(&klog_shared->prealloc);
}

void
klog_keeper_attach(void)
{
	attach_latch(&klog_shared->keeper);
}

void
klog_wake_keeper(void)
{
	set_latch(&klog_shared->keeper);
}

void
klog_broker_attach(int n)
{
	Assert(n >= 0 && n < KLOG_MAX_BROKERS);
	klog_broker = n;
	attach_latch(&klog_shared->broker[n]);
}

void
klog_reader_attach(int n)
{
	Assert(n >= 0 && n < KLOG_MAX_READERS);
	klog_readin_attach(n);
	attach_latch(&klog_shared->reader[n]);
}

void
klog_wake_readers(void)
{
	for (int i = 0; i < KLOG_MAX_READERS; i++)
		set_latch(&klog_shared->reader[i]);
}

void
klog_wake_broker(int n)
{
	set_latch(&klog_shared->broker[n]);
}

void
klog_broker_wants_durable(int n)
{
	pg_atomic_fetch_or_u64(&klog_shared->wants_durable, UINT64CONST(1) << n);
}

void
klog_broker_wants_data(KLogPartition *part, int n)
{
	if (RecoveryInProgress())
		pg_atomic_fetch_or_u64(&klog_shared->wants_replay, UINT64CONST(1) << n);
	pg_atomic_fetch_or_u64(&part->waiting_brokers, UINT64CONST(1) << n);
}

/*
 * Called by redo: a partition's state that was built before is old, and who waits for records
 * should look again.
 */
void
klog_replayed(RelFileLocator rlocator, int32 partition)
{
	pg_atomic_fetch_add_u64(klog_replay_count(rlocator, partition), 1);
	if (pg_atomic_read_u64(&klog_shared->wants_replay) != 0)
		klog_wake_brokers(pg_atomic_exchange_u64(&klog_shared->wants_replay, 0));
}

/* ------------------------------------------------------------------------
 * Watermarks
 * ------------------------------------------------------------------------
 */

/*
 * Moves the high watermark as far as the durable LSN allows. Two marks say which offset became
 * safe with which LSN: the sealed one waits for its flush, the open one is where the log's end is
 * now. When the sealed LSN is durable, its offset is readable and the open mark is sealed: so the
 * watermark moves under a steady load too, in which the end is never durable. Transactions that
 * are not durably committed hold it back.
 *
 * Returns true when there is more to come that no commit or abort will announce. Does not throw.
 */
bool
klog_watermark_advance(KLogPartition *part)
{
	XLogRecPtr	durable = klog_durable_lsn();
	int			freed = KLOG_NO_INDEX;
	bool		more;
	bool		moved = false;
	bool		died = false;
	int64		watermark;
	int		   *link;

	SpinLockAcquire(&part->mutex);
	if (part->sealed.lsn <= durable)
	{
		part->durable_offset = Max(part->durable_offset, part->sealed.offset);
		part->sealed = part->open;
		if (part->sealed.lsn <= durable)
			part->durable_offset = Max(part->durable_offset, part->sealed.offset);
	}
	more = part->sealed.offset > part->durable_offset;
	watermark = part->durable_offset;
	link = &part->pending;
	while (*link != KLOG_NO_INDEX)
	{
		KLogPending *entry = &klog_pendings[*link];

		if (entry->state == KLOG_PENDING_COMMITTED && entry->commit_lsn <= durable)
		{
			int			index = *link;

			*link = entry->next;
			entry->next = freed;
			freed = index;
			continue;
		}
		watermark = Min(watermark, entry->first_offset);
		more |= entry->state == KLOG_PENDING_COMMITTED;
		link = &entry->next;
	}
	if (part->known &&
		watermark > (int64) pg_atomic_read_u64(&part->high_watermark))
	{
		pg_atomic_write_u64(&part->high_watermark, watermark);
		moved = true;
		died = part->has_died;
		part->has_died = false;
	}
	SpinLockRelease(&part->mutex);

	klog_pending_give(freed);
	if (moved)
	{
		klog_wake_brokers(pg_atomic_exchange_u64(&part->waiting_brokers, 0));
		ConditionVariableBroadcast(&part->moved);
		klog_wait_wake(klog_wait_slot(part->relid));
		if (!part->standby)
			klog_keeper_moved(part);
		/* a dump should find the floor that a dead batch at the end asks for */
		if (died)
			klog_keeper_queue(part, false);
	}
	return more;
}

/*
 * All offsets below this one have been written before lsn.  If that is durable they are readable,
 * as far as other transactions allow, when this returns.  Does not throw.
 */
void
klog_watermark_reach(KLogPartition *part, uint64 generation, int64 offset, XLogRecPtr lsn)
{
	bool		mine;

	if (lsn > klog_durable_lsn())
		return;
	SpinLockAcquire(&part->mutex);
	mine = part->generation == generation;
	if (mine)
		part->durable_offset = Max(part->durable_offset, offset);
	SpinLockRelease(&part->mutex);
	if (mine)
		klog_watermark_follow(part);
}

/*
 * Moves the watermark as far as it goes, and has it moved on when more is durable.  Who makes it so
 * raises the durable LSN first and then takes the list: if that was before we were on it, we see
 * the LSN, and look again ourselves.  Otherwise the watermark would stay until somebody writes.
 */
void
klog_watermark_follow(KLogPartition *part)
{
	XLogRecPtr	durable;

	do
	{
		durable = klog_durable_lsn();
		if (!klog_watermark_advance(part))
			return;
		klog_dirty_push(part);
	} while (klog_durable_lsn() != durable);
}

/* Puts a partition on the list of those whose watermark waits for a flush. */
void
klog_dirty_push(KLogPartition *part)
{
	bool		push;

	SpinLockAcquire(&part->mutex);
	push = !part->dirty;
	part->dirty = true;
	SpinLockRelease(&part->mutex);
	if (!push)
		return;
	SpinLockAcquire(&klog_shared->mutex);
	part->dirty_next = klog_shared->dirty_head;
	klog_shared->dirty_head = klog_partition_index(part);
	SpinLockRelease(&klog_shared->mutex);
}

/*
 * The checkpointer keeps this in shared memory: a bool once, a set of bits since the minor
 * releases of early 2025.
 */
bool
klog_quorum_wanted(void)
{
	volatile	WalSndCtlData *ctl = WalSndCtl;

	if (max_wal_senders == 0)
		return false;
#ifdef SYNC_STANDBY_DEFINED
	if (ctl->sync_standbys_status & SYNC_STANDBY_INIT)
		return (ctl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0;
	/* not told yet: after a start, before the checkpointer's first turn */
	return SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
#else
	return ctl->sync_standbys_defined;
#endif
}

/* A server that fills a WAL file soon needs more of them. */
static void
note_wal_file(XLogRecPtr flushed)
{
	uint64		segno = flushed / wal_segment_size;
	bool		first = pg_atomic_read_u64(&klog_shared->wal_segno) == 0;

	if (!raise_to(&klog_shared->wal_segno, segno) || first)
		return;
	pg_atomic_write_u32(&klog_shared->prealloc_wanted, 1);
	set_latch(&klog_shared->prealloc);
}

/* Tells everybody how far WAL is durable. Any process may call it, also in a commit callback. */
void
klog_publish(void)
{
	XLogRecPtr	flushed = GetFlushRecPtr(NULL);
	XLogRecPtr	durable = flushed;
	int			index;

	if (klog_quorum_wanted())
	{
		/* what walsenders have noted, and nothing else, is an acknowledgement */
		LWLockAcquire(SyncRepLock, LW_SHARED);
		durable = Min(flushed, WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH]);
		LWLockRelease(SyncRepLock);
	}
	raise_to(&klog_shared->flushed, flushed);
	raise_to(&klog_shared->durable, durable);
	if (durable < flushed)
		set_latch(&klog_shared->syncwait);
	note_wal_file(flushed);

	SpinLockAcquire(&klog_shared->mutex);
	index = klog_shared->dirty_head;
	klog_shared->dirty_head = KLOG_NO_INDEX;
	SpinLockRelease(&klog_shared->mutex);
	if (index != KLOG_NO_INDEX)
		KSTOP("klog-publish-taken");
	while (index != KLOG_NO_INDEX)
	{
		KLogPartition *part = &klog_partitions[index];

		index = part->dirty_next;
		/* cleared first: who appends from now on puts it on the list again */
		SpinLockAcquire(&part->mutex);
		part->dirty = false;
		SpinLockRelease(&part->mutex);
		klog_watermark_follow(part);
	}
	klog_wake_brokers(pg_atomic_exchange_u64(&klog_shared->wants_durable, 0));
}

/* ------------------------------------------------------------------------
 * Flushing
 * ------------------------------------------------------------------------
 */
void
klog_request_flush(XLogRecPtr lsn)
{
	if (lsn <= klog_flushed_lsn())
		return;
	raise_to(&klog_shared->requested, lsn);
	set_latch(&klog_shared->flusher);
}

bool
klog_flush_inline(XLogRecPtr lsn)
{
	uint32		idle = 0;

	if (!pg_atomic_compare_exchange_u32(&klog_shared->flushing, &idle, 1))
		return false;
	XLogFlush(lsn);
	pg_atomic_write_u32(&klog_shared->flushing, 0);
	klog_publish();
	return true;
}

bool
klog_flusher_turn(void)
{
	XLogRecPtr	target = pg_atomic_read_u64(&klog_shared->requested);

	if (target <= klog_flushed_lsn())
		return false;
	pg_atomic_write_u32(&klog_shared->flushing, 1);
	XLogFlush(target);
	pg_atomic_write_u32(&klog_shared->flushing, 0);
	klog_publish();
	return true;
}

/*
 * Waits until the quorum has what is flushed here, and publishes. Whatever ends the wait (a
 * cancel, the end of the server, another setting) acknowledges nothing: klog_publish() looks for
 * itself.
 */
bool
klog_syncwait_turn(void)
{
	XLogRecPtr	target = klog_flushed_lsn();

	if (target <= klog_durable_lsn())
		return false;
	if (klog_quorum_wanted())
	{
		HOLD_INTERRUPTS();
		SyncRepWaitForLSN(target, false);
		RESUME_INTERRUPTS();
	}
	klog_publish();
	return true;
}

/* ------------------------------------------------------------------------
 * Waiting in SQL
 * ------------------------------------------------------------------------
 */
/* How often a waiting session looks at what was replayed. */
#define STANDBY_LOOK_MS		100

/* On a standby nobody moves watermarks but who looks at the pages. False: the relation is gone. */
static bool
look_on_standby(Oid relid, int32 partition)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);

	if (rel == NULL)
		return false;
	(void) klog_attach(rel, partition, false);
	relation_close(rel, AccessShareLock);
	return true;
}

bool
klog_wait(Oid relid, int32 partition, int64 offset, int64 timeout_ms)
{
	KLogPartition *part = klog_lookup(relid, partition);
	bool		standby = RecoveryInProgress();
	uint64		generation;
	TimestampTz deadline = 0;
	bool		readable;

	if (part == NULL)
		return false;
	generation = part->generation;
	if (timeout_ms >= 0)
		deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	for (;;)
	{
		long		left = -1;

		ConditionVariablePrepareToSleep(&part->moved);
		readable = part->generation == generation && klog_high_watermark(part) > offset;
		if (readable || part->generation != generation)
			break;
		if (timeout_ms >= 0)
		{
			left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
			if (left <= 0)
				break;
		}
		if (standby)
			left = left < 0 ? STANDBY_LOOK_MS : Min(left, STANDBY_LOOK_MS);
		ConditionVariableTimedSleep(&part->moved, left, PG_WAIT_EXTENSION);
		if (standby)
		{
			ConditionVariableCancelSleep();
			if (!look_on_standby(relid, partition))
				return false;
		}
	}
	ConditionVariableCancelSleep();
	return readable;
}

int
klog_wait_slot(Oid relid)
{
	return (int) (murmurhash32(relid) % KLOG_WAIT_SLOTS);
}

void
klog_wait_prepare(int slot)
{
	ConditionVariablePrepareToSleep(&klog_shared->any_moved[slot]);
}

void
klog_wait_sleep(int slot, long timeout_ms)
{
	/* a lock that was waited for meanwhile has taken our latch's news */
	SetLatch(MyLatch);
	(void) ConditionVariableTimedSleep(&klog_shared->any_moved[slot], timeout_ms,
									   PG_WAIT_EXTENSION);
}

void
klog_wait_end(void)
{
	ConditionVariableCancelSleep();
}

void
klog_wait_wake(int slot)
{
	ConditionVariableBroadcast(&klog_shared->any_moved[slot]);
}
