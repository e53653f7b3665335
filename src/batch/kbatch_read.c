/*-------------------------------------------------------------------------
 *
 * kbatch_read.c
 *	  Reading the records of a batch.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include "batch/kbatch_bytes.h"
#include "batch/kbatch_record.h"

static KBatchResult
finish(KBatchIterator *it, KBatchResult result, const char *message)
{
	it->message = message;
	it->ended = result;
	return result;
}

KBatchResult
kbatch_iterate(KBatchIterator *it, const uint8 *batch, size_t size,
			   KCodec *codec, KBuffer *scratch)
{
	KBatchResult result;
	const uint8 *records = batch + KBATCH_HEADER_SIZE;
	size_t		len;

	memset(it, 0, sizeof(*it));
	it->last_delta = -1;
	result = kbatch_header_read(batch, size, &it->header);
	if (result != KBATCH_OK)
		return finish(it, result, "record batch header is damaged");
	if (size < kbatch_size(&it->header))
		return finish(it, KBATCH_TRUNCATED, "record batch is incomplete");
	len = kbatch_size(&it->header) - KBATCH_HEADER_SIZE;

	/* compaction may leave a batch without records, whatever its attributes */
	if (kbatch_codec(&it->header) != KCODEC_NONE && it->header.record_count > 0)
	{
		scratch->len = 0;
		switch (kcodec_decompress(codec, kbatch_codec(&it->header), records, len, scratch))
		{
			case KCODEC_OK:
				break;
			case KCODEC_TOO_LARGE:
				return finish(it, KBATCH_TOO_LARGE, "records are too large when decompressed");
			case KCODEC_NO_MEMORY:
				return finish(it, KBATCH_NO_MEMORY, "out of memory while decompressing records");
			case KCODEC_UNSUPPORTED:
				return finish(it, KBATCH_UNSUPPORTED_COMPRESSION, "unknown compression type");
			default:
				return finish(it, KBATCH_INVALID_RECORD, "compressed records are malformed");
		}
		records = scratch->data;
		len = scratch->len;
	}
	it->pos = records;
	it->left = len;
	return KBATCH_OK;
}

KBatchResult
kbatch_iterator_next(KBatchIterator *it, KBatchRecord *record)
{
	KRecordSource source;

	if (it->ended != KBATCH_OK)
		return it->ended;

	krecord_source_memory(&source, it->pos, it->left);
	if (it->returned == it->header.record_count)
	{
		if (!krecord_source_at_end(&source))
			return finish(it, source.result, source.message);
		return finish(it, KBATCH_END, NULL);
	}
	if (!krecord_read(&source, record))
		return finish(it, source.result, source.message);

	/* compaction leaves gaps, but never changes the order */
	if (record->offset_delta <= it->last_delta ||
		record->offset_delta > it->header.last_offset_delta)
		return finish(it, KBATCH_INVALID_RECORD, "offsets of the records are out of order");

	record->offset = it->header.base_offset + record->offset_delta;
	if (kbatch_is_log_append_time(&it->header))
		record->timestamp = it->header.max_timestamp;
	else
		record->timestamp =
			(int64) ((uint64) it->header.base_timestamp + (uint64) record->timestamp);
	it->last_delta = record->offset_delta;
	it->pos = source.pos;
	it->left = source.end - source.pos;
	it->returned++;
	return KBATCH_OK;
}

/* Decode a number that is known to be well-formed. */
static const uint8 *
get_length(const uint8 *p, int32 *len)
{
	uint64		v = 0;
	int			shift = 0;

	do
	{
		v |= (uint64) (*p & 0x7f) << shift;
		shift += 7;
	} while ((*p++ & 0x80) != 0);
	*len = Max((int32) kbytes_unzigzag((uint32) v), -1);
	return p;
}

bool
kbatch_record_header(const KBatchRecord *record, size_t *pos, KRecordHeader *header)
{
	const uint8 *p = record->headers + *pos;

	if (*pos == (size_t) record->headers_len)
		return false;

	p = get_length(p, &header->key_len);
	header->key = p;
	p += header->key_len;

	p = get_length(p, &header->value_len);
	header->value = NULL;
	if (header->value_len >= 0)
	{
		header->value = p;
		p += header->value_len;
	}
	*pos = p - record->headers;
	return true;
}
