/*
 * knet_int.h
 *	  What the files of this module tell each other, and nobody else.
 */
#ifndef KNET_INT_H
#define KNET_INT_H

#include <sys/socket.h>

#include "net/knet.h"

/* A frame up to this size does not wait in line for memory. */
#define KNET_SMALL_FRAME (16 * 1024)

/* What an epoll event points at. */
typedef enum KNetKind
{
	KNET_KIND_LISTENER,
	KNET_KIND_CONN
} KNetKind;

/* The address of a peer, for counting: IPv4 as IPv6-mapped. */
typedef struct KNetPeer
{
	uint8		bytes[16];
} KNetPeer;

typedef struct KNetLoop
{
	int			no;
	KNetHandlers handlers;
	KNetLimits	limits;
	MemoryContext context;		/* lives as long as the loop */
	MemoryContext frames;		/* frames, answers, connections */
	WaitEventSet *wait_set;
	int			epoll_fd;
	int64		now_us;			/* cached clock */
	bool		stop;
	bool		draining;		/* shutting down: no new frames */
	pairingheap *timers;
	dlist_head	conns;			/* all that have a socket */
	dlist_head	ready;			/* have input in memory and may go on */
	dlist_head	dirty;			/* have output that nobody tried to send */
	dlist_head	stalled;		/* have output that its lender did not have at hand */
	dlist_head	starved;		/* wait for in-flight bytes, by line_us */
	dlist_head	dead;			/* to be reported or freed when the turn ends */
	int			nconns;
	int			max_conns;		/* what the descriptor limit allows here */
} KNetLoop;

extern KNetLoop knet_loop;

/* Bytes that wait to be sent. */
typedef struct KNetOut
{
	struct KNetOut *next;
	const uint8 *data;
	size_t		len;
	void		(*release) (void *arg);
	void	   *arg;
	const KChunkLender *lender;
	void	   *lender_arg;
	uint8		bytes[FLEXIBLE_ARRAY_MEMBER];	/* data, if they were copied */
} KNetOut;

/* A request's place in the order of answers. */
struct KNetSlot
{
	KConn	   *conn;
	KNetSlot   *next;
	uint8	   *frame;			/* NULL once freed */
	size_t		reserved;		/* bytes of the in-flight budget */
	bool		done;
	KNetOut    *first;			/* the answer, while an earlier one is missing */
	KNetOut    *last;
};

/* Why a connection is not read. */
#define KNET_PAUSE_SLOTS	0x01	/* too many requests without an answer */
#define KNET_PAUSE_UNSENT	0x02	/* the client does not read its answers */
#define KNET_PAUSE_MEMORY	0x04	/* no room for the next frame in the server */

struct KConn
{
	KNetKind	kind;			/* first: epoll events point here */
	int			fd;
	uint32		interest;		/* epoll events asked for */
	bool		dead;			/* the socket is closed */
	bool		reported;		/* closed() has been called */
	bool		closing;		/* close when all is answered and sent */
	bool		blocked;		/* the socket takes no more output for now */
	bool		hung_up;		/* the client will send no more than it has */
	bool		trusted;
	bool		in_ready;
	bool		in_dirty;		/* or in stalled, which uses the same node */
	bool		in_dead;
	uint8		paused;			/* KNET_PAUSE_* */
	dlist_node	node;			/* in conns, later in dead */
	dlist_node	ready_node;
	dlist_node	dirty_node;
	dlist_node	starved_node;	/* while paused for memory */
	void	   *user;

	/* input */
	size_t		frame_limit;
	size_t		read_size;		/* how much to ask the socket for */
	uint8		head[4];
	int			head_have;
	bool		taken;			/* frame_len bytes of the budget are held */
	uint8	   *frame;			/* the frame being read */
	size_t		frame_len;
	size_t		frame_have;
	size_t		frame_room;
	int64		line_us;		/* its place among those that wait for memory */
	uint8	   *rest;			/* read, but not to be looked at yet */
	size_t		rest_off;
	size_t		rest_len;

	/* requests and answers */
	KNetSlot   *slot_first;
	KNetSlot   *slot_last;
	int			nslots;			/* not finished, or finished and not first */
	KNetOut    *out_first;
	KNetOut    *out_last;
	size_t		out_off;		/* of the first, already sent */
	size_t		unsent;			/* finished answers, first in line or not */
	size_t		unsent_held;	/* those of them that are in memory */

	/* deadlines */
	int64		active_us;		/* last progress in either direction */
	int64		frame_us;		/* when the frame being read began */
	int64		paused_us;
	int64		hung_up_us;
	KNetTimer	timer;

	/* bytes, where somebody wants to know of them; else NULL */
	pg_atomic_uint64 *received;
	pg_atomic_uint64 *sent;

	KNetPeer	peer;
	uint16		port;			/* of the peer */
	char		name[64];
};

/* Adds to a count that only this process writes. */
static inline void
knet_meter_add(pg_atomic_uint64 *count, size_t bytes)
{
	if (count != NULL)
		pg_atomic_write_u64(count, pg_atomic_read_u64(count) + bytes);
}

/* knet_loop.c */
extern void knet_loop_tick(void);

/* knet_shared.c */
extern void knet_shared_attach(int loop_no);
extern bool knet_shared_admit(const KNetPeer *peer, const char **why);
extern void knet_shared_leave(const KNetPeer *peer);
extern bool knet_shared_take(size_t bytes);
extern void knet_shared_force(size_t bytes);
extern void knet_shared_give(size_t bytes);
extern void knet_shared_answer_add(size_t bytes);
extern void knet_shared_answer_sub(size_t bytes);
extern size_t knet_shared_answer_bytes(void);
extern void knet_shared_want(bool starved);
extern bool knet_shared_is_wanted(void);

/* knet_listen.c */
extern void knet_listen_event(void *listener);
extern void knet_listen_conn_closed(void);

/* knet_conn.c */
extern void knet_conn_accept(int fd, const KNetPeer *peer, uint16 port, const char *name);
extern void knet_conn_event(KConn *conn, uint32 events);
extern void knet_conn_go_on(KConn *conn);
extern void knet_conn_balance(KConn *conn);
extern void knet_conn_kill(KConn *conn, const char *why);
extern bool knet_conn_bury(void);
extern void knet_conn_starved(void);
extern void knet_conn_drain_all(void);

/* knet_send.c */
extern pg_nodiscard bool knet_send(KConn *conn);
extern void knet_send_dirty(void);
extern void knet_send_discard(KConn *conn);

#endif							/* KNET_INT_H */
