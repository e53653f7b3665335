/*-------------------------------------------------------------------------
 *
 * kbatch_build.c
 *	  Making record batches.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include "batch/kbatch_build.h"
#include "batch/kbatch_bytes.h"

/* a batch's length field is an int32 */
#define MAX_BATCH_SIZE			((size_t) PG_INT32_MAX)

#define CONTROL_KEY_SIZE		4
#define CONTROL_VALUE_SIZE		6

void
kbatch_seal_init(KBatchSeal *seal)
{
	seal->codec = KCODEC_NONE;
	seal->level = KCODEC_DEFAULT_LEVEL;
	seal->attributes = 0;
	seal->base_offset = 0;
	seal->leader_epoch = KBATCH_NO_LEADER_EPOCH;
	seal->producer_id = KBATCH_NO_PRODUCER_ID;
	seal->producer_epoch = KBATCH_NO_PRODUCER_EPOCH;
	seal->base_sequence = KBATCH_NO_SEQUENCE;
}

void
kbatch_builder_init(KBatchBuilder *builder, const KAllocator *allocator, size_t max)
{
	kbuffer_init(&builder->records, allocator, Min(max, MAX_BATCH_SIZE));
	kbatch_builder_reset(builder);
}

void
kbatch_builder_free(KBatchBuilder *builder)
{
	kbuffer_free(&builder->records);
	kbatch_builder_reset(builder);
}

void
kbatch_builder_reset(KBatchBuilder *builder)
{
	builder->records.len = 0;
	builder->record_count = 0;
	builder->base_timestamp = KBATCH_NO_TIMESTAMP;
	builder->max_timestamp = KBATCH_NO_TIMESTAMP;
}

size_t
kbatch_builder_size(const KBatchBuilder *builder)
{
	return Max(builder->records.len, KBATCH_HEADER_SIZE);
}

static inline size_t
field_size(int32 len)
{
	return len < 0 ? kbytes_varint_size(-1) : kbytes_varint_size(len) + (size_t) len;
}

static inline uint8 *
put_field(uint8 *p, const uint8 *field, int32 len)
{
	if (len < 0)
		return kbytes_put_varint(p, -1);
	p = kbytes_put_varint(p, len);
	if (len > 0)
		memcpy(p, field, len);
	return p + len;
}

/* What the record is relative to: itself, if it is the first one. */
static inline int64
timestamp_delta(const KBatchBuilder *builder, int64 timestamp)
{
	if (builder->record_count == 0)
		return 0;
	return (int64) ((uint64) timestamp - (uint64) builder->base_timestamp);
}

/* Size of a record without its length field.  Up to 2^31 headers of 2^32 bytes fit a size_t. */
static size_t
record_body_size(const KBatchBuilder *builder, int64 timestamp, int32 key_len, int32 value_len,
				 const KRecordHeader *headers, int32 header_count)
{
	size_t		size = 1;		/* attributes */

	size += kbytes_varint_size(timestamp_delta(builder, timestamp));
	size += kbytes_varint_size(builder->record_count);
	size += field_size(key_len);
	size += field_size(value_len);
	size += kbytes_varint_size(header_count);
	for (int32 i = 0; i < header_count; i++)
		size += field_size(headers[i].key_len) + field_size(headers[i].value_len);
	return size;
}

size_t
kbatch_builder_record_size(const KBatchBuilder *builder, int64 timestamp,
						   const uint8 *key, int32 key_len,
						   const uint8 *value, int32 value_len,
						   const KRecordHeader *headers, int32 header_count)
{
	size_t		body;

	(void) key;
	(void) value;
	body = record_body_size(builder, timestamp, key_len, value_len, headers, header_count);
	if (body > MAX_BATCH_SIZE - KBATCH_HEADER_SIZE - KBYTES_MAX_VARINT32)
		return 0;
	return body + kbytes_varint_size((int64) body);
}

static KBatchResult
from_buffer_result(KBufferResult result)
{
	switch (result)
	{
		case KBUFFER_OK:
			return KBATCH_OK;
		case KBUFFER_FULL:
			return KBATCH_TOO_LARGE;
		case KBUFFER_NO_MEMORY:
			break;
	}
	return KBATCH_NO_MEMORY;
}

KBatchResult
kbatch_builder_append(KBatchBuilder *builder, int64 timestamp,
					  const uint8 *key, int32 key_len,
					  const uint8 *value, int32 value_len,
					  const KRecordHeader *headers, int32 header_count)
{
	KBuffer    *records = &builder->records;
	size_t		header_room = builder->record_count == 0 ? KBATCH_HEADER_SIZE : 0;
	size_t		body;
	KBatchResult result;
	uint8	   *p;

	body = record_body_size(builder, timestamp, key_len, value_len, headers, header_count);
	if (body > MAX_BATCH_SIZE || builder->record_count == PG_INT32_MAX)
		return KBATCH_TOO_LARGE;
	result = from_buffer_result(kbuffer_reserve(records, header_room + body +
												kbytes_varint_size((int64) body)));
	if (result != KBATCH_OK)
		return result;

	if (builder->record_count == 0)
	{
		memset(records->data, 0, KBATCH_HEADER_SIZE);
		records->len = KBATCH_HEADER_SIZE;
	}
	p = records->data + records->len;
	p = kbytes_put_varint(p, (int64) body);
	*p++ = 0;					/* attributes: none are defined */
	p = kbytes_put_varint(p, timestamp_delta(builder, timestamp));
	p = kbytes_put_varint(p, builder->record_count);
	p = put_field(p, key, key_len);
	p = put_field(p, value, value_len);
	p = kbytes_put_varint(p, header_count);
	for (int32 i = 0; i < header_count; i++)
	{
		p = put_field(p, headers[i].key, headers[i].key_len);
		p = put_field(p, headers[i].value, headers[i].value_len);
	}
	records->len = p - records->data;

	if (builder->record_count == 0)
		builder->base_timestamp = timestamp;
	builder->max_timestamp = Max(builder->max_timestamp, timestamp);
	builder->record_count++;
	return KBATCH_OK;
}

/* Write the header before the records of a batch, and its checksum. */
static void
seal_batch(uint8 *batch, size_t size, KBatchHeader *header)
{
	header->batch_length = (int32) (size - KBATCH_LENGTH_OVERHEAD);
	header->magic = KBATCH_MAGIC;
	header->crc = 0;
	kbatch_header_write(batch, header);
	header->crc = kbatch_compute_crc(batch, size);
	kbytes_put32(batch + KBATCH_OFF_CRC, header->crc);
}

KBatchResult
kbatch_builder_finish(KBatchBuilder *builder, const KBatchSeal *seal, KCodec *codec, KBuffer *out,
					  const uint8 **batch, size_t *size)
{
	KBuffer    *target = &builder->records;
	KBatchHeader header;

	if (builder->record_count == 0)
		return KBATCH_INVALID_RECORD;

	if (seal->codec != KCODEC_NONE)
	{
		KBatchResult result;

		target = out;
		target->len = 0;
		result = from_buffer_result(kbuffer_append(target, builder->records.data,
												   KBATCH_HEADER_SIZE));
		if (result != KBATCH_OK)
			return result;
		switch (kcodec_compress(codec, seal->codec, seal->level,
								builder->records.data + KBATCH_HEADER_SIZE,
								builder->records.len - KBATCH_HEADER_SIZE, target))
		{
			case KCODEC_OK:
				break;
			case KCODEC_TOO_LARGE:
				return KBATCH_TOO_LARGE;
			case KCODEC_UNSUPPORTED:
				return KBATCH_UNSUPPORTED_COMPRESSION;
			default:
				return KBATCH_NO_MEMORY;
		}
		if (target->len > MAX_BATCH_SIZE)
			return KBATCH_TOO_LARGE;
	}

	header.base_offset = seal->base_offset;
	header.leader_epoch = seal->leader_epoch;
	header.attributes = (int16) (seal->attributes | (int16) seal->codec);
	header.last_offset_delta = builder->record_count - 1;
	header.base_timestamp = builder->base_timestamp;
	header.max_timestamp = builder->max_timestamp;
	header.producer_id = seal->producer_id;
	header.producer_epoch = seal->producer_epoch;
	header.base_sequence = seal->base_sequence;
	header.record_count = builder->record_count;
	seal_batch(target->data, target->len, &header);
	*batch = target->data;
	*size = target->len;
	return KBATCH_OK;
}

/* ---- batches of the broker's own ---- */

/*
 * One control record, at the header's last offset.  The header's counts and
 * length are filled in here.
 */
static size_t
write_control_batch(uint8 *out, KBatchHeader *header, KControlType type, int32 coordinator_epoch)
{
	size_t		body = 1 + 1 + kbytes_varint_size(header->last_offset_delta) +
	field_size(CONTROL_KEY_SIZE) + field_size(CONTROL_VALUE_SIZE) + 1;
	uint8		key[CONTROL_KEY_SIZE];
	uint8		value[CONTROL_VALUE_SIZE];
	uint8	   *p = out + KBATCH_HEADER_SIZE;

	kbytes_put16(key, 0);		/* version */
	kbytes_put16(key + 2, (uint16) type);
	kbytes_put16(value, 0);		/* version */
	kbytes_put32(value + 2, (uint32) coordinator_epoch);

	p = kbytes_put_varint(p, (int64) body);
	*p++ = 0;					/* attributes */
	*p++ = 0;					/* timestamp delta */
	p = kbytes_put_varint(p, header->last_offset_delta);
	p = put_field(p, key, CONTROL_KEY_SIZE);
	p = put_field(p, value, CONTROL_VALUE_SIZE);
	*p++ = 0;					/* headers */

	header->record_count = 1;
	seal_batch(out, p - out, header);
	return p - out;
}

void
kbatch_write_end_marker(uint8 out[KBATCH_END_MARKER_SIZE], KControlType type,
						int64 base_offset, int32 leader_epoch,
						int64 producer_id, int16 producer_epoch,
						int32 coordinator_epoch, int64 timestamp)
{
	KBatchHeader header;

	header.base_offset = base_offset;
	header.leader_epoch = leader_epoch;
	header.attributes = KBATCH_ATTR_CONTROL | KBATCH_ATTR_TRANSACTIONAL;
	header.last_offset_delta = 0;
	header.base_timestamp = timestamp;
	header.max_timestamp = timestamp;
	header.producer_id = producer_id;
	header.producer_epoch = producer_epoch;
	header.base_sequence = KBATCH_NO_SEQUENCE;
	(void) write_control_batch(out, &header, type, coordinator_epoch);
}

size_t
kbatch_write_filler(uint8 out[KBATCH_FILLER_MAX_SIZE], const KBatchHeader *dead)
{
	KBatchHeader header = *dead;

	header.attributes = KBATCH_ATTR_CONTROL;
	header.base_timestamp = dead->max_timestamp;
	header.producer_id = KBATCH_NO_PRODUCER_ID;
	header.producer_epoch = KBATCH_NO_PRODUCER_EPOCH;
	header.base_sequence = KBATCH_NO_SEQUENCE;
	return write_control_batch(out, &header, KCONTROL_COMMIT, 0);
}
