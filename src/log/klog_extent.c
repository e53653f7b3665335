/*
 * klog_extent.c
 *		Space: the file, its units of 64 kB and the bitmap of those in use.
 *
 * The bitmap page's exclusive lock is what makes an allocation exclusive. A unit is given out only
 * when the file has all of it already: a full disk is met by klog_grow().
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"

#include "log/klog_buffer.h"
#include "log/klog_xlog.h"

/* How much a file grows at once: an eighth of it within these bounds, in units. */
#define GROW_MIN_UNITS		16
#define GROW_MAX_UNITS		256

/* Adds zeroed blocks up to nblocks. The caller has the relation's extension lock. */
static void
extend_to(Relation rel, BlockNumber from, BlockNumber nblocks)
{
	/*
	 * In steps, so that an interrupt is served.  The blocks do not go through shared buffers, as in
	 * vm_extend(): they are initialised by WAL records of their own when they are first used.
	 */
	while (from < nblocks)
	{
		int			n = Min(nblocks - from, 1024);

		smgrzeroextend(RelationGetSmgr(rel), MAIN_FORKNUM, from, n, false);
		from += n;
		CHECK_FOR_INTERRUPTS();
	}
}

bool
klog_grow(Relation rel, bool nowait)
{
	BlockNumber nblocks;
	uint32		units;
	uint32		more;

	if (!nowait)
		LockRelationForExtension(rel, ExclusiveLock);
	else if (!ConditionalLockRelationForExtension(rel, ExclusiveLock))
		return false;
	nblocks = RelationGetNumberOfBlocks(rel);
	units = (nblocks + KLOG_UNIT_BLOCKS - 1) / KLOG_UNIT_BLOCKS;
	more = units / 8;
	more = Min(Max(more, units < 4 ? 4 : GROW_MIN_UNITS),
			   nowait ? GROW_MIN_UNITS : GROW_MAX_UNITS);
	if ((uint64) (units + more) * KLOG_UNIT_BLOCKS >= MaxBlockNumber)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cannot extend topic \"%s\" beyond %u blocks",
						RelationGetRelationName(rel), MaxBlockNumber)));
	extend_to(rel, nblocks, (units + more) * KLOG_UNIT_BLOCKS);
	UnlockRelationForExtension(rel, ExclusiveLock);
	return true;
}

/* Makes sure that the file has so many blocks. */
static void
grow_to(Relation rel, BlockNumber nblocks)
{
	BlockNumber now = RelationGetNumberOfBlocks(rel);

	if (now >= nblocks)
		return;
	LockRelationForExtension(rel, ExclusiveLock);
	now = RelationGetNumberOfBlocks(rel);
	if (now < nblocks)
		extend_to(rel, now, nblocks);
	UnlockRelationForExtension(rel, ExclusiveLock);
}

/*
 * Units of an extent, by how many partitions share the file: 1,000 partitions must not cost a
 * gigabyte when each holds one record.
 */
static uint16
extent_units_for(int32 partitions)
{
	if (partitions <= 16)
		return KLOG_MAX_EXTENT_UNITS;
	return partitions <= 1000 ? 2 : 1;
}

/* Writes the metapage and the first bitmap page of a new file. Does nothing when they are there. */
void
klog_relation_init(Relation rel, int32 partitions)
{
	xl_klog_init xlrec = {.extent_units = extent_units_for(partitions)};
	Buffer		meta;
	Buffer		bitmap;
	XLogRecPtr	lsn;

	grow_to(rel, KLOG_UNIT_BLOCKS);
	meta = klog_buffer_get(rel, KLOG_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, NULL);
	if (!PageIsNew(BufferGetPage(meta)))
	{
		UnlockReleaseBuffer(meta);
		return;
	}
	bitmap = klog_buffer_get(rel, KLOG_FIRST_BITMAP_BLOCK, BUFFER_LOCK_EXCLUSIVE, NULL);

	START_CRIT_SECTION();
	klog_page_init_meta(BufferGetPage(meta), xlrec.extent_units);
	klog_page_init_bitmap(BufferGetPage(bitmap), true);
	MarkBufferDirty(meta);
	MarkBufferDirty(bitmap);
	/* XLOG stuff */
	XLogBeginInsert();
	XLogRegisterData((char *) &xlrec, sizeof(xlrec));
	XLogRegisterBuffer(0, meta, REGBUF_WILL_INIT | REGBUF_STANDARD);
	XLogRegisterBuffer(1, bitmap, REGBUF_WILL_INIT | REGBUF_STANDARD);
	lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_INIT);
	PageSetLSN(BufferGetPage(meta), lsn);
	PageSetLSN(BufferGetPage(bitmap), lsn);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(bitmap);
	UnlockReleaseBuffer(meta);
}

static void
check_bitmap(Relation rel, Buffer buffer, uint32 index)
{
	if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_BITMAP, -1, 0,
					  index == 0 ? KLOG_FIRST_BITMAP_BLOCK : 0))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("block %u of \"%s\" is not a bitmap page", klog_bitmap_block(index),
						RelationGetRelationName(rel))));
}

/*
 * Makes sure that the file has the unit of this block, which a page refers to: after a crash it may
 * be shorter than its extents.  Only what the bitmap knows of makes it longer.
 */
void
klog_grow_to_used(Relation rel, BlockNumber block)
{
	uint32		unit = block / KLOG_UNIT_BLOCKS;
	uint32		index = unit / KLOG_BITMAP_BITS;
	Buffer		buffer;
	bool		used;

	if (block < RelationGetNumberOfBlocks(rel))
		return;
	buffer = klog_buffer_get(rel, klog_bitmap_block(index), BUFFER_LOCK_SHARE, NULL);
	check_bitmap(rel, buffer, index);
	used = klog_page_bitmap_used(BufferGetPage(buffer), unit % KLOG_BITMAP_BITS);
	UnlockReleaseBuffer(buffer);
	if (!used)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a page of \"%s\" refers to block %u, which is not in use",
						RelationGetRelationName(rel), block)));
	grow_to(rel, (unit + 1) * KLOG_UNIT_BLOCKS);
}

/* Initialises a further bitmap page; the caller has it locked. */
static void
init_bitmap(Buffer buffer)
{
	XLogRecPtr	lsn;

	START_CRIT_SECTION();
	klog_page_init_bitmap(BufferGetPage(buffer), false);
	MarkBufferDirty(buffer);
	/* XLOG stuff */
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT | REGBUF_STANDARD);
	lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_BITMAP);
	PageSetLSN(BufferGetPage(buffer), lsn);
	END_CRIT_SECTION();
}

/*
 * Looks for free units: a run of nunits aligned at nunits.  Returns the bitmap page, locked
 * exclusively, in which the caller sets the bits (unit % KLOG_BITMAP_BITS) as part of its own WAL
 * record; InvalidBuffer when the file has no such run, or a bitmap page is cold.  hint: where to
 * begin, moved along.
 */
Buffer
klog_extent_find(Relation rel, uint32 *hint, uint32 nunits, uint32 *unit, KLogPosition *cold)
{
	uint32		units = RelationGetNumberOfBlocks(rel) / KLOG_UNIT_BLOCKS;
	uint32		start = *hint < units ? *hint : 0;

	/* from the hint to the end, then from the beginning */
	for (int round = 0; round < 2; round++)
	{
		uint32		from = round == 0 ? start : 0;

		for (uint32 index = from / KLOG_BITMAP_BITS; index * KLOG_BITMAP_BITS < units; index++)
		{
			uint32		base = index * KLOG_BITMAP_BITS;
			Buffer		buffer = klog_buffer_get(rel, klog_bitmap_block(index),
												 BUFFER_LOCK_EXCLUSIVE, cold);
			int			bit;

			if (!BufferIsValid(buffer))
				return InvalidBuffer;
			if (PageIsNew(BufferGetPage(buffer)) && index > 0)
				init_bitmap(buffer);
			check_bitmap(rel, buffer, index);
			bit = klog_page_bitmap_find(BufferGetPage(buffer), from > base ? from - base : 0,
										Min(units - base, KLOG_BITMAP_BITS), nunits);
			if (bit >= 0)
			{
				*unit = base + bit;
				*hint = *unit + nunits;
				return buffer;
			}
			UnlockReleaseBuffer(buffer);
		}
		if (start == 0)
			break;
	}
	return InvalidBuffer;
}

/* Free units in the file. */
uint32
klog_extent_free(Relation rel)
{
	uint32		units = RelationGetNumberOfBlocks(rel) / KLOG_UNIT_BLOCKS;
	uint32		nfree = 0;

	for (uint32 index = 0; index * KLOG_BITMAP_BITS < units; index++)
	{
		Buffer		buffer = klog_buffer_get(rel, klog_bitmap_block(index), BUFFER_LOCK_SHARE,
												 NULL);
		uint32		n = Min(units - index * KLOG_BITMAP_BITS, KLOG_BITMAP_BITS);

		if (!PageIsNew(BufferGetPage(buffer)))
			check_bitmap(rel, buffer, index);
		nfree += PageIsNew(BufferGetPage(buffer)) ? n :
			klog_page_bitmap_free(BufferGetPage(buffer), n);
		UnlockReleaseBuffer(buffer);
	}
	return nfree;
}
