/*
 * ktable_plan.c
 *		Planning of queries on topics: a custom scan in place of every other scan.
 *
 * The custom scan takes conditions on partition, "offset" and "timestamp" to the pages that can
 * have such records, decodes only the columns that are needed, and tells its order: by
 * partition, and by offset within, or the other way round.  Sequential, tid and parallel scans
 * are taken off the list, so that no plan relies on what they could do for a heap table (scan
 * backwards in the middle, share the work).
 */
#include "postgres.h"

#include <math.h>

#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/typcache.h"

#include "compat.h"
#include "table/ktable_plan.h"

static set_rel_pathlist_hook_type ktable_prev_set_rel_pathlist = NULL;

/* ------------------------------------------------------------------------
 * Conditions
 * ------------------------------------------------------------------------
 */

static bool
ktable_bound_column(Node *node, Index varno, int *column)
{
	Var		   *var = (Var *) node;

	if (!IsA(node, Var) || var->varno != (int) varno || var->varlevelsup != 0)
		return false;
	*column = var->varattno - 1;
	return *column == KTABLE_PARTITION || *column == KTABLE_OFFSET ||
		*column == KTABLE_TIMESTAMP;
}

static bool
ktable_bound_operator(Oid opno, KTableBound *bound)
{
	Oid			family = INTEGER_BTREE_FAM_OID;
	Oid			left;

	if (bound->column == KTABLE_TIMESTAMP)
		family = lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf;
	bound->strategy = get_op_opfamily_strategy(opno, family);
	if (bound->strategy == 0)
		return false;
	op_input_types(opno, &left, &bound->type);
	if (bound->column == KTABLE_TIMESTAMP)
		return bound->type == TIMESTAMPTZOID || bound->type == TIMESTAMPOID ||
			bound->type == DATEOID;
	return bound->type == INT2OID || bound->type == INT4OID || bound->type == INT8OID;
}

bool
ktable_bound_match(Expr *clause, Index varno, KTableBound *bound)
{
	Oid			opno;

	if (IsA(clause, OpExpr) && list_length(((OpExpr *) clause)->args) == 2)
	{
		OpExpr	   *op = (OpExpr *) clause;

		opno = op->opno;
		bound->any = false;
		if (ktable_bound_column(linitial(op->args), varno, &bound->column))
			bound->value = lsecond(op->args);
		else if (ktable_bound_column(lsecond(op->args), varno, &bound->column))
		{
			bound->value = linitial(op->args);
			opno = get_commutator(opno);
		}
		else
			return false;
	}
	else if (IsA(clause, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) clause)->useOr)
	{
		ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) clause;

		opno = op->opno;
		bound->any = true;
		if (!ktable_bound_column(linitial(op->args), varno, &bound->column))
			return false;
		bound->value = lsecond(op->args);
	}
	else
		return false;

	if (!OidIsValid(opno) || !ktable_bound_operator(opno, bound))
		return false;
	if (bound->any && (bound->strategy != BTEqualStrategyNumber ||
					   bound->column == KTABLE_TIMESTAMP))
		return false;

	/* Records are not in the order of their timestamps: an upper bound ends nothing. */
	if (bound->column == KTABLE_TIMESTAMP &&
		(bound->strategy == BTLessStrategyNumber || bound->strategy == BTLessEqualStrategyNumber))
		return false;

	/* Of a list of offsets the scan uses the smallest and the greatest. */
	bound->exact = bound->column == KTABLE_PARTITION ||
		(bound->column == KTABLE_OFFSET && !bound->any);
	return true;
}

/* The same while planning: the value must also be there, and the same, for the whole of a scan. */
static bool
ktable_bound_usable(PlannerInfo *root, Expr *clause, Index varno, KTableBound *bound)
{
	return ktable_bound_match(clause, varno, bound) &&
		!bms_is_member(varno, pull_varnos(root, (Node *) bound->value)) &&
		!contain_volatile_functions((Node *) bound->value) &&
		!contain_subplans((Node *) bound->value);
}

/* ------------------------------------------------------------------------
 * Paths
 * ------------------------------------------------------------------------
 */

static void
ktable_cost(PlannerInfo *root, RelOptInfo *rel, CustomPath *path)
{
	ParamPathInfo *param = path->path.param_info;
	List	   *bounds = NIL;
	List	   *clauses = rel->baserestrictinfo;
	ListCell   *lc;
	double		fraction;
	double		rows;
	double		pages;
	QualCost	cost;

	if (param != NULL)
		clauses = list_concat_copy(param->ppi_clauses, clauses);
	foreach(lc, clauses)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		KTableBound bound;

		if (ktable_bound_usable(root, rinfo->clause, rel->relid, &bound))
			bounds = lappend(bounds, rinfo);
	}
	fraction = clauselist_selectivity(root, bounds, rel->relid, JOIN_INNER, NULL);
	rows = clamp_row_est(rel->tuples * fraction);
	pages = Max(ceil(rel->pages * fraction), 1);

	path->path.rows = param != NULL ? param->ppi_rows : rel->rows;
	cost_qual_eval(&cost, clauses, root);
	path->path.startup_cost = cost.startup + path->path.pathtarget->cost.startup;
	path->path.total_cost = path->path.startup_cost +
		(bounds != NIL ? random_page_cost : seq_page_cost) +
		seq_page_cost * (pages - 1) +
		(cpu_tuple_cost + cost.per_tuple) * rows +
		path->path.pathtarget->cost.per_tuple * path->path.rows;
}

/*
 * By partition and offset, both rising or both falling; a partition that is fixed by the query
 * needs no mention.
 */
static List *
ktable_pathkeys(PlannerInfo *root, RelOptInfo *rel, bool backward)
{
	static const struct
	{
		AttrNumber	attno;
		Oid			type;
		Oid			less;
	}			order[] =
	{
		{KTABLE_PARTITION + 1, INT4OID, Int4LessOperator},
		{KTABLE_OFFSET + 1, INT8OID, Int8LessOperator}
	};
	List	   *pathkeys = NIL;

	for (int i = 0; i < (int) lengthof(order); i++)
	{
		Var		   *var = makeVar(rel->relid, order[i].attno, order[i].type, -1, InvalidOid, 0);
		Oid			opno = backward ? get_commutator(order[i].less) : order[i].less;
		List	   *keys = kcompat_expression_pathkey(root, (Expr *) var, opno, rel->relids);

		if (keys == NIL)
			break;
		if (!EC_MUST_BE_REDUNDANT(((PathKey *) linitial(keys))->pk_eclass))
			pathkeys = list_concat(pathkeys, keys);
	}
	return truncate_useless_pathkeys(root, rel, pathkeys);
}

static Plan *ktable_plan_path(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path,
							  List *tlist, List *clauses, List *custom_plans);

static const CustomPathMethods ktable_path_methods = {
	.CustomName = "Kafka Log Scan",
	.PlanCustomPath = ktable_plan_path
};

static const CustomScanMethods ktable_scan_methods = {
	.CustomName = "Kafka Log Scan",
	.CreateCustomScanState = ktable_custom_create_state
};

static void
ktable_add_path(PlannerInfo *root, RelOptInfo *rel, Relids required_outer, List *pathkeys,
				bool backward)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = get_baserel_parampathinfo(root, rel, required_outer);
	path->path.parallel_aware = false;
	path->path.parallel_safe = false;
	path->path.pathkeys = pathkeys;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_private = list_make1_int(backward);
	path->methods = &ktable_path_methods;
	ktable_cost(root, rel, path);
	add_path(rel, (Path *) path);
}

typedef struct KTableMember
{
	AttrNumber	attno;
} KTableMember;

static bool
ktable_ec_member_matches(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec,
						 EquivalenceMember *em, void *arg)
{
	Var		   *var = (Var *) em->em_expr;

	return IsA(var, Var) && var->varno == (int) rel->relid &&
		var->varattno == ((KTableMember *) arg)->attno;
}

/*
 * Paths for the inner side of nested loops: for each set of outer relations whose columns a
 * join clause compares with partition, offset or timestamp.
 */
static void
ktable_add_parameterized_paths(PlannerInfo *root, RelOptInfo *rel)
{
	List	   *clauses = list_copy(rel->joininfo);
	List	   *done = NIL;
	ListCell   *lc;

	if (rel->has_eclass_joins)
	{
		static const AttrNumber columns[] =
		{KTABLE_PARTITION + 1, KTABLE_OFFSET + 1, KTABLE_TIMESTAMP + 1};

		for (int i = 0; i < (int) lengthof(columns); i++)
		{
			KTableMember member = {columns[i]};

			clauses = list_concat(clauses,
								  generate_implied_equalities_for_column(root, rel,
																		 ktable_ec_member_matches,
																		 &member,
																		 rel->lateral_referencers));
		}
	}

	foreach(lc, clauses)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		ParamPathInfo *param;
		KTableBound bound;
		Relids		outer;

		if (!join_clause_is_movable_to(rinfo, rel) ||
			!ktable_bound_usable(root, rinfo->clause, rel->relid, &bound))
			continue;
		outer = bms_union(rinfo->clause_relids, rel->lateral_relids);
		outer = bms_del_member(outer, rel->relid);
		if (bms_is_empty(outer))
			continue;
		param = get_baserel_parampathinfo(root, rel, outer);
		if (list_member_ptr(done, param))
			continue;
		done = lappend(done, param);
		ktable_add_path(root, rel, outer, NIL, false);
	}
}

static void
ktable_set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	Relation	relation;
	PlanRowMark *mark;
	List	   *backward;

	if (ktable_prev_set_rel_pathlist != NULL)
		ktable_prev_set_rel_pathlist(root, rel, rti, rte);

	if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_RELATION ||
		rte->tablesample != NULL || rte->inh || IS_DUMMY_REL(rel))
		return;

	relation = table_open(rte->relid, NoLock);
	if (!ktable_is_log(relation))
	{
		table_close(relation, NoLock);
		return;
	}

	/* Refuse before the first row, and when there is none. */
	if (bms_is_member(rti, root->all_result_relids))
	{
		if (root->parse->commandType == CMD_UPDATE)
			ktable_refuse_update(relation);
		if (root->parse->commandType == CMD_DELETE)
			ktable_refuse_delete(relation);
	}
	mark = get_plan_rowmark(root->rowMarks, rti);
	if (mark != NULL && mark->strength != LCS_NONE)
		ktable_refuse_lock(relation);
	table_close(relation, NoLock);

	/*
	 * The ends that a transaction sees, and the names that it has given to rows, are this
	 * process's own.
	 */
	rel->consider_parallel = false;
	rel->pathlist = NIL;
	rel->partial_pathlist = NIL;
	ktable_add_path(root, rel, rel->lateral_relids, ktable_pathkeys(root, rel, false), false);
	backward = ktable_pathkeys(root, rel, true);
	if (backward != NIL)
		ktable_add_path(root, rel, rel->lateral_relids, backward, true);
	ktable_add_parameterized_paths(root, rel);
}

/* ------------------------------------------------------------------------
 * Plan
 * ------------------------------------------------------------------------
 */

/*
 * The conditions that the scan uses become custom_exprs, as whole clauses: ktable_custom.c
 * takes them apart again, and EXPLAIN shows them.  What they do not fully answer for stays a
 * filter.
 */
static Plan *
ktable_plan_path(PlannerInfo *root, RelOptInfo *rel, CustomPath *best_path, List *tlist,
				 List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	List	   *quals = NIL;
	List	   *bounds = NIL;
	ListCell   *lc;

	foreach(lc, extract_actual_clauses(clauses, false))
	{
		Expr	   *clause = lfirst(lc);
		KTableBound bound;
		bool		usable = ktable_bound_usable(root, clause, rel->relid, &bound);

		if (usable)
			bounds = lappend(bounds, clause);
		if (!usable || !bound.exact)
			quals = lappend(quals, clause);
	}

	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = quals;
	scan->scan.scanrelid = rel->relid;
	scan->flags = best_path->flags;
	scan->custom_exprs = bounds;
	scan->custom_private = best_path->custom_private;
	scan->methods = &ktable_scan_methods;
	return &scan->scan.plan;
}

void
ktable_plan_init(void)
{
	RegisterCustomScanMethods(&ktable_scan_methods);
	ktable_prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = ktable_set_rel_pathlist;
}
