/*
 * kworker.c
 *		What all processes of kafka_pg share: their start, signals, error boundary, and end.
 */
#include "postgres.h"

#include <sched.h>

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "storage/procsignal.h"
#include "storage/shmem.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "kafka_pg.h"
#include "kguc.h"
#include "net/knet.h"
#include "worker/kworker.h"
#include "worker/kworker_int.h"

#define KWORKER_LAUNCHER_RESTART_S 5
#define KWORKER_ERROR_PAUSE_MS 1000

PGDLLEXPORT void kworker_main(Datum arg);

KWorkerShared *kworker_shared;

static KWorkerSlot *my_slot;
static bool launcher_wanted;	/* this transaction has made or dropped an extension */
static object_access_hook_type prev_object_access_hook;

static const struct
{
	const char *name;
	void		(*run) (int no);
	bool		interruptible;	/* may end in the middle of what it does */
	bool		unhurried;		/* nobody waits for it */
}			kinds[] =

{
	[KWORKER_FLUSHER] = {"kafka flusher", kworker_flusher, false, false},
	[KWORKER_SYNCWAIT] = {"kafka syncwait", kworker_syncwait, true, false},
	[KWORKER_KEEPER] = {"kafka keeper", kworker_keeper, false, true},
	[KWORKER_PREALLOC] = {"kafka prealloc", kworker_prealloc, false, true},
	[KWORKER_READER] = {"kafka reader", kworker_reader, false, false},
	[KWORKER_BROKER] = {"kafka broker", kworker_broker, false, false},
	[KWORKER_DDL] = {"kafka ddl", kworker_ddl, true, false},
};

/* ------------------------------------------------------------------------
 * When the server starts
 * ------------------------------------------------------------------------
 */

static int
kworker_slot_count(void)
{
	/* flusher, syncwait, keeper, prealloc, ddl */
	return 5 + kguc_readers + kguc_brokers;
}

Size
kworker_shmem_size(void)
{
	Size		size = offsetof(KWorkerShared, slots);

	size = add_size(size, mul_size(kworker_slot_count(), sizeof(KWorkerSlot)));
	size = MAXALIGN(size);
	size = add_size(size, kworker_ddl_shmem_size());
	return add_size(size, knet_shmem_size(kguc_max_connections));
}

void
kworker_shmem_init(void)
{
	Size		size = add_size(offsetof(KWorkerShared, slots),
								mul_size(kworker_slot_count(), sizeof(KWorkerSlot)));
	bool		found;

	kworker_shared = ShmemInitStruct("kafka_pg workers", size, &found);
	if (!found)
	{
		int			n = 0;

		memset(kworker_shared, 0, size);
		kworker_shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&kworker_shared->lock, kworker_shared->tranche);
		kworker_shared->slots[n++].kind = KWORKER_FLUSHER;
		kworker_shared->slots[n++].kind = KWORKER_SYNCWAIT;
		kworker_shared->slots[n++].kind = KWORKER_KEEPER;
		kworker_shared->slots[n++].kind = KWORKER_PREALLOC;
		for (int i = 0; i < kguc_readers; i++)
		{
			kworker_shared->slots[n].kind = KWORKER_READER;
			kworker_shared->slots[n++].no = i;
		}
		for (int i = 0; i < kguc_brokers; i++)
		{
			kworker_shared->slots[n].kind = KWORKER_BROKER;
			kworker_shared->slots[n++].no = i;
		}
		kworker_shared->slots[n++].kind = KWORKER_DDL;
		kworker_shared->nslots = n;
	}
	LWLockRegisterTranche(kworker_shared->tranche, "KafkaWorker");
	kworker_ddl_shmem_init();
	knet_shmem_init(kguc_max_connections);
}

/*
 * An extension comes or goes: once that is committed, the launcher has to look
 * whether it is ours.
 */
static void
kworker_object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (prev_object_access_hook)
		prev_object_access_hook(access, class, object, sub, arg);
	if (class == ExtensionRelationId && (access == OAT_POST_CREATE || access == OAT_DROP))
		launcher_wanted = true;
}

/*
 * Called for each phase of the release of a transaction's resources. The last one
 * comes after the invalidation messages have been sent: whoever is woken sooner
 * might look at its caches in vain.
 */
static void
kworker_release(ResourceReleasePhase phase, bool commit, bool top_level, void *arg)
{
	if (!launcher_wanted || !top_level || phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	launcher_wanted = false;
	if (commit)
		kworker_wake_launcher();
}

void
kworker_init(void)
{
	BackgroundWorker worker = {0};

	prev_object_access_hook = object_access_hook;
	object_access_hook = kworker_object_access;
	RegisterResourceReleaseCallback(kworker_release, NULL);

	/* pg_upgrade wants a server in which nothing happens by itself */
	if (IsBinaryUpgrade)
		return;

	strlcpy(worker.bgw_name, "kafka launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "kafka launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, KAFKA_PG_NAME, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "kworker_launcher_main", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = KWORKER_LAUNCHER_RESTART_S;
	RegisterBackgroundWorker(&worker);
}

/* ------------------------------------------------------------------------
 * When a process starts
 * ------------------------------------------------------------------------
 */

const char *
kworker_slot_name(const KWorkerSlot *slot, char *buf, size_t size)
{
	if (slot->kind == KWORKER_BROKER || slot->kind == KWORKER_READER)
		snprintf(buf, size, "%s %d", kinds[slot->kind].name, slot->no);
	else
		strlcpy(buf, kinds[slot->kind].name, size);
	return buf;
}

/* Settings of a database, a role or a file that are not meant for our processes. */
static void
kworker_settings(void)
{
	static const char *const settings[][2] = {
		/*
		 * A commit that waits for a quorum would stop the process; what must be durable
		 * is awaited by whoever answers for it.
		 */
		{"synchronous_commit", "off"},
		{"search_path", ""},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"row_security", "on"},
		{"default_tablespace", ""},
		{"default_table_access_method", "heap"},
		{"debug_parallel_query", "off"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/* Signals, database, settings: the first thing in each process. */
void
kworker_connect(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(kguc_database, NULL, 0);
	kworker_settings();
	pgstat_report_activity(STATE_IDLE, NULL);
}

static void
kworker_leave(int code, Datum arg)
{
	LWLockAcquire(&kworker_shared->lock, LW_EXCLUSIVE);
	if (my_slot->pid == MyProcPid)
		my_slot->pid = 0;
	LWLockRelease(&kworker_shared->lock);
	kworker_wake_launcher();
}

/*
 * Every process but the launcher. The argument is its slot; bgw_extra holds the
 * ticket of its start. An ERROR that reaches this function ends the process, and
 * the launcher starts another.
 */
void
kworker_main(Datum arg)
{
	int			i = DatumGetInt32(arg);
	uint32		ticket;
	bool		mine;

	if (i < 0 || i >= kworker_shared->nslots)
		elog(ERROR, "process slot %d does not exist", i);
	memcpy(&ticket, MyBgworkerEntry->bgw_extra, sizeof(ticket));
	my_slot = &kworker_shared->slots[i];

	kworker_connect();
	if (kinds[my_slot->kind].interruptible)
	{
		pqsignal(SIGTERM, die);
		pqsignal(SIGINT, StatementCancelHandler);
	}

	/* it gets its time, but does not interrupt a broker, or a client on this machine, to begin */
	if (kinds[my_slot->kind].unhurried)
		(void) sched_setscheduler(0, SCHED_BATCH, &(struct sched_param) {0});

	LWLockAcquire(&kworker_shared->lock, LW_EXCLUSIVE);
	mine = my_slot->pid == 0 && my_slot->ticket == ticket;
	if (mine)
		my_slot->pid = MyProcPid;
	LWLockRelease(&kworker_shared->lock);

	/* a launcher that died had started us, and its successor somebody else */
	if (!mine)
		proc_exit(0);
	before_shmem_exit(kworker_leave, 0);

	kinds[my_slot->kind].run(my_slot->no);
	proc_exit(0);
}

/* ------------------------------------------------------------------------
 * While it runs
 * ------------------------------------------------------------------------
 */

/* Has this process been asked to stop? */
bool
kworker_stopping(void)
{
	return ShutdownRequestPending;
}

/*
 * Serve what signals have asked for. To be called outside transactions, at least
 * whenever the latch was set. True: settings may have changed.
 */
bool
kworker_interrupts(void)
{
	bool		reload = ConfigReloadPending;

	CHECK_FOR_INTERRUPTS();

	/* a process that always finds its latch set would not learn of it from WaitLatch() */
	if (!PostmasterIsAlive())
		proc_exit(1);
	if (reload)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	return reload;
}

/* After an ERROR that was caught: nothing of what it interrupted is left. */
static void
kworker_clean_up(void)
{
	HOLD_INTERRUPTS();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	UnlockBuffers();
	AbortCurrentTransaction();
	RESUME_INTERRUPTS();
}

/*
 * Call fn(arg). False if it threw: then its transaction is rolled back, and *error
 * says why (in the memory context of the caller).
 */
bool
kworker_try(void (*fn) (void *arg), void *arg, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		fn(arg);
	}
	PG_CATCH();
	{
		ok = false;
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		kworker_clean_up();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
	return ok;
}

/* The same, with the error in the server's log. */
bool
kworker_guard(void (*fn) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		fn(arg);
	}
	PG_CATCH();
	{
		ok = false;
		EmitErrorReport();
		FlushErrorState();
		kworker_clean_up();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
	return ok;
}

typedef struct KWorkerTurn
{
	long		(*turn) (void);
	long		ms;
} KWorkerTurn;

static void
kworker_turn(void *arg)
{
	KWorkerTurn *turn = arg;

	turn->ms = turn->turn();
}

/*
 * The loop of a process without sockets, until it is asked to stop. turn() does
 * what there is to do and returns for how many milliseconds it may sleep: 0 when
 * there is more, -1 until its latch is set. An ERROR is logged, and the turn is
 * tried again after a pause. When asked to stop it makes one last turn.
 */
void
kworker_loop(long (*turn) (void))
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "kafka turn",
												  ALLOCSET_DEFAULT_SIZES);
	bool		stopping;

	do
	{
		KWorkerTurn arg = {turn, -1};
		long		pending;

		ResetLatch(MyLatch);
		/* WaitLatch does not look while the latch is set, and so not while there is much to do */
		if (!PostmasterIsAlive())
			proc_exit(1);
		(void) kworker_interrupts();
		stopping = kworker_stopping();

		MemoryContextSwitchTo(context);
		if (!kworker_guard(kworker_turn, &arg))
			arg.ms = KWORKER_ERROR_PAUSE_MS;
		MemoryContextReset(context);

		if (stopping || arg.ms == 0)
			continue;
		pending = pgstat_report_stat(false);
		if (pending > 0 && (arg.ms < 0 || arg.ms > pending))
			arg.ms = pending;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (arg.ms > 0 ? WL_TIMEOUT : 0),
						 arg.ms, PG_WAIT_EXTENSION);
	} while (!stopping);
	MemoryContextSwitchTo(TopMemoryContext);
}

void
kworker_wake_launcher(void)
{
	Latch	   *latch;

	if (kworker_shared == NULL)
		return;
	/* a latch outlives its process; setting that of a successor does no harm */
	latch = kworker_shared->launcher;
	if (latch != NULL)
		SetLatch(latch);
}
