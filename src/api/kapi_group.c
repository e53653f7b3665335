/*
 * kapi_group.c
 *		JoinGroup, SyncGroup, Heartbeat, LeaveGroup: events on groups, and their answers.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "portability/instr_time.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "api/kapi_group.h"
#include "api/kapi_wait.h"
#include "kguc.h"
#include "topic/kcatalog.h"

/* An event may use so much memory. */
#define WORK_MAX		((size_t) 256 * 1024 * 1024)

/* An answer's rows are waited for so long; clients have given up by then. */
#define DURABLE_LIMIT	60000	/* ms */

/* Share of a turn of requests that name very many groups or offsets. */
#define SHARE_US		5000

/* A pattern is worked on for so long. */
#define PATTERN_LIMIT	30000	/* ms */

/* What is kept of a request while it is not answered. */
typedef struct GroupRequest
{
	uint64		number;
	const void *response;		/* there, but not durable */
	KCoordVersion version;
	int64		until;
} GroupRequest;

typedef struct Waiting
{
	uint64		number;			/* key */
	KRequest   *req;
} Waiting;

static HTAB *waiting;

/* ------------------------------------------------------------------------
 * What an event may ask of the world
 * ------------------------------------------------------------------------
 */

static bool topics_known;
static Oid	topics_relid;
static uint64 topics_version;

static void
topics_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == topics_relid)
		topics_known = false;
}

void
kapi_group_requests_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(uint64);
	ctl.entrysize = sizeof(Waiting);
	ctl.hcxt = kapi_context;
	waiting = hash_create("kafka group requests", 256, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(topics_changed, (Datum) 0);
}

/*
 * Has all topics in the process' cache, so that they can be looked up under a group's lock, and
 * makes the version of what they are: all brokers must come to the same.
 */
bool
kapi_group_topics(void)
{
	bool		busy = false;
	List	   *topics;
	ListCell   *lc;
	uint64		version = 1;

	kapi_txn();
	if (topics_known)
		return true;
	topics_relid = kcatalog_relation("topic");
	topics_known = true;		/* until an invalidation, which may come with the next line */
	topics = ktopic_list(&busy);
	if (busy)
	{
		topics_known = false;
		return false;
	}
	foreach(lc, topics)
	{
		const		KTopic *topic = lfirst(lc);

		version = hash_bytes_extended((const unsigned char *) topic->name, strlen(topic->name),
									  version);
		version = hash_bytes_extended(topic->id.data, UUID_LEN, version);
		version = hash_bytes_extended((const unsigned char *) &topic->partitions,
									  sizeof(topic->partitions), version);
	}
	topics_version = version;
	return true;
}

static bool
tell_topic(const KTopic * topic, KGroupTopic * out)
{
	if (topic == NULL)
		return false;
	out->id = kapi_uuid(&topic->id);
	out->name = kapi_kstr(topic->name);
	out->partitions = topic->partitions;
	return true;
}

static bool
topic_by_name(void *arg, KStr name, KGroupTopic * out)
{
	bool		busy;

	return tell_topic(kapi_topic(name, &busy), out);
}

static bool
topic_by_id(void *arg, const KUuid * id, KGroupTopic * out)
{
	bool		busy;

	return tell_topic(kapi_topic_by_uuid(id, &busy), out);
}

static bool
match_topics(void *arg, KStr pattern, KGroupMatch match, void *match_arg)
{
	return kapi_pattern_topics(topics_version, pattern, match, match_arg);
}

static void
random_bytes(void *arg, uint8_t *bytes, size_t len)
{
	if (!pg_strong_random(bytes, len))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random number")));
}

static void *
arena_grow(void *ctx, size_t size)
{
	if (size > MaxAllocHugeSize)
		return NULL;
	return MemoryContextAllocExtended(ctx, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

/* What the settings say. */
static void
configure(KGroupConfig * config)
{
	*config = kgroup_config_defaults;
	config->min_session_timeout_ms = kguc_group_min_session_timeout;
	config->max_session_timeout_ms = kguc_group_max_session_timeout;
	config->initial_delay_ms = kguc_group_initial_rebalance_delay;
	config->max_size = kguc_group_max_size;
	config->max_image_bytes = Min(kguc_group_max_bytes, kcoord_max_image());
	config->consumer_session_timeout_ms = kguc_group_consumer_session_timeout;
	config->consumer_heartbeat_ms = kguc_group_consumer_heartbeat_interval;
	config->assignment_interval_ms = kguc_group_consumer_assignment_interval;
	config->consumer_max_size = kguc_group_consumer_max_size;
	config->regex_refresh_ms = kguc_group_consumer_regex_refresh_interval;
	config->assignors = (uint32_t) kguc_group_assignor_set;
	config->default_assignor = kguc_group_default_assignor;
	config->may_upgrade = (kguc_group_consumer_migration_policy & KMIGRATE_UPGRADE) != 0;
	config->may_downgrade = (kguc_group_consumer_migration_policy & KMIGRATE_DOWNGRADE) != 0;
}

/* And the group's own configs in their place. */
void
kapi_group_configure(KGroupWork * work, KStr id)
{
	configure(&work->env.config);
	kcoord_config_apply(id, &work->env.config);
}

KGroup *
kapi_group_open(KGroupWork * work, KStr id, const uint8 *image, size_t len)
{
	kapi_group_configure(work, id);
	return kgroup_open(&work->env, kcoord_now(), id, image, len);
}

bool
kapi_group_work(KGroupWork * work)
{
	bool		busy;

	if (!kapi_group_topics() || !kcoord_config_load(&busy))
		return false;
	work->ctx = AllocSetContextCreate(CurrentMemoryContext, "kafka group event",
									  ALLOCSET_DEFAULT_SIZES);
	karena_init(&work->arena, NULL, 0, WORK_MAX, arena_grow, work->ctx);
	work->env = (KGroupEnv)
	{
		.arena = &work->arena,
			.wall_ms = kapi_wall_clock(),.topics_version = topics_version,
			.topic_by_name = topic_by_name,
			.topic_by_id = topic_by_id,.match_topics = match_topics,.random = random_bytes
	};
	return true;
}

void
kapi_group_work_end(KGroupWork * work)
{
	MemoryContextDelete(work->ctx);
}

void
kapi_group_work_reset(KGroupWork * work)
{
	MemoryContextReset(work->ctx);
	karena_init(&work->arena, NULL, 0, WORK_MAX, arena_grow, work->ctx);
}

MemoryContext
kapi_group_attempt(KRequest * req)
{
	MemoryContext attempt = AllocSetContextCreate(req->ctx, "kafka group attempt",
												  ALLOCSET_SMALL_SIZES);

	MemoryContextSwitchTo(attempt);
	return attempt;
}

void
kapi_group_retry(KRequest * req, MemoryContext attempt, void (*step) (KRequest * req))
{
	MemoryContextSwitchTo(req->ctx);
	MemoryContextDelete(attempt);
	kapi_retry(req, step);
}

bool
kapi_group_share_used(void)
{
	static uint64 turn;
	static instr_time begun;	/* by the first of this turn */
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	if (turn != kapi_turn())
	{
		turn = kapi_turn();
		begun = now;
		return false;
	}
	INSTR_TIME_SUBTRACT(now, begun);
	return INSTR_TIME_GET_MICROSEC(now) >= SHARE_US;
}

int16
kapi_group_check(KStr id)
{
	if (id.len < 0 || id.len > KCOORD_ID_MAX || !pg_verify_mbstr(PG_UTF8, id.data, id.len, true))
		return KERR_INVALID_GROUP_ID;
	if (!kapi_group_ready())
		return KERR_COORDINATOR_LOAD_IN_PROGRESS;
	return KERR_NONE;
}

/* ------------------------------------------------------------------------
 * The end of an event
 * ------------------------------------------------------------------------
 */

static void *
body_resize(void *ctx, void *old, size_t used, size_t size)
{
	void	   *new = arena_grow(ctx, size);

	if (new != NULL && old != NULL)
		memcpy(new, old, used);
	return new;
}

static bool
encode(KGroupWork * work, const KGroupAnswer * answer, KCoordPost * post)
{
	KMsgWriter	writer;
	const char *err = NULL;

	kmsg_writer_init(&writer, 0, body_resize, work->ctx);
	if (!kmsg_encode(kapi_info(answer->api)->response, answer->waiter.api_version,
					 answer->response, &writer, &err))
		return false;
	*post = (KCoordPost)
	{
		.waiter = answer->waiter,.version = answer->version,.body = writer.data,
			.len = writer.len
	};
	return true;
}

bool
kapi_group_finish(KGroupWork * work, KCoordSlot * slot, KGroup * g, KGroupResult result,
				  uint64 number, const KGroupAnswer * *own, KCoordVersion * version)
{
	MemoryContext old = MemoryContextSwitchTo(work->ctx);
	KCoordChange change = {.has_image = result == KGROUP_CHANGED && slot != NULL};
	const		KGroupRow *rows;
	const		KGroupAnswer *answers;
	KCoordPost *posts;
	uint64		rows_version;
	int32		n;
	int			nposts = 0;
	bool		ok = result == KGROUP_UNCHANGED || result == KGROUP_CHANGED;
	bool		writer = false;

	*own = NULL;
	*version = (KCoordVersion) {0};
	answers = kgroup_answers(g, &n);
	posts = palloc((n + 1) * sizeof(KCoordPost));
	change.letters = palloc((n + 1) * sizeof(dsa_pointer));
	for (int32 i = 0; ok && i < n; i++)
	{
		if (answers[i].waiter.request == number && answers[i].waiter.broker == kapi_broker)
			*own = &answers[i];
		else
			ok = slot != NULL && encode(work, &answers[i], &posts[nposts++]);
	}
	if (ok && change.has_image)
	{
		change.size = kgroup_image_size(g);
		change.grows = kgroup_has_grown(g);
	}
	if (ok && slot != NULL && kcoord_prepare(slot, &change, posts, nposts))
	{
		if (change.image != NULL)
			kgroup_image_write(g, change.image);
		if (*own != NULL)
			*version = kcoord_version(slot, (*own)->version);
		writer = change.has_image && kgroup_rows(g, &rows, &rows_version) > 0 &&
			kcoord_become_writer(slot);
		kcoord_apply(slot, &change);
	}
	else if (slot != NULL)
		ok = false;
	if (slot != NULL)
	{
		kcoord_unlock(slot);
		if (writer)
			kapi_group_must_write(kcoord_number(slot));
	}
	MemoryContextSwitchTo(old);
	return ok;
}

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------
 */

/* Answers, when what the answer tells is durable. */
static void
answer_step(KRequest * req)
{
	GroupRequest *work = req->work;

	if (kcoord_is_durable(&work->version))
		kapi_answer(req, work->response);
	else if (kapi_now() >= work->until)
		kapi_fail(req, KERR_COORDINATOR_NOT_AVAILABLE);
	else
	{
		kapi_wait_poll(req, answer_step);
		kapi_wait_until(req, work->until, answer_step);
	}
}

/* The server's end: nobody will answer this any more. */
static void
drain_step(KRequest * req)
{
	kapi_fail(req, KERR_COORDINATOR_NOT_AVAILABLE);
}

void
kapi_group_end(KRequest * req)
{
	GroupRequest *work = req->work;

	if (work != NULL)
		hash_search(waiting, &work->number, HASH_REMOVE, NULL);
}

void
kapi_group_delivered(const KCoordPost * post, const KCoordVersion * version)
{
	Waiting    *entry = hash_search(waiting, &post->waiter.request, HASH_FIND, NULL);
	GroupRequest *work;
	KRequest   *req;
	KArena		arena;
	const char *err = NULL;
	size_t		consumed;
	void	   *body;
	void	   *response;

	if (entry == NULL)
		return;					/* its client has gone */
	req = entry->req;
	work = req->work;
	kapi_wait_clear(req);
	body = MemoryContextAllocExtended(req->ctx, post->len + 1,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	response = MemoryContextAllocExtended(req->ctx, req->info->response->size,
										  MCXT_ALLOC_NO_OOM);
	karena_init(&arena, NULL, 0, WORK_MAX, arena_grow, req->ctx);
	if (post->body != NULL && body != NULL && response != NULL)
	{
		memcpy(body, post->body, post->len);
		if (kmsg_decode(req->info->response, req->version, body, post->len, &consumed, &arena,
						response, &err))
			work->response = response;
	}
	work->version = *version;
	work->until = kapi_now() + DURABLE_LIMIT;
	kapi_run(req, work->response != NULL ? answer_step : drain_step);
}

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------
 */

static bool
has_members(const uint8 * image, size_t len)
{
	KGroupSummary summary;

	return image != NULL && kgroup_image_summary(image, len, &summary) &&
		summary.type != KGROUP_NONE && summary.members > 0;
}

/* A pattern is not known: its share of work, and then the event again. */
static void
want_pattern(KRequest * req, KGroupWork * work, void (*step) (KRequest * req))
{
	kapi_pattern_advance(work->env.topics_version);
	kapi_group_work_end(work);
	if (kapi_now() - req->begun > PATTERN_LIMIT)
		kapi_fail(req, KERR_COORDINATOR_NOT_AVAILABLE);
	else
		kapi_wait_turn(req, step);
}

/* What is kept of a request from its first event on. */
static GroupRequest *
remember(KRequest * req)
{
	GroupRequest *request = req->work;

	if (request == NULL)
	{
		req->work = request = palloc0_object(GroupRequest);
		request->number = kcoord_request_number();
		((Waiting *) hash_search(waiting, &request->number, HASH_ENTER, NULL))->req = req;
	}
	return request;
}

static KGroupWaiter
waiter_of(const KRequest * req, const GroupRequest * request)
{
	return (KGroupWaiter)
	{
		.request = request->number,.broker = kapi_broker,.api_version = req->version
	};
}

/*
 * Most members' part in a rebalance is to wait for the last one, or to get what is there: then the
 * group need not be opened.  False: it must be.
 */
typedef KGroupRest (*AtRest) (uint8 * image, size_t len, KRequest * req, KGroupWaiter waiter,
							  uint64 *version);

static bool
run_at_rest(KRequest * req, KStr id, AtRest at_rest)
{
	KGroupRest	result = KGROUP_REST_NO;
	KCoordSlot *slot;
	GroupRequest *request;
	uint8	   *image;
	size_t		len;
	uint64		version = 0;

	if (kapi_group_check(id) != KERR_NONE || kcoord_lock(id, false, &slot) != KCOORD_LOCKED)
		return false;
	request = remember(req);
	image = kcoord_image(slot, &len);
	if (image != NULL)
		result = at_rest(image, len, req, waiter_of(req, request), &version);
	request->version = kcoord_version(slot, version);
	kcoord_unlock(slot);
	if (result == KGROUP_REST_WAITS)
		kapi_wait_until(req, PG_INT64_MAX / 2, drain_step);
	else if (result == KGROUP_REST_ANSWERED)
	{
		request->until = kapi_now() + DURABLE_LIMIT;
		answer_step(req);
	}
	return result != KGROUP_REST_NO;
}

void
kapi_group_event(KRequest * req, KStr id, bool create, KGroupEvent event,
				 void (*step) (KRequest * req))
{
	GroupRequest *request;
	KGroupWork	work;
	KGroupCaller caller;
	KGroupResult result;
	const		KGroupAnswer *own = NULL;
	KCoordSlot *slot = NULL;
	KCoordVersion version;
	const uint8 *image = NULL;
	size_t		len = 0;
	KGroup	   *g;
	int16		error = id.len == 0 ? KERR_INVALID_GROUP_ID : kapi_group_check(id);
	bool		ok;

	if (error != KERR_NONE)
	{
		kapi_fail(req, error);
		return;
	}
	request = remember(req);
	if (!kapi_group_work(&work))
	{
		kapi_retry(req, step);
		return;
	}
	kapi_pattern_begin(kapi_role(req), req->begun);
	switch (kcoord_lock(id, create, &slot))
	{
		case KCOORD_LOCKED:
			image = kcoord_image(slot, &len);
			if (!create || has_members(image, len) || !kcoord_session_active(id))
				break;
			kcoord_unlock(slot);
			kapi_group_work_end(&work);
			kapi_fail(req, KERR_INCONSISTENT_GROUP_PROTOCOL);
			return;
		case KCOORD_NO_GROUP:
			slot = NULL;
			break;
		case KCOORD_BUSY:
			kapi_group_work_end(&work);
			kapi_retry(req, step);
			return;
		case KCOORD_NO_ROOM:
			kapi_group_work_end(&work);
			kapi_fail(req, KERR_COORDINATOR_NOT_AVAILABLE);
			return;
	}

	caller.waiter = waiter_of(req, request);
	caller.client_id = req->client_id.len < 0 ? kapi_kstr("") : req->client_id;
	caller.client_host = kapi_kstr(psprintf("/%s", req->conn->client_host));
	g = kapi_group_open(&work, id, image, len);
	if (g == NULL)
	{
		if (slot != NULL)
			kcoord_unlock(slot);
		kapi_group_work_end(&work);
		kapi_fail(req, KERR_COORDINATOR_NOT_AVAILABLE);
		return;
	}
	result = event(g, &caller, req->body);
	if (kapi_pattern_wanting())
	{
		if (slot != NULL)
			kcoord_unlock(slot);
		want_pattern(req, &work, step);
		return;
	}
	ok = kapi_group_finish(&work, slot, g, result, request->number, &own, &version);
	if (!ok)
	{
		kapi_group_work_end(&work);
		kapi_fail(req, result != KGROUP_FULL ? KERR_COORDINATOR_NOT_AVAILABLE :
				  req->entry->key == KAPI_SYNC_GROUP ? KERR_UNKNOWN_SERVER_ERROR :
				  KERR_GROUP_MAX_SIZE_REACHED);
	}
	else if (own != NULL)
	{
		/* it lives in the work's memory, which goes with the request's */
		request->response = own->response;
		request->version = version;
		request->until = kapi_now() + DURABLE_LIMIT;
		answer_step(req);
	}
	else
	{
		kapi_group_work_end(&work);
		kapi_wait_until(req, PG_INT64_MAX / 2, drain_step);
	}
}

static KGroupResult
join_event(KGroup * g, const KGroupCaller * caller, const void *body)
{
	return kgroup_join(g, caller, body);
}

static KGroupRest
join_at_rest(uint8 * image, size_t len, KRequest * req, KGroupWaiter waiter, uint64 *version)
{
	KGroupConfig config;

	configure(&config);
	return kgroup_image_join(&config, image, len, waiter, req->body) ? KGROUP_REST_WAITS :
		KGROUP_REST_NO;
}

void
kapi_join_group_fail(KRequest * req, int16 error)
{
	const		KJoinGroupRequest *body = req->body;
	KJoinGroupResponse resp;

	kmsg_init(&kmsg_join_group_response, &resp);
	resp.error_code = error;
	resp.generation_id = -1;
	resp.member_id = body->member_id;
	resp.protocol_name = req->version < 7 ? kapi_kstr("") : KSTR_NULL;
	kapi_answer(req, &resp);
}

void
kapi_join_group(KRequest * req)
{
	const		KJoinGroupRequest *body = req->body;

	if (body->member_id.len > KCOORD_ID_MAX)
		kapi_fail(req, KERR_UNKNOWN_MEMBER_ID);
	else if (!run_at_rest(req, body->group_id, join_at_rest))
		kapi_group_event(req, body->group_id, true, join_event, kapi_join_group);
}

static KGroupResult
sync_event(KGroup * g, const KGroupCaller * caller, const void *body)
{
	return kgroup_sync(g, caller, body);
}

static void *
copy(const void *data, int32 len)
{
	void	   *bytes = palloc(Max(len, 1));

	if (len > 0)
		memcpy(bytes, data, len);
	return bytes;
}

/* The answer outlives the lock. */
static KGroupRest
sync_at_rest(uint8 * image, size_t len, KRequest * req, KGroupWaiter waiter, uint64 *version)
{
	GroupRequest *request = req->work;
	KSyncGroupResponse found;
	KSyncGroupResponse *answer;
	KGroupRest	result = kgroup_image_sync(image, len, waiter, req->body, &found, version);

	if (result != KGROUP_REST_ANSWERED)
		return result;
	answer = palloc(sizeof(found));
	*answer = found;
	answer->protocol_type.data = copy(found.protocol_type.data, found.protocol_type.len);
	answer->protocol_name.data = copy(found.protocol_name.data, found.protocol_name.len);
	answer->assignment.data = copy(found.assignment.data, found.assignment.len);
	request->response = answer;
	return result;
}

void
kapi_sync_group_fail(KRequest * req, int16 error)
{
	KSyncGroupResponse resp;

	kmsg_init(&kmsg_sync_group_response, &resp);
	resp.error_code = error;
	kapi_answer(req, &resp);
}

void
kapi_sync_group(KRequest * req)
{
	const		KSyncGroupRequest *body = req->body;

	if (!run_at_rest(req, body->group_id, sync_at_rest))
		kapi_group_event(req, body->group_id, false, sync_event, kapi_sync_group);
}

static KGroupResult
heartbeat_event(KGroup * g, const KGroupCaller * caller, const void *body)
{
	return kgroup_heartbeat(g, caller, body);
}

void
kapi_heartbeat_fail(KRequest * req, int16 error)
{
	KHeartbeatResponse resp;

	kmsg_init(&kmsg_heartbeat_response, &resp);
	resp.error_code = error;
	kapi_answer(req, &resp);
}

/* Most heartbeats only prolong a session. */
void
kapi_heartbeat(KRequest * req)
{
	const		KHeartbeatRequest *body = req->body;
	KCoordSlot *slot;
	bool		done = false;

	if (kapi_group_check(body->group_id) == KERR_NONE &&
		kcoord_lock(body->group_id, false, &slot) == KCOORD_LOCKED)
	{
		size_t		len;
		uint8	   *image = kcoord_image(slot, &len);

		done = image != NULL && kgroup_image_heartbeat(image, len, kcoord_now(), body);
		kcoord_unlock(slot);
	}
	if (done)
		kapi_heartbeat_fail(req, KERR_NONE);
	else
		kapi_group_event(req, body->group_id, false, heartbeat_event, kapi_heartbeat);
}

static KGroupResult
leave_event(KGroup * g, const KGroupCaller * caller, const void *body)
{
	return kgroup_leave(g, caller, body);
}

void
kapi_leave_group_fail(KRequest * req, int16 error)
{
	KLeaveGroupResponse resp;

	kmsg_init(&kmsg_leave_group_response, &resp);
	resp.error_code = error;
	kapi_answer(req, &resp);
}

void
kapi_leave_group(KRequest * req)
{
	const		KLeaveGroupRequest *body = req->body;

	kapi_group_event(req, body->group_id, false, leave_event, kapi_leave_group);
}
