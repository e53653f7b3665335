/*
 * kapi_group_pattern.c
 *		Which topics match a pattern: each process' cache, filled in slices between events.
 *
 * An event looks patterns up under a group's lock, where nothing may take long and no catalog can
 * be read.  What it does not find here is wanted: the event is thrown away, the pattern is put into
 * a queue that is worked off for some milliseconds a turn, and then the event is run again.  One
 * pattern is worked on to its end before the next: so all come to theirs, however many there are.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "api/kapi_group.h"
#include "group/kpattern.h"

/* Steps of kpattern_matches(): a turn's share, and what one pattern may take in all. */
#define SLICE			UINT64CONST(500000)
#define WORK_MAX		UINT64CONST(50000000)

/* Rights may have changed after that time. */
#define FRESH_MS		10000

/* Who has asked for a pattern asks again each turn; after that time without, nobody waits. */
#define ABANDONED_MS	5000

/* All patterns go when they are more than this, and more than those of two groups. */
#define BYTES_MAX		((Size) 16 * 1024 * 1024)

typedef struct PatternKey
{
	Oid			role;			/* whose topics */
	KStr		text;
} PatternKey;

typedef struct Pattern
{
	PatternKey	key;
	bool		done;
	bool		valid;
	int64		when;			/* it was done */
	bool		queued;
	dlist_node	node;			/* in the queue */
	int64		asked;			/* somebody has last waited for it */
	uint8	   *matches;		/* a bit for each topic */
} Pattern;

/* The topics of one version, and what has been matched with them. */
static struct
{
	MemoryContext ctx;
	uint64		version;		/* 0: none */
	int			ntopics;
	KStr	   *names;
	Oid		   *relids;
	HTAB	   *patterns;
	Size		bytes;
	dlist_head	queue;			/* of patterns that are wanted */
} known;

/* The pattern that is worked on, the first of the queue. */
static struct
{
	MemoryContext ctx;
	Pattern    *pattern;		/* NULL: none */
	KPattern   *compiled;
	KArena		arena;
	int			next;			/* topic */
	uint64		work;
} job;

static Oid	asking_role;
static int64 asking_since;
static bool wanting;
static PatternKey wanted;
static uint64 slice_turn;
static uint64 slice_used;

static uint32
hash_key(const void *key, Size size)
{
	const PatternKey *k = key;

	return hash_combine(hash_uint32(k->role),
						hash_bytes((const unsigned char *) k->text.data, k->text.len));
}

static int
compare_keys(const void *a, const void *b, Size size)
{
	const PatternKey *ka = a;
	const PatternKey *kb = b;

	return ka->role != kb->role || ka->text.len != kb->text.len ||
		memcmp(ka->text.data, kb->text.data, ka->text.len) != 0;
}

/* ------------------------------------------------------------------------
 * Within an event
 * ------------------------------------------------------------------------
 */

void
kapi_pattern_begin(Oid role, int64 begun)
{
	asking_role = role;
	asking_since = begun;
	wanting = false;
}

bool
kapi_pattern_wanting(void)
{
	return wanting;
}

bool
kapi_pattern_topics(uint64 version, KStr text, KGroupMatch match, void *match_arg)
{
	PatternKey	key = {asking_role, text};
	Pattern    *pattern = NULL;

	if (known.version == version)
		pattern = hash_search(known.patterns, &key, HASH_FIND, NULL);
	/* As old as it might be when the request began: one that needs many must not outlast them. */
	if (pattern == NULL || !pattern->done || asking_since - pattern->when > FRESH_MS)
	{
		/* the first one is enough: what the event says now will be thrown away */
		if (!wanting)
			wanted = key;
		wanting = true;
		return true;
	}
	if (!pattern->valid)
		return false;
	for (int i = 0; i < known.ntopics; i++)
	{
		if ((pattern->matches[i / 8] >> (i % 8) & 1) != 0)
			match(match_arg, known.names[i]);
	}
	return true;
}

/* ------------------------------------------------------------------------
 * Between events
 * ------------------------------------------------------------------------
 */

static void
end_job(void)
{
	if (job.ctx != NULL)
		MemoryContextReset(job.ctx);
	job.pattern = NULL;
	job.compiled = NULL;
}

/* Takes the topics as they are now, and forgets all that was matched.  False: busy. */
static bool
know_names(uint64 version)
{
	bool		busy = false;
	List	   *topics = ktopic_list(&busy);
	MemoryContext old;
	ListCell   *lc;
	HASHCTL		ctl = {0};

	if (busy)
		return false;
	end_job();
	known.version = 0;
	if (known.ctx == NULL)
	{
		known.ctx = AllocSetContextCreate(kapi_context, "kafka patterns", ALLOCSET_DEFAULT_SIZES);
		job.ctx = AllocSetContextCreate(kapi_context, "kafka pattern", ALLOCSET_DEFAULT_SIZES);
	}
	MemoryContextReset(known.ctx);
	old = MemoryContextSwitchTo(known.ctx);
	known.bytes = 0;
	dlist_init(&known.queue);
	known.ntopics = 0;
	known.names = palloc_extended((list_length(topics) + 1) * sizeof(KStr), MCXT_ALLOC_HUGE);
	known.relids = palloc((list_length(topics) + 1) * sizeof(Oid));
	foreach(lc, topics)
	{
		const		KTopic *topic = lfirst(lc);

		known.names[known.ntopics] = kapi_kstr(pstrdup(topic->name));
		known.relids[known.ntopics++] = topic->relid;
	}
	ctl.keysize = sizeof(PatternKey);
	ctl.entrysize = sizeof(Pattern);
	ctl.hash = hash_key;
	ctl.match = compare_keys;
	ctl.hcxt = known.ctx;
	known.patterns = hash_create("kafka patterns", 64, &ctl,
								 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	MemoryContextSwitchTo(old);
	known.version = version;
	return true;
}

static Size
matches_size(void)
{
	return (known.ntopics + 7) / 8 + 1;
}

static bool
too_many(void)
{
	return known.bytes > Max(BYTES_MAX, 2 * KGROUP_MAX_PATTERNS * matches_size());
}

/* Puts the pattern that is wanted into the queue, unless it is there. */
static void
queue_wanted(void)
{
	Pattern    *pattern = hash_search(known.patterns, &wanted, HASH_FIND, NULL);

	if (pattern == NULL)
	{
		PatternKey	key = wanted;
		char	   *text = MemoryContextAlloc(known.ctx, key.text.len + 1);
		uint8	   *matches = MemoryContextAlloc(known.ctx, matches_size());

		memcpy(text, key.text.data, key.text.len);
		key.text.data = text;
		pattern = hash_search(known.patterns, &key, HASH_ENTER, NULL);
		pattern->matches = matches;
		pattern->queued = false;
		known.bytes += matches_size() + key.text.len + sizeof(Pattern);
	}
	pattern->done = false;
	pattern->asked = kapi_now();
	if (!pattern->queued)
		dlist_push_tail(&known.queue, &pattern->node);
	pattern->queued = true;
}

static void
leave_queue(Pattern *pattern)
{
	dlist_delete(&pattern->node);
	pattern->queued = false;
	end_job();
}

static void
finish_job(bool valid)
{
	job.pattern->valid = valid;
	job.pattern->done = true;
	job.pattern->when = kapi_now();
	leave_queue(job.pattern);
}

static void *
job_grow(void *ctx, size_t size)
{
	return MemoryContextAllocExtended(ctx, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

static void
begin_job(Pattern *pattern)
{
	const char *problem;

	end_job();
	job.pattern = pattern;
	job.next = 0;
	job.work = 0;
	memset(pattern->matches, 0, matches_size());
	karena_init(&job.arena, NULL, 0, (size_t) 16 * 1024 * 1024, job_grow, job.ctx);
	job.compiled = kpattern_compile(pattern->key.text, &job.arena, &problem);
	slice_used += 10 * (uint64) pattern->key.text.len + 1000;
	if (job.compiled == NULL)
		finish_job(false);
}

static void
go_on(void)
{
	while (job.next < known.ntopics && slice_used < SLICE && job.work < WORK_MAX)
	{
		uint64		before = job.work;
		int			i = job.next++;

		if (kpattern_matches(job.compiled, known.names[i], &job.work) &&
			kacl_topic_describe(known.relids[i], job.pattern->key.role))
		{
			job.pattern->matches[i / 8] |= 1 << (i % 8);
			job.work += 100;
		}
		slice_used += job.work - before;
	}
	if (job.work >= WORK_MAX)
		finish_job(false);
	else if (job.next == known.ntopics)
		finish_job(true);
}

void
kapi_pattern_advance(uint64 version)
{
	if (slice_turn != kapi_turn())
	{
		slice_turn = kapi_turn();
		slice_used = 0;
	}
	if ((known.version != version || too_many()) && !know_names(version))
		return;
	queue_wanted();
	while (slice_used < SLICE && !dlist_is_empty(&known.queue))
	{
		Pattern    *first = dlist_head_element(Pattern, node, &known.queue);

		if (kapi_now() - first->asked > ABANDONED_MS)
			leave_queue(first);
		else
		{
			if (job.pattern != first)
				begin_job(first);
			if (job.pattern != NULL)
				go_on();
		}
	}
}
