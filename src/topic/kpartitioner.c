/*-------------------------------------------------------------------------
 *
 * kpartitioner.c
 *	  Which partition a record goes to when its producer does not say.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include "topic/kpartitioner.h"

/* Austin Appleby's MurmurHash2, with the seed that Kafka has chosen */
#define MURMUR2_SEED			0x9747b28cU
#define MURMUR2_MULTIPLIER		0x5bd1e995U
#define MURMUR2_SHIFT			24

uint32
kpartitioner_hash(const uint8 *key, size_t len)
{
	const uint8 *p = key;
	uint32		h = MURMUR2_SEED ^ (uint32) len;
	size_t		tail = len & 3;

	for (size_t words = len >> 2; words > 0; words--, p += 4)
	{
		uint32		k = (uint32) p[0] | (uint32) p[1] << 8 |
		(uint32) p[2] << 16 | (uint32) p[3] << 24;

		k *= MURMUR2_MULTIPLIER;
		k ^= k >> MURMUR2_SHIFT;
		k *= MURMUR2_MULTIPLIER;
		h = (h * MURMUR2_MULTIPLIER) ^ k;
	}

	if (tail > 0)
	{
		for (size_t i = 0; i < tail; i++)
			h ^= (uint32) p[i] << (8 * i);
		h *= MURMUR2_MULTIPLIER;
	}

	h ^= h >> 13;
	h *= MURMUR2_MULTIPLIER;
	h ^= h >> 15;
	return h;
}

int32
kpartitioner_for_key(const uint8 *key, size_t len, int32 partitions)
{
	return (int32) (kpartitioner_hash(key, len) & 0x7fffffff) % partitions;
}

int32
kpartitioner_without_key(KStickyPartition *sticky, int32 partitions,
						 size_t record_bytes, uint32 random)
{
	if (sticky->partitions != partitions || sticky->bytes >= KPARTITIONER_STICKY_BYTES)
	{
		sticky->partitions = partitions;
		sticky->partition = (int32) (random % (uint32) partitions);
		sticky->bytes = 0;
	}
	sticky->bytes += record_bytes;
	return sticky->partition;
}
