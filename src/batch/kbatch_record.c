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

/* steps of krecord_read, before each of which it may have paused */
enum
{
	READ_LENGTH,
	PASS_KEY,
	PASS_VALUE,
	READ_HEADERS
};

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
	source->pause_at = SIZE_MAX;
	source->step = READ_LENGTH;
	source->skip = 0;
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

/* Has enough been decompressed for now? */
static inline bool
enough(KRecordSource *source)
{
	if (likely(source->total < source->pause_at || source->stream == NULL))
		return false;
	source->result = KBATCH_AGAIN;
	return true;
}

/* Pass over the bytes of a field, unless it is null; *field is their address if they have one. */
static bool
pass_bytes(KRecordSource *source, const uint8 **field)
{
	if (likely(source->skip <= (size_t) (source->limit - source->pos)))
	{
		if (*field != NULL)
			*field = source->pos;
		source->pos += source->skip;
		source->skip = 0;
		return true;
	}

	*field = nowhere;
	for (;;)
	{
		size_t		here = Min(source->skip, (size_t) (source->limit - source->pos));

		source->pos += here;
		source->skip -= here;
		if (source->skip == 0)
			return true;
		if (enough(source) || !more(source))
			return false;
	}
}

/*
 * The length of the bytes that follow; -1 means null. Kafka takes any negative length for null, but
 * librdkafka's consumers never get past one.
 */
static bool
read_length(KRecordSource *source, const uint8 **field, int32 *len)
{
	if (!read_varint(source, len))
		return false;
	*field = NULL;
	if (*len == -1)
		return true;
	if (*len < 0)
		return fail(source, KBATCH_INVALID_RECORD, "record has a field of negative length");
	*field = nowhere;
	source->skip = (size_t) *len;
	return true;
}

/* Keys and values of headers in turn; one may have been begun. */
static bool
read_headers(KRecordSource *source)
{
	const uint8 *field = nowhere;
	int32		len;

	for (;;)
	{
		if (!pass_bytes(source, &field))
			return false;
		if (source->fields == 0)
			return true;
		if (enough(source) || !read_length(source, &field, &len))
			return false;
		if (field == NULL && source->fields % 2 == 0)
			return fail(source, KBATCH_INVALID_RECORD, "record header has no key");
		source->fields--;
	}
}

/* The first part of a record, up to its key. */
static bool
read_start(KRecordSource *source, KBatchRecord *record)
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
		!read_length(source, &record->key, &record->key_len))
		return false;
	record->attributes = (int8) attributes;
	return true;
}

bool
krecord_read(KRecordSource *source, KBatchRecord *record)
{
	switch (source->step)
	{
		case READ_LENGTH:
			if (enough(source) || !read_start(source, record))
				return false;
			source->step = PASS_KEY;
			/* FALLTHROUGH */
		case PASS_KEY:
			if (!pass_bytes(source, &record->key) ||
				!read_length(source, &record->value, &record->value_len))
				return false;
			source->step = PASS_VALUE;
			/* FALLTHROUGH */
		case PASS_VALUE:
			if (!pass_bytes(source, &record->value) ||
				!read_varint(source, &record->header_count))
				return false;
			if (record->header_count < 0)
				return fail(source, KBATCH_INVALID_RECORD,
							"record has a negative number of headers");
			record->headers = source->pos;
			record->headers_len = (int32) (source->limit - source->pos);
			source->fields = (int64) record->header_count * 2;
			source->step = READ_HEADERS;
			/* FALLTHROUGH */
		case READ_HEADERS:
			if (!read_headers(source))
				return false;
	}
	source->step = READ_LENGTH;
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
