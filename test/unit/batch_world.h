/*
 * batch_world.h
 *		What tests of record batches share: an allocator that fails on demand, a codec, a builder, a
 *		policy, and what makes batches, breaks them and reads them.
 */
#ifndef BATCH_WORLD_H
#define BATCH_WORLD_H

#include "c.h"

#include "batch/kbatch.h"
#include "batch/kbatch_build.h"
#include "tap.h"

#define NOW				INT64CONST(1700000001000)
#define MB				(1024 * 1024)

/* An allocator that counts, and fails on demand. */
typedef struct TestHeap
{
	size_t		calls;
	size_t		fail_at;		/* the call to fail, counted from 1; 0: none */
	size_t		largest;
} TestHeap;

static inline void *
heap_resize(void *arg, void *chunk, size_t size)
{
	TestHeap   *heap = arg;

	heap->calls++;
	heap->largest = Max(heap->largest, size);
	return heap->calls == heap->fail_at ? NULL : realloc(chunk, size);
}

static inline void
heap_release(void *arg, void *chunk)
{
	(void) arg;
	free(chunk);
}

static uint64 random_state = 88172645463325252u;

static inline uint32
next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32) (random_state >> 16);
}

static inline size_t
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
static inline uint8 *
exact_copy(const uint8 *p, size_t n)
{
	uint8	   *copy = malloc(Max(n, 1));

	memcpy(copy, p, n);
	return copy;
}

static inline void
put_crc(uint8 *batch, size_t size)
{
	uint32		crc = kbatch_compute_crc(batch, size);

	for (int i = 0; i < 4; i++)
		batch[KBATCH_OFF_CRC + i] = (uint8) (crc >> (24 - 8 * i));
}

static inline void
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

static inline void
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

static inline void
bench_teardown(Bench *b)
{
	kbuffer_free(&b->scratch);
	kbuffer_free(&b->packed);
	kbatch_builder_free(&b->builder);
	kcodec_free(b->codec);
}

static inline KBatchResult
add(Bench *b, int64 timestamp, const char *key, const char *value)
{
	return kbatch_builder_append(&b->builder, timestamp,
								 (const uint8 *) key, key ? (int32) strlen(key) : -1,
								 (const uint8 *) value, value ? (int32) strlen(value) : -1,
								 NULL, 0);
}

/* Finish what has been added, as an own copy. */
static inline uint8 *
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

static inline KBatchResult
validate(Bench *b, const uint8 *batch, size_t size)
{
	return kbatch_validate(batch, size, &b->policy, b->codec, &b->verdict);
}

/* where read_through() puts what it sees, so that it really looks */
static volatile uint8 sink;

/* Read all records and their headers; the result of the last step. */
static inline KBatchResult
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

static inline bool
field_is(const uint8 *field, int32 len, const char *want)
{
	if (want == NULL)
		return field == NULL && len == -1;
	return field != NULL && len == (int32) strlen(want) && memcmp(field, want, len) == 0;
}

static inline uint8 *
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

#endif							/* BATCH_WORLD_H */
