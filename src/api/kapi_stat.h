/*
 * kapi_stat.h
 *		What kafka.stat_connection shows: the writing side.  For src/api only; kapi.h has the
 *		reading side.
 *
 * A connection has a slot in shared memory, which only its own process writes.  Each of these
 * functions does nothing for a connection that has none.
 */
#ifndef KAPI_STAT_H
#define KAPI_STAT_H

#include "api/kapi_request.h"

/* Once per process: its slots are given back when it exits, however that comes. */
extern void kapi_stat_attach(void);

/* A slot for the connection, if there is one, and the loop's bytes are counted in it. */
extern void kapi_stat_open(KApiConn *conn);
extern void kapi_stat_close(KApiConn *conn);

/* A frame has arrived; its client id, as far as there is one. */
extern void kapi_stat_request(KApiConn *conn, KStr client_id);

/* What ApiVersions tells of the client; validated. */
extern void kapi_stat_software(KApiConn *conn, KStr name, KStr version);
extern void kapi_stat_role(KApiConn *conn, Oid role);

/* conn->nparked has changed. */
extern void kapi_stat_parked(KApiConn *conn);

#endif							/* KAPI_STAT_H */
