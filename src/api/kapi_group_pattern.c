/*
 * kapi_group_pattern.c
 *		Which topics match a pattern: each process' cache, filled in slices between events.
 *
 * An event looks patterns up under a group's lock, where nothing may take long and no catalog can
 * be read.  What it does not find here is wanted: the event is thrown away, the pattern is worked
 * on for some milliseconds a turn, and then the event is run again.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "api/kapi_group.h"
#include "group/kpattern.h"

/* Steps of kpattern_matches(): a turn's share, and what one pattern may take in all. */
#define SLICE			UINT64CONST(500000)
#define WORK_MAX		UINT64CONST(50000000)

/* Rights may have changed after that time. */
#define FRESH_MS		10000

/* All patterns go when they are more than this. */
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
} known;

/* The pattern that is worked on. */
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
kapi_pattern_begin(Oid role)
{
	asking_role = role;
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
	if (pattern == NULL || !pattern->done || kapi_now() - pattern->when > FRESH_MS)
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

static Pattern *
find_pattern(void)
{
	Pattern    *pattern = hash_search(known.patterns, &wanted, HASH_FIND, NULL);
	Size		size = (known.ntopics + 7) / 8 + 1;

	if (pattern == NULL)
	{
		PatternKey	key = wanted;
		char	   *text = MemoryContextAlloc(known.ctx, key.text.len + 1);
		uint8	   *matches = MemoryContextAlloc(known.ctx, size);

		memcpy(text, key.text.data, key.text.len);
		key.text.data = text;
		pattern = hash_search(known.patterns, &key, HASH_ENTER, NULL);
		pattern->matches = matches;
		known.bytes += size + key.text.len + sizeof(Pattern);
	}
	pattern->done = false;
	memset(pattern->matches, 0, size);
	return pattern;
}

static void
finish_job(bool valid)
{
	job.pattern->valid = valid;
	job.pattern->done = true;
	job.pattern->when = kapi_now();
	end_job();
}

static void *
job_grow(void *ctx, size_t size)
{
	return MemoryContextAllocExtended(ctx, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

/* Begins with the pattern that is wanted, unless it is being worked on. */
static void
begin_job(void)
{
	const char *problem;

	if (job.pattern != NULL && compare_keys(&job.pattern->key, &wanted, 0) == 0)
		return;
	end_job();
	job.pattern = find_pattern();
	job.next = 0;
	job.work = 0;
	karena_init(&job.arena, NULL, 0, (size_t) 16 * 1024 * 1024, job_grow, job.ctx);
	job.compiled = kpattern_compile(job.pattern->key.text, &job.arena, &problem);
	slice_used += 10 * (uint64) job.pattern->key.text.len + 1000;
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
	if (slice_used >= SLICE)
		return;
	if ((known.version != version || known.bytes > BYTES_MAX) && !know_names(version))
		return;
	begin_job();
	if (job.pattern != NULL)
		go_on();
}
