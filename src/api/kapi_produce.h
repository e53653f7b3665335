/*
 * kapi_produce.h
 *		What the two halves of Produce share: checking (kapi_produce_check.c) and appending
 *		(kapi_produce.c).  For src/api only.
 */
#ifndef KAPI_PRODUCE_H
#define KAPI_PRODUCE_H

#include "api/kapi_request.h"
#include "batch/kbatch_check.h"

typedef struct KProduceQueue KProduceQueue;

/* One partition of a request, in the request's memory. */
typedef struct KProduceBatch
{
	dlist_node	node;			/* in queue->batches, while queue is set */
	KProduceQueue *queue;
	KRequest   *req;
	KProduceResponsePartition *out;
	const KTopic *topic;		/* while it is being checked */
	const KProduceRequestPartition *in;
	KBatchHeader header;
	KLogBatch	log;
	int64		append_time;	/* -1: the producer's timestamps stay */
	int32		leader_epoch;
	int32		partitions;		/* of the topic, and its configs, for KLogAppend */
	int64		segment_bytes;
	int64		segment_ms;
	XLogRecPtr	lsn;
} KProduceBatch;

typedef struct KProduceWork
{
	KProduceResponse resp;
	int16		acks;
	int64		deadline;
	KProduceBatch *batches;		/* one for each partition of the answer */
	int			nbatches;
	int32	   *slots;			/* which of them each partition of the request is */
	int			checked;		/* of them, and queued or refused */
	bool		checking;		/* counts as one that is pending */
	KBatchCheck *check;			/* of the next one, while it is not done */
	bool		waits;			/* for the codec of large batches */
	bool		resumed;		/* has waited for another turn */
	int			pending;		/* not appended yet */
	bool		failed;			/* some partition has an error */
	XLogRecPtr	lsn;			/* of the last of its batches */
} KProduceWork;

/* ---- kapi_produce_check.c ---- */

/* Makes req->work and the frame of its answer, each partition without an error. */
extern KProduceWork *kapi_produce_work(KRequest *req);

/* The request is finished: it does not check any longer. */
extern void kapi_produce_check_end(KRequest *req);

/* ---- kapi_produce.c ---- */

/* The partition has failed; message: NULL or a string as long-lived as the request. */
extern void kapi_produce_error(KProduceBatch *batch, int16 error, const char *message);

/* Puts a checked batch into the queue of its partition. */
extern void kapi_produce_enqueue(KProduceBatch *batch, Oid relid, int32 partition);

/* All batches are checked: answers as soon as none is pending. */
extern void kapi_produce_checked(KRequest *req);

#endif							/* KAPI_PRODUCE_H */
