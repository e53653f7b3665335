/*
 * klog_xlog.c
 *		Replay of the log's WAL records.
 *
 * Redo reads the record, finds the pages and calls klog_page.c: it touches nothing else, so
 * that nothing in here can fail but for a broken WAL, or pages that it does not fit.  Both are
 * checked before a page is changed: to stop is better than to spread the damage.
 */
#include "postgres.h"

#include "access/bufmask.h"
#include "access/xlog_internal.h"
#include "access/xlogutils.h"
#include "storage/bufmgr.h"

#include "log/klog_state.h"
#include "log/klog_xlog.h"

/* The server stops, with the record in the error's context. */
static void
bad_record(const char *what)
{
	elog(PANIC, "kafka_log: cannot replay record: %s", what);
}

/* Gets a page whose content the record makes from nothing, locked. */
static Page
redo_init(XLogReaderState *record, uint8 block_id, Buffer *buffer)
{
	*buffer = XLogInitBufferForRedo(record, block_id);
	return BufferGetPage(*buffer);
}

/* Gets a page that the record changes, locked; NULL when there's nothing to do to it. */
static Page
redo_page(XLogReaderState *record, uint8 block_id, KLogPageKind kind, Buffer *buffer)
{
	if (XLogReadBufferForRedo(record, block_id, buffer) != BLK_NEEDS_REDO)
		return NULL;
	if (!klog_page_is_kind(BufferGetPage(*buffer), kind))
		bad_record("a page is of another kind");
	return BufferGetPage(*buffer);
}

/* A state that was built from pages of this partition before is old. */
static void
redo_changed(XLogReaderState *record, int32 partition)
{
	RelFileLocator rlocator;

	XLogRecGetBlockTag(record, 0, &rlocator, NULL, NULL);
	klog_replayed(rlocator, partition);
}

static void
redo_finish(XLogReaderState *record, Buffer buffer, Page changed)
{
	if (changed)
	{
		PageSetLSN(changed, record->EndRecPtr);
		MarkBufferDirty(buffer);
	}
	if (BufferIsValid(buffer))
		UnlockReleaseBuffer(buffer);
}

static void
redo_bitmap(XLogReaderState *record, uint8 block_id, uint32 bit, uint32 nbits)
{
	Buffer		buffer;
	Page		page = redo_page(record, block_id, KLOG_PAGE_BITMAP, &buffer);

	if (nbits > KLOG_MAX_EXTENT_UNITS || bit > KLOG_BITMAP_BITS - nbits)
		bad_record("bits outside of a bitmap page");
	if (page)
		klog_page_bitmap_set(page, bit, nbits);
	redo_finish(record, buffer, page);
}

static void
redo_init_relation(XLogReaderState *record)
{
	xl_klog_init *xlrec = (xl_klog_init *) XLogRecGetData(record);
	Buffer		meta_buffer;
	Buffer		bitmap_buffer;
	Page		meta = redo_init(record, 0, &meta_buffer);
	Page		bitmap;

	klog_page_init_meta(meta, xlrec->extent_units);
	bitmap = redo_init(record, 1, &bitmap_buffer);
	klog_page_init_bitmap(bitmap, true);
	redo_finish(record, bitmap_buffer, bitmap);
	redo_finish(record, meta_buffer, meta);
}

static void
redo_init_bitmap(XLogReaderState *record)
{
	Buffer		buffer;
	Page		page = redo_init(record, 0, &buffer);

	klog_page_init_bitmap(page, false);
	redo_finish(record, buffer, page);
}

static void
redo_partition(XLogReaderState *record)
{
	xl_klog_partition *xlrec = (xl_klog_partition *) XLogRecGetData(record);
	Buffer		meta_buffer;
	Buffer		buffer;
	Page		meta = redo_page(record, 0, KLOG_PAGE_META, &meta_buffer);
	Page		page;

	if (xlrec->partition < 0 || xlrec->partition >= KLOG_MAX_PARTITIONS ||
		(xlrec->unit != 0 && xlrec->partition < KLOG_INLINE_PARTITIONS))
		bad_record("partition out of range");
	if (meta)
		klog_page_meta_partition(meta, xlrec->partition, xlrec->unit);
	page = redo_init(record, 1, &buffer);
	klog_page_init_partition(page, xlrec->partition, xlrec->log_start);
	if (xlrec->unit != 0)
		redo_bitmap(record, 2, xlrec->bit, 1);
	redo_finish(record, buffer, page);
	redo_finish(record, meta_buffer, meta);
	redo_changed(record, xlrec->partition);
}

static void
redo_segment(XLogReaderState *record)
{
	xl_klog_segment *xlrec = (xl_klog_segment *) XLogRecGetData(record);
	Buffer		buffer;
	Buffer		head_buffer;
	Page		page = redo_page(record, 0, KLOG_PAGE_PARTITION, &buffer);
	Page		head;

	if (page)
	{
		if (((KLogPartitionHeader *) KLogPageContent(page))->nentries >= KLOG_HEADER_ENTRIES)
			bad_record("partition header is full");
		klog_page_partition_segment(page, &xlrec->seal, &xlrec->open, xlrec->high_watermark);
	}
	redo_bitmap(record, 1, xlrec->bit, 1);
	head = redo_init(record, 2, &head_buffer);
	klog_page_init_head(head, xlrec->partition, xlrec->open.segment, xlrec->open.head);
	redo_finish(record, head_buffer, head);
	redo_finish(record, buffer, page);
	redo_changed(record, xlrec->partition);
}

static void
redo_map(XLogReaderState *record)
{
	xl_klog_map *xlrec = (xl_klog_map *) XLogRecGetData(record);
	KLogSegmentEntry entry[KLOG_HEADER_ENTRIES];
	Buffer		buffer;
	Buffer		map_buffer;
	Page		page = redo_page(record, 0, KLOG_PAGE_PARTITION, &buffer);
	Page		map;
	Size		len;
	char	   *data = XLogRecGetBlockData(record, 1, &len);

	if (data == NULL || xlrec->nentries > KLOG_HEADER_ENTRIES ||
		len != sizeof(KLogSegmentEntry) * xlrec->nentries)
		bad_record("segment map of another length");
	if (page)
	{
		KLogPartitionHeader *header = KLogPageContent(page);

		if (header->nentries != xlrec->nentries + 1 || header->nmaps >= KLOG_HEADER_MAPS)
			bad_record("partition header has other segments");
		klog_page_partition_moved(page, xlrec->block, xlrec->unit);
	}
	map = redo_init(record, 1, &map_buffer);
	memcpy(entry, data, len);
	klog_page_init_map(map, xlrec->partition, xlrec->index, entry, xlrec->nentries);
	if (xlrec->unit != 0)
		redo_bitmap(record, 2, xlrec->bit, 1);
	redo_finish(record, map_buffer, map);
	redo_finish(record, buffer, page);
	redo_changed(record, xlrec->partition);
}

static void
redo_extent(XLogReaderState *record)
{
	xl_klog_extent *xlrec = (xl_klog_extent *) XLogRecGetData(record);
	Buffer		buffer;
	Page		page = redo_page(record, 0, KLOG_PAGE_HEAD, &buffer);

	if (page)
	{
		if (((KLogHead *) KLogPageContent(page))->nextents >= KLOG_HEAD_EXTENTS)
			bad_record("segment has all of its extents");
		klog_page_head_extent(page, xlrec->block);
	}
	redo_bitmap(record, 1, xlrec->bit, xlrec->nbits);
	redo_finish(record, buffer, page);
	redo_changed(record, xlrec->partition);
}

/*
 * May the edit be made to the page, with data of len bytes?  Its page is new, or the one that was
 * appended to when the record was written, as it was then.
 */
static bool
edit_fits(const KLogPageEdit *edit, Size len, bool init, Page page, const xl_klog_append *xlrec)
{
	uint32		end = (uint32) edit->offset + edit->len;
	uint32		listed = edit->nlisted;

	if (len != sizeof(KLogPageEdit) + sizeof(uint16) * edit->nlisted + edit->len ||
		init != ((edit->flags & KLOG_EDIT_INIT) != 0) || edit->first_batch >= KLOG_DATA_END)
		return false;
	if (init)
	{
		if (edit->offset != KLOG_DATA_START)
			return false;
	}
	else
	{
		if (!klog_page_is(page, KLOG_PAGE_DATA, xlrec->partition, xlrec->segment, edit->page) ||
			((PageHeader) page)->pd_lower != edit->offset)
			return false;
		listed += KLogPageGetTag(page)->nlisted;
	}
	return end + sizeof(KLogListed) * listed <= KLOG_DATA_END;
}

static void
redo_append(XLogReaderState *record)
{
	xl_klog_append *xlrec = (xl_klog_append *) XLogRecGetData(record);
	Buffer		buffers[XLR_MAX_BLOCK_ID + 1];
	Page		pages[XLR_MAX_BLOCK_ID + 1];
	int			nblocks = XLogRecMaxBlockId(record) + 1;

	/*
	 * The locks of all pages are held until all are changed: a reader on a standby then
	 * sees a batch whole or not at all, as on the primary.
	 */
	for (int i = 0; i < nblocks; i++)
	{
		bool		init = (XLogRecGetBlock(record, i)->flags & BKPBLOCK_WILL_INIT) != 0;
		KLogPageEdit edit;
		KLogChunk	chunk;
		char	   *data;
		Size		len;

		if (init)
			pages[i] = redo_init(record, i, &buffers[i]);
		else
			pages[i] = redo_page(record, i, KLOG_PAGE_DATA, &buffers[i]);
		if (pages[i] == NULL)
			continue;
		data = XLogRecGetBlockData(record, i, &len);
		if (data == NULL || len < sizeof(KLogPageEdit))
			bad_record("append without data");
		memcpy(&edit, data, sizeof(edit));
		if (!edit_fits(&edit, len, init, pages[i], xlrec))
			bad_record("append that does not fit its page");
		data += sizeof(edit);
		chunk.data = (uint8 *) data + sizeof(uint16) * edit.nlisted;
		chunk.len = edit.len;
		klog_page_append(pages[i], xlrec->partition, xlrec->segment, xlrec->xid, &edit,
						 (uint16 *) data, &chunk, 1);
	}
	for (int i = 0; i < nblocks; i++)
		redo_finish(record, buffers[i], pages[i]);
	redo_changed(record, xlrec->partition);
}

static void
redo_resolve(XLogReaderState *record)
{
	xl_klog_resolve *xlrec = (xl_klog_resolve *) XLogRecGetData(record);
	const uint16 *positions = (const uint16 *) ((char *) xlrec + sizeof(xl_klog_resolve));
	Buffer		buffer;
	Page		page = redo_page(record, 0, KLOG_PAGE_DATA, &buffer);

	if (page)
		klog_page_resolve(page, positions, xlrec->ncommitted, positions + xlrec->ncommitted,
						  xlrec->ndead);
	redo_finish(record, buffer, page);
	redo_changed(record, xlrec->partition);
}

static void
redo_mark(XLogReaderState *record)
{
	xl_klog_mark *xlrec = (xl_klog_mark *) XLogRecGetData(record);
	Buffer		buffer;
	Page		page = redo_page(record, 0, KLOG_PAGE_PARTITION, &buffer);

	if (page)
		klog_page_partition_mark(page, xlrec->resolved_to, xlrec->high_watermark);
	redo_finish(record, buffer, page);
	redo_changed(record, xlrec->partition);
}

void
klog_redo(XLogReaderState *record)
{
	if (!klog_record_is_whole(record))
		bad_record("not one of this version");
	switch (XLogRecGetInfo(record) & ~XLR_INFO_MASK)
	{
		case XLOG_KLOG_INIT:
			redo_init_relation(record);
			break;
		case XLOG_KLOG_BITMAP:
			redo_init_bitmap(record);
			break;
		case XLOG_KLOG_PARTITION:
			redo_partition(record);
			break;
		case XLOG_KLOG_SEGMENT:
			redo_segment(record);
			break;
		case XLOG_KLOG_MAP:
			redo_map(record);
			break;
		case XLOG_KLOG_EXTENT:
			redo_extent(record);
			break;
		case XLOG_KLOG_APPEND:
			redo_append(record);
			break;
		case XLOG_KLOG_RESOLVE:
			redo_resolve(record);
			break;
		case XLOG_KLOG_MARK:
			redo_mark(record);
			break;
		case XLOG_KLOG_HEARTBEAT:
			break;
		default:
			elog(PANIC, "kafka_log: unknown record type %u", XLogRecGetInfo(record));
	}
}

/* What may differ between a page and its replayed twin: LSN, checksum, the hole. */
void
klog_mask(char *pagedata, BlockNumber block)
{
	mask_page_lsn_and_checksum((Page) pagedata);
	mask_unused_space((Page) pagedata);
}

static RmgrData klog_rmgr = {
	.rm_name = "kafka_log",
	.rm_redo = klog_redo,
	.rm_desc = klog_desc,
	.rm_identify = klog_identify,
	.rm_mask = klog_mask,
};

void
klog_rmgr_register(void)
{
	RegisterCustomRmgr(RM_KAFKA_LOG_ID, &klog_rmgr);
}
