/*
 * group_requests.h
 *		For group_classic_test.c: requests in one line, and what is looked at in answers.
 */
#ifndef GROUP_REQUESTS_H
#define GROUP_REQUESTS_H

#include "group_world.h"

static World world;
static World *w = &world;

/* ---- requests in one line ---- */

typedef struct Join
{
	const char *member;			/* NULL: "" */
	const char *instance;
	const char *type;			/* NULL: "consumer" */
	const char *protocols[3];	/* NULL: "range" */
	const char *metadata;		/* of all of them */
	int			version;		/* 0: 9 */
	int			session;
	int			rebalance;
} Join;

static int64_t
join_as(Join j)
{
	KJoinGroupRequest request;
	KJoinGroupRequestProtocol protocols[3];

	kmsg_init(&kmsg_join_group_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(j.member ? j.member : "");
	request.group_instance_id = str(j.instance);
	request.protocol_type = str(j.type ? j.type : "consumer");
	request.session_timeout_ms = j.session ? j.session : 10000;
	request.rebalance_timeout_ms = j.rebalance ? j.rebalance : 60000;
	request.protocols.items = protocols;
	if (j.protocols[0] == NULL)
		j.protocols[0] = "range";
	while (request.protocols.count < 3 && j.protocols[request.protocols.count] != NULL)
	{
		const char *metadata = j.metadata ? j.metadata : "m";

		protocols[request.protocols.count] = (KJoinGroupRequestProtocol)
		{
			.name = str(j.protocols[request.protocols.count]),
			.metadata = {(const uint8_t *) metadata, (int32_t) strlen(metadata)}
		};
		request.protocols.count++;
	}
	return world_send(w, KAPI_JOIN_GROUP, j.version ? j.version - 1 : 9, &request, 0);
}

#define JOIN(...)	join_as((Join) {__VA_ARGS__})
/* Join.version is the API's version plus one, so that 0 can mean the latest. */
#define V(n)		((n) + 1)

static int64_t
sync_as(const char *member, int32_t generation, const char *instance, const char *const *assign)
{
	KSyncGroupRequest request;
	KSyncGroupRequestAssignment assignments[8];

	kmsg_init(&kmsg_sync_group_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(member);
	request.group_instance_id = str(instance);
	request.generation_id = generation;
	request.protocol_type = KSTR("consumer");
	request.protocol_name = KSTR("range");
	request.assignments.items = assignments;
	while (assign != NULL && *assign != NULL)
	{
		assignments[request.assignments.count++] = (KSyncGroupRequestAssignment)
		{
			.member_id = str(assign[0]),
			.assignment = {(const uint8_t *) assign[1], (int32_t) strlen(assign[1])}
		};
		assign += 2;
	}
	return world_send(w, KAPI_SYNC_GROUP, 5, &request, 0);
}

static int
heartbeat_as(const char *member, int32_t generation, const char *instance)
{
	KHeartbeatRequest request;
	int64_t		number;

	kmsg_init(&kmsg_heartbeat_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(member);
	request.generation_id = generation;
	request.group_instance_id = str(instance);
	number = world_send(w, KAPI_HEARTBEAT, 4, &request, 0);
	return ((const KHeartbeatResponse *) w->requests[number].response)->error_code;
}

static int
leave_as(const char *member, const char *instance)
{
	KLeaveGroupRequest request;
	KLeaveGroupRequestMember identity;
	const KLeaveGroupResponse *response;
	int64_t		number;

	kmsg_init(&kmsg_leave_group_request, &request);
	kmsg_init(&kmsg_leave_group_request_member, &identity);
	request.group_id = KSTR("g");
	identity.member_id = str(member);
	identity.group_instance_id = str(instance);
	request.members.items = &identity;
	request.members.count = 1;
	number = world_send(w, KAPI_LEAVE_GROUP, 5, &request, 0);
	response = w->requests[number].response;
	return response->error_code != 0 ? response->error_code : response->members.items[0].error_code;
}

/* ---- answers ---- */

static const KJoinGroupResponse *
joined(int64_t number)
{
	return w->requests[number].api == KAPI_JOIN_GROUP ? w->requests[number].response : NULL;
}

static const KSyncGroupResponse *
synced(int64_t number)
{
	return w->requests[number].api == KAPI_SYNC_GROUP ? w->requests[number].response : NULL;
}

/* -2: not answered */
static int
error_of(int64_t number)
{
	if (w->requests[number].response == NULL)
		return -2;
	return w->requests[number].api == KAPI_JOIN_GROUP ? joined(number)->error_code :
		synced(number)->error_code;
}

static const char *
text(KStr s)
{
	static char buffers[8][128];
	static int	next;
	char	   *buffer = buffers[next++ % 8];

	snprintf(buffer, 128, "%.*s", s.len > 0 ? s.len : 0, s.data);
	return s.len < 0 ? NULL : buffer;
}

static const char *
assigned(int64_t number)
{
	const KSyncGroupResponse *response = synced(number);

	return response == NULL ? "(none)" :
		text((KStr) {(const char *) response->assignment.data, response->assignment.len});
}

static void
is_state(KGroupState state, const char *what)
{
	is_str(kgroup_state_name(world_summary(w).state), kgroup_state_name(state), what);
}

#endif							/* GROUP_REQUESTS_H */
