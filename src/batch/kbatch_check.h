/*-------------------------------------------------------------------------
 *
 * kbatch_check.h
 *	  kbatch_validate() in steps, for who has others to serve in between.
 *
 * Include c.h (or postgres.h) first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KBATCH_CHECK_H
#define KBATCH_CHECK_H

#include "batch/kbatch.h"
#include "batch/kbatch_record.h"

typedef struct KBatchCheck
{
	KBatchPolicy policy;
	KBatchVerdict verdict;
	KBatchHeader header;
	KRecordSource source;
	KBatchRecord record;
	int32		next;			/* index of the record being read */
} KBatchCheck;

/*
 * Begin to check a batch, as kbatch_validate() does.  KBATCH_OK: nothing is
 * wrong with its header.  The codec must not be used for anything else, and the
 * batch must stay in place, until the last step.
 */
extern KBatchResult kbatch_check_begin(KBatchCheck *check, const uint8 *batch, size_t size,
									   const KBatchPolicy *policy, KCodec *codec);

/*
 * Go on until about so many more bytes are decompressed; records that are not
 * compressed are all checked at once.  KBATCH_AGAIN: there is more to do.  Else
 * the result is that of kbatch_validate(), and check->verdict is complete.
 */
extern KBatchResult kbatch_check_step(KBatchCheck *check, size_t bytes);

#endif							/* KBATCH_CHECK_H */
