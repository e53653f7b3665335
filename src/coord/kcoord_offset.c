/*
 * kcoord_offset.c
 *		kafka.group_offset: the offsets that groups have committed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "common/int.h"
#include "datatype/timestamp.h"
#include "storage/ipc.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "coord/kcoord_int.h"
#include "topic/kcatalog.h"

#define NCOLUMNS	Anum_group_offset_expires

static const Oid key_equal[] = {F_TEXTEQ, F_UUID_EQ, F_INT4EQ};

static const int64 epoch_ms = ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) *
	SECS_PER_DAY * 1000;

static TimestampTz
from_ms(int64 ms)
{
	TimestampTz t;

	if (pg_sub_s64_overflow(ms, epoch_ms, &ms) || pg_mul_s64_overflow(ms, 1000, &t) ||
		!IS_VALID_TIMESTAMP(t))
		return DT_NOEND;
	return t;
}

static int64
to_ms(TimestampTz t)
{
	return t / 1000 + epoch_ms;
}

int64
kcoord_wall_clock(void)
{
	return to_ms(GetCurrentTimestamp());
}

bool
kcoord_offset_open(KCoordTable *table, LOCKMODE mode, bool *busy)
{
	return kcoord_table_open("group_offset", "group_offset_pkey", NCOLUMNS, mode, table, busy);
}

static Datum
uuid_datum(const KUuid *id)
{
	pg_uuid_t  *uuid = palloc_object(pg_uuid_t);

	memcpy(uuid->data, id->b, UUID_LEN);
	return UUIDPGetDatum(uuid);
}

static void
make_row(KStr group_id, const KCoordOffset *offset, Datum *values, bool *nulls)
{
	memset(nulls, 0, NCOLUMNS * sizeof(bool));
	values[Anum_group_offset_group_id - 1] = kcoord_varlena(group_id.data, group_id.len);
	values[Anum_group_offset_topic_id - 1] = uuid_datum(&offset->topic_id);
	values[Anum_group_offset_partition - 1] = Int32GetDatum(offset->partition);
	values[Anum_group_offset_offset - 1] = Int64GetDatum(offset->offset);
	values[Anum_group_offset_leader_epoch - 1] = Int32GetDatum(offset->leader_epoch);
	values[Anum_group_offset_metadata - 1] = kcoord_varlena(offset->metadata.data,
															offset->metadata.len);
	values[Anum_group_offset_committed - 1] = TimestampTzGetDatum(from_ms(offset->commit_ms));
	nulls[Anum_group_offset_expires - 1] = offset->expire_ms < 0;
	values[Anum_group_offset_expires - 1] = nulls[Anum_group_offset_expires - 1] ? (Datum) 0 :
		TimestampTzGetDatum(from_ms(offset->expire_ms));
}

KCoordPut
kcoord_offset_put(KCoordTable *table, KStr group_id, const KCoordOffset *offset)
{
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];

	make_row(group_id, offset, values, nulls);
	return kcoord_row_put(table, values, nulls, lengthof(key_equal), key_equal);
}

static int64
offset_of(KCoordTable *table, HeapTuple row)
{
	bool		isnull;

	return DatumGetInt64(heap_getattr(row, Anum_group_offset_offset,
									  RelationGetDescr(table->rel), &isnull));
}

bool
kcoord_offset_peek(KCoordTable *table, KStr group_id, const KUuid *topic_id, int32 partition,
				   int64 *offset)
{
	Datum		values[] = {
		kcoord_varlena(group_id.data, group_id.len), uuid_datum(topic_id), Int32GetDatum(partition)
	};
	HeapTuple	row;

	if (kcoord_row_peek(table, values, lengthof(key_equal), key_equal, &row) != KCOORD_PUT)
		return false;
	*offset = row == NULL ? -1 : offset_of(table, row);
	return true;
}

bool
kcoord_offset_claim(KCoordTable *table, KStr group_id, const KCoordOffset *first, bool wait,
					KCoordClaim *claim)
{
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];
	HeapTuple	row;

	make_row(group_id, first, values, nulls);
	for (;;)
	{
		if (kcoord_row_lock(table, values, lengthof(key_equal), key_equal, wait,
							&row) != KCOORD_PUT)
			return false;
		claim->inserted = row == NULL;
		if (row != NULL)
		{
			claim->tid = row->t_self;
			claim->offset = offset_of(table, row);
			return true;
		}
		claim->offset = first->offset;
		if (kcoord_row_insert(table, values, nulls, &claim->tid) == KCOORD_PUT)
			return true;
		if (!wait)
			return false;
	}
}

void
kcoord_offset_move(KCoordTable *table, KStr group_id, KCoordClaim *claim,
				   const KCoordOffset *offset)
{
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];

	make_row(group_id, offset, values, nulls);
	kcoord_row_update(table, &claim->tid, values, nulls);
}

/* ------------------------------------------------------------------------
 * Deletions: a row that is there tells of its commit, one that is gone does not
 * ------------------------------------------------------------------------
 */

static bool deleting;			/* this process is counted as a deleter */

void
kcoord_offset_deleted(void)
{
	uint64		last = XactLastCommitEnd;
	uint64		known = pg_atomic_read_u64(&kcoord_shared->deleted);

	if (!deleting)
		return;
	/* an abort's is that of an earlier commit, which does not matter */
	while (known < last &&
		   !pg_atomic_compare_exchange_u64(&kcoord_shared->deleted, &known, last))
		;
	deleting = false;
	pg_atomic_fetch_sub_u32(&kcoord_shared->deleters, 1);
}

static void
deleter_exits(int code, Datum arg)
{
	kcoord_offset_deleted();
}

/* Before a row is deleted. */
static void
begin_deleting(void)
{
	static bool registered;

	if (!registered)
		before_shmem_exit(deleter_exits, (Datum) 0);
	registered = true;
	if (!deleting)
		pg_atomic_fetch_add_u32(&kcoord_shared->deleters, 1);
	deleting = true;
}

bool
kcoord_offset_missed(XLogRecPtr *lsn)
{
	if (pg_atomic_read_u32(&kcoord_shared->deleters) > 0)
		return false;
	pg_read_barrier();
	*lsn = Max(*lsn, pg_atomic_read_u64(&kcoord_shared->deleted));
	return true;
}

KCoordPut
kcoord_offset_delete(KCoordTable *table, KStr group_id, const KUuid *topic_id, int32 partition)
{
	Datum		values[] = {
		kcoord_varlena(group_id.data, group_id.len), uuid_datum(topic_id), Int32GetDatum(partition)
	};

	begin_deleting();
	return kcoord_row_delete(table, values, lengthof(key_equal), key_equal);
}

KCoordPut
kcoord_offset_delete_all(KCoordTable *table, KStr group_id)
{
	Datum		group = kcoord_varlena(group_id.data, group_id.len);

	begin_deleting();
	return kcoord_row_delete(table, &group, 1, key_equal);
}

static void
read_row(TupleDesc desc, HeapTuple tuple, KCoordOffset *offset, XLogRecPtr *lsn)
{
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];
	struct varlena *metadata;
	char	   *copy;
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	heap_deform_tuple(tuple, desc, values, nulls);
	memcpy(offset->topic_id.b, DatumGetUUIDP(values[Anum_group_offset_topic_id - 1])->data,
		   UUID_LEN);
	offset->partition = DatumGetInt32(values[Anum_group_offset_partition - 1]);
	offset->offset = DatumGetInt64(values[Anum_group_offset_offset - 1]);
	offset->leader_epoch = DatumGetInt32(values[Anum_group_offset_leader_epoch - 1]);
	metadata = PG_DETOAST_DATUM_PACKED(values[Anum_group_offset_metadata - 1]);
	offset->metadata.len = (int32) VARSIZE_ANY_EXHDR(metadata);
	copy = palloc(Max(offset->metadata.len, 1));
	memcpy(copy, VARDATA_ANY(metadata), offset->metadata.len);
	offset->metadata.data = copy;
	offset->commit_ms = to_ms(DatumGetTimestampTz(values[Anum_group_offset_committed - 1]));
	offset->expire_ms = nulls[Anum_group_offset_expires - 1] ? -1 :
		to_ms(DatumGetTimestampTz(values[Anum_group_offset_expires - 1]));
	if (TransactionIdIsNormal(xmin))
		*lsn = Max(*lsn, TransactionIdGetCommitLSN(xmin));
}

bool
kcoord_offset_get(KCoordTable *table, KStr group_id, const KUuid *topic_id, int32 partition,
				  KCoordOffset *offset, XLogRecPtr *lsn)
{
	Datum		values[] = {
		kcoord_varlena(group_id.data, group_id.len), uuid_datum(topic_id), Int32GetDatum(partition)
	};
	ScanKeyData keys[lengthof(key_equal)];
	SysScanDesc scan;
	HeapTuple	tuple;

	for (int i = 0; i < (int) lengthof(key_equal); i++)
		ScanKeyInit(&keys[i], i + 1, BTEqualStrategyNumber, key_equal[i], values[i]);
	scan = systable_beginscan(table->rel, RelationGetRelid(table->index), true,
							  GetActiveSnapshot(), lengthof(key_equal), keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		read_row(RelationGetDescr(table->rel), tuple, offset, lsn);
	systable_endscan(scan);
	return HeapTupleIsValid(tuple);
}

/* False: there are more than *left, which counts down. */
static bool
add_offsets(KCoordTable *table, ScanKey keys, int nkeys, int *left, KCoordOffsets *list,
			XLogRecPtr *lsn)
{
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = systable_beginscan_ordered(table->rel, table->index, GetActiveSnapshot(), nkeys, keys);
	while (*left > 0 &&
		   HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		if (list->count == list->room)
		{
			list->room = Max(2 * list->room, 16);
			list->items = list->items == NULL ? palloc(list->room * sizeof(KCoordOffset)) :
				repalloc_huge(list->items, list->room * sizeof(KCoordOffset));
		}
		read_row(RelationGetDescr(table->rel), tuple, &list->items[list->count++], lsn);
		(*left)--;
	}
	systable_endscan_ordered(scan);
	return *left > 0;
}

bool
kcoord_offset_list(KCoordTable *table, KStr group_id, int max, KCoordOffsets *list,
				   XLogRecPtr *lsn)
{
	ScanKeyData keys[lengthof(key_equal)];
	const KCoordOffset *last = list->count > 0 ? &list->items[list->count - 1] : NULL;
	Datum		topic;

	ScanKeyInit(&keys[0], Anum_group_offset_group_id, BTEqualStrategyNumber, F_TEXTEQ,
				kcoord_varlena(group_id.data, group_id.len));
	if (last == NULL)
		return !add_offsets(table, keys, 1, &max, list, lsn);

	/* the rest of the last topic, and then the topics behind it */
	topic = uuid_datum(&last->topic_id);
	ScanKeyInit(&keys[1], Anum_group_offset_topic_id, BTEqualStrategyNumber, F_UUID_EQ, topic);
	ScanKeyInit(&keys[2], Anum_group_offset_partition, BTGreaterStrategyNumber, F_INT4GT,
				Int32GetDatum(last->partition));
	if (!add_offsets(table, keys, 3, &max, list, lsn))
		return true;
	ScanKeyInit(&keys[1], Anum_group_offset_topic_id, BTGreaterStrategyNumber, F_UUID_GT, topic);
	return !add_offsets(table, keys, 2, &max, list, lsn);
}

bool
kcoord_offset_any(KCoordTable *table, KStr group_id)
{
	ScanKeyData key;
	SysScanDesc scan;
	bool		any;

	ScanKeyInit(&key, Anum_group_offset_group_id, BTEqualStrategyNumber, F_TEXTEQ,
				kcoord_varlena(group_id.data, group_id.len));
	scan = systable_beginscan(table->rel, RelationGetRelid(table->index), true,
							  GetActiveSnapshot(), 1, &key);
	any = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	return any;
}

int
kcoord_offset_delete_some(KCoordTable *table, KStr group_id, KCoordExpired expired, void *arg)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int			deleted = 0;

	ScanKeyInit(&key, Anum_group_offset_group_id, BTEqualStrategyNumber, F_TEXTEQ,
				kcoord_varlena(group_id.data, group_id.len));
	scan = systable_beginscan(table->rel, RelationGetRelid(table->index), true,
							  GetActiveSnapshot(), 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		KCoordOffset offset;
		XLogRecPtr	lsn = InvalidXLogRecPtr;
		TM_FailureData failure;

		read_row(RelationGetDescr(table->rel), tuple, &offset, &lsn);
		if (!expired(arg, &offset))
			continue;
		begin_deleting();
		if (heap_delete(table->rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot,
						false, &failure, false) == TM_Ok)
			deleted++;
	}
	systable_endscan(scan);
	return deleted;
}

bool
kcoord_offset_next_group(KCoordTable *table, KStr after, KStr *group_id)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	/* from one group to the next, however many offsets it has */
	if (after.len >= 0)
		ScanKeyInit(&key, Anum_group_offset_group_id, BTGreaterStrategyNumber, F_TEXT_GT,
					kcoord_varlena(after.data, after.len));
	scan = systable_beginscan_ordered(table->rel, table->index, GetActiveSnapshot(),
									  after.len >= 0 ? 1 : 0, &key);
	tuple = systable_getnext_ordered(scan, ForwardScanDirection);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		struct varlena *id = PG_DETOAST_DATUM_PACKED(
			heap_getattr(tuple, Anum_group_offset_group_id, RelationGetDescr(table->rel),
						 &isnull));

		group_id->len = (int32) VARSIZE_ANY_EXHDR(id);
		group_id->data = pnstrdup(VARDATA_ANY(id), group_id->len);
	}
	systable_endscan_ordered(scan);
	return HeapTupleIsValid(tuple);
}

int
kcoord_offset_groups(KCoordTable *table, KStr after, KStr *groups, int max)
{
	int			n = 0;

	while (n < max && kcoord_offset_next_group(table, after, &groups[n]))
		after = groups[n++];
	return n;
}
