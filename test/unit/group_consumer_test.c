/*
 * group_consumer_test.c
 *		Consumer groups (KIP-848), rule by rule: heartbeats, epochs, reconciliation, static
 *		members, patterns, restarts, offsets; and groups with members of both protocols.
 */
#include "tap.h"

#include "group_world.h"

static World world;
static World *w = &world;

/* ---- requests in one line ---- */

/*
 * A group has this epoch before it has a member: what follows counts from there.  Groups that were
 * classic ones count on from their generation.
 */
static int	first_epoch = 1;

typedef struct Beat
{
	const char *member;
	int32_t		epoch;
	const char *topics;			/* blank-separated; NULL: not named */
	const char *regex;
	const char *owned;			/* as set_text(); NULL: not named, unless it joins */
	const char *instance;
	const char *assignor;
	const char *rack;
	int			rebalance;		/* 0: -1, or 60000 if it joins */
	int			version;		/* 0: 1 */
} Beat;

/* "t:0,1 u:2" to arrays */
static void
parse_owned(const char *owned, KConsumerGroupHeartbeatRequestTopicPartition *items, int32_t *count,
			int32_t *numbers)
{
	*count = 0;
	while (*owned != '\0')
	{
		const char *colon = strchr(owned, ':');
		KGroupTopic topic;

		if (!world_by_name(w, (KStr) {owned, (int32_t) (colon - owned)}, &topic))
			abort();
		items[*count] = (KConsumerGroupHeartbeatRequestTopicPartition) {.topic_id = topic.id};
		items[*count].partitions.items = numbers;
		owned = colon;
		while (*owned == ':' || *owned == ',')
		{
			char	   *end;

			*numbers++ = (int32_t) strtol(owned + 1, &end, 10);
			items[*count].partitions.count++;
			owned = end;
		}
		(*count)++;
		owned += *owned == ' ';
	}
}

static int64_t
beat_as(Beat b)
{
	KConsumerGroupHeartbeatRequest request;
	KConsumerGroupHeartbeatRequestTopicPartition owned[8];
	int32_t		numbers[64];
	KStr		names[8];

	kmsg_init(&kmsg_consumer_group_heartbeat_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(b.member ? b.member : "");
	request.member_epoch = b.epoch > 0 ? b.epoch + first_epoch : b.epoch;
	request.instance_id = str(b.instance);
	request.rack_id = str(b.rack);
	request.server_assignor = str(b.assignor);
	request.subscribed_topic_regex = str(b.regex);
	request.rebalance_timeout_ms = b.rebalance ? b.rebalance : b.epoch == 0 ? 60000 : -1;
	if (b.owned != NULL || b.epoch == 0)
	{
		request.topic_partitions.items = owned;
		parse_owned(b.owned ? b.owned : "", owned, &request.topic_partitions.count, numbers);
	}
	if (b.topics != NULL)
	{
		const char *p = b.topics;

		request.subscribed_topic_names.items = names;
		request.subscribed_topic_names.count = 0;
		while (*p != '\0')
		{
			size_t		len = strcspn(p, " ");

			names[request.subscribed_topic_names.count++] = (KStr) {p, (int32_t) len};
			p += len + (p[len] == ' ');
		}
	}
	return world_send(w, KAPI_CONSUMER_GROUP_HEARTBEAT, b.version ? b.version - 1 : 1, &request,
					  0);
}

#define BEAT(...)	beat_as((Beat) {__VA_ARGS__})

static const KConsumerGroupHeartbeatResponse *
beaten(int64_t number)
{
	return w->requests[number].response;
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

/* "epoch t:0,1 u:2", "epoch" without an assignment, or "error". */
static const char *
got(int64_t number)
{
	static char buffers[8][256];
	static int	next;
	char	   *buffer = buffers[next++ % 8];
	char	   *out = buffer;
	const KConsumerGroupHeartbeatResponse *response = beaten(number);

	if (response == NULL)
		return "no answer";
	if (response->error_code != 0)
		return kerr_name(response->error_code);
	out += sprintf(out, "%d", response->member_epoch > 0 ? response->member_epoch - first_epoch :
				   response->member_epoch);
	if (response->assignment == NULL)
		return buffer;
	out += sprintf(out, " [");
	/* by name, since ids are random */
	for (int i = 0; i < WORLD_TOPICS; i++)
	{
		for (int32_t t = 0; t < response->assignment->topic_partitions.count; t++)
		{
			const KConsumerGroupHeartbeatResponseTopicPartition *topic =
				&response->assignment->topic_partitions.items[t];

			if (memcmp(topic->topic_id.b, w->topics[i].id.b, 16) != 0)
				continue;
			out += sprintf(out, "%s%s", out[-1] == '[' ? "" : " ", w->topics[i].name);
			for (int32_t p = 0; p < topic->partitions.count; p++)
				out += sprintf(out, "%c%d", p == 0 ? ':' : ',', topic->partitions.items[p]);
		}
	}
	sprintf(out, "]");
	return buffer;
}

static int64_t
join_as(const char *member, const char *instance, const char *metadata, size_t len, int version)
{
	KJoinGroupRequest request;
	KJoinGroupRequestProtocol protocol = {.name = KSTR("range"),
	.metadata = {(const uint8_t *) metadata, (int32_t) len}};

	kmsg_init(&kmsg_join_group_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(member);
	request.group_instance_id = str(instance);
	request.protocol_type = KSTR("consumer");
	request.session_timeout_ms = 10000;
	request.rebalance_timeout_ms = 30000;
	request.protocols.items = &protocol;
	request.protocols.count = 1;
	return world_send(w, KAPI_JOIN_GROUP, version, &request, 0);
}

/* Version 0, topic "t" */
static const char subscribes_t[] = "\0\0" "\0\0\0\1" "\0\1t" "\xff\xff\xff\xff";

static const KJoinGroupResponse *
joined(int64_t number)
{
	return w->requests[number].response;
}

static int64_t
sync_as(const char *member, int32_t generation, const char *assign_to, const char *assignment,
		size_t len)
{
	KSyncGroupRequest request;
	KSyncGroupRequestAssignment item = {.member_id = str(assign_to),
	.assignment = {(const uint8_t *) assignment, (int32_t) len}};

	kmsg_init(&kmsg_sync_group_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(member);
	request.generation_id = generation;
	request.protocol_type = KSTR("consumer");
	request.protocol_name = KSTR("range");
	request.assignments.items = &item;
	request.assignments.count = assign_to != NULL;
	return world_send(w, KAPI_SYNC_GROUP, 5, &request, 0);
}

static const KSyncGroupResponse *
synced(int64_t number)
{
	return w->requests[number].response;
}

static int
classic_beat(const char *member, int32_t generation)
{
	KHeartbeatRequest request;
	int64_t		number;

	kmsg_init(&kmsg_heartbeat_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(member);
	request.generation_id = generation;
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
	return response->members.items[0].error_code;
}

static void
is_state(KGroupState state, const char *what)
{
	is_str(kgroup_state_name(world_summary(w).state), kgroup_state_name(state), what);
}

static void
begin(const char *name)
{
	note("%s", name);
	first_epoch = 1;
	world_init(w, 815);
	w->env.config.assignment_interval_ms = 0;
	w->env.config.initial_delay_ms = 0;
	world_topic(w, "t", 4);
	world_topic(w, "u", 2);
}

static void
end(void)
{
	is_int(w->broken, 0, "the interface's rules held");
	world_end(w);
}

/* ---- tests ---- */

static void
test_requests(void)
{
	begin("requests that are wrong in themselves");
	is_str(got(BEAT(.topics = "t")), "INVALID_REQUEST", "no member id");
	is_str(got(BEAT("m",.topics = "t",.instance = "")), "INVALID_REQUEST", "an empty instance id");
	is_str(got(BEAT("m",.topics = "t",.rack = "")), "INVALID_REQUEST", "an empty rack");
	is_str(got(BEAT("m",.topics = "t",.rebalance = -1)), "INVALID_REQUEST",
		   "who joins without rebalance timeout");
	is_str(got(BEAT("m",.topics = "t",.owned = "t:1")), "INVALID_REQUEST", "with partitions");
	is_str(got(BEAT("m",.epoch = 0)), "INVALID_REQUEST", "without subscription");
	is_str(got(BEAT("m",.epoch = -2)), "INVALID_REQUEST", "a static leave without instance");
	is_str(got(BEAT("m",.epoch = -3)), "INVALID_REQUEST", "a strange epoch");
	is_str(got(BEAT("m",.topics = "t",.assignor = "mine")), "UNSUPPORTED_ASSIGNOR", "an assignor");
	is_str(got(BEAT("m",.epoch = 1)), "GROUP_ID_NOT_FOUND", "no group");
	is_str(got(BEAT("m",.epoch = -1)), "GROUP_ID_NOT_FOUND", "no group to leave");
	is_str(got(BEAT("m",.regex = "(")), "INVALID_REGULAR_EXPRESSION", "not a pattern");
	ok(w->image == NULL, "no group came of this");
	is_int(beaten(BEAT(.topics = "t",.version = 1))->member_id.len, 22,
		   "in version 0 the member id is made here");
	end();
}

static void
test_heartbeat(void)
{
	int64_t		number;

	begin("a group of one");
	number = BEAT("a",.topics = "t u t");
	is_str(got(number), "1 [t:0,1,2,3 u:0,1]", "all is its own");
	is_int(beaten(number)->heartbeat_interval_ms, 5000, "heartbeat interval");
	is_int((int64_t) w->requests[number].version, 1, "durable first");
	is_int(w->nrows, 2, "two rows");
	is_state(KGROUP_STABLE, "stable");
	is_str(got(BEAT("a",.epoch = 1)), "1", "nothing new");
	is_str(got(BEAT("a",.epoch = 2)), "FENCED_MEMBER_EPOCH", "an epoch that is none");
	is_str(got(BEAT("b",.epoch = 1)), "UNKNOWN_MEMBER_ID", "a strange member");
	is_str(got(BEAT("a",.epoch = 1,.topics = "t",.owned = "t:0,1,2,3",.rebalance = 100)),
		   "2 [t:0,1,2,3]", "it unsubscribes from one that it has given up");
	is_str(got(BEAT("a",.epoch = 1,.owned = "t:0")), "2", "an answer may be lost");
	is_str(got(BEAT("a",.epoch = 1,.owned = "t:0 u:0")), "FENCED_MEMBER_EPOCH",
		   "not if it owns too much");
	is_str(got(BEAT("a",.epoch = 1)), "FENCED_MEMBER_EPOCH", "or does not say");
	is_str(got(BEAT("a",.topics = "t")), "2 [t:0,1,2,3]", "it may join again");
	world_pass(w, 44999);
	is_str(got(BEAT("a",.epoch = 2)), "2", "within its session");
	world_pass(w, 45000);
	is_state(KGROUP_EMPTY, "and no longer");
	is_int(world_summary(w).generation, 4, "an epoch more");
	is_str(got(BEAT("a",.epoch = 2)), "UNKNOWN_MEMBER_ID", "it is told so");
	is_int(w->nrows, 1, "and has no row any more");
	end();
}

static void
test_reconcile(void)
{
	int64_t		number;

	begin("partitions on their way");
	BEAT("a",.topics = "t");
	number = BEAT("b",.topics = "t");
	is_str(got(number), "2 []", "the second gets nothing yet");
	is_int(beaten(number)->heartbeat_interval_ms, 500, "it shall ask again sooner");
	is_state(KGROUP_RECONCILING, "reconciling");
	number = BEAT("a",.epoch = 1);
	is_str(got(number), "1 [t:0,1]", "the first is to give up two");
	is_int(beaten(number)->heartbeat_interval_ms, 5000, "it waits for nobody");
	is_str(got(BEAT("b",.epoch = 2)), "2", "the second waits");
	is_str(got(BEAT("a",.epoch = 1,.owned = "t:0,1,2")), "1", "until both are");
	is_str(got(BEAT("b",.epoch = 2)), "2", "it waits");
	is_str(got(BEAT("a",.epoch = 1,.owned = "t:0,1")), "2", "given up");
	number = BEAT("b",.epoch = 2);
	is_str(got(number), "2 [t:2,3]", "and gets them");
	is_int(beaten(number)->heartbeat_interval_ms, 5000, "nor does it any more");
	is_state(KGROUP_STABLE, "stable");

	is_str(got(BEAT("b",.epoch = -1)), "-1", "the second leaves");
	is_str(got(BEAT("a",.epoch = 2)), "3 [t:0,1,2,3]", "the first gets all back at once");
	end();

	begin("who does not give up in time");
	BEAT("a",.topics = "t",.rebalance = 20000);
	BEAT("b",.topics = "t");
	BEAT("a",.epoch = 1);
	world_pass(w, 10000);
	BEAT("a",.epoch = 1,.owned = "t:0,1,2,3");
	BEAT("b",.epoch = 2);
	world_pass(w, 9999);
	is_int(world_summary(w).members, 2, "has his rebalance timeout");
	world_pass(w, 1);
	is_int(world_summary(w).members, 1, "and is out then");
	is_str(got(BEAT("b",.epoch = 2)), "3 [t:0,1,2,3]", "the other gets all");
	is_str(got(BEAT("a",.epoch = 1)), "UNKNOWN_MEMBER_ID", "he is told so");
	end();

	begin("assignors");
	BEAT("a",.topics = "t u",.assignor = "range");
	BEAT("b",.topics = "t u");
	BEAT("a",.epoch = 1);
	is_str(got(BEAT("a",.epoch = 1,.owned = "t:0,1 u:0")), "2", "the one that is asked for");
	is_str(got(BEAT("b",.epoch = 2)), "2 [t:2,3 u:1]", "range");
	end();

	begin("not at every heartbeat");
	w->env.config.assignment_interval_ms = 1000;
	BEAT("a",.topics = "t");
	number = BEAT("b",.topics = "t");
	is_str(got(number), "1 []", "no new target within a second");
	is_int(beaten(number)->heartbeat_interval_ms, 500, "it shall ask again sooner");
	is_state(KGROUP_ASSIGNING, "assigning");
	w->env.config.consumer_heartbeat_ms = 50;
	is_int(beaten(BEAT("b",.epoch = 1))->heartbeat_interval_ms, 50, "never later");
	world_pass(w, 1000);
	is_str(got(BEAT("a",.epoch = 1)), "1 [t:0,1]", "then there is one");
	end();

	begin("groups have a size");
	w->env.config.consumer_max_size = 1;
	BEAT("a",.topics = "t");
	is_str(got(BEAT("b",.topics = "t")), "GROUP_MAX_SIZE_REACHED", "full");
	is_str(got(BEAT("a",.topics = "t")), "1 [t:0,1,2,3]", "not for who is in");
	end();
}

static void
test_topics(void)
{
	char		name[16];
	char		pattern[16];

	begin("topics come and go");
	is_str(got(BEAT("a",.topics = "t v")), "1 [t:0,1,2,3]", "one does not exist");
	world_topic(w, "v", 1);
	is_str(got(BEAT("a",.epoch = 1)), "2 [t:0,1,2,3 v:0]", "it appears");
	world_topic(w, "t", 5);
	is_str(got(BEAT("a",.epoch = 2)), "3 [t:0,1,2,3,4 v:0]", "one grows");
	world_topic(w, "t", 0);
	is_str(got(BEAT("a",.epoch = 3)), "3 [v:0]", "one is dropped");
	is_str(got(BEAT("a",.epoch = 3,.owned = "v:0")), "4", "which is confirmed");
	world_topic(w, "other", 5);
	is_str(got(BEAT("a",.epoch = 4)), "4", "others do not matter");
	end();

	begin("patterns");
	is_str(got(BEAT("a",.regex = "t.*")), "1 [t:0,1,2,3]", "a pattern");
	is_str(got(BEAT("b",.regex = "t.*",.topics = "u")), "2 [u:0,1]", "and a name");
	BEAT("a",.epoch = 1);
	is_str(got(BEAT("a",.epoch = 1,.owned = "t:0,1,2")), "2", "three are enough");
	is_str(got(BEAT("b",.epoch = 2)), "2 [t:3 u:0,1]", "each has three");
	world_topic(w, "t2", 2);
	is_str(got(BEAT("a",.epoch = 2)), "2", "a new topic is not seen at once");
	world_pass(w, 10000);
	BEAT("b",.epoch = 2);
	is_str(got(BEAT("a",.epoch = 2)), "3 [t:0,1,2 t2:0]", "but after 10 s");
	is_str(got(BEAT("a",.epoch = 3,.regex = "",.topics = "u")), "3 []", "it gives the pattern up");
	is_int(koffset_check_delete_topic(world_open(w), KSTR("t2")), KERR_GROUP_SUBSCRIBED_TO_TOPIC,
		   "the other still has it");
	BEAT("b",.epoch = -1);
	is_int(koffset_check_delete_topic(world_open(w), KSTR("t2")), KERR_NONE, "nobody has");
	is_int(koffset_check_delete_topic(world_open(w), KSTR("u")), KERR_GROUP_SUBSCRIBED_TO_TOPIC,
		   "but this one");
	is_str(got(BEAT("a",.epoch = 3,.owned = "")), "5 [u:0,1]", "and gets it");
	is_str(got(BEAT("c",.regex = "(")), "INVALID_REGULAR_EXPRESSION", "not a pattern");
	is_int(world_summary(w).members, 1, "no member came of that");
	end();

	begin("as many patterns as there may be");
	w->starve = 0;
	for (int i = 0; i < KGROUP_MAX_PATTERNS; i++)
	{
		snprintf(name, sizeof(name), "m%d", i);
		snprintf(pattern, sizeof(pattern), "x%d.*", i);
		BEAT(name,.regex = pattern);
	}
	is_int(world_summary(w).members, KGROUP_MAX_PATTERNS, "a pattern each");
	is_str(got(BEAT("one",.regex = "y.*")), "INVALID_REGULAR_EXPRESSION", "another one");
	is_int(beaten(BEAT("one",.regex = "x7.*"))->error_code, KERR_NONE, "one that there is");
	is_int(beaten(BEAT("m9",.regex = "y.*"))->error_code, KERR_NONE, "one in another's place");
	is_str(got(BEAT("m7",.regex = "z.*")), "INVALID_REGULAR_EXPRESSION", "which somebody else has");
	end();
}

static void
test_static(void)
{
	begin("static members");
	BEAT("a",.topics = "t",.instance = "i");
	is_str(got(BEAT("b",.topics = "t",.instance = "i")), "UNRELEASED_INSTANCE_ID",
		   "nobody may take the place of one");
	is_str(got(BEAT("b",.epoch = 1,.instance = "i")), "FENCED_INSTANCE_ID", "nor speak for it");
	is_str(got(BEAT("b",.epoch = 1,.instance = "j")), "UNKNOWN_MEMBER_ID", "or for none");
	is_str(got(BEAT("b",.epoch = -2,.instance = "i")), "FENCED_INSTANCE_ID", "nor leave for it");
	is_str(got(BEAT("a",.epoch = -2,.instance = "i")), "-2", "it leaves for a while");
	is_state(KGROUP_RECONCILING, "the group waits");
	is_str(got(BEAT("c",.topics = "t")), "2 []", "others get nothing of it");
	is_str(got(BEAT("b",.topics = "t",.instance = "i")), "2 [t:0,1]", "it comes back, another id");
	is_str(got(BEAT("c",.epoch = 2)), "2 [t:2,3]", "which has nothing to give up");
	is_int(w->nrows, 3, "the old id has no row");
	is_str(got(BEAT("a",.epoch = 1,.instance = "i")), "FENCED_INSTANCE_ID", "and is fenced");
	BEAT("b",.epoch = -2,.instance = "i");
	world_pass(w, 44999);
	BEAT("c",.epoch = 2);
	is_int(world_summary(w).members, 2, "it has its session");
	world_pass(w, 1);
	is_int(world_summary(w).members, 1, "and no longer");
	is_str(got(BEAT("c",.epoch = 2)), "3 [t:0,1,2,3]", "the others get its part");
	end();
}

static void
test_durable(void)
{
	KConsumerGroupDescribeResponseGroup out;

	begin("restarts");
	BEAT("a",.topics = "t",.rack = "r");
	BEAT("b",.regex = "t.*",.instance = "i");
	BEAT("a",.epoch = 1);
	ok(world_restart(w), "a restart on the way");
	is_str(got(BEAT("b",.epoch = 2,.instance = "i")), "2", "one still waits");
	is_str(got(BEAT("a",.epoch = 1,.owned = "t:0,1")), "2", "one still gives up");
	ok(world_restart(w), "another one");
	is_str(got(BEAT("b",.epoch = 2,.instance = "i")), "2 [t:2,3]", "and one gets");
	ok(world_restart(w), "a third one");
	is_state(KGROUP_STABLE, "stable");
	is_str(got(BEAT("a",.epoch = 2)), "2", "members go on");

	ok(kgroup_consumer_describe(world_open(w), &out), "describe");
	is_str(text(out.group_state), "Stable", "state");
	is_str(text(out.assignor_name), "uniform", "assignor");
	is_int(out.group_epoch, 3, "group epoch");
	is_int(out.assignment_epoch, 3, "assignment epoch");
	is_int(out.members.count, 2, "members");
	for (int i = 0; i < 2; i++)
	{
		const KConsumerGroupDescribeResponseMember *member = &out.members.items[i];
		bool		a = text(member->member_id)[0] == 'a';

		is_str(text(member->rack_id), a ? "r" : NULL, "rack");
		is_str(text(member->instance_id), a ? NULL : "i", "instance");
		is_str(text(member->subscribed_topic_regex), a ? "" : "t.*", "pattern");
		is_int(member->member_epoch, 3, "epoch");
		is_int(member->member_type, 1, "type");
		is_str(text(member->client_host), "/127.0.0.1", "host");
		is_int(member->assignment.topic_partitions.count, 1, "assignment");
		is_str(text(member->assignment.topic_partitions.items[0].topic_name), "t", "  topic");
		is_int(member->assignment.topic_partitions.items[0].partitions.items[0], a ? 0 : 2, "  ...");
		is_int(member->target_assignment.topic_partitions.items[0].partitions.count, 2, "target");
	}
	world_pass(w, 45000);
	is_state(KGROUP_EMPTY, "sessions end after a restart, too");
	end();

	begin("one who gives up, and a restart");
	BEAT("a",.topics = "t",.rebalance = 20000);
	BEAT("b",.topics = "t");
	BEAT("a",.epoch = 1);
	ok(world_restart(w), "restart");
	world_pass(w, 20000);
	is_int(world_summary(w).members, 1, "he has the rebalance timeout again");
	for (int32_t i = 0; i < w->nrows; i++)
	{
		w->rows[i].len--;
		ok(!world_restart(w), "a row without its end is refused");
		w->rows[i].len++;
	}
	world_restart(w);
	end();
}

static void
test_offsets(void)
{
	KOffsetCommitter c = {.member_id = KSTR("a"),.instance_id = KSTR_NULL,.generation = 3,
	.api_version = 9};
	int16_t		error;
	bool		by_partition;
	KGroup	   *g;

#define CHECK(want, what) \
	(g = world_open(w), koffset_check_commit(g, &c, &error, &by_partition), \
	 is_int(error, want, what))

	begin("offsets");
	BEAT("a",.topics = "t");
	BEAT("b",.topics = "t");
	BEAT("a",.epoch = 1);
	BEAT("a",.epoch = 1,.owned = "t:0,1");
	CHECK(KERR_NONE, "of the member's epoch");
	ok(!by_partition, "  of any partition");
	ok(koffset_image_commit(w->image, w->image_len, w->now, &c), "  without opening the group");
	c.generation = 4;
	CHECK(KERR_STALE_MEMBER_EPOCH, "of one to come");
	c.transactional = true;
	CHECK(KERR_ILLEGAL_GENERATION, "  in a transaction");
	c.transactional = false;
	c.generation = 2;
	CHECK(KERR_NONE, "of an older one");
	ok(by_partition, "  the partition counts");
	is_int(koffset_check_partition(g, &c, &w->topics[0].id, 0), KERR_NONE, "  had since then");
	is_int(koffset_check_partition(g, &c, &w->topics[0].id, 3), KERR_STALE_MEMBER_EPOCH,
		   "  not had any more");
	ok(!koffset_image_commit(w->image, w->image_len, w->now, &c), "  opens the group");
	c.generation = 3;
	c.api_version = 8;
	CHECK(KERR_UNSUPPORTED_VERSION, "of an old client");
	c.api_version = 9;
	c.member_id = KSTR("x");
	CHECK(KERR_UNKNOWN_MEMBER_ID, "of a stranger");
	c.member_id = KSTR("");
	c.generation = -1;
	CHECK(KERR_UNKNOWN_MEMBER_ID, "of nobody");
	c.transactional = true;
	CHECK(KERR_NONE, "  in a transaction it may");
	c.transactional = false;

	is_int(koffset_check_fetch(g, KSTR_NULL, -1), KERR_NONE, "fetch, as nobody");
	is_int(koffset_check_fetch(g, KSTR("a"), 3), KERR_NONE, "  as a member");
	is_int(koffset_check_fetch(g, KSTR("a"), 2), KERR_STALE_MEMBER_EPOCH, "  of an old epoch");
	is_int(koffset_check_fetch(g, KSTR("x"), 1), KERR_UNKNOWN_MEMBER_ID, "  as a stranger");
	ok(!koffset_expired(g, KSTR("t"), 0, -1, 1), "what is read does not expire");
	ok(koffset_expired(g, KSTR("u"), 0, -1, 1), "what is not read does");
	BEAT("a",.epoch = -1);
	BEAT("b",.epoch = -1);
	CHECK(KERR_NONE, "an empty group's, by nobody");
	end();
}

static void
test_at_rest(void)
{
	KConsumerGroupHeartbeatRequest request;

	begin("heartbeats at rest");
	BEAT("a",.topics = "t",.instance = "i");
	kmsg_init(&kmsg_consumer_group_heartbeat_request, &request);
	request.member_id = KSTR("a");
	request.instance_id = KSTR("i");
	request.member_epoch = 2;
#define AT_REST	\
	kgroup_image_consumer_heartbeat(&w->env, w->image, w->image_len, w->now, &request)
	for (int i = 0; i < 3; i++)
	{
		world_pass(w, 40000);
		ok(AT_REST, "in the image");
	}
	is_int(world_summary(w).members, 1, "the session goes on");
	request.rebalance_timeout_ms = 5;
	ok(!AT_REST, "not if it says something");
	request.rebalance_timeout_ms = -1;
	request.member_epoch = 3;
	ok(!AT_REST, "not with another epoch");
	request.member_epoch = 2;
	world_topic(w, "x", 1);
	ok(!AT_REST, "not when topics have changed");
	BEAT("a",.epoch = 1);
	ok(AT_REST, "until that is looked at");
	BEAT("b",.topics = "t");
	ok(!AT_REST, "not when there is something to do");
	end();
}

/* A classic group of one, which has partitions 0 and 1 of t. */
static void
classic_group(char *id)
{
	static const char two[] = "\0\0" "\0\0\0\1" "\0\1t" "\0\0\0\2" "\0\0\0\0" "\0\0\0\1"
	"\xff\xff\xff\xff";
	int64_t		number = join_as("", NULL, subscribes_t, sizeof(subscribes_t) - 1, 3);

	first_epoch = 0;
	world_pass(w, 0);
	strcpy(id, text(joined(number)->member_id));
	sync_as(id, 1, id, two, sizeof(two) - 1);
}

static void
test_upgrade(void)
{
	char		id[128];
	int64_t		number;

	begin("from classic to consumer");
	classic_group(id);
	is_str(got(BEAT("a",.epoch = 1)), "GROUP_ID_NOT_FOUND", "not for who does not join");
	is_str(got(BEAT("a",.topics = "t")), "2 [t:2,3]", "the first one with the new protocol");
	is_int(world_summary(w).type, KGROUP_CONSUMER, "makes it a consumer group");
	is_int(classic_beat(id, 1), KERR_REBALANCE_IN_PROGRESS, "the other shall join again");
	is_int(world_summary(w).members, 2, "it is still a member");
	number = join_as(id, NULL, subscribes_t, sizeof(subscribes_t) - 1, 9);
	is_int(joined(number)->error_code, KERR_NONE, "it does");
	is_int(joined(number)->generation_id, 2, "the generation is the epoch");
	is_int(joined(number)->members.count, 0, "it does not lead");
	is_int(classic_beat(id, 1), KERR_ILLEGAL_GENERATION, "the old one is over");
	number = sync_as(id, 2, NULL, NULL, 0);
	is_int(synced(number)->error_code, KERR_NONE, "sync");
	is_bytes(synced(number)->assignment.data, (size_t) synced(number)->assignment.len,
			 "\0\0" "\0\0\0\1" "\0\1t" "\0\0\0\2" "\0\0\0\0" "\0\0\0\1" "\xff\xff\xff\xff", 25,
			 "it keeps its partitions");
	is_state(KGROUP_STABLE, "stable");
	is_int(classic_beat(id, 2), KERR_NONE, "heartbeat");
	ok(world_restart(w), "a restart");
	is_int(classic_beat(id, 2), KERR_NONE, "makes no difference");

	number = join_as("", NULL, subscribes_t, sizeof(subscribes_t) - 1, 9);
	is_int(joined(number)->error_code, KERR_MEMBER_ID_REQUIRED, "another classic one");
	number = join_as(text(joined(number)->member_id), NULL, subscribes_t,
					 sizeof(subscribes_t) - 1, 9);
	is_int(joined(number)->error_code, KERR_NONE, "is let in");
	is_int(world_summary(w).members, 3, "three members");
	is_int(joined(join_as("x", NULL, "", 0, 9))->error_code, KERR_UNKNOWN_SERVER_ERROR,
		   "not with metadata that is none");
	world_pass(w, 9000);
	is_int(classic_beat(id, 2), KERR_REBALANCE_IN_PROGRESS, "the first is told again");
	BEAT("a",.epoch = 2);
	world_pass(w, 1000);
	is_int(world_summary(w).members, 2, "classic members have their own session timeout");
	end();

	begin("who is told to join and does not");
	classic_group(id);
	BEAT("a",.topics = "t");
	for (int i = 0; i < 4; i++)
	{
		classic_beat(id, 1);
		BEAT("a",.epoch = 2);
		is_int(world_summary(w).members, 2, "heartbeats");
		world_pass(w, 7500);
	}
	is_int(world_summary(w).members, 1, "is out after the rebalance timeout");
	end();

	begin("who joins and does not sync");
	classic_group(id);
	BEAT("a",.topics = "t");
	join_as(id, NULL, subscribes_t, sizeof(subscribes_t) - 1, 9);
	for (int i = 0; i < 4; i++)
	{
		classic_beat(id, 2);
		is_int(world_summary(w).members, 2, "heartbeats");
		world_pass(w, 7500);
	}
	is_int(world_summary(w).members, 1, "is out after the rebalance timeout");
	end();

	begin("groups that cannot change");
	classic_group(id);
	w->env.config.may_upgrade = false;
	is_str(got(BEAT("a",.topics = "t")), "GROUP_ID_NOT_FOUND", "by policy");
	w->env.config.may_upgrade = true;
	join_as(id, NULL, "?", 1, 9);
	sync_as(id, 2, NULL, NULL, 0);
	is_str(got(BEAT("a",.topics = "t")), "GROUP_ID_NOT_FOUND", "with strange metadata");
	join_as(id, NULL, subscribes_t, sizeof(subscribes_t) - 1, 9);
	sync_as(id, 3, id, "\0\0\0\0\0\0\0\0\0\1x", 11);
	is_str(got(BEAT("a",.topics = "t")), "GROUP_ID_NOT_FOUND", "with an assignor's own data");
	is_int(world_summary(w).type, KGROUP_CLASSIC, "it is what it was");
	is_int(classic_beat(id, 3), KERR_NONE, "and goes on");
	end();

	begin("an upgrade answers who waits");
	first_epoch = 0;
	classic_group(id);
	join_as("", NULL, subscribes_t, sizeof(subscribes_t) - 1, 3);
	is_state(KGROUP_PREPARING_REBALANCE, "somebody waits");
	number = w->nrequests - 1;
	is_str(got(BEAT("a",.topics = "t")), "2 [t:3]", "upgrade");
	is_int(joined(number)->error_code, KERR_REBALANCE_IN_PROGRESS, "he is told to try again");
	is_int(world_summary(w).members, 3, "and is a member");
	end();
}

static void
test_downgrade(void)
{
	char		id[128];
	int64_t		number;

	begin("from consumer to classic");
	classic_group(id);
	BEAT("a",.topics = "t");
	number = join_as(id, NULL, subscribes_t, sizeof(subscribes_t) - 1, 9);
	sync_as(id, 2, NULL, NULL, 0);
	is_str(got(BEAT("a",.epoch = -1)), "-1", "the last one with the new protocol leaves");
	is_int(world_summary(w).type, KGROUP_CLASSIC, "a classic group");
	is_state(KGROUP_PREPARING_REBALANCE, "which is assigned anew");
	is_int(classic_beat(id, 2), KERR_REBALANCE_IN_PROGRESS, "by members that join again");
	is_int(w->nrows, 2, "two rows");
	ok(world_restart(w), "after a restart");
	is_state(KGROUP_STABLE, "it is stable");
	number = sync_as(id, 2, NULL, NULL, 0);
	is_int(synced(number)->assignment.len, 25, "with what the members had");
	end();

	begin("by policy it stays");
	classic_group(id);
	BEAT("a",.topics = "t");
	w->env.config.may_downgrade = false;
	BEAT("a",.epoch = -1);
	is_int(world_summary(w).type, KGROUP_CONSUMER, "a consumer group");
	number = join_as(id, NULL, subscribes_t, sizeof(subscribes_t) - 1, 9);
	number = sync_as(id, joined(number)->generation_id, NULL, NULL, 0);
	is_int(synced(number)->assignment.len, 33, "with classic members alone");
	is_int(leave_as(id, "i"), KERR_UNKNOWN_MEMBER_ID, "a strange instance");
	is_int(leave_as("x", NULL), KERR_UNKNOWN_MEMBER_ID, "a strange member");
	is_int(leave_as(id, NULL), KERR_NONE, "which leave");
	is_state(KGROUP_EMPTY, "empty");
	number = join_as("", NULL, subscribes_t, sizeof(subscribes_t) - 1, 3);
	is_int(world_summary(w).type, KGROUP_CLASSIC, "an empty group becomes what is wanted");
	leave_as(text(joined(number) ? joined(number)->member_id : KSTR("")), NULL);
	world_pass(w, 400000);
	is_str(got(BEAT("a",.topics = "t")), "2 [t:0,1,2,3]", "and back");
	is_int(w->nrows, 2, "two rows");
	end();

	begin("a static member comes back with the old protocol");
	BEAT("a",.topics = "t",.instance = "i");
	number = join_as("", "i", subscribes_t, sizeof(subscribes_t) - 1, 9);
	is_int(joined(number)->error_code, KERR_NONE, "as the only one");
	is_int(world_summary(w).type, KGROUP_CLASSIC, "it makes the group a classic one");
	is_state(KGROUP_STABLE, "without a rebalance");
	strcpy(id, text(joined(number)->member_id));
	number = sync_as(id, joined(number)->generation_id, NULL, NULL, 0);
	is_int(synced(number)->assignment.len, 33, "with its partitions");
	end();

	begin("a static member comes back with the new protocol");
	classic_group(id);
	leave_as(id, NULL);
	number = join_as("", "i", subscribes_t, sizeof(subscribes_t) - 1, 9);
	world_pass(w, 0);
	strcpy(id, text(joined(number)->member_id));
	sync_as(id, joined(number)->generation_id, NULL, NULL, 0);
	is_str(got(BEAT("n",.topics = "t",.instance = "i")), "3 []", "in the place of the old one");
	is_int(world_summary(w).members, 1, "one member");
	is_int(classic_beat(id, 3), KERR_UNKNOWN_MEMBER_ID, "which is gone");
	end();
}

int
main(void)
{
	test_requests();
	test_heartbeat();
	test_reconcile();
	test_topics();
	test_static();
	test_durable();
	test_offsets();
	test_at_rest();
	test_upgrade();
	test_downgrade();
	return done_testing();
}
