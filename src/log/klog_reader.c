/*
 * klog_reader.c
 *		What the reader processes do for those who must not wait for a disk: pages brought into
 *		shared buffers, states of partitions built, and what others want learnt from a log.
 *
 * Who asks is told by its latch, and looks again; that is all.  So a request may be lost, with a
 * reader that ends in the middle of it or because its relation was locked: it is asked again after
 * a moment.  And it may be done for nothing.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

#include "kstop.h"
#include "log/klog_buffer.h"

/* What was asked for and has not come is asked for again after this. */
#define ASK_AGAIN_MS	200

/* So long after an ERROR nobody asks again. */
#define FAILED_MS		1000

int			klog_broker = -1;

static klog_learn_callback learn_callback = NULL;

void
klog_on_learn(klog_learn_callback cb)
{
	Assert(learn_callback == NULL);
	learn_callback = cb;
}

Relation
klog_relation_open(Oid relid, LOCKMODE mode, bool *busy)
{
	Relation	rel;

	*busy = !ConditionalLockRelationOid(relid, mode);
	if (*busy)
		return NULL;
	/* Locking has taken in invalidations: what is opened is what is locked. */
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, mode);
	return rel;
}

/* ------------------------------------------------------------------------
 * Asking
 * ------------------------------------------------------------------------
 */

/* False: the queue is full. */
static bool
enqueue(const KLogReaderRequest *request)
{
	bool		queued = false;

	SpinLockAcquire(&klog_shared->reader_mutex);
	if (klog_shared->reader_tail - klog_shared->reader_head < KLOG_READER_QUEUE)
	{
		klog_shared->reader_request[klog_shared->reader_tail % KLOG_READER_QUEUE] = *request;
		klog_shared->reader_tail++;
		queued = true;
	}
	SpinLockRelease(&klog_shared->reader_mutex);
	if (queued)
		klog_wake_readers();
	return queued;
}

uint32
klog_reader_request(Relation rel, KLogPartition *part, KLogPosition position, Size bytes,
					int broker)
{
	KLogReaderRequest request = {.what = KLOG_READER_PAGES};

	request.relid = RelationGetRelid(rel);
	request.partition = part->partition;
	request.segment = position.segment;
	request.page = position.page;
	/* not so many that the first are gone when the last are there */
	request.npages = Min(bytes / KLOG_DATA_SPACE + 2, Max(NBuffers / 16, 1));
	request.broker = broker;
	return enqueue(&request) ? request.npages : 0;
}

bool
klog_page_is_cold(Relation rel, KLogPartition *part, KLogPosition position)
{
	KLogEnd		end = klog_end(part);
	KLogPosition cold = KLOG_NO_POSITION;
	KLogSegment seg;
	BlockNumber block;

	if (klog_segment_by_number(rel, part, position.segment, &seg, &cold) != KLOG_OK)
		return klog_is_cold(&cold);
	if (position.page > klog_segment_last(&seg, &end))
		return false;
	block = klog_segment_block(rel, part, &seg, position.page, &cold);
	if (block != InvalidBlockNumber)
		(void) klog_buffer_is_hot(rel, block, &cold);
	return klog_is_cold(&cold);
}

static bool
is_recent(uint64 failed)
{
	TimestampTz now = GetCurrentTimestamp();

	/* the clock may have been set back */
	return failed != 0 && (TimestampTz) failed <= now &&
		!TimestampDifferenceExceeds((TimestampTz) failed, now, FAILED_MS);
}

bool
klog_state_failed(Relation rel, int32 partition)
{
	KLogPartition *part = klog_lookup(RelationGetRelid(rel), partition);

	return part != NULL &&
		is_recent(pg_atomic_read_u64(&part->asked[KLOG_READER_STATE].failed));
}

static uint64
page_number(uint32 segment, uint32 page)
{
	return (uint64) segment << 32 | page;
}

bool
klog_page_failed(KLogPartition *part, KLogPosition cold)
{
	return is_recent(pg_atomic_read_u64(&part->failed_page_at)) &&
		pg_atomic_read_u64(&part->failed_page) == page_number(cold.segment, cold.page);
}

/* Asks for a state or a lesson, of which there is one request at a time. */
static void
ask(Relation rel, KLogPartition *part, KLogReaderWork what)
{
	KLogAsked  *asked = &part->asked[what];
	KLogReaderRequest request = {.what = what,.broker = -1};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz last;
	uint64		bits = 0;

	if (klog_broker >= 0)
		bits = pg_atomic_fetch_or_u64(&asked->brokers, UINT64CONST(1) << klog_broker);
	last = (TimestampTz) pg_atomic_read_u64(&asked->at);
	if (bits != 0 && !TimestampDifferenceExceeds(last, now, ASK_AGAIN_MS))
		return;
	request.relid = RelationGetRelid(rel);
	request.partition = part->partition;
	pg_atomic_write_u64(&asked->at, enqueue(&request) ? (uint64) now : 0);
}

/* The state of a partition is not there, and the caller may not build it. */
void
klog_reader_want_state(Relation rel, KLogPartition *part)
{
	if (!is_recent(pg_atomic_read_u64(&part->asked[KLOG_READER_STATE].failed)))
		ask(rel, part, KLOG_READER_STATE);
}

void
klog_learn(Relation rel, KLogPartition *part)
{
	if (is_recent(pg_atomic_read_u64(&part->asked[KLOG_READER_LEARN].failed)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition %d of \"%s\" cannot be used", part->partition,
						RelationGetRelationName(rel)),
				 errdetail("A reader process failed to read it, see the server log.")));
	ask(rel, part, KLOG_READER_LEARN);
}

/* What was asked for is there, or will not come: who waits for it looks again.  Does not throw. */
void
klog_reader_answer(KLogPartition *part, KLogReaderWork what)
{
	klog_wake_brokers(pg_atomic_exchange_u64(&part->asked[what].brokers, 0));
}

/* ------------------------------------------------------------------------
 * The readers' side
 * ------------------------------------------------------------------------
 */

bool
klog_reader_take(KLogReaderRequest *request)
{
	bool		found;

	SpinLockAcquire(&klog_shared->reader_mutex);
	found = klog_shared->reader_head != klog_shared->reader_tail;
	if (found)
	{
		*request = klog_shared->reader_request[klog_shared->reader_head % KLOG_READER_QUEUE];
		klog_shared->reader_head++;
	}
	SpinLockRelease(&klog_shared->reader_mutex);
	return found;
}

/* Which page of the segment this process is after. */
static uint32 reading;

static void
read_pages(Relation rel, KLogPartition *part, const KLogReaderRequest *request)
{
	KLogEnd		end = klog_end(part);
	KLogSegment seg;
	uint32		last;

	if (request->page == KLOG_BLOCK_PAGE)
	{
		if (request->segment < RelationGetNumberOfBlocks(rel))
			ReleaseBuffer(ReadBuffer(rel, request->segment));
		return;
	}
	if (klog_segment_by_number(rel, part, request->segment, &seg, NULL) != KLOG_OK)
		return;
	last = klog_segment_last(&seg, &end);
	klog_readin(rel, part, &seg, request->page,
				Min(last, request->page + request->npages - 1),
				request->segment < end.segment ? last + 1 : last, &reading);
}

void
klog_reader_do(void *arg)
{
	const KLogReaderRequest *request = arg;
	KLogPartition *part = NULL;
	Relation	rel;
	KLogLearn	learn = KLOG_LEARN_BUSY;
	bool		busy;

	reading = request->page;
	KSTOP("klog-reader-begin");
	StartTransactionCommand();
	rel = klog_relation_open(request->relid,
							 request->what == KLOG_READER_LEARN ? RowExclusiveLock :
							 AccessShareLock, &busy);
	if (rel != NULL)
	{
		KSTOP("klog-reader-attach");
		part = klog_attach_build(rel, request->partition);
		if (part != NULL && request->what == KLOG_READER_PAGES)
		{
			KSTOP("klog-reader-pages");
			read_pages(rel, part, request);
		}
		else if (part != NULL && request->what == KLOG_READER_LEARN && learn_callback != NULL)
			learn = learn_callback(rel, part, request->partition);
		relation_close(rel, NoLock);
	}
	CommitTransactionCommand();

	if (request->broker >= 0)
		klog_wake_broker(request->broker);
	/* the slot may be another's by now: then somebody is woken for nothing, or asks later */
	if (learn == KLOG_LEARN_MORE && enqueue(request))
		pg_atomic_write_u64(&part->asked[KLOG_READER_LEARN].at, (uint64) GetCurrentTimestamp());
	else if (learn != KLOG_LEARN_BUSY)
		klog_reader_answer(part, KLOG_READER_LEARN);
}

void
klog_reader_failed(const KLogReaderRequest *request)
{
	KLogPartition *part = klog_lookup(request->relid, request->partition);
	uint64		now = (uint64) GetCurrentTimestamp();

	if (part != NULL && request->what == KLOG_READER_PAGES)
	{
		pg_atomic_write_u64(&part->failed_page, page_number(request->segment, reading));
		pg_atomic_write_u64(&part->failed_page_at, now);
	}
	else if (part != NULL)
	{
		pg_atomic_write_u64(&part->asked[request->what].failed, now);
		klog_reader_answer(part, request->what);
	}
	if (request->broker >= 0)
		klog_wake_broker(request->broker);
}
