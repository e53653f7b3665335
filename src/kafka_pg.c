/*
 * kafka_pg.c
 *		The module's table of contents: what is set up when the server starts.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "kafka_pg.h"
#include "kguc.h"
#include "kshmem.h"
#include "log/klog.h"
#include "table/ktable.h"
#include "topic/ktopic.h"
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
	kguc_init();
	kshmem_init();
	klog_xact_register();
	ktopic_init();
	ktable_init();
	kworker_init();
}
