/*
 * knet_send.c
 *	  Answers: in the order of requests, whatever the order they were made in.
 *
 * Answers are not sent when they are made but when the turn ends, so that all
 * that a turn answers on one connection leaves in one call.
 */
#include "postgres.h"

#include <sys/uio.h>

#include "utils/memutils.h"

#include "net/knet_int.h"

#define KNET_IOV 192
#define KNET_SEND_PER_GO (4 * 1024 * 1024)

/* TLS will take the place of this function and of knet_io_read. */
static ssize_t
knet_io_write(KConn *conn, struct iovec *iov, int count)
{
	struct msghdr message = {0};

	message.msg_iov = iov;
	message.msg_iovlen = count;
	return sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
knet_out_free(KNetOut *out)
{
	if (out->release != NULL)
		out->release(out->arg);
	pfree(out);
}

static void
knet_out_free_list(KNetOut *out)
{
	while (out != NULL)
	{
		KNetOut    *next = out->next;

		knet_out_free(out);
		out = next;
	}
}

/*
 * The frame has been dealt with; the slot still waits for its answer. Call it as
 * early as possible: these bytes count against the server's budget.
 */
void
knet_frame_free(KNetSlot *slot)
{
	if (slot->frame == NULL)
		return;
	pfree(slot->frame);
	slot->frame = NULL;
	knet_shared_give(slot->reserved);
}

/* How many bytes of answers the server has memory for now. */
size_t
knet_answer_room(void)
{
	size_t		used = knet_shared_answer_bytes();

	return used < knet_loop.limits.answer_bytes ? knet_loop.limits.answer_bytes - used : 0;
}

/* A finished slot whose connection died before it. */
static void
knet_slot_forget(KNetSlot *slot)
{
	KConn	   *conn = slot->conn;

	pfree(slot);
	if (--conn->nslots == 0 && conn->reported && !conn->in_dead)
	{
		/* not now: the caller may still look at it */
		dlist_push_tail(&knet_loop.dead, &conn->node);
		conn->in_dead = true;
	}
}

/* A slot was finished: send what is first in line now. */
static void
knet_slot_finish(KNetSlot *slot)
{
	KConn	   *conn = slot->conn;
	bool		output = false;

	slot->done = true;
	while (conn->slot_first != NULL && conn->slot_first->done)
	{
		KNetSlot   *first = conn->slot_first;

		if (first->first != NULL)
		{
			if (conn->out_last != NULL)
				conn->out_last->next = first->first;
			else
				conn->out_first = first->first;
			conn->out_last = first->last;
			output = true;
		}
		conn->slot_first = first->next;
		if (conn->slot_first == NULL)
			conn->slot_last = NULL;
		conn->nslots--;
		pfree(first);
	}
	if ((output || conn->closing) && !conn->in_dirty && !conn->blocked)
	{
		dlist_push_tail(&knet_loop.dirty, &conn->dirty_node);
		conn->in_dirty = true;
	}
	knet_conn_balance(conn);
}

/* One piece of an answer. Owns the chunk if it succeeds. */
static KNetOut *
knet_out_make(const KChunk *chunk)
{
	bool		copy = chunk->release == NULL;
	KNetOut    *out;

	out = MemoryContextAllocExtended(knet_loop.frames,
									 offsetof(KNetOut, bytes) + (copy ? chunk->len : 0),
									 MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);
	if (out == NULL)
		return NULL;
	if (copy && chunk->len > 0)
		memcpy(out->bytes, chunk->data, chunk->len);
	out->next = NULL;
	out->data = copy ? out->bytes : chunk->data;
	out->len = chunk->len;
	out->release = chunk->release;
	out->arg = chunk->arg;
	out->lender = chunk->lender;
	out->lender_arg = chunk->lender_arg;
	return out;
}

static void
knet_chunks_release(const KChunk *chunks, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (chunks[i].release != NULL)
			chunks[i].release(chunks[i].arg);
	}
}

/*
 * Make the chunks the slot's answer. On failure all that was not sent is released,
 * and the caller has to kill the connection.
 */
static pg_nodiscard bool
knet_slot_answer(KNetSlot *slot, const KChunk *chunks, int count)
{
	size_t		total = 0;
	size_t		held = 0;

	for (int i = 0; i < count; i++)
	{
		KNetOut    *out;

		if (chunks[i].len == 0)
		{
			knet_chunks_release(&chunks[i], 1);
			continue;
		}
		out = knet_out_make(&chunks[i]);
		if (out == NULL)
		{
			knet_chunks_release(chunks + i, count - i);
			knet_out_free_list(slot->first);
			slot->first = slot->last = NULL;
			return false;
		}
		if (slot->last != NULL)
			slot->last->next = out;
		else
			slot->first = out;
		slot->last = out;
		total += out->len;
		held += out->lender == NULL ? out->len : 0;
	}
	slot->conn->unsent += total;
	slot->conn->unsent_held += held;
	knet_shared_answer_add(held);
	return true;
}

/* Finish the slot with an answer: one whole frame, its length included. */
void
knet_reply(KNetSlot *slot, const KChunk *chunks, int count)
{
	KConn	   *conn = slot->conn;

	Assert(!slot->done);
	knet_frame_free(slot);
	if (conn->dead)
	{
		knet_chunks_release(chunks, count);
		knet_slot_forget(slot);
		return;
	}
	conn->active_us = knet_loop.now_us;
	if (!knet_slot_answer(slot, chunks, count))
	{
		knet_conn_kill(conn, "no memory for an answer");
		knet_slot_forget(slot);
		return;
	}
	knet_slot_finish(slot);
}

/* Finish the slot of a request that has no answer. */
void
knet_reply_none(KNetSlot *slot)
{
	Assert(!slot->done);
	knet_frame_free(slot);
	if (slot->conn->dead)
		knet_slot_forget(slot);
	else
		knet_slot_finish(slot);
}

/* The connection died: release its answers; unfinished slots stay. */
void
knet_send_discard(KConn *conn)
{
	KNetSlot   *slot = conn->slot_first;

	knet_shared_answer_sub(conn->unsent_held);
	conn->unsent = conn->unsent_held = 0;
	knet_out_free_list(conn->out_first);
	conn->out_first = conn->out_last = NULL;
	while (slot != NULL)
	{
		KNetSlot   *next = slot->next;

		if (slot->done)
		{
			knet_out_free_list(slot->first);
			pfree(slot);
			conn->nslots--;
		}
		slot = next;
	}
	conn->slot_first = conn->slot_last = NULL;
}

/* Forget what the socket has taken. */
static void
knet_send_advance(KConn *conn, size_t sent)
{
	size_t		held = 0;

	conn->active_us = knet_loop.now_us;
	conn->unsent -= sent;
	knet_meter_add(conn->sent, sent);
	while (sent > 0)
	{
		KNetOut    *out = conn->out_first;
		size_t		step = Min(sent, out->len - conn->out_off);

		held += out->lender == NULL ? step : 0;
		sent -= step;
		conn->out_off += step;
		if (conn->out_off < out->len)
			break;
		conn->out_off = 0;
		conn->out_first = out->next;
		if (conn->out_first == NULL)
			conn->out_last = NULL;
		knet_out_free(out);
	}
	conn->unsent_held -= held;
	knet_shared_answer_sub(held);
}

/*
 * One system call: what is in memory up to and with the next bytes that are lent.  Returns what it
 * sent; 0: the lender has nothing at hand; -1: errno says why; -2: the answer cannot be completed.
 */
static ssize_t
knet_send_some(KConn *conn)
{
	struct iovec iov[KNET_IOV];
	int			count = 0;
	size_t		off = conn->out_off;
	size_t		before = 0;
	KNetOut    *lent = NULL;
	ssize_t		n;
	int			save_errno;

	for (KNetOut *out = conn->out_first; out != NULL && count < KNET_IOV / 2; out = out->next)
	{
		if (out->lender != NULL)
		{
			int			got = out->lender->lend(out->lender_arg, iov + count, KNET_IOV - count);

			if (got < 0)
				return -2;
			if (got > 0)
				lent = out;
			count += got;
			break;
		}
		iov[count].iov_base = unconstify(uint8 *, out->data) + off;
		iov[count++].iov_len = out->len - off;
		before += out->len - off;
		off = 0;
	}
	if (count == 0)
		return 0;
	n = knet_io_write(conn, iov, count);
	save_errno = errno;
	if (lent != NULL)
		lent->lender->settle(lent->lender_arg, n > (ssize_t) before ? n - before : 0);
	errno = save_errno;
	return n;
}

/* Send what is first in line. False if the connection is dead. */
pg_nodiscard bool
knet_send(KConn *conn)
{
	size_t		total = 0;

	while (conn->out_first != NULL && !conn->blocked)
	{
		ssize_t		n;

		/* be fair: the rest goes when the socket says so */
		if (total >= KNET_SEND_PER_GO)
		{
			conn->blocked = true;
			break;
		}
		n = knet_send_some(conn);
		if (n == 0)
		{
			if (!conn->in_dirty)
			{
				dlist_push_tail(&knet_loop.stalled, &conn->dirty_node);
				conn->in_dirty = true;
			}
			break;
		}
		if (n == -2)
		{
			knet_conn_kill(conn, "records that were being sent are gone");
			return false;
		}
		if (n < 0)
		{
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN || errno == EWOULDBLOCK)
			{
				conn->blocked = true;
				break;
			}
			knet_conn_kill(conn, "write failed");
			return false;
		}
		knet_send_advance(conn, n);
		total += n;
	}
	if (conn->closing && conn->nslots == 0 && conn->unsent == 0)
	{
		knet_conn_kill(conn, "by the broker");
		return false;
	}
	return true;
}

/* The end of a turn: send the answers that it has made. */
void
knet_send_dirty(void)
{
	dlist_head	dirty;

	dlist_init(&dirty);
	while (!dlist_is_empty(&knet_loop.stalled))
		dlist_push_tail(&dirty, dlist_pop_head_node(&knet_loop.stalled));
	while (!dlist_is_empty(&knet_loop.dirty))
		dlist_push_tail(&dirty, dlist_pop_head_node(&knet_loop.dirty));
	while (!dlist_is_empty(&dirty))
	{
		KConn	   *conn = dlist_head_element(KConn, dirty_node, &dirty);

		dlist_delete(&conn->dirty_node);
		conn->in_dirty = false;
		if (knet_send(conn))
			knet_conn_balance(conn);
	}
}
