/*
 * ksql_topic.c
 *		kafka.create_topic and kafka.drop_topic.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "sql/ksql.h"
#include "topic/ktopic.h"

PG_FUNCTION_INFO_V1(ksql_create_topic);
PG_FUNCTION_INFO_V1(ksql_drop_topic);

/* kafka.create_topic(name text, partitions int, config jsonb) -> regclass */
Datum
ksql_create_topic(PG_FUNCTION_ARGS)
{
	KSQL_NOT_NULL(0, "name");
	KSQL_NOT_NULL(1, "partitions");
	KSQL_NOT_NULL(2, "config");
	PG_RETURN_OID(ktopic_create(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_INT32(1),
								PG_GETARG_JSONB_P(2)));
}

/* kafka.drop_topic(name text) */
Datum
ksql_drop_topic(PG_FUNCTION_ARGS)
{
	KSQL_NOT_NULL(0, "name");
	ktopic_drop(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}
