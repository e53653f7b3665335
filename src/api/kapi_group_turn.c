/*
 * kapi_group_turn.c
 *		What a turn does for groups that no request asks for: rows and offsets into tables,
 *		answers from other brokers, deadlines, the start.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "api/kapi_group.h"
#include "api/kapi_wait.h"
#include "kguc.h"
#include "kstop.h"

/* After an error, until it is tried again. */
#define AGAIN_MS	1000

/* While somebody has a lock. */
#define BUSY_MS		2

/* While there is no memory. */
#define NO_ROOM_MS	100

/* Of one turn, for groups whose time has come. */
#define TICKS_MS	5

/* A group whose rows this broker writes. */
typedef struct Writing
{
	int			slot;
	bool		tried;			/* in the transaction that is being made */
	bool		alone;			/* an error was thrown while it was written with others */
	bool		sent;			/* committed; not durable yet, for all that is known */
	uint64		version;
	XLogRecPtr	lsn;
	int64		when;			/* not before that, on kcoord_now()'s clock */
} Writing;

static bool attached;
static Writing *writing;
static int	nwriting;
static XLogRecPtr greatest_lsn;
static MemoryContext letter_context;	/* of the one that is read */

static int64 load_when;			/* try to read the rows then */
static int64 expire_last;		/* when expired offsets were last looked for */
static int	forgotten;			/* slots in which our predecessor is forgotten */

void
kapi_group_attach(void)
{
	kapi_group_requests_init();
	writing = MemoryContextAllocHuge(kapi_context, kcoord_capacity() * sizeof(Writing));
	letter_context = AllocSetContextCreate(kapi_context, "kafka letters", ALLOCSET_DEFAULT_SIZES);
	kcoord_attach(kapi_broker);
	expire_last = kcoord_now();
	attached = true;
}

bool
kapi_group_ready(void)
{
	return attached && kcoord_loaded() && forgotten >= kcoord_capacity();
}

void
kapi_group_must_write(int slot)
{
	writing[nwriting++] = (Writing)
	{
		.slot = slot
	};
}

/* ------------------------------------------------------------------------
 * The start
 * ------------------------------------------------------------------------
 */

typedef struct Restoring
{
	KGroupWork	work;
	int			refused;
} Restoring;

/* A session may look at the place. */
static KCoordLock
lock_patiently(KStr id, KCoordSlot **slot)
{
	KCoordLock	lock;

	while ((lock = kcoord_lock(id, true, slot)) == KCOORD_BUSY)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(100);
	}
	return lock;
}

static void
restore_group(void *arg, KStr id, const KGroupRow * rows, int count)
{
	Restoring  *restoring = arg;
	KGroupWork *work = &restoring->work;
	KCoordSlot *slot;
	KCoordVersion version;
	const		KGroupAnswer *own;
	KGroup	   *g;

	if (lock_patiently(id, &slot) != KCOORD_LOCKED)
	{
		restoring->refused++;
		return;
	}
	kapi_group_configure(work, id);
	g = kgroup_restore(&work->env, kcoord_now(), id, rows, count);
	if (g == NULL)
		kcoord_unlock(slot);
	if (g == NULL || !kapi_group_finish(work, slot, g, KGROUP_CHANGED, 0, &own, &version))
		restoring->refused++;
	kapi_group_work_reset(work);
}

/* *arg becomes true when all rows have been read. */
static void
load_step(void *arg)
{
	Restoring	restoring = {.refused = 0};
	bool	   *loaded = arg;
	bool		busy = false;

	if (!kapi_group_work(&restoring.work))
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (kcoord_state_load(restore_group, &restoring, &busy))
	{
		*loaded = true;
		if (restoring.refused > 0)
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("could not restore %d consumer groups", restoring.refused),
					 errhint("Their rows in kafka.group_state are damaged, or there are more than kafka_pg.max_groups or kafka_pg.group_memory allow.")));
	}
	PopActiveSnapshot();
	kapi_group_work_end(&restoring.work);
}

static void
load(void)
{
	bool		loaded = false;

	load_when = kcoord_now() + AGAIN_MS;
	if (!kcoord_load_begin())
		return;
	if (!kapi_guard(load_step, &loaded, "reading consumer groups"))
		loaded = false;
	kcoord_load_end(loaded);
}

static KGroupResult
delete_event(KGroup * g)
{
	int16		error;

	return kgroup_delete(g, &error);
}

/*
 * Runs an event that no request has asked for.  Returns 0, or in how many milliseconds it should
 * be tried again.
 */
static int
run_on_slot(int number, KGroupResult(*event) (KGroup * g))
{
	KGroupWork	work;
	KGroupResult result;
	KCoordSlot *slot;
	KCoordVersion version;
	const		KGroupAnswer *own;
	const uint8 *image;
	size_t		len;
	KGroup	   *g;
	int			again = 0;

	if (!kapi_group_work(&work))
		return BUSY_MS;
	if (kcoord_lock_number(number, &slot) == KCOORD_LOCKED)
	{
		image = kcoord_image(slot, &len);
		g = kapi_group_open(&work, kcoord_id(slot), image, len);
		if (g == NULL)
		{
			kcoord_unlock(slot);
			kapi_group_work_end(&work);
			return NO_ROOM_MS;
		}
		result = kcoord_is_forsaken(slot) ? delete_event(g) : event(g);
		/* a deadline that a session has outlived is computed anew */
		if (result == KGROUP_UNCHANGED && kcoord_deadline(number) <= kcoord_now())
			result = KGROUP_CHANGED;
		/* no memory: whoever has it must first be done with it */
		if (!kapi_group_finish(&work, slot, g, result, 0, &own, &version))
			again = NO_ROOM_MS;
	}
	kapi_group_work_end(&work);
	return again;
}

static KGroupResult
forget_event(KGroup * g)
{
	return kgroup_forget_broker(g, kapi_broker);
}

/* What a process of our number held: its requests, and its part as a writer. */
static void
forget_step(void *arg)
{
	while (forgotten < kcoord_capacity())
	{
		KCoordSlot *slot;

		if (kcoord_lock_number(forgotten, &slot) == KCOORD_LOCKED)
		{
			bool		mine = kcoord_am_writer(slot);

			for (int i = 0; i < nwriting; i++)
				mine = mine && writing[i].slot != forgotten;
			kcoord_unlock(slot);
			if (mine)
				kapi_group_must_write(forgotten);
			if (run_on_slot(forgotten, forget_event) != 0)
				return;
		}
		forgotten++;
	}
}

/* ------------------------------------------------------------------------
 * Time
 * ------------------------------------------------------------------------
 */

typedef struct Tick
{
	int			slot;
	int			again;
} Tick;

static void
tick_step(void *arg)
{
	Tick	   *tick = arg;

	tick->again = run_on_slot(tick->slot, kgroup_tick);
}

/* What is due, for a while: the sessions of many groups may end in one moment. */
static void
tick(void)
{
	static int	first;			/* where the last look has stopped */
	int64		start = kcoord_now();
	int64		next = PG_INT64_MAX;

	for (int n = 0; n < kcoord_capacity(); n++)
	{
		Tick		tick = {.slot = (first + n) % kcoord_capacity()};
		int64		deadline = kcoord_deadline(tick.slot);

		if (deadline <= start)
		{
			if (kcoord_now() > start + TICKS_MS)
			{
				first = tick.slot;
				kcoord_timer_again(start);
				return;
			}
			if (!kapi_guard(tick_step, &tick, "looking after a consumer group"))
				deadline = kcoord_now() + AGAIN_MS;
			else if (tick.again != 0)
				deadline = kcoord_now() + tick.again;
			else
				deadline = kcoord_deadline(tick.slot);
		}
		next = Min(next, deadline);
	}
	kcoord_timer_again(next);
}

/* Has the ddl process look for offsets that have expired, from time to time. */
static void
expire(void)
{
	static uint64 ticket;
	KApiDdl		ddl = {.op = KAPI_DDL_EXPIRE_OFFSETS,.name = ""};
	KApiDdlResult result;

	if (ticket != 0 && kapi_io->ddl_poll(ticket, &result))
	{
		ticket = 0;
		expire_last = result.more ? kcoord_now() - kguc_offset_expiry_interval : kcoord_now();
	}
	if (ticket == 0 && kcoord_is_timekeeper() &&
		kcoord_now() - expire_last >= kguc_offset_expiry_interval)
	{
		ticket = kapi_io->ddl_submit(&ddl);
		expire_last = kcoord_now();
	}
}

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------
 */

static void
write_group(KCoordTable * table, Writing * w)
{
	KGroupWork	work;
	const		KGroupRow *rows;
	KCoordSlot *slot;
	const uint8 *image;
	size_t		len;
	KGroup	   *g;
	MemoryContext old;
	KStr		id;
	int32		n = 0;

	w->when = kcoord_now() + BUSY_MS;
	if (!kapi_group_work(&work))
		return;
	old = MemoryContextSwitchTo(work.ctx);
	if (kcoord_lock_number(w->slot, &slot) == KCOORD_LOCKED)
	{
		id = kcoord_id(slot);
		id.data = pnstrdup(id.data, id.len);
		image = kcoord_image(slot, &len);
		/* the opened group lives on copies */
		g = kapi_group_open(&work, id, image, len);
		kcoord_unlock(slot);
		w->tried = true;
		if (g == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errdetail("The rows of a consumer group could not be made.")));
		n = kgroup_rows(g, &rows, &w->version);
		/* only somebody who writes into our table by hand can be in the way */
		if (n > 0 && kcoord_state_write(table, id, rows, n) != KCOORD_PUT)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("a row of kafka.group_state is locked"),
					 errhint("It is tried again until the transaction that holds it has ended.")));
	}
	MemoryContextSwitchTo(old);
	kapi_group_work_end(&work);
}

static bool
is_due(const Writing * w)
{
	return !w->sent && w->when <= kcoord_now();
}

/* One whose rows cannot be written must not keep those of all others from being written. */
static Writing *
due_alone(void)
{
	for (int i = 0; i < nwriting; i++)
	{
		if (writing[i].alone && is_due(&writing[i]))
			return &writing[i];
	}
	return NULL;
}

/* *arg becomes false if the transaction had to be undone, though nothing is wrong. */
static void
write_step(void *arg)
{
	Writing    *alone = due_alone();
	bool	   *valid = arg;
	KCoordTable table;
	bool		busy;

	kapi_txn();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (kcoord_state_open(&table, RowExclusiveLock, &busy))
	{
		if (alone != NULL)
			write_group(&table, alone);
		for (int i = 0; alone == NULL && i < nwriting; i++)
		{
			if (is_due(&writing[i]))
				write_group(&table, &writing[i]);
		}
		kcoord_table_close(&table);
	}
	else
	{
		for (int i = 0; i < nwriting; i++)
			writing[i].when = Max(writing[i].when, kcoord_now() + BUSY_MS);
	}
	if (alone == NULL)
		*valid = kapi_commits_write();
	if (!*valid)
	{
		kapi_txn_abort();
		return;
	}
	PopActiveSnapshot();
	KSTOP("group-before-commit");
	kapi_txn_end();
	KSTOP("group-after-commit");
}

static bool
write_pending(void)
{
	for (int i = 0; i < nwriting; i++)
	{
		if (is_due(&writing[i]))
			return true;
	}
	return kapi_commits_pending();
}

static void
end_step(void *arg)
{
	kapi_txn_end();
}

/* In a transaction of their own: an error of another request must not undo them. */
static void
write_all(void)
{
	bool		valid = true;
	bool		ok;

	if (!kapi_guard(end_step, NULL, "ending a transaction"))
		return;
	KSTOP(psprintf("group-before-write-%d", kapi_broker));
	for (int i = 0; i < nwriting; i++)
		writing[i].tried = false;
	ok = kapi_guard(write_step, &valid, "writing consumer groups");
	kcoord_offset_deleted();
	for (int i = 0; i < nwriting; i++)
	{
		Writing    *w = &writing[i];

		if (!w->tried)
			continue;
		w->sent = ok && valid;
		w->lsn = XactLastCommitEnd;
		w->when = ok || !w->alone ? 0 : kcoord_now() + AGAIN_MS;
		w->alone = !ok;
	}
	if (!valid)
		kapi_commits_overtaken();
	else if (ok)
	{
		greatest_lsn = Max(greatest_lsn, XactLastCommitEnd);
		kapi_commits_written(XactLastCommitEnd);
	}
	else
		kapi_commits_failed();
}

/* Tells the images of what is durable. */
static bool
tell_durable(void)
{
	bool		any = false;

	for (int i = 0; i < nwriting;)
	{
		Writing    *w = &writing[i];
		KCoordSlot *slot;
		bool		more = false;

		if (!w->sent || w->lsn > klog_durable_lsn() || w->when > kcoord_now())
		{
			i++;
			continue;
		}
		any = true;
		if (kcoord_lock_number(w->slot, &slot) == KCOORD_LOCKED)
		{
			more = kcoord_written(slot, w->version);
			kcoord_unlock(slot);
		}
		if (more)
		{
			w->sent = false;
			w->when = 0;
			i++;
		}
		else
			*w = writing[--nwriting];
	}
	return any;
}

static bool
receive(void)
{
	MemoryContext old = CurrentMemoryContext;
	KCoordPost	post;
	KCoordVersion version;
	bool		any = false;

	for (;;)
	{
		MemoryContextSwitchTo(letter_context);
		if (!kcoord_receive(&post, &version))
			break;
		MemoryContextSwitchTo(old);
		any = true;
		kapi_group_delivered(&post, &version);
		MemoryContextReset(letter_context);
	}
	MemoryContextSwitchTo(old);
	return any;
}

bool
kapi_group_turn(void)
{
	bool		any;

	if (!attached)
		return false;
	if (!kcoord_loaded() && kcoord_is_timekeeper() && load_when <= kcoord_now())
		load();
	if (kcoord_loaded() && forgotten < kcoord_capacity())
		kapi_guard(forget_step, NULL, "forgetting an earlier process");
	if (kcoord_loaded() && kcoord_timer_take())
		tick();
	if (kcoord_loaded())
		expire();
	any = receive();
	if (write_pending())
		write_all();
	return tell_durable() || any;
}

XLogRecPtr
kapi_group_lsn(void)
{
	return greatest_lsn;
}

long
kapi_group_timeout(void)
{
	int64		now = kcoord_now();
	long		ms;
	long		commits;

	if (!attached)
		return -1;
	if (!kcoord_loaded())
		return kcoord_is_timekeeper() ? Max(load_when - now, 0) : AGAIN_MS;
	if (forgotten < kcoord_capacity())
		return BUSY_MS;
	ms = kcoord_timeout();
	if (kcoord_is_timekeeper())
	{
		long		left = (long) Max(expire_last + kguc_offset_expiry_interval - now, 0);

		ms = ms < 0 ? left : Min(ms, left);
	}
	commits = kapi_commits_timeout();
	if (commits >= 0)
		ms = ms < 0 ? commits : Min(ms, commits);
	for (int i = 0; i < nwriting; i++)
	{
		long		left = Max(writing[i].when - now, 0);

		/* what is committed waits for the flusher's latch, not for a time */
		if (writing[i].sent && left == 0 && writing[i].lsn > klog_durable_lsn())
			continue;
		ms = ms < 0 ? left : Min(ms, left);
	}
	return ms;
}
