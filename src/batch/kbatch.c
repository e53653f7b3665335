/*-------------------------------------------------------------------------
 *
 * kbatch.c
 *	  Record batch headers, and walking from batch to batch.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include <isa-l/crc.h>

#include "batch/kbatch_bytes.h"
#include "batch/kbatch_record.h"

/*
 * The fields up to the magic are common to all versions of the format, and so
 * is their place.  The shortest batch of any version counts 14 bytes.
 */
#define ANY_VERSION_HEADER_SIZE		(KBATCH_OFF_MAGIC + 1)
#define ANY_VERSION_MIN_LENGTH		14

/* the first version of Produce requests that allows zstd */
#define PRODUCE_VERSION_ZSTD		7

int16
kbatch_result_error_code(KBatchResult result)
{
	switch (result)
	{
		case KBATCH_OK:
		case KBATCH_END:
			return 0;			/* NONE */
		case KBATCH_TRUNCATED:
		case KBATCH_CORRUPT:
			return 2;			/* CORRUPT_MESSAGE */
		case KBATCH_INVALID_RECORD:
		case KBATCH_UNSUPPORTED_VERSION:
			return 87;			/* INVALID_RECORD */
		case KBATCH_INVALID_TIMESTAMP:
			return 32;			/* INVALID_TIMESTAMP */
		case KBATCH_UNSUPPORTED_COMPRESSION:
			return 76;			/* UNSUPPORTED_COMPRESSION_TYPE */
		case KBATCH_TOO_LARGE:
			return 10;			/* MESSAGE_TOO_LARGE */
		case KBATCH_AGAIN:
		case KBATCH_NO_MEMORY:
			break;
	}
	return -1;					/* UNKNOWN_SERVER_ERROR */
}

/* ---- header ---- */

static void
header_decode(const uint8 *p, KBatchHeader *out)
{
	out->base_offset = (int64) kbytes_get64(p + KBATCH_OFF_BASE_OFFSET);
	out->batch_length = (int32) kbytes_get32(p + KBATCH_OFF_BATCH_LENGTH);
	out->leader_epoch = (int32) kbytes_get32(p + KBATCH_OFF_LEADER_EPOCH);
	out->magic = (int8) p[KBATCH_OFF_MAGIC];
	out->crc = kbytes_get32(p + KBATCH_OFF_CRC);
	out->attributes = (int16) kbytes_get16(p + KBATCH_OFF_ATTRIBUTES);
	out->last_offset_delta = (int32) kbytes_get32(p + KBATCH_OFF_LAST_OFFSET_DELTA);
	out->base_timestamp = (int64) kbytes_get64(p + KBATCH_OFF_BASE_TIMESTAMP);
	out->max_timestamp = (int64) kbytes_get64(p + KBATCH_OFF_MAX_TIMESTAMP);
	out->producer_id = (int64) kbytes_get64(p + KBATCH_OFF_PRODUCER_ID);
	out->producer_epoch = (int16) kbytes_get16(p + KBATCH_OFF_PRODUCER_EPOCH);
	out->base_sequence = (int32) kbytes_get32(p + KBATCH_OFF_BASE_SEQUENCE);
	out->record_count = (int32) kbytes_get32(p + KBATCH_OFF_RECORD_COUNT);
}

/*
 * The checks that tell whether there is a batch at all and how long it is.
 * If "whole", a batch that goes on beyond len is KBATCH_TRUNCATED; the order
 * of the checks is that in which Kafka would notice.
 */
static KBatchResult
header_frame(const uint8 *p, size_t len, bool whole)
{
	int32		batch_length;
	int8		magic;

	if (len < KBATCH_LENGTH_OVERHEAD)
		return KBATCH_TRUNCATED;
	batch_length = (int32) kbytes_get32(p + KBATCH_OFF_BATCH_LENGTH);
	if (batch_length < ANY_VERSION_MIN_LENGTH)
		return KBATCH_CORRUPT;

	if (len < ANY_VERSION_HEADER_SIZE)
		return KBATCH_TRUNCATED;
	magic = (int8) p[KBATCH_OFF_MAGIC];
	if (magic < 0 || magic > KBATCH_MAGIC)
		return KBATCH_CORRUPT;
	if (whole && len - KBATCH_LENGTH_OVERHEAD < (size_t) batch_length)
		return KBATCH_TRUNCATED;
	if (magic != KBATCH_MAGIC)
		return KBATCH_UNSUPPORTED_VERSION;

	if (batch_length < KBATCH_HEADER_SIZE - KBATCH_LENGTH_OVERHEAD)
		return KBATCH_CORRUPT;
	if (len < KBATCH_HEADER_SIZE)
		return KBATCH_TRUNCATED;
	return KBATCH_OK;
}

/*
 * What holds for every batch in a log: its offsets are within an int64, and
 * each record has one of them.
 */
static bool
header_is_sane(const KBatchHeader *header)
{
	return header->base_offset >= 0 &&
		header->last_offset_delta >= 0 &&
		header->base_offset < PG_INT64_MAX - header->last_offset_delta &&
		header->record_count >= 0 &&
		(int64) header->record_count <= (int64) header->last_offset_delta + 1;
}

KBatchResult
kbatch_header_read(const uint8 *p, size_t len, KBatchHeader *out)
{
	KBatchResult result = header_frame(p, len, false);
	KBatchHeader header;

	if (result != KBATCH_OK)
		return result;
	header_decode(p, &header);
	if (!header_is_sane(&header))
		return KBATCH_CORRUPT;
	*out = header;
	return KBATCH_OK;
}

bool
kbatch_header_decode(const uint8 *batch, size_t size, KBatchHeader *out)
{
	if (header_frame(batch, size, true) != KBATCH_OK)
		return false;
	header_decode(batch, out);
	return kbatch_size(out) == size;
}

void
kbatch_header_write(uint8 *p, const KBatchHeader *header)
{
	kbytes_put64(p + KBATCH_OFF_BASE_OFFSET, (uint64) header->base_offset);
	kbytes_put32(p + KBATCH_OFF_BATCH_LENGTH, (uint32) header->batch_length);
	kbytes_put32(p + KBATCH_OFF_LEADER_EPOCH, (uint32) header->leader_epoch);
	p[KBATCH_OFF_MAGIC] = (uint8) header->magic;
	kbytes_put32(p + KBATCH_OFF_CRC, header->crc);
	kbytes_put16(p + KBATCH_OFF_ATTRIBUTES, (uint16) header->attributes);
	kbytes_put32(p + KBATCH_OFF_LAST_OFFSET_DELTA, (uint32) header->last_offset_delta);
	kbytes_put64(p + KBATCH_OFF_BASE_TIMESTAMP, (uint64) header->base_timestamp);
	kbytes_put64(p + KBATCH_OFF_MAX_TIMESTAMP, (uint64) header->max_timestamp);
	kbytes_put64(p + KBATCH_OFF_PRODUCER_ID, (uint64) header->producer_id);
	kbytes_put16(p + KBATCH_OFF_PRODUCER_EPOCH, (uint16) header->producer_epoch);
	kbytes_put32(p + KBATCH_OFF_BASE_SEQUENCE, (uint32) header->base_sequence);
	kbytes_put32(p + KBATCH_OFF_RECORD_COUNT, (uint32) header->record_count);
}

int32
kbatch_sequence_add(int32 sequence, int32 increment)
{
	return (int32) (((uint32) sequence + (uint32) increment) & PG_INT32_MAX);
}

int32
kbatch_last_sequence(const KBatchHeader *header)
{
	if (header->base_sequence == KBATCH_NO_SEQUENCE)
		return KBATCH_NO_SEQUENCE;
	return kbatch_sequence_add(header->base_sequence, header->last_offset_delta);
}

/* ---- changes in place ---- */

uint32
kbatch_compute_crc(const uint8 *batch, size_t size)
{
	/* the iSCSI polynomial is CRC-32C; the library neither inverts nor writes what it is given */
	return ~crc32_iscsi(unconstify(uint8 *, batch + KBATCH_OFF_ATTRIBUTES),
						(int) (size - KBATCH_OFF_ATTRIBUTES), ~(uint32) 0);
}

bool
kbatch_check_crc(const uint8 *batch, size_t size)
{
	return kbytes_get32(batch + KBATCH_OFF_CRC) == kbatch_compute_crc(batch, size);
}

void
kbatch_set_base_offset(uint8 *batch, int64 base_offset)
{
	kbytes_put64(batch + KBATCH_OFF_BASE_OFFSET, (uint64) base_offset);
}

void
kbatch_set_leader_epoch(uint8 *batch, int32 leader_epoch)
{
	kbytes_put32(batch + KBATCH_OFF_LEADER_EPOCH, (uint32) leader_epoch);
}

void
kbatch_set_max_timestamp(uint8 *batch, size_t size, bool log_append_time, int64 max_timestamp)
{
	uint16		attributes = kbytes_get16(batch + KBATCH_OFF_ATTRIBUTES);
	uint16		wanted = log_append_time ?
	attributes | KBATCH_ATTR_LOG_APPEND_TIME : attributes & ~KBATCH_ATTR_LOG_APPEND_TIME;

	if (attributes == wanted &&
		kbytes_get64(batch + KBATCH_OFF_MAX_TIMESTAMP) == (uint64) max_timestamp)
		return;

	kbytes_put16(batch + KBATCH_OFF_ATTRIBUTES, wanted);
	kbytes_put64(batch + KBATCH_OFF_MAX_TIMESTAMP, (uint64) max_timestamp);
	kbytes_put32(batch + KBATCH_OFF_CRC, kbatch_compute_crc(batch, size));
}

/* ---- walking ---- */

void
kbatch_walk_begin(KBatchWalker *walker, const uint8 *data, size_t len)
{
	walker->data = data;
	walker->len = len;
	walker->pos = 0;
}

KBatchResult
kbatch_walk_next(KBatchWalker *walker, KBatchHeader *header, const uint8 **batch)
{
	const uint8 *p = walker->data + walker->pos;
	size_t		len = walker->len - walker->pos;
	KBatchResult result;

	if (len == 0)
		return KBATCH_END;
	result = header_frame(p, len, true);
	if (result == KBATCH_OK)
		result = kbatch_header_read(p, len, header);
	if (result != KBATCH_OK)
		return result;
	*batch = p;
	walker->pos += kbatch_size(header);
	return KBATCH_OK;
}

KBatchResult
kbatch_produce_batch(const uint8 *data, size_t len, int version,
					 KBatchHeader *header, const char **message)
{
	KBatchResult result = header_frame(data, len, true);
	size_t		size;

	switch (result)
	{
		case KBATCH_OK:
			break;
		case KBATCH_TRUNCATED:
			*message = "a produce request needs a complete record batch for each partition";
			return KBATCH_INVALID_RECORD;
		case KBATCH_UNSUPPORTED_VERSION:
			*message = "record batches must be of format version 2";
			return result;
		default:
			*message = "record batch has an impossible length or version";
			return result;
	}

	header_decode(data, header);
	if (kbatch_codec(header) == KCODEC_ZSTD && version < PRODUCE_VERSION_ZSTD)
	{
		*message = "zstd compression needs produce requests of version 7 or later";
		return KBATCH_UNSUPPORTED_COMPRESSION;
	}

	size = kbatch_size(header);
	switch (header_frame(data + size, len - size, true))
	{
		case KBATCH_TRUNCATED:
			return KBATCH_OK;	/* nothing, or less than a batch */
		case KBATCH_CORRUPT:
			*message = "record batch is followed by bytes that are no record batch";
			return KBATCH_CORRUPT;
		default:
			*message = "a produce request can hold only one record batch for each partition";
			return KBATCH_INVALID_RECORD;
	}
}
