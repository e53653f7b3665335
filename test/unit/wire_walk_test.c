/*
 * wire_walk_test.c
 *		Every message in every version: random contents survive a round trip, every truncation
 *		is refused, mutated bytes never do harm.
 *
 * One line of output stands for one message with all its versions.  WIRE_SEED in the
 * environment chooses other random messages.
 */
#include "kmsg_random.h"
#include "tap.h"

/* Room for any message's C struct. */
#define MSG_SIZE	4096

/* What is decoded stands in a block of exactly its length, for the address sanitizer. */
static uint8_t *
exact_copy(Pool *pool, const void *data, size_t len)
{
	uint8_t    *copy = pool_alloc(pool, len);

	if (len > 0)
		memcpy(copy, data, len);
	return copy;
}

static bool
decode(Pool *pool, const KMsgDesc *desc, int version, const uint8_t *in, size_t len,
	   size_t *consumed, void *msg, const char **err)
{
	KArena		arena;

	karena_init(&arena, NULL, 0, 1 << 20, pool_alloc, pool);
	return kmsg_decode(desc, version, in, len, consumed, &arena, msg, err);
}

/* All pieces from "skip" on as one run of bytes; a few at a time, as a socket takes them. */
static size_t
gather(const KMsgWriter *w, size_t skip, uint8_t *out)
{
	KMsgPiece	pieces[3];
	size_t		len = 0;
	int			n;

	while ((n = kmsg_writer_pieces(w, skip, pieces, 3)) > 0)
		for (int i = 0; i < n; i++)
		{
			memcpy(out + len, pieces[i].data, pieces[i].len);
			len += pieces[i].len;
			skip += pieces[i].len;
		}
	return len;
}

static const char *
round_trip(Pool *pool, const KMsgDesc *desc, int version, const void *msg, KMsgWriter *w)
{
	_Alignas(max_align_t) char got[MSG_SIZE];
	KMsgWriter	again;
	KMsgWriter	refs;
	const char *err;
	size_t		consumed;
	size_t		size;
	uint8_t    *bytes;
	bool		same;

	kmsg_writer_reset(w);
	if (!kmsg_encode(desc, version, msg, w, &err))
		return err;
	if (!kmsg_size(desc, version, msg, &size, &err) || size != w->len)
		return "kmsg_size differs from what was written";
	bytes = exact_copy(pool, w->data, w->len);
	if (!decode(pool, desc, version, bytes, w->len, &consumed, got, &err))
		return err;
	if (consumed != w->len)
		return "not all bytes consumed";
	if (!same_message(desc, msg, got))
		return "the decoded message says something else";

	kmsg_writer_init(&again, 0, heap_resize, NULL);
	same = kmsg_encode(desc, version, got, &again, &err) && again.len == w->len &&
		(w->len == 0 || memcmp(again.data, w->data, w->len) == 0);
	writer_free(&again);
	if (!same)
		return "encoding again gives other bytes";

	kmsg_writer_init(&refs, 3, heap_resize, NULL);
	same = kmsg_encode(desc, version, got, &refs, &err) && kmsg_writer_total(&refs) == w->len;
	bytes = pool_alloc(pool, w->len);
	for (size_t skip = 0; same && skip <= w->len; skip += 1 + w->len / 16)
		same = gather(&refs, skip, bytes) == w->len - skip &&
			(w->len == skip || memcmp(bytes, w->data + skip, w->len - skip) == 0);
	writer_free(&refs);
	return same ? NULL : "encoding with references gives other bytes";
}

static const char *
truncations(Pool *pool, const KMsgDesc *desc, int version, const KMsgWriter *w)
{
	_Alignas(max_align_t) char got[MSG_SIZE];
	size_t		step = 1 + w->len / 400;

	for (size_t len = 0; len < w->len; len += step)
	{
		uint8_t    *bytes = exact_copy(pool, w->data, len);
		const char *err = NULL;
		size_t		consumed;

		if (decode(pool, desc, version, bytes, len, &consumed, got, &err))
			return "a truncated message was accepted";
		if (err == NULL)
			return "a refusal without a reason";
	}
	return NULL;
}

/* What decodes in spite of a mutation must encode, decode again and then be stable. */
static const char *
mutations(Random *r, Pool *pool, const KMsgDesc *desc, int version, const KMsgWriter *w)
{
	_Alignas(max_align_t) char got[MSG_SIZE];
	static const uint8_t nasty[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0xfe};

	for (int i = 0; i < 20 && w->len > 0; i++)
	{
		uint8_t    *bytes = exact_copy(pool, w->data, w->len);
		KMsgWriter	out;
		const char *err;
		const char *why = NULL;
		size_t		consumed;

		for (uint32_t k = random_below(r, 3) + 1; k > 0; k--)
			bytes[random_below(r, (uint32_t) w->len)] =
				random_below(r, 2) ? nasty[random_below(r, 6)] : (uint8_t) random_bits(r);
		if (!decode(pool, desc, version, bytes, w->len, &consumed, got, &err))
			continue;
		kmsg_writer_init(&out, 0, heap_resize, NULL);
		if (!kmsg_encode(desc, version, got, &out, &err))
			why = err;
		else
		{
			KMsgWriter	stable;

			kmsg_writer_init(&stable, 0, heap_resize, NULL);
			why = round_trip(pool, desc, version, got, &stable);
			writer_free(&stable);
		}
		writer_free(&out);
		if (why)
			return why;
	}
	return NULL;
}

int
main(void)
{
	const char *seed = getenv("WIRE_SEED");
	Random		r = {seed ? strtoull(seed, NULL, 10) : 20260101};
	Pool		pool = {0};

	for (int i = 0; kmsg_all[i] != NULL; i++)
	{
		const KMsgDesc *desc = kmsg_all[i];
		const char *why = NULL;
		int			version;
		KMsgWriter	w;

		kmsg_writer_init(&w, 0, heap_resize, NULL);
		for (version = desc->versions.first; version <= desc->versions.last; version++)
			for (int round = 0; round < 12; round++)
			{
				_Alignas(max_align_t) char msg[MSG_SIZE];

				random_message(&r, &pool, desc, version, msg);
				why = round_trip(&pool, desc, version, msg, &w);
				if (why == NULL)
					why = truncations(&pool, desc, version, &w);
				if (why == NULL)
					why = mutations(&r, &pool, desc, version, &w);
				pool_free(&pool);
				if (why)
					goto done;
			}
done:
		if (!ok(desc->size <= MSG_SIZE && why == NULL, "%s versions %d-%d", desc->name,
				desc->versions.first, desc->versions.last))
			note("version %d: %s, field %s", version, why, w.field ? w.field : "-");
		writer_free(&w);
	}
	return done_testing();
}
