/*
 * ktable_plan.h
 *		The custom scan: what planning (ktable_plan.c) and execution (ktable_custom.c) share;
 *		private to src/table.
 */
#ifndef KTABLE_PLAN_H
#define KTABLE_PLAN_H

#include "access/stratnum.h"
#include "nodes/extensible.h"
#include "nodes/primnodes.h"

#include "table/ktable.h"

/* A condition that takes a scan to fewer pages: column <strategy> value. */
typedef struct KTableBound
{
	int			column;			/* KTABLE_PARTITION, KTABLE_OFFSET or KTABLE_TIMESTAMP */
	StrategyNumber strategy;	/* of a btree */
	bool		any;			/* = ANY (value), which is an array */
	Expr	   *value;			/* has no column of the topic in it */
	Oid			type;			/* of the value; of its elements if any is set */
	bool		exact;			/* the scan returns no row that fails it */
} KTableBound;

/* Is the clause such a condition on the relation numbered varno? */
extern bool ktable_bound_match(Expr *clause, Index varno, KTableBound *bound);

extern Node *ktable_custom_create_state(CustomScan *scan);

extern void ktable_plan_init(void);

/* In ktable_handler.c: what the planner can refuse before a row is met. */
extern void ktable_refuse_update(Relation rel);
extern void ktable_refuse_delete(Relation rel);
extern void ktable_refuse_lock(Relation rel);

#endif							/* KTABLE_PLAN_H */
