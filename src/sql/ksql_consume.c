/*
 * ksql_consume.c
 *		Consuming from SQL: kafka.consume, kafka.wait_group.  README.md has the rules.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "log/klog.h"
#include "sql/ksql.h"
#include "table/ktable.h"

PG_FUNCTION_INFO_V1(ksql_consume);
PG_FUNCTION_INFO_V1(ksql_wait_group);

/* A call returns so many bytes of keys and values, and the record that goes over it. */
#define CONSUME_BYTES	(50 * 1024 * 1024)

/* How often to look whether others have given partitions back without a word: a COMMIT PREPARED. */
#define CLAIMED_LOOK_MS	1000

/* ------------------------------------------------------------------------
 * The end of a claim: others who wait should look
 * ------------------------------------------------------------------------
 */

/* Slots of klog_wait_slot() of the topics that this transaction has claims on. */
static uint64 claimed_slots;

static void
wake_waiting(void)
{
	for (int i = 0; i < KLOG_WAIT_SLOTS; i++)
	{
		if (claimed_slots & (UINT64CONST(1) << i))
			klog_wait_wake(i);
	}
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (claimed_slots == 0)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			wake_waiting();
			claimed_slots = 0;
			break;
		case XACT_EVENT_PREPARE:
			claimed_slots = 0;
			break;
		default:
			break;
	}
}

static void
subtransaction_ends(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		wake_waiting();
}

static void
claim_begins(Oid relid)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(transaction_ends, NULL);
		RegisterSubXactCallback(subtransaction_ends, NULL);
		registered = true;
	}
	claimed_slots |= UINT64CONST(1) << klog_wait_slot(relid);
}

/* ------------------------------------------------------------------------
 * Waiting
 * ------------------------------------------------------------------------
 */
typedef enum Found
{
	FOUND_NOTHING,
	FOUND_CLAIMED,				/* others have partitions that may have records */
	FOUND_RECORDS
} Found;

/* Is there a partition with records that nobody has claimed? */
static Found
look(Relation rel, const KTopic *topic, KStr group)
{
	KCoordTable table;
	KUuid		id;
	Found		found = FOUND_NOTHING;

	memcpy(id.b, topic->id.data, UUID_LEN);
	ksql_offsets_open(&table, AccessShareLock);
	for (int32 i = 0; found != FOUND_RECORDS && i < topic->partitions; i++)
	{
		KLogPartition *part = klog_attach(rel, i, false);
		int64		start = klog_log_start(part);
		int64		end = klog_high_watermark(part);
		int64		committed;

		CHECK_FOR_INTERRUPTS();
		if (end <= start)
			continue;
		if (!kcoord_offset_peek(&table, group, &id, i, &committed))
			found = FOUND_CLAIMED;
		else if (Max(committed, start) < end)
			found = FOUND_RECORDS;
		else
			ksql_check_committed(topic, i, committed, klog_end_offset(part));
	}
	kcoord_table_close(&table);
	return found;
}

typedef struct Wait
{
	const char *topic;
	KStr		group;
	int64		ms;
	bool		release;		/* end the transaction while there is nothing */
} Wait;

/*
 * Waits until there is something to be claimed, or the time is over.  No lock on the topic is held
 * meanwhile: a DROP TABLE need not wait for a consumer.
 */
static void
wait_for_records(const Wait *wait)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait->ms);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "kafka_pg look",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (;;)
	{
		const KTopic *topic;
		Relation	rel;
		Found		found;
		int			slot;
		long		left;

		MemoryContextReset(context);
		rel = ksql_open_topic(wait->topic, KSQL_READ, AccessShareLock, &topic);
		slot = klog_wait_slot(RelationGetRelid(rel));
		klog_wait_prepare(slot);
		kcoord_session_check(wait->group);
		found = look(rel, topic, wait->group);
		table_close(rel, AccessShareLock);
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (found == FOUND_RECORDS || left <= 0)
			break;
		if (found == FOUND_CLAIMED)
			left = Min(left, CLAIMED_LOOK_MS);
		if (wait->release)
		{
			MemoryContextSwitchTo(old);
			SPI_commit();
			MemoryContextSwitchTo(context);
		}
		klog_wait_sleep(slot, left);
	}
	klog_wait_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * CALL kafka.wait_group(group_id text, topic text, max_wait interval)
 *
 * Ends when kafka.consume would find records, or after max_wait.  Between its looks it is in no
 * transaction that has a snapshot or a lock.
 */
Datum
ksql_wait_group(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	MemoryContext old;
	Wait		wait;

	KSQL_NOT_NULL(0, "group_id");
	KSQL_NOT_NULL(1, "topic");
	KSQL_NOT_NULL(2, "max_wait");
	if (!IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("kafka.wait_group cannot run inside a transaction block"),
				 errhint("It gives its snapshot back while it waits. In a transaction use kafka.consume with max_wait.")));
	PreventCommandDuringRecovery("kafka.wait_group()");

	/* the arguments must outlive the transactions in between */
	context = AllocSetContextCreate(PortalContext, "kafka.wait_group", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	wait.topic = text_to_cstring(PG_GETARG_TEXT_PP(1));
	wait.group = ksql_group_id(PG_GETARG_TEXT_P_COPY(0));
	wait.ms = ksql_interval_ms(PG_GETARG_INTERVAL_P(2), "max_wait");
	wait.release = true;
	MemoryContextSwitchTo(old);

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	wait_for_records(&wait);
	SPI_finish();
	MemoryContextDelete(context);
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * kafka.consume
 * ------------------------------------------------------------------------
 */
typedef struct Consume
{
	const KTopic *topic;
	Relation	rel;
	KStr		group;
	KCoordTable offsets;
	ReturnSetInfo *result;
	int32		records_left;
	int64		bytes_left;
} Consume;

static int64
datum_bytes(Datum value, bool isnull)
{
	return isnull ? 0 : VARSIZE_ANY(DatumGetPointer(value));
}

/* Returns records of a claimed partition; the offset to go on from. */
static int64
read_records(Consume *consume, int32 partition, int64 from, int64 limit)
{
	KTableReader *reader = ktable_reader_open(consume->rel, partition, from, limit,
											  KTABLE_ALL_COLUMNS);
	int64		next = limit;
	Datum		values[KTABLE_NCOLUMNS];
	bool		isnull[KTABLE_NCOLUMNS];

	while (ktable_reader_next(reader, values, isnull))
	{
		tuplestore_putvalues(consume->result->setResult, consume->result->setDesc, values,
							 isnull);
		consume->records_left--;
		consume->bytes_left -= datum_bytes(values[KTABLE_KEY], isnull[KTABLE_KEY]) +
			datum_bytes(values[KTABLE_VALUE], isnull[KTABLE_VALUE]);
		if (consume->records_left == 0 || consume->bytes_left <= 0)
		{
			next = DatumGetInt64(values[KTABLE_OFFSET]) + 1;
			break;
		}
	}
	ktable_reader_close(reader);
	return next;
}

static void
consume_partition(Consume *consume, int32 partition)
{
	KLogPartition *part = klog_attach(consume->rel, partition, false);
	int64		limit = ktable_visible_end(consume->rel, partition);
	int64		start = klog_log_start(part);
	KCoordOffset offset;
	KCoordClaim claim;
	int64		committed;

	if (limit <= start)
		return;
	offset = ksql_offset(consume->topic, partition, start);
	if (!kcoord_offset_peek(&consume->offsets, consume->group, &offset.topic_id, partition,
							&committed))
		return;
	ksql_check_committed(consume->topic, partition, committed, klog_end_offset(part));
	if (committed >= limit)
		return;

	/* others may have been quicker since the peek: they hold it, or have moved it */
	if (!kcoord_offset_claim(&consume->offsets, consume->group, &offset, false, &claim))
		return;
	offset.offset = claim.offset;
	if (claim.offset < limit)
		offset.offset = read_records(consume, partition, Max(claim.offset, start), limit);
	if (offset.offset != claim.offset)
		kcoord_offset_move(&consume->offsets, consume->group, &claim, &offset);
}

/*
 * kafka.consume(group_id text, topic text, max_records int, max_wait interval)
 *		-> SETOF kafka.record
 */
Datum
ksql_consume(PG_FUNCTION_ARGS)
{
	/* each call begins with the next partition, so that none has to wait for ever */
	static uint32 turn = 0;
	Consume		consume = {
		.result = (ReturnSetInfo *) fcinfo->resultinfo,.bytes_left = CONSUME_BYTES
	};
	char	   *name;
	Wait		wait;

	KSQL_NOT_NULL(0, "group_id");
	KSQL_NOT_NULL(1, "topic");
	KSQL_NOT_NULL(2, "max_records");
	KSQL_NOT_NULL(3, "max_wait");
	consume.group = ksql_group_id(PG_GETARG_TEXT_PP(0));
	name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	consume.records_left = PG_GETARG_INT32(2);
	if (consume.records_left <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_records must be positive")));
	wait = (Wait)
	{
		.topic = name,.group = consume.group,
			.ms = ksql_interval_ms(PG_GETARG_INTERVAL_P(3), "max_wait")
	};
	PreventCommandIfReadOnly("kafka.consume()");
	PreventCommandIfParallelMode("kafka.consume()");
	PreventCommandDuringRecovery("kafka.consume()");
	InitMaterializedSRF(fcinfo, 0);

	if (wait.ms > 0)
		wait_for_records(&wait);
	consume.rel = ksql_open_topic(name, KSQL_READ, AccessShareLock, &consume.topic);
	kcoord_session_enter(consume.group);
	ksql_offsets_open(&consume.offsets, RowExclusiveLock);
	claim_begins(RelationGetRelid(consume.rel));
	if (turn == 0)
		turn = pg_prng_uint32(&pg_global_prng_state) | 1;
	turn++;
	for (int32 i = 0; i < consume.topic->partitions; i++)
	{
		CHECK_FOR_INTERRUPTS();
		consume_partition(&consume, (turn + (uint32) i) % consume.topic->partitions);
		if (consume.records_left == 0 || consume.bytes_left <= 0)
			break;
	}
	kcoord_table_close(&consume.offsets);
	table_close(consume.rel, NoLock);
	return (Datum) 0;
}
