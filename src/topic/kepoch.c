/*
 * kepoch.c
 *		The leader epoch, and the cluster's id.
 *
 * One epoch serves all partitions: the row of kafka.leader_epoch, which names the server (system
 * identifier) and timeline that it belongs to.  A server that finds another one in it was promoted,
 * restored or upgraded, and must have a new epoch durable before anybody appends: a client that
 * asks where an old epoch ended finds divergence only if what follows has another number.  The
 * timeline alone would not do; it can go backwards (pg_upgrade, restore).
 *
 * Shared memory has the epoch once it is known to be right, so that appenders pay a lock-free read.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lmgr.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "topic/kcatalog.h"
#include "topic/ktopic.h"

/* How long an appender waits for the launcher. */
#define KEPOCH_WAIT_MS	10000

#define KEPOCH_UNKNOWN	(-1)

typedef struct KEpochShared
{
	pg_atomic_uint32 epoch;		/* an int32; KEPOCH_UNKNOWN: not known to be right yet */
	ConditionVariable known;
} KEpochShared;

static KEpochShared *shared;

/* The row of kafka.leader_epoch. */
typedef struct EpochRow
{
	int64		system_identifier;
	int32		timeline;
	int32		epoch;
	bool		committed;		/* not this transaction's own */
} EpochRow;

Size
kepoch_shmem_size(void)
{
	return sizeof(KEpochShared);
}

void
kepoch_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("kafka_pg leader epoch", kepoch_shmem_size(), &found);
	if (!found)
	{
		pg_atomic_init_u32(&shared->epoch, (uint32) KEPOCH_UNKNOWN);
		ConditionVariableInit(&shared->known);
	}
}

static int32
known_epoch(void)
{
	return (int32) pg_atomic_read_u32(&shared->epoch);
}

static void
publish_epoch(int32 epoch)
{
	pg_atomic_write_u32(&shared->epoch, (uint32) epoch);
	ConditionVariableBroadcast(&shared->known);
}

/*
 * The newest committed row, or this transaction's own; false when there is none, or, with nowait,
 * the table is locked.
 */
static bool
read_row(EpochRow *row, bool nowait)
{
	Oid			relid = kcatalog_relation("leader_epoch");
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found;

	if (!OidIsValid(relid) ||
		(nowait && !ConditionalLockRelationOid(relid, AccessShareLock)))
		return false;
	rel = try_table_open(relid, nowait ? NoLock : AccessShareLock);
	if (rel == NULL)
		return false;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		TupleDesc	desc = RelationGetDescr(rel);
		bool		isnull;

		row->system_identifier =
			DatumGetInt64(heap_getattr(tuple, Anum_leader_epoch_system_identifier, desc, &isnull));
		row->timeline = DatumGetInt32(heap_getattr(tuple, Anum_leader_epoch_timeline, desc,
												   &isnull));
		row->epoch = DatumGetInt32(heap_getattr(tuple, Anum_leader_epoch_epoch, desc, &isnull));
		row->committed =
			!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static bool
row_is_ours(const EpochRow *row)
{
	return row->system_identifier == (int64) GetSystemIdentifier() &&
		row->timeline == (int32) GetWALInsertionTimeLine();
}

/*
 * Makes the row ours in the current transaction and returns its epoch.  Somebody else who does the
 * same at this time is waited for.
 */
static int32
claim_row(void)
{
	Oid			types[] = {INT8OID, INT4OID, INT4OID};
	EpochRow	row;
	int32		epoch;
	Datum		values[3];
	bool		found;

	LockRelationOid(kcatalog_relation("leader_epoch"), ShareRowExclusiveLock);
	found = read_row(&row, false);
	if (found && row_is_ours(&row))
		return row.epoch;

	/* After DROP and CREATE EXTENSION go on from what this server has used already. */
	epoch = found ? row.epoch + 1 : Max(known_epoch(), 0);
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = Int32GetDatum((int32) GetWALInsertionTimeLine());
	values[2] = Int32GetDatum(epoch);
	SPI_connect();
	if (SPI_execute_with_args(found ?
							  "UPDATE kafka.leader_epoch SET system_identifier = $1, timeline = $2, epoch = $3" :
							  "INSERT INTO kafka.leader_epoch VALUES ($1, $2, $3)",
							  lengthof(types), types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not write kafka.leader_epoch");
	SPI_finish();
	return epoch;
}

bool
kepoch_startup(void)
{
	int32		epoch = KEPOCH_UNKNOWN;
	bool		wrote;

	Assert(!RecoveryInProgress());
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(kcatalog_relation("leader_epoch")))
		epoch = claim_row();
	wrote = TransactionIdIsValid(GetTopTransactionIdIfAny());
	PopActiveSnapshot();
	CommitTransactionCommand();

	if (epoch == KEPOCH_UNKNOWN)
		return false;

	/*
	 * Our commit may have been asynchronous.  If the row was right already, its commit precedes
	 * all that will be appended, and is durable when that is.
	 */
	if (wrote)
		XLogFlush(XactLastCommitEnd);
	publish_epoch(epoch);
	return true;
}

int32
kepoch_current(void)
{
	TimestampTz deadline = 0;
	int32		epoch = known_epoch();
	EpochRow	row;

	if (epoch != KEPOCH_UNKNOWN)
		return epoch;
	if (RecoveryInProgress())
		return kepoch_latest();

	for (;;)
	{
		long		left;

		/*
		 * A row that names this server needs no new epoch: the launcher has not come so far, or
		 * the extension was created a moment ago, perhaps by this very transaction (then it is for
		 * this transaction alone).
		 */
		if (read_row(&row, false) && row_is_ours(&row))
		{
			if (row.committed)
				publish_epoch(row.epoch);
			break;
		}
		if (deadline == 0)
		{
			deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), KEPOCH_WAIT_MS);
			ConditionVariablePrepareToSleep(&shared->known);
			continue;			/* it may have come before we were on the list */
		}
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (left <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the leader epoch of this server is not set"),
					 errhint("The launcher of kafka_pg does that after a start or promotion: see the server log for its errors.")));
		ConditionVariableTimedSleep(&shared->known, left, PG_WAIT_EXTENSION);
		row.epoch = known_epoch();
		if (row.epoch != KEPOCH_UNKNOWN)
			break;
	}
	if (deadline != 0)
		ConditionVariableCancelSleep();
	return row.epoch;
}

bool
kepoch_known(int32 *epoch)
{
	EpochRow	row;

	*epoch = known_epoch();
	if (*epoch == KEPOCH_UNKNOWN && !RecoveryInProgress() && read_row(&row, true) &&
		row.committed && row_is_ours(&row))
	{
		*epoch = row.epoch;
		publish_epoch(row.epoch);
	}
	return *epoch != KEPOCH_UNKNOWN;
}

int32
kepoch_latest(void)
{
	int32		epoch = known_epoch();
	EpochRow	row;

	if (epoch != KEPOCH_UNKNOWN)
		return epoch;
	return read_row(&row, true) ? row.epoch : 0;
}

PG_FUNCTION_INFO_V1(kepoch_claim_sql);

/* kafka.leader_epoch_claim(): for the extension's script. */
Datum
kepoch_claim_sql(PG_FUNCTION_ARGS)
{
	if (shared == NULL)
		elog(ERROR, "kafka_pg has no shared memory");
	PG_RETURN_INT32(claim_row());
}

const char *
kcluster_id(void)
{
	Oid			relid = kcatalog_relation("cluster");
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *id = NULL;

	rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;
	if (rel == NULL)
		return NULL;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		id = TextDatumGetCString(heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return id;
}
