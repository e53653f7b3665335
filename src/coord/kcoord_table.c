/*
 * kcoord_table.c
 *		Groups in shared memory: lookup, locks, images.
 *
 * Locks: that of the brokers' beginnings, a slot's, then the table's; with the table's held a
 * slot's only conditionally.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "coord/kcoord_int.h"
#include "kguc.h"

/* The part of the memory that is only for events that do not make a group grow. */
#define KEPT_BACK(size)	((size) / 4)

/* KCoordShared.loaded; LOADING + n: broker n is at it */
#define LOAD_NOT		0
#define LOAD_DONE		1
#define LOADING			2

KCoordShared *kcoord_shared;
int			kcoord_broker = -1;

static KCoordSlot *slots;
static int *buckets;
static void *area_place;
static dsa_area *area;
static int	slot_tranche;

/* ------------------------------------------------------------------------
 * Shared memory
 * ------------------------------------------------------------------------
 */

static Size
memory_limit(void)
{
	return mul_size(kguc_group_memory, 1024);
}

/* With room for what DSA has begun and not filled, 64 kB for each of some forty sizes. */
static Size
area_size(void)
{
	return add_size(add_size(memory_limit(), memory_limit() / 8), 4 * 1024 * 1024);
}

static int
bucket_count(void)
{
	return (int) pg_nextpower2_32(kguc_max_groups);
}

static Size
table_size(void)
{
	return add_size(MAXALIGN(sizeof(KCoordShared)),
					add_size(MAXALIGN(mul_size(kguc_max_groups, sizeof(KCoordSlot))),
							 MAXALIGN(mul_size(bucket_count(), sizeof(int)))));
}

Size
kcoord_shmem_size(void)
{
	return add_size(table_size(), MAXALIGN(area_size()));
}

/* Neither a stamp nor an incarnation is used twice. */
static uint64
next_number(void)
{
	return pg_atomic_add_fetch_u64(&kcoord_shared->incarnations, 1);
}

static void
slot_changed(KCoordSlot *slot)
{
	pg_atomic_write_u64(&slot->stamp, next_number());
}

static void
slot_clear(KCoordSlot *slot)
{
	slot->used = false;
	slot->hash = 0;
	slot->id = InvalidDsaPointer;
	slot->id_len = 0;
	slot->image_block = InvalidDsaPointer;
	slot->image_len = 0;
	slot->image_room = 0;
	slot->writer = NO_WRITER;
	slot->forsaken = 0;
	slot_changed(slot);
	pg_atomic_write_u64(&slot->incarnation, 0);
	pg_atomic_write_u64(&slot->durable, 0);
	pg_atomic_write_u64(&slot->deadline, PG_INT64_MAX);
}

void
kcoord_shmem_init(void)
{
	bool		found;
	static int	table_tranche;
	static int	area_tranche;
	KCoordShared *shared = ShmemInitStruct("kafka_pg groups", kcoord_shmem_size(), &found);

	kcoord_shared = shared;
	slots = (KCoordSlot *) ((char *) shared + MAXALIGN(sizeof(KCoordShared)));
	buckets = (int *) ((char *) slots + MAXALIGN(mul_size(kguc_max_groups, sizeof(KCoordSlot))));
	area_place = (char *) shared + table_size();
	if (!found)
	{
		dsa_area   *created;

		table_tranche = LWLockNewTrancheId();
		slot_tranche = LWLockNewTrancheId();
		area_tranche = LWLockNewTrancheId();
		memset(shared, 0, table_size());
		LWLockInitialize(&shared->attach_lock, table_tranche);
		LWLockInitialize(&shared->table_lock, table_tranche);
		if (!pg_strong_random(&shared->seed, sizeof(shared->seed)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random number")));
		shared->capacity = kguc_max_groups;
		shared->nbuckets = bucket_count();
		pg_atomic_init_u64(&shared->requests, 0);
		pg_atomic_init_u64(&shared->bytes, 0);
		pg_atomic_init_u64(&shared->blocks, 0);
		pg_atomic_init_u32(&shared->groups, 0);
		pg_atomic_init_u64(&shared->incarnations, 0);
		pg_atomic_init_u64(&shared->timer, PG_INT64_MAX);
		pg_atomic_init_u32(&shared->loaded, 0);
		pg_atomic_init_u32(&shared->deleters, 0);
		pg_atomic_init_u64(&shared->deleted, 0);
		for (int i = 0; i < KCOORD_BROKERS; i++)
		{
			SpinLockInit(&shared->brokers[i].mutex);
			shared->brokers[i].head = shared->brokers[i].tail = InvalidDsaPointer;
		}
		for (int i = 0; i < shared->nbuckets; i++)
			buckets[i] = -1;
		for (int i = 0; i < shared->capacity; i++)
		{
			LWLockInitialize(&slots[i].lock, slot_tranche);
			pg_atomic_init_u64(&slots[i].incarnation, 0);
			pg_atomic_init_u64(&slots[i].stamp, 0);
			pg_atomic_init_u64(&slots[i].durable, 0);
			pg_atomic_init_u64(&slots[i].waiting, 0);
			pg_atomic_init_u64(&slots[i].deadline, PG_INT64_MAX);
			slot_clear(&slots[i]);
			slots[i].next = i + 1 < shared->capacity ? i + 1 : -1;
		}
		shared->first_free = 0;

		created = dsa_create_in_place(area_place, area_size(), area_tranche, NULL);
		dsa_pin(created);
		dsa_set_size_limit(created, area_size());
		dsa_detach(created);
	}
	LWLockRegisterTranche(table_tranche, "kafka_pg_groups");
	LWLockRegisterTranche(slot_tranche, "kafka_pg_group");
	LWLockRegisterTranche(area_tranche, "kafka_pg_group_memory");
}

dsa_area *
kcoord_area(void)
{
	if (area == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		area = dsa_attach_in_place(area_place, NULL);
		dsa_pin_mapping(area);
		on_shmem_exit(dsa_on_shmem_exit_release_in_place, PointerGetDatum(area_place));
		MemoryContextSwitchTo(old);
	}
	return area;
}

/* What DSA takes for a block: pages, or one of its sizes, which are an eighth apart at most. */
static size_t
size_of_block(size_t size)
{
	return size > 8192 ? TYPEALIGN(4096, size) : size + size / 8;
}

dsa_pointer
kcoord_alloc(size_t size)
{
	dsa_pointer block = InvalidDsaPointer;
	uint64		used = pg_atomic_add_fetch_u64(&kcoord_shared->bytes, size_of_block(size));

	if (used <= memory_limit())
		block = dsa_allocate_extended(kcoord_area(), size, DSA_ALLOC_NO_OOM | DSA_ALLOC_HUGE);
	if (DsaPointerIsValid(block))
		pg_atomic_fetch_add_u64(&kcoord_shared->blocks, 1);
	else
		pg_atomic_fetch_sub_u64(&kcoord_shared->bytes, size_of_block(size));
	return block;
}

void
kcoord_free(dsa_pointer *block, size_t size)
{
	dsa_pointer old = *block;

	*block = InvalidDsaPointer;
	if (!DsaPointerIsValid(old))
		return;
	dsa_free(kcoord_area(), old);
	pg_atomic_fetch_sub_u64(&kcoord_shared->bytes, size_of_block(size));
	pg_atomic_fetch_sub_u64(&kcoord_shared->blocks, 1);
}

size_t
kcoord_max_image(void)
{
	return KEPT_BACK(memory_limit()) / 2;
}

static void
image_free(KCoordSlot *slot)
{
	kcoord_free(&slot->image_block, slot->image_room);
	slot->image_len = slot->image_room = 0;
}

void
kcoord_memory(KCoordMemory *memory)
{
	*memory = (KCoordMemory)
	{
		.groups = pg_atomic_read_u32(&kcoord_shared->groups),.max_groups = kcoord_shared->capacity,
			.blocks = pg_atomic_read_u64(&kcoord_shared->blocks),
			.bytes = pg_atomic_read_u64(&kcoord_shared->bytes),.max_bytes = memory_limit()
	};
}

/* ------------------------------------------------------------------------
 * Brokers
 * ------------------------------------------------------------------------
 */

static void wake_broker(int broker);

static void
broker_exit(int code, Datum arg)
{
	kcoord_load_end(false);
	LWLockAcquire(&kcoord_shared->table_lock, LW_EXCLUSIVE);
	kcoord_shared->brokers[kcoord_broker].latch = NULL;
	LWLockRelease(&kcoord_shared->table_lock);

	/* who is timekeeper now does not know what this one has not done yet */
	pg_atomic_write_u64(&kcoord_shared->timer, 0);
	for (int i = 0; i < KCOORD_BROKERS; i++)
		wake_broker(i);
}

/*
 * No broker lives: whatever is in memory has no owner, and the rows are read anew.  Sessions may
 * still look at groups.
 */
static void
forget_all(void)
{
	/* first: who finds no group from here on must also find that they are not there yet */
	pg_atomic_write_u32(&kcoord_shared->loaded, LOAD_NOT);
	pg_memory_barrier();
	for (int i = 0; i < kcoord_shared->capacity; i++)
	{
		LWLockAcquire(&slots[i].lock, LW_EXCLUSIVE);
		image_free(&slots[i]);
		slots[i].writer = NO_WRITER;
		kcoord_unlock(&slots[i]);
	}
	for (int i = 0; i < KCOORD_BROKERS; i++)
		kcoord_discard(i);
	pg_atomic_write_u64(&kcoord_shared->timer, PG_INT64_MAX);
}

void
kcoord_attach(int broker)
{
	bool		alone = true;

	kcoord_broker = broker;
	kcoord_area();
	LWLockAcquire(&kcoord_shared->attach_lock, LW_EXCLUSIVE);
	LWLockAcquire(&kcoord_shared->table_lock, LW_SHARED);
	for (int i = 0; i < KCOORD_BROKERS; i++)
	{
		if (kcoord_shared->brokers[i].latch != NULL)
			alone = false;
	}
	LWLockRelease(&kcoord_shared->table_lock);
	if (alone)
		forget_all();
	else
		kcoord_discard(broker);
	LWLockAcquire(&kcoord_shared->table_lock, LW_EXCLUSIVE);
	kcoord_shared->brokers[broker].latch = MyLatch;
	LWLockRelease(&kcoord_shared->table_lock);
	LWLockRelease(&kcoord_shared->attach_lock);
	before_shmem_exit(broker_exit, (Datum) 0);
}

bool
kcoord_loaded(void)
{
	return pg_atomic_read_u32(&kcoord_shared->loaded) == LOAD_DONE;
}

bool
kcoord_load_begin(void)
{
	uint32		expected = LOAD_NOT;

	return pg_atomic_compare_exchange_u32(&kcoord_shared->loaded, &expected,
										  LOADING + (uint32) kcoord_broker);
}

void
kcoord_load_end(bool loaded)
{
	uint32		expected = LOADING + (uint32) kcoord_broker;

	(void) pg_atomic_compare_exchange_u32(&kcoord_shared->loaded, &expected,
										  loaded ? LOAD_DONE : LOAD_NOT);
}

static int
timekeeper(void)
{
	for (int i = 0; i < KCOORD_BROKERS; i++)
	{
		/* Without the lock: who is late to know is woken by broker_exit's timer, or asks again. */
		if (*(Latch *volatile *) &kcoord_shared->brokers[i].latch != NULL)
			return i;
	}
	return -1;
}

bool
kcoord_is_timekeeper(void)
{
	return timekeeper() == kcoord_broker;
}

int64
kcoord_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

uint64
kcoord_request_number(void)
{
	return pg_atomic_add_fetch_u64(&kcoord_shared->requests, 1);
}

static void
wake_broker(int broker)
{
	Latch	   *latch = *(Latch *volatile *) &kcoord_shared->brokers[broker].latch;

	/* The latch of a process slot: setting one that has a new owner does no harm. */
	if (latch != NULL)
		SetLatch(latch);
}

void
kcoord_post(dsa_pointer block)
{
	KCoordLetter *letter = dsa_get_address(kcoord_area(), block);
	KCoordBroker *broker = &kcoord_shared->brokers[letter->waiter.broker];
	KCoordLetter *last = NULL;

	letter->next = InvalidDsaPointer;
	SpinLockAcquire(&broker->mutex);
	if (DsaPointerIsValid(broker->tail))
	{
		/* in place: the address is there without any lock */
		last = dsa_get_address(area, broker->tail);
		last->next = block;
	}
	else
		broker->head = block;
	broker->tail = block;
	SpinLockRelease(&broker->mutex);
	wake_broker(letter->waiter.broker);
}

/* ------------------------------------------------------------------------
 * Lookup
 * ------------------------------------------------------------------------
 */

int
kcoord_capacity(void)
{
	return kcoord_shared->capacity;
}

int
kcoord_number(const KCoordSlot *slot)
{
	return (int) (slot - slots);
}

KStr
kcoord_id(const KCoordSlot *slot)
{
	return (KStr)
	{
		dsa_get_address(kcoord_area(), slot->id), slot->id_len
	};
}

/* The table's lock is held, or the slot's. */
static bool
has_id(const KCoordSlot *slot, KStr id, uint64 hash)
{
	return slot->used && slot->hash == hash && slot->id_len == id.len &&
		memcmp(dsa_get_address(kcoord_area(), slot->id), id.data, id.len) == 0;
}

/* The table's lock is held. */
static KCoordSlot *
find(KStr id, uint64 hash)
{
	for (int i = buckets[hash & (kcoord_shared->nbuckets - 1)]; i >= 0; i = slots[i].next)
	{
		if (has_id(&slots[i], id, hash))
			return &slots[i];
	}
	return NULL;
}

/* Takes a free slot for a group, locked; NULL: none.  Uses up the id's block then. */
static KCoordSlot *
take_free(KStr id, uint64 hash, dsa_pointer id_block)
{
	int		   *bucket = &buckets[hash & (kcoord_shared->nbuckets - 1)];
	int			number = kcoord_shared->first_free;
	KCoordSlot *slot;

	if (number < 0)
		return NULL;
	slot = &slots[number];
	/* who looks at all slots may hold it for a moment */
	if (!LWLockConditionalAcquire(&slot->lock, LW_EXCLUSIVE))
		return NULL;
	kcoord_shared->first_free = slot->next;
	pg_atomic_fetch_add_u32(&kcoord_shared->groups, 1);
	slot_clear(slot);
	slot->used = true;
	slot->hash = hash;
	slot->id = id_block;
	slot->id_len = id.len;
	slot->next = *bucket;
	*bucket = number;
	pg_atomic_write_u64(&slot->incarnation, next_number());
	return slot;
}

static uint64
hash_id(KStr id)
{
	return hash_bytes_extended((const unsigned char *) id.data, id.len, kcoord_shared->seed);
}

KCoordLock
kcoord_lock(KStr id, bool create, KCoordSlot **slot)
{
	uint64		hash = hash_id(id);
	dsa_pointer id_block;
	KCoordLock	result;

	for (;;)
	{
		LWLockAcquire(&kcoord_shared->table_lock, LW_SHARED);
		*slot = find(id, hash);
		LWLockRelease(&kcoord_shared->table_lock);
		if (*slot == NULL)
			break;
		/* With its lock, it cannot become another group's any more. */
		LWLockAcquire(&(*slot)->lock, LW_EXCLUSIVE);
		if (has_id(*slot, id, hash))
			return KCOORD_LOCKED;
		LWLockRelease(&(*slot)->lock);
	}
	if (!create)
		return KCOORD_NO_GROUP;

	id_block = kcoord_alloc(id.len);
	if (!DsaPointerIsValid(id_block))
		return KCOORD_NO_ROOM;
	memcpy(dsa_get_address(kcoord_area(), id_block), id.data, id.len);
	LWLockAcquire(&kcoord_shared->table_lock, LW_EXCLUSIVE);
	if (find(id, hash) != NULL)
		result = KCOORD_BUSY;	/* somebody was quicker */
	else if (kcoord_shared->first_free < 0)
		result = KCOORD_NO_ROOM;
	else
	{
		*slot = take_free(id, hash, id_block);
		result = *slot == NULL ? KCOORD_BUSY : KCOORD_LOCKED;
	}
	LWLockRelease(&kcoord_shared->table_lock);
	if (result != KCOORD_LOCKED)
		kcoord_free(&id_block, id.len);
	return result;
}

KCoordLock
kcoord_lock_number(int i, KCoordSlot **slot)
{
	*slot = &slots[i];
	if (pg_atomic_read_u64(&slots[i].incarnation) == 0)
		return KCOORD_NO_GROUP;
	LWLockAcquire(&slots[i].lock, LW_EXCLUSIVE);
	if (slots[i].used)
		return KCOORD_LOCKED;
	LWLockRelease(&slots[i].lock);
	return KCOORD_NO_GROUP;
}

KCoordStamp
kcoord_stamp(const KCoordSlot *slot)
{
	return (KCoordStamp)
	{
		.slot = kcoord_number(slot),
			.stamp = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &slot->stamp))
	};
}

bool
kcoord_unchanged(const KCoordStamp *stamp)
{
	pg_memory_barrier();
	return stamp->slot >= 0 && pg_atomic_read_u64(&slots[stamp->slot].stamp) == stamp->stamp;
}

static void
wake_waiting(KCoordSlot *slot)
{
	uint64		waiting = pg_atomic_exchange_u64(&slot->waiting, 0);

	while (waiting != 0)
	{
		int			broker = pg_rightmost_one_pos64(waiting);

		waiting &= waiting - 1;
		wake_broker(broker);
	}
}

void
kcoord_unlock(KCoordSlot *slot)
{
	dsa_pointer id = InvalidDsaPointer;
	size_t		id_len = slot->id_len;

	if (slot->used && !DsaPointerIsValid(slot->image_block) && slot->writer == NO_WRITER)
	{
		int		   *link;

		LWLockAcquire(&kcoord_shared->table_lock, LW_EXCLUSIVE);
		link = &buckets[slot->hash & (kcoord_shared->nbuckets - 1)];
		while (*link != kcoord_number(slot))
			link = &slots[*link].next;
		*link = slot->next;
		id = slot->id;
		slot_clear(slot);
		slot->next = kcoord_shared->first_free;
		kcoord_shared->first_free = kcoord_number(slot);
		pg_atomic_fetch_sub_u32(&kcoord_shared->groups, 1);
		LWLockRelease(&kcoord_shared->table_lock);
		wake_waiting(slot);
	}
	LWLockRelease(&slot->lock);
	kcoord_free(&id, id_len);
}

/* ------------------------------------------------------------------------
 * Images
 * ------------------------------------------------------------------------
 */

uint8 *
kcoord_image(const KCoordSlot *slot, size_t *len)
{
	*len = slot->image_len;
	if (!DsaPointerIsValid(slot->image_block))
		return NULL;
	return dsa_get_address(kcoord_area(), slot->image_block);
}

void
kcoord_timer_again(int64 deadline)
{
	uint64		timer = pg_atomic_read_u64(&kcoord_shared->timer);
	int			keeper;

	while ((uint64) deadline < timer)
	{
		if (!pg_atomic_compare_exchange_u64(&kcoord_shared->timer, &timer, deadline))
			continue;
		keeper = timekeeper();
		if (keeper >= 0 && keeper != kcoord_broker)
			wake_broker(keeper);
		break;
	}
}

void
kcoord_touched(KCoordSlot *slot)
{
	size_t		len;
	uint8	   *image = kcoord_image(slot, &len);
	KGroupSummary summary;
	int64		deadline = PG_INT64_MAX;

	if (image != NULL && kgroup_image_summary(image, len, &summary))
	{
		deadline = summary.next_deadline;
		pg_atomic_write_u64(&slot->durable, summary.durable);
	}
	pg_atomic_write_u64(&slot->deadline, deadline);
	if (deadline != PG_INT64_MAX)
		kcoord_timer_again(deadline);
}

void
kcoord_forsake(KCoordSlot *slot)
{
	int64		now = kcoord_now();

	slot->forsaken = pg_atomic_read_u64(&slot->stamp);
	pg_atomic_write_u64(&slot->deadline, now);
	kcoord_timer_again(now);
}

bool
kcoord_is_forsaken(const KCoordSlot *slot)
{
	return slot->forsaken == kcoord_stamp(slot).stamp;
}

/*
 * A place for the new image.  When memory is short a group may still become smaller, where its old
 * image lies: that is not looked at any more, and who is in the middle of writing is not
 * interrupted by anything that the others survive.
 */
static bool
prepare_image(KCoordSlot *slot, KCoordChange *change)
{
	if (!change->grows || pg_atomic_read_u64(&kcoord_shared->bytes) + change->size <
		memory_limit() - KEPT_BACK(memory_limit()))
		change->image_block = kcoord_alloc(change->size);
	if (!DsaPointerIsValid(change->image_block))
	{
		if (change->size > slot->image_room)
			return false;
		change->image_block = slot->image_block;
	}
	change->image = dsa_get_address(kcoord_area(), change->image_block);
	return true;
}

bool
kcoord_prepare(KCoordSlot *slot, KCoordChange *change, const KCoordPost *posts, int nposts)
{
	change->image = NULL;
	change->image_block = InvalidDsaPointer;
	change->nletters = 0;
	if (change->has_image && change->size > 0 && !prepare_image(slot, change))
		return false;
	for (int i = 0; i < nposts; i++)
	{
		dsa_pointer block = kcoord_alloc(KCOORD_LETTER_SIZE(posts[i].len));
		KCoordLetter *letter;

		if (!DsaPointerIsValid(block))
		{
			while (change->nletters > 0)
			{
				change->nletters--;
				kcoord_free(&change->letters[change->nletters],
							KCOORD_LETTER_SIZE(posts[change->nletters].len));
			}
			if (change->image_block != slot->image_block)
				kcoord_free(&change->image_block, change->size);
			return false;
		}
		letter = dsa_get_address(kcoord_area(), block);
		letter->waiter = posts[i].waiter;
		letter->version = kcoord_version(slot, posts[i].version);
		letter->len = posts[i].len;
		memcpy(letter->body, posts[i].body, posts[i].len);
		change->letters[change->nletters++] = block;
	}
	return true;
}

void
kcoord_apply(KCoordSlot *slot, KCoordChange *change)
{
	if (change->has_image)
	{
		slot_changed(slot);
		if (change->image_block != slot->image_block)
		{
			image_free(slot);
			slot->image_block = change->image_block;
			slot->image_room = change->size;
		}
		slot->image_len = change->size;
		if (change->size == 0)
		{
			/* what comes after this counts its versions from the beginning */
			pg_atomic_write_u64(&slot->incarnation, next_number());
			pg_atomic_write_u64(&slot->durable, 0);
		}
		kcoord_touched(slot);
	}
	for (int i = 0; i < change->nletters; i++)
		kcoord_post(change->letters[i]);
}

/* ------------------------------------------------------------------------
 * Versions
 * ------------------------------------------------------------------------
 */

KCoordVersion
kcoord_version(const KCoordSlot *slot, uint64 version)
{
	return (KCoordVersion)
	{
		.slot = kcoord_number(slot),.version = version,
			.incarnation = pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &slot->incarnation))
	};
}

bool
kcoord_is_durable(const KCoordVersion *version)
{
	KCoordSlot *slot = &slots[version->slot];

	if (version->version == 0)
		return true;
	/* In this order: what becomes durable after the look sets our latch. */
	pg_atomic_fetch_or_u64(&slot->waiting, UINT64CONST(1) << kcoord_broker);
	return pg_atomic_read_u64(&slot->durable) >= version->version ||
		pg_atomic_read_u64(&slot->incarnation) != version->incarnation;
}

bool
kcoord_become_writer(KCoordSlot *slot)
{
	if (slot->writer != NO_WRITER)
		return false;
	slot->writer = kcoord_broker;
	return true;
}

bool
kcoord_am_writer(const KCoordSlot *slot)
{
	return slot->writer == kcoord_broker;
}

/* A smaller block for an image whose rows are written, if there is one. */
static void
shrink(KCoordSlot *slot)
{
	dsa_pointer block;

	if (slot->image_room - slot->image_len < slot->image_room / 4)
		return;
	block = kcoord_alloc(slot->image_len);
	if (!DsaPointerIsValid(block))
		return;
	memcpy(dsa_get_address(kcoord_area(), block),
		   dsa_get_address(kcoord_area(), slot->image_block), slot->image_len);
	kcoord_free(&slot->image_block, slot->image_room);
	slot->image_block = block;
	slot->image_room = slot->image_len;
}

bool
kcoord_written(KCoordSlot *slot, uint64 version)
{
	size_t		len;
	uint8	   *image = kcoord_image(slot, &len);
	KGroupSummary summary;
	bool		more = false;

	if (image != NULL)
	{
		kgroup_image_durable(image, len, version);
		if (kgroup_image_summary(image, len, &summary))
		{
			more = summary.version > summary.durable;
			slot->image_len = kgroup_image_trim(image, len);
			/* nobody's any longer, and nothing left to be deleted */
			if (summary.type == KGROUP_NONE && !more)
				image_free(slot);
			else
				shrink(slot);
		}
	}
	kcoord_touched(slot);
	pg_atomic_write_u64(&slot->durable, version);
	pg_memory_barrier();
	wake_waiting(slot);
	if (!more)
		slot->writer = NO_WRITER;
	return more;
}

/* ------------------------------------------------------------------------
 * Time
 * ------------------------------------------------------------------------
 */

bool
kcoord_timer_take(void)
{
	if (!kcoord_is_timekeeper() ||
		pg_atomic_read_u64(&kcoord_shared->timer) > (uint64) kcoord_now())
		return false;
	pg_atomic_write_u64(&kcoord_shared->timer, PG_INT64_MAX);
	pg_memory_barrier();
	return true;
}

int64
kcoord_deadline(int i)
{
	return (int64) pg_atomic_read_u64(&slots[i].deadline);
}

long
kcoord_timeout(void)
{
	uint64		timer;

	if (!kcoord_is_timekeeper())
		return -1;
	timer = pg_atomic_read_u64(&kcoord_shared->timer);
	if (timer == PG_INT64_MAX)
		return -1;
	return (long) Min(Max((int64) timer - kcoord_now(), 0), 1000000);
}
