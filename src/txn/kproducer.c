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
#include "utils/lsyscache.h"
#include "utils/rel.h"

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

typedef struct RebuildArg
{
	const KProducerPartition *partition;
	int64		now;
	int64		batches;
} RebuildArg;

void
kproducer_init(void)
{
	klog_on_growth(kproducer_snapshot_write);
	klog_on_forget(kproducer_forget);
}

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

bool
kproducer_rebuild(Relation rel, KLogPartition *log, const KProducerPartition *partition, int64 now)
{
	RebuildArg	arg = {partition, now, 0};
	int64		from = kproducer_rebuild_next(partition);
	int64		next;

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
				return false;
		}
	}

	/*
	 * Should this throw, what it has learnt stays, and is passed over when the next call begins
	 * at the same place.
	 */
	next = klog_walk_headers(rel, log, Max(from, klog_log_start(log)), REBUILD_PAGES,
							 observe_header, &arg);
	ereport(DEBUG1,
			(errmsg_internal("partition %d of \"%s\": looked at " INT64_FORMAT
							 " batches from offset " INT64_FORMAT " on for their producers",
							 partition->partition, RelationGetRelationName(rel),
							 arg.batches, from)));
	if (next < 0)
		kproducer_rebuild_end(partition, now);
	else
		kproducer_rebuild_pause(partition, next, now);
	return next < 0;
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
