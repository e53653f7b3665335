/*
 * batch_rules_test.c
 *		Which record batches may be appended, and what is done to them then; no server needed.
 */
#include "batch_world.h"

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
	Bench		b;

	bench_setup(&b);
	test_produce_batch(&b);
	test_in_place(&b);
	test_walk(&b);
	test_records_by_hand(&b);
	test_builder_limits();
	bench_teardown(&b);

	bench_setup(&b);
	test_rules(&b);
	bench_teardown(&b);
	return done_testing();
}
