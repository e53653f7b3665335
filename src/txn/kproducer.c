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

typedef struct RebuildArg
{
	const KProducerPartition *partition;
	int64		now;
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
}

void
kproducer_rebuild(Relation rel, KLogPartition *log, const KProducerPartition *partition, int64 now)
{
	RebuildArg	arg = {partition, now};

	kproducer_rebuild_begin(partition);
	klog_walk_headers(rel, log, klog_log_start(log), observe_header, &arg);
	kproducer_rebuild_end(partition, now);
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
