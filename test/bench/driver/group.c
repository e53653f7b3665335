/*
 * group.c
 *		Consumer groups of the classic protocol with requests of our own: how fast they join, what
 *		many of them cost at rest, and commits of their members.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define API_OFFSET_COMMIT	8
#define API_OFFSET_FETCH	9
#define API_FIND_COORDINATOR 10
#define API_JOIN_GROUP		11
#define API_HEARTBEAT		12
#define API_LEAVE_GROUP		13
#define API_SYNC_GROUP		14

#define SESSION_MS			60000
#define HEARTBEAT_MS		3000	/* Kafka's default */
#define ASSIGNMENT_SIZE		16

#define COORDINATOR_LOAD_IN_PROGRESS 14
#define NOT_COORDINATOR		16
#define UNKNOWN_MEMBER_ID	25

/* Errors that pass: the coordinator is loading, not available, or not yet made. */
#define IS_TRANSIENT(error) ((error) >= COORDINATOR_LOAD_IN_PROGRESS && (error) <= NOT_COORDINATOR)

typedef struct Member
{
	char		group[64];
	char		id[256];
	int			number;			/* in its group */
	int			generation;
	bool		leads;
	int			fd;
	Buffer		request;
	Buffer		answer;
	pthread_t	thread;
	int64_t		committed;		/* the greatest offset that was acknowledged */
} Member;

static atomic_int request_id;
static Histogram join_hist;

static void
member_begin(Member *member, int api, int version)
{
	request_begin(&member->request, api, version, ++request_id);
}

/* The rest of an answer that begins with a correlation id; a member's requests are one at a time. */
static void
member_receive(Member *member)
{
	receive_answer(member->fd, &member->answer);
	get_number(&member->answer, 4);
}

static void
member_ask(Member *member)
{
	request_end(&member->request);
	send_request(member->fd, &member->request);
	member_receive(member);
}

/* A string of an answer. */
static void
get_string(Buffer *answer, char *string, size_t size)
{
	int64_t		length = get_number(answer, 2);

	if (length < 0 || (size_t) length >= size)
		die("a string of %ld bytes", (long) length);
	for (int64_t i = 0; i < length; i++)
		string[i] = (char) get_number(answer, 1);
	string[length] = '\0';
}

/* The error of a heartbeat. */
static int
heartbeat_ask(Member *member)
{
	member_begin(member, API_HEARTBEAT, 2);
	put_string(&member->request, member->group);
	put_number(&member->request, member->generation, 4);
	put_string(&member->request, member->id);
	member_ask(member);
	get_number(&member->answer, 4); /* throttle time */
	return (int) get_number(&member->answer, 2);
}

/*
 * Waits until the group has a coordinator that serves it: Kafka makes a topic when the first one is
 * looked for, and then loads it. A heartbeat of nobody is refused for what it is only after that;
 * while the coordinator loads, Kafka says yes to all heartbeats.
 */
static void
coordinator_wait(Member *member)
{
	int			error = NOT_COORDINATOR;

	for (int i = 0; i < 600 && error != UNKNOWN_MEMBER_ID; i++)
	{
		if (i > 0)
			sleep_until(now_ns() + 100000000);
		member_begin(member, API_FIND_COORDINATOR, 0);
		put_string(&member->request, member->group);
		member_ask(member);
		error = (int) get_number(&member->answer, 2);
		if (error == 0)
			error = heartbeat_ask(member);
		if (error != 0 && error != UNKNOWN_MEMBER_ID && !IS_TRANSIENT(error))
			break;
	}
	if (error != UNKNOWN_MEMBER_ID)
		die("no coordinator: error %d", error);
}

/* Sends JoinGroup 3, in which new members need no id first; the subscription tells the round. */
static void
join_send(Member *member, int round)
{
	Buffer	   *request = &member->request;
	const char *topic = text_option("topic");

	member_begin(member, API_JOIN_GROUP, 3);
	put_string(request, member->group);
	put_number(request, SESSION_MS, 4);
	put_number(request, SESSION_MS, 4);
	put_string(request, member->id);
	put_string(request, "consumer");
	put_number(request, 1, 4);
	put_string(request, "range");
	put_number(request, 2 + 4 + 2 + (int64_t) strlen(topic) + 4 + 4, 4);
	put_number(request, 0, 2);	/* version */
	put_number(request, 1, 4);
	put_string(request, topic);
	put_number(request, 4, 4);	/* user data */
	put_number(request, round, 4);
	request_end(request);
	send_request(member->fd, request);
}

/* What the leader of a round says to a member. */
static void
put_assignment(Buffer *buffer, const Member *member, int round)
{
	put_number(buffer, 0x6b6166b6, 4);
	put_number(buffer, round, 4);
	put_number(buffer, member->number, 8);
}

/* Reads the answer to JoinGroup; returns its error. */
static int
join_receive(Member *member, int count)
{
	Buffer	   *answer = &member->answer;
	char		text[256];
	int			error;

	member_receive(member);
	get_number(answer, 4);		/* throttle time */
	error = (int) get_number(answer, 2);
	member->generation = (int) get_number(answer, 4);
	get_string(answer, text, sizeof text);	/* protocol */
	get_string(answer, text, sizeof text);	/* leader */
	get_string(answer, member->id, sizeof member->id);
	member->leads = strcmp(text, member->id) == 0;
	if (error == 0 && get_number(answer, 4) != (member->leads ? count : 0))
		die("the leader was told of too few members, or another one of some");
	return error;
}

/* All members of a group have asked to join: they have to be of one generation, and one leads. */
static void
joined_receive(Member *members, int count)
{
	int			leaders = 0;

	for (int i = 0; i < count; i++)
	{
		int			error = join_receive(&members[i], count);

		if (error != 0)
			die("JoinGroup: error %d", error);
		if (members[i].generation != members[0].generation)
			die("members of one round are in generations %d and %d", members[0].generation,
				members[i].generation);
		leaders += members[i].leads;
	}
	if (leaders != 1)
		die("%d leaders", leaders);
}

/* All members sync; each has to get what the leader meant for it. */
static void
group_sync(Member *members, int count, int round)
{
	for (int i = 0; i < count; i++)
	{
		Buffer	   *request = &members[i].request;

		member_begin(&members[i], API_SYNC_GROUP, 2);
		put_string(request, members[i].group);
		put_number(request, members[i].generation, 4);
		put_string(request, members[i].id);
		put_number(request, members[i].leads ? count : 0, 4);
		for (int k = 0; k < count && members[i].leads; k++)
		{
			put_string(request, members[k].id);
			put_number(request, ASSIGNMENT_SIZE, 4);
			put_assignment(request, &members[k], round);
		}
		request_end(request);
		send_request(members[i].fd, request);
	}
	for (int i = 0; i < count; i++)
	{
		Buffer	   *answer = &members[i].answer;
		Buffer		wanted = {0};
		int			error;

		member_receive(&members[i]);
		get_number(answer, 4);	/* throttle time */
		error = (int) get_number(answer, 2);
		if (error != 0)
			die("SyncGroup: error %d", error);
		put_assignment(&wanted, &members[i], round);
		if (get_number(answer, 4) != ASSIGNMENT_SIZE ||
			answer->length - answer->at < ASSIGNMENT_SIZE ||
			memcmp(answer->data + answer->at, wanted.data, ASSIGNMENT_SIZE) != 0)
			die("a member got another assignment than its leader gave it");
		free(wanted.data);
	}
}

static void
group_join(Member *members, int count, int round)
{
	for (int i = 0; i < count; i++)
		join_send(&members[i], round);
	joined_receive(members, count);
	group_sync(members, count, round);
}

static Member *
members_make(const char *name, int groups, int count)
{
	Member	   *members = calloc((size_t) (groups * count), sizeof *members);
	long		unique = (long) (now_ns() / 1000000 % 1000000000);	/* no turn goes on with another's */

	if (members == NULL)
		die("out of memory");
	for (int i = 0; i < groups * count; i++)
	{
		members[i].fd = raw_connect(false);
		members[i].number = i % count;
		snprintf(members[i].group, sizeof members[i].group, "%s-%ld-%d", name, unique,
				 i / count);
	}
	coordinator_wait(&members[0]);
	return members;
}

/* Nobody has to wait for sessions that end in another turn. */
static void
members_leave(Member *members, int all)
{
	for (int i = 0; i < all; i++)
	{
		int			error;

		member_begin(&members[i], API_LEAVE_GROUP, 0);
		put_string(&members[i].request, members[i].group);
		put_string(&members[i].request, members[i].id);
		member_ask(&members[i]);
		error = (int) get_number(&members[i].answer, 2);
		if (error != 0)
			fail("LeaveGroup: error %d", error);
	}
}

/* ---- join: the same group again and again ---- */

int
join(void)
{
	int			count = (int) number_option("members");
	Member	   *members = members_make("bench-join", 1, count);
	int			rounds = 0;

	hist_init(&join_hist);
	/* The first time waits for group.initial.rebalance.delay.ms. */
	group_join(members, count, 0);
	window_open(now_ns());
	for (int64_t now = now_ns(); now < window_end; now = now_ns())
	{
		group_join(members, count, ++rounds);
		if (now >= window_start)
			hist_add(&join_hist, now_ns() - now);
	}
	members_leave(members, count);
	printf("{\"records\": %d, \"bytes\": %d, \"rate\": %.1f", rounds * count,
		   rounds * count * ASSIGNMENT_SIZE, join_hist.n / number_option("seconds"));
	hist_print("join", &join_hist);
	return finish();
}

/* ---- idle: many groups that do nothing but live ---- */

/* All groups have their first round at the same time, since each waits for its initial delay. */
static void
groups_join(Member *members, int groups, int count)
{
	for (int i = 0; i < groups; i++)
		coordinator_wait(&members[i * count]);
	for (int i = 0; i < groups * count; i++)
		join_send(&members[i], 0);
	for (int i = 0; i < groups; i++)
	{
		joined_receive(&members[i * count], count);
		group_sync(&members[i * count], count, 0);
	}
}

int
idle(void)
{
	int			groups = (int) number_option("groups");
	int			count = (int) number_option("members");
	int			all = groups * count;
	Member	   *members;
	struct pollfd input = {.fd = 0,.events = POLLIN};
	long		beats = 0;
	int64_t		due;

	files_raise((size_t) all);
	members = members_make("bench-idle", groups, count);
	hist_init(&join_hist);
	groups_join(members, groups, count);
	printf("ready\n");
	fflush(stdout);
	for (due = now_ns(); errors == 0 && (beats % 16 != 0 || poll(&input, 1, 0) == 0);
		 due += (int64_t) (HEARTBEAT_MS * 1e6 / all))
	{
		int64_t		began;
		int			error;

		sleep_until(due);
		began = now_ns();
		error = heartbeat_ask(&members[beats++ % all]);
		if (error != 0)
			fail("Heartbeat: error %d", error);
		hist_add(&join_hist, now_ns() - began);
	}
	members_leave(members, all);
	printf("{\"records\": %ld, \"bytes\": %ld", beats, beats);
	hist_print("heartbeat", &join_hist);
	return finish();
}

/* ---- commit: members of one group, each with one commit in flight ---- */

static void *
commit_main(void *arg)
{
	Member	   *member = arg;
	int			partition = member->number % (int) number_option("partitions");
	const char *topic = text_option("topic");

	for (int64_t now = now_ns(); now < window_end && errors == 0; now = now_ns())
	{
		Buffer	   *request = &member->request;
		Buffer	   *answer = &member->answer;
		int			error;

		member_begin(member, API_OFFSET_COMMIT, 2);
		put_string(request, member->group);
		put_number(request, member->generation, 4);
		put_string(request, member->id);
		put_number(request, -1, 8); /* retention time */
		put_number(request, 1, 4);
		put_string(request, topic);
		put_number(request, 1, 4);
		put_number(request, partition, 4);
		put_number(request, member->committed + 1, 8);
		put_string(request, "");
		member_ask(member);
		get_skip(answer, 4 + 2 + strlen(topic) + 4 + 4);
		error = (int) get_number(answer, 2);
		if (error != 0)
		{
			fail("OffsetCommit: error %d", error);
			break;
		}
		member->committed++;
		atomic_fetch_add(&acked, 1);
		if (now >= window_start)
			hist_add(&ack_hist, now_ns() - now);
	}
	return NULL;
}

/* What the server says is committed must be what was acknowledged last. */
static void
commit_check(Member *member)
{
	Buffer	   *request = &member->request;
	Buffer	   *answer = &member->answer;
	const char *topic = text_option("topic");
	int64_t		offset;

	member_begin(member, API_OFFSET_FETCH, 1);
	put_string(request, member->group);
	put_number(request, 1, 4);
	put_string(request, topic);
	put_number(request, 1, 4);
	put_number(request, member->number, 4);
	member_ask(member);
	get_skip(answer, 4 + 2 + strlen(topic) + 4 + 4);
	offset = get_number(answer, 8);
	if (offset != member->committed)
		fail("%ld is committed, %ld was acknowledged", (long) offset, (long) member->committed);
}

int
commit(void)
{
	int			count = (int) number_option("threads");
	Member	   *members;

	if (count > (int) number_option("partitions"))
		die("more members than partitions");
	members = members_make("bench-commit", 1, count);
	hist_init(&ack_hist);
	group_join(members, count, 0);
	window_open(now_ns());
	for (int i = 0; i < count; i++)
		if (pthread_create(&members[i].thread, NULL, commit_main, &members[i]))
			die("no thread");
	for (int i = 0; i < count; i++)
	{
		pthread_join(members[i].thread, NULL);
		commit_check(&members[i]);
	}
	members_leave(members, count);
	printf("{\"records\": %ld, \"bytes\": %ld, \"rate\": %.0f", (long) acked, (long) acked * 8,
		   ack_hist.n / number_option("seconds"));
	hist_print("ack", &ack_hist);
	return finish();
}
