/*
 * group_world.h
 *		What surrounds a group in tests: a fake clock, topics, shared memory, a table of rows,
 *		and brokers that hold requests.
 *
 * Every event is given to the group as a server would do it: the image is opened, the event is
 * handled, the new image replaces the old one.  Before that, the same event is tried with too
 * little memory, and must then leave no trace.
 */
#ifndef GROUP_WORLD_H
#define GROUP_WORLD_H

#include <stdlib.h>
#include <string.h>

#include "group/kgroup_int.h"
#include "group/koffset.h"

#define WORLD_TOPICS	64
#define WORLD_LIMIT		((size_t) 256 * 1024 * 1024)

typedef struct WorldTopic
{
	char		name[32];
	int32_t		partitions;		/* 0: does not exist */
	KUuid		id;
} WorldTopic;

/* A request that was sent, and its answer once there is one. */
typedef struct WorldRequest
{
	KApiKey		api;
	int32_t		who;			/* of the test's own numbering */
	int64_t		sent;
	const void *response;
	uint64_t	version;		/* that the answer waits for */
	int			answers;		/* received so far: more than one is wrong */
} WorldRequest;

typedef struct WorldRow
{
	char	   *member_id;		/* NULL: the group's */
	uint8_t    *data;
	int32_t		len;
} WorldRow;

typedef struct World
{
	KGroupEnv	env;
	KArena		arena;
	int64_t		now;
	uint64_t	random;
	WorldTopic	topics[WORLD_TOPICS];

	uint8_t    *image;
	size_t		image_len;

	WorldRow   *rows;
	int32_t		nrows;

	WorldRequest *requests;		/* by number */
	int64_t		nrequests;
	void		(*on_answer) (struct World *w, WorldRequest *request);
	void	   *user;

	void	  **blocks;			/* the arena's */
	size_t		nblocks;
	bool		keep;			/* blocks, so that answers can be looked at later */
	bool		lag;			/* do not write rows with every event */
	int			starve;			/* of 100 events, how many are tried without memory first */
	int64_t		starved;		/* events that failed so */
	int64_t		rests;			/* requests that a group at rest was enough for */
	int			broken;			/* rules of the interface that did not hold */
} World;

static uint32_t
world_random(World *w)
{
	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (w->random >> 33);
}

static uint32_t
world_below(World *w, uint32_t n)
{
	return world_random(w) % n;
}

static KStr
str(const char *s)
{
	return s == NULL ? KSTR_NULL : (KStr) {s, (int32_t) strlen(s)};
}

/* ---- the environment ---- */

static void *
world_grow(void *ctx, size_t size)
{
	World	   *w = ctx;
	void	   *block = malloc(size);

	w->blocks = realloc(w->blocks, (w->nblocks + 1) * sizeof(void *));
	if (block == NULL || w->blocks == NULL)
		abort();
	memset(block, 0xa5, size);
	w->blocks[w->nblocks++] = block;
	return block;
}

static void
world_free_blocks(World *w)
{
	for (size_t i = 0; i < w->nblocks; i++)
		free(w->blocks[i]);
	w->nblocks = 0;
}

static bool
world_by_name(void *arg, KStr name, KGroupTopic *topic)
{
	World	   *w = arg;

	for (int i = 0; i < WORLD_TOPICS; i++)
	{
		if (w->topics[i].partitions > 0 && name.len == (int32_t) strlen(w->topics[i].name) &&
			memcmp(name.data, w->topics[i].name, (size_t) name.len) == 0)
		{
			*topic = (KGroupTopic) {w->topics[i].id, str(w->topics[i].name),
				w->topics[i].partitions};
			return true;
		}
	}
	return false;
}

static bool
world_by_id(void *arg, const KUuid *id, KGroupTopic *topic)
{
	World	   *w = arg;

	for (int i = 0; i < WORLD_TOPICS; i++)
	{
		if (w->topics[i].partitions > 0 && memcmp(id->b, w->topics[i].id.b, 16) == 0)
		{
			*topic = (KGroupTopic) {w->topics[i].id, str(w->topics[i].name),
				w->topics[i].partitions};
			return true;
		}
	}
	return false;
}

/* A pattern here is a prefix and ".*"; with "(" in it, it is none. */
static bool
world_match(void *arg, KStr pattern, KGroupMatch match, void *match_arg)
{
	World	   *w = arg;

	if (pattern.len < 2 || memchr(pattern.data, '(', (size_t) pattern.len) != NULL)
		return false;
	for (int i = 0; i < WORLD_TOPICS; i++)
	{
		char		copy[32];

		if (w->topics[i].partitions == 0 ||
			strncmp(w->topics[i].name, pattern.data, (size_t) pattern.len - 2) != 0)
			continue;
		strcpy(copy, w->topics[i].name);
		match(match_arg, str(copy));
		memset(copy, 0, sizeof(copy));
	}
	return true;
}

static void
world_bytes(void *arg, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t) world_random(arg);
}

static void
world_init(World *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->now = INT64_C(1700000000000);
	w->random = seed * 2 + 1;
	w->env.config = kgroup_config_defaults;
	w->env.arena = &w->arena;
	w->env.topics_version = 1;
	w->env.topic_by_name = world_by_name;
	w->env.topic_by_id = world_by_id;
	w->env.match_topics = world_match;
	w->env.random = world_bytes;
	w->env.arg = w;
	w->starve = 100;
	w->keep = true;
	w->requests = calloc(1, sizeof(WorldRequest));
	w->nrequests = 1;
}

static void
world_free_rows(World *w)
{
	for (int32_t i = 0; i < w->nrows; i++)
	{
		free(w->rows[i].member_id);
		free(w->rows[i].data);
	}
	w->nrows = 0;
}

static void
world_end(World *w)
{
	world_free_blocks(w);
	world_free_rows(w);
	free(w->blocks);
	free(w->rows);
	free(w->requests);
	free(w->image);
}

__attribute__((unused))
static WorldTopic *
world_topic(World *w, const char *name, int32_t partitions)
{
	WorldTopic *free_one = NULL;

	for (int i = 0; i < WORLD_TOPICS; i++)
	{
		if (strcmp(w->topics[i].name, name) == 0 && w->topics[i].partitions > 0)
		{
			free_one = &w->topics[i];
			break;
		}
		if (w->topics[i].partitions == 0 && free_one == NULL)
			free_one = &w->topics[i];
	}
	if (free_one->partitions == 0)
	{
		strcpy(free_one->name, name);
		world_bytes(w, free_one->id.b, 16);
	}
	free_one->partitions = partitions;
	w->env.topics_version++;
	return free_one;
}

/* ---- rows ---- */

static void
world_write_row(World *w, const KGroupRow *row)
{
	int32_t		i = 0;
	bool		is_member = row->member_id.len >= 0;

	if (!is_member && row->data.len < 0)
	{
		world_free_rows(w);
		return;
	}
	while (i < w->nrows && (is_member != (w->rows[i].member_id != NULL) ||
							(is_member && ((int32_t) strlen(w->rows[i].member_id) !=
										   row->member_id.len ||
										   memcmp(w->rows[i].member_id, row->member_id.data,
												  (size_t) row->member_id.len) != 0))))
		i++;
	if (row->data.len < 0)
	{
		if (i == w->nrows)
			return;
		free(w->rows[i].member_id);
		free(w->rows[i].data);
		w->rows[i] = w->rows[--w->nrows];
		return;
	}
	if (i == w->nrows)
	{
		w->rows = realloc(w->rows, (size_t) (w->nrows + 1) * sizeof(WorldRow));
		w->rows[w->nrows++] = (WorldRow) {0};
		if (is_member)
		{
			w->rows[i].member_id = calloc(1, (size_t) row->member_id.len + 1);
			memcpy(w->rows[i].member_id, row->member_id.data, (size_t) row->member_id.len);
		}
	}
	free(w->rows[i].data);
	w->rows[i].data = malloc((size_t) row->data.len);
	memcpy(w->rows[i].data, row->data.data, (size_t) row->data.len);
	w->rows[i].len = row->data.len;
}

static const KGroupEnv *
world_env(World *w)
{
	w->env.wall_ms = w->now;
	return &w->env;
}

static KGroup *
world_open(World *w)
{
	KGroup	   *g;

	karena_init(&w->arena, NULL, 0, WORLD_LIMIT, world_grow, w);
	g = kgroup_open(world_env(w), w->now, KSTR("g"), w->image, w->image_len);
	if (g == NULL)
	{
		w->broken++;
		abort();
	}
	return g;
}

/* What a broker does when it has time: rows to the table, and the image knows. */
static void
world_persist(World *w)
{
	const KGroupRow *rows;
	uint64_t	version;
	int32_t		count;
	KGroupSummary summary;

	if (w->image == NULL)
		return;
	count = kgroup_rows(world_open(w), &rows, &version);
	for (int32_t i = 0; i < count; i++)
		world_write_row(w, &rows[i]);
	kgroup_image_durable(w->image, w->image_len, version);
	w->image_len = kgroup_image_trim(w->image, w->image_len);
	if (!kgroup_image_summary(w->image, w->image_len, &summary) ||
		summary.durable != summary.version)
		w->broken++;
	if (summary.type == KGROUP_NONE)
	{
		free(w->image);
		w->image = NULL;
		w->image_len = 0;
	}
	if (!w->keep)
		world_free_blocks(w);
}

/* The server goes down, and comes up again with what is in the table. */
static bool
world_restart(World *w)
{
	KGroupRow  *rows = calloc((size_t) w->nrows + 1, sizeof(KGroupRow));
	KGroup	   *g;

	free(w->image);
	w->image = NULL;
	w->image_len = 0;
	for (int32_t i = 0; i < w->nrows; i++)
		rows[i] = (KGroupRow) {str(w->rows[i].member_id), {w->rows[i].data, w->rows[i].len}, 0};
	if (w->nrows > 0)
	{
		karena_init(&w->arena, NULL, 0, WORLD_LIMIT, world_grow, w);
		g = kgroup_restore(world_env(w), w->now, KSTR("g"), rows, w->nrows);
		if (g == NULL)
		{
			free(rows);
			return false;
		}
		w->image_len = kgroup_image_size(g);
		w->image = malloc(w->image_len);
		kgroup_image_write(g, w->image);
	}
	free(rows);
	if (!w->keep)
		world_free_blocks(w);
	return true;
}

/* ---- events ---- */

typedef enum WorldEvent
{
	WORLD_TICK,
	WORLD_DELETE,
	WORLD_FORGET_BROKER,
	WORLD_REQUEST
} WorldEvent;

static KGroupResult
world_do(World *w, KGroup *g, WorldEvent event, const KGroupCaller *caller, KApiKey api,
		 const void *message, int16_t *error_code)
{
	switch (event)
	{
		case WORLD_TICK:
			return kgroup_tick(g);
		case WORLD_DELETE:
			return kgroup_delete(g, error_code);
		case WORLD_FORGET_BROKER:
			return kgroup_forget_broker(g, 1);
		case WORLD_REQUEST:
			break;
	}
	switch (api)
	{
		case KAPI_JOIN_GROUP:
			return kgroup_join(g, caller, message);
		case KAPI_SYNC_GROUP:
			return kgroup_sync(g, caller, message);
		case KAPI_HEARTBEAT:
			return kgroup_heartbeat(g, caller, message);
		case KAPI_LEAVE_GROUP:
			return kgroup_leave(g, caller, message);
		case KAPI_CONSUMER_GROUP_HEARTBEAT:
			return kgroup_consumer_heartbeat(g, caller, message);
		default:
			abort();
	}
}

/* An image whose members were in part copied from the one before is what it would be otherwise. */
static void
world_compare(KGroup *g, const uint8_t *image, size_t size)
{
	uint8_t    *plain = malloc(size);
	int32_t		nloaded = g->nloaded;

	g->nloaded = 0;
	kgroup_image_write(g, plain);
	if (memcmp(plain, image, size) != 0)
		abort();
	g->nloaded = nloaded;
	free(plain);
}

static void
world_store(World *w, KGroup *g)
{
	size_t		size = kgroup_image_size(g);
	uint8_t    *image = size > 0 ? malloc(size) : NULL;

	if (size > 0)
	{
		kgroup_image_write(g, image);
		world_compare(g, image, size);
	}
	free(w->image);
	w->image = image;
	w->image_len = size;
}

/* With less memory than it takes: then nothing may have happened. */
static void
world_starve(World *w, WorldEvent event, const KGroupCaller *caller, KApiKey api,
			 const void *message)
{
	uint8_t    *before = NULL;
	uint64_t	random = w->random;
	int16_t		error_code;
	KGroup	   *g;

	if (w->image != NULL)
	{
		before = malloc(w->image_len);
		memcpy(before, w->image, w->image_len);
	}
	karena_init(&w->arena, NULL, 0, 64 + world_below(w, (uint32_t) w->image_len * 6 + 4096),
				world_grow, w);
	g = kgroup_open(world_env(w), w->now, KSTR("g"), w->image, w->image_len);
	if (g != NULL &&
		world_do(w, g, event, caller, api, message, &error_code) == KGROUP_NO_MEMORY)
	{
		int32_t		count;

		kgroup_answers(g, &count);
		w->broken += count != 0;
		w->starved++;
	}
	else if (g == NULL)
		w->starved++;
	w->broken += before != NULL && memcmp(before, w->image, w->image_len) != 0;
	free(before);
	w->random = random;
}

/* What came of a request that a group at rest was tried with. */
typedef struct WorldRest
{
	KGroupRest	result;
	uint8_t    *image;			/* if there is one */
	KSyncGroupResponse answer;	/* in the image */
	uint64_t	version;
} WorldRest;

/* JoinGroup or SyncGroup, in a copy of the image. */
static WorldRest
world_rest(World *w, const KGroupCaller *caller, KApiKey api, const void *message)
{
	WorldRest	rest = {KGROUP_REST_NO};

	if (w->image == NULL || (api != KAPI_JOIN_GROUP && api != KAPI_SYNC_GROUP))
		return rest;
	rest.image = malloc(w->image_len);
	memcpy(rest.image, w->image, w->image_len);
	if (api == KAPI_SYNC_GROUP)
		rest.result = kgroup_image_sync(rest.image, w->image_len, caller->waiter, message,
										&rest.answer, &rest.version);
	else if (kgroup_image_join(&w->env.config, rest.image, w->image_len, caller->waiter, message))
		rest.result = KGROUP_REST_WAITS;
	if (rest.result == KGROUP_REST_NO)
	{
		w->broken += memcmp(rest.image, w->image, w->image_len) != 0;
		free(rest.image);
	}
	return rest;
}

static void
world_compare_answer(const WorldRest *rest, const KGroupAnswer *answers, int32_t count)
{
	const KSyncGroupResponse *answer;

	if (count != (rest->result == KGROUP_REST_ANSWERED))
		abort();
	if (count == 0)
		return;
	answer = answers[0].response;
	if (answers[0].version != rest->version || answer->error_code != rest->answer.error_code ||
		!kg_str_equal(answer->protocol_type, rest->answer.protocol_type) ||
		!kg_str_equal(answer->protocol_name, rest->answer.protocol_name) ||
		!kg_bytes_equal(answer->assignment, rest->answer.assignment))
		abort();
}

/* The image is what the event has made of the open group, but for the next deadline. */
static void
world_compare_rest(World *w, uint8_t *rest)
{
	uint8_t    *eventful = w->image;
	uint8_t    *again = malloc(w->image_len);
	KGroup	   *g;

	w->image = rest;
	g = world_open(w);
	if (kgroup_image_size(g) != w->image_len)
		abort();
	kgroup_image_write(g, again);
	if (memcmp(again, eventful, w->image_len) != 0)
		abort();
	free(again);
	free(eventful);
	w->rests++;
}

static KGroupResult
world_event(World *w, WorldEvent event, const KGroupCaller *caller, KApiKey api,
			const void *message, int16_t *error_code)
{
	KGroupResult result;
	const KGroupAnswer *answers;
	WorldRest	rest = {KGROUP_REST_NO};
	int32_t		count;
	KGroup	   *g;

	if (event == WORLD_REQUEST)
		rest = world_rest(w, caller, api, message);
	if (w->starve > 0 && (int) world_below(w, 100) < w->starve)
		world_starve(w, event, caller, api, message);
	g = world_open(w);
	result = world_do(w, g, event, caller, api, message, error_code);
	if (result == KGROUP_CHANGED)
		world_store(w, g);
	else if (result != KGROUP_UNCHANGED)
		w->broken++;
	answers = kgroup_answers(g, &count);
	if (rest.result != KGROUP_REST_NO)
	{
		if (result != KGROUP_CHANGED)
			abort();
		world_compare_answer(&rest, answers, count);
		world_compare_rest(w, rest.image);
	}
	for (int32_t i = 0; i < count; i++)
	{
		WorldRequest *request;

		if (answers[i].waiter.broker < 0 || answers[i].waiter.request == 0 ||
			(int64_t) answers[i].waiter.request >= w->nrequests)
		{
			w->broken++;
			continue;
		}
		request = &w->requests[answers[i].waiter.request];
		request->answers++;
		w->broken += request->answers > 1 || request->api != answers[i].api;
		request->response = answers[i].response;
		request->version = answers[i].version;
		if (w->on_answer != NULL)
			w->on_answer(w, request);
	}
	if (!w->lag)
		world_persist(w);
	else if (!w->keep)
		world_free_blocks(w);
	return result;
}

/* Sends a request, and returns its number. */
static int64_t
world_send(World *w, KApiKey api, int version, const void *message, int32_t who)
{
	KGroupCaller caller = {{(uint64_t) w->nrequests, 1, (int16_t) version}, KSTR("client"),
	KSTR("/127.0.0.1")};
	int64_t		number = w->nrequests;

	if ((w->nrequests & (w->nrequests - 1)) == 0)
		w->requests = realloc(w->requests, (size_t) w->nrequests * 2 * sizeof(WorldRequest));
	w->requests[w->nrequests++] = (WorldRequest) {.api = api,.who = who,.sent = w->now};
	world_event(w, WORLD_REQUEST, &caller, api, message, NULL);
	return number;
}

static int64_t
world_deadline(const World *w)
{
	KGroupSummary summary;

	if (w->image == NULL || !kgroup_image_summary(w->image, w->image_len, &summary))
		return INT64_MAX;
	return summary.next_deadline;
}

/* Lets the time pass, with everything that is due on the way. */
__attribute__((unused))
static void
world_pass(World *w, int64_t ms)
{
	int64_t		end = w->now + ms;

	while (world_deadline(w) <= end)
	{
		int64_t		deadline = world_deadline(w);

		w->now = deadline > w->now ? deadline : w->now;
		world_event(w, WORLD_TICK, NULL, 0, NULL, NULL);
		if (world_deadline(w) <= w->now)
		{
			w->broken++;
			abort();
		}
	}
	w->now = end;
}

__attribute__((unused))
static KGroupSummary
world_summary(const World *w)
{
	KGroupSummary summary = {.type = KGROUP_NONE,.state = KGROUP_DEAD};

	if (w->image != NULL)
		kgroup_image_summary(w->image, w->image_len, &summary);
	return summary;
}

#endif							/* GROUP_WORLD_H */
