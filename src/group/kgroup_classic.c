/*
 * kgroup_classic.c
 *		JoinGroup, SyncGroup, Heartbeat and LeaveGroup of classic groups.
 *
 * What they do to the group is in kgroup_rebalance.c; here are the checks, in Kafka's order, and
 * who is added, replaced and answered.  Requests of the classic protocol to a group of the other
 * one go on in kgroup_migrate.c.
 */
#include "group/kgroup_int.h"

/* ---- members ---- */

/* Kafka's ClassicGroup.validateMember() */
static int16_t
check_member(const KGroup *g, KStr member_id, KStr instance_id)
{
	if (instance_id.len >= 0)
	{
		const KGMember *owner = kg_static_member(g, instance_id);

		if (owner == NULL)
			return KERR_UNKNOWN_MEMBER_ID;
		if (!kg_str_equal(owner->id, member_id))
			return KERR_FENCED_INSTANCE_ID;
	}
	return kg_member(g, member_id) != NULL ? KERR_NONE : KERR_UNKNOWN_MEMBER_ID;
}

static int32_t
find_pending(const KGroup *g, KStr member_id)
{
	for (int32_t i = 0; i < g->npending; i++)
		if (kg_str_equal(g->pending[i].id, member_id))
			return i;
	return -1;
}

/*
 * The member waits for the end of the join phase.  If it already does so with another request,
 * over a connection that is probably dead, that one is told to try again (Kafka never answers it).
 */
static void
park_join(KGroup *g, KGMember *member, KGroupWaiter waiter)
{
	kg_answer_join(g, member, kg_join_response(g, KERR_REBALANCE_IN_PROGRESS, member->id), false);
	member->join = waiter;
	g->changed = true;
}

static void
update_member(KGroup *g, KGMember *member, const KGroupCaller *caller,
			  const KJoinGroupRequest *request)
{
	kg_set_protocols(g, member, request);
	member->rebalance_timeout_ms = request->rebalance_timeout_ms;
	member->session_timeout_ms = request->session_timeout_ms;
	park_join(g, member, caller->waiter);
}

static KGroupResult
update_and_rebalance(KGroup *g, KGMember *member, const KGroupCaller *caller,
					 const KJoinGroupRequest *request)
{
	update_member(g, member, caller, request);
	kg_rebalance_or_complete_join(g);
	return kg_finish_bounded(g);
}

static KGroupResult
add_and_rebalance(KGroup *g, const KGroupCaller *caller, const KJoinGroupRequest *request,
				  KStr member_id)
{
	int32_t		pending = find_pending(g, member_id);
	KGMember   *member = kg_add_member(g, member_id);

	if (pending >= 0)
		kg_classic_forget_pending(g, pending);
	member->classic = true;
	member->is_new = true;
	member->instance_id = request->group_instance_id;
	member->client_id = caller->client_id;
	member->client_host = caller->client_host;
	if (g->nmembers == 1)
		g->protocol_type = request->protocol_type;
	if (g->leader.len < 0)
		g->leader = member->id;
	if (g->state == KGROUP_PREPARING_REBALANCE && g->previous_state == KGROUP_EMPTY)
		g->member_added = true;

	update_member(g, member, caller, request);
	kg_schedule_session(g, member, g->env->config.new_member_timeout_ms);
	kg_rebalance_or_complete_join(g);
	return kg_finish_bounded(g);
}

/* ---- JoinGroup ---- */

static bool
has_room(const KGroup *g, KStr member_id)
{
	const KGMember *member = kg_member(g, member_id);
	int32_t		joined = 0;

	switch (g->state)
	{
		case KGROUP_PREPARING_REBALANCE:
			if (member != NULL && member->join.request != 0)
				return true;
			for (int32_t i = 0; i < g->nmembers; i++)
				joined += g->members[i]->join.request != 0;
			return joined < g->env->config.max_size;
		case KGROUP_COMPLETING_REBALANCE:
		case KGROUP_STABLE:
			return member != NULL || g->nmembers < g->env->config.max_size;
		default:
			return true;
	}
}

/*
 * A static member came back without its member id: it gets a new one, and whoever uses the old
 * one is fenced.  If nothing else changes in a stable group, there is no rebalance.
 */
static KGroupResult
replace_static(KGroup *g, KGMember *member, const KGroupCaller *caller,
			   const KJoinGroupRequest *request, KStr new_id)
{
	bool		leads = kg_is_leader(g, member);
	KStr		old_leader = g->leader;
	KJoinGroupResponse *response = kg_join_response(g, KERR_FENCED_INSTANCE_ID, member->id);

	kg_answer_join(g, member, response, false);
	kg_answer_sync(g, member, KERR_FENCED_INSTANCE_ID);

	kg_forget_row(g, member);
	member->id = new_id;
	member->hash = kg_hash(new_id);
	member->is_new = false;
	if (leads)
		g->leader = new_id;
	update_member(g, member, caller, request);
	kg_schedule_session(g, member, member->session_timeout_ms);

	if (g->state == KGROUP_STABLE &&
		kg_str_equal(g->protocol_name, kg_select_protocol(g)))
	{
		/* From version 9 on the leader can be told that it leads, and need not assign. */
		if (caller->waiter.api_version >= 9)
		{
			response = kg_joined_response(g, member, leads);
			response->skip_assignment = leads;
		}
		else
		{
			response = kg_joined_response(g, member, false);
			response->leader = old_leader;
		}
		kg_answer_join(g, member, response, true);
		kg_dirty_member(g, member);
	}
	else if (g->state == KGROUP_STABLE || g->state == KGROUP_COMPLETING_REBALANCE)
		kg_prepare_rebalance(g);
	else
		kg_complete_join_phase(g);
	return kg_finish_bounded(g);
}

static KGroupResult
join_new(KGroup *g, const KGroupCaller *caller, const KJoinGroupRequest *request)
{
	bool		is_static = request->group_instance_id.len >= 0;
	KGMember   *owner = kg_static_member(g, request->group_instance_id);
	KStr		member_id;

	if (!kg_supports_protocols(g, request->protocol_type, request))
		return kg_answer_join_now(g, caller,
								  kg_join_response(g, KERR_INCONSISTENT_GROUP_PROTOCOL,
												   KSTR("")));

	member_id = kg_new_member_id(g, is_static ? request->group_instance_id :
								 kg_present(caller->client_id) ? caller->client_id : KSTR(""));
	if (owner != NULL)
		return replace_static(g, owner, caller, request, member_id);
	if (is_static || caller->waiter.api_version < 4)
		return add_and_rebalance(g, caller, request, member_id);

	/* KIP-394: no member before the client has shown that it knows its id */
	g->pending = kg_grow(g, g->pending, g->npending, &g->pending_capacity, sizeof(KGPending));
	g->pending[g->npending].id = member_id;
	g->pending[g->npending++].deadline = kg_after(g, request->session_timeout_ms);
	g->changed = true;
	return kg_answer_join_now(g, caller, kg_join_response(g, KERR_MEMBER_ID_REQUIRED, member_id));
}

static KGroupResult
join_known(KGroup *g, const KGroupCaller *caller, const KJoinGroupRequest *request)
{
	KStr		id = request->member_id;
	KGMember   *member;
	int16_t		error;

	if (!kg_supports_protocols(g, request->protocol_type, request))
		return kg_answer_join_now(g, caller,
								  kg_join_response(g, KERR_INCONSISTENT_GROUP_PROTOCOL, id));
	if (find_pending(g, id) >= 0 && request->group_instance_id.len < 0)
		return add_and_rebalance(g, caller, request, id);

	error = check_member(g, id, request->group_instance_id);
	if (error != KERR_NONE)
		return kg_answer_join_now(g, caller, kg_join_response(g, error, id));

	member = kg_member(g, id);
	switch (g->state)
	{
		case KGROUP_PREPARING_REBALANCE:
			return update_and_rebalance(g, member, caller, request);

		case KGROUP_COMPLETING_REBALANCE:
			/* It may have missed the answer. */
			if (!kg_same_protocols(member, request))
				return update_and_rebalance(g, member, caller, request);
			return kg_answer_join_now(g, caller,
									  kg_joined_response(g, member, kg_is_leader(g, member)));

		case KGROUP_STABLE:
			/* A leader joins again because it wants to assign anew. */
			if (kg_is_leader(g, member) || !kg_same_protocols(member, request))
				return update_and_rebalance(g, member, caller, request);
			return kg_answer_join_now(g, caller, kg_joined_response(g, member, false));

		default:
			return kg_answer_join_now(g, caller,
									  kg_join_response(g, KERR_UNKNOWN_MEMBER_ID, id));
	}
}

static KGroupResult
join_classic(KGroup *g, const KGroupCaller *caller, const KJoinGroupRequest *request)
{
	bool		unknown = !kg_present(request->member_id);
	KGMember   *member;
	int32_t		pending;

	if (g->type != KGROUP_CLASSIC)
	{
		if (!unknown)
			return kg_answer_join_now(g, caller,
									  kg_join_response(g, KERR_UNKNOWN_MEMBER_ID,
													   request->member_id));
		if (g->type == KGROUP_CONSUMER)
			kg_wipe(g, KGROUP_CLASSIC);
		else
			kg_reset(g, KGROUP_CLASSIC);
	}

	if (has_room(g, request->member_id))
		return unknown ? join_new(g, caller, request) : join_known(g, caller, request);

	/* Kafka forgets whom it has no room for; here the others need not wait for him either. */
	member = kg_member(g, request->member_id);
	pending = find_pending(g, request->member_id);
	if (member != NULL)
		kg_classic_remove(g, member);
	if (pending >= 0)
		kg_classic_forget_pending(g, pending);
	kg_complete_join_phase(g);
	return kg_answer_join_now(g, caller,
							  kg_join_response(g, KERR_GROUP_MAX_SIZE_REACHED, KSTR("")));
}

KGroupResult
kgroup_join(KGroup *g, const KGroupCaller *caller, const KJoinGroupRequest *request)
{
	const KGroupConfig *config = &g->env->config;
	KJoinGroupRequest copy = *request;

	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);
	if (!kg_present(g->id))
		return kg_answer_join_now(g, caller, kg_join_response(g, KERR_INVALID_GROUP_ID,
															  request->member_id));
	if (request->session_timeout_ms < config->min_session_timeout_ms ||
		request->session_timeout_ms > config->max_session_timeout_ms)
		return kg_answer_join_now(g, caller, kg_join_response(g, KERR_INVALID_SESSION_TIMEOUT,
															  request->member_id));

	if (request->protocols.count > KG_MAX_PROTOCOLS)
		return kg_answer_join_now(g, caller, kg_join_response(g, KERR_INCONSISTENT_GROUP_PROTOCOL,
															  request->member_id));

	if (caller->waiter.api_version == 0)
		copy.rebalance_timeout_ms = request->session_timeout_ms;
	if (g->type == KGROUP_CONSUMER && g->nmembers > 0)
		return kg_join_consumer(g, caller, &copy);
	return join_classic(g, caller, &copy);
}

/* ---- SyncGroup ---- */

static KGroupResult
answer_sync_now(KGroup *g, const KGroupCaller *caller, int16_t error_code)
{
	KSyncGroupResponse *response = kg_alloc(g, sizeof(KSyncGroupResponse));

	kmsg_init(&kmsg_sync_group_response, response);
	response->error_code = error_code;
	kg_answer(g, caller->waiter, KAPI_SYNC_GROUP, response, false);
	return kg_finish_bounded(g);
}

static bool
differs(KStr given, KStr ours)
{
	return given.len >= 0 && ours.len >= 0 && !kg_str_equal(given, ours);
}

KGroupResult
kgroup_sync(KGroup *g, const KGroupCaller *caller, const KSyncGroupRequest *request)
{
	KGMember   *member;
	int16_t		error;

	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);
	if (caller->waiter.api_version >= 5 &&
		(request->protocol_type.len < 0 || request->protocol_name.len < 0))
		return answer_sync_now(g, caller, KERR_INCONSISTENT_GROUP_PROTOCOL);
	if (!kg_present(g->id))
		return answer_sync_now(g, caller, KERR_INVALID_GROUP_ID);
	if (g->type == KGROUP_CONSUMER && g->nmembers > 0)
		return kg_sync_consumer(g, caller, request);
	if (g->type != KGROUP_CLASSIC || g->state == KGROUP_EMPTY)
		return answer_sync_now(g, caller, KERR_UNKNOWN_MEMBER_ID);

	error = check_member(g, request->member_id, request->group_instance_id);
	if (error == KERR_NONE && request->generation_id != g->generation)
		error = KERR_ILLEGAL_GENERATION;
	if (error == KERR_NONE && (differs(request->protocol_type, g->protocol_type) ||
							   differs(request->protocol_name, g->protocol_name)))
		error = KERR_INCONSISTENT_GROUP_PROTOCOL;
	if (error == KERR_NONE && g->state == KGROUP_PREPARING_REBALANCE)
		error = KERR_REBALANCE_IN_PROGRESS;
	if (error != KERR_NONE)
		return answer_sync_now(g, caller, error);

	member = kg_member(g, request->member_id);
	kg_answer_sync(g, member, KERR_REBALANCE_IN_PROGRESS);	/* an earlier one, as park_join() */
	member->sync = caller->waiter;
	if (member->pending_sync)
		g->changed = true;
	member->pending_sync = false;

	if (g->state == KGROUP_STABLE)
		kg_answer_sync(g, member, KERR_NONE);
	else if (kg_is_leader(g, member))
		kg_complete_sync(g, request);
	g->changed = true;

	for (int32_t i = 0; i < g->nmembers; i++)
		if (g->members[i]->pending_sync)
			return kg_finish_bounded(g);
	g->sync_deadline = KG_NEVER;
	return kg_finish_bounded(g);
}

/* ---- Heartbeat ---- */

KGroupResult
kgroup_heartbeat(KGroup *g, const KGroupCaller *caller, const KHeartbeatRequest *request)
{
	KHeartbeatResponse *response;
	KGMember   *member;

	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);
	if (g->type == KGROUP_CONSUMER && kg_present(g->id))
		return kg_heartbeat_consumer(g, caller, request);

	response = kg_alloc(g, sizeof(KHeartbeatResponse));
	kmsg_init(&kmsg_heartbeat_response, response);
	member = kg_member(g, request->member_id);
	if (!kg_present(g->id))
		response->error_code = KERR_INVALID_GROUP_ID;
	else if (g->type == KGROUP_NONE)
		response->error_code = KERR_UNKNOWN_MEMBER_ID;
	else
		response->error_code = check_member(g, request->member_id, request->group_instance_id);

	if (response->error_code == KERR_NONE)
	{
		if (request->generation_id != g->generation)
			response->error_code = KERR_ILLEGAL_GENERATION;
		else
		{
			kg_schedule_session(g, member, member->session_timeout_ms);
			if (g->state == KGROUP_PREPARING_REBALANCE)
				response->error_code = KERR_REBALANCE_IN_PROGRESS;
		}
	}
	kg_answer(g, caller->waiter, KAPI_HEARTBEAT, response, false);
	return kg_finish(g);
}

/* ---- LeaveGroup ---- */

static int16_t
leave_classic(KGroup *g, const KLeaveGroupRequestMember *identity)
{
	KGMember   *member;
	int32_t		pending;

	if (!kg_present(identity->member_id))
		/* the administrator's way to remove a static member */
		member = kg_static_member(g, identity->group_instance_id);
	else if ((pending = find_pending(g, identity->member_id)) >= 0)
	{
		kg_classic_forget_pending(g, pending);
		return KERR_NONE;
	}
	else
	{
		int16_t		error = check_member(g, identity->member_id, identity->group_instance_id);

		if (error != KERR_NONE)
			return error;
		member = kg_member(g, identity->member_id);
	}
	if (member == NULL)
		return KERR_UNKNOWN_MEMBER_ID;

	kg_answer_join(g, member, kg_join_response(g, KERR_UNKNOWN_MEMBER_ID, KSTR("")), false);
	kg_answer_sync(g, member, KERR_UNKNOWN_MEMBER_ID);
	kg_classic_remove(g, member);
	return KERR_NONE;
}

static KGroupResult
leave_group(KGroup *g, const KGroupCaller *caller, const KLeaveGroupRequest *request)
{
	KLeaveGroupResponse *response;
	const KLeaveGroupRequestMember *identities = request->members.items;
	int32_t		count = request->members.count > 0 ? request->members.count : 0;
	KLeaveGroupRequestMember only = {.group_instance_id = KSTR_NULL};
	KGMember  **leaving;
	int32_t		nleaving = 0;
	bool		any = false;

	/* Up to version 2 there is one member, and its error is the answer's. */
	if (caller->waiter.api_version <= 2)
	{
		only.member_id = request->member_id;
		identities = &only;
		count = 1;
	}

	response = kg_alloc(g, sizeof(KLeaveGroupResponse));
	kmsg_init(&kmsg_leave_group_response, response);
	if (!kg_present(g->id))
	{
		response->error_code = KERR_INVALID_GROUP_ID;
		kg_answer(g, caller->waiter, KAPI_LEAVE_GROUP, response, false);
		return kg_finish(g);
	}

	leaving = kg_alloc(g, (size_t) count * sizeof(KGMember *) + 1);
	response->members.items = kmsg_new(&kmsg_leave_group_response_member, count, g->env->arena);
	if (count > 0 && response->members.items == NULL)
		longjmp(g->no_memory, 1);
	response->members.count = count;
	for (int32_t i = 0; i < count; i++)
	{
		KLeaveGroupResponseMember *item = &response->members.items[i];
		KGMember   *member = NULL;

		item->member_id = identities[i].member_id;
		item->group_instance_id = identities[i].group_instance_id;
		if (g->type == KGROUP_CLASSIC)
			item->error_code = leave_classic(g, &identities[i]);
		else if (g->type == KGROUP_CONSUMER)
			item->error_code = kg_leave_consumer(g, &identities[i], &member);
		else
			item->error_code = KERR_UNKNOWN_MEMBER_ID;

		any |= item->error_code == KERR_NONE;
		for (int32_t j = 0; j < nleaving; j++)
			if (leaving[j] == member)
				member = NULL;
		if (member != NULL)
			leaving[nleaving++] = member;
	}

	if (g->type == KGROUP_CLASSIC && any)
	{
		if (g->state == KGROUP_STABLE || g->state == KGROUP_COMPLETING_REBALANCE)
			kg_prepare_rebalance(g);
		else
			kg_complete_join_phase(g);
	}
	else if (nleaving > 0)
		kg_consumer_fence(g, leaving, nleaving);

	if (caller->waiter.api_version <= 2)
	{
		response->error_code = response->members.items[0].error_code;
		response->members.items = NULL;
		response->members.count = 0;
	}
	kg_answer(g, caller->waiter, KAPI_LEAVE_GROUP, response, true);
	return kg_finish(g);
}

KGroupResult
kgroup_leave(KGroup *g, const KGroupCaller *caller, const KLeaveGroupRequest *request)
{
	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);
	return leave_group(g, caller, request);
}
