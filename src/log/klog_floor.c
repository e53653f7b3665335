/*
 * klog_floor.c
 *		Floors: offsets that were given out, although nothing on the pages says so.
 *
 * A dump has the records that can be read.  What follows the last of them, dead batches or records
 * that are gone, it leaves out, and the restored partition would give these offsets once more to
 * clients who have seen them.  So others (src/topic) keep the greatest offset of such a partition,
 * and here it becomes the least one that is given out.
 *
 * Between what is on pages and the floor there is a gap: readers see it as a dead batch, appends
 * begin behind it, and only those that have offsets of their own, those of a restore, may still
 * fill it.  The watermark that RESOLVE and the pages' marks use is that of the pages.
 */
#include "postgres.h"

#include "access/transam.h"
#include "batch/kbatch.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "kafka_pg.h"
#include "log/klog_buffer.h"

static klog_floor_callback build_callback = NULL;
static klog_dead_end_callback dead_end_callback = NULL;

void
klog_on_build(klog_floor_callback cb)
{
	Assert(build_callback == NULL);
	build_callback = cb;
}

void
klog_on_dead_end(klog_dead_end_callback cb)
{
	Assert(dead_end_callback == NULL);
	dead_end_callback = cb;
}

static void
raise_floor(KLogPartition *part, int64 log_start, int64 next_offset)
{
	SpinLockAcquire(&part->mutex);
	part->floor_start = Max(part->floor_start, log_start);
	if (next_offset > (int64) pg_atomic_read_u64(&part->floor_next))
		pg_atomic_write_u64(&part->floor_next, next_offset);
	SpinLockRelease(&part->mutex);
}

/* Learns the floors of a partition whose state is to be built.  False: with nowait, not now. */
bool
klog_floor_ask(Relation rel, KLogPartition *part, bool nowait)
{
	int64		log_start = 0;
	int64		next_offset = 0;

	if (build_callback == NULL)
		return true;
	if (!build_callback(rel, part->partition, nowait, &log_start, &next_offset))
		return false;
	raise_floor(part, log_start, next_offset);
	if (RecoveryInProgress())
		part->floor_asked = GetCurrentTimestamp();
	return true;
}

void
klog_raise_floor(Oid relid, int32 partition, int64 log_start, int64 next_offset)
{
	KLogPartition *part;

	/* Not ours but another database's relation, with the same OID. */
	if (!kafka_pg_in_database())
		return;
	part = klog_lookup(relid, partition);
	if (part != NULL)
		raise_floor(part, log_start, next_offset);
}

/*
 * Something was appended, from first_offset up to next_offset.  Under the mutex, before the state
 * says so.
 */
void
klog_floor_appended(KLogPartition *part, int64 first_offset, int64 next_offset)
{
	int64		floor = (int64) pg_atomic_read_u64(&part->floor_next);

	if (part->next_offset >= floor || next_offset <= floor)
		return;
	if (first_offset >= floor)
		part->gap_from = part->next_offset;
	else
		pg_atomic_write_u64(&part->floor_next, 0);	/* a restore went across it: no gap is left */
}

/*
 * Is there nothing on pages from offset up to the floor, *end?  What is on pages below offset need
 * not be durable.
 */
bool
klog_in_gap(KLogPartition *part, int64 offset, int64 *end)
{
	int64		from;

	SpinLockAcquire(&part->mutex);
	from = part->gap_from >= 0 ? part->gap_from : part->next_offset;
	*end = (int64) pg_atomic_read_u64(&part->floor_next);
	SpinLockRelease(&part->mutex);
	return offset >= from && offset < *end;
}

/* Does a batch that nobody sees, or a gap, end at the watermark? */
static bool
ends_dead(Relation rel, KLogPartition *part, int64 watermark)
{
	KLogEnd		end = klog_end(part);
	KLogSegment seg;
	KLogPosition at;
	BlockNumber block;
	Buffer		buffer;
	Page		page;
	KBatchHeader header;
	TransactionId xid;
	KLogResult	result;
	bool		dead = false;

	if (watermark <= klog_log_start(part))
		return false;
	result = klog_locate(rel, part, &end, watermark - 1, NULL, &seg, &at);
	if (result != KLOG_OK)
		return result == KLOG_OUT_OF_RANGE;
	block = klog_segment_block(rel, part, &seg, at.page, NULL);
	if (block == InvalidBlockNumber)
		return false;
	buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE, NULL);
	page = BufferGetPage(buffer);
	if (klog_page_is(page, KLOG_PAGE_DATA, part->partition, seg.entry.segment, at.page) &&
		kbatch_header_read((uint8 *) page + at.pos, KLOG_BATCH_HEADER, &header) == KBATCH_OK &&
		kbatch_next_offset(&header) == watermark)
	{
		int			state = klog_page_listed_state(page, at.pos, &xid);

		dead = state < 0 || (state > 0 && !TransactionIdDidCommit(xid));
	}
	UnlockReleaseBuffer(buffer);
	return dead;
}

/*
 * The keeper's: if there is reason to believe that a partition ends in a dead batch, looks, and
 * tells.  The first time after a start, too: RESOLVE may have been the last thing that was written
 * before a crash.  False: it could not be told, try again.
 */
bool
klog_floor_tell(Relation rel, KLogPartition *part)
{
	int64		watermark = klog_watermark(part);
	bool		check;

	SpinLockAcquire(&part->mutex);
	check = part->check_end > 0;
	SpinLockRelease(&part->mutex);
	if (!check || dead_end_callback == NULL)
		return true;
	if (ends_dead(rel, part, watermark) &&
		!dead_end_callback(rel, part->partition, klog_log_start(part), watermark))
		return false;
	SpinLockAcquire(&part->mutex);
	if (part->check_end <= watermark)
		part->check_end = 0;
	SpinLockRelease(&part->mutex);
	return true;
}
