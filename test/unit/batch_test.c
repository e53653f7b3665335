/*
 * batch_test.c
 *		Record batches: reading, building, compressing, damaging them; no server needed.
 */
#include "batch_world.h"

#include <lz4frame.h>
#include <snappy-c.h>

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
