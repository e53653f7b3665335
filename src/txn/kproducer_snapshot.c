/*-------------------------------------------------------------------------
 *
 * kproducer_snapshot.c
 *	  Snapshots: a partition's producers in kafka.producer_snapshot, so that a
 *	  start need not read the whole log for them.
 *
 * A row says: these producers are known from all batches below next_offset.
 * The keeper writes it in a transaction of its own.  The batches were in WAL
 * before they were in the table of producers, and the row comes after both; so
 * where WAL ends, in a crash or at a restore point, there is no row without its
 * batches, even though its commit is asynchronous.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "libpq/pqformat.h"
#include "port/pg_crc32c.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "kstop.h"
#include "topic/kcatalog.h"
#include "txn/kproducer.h"

#define SNAPSHOT_VERSION	1
#define ENTRY_BYTES			(5 * 8 + 2 + 2)
#define BATCH_BYTES			(3 * 8 + 2 * 4)

/*
 * The column "state": version (1 byte), number of producers (4), the producers, and a CRC-32C (4) of all
 * that and of the row's other columns.  Integers are big-endian.
 */
static pg_crc32c
checksum(const KProducerPartition *partition, int64 next_offset, const char *data, Size len)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, partition, sizeof(*partition));
	COMP_CRC32C(crc, &next_offset, sizeof(next_offset));
	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
	return crc;
}

/* ---- writing ---- */

static bytea *
encode(const KProducerPartition *partition, int64 next_offset, const KProducerEntry *entries, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	buf.len = VARHDRSZ;
	pq_sendint8(&buf, SNAPSHOT_VERSION);
	pq_sendint32(&buf, n);
	for (int i = 0; i < n; i++)
	{
		const KProducerState *state = &entries[i].state;

		pq_sendint64(&buf, entries[i].producer_id);
		pq_sendint64(&buf, entries[i].touched);
		pq_sendint64(&buf, entries[i].last_batch);
		pq_sendint64(&buf, state->txn_first_offset);
		pq_sendint64(&buf, state->last_offset);
		pq_sendint16(&buf, state->epoch);
		pq_sendint16(&buf, state->count);
		for (int b = 0; b < state->count; b++)
		{
			pq_sendint64(&buf, state->batches[b].base_offset);
			pq_sendint64(&buf, state->batches[b].timestamp);
			pq_sendint64(&buf, state->batches[b].lsn);
			pq_sendint32(&buf, state->batches[b].first_sequence);
			pq_sendint32(&buf, state->batches[b].last_sequence);
		}
	}
	pq_sendint32(&buf, checksum(partition, next_offset, buf.data + VARHDRSZ, buf.len - VARHDRSZ));
	SET_VARSIZE(buf.data, buf.len);
	return (bytea *) buf.data;
}

static void
upsert(const KProducerPartition *partition, int64 next_offset, bytea *state)
{
	Oid			types[] = {OIDOID, INT4OID, OIDOID, INT8OID, BYTEAOID};
	Datum		values[] = {
		ObjectIdGetDatum(partition->relid),
		Int32GetDatum(partition->partition),
		ObjectIdGetDatum(partition->relfilenumber),
		Int64GetDatum(next_offset),
		PointerGetDatum(state)
	};

	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (SPI_execute_with_args("INSERT INTO kafka.producer_snapshot AS s "
							  "(\"table\", partition, relfilenumber, next_offset, state) "
							  "VALUES ($1, $2, $3, $4, $5) "
							  "ON CONFLICT (\"table\", partition) DO UPDATE SET "
							  "relfilenumber = excluded.relfilenumber, "
							  "next_offset = excluded.next_offset, state = excluded.state",
							  lengthof(types), types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write kafka.producer_snapshot");
	SPI_finish();
	PopActiveSnapshot();
}

void
kproducer_snapshot_write(Relation rel, KLogPartition *log, int32 number)
{
	Oid			catalog = kcatalog_relation("producer_snapshot");
	KProducerPartition partition;
	KProducerEntry *entries = NULL;
	uint64		ready;
	int64		next_offset;
	int			size = 0;
	int			n;

	/* the next time is soon */
	if (!OidIsValid(catalog) || !ConditionalLockRelationOid(catalog, RowExclusiveLock))
		return;
	kproducer_partition_of(&partition, rel, number);

	/* Under the append lock, so that every batch below this offset has been told to the table. */
	klog_lock(log, false);
	ready = kproducer_ready_number(&partition);
	next_offset = klog_end_offset(log);
	klog_unlock(log);
	if (ready == 0)
		return;

	/*
	 * Not under that lock: a producer may know of batches at or above next_offset, which a rebuild
	 * will meet once more and pass over.
	 */
	while ((n = kproducer_copy(&partition, entries, size)) > size)
	{
		if (entries != NULL)
			pfree(entries);
		size = n + 16;
		entries = MemoryContextAllocHuge(CurrentMemoryContext, size * sizeof(KProducerEntry));
	}
	if (kproducer_ready_number(&partition) != ready)
		return;
	if ((Size) n > (MaxAllocSize - 64) / (ENTRY_BYTES + KPRODUCER_BATCHES * BATCH_BYTES))
		return;
	KSTOP("kproducer-snapshot-copied");
	upsert(&partition, next_offset, encode(&partition, next_offset, entries, n));
	KSTOP("kproducer-snapshot-written");
}

/* ---- reading ---- */

/*
 * Reads one producer.  False: the row's CRC is right, but it is of a later time than this server's WAL (which
 * somebody has reset), or not what this version writes.
 */
static bool
decode_entry(StringInfo buf, XLogRecPtr limit, KProducerEntry *entry)
{
	KProducerState *state = &entry->state;

	if (buf->len - buf->cursor < ENTRY_BYTES)
		return false;
	kproducer_state_init(state);
	entry->producer_id = pq_getmsgint64(buf);
	entry->touched = pq_getmsgint64(buf);
	entry->last_batch = pq_getmsgint64(buf);
	state->txn_first_offset = pq_getmsgint64(buf);
	state->last_offset = pq_getmsgint64(buf);
	state->epoch = (int16) pq_getmsgint(buf, 2);
	state->count = (int16) pq_getmsgint(buf, 2);
	if (entry->producer_id < 0 || state->count < 0 || state->count > KPRODUCER_BATCHES ||
		buf->len - buf->cursor < state->count * BATCH_BYTES)
		return false;
	for (int b = 0; b < state->count; b++)
	{
		state->batches[b].base_offset = pq_getmsgint64(buf);
		state->batches[b].timestamp = pq_getmsgint64(buf);
		state->batches[b].lsn = pq_getmsgint64(buf);
		state->batches[b].first_sequence = (int32) pq_getmsgint(buf, 4);
		state->batches[b].last_sequence = (int32) pq_getmsgint(buf, 4);
		if (state->batches[b].lsn > limit)
			return false;
	}
	return true;
}

/*
 * Puts what a row says into the table.  False: it cannot be believed.  What has been put until then
 * must be taken out again.
 */
static bool
load_state(const KProducerPartition *partition, int64 next_offset, const bytea *state, int64 now)
{
	Size		len = VARSIZE_ANY_EXHDR(state);
	StringInfoData buf = {.data = VARDATA_ANY(unconstify(bytea *, state)),.len = (int) len};
	XLogRecPtr	limit = GetXLogInsertRecPtr();
	KProducerEntry entry;
	uint32		crc;
	int			n;

	if (len < 1 + 4 + 4)
		return false;
	buf.cursor = buf.len - 4;
	crc = pq_getmsgint(&buf, 4);
	buf.len -= 4;
	buf.cursor = 0;
	if (crc != checksum(partition, next_offset, buf.data, buf.len) ||
		pq_getmsgbyte(&buf) != SNAPSHOT_VERSION)
		return false;
	n = (int) pq_getmsgint(&buf, 4);
	for (int i = 0; i < n; i++)
	{
		if (!decode_entry(&buf, limit, &entry))
			return false;
		kproducer_put(partition, &entry, now);
	}
	return n >= 0 && buf.cursor == buf.len;
}

/* The row's offset and state, palloc'd; false: there is none for this file. */
static bool
read_row(Relation rel, const KProducerPartition *partition, int64 *next_offset, bytea **state)
{
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan;
	ScanKeyData key[2];
	HeapTuple	tuple;
	bool		isnull;
	bool		found = false;

	ScanKeyInit(&key[0], Anum_producer_snapshot_table, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(partition->relid));
	ScanKeyInit(&key[1], Anum_producer_snapshot_partition, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(partition->partition));

	/* a snapshot that is active: a long state is fetched from the TOAST table under it */
	PushActiveSnapshot(GetTransactionSnapshot());
	scan = systable_beginscan(rel, kcatalog_relation("producer_snapshot_pkey"), true,
							  GetActiveSnapshot(), 2, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) &&
		DatumGetObjectId(heap_getattr(tuple, Anum_producer_snapshot_relfilenumber, desc,
									  &isnull)) == partition->relfilenumber)
	{
		*next_offset = DatumGetInt64(heap_getattr(tuple, Anum_producer_snapshot_next_offset, desc,
												  &isnull));
		*state = DatumGetByteaPCopy(heap_getattr(tuple, Anum_producer_snapshot_state, desc,
												 &isnull));
		found = true;
	}
	systable_endscan(scan);
	PopActiveSnapshot();
	return found;
}

KProducerLoad
kproducer_snapshot_load(KLogPartition *log, const KProducerPartition *partition, int64 now,
						int64 *next_offset)
{
	Oid			catalog = kcatalog_relation("producer_snapshot");
	Relation	rel;
	bytea	   *state;
	bool		found;
	bool		valid;

	if (!OidIsValid(catalog))
		return KPRODUCER_NO_SNAPSHOT;
	if (!ConditionalLockRelationOid(catalog, AccessShareLock))
		return KPRODUCER_BUSY;
	rel = try_table_open(catalog, NoLock);
	if (rel == NULL)
		return KPRODUCER_NO_SNAPSHOT;
	found = read_row(rel, partition, next_offset, &state);
	table_close(rel, AccessShareLock);
	if (!found)
		return KPRODUCER_NO_SNAPSHOT;

	valid = *next_offset >= 0 && *next_offset <= klog_end_offset(log) &&
		load_state(partition, *next_offset, state, now);
	pfree(state);
	if (!valid)
	{
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("producer snapshot of partition %d of relation %u is not valid",
						partition->partition, partition->relid),
				 errdetail("The partition's producers are learnt from all of its batches.")));
		kproducer_rebuild_begin(partition);
		return KPRODUCER_NO_SNAPSHOT;
	}
	return KPRODUCER_LOADED;
}
