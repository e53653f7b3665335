/*
 * ksql_group_config.c
 *		kafka.alter_group: a group's own configs.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "coord/kcoord.h"
#include "sql/ksql.h"

PG_FUNCTION_INFO_V1(ksql_alter_group);

static int
find_config(const JsonbValue *key)
{
	for (int i = 0; i < KCOORD_CONFIGS; i++)
	{
		const char *name = kcoord_config_defs[i].name;

		if (key->val.string.len == (int) strlen(name) &&
			memcmp(key->val.string.val, name, key->val.string.len) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown group config \"%.*s\"", key->val.string.len, key->val.string.val),
			 errhint("Groups have %s, %s and %s.", kcoord_config_defs[0].name,
					 kcoord_config_defs[1].name, kcoord_config_defs[2].name)));
}

static void
check_value(Jsonb *configs, int i, bool is_null)
{
	const KCoordConfigDef *def = &kcoord_config_defs[i];
	int32		value;

	if (is_null)
		return;
	if (!kcoord_config_value(configs, i, &value) || value < *def->min || value > *def->max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for group config \"%s\"", def->name),
				 errdetail("It must be a number from %d to %d.", *def->min, *def->max)));
}

static void
check_configs(Jsonb *configs)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	int			i = 0;

	if (!JB_ROOT_IS_OBJECT(configs))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("configs must be a JSON object")));
	it = JsonbIteratorInit(&configs->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			i = find_config(&v);
		else if (token == WJB_VALUE)
			check_value(configs, i, v.type == jbvNull);
	}
}

/* As Kafka has it: who is silent for one interval is not out. */
static void
check_together(Jsonb *configs)
{
	int32		values[KCOORD_CONFIGS];

	for (int i = 0; i < KCOORD_CONFIGS; i++)
	{
		if (!kcoord_config_value(configs, i, &values[i]) || values[i] < 0)
			values[i] = *kcoord_config_defs[i].setting;
	}
	if (values[KCOORD_CONFIG_SESSION] <= values[KCOORD_CONFIG_HEARTBEAT])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("group config \"%s\" must be greater than \"%s\"",
						kcoord_config_defs[KCOORD_CONFIG_SESSION].name,
						kcoord_config_defs[KCOORD_CONFIG_HEARTBEAT].name)));
}

/* kafka.alter_group(group_id text, configs jsonb) */
Datum
ksql_alter_group(PG_FUNCTION_ARGS)
{
	static const char put[] =
		"INSERT INTO kafka.group_config AS c (group_id, config) "
		"VALUES ($1, pg_catalog.jsonb_strip_nulls($2)) ON CONFLICT (group_id) "
		"DO UPDATE SET config = pg_catalog.jsonb_strip_nulls(c.config OPERATOR(pg_catalog.||) $2) "
		"RETURNING config";
	static const char drop[] =
		"DELETE FROM kafka.group_config WHERE group_id OPERATOR(pg_catalog.=) $1 "
		"AND config OPERATOR(pg_catalog.=) '{}'::pg_catalog.jsonb";
	Oid			types[] = {TEXTOID, JSONBOID};
	Datum		values[2];
	int			len;
	bool		isnull;

	KSQL_NOT_NULL(0, "group_id");
	KSQL_NOT_NULL(1, "configs");
	len = VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0));
	if (len == 0 || len > KCOORD_ID_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a group id has 1 to %d bytes", KCOORD_ID_MAX)));
	check_configs(PG_GETARG_JSONB_P(1));

	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	SPI_connect();
	if (SPI_execute_with_args(put, 2, types, values, NULL, false, 0) != SPI_OK_INSERT_RETURNING ||
		SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not write kafka.group_config")));
	check_together(DatumGetJsonbP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
												&isnull)));
	SPI_execute_with_args(drop, 1, types, values, NULL, false, 0);
	SPI_finish();
	PG_RETURN_VOID();
}
