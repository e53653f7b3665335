/*
 * kmsg_random.h
 *		Random messages made from descriptors, and a comparison of messages: what the tests of
 *		the codec and its fuzzer share.  Memory is never freed one by one, see Pool.
 */
#ifndef KMSG_RANDOM_H
#define KMSG_RANDOM_H

#include <stdlib.h>
#include <string.h>

#include "wire/kmsg.h"

/* Blocks that are freed together. */
typedef struct Pool
{
	void	  **blocks;
	size_t		count;
	size_t		bytes;			/* asked for so far */
} Pool;

static void *
pool_alloc(void *ctx, size_t size)
{
	Pool	   *pool = ctx;
	void	   *block = malloc(size > 0 ? size : 1);

	pool->blocks = realloc(pool->blocks, (pool->count + 1) * sizeof(void *));
	if (block == NULL || pool->blocks == NULL)
		abort();
	pool->blocks[pool->count++] = block;
	pool->bytes += size;
	return block;
}

static void
pool_free(Pool *pool)
{
	for (size_t i = 0; i < pool->count; i++)
		free(pool->blocks[i]);
	free(pool->blocks);
	*pool = (Pool) {0};
}

/* For writers. */
__attribute__((unused))
static void *
heap_resize(void *ctx, void *old, size_t used, size_t size)
{
	return realloc(old, size);
}

__attribute__((unused))
static void
writer_free(KMsgWriter *w)
{
	free(w->data);
	free(w->refs);
}

typedef struct Random
{
	uint64_t	state;
} Random;

static uint32_t
random_bits(Random *r)
{
	r->state = r->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (r->state >> 33);
}

static uint32_t
random_below(Random *r, uint32_t n)
{
	return random_bits(r) % n;
}

static void *
random_bytes(Random *r, Pool *pool, size_t len)
{
	uint8_t    *p = pool_alloc(pool, len);

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t) ('!' + random_below(r, 90));
	return p;
}

static inline bool
versions_have(KVersions v, int version)
{
	return version >= v.first && version <= v.last;
}

static void random_message(Random *r, Pool *pool, const KMsgDesc *desc, int version, void *msg);

static size_t
value_size(const KFieldDesc *f)
{
	static const uint8_t size[] = {
		[KF_BOOL] = sizeof(bool),[KF_INT8] = 1,[KF_INT16] = 2,[KF_UINT16] = 2,[KF_INT32] = 4,
		[KF_INT64] = 8,[KF_FLOAT64] = 8,[KF_UUID] = 16,[KF_STRING] = sizeof(KStr),
		[KF_BYTES] = sizeof(KBytes),
	};

	return f->type == KF_STRUCT ? f->sub->size : size[f->type];
}

static void
random_value(Random *r, Pool *pool, const KFieldDesc *f, int version, void *value)
{
	bool		null = versions_have(f->nullable, version) && !(f->flags & KFF_ARRAY) &&
		random_below(r, 4) == 0;
	int32_t		len = (int32_t) (random_below(r, 40) ? random_below(r, 9) : random_below(r, 300));
	double		number;

	switch ((KFieldType) f->type)
	{
		case KF_BOOL:
			*(bool *) value = random_below(r, 2);
			break;
		case KF_STRING:
			*(KStr *) value = null ? KSTR_NULL : (KStr) {random_bytes(r, pool, len), len};
			break;
		case KF_BYTES:
			*(KBytes *) value = null ? KBYTES_NULL : (KBytes) {random_bytes(r, pool, len), len};
			break;
		case KF_STRUCT:
			random_message(r, pool, f->sub, version, value);
			break;
		case KF_FLOAT64:
			number = (double) random_bits(r) / 7;
			memcpy(value, &number, sizeof(number));
			break;
		default:
			for (size_t i = 0; i < value_size(f); i++)
				((uint8_t *) value)[i] = (uint8_t) random_bits(r);
			break;
	}
}

/* A few tagged fields from tag "first" on. */
static KTags
random_tags(Random *r, Pool *pool, uint32_t first)
{
	KTags		tags = {NULL, 0, 1 + random_below(r, 3)};
	uint8_t    *p = pool_alloc(pool, 64);
	uint32_t	tag = first;

	tags.data = p;
	for (uint32_t i = 0; i < tags.count; i++)
	{
		uint32_t	len = random_below(r, 5);

		tag += 1 + random_below(r, 200);
		if (tag >= 0x80)
			*p++ = (uint8_t) (tag | 0x80);
		*p++ = (uint8_t) (tag >= 0x80 ? tag >> 7 : tag);
		*p++ = (uint8_t) len;
		while (len-- > 0)
			*p++ = (uint8_t) random_bits(r);
	}
	tags.len = (uint32_t) (p - tags.data);
	return tags;
}

/* Fills what the version has; the rest keeps its defaults. */
__attribute__((unused))
static void
random_message(Random *r, Pool *pool, const KMsgDesc *desc, int version, void *msg)
{
	kmsg_init(desc, msg);
	for (int i = 0; i < desc->nfields; i++)
	{
		const KFieldDesc *f = &desc->fields[i];
		char	   *member = (char *) msg + f->offset;

		if (!versions_have(f->versions, version) || (f->tag >= 0 && random_below(r, 3) == 0))
			continue;
		if (f->flags & KFF_ARRAY)
		{
			KInt8Array	any = {NULL, (int32_t) random_below(r, 4)};
			size_t		step = value_size(f);

			if (versions_have(f->nullable, version) && random_below(r, 4) == 0)
				any.count = -1;
			if (any.count > 0)
				any.items = pool_alloc(pool, (size_t) any.count * step);
			for (int k = 0; k < any.count; k++)
				random_value(r, pool, f, version, any.items + (size_t) k * step);
			memcpy(member, &any, sizeof(any));
		}
		else if (f->flags & KFF_POINTER)
		{
			void	   *target = random_below(r, 3) ? pool_alloc(pool, f->sub->size) : NULL;

			if (target)
				random_message(r, pool, f->sub, version, target);
			memcpy(member, &target, sizeof(target));
		}
		else
			random_value(r, pool, f, version, member);
	}
	if (version >= desc->flexible_from && random_below(r, 4) == 0)
	{
		KTags		tags = random_tags(r, pool, (uint32_t) (desc->nfields - desc->nuntagged));

		memcpy((char *) msg + desc->tags_offset, &tags, sizeof(tags));
	}
}

/* Do two messages say the same? */
__attribute__((unused))
static bool
same_message(const KMsgDesc *desc, const void *a, const void *b)
{
	KTags		ta;
	KTags		tb;

	for (int i = 0; i < desc->nfields; i++)
	{
		const KFieldDesc *f = &desc->fields[i];
		const char *ma = (const char *) a + f->offset;
		const char *mb = (const char *) b + f->offset;
		KInt8Array	aa = {(int8_t *) ma, 1};
		KInt8Array	ab = {(int8_t *) mb, 1};

		if (f->flags & KFF_ARRAY)
		{
			memcpy(&aa, ma, sizeof(aa));
			memcpy(&ab, mb, sizeof(ab));
		}
		else if (f->flags & KFF_POINTER)
		{
			memcpy(&aa.items, ma, sizeof(void *));
			memcpy(&ab.items, mb, sizeof(void *));
			if ((aa.items == NULL) != (ab.items == NULL))
				return false;
			aa.count = ab.count = aa.items != NULL;
		}
		if (aa.count != ab.count)
			return false;
		for (int k = 0; k < aa.count; k++)
		{
			const void *va = aa.items + (size_t) k * value_size(f);
			const void *vb = ab.items + (size_t) k * value_size(f);
			KBytes		x;
			KBytes		y;

			if (f->type == KF_STRUCT)
			{
				if (!same_message(f->sub, va, vb))
					return false;
			}
			else if (f->type == KF_STRING || f->type == KF_BYTES)
			{
				memcpy(&x, va, sizeof(x));
				memcpy(&y, vb, sizeof(y));
				if (x.len != y.len || (x.len > 0 && memcmp(x.data, y.data, x.len) != 0))
					return false;
			}
			else if (memcmp(va, vb, value_size(f)) != 0)
				return false;
		}
	}
	memcpy(&ta, (const char *) a + desc->tags_offset, sizeof(ta));
	memcpy(&tb, (const char *) b + desc->tags_offset, sizeof(tb));
	return ta.count == tb.count && ta.len == tb.len &&
		(ta.len == 0 || memcmp(ta.data, tb.data, ta.len) == 0);
}

#endif							/* KMSG_RANDOM_H */
