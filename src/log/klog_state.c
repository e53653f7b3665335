/*
 * klog_state.c
 *		The shared state of partitions: where the end is, what is durable.
 *
 * A state is a cache of what the pages say. It is built from them (klog_build.c) by the first
 * process that wants it (after a start, or when the relation got another file), under the partition's
 * append lock; nothing is built in redo.  A broker has it built by a reader.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "kafka_pg.h"
#include "kguc.h"
#include "log/klog_buffer.h"

/* How often a standby looks at pages that do not fit each other, a millisecond apart. */
#define BUILD_TRIES		1000

/* After this a standby looks up a partition's floors again, which no record of ours tells of. */
#define FLOOR_MS		1000

typedef struct KLogKey
{
	Oid			relid;
	int32		partition;
} KLogKey;

typedef struct KLogHashEntry
{
	KLogKey		key;
	int			slot;
} KLogHashEntry;

KLogShared *klog_shared = NULL;
KLogPartition *klog_partitions = NULL;
KLogPending *klog_pendings = NULL;
static HTAB *klog_hash = NULL;
static klog_forget_callback forget_callback = NULL;

void
klog_on_forget(klog_forget_callback cb)
{
	Assert(forget_callback == NULL);
	forget_callback = cb;
}

Size
klog_shmem_size(void)
{
	Size		size = add_size(MAXALIGN(sizeof(KLogShared)), klog_buffer_shmem_size());

	size = add_size(size, klog_readin_shmem_size());
	size = add_size(size, mul_size(kguc_max_partitions, sizeof(KLogPartition)));
	size = add_size(size, mul_size(kguc_max_pending_appends, sizeof(KLogPending)));
	size = add_size(size, hash_estimate_size(kguc_max_partitions, sizeof(KLogHashEntry)));
	return size;
}

static void
init_slot(KLogPartition *part, int tranche)
{
	LWLockInitialize(&part->lock, tranche);
	SpinLockInit(&part->mutex);
	pg_atomic_init_u32(&part->valid, 0);
	pg_atomic_init_u64(&part->high_watermark, 0);
	pg_atomic_init_u64(&part->floor_next, 0);
	pg_atomic_init_u64(&part->waiting_brokers, 0);
	for (int i = 0; i < (int) lengthof(part->asked); i++)
	{
		pg_atomic_init_u64(&part->asked[i].brokers, 0);
		pg_atomic_init_u64(&part->asked[i].at, 0);
		pg_atomic_init_u64(&part->asked[i].failed, 0);
	}
	pg_atomic_init_u64(&part->failed_page, 0);
	pg_atomic_init_u64(&part->failed_page_at, 0);
	ConditionVariableInit(&part->moved);
	part->pending = KLOG_NO_INDEX;
	part->dirty_next = KLOG_NO_INDEX;
	part->keep_next = KLOG_NO_INDEX;
}

void
klog_shmem_init(void)
{
	HASHCTL		info = {.keysize = sizeof(KLogKey), .entrysize = sizeof(KLogHashEntry)};
	bool		found;
	bool		found_partitions;
	bool		found_pendings;

	klog_buffer_shmem_init();
	klog_readin_shmem_init();
	klog_shared = ShmemInitStruct("kafka_pg log", sizeof(KLogShared), &found);
	klog_partitions = ShmemInitStruct("kafka_pg partitions",
									  mul_size(kguc_max_partitions, sizeof(KLogPartition)),
									  &found_partitions);
	klog_pendings = ShmemInitStruct("kafka_pg pending appends",
									mul_size(kguc_max_pending_appends, sizeof(KLogPending)),
									&found_pendings);
	klog_hash = ShmemInitHash("kafka_pg partition index", kguc_max_partitions,
							  kguc_max_partitions, &info, HASH_ELEM | HASH_BLOBS);
	if (!found)
	{
		int			tranche = LWLockNewTrancheId();

		memset(klog_shared, 0, sizeof(KLogShared));
		memset(klog_partitions, 0, mul_size(kguc_max_partitions, sizeof(KLogPartition)));
		memset(klog_pendings, 0, mul_size(kguc_max_pending_appends, sizeof(KLogPending)));
		LWLockInitialize(&klog_shared->hash_lock, tranche);
		SpinLockInit(&klog_shared->mutex);
		SpinLockInit(&klog_shared->reader_mutex);
		pg_atomic_init_u64(&klog_shared->requested, 0);
		pg_atomic_init_u64(&klog_shared->flushed, 0);
		pg_atomic_init_u64(&klog_shared->durable, 0);
		pg_atomic_init_u64(&klog_shared->wants_durable, 0);
		for (int i = 0; i < KLOG_REPLAY_COUNTS; i++)
			pg_atomic_init_u64(&klog_shared->replayed[i], 0);
		pg_atomic_init_u64(&klog_shared->wants_replay, 0);
		pg_atomic_init_u32(&klog_shared->flushing, 0);
		pg_atomic_init_u64(&klog_shared->wal_segno, 0);
		pg_atomic_init_u32(&klog_shared->prealloc_wanted, 0);
		for (int i = 0; i < KLOG_WAIT_SLOTS; i++)
			ConditionVariableInit(&klog_shared->any_moved[i]);
		klog_shared->next_generation = 1;
		klog_shared->dirty_head = KLOG_NO_INDEX;
		klog_shared->keep_head = KLOG_NO_INDEX;
		klog_shared->mark_head = KLOG_NO_INDEX;
		klog_shared->free_slot = 0;
		for (int i = 0; i < kguc_max_partitions; i++)
		{
			init_slot(&klog_partitions[i], tranche);
			klog_partitions[i].generation = 0;
			klog_partitions[i].free_next = i + 1 < kguc_max_partitions ? i + 1 : KLOG_NO_INDEX;
		}
		klog_shared->free_pending = 0;
		for (int i = 0; i < kguc_max_pending_appends; i++)
			klog_pendings[i].next = i + 1 < kguc_max_pending_appends ? i + 1 : KLOG_NO_INDEX;
		LWLockRegisterTranche(tranche, "kafka_log");
		klog_shared->tranche = tranche;
	}
	else
		LWLockRegisterTranche(klog_shared->tranche, "kafka_log");
}

/* Looks a state up without building it; NULL when there is none. */
KLogPartition *
klog_lookup(Oid relid, int32 partition)
{
	KLogKey		key = {relid, partition};
	KLogHashEntry *entry;
	KLogPartition *part = NULL;

	LWLockAcquire(&klog_shared->hash_lock, LW_SHARED);
	entry = hash_search(klog_hash, &key, HASH_FIND, NULL);
	if (entry)
		part = &klog_partitions[entry->slot];
	LWLockRelease(&klog_shared->hash_lock);
	return part;
}

/* Gives a slot back.  The caller holds hash_lock exclusively. */
static void
free_slot(KLogPartition *part)
{
	KLogKey		key = {part->relid, part->partition};

	hash_search(klog_hash, &key, HASH_REMOVE, NULL);
	pg_atomic_write_u32(&part->valid, 0);
	SpinLockAcquire(&part->mutex);
	part->known = false;
	SpinLockRelease(&part->mutex);
	klog_pending_drop(part);
	part->generation = 0;
	part->free_next = klog_shared->free_slot;
	klog_shared->free_slot = klog_partition_index(part);

	/* who waits for data of this partition would not be told by the next user of the slot */
	klog_wake_brokers(pg_atomic_exchange_u64(&part->waiting_brokers, 0));
	for (int i = 0; i < (int) lengthof(part->asked); i++)
	{
		klog_reader_answer(part, i);
		pg_atomic_write_u64(&part->asked[i].failed, 0);
	}
	pg_atomic_write_u64(&part->failed_page_at, 0);
	ConditionVariableBroadcast(&part->moved);
	klog_wait_wake(klog_wait_slot(part->relid));
}

/*
 * Gives back the states of relations that no longer exist: their transactions may have ended
 * in a crash of the process that should have called klog_forget.  Caller holds no lock.
 */
static void
sweep_slots(void)
{
	Oid			last = InvalidOid;
	bool		last_exists = false;

	for (int i = 0; i < kguc_max_partitions; i++)
	{
		Oid			relid = klog_partitions[i].relid;

		if (klog_partitions[i].generation == 0 || !OidIsValid(relid))
			continue;
		if (relid != last)
		{
			last = relid;
			/* one that is being created is not in our catalogs yet, but locked */
			last_exists = !ConditionalLockRelationOid(relid, AccessShareLock);
			if (!last_exists)
			{
				last_exists = SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid));
				UnlockRelationOid(relid, AccessShareLock);
			}
		}
		if (!last_exists)
			klog_forget(relid);
	}
}

/* Finds or makes the slot of a partition. */
static KLogPartition *
get_slot(Oid relid, int32 partition)
{
	KLogKey		key = {relid, partition};

	for (int attempt = 0; attempt < 2; attempt++)
	{
		KLogHashEntry *entry;
		KLogPartition *part = NULL;
		bool		found;

		LWLockAcquire(&klog_shared->hash_lock, LW_EXCLUSIVE);
		entry = hash_search(klog_hash, &key, HASH_FIND, &found);
		if (found)
			part = &klog_partitions[entry->slot];
		else if (klog_shared->free_slot != KLOG_NO_INDEX)
		{
			entry = hash_search(klog_hash, &key, HASH_ENTER_NULL, &found);
			if (entry)
			{
				entry->slot = klog_shared->free_slot;
				part = &klog_partitions[entry->slot];
				klog_shared->free_slot = part->free_next;
				part->relid = relid;
				part->partition = partition;
				part->generation = klog_shared->next_generation++;
				part->floor_start = 0;
				pg_atomic_write_u64(&part->floor_next, 0);
				memset(&part->rlocator, 0, sizeof(part->rlocator));
				pg_atomic_write_u64(&part->high_watermark, 0);
				pg_atomic_write_u64(&part->waiting_brokers, 0);
				part->floor_asked = 0;
			}
		}
		LWLockRelease(&klog_shared->hash_lock);
		if (part)
			return part;
		sweep_slots();
	}
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many partitions in use"),
			 errhint("Increase kafka_pg.max_partitions (now %d) and restart the server.",
					 kguc_max_partitions)));
}

void
klog_forget(Oid relid)
{
	/* Not ours but another database's relation, with the same OID. */
	if (!kafka_pg_in_database())
		return;
	if (forget_callback)
		forget_callback(relid);
	for (int i = 0; i < kguc_max_partitions; i++)
	{
		KLogPartition *part = &klog_partitions[i];

		if (part->relid != relid || part->generation == 0)
			continue;
		LWLockAcquire(&klog_shared->hash_lock, LW_EXCLUSIVE);
		if (part->relid == relid && part->generation != 0)
			free_slot(part);
		LWLockRelease(&klog_shared->hash_lock);
	}
}

/* ------------------------------------------------------------------------
 * Attaching
 * ------------------------------------------------------------------------
 */

/* Is the state that of this file, and as new as it must be? */
static bool
is_current(KLogPartition *part, Relation rel, bool standby)
{
	if (!pg_atomic_read_u32(&part->valid))
		return false;
	pg_read_barrier();
	return RelFileLocatorEquals(part->rlocator, rel->rd_locator) && part->standby == standby &&
		(!standby || part->built_at ==
		 pg_atomic_read_u64(klog_replay_count(part->rlocator, part->partition)));
}

/* Who needs a state, and what it may wait for to have one. */
typedef enum AttachAs
{
	AS_BACKEND,					/* for everything */
	AS_WORKER,					/* for a disk, but not for others' locks */
	AS_BROKER					/* for nothing */
} AttachAs;

static bool
floors_are_old(const KLogPartition *part)
{
	return TimestampDifferenceExceeds(part->floor_asked, GetCurrentTimestamp(), FLOOR_MS);
}

/* Is it certain, without a look at the disk, that the partition has no pages? */
static bool
is_empty(Relation rel, int32 partition)
{
	KLogPosition cold = KLOG_NO_POSITION;
	KLogMeta	meta;
	BlockNumber block;
	Buffer		buffer;
	bool		empty;

	if (!klog_meta_read(rel, &meta, &cold))
		return !klog_is_cold(&cold);
	block = klog_page_partition_block(&meta, partition);
	if (block == InvalidBlockNumber || block >= RelationGetNumberOfBlocks(rel))
		return true;
	buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE, &cold);
	if (!BufferIsValid(buffer))
		return false;
	/* what is wrong with it is for a reader to say */
	empty = PageIsNew(BufferGetPage(buffer));
	UnlockReleaseBuffer(buffer);
	return empty;
}

/* Builds a state that is not current.  False: not now; with AS_BROKER a reader has been asked. */
static bool
build(Relation rel, KLogPartition *part, bool standby, AttachAs as)
{
	KLogPosition position = KLOG_NO_POSITION;
	KLogPosition *cold = as == AS_BROKER ? &position : NULL;
	KLogResult	result = KLOG_OK;

	/*
	 * On a standby it is out of date with every record, and hardly ever more than a few pages;
	 * that of a partition which nobody has written to is always ready at hand.
	 */
	if (as == AS_BROKER && !standby && !is_empty(rel, part->partition))
	{
		klog_reader_want_state(rel, part);
		return false;
	}
	/* a floor that is written from now on will be told to this slot, but not on a standby */
	if ((!standby || floors_are_old(part)) && !klog_floor_ask(rel, part, as != AS_BACKEND))
		return false;
	if (as == AS_BACKEND)
		LWLockAcquire(&part->lock, LW_EXCLUSIVE);
	else if (!LWLockConditionalAcquire(&part->lock, LW_EXCLUSIVE))
		return false;
	if (as == AS_BROKER && !standby && !is_empty(rel, part->partition))
		result = KLOG_COLD;		/* it was written to meanwhile */
	else if (!is_current(part, rel, standby))
	{
		SpinLockAcquire(&part->mutex);
		pg_atomic_write_u32(&part->valid, 0);
		/* another file, perhaps the old one after a rollback: its own watermark counts */
		if (!RelFileLocatorEquals(part->rlocator, rel->rd_locator))
		{
			part->known = false;
			pg_atomic_write_u64(&part->high_watermark, 0);
		}
		SpinLockRelease(&part->mutex);
		for (int i = 1;; i++)
		{
			result = klog_build_state(rel, part, standby, i == BUILD_TRIES && cold == NULL, cold);
			if (result != KLOG_BUSY || cold != NULL)
				break;
			pg_usleep(1000L);
		}
	}
	LWLockRelease(&part->lock);
	if (result == KLOG_COLD)
		klog_reader_want_state(rel, part);
	return result == KLOG_OK;
}

static KLogPartition *
attach(Relation rel, int32 partition, AttachAs as)
{
	bool		standby = RecoveryInProgress();
	KLogPartition *part;

	if (partition < 0 || partition >= KLOG_MAX_PARTITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partition %d is out of range", partition),
				 errdetail("Partitions of a topic are numbered from 0 to %d.",
						   KLOG_MAX_PARTITIONS - 1)));
	kafka_pg_check_database();
	part = klog_lookup(RelationGetRelid(rel), partition);
	if (part == NULL)
		part = get_slot(RelationGetRelid(rel), partition);
	if (unlikely(!is_current(part, rel, standby)))
	{
		if (!build(rel, part, standby, as))
			return NULL;
		pg_atomic_write_u64(&part->asked[KLOG_READER_STATE].failed, 0);
	}
	else if (standby && floors_are_old(part))
		(void) klog_floor_ask(rel, part, as != AS_BACKEND);

	/* also if somebody else has built it, or who did was not asked */
	if (unlikely(pg_atomic_read_u64(&part->asked[KLOG_READER_STATE].brokers) != 0))
		klog_reader_answer(part, KLOG_READER_STATE);
	return part;
}

KLogPartition *
klog_attach(Relation rel, int32 partition, bool nowait)
{
	return attach(rel, partition, nowait ? AS_BROKER : AS_BACKEND);
}

KLogPartition *
klog_attach_build(Relation rel, int32 partition)
{
	return attach(rel, partition, AS_WORKER);
}

/*
 * The batches up to next_offset are in WAL up to lsn.  Called under the append lock, with the
 * pages still locked; does not throw.
 */
void
klog_state_appended(KLogPartition *part, int64 first_offset, int64 next_offset, int64 bytes,
					XLogRecPtr lsn)
{
	bool		queue;

	SpinLockAcquire(&part->mutex);
	klog_floor_appended(part, first_offset, next_offset);
	part->next_offset = next_offset;
	part->total_bytes += bytes;
	part->last_segment = part->segment;
	part->last_page = part->tail_page;
	if (part->sealed.offset <= part->durable_offset)
	{
		/* nothing is waited for: this is the next to become durable */
		part->sealed.offset = next_offset;
		part->sealed.lsn = lsn;
	}
	part->open.offset = next_offset;
	part->open.lsn = lsn;
	queue = !part->keep_queued &&
		(part->total_bytes - part->marked_bytes > KLOG_MARK_BYTES || klog_has_grown(part));
	SpinLockRelease(&part->mutex);
	klog_dirty_push(part);
	/* others' flush may have overtaken us since the WAL record was written */
	if (lsn <= klog_durable_lsn())
		klog_watermark_follow(part);
	if (queue)
		klog_keeper_queue(part, false);
}

/* ------------------------------------------------------------------------
 * Looking and telling
 * ------------------------------------------------------------------------
 */
bool
klog_lock(KLogPartition *part, bool nowait)
{
	if (nowait)
		return LWLockConditionalAcquire(&part->lock, LW_EXCLUSIVE);
	LWLockAcquire(&part->lock, LW_EXCLUSIVE);
	return true;
}

void
klog_unlock(KLogPartition *part)
{
	LWLockRelease(&part->lock);
}

int64
klog_log_start(KLogPartition *part)
{
	int64		offset;

	SpinLockAcquire(&part->mutex);
	offset = Max(part->log_start, part->floor_start);
	SpinLockRelease(&part->mutex);
	return offset;
}

int64
klog_end_offset(KLogPartition *part)
{
	int64		offset;

	SpinLockAcquire(&part->mutex);
	offset = Max(part->next_offset, (int64) pg_atomic_read_u64(&part->floor_next));
	SpinLockRelease(&part->mutex);
	return offset;
}

int64
klog_size_bytes(KLogPartition *part)
{
	int64		bytes;

	SpinLockAcquire(&part->mutex);
	bytes = part->total_bytes;
	SpinLockRelease(&part->mutex);
	return bytes;
}

int64
klog_high_watermark(KLogPartition *part)
{
	int64		watermark = klog_watermark(part);
	int64		end;

	if (likely(watermark >= (int64) pg_atomic_read_u64(&part->floor_next)))
		return watermark;
	return klog_in_gap(part, watermark, &end) ? end : watermark;
}

int32
klog_stored_partitions(Relation rel)
{
	KLogMeta	meta;

	return klog_meta_read(rel, &meta, NULL) ? meta.npartitions : 0;
}
