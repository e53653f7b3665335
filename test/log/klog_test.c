/*
 * klog_test.c
 *		SQL functions that call the log without anything above it: no topic, no client, no access
 *		method.  The relation is any table that nothing else writes to.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/md5.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "batch/kbatch.h"
#include "batch/kbatch_build.h"
#include "log/klog.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(klog_test_append);
PG_FUNCTION_INFO_V1(klog_test_read);
PG_FUNCTION_INFO_V1(klog_test_offsets);
PG_FUNCTION_INFO_V1(klog_test_check);
PG_FUNCTION_INFO_V1(klog_test_find);
PG_FUNCTION_INFO_V1(klog_test_resolve);
PG_FUNCTION_INFO_V1(klog_test_headers);

/* md5 of a batch without what the broker fills in (base offset, leader epoch) */
static text *
batch_digest(const uint8 *batch, Size len)
{
	char		sum[33];
	const char *error;

	if (!pg_md5_hash(batch + KBATCH_OFF_MAGIC, len - KBATCH_OFF_MAGIC, sum, &error))
		elog(ERROR, "md5: %s", error);
	return cstring_to_text(sum);
}

/*
 * append(rel, partition, sizes int[], nrecords int, first_timestamp bigint, segment_bytes bigint,
 * transactional bool, explicit_base bigint) returns text[]: one batch for each size, which is that
 * of each record's value; timestamps go up by one a batch. Returns the batches' digests.
 */
Datum
klog_test_append(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), RowExclusiveLock);
	int32		partition = PG_GETARG_INT32(1);
	ArrayType  *sizes = PG_GETARG_ARRAYTYPE_P(2);
	int32		nrecords = PG_GETARG_INT32(3);
	int64		timestamp = PG_GETARG_INT64(4);
	bool		transactional = PG_GETARG_BOOL(6);
	int64		explicit_base = PG_ARGISNULL(7) ? -1 : PG_GETARG_INT64(7);
	KLogAppend	how = {.segment_bytes = PG_GETARG_INT64(5),.partitions = 1};
	Datum	   *size;
	bool	   *nulls;
	int			n;
	KLogBatch  *batches;
	Datum	   *digests;
	KLogPartition *part;
	int			done = 0;
	XLogRecPtr	lsn = InvalidXLogRecPtr;

	deconstruct_array(sizes, INT4OID, 4, true, TYPALIGN_INT, &size, &nulls, &n);
	batches = palloc0(sizeof(KLogBatch) * n);
	digests = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		KBatchBuilder builder;
		KBatchSeal	seal = {0};
		const uint8 *batch;
		size_t		len;
		int32		value_len = DatumGetInt32(size[i]);
		uint8	   *value = MemoryContextAllocHuge(CurrentMemoryContext, value_len + 1);

		kbatch_builder_init(&builder, &kallocator_malloc, 64 * 1024 * 1024);
		for (int r = 0; r < nrecords; r++)
		{
			for (int32 j = 0; j < value_len; j++)
				value[j] = (uint8) (j * 7 + i + r + timestamp);
			if (kbatch_builder_append(&builder, timestamp + i, NULL, -1, value, value_len, NULL,
									  0) != KBATCH_OK)
				elog(ERROR, "cannot build a batch");
		}
		kbatch_seal_init(&seal);
		if (kbatch_builder_finish(&builder, &seal, NULL, NULL, &batch, &len) != KBATCH_OK)
			elog(ERROR, "cannot finish a batch");
		batches[i].data = MemoryContextAllocHuge(CurrentMemoryContext, len);
		memcpy(batches[i].data, batch, len);
		batches[i].len = len;
		batches[i].last_offset_delta = nrecords - 1;
		batches[i].max_timestamp = timestamp + i;
		batches[i].base_offset = explicit_base >= 0 ? explicit_base + (int64) i * nrecords : -1;
		digests[i] = PointerGetDatum(batch_digest(batch, len));
		kbatch_builder_free(&builder);
		pfree(value);
	}
	how.explicit_offsets = explicit_base >= 0;
	if (transactional)
		how.xid = GetCurrentTransactionId();

	part = klog_attach(rel, partition, false);
	while (done < n)
	{
		int			count;
		KLogResult	result;

		klog_lock(part, false);
		result = klog_append(rel, part, &how, batches + done, n - done, &count,
							 NULL);
		klog_unlock(part);
		if (result == KLOG_NO_EXTENT)
			(void) klog_grow(rel, false);
		else if (result != KLOG_OK)
			elog(ERROR, "klog_append: result %d", result);
		else
		{
			done += count;
			lsn = batches[done - 1].lsn;
		}
		CHECK_FOR_INTERRUPTS();
	}
	if (n > 0)
		klog_request_flush(lsn);
	relation_close(rel, NoLock);
	PG_RETURN_ARRAYTYPE_P(construct_array(digests, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * read(rel, partition, from_offset, cap int, use_hints bool, out base_offset, last_offset, size,
 * control, digest): all up to the high watermark
 */
Datum
klog_test_read(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	KLogPartition *part = klog_attach(rel, PG_GETARG_INT32(1), false);
	bool		hints = PG_GETARG_BOOL(4);
	KLogRead	r = {.offset = PG_GETARG_INT64(2),.cap = PG_GETARG_INT32(3)};

	InitMaterializedSRF(fcinfo, 0);
	r.limit = klog_high_watermark(part);
	r.buf = palloc(r.cap);
	r.position = KLOG_NO_POSITION;
	while (r.offset < r.limit)
	{
		KLogResult	result = klog_read(rel, part, &r);
		KBatchWalker walker;
		KBatchHeader header;
		const uint8 *batch;

		if (result == KLOG_TOO_SMALL)
		{
			r.cap = r.needed;
			r.buf = MemoryContextAllocHuge(CurrentMemoryContext, r.cap);
			continue;
		}
		if (result != KLOG_OK)
			elog(ERROR, "klog_read: result %d at offset " INT64_FORMAT, result, r.offset);
		kbatch_walk_begin(&walker, r.buf, r.len);
		while (kbatch_walk_next(&walker, &header, &batch) == KBATCH_OK)
		{
			Datum		values[5];
			bool		nulls[5] = {0};

			if (!kbatch_check_crc(batch, kbatch_size(&header)))
				elog(ERROR, "CRC at offset " INT64_FORMAT, header.base_offset);
			values[0] = Int64GetDatum(header.base_offset);
			values[1] = Int64GetDatum(kbatch_last_offset(&header));
			values[2] = Int32GetDatum((int32) kbatch_size(&header));
			values[3] = BoolGetDatum(kbatch_is_control(&header));
			values[4] = PointerGetDatum(batch_digest(batch, kbatch_size(&header)));
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		if (walker.pos != r.len)
			elog(ERROR, "cut-off batch at offset " INT64_FORMAT, r.offset);
		r.offset = r.next_offset;
		if (!hints)
			r.position = KLOG_NO_POSITION;
	}
	relation_close(rel, AccessShareLock);
	return (Datum) 0;
}

/* offsets(rel, partition): log start, high watermark, end */
Datum
klog_test_offsets(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	KLogPartition *part = klog_attach(rel, PG_GETARG_INT32(1), false);
	char	   *text = psprintf(INT64_FORMAT " " INT64_FORMAT " " INT64_FORMAT,
								klog_log_start(part), klog_high_watermark(part),
								klog_end_offset(part));

	relation_close(rel, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text(text));
}

typedef struct Problems
{
	StringInfoData text;
} Problems;

static void
add_problem(void *arg, int32 partition, BlockNumber block, int64 offset, const char *problem)
{
	appendStringInfo(&((Problems *) arg)->text, "%d/%u/" INT64_FORMAT ": %s\n", partition, block,
					 offset, problem);
}

/* check(rel): the problems, one a line */
Datum
klog_test_check(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	Problems	problems;

	initStringInfo(&problems.text);
	klog_check(rel, add_problem, &problems);
	relation_close(rel, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text(problems.text.data));
}

/* find(rel, partition, timestamp): offset and timestamp; timestamp NULL: the greatest one */
Datum
klog_test_find(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	KLogPartition *part = klog_attach(rel, PG_GETARG_INT32(1), false);
	int64		limit = klog_high_watermark(part);
	KLogFound	found;

	if (PG_ARGISNULL(2))
		found = klog_find_max_timestamp(rel, part, limit, NULL);
	else
		found = klog_find_timestamp(rel, part, PG_GETARG_INT64(2), limit, NULL);
	relation_close(rel, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(INT64_FORMAT " " INT64_FORMAT, found.offset,
											  found.timestamp)));
}

/* resolve(rel): oldest xid that stays on a page, 0 for none */
Datum
klog_test_resolve(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), RowExclusiveLock);
	TransactionId xid = klog_resolve(rel);

	relation_close(rel, NoLock);
	PG_RETURN_INT64(xid);
}

static void
count_header(void *arg, const uint8 *header, XLogRecPtr lsn)
{
	int64	   *count = arg;

	(*count)++;
}

/* headers(rel, partition, from): number of batches that klog_walk_headers finds */
Datum
klog_test_headers(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessShareLock);
	KLogPartition *part = klog_attach(rel, PG_GETARG_INT32(1), false);
	int64		count = 0;

	(void) klog_walk_headers(rel, part, PG_GETARG_INT64(2), PG_UINT32_MAX, count_header, &count);
	relation_close(rel, AccessShareLock);
	PG_RETURN_INT64(count);
}
