/*
 * ktable_insert.c
 *		Rows into the log: INSERT, COPY and kafka.produce.
 *
 * Rows without an offset are new records: partition and timestamp are filled in, the topic's
 * rules are checked, and they wait for the commit (ktable_pending.c).  Rows with an offset are a
 * topic being restored: they are written at once, at the offsets that they name, by the
 * table's owner and while nobody else appends.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "common/pg_prng.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "batch/kbatch_build.h"
#include "compat.h"
#include "table/ktable_insert.h"
#include "table/ktable_pending.h"
#include "table/ktable_read.h"
#include "table/ktable_row.h"
#include "topic/kpartitioner.h"
#include "topic/ktopic.h"

/* An offset beyond this would leave no room for the next. */
#define KTABLE_MAX_OFFSET	(PG_INT64_MAX - 1)

/* ------------------------------------------------------------------------
 * New records
 * ------------------------------------------------------------------------
 */

/* Which partition this process is filling with records that have no key. */
static KStickyPartition *
ktable_sticky(Oid relid)
{
	typedef struct KTableSticky
	{
		Oid			relid;
		KStickyPartition sticky;
	} KTableSticky;

	static HTAB *table = NULL;
	KTableSticky *entry;
	bool		found;

	if (table == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(KTableSticky);
		ctl.hcxt = TopMemoryContext;
		table = hash_create("kafka_log sticky partitions", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(table, &relid, HASH_ENTER, &found);
	if (!found)
		memset(&entry->sticky, 0, sizeof(entry->sticky));
	return &entry->sticky;
}

static size_t
ktable_record_bytes(const KTableRecord *record)
{
	size_t		bytes = 0;

	if (record->key_len > 0)
		bytes += record->key_len;
	if (record->value_len > 0)
		bytes += record->value_len;
	for (int i = 0; i < record->header_count; i++)
	{
		bytes += record->headers[i].key_len;
		if (record->headers[i].value_len > 0)
			bytes += record->headers[i].value_len;
	}
	return bytes;
}

static void
ktable_choose_partition(Relation rel, const KTopic *topic, KTableRecord *record)
{
	if (record->partition >= topic->partitions)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("topic \"%s\" has no partition %d", topic->name, record->partition),
				 errdetail("Its partitions are 0 to %d.", topic->partitions - 1)));
	if (record->partition >= 0)
		return;

	if (record->key_len >= 0)
		record->partition = kpartitioner_for_key(record->key, record->key_len,
												 topic->partitions);
	else
		record->partition = kpartitioner_without_key(ktable_sticky(RelationGetRelid(rel)),
													 topic->partitions,
													 ktable_record_bytes(record),
													 pg_prng_uint32(&pg_global_prng_state));
}

/* Kafka's rules for the time that a producer gives. */
static void
ktable_choose_timestamp(const KTopic *topic, KTableRecord *record, int64 now)
{
	const KTopicConfig *config = &topic->config;

	if (record->timestamp == KBATCH_NO_TIMESTAMP || config->log_append_time)
	{
		record->timestamp = now;
		return;
	}
	if (record->timestamp_infinite)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp of a record must be finite")));
	if (record->timestamp < now - config->timestamp_before_max_ms ||
		(config->timestamp_after_max_ms < PG_INT64_MAX - now &&
		 record->timestamp > now + config->timestamp_after_max_ms))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp of a record is out of the range that topic \"%s\" allows",
						topic->name),
				 errhint("See the topic's message.timestamp.before.max.ms and message.timestamp.after.max.ms.")));
}

/* The topic that new records of a table belong to; ERROR if it is none. */
static const KTopic *
ktable_topic(Relation rel)
{
	const KTopic *topic = ktopic_by_relid(RelationGetRelid(rel), NULL);

	if (topic == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not a topic", RelationGetRelationName(rel)),
				 errdetail("Table kafka.topic has no row for it, so that only rows with partition and offset can be inserted."),
				 errhint("Create topics with kafka.create_topic().")));
	return topic;
}

/* now: in milliseconds, as records have it */
static void
ktable_produce_record(Relation rel, const KTopic *topic, KTableRecord *record, int64 now)
{
	if (topic->config.cleanup_compact && record->key_len < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("topic \"%s\" is compacted, its records need a key", topic->name)));
	ktable_choose_partition(rel, topic, record);
	ktable_choose_timestamp(topic, record, now);
	ktable_pending_add(rel, topic, record);
}

int32
ktable_produce(Relation rel, const Datum *values, const bool *isnull)
{
	KTableRecord record;

	ktable_check_shape(rel);
	ktable_record_from_row(values, isnull, &record);
	if (record.offset >= 0)
		elog(ERROR, "cannot produce a record with an offset");
	ktable_produce_record(rel, ktable_topic(rel), &record,
						  ktable_timestamp_to_ms(GetCurrentTimestamp()));
	pgstat_count_heap_insert(rel, 1);
	return record.partition;
}

/* ------------------------------------------------------------------------
 * Appending
 * ------------------------------------------------------------------------
 */

void
ktable_append_batches(Relation rel, int32 partition, KLogAppend *how, KLogBatch *batches, int n)
{
	KLogPartition *part = klog_attach(rel, partition, false);

	(void) klog_lock(part, false);
	while (n > 0)
	{
		int			done = 0;

		switch (klog_append(rel, part, how, batches, n, &done, NULL))
		{
			case KLOG_OK:
				batches += done;
				n -= done;
				break;

			case KLOG_NO_EXTENT:
				klog_unlock(part);
				CHECK_FOR_INTERRUPTS();
				(void) klog_grow(rel, false);
				(void) klog_lock(part, false);
				break;

			case KLOG_OUT_OF_RANGE:
				{
					int64		end = klog_end_offset(part);

					klog_unlock(part);
					ereport(ERROR,
							(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							 errmsg("offset %lld of partition %d of topic table \"%s\" has been given already",
									(long long) batches[0].base_offset, partition,
									RelationGetRelationName(rel)),
							 errdetail("The partition's next offset is %lld.", (long long) end),
							 errhint("Leave the column \"offset\" out to have offsets assigned.")));
					break;
				}

			case KLOG_FULL:
				klog_unlock(part);
				ereport(ERROR,
						(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("partition %d of topic table \"%s\" is full",
								partition, RelationGetRelationName(rel))));
				break;

			default:
				klog_unlock(part);
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("could not append to partition %d of topic table \"%s\"",
								partition, RelationGetRelationName(rel))));
		}
	}
	klog_unlock(part);
}

/* ------------------------------------------------------------------------
 * Restored records
 * ------------------------------------------------------------------------
 */

/* Rows of one call that follow each other without a gap make a batch. */
typedef struct KTableRestore
{
	Relation	rel;
	KLogAppend	how;
	KBatchBuilder builder;
	int32		partition;
	int64		base;			/* offset of the builder's first record */
	int64		next;
} KTableRestore;

static void
ktable_restore_begin(KTableRestore *restore, Relation rel)
{
	const KTopic *topic;
	KTopicConfig config;

	if (IsParallelWorker())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot produce records in a parallel worker")));
	if (!kcompat_table_ownercheck(RelationGetRelid(rel), GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of topic table \"%s\" to insert rows with offsets",
						RelationGetRelationName(rel)),
				 errhint("Leave the column \"offset\" out to have offsets assigned.")));

	/*
	 * A file that this transaction has made is seen by nobody else.  To any other nobody may
	 * append before we are done: this lock conflicts with that of producers, who wait for it, and
	 * of brokers, who try again.
	 */
	if (rel->rd_createSubid == InvalidSubTransactionId &&
		rel->rd_firstRelfilelocatorSubid == InvalidSubTransactionId &&
		!CheckRelationLockedByMe(rel, ShareRowExclusiveLock, true))
		LockRelationOid(RelationGetRelid(rel), ShareRowExclusiveLock);

	memset(restore, 0, sizeof(*restore));
	restore->rel = rel;

	/* A dump's order may bring the row of kafka.topic only later. */
	topic = ktopic_by_relid(RelationGetRelid(rel), NULL);
	if (topic != NULL)
		config = topic->config;
	else
		ktopic_config_defaults(&config);
	restore->how.leader_epoch = kepoch_current();
	/* It is there at once, and so has to be dead at once if only a savepoint is rolled back. */
	restore->how.xid = GetCurrentTransactionId();
	ktable_pending_wrote();
	restore->how.explicit_offsets = true;
	restore->how.segment_bytes = config.segment_bytes;
	restore->how.segment_ms = config.segment_ms;
	restore->how.partitions = topic != NULL ? topic->partitions : 0;
	kbatch_builder_init(&restore->builder, ktable_allocator(CurrentMemoryContext), MaxAllocSize);
}

static void
ktable_restore_flush(KTableRestore *restore)
{
	KBatchSeal	seal;
	KLogBatch	batch = {0};
	const uint8 *data;
	size_t		size;

	if (restore->builder.record_count == 0)
		return;
	kbatch_seal_init(&seal);
	seal.base_offset = restore->base;
	if (kbatch_builder_finish(&restore->builder, &seal, NULL, NULL, &data, &size) != KBATCH_OK)
		elog(ERROR, "could not build a record batch");

	/* The log writes offset and epoch into it; it is the builder's memory, and so ours. */
	batch.data = (uint8 *) data;
	batch.len = size;
	batch.last_offset_delta = restore->builder.record_count - 1;
	batch.max_timestamp = restore->builder.max_timestamp;
	batch.base_offset = restore->base;
	ktable_append_batches(restore->rel, restore->partition, &restore->how, &batch, 1);
	kbatch_builder_reset(&restore->builder);
}

static void
ktable_restore_add(KTableRestore *restore, const KTableRecord *record)
{
	size_t		size;

	if (record->partition < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a row with an offset needs a partition")));
	if (record->partition >= KTOPIC_MAX_PARTITIONS ||
		(restore->how.partitions > 0 && record->partition >= restore->how.partitions))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("topic table \"%s\" has no partition %d",
						RelationGetRelationName(restore->rel), record->partition)));
	if (record->offset >= KTABLE_MAX_OFFSET)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("offset %lld is too large", (long long) record->offset)));

	size = kbatch_builder_record_size(&restore->builder, record->timestamp,
									  record->key, record->key_len,
									  record->value, record->value_len,
									  record->headers, record->header_count);
	if (record->partition != restore->partition || record->offset != restore->next ||
		kbatch_builder_size(&restore->builder) + size > KTABLE_BATCH_BYTES)
		ktable_restore_flush(restore);
	if (restore->builder.record_count == 0)
	{
		restore->partition = record->partition;
		restore->base = record->offset;
	}
	if (size == 0 ||
		kbatch_builder_append(&restore->builder, record->timestamp,
							  record->key, record->key_len, record->value, record->value_len,
							  record->headers, record->header_count) != KBATCH_OK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("record is too large")));
	restore->next = record->offset + 1;
}

/* ------------------------------------------------------------------------
 * Callbacks of the access method
 * ------------------------------------------------------------------------
 */

void
ktable_multi_insert(Relation rel, TupleTableSlot **slots, int nslots, CommandId cid, int options,
					struct BulkInsertStateData *bistate)
{
	KTableRestore restore;
	bool		restoring = false;
	const KTopic *topic = NULL;
	int64		now = 0;
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext,
													  "kafka_log inserted row",
													  ALLOCSET_DEFAULT_SIZES);
	MemoryContext context = NULL;	/* of what is restored */
	MemoryContext old = MemoryContextSwitchTo(row_context);

	ktable_check_shape(rel);
	for (int i = 0; i < nslots; i++)
	{
		TupleTableSlot *slot = slots[i];
		KTableRecord record;

		slot_getallattrs(slot);
		slot->tts_tableOid = RelationGetRelid(rel);
		MemoryContextReset(row_context);
		ktable_record_from_row(slot->tts_values, slot->tts_isnull, &record);
		if (record.offset < 0)
		{
			if (topic == NULL)
			{
				topic = ktable_topic(rel);
				now = ktable_timestamp_to_ms(GetCurrentTimestamp());
			}
			ktable_produce_record(rel, topic, &record, now);

			/* For RETURNING, what was chosen; COPY's slots are ours to write to, too. */
			if (TTS_IS_VIRTUAL(slot))
			{
				slot->tts_values[KTABLE_PARTITION] = Int32GetDatum(record.partition);
				slot->tts_isnull[KTABLE_PARTITION] = false;
				slot->tts_values[KTABLE_TIMESTAMP] =
					TimestampTzGetDatum(ktable_timestamp_from_ms(record.timestamp));
				slot->tts_isnull[KTABLE_TIMESTAMP] = false;
			}
		}
		else
		{
			if (context == NULL)
				context = AllocSetContextCreate(old, "kafka_log insert", ALLOCSET_DEFAULT_SIZES);
			MemoryContextSwitchTo(context);
			if (!restoring)
				ktable_restore_begin(&restore, rel);
			restoring = true;
			ktable_restore_add(&restore, &record);
			MemoryContextSwitchTo(row_context);
		}
	}
	if (restoring)
		ktable_restore_flush(&restore);
	pgstat_count_heap_insert(rel, nslots);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(row_context);
	if (context != NULL)
		MemoryContextDelete(context);
}

void
ktable_tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
					struct BulkInsertStateData *bistate)
{
	ktable_multi_insert(rel, &slot, 1, cid, options, bistate);
}
