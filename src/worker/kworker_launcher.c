/*
 * kworker_launcher.c
 *		Starts and stops the other processes, so that there are those that should be there.
 *
 * A round of the launcher looks what should run, what runs, and acts on the
 * difference. It is woken by whatever may change either: its latch is set when a
 * process ends, when an extension has come or gone, on a reload, and when a broker
 * wants DDL done. It keeps nothing that a successor could not find in shared memory.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "kafka_pg.h"
#include "kguc.h"
#include "log/klog.h"
#include "net/knet.h"
#include "topic/ktopic.h"
#include "worker/kworker.h"
#include "worker/kworker_int.h"

/* A process that ended is not started again sooner than this after its last start. */
#define RESTART_MS 1000
/* What may have changed without anybody telling: a taken port, a full list of processes. */
#define RETRY_MS 10000
/* On a standby: how often it looks whether it was promoted. */
#define STANDBY_MS 1000

PGDLLEXPORT void kworker_launcher_main(Datum arg);

/* What this launcher knows of a slot beyond shared memory. */
typedef struct KLaunch
{
	BackgroundWorkerHandle *handle; /* of a start that has not arrived */
	TimestampTz started;		/* 0: never */
	pid_t		told;			/* the process that was told to stop */
} KLaunch;

static KLaunch *launches;
static bool listening;			/* the port was found free, or is ours */
static char *refusal;			/* why no client is served, as it was logged */
static bool complained;			/* about too few background workers */
static bool epoch_known;
static bool standby;			/* the processes that run were started during recovery */
static long next_ms;			/* until the next round; -1: when woken */

static void
launcher_within(long ms)
{
	if (next_ms < 0 || ms < next_ms)
		next_ms = ms;
}

/* The extension's OID, or InvalidOid. */
static Oid
launcher_extension(void)
{
	Oid			extension;

	StartTransactionCommand();
	extension = get_extension_oid(KAFKA_PG_NAME, true);
	CommitTransactionCommand();
	return extension;
}

/* Is a process there, or on its way, in any slot of this kind? */
static bool
launcher_runs(KWorkerKind kind)
{
	bool		runs = false;

	LWLockAcquire(&kworker_shared->lock, LW_SHARED);
	for (int i = 0; i < kworker_shared->nslots; i++)
	{
		KWorkerSlot *slot = &kworker_shared->slots[i];

		if (slot->kind == kind && (slot->pid != 0 || launches[i].handle != NULL))
			runs = true;
	}
	LWLockRelease(&kworker_shared->lock);
	return runs;
}

/*
 * Why no Kafka client can be served, as a sentence for the log with a hint, or NULL.
 * Looks at settings only. Brokers ask too, after a reload: until the launcher stops
 * them they might acknowledge what no standby has.
 */
const char *
kworker_refusal(const char **hint)
{
	*hint = NULL;
	if (wal_level < WAL_LEVEL_REPLICA)
	{
		*hint = "Set wal_level to replica or logical and restart the server.";
		return "wal_level is \"minimal\"";
	}
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		*hint = "Name a database with encoding UTF8 in kafka_pg.database and restart the server.";
		return psprintf("database \"%s\" has encoding \"%s\"",
						kguc_database, GetDatabaseEncodingName());
	}
	return NULL;
}

/* The same for what only the network knows. Allocates in the current context. */
static const char *
launcher_probe(const char **hint)
{
	KNetAddress *addresses;
	int			count;
	int			usable = 0;
	char	   *error;

	*hint = NULL;
	if (kguc_listen_addresses[strspn(kguc_listen_addresses, " ,")] == '\0')
		return "kafka_pg.listen_addresses is empty";
	addresses = knet_listen_resolve(kguc_listen_addresses, kguc_port, &count, &error);
	if (addresses == NULL)
		return error;
	for (int i = 0; i < count; i++)
	{
		if (knet_address_is_loopback(&addresses[i]))
			continue;
		*hint = "Clients cannot authenticate in this version: let kafka_pg.listen_addresses name loopback addresses only, such as \"localhost\".";
		return psprintf("address %s is not a loopback address", addresses[i].name);
	}
	for (int i = 0; i < count; i++)
	{
		if (!knet_listen_probe(&addresses[i], &error))
		{
			*hint = psprintf("Is another Kafka broker running on port %d? If not, wait a few seconds and it is tried again; else set kafka_pg.port.",
							 kguc_port);
			return error;
		}
		if (error == NULL)
			usable++;
	}
	return usable > 0 ? NULL : error;
}

/* May brokers run? Logs why not, when that has changed. */
static bool
launcher_may_listen(void)
{
	const char *hint;
	const char *why = kworker_refusal(&hint);

	if (why == NULL && !listening)
	{
		/* brokers that an earlier launcher has started hold the port: it is ours */
		if (!launcher_runs(KWORKER_BROKER))
			why = launcher_probe(&hint);
		if (why == NULL)
			listening = true;
		else
			launcher_within(RETRY_MS);
	}
	if (why == NULL)
	{
		if (refusal != NULL)
			pfree(refusal);
		refusal = NULL;
		return true;
	}
	listening = false;
	if (refusal == NULL || strcmp(refusal, why) != 0)
	{
		ereport(LOG,
				(errmsg("Kafka clients are not served: %s", why),
				 hint ? errhint("%s", hint) : 0));
		if (refusal != NULL)
			pfree(refusal);
		refusal = MemoryContextStrdup(TopMemoryContext, why);
	}
	return false;
}

/* Start a process in slot i. False when the server has no room for it. */
static bool
launcher_start(int i)
{
	KWorkerSlot *slot = &kworker_shared->slots[i];
	BackgroundWorker worker = {0};
	MemoryContext context;
	uint32		ticket;
	bool		started;

	LWLockAcquire(&kworker_shared->lock, LW_EXCLUSIVE);
	ticket = ++slot->ticket;
	LWLockRelease(&kworker_shared->lock);

	kworker_slot_name(slot, worker.bgw_name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, worker.bgw_name, BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, KAFKA_PG_NAME, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "kworker_main", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;

	/* this launcher, or its successor, starts it again */
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(i);
	memcpy(worker.bgw_extra, &ticket, sizeof(ticket));

	context = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, &launches[i].handle);
	MemoryContextSwitchTo(context);
	if (started)
		launches[i].started = GetCurrentTimestamp();
	return started;
}

/* Bring slot i to where it should be. False when the server has no room for a process. */
static bool
launcher_settle(int i, bool wanted)
{
	KLaunch    *launch = &launches[i];
	pid_t		pid;
	pid_t		ignored;
	long		since;

	LWLockAcquire(&kworker_shared->lock, LW_SHARED);
	pid = kworker_shared->slots[i].pid;
	LWLockRelease(&kworker_shared->lock);

	if (pid == 0 && launch->handle != NULL)
	{
		/* not arrived: it sets the slot soon, or never; either wakes us */
		if (GetBackgroundWorkerPid(launch->handle, &ignored) != BGWH_STOPPED)
		{
			if (!wanted)
				TerminateBackgroundWorker(launch->handle);
			return true;
		}
	}
	if (launch->handle != NULL)
	{
		pfree(launch->handle);
		launch->handle = NULL;
	}

	if (pid != 0)
	{
		if (!wanted && launch->told != pid && kill(pid, SIGTERM) == 0)
			launch->told = pid;
		return true;
	}
	launch->told = 0;
	if (!wanted)
		return true;

	since = launch->started == 0 ? RESTART_MS :
		TimestampDifferenceMilliseconds(launch->started, GetCurrentTimestamp());
	if (since < RESTART_MS)
	{
		launcher_within(RESTART_MS - since);
		return true;
	}
	return launcher_start(i);
}

/* Say, once, that the server has too few places for background workers. */
static void
launcher_complain(int missing)
{
	launcher_within(RETRY_MS);
	if (complained)
		return;
	complained = true;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("no room for %d of the %d background workers of kafka_pg",
					missing, kworker_shared->nslots + 1),
			 errdetail("They are launcher, flusher, syncwait, keeper, prealloc, ddl, %d readers and %d brokers.",
					   kguc_readers, kguc_brokers),
			 errhint("Set max_worker_processes to at least %d and restart the server.",
					 max_worker_processes + missing)));
}

static void
launcher_round(void *arg)
{
	Oid			extension = launcher_extension();
	bool		same = extension == kworker_shared->extension;
	bool		core = OidIsValid(extension) && same;
	bool		serve;
	int			missing = 0;
	int			running = 0;

	if (RecoveryInProgress())
	{
		/* nothing is written here: brokers that read, and readers for them */
		standby = true;
		launcher_within(STANDBY_MS);
	}
	else if (standby)
	{
		/* promoted: clients of a standby come back to a primary */
		core = false;
		if (!launcher_runs(KWORKER_BROKER) && !launcher_runs(KWORKER_READER))
			standby = false;
		launcher_within(standby ? STANDBY_MS : 0);
	}
	if (core && !standby && !epoch_known)
	{
		core = epoch_known = kepoch_startup();
		if (core)
			knode_startup();
		else
			launcher_within(RETRY_MS);
	}
	serve = core && launcher_may_listen();

	for (int i = 0; i < kworker_shared->nslots; i++)
	{
		bool		wanted = core;

		switch (kworker_shared->slots[i].kind)
		{
			case KWORKER_FLUSHER:
			case KWORKER_KEEPER:
			case KWORKER_PREALLOC:
				wanted = core && !standby;
				break;
			case KWORKER_SYNCWAIT:
				wanted = core && !standby && max_wal_senders > 0 && SyncRepStandbyNames != NULL &&
					SyncRepStandbyNames[0] != '\0';
				if (core && !standby && !wanted && klog_durable_lsn() < klog_flushed_lsn())
				{
					/* the quorum is asked for no longer: it has to say so to those who wait */
					wanted = true;
					launcher_within(RESTART_MS);
				}
				break;
			case KWORKER_READER:
			case KWORKER_BROKER:
				wanted = serve;
				break;
			case KWORKER_DDL:
				/* it ends by itself when there is nothing to do */
				wanted = core && !standby && (kworker_ddl_pending() || launches[i].handle != NULL ||
								  kworker_shared->slots[i].pid != 0);
				break;
		}
		if (!launcher_settle(i, wanted))
			missing++;
		if (kworker_shared->slots[i].pid != 0 || launches[i].handle != NULL)
			running++;
	}

	/* the ddl process comes when it is needed, and must find a place then */
	if (missing > 0)
		launcher_complain(missing);
	else
		complained = false;

	/* first let those go that serve an extension that is no more */
	if (!same && running == 0)
	{
		LWLockAcquire(&kworker_shared->lock, LW_EXCLUSIVE);
		kworker_shared->extension = extension;
		LWLockRelease(&kworker_shared->lock);
		epoch_known = false;
		listening = false;
		launcher_within(0);
	}
}

static void
launcher_leave(int code, Datum arg)
{
	LWLockAcquire(&kworker_shared->lock, LW_EXCLUSIVE);
	if (kworker_shared->launcher == MyLatch)
		kworker_shared->launcher = NULL;
	LWLockRelease(&kworker_shared->lock);
}

void
kworker_launcher_main(Datum arg)
{
	MemoryContext context;

	kworker_connect();
	launches = MemoryContextAllocZero(TopMemoryContext,
									  kworker_shared->nslots * sizeof(KLaunch));
	LWLockAcquire(&kworker_shared->lock, LW_EXCLUSIVE);
	kworker_shared->launcher = MyLatch;

	/* starts that our predecessor made and that have not arrived come too late */
	for (int i = 0; i < kworker_shared->nslots; i++)
		kworker_shared->slots[i].ticket++;
	LWLockRelease(&kworker_shared->lock);
	before_shmem_exit(launcher_leave, 0);

	context = AllocSetContextCreate(TopMemoryContext, "kafka launcher", ALLOCSET_DEFAULT_SIZES);
	while (!kworker_stopping())
	{
		ResetLatch(MyLatch);
		(void) kworker_interrupts();
		next_ms = -1;
		MemoryContextSwitchTo(context);
		if (!kworker_guard(launcher_round, NULL))
			launcher_within(RETRY_MS);
		MemoryContextReset(context);
		(void) pgstat_report_stat(true);
		if (kworker_stopping() || next_ms == 0)
			continue;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (next_ms > 0 ? WL_TIMEOUT : 0),
						 next_ms, PG_WAIT_EXTENSION);
	}

	/* not 0, which would mean that no launcher is wanted any more */
	proc_exit(1);
}
