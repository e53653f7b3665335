/*-------------------------------------------------------------------------
 *
 * kbatch_record.c
 *	  Decoding one record after another, from memory or from a codec's stream.
 *
 * There is one decoder for both, so that what the validator lets through is
 * what the iterator can read.  Every access is bounded by source->limit, which is
 * the end of the record or of the piece in memory, whichever comes first:
 * one comparison serves for both.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include "batch/kbatch_bytes.h"
#include "batch/kbatch_record.h"

/* address of what is not null and yet has no address of its own */
static const uint8 nowhere[1];

static bool
fail(KRecordSource *source, KBatchResult result, const char *message)
{
	source->result = result;
	source->message = message;
	return false;
}

static void
source_init(KRecordSource *source, const uint8 *data, size_t len, KCodec *stream)
{
	if (len == 0)
		data = nowhere;			/* NULL has no arithmetic */
	source->pos = data;
	source->limit = data;
	source->end = data + len;
	source->left = 0;
	source->stream = stream;
	source->total = len;
	source->message = NULL;
	source->result = KBATCH_OK;
}

void
krecord_source_memory(KRecordSource *source, const uint8 *data, size_t len)
{
	source_init(source, data, len, NULL);
}

static bool
codec_fail(KRecordSource *source, KCodecResult result)
{
	source->stream = NULL;
	switch (result)
	{
		case KCODEC_TOO_LARGE:
			return fail(source, KBATCH_TOO_LARGE, "records are too large when decompressed");
		case KCODEC_NO_MEMORY:
			return fail(source, KBATCH_NO_MEMORY, "out of memory while decompressing records");
		case KCODEC_UNSUPPORTED:
			return fail(source, KBATCH_UNSUPPORTED_COMPRESSION, "unknown compression type");
		default:
			return fail(source, KBATCH_INVALID_RECORD, "compressed records are malformed");
	}
}

KBatchResult
krecord_source_batch(KRecordSource *source, const uint8 *records, size_t len,
					 KCodecType type, KCodec *codec, size_t max)
{
	KCodecResult result;

	if (type == KCODEC_NONE)
	{
		source_init(source, records, len, NULL);
		return KBATCH_OK;
	}

	source_init(source, NULL, 0, codec);
	result = kcodec_stream_begin(codec, type, records, len, max);
	if (result != KCODEC_OK)
		codec_fail(source, result);
	return source->result;
}

/* Let the record extend n bytes from pos. */
static void
set_record_length(KRecordSource *source, size_t n)
{
	size_t		here = Min(n, (size_t) (source->end - source->pos));

	source->limit = source->pos + here;
	source->left = n - here;
}

/*
 * Called when pos has come to end: get the next piece of the stream.  False
 * without a message at its proper end.
 */
static bool
next_piece(KRecordSource *source)
{
	const uint8 *piece;
	size_t		len;
	KCodecResult result;

	if (source->stream == NULL)
		return false;
	result = kcodec_stream_next(source->stream, &piece, &len);
	if (result == KCODEC_END)
	{
		source->stream = NULL;
		return false;
	}
	if (result != KCODEC_OK)
		return codec_fail(source, result);

	source->pos = piece;
	source->end = piece + len;
	source->total += len;
	set_record_length(source, source->left);
	return true;
}

/* Called when pos has come to limit: can the record be read further? */
static bool
more(KRecordSource *source)
{
	if (source->left == 0)
		return fail(source, KBATCH_INVALID_RECORD, "record is longer than its length says");
	if (next_piece(source))
		return true;
	if (source->message == NULL)
		fail(source, KBATCH_INVALID_RECORD, "records end before the last one is complete");
	return false;
}

static inline bool
read_byte(KRecordSource *source, uint8 *byte)
{
	if (unlikely(source->pos == source->limit) && !more(source))
		return false;
	*byte = *source->pos++;
	return true;
}

/*
 * Like Kafka, take bits beyond the 64th for nothing, as long as the number ends
 * in time.
 */
static bool
read_varint_slowly(KRecordSource *source, int max_bytes, uint64 *out)
{
	uint64		v = 0;

	for (int i = 0; i < max_bytes; i++)
	{
		uint8		byte;

		if (!read_byte(source, &byte))
			return false;
		v |= (uint64) (byte & 0x7f) << (7 * i);
		if ((byte & 0x80) == 0)
		{
			*out = v;
			return true;
		}
	}
	return fail(source, KBATCH_INVALID_RECORD, "variable-length number does not end");
}

static inline bool
read_varlong(KRecordSource *source, int64 *out)
{
	uint64		v;

	if (likely(source->pos < source->limit) && *source->pos < 0x80)
		v = *source->pos++;
	else if (!read_varint_slowly(source, KBYTES_MAX_VARINT64, &v))
		return false;
	*out = kbytes_unzigzag(v);
	return true;
}

static inline bool
read_varint(KRecordSource *source, int32 *out)
{
	uint64		v;

	if (likely(source->pos < source->limit) && *source->pos < 0x80)
		v = *source->pos++;
	else if (!read_varint_slowly(source, KBYTES_MAX_VARINT32, &v))
		return false;
	*out = (int32) kbytes_unzigzag((uint32) v);
	return true;
}

/* Pass over n bytes; *where is their address if they have one. */
static bool
read_bytes(KRecordSource *source, size_t n, const uint8 **where)
{
	if (likely(n <= (size_t) (source->limit - source->pos)))
	{
		*where = source->pos;
		source->pos += n;
		return true;
	}

	*where = nowhere;
	for (;;)
	{
		size_t		here = Min(n, (size_t) (source->limit - source->pos));

		source->pos += here;
		n -= here;
		if (n == 0)
			return true;
		if (!more(source))
			return false;
	}
}

/*
 * A length, then so many bytes; -1 means null. Kafka takes any negative length for null, but
 * librdkafka's consumers never get past one.
 */
static bool
read_field(KRecordSource *source, const uint8 **field, int32 *len)
{
	if (!read_varint(source, len))
		return false;
	if (*len == -1)
	{
		*field = NULL;
		return true;
	}
	if (*len < 0)
		return fail(source, KBATCH_INVALID_RECORD, "record has a field of negative length");
	return read_bytes(source, (size_t) *len, field);
}

static bool
read_headers(KRecordSource *source, int32 count)
{
	while (count-- > 0)
	{
		const uint8 *field;
		int32		len;

		if (!read_field(source, &field, &len))
			return false;
		if (field == NULL)
			return fail(source, KBATCH_INVALID_RECORD, "record header has no key");
		if (!read_field(source, &field, &len))
			return false;
	}
	return true;
}

bool
krecord_read(KRecordSource *source, KBatchRecord *record)
{
	int32		length;
	uint8		attributes;

	/* the length itself is not part of what it counts */
	set_record_length(source, KBYTES_MAX_VARINT32);
	if (!read_varint(source, &length))
		return false;
	if (length < 0)
		return fail(source, KBATCH_INVALID_RECORD, "record has a negative length");
	set_record_length(source, (size_t) length);
	if (source->left > 0 && source->stream == NULL)
		return fail(source, KBATCH_INVALID_RECORD,
					"records end before the last one is complete");

	if (!read_byte(source, &attributes) ||
		!read_varlong(source, &record->timestamp) ||
		!read_varint(source, &record->offset_delta) ||
		!read_field(source, &record->key, &record->key_len) ||
		!read_field(source, &record->value, &record->value_len) ||
		!read_varint(source, &record->header_count))
		return false;
	record->attributes = (int8) attributes;
	if (record->header_count < 0)
		return fail(source, KBATCH_INVALID_RECORD, "record has a negative number of headers");

	record->headers = source->pos;
	record->headers_len = (int32) (source->limit - source->pos);
	if (!read_headers(source, record->header_count))
		return false;
	if (source->pos != source->limit || source->left > 0)
		return fail(source, KBATCH_INVALID_RECORD, "record is shorter than its length says");
	return true;
}

bool
krecord_source_at_end(KRecordSource *source)
{
	source->left = 0;
	if (source->pos == source->end && !next_piece(source))
		return source->message == NULL;
	return fail(source, KBATCH_INVALID_RECORD, "batch has more records than it says");
}
