/*
 * ksql_stat.c
 *		The state of a topic's partitions, and the check of its pages.
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "log/klog.h"
#include "table/ktable.h"
#include "topic/ktopic.h"

PG_FUNCTION_INFO_V1(ksql_topic_partitions);
PG_FUNCTION_INFO_V1(ksql_check_topic);

/*
 * kafka.topic_partitions(regclass) -> TABLE (partition int, leader_epoch int, log_start bigint,
 * high_watermark bigint, end_offset bigint, bytes bigint)
 *
 * For view kafka.partitions, which shows a user only topics that he may describe: nothing is
 * returned for others, nor for a table that is no topic (any more).
 */
Datum
ksql_topic_partitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			relid = PG_GETARG_OID(0);
	const KTopic *topic;
	Relation	rel;
	int32		leader_epoch;

	InitMaterializedSRF(fcinfo, 0);
	topic = ktopic_by_relid(relid, NULL);
	if (topic == NULL || !kacl_topic_describe(relid, GetUserId()))
		return (Datum) 0;
	rel = try_table_open(relid, AccessShareLock);
	if (rel == NULL)
		return (Datum) 0;
	ktable_check_shape(rel);

	leader_epoch = kepoch_current();
	for (int32 partition = 0; partition < topic->partitions; partition++)
	{
		KLogPartition *part;
		Datum		values[6];
		bool		isnull[6] = {0};

		CHECK_FOR_INTERRUPTS();
		part = klog_attach(rel, partition, false);
		values[0] = Int32GetDatum(partition);
		values[1] = Int32GetDatum(leader_epoch);
		values[2] = Int64GetDatum(klog_log_start(part));
		values[3] = Int64GetDatum(klog_high_watermark(part));
		values[4] = Int64GetDatum(klog_end_offset(part));
		values[5] = Int64GetDatum(klog_size_bytes(part));
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}

static void
add_problem(void *arg, int32 partition, BlockNumber block, int64 offset, const char *problem)
{
	ReturnSetInfo *result = arg;
	Datum		values[4];
	bool		isnull[4] = {0};

	isnull[0] = partition < 0;
	values[0] = Int32GetDatum(partition);
	isnull[1] = block == InvalidBlockNumber;
	values[1] = Int64GetDatum((int64) block);
	isnull[2] = offset < 0;
	values[2] = Int64GetDatum(offset);
	values[3] = PointerGetDatum(cstring_to_text(problem));
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * kafka.check_topic(regclass) -> TABLE (partition int, block bigint, "offset" bigint, problem text)
 *
 * By table and not by name, so that a table of the access method that is not, or no more, a topic
 * can be checked as well.
 */
Datum
ksql_check_topic(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;

	InitMaterializedSRF(fcinfo, 0);
	rel = table_open(relid, AccessShareLock);
	if (!ktable_is_log(rel))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a topic's table", RelationGetRelationName(rel))));
	if (!kacl_topic_read(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(rel));
	klog_check(rel, add_problem, fcinfo->resultinfo);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}
