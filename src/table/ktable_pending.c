/*
 * ktable_pending.c
 *		Records that the current transaction has produced: kept as record batches in the
 *		backend, appended when the transaction commits. When there are many they are spilled to a
 *		temporary file, or appended at once if the transaction is about to end.
 *
 * For each partition there are finished batches, in order, and one that is being built.  A
 * savepoint's rollback has to take its records back from the end of both.  So each batch
 * carries marks: "from this record on, they belong to nesting level n"; levels rise from mark
 * to mark, since a level's records can only follow those of an outer one while it is open.  A
 * rollback cuts at the first mark of its level; a release lowers its level's marks by one.
 * Both work without memory, since they may not fail: a finished batch is only told how many of
 * its records to keep, and made anew when its partition is next used.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "batch/kbatch_build.h"
#include "kguc.h"
#include "kstop.h"
#include "table/ktable_insert.h"
#include "table/ktable_pending.h"
#include "table/ktable_read.h"

/* Batches that are handed to the log in one go. */
#define KPENDING_GROUP			64
#define KPENDING_GROUP_BYTES	(1024 * 1024)

/* What is filled so quickly comes from a load that will be over soon. */
#define KPENDING_QUICK_MS		1000

/* Early appends after which the flusher is sent for. */
#define KPENDING_FLUSH_BYTES	(16 * 1024 * 1024)

typedef struct KPendingMark
{
	int			level;			/* nesting level of the records from here on */
	int32		count;			/* records before */
	/* of the batch being built: what to return to */
	size_t		len;
	int64		max_timestamp;
} KPendingMark;

typedef struct KPendingBatch
{
	uint8	   *data;			/* NULL: in the file, at */
	int			fileno;
	off_t		offset;
	uint32		len;
	int32		records;
	int32		keep;			/* fewer than records: the rest was rolled back */
	int64		max_timestamp;
	KPendingMark *marks;
	int			nmarks;
} KPendingBatch;

typedef struct KPendingKey
{
	Oid			relid;
	int32		partition;
} KPendingKey;

typedef struct KPendingPartition
{
	KPendingKey key;
	struct KPendingPartition *next;

	KPendingBatch *batches;
	int			nbatches;
	int			max_batches;

	KBatchBuilder builder;		/* holds no memory while it has no records */
	size_t		builder_memory;
	KCodecType	codec;
	size_t		max_batch;		/* max.message.bytes */
	KPendingMark *marks;		/* of the builder */
	int			nmarks;
	int			max_marks;
} KPendingPartition;

/*
 * All of it lives in one context below TopTransactionContext; NULL when nothing was produced.
 * The file belongs to the transaction's resource owner.
 */
static MemoryContext kpending_context = NULL;
static const KAllocator *kpending_allocator;
static HTAB *kpending_partitions;
static KPendingPartition *kpending_first = NULL;
static int	kpending_count;
static BufFile *kpending_file;
static int	kpending_file_end_no;
static off_t kpending_file_end;
static size_t kpending_memory;	/* in builders and finished batches */
static int	kpending_deepest;	/* no mark has a higher level */
static KBuffer kpending_compressed;
static TimestampTz kpending_since;	/* when the first record came */
static bool kpending_early;		/* batches are appended when they are full */
static size_t kpending_unflushed;	/* bytes so appended since the flusher was sent for */

/* The transaction has appended before its commit. */
static bool kpending_wrote = false;

static void
kpending_begin(void)
{
	HASHCTL		ctl = {0};
	MemoryContext context;

	if (kpending_context != NULL)
		return;

	context = AllocSetContextCreate(TopTransactionContext, "kafka_log pending records",
									ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(KPendingKey);
	ctl.entrysize = sizeof(KPendingPartition);
	ctl.hcxt = context;
	kpending_partitions = hash_create("kafka_log pending partitions", 64, &ctl,
									  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	kpending_allocator = ktable_allocator(context);
	kbuffer_init(&kpending_compressed, kpending_allocator, MaxAllocSize);
	kpending_first = NULL;
	kpending_count = 0;
	kpending_file = NULL;
	kpending_memory = 0;
	kpending_deepest = 0;
	kpending_since = GetCurrentTimestamp();
	kpending_early = false;
	kpending_unflushed = 0;
	kpending_context = context;
}

/* ------------------------------------------------------------------------
 * Spilling
 * ------------------------------------------------------------------------
 */

static void
kpending_spill_batch(KPendingBatch *batch)
{
	if (kpending_file == NULL)
	{
		ResourceOwner old_owner = CurrentResourceOwner;
		MemoryContext old = MemoryContextSwitchTo(kpending_context);

		/* Not the subtransaction's, which may end first. */
		CurrentResourceOwner = TopTransactionResourceOwner;
		kpending_file = BufFileCreateTemp(false);
		CurrentResourceOwner = old_owner;
		MemoryContextSwitchTo(old);
		kpending_file_end_no = 0;
		kpending_file_end = 0;
	}
	if (BufFileSeek(kpending_file, kpending_file_end_no, kpending_file_end, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not position temporary file of produced records")));
	batch->fileno = kpending_file_end_no;
	batch->offset = kpending_file_end;
	BufFileWrite(kpending_file, batch->data, batch->len);
	BufFileTell(kpending_file, &kpending_file_end_no, &kpending_file_end);
	pfree(batch->data);
	batch->data = NULL;
	kpending_memory -= batch->len;
}

/* The bytes of a batch; the caller frees them if batch->data is NULL. */
static uint8 *
kpending_load_batch(const KPendingBatch *batch)
{
	uint8	   *data;

	if (batch->data != NULL)
		return batch->data;
	data = MemoryContextAlloc(kpending_context, batch->len);
	if (BufFileSeek(kpending_file, batch->fileno, batch->offset, SEEK_SET) != 0 ||
		BufFileRead(kpending_file, data, batch->len) != batch->len)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read temporary file of produced records")));
	return data;
}

/* ------------------------------------------------------------------------
 * Building
 * ------------------------------------------------------------------------
 */

static pg_attribute_noreturn() void
kpending_failed(KBatchResult result)
{
	if (result == KBATCH_NO_MEMORY)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	elog(ERROR, "could not build a record batch: result %d", (int) result);
}

static KPendingPartition *
kpending_partition(Oid relid, int32 partition)
{
	KPendingKey key = {relid, partition};
	KPendingPartition *entry;
	bool		found;

	entry = hash_search(kpending_partitions, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) entry + sizeof(KPendingKey), 0, sizeof(*entry) - sizeof(KPendingKey));
		kbatch_builder_init(&entry->builder, kpending_allocator, MaxAllocSize);
		entry->next = kpending_first;
		kpending_first = entry;
		kpending_count++;
	}
	return entry;
}

static void
kpending_account(KPendingPartition *entry)
{
	size_t		now = entry->builder.records.capacity;

	kpending_memory += now;
	kpending_memory -= entry->builder_memory;
	entry->builder_memory = now;
}

static void
kpending_builder_drop(KPendingPartition *entry)
{
	kbatch_builder_free(&entry->builder);
	kbatch_builder_init(&entry->builder, kpending_allocator, MaxAllocSize);
	entry->nmarks = 0;
	kpending_account(entry);
}

/* Makes a batch of what the builder holds; it stays in our memory until the next one is made. */
static void
kpending_seal(KPendingPartition *entry, const uint8 **data, size_t *size)
{
	KBatchSeal	seal;
	KBatchResult result;

	kbatch_seal_init(&seal);
	seal.codec = entry->codec;
	result = kbatch_builder_finish(&entry->builder, &seal, ktable_codec(), &kpending_compressed,
								   data, size);
	if (result == KBATCH_OK && *size > entry->max_batch && seal.codec != KCODEC_NONE &&
		kbatch_builder_size(&entry->builder) <= entry->max_batch)
	{
		/* These records grow when they are compressed. */
		seal.codec = KCODEC_NONE;
		result = kbatch_builder_finish(&entry->builder, &seal, NULL, NULL, data, size);
	}
	if (result != KBATCH_OK)
		kpending_failed(result);
	if (*size > entry->max_batch)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("record of %zu bytes is larger than the topic allows", *size),
				 errdetail("The topic's max.message.bytes is %zu.", entry->max_batch)));
}

/* Takes the builder's records out of it, and puts them behind the finished batches. */
static void
kpending_finish(KPendingPartition *entry)
{
	KPendingBatch *batch;
	const uint8 *data;
	size_t		size;

	if (entry->builder.record_count == 0)
		return;

	if (entry->nbatches == entry->max_batches)
	{
		int			n = Max(entry->max_batches * 2, 8);

		if (entry->batches == NULL)
			entry->batches = MemoryContextAlloc(kpending_context, n * sizeof(KPendingBatch));
		else
			entry->batches = repalloc_huge(entry->batches, n * sizeof(KPendingBatch));
		entry->max_batches = n;
	}

	kpending_seal(entry, &data, &size);
	batch = &entry->batches[entry->nbatches];
	batch->marks = MemoryContextAlloc(kpending_context, sizeof(KPendingMark) * entry->nmarks);
	memcpy(batch->marks, entry->marks, sizeof(KPendingMark) * entry->nmarks);
	batch->nmarks = entry->nmarks;
	batch->data = MemoryContextAlloc(kpending_context, size);
	memcpy(batch->data, data, size);
	batch->len = size;
	batch->records = batch->keep = entry->builder.record_count;
	batch->max_timestamp = entry->builder.max_timestamp;
	entry->nbatches++;
	kpending_memory += size;

	kbatch_builder_reset(&entry->builder);
	entry->nmarks = 0;
	kpending_account(entry);
}

/* Lets the records that follow belong to the given level. */
static void
kpending_mark(KPendingPartition *entry, int level)
{
	KPendingMark *mark;

	if (entry->nmarks > 0 && entry->marks[entry->nmarks - 1].level == level)
		return;
	Assert(entry->nmarks == 0 || entry->marks[entry->nmarks - 1].level < level);
	if (entry->nmarks == entry->max_marks)
	{
		int			n = Max(entry->max_marks * 2, 4);

		if (entry->marks == NULL)
			entry->marks = MemoryContextAlloc(kpending_context, n * sizeof(KPendingMark));
		else
			entry->marks = repalloc(entry->marks, n * sizeof(KPendingMark));
		entry->max_marks = n;
	}
	mark = &entry->marks[entry->nmarks];
	mark->level = level;
	mark->count = entry->builder.record_count;
	mark->len = entry->builder.records.len;
	mark->max_timestamp = entry->builder.max_timestamp;
	entry->nmarks++;
	kpending_deepest = Max(kpending_deepest, level);
}

/*
 * Makes the last batch anew if a rollback has cut it: what is to be kept of it goes back into
 * the builder, which the same rollback has emptied.  An ERROR half-way leaves the batch as it
 * was, to be tried again.
 */
static void
kpending_settle(KPendingPartition *entry)
{
	KPendingBatch *batch;
	KBatchIterator it;
	KBatchRecord record;
	KBuffer		scratch;
	KBatchResult result;
	uint8	   *data;
	int			mark = 0;

	if (entry->nbatches == 0)
		return;
	batch = &entry->batches[entry->nbatches - 1];
	if (batch->keep == batch->records)
		return;

	kbatch_builder_reset(&entry->builder);
	entry->nmarks = 0;
	data = kpending_load_batch(batch);
	kbuffer_init(&scratch, kpending_allocator, MaxAllocSize);
	result = kbatch_iterate(&it, data, batch->len, ktable_codec(), &scratch);
	for (int32 i = 0; i < batch->keep && result == KBATCH_OK; i++)
	{
		KRecordHeader *headers = NULL;
		size_t		pos = 0;

		result = kbatch_iterator_next(&it, &record);
		if (result != KBATCH_OK)
			break;
		if (record.header_count > 0)
			headers = palloc(sizeof(KRecordHeader) * record.header_count);
		for (int32 h = 0; h < record.header_count; h++)
			(void) kbatch_record_header(&record, &pos, &headers[h]);
		if (mark + 1 < batch->nmarks && batch->marks[mark + 1].count == i)
			mark++;
		kpending_mark(entry, batch->marks[mark].level);
		result = kbatch_builder_append(&entry->builder, record.timestamp,
									   record.key, record.key_len,
									   record.value, record.value_len,
									   headers, record.header_count);
		if (headers != NULL)
			pfree(headers);
	}
	if (result != KBATCH_OK)
		kpending_failed(result);
	kpending_account(entry);

	entry->nbatches--;
	if (batch->data != NULL)
		kpending_memory -= batch->len;
	pfree(data);
	pfree(batch->marks);
	kbuffer_free(&scratch);
}

/* Everything goes to the file. */
static void
kpending_spill(void)
{
	for (KPendingPartition *entry = kpending_first; entry != NULL; entry = entry->next)
	{
		kpending_settle(entry);
		kpending_finish(entry);
		kpending_builder_drop(entry);
		for (int i = entry->nbatches - 1; i >= 0 && entry->batches[i].data != NULL; i--)
			kpending_spill_batch(&entry->batches[i]);
	}
}

/* ------------------------------------------------------------------------
 * Appending
 * ------------------------------------------------------------------------
 */

static int
kpending_compare(const void *a, const void *b)
{
	const KPendingKey *x = &(*(KPendingPartition *const *) a)->key;
	const KPendingKey *y = &(*(KPendingPartition *const *) b)->key;

	if (x->relid != y->relid)
		return x->relid < y->relid ? -1 : 1;
	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	return 0;
}

/* How batches are appended to a topic; a dump's order may bring its row only later. */
static void
kpending_how(const KTopic *topic, KLogAppend *how, KTopicConfig *config)
{
	if (topic != NULL)
		*config = topic->config;
	else
		ktopic_config_defaults(config);
	memset(how, 0, sizeof(*how));
	how->leader_epoch = kepoch_current();
	how->xid = GetTopTransactionId();
	how->segment_bytes = config->segment_bytes;
	how->segment_ms = config->segment_ms;
	how->partitions = topic != NULL ? topic->partitions : 0;
}

static void
kpending_stamp(KLogBatch *batch, const KTopicConfig *config)
{
	if (!config->log_append_time)
		return;
	batch->max_timestamp = ktable_timestamp_to_ms(GetCurrentTimestamp());
	kbatch_set_max_timestamp(batch->data, batch->len, true, batch->max_timestamp);
}

/* Appends what the builder holds, without a copy of it. */
static void
kpending_append_builder(Relation rel, KPendingPartition *entry, KLogAppend *how,
						const KTopicConfig *config)
{
	KLogBatch	batch = {0};
	const uint8 *data;
	size_t		size;

	if (entry->builder.record_count == 0)
		return;
	kpending_seal(entry, &data, &size);
	/* The log writes offset and epoch into it. */
	batch.data = unconstify(uint8 *, data);
	batch.len = size;
	batch.last_offset_delta = entry->builder.record_count - 1;
	batch.max_timestamp = entry->builder.max_timestamp;
	kpending_stamp(&batch, config);
	ktable_append_batches(rel, entry->key.partition, how, &batch, 1);

	kbatch_builder_reset(&entry->builder);
	entry->nmarks = 0;
	kpending_unflushed += size;
	if (kpending_unflushed >= KPENDING_FLUSH_BYTES)
	{
		/* So that the commit does not find all of it still to be flushed. */
		klog_request_flush(batch.lsn);
		kpending_unflushed = 0;
	}
}

static void
kpending_append_partition(Relation rel, KPendingPartition *entry, KLogAppend *how,
						  const KTopicConfig *config)
{
	KLogBatch	group[KPENDING_GROUP];
	int			i = 0;

	kpending_settle(entry);
	if (entry->nbatches == 0)
	{
		kpending_append_builder(rel, entry, how, config);
		return;
	}
	kpending_finish(entry);
	kpending_builder_drop(entry);

	while (i < entry->nbatches)
	{
		int			first = i;
		int			n = 0;
		size_t		bytes = 0;

		CHECK_FOR_INTERRUPTS();
		while (i < entry->nbatches && n < KPENDING_GROUP && bytes < KPENDING_GROUP_BYTES)
		{
			KPendingBatch *batch = &entry->batches[i++];
			KLogBatch  *out = &group[n++];

			memset(out, 0, sizeof(*out));
			out->data = kpending_load_batch(batch);
			out->len = batch->len;
			out->last_offset_delta = batch->records - 1;
			out->max_timestamp = batch->max_timestamp;
			kpending_stamp(out, config);
			bytes += batch->len;
		}
		ktable_append_batches(rel, entry->key.partition, how, group, n);
		for (int k = 0; k < n; k++)
		{
			KPendingBatch *batch = &entry->batches[first + k];

			if (batch->data != NULL)
				kpending_memory -= batch->len;
			pfree(group[k].data);
			pfree(batch->marks);
			batch->data = NULL;
		}
	}
	entry->nbatches = 0;
}

static void
kpending_forget(KPendingPartition *entry)
{
	while (entry->nbatches > 0)
	{
		KPendingBatch *batch = &entry->batches[--entry->nbatches];

		if (batch->data != NULL)
		{
			kpending_memory -= batch->len;
			pfree(batch->data);
		}
		pfree(batch->marks);
	}
	kpending_builder_drop(entry);
}

/* Appends everything, partition after partition. */
static void
kpending_append_all(void)
{
	KPendingPartition **entries;
	int			n = 0;
	Relation	rel = NULL;
	KLogAppend	how;
	KTopicConfig config;

	entries = MemoryContextAlloc(kpending_context, sizeof(KPendingPartition *) * kpending_count);
	for (KPendingPartition *entry = kpending_first; entry != NULL; entry = entry->next)
	{
		if (entry->nbatches > 0 || entry->builder.record_count > 0)
			entries[n++] = entry;
	}
	qsort(entries, n, sizeof(KPendingPartition *), kpending_compare);

	for (int i = 0; i < n; i++)
	{
		Oid			relid = entries[i]->key.relid;

		if (rel == NULL || RelationGetRelid(rel) != relid)
		{
			if (rel != NULL)
				relation_close(rel, NoLock);

			/* Dropped by this same transaction, and its records with it? */
			rel = try_relation_open(relid, RowExclusiveLock);
			if (rel == NULL)
			{
				kpending_forget(entries[i]);
				continue;
			}
			kpending_how(ktopic_by_relid(relid, NULL), &how, &config);
		}
		kpending_append_partition(rel, entries[i], &how, &config);
	}
	if (rel != NULL)
		relation_close(rel, NoLock);
	pfree(entries);
	if (kpending_file != NULL)
		BufFileClose(kpending_file);
	kpending_file = NULL;
}

/*
 * May records be appended before the commit?  They hold the high watermark back until then, so
 * that is for what ends with its statement, and for records that no savepoint can take back.
 */
static bool
kpending_may_append(void)
{
	return !IsTransactionBlock() && GetCurrentTransactionNestLevel() == 1 &&
		kpending_deepest <= 1;
}

/* Over the limit: everything goes to the log if it may, else to the file. */
static void
kpending_overflow(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (kpending_may_append() &&
		(kpending_early ||
		 !TimestampDifferenceExceeds(kpending_since, now, KPENDING_QUICK_MS)))
	{
		ktable_pending_wrote();
		kpending_early = true;
		kpending_append_all();
		for (KPendingPartition *entry = kpending_first; entry != NULL; entry = entry->next)
			kpending_builder_drop(entry);
	}
	else
		kpending_spill();
	kpending_since = now;
}

/* The builder is full. */
static void
kpending_full(Relation rel, const KTopic *topic, KPendingPartition *entry)
{
	KLogAppend	how;
	KTopicConfig config;

	if (!kpending_early || entry->nbatches > 0 || !kpending_may_append())
	{
		kpending_finish(entry);
		return;
	}
	kpending_how(topic, &how, &config);
	kpending_append_builder(rel, entry, &how, &config);
}

static void
kpending_add(Relation rel, const KTopic *topic, KPendingPartition *entry, int64 timestamp,
			 const uint8 *key, int32 key_len, const uint8 *value, int32 value_len,
				const KRecordHeader *headers, int32 header_count)
{
	size_t		grows;
	KBatchResult result;

	grows = kbatch_builder_record_size(&entry->builder, timestamp, key, key_len,
									   value, value_len, headers, header_count);
	if (grows == 0 ||
		(entry->codec == KCODEC_NONE && KBATCH_HEADER_SIZE + grows > entry->max_batch))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("record is larger than the topic allows"),
				 errdetail("It would take %zu bytes; the topic's max.message.bytes is %zu.",
						   KBATCH_HEADER_SIZE + grows, entry->max_batch)));
	if (entry->builder.record_count > 0 &&
		kbatch_builder_size(&entry->builder) + grows > Min(KTABLE_BATCH_BYTES, entry->max_batch))
		kpending_full(rel, topic, entry);

	kpending_mark(entry, GetCurrentTransactionNestLevel());
	result = kbatch_builder_append(&entry->builder, timestamp, key, key_len, value, value_len,
								   headers, header_count);
	if (result != KBATCH_OK)
		kpending_failed(result);
	kpending_account(entry);

	/* A single large record shows here whether compression makes it fit. */
	if (kbatch_builder_size(&entry->builder) > KTABLE_BATCH_BYTES)
		kpending_full(rel, topic, entry);
}

KCodecType
ktable_topic_codec(const KTopicConfig *config)
{
	if (config->compression_type == KCOMPRESSION_PRODUCER)
		return KCODEC_NONE;
	return (KCodecType) config->compression_type;
}

void
ktable_pending_add(Relation rel, const KTopic *topic, const KTableRecord *record)
{
	KPendingPartition *entry;

	if (IsParallelWorker())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot produce records in a parallel worker")));

	kpending_begin();
	entry = kpending_partition(RelationGetRelid(rel), record->partition);
	kpending_settle(entry);
	entry->codec = ktable_topic_codec(&topic->config);
	entry->max_batch = topic->config.max_message_bytes;
	kpending_add(rel, topic, entry, record->timestamp,
				 record->key, record->key_len, record->value, record->value_len,
				 record->headers, record->header_count);
	if (kpending_memory > (size_t) kguc_produce_buffer_size * 1024)
		kpending_overflow();
}

/* ------------------------------------------------------------------------
 * Subtransactions
 * ------------------------------------------------------------------------
 */

void
ktable_pending_subxact_abort(int level)
{
	if (kpending_context == NULL || kpending_deepest < level)
		return;

	for (KPendingPartition *entry = kpending_first; entry != NULL; entry = entry->next)
	{
		while (entry->nmarks > 0 && entry->marks[entry->nmarks - 1].level >= level)
		{
			KPendingMark *mark = &entry->marks[--entry->nmarks];

			if (mark->count == 0)
				kbatch_builder_reset(&entry->builder);
			else
			{
				entry->builder.record_count = mark->count;
				entry->builder.records.len = mark->len;
				entry->builder.max_timestamp = mark->max_timestamp;
			}
		}

		while (entry->nbatches > 0)
		{
			KPendingBatch *batch = &entry->batches[entry->nbatches - 1];
			int			cut = batch->nmarks;

			while (cut > 0 && batch->marks[cut - 1].level >= level)
				cut--;
			if (cut == batch->nmarks)
				break;
			if (cut > 0)
			{
				batch->keep = batch->marks[cut].count;
				batch->nmarks = cut;
				break;
			}
			if (batch->data != NULL)
			{
				kpending_memory -= batch->len;
				pfree(batch->data);
			}
			pfree(batch->marks);
			entry->nbatches--;
		}
	}
	kpending_deepest = level - 1;
}

/* Lowers the marks of a level to the one outside; two of the same level become one. */
static int
kpending_lower(KPendingMark *marks, int nmarks, int level)
{
	while (nmarks > 0 && marks[nmarks - 1].level >= level)
	{
		if (nmarks > 1 && marks[nmarks - 2].level >= level - 1)
			nmarks--;
		else
		{
			marks[nmarks - 1].level = level - 1;
			break;
		}
	}
	return nmarks;
}

void
ktable_pending_subxact_commit(int level)
{
	if (kpending_context == NULL || kpending_deepest < level)
		return;

	for (KPendingPartition *entry = kpending_first; entry != NULL; entry = entry->next)
	{
		entry->nmarks = kpending_lower(entry->marks, entry->nmarks, level);
		for (int i = entry->nbatches - 1; i >= 0; i--)
		{
			KPendingBatch *batch = &entry->batches[i];

			if (batch->nmarks == 0 || batch->marks[batch->nmarks - 1].level < level)
				break;
			batch->nmarks = kpending_lower(batch->marks, batch->nmarks, level);
		}
	}
	kpending_deepest = level - 1;
}

/* ------------------------------------------------------------------------
 * The transaction's end
 * ------------------------------------------------------------------------
 */

/*
 * Appends everything that is left.  Our caller still may fail the transaction: its batches then end
 * up dead in the log, their offsets taken.
 */
void
ktable_pending_commit(void)
{
	if (kpending_context == NULL)
		return;
	KSTOP("ktable-before-append");
	kpending_append_all();
	KSTOP("ktable-after-append");
}

void
ktable_pending_wrote(void)
{
	kpending_wrote = true;
}

/* The batches wait for their transaction in this process's memory, which a prepared one leaves. */
void
ktable_pending_prepare(void)
{
	bool		produced = kpending_wrote;

	for (KPendingPartition *entry = kpending_first; entry != NULL; entry = entry->next)
		produced |= entry->nbatches > 0 || entry->builder.record_count > 0;
	if (produced)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has produced records")));
}

/* Memory goes with TopTransactionContext, the file with the resource owner. */
void
ktable_pending_at_xact_end(void)
{
	kpending_context = NULL;
	kpending_partitions = NULL;
	kpending_first = NULL;
	kpending_file = NULL;
	kpending_wrote = false;
}
