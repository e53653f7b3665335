/*
 * group_assign_test.c
 *		Server-side assignors: examples, and properties of random groups.
 *
 * GROUP_SEED=n for others.
 */
#include "tap.h"

#include <stdlib.h>

#include "group/kgroup_assign.h"

#define MAX_TOPICS	12
#define MAX_MEMBERS	40
#define MAX_PARTITIONS	4000

static KAssignTopic topics[MAX_TOPICS];
static KAssignMember members[MAX_MEMBERS];
static int32_t subscriptions[MAX_MEMBERS][MAX_TOPICS];
static char names[MAX_MEMBERS][8];
static int32_t owners[MAX_PARTITIONS];
static KArena arena;
static _Alignas(16) uint8_t memory[1 << 20];
static KAssign assign = {.topics = topics,.members = members,.owners = owners,.arena = &arena};

static uint64_t seed = 1;

static uint32_t
below(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (seed >> 33) % n;
}

static void
set_topics(int32_t count, const int32_t *partitions)
{
	assign.ntopics = count;
	for (int32_t t = 0; t < count; t++)
	{
		topics[t].id.b[0] = (uint8_t) t;
		topics[t].partitions = partitions[t];
	}
	assign.npartitions = kassign_number(topics, count);
	for (int32_t p = 0; p < assign.npartitions; p++)
		owners[p] = KASSIGN_NOBODY;
}

/* Subscribed to the topics whose bits are set. */
static void
add_member(const char *name, const char *instance, uint32_t bits)
{
	int32_t		m = assign.nmembers++;

	snprintf(names[m], sizeof(names[m]), "%s", name);
	members[m] = (KAssignMember) {.id = {names[m], (int32_t) strlen(names[m])},
		.instance_id = instance ? (KStr) {instance, (int32_t) strlen(instance)} : KSTR_NULL,
	.topics = subscriptions[m]};
	for (int32_t t = 0; t < assign.ntopics; t++)
		if (bits >> t & 1)
			subscriptions[m][members[m].ntopics++] = t;
}

static bool
run(bool (*assignor) (KAssign *))
{
	karena_init(&arena, memory, sizeof(memory), 0, NULL, NULL);
	return assignor(&assign);
}

/* One digit a partition, topics apart: who owns it. */
static const char *
picture(void)
{
	static char buffer[MAX_PARTITIONS + MAX_TOPICS];
	char	   *out = buffer;

	for (int32_t t = 0; t < assign.ntopics; t++)
	{
		if (t > 0)
			*out++ = ' ';
		for (int32_t p = 0; p < topics[t].partitions; p++)
			*out++ = owners[topics[t].first + p] == KASSIGN_NOBODY ? '-' :
				(char) ('0' + owners[topics[t].first + p]);
	}
	*out = '\0';
	return buffer;
}

static bool
subscribes(int32_t m, int32_t t)
{
	for (int32_t i = 0; i < members[m].ntopics; i++)
		if (members[m].topics[i] == t)
			return true;
	return false;
}

/* Everything that somebody may have is somebody's who may have it. */
static bool
is_valid(void)
{
	for (int32_t t = 0; t < assign.ntopics; t++)
	{
		bool		wanted = false;

		for (int32_t m = 0; m < assign.nmembers; m++)
			wanted |= subscribes(m, t);
		for (int32_t p = 0; p < topics[t].partitions; p++)
		{
			int32_t		owner = owners[topics[t].first + p];

			if (wanted ? owner == KASSIGN_NOBODY || !subscribes(owner, t) :
				owner != KASSIGN_NOBODY)
				return false;
		}
	}
	return true;
}

/* No partition can go to somebody who would have less even with it. */
static bool
is_balanced(void)
{
	int32_t		loads[MAX_MEMBERS] = {0};

	for (int32_t p = 0; p < assign.npartitions; p++)
		if (owners[p] != KASSIGN_NOBODY)
			loads[owners[p]]++;
	for (int32_t t = 0; t < assign.ntopics; t++)
		for (int32_t p = 0; p < topics[t].partitions; p++)
			for (int32_t m = 0; m < assign.nmembers; m++)
				if (subscribes(m, t) && owners[topics[t].first + p] != KASSIGN_NOBODY &&
					loads[owners[topics[t].first + p]] - loads[m] > 1)
					return false;
	return true;
}

/* A topic's partitions are runs of equal length, or one more for the first. */
static bool
is_range(void)
{
	for (int32_t t = 0; t < assign.ntopics; t++)
	{
		int32_t		counts[MAX_MEMBERS] = {0};
		int32_t		subscribers = 0;

		for (int32_t p = 0; p < topics[t].partitions; p++)
		{
			int32_t		owner = owners[topics[t].first + p];

			if (owner == KASSIGN_NOBODY)
				continue;
			if (counts[owner]++ > 0 && owners[topics[t].first + p - 1] != owner)
				return false;
		}
		for (int32_t m = 0; m < assign.nmembers; m++)
			subscribers += subscribes(m, t);
		for (int32_t m = 0; m < assign.nmembers; m++)
			if (subscribes(m, t) && (counts[m] < topics[t].partitions / subscribers ||
									 counts[m] > topics[t].partitions / subscribers + 1))
				return false;
	}
	return true;
}

static void
random_group(bool same)
{
	int32_t		partitions[MAX_TOPICS];
	int32_t		ntopics = (int32_t) below(MAX_TOPICS) + 1;
	int32_t		nmembers = (int32_t) below(MAX_MEMBERS) + 1;
	uint32_t	bits = below(1u << ntopics);

	for (int32_t t = 0; t < ntopics; t++)
		partitions[t] = (int32_t) below(below(4) == 0 ? 300 : 20);
	set_topics(ntopics, partitions);
	assign.nmembers = 0;
	for (int32_t m = 0; m < nmembers; m++)
	{
		char		name[8];

		snprintf(name, sizeof(name), "m%d", (int) m);
		add_member(name, below(4) == 0 ? names[m] : NULL,
				   same ? bits : below(1u << ntopics));
	}
	/* owned by somebody who may or may not have it */
	for (int32_t p = 0; p < assign.npartitions; p++)
		owners[p] = below(3) == 0 ? KASSIGN_NOBODY : (int32_t) below((uint32_t) nmembers);
}

static void
test_examples(void)
{
	set_topics(2, (const int32_t[]) {5, 3});
	add_member("b", NULL, 3);
	add_member("a", NULL, 3);
	ok(run(kassign_range), "range");
	is_str(picture(), "11100 110", "by member id, topic by topic");
	add_member("c", "x", 3);
	run(kassign_range);
	is_str(picture(), "22110 210", "static members first");
	members[1].ntopics = 1;
	run(kassign_range);
	is_str(picture(), "22110 220", "only for subscribers");

	set_topics(1, (const int32_t[]) {5});
	assign.nmembers = 0;
	add_member("a", NULL, 1);
	add_member("b", NULL, 1);
	ok(run(kassign_uniform), "uniform");
	is_str(picture(), "00111", "2 and 3");
	add_member("c", NULL, 1);
	run(kassign_uniform);
	is_str(picture(), "00112", "a third takes what one has too many");
	assign.nmembers = 2;
	run(kassign_uniform);
	is_str(picture(), "00111", "when it goes, nobody else's move");

	set_topics(2, (const int32_t[]) {4, 4});
	assign.nmembers = 0;
	add_member("a", NULL, 1);
	add_member("b", NULL, 3);
	run(kassign_uniform);
	is_str(picture(), "0000 1111", "with different subscriptions");
	add_member("c", NULL, 3);
	run(kassign_uniform);
	is_str(picture()[5] == '1' ? "ok" : picture(), "ok", "as little as possible moves");
	ok(is_balanced() && is_valid(), "and all have equally many");

	assign.nmembers = 0;
	ok(run(kassign_uniform) && run(kassign_range), "a group without members");
	is_str(picture(), "---- ----", "owns nothing");

	ok(kassign_find(KSTR("range"))->assign == kassign_range, "by name");
	ok(kassign_find(KSTR("rang")) == NULL && kassign_find(KSTR_NULL) == NULL, "or not");
	topics[0].partitions = topics[1].partitions = INT32_MAX;
	is_int(kassign_number(topics, 2), -1, "too many partitions");
}

static void
test_random(void)
{
	int			valid = 0;
	int			balanced = 0;
	int			stable = 0;
	int			sticky = 0;
	int			ranges = 0;
	const int	rounds = 3000;

	for (int i = 0; i < rounds; i++)
	{
		static int32_t before[MAX_PARTITIONS];
		bool		same = i % 2 == 0;
		int32_t		gone;
		int32_t		moved = 0;
		int32_t		must = 0;

		random_group(same);
		run(kassign_uniform);
		valid += is_valid();
		balanced += is_balanced();
		memcpy(before, owners, sizeof(before));
		run(kassign_uniform);
		stable += memcmp(before, owners, sizeof(before)) == 0;

		/* The last member goes: what it had must move, and of equals nothing else. */
		gone = --assign.nmembers;
		for (int32_t p = 0; p < assign.npartitions; p++)
			must += before[p] == gone;
		run(kassign_uniform);
		for (int32_t p = 0; p < assign.npartitions; p++)
			moved += before[p] != KASSIGN_NOBODY && before[p] != owners[p];
		sticky += !same || assign.nmembers == 0 || moved == must;
		assign.nmembers++;

		run(kassign_range);
		ranges += is_valid() && is_range();
	}
	is_int(valid, rounds, "uniform: valid");
	is_int(balanced, rounds, "uniform: balanced");
	is_int(stable, rounds, "uniform: moves nothing without a reason");
	is_int(sticky, rounds, "uniform: a member that goes moves no more than it had");
	is_int(ranges, rounds, "range: valid, in runs");
}

int
main(void)
{
	if (getenv("GROUP_SEED") != NULL)
		seed = strtoull(getenv("GROUP_SEED"), NULL, 10);
	note("GROUP_SEED=%llu", (unsigned long long) seed);
	test_examples();
	test_random();
	return done_testing();
}
