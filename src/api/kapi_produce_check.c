/*
 * kapi_produce_check.c
 *		Produce: which batches of a request may be appended, and what is said of the others.
 *
 * The checks, their order and the answers are those of Kafka 4.3 (KafkaApis, ReplicaManager,
 * ProduceRequest, LogValidator); those of a batch alone are in src/batch.
 */
#include "postgres.h"

#include "batch/kbatch_build.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "api/kapi_produce.h"
#include "api/kapi_wait.h"

/* The least time that an answer may take, whatever the client's timeout: a flush takes its time. */
#define MIN_TIMEOUT		500		/* ms */

/* What a batch may be decompressed to, to be compressed anew. */
#define MAX_RECOMPRESS	MaxAllocSize

/* So many of a batch's bad records are told in its error message, as in Kafka. */
#define MAX_TOLD		3

/*
 * A batch that becomes more than this is checked little by little, one such at a time, and one
 * slice a turn.  Small ones in one go, as long as a turn's share lasts.
 */
#define CHECK_AT_ONCE	((size_t) 4 * 1024 * 1024)
#define CHECK_SLICE		((size_t) 512 * 1024)
#define CHECK_SLICE_US	5000
#define CHECK_TURN		((size_t) 16 * 1024 * 1024)

static KCodec * codec;

/* The codec that is in the middle of a large batch, and whose. */
static KCodec * large_codec;
static KRequest * large_owner;

/* What was decompressed in this turn, for requests that are new and for those that have waited. */
static uint64 share_turn;
static size_t share_used[2];

/* ------------------------------------------------------------------------
 * The answer's frame
 * ------------------------------------------------------------------------
 */

KProduceWork *
kapi_produce_work(KRequest * req)
{
	const		KProduceRequest *body = req->body;
	int32		ntopics = Max(body->topic_data.count, 0);
	int32		n = 0;
	KStr	   *topics = palloc_extended((ntopics + 1) * sizeof(KStr), MCXT_ALLOC_HUGE);
	int32	   *counts = palloc_extended((ntopics + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	int32	   *indexes;
	KApiShape	shape;
	const		KMsgDesc *desc;
	KProduceWork *work = palloc0(sizeof(KProduceWork));

	for (int32 i = 0; i < ntopics; i++)
	{
		const		KProduceRequestTopic *topic = &body->topic_data.items[i];

		topics[i] = topic->name;
		if (req->version >= 13)
			topics[i] = (KStr)
		{
			(const char *) &topic->topic_id, sizeof(KUuid)
		};
		counts[i] = Max(topic->partition_data.count, 0);
		n += counts[i];
	}
	indexes = palloc_extended((n + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	for (int32 i = 0, k = 0; i < ntopics; i++)
	{
		for (int32 p = 0; p < counts[i]; p++)
			indexes[k++] = body->topic_data.items[i].partition_data.items[p].index;
	}
	kapi_shape(topics, counts, ntopics, indexes, &shape);

	work->acks = body->acks;
	work->slots = shape.part;
	work->batches = palloc_extended((shape.nparts + 1) * sizeof(KProduceBatch),
									MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	kmsg_init(&kmsg_produce_response, &work->resp);
	work->resp.responses.count = shape.ntopics;
	work->resp.responses.items = kapi_items(&kmsg_produce_response,
											offsetof(KProduceResponse, responses), shape.ntopics,
											&desc);
	for (int32 t = 0; t < shape.ntopics; t++)
	{
		KProduceRequestTopic *in = &body->topic_data.items[shape.source[t]];
		KProduceResponseTopic *out = &work->resp.responses.items[t];

		/* Copied: the frame is given back before the answer is made. */
		if (in->name.len > 0)
			out->name = (KStr)
		{
			memcpy(palloc(in->name.len), in->name.data, in->name.len), in->name.len
		};
		out->topic_id = in->topic_id;
		out->partition_responses.items =
			kapi_items(desc, offsetof(KProduceResponseTopic, partition_responses),
					   shape.counts[t], NULL);
	}
	for (int32 k = 0; k < n; k++)
	{
		KProduceResponseTopic *out = &work->resp.responses.items[shape.topic[k]];
		KProduceBatch *batch;

		if (shape.part[k] != work->nbatches)
			continue;
		batch = &work->batches[work->nbatches++];
		batch->req = req;
		batch->out = &out->partition_responses.items[out->partition_responses.count++];
		batch->out->index = indexes[k];
		batch->out->base_offset = -1;
	}
	req->work = work;
	return work;
}

/* ------------------------------------------------------------------------
 * One batch
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
recompress(KProduceBatch *batch, KCodecType type)
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

	kbuffer_init(&scratch, &kallocator_malloc, MAX_RECOMPRESS);
	kbuffer_init(&packed, &kallocator_malloc, MAX_RECOMPRESS);
	kbatch_builder_init(&builder, &kallocator_malloc, MAX_RECOMPRESS);
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

/*
 * The log start offset for the answer to a batch that is refused; -1 when it is not to be had
 * without waiting.
 */
static int64
log_start_offset(const KTopic * topic, int32 partition)
{
	bool		busy;
	Relation	rel;
	KLogPartition *part;

	kapi_txn();
	rel = kapi_relation(topic->relid, AccessShareLock, &busy);
	part = rel != NULL ? klog_attach(rel, partition, true) : NULL;
	return part != NULL ? klog_log_start(part) : -1;
}

/* What Kafka says of one bad record. */
static char *
record_message(const KProduceBatch *batch, const KBatchPolicy * policy,
			   const KBatchRecordError * error)
{
	int			type = kbatch_codec(&batch->header);

	switch (error->fault)
	{
		case KBATCH_NO_KEY:
			return psprintf("Compacted topic cannot accept message without key in topic partition "
							"%s-%d", batch->topic->name, batch->in->index);
		case KBATCH_FAR_TIMESTAMP:
			return psprintf("Timestamp " INT64_FORMAT " of message with offset %d is out of range. "
							"The timestamp should be within [" INT64_FORMAT ", " INT64_FORMAT "]",
							error->timestamp, error->index,
							(int64) ((uint64) policy->now - (uint64) policy->timestamp_before_max),
							(int64) ((uint64) policy->now + (uint64) policy->timestamp_after_max));
		case KBATCH_LOG_APPEND_TIME:
			break;
	}
	/* Java names its class, which is another one for records that it has only skimmed. */
	if (type != KCODEC_NONE && type == topic_codec(&batch->topic->config, &batch->header))
		return psprintf("Invalid timestamp type in message PartialDefaultRecord(offset=%d, timestamp="
						INT64_FORMAT ", key=%d bytes, value=%d bytes). "
						"Producer should not set timestamp type to LogAppendTime.",
						error->index, error->timestamp, error->key_len, error->value_len);
	return psprintf("Invalid timestamp type in message DefaultRecord(offset=%d, timestamp="
					INT64_FORMAT ", key=%d bytes, value=%d bytes). "
					"Producer should not set timestamp type to LogAppendTime.",
					error->index, error->timestamp, Max(error->key_len, 0),
					Max(error->value_len, 0));
}

/* Answers a batch some of whose records are refused. */
static void
refuse_records(KProduceBatch *batch, const KBatchPolicy * policy, const KBatchVerdict * verdict)
{
	KProduceResponsePartition *out = batch->out;
	int			n = Min(verdict->record_error_count, KBATCH_MAX_RECORD_ERRORS);
	StringInfoData told;

	out->record_errors.items = palloc0(n * sizeof(KProduceResponseRecordError));
	for (int i = 0; i < n; i++)
	{
		out->record_errors.items[i].batch_index = verdict->record_errors[i].index;
		out->record_errors.items[i].batch_index_error_message =
			kapi_kstr(record_message(batch, policy, &verdict->record_errors[i]));
	}
	out->record_errors.count = n;

	initStringInfo(&told);
	if (verdict->result == KBATCH_INVALID_TIMESTAMP)
		appendStringInfoString(&told, "One or more records have been rejected due to invalid "
							   "timestamp");
	else
	{
		appendStringInfo(&told, "One or more records have been rejected due to %d record errors in "
						 "total, and only showing the first three errors at most: [",
						 verdict->record_error_count);
		for (int i = 0; i < Min(n, MAX_TOLD); i++)
		{
			KStr		message = out->record_errors.items[i].batch_index_error_message;

			appendStringInfo(&told, "%sRecordError(batchIndex=%d, message='%.*s')",
							 i > 0 ? ", " : "", out->record_errors.items[i].batch_index,
							 message.len, message.data);
		}
		appendStringInfoChar(&told, ']');
	}
	out->error_message = kapi_kstr(told.data);
}

/* Refuses a batch that has reached its partition. */
static void
refuse(KProduceBatch *batch, KBatchResult result, const char *message)
{
	kapi_produce_error(batch, kbatch_result_error_code(result), message);

	/* Kafka's ReplicaManager does not look it up for these. */
	if (result != KBATCH_TOO_LARGE && result != KBATCH_CORRUPT && result != KBATCH_TRUNCATED)
		batch->out->log_start_offset = log_start_offset(batch->topic, batch->in->index);
}

static void
make_codec(KCodec * *which)
{
	if (*which == NULL && (*which = kcodec_create(&kallocator_malloc)) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
}

/* Goes on for a few milliseconds. */
static KBatchResult
check_slice(KBatchCheck *check)
{
	instr_time	start;
	instr_time	now;
	KBatchResult result;

	INSTR_TIME_SET_CURRENT(start);
	do
	{
		result = kbatch_check_step(check, CHECK_SLICE);
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
	} while (result == KBATCH_AGAIN && INSTR_TIME_GET_MICROSEC(now) < CHECK_SLICE_US);
	return result;
}

/*
 * Checks the next batch as far as that can be done in this turn; KBATCH_AGAIN: there has to be
 * another one.
 */
static KBatchResult
check_batch(KProduceBatch *batch)
{
	KRequest   *req = batch->req;
	KProduceWork *work = req->work;
	const KTopic *topic = batch->topic;
	size_t	   *used = &share_used[work->resumed ? 1 : 0];
	KBatchPolicy policy;
	KBatchResult result;

	if (large_owner == req)
	{
		result = check_slice(work->check);
		if (result != KBATCH_AGAIN)
			large_owner = NULL;
		return result;
	}
	if (share_turn != kapi_turn())
	{
		share_turn = kapi_turn();
		share_used[0] = share_used[1] = 0;
	}
	if (kbatch_codec(&batch->header) != KCODEC_NONE &&
		(*used >= CHECK_TURN || (work->waits && large_owner != NULL)))
		return KBATCH_AGAIN;
	work->waits = false;

	make_codec(&codec);
	make_codec(&large_codec);
	kbatch_policy_init(&policy, kapi_wall_clock());
	policy.max_batch_bytes = topic->config.max_message_bytes;
	policy.max_record_bytes = kbatch_max_record_bytes(batch->log.len);
	policy.keys_required = topic->config.cleanup_compact;
	policy.log_append_time = topic->config.log_append_time;
	policy.timestamp_before_max = topic->config.timestamp_before_max_ms;
	policy.timestamp_after_max = topic->config.timestamp_after_max_ms;
	result = kbatch_check_begin(work->check, batch->log.data, batch->log.len, &policy, codec);
	if (result != KBATCH_OK)
		return result;
	result = kbatch_check_step(work->check, CHECK_AT_ONCE);
	*used += work->check->source.total;
	if (result == KBATCH_AGAIN && large_owner == NULL)
	{
		KCodec	   *spare = large_codec;

		large_codec = codec;
		codec = spare;
		large_owner = req;
	}
	else if (result == KBATCH_AGAIN)
		work->waits = true;		/* begins anew, when the other one is done */
	return result;
}

void
kapi_produce_check_end(KRequest * req)
{
	if (large_owner == req)
		large_owner = NULL;
	((KProduceWork *) req->work)->checking = false;
}

/*
 * Checks one partition's batch; queues it, or sets the partition's error. False: it needs
 * another turn.
 */
static bool
take_batch(KProduceBatch *batch)
{
	const KTopic *topic = batch->topic;
	KProduceWork *work = batch->req->work;
	const KBatchVerdict *verdict = &work->check->verdict;
	KBatchResult result;
	int64		now = kapi_wall_clock();
	int			type;

	batch->log.data = unconstify(uint8 *, batch->in->records.data);
	batch->log.len = (uint32) kbatch_size(&batch->header);

	result = check_batch(batch);
	if (result == KBATCH_AGAIN)
		return false;
	if (result != KBATCH_OK)
	{
		refuse(batch, result, verdict->message);
		if (verdict->record_error_count > 0)
			refuse_records(batch, &work->check->policy, verdict);
		return true;
	}

	type = topic_codec(&topic->config, &batch->header);
	if (type != kbatch_codec(&batch->header))
	{
		result = recompress(batch, (KCodecType) type);
		if (result == KBATCH_OK && batch->log.len > (uint32) topic->config.max_message_bytes)
			result = KBATCH_TOO_LARGE;
		if (result != KBATCH_OK)
		{
			refuse(batch, result, NULL);
			return true;
		}
	}
	batch->append_time = topic->config.log_append_time ? now : -1;
	kbatch_set_max_timestamp(batch->log.data, batch->log.len, topic->config.log_append_time,
							 topic->config.log_append_time ? now : verdict->max_timestamp);
	batch->log.last_offset_delta = batch->header.last_offset_delta;
	batch->log.max_timestamp = topic->config.log_append_time ? now : verdict->max_timestamp;
	if (!kepoch_known(&batch->leader_epoch))
	{
		kapi_produce_error(batch, KERR_NOT_LEADER_OR_FOLLOWER, NULL);
		return true;
	}
	batch->partitions = topic->partitions;
	batch->segment_bytes = topic->config.segment_bytes;
	batch->segment_ms = topic->config.segment_ms;
	kapi_produce_enqueue(batch, topic->relid, batch->in->index);
	return true;
}

/* ------------------------------------------------------------------------
 * The request
 * ------------------------------------------------------------------------
 */

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

/*
 * One partition as the request has it: it becomes the batch of its partition, or the partition
 * has an error.  As in Kafka the last one of a partition counts, but an error stays.
 */
static void
take_partition(KProduceBatch *batch, const KTopic * topic, const KProduceRequestPartition * in,
			   int16 error)
{
	const char *message = NULL;

	if (error == 0 && (in->index < 0 || in->index >= topic->partitions))
		error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
	if (error == 0)
		error = kbatch_result_error_code(kbatch_produce_batch(in->records.data,
															  Max(in->records.len, 0),
															  batch->req->version,
															  &batch->header, &message));
	if (error != 0)
		kapi_produce_error(batch, error, message);
	batch->topic = topic;
	batch->in = in;
}

static void check_again(KRequest * req);

/* Checks and queues batches; comes back in the next turn if it has done enough. */
static void
check_batches(KRequest * req)
{
	const KProduceRequest *body = req->body;
	KProduceWork *work = req->work;

	for (; work->checked < work->nbatches; work->checked++)
	{
		KProduceBatch *batch = &work->batches[work->checked];

		if (batch->out->error_code != 0)
			continue;
		if (work->acks < -1 || work->acks > 1)
			kapi_produce_error(batch, KERR_INVALID_REQUIRED_ACKS, NULL);
		else if (!take_batch(batch))
		{
			work->resumed = true;
			kapi_wait_turn(req, check_again);
			return;
		}
	}
	work->checking = false;
	work->pending--;
	work->deadline = kapi_now() + Max(body->timeout_ms, MIN_TIMEOUT);
	kapi_produce_checked(req);
}

/* In another turn a topic may be gone, or be another one. */
static void
check_again(KRequest * req)
{
	const KProduceRequest *body = req->body;
	KProduceWork *work = req->work;
	int32		k = 0;

	for (int32 i = 0; i < body->topic_data.count; i++)
	{
		KProduceRequestTopic *in = &body->topic_data.items[i];
		const KTopic *topic;
		int16		error;

		if (!find_topic(req, in, &topic, &error))
		{
			/* nobody knows for how long: other large batches do not wait for this one */
			if (large_owner == req)
				large_owner = NULL;
			kapi_wait_retry(req, check_again);
			return;
		}
		for (int32 p = 0; p < in->partition_data.count; p++, k++)
		{
			KProduceBatch *batch = &work->batches[work->slots[k]];

			if (work->slots[k] < work->checked)
				continue;
			batch->topic = topic;
			if (error == 0 && batch->in->index >= topic->partitions)
				error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
			if (error != 0)
				kapi_produce_error(batch, error, NULL);
		}
	}
	if (large_owner == req && work->batches[work->checked].out->error_code != 0)
		large_owner = NULL;
	check_batches(req);
}

void
kapi_produce(KRequest * req)
{
	const		KProduceRequest *body = req->body;
	const		KTopic **topics;
	int16	   *errors;
	KProduceWork *work;
	int32		k = 0;

	/*
	 * All topics must be to be had before the first batch is queued: the queue's order is the
	 * answer's.  Looked up once: a topic that does not exist may be busy the next time.
	 */
	topics = palloc_extended(Max(body->topic_data.count, 1) * sizeof(KTopic *), MCXT_ALLOC_HUGE);
	errors = palloc_extended(Max(body->topic_data.count, 1) * sizeof(int16), MCXT_ALLOC_HUGE);
	for (int32 i = 0; i < body->topic_data.count; i++)
	{
		if (!find_topic(req, &body->topic_data.items[i], &topics[i], &errors[i]))
		{
			kapi_retry(req, kapi_produce);
			return;
		}
	}

	work = kapi_produce_work(req);
	work->deadline = kapi_now() + Max(body->timeout_ms, MIN_TIMEOUT);

	/* Until there are Kafka transactions nobody may write in one. */
	if (is_transactional(body))
	{
		kapi_fail(req, KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
		return;
	}

	for (int32 i = 0; i < body->topic_data.count; i++)
	{
		KProduceRequestTopic *in = &body->topic_data.items[i];

		for (int32 p = 0; p < in->partition_data.count; p++, k++)
			take_partition(&work->batches[work->slots[k]], topics[i],
						   &in->partition_data.items[p], errors[i]);
	}
	work->check = palloc(sizeof(KBatchCheck));
	work->checking = true;
	work->pending++;
	check_batches(req);
}
