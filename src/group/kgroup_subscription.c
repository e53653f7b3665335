/*
 * kgroup_subscription.c
 *		What members of a consumer group subscribe to: names, patterns, and the topics behind.
 *
 * Kafka resolves patterns in the background; here it happens within the heartbeat that needs
 * it, so that a member has its first partitions one heartbeat earlier.
 */
#include "group/kgroup_int.h"

#include <stdlib.h>

static int
compare_names(const void *a, const void *b)
{
	return kg_str_compare(*(const KStr *) a, *(const KStr *) b);
}

KStrArray
kg_sorted_names(KGroup *g, const KStrArray *names)
{
	int32_t		count = names->count > 0 ? names->count : 0;
	KStrArray	sorted = {kg_alloc(g, (size_t) count * sizeof(KStr) + 1), 0};

	if (count == 0)
		return sorted;
	memcpy(sorted.items, names->items, (size_t) count * sizeof(KStr));
	qsort(sorted.items, (size_t) count, sizeof(KStr), compare_names);
	for (int32_t i = 0; i < count; i++)
		if (sorted.count == 0 ||
			!kg_str_equal(sorted.items[sorted.count - 1], sorted.items[i]))
			sorted.items[sorted.count++] = sorted.items[i];
	return sorted;
}

bool
kg_same_names(const KStrArray *a, const KStrArray *b)
{
	if (a->count != b->count)
		return false;
	for (int32_t i = 0; i < a->count; i++)
		if (!kg_str_equal(a->items[i], b->items[i]))
			return false;
	return true;
}

/* ---- patterns ---- */

typedef struct Matches
{
	KGroup	   *g;
	KStr	   *items;
	int32_t		count;
	int32_t		capacity;
} Matches;

static void
add_match(void *arg, KStr topic)
{
	Matches    *matches = arg;

	matches->items = kg_grow(matches->g, matches->items, matches->count, &matches->capacity,
							 sizeof(KStr));
	matches->items[matches->count++] = kg_copy(matches->g, topic);
}

static KGRegex *
find_regex(const KGroup *g, KStr pattern)
{
	for (int32_t i = 0; i < g->nregexes; i++)
		if (kg_str_equal(g->regexes[i].pattern, pattern))
			return &g->regexes[i];
	return NULL;
}

static bool
match(KGroup *g, KStr pattern, KStrArray *topics)
{
	Matches		matches = {.g = g};

	if (!g->env->match_topics(g->env->arg, pattern, add_match, &matches))
		return false;
	*topics = kg_sorted_names(g, &(KStrArray) {matches.items, matches.count});
	return true;
}

/* If the group does not know the pattern yet. */
bool
kg_resolve_regex(KGroup *g, KStr pattern)
{
	KGRegex    *regexes;
	KStrArray	topics;

	if (find_regex(g, pattern) != NULL)
		return true;
	if (g->nregexes >= KGROUP_MAX_PATTERNS)
		kg_drop_regexes(g);
	if (g->nregexes >= KGROUP_MAX_PATTERNS)
		return false;
	if (!match(g, pattern, &topics))
		return false;

	regexes = kg_alloc(g, (size_t) (g->nregexes + 1) * sizeof(KGRegex));
	if (g->nregexes > 0)
		memcpy(regexes, g->regexes, (size_t) g->nregexes * sizeof(KGRegex));
	else
	{
		g->regex_time = g->now;
		g->regex_version = g->env->topics_version;
	}
	regexes[g->nregexes++] = (KGRegex) {pattern, topics};
	g->regexes = regexes;
	kg_dirty_group(g);
	return true;
}

/* Forgets patterns that nobody uses any more. */
void
kg_drop_regexes(KGroup *g)
{
	int32_t		kept = 0;

	for (int32_t i = 0; i < g->nregexes; i++)
	{
		bool		used = false;

		for (int32_t m = 0; m < g->nmembers && !used; m++)
			used = kg_str_equal(g->members[m]->regex, g->regexes[i].pattern);
		if (used)
			g->regexes[kept++] = g->regexes[i];
	}
	if (kept < g->nregexes)
		kg_dirty_group(g);
	g->nregexes = kept;
}

/*
 * Matches anew when topics may have changed, or rights, which nobody tells: now and then.  True
 * if a pattern matches other topics than before.
 */
bool
kg_refresh_regexes(KGroup *g)
{
	bool		changed = false;

	if (g->nregexes == 0 || g->now < g->regex_time + KG_REGEX_MIN_INTERVAL_MS ||
		(g->regex_version == g->env->topics_version &&
		 g->now < g->regex_time + g->env->config.regex_refresh_ms))
		return false;
	for (int32_t i = 0; i < g->nregexes; i++)
	{
		KStrArray	topics;

		/* with more topics it may have become too expensive: it keeps what it had */
		if (!match(g, g->regexes[i].pattern, &topics))
			continue;
		if (kg_same_names(&topics, &g->regexes[i].topics))
			continue;
		g->regexes[i].topics = topics;
		changed = true;
	}
	g->regex_time = g->now;
	g->regex_version = g->env->topics_version;
	g->changed = true;
	if (changed)
		kg_dirty_group(g);
	return changed;
}

/* ---- topics ---- */

static int
compare_topics(const void *a, const void *b)
{
	return memcmp(((const KGroupTopic *) a)->id.b, ((const KGroupTopic *) b)->id.b,
				  sizeof(KUuid));
}

static void
look_up(KGroup *g, const KStrArray *names, KGTopics *topics)
{
	for (int32_t i = 0; i < names->count; i++)
		if (g->env->topic_by_name(g->env->arg, names->items[i], &topics->items[topics->count]))
			topics->items[topics->count++].name = names->items[i];
}

static void
sort_topics(KGTopics *topics)
{
	int32_t		kept = 0;

	if (topics->count > 1)
		qsort(topics->items, (size_t) topics->count, sizeof(KGroupTopic), compare_topics);
	for (int32_t i = 0; i < topics->count; i++)
		if (kept == 0 || compare_topics(&topics->items[kept - 1], &topics->items[i]) != 0)
			topics->items[kept++] = topics->items[i];
	topics->count = kept;
}

KGTopics
kg_subscribed_topics(KGroup *g, const KGMember *member)
{
	const KGRegex *regex = kg_present(member->regex) ? find_regex(g, member->regex) : NULL;
	int32_t		count = member->topics.count + (regex != NULL ? regex->topics.count : 0);
	KGTopics	topics = {kg_alloc(g, (size_t) (count + 1) * sizeof(KGroupTopic)), 0};

	look_up(g, &member->topics, &topics);
	if (regex != NULL)
		look_up(g, &regex->topics, &topics);
	sort_topics(&topics);
	return topics;
}

const KGroupTopic *
kg_find_topic(const KGTopics *topics, const KUuid *id)
{
	KGroupTopic key = {.id = *id};

	return topics->count == 0 ? NULL :
		bsearch(&key, topics->items, (size_t) topics->count, sizeof(KGroupTopic),
				compare_topics);
}

/*
 * A number for the topics of all members, with their sizes: when it differs, the group has to
 * be assigned anew.  Kafka's has racks in it, too, of which there is one here.
 */
uint64_t
kg_metadata_hash(KGroup *g)
{
	int32_t		count = 0;
	KGTopics	topics;
	uint64_t	hash = 14695981039346656037u;

	for (int32_t i = 0; i < g->nmembers; i++)
		count += g->members[i]->topics.count;
	for (int32_t i = 0; i < g->nregexes; i++)
		count += g->regexes[i].topics.count;
	topics.items = kg_alloc(g, (size_t) (count + 1) * sizeof(KGroupTopic));
	topics.count = 0;
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		/* Members mostly have equal subscriptions: ask for the topics of those once. */
		if (i == 0 || !kg_same_names(&g->members[i]->topics, &g->members[i - 1]->topics))
			look_up(g, &g->members[i]->topics, &topics);
	}
	for (int32_t i = 0; i < g->nregexes; i++)
		look_up(g, &g->regexes[i].topics, &topics);
	sort_topics(&topics);

	for (int32_t i = 0; i < topics.count; i++)
	{
		for (size_t j = 0; j < sizeof(KUuid); j++)
			hash = (hash ^ topics.items[i].id.b[j]) * 1099511628211u;
		for (int shift = 0; shift < 32; shift += 8)
			hash = (hash ^ (uint8_t) ((uint32_t) topics.items[i].partitions >> shift)) *
				1099511628211u;
	}
	g->topics_version = g->env->topics_version;
	return topics.count == 0 ? 0 : hash;
}
