/*
 * kworker_broker.c
 *		A broker process: joins the event loop, which knows sockets, to the requests,
 *		which know Kafka.
 *
 * Here and nowhere else do src/net and src/api meet. A handler of the loop calls into
 * src/api, which answers through KApiIo. What src/api throws ends the process.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"

#include "api/kapi.h"
#include "kguc.h"
#include "log/klog.h"
#include "net/knet.h"
#include "worker/kworker_int.h"

/* A client that we know nothing of may send frames of this size. */
#define BROKER_FIRST_FRAME (64 * 1024)
/* A stopping broker waits this long for clients to take their answers. */
#define BROKER_DRAIN_MS 3000

/* What a broker keeps of the memory that it has freed, and the largest piece that it keeps. */
#define BROKER_KEEP_FREE (32 * 1024 * 1024)
#define BROKER_KEEP_PIECE (16 * 1024 * 1024)

static int	shown_connections = -1;

static void
broker_limits(KNetLimits *limits)
{
	/* half of the memory for requests, half for answers */
	size_t		memory = (size_t) kguc_max_inflight_kb * 1024 / 2;

	limits->first_frame_limit = Min(BROKER_FIRST_FRAME, kguc_max_request_size);
	limits->inflight_bytes = memory;
	limits->answer_bytes = memory;
	limits->max_connections = kguc_max_connections;
	limits->max_connections_per_address = kguc_max_connections_per_address;
	limits->idle_ms = kguc_connection_idle_timeout;
}

/* ------------------------------------------------------------------------
 * From the loop to the requests
 * ------------------------------------------------------------------------
 */

static void
broker_opened(KConn *conn)
{
	char		client[64];
	char		local[64];
	KApiPeer	peer = {.client = knet_conn_peer(conn), .protocol = "PLAINTEXT"};
	KApiConn   *user;

	peer.client_port = knet_conn_remote(conn, client, sizeof(client));
	peer.client_host = client;
	peer.local_port = knet_conn_local(conn, local, sizeof(local));
	peer.local_host = local;
	user = kapi_conn_open(conn, &peer);
	knet_conn_set_user(conn, user);
	if (user == NULL)
		knet_close_after_answers(conn);
}

static void
broker_frame(KConn *conn, KNetSlot *slot, uint8 *data, size_t len)
{
	kapi_conn_frame(knet_conn_user(conn), slot, data, len);
}

static void
broker_closed(KConn *conn)
{
	if (knet_conn_user(conn) != NULL)
		kapi_conn_closed(knet_conn_user(conn));
}

static void
broker_turn_begin(void)
{
	if (kworker_interrupts())
	{
		KNetLimits	limits;
		const char *hint;

		broker_limits(&limits);
		knet_loop_limits(&limits);
		if (kworker_refusal(&hint) != NULL)
			knet_loop_stop();
	}
	if (kworker_stopping())
		knet_loop_stop();
	kapi_turn_begin(knet_now_us() / 1000);
}

static long
broker_turn_end(bool idle)
{
	long		ms = kapi_turn_end(knet_now_us() / 1000, idle);
	long		pending;

	if (!idle || ms == 0)
		return ms;
	pending = pgstat_report_stat(false);
	if (pending > 0 && (ms < 0 || pending < ms))
		ms = pending;
	if (knet_conn_count() != shown_connections)
	{
		char		title[64];

		shown_connections = knet_conn_count();
		snprintf(title, sizeof(title), "%d connections", shown_connections);
		set_ps_display(title);
	}
	return ms;
}

static const KNetHandlers handlers = {
	.opened = broker_opened,
	.frame = broker_frame,
	.closed = broker_closed,
	.turn_begin = broker_turn_begin,
	.turn_end = broker_turn_end,
	.turn_close = kapi_turn_close,
};

/* ------------------------------------------------------------------------
 * From the requests to the loop
 * ------------------------------------------------------------------------
 */

static void
broker_reply(void *slot, const KChunk *chunks, int count)
{
	knet_reply(slot, chunks, count);
}

static void
broker_reply_none(void *slot)
{
	knet_reply_none(slot);
}

static void
broker_frame_free(void *slot)
{
	knet_frame_free(slot);
}

static void
broker_close(void *conn)
{
	knet_close_after_answers(conn);
}

static void
broker_trust(void *conn)
{
	knet_conn_trust(conn, kguc_max_request_size);
}

static void
broker_meter(void *conn, pg_atomic_uint64 *received, pg_atomic_uint64 *sent)
{
	knet_conn_meter(conn, received, sent);
}

static uint32
broker_round_trip(void *conn)
{
	return knet_conn_round_trip(conn);
}

static const KApiIo io = {
	.reply = broker_reply,
	.reply_none = broker_reply_none,
	.frame_free = broker_frame_free,
	.close = broker_close,
	.trust = broker_trust,
	.meter = broker_meter,
	.answer_room = knet_answer_room,
	.round_trip = broker_round_trip,
	.ddl_submit = kworker_ddl_submit,
	.ddl_poll = kworker_ddl_poll,
	.ddl_cancel = kworker_ddl_cancel,
};

/* ------------------------------------------------------------------------
 * The process
 * ------------------------------------------------------------------------
 */

/* Listen on all addresses; ERROR if there is none that works. */
static void
broker_listen(void)
{
	KNetAddress *addresses;
	int			count;
	int			opened = 0;
	int			room;
	char	   *error;

	addresses = knet_listen_resolve(kguc_listen_addresses, kguc_port, &count, &error);
	if (addresses == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("invalid kafka_pg.listen_addresses: %s", error)));

	room = knet_listen_raise_nofile(kguc_max_connections);
	if (room < kguc_max_connections)
		ereport(LOG,
				(errmsg("this broker process can have only %d connections of kafka_pg.max_connections = %d",
						room, kguc_max_connections),
				 errhint("Raise the limit on open files (ulimit -n, LimitNOFILE) of the server.")));

	for (int i = 0; i < count; i++)
	{
		/* the launcher has looked already; this process trusts nobody */
		if (!knet_address_is_loopback(&addresses[i]))
			ereport(ERROR,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("address %s is not a loopback address", addresses[i].name)));
		if (knet_listen_open(&addresses[i], &error))
		{
			opened++;
			ereport(LOG,
					(errmsg("listening for Kafka clients on %s", addresses[i].name)));
		}
	}
	if (opened == 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("could not listen for Kafka clients: %s", error)));
}

/*
 * Requests and answers of a megabyte come and go hundreds of times a second. The C library would
 * give such memory back to the kernel each time, and have each page zeroed and mapped again.
 */
static void
broker_keep_memory(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, BROKER_KEEP_PIECE);
	(void) mallopt(M_TRIM_THRESHOLD, BROKER_KEEP_FREE);
#endif
}

void
kworker_broker(int no)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "kafka api",
												  ALLOCSET_DEFAULT_SIZES);
	KNetLimits	limits;

	broker_keep_memory();
	klog_broker_attach(no);
	broker_limits(&limits);
	knet_loop_init(no, &handlers, &limits);

	MemoryContextSwitchTo(context);
	kapi_attach(&io, no);
	broker_listen();

	knet_loop_run();

	/* what is durable is answered, the rest as if its time were up */
	knet_listen_close();
	kapi_drain();
	knet_loop_drain(BROKER_DRAIN_MS);
}
