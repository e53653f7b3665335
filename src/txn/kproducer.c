/*-------------------------------------------------------------------------
 *
 * kproducer.c
 *	  Idempotent producers: what the log tells of them, and their ids.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "kstop.h"
#include "txn/kproducer.h"

void
kproducer_partition_of(KProducerPartition *partition, Relation rel, int32 number)
{
	partition->relid = RelationGetRelid(rel);
	partition->relfilenumber = rel->rd_rel->relfilenode;
	partition->partition = number;
}

/*
 * Pages that one call of kproducer_rebuild() looks at: 16 MB, a snapshot's distance from the next, so
 * that with one at hand a single call usually does it.
 */
#define REBUILD_PAGES		(16 * 1024 * 1024 / BLCKSZ)

/* What is so near to the end is looked at under the append lock. */
#define LAST_PAGES			(256 * 1024 / BLCKSZ)

typedef struct RebuildArg
{
	const KProducerPartition *partition;
	int64		now;
	int64		batches;
} RebuildArg;

static void
observe_header(void *arg, const uint8 *bytes, XLogRecPtr page_lsn)
{
	RebuildArg *rebuild = arg;
	KBatchHeader header;

	if (kbatch_header_read(bytes, KBATCH_HEADER_SIZE, &header) != KBATCH_OK)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("damaged record batch header in partition %d of relation %u",
						rebuild->partition->partition, rebuild->partition->relid)));
	kproducer_observe_batch(rebuild->partition, &header, page_lsn, rebuild->now);
	rebuild->batches++;
}

/*
 * Learns from the batches from offset "from" on, of at most so many pages.  Returns where to go on,
 * -1 at the end.  Nothing is said of a look at nothing.
 */
static int64
observe(Relation rel, KLogPartition *log, const KProducerPartition *partition, int64 from,
		uint32 pages, int64 now)
{
	RebuildArg	arg = {partition, now, 0};
	int64		next;

	from = Max(from, klog_log_start(log));
	next = klog_walk_headers(rel, log, from, pages, observe_header, &arg);
	if (arg.batches > 0)
		ereport(DEBUG1,
				(errmsg_internal("partition %d of \"%s\": looked at " INT64_FORMAT
								 " batches from offset " INT64_FORMAT " on for their producers",
								 partition->partition, RelationGetRelationName(rel),
								 arg.batches, from)));
	return next;
}

KLogLearn
kproducer_rebuild(Relation rel, KLogPartition *log, const KProducerPartition *partition, int64 now)
{
	int64		from;
	int64		end;
	int64		next;

	/* one at a time; the number is a partition's, not a block's, which nobody else locks */
	if (!ConditionalLockPage(rel, partition->partition, ExclusiveLock))
		return KLOG_LEARN_BUSY;
	if (kproducer_is_ready(partition))
		return KLOG_LEARN_DONE;
	from = kproducer_rebuild_next(partition);
	if (from < 0)
	{
		kproducer_rebuild_begin(partition);
		switch (kproducer_snapshot_load(log, partition, now, &from))
		{
			case KPRODUCER_LOADED:
				break;
			case KPRODUCER_NO_SNAPSHOT:
				from = klog_log_start(log);
				break;
			case KPRODUCER_BUSY:
				return KLOG_LEARN_BUSY;
		}
	}
	KSTOP("kproducer-rebuild");

	/*
	 * As long as the producers are not known nobody appends for one, but others do.  So the way to
	 * the end is gone without the append lock, and what has come meanwhile is looked at under it:
	 * then that is all.
	 *
	 * Should this throw, what it has learnt stays, and is passed over when the next call begins
	 * at the same place.
	 */
	end = klog_end_offset(log);
	next = observe(rel, log, partition, from, REBUILD_PAGES, now);
	if (next < 0)
	{
		klog_lock(log, false);
		next = observe(rel, log, partition, end, LAST_PAGES, now);
		if (next < 0)
			kproducer_rebuild_end(partition, now);
		klog_unlock(log);
	}
	if (next < 0)
		return KLOG_LEARN_DONE;
	kproducer_rebuild_pause(partition, next, now);
	return KLOG_LEARN_MORE;
}

static KLogLearn
learn_producers(Relation rel, KLogPartition *log, int32 number)
{
	KProducerPartition partition;

	kproducer_partition_of(&partition, rel, number);
	return kproducer_rebuild(rel, log, &partition, GetCurrentTimestamp() / 1000 +
							 (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000));
}

void
kproducer_init(void)
{
	klog_on_learn(learn_producers);
	klog_on_growth(kproducer_snapshot_write);
	klog_on_forget(kproducer_forget);
}

int64
kproducer_allocate_id(XLogRecPtr *lsn)
{
	Oid			sequence = get_relname_relid("producer_id_seq", get_namespace_oid("kafka", false));
	Relation	rel;
	Buffer		buf;
	int64		id;

	if (!OidIsValid(sequence))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("sequence \"%s\" does not exist", "kafka.producer_id_seq"),
				 errhint("Restore the extension's objects, or create the extension again.")));
	id = nextval_internal(sequence, false);

	/*
	 * The WAL record that makes sure of this number may be another process's: the server logs 32
	 * numbers ahead.  The page knows the last one, which is this or a later one.
	 */
	rel = relation_open(sequence, AccessShareLock);
	buf = ReadBuffer(rel, 0);
	LockBuffer(buf, BUFFER_LOCK_SHARE);
	*lsn = PageGetLSN(BufferGetPage(buf));
	UnlockReleaseBuffer(buf);
	relation_close(rel, AccessShareLock);
	return id;
}
