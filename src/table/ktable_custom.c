/*
 * ktable_custom.c
 *		Execution of the custom scan that ktable_plan.c plans.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "log/klog.h"
#include "table/ktable_plan.h"
#include "table/ktable_read.h"
#include "table/ktable_row.h"

/* Partitions up to which a scan looks at all ends when it starts, needed or not. */
#define KTABLE_EAGER_ENDS	64

typedef struct KTableCustomBound
{
	KTableBound bound;
	ExprState  *value;
} KTableCustomBound;

typedef struct KTableCustomScan
{
	CustomScanState css;		/* first */
	KTableCustomBound *bounds;
	int			nbounds;
	int64	   *ends;			/* by partition: what this scan may see; -1: not looked at yet */
	int32		partitions;
	bool		backward;		/* from the end of the last partition to the first's beginning */
	KTableCursor cursor;
	bool		ranges_known;	/* the cursor is set to what the conditions now say */
} KTableCustomScan;

/* What the conditions come to, with their values at hand. */
typedef struct KTableLimits
{
	bool		nothing;		/* no row can pass */
	int64		partition_from;
	int64		partition_to;	/* inclusive, as all of these */
	bool		listed;			/* only the partitions in list */
	Bitmapset  *list;
	int64		offset_from;
	int64		offset_to;
	bool		since_known;
	TimestampTz since;
} KTableLimits;

/* ------------------------------------------------------------------------
 * Conditions
 * ------------------------------------------------------------------------
 */

static int64
ktable_integer(Datum value, Oid type)
{
	switch (type)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

static void
ktable_limit_range(StrategyNumber strategy, int64 value, int64 *from, int64 *to,
				   KTableLimits *limits)
{
	switch (strategy)
	{
		case BTLessStrategyNumber:
			if (value == PG_INT64_MIN)
				limits->nothing = true;
			else
				*to = Min(*to, value - 1);
			break;
		case BTLessEqualStrategyNumber:
			*to = Min(*to, value);
			break;
		case BTEqualStrategyNumber:
			*from = Max(*from, value);
			*to = Min(*to, value);
			break;
		case BTGreaterEqualStrategyNumber:
			*from = Max(*from, value);
			break;
		case BTGreaterStrategyNumber:
			if (value == PG_INT64_MAX)
				limits->nothing = true;
			else
				*from = Max(*from, value + 1);
			break;
	}
}

static void
ktable_limit_any(const KTableBound *bound, Datum value, int32 partitions, KTableLimits *limits)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Oid			type = ARR_ELEMTYPE(array);
	int16		typlen;
	bool		typbyval;
	char		typalign;
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	Bitmapset  *list = NULL;
	int64		smallest = PG_INT64_MAX;
	int64		greatest = PG_INT64_MIN;

	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	deconstruct_array(array, type, typlen, typbyval, typalign, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		int64		element;

		if (nulls[i])
			continue;
		element = ktable_integer(elements[i], type);
		smallest = Min(smallest, element);
		greatest = Max(greatest, element);
		if (bound->column == KTABLE_PARTITION && element >= 0 && element < partitions)
			list = bms_add_member(list, (int) element);
	}
	if (smallest > greatest)
		limits->nothing = true;
	else if (bound->column == KTABLE_PARTITION)
	{
		limits->list = limits->listed ? bms_int_members(limits->list, list) : list;
		limits->listed = true;
	}
	else
	{
		limits->offset_from = Max(limits->offset_from, smallest);
		limits->offset_to = Min(limits->offset_to, greatest);
	}
}

static void
ktable_limit_since(const KTableBound *bound, Datum value, KTableLimits *limits)
{
	TimestampTz since;

	if (bound->type == DATEOID)
		value = DirectFunctionCall1(date_timestamptz, value);
	else if (bound->type == TIMESTAMPOID)
		value = DirectFunctionCall1(timestamp_timestamptz, value);
	since = DatumGetTimestampTz(value);
	if (!limits->since_known || since > limits->since)
		limits->since = since;
	limits->since_known = true;
}

static void
ktable_limits(KTableCustomScan *scan, KTableLimits *limits)
{
	ExprContext *econtext = scan->css.ss.ps.ps_ExprContext;
	MemoryContext old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);

	memset(limits, 0, sizeof(*limits));
	limits->partition_to = scan->partitions - 1;
	limits->offset_to = PG_INT64_MAX - 1;
	for (int i = 0; i < scan->nbounds && !limits->nothing; i++)
	{
		const KTableBound *bound = &scan->bounds[i].bound;
		bool		isnull;
		Datum		value = ExecEvalExpr(scan->bounds[i].value, econtext, &isnull);

		/* All of these operators are strict. */
		if (isnull)
			limits->nothing = true;
		else if (bound->any)
			ktable_limit_any(bound, value, scan->partitions, limits);
		else if (bound->column == KTABLE_TIMESTAMP)
			ktable_limit_since(bound, value, limits);
		else if (bound->column == KTABLE_PARTITION)
			ktable_limit_range(bound->strategy, ktable_integer(value, bound->type),
							   &limits->partition_from, &limits->partition_to, limits);
		else
			ktable_limit_range(bound->strategy, ktable_integer(value, bound->type),
							   &limits->offset_from, &limits->offset_to, limits);
	}
	MemoryContextSwitchTo(old);
}

static int64
ktable_custom_end(KTableCustomScan *scan, int32 partition)
{
	if (scan->ends[partition] < 0)
		scan->ends[partition] = ktable_visible_end(scan->css.ss.ss_currentRelation, partition);
	return scan->ends[partition];
}

/* Evaluates the conditions and points the cursor to the ranges that they leave. */
static void
ktable_custom_set_ranges(KTableCustomScan *scan)
{
	Relation	rel = scan->css.ss.ss_currentRelation;
	KTableLimits limits;
	KTableRange *ranges;
	int			n = 0;

	ktable_limits(scan, &limits);
	ranges = MemoryContextAlloc(scan->css.ss.ps.state->es_query_cxt,
								sizeof(KTableRange) * Max(scan->partitions, 1));
	if (!limits.nothing && limits.offset_from <= limits.offset_to)
	{
		int64		first = Max(limits.partition_from, 0);
		int64		last = Min(limits.partition_to, scan->partitions - 1);

		for (int64 p = first; p <= last; p++)
		{
			KTableRange *range = &ranges[n];

			CHECK_FOR_INTERRUPTS();
			if (limits.listed && !bms_is_member((int) p, limits.list))
				continue;
			range->partition = (int32) p;
			range->from = limits.offset_from;
			range->limit = Min(ktable_custom_end(scan, range->partition), limits.offset_to + 1);
			if (range->from >= range->limit)
				continue;
			if (limits.since_known)
			{
				KLogPartition *part = klog_attach(rel, range->partition, false);
				int64		since = ktable_timestamp_to_ms(limits.since);
				KLogFound	found = klog_find_timestamp(rel, part, since, range->limit, NULL);

				/* Nothing before it is as late. */
				if (found.offset < 0)
					continue;
				range->from = Max(range->from, found.offset);
			}
			n++;
		}
	}
	ktable_cursor_set(&scan->cursor, ranges, n);
	scan->ranges_known = true;
}

/* ------------------------------------------------------------------------
 * Callbacks of the executor
 * ------------------------------------------------------------------------
 */

/* The columns that target list and filter refer to. */
static uint32
ktable_custom_columns(CustomScanState *node, bool *want_tid)
{
	Scan	   *plan = (Scan *) node->ss.ps.plan;
	Bitmapset  *attrs = NULL;
	uint32		columns = 0;

	pull_varattnos((Node *) plan->plan.targetlist, plan->scanrelid, &attrs);
	pull_varattnos((Node *) plan->plan.qual, plan->scanrelid, &attrs);
	for (int i = 0; i < KTABLE_NCOLUMNS; i++)
	{
		if (bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, attrs))
			columns |= KTABLE_COLUMN(i);
	}
	if (bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, attrs))
		columns = KTABLE_ALL_COLUMNS;
	*want_tid = bms_is_member(SelfItemPointerAttributeNumber - FirstLowInvalidHeapAttributeNumber,
							  attrs);
	bms_free(attrs);
	return columns;
}

static void
ktable_custom_begin(CustomScanState *node, EState *estate, int eflags)
{
	KTableCustomScan *scan = (KTableCustomScan *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	Relation	rel = node->ss.ss_currentRelation;
	bool		want_tid;
	uint32		columns;
	ListCell   *lc;

	ktable_check_shape(rel);
	scan->bounds = palloc0(sizeof(KTableCustomBound) * Max(list_length(plan->custom_exprs), 1));
	foreach(lc, plan->custom_exprs)
	{
		KTableCustomBound *bound = &scan->bounds[scan->nbounds];

		if (!ktable_bound_match(lfirst(lc), plan->scan.scanrelid, &bound->bound))
			elog(ERROR, "unexpected condition in the plan of a kafka_log scan");
		bound->value = ExecInitExpr(bound->bound.value, &node->ss.ps);
		scan->nbounds++;
	}
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;

	columns = ktable_custom_columns(node, &want_tid);
	ktable_cursor_open(&scan->cursor, rel, columns, scan->backward);
	scan->cursor.want_tid = want_tid;

	scan->partitions = klog_stored_partitions(rel);
	scan->ends = palloc(sizeof(int64) * Max(scan->partitions, 1));
	for (int32 i = 0; i < scan->partitions; i++)
	{
		scan->ends[i] = -1;
		if (scan->partitions <= KTABLE_EAGER_ENDS)
			(void) ktable_custom_end(scan, i);
	}
	pgstat_count_heap_scan(rel);
}

static TupleTableSlot *
ktable_custom_next(ScanState *node)
{
	KTableCustomScan *scan = (KTableCustomScan *) node;

	if (!scan->ranges_known)
		ktable_custom_set_ranges(scan);
	if (!ktable_cursor_next(&scan->cursor, node->ss_ScanTupleSlot))
		return NULL;
	pgstat_count_heap_getnext(node->ss_currentRelation);
	return node->ss_ScanTupleSlot;
}

/* A row fetched by its ctid was found by this scan before, so that it passes the conditions. */
static bool
ktable_custom_recheck(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
ktable_custom_exec(CustomScanState *node)
{
	return ExecScan(&node->ss, ktable_custom_next, ktable_custom_recheck);
}

static void
ktable_custom_rescan(CustomScanState *node)
{
	((KTableCustomScan *) node)->ranges_known = false;
	ExecScanReScan(&node->ss);
}

static void
ktable_custom_end_scan(CustomScanState *node)
{
	KTableCustomScan *scan = (KTableCustomScan *) node;

	if (scan->cursor.reader != NULL)
		ktable_cursor_close(&scan->cursor);
}

static void
ktable_custom_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	static const struct
	{
		int			column;
		const char *label;
	}			lines[] =
	{
		{KTABLE_PARTITION, "Partition"},
		{KTABLE_OFFSET, "Offset"},
		{KTABLE_TIMESTAMP, "Timestamp"}
	};
	KTableCustomScan *scan = (KTableCustomScan *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	bool		prefix = es->verbose || list_length(es->rtable) > 1;
	List	   *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);

	for (int i = 0; i < (int) lengthof(lines); i++)
	{
		List	   *clauses = NIL;

		for (int k = 0; k < scan->nbounds; k++)
		{
			if (scan->bounds[k].bound.column == lines[i].column)
				clauses = lappend(clauses, list_nth(plan->custom_exprs, k));
		}
		if (clauses != NIL)
			ExplainPropertyText(lines[i].label,
								deparse_expression((Node *) make_ands_explicit(clauses),
												   context, prefix, false), es);
	}
	if (scan->backward)
		ExplainPropertyText("Scan Direction", "Backward", es);
	if (es->analyze && scan->cursor.reader != NULL)
	{
		const KTableCounters *counters = ktable_reader_counters(scan->cursor.reader);

		ExplainPropertyInteger("Batches Read", NULL, counters->batches, es);
		ExplainPropertyInteger("Pages Read", NULL, counters->pages, es);
		ExplainPropertyInteger("Bytes Read", NULL, counters->bytes, es);
	}
}

static const CustomExecMethods ktable_exec_methods = {
	.CustomName = "Kafka Log Scan",
	.BeginCustomScan = ktable_custom_begin,
	.ExecCustomScan = ktable_custom_exec,
	.EndCustomScan = ktable_custom_end_scan,
	.ReScanCustomScan = ktable_custom_rescan,
	.ExplainCustomScan = ktable_custom_explain
};

Node *
ktable_custom_create_state(CustomScan *plan)
{
	KTableCustomScan *scan = palloc0(sizeof(KTableCustomScan));

	NodeSetTag(scan, T_CustomScanState);
	scan->css.flags = plan->flags;
	scan->css.methods = &ktable_exec_methods;
	scan->backward = linitial_int(plan->custom_private) != 0;
	return (Node *) scan;
}
