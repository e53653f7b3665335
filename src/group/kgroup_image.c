/*
 * kgroup_image.c
 *		A group as bytes: its image in shared memory, and its rows.
 *
 * An image is a header, an array with what heartbeats at rest need of each member (kgroup_image.h),
 * and a stream of everything else.  One function a struct walks the stream in all three directions
 * (size, write, read), so that they cannot differ.  Rows are pieces of the same stream, without
 * what a restart forgets: who waits, deadlines, ids given out.
 */
#include "group/kgroup_image.h"

#define ROW_FORMAT			1

/* ---- the stream ---- */

typedef enum WalkMode
{
	WALK_SIZE,
	WALK_WRITE,
	WALK_READ
} WalkMode;

typedef struct Walk
{
	WalkMode	mode;
	uint8_t    *out;			/* WALK_WRITE: there is room for what WALK_SIZE counted */
	const uint8_t *in;
	size_t		len;			/* of "in" */
	size_t		pos;
	bool		failed;			/* WALK_READ: the bytes end too early, or make no sense */
	bool		durable_only;
	KGroup	   *g;
	ImageHeader *header;		/* where an image is written: its places are noted there */
	size_t		protocols;		/* where those of the last member began */
} Walk;

/*
 * A group's bytes are walked several times an event.  All of this is compiled once for each mode,
 * and then the mode costs nothing: it is a constant wherever a walk begins.
 */
#ifdef __GNUC__
#define WALK_INLINE	static inline __attribute__((always_inline))
#else
#define WALK_INLINE	static inline
#endif

WALK_INLINE void
walk_bytes(Walk *w, void *bytes, size_t n)
{
	if (w->mode == WALK_READ)
	{
		if (w->failed || w->len - w->pos < n)
		{
			w->failed = true;
			memset(bytes, 0, n);
			return;
		}
		memcpy(bytes, w->in + w->pos, n);
	}
	else if (w->mode == WALK_WRITE)
		memcpy(w->out + w->pos, bytes, n);
	w->pos += n;
}

/* The highest byte first: compilers make one instruction of either half. */
WALK_INLINE void
walk_u64(Walk *w, uint64_t *value, size_t bytes)
{
	uint64_t	v = *value << (64 - 8 * bytes);
	uint8_t		b[8] = {(uint8_t) (v >> 56), (uint8_t) (v >> 48), (uint8_t) (v >> 40),
		(uint8_t) (v >> 32), (uint8_t) (v >> 24), (uint8_t) (v >> 16), (uint8_t) (v >> 8),
	(uint8_t) v};

	walk_bytes(w, b, bytes);
	if (w->mode == WALK_READ)
	{
		v = (uint64_t) b[0] << 56 | (uint64_t) b[1] << 48 | (uint64_t) b[2] << 40 |
			(uint64_t) b[3] << 32 | (uint64_t) b[4] << 24 | (uint64_t) b[5] << 16 |
			(uint64_t) b[6] << 8 | b[7];
		*value = v >> (64 - 8 * bytes);
	}
}

WALK_INLINE void
walk_i64(Walk *w, int64_t *value)
{
	uint64_t	v = (uint64_t) *value;

	walk_u64(w, &v, 8);
	*value = (int64_t) v;
}

WALK_INLINE void
walk_i32(Walk *w, int32_t *value)
{
	uint64_t	v = (uint32_t) *value;

	walk_u64(w, &v, 4);
	*value = (int32_t) (uint32_t) v;
}

WALK_INLINE void
walk_i16(Walk *w, int16_t *value)
{
	uint64_t	v = (uint16_t) *value;

	walk_u64(w, &v, 2);
	*value = (int16_t) (uint16_t) v;
}

WALK_INLINE void
walk_bool(Walk *w, bool *value)
{
	uint64_t	v = *value;

	walk_u64(w, &v, 1);
	*value = v != 0;
}

/* A count of items of at least min_size bytes each: memory is not asked for more than there are. */
WALK_INLINE void
walk_count(Walk *w, int32_t *count, size_t min_size)
{
	walk_i32(w, count);
	if (w->mode == WALK_READ &&
		(*count < 0 || (size_t) *count > (w->len - w->pos) / min_size))
	{
		w->failed = true;
		*count = 0;
	}
}

/* What is read points into the bytes. */
WALK_INLINE void
walk_data(Walk *w, const uint8_t **data, int32_t *len)
{
	walk_i32(w, len);
	if (w->mode == WALK_READ)
	{
		if (*len < -1 || (*len > 0 && (size_t) *len > w->len - w->pos))
		{
			w->failed = true;
			*len = 0;
		}
		*data = w->in + w->pos;
	}
	else if (w->mode == WALK_WRITE && *len > 0)
		memcpy(w->out + w->pos, *data, (size_t) *len);
	w->pos += *len > 0 ? (size_t) *len : 0;
}

static inline size_t
length(KStr s)
{
	return s.len > 0 ? (size_t) s.len : 0;
}

WALK_INLINE void
walk_str(Walk *w, KStr *s)
{
	const uint8_t *data = (const uint8_t *) s->data;

	walk_data(w, &data, &s->len);
	s->data = (const char *) data;
}

WALK_INLINE void
walk_blob(Walk *w, KBytes *bytes)
{
	walk_data(w, &bytes->data, &bytes->len);
}

WALK_INLINE void
walk_strs(Walk *w, KStrArray *array)
{
	walk_count(w, &array->count, 4);
	if (w->mode == WALK_READ)
		array->items = kg_alloc(w->g, (size_t) array->count * sizeof(KStr) + 1);
	for (int32_t i = 0; i < array->count; i++)
		walk_str(w, &array->items[i]);
}

/* By topic, so that its id stands there once. */
WALK_INLINE void
walk_partitions(Walk *w, KGPartitions *set, bool epochs)
{
	int32_t		start = 0;

	walk_count(w, &set->count, 4);
	if (w->mode == WALK_READ)
		set->items = kg_alloc(w->g, (size_t) set->count * sizeof(KGPartition) + 1);
	while (start < set->count && !w->failed)
	{
		KUuid		topic = set->items[start].topic;
		int32_t		n = 0;

		if (w->mode != WALK_READ)
			while (start + n < set->count &&
				   memcmp(set->items[start + n].topic.b, topic.b, sizeof(topic.b)) == 0)
				n++;
		walk_bytes(w, topic.b, sizeof(topic.b));
		walk_i32(w, &n);
		if (n <= 0 || n > set->count - start)
		{
			w->failed = true;
			break;
		}
		for (int32_t i = start; i < start + n; i++)
		{
			if (w->mode == WALK_READ)
				set->items[i].topic = topic;
			walk_i32(w, &set->items[i].partition);
			if (epochs)
				walk_i32(w, &set->items[i].epoch);
		}
		start += n;
	}
	if (w->failed)
		set->count = 0;
	else if (w->mode == WALK_READ)
		kg_sort_partitions(set);
}

WALK_INLINE void
walk_protocols(Walk *w, KGMember *member)
{
	w->protocols = w->pos;
	walk_count(w, &member->nprotocols, 8);
	if (w->mode == WALK_READ)
		member->protocols = kg_alloc(w->g, (size_t) member->nprotocols *
									 sizeof(KGProtocol) + 1);
	for (int32_t i = 0; i < member->nprotocols; i++)
	{
		walk_str(w, &member->protocols[i].name);
		walk_blob(w, &member->protocols[i].metadata);
	}
}

/* Without its ids, which are the row's key. */
WALK_INLINE void
walk_member(Walk *w, KGMember *member)
{
	bool		consumer = w->g->type == KGROUP_CONSUMER;

	walk_str(w, &member->client_id);
	walk_str(w, &member->client_host);
	walk_i32(w, &member->rebalance_timeout_ms);
	walk_bool(w, &member->classic);
	if (member->classic)
	{
		walk_i32(w, &member->session_timeout_ms);
		walk_protocols(w, member);
	}
	if (consumer)
	{
		int32_t		state = (int32_t) member->state;

		walk_i32(w, &member->epoch);
		walk_i32(w, &member->previous_epoch);
		walk_i32(w, &state);
		if (state < KG_MEMBER_STABLE || state > KG_MEMBER_UNRELEASED)
		{
			w->failed = true;
			state = KG_MEMBER_STABLE;
		}
		member->state = (KGMemberState) state;
		walk_str(w, &member->rack_id);
		walk_str(w, &member->assignor);
		walk_str(w, &member->regex);
		walk_strs(w, &member->topics);
		walk_partitions(w, &member->target, false);
		walk_partitions(w, &member->assigned, true);
		walk_partitions(w, &member->revoking, true);
	}
	else
		walk_blob(w, &member->assignment);

	if (w->durable_only)
		return;
	walk_bool(w, &member->has_row);
	if (consumer)
	{
		walk_i64(w, &member->rebalance_deadline);
		walk_i32(w, &member->rebalance_epoch);
		walk_i64(w, &member->join_deadline);
		walk_i64(w, &member->sync_deadline);
	}
}

WALK_INLINE void
walk_classic(Walk *w, KGroup *g)
{
	int32_t		timer = (int32_t) g->join_timer;
	int32_t		previous = (int32_t) g->previous_state;

	walk_i64(w, &g->state_since);
	walk_str(w, &g->protocol_type);
	walk_str(w, &g->protocol_name);
	if (w->header != NULL)
	{
		w->header->protocol_name = (uint32_t) (w->pos - length(g->protocol_name));
		w->header->protocol_name_len = g->protocol_name.len;
	}
	walk_str(w, &g->leader);
	if (w->durable_only)
		return;

	walk_i32(w, &previous);
	walk_bool(w, &g->member_added);
	walk_i32(w, &timer);
	walk_i64(w, &g->join_deadline);
	walk_i32(w, &g->delay_ms);
	walk_i32(w, &g->remaining_ms);
	walk_count(w, &g->npending, 12);
	g->previous_state = (KGroupState) previous;
	g->join_timer = (KGJoinTimer) timer;
	if (w->mode == WALK_READ)
	{
		g->pending_capacity = g->npending;
		g->pending = kg_alloc(g, (size_t) g->npending * sizeof(KGPending) + 1);
	}
	for (int32_t i = 0; i < g->npending; i++)
	{
		walk_str(w, &g->pending[i].id);
		walk_i64(w, &g->pending[i].deadline);
	}
}

WALK_INLINE void
walk_consumer(Walk *w, KGroup *g)
{
	walk_i32(w, &g->assignment_epoch);
	walk_i64(w, &g->assignment_time);
	walk_u64(w, &g->metadata_hash, 8);
	walk_i64(w, &g->regex_time);
	walk_count(w, &g->nregexes, 8);
	if (w->mode == WALK_READ)
		g->regexes = kg_alloc(g, (size_t) g->nregexes * sizeof(KGRegex) + 1);
	for (int32_t i = 0; i < g->nregexes; i++)
	{
		walk_str(w, &g->regexes[i].pattern);
		walk_strs(w, &g->regexes[i].topics);
	}
	if (w->durable_only)
		return;
	walk_u64(w, &g->topics_version, 8);
	walk_u64(w, &g->regex_version, 8);
}

WALK_INLINE void
walk_group(Walk *w, KGroup *g)
{
	walk_i32(w, &g->generation);
	if (g->type == KGROUP_CLASSIC)
		walk_classic(w, g);
	else if (g->type == KGROUP_CONSUMER)
		walk_consumer(w, g);
}

/* What no row holds. */
WALK_INLINE void
walk_unwritten(Walk *w, KGroup *g)
{
	walk_count(w, &g->nremoved, 4);
	walk_count(w, &g->nrows, 16);
	if (w->mode == WALK_READ)
	{
		g->removed_capacity = g->nremoved;
		g->removed = kg_alloc(g, (size_t) g->nremoved * sizeof(KStr) + 1);
		g->rows_capacity = g->nrows;
		g->rows = kg_alloc(g, (size_t) g->nrows * sizeof(KGroupRow) + 1);
	}
	for (int32_t i = 0; i < g->nremoved; i++)
		walk_str(w, &g->removed[i]);
	for (int32_t i = 0; i < g->nrows; i++)
	{
		walk_str(w, &g->rows[i].member_id);
		walk_blob(w, &g->rows[i].data);
		walk_u64(w, &g->rows[i].version, 8);
	}
}

/* ---- images ---- */

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t
kg_next_deadline(const KGroup *g)
{
	int64_t		next = earlier(g->join_deadline, g->sync_deadline);

	for (int32_t i = 0; i < g->npending; i++)
		next = earlier(next, g->pending[i].deadline);
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		const KGMember *member = g->members[i];

		next = earlier(next, member->session_deadline);
		next = earlier(next, member->rebalance_deadline);
		next = earlier(next, member->join_deadline);
		next = earlier(next, member->sync_deadline);
	}
	return next;
}

static bool
is_idle(const KGroup *g, const KGMember *member)
{
	return g->type == KGROUP_CONSUMER && !member->classic &&
		member->state == KG_MEMBER_STABLE && member->epoch == g->generation &&
		g->assignment_epoch == g->generation;
}

/*
 * The member's bytes in the image that was opened, if it is as it was there; else NULL.  That can be
 * told from the struct alone: of a classic group, nothing that a member points to is changed in
 * place.
 */
static const KGLoaded *
unchanged(const KGroup *g, const KGMember *member)
{
	uintptr_t	offset = (uintptr_t) member - (uintptr_t) g->first_loaded;
	const		KGLoaded *loaded;

	if (g->type != KGROUP_CLASSIC || offset >= (uintptr_t) g->nloaded * sizeof(KGMember))
		return NULL;
	loaded = &g->loaded[offset / sizeof(KGMember)];
	return memcmp(&loaded->member, member, sizeof(KGMember)) == 0 ? loaded : NULL;
}

static uint32_t
member_flags(const KGroup *g, const KGMember *member)
{
	if (g->type != KGROUP_CLASSIC)
		return is_idle(g, member) ? MEMBER_IDLE : 0;
	return (kg_is_leader(g, member) ? MEMBER_LEADS : 0) |
		(member->is_new ? MEMBER_NEW : 0) |
		(member->pending_sync ? MEMBER_PENDING_SYNC : 0);
}

/* The stream of an image; "members" (WALK_WRITE only): the array to fill. */
WALK_INLINE void
walk_image(Walk *w, KGroup *g, ImageMember *members)
{
	walk_str(w, &g->protocol_type);
	if (w->header != NULL)
	{
		w->header->protocol_type = (uint32_t) (w->pos - length(g->protocol_type));
		w->header->protocol_type_len = g->protocol_type.len;
	}
	walk_group(w, g);
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KGMember   *member = g->members[i];
		const KGLoaded *loaded = unchanged(g, member);
		size_t		id = w->pos + 4;
		size_t		instance = id + 4 + length(member->id);

		if (loaded != NULL)
		{
			if (w->mode == WALK_WRITE)
				memcpy(w->out + w->pos, loaded->bytes, loaded->len);
			w->protocols = w->pos + loaded->protocols;
			w->pos += loaded->len;
		}
		else
		{
			walk_str(w, &member->id);
			walk_str(w, &member->instance_id);
			walk_member(w, member);
		}
		if (members != NULL)
			members[i] = (ImageMember)
			{
				.session_deadline = member->session_deadline,
				.hash = member->hash,
				.id = (uint32_t) id,
				.id_len = member->id.len,
				.instance = (uint32_t) instance,
				.instance_len = member->instance_id.len,
				.session_timeout_ms = member->session_timeout_ms,
				.epoch = member->epoch,
				.flags = member_flags(g, member),
				.rebalance_timeout_ms = member->rebalance_timeout_ms,
				.protocols = (uint32_t) w->protocols,
				.join = g->type == KGROUP_CLASSIC ? member->join : (KGroupWaiter) {0},
				.sync = g->type == KGROUP_CLASSIC ? member->sync : (KGroupWaiter) {0},
			};
	}
	if (w->header != NULL)
		w->header->unwritten = (uint32_t) w->pos;
	walk_unwritten(w, g);
}

static size_t
stream_start(int32_t nmembers)
{
	return sizeof(ImageHeader) + (size_t) nmembers * sizeof(ImageMember);
}

size_t
kgroup_image_size(KGroup *g)
{
	Walk		w = {.mode = WALK_SIZE, .g = g, .pos = stream_start(g->nmembers)};

	if (g->type == KGROUP_NONE && g->nrows == 0)
		return 0;
	if (g->image_size == 0)
	{
		walk_image(&w, g, NULL);
		g->image_size = w.pos;
	}
	return g->image_size;
}

void
kgroup_image_write(KGroup *g, uint8_t *image)
{
	Walk		w = {.mode = WALK_WRITE, .g = g, .out = image, .pos = stream_start(g->nmembers)};
	ImageHeader header = {
		.magic = IMAGE_MAGIC,
		.version = g->version,
		.durable = g->durable,
		.next_deadline = kg_next_deadline(g),
		.regex_due = KG_NEVER,
		.sync_deadline = g->type == KGROUP_CLASSIC ? g->sync_deadline : KG_NEVER,
		.topics_version = g->topics_version,
		.generation = g->generation,
		.nmembers = g->nmembers,
		.type = (uint8_t) g->type,
		.state = (uint8_t) (g->type == KGROUP_CONSUMER ? kg_consumer_state(g) : g->state),
	};

	if (g->nregexes > 0)
		header.regex_due = g->regex_version != g->topics_version ?
			g->regex_time + KG_REGEX_MIN_INTERVAL_MS :
			g->regex_time + g->env->config.regex_refresh_ms;
	w.header = &header;
	walk_image(&w, g, (ImageMember *) (image + sizeof(ImageHeader)));
	header.len = (uint32_t) w.pos;
	memcpy(image, &header, sizeof(header));
}

bool
kg_load(KGroup *g, const uint8_t *image, size_t len)
{
	const ImageHeader *header = kg_image_header((uint8_t *) (uintptr_t) image, len);
	const ImageMember *members = (const ImageMember *) (image + sizeof(ImageHeader));
	Walk		w = {.mode = WALK_READ, .g = g, .in = image};
	KGMember   *all;
	int32_t		kept = 0;

	if (header == NULL)
		return false;
	w.len = header->len;
	w.pos = stream_start(header->nmembers);
	if (w.pos > w.len)
		return false;

	g->type = (KGroupType) header->type;
	g->state = (KGroupState) header->state;
	g->version = header->version;
	g->durable = header->durable;
	g->sync_deadline = header->sync_deadline;
	walk_str(&w, &g->protocol_type);
	walk_group(&w, g);

	g->members = kg_alloc(g, (size_t) header->nmembers * sizeof(KGMember *) + 1);
	g->members_capacity = header->nmembers;
	all = kg_alloc(g, (size_t) header->nmembers * sizeof(KGMember) + 1);
	if (g->type == KGROUP_CLASSIC)
	{
		g->first_loaded = all;
		g->loaded = kg_alloc(g, (size_t) header->nmembers * sizeof(KGLoaded) + 1);
	}
	for (int32_t i = 0; i < header->nmembers; i++)
	{
		KGMember   *member = &all[i];
		size_t		start = w.pos;

		walk_str(&w, &member->id);
		walk_str(&w, &member->instance_id);
		member->rebalance_deadline = KG_NEVER;
		member->join_deadline = KG_NEVER;
		member->sync_deadline = KG_NEVER;
		walk_member(&w, member);
		member->session_deadline = members[i].session_deadline;
		member->hash = members[i].hash;
		member->is_new = (members[i].flags & MEMBER_NEW) != 0;
		member->pending_sync = (members[i].flags & MEMBER_PENDING_SYNC) != 0;
		member->join = members[i].join;
		member->sync = members[i].sync;
		g->members[g->nmembers++] = member;
		if (g->loaded != NULL)
		{
			KGLoaded   *loaded = &g->loaded[g->nloaded++];

			memcpy(&loaded->member, member, sizeof(KGMember));
			loaded->bytes = image + start;
			loaded->len = w.pos - start;
			loaded->protocols = w.protocols - start;
		}
	}
	walk_unwritten(&w, g);

	/* Rows that have become durable meanwhile are no more to be written. */
	for (int32_t i = 0; i < g->nrows; i++)
		if (g->rows[i].version > g->durable)
			g->rows[kept++] = g->rows[i];
	g->nrows = kept;
	return !w.failed;
}

/* ---- rows ---- */

/* instance_id is no part of the image's walk of a member, so it leads the row. */
WALK_INLINE void
walk_row(Walk *w, KGroup *g, KGMember *member)
{
	int32_t		format = ROW_FORMAT;
	int32_t		type = (int32_t) g->type;

	walk_i32(w, &format);
	if (format != ROW_FORMAT)
	{
		w->failed = true;
		return;
	}
	if (member != NULL)
	{
		walk_str(w, &member->instance_id);
		walk_member(w, member);
		return;
	}
	walk_i32(w, &type);
	walk_u64(w, &g->version, 8);
	if (type != KGROUP_CLASSIC && type != KGROUP_CONSUMER)
	{
		w->failed = true;
		return;
	}
	g->type = (KGroupType) type;
	walk_group(w, g);
}

/* A row takes the place of an earlier one that is not written yet. */
static void
set_row(KGroup *g, KStr member_id, KBytes data)
{
	int32_t		i = 0;

	while (i < g->nrows &&
		   (!kg_str_equal(g->rows[i].member_id, member_id) ||
			(member_id.len < 0 && g->rows[i].data.len < 0)))
		i++;
	if (i == g->nrows)
	{
		g->rows = kg_grow(g, g->rows, g->nrows, &g->rows_capacity, sizeof(KGroupRow));
		g->nrows++;
	}
	g->rows[i] = (KGroupRow) {member_id, data, g->version};
}

static KBytes
make_row(KGroup *g, KGMember *member)
{
	Walk		w = {.mode = WALK_SIZE, .durable_only = true, .g = g};
	uint8_t    *data;

	walk_row(&w, g, member);
	data = kg_alloc(g, w.pos);
	w = (Walk) {.mode = WALK_WRITE, .durable_only = true, .g = g, .out = data};
	walk_row(&w, g, member);
	return (KBytes) {data, (int32_t) w.pos};
}

void
kg_make_rows(KGroup *g)
{
	/* the first ones: a start may have refused older rows of this id, which go now */
	if (g->wiped || g->version == 1)
	{
		g->nrows = 0;
		set_row(g, KSTR_NULL, KBYTES_NULL);
	}
	for (int32_t i = 0; i < g->nremoved; i++)
	{
		KGMember   *member = kg_member(g, g->removed[i]);

		if (member != NULL)
			member->has_row = true;
		else
			set_row(g, g->removed[i], KBYTES_NULL);
	}
	g->nremoved = 0;
	for (int32_t i = 0; i < g->nmembers; i++)
	{
		KGMember   *member = g->members[i];

		if (!member->dirty)
			continue;
		member->has_row = true;
		set_row(g, member->id, make_row(g, member));
	}
	if (g->type != KGROUP_NONE)
		set_row(g, KSTR_NULL, make_row(g, NULL));
}

bool
kg_load_rows(KGroup *g, const KGroupRow *rows, int32_t count)
{
	bool		found = false;

	/* The group's own row first: it says how to read the others. */
	for (int32_t i = 0; i < count; i++)
	{
		Walk		w = {.mode = WALK_READ, .durable_only = true, .g = g,
			.in = rows[i].data.data,
		.len = rows[i].data.len > 0 ? (size_t) rows[i].data.len : 0};

		if (rows[i].member_id.len >= 0)
			continue;
		walk_row(&w, g, NULL);
		if (w.failed || w.pos != w.len || found)
			return false;
		found = true;
	}
	for (int32_t i = 0; i < count; i++)
	{
		Walk		w = {.mode = WALK_READ, .durable_only = true, .g = g,
			.in = rows[i].data.data,
		.len = rows[i].data.len > 0 ? (size_t) rows[i].data.len : 0};
		KGMember   *member;

		if (rows[i].member_id.len < 0)
			continue;
		if (!kg_present(rows[i].member_id) || kg_member(g, rows[i].member_id) != NULL)
			return false;
		member = kg_add_member(g, rows[i].member_id);
		member->has_row = true;
		walk_row(&w, g, member);
		if (w.failed || w.pos != w.len)
			return false;
	}
	if (g->type == KGROUP_CLASSIC)
	{
		g->state = g->nmembers > 0 ? KGROUP_STABLE : KGROUP_EMPTY;
		if (g->nmembers == 0)
			g->leader = KSTR_NULL;
		else if (g->leader.len < 0 || kg_member(g, g->leader) == NULL)
			g->leader = g->members[0]->id;
	}
	g->durable = g->version;
	return found;
}
