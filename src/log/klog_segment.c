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

/*
 * The keeper is to extend a file when no more than a sixteenth of it is left, or so much, and some
 * extents.
 */
#define SPACE_MAX_UNITS		256

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

/* Copies the map page's entries. */
static KLogResult
read_map(Relation rel, int32 partition, uint32 index, BlockNumber block, KLogMapPage *map,
		 KLogPosition *cold)
{
	Buffer		buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE, cold);
	bool		valid;

	if (!BufferIsValid(buffer))
		return KLOG_COLD;
	valid = klog_page_is(BufferGetPage(buffer), KLOG_PAGE_MAP, partition, 0, index);
	if (valid)
		memcpy(map, KLogPageContent(BufferGetPage(buffer)), sizeof(KLogMapPage));
	UnlockReleaseBuffer(buffer);
	return valid && map->nentries > 0 && map->nentries <= KLOG_MAP_ENTRIES ? KLOG_OK : KLOG_CORRUPT;
}

static KLogResult
search_map(Relation rel, KLogPartition *part, const Wanted *wanted, KLogSegment *seg,
		   KLogPosition *cold)
{
	int32		partition = part->partition;
	KLogPartitionHeader *header;
	KLogMapRef	refs[KLOG_HEADER_MAPS];
	KLogMapPage map;
	Buffer		buffer;
	int			nmaps;
	int			found;
	bool		inside = false;
	KLogResult	result;

	/*
	 * where the header is never changes, so a partition that has data is found without the
	 * metapage
	 */
	if (part->header == InvalidBlockNumber)
		return KLOG_OUT_OF_RANGE;
	buffer = klog_buffer_get(rel, part->header, BUFFER_LOCK_SHARE, cold);
	if (!BufferIsValid(buffer))
		return KLOG_COLD;
	header = KLogPageContent(BufferGetPage(buffer));
	if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_PARTITION, partition, 0, 0) ||
		header->nentries > KLOG_HEADER_ENTRIES || header->nmaps > KLOG_HEADER_MAPS)
		result = KLOG_CORRUPT;
	else
		result = header->nentries == 0 ? KLOG_OUT_OF_RANGE : KLOG_OK;
	if (result != KLOG_OK)
	{
		UnlockReleaseBuffer(buffer);
		return result;
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
			return KLOG_OUT_OF_RANGE;
		}
		seg->entry = header->entry[Max(found, 0)];
		UnlockReleaseBuffer(buffer);
		return KLOG_OK;
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

			result = read_map(rel, partition, i, refs[i].block, &map, cold);
			if (result != KLOG_OK)
				return result;
			at = search_entries(map.entry, map.nentries, wanted);
			if (at >= 0)
			{
				seg->entry = map.entry[at];
				return KLOG_OK;
			}
		}
		return found >= 0 ? KLOG_OK : KLOG_OUT_OF_RANGE;
	}
	for (int i = nmaps - 1; i >= 0; i--)
	{
		if (refs[i].first_offset > wanted->value && i > 0)
			continue;
		result = read_map(rel, partition, i, refs[i].block, &map, cold);
		if (result != KLOG_OK)
			return result;
		found = search_entries(map.entry, map.nentries, wanted);
		seg->entry = map.entry[Max(found, 0)];
		return KLOG_OK;
	}
	return KLOG_OUT_OF_RANGE;
}

KLogResult
klog_segment_for_offset(Relation rel, KLogPartition *part, int64 offset, KLogSegment *seg,
						KLogPosition *cold)
{
	Wanted		wanted = {.value = offset};

	return search_map(rel, part, &wanted, seg, cold);
}

KLogResult
klog_segment_for_timestamp(Relation rel, KLogPartition *part, int64 timestamp, KLogSegment *seg,
						   KLogPosition *cold)
{
	Wanted		wanted = {.by_timestamp = true, .value = timestamp};

	return search_map(rel, part, &wanted, seg, cold);
}

KLogResult
klog_segment_next(Relation rel, KLogPartition *part, KLogSegment *seg, KLogPosition *cold)
{
	Wanted		wanted = {.next = true, .value = seg->entry.segment};

	return search_map(rel, part, &wanted, seg, cold);
}

KLogResult
klog_segment_by_number(Relation rel, KLogPartition *part, uint32 segment, KLogSegment *seg,
					   KLogPosition *cold)
{
	Wanted		wanted = {.next = true, .value = (int64) segment - 1};
	KLogResult	result = search_map(rel, part, &wanted, seg, cold);

	return result == KLOG_OK && seg->entry.segment != segment ? KLOG_OUT_OF_RANGE : result;
}

/*
 * Bytes of all sealed segments.  The caller holds the append lock: what map pages say never
 * changes, and is remembered.
 */
int64
klog_segment_sealed_bytes(Relation rel, KLogPartition *part, const KLogPartitionHeader *header,
						  KLogPosition *cold)
{
	int64		bytes = 0;
	KLogMapPage map;

	for (; part->maps_counted < header->nmaps; part->maps_counted++)
	{
		int			i = part->maps_counted;
		KLogResult	result = read_map(rel, part->partition, i, header->map[i].block, &map, cold);

		if (result == KLOG_COLD)
			return 0;
		for (uint32 j = 0; result == KLOG_OK && j < map.nentries; j++)
			part->maps_bytes += map.entry[j].bytes;
	}
	for (int i = 0; i < header->nentries - 1; i++)
		bytes += header->entry[i].bytes;
	return part->maps_bytes + bytes;
}

/*
 * Will klog_segment_block() answer without looking at the head page?  Who holds locks of data pages
 * must not take that page's as well: whoever frees a segment takes them the other way round.
 */
bool
klog_segment_knows(const KLogSegment *seg, uint32 pageno)
{
	uint32		extent;
	uint32		inside;

	klog_segment_locate(pageno, seg->extent_units, &extent, &inside);
	return seg->extent_count > 0 && extent >= seg->extent_from &&
		extent < seg->extent_from + seg->extent_count;
}

/*
 * Block of a segment's page; InvalidBlockNumber when the segment has no such page, or its head page
 * belongs to something else by now, or is cold.  Sets seg->nextents.
 */
BlockNumber
klog_segment_block(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 pageno,
				   KLogPosition *cold)
{
	uint32		extent;
	uint32		inside;

	klog_segment_locate(pageno, seg->extent_units, &extent, &inside);
	if (!klog_segment_knows(seg, pageno))
	{
		Buffer		buffer;
		KLogHead   *head;

		buffer = klog_buffer_get(rel, seg->entry.head, BUFFER_LOCK_SHARE, cold);
		if (!BufferIsValid(buffer))
			return InvalidBlockNumber;
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
					   uint32 last, KLogPosition *cold, uint32 *found)
{
	uint32		low = 1;
	uint32		high = last;

	while (low < high)
	{
		uint32		mid = low + (high - low + 1) / 2;
		BlockNumber block = klog_segment_block(rel, part, seg, mid, cold);
		Buffer		buffer;
		int64		base_offset;

		if (block == InvalidBlockNumber)
			return klog_is_cold(cold) ? KLOG_COLD : KLOG_CORRUPT;
		buffer = klog_buffer_get_data(rel, block, seg, mid, cold);
		if (!BufferIsValid(buffer))
			return KLOG_COLD;
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
	block = klog_segment_block(rel, part, seg, 1, NULL);
	if (block == InvalidBlockNumber)
		return -1;
	buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE, NULL);
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

/* What it means that klog_extent_find found nothing. */
static KLogResult
no_extent(const KLogPosition *cold)
{
	return klog_is_cold(cold) ? KLOG_COLD : KLOG_NO_EXTENT;
}

/*
 * Gives the partition its header page; KLOG_NO_EXTENT when there's no room.  It is empty, and begins
 * at 0, until its first segment says where: there may be no room for that one.
 */
static KLogResult
create_partition(Relation rel, KLogPartition *part, KLogPosition *cold)
{
	xl_klog_partition xlrec = {.log_start = 0,.partition = part->partition};
	Buffer		meta_buffer = klog_buffer_get(rel, KLOG_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, NULL);
	Page		meta = BufferGetPage(meta_buffer);
	Buffer		bitmap = InvalidBuffer;
	Buffer		buffer;
	BlockNumber block;
	uint32		unit = 0;
	XLogRecPtr	lsn;

	block = klog_page_partition_block(KLogPageContent(meta), part->partition);
	if (block == InvalidBlockNumber)
	{
		bitmap = klog_extent_find(rel, &part->alloc_hint, 1, &unit, cold);
		if (!BufferIsValid(bitmap))
		{
			UnlockReleaseBuffer(meta_buffer);
			return no_extent(cold);
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
move_to_map(Relation rel, KLogPartition *part, Buffer buffer, KLogPosition *cold)
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
		bitmap = klog_extent_find(rel, &part->alloc_hint, 1, &xlrec.unit, cold);
		if (!BufferIsValid(bitmap))
			return no_extent(cold);
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
klog_segment_open(Relation rel, KLogPartition *part, int32 partitions, int64 first_offset,
				  KLogPosition *cold)
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
		if (!klog_meta_read(rel, &meta, NULL))
			elog(ERROR, "kafka_log metapage of \"%s\" vanished", RelationGetRelationName(rel));
		part->extent_units = meta.extent_units;
	}
	if (part->header == InvalidBlockNumber)
	{
		BlockNumber block;

		/* a file that replay has made ends with the last page in use, perhaps before this one */
		if (!klog_meta_read(rel, &meta, NULL))
			elog(ERROR, "kafka_log metapage of \"%s\" vanished", RelationGetRelationName(rel));
		block = klog_page_partition_block(&meta, part->partition);
		if (block != InvalidBlockNumber)
			klog_grow_to_used(rel, block);
		result = create_partition(rel, part, cold);
		if (result != KLOG_OK)
			return result;
	}
	buffer = klog_partition_header(rel, part->partition, BUFFER_LOCK_EXCLUSIVE, cold);
	if (klog_is_cold(cold))
		return KLOG_COLD;
	if (!BufferIsValid(buffer))
		elog(ERROR, "header of partition %d of \"%s\" vanished", part->partition,
			 RelationGetRelationName(rel));
	header = KLogPageContent(BufferGetPage(buffer));
	if (header->nentries == KLOG_HEADER_ENTRIES)
	{
		result = move_to_map(rel, part, buffer, cold);
		if (result != KLOG_OK)
		{
			UnlockReleaseBuffer(buffer);
			return result;
		}
	}
	bitmap = klog_extent_find(rel, &part->alloc_hint, 1, &unit, cold);
	if (!BufferIsValid(bitmap))
	{
		UnlockReleaseBuffer(buffer);
		return no_extent(cold);
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
klog_segment_extend(Relation rel, KLogPartition *part, KLogPosition *cold)
{
	xl_klog_extent xlrec = {.partition = part->partition,.segment = part->segment};
	Buffer		buffer = klog_buffer_get(rel, part->head, BUFFER_LOCK_EXCLUSIVE, cold);
	KLogHead   *head;
	Buffer		bitmap;
	uint32		unit;
	uint32		units;
	XLogRecPtr	lsn;

	if (!BufferIsValid(buffer))
		return KLOG_COLD;
	head = KLogPageContent(BufferGetPage(buffer));
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
	bitmap = klog_extent_find(rel, &part->alloc_hint, part->extent_units, &unit, cold);
	if (!BufferIsValid(bitmap))
	{
		UnlockReleaseBuffer(buffer);
		return no_extent(cold);
	}
	xlrec.block = unit * KLOG_UNIT_BLOCKS;
	xlrec.bit = unit % KLOG_BITMAP_BITS;
	xlrec.nbits = part->extent_units;
	units = RelationGetNumberOfBlocks(rel) / KLOG_UNIT_BLOCKS;
	if (unit + 5 * xlrec.nbits + Min(units / 16, SPACE_MAX_UNITS) >= units)
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
