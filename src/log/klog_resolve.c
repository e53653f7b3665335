/*
 * klog_resolve.c
 *		Taking ended transactions off the pages: RESOLVE.
 *
 * A page lists the batches whose transaction may not be over. There are no hint bits: a WAL record
 * takes the committed ones off the list and marks the aborted ones dead, so that standbys and
 * later starts need not ask the commit log, which VACUUM may have cut by then.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "batch/kbatch.h"
#include "miscadmin.h"

#include "kstop.h"
#include "log/klog_buffer.h"
#include "log/klog_xlog.h"

typedef struct Resolve
{
	KLogPartition *part;
	int64		limit;			/* below it all transactions are over, durably */
	TransactionId oldest;		/* left on a page */
	bool		dead_end;		/* a dead batch ends at the limit */
} Resolve;

/* Most entries that a list has room for, whatever they say. */
#define MAX_LISTED	(KLOG_DATA_SPACE / sizeof(KLogListed))

/*
 * Sorts a page's list into committed and dead positions; what must stay is noted in *resolve.
 */
static void
look_at_page(Resolve *resolve, Page page, uint16 *committed, int *ncommitted, uint16 *dead,
			 int *ndead)
{
	KLogPageTag *tag = KLogPageGetTag(page);

	*ncommitted = *ndead = 0;
	for (int i = 0; i < tag->nlisted; i++)
	{
		KLogListed *entry = KLogPageListed(page, i);
		KBatchHeader header;

		if (!TransactionIdIsValid(entry->xid))
			continue;
		if (entry->pos < KLOG_DATA_START || entry->pos > KLOG_DATA_END - KLOG_BATCH_HEADER ||
			kbatch_header_read((uint8 *) page + entry->pos, KLOG_BATCH_HEADER,
							   &header) != KBATCH_OK)
			continue;
		if (header.base_offset >= resolve->limit)
		{
			if (!TransactionIdIsValid(resolve->oldest) ||
				TransactionIdPrecedes(entry->xid, resolve->oldest))
				resolve->oldest = entry->xid;
		}
		else if (TransactionIdDidCommit(entry->xid))
			committed[(*ncommitted)++] = entry->pos;
		else
		{
			dead[(*ndead)++] = entry->pos;
			resolve->dead_end |= kbatch_next_offset(&header) == resolve->limit;
		}
	}
}

/* klog_walk_pages callback */
static bool
resolve_page(void *arg, const KLogWalkPage *at)
{
	Resolve    *resolve = arg;
	Page		page = BufferGetPage(at->buffer);
	uint16		positions[MAX_LISTED];
	uint16		dead[MAX_LISTED];
	int			ncommitted;
	int			ndead;
	xl_klog_resolve xlrec = {.partition = resolve->part->partition};

	if (KLogPageGetTag(page)->nlisted == 0)
		return true;

	/*
	 * only whoever resolves changes a list's old entries: one look is enough, under the stronger
	 * lock
	 */
	LockBuffer(at->buffer, BUFFER_LOCK_UNLOCK);
	LockBuffer(at->buffer, BUFFER_LOCK_EXCLUSIVE);
	if (!klog_page_is(page, KLOG_PAGE_DATA, resolve->part->partition, at->segment, at->page))
		return true;
	look_at_page(resolve, page, positions, &ncommitted, dead, &ndead);
	if (ncommitted + ndead > 0)
	{
		XLogRecPtr	lsn;

		memcpy(positions + ncommitted, dead, sizeof(uint16) * ndead);
		xlrec.ncommitted = ncommitted;
		xlrec.ndead = ndead;
		KSTOP("klog-resolve-before-insert");

		START_CRIT_SECTION();
		klog_page_resolve(page, positions, ncommitted, positions + ncommitted, ndead);
		MarkBufferDirty(at->buffer);
		/* XLOG stuff */
		XLogBeginInsert();
		XLogRegisterData((char *) &xlrec, sizeof(xlrec));
		XLogRegisterData((char *) positions, sizeof(uint16) * (ncommitted + ndead));
		XLogRegisterBuffer(0, at->buffer, REGBUF_STANDARD);
		lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_RESOLVE);
		PageSetLSN(page, lsn);	/* a macro that evaluates it twice */
		END_CRIT_SECTION();
	}
	return true;
}

/*
 * Writes into the partition header that nothing below resolved_to is unresolved, and the
 * watermark.
 */
void
klog_write_mark(Relation rel, KLogPartition *part, int64 resolved_to, int64 high_watermark)
{
	xl_klog_mark xlrec = {.partition = part->partition,.resolved_to = resolved_to};
	KLogPartitionHeader *header;
	Buffer		buffer;
	XLogRecPtr	lsn;

	if (part->header == InvalidBlockNumber)
		return;
	buffer = klog_buffer_get(rel, part->header, BUFFER_LOCK_EXCLUSIVE, NULL);
	if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_PARTITION, part->partition, 0, 0))
	{
		UnlockReleaseBuffer(buffer);
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("block %u of \"%s\" is not the header of partition %d", part->header,
						RelationGetRelationName(rel), part->partition)));
	}
	header = KLogPageContent(BufferGetPage(buffer));
	xlrec.high_watermark = high_watermark;
	if (header->resolved_to < resolved_to || header->high_watermark < high_watermark)
	{
		START_CRIT_SECTION();
		klog_page_partition_mark(BufferGetPage(buffer), resolved_to, high_watermark);
		MarkBufferDirty(buffer);
		/* XLOG stuff */
		XLogBeginInsert();
		XLogRegisterData((char *) &xlrec, sizeof(xlrec));
		XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
		lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_MARK);
		PageSetLSN(BufferGetPage(buffer), lsn);
		END_CRIT_SECTION();
	}
	UnlockReleaseBuffer(buffer);
}

/*
 * Resolves what can be resolved in one partition.  mark: tell the partition header, also when
 * little was written since the last time. Returns the oldest xid that stays on a page.
 */
TransactionId
klog_resolve_partition(Relation rel, KLogPartition *part, bool mark)
{
	Resolve		resolve = {.part = part};
	KLogEnd		end;
	int64		from;
	int64		total;
	bool		walked = true;

	/*
	 * What is below the high watermark is settled for good: its transactions are over, and the
	 * commit records are durable, so RESOLVE can never be known where the commit is not.
	 */
	LWLockAcquire(&part->lock, LW_SHARED);
	from = part->unresolved_from;
	resolve.limit = klog_watermark(part);
	end = klog_end(part);
	total = klog_size_bytes(part);
	LWLockRelease(&part->lock);

	/* VACUUM also wants to know what stays; else nothing is to be found at or past the watermark */
	if (from >= 0 && (mark || from < resolve.limit))
		walked = klog_walk_pages(rel, part, &end, from, resolve_page, &resolve);

	if (!walked)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("partition %d of \"%s\" has missing pages", part->partition,
						RelationGetRelationName(rel))));

	LWLockAcquire(&part->lock, LW_EXCLUSIVE);
	if (part->unresolved_from >= 0 && part->unresolved_from < resolve.limit)
	{
		if (part->unresolved_to <= resolve.limit)
			part->unresolved_from = -1;
		else
			part->unresolved_from = resolve.limit;
	}
	from = part->unresolved_from >= 0 ? Min(part->unresolved_from, resolve.limit) : resolve.limit;
	mark = from > part->marked_to && (mark || total - part->marked_bytes > KLOG_MARK_BYTES);
	if (mark)
		part->marked_to = from;
	SpinLockAcquire(&part->mutex);
	if (mark)
		part->marked_bytes = total;
	if (resolve.dead_end)
		part->check_end = Max(part->check_end, resolve.limit);
	SpinLockRelease(&part->mutex);
	LWLockRelease(&part->lock);
	if (resolve.dead_end)
		klog_keeper_queue(part, false);

	/* a mark that is lost in a crash only means more to look at */
	if (mark)
		klog_write_mark(rel, part, from, resolve.limit);
	return resolve.oldest;
}

TransactionId
klog_resolve(Relation rel)
{
	int32		npartitions = klog_stored_partitions(rel);
	TransactionId oldest = InvalidTransactionId;

	for (int32 i = 0; i < npartitions; i++)
	{
		TransactionId xid = klog_resolve_partition(rel, klog_attach(rel, i, false), true);

		if (TransactionIdIsValid(xid) &&
			(!TransactionIdIsValid(oldest) || TransactionIdPrecedes(xid, oldest)))
			oldest = xid;
		CHECK_FOR_INTERRUPTS();
	}
	return oldest;
}
