/*
 * koffset.c
 *		Committed offsets: who may commit, fetch and delete them, and when they expire.
 */
#include "group/kgroup_int.h"
#include "group/koffset.h"

void
koffset_has_offsets(KGroup *g)
{
	if (g->type == KGROUP_NONE)
		g->type = KGROUP_CLASSIC;
}

/* ---- OffsetCommit ---- */

static int16_t
check_classic_commit(const KGroup *g, const KOffsetCommitter *c)
{
	if (c->generation < 0 && g->state == KGROUP_EMPTY)
		return KERR_NONE;
	if (c->generation >= 0 || kg_present(c->member_id) || c->instance_id.len >= 0)
	{
		if (c->instance_id.len >= 0)
		{
			const KGMember *owner = kg_static_member(g, c->instance_id);

			if (owner == NULL)
				return KERR_UNKNOWN_MEMBER_ID;
			if (!kg_str_equal(owner->id, c->member_id))
				return KERR_FENCED_INSTANCE_ID;
		}
		if (kg_member(g, c->member_id) == NULL)
			return KERR_UNKNOWN_MEMBER_ID;
		if (c->generation != g->generation)
			return KERR_ILLEGAL_GENERATION;
	}
	else if (!c->transactional)
		return KERR_UNKNOWN_MEMBER_ID;
	return !c->transactional && g->state == KGROUP_COMPLETING_REBALANCE ?
		KERR_REBALANCE_IN_PROGRESS : KERR_NONE;
}

/* A producer knows no member epochs: to TxnOffsetCommit a stale one is a wrong generation. */
static int16_t
stale(const KGMember *member, const KOffsetCommitter *c)
{
	return member->classic || c->transactional ? KERR_ILLEGAL_GENERATION :
		KERR_STALE_MEMBER_EPOCH;
}

static int16_t
check_consumer_commit(const KGroup *g, const KOffsetCommitter *c, bool *by_partition)
{
	const KGMember *member;

	if (c->generation < 0 && g->nmembers == 0)
		return KERR_NONE;
	if (c->transactional && c->generation == -1 && !kg_present(c->member_id) &&
		c->instance_id.len < 0)
		return KERR_NONE;
	member = kg_member(g, c->member_id);
	if (member == NULL)
		return KERR_UNKNOWN_MEMBER_ID;
	if (!c->transactional && !member->classic && c->api_version < 9)
		return KERR_UNSUPPORTED_VERSION;
	if (c->generation > member->epoch)
		return stale(member, c);
	*by_partition = c->generation < member->epoch;
	return KERR_NONE;
}

KGroupResult
koffset_check_commit(KGroup *g, const KOffsetCommitter *committer, int16_t *error_code,
					 bool *by_partition)
{
	KGMember   *member;

	*by_partition = false;
	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);
	if (g->type == KGROUP_NONE)
	{
		*error_code = committer->generation < 0 ? KERR_NONE :
			committer->transactional || committer->api_version < 9 ? KERR_ILLEGAL_GENERATION :
			KERR_GROUP_ID_NOT_FOUND;
		return KGROUP_UNCHANGED;
	}
	if (g->type == KGROUP_CONSUMER)
	{
		*error_code = check_consumer_commit(g, committer, by_partition);
		return KGROUP_UNCHANGED;
	}

	*error_code = check_classic_commit(g, committer);
	member = kg_member(g, committer->member_id);
	if (*error_code == KERR_NONE && !committer->transactional && member != NULL &&
		(g->state == KGROUP_STABLE || g->state == KGROUP_PREPARING_REBALANCE))
		kg_schedule_session(g, member, member->session_timeout_ms);
	return kg_finish(g);
}

/*
 * An older epoch is good for partitions that the member has had since then: the answer that told
 * it the new one may still be under way.
 */
int16_t
koffset_check_partition(const KGroup *g, const KOffsetCommitter *committer,
						const KUuid *topic_id, int32_t partition)
{
	const KGMember *member = kg_member(g, committer->member_id);
	const KGPartition *p;

	if (member == NULL)
		return KERR_UNKNOWN_MEMBER_ID;
	p = kg_find_partition(&member->assigned, topic_id, partition);
	if (p == NULL)
		p = kg_find_partition(&member->revoking, topic_id, partition);
	return p == NULL || committer->generation < p->epoch ? stale(member, committer) : KERR_NONE;
}

/* ---- OffsetFetch ---- */

int16_t
koffset_check_fetch(const KGroup *g, KStr member_id, int32_t member_epoch)
{
	const KGMember *member;

	if (g->type == KGROUP_NONE)
		return KERR_GROUP_ID_NOT_FOUND;
	if (g->type == KGROUP_CLASSIC || (member_id.len < 0 && member_epoch < 0))
		return KERR_NONE;
	member = kg_member(g, member_id);
	if (member == NULL)
		return KERR_UNKNOWN_MEMBER_ID;
	if (member->epoch == member_epoch)
		return KERR_NONE;
	return member->classic ? KERR_ILLEGAL_GENERATION : KERR_STALE_MEMBER_EPOCH;
}

/* ---- which topics the group reads ---- */

static bool
names_contain(const KStrArray *names, KStr topic)
{
	for (int32_t i = 0; i < names->count; i++)
		if (kg_str_equal(names->items[i], topic))
			return true;
	return false;
}

/* Of a classic group of consumers, from what its members sent; false: it cannot be known. */
static bool
classic_topics(KGroup *g)
{
	KStrArray	all = {NULL, 0};
	int32_t		capacity = 0;

	if (g->subscribed_known)
		return true;
	if (g->nmembers > 0 && g->protocol_name.len < 0)
		return false;
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KStrArray	topics;

		if (!kg_classic_topics(g, g->members[i], &topics))
			return false;
		for (int32_t t = 0; t < topics.count; t++)
		{
			all.items = kg_grow(g, all.items, all.count, &capacity, sizeof(KStr));
			all.items[all.count++] = topics.items[t];
		}
	}
	g->subscribed = kg_sorted_names(g, &all);
	g->subscribed_known = true;
	return true;
}

static bool
is_subscribed(KGroup *g, KStr topic)
{
	if (g->type == KGROUP_CONSUMER)
	{
		for (int32_t i = 0; i < g->nmembers; i++)
			if (names_contain(&g->members[i]->topics, topic))
				return true;
		for (int32_t i = 0; i < g->nregexes; i++)
			if (names_contain(&g->regexes[i].topics, topic))
				return true;
		return false;
	}
	if (!kg_str_equal(g->protocol_type, KG_CONSUMER_PROTOCOL))
		return false;
	return !classic_topics(g) || names_contain(&g->subscribed, topic);
}

/* ---- OffsetDelete ---- */

int16_t
koffset_check_delete(const KGroup *g)
{
	if (g->type == KGROUP_NONE)
		return KERR_GROUP_ID_NOT_FOUND;
	if (g->type == KGROUP_CLASSIC && g->state != KGROUP_EMPTY &&
		!kg_str_equal(g->protocol_type, KG_CONSUMER_PROTOCOL))
		return KERR_NON_EMPTY_GROUP;
	return KERR_NONE;
}

int16_t
koffset_check_delete_topic(KGroup *g, KStr topic)
{
	if (KG_NO_MEMORY(g))
		return KERR_COORDINATOR_NOT_AVAILABLE;
	return is_subscribed(g, topic) ? KERR_GROUP_SUBSCRIBED_TO_TOPIC : KERR_NONE;
}

/* ---- expiry ---- */

/*
 * A group of members keeps its offsets from when the last one left; one without ever a member
 * from each commit; and one that lives keeps those of topics that it reads.
 */
static bool
is_expired(KGroup *g, KStr topic, int64_t commit_ms, int64_t expire_ms, int64_t retention_ms)
{
	int64_t		since = commit_ms;

	if (g->type == KGROUP_CLASSIC && g->protocol_type.len >= 0)
	{
		if (g->state == KGROUP_EMPTY)
			since = g->state_since;
		else if (g->state != KGROUP_STABLE ||
				 !kg_str_equal(g->protocol_type, KG_CONSUMER_PROTOCOL) || !classic_topics(g))
			return false;
	}
	if (is_subscribed(g, topic))
		return false;
	if (expire_ms >= 0)
		return g->env->wall_ms >= expire_ms;
	return g->env->wall_ms - since >= retention_ms;
}

bool
koffset_expired(KGroup *g, KStr topic, int64_t commit_ms, int64_t expire_ms,
				int64_t retention_ms)
{
	if (KG_NO_MEMORY(g))
		return false;
	return is_expired(g, topic, commit_ms, expire_ms, retention_ms);
}
