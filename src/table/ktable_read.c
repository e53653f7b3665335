/*
 * ktable_read.c
 *		The reader: batches from the log, records from batches, rows from records.
 *
 * Everything that reads a topic in SQL comes through here: plain scans, the custom scan,
 * kafka.fetch, ANALYZE.  A reader copies some 256 KB of whole batches out of the log at a
 * time and holds no pin or lock while its caller works on them, which may take as long as a
 * cursor stays open.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "batch/kbatch.h"
#include "log/klog.h"
#include "table/ktable_read.h"
#include "table/ktable_row.h"

/* A reader's first chunk, doubled up to the greatest as it goes on: LIMIT may end it early. */
#define KTABLE_FIRST_CHUNK	(32 * 1024)
#define KTABLE_CHUNK_BYTES	(256 * 1024)

/* ANALYZE has one try at a block: room for the batches of a topic with Kafka's defaults. */
#define KTABLE_ANALYZE_BYTES	(2 * 1024 * 1024)

/* Columns that follow from a batch's header alone when its offsets have no gaps. */
#define KTABLE_HEADER_COLUMNS \
	(KTABLE_COLUMN(KTABLE_PARTITION) | KTABLE_COLUMN(KTABLE_OFFSET))

typedef enum KTableReaderState
{
	KREADER_CHUNK,				/* read the next chunk of the log */
	KREADER_BATCH,				/* look at the next batch of the chunk */
	KREADER_RECORDS,			/* records come from the iterator */
	KREADER_RUN					/* records follow from the batch's header */
} KTableReaderState;

struct KTableReader
{
	MemoryContext context;
	Relation	rel;
	int32		partition;
	KLogPartition *part;
	int64		from;			/* first offset that is wanted */
	int64		limit;
	uint32		columns;
	KTableReaderState state;
	bool		one_chunk;		/* the chunk was loaded by our caller: end with it */
	bool		widen;			/* begin with the first batch's first record, if that is */
	int64		widen_to;		/* not below this offset */

	KLogRead	read;			/* its buffer is the chunk */
	KBatchWalker walker;
	KBatchIterator iterator;
	KBuffer		scratch;
	int64		run_next;		/* KREADER_RUN: offsets to be returned */
	int64		run_end;
	int64		returned;		/* offset of the last row */

	KTableRow	row;
	KTableCounters counters;
};

/* ------------------------------------------------------------------------
 * Memory and codecs
 * ------------------------------------------------------------------------
 */

/* Chunks begin with their size, since palloc doesn't tell it. */
#define KTABLE_CHUNK_PREFIX MAXALIGN(sizeof(Size))

/* As KAllocator asks for: NULL instead of an ERROR. */
static void *
ktable_allocator_resize(void *arg, void *chunk, size_t size)
{
	char	   *result;

	if (size > MaxAllocHugeSize - KTABLE_CHUNK_PREFIX)
		return NULL;
	result = MemoryContextAllocExtended((MemoryContext) arg, size + KTABLE_CHUNK_PREFIX,
										MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (result == NULL)
		return NULL;
	*(Size *) result = size;
	result += KTABLE_CHUNK_PREFIX;
	if (chunk != NULL)
	{
		Size		old = *(Size *) ((char *) chunk - KTABLE_CHUNK_PREFIX);

		memcpy(result, chunk, Min(old, size));
		pfree((char *) chunk - KTABLE_CHUNK_PREFIX);
	}
	return result;
}

static void
ktable_allocator_release(void *arg, void *chunk)
{
	if (chunk != NULL)
		pfree((char *) chunk - KTABLE_CHUNK_PREFIX);
}

const KAllocator *
ktable_allocator(MemoryContext context)
{
	KAllocator *allocator = MemoryContextAlloc(context, sizeof(KAllocator));

	allocator->resize = ktable_allocator_resize;
	allocator->release = ktable_allocator_release;
	allocator->arg = context;
	return allocator;
}

/* Much may come out of little: a statement can be cancelled in the middle of it. */
static void
ktable_codec_interrupt(void)
{
	CHECK_FOR_INTERRUPTS();
}

KCodec *
ktable_codec(void)
{
	static KCodec *codec = NULL;

	if (codec == NULL)
		codec = kcodec_create(&kallocator_malloc);
	if (codec == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	kcodec_set_interrupt(codec, ktable_codec_interrupt);
	return codec;
}

/* ------------------------------------------------------------------------
 * What may be seen
 * ------------------------------------------------------------------------
 */

typedef struct KTableSeenKey
{
	Oid			relid;
	int32		partition;
} KTableSeenKey;

typedef struct KTableSeen
{
	KTableSeenKey key;
	int64		end;
} KTableSeen;

/* In TopTransactionContext; NULL when nothing was looked at, or nothing is to be remembered. */
static HTAB *ktable_seen = NULL;

int64
ktable_visible_end(Relation rel, int32 partition)
{
	KLogPartition *part = klog_attach(rel, partition, false);
	KTableSeenKey key = {RelationGetRelid(rel), partition};
	KTableSeen *seen;
	bool		found;

	if (!IsolationUsesXactSnapshot())
		return klog_high_watermark(part);

	if (ktable_seen == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(KTableSeenKey);
		ctl.entrysize = sizeof(KTableSeen);
		ctl.hcxt = TopTransactionContext;
		ktable_seen = hash_create("kafka_log ends seen", 64, &ctl,
								  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	seen = hash_search(ktable_seen, &key, HASH_ENTER, &found);
	if (!found)
		seen->end = klog_high_watermark(part);
	return seen->end;
}

KTableRange *
ktable_visible_ranges(Relation rel, int *nranges)
{
	int32		n = klog_stored_partitions(rel);
	KTableRange *ranges = palloc(sizeof(KTableRange) * Max(n, 1));

	for (int32 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ranges[i].partition = i;
		ranges[i].from = 0;
		ranges[i].limit = ktable_visible_end(rel, i);
	}
	*nranges = n;
	return ranges;
}

void
ktable_read_at_xact_end(void)
{
	ktable_seen = NULL;
}

/* ------------------------------------------------------------------------
 * The reader
 * ------------------------------------------------------------------------
 */

/* One that is nowhere yet: ktable_reader_seek comes next. */
KTableReader *
ktable_reader_make(Relation rel, uint32 columns)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "kafka_log reader",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	KTableReader *reader = palloc0(sizeof(KTableReader));

	reader->context = context;
	reader->rel = rel;
	reader->columns = columns;
	reader->partition = -1;
	kbuffer_init(&reader->scratch, ktable_allocator(context), 0);
	ktable_row_init(&reader->row);
	MemoryContextSwitchTo(old);
	return reader;
}

KTableReader *
ktable_reader_open(Relation rel, int32 partition, int64 from, int64 limit, uint32 columns)
{
	KTableReader *reader = ktable_reader_make(rel, columns);

	ktable_reader_seek(reader, partition, from, limit);
	return reader;
}

void
ktable_reader_seek(KTableReader *reader, int32 partition, int64 from, int64 limit)
{
	if (reader->partition != partition)
	{
		reader->part = klog_attach(reader->rel, partition, false);
		reader->partition = partition;
		reader->read.position = KLOG_NO_POSITION;
	}
	else if (from < reader->read.offset)
		reader->read.position = KLOG_NO_POSITION;
	reader->from = Max(from, 0);
	reader->limit = limit;
	reader->read.offset = reader->from;
	reader->state = KREADER_CHUNK;
	reader->one_chunk = false;
	reader->widen = false;
}

/*
 * After ktable_reader_seek: the batch that holds the first offset is returned from its first
 * record on, but nothing below floor.  ktable_reader_from tells where it began.
 */
void
ktable_reader_widen(KTableReader *reader, int64 floor)
{
	reader->widen = true;
	reader->widen_to = floor;
}

int64
ktable_reader_from(const KTableReader *reader)
{
	return reader->from;
}

void
ktable_reader_close(KTableReader *reader)
{
	MemoryContextDelete(reader->context);
}

const KTableCounters *
ktable_reader_counters(const KTableReader *reader)
{
	return &reader->counters;
}

int64
ktable_reader_offset(const KTableReader *reader)
{
	return reader->returned;
}

static void
ktable_reader_reserve(KTableReader *reader, Size cap)
{
	if (reader->read.cap >= cap)
		return;
	if (reader->read.buf != NULL)
		pfree(reader->read.buf);
	reader->read.buf = NULL;
	reader->read.cap = 0;
	reader->read.buf = MemoryContextAllocHuge(reader->context, cap);
	reader->read.cap = cap;
}

/* The chunk, for a caller that fills it by himself and then calls ktable_reader_load. */
uint8 *
ktable_reader_buffer(KTableReader *reader, Size *cap)
{
	ktable_reader_reserve(reader, KTABLE_ANALYZE_BYTES);
	*cap = reader->read.cap;
	return reader->read.buf;
}

void
ktable_reader_load(KTableReader *reader, int32 partition, Size len)
{
	reader->partition = partition;
	reader->from = 0;
	reader->limit = PG_INT64_MAX;
	reader->one_chunk = true;
	kbatch_walk_begin(&reader->walker, reader->read.buf, len);
	reader->state = KREADER_BATCH;
}

static pg_attribute_noreturn() void
ktable_reader_corrupt(KTableReader *reader, int64 offset, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("could not read offset %lld of partition %d of topic table \"%s\"",
					(long long) offset, reader->partition,
					RelationGetRelationName(reader->rel)),
			 errdetail_internal("%s.", detail)));
}

/* The next chunk of the log; false at the end of the range. */
static bool
ktable_reader_read(KTableReader *reader)
{
	KLogRead   *read = &reader->read;

	if (read->cap == 0)
		ktable_reader_reserve(reader, KTABLE_FIRST_CHUNK);
	else if (read->cap < KTABLE_CHUNK_BYTES && read->offset > reader->from)
		ktable_reader_reserve(reader, Min(read->cap * 2, KTABLE_CHUNK_BYTES));
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (read->offset >= reader->limit)
			return false;
		read->limit = reader->limit;
		read->nowait = false;
		switch (klog_read(reader->rel, reader->part, read))
		{
			case KLOG_OK:
				reader->counters.pages += read->npages;
				if (read->len == 0)
					return false;
				reader->counters.bytes += read->len;
				read->offset = read->next_offset;
				kbatch_walk_begin(&reader->walker, read->buf, read->len);
				return true;

			case KLOG_TOO_SMALL:
				/* One batch that is larger than all that we usually read. */
				if (read->needed <= read->cap || read->needed > MaxAllocHugeSize)
					ktable_reader_corrupt(reader, read->offset, "The length of a batch is impossible");
				ktable_reader_reserve(reader, read->needed);
				break;

			case KLOG_OUT_OF_RANGE:
				{
					/* Retention went past us, or we start below it: go on where the log does. */
					int64		start = klog_log_start(reader->part);

					if (read->offset >= start)
						return false;
					read->offset = start;
					read->position = KLOG_NO_POSITION;
					break;
				}

			case KLOG_CORRUPT:
				ktable_reader_corrupt(reader, read->offset, "The log's pages contradict each other");

			default:
				elog(ERROR, "unexpected result of klog_read");
		}
	}
}

/*
 * Looks at the next batch of the chunk, and sets the state in which its rows are
 * returned; a batch without any leaves KREADER_BATCH, the chunk's end KREADER_CHUNK.
 */
static void
ktable_reader_enter(KTableReader *reader)
{
	KBatchHeader header;
	const uint8 *batch;
	KBatchResult result = kbatch_walk_next(&reader->walker, &header, &batch);

	if (result == KBATCH_END)
	{
		reader->state = KREADER_CHUNK;
		return;
	}
	if (result != KBATCH_OK)
		ktable_reader_corrupt(reader, reader->from, "A batch's header is damaged");

	reader->counters.batches++;
	if (reader->widen)
	{
		reader->widen = false;
		reader->from = Min(reader->from, Max(header.base_offset, reader->widen_to));
	}
	if (kbatch_is_control(&header) ||
		kbatch_next_offset(&header) <= reader->from || header.base_offset >= reader->limit)
		return;

	/* Without key, value or timestamp a batch without gaps needs no decompression. */
	if ((reader->columns & ~KTABLE_HEADER_COLUMNS) == 0 &&
		header.record_count == header.last_offset_delta + 1)
	{
		reader->run_next = Max(header.base_offset, reader->from);
		reader->run_end = Min(kbatch_next_offset(&header), reader->limit);
		reader->state = KREADER_RUN;
		return;
	}

	CHECK_FOR_INTERRUPTS();
	reader->scratch.max = kbatch_max_record_bytes(kbatch_size(&header));
	result = kbatch_iterate(&reader->iterator, batch, kbatch_size(&header), ktable_codec(),
							&reader->scratch);
	if (result == KBATCH_NO_MEMORY)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (result != KBATCH_OK)
		ktable_reader_corrupt(reader, header.base_offset,
							  reader->iterator.message ? reader->iterator.message : "A batch is damaged");
	reader->state = KREADER_RECORDS;
}

bool
ktable_reader_next(KTableReader *reader, Datum *values, bool *isnull)
{
	for (;;)
	{
		switch (reader->state)
		{
			case KREADER_CHUNK:
				if (reader->one_chunk || !ktable_reader_read(reader))
					return false;
				reader->state = KREADER_BATCH;
				break;

			case KREADER_BATCH:
				ktable_reader_enter(reader);
				break;

			case KREADER_RECORDS:
				{
					KBatchRecord record;
					KBatchResult result = kbatch_iterator_next(&reader->iterator, &record);

					if (result == KBATCH_END)
					{
						reader->state = KREADER_BATCH;
						break;
					}
					if (result != KBATCH_OK)
						ktable_reader_corrupt(reader, reader->iterator.header.base_offset,
											  reader->iterator.message);
					if (record.offset < reader->from)
						break;
					if (record.offset >= reader->limit)
					{
						reader->state = KREADER_BATCH;
						break;
					}
					reader->returned = record.offset;
					ktable_row_from_record(&reader->row, reader->partition, &record,
										   reader->columns, values, isnull);
					return true;
				}

			case KREADER_RUN:
				if (reader->run_next >= reader->run_end)
				{
					reader->state = KREADER_BATCH;
					break;
				}
				reader->returned = reader->run_next++;
				for (int i = 0; i < KTABLE_NCOLUMNS; i++)
				{
					values[i] = (Datum) 0;
					isnull[i] = true;
				}
				if (reader->columns & KTABLE_COLUMN(KTABLE_PARTITION))
				{
					values[KTABLE_PARTITION] = Int32GetDatum(reader->partition);
					isnull[KTABLE_PARTITION] = false;
				}
				if (reader->columns & KTABLE_COLUMN(KTABLE_OFFSET))
				{
					values[KTABLE_OFFSET] = Int64GetDatum(reader->returned);
					isnull[KTABLE_OFFSET] = false;
				}
				return true;
		}
	}
}
