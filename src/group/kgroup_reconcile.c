/*
 * kgroup_reconcile.c
 *		From what a member of a consumer group owns to what it shall own, step by step.
 *
 * First the member gives up what it shall not have any more, and says so; then it goes to the
 * new epoch, and gets what nobody else holds; the rest as soon as the others let go.  So a
 * partition has at no time two owners.  Follows Kafka's CurrentAssignmentBuilder (KIP-848).
 */
#include "group/kgroup_int.h"

#include <stdlib.h>

/* ---- sets of partitions ---- */

int
kg_partition_compare(const KGPartition *a, const KGPartition *b)
{
	int			order = memcmp(a->topic.b, b->topic.b, sizeof(a->topic.b));

	return order != 0 ? order : (a->partition > b->partition) - (a->partition < b->partition);
}

static int
compare(const void *a, const void *b)
{
	return kg_partition_compare(a, b);
}

void
kg_sort_partitions(KGPartitions *set)
{
	int32_t		kept = 0;
	bool		sorted = true;

	for (int32_t i = 1; i < set->count && sorted; i++)
		sorted = kg_partition_compare(&set->items[i - 1], &set->items[i]) < 0;
	if (sorted)
		return;
	qsort(set->items, (size_t) set->count, sizeof(KGPartition), compare);
	for (int32_t i = 0; i < set->count; i++)
		if (kept == 0 || kg_partition_compare(&set->items[kept - 1], &set->items[i]) != 0)
			set->items[kept++] = set->items[i];
	set->count = kept;
}

const KGPartition *
kg_find_partition(const KGPartitions *set, const KUuid *topic, int32_t partition)
{
	KGPartition key = {.topic = *topic,.partition = partition};

	return set->count == 0 ? NULL :
		bsearch(&key, set->items, (size_t) set->count, sizeof(KGPartition), compare);
}

bool
kg_same_partitions(const KGPartitions *a, const KGPartitions *b, bool epochs_too)
{
	if (a->count != b->count)
		return false;
	for (int32_t i = 0; i < a->count; i++)
		if (kg_partition_compare(&a->items[i], &b->items[i]) != 0 ||
			(epochs_too && a->items[i].epoch != b->items[i].epoch))
			return false;
	return true;
}

static KGPartitions
new_set(KGroup *g, int32_t capacity)
{
	return (KGPartitions)
	{
		kg_alloc(g, (size_t) capacity * sizeof(KGPartition) + 1), 0
	};
}

static bool
contains(const KGPartitions *set, const KGPartition *p)
{
	return kg_find_partition(set, &p->topic, p->partition) != NULL;
}

static bool
intersects(const KGPartitions *a, const KGPartitions *b)
{
	for (int32_t i = 0; i < a->count; i++)
		if (contains(b, &a->items[i]))
			return true;
	return false;
}

/* ---- a member ---- */

/* Which of these partitions does another member hold, or has not let go yet? */
static void
mark_held(const KGroup *g, const KGMember *member, const KGPartitions *wanted, bool *held)
{
	for (int32_t m = 0; m < g->nmembers; m++)
	{
		const KGMember *other = g->members[m];

		if (other == member)
			continue;
		for (int32_t i = 0; i < wanted->count; i++)
			if (contains(&other->assigned, &wanted->items[i]) ||
				contains(&other->revoking, &wanted->items[i]))
				held[i] = true;
	}
}

/* Does it, as far as it says, still own some of these?  Who says nothing, may. */
static bool
still_owns(const KGPartitions *owned, const KGPartitions *set)
{
	return owned == NULL || intersects(owned, set);
}

static void
set_epoch(KGMember *member, int32_t epoch)
{
	member->previous_epoch = member->epoch;
	member->epoch = epoch;
}

/*
 * Takes away at once the partitions of topics that the member has just unsubscribed from, before
 * there is a new target.
 */
static void
leave_topics(KGroup *g, KGMember *member, const KGPartitions *owned)
{
	KGTopics	topics = kg_subscribed_topics(g, member);
	KGPartitions assigned = new_set(g, member->assigned.count);
	KGPartitions revoking = new_set(g, member->assigned.count + member->revoking.count);

	for (int32_t i = 0; i < member->revoking.count; i++)
		revoking.items[revoking.count++] = member->revoking.items[i];
	for (int32_t i = 0; i < member->assigned.count; i++)
	{
		const KGPartition *p = &member->assigned.items[i];
		KGPartitions *to = kg_find_topic(&topics, &p->topic) != NULL ? &assigned : &revoking;

		to->items[to->count++] = *p;
	}
	if (assigned.count == member->assigned.count)
		return;

	kg_sort_partitions(&revoking);
	member->assigned = assigned;
	if (still_owns(owned, &revoking))
	{
		member->revoking = revoking;
		member->state = KG_MEMBER_UNREVOKED;
	}
	set_epoch(member, member->epoch);
	kg_dirty_member(g, member);
}

/* The next step towards the target. */
static void
next_step(KGroup *g, KGMember *member, const KGPartitions *owned)
{
	KGTopics	topics = kg_subscribed_topics(g, member);
	KGPartitions target = new_set(g, member->target.count);
	KGPartitions kept = new_set(g, member->assigned.count + member->target.count);
	KGPartitions revoking = new_set(g, member->assigned.count);
	KGPartitions wanted = new_set(g, member->target.count);
	bool	   *held;
	bool		waits = false;

	for (int32_t i = 0; i < member->target.count; i++)
		if (kg_find_topic(&topics, &member->target.items[i].topic) != NULL)
			target.items[target.count++] = member->target.items[i];
	for (int32_t i = 0; i < member->assigned.count; i++)
	{
		const KGPartition *p = &member->assigned.items[i];
		KGPartitions *to = contains(&target, p) ? &kept : &revoking;

		to->items[to->count++] = *p;
	}

	if (revoking.count > 0 && still_owns(owned, &revoking))
	{
		member->state = KG_MEMBER_UNREVOKED;
		member->assigned = kept;
		member->revoking = revoking;
		set_epoch(member, member->epoch);
		kg_dirty_member(g, member);
		return;
	}

	for (int32_t i = 0; i < target.count; i++)
		if (!contains(&member->assigned, &target.items[i]))
			wanted.items[wanted.count++] = target.items[i];
	held = kg_alloc(g, (size_t) wanted.count + 1);
	mark_held(g, member, &wanted, held);
	for (int32_t i = 0; i < wanted.count; i++)
	{
		if (held[i])
			waits = true;
		else
		{
			kept.items[kept.count] = wanted.items[i];
			kept.items[kept.count++].epoch = g->assignment_epoch;
		}
	}
	kg_sort_partitions(&kept);

	if (member->state == (waits ? KG_MEMBER_UNRELEASED : KG_MEMBER_STABLE) &&
		member->epoch == g->assignment_epoch && member->previous_epoch == member->epoch &&
		member->revoking.count == 0 && kg_same_partitions(&member->assigned, &kept, true))
		return;
	member->state = waits ? KG_MEMBER_UNRELEASED : KG_MEMBER_STABLE;
	member->assigned = kept;
	member->revoking = (KGPartitions) {NULL, 0};
	set_epoch(member, g->assignment_epoch);
	kg_dirty_member(g, member);
}

/*
 * One step for one member, after each of its heartbeats.  "owned" is what it said to own; NULL:
 * it said nothing.
 */
void
kg_reconcile(KGroup *g, KGMember *member, const KGPartitions *owned, bool subscription_changed)
{
	bool		was_dirty = member->dirty;

	if (!subscription_changed && member->state == KG_MEMBER_STABLE &&
		member->epoch == g->assignment_epoch)
		return;

	member->dirty = false;
	switch (member->state)
	{
		case KG_MEMBER_STABLE:
			if (member->epoch != g->assignment_epoch)
				next_step(g, member, owned);
			else
				leave_topics(g, member, owned);
			break;
		case KG_MEMBER_UNREVOKED:
			if (!still_owns(owned, &member->revoking))
				next_step(g, member, owned);
			else if (subscription_changed)
				leave_topics(g, member, owned);
			break;
		case KG_MEMBER_UNRELEASED:
			next_step(g, member, owned);
			break;
	}

	/* Classic members have other deadlines: they are to join again. */
	if (member->dirty && !member->classic)
	{
		bool		revoking = member->state == KG_MEMBER_UNREVOKED;

		member->rebalance_deadline = revoking ? kg_after(g, member->rebalance_timeout_ms) :
			KG_NEVER;
		member->rebalance_epoch = member->epoch;
	}
	member->dirty |= was_dirty;
}

bool
kg_waits_for_release(const KGroup *g, const KGMember *member)
{
	if (member->state != KG_MEMBER_UNRELEASED)
		return false;
	for (int32_t i = 0; i < member->target.count; i++)
	{
		const KGPartitions one = {&member->target.items[i], 1};
		bool		held = false;

		if (contains(&member->assigned, &one.items[0]))
			continue;
		mark_held(g, member, &one, &held);
		if (held)
			return true;
	}
	return false;
}
