/*
 * knet_loop.c
 *	  The event loop: one turn, timers.
 *
 * A WaitEventSet cannot remove a socket, so the sockets are in an epoll
 * descriptor of our own, which is one member of the set beside the latch and the
 * death of the postmaster. Since a set latch hides the other members, every turn
 * asks the inner descriptor itself; the set is only for sleeping. See README.md
 * for the order of a turn.
 */
#include "postgres.h"

#include <limits.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "utils/memutils.h"

#include "net/knet_int.h"

#define KNET_EVENTS_PER_TURN 128
#define KNET_TIMERS_PER_TURN 256
#define KNET_STALLED_MS 5		/* until bytes that were not at hand are asked for again */

KNetLoop	knet_loop = {.epoll_fd = -1};

static int
knet_timer_compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const KNetTimer *ta = pairingheap_const_container(KNetTimer, node, a);
	const KNetTimer *tb = pairingheap_const_container(KNetTimer, node, b);

	/* the heap's first is its greatest */
	return ta->at_us < tb->at_us ? 1 : (ta->at_us > tb->at_us ? -1 : 0);
}

void
knet_loop_tick(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	knet_loop.now_us = (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Monotonic microseconds, as of this turn. */
int64
knet_now_us(void)
{
	return knet_loop.now_us;
}

/*
 * Make this process's loop, number loop_no in the server. Throws when the
 * system has no descriptors for it.
 */
void
knet_loop_init(int loop_no, const KNetHandlers *handlers, const KNetLimits *limits)
{
	MemoryContext old;

	if (loop_no < 0 || loop_no >= KNET_MAX_LOOPS)
		elog(ERROR, "event loop number %d is out of range", loop_no);

	knet_loop.no = loop_no;
	knet_loop.handlers = *handlers;
	knet_loop.limits = *limits;
	knet_loop.max_conns = limits->max_connections;
	knet_loop.context = AllocSetContextCreate(TopMemoryContext, "kafka net",
											  ALLOCSET_DEFAULT_SIZES);
	knet_loop.frames = AllocSetContextCreate(knet_loop.context, "kafka frames",
											 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(knet_loop.context);
	knet_loop.timers = pairingheap_allocate(knet_timer_compare, NULL);
	MemoryContextSwitchTo(old);
	dlist_init(&knet_loop.conns);
	dlist_init(&knet_loop.ready);
	dlist_init(&knet_loop.dirty);
	dlist_init(&knet_loop.stalled);
	dlist_init(&knet_loop.starved);
	dlist_init(&knet_loop.dead);

	ReserveExternalFD();
	knet_loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (knet_loop.epoll_fd < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("%s() failed: %m", "epoll_create1")));

	knet_loop.wait_set = CreateWaitEventSet(knet_loop.context, 3);
	AddWaitEventToSet(knet_loop.wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(knet_loop.wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(knet_loop.wait_set, WL_SOCKET_READABLE, knet_loop.epoll_fd, NULL, NULL);

	knet_shared_attach(loop_no);
	knet_loop_tick();
}

void
knet_loop_limits(const KNetLimits *limits)
{
	knet_loop.limits = *limits;
}

void
knet_loop_stop(void)
{
	knet_loop.stop = true;
}

void
knet_timer_clear(KNetTimer *timer)
{
	if (!timer->armed)
		return;
	pairingheap_remove(knet_loop.timers, &timer->node);
	timer->armed = false;
}

void
knet_timer_set(KNetTimer *timer, int64 delay_us, void (*fn) (void *arg), void *arg)
{
	knet_timer_clear(timer);
	timer->at_us = knet_loop.now_us + Max(delay_us, 0);
	timer->fn = fn;
	timer->arg = arg;
	timer->armed = true;
	pairingheap_add(knet_loop.timers, &timer->node);
}

static KNetTimer *
knet_timer_first(void)
{
	if (pairingheap_is_empty(knet_loop.timers))
		return NULL;
	return pairingheap_container(KNetTimer, node, pairingheap_first(knet_loop.timers));
}

static void
knet_run_timers(void)
{
	for (int i = 0; i < KNET_TIMERS_PER_TURN; i++)
	{
		KNetTimer  *timer = knet_timer_first();

		if (timer == NULL || timer->at_us > knet_loop.now_us)
			break;
		knet_timer_clear(timer);
		timer->fn(timer->arg);
	}
}

/* Connections whose input is in memory: each gets one go. */
static void
knet_run_ready(void)
{
	dlist_head	ready;
	dlist_node *node;

	if (dlist_is_empty(&knet_loop.ready))
		return;

	/* whoever is ready again goes to the end, so count */
	dlist_init(&ready);
	while (!dlist_is_empty(&knet_loop.ready))
	{
		node = dlist_pop_head_node(&knet_loop.ready);
		dlist_push_tail(&ready, node);
	}
	while (!dlist_is_empty(&ready))
		knet_conn_go_on(dlist_head_element(KConn, ready_node, &ready));
}

/* Serve what the sockets have for us. */
static void
knet_run_sockets(void)
{
	struct epoll_event events[KNET_EVENTS_PER_TURN];
	int			n = epoll_wait(knet_loop.epoll_fd, events, KNET_EVENTS_PER_TURN, 0);

	if (n < 0)
	{
		if (errno != EINTR)
			ereport(FATAL,
					(errcode_for_socket_access(),
					 errmsg("%s() failed: %m", "epoll_wait")));
		return;
	}
	for (int i = 0; i < n; i++)
	{
		/* connections that died in this turn are still there, see bury */
		if (*(KNetKind *) events[i].data.ptr == KNET_KIND_LISTENER)
			knet_listen_event(events[i].data.ptr);
		else
			knet_conn_event(events[i].data.ptr, events[i].events);
	}
}

/* Is there something to do that is known already? */
static bool
knet_busy(void)
{
	return !dlist_is_empty(&knet_loop.ready) ||
		!dlist_is_empty(&knet_loop.dirty) ||
		!dlist_is_empty(&knet_loop.dead);
}

/*
 * One turn. Returns for how many milliseconds the loop may sleep: 0 when there is
 * more to do at once, -1 for no limit.
 */
static long
knet_turn(void)
{
	struct epoll_event event;
	bool		idle;
	long		ms;

	/* reset first: a latch that is set from here on leads to another turn */
	ResetLatch(MyLatch);
	knet_loop_tick();
	knet_loop.handlers.turn_begin();
	knet_conn_starved();
	knet_run_ready();
	knet_run_sockets();
	knet_loop_tick();
	knet_run_timers();
	idle = !knet_busy() && epoll_wait(knet_loop.epoll_fd, &event, 1, 0) == 0;
	ms = knet_loop.handlers.turn_end(idle);
	knet_send_dirty();

	/* what is told here may give the user work after it has said how long we may sleep */
	if (knet_conn_bury())
		idle = false;
	knet_loop.handlers.turn_close();

	return idle && !knet_busy() ? ms : 0;
}

static void
knet_sleep(long longest_ms)
{
	KNetTimer  *timer = knet_timer_first();
	long		ms = longest_ms;
	WaitEvent	event;

	if (!dlist_is_empty(&knet_loop.stalled))
		ms = ms < 0 ? KNET_STALLED_MS : Min(ms, KNET_STALLED_MS);

	if (timer != NULL)
	{
		int64		due;

		knet_loop_tick();
		/* round up: too early would mean a turn for nothing */
		due = (timer->at_us - knet_loop.now_us + 999) / 1000;
		due = Max(due, 0);
		ms = ms < 0 ? due : Min(ms, due);
	}
	WaitEventSetWait(knet_loop.wait_set, Min(ms, INT_MAX), &event, 1, PG_WAIT_EXTENSION);
}

/* Turn until knet_loop_stop(). */
void
knet_loop_run(void)
{
	knet_loop.stop = false;
	while (!knet_loop.stop)
	{
		long		ms = knet_turn();

		if (knet_loop.stop)
			break;
		if (ms != 0)
			knet_sleep(ms);
		else if (!PostmasterIsAlive())
			proc_exit(1);
	}
}

/*
 * Shut down: read nothing more, go on until every request has got its answer
 * and the answers are sent, or until the time is up; close everything.
 */
void
knet_loop_drain(int timeout_ms)
{
	int64		end;

	knet_loop_tick();
	end = knet_loop.now_us + (int64) timeout_ms * 1000;
	knet_loop.draining = true;
	knet_listen_close();
	knet_conn_drain_all();
	while (!dlist_is_empty(&knet_loop.conns) && knet_loop.now_us < end)
	{
		long		left = (end - knet_loop.now_us) / 1000 + 1;
		long		ms = knet_turn();

		if (ms != 0)
			knet_sleep(ms < 0 ? left : Min(ms, left));
	}
	while (!dlist_is_empty(&knet_loop.conns))
		knet_conn_kill(dlist_head_element(KConn, node, &knet_loop.conns), "shutdown");
	knet_conn_bury();
}
