/*
 * knet_conn.c
 *	  One connection: reading, framing, deadlines, and its end.
 *
 * Input is read into one scratch buffer of the process; small frames are copied
 * out of it, the body of a larger one is read in place. A connection between two
 * requests holds no buffer.
 *
 * A connection is read only while somebody can take what it says: see
 * KNET_PAUSE_*. What was read before a pause is kept as its rest, and is looked
 * at again before the socket is.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <linux/tcp.h>			/* not netinet/tcp.h, whose tcp_info ends too early */
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "port/pg_bswap.h"
#include "utils/memutils.h"

#include "net/knet_int.h"

#define KNET_SCRATCH (256 * 1024)
#define KNET_FIRST_READ (16 * 1024)
#define KNET_FIRST_ROOM (16 * 1024)		/* memory for a frame's first bytes */
#define KNET_TRUSTED_ROOM (64 * 1024)
#define KNET_READS_PER_GO 4
#define KNET_FRAMES_PER_GO 128
#define KNET_MAX_UNANSWERED 64
#define KNET_MAX_UNSENT (1024 * 1024)

/* A client that has gone while it was not read is kept this long (or the idle timeout). */
#define KNET_HANG_UP_US INT64CONST(10000000)

/* A frame has this long (or the idle timeout), and its length at this rate on top. */
#define KNET_FRAME_US INT64CONST(30000000)
#define KNET_FRAME_BYTES_PER_S (128 * 1024)

/* While others wait for memory, what has arrived of a frame must be at least this. */
#define KNET_SCARCE_US INT64CONST(2000000)
#define KNET_SCARCE_BYTES_PER_S (256 * 1024)
#define KNET_SCARCE_LOOK_US INT64CONST(500000)

static uint8 scratch[KNET_SCRATCH];
static KNetTimer scarce_timer;

static void knet_conn_deadline(void *arg);

/* TLS will take the place of this function and of knet_io_write. */
static ssize_t
knet_io_read(KConn *conn, struct iovec *iov, int count)
{
	return readv(conn->fd, iov, count);
}

void *
knet_conn_user(KConn *conn)
{
	return conn->user;
}

void
knet_conn_set_user(KConn *conn, void *user)
{
	conn->user = user;
}

/* Address and port of the client, for messages. */
const char *
knet_conn_peer(KConn *conn)
{
	return conn->name;
}

/* The same in two; returns the port. IPv4 that came in over an IPv6 socket is IPv4 again. */
int
knet_conn_remote(KConn *conn, char *host, size_t size)
{
	static const uint8 mapped[12] = {[10] = 0xff,[11] = 0xff};
	const uint8 *bytes = conn->peer.bytes;
	const char *ok;

	if (memcmp(bytes, mapped, sizeof(mapped)) == 0)
		ok = inet_ntop(AF_INET, bytes + sizeof(mapped), host, size);
	else
		ok = inet_ntop(AF_INET6, bytes, host, size);
	if (ok == NULL)
		strlcpy(host, "", size);
	return conn->port;
}

/* The address that the client connected to; returns the port. */
int
knet_conn_local(KConn *conn, char *host, size_t size)
{
	KNetAddress local = {.len = sizeof(local.addr)};
	int			port = 0;

	strlcpy(host, "", size);
	if (conn->dead || getsockname(conn->fd, (struct sockaddr *) &local.addr, &local.len) < 0)
		return 0;
	if (local.addr.ss_family == AF_INET)
	{
		struct sockaddr_in *in = (struct sockaddr_in *) &local.addr;

		inet_ntop(AF_INET, &in->sin_addr, host, size);
		port = ntohs(in->sin_port);
	}
	else if (local.addr.ss_family == AF_INET6)
	{
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) &local.addr;

		inet_ntop(AF_INET6, &in6->sin6_addr, host, size);
		port = ntohs(in6->sin6_port);
	}
	return port;
}

/*
 * The shortest round trip that TCP has measured in the last minutes, in microseconds; UINT32_MAX:
 * not known. The smoothed one tells of load and late acknowledgements, not of distance: it is
 * some milliseconds where the shortest is five microseconds.
 */
uint32
knet_conn_round_trip(KConn *conn)
{
	struct tcp_info info;
	socklen_t	len = sizeof(info);

	if (!conn->dead && getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
		len >= offsetof(struct tcp_info, tcpi_min_rtt) + sizeof(info.tcpi_min_rtt))
		return info.tcpi_min_rtt;
	return UINT32_MAX;
}

/* Count the bytes that are received and sent from now on; NULL: no more. */
void
knet_conn_meter(KConn *conn, pg_atomic_uint64 *received, pg_atomic_uint64 *sent)
{
	conn->received = received;
	conn->sent = sent;
}

int
knet_conn_count(void)
{
	return knet_loop.nconns;
}

/* We know who this is: larger frames are welcome. */
void
knet_conn_trust(KConn *conn, size_t frame_limit)
{
	conn->trusted = true;
	conn->frame_limit = frame_limit;
}

static bool
knet_conn_may_read(KConn *conn)
{
	return !conn->dead && !conn->closing && conn->paused == 0 && !knet_loop.draining;
}

/* Ask epoll for what this connection can do something about, no more. */
static void
knet_conn_interest(KConn *conn)
{
	struct epoll_event event = {0};

	if (conn->dead)
		return;
	if (knet_conn_may_read(conn) && conn->rest == NULL)
		event.events |= EPOLLIN | EPOLLRDHUP;
	else if (!conn->hung_up)
		event.events |= EPOLLRDHUP;
	if (conn->blocked)
		event.events |= EPOLLOUT;
	if (event.events == conn->interest)
		return;
	event.data.ptr = conn;
	if (epoll_ctl(knet_loop.epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) < 0)
	{
		ereport(LOG,
				(errcode_for_socket_access(),
				 errmsg("%s() failed: %m", "epoll_ctl")));
		knet_conn_kill(conn, "epoll failed");
		return;
	}
	conn->interest = event.events;
}

/* How long so many bytes take. */
static int64
knet_frame_us(size_t len, int64 bytes_per_s)
{
	return (int64) len * 1000000 / bytes_per_s;
}

/* The time at which the connection is given up, or -1. */
static int64
knet_conn_due(KConn *conn)
{
	bool		half_frame = conn->head_have > 0 && conn->paused == 0;
	int64		idle_us = (int64) knet_loop.limits.idle_ms * 1000;

	if (half_frame)
	{
		int64		due = conn->frame_us;

		due += idle_us > 0 ? Min(idle_us, KNET_FRAME_US) : KNET_FRAME_US;
		if (conn->head_have == 4)
			due += knet_frame_us(conn->frame_len, KNET_FRAME_BYTES_PER_S);
		return due;
	}

	/* what waits in front of its last words may wait for long, and for nobody */
	if (conn->hung_up && (conn->paused != 0 || conn->closing))
		return conn->hung_up_us + (idle_us > 0 ? Min(idle_us, KNET_HANG_UP_US) : KNET_HANG_UP_US);

	/* a request that waits for its answer is no idleness of the client */
	if (idle_us > 0 && (conn->unsent > 0 || conn->nslots == 0))
		return conn->active_us + idle_us;
	return -1;
}

/* See to it that the deadline is looked at in time; later is corrected there. */
static void
knet_conn_watch(KConn *conn)
{
	int64		due = knet_conn_due(conn);

	if (due < 0 || (conn->timer.armed && conn->timer.at_us <= due))
		return;
	knet_timer_set(&conn->timer, due - knet_loop.now_us, knet_conn_deadline, conn);
}

static void
knet_conn_deadline(void *arg)
{
	KConn	   *conn = arg;
	int64		due = knet_conn_due(conn);

	if (due >= 0 && due <= knet_loop.now_us)
		knet_conn_kill(conn, conn->head_have > 0 && conn->paused == 0 ? "frame took too long" :
					   "idle for too long");
	else if (due >= 0)
		knet_conn_watch(conn);
	else if (knet_loop.limits.idle_ms > 0)
		knet_timer_set(&conn->timer, (int64) knet_loop.limits.idle_ms * 1000,
					   knet_conn_deadline, conn);
}

/*
 * Take over an accepted, non-blocking socket that has been counted. Closes it if
 * there is no memory.
 */
void
knet_conn_accept(int fd, const KNetPeer *peer, uint16 port, const char *name)
{
	struct epoll_event event = {0};
	int			on = 1;
	int			idle = 60;
	KConn	   *conn;

	conn = MemoryContextAllocExtended(knet_loop.frames, sizeof(KConn),
									  MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);
	if (conn == NULL)
	{
		knet_shared_leave(peer);
		close(fd);
		return;
	}
	conn->kind = KNET_KIND_CONN;
	conn->fd = fd;
	conn->peer = *peer;
	conn->port = port;
	strlcpy(conn->name, name, sizeof(conn->name));
	conn->frame_limit = knet_loop.limits.first_frame_limit;
	conn->read_size = KNET_FIRST_READ;
	conn->active_us = knet_loop.now_us;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));

	event.events = conn->interest = EPOLLIN | EPOLLRDHUP;
	event.data.ptr = conn;
	if (epoll_ctl(knet_loop.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
	{
		ereport(LOG,
				(errcode_for_socket_access(),
				 errmsg("%s() failed: %m", "epoll_ctl")));
		knet_shared_leave(peer);
		close(fd);
		pfree(conn);
		return;
	}
	dlist_push_tail(&knet_loop.conns, &conn->node);
	knet_loop.nconns++;
	knet_loop.handlers.opened(conn);
	if (!conn->dead)
		knet_conn_watch(conn);
}

/* Free what has been read and not handed out. */
static void
knet_conn_drop_input(KConn *conn)
{
	if (conn->paused & KNET_PAUSE_MEMORY)
	{
		dlist_delete(&conn->starved_node);
		conn->paused &= ~KNET_PAUSE_MEMORY;
	}
	if (conn->in_ready)
	{
		dlist_delete(&conn->ready_node);
		conn->in_ready = false;
	}
	if (conn->frame != NULL)
	{
		pfree(conn->frame);
		conn->frame = NULL;
	}
	if (conn->taken)
	{
		conn->taken = false;
		knet_shared_give(conn->frame_len);
	}
	conn->head_have = 0;
	if (conn->rest != NULL)
	{
		pfree(conn->rest);
		conn->rest = NULL;
		knet_shared_give(conn->rest_len);
	}
}

/*
 * Close the socket now. The connection stays until the turn has ended and its
 * slots are finished.
 */
void
knet_conn_kill(KConn *conn, const char *why)
{
	if (conn->dead)
		return;
	elog(DEBUG1, "connection from %s closed: %s", conn->name, why);
	conn->dead = true;
	close(conn->fd);			/* leaves the epoll set too */
	conn->fd = -1;
	knet_timer_clear(&conn->timer);
	knet_conn_drop_input(conn);
	if (conn->in_dirty)
	{
		dlist_delete(&conn->dirty_node);
		conn->in_dirty = false;
	}
	knet_send_discard(conn);

	dlist_delete(&conn->node);
	dlist_push_tail(&knet_loop.dead, &conn->node);
	conn->in_dead = true;
	knet_loop.nconns--;
	knet_shared_leave(&conn->peer);
	knet_listen_conn_closed();
}

/* Read nothing more, and close when all requests are answered. */
void
knet_close_after_answers(KConn *conn)
{
	if (conn->dead)
		return;
	conn->closing = true;
	knet_conn_drop_input(conn);
	if (conn->nslots == 0 && conn->unsent == 0)
		knet_conn_kill(conn, "by the broker");
	else
	{
		knet_conn_interest(conn);
		if (conn->hung_up)
			knet_conn_watch(conn);
	}
}

/*
 * The end of a turn: tell of the dead, and free those that nobody points to.  True: the user was
 * told of some.
 */
bool
knet_conn_bury(void)
{
	dlist_head	dead;
	bool		told = false;

	dlist_init(&dead);
	while (!dlist_is_empty(&knet_loop.dead))
		dlist_push_tail(&dead, dlist_pop_head_node(&knet_loop.dead));

	while (!dlist_is_empty(&dead))
	{
		KConn	   *conn = dlist_head_element(KConn, node, &dead);

		if (!conn->reported)
		{
			conn->reported = true;
			knet_loop.handlers.closed(conn);
			told = true;
		}
		dlist_delete(&conn->node);
		conn->in_dead = false;
		if (conn->nslots == 0)
			pfree(conn);
	}
	return told;
}

/*
 * Weigh a connection after something has changed: stop reading it, go on with
 * what it has in memory, or read it again.
 */
void
knet_conn_balance(KConn *conn)
{
	uint8		before = conn->paused;

	if (conn->dead)
		return;
	if (conn->nslots >= KNET_MAX_UNANSWERED)
		conn->paused |= KNET_PAUSE_SLOTS;
	else if (conn->nslots <= KNET_MAX_UNANSWERED / 2)
		conn->paused &= ~KNET_PAUSE_SLOTS;
	if (conn->unsent >= KNET_MAX_UNSENT)
		conn->paused |= KNET_PAUSE_UNSENT;
	else if (conn->unsent <= KNET_MAX_UNSENT / 2)
		conn->paused &= ~KNET_PAUSE_UNSENT;

	/* the sender of half a frame is not blamed for our pauses */
	if (before == 0 && conn->paused != 0)
		conn->paused_us = knet_loop.now_us;
	else if (before != 0 && conn->paused == 0 && conn->head_have > 0)
	{
		conn->frame_us += knet_loop.now_us - conn->paused_us;
		knet_conn_watch(conn);
	}

	if (knet_conn_may_read(conn) && !conn->in_ready &&
		(conn->rest != NULL || (conn->head_have == 4 && conn->frame == NULL)))
	{
		dlist_push_tail(&knet_loop.ready, &conn->ready_node);
		conn->in_ready = true;
	}
	knet_conn_interest(conn);

	/* a pause that began anew after the last look at the deadline */
	if (conn->hung_up && conn->paused != 0 && !conn->dead)
		knet_conn_watch(conn);
}

/*
 * Wait for memory, in line: behind those whose frames would have arrived before, had they begun at
 * the slowest speed when they came. So small frames overtake large ones, but not for ever.
 */
static void
knet_conn_starve(KConn *conn)
{
	dlist_node *after = &knet_loop.starved.head;

	if (conn->paused == 0)
		conn->paused_us = knet_loop.now_us;
	conn->paused |= KNET_PAUSE_MEMORY;
	conn->line_us = knet_loop.now_us + knet_frame_us(conn->frame_len, KNET_FRAME_BYTES_PER_S);
	if (!dlist_is_empty(&knet_loop.starved))
	{
		dlist_iter	iter;

		dlist_reverse_foreach(iter, &knet_loop.starved)
		{
			if (dlist_container(KConn, starved_node, iter.cur)->line_us <= conn->line_us)
			{
				after = iter.cur;
				break;
			}
		}
	}
	if (after == &knet_loop.starved.head)
		dlist_push_head(&knet_loop.starved, &conn->starved_node);
	else
		dlist_insert_after(after, &conn->starved_node);
	knet_shared_want(true);
}

/*
 * Now and then, while there are half-read frames: where others wait for memory, nobody may hold it
 * who only announces a frame and does not send it.
 */
static void
knet_conn_scarce(void *arg)
{
	bool		wanted = knet_shared_is_wanted();
	bool		any = false;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &knet_loop.conns)
	{
		KConn	   *conn = dlist_container(KConn, node, iter.cur);

		if (!conn->taken)
			continue;
		any = true;
		if (wanted && conn->paused == 0 &&
			knet_loop.now_us - conn->frame_us >
			KNET_SCARCE_US + knet_frame_us(conn->frame_have, KNET_SCARCE_BYTES_PER_S))
			knet_conn_kill(conn, "frame took too long while memory is scarce");
	}
	if (any)
		knet_timer_set(&scarce_timer, KNET_SCARCE_LOOK_US, knet_conn_scarce, NULL);
}

/* Memory may have been given back: let those go on that it is enough for. */
void
knet_conn_starved(void)
{
	while (!dlist_is_empty(&knet_loop.starved))
	{
		KConn	   *conn = dlist_head_element(KConn, starved_node, &knet_loop.starved);

		if (!knet_shared_take(conn->frame_len))
			return;
		conn->taken = true;
		if (!scarce_timer.armed)
			knet_timer_set(&scarce_timer, KNET_SCARCE_LOOK_US, knet_conn_scarce, NULL);
		dlist_delete(&conn->starved_node);
		conn->paused &= ~KNET_PAUSE_MEMORY;
		if (conn->paused == 0 && conn->head_have > 0)
			conn->frame_us += knet_loop.now_us - conn->paused_us;
		knet_conn_balance(conn);
	}
	knet_shared_want(false);
}

/*
 * The length is known: take the frame's bytes from the server's budget, and
 * memory for as many of them as are here. False if the connection has to wait or
 * is dead.
 */
static pg_nodiscard bool
knet_frame_begin(KConn *conn, size_t here)
{
	if (!conn->taken &&
		(conn->frame_len <= KNET_SMALL_FRAME || dlist_is_empty(&knet_loop.starved)))
		conn->taken = knet_shared_take(conn->frame_len);
	if (!conn->taken)
	{
		knet_conn_starve(conn);

		/* what was given back before we were listed woke nobody */
		knet_conn_starved();
		if (!conn->taken)
			return false;
	}
	conn->frame_have = 0;
	conn->frame_room = Max(here, conn->trusted ? KNET_TRUSTED_ROOM : KNET_FIRST_ROOM);
	conn->frame_room = Min(conn->frame_room, conn->frame_len);
	conn->frame = MemoryContextAllocExtended(knet_loop.frames, conn->frame_room,
											 MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
	if (conn->frame == NULL)
	{
		knet_conn_kill(conn, "out of memory");
		return false;
	}
	return true;
}

/* Make room for at least `more` further bytes of the frame. */
static pg_nodiscard bool
knet_frame_grow(KConn *conn, size_t more)
{
	size_t		room;
	uint8	   *frame;

	if (conn->frame_room - conn->frame_have >= more)
		return true;
	Assert(more <= conn->frame_len - conn->frame_have);
	room = Min(conn->frame_len, Max(conn->frame_have + more, conn->frame_room * 4));
	frame = MemoryContextAllocExtended(knet_loop.frames, room,
									   MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
	if (frame == NULL)
	{
		knet_conn_kill(conn, "out of memory");
		return false;
	}
	memcpy(frame, conn->frame, conn->frame_have);
	pfree(conn->frame);
	conn->frame = frame;
	conn->frame_room = room;
	return true;
}

/* Hand a whole frame out. False if the connection is dead. */
static pg_nodiscard bool
knet_frame_deliver(KConn *conn)
{
	KNetSlot   *slot;

	slot = MemoryContextAllocExtended(knet_loop.frames, sizeof(KNetSlot),
									  MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);
	if (slot == NULL)
	{
		knet_conn_kill(conn, "out of memory");
		return false;
	}
	slot->conn = conn;
	slot->frame = conn->frame;
	slot->reserved = conn->frame_len;
	conn->frame = NULL;
	conn->taken = false;
	conn->head_have = 0;
	if (conn->slot_last != NULL)
		conn->slot_last->next = slot;
	else
		conn->slot_first = slot;
	conn->slot_last = slot;
	conn->nslots++;

	/* the slot may be finished, and the frame freed, when this returns */
	knet_loop.handlers.frame(conn, slot, slot->frame, slot->reserved);
	knet_conn_balance(conn);
	return !conn->dead;
}

/*
 * Cut bytes into frames and hand them out, until the bytes are used up or the
 * connection is not to be read any more. Returns how many were used.
 */
static size_t
knet_conn_consume(KConn *conn, const uint8 *data, size_t len)
{
	size_t		used = 0;
	int			frames = 0;

	while (knet_conn_may_read(conn) && frames < KNET_FRAMES_PER_GO)
	{
		size_t		take;

		if (conn->frame == NULL)
		{
			if (conn->head_have < 4)
			{
				uint32		announced;

				if (conn->head_have == 0)
					conn->frame_us = knet_loop.now_us;
				take = Min((size_t) (4 - conn->head_have), len - used);
				memcpy(conn->head + conn->head_have, data + used, take);
				conn->head_have += take;
				used += take;
				if (conn->head_have < 4)
					break;
				memcpy(&announced, conn->head, 4);
				conn->frame_len = pg_ntoh32(announced);
				if (conn->frame_len == 0 || conn->frame_len > conn->frame_limit)
				{
					elog(DEBUG1, "connection from %s announces a frame of %zu bytes",
						 conn->name, conn->frame_len);
					knet_close_after_answers(conn);
					break;
				}
			}
			if (!knet_frame_begin(conn, len - used))
				break;
		}
		take = Min(conn->frame_len - conn->frame_have, len - used);
		if (!knet_frame_grow(conn, take))
			break;
		memcpy(conn->frame + conn->frame_have, data + used, take);
		conn->frame_have += take;
		used += take;
		if (conn->frame_have < conn->frame_len)
			break;
		if (!knet_frame_deliver(conn))
			break;
		frames++;
	}
	if (conn->taken && !scarce_timer.armed)
		knet_timer_set(&scarce_timer, KNET_SCARCE_LOOK_US, knet_conn_scarce, NULL);
	return used;
}

/* Go on with what is in memory. */
void
knet_conn_go_on(KConn *conn)
{
	size_t		used;

	dlist_delete(&conn->ready_node);
	conn->in_ready = false;
	used = knet_conn_consume(conn,
							 conn->rest != NULL ? conn->rest + conn->rest_off : scratch,
							 conn->rest != NULL ? conn->rest_len - conn->rest_off : 0);
	if (conn->dead || conn->closing)
		return;
	conn->rest_off += used;
	if (conn->rest != NULL && conn->rest_off == conn->rest_len)
	{
		pfree(conn->rest);
		conn->rest = NULL;
		knet_shared_give(conn->rest_len);
		if (conn->in_ready)
		{
			dlist_delete(&conn->ready_node);
			conn->in_ready = false;
		}
	}
	knet_conn_balance(conn);
	if (!conn->dead)
		knet_conn_watch(conn);
}

/* Keep what cannot be looked at now. False if the connection is dead. */
static pg_nodiscard bool
knet_conn_stash(KConn *conn, const uint8 *data, size_t len)
{
	Assert(conn->rest == NULL);
	conn->rest = MemoryContextAllocExtended(knet_loop.frames, len, MCXT_ALLOC_NO_OOM);
	if (conn->rest == NULL)
	{
		knet_conn_kill(conn, "out of memory");
		return false;
	}
	memcpy(conn->rest, data, len);
	conn->rest_off = 0;
	conn->rest_len = len;
	knet_shared_force(len);
	return true;
}

/* The socket has something. */
static void
knet_conn_read(KConn *conn)
{
	for (int i = 0; i < KNET_READS_PER_GO && knet_conn_may_read(conn) && conn->rest == NULL; i++)
	{
		struct iovec iov[2];
		int			count = 0;
		size_t		in_place = 0;
		size_t		asked;
		size_t		got;
		size_t		used;
		ssize_t		n;

		if (conn->frame != NULL)
		{
			/* the rest of a frame goes where it belongs */
			if (!knet_frame_grow(conn, 1))
				return;
			in_place = conn->frame_room - conn->frame_have;
			iov[count].iov_base = conn->frame + conn->frame_have;
			iov[count++].iov_len = in_place;
		}
		iov[count].iov_base = scratch;
		iov[count++].iov_len = conn->read_size;
		asked = in_place + conn->read_size;

		n = knet_io_read(conn, iov, count);
		if (n < 0)
		{
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				knet_conn_kill(conn, "read failed");
			return;
		}
		if (n == 0)
		{
			/* answers that are ready may still find a reader */
			if (knet_send(conn))
				knet_conn_kill(conn, "by the client");
			return;
		}
		conn->active_us = knet_loop.now_us;
		knet_meter_add(conn->received, n);
		got = n;
		if (in_place > 0)
		{
			size_t		took = Min(got, in_place);

			conn->frame_have += took;
			got -= took;
			if (conn->frame_have == conn->frame_len && !knet_frame_deliver(conn))
				return;
		}
		used = got > 0 ? knet_conn_consume(conn, scratch, got) : 0;
		if (conn->dead)
			return;
		if (used < got && !conn->closing && !knet_conn_stash(conn, scratch + used, got - used))
			return;

		if ((size_t) n == asked && conn->trusted)
			conn->read_size = Min(conn->read_size * 4, KNET_SCRATCH);
		else if ((size_t) n < KNET_FIRST_READ)
			conn->read_size = KNET_FIRST_READ;
		if ((size_t) n < asked)
			break;
	}
	knet_conn_balance(conn);
	if (!conn->dead)
		knet_conn_watch(conn);
}

void
knet_conn_event(KConn *conn, uint32 events)
{
	if (conn->dead)
		return;
	if (events & EPOLLOUT)
	{
		conn->blocked = false;
		if (!knet_send(conn))
			return;
		knet_conn_balance(conn);
	}
	if (conn->dead)
		return;
	if (conn->interest & EPOLLIN)
	{
		if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			knet_conn_read(conn);
	}
	else if (events & (EPOLLHUP | EPOLLERR))
		knet_conn_kill(conn, "by the client");
	else if (events & EPOLLRDHUP)
	{
		/*
		 * It may have said more than we have read, with acks=0 for instance: it is read when the
		 * pause ends, if that is soon.
		 */
		conn->hung_up = true;
		conn->hung_up_us = knet_loop.now_us;
		knet_conn_interest(conn);
		knet_conn_watch(conn);
	}
}

/* Shutdown: no connection is read any more. */
void
knet_conn_drain_all(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &knet_loop.conns)
		knet_close_after_answers(dlist_container(KConn, node, iter.cur));
}
