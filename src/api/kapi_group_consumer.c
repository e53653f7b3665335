/*
 * kapi_group_consumer.c
 *		ConsumerGroupHeartbeat, ConsumerGroupDescribe: the protocol of KIP-848.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "api/kapi_group.h"
#include "api/kapi_wait.h"

#define MSG_NOT_AUTHORIZED	"the group has topics that the client may not describe"

/* ------------------------------------------------------------------------
 * ConsumerGroupHeartbeat
 * ------------------------------------------------------------------------
 */

void
kapi_consumer_group_heartbeat_fail(KRequest *req, int16 error)
{
	KConsumerGroupHeartbeatResponse resp;

	kmsg_init(&kmsg_consumer_group_heartbeat_response, &resp);
	resp.error_code = error;
	kapi_answer(req, &resp);
}

/* May the client know of the topics that it names?  False: busy. */
static bool
check_topics(KRequest *req, int16 *error)
{
	const KConsumerGroupHeartbeatRequest *body = req->body;

	*error = KERR_NONE;
	for (int32 i = 0; i < body->subscribed_topic_names.count; i++)
	{
		bool		busy;
		const KTopic *topic = kapi_topic(body->subscribed_topic_names.items[i], &busy);

		if (busy)
			return false;
		if (topic != NULL && !kacl_topic_describe(topic->relid, kapi_role(req)))
			*error = KERR_TOPIC_AUTHORIZATION_FAILED;
	}
	return true;
}

/* Most heartbeats only prolong a session.  True: it is answered. */
static bool
prolong(KRequest *req)
{
	const KConsumerGroupHeartbeatRequest *body = req->body;
	KConsumerGroupHeartbeatResponse resp;
	KGroupWork	work;
	KCoordSlot *slot;
	bool		done = false;

	if (kapi_group_check(body->group_id) != KERR_NONE || !kapi_group_work(&work))
		return false;
	kapi_group_configure(&work, body->group_id);
	if (kcoord_lock(body->group_id, false, &slot) == KCOORD_LOCKED)
	{
		size_t		len;
		uint8	   *image = kcoord_image(slot, &len);

		done = image != NULL &&
			kgroup_image_consumer_heartbeat(&work.env, image, len, kcoord_now(), body);
		kcoord_unlock(slot);
	}
	kmsg_init(&kmsg_consumer_group_heartbeat_response, &resp);
	resp.member_id = body->member_id;
	resp.member_epoch = body->member_epoch;
	resp.heartbeat_interval_ms = work.env.config.consumer_heartbeat_ms;
	kapi_group_work_end(&work);
	if (done)
		kapi_answer(req, &resp);
	return done;
}

static KGroupResult
heartbeat_event(KGroup *g, const KGroupCaller *caller, const void *body)
{
	return kgroup_consumer_heartbeat(g, caller, body);
}

void
kapi_consumer_group_heartbeat(KRequest *req)
{
	const KConsumerGroupHeartbeatRequest *body = req->body;
	int16		error;

	if (body->group_id.len == 0 || body->member_id.len > KCOORD_ID_MAX ||
		body->instance_id.len > KCOORD_ID_MAX)
	{
		kapi_fail(req, KERR_INVALID_REQUEST);
		return;
	}
	if (!kapi_group_topics() || !check_topics(req, &error))
	{
		kapi_retry(req, kapi_consumer_group_heartbeat);
		return;
	}
	if (error != KERR_NONE)
		kapi_fail(req, error);
	else if (!prolong(req))
		kapi_group_event(req, body->group_id, body->member_epoch == 0, heartbeat_event,
						 kapi_consumer_group_heartbeat);
}

/* ------------------------------------------------------------------------
 * ConsumerGroupDescribe
 * ------------------------------------------------------------------------
 */

void
kapi_consumer_group_describe_fail(KRequest *req, int16 error)
{
	const KConsumerGroupDescribeRequest *body = req->body;
	KConsumerGroupDescribeResponse resp;

	kmsg_init(&kmsg_consumer_group_describe_response, &resp);
	resp.groups.count = body->group_ids.count;
	resp.groups.items = kapi_items(&kmsg_consumer_group_describe_response,
								   offsetof(KConsumerGroupDescribeResponse, groups),
								   resp.groups.count, NULL);
	for (int32 i = 0; i < resp.groups.count; i++)
	{
		resp.groups.items[i].group_id = body->group_ids.items[i];
		resp.groups.items[i].error_code = error;
	}
	kapi_answer(req, &resp);
}

static bool
may_see(const KConsumerGroupDescribeResponseAssignment *assignment, Oid role)
{
	for (int32 i = 0; i < assignment->topic_partitions.count; i++)
	{
		bool		busy;
		const KTopic *topic =
			kapi_topic_by_uuid(&assignment->topic_partitions.items[i].topic_id, &busy);

		if (topic == NULL || !kacl_topic_describe(topic->relid, role))
			return false;
	}
	return true;
}

/* A group with a topic that the client may not know of is not described at all. */
static void
hide_topics(KConsumerGroupDescribeResponseGroup *group, Oid role)
{
	bool		seen = true;

	for (int32 i = 0; seen && i < group->members.count; i++)
		seen = may_see(&group->members.items[i].assignment, role) &&
			may_see(&group->members.items[i].target_assignment, role);
	if (!seen)
	{
		KStr		id = group->group_id;

		kmsg_init(&kmsg_consumer_group_describe_response_group, group);
		group->group_id = id;
		group->error_code = KERR_TOPIC_AUTHORIZATION_FAILED;
		group->error_message = kapi_kstr(MSG_NOT_AUTHORIZED);
	}
}

/* How far a request has come. */
typedef struct Describing
{
	KDescribing work;
	KConsumerGroupDescribeResponse resp;
} Describing;

static bool
describe_one(KRequest *req, int32 i)
{
	const KConsumerGroupDescribeRequest *body = req->body;
	Describing *describing = req->work;
	KConsumerGroupDescribeResponseGroup *out = &describing->resp.groups.items[i];
	KStr		id = body->group_ids.items[i];
	int16		error = KERR_INVALID_GROUP_ID;
	KGroup	   *g = NULL;

	describing->work.group.ctx = NULL;
	if (id.len != 0)
		g = kapi_group_open_described(&describing->work, id, &error);
	if (g == NULL && error == KERR_NONE)
		return false;
	out->group_id = id;
	out->error_code = error;
	if (g == NULL)
		return true;
	if (!kgroup_consumer_describe(g, out))
	{
		kmsg_init(&kmsg_consumer_group_describe_response_group, out);
		out->group_id = id;
		out->error_code = KERR_COORDINATOR_NOT_AVAILABLE;
	}
	hide_topics(out, kapi_role(req));
	if (body->include_authorized_operations && out->error_code == KERR_NONE)
		out->authorized_operations = KAPI_GROUP_OPERATIONS;
	return true;
}

void
kapi_consumer_group_describe(KRequest *req)
{
	const KConsumerGroupDescribeRequest *body = req->body;
	Describing *work = req->work;

	if (work == NULL)
	{
		req->work = work = palloc0_object(Describing);
		kmsg_init(&kmsg_consumer_group_describe_response, &work->resp);
		work->resp.groups.items = kapi_items(&kmsg_consumer_group_describe_response,
											 offsetof(KConsumerGroupDescribeResponse, groups),
											 body->group_ids.count, NULL);
		work->resp.groups.count = body->group_ids.count;
	}
	if (kapi_group_describe(req, &work->work, body->group_ids.count, describe_one,
							kapi_consumer_group_describe))
		kapi_answer(req, &work->resp);
}
