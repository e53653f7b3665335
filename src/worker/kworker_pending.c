/*
 * kworker_pending.c
 *		Weak definitions of what the processes call and other modules are still to
 *		deliver, so that the library loads. To be removed with the last of them.
 */
#include "postgres.h"

#include "api/kapi.h"

#define PENDING __attribute__((weak))

static const KApiIo *pending_io;

PENDING void
kapi_attach(const KApiIo *io, int broker)
{
	pending_io = io;
}

PENDING KApiConn *
kapi_conn_open(void *conn, const KApiPeer *peer)
{
	pending_io->close(conn);
	return NULL;
}

PENDING void
kapi_conn_frame(KApiConn *conn, void *slot, uint8 *data, size_t len)
{
	pending_io->reply_none(slot);
}

PENDING void
kapi_conn_closed(KApiConn *conn)
{
}

PENDING void
kapi_turn_begin(int64 now_ms)
{
}

PENDING long
kapi_turn_end(int64 now_ms, bool idle)
{
	return -1;
}

PENDING void
kapi_drain(void)
{
}
