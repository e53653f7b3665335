/*-------------------------------------------------------------------------
 *
 * kbatch_validate.c
 *	  Is what a producer sent a batch that may enter the log?
 *
 * The rules and their order are those of Kafka 4.3, so that a client sees the
 * same error for the same batch; README.md lists where we are stricter.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include "batch/kbatch_check.h"

#define DEFAULT_MAX_MESSAGE_BYTES		1048588
#define DEFAULT_MAX_RECORD_BYTES		(256 * 1024 * 1024)
#define GREATEST_RECORD_BYTES			((size_t) 1000 * 1024 * 1024)
#define DEFAULT_TIMESTAMP_AFTER_MAX		INT64CONST(3600000)

size_t
kbatch_max_record_bytes(size_t size)
{
	return Max(DEFAULT_MAX_RECORD_BYTES, Min(size, GREATEST_RECORD_BYTES / 100) * 100);
}

void
kbatch_policy_init(KBatchPolicy *policy, int64 now)
{
	policy->max_batch_bytes = DEFAULT_MAX_MESSAGE_BYTES;
	policy->max_record_bytes = DEFAULT_MAX_RECORD_BYTES;
	policy->keys_required = false;
	policy->log_append_time = false;
	policy->now = now;
	policy->timestamp_before_max = PG_INT64_MAX;
	policy->timestamp_after_max = DEFAULT_TIMESTAMP_AFTER_MAX;
}

/* The batch as a whole is at fault. */
static KBatchResult
refuse(KBatchVerdict *verdict, KBatchResult result, const char *message)
{
	verdict->record_error_count = 0;
	verdict->result = result;
	verdict->message = message;
	return result;
}

/* The checks that need no look at the records. */
static KBatchResult
validate_header(const uint8 *batch, size_t size, const KBatchPolicy *policy,
				const KBatchHeader *header, KBatchVerdict *verdict)
{
	if (header->base_offset != 0)
		return refuse(verdict, KBATCH_INVALID_RECORD, "base offset of a produced batch must be 0");
	if (size > policy->max_batch_bytes)
		return refuse(verdict, KBATCH_TOO_LARGE, "record batch is larger than max.message.bytes");
	if (!kbatch_check_crc(batch, size))
		return refuse(verdict, KBATCH_CORRUPT, "record batch does not match its checksum");
	if (kbatch_codec(header) > KCODEC_LAST)
		return refuse(verdict, KBATCH_UNSUPPORTED_COMPRESSION, "unknown compression type");

	if (header->last_offset_delta < 0)
		return refuse(verdict, KBATCH_INVALID_RECORD, "record batch has a negative last offset");
	if (header->record_count <= 0)
		return refuse(verdict, KBATCH_INVALID_RECORD, "record batch has no records");
	if (header->record_count - 1 != header->last_offset_delta)
		return refuse(verdict, KBATCH_INVALID_RECORD,
					  "number of records does not match the range of offsets");
	if (kbatch_is_control(header))
		return refuse(verdict, KBATCH_INVALID_RECORD, "clients must not write control records");
	if (kbatch_has_producer_id(header) && header->base_sequence < 0)
		return refuse(verdict, KBATCH_INVALID_RECORD,
					  "record batch has a producer id but no sequence number");
	return KBATCH_OK;
}

/*
 * Is the timestamp too far from the present?  The arithmetic wraps around as
 * Kafka's does, which matters for absurd timestamps only.
 */
static bool
timestamp_out_of_range(const KBatchPolicy *policy, int64 timestamp)
{
	uint64		age = (uint64) policy->now - (uint64) timestamp;

	return (int64) age > policy->timestamp_before_max ||
		(int64) (UINT64CONST(0) - age) > policy->timestamp_after_max;
}

static void
note_record_error(KBatchVerdict *verdict, int32 index, int fault, int64 timestamp,
				  const KBatchRecord *record)
{
	if (verdict->record_error_count < KBATCH_MAX_RECORD_ERRORS)
	{
		KBatchRecordError *error = &verdict->record_errors[verdict->record_error_count];

		error->fault = fault;
		error->index = index;
		error->timestamp = timestamp;
		error->key_len = record->key_len;
		error->value_len = record->value_len;
	}
	verdict->record_error_count++;

	/* as in Kafka, one bad timestamp decides about the batch's error */
	if (fault != KBATCH_NO_KEY)
		verdict->result = KBATCH_INVALID_TIMESTAMP;
	else if (verdict->result == KBATCH_OK)
		verdict->result = KBATCH_INVALID_RECORD;
}

/* One record has been decoded. */
static bool
check_record(KBatchCheck *check)
{
	const KBatchPolicy *policy = &check->policy;
	KBatchVerdict *verdict = &check->verdict;
	const KBatchRecord *record = &check->record;
	int32		i = check->next;
	int64		timestamp;

	if (record->offset_delta != i)
	{
		refuse(verdict, KBATCH_INVALID_RECORD, "offsets of the records have gaps");
		return false;
	}
	timestamp = (int64) ((uint64) check->header.base_timestamp + (uint64) record->timestamp);
	if (policy->keys_required && record->key == NULL)
		note_record_error(verdict, i, KBATCH_NO_KEY, timestamp, record);
	else if (!policy->log_append_time && timestamp != KBATCH_NO_TIMESTAMP)
	{
		if (timestamp_out_of_range(policy, timestamp))
			note_record_error(verdict, i, KBATCH_FAR_TIMESTAMP, timestamp, record);
	}
	else if (kbatch_is_log_append_time(&check->header))
		note_record_error(verdict, i, KBATCH_LOG_APPEND_TIME, timestamp, record);

	if (timestamp > verdict->max_timestamp)
	{
		verdict->max_timestamp = timestamp;
		verdict->max_timestamp_delta = i;
	}
	return true;
}

KBatchResult
kbatch_check_begin(KBatchCheck *check, const uint8 *batch, size_t size,
				   const KBatchPolicy *policy, KCodec *codec)
{
	KBatchVerdict *verdict = &check->verdict;
	KBatchHeader *header = &check->header;
	KRecordSource *source = &check->source;

	check->policy = *policy;
	check->next = 0;
	verdict->result = KBATCH_OK;
	verdict->message = NULL;
	verdict->record_error_count = 0;
	verdict->max_timestamp = KBATCH_NO_TIMESTAMP;
	verdict->max_timestamp_delta = -1;
	verdict->record_bytes = 0;

	if (!kbatch_header_decode(batch, size, header))
		return refuse(verdict, KBATCH_CORRUPT, "record batch has an impossible length or version");
	if (validate_header(batch, size, policy, header, verdict) != KBATCH_OK)
		return verdict->result;
	if (krecord_source_batch(source, batch + KBATCH_HEADER_SIZE, size - KBATCH_HEADER_SIZE,
							 kbatch_codec(header), codec, policy->max_record_bytes) != KBATCH_OK)
		return refuse(verdict, source->result, source->message);
	return KBATCH_OK;
}

KBatchResult
kbatch_check_step(KBatchCheck *check, size_t bytes)
{
	KBatchVerdict *verdict = &check->verdict;
	KRecordSource *source = &check->source;

	source->result = KBATCH_OK;
	source->pause_at = bytes > SIZE_MAX - source->total ? SIZE_MAX : source->total + bytes;
	for (; check->next < check->header.record_count; check->next++)
	{
		if (!krecord_read(source, &check->record))
			return source->result == KBATCH_AGAIN ? KBATCH_AGAIN :
				refuse(verdict, source->result, source->message);
		if (!check_record(check))
			return verdict->result;
	}
	if (!krecord_source_at_end(source))
		return refuse(verdict, source->result, source->message);

	verdict->record_bytes = source->total;
	if (check->policy.log_append_time)
	{
		verdict->max_timestamp = check->policy.now;
		verdict->max_timestamp_delta = 0;
	}
	return verdict->result;
}

KBatchResult
kbatch_validate(const uint8 *batch, size_t size, const KBatchPolicy *policy, KCodec *codec,
				KBatchVerdict *verdict)
{
	KBatchCheck check;
	KBatchResult result = kbatch_check_begin(&check, batch, size, policy, codec);

	if (result == KBATCH_OK)
		result = kbatch_check_step(&check, SIZE_MAX);
	*verdict = check.verdict;
	return result;
}
