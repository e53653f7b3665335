/*
 * kgroup_uniform.c
 *		The assignor "uniform": as many partitions for each as for the others, and sticky.
 *
 * Follows Kafka's UniformHomogeneousAssignmentBuilder for members that all subscribe to the
 * same topics, and UniformHeterogeneousAssignmentBuilder for others.
 */
#include "group/kgroup_assign.h"

#include <stdlib.h>
#include <string.h>

/* Rounds over all topics; each makes the sum of squares of the members' loads smaller. */
#define MAX_ROUNDS	16

static bool
is_subscribed(const KAssignMember *member, int32_t topic)
{
	int32_t		low = 0;
	int32_t		high = member->ntopics;

	while (low < high)
	{
		int32_t		middle = low + (high - low) / 2;

		if (member->topics[middle] < topic)
			low = middle + 1;
		else
			high = middle;
	}
	return low < member->ntopics && member->topics[low] == topic;
}

static bool
is_homogeneous(const KAssign *assign)
{
	const KAssignMember *first = &assign->members[0];

	for (int32_t m = 1; m < assign->nmembers; m++)
	{
		const KAssignMember *member = &assign->members[m];

		if (member->ntopics != first->ntopics ||
			(first->ntopics > 0 && memcmp(member->topics, first->topics,
										  (size_t) first->ntopics * sizeof(int32_t)) != 0))
			return false;
	}
	return true;
}

/* Takes partitions from those who may not have them. */
static void
drop_unsubscribed(KAssign *assign)
{
	for (int32_t t = 0; t < assign->ntopics; t++)
	{
		for (int32_t p = 0; p < assign->topics[t].partitions; p++)
		{
			int32_t    *owner = &assign->owners[assign->topics[t].first + p];

			if (*owner != KASSIGN_NOBODY &&
				(*owner < 0 || *owner >= assign->nmembers ||
				 !is_subscribed(&assign->members[*owner], t)))
				*owner = KASSIGN_NOBODY;
		}
	}
}

/* Zeroes */
static bool
numbers(KArena *arena, int32_t **array, int32_t count)
{
	*array = karena_alloc(arena, (size_t) count * sizeof(int32_t) + 1);
	if (*array != NULL)
		memset(*array, 0, (size_t) count * sizeof(int32_t));
	return *array != NULL;
}

/* ---- all subscribe to the same topics ---- */

/*
 * Each member has a quota, "extra" members one more.  Who has more than his gives the rest up;
 * who has less gets what is free.  An extra one is kept by members that have it already, as long
 * as there are enough members left to take the others.
 */
static bool
assign_homogeneous(KAssign *assign)
{
	const KAssignMember *first = &assign->members[0];
	int32_t    *left;			/* that the member may still take; negative: must give up */
	int32_t    *has;
	int32_t		total = 0;
	int32_t		quota;
	int32_t		extra;
	int32_t		taker = 0;

	if (!numbers(assign->arena, &left, assign->nmembers) ||
		!numbers(assign->arena, &has, assign->nmembers))
		return false;
	for (int32_t i = 0; i < first->ntopics; i++)
		total += assign->topics[first->topics[i]].partitions;
	for (int32_t p = 0; p < assign->npartitions; p++)
		if (assign->owners[p] != KASSIGN_NOBODY)
			has[assign->owners[p]]++;
	quota = total / assign->nmembers;
	extra = total % assign->nmembers;

	for (int32_t m = 0; m < assign->nmembers; m++)
	{
		bool		gets_extra = extra > 0;

		left[m] = quota + gets_extra - has[m];
		if (left[m] > 0 && gets_extra && assign->nmembers - m > extra)
		{
			left[m]--;
			gets_extra = false;
		}
		extra -= gets_extra;
	}

	for (int32_t p = assign->npartitions - 1; p >= 0; p--)
	{
		int32_t		owner = assign->owners[p];

		if (owner != KASSIGN_NOBODY && left[owner] < 0)
		{
			left[owner]++;
			assign->owners[p] = KASSIGN_NOBODY;
		}
	}
	for (int32_t i = 0; i < first->ntopics; i++)
	{
		const KAssignTopic *topic = &assign->topics[first->topics[i]];

		for (int32_t p = topic->first; p < topic->first + topic->partitions; p++)
		{
			if (assign->owners[p] != KASSIGN_NOBODY)
				continue;
			while (left[taker] == 0)
				taker++;
			left[taker]--;
			assign->owners[p] = taker;
		}
	}
	return true;
}

/* ---- subscriptions differ ---- */

typedef struct Heap
{
	int32_t    *items;			/* members */
	int32_t    *places;			/* of members in "items"; of others: anything below nmembers */
	int32_t		count;
	int32_t		sign;
} Heap;

typedef struct Balance
{
	KAssign    *assign;
	int32_t    *loads;			/* partitions of each member */
	int32_t   **subscribers;	/* of each topic */
	int32_t    *nsubscribers;
	int32_t    *order;			/* topics, the hardest to balance first */

	/* of the topic at hand */
	Heap		light;			/* all subscribers, the least load on top */
	Heap		heavy;			/* those with partitions to give, the greatest load on top */
	int32_t    *mine;			/* by member: a partition of his, and so on in "next" */
	int32_t    *next;
} Balance;

typedef struct Rank
{
	const KAssignTopic *topic;
	int32_t		index;
	int32_t		subscribers;
} Rank;

/* Many partitions for each subscriber first, then few subscribers. */
static int
compare_ranks(const void *left, const void *right)
{
	const Rank *a = left;
	const Rank *b = right;
	int64_t		a_share = (int64_t) a->topic->partitions * b->subscribers;
	int64_t		b_share = (int64_t) b->topic->partitions * a->subscribers;

	if (a_share != b_share)
		return a_share > b_share ? -1 : 1;
	if (a->subscribers != b->subscribers)
		return a->subscribers < b->subscribers ? -1 : 1;
	return memcmp(a->topic->id.b, b->topic->id.b, sizeof(a->topic->id.b));
}

static bool
prepare_balance(Balance *b)
{
	KAssign    *assign = b->assign;
	KArena	   *arena = assign->arena;
	size_t		topics = (size_t) assign->ntopics;
	Rank	   *ranks = karena_alloc(arena, topics * sizeof(Rank) + 1);

	b->subscribers = karena_alloc(arena, topics * sizeof(int32_t *) + 1);
	if (ranks == NULL || b->subscribers == NULL ||
		!numbers(arena, &b->loads, assign->nmembers) ||
		!numbers(arena, &b->nsubscribers, assign->ntopics) ||
		!numbers(arena, &b->order, assign->ntopics) ||
		!numbers(arena, &b->light.items, assign->nmembers) ||
		!numbers(arena, &b->light.places, assign->nmembers) ||
		!numbers(arena, &b->heavy.items, assign->nmembers) ||
		!numbers(arena, &b->heavy.places, assign->nmembers) ||
		!numbers(arena, &b->mine, assign->nmembers) ||
		!numbers(arena, &b->next, assign->npartitions))
		return false;
	b->light.sign = 1;
	b->heavy.sign = -1;

	for (int32_t p = 0; p < assign->npartitions; p++)
		if (assign->owners[p] != KASSIGN_NOBODY)
			b->loads[assign->owners[p]]++;
	for (int32_t m = 0; m < assign->nmembers; m++)
		for (int32_t i = 0; i < assign->members[m].ntopics; i++)
			b->nsubscribers[assign->members[m].topics[i]]++;
	for (int32_t t = 0; t < assign->ntopics; t++)
	{
		if (!numbers(arena, &b->subscribers[t], b->nsubscribers[t]))
			return false;
		ranks[t] = (Rank) {&assign->topics[t], t, b->nsubscribers[t]};
		b->nsubscribers[t] = 0;
	}
	for (int32_t m = 0; m < assign->nmembers; m++)
	{
		for (int32_t i = 0; i < assign->members[m].ntopics; i++)
		{
			int32_t		t = assign->members[m].topics[i];

			b->subscribers[t][b->nsubscribers[t]++] = m;
		}
	}
	if (assign->ntopics > 0)
		qsort(ranks, topics, sizeof(Rank), compare_ranks);
	for (int32_t t = 0; t < assign->ntopics; t++)
		b->order[t] = ranks[t].index;
	return true;
}

/*
 * Members in a binary heap by their loads, then by index: the least on top, or, with sign -1,
 * the greatest.
 */
static bool
goes_before(const Balance *b, const Heap *heap, int32_t left, int32_t right)
{
	int32_t		order = (b->loads[left] - b->loads[right]) * heap->sign;

	return order < 0 || (order == 0 && left < right);
}

static void
heap_swap(Heap *heap, int32_t i, int32_t j)
{
	int32_t		member = heap->items[i];

	heap->items[i] = heap->items[j];
	heap->items[j] = member;
	heap->places[heap->items[i]] = i;
	heap->places[heap->items[j]] = j;
}

/* The load of the member at place i has changed. */
static void
heap_fix(const Balance *b, Heap *heap, int32_t i)
{
	while (i > 0 && goes_before(b, heap, heap->items[i], heap->items[(i - 1) / 2]))
	{
		heap_swap(heap, i, (i - 1) / 2);
		i = (i - 1) / 2;
	}
	for (;;)
	{
		int32_t		top = i;

		for (int32_t child = 2 * i + 1; child <= 2 * i + 2 && child < heap->count; child++)
			if (goes_before(b, heap, heap->items[child], heap->items[top]))
				top = child;
		if (top == i)
			return;
		heap_swap(heap, i, top);
		i = top;
	}
}

static void
heap_add(const Balance *b, Heap *heap, int32_t member)
{
	heap->items[heap->count] = member;
	heap->places[member] = heap->count;
	heap_fix(b, heap, heap->count++);
}

static void
heap_remove_top(const Balance *b, Heap *heap)
{
	heap_swap(heap, 0, heap->count - 1);
	heap->count--;
	if (heap->count > 0)
		heap_fix(b, heap, 0);
}

static void
heap_of_subscribers(Balance *b, int32_t t)
{
	b->light.count = 0;
	for (int32_t i = 0; i < b->nsubscribers[t]; i++)
		heap_add(b, &b->light, b->subscribers[t][i]);
}

static void
assign_free(Balance *b, int32_t t)
{
	const KAssignTopic *topic = &b->assign->topics[t];

	if (b->nsubscribers[t] == 0)
		return;
	heap_of_subscribers(b, t);
	for (int32_t p = topic->first; p < topic->first + topic->partitions; p++)
	{
		if (b->assign->owners[p] != KASSIGN_NOBODY)
			continue;
		b->assign->owners[p] = b->light.items[0];
		b->loads[b->light.items[0]]++;
		heap_fix(b, &b->light, 0);
	}
}

/*
 * Moves partitions of a topic from the subscriber with the greatest load, of those that have one
 * to give, to that with the least, until these differ by less than two.  Returns whether it
 * moved any.
 */
static bool
balance_topic(Balance *b, int32_t t)
{
	const KAssignTopic *topic = &b->assign->topics[t];
	bool		moved = false;

	if (b->nsubscribers[t] < 2)
		return false;
	heap_of_subscribers(b, t);
	b->heavy.count = 0;
	for (int32_t i = 0; i < b->nsubscribers[t]; i++)
		b->mine[b->subscribers[t][i]] = KASSIGN_NOBODY;
	for (int32_t p = topic->first; p < topic->first + topic->partitions; p++)
	{
		int32_t		owner = b->assign->owners[p];

		b->next[p] = b->mine[owner];
		b->mine[owner] = p;
	}
	for (int32_t i = 0; i < b->nsubscribers[t]; i++)
		if (b->mine[b->subscribers[t][i]] != KASSIGN_NOBODY)
			heap_add(b, &b->heavy, b->subscribers[t][i]);

	while (b->heavy.count > 0)
	{
		int32_t		from = b->heavy.items[0];
		int32_t		to = b->light.items[0];
		int32_t		p = b->mine[from];
		int32_t		place;

		if (b->loads[from] - b->loads[to] < 2)
			break;
		b->assign->owners[p] = to;
		b->mine[from] = b->next[p];
		b->loads[from]--;
		b->loads[to]++;
		moved = true;

		heap_fix(b, &b->light, b->light.places[to]);
		heap_fix(b, &b->light, b->light.places[from]);
		if (b->mine[from] == KASSIGN_NOBODY)
			heap_remove_top(b, &b->heavy);
		else
			heap_fix(b, &b->heavy, 0);
		place = b->heavy.places[to];
		if (place < b->heavy.count && b->heavy.items[place] == to)
			heap_fix(b, &b->heavy, place);
	}
	return moved;
}

static bool
assign_heterogeneous(KAssign *assign)
{
	Balance		b = {.assign = assign};

	if (!prepare_balance(&b))
		return false;
	for (int32_t i = 0; i < assign->ntopics; i++)
		assign_free(&b, b.order[i]);
	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		bool		moved = false;

		for (int32_t i = 0; i < assign->ntopics; i++)
			moved |= balance_topic(&b, b.order[i]);
		if (!moved)
			break;
	}
	return true;
}

bool
kassign_uniform(KAssign *assign)
{
	drop_unsubscribed(assign);
	if (assign->nmembers == 0)
		return true;
	return is_homogeneous(assign) ? assign_homogeneous(assign) : assign_heterogeneous(assign);
}
