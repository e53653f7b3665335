/*
 * ktable_maintain.h
 *		Callbacks of the access method about files, statistics and VACUUM; private to src/table.
 */
#ifndef KTABLE_MAINTAIN_H
#define KTABLE_MAINTAIN_H

#include "commands/vacuum.h"

#include "compat.h"
#include "table/ktable.h"

extern void ktable_set_new_filelocator(Relation rel, const RelFileLocator *newrlocator,
									   char persistence, TransactionId *freezeXid,
									   MultiXactId *minmulti);
extern void ktable_nontransactional_truncate(Relation rel);
extern void ktable_copy_data(Relation rel, const RelFileLocator *newrlocator);
extern void ktable_copy_for_cluster(Relation old, Relation new, Relation index, bool use_sort,
									TransactionId oldest_xmin, TransactionId *xid_cutoff,
									MultiXactId *multi_cutoff, double *num_tuples,
									double *tups_vacuumed, double *tups_recently_dead);
extern void ktable_vacuum(Relation rel, struct VacuumParams *params,
						  BufferAccessStrategy bstrategy);
extern void ktable_estimate_size(Relation rel, int32 *attr_widths, BlockNumber *pages,
								 double *tuples, double *allvisfrac);

#endif							/* KTABLE_MAINTAIN_H */
