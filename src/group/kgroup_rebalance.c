/*
 * kgroup_rebalance.c
 *		Classic groups: members, their protocols, and the two phases of a rebalance.
 *
 * Join phase: everybody sends JoinGroup and waits; it is complete when all members have joined,
 * or at a deadline, and starts the next generation.  Sync phase: the leader, who was told all
 * members, sends the assignments, and everybody gets his own.  Follows Kafka's ClassicGroup and
 * the second half of GroupMetadataManager.
 */
#include "group/kgroup_int.h"

/* Silent static members are asked no more often, whatever their rebalance timeout is. */
#define MIN_RETRY_MS	1000

static const KGroupWaiter nobody = {0};

/* ---- protocols ---- */

bool
kg_is_leader(const KGroup *g, const KGMember *member)
{
	return g->leader.len >= 0 && kg_str_equal(g->leader, member->id);
}

static const KGProtocol *
find_protocol(const KGMember *member, KStr name)
{
	for (int32_t i = 0; i < member->nprotocols; i++)
		if (kg_str_equal(member->protocols[i].name, name))
			return &member->protocols[i];
	return NULL;
}

KBytes
kg_protocol_metadata(const KGMember *member, KStr name)
{
	const KGProtocol *protocol = find_protocol(member, name);

	return protocol != NULL ? protocol->metadata : (KBytes) {NULL, 0};
}

static bool
all_support(const KGroup *g, KStr name)
{
	for (int32_t i = 0; i < g->nmembers; i++)
		if (find_protocol(g->members[i], name) == NULL)
			return false;
	return true;
}

/* Can a member with these protocols be in the group?  An old member's own are counted too. */
bool
kg_supports_protocols(const KGroup *g, KStr type, const KJoinGroupRequest *request)
{
	if (g->state == KGROUP_EMPTY)
		return kg_present(type) && request->protocols.count > 0;
	if (g->protocol_type.len < 0 || !kg_str_equal(g->protocol_type, type))
		return false;
	for (int32_t i = 0; i < request->protocols.count; i++)
		if (all_support(g, request->protocols.items[i].name))
			return true;
	return false;
}

/*
 * The protocol with most votes: each member votes for the first of its own that all support.
 * Between equals, the one that the first of the members prefers.  (Kafka's choice between equals
 * is its hash table's.)  Null: there is none.
 */
KStr
kg_select_protocol(KGroup *g)
{
	const KGMember *first = g->nmembers > 0 ? g->members[0] : NULL;
	int32_t		best = 0;
	int32_t    *votes;			/* by the first member's protocols; -1: not all support it */

	if (first == NULL || first->nprotocols == 0)
		return KSTR_NULL;
	votes = kg_alloc(g, (size_t) first->nprotocols * sizeof(int32_t));
	for (int32_t i = 0; i < first->nprotocols; i++)
		votes[i] = all_support(g, first->protocols[i].name) ? 0 : -1;
	for (int32_t m = 0; m < g->nmembers; m++)
	{
		const KGMember *voter = g->members[m];
		bool		voted = false;

		for (int32_t p = 0; p < voter->nprotocols && !voted; p++)
		{
			const KGProtocol *vote = find_protocol(first, voter->protocols[p].name);

			voted = vote != NULL && votes[vote - first->protocols] >= 0;
			if (voted)
				votes[vote - first->protocols]++;
		}
	}
	for (int32_t i = 1; i < first->nprotocols; i++)
		if (votes[i] > votes[best])
			best = i;
	return votes[best] > 0 ? first->protocols[best].name : KSTR_NULL;
}

void
kg_set_protocols(KGroup *g, KGMember *member, const KJoinGroupRequest *request)
{
	int32_t		count = request->protocols.count > 0 ? request->protocols.count : 0;

	member->protocols = kg_alloc(g, (size_t) count * sizeof(KGProtocol) + 1);
	member->nprotocols = count;
	for (int32_t i = 0; i < count; i++)
	{
		member->protocols[i].name = request->protocols.items[i].name;
		member->protocols[i].metadata = request->protocols.items[i].metadata;
	}
}

bool
kg_same_protocols(const KGMember *member, const KJoinGroupRequest *request)
{
	if (request->protocols.count != member->nprotocols)
		return false;
	for (int32_t i = 0; i < member->nprotocols; i++)
		if (!kg_str_equal(member->protocols[i].name, request->protocols.items[i].name) ||
			!kg_bytes_equal(member->protocols[i].metadata, request->protocols.items[i].metadata))
			return false;
	return true;
}

/* ---- answers ---- */

KJoinGroupResponse *
kg_join_response(KGroup *g, int16_t error_code, KStr member_id)
{
	KJoinGroupResponse *response = kg_alloc(g, sizeof(KJoinGroupResponse));

	kmsg_init(&kmsg_join_group_response, response);
	response->error_code = error_code;
	response->member_id = member_id;
	return response;
}

KJoinGroupResponse *
kg_joined_response(KGroup *g, const KGMember *member, bool members)
{
	KJoinGroupResponse *response = kg_join_response(g, KERR_NONE, member->id);

	response->generation_id = g->generation;
	response->protocol_type = g->protocol_type;
	response->protocol_name = g->protocol_name;
	response->leader = g->leader;
	if (!members)
		return response;

	response->members.items = kmsg_new(&kmsg_join_group_response_member, g->nmembers,
									   g->env->arena);
	if (response->members.items == NULL)
		longjmp(g->no_memory, 1);
	response->members.count = g->nmembers;
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KJoinGroupResponseMember *item = &response->members.items[i];

		item->member_id = g->members[i]->id;
		item->group_instance_id = g->members[i]->instance_id;
		item->metadata = kg_protocol_metadata(g->members[i], g->protocol_name);
	}
	return response;
}

/* Versions before 7 have no null protocol name, later ones no empty one. */
static void
answer_join(KGroup *g, KGroupWaiter waiter, const KJoinGroupResponse *response, bool waits)
{
	KJoinGroupResponse *copy = kg_alloc(g, sizeof(KJoinGroupResponse));

	*copy = *response;
	if (!kg_present(copy->protocol_name))
		copy->protocol_name = waiter.api_version < 7 ? KSTR("") : KSTR_NULL;
	if (copy->leader.len < 0)
		copy->leader = KSTR("");
	kg_answer(g, waiter, KAPI_JOIN_GROUP, copy, waits);
}

/* Answers the member's JoinGroup, if one waits. */
void
kg_answer_join(KGroup *g, KGMember *member, const KJoinGroupResponse *response, bool waits)
{
	if (member->join.request == 0)
		return;
	answer_join(g, member->join, response, waits);
	member->join = nobody;
	g->changed = true;
}

KGroupResult
kg_answer_join_now(KGroup *g, const KGroupCaller *caller, const KJoinGroupResponse *response)
{
	answer_join(g, caller->waiter, response, response->error_code == KERR_NONE);
	return kg_finish_bounded(g);
}

/* Answers the member's SyncGroup, if one waits: with its assignment, or with an error. */
void
kg_answer_sync(KGroup *g, KGMember *member, int16_t error_code)
{
	KSyncGroupResponse *response;

	if (member->sync.request == 0)
		return;
	response = kg_alloc(g, sizeof(KSyncGroupResponse));
	kmsg_init(&kmsg_sync_group_response, response);
	response->error_code = error_code;
	if (error_code == KERR_NONE)
	{
		response->protocol_type = g->protocol_type;
		response->protocol_name = g->protocol_name;
		response->assignment = member->assignment;
	}
	kg_answer(g, member->sync, KAPI_SYNC_GROUP, response, error_code == KERR_NONE);
	member->sync = nobody;
	g->changed = true;
}

/* ---- state ---- */

void
kg_transition(KGroup *g, KGroupState state)
{
	g->previous_state = g->state;
	g->state = state;
	g->state_since = g->env->wall_ms;
	g->changed = true;
}

void
kg_schedule_session(KGroup *g, KGMember *member, int64_t timeout_ms)
{
	member->session_deadline = kg_after(g, timeout_ms);
	g->changed = true;
}

void
kg_classic_forget_pending(KGroup *g, int32_t i)
{
	g->pending[i] = g->pending[--g->npending];
	g->changed = true;
}

/* Both requests that the member may have waiting must have been answered. */
void
kg_classic_remove(KGroup *g, KGMember *member)
{
	kg_remove_member(g, member);
	if (kg_is_leader(g, member))
		g->leader = g->nmembers > 0 ? g->members[0]->id : KSTR_NULL;
}

static bool
all_joined(const KGroup *g)
{
	for (int32_t i = 0; i < g->nmembers; i++)
		if (g->members[i]->join.request == 0)
			return false;
	return g->npending == 0;
}

static int32_t
rebalance_timeout(const KGroup *g)
{
	int32_t		longest = 0;

	for (int32_t i = 0; i < g->nmembers; i++)
		if (g->members[i]->rebalance_timeout_ms > longest)
			longest = g->members[i]->rebalance_timeout_ms;
	return longest;
}

/* ---- join phase ---- */

/* Is the leader among those who joined?  If not, somebody else becomes it. */
static bool
elect_joined_leader(KGroup *g)
{
	KGMember   *leader = g->leader.len >= 0 ? kg_member(g, g->leader) : NULL;

	if (leader == NULL)
		return false;
	if (leader->join.request != 0)
		return true;
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		if (g->members[i]->join.request != 0)
		{
			g->leader = g->members[i]->id;
			return true;
		}
	}
	return false;
}

static void
start_generation(KGroup *g)
{
	g->generation++;
	if (g->nmembers == 0)
	{
		g->protocol_name = KSTR_NULL;
		kg_transition(g, KGROUP_EMPTY);
		kg_dirty_all(g);
		return;
	}

	g->protocol_name = kg_select_protocol(g);
	kg_transition(g, KGROUP_COMPLETING_REBALANCE);
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KGMember   *member = g->members[i];

		if (member->join.request != 0)
			kg_answer_join(g, member, kg_joined_response(g, member, kg_is_leader(g, member)),
						   true);
		kg_schedule_session(g, member, member->session_timeout_ms);
		member->is_new = false;
		member->pending_sync = true;
	}
	g->sync_deadline = kg_after(g, rebalance_timeout(g));
}

/*
 * Ends the join phase: dynamic members that have not joined are out, static ones stay.  If no
 * static member joined either, it goes on: somebody must lead.
 */
static void
complete_join(KGroup *g)
{
	g->join_deadline = KG_NEVER;
	for (int32_t i = g->nmembers - 1; i >= 0; i--)
	{
		KGMember   *member = g->members[i];

		if (member->join.request == 0 && member->instance_id.len < 0)
			kg_classic_remove(g, member);
	}

	if (elect_joined_leader(g) || g->nmembers == 0)
		start_generation(g);
	else
	{
		int32_t		timeout = rebalance_timeout(g);

		g->join_timer = KG_JOIN_REBALANCE;
		g->join_deadline = kg_after(g, timeout > MIN_RETRY_MS ? timeout : MIN_RETRY_MS);
		g->changed = true;
	}
}

/* The group is in the sync phase, or was in none. */
void
kg_prepare_rebalance(KGroup *g)
{
	bool		initial = g->state == KGROUP_EMPTY;

	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KGMember   *member = g->members[i];

		if (g->state == KGROUP_COMPLETING_REBALANCE)
		{
			bool		waited = member->sync.request != 0;

			member->assignment = (KBytes) {NULL, 0};
			kg_answer_sync(g, member, KERR_REBALANCE_IN_PROGRESS);
			if (waited)
				kg_schedule_session(g, member, member->session_timeout_ms);
		}
		member->pending_sync = false;
	}
	g->sync_deadline = KG_NEVER;
	kg_transition(g, KGROUP_PREPARING_REBALANCE);

	if (initial)
	{
		int32_t		remaining = rebalance_timeout(g) - g->env->config.initial_delay_ms;

		g->join_timer = KG_JOIN_INITIAL;
		g->delay_ms = g->env->config.initial_delay_ms;
		g->remaining_ms = remaining > 0 ? remaining : 0;
		g->join_deadline = kg_after(g, g->delay_ms);
	}
	else if (all_joined(g))
		complete_join(g);
	else
	{
		g->join_timer = KG_JOIN_REBALANCE;
		g->join_deadline = kg_after(g, rebalance_timeout(g));
	}
}

/* An empty group's first join phase ends by its delay only. */
void
kg_complete_join_phase(KGroup *g)
{
	if (g->state == KGROUP_PREPARING_REBALANCE && g->previous_state != KGROUP_EMPTY &&
		all_joined(g))
		complete_join(g);
}

void
kg_rebalance_or_complete_join(KGroup *g)
{
	if (g->state == KGROUP_STABLE || g->state == KGROUP_COMPLETING_REBALANCE ||
		g->state == KGROUP_EMPTY)
		kg_prepare_rebalance(g);
	else
		kg_complete_join_phase(g);
}

/* ---- sync phase ---- */

/*
 * The leader has sent the assignments.  Kafka has the group stable when that is written; here it
 * is at once, and all answers wait until it is durable.
 */
void
kg_complete_sync(KGroup *g, const KSyncGroupRequest *request)
{
	for (int32_t i = 0; i < g->nmembers; i++)
		g->members[i]->assignment = (KBytes) {NULL, 0};
	for (int32_t i = 0; i < request->assignments.count; i++)
	{
		KGMember   *member = kg_member(g, request->assignments.items[i].member_id);

		if (member != NULL)
			member->assignment = request->assignments.items[i].assignment;
	}

	kg_transition(g, KGROUP_STABLE);
	kg_dirty_all(g);
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KGMember   *member = g->members[i];

		if (member->sync.request != 0)
		{
			kg_answer_sync(g, member, KERR_NONE);
			kg_schedule_session(g, member, member->session_timeout_ms);
		}
	}
}

/* ---- deadlines ---- */

/* The delay of a new group's first rebalance: as long as members keep coming, within a bound. */
static void
end_initial_delay(KGroup *g)
{
	int32_t		delay = g->env->config.initial_delay_ms;

	if (g->member_added && g->remaining_ms > 0 && delay > 0)
	{
		int32_t		last = g->delay_ms;

		g->member_added = false;
		g->delay_ms = delay < g->remaining_ms ? delay : g->remaining_ms;
		g->remaining_ms = g->remaining_ms > last ? g->remaining_ms - last : 0;
		g->join_deadline = kg_after(g, g->delay_ms);
		g->changed = true;
	}
	else
		complete_join(g);
}

/* Members that joined but never sent SyncGroup hold up nobody any longer. */
static void
end_sync(KGroup *g)
{
	bool		removed = false;

	g->sync_deadline = KG_NEVER;
	g->changed = true;
	for (int32_t i = g->nmembers - 1; i >= 0; i--)
	{
		if (g->members[i]->pending_sync)
		{
			kg_classic_remove(g, g->members[i]);
			removed = true;
		}
	}
	if (removed)
		kg_prepare_rebalance(g);
}

static void
end_session(KGroup *g, KGMember *member)
{
	member->session_deadline = KG_NEVER;
	g->changed = true;

	/* Who waits for an answer is alive; only a new member does so for a limited time. */
	if (!member->is_new && (member->join.request != 0 || member->sync.request != 0))
		return;

	kg_answer_join(g, member, kg_join_response(g, KERR_UNKNOWN_MEMBER_ID, KSTR("")), false);
	kg_answer_sync(g, member, KERR_UNKNOWN_MEMBER_ID);
	kg_classic_remove(g, member);
	if (g->state == KGROUP_STABLE || g->state == KGROUP_COMPLETING_REBALANCE)
		kg_prepare_rebalance(g);
	else if (g->state == KGROUP_PREPARING_REBALANCE && all_joined(g))
		complete_join(g);
}

void
kg_classic_tick(KGroup *g)
{
	/* Each step moves its deadline away; members may be gone after it, so look again. */
	for (int32_t i = 0; i < g->npending;)
	{
		if (g->pending[i].deadline > g->now)
		{
			i++;
			continue;
		}
		kg_classic_forget_pending(g, i);
		if (g->state == KGROUP_PREPARING_REBALANCE && all_joined(g))
			complete_join(g);
	}
	for (int32_t i = 0; i < g->nmembers;)
	{
		if (g->members[i]->session_deadline > g->now)
			i++;
		else
		{
			end_session(g, g->members[i]);
			i = 0;
		}
	}
	if (g->sync_deadline <= g->now)
	{
		if (g->state == KGROUP_COMPLETING_REBALANCE || g->state == KGROUP_STABLE)
			end_sync(g);
		else
			g->sync_deadline = KG_NEVER;
	}
	if (g->join_deadline <= g->now)
	{
		if (g->state != KGROUP_PREPARING_REBALANCE)
			g->join_deadline = KG_NEVER;
		else if (g->join_timer == KG_JOIN_INITIAL)
			end_initial_delay(g);
		else
			complete_join(g);
	}
}
