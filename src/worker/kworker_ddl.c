/*
 * kworker_ddl.c
 *		CREATE and DROP for brokers, which must not wait for locks; and the expiry of offsets,
 *		which would take them too long.
 *
 * A small queue in shared memory. A request goes free -> queued -> running -> done ->
 * free; the broker that made it takes the result. The process exists while there is
 * something to do, and a while longer.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "coord/kcoord.h"
#include "kguc.h"
#include "topic/ktopic.h"
#include "worker/kworker_int.h"

/* Longest wait for a lock on a table. */
#define DDL_LOCK_MS		5000

#define DDL_REQUESTS 32
#define DDL_CONFIG_SIZE 16384
#define DDL_IDLE_MS 30000

/* Kafka's error codes that arise here; others come from ktopic_error_code(). */
#define DDL_UNKNOWN_SERVER_ERROR (-1)
#define DDL_UNKNOWN_TOPIC_OR_PARTITION 3
#define DDL_INVALID_CONFIG 40
#define DDL_UNKNOWN_TOPIC_ID 100

typedef enum KDdlState
{
	DDL_FREE,
	DDL_QUEUED,
	DDL_RUNNING,
	DDL_DONE
} KDdlState;

typedef struct KDdlRequest
{
	KDdlState	state;
	bool		cancelled;		/* nobody waits for the result */
	uint64		ticket;
	pid_t		pid;			/* of the broker */
	Latch	   *latch;
	KApiDdlOp	op;
	Oid			role;
	char		name[KAPI_TOPIC_NAME_MAX + 1];
	uint8		topic_id[16];
	int32		partitions;
	int			timeout_ms;
	bool		has_config;
	char		config[DDL_CONFIG_SIZE];
	KApiDdlResult result;
} KDdlRequest;

typedef struct KDdlShared
{
	LWLock		lock;			/* protects all of this */
	Latch	   *latch;			/* of the ddl process; NULL: there is none */
	uint64		last_ticket;
	KDdlRequest requests[DDL_REQUESTS];
} KDdlShared;

static KDdlShared *shared;
static bool exit_registered;

Size
kworker_ddl_shmem_size(void)
{
	return MAXALIGN(sizeof(KDdlShared));
}

void
kworker_ddl_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("kafka_pg ddl", kworker_ddl_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(KDdlShared));
		LWLockInitialize(&shared->lock, kworker_shared->tranche);
	}
}

/* ------------------------------------------------------------------------
 * For brokers
 * ------------------------------------------------------------------------
 */

static KDdlRequest *
ddl_find(uint64 ticket)
{
	for (int i = 0; i < DDL_REQUESTS; i++)
	{
		if (shared->requests[i].state != DDL_FREE && shared->requests[i].ticket == ticket)
			return &shared->requests[i];
	}
	return NULL;
}

/* Nobody waits for this request any longer. Lock held. */
static void
ddl_abandon(KDdlRequest *request)
{
	if (request->state == DDL_RUNNING)
		request->cancelled = true;
	else
		request->state = DDL_FREE;
}

/* A broker ends: what it has asked for is abandoned. */
static void
ddl_broker_leaves(int code, Datum arg)
{
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < DDL_REQUESTS; i++)
	{
		KDdlRequest *request = &shared->requests[i];

		if (request->state != DDL_FREE && !request->cancelled && request->pid == MyProcPid)
			ddl_abandon(request);
	}
	LWLockRelease(&shared->lock);
}

/* As KApiIo.ddl_submit. */
uint64
kworker_ddl_submit(const KApiDdl *ddl)
{
	KDdlRequest *request = NULL;
	size_t		config_len = ddl->config != NULL ? strlen(ddl->config) : 0;
	uint64		ticket = 0;
	Latch	   *worker = NULL;

	Assert(strlen(ddl->name) <= KAPI_TOPIC_NAME_MAX);
	if (!exit_registered)
	{
		before_shmem_exit(ddl_broker_leaves, 0);
		exit_registered = true;
	}

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < DDL_REQUESTS && request == NULL; i++)
	{
		if (shared->requests[i].state == DDL_FREE)
			request = &shared->requests[i];
	}
	if (request != NULL)
	{
		ticket = ++shared->last_ticket;
		request->state = DDL_QUEUED;
		request->cancelled = false;
		request->ticket = ticket;
		request->pid = MyProcPid;
		request->latch = MyLatch;
		request->op = ddl->op;
		request->role = ddl->role;
		strlcpy(request->name, ddl->name, sizeof(request->name));
		memcpy(request->topic_id, ddl->topic_id, sizeof(request->topic_id));
		request->partitions = ddl->partitions;
		request->timeout_ms = ddl->timeout_ms;
		request->has_config = ddl->config != NULL;
		memset(&request->result, 0, sizeof(request->result));
		if (config_len < DDL_CONFIG_SIZE)
			strlcpy(request->config, request->has_config ? ddl->config : "", DDL_CONFIG_SIZE);
		else
		{
			request->state = DDL_DONE;
			request->result.error = DDL_INVALID_CONFIG;
			strlcpy(request->result.message, "the configs are too long",
					sizeof(request->result.message));
		}
		worker = shared->latch;
	}
	LWLockRelease(&shared->lock);

	if (ticket == 0)
		return 0;
	if (config_len >= DDL_CONFIG_SIZE)
		SetLatch(MyLatch);
	else if (worker != NULL)
		SetLatch(worker);
	else
		kworker_wake_launcher();
	return ticket;
}

/* As KApiIo.ddl_poll. */
bool
kworker_ddl_poll(uint64 ticket, KApiDdlResult *result)
{
	KDdlRequest *request;
	bool		done;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	request = ddl_find(ticket);
	done = request != NULL && request->state == DDL_DONE;
	if (done)
	{
		*result = request->result;
		request->state = DDL_FREE;
	}
	LWLockRelease(&shared->lock);
	return done;
}

/* As KApiIo.ddl_cancel. */
void
kworker_ddl_cancel(uint64 ticket)
{
	KDdlRequest *request;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	request = ddl_find(ticket);
	if (request != NULL)
		ddl_abandon(request);
	LWLockRelease(&shared->lock);
}

/* For the launcher: is there anything for a ddl process to do? */
bool
kworker_ddl_pending(void)
{
	bool		pending = false;

	LWLockAcquire(&shared->lock, LW_SHARED);
	for (int i = 0; i < DDL_REQUESTS; i++)
		pending |= shared->requests[i].state == DDL_QUEUED;
	LWLockRelease(&shared->lock);
	return pending;
}

/* ------------------------------------------------------------------------
 * The process
 * ------------------------------------------------------------------------
 */

static void
ddl_create(KDdlRequest *request)
{
	const KTopic *topic;
	Jsonb	   *config;
	Oid			relid;

	config = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												CStringGetDatum(request->has_config ?
																request->config : "{}")));
	relid = ktopic_create(request->name, request->partitions, config);
	CommandCounterIncrement();
	topic = ktopic_by_relid(relid, NULL);
	if (topic == NULL)
		elog(ERROR, "topic \"%s\" is not there after it was created", request->name);
	memcpy(request->result.topic_id, &topic->id, sizeof(request->result.topic_id));
}

/* False when there is nothing to drop: then the result says so. */
static bool
ddl_drop(KDdlRequest *request)
{
	static const uint8 any[16];
	const KTopic *topic = ktopic_by_name(request->name, NULL);

	if (topic == NULL)
		request->result.error = DDL_UNKNOWN_TOPIC_OR_PARTITION;
	else if (memcmp(request->topic_id, any, sizeof(any)) != 0 &&
			 memcmp(request->topic_id, &topic->id, sizeof(any)) != 0)
		request->result.error = DDL_UNKNOWN_TOPIC_ID;
	else
	{
		memcpy(request->result.topic_id, &topic->id, sizeof(request->result.topic_id));
		ktopic_drop(request->name);
		return true;
	}
	return false;
}

/* Nobody waits for a topic. */
static bool
ddl_is_idle(void)
{
	CHECK_FOR_INTERRUPTS();
	return !kworker_ddl_pending();
}

/* One request, in a transaction of its own, with the rights of the role that asks. */
static void
ddl_execute(void *arg)
{
	KDdlRequest *request = arg;
	char		timeout[16];
	Oid			user;
	int			context;
	bool		wrote = true;

	if (request->op == KAPI_DDL_EXPIRE_OFFSETS)
	{
		request->result.more = !kcoord_expire(kcoord_wall_clock(),
											  kguc_offset_retention * INT64CONST(60000),
											  ddl_is_idle);
		return;
	}

	/*
	 * Not as long as the client would wait: the lock that is waited for keeps brokers from the
	 * topic, and this process from all other topics.
	 */
	snprintf(timeout, sizeof(timeout), "%d", Max(Min(request->timeout_ms, DDL_LOCK_MS), 1));
	SetConfigOption("lock_timeout", timeout, PGC_SUSET, PGC_S_OVERRIDE);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(request->role, context | SECURITY_LOCAL_USERID_CHANGE);
	if (request->op == KAPI_DDL_CREATE_TOPIC)
		ddl_create(request);
	else
		wrote = ddl_drop(request);
	SetUserIdAndSecContext(user, context);
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (wrote)
		request->result.lsn = XactLastCommitEnd;
}

/*
 * What the broker tells the client about an error. What no client could have caused
 * goes to the server's log as well.
 */
static void
ddl_failed(KDdlRequest *request, ErrorData *error)
{
	KApiDdlResult *result = &request->result;

	memset(result, 0, sizeof(*result));
	result->error = ktopic_error_code(error->sqlerrcode);
	if (request->op == KAPI_DDL_EXPIRE_OFFSETS)
	{
		const char *group_id;

		result->more = kcoord_expire_failed(&group_id);
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("could not look for expired offsets: %s", error->message),
				 group_id == NULL ? 0 : errdetail("Those of consumer group \"%s\" stay.",
												  group_id)));
	}
	else if (result->error == DDL_UNKNOWN_SERVER_ERROR)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("could not %s topic \"%s\": %s",
						request->op == KAPI_DDL_CREATE_TOPIC ? "create" : "drop",
						request->name, error->message)));
	else if (error->detail != NULL)
		snprintf(result->message, sizeof(result->message), "%s: %s",
				 error->message, error->detail);
	else
		strlcpy(result->message, error->message, sizeof(result->message));
}

/* The oldest request that is queued, copied; NULL when there is none. Allocates. */
static KDdlRequest *
ddl_take(void)
{
	KDdlRequest *copy = palloc(sizeof(KDdlRequest));
	KDdlRequest *oldest = NULL;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < DDL_REQUESTS; i++)
	{
		KDdlRequest *request = &shared->requests[i];

		if (request->state == DDL_QUEUED && (oldest == NULL || request->ticket < oldest->ticket))
			oldest = request;
	}
	if (oldest != NULL)
	{
		oldest->state = DDL_RUNNING;
		memcpy(copy, oldest, sizeof(KDdlRequest));
	}
	LWLockRelease(&shared->lock);
	if (oldest == NULL)
	{
		pfree(copy);
		return NULL;
	}
	return copy;
}

static void
ddl_finish(const KDdlRequest *copy)
{
	KDdlRequest *request;
	Latch	   *latch = NULL;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	request = ddl_find(copy->ticket);
	if (request != NULL && request->state == DDL_RUNNING)
	{
		request->result = copy->result;
		request->state = request->cancelled ? DDL_FREE : DDL_DONE;
		latch = request->cancelled ? NULL : request->latch;
	}
	LWLockRelease(&shared->lock);
	if (latch != NULL)
		SetLatch(latch);
}

/* The process ends, perhaps in the middle of a request: nobody shall wait for it in vain. */
static void
ddl_leave(int code, Datum arg)
{
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	shared->latch = NULL;
	for (int i = 0; i < DDL_REQUESTS; i++)
	{
		KDdlRequest *request = &shared->requests[i];

		if (request->state != DDL_RUNNING)
			continue;
		if (request->cancelled)
			request->state = DDL_FREE;
		else
		{
			memset(&request->result, 0, sizeof(request->result));
			request->result.error = DDL_UNKNOWN_SERVER_ERROR;
			request->state = DDL_DONE;
			SetLatch(request->latch);
		}
	}
	LWLockRelease(&shared->lock);
}

/* Nothing to do for a while: true if the process may end, and is not to be woken any more. */
static bool
ddl_retire(void)
{
	bool		idle = true;

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < DDL_REQUESTS; i++)
		idle &= shared->requests[i].state != DDL_QUEUED;
	if (idle)
		shared->latch = NULL;
	LWLockRelease(&shared->lock);
	return idle;
}

void
kworker_ddl(int no)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "kafka ddl",
												  ALLOCSET_DEFAULT_SIZES);

	before_shmem_exit(ddl_leave, 0);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	shared->latch = MyLatch;
	LWLockRelease(&shared->lock);

	for (;;)
	{
		KDdlRequest *request;
		ErrorData  *error;

		ResetLatch(MyLatch);
		(void) kworker_interrupts();
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		request = ddl_take();
		if (request != NULL)
		{
			pgstat_report_activity(STATE_RUNNING, request->op == KAPI_DDL_EXPIRE_OFFSETS ?
								   "expiry of offsets" : request->name);
			if (!kworker_try(ddl_execute, request, &error))
				ddl_failed(request, error);
			MemoryContextSwitchTo(context);
			ddl_finish(request);
			pgstat_report_activity(STATE_IDLE, NULL);
			continue;
		}
		(void) pgstat_report_stat(true);
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, DDL_IDLE_MS,
					  PG_WAIT_EXTENSION) & WL_TIMEOUT && ddl_retire())
			return;
	}
}
