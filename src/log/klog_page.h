/*
 * klog_page.h
 *		The bytes of the log's pages, and the edits that change them.
 *
 * Every on-disk structure is in this header, every change of a page's bytes in klog_page.c: the
 * code that does a change and the code that replays it call the same function.
 */
#ifndef KLOG_PAGE_H
#define KLOG_PAGE_H

#include "access/transam.h"
#include "storage/block.h"
#include "storage/bufpage.h"

#define KLOG_LAYOUT_VERSION		1
#define KLOG_PAGE_MAGIC			0x4B4C

/* A unit of space is 64 kB; the bitmap has a bit for each. */
#define KLOG_UNIT_BLOCKS		8
/* Extents are 1, 2 or 16 units: 64 kB, 128 kB or 1 MB. */
#define KLOG_MAX_EXTENT_UNITS	16

/*
 * Fixed places: unit 0 holds the metapage, the first bitmap page and the headers of partitions 0
 * to 5.
 */
#define KLOG_META_BLOCK			0
#define KLOG_FIRST_BITMAP_BLOCK 1
#define KLOG_FIRST_PARTITION_BLOCK 2
#define KLOG_INLINE_PARTITIONS	6

#define KLOG_BITMAP_BITS		64000	/* 4 GB of file for one bitmap page; a multiple of 16 */
#define KLOG_PARTITION_UNITS	1250
#define KLOG_MAX_PARTITIONS		(KLOG_INLINE_PARTITIONS + KLOG_PARTITION_UNITS * KLOG_UNIT_BLOCKS)
#define KLOG_HEADER_ENTRIES		60		/* segments listed in the partition header */
#define KLOG_HEADER_MAPS		250		/* map pages listed there */
#define KLOG_MAP_ENTRIES		160		/* segments listed in a map page */
#define KLOG_HEAD_EXTENTS		1900	/* extents of a segment */

typedef enum KLogPageKind
{
	KLOG_PAGE_META = 1,
	KLOG_PAGE_BITMAP,
	KLOG_PAGE_PARTITION,
	KLOG_PAGE_MAP,
	KLOG_PAGE_HEAD,
	KLOG_PAGE_DATA
} KLogPageKind;

/* The special space of every page: says whose page it is. */
typedef struct KLogPageTag
{
	uint16		magic;
	uint8		layout;
	uint8		kind;
	int32		partition;		/* -1 on pages of the whole relation */
	uint32		segment;		/* number in the partition, never used twice */
	uint32		page;			/* number in the segment; the head page is 0 */
	int64		base_offset;	/* data: of the batch that covers the page's first byte */
	int64		max_timestamp;	/* data: greatest of all batches that start in this segment up
								 * to the end of this page */
	/* data: of the partition, when something was last added here: all below it was durable */
	int64		high_watermark;
	uint16		first_batch;	/* data: position of the first batch that starts here, 0: none */
	uint16		nlisted;		/* data: entries of the list */
	uint32		reserved;
} KLogPageTag;

#define KLOG_TAG_SIZE			MAXALIGN(sizeof(KLogPageTag))
#define KLOG_DATA_START			SizeOfPageHeaderData
#define KLOG_DATA_END			(BLCKSZ - KLOG_TAG_SIZE)
#define KLOG_DATA_SPACE			(KLOG_DATA_END - KLOG_DATA_START)
#define KLOG_BATCH_HEADER		61		/* lies whole on one page */

#define KLogPageGetTag(page)	((KLogPageTag *) PageGetSpecialPointer(page))

/*
 * The list of a data page: batches that start on it and belong to a transaction whose end is not
 * known yet (xid valid), or was an abort (xid invalid: dead).  It grows down from the special
 * space; entry i is KLogPageListed(page, i), in file order.
 */
typedef struct KLogListed
{
	TransactionId xid;
	uint16		pos;			/* where the batch's header is on this page */
	uint16		reserved;
} KLogListed;

#define KLogPageListed(page, i) \
	((KLogListed *) (PageGetSpecialPointer(page) - sizeof(KLogListed) * ((i) + 1)))

typedef struct KLogMeta
{
	uint32		magic;
	uint32		layout;
	uint16		extent_units;
	uint16		reserved;
	int32		npartitions;	/* 1 + greatest partition that has a header */
	uint32		partition_unit[KLOG_PARTITION_UNITS];	/* unit with 8 headers, 0: none */
} KLogMeta;

#define KLOG_META_MAGIC			0x4B4C4F47	/* "KLOG" */

typedef struct KLogSegmentEntry
{
	int64		first_offset;
	/* greatest of the partition up to this segment's end; set when it is sealed */
	int64		max_timestamp;
	int64		bytes;			/* of batches; set when it is sealed */
	uint32		segment;
	BlockNumber head;
	uint32		npages;			/* pages in use; set when it is sealed */
	uint32		state;			/* KLOG_SEGMENT_* */
} KLogSegmentEntry;

#define KLOG_SEGMENT_OPEN		0
#define KLOG_SEGMENT_SEALED		1

typedef struct KLogMapRef
{
	int64		first_offset;	/* of the map page's first segment */
	BlockNumber block;
	uint32		nentries;
} KLogMapRef;

/* A partition's header page.  Older segments move to map pages when the entries here are full. */
typedef struct KLogPartitionHeader
{
	int64		log_start;
	int64		resolved_to;	/* no unresolved batch starts below this offset */
	int64		high_watermark; /* as the tag's, for times without appends */
	uint32		next_segment;
	uint32		map_unit;		/* unit that new map pages come from, 0: none */
	uint16		map_unit_used;
	uint16		nentries;
	uint16		nmaps;
	uint16		reserved2;
	KLogSegmentEntry entry[KLOG_HEADER_ENTRIES];
	KLogMapRef	map[KLOG_HEADER_MAPS];
} KLogPartitionHeader;

typedef struct KLogMapPage
{
	uint32		nentries;
	uint32		reserved;
	KLogSegmentEntry entry[KLOG_MAP_ENTRIES];
} KLogMapPage;

/*
 * A segment's head page: where its extents begin.  Extent 0 is one unit (this page is its first),
 * the others are of the relation's size.
 */
typedef struct KLogHead
{
	uint32		nextents;
	uint32		reserved;
	BlockNumber extent[KLOG_HEAD_EXTENTS];
} KLogHead;

StaticAssertDecl(sizeof(KLogMeta) <= KLOG_DATA_SPACE, "metapage does not fit");
StaticAssertDecl(sizeof(KLogPartitionHeader) <= KLOG_DATA_SPACE, "partition header does not fit");
StaticAssertDecl(sizeof(KLogMapPage) <= KLOG_DATA_SPACE, "map page does not fit");
StaticAssertDecl(sizeof(KLogHead) <= KLOG_DATA_SPACE, "head page does not fit");
StaticAssertDecl(KLOG_BITMAP_BITS / 8 <= KLOG_DATA_SPACE, "bitmap page does not fit");

#define KLogPageContent(page)	((void *) PageGetContents(page))

/* ------------------------------------------------------------------------
 * Edits.  Callers hold the page's exclusive lock and, when they do rather than
 * redo, are in a critical section; nothing here allocates or throws.
 * ------------------------------------------------------------------------
 */

/*
 * One data page's part of an append; also the block's data in the WAL record, followed by nlisted
 * positions (uint16) and len bytes.
 */
typedef struct KLogPageEdit
{
	int64		base_offset;	/* tag of a page that is initialised */
	int64		max_timestamp;	/* tag's new value */
	int64		high_watermark; /* tag's new value */
	uint32		page;
	uint16		offset;			/* pd_lower before */
	uint16		len;			/* bytes added; 0: the page is only initialised */
	uint16		first_batch;	/* first batch start among the bytes added, 0: none */
	uint16		nlisted;
	uint16		flags;
	uint16		reserved;
} KLogPageEdit;

#define KLOG_EDIT_INIT			0x0001

typedef struct KLogChunk
{
	const uint8 *data;
	uint32		len;
} KLogChunk;

extern void klog_page_init(Page page, KLogPageKind kind, int32 partition, uint32 segment,
						   uint32 pageno);
extern void klog_page_init_meta(Page page, uint16 extent_units);
extern void klog_page_init_bitmap(Page page, bool first);
extern void klog_page_bitmap_set(Page page, uint32 bit, uint32 nbits);
extern void klog_page_meta_partition(Page page, int32 partition, uint32 unit);
extern void klog_page_init_partition(Page page, int32 partition, int64 log_start);
extern void klog_page_partition_segment(Page page, const KLogSegmentEntry *seal,
										const KLogSegmentEntry *open, int64 high_watermark);
extern void klog_page_partition_mark(Page page, int64 resolved_to, int64 high_watermark);
extern void klog_page_init_map(Page page, int32 partition, uint32 index,
							   const KLogSegmentEntry *entry, uint32 nentries);
extern void klog_page_partition_moved(Page page, BlockNumber map_block, uint32 new_unit);
extern void klog_page_init_head(Page page, int32 partition, uint32 segment, BlockNumber block);
extern void klog_page_head_extent(Page page, BlockNumber block);
extern void klog_page_append(Page page, int32 partition, uint32 segment, TransactionId xid,
							 const KLogPageEdit *edit, const uint16 *listed,
							 const KLogChunk *chunks, int nchunks);
extern void klog_page_resolve(Page page, const uint16 *committed, int ncommitted,
							  const uint16 *dead, int ndead);

/* ------------------------------------------------------------------------
 * Looks.  Callers hold at least a share lock.
 * ------------------------------------------------------------------------
 */
/* Is it a page of the log, and of that kind?  Then its lists do not reach beyond it. */
extern bool klog_page_is_kind(Page page, KLogPageKind kind);
extern bool klog_page_is(Page page, KLogPageKind kind, int32 partition, uint32 segment,
						 uint32 pageno);
extern BlockNumber klog_page_partition_block(const KLogMeta *meta, int32 partition);
/* First free run of nbits, aligned at nbits, in [from, to); -1: none */
extern int	klog_page_bitmap_find(Page page, uint32 from, uint32 to, uint32 nbits);
extern bool klog_page_bitmap_used(Page page, uint32 bit);
extern uint32 klog_page_bitmap_free(Page page, uint32 to);
/* State of the batch at pos: 0 not listed, else -1 dead, or 1 with its xid */
extern int	klog_page_listed_state(Page page, uint16 pos, TransactionId *xid);

static inline BlockNumber
klog_bitmap_block(uint32 index)
{
	return index == 0 ? KLOG_FIRST_BITMAP_BLOCK :
		(BlockNumber) index * KLOG_BITMAP_BITS * KLOG_UNIT_BLOCKS;
}

/* Which extent a segment's page lies in, and where in it. */
static inline void
klog_segment_locate(uint32 pageno, uint16 extent_units, uint32 *extent, uint32 *inside)
{
	if (pageno < KLOG_UNIT_BLOCKS)
	{
		*extent = 0;
		*inside = pageno;
	}
	else
	{
		uint32		size = (uint32) extent_units * KLOG_UNIT_BLOCKS;

		*extent = 1 + (pageno - KLOG_UNIT_BLOCKS) / size;
		*inside = (pageno - KLOG_UNIT_BLOCKS) % size;
	}
}

/* Pages that a segment with so many extents has. */
static inline uint32
klog_segment_pages(uint32 nextents, uint16 extent_units)
{
	if (nextents == 0)
		return 0;
	return KLOG_UNIT_BLOCKS + (nextents - 1) * (uint32) extent_units * KLOG_UNIT_BLOCKS;
}

#endif							/* KLOG_PAGE_H */
