/*
 * ksql_offset.c
 *		Committed offsets from SQL: kafka.commit_offset, kafka.committed_offset,
 *		kafka.reset_offsets.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "common/int.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "kguc.h"
#include "log/klog.h"
#include "sql/ksql.h"
#include "table/ktable_row.h"

PG_FUNCTION_INFO_V1(ksql_commit_offset);
PG_FUNCTION_INFO_V1(ksql_committed_offset);
PG_FUNCTION_INFO_V1(ksql_reset_offsets);

KStr
ksql_group_id(const text *argument)
{
	KStr		id = {VARDATA_ANY(argument), VARSIZE_ANY_EXHDR(argument)};

	if (id.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("group_id must not be empty")));
	if (id.len > KCOORD_ID_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("group_id is longer than %d bytes", KCOORD_ID_MAX)));
	return id;
}

void
ksql_offsets_open(KCoordTable *table, LOCKMODE mode)
{
	if (!kcoord_offset_open(table, mode, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table kafka.group_offset does not exist")));
}

KCoordOffset
ksql_offset(const KTopic *topic, int32 partition, int64 offset)
{
	KCoordOffset result = {
		.partition = partition,.offset = offset,.leader_epoch = -1,.metadata = {"", 0},
		.commit_ms = ktable_timestamp_to_ms(GetCurrentTimestamp()),

		/* no member keeps a group of sessions alive: its offsets do not expire */
		.expire_ms = PG_INT64_MAX
	};

	memcpy(result.topic_id.b, topic->id.data, UUID_LEN);
	return result;
}

void
ksql_check_committed(const KTopic *topic, int32 partition, int64 committed, int64 end)
{
	if (committed > end)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("committed offset " INT64_FORMAT " of partition %d of topic \"%s\" is behind the partition's end",
						committed, partition, topic->name),
				 errdetail("The partition's next offset is " INT64_FORMAT ".", end),
				 errhint("kafka.reset_offsets() sets another one.")));
}

/*
 * kafka.commit_offset(group_id text, topic text, partition int, "offset" bigint, metadata text)
 *
 * OffsetCommit of a consumer that is no member, in the caller's transaction.  As in Kafka the offset
 * may be any that there may ever be.
 */
Datum
ksql_commit_offset(PG_FUNCTION_ARGS)
{
	const KTopic *topic;
	KCoordTable table;
	KCoordOffset offset;
	KCoordClaim claim;
	Relation	rel;
	text	   *metadata;
	KStr		group;

	KSQL_NOT_NULL(0, "group_id");
	KSQL_NOT_NULL(1, "topic");
	KSQL_NOT_NULL(2, "partition");
	KSQL_NOT_NULL(3, "offset");
	KSQL_NOT_NULL(4, "metadata");
	group = ksql_group_id(PG_GETARG_TEXT_PP(0));
	metadata = PG_GETARG_TEXT_PP(4);
	if (PG_GETARG_INT64(3) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("offset must not be negative")));
	if ((int) VARSIZE_ANY_EXHDR(metadata) > kguc_max_offset_metadata)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("metadata is longer than %d bytes", kguc_max_offset_metadata),
				 errhint("The limit is kafka_pg.max_offset_metadata.")));
	PreventCommandIfReadOnly("kafka.commit_offset()");
	PreventCommandIfParallelMode("kafka.commit_offset()");
	PreventCommandDuringRecovery("kafka.commit_offset()");

	rel = ksql_open_topic(text_to_cstring(PG_GETARG_TEXT_PP(1)), KSQL_READ, AccessShareLock,
						  &topic);
	ksql_check_partition(topic, PG_GETARG_INT32(2));
	offset = ksql_offset(topic, PG_GETARG_INT32(2), PG_GETARG_INT64(3));
	offset.metadata = (KStr) {VARDATA_ANY(metadata), VARSIZE_ANY_EXHDR(metadata)};
	kcoord_session_enter(group);
	ksql_offsets_open(&table, RowExclusiveLock);
	(void) kcoord_offset_claim(&table, group, &offset, true, &claim);
	if (!claim.inserted)
		kcoord_offset_move(&table, group, &claim, &offset);
	kcoord_table_close(&table);
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}

/* kafka.committed_offset(group_id text, topic text, partition int) -> bigint; NULL: none */
Datum
ksql_committed_offset(PG_FUNCTION_ARGS)
{
	const KTopic *topic;
	KCoordTable table;
	KCoordOffset offset;
	Relation	rel;
	XLogRecPtr	lsn = InvalidXLogRecPtr;
	KStr		group;
	KUuid		id;
	bool		found;

	KSQL_NOT_NULL(0, "group_id");
	KSQL_NOT_NULL(1, "topic");
	KSQL_NOT_NULL(2, "partition");
	group = ksql_group_id(PG_GETARG_TEXT_PP(0));
	rel = ksql_open_topic(text_to_cstring(PG_GETARG_TEXT_PP(1)), KSQL_READ, AccessShareLock,
						  &topic);
	ksql_check_partition(topic, PG_GETARG_INT32(2));
	memcpy(id.b, topic->id.data, UUID_LEN);
	ksql_offsets_open(&table, AccessShareLock);
	found = kcoord_offset_get(&table, group, &id, PG_GETARG_INT32(2), &offset, &lsn);
	kcoord_table_close(&table);
	table_close(rel, AccessShareLock);
	if (!found)
		PG_RETURN_NULL();
	PG_RETURN_INT64(offset.offset);
}

/* ------------------------------------------------------------------------
 * kafka.reset_offsets
 * ------------------------------------------------------------------------
 */
typedef enum ResetTo
{
	RESET_EARLIEST,
	RESET_LATEST,
	RESET_OFFSET,
	RESET_TIME,
	RESET_SHIFT
} ResetTo;

typedef struct Reset
{
	ResetTo		to;
	int64		offset;			/* or how far */
	int64		ms;
} Reset;

/* Arguments 2 to 5: which one is given. */
static Reset
get_reset(FunctionCallInfo fcinfo)
{
	Reset		reset = {0};
	int			given = 0;

	for (int i = 2; i <= 5; i++)
		given += !PG_ARGISNULL(i);
	if (given != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("kafka.reset_offsets needs exactly one of strategy, target_offset, target_time and shift_by")));
	if (!PG_ARGISNULL(2))
	{
		char	   *strategy = text_to_cstring(PG_GETARG_TEXT_PP(2));

		if (strcmp(strategy, "earliest") == 0)
			reset.to = RESET_EARLIEST;
		else if (strcmp(strategy, "latest") == 0)
			reset.to = RESET_LATEST;
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unrecognized strategy \"%s\"", strategy),
					 errhint("Strategies are \"earliest\" and \"latest\".")));
	}
	else if (!PG_ARGISNULL(3))
	{
		reset.to = RESET_OFFSET;
		reset.offset = PG_GETARG_INT64(3);
		if (reset.offset < 0)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("target_offset must not be negative")));
	}
	else if (!PG_ARGISNULL(4))
	{
		reset.to = RESET_TIME;
		reset.ms = ksql_timestamp_ms(PG_GETARG_TIMESTAMPTZ(4));
	}
	else
	{
		reset.to = RESET_SHIFT;
		reset.offset = PG_GETARG_INT64(5);
	}
	return reset;
}

/* What kafka-consumer-groups would set, "committed" being -1 if there is none. */
static int64
reset_target(const Reset *reset, Relation rel, const KTopic *topic, int32 partition,
			 int64 committed)
{
	KLogPartition *part = klog_attach(rel, partition, false);
	int64		start = klog_log_start(part);
	int64		end = klog_high_watermark(part);
	int64		target = end;
	KLogFound	found;

	switch (reset->to)
	{
		case RESET_EARLIEST:
			target = start;
			break;
		case RESET_LATEST:
			break;
		case RESET_OFFSET:
			target = reset->offset;
			break;
		case RESET_TIME:
			found = klog_find_timestamp(rel, part, reset->ms, end, NULL);
			if (found.offset >= 0)
				target = found.offset;
			break;
		case RESET_SHIFT:
			if (committed < 0)
				ereport(ERROR,
						(errcode(ERRCODE_NO_DATA_FOUND),
						 errmsg("the group has no committed offset of partition %d of topic \"%s\" to be shifted",
								partition, topic->name)));
			if (pg_add_s64_overflow(committed, reset->offset, &target))
				target = reset->offset < 0 ? start : end;
			break;
	}
	return Min(Max(target, start), end);
}

/*
 * kafka.reset_offsets(group_id text, topic text, strategy text, target_offset bigint,
 *		target_time timestamptz, shift_by bigint)
 *		-> TABLE (topic text, partition int, "offset" bigint)
 *
 * kafka-consumer-groups --reset-offsets --topic of one topic, in the caller's transaction: as there,
 * offsets are brought into the range that the partition has, and a time later than all records
 * means the end.  Waits for sessions that consume just now.
 */
Datum
ksql_reset_offsets(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Reset		reset;
	const KTopic *topic;
	KCoordTable table;
	Relation	rel;
	KStr		group;

	KSQL_NOT_NULL(0, "group_id");
	KSQL_NOT_NULL(1, "topic");
	group = ksql_group_id(PG_GETARG_TEXT_PP(0));
	reset = get_reset(fcinfo);
	PreventCommandIfReadOnly("kafka.reset_offsets()");
	PreventCommandIfParallelMode("kafka.reset_offsets()");
	PreventCommandDuringRecovery("kafka.reset_offsets()");
	InitMaterializedSRF(fcinfo, 0);

	rel = ksql_open_topic(text_to_cstring(PG_GETARG_TEXT_PP(1)), KSQL_READ, AccessShareLock,
						  &topic);
	kcoord_session_enter(group);
	ksql_offsets_open(&table, RowExclusiveLock);
	for (int32 partition = 0; partition < topic->partitions; partition++)
	{
		KCoordOffset offset;
		KCoordClaim claim;
		Datum		values[3];
		bool		isnull[3] = {0};

		CHECK_FOR_INTERRUPTS();
		/* a row that is not there need not be shifted, and else -1 is not looked at */
		offset = ksql_offset(topic, partition, -1);
		if (reset.to != RESET_SHIFT)
			offset.offset = reset_target(&reset, rel, topic, partition, -1);
		(void) kcoord_offset_claim(&table, group, &offset, true, &claim);
		if (reset.to == RESET_SHIFT)
			offset.offset = reset_target(&reset, rel, topic, partition, claim.offset);
		if (!claim.inserted)
			kcoord_offset_move(&table, group, &claim, &offset);
		values[0] = CStringGetTextDatum(topic->name);
		values[1] = Int32GetDatum(partition);
		values[2] = Int64GetDatum(offset.offset);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	kcoord_table_close(&table);
	table_close(rel, NoLock);
	return (Datum) 0;
}
