/*
 * kapi_produce.c
 *		Produce: checking batches, appending them together, and answering when they are durable.
 *
 * A request's batches are checked when it arrives and put into the queue of their partition,
 * where those of other requests and connections may stand already.  At the end of the turn, or
 * before when there is much, each queue is appended under one append lock.  Requests are
 * answered when all their batches are appended and what acks asks for has come true.  A queue
 * whose locks are not free stays, in order, and is tried again.
 *
 * Batches stay in the frame that they came in until they are appended; base offset and leader
 * epoch are written there.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "batch/kbatch_build.h"
#include "storage/lwlock.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "api/kapi_request.h"
#include "api/kapi_wait.h"
#include "kguc.h"
#include "txn/kproducer.h"

/* The least time that an answer may take, whatever the client's timeout: a flush takes its time. */
#define MIN_TIMEOUT		500		/* ms */

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

typedef struct ProduceQueue
{
	QueueKey	key;
	dlist_node	node;			/* in queues */
	dlist_head	batches;
	int			backoff;
	int64		retry_at;		/* on kapi_now()'s clock */
} ProduceQueue;

/* In the request's memory. */
typedef struct ProduceBatch
{
	dlist_node	node;			/* in queue->batches, while queue is set */
	ProduceQueue *queue;
	KRequest   *req;
	KProduceResponsePartition *out;
	KBatchHeader header;
	KLogBatch	log;
	int64		append_time;	/* -1: the producer's timestamps stay */
	int32		leader_epoch;
	int32		partitions;		/* of the topic, and its configs, for KLogAppend */
	int64		segment_bytes;
	int64		segment_ms;
	XLogRecPtr	lsn;
} ProduceBatch;

typedef struct ProduceWork
{
	KProduceResponse resp;
	int16		acks;
	int64		deadline;
	ProduceBatch *batches;
	int			nbatches;
	int			pending;		/* not appended yet */
	bool		failed;			/* some partition has an error */
	XLogRecPtr	lsn;			/* of the last of its batches */
} ProduceWork;

static HTAB *queue_table;
static dlist_head queues = DLIST_STATIC_INIT(queues);
static Size collected;			/* bytes in all queues */
static Size collected_limit;
static XLogRecPtr appended_lsn = InvalidXLogRecPtr;
static KCodec * codec;

/* Requests all of whose batches are appended. */
static dlist_head appended = DLIST_STATIC_INIT(appended);

static void
produce_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(QueueKey);
	ctl.entrysize = sizeof(ProduceQueue);
	ctl.hcxt = kapi_context;
	queue_table = hash_create("kafka produce queues", 64, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	collected_limit = Min(Max((Size) XLOGbuffers * XLOG_BLCKSZ / 8, 256 * 1024), 8 * 1024 * 1024);
	codec = kcodec_create(&kallocator_malloc);
	if (codec == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
}

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------
 */

static void
set_error(KProduceResponsePartition * out, int16 error, const char *message)
{
	out->error_code = error;
	out->base_offset = -1;
	out->log_append_time_ms = -1;
	out->log_start_offset = -1;
	out->error_message = kapi_kstr(message);
}

static void
make_response(KRequest * req, KProduceResponse * resp)
{
	const		KProduceRequest *body = req->body;
	const		KMsgDesc *desc;
	int32		n = Max(body->topic_data.count, 0);

	kmsg_init(&kmsg_produce_response, resp);
	resp->responses.count = n;
	resp->responses.items = kapi_items(&kmsg_produce_response,
									   offsetof(KProduceResponse, responses), n, &desc);
	for (int32 i = 0; i < n; i++)
	{
		KProduceRequestTopic *in = &body->topic_data.items[i];
		KProduceResponseTopic *out = &resp->responses.items[i];
		int32		np = Max(in->partition_data.count, 0);

		/* Copied: the frame is given back before the answer is made. */
		if (in->name.len > 0)
			out->name = (KStr)
		{
			memcpy(palloc(in->name.len), in->name.data, in->name.len), in->name.len
		};
		out->topic_id = in->topic_id;
		out->partition_responses.count = np;
		out->partition_responses.items =
			kapi_items(desc, offsetof(KProduceResponseTopic, partition_responses), np, NULL);
		for (int32 p = 0; p < np; p++)
		{
			out->partition_responses.items[p].index = in->partition_data.items[p].index;
			set_error(&out->partition_responses.items[p], 0, NULL);
		}
	}
}

/* acks=0 has no answer; its errors close the connection so that the client learns of them. */
static void
answer(KRequest * req)
{
	ProduceWork *work = req->work;

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
	ProduceWork *work = req->work;

	if (work == NULL)
	{
		const		KProduceRequest *body = req->body;

		req->work = work = palloc0(sizeof(ProduceWork));
		work->acks = body->acks;
		make_response(req, &work->resp);
	}
	work->failed = true;
	for (int32 i = 0; i < work->resp.responses.count; i++)
	{
		KProduceResponseTopic *topic = &work->resp.responses.items[i];

		for (int32 p = 0; p < topic->partition_responses.count; p++)
			set_error(&topic->partition_responses.items[p], error, NULL);
	}
	answer(req);
}

/* ------------------------------------------------------------------------
 * Queues
 * ------------------------------------------------------------------------
 */

static void
enqueue(ProduceBatch *batch, Oid relid, int32 partition)
{
	QueueKey	key = {relid, partition};
	ProduceWork *work = batch->req->work;
	bool		found;
	ProduceQueue *queue;

	queue = hash_search(queue_table, &key, HASH_ENTER, &found);
	if (!found)
	{
		dlist_init(&queue->batches);
		queue->backoff = 0;
		queue->retry_at = 0;
		dlist_push_tail(&queues, &queue->node);
	}
	batch->queue = queue;
	dlist_push_tail(&queue->batches, &batch->node);
	collected += batch->log.len;
	work->pending++;
	batch->req->held = true;
}

static void
dequeue(ProduceBatch *batch)
{
	ProduceWork *work = batch->req->work;

	dlist_delete(&batch->node);
	batch->queue = NULL;
	collected -= batch->log.len;
	work->pending--;
}

/* Takes a batch out of its queue, with its fate. */
static void
settle(ProduceBatch *batch, int16 error, const char *message)
{
	ProduceWork *work = batch->req->work;

	dequeue(batch);
	if (error != 0)
	{
		set_error(batch->out, error, message);
		work->failed = true;
	}
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
settle_all(ProduceQueue *queue, int16 error, const char *message)
{
	while (!dlist_is_empty(&queue->batches))
		settle(dlist_container(ProduceBatch, node, dlist_head_node(&queue->batches)),
			   error, message);
}

void
kapi_produce_end(KRequest * req)
{
	ProduceWork *work = req->work;

	for (int i = 0; work != NULL && i < work->nbatches; i++)
	{
		if (work->batches[i].queue != NULL)
			dequeue(&work->batches[i]);
	}
	req->held = false;
}

bool
kapi_produce_keep(KRequest * req)
{
	return req->held;
}

/* ------------------------------------------------------------------------
 * Appending
 * ------------------------------------------------------------------------
 */

/* Some lock was not free. */
static void
queue_busy(ProduceQueue *queue)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &queue->batches)
	{
		ProduceBatch *batch = dlist_container(ProduceBatch, node, iter.cur);
		ProduceWork *work = batch->req->work;

		if (work->deadline <= kapi_now())
			settle(batch, KERR_REQUEST_TIMED_OUT, NULL);
	}
	queue->retry_at = kapi_now() + queue->backoff;
	queue->backoff = queue->backoff == 0 ? 1 : Min(queue->backoff * 2, MAX_BACKOFF);
}

/*
 * The batches at the head of the queue that can be appended together, into run[] and batches[];
 * those that are refused or have been appended before are settled.  The caller holds the append
 * lock.  *again: nothing can be said yet of the batch that follows, since the producers are
 * still being learnt.
 */
static int
collect_run(ProduceQueue *queue, Relation rel, KLogPartition * part, KProducerTurn * turn,
			ProduceBatch **run, KLogBatch * batches, bool *again)
{
	int			n = 0;
	int64		next_offset = klog_end_offset(part);
	int64		now = kapi_wall_clock();
	bool		begun = false;
	dlist_mutable_iter iter;

	*again = false;
	dlist_foreach_modify(iter, &queue->batches)
	{
		ProduceBatch *batch = dlist_container(ProduceBatch, node, iter.cur);

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
				if (!kproducer_is_ready(&who) && !kproducer_rebuild(rel, part, &who, now))
				{
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
	ProduceQueue *queue = arg;
	ProduceBatch *run[MAX_RUN];
	KLogBatch	batches[MAX_RUN];
	KProducerTurn turn;
	KLogAppend	how = {0};
	Relation	rel;
	KLogPartition *part;
	bool		busy;
	int			grown = 0;
	int64		log_start;

	kapi_txn();
	rel = kapi_relation(queue->key.relid, RowExclusiveLock, &busy);
	if (rel == NULL)
	{
		if (busy)
			queue_busy(queue);
		else
			settle_all(queue, KERR_UNKNOWN_TOPIC_OR_PARTITION, NULL);
		return;
	}
	part = klog_attach(rel, queue->key.partition, true);
	if (part == NULL || !klog_lock(part, true))
	{
		queue_busy(queue);
		return;
	}
	queue->backoff = 0;

	while (!dlist_is_empty(&queue->batches))
	{
		bool		again;
		int			n = collect_run(queue, rel, part, &turn, run, batches, &again);
		int			done = 0;
		KLogResult	result;

		if (n == 0 && again)
		{
			queue_busy(queue);
			break;
		}
		if (n == 0)
			continue;
		how.leader_epoch = run[0]->leader_epoch;
		how.segment_bytes = run[0]->segment_bytes;
		how.segment_ms = run[0]->segment_ms;
		how.partitions = run[0]->partitions;
		log_start = klog_log_start(part);
		result = klog_append(rel, part, &how, batches, n, &done);
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
			klog_unlock(part);
			klog_grow(rel, how.partitions);
			if (!klog_lock(part, true))
			{
				queue_busy(queue);
				return;
			}
		}
		else if (result == KLOG_NO_EXTENT || result == KLOG_BUSY)
		{
			queue_busy(queue);
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
		ProduceQueue *queue = dlist_container(ProduceQueue, node, iter.cur);

		if (queue->retry_at > kapi_now() && !dlist_is_empty(&queue->batches))
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
		if (dlist_container(ProduceQueue, node, iter.cur)->retry_at <= kapi_now())
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
		ProduceQueue *queue = dlist_container(ProduceQueue, node, iter.cur);
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
	ProduceWork *work = req->work;
	XLogRecPtr	reached = work->acks == 1 ? klog_flushed_lsn() : klog_durable_lsn();

	for (int i = 0; i < work->nbatches && work->lsn > reached; i++)
	{
		ProduceBatch *batch = &work->batches[i];

		if (batch->lsn > reached)
			set_error(batch->out, KERR_REQUEST_TIMED_OUT, NULL);
	}
	answer(req);
}

static void
produce_appended(KRequest * req)
{
	ProduceWork *work = req->work;

	/* Its bytes are in the log's pages now, and what the answer needs has been copied. */
	if (!req->conn->gone)
		kapi_io->frame_free(req->slot);
	if (work->acks == 0 || req->conn->gone || XLogRecPtrIsInvalid(work->lsn) ||
		kguc_test_ack_before_flush)
	{
		answer(req);
		return;
	}
	kapi_wait_lsn(req, work->lsn, work->acks != 1, produce_durable);
	kapi_wait_until(req, work->deadline, produce_durable);
}

/* ------------------------------------------------------------------------
 * Checking
 * ------------------------------------------------------------------------
 */

static int
topic_codec(const KTopicConfig * config, const KBatchHeader * header)
{
	return config->compression_type == KCOMPRESSION_PRODUCER ? kbatch_codec(header) :
		(int) config->compression_type;
}

/* Packs a batch anew because its topic wants another codec. */
static KBatchResult
recompress(ProduceBatch *batch, KCodecType type, int64 append_time)
{
	KBuffer		scratch;
	KBuffer		packed;
	KBatchBuilder builder;
	KBatchIterator it;
	KBatchRecord record;
	KBatchSeal	seal;
	KBatchResult result;
	KRecordHeader *headers = NULL;
	int32		headers_room = 0;
	const uint8 *bytes;
	size_t		size;

	kbuffer_init(&scratch, &kallocator_malloc, (size_t) 256 * 1024 * 1024);
	kbuffer_init(&packed, &kallocator_malloc, (size_t) 256 * 1024 * 1024);
	kbatch_builder_init(&builder, &kallocator_malloc, (size_t) 256 * 1024 * 1024);
	result = kbatch_iterate(&it, batch->log.data, batch->log.len, codec, &scratch);
	while (result == KBATCH_OK && (result = kbatch_iterator_next(&it, &record)) == KBATCH_OK)
	{
		size_t		pos = 0;
		int32		n = 0;

		if (record.header_count > headers_room)
		{
			headers_room = record.header_count;
			headers = palloc_extended(headers_room * sizeof(KRecordHeader), MCXT_ALLOC_HUGE);
		}
		while (n < record.header_count && kbatch_record_header(&record, &pos, &headers[n]))
			n++;
		result = kbatch_builder_append(&builder, record.timestamp, record.key, record.key_len,
									   record.value, record.value_len, headers, n);
	}
	if (result == KBATCH_END)
	{
		kbatch_seal_init(&seal);
		seal.codec = type;
		seal.attributes = batch->header.attributes & ~KBATCH_ATTR_CODEC_MASK;
		seal.producer_id = batch->header.producer_id;
		seal.producer_epoch = batch->header.producer_epoch;
		seal.base_sequence = batch->header.base_sequence;
		result = kbatch_builder_finish(&builder, &seal, codec, &packed, &bytes, &size);
	}
	if (result == KBATCH_OK)
	{
		batch->log.data = MemoryContextAllocHuge(batch->req->ctx, size);
		memcpy(batch->log.data, bytes, size);
		batch->log.len = (uint32) size;
		result = kbatch_header_read(batch->log.data, size, &batch->header);
	}
	kbatch_builder_free(&builder);
	kbuffer_free(&packed);
	kbuffer_free(&scratch);
	return result;
}

/* Checks one partition's records; queues the batch, or sets the partition's error. */
static void
take_batch(ProduceBatch *batch, const KTopic * topic, const KProduceRequestPartition * in)
{
	KRequest   *req = batch->req;
	ProduceWork *work = req->work;
	KProduceResponsePartition *out = batch->out;
	KBatchPolicy policy;
	KBatchVerdict verdict;
	KBatchResult result;
	const char *message = NULL;
	int64		now = kapi_wall_clock();
	int			type;

	result = kbatch_produce_batch(in->records.data, Max(in->records.len, 0), req->version,
								  &batch->header, &message);
	if (result != KBATCH_OK)
	{
		set_error(out, kbatch_result_error_code(result), message);
		work->failed = true;
		return;
	}
	batch->log.data = unconstify(uint8 *, in->records.data);
	batch->log.len = (uint32) kbatch_size(&batch->header);

	kbatch_policy_init(&policy, now);
	policy.max_batch_bytes = topic->config.max_message_bytes;
	policy.keys_required = topic->config.cleanup_compact;
	policy.log_append_time = topic->config.log_append_time;
	policy.timestamp_before_max = topic->config.timestamp_before_max_ms;
	policy.timestamp_after_max = topic->config.timestamp_after_max_ms;
	result = kbatch_validate(batch->log.data, batch->log.len, &policy, codec, &verdict);
	if (result != KBATCH_OK)
	{
		set_error(out, kbatch_result_error_code(result), verdict.message);
		if (verdict.record_error_count > 0)
		{
			int			n = Min(verdict.record_error_count, KBATCH_MAX_RECORD_ERRORS);

			out->record_errors.count = n;
			out->record_errors.items = palloc0(n * sizeof(KProduceResponseRecordError));
			for (int i = 0; i < n; i++)
			{
				out->record_errors.items[i].batch_index = verdict.record_errors[i].index;
				out->record_errors.items[i].batch_index_error_message =
					kapi_kstr(verdict.record_errors[i].message);
			}
		}
		work->failed = true;
		return;
	}

	type = topic_codec(&topic->config, &batch->header);
	if (type != kbatch_codec(&batch->header))
	{
		result = recompress(batch, (KCodecType) type, now);
		if (result == KBATCH_OK && batch->log.len > (uint32) topic->config.max_message_bytes)
			result = KBATCH_TOO_LARGE;
		if (result != KBATCH_OK)
		{
			set_error(out, kbatch_result_error_code(result), NULL);
			work->failed = true;
			return;
		}
	}
	batch->append_time = topic->config.log_append_time ? now : -1;
	kbatch_set_max_timestamp(batch->log.data, batch->log.len, topic->config.log_append_time,
							 topic->config.log_append_time ? now : verdict.max_timestamp);
	batch->log.last_offset_delta = batch->header.last_offset_delta;
	batch->log.max_timestamp = topic->config.log_append_time ? now : verdict.max_timestamp;
	batch->leader_epoch = kepoch_current();
	batch->partitions = topic->partitions;
	batch->segment_bytes = topic->config.segment_bytes;
	batch->segment_ms = topic->config.segment_ms;
	enqueue(batch, topic->relid, in->index);
}

/* Does any batch claim to be part of a Kafka transaction? */
static bool
is_transactional(const KProduceRequest * body)
{
	for (int32 i = 0; i < body->topic_data.count; i++)
	{
		KProduceRequestTopic *topic = &body->topic_data.items[i];

		for (int32 p = 0; p < topic->partition_data.count; p++)
		{
			KBytes	   *records = &topic->partition_data.items[p].records;
			KBatchHeader header;

			if (records->len > 0 &&
				kbatch_header_read(records->data, records->len, &header) == KBATCH_OK &&
				kbatch_is_transactional(&header))
				return true;
		}
	}
	return false;
}

/* Looks up one of the request's topics.  False: busy. */
static bool
find_topic(KRequest * req, const KProduceRequestTopic * in, const KTopic * *topic, int16 *error)
{
	bool		busy;
	KUuid		id = in->topic_id;

	*topic = req->version >= 13 ? kapi_topic_by_uuid(&id, &busy) : kapi_topic(in->name, &busy);
	*error = 0;
	if (*topic == NULL)
		*error = req->version >= 13 ? KERR_UNKNOWN_TOPIC_ID : KERR_UNKNOWN_TOPIC_OR_PARTITION;
	else if (!kacl_topic_write((*topic)->relid, kapi_role(req)))
		*error = KERR_TOPIC_AUTHORIZATION_FAILED;
	return !busy;
}

void
kapi_produce(KRequest * req)
{
	const		KProduceRequest *body = req->body;
	ProduceWork *work;
	int			n = 0;

	if (queue_table == NULL)
		produce_init();

	/*
	 * All topics must be to be had before the first batch is queued: the queue's order is the
	 * answer's.
	 */
	for (int32 i = 0; i < body->topic_data.count; i++)
	{
		const		KTopic *topic;
		int16		error;

		if (!find_topic(req, &body->topic_data.items[i], &topic, &error))
		{
			kapi_retry(req, kapi_produce);
			return;
		}
		n += Max(body->topic_data.items[i].partition_data.count, 0);
	}

	work = palloc0(sizeof(ProduceWork));
	work->acks = body->acks;
	work->deadline = kapi_now() + Max(body->timeout_ms, MIN_TIMEOUT);
	make_response(req, &work->resp);
	work->batches = palloc_extended(Max(n, 1) * sizeof(ProduceBatch),
									MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	req->work = work;

	/* Until there are Kafka transactions nobody may write in one. */
	if (is_transactional(body))
	{
		kapi_fail(req, KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
		return;
	}

	for (int32 i = 0; i < body->topic_data.count; i++)
	{
		KProduceRequestTopic *in = &body->topic_data.items[i];
		KProduceResponseTopic *out = &work->resp.responses.items[i];
		const		KTopic *topic;
		int16		topic_error;

		if (!find_topic(req, in, &topic, &topic_error))
			elog(ERROR, "topic lookup failed within a turn");
		for (int32 p = 0; p < in->partition_data.count; p++)
		{
			KProduceRequestPartition *in_part = &in->partition_data.items[p];
			ProduceBatch *batch = &work->batches[work->nbatches++];
			int16		error = topic_error;

			batch->req = req;
			batch->out = &out->partition_responses.items[p];
			if (error == 0 && (in_part->index < 0 || in_part->index >= topic->partitions))
				error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
			if (error == 0 && (work->acks < -1 || work->acks > 1))
				error = KERR_INVALID_REQUIRED_ACKS;
			if (error == 0)
				take_batch(batch, topic, in_part);
			else
			{
				set_error(batch->out, error, NULL);
				work->failed = true;
			}
		}
	}
	req->ordered = true;
	if (work->pending == 0)
		answer(req);
}
