/*-------------------------------------------------------------------------
 *
 * kproducer.h
 *	  Idempotent producers: their state in shared memory, and their ids.
 *
 * How an append goes, under the append lock of the partition:
 *
 *		if (!kproducer_is_ready(&partition))
 *			kproducer_rebuild(rel, part, &partition, now);
 *		kproducer_turn_begin(&turn, &partition, now);
 *		for each batch with a producer id
 *			kproducer_check(&turn, &header, offset it will have, &duplicate)
 *		klog_append(those that are KPRODUCER_OK)
 *		for each batch with a producer id that is appended
 *			kproducer_apply(&turn, &header, its offset, its LSN)
 *
 * If klog_append() throws, nothing is to be undone: shared memory knows
 * of appended batches only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KPRODUCER_H
#define KPRODUCER_H

#include "access/xlogdefs.h"
#include "log/klog.h"
#include "txn/kproducer_state.h"
#include "utils/relcache.h"

/*
 * Which partition's producers.  The file's number is part of it so that a
 * table that got new storage, or a new one of the same OID, starts from what
 * is in its own log.
 */
typedef struct KProducerPartition
{
	Oid			relid;
	Oid			relfilenumber;
	int32		partition;
} KProducerPartition;

#define KPRODUCER_TURN_MAX		16

/*
 * The producers of the batches that are to be appended together, as they will
 * be after it.  Lives on the stack of the appender.
 */
typedef struct KProducerTurn
{
	KProducerPartition partition;
	int64		now;			/* ms since 1970 */
	int			count;
	struct
	{
		int64		producer_id;
		KProducerState state;
	}			producers[KPRODUCER_TURN_MAX];
} KProducerTurn;

extern Size kproducer_shmem_size(void);
extern void kproducer_shmem_init(void);

extern void kproducer_partition_of(KProducerPartition *partition, Relation rel, int32 number);

/* ---- under the append lock of the partition ---- */

/* Do we know the partition's producers, since the server's start? */
extern bool kproducer_is_ready(const KProducerPartition *partition);

/*
 * Learn them from the log: reads all of the partition's batch headers, and so
 * may take long and throw.
 */
extern void kproducer_rebuild(Relation rel, KLogPartition *log, const KProducerPartition *partition,
							  int64 now);

/* The steps of it, for those who read the log themselves. */
extern void kproducer_rebuild_begin(const KProducerPartition *partition);
extern void kproducer_observe_batch(const KProducerPartition *partition, const KBatchHeader *header,
									XLogRecPtr lsn, int64 now);
extern void kproducer_rebuild_end(const KProducerPartition *partition, int64 now);

extern void kproducer_turn_begin(KProducerTurn *turn, const KProducerPartition *partition,
								 int64 now);

/*
 * May this batch be appended, after the ones that this turn has already said
 * KPRODUCER_OK to?  If so, the caller must append it at base_offset, or give
 * up the whole turn.
 *
 * KPRODUCER_DUPLICATE: *duplicate tells where it is.  Its LSN is 0 if that is
 * in this very turn, among the batches still to be appended.
 *
 * Neither allocates nor throws.
 */
extern KProducerResult kproducer_check(KProducerTurn *turn, const KBatchHeader *header,
									   int64 base_offset, KProducerBatch *duplicate);

/* A batch checked in this turn is in the log.  Cannot fail. */
extern void kproducer_apply(const KProducerTurn *turn, const KBatchHeader *header,
							int64 base_offset, XLogRecPtr lsn);

/* ---- any time ---- */

/* A table is gone. */
extern void kproducer_forget(Oid relid);

/*
 * A producer id that has never been given out.  Needs a transaction.  Tell it
 * to nobody before the *lsn is durable, or a crash may have it given again.
 */
extern int64 kproducer_allocate_id(XLogRecPtr *lsn);

#endif							/* KPRODUCER_H */
