/*
 * ktable_maintain.c
 *		Files, size estimates, VACUUM.
 */
#include "postgres.h"

#include <math.h>

#include "access/multixact.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/storage.h"
#include "catalog/storage_xlog.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "storage/smgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "log/klog.h"
#include "table/ktable_maintain.h"

/* Partitions up to which the planner's estimate of rows asks each of them. */
#define KTABLE_EXACT_PARTITIONS 64

/* Bytes of a record that nothing is known of, its share of the batch's header included. */
#define KTABLE_GUESSED_RECORD	256

/* Has any offset of the relation ever been given out? */
static bool
ktable_is_empty(Relation rel)
{
	int32		n = RelationGetNumberOfBlocks(rel) == 0 ? 0 : klog_stored_partitions(rel);

	for (int32 i = 0; i < n; i++)
	{
		if (klog_end_offset(klog_attach(rel, i, false)) > 0)
			return false;
	}
	return true;
}

/*
 * TRUNCATE of a topic that holds nothing is harmless, and pg_restore -j does it to every table
 * that it has just created.
 */
static void
ktable_check_truncate(Relation rel)
{
	if (!ktable_is_empty(rel))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot truncate topic table \"%s\"", RelationGetRelationName(rel)),
				 errhint("Offsets never restart. To begin anew drop the topic and create it again.")));
}

/*
 * A new file: for a new table, and for TRUNCATE.
 */
void
ktable_set_new_filelocator(Relation rel, const RelFileLocator *newrlocator, char persistence,
						   TransactionId *freezeXid, MultiXactId *minmulti)
{
	SMgrRelation srel;

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("access method \"kafka_log\" is for ordinary tables only"),
				 errhint("Create topics with kafka.create_topic().")));
	if (persistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a topic can be neither temporary nor unlogged"),
				 errdetail("What a Kafka client has been told is stored must survive a crash."),
				 errhint("Create topics with kafka.create_topic().")));
	if (!XLogIsNeeded() && !IsBinaryUpgrade)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topics need \"wal_level\" to be \"replica\" or \"logical\"")));
	ktable_check_shape(rel);
	if (!RelFileLocatorEquals(rel->rd_locator, *newrlocator))
	{
		ktable_check_truncate(rel);
		klog_forget(RelationGetRelid(rel));
	}

	/* As for heap tables: no transaction that is over can have put its xid here. */
	*freezeXid = RecentXmin;
	*minmulti = GetOldestMultiXactId();

	srel = RelationCreateStorage(*newrlocator, persistence, true);
	smgrclose(srel);
}

/* TRUNCATE of a table that the same transaction has made. */
void
ktable_nontransactional_truncate(Relation rel)
{
	ktable_check_truncate(rel);
}

/* The whole of the file, unchanged, under the AccessExclusiveLock of our caller. */
static void
ktable_copy_file(Relation rel, SMgrRelation to)
{
	/* Pages are copied past shared buffers. */
	FlushRelationBuffers(rel);
	RelationCopyStorage(RelationGetSmgr(rel), to, MAIN_FORKNUM, rel->rd_rel->relpersistence);
}

/* ALTER TABLE ... SET TABLESPACE */
void
ktable_copy_data(Relation rel, const RelFileLocator *newrlocator)
{
	SMgrRelation to = RelationCreateStorage(*newrlocator, rel->rd_rel->relpersistence, true);

	ktable_copy_file(rel, to);
	RelationDropStorage(rel);
	smgrclose(to);
	klog_forget(RelationGetRelid(rel));
}

/*
 * VACUUM FULL; CLUSTER asks for an index first, and there can be none.  There is nothing to
 * make smaller, but a refusal would stop a VACUUM FULL of the whole database: so the file is
 * copied as it is.
 */
void
ktable_copy_for_cluster(Relation old, Relation new, Relation index, bool use_sort,
						TransactionId oldest_xmin, TransactionId *xid_cutoff,
						MultiXactId *multi_cutoff, double *num_tuples,
						double *tups_vacuumed, double *tups_recently_dead)
{
	if (index != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot cluster topic table \"%s\"", RelationGetRelationName(old)),
				 errdetail("Records stay in the order of their offsets.")));

	ktable_copy_file(old, RelationGetSmgr(new));
	klog_forget(RelationGetRelid(old));

	/* The xids on the pages are those that were there before. */
	*xid_cutoff = old->rd_rel->relfrozenxid;
	*multi_cutoff = old->rd_rel->relminmxid;
	*num_tuples = Max(old->rd_rel->reltuples, 0);
	*tups_vacuumed = 0;
	*tups_recently_dead = 0;
}

/* Offsets that may be read; those of failed transactions and of control records are among them. */
static double
ktable_count_records(Relation rel, int32 partitions)
{
	double		records = 0;

	for (int32 i = 0; i < partitions; i++)
	{
		KLogPartition *part = klog_attach(rel, i, false);

		records += Max(klog_high_watermark(part) - klog_log_start(part), 0);
	}
	return records;
}

/*
 * There are no dead rows: space comes back with retention.  What VACUUM is for is to take the
 * xids of transactions that are over off the pages, and to say so in relfrozenxid.
 */
void
ktable_vacuum(Relation rel, struct VacuumParams *params, BufferAccessStrategy bstrategy)
{
	TimestampTz started = GetCurrentTimestamp();
	TransactionId frozen;
	TransactionId left;
	MultiXactId minmulti;
	double		records;

	(void) started;
	ktable_check_shape(rel);

	/* First: an xid that gets onto a page after this is not older. */
	frozen = GetOldestNonRemovableTransactionId(rel);
	minmulti = GetOldestMultiXactId();

	left = klog_resolve(rel);
	if (TransactionIdIsNormal(left) && TransactionIdPrecedes(left, frozen))
		frozen = left;

	records = ktable_count_records(rel, klog_stored_partitions(rel));
	kcompat_update_relstats(rel, RelationGetNumberOfBlocks(rel), records, frozen, minmulti);
	kcompat_report_vacuum(rel, (PgStat_Counter) records, started);
}

/*
 * The planner's view: the file's real pages; as many rows as there are offsets, which costs nothing
 * to know as long as the partitions are few.
 */
void
ktable_estimate_size(Relation rel, int32 *attr_widths, BlockNumber *pages, double *tuples,
					 double *allvisfrac)
{
	BlockNumber relpages = (BlockNumber) rel->rd_rel->relpages;
	double		reltuples = rel->rd_rel->reltuples;
	int32		partitions;

	*pages = RelationGetNumberOfBlocks(rel);
	*tuples = 0;
	*allvisfrac = 0;
	if (*pages == 0)
		return;

	partitions = klog_stored_partitions(rel);
	if (partitions <= KTABLE_EXACT_PARTITIONS)
		*tuples = ktable_count_records(rel, partitions);
	else if (reltuples >= 0 && relpages > 0)
		*tuples = rint(reltuples / relpages * *pages);
	else
		*tuples = rint((double) *pages * BLCKSZ / KTABLE_GUESSED_RECORD);
}
