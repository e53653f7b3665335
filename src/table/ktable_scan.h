/*
 * ktable_scan.h
 *		Plain scans through the access method; private to src/table.
 */
#ifndef KTABLE_SCAN_H
#define KTABLE_SCAN_H

#include "access/tableam.h"

#include "compat.h"

extern TableScanDesc ktable_scan_begin(Relation rel, Snapshot snapshot, int nkeys,
									   struct ScanKeyData *key, ParallelTableScanDesc pscan,
									   uint32 flags);
extern void ktable_scan_end(TableScanDesc scan);
extern void ktable_scan_rescan(TableScanDesc scan, struct ScanKeyData *key, bool set_params,
							   bool allow_strat, bool allow_sync, bool allow_pagemode);
extern bool ktable_scan_getnextslot(TableScanDesc scan, ScanDirection direction,
									TupleTableSlot *slot);
extern bool ktable_analyze_next_block(TableScanDesc scan, KCOMPAT_ANALYZE_PARAMS);
extern bool ktable_analyze_next_tuple(TableScanDesc scan, TransactionId oldest_xmin,
									  double *liverows, double *deadrows, TupleTableSlot *slot);
extern bool ktable_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot,
									 TupleTableSlot *slot);

#endif							/* KTABLE_SCAN_H */
