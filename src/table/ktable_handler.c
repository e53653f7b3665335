/*
 * ktable_handler.c
 *		kafka_log as the server sees it: the table of callbacks.  It only wires; what can be done
 *		with a topic is in the other files of this folder, what cannot is refused here with a
 *		sentence that says what to do instead.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "table/ktable.h"
#include "table/ktable_insert.h"
#include "table/ktable_maintain.h"
#include "table/ktable_pending.h"
#include "table/ktable_plan.h"
#include "table/ktable_read.h"
#include "table/ktable_scan.h"
#include "topic/kcatalog.h"

PG_FUNCTION_INFO_V1(kafka_log_handler);

static const TableAmRoutine ktable_methods;

/* ------------------------------------------------------------------------
 * Shape
 * ------------------------------------------------------------------------
 */

static const struct
{
	const char *name;
	Oid			type;			/* InvalidOid: kafka.header[] */
}			ktable_columns[KTABLE_NCOLUMNS] =

{
	{"partition", INT4OID},
	{"offset", INT8OID},
	{"timestamp", TIMESTAMPTZOID},
	{"key", BYTEAOID},
	{"value", BYTEAOID},
	{"headers", InvalidOid}
};

Oid
ktable_header_type(void)
{
	Oid			type = kcatalog_type("header");

	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"kafka_pg\" is not installed in this database")));
	return type;
}

Oid
ktable_headers_type(void)
{
	return get_array_type(ktable_header_type());
}

bool
ktable_is_log(Relation rel)
{
	return rel->rd_tableam == &ktable_methods;
}

void
ktable_check_shape(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		good = desc->natts == KTABLE_NCOLUMNS;

	/* Seen to be good; whatever changes a relation's shape takes this away. */
	if (ktable_is_log(rel) && rel->rd_amcache != NULL)
		return;
	if (rel->rd_tableam != NULL && !ktable_is_log(rel))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a topic table", RelationGetRelationName(rel))));

	for (int i = 0; i < KTABLE_NCOLUMNS && good; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Oid			type = ktable_columns[i].type;

		if (!OidIsValid(type))
			type = ktable_headers_type();
		good = !att->attisdropped && att->atttypid == type && att->attgenerated == '\0' &&
			att->attidentity == '\0' && strcmp(NameStr(att->attname), ktable_columns[i].name) == 0;
	}
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" does not have the columns of a topic",
						RelationGetRelationName(rel)),
				 errdetail("A table of access method \"kafka_log\" has the columns partition integer, \"offset\" bigint, \"timestamp\" timestamp with time zone, key bytea, value bytea, headers kafka.header[]."),
				 errhint("Create topics with kafka.create_topic().")));
	if (rel->rd_rel->relrowsecurity)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("topic table \"%s\" cannot have row security",
						RelationGetRelationName(rel)),
				 errhint("Kafka clients read whole partitions; use ALTER TABLE ... DISABLE ROW LEVEL SECURITY.")));
	if (ktable_is_log(rel))
		rel->rd_amcache = MemoryContextAlloc(CacheMemoryContext, 1);
}

/* ------------------------------------------------------------------------
 * Refused
 * ------------------------------------------------------------------------
 */

static pg_attribute_noreturn() void
ktable_refuse(Relation rel, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot %s topic table \"%s\"", what, RelationGetRelationName(rel)),
			 errhint("%s", hint)));
}

void
ktable_refuse_update(Relation rel)
{
	ktable_refuse(rel, "update rows of",
				  "Records never change; produce a new one with the same key.");
}

void
ktable_refuse_delete(Relation rel)
{
	ktable_refuse(rel, "delete rows from",
				  "Set the topic's retention, or produce a record with the key and a null value to a compacted topic.");
}

void
ktable_refuse_lock(Relation rel)
{
	ktable_refuse(rel, "lock rows of",
				  "Records never change, so that they need no lock; use FOR UPDATE OF to name the other tables.");
}

static pg_attribute_noreturn() void
ktable_refuse_index(Relation rel)
{
	ktable_refuse(rel, "build an index on",
				  "Conditions on partition, \"offset\" and \"timestamp\" find their records without one; for others copy the records into an ordinary table.");
}

static pg_attribute_noreturn() void
ktable_refuse_conflict(Relation rel)
{
	ktable_refuse(rel, "use ON CONFLICT with",
				  "A topic keeps every record that is produced.");
}

static void
ktable_insert_speculative(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
						  struct BulkInsertStateData *bistate, uint32 token)
{
	ktable_refuse_conflict(rel);
}

static void
ktable_complete_speculative(Relation rel, TupleTableSlot *slot, uint32 token, bool succeeded)
{
	ktable_refuse_conflict(rel);
}

static TM_Result
ktable_delete(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot,
			  Snapshot crosscheck, bool wait, TM_FailureData *tmfd, bool changing_part)
{
	ktable_refuse_delete(rel);
	return TM_Invisible;
}

static TM_Result
ktable_update(Relation rel, ItemPointer otid, TupleTableSlot *slot, CommandId cid,
			  Snapshot snapshot, Snapshot crosscheck, bool wait, TM_FailureData *tmfd,
			  LockTupleMode *lockmode, TU_UpdateIndexes *update_indexes)
{
	ktable_refuse_update(rel);
	return TM_Invisible;
}

static TM_Result
ktable_lock(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot,
			CommandId cid, LockTupleMode mode, LockWaitPolicy wait_policy, uint8 flags,
			TM_FailureData *tmfd)
{
	ktable_refuse_lock(rel);
	return TM_Invisible;
}

static struct IndexFetchTableData *
ktable_index_fetch_begin(Relation rel)
{
	ktable_refuse_index(rel);
}

static void
ktable_index_fetch_reset(struct IndexFetchTableData *data)
{
	ktable_refuse_index(data->rel);
}

static void
ktable_index_fetch_end(struct IndexFetchTableData *data)
{
	ktable_refuse_index(data->rel);
}

static bool
ktable_index_fetch_tuple(struct IndexFetchTableData *scan, ItemPointer tid, Snapshot snapshot,
						 TupleTableSlot *slot, bool *call_again, bool *all_dead)
{
	ktable_refuse_index(scan->rel);
}

static TransactionId
ktable_index_delete_tuples(Relation rel, TM_IndexDeleteOp *delstate)
{
	ktable_refuse_index(rel);
}

static double
ktable_index_build_range_scan(Relation rel, Relation index_rel, struct IndexInfo *index_info,
							  bool allow_sync, bool anyvisible, bool progress,
							  BlockNumber start_block, BlockNumber nblocks,
							  IndexBuildCallback callback, void *callback_state,
							  TableScanDesc scan)
{
	ktable_refuse_index(rel);
}

static void
ktable_index_validate_scan(Relation rel, Relation index_rel, struct IndexInfo *index_info,
						   Snapshot snapshot, struct ValidateIndexState *state)
{
	ktable_refuse_index(rel);
}

/* The planner offers no parallel plan (ktable_plan.c); these are for those who do not ask it. */
static pg_attribute_noreturn() void
ktable_refuse_parallel(Relation rel)
{
	ktable_refuse(rel, "scan in parallel", "Set max_parallel_workers_per_gather to 0.");
}

static Size
ktable_parallelscan_estimate(Relation rel)
{
	ktable_refuse_parallel(rel);
}

static Size
ktable_parallelscan_initialize(Relation rel, ParallelTableScanDesc pscan)
{
	ktable_refuse_parallel(rel);
}

static void
ktable_parallelscan_reinitialize(Relation rel, ParallelTableScanDesc pscan)
{
	ktable_refuse_parallel(rel);
}

static pg_attribute_noreturn() void
ktable_refuse_ctid(Relation rel)
{
	ktable_refuse(rel, "find rows by ctid in", "Use the columns partition and \"offset\".");
}

static bool
ktable_tuple_tid_valid(TableScanDesc scan, ItemPointer tid)
{
	ktable_refuse_ctid(scan->rs_rd);
}

static void
ktable_tuple_get_latest_tid(TableScanDesc scan, ItemPointer tid)
{
	ktable_refuse_ctid(scan->rs_rd);
}

static void
ktable_scan_set_tidrange(TableScanDesc scan, ItemPointer mintid, ItemPointer maxtid)
{
	ktable_refuse_ctid(scan->rs_rd);
}

static bool
ktable_scan_getnextslot_tidrange(TableScanDesc scan, ScanDirection direction,
								 TupleTableSlot *slot)
{
	ktable_refuse_ctid(scan->rs_rd);
}

static bool
ktable_scan_sample_next_block(TableScanDesc scan, struct SampleScanState *state)
{
	ktable_refuse(scan->rs_rd, "use TABLESAMPLE on",
				  "Use a condition such as random() < 0.01, or a range of offsets.");
}

static bool
ktable_scan_sample_next_tuple(TableScanDesc scan, struct SampleScanState *state,
							  TupleTableSlot *slot)
{
	ktable_refuse(scan->rs_rd, "use TABLESAMPLE on",
				  "Use a condition such as random() < 0.01, or a range of offsets.");
}

/* ------------------------------------------------------------------------
 * The rest
 * ------------------------------------------------------------------------
 */

static const TupleTableSlotOps *
ktable_slot_callbacks(Relation rel)
{
	return &TTSOpsVirtual;
}

/* Rows are shown only once they are visible to everybody, and stay so. */
static bool
ktable_tuple_satisfies_snapshot(Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	return true;
}

static bool
ktable_needs_toast_table(Relation rel)
{
	return false;
}

static const TableAmRoutine ktable_methods = {
	.type = T_TableAmRoutine,

	.slot_callbacks = ktable_slot_callbacks,

	.scan_begin = ktable_scan_begin,
	.scan_end = ktable_scan_end,
	.scan_rescan = ktable_scan_rescan,
	.scan_getnextslot = ktable_scan_getnextslot,
	.scan_set_tidrange = ktable_scan_set_tidrange,
	.scan_getnextslot_tidrange = ktable_scan_getnextslot_tidrange,

	.parallelscan_estimate = ktable_parallelscan_estimate,
	.parallelscan_initialize = ktable_parallelscan_initialize,
	.parallelscan_reinitialize = ktable_parallelscan_reinitialize,

	.index_fetch_begin = ktable_index_fetch_begin,
	.index_fetch_reset = ktable_index_fetch_reset,
	.index_fetch_end = ktable_index_fetch_end,
	.index_fetch_tuple = ktable_index_fetch_tuple,

	.tuple_fetch_row_version = ktable_fetch_row_version,
	.tuple_tid_valid = ktable_tuple_tid_valid,
	.tuple_get_latest_tid = ktable_tuple_get_latest_tid,
	.tuple_satisfies_snapshot = ktable_tuple_satisfies_snapshot,
	.index_delete_tuples = ktable_index_delete_tuples,

	.tuple_insert = ktable_tuple_insert,
	.tuple_insert_speculative = ktable_insert_speculative,
	.tuple_complete_speculative = ktable_complete_speculative,
	.multi_insert = ktable_multi_insert,
	.tuple_delete = ktable_delete,
	.tuple_update = ktable_update,
	.tuple_lock = ktable_lock,

	.relation_set_new_filelocator = ktable_set_new_filelocator,
	.relation_nontransactional_truncate = ktable_nontransactional_truncate,
	.relation_copy_data = ktable_copy_data,
	.relation_copy_for_cluster = ktable_copy_for_cluster,
	.relation_vacuum = ktable_vacuum,
	.scan_analyze_next_block = ktable_analyze_next_block,
	.scan_analyze_next_tuple = ktable_analyze_next_tuple,
	.index_build_range_scan = ktable_index_build_range_scan,
	.index_validate_scan = ktable_index_validate_scan,

	.relation_size = table_block_relation_size,
	.relation_needs_toast_table = ktable_needs_toast_table,

	.relation_estimate_size = ktable_estimate_size,

	.scan_sample_next_block = ktable_scan_sample_next_block,
	.scan_sample_next_tuple = ktable_scan_sample_next_tuple
};

Datum
kafka_log_handler(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(&ktable_methods);
}

/* ------------------------------------------------------------------------
 * Transactions
 * ------------------------------------------------------------------------
 */

static void
ktable_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			ktable_pending_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			ktable_pending_prepare();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			ktable_pending_at_xact_end();
			ktable_read_at_xact_end();
			ktable_tid_at_xact_end();
			break;
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			ktable_read_at_xact_end();
			ktable_tid_at_xact_end();
			break;
	}
}

static void
ktable_subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
						void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		ktable_pending_subxact_abort(GetCurrentTransactionNestLevel());
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		ktable_pending_subxact_commit(GetCurrentTransactionNestLevel());
}

void
ktable_init(void)
{
	RegisterXactCallback(ktable_xact_callback, NULL);
	RegisterSubXactCallback(ktable_subxact_callback, NULL);
	ktable_plan_init();
}
