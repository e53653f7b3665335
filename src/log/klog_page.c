/*
 * klog_page.c
 *		The bytes of one page: every edit that the log makes to a page is a
 *		function in this file, called once when it is done and again when it is
 *		replayed from WAL.
 *
 * Nothing in here reads other pages, takes locks, allocates or throws.
 */
#include "postgres.h"

#include "log/klog_page.h"

static void
set_content_size(Page page, Size size)
{
	((PageHeader) page)->pd_lower = SizeOfPageHeaderData + size;
}

/* Makes the page an empty one of the kind; its content area is zero. */
void
klog_page_init(Page page, KLogPageKind kind, int32 partition, uint32 segment, uint32 pageno)
{
	KLogPageTag *tag;

	PageInit(page, BLCKSZ, sizeof(KLogPageTag));
	tag = KLogPageGetTag(page);
	tag->magic = KLOG_PAGE_MAGIC;
	tag->layout = KLOG_LAYOUT_VERSION;
	tag->kind = kind;
	tag->partition = partition;
	tag->segment = segment;
	tag->page = pageno;
	tag->base_offset = -1;
	tag->max_timestamp = -1;
}

bool
klog_page_is_kind(Page page, KLogPageKind kind)
{
	PageHeader	header = (PageHeader) page;
	KLogPageTag *tag;

	if (PageIsNew(page) || header->pd_special != KLOG_DATA_END)
		return false;
	tag = KLogPageGetTag(page);
	return tag->magic == KLOG_PAGE_MAGIC && tag->layout == KLOG_LAYOUT_VERSION &&
		tag->kind == kind &&
		header->pd_lower >= SizeOfPageHeaderData && header->pd_lower <= header->pd_upper &&
		header->pd_upper <= header->pd_special &&
		tag->nlisted * sizeof(KLogListed) <= KLOG_DATA_END - header->pd_lower;
}

bool
klog_page_is(Page page, KLogPageKind kind, int32 partition, uint32 segment, uint32 pageno)
{
	KLogPageTag *tag;

	if (!klog_page_is_kind(page, kind))
		return false;
	tag = KLogPageGetTag(page);
	return tag->partition == partition && tag->segment == segment && tag->page == pageno;
}

void
klog_page_init_meta(Page page, uint16 extent_units)
{
	KLogMeta   *meta;

	klog_page_init(page, KLOG_PAGE_META, -1, 0, 0);
	meta = KLogPageContent(page);
	meta->magic = KLOG_META_MAGIC;
	meta->layout = KLOG_LAYOUT_VERSION;
	meta->extent_units = extent_units;
	set_content_size(page, sizeof(KLogMeta));
}

/* An empty bitmap whose first bit, the unit that it lies in itself, is set. */
void
klog_page_init_bitmap(Page page, bool first)
{
	klog_page_init(page, KLOG_PAGE_BITMAP, -1, 0, first ? KLOG_FIRST_BITMAP_BLOCK : 0);
	set_content_size(page, KLOG_BITMAP_BITS / 8);
	klog_page_bitmap_set(page, 0, 1);
}

void
klog_page_bitmap_set(Page page, uint32 bit, uint32 nbits)
{
	uint8	   *bits = KLogPageContent(page);

	for (uint32 i = bit; i < bit + nbits; i++)
		bits[i / 8] |= (uint8) (1 << (i % 8));
}

int
klog_page_bitmap_find(Page page, uint32 from, uint32 to, uint32 nbits)
{
	const uint8 *bits = KLogPageContent(page);
	uint32		bit = (from + nbits - 1) / nbits * nbits;

	while (bit + nbits <= to)
	{
		bool		free;

		if (nbits == 16)
			free = bits[bit / 8] == 0 && bits[bit / 8 + 1] == 0;
		else
		{
			/* skip full bytes: most of a bitmap is one run of them */
			if (bits[bit / 8] == 0xFF)
			{
				bit = (bit / 8 + 1) * 8;
				continue;
			}
			free = (bits[bit / 8] & (((1 << nbits) - 1) << (bit % 8))) == 0;
		}
		if (free)
			return (int) bit;
		bit += nbits;
	}
	return -1;
}

bool
klog_page_bitmap_used(Page page, uint32 bit)
{
	const uint8 *bits = KLogPageContent(page);

	return (bits[bit / 8] & (1 << (bit % 8))) != 0;
}

uint32
klog_page_bitmap_free(Page page, uint32 to)
{
	const uint8 *bits = KLogPageContent(page);
	uint32		nfree = 0;

	for (uint32 i = 0; i < to; i++)
		nfree += (bits[i / 8] & (1 << (i % 8))) == 0;
	return nfree;
}

/* The partition got its header page; unit: of a new unit of headers, or 0. */
void
klog_page_meta_partition(Page page, int32 partition, uint32 unit)
{
	KLogMeta   *meta = KLogPageContent(page);

	if (unit != 0)
		meta->partition_unit[(partition - KLOG_INLINE_PARTITIONS) / KLOG_UNIT_BLOCKS] = unit;
	if (meta->npartitions <= partition)
		meta->npartitions = partition + 1;
}

/* Where the partition's header is or will be; InvalidBlockNumber when its unit does not exist. */
BlockNumber
klog_page_partition_block(const KLogMeta *meta, int32 partition)
{
	uint32		unit;

	if (partition < KLOG_INLINE_PARTITIONS)
		return KLOG_FIRST_PARTITION_BLOCK + (BlockNumber) partition;
	unit = meta->partition_unit[(partition - KLOG_INLINE_PARTITIONS) / KLOG_UNIT_BLOCKS];
	if (unit == 0)
		return InvalidBlockNumber;
	return unit * KLOG_UNIT_BLOCKS +
		(BlockNumber) (partition - KLOG_INLINE_PARTITIONS) % KLOG_UNIT_BLOCKS;
}

void
klog_page_init_partition(Page page, int32 partition, int64 log_start)
{
	KLogPartitionHeader *header;

	klog_page_init(page, KLOG_PAGE_PARTITION, partition, 0, 0);
	header = KLogPageContent(page);
	header->log_start = log_start;
	header->resolved_to = log_start;
	header->high_watermark = log_start;
	set_content_size(page, sizeof(KLogPartitionHeader));
}

/* Seals the open segment, if there is one, and opens the next. */
void
klog_page_partition_segment(Page page, const KLogSegmentEntry *seal, const KLogSegmentEntry *open,
							int64 high_watermark)
{
	KLogPartitionHeader *header = KLogPageContent(page);

	if (header->nentries > 0)
	{
		KLogSegmentEntry *last = &header->entry[header->nentries - 1];

		*last = *seal;
		last->state = KLOG_SEGMENT_SEALED;
	}
	else
	{
		/* the first segment of all begins where the log does */
		header->log_start = open->first_offset;
		header->resolved_to = open->first_offset;
		header->high_watermark = open->first_offset;
	}
	header->entry[header->nentries] = *open;
	header->entry[header->nentries].state = KLOG_SEGMENT_OPEN;
	header->nentries++;
	header->next_segment = open->segment + 1;
	header->high_watermark = Max(header->high_watermark, high_watermark);
}

void
klog_page_partition_mark(Page page, int64 resolved_to, int64 high_watermark)
{
	KLogPartitionHeader *header = KLogPageContent(page);

	header->resolved_to = Max(header->resolved_to, resolved_to);
	header->high_watermark = Max(header->high_watermark, high_watermark);
}

/* A map page with the entries that leave the partition header. */
void
klog_page_init_map(Page page, int32 partition, uint32 index,
				   const KLogSegmentEntry *entry, uint32 nentries)
{
	KLogMapPage *map;

	klog_page_init(page, KLOG_PAGE_MAP, partition, 0, index);
	map = KLogPageContent(page);
	map->nentries = nentries;
	memcpy(map->entry, entry, sizeof(KLogSegmentEntry) * nentries);
	set_content_size(page, sizeof(KLogMapPage));
}

/*
 * All entries but the last (the open segment) went to a map page.  new_unit: the unit that the
 * map page begins, 0 when it lies in the header's current one.
 */
void
klog_page_partition_moved(Page page, BlockNumber map_block, uint32 new_unit)
{
	KLogPartitionHeader *header = KLogPageContent(page);
	KLogMapRef *ref = &header->map[header->nmaps++];

	ref->first_offset = header->entry[0].first_offset;
	ref->block = map_block;
	ref->nentries = header->nentries - 1;
	if (new_unit != 0)
	{
		header->map_unit = new_unit;
		header->map_unit_used = 0;
	}
	header->map_unit_used++;
	header->entry[0] = header->entry[header->nentries - 1];
	memset(&header->entry[1], 0, sizeof(KLogSegmentEntry) * (header->nentries - 1));
	header->nentries = 1;
}

/* A segment's head page in its first extent, which begins at block. */
void
klog_page_init_head(Page page, int32 partition, uint32 segment, BlockNumber block)
{
	KLogHead   *head;

	klog_page_init(page, KLOG_PAGE_HEAD, partition, segment, 0);
	head = KLogPageContent(page);
	head->extent[0] = block;
	head->nextents = 1;
	set_content_size(page, sizeof(KLogHead));
}

void
klog_page_head_extent(Page page, BlockNumber block)
{
	KLogHead   *head = KLogPageContent(page);

	head->extent[head->nextents++] = block;
}

/*
 * Adds bytes of batches to a data page.  listed: positions of the batches among them that
 * start on this page and belong to xid.
 */
void
klog_page_append(Page page, int32 partition, uint32 segment, TransactionId xid,
				 const KLogPageEdit *edit, const uint16 *listed,
				 const KLogChunk *chunks, int nchunks)
{
	PageHeader	header = (PageHeader) page;
	KLogPageTag *tag;
	char	   *to;

	if (edit->flags & KLOG_EDIT_INIT)
	{
		klog_page_init(page, KLOG_PAGE_DATA, partition, segment, edit->page);
		KLogPageGetTag(page)->base_offset = edit->base_offset;
	}
	tag = KLogPageGetTag(page);
	Assert(header->pd_lower == edit->offset);
	tag->max_timestamp = edit->max_timestamp;
	tag->high_watermark = edit->high_watermark;
	if (tag->first_batch == 0)
		tag->first_batch = edit->first_batch;
	for (int i = 0; i < edit->nlisted; i++)
	{
		KLogListed *entry;

		/* the list keeps file order: a new batch goes behind the others */
		entry = KLogPageListed(page, tag->nlisted);
		memset(entry, 0, sizeof(KLogListed));
		entry->xid = xid;
		memcpy(&entry->pos, (const char *) listed + sizeof(uint16) * i, sizeof(uint16));
		tag->nlisted++;
	}
	header->pd_upper = KLOG_DATA_END - tag->nlisted * sizeof(KLogListed);
	to = (char *) page + edit->offset;
	for (int i = 0; i < nchunks; i++)
	{
		memcpy(to, chunks[i].data, chunks[i].len);
		to += chunks[i].len;
	}
	header->pd_lower = edit->offset + edit->len;
}

int
klog_page_listed_state(Page page, uint16 pos, TransactionId *xid)
{
	KLogPageTag *tag = KLogPageGetTag(page);

	for (int i = 0; i < tag->nlisted; i++)
	{
		KLogListed *entry = KLogPageListed(page, i);

		if (entry->pos == pos)
		{
			*xid = entry->xid;
			return TransactionIdIsValid(entry->xid) ? 1 : -1;
		}
	}
	return 0;
}

static bool
has_position(const uint16 *list, int n, uint16 pos)
{
	for (int i = 0; i < n; i++)
	{
		uint16		value;

		memcpy(&value, (const char *) list + sizeof(uint16) * i, sizeof(uint16));
		if (value == pos)
			return true;
	}
	return false;
}

/* Takes committed batches off the list and marks those of aborted transactions dead. */
void
klog_page_resolve(Page page, const uint16 *committed, int ncommitted, const uint16 *dead, int ndead)
{
	PageHeader	header = (PageHeader) page;
	KLogPageTag *tag = KLogPageGetTag(page);
	int			kept = 0;

	for (int i = 0; i < tag->nlisted; i++)
	{
		KLogListed	entry = *KLogPageListed(page, i);

		if (has_position(committed, ncommitted, entry.pos))
			continue;
		if (has_position(dead, ndead, entry.pos))
			entry.xid = InvalidTransactionId;
		*KLogPageListed(page, kept) = entry;
		kept++;
	}
	/* leave no old bytes in the hole: pages are compared with a standby's */
	for (int i = kept; i < tag->nlisted; i++)
		memset(KLogPageListed(page, i), 0, sizeof(KLogListed));
	tag->nlisted = kept;
	header->pd_upper = KLOG_DATA_END - kept * sizeof(KLogListed);
}
