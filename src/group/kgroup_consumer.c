/*
 * kgroup_consumer.c
 *		Consumer groups (KIP-848): ConsumerGroupHeartbeat, epochs, and the target assignment.
 *
 * What a member sends may change the group (group epoch); then there is a new target (assignment
 * epoch); and each member goes from what it has to its target by itself (member epoch), in
 * kgroup_reconcile.c.  Follows the consumer part of Kafka's GroupMetadataManager.
 */
#include "group/kgroup_int.h"
#include "group/kgroup_assign.h"

#include <stdlib.h>

/* Heartbeats of a member that waits: so many in an interval, but not more often than that. */
#define SOONER			10
#define SOONER_MIN_MS	100

KGroupState
kg_consumer_state(const KGroup *g)
{
	if (g->nmembers == 0)
		return KGROUP_EMPTY;
	if (g->generation > g->assignment_epoch)
		return KGROUP_ASSIGNING;
	for (int32_t i = 0; i < g->nmembers; i++)
		if (g->members[i]->state != KG_MEMBER_STABLE ||
			g->members[i]->epoch != g->assignment_epoch)
			return KGROUP_RECONCILING;
	return KGROUP_STABLE;
}

/* ---- epochs ---- */

void
kg_update_epoch(KGroup *g, bool bump)
{
	uint64_t	hash = kg_metadata_hash(g);

	if (bump || hash != g->metadata_hash)
	{
		g->generation++;
		kg_dirty_group(g);
	}
	g->metadata_hash = hash;
	g->changed = true;
}

/* ---- the target ---- */

static bool
is_offered(const KGroup *g, const KAssignor *assignor)
{
	return (g->env->config.assignors >> (assignor - kassign_all) & 1) != 0;
}

const KAssignor *
kg_preferred_assignor(const KGroup *g)
{
	const KAssignor *best = &kassign_all[g->env->config.default_assignor];
	int32_t		most = 0;

	for (int a = 0; a < kassign_count; a++)
	{
		int32_t		votes = 0;

		for (int32_t i = 0; i < g->nmembers; i++)
			votes += kg_present(g->members[i]->assignor) &&
				kassign_find(g->members[i]->assignor) == &kassign_all[a];
		if (votes > most && is_offered(g, &kassign_all[a]))
		{
			most = votes;
			best = &kassign_all[a];
		}
	}
	return best;
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp(((const KGroupTopic *) a)->id.b, ((const KGroupTopic *) b)->id.b,
				  sizeof(KUuid));
}

static bool
same_subscription(const KGMember *a, const KGMember *b)
{
	return kg_str_equal(a->regex, b->regex) && kg_same_names(&a->topics, &b->topics);
}

/* What each member subscribes to; those with equal subscriptions share the answer. */
static KGTopics *
all_subscriptions(KGroup *g, KGTopics *all)
{
	KGTopics   *topics = kg_alloc(g, (size_t) (g->nmembers + 1) * sizeof(KGTopics));
	int32_t		total = 0;
	int32_t		kept = 0;

	for (int32_t i = 0; i < g->nmembers; i++)
	{
		if (i > 0 && same_subscription(g->members[i - 1], g->members[i]))
			topics[i] = topics[i - 1];
		else
		{
			topics[i] = kg_subscribed_topics(g, g->members[i]);
			total += topics[i].count;
		}
	}
	all->items = kg_alloc(g, (size_t) (total + 1) * sizeof(KGroupTopic));
	all->count = 0;
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		if (i > 0 && topics[i].items == topics[i - 1].items)
			continue;
		if (topics[i].count > 0)
			memcpy(&all->items[all->count], topics[i].items,
				   (size_t) topics[i].count * sizeof(KGroupTopic));
		all->count += topics[i].count;
	}
	if (all->count > 1)
		qsort(all->items, (size_t) all->count, sizeof(KGroupTopic), compare_ids);
	for (int32_t i = 0; i < all->count; i++)
		if (kept == 0 || compare_ids(&all->items[kept - 1], &all->items[i]) != 0)
			all->items[kept++] = all->items[i];
	all->count = kept;
	return topics;
}

static void
set_target(KGroup *g, KGMember *member, KGPartitions target)
{
	if (kg_same_partitions(&member->target, &target, false))
		return;
	member->target = target;
	kg_dirty_member(g, member);
}

static void
compute_target(KGroup *g)
{
	KGTopics	all;
	KGTopics   *topics = all_subscriptions(g, &all);
	KAssignMember *members = kg_alloc(g, (size_t) (g->nmembers + 1) * sizeof(KAssignMember));
	KGPartitions *targets = kg_alloc(g, (size_t) (g->nmembers + 1) * sizeof(KGPartitions));
	KAssign		assign = {.ntopics = all.count,.members = members,
		.nmembers = g->nmembers,.arena = g->env->arena};

	assign.topics = kg_alloc(g, (size_t) (all.count + 1) * sizeof(KAssignTopic));
	for (int32_t t = 0; t < all.count; t++)
	{
		assign.topics[t].id = all.items[t].id;
		assign.topics[t].partitions = all.items[t].partitions;
	}
	assign.npartitions = kassign_number(assign.topics, all.count);
	if (assign.npartitions < 0)
		longjmp(g->no_memory, 1);
	assign.owners = kg_alloc(g, (size_t) (assign.npartitions + 1) * sizeof(int32_t));
	for (int32_t p = 0; p < assign.npartitions; p++)
		assign.owners[p] = KASSIGN_NOBODY;

	for (int32_t m = 0; m < g->nmembers; m++)
	{
		const KGMember *member = g->members[m];

		members[m].id = member->id;
		members[m].instance_id = member->instance_id;
		members[m].ntopics = topics[m].count;
		if (m > 0 && topics[m].items == topics[m - 1].items)
			members[m].topics = members[m - 1].topics;
		else
		{
			int32_t    *indexes = kg_alloc(g, (size_t) (topics[m].count + 1) * sizeof(int32_t));

			for (int32_t i = 0; i < topics[m].count; i++)
				indexes[i] = (int32_t) (kg_find_topic(&all, &topics[m].items[i].id) -
										all.items);
			members[m].topics = indexes;
		}
		for (int32_t i = 0; i < member->target.count; i++)
		{
			const KGPartition *p = &member->target.items[i];
			const KGroupTopic *topic = kg_find_topic(&all, &p->topic);

			if (topic != NULL && p->partition >= 0 && p->partition < topic->partitions)
				assign.owners[assign.topics[topic - all.items].first + p->partition] = m;
		}
	}

	if (!kg_preferred_assignor(g)->assign(&assign))
		longjmp(g->no_memory, 1);

	/* Topics are sorted by id, so targets come out sorted. */
	for (int32_t p = 0; p < assign.npartitions; p++)
		if (assign.owners[p] != KASSIGN_NOBODY)
			targets[assign.owners[p]].count++;
	for (int32_t m = 0; m < g->nmembers; m++)
	{
		targets[m].items = kg_alloc(g, (size_t) (targets[m].count + 1) * sizeof(KGPartition));
		targets[m].count = 0;
	}
	for (int32_t t = 0; t < all.count; t++)
	{
		for (int32_t p = 0; p < assign.topics[t].partitions; p++)
		{
			int32_t		owner = assign.owners[assign.topics[t].first + p];

			if (owner != KASSIGN_NOBODY)
				targets[owner].items[targets[owner].count++] =
					(KGPartition) {.topic = all.items[t].id,.partition = p};
		}
	}
	for (int32_t m = 0; m < g->nmembers; m++)
		set_target(g, g->members[m], targets[m]);
}

void
kg_update_target(KGroup *g)
{
	int32_t		interval = g->env->config.assignment_interval_ms;

	if (g->assignment_epoch >= g->generation)
		return;
	if (g->assignment_time != 0 && interval > 0 && g->now < g->assignment_time + interval)
		return;
	compute_target(g);
	g->assignment_epoch = g->generation;
	g->assignment_time = g->now;
	kg_dirty_group(g);
}

/* ---- members that go ---- */

void
kg_consumer_fence(KGroup *g, KGMember *const *members, int32_t count)
{
	bool		downgrade = kg_can_downgrade(g, members, count, NULL);

	for (int32_t i = 0; i < count; i++)
		kg_remove_member(g, members[i]);
	kg_drop_regexes(g);
	kg_dirty_group(g);
	if (downgrade && kg_downgrade(g, true))
		return;
	g->generation++;
	g->metadata_hash = kg_metadata_hash(g);
}

KGMember *
kg_consumer_replace(KGroup *g, KGMember *old, KStr new_id)
{
	if (!kg_str_equal(old->id, new_id))
	{
		kg_forget_row(g, old);
		old->id = kg_copy(g, new_id);
		old->hash = kg_hash(new_id);
	}
	old->epoch = KG_EPOCH_JOIN;
	old->previous_epoch = KG_EPOCH_JOIN;
	old->rebalance_deadline = KG_NEVER;
	old->join_deadline = KG_NEVER;
	old->sync_deadline = KG_NEVER;
	kg_dirty_member(g, old);
	return old;
}

void
kg_consumer_tick(KGroup *g)
{
	for (int32_t i = 0; i < g->nmembers && g->type == KGROUP_CONSUMER;)
	{
		KGMember   *member = g->members[i];
		bool		fence = member->session_deadline <= g->now ||
			member->join_deadline <= g->now || member->sync_deadline <= g->now;

		if (member->rebalance_deadline <= g->now)
		{
			fence |= member->epoch == member->rebalance_epoch;
			member->rebalance_deadline = KG_NEVER;
			g->changed = true;
		}
		if (fence)
			kg_consumer_fence(g, &member, 1);
		else
			i++;
	}
}

/* ---- the heartbeat ---- */

static KConsumerGroupHeartbeatResponse *
new_response(KGroup *g, int16_t error_code, const char *message)
{
	KConsumerGroupHeartbeatResponse *response = kg_alloc(g, sizeof(*response));

	kmsg_init(&kmsg_consumer_group_heartbeat_response, response);
	response->error_code = error_code;
	if (message != NULL)
		response->error_message = (KStr) {message, (int32_t) strlen(message)};
	return response;
}

static KGroupResult
refuse(KGroup *g, const KGroupCaller *caller, int16_t error_code, const char *message)
{
	return kg_refuse(g, caller->waiter, KAPI_CONSUMER_GROUP_HEARTBEAT,
					 new_response(g, error_code, message));
}

/* What is wrong with the request in itself; NULL: nothing. */
static const char *
check_request(const KGroup *g, int version, const KConsumerGroupHeartbeatRequest *request)
{
	int32_t		epoch = request->member_epoch;

	if ((version >= 1 || epoch > 0 || epoch == KG_EPOCH_LEAVE) &&
		!kg_present(request->member_id))
		return "the member id must not be empty";
	if (!kg_present(g->id))
		return "the group id must not be empty";
	if (request->instance_id.len == 0)
		return "the instance id must not be empty";
	if (request->rack_id.len == 0)
		return "the rack id must not be empty";
	if (epoch == KG_EPOCH_JOIN)
	{
		if (request->rebalance_timeout_ms == -1)
			return "the first request must have a rebalance timeout";
		if (request->topic_partitions.count != 0)
			return "who joins must name an empty list of partitions";
		if (request->subscribed_topic_names.count < 0 && request->subscribed_topic_regex.len < 0)
			return "who joins must name topics or a pattern";
	}
	else if (epoch == KG_EPOCH_LEAVE_STATIC && request->instance_id.len < 0)
		return "the instance id must not be null";
	else if (epoch < KG_EPOCH_LEAVE_STATIC)
		return "the member epoch is invalid";
	return NULL;
}

/* NULL: the request does not say. */
static KGPartitions *
owned_partitions(KGroup *g, const KConsumerGroupHeartbeatRequest *request)
{
	KGPartitions *owned;
	int32_t		count = 0;

	if (request->topic_partitions.count < 0)
		return NULL;
	for (int32_t t = 0; t < request->topic_partitions.count; t++)
		if (request->topic_partitions.items[t].partitions.count > 0)
			count += request->topic_partitions.items[t].partitions.count;
	owned = kg_alloc(g, sizeof(KGPartitions));
	owned->items = kg_alloc(g, (size_t) (count + 1) * sizeof(KGPartition));
	for (int32_t t = 0; t < request->topic_partitions.count; t++)
	{
		const KInt32Array *partitions = &request->topic_partitions.items[t].partitions;

		for (int32_t i = 0; i < partitions->count; i++)
			owned->items[owned->count++] = (KGPartition)
		{
			.topic = request->topic_partitions.items[t].topic_id,
				.partition = partitions->items[i]
		};
	}
	kg_sort_partitions(owned);
	return owned;
}

/* Kafka's throwIfConsumerGroupMemberEpochIsInvalid() */
static bool
is_fenced(const KGMember *member, int32_t epoch, const KGPartitions *owned)
{
	if (epoch == KG_EPOCH_JOIN || epoch == member->epoch)
		return false;
	if (epoch > member->epoch || epoch != member->previous_epoch || owned == NULL)
		return true;

	/* The last answer may have been lost: harmless, unless the member owns more than it may. */
	for (int32_t i = 0; i < owned->count; i++)
		if (kg_find_partition(&member->assigned, &owned->items[i].topic,
							  owned->items[i].partition) == NULL)
			return true;
	return false;
}

static KGroupResult
leave(KGroup *g, const KGroupCaller *caller, const KConsumerGroupHeartbeatRequest *request)
{
	KConsumerGroupHeartbeatResponse *response;
	KGMember   *member;

	if (g->type != KGROUP_CONSUMER)
		return refuse(g, caller, KERR_GROUP_ID_NOT_FOUND, "no such consumer group");
	if (request->instance_id.len >= 0)
	{
		member = kg_static_member(g, request->instance_id);
		if (member != NULL && !kg_str_equal(member->id, request->member_id))
			return refuse(g, caller, KERR_FENCED_INSTANCE_ID,
						  "the instance id belongs to another member");
	}
	else
		member = kg_member(g, request->member_id);
	if (member == NULL)
		return refuse(g, caller, KERR_UNKNOWN_MEMBER_ID, "no such member");

	response = new_response(g, KERR_NONE, NULL);
	response->member_id = member->id;
	response->member_epoch = request->member_epoch;
	if (request->member_epoch == KG_EPOCH_LEAVE_STATIC)
	{
		/* It keeps its partitions for when it comes back, within its session. */
		member->epoch = KG_EPOCH_LEAVE_STATIC;
		member->revoking = (KGPartitions) {NULL, 0};
		for (int32_t i = 0; i < member->assigned.count; i++)
			member->assigned.items[i].epoch = 0;
		kg_dirty_member(g, member);
	}
	else
		kg_consumer_fence(g, &member, 1);
	kg_answer(g, caller->waiter, KAPI_CONSUMER_GROUP_HEARTBEAT, response, true);
	return kg_finish(g);
}

/* KERR_NONE: the group is a consumer group. */
static int16_t
find_group(KGroup *g, bool joins)
{
	if (g->type == KGROUP_CONSUMER)
		return KERR_NONE;
	if (!joins)
		return KERR_GROUP_ID_NOT_FOUND;
	if (g->type == KGROUP_CLASSIC && g->state != KGROUP_EMPTY)
		return kg_upgrade(g);
	if (g->type == KGROUP_CLASSIC && g->generation > 0)
		kg_wipe(g, KGROUP_CONSUMER);
	else
		kg_reset(g, KGROUP_CONSUMER);
	return KERR_NONE;
}

/* The member of a request, found, made, or replaced.  *error_code says why there is none. */
static KGMember *
find_member(KGroup *g, KStr member_id, const KConsumerGroupHeartbeatRequest *request,
			const KGPartitions *owned, int16_t *error_code)
{
	bool		joins = request->member_epoch == KG_EPOCH_JOIN;
	KGMember   *member;

	*error_code = KERR_NONE;
	if (request->instance_id.len < 0)
		member = kg_member(g, member_id);
	else
	{
		member = kg_static_member(g, request->instance_id);
		if (member != NULL && joins)
		{
			/* Only who uses the classic protocol may be thrown out. */
			if (!member->classic && member->epoch != KG_EPOCH_LEAVE_STATIC)
				*error_code = KERR_UNRELEASED_INSTANCE_ID;
			else
				return kg_consumer_replace(g, member, member_id);
		}
		else if (member != NULL && !kg_str_equal(member->id, member_id))
			*error_code = KERR_FENCED_INSTANCE_ID;
	}

	if (*error_code == KERR_NONE && member == NULL)
	{
		if (joins)
		{
			/* The id may be a dynamic member's that has become a static one. */
			member = kg_member(g, member_id);
			if (member == NULL)
				member = kg_add_member(g, member_id);
			return member;
		}
		*error_code = KERR_UNKNOWN_MEMBER_ID;
	}
	if (*error_code == KERR_NONE && is_fenced(member, request->member_epoch, owned))
		*error_code = KERR_FENCED_MEMBER_EPOCH;
	return *error_code == KERR_NONE ? member : NULL;
}

static void
update_str(KGroup *g, KGMember *member, KStr *ours, KStr given)
{
	if (given.len < 0 || kg_str_equal(*ours, given))
		return;
	*ours = given;
	kg_dirty_member(g, member);
}

/* Takes over what the request says.  True if the topics that it names are others than before. */
static bool
update_member(KGroup *g, KGMember *member, const KGroupCaller *caller,
			  const KConsumerGroupHeartbeatRequest *request)
{
	bool		changed = false;

	update_str(g, member, &member->instance_id, request->instance_id);
	update_str(g, member, &member->rack_id, request->rack_id);
	update_str(g, member, &member->assignor, request->server_assignor);
	update_str(g, member, &member->client_id, kg_present(caller->client_id) ?
			   caller->client_id : KSTR(""));
	update_str(g, member, &member->client_host, caller->client_host);
	if (request->rebalance_timeout_ms != -1 &&
		request->rebalance_timeout_ms != member->rebalance_timeout_ms)
	{
		member->rebalance_timeout_ms = request->rebalance_timeout_ms;
		kg_dirty_member(g, member);
	}
	if (member->classic)
	{
		member->classic = false;
		member->nprotocols = 0;
		member->join_deadline = KG_NEVER;
		member->sync_deadline = KG_NEVER;
		kg_dirty_member(g, member);
	}
	if (request->subscribed_topic_names.count >= 0)
	{
		KStrArray	names = kg_sorted_names(g, &request->subscribed_topic_names);

		changed = !kg_same_names(&names, &member->topics);
		if (changed)
		{
			member->topics = names;
			kg_dirty_member(g, member);
		}
	}
	return changed;
}

static void
set_assignment(KGroup *g, const KGMember *member, KConsumerGroupHeartbeatResponse *response)
{
	KConsumerGroupHeartbeatResponseTopicPartition *topic = NULL;
	int32_t    *partitions = kg_alloc(g, (size_t) (member->assigned.count + 1) *
									  sizeof(int32_t));

	response->assignment = kg_alloc(g, sizeof(*response->assignment));
	response->assignment->topic_partitions.items =
		kg_alloc(g, (size_t) (member->assigned.count + 1) * sizeof(*topic));
	for (int32_t i = 0; i < member->assigned.count; i++)
	{
		const KGPartition *p = &member->assigned.items[i];

		if (topic == NULL || memcmp(topic->topic_id.b, p->topic.b, sizeof(p->topic.b)) != 0)
		{
			topic = &response->assignment->topic_partitions.items
				[response->assignment->topic_partitions.count++];
			topic->topic_id = p->topic;
			topic->partitions.items = &partitions[i];
		}
		topic->partitions.items[topic->partitions.count++] = p->partition;
	}
}

/*
 * When the member's next heartbeat is due.  Who waits, for partitions that others still have or
 * for a new target, asks sooner: partitions that were given up have no owner until it does.  All
 * members together no more often than once a millisecond.
 */
static int32_t
heartbeat_interval(const KGroup *g, const KGMember *member)
{
	int32_t		interval = g->env->config.consumer_heartbeat_ms;
	int32_t		sooner = interval / SOONER;

	if (member->state != KG_MEMBER_UNRELEASED && g->assignment_epoch == g->generation)
		return interval;
	if (sooner < SOONER_MIN_MS)
		sooner = SOONER_MIN_MS;
	if (sooner < g->nmembers)
		sooner = g->nmembers;
	return sooner < interval ? sooner : interval;
}

KGroupResult
kgroup_consumer_heartbeat(KGroup *g, const KGroupCaller *caller,
						  const KConsumerGroupHeartbeatRequest *request)
{
	bool		joins = request->member_epoch == KG_EPOCH_JOIN;
	KStr		member_id = request->member_id;
	KConsumerGroupHeartbeatResponse *response;
	const KAssignor *assignor;
	KGPartitions *owned;
	KGPartitions before;
	KGMember   *member;
	const char *problem;
	bool		names_changed;
	bool		regex_changed;
	bool		bump;
	int16_t		error;

	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);
	problem = check_request(g, caller->waiter.api_version, request);
	if (problem != NULL)
		return refuse(g, caller, KERR_INVALID_REQUEST, problem);
	assignor = kassign_find(request->server_assignor);
	if (request->server_assignor.len >= 0 && (assignor == NULL || !is_offered(g, assignor)))
		return refuse(g, caller, KERR_UNSUPPORTED_ASSIGNOR, "no such assignor");
	if (request->member_epoch < 0)
		return leave(g, caller, request);

	error = find_group(g, joins);
	if (error != KERR_NONE)
		return refuse(g, caller, error, "no such consumer group");
	if (g->nmembers >= g->env->config.consumer_max_size && kg_member(g, member_id) == NULL)
		return refuse(g, caller, KERR_GROUP_MAX_SIZE_REACHED, "the group is full");
	if (!kg_present(member_id))
		member_id = kg_new_member_id(g, KSTR_NULL);
	owned = owned_partitions(g, request);
	member = find_member(g, member_id, request, owned, &error);
	if (member == NULL)
		return refuse(g, caller, error, "the member is unknown or fenced");

	/* A step puts a new set in the place of the old one, so this remembers it. */
	before = member->assigned;
	names_changed = update_member(g, member, caller, request);
	regex_changed = request->subscribed_topic_regex.len >= 0 &&
		!kg_str_equal(request->subscribed_topic_regex, member->regex);
	if (regex_changed)
	{
		member->regex = request->subscribed_topic_regex;
		kg_dirty_member(g, member);
		if (kg_present(member->regex) && !kg_resolve_regex(g, member->regex))
			return refuse(g, caller, KERR_INVALID_REGULAR_EXPRESSION,
						  "no regular expression, one that is too expensive, or one too many");
		kg_drop_regexes(g);
	}
	bump = kg_refresh_regexes(g) || names_changed || regex_changed;
	if (bump || g->topics_version != g->env->topics_version)
		kg_update_epoch(g, bump);
	kg_update_target(g);
	kg_reconcile(g, member, owned, names_changed || regex_changed);
	kg_schedule_session(g, member, g->env->config.consumer_session_timeout_ms);

	response = new_response(g, KERR_NONE, NULL);
	response->member_id = member->id;
	response->member_epoch = member->epoch;
	response->heartbeat_interval_ms = heartbeat_interval(g, member);
	if (joins || !kg_same_partitions(&before, &member->assigned, true) ||
		(request->rebalance_timeout_ms != -1 && request->topic_partitions.count >= 0 &&
		 (request->subscribed_topic_names.count >= 0 ||
		  request->subscribed_topic_regex.len >= 0)))
		set_assignment(g, member, response);
	kg_answer(g, caller->waiter, KAPI_CONSUMER_GROUP_HEARTBEAT, response, true);
	return kg_finish_bounded(g);
}
