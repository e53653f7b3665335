/*
 * kcoord_state.c
 *		kafka.group_state: what must survive a restart of groups and their members.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "coord/kcoord.h"
#include "topic/kcatalog.h"

static const Oid key_equal[] = {F_TEXTEQ, F_BYTEAEQ};

bool
kcoord_state_open(KCoordTable *table, LOCKMODE mode, bool *busy)
{
	return kcoord_table_open("group_state", "group_state_pkey", Anum_group_state_data, mode,
							 table, busy);
}

KCoordPut
kcoord_state_write(KCoordTable *table, KStr group_id, const KGroupRow *rows, int count)
{
	bool		nulls[Anum_group_state_data] = {false};
	Datum		values[Anum_group_state_data];

	values[Anum_group_state_group_id - 1] = kcoord_varlena(group_id.data, group_id.len);
	for (int i = 0; i < count; i++)
	{
		const KGroupRow *row = &rows[i];
		bool		all = row->member_id.len < 0 && row->data.len < 0;
		KCoordPut	put;

		values[Anum_group_state_member_id - 1] = kcoord_varlena(row->member_id.data,
																row->member_id.len);
		if (row->data.len < 0)
			put = kcoord_row_delete(table, values, all ? 1 : lengthof(key_equal), key_equal);
		else
		{
			values[Anum_group_state_data - 1] = kcoord_varlena(row->data.data, row->data.len);
			put = kcoord_row_put(table, values, nulls, lengthof(key_equal), key_equal);
		}
		if (put != KCOORD_PUT)
			return put;
	}
	return KCOORD_PUT;
}

/* The rows of one group, as they come out of the index one after the other. */
typedef struct Group
{
	MemoryContext ctx;
	KStr		id;
	KGroupRow  *rows;
	int			count;
	int			room;
} Group;

static KStr
copy_varlena(Datum datum)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(datum);
	int			len = (int) VARSIZE_ANY_EXHDR(v);
	char	   *data = palloc(Max(len, 1));

	memcpy(data, VARDATA_ANY(v), len);
	return (KStr)
	{
		data, len
	};
}

static void
finish_group(Group *group, KCoordLoad load, void *arg)
{
	if (group->count > 0)
		load(arg, group->id, group->rows, group->count);
	MemoryContextReset(group->ctx);
	group->rows = NULL;
	group->count = group->room = 0;
}

static void
add_row(Group *group, TupleDesc desc, HeapTuple tuple, KCoordLoad load, void *arg)
{
	MemoryContext old = CurrentMemoryContext;
	bool		isnull;
	Datum		id = heap_getattr(tuple, Anum_group_state_group_id, desc, &isnull);
	struct varlena *v = PG_DETOAST_DATUM_PACKED(id);
	KGroupRow  *row;
	KStr		data;

	if (group->count > 0 && (group->id.len != (int) VARSIZE_ANY_EXHDR(v) ||
							 memcmp(group->id.data, VARDATA_ANY(v), group->id.len) != 0))
		finish_group(group, load, arg);
	MemoryContextSwitchTo(group->ctx);
	if (group->count == 0)
		group->id = copy_varlena(id);
	if (group->count == group->room)
	{
		group->room = Max(2 * group->room, 16);
		group->rows = group->rows == NULL ? palloc(group->room * sizeof(KGroupRow)) :
			repalloc(group->rows, group->room * sizeof(KGroupRow));
	}
	row = &group->rows[group->count++];
	row->version = 0;
	row->member_id = copy_varlena(heap_getattr(tuple, Anum_group_state_member_id, desc, &isnull));
	if (row->member_id.len == 0)
		row->member_id = KSTR_NULL;
	data = copy_varlena(heap_getattr(tuple, Anum_group_state_data, desc, &isnull));
	row->data = (KBytes)
	{
		(const uint8_t *) data.data, data.len
	};
	MemoryContextSwitchTo(old);
}

bool
kcoord_state_load(KCoordLoad load, void *arg, bool *busy)
{
	KCoordTable table;
	Group		group = {0};
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!kcoord_state_open(&table, AccessShareLock, busy))
		return false;
	group.ctx = AllocSetContextCreate(CurrentMemoryContext, "kafka group rows",
									  ALLOCSET_DEFAULT_SIZES);
	scan = systable_beginscan_ordered(table.rel, table.index, GetActiveSnapshot(), 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
		add_row(&group, RelationGetDescr(table.rel), tuple, load, arg);
	systable_endscan_ordered(scan);
	finish_group(&group, load, arg);
	MemoryContextDelete(group.ctx);
	kcoord_table_close(&table);
	return true;
}
