/*
 * klog_segment.c
 *		Segments: the map that lists them, their extents, opening and extending.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xloginsert.h"
#include "batch/kbatch.h"
#include "miscadmin.h"

#include "kstop.h"
#include "log/klog_buffer.h"
#include "log/klog_xlog.h"

/* ------------------------------------------------------------------------
 * Finding
 * ------------------------------------------------------------------------
 */

/* What a search in the map looks for. */
typedef struct Wanted
{
	bool		by_timestamp;
	int64		value;
	bool		next;			/* the first segment with a greater number than value */
} Wanted;

/*
 * Index of the entry wanted among n in order; -1: before them all (or, by timestamp and by number,
 * behind them all).
 */
static int
search_entries(const KLogSegmentEntry *entry, int n, const Wanted *wanted)
{
	int			low = 0;
	int			high = n;

	/* the first entry that is "too far" */
	while (low < high)
	{
		int			mid = (low + high) / 2;
		bool		far;

		if (wanted->next)
			far = (int64) entry[mid].segment > wanted->value;
		else if (wanted->by_timestamp)
			far = entry[mid].state == KLOG_SEGMENT_OPEN ||
				entry[mid].max_timestamp >= wanted->value;
		else
			far = entry[mid].first_offset > wanted->value;
		if (far)
			high = mid;
		else
			low = mid + 1;
	}
	if (wanted->next || wanted->by_timestamp)
		return low < n ? low : -1;
	return low - 1;
}

/* Copies the map page's entries; false when the page is not what the header said. */
static bool
read_map(Relation rel, int32 partition, uint32 index, BlockNumber block, KLogMapPage *map)
{
	Buffer		buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE);
	bool		valid = klog_page_is(BufferGetPage(buffer), KLOG_PAGE_MAP, partition, 0, index);

	if (valid)
		memcpy(map, KLogPageContent(BufferGetPage(buffer)), sizeof(KLogMapPage));
	UnlockReleaseBuffer(buffer);
	return valid && map->nentries > 0 && map->nentries <= KLOG_MAP_ENTRIES;
}

static bool
search_map(Relation rel, KLogPartition *part, const Wanted *wanted, KLogSegment *seg)
{
	int32		partition = part->partition;
	KLogPartitionHeader *header;
	KLogMapRef	refs[KLOG_HEADER_MAPS];
	KLogMapPage map;
	Buffer		buffer;
	int			nmaps;
	int			found;
	bool		inside = false;

	/*
	 * where the header is never changes, so a partition that has data is found without the
	 * metapage
	 */
	if (part->header == InvalidBlockNumber)
		return false;
	buffer = klog_buffer_get(rel, part->header, BUFFER_LOCK_SHARE);
	if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_PARTITION, partition, 0, 0))
	{
		UnlockReleaseBuffer(buffer);
		return false;
	}
	header = KLogPageContent(BufferGetPage(buffer));
	if (header->nentries == 0 || header->nentries > KLOG_HEADER_ENTRIES ||
		header->nmaps > KLOG_HEADER_MAPS)
	{
		UnlockReleaseBuffer(buffer);
		return false;
	}
	memset(seg, 0, sizeof(KLogSegment));
	seg->extent_units = part->extent_units;
	nmaps = header->nmaps;
	memcpy(refs, header->map, sizeof(KLogMapRef) * nmaps);
	found = search_entries(header->entry, header->nentries, wanted);

	/* does an entry of the header do, or may an older one be the one? */
	if (wanted->by_timestamp || wanted->next)
		inside = found > 0 || nmaps == 0;
	else
		inside = found >= 0 || nmaps == 0;
	if (inside)
	{
		if (found < 0 && wanted->next)
		{
			UnlockReleaseBuffer(buffer);
			return false;
		}
		seg->entry = header->entry[Max(found, 0)];
		UnlockReleaseBuffer(buffer);
		return true;
	}
	if (found >= 0)
		seg->entry = header->entry[found];
	UnlockReleaseBuffer(buffer);

	/* older segments: the map pages in order; those by timestamp and number from the oldest on */
	if (wanted->by_timestamp || wanted->next)
	{
		for (int i = 0; i < nmaps; i++)
		{
			int			at;

			if (!read_map(rel, partition, i, refs[i].block, &map))
				return false;
			at = search_entries(map.entry, map.nentries, wanted);
			if (at >= 0)
			{
				seg->entry = map.entry[at];
				return true;
			}
		}
		return found >= 0;
	}
	for (int i = nmaps - 1; i >= 0; i--)
	{
		if (refs[i].first_offset > wanted->value && i > 0)
			continue;
		if (!read_map(rel, partition, i, refs[i].block, &map))
			return false;
		found = search_entries(map.entry, map.nentries, wanted);
		seg->entry = map.entry[Max(found, 0)];
		return true;
	}
	return false;
}

bool
klog_segment_for_offset(Relation rel, KLogPartition *part, int64 offset, KLogSegment *seg)
{
	Wanted		wanted = {.value = offset};

	return search_map(rel, part, &wanted, seg);
}

bool
klog_segment_for_timestamp(Relation rel, KLogPartition *part, int64 timestamp, KLogSegment *seg)
{
	Wanted		wanted = {.by_timestamp = true, .value = timestamp};

	return search_map(rel, part, &wanted, seg);
}

bool
klog_segment_next(Relation rel, KLogPartition *part, KLogSegment *seg)
{
	Wanted		wanted = {.next = true, .value = seg->entry.segment};

	return search_map(rel, part, &wanted, seg);
}

bool
klog_segment_by_number(Relation rel, KLogPartition *part, uint32 segment, KLogSegment *seg)
{
	Wanted		wanted = {.next = true, .value = (int64) segment - 1};

	return search_map(rel, part, &wanted, seg) && seg->entry.segment == segment;
}

/* Bytes of all sealed segments. */
int64
klog_segment_sealed_bytes(Relation rel, int32 partition, const KLogPartitionHeader *header)
{
	int64		bytes = 0;
	KLogMapPage map;

	for (int i = 0; i < header->nentries - 1; i++)
		bytes += header->entry[i].bytes;
	for (int i = 0; i < header->nmaps; i++)
	{
		if (!read_map(rel, partition, i, header->map[i].block, &map))
			continue;
		for (uint32 j = 0; j < map.nentries; j++)
			bytes += map.entry[j].bytes;
	}
	return bytes;
}

/*
 * Block of a segment's page; InvalidBlockNumber when the segment has no such page, or its head page
 * belongs to something else by now.  Sets seg->nextents.
 */
BlockNumber
klog_segment_block(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 pageno)
{
	uint32		extent;
	uint32		inside;

	klog_segment_locate(pageno, seg->extent_units, &extent, &inside);
	if (seg->extent_count == 0 || extent < seg->extent_from ||
		extent >= seg->extent_from + seg->extent_count)
	{
		Buffer		buffer;
		KLogHead   *head;

		buffer = klog_buffer_get(rel, seg->entry.head, BUFFER_LOCK_SHARE);
		if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_HEAD, part->partition,
						  seg->entry.segment, 0))
		{
			UnlockReleaseBuffer(buffer);
			return InvalidBlockNumber;
		}
		head = KLogPageContent(BufferGetPage(buffer));
		seg->nextents = Min(head->nextents, KLOG_HEAD_EXTENTS);
		seg->extent_from = extent;
		seg->extent_count = 0;
		if (extent < seg->nextents)
		{
			seg->extent_count = Min(seg->nextents - extent, lengthof(seg->extent));
			memcpy(seg->extent, &head->extent[extent],
				   sizeof(BlockNumber) * seg->extent_count);
		}
		UnlockReleaseBuffer(buffer);
		if (seg->extent_count == 0)
			return InvalidBlockNumber;
	}
	return seg->extent[extent - seg->extent_from] + inside;
}

KLogResult
klog_segment_find_page(Relation rel, KLogPartition *part, KLogSegment *seg, int64 offset,
					   uint32 last, bool nowait, uint32 *found)
{
	uint32		low = 1;
	uint32		high = last;

	while (low < high)
	{
		uint32		mid = low + (high - low + 1) / 2;
		BlockNumber block = klog_segment_block(rel, part, seg, mid);
		Buffer		buffer;
		Buffer		recent;
		int64		base_offset;

		if (block == InvalidBlockNumber)
			return KLOG_CORRUPT;
		if (nowait && !klog_buffer_is_hot(rel, block, &recent))
		{
			*found = mid;
			return KLOG_COLD;
		}
		buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE);
		if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_DATA, part->partition,
						  seg->entry.segment, mid))
		{
			UnlockReleaseBuffer(buffer);
			return KLOG_CORRUPT;
		}
		base_offset = KLogPageGetTag(BufferGetPage(buffer))->base_offset;
		UnlockReleaseBuffer(buffer);
		if (base_offset <= offset)
			low = mid;
		else
			high = mid - 1;
	}
	*found = Max(low, 1);
	return KLOG_OK;
}

int64
klog_segment_first_timestamp(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 last)
{
	BlockNumber block;
	Buffer		buffer;
	KBatchHeader header;
	int64		timestamp = -1;
	Page		page;

	if (last == 0)
		return -1;
	block = klog_segment_block(rel, part, seg, 1);
	if (block == InvalidBlockNumber)
		return -1;
	buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	if (klog_page_is(page, KLOG_PAGE_DATA, part->partition, seg->entry.segment, 1) &&
		KLogPageGetTag(page)->first_batch == KLOG_DATA_START &&
		kbatch_header_read((uint8 *) page + KLOG_DATA_START, KLOG_BATCH_HEADER,
						   &header) == KBATCH_OK)
		timestamp = header.max_timestamp;
	UnlockReleaseBuffer(buffer);
	return timestamp;
}

/* ------------------------------------------------------------------------
 * Changing.  The caller holds the append lock.  Order of buffer locks: metapage, partition header,
 * head page, bitmap, new pages.
 * ------------------------------------------------------------------------
 */

static Buffer
new_page(Relation rel, BlockNumber block)
{
	return ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_ZERO_AND_LOCK, NULL);
}

/*
 * Gives the partition its header page; KLOG_NO_EXTENT when there's no room.  It is empty, and begins
 * at 0, until its first segment says where: there may be no room for that one.
 */
static KLogResult
create_partition(Relation rel, KLogPartition *part)
{
	xl_klog_partition xlrec = {.log_start = 0,.partition = part->partition};
	Buffer		meta_buffer = klog_buffer_get(rel, KLOG_META_BLOCK, BUFFER_LOCK_EXCLUSIVE);
	Page		meta = BufferGetPage(meta_buffer);
	Buffer		bitmap = InvalidBuffer;
	Buffer		buffer;
	BlockNumber block;
	uint32		unit = 0;
	XLogRecPtr	lsn;

	block = klog_page_partition_block(KLogPageContent(meta), part->partition);
	if (block == InvalidBlockNumber)
	{
		bitmap = klog_extent_find(rel, &part->alloc_hint, 1, &unit);
		if (!BufferIsValid(bitmap))
		{
			UnlockReleaseBuffer(meta_buffer);
			return KLOG_NO_EXTENT;
		}
		xlrec.unit = unit;
		xlrec.bit = unit % KLOG_BITMAP_BITS;
		block = unit * KLOG_UNIT_BLOCKS +
			(part->partition - KLOG_INLINE_PARTITIONS) % KLOG_UNIT_BLOCKS;
	}
	buffer = new_page(rel, block);

	START_CRIT_SECTION();
	klog_page_meta_partition(meta, part->partition, unit);
	MarkBufferDirty(meta_buffer);
	klog_page_init_partition(BufferGetPage(buffer), part->partition, xlrec.log_start);
	MarkBufferDirty(buffer);
	if (BufferIsValid(bitmap))
	{
		klog_page_bitmap_set(BufferGetPage(bitmap), xlrec.bit, 1);
		MarkBufferDirty(bitmap);
	}
	/* XLOG stuff */
	XLogBeginInsert();
	XLogRegisterData((char *) &xlrec, sizeof(xlrec));
	XLogRegisterBuffer(0, meta_buffer, REGBUF_STANDARD);
	XLogRegisterBuffer(1, buffer, REGBUF_WILL_INIT | REGBUF_STANDARD);
	if (BufferIsValid(bitmap))
		XLogRegisterBuffer(2, bitmap, REGBUF_STANDARD);
	lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_PARTITION);
	PageSetLSN(meta, lsn);
	PageSetLSN(BufferGetPage(buffer), lsn);
	if (BufferIsValid(bitmap))
		PageSetLSN(BufferGetPage(bitmap), lsn);
	END_CRIT_SECTION();

	if (BufferIsValid(bitmap))
		UnlockReleaseBuffer(bitmap);
	part->header = block;
	UnlockReleaseBuffer(buffer);
	UnlockReleaseBuffer(meta_buffer);
	return KLOG_OK;
}

/* Makes room in a full partition header, which the caller has locked. */
static KLogResult
move_to_map(Relation rel, KLogPartition *part, Buffer buffer)
{
	KLogPartitionHeader *header = KLogPageContent(BufferGetPage(buffer));
	xl_klog_map xlrec = {.partition = part->partition,.index = header->nmaps};
	KLogSegmentEntry entry[KLOG_HEADER_ENTRIES];
	Buffer		bitmap = InvalidBuffer;
	Buffer		map;
	XLogRecPtr	lsn;

	if (header->nmaps == KLOG_HEADER_MAPS)
		return KLOG_FULL;
	xlrec.nentries = header->nentries - 1;
	memcpy(entry, header->entry, sizeof(KLogSegmentEntry) * xlrec.nentries);
	if (header->map_unit == 0 || header->map_unit_used == KLOG_UNIT_BLOCKS)
	{
		bitmap = klog_extent_find(rel, &part->alloc_hint, 1, &xlrec.unit);
		if (!BufferIsValid(bitmap))
			return KLOG_NO_EXTENT;
		xlrec.bit = xlrec.unit % KLOG_BITMAP_BITS;
		xlrec.block = xlrec.unit * KLOG_UNIT_BLOCKS;
	}
	else
		xlrec.block = header->map_unit * KLOG_UNIT_BLOCKS + header->map_unit_used;
	map = new_page(rel, xlrec.block);

	START_CRIT_SECTION();
	klog_page_init_map(BufferGetPage(map), part->partition, xlrec.index, entry, xlrec.nentries);
	MarkBufferDirty(map);
	klog_page_partition_moved(BufferGetPage(buffer), xlrec.block, xlrec.unit);
	MarkBufferDirty(buffer);
	if (BufferIsValid(bitmap))
	{
		klog_page_bitmap_set(BufferGetPage(bitmap), xlrec.bit, 1);
		MarkBufferDirty(bitmap);
	}
	/* XLOG stuff */
	XLogBeginInsert();
	XLogRegisterData((char *) &xlrec, sizeof(xlrec));
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
	XLogRegisterBuffer(1, map, REGBUF_WILL_INIT | REGBUF_STANDARD);
	XLogRegisterBufData(1, (char *) entry, sizeof(KLogSegmentEntry) * xlrec.nentries);
	if (BufferIsValid(bitmap))
		XLogRegisterBuffer(2, bitmap, REGBUF_STANDARD);
	lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_MAP);
	PageSetLSN(BufferGetPage(buffer), lsn);
	PageSetLSN(BufferGetPage(map), lsn);
	if (BufferIsValid(bitmap))
		PageSetLSN(BufferGetPage(bitmap), lsn);
	END_CRIT_SECTION();

	if (BufferIsValid(bitmap))
		UnlockReleaseBuffer(bitmap);
	UnlockReleaseBuffer(map);
	return KLOG_OK;
}

/*
 * Seals the open segment, if any, and opens the next, which begins at first_offset.  partitions:
 * as in KLogAppend.
 */
KLogResult
klog_segment_open(Relation rel, KLogPartition *part, int32 partitions, int64 first_offset)
{
	xl_klog_segment xlrec;
	KLogPartitionHeader *header;
	KLogResult	result;
	KLogMeta	meta;
	Buffer		buffer;
	Buffer		bitmap;
	Buffer		head;
	uint32		unit;
	XLogRecPtr	lsn;

	/* the first one, behind a floor: the log starts where others have been told that it does */
	if (part->head == InvalidBlockNumber &&
		first_offset == (int64) pg_atomic_read_u64(&part->floor_next))
		first_offset = klog_log_start(part);

	if (part->extent_units == 0)
	{
		klog_relation_init(rel, partitions);
		if (!klog_meta_read(rel, &meta))
			elog(ERROR, "kafka_log metapage of \"%s\" vanished", RelationGetRelationName(rel));
		part->extent_units = meta.extent_units;
	}
	buffer = klog_partition_header(rel, part->partition, BUFFER_LOCK_EXCLUSIVE);
	if (!BufferIsValid(buffer))
	{
		BlockNumber block;

		/* a file that replay has made ends with the last page in use, perhaps before this one */
		if (!klog_meta_read(rel, &meta))
			elog(ERROR, "kafka_log metapage of \"%s\" vanished", RelationGetRelationName(rel));
		block = klog_page_partition_block(&meta, part->partition);
		if (block != InvalidBlockNumber)
			klog_grow_to_used(rel, block);
		result = create_partition(rel, part);
		if (result != KLOG_OK)
			return result;
		buffer = klog_partition_header(rel, part->partition, BUFFER_LOCK_EXCLUSIVE);
		if (!BufferIsValid(buffer))
			elog(ERROR, "header of partition %d of \"%s\" vanished", part->partition,
				 RelationGetRelationName(rel));
	}
	header = KLogPageContent(BufferGetPage(buffer));
	if (header->nentries == KLOG_HEADER_ENTRIES)
	{
		result = move_to_map(rel, part, buffer);
		if (result != KLOG_OK)
		{
			UnlockReleaseBuffer(buffer);
			return result;
		}
	}
	bitmap = klog_extent_find(rel, &part->alloc_hint, 1, &unit);
	if (!BufferIsValid(bitmap))
	{
		UnlockReleaseBuffer(buffer);
		return KLOG_NO_EXTENT;
	}
	head = new_page(rel, unit * KLOG_UNIT_BLOCKS);

	memset(&xlrec, 0, sizeof(xlrec));
	xlrec.partition = part->partition;
	xlrec.bit = unit % KLOG_BITMAP_BITS;
	xlrec.high_watermark = klog_watermark(part);
	if (header->nentries > 0)
	{
		xlrec.seal.first_offset = part->segment_first_offset;
		xlrec.seal.max_timestamp = part->max_timestamp;
		xlrec.seal.bytes = part->segment_bytes;
		xlrec.seal.segment = part->segment;
		xlrec.seal.head = part->head;
		xlrec.seal.npages = part->tail_page + 1;
		xlrec.seal.state = KLOG_SEGMENT_SEALED;
	}
	xlrec.open.first_offset = first_offset;
	xlrec.open.max_timestamp = -1;
	xlrec.open.segment = header->next_segment;
	xlrec.open.head = unit * KLOG_UNIT_BLOCKS;
	KSTOP("klog-segment-before-insert");

	START_CRIT_SECTION();
	klog_page_partition_segment(BufferGetPage(buffer), &xlrec.seal, &xlrec.open,
								xlrec.high_watermark);
	MarkBufferDirty(buffer);
	klog_page_bitmap_set(BufferGetPage(bitmap), xlrec.bit, 1);
	MarkBufferDirty(bitmap);
	klog_page_init_head(BufferGetPage(head), part->partition, xlrec.open.segment,
						xlrec.open.head);
	MarkBufferDirty(head);
	/* XLOG stuff */
	XLogBeginInsert();
	XLogRegisterData((char *) &xlrec, sizeof(xlrec));
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
	XLogRegisterBuffer(1, bitmap, REGBUF_STANDARD);
	XLogRegisterBuffer(2, head, REGBUF_WILL_INIT | REGBUF_STANDARD);
	lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_SEGMENT);
	PageSetLSN(BufferGetPage(buffer), lsn);
	PageSetLSN(BufferGetPage(bitmap), lsn);
	PageSetLSN(BufferGetPage(head), lsn);
	part->segment = xlrec.open.segment;
	part->head = xlrec.open.head;
	part->npages = KLOG_UNIT_BLOCKS;
	part->tail_page = 0;
	part->tail_block = InvalidBlockNumber;
	part->tail_buffer = InvalidBuffer;
	part->tail_lower = 0;
	part->tail_listed = 0;
	part->segment_first_offset = first_offset;
	part->segment_bytes = 0;
	part->segment_first_timestamp = -1;
	part->segment_max_timestamp = -1;
	part->clean_page = 0;
	END_CRIT_SECTION();

	/* Offsets go on from here even if the append that asked for it fails: the map says so. */
	SpinLockAcquire(&part->mutex);
	klog_floor_appended(part, first_offset, first_offset + 1);
	part->next_offset = first_offset;
	if (header->nentries == 1 && header->nmaps == 0)
	{
		/*
		 * the log begins here, perhaps with an explicit offset: there is nothing to wait for below
		 * it
		 */
		part->log_start = header->log_start;
		part->durable_offset = Max(part->durable_offset, header->log_start);
	}
	SpinLockRelease(&part->mutex);
	UnlockReleaseBuffer(head);
	UnlockReleaseBuffer(bitmap);
	UnlockReleaseBuffer(buffer);
	KSTOP("klog-segment-after-insert");
	return KLOG_OK;
}

/* Gives the open segment one more extent.  KLOG_FULL: its list is full, open another segment. */
KLogResult
klog_segment_extend(Relation rel, KLogPartition *part)
{
	xl_klog_extent xlrec = {.partition = part->partition,.segment = part->segment};
	Buffer		buffer = klog_buffer_get(rel, part->head, BUFFER_LOCK_EXCLUSIVE);
	KLogHead   *head = KLogPageContent(BufferGetPage(buffer));
	Buffer		bitmap;
	uint32		unit;
	XLogRecPtr	lsn;

	if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_HEAD, part->partition, part->segment, 0))
	{
		UnlockReleaseBuffer(buffer);
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("block %u of \"%s\" is not the head of segment %u of partition %d",
						part->head, RelationGetRelationName(rel), part->segment,
						part->partition)));
	}
	if (head->nextents >= KLOG_HEAD_EXTENTS)
	{
		UnlockReleaseBuffer(buffer);
		return KLOG_FULL;
	}
	bitmap = klog_extent_find(rel, &part->alloc_hint, part->extent_units, &unit);
	if (!BufferIsValid(bitmap))
	{
		UnlockReleaseBuffer(buffer);
		return KLOG_NO_EXTENT;
	}
	xlrec.block = unit * KLOG_UNIT_BLOCKS;
	xlrec.bit = unit % KLOG_BITMAP_BITS;
	xlrec.nbits = part->extent_units;
	if (unit + 4 * xlrec.nbits >= RelationGetNumberOfBlocks(rel) / KLOG_UNIT_BLOCKS)
		klog_keeper_queue(part, true);
	KSTOP("klog-extent-before-insert");

	START_CRIT_SECTION();
	klog_page_head_extent(BufferGetPage(buffer), xlrec.block);
	MarkBufferDirty(buffer);
	klog_page_bitmap_set(BufferGetPage(bitmap), xlrec.bit, xlrec.nbits);
	MarkBufferDirty(bitmap);
	/* XLOG stuff */
	XLogBeginInsert();
	XLogRegisterData((char *) &xlrec, sizeof(xlrec));
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
	XLogRegisterBuffer(1, bitmap, REGBUF_STANDARD);
	lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_EXTENT);
	PageSetLSN(BufferGetPage(buffer), lsn);
	PageSetLSN(BufferGetPage(bitmap), lsn);
	part->npages += (uint32) part->extent_units * KLOG_UNIT_BLOCKS;
	END_CRIT_SECTION();

	UnlockReleaseBuffer(bitmap);
	UnlockReleaseBuffer(buffer);
	KSTOP("klog-extent-after-insert");
	return KLOG_OK;
}
