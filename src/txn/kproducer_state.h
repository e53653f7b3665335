/*-------------------------------------------------------------------------
 *
 * kproducer_state.h
 *	  What a partition remembers of one idempotent producer, and the rules by
 *	  which it takes the producer's next batch, refuses it, or knows it again.
 *
 * A state machine without I/O; needs no server.  Include c.h (or postgres.h)
 * first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KPRODUCER_STATE_H
#define KPRODUCER_STATE_H

#include "batch/kbatch.h"

/*
 * How many batches are known again when they come twice.  Clients have at
 * most so many under way to a partition
 * (max.in.flight.requests.per.connection).
 */
#define KPRODUCER_BATCHES		5

typedef enum KProducerResult
{
	KPRODUCER_OK,
	KPRODUCER_DUPLICATE,		/* already in the log: answer with its offset */
	KPRODUCER_OUT_OF_ORDER,		/* sequence numbers do not follow the last batch's */
	KPRODUCER_FENCED,			/* the epoch is older than one seen already */
	KPRODUCER_INVALID_TXN_STATE,	/* not transactional, within a transaction */
	KPRODUCER_FULL,				/* no room for another producer */
	KPRODUCER_TURN_FULL			/* append what has been checked, then go on in a new turn */
} KProducerResult;

/* Kafka's error code; 0 for KPRODUCER_OK and KPRODUCER_DUPLICATE */
extern int16 kproducer_result_error_code(KProducerResult result);

typedef struct KProducerBatch
{
	int64		base_offset;
	int64		timestamp;		/* greatest in the batch */
	uint64		lsn;			/* the batch is durable when this LSN is; 0: being appended */
	int32		first_sequence;
	int32		last_sequence;
} KProducerBatch;

typedef struct KProducerState
{
	KProducerBatch batches[KPRODUCER_BATCHES];	/* the oldest one first */
	int64		txn_first_offset;	/* of the open transaction, or -1 */
	int64		last_offset;	/* of the latest batch, control batches included, or -1 */
	int16		epoch;			/* KBATCH_NO_PRODUCER_EPOCH: nothing is known */
	int16		count;			/* of batches */
} KProducerState;

/* A producer of which nothing is known.  Its first batch may have any sequence number. */
extern void kproducer_state_init(KProducerState *state);

/*
 * May this batch of data be appended?  *duplicate is set on
 * KPRODUCER_DUPLICATE.  Control batches are not for here.
 */
extern KProducerResult kproducer_state_check(const KProducerState *state,
											 const KBatchHeader *header,
											 KProducerBatch *duplicate);

/*
 * Remember a batch that has been appended at base_offset, or was found in the
 * log: then it need not follow the last one.
 */
extern void kproducer_state_append(KProducerState *state, const KBatchHeader *header,
								   int64 base_offset, uint64 lsn);

/* The same for a control batch that ends the producer's transaction. */
extern void kproducer_state_end_txn(KProducerState *state, int16 epoch, int64 base_offset);

#endif							/* KPRODUCER_STATE_H */
