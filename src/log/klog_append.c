/*
 * klog_append.c
 *		Adding batches to the end of a partition.
 *
 * First a plan says which bytes go to which page; then the pages are made to exist, pinned and
 * locked; then, in a critical section, the plan is carried out and logged as one WAL record. A
 * batch that needs more pages than a record has is written back to front: its later pages first,
 * in records of their own, and last the record with its beginning, which alone makes it exist.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "batch/kbatch.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "kstop.h"
#include "log/klog_buffer.h"
#include "log/klog_xlog.h"

#define PLAN_PAGES		32
#define PLAN_CHUNKS		512
#define PLAN_LISTED		512

/* What happens to one page. */
typedef struct PagePlan
{
	KLogPageEdit edit;
	BlockNumber block;
	int			first_chunk;
	int			nchunks;
	int			first_listed;
} PagePlan;

typedef struct Plan
{
	int			npages;
	int			nchunks;
	int			nlisted;
	PagePlan	page[PLAN_PAGES];
	KLogChunk	chunk[PLAN_CHUNKS];
	uint16		listed[PLAN_LISTED];
	Buffer		buffer[PLAN_PAGES];
} Plan;

/* Where writing goes on. */
typedef struct Cursor
{
	uint32		page;			/* 0: no page yet */
	uint16		lower;			/* its pd_lower */
	uint16		listed;			/* its nlisted */
} Cursor;

static Plan *plan = NULL;
static int64 plan_watermark;	/* goes onto the pages */

static inline uint16
data_end(uint16 listed)
{
	return KLOG_DATA_END - listed * sizeof(KLogListed);
}

static void
plan_reset(void)
{
	if (plan == NULL)
	{
		plan = MemoryContextAlloc(TopMemoryContext, sizeof(Plan));
		plan->npages = 0;
	}
	plan->npages = 0;
	plan->nchunks = 0;
	plan->nlisted = 0;
}

/* Starts the plan for a page; a page with lower 0 is new. */
static PagePlan *
plan_page(uint32 page, uint16 lower, int64 base_offset, int64 max_timestamp)
{
	PagePlan   *p = &plan->page[plan->npages++];

	memset(p, 0, sizeof(PagePlan));
	p->edit.page = page;
	p->edit.base_offset = base_offset;
	p->edit.max_timestamp = max_timestamp;
	p->edit.high_watermark = plan_watermark;
	p->edit.offset = lower ? lower : KLOG_DATA_START;
	p->edit.flags = lower ? 0 : KLOG_EDIT_INIT;
	p->first_chunk = plan->nchunks;
	p->first_listed = plan->nlisted;
	return p;
}

/*
 * Pages that a batch of len bytes needs beyond the cursor's page; *fits: it can start on that page.
 */
static uint32
pages_beyond(const Cursor *at, uint32 len, bool list, bool *fits)
{
	uint16		listed = at->listed + (list ? 1 : 0);
	uint32		room;

	*fits = at->page != 0 && at->lower + KLOG_BATCH_HEADER <= data_end(listed);
	if (*fits)
	{
		room = data_end(listed) - at->lower;
		if (len <= room)
			return 0;
		len -= room;
		return (len + KLOG_DATA_SPACE - 1) / KLOG_DATA_SPACE;
	}
	room = data_end(list ? 1 : 0) - KLOG_DATA_START;
	if (len <= room)
		return 1;
	len -= room;
	return 1 + (len + KLOG_DATA_SPACE - 1) / KLOG_DATA_SPACE;
}

/*
 * Plans a batch from the cursor on: the part of it that lies on its first max_pages pages
 * (counting the cursor's).  Returns the number of bytes planned and moves the cursor.
 */
static uint32
plan_batch(Cursor *at, const KLogBatch *batch, bool list, int64 max_timestamp, int max_pages)
{
	uint32		done = 0;
	bool		fits;
	PagePlan   *p;

	pages_beyond(at, batch->len, list, &fits);
	if (!fits)
	{
		at->page++;
		at->lower = 0;
		at->listed = 0;
	}
	/* go on with the page that the batch before ended on */
	if (plan->npages > 0 && plan->page[plan->npages - 1].edit.page == at->page)
	{
		p = &plan->page[plan->npages - 1];
		p->edit.max_timestamp = max_timestamp;
	}
	else
		p = plan_page(at->page, at->lower, batch->base_offset, max_timestamp);
	if (at->lower == 0)
		at->lower = KLOG_DATA_START;
	if (p->edit.first_batch == 0)
		p->edit.first_batch = at->lower;
	if (list)
	{
		plan->listed[plan->nlisted++] = at->lower;
		p->edit.nlisted++;
		at->listed++;
	}
	for (;;)
	{
		uint32		n = Min(batch->len - done, (uint32) (data_end(at->listed) - at->lower));

		plan->chunk[plan->nchunks].data = batch->data + done;
		plan->chunk[plan->nchunks].len = n;
		plan->nchunks++;
		p->nchunks++;
		p->edit.len += n;
		at->lower += n;
		done += n;
		if (done == batch->len || plan->npages == max_pages)
			return done;
		at->page++;
		at->lower = KLOG_DATA_START;
		at->listed = 0;
		p = plan_page(at->page, 0, batch->base_offset, max_timestamp);
	}
}

/* Finds the planned pages' blocks. */
static void
locate_pages(Relation rel, KLogPartition *part, KLogSegment *seg)
{
	for (int i = 0; i < plan->npages; i++)
	{
		PagePlan   *p = &plan->page[i];

		if (p->edit.page == part->tail_page && part->tail_block != InvalidBlockNumber)
			p->block = part->tail_block;
		else
			p->block = klog_segment_block(rel, part, seg, p->edit.page, NULL);
		if (p->block == InvalidBlockNumber)
			elog(ERROR, "segment %u of partition %d of \"%s\" has no page %u",
				 part->segment, part->partition, RelationGetRelationName(rel), p->edit.page);
		/* a damaged head page might name an extent twice: we would wait for our own lock */
		for (int j = 0; j < i; j++)
		{
			if (unlikely(plan->page[j].block == p->block))
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("segment %u of partition %d of \"%s\" has block %u twice",
								part->segment, part->partition,
								RelationGetRelationName(rel), p->block)));
		}
	}
}

/* Pins and locks the planned pages, in file order of the segment. */
static void
lock_pages(Relation rel, KLogPartition *part)
{
	for (int i = 0; i < plan->npages; i++)
	{
		PagePlan   *p = &plan->page[i];
		Page		page;

		if (p->edit.flags & KLOG_EDIT_INIT)
		{
			plan->buffer[i] = ReadBufferExtended(rel, MAIN_FORKNUM, p->block,
												 RBM_ZERO_AND_LOCK, NULL);
			klog_buffer_note(rel, p->block, plan->buffer[i]);
			continue;
		}
		plan->buffer[i] = klog_buffer_pin_hot(rel, p->block);
		if (!BufferIsValid(plan->buffer[i]))
			plan->buffer[i] = ReadBuffer(rel, p->block);
		LockBuffer(plan->buffer[i], BUFFER_LOCK_EXCLUSIVE);
		page = BufferGetPage(plan->buffer[i]);
		if (!klog_page_is(page, KLOG_PAGE_DATA, part->partition, part->segment, p->edit.page) ||
			((PageHeader) page)->pd_lower != p->edit.offset)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the end of partition %d of \"%s\" is not where it was left",
							part->partition, RelationGetRelationName(rel)),
					 errdetail("Block %u, segment %u, page %u.", p->block, part->segment,
							   p->edit.page)));
	}
}

/* Carries the plan out and logs it.  Returns the record's end. */
static XLogRecPtr
carry_out(KLogPartition *part, xl_klog_append *xlrec)
{
	XLogRecPtr	lsn;

	START_CRIT_SECTION();
	for (int i = 0; i < plan->npages; i++)
	{
		PagePlan   *p = &plan->page[i];

		klog_page_append(BufferGetPage(plan->buffer[i]), part->partition, part->segment,
						 xlrec->xid, &p->edit, &plan->listed[p->first_listed],
						 &plan->chunk[p->first_chunk], p->nchunks);
		MarkBufferDirty(plan->buffer[i]);
	}
	/* XLOG stuff */
	XLogBeginInsert();
	XLogRegisterData((char *) xlrec, sizeof(xl_klog_append));
	for (int i = 0; i < plan->npages; i++)
	{
		PagePlan   *p = &plan->page[i];

		XLogRegisterBuffer(i, plan->buffer[i],
						   (p->edit.flags & KLOG_EDIT_INIT ? REGBUF_WILL_INIT : 0) |
						   REGBUF_STANDARD);
		XLogRegisterBufData(i, (char *) &p->edit, sizeof(KLogPageEdit));
		if (p->edit.nlisted > 0)
			XLogRegisterBufData(i, (char *) &plan->listed[p->first_listed],
								sizeof(uint16) * p->edit.nlisted);
		for (int j = 0; j < p->nchunks; j++)
			XLogRegisterBufData(i, (char *) plan->chunk[p->first_chunk + j].data,
								plan->chunk[p->first_chunk + j].len);
	}
	lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_APPEND);
	for (int i = 0; i < plan->npages; i++)
		PageSetLSN(BufferGetPage(plan->buffer[i]), lsn);
	END_CRIT_SECTION();
	return lsn;
}

static void
unlock_pages(void)
{
	for (int i = 0; i < plan->npages; i++)
		UnlockReleaseBuffer(plan->buffer[i]);
}

/* Does Kafka's rule say that another segment begins with this batch? */
static bool
must_roll(const KLogPartition *part, const KLogAppend *how, const KLogBatch *batch)
{
	if (part->segment_bytes == 0)
		return false;
	if (part->segment_bytes + batch->len > how->segment_bytes)
		return true;
	return how->segment_ms > 0 && part->segment_first_timestamp >= 0 &&
		batch->max_timestamp >= 0 &&
		batch->max_timestamp - part->segment_first_timestamp > how->segment_ms;
}

/* Makes the open segment long enough for its page number 'last'. */
static KLogResult
ensure_pages(Relation rel, KLogPartition *part, uint32 last, KLogPosition *cold)
{
	while (part->npages <= last)
	{
		KLogResult	result = klog_segment_extend(rel, part, cold);

		if (result != KLOG_OK)
			return result;
	}
	return KLOG_OK;
}

/*
 * Writes the bytes of a long batch that lie behind its first PLAN_PAGES pages, and returns the
 * cursor behind them.
 */
static void
write_continuation(Relation rel, KLogPartition *part, KLogSegment *seg, const KLogBatch *batch,
				   uint32 from, int64 max_timestamp, Cursor *at)
{
	xl_klog_append xlrec = {0};

	xlrec.first_offset = batch->base_offset;
	xlrec.next_offset = batch->base_offset;
	xlrec.partition = part->partition;
	xlrec.segment = part->segment;
	while (from < batch->len)
	{
		plan_reset();
		while (from < batch->len && plan->npages < PLAN_PAGES)
		{
			PagePlan   *p;
			uint32		n = Min(batch->len - from, KLOG_DATA_SPACE);

			at->page++;
			p = plan_page(at->page, 0, batch->base_offset, max_timestamp);
			plan->chunk[plan->nchunks].data = batch->data + from;
			plan->chunk[plan->nchunks].len = n;
			plan->nchunks++;
			p->nchunks = 1;
			p->edit.len = n;
			from += n;
			at->lower = KLOG_DATA_START + n;
			at->listed = 0;
		}
		locate_pages(rel, part, seg);
		lock_pages(rel, part);
		carry_out(part, &xlrec);
		unlock_pages();
		KSTOP("klog-append-long-page");
	}
}

KLogResult
klog_append(Relation rel, KLogPartition *part, const KLogAppend *how, KLogBatch *batches, int n,
			int *done, KLogPosition *cold)
{
	bool		list = TransactionIdIsValid(how->xid);
	xl_klog_append xlrec = {0};
	KLogSegment seg;
	KLogResult	result;
	Cursor		at;
	int64		next_offset = how->explicit_offsets ? part->next_offset : klog_end_offset(part);
	int64		max_timestamp;
	int64		segment_max;
	int64		bytes = 0;
	int			count = 0;
	bool		fits;
	uint32		beyond;
	bool		is_long;
	XLogRecPtr	lsn;
	BlockNumber tail_block;

	Assert(LWLockHeldByMe(&part->lock));
	Assert(n > 0 && batches[0].len >= KLOG_BATCH_HEADER);
	*done = 0;
	if (cold != NULL)
		*cold = KLOG_NO_POSITION;
	if (list)
		klog_pending_reserve(part, how->xid);

	if (how->explicit_offsets)
	{
		if (batches[0].base_offset < next_offset)
			return KLOG_OUT_OF_RANGE;
		next_offset = batches[0].base_offset;
	}
	if (next_offset > PG_INT64_MAX - 1 - (int64) batches[0].last_offset_delta)
		return KLOG_FULL;
	/* allocates, so it must come before the critical section */
	XLogEnsureRecordSpace(PLAN_PAGES, PLAN_CHUNKS + 2 * PLAN_PAGES + 1);

	/* a segment to write to */
	if (part->head == InvalidBlockNumber || must_roll(part, how, &batches[0]))
	{
		result = klog_segment_open(rel, part, how->partitions, next_offset, cold);
		if (result != KLOG_OK)
			return result;
	}

	/* what its extents must have room for */
	for (;;)
	{
		at = (Cursor) {part->tail_page, part->tail_lower, part->tail_listed};
		beyond = pages_beyond(&at, batches[0].len, list, &fits);
		result = ensure_pages(rel, part, at.page + beyond, cold);
		if (result != KLOG_FULL)
			break;
		if (part->segment_bytes == 0)
			return KLOG_FULL;	/* a batch larger than any segment */
		result = klog_segment_open(rel, part, how->partitions, next_offset, cold);
		if (result != KLOG_OK)
			return result;
	}
	if (result != KLOG_OK)
		return result;
	/* what of it is there already; further pages are made new */
	if (cold != NULL &&
		!((part->tail_block == InvalidBlockNumber ||
		   klog_buffer_is_hot(rel, part->tail_block, cold)) &&
		  klog_buffer_is_hot(rel, part->head, cold)))
		return KLOG_COLD;
	is_long = beyond + (fits ? 1 : 0) > PLAN_PAGES;

	memset(&seg, 0, sizeof(seg));
	seg.entry.segment = part->segment;
	seg.entry.head = part->head;
	seg.extent_units = part->extent_units;
	segment_max = part->segment_max_timestamp;
	max_timestamp = part->max_timestamp;
	/* what has offsets of its own, as in a restore, may lie below the floor */
	plan_watermark = how->explicit_offsets ? klog_watermark(part) : klog_high_watermark(part);
	plan_reset();

	if (is_long)
	{
		Cursor		behind = at;
		uint32		planned;

		/* how much the first pages take; then the rest is written before them */
		batches[0].base_offset = next_offset;
		kbatch_set_base_offset(batches[0].data, next_offset);
		kbatch_set_leader_epoch(batches[0].data, how->leader_epoch);
		segment_max = Max(segment_max, batches[0].max_timestamp);
		planned = plan_batch(&behind, &batches[0], list, segment_max, PLAN_PAGES);
		write_continuation(rel, part, &seg, &batches[0], planned, segment_max, &behind);
		tail_block = plan->page[plan->npages - 1].block;

		plan_reset();
		plan_batch(&at, &batches[0], list, segment_max, PLAN_PAGES);
		at = behind;
		next_offset += (int64) batches[0].last_offset_delta + 1;
		bytes = batches[0].len;
		count = 1;
	}
	else
	{
		tail_block = InvalidBlockNumber;
		for (count = 0; count < n; count++)
		{
			KLogBatch  *batch = &batches[count];
			int64		base = how->explicit_offsets ? batch->base_offset : next_offset;

			if (count > 0)
			{
				uint32		pages = pages_beyond(&at, batch->len, list, &fits);

				if (plan->npages + pages > PLAN_PAGES || at.page + pages >= part->npages ||
					plan->nchunks + pages + 1 > PLAN_CHUNKS ||
					plan->nlisted + 1 > PLAN_LISTED ||
					part->segment_bytes + bytes + batch->len > how->segment_bytes ||
					must_roll(part, how, batch))
					break;
			}
			/* the next call says what is wrong with it */
			if (unlikely(base < next_offset ||
						 base > PG_INT64_MAX - 1 - (int64) batch->last_offset_delta))
				break;
			batch->base_offset = base;
			kbatch_set_base_offset(batch->data, base);
			kbatch_set_leader_epoch(batch->data, how->leader_epoch);
			segment_max = Max(segment_max, batch->max_timestamp);
			plan_batch(&at, batch, list, segment_max, PLAN_PAGES + 1);
			next_offset = base + batch->last_offset_delta + 1;
			bytes += batch->len;
		}
	}
	max_timestamp = Max(max_timestamp, segment_max);

	xlrec.first_offset = batches[0].base_offset;
	xlrec.next_offset = next_offset;
	xlrec.partition = part->partition;
	xlrec.segment = part->segment;
	xlrec.xid = how->xid;
	xlrec.nbatches = count;

	locate_pages(rel, part, &seg);
	lock_pages(rel, part);
	KSTOP("klog-append-before-insert");
	lsn = carry_out(part, &xlrec);
	KSTOP("klog-append-inserted");

	/* from here on nothing throws: the batches exist */
	if (tail_block == InvalidBlockNumber)
		tail_block = plan->page[plan->npages - 1].block;
	if (part->segment_first_timestamp < 0)
		part->segment_first_timestamp = batches[0].max_timestamp;
	part->segment_max_timestamp = segment_max;
	part->max_timestamp = max_timestamp;
	part->segment_bytes += bytes;
	part->tail_page = at.page;
	part->tail_lower = at.lower;
	part->tail_listed = at.listed;
	part->tail_block = tail_block;
	if (list)
	{
		if (part->unresolved_from < 0)
			part->unresolved_from = batches[0].base_offset;
		part->unresolved_to = next_offset;
	}
	for (int i = 0; i < count; i++)
		batches[i].lsn = lsn;
	if (list)
		klog_pending_add(part, batches[0].base_offset, next_offset, lsn);
	klog_state_appended(part, batches[0].base_offset, next_offset, bytes, lsn);
	unlock_pages();
	KSTOP("klog-append-after-insert");
	*done = count;
	return KLOG_OK;
}
