/*
 * fake_group.c
 *		src/coord in one process: a few groups, no tables, everything durable at once.
 *
 * Locks, rows and room are refused by chance, as fake_busy says.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "coord/kcoord.h"
#include "fake.h"
#include "topic/kcatalog.h"

#define SLOTS	8
#define LETTERS	256

struct KCoordSlot
{
	bool		used;
	bool		locked;
	char	   *id;
	int			id_len;
	uint8	   *image;
	size_t		image_len;
	bool		writer;
	uint64		stamp;
	uint64		incarnation;
	int64		deadline;
};

typedef struct Letter
{
	KCoordPost	post;
	KCoordVersion version;
} Letter;

static KCoordSlot slots[SLOTS];
static Letter letters[LETTERS];
static int	nletters;
static uint64 requests;
static uint64 incarnations;
static uint64 stamps;

static void *
copy(const void *data, size_t len)
{
	void	   *result = malloc(len + 1);

	if (result == NULL)
		fake_fail("out of memory");
	if (len > 0)
		memcpy(result, data, len);
	return result;
}

Size
kcoord_shmem_size(void)
{
	return 0;
}

void
kcoord_shmem_init(void)
{
	for (int i = 0; i < SLOTS; i++)
	{
		free(slots[i].id);
		free(slots[i].image);
		memset(&slots[i], 0, sizeof(KCoordSlot));
	}
	while (nletters > 0)
		free(unconstify(void *, letters[--nletters].post.body));
}

size_t
kcoord_max_image(void)
{
	return 1024 * 1024;
}

void
kcoord_attach(int broker)
{
	kcoord_shmem_init();
}

bool
kcoord_loaded(void)
{
	return true;
}

bool
kcoord_load_begin(void)
{
	return false;
}

void
kcoord_load_end(bool loaded)
{
}

bool
kcoord_is_timekeeper(void)
{
	return true;
}

int64
kcoord_now(void)
{
	return fake_clock_us / 1000;
}

uint64
kcoord_request_number(void)
{
	return ++requests;
}

int
kcoord_capacity(void)
{
	return SLOTS;
}

int
kcoord_number(const KCoordSlot *slot)
{
	return (int) (slot - slots);
}

KStr
kcoord_id(const KCoordSlot *slot)
{
	return (KStr) {slot->id, slot->id_len};
}

/* Nobody else is there to hold it. */
static KCoordLock
lock(KCoordSlot *slot)
{
	if (slot->locked)
		fake_fail("a wait for our own lock");
	slot->locked = true;
	return KCOORD_LOCKED;
}

KCoordLock
kcoord_lock(KStr id, bool create, KCoordSlot **slot)
{
	KCoordSlot *unused = NULL;

	for (int i = 0; i < SLOTS; i++)
	{
		*slot = &slots[i];
		if (!slots[i].used)
			unused = &slots[i];
		else if (slots[i].id_len == id.len && memcmp(slots[i].id, id.data, id.len) == 0)
			return lock(*slot);
	}
	if (!create)
		return KCOORD_NO_GROUP;
	if (unused == NULL)
		return KCOORD_NO_ROOM;
	if (fake_chance(fake_busy))
		return KCOORD_BUSY;
	*slot = unused;
	unused->used = unused->locked = true;
	unused->id = copy(id.data, id.len);
	unused->id_len = id.len;
	unused->incarnation = ++incarnations;
	unused->stamp = ++stamps;
	unused->deadline = PG_INT64_MAX;
	return KCOORD_LOCKED;
}

KCoordStamp
kcoord_stamp(const KCoordSlot *slot)
{
	return (KCoordStamp) {kcoord_number(slot), slot->stamp};
}

bool
kcoord_unchanged(const KCoordStamp *stamp)
{
	return stamp->slot >= 0 && slots[stamp->slot].stamp == stamp->stamp;
}

/* Nobody looks for offsets that have expired. */
bool
kcoord_is_forsaken(const KCoordSlot *slot)
{
	return false;
}

KCoordLock
kcoord_lock_number(int i, KCoordSlot **slot)
{
	*slot = &slots[i];
	return slots[i].used ? lock(&slots[i]) : KCOORD_NO_GROUP;
}

void
kcoord_unlock(KCoordSlot *slot)
{
	if (!slot->locked)
		fake_fail("unlock of a group that is not locked");
	slot->locked = false;
	if (slot->image == NULL && !slot->writer)
	{
		free(slot->id);
		memset(slot, 0, sizeof(KCoordSlot));
	}
}

/* A group of this name is one that SQL sessions use. */
bool
kcoord_session_active(KStr group_id)
{
	return group_id.len == 7 && memcmp(group_id.data, "session", 7) == 0;
}

uint8 *
kcoord_image(const KCoordSlot *slot, size_t *len)
{
	*len = slot->image_len;
	return slot->image;
}

void
kcoord_touched(KCoordSlot *slot)
{
	KGroupSummary summary;

	slot->deadline = slot->image != NULL &&
		kgroup_image_summary(slot->image, slot->image_len, &summary) ?
		summary.next_deadline : PG_INT64_MAX;
}

bool
kcoord_prepare(KCoordSlot *slot, KCoordChange *change, const KCoordPost *posts, int nposts)
{
	change->image = NULL;
	change->nletters = 0;
	if (!slot->locked)
		fake_fail("a change of a group that is not locked");
	if (fake_chance(fake_busy / 4) || nletters + nposts > LETTERS)
		return false;
	if (change->has_image && change->size > 0)
		change->image = copy("", 0), change->image = realloc(change->image, change->size);
	for (int i = 0; i < nposts; i++)
	{
		Letter	   *letter = &letters[nletters++];

		letter->post = posts[i];
		letter->post.body = copy(posts[i].body, posts[i].len);
		letter->version = kcoord_version(slot, posts[i].version);
	}
	return true;
}

void
kcoord_apply(KCoordSlot *slot, KCoordChange *change)
{
	if (!change->has_image)
		return;
	free(slot->image);
	slot->image = change->image;
	slot->image_len = change->size;
	slot->stamp = ++stamps;
	kcoord_touched(slot);
}

KCoordVersion
kcoord_version(const KCoordSlot *slot, uint64 version)
{
	return (KCoordVersion) {kcoord_number(slot), slot->incarnation, version};
}

bool
kcoord_is_durable(const KCoordVersion *version)
{
	return true;
}

bool
kcoord_become_writer(KCoordSlot *slot)
{
	bool		had = slot->writer;

	slot->writer = true;
	return !had;
}

bool
kcoord_am_writer(const KCoordSlot *slot)
{
	return slot->writer;
}

bool
kcoord_written(KCoordSlot *slot, uint64 version)
{
	KGroupSummary summary;

	slot->writer = false;
	if (slot->image == NULL)
		return false;
	kgroup_image_durable(slot->image, slot->image_len, version);
	if (!kgroup_image_summary(slot->image, slot->image_len, &summary))
		fake_fail("an image that is none");
	slot->writer = summary.version > summary.durable;
	if (summary.type == KGROUP_NONE && !slot->writer)
	{
		free(slot->image);
		slot->image = NULL;
		slot->image_len = 0;
	}
	return slot->writer;
}

int64
kcoord_deadline(int i)
{
	return slots[i].used ? slots[i].deadline : PG_INT64_MAX;
}

static int64
earliest(void)
{
	int64		next = PG_INT64_MAX;

	for (int i = 0; i < SLOTS; i++)
		next = Min(next, kcoord_deadline(i));
	return next;
}

bool
kcoord_timer_take(void)
{
	return earliest() <= kcoord_now();
}

void
kcoord_timer_again(int64 deadline)
{
}

long
kcoord_timeout(void)
{
	return earliest() == PG_INT64_MAX ? -1 : (long) Max(earliest() - kcoord_now(), 0);
}

bool
kcoord_receive(KCoordPost *post, KCoordVersion *version)
{
	void	   *body;

	if (nletters == 0)
		return false;
	*post = letters[0].post;
	*version = letters[0].version;
	body = palloc(post->len + 1);
	memcpy(body, post->body, post->len);
	free(unconstify(void *, post->body));
	post->body = body;
	memmove(&letters[0], &letters[1], --nletters * sizeof(Letter));
	return true;
}

/* ------------------------------------------------------------------------
 * Tables without rows
 * ------------------------------------------------------------------------
 */

static bool
open_table(bool *busy)
{
	*busy = fake_chance(fake_busy);
	return !*busy;
}

bool
kcoord_state_open(KCoordTable *table, LOCKMODE mode, bool *busy)
{
	return open_table(busy);
}

bool
kcoord_offset_open(KCoordTable *table, LOCKMODE mode, bool *busy)
{
	return open_table(busy);
}

void
kcoord_table_close(KCoordTable *table)
{
}

bool
kcoord_state_load(KCoordLoad load, void *arg, bool *busy)
{
	return open_table(busy);
}

KCoordPut
kcoord_state_write(KCoordTable *table, KStr group_id, const KGroupRow *rows, int count)
{
	return KCOORD_PUT;
}

static KCoordPut
put(void)
{
	return fake_chance(fake_busy) ? KCOORD_PUT_BUSY : KCOORD_PUT;
}

KCoordPut
kcoord_offset_put(KCoordTable *table, KStr group_id, const KCoordOffset *offset)
{
	return put();
}

KCoordPut
kcoord_offset_delete(KCoordTable *table, KStr group_id, const KUuid *topic_id, int32 partition)
{
	return put();
}

KCoordPut
kcoord_offset_delete_all(KCoordTable *table, KStr group_id)
{
	return put();
}

void
kcoord_offset_deleted(void)
{
}

bool
kcoord_offset_missed(XLogRecPtr *lsn)
{
	return !fake_chance(fake_busy);
}

bool
kcoord_offset_get(KCoordTable *table, KStr group_id, const KUuid *topic_id, int32 partition,
				  KCoordOffset *offset, XLogRecPtr *lsn)
{
	return false;
}

bool
kcoord_offset_list(KCoordTable *table, KStr group_id, int max, KCoordOffsets *list,
				   XLogRecPtr *lsn)
{
	return false;
}

bool
kcoord_offset_any(KCoordTable *table, KStr group_id)
{
	return fake_chance(50);
}

int
kcoord_offset_groups(KCoordTable *table, KStr after, KStr *groups, int max)
{
	return 0;
}

/* ------------------------------------------------------------------------
 * Configs: the group "g" has some
 * ------------------------------------------------------------------------
 */

static const int config_bounds[] = {0, 60000};

const KCoordConfigDef kcoord_config_defs[KCOORD_CONFIGS] = {
	{"a", "group.a", &config_bounds[0], &config_bounds[0], &config_bounds[1], "a"},
	{"b", "group.b", &config_bounds[0], &config_bounds[0], &config_bounds[1], "b"},
	{"c", "group.c", &config_bounds[1], &config_bounds[0], &config_bounds[1], "c"}
};

bool
kcoord_config_load(bool *busy)
{
	*busy = fake_chance(fake_busy);
	return !*busy;
}

const KCoordConfig *
kcoord_config_find(KStr group_id)
{
	static const KCoordConfig config = {{-1, 2000, 3000}};

	return group_id.len == 1 && group_id.data[0] == 'g' ? &config : NULL;
}

void
kcoord_config_apply(KStr group_id, KGroupConfig *config)
{
	const KCoordConfig *own = kcoord_config_find(group_id);

	if (own != NULL)
	{
		config->consumer_heartbeat_ms = own->values[KCOORD_CONFIG_HEARTBEAT];
		config->consumer_session_timeout_ms = own->values[KCOORD_CONFIG_SESSION];
	}
}

/* ------------------------------------------------------------------------
 * What groups need of the server
 * ------------------------------------------------------------------------
 */

static SnapshotData snapshot;

Snapshot
GetTransactionSnapshot(void)
{
	return &snapshot;
}

Snapshot
GetLatestSnapshot(void)
{
	return &snapshot;
}

void
PushActiveSnapshot(Snapshot pushed)
{
}

void
PopActiveSnapshot(void)
{
}

/* Topics change between two inputs only. */
void
CacheRegisterRelcacheCallback(RelcacheCallbackFunction func, Datum arg)
{
}

Oid
kcatalog_relation(const char *name)
{
	return InvalidOid;
}

bool
pg_strong_random(void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8 *) buf)[i] = (uint8) pg_prng_uint64_range(&pg_global_prng_state, 0, 255);
	return true;
}
