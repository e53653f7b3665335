/*
 * kgroup_migrate.c
 *		Both protocols in one group, and a group's way from one to the other (KIP-848).
 *
 * The first member that comes with the consumer protocol makes a classic group of consumers a
 * consumer group; members that still use the classic protocol are served here: their client-side
 * assignor is asked no more, a rebalance is that they are told to join again.  When the last
 * member of the consumer protocol leaves, the group becomes a classic one again.
 */
#include "group/kgroup_int.h"

/* ---- what clients put into protocols and assignments ---- */

#define MAX_EMBEDDED_VERSION	3

/* Versions to come are read as the latest that we know: they may only add fields. */
static int
embedded_version(KBytes bytes)
{
	int			version;

	if (bytes.len < 2)
		return -1;
	version = (int16_t) (bytes.data[0] << 8 | bytes.data[1]);
	return version > MAX_EMBEDDED_VERSION ? MAX_EMBEDDED_VERSION : version;
}

static bool
read_embedded(KGroup *g, const KMsgDesc *desc, KBytes bytes, void *msg)
{
	int			version = embedded_version(bytes);
	size_t		consumed;
	const char *err;

	return version >= 0 && kmsg_decode(desc, version, bytes.data + 2, (size_t) bytes.len - 2,
									   &consumed, g->env->arena, msg, &err);
}

static void
add_partitions(KGroup *g, KGPartitions *set, KStr topic, const KInt32Array *partitions,
			   int32_t epoch)
{
	KGPartition *items;
	KGroupTopic found;

	if (partitions->count <= 0 || !g->env->topic_by_name(g->env->arg, topic, &found))
		return;
	items = kg_alloc(g, (size_t) (set->count + partitions->count) * sizeof(KGPartition));
	if (set->count > 0)
		memcpy(items, set->items, (size_t) set->count * sizeof(KGPartition));
	for (int32_t i = 0; i < partitions->count; i++)
		items[set->count++] = (KGPartition) {found.id, partitions->items[i], epoch};
	set->items = items;
}

static void *
resize_in_arena(void *ctx, void *old, size_t used, size_t size)
{
	void	   *data = kg_alloc(ctx, size);

	if (used > 0)
		memcpy(data, old, used);
	return data;
}

/* An assignment as a classic member reads it, in the version of its own subscription. */
static KBytes
write_assignment(KGroup *g, const KGMember *member, const KGPartitions *set)
{
	int			version = member->nprotocols > 0 ?
		embedded_version(member->protocols[0].metadata) : 0;
	KConsumerProtocolAssignment assignment;
	KConsumerProtocolAssignmentTopicPartition *topic = NULL;
	KGroupTopic found;
	const KUuid *last = NULL;
	KMsgWriter	w;
	uint8_t		head[2];
	const char *err;
	int32_t    *partitions = kg_alloc(g, (size_t) (set->count + 1) * sizeof(int32_t));

	version = version < 0 ? 0 : version;
	kmsg_init(&kmsg_consumer_protocol_assignment, &assignment);
	assignment.assigned_partitions.items = kg_alloc(g, (size_t) (set->count + 1) *
													sizeof(*topic));
	for (int32_t i = 0; i < set->count; i++)
	{
		if (last == NULL || memcmp(last->b, set->items[i].topic.b, sizeof(last->b)) != 0)
		{
			last = &set->items[i].topic;
			topic = NULL;
			if (g->env->topic_by_id(g->env->arg, last, &found))
			{
				topic = &assignment.assigned_partitions.items
					[assignment.assigned_partitions.count++];
				topic->topic = kg_copy(g, found.name);
				topic->partitions.items = &partitions[i];
			}
		}
		if (topic != NULL)
			topic->partitions.items[topic->partitions.count++] = set->items[i].partition;
	}

	kmsg_writer_init(&w, 0, resize_in_arena, g);
	head[0] = (uint8_t) (version >> 8);
	head[1] = (uint8_t) version;
	if (!kmsg_writer_put(&w, head, sizeof(head)) ||
		!kmsg_encode(&kmsg_consumer_protocol_assignment, version, &assignment, &w, &err))
		longjmp(g->no_memory, 1);
	return (KBytes) {w.data, (int32_t) w.len};
}

bool
kg_classic_topics(KGroup *g, const KGMember *member, KStrArray *topics)
{
	KConsumerProtocolSubscription subscription;

	if (!read_embedded(g, &kmsg_consumer_protocol_subscription,
					   kg_protocol_metadata(member, g->protocol_name), &subscription))
		return false;
	*topics = subscription.topics;
	return true;
}

/* ---- classic to consumer ---- */

static bool
upgrade_member(KGroup *g, KGMember *member, KStr protocol)
{
	KConsumerProtocolSubscription subscription;
	KConsumerProtocolAssignment assignment;
	KGPartitions assigned = {NULL, 0};

	if (!read_embedded(g, &kmsg_consumer_protocol_subscription,
					   kg_protocol_metadata(member, protocol), &subscription))
		return false;
	if (member->assignment.len > 0)
	{
		/* What a custom assignor tells its members would be lost. */
		if (!read_embedded(g, &kmsg_consumer_protocol_assignment, member->assignment,
						   &assignment) || assignment.user_data.len > 0)
			return false;
		for (int32_t i = 0; i < assignment.assigned_partitions.count; i++)
			add_partitions(g, &assigned, assignment.assigned_partitions.items[i].topic,
						   &assignment.assigned_partitions.items[i].partitions,
						   g->generation);
		kg_sort_partitions(&assigned);
	}

	kg_answer_join(g, member, kg_join_response(g, KERR_REBALANCE_IN_PROGRESS, member->id), false);
	kg_answer_sync(g, member, KERR_REBALANCE_IN_PROGRESS);
	member->is_new = false;
	member->pending_sync = false;
	member->assignment = (KBytes) {NULL, 0};
	member->epoch = g->generation;
	member->previous_epoch = g->generation;
	member->state = KG_MEMBER_STABLE;
	member->rack_id = kg_present(subscription.rack_id) ? subscription.rack_id : KSTR_NULL;
	member->topics = kg_sorted_names(g, &subscription.topics);
	member->assigned = assigned;
	member->target = assigned;
	kg_schedule_session(g, member, member->session_timeout_ms);
	return true;
}

int16_t
kg_upgrade(KGroup *g)
{
	KStr		protocol = g->protocol_name.len >= 0 ? g->protocol_name : kg_select_protocol(g);
	int32_t		generation = g->generation;
	KGMember  **members = g->members;
	int32_t		count = g->nmembers;

	if (!g->env->config.may_upgrade || count > g->env->config.consumer_max_size ||
		!kg_str_equal(g->protocol_type, KG_CONSUMER_PROTOCOL))
		return KERR_GROUP_ID_NOT_FOUND;
	for (int32_t i = 0; i < count; i++)
		if (!upgrade_member(g, members[i], protocol))
			return KERR_GROUP_ID_NOT_FOUND;

	kg_reset(g, KGROUP_CONSUMER);
	g->generation = generation;
	g->assignment_epoch = generation;
	g->nmembers = count;
	g->metadata_hash = kg_metadata_hash(g);
	kg_dirty_all(g);
	return KERR_NONE;
}

/* ---- consumer to classic ---- */

static bool
is_among(const KGMember *member, KGMember *const *members, int32_t count)
{
	for (int32_t i = 0; i < count; i++)
		if (members[i] == member)
			return true;
	return false;
}

/*
 * Will all use the classic protocol once these have left, or once "replaced" has come back with
 * it?
 */
bool
kg_can_downgrade(const KGroup *g, KGMember *const *leaving, int32_t count,
				 const KGMember *replaced)
{
	if (!g->env->config.may_downgrade || g->nmembers - count <= 0 ||
		g->nmembers - count > g->env->config.max_size)
		return false;
	for (int32_t i = 0; i < g->nmembers; i++)
		if (!g->members[i]->classic && g->members[i] != replaced &&
			!is_among(g->members[i], leaving, count))
			return false;
	return replaced == NULL || !replaced->classic;
}

/* What nobody else may have yet. */
static KGPartitions
held_partitions(KGroup *g, const KGMember *member)
{
	KGPartitions held = {kg_alloc(g, (size_t) (member->assigned.count +
											   member->revoking.count + 1) *
								  sizeof(KGPartition)), 0};

	for (int32_t i = 0; i < member->assigned.count; i++)
		held.items[held.count++] = member->assigned.items[i];
	for (int32_t i = 0; i < member->revoking.count; i++)
		held.items[held.count++] = member->revoking.items[i];
	kg_sort_partitions(&held);
	return held;
}

/*
 * Members keep what they have.  Kafka gives them their targets, which others may still have: an
 * upgrade before the rebalance is over would make two owners of one partition.
 */
bool
kg_downgrade(KGroup *g, bool rebalance)
{
	KStr		protocol = kg_select_protocol(g);
	int32_t		generation = g->generation;
	int32_t		count = g->nmembers;

	if (protocol.len < 0)
		return false;
	kg_reset(g, KGROUP_CLASSIC);
	g->nmembers = count;
	g->generation = generation;
	g->state = KGROUP_STABLE;
	g->protocol_type = KG_CONSUMER_PROTOCOL;
	g->protocol_name = protocol;
	g->leader = g->members[0]->id;
	for (int32_t i = 0; i < count; i++)
	{
		KGMember   *member = g->members[i];
		KGPartitions held = held_partitions(g, member);

		member->assignment = write_assignment(g, member, &held);
		member->rebalance_deadline = KG_NEVER;
		member->join_deadline = KG_NEVER;
		member->sync_deadline = KG_NEVER;
		kg_schedule_session(g, member, member->session_timeout_ms);
	}
	kg_dirty_all(g);
	if (rebalance)
		kg_prepare_rebalance(g);
	return true;
}

/* ---- classic members of consumer groups ---- */

static bool
supports(const KGMember *member, KStr name)
{
	for (int32_t i = 0; i < member->nprotocols; i++)
		if (kg_str_equal(member->protocols[i].name, name))
			return true;
	return false;
}

static bool
classic_members_support(const KGroup *g, const KJoinGroupRequest *request)
{
	if (!kg_str_equal(request->protocol_type, KG_CONSUMER_PROTOCOL))
		return false;
	for (int32_t i = 0; i < request->protocols.count; i++)
	{
		bool		all = true;

		for (int32_t m = 0; m < g->nmembers && all; m++)
			all = !g->members[m]->classic ||
				supports(g->members[m], request->protocols.items[i].name);
		if (all)
			return true;
	}
	return false;
}

static KGroupResult
refuse_join(KGroup *g, const KGroupCaller *caller, int16_t error_code)
{
	g->nanswers = 0;
	g->changed = false;
	g->dirty = false;
	return kg_answer_join_now(g, caller, kg_join_response(g, error_code, KSTR("")));
}

/* The member who joins, found, made or replaced. */
static KGMember *
joining_member(KGroup *g, const KJoinGroupRequest *request, KStr member_id, bool unknown,
			   int16_t *error_code)
{
	KGMember   *owner = kg_static_member(g, request->group_instance_id);
	KGMember   *member = kg_member(g, member_id);

	*error_code = KERR_NONE;
	if (request->group_instance_id.len < 0 || (owner == NULL && unknown))
		return member != NULL ? member : kg_add_member(g, member_id);
	if (owner != NULL && unknown)
		return kg_consumer_replace(g, owner, member_id);
	if (owner == NULL)
		*error_code = KERR_UNKNOWN_MEMBER_ID;
	else if (!kg_str_equal(owner->id, member_id))
		*error_code = KERR_FENCED_INSTANCE_ID;
	return *error_code == KERR_NONE ? owner : NULL;
}

static void
become_classic(KGroup *g, KGMember *member, const KGroupCaller *caller,
			   const KJoinGroupRequest *request, const KConsumerProtocolSubscription *subscription)
{
	if (request->group_instance_id.len >= 0)
		member->instance_id = request->group_instance_id;
	if (kg_present(subscription->rack_id))
		member->rack_id = subscription->rack_id;
	if (request->rebalance_timeout_ms != -1)
		member->rebalance_timeout_ms = request->rebalance_timeout_ms;
	member->client_id = kg_present(caller->client_id) ? caller->client_id : KSTR("");
	member->client_host = caller->client_host;
	member->classic = true;
	member->session_timeout_ms = request->session_timeout_ms;
	member->rebalance_deadline = KG_NEVER;
	kg_set_protocols(g, member, request);
	kg_dirty_member(g, member);
}

KGroupResult
kg_join_consumer(KGroup *g, const KGroupCaller *caller, const KJoinGroupRequest *request)
{
	bool		unknown = !kg_present(request->member_id);
	KStr		member_id = unknown ? kg_new_member_id(g, KSTR_NULL) : request->member_id;
	KGMember   *replaced = kg_static_member(g, request->group_instance_id);
	KConsumerProtocolSubscription subscription;
	KGPartitions owned = {NULL, 0};
	KJoinGroupResponse *response;
	KGMember   *member;
	KStrArray	names;
	bool		downgrade;
	bool		changed;
	int16_t		error;

	if (g->nmembers >= g->env->config.consumer_max_size && kg_member(g, member_id) == NULL)
		return refuse_join(g, caller, KERR_GROUP_MAX_SIZE_REACHED);
	if (!classic_members_support(g, request))
		return refuse_join(g, caller, KERR_INCONSISTENT_GROUP_PROTOCOL);
	if (unknown && request->group_instance_id.len < 0 && caller->waiter.api_version >= 4)
		return kg_answer_join_now(g, caller,
								  kg_join_response(g, KERR_MEMBER_ID_REQUIRED, member_id));

	/* Asked now: to be replaced changes the member. */
	downgrade = replaced != NULL && kg_can_downgrade(g, NULL, 0, replaced);
	member = joining_member(g, request, member_id, unknown, &error);
	if (member == NULL)
		return refuse_join(g, caller, error);
	if (!read_embedded(g, &kmsg_consumer_protocol_subscription,
					   request->protocols.items[0].metadata, &subscription))
		return refuse_join(g, caller, KERR_UNKNOWN_SERVER_ERROR);

	names = kg_sorted_names(g, &subscription.topics);
	changed = !kg_same_names(&names, &member->topics) || kg_present(member->regex);
	become_classic(g, member, caller, request, &subscription);
	member->topics = names;
	member->regex = KSTR("");
	kg_drop_regexes(g);
	if (changed || g->topics_version != g->env->topics_version)
		kg_update_epoch(g, changed);
	for (int32_t i = 0; i < subscription.owned_partitions.count; i++)
		add_partitions(g, &owned, subscription.owned_partitions.items[i].topic,
					   &subscription.owned_partitions.items[i].partitions, 0);
	kg_sort_partitions(&owned);

	if (!downgrade)
		kg_update_target(g);
	if (!downgrade || g->assignment_epoch >= g->generation)
		kg_reconcile(g, member, &owned, changed);
	member->join_deadline = KG_NEVER;
	kg_schedule_session(g, member, member->session_timeout_ms);
	member->sync_deadline = kg_after(g, request->rebalance_timeout_ms);

	response = kg_join_response(g, KERR_NONE, member->id);
	response->generation_id = member->epoch;
	response->protocol_type = KG_CONSUMER_PROTOCOL;
	response->protocol_name = member->protocols[0].name;
	if (downgrade)
		kg_downgrade(g, kg_consumer_state(g) != KGROUP_STABLE);
	return kg_answer_join_now(g, caller, response);
}

/* A classic member of the group whose request this is; *error_code says why there is none. */
static KGMember *
classic_member(const KGroup *g, KStr member_id, KStr instance_id, int32_t generation,
			   int16_t *error_code)
{
	KGMember   *member = instance_id.len < 0 ? kg_member(g, member_id) :
		kg_static_member(g, instance_id);

	*error_code = KERR_NONE;
	if (member == NULL)
		*error_code = KERR_UNKNOWN_MEMBER_ID;
	else if (instance_id.len >= 0 && !kg_str_equal(member->id, member_id))
		*error_code = KERR_FENCED_INSTANCE_ID;
	else if (!member->classic)
		*error_code = KERR_UNKNOWN_MEMBER_ID;
	else if (member->epoch != generation)
		*error_code = KERR_ILLEGAL_GENERATION;
	return *error_code == KERR_NONE ? member : NULL;
}

/* From now on it has its rebalance timeout to join again. */
static void
expect_join(KGroup *g, KGMember *member)
{
	if (member->join_deadline != KG_NEVER)
		return;
	member->join_deadline = kg_after(g, member->rebalance_timeout_ms);
	g->changed = true;
}

static int16_t
check_sync(KGroup *g, KGMember *member, const KSyncGroupRequest *request)
{
	if ((request->protocol_type.len >= 0 &&
		 !kg_str_equal(request->protocol_type, KG_CONSUMER_PROTOCOL)) ||
		(request->protocol_name.len >= 0 && member->nprotocols > 0 &&
		 !kg_str_equal(request->protocol_name, member->protocols[0].name)))
		return KERR_INCONSISTENT_GROUP_PROTOCOL;
	if (g->assignment_epoch > member->epoch && member->state != KG_MEMBER_UNREVOKED)
	{
		expect_join(g, member);
		return KERR_REBALANCE_IN_PROGRESS;
	}
	return KERR_NONE;
}

KGroupResult
kg_sync_consumer(KGroup *g, const KGroupCaller *caller, const KSyncGroupRequest *request)
{
	KSyncGroupResponse *response = kg_alloc(g, sizeof(KSyncGroupResponse));
	KGMember   *member;
	int16_t		error;

	kmsg_init(&kmsg_sync_group_response, response);
	member = classic_member(g, request->member_id, request->group_instance_id,
							request->generation_id, &error);
	if (member != NULL)
		error = check_sync(g, member, request);
	response->error_code = error;
	if (error == KERR_NONE)
	{
		member->sync_deadline = KG_NEVER;
		kg_schedule_session(g, member, member->session_timeout_ms);
		response->protocol_type = request->protocol_type;
		response->protocol_name = request->protocol_name;
		response->assignment = write_assignment(g, member, &member->assigned);
	}
	kg_answer(g, caller->waiter, KAPI_SYNC_GROUP, response, error == KERR_NONE);
	return kg_finish(g);
}

KGroupResult
kg_heartbeat_consumer(KGroup *g, const KGroupCaller *caller, const KHeartbeatRequest *request)
{
	KHeartbeatResponse *response = kg_alloc(g, sizeof(KHeartbeatResponse));
	KGMember   *member;
	int16_t		error;

	kmsg_init(&kmsg_heartbeat_response, response);
	member = classic_member(g, request->member_id, request->group_instance_id,
							request->generation_id, &error);
	if (member != NULL)
	{
		kg_schedule_session(g, member, member->session_timeout_ms);

		/* In Kafka nobody does this while there are classic members only. */
		if (kg_refresh_regexes(g))
			kg_update_epoch(g, true);
		else if (g->topics_version != g->env->topics_version)
			kg_update_epoch(g, false);
		kg_update_target(g);
		if (member->epoch < g->assignment_epoch || member->state == KG_MEMBER_UNREVOKED ||
			(member->state == KG_MEMBER_UNRELEASED && !kg_waits_for_release(g, member)))
		{
			expect_join(g, member);
			error = KERR_REBALANCE_IN_PROGRESS;
		}
	}
	response->error_code = error;
	kg_answer(g, caller->waiter, KAPI_HEARTBEAT, response, false);
	return kg_finish(g);
}

int16_t
kg_leave_consumer(KGroup *g, const KLeaveGroupRequestMember *identity, KGMember **member)
{
	*member = identity->group_instance_id.len < 0 ? kg_member(g, identity->member_id) :
		kg_static_member(g, identity->group_instance_id);
	if (*member == NULL)
		return KERR_UNKNOWN_MEMBER_ID;
	if (identity->group_instance_id.len >= 0 && kg_present(identity->member_id) &&
		!kg_str_equal((*member)->id, identity->member_id))
	{
		*member = NULL;
		return KERR_FENCED_INSTANCE_ID;
	}
	return KERR_NONE;
}
