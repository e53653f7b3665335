/*
 * klog_find.c
 *		Finding batches by offset and by time, and walking over pages.
 *
 * Nothing in here holds a pin or a lock when it returns, and every page's tag is checked under its
 * lock: pages may be given to another segment between two looks.
 */
#include "postgres.h"

#include "batch/kbatch_record.h"
#include "miscadmin.h"

#include "log/klog_buffer.h"

/* Where the partition's data ends now. */
KLogEnd
klog_end(KLogPartition *part)
{
	KLogEnd		end;

	SpinLockAcquire(&part->mutex);
	end.segment = part->last_segment;
	end.page = part->last_page;
	end.next_offset = part->next_offset;
	SpinLockRelease(&part->mutex);
	return end;
}

uint32
klog_segment_last(const KLogSegment *seg, const KLogEnd *end)
{
	if (seg->entry.segment == end->segment)
		return end->page;
	if (seg->entry.segment > end->segment || seg->entry.npages == 0)
		return 0;
	return seg->entry.npages - 1;
}

/*
 * On a page: position of the first batch starting here whose last offset is >= offset.  0: none;
 * *before: no batch that starts here begins at or before offset, so the one wanted may have begun
 * earlier.
 */
static uint16
search_page(Page page, int64 offset, bool *before, int64 *base_offset)
{
	KLogPageTag *tag = KLogPageGetTag(page);
	uint16		lower = ((PageHeader) page)->pd_lower;
	uint32		pos = tag->first_batch;

	*before = true;
	if (pos < KLOG_DATA_START)
		return 0;
	while (pos + KLOG_BATCH_HEADER <= lower)
	{
		KBatchHeader header;

		if (kbatch_header_read((uint8 *) page + pos, lower - pos, &header) != KBATCH_OK)
			return 0;
		if (header.base_offset <= offset)
			*before = false;
		if (kbatch_last_offset(&header) >= offset)
		{
			*base_offset = header.base_offset;
			return pos;
		}
		if (kbatch_size(&header) > (Size) (lower - pos))
			break;
		pos += kbatch_size(&header);
	}
	return 0;
}

KLogResult
klog_locate(Relation rel, KLogPartition *part, const KLogEnd *end, int64 offset,
			KLogPosition *cold, KLogSegment *seg, KLogPosition *position)
{
	KLogResult	result;
	uint32		found;
	uint32		pageno;
	KLogPosition best = KLOG_NO_POSITION;

	/* the last segment may be empty (end->page is 0 then) behind others that are not */
	result = klog_segment_for_offset(rel, part, offset, seg, cold);
	if (result != KLOG_OK)
		return result;
	/* offsets may have gaps: the batch after offset may be in a later segment */
	for (;;)
	{
		uint32		last = klog_segment_last(seg, end);

		if (last == 0)
		{
			if (seg->entry.segment >= end->segment)
				return KLOG_OUT_OF_RANGE;
			result = klog_segment_next(rel, part, seg, cold);
			if (result != KLOG_OK)
				return result;
			continue;
		}
		result = klog_segment_find_page(rel, part, seg, offset, last, cold, &found);
		if (result != KLOG_OK)
			return result;

		/*
		 * Back to where the batch begins that covers this page's start, unless a batch that starts
		 * here begins at or before offset; and on to the next pages when there's nothing here.
		 */
		pageno = found;
		for (bool forward = false;;)
		{
			BlockNumber block = klog_segment_block(rel, part, seg, pageno, cold);
			Buffer		buffer;
			bool		before;
			int64		base_offset;
			uint16		pos;

			CHECK_FOR_INTERRUPTS();
			if (block == InvalidBlockNumber)
				return klog_is_cold(cold) ? KLOG_COLD : KLOG_CORRUPT;
			buffer = klog_buffer_get_data(rel, block, seg, pageno, cold);
			if (!BufferIsValid(buffer))
				return KLOG_COLD;
			if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_DATA, part->partition,
							  seg->entry.segment, pageno))
			{
				UnlockReleaseBuffer(buffer);
				return KLOG_CORRUPT;
			}
			pos = search_page(BufferGetPage(buffer), offset, &before, &base_offset);
			UnlockReleaseBuffer(buffer);
			if (pos != 0)
				best = (KLogPosition) {base_offset, seg->entry.segment, pageno, pos};
			if (forward)
			{
				if (pos != 0)
					break;
				pageno++;
			}
			else if (before && pageno > 1)
				pageno--;		/* something later is at best a second choice */
			else if (best.offset >= 0)
				break;
			else
			{
				forward = true;
				pageno = found + 1;
			}
			if (pageno > last)
				break;
		}
		if (best.offset >= 0)
		{
			*position = best;
			return KLOG_OK;
		}
		if (seg->entry.segment >= end->segment)
			return KLOG_OUT_OF_RANGE;
		result = klog_segment_next(rel, part, seg, cold);
		if (result != KLOG_OK)
			return result;
	}
}

bool
klog_walk_pages(Relation rel, KLogPartition *part, const KLogEnd *end, int64 from,
				klog_page_callback cb, void *arg)
{
	KLogPosition begin;
	KLogSegment seg;
	uint32		pageno;

	switch (klog_locate(rel, part, end, from, NULL, &seg, &begin))
	{
		case KLOG_OK:
			break;
		case KLOG_OUT_OF_RANGE:
			return true;
		default:
			return false;
	}
	pageno = begin.page;
	for (;;)
	{
		uint32		last = klog_segment_last(&seg, end);

		for (; pageno <= last; pageno++)
		{
			KLogWalkPage at = {.segment = seg.entry.segment,.page = pageno};
			bool		go_on;

			CHECK_FOR_INTERRUPTS();
			at.block = klog_segment_block(rel, part, &seg, pageno, NULL);
			if (at.block == InvalidBlockNumber)
				return false;
			at.buffer = klog_buffer_get(rel, at.block, BUFFER_LOCK_SHARE, NULL);
			if (!klog_page_is(BufferGetPage(at.buffer), KLOG_PAGE_DATA, part->partition,
							  seg.entry.segment, pageno))
			{
				UnlockReleaseBuffer(at.buffer);
				return false;
			}
			go_on = cb(arg, &at);
			UnlockReleaseBuffer(at.buffer);
			if (!go_on)
				return true;
		}
		if (seg.entry.segment >= end->segment)
			return true;
		switch (klog_segment_next(rel, part, &seg, NULL))
		{
			case KLOG_OK:
				break;
			case KLOG_OUT_OF_RANGE:
				return true;
			default:
				return false;
		}
		pageno = 1;
	}
}

/* ------------------------------------------------------------------------
 * By time
 * ------------------------------------------------------------------------
 */

/*
 * First page, of 1..last, whose greatest-so-far timestamp is >= timestamp; its first batch's
 * offset. -1: none, or a page is cold
 */
static int64
first_offset_by_time(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 last,
					 int64 timestamp, KLogPosition *cold)
{
	uint32		low = 1;
	uint32		high = last + 1;
	int64		offset = -1;

	while (low < high)
	{
		uint32		mid = low + (high - low) / 2;
		BlockNumber block = klog_segment_block(rel, part, seg, mid, cold);
		Buffer		buffer;
		Page		page;

		if (block == InvalidBlockNumber)
			return -1;
		buffer = klog_buffer_get_data(rel, block, seg, mid, cold);
		if (!BufferIsValid(buffer))
			return -1;
		page = BufferGetPage(buffer);
		if (!klog_page_is(page, KLOG_PAGE_DATA, part->partition, seg->entry.segment, mid))
		{
			UnlockReleaseBuffer(buffer);
			return -1;
		}
		if (KLogPageGetTag(page)->max_timestamp >= timestamp)
		{
			offset = KLogPageGetTag(page)->base_offset;
			high = mid;
		}
		else
			low = mid + 1;
		UnlockReleaseBuffer(buffer);
	}
	return offset;
}

#define FIND_BUFFER		(256 * 1024)

/* A search in shares reads so much in one of them. */
#define FIND_SHARE			(2 * 1024 * 1024)

/*
 * Reads from offset on until a record has timestamp or a later one; greatest: to the limit, for
 * the first record of those with the greatest timestamp.  A search that is reading goes on where
 * it was.
 */
static KLogFound
scan_for_time(Relation rel, KLogPartition *part, int64 offset, int64 timestamp, int64 limit,
			  bool greatest, KLogSearch *search)
{
	const KLogFound none = {-1, -1, -1};
	KLogFound	found = none;
	KLogRead	r = {.limit = limit,.cap = FIND_BUFFER,.nowait = search != NULL};
	Size		share = 0;
	static KCodec *codec = NULL;

	if (search != NULL && search->reading)
	{
		offset = search->offset;
		timestamp = search->timestamp;
		found = search->found;
	}

	/* what it allocates outlives an ERROR, so there's one in a process */
	if (codec == NULL && (codec = kcodec_create(&kallocator_malloc)) == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	r.offset = offset = Max(offset, klog_log_start(part));
	r.position = KLOG_NO_POSITION;
	r.buf = palloc(r.cap);
	while (r.offset < limit && (greatest || found.offset < 0))
	{
		KLogResult	result = KLOG_OK;
		KBatchWalker walker;
		KBatchHeader header;
		const uint8 *batch;
		int64		next_offset;

		if (search != NULL && share >= FIND_SHARE)
			search->more = true;
		else
			result = klog_read(rel, part, &r);
		if (result == KLOG_TOO_SMALL)
		{
			pfree(r.buf);
			r.cap = r.needed;
			r.buf = MemoryContextAllocHuge(CurrentMemoryContext, r.cap);
			continue;
		}
		if (result == KLOG_COLD)
			search->cold = r.cold;
		if (search != NULL && (search->more || search->cold.page != 0))
		{
			search->reading = true;
			search->greatest = greatest;
			search->offset = r.offset;
			search->timestamp = timestamp;
			search->found = found;
			found = none;
			break;
		}
		if (result != KLOG_OK || r.len == 0)
			break;
		share += r.len;
		next_offset = r.next_offset;
		kbatch_walk_begin(&walker, r.buf, r.len);
		while ((greatest || found.offset < 0) &&
			   kbatch_walk_next(&walker, &header, &batch) == KBATCH_OK)
		{
			KRecordSource source;
			KBatchRecord record;
			Size		size = kbatch_size(&header);

			if (kbatch_is_control(&header) || header.max_timestamp < timestamp ||
				krecord_source_batch(&source, batch + KBATCH_HEADER_SIZE,
									 size - KBATCH_HEADER_SIZE, kbatch_codec(&header), codec,
									 kbatch_max_record_bytes(size)) != KBATCH_OK)
				continue;
			for (int32 i = 0; i < header.record_count && krecord_read(&source, &record); i++)
			{
				record.offset = header.base_offset + record.offset_delta;
				record.timestamp = kbatch_is_log_append_time(&header) ? header.max_timestamp :
					(int64) ((uint64) header.base_timestamp + (uint64) record.timestamp);
				if (record.timestamp >= timestamp && record.offset >= offset &&
					(found.offset < 0 || record.timestamp > found.timestamp))
				{
					found.offset = record.offset;
					found.timestamp = record.timestamp;
					found.leader_epoch = header.leader_epoch;
					if (!greatest)
						break;
					timestamp = record.timestamp;
				}
			}

			/* a little may become much, so there may be no time for the next one */
			if (kbatch_codec(&header) != KCODEC_NONE)
				share += source.total;
			if (search != NULL && share >= FIND_SHARE)
			{
				next_offset = kbatch_next_offset(&header);
				break;
			}
		}
		r.offset = next_offset;
	}
	pfree(r.buf);
	return found;
}

/* Is there no result yet? */
static bool
is_unfinished(const KLogSearch *search)
{
	return search != NULL && (search->more || search->cold.page != 0);
}

KLogFound
klog_find_timestamp(Relation rel, KLogPartition *part, int64 timestamp, int64 limit,
					KLogSearch *search)
{
	KLogPosition *cold = NULL;
	KLogFound	found = {-1, -1, -1};
	KLogEnd		end = klog_end(part);
	KLogSegment seg;

	if (search != NULL)
	{
		cold = &search->cold;
		*cold = KLOG_NO_POSITION;
		search->more = false;
		if (search->reading)
			return scan_for_time(rel, part, 0, timestamp, limit, false, search);
	}
	if (klog_segment_for_timestamp(rel, part, timestamp, &seg, cold) != KLOG_OK)
		return found;
	for (;;)
	{
		uint32		last = klog_segment_last(&seg, &end);
		int64		offset = last == 0 ? -1 :
			first_offset_by_time(rel, part, &seg, last, timestamp, cold);

		if (offset >= 0)
			return scan_for_time(rel, part, offset, timestamp, limit, false, search);
		if (is_unfinished(search))
			return found;
		if (seg.entry.segment >= end.segment ||
			klog_segment_next(rel, part, &seg, cold) != KLOG_OK)
			return found;
	}
}

typedef struct GreatestWalk
{
	int64		limit;
	int64		timestamp;
	uint32		segment;
	uint32		page;
} GreatestWalk;

/*
 * klog_walk_pages callback, for one page: the greatest timestamp of batches below the limit that
 * start on it.
 */
static bool
greatest_on_page(void *arg, const KLogWalkPage *at)
{
	GreatestWalk *walk = arg;
	Page		page = BufferGetPage(at->buffer);
	uint16		lower = ((PageHeader) page)->pd_lower;
	uint32		pos = KLogPageGetTag(page)->first_batch;
	KBatchHeader header;

	walk->segment = at->segment;
	walk->page = at->page;
	while (pos >= KLOG_DATA_START && pos + KLOG_BATCH_HEADER <= lower &&
		   kbatch_header_read((uint8 *) page + pos, lower - pos, &header) == KBATCH_OK &&
		   header.base_offset < walk->limit)
	{
		walk->timestamp = Max(walk->timestamp, header.max_timestamp);
		pos += Min(kbatch_size(&header), (Size) BLCKSZ);
	}
	return false;
}

/*
 * Greatest timestamp of the batches below limit: of those on the page where the limit is, and what
 * the page before it (or the segment before it) says of all the others.
 */
static int64
greatest_timestamp(Relation rel, KLogPartition *part, const KLogEnd *end, int64 limit,
				   KLogPosition *cold)
{
	GreatestWalk walk = {.limit = limit,.timestamp = -1};
	KLogPosition position;
	KLogSegment seg;
	BlockNumber block;
	Buffer		buffer;

	/* what the walk is going to look at first, and it looks at no more than that */
	if (cold != NULL &&
		klog_locate(rel, part, end, limit - 1, cold, &seg, &position) == KLOG_COLD)
		return -1;
	if (!klog_walk_pages(rel, part, end, limit - 1, greatest_on_page, &walk) ||
		walk.page == 0)
		return -1;
	if (walk.page > 1 &&
		klog_segment_by_number(rel, part, walk.segment, &seg, cold) == KLOG_OK)
	{
		block = klog_segment_block(rel, part, &seg, walk.page - 1, cold);
		if (block == InvalidBlockNumber)
			return walk.timestamp;
		buffer = klog_buffer_get_data(rel, block, &seg, walk.page - 1, cold);
		if (!BufferIsValid(buffer))
			return -1;
		if (klog_page_is(BufferGetPage(buffer), KLOG_PAGE_DATA, part->partition, walk.segment,
						 walk.page - 1))
			walk.timestamp = Max(walk.timestamp,
								 KLogPageGetTag(BufferGetPage(buffer))->max_timestamp);
		UnlockReleaseBuffer(buffer);
	}
	if (walk.segment > 0 &&
		klog_segment_by_number(rel, part, walk.segment - 1, &seg, cold) == KLOG_OK)
		walk.timestamp = Max(walk.timestamp, seg.entry.max_timestamp);
	return walk.timestamp;
}

KLogFound
klog_find_max_timestamp(Relation rel, KLogPartition *part, int64 limit, KLogSearch *search)
{
	KLogFound	found = {-1, -1, -1};
	KLogEnd		end = klog_end(part);
	int64		timestamp = -1;

	if (limit <= klog_log_start(part))
		return found;
	if (search == NULL || !search->reading)
	{
		if (search != NULL)
			search->cold = KLOG_NO_POSITION;
		timestamp = greatest_timestamp(rel, part, &end, limit,
									   search == NULL ? NULL : &search->cold);
		if (search != NULL && search->cold.page != 0)
			return found;
	}
	if (search == NULL || !search->greatest)
	{
		found = klog_find_timestamp(rel, part, timestamp, limit, search);
		if (found.offset >= 0 || is_unfinished(search))
			return found;
		if (search != NULL)
			search->reading = false;
	}
	else
	{
		search->cold = KLOG_NO_POSITION;
		search->more = false;
	}

	/* it was an aborted transaction's: look for the greatest one that can be read */
	return scan_for_time(rel, part, 0, PG_INT64_MIN, limit, true, search);
}

/* ------------------------------------------------------------------------
 * Headers
 * ------------------------------------------------------------------------
 */
typedef struct HeaderWalk
{
	klog_batch_callback cb;
	void	   *arg;
	int64		from;
	int64		until;
	uint32		pages;			/* that may still be looked at */
	int64		resume;			/* where to go on when these are used up, else -1 */
} HeaderWalk;

static bool
walk_page_headers(void *arg, const KLogWalkPage *at)
{
	HeaderWalk *walk = arg;
	Page		page = BufferGetPage(at->buffer);
	uint16		lower = ((PageHeader) page)->pd_lower;
	uint32		pos = KLogPageGetTag(page)->first_batch;

	if (pos < KLOG_DATA_START)
		pos = lower;			/* no batch starts here */
	while (pos + KLOG_BATCH_HEADER <= lower)
	{
		KBatchHeader header;

		if (kbatch_header_read((uint8 *) page + pos, lower - pos, &header) != KBATCH_OK)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("damaged record batch header in block %u", at->block)));
		if (header.base_offset >= walk->until)
			return false;
		if (walk->pages == 0)
		{
			walk->resume = header.base_offset;
			return false;
		}
		if (kbatch_last_offset(&header) >= walk->from)
			walk->cb(walk->arg, (uint8 *) page + pos, PageGetLSN(page));
		if (kbatch_size(&header) > (Size) (lower - pos))
			break;
		pos += kbatch_size(&header);
	}
	if (walk->pages > 0)
		walk->pages--;
	return true;
}

int64
klog_walk_headers(Relation rel, KLogPartition *part, int64 from, uint32 max_pages,
				  klog_batch_callback cb, void *arg)
{
	KLogEnd		end = klog_end(part);
	HeaderWalk	walk = {.cb = cb,.arg = arg,.from = from,.until = end.next_offset,
	.pages = max_pages,.resume = -1};

	if (!klog_walk_pages(rel, part, &end, from, walk_page_headers, &walk))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("partition %d of \"%s\" has missing pages", part->partition,
						RelationGetRelationName(rel))));
	return walk.resume;
}

/*
 * Header of the batch that holds offset, or of the first one after it.  With cold, nothing is read
 * from disk: KLOG_COLD and the page instead.
 */
static KLogResult
header_at(Relation rel, KLogPartition *part, const KLogEnd *end, int64 offset,
		  KLogPosition *cold, KBatchHeader *header)
{
	KLogPosition position;
	KLogSegment seg;
	BlockNumber block;
	Buffer		buffer;
	Page		page;
	KLogResult	result;

	result = klog_locate(rel, part, end, offset, cold, &seg, &position);
	if (result != KLOG_OK)
		return result;
	block = klog_segment_block(rel, part, &seg, position.page, cold);
	if (block == InvalidBlockNumber)
		return klog_is_cold(cold) ? KLOG_COLD : KLOG_CORRUPT;
	buffer = klog_buffer_get_data(rel, block, &seg, position.page, cold);
	if (!BufferIsValid(buffer))
		return KLOG_COLD;
	page = BufferGetPage(buffer);
	if (!klog_page_is(page, KLOG_PAGE_DATA, part->partition, seg.entry.segment, position.page) ||
		kbatch_header_read((uint8 *) page + position.pos, KLOG_BATCH_HEADER, header) != KBATCH_OK)
		result = KLOG_CORRUPT;
	UnlockReleaseBuffer(buffer);
	return result;
}

int32
klog_epoch_at(Relation rel, KLogPartition *part, int64 offset, KLogPosition *cold)
{
	KLogEnd		end = klog_end(part);
	KBatchHeader header;

	if (cold != NULL)
		*cold = KLOG_NO_POSITION;
	if (offset >= end.next_offset ||
		header_at(rel, part, &end, offset, cold, &header) != KLOG_OK)
		return -1;
	return header.leader_epoch;
}

/*
 * Epochs never go back from batch to batch, so that a search among offsets finds the border.  The
 * last batch is looked at first: nearly always nothing with a later epoch has come.
 */
KLogResult
klog_epoch_end(Relation rel, KLogPartition *part, int32 epoch, KLogEpochEnd *found,
			   KLogPosition *cold)
{
	KLogEnd		end = klog_end(part);
	int64		low = klog_log_start(part);
	int64		high = end.next_offset;
	int64		probe = high - 1;

	if (cold != NULL)
		*cold = KLOG_NO_POSITION;
	found->epoch = -1;
	found->end_offset = Max(high, klog_end_offset(part));
	while (low < high)
	{
		KBatchHeader header;
		KLogResult	result = header_at(rel, part, &end, probe, cold, &header);

		if (result == KLOG_OUT_OF_RANGE)
			high = probe;		/* nothing from there on: a gap at the end */
		else if (result != KLOG_OK)
			return result;
		else if (header.leader_epoch <= epoch)
		{
			found->epoch = Max(found->epoch, header.leader_epoch);
			low = Max(kbatch_next_offset(&header), probe + 1);
		}
		else
		{
			found->end_offset = Max(header.base_offset, klog_log_start(part));
			high = Min(header.base_offset, probe);
		}
		probe = low + (high - low) / 2;
	}
	return KLOG_OK;
}
