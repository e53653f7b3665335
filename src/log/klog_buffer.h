/*
 * klog_buffer.h
 *		Getting pages of the log by what they are.  For src/log only.
 */
#ifndef KLOG_BUFFER_H
#define KLOG_BUFFER_H

#include "log/klog_state.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "utils/rel.h"

/* A copy of what a walk over segments needs of a segment map entry. */
typedef struct KLogSegment
{
	KLogSegmentEntry entry;
	uint16		extent_units;
	/* extents, cached a stretch at a time */
	uint32		extent_from;
	uint32		extent_count;
	BlockNumber extent[64];
	uint32		nextents;
} KLogSegment;

/*
 * In all that follows, cold: as in klog.h.  NULL: pages may be read from disk.  Else a page that is
 * not in shared buffers becomes *cold, and the result says KLOG_COLD, or is that of failure: then
 * klog_is_cold() tells.
 */
static inline bool
klog_is_cold(const KLogPosition *cold)
{
	return cold != NULL && cold->page != 0;
}

/* klog_buffer.c: pins and locks; mode as LockBuffer's */
extern Buffer klog_buffer_get(Relation rel, BlockNumber block, int mode, KLogPosition *cold);
extern Buffer klog_buffer_get_data(Relation rel, BlockNumber block, const KLogSegment *seg,
								   uint32 page, KLogPosition *cold);
extern Buffer klog_buffer_find(Relation rel, BlockNumber block);
extern Buffer klog_buffer_pin_hot(Relation rel, BlockNumber block);
extern bool klog_buffer_is_hot(Relation rel, BlockNumber block, KLogPosition *cold);
extern void klog_buffer_note(Relation rel, BlockNumber block, Buffer buffer);
extern Size klog_buffer_shmem_size(void);
extern void klog_buffer_shmem_init(void);
extern bool klog_meta_read(Relation rel, KLogMeta *copy, KLogPosition *cold);
extern Buffer klog_partition_header(Relation rel, int32 partition, int mode, KLogPosition *cold);

/*
 * klog_file.c: one of a relation's files, that which has the block; flags as open()'s.  False: it
 * cannot be opened, see errno.  An ERROR does not close it: who keeps one in a static variable
 * closes it before and after use.
 */
typedef struct KLogFile
{
	File		file;			/* -1: not open */
	uint32		segno;			/* which of the relation's files that is */
} KLogFile;

#define KLOG_NO_FILE	{.file = -1}

extern bool klog_file_open(KLogFile *file, Relation rel, BlockNumber block, int flags);
extern void klog_file_close(KLogFile *file);
extern char *klog_file_path(Relation rel, BlockNumber block);

/* Is the page cache to keep nothing of what is written or read?  See kafka_pg.drop_behind. */
extern bool klog_file_drops_behind(void);
/* Does a call fail with that error because RWF_DONTCACHE is unknown (here)? */
extern bool klog_file_cannot_drop(int error);

/* Since Linux 6.14; headers may be older. */
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE	0x00000080
#endif

/* klog_readin.c: in reader processes only, after attach (as reader n) */
extern Size klog_readin_shmem_size(void);
extern void klog_readin_shmem_init(void);
extern void klog_readin_attach(int n);
/*
 * Brings pages of a segment into shared buffers, from page to at most last.  final: pages before it
 * have had all their bytes appended, so that only RESOLVE may change them.  *reading is at any time
 * the page that is being read.  ERROR: it cannot be read.
 */
extern void klog_readin(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 page,
						uint32 last, uint32 final, uint32 *reading);

/* klog_segment.c */
/*
 * The four that look in the map: KLOG_OUT_OF_RANGE: there is no such segment.  KLOG_CORRUPT: a page
 * is not what the one before it said.
 *
 * Segment that covers offset (the first one when offset is below it, the last one when beyond).
 */
extern KLogResult klog_segment_for_offset(Relation rel, KLogPartition *part, int64 offset,
										  KLogSegment *seg, KLogPosition *cold);
/*
 * First segment, from the oldest on, whose greatest-so-far timestamp is >= timestamp; the open one
 * if no sealed one has.
 */
extern KLogResult klog_segment_for_timestamp(Relation rel, KLogPartition *part, int64 timestamp,
											 KLogSegment *seg, KLogPosition *cold);
extern KLogResult klog_segment_by_number(Relation rel, KLogPartition *part, uint32 segment,
										 KLogSegment *seg, KLogPosition *cold);
extern KLogResult klog_segment_next(Relation rel, KLogPartition *part, KLogSegment *seg,
									KLogPosition *cold);
extern BlockNumber klog_segment_block(Relation rel, KLogPartition *part, KLogSegment *seg,
									  uint32 page, KLogPosition *cold);
extern bool klog_segment_knows(const KLogSegment *seg, uint32 pageno);
/*
 * Last page of 1..last whose base offset is <= offset (page 1 when there is none): the batch that
 * holds offset starts on it or before.  KLOG_CORRUPT: a page is not the segment's (any more).
 */
extern KLogResult klog_segment_find_page(Relation rel, KLogPartition *part, KLogSegment *seg,
										 int64 offset, uint32 last, KLogPosition *cold,
										 uint32 *page);
/* Timestamp of the segment's first batch, -1: it has none. */
extern int64 klog_segment_first_timestamp(Relation rel, KLogPartition *part, KLogSegment *seg,
										  uint32 last);
extern int64 klog_segment_sealed_bytes(Relation rel, KLogPartition *part,
									   const KLogPartitionHeader *header, KLogPosition *cold);
extern KLogResult klog_segment_open(Relation rel, KLogPartition *part, int32 partitions,
									int64 first_offset, KLogPosition *cold);
extern KLogResult klog_segment_extend(Relation rel, KLogPartition *part, KLogPosition *cold);

/* klog_find.c */
typedef struct KLogWalkPage
{
	Buffer		buffer;			/* share-locked; the callback may lock it again otherwise */
	BlockNumber block;
	uint32		segment;
	uint32		page;
} KLogWalkPage;

/* false: stop here */
typedef bool (*klog_page_callback) (void *arg, const KLogWalkPage *at);

typedef struct KLogEnd
{
	uint32		segment;
	uint32		page;			/* 0: the partition has no data */
	int64		next_offset;
} KLogEnd;

extern KLogEnd klog_end(KLogPartition *part);
/*
 * Last page with data of a segment, 0 when it has none or lies behind the end, which must have been
 * looked at before the segment.
 */
extern uint32 klog_segment_last(const KLogSegment *seg, const KLogEnd *end);
/*
 * All data pages from the one on which the batch that holds offset (or the first one after it)
 * starts, to the end. False: a page was not there.
 */
extern bool klog_walk_pages(Relation rel, KLogPartition *part, const KLogEnd *end, int64 from,
							klog_page_callback cb, void *arg);
/*
 * Where that batch starts.  KLOG_OUT_OF_RANGE: there is none. KLOG_CORRUPT: a page was not there.
 */
extern KLogResult klog_locate(Relation rel, KLogPartition *part, const KLogEnd *end, int64 offset,
							  KLogPosition *cold, KLogSegment *seg, KLogPosition *position);

/* klog_read.c */
/*
 * Must readers take the batch at pos of a page below the high watermark as if its transaction had
 * never been?
 */
extern bool klog_batch_is_dead(Page page, uint16 pos);

/* klog_checksum.c */
extern void klog_checksum_page(Page page, BlockNumber block);
/* May a page that was just read go into shared buffers?  False: let the server decide. */
extern bool klog_checksum_is_right(Page page, BlockNumber block);
/* klog_writeout.c */
extern bool klog_writeout(Relation rel, KLogPartition *part);

/* klog_extent.c */
extern void klog_relation_init(Relation rel, int32 partitions);
extern Buffer klog_extent_find(Relation rel, uint32 *hint, uint32 nunits, uint32 *unit,
							   KLogPosition *cold);
extern uint32 klog_extent_free(Relation rel);
extern void klog_grow_to_used(Relation rel, BlockNumber block);

#endif							/* KLOG_BUFFER_H */
