/*
 * kapi_session.c
 *		Fetch sessions (KIP-227): a consumer of many partitions names only those that change, and
 *		is answered only where there is something new.
 *
 * A session belongs to the broker process that made it, and dies with it.  Its id carries the
 * process' number, so that no other process has a session of that id: a client whose new
 * connection ends elsewhere is answered FETCH_SESSION_ID_NOT_FOUND, and begins anew.
 *
 * As in Kafka a session is not bound to a connection, and rights are looked at in every fetch.
 * The cache is bounded by kafka_pg.max_fetch_sessions, shared out evenly among the processes, and
 * by the number of partitions in it.  When it is full, a session that was not used for two minutes
 * makes room, or a smaller one that was used after two minutes of life; else the client gets no
 * session, and sends full requests.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "utils/memutils.h"

#include "api/kapi_session.h"
#include "kguc.h"

/* Session ids: the process' number in the low bits; 0 is no session. */
#define BROKER_BITS			6
#define RANDOM_IDS			(1 << (31 - BROKER_BITS))

#define NO_SESSION			0
#define EPOCH_INITIAL		0
#define EPOCH_FINAL			(-1)

/* In all sessions of a process together. */
#define MAX_SESSION_PARTS	200000

/* ------------------------------------------------------------------------
 * Tables of partitions
 * ------------------------------------------------------------------------
 */
static uint32
hash_part(const KFetchPart *part)
{
	uint32		hash = hash_bytes(part->topic_id.b, sizeof(part->topic_id.b));

	if (part->topic.len > 0)
		hash = hash_combine(hash, hash_bytes((const unsigned char *) part->topic.data,
											 part->topic.len));
	return hash_combine(hash, murmurhash32((uint32) part->in.partition));
}

static bool
same_part(const KFetchPart *a, const KFetchPart *b)
{
	return a->in.partition == b->in.partition && a->topic.len == b->topic.len &&
		(a->topic.len <= 0 || memcmp(a->topic.data, b->topic.data, a->topic.len) == 0) &&
		memcmp(&a->topic_id, &b->topic_id, sizeof(KUuid)) == 0;
}

typedef struct PartEntry
{
	const KFetchPart *part;
	uint32		hash;
	char		status;
} PartEntry;

#define SH_PREFIX parts
#define SH_ELEMENT_TYPE PartEntry
#define SH_KEY_TYPE const KFetchPart *
#define SH_KEY part
#define SH_HASH_KEY(tb, key) hash_part(key)
#define SH_EQUAL(tb, a, b) same_part(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* ------------------------------------------------------------------------
 * Sessions
 * ------------------------------------------------------------------------
 */

/* What a session remembers of a partition; the topic's name follows, if it has one. */
typedef struct SessionPart
{
	KFetchPart	part;			/* first: parts_hash points here */
	dlist_node	node;			/* in session->order */
	int64		high_watermark;	/* as last answered, -1: not yet, or an error */
	int64		log_start;
} SessionPart;

typedef struct KFetchSession
{
	int32		id;
	uint64		serial;
	int32		epoch;			/* that the next request must have */
	bool		by_id;			/* topics are named by their ids */
	int64		created;
	int64		used;
	MemoryContext ctx;
	parts_hash *parts;
	dlist_head	order;			/* in which partitions are read: had_records() */
	int32		nparts;
	dlist_node	node;			/* in sessions, the least recently used first */
} KFetchSession;

typedef struct SessionEntry
{
	int32		id;
	char		status;
	KFetchSession *session;
} SessionEntry;

#define SH_PREFIX ids
#define SH_ELEMENT_TYPE SessionEntry
#define SH_KEY_TYPE int32
#define SH_KEY id
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static ids_hash *ids;
static dlist_head sessions = DLIST_STATIC_INIT(sessions);
static int	nsessions;
static int	nparts;				/* in all of them */
static uint64 last_serial;

static KFetchSession *
find_session(int32 id)
{
	SessionEntry *entry = ids == NULL ? NULL : ids_lookup(ids, id);

	return entry == NULL ? NULL : entry->session;
}

static void
remove_session(KFetchSession *session)
{
	ids_delete(ids, session->id);
	dlist_delete(&session->node);
	nsessions--;
	nparts -= session->nparts;
	MemoryContextDelete(session->ctx);
}

static void
touch_session(KFetchSession *session)
{
	session->used = kapi_now();
	dlist_delete(&session->node);
	dlist_push_tail(&sessions, &session->node);
}

/* Makes room for a session of n partitions; false: it is not worth it.  Kafka: tryEvict(). */
static bool
make_room(int32 n)
{
	int64		age = kguc_test_fetch_session_age;
	int			cap = Max(kguc_max_fetch_sessions / Max(kguc_brokers, 1), 1);

	while (nsessions >= cap || nparts + n > MAX_SESSION_PARTS)
	{
		KFetchSession *victim = NULL;
		dlist_iter	iter;

		if (dlist_is_empty(&sessions))
			return false;		/* one alone has more than all may have */
		dlist_foreach(iter, &sessions)
		{
			KFetchSession *session = dlist_container(KFetchSession, node, iter.cur);

			if (kapi_now() - session->used > age)
			{
				victim = session;
				break;
			}
			if (session->used - session->created > age && session->nparts < n &&
				(victim == NULL || session->nparts < victim->nparts))
				victim = session;
		}
		if (victim == NULL)
			return false;
		remove_session(victim);
	}
	return true;
}

static SessionPart *
add_part(KFetchSession *session, const KFetchPart *part)
{
	Size		len = Max(part->topic.len, 0);
	SessionPart *added = MemoryContextAllocZero(session->ctx, sizeof(SessionPart) + len);
	bool		found;

	added->part = *part;
	added->part.topic.data = (char *) memcpy(added + 1, len > 0 ? part->topic.data : "", len);
	memset(&added->part.in.unknown_tags, 0, sizeof(added->part.in.unknown_tags));
	added->high_watermark = added->log_start = -1;
	parts_insert(session->parts, &added->part, &found);
	Assert(!found);
	dlist_push_tail(&session->order, &added->node);
	session->nparts++;
	nparts++;
	return added;
}

static SessionPart *
find_part(KFetchSession *session, const KFetchPart *part)
{
	PartEntry  *entry = parts_lookup(session->parts, part);

	return entry == NULL ? NULL : (SessionPart *) entry->part;
}

static void
remove_part(KFetchSession *session, const KFetchPart *part)
{
	SessionPart *gone = find_part(session, part);

	if (gone == NULL)
		return;
	parts_delete(session->parts, part);
	dlist_delete(&gone->node);
	pfree(gone);
	session->nparts--;
	nparts--;
}

static KFetchSession *
create_session(bool by_id, int32 n)
{
	MemoryContext ctx = AllocSetContextCreate(kapi_context, "kafka fetch session",
											  ALLOCSET_SMALL_SIZES);
	KFetchSession *session = MemoryContextAllocZero(ctx, sizeof(KFetchSession));
	bool		found;

	session->ctx = ctx;
	session->parts = parts_create(ctx, Max(n, 4), NULL);
	session->by_id = by_id;
	session->epoch = 1;
	session->serial = ++last_serial;
	session->created = session->used = kapi_now();
	dlist_init(&session->order);
	if (ids == NULL)
		ids = ids_create(kapi_context, 64, NULL);
	do
	{
		session->id = (int32) pg_prng_uint64_range(&pg_global_prng_state, 1, RANDOM_IDS - 1)
			<< BROKER_BITS | kapi_broker;
	} while (find_session(session->id) != NULL);
	ids_insert(ids, session->id, &found)->session = session;
	dlist_push_tail(&sessions, &session->node);
	nsessions++;
	return session;
}

/* ------------------------------------------------------------------------
 * A request and its session
 * ------------------------------------------------------------------------
 */

/* The partitions of the request, each once: where it first stands, with what was said last. */
static int32
request_parts(KRequest *req, KFetchPart **result)
{
	const		KFetchRequest *body = req->body;
	KFetchPart *list;
	parts_hash *known = NULL;
	Size		total = 0;
	int32		n = 0;

	for (int32 i = 0; i < body->topics.count; i++)
		total += Max(body->topics.items[i].partitions.count, 0);
	*result = list = palloc_extended(Max(total, 1) * sizeof(KFetchPart), MCXT_ALLOC_HUGE);
	if (total > 1)
		known = parts_create(CurrentMemoryContext, Min(total, 1000000), NULL);
	for (int32 i = 0; i < body->topics.count; i++)
	{
		KFetchRequestTopic *topic = &body->topics.items[i];

		for (int32 p = 0; p < topic->partitions.count; p++)
		{
			PartEntry  *entry;
			bool		found = false;

			list[n].topic = topic->topic;
			list[n].topic_id = topic->topic_id;
			list[n].in = topic->partitions.items[p];
			if (known != NULL)
			{
				entry = parts_insert(known, &list[n], &found);
				if (found)
					((KFetchPart *) entry->part)->in = list[n].in;
			}
			if (!found)
				n++;
		}
	}
	if (known != NULL)
		parts_destroy(known);
	return n;
}

/* The partitions of a session, in memory of the request: it may outlive the session. */
static int32
session_parts(KFetchSession *session, KFetchPart **result)
{
	KFetchPart *list = palloc_extended(Max(session->nparts, 1) * sizeof(KFetchPart),
									   MCXT_ALLOC_HUGE);
	int32		n = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &session->order)
	{
		list[n] = dlist_container(SessionPart, node, iter.cur)->part;
		if (list[n].topic.len > 0)
		{
			KStr	   *name = &list[n].topic;
			KStr	   *last = n > 0 ? &list[n - 1].topic : NULL;

			if (last != NULL && last->len == name->len &&
				memcmp(last->data, name->data, name->len) == 0)
				*name = *last;
			else
				name->data = memcpy(palloc(name->len), name->data, name->len);
		}
		n++;
	}
	*result = list;
	return n;
}

static void
update_session(KFetchSession *session, const KFetchRequest *body, const KFetchPart *list, int32 n)
{
	for (int32 i = 0; i < n; i++)
	{
		SessionPart *known = find_part(session, &list[i]);

		if (known == NULL)
			add_part(session, &list[i]);
		else
		{
			known->part.in = list[i].in;
			memset(&known->part.in.unknown_tags, 0, sizeof(known->part.in.unknown_tags));
		}
	}
	for (int32 i = 0; i < body->forgotten_topics_data.count; i++)
	{
		KFetchRequestForgottenTopic *topic = &body->forgotten_topics_data.items[i];
		KFetchPart	part = {.topic = topic->topic,.topic_id = topic->topic_id};

		for (int32 p = 0; p < topic->partitions.count; p++)
		{
			part.in.partition = topic->partitions.items[p];
			remove_part(session, &part);
		}
	}
}

/* Would the session outgrow what all may have, with these partitions? */
static bool
grows_too_large(KFetchSession *session, const KFetchPart *list, int32 n)
{
	int32		added = 0;

	if (nparts + n <= MAX_SESSION_PARTS)
		return false;
	for (int32 i = 0; i < n; i++)
	{
		if (find_part(session, &list[i]) == NULL)
			added++;
	}
	return nparts + added > MAX_SESSION_PARTS;
}

int16
kapi_session_begin(KRequest *req, KFetchContext *context, KFetchPart **parts, int32 *n)
{
	const		KFetchRequest *body = req->body;
	KFetchSession *session = find_session(body->session_id);

	*n = request_parts(req, parts);
	context->mode = KFETCH_ALONE;
	context->session_id = NO_SESSION;
	if (body->session_epoch == EPOCH_FINAL || body->session_epoch == EPOCH_INITIAL)
	{
		if (session != NULL)
			remove_session(session);
		if (body->session_epoch == EPOCH_INITIAL && req->version >= 7)
			context->mode = KFETCH_FULL;
		return 0;
	}
	if (session == NULL)
		return KERR_FETCH_SESSION_ID_NOT_FOUND;
	if (session->epoch != body->session_epoch)
		return KERR_INVALID_FETCH_SESSION_EPOCH;
	if (session->by_id != (req->version >= 13))
		return KERR_FETCH_SESSION_TOPIC_ID_ERROR;
	if (grows_too_large(session, *parts, *n))
	{
		/* It may not: the client is to begin anew, and will get none. */
		remove_session(session);
		return KERR_FETCH_SESSION_ID_NOT_FOUND;
	}

	update_session(session, body, *parts, *n);
	if (session->nparts == 0)
	{
		remove_session(session);
		return 0;
	}
	touch_session(session);
	session->epoch = session->epoch == PG_INT32_MAX ? 1 : session->epoch + 1;
	context->mode = KFETCH_INCREMENTAL;
	context->session_id = session->id;
	context->serial = session->serial;
	context->epoch = session->epoch;
	*n = session_parts(session, parts);
	return 0;
}

/* Is there something that the client does not know yet?  Remembers what it will. */
static bool
is_news(SessionPart *known, const KFetchResponsePartition *out)
{
	bool		news = out->records.len > 0 || out->preferred_read_replica >= 0 ||
		out->diverging_epoch.epoch >= 0;

	if (known->high_watermark != out->high_watermark)
	{
		news = true;
		known->high_watermark = out->high_watermark;
	}
	if (known->log_start != out->log_start_offset)
	{
		news = true;
		known->log_start = out->log_start_offset;
	}
	if (out->error_code != 0)
	{
		/* Also the next answer without an error is to be given. */
		news = true;
		known->high_watermark = -1;
	}
	return news;
}

/* Who has had something comes last next time, unless there was not room for all of its share. */
static void
had_records(KFetchSession *session, SessionPart *part, const KFetchPart *fetched,
			const KFetchResponsePartition *out)
{
	if (out->records.len > 0 && !fetched->curtailed)
	{
		dlist_delete(&part->node);
		dlist_push_tail(&session->order, &part->node);
	}
}

int16
kapi_session_end(KRequest *req, const KFetchContext *context, const KFetchPart **parts,
				 KFetchResponsePartition **outs, int32 *n, int32 *session_id)
{
	KFetchSession *session;
	int32		kept = 0;

	*session_id = NO_SESSION;
	if (context->mode == KFETCH_ALONE)
		return 0;
	if (context->mode == KFETCH_FULL)
	{
		if (!make_room(*n))
			return 0;
		session = create_session(req->version >= 13, *n);
		for (int32 i = 0; i < *n; i++)
		{
			SessionPart *part = add_part(session, parts[i]);

			part->high_watermark = outs[i]->high_watermark;
			part->log_start = outs[i]->log_start_offset;
		}
		for (int32 i = 0; i < *n; i++)
		{
			if (outs[i]->records.len > 0)
				had_records(session, find_part(session, parts[i]), parts[i], outs[i]);
		}
		*session_id = session->id;
		return 0;
	}

	*session_id = context->session_id;
	session = find_session(context->session_id);
	if (session == NULL || session->serial != context->serial)
		return KERR_FETCH_SESSION_ID_NOT_FOUND;
	if (session->epoch != context->epoch)
		return KERR_INVALID_FETCH_SESSION_EPOCH;
	for (int32 i = 0; i < *n; i++)
	{
		SessionPart *known = find_part(session, parts[i]);

		if (known == NULL || !is_news(known, outs[i]))
			continue;
		had_records(session, known, parts[i], outs[i]);
		parts[kept] = parts[i];
		outs[kept++] = outs[i];
	}
	*n = kept;
	return 0;
}

/* ------------------------------------------------------------------------
 * Without a session
 * ------------------------------------------------------------------------
 */
int32
kapi_turn_find(const KFetchTurn *turn, const KFetchPart *parts, int32 n)
{
	for (int32 i = 0; i < n && turn->known; i++)
	{
		if (same_part(&turn->part, &parts[i]))
			return i;
	}
	return 0;
}

void
kapi_turn_pass(KFetchTurn *turn, const KFetchPart *parts, int32 n, int32 first)
{
	int32		i = first;

	turn->known = false;
	for (int32 left = n; left > 0; left--)
	{
		if (parts[i].curtailed && parts[i].topic.len <= KAPI_TOPIC_NAME_MAX)
		{
			turn->known = true;
			turn->part = parts[i];
			turn->part.topic.data = turn->topic;
			memset(&turn->part.in.unknown_tags, 0, sizeof(turn->part.in.unknown_tags));
			if (parts[i].topic.len > 0)
				memcpy(turn->topic, parts[i].topic.data, parts[i].topic.len);
			return;
		}
		i = i == n - 1 ? 0 : i + 1;
	}
}
