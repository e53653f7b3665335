/*
 * klog_read.c
 *		Copying batches out of the log.
 */
#include "postgres.h"

#include "access/transam.h"
#include "batch/kbatch.h"
#include "batch/kbatch_build.h"
#include "miscadmin.h"

#include "log/klog_buffer.h"

/*
 * How a reader must take the batch at pos of a page: as it is, or as if its transaction had never
 * been.
 */
bool
klog_batch_is_dead(Page page, uint16 pos)
{
	TransactionId xid;

	switch (klog_page_listed_state(page, pos, &xid))
	{
		case 0:
			return false;
		case -1:
			return true;
		default:
			/* below the high watermark no transaction is in progress */
			return !TransactionIdDidCommit(xid);
	}
}

/* What klog_read is doing between two pages. */
typedef struct Copy
{
	KLogRead   *r;
	Relation	rel;
	uint32		segment;
	Size		most;			/* bytes that the segment has from this page on */
	Size		len;			/* bytes in r->buf, r->len of them whole batches */
	Size		left;			/* bytes of the current batch that are still to come */
	bool		copy;			/* they are copied, else stepped over */
	bool		wanted;			/* the current batch is part of the answer */
	int64		next_offset;	/* behind the current batch */
	bool		corrupt;
} Copy;

/*
 * Begins the batch whose header is at pos.  False: it is not part of the answer, reading ends.
 */
static bool
begin_batch(Copy *copy, Page page, uint32 pageno, uint16 pos)
{
	KLogRead   *r = copy->r;
	uint8		filler[KBATCH_FILLER_MAX_SIZE];
	KBatchHeader header;
	Size		size;
	bool		dead;

	if (kbatch_header_read((uint8 *) page + pos, ((PageHeader) page)->pd_lower - pos,
						   &header) != KBATCH_OK)
	{
		copy->corrupt = true;
		return false;
	}
	if (header.base_offset >= r->limit)
		return false;
	copy->left = kbatch_size(&header);
	/* what the header says is allocated by our callers */
	if (copy->left > copy->most ||
		(copy->left > r->cap &&
		 copy->left / BLCKSZ >= RelationGetNumberOfBlocks(copy->rel)))
	{
		copy->corrupt = true;
		return false;
	}
	copy->next_offset = kbatch_next_offset(&header);
	copy->wanted = kbatch_last_offset(&header) >= r->offset;
	copy->copy = false;
	if (!copy->wanted)
		return true;
	dead = klog_batch_is_dead(page, pos);
	size = dead ? kbatch_write_filler(filler, &header) : copy->left;
	if (size > r->cap - copy->len)
	{
		r->needed = size;
		copy->left = 0;
		return false;
	}
	if (r->begin.page == 0)
		r->begin = (KLogPosition) {header.base_offset, copy->segment, pageno, pos};
	if (dead)
	{
		if (r->buf != NULL)
			memcpy(r->buf + copy->len, filler, size);
		copy->len += size;
	}
	else
		copy->copy = true;
	return true;
}

/* Takes what one page has, from pos on.  Returns false when reading ends here. */
static bool
copy_page(Copy *copy, Page page, uint32 pageno, uint32 pos)
{
	KLogRead   *r = copy->r;
	uint16		lower = ((PageHeader) page)->pd_lower;

	while (pos < lower)
	{
		Size		n;

		if (copy->left == 0 && !begin_batch(copy, page, pageno, pos))
			return false;
		n = Min(copy->left, (Size) (lower - pos));
		if (copy->copy)
		{
			if (r->buf != NULL)
				memcpy(r->buf + copy->len, (char *) page + pos, n);
			copy->len += n;
		}
		copy->left -= n;
		pos += n;
		if (copy->left == 0 && copy->wanted)
		{
			r->len = copy->len;
			r->nbatches++;
			r->next_offset = copy->next_offset;
			r->position = (KLogPosition) {r->next_offset, copy->segment, pageno, pos};
			if (r->next_offset >= r->limit)
				return false;
		}
	}
	return true;
}

/* Finds where to begin: by the hint, or by a search. */
static KLogResult
find_begin(Relation rel, KLogPartition *part, KLogRead *r, const KLogEnd *end, KLogSegment *seg,
		   KLogPosition *at, KLogPosition *cold)
{
	/*
	 * Batches never move, so a place behind a batch stays one as long as the segment lives.
	 */
	if (at->offset == r->offset && at->pos >= KLOG_DATA_START && at->page > 0 &&
		klog_segment_for_offset(rel, part, r->offset, seg, cold) == KLOG_OK &&
		seg->entry.segment == at->segment)
		return KLOG_OK;
	if (klog_is_cold(cold))
		return KLOG_COLD;
	return klog_locate(rel, part, end, r->offset, cold, seg, at);
}

/*
 * From an offset with nothing behind it on pages, up to end: a control batch over it all, as if
 * there had been a transaction that was rolled back.  A client that is to go on to the end needs
 * something that takes it there.
 */
static KLogResult
read_gap(KLogRead *r, int64 end)
{
	uint8		filler[KBATCH_FILLER_MAX_SIZE];
	KBatchHeader header = {0};

	r->len = 0;
	r->needed = 0;
	r->nbatches = 0;
	r->npages = 0;
	r->next_offset = r->offset;
	r->cold = KLOG_NO_POSITION;
	r->begin = KLOG_NO_POSITION;
	r->position = KLOG_NO_POSITION;
	header.base_offset = r->offset;
	header.last_offset_delta = Min(end - r->offset - 1, PG_INT32_MAX);
	header.leader_epoch = -1;
	header.max_timestamp = -1;
	r->needed = kbatch_write_filler(filler, &header);
	if (r->needed > r->cap)
		return KLOG_TOO_SMALL;
	if (r->buf != NULL)
		memcpy(r->buf, filler, r->needed);
	r->len = r->needed;
	r->needed = 0;
	r->nbatches = 1;
	r->next_offset = kbatch_next_offset(&header);
	return KLOG_OK;
}

/* klog_read, of what is on pages. */
static KLogResult
read_pages_from(Relation rel, KLogPartition *part, KLogRead *r)
{
	KLogEnd		end = klog_end(part);
	KLogSegment seg;
	KLogPosition at = r->position;
	KLogPosition *cold = r->nowait ? &r->cold : NULL;
	KLogResult	result;
	Copy		copy = {.r = r,.rel = rel};
	uint32		pageno;
	uint32		pos;
	bool		gone = false;

	r->len = 0;
	r->needed = 0;
	r->nbatches = 0;
	r->npages = 0;
	r->next_offset = r->offset;
	r->cold = KLOG_NO_POSITION;
	r->begin = KLOG_NO_POSITION;
	r->position = KLOG_NO_POSITION;
	if (r->offset < klog_log_start(part))
		return KLOG_OUT_OF_RANGE;
	if (r->offset >= r->limit)
	{
		r->position = at;
		return r->offset == r->limit ? KLOG_OK : KLOG_OUT_OF_RANGE;
	}
	result = find_begin(rel, part, r, &end, &seg, &at, cold);
	if (result != KLOG_OK && r->offset < klog_log_start(part))
		return KLOG_OUT_OF_RANGE;	/* it went away while we looked */
	/* explicit offsets left a gap, if the append failed that its segment was opened for */
	if (result == KLOG_OUT_OF_RANGE)
		return read_gap(r, r->limit);
	if (result != KLOG_OK)
		return result;

	pageno = at.page;
	pos = at.pos;
	for (;;)
	{
		BlockNumber block;
		Buffer		buffer;
		int64		last;
		Page		page;
		bool		go_on;

		CHECK_FOR_INTERRUPTS();
		last = seg.entry.segment == end.segment ? end.page : (int64) seg.entry.npages - 1;
		if (pageno > last)
		{
			if (seg.entry.segment >= end.segment)
				break;
			result = klog_segment_next(rel, part, &seg, cold);
			gone = result == KLOG_CORRUPT;
			if (result != KLOG_OK)
				break;
			pageno = 1;
			pos = KLOG_DATA_START;
			continue;
		}
		block = klog_segment_block(rel, part, &seg, pageno, cold);
		if (block == InvalidBlockNumber)
		{
			gone = !klog_is_cold(cold);
			break;
		}
		buffer = klog_buffer_pin_hot(rel, block);
		if (!BufferIsValid(buffer) && r->nowait)
		{
			r->cold = (KLogPosition) {-1, seg.entry.segment, pageno, 0};
			break;
		}
		if (!BufferIsValid(buffer))
			buffer = ReadBuffer(rel, block);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		r->npages++;
		gone = !klog_page_is(page, KLOG_PAGE_DATA, part->partition, seg.entry.segment, pageno);
		copy.segment = seg.entry.segment;
		copy.most = (Size) (last - pageno + 1) * KLOG_DATA_SPACE;
		go_on = !gone && copy_page(&copy, page, pageno, pos);
		UnlockReleaseBuffer(buffer);
		if (!go_on)
			break;
		pageno++;
		pos = KLOG_DATA_START;
	}
	if (r->len > 0)
		return KLOG_OK;
	if (copy.corrupt)
	{
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("partition %d of \"%s\" is corrupt at offset " INT64_FORMAT,
						part->partition, RelationGetRelationName(rel), r->offset)));
		return KLOG_CORRUPT;
	}
	if (gone)
		return r->offset < klog_log_start(part) ? KLOG_OUT_OF_RANGE : KLOG_CORRUPT;
	if (r->cold.page != 0)
		return KLOG_COLD;
	if (r->needed > 0)
		return KLOG_TOO_SMALL;
	/* copy.left: the last batch ends in pages that are not there; that is no gap */
	return copy.left > 0 ? KLOG_CORRUPT : read_gap(r, r->limit);
}

KLogResult
klog_read(Relation rel, KLogPartition *part, KLogRead *r)
{
	int64		limit = r->limit;
	int64		watermark = klog_watermark(part);
	int64		end;
	KLogResult	result;

	if (likely(limit <= watermark ||
			   watermark >= (int64) pg_atomic_read_u64(&part->floor_next)))
		return read_pages_from(rel, part, r);

	if (r->offset < limit && r->offset >= klog_log_start(part) &&
		klog_in_gap(part, r->offset, &end))
		return read_gap(r, Min(end, limit));

	/* the limit was a watermark in the gap, and there is something before it */
	if (r->offset < watermark)
		r->limit = watermark;
	result = read_pages_from(rel, part, r);
	r->limit = limit;
	return result;
}

bool
klog_read_block(Relation rel, BlockNumber block, uint8 *buf, Size cap, Size *len, int32 *partition)
{
	KLogPartition *part;
	KLogRead	r = {.buf = buf,.cap = cap};
	KLogPageTag tag;
	KBatchHeader header;
	Buffer		buffer;
	Page		page;
	int64		last = -1;
	uint16		lower;
	bool		valid;

	*len = 0;
	if (block >= RelationGetNumberOfBlocks(rel))
		return false;
	buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE, NULL);
	page = BufferGetPage(buffer);
	valid = !PageIsNew(page) && ((PageHeader) page)->pd_special == KLOG_DATA_END;
	if (valid)
	{
		tag = *KLogPageGetTag(page);
		valid = klog_page_is(page, KLOG_PAGE_DATA, tag.partition, tag.segment, tag.page) &&
			tag.first_batch >= KLOG_DATA_START;
	}
	if (valid)
	{
		uint32		pos = tag.first_batch;

		lower = ((PageHeader) page)->pd_lower;
		r.offset = -1;
		while (pos + KLOG_BATCH_HEADER <= lower &&
			   kbatch_header_read((uint8 *) page + pos, lower - pos, &header) == KBATCH_OK)
		{
			if (r.offset < 0)
				r.offset = header.base_offset;
			last = kbatch_next_offset(&header);
			pos += Min(kbatch_size(&header), (Size) BLCKSZ);
		}
	}
	UnlockReleaseBuffer(buffer);
	if (!valid || last < 0)
		return false;

	/*
	 * an old page of a segment that is gone has offsets outside of the log, or reads as others'
	 * data
	 */
	part = klog_attach(rel, tag.partition, false);
	r.limit = Min(last, klog_watermark(part));
	r.position = KLOG_NO_POSITION;
	*partition = tag.partition;
	if (r.offset < klog_log_start(part) || r.offset >= r.limit ||
		klog_read(rel, part, &r) != KLOG_OK)
		return false;
	*len = r.len;
	return true;
}
