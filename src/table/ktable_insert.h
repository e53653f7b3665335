/*
 * ktable_insert.h
 *		Rows into the log: INSERT and COPY; private to src/table.
 */
#ifndef KTABLE_INSERT_H
#define KTABLE_INSERT_H

#include "access/tableam.h"
#include "log/klog.h"

extern void ktable_tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
								struct BulkInsertStateData *bistate);
extern void ktable_multi_insert(Relation rel, TupleTableSlot **slots, int nslots, CommandId cid,
								int options, struct BulkInsertStateData *bistate);

/* Appends n batches to a partition of a relation that is locked for it; ERROR if that fails. */
extern void ktable_append_batches(Relation rel, int32 partition, KLogAppend *how,
								  KLogBatch *batches, int n);

#endif							/* KTABLE_INSERT_H */
