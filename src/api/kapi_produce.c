/*
 * kapi_produce.c
 *		Produce: appending batches together, and answering when they are durable.
 *
 * A request's batches are checked when it arrives (kapi_produce_check.c) and put into the queue
 * of their partition, where those of other requests and connections may stand already.  At the
 * end of the turn, or before when there is much, each queue is appended under one append lock.
 * Requests are answered when all their batches are appended and what acks asks for has come true.
 * A queue whose locks are not free stays, in order, and is tried again.
 *
 * Batches stay in the frame that they came in until they are appended; base offset and leader
 * epoch are written there.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "storage/lwlock.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "api/kapi_produce.h"
#include "api/kapi_wait.h"
#include "kguc.h"
#include "txn/kproducer.h"

/* Batches of one call of klog_append. */
#define MAX_RUN			64

/* How often an append that found the file full is tried in one go. */
#define MAX_GROW		4

#define MAX_BACKOFF		50		/* ms */

typedef struct QueueKey
{
	Oid			relid;
	int32		partition;
} QueueKey;

struct KProduceQueue
{
	QueueKey	key;
	dlist_node	node;			/* in queues */
	dlist_head	batches;
	int			backoff;
	int64		retry_at;		/* on kapi_now()'s clock */
	bool		on_latch;		/* or in any later turn: a reader works for it */
	uint64		turn;			/* when it was last tried */
};

static HTAB *queue_table;
static dlist_head queues = DLIST_STATIC_INIT(queues);
static Size collected;			/* bytes in all queues */
static Size collected_limit;
static XLogRecPtr appended_lsn = InvalidXLogRecPtr;

/* Requests all of whose batches are appended. */
static dlist_head appended = DLIST_STATIC_INIT(appended);

static void
produce_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(QueueKey);
	ctl.entrysize = sizeof(KProduceQueue);
	ctl.hcxt = kapi_context;
	queue_table = hash_create("kafka produce queues", 64, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	collected_limit = Min(Max((Size) XLOGbuffers * XLOG_BLCKSZ / 8, 256 * 1024), 8 * 1024 * 1024);
}

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------
 */

void
kapi_produce_error(KProduceBatch *batch, int16 error, const char *message)
{
	KProduceResponsePartition *out = batch->out;

	out->error_code = error;
	out->base_offset = -1;
	out->log_append_time_ms = -1;
	out->log_start_offset = -1;
	out->error_message = kapi_kstr(message);
	((KProduceWork *) batch->req->work)->failed = true;
}

/* acks=0 has no answer; its errors close the connection so that the client learns of them. */
static void
produce_answer(KRequest * req)
{
	KProduceWork *work = req->work;

	if (work->acks != 0)
		kapi_answer(req, &work->resp);
	else if (work->failed)
		kapi_close(req, "a Produce request with acks=0 failed");
	else
		kapi_answer_none(req);
}

void
kapi_produce_fail(KRequest * req, int16 error)
{
	KProduceWork *work = req->work != NULL ? req->work : kapi_produce_work(req);

	for (int i = 0; i < work->nbatches; i++)
		kapi_produce_error(&work->batches[i], error, NULL);
	produce_answer(req);
}

/* ------------------------------------------------------------------------
 * Queues
 * ------------------------------------------------------------------------
 */

void
kapi_produce_enqueue(KProduceBatch *batch, Oid relid, int32 partition)
{
	QueueKey	key = {relid, partition};
	KProduceWork *work = batch->req->work;
	bool		found;
	KProduceQueue *queue;

	if (queue_table == NULL)
		produce_init();
	queue = hash_search(queue_table, &key, HASH_ENTER, &found);
	if (!found)
	{
		dlist_init(&queue->batches);
		queue->backoff = 0;
		queue->retry_at = 0;
		queue->on_latch = false;
		queue->turn = 0;
		dlist_push_tail(&queues, &queue->node);
	}
	batch->queue = queue;
	dlist_push_tail(&queue->batches, &batch->node);
	collected += batch->log.len;
	work->pending++;
	batch->req->held = true;
}

static void
dequeue(KProduceBatch *batch)
{
	KProduceWork *work = batch->req->work;

	dlist_delete(&batch->node);
	batch->queue = NULL;
	collected -= batch->log.len;
	work->pending--;
}

/* Takes a batch out of its queue, with its fate. */
static void
settle(KProduceBatch *batch, int16 error, const char *message)
{
	KProduceWork *work = batch->req->work;

	dequeue(batch);
	if (error != 0)
		kapi_produce_error(batch, error, message);
	else
	{
		batch->lsn = batch->log.lsn;
		batch->out->base_offset = batch->log.base_offset;
		batch->out->log_append_time_ms = batch->append_time;
		work->lsn = Max(work->lsn, batch->lsn);
	}
	if (work->pending == 0)
	{
		batch->req->held = false;
		dlist_push_tail(&appended, &batch->req->appended_node);
	}
}

static void
settle_all(KProduceQueue *queue, int16 error, const char *message)
{
	while (!dlist_is_empty(&queue->batches))
		settle(dlist_container(KProduceBatch, node, dlist_head_node(&queue->batches)),
			   error, message);
}

void
kapi_produce_end(KRequest * req)
{
	KProduceWork *work = req->work;

	for (int i = 0; work != NULL && i < work->nbatches; i++)
	{
		if (work->batches[i].queue != NULL)
			dequeue(&work->batches[i]);
	}
	req->held = false;
	if (work != NULL)
		kapi_produce_check_end(req);
}

bool
kapi_produce_keep(KRequest * req)
{
	KProduceWork *work = req->work;

	return req->held || (work != NULL && work->checking);
}

/* ------------------------------------------------------------------------
 * Appending
 * ------------------------------------------------------------------------
 */

/* May it be tried now? */
static bool
queue_is_due(const KProduceQueue *queue)
{
	return queue->retry_at <= kapi_now() || (queue->on_latch && queue->turn != kapi_turn());
}

/* Some lock was not free, or, on_latch, something must come from disk that a reader sees to. */
static void
queue_busy(KProduceQueue *queue, bool on_latch)
{
	dlist_mutable_iter iter;

	queue->on_latch = on_latch;

	dlist_foreach_modify(iter, &queue->batches)
	{
		KProduceBatch *batch = dlist_container(KProduceBatch, node, iter.cur);
		KProduceWork *work = batch->req->work;

		if (work->deadline <= kapi_now())
			settle(batch, KERR_REQUEST_TIMED_OUT, NULL);
	}
	queue->retry_at = kapi_now() + queue->backoff;
	queue->backoff = queue->backoff == 0 ? 1 : Min(queue->backoff * 2, MAX_BACKOFF);
}

/*
 * The batches at the head of the queue that can be appended together, into run[] and batches[];
 * those that are refused or have been appended before are settled.  The caller holds the append
 * lock.  *again: nothing can be said yet of the batch that follows, since a reader is still
 * learning the producers.
 */
static int
collect_run(KProduceQueue *queue, Relation rel, KLogPartition * part, KProducerTurn * turn,
			KProduceBatch **run, KLogBatch * batches, bool *again)
{
	int			n = 0;
	int64		next_offset = klog_end_offset(part);
	int64		now = kapi_wall_clock();
	bool		begun = false;
	dlist_mutable_iter iter;

	*again = false;
	dlist_foreach_modify(iter, &queue->batches)
	{
		KProduceBatch *batch = dlist_container(KProduceBatch, node, iter.cur);

		if (n == MAX_RUN)
			break;
		if (kbatch_has_producer_id(&batch->header))
		{
			KProducerBatch duplicate;
			KProducerResult result;

			if (!begun)
			{
				KProducerPartition who;

				kproducer_partition_of(&who, rel, queue->key.partition);
				if (!kproducer_is_ready(&who))
				{
					klog_learn(rel, part);
					*again = true;
					break;
				}
				kproducer_turn_begin(turn, &who, now);
				begun = true;
			}
			result = kproducer_check(turn, &batch->header, next_offset, &duplicate);
			if (result == KPRODUCER_TURN_FULL ||
				(result == KPRODUCER_DUPLICATE && duplicate.lsn == 0))
				break;
			if (result == KPRODUCER_DUPLICATE)
			{
				/* It is answered as the original was, and waits for the same LSN. */
				batch->log.base_offset = duplicate.base_offset;
				batch->log.lsn = duplicate.lsn;
				batch->out->log_start_offset = klog_log_start(part);
				settle(batch, 0, NULL);
				continue;
			}
			if (result != KPRODUCER_OK)
			{
				settle(batch, kproducer_result_error_code(result), NULL);
				batch->out->log_start_offset = klog_log_start(part);
				continue;
			}
		}
		run[n] = batch;
		batches[n++] = batch->log;
		next_offset += (int64) batch->log.last_offset_delta + 1;
	}
	return n;
}

/* Appends a queue's batches; what cannot be appended now stays. */
static void
append_queue(void *arg)
{
	KProduceQueue *queue = arg;
	KProduceBatch *run[MAX_RUN];
	KLogBatch	batches[MAX_RUN];
	KProducerTurn turn;
	KLogAppend	how = {0};
	Relation	rel;
	KLogPartition *part;
	KLogPosition cold;
	bool		busy;
	bool		failed;
	int			grown = 0;
	int64		log_start;

	queue->turn = kapi_turn();
	kapi_txn();
	rel = kapi_relation(queue->key.relid, RowExclusiveLock, &busy);
	if (rel == NULL)
	{
		if (busy)
			queue_busy(queue, false);
		else
			settle_all(queue, KERR_UNKNOWN_TOPIC_OR_PARTITION, NULL);
		return;
	}
	part = kapi_partition(rel, queue->key.partition, &failed);
	if (failed)
	{
		settle_all(queue, KERR_KAFKA_STORAGE_ERROR, NULL);
		return;
	}
	if (part == NULL || !klog_lock(part, true))
	{
		queue_busy(queue, part == NULL);
		return;
	}
	queue->backoff = 0;
	queue->on_latch = false;

	while (!dlist_is_empty(&queue->batches))
	{
		bool		again;
		int			n = collect_run(queue, rel, part, &turn, run, batches, &again);
		int			done = 0;
		KLogResult	result;

		if (n == 0 && again)
		{
			queue_busy(queue, true);
			break;
		}
		if (n == 0)
			continue;
		how.leader_epoch = run[0]->leader_epoch;
		how.segment_bytes = run[0]->segment_bytes;
		how.segment_ms = run[0]->segment_ms;
		how.partitions = run[0]->partitions;
		log_start = klog_log_start(part);
		result = klog_append(rel, part, &how, batches, n, &done, &cold);
		if (result == KLOG_OK)
		{
			for (int i = 0; i < done; i++)
			{
				run[i]->log = batches[i];
				if (kbatch_has_producer_id(&run[i]->header))
					kproducer_apply(&turn, &run[i]->header, batches[i].base_offset,
									batches[i].lsn);
				run[i]->out->log_start_offset = log_start;
				settle(run[i], 0, NULL);
				appended_lsn = Max(appended_lsn, batches[i].lsn);
			}
		}
		else if (result == KLOG_NO_EXTENT && grown++ < MAX_GROW)
		{
			/* the keeper is behind: if it is at it, wait for that, else add a little */
			klog_unlock(part);
			if (!klog_grow(rel, true) || !klog_lock(part, true))
			{
				queue_busy(queue, false);
				return;
			}
		}
		else if (result == KLOG_NO_EXTENT || result == KLOG_BUSY)
		{
			queue_busy(queue, false);
			break;
		}
		else if (result == KLOG_COLD && !klog_page_failed(part, cold))
		{
			(void) klog_reader_request(rel, part, cold, 0, kapi_broker);
			queue_busy(queue, true);
			break;
		}
		else
			settle_all(queue, KERR_KAFKA_STORAGE_ERROR, NULL);
	}
	klog_unlock(part);
}

static void produce_appended(KRequest * req);

void
kapi_produce_flush(void)
{
	dlist_mutable_iter iter;
	bool		big = kapi_produce_is_full();

	dlist_foreach_modify(iter, &queues)
	{
		KProduceQueue *queue = dlist_container(KProduceQueue, node, iter.cur);

		if (!queue_is_due(queue) && !dlist_is_empty(&queue->batches))
			continue;

		/* An error has let go of the locks; what is left in the queue is not in the log. */
		if (!kapi_guard(append_queue, queue, "appending a batch"))
			settle_all(queue, KERR_KAFKA_STORAGE_ERROR, NULL);
		if (dlist_is_empty(&queue->batches))
		{
			dlist_delete(&queue->node);
			hash_search(queue_table, &queue->key, HASH_REMOVE, NULL);
		}
	}
	if (big && appended_lsn > klog_flushed_lsn())
		klog_request_flush(appended_lsn);

	while (!dlist_is_empty(&appended))
		kapi_run(dlist_container(KRequest, appended_node, dlist_pop_head_node(&appended)),
				 produce_appended);
}

bool
kapi_produce_pending(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &queues)
	{
		if (queue_is_due(dlist_container(KProduceQueue, node, iter.cur)))
			return true;
	}
	return false;
}

bool
kapi_produce_is_full(void)
{
	return queue_table != NULL && collected >= collected_limit;
}

XLogRecPtr
kapi_produce_lsn(void)
{
	return appended_lsn;
}

long
kapi_produce_timeout(void)
{
	int64		ms = -1;
	dlist_iter	iter;

	dlist_foreach(iter, &queues)
	{
		KProduceQueue *queue = dlist_container(KProduceQueue, node, iter.cur);
		int64		left = Max(queue->retry_at - kapi_now(), 0);

		ms = ms < 0 ? left : Min(ms, left);
	}
	return (long) ms;
}

/* ------------------------------------------------------------------------
 * Answering
 * ------------------------------------------------------------------------
 */

/* What acks waits for has come true, or the client's time is over. */
static void
produce_durable(KRequest * req)
{
	KProduceWork *work = req->work;
	XLogRecPtr	reached = work->acks == 1 ? klog_flushed_lsn() : klog_durable_lsn();

	for (int i = 0; i < work->nbatches && work->lsn > reached; i++)
	{
		KProduceBatch *batch = &work->batches[i];

		if (batch->lsn > reached)
			kapi_produce_error(batch, KERR_REQUEST_TIMED_OUT, NULL);
	}
	produce_answer(req);
}

static void
produce_appended(KRequest * req)
{
	KProduceWork *work = req->work;

	/* Its bytes are in the log's pages now, and what the answer needs has been copied. */
	if (!req->conn->gone)
		kapi_io->frame_free(req->slot);
	if (work->acks == 0 || req->conn->gone || XLogRecPtrIsInvalid(work->lsn) ||
		kguc_test_ack_before_flush)
	{
		produce_answer(req);
		return;
	}
	kapi_wait_lsn(req, work->lsn, work->acks != 1, produce_durable);
	kapi_wait_until(req, work->deadline, produce_durable);
}

void
kapi_produce_checked(KRequest * req)
{
	KProduceWork *work = req->work;

	req->ordered = true;
	if (work->pending == 0)
	{
		req->held = false;
		produce_appended(req);
	}
}
