/*-------------------------------------------------------------------------
 *
 * kproducer_state.c
 *	  The rules for idempotent producers.
 *
 * They are those of Kafka 4.3 (ProducerStateEntry, ProducerAppendInfo), in the
 * same order.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include "txn/kproducer_state.h"

void
kproducer_state_init(KProducerState *state)
{
	memset(state, 0, sizeof(*state));
	state->txn_first_offset = -1;
	state->last_offset = -1;
	state->epoch = KBATCH_NO_PRODUCER_EPOCH;
}

static int32
last_sequence(const KProducerState *state)
{
	return state->count > 0 ? state->batches[state->count - 1].last_sequence : KBATCH_NO_SEQUENCE;
}

KProducerResult
kproducer_state_check(const KProducerState *state, const KBatchHeader *header,
					  KProducerBatch *duplicate)
{
	/*
	 * Known again only if exactly this batch is remembered.  Parts of remembered batches, or older
	 * ones, are out of order.
	 */
	if (header->producer_epoch == state->epoch)
	{
		for (int i = 0; i < state->count; i++)
		{
			if (state->batches[i].first_sequence == header->base_sequence &&
				state->batches[i].last_sequence == kbatch_last_sequence(header))
			{
				*duplicate = state->batches[i];
				return KPRODUCER_DUPLICATE;
			}
		}
	}

	if (header->producer_epoch < state->epoch)
		return KPRODUCER_FENCED;

	/*
	 * Without an epoch we know nothing, be it a new producer or one whose records have all been
	 * deleted, and take what comes.  A new epoch begins at 0.  So does an epoch that only the end
	 * of a transaction has told us of: last_sequence() is then -1, and -1 + 1 = 0.
	 */
	if (state->epoch != KBATCH_NO_PRODUCER_EPOCH)
	{
		int32		expected = 0;

		if (header->producer_epoch == state->epoch)
			expected = kbatch_sequence_add(last_sequence(state), 1);
		if (header->base_sequence != expected)
			return KPRODUCER_OUT_OF_ORDER;
	}

	if (state->txn_first_offset >= 0 && !kbatch_is_transactional(header))
		return KPRODUCER_INVALID_TXN_STATE;
	return KPRODUCER_OK;
}

static void
set_epoch(KProducerState *state, int16 epoch)
{
	if (state->epoch != epoch)
	{
		state->count = 0;
		state->epoch = epoch;
	}
}

void
kproducer_state_append(KProducerState *state, const KBatchHeader *header,
					   int64 base_offset, uint64 lsn)
{
	KProducerBatch *batch;

	set_epoch(state, header->producer_epoch);
	if (state->count == KPRODUCER_BATCHES)
	{
		memmove(&state->batches[0], &state->batches[1],
				(KPRODUCER_BATCHES - 1) * sizeof(KProducerBatch));
		state->count--;
	}
	batch = &state->batches[state->count++];
	batch->base_offset = base_offset;
	batch->timestamp = header->max_timestamp;
	batch->lsn = lsn;
	batch->first_sequence = header->base_sequence;
	batch->last_sequence = kbatch_last_sequence(header);

	if (state->txn_first_offset < 0 && kbatch_is_transactional(header))
		state->txn_first_offset = base_offset;
	state->last_offset = base_offset;
}

void
kproducer_state_end_txn(KProducerState *state, int16 epoch, int64 base_offset)
{
	set_epoch(state, epoch);
	state->txn_first_offset = -1;
	state->last_offset = base_offset;
}

int16
kproducer_result_error_code(KProducerResult result)
{
	switch (result)
	{
		case KPRODUCER_OK:
		case KPRODUCER_DUPLICATE:
			break;
		case KPRODUCER_OUT_OF_ORDER:
			return 45;			/* OUT_OF_ORDER_SEQUENCE_NUMBER */
		case KPRODUCER_FENCED:
			return 47;			/* INVALID_PRODUCER_EPOCH */
		case KPRODUCER_INVALID_TXN_STATE:
			return 48;			/* INVALID_TXN_STATE */
		case KPRODUCER_FULL:
		case KPRODUCER_TURN_FULL:
			return 19;			/* NOT_ENOUGH_REPLICAS, which every client tries again */
	}
	return 0;
}
