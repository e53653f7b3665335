/*
 * fuzz_log.c
 *		The log: appends, transactions, reads, searches, RESOLVE, checks and new starts in any
 *		order, on sound pages and on broken ones.
 *
 * Input: a byte of flags, then operations (an opcode, and its arguments).
 *
 * Sound pages: each WAL record is replayed at once into copies of its pages, which must then be
 * equal; what is read must be what was appended, copied or lent; klog_check() must find nothing;
 * what is known after a new start must be what was known before.
 *
 * Broken pages: before the operations and between them bytes of the pages are changed.  Then
 * everything may fail with an error, but nothing may leave its page, go round for ever, take much
 * memory, or extend the file to where a page said that something is.
 */
#include "fuzz_input.h"

#include <sys/uio.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "port/pg_crc32c.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

#include "batch/kbatch_build.h"
#include "fake.h"
#include "kguc.h"
#include "log/klog.h"
#include "log/klog_buffer.h"
#include "log/klog_xlog.h"

#define PARTITIONS		3
#define MAX_OPS			64
#define MAX_BATCHES		512
#define MAX_VALUE		280000

/* The first byte */
#define BROKEN			0x01
#define FULL_PAGES		0x02	/* some pages are replayed from images */
#define SMALL_EXTENTS	0x04
#define SMALL_DISK		0x08

typedef struct Appended
{
	int64		base_offset;
	int32		records;
	uint32		len;
	uint32		sum;			/* of all bytes but those that the log fills in */
	TransactionId xid;
} Appended;

static struct
{
	Appended	batch[MAX_BATCHES];
	int			n;
}			model[PARTITIONS];

static bool broken;
static int32 topic_partitions;
static TransactionId xid;		/* of the transaction that goes on, or Invalid */
static TransactionId next_xid;
static Relation rel;

/* ------------------------------------------------------------------------
 * What may fail
 * ------------------------------------------------------------------------
 */

static bool
expected(int elevel, int code, const char *message)
{
	if (elevel != ERROR)
		return elevel < ERROR;
	if (code == ERRCODE_DISK_FULL || code == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
		return true;
	/* with broken pages, what says that they are; not "invalid memory alloc request size" */
	return broken && code != ERRCODE_OUT_OF_MEMORY && strncmp(message, "invalid mem", 11) != 0;
}

static uint32
sum_of(const uint8 *data, uint32 len)
{
	pg_crc32c	crc;

	/* base offset and leader epoch are the log's */
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data + 8, 4);
	COMP_CRC32C(crc, data + 16, len - 16);
	FIN_CRC32C(crc);
	return crc;
}

/* ------------------------------------------------------------------------
 * Operations
 * ------------------------------------------------------------------------
 */

static uint8 *
make_batch(int records, uint32 value_len, int64 timestamp, uint32 *len)
{
	static KBatchBuilder builder;
	static uint8 *value;
	static bool ready;
	KBatchSeal	seal;
	const uint8 *data;
	size_t		size;
	uint8	   *copy;

	if (!ready)
	{
		kbatch_builder_init(&builder, &kallocator_malloc, 2 * MAX_VALUE);
		value = malloc(MAX_VALUE);
		for (int i = 0; i < MAX_VALUE; i++)
			value[i] = (uint8) (i * 7);
		ready = true;
	}
	kbatch_builder_reset(&builder);
	for (int i = 0; i < records; i++)
	{
		if (kbatch_builder_append(&builder, timestamp + i, (const uint8 *) "key", 3, value,
								  (int32) value_len, NULL, 0) != KBATCH_OK)
			break;
	}
	kbatch_seal_init(&seal);
	if (kbatch_builder_finish(&builder, &seal, NULL, NULL, &data, &size) != KBATCH_OK)
		fake_fail("a batch could not be built");
	copy = palloc(size);
	memcpy(copy, data, size);
	*len = (uint32) size;
	return copy;
}

static KLogPartition *
attach(Input *in, int *partition)
{
	*partition = take8(in) % PARTITIONS;
	return klog_attach(rel, *partition, false);
}

static void
begin_transaction(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (TransactionIdIsValid(xid) || next_xid >= FAKE_XIDS)
		return;
	fake_transaction_begin();
	CurrentMemoryContext = caller;
	xid = next_xid++;
	fake_xacts[xid] = FAKE_RUNNING;
}

static void
end_transaction(bool commit)
{
	MemoryContext caller = CurrentMemoryContext;

	if (!TransactionIdIsValid(xid))
		return;
	if (commit)
	{
		XLogBeginInsert();
		XactLastCommitEnd = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_HEARTBEAT);
	}
	fake_xacts[xid] = commit ? FAKE_COMMITTED : FAKE_ABORTED;
	xid = InvalidTransactionId;
	fake_transaction_end(commit);
	CurrentMemoryContext = caller;
}

#define MAX_AT_ONCE	24

static void
append(Input *in)
{
	static const uint32 lengths[] = {0, 10, 100, 1000, 4000, 8000, 8100, 30000, 270000};
	KLogBatch	batches[MAX_AT_ONCE] = {0};
	KLogAppend	how = {.leader_epoch = 3,.partitions = topic_partitions};
	int			partition;
	KLogPartition *part = attach(in, &partition);
	int			n = 1 + take8(in) % MAX_AT_ONCE;
	uint8		flags = take8(in);
	uint32		value_len = lengths[take8(in) % lengthof(lengths)] + take8(in);
	int64		timestamp = (int16) take16(in);
	int			from = 0;
	int64		next = klog_end_offset(part);

	how.segment_bytes = flags & 1 ? 100 : flags & 2 ? 20000 : 1024 * 1024;
	how.segment_ms = flags & 4 ? 5 : 1000000;
	how.explicit_offsets = (flags & 0x30) == 0x30;
	if (flags & 8)
		begin_transaction();
	if (TransactionIdIsValid(xid) && (flags & 0x40) == 0)
		how.xid = xid;
	if (value_len > 10000)
		n = 1 + n % 2;
	if (value_len > 100000)
		n = 1;
	for (int i = 0; i < n; i++)
	{
		KBatchHeader header;

		batches[i].data = make_batch(1 + (value_len < 1000 ? i % 3 : 0), value_len, timestamp + i,
									 &batches[i].len);
		(void) kbatch_header_read(batches[i].data, batches[i].len, &header);
		batches[i].last_offset_delta = header.last_offset_delta;
		batches[i].max_timestamp = header.max_timestamp;
		if (how.explicit_offsets)
		{
			next += flags >> 7 ? take8(in) : 0;
			batches[i].base_offset = next;
			next += header.last_offset_delta + 1;
		}
	}
	klog_lock(part, false);
	while (from < n)
	{
		int			done = 0;
		KLogResult	result = klog_append(rel, part, &how, batches + from, n - from, &done,
											 NULL);

		if (result == KLOG_NO_EXTENT)
		{
			klog_unlock(part);
			(void) klog_grow(rel, false);
			klog_lock(part, false);
			continue;
		}
		if (result != KLOG_OK)
			break;
		for (int i = from; i < from + done; i++)
		{
			Appended   *last = &model[partition].batch[model[partition].n];

			if (model[partition].n == MAX_BATCHES)
				break;
			*last = (Appended) {batches[i].base_offset, batches[i].last_offset_delta + 1,
				batches[i].len, sum_of(batches[i].data, batches[i].len), how.xid};
			model[partition].n++;
		}
		from += done;
	}
	klog_unlock(part);
}

static void
check_read(int partition, const KLogRead *r, const uint8 *buf)
{
	KBatchWalker walker;
	KBatchHeader header;
	const uint8 *batch;
	int			at = 0;
	Appended   *all = model[partition].batch;

	if (r->len > r->cap)
		fake_fail("more was read than there was room for");
	kbatch_walk_begin(&walker, buf, r->len);
	for (int i = 0; i < r->nbatches; i++)
	{
		if (kbatch_walk_next(&walker, &header, &batch) != KBATCH_OK)
			fake_fail("what was read is no row of batches");
		if (broken || model[partition].n == MAX_BATCHES)
			continue;
		while (at < model[partition].n && all[at].base_offset < header.base_offset)
			at++;
		if (at == model[partition].n || all[at].base_offset != header.base_offset)
		{
			/* a filler, up to the next batch, where offsets were left out */
			if (!kbatch_is_control(&header) ||
				(at < model[partition].n && all[at].base_offset <=
				 header.base_offset + header.last_offset_delta) ||
				(at > 0 && all[at - 1].base_offset + all[at - 1].records > header.base_offset))
				fake_fail("a batch was read that was not appended");
			continue;
		}
		if (header.last_offset_delta != all[at].records - 1)
			fake_fail("a batch covers other offsets than it did");
		if (TransactionIdIsValid(all[at].xid) && fake_xacts[all[at].xid] != FAKE_COMMITTED)
		{
			if (fake_xacts[all[at].xid] == FAKE_RUNNING || !kbatch_is_control(&header))
				fake_fail("a batch of a transaction that did not commit was read");
		}
		else if (kbatch_size(&header) != all[at].len ||
				 sum_of(batch, (uint32) kbatch_size(&header)) != all[at].sum)
			fake_fail("a batch reads other than it was appended");
	}
}

/* The bytes of a read, lent from their pages, a few at a time; must be those that were copied. */
static void
lend(KLogPartition *part, const KLogRead *r, Input *in)
{
	KLogSpan	span = {r->begin.segment, r->begin.page, r->begin.pos};
	uint8		step = take8(in);
	Size		at = 0;

	span.remaining = r->len;
	for (int loans = 0; span.remaining > 0 && loans < 2000; loans++)
	{
		struct iovec iov[KLOG_LEND_MAX];
		int			niov = 1 + step % KLOG_LEND_MAX;
		KLogPosition cold;
		KLogResult	result = klog_lend(rel, part, &span, step & 1 ? 100000 : 1 + step * 16, iov,
									   &niov, &cold);
		Size		lent = 0;

		if (result != KLOG_OK)
		{
			if (!broken && result != KLOG_COLD)
				fake_fail("what was read cannot be lent: %d", result);
			break;
		}
		if (niov < 1 || niov > KLOG_LEND_MAX)
			fake_fail("a loan of %d runs", niov);
		for (int i = 0; i < niov; i++)
		{
			if (iov[i].iov_len > r->len - at - lent)
				fake_fail("more is lent than was read");
			if (memcmp(iov[i].iov_base, r->buf + at + lent, iov[i].iov_len) != 0 && !broken)
				fake_fail("what is lent is not what was read");
			lent += iov[i].iov_len;
		}
		/* the socket takes all of it, or a part */
		if (step & 2)
			lent = lent - lent * (step % 5) / 8;
		klog_lend_end(&span, lent);
		at += lent;
		if (span.remaining != r->len - at)
			fake_fail("a span has lost count");
		if (lent == 0)
			step = 0xF9;
	}
}

static void
read_log(Input *in)
{
	static const Size caps[] = {0, 60, 100, 5000, 60000, 700000};
	int			partition;
	KLogPartition *part = attach(in, &partition);
	KLogRead	r = {0};
	int			nreads = 1 + take8(in) % 8;
	uint8		flags = take8(in);

	r.offset = klog_log_start(part) + take8(in);
	r.limit = klog_high_watermark(part);
	r.cap = caps[take8(in) % lengthof(caps)];
	r.nowait = flags & 1;
	r.position = KLOG_NO_POSITION;
	if (flags & 2)
		r.position = (KLogPosition) {r.offset, take8(in), take8(in), take16(in)};
	/* only what the log itself has given is a position; on broken pages it may be anything */
	if (!broken)
		r.position = KLOG_NO_POSITION;
	r.buf = palloc(r.cap);
	for (int i = 0; i < nreads; i++)
	{
		KLogResult	result = klog_read(rel, part, &r);

		if (result == KLOG_CORRUPT && !broken)
			fake_fail("a sound partition reads as corrupt");
		if (result == KLOG_COLD)
		{
			klog_reader_request(rel, part, r.cold, 100000, 0);
			break;
		}
		if (result == KLOG_TOO_SMALL)
		{
			if (r.needed > 2 * FAKE_BLOCKS * BLCKSZ)
				fake_fail("a batch of %zu bytes is asked for", r.needed);
			r.cap = r.needed;
			r.buf = palloc(r.cap);
			continue;
		}
		if (result != KLOG_OK)
			break;
		check_read(partition, &r, r.buf);
		if ((flags & 4) != 0 && r.len > 0 && r.begin.page != 0)
			lend(part, &r, in);
		if (r.len == 0 && r.next_offset == r.offset)
			break;
		if (r.next_offset < r.offset && !broken)
			fake_fail("reading went back");
		r.offset = r.next_offset;
	}
}

static void
find(Input *in)
{
	int			partition;
	KLogPartition *part = attach(in, &partition);
	uint8		flags = take8(in);
	int64		value = (int16) take16(in);
	int64		limit = klog_high_watermark(part);
	KLogPosition cold;
	KLogPosition *coldp = flags & 1 ? &cold : NULL;
	KLogSearch	search = {0};
	KLogSearch *searchp = flags & 1 ? &search : NULL;
	KLogEpochEnd end;
	KLogFound	found;

	switch (flags / 2 % 4)
	{
		case 0:
			do
				found = klog_find_timestamp(rel, part, value, limit, searchp);
			while (search.more);
			if (!broken && search.cold.page == 0 && found.offset >= 0 &&
				(found.timestamp < value || found.offset >= limit))
				fake_fail("a record was found by time that is not what was looked for");
			break;
		case 1:
			do
				found = klog_find_max_timestamp(rel, part, limit, searchp);
			while (search.more);
			break;
		case 2:
			(void) klog_epoch_at(rel, part, value, coldp);
			break;
		default:
			(void) klog_epoch_end(rel, part, (int32) value, &end, coldp);
			break;
	}
}

static void
on_problem(void *arg, int32 partition, BlockNumber block, int64 offset, const char *problem)
{
	if (!broken)
		fake_fail("kafka.check_topic: partition %d block %u offset %lld: %s", partition, block,
				  (long long) offset, problem);
}

static void
on_batch(void *arg, const uint8 *header, XLogRecPtr lsn)
{
	(*(int64 *) arg) += header[KBATCH_HEADER_SIZE - 1];
}

static void
walk(Input *in)
{
	int			partition;
	KLogPartition *part = attach(in, &partition);
	int64		sum = 0;
	int64		from = klog_log_start(part) + take8(in);

	while (from >= 0)
	{
		int64		next = klog_walk_headers(rel, part, from, 1 + take8(in) % 4, on_batch, &sum);

		if (next >= 0 && next <= from)
		{
			if (!broken)
				fake_fail("a walk over headers goes back");
			break;
		}
		from = next;
	}
}

static void
sample(Input *in)
{
	static uint8 buf[200000];
	Size		len;
	int32		partition;

	if (klog_read_block(rel, take16(in) % (fake_blocks(0) + 2), buf, sizeof(buf), &len,
						&partition) && len > sizeof(buf))
		fake_fail("more was read from a block than there was room for");
}

/* What a new start finds out is what was known. */
static void
restart(void)
{
	int64		start[PARTITIONS];
	int64		end[PARTITIONS];
	int64		bytes[PARTITIONS];

	end_transaction(false);
	for (int i = 0; i < PARTITIONS && !broken; i++)
	{
		KLogPartition *part = klog_attach(rel, i, false);

		start[i] = klog_log_start(part);
		end[i] = klog_end_offset(part);
		bytes[i] = klog_size_bytes(part);
	}
	klog_forget(RelationGetRelid(rel));
	for (int i = 0; i < PARTITIONS && !broken; i++)
	{
		KLogPartition *part = klog_attach(rel, i, false);

		if (klog_log_start(part) != start[i] || klog_end_offset(part) != end[i])
			fake_fail("a start finds offsets %lld to %lld, there were %lld to %lld",
					  (long long) klog_log_start(part), (long long) klog_end_offset(part),
					  (long long) start[i], (long long) end[i]);
		(void) bytes;
	}
}

static void
flush_and_publish(void)
{
	klog_request_flush(fake_insert_lsn());
	if (!klog_flusher_turn())
		klog_publish();
}

/* Overwrites a few bytes of a page, or the page. */
static void
damage(Input *in)
{
	uint32		nblocks = fake_blocks(0);
	BlockNumber block = take16(in) % Max(nblocks, 1);
	int16		at = (int16) take16(in);
	uint8		n = take8(in);
	size_t		len = n % 32;
	const uint8 *bytes = take_bytes(in, &len);
	int			from = at >= 0 ? at % BLCKSZ : BLCKSZ + at % BLCKSZ;
	Buffer		buffer;

	if (!broken || nblocks == 0)
		return;
	if (n >= 224)
		fake_write_page(0, block, bytes, len);
	else
	{
		buffer = ReadBuffer(rel, block);
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		memcpy((char *) BufferGetPage(buffer) + from, bytes, Min(len, (size_t) (BLCKSZ - from)));
		UnlockReleaseBuffer(buffer);
	}
}

static void
operation(void *arg)
{
	Input	   *in = arg;
	uint8		op = take8(in);
	int			partition;

	fake_reads_left = 100000;
	switch (op % 16)
	{
		case 0:
		case 1:
		case 2:
			append(in);
			break;
		case 3:
			end_transaction(true);
			break;
		case 4:
			end_transaction(false);
			break;
		case 5:
		case 6:
			read_log(in);
			break;
		case 7:
			find(in);
			break;
		case 8:
			(void) klog_resolve(rel);
			break;
		case 9:
			restart();
			break;
		case 10:
			flush_and_publish();
			break;
		case 11:
			damage(in);
			break;
		case 12:
			klog_check(rel, on_problem, NULL);
			break;
		case 13:
			walk(in);
			break;
		case 14:
			sample(in);
			break;
		case 15:
			if (op & 0x80)
				fake_evict();
			else if (op & 0x40)
				(void) klog_grow(rel, false);
			else if (op & 0x20)
			{
				KLogPartition *part = attach(in, &partition);

				klog_write_mark(rel, part, klog_log_start(part), klog_log_start(part));
			}
			else if (!TransactionIdIsValid(xid))
			{
				KLogReaderRequest request;

				if (klog_reader_take(&request))
					klog_reader_do(&request);
			}
			break;
	}
}

/* A partition with some of everything, for the damage to be done to. */
static void
stock(void *arg)
{
	static const uint8 program[] = {
		0, 0, 5, 0, 2, 0, 1, 0,	/* batches */
		0, 0, 2, 1, 4, 0, 2, 0,	/* new segments */
		0, 1, 3, 8, 3, 0, 3, 0,	/* in a transaction */
		4,						/* which aborts */
		0, 1, 3, 8, 2, 0, 3, 0,
		3,						/* or commits */
		10,
		0, 1, 3, 8, 3, 0, 3, 0,
	4};
	Input		in = {program, sizeof(program)};

	while (in.left > 0)
		operation(&in);
	/* a long batch, and so many segments that some are listed in a map page */
	for (int i = 0; i < 70 && arg != NULL; i++)
	{
		static const uint8 one[] = {0, 2, 0, 1, 1, 0, 7, 0};
		static const uint8 one_long[] = {0, 1, 0, 0, 8, 0, 9, 0};

		in = i > 0 ? (Input) {one, sizeof(one)} : (Input) {one_long, sizeof(one_long)};
		operation(&in);
	}
	flush_and_publish();
}

static void
final_look(void *arg)
{
	flush_and_publish();
	(void) klog_resolve(rel);
	for (int i = 0; i < PARTITIONS; i++)
	{
		uint8		program[] = {i, 7, 4, 0, 4, 0x13, 0x27, 0x3A, 0xFF};
		Input		in = {program, sizeof(program)};

		read_log(&in);
	}
	klog_check(rel, on_problem, NULL);
	restart();
	flush_and_publish();
	klog_check(rel, on_problem, NULL);
}

/* Runs it in memory of its own; an error ends the transaction. */
static void
run(void (*fn) (void *arg), void *arg)
{
	MemoryContext ctx = AllocSetContextCreate(TopMemoryContext, "operation",
											  ALLOCSET_DEFAULT_SIZES);

	CurrentMemoryContext = ctx;
	if (!fake_try(fn, arg))
	{
		end_transaction(false);
		if (IsTransactionState())
			AbortCurrentTransaction();	/* a reader's own */
	}
	CurrentMemoryContext = TopMemoryContext;
	MemoryContextDelete(ctx);
	if (!TransactionIdIsValid(xid))
		fake_check_released();
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	Input		in = {data, size};
	uint8		flags;

	fake_start();
	if (fake_error_expected == NULL)
	{
		fake_error_expected = expected;
		klog_xact_register();
	}
	flags = take8(&in);
	broken = false;
	fake_begin(flags);
	fake_storage_reset();
	fake_shmem_reset();
	klog_shmem_init();
	rel = fake_relation(0);
	xid = InvalidTransactionId;
	next_xid = FirstNormalTransactionId;
	memset(model, 0, sizeof(model));
	topic_partitions = flags & SMALL_EXTENTS ? 2000 : 20;
	fake_full_pages = flags & FULL_PAGES ? 30 : 0;
	fake_memory_limit = 64 * 1024 * 1024;
	if (flags & SMALL_DISK)
		fake_disk = 300;

	if (flags & BROKEN)
	{
		run(stock, flags & 0x10 ? &in : NULL);
		end_transaction(false);
		broken = true;
		fake_replay = false;
		klog_forget(RelationGetRelid(rel));
	}
	for (int i = 0; i < MAX_OPS && in.left > 0; i++)
		run(operation, &in);
	end_transaction(false);
	fake_reads_left = 0;
	run(final_look, NULL);
	if (fake_memory_used() > 1024 * 1024)
		fake_fail("%zu bytes of memory are left", fake_memory_used());
	return 0;
}

/* ------------------------------------------------------------------------
 * Operations that say something
 * ------------------------------------------------------------------------
 */

typedef struct Output
{
	uint8	   *data;
	size_t		len;
	size_t		max;
	uint64		random;
} Output;

static uint32
below(Output *out, uint32 n)
{
	out->random = out->random * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (uint32) (out->random >> 33) % n;
}

static void
put(Output *out, uint64 value, int bytes)
{
	for (int i = 0; i < bytes && out->len < out->max; i++)
		out->data[out->len++] = (uint8) (value >> (8 * i));
}

/* A field of a page's header, tag or content gets a value of the kind that it might have. */
static void
put_damage(Output *out)
{
	static const uint32 values[] = {0, 1, 2, 24, 61, 100, 1900, 8136, 8192, 0x7FFF, 0xFFFF,
	0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
	uint32		value = below(out, 2) ? values[below(out, lengthof(values))] : below(out, 300);
	int			at;

	put(out, 11, 1);
	put(out, below(out, 3) ? below(out, 24) : below(out, 400), 2);
	switch (below(out, 4))
	{
		case 0:
			at = -(int) (2 * below(out, (KLOG_TAG_SIZE + 40) / 2));
			break;
		case 1:
			at = 2 * (int) below(out, 12);
			break;
		default:
			at = KLOG_DATA_START + 4 * (int) below(out, 60);
			break;
	}
	put(out, (uint16) at, 2);
	if (below(out, 3) == 0)
	{
		/* numbers in batches are big-endian */
		put(out, 4, 1);
		put(out, pg_bswap32(value), 4);
	}
	else
	{
		int			n = 1 << below(out, 4);

		put(out, n, 1);
		put(out, value, Min(n, 4));
		put(out, value == 0xFFFFFFFF ? value : 0, n - Min(n, 4));
	}
}

static void
put_operation(Output *out)
{
	switch (below(out, 12))
	{
		case 0:
		case 1:
		case 2:
			put(out, 0, 1);
			put(out, below(out, PARTITIONS), 1);
			put(out, below(out, 4) ? below(out, 4) : below(out, 24), 1);
			put(out, below(out, 256), 1);
			put(out, below(out, 9), 1);
			put(out, below(out, 256), 1);
			put(out, below(out, 100), 2);
			break;
		case 3:
			put(out, 3 + below(out, 2), 1);
			break;
		case 4:
		case 5:
			put(out, 5, 1);
			put(out, below(out, PARTITIONS), 1);
			put(out, below(out, 8), 1);
			put(out, below(out, 2) ? 4 : below(out, 8), 1);
			put(out, below(out, 40), 1);
			put(out, below(out, 6), 1);
			put(out, below(out, 5), 1);
			put(out, below(out, 20), 1);
			put(out, below(out, 9000), 2);
			break;
		case 6:
		case 7:
			put(out, 7, 1);
			put(out, below(out, PARTITIONS), 1);
			put(out, below(out, 8), 1);
			put(out, below(out, 110) - 5, 2);
			break;
		case 8:
			put(out, 13, 1);
			put(out, below(out, PARTITIONS), 1);
			put(out, below(out, 20), 1);
			put(out, below(out, 4), 1);
			break;
		case 9:
			put(out, 14, 1);
			put(out, below(out, 200), 2);
			break;
		default:
			put(out, 8 + below(out, 8) + 16 * below(out, 16), 1);
			break;
	}
}

size_t
LLVMFuzzerCustomMutator(uint8 *data, size_t size, size_t max_size, unsigned int seed)
{
	Output		out = {data, size, max_size, seed};
	int			n;

	if (size > 1 && below(&out, 2))
		return LLVMFuzzerMutate(data, size, max_size);
	if (size == 0 || size + 20 > max_size || below(&out, 20) == 0)
	{
		out.len = 0;
		put(&out, below(&out, 32), 1);
	}
	n = 1 + below(&out, 6);
	for (int i = 0; i < n; i++)
	{
		if ((data[0] & BROKEN) != 0 && below(&out, 2))
			put_damage(&out);
		else
			put_operation(&out);
	}
	return out.len;
}
