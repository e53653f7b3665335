/*
 * kafka_pg.c
 *		The module's table of contents: what is set up when the server starts.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "kafka_pg.h"
#include "kguc.h"
#include "kshmem.h"
#include "log/klog.h"
#include "table/ktable.h"
#include "topic/ktopic.h"
#include "txn/kproducer.h"
#include "worker/kworker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

/*
 * Loaded by the postmaster through shared_preload_libraries; in any other way the shared memory,
 * the WAL resource manager and the workers could not exist, so that is refused.
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s must be loaded when the server starts", KAFKA_PG_NAME),
				 errhint("Add \"%s\" to shared_preload_libraries in postgresql.conf and restart the server.",
						 KAFKA_PG_NAME)));

	klog_rmgr_register();
	klog_checksum_init();
	kguc_init();
	kshmem_init();
	klog_xact_register();
	ktopic_init();
	ktable_init();
	kfloor_init();
	kproducer_init();
	kworker_init();
}

/*
 * Is this session's database the one we serve?  Shared memory knows a topic by its table's OID,
 * which another database may use as well.  The first call in a process must be in a transaction.
 */
bool
kafka_pg_in_database(void)
{
	static bool known = false;
	static bool result;

	if (!known)
	{
		/* Nobody can rename it while we are connected. */
		result = strcmp(get_database_name(MyDatabaseId), kguc_database) == 0;
		known = true;
	}
	return result;
}

/* Throws an error when it is another. */
void
kafka_pg_check_database(void)
{
	if (!kafka_pg_in_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topics are served in database \"%s\", not in \"%s\"",
						kguc_database, get_database_name(MyDatabaseId)),
				 errhint("Connect to that database, or set kafka_pg.database and restart the server.")));
}

PG_FUNCTION_INFO_V1(kafka_pg_sql_check_database);

/* For CREATE EXTENSION. */
Datum
kafka_pg_sql_check_database(PG_FUNCTION_ARGS)
{
	kafka_pg_check_database();
	PG_RETURN_VOID();
}
