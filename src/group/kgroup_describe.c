/*
 * kgroup_describe.c
 *		DescribeGroups and ConsumerGroupDescribe of one group.
 */
#include "group/kgroup_int.h"
#include "group/kgroup_assign.h"

static KStr
from_c(const char *s)
{
	return (KStr) {s, (int32_t) strlen(s)};
}

static KStr
message(KGroup *g, const char *tail)
{
	size_t		len = strlen(tail);
	int32_t		id_len = g->id.len > 0 ? g->id.len : 0;
	char	   *text = kg_alloc(g, (size_t) id_len + len + 6);

	memcpy(text, "Group ", 6);
	if (id_len > 0)
		memcpy(text + 6, g->id.data, (size_t) id_len);
	memcpy(text + 6 + id_len, tail, len);
	return (KStr) {text, (int32_t) (id_len + (int32_t) len + 6)};
}

/* Kafka up to version 5 says of a group that it does not have that it is dead, and no error. */
bool
kgroup_describe(KGroup *g, int version, KDescribeGroupsResponseGroup *out)
{
	kmsg_init(&kmsg_describe_groups_response_group, out);
	out->group_id = g->id;
	if (KG_NO_MEMORY(g))
		return false;
	if (g->type != KGROUP_CLASSIC)
	{
		out->group_state = from_c(kgroup_state_name(KGROUP_DEAD));
		if (version >= 6)
		{
			out->error_code = KERR_GROUP_ID_NOT_FOUND;
			out->error_message = message(g, g->type == KGROUP_NONE ? " not found." :
										 " is not a classic group.");
		}
		return true;
	}

	out->group_state = from_c(kgroup_state_name(g->state));
	out->protocol_type = g->protocol_type.len > 0 ? g->protocol_type : KSTR("");
	if (g->state == KGROUP_STABLE && g->protocol_name.len > 0)
		out->protocol_data = g->protocol_name;
	out->members.items = kmsg_new(&kmsg_describe_groups_response_member, g->nmembers,
								  g->env->arena);
	if (g->nmembers > 0 && out->members.items == NULL)
		return false;
	out->members.count = g->nmembers;
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		const KGMember *member = g->members[i];
		KDescribeGroupsResponseMember *item = &out->members.items[i];

		item->member_id = member->id;
		item->group_instance_id = member->instance_id;
		item->client_id = member->client_id.len > 0 ? member->client_id : KSTR("");
		item->client_host = member->client_host.len > 0 ? member->client_host : KSTR("");
		item->member_assignment = member->assignment;
		if (g->state == KGROUP_STABLE)
			item->member_metadata = kg_protocol_metadata(member, g->protocol_name);
	}
	return true;
}

/* Topics that do not exist any more are left out, as in Kafka. */
static void
describe_partitions(KGroup *g, const KGPartitions *set,
					KConsumerGroupDescribeResponseAssignment *out)
{
	KConsumerGroupDescribeResponseTopicPartition *topic = NULL;
	int32_t    *partitions = kg_alloc(g, (size_t) (set->count + 1) * sizeof(int32_t));
	const KUuid *last = NULL;
	KGroupTopic found;

	out->topic_partitions.items = kg_alloc(g, (size_t) (set->count + 1) * sizeof(*topic));
	out->topic_partitions.count = 0;
	for (int32_t i = 0; i < set->count; i++)
	{
		if (last == NULL || memcmp(last->b, set->items[i].topic.b, sizeof(last->b)) != 0)
		{
			last = &set->items[i].topic;
			topic = NULL;
			if (g->env->topic_by_id(g->env->arg, last, &found))
			{
				topic = &out->topic_partitions.items[out->topic_partitions.count++];
				topic->topic_id = *last;
				topic->topic_name = kg_copy(g, found.name);
				topic->partitions.items = &partitions[i];
			}
		}
		if (topic != NULL)
			topic->partitions.items[topic->partitions.count++] = set->items[i].partition;
	}
}

static void
describe_member(KGroup *g, const KGMember *member, KConsumerGroupDescribeResponseMember *out)
{
	KGPartitions both = {kg_alloc(g, (size_t) (member->assigned.count +
											   member->revoking.count + 1) *
								  sizeof(KGPartition)), 0};

	out->member_id = member->id;
	out->instance_id = member->instance_id;
	out->rack_id = member->rack_id;
	out->member_epoch = member->epoch;
	out->client_id = member->client_id.len > 0 ? member->client_id : KSTR("");
	out->client_host = member->client_host.len > 0 ? member->client_host : KSTR("");
	out->subscribed_topic_names = member->topics;
	out->subscribed_topic_regex = member->regex.len > 0 ? member->regex : KSTR("");
	out->member_type = member->classic ? 0 : 1;

	/* It may still be working on what it is to give up. */
	for (int32_t i = 0; i < member->assigned.count; i++)
		both.items[both.count++] = member->assigned.items[i];
	for (int32_t i = 0; i < member->revoking.count; i++)
		both.items[both.count++] = member->revoking.items[i];
	kg_sort_partitions(&both);
	describe_partitions(g, &both, &out->assignment);
	describe_partitions(g, &member->target, &out->target_assignment);
}

bool
kgroup_consumer_describe(KGroup *g, KConsumerGroupDescribeResponseGroup *out)
{
	kmsg_init(&kmsg_consumer_group_describe_response_group, out);
	out->group_id = g->id;
	if (KG_NO_MEMORY(g))
		return false;
	if (g->type != KGROUP_CONSUMER)
	{
		out->error_code = KERR_GROUP_ID_NOT_FOUND;
		out->error_message = message(g, g->type == KGROUP_NONE ? " not found." :
									 " is not a consumer group.");
		return true;
	}

	out->group_state = from_c(kgroup_state_name(kg_consumer_state(g)));
	out->group_epoch = g->generation;
	out->assignment_epoch = g->assignment_epoch;
	out->assignor_name = from_c(kg_preferred_assignor(g)->name);
	out->members.items = kmsg_new(&kmsg_consumer_group_describe_response_member, g->nmembers,
								  g->env->arena);
	if (g->nmembers > 0 && out->members.items == NULL)
		return false;
	out->members.count = g->nmembers;
	for (int32_t i = 0; i < g->nmembers; i++)
		describe_member(g, g->members[i], &out->members.items[i]);
	return true;
}
