/*
 * ktable_scan.c
 *		Plain scans: COPY TO, pg_dump, ANALYZE, and whatever else does not go through the planner.
 *		Queries get the custom scan (ktable_plan.c) in place of a sequential one.
 *
 * A scan sees the records that were readable when it began (ktable_visible_end), partition
 * after partition; the snapshot has no say.
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "log/klog.h"
#include "table/ktable_read.h"
#include "table/ktable_scan.h"

typedef struct KTableScanData
{
	TableScanDescData base;		/* first */
	KTableCursor cursor;
} KTableScanData;

typedef KTableScanData *KTableScan;

TableScanDesc
ktable_scan_begin(Relation rel, Snapshot snapshot, int nkeys, struct ScanKeyData *key,
				  ParallelTableScanDesc pscan, uint32 flags)
{
	KTableScan	scan;
	KTableRange *ranges;
	int			nranges;

	ktable_check_shape(rel);
	if (pscan != NULL || nkeys > 0)
		elog(ERROR, "unexpected kind of scan on topic table \"%s\"",
			 RelationGetRelationName(rel));

	scan = palloc0(sizeof(KTableScanData));
	scan->base.rs_rd = rel;
	scan->base.rs_snapshot = snapshot;
	scan->base.rs_nkeys = nkeys;
	scan->base.rs_flags = flags;
	RelationIncrementReferenceCount(rel);

	ktable_cursor_open(&scan->cursor, rel, KTABLE_ALL_COLUMNS, false);
	if (flags & SO_TYPE_SEQSCAN)
	{
		ranges = ktable_visible_ranges(rel, &nranges);
		ktable_cursor_set(&scan->cursor, ranges, nranges);
		pgstat_count_heap_scan(rel);
	}
	return &scan->base;
}

void
ktable_scan_end(TableScanDesc sscan)
{
	KTableScan	scan = (KTableScan) sscan;

	ktable_cursor_close(&scan->cursor);
	RelationDecrementReferenceCount(sscan->rs_rd);
	if (sscan->rs_flags & SO_TEMP_SNAPSHOT)
		UnregisterSnapshot(sscan->rs_snapshot);
	pfree(scan);
}

/* Over the same records again. */
void
ktable_scan_rescan(TableScanDesc sscan, struct ScanKeyData *key, bool set_params,
				   bool allow_strat, bool allow_sync, bool allow_pagemode)
{
	KTableScan	scan = (KTableScan) sscan;

	ktable_cursor_set(&scan->cursor, scan->cursor.ranges, scan->cursor.nranges);
	pgstat_count_heap_scan(sscan->rs_rd);
}

bool
ktable_scan_getnextslot(TableScanDesc sscan, ScanDirection direction, TupleTableSlot *slot)
{
	KTableScan	scan = (KTableScan) sscan;

	/* No plan of ours promises it: see ktable_plan.c. */
	if (ScanDirectionIsBackward(direction))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("topic table \"%s\" cannot be scanned backwards",
						RelationGetRelationName(sscan->rs_rd)),
				 errhint("Declare the cursor with SCROLL.")));
	if (!ktable_cursor_next(&scan->cursor, slot))
		return false;
	pgstat_count_heap_getnext(sscan->rs_rd);
	return true;
}

/* ------------------------------------------------------------------------
 * ANALYZE
 * ------------------------------------------------------------------------
 */

/* All records of the batches that start on the block; false when none does. */
bool
ktable_analyze_next_block(TableScanDesc sscan, KCOMPAT_ANALYZE_PARAMS)
{
	KTableScan	scan = (KTableScan) sscan;
	BlockNumber block;
	uint8	   *buf;
	Size		cap;
	Size		len;
	int32		partition = 0;

	if (!kcompat_analyze_block(&block))
		return false;
	buf = ktable_reader_buffer(scan->cursor.reader, &cap);
	if (!klog_read_block(sscan->rs_rd, block, buf, cap, &len, &partition))
		len = 0;
	ktable_reader_load(scan->cursor.reader, partition, len);
	return true;
}

bool
ktable_analyze_next_tuple(TableScanDesc sscan, TransactionId oldest_xmin, double *liverows,
						  double *deadrows, TupleTableSlot *slot)
{
	KTableScan	scan = (KTableScan) sscan;

	ExecClearTuple(slot);
	if (!ktable_reader_next(scan->cursor.reader, slot->tts_values, slot->tts_isnull))
		return false;
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(sscan->rs_rd);
	*liverows += 1;
	return true;
}

/* ------------------------------------------------------------------------
 * One row again: see ktable_tid.c
 * ------------------------------------------------------------------------
 */

bool
ktable_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	KTableReader *reader;
	int32		partition;
	int64		offset;
	bool		found;

	ExecClearTuple(slot);
	if (!ktable_tid_find(RelationGetRelid(rel), tid, &partition, &offset))
		return false;
	reader = ktable_reader_open(rel, partition, offset, offset + 1, KTABLE_ALL_COLUMNS);
	found = ktable_reader_next(reader, slot->tts_values, slot->tts_isnull);
	if (found)
	{
		ExecStoreVirtualTuple(slot);
		ExecMaterializeSlot(slot);
		slot->tts_tableOid = RelationGetRelid(rel);
		slot->tts_tid = *tid;
	}
	ktable_reader_close(reader);
	return found;
}
