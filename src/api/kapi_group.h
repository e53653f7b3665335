/*
 * kapi_group.h
 *		Requests of consumer groups: events on groups, and what a turn does for them.
 *		For src/api only.  src/coord/README.md says how an event goes.
 */
#ifndef KAPI_GROUP_H
#define KAPI_GROUP_H

#include "api/kapi_request.h"
#include "coord/kcoord.h"

/* Until there are ACLs: Read, Delete, Describe, DescribeConfigs, AlterConfigs. */
#define KAPI_GROUP_OPERATIONS	(1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11)

/* ------------------------------------------------------------------------
 * Events: kapi_group.c
 * ------------------------------------------------------------------------
 */

/* An environment, and the memory that it gives. */
typedef struct KGroupWork
{
	KGroupEnv	env;
	KArena		arena;
	MemoryContext ctx;			/* a child of the one that was current */
} KGroupWork;

/*
 * Makes an environment; false: the catalog of topics is locked, try again later.  It is good until
 * the turn's end.
 */
extern bool kapi_group_work(KGroupWork *work);
extern void kapi_group_work_end(KGroupWork *work);

/* Gives back what it has allocated, for the next group. */
extern void kapi_group_work_reset(KGroupWork *work);

/* Both with the group's own configs, where it has some, in the place of the settings. */
extern void kapi_group_configure(KGroupWork *work, KStr group_id);
extern KGroup *kapi_group_open(KGroupWork *work, KStr group_id, const uint8 *image, size_t len);

/* Has all topics in the process' cache, so that they can be looked up under a group's lock. */
extern bool kapi_group_topics(void);

/*
 * Requests that name very many groups or offsets work for some milliseconds a turn, all of them
 * together: is that used up?  A step asks before each piece of its work, does the first in any
 * case, and goes on after kapi_wait_turn().
 */
extern bool kapi_group_share_used(void);

/*
 * A step that may be tried many times works in memory of its own, which is current between
 * these two, and goes with the request if it is not tried again.
 */
extern MemoryContext kapi_group_attempt(KRequest *req);
extern void kapi_group_retry(KRequest *req, MemoryContext attempt, void (*step) (KRequest *req));

/* NONE, or what is wrong with the id, or that groups are not there yet. */
extern int16 kapi_group_check(KStr group_id);

/*
 * The end of an event on a locked group (slot NULL: one that does not exist): writes the new image
 * and sends all answers but the one to the request of this number, which becomes *own, if it is
 * there. False: no room; nothing has happened.  Unlocks.
 */
extern bool kapi_group_finish(KGroupWork *work, KCoordSlot *slot, KGroup *g, KGroupResult result,
							  uint64 number, const KGroupAnswer **own, KCoordVersion *version);

/*
 * Runs an event for a request, and answers it now or later.  "step" is the handler, for another
 * attempt; "create" makes a group that is not there.
 */
typedef KGroupResult (*KGroupEvent) (KGroup *g, const KGroupCaller *caller, const void *body);

extern void kapi_group_event(KRequest *req, KStr group_id, bool create, KGroupEvent event,
							 void (*step) (KRequest *req));

/*
 * An answer that tells of groups may take so much memory before the last of them: a request may
 * name one group very often.  The others are not available then.
 */
#define KAPI_GROUP_ANSWER_MAX	((Size) 256 * 1024 * 1024)

/* An answer from another request's event, or another broker. */
extern void kapi_group_delivered(const KCoordPost *post, const KCoordVersion *version);

/*
 * Opens a group of any kind, also one that has only offsets.  Waits for its lock: the caller holds
 * no other.  *slot: NULL, or locked.  NULL: busy, or no memory; try again later.
 */
extern KGroup *kapi_group_open_any(KGroupWork *work, KStr group_id, KCoordSlot **slot);

/*
 * A request that describes groups, one after the other and a share of them a turn.  What is
 * described stays so, in the request's memory, and groups beyond KAPI_GROUP_ANSWER_MAX are not.
 */
typedef struct KDescribing
{
	int32		next;			/* group */
	KGroupWork	group;			/* the one that is being described */
	Size		used;			/* by those before */
} KDescribing;

/* The group's memory stays.  NULL: *error says why not; if that is KERR_NONE, busy. */
extern KGroup *kapi_group_open_described(KDescribing *work, KStr group_id, int16 *error);

/*
 * Calls one() for each of the groups that are left; false from it means busy.  False: "again" is
 * called in a later turn.
 */
extern bool kapi_group_describe(KRequest *req, KDescribing *work, int32 count,
								bool (*one) (KRequest *req, int32 i),
								void (*again) (KRequest *req));

extern void kapi_group_requests_init(void);

/* ------------------------------------------------------------------------
 * Patterns: kapi_group_pattern.c
 * ------------------------------------------------------------------------
 */

/* Before an event of a request that began then: patterns match what its role may describe. */
extern void kapi_pattern_begin(Oid role, int64 begun);

/* KGroupEnv's match_topics, from the cache.  What is not there makes kapi_pattern_wanting() true. */
extern bool kapi_pattern_topics(uint64 version, KStr pattern, KGroupMatch match, void *match_arg);

/*
 * After the event: it lacked a pattern, and must be thrown away.  Then, without the group's lock
 * but with the event's memory, have that pattern worked on for some milliseconds, and try again.
 */
extern bool kapi_pattern_wanting(void);
extern void kapi_pattern_advance(uint64 version);

/* ------------------------------------------------------------------------
 * Commits of offsets: kapi_group_offset.c
 * ------------------------------------------------------------------------
 */

/*
 * A topic that a request names, by its name or its id, and what is wrong with that; "describe": it
 * may be known, else it may be read.  *busy: try again later.
 */
extern int16 kapi_group_topic(KRequest *req, bool by_id, KStr name, const KUuid *id,
							  bool describe, const KTopic **topic, bool *busy);

typedef enum KCommitOp
{
	KCOMMIT_PUT,
	KCOMMIT_DELETE,				/* the offset of that topic and partition */
	KCOMMIT_DELETE_ALL			/* of the group */
} KCommitOp;

typedef struct KCommitPart
{
	KCommitOp	op;
	int16		error;			/* if not NONE, it is done from the beginning */
	bool		done;			/* in a transaction that has committed */
	bool		put;			/* in the one that is being made */
	KStr		group_id;
	KCoordOffset offset;
} KCommitPart;

/* In the request's memory; req->work begins with it. */
typedef struct KCommit
{
	dlist_node	node;			/* in commits, while listed */
	bool		listed;
	KRequest   *req;
	void		(*then) (KRequest *req);

	/*
	 * Called when its rows are written but not committed, and nobody else can write them: does what
	 * allowed that still hold?  The first form of "no" undoes the transaction and runs "again",
	 * with the memory of the attempt (see kapi_group_attempt()) gone; without "again", the
	 * function has changed the parts, and they are written anew.
	 */
	bool		(*valid) (KRequest *req);
	void		(*again) (KRequest *req);
	MemoryContext attempt;
	KCoordStamp stamp;			/* of the group when it was asked; for "valid" */
	bool		overtaken;		/* "valid" has said no */
	bool		separate;		/* its parts need not be written in one transaction */
	bool		tried;			/* in the transaction that is being made */
	bool		partly;			/* and the rest in later ones */
	bool		alone;			/* an error was thrown while it was written with others */
	int64		when;			/* not before that, on kcoord_now()'s clock */
	int			backoff;
	int32		n;
	KCommitPart *parts;
} KCommit;

/* Has what is not done written, and then continues the request when it is durable. */
extern void kapi_commit_start(KRequest *req, KCommit *commit, void (*then) (KRequest *req));

/* Is one to be written now?  Milliseconds until one is, -1: none. */
extern bool kapi_commits_pending(void);
extern long kapi_commits_timeout(void);

/*
 * Writes them, in the transaction of kapi_group_turn(), which then tells what has become of it:
 * committed with this LSN; undone since kapi_commits_write() returned false; or failed.
 */
extern bool kapi_commits_write(void);
extern void kapi_commits_written(XLogRecPtr lsn);
extern void kapi_commits_overtaken(void);
extern void kapi_commits_failed(void);

/* ------------------------------------------------------------------------
 * The turn: kapi_group_turn.c
 * ------------------------------------------------------------------------
 */

/* This broker has become the writer of the rows of a group. */
extern void kapi_group_must_write(int slot);

/* The groups of the server are there, and this process has forgotten its predecessor's. */
extern bool kapi_group_ready(void);

#endif							/* KAPI_GROUP_H */
