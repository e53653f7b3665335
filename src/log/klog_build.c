/*
 * klog_build.c
 *		A partition's state, built from its pages.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "batch/kbatch.h"
#include "miscadmin.h"
#include "storage/procarray.h"

#include "kstop.h"
#include "log/klog_buffer.h"
#include "log/klog_xlog.h"

/* What the walk over the end of the open segment found. */
typedef struct Tail
{
	uint32		page;
	BlockNumber block;
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
 * Returns NULL, also if a page is cold, or what is wrong at tail->block.  On a standby that may be
 * nothing but a replay that went on between two looks.
 */
static const char *
find_tail(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 npages, Tail *tail,
		  KLogPosition *cold)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	int32		partition = part->partition;
	uint32		segment = seg->entry.segment;
	uint64		skip = 0;

	tail->page = 0;
	tail->block = InvalidBlockNumber;
	tail->lower = 0;
	tail->listed = 0;
	tail->next_offset = seg->entry.first_offset;
	tail->max_timestamp = -1;
	tail->high_watermark = 0;
	tail->lsn = InvalidXLogRecPtr;

	for (uint32 pageno = npages - 1; pageno > 0; pageno--)
	{
		BlockNumber block = klog_segment_block(rel, part, seg, pageno, cold);
		Buffer		buffer;
		bool		starts;
		Page		page;

		CHECK_FOR_INTERRUPTS();
		if (klog_is_cold(cold))
			return NULL;
		if (block == InvalidBlockNumber || block >= nblocks)
			continue;
		buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE, cold);
		if (!BufferIsValid(buffer))
			return NULL;
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

		block = pageno < npages ? klog_segment_block(rel, part, seg, pageno, cold) :
			InvalidBlockNumber;
		if (klog_is_cold(cold))
			return NULL;
		if (block == InvalidBlockNumber || block >= nblocks)
			return "last batch is cut off";
		KSTOP("klog-find-tail-next");
		buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE, cold);
		if (!BufferIsValid(buffer))
			return NULL;
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

KLogResult
klog_build_state(Relation rel, KLogPartition *part, bool standby, bool last_try, KLogPosition *cold)
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
	part->built_at = pg_atomic_read_u64(klog_replay_count(rel->rd_locator, part->partition));
	part->head = InvalidBlockNumber;
	part->segment = 0;
	part->npages = 0;
	part->tail_page = 0;
	part->tail_block = InvalidBlockNumber;
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
		part->maps_counted = 0;
		part->maps_bytes = 0;
	}
	part->rlocator = rel->rd_locator;
	KSTOP("klog-build-begin");

	buffer = InvalidBuffer;
	if (klog_meta_read(rel, &meta, cold))
	{
		part->extent_units = meta.extent_units;
		buffer = klog_partition_header(rel, part->partition, BUFFER_LOCK_SHARE, cold);
	}
	if (klog_is_cold(cold))
		return KLOG_COLD;
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
			if (klog_segment_block(rel, part, &seg, 0, cold) != seg.entry.head)
			{
				if (klog_is_cold(cold))
					return KLOG_COLD;
				report_corrupt(rel, part->partition, seg.entry.head, "segment head");
			}
			part->segment = seg.entry.segment;
			part->head = seg.entry.head;
			part->npages = klog_segment_pages(seg.nextents, meta.extent_units);
			part->segment_first_offset = seg.entry.first_offset;
			/* a power loss may have taken the end of a file whose extents are in WAL */
			if (!standby)
				klog_grow_to_used(rel, klog_segment_block(rel, part, &seg, part->npages - 1,
														  NULL));
			problem = find_tail(rel, part, &seg, part->npages, &tail, cold);
			if (klog_is_cold(cold))
				return KLOG_COLD;
			if (problem != NULL && standby && !last_try)
				return KLOG_BUSY;
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
			bytes += klog_segment_sealed_bytes(rel, part, &header, cold);
			if (klog_is_cold(cold))
				return KLOG_COLD;
			/* the rest is for who appends */
			if (!standby)
				part->segment_first_timestamp =
					klog_segment_first_timestamp(rel, part, &seg, tail.page);
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
		XLogBeginInsert();
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
	return KLOG_OK;
}
