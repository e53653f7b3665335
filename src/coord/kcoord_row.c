/*
 * kcoord_row.c
 *		Rows of our own tables, written without waiting for anybody, or in a session.
 *
 * An ordinary upsert waits for the transaction that has locked the row, or is just inserting one
 * with the same key.  A broker must not; README.md says how it is done here.  The tables have one
 * index, their primary key's, and nothing that an executor would have to look after.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "coord/kcoord.h"
#include "kstop.h"
#include "topic/kcatalog.h"

#define MAX_KEYS	3

Datum
kcoord_varlena(const void *data, int len)
{
	bytea	   *result = palloc(Max(len, 0) + VARHDRSZ);

	SET_VARSIZE(result, Max(len, 0) + VARHDRSZ);
	if (len > 0)
		memcpy(VARDATA(result), data, len);
	return PointerGetDatum(result);
}

bool
kcoord_table_open(const char *name, const char *index, int ncolumns, LOCKMODE mode,
				  KCoordTable *table, bool *busy)
{
	Oid			relid = kcatalog_relation(name);
	Oid			index_id = kcatalog_relation(index);
	List	   *indexes;

	if (busy != NULL)
		*busy = false;
	if (!OidIsValid(relid) || !OidIsValid(index_id))
		return false;
	if (busy == NULL)
	{
		LockRelationOid(relid, mode);
		LockRelationOid(index_id, mode);
	}
	else if (!ConditionalLockRelationOid(relid, mode) ||
			 !ConditionalLockRelationOid(index_id, mode))
	{
		*busy = true;
		return false;
	}
	/* The locks may have come after a DROP EXTENSION. */
	table->rel = try_table_open(relid, NoLock);
	if (table->rel == NULL)
		return false;
	/* rows are taken to pieces in arrays of so many */
	if (RelationGetNumberOfAttributes(table->rel) != ncolumns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has other columns than it was made with", name)));
	indexes = RelationGetIndexList(table->rel);
	if (list_length(indexes) != 1 || linitial_oid(indexes) != index_id)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has other indexes than its primary key", name),
				 errhint("Drop them: brokers maintain the primary key only.")));
	list_free(indexes);
	table->index = index_open(index_id, NoLock);
	return true;
}

void
kcoord_table_close(KCoordTable *table)
{
	index_close(table->index, NoLock);
	table_close(table->rel, NoLock);
}

/* Conditions for the first nkeys columns. */
static void
make_keys(ScanKeyData *keys, const Datum *values, int nkeys, const Oid *equal)
{
	Assert(nkeys <= MAX_KEYS);
	for (int i = 0; i < nkeys; i++)
		ScanKeyInit(&keys[i], i + 1, BTEqualStrategyNumber, equal[i], values[i]);
}

/* Is somebody else writing the row that the scan has just returned? */
static bool
in_progress(const SnapshotData *dirty)
{
	return TransactionIdIsValid(dirty->xmin) || TransactionIdIsValid(dirty->xmax);
}

static bool
insert_entry(KCoordTable *table, HeapTuple tuple, Datum *values, bool *nulls)
{
	IndexInfo  *info = BuildIndexInfo(table->index);
	bool		unique;

	unique = index_insert(table->index, values, nulls, &tuple->t_self, table->rel,
						  UNIQUE_CHECK_PARTIAL, false, info);
	pfree(info);
	return unique;
}

static KCoordPut
insert_tuple(KCoordTable *table, HeapTuple tuple, Datum *values, bool *nulls)
{
	bool		unique;

	simple_heap_insert(table->rel, tuple);
	unique = insert_entry(table, tuple, values, nulls);
	if (!unique)
	{
		/* Somebody inserts the same key at this very moment; our row never was. */
		CommandCounterIncrement();
		simple_heap_delete(table->rel, &tuple->t_self);
	}
	return unique ? KCOORD_PUT : KCOORD_PUT_BUSY;
}

static KCoordPut
insert(KCoordTable *table, Datum *values, bool *nulls)
{
	ItemPointerData tid;

	return kcoord_row_insert(table, values, nulls, &tid);
}

static KCoordPut
update(KCoordTable *table, ItemPointer tid, Datum *values, bool *nulls, bool wait)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(table->rel), values, nulls);
	TM_FailureData failure;
	LockTupleMode lockmode;
	TM_Result	result;

	result = heap_update(table->rel, tid, tuple, GetCurrentCommandId(true), InvalidSnapshot, wait,
						 &failure, &lockmode);
	/* Our own update of the same version: its entry must be there, whatever it finds besides. */
	if (result == TM_Ok && !HeapTupleIsHeapOnly(tuple))
		(void) insert_entry(table, tuple, values, nulls);
	heap_freetuple(tuple);
	return result == TM_Ok ? KCOORD_PUT : KCOORD_PUT_BUSY;
}

/*
 * TM_Ok: the version that was found there is the row's last one, so that a copy of it is good.  (Our
 * snapshot is older than that look: its place cannot have been given to another row since.)
 */
static TM_Result
lock_row(KCoordTable *table, ItemPointer tid, bool wait)
{
	/* heap_lock_tuple() has it point into the buffer, which is not ours any more then */
	HeapTupleData row = {.t_self = *tid};
	TM_FailureData failure;
	TM_Result	result;
	Buffer		buffer;

	result = heap_lock_tuple(table->rel, &row, GetCurrentCommandId(true),
							 LockTupleNoKeyExclusive, wait ? LockWaitBlock : LockWaitSkip, false,
							 &buffer, &failure);
	ReleaseBuffer(buffer);
	return result;
}

KCoordPut
kcoord_row_put(KCoordTable *table, Datum *values, bool *nulls, int nkeys, const Oid *equal)
{
	ScanKeyData keys[MAX_KEYS];
	SnapshotData dirty;
	SysScanDesc scan;
	HeapTuple	old;
	ItemPointerData tid;
	bool		busy = false;
	bool		lock = false;

	/* what this transaction has written before is to be seen, and may be updated again */
	CommandCounterIncrement();
	InitDirtySnapshot(dirty);
	make_keys(keys, values, nkeys, equal);
	scan = systable_beginscan(table->rel, RelationGetRelid(table->index), true, &dirty, nkeys,
							  keys);
	old = systable_getnext(scan);
	if (HeapTupleIsValid(old))
	{
		busy = in_progress(&dirty);
		lock = (old->t_data->t_infomask & HEAP_XMAX_INVALID) == 0;
		tid = old->t_self;
	}
	systable_endscan(scan);
	if (busy)
		return KCOORD_PUT_BUSY;

	/*
	 * A row that somebody has, or had, locked: heap_update() that may not wait is not made for
	 * that.  Rows that are only ever written by brokers never come here.
	 */
	if (lock && lock_row(table, &tid, false) != TM_Ok)
		return KCOORD_PUT_BUSY;
	if (HeapTupleIsValid(old))
		return update(table, &tid, values, nulls, lock);
	return insert(table, values, nulls);
}

/* ------------------------------------------------------------------------
 * Rows in a session's transaction
 * ------------------------------------------------------------------------
 */

/*
 * As an UPDATE under REPEATABLE READ: what others have written since the transaction's snapshot
 * is not to be built upon.
 */
static void
check_snapshot(TransactionId xmin)
{
	if (IsolationUsesXactSnapshot() && !TransactionIdIsCurrentTransactionId(xmin) &&
		XidInMVCCSnapshot(xmin, GetTransactionSnapshot()))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update")));
}

/* The row with this key that is not deleted, *xid: who is just writing it. */
static HeapTuple
find_row(KCoordTable *table, const Datum *values, int nkeys, const Oid *equal, TransactionId *xid)
{
	ScanKeyData keys[MAX_KEYS];
	SnapshotData dirty;
	SysScanDesc scan;
	HeapTuple	row;

	InitDirtySnapshot(dirty);
	make_keys(keys, values, nkeys, equal);
	scan = systable_beginscan(table->rel, RelationGetRelid(table->index), true, &dirty, nkeys,
							  keys);
	row = systable_getnext(scan);
	*xid = InvalidTransactionId;
	if (HeapTupleIsValid(row))
	{
		row = heap_copytuple(row);
		*xid = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
	}
	systable_endscan(scan);
	return row;
}

KCoordPut
kcoord_row_peek(KCoordTable *table, const Datum *values, int nkeys, const Oid *equal,
				HeapTuple *row)
{
	TransactionId xid;

	*row = find_row(table, values, nkeys, equal, &xid);
	return TransactionIdIsValid(xid) ? KCOORD_PUT_BUSY : KCOORD_PUT;
}

/* One attempt: BUSY: *xid, if it is valid, is in the way; else look again. */
static KCoordPut
try_lock(KCoordTable *table, const Datum *values, int nkeys, const Oid *equal, bool wait,
		 HeapTuple *row, TransactionId *xid)
{
	/* what this transaction has written before may be written again */
	CommandCounterIncrement();
	*row = find_row(table, values, nkeys, equal, xid);
	if (TransactionIdIsValid(*xid))
		return KCOORD_PUT_BUSY;
	if (*row == NULL)
		return KCOORD_PUT;
	if (lock_row(table, &(*row)->t_self, wait) != TM_Ok)
		return KCOORD_PUT_BUSY;
	KSTOP("group-row-locked");
	check_snapshot(HeapTupleHeaderGetXmin((*row)->t_data));
	return KCOORD_PUT;
}

KCoordPut
kcoord_row_lock(KCoordTable *table, const Datum *values, int nkeys, const Oid *equal, bool wait,
				HeapTuple *row)
{
	for (;;)
	{
		TransactionId xid;
		KCoordPut	result = try_lock(table, values, nkeys, equal, wait, row, &xid);

		if (result == KCOORD_PUT || !wait)
			return result;
		CHECK_FOR_INTERRUPTS();
		if (TransactionIdIsValid(xid))
			XactLockTableWait(xid, table->rel, &(*row)->t_self, XLTW_Update);
	}
}

KCoordPut
kcoord_row_insert(KCoordTable *table, Datum *values, bool *nulls, ItemPointer tid)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(table->rel), values, nulls);
	KCoordPut	result = insert_tuple(table, tuple, values, nulls);

	*tid = tuple->t_self;
	heap_freetuple(tuple);
	return result;
}

void
kcoord_row_update(KCoordTable *table, ItemPointer tid, Datum *values, bool *nulls)
{
	CommandCounterIncrement();
	/* there is nothing to wait for, but heap_update() sees our own lock only if it may */
	if (update(table, tid, values, nulls, true) != KCOORD_PUT)
		elog(ERROR, "a locked row was changed");
}

KCoordPut
kcoord_row_delete(KCoordTable *table, Datum *values, int nkeys, const Oid *equal)
{
	ScanKeyData keys[MAX_KEYS];
	SnapshotData dirty;
	SysScanDesc scan;
	HeapTuple	old;
	KCoordPut	result = KCOORD_PUT;

	CommandCounterIncrement();
	InitDirtySnapshot(dirty);
	make_keys(keys, values, nkeys, equal);
	scan = systable_beginscan(table->rel, RelationGetRelid(table->index), true, &dirty, nkeys,
							  keys);
	while (result == KCOORD_PUT && HeapTupleIsValid(old = systable_getnext(scan)))
	{
		TM_FailureData failure;

		if (in_progress(&dirty) ||
			heap_delete(table->rel, &old->t_self, GetCurrentCommandId(true), InvalidSnapshot,
						false, &failure, false) != TM_Ok)
			result = KCOORD_PUT_BUSY;
	}
	systable_endscan(scan);
	return result;
}
