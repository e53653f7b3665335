/*
 * ktopic.c
 *		Creating and dropping topics.
 *
 * The DDL goes through SPI, as the caller's own statement would: his rights, his tablespace, event
 * triggers and other extensions' hooks all apply.  Only the catalog row is written with the rights
 * of the catalog's owner.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "kafka_pg.h"
#include "kguc.h"
#include "topic/kcatalog.h"
#include "topic/ktopic.h"

const char *
ktopic_name_problem(const char *name)
{
	size_t		len = strlen(name);

	if (len == 0)
		return "the empty string is not allowed";
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return "\".\" and \"..\" are not allowed";
	if (len > KTOPIC_NAME_MAX)
		return psprintf("it is longer than %d characters", KTOPIC_NAME_MAX);
	if (name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] != '\0')
		return "it has characters other than ASCII letters, digits, \".\", \"_\" and \"-\"";
	return NULL;
}

/* The name as Kafka's metrics see it: names that agree in this collide. */
static char *
collision_name(const char *name)
{
	char	   *result = pstrdup(name);

	for (char *c = result; *c != '\0'; c++)
		if (*c == '.')
			*c = '_';
	return result;
}

/*
 * The table's name: the topic's if an identifier can be so long, else its beginning and a hash of
 * all of it, joined by a character that no topic's name has.
 */
static char *
table_name(const char *name)
{
	uint64		hash;

	if (strlen(name) < NAMEDATALEN)
		return pstrdup(name);
	hash = hash_bytes_extended((const unsigned char *) name, strlen(name), 0);
	return psprintf("%.*s~%016" INT64_MODIFIER "x", NAMEDATALEN - 1 - 17, name, hash);
}

static void
check_arguments(const char *name, int32 partitions, Jsonb *config)
{
	const char *name_problem = ktopic_name_problem(name);
	KTopicConfig parsed;
	char	   *config_problem;

	if (name_problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("topic name \"%s\" is not valid: %s", name, name_problem)));
	if (partitions < 1 || partitions > KTOPIC_MAX_PARTITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("number of partitions %d is out of range", partitions),
				 errhint("A topic has between 1 and %d partitions.", KTOPIC_MAX_PARTITIONS)));
	if (partitions > kguc_max_partitions)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("number of partitions %d is larger than this server can have in use",
						partitions),
				 errhint("Increase kafka_pg.max_partitions (now %d) and restart the server.",
						 kguc_max_partitions)));
	config_problem = ktopic_config_parse(config, &parsed);
	if (config_problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("config of topic \"%s\" is not valid", name),
				 errdetail_internal("%s", config_problem),
				 errhint("Topic configs have the names, types and limits of Apache Kafka's.")));
}

/* ERROR when a topic of that name, or of one that collides with it, is there. */
static void
check_not_there(Relation catalog, const char *name)
{
	char	   *wanted = collision_name(name);
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		char	   *other = TextDatumGetCString(heap_getattr(tuple, Anum_topic_name,
															 RelationGetDescr(catalog),
															 &isnull));

		if (strcmp(other, name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("topic \"%s\" already exists", name)));
		if (strcmp(collision_name(other), wanted) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_NAME),
					 errmsg("topic name \"%s\" collides with existing topic \"%s\"", name, other),
					 errdetail("Names that differ only in \".\" and \"_\" are the same to Kafka's metrics.")));
	}
	systable_endscan(scan);
}

static Relation
open_topic_catalog(LOCKMODE lockmode)
{
	Oid			relid = kcatalog_relation("topic");

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension kafka_pg is not created in this database"),
				 errhint("Run CREATE EXTENSION kafka_pg.")));
	return table_open(relid, lockmode);
}

/* Before the name is looked up: who may not create topics need not learn which there are. */
static void
check_may_create(void)
{
	if (!kacl_topic_create(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create topics"),
				 errhint("GRANT CREATE ON SCHEMA topics allows a role to create topics.")));
}

/* Random, version 4; never one that would begin with a dash in Kafka's base64 form. */
static pg_uuid_t
new_topic_id(void)
{
	pg_uuid_t	id;

	do
	{
		if (!pg_strong_random(id.data, UUID_LEN))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		id.data[6] = (id.data[6] & 0x0f) | 0x40;
		id.data[8] = (id.data[8] & 0x3f) | 0x80;
	} while (id.data[0] >> 2 == 62);
	return id;
}

static void
create_table(const char *table)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "CREATE TABLE topics.%s (partition pg_catalog.int4, \"offset\" pg_catalog.int8, "
					 "\"timestamp\" pg_catalog.timestamptz, key pg_catalog.bytea, "
					 "value pg_catalog.bytea, headers kafka.header[]) USING kafka_log",
					 quote_identifier(table));
	if (SPI_execute(sql.data, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not create table \"%s\"", table);
}

static void
insert_row(Oid owner, const char *name, Oid relid, int32 partitions, Jsonb *config)
{
	Oid			types[] = {TEXTOID, UUIDOID, REGCLASSOID, INT4OID, JSONBOID};
	pg_uuid_t	id = new_topic_id();
	Datum		values[] = {
		CStringGetTextDatum(name),
		UUIDPGetDatum(&id),
		ObjectIdGetDatum(relid),
		Int32GetDatum(partitions),
		JsonbPGetDatum(config)
	};
	Oid			save_userid;
	int			save_sec_context;

	/* As the owner of kafka.topic; an ERROR puts the user back with the transaction. */
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(owner, save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_execute_with_args("INSERT INTO kafka.topic (name, id, \"table\", partitions, config) "
							  "VALUES ($1, $2, $3, $4, $5)",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert into kafka.topic");
	SetUserIdAndSecContext(save_userid, save_sec_context);
}

Oid
ktopic_create(const char *name, int32 partitions, Jsonb *config)
{
	Relation	catalog;
	char	   *lock_name;
	char	   *table;
	Oid			relid;

	kafka_pg_check_database();
	check_arguments(name, partitions, config);
	check_may_create();

	/*
	 * Two sessions that create the same topic, or ones that collide, wait for each other here and
	 * not in a unique index, so that the second gets a proper error.  Held until the transaction
	 * ends; others are not hindered.
	 */
	catalog = open_topic_catalog(RowExclusiveLock);
	lock_name = collision_name(name);
	LockDatabaseObject(RelationGetRelid(catalog),
					   hash_bytes((const unsigned char *) lock_name, strlen(lock_name)),
					   0, ExclusiveLock);
	check_not_there(catalog, name);

	table = table_name(name);
	if (OidIsValid(get_relname_relid(table, kcatalog_topics_namespace())))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists in schema topics and is not a topic", table),
				 errhint("Rename or drop it.")));

	SPI_connect();
	create_table(table);
	relid = get_relname_relid(table, kcatalog_topics_namespace());
	if (!OidIsValid(relid))
		elog(ERROR, "table \"%s\" vanished while the topic was created", table);
	insert_row(catalog->rd_rel->relowner, name, relid, partitions, config);
	SPI_finish();

	table_close(catalog, NoLock);
	return relid;
}

void
ktopic_drop(const char *name)
{
	const KTopic *topic = ktopic_get(name);
	char	   *schema = get_namespace_name(get_rel_namespace(topic->relid));
	char	   *table = get_rel_name(topic->relid);
	StringInfoData sql;

	if (schema == NULL || table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("topic \"%s\" does not exist", name)));

	initStringInfo(&sql);
	appendStringInfo(&sql, "DROP TABLE %s", quote_qualified_identifier(schema, table));
	SPI_connect();
	if (SPI_execute(sql.data, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not drop table \"%s\"", table);
	SPI_finish();
}

int16
ktopic_error_code(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_UNDEFINED_TABLE:
			return 3;			/* UNKNOWN_TOPIC_OR_PARTITION */
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_QUERY_CANCELED:
			return 7;			/* REQUEST_TIMED_OUT */
		case ERRCODE_INVALID_NAME:
			return 17;			/* INVALID_TOPIC_EXCEPTION */
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
			return 29;			/* TOPIC_AUTHORIZATION_FAILED */
		case ERRCODE_DUPLICATE_TABLE:
		case ERRCODE_UNIQUE_VIOLATION:
			return 36;			/* TOPIC_ALREADY_EXISTS */
		case ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE:
			return 37;			/* INVALID_PARTITIONS */
		case ERRCODE_INVALID_PARAMETER_VALUE:
			return 40;			/* INVALID_CONFIG; the detail says which */
		default:
			return -1;			/* UNKNOWN_SERVER_ERROR */
	}
}

PG_FUNCTION_INFO_V1(ktopic_changed);

/* Trigger of kafka.topic: every process's cache of topics is out of date when this commits. */
Datum
ktopic_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "ktopic_changed")));
	CacheInvalidateRelcache(trigger->tg_relation);
	PG_RETURN_POINTER(NULL);
}
