/*
 * fuzz_batch.c
 *		Any bytes at all, given to everything that reads record batches.
 *
 * The first byte chooses how the rest is used:
 *
 * 0-2	as the records field of a Produce request, as a log to walk over, and as a batch
 *		whose checksum is made right first, since a fuzzer would not guess it
 * 3	as uncompressed records, which are put into a batch of each codec
 * 4-7	as a compressed stream, of the codec that the number modulo 4 says
 *
 * Beyond memory errors, it stops when the validator accepts what the iterator cannot read, or
 * when decompression gives other bytes the second time.
 */
#include "c.h"

#include "batch/kbatch.h"
#include "batch/kbatch_build.h"

#define LIMIT		(1024 * 1024)
#define NOW			INT64CONST(1700000000000)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static KCodec *codec;
static KBuffer scratch;
static KBuffer packed;

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			__builtin_trap(); \
	} while (0)

/* Look at each byte, as whoever gets the record would. */
static uint8
touch(const uint8 *p, int32 len)
{
	uint8		sum = 0;

	for (int32 i = 0; i < len; i++)
		sum ^= p[i];
	return sum;
}

static KBatchResult
read_all(const uint8 *batch, size_t size, int32 *count)
{
	KBatchIterator it;
	KBatchRecord record;
	KBatchResult result = kbatch_iterate(&it, batch, size, codec, &scratch);
	volatile uint8 sink;

	*count = 0;
	while (result == KBATCH_OK && (result = kbatch_iterator_next(&it, &record)) == KBATCH_OK)
	{
		KRecordHeader header;
		size_t		pos = 0;
		int32		headers = 0;

		(*count)++;
		sink = touch(record.key, record.key_len) ^ touch(record.value, record.value_len);
		while (kbatch_record_header(&record, &pos, &header))
		{
			headers++;
			sink = touch(header.key, header.key_len) ^ touch(header.value, header.value_len);
		}
		(void) sink;
		CHECK(headers == record.header_count);
		CHECK(record.offset <= kbatch_last_offset(&it.header));
	}
	CHECK(result == KBATCH_END || it.message != NULL);
	return result;
}

static void
check_batch(uint8 *batch, size_t size)
{
	KBatchPolicy policy;
	KBatchVerdict verdict;
	int32		count;

	kbatch_policy_init(&policy, NOW);
	policy.max_batch_bytes = LIMIT;
	policy.max_record_bytes = LIMIT;
	policy.keys_required = size % 2 == 0;
	if (kbatch_validate(batch, size, &policy, codec, &verdict) != KBATCH_OK)
	{
		CHECK((verdict.message == NULL) == (verdict.record_error_count > 0));
		read_all(batch, size, &count);
		return;
	}

	CHECK(read_all(batch, size, &count) == KBATCH_END);
	kbatch_set_base_offset(batch, NOW);
	kbatch_set_leader_epoch(batch, 1);
	kbatch_set_max_timestamp(batch, size, true, NOW);
	CHECK(kbatch_check_crc(batch, size));
	CHECK(read_all(batch, size, &count) == KBATCH_END);
}

static void
fix_crc(uint8 *batch, size_t size)
{
	uint32		crc = kbatch_compute_crc(batch, size);

	for (int i = 0; i < 4; i++)
		batch[KBATCH_OFF_CRC + i] = (uint8) (crc >> (24 - 8 * i));
}

static void
fuzz_batch(uint8 *data, size_t size)
{
	KBatchHeader header;
	KBatchWalker walker;
	const uint8 *batch;
	const char *message;
	int32		count;

	read_all(data, size, &count);
	kbatch_walk_begin(&walker, data, size);
	while (kbatch_walk_next(&walker, &header, &batch) == KBATCH_OK)
		read_all(batch, kbatch_size(&header), &count);

	if (kbatch_produce_batch(data, size, 9, &header, &message) == KBATCH_OK)
	{
		size = kbatch_size(&header);
		check_batch(data, size);
		fix_crc(data, size);
		check_batch(data, size);
	}
}

static void
fuzz_records(const uint8 *data, size_t size)
{
	KBatchHeader header = {.magic = KBATCH_MAGIC,.base_timestamp = NOW,
	.producer_id = KBATCH_NO_PRODUCER_ID};

	if (size == 0)
		return;
	header.record_count = 1 + data[0] % 8;
	header.last_offset_delta = header.record_count - 1;

	for (int type = 0; type <= KCODEC_LAST; type++)
	{
		uint8		room[KBATCH_HEADER_SIZE] = {0};
		uint8	   *batch;

		packed.len = 0;
		CHECK(kbuffer_append(&packed, room, sizeof(room)) == KBUFFER_OK);
		CHECK(kcodec_compress(codec, type, KCODEC_DEFAULT_LEVEL, data + 1, size - 1,
							  &packed) == KCODEC_OK);
		header.attributes = (int16) type;
		header.batch_length = (int32) (packed.len - KBATCH_LENGTH_OVERHEAD);
		batch = malloc(packed.len);
		memcpy(batch, packed.data, packed.len);
		kbatch_header_write(batch, &header);
		fix_crc(batch, packed.len);
		check_batch(batch, packed.len);
		free(batch);
	}
}

static void
fuzz_stream(KCodecType type, const uint8 *data, size_t size)
{
	KCodecResult result = kcodec_stream_begin(codec, type, data, size, LIMIT);
	KCodecResult whole;
	size_t		total = 0;

	while (result == KCODEC_OK)
	{
		const uint8 *piece;
		size_t		len;

		result = kcodec_stream_next(codec, &piece, &len);
		if (result == KCODEC_OK)
		{
			CHECK(len > 0);
			touch(piece, (int32) len);
			total += len;
		}
	}
	CHECK(total <= LIMIT);

	scratch.len = 0;
	whole = kcodec_decompress(codec, type, data, size, &scratch);
	CHECK(whole == (result == KCODEC_END ? KCODEC_OK : result));
	CHECK(scratch.len == (whole == KCODEC_OK ? total : 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8	   *copy;

	if (size == 0)
		return 0;
	if (codec == NULL)
	{
		codec = kcodec_create(&kallocator_malloc);
		kbuffer_init(&scratch, &kallocator_malloc, LIMIT);
		kbuffer_init(&packed, &kallocator_malloc, SIZE_MAX);
	}

	copy = malloc(Max(size - 1, 1));
	memcpy(copy, data + 1, size - 1);
	switch (data[0] % 8)
	{
		case 0:
		case 1:
		case 2:
			fuzz_batch(copy, size - 1);
			break;
		case 3:
			fuzz_records(copy, size - 1);
			break;
		default:
			fuzz_stream(KCODEC_GZIP + data[0] % 4, copy, size - 1);
			break;
	}
	free(copy);
	return 0;
}
