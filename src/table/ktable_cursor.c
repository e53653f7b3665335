/*
 * ktable_cursor.c
 *		Ranges of offsets, one after the other, into slots.
 *
 * The log can only be read forward.  A backward cursor reads windows of it, from the end to the
 * beginning, and returns the rows of each from the last to the first.  A window begins with a
 * batch, so that no batch is read twice; it is small at first, since what asks for this
 * order is mostly a LIMIT.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "log/klog.h"
#include "table/ktable_read.h"

#define KWINDOW_FIRST_WIDTH	64
#define KWINDOW_ENOUGH_ROWS	1000	/* fewer: the next window is twice as wide */
#define KWINDOW_TOO_MANY	16384	/* more, in several batches: try again, narrower */

typedef struct KTableWindowRow
{
	int64		offset;
	Datum		values[KTABLE_NCOLUMNS];
	bool		isnull[KTABLE_NCOLUMNS];
} KTableWindowRow;

void
ktable_cursor_open(KTableCursor *cursor, Relation rel, uint32 columns, bool backward)
{
	memset(cursor, 0, sizeof(*cursor));
	cursor->rel = rel;
	cursor->reader = ktable_reader_make(rel, columns);
	cursor->backward = backward;
	cursor->current = -1;
	if (backward)
		cursor->window_context = AllocSetContextCreate(CurrentMemoryContext, "kafka_log window",
													   ALLOCSET_DEFAULT_SIZES);
}

void
ktable_cursor_set(KTableCursor *cursor, KTableRange *ranges, int nranges)
{
	if (cursor->ranges != NULL && cursor->ranges != ranges)
		pfree(cursor->ranges);
	cursor->ranges = ranges;
	cursor->nranges = nranges;
	cursor->current = cursor->backward ? nranges : -1;
	cursor->nrows = 0;
}

void
ktable_cursor_close(KTableCursor *cursor)
{
	ktable_reader_close(cursor->reader);
	cursor->reader = NULL;
	if (cursor->ranges != NULL)
		pfree(cursor->ranges);
	cursor->ranges = NULL;
	if (cursor->window_context != NULL)
		MemoryContextDelete(cursor->window_context);
	cursor->window_context = NULL;
}

static bool
ktable_cursor_forward(KTableCursor *cursor, TupleTableSlot *slot, int64 *offset)
{
	for (;;)
	{
		KTableRange *range;

		if (cursor->current >= 0 && cursor->current < cursor->nranges &&
			ktable_reader_next(cursor->reader, slot->tts_values, slot->tts_isnull))
			break;
		if (cursor->current + 1 >= cursor->nranges)
		{
			cursor->current = cursor->nranges;
			return false;
		}
		range = &cursor->ranges[++cursor->current];
		ktable_reader_seek(cursor->reader, range->partition, range->from, range->limit);
	}
	*offset = ktable_reader_offset(cursor->reader);
	return true;
}

/* A row of the reader's, kept for the time of the window. */
static void
ktable_window_keep(KTableCursor *cursor, const Datum *values, const bool *isnull)
{
	TupleDesc	desc = RelationGetDescr(cursor->rel);
	MemoryContext old = MemoryContextSwitchTo(cursor->window_context);
	KTableWindowRow *row;

	if (cursor->nrows == cursor->max_rows)
	{
		cursor->max_rows = Max(cursor->max_rows * 2, KWINDOW_FIRST_WIDTH);
		if (cursor->rows == NULL)
			cursor->rows = palloc(sizeof(KTableWindowRow) * cursor->max_rows);
		else
			cursor->rows = repalloc_huge(cursor->rows, sizeof(KTableWindowRow) * cursor->max_rows);
	}
	row = &cursor->rows[cursor->nrows];
	row->offset = ktable_reader_offset(cursor->reader);
	for (int i = 0; i < KTABLE_NCOLUMNS; i++)
	{
		row->isnull[i] = isnull[i];
		row->values[i] = isnull[i] ? (Datum) 0
			: datumCopy(values[i], TupleDescAttr(desc, i)->attbyval,
						TupleDescAttr(desc, i)->attlen);
	}
	cursor->nrows++;
	MemoryContextSwitchTo(old);
}

static void
ktable_window_forget(KTableCursor *cursor)
{
	MemoryContextReset(cursor->window_context);
	cursor->rows = NULL;
	cursor->nrows = 0;
	cursor->max_rows = 0;
}

/*
 * Reads the window of offsets from <= offset < cursor->below.  False: it has too many rows, in
 * several batches, to be kept.
 */
static bool
ktable_window_fill(KTableCursor *cursor, int32 partition, int64 from, int64 floor)
{
	const KTableCounters *counters = ktable_reader_counters(cursor->reader);
	int64		batches = counters->batches;
	Datum		values[KTABLE_NCOLUMNS];
	bool		isnull[KTABLE_NCOLUMNS];

	ktable_window_forget(cursor);
	ktable_reader_seek(cursor->reader, partition, from, cursor->below);
	ktable_reader_widen(cursor->reader, floor);
	while (ktable_reader_next(cursor->reader, values, isnull))
	{
		if (cursor->nrows >= KWINDOW_TOO_MANY && counters->batches > batches + 1)
			return false;
		ktable_window_keep(cursor, values, isnull);
	}
	return true;
}

/* Reads the window that ends at cursor->below, and moves that to its beginning. */
static void
ktable_window_read(KTableCursor *cursor, int32 partition, int64 floor)
{
	int64		from;

	for (;;)
	{
		from = cursor->below - floor > cursor->width ? cursor->below - cursor->width : floor;
		if (ktable_window_fill(cursor, partition, from, floor))
			break;
		/* Narrow enough it is one batch, which is taken however large it is. */
		cursor->width = Max(Min(cursor->width, cursor->below - from) / 16, 1);
	}
	cursor->below = Min(from, ktable_reader_from(cursor->reader));
	if (cursor->nrows < KWINDOW_ENOUGH_ROWS && cursor->width < PG_INT64_MAX / 2)
		cursor->width *= 2;
}

static bool
ktable_cursor_backward(KTableCursor *cursor, TupleTableSlot *slot, int64 *offset)
{
	KTableWindowRow *row;

	while (cursor->nrows == 0)
	{
		KTableRange *range;
		int64		floor;

		CHECK_FOR_INTERRUPTS();
		if (cursor->current >= 0 && cursor->current < cursor->nranges)
		{
			/* Below the log's start there is nothing, and it may be far above the range's. */
			range = &cursor->ranges[cursor->current];
			floor = Max(range->from,
						klog_log_start(klog_attach(cursor->rel, range->partition, false)));
			if (cursor->below > floor)
			{
				ktable_window_read(cursor, range->partition, floor);
				continue;
			}
		}
		if (cursor->current <= 0)
		{
			cursor->current = -1;
			return false;
		}
		range = &cursor->ranges[--cursor->current];
		cursor->below = range->limit;
		cursor->width = KWINDOW_FIRST_WIDTH;
	}

	row = &cursor->rows[--cursor->nrows];
	memcpy(slot->tts_values, row->values, sizeof(row->values));
	memcpy(slot->tts_isnull, row->isnull, sizeof(row->isnull));
	*offset = row->offset;
	return true;
}

bool
ktable_cursor_next(KTableCursor *cursor, TupleTableSlot *slot)
{
	int64		offset;

	ExecClearTuple(slot);
	if (cursor->backward ? !ktable_cursor_backward(cursor, slot, &offset)
		: !ktable_cursor_forward(cursor, slot, &offset))
		return false;
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(cursor->rel);
	if (cursor->want_tid)
		ktable_tid_make(slot->tts_tableOid, cursor->ranges[cursor->current].partition, offset,
						&slot->tts_tid);
	return true;
}
