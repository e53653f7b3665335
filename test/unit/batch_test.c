/*
 * batch_test.c
 *		Record batches: reading, validating, building, compressing them; no server needed.
 */
#include "c.h"

#include <lz4frame.h>
#include <snappy-c.h>

#include "batch/kbatch.h"
#include "batch/kbatch_build.h"
#include "tap.h"

#define NOW				INT64CONST(1700000001000)
#define MB				(1024 * 1024)

/*
 * Bytes that Kafka's own Java classes (kafka-clients 4.3.0) have made: three records at offset
 * 1000, producer 4567, epoch 3, sequence 77, leader epoch 9; and the markers of the same
 * producer at offset 55, leader epoch 2, coordinator epoch 8.
 */
static const char java_none[] =
"00000000000003e80000007000000009027caf738f0000000000020000018bcfe568000000018bcf"
"e569f400000000000011d700030000004d000000034a000000046b313a76616c7565206f6e652076"
"616c7565206f6e652076616c7565206f6e65002000e807020100060268027802680100000e00cf0f"
"04000100";

static const char java_gzip[] =
"00000000000003e80000007300000009027cb16c150001000000020000018bcfe568000000018bcf"
"e569f400000000000011d700030000004d000000031f8b08000000000000fff362606060c936b42a"
"4bcc294d55c8cf4b55c0c262506078c1cec4c8c0c694c154c194c1c8c0c0c7709e9f858191010012"
"e569cf3f000000";

static const char java_snappy[] =
"00000000000003e800000077000000090289ac83cf0002000000020000018bcfe568000000018bcf"
"e569f400000000000011d700030000004d0000000382534e41505059000000000100000001000000"
"323f444a000000046b313a76616c7565206f6e65204a0a0064002000e80702010006026802780268"
"0100000e00cf0f04000100";

static const char java_lz4[] =
"00000000000003e8000000730000000902c803c59c0003000000020000018bcfe568000000018bcf"
"e569f400000000000011d700030000004d0000000304224d1860408233000000ff034a000000046b"
"313a76616c7565206f6e65200a0000f00b002000e807020100060268027802680100000e00cf0f04"
"00010000000000";

static const char java_zstd[] =
"00000000000003e8000000700000000902db7f2c8a0004000000020000018bcfe568000000018bcf"
"e569f400000000000011d700030000004d0000000328b52ffd00589c0100c4024a000000046b313a"
"76616c7565206f6e6520002000e807020100060268027802680100000e00cf0f0400010001009a94"
"30010000";

static const char java_abort[] =
"000000000000003700000042000000020273fd90be0030000000000000018bcfe568000000018bcf"
"e5680000000000000011d70003ffffffff000000012000000008000000000c00000000000800";

static const char java_commit[] =
"000000000000003700000042000000020287c346f60030000000000000018bcfe568000000018bcf"
"e5680000000000000011d70003ffffffff000000012000000008000000010c00000000000800";

/* ---- helpers ---- */

/* An allocator that counts, and fails on demand. */
typedef struct TestHeap
{
	size_t		calls;
	size_t		fail_at;		/* the call to fail, counted from 1; 0: none */
	size_t		largest;
} TestHeap;

static void *
heap_resize(void *arg, void *chunk, size_t size)
{
	TestHeap   *heap = arg;

	heap->calls++;
	heap->largest = Max(heap->largest, size);
	return heap->calls == heap->fail_at ? NULL : realloc(chunk, size);
}

static void
heap_release(void *arg, void *chunk)
{
	(void) arg;
	free(chunk);
}

static uint64 random_state = 88172645463325252u;

static uint32
next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32) (random_state >> 16);
}

static size_t
from_hex(const char *hex, uint8 *out)
{
	size_t		n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++)
	{
		unsigned	byte;

		sscanf(hex + 2 * i, "%2x", &byte);
		out[i] = (uint8) byte;
	}
	return n;
}

/* A copy that ends where its chunk of the heap ends, so that a sanitizer sees overreads. */
static uint8 *
exact_copy(const uint8 *p, size_t n)
{
	uint8	   *copy = malloc(Max(n, 1));

	memcpy(copy, p, n);
	return copy;
}

static void
put_crc(uint8 *batch, size_t size)
{
	uint32		crc = kbatch_compute_crc(batch, size);

	for (int i = 0; i < 4; i++)
		batch[KBATCH_OFF_CRC + i] = (uint8) (crc >> (24 - 8 * i));
}

static void
put_int32(uint8 *p, int32 v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8) ((uint32) v >> (24 - 8 * i));
}

/* Everything that one test needs to make and look at batches. */
typedef struct Bench
{
	TestHeap	heap;
	KAllocator	allocator;
	KCodec	   *codec;
	KBatchBuilder builder;
	KBuffer		packed;
	KBuffer		scratch;
	KBatchPolicy policy;
	KBatchVerdict verdict;
} Bench;

static void
bench_setup(Bench *b)
{
	memset(b, 0, sizeof(*b));
	b->allocator = (KAllocator)
	{
		heap_resize, heap_release, &b->heap
	};
	b->codec = kcodec_create(&b->allocator);
	kbatch_builder_init(&b->builder, &b->allocator, 256 * MB);
	kbuffer_init(&b->packed, &b->allocator, 256 * MB);
	kbuffer_init(&b->scratch, &b->allocator, 256 * MB);
	kbatch_policy_init(&b->policy, NOW);
	b->policy.max_batch_bytes = 256 * MB;
}

static void
bench_teardown(Bench *b)
{
	kbuffer_free(&b->scratch);
	kbuffer_free(&b->packed);
	kbatch_builder_free(&b->builder);
	kcodec_free(b->codec);
}

static KBatchResult
add(Bench *b, int64 timestamp, const char *key, const char *value)
{
	return kbatch_builder_append(&b->builder, timestamp,
								 (const uint8 *) key, key ? (int32) strlen(key) : -1,
								 (const uint8 *) value, value ? (int32) strlen(value) : -1,
								 NULL, 0);
}

/* Finish what has been added, as an own copy. */
static uint8 *
seal(Bench *b, KCodecType codec, size_t *size)
{
	KBatchSeal	as;
	const uint8 *batch;

	kbatch_seal_init(&as);
	as.codec = codec;
	if (kbatch_builder_finish(&b->builder, &as, b->codec, &b->packed, &batch, size) != KBATCH_OK)
		return NULL;
	return exact_copy(batch, *size);
}

static KBatchResult
validate(Bench *b, const uint8 *batch, size_t size)
{
	return kbatch_validate(batch, size, &b->policy, b->codec, &b->verdict);
}

/* where read_through() puts what it sees, so that it really looks */
static volatile uint8 sink;

/* Read all records and their headers; the result of the last step. */
static KBatchResult
read_through(Bench *b, const uint8 *batch, size_t size, int *records)
{
	KBatchIterator it;
	KBatchResult result = kbatch_iterate(&it, batch, size, b->codec, &b->scratch);

	*records = 0;
	while (result == KBATCH_OK)
	{
		KBatchRecord record;
		KRecordHeader header;
		size_t		pos = 0;

		result = kbatch_iterator_next(&it, &record);
		if (result != KBATCH_OK)
			break;
		(*records)++;
		for (int32 i = 0; i < record.key_len; i++)
			sink ^= record.key[i];
		for (int32 i = 0; i < record.value_len; i++)
			sink ^= record.value[i];
		while (kbatch_record_header(&record, &pos, &header))
		{
			for (int32 i = 0; i < header.key_len; i++)
				sink ^= header.key[i];
			for (int32 i = 0; i < header.value_len; i++)
				sink ^= header.value[i];
		}
	}
	return result;
}

static bool
field_is(const uint8 *field, int32 len, const char *want)
{
	if (want == NULL)
		return field == NULL && len == -1;
	return field != NULL && len == (int32) strlen(want) && memcmp(field, want, len) == 0;
}

/* ---- bytes made by Kafka ---- */

static void
test_java_batch(Bench *b, const char *hex, KCodecType codec)
{
	const char *name = kcodec_name(codec);
	uint8		bytes[1024];
	size_t		size = from_hex(hex, bytes);
	uint8	   *batch = exact_copy(bytes, size);
	KBatchHeader h;
	KBatchIterator it;
	KBatchRecord r;
	KRecordHeader rh;
	size_t		pos = 0;

	ok(kbatch_header_read(batch, size, &h) == KBATCH_OK && kbatch_size(&h) == size &&
	   h.base_offset == 1000 && h.leader_epoch == 9 && h.magic == 2 &&
	   h.last_offset_delta == 2 && h.base_timestamp == INT64CONST(1700000000000) &&
	   h.max_timestamp == INT64CONST(1700000000500) && h.producer_id == 4567 &&
	   h.producer_epoch == 3 && h.base_sequence == 77 && h.record_count == 3 &&
	   kbatch_codec(&h) == (int) codec && !kbatch_is_control(&h) &&
	   !kbatch_is_transactional(&h) && !kbatch_is_log_append_time(&h) &&
	   kbatch_last_offset(&h) == 1002 && kbatch_next_offset(&h) == 1003 &&
	   kbatch_last_sequence(&h) == 79, "Kafka's %s batch: header", name);
	ok(kbatch_check_crc(batch, size), "Kafka's %s batch: checksum", name);

	kbatch_iterate(&it, batch, size, b->codec, &b->scratch);
	ok(kbatch_iterator_next(&it, &r) == KBATCH_OK && r.offset == 1000 &&
	   r.timestamp == INT64CONST(1700000000000) && field_is(r.key, r.key_len, "k1") &&
	   field_is(r.value, r.value_len, "value one value one value one") &&
	   r.header_count == 0 && !kbatch_record_header(&r, &pos, &rh),
	   "Kafka's %s batch: first record", name);
	ok(kbatch_iterator_next(&it, &r) == KBATCH_OK && r.offset == 1001 &&
	   r.timestamp == INT64CONST(1700000000500) && field_is(r.key, r.key_len, NULL) &&
	   field_is(r.value, r.value_len, "") && r.header_count == 3,
	   "Kafka's %s batch: second record", name);
	ok(kbatch_record_header(&r, &pos, &rh) && field_is(rh.key, rh.key_len, "h") &&
	   field_is(rh.value, rh.value_len, "x") &&
	   kbatch_record_header(&r, &pos, &rh) && field_is(rh.key, rh.key_len, "h") &&
	   field_is(rh.value, rh.value_len, NULL) &&
	   kbatch_record_header(&r, &pos, &rh) && field_is(rh.key, rh.key_len, "") &&
	   field_is(rh.value, rh.value_len, "") && !kbatch_record_header(&r, &pos, &rh),
	   "Kafka's %s batch: headers of the second record", name);
	ok(kbatch_iterator_next(&it, &r) == KBATCH_OK && r.offset == 1002 &&
	   r.timestamp == INT64CONST(1699999999000) && field_is(r.key, r.key_len, "") &&
	   field_is(r.value, r.value_len, NULL) && kbatch_iterator_next(&it, &r) == KBATCH_END &&
	   kbatch_iterator_next(&it, &r) == KBATCH_END, "Kafka's %s batch: last record", name);

	kbatch_set_base_offset(batch, 0);
	ok(validate(b, batch, size) == KBATCH_OK && b->verdict.message == NULL &&
	   b->verdict.max_timestamp == INT64CONST(1700000000500) &&
	   b->verdict.max_timestamp_delta == 1 && b->verdict.record_bytes == 38 + 17 + 8,
	   "Kafka's %s batch: valid", name);
	free(batch);
}

static void
test_same_bytes_as_java(Bench *b)
{
	KRecordHeader headers[3] = {
		{(const uint8 *) "h", 1, (const uint8 *) "x", 1},
		{(const uint8 *) "h", 1, NULL, -1},
		{(const uint8 *) "", 0, (const uint8 *) "", 0}
	};
	uint8		want[1024];
	size_t		want_size = from_hex(java_none, want);
	size_t		foretold;
	KBatchSeal	as;
	const uint8 *batch;
	size_t		size;
	uint8		marker[KBATCH_END_MARKER_SIZE];

	kbatch_builder_reset(&b->builder);
	add(b, INT64CONST(1700000000000), "k1", "value one value one value one");
	foretold = kbatch_builder_size(&b->builder) +
		kbatch_builder_record_size(&b->builder, INT64CONST(1700000000500), NULL, -1,
								   (const uint8 *) "", 0, headers, 3);
	kbatch_builder_append(&b->builder, INT64CONST(1700000000500), NULL, -1,
						  (const uint8 *) "", 0, headers, 3);
	is_int(kbatch_builder_size(&b->builder), foretold, "builder foretells a record's size");
	add(b, INT64CONST(1699999999000), "", NULL);

	kbatch_seal_init(&as);
	as.base_offset = 1000;
	as.leader_epoch = 9;
	as.producer_id = 4567;
	as.producer_epoch = 3;
	as.base_sequence = 77;
	ok(kbatch_builder_finish(&b->builder, &as, NULL, NULL, &batch, &size) == KBATCH_OK,
	   "finish without a codec");
	is_bytes(batch, size, want, want_size, "builder makes the same bytes as Kafka");
	is_int(kbatch_builder_size(&b->builder), size, "builder knows the size of the batch");

	for (int type = KCONTROL_ABORT; type <= KCONTROL_COMMIT; type++)
	{
		want_size = from_hex(type == KCONTROL_ABORT ? java_abort : java_commit, want);
		kbatch_write_end_marker(marker, type, 55, 2, 4567, 3, 8, INT64CONST(1700000000000));
		is_bytes(marker, sizeof(marker), want, want_size,
				 type == KCONTROL_ABORT ? "abort marker as Kafka's" : "commit marker as Kafka's");
	}
}

/* ---- our own batches ---- */

static void
test_filler(Bench *b)
{
	static const int32 deltas[] = {0, 63, 64, 8191, 8192, 1000000, 200000000, PG_INT32_MAX};
	bool		good = true;

	for (size_t i = 0; i < lengthof(deltas); i++)
	{
		KBatchHeader dead = {.base_offset = 12345,.batch_length = 4711,.leader_epoch = 6,
			.magic = 2,.attributes = KBATCH_ATTR_TRANSACTIONAL | KCODEC_ZSTD,
			.last_offset_delta = deltas[i],.base_timestamp = 10,.max_timestamp = 20,
			.producer_id = 7,.producer_epoch = 8,.base_sequence = 9,
		.record_count = 1};
		uint8		room[KBATCH_FILLER_MAX_SIZE];
		size_t		size = kbatch_write_filler(room, &dead);
		uint8	   *filler = exact_copy(room, size);
		KBatchHeader h;
		KBatchIterator it;
		KBatchRecord r;

		good = good && size <= sizeof(room) &&
			kbatch_header_read(filler, size, &h) == KBATCH_OK &&
			kbatch_size(&h) == size && kbatch_check_crc(filler, size) &&
			h.base_offset == 12345 && h.last_offset_delta == deltas[i] && h.leader_epoch == 6 &&
			h.attributes == KBATCH_ATTR_CONTROL && h.producer_id == -1 && h.record_count == 1 &&
			h.base_sequence == -1 && h.producer_epoch == -1 && h.max_timestamp == 20 &&
			kbatch_iterate(&it, filler, size, b->codec, &b->scratch) == KBATCH_OK &&
			kbatch_iterator_next(&it, &r) == KBATCH_OK &&
			r.offset == kbatch_last_offset(&dead) && r.timestamp == 20 && r.key_len == 4 &&
			kbatch_iterator_next(&it, &r) == KBATCH_END;
		if (!good)
			note("delta %d, size %zu", deltas[i], size);
		free(filler);
	}
	ok(good, "a filler has one control record, at the last offset");
}

static void
test_round_trip(Bench *b, KCodecType codec, int records, int max_value, bool compressible)
{
	uint64		start = random_state;
	uint8	   *value = malloc(Max(max_value, 1));
	int64		max_timestamp = -1;
	int32		max_delta = -1;
	uint8	   *batch;
	size_t		size;
	KBatchIterator it;
	KBatchRecord r;
	bool		same = true;

	kbatch_builder_reset(&b->builder);

	/* the same random numbers twice: first to write, then to compare */
	for (int pass = 0; pass < 2; pass++)
	{
		random_state = start;
		if (pass == 1)
		{
			batch = seal(b, codec, &size);
			same = same && kbatch_iterate(&it, batch, size, b->codec, &b->scratch) == KBATCH_OK;
		}
		for (int i = 0; i < records && same; i++)
		{
			char		key[16];
			int			key_len = next_random() % 4 == 0 ? -1 : snprintf(key, 16, "key-%d", i);
			int			value_len = (int) (next_random() % (unsigned) (max_value + 2)) - 1;
			int64		timestamp = NOW - 500 + (int) (next_random() % 1000);
			uint8		fill = (uint8) next_random();
			char		header_key[8];
			KRecordHeader headers[2] = {
				{(uint8 *) header_key, snprintf(header_key, 8, "h%d", i % 100), value,
				Min(value_len, 5)},
				{(uint8 *) header_key, 1, NULL, -1}
			};
			int			header_count = i % 3;

			for (int j = 0; j < value_len; j++)
				value[j] = compressible ? fill : (uint8) next_random();
			if (pass == 0)
			{
				same = same &&
					kbatch_builder_append(&b->builder, timestamp, (uint8 *) key, key_len,
										  value, value_len, headers, header_count) == KBATCH_OK;
				if (timestamp > max_timestamp)
				{
					max_timestamp = timestamp;
					max_delta = i;
				}
			}
			else
			{
				KRecordHeader got;
				size_t		pos = 0;

				same = same && kbatch_iterator_next(&it, &r) == KBATCH_OK &&
					r.offset == i && r.timestamp == timestamp && r.key_len == key_len &&
					r.value_len == value_len && r.header_count == header_count &&
					(key_len < 0 || memcmp(r.key, key, key_len) == 0) &&
					(value_len <= 0 || memcmp(r.value, value, value_len) == 0);
				for (int h = 0; h < header_count; h++)
					same = same && kbatch_record_header(&r, &pos, &got) &&
						got.key_len == headers[h].key_len &&
						got.value_len == headers[h].value_len &&
						(got.value_len <= 0 || memcmp(got.value, value, got.value_len) == 0);
			}
		}
	}
	ok(same && kbatch_iterator_next(&it, &r) == KBATCH_END,
	   "%s, %d records up to %d %s bytes: what went in comes out", kcodec_name(codec), records,
	   max_value, compressible ? "compressible" : "random");
	ok(validate(b, batch, size) == KBATCH_OK && b->verdict.max_timestamp == max_timestamp &&
	   b->verdict.max_timestamp_delta == max_delta &&
	   b->verdict.record_bytes == kbatch_builder_size(&b->builder) - KBATCH_HEADER_SIZE,
	   "%s, %d records up to %d %s bytes: valid", kcodec_name(codec), records, max_value,
	   compressible ? "compressible" : "random");
	free(batch);
	free(value);
}

/* ---- damage ---- */

static uint8 *
small_batch(Bench *b, KCodecType codec, size_t *size)
{
	KRecordHeader header = {(const uint8 *) "trace", 5, (const uint8 *) "abcdefgh", 8};

	kbatch_builder_reset(&b->builder);
	for (int i = 0; i < 4; i++)
	{
		add(b, NOW + i * 100, "a key", "a value, a value, a value");
		kbatch_builder_append(&b->builder, NOW, NULL, -1, (const uint8 *) "v", 1, &header, 1);
	}
	return seal(b, codec, size);
}

static void
test_damage(Bench *b, KCodecType codec)
{
	size_t		size;
	uint8	   *batch = small_batch(b, codec, &size);
	int			undetected = 0;
	int			disagreements = 0;
	int			accepted_short = 0;
	int			records;

	for (size_t i = 0; i < size; i++)
	{
		for (int change = 1; change < 256; change++)
		{
			uint8	   *copy = exact_copy(batch, size);
			bool		in_epoch = i >= KBATCH_OFF_LEADER_EPOCH && i < KBATCH_OFF_MAGIC;
			KBatchResult result;

			copy[i] ^= (uint8) change;
			result = validate(b, copy, size);
			if ((result == KBATCH_OK) != in_epoch)
				undetected++;
			read_through(b, copy, size, &records);

			/* the same damage by somebody who knows how to compute checksums */
			put_crc(copy, size);
			result = validate(b, copy, size);
			if (result == KBATCH_OK && read_through(b, copy, size, &records) != KBATCH_END)
				disagreements++;
			free(copy);
		}
	}
	is_int(undetected, 0, "no change of a byte goes unnoticed");
	is_int(disagreements, 0, "with the checksum made right, what is valid can be read");

	for (size_t n = 0; n < size; n++)
	{
		uint8	   *copy = exact_copy(batch, n);
		KBatchHeader header;
		KBatchWalker walker;
		const uint8 *p;
		const char *message;

		if (validate(b, copy, n) == KBATCH_OK ||
			read_through(b, copy, n, &records) == KBATCH_END ||
			kbatch_produce_batch(copy, n, 9, &header, &message) == KBATCH_OK)
			accepted_short++;
		kbatch_walk_begin(&walker, copy, n);
		if (kbatch_walk_next(&walker, &header, &p) != (n == 0 ? KBATCH_END : KBATCH_TRUNCATED))
			accepted_short++;
		if (kbatch_header_read(copy, n, &header) !=
			(n < KBATCH_HEADER_SIZE ? KBATCH_TRUNCATED : KBATCH_OK))
			accepted_short++;

		/* a batch whose header agrees that it is so short */
		if (n >= KBATCH_HEADER_SIZE)
		{
			put_int32(copy + KBATCH_OFF_BATCH_LENGTH, (int32) (n - KBATCH_LENGTH_OVERHEAD));
			put_crc(copy, n);
			if (validate(b, copy, n) == KBATCH_OK)
				accepted_short++;
			if (read_through(b, copy, n, &records) == KBATCH_END)
				accepted_short++;
		}
		free(copy);
	}
	is_int(accepted_short, 0, "no truncated batch is taken for a whole one");
	free(batch);
}

/* Random edits of the records themselves, before compression. */
static void
test_damaged_records(Bench *b, KCodecType codec)
{
	int			valid = 0;
	int			disagreements = 0;

	for (int round = 0; round < 3000; round++)
	{
		size_t		size;
		uint8	   *batch;
		int			records;

		free(small_batch(b, KCODEC_NONE, &size));
		for (int edits = 1 + (int) (next_random() % 3); edits > 0; edits--)
		{
			size_t		at = KBATCH_HEADER_SIZE + next_random() % (size - KBATCH_HEADER_SIZE);

			b->builder.records.data[at] = (uint8) next_random();
		}
		batch = seal(b, codec, &size);
		if (validate(b, batch, size) == KBATCH_OK)
		{
			valid++;
			if (read_through(b, batch, size, &records) != KBATCH_END || records != 8)
				disagreements++;
		}
		else
			read_through(b, batch, size, &records);
		free(batch);
	}
	ok(valid > 0 && valid < 3000 && disagreements == 0,
	   "%s: records with random edits are refused, or can be read", kcodec_name(codec));
}

static void
test_bombs(Bench *b, KCodecType codec)
{
	const char *name = kcodec_name(codec);
	size_t		value_len = 64 * MB;
	uint8	   *value = calloc(1, value_len);
	size_t		size;
	uint8	   *batch;
	KBuffer		limited;
	int			records;
	size_t		records_size;

	kbatch_builder_reset(&b->builder);
	kbatch_builder_append(&b->builder, NOW, NULL, -1, value, (int32) value_len, NULL, 0);
	batch = seal(b, codec, &size);
	records_size = kbatch_builder_size(&b->builder) - KBATCH_HEADER_SIZE;
	free(value);
	kbuffer_free(&b->scratch);

	b->heap.largest = 0;
	b->policy.max_record_bytes = MB;
	is_int(validate(b, batch, size), KBATCH_TOO_LARGE, "validation stops at the limit");
	kbuffer_init(&limited, &b->allocator, MB);
	kbuffer_append(&limited, "abc", 3);
	ok(kcodec_decompress(b->codec, codec, batch + KBATCH_HEADER_SIZE, size - KBATCH_HEADER_SIZE,
						 &limited) == KCODEC_TOO_LARGE && limited.len == 3,
	   "%s: decompression stops at the limit, and undoes what it did", name);
	ok(b->heap.largest <= MB, "%s: and so does the memory", name);
	kbuffer_free(&limited);

	b->scratch.max = records_size - 1;
	is_int(read_through(b, batch, size, &records), KBATCH_TOO_LARGE, "one byte too many");
	b->scratch.max = records_size;
	is_int(read_through(b, batch, size, &records), KBATCH_END, "exactly the limit");
	b->policy.max_record_bytes = records_size;
	is_int(validate(b, batch, size), KBATCH_OK, "exactly the limit, for the validator");
	b->policy.max_record_bytes = records_size - 1;
	is_int(validate(b, batch, size), KBATCH_TOO_LARGE, "one byte too many, for the validator");
	free(batch);
}

/* Every allocation fails once; nothing may be lost or left half done. */
static void
test_no_memory(KCodecType codec)
{
	bool		good = true;
	bool		complete = false;
	int			rounds = 0;

	for (size_t fail_at = 1; !complete && rounds < 100; fail_at++, rounds++)
	{
		Bench		b;
		KBatchResult result = KBATCH_OK;
		KBatchSeal	as;
		const uint8 *batch;
		size_t		size;
		int			records;
		char		value[500];

		memset(value, 'v', sizeof(value));
		memset(&b.heap, 0, sizeof(b.heap));
		bench_setup(&b);
		b.heap.calls = 0;
		b.heap.fail_at = fail_at;
		for (int i = 0; i < 100 && result == KBATCH_OK; i++)
			result = kbatch_builder_append(&b.builder, NOW, NULL, -1, (uint8 *) value,
										   sizeof(value), NULL, 0);
		kbatch_seal_init(&as);
		as.codec = codec;
		if (result == KBATCH_OK)
			result = kbatch_builder_finish(&b.builder, &as, b.codec, &b.packed, &batch, &size);
		if (result == KBATCH_OK)
			result = kbatch_validate(batch, size, &b.policy, b.codec, &b.verdict);
		if (result == KBATCH_OK)
			result = read_through(&b, batch, size, &records);
		if (result == KBATCH_END)
			complete = b.heap.calls < fail_at;
		else if (result != KBATCH_NO_MEMORY)
			good = false;
		if (result == KBATCH_END && !complete)
			good = false;
		bench_teardown(&b);
	}
	ok(good && complete && rounds > 1, "%s: running out of memory is reported, each time",
	   kcodec_name(codec));
}

/* ---- the formats of other clients ---- */

static void
is_text(Bench *b, KCodecType codec, const uint8 *src, size_t len, const char *want,
		const char *what)
{
	uint8	   *copy = exact_copy(src, len);
	KCodecResult result;

	b->scratch.len = 0;
	result = kcodec_decompress(b->codec, codec, copy, len, &b->scratch);
	if (want == NULL)
		is_int(result, KCODEC_CORRUPT, what);
	else if (result != KCODEC_OK)
		is_int(result, KCODEC_OK, what);
	else
		is_bytes(b->scratch.data, b->scratch.len, want, strlen(want), what);
	free(copy);
}

static void
test_formats(Bench *b)
{
	static const char text[] = "hello hello hello hello";
	static const char twice[] = "hello hello hello hellohello hello hello hello";
	static uint8 buf[512 * 1024];
	size_t		n;
	LZ4F_preferences_t prefs;

	/* snappy */
	n = sizeof(buf);
	snappy_compress(text, strlen(text), (char *) buf, &n);
	is_text(b, KCODEC_SNAPPY, buf, n, text, "snappy: a block without framing");
	is_text(b, KCODEC_SNAPPY, buf, n - 1, NULL, "snappy: the block cut off");
	is_text(b, KCODEC_SNAPPY, buf, 0, NULL, "snappy: nothing at all");
	is_text(b, KCODEC_SNAPPY, (const uint8 *) "\xff\xff\xff\xff\x0f", 5, NULL,
			"snappy: a block that claims 4 GB");
	b->packed.len = 0;
	kcodec_compress(b->codec, KCODEC_SNAPPY, KCODEC_DEFAULT_LEVEL, text, strlen(text),
					&b->packed);
	n = b->packed.len;
	is_text(b, KCODEC_SNAPPY, b->packed.data, n, text, "snappy: framed");
	is_text(b, KCODEC_SNAPPY, b->packed.data, n - 1, NULL, "snappy: framed, cut off");
	is_text(b, KCODEC_SNAPPY, b->packed.data, 16, "", "snappy: framed, of no blocks");
	is_text(b, KCODEC_SNAPPY, b->packed.data, 18, NULL, "snappy: half a length");
	kcodec_compress(b->codec, KCODEC_SNAPPY, KCODEC_DEFAULT_LEVEL, text, strlen(text),
					&b->packed);
	is_text(b, KCODEC_SNAPPY, b->packed.data, b->packed.len, twice, "snappy: framed, joined");
	b->packed.data[11] = 0;
	is_text(b, KCODEC_SNAPPY, b->packed.data, n, NULL, "snappy: framed, of version 0");

	/* gzip */
	b->packed.len = 0;
	kcodec_compress(b->codec, KCODEC_GZIP, 9, text, strlen(text), &b->packed);
	n = b->packed.len;
	is_text(b, KCODEC_GZIP, b->packed.data, n, text, "gzip");
	is_text(b, KCODEC_GZIP, b->packed.data, n - 1, NULL, "gzip: the trailer cut off");
	is_text(b, KCODEC_GZIP, b->packed.data, 0, NULL, "gzip: nothing at all");
	kcodec_compress(b->codec, KCODEC_GZIP, 1, text, strlen(text), &b->packed);
	is_text(b, KCODEC_GZIP, b->packed.data, b->packed.len, twice, "gzip: two members");
	kbuffer_append(&b->packed, "junk", 4);
	is_text(b, KCODEC_GZIP, b->packed.data, b->packed.len, twice, "gzip: something after them");
	b->packed.data[n - 8] ^= 1;
	is_text(b, KCODEC_GZIP, b->packed.data, n, NULL, "gzip: wrong checksum");

	/* lz4 */
	memset(&prefs, 0, sizeof(prefs));
	prefs.frameInfo.blockMode = LZ4F_blockIndependent;
	prefs.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
	n = LZ4F_compressFrame(buf, sizeof(buf), text, strlen(text), &prefs);
	is_text(b, KCODEC_LZ4, buf, n, text, "lz4: with checksum of the content");
	buf[n - 1] ^= 1;
	is_text(b, KCODEC_LZ4, buf, n, NULL, "lz4: wrong checksum");
	n = LZ4F_compressFrame(buf, sizeof(buf), text, 0, &prefs);
	is_text(b, KCODEC_LZ4, buf, n, "", "lz4: empty frame");
	b->packed.len = 0;
	kcodec_compress(b->codec, KCODEC_LZ4, KCODEC_DEFAULT_LEVEL, text, strlen(text), &b->packed);
	n = b->packed.len;
	is_text(b, KCODEC_LZ4, b->packed.data, n, text, "lz4");
	is_text(b, KCODEC_LZ4, b->packed.data, n - 4, NULL, "lz4: without end mark");
	is_text(b, KCODEC_LZ4, b->packed.data, 0, NULL, "lz4: nothing at all");
	is_text(b, KCODEC_LZ4, (const uint8 *) "\x02\x21\x4c\x18zzzzzzzz", 12, NULL,
			"lz4: the old format");
	{
		/* of several blocks, or else the library makes them independent by itself */
		uint8	   *large = calloc(1, 200 * 1024);

		prefs.frameInfo.blockMode = LZ4F_blockLinked;
		prefs.frameInfo.blockSizeID = LZ4F_max64KB;
		n = LZ4F_compressFrame(buf, sizeof(buf), large, 200 * 1024, &prefs);
		is_text(b, KCODEC_LZ4, buf, n, NULL, "lz4: linked blocks, which Java cannot read");
		free(large);
	}

	/* zstd */
	b->packed.len = 0;
	kcodec_compress(b->codec, KCODEC_ZSTD, 19, text, strlen(text), &b->packed);
	n = b->packed.len;
	is_text(b, KCODEC_ZSTD, b->packed.data, n, text, "zstd");
	is_text(b, KCODEC_ZSTD, b->packed.data, n - 1, NULL, "zstd: cut off");
	is_text(b, KCODEC_ZSTD, b->packed.data, 0, NULL, "zstd: nothing at all");
	kcodec_compress(b->codec, KCODEC_ZSTD, KCODEC_DEFAULT_LEVEL, text, strlen(text), &b->packed);
	is_text(b, KCODEC_ZSTD, b->packed.data, b->packed.len, twice, "zstd: two frames");

	is_int(kcodec_stream_begin(b->codec, 5, buf, 10, 10), KCODEC_UNSUPPORTED, "codec 5");
	ok(kcodec_from_name("zstd") == KCODEC_ZSTD && kcodec_from_name("none") == KCODEC_NONE &&
	   kcodec_from_name("lzma") == -1 && kcodec_name(5) == NULL && kcodec_name(-1) == NULL,
	   "names of codecs");
}

/* ---- the rules ---- */

static void
test_produce_batch(Bench *b)
{
	size_t		size;
	uint8	   *batch = small_batch(b, KCODEC_NONE, &size);
	uint8	   *two = malloc(2 * size);
	const char *message = NULL;
	KBatchHeader h;

	memcpy(two, batch, size);
	memcpy(two + size, batch, size);

	ok(kbatch_produce_batch(batch, size, 3, &h, &message) == KBATCH_OK &&
	   kbatch_size(&h) == size && h.record_count == 8, "one batch");
	ok(kbatch_produce_batch(two, size + 11, 3, &h, &message) == KBATCH_OK &&
	   kbatch_size(&h) == size, "one batch and a piece of another");
	ok(kbatch_produce_batch(two, 2 * size - 1, 3, &h, &message) == KBATCH_OK &&
	   kbatch_size(&h) == size, "one batch and most of another");
	message = NULL;
	ok(kbatch_produce_batch(two, 2 * size, 3, &h, &message) == KBATCH_INVALID_RECORD && message,
	   "two batches");
	two[size + KBATCH_OFF_MAGIC] = 3;
	is_int(kbatch_produce_batch(two, 2 * size, 3, &h, &message), KBATCH_CORRUPT,
		   "one batch and nonsense after it");
	is_int(kbatch_produce_batch(batch, 0, 3, &h, &message), KBATCH_INVALID_RECORD, "no batch");
	is_int(kbatch_produce_batch(batch, size - 1, 3, &h, &message), KBATCH_INVALID_RECORD,
		   "not quite a batch");
	memcpy(two, batch, size);
	two[KBATCH_OFF_MAGIC] = 1;
	is_int(kbatch_produce_batch(two, size, 3, &h, &message), KBATCH_UNSUPPORTED_VERSION,
		   "magic 1");
	is_int(kbatch_result_error_code(KBATCH_UNSUPPORTED_VERSION), 87, "is INVALID_RECORD");
	put_int32(two + KBATCH_OFF_BATCH_LENGTH, 13);
	is_int(kbatch_produce_batch(two, size, 3, &h, &message), KBATCH_CORRUPT, "length 13");
	put_int32(two + KBATCH_OFF_BATCH_LENGTH, -1);
	is_int(kbatch_produce_batch(two, size, 3, &h, &message), KBATCH_CORRUPT, "length -1");
	put_int32(two + KBATCH_OFF_BATCH_LENGTH, PG_INT32_MAX);
	is_int(kbatch_produce_batch(two, size, 3, &h, &message), KBATCH_INVALID_RECORD,
		   "length 2^31-1");
	free(batch);

	batch = small_batch(b, KCODEC_ZSTD, &size);
	is_int(kbatch_produce_batch(batch, size, 6, &h, &message), KBATCH_UNSUPPORTED_COMPRESSION,
		   "zstd in a request of version 6");
	is_int(kbatch_produce_batch(batch, size, 7, &h, &message), KBATCH_OK,
		   "zstd in a request of version 7");
	free(batch);
	free(two);
}

/* Change one field of a good batch, and see what the validator says. */
static void
refused(Bench *b, KBatchResult want, int at, int width, int64 value, const char *what)
{
	size_t		size;
	uint8	   *batch = small_batch(b, KCODEC_NONE, &size);

	for (int i = 0; i < width; i++)
		batch[at + i] = (uint8) ((uint64) value >> (8 * (width - 1 - i)));
	put_crc(batch, size);
	is_int(validate(b, batch, size), want, what);
	if ((b->verdict.message == NULL) != (want == KBATCH_OK))
		ok(false, "%s: has a message if it is refused", what);
	free(batch);
}

static void
test_rules(Bench *b)
{
	size_t		size;
	uint8	   *batch;

	refused(b, KBATCH_OK, KBATCH_OFF_LEADER_EPOCH, 4, 99, "any leader epoch");
	refused(b, KBATCH_OK, KBATCH_OFF_MAX_TIMESTAMP, 8, 1, "any greatest timestamp");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_BASE_OFFSET, 8, 1, "base offset 1");
	refused(b, KBATCH_CORRUPT, KBATCH_OFF_BATCH_LENGTH, 4, 60, "another length");
	refused(b, KBATCH_CORRUPT, KBATCH_OFF_MAGIC, 1, 1, "another magic");
	refused(b, KBATCH_UNSUPPORTED_COMPRESSION, KBATCH_OFF_ATTRIBUTES, 2, 5, "codec 5");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_ATTRIBUTES, 2, KCODEC_GZIP,
			"a codec that it is not");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_ATTRIBUTES, 2, KBATCH_ATTR_CONTROL,
			"control batch");
	refused(b, KBATCH_OK, KBATCH_OFF_ATTRIBUTES, 2, KBATCH_ATTR_TRANSACTIONAL, "transactional");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_LAST_OFFSET_DELTA, 4, 8, "offset range too long");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_LAST_OFFSET_DELTA, 4, -1, "negative range");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_RECORD_COUNT, 4, 0, "no records");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_RECORD_COUNT, 4, -8, "negative count");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_RECORD_COUNT, 4, 7, "count too small");
	refused(b, KBATCH_INVALID_RECORD, KBATCH_OFF_PRODUCER_ID, 8, 5, "producer, no sequence");
	refused(b, KBATCH_OK, KBATCH_OFF_BASE_SEQUENCE, 4, 5, "sequence, no producer");

	/* counts that agree with each other, but not with the records */
	batch = small_batch(b, KCODEC_NONE, &size);
	put_int32(batch + KBATCH_OFF_LAST_OFFSET_DELTA, 6);
	put_int32(batch + KBATCH_OFF_RECORD_COUNT, 7);
	put_crc(batch, size);
	is_int(validate(b, batch, size), KBATCH_INVALID_RECORD, "a record too many");
	is_str(b->verdict.message, "batch has more records than it says", "and why");
	put_int32(batch + KBATCH_OFF_LAST_OFFSET_DELTA, 8);
	put_int32(batch + KBATCH_OFF_RECORD_COUNT, 9);
	put_crc(batch, size);
	is_int(validate(b, batch, size), KBATCH_INVALID_RECORD, "a record too few");
	put_int32(batch + KBATCH_OFF_LAST_OFFSET_DELTA, PG_INT32_MAX - 1);
	put_int32(batch + KBATCH_OFF_RECORD_COUNT, PG_INT32_MAX);
	put_crc(batch, size);
	is_int(validate(b, batch, size), KBATCH_INVALID_RECORD, "2^31-2 records too few");
	put_int32(batch + KBATCH_OFF_LAST_OFFSET_DELTA, 7);
	put_int32(batch + KBATCH_OFF_RECORD_COUNT, 8);
	batch[KBATCH_HEADER_SIZE + 3] = 2;	/* the first record's offset: 1 */
	put_crc(batch, size);
	is_int(validate(b, batch, size), KBATCH_INVALID_RECORD, "first offset is not 0");
	free(batch);

	/* size */
	batch = small_batch(b, KCODEC_NONE, &size);
	b->policy.max_batch_bytes = size;
	is_int(validate(b, batch, size), KBATCH_OK, "exactly max.message.bytes");
	b->policy.max_batch_bytes = size - 1;
	is_int(validate(b, batch, size), KBATCH_TOO_LARGE, "more than max.message.bytes");
	b->policy.max_batch_bytes = 256 * MB;

	/* keys */
	b->policy.keys_required = true;
	ok(validate(b, batch, size) == KBATCH_INVALID_RECORD && b->verdict.record_error_count == 4 &&
	   b->verdict.record_errors[0].index == 1 && b->verdict.record_errors[3].index == 7 &&
	   b->verdict.record_errors[3].fault == KBATCH_NO_KEY,
	   "a compacted topic refuses records without keys, and tells which");
	b->policy.timestamp_after_max = 150;
	ok(validate(b, batch, size) == KBATCH_INVALID_TIMESTAMP &&
	   b->verdict.record_error_count == 6 && b->verdict.record_errors[2].index == 4,
	   "bad timestamps decide over missing keys");
	b->policy.keys_required = false;

	/* timestamps: the records have NOW, +100, +200, +300 */
	b->policy.timestamp_after_max = 300;
	ok(validate(b, batch, size) == KBATCH_OK && b->verdict.max_timestamp == NOW + 300 &&
	   b->verdict.max_timestamp_delta == 6, "timestamps just near enough to the present");
	b->policy.timestamp_after_max = 299;
	ok(validate(b, batch, size) == KBATCH_INVALID_TIMESTAMP &&
	   b->verdict.record_error_count == 1 && b->verdict.record_errors[0].index == 6 &&
	   b->verdict.record_errors[0].fault == KBATCH_FAR_TIMESTAMP &&
	   b->verdict.record_errors[0].timestamp == NOW + 300,
	   "one timestamp too far in the future");
	b->policy.log_append_time = true;
	ok(validate(b, batch, size) == KBATCH_OK && b->verdict.max_timestamp == NOW &&
	   b->verdict.max_timestamp_delta == 0, "which does not matter with LogAppendTime");
	b->policy.log_append_time = false;
	b->policy.timestamp_after_max = PG_INT64_MAX;
	b->policy.now += 5000;
	b->policy.timestamp_before_max = 5000;
	is_int(validate(b, batch, size), KBATCH_OK, "timestamps just old enough");
	b->policy.timestamp_before_max = 4999;
	ok(validate(b, batch, size) == KBATCH_INVALID_TIMESTAMP &&
	   b->verdict.record_error_count == 5, "timestamps too old");
	b->policy.timestamp_before_max = PG_INT64_MAX;
	b->policy.now -= 5000;
	free(batch);

	kbatch_builder_reset(&b->builder);
	add(b, KBATCH_NO_TIMESTAMP, "k", "v");
	batch = seal(b, KCODEC_NONE, &size);
	b->policy.timestamp_before_max = 0;
	ok(validate(b, batch, size) == KBATCH_OK && b->verdict.max_timestamp == -1 &&
	   b->verdict.max_timestamp_delta == -1, "no timestamp is never too old");
	b->policy.timestamp_before_max = PG_INT64_MAX;
	batch[KBATCH_OFF_ATTRIBUTES + 1] |= KBATCH_ATTR_LOG_APPEND_TIME;
	put_crc(batch, size);
	is_int(validate(b, batch, size), KBATCH_INVALID_TIMESTAMP,
		   "no timestamp, said to be LogAppendTime");
	b->policy.log_append_time = true;
	is_int(validate(b, batch, size), KBATCH_INVALID_TIMESTAMP, "the same where the topic has it");
	b->policy.log_append_time = false;
	free(batch);

	kbatch_builder_reset(&b->builder);
	for (int i = 0; i < 100; i++)
		add(b, NOW, NULL, "v");
	batch = seal(b, KCODEC_LZ4, &size);
	b->policy.keys_required = true;
	ok(validate(b, batch, size) == KBATCH_INVALID_RECORD && b->verdict.record_error_count == 100 &&
	   b->verdict.record_errors[KBATCH_MAX_RECORD_ERRORS - 1].index ==
	   KBATCH_MAX_RECORD_ERRORS - 1, "many bad records");
	b->policy.keys_required = false;
	free(batch);

	/* timestamps at the ends of an int64 */
	kbatch_builder_reset(&b->builder);
	add(b, PG_INT64_MIN, "k", "v");
	add(b, PG_INT64_MAX, "k", "v");
	batch = seal(b, KCODEC_NONE, &size);
	b->policy.timestamp_after_max = PG_INT64_MAX;
	ok(validate(b, batch, size) == KBATCH_OK && b->verdict.max_timestamp == PG_INT64_MAX &&
	   b->verdict.max_timestamp_delta == 1, "timestamps that wrap around");
	free(batch);
}

/* Records written by hand, each wrong in one way. */
static void
test_records_by_hand(Bench *b)
{
	static const struct
	{
		const char *what;
		const char *bytes;		/* in hex */
		bool		valid;
	}			cases[] = {
		{"nothing in it", "0c000000010100", true},
		{"empty key and value", "0c000000000000", true},
		{"no other negative length is null", "0c000000030500", false},
		{"numbers longer than needed", "148c00000081800081808000", false},
		{"a longer length", "8c80000000000101" "00", true},
		{"one header", "14000000010102027802" "79", true},
		{"header with null value", "12000000010102027801", true},
		{"header with null key", "10000000010102" "0101", false},
		{"negative number of headers", "0c000000010101", false},
		{"two headers announced, one there", "14000000010104027802" "79", false},
		{"2^30 headers announced", "14000000010180808080" "08", false},
		{"length too long", "0e000000010100", false},
		{"length too short", "0a000000010100", false},
		{"length negative", "01000000010100", false},
		{"length zero", "00", false},
		{"key reaches beyond the record", "0e000000080161" "00", false},
		{"value reaches beyond the record", "0e000000010861" "00", false},
		{"key of 2^31-1 bytes", "14000000feffffff0f0100", false},
		{"number of six bytes", "18000000808080808000" "0100", false},
		{"something after the record", "0c00000001010000", false},
		{"a byte left within the record", "0e00000001010000", false},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		uint8		batch[256] = {0};
		size_t		size = KBATCH_HEADER_SIZE +
		from_hex(cases[i].bytes, batch + KBATCH_HEADER_SIZE);
		KBatchHeader h = {.batch_length = (int32) size - KBATCH_LENGTH_OVERHEAD,.magic = 2,
		.base_timestamp = NOW,.producer_id = -1,.record_count = 1};
		int			records;
		bool		valid;
		bool		readable;
		uint8	   *copy;

		kbatch_header_write(batch, &h);
		put_crc(batch, size);
		copy = exact_copy(batch, size);
		valid = validate(b, copy, size) == KBATCH_OK;
		readable = read_through(b, copy, size, &records) == KBATCH_END;
		ok(valid == cases[i].valid && readable == cases[i].valid, "record by hand: %s",
		   cases[i].what);
		free(copy);
	}
}

static void
test_in_place(Bench *b)
{
	size_t		size;
	uint8	   *batch = small_batch(b, KCODEC_LZ4, &size);
	KBatchHeader before;
	KBatchHeader h;
	KBatchIterator it;
	KBatchRecord r;
	int			n = 0;

	kbatch_header_read(batch, size, &before);
	kbatch_set_base_offset(batch, INT64CONST(1) << 40);
	kbatch_set_leader_epoch(batch, 77);
	kbatch_header_read(batch, size, &h);
	ok(h.base_offset == INT64CONST(1) << 40 && h.leader_epoch == 77 && h.crc == before.crc &&
	   kbatch_check_crc(batch, size), "offset and leader epoch are outside the checksum");

	kbatch_set_max_timestamp(batch, size, true, NOW + 7);
	kbatch_header_read(batch, size, &h);
	ok(kbatch_is_log_append_time(&h) && h.max_timestamp == NOW + 7 && h.crc != before.crc &&
	   kbatch_codec(&h) == KCODEC_LZ4 && kbatch_check_crc(batch, size), "LogAppendTime is set");
	kbatch_iterate(&it, batch, size, b->codec, &b->scratch);
	while (kbatch_iterator_next(&it, &r) == KBATCH_OK)
		n += r.timestamp == NOW + 7;
	is_int(n, 8, "and is every record's time");
	kbatch_set_max_timestamp(batch, size, false, before.max_timestamp);
	kbatch_header_read(batch, size, &h);
	ok(h.crc == before.crc && h.attributes == before.attributes, "and can be taken back");
	free(batch);

	ok(kbatch_sequence_add(PG_INT32_MAX, 1) == 0 && kbatch_sequence_add(5, 3) == 8 &&
	   kbatch_sequence_add(PG_INT32_MAX - 1, 3) == 1 && kbatch_sequence_add(0, PG_INT32_MAX) ==
	   PG_INT32_MAX && kbatch_sequence_add(PG_INT32_MAX, PG_INT32_MAX) == PG_INT32_MAX - 1,
	   "sequence numbers start again at 0");
}

static void
test_walk(Bench *b)
{
	uint8		log[4096];
	size_t		len = 0;
	KBatchWalker walker;
	KBatchHeader h;
	const uint8 *p;
	int64		expected = 0;
	int			batches = 0;
	KBatchResult result;

	for (int codec = 0; codec <= KCODEC_LAST; codec++)
	{
		size_t		size;
		uint8	   *batch = small_batch(b, codec, &size);

		kbatch_set_base_offset(batch, codec * 8);
		memcpy(log + len, batch, size);
		len += size;
		free(batch);
	}
	kbatch_walk_begin(&walker, log, len);
	while ((result = kbatch_walk_next(&walker, &h, &p)) == KBATCH_OK)
	{
		if (h.base_offset != expected || kbatch_codec(&h) != batches ||
			!kbatch_check_crc(p, kbatch_size(&h)))
			break;
		expected = kbatch_next_offset(&h);
		batches++;
	}
	ok(result == KBATCH_END && batches == 5 && expected == 40, "walk over five batches");

	kbatch_walk_begin(&walker, log, len - 1);
	for (batches = 0; (result = kbatch_walk_next(&walker, &h, &p)) == KBATCH_OK;)
		batches++;
	ok(result == KBATCH_TRUNCATED && batches == 4, "the last one is cut off");
	log[walker.pos + KBATCH_OFF_MAGIC] = 1;
	kbatch_walk_begin(&walker, log, len);
	for (batches = 0; (result = kbatch_walk_next(&walker, &h, &p)) == KBATCH_OK;)
		batches++;
	ok(result == KBATCH_UNSUPPORTED_VERSION && batches == 4, "the last one is of magic 1");

	/* headers that no log can have */
	memset(&h, 0, sizeof(h));
	h.batch_length = 49;
	h.magic = 2;
	kbatch_header_write(log, &h);
	is_int(kbatch_header_read(log, 61, &h), KBATCH_OK, "a header without records");
	h.last_offset_delta = -1;
	kbatch_header_write(log, &h);
	is_int(kbatch_header_read(log, 61, &h), KBATCH_CORRUPT, "a negative range of offsets");
	h.last_offset_delta = 4;
	h.record_count = 6;
	kbatch_header_write(log, &h);
	is_int(kbatch_header_read(log, 61, &h), KBATCH_CORRUPT, "more records than offsets");
	h.record_count = 1;
	h.base_offset = PG_INT64_MAX - 4;
	kbatch_header_write(log, &h);
	is_int(kbatch_header_read(log, 61, &h), KBATCH_CORRUPT, "offsets beyond an int64");
	h.base_offset = -1;
	kbatch_header_write(log, &h);
	is_int(kbatch_header_read(log, 61, &h), KBATCH_CORRUPT, "a negative offset");
}

static void
test_builder_limits(void)
{
	KBatchBuilder builder;
	KBatchSeal	as;
	const uint8 *batch;
	size_t		size;
	uint8		value[1000] = {0};

	kbatch_builder_init(&builder, &kallocator_malloc, KBATCH_HEADER_SIZE + 1009);
	kbatch_seal_init(&as);
	is_int(kbatch_builder_finish(&builder, &as, NULL, NULL, &batch, &size),
		   KBATCH_INVALID_RECORD, "a batch needs a record");
	is_int(kbatch_builder_size(&builder), KBATCH_HEADER_SIZE, "its size is a header's");
	is_int(kbatch_builder_record_size(&builder, 0, NULL, -1, value, 1000, NULL, 0), 1009,
		   "a record of 1000 bytes");
	is_int(kbatch_builder_append(&builder, 0, NULL, -1, value, 1000, NULL, 0), KBATCH_OK,
		   "just fits");
	is_int(kbatch_builder_append(&builder, 0, NULL, -1, NULL, -1, NULL, 0), KBATCH_TOO_LARGE,
		   "nothing fits any more");
	ok(builder.record_count == 1 && kbatch_builder_size(&builder) == KBATCH_HEADER_SIZE + 1009,
	   "which changes nothing");
	is_int(kbatch_builder_record_size(&builder, 0, NULL, -1, value, PG_INT32_MAX, NULL, 0), 0,
		   "a record larger than any batch");
	kbatch_builder_free(&builder);
}

int
main(void)
{
	static const char *const java[] = {java_none, java_gzip, java_snappy, java_lz4, java_zstd};
	Bench		b;

	bench_setup(&b);
	for (int codec = 0; codec <= KCODEC_LAST; codec++)
		test_java_batch(&b, java[codec], codec);
	test_same_bytes_as_java(&b);
	test_filler(&b);
	test_formats(&b);
	test_produce_batch(&b);
	test_in_place(&b);
	test_walk(&b);
	test_records_by_hand(&b);
	test_builder_limits();
	bench_teardown(&b);

	bench_setup(&b);
	test_rules(&b);
	bench_teardown(&b);

	for (int codec = 0; codec <= KCODEC_LAST; codec++)
	{
		bench_setup(&b);
		test_round_trip(&b, codec, 1, 0, true);
		test_round_trip(&b, codec, 1, 100, true);
		test_round_trip(&b, codec, 1000, 200, false);
		test_round_trip(&b, codec, 5000, 1000, true);
		test_round_trip(&b, codec, 10, 700000, false);
		test_round_trip(&b, codec, 10, 700000, true);
		test_damage(&b, codec);
		test_damaged_records(&b, codec);
		bench_teardown(&b);

		test_no_memory(codec);
		if (codec != KCODEC_NONE)
		{
			bench_setup(&b);
			test_bombs(&b, codec);
			bench_teardown(&b);
		}
	}
	return done_testing();
}
