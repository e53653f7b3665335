/*
 * ksql_record.c
 *		Records from SQL: kafka.produce, kafka.fetch, kafka.wait, kafka.offset_at.
 */
#include "postgres.h"

#include <math.h>

#include "access/table.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "log/klog.h"
#include "sql/ksql.h"
#include "table/ktable.h"
#include "table/ktable_row.h"
#include "topic/ktopic.h"

PG_FUNCTION_INFO_V1(ksql_produce);
PG_FUNCTION_INFO_V1(ksql_produce_jsonb);
PG_FUNCTION_INFO_V1(ksql_fetch);
PG_FUNCTION_INFO_V1(ksql_wait);
PG_FUNCTION_INFO_V1(ksql_offset_at);

Relation
ksql_open_topic(const char *name, KSqlRight right, LOCKMODE lockmode, const KTopic **topic)
{
	Relation	rel = NULL;
	Oid			tried = InvalidOid;
	bool		may;

	while (rel == NULL)
	{
		*topic = ktopic_get(name);
		may = right == KSQL_READ ? kacl_topic_read((*topic)->relid, GetUserId()) :
			kacl_topic_write((*topic)->relid, GetUserId());
		if (!may)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for topic \"%s\"", name),
					 errhint(right == KSQL_READ ?
							 "Reading a topic needs SELECT on its table." :
							 "Producing to a topic needs INSERT on its table.")));

		/* Dropped until the lock was there, and perhaps made anew: the lock brought the news. */
		if ((*topic)->relid == tried)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("topic \"%s\" does not exist", name)));
		tried = (*topic)->relid;
		rel = try_table_open(tried, lockmode);
	}
	ktable_check_shape(rel);
	return rel;
}

void
ksql_check_partition(const KTopic *topic, int32 partition)
{
	if (partition < 0 || partition >= topic->partitions)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("topic \"%s\" has no partition %d", topic->name, partition),
				 topic->partitions == 1 ?
				 errhint("Its only partition is 0.") :
				 errhint("Its partitions are 0 to %d.", topic->partitions - 1)));
}

int64
ksql_interval_ms(const Interval *interval, const char *name)
{
	const double max = 1e12;
	double		days = (double) interval->month * DAYS_PER_MONTH + interval->day;
	double		ms = days * SECS_PER_DAY * 1000 + ceil(interval->time / 1000.0);

	if (ms < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	return (int64) Min(ms, max);
}

int64
ksql_timestamp_ms(TimestampTz timestamp)
{
	int64		ms = ktable_timestamp_to_ms(timestamp);

	if (!TIMESTAMP_NOT_FINITE(timestamp) && ktable_timestamp_from_ms(ms) < timestamp)
		ms++;
	return ms;
}

/*
 * The arguments of all forms of kafka.produce are (topic, value, key, headers, partition,
 * "timestamp"); text, json and bytea look alike inside, only a jsonb must be written out.
 */
static Datum
produce(FunctionCallInfo fcinfo, Datum value)
{
	Datum		values[KTABLE_NCOLUMNS] = {0};
	bool		isnull[KTABLE_NCOLUMNS];
	const KTopic *topic;
	Relation	rel;
	int32		partition;

	KSQL_NOT_NULL(0, "topic");
	memset(isnull, true, sizeof(isnull));
	isnull[KTABLE_VALUE] = PG_ARGISNULL(1);
	values[KTABLE_VALUE] = value;
	isnull[KTABLE_KEY] = PG_ARGISNULL(2);
	values[KTABLE_KEY] = PG_GETARG_DATUM(2);
	isnull[KTABLE_HEADERS] = PG_ARGISNULL(3);
	values[KTABLE_HEADERS] = PG_GETARG_DATUM(3);
	isnull[KTABLE_PARTITION] = PG_ARGISNULL(4);
	values[KTABLE_PARTITION] = PG_GETARG_DATUM(4);
	isnull[KTABLE_TIMESTAMP] = PG_ARGISNULL(5);
	values[KTABLE_TIMESTAMP] = PG_GETARG_DATUM(5);

	PreventCommandIfReadOnly("kafka.produce()");
	PreventCommandIfParallelMode("kafka.produce()");
	PreventCommandDuringRecovery("kafka.produce()");

	rel = ksql_open_topic(text_to_cstring(PG_GETARG_TEXT_PP(0)), KSQL_WRITE, RowExclusiveLock,
						  &topic);
	if (!isnull[KTABLE_PARTITION])
		ksql_check_partition(topic, DatumGetInt32(values[KTABLE_PARTITION]));
	partition = ktable_produce(rel, values, isnull);
	table_close(rel, NoLock);
	PG_RETURN_INT32(partition);
}

Datum
ksql_produce(PG_FUNCTION_ARGS)
{
	return produce(fcinfo, PG_GETARG_DATUM(1));
}

Datum
ksql_produce_jsonb(PG_FUNCTION_ARGS)
{
	Datum		value = (Datum) 0;

	if (!PG_ARGISNULL(1))
	{
		Jsonb	   *json = PG_GETARG_JSONB_P(1);
		StringInfoData out;

		initStringInfo(&out);
		(void) JsonbToCString(&out, &json->root, VARSIZE(json));
		value = PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
	}
	return produce(fcinfo, value);
}

/* ERROR unless the offset is one that the partition has, or will give next. */
static void
check_offset(const KTopic *topic, KLogPartition *part, int64 offset)
{
	int64		start = klog_log_start(part);
	int64		end = klog_end_offset(part);

	if (offset < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("offset must not be negative")));
	if (offset < start || offset > end)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("offset " INT64_FORMAT " is out of range", offset),
				 start == end ?
				 errhint("The partition is empty, its next offset is " INT64_FORMAT ".", end) :
				 errhint("The partition has offsets " INT64_FORMAT " to " INT64_FORMAT ".",
						 start, end - 1)));
}

/*
 * kafka.fetch(topic text, partition int, "offset" bigint, max_records int, max_wait interval)
 *		-> SETOF kafka.record
 */
Datum
ksql_fetch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const KTopic *topic;
	KLogPartition *part;
	KTableReader *reader;
	Relation	rel;
	char	   *name;
	int32		partition;
	int64		offset;
	int32		max_records;
	int64		max_wait;
	int64		limit;
	Datum		values[KTABLE_NCOLUMNS];
	bool		isnull[KTABLE_NCOLUMNS];

	KSQL_NOT_NULL(0, "topic");
	KSQL_NOT_NULL(1, "partition");
	KSQL_NOT_NULL(2, "offset");
	KSQL_NOT_NULL(3, "max_records");
	KSQL_NOT_NULL(4, "max_wait");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	partition = PG_GETARG_INT32(1);
	offset = PG_GETARG_INT64(2);
	max_records = PG_GETARG_INT32(3);
	max_wait = ksql_interval_ms(PG_GETARG_INTERVAL_P(4), "max_wait");
	if (max_records < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_records must not be negative")));
	InitMaterializedSRF(fcinfo, 0);

	rel = ksql_open_topic(name, KSQL_READ, AccessShareLock, &topic);
	ksql_check_partition(topic, partition);
	part = klog_attach(rel, partition, false);
	check_offset(topic, part, offset);

	if (max_wait > 0 && klog_high_watermark(part) <= offset)
	{
		Oid			relid = RelationGetRelid(rel);

		/* Without our lock meanwhile: a DROP TABLE need not wait for a consumer. */
		table_close(rel, AccessShareLock);
		(void) klog_wait(relid, partition, offset, max_wait);
		rel = ksql_open_topic(name, KSQL_READ, AccessShareLock, &topic);
		ksql_check_partition(topic, partition);
	}

	limit = ktable_visible_end(rel, partition);
	reader = ktable_reader_open(rel, partition, offset, limit, KTABLE_ALL_COLUMNS);
	for (int n = 0; n < max_records && ktable_reader_next(reader, values, isnull); n++)
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	ktable_reader_close(reader);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}

/*
 * CALL kafka.wait(topic text, partition int, "offset" bigint, max_wait interval)
 *
 * Ends when the record at the offset can be read, or after max_wait.  The transaction that CALL
 * began is committed before the wait, and with it goes its snapshot.
 */
Datum
ksql_wait(PG_FUNCTION_ARGS)
{
	const KTopic *topic;
	Relation	rel;
	Oid			relid;
	int32		partition;
	int64		offset;
	int64		max_wait;

	KSQL_NOT_NULL(0, "topic");
	KSQL_NOT_NULL(1, "partition");
	KSQL_NOT_NULL(2, "offset");
	KSQL_NOT_NULL(3, "max_wait");
	partition = PG_GETARG_INT32(1);
	offset = PG_GETARG_INT64(2);
	max_wait = ksql_interval_ms(PG_GETARG_INTERVAL_P(3), "max_wait");

	if (!IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("kafka.wait cannot run inside a transaction block"),
				 errhint("It gives its snapshot back while it waits. In a transaction use kafka.fetch with max_wait.")));

	rel = ksql_open_topic(text_to_cstring(PG_GETARG_TEXT_PP(0)), KSQL_READ, AccessShareLock,
						  &topic);
	ksql_check_partition(topic, partition);
	check_offset(topic, klog_attach(rel, partition, false), offset);
	relid = RelationGetRelid(rel);
	table_close(rel, AccessShareLock);

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	(void) klog_wait(relid, partition, offset, max_wait);
	SPI_finish();
	PG_RETURN_VOID();
}

/* kafka.offset_at(topic text, partition int, "timestamp" timestamptz) -> bigint */
Datum
ksql_offset_at(PG_FUNCTION_ARGS)
{
	const KTopic *topic;
	KLogFound	found;
	Relation	rel;
	int32		partition;
	int64		ms;

	KSQL_NOT_NULL(0, "topic");
	KSQL_NOT_NULL(1, "partition");
	KSQL_NOT_NULL(2, "timestamp");
	partition = PG_GETARG_INT32(1);
	ms = ksql_timestamp_ms(PG_GETARG_TIMESTAMPTZ(2));

	rel = ksql_open_topic(text_to_cstring(PG_GETARG_TEXT_PP(0)), KSQL_READ, AccessShareLock,
						  &topic);
	ksql_check_partition(topic, partition);
	found = klog_find_timestamp(rel, klog_attach(rel, partition, false), ms,
								ktable_visible_end(rel, partition), NULL);
	table_close(rel, AccessShareLock);
	if (found.offset < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(found.offset);
}
