/*
 * fuzz_group.c
 *		libFuzzer: any bytes as the rows of a group, and what clients put into protocols.
 *
 * Input: first the sizes of rows, then the rows.  What kgroup_restore() takes must live through a
 * tick, a join of each protocol and a description, and its image must open again.
 */
#include <stdlib.h>
#include <string.h>

#include "group/kgroup_int.h"

#define MAX_ROWS	4

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *blocks[4096];
static size_t nblocks;

static void *
grow(void *ctx, size_t size)
{
	return nblocks < 4096 ? (blocks[nblocks++] = malloc(size)) : NULL;
}

static bool
by_name(void *arg, KStr name, KGroupTopic *topic)
{
	*topic = (KGroupTopic) {.id = {{(uint8_t) name.len}},.name = name,.partitions = 3};
	return name.len < 5;
}

static bool
by_id(void *arg, const KUuid *id, KGroupTopic *topic)
{
	*topic = (KGroupTopic) {.id = *id,.name = KSTR("t"),.partitions = 3};
	return id->b[0] < 5;
}

static bool
match(void *arg, KStr pattern, KGroupMatch matched, void *match_arg)
{
	matched(match_arg, KSTR("t"));
	return true;
}

static void
zeroes(void *arg, uint8_t *bytes, size_t len)
{
	memset(bytes, 0, len);
}

static KArena arena;
static KGroupEnv env = {.arena = &arena,.topics_version = 1,.topic_by_name = by_name,
.topic_by_id = by_id,.match_topics = match,.random = zeroes};

static uint8_t *
image_of(KGroup *g, size_t *len)
{
	uint8_t    *image;

	*len = kgroup_image_size(g);
	image = malloc(*len + 1);
	if (*len > 0)
	{
		uint8_t    *plain = malloc(*len);

		kgroup_image_write(g, image);
		/* the same without the bytes of members that have not changed */
		g->nloaded = 0;
		kgroup_image_write(g, plain);
		if (memcmp(image, plain, *len) != 0)
			abort();
		free(plain);
	}
	return image;
}

/* One more event on the image. */
static void
event(uint8_t **image, size_t *len, int which, KBytes metadata)
{
	KGroup	   *g = kgroup_open(&env, 1000000, KSTR("g"), *len > 0 ? *image : NULL, *len);
	KGroupCaller caller = {{1, 1, 3}, KSTR("c"), KSTR("h")};
	KGroupResult result = KGROUP_UNCHANGED;

	if (g == NULL)
		abort();
	if (which == 0)
		result = kgroup_tick(g);
	else if (which == 1)
	{
		KConsumerGroupHeartbeatRequest request;
		KStr		name = KSTR("t");

		kmsg_init(&kmsg_consumer_group_heartbeat_request, &request);
		request.member_id = KSTR("new");
		request.rebalance_timeout_ms = 1000;
		request.subscribed_topic_names.items = &name;
		request.subscribed_topic_names.count = 1;
		request.topic_partitions.count = 0;
		result = kgroup_consumer_heartbeat(g, &caller, &request);
	}
	else
	{
		KJoinGroupRequest request;
		KJoinGroupRequestProtocol protocol = {.name = KSTR("range"),.metadata = metadata};

		kmsg_init(&kmsg_join_group_request, &request);
		request.session_timeout_ms = 10000;
		request.protocol_type = KSTR("consumer");
		request.protocols.items = &protocol;
		request.protocols.count = 1;
		result = kgroup_join(g, &caller, &request);
	}
	if (result == KGROUP_CHANGED)
	{
		uint8_t    *next = image_of(g, len);

		free(*image);
		*image = next;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	KGroupRow	rows[MAX_ROWS];
	int32_t		count = 0;
	size_t		pos = MAX_ROWS;
	KGroup	   *g;

	if (size < MAX_ROWS)
		return 0;
	for (int i = 0; i < MAX_ROWS && pos < size; i++)
	{
		size_t		len = i == MAX_ROWS - 1 || data[i] == 0 ? size - pos : data[i];

		if (len > size - pos)
			len = size - pos;
		rows[count++] = (KGroupRow)
		{
			.member_id = i == 0 ? KSTR_NULL : (KStr) {&"abc"[i - 1], 1},
				.data = {data + pos, (int32_t) len}
		};
		pos += len;
	}

	env.config = kgroup_config_defaults;
	karena_init(&arena, NULL, 0, 64 << 20, grow, NULL);
	g = kgroup_restore(&env, 5000, KSTR("g"), rows, count);
	if (g != NULL)
	{
		KDescribeGroupsResponseGroup classic;
		KConsumerGroupDescribeResponseGroup consumer;
		size_t		len;
		uint8_t    *image = image_of(g, &len);
		KBytes		metadata = {data, (int32_t) (size < 100 ? size : 100)};

		kgroup_describe(g, 6, &classic);
		kgroup_consumer_describe(g, &consumer);
		for (int which = 0; which < 6; which++)
			event(&image, &len, which % 3, metadata);
		free(image);
	}
	while (nblocks > 0)
		free(blocks[--nblocks]);
	return 0;
}
