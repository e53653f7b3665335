/*
 * producer_test.c
 *		Idempotent producers: the rules, and the table of their states.
 *
 * The table needs shared memory and locks of the server; what it calls of them is supplied
 * below, and its source is included.
 */
#include "postgres.h"

#include "storage/lwlock.h"
#include "storage/shmem.h"

#undef printf
#undef vprintf
#include "tap.h"

#include "txn/kproducer_table.c"

#define NOW			INT64CONST(1700000000000)
#define DAY			INT64CONST(86400000)
#define MINUTE		INT64CONST(60000)

/* ---- what the server supplies ---- */

int			kguc_max_producer_ids = 1600;
int			kguc_max_partitions = 8;
int			kguc_producer_id_expiration = 86400000;

static char *memory = NULL;
static Size memory_size;
static int	locks_held = 0;
static int	lock_errors = 0;

void *
ShmemInitStruct(const char *name, Size size, bool *foundPtr)
{
	*foundPtr = memory != NULL;
	memory_size = size;
	if (memory == NULL)
		memory = malloc(size);
	return memory;
}

Size
add_size(Size s1, Size s2)
{
	return s1 + s2;
}

Size
mul_size(Size s1, Size s2)
{
	return s1 * s2;
}

int
LWLockNewTrancheId(void)
{
	return 77;
}

void
LWLockRegisterTranche(int tranche_id, const char *tranche_name)
{
	lock_errors += tranche_id != 77;
}

void
LWLockInitialize(LWLock *lock, int tranche_id)
{
	lock->tranche = tranche_id;
}

/* The table must not take one lock within another. */
bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	lock_errors += lock->tranche != 77 || locks_held++ != 0;
	return true;
}

void
LWLockRelease(LWLock *lock)
{
	lock_errors += lock->tranche != 77 || --locks_held != 0;
}

uint32
hash_bytes(const unsigned char *k, int keylen)
{
	uint32		h = 2166136261u;

	for (int i = 0; i < keylen; i++)
		h = (h ^ k[i]) * 16777619u;
	return h ^ (h >> 15);
}

/* ---- helpers ---- */

/* A batch of "count" records from "sequence" on. */
static KBatchHeader
batch_of(int64 producer, int16 epoch, int32 sequence, int32 count)
{
	KBatchHeader h = {.magic = 2, .batch_length = 100, .producer_id = producer,
		.producer_epoch = epoch, .base_sequence = sequence, .last_offset_delta = count - 1,
	.record_count = count, .max_timestamp = NOW};

	return h;
}

static KProducerResult
check(const KProducerState *state, int16 epoch, int32 sequence, int32 count)
{
	KBatchHeader h = batch_of(1, epoch, sequence, count);
	KProducerBatch duplicate;

	return kproducer_state_check(state, &h, &duplicate);
}

static void
append(KProducerState *state, int16 epoch, int32 sequence, int32 count, int64 offset)
{
	KBatchHeader h = batch_of(1, epoch, sequence, count);

	kproducer_state_append(state, &h, offset, (uint64) offset + 1000);
}

/* ---- the rules ---- */

static void
test_rules(void)
{
	KProducerState s;
	KProducerBatch duplicate;
	KBatchHeader h;

	kproducer_state_init(&s);
	is_int(check(&s, 0, 0, 1), KPRODUCER_OK, "an unknown producer may begin at 0");
	is_int(check(&s, 3, 4711, 10), KPRODUCER_OK, "or anywhere");
	is_int(check(&s, 0, PG_INT32_MAX, 2), KPRODUCER_OK, "even where sequences wrap around");

	append(&s, 5, 10, 5, 100);	/* 10..14 */
	is_int(check(&s, 5, 15, 3), KPRODUCER_OK, "the next sequence");
	is_int(check(&s, 5, 16, 3), KPRODUCER_OUT_OF_ORDER, "a gap");
	is_int(check(&s, 5, 14, 3), KPRODUCER_OUT_OF_ORDER, "an overlap");
	is_int(check(&s, 5, 0, 3), KPRODUCER_OUT_OF_ORDER, "the beginning again");
	is_int(check(&s, 5, 10, 4), KPRODUCER_OUT_OF_ORDER, "a part of a batch");
	is_int(check(&s, 5, 10, 6), KPRODUCER_OUT_OF_ORDER, "a batch and more");
	is_int(check(&s, 5, 11, 4), KPRODUCER_OUT_OF_ORDER, "the rest of a batch");
	h = batch_of(1, 5, 10, 5);
	ok(kproducer_state_check(&s, &h, &duplicate) == KPRODUCER_DUPLICATE &&
	   duplicate.base_offset == 100 && duplicate.lsn == 1100 && duplicate.timestamp == NOW &&
	   duplicate.first_sequence == 10 && duplicate.last_sequence == 14,
	   "the same batch, with its offset, time and LSN");

	is_int(check(&s, 4, 15, 1), KPRODUCER_FENCED, "an older epoch");
	is_int(check(&s, 4, 10, 5), KPRODUCER_FENCED, "an older epoch, else the same");
	is_int(check(&s, 6, 0, 1), KPRODUCER_OK, "a newer epoch begins at 0");
	is_int(check(&s, 6, 15, 1), KPRODUCER_OUT_OF_ORDER, "a newer epoch does not go on");
	is_int(check(&s, 6, 10, 5), KPRODUCER_OUT_OF_ORDER, "a newer epoch, else the same");
	is_int(check(&s, -1, 15, 1), KPRODUCER_FENCED, "no epoch");

	/* five batches are remembered */
	for (int i = 0; i < 5; i++)
		append(&s, 5, 15 + i, 1, 105 + i);
	is_int(check(&s, 5, 10, 5), KPRODUCER_OUT_OF_ORDER, "the sixth last batch is not known again");
	for (int i = 0; i < 5; i++)
	{
		h = batch_of(1, 5, 15 + i, 1);
		ok(kproducer_state_check(&s, &h, &duplicate) == KPRODUCER_DUPLICATE &&
		   duplicate.base_offset == 105 + i, "number %d of the last five is", i + 1);
	}
	is_int(check(&s, 5, 20, 1), KPRODUCER_OK, "and the next one can come");

	append(&s, 6, 0, 1, 110);
	is_int(check(&s, 6, 1, 1), KPRODUCER_OK, "the new epoch goes on");
	is_int(check(&s, 5, 19, 1), KPRODUCER_FENCED, "the old one is over");
	is_int(check(&s, 6, 19, 1), KPRODUCER_OUT_OF_ORDER, "its batches are forgotten");

	/* around the end of the numbers */
	kproducer_state_init(&s);
	append(&s, 0, PG_INT32_MAX - 1, 2, 7);	/* max-1, max */
	is_int(check(&s, 0, 0, 5), KPRODUCER_OK, "after 2^31-1 comes 0");
	is_int(check(&s, 0, 1, 5), KPRODUCER_OUT_OF_ORDER, "and not 1");
	is_int(check(&s, 0, PG_INT32_MAX - 1, 2), KPRODUCER_DUPLICATE, "the last numbers again");
	kproducer_state_init(&s);
	append(&s, 0, PG_INT32_MAX - 1, 5, 7);	/* max-1, max, 0, 1, 2 */
	is_int(check(&s, 0, 3, 5), KPRODUCER_OK, "a batch that wraps around has a successor");
	is_int(check(&s, 0, PG_INT32_MAX - 1, 5), KPRODUCER_DUPLICATE, "and is known again");
	is_int(check(&s, 0, PG_INT32_MAX - 1, 2), KPRODUCER_OUT_OF_ORDER, "in whole only");

	/* epochs that only a control batch tells of */
	kproducer_state_init(&s);
	append(&s, 1, 0, 3, 0);
	kproducer_state_end_txn(&s, 1, 1000);
	is_int(check(&s, 1, 3, 1), KPRODUCER_OK, "a marker of the same epoch leaves the sequences");
	is_int(check(&s, 1, 0, 3), KPRODUCER_DUPLICATE, "and the batches");
	kproducer_state_end_txn(&s, 2, 1000);
	is_int(check(&s, 2, 0, 1), KPRODUCER_OK, "a marker of a new epoch starts at 0");
	is_int(check(&s, 2, 3, 1), KPRODUCER_OUT_OF_ORDER, "and nowhere else");
	is_int(check(&s, 1, 3, 1), KPRODUCER_FENCED, "and fences the old epoch");

	/* within a transaction */
	h = batch_of(1, 2, 0, 1);
	h.attributes = KBATCH_ATTR_TRANSACTIONAL;
	kproducer_state_append(&s, &h, 55, 1);
	is_int(s.txn_first_offset, 55, "a transaction starts at its first batch");
	is_int(check(&s, 2, 1, 1), KPRODUCER_INVALID_TXN_STATE, "nothing comes in between");
	h = batch_of(1, 2, 1, 1);
	h.attributes = KBATCH_ATTR_TRANSACTIONAL;
	is_int(kproducer_state_check(&s, &h, &duplicate), KPRODUCER_OK, "but what belongs to it");
	kproducer_state_append(&s, &h, 56, 1);
	is_int(s.txn_first_offset, 55, "which does not start it again");
	kproducer_state_end_txn(&s, 2, 1000);
	ok(s.txn_first_offset == -1 && check(&s, 2, 2, 1) == KPRODUCER_OK, "until it ends");
}

/* ---- the table ---- */

static KProducerPartition partition_a = {1000, 2000, 0};
static KProducerPartition partition_b = {1000, 2000, 1};

static void
new_table(void)
{
	free(memory);
	memory = NULL;
	kproducer_shmem_init();
}

/* One batch in a turn of its own; appended if it may be. */
static KProducerResult
produce(const KProducerPartition *partition, int64 now, int64 producer, int16 epoch,
		int32 sequence, int32 count, int64 offset, KProducerBatch *duplicate)
{
	KProducerTurn turn;
	KBatchHeader h = batch_of(producer, epoch, sequence, count);
	KProducerResult result;

	kproducer_turn_begin(&turn, partition, now);
	result = kproducer_check(&turn, &h, offset, duplicate);
	if (result == KPRODUCER_OK)
		kproducer_apply(&turn, &h, offset, (XLogRecPtr) offset + 1);
	return result;
}

static int
used_slots(void)
{
	int			n = 0;

	for (int32 i = 0; i < shared->slots * STRIPES; i++)
		n += slots[i].used;
	return n;
}

/* Every slot is either in the free list of its stripe or in its chain, once. */
static bool
table_is_sound(void)
{
	int			total = 0;

	for (int s = 0; s < STRIPES; s++)
	{
		for (int32 i = shared->stripe[s].free; i != NO_SLOT; i = slots[i].next)
		{
			if (slots[i].used || i / shared->slots != s || ++total > shared->slots * STRIPES)
				return false;
		}
	}
	for (int32 c = 0; c < shared->slots * STRIPES; c++)
	{
		for (int32 i = chains[c]; i != NO_SLOT; i = slots[i].next)
		{
			if (!slots[i].used || i / shared->slots != c / shared->slots ||
				++total > shared->slots * STRIPES)
				return false;
		}
	}
	return total == shared->slots * STRIPES && lock_errors == 0 && locks_held == 0;
}

static void
test_table(void)
{
	KProducerBatch dup;
	KProducerTurn turn;
	KBatchHeader h[KPRODUCER_TURN_MAX + 1];
	bool		good = true;

	new_table();
	ok(memory_size == kproducer_shmem_size() && table_is_sound(), "a new table");
	kproducer_shmem_init();
	ok(table_is_sound(), "another process attaches to it");

	/* by hand: one producer in two partitions */
	is_int(produce(&partition_a, NOW, 7, 0, 0, 3, 10, &dup), KPRODUCER_OK, "partition 0");
	is_int(produce(&partition_b, NOW, 7, 0, 5, 3, 90, &dup), KPRODUCER_OK, "and 1");
	is_int(produce(&partition_a, NOW, 7, 0, 3, 3, 13, &dup), KPRODUCER_OK, "do not know");
	is_int(produce(&partition_b, NOW, 7, 0, 3, 3, 93, &dup), KPRODUCER_OUT_OF_ORDER,
		   "each other's sequences");
	ok(produce(&partition_a, NOW, 7, 0, 0, 3, 16, &dup) == KPRODUCER_DUPLICATE &&
	   dup.base_offset == 10 && dup.lsn == 11, "a duplicate finds its original");

	/* a turn of several batches of one producer */
	kproducer_turn_begin(&turn, &partition_a, NOW);
	h[0] = batch_of(7, 0, 6, 4);
	h[1] = batch_of(7, 0, 10, 4);
	h[2] = batch_of(7, 0, 15, 1);
	ok(kproducer_check(&turn, &h[0], 16, &dup) == KPRODUCER_OK &&
	   kproducer_check(&turn, &h[1], 20, &dup) == KPRODUCER_OK &&
	   kproducer_check(&turn, &h[2], 24, &dup) == KPRODUCER_OUT_OF_ORDER,
	   "a turn's batches follow each other");
	ok(kproducer_check(&turn, &h[1], 24, &dup) == KPRODUCER_DUPLICATE &&
	   dup.base_offset == 20 && dup.lsn == 0, "a duplicate within the turn");
	kproducer_apply(&turn, &h[0], 16, 1);
	ok(produce(&partition_a, NOW, 7, 0, 14, 1, 24, &dup) == KPRODUCER_OUT_OF_ORDER &&
	   produce(&partition_a, NOW, 7, 0, 10, 4, 20, &dup) == KPRODUCER_OK,
	   "what was checked and not appended has left no trace");

	kproducer_turn_begin(&turn, &partition_a, NOW);
	for (int i = 0; i < KPRODUCER_TURN_MAX; i++)
	{
		h[i] = batch_of(100 + i, 0, 0, 1);
		good = good && kproducer_check(&turn, &h[i], 30 + i, &dup) == KPRODUCER_OK;
	}
	h[KPRODUCER_TURN_MAX] = batch_of(999, 0, 0, 1);
	ok(good && kproducer_check(&turn, &h[KPRODUCER_TURN_MAX], 99, &dup) ==
	   KPRODUCER_TURN_FULL, "a turn has its limit");

	/* expiry */
	is_int(produce(&partition_a, NOW + DAY - 1, 7, 0, 99, 1, 50, &dup), KPRODUCER_OUT_OF_ORDER,
		   "a producer is remembered for a day");
	is_int(produce(&partition_a, NOW + DAY + DAY - 2, 7, 0, 99, 1, 50, &dup),
		   KPRODUCER_OUT_OF_ORDER, "from when it was last heard of");
	is_int(produce(&partition_a, NOW + 3 * DAY, 7, 0, 99, 1, 50, &dup), KPRODUCER_OK,
		   "and not longer");
	ok(table_is_sound(), "the table is sound");

	kproducer_forget(partition_a.relid);
	ok(used_slots() == 0 && table_is_sound(), "a dropped table leaves nothing");
}

static void
test_full_table(void)
{
	KProducerBatch dup;
	int			accepted = 0;
	int			refused = 0;
	int			remembered = 0;

	new_table();
	for (int i = 0; i < 4000; i++)
	{
		KProducerResult r = produce(&partition_a, NOW + i, i, 0, 5, 1, i, &dup);

		accepted += r == KPRODUCER_OK;
		refused += r == KPRODUCER_FULL;
	}
	ok(accepted + refused == 4000 && accepted >= kguc_max_producer_ids && refused > 0 &&
	   used_slots() == accepted, "active producers are not forgotten for new ones");
	for (int i = 0; i < 1000; i++)
		remembered += produce(&partition_a, NOW + 4000, i, 0, 5, 1, i, &dup) ==
			KPRODUCER_DUPLICATE;
	is_int(remembered, 1000, "the first ones are all known again");
	is_int(kproducer_result_error_code(KPRODUCER_FULL), 19, "the others shall try again");

	/* the first 1000 were heard of at NOW + 4000 */
	accepted = 0;
	for (int i = 0; i < 300; i++)
		accepted += produce(&partition_b, NOW + 2000 + 5 * MINUTE, 100000 + i, 0, 0, 1, i,
							&dup) == KPRODUCER_OK;
	is_int(accepted, 300, "idle ones are");
	remembered = 0;
	for (int i = 0; i < 1000; i++)
		remembered += produce(&partition_a, NOW + 2000 + 5 * MINUTE, i, 0, 5, 1, i, &dup) ==
			KPRODUCER_DUPLICATE;
	is_int(remembered, 1000, "those idle for longest");
	ok(table_is_sound(), "the full table is sound");
}

static void
test_rebuild(void)
{
	KProducerBatch dup;
	KBatchHeader h;
	int			remembered = 0;
	int			active = 0;

	new_table();
	ok(!kproducer_is_ready(&partition_a), "nothing is known at first");

	/* a rebuild that failed half-way has left something wrong behind */
	kproducer_rebuild_begin(&partition_a);
	h = batch_of(7, 9, 70, 1);
	kproducer_observe_batch(&partition_a, &h, 1, NOW);
	ok(!kproducer_is_ready(&partition_a), "not while it is read");

	kproducer_rebuild_begin(&partition_a);
	is_int(used_slots(), 0, "a new rebuild starts from nothing");
	for (int i = 0; i < 7; i++)
	{
		h = batch_of(7, 1, 10 * i, 10);
		h.base_offset = 1000 + 10 * i;
		h.max_timestamp = NOW - 400 * DAY;	/* old events */
		kproducer_observe_batch(&partition_a, &h, 500 + i, NOW);
		h.producer_id = KBATCH_NO_PRODUCER_ID;
		kproducer_observe_batch(&partition_a, &h, 500 + i, NOW);
	}
	h = batch_of(8, 4, KBATCH_NO_SEQUENCE, 1);	/* all that is left is a marker */
	h.attributes = KBATCH_ATTR_CONTROL | KBATCH_ATTR_TRANSACTIONAL;
	kproducer_observe_batch(&partition_a, &h, 600, NOW);
	kproducer_rebuild_end(&partition_a, NOW);
	ok(kproducer_is_ready(&partition_a) && !kproducer_is_ready(&partition_b) &&
	   used_slots() == 2, "then one partition is known");

	ok(produce(&partition_a, NOW + 1, 7, 1, 20, 10, 2000, &dup) == KPRODUCER_DUPLICATE &&
	   dup.base_offset == 1020 && dup.lsn == 502, "its last five batches are known again");
	is_int(produce(&partition_a, NOW + 1, 7, 1, 10, 10, 2000, &dup), KPRODUCER_OUT_OF_ORDER,
		   "the sixth last is not");
	is_int(produce(&partition_a, NOW + 1, 7, 1, 70, 1, 2000, &dup), KPRODUCER_OK,
		   "and the next one is taken");
	ok(produce(&partition_a, NOW + 1, 8, 3, 0, 1, 2000, &dup) == KPRODUCER_FENCED &&
	   produce(&partition_a, NOW + 1, 8, 4, 0, 1, 2000, &dup) == KPRODUCER_OK,
	   "a marker tells of its epoch");

	/* more producers in a log than there is room for: active ones first, then the latest */
	for (int i = 0; i < 100; i++)
		active += produce(&partition_a, NOW + 2, 5000 + i, 0, 0, 1, i, &dup) == KPRODUCER_OK;
	kproducer_rebuild_begin(&partition_b);
	for (int i = 0; i < 10000; i++)
	{
		h = batch_of(10000 + i, 0, 0, 1);
		h.base_offset = i;
		h.max_timestamp = NOW - 10000 + i;
		kproducer_observe_batch(&partition_b, &h, 1, NOW + 2);
	}
	kproducer_rebuild_end(&partition_b, NOW + 2);
	for (int i = 0; i < 100; i++)
		active -= produce(&partition_a, NOW + 3, 5000 + i, 0, 0, 1, i, &dup) ==
			KPRODUCER_DUPLICATE;
	is_int(active, 0, "a large log does not push active producers out");
	for (int i = 9000; i < 10000; i++)
		remembered += produce(&partition_b, NOW + 3, 10000 + i, 0, 0, 1, i, &dup) ==
			KPRODUCER_DUPLICATE;
	is_int(remembered, 1000, "and its latest producers are known");
	ok(table_is_sound(), "the table is sound after it");

	/* storage that is new, or that somebody else has now */
	{
		KProducerPartition moved = partition_a;

		moved.relfilenumber++;
		ok(!kproducer_is_ready(&moved), "new storage is read anew");
		kproducer_rebuild_begin(&moved);
		kproducer_rebuild_end(&moved, NOW);
		ok(kproducer_is_ready(&moved) && !kproducer_is_ready(&partition_a) &&
		   produce(&moved, NOW + 4, 7, 1, 1234, 1, 0, &dup) == KPRODUCER_OK,
		   "and the old one's state is gone");
	}

	/* there are 8 places for partitions: the one known for longest gives way */
	new_table();
	for (int i = 0; i < 9; i++)
	{
		KProducerPartition p = {1, 1, i};

		kproducer_rebuild_begin(&p);
		kproducer_rebuild_end(&p, NOW + i);
		kproducer_rebuild_end(&p, NOW + i);
	}
	for (int i = 0; i < 9; i++)
	{
		KProducerPartition p = {1, 1, i};

		ok(kproducer_is_ready(&p) == (i > 0), "partition %d is %s", i,
		   i > 0 ? "known" : "to be read again");
	}
	kproducer_forget(1);
	ok(!kproducer_is_ready(&((KProducerPartition) {1, 1, 3})), "none of a dropped table is");
}

int
main(void)
{
	test_rules();
	test_table();
	test_full_table();
	test_rebuild();
	return done_testing();
}
