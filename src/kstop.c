/*
 * kstop.c
 *		Named stop points; see kstop.h.
 *
 * Points live in a small array in shared memory under a spinlock. A process that waits at one
 * looks at it every millisecond: that works where a latch or a condition variable would not
 * (critical sections, held locks, the startup process), and only tests pay for it.
 *
 * The SQL functions are not part of the extension: a test declares those it needs, which takes a
 * superuser.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/pmsignal.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "kguc.h"
#include "kstop.h"

#define KSTOP_MAX_POINTS	16

typedef enum KStopAction
{
	KSTOP_OFF,					/* the slot is free */
	KSTOP_WAIT,
	KSTOP_ERROR,
	KSTOP_FATAL,
	KSTOP_KILL,
	KSTOP_PANIC
} KStopAction;

static const char *const action_names[] = {"off", "wait", "error", "fatal", "kill", "panic"};

typedef struct KStopPoint
{
	char		name[NAMEDATALEN];
	KStopAction action;
	uint32		generation;		/* of this slot; changes when the point is released */
	int			skip;			/* times that the point is still to be passed by */
	int			reached;		/* times that its action was taken */
} KStopPoint;

typedef struct KStopShared
{
	pg_atomic_uint32 armed;
	slock_t		mutex;
	KStopPoint	point[KSTOP_MAX_POINTS];
} KStopShared;

pg_atomic_uint32 *kstop_armed = NULL;

static KStopShared *shared = NULL;

static KStopPoint *find_point(const char *name);
static bool arm_point(const char *name, KStopAction action, int skip);
static bool release_point(const char *name);
static bool parse_action(const char *name, KStopAction *action);
static void arm_from_setting(void);

Size
kstop_shmem_size(void)
{
	return MAXALIGN(sizeof(KStopShared));
}

void
kstop_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("kafka_pg stop points", sizeof(KStopShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(KStopShared));
		pg_atomic_init_u32(&shared->armed, 0);
		SpinLockInit(&shared->mutex);
		arm_from_setting();
	}
	kstop_armed = &shared->armed;
}

/*
 * Takes the action of the stop point, if it is armed. Behind KSTOP(), not called otherwise.
 */
void
kstop_reached(const char *name)
{
	KStopPoint *point;
	KStopAction action = KSTOP_OFF;
	uint32		generation = 0;

	SpinLockAcquire(&shared->mutex);
	point = find_point(name);
	if (point != NULL && point->skip > 0)
		point->skip--;
	else if (point != NULL)
	{
		action = point->action;
		generation = point->generation;
		point->reached++;
	}
	SpinLockRelease(&shared->mutex);

	switch (action)
	{
		case KSTOP_OFF:
			return;
		case KSTOP_WAIT:
			break;
		case KSTOP_ERROR:
			elog(ERROR, "stop point %s", name);
			break;
		case KSTOP_FATAL:
			elog(FATAL, "stop point %s", name);
			break;
		case KSTOP_PANIC:
			elog(PANIC, "stop point %s", name);
			break;
		case KSTOP_KILL:
			kill(getpid(), SIGKILL);
			for (;;)
				pause();
	}

	/*
	 * An interrupt ends the wait, where one may be served. Nobody releases us when the postmaster
	 * has died.
	 */
	for (;;)
	{
		bool		released;

		SpinLockAcquire(&shared->mutex);
		released = (point->generation != generation);
		SpinLockRelease(&shared->mutex);
		if (released)
			return;
		if (!PostmasterIsAlive())
			_exit(1);
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
}

/* The armed point of that name, or NULL. The mutex is held. */
static KStopPoint *
find_point(const char *name)
{
	for (int i = 0; i < KSTOP_MAX_POINTS; i++)
	{
		KStopPoint *point = &shared->point[i];

		if (point->action != KSTOP_OFF && strncmp(point->name, name, NAMEDATALEN - 1) == 0)
			return point;
	}
	return NULL;
}

/* False: there is no room for another. A point that is armed already gets the new action. */
static bool
arm_point(const char *name, KStopAction action, int skip)
{
	KStopPoint *point;

	SpinLockAcquire(&shared->mutex);
	point = find_point(name);
	for (int i = 0; point == NULL && i < KSTOP_MAX_POINTS; i++)
	{
		if (shared->point[i].action == KSTOP_OFF)
		{
			point = &shared->point[i];
			strlcpy(point->name, name, NAMEDATALEN);
			point->reached = 0;
			pg_atomic_fetch_add_u32(&shared->armed, 1);
		}
	}
	if (point != NULL)
	{
		point->action = action;
		point->skip = skip;
	}
	SpinLockRelease(&shared->mutex);
	return point != NULL;
}

/* Disarms the point and lets go of those who wait there. False: it was not armed. */
static bool
release_point(const char *name)
{
	KStopPoint *point;

	SpinLockAcquire(&shared->mutex);
	point = find_point(name);
	if (point != NULL)
	{
		point->action = KSTOP_OFF;
		point->generation++;
		pg_atomic_fetch_sub_u32(&shared->armed, 1);
	}
	SpinLockRelease(&shared->mutex);
	return point != NULL;
}

static bool
parse_action(const char *name, KStopAction *action)
{
	for (int i = KSTOP_WAIT; i < (int) lengthof(action_names); i++)
	{
		if (strcmp(action_names[i], name) == 0)
		{
			*action = i;
			return true;
		}
	}
	return false;
}

/* kafka_pg.test_stop_points = 'name=action, ...' */
static void
arm_from_setting(void)
{
	List	   *items;
	ListCell   *lc;

	if (!SplitGUCList(pstrdup(kguc_test_stop_points), ',', &items))
		elog(FATAL, "kafka_pg.test_stop_points: list syntax is invalid");
	foreach(lc, items)
	{
		char	   *name = lfirst(lc);
		char	   *equals = strchr(name, '=');
		KStopAction action = KSTOP_WAIT;

		if (equals != NULL)
		{
			*equals = '\0';
			if (!parse_action(equals + 1, &action))
				elog(FATAL, "kafka_pg.test_stop_points: no action \"%s\"", equals + 1);
		}
		if (!arm_point(name, action, 0))
			elog(FATAL, "kafka_pg.test_stop_points: more than %d stop points", KSTOP_MAX_POINTS);
	}
}

PG_FUNCTION_INFO_V1(kstop_sql_arm);
PG_FUNCTION_INFO_V1(kstop_sql_await);
PG_FUNCTION_INFO_V1(kstop_sql_release);

/*
 * stop_arm(name text, action text, skip int) → void
 *
 * Arms a stop point; its first "skip" passes do nothing.
 */
Datum
kstop_sql_arm(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *action_name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	KStopAction action;

	if (!parse_action(action_name, &action))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no stop point action \"%s\"", action_name)));
	if (!arm_point(name, action, PG_GETARG_INT32(2)))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("more than %d stop points", KSTOP_MAX_POINTS)));
	PG_RETURN_VOID();
}

/*
 * stop_await(name text, n int, timeout_ms int) → bool
 *
 * Waits until the point has been reached n times since it was armed; false when the time is over.
 */
Datum
kstop_sql_await(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			wanted = PG_GETARG_INT32(1);
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PG_GETARG_INT32(2));

	for (;;)
	{
		KStopPoint *point;
		int			reached;

		SpinLockAcquire(&shared->mutex);
		point = find_point(name);
		reached = point != NULL ? point->reached : 0;
		SpinLockRelease(&shared->mutex);
		if (reached >= wanted)
			PG_RETURN_BOOL(true);
		if (GetCurrentTimestamp() >= end)
			PG_RETURN_BOOL(false);
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
}

/*
 * stop_release(name text) → bool
 *
 * Disarms the point and lets everybody go on; false when it was not armed.
 */
Datum
kstop_sql_release(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(release_point(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}
