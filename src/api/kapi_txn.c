/*
 * kapi_txn.c
 *		InitProducerId: ids for idempotent producers.
 *
 * Transactions come later; until then nobody may use a transactional id.
 */
#include "postgres.h"

#include "api/kapi_request.h"
#include "api/kapi_wait.h"
#include "txn/kproducer.h"

static void
answer_producer_id(KRequest * req, int16 error, int64 producer_id, int16 epoch)
{
	KInitProducerIdResponse resp;

	kmsg_init(&kmsg_init_producer_id_response, &resp);
	resp.error_code = error;
	resp.producer_id = producer_id;
	resp.producer_epoch = epoch;
	kapi_answer(req, &resp);
}

void
kapi_init_producer_id_fail(KRequest * req, int16 error)
{
	answer_producer_id(req, error, -1, -1);
}

/* An id that was told must not be given out again after a crash. */
static void
producer_id_durable(KRequest * req)
{
	answer_producer_id(req, 0, *(int64 *) req->work, 0);
}

void
kapi_init_producer_id(KRequest * req)
{
	const		KInitProducerIdRequest *body = req->body;
	int64	   *id;
	XLogRecPtr	lsn;

	if (body->transactional_id.len >= 0)
	{
		kapi_fail(req, KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
		return;
	}
	if (!OidIsValid(kapi_role(req)))
	{
		kapi_fail(req, KERR_CLUSTER_AUTHORIZATION_FAILED);
		return;
	}
	if ((body->producer_id == -1) != (body->producer_epoch == -1))
	{
		kapi_fail(req, KERR_INVALID_REQUEST);
		return;
	}

	/* Without a transactional id an old one is not carried on: a new one is given. */
	id = palloc(sizeof(int64));
	*id = kproducer_allocate_id(&lsn);
	req->work = id;
	if (lsn > klog_durable_lsn())
		kapi_wait_lsn(req, lsn, true, producer_id_durable);
	else
		producer_id_durable(req);
}
