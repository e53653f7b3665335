/*
 * kfloor.c
 *		Floors: kafka.partition, which a dump has, and what the log asks and tells of it.
 *
 * The keeper writes a row when a partition ends in dead batches, which a dump leaves out.  A
 * partition whose state is built reads it; one that is in use already, because the rows of a
 * restore come in any order, is told when the transaction that wrote it commits.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "kafka_pg.h"
#include "log/klog.h"
#include "topic/kcatalog.h"
#include "topic/ktopic.h"

/* Rows written by this transaction, in its memory. */
typedef struct Floor
{
	struct Floor *next;
	SubTransactionId subid;
	Oid			relid;
	int32		partition;
	int64		log_start;
	int64		next_offset;
} Floor;

static Floor *floors = NULL;

/* klog_on_build()'s callback */
static bool
floor_read(Relation topic, int32 partition, bool nowait, int64 *log_start, int64 *next_offset)
{
	Oid			catalog = kcatalog_relation("partition");
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key[2];
	HeapTuple	tuple;

	*log_start = *next_offset = 0;
	if (!OidIsValid(catalog))
		return true;
	if (!nowait)
		LockRelationOid(catalog, AccessShareLock);
	else if (!ConditionalLockRelationOid(catalog, AccessShareLock))
		return false;
	rel = try_table_open(catalog, NoLock);
	if (rel == NULL)
		return true;

	/* regclass has no operators of its own: the index is one on oid */
	ScanKeyInit(&key[0], Anum_partition_table, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(topic)));
	ScanKeyInit(&key[1], Anum_partition_partition, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(partition));
	scan = systable_beginscan(rel, kcatalog_relation("partition_pkey"), true, NULL, 2, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		*log_start = DatumGetInt64(heap_getattr(tuple, Anum_partition_log_start,
												RelationGetDescr(rel), &isnull));
		*next_offset = DatumGetInt64(heap_getattr(tuple, Anum_partition_next_offset,
												  RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return true;
}

/* klog_on_dead_end()'s callback */
static bool
floor_write(Relation topic, int32 partition, int64 log_start, int64 next_offset)
{
	Oid			catalog = kcatalog_relation("partition");
	Oid			types[] = {REGCLASSOID, INT4OID, INT8OID, INT8OID};
	Datum		values[] = {
		ObjectIdGetDatum(RelationGetRelid(topic)),
		Int32GetDatum(partition),
		Int64GetDatum(log_start),
		Int64GetDatum(next_offset)
	};

	if (!OidIsValid(catalog))
		return true;
	if (!ConditionalLockRelationOid(catalog, RowExclusiveLock))
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (SPI_execute_with_args("INSERT INTO kafka.partition AS p "
							  "(\"table\", partition, log_start, next_offset) "
							  "VALUES ($1, $2, $3, $4) "
							  "ON CONFLICT (\"table\", partition) DO UPDATE SET "
							  "log_start = greatest(p.log_start, excluded.log_start), "
							  "next_offset = excluded.next_offset "
							  "WHERE p.next_offset < excluded.next_offset",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write kafka.partition");
	SPI_finish();
	PopActiveSnapshot();
	return true;
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT)
		return;
	if (event != XACT_EVENT_ABORT)
		for (Floor *floor = floors; floor != NULL; floor = floor->next)
			klog_raise_floor(floor->relid, floor->partition, floor->log_start,
							 floor->next_offset);
	floors = NULL;				/* goes with its context */
}

static void
subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	Floor	  **link = &floors;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (*link != NULL)
	{
		Floor	   *floor = *link;

		if (floor->subid == subid && event == SUBXACT_EVENT_ABORT_SUB)
		{
			*link = floor->next;
			continue;
		}
		if (floor->subid == subid)
			floor->subid = parent;
		link = &floor->next;
	}
}

void
kfloor_init(void)
{
	klog_on_build(floor_read);
	klog_on_dead_end(floor_write);
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

PG_FUNCTION_INFO_V1(kfloor_changed);

/* Trigger of kafka.partition, for each row */
Datum
kfloor_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	Floor	   *floor;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != kcatalog_relation("partition"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a row trigger of kafka.partition",
						"kfloor_changed")));
	if (!kafka_pg_in_database())
		PG_RETURN_POINTER(NULL);
	desc = RelationGetDescr(trigger->tg_relation);
	tuple = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple :
		trigger->tg_trigtuple;

	floor = MemoryContextAlloc(TopTransactionContext, sizeof(Floor));
	floor->subid = GetCurrentSubTransactionId();
	floor->relid = DatumGetObjectId(heap_getattr(tuple, Anum_partition_table, desc, &isnull));
	floor->partition = DatumGetInt32(heap_getattr(tuple, Anum_partition_partition, desc, &isnull));
	floor->log_start = DatumGetInt64(heap_getattr(tuple, Anum_partition_log_start, desc, &isnull));
	floor->next_offset = DatumGetInt64(heap_getattr(tuple, Anum_partition_next_offset, desc,
													&isnull));
	floor->next = floors;
	floors = floor;
	PG_RETURN_POINTER(NULL);
}
