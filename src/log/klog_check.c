/*
 * klog_check.c
 *		kafka.check_topic: walks everything that a relation's file holds and says what is wrong.
 *
 * Runs beside appenders: it looks at the bitmap first, and then at what uses the space, so that
 * what is added meanwhile is not taken for a leak; and no further than the end that it saw first.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "batch/kbatch.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "log/klog_buffer.h"

typedef struct Check
{
	Relation	rel;
	klog_problem_callback cb;
	void	   *arg;
	BlockNumber nblocks;
	uint32		units;
	uint8	   *used;			/* a bit for each unit: marked in the bitmap when the check began */
	uint8	   *claimed;		/* belongs to something */
	int32		partition;
	KLogPartition *part;
	/* the current batch */
	uint8	   *batch;
	Size		batch_size;		/* allocated */
	Size		len;			/* gathered */
	Size		total;			/* 0: between two batches */
	int64		next_offset;
	int64		last_max_timestamp;
} Check;

static void problem(Check *check, BlockNumber block, int64 offset, const char *fmt,...)
			pg_attribute_printf(4, 5);

static void
problem(Check *check, BlockNumber block, int64 offset, const char *fmt,...)
{
	char		text[256];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	check->cb(check->arg, check->partition, block, offset, text);
}

static bool
get_bit(const uint8 *bits, uint32 i)
{
	return (bits[i / 8] >> (i % 8)) & 1;
}

static void
claim(Check *check, uint32 unit, uint32 n, BlockNumber by)
{
	for (uint32 i = unit; i < unit + n; i++)
	{
		/*
		 * The end of an extent that nothing was written to yet may be missing, on a standby and
		 * after a power loss.  A page in use that is missing is noticed when it is read.
		 */
		if (i >= check->units)
			return;
		if (get_bit(check->claimed, i))
			problem(check, by, -1, "uses unit %u, which something else uses too", i);
		check->claimed[i / 8] |= 1 << (i % 8);
	}
}

static void
read_bitmaps(Check *check)
{
	for (uint32 index = 0; index * KLOG_BITMAP_BITS < check->units; index++)
	{
		BlockNumber block = klog_bitmap_block(index);
		Buffer		buffer = klog_buffer_get(check->rel, block, BUFFER_LOCK_SHARE, NULL);
		Page		page = BufferGetPage(buffer);
		uint32		base = index * KLOG_BITMAP_BITS;

		if (PageIsNew(page) && index > 0)
		{
			UnlockReleaseBuffer(buffer);
			continue;
		}
		if (!klog_page_is(page, KLOG_PAGE_BITMAP, -1, 0, index == 0 ? KLOG_FIRST_BITMAP_BLOCK : 0))
			problem(check, block, -1, "is not a bitmap page");
		else
			memcpy(check->used + base / 8, KLogPageContent(page),
				   (Min(check->units - base, KLOG_BITMAP_BITS) + 7) / 8);
		UnlockReleaseBuffer(buffer);
		claim(check, base, 1, block);
	}
}

static void
finish_bitmaps(Check *check)
{
	check->partition = -1;
	for (uint32 i = 0; i < check->units; i++)
	{
		if (get_bit(check->used, i) && !get_bit(check->claimed, i))
			problem(check, i * KLOG_UNIT_BLOCKS, -1, "unit %u is marked as used, but nothing uses it",
					i);
		if (!get_bit(check->used, i) && get_bit(check->claimed, i))
		{
			/* taken while we looked? */
			Buffer		buffer = klog_buffer_get(check->rel,
												 klog_bitmap_block(i / KLOG_BITMAP_BITS),
												 BUFFER_LOCK_SHARE, NULL);
			uint8	   *bits = KLogPageContent(BufferGetPage(buffer));

			if (!get_bit(bits, i % KLOG_BITMAP_BITS))
				problem(check, i * KLOG_UNIT_BLOCKS, -1,
						"unit %u is in use, but not marked in the bitmap", i);
			UnlockReleaseBuffer(buffer);
		}
	}
}

/* A batch is complete: its bytes are in check->batch. */
static void
check_batch(Check *check, BlockNumber block, const KBatchHeader *header)
{
	if (!kbatch_check_crc(check->batch, check->len))
		problem(check, block, header->base_offset, "batch of %zu bytes has a wrong CRC", check->len);
	if (header->record_count != header->last_offset_delta + 1)
		problem(check, block, header->base_offset, "batch has %d records but %d offsets",
				header->record_count, header->last_offset_delta + 1);
	if (kbatch_codec(header) > KCODEC_LAST)
		problem(check, block, header->base_offset, "batch has unknown codec %d",
				kbatch_codec(header));
}

/* Looks at a copy of a data page. Returns false when the end is reached. */
static bool
check_data_page(Check *check, Page page, BlockNumber block, const KLogWalkPage *at, bool first,
				int64 end_offset)
{
	KLogPageTag *tag = KLogPageGetTag(page);
	uint16		lower = ((PageHeader) page)->pd_lower;
	uint32		pos = KLOG_DATA_START;
	uint16		first_batch = 0;
	int			listed = 0;
	int64		max_timestamp = first ? -1 : check->last_max_timestamp;
	KBatchHeader header;

	if (((PageHeader) page)->pd_upper != KLOG_DATA_END - tag->nlisted * sizeof(KLogListed))
		problem(check, block, -1, "list of %u entries does not agree with pd_upper", tag->nlisted);
	if (check->total > 0 &&
		kbatch_header_read(check->batch, check->len, &header) == KBATCH_OK &&
		tag->base_offset != header.base_offset)
		problem(check, block, tag->base_offset, "page goes on with the batch at " INT64_FORMAT
				" but says another", header.base_offset);
	while (pos < lower)
	{
		Size		n;

		if (check->total == 0)
		{
			KLogListed *entry;

			if (kbatch_header_read((uint8 *) page + pos, lower - pos, &header) != KBATCH_OK)
			{
				problem(check, block, check->next_offset, "no batch header at byte %u", pos);
				return false;
			}
			if (header.base_offset >= end_offset)
				return false;
			if (header.base_offset < check->next_offset)
				problem(check, block, header.base_offset,
						"batch begins before " INT64_FORMAT ", where the last one ended",
						check->next_offset);
			if (pos == KLOG_DATA_START && tag->base_offset != header.base_offset)
				problem(check, block, header.base_offset, "page says base offset " INT64_FORMAT,
						tag->base_offset);
			if (first_batch == 0)
				first_batch = pos;
			check->total = kbatch_size(&header);
			check->len = 0;
			if (check->total / BLCKSZ >= check->nblocks)
			{
				problem(check, block, header.base_offset,
						"batch of %zu bytes is longer than the file", check->total);
				check->total = 0;
				return false;
			}
			if (check->total > check->batch_size)
			{
				if (check->batch)
					pfree(check->batch);
				check->batch_size = check->total;
				check->batch = MemoryContextAllocHuge(CurrentMemoryContext, check->total);
			}
			check->next_offset = kbatch_next_offset(&header);
			max_timestamp = Max(max_timestamp, header.max_timestamp);
			if (listed < tag->nlisted)
			{
				entry = KLogPageListed(page, listed);
				if (entry->pos == pos)
					listed++;
			}
		}
		n = Min(check->total - check->len, (Size) (lower - pos));
		memcpy(check->batch + check->len, (char *) page + pos, n);
		check->len += n;
		pos += n;
		if (check->len == check->total)
		{
			if (kbatch_header_read(check->batch, check->len, &header) == KBATCH_OK)
				check_batch(check, block, &header);
			check->total = 0;
		}
	}
	/* a page that appenders go on with may say more than was looked at */
	if (first_batch != tag->first_batch)
		problem(check, block, check->next_offset, "first batch is at byte %u, the page says %u",
				first_batch, tag->first_batch);
	if (listed < tag->nlisted)
		problem(check, block, check->next_offset, "entry %d of the list points to byte %u, "
				"where no batch begins", listed, KLogPageListed(page, listed)->pos);
	if (tag->max_timestamp != max_timestamp)
		problem(check, block, check->next_offset, "greatest timestamp is " INT64_FORMAT
				", the page says " INT64_FORMAT, max_timestamp, tag->max_timestamp);
	if (tag->high_watermark > klog_high_watermark(check->part))
		problem(check, block, tag->high_watermark, "the page knows a high watermark that we do not");
	check->last_max_timestamp = max_timestamp;
	return true;
}

static void
check_segment(Check *check, KLogSegment *seg, const KLogEnd *end)
{
	PGAlignedBlock copy;
	uint32		last = seg->entry.npages - 1;
	uint32		extents;

	/* behind the end there may be a segment that nothing came to yet */
	if (seg->entry.segment >= end->segment)
		last = seg->entry.segment == end->segment ? end->page : 0;

	if (klog_segment_block(check->rel, check->part, seg, 0, NULL) != seg->entry.head)
	{
		problem(check, seg->entry.head, seg->entry.first_offset,
				"is not the head of segment %u", seg->entry.segment);
		return;
	}
	extents = seg->nextents;
	claim(check, seg->entry.head / KLOG_UNIT_BLOCKS, 1, seg->entry.head);
	for (uint32 i = 1; i < extents; i++)
	{
		uint32		pageno = KLOG_UNIT_BLOCKS +
			(i - 1) * (uint32) seg->extent_units * KLOG_UNIT_BLOCKS;
		BlockNumber block = klog_segment_block(check->rel, check->part, seg, pageno, NULL);

		claim(check, block / KLOG_UNIT_BLOCKS, seg->extent_units, seg->entry.head);
	}
	if (seg->entry.first_offset < check->next_offset)
		problem(check, seg->entry.head, seg->entry.first_offset,
				"segment %u begins before " INT64_FORMAT ", where the last one ended",
				seg->entry.segment, check->next_offset);
	check->next_offset = seg->entry.first_offset;
	check->total = 0;
	for (uint32 pageno = 1; pageno <= last; pageno++)
	{
		KLogWalkPage at = {.segment = seg->entry.segment,.page = pageno};
		BlockNumber block = klog_segment_block(check->rel, check->part, seg, pageno, NULL);
		Buffer		buffer;
		bool		valid;

		CHECK_FOR_INTERRUPTS();
		if (block == InvalidBlockNumber || block >= check->nblocks)
		{
			problem(check, block, check->next_offset, "segment %u has no page %u",
					seg->entry.segment, pageno);
			return;
		}
		buffer = klog_buffer_get(check->rel, block, BUFFER_LOCK_SHARE, NULL);
		memcpy(copy.data, BufferGetPage(buffer), BLCKSZ);
		UnlockReleaseBuffer(buffer);
		valid = klog_page_is(copy.data, KLOG_PAGE_DATA, check->partition, seg->entry.segment,
							 pageno);
		if (!valid)
		{
			problem(check, block, check->next_offset, "is not page %u of segment %u", pageno,
					seg->entry.segment);
			return;
		}
		if (!check_data_page(check, copy.data, block, &at, pageno == 1, end->next_offset))
			return;
	}
	if (check->total > 0 && check->next_offset <= end->next_offset)
		problem(check, seg->entry.head, check->next_offset, "segment %u ends within a batch",
				seg->entry.segment);
}

static void
check_partition(Check *check, const KLogMeta *meta)
{
	KLogPartition *part = klog_attach(check->rel, check->partition, false);
	KLogPartitionHeader *header;
	KLogEnd		end = klog_end(part);
	KLogSegment seg;
	Buffer		buffer = klog_partition_header(check->rel, check->partition, BUFFER_LOCK_SHARE,
											   NULL);
	BlockNumber block = klog_page_partition_block(meta, check->partition);
	bool		more;

	check->part = part;
	if (!BufferIsValid(buffer))
		return;
	header = palloc(sizeof(KLogPartitionHeader));
	memcpy(header, KLogPageContent(BufferGetPage(buffer)), sizeof(KLogPartitionHeader));
	UnlockReleaseBuffer(buffer);
	for (int i = 0; i < header->nmaps; i++)
	{
		if (header->map[i].block % KLOG_UNIT_BLOCKS == 0)
			claim(check, header->map[i].block / KLOG_UNIT_BLOCKS, 1, block);
	}
	if (header->resolved_to < header->log_start)
		problem(check, block, header->resolved_to, "resolved to an offset before the log start");
	check->next_offset = header->log_start;
	check->last_max_timestamp = -1;
	more = klog_segment_for_offset(check->rel, check->part, header->log_start, &seg,
								   NULL) == KLOG_OK;
	while (more)
	{
		check_segment(check, &seg, &end);
		more = klog_segment_next(check->rel, check->part, &seg, NULL) == KLOG_OK;
	}
	if (check->next_offset != end.next_offset && klog_end(part).next_offset == end.next_offset)
		problem(check, block, check->next_offset, "the log ends here, but the next offset is "
				INT64_FORMAT, end.next_offset);
	if (klog_watermark(part) > klog_end(part).next_offset)
		problem(check, block, klog_watermark(part), "high watermark beyond the end");
	pfree(header);
}

void
klog_check(Relation rel, klog_problem_callback cb, void *arg)
{
	Check		check = {.rel = rel,.cb = cb,.arg = arg,.partition = -1};
	KLogMeta	meta;

	check.nblocks = RelationGetNumberOfBlocks(rel);
	check.units = check.nblocks / KLOG_UNIT_BLOCKS;
	if (check.units == 0 || !klog_meta_read(rel, &meta, NULL))
		return;
	check.used = MemoryContextAllocExtended(CurrentMemoryContext,
											check.units / 8 + KLOG_BITMAP_BITS / 8,
											MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	check.claimed = MemoryContextAllocExtended(CurrentMemoryContext,
											   check.units / 8 + KLOG_BITMAP_BITS / 8,
											   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	read_bitmaps(&check);
	/* extents that are given out from now on lie anywhere in what the file has by then */
	if (!klog_meta_read(rel, &meta, NULL))
		return;
	for (int i = 0; i < KLOG_PARTITION_UNITS; i++)
	{
		if (meta.partition_unit[i] != 0)
			claim(&check, meta.partition_unit[i], 1, KLOG_META_BLOCK);
	}
	for (check.partition = 0; check.partition < meta.npartitions; check.partition++)
		check_partition(&check, &meta);
	finish_bitmaps(&check);
}
