/*
 * kgroup.c
 *		An open group: memory, members, answers, and the events that both protocols share.
 */
#include "group/kgroup_int.h"

/* Kafka's defaults; an image may have 8 MB. */
const KGroupConfig kgroup_config_defaults = {
	.min_session_timeout_ms = 6000,
	.max_session_timeout_ms = 1800000,
	.initial_delay_ms = 3000,
	.new_member_timeout_ms = 300000,
	.max_size = INT32_MAX,
	.consumer_session_timeout_ms = 45000,
	.consumer_heartbeat_ms = 5000,
	.assignment_interval_ms = 1000,
	.consumer_max_size = INT32_MAX,
	.regex_refresh_ms = 600000,
	.assignors = UINT32_MAX,
	.default_assignor = 0,
	.may_upgrade = true,
	.may_downgrade = true,
	.max_image_bytes = 8 * 1024 * 1024,
};

/* ---- memory ---- */

void *
kg_alloc(KGroup *g, size_t size)
{
	void	   *p = karena_alloc(g->env->arena, size);

	if (p == NULL)
		longjmp(g->no_memory, 1);
	memset(p, 0, size);
	return p;
}

void *
kg_grow(KGroup *g, void *items, int32_t count, int32_t *capacity, size_t size)
{
	void	   *grown;

	if (count < *capacity)
		return items;
	if (count > INT32_MAX / 4)
		longjmp(g->no_memory, 1);
	*capacity = count < 4 ? 8 : count * 2;
	grown = kg_alloc(g, (size_t) *capacity * size);
	if (count > 0)
		memcpy(grown, items, (size_t) count * size);
	return grown;
}

KStr
kg_copy(KGroup *g, KStr s)
{
	char	   *data;

	if (s.len <= 0)
		return s;
	data = kg_alloc(g, (size_t) s.len);
	memcpy(data, s.data, (size_t) s.len);
	return (KStr) {data, s.len};
}

KGroupResult
kg_out_of_memory(KGroup *g)
{
	g->nanswers = 0;
	g->nrows = 0;
	g->changed = false;
	g->image_size = 0;
	return KGROUP_NO_MEMORY;
}

/* ---- strings ---- */

int
kg_str_compare(KStr a, KStr b)
{
	int32_t		alen = a.len > 0 ? a.len : 0;
	int32_t		blen = b.len > 0 ? b.len : 0;
	int32_t		len = alen < blen ? alen : blen;
	int			order = len > 0 ? memcmp(a.data, b.data, (size_t) len) : 0;

	return order != 0 ? order : (alen > blen) - (alen < blen);
}

/* FNV-1a */
uint32_t
kg_hash(KStr s)
{
	uint32_t	hash = 2166136261u;

	for (int32_t i = 0; i < s.len; i++)
		hash = (hash ^ (uint8_t) s.data[i]) * 16777619u;
	return hash;
}

int64_t
kg_after(const KGroup *g, int64_t ms)
{
	return g->now + (ms > 0 ? ms : 0);
}

/* ---- members ---- */

KGMember *
kg_member(const KGroup *g, KStr id)
{
	uint32_t	hash;

	if (!kg_present(id))
		return NULL;
	hash = kg_hash(id);
	for (int32_t i = 0; i < g->nmembers; i++)
		if (g->members[i]->hash == hash && kg_str_equal(g->members[i]->id, id))
			return g->members[i];
	return NULL;
}

KGMember *
kg_static_member(const KGroup *g, KStr instance_id)
{
	if (instance_id.len < 0)
		return NULL;
	for (int32_t i = 0; i < g->nmembers; i++)
		if (kg_str_equal(g->members[i]->instance_id, instance_id))
			return g->members[i];
	return NULL;
}

KGMember *
kg_add_member(KGroup *g, KStr id)
{
	KGMember   *member = kg_alloc(g, sizeof(KGMember));

	member->id = kg_copy(g, id);
	member->hash = kg_hash(id);
	member->instance_id = KSTR_NULL;
	member->rack_id = KSTR_NULL;
	member->assignor = KSTR_NULL;
	member->session_deadline = KG_NEVER;
	member->rebalance_deadline = KG_NEVER;
	member->join_deadline = KG_NEVER;
	member->sync_deadline = KG_NEVER;

	g->members = kg_grow(g, g->members, g->nmembers, &g->members_capacity,
						 sizeof(KGMember *));
	g->members[g->nmembers++] = member;
	g->changed = true;
	return member;
}

/* The member's struct stays readable. */
void
kg_remove_member(KGroup *g, KGMember *member)
{
	int32_t		i = 0;

	while (g->members[i] != member)
		i++;
	memmove(&g->members[i], &g->members[i + 1],
			(size_t) (g->nmembers - i - 1) * sizeof(KGMember *));
	g->nmembers--;
	kg_forget_row(g, member);
	g->changed = true;
}

void
kg_forget_row(KGroup *g, KGMember *member)
{
	if (!member->has_row)
		return;
	g->removed = kg_grow(g, g->removed, g->nremoved, &g->removed_capacity, sizeof(KStr));
	g->removed[g->nremoved++] = member->id;
	member->has_row = false;
}

KStr
kg_new_member_id(KGroup *g, KStr prefix)
{
	static const char hex[] = "0123456789abcdef";
	static const char base64[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	int32_t		len = prefix.len > 0 ? prefix.len : 0;
	char	   *id = kg_alloc(g, (size_t) len + 37);
	uint8_t		b[18] = {0};
	char	   *out = id;

	g->env->random(g->env->arg, b, 16);
	b[6] = (uint8_t) ((b[6] & 0x0f) | 0x40);	/* version 4 */
	b[8] = (uint8_t) ((b[8] & 0x3f) | 0x80);

	if (prefix.len < 0)
	{
		for (int i = 0; i < 18; i += 3)
		{
			uint32_t	bits = (uint32_t) b[i] << 16 | (uint32_t) b[i + 1] << 8 | b[i + 2];

			for (int shift = 18; shift >= 0; shift -= 6)
				*out++ = base64[bits >> shift & 63];
		}
		return (KStr) {id, 22};
	}

	if (len > 0)
		memcpy(out, prefix.data, (size_t) len);
	out += len;
	*out++ = '-';
	for (int i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		*out++ = hex[b[i] >> 4];
		*out++ = hex[b[i] & 15];
	}
	return (KStr) {id, len + 37};
}

/* ---- what becomes durable ---- */

void
kg_dirty_group(KGroup *g)
{
	g->dirty = true;
	g->changed = true;
}

void
kg_dirty_member(KGroup *g, KGMember *member)
{
	member->dirty = true;
	kg_dirty_group(g);
}

void
kg_dirty_all(KGroup *g)
{
	for (int32_t i = 0; i < g->nmembers; i++)
		g->members[i]->dirty = true;
	kg_dirty_group(g);
}

void
kg_reset(KGroup *g, KGroupType type)
{
	g->type = type;
	/* a member of the consumer protocol that has epoch 0 would have to join again */
	g->generation = type == KGROUP_CONSUMER ? 1 : 0;
	g->state = KGROUP_EMPTY;
	g->previous_state = KGROUP_DEAD;
	g->state_since = g->env->wall_ms;
	g->protocol_type = KSTR_NULL;
	g->protocol_name = KSTR_NULL;
	g->leader = KSTR_NULL;
	g->member_added = false;
	g->join_deadline = KG_NEVER;
	g->sync_deadline = KG_NEVER;
	g->npending = 0;
	g->assignment_epoch = g->generation;
	g->assignment_time = 0;
	g->metadata_hash = 0;
	g->topics_version = 0;
	g->nregexes = 0;
	g->regex_time = INT64_MIN;
	g->regex_version = 0;
	g->nmembers = 0;
}

void
kg_wipe(KGroup *g, KGroupType type)
{
	kg_reset(g, type);
	g->nremoved = 0;
	g->wiped = true;
	kg_dirty_group(g);
}

/* ---- answers ---- */

void
kg_answer(KGroup *g, KGroupWaiter waiter, KApiKey api, const void *response, bool waits)
{
	int32_t		capacity = g->answers_capacity;

	/* who waited for it is gone, see kgroup_forget_broker() */
	if (waiter.broker == KG_NO_BROKER)
		return;
	g->answers = kg_grow(g, g->answers, g->nanswers, &g->answers_capacity,
						 sizeof(KGroupAnswer));
	g->answer_waits = kg_grow(g, g->answer_waits, g->nanswers, &capacity, sizeof(bool));
	g->answers[g->nanswers] = (KGroupAnswer) {waiter, api, response, 0};
	g->answer_waits[g->nanswers++] = waits;
}

KGroupResult
kg_refuse(KGroup *g, KGroupWaiter waiter, KApiKey api, const void *response)
{
	g->nanswers = 0;
	kg_answer(g, waiter, api, response, false);
	g->changed = false;
	return KGROUP_UNCHANGED;
}

/*
 * An answer that waits needs what this event made durable, or else whatever the group's members
 * may have learnt before.
 */
KGroupResult
kg_finish(KGroup *g)
{
	if (!g->changed)
	{
		for (int32_t i = 0; i < g->nanswers; i++)
			g->answers[i].version = g->answer_waits[i] ? g->version : 0;
		return KGROUP_UNCHANGED;
	}

	/* A classic group that never came into being, and that nobody tries to join any more */
	if (g->type == KGROUP_CLASSIC && g->state == KGROUP_EMPTY && g->generation == 0 &&
		g->npending == 0)
	{
		if (g->version > 0)
			kg_wipe(g, KGROUP_NONE);
		else
			kg_reset(g, KGROUP_NONE);
	}

	if (g->dirty)
	{
		g->version++;
		kg_make_rows(g);
	}
	for (int32_t i = 0; i < g->nanswers; i++)
		g->answers[i].version = g->answer_waits[i] ? g->version : 0;
	return KGROUP_CHANGED;
}

/* Rows that are still to be written do not count: they are gone soon. */
KGroupResult
kg_finish_bounded(KGroup *g)
{
	KGroupResult result = kg_finish(g);
	size_t		size;

	if (result != KGROUP_CHANGED)
		return result;
	size = kgroup_image_size(g);
	for (int32_t i = 0; i < g->nrows; i++)
		size -= (size_t) (g->rows[i].data.len > 0 ? g->rows[i].data.len : 0);
	if (size <= (size_t) g->env->config.max_image_bytes)
		return result;
	kg_out_of_memory(g);
	return KGROUP_FULL;
}

const KGroupAnswer *
kgroup_answers(const KGroup *g, int32_t *count)
{
	*count = g->nanswers;
	return g->answers;
}

int32_t
kgroup_rows(const KGroup *g, const KGroupRow **rows, uint64_t *version)
{
	*rows = g->rows;
	*version = g->version;
	return g->nrows;
}

/* ---- opening ---- */

static KGroup *
new_group(const KGroupEnv *env, int64_t now_ms, KStr group_id)
{
	KGroup	   *g = karena_alloc(env->arena, sizeof(KGroup));

	if (g == NULL)
		return NULL;
	memset(g, 0, sizeof(KGroup));
	g->env = env;
	g->now = now_ms;
	g->id = group_id;
	kg_reset(g, KGROUP_NONE);
	return g;
}

/* Of a copy, so that the new image can be written over the old one, and answers outlive both. */
static bool
load(KGroup *g, const uint8_t *image, size_t len)
{
	uint8_t    *copy;

	if (KG_NO_MEMORY(g))
		return false;
	copy = kg_alloc(g, len + 1);
	memcpy(copy, image, len);
	return kg_load(g, copy, len);
}

KGroup *
kgroup_open(const KGroupEnv *env, int64_t now_ms, KStr group_id, const uint8_t *image,
			size_t len)
{
	KGroup	   *g = new_group(env, now_ms, group_id);

	if (g == NULL || (image != NULL && !load(g, image, len)))
		return NULL;
	g->opened_members = g->nmembers;
	g->opened_pending = g->npending;
	return g;
}

bool
kgroup_has_grown(const KGroup *g)
{
	return g->nmembers > g->opened_members || g->npending > g->opened_pending;
}

static void
start_sessions(KGroup *g)
{
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KGMember   *member = g->members[i];

		kg_schedule_session(g, member, member->classic ? member->session_timeout_ms :
							g->env->config.consumer_session_timeout_ms);
		if (g->type == KGROUP_CONSUMER && member->state == KG_MEMBER_UNREVOKED &&
			!member->classic)
		{
			member->rebalance_deadline = kg_after(g, member->rebalance_timeout_ms);
			member->rebalance_epoch = member->epoch;
		}
	}
	g->changed = true;
}

static bool
load_rows(KGroup *g, const KGroupRow *rows, int32_t count)
{
	if (KG_NO_MEMORY(g))
		return false;
	return kg_load_rows(g, rows, count);
}

KGroup *
kgroup_restore(const KGroupEnv *env, int64_t now_ms, KStr group_id, const KGroupRow *rows,
			   int32_t count)
{
	KGroup	   *g = new_group(env, now_ms, group_id);

	if (g == NULL || !load_rows(g, rows, count))
		return NULL;
	/* the clock may have begun anew, as a machine's does that was started */
	g->assignment_time = g->assignment_time < now_ms ? g->assignment_time : now_ms;
	g->regex_time = g->regex_time < now_ms ? g->regex_time : now_ms;
	g->opened_members = g->nmembers;
	start_sessions(g);
	return g;
}

/* ---- events of both protocols ---- */

KGroupResult
kgroup_tick(KGroup *g)
{
	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);
	if (g->type == KGROUP_CLASSIC)
		kg_classic_tick(g);
	else if (g->type == KGROUP_CONSUMER)
		kg_consumer_tick(g);

	/* Heartbeats at rest prolong sessions without telling: so even if nothing was due. */
	g->changed = true;
	return kg_finish(g);
}

KGroupResult
kgroup_forget_broker(KGroup *g, int32_t broker)
{
	static const KGroupWaiter nobody = {0};

	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KGMember   *member = g->members[i];

		/*
		 * Who joined stays joined: the rebalance takes him in, and his session starts when he is
		 * answered in vain.
		 */
		if (member->join.request != 0 && member->join.broker == broker)
		{
			member->join.broker = KG_NO_BROKER;
			g->changed = true;
		}
		if (member->sync.request != 0 && member->sync.broker == broker)
		{
			member->sync = nobody;
			/* it ended while he waited, and nobody answers him now, with whom it would begin */
			if (member->session_deadline == KG_NEVER)
				member->session_deadline = kg_after(g, member->session_timeout_ms);
			g->changed = true;
		}
	}
	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);
	return kg_finish(g);
}

KGroupResult
kgroup_delete(KGroup *g, int16_t *error_code)
{
	if (KG_NO_MEMORY(g))
		return kg_out_of_memory(g);

	*error_code = KERR_NONE;
	if (g->type == KGROUP_NONE)
		*error_code = KERR_GROUP_ID_NOT_FOUND;
	else if (g->type == KGROUP_CLASSIC ? g->state != KGROUP_EMPTY : g->nmembers > 0)
		*error_code = KERR_NON_EMPTY_GROUP;
	else
	{
		kg_wipe(g, KGROUP_NONE);
	}
	return kg_finish(g);
}

/* ---- names ---- */

const char *
kgroup_state_name(KGroupState state)
{
	static const char *const names[] = {
		[KGROUP_EMPTY] = "Empty",
		[KGROUP_PREPARING_REBALANCE] = "PreparingRebalance",
		[KGROUP_COMPLETING_REBALANCE] = "CompletingRebalance",
		[KGROUP_STABLE] = "Stable",
		[KGROUP_DEAD] = "Dead",
		[KGROUP_ASSIGNING] = "Assigning",
		[KGROUP_RECONCILING] = "Reconciling",
	};

	return names[state];
}

const char *
kgroup_type_name(KGroupType type)
{
	static const char *const names[] = {
		[KGROUP_NONE] = "unknown",
		[KGROUP_CLASSIC] = "classic",
		[KGROUP_CONSUMER] = "consumer",
	};

	return names[type];
}

static bool
same_name(KStr given, const char *name)
{
	size_t		len = strlen(name);

	while (given.len > 0 && (unsigned char) given.data[0] <= ' ')
		given.data++, given.len--;
	while (given.len > 0 && (unsigned char) given.data[given.len - 1] <= ' ')
		given.len--;
	if (given.len < 0 || (size_t) given.len != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((given.data[i] | 0x20) != (name[i] | 0x20))
			return false;
	return true;
}

bool
kgroup_summary_matches(const KGroupSummary *summary, const KStrArray *states,
					   const KStrArray *types)
{
	bool		state = states->count <= 0;
	bool		type = types->count <= 0;

	for (int32_t i = 0; i < states->count && !state; i++)
		state = same_name(states->items[i], kgroup_state_name(summary->state));
	for (int32_t i = 0; i < types->count && !type; i++)
		type = same_name(types->items[i], kgroup_type_name(summary->type));
	return state && type;
}
