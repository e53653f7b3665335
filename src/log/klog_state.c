/*
 * klog_state.c
 *		The shared state of partitions: where the end is, what is durable.
 *
 * A state is a cache of what the pages say. It is built from them by the first process that
 * wants it (after a start, or when the relation got another file), under the partition's
 * append lock; nothing is built in redo.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "batch/kbatch.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/syscache.h"

#include "kafka_pg.h"
#include "kguc.h"
#include "kstop.h"
#include "log/klog_buffer.h"
#include "log/klog_xlog.h"

/* How often a standby looks at pages that do not fit each other, a millisecond apart. */
#define BUILD_TRIES		1000

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
	Size		size = MAXALIGN(sizeof(KLogShared));

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
		pg_atomic_init_u64(&klog_shared->replayed, 0);
		pg_atomic_init_u64(&klog_shared->wants_replay, 0);
		pg_atomic_init_u32(&klog_shared->flushing, 0);
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
	ConditionVariableBroadcast(&part->moved);
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
 * Building
 * ------------------------------------------------------------------------
 */

/* What the walk over the end of the open segment found. */
typedef struct Tail
{
	uint32		page;
	BlockNumber block;
	Buffer		buffer;
	uint16		lower;
	uint16		listed;
	int64		next_offset;
	int64		max_timestamp;
	int64		high_watermark;
	XLogRecPtr	lsn;
} Tail;

static void
report_corrupt(Relation rel, int32 partition, BlockNumber block, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("partition %d of \"%s\" is corrupt at block %u: %s", partition,
					RelationGetRelationName(rel), block, what)));
}

/*
 * Finds the end of the open segment: steps back to the last page on which a batch starts and
 * walks from header to header.  Pages of a long batch whose first page was never written (a crash
 * came between) have no batch start and are passed over.
 *
 * Returns NULL, or what is wrong at tail->block.  On a standby that may be nothing but a replay
 * that went on between two looks.
 */
static const char *
find_tail(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 npages, Tail *tail)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	int32		partition = part->partition;
	uint32		segment = seg->entry.segment;
	uint64		skip = 0;

	tail->page = 0;
	tail->block = InvalidBlockNumber;
	tail->buffer = InvalidBuffer;
	tail->lower = 0;
	tail->listed = 0;
	tail->next_offset = seg->entry.first_offset;
	tail->max_timestamp = -1;
	tail->high_watermark = 0;
	tail->lsn = InvalidXLogRecPtr;

	for (uint32 pageno = npages - 1; pageno > 0; pageno--)
	{
		BlockNumber block = klog_segment_block(rel, part, seg, pageno);
		Buffer		buffer;
		bool		starts;
		Page		page;

		CHECK_FOR_INTERRUPTS();
		if (block == InvalidBlockNumber || block >= nblocks)
			continue;
		buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		starts = klog_page_is(page, KLOG_PAGE_DATA, partition, segment, pageno) &&
			KLogPageGetTag(page)->first_batch != 0;
		if (!starts)
		{
			UnlockReleaseBuffer(buffer);
			continue;
		}

		/* walk the headers that start here */
		{
			KLogPageTag *tag = KLogPageGetTag(page);
			uint16		lower = ((PageHeader) page)->pd_lower;
			uint32		pos = tag->first_batch;

			tail->page = pageno;
			tail->block = block;
			tail->max_timestamp = tag->max_timestamp;
			tail->high_watermark = tag->high_watermark;
			while (pos < lower)
			{
				KBatchHeader header;

				if (kbatch_header_read((uint8 *) page + pos, lower - pos, &header) != KBATCH_OK)
				{
					UnlockReleaseBuffer(buffer);
					return "batch header";
				}
				tail->next_offset = header.base_offset + header.last_offset_delta + 1;
				skip = kbatch_size(&header);
				if (skip > (uint64) (lower - pos))
				{
					skip -= lower - pos;
					pos = lower;
					break;
				}
				pos += skip;
				skip = 0;
			}
			tail->lower = lower;
			tail->listed = tag->nlisted;
			tail->lsn = PageGetLSN(page);
			tail->buffer = buffer;
			UnlockReleaseBuffer(buffer);
		}
		break;
	}

	/* the last batch may go on over further pages */
	while (skip > 0)
	{
		uint32		pageno = tail->page + 1;
		BlockNumber block;
		Buffer		buffer;
		Page		page;
		uint16		lower;

		block = pageno < npages ? klog_segment_block(rel, part, seg, pageno) :
			InvalidBlockNumber;
		if (block == InvalidBlockNumber || block >= nblocks)
			return "last batch is cut off";
		KSTOP("klog-find-tail-next");
		buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		lower = ((PageHeader) page)->pd_lower;
		if (!klog_page_is(page, KLOG_PAGE_DATA, partition, segment, pageno) ||
			lower <= KLOG_DATA_START || skip < lower - KLOG_DATA_START)
		{
			UnlockReleaseBuffer(buffer);
			tail->block = block;
			return "page does not continue the last batch";
		}
		skip -= lower - KLOG_DATA_START;
		tail->page = pageno;
		tail->block = block;
		tail->buffer = buffer;
		tail->lower = lower;
		tail->listed = KLogPageGetTag(page)->nlisted;
		tail->lsn = Max(tail->lsn, PageGetLSN(page));
		UnlockReleaseBuffer(buffer);
	}
	return NULL;
}

typedef struct Unresolved
{
	KLogPartition *part;
	TransactionId unknown;		/* in progress, but not one of ours */
} Unresolved;

/*
 * klog_walk_pages callback: notes which batches have a transaction that is not settled on the
 * page.
 */
static bool
note_unresolved(void *arg, const KLogWalkPage *at)
{
	Unresolved *found = arg;
	KLogPartition *part = found->part;
	Page		page = BufferGetPage(at->buffer);
	KLogPageTag *tag = KLogPageGetTag(page);

	for (int i = 0; i < tag->nlisted; i++)
	{
		KLogListed *entry = KLogPageListed(page, i);
		KBatchHeader header;

		if (!TransactionIdIsValid(entry->xid) || entry->pos < KLOG_DATA_START ||
			entry->pos > KLOG_DATA_END - KLOG_BATCH_HEADER ||
			kbatch_header_read((uint8 *) page + entry->pos, KLOG_BATCH_HEADER,
							   &header) != KBATCH_OK)
			continue;
		if (part->unresolved_from < 0)
			part->unresolved_from = header.base_offset;
		part->unresolved_to = kbatch_next_offset(&header);
		if (!klog_pending_running(part, entry->xid) && TransactionIdIsInProgress(entry->xid))
		{
			found->unknown = entry->xid;
			return false;
		}
	}
	return true;
}

/*
 * Looks at the lists of all pages from resolved_to on. Returns whether there is anything to
 * resolve.
 */
static bool
find_unresolved(Relation rel, KLogPartition *part, const KLogEnd *end, int64 from)
{
	Unresolved	found = {part, InvalidTransactionId};

	if (!klog_walk_pages(rel, part, end, from, note_unresolved, &found))
		report_corrupt(rel, part->partition, part->head, "a page is missing");
	if (TransactionIdIsValid(found.unknown))
		elog(ERROR, "transaction %u appended to partition %d but is not known to it",
			 found.unknown, part->partition);
	return part->unresolved_from >= 0;
}

/*
 * Builds the state from the pages.  The caller holds the append lock.  False: replay went on
 * meanwhile, try again; if this is the last try, that is an ERROR.
 */
static bool
build_state(Relation rel, KLogPartition *part, bool standby, bool last_try)
{
	Buffer		buffer;
	KLogPartitionHeader header;
	KLogMeta	meta;
	KLogSegment seg;
	Tail		tail = {0};
	KLogEnd		end = {0};
	bool		unresolved = false;
	int64		bytes = 0;
	int64		next_offset = 0;
	int64		log_start = 0;
	int64		watermark = 0;
	const char *problem;
	XLogRecPtr	header_lsn;
	XLogRecPtr	lsn;

	part->standby = standby;
	part->built_at = pg_atomic_read_u64(&klog_shared->replayed);
	part->head = InvalidBlockNumber;
	part->segment = 0;
	part->npages = 0;
	part->tail_page = 0;
	part->tail_block = InvalidBlockNumber;
	part->tail_buffer = InvalidBuffer;
	part->tail_lower = 0;
	part->tail_listed = 0;
	part->segment_first_offset = 0;
	part->segment_bytes = 0;
	part->segment_first_timestamp = -1;
	part->segment_max_timestamp = -1;
	part->max_timestamp = -1;
	part->alloc_hint = 0;
	part->unresolved_from = -1;
	part->unresolved_to = -1;
	part->marked_to = 0;
	part->clean_page = 0;

	/*
	 * Readers on a standby look at these two while others build the state anew. They never change
	 * in a file's life.
	 */
	if (!RelFileLocatorEquals(part->rlocator, rel->rd_locator))
	{
		part->header = InvalidBlockNumber;
		part->extent_units = 0;
	}
	part->rlocator = rel->rd_locator;
	KSTOP("klog-build-begin");

	buffer = InvalidBuffer;
	if (klog_meta_read(rel, &meta))
	{
		part->extent_units = meta.extent_units;
		buffer = klog_partition_header(rel, part->partition, BUFFER_LOCK_SHARE);
	}
	if (BufferIsValid(buffer))
	{
		pg_write_barrier();
		part->header = BufferGetBlockNumber(buffer);
		memcpy(&header, KLogPageContent(BufferGetPage(buffer)), sizeof(header));
		header_lsn = PageGetLSN(BufferGetPage(buffer));
		UnlockReleaseBuffer(buffer);
		log_start = next_offset = header.log_start;
		watermark = Max(log_start, header.high_watermark);
		part->marked_to = header.resolved_to;
		if (header.nentries > 0)
		{
			memset(&seg, 0, sizeof(seg));
			seg.entry = header.entry[header.nentries - 1];
			seg.extent_units = meta.extent_units;
			if (klog_segment_block(rel, part, &seg, 0) != seg.entry.head)
				report_corrupt(rel, part->partition, seg.entry.head, "segment head");
			part->segment = seg.entry.segment;
			part->head = seg.entry.head;
			part->npages = klog_segment_pages(seg.nextents, meta.extent_units);
			part->segment_first_offset = seg.entry.first_offset;
			/* a power loss may have taken the end of a file whose extents are in WAL */
			if (!standby)
				klog_grow_to_used(rel, klog_segment_block(rel, part, &seg, part->npages - 1));
			problem = find_tail(rel, part, &seg, part->npages, &tail);
			if (problem != NULL && standby && !last_try)
				return false;
			if (problem != NULL)
				report_corrupt(rel, part->partition, tail.block, problem);
			end = (KLogEnd) {part->segment, tail.page, tail.next_offset};
			if (tail.page == 0)
			{
				/* opened, and nothing came: the data ends with the segment before, if any */
				tail.lsn = header_lsn;
				if (header.nentries > 1)
				{
					end.segment = header.entry[header.nentries - 2].segment;
					end.page = header.entry[header.nentries - 2].npages - 1;
				}
			}
			next_offset = tail.next_offset;
			watermark = Min(Max(watermark, tail.high_watermark), next_offset);
			part->tail_page = tail.page;
			part->tail_block = tail.block;
			part->tail_buffer = tail.buffer;
			part->tail_lower = tail.lower;
			part->tail_listed = tail.listed;
			part->segment_max_timestamp = tail.max_timestamp;
			part->max_timestamp = tail.max_timestamp;
			if (tail.page > 0)
				part->segment_bytes = (int64) (tail.page - 1) * KLOG_DATA_SPACE +
					tail.lower - KLOG_DATA_START;
			bytes = part->segment_bytes;
			if (header.nentries > 1)
				part->max_timestamp = Max(part->max_timestamp,
										  header.entry[header.nentries - 2].max_timestamp);
			part->segment_first_timestamp = klog_segment_first_timestamp(rel, part,
																		 &seg, tail.page);
			bytes += klog_segment_sealed_bytes(rel, part->partition, &header);
			if (!standby)
				unresolved = find_unresolved(rel, part, &end, header.resolved_to);
		}
	}

	/*
	 * What stands on the pages need not be durable: their WAL may still be in buffers, and so may
	 * the commit records of the transactions that we believe.  A record of our own is behind them
	 * all, and its flush brings them along.  Until all of it is durable the watermark stays at what
	 * the pages say it was: what was readable once stays so when there is no quorum after a
	 * restart.
	 *
	 * A standby never knows more than what the pages say. The commits that this watermark stands
	 * for came before the record that told it, so they are replayed.
	 */
	lsn = standby ? PG_UINT64_MAX : tail.lsn;
	if (unresolved)
	{
		xl_klog_heartbeat xlrec = {.durable_lsn = klog_durable_lsn()};

		XLogBeginInsert();
		XLogRegisterData((char *) &xlrec, sizeof(xlrec));
		lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_HEARTBEAT);
	}
	if (!standby && lsn > klog_durable_lsn())
	{
		XLogFlush(lsn);
		klog_publish();
	}

	SpinLockAcquire(&part->mutex);
	part->log_start = log_start;
	part->next_offset = next_offset;
	part->gap_from = -1;
	part->check_end = standby ? 0 : next_offset;
	part->last_segment = end.segment;
	part->last_page = end.page;
	part->total_bytes = bytes;
	part->marked_bytes = bytes;
	part->told_bytes = bytes;
	part->told_segment = part->last_segment;
	part->durable_offset = watermark;
	part->sealed.offset = next_offset;
	part->sealed.lsn = lsn;
	part->open = part->sealed;
	part->known = true;
	SpinLockRelease(&part->mutex);

	/*
	 * before anybody else may take the state for good: who looks must not find the watermark at 0
	 */
	klog_watermark_advance(part);
	pg_write_barrier();
	pg_atomic_write_u32(&part->valid, 1);
	if (!standby)
		klog_dirty_push(part);
	if (unresolved || part->check_end > 0)
		klog_keeper_queue(part, false);
	return true;
}

/* Is the state that of this file, and as new as it must be? */
static bool
is_current(KLogPartition *part, Relation rel, bool standby)
{
	if (!pg_atomic_read_u32(&part->valid))
		return false;
	pg_read_barrier();
	return RelFileLocatorEquals(part->rlocator, rel->rd_locator) && part->standby == standby &&
		(!standby || part->built_at == pg_atomic_read_u64(&klog_shared->replayed));
}

KLogPartition *
klog_attach(Relation rel, int32 partition, bool nowait)
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
	if (likely(is_current(part, rel, standby)))
		return part;

	/* a floor that is written from now on will be told to this slot */
	if (!klog_floor_ask(rel, part, nowait))
		return NULL;
	if (nowait)
	{
		if (!LWLockConditionalAcquire(&part->lock, LW_EXCLUSIVE))
			return NULL;
	}
	else
		LWLockAcquire(&part->lock, LW_EXCLUSIVE);
	if (!is_current(part, rel, standby))
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
		for (int i = 1; !build_state(rel, part, standby, i == BUILD_TRIES); i++)
			pg_usleep(1000L);
	}
	LWLockRelease(&part->lock);
	return part;
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

	return klog_meta_read(rel, &meta) ? meta.npartitions : 0;
}
