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
 * - heartbeats and commits at rest answer as the group would; who comes to wait at rest leaves the
 *   image that the group would;
 * - when the chaos ends, the group is stable soon, and each partition that somebody wants has
 *   one owner, who wants it;
 * - when all are gone, nothing is left.
 *
 * GROUP_SEED=n GROUP_ROUNDS=n for others, or more; GROUP_TRACE=1 to see what happens.
 */
#include "group_model.h"

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

static int64_t parked;			/* requests, in all worlds */

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
	parked += w->rests;

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
		 "%lld at rest, %lld parked, settled %lld times", (long long) counted[N_ANSWERS],
		 (long long) counted[N_REBALANCES], (long long) counted[N_RESTARTS],
		 (long long) counted[N_UPGRADES], (long long) counted[N_DOWNGRADES],
		 (long long) counted[N_AT_REST], (long long) parked, (long long) counted[N_SETTLED]);
	is_int(faults, 0, "no rule was broken");
	ok(counted[N_UPGRADES] > 0 && counted[N_DOWNGRADES] > 0 && counted[N_RESTARTS] > 0 &&
	   counted[N_AT_REST] > 0 && parked > 0, "and much has happened");
	return done_testing();
}
