/*
 * fuzz_kmsg.c
 *		libFuzzer: any bytes as any message of any version, and as a request's header.
 *
 * Input: message, version, then its bytes.  What decodes must encode, decode again to the same
 * message and encode to the same bytes; encoding it in another version may fail but do no harm.
 * There is no corpus: the mutator now and then starts from a random valid message.
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined -Isrc -Itest/unit \
 *		test/fuzz/fuzz_kmsg.c src/wire/(all).c
 */
#include "kmsg_random.h"

#define MSG_SIZE	4096

/* More memory than this for one byte of input would be a way to exhaust a server. */
#define AMPLIFICATION	64

extern size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
extern size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
									  unsigned int seed);
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const KMsgDesc *
choose(const uint8_t *data, int *version)
{
	static uint32_t count;
	const KMsgDesc *desc;

	while (kmsg_all[count] != NULL)
		count++;
	desc = kmsg_all[data[0] % count];
	*version = desc->versions.first +
		data[1] % (desc->versions.last - desc->versions.first + 1);
	return desc;
}

static void
must(bool truth)
{
	if (!truth)
		abort();
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	_Alignas(max_align_t) char msg[MSG_SIZE];
	Random		r = {seed};
	Pool		pool = {0};
	const KMsgDesc *desc;
	KMsgWriter	w;
	const char *err;
	int			version;

	if (max_size < 2 || (size > 2 && random_below(&r, 50) > 0))
		return LLVMFuzzerMutate(data, size, max_size);
	data[0] = (uint8_t) random_bits(&r);
	data[1] = (uint8_t) random_bits(&r);
	desc = choose(data, &version);
	random_message(&r, &pool, desc, version, msg);
	kmsg_writer_init(&w, 0, heap_resize, NULL);
	must(kmsg_encode(desc, version, msg, &w, &err));
	size = w.len < max_size - 2 ? w.len : max_size - 2;
	if (size > 0)
		memcpy(data + 2, w.data, size);
	writer_free(&w);
	pool_free(&pool);
	return size + 2;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_Alignas(max_align_t) char first[MSG_SIZE];
	_Alignas(max_align_t) char second[MSG_SIZE];
	Pool		pool = {0};
	KArena		arena;
	KMsgWriter	w;
	KMsgWriter	again;
	KRequestFrame frame;
	const char *err;
	size_t		consumed;
	const KMsgDesc *desc;
	int			version;

	if (size < 2)
		return 0;
	desc = choose(data, &version);
	data += 2;
	size -= 2;
	if (kmsg_request_header_decode(data, size, &frame, &err) && frame.api)
		must(frame.body <= size);

	kmsg_writer_init(&w, 0, heap_resize, NULL);
	kmsg_writer_init(&again, 16, heap_resize, NULL);
	karena_init(&arena, NULL, 0, AMPLIFICATION * size + 8192, pool_alloc, &pool);
	if (!kmsg_decode(desc, version, data, size, &consumed, &arena, first, &err))
	{
		must(err != NULL && strcmp(err, "message needs more memory than is allowed") != 0);
		goto done;
	}
	must(consumed <= size);
	must(kmsg_encode(desc, version, first, &w, &err));
	karena_init(&arena, NULL, 0, SIZE_MAX, pool_alloc, &pool);
	must(kmsg_decode(desc, version, w.data ? w.data : data, w.len, &consumed, &arena, second,
					 &err));
	must(consumed == w.len && same_message(desc, first, second));
	must(kmsg_encode(desc, version, second, &again, &err));
	must(kmsg_writer_total(&again) == w.len);
	for (int v = desc->versions.first; v <= desc->versions.last; v++)
	{
		kmsg_writer_reset(&w);
		if (!kmsg_encode(desc, v, first, &w, &err))
			must(err != NULL && w.len == 0);
	}
done:
	writer_free(&w);
	writer_free(&again);
	pool_free(&pool);
	return 0;
}
