/*-------------------------------------------------------------------------
 *
 * kproducer.h
 *	  Idempotent producers: their state in shared memory, and their ids.
 *
 * How an append goes, under the append lock of the partition:
 *
 *		if (!kproducer_is_ready(&partition))
 *			klog_learn(rel, part), let go of the lock, do other things, and try again;
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

/* Do we know the partition's producers, since the server's start? */
extern bool kproducer_is_ready(const KProducerPartition *partition);

/*
 * Learn them from a snapshot and the log, or a part of them: reads some
 * megabytes at most, so that the caller can serve others in between.  With no
 * lock of the log held; takes the append lock for the last bit.  May throw.
 */
extern KLogLearn kproducer_rebuild(Relation rel, KLogPartition *log,
								   const KProducerPartition *partition, int64 now);

/* ---- under the append lock of the partition, or that of a rebuild ---- */

/* The steps of it, for those who read the log themselves. */
extern void kproducer_rebuild_begin(const KProducerPartition *partition);

/* What is below next_offset has been learnt; to be gone on with. */
extern void kproducer_rebuild_pause(const KProducerPartition *partition, int64 next_offset,
									int64 now);

/* That offset, or -1: nothing has been learnt yet. */
extern int64 kproducer_rebuild_next(const KProducerPartition *partition);

/* Batches that are known already are passed over. */
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

/* Registers what the log calls; from _PG_init. */
extern void kproducer_init(void);

/* A table is gone. */
extern void kproducer_forget(Oid relid);

/*
 * A producer id that has never been given out.  Needs a transaction.  Tell it
 * to nobody before the *lsn is durable, or a crash may have it given again.
 */
extern int64 kproducer_allocate_id(XLogRecPtr *lsn);

/* ---- snapshots: kproducer_snapshot.c, and the table's part in them ---- */

/* One producer of a partition, as a snapshot has it. */
typedef struct KProducerEntry
{
	int64		producer_id;
	int64		touched;
	int64		last_batch;
	KProducerState state;
} KProducerEntry;

/*
 * Changes whenever the producers of a partition are learnt anew; 0: they are
 * not known.
 */
extern uint64 kproducer_ready_number(const KProducerPartition *partition);

/*
 * Copies the producers that have a batch in the partition, each as it is at
 * some moment during the call; needs no append lock.  Returns how many there
 * are: more than "size" means that some are missing.
 */
extern int	kproducer_copy(const KProducerPartition *partition, KProducerEntry *entries, int size);

/* Part of a rebuild: one that was copied, instead of the batches it had sent. */
extern void kproducer_put(const KProducerPartition *partition, const KProducerEntry *entry,
						  int64 now);

typedef enum KProducerLoad
{
	KPRODUCER_LOADED,			/* up to *next_offset */
	KPRODUCER_NO_SNAPSHOT,
	KPRODUCER_BUSY				/* the table is locked: try again */
} KProducerLoad;

extern KProducerLoad kproducer_snapshot_load(KLogPartition *log,
											 const KProducerPartition *partition, int64 now,
											 int64 *next_offset);

/* klog_on_growth()'s callback: writes the partition's snapshot. */
extern void kproducer_snapshot_write(Relation rel, KLogPartition *log, int32 partition);

#endif							/* KPRODUCER_H */
