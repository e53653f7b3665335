/*
 * ktable_pending.h
 *		What the current transaction has produced and appends when it commits; private to
 *		src/table.
 */
#ifndef KTABLE_PENDING_H
#define KTABLE_PENDING_H

#include "log/klog.h"
#include "table/ktable_row.h"
#include "topic/ktopic.h"

/*
 * The size at which a batch of ours is full: with a page's head and the rest of the page before,
 * it still fits into one WAL record of the log.
 */
#define KTABLE_BATCH_BYTES	(224 * 1024)

/* Adds a record, whose partition and timestamp are chosen and checked. */
extern void ktable_pending_add(Relation rel, const KTopic *topic, const KTableRecord *record);

/*
 * The transaction has written rows with offsets: their fate is watched by this process, so that it
 * cannot be prepared either.
 */
extern void ktable_pending_wrote(void);

/* The codec that batches of ours are stored with. */
extern KCodecType ktable_topic_codec(const KTopicConfig *config);

/* At the transaction's stations: see ktable_handler.c. */
extern void ktable_pending_commit(void);
extern void ktable_pending_prepare(void);
extern void ktable_pending_at_xact_end(void);

/* level: the nesting level of the subtransaction that ends.  Neither throw. */
extern void ktable_pending_subxact_abort(int level);
extern void ktable_pending_subxact_commit(int level);

#endif							/* KTABLE_PENDING_H */
