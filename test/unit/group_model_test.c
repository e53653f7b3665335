/*
 * group_model_test.c
 *		A group and hundreds of clients under a fake clock, at random.
 *
 * Clients of both protocols, dynamic and static ones, join, leave, die, wake up as zombies and
 * change their minds; topics come, grow and go; the server and its brokers go down and up again,
 * with rows written late.  What must hold:
 *
 * - no partition has two owners in one generation, or at one time among those who live;
 * - every request is answered once, and no later than the timeouts allow;
 * - what was answered survives a restart;
 * - heartbeats and commits at rest answer as the group would;
 * - when the chaos ends, the group is stable soon, and each partition that somebody wants has
 *   one owner, who wants it;
 * - when all are gone, nothing is left.
 *
 * GROUP_SEED=n GROUP_ROUNDS=n for others, or more; GROUP_TRACE=1 to see what happens.
 */
#include "tap.h"

#include "group_world.h"

#define TOPICS			4
#define MAX_PARTITIONS	64
#define MAX_CLIENTS		200

#define HEARTBEAT_MS	3000
#define MAX_REBALANCE	20000
#define MAX_SESSION		15000
/* a first join phase, and one rebalance more */
#define MAX_WAIT		(2 * MAX_REBALANCE + 1000)
#define SETTLE_MS		180000

typedef enum Phase
{
	OUT,						/* not a member, or wants to join again */
	JOINING,					/* waits */
	JOINED,						/* shall sync */
	SYNCING,					/* waits */
	MEMBER
} Phase;

typedef struct Client
{
	bool		alive;			/* else it says nothing, and hears nothing */
	bool		wants_in;
	bool		consumer;		/* the new protocol */
	Phase		phase;
	char		id[64];
	char		instance[16];	/* "": dynamic */
	int32_t		generation;		/* or epoch */
	bool		leads;
	bool		changed;		/* its subscription, since it last told */
	bool		tells_owned;
	bool		lost;			/* an answer */
	int32_t		slow;			/* of what it is to give up, so many times it waits */
	int32_t		session;
	int32_t		rebalance;
	int			version;
	uint32_t	topics;			/* bits */
	uint32_t	told_topics;	/* that the group knows */
	int64_t		waits;			/* for this request */
	int64_t		next;			/* acts then */
	int64_t		last_sent;
	uint64_t	topics_seen;
	bool		owns[TOPICS][MAX_PARTITIONS];
	bool		revokes[TOPICS][MAX_PARTITIONS];	/* of these: has been told to give up */
	KMsgWriter	assignments[MAX_CLIENTS];	/* that it makes as leader */
	char		assignees[MAX_CLIENTS][64];
	int32_t		nassignees;
} Client;

/* An answer under way: what is in it, apart from the group's memory. */
typedef struct Mail
{
	struct Mail *next;
	int64_t		request;
	int32_t		who;
	uint64_t	version;
	KApiKey		api;
	int16_t		error;
	int32_t		generation;
	bool		has_assignment;
	bool		owns[TOPICS][MAX_PARTITIONS];
	char		id[64];
	bool		leads;
	int32_t		nmembers;
	char	  (*members)[64];
	uint32_t   *subscriptions;
} Mail;

static World world;
static World *w = &world;
static Client *clients;
static int32_t nclients;
static Mail *mails;
static uint64_t seed;
static int64_t persist_at = INT64_MAX;	/* a broker writes rows then */
static uint32_t consumers;		/* of 100 clients, who use the new protocol */
static int64_t faults;
static int64_t counted[8];		/* answers, restarts, upgrades, ... for the record */

enum
{
	N_ANSWERS, N_RESTARTS, N_REBALANCES, N_UPGRADES, N_DOWNGRADES, N_AT_REST, N_SETTLED
};

__attribute__((format(printf, 1, 2)))
static void
fault(const char *format, ...)
{
	va_list		args;

	if (faults++ > 10)
		return;
	printf("# fault at %lld: ", (long long) (w->now - INT64_C(1700000000000)));
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(" (GROUP_SEED=%llu)\n", (unsigned long long) seed);
}

/* With GROUP_TRACE set: what happens, a line each. */
__attribute__((format(printf, 1, 2)))
static void
trace(const char *format, ...)
{
	static int	wanted = -1;
	va_list		args;

	if (wanted < 0)
		wanted = getenv("GROUP_TRACE") != NULL;
	if (!wanted)
		return;
	printf("# %8lld ", (long long) (w->now - INT64_C(1700000000000)));
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static uint32_t
chance(uint32_t n)
{
	return world_below(w, n) == 0;
}

/* ---- what clients write and read ---- */

static void *
grow(void *ctx, void *old, size_t used, size_t size)
{
	return realloc(old, size);
}

static void
start(KMsgWriter *writer, int version)
{
	uint8_t		head[2] = {0, (uint8_t) version};

	kmsg_writer_init(writer, 0, grow, NULL);
	kmsg_writer_put(writer, head, 2);
}

static KMsgWriter
write_subscription(const Client *c)
{
	KConsumerProtocolSubscription subscription;
	KStr		names[TOPICS];
	KMsgWriter	writer;
	const char *err;
	int			version = c->version >= 8 ? 3 : 0;

	kmsg_init(&kmsg_consumer_protocol_subscription, &subscription);
	subscription.topics.items = names;
	for (int t = 0; t < TOPICS; t++)
		if (c->topics >> t & 1)
			names[subscription.topics.count++] = str((const char *[]) {"t0", "t1", "t2", "t3"}[t]);
	start(&writer, version);
	if (!kmsg_encode(&kmsg_consumer_protocol_subscription, version, &subscription, &writer, &err))
		abort();
	return writer;
}

static uint32_t
read_subscription(KBytes bytes)
{
	KConsumerProtocolSubscription subscription;
	_Alignas(16) uint8_t memory[4096];
	KArena		arena;
	size_t		consumed;
	const char *err;
	uint32_t	topics = 0;

	karena_init(&arena, memory, sizeof(memory), 0, NULL, NULL);
	if (bytes.len < 2 ||
		!kmsg_decode(&kmsg_consumer_protocol_subscription, bytes.data[1], bytes.data + 2,
					 (size_t) bytes.len - 2, &consumed, &arena, &subscription, &err))
		abort();
	for (int32_t i = 0; i < subscription.topics.count; i++)
		topics |= 1u << (subscription.topics.items[i].data[1] - '0');
	return topics;
}

static KMsgWriter
write_assignment(bool owns[TOPICS][MAX_PARTITIONS])
{
	KConsumerProtocolAssignment assignment;
	KConsumerProtocolAssignmentTopicPartition items[TOPICS];
	int32_t		numbers[TOPICS * MAX_PARTITIONS];
	int32_t		n = 0;
	KMsgWriter	writer;
	const char *err;

	kmsg_init(&kmsg_consumer_protocol_assignment, &assignment);
	assignment.assigned_partitions.items = items;
	for (int t = 0; t < TOPICS; t++)
	{
		KConsumerProtocolAssignmentTopicPartition *item =
			&items[assignment.assigned_partitions.count];

		*item = (KConsumerProtocolAssignmentTopicPartition)
		{
			.topic = str((const char *[]) {"t0", "t1", "t2", "t3"}[t]),
				.partitions = {&numbers[n], 0}
		};
		for (int p = 0; p < MAX_PARTITIONS; p++)
			if (owns[t][p])
				item->partitions.items[item->partitions.count++] = p;
		n += item->partitions.count;
		assignment.assigned_partitions.count += item->partitions.count > 0;
	}
	start(&writer, 0);
	if (!kmsg_encode(&kmsg_consumer_protocol_assignment, 0, &assignment, &writer, &err))
		abort();
	return writer;
}

static void
read_assignment(KBytes bytes, bool owns[TOPICS][MAX_PARTITIONS])
{
	KConsumerProtocolAssignment assignment;
	_Alignas(16) uint8_t memory[16384];
	KArena		arena;
	size_t		consumed;
	const char *err;

	memset(owns, 0, sizeof(bool) * TOPICS * MAX_PARTITIONS);
	if (bytes.len <= 0)
		return;
	karena_init(&arena, memory, sizeof(memory), 0, NULL, NULL);
	if (!kmsg_decode(&kmsg_consumer_protocol_assignment, bytes.data[1], bytes.data + 2,
					 (size_t) bytes.len - 2, &consumed, &arena, &assignment, &err))
		abort();
	for (int32_t i = 0; i < assignment.assigned_partitions.count; i++)
	{
		const KConsumerProtocolAssignmentTopicPartition *item =
			&assignment.assigned_partitions.items[i];

		for (int32_t p = 0; p < item->partitions.count; p++)
			owns[item->topic.data[1] - '0'][item->partitions.items[p]] = true;
	}
}

/* ---- owners ---- */

static void
give_up(Client *c)
{
	memset(c->owns, 0, sizeof(c->owns));
	memset(c->revokes, 0, sizeof(c->revokes));
}

static bool
is_revoking(const Client *c)
{
	for (int t = 0; t < TOPICS; t++)
		for (int p = 0; p < MAX_PARTITIONS; p++)
			if (c->revokes[t][p])
				return true;
	return false;
}

/*
 * A client has been given partitions.  Nobody who lives may have them, and nobody who is silent
 * before his time is over: his session, or the time to give partitions up, which may have begun
 * before he was last heard.
 */
static void
take(Client *c, bool owns[TOPICS][MAX_PARTITIONS], bool same_generation)
{
	for (int32_t i = 0; i < nclients; i++)
	{
		Client	   *other = &clients[i];
		int32_t		grace = other->consumer ? w->env.config.consumer_session_timeout_ms :
			other->session;

		if (is_revoking(other))
			grace = 0;
		else if (other->rebalance < grace)
			grace = other->rebalance;
		if (other == c || (same_generation && other->generation != c->generation))
			continue;
		for (int t = 0; t < TOPICS; t++)
			for (int p = 0; p < MAX_PARTITIONS; p++)
				if (owns[t][p] && !c->owns[t][p] && other->owns[t][p] &&
					(other->alive || w->now < other->last_sent + grace))
					fault("t%d-%d is given to %s while %s owns it", t, p, c->id, other->id);
	}
	memcpy(c->owns, owns, sizeof(c->owns));
}

/* ---- answers ---- */

static void
copy_str(char *to, KStr s)
{
	int32_t		len = s.len > 63 ? 63 : s.len > 0 ? s.len : 0;

	if (len > 0)
		memcpy(to, s.data, (size_t) len);
	to[len] = '\0';
}

static void
on_answer(World *unused, WorldRequest *request)
{
	Mail	   *mail = calloc(1, sizeof(Mail));
	Mail	  **last = &mails;

	counted[N_ANSWERS]++;
	mail->request = request - w->requests;
	mail->who = request->who;
	mail->version = request->version;
	mail->api = request->api;
	if (request->api == KAPI_JOIN_GROUP)
	{
		const KJoinGroupResponse *r = request->response;

		mail->error = r->error_code;
		mail->generation = r->generation_id;
		copy_str(mail->id, r->member_id);
		mail->leads = r->members.count > 0 && !r->skip_assignment;
		mail->nmembers = r->members.count;
		mail->members = calloc((size_t) r->members.count + 1, 64);
		mail->subscriptions = calloc((size_t) r->members.count + 1, sizeof(uint32_t));
		for (int32_t i = 0; i < r->members.count; i++)
		{
			copy_str(mail->members[i], r->members.items[i].member_id);
			mail->subscriptions[i] = read_subscription(r->members.items[i].metadata);
		}
	}
	else if (request->api == KAPI_SYNC_GROUP)
	{
		const KSyncGroupResponse *r = request->response;

		mail->error = r->error_code;
		if (r->error_code == 0)
			read_assignment(r->assignment, mail->owns);
	}
	else if (request->api == KAPI_HEARTBEAT)
		mail->error = ((const KHeartbeatResponse *) request->response)->error_code;
	else if (request->api == KAPI_CONSUMER_GROUP_HEARTBEAT)
	{
		const KConsumerGroupHeartbeatResponse *r = request->response;

		mail->error = r->error_code;
		mail->generation = r->member_epoch;
		copy_str(mail->id, r->member_id);
		mail->has_assignment = r->assignment != NULL;
		for (int32_t i = 0; r->assignment && i < r->assignment->topic_partitions.count; i++)
		{
			const KConsumerGroupHeartbeatResponseTopicPartition *item =
				&r->assignment->topic_partitions.items[i];
			KGroupTopic topic;

			/* of a topic that was dropped a moment ago there is nothing to own */
			if (world_by_id(w, &item->topic_id, &topic))
				for (int32_t p = 0; p < item->partitions.count; p++)
					mail->owns[topic.name.data[1] - '0'][item->partitions.items[p]] = true;
		}
	}
	request->response = NULL;
	while (*last != NULL)
		last = &(*last)->next;
	*last = mail;
}

static void
free_mail(Mail *mail)
{
	free(mail->members);
	free(mail->subscriptions);
	free(mail);
}

static void
out(Client *c, bool forget_id)
{
	give_up(c);
	c->phase = OUT;
	c->generation = c->consumer ? 0 : -1;
	c->leads = false;
	if (forget_id)
		c->id[0] = '\0';
}

/* The leader's work: partitions in turn to those who subscribe. */
static void
make_assignments(Client *c, const Mail *mail)
{
	static bool owns[MAX_CLIENTS][TOPICS][MAX_PARTITIONS];
	int32_t		turn = (int32_t) world_below(w, 7);

	for (int32_t i = 0; i < c->nassignees; i++)
		free(c->assignments[i].data);
	c->nassignees = mail->nmembers;
	memset(owns, 0, sizeof(owns));
	for (int t = 0; t < TOPICS; t++)
	{
		KGroupTopic topic;

		if (!world_by_name(w, str((const char *[]) {"t0", "t1", "t2", "t3"}[t]), &topic))
			continue;
		for (int32_t p = 0; p < topic.partitions; p++)
		{
			for (int32_t tries = 0; tries < mail->nmembers; tries++)
			{
				int32_t		m = turn++ % mail->nmembers;

				if ((mail->subscriptions[m] >> t & 1) == 0)
					continue;
				owns[m][t][p] = true;
				break;
			}
		}
	}
	for (int32_t i = 0; i < mail->nmembers; i++)
	{
		strcpy(c->assignees[i], mail->members[i]);
		c->assignments[i] = write_assignment(owns[i]);
	}
	c->topics_seen = w->env.topics_version;
}

static void
hear_classic(Client *c, const Mail *mail)
{
	switch (mail->error)
	{
		case KERR_NONE:
			break;
		case KERR_MEMBER_ID_REQUIRED:
			strcpy(c->id, mail->id);
			c->phase = OUT;
			c->next = w->now + world_below(w, 200);
			return;
		case KERR_REBALANCE_IN_PROGRESS:
			give_up(c);
			c->phase = OUT;
			c->next = w->now + world_below(w, 1000);
			return;
		case KERR_ILLEGAL_GENERATION:
			out(c, false);
			c->next = w->now + world_below(w, 100);
			return;
		default:
			out(c, true);
			c->next = w->now + 100 + world_below(w, 1000);
			return;
	}
	if (mail->api == KAPI_JOIN_GROUP)
	{
		strcpy(c->id, mail->id);
		c->generation = mail->generation;
		c->leads = mail->leads;
		c->phase = JOINED;
		if (mail->leads)
			make_assignments(c, mail);
		c->next = w->now + world_below(w, 300);
		/* Now and then one never syncs. */
		if (chance(300))
			c->alive = false;
	}
	else if (mail->api == KAPI_SYNC_GROUP)
	{
		static bool before[TOPICS][MAX_PARTITIONS];

		memcpy(before, mail->owns, sizeof(before));
		take(c, before, world_summary(w).type == KGROUP_CLASSIC);
		c->phase = MEMBER;
		c->next = w->now + world_below(w, HEARTBEAT_MS);
	}
	else
		c->next = w->now + HEARTBEAT_MS;
}

static void
hear_consumer(Client *c, const Mail *mail)
{
	if (mail->error != KERR_NONE)
	{
		out(c, mail->error != KERR_UNKNOWN_MEMBER_ID && mail->error != KERR_FENCED_MEMBER_EPOCH);
		c->next = w->now + 100 + world_below(w, 2000);
		return;
	}
	strcpy(c->id, mail->id);
	c->generation = mail->generation;
	c->phase = MEMBER;
	c->next = w->now + world_below(w, HEARTBEAT_MS);
	if (mail->has_assignment)
	{
		static bool owns[TOPICS][MAX_PARTITIONS];

		/* It gives up later, so that for a while it owns more than it should. */
		memcpy(owns, mail->owns, sizeof(owns));
		for (int t = 0; t < TOPICS; t++)
		{
			for (int p = 0; p < MAX_PARTITIONS; p++)
			{
				c->revokes[t][p] = c->owns[t][p] && !owns[t][p];
				owns[t][p] |= c->revokes[t][p];
			}
		}
		take(c, owns, false);
		c->tells_owned = true;
		c->slow = (int32_t) world_below(w, 3);
	}
}

/* Delivers what is durable; the rest waits. */
static void
deliver(void)
{
	Mail	  **at = &mails;
	KGroupSummary summary = world_summary(w);

	while (*at != NULL)
	{
		Mail	   *mail = *at;
		Client	   *c = &clients[mail->who];

		if (mail->version > summary.durable && w->image != NULL)
		{
			at = &mail->next;
			continue;
		}
		*at = mail->next;
		trace("%d hears %d: error %d, generation %d%s%s", mail->who, mail->api, mail->error,
			  mail->generation, mail->leads ? ", leads" : "",
			  c->alive && c->waits == mail->request ? "" : ", not waiting");
		if (c->alive && c->waits == mail->request)
		{
			c->waits = 0;
			if (mail->api == KAPI_CONSUMER_GROUP_HEARTBEAT)
				hear_consumer(c, mail);
			else
				hear_classic(c, mail);
		}
		free_mail(mail);
	}
}

/* ---- what clients do ---- */

static void
send_message(Client *c, KApiKey api, int version, const void *message)
{
	KGroupType	before = world_summary(w).type;
	KGroupType	after;

	trace("%d (%s %s) sends %d of generation %d", (int) (c - clients), c->id, c->instance, api,
		  c->generation);
	c->waits = w->nrequests;
	c->last_sent = w->now;
	c->next = INT64_MAX;
	world_send(w, api, version, message, (int32_t) (c - clients));
	after = world_summary(w).type;
	trace("  %s group of %d, generation %d, %s", kgroup_type_name(after),
		  world_summary(w).members, world_summary(w).generation,
		  kgroup_state_name(world_summary(w).state));
	counted[N_UPGRADES] += before == KGROUP_CLASSIC && after == KGROUP_CONSUMER;
	counted[N_DOWNGRADES] += before == KGROUP_CONSUMER && after == KGROUP_CLASSIC;
}

static void
send_join(Client *c)
{
	KJoinGroupRequest request;
	KJoinGroupRequestProtocol protocols[2];
	KMsgWriter	subscription = write_subscription(c);

	kmsg_init(&kmsg_join_group_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(c->id);
	request.group_instance_id = c->instance[0] ? str(c->instance) : KSTR_NULL;
	request.protocol_type = KSTR("consumer");
	request.session_timeout_ms = c->session;
	request.rebalance_timeout_ms = c->rebalance;
	request.protocols.items = protocols;
	request.protocols.count = 2;
	for (int i = 0; i < 2; i++)
		protocols[i] = (KJoinGroupRequestProtocol)
	{
		.name = i == 0 ? KSTR("range") : KSTR("roundrobin"),
			.metadata = {subscription.data, (int32_t) subscription.len}
	};
	c->phase = JOINING;
	c->changed = false;
	c->told_topics = c->topics;
	send_message(c, KAPI_JOIN_GROUP, c->version, &request);
	free(subscription.data);
}

static void
send_sync(Client *c)
{
	KSyncGroupRequest request;
	KSyncGroupRequestAssignment *items = calloc((size_t) c->nassignees + 1, sizeof(*items));

	kmsg_init(&kmsg_sync_group_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(c->id);
	request.group_instance_id = c->instance[0] ? str(c->instance) : KSTR_NULL;
	request.generation_id = c->generation;
	request.protocol_type = KSTR("consumer");
	request.protocol_name = KSTR("range");
	if (c->leads)
	{
		request.assignments.items = items;
		request.assignments.count = c->nassignees;
		for (int32_t i = 0; i < c->nassignees; i++)
			items[i] = (KSyncGroupRequestAssignment)
		{
			.member_id = str(c->assignees[i]),
				.assignment = {c->assignments[i].data, (int32_t) c->assignments[i].len}
		};
	}
	c->phase = SYNCING;
	send_message(c, KAPI_SYNC_GROUP, 5, &request);
	free(items);
}

static void
send_heartbeat(Client *c)
{
	KHeartbeatRequest request;
	KOffsetCommitter committer = {str(c->id), c->instance[0] ? str(c->instance) : KSTR_NULL,
	c->generation, 9, false};

	kmsg_init(&kmsg_heartbeat_request, &request);
	request.group_id = KSTR("g");
	request.member_id = committer.member_id;
	request.group_instance_id = committer.instance_id;
	request.generation_id = c->generation;

	if (w->image != NULL && chance(4) &&
		koffset_image_commit(w->image, w->image_len, w->now, &committer))
	{
		int16_t		error;
		bool		by_partition;

		koffset_check_commit(world_open(w), &committer, &error, &by_partition);
		if (error != 0 || by_partition)
			fault("a commit at rest should have been refused: %d", error);
	}
	if (w->image != NULL && chance(2) &&
		kgroup_image_heartbeat(w->image, w->image_len, w->now, &request))
	{
		KGroupCaller caller = {{1, 1, 4}, KSTR("client"), KSTR("/127.0.0.1")};
		KGroup	   *g = world_open(w);
		int32_t		count;

		kgroup_heartbeat(g, &caller, &request);
		if (((const KHeartbeatResponse *) kgroup_answers(g, &count)->response)->error_code != 0)
			fault("a heartbeat at rest should have been refused");
		world_free_blocks(w);
		counted[N_AT_REST]++;
		c->last_sent = w->now;
		c->next = w->now + HEARTBEAT_MS;
		return;
	}
	send_message(c, KAPI_HEARTBEAT, 4, &request);
}

static void
send_consumer_heartbeat(Client *c)
{
	KConsumerGroupHeartbeatRequest request;
	KConsumerGroupHeartbeatRequestTopicPartition items[TOPICS];
	int32_t		numbers[TOPICS * MAX_PARTITIONS];
	int32_t		n = 0;
	KStr		names[TOPICS];
	bool		joins = c->phase == OUT;

	if (joins)
	{
		c->generation = 0;
		give_up(c);
		if (c->id[0] == '\0')
			snprintf(c->id, sizeof(c->id), "consumer-%u", (unsigned) world_random(w));
	}
	for (int t = 0; t < TOPICS; t++)
		for (int p = 0; p < MAX_PARTITIONS; p++)
			if (c->revokes[t][p] && (c->slow-- <= 0 || chance(2)))
			{
				c->owns[t][p] = c->revokes[t][p] = false;
				c->tells_owned = true;
			}

	kmsg_init(&kmsg_consumer_group_heartbeat_request, &request);
	request.group_id = KSTR("g");
	request.member_id = str(c->id);
	request.instance_id = c->instance[0] ? str(c->instance) : KSTR_NULL;
	request.member_epoch = c->generation;
	/* After a lost answer it says all, so as to be told all. */
	if (joins || c->lost)
		request.rebalance_timeout_ms = c->rebalance;
	if (joins || c->lost || c->changed)
	{
		request.subscribed_topic_names.items = names;
		request.subscribed_topic_names.count = 0;
		request.subscribed_topic_regex = c->topics == 15 ? KSTR("t.*") : KSTR("");
		for (int t = 0; t < TOPICS; t++)
			if (c->topics != 15 && (c->topics >> t & 1))
				names[request.subscribed_topic_names.count++] =
					str((const char *[]) {"t0", "t1", "t2", "t3"}[t]);
		c->changed = false;
		c->told_topics = c->topics;
	}
	if (joins || c->lost || c->tells_owned || chance(4))
	{
		request.topic_partitions.items = items;
		request.topic_partitions.count = 0;
		for (int t = 0; t < TOPICS; t++)
		{
			KConsumerGroupHeartbeatRequestTopicPartition *item =
				&items[request.topic_partitions.count];
			KGroupTopic topic;

			if (!world_by_name(w, str((const char *[]) {"t0", "t1", "t2", "t3"}[t]), &topic))
				continue;
			*item = (KConsumerGroupHeartbeatRequestTopicPartition)
			{
				.topic_id = topic.id,.partitions = {&numbers[n], 0}
			};
			for (int p = 0; p < MAX_PARTITIONS; p++)
				if (c->owns[t][p])
					item->partitions.items[item->partitions.count++] = p;
			n += item->partitions.count;
			request.topic_partitions.count += item->partitions.count > 0;
		}
		c->tells_owned = false;
	}
	c->lost = false;
	if (!joins && w->image != NULL &&
		kgroup_image_consumer_heartbeat(&w->env, w->image, w->image_len, w->now, &request))
	{
		KGroupCaller caller = {{1, 1, 1}, KSTR("client"), KSTR("/127.0.0.1")};
		KGroup	   *g = world_open(w);
		const KConsumerGroupHeartbeatResponse *r;
		int32_t		count;

		kgroup_consumer_heartbeat(g, &caller, &request);
		r = kgroup_answers(g, &count)->response;
		if (r->error_code != 0 || r->assignment != NULL || r->member_epoch != c->generation)
			fault("a heartbeat at rest should have changed something");
		world_free_blocks(w);
		counted[N_AT_REST]++;
		c->last_sent = w->now;
		c->next = w->now + HEARTBEAT_MS;
		return;
	}
	if (joins)
		c->phase = JOINING;
	trace("%d tells of %d topics that it owns %d of, %d names, \"%.*s\"%s", (int) (c - clients),
		  request.topic_partitions.count, n, request.subscribed_topic_names.count,
		  request.subscribed_topic_regex.len, request.subscribed_topic_regex.data,
		  is_revoking(c) ? ", gives up more" : "");
	send_message(c, KAPI_CONSUMER_GROUP_HEARTBEAT, 1, &request);
}

static void
send_leave(Client *c)
{
	if (c->consumer)
	{
		KConsumerGroupHeartbeatRequest request;

		kmsg_init(&kmsg_consumer_group_heartbeat_request, &request);
		request.group_id = KSTR("g");
		request.member_id = str(c->id);
		request.instance_id = c->instance[0] ? str(c->instance) : KSTR_NULL;
		request.member_epoch = c->instance[0] && chance(2) ? -2 : -1;
		if (c->id[0] != '\0')
			send_message(c, KAPI_CONSUMER_GROUP_HEARTBEAT, 1, &request);
	}
	else
	{
		KLeaveGroupRequest request;
		KLeaveGroupRequestMember identity;

		kmsg_init(&kmsg_leave_group_request, &request);
		kmsg_init(&kmsg_leave_group_request_member, &identity);
		request.group_id = KSTR("g");
		identity.member_id = str(c->id);
		identity.group_instance_id = c->instance[0] ? str(c->instance) : KSTR_NULL;
		request.members.items = &identity;
		request.members.count = 1;
		if (c->id[0] != '\0')
			send_message(c, KAPI_LEAVE_GROUP, 5, &request);
	}
	c->waits = 0;
	out(c, true);
	c->wants_in = false;
	c->next = INT64_MAX;
}

static void
act(Client *c)
{
	c->next = INT64_MAX;
	if (!c->alive || c->waits != 0)
		return;
	if (c->phase == OUT && !c->wants_in)
		return;
	if (c->consumer)
		send_consumer_heartbeat(c);
	else if (c->phase == OUT)
		send_join(c);
	else if (c->phase == JOINED)
		send_sync(c);
	else if (c->changed || (c->leads && c->topics_seen != w->env.topics_version))
	{
		give_up(c);
		send_join(c);
	}
	else
		send_heartbeat(c);
}

/* ---- chaos ---- */

static void
renew(Client *c)
{
	c->alive = true;
	c->consumer = world_below(w, 100) < consumers;
	c->session = 6000 + (int32_t) world_below(w, MAX_SESSION - 6000);
	c->rebalance = 8000 + (int32_t) world_below(w, MAX_REBALANCE - 8000);
	c->version = 3 + (int) world_below(w, 7);
	if (c->instance[0])
		c->version = 5 + (int) world_below(w, 5);
	/*
	 * A static member of a stable classic group that comes back with another subscription is not
	 * noticed, here and in Kafka: its assignment stays what it was.
	 */
	c->topics = c->instance[0] && c->told_topics ? c->told_topics : 1 + world_below(w, 15);
	c->changed = true;
	c->waits = 0;
	out(c, true);
	c->wants_in = true;
	c->next = w->now + world_below(w, 1000);
}

/*
 * Connections break, and mail is lost: who waited asks again, as far as it knows.
 */
static void
reconnect(void)
{
	for (Mail *mail = mails, *next; mail != NULL; mail = next)
	{
		next = mail->next;
		free_mail(mail);
	}
	mails = NULL;
	for (int32_t i = 0; i < nclients; i++)
	{
		Client	   *c = &clients[i];

		if (!c->alive || c->waits == 0)
			continue;
		c->waits = 0;
		if (c->phase == JOINING)
			c->phase = OUT;
		else if (c->phase == SYNCING)
			c->phase = JOINED;
		c->changed = true;
		c->lost = true;
		c->next = w->now + world_below(w, 500);
	}
}

static void
restart(void)
{
	if (!world_restart(w))
		fault("rows cannot be read");
	counted[N_RESTARTS]++;
	reconnect();
}

static void
chaos(void)
{
	Client	   *c = &clients[world_below(w, (uint32_t) nclients)];

	int			what = (int) world_below(w, 40);

	trace("chaos %d for %d, %s", what, (int) (c - clients), c->alive ? "alive" : "silent");
	switch (what)
	{
		case 0:
		case 1:
			if (c->alive && c->wants_in && c->waits == 0)
				send_leave(c);
			break;
		case 2:
		case 3:
			c->alive = false;
			break;
		case 4:
			/* a zombie: it thinks that it is who it was, but has dropped its partitions */
			if (!c->alive && c->waits == 0)
			{
				c->alive = true;
				give_up(c);
				c->lost = true;
				if (!c->consumer)
					c->phase = OUT;
				c->next = w->now;
			}
			break;
		case 5:
			if (c->instance[0] && c->alive)
				renew(c);
			break;
		case 6:
			if (c->alive)
			{
				c->topics = 1 + world_below(w, 15);
				c->changed = true;
			}
			break;
		case 7:
			if (chance(3))
			{
				char		name[3] = {'t', (char) ('0' + world_below(w, TOPICS)), '\0'};
				KGroupTopic topic;
				int32_t		had = world_by_name(w, str(name), &topic) ? topic.partitions : 0;

				/* A topic only grows, or is dropped. */
				world_topic(w, name, had == 0 ? 1 + (int32_t) world_below(w, 30) : chance(3) ? 0 :
							had < MAX_PARTITIONS - 5 ? had + (int32_t) world_below(w, 5) : had);
				trace("%s had %d partitions, and has %d", name, had,
					  world_by_name(w, str(name), &topic) ? topic.partitions : 0);
				if (!world_by_name(w, str(name), &topic))
					for (int32_t i = 0; i < nclients; i++)
						memset(clients[i].owns[name[1] - '0'], 0, MAX_PARTITIONS);
			}
			break;
		case 8:
			if (chance(10))
				restart();
			break;
		case 9:
			if (chance(10))
			{
				world_event(w, WORLD_FORGET_BROKER, NULL, 0, NULL, NULL);
				reconnect();
			}
			break;
		case 10:
			/* Without these the group becomes a classic one again. */
			for (int32_t i = 0; i < nclients && consumers < 50; i++)
				if (clients[i].consumer && clients[i].alive && clients[i].wants_in &&
					clients[i].waits == 0)
					send_leave(&clients[i]);
			break;
		default:
			if (!c->alive || !c->wants_in)
			{
				if (!c->alive && c->instance[0] == '\0' && w->now < c->last_sent + MAX_WAIT)
					break;
				renew(c);
			}
	}
}

static int64_t
next_event(void)
{
	int64_t		next = world_deadline(w);

	for (int32_t i = 0; i < nclients; i++)
		if (clients[i].alive && clients[i].next < next)
			next = clients[i].next;
	return next;
}

static void
run(int64_t ms, bool with_chaos)
{
	int64_t		end = w->now + ms;
	int64_t		next_chaos = w->now;

	while (w->now < end)
	{
		int64_t		next = next_event();

		if (with_chaos && next_chaos < next)
			next = next_chaos;
		if (persist_at < next)
			next = persist_at;
		if (next > end)
			next = end;
		if (next > w->now)
			w->now = next;

		if (world_deadline(w) <= w->now)
		{
			world_event(w, WORLD_TICK, NULL, 0, NULL, NULL);
			trace("tick: %d members, %s", world_summary(w).members,
				  kgroup_state_name(world_summary(w).state));
			if (world_deadline(w) <= w->now)
				fault("what is due stays due");
		}
		for (int32_t i = 0; i < nclients; i++)
		{
			Client	   *c = &clients[i];

			if (c->alive && c->next <= w->now)
				act(c);
			if (c->alive && c->waits != 0 && w->now > c->last_sent + MAX_WAIT)
			{
				fault("%s waits since %lld ms in phase %d, the group is %s", c->id,
					  (long long) (w->now - c->last_sent), c->phase,
					  kgroup_state_name(world_summary(w).state));
				c->last_sent = w->now;
			}
		}
		if (with_chaos && next_chaos <= w->now)
		{
			chaos();
			next_chaos = w->now + world_below(w, (uint32_t) (60000 / nclients) + 10);
		}
		if (persist_at <= w->now)
		{
			world_persist(w);
			persist_at = INT64_MAX;
		}
		if (persist_at == INT64_MAX && world_summary(w).version > world_summary(w).durable)
			persist_at = w->now + world_below(w, 100);
		deliver();
	}
}

static void
check_settled(void)
{
	KGroupSummary summary = world_summary(w);
	int32_t		members = 0;

	for (int32_t i = 0; i < nclients; i++)
	{
		Client	   *c = &clients[i];

		if (!c->alive || !c->wants_in)
			continue;
		members++;
		if (c->phase != MEMBER)
			fault("%s is in phase %d", c->id, c->phase);
	}
	if (members > 0 && summary.state != KGROUP_STABLE)
		fault("the group is %s", kgroup_state_name(summary.state));
	if (members != summary.members)
		fault("%d members live, and the group has %d", members, summary.members);
	for (int t = 0; t < TOPICS; t++)
	{
		KGroupTopic topic = {.partitions = 0};

		world_by_name(w, str((const char *[]) {"t0", "t1", "t2", "t3"}[t]), &topic);
		for (int p = 0; p < MAX_PARTITIONS; p++)
		{
			int			owners = 0;
			bool		wanted = false;

			for (int32_t i = 0; i < nclients; i++)
			{
				Client	   *c = &clients[i];

				if (!c->alive || !c->wants_in)
					continue;
				wanted |= c->topics >> t & 1;
				owners += c->owns[t][p];
				if (c->owns[t][p] && (c->topics >> t & 1) == 0)
					fault("t%d-%d is with %s, who does not want it", t, p, c->id);
			}
			if (owners != (wanted && p < topic.partitions))
				fault("t%d-%d of %d has %d owners", t, p, topic.partitions, owners);
		}
	}
	counted[N_SETTLED]++;
}

static void
one_world(int32_t n, int chaos_rounds, int64_t chaos_ms)
{
	int16_t		error = -1;

	world_init(w, seed);
	w->keep = false;
	w->lag = true;
	w->starve = n > 50 ? 1 : 10;
	w->on_answer = on_answer;
	w->env.config.initial_delay_ms = (int32_t) world_below(w, 3000);
	w->env.config.assignment_interval_ms = chance(2) ? 0 : 1000;
	w->env.config.consumer_session_timeout_ms = 12000;
	w->env.config.new_member_timeout_ms = MAX_WAIT;
	w->env.config.may_downgrade = !chance(4);
	consumers = (const uint32_t[]) {0, 5, 10, 50, 100}[world_below(w, 5)];
	for (int t = 0; t < TOPICS - 1; t++)
		world_topic(w, (const char *[]) {"t0", "t1", "t2"}[t], 1 + (int32_t) world_below(w, 30));
	nclients = n;
	persist_at = INT64_MAX;
	memset(clients, 0, sizeof(Client) * (size_t) n);
	for (int32_t i = 0; i < n; i++)
		if (chance(3))
			snprintf(clients[i].instance, sizeof(clients[i].instance), "i%d", (int) i);

	for (int i = 0; i < chaos_rounds && faults == 0; i++)
	{
		run(chaos_ms, true);
		run(SETTLE_MS, false);
		check_settled();
		counted[N_REBALANCES] += world_summary(w).generation;
		if (chance(2))
		{
			restart();
			run(SETTLE_MS, false);
			check_settled();
		}
	}
	for (int32_t i = 0; i < nclients; i++)
	{
		if (chance(2) && clients[i].alive && clients[i].wants_in)
			send_leave(&clients[i]);
		clients[i].alive = false;
	}
	run(SETTLE_MS, false);
	if (world_summary(w).members != 0)
		fault("%d members are left", world_summary(w).members);
	world_event(w, WORLD_DELETE, NULL, 0, NULL, &error);
	world_persist(w);
	if (w->image != NULL || w->nrows != 0 || (error != 0 && error != KERR_GROUP_ID_NOT_FOUND))
		fault("something is left: %d rows, error %d", w->nrows, error);
	for (int64_t i = 1; i < w->nrequests; i++)
		if (w->requests[i].answers > 1)
			fault("request %lld was answered %d times", (long long) i, w->requests[i].answers);
	faults += w->broken;

	run(0, false);
	deliver();
	for (int32_t i = 0; i < n; i++)
	{
		for (int32_t a = 0; a < clients[i].nassignees; a++)
			free(clients[i].assignments[a].data);
		clients[i].nassignees = 0;
	}
	world_end(w);
}

int
main(void)
{
	const char *env = getenv("GROUP_SEED");
	uint64_t	first = env ? strtoull(env, NULL, 10) : 1;
	int			rounds = getenv("GROUP_ROUNDS") ? atoi(getenv("GROUP_ROUNDS")) : env ? 1 : 40;

	clients = calloc(MAX_CLIENTS, sizeof(Client));
	for (int i = 0; i < rounds && faults == 0; i++)
	{
		seed = first + (uint64_t) i;
		one_world(seed % 10 == 0 ? MAX_CLIENTS : 1 + (int32_t) (seed * 7 % 30),
				  2, seed % 10 == 0 ? 60000 : 300000);
	}
	free(clients);
	note("seeds %llu to %llu", (unsigned long long) first, (unsigned long long) seed);
	note("%lld answers, %lld rebalances, %lld restarts, %lld upgrades, %lld downgrades, "
		 "%lld at rest, settled %lld times", (long long) counted[N_ANSWERS],
		 (long long) counted[N_REBALANCES], (long long) counted[N_RESTARTS],
		 (long long) counted[N_UPGRADES], (long long) counted[N_DOWNGRADES],
		 (long long) counted[N_AT_REST], (long long) counted[N_SETTLED]);
	is_int(faults, 0, "no rule was broken");
	ok(counted[N_UPGRADES] > 0 && counted[N_DOWNGRADES] > 0 && counted[N_RESTARTS] > 0 &&
	   counted[N_AT_REST] > 0, "and much has happened");
	return done_testing();
}
