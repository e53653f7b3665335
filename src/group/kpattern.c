/*
 * kpattern.c
 *		Matching names: all ways through the program at once (Thompson), and sets of places that
 *		were met before are remembered with where they lead (a lazy DFA).
 */
#include "group/kpattern_int.h"

#include <string.h>

#define MAX_STATES	512
#define MAX_PLACES	65536		/* of all states together */
#define MAX_BUCKETS	1024

/* What is on one side of a place in the name. */
typedef enum Side
{
	SIDE_OUTSIDE,				/* of the name */
	SIDE_WORD,					/* a word's character */
	SIDE_OTHER
} Side;

/* Not yet known where a character leads. */
#define UNKNOWN		(-1)

typedef struct State
{
	int32_t		first;			/* of its places */
	int32_t		count;
	int16_t		next_in_bucket;
	uint8_t		before;			/* Side */
	int8_t		accepts;		/* at the end of the name, or UNKNOWN */
	int16_t		next[128];
} State;

struct KPattern
{
	KPProgram	program;
	State	   *states;
	int			nstates;
	int16_t		buckets[MAX_BUCKETS];
	uint16_t   *places;			/* instructions, of all states */
	int32_t		nplaces;

	uint16_t   *stack;			/* of one step */
	uint16_t   *reached;		/* instructions that take a character */
	uint16_t   *next;
	uint32_t   *seen;			/* at which step */
	uint32_t	step;
};

KPattern *
kpattern_compile(KStr text, KArena *arena, const char **problem)
{
	KPProgram	program;
	KPattern   *p;
	size_t		n;

	*problem = NULL;
	if (!kpattern_parse(text, arena, &program, problem))
		return NULL;
	n = (size_t) program.count;
	p = karena_alloc(arena, sizeof(KPattern));
	if (p == NULL)
		return NULL;
	memset(p, 0, sizeof(*p));
	p->program = program;
	p->states = karena_alloc(arena, MAX_STATES * sizeof(State));
	p->places = karena_alloc(arena, MAX_PLACES * sizeof(uint16_t));
	/* an instruction is stacked once by each that leads to it */
	p->stack = karena_alloc(arena, (2 * n + 2) * sizeof(uint16_t));
	p->reached = karena_alloc(arena, n * sizeof(uint16_t));
	p->next = karena_alloc(arena, n * sizeof(uint16_t));
	p->seen = karena_alloc(arena, n * sizeof(uint32_t));
	if (p->states == NULL || p->places == NULL || p->stack == NULL || p->reached == NULL ||
		p->next == NULL || p->seen == NULL)
		return NULL;
	memset(p->seen, 0, n * sizeof(uint32_t));
	memset(p->buckets, 0xff, sizeof(p->buckets));
	return p;
}

static Side
side_of(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		c == '_' ? SIDE_WORD : SIDE_OTHER;
}

static bool
holds(KPAssert assert, Side before, Side after)
{
	bool		boundary = (before == SIDE_WORD) != (after == SIDE_WORD);

	switch (assert)
	{
		case KP_BEGIN:
			return before == SIDE_OUTSIDE;
		case KP_END:
			return after == SIDE_OUTSIDE;
		case KP_WORD_BOUNDARY:
			return boundary;
		case KP_NO_WORD_BOUNDARY:
			return !boundary;
	}
	return false;
}

static void
new_step(KPattern *p)
{
	if (++p->step == 0)
	{
		memset(p->seen, 0, (size_t) p->program.count * sizeof(uint32_t));
		p->step = 1;
	}
}

/*
 * Which instructions can be reached from a state's places without a character: those that take
 * one go to p->reached.  *matches: the end is among them.
 */
static int32_t
reach(KPattern *p, const State *state, Side after, bool *matches, uint64_t *work)
{
	int32_t		nreached = 0;
	int32_t		nstack = 0;

	new_step(p);
	*matches = false;
	for (int32_t i = 0; i < state->count; i++)
	{
		p->stack[nstack++] = p->places[state->first + i];
		while (nstack > 0)
		{
			uint16_t	at = p->stack[--nstack];
			const KPInst *inst = &p->program.insts[at];

			if (p->seen[at] == p->step)
				continue;
			p->seen[at] = p->step;
			(*work)++;
			switch ((KPOp) inst->op)
			{
				case KP_CHAR:
					p->reached[nreached++] = at;
					break;
				case KP_SPLIT:
					p->stack[nstack++] = inst->y;
					p->stack[nstack++] = inst->x;
					break;
				case KP_ASSERT:
					if (holds((KPAssert) inst->assert, (Side) state->before, after))
						p->stack[nstack++] = inst->x;
					break;
				case KP_MATCH:
					*matches = true;
					break;
			}
		}
	}
	return nreached;
}

static void
forget_states(KPattern *p)
{
	p->nstates = 0;
	p->nplaces = 0;
	memset(p->buckets, 0xff, sizeof(p->buckets));
}

/* The state of these places, new or known.  Forgets all others if there is no room for it. */
static int16_t
find_state(KPattern *p, const uint16_t *places, int32_t count, Side before, bool *forgot)
{
	uint32_t	hash = 2166136261u ^ (uint32_t) before;
	int16_t    *bucket;
	State	   *state;

	for (int32_t i = 0; i < count; i++)
		hash = (hash ^ places[i]) * 16777619u;
	bucket = &p->buckets[(hash ^ hash >> 15) % MAX_BUCKETS];
	for (int16_t s = *bucket; s >= 0; s = p->states[s].next_in_bucket)
	{
		state = &p->states[s];
		if (state->count == count && state->before == (uint8_t) before &&
			(count == 0 || memcmp(&p->places[state->first], places,
								  (size_t) count * sizeof(uint16_t)) == 0))
			return s;
	}

	if (p->nstates == MAX_STATES || p->nplaces + count > MAX_PLACES)
	{
		forget_states(p);
		*forgot = true;
	}
	state = &p->states[p->nstates];
	state->first = p->nplaces;
	state->count = count;
	state->before = (uint8_t) before;
	state->accepts = UNKNOWN;
	memset(state->next, 0xff, sizeof(state->next));
	if (count > 0)
		memcpy(&p->places[p->nplaces], places, (size_t) count * sizeof(uint16_t));
	p->nplaces += count;
	state->next_in_bucket = *bucket;
	*bucket = (int16_t) p->nstates;
	return (int16_t) p->nstates++;
}

/* Where a character leads. */
static int16_t
step(KPattern *p, int16_t from, int c, uint64_t *work)
{
	Side		side = side_of(c);
	bool		matches;
	bool		forgot = false;
	int32_t		nreached = reach(p, &p->states[from], side, &matches, work);
	int32_t		count = 0;
	int16_t		to;

	new_step(p);
	for (int32_t i = 0; i < nreached; i++)
	{
		const KPInst *inst = &p->program.insts[p->reached[i]];

		if (!kp_set_has(&inst->set, c) || p->seen[inst->x] == p->step)
			continue;
		p->seen[inst->x] = p->step;
		p->next[count++] = inst->x;
	}
	/* without assertions it does not matter what came before */
	to = find_state(p, p->next, count, p->program.asserts ? side : SIDE_OUTSIDE, &forgot);
	if (!forgot)
		p->states[from].next[c] = to;
	*work += 16 + (uint64_t) nreached;
	return to;
}

bool
kpattern_matches(KPattern *p, KStr name, uint64_t *work)
{
	bool		forgot = false;
	int16_t		at = find_state(p, &p->program.start, 1, SIDE_OUTSIDE, &forgot);

	*work += 16;
	for (int32_t i = 0; i < name.len; i++)
	{
		int			c = (unsigned char) name.data[i];

		if (c > 127)
			return false;
		(*work)++;
		at = p->states[at].next[c] >= 0 ? p->states[at].next[c] : step(p, at, c, work);
		if (p->states[at].count == 0)
			return false;
	}
	if (p->states[at].accepts == UNKNOWN)
	{
		bool		matches;

		reach(p, &p->states[at], SIDE_OUTSIDE, &matches, work);
		p->states[at].accepts = matches;
	}
	return p->states[at].accepts != 0;
}
