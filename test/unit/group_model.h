/*
 * group_model.h
 *		The clients of group_model_test.c: what they know, write and read, and what they hear.
 *
 * Each is what a client library would be; what they do, and what is done to them, is in the test.
 */
#ifndef GROUP_MODEL_H
#define GROUP_MODEL_H

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

#endif							/* GROUP_MODEL_H */
