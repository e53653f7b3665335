/*
 * kapi_wait.c
 *		Parked requests: by LSN, by time, by a partition's high watermark.
 *
 * LSNs and times are in heaps, so that a turn costs nothing for requests whose moment has not
 * come.  For high watermarks there is a table of the partitions watched: the log tells a broker
 * that something has moved, not what, so that each turn compares one number per watched
 * partition.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "api/kapi_stat.h"
#include "api/kapi_wait.h"

#define MAX_BACKOFF		50		/* ms */

typedef struct WatchKey
{
	Oid			relid;
	int32		partition;
} WatchKey;

typedef struct Watch
{
	WatchKey	key;
	dlist_node	node;			/* in watched */
	dlist_head	watchers;
} Watch;

/* In the request's memory. */
typedef struct Watcher
{
	dlist_node	node;			/* in watch->watchers */
	slist_node	own;			/* in req->wait.watches */
	Watch	   *watch;
	KRequest   *req;
	int64		offset;
} Watcher;

static pairingheap *times;
static pairingheap *lsns[2];	/* flushed, durable */
static dlist_head polled = DLIST_STATIC_INIT(polled);
static dlist_head ready = DLIST_STATIC_INIT(ready);
static HTAB *watches;

/* All entries of it: a hash scan would not survive an error in between. */
static dlist_head watched = DLIST_STATIC_INIT(watched);
static int	parked;
static XLogRecPtr greatest_lsn = InvalidXLogRecPtr;

/* Somebody has used up its share of the turn: do not sleep at all. */
static bool hurry;

/* Some watched partition could not be looked at: do not sleep for long. */
static bool watch_retry;

/* pairingheap gives the greatest first: these turn the order round. */
static int
compare_times(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	int64		x = pairingheap_const_container(KRequest, wait.time_node, a)->wait.deadline;
	int64		y = pairingheap_const_container(KRequest, wait.time_node, b)->wait.deadline;

	return x < y ? 1 : x > y ? -1 : 0;
}

static int
compare_lsns(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	XLogRecPtr	x = pairingheap_const_container(KRequest, wait.lsn_node, a)->wait.lsn;
	XLogRecPtr	y = pairingheap_const_container(KRequest, wait.lsn_node, b)->wait.lsn;

	return x < y ? 1 : x > y ? -1 : 0;
}

void
kapi_wait_init(void)
{
	HASHCTL		ctl = {0};

	times = pairingheap_allocate(compare_times, NULL);
	lsns[0] = pairingheap_allocate(compare_lsns, NULL);
	lsns[1] = pairingheap_allocate(compare_lsns, NULL);
	ctl.keysize = sizeof(WatchKey);
	ctl.entrysize = sizeof(Watch);
	ctl.hcxt = kapi_context;
	watches = hash_create("kafka watched partitions", 256, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
park(KRequest * req, void (*wake) (KRequest * req))
{
	req->wait.wake = wake;
	if (!req->parked)
	{
		req->parked = true;
		parked++;
		req->conn->nparked++;
		kapi_stat_parked(req->conn);
	}
}

void
kapi_wait_until(KRequest * req, int64 deadline, void (*wake) (KRequest * req))
{
	park(req, wake);
	if (req->wait.timed)
	{
		if (req->wait.deadline <= deadline)
			return;
		pairingheap_remove(times, &req->wait.time_node);
	}
	req->wait.timed = true;
	req->wait.deadline = deadline;
	pairingheap_add(times, &req->wait.time_node);
}

void
kapi_wait_lsn(KRequest * req, XLogRecPtr lsn, bool quorum, void (*wake) (KRequest * req))
{
	Assert(!req->wait.for_lsn);
	park(req, wake);
	req->wait.for_lsn = true;
	req->wait.lsn = lsn;
	req->wait.quorum = quorum;
	pairingheap_add(lsns[quorum], &req->wait.lsn_node);
	greatest_lsn = Max(greatest_lsn, lsn);
}

void
kapi_wait_poll(KRequest * req, void (*wake) (KRequest * req))
{
	park(req, wake);
	if (!req->wait.polled)
	{
		req->wait.polled = true;
		dlist_push_tail(&polled, &req->wait.poll_node);
	}
}

void
kapi_wait_turn(KRequest * req, void (*wake) (KRequest * req))
{
	kapi_wait_poll(req, wake);
	hurry = true;
}

void
kapi_wait_retry(KRequest * req, void (*wake) (KRequest * req))
{
	/* The first time: the next turn, which kapi_wait_timeout() makes come at once. */
	kapi_wait_until(req, kapi_now() + req->wait.backoff, wake);
	req->wait.backoff = req->wait.backoff == 0 ? 1 : Min(req->wait.backoff * 2, MAX_BACKOFF);
}

void
kapi_wait_progress(KRequest * req)
{
	req->wait.backoff = 0;
}

void
kapi_wait_data(KRequest * req, Oid relid, int32 partition, int64 offset,
			   void (*wake) (KRequest * req))
{
	WatchKey	key = {relid, partition};
	bool		found;
	Watch	   *watch;
	Watcher    *watcher = MemoryContextAlloc(req->ctx, sizeof(Watcher));

	watch = hash_search(watches, &key, HASH_ENTER, &found);
	if (!found)
	{
		dlist_init(&watch->watchers);
		dlist_push_tail(&watched, &watch->node);
	}
	park(req, wake);
	watcher->watch = watch;
	watcher->req = req;
	watcher->offset = offset;
	dlist_push_tail(&watch->watchers, &watcher->node);
	slist_push_head(&req->wait.watches, &watcher->own);
}

void
kapi_wait_clear(KRequest * req)
{
	KWait	   *wait = &req->wait;

	if (!req->parked)
		return;
	req->parked = false;
	parked--;
	req->conn->nparked--;
	kapi_stat_parked(req->conn);
	if (wait->timed)
		pairingheap_remove(times, &wait->time_node);
	if (wait->for_lsn)
		pairingheap_remove(lsns[wait->quorum], &wait->lsn_node);
	if (wait->polled)
		dlist_delete(&wait->poll_node);
	if (wait->ready)
		dlist_delete(&wait->ready_node);
	wait->timed = wait->for_lsn = wait->polled = wait->ready = false;
	while (!slist_is_empty(&wait->watches))
	{
		Watcher    *watcher = slist_container(Watcher, own, slist_pop_head_node(&wait->watches));
		Watch	   *watch = watcher->watch;

		dlist_delete(&watcher->node);
		pfree(watcher);
		if (!dlist_is_empty(&watch->watchers))
			continue;
		dlist_delete(&watch->node);
		hash_search(watches, &watch->key, HASH_REMOVE, NULL);
	}
}

static void
make_ready(KRequest * req)
{
	if (!req->wait.ready)
	{
		req->wait.ready = true;
		dlist_push_tail(&ready, &req->wait.ready_node);
	}
}

static void
ready_watchers(Watch *watch, int64 high_watermark)
{
	dlist_iter	iter;

	dlist_foreach(iter, &watch->watchers)
	{
		Watcher    *watcher = dlist_container(Watcher, node, iter.cur);

		if (high_watermark > watcher->offset)
			make_ready(watcher->req);
	}
}

/* Compares one watched partition's high watermark with what is waited for. */
static void
check_watch(void *arg)
{
	Watch	   *watch = arg;
	bool		busy;
	bool		failed;
	Relation	rel;
	KLogPartition *part;

	kapi_txn();
	rel = kapi_relation(watch->key.relid, AccessShareLock, &busy);
	if (rel == NULL)
	{
		if (busy)
			watch_retry = true;
		else
			ready_watchers(watch, PG_INT64_MAX);
		return;
	}
	part = kapi_partition(rel, watch->key.partition, &failed);
	if (part == NULL)
	{
		if (failed)
			ready_watchers(watch, PG_INT64_MAX);
		else
			watch_retry = true;
		return;
	}
	/* In this order: what moves after the look sets our latch. */
	klog_broker_wants_data(part, kapi_broker);
	ready_watchers(watch, klog_high_watermark(part));
}

bool
kapi_wait_wake(bool poll)
{
	XLogRecPtr	reached[2];
	bool		any;

	if (poll)
		hurry = false;
	watch_retry = false;
	if (parked == 0)
		return false;

	if (poll)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &polled)
			make_ready(dlist_container(KRequest, wait.poll_node, iter.cur));
	}

	reached[false] = klog_flushed_lsn();
	reached[true] = klog_durable_lsn();
	for (int i = 0; i < 2; i++)
	{
		while (!pairingheap_is_empty(lsns[i]))
		{
			KRequest   *req = pairingheap_container(KRequest, wait.lsn_node,
													pairingheap_first(lsns[i]));

			if (req->wait.lsn > reached[i])
				break;
			pairingheap_remove_first(lsns[i]);
			req->wait.for_lsn = false;
			make_ready(req);
		}
	}

	while (!pairingheap_is_empty(times))
	{
		KRequest   *req = pairingheap_container(KRequest, wait.time_node,
												pairingheap_first(times));

		if (req->wait.deadline > kapi_now())
			break;
		pairingheap_remove_first(times);
		req->wait.timed = false;
		make_ready(req);
	}

	if (!dlist_is_empty(&watched))
	{
		dlist_iter	iter;

		dlist_foreach(iter, &watched)
		{
			Watch	   *watch = dlist_container(Watch, node, iter.cur);

			/* If that fails, its requests will run into the same error, and answer it. */
			if (!kapi_guard(check_watch, watch, "looking at a watched partition"))
				ready_watchers(watch, PG_INT64_MAX);
		}
	}

	any = !dlist_is_empty(&ready);
	while (!dlist_is_empty(&ready))
	{
		KRequest   *req = dlist_container(KRequest, wait.ready_node, dlist_head_node(&ready));

		kapi_wait_clear(req);
		kapi_run(req, req->wait.wake);
	}
	return any;
}

XLogRecPtr
kapi_wait_greatest_lsn(void)
{
	if (pairingheap_is_empty(lsns[0]) && pairingheap_is_empty(lsns[1]))
		return InvalidXLogRecPtr;
	return greatest_lsn;
}

bool
kapi_wait_lsn_reached(void)
{
	XLogRecPtr	reached[2] = {klog_flushed_lsn(), klog_durable_lsn()};

	for (int i = 0; i < 2; i++)
	{
		if (!pairingheap_is_empty(lsns[i]) &&
			pairingheap_container(KRequest, wait.lsn_node,
								  pairingheap_first(lsns[i]))->wait.lsn <= reached[i])
			return true;
	}
	return false;
}

long
kapi_wait_timeout(void)
{
	int64		ms = -1;

	if (hurry)
		return 0;
	if (!pairingheap_is_empty(times))
	{
		KRequest   *req = pairingheap_container(KRequest, wait.time_node,
												pairingheap_first(times));

		ms = Max(req->wait.deadline - kapi_now(), 0);
		ms = Min(ms, 1000000);
	}
	if (watch_retry && (ms < 0 || ms > MAX_BACKOFF))
		ms = MAX_BACKOFF;
	return (long) ms;
}
