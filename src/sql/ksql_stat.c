/*
 * ksql_stat.c
 *		The state of a topic's partitions, the check of its pages, and the brokers' connections.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "api/kapi.h"
#include "coord/kcoord.h"
#include "log/klog.h"
#include "sql/ksql.h"
#include "table/ktable.h"
#include "topic/ktopic.h"

PG_FUNCTION_INFO_V1(ksql_topic_partitions);
PG_FUNCTION_INFO_V1(ksql_check_topic);
PG_FUNCTION_INFO_V1(ksql_stat_get_connection);
PG_FUNCTION_INFO_V1(ksql_stat_get_group_memory);

/*
 * kafka.topic_partitions(regclass) -> TABLE (partition int, leader_epoch int, log_start bigint,
 * high_watermark bigint, end_offset bigint, bytes bigint)
 *
 * For views kafka.partitions and kafka.group_lag, which show a user only topics that he may
 * describe, and all to members of pg_read_all_stats: nothing is returned for others, nor for a
 * table that is no topic (any more).
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
	if (topic == NULL || !(kacl_topic_describe(relid, GetUserId()) ||
						   has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS)))
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

/* What a client says of itself. */
static Datum
client_text(const char *data, int len, bool *isnull)
{
	*isnull = len < 0;
	return *isnull ? (Datum) 0 : PointerGetDatum(ksql_bytes_to_text(data, len));
}

/*
 * kafka.stat_get_connection() -> the rows of view kafka.stat_connection, the role as its oid
 *
 * As pg_stat_get_activity(): everybody sees that there is a connection, whose, and what it calls
 * itself; the rest is for members of its role and of pg_read_all_stats.
 */
Datum
ksql_stat_get_connection(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		sees_all = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < kapi_stat_capacity(); i++)
	{
		KApiStat	stat;
		Datum		values[14] = {0};
		bool		isnull[14];

		CHECK_FOR_INTERRUPTS();
		if (!kapi_stat_read(i, &stat))
			continue;
		memset(isnull, true, sizeof(isnull));
		values[0] = Int32GetDatum(stat.broker);
		values[1] = Int32GetDatum(stat.pid);
		isnull[0] = isnull[1] = false;
		values[2] = ObjectIdGetDatum(stat.role);
		isnull[2] = !OidIsValid(stat.role);
		values[3] = client_text(stat.client_id, stat.client_id_len, &isnull[3]);
		if (sees_all || (OidIsValid(stat.role) && has_privs_of_role(GetUserId(), stat.role)))
		{
			if (stat.host[0] != '\0')
			{
				values[4] = DirectFunctionCall1(inet_in, CStringGetDatum(stat.host));
				values[5] = Int32GetDatum(stat.port);
				isnull[4] = isnull[5] = false;
			}
			values[6] = client_text(stat.software_name, stat.software_name_len, &isnull[6]);
			values[7] = client_text(stat.software_version, stat.software_version_len,
									&isnull[7]);
			values[8] = TimestampTzGetDatum(stat.connected);
			values[9] = TimestampTzGetDatum(stat.last_request);
			values[10] = Int64GetDatum((int64) stat.requests);
			values[11] = Int32GetDatum((int32) stat.parked);
			values[12] = Int64GetDatum((int64) stat.received);
			values[13] = Int64GetDatum((int64) stat.sent);
			memset(&isnull[8], false, 6);
			isnull[9] = stat.last_request == 0;
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/*
 * kafka.stat_get_group_memory() -> (groups int, max_groups int, blocks bigint, bytes bigint,
 * max_bytes bigint): what consumer groups take of shared memory.
 */
Datum
ksql_stat_get_group_memory(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	KCoordMemory memory;
	Datum		values[5];
	bool		isnull[5] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	kcoord_memory(&memory);
	values[0] = Int32GetDatum(memory.groups);
	values[1] = Int32GetDatum(memory.max_groups);
	values[2] = Int64GetDatum(memory.blocks);
	values[3] = Int64GetDatum(memory.bytes);
	values[4] = Int64GetDatum(memory.max_bytes);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull));
}
