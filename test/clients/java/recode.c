/*
 * recode.c
 *		Our codec at the end of a pipe: decodes what it is sent and encodes it again, so that
 *		Kafka's own classes (Codec.java) can compare.
 *
 * A frame in either direction is a length of four bytes and that many bytes.  The first byte of
 * an answer is 0, or 1 and the rest says what is wrong.  Questions:
 *
 *		L							"NAME FIRST LAST\n" of every message
 *		M name version bytes		decode, encode
 *		R name version seed			encode a random message
 *		B codec bytes				read a batch's records, build it again with this codec
 *		E type ...					an end marker of a transaction
 *
 * A name is a byte with its length and its bytes; integers are big-endian.
 */
#include "c.h"

#include <stdio.h>

#include "batch/kbatch_build.h"
#include "kmsg_random.h"

/* Room for any message's C struct, and for any batch. */
#define MSG_SIZE	4096
#define MAX_BATCH	(64 * 1024 * 1024)

typedef struct Question
{
	const uint8_t *pos;
	size_t		left;
} Question;

static void
die(const char *why)
{
	fprintf(stderr, "recode: %s\n", why);
	exit(2);
}

static uint64_t
get(Question *q, int bytes)
{
	uint64_t	value = 0;

	if (q->left < (size_t) bytes)
		die("the question is too short");
	for (int i = 0; i < bytes; i++)
		value = value << 8 | q->pos[i];
	q->pos += bytes;
	q->left -= bytes;
	return value;
}

static void
put(FILE *f, uint64_t value, int bytes)
{
	while (bytes-- > 0)
		putc((int) (value >> (8 * bytes) & 0xff), f);
}

static void
answer(int status, const void *data, size_t len)
{
	put(stdout, len + 1, 4);
	putc(status, stdout);
	if (len > 0 && fwrite(data, 1, len, stdout) != len)
		die("cannot write");
	fflush(stdout);
}

static void
answer_problem(const char *why)
{
	answer(1, why, strlen(why));
}

static const KMsgDesc *
get_message(Question *q, int *version)
{
	size_t		len = get(q, 1);
	const char *name = (const char *) q->pos;

	if (q->left < len)
		die("the question is too short");
	q->pos += len;
	q->left -= len;
	*version = (int) get(q, 2);
	for (int i = 0; kmsg_all[i] != NULL; i++)
	{
		const KMsgDesc *desc = kmsg_all[i];

		if (strlen(desc->name) == len && memcmp(desc->name, name, len) == 0 &&
			versions_have(desc->versions, *version))
			return desc;
	}
	return NULL;
}

static void
answer_encoded(const KMsgDesc *desc, int version, const void *msg)
{
	KMsgWriter	w;
	const char *err;

	kmsg_writer_init(&w, 0, heap_resize, NULL);
	if (kmsg_encode(desc, version, msg, &w, &err))
		answer(0, w.data, w.len);
	else
		answer_problem(err);
	writer_free(&w);
}

static void
list_messages(void)
{
	char	   *text = NULL;
	size_t		len = 0;
	FILE	   *f = open_memstream(&text, &len);

	for (int i = 0; kmsg_all[i] != NULL; i++)
		fprintf(f, "%s %d %d\n", kmsg_all[i]->name, kmsg_all[i]->versions.first,
				kmsg_all[i]->versions.last);
	fclose(f);
	answer(0, text, len);
	free(text);
}

static void
recode_message(Question *q)
{
	_Alignas(max_align_t) char msg[MSG_SIZE];
	int			version;
	const KMsgDesc *desc = get_message(q, &version);
	Pool		pool = {0};
	KArena		arena;
	size_t		consumed;
	const char *err;

	karena_init(&arena, NULL, 0, 64 * q->left + 8192, pool_alloc, &pool);
	if (desc == NULL)
		answer_problem("no such message");
	else if (!kmsg_decode(desc, version, q->pos, q->left, &consumed, &arena, msg, &err))
		answer_problem(err);
	else if (consumed != q->left)
		answer_problem("bytes are left");
	else
		answer_encoded(desc, version, msg);
	pool_free(&pool);
}

static void
encode_random(Question *q)
{
	_Alignas(max_align_t) char msg[MSG_SIZE];
	int			version;
	const KMsgDesc *desc = get_message(q, &version);
	Random		r = {get(q, 8)};
	Pool		pool = {0};

	if (desc == NULL)
		answer_problem("no such message");
	else
	{
		random_message(&r, &pool, desc, version, msg);
		answer_encoded(desc, version, msg);
	}
	pool_free(&pool);
}

/* Appends every record of a batch to the builder; NULL or what is wrong. */
static const char *
copy_records(KBatchIterator *it, KBatchBuilder *builder)
{
	KBatchRecord record;
	KBatchResult result;

	while ((result = kbatch_iterator_next(it, &record)) == KBATCH_OK)
	{
		KRecordHeader *headers = malloc((record.header_count + 1) * sizeof(*headers));
		size_t		pos = 0;
		int			n = 0;

		while (kbatch_record_header(&record, &pos, &headers[n]))
			n++;
		if (n != record.header_count)
			return "the count of headers is wrong";
		result = kbatch_builder_append(builder, record.timestamp, record.key, record.key_len,
									   record.value, record.value_len, headers, n);
		free(headers);
		if (result != KBATCH_OK)
			return "a record cannot be appended";
	}
	return result == KBATCH_END ? NULL : it->message;
}

static void
recode_batch(Question *q)
{
	KCodecType	codec_type = (KCodecType) get(q, 1);
	KBatchHeader header;
	KBatchIterator it;
	KBatchBuilder builder;
	KBatchSeal	seal;
	KBuffer		scratch;
	KBuffer		out;
	KCodec	   *codec = kcodec_create(&kallocator_malloc);
	const char *problem = NULL;
	const uint8 *batch;
	size_t		size;

	kbatch_builder_init(&builder, &kallocator_malloc, MAX_BATCH);
	kbuffer_init(&scratch, &kallocator_malloc, MAX_BATCH);
	kbuffer_init(&out, &kallocator_malloc, MAX_BATCH);
	if (kbatch_header_read(q->pos, q->left, &header) != KBATCH_OK ||
		kbatch_size(&header) != q->left)
		problem = "this is no batch";
	else if (!kbatch_check_crc(q->pos, q->left))
		problem = "wrong CRC";
	else if (kbatch_iterate(&it, q->pos, q->left, codec, &scratch) != KBATCH_OK)
		problem = it.message;
	else
		problem = copy_records(&it, &builder);
	if (problem == NULL)
	{
		kbatch_seal_init(&seal);
		seal.codec = codec_type;
		seal.attributes = header.attributes & ~KBATCH_ATTR_CODEC_MASK;
		seal.base_offset = header.base_offset;
		seal.leader_epoch = header.leader_epoch;
		seal.producer_id = header.producer_id;
		seal.producer_epoch = header.producer_epoch;
		seal.base_sequence = header.base_sequence;
		if (kbatch_builder_finish(&builder, &seal, codec, &out, &batch, &size) != KBATCH_OK)
			problem = "the batch cannot be finished";
	}
	if (problem != NULL)
		answer_problem(problem);
	else
		answer(0, batch, size);
	kbatch_builder_free(&builder);
	kbuffer_free(&scratch);
	kbuffer_free(&out);
	kcodec_free(codec);
}

static void
end_marker(Question *q)
{
	uint8		marker[KBATCH_END_MARKER_SIZE];
	KControlType type = (KControlType) get(q, 1);
	int64		base_offset = (int64) get(q, 8);
	int32		leader_epoch = (int32) get(q, 4);
	int64		producer_id = (int64) get(q, 8);
	int16		producer_epoch = (int16) get(q, 2);
	int32		coordinator_epoch = (int32) get(q, 4);
	int64		timestamp = (int64) get(q, 8);

	kbatch_write_end_marker(marker, type, base_offset, leader_epoch, producer_id, producer_epoch,
							coordinator_epoch, timestamp);
	answer(0, marker, sizeof(marker));
}

int
main(void)
{
	uint8_t		head[4];

	while (fread(head, 1, 4, stdin) == 4)
	{
		size_t		len = (size_t) head[0] << 24 | head[1] << 16 | head[2] << 8 | head[3];

		/* A block of exactly that size: reading past its end would not stay unseen. */
		uint8_t    *data = malloc(len);
		Question	q = {data, len};

		if (data == NULL || fread(data, 1, len, stdin) != len)
			die("cannot read");
		switch (get(&q, 1))
		{
			case 'L':
				list_messages();
				break;
			case 'M':
				recode_message(&q);
				break;
			case 'R':
				encode_random(&q);
				break;
			case 'B':
				recode_batch(&q);
				break;
			case 'E':
				end_marker(&q);
				break;
			default:
				die("unknown question");
		}
		free(data);
	}
	return 0;
}
