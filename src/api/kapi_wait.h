/*
 * kapi_wait.h
 *		Parked requests: what they wait for, and who wakes them.  For src/api only.
 *
 * A handler that cannot answer yet says what it waits for by one or more of these calls and
 * returns. At the end of a turn whatever has come true wakes the request: all of its waits are
 * taken back, and "wake" is run as a step of the request (kapi_run), which answers or waits
 * again.
 */
#ifndef KAPI_WAIT_H
#define KAPI_WAIT_H

#include "api/kapi_request.h"

/* Until the clock (kapi_now()) shows deadline. */
extern void kapi_wait_until(KRequest *req, int64 deadline, void (*wake) (KRequest *req));

/* Until this LSN is flushed here, or (quorum) durable in the sense of acks=all. */
extern void kapi_wait_lsn(KRequest *req, XLogRecPtr lsn, bool quorum,
						  void (*wake) (KRequest *req));

/* Until a partition's high watermark is above offset, or the relation is gone. */
extern void kapi_wait_data(KRequest *req, Oid relid, int32 partition, int64 offset,
						   void (*wake) (KRequest *req));

/* Until the next turn, whatever makes it happen. */
extern void kapi_wait_poll(KRequest *req, void (*wake) (KRequest *req));

/* Until the next turn, which comes at once: a request has had its share of this one. */
extern void kapi_wait_turn(KRequest *req, void (*wake) (KRequest *req));

/*
 * A lock was not free: try again in the next turn, which comes at once, and then after 1, 2, 4
 * ... 50 ms. The request's backoff starts anew with kapi_wait_progress().
 */
extern void kapi_wait_retry(KRequest *req, void (*wake) (KRequest *req));
extern void kapi_wait_progress(KRequest *req);

/* Waits for nothing any longer. */
extern void kapi_wait_clear(KRequest *req);

/* ---- for kapi.c ---- */
extern void kapi_wait_init(void);

/* Wakes whoever's time, LSN or data has come; true if there was anybody. */
extern bool kapi_wait_wake(bool poll);

/* The greatest LSN that somebody waits for to be flushed; Invalid: none. */
extern XLogRecPtr kapi_wait_greatest_lsn(void);

/* Has somebody's LSN been reached, so that kapi_wait_wake() would let them go on? */
extern bool kapi_wait_lsn_reached(void);

/* Milliseconds until somebody's time comes, -1: never. */
extern long kapi_wait_timeout(void);

#endif							/* KAPI_WAIT_H */
