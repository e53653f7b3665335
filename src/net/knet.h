/*
 * knet.h
 *	  Sockets to frames: the event loop of a broker process.
 *
 * One loop a process. A frame is what Kafka puts on a socket: four bytes of
 * length, big endian, and that many bytes. What the bytes mean is not known
 * here.
 *
 * Rules for the user of the loop:
 *
 * - Everything runs in the one process; handlers are called from
 *	 knet_loop_run() and must neither block nor throw.
 * - Each frame comes with a KNetSlot, its place in the order of answers. A slot
 *	 must be finished exactly once, by knet_reply() or knet_reply_none(), in any
 *	 order and at any time; answers leave in the order of requests.
 * - A connection may die in any call into this module. Its KConn stays valid
 *	 until closed() has returned and all its slots are finished: an answer to a
 *	 dead connection is released, not sent. Nothing needs to be checked.
 * - closed() is never called from inside another handler.
 */
#ifndef KNET_H
#define KNET_H

#include <sys/socket.h>

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "port/atomics.h"
#include "storage/latch.h"

#include "kchunk.h"

/* Most event loops (broker processes) that the shared state has room for. */
#define KNET_MAX_LOOPS 64

typedef struct KConn KConn;
typedef struct KNetSlot KNetSlot;

typedef struct KNetHandlers
{
	/* A client has connected. */
	void		(*opened) (KConn *conn);

	/*
	 * A whole frame has arrived, without its length. data stays valid until
	 * knet_frame_free() or until the slot is finished, and may be written to.
	 */
	void		(*frame) (KConn *conn, KNetSlot *slot, uint8 *data, size_t len);

	/*
	 * The connection is gone. Its unfinished slots still have to be finished,
	 * here or later.
	 */
	void		(*closed) (KConn *conn);

	/* First thing in a turn: signals, configuration, shared flags. */
	void		(*turn_begin) (void);

	/*
	 * Sockets and timers of this turn are done; its answers leave when this
	 * returns. idle: no socket has anything for us. Returns for how many
	 * milliseconds the loop may sleep; -1: no limit.
	 */
	long		(*turn_end) (bool idle);

	/* The answers have left, as far as the sockets took them; the last call of a turn. */
	void		(*turn_close) (void);
} KNetHandlers;

/* Limits of this process; may be changed at any time with knet_loop_limits(). */
typedef struct KNetLimits
{
	size_t		first_frame_limit;	/* of a new connection, see
									 * knet_conn_trust */
	size_t		inflight_bytes; /* received and unanswered, whole server */
	size_t		answer_bytes;	/* answered and unsent, whole server */
	int			max_connections;	/* whole server */
	int			max_connections_per_address;
	int			idle_ms;		/* a connection without a request; 0 = never */
} KNetLimits;

/* Shared memory: budgets and connection counts of all loops. */
extern Size knet_shmem_size(int max_connections);
extern void knet_shmem_init(int max_connections);

/* The loop. */
extern void knet_loop_init(int loop_no, const KNetHandlers *handlers, const KNetLimits *limits);
extern void knet_loop_limits(const KNetLimits *limits);
extern void knet_loop_run(void);
extern void knet_loop_stop(void);
extern void knet_loop_drain(int timeout_ms);
extern int64 knet_now_us(void);

/*
 * Timers fire once. The struct belongs to the caller, is zeroed before its
 * first use, and must be cleared before it is freed. Setting a set timer moves
 * it.
 */
typedef struct KNetTimer
{
	pairingheap_node node;
	int64		at_us;
	void		(*fn) (void *arg);
	void	   *arg;
	bool		armed;
} KNetTimer;

extern void knet_timer_set(KNetTimer *timer, int64 delay_us, void (*fn) (void *arg), void *arg);
extern void knet_timer_clear(KNetTimer *timer);

/* Listening. */
typedef struct KNetAddress
{
	struct sockaddr_storage addr;
	socklen_t	len;
	char		name[80];		/* for messages: 127.0.0.1:9092 */
} KNetAddress;

extern KNetAddress *knet_listen_resolve(const char *names, int port, int *count, char **error);
extern bool knet_address_is_loopback(const KNetAddress *address);
extern bool knet_listen_probe(const KNetAddress *address, char **error);
extern bool knet_listen_open(const KNetAddress *address, char **error);
extern void knet_listen_close(void);
extern int	knet_listen_raise_nofile(int connections);

/* Connections. */
extern void *knet_conn_user(KConn *conn);
extern void knet_conn_set_user(KConn *conn, void *user);
extern const char *knet_conn_peer(KConn *conn);
extern int	knet_conn_remote(KConn *conn, char *host, size_t size);
extern int	knet_conn_local(KConn *conn, char *host, size_t size);
extern void knet_conn_meter(KConn *conn, pg_atomic_uint64 *received, pg_atomic_uint64 *sent);
extern uint32 knet_conn_round_trip(KConn *conn);
extern void knet_conn_trust(KConn *conn, size_t frame_limit);
extern void knet_close_after_answers(KConn *conn);
extern int	knet_conn_count(void);
extern size_t knet_answer_room(void);

/* Frames and their answers. */
extern void knet_frame_free(KNetSlot *slot);
extern void knet_reply(KNetSlot *slot, const KChunk *chunks, int count);
extern void knet_reply_none(KNetSlot *slot);

#endif							/* KNET_H */
