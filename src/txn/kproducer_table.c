/*-------------------------------------------------------------------------
 *
 * kproducer_table.c
 *	  The state of idempotent producers, in shared memory.
 *
 * A hash table of fixed size, in stripes: each has a lock, a share of the
 * slots, and its own chains, so that brokers rarely meet.  See README.md.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "kguc.h"
#include "txn/kproducer.h"

#define STRIPES				16

/*
 * A producer that was active so recently may still repeat a batch, and is not
 * forgotten for a new one: clients give up after two minutes
 * (delivery.timeout.ms).
 */
#define BUSY_MS				(5 * 60 * 1000)

#define NO_SLOT				(-1)

/* no padding, so that it can be hashed and compared as bytes */
typedef struct ProducerKey
{
	KProducerPartition partition;
	uint32		unused;
	int64		producer_id;
} ProducerKey;

typedef struct ProducerSlot
{
	ProducerKey key;
	KProducerState state;
	int64		touched;		/* last used, or learnt from the log */
	int64		last_batch;		/* an estimate of when that was appended; orders eviction */
	int32		next;			/* in the chain, or in the free list */
	bool		used;
} ProducerSlot;

typedef struct ProducerStripe
{
	LWLockPadded lock;
	int32		free;			/* first of the free list */
} ProducerStripe;

/* A partition whose producers are known, or being learnt; relid InvalidOid: free. */
typedef struct ReadyPartition
{
	KProducerPartition partition;
	int64		touched;
	int64		next_offset;	/* learnt up to here; -1: all */
	uint64		number;			/* no other, nor a later one of the same partition, has this */
	int32		next;
} ReadyPartition;

typedef struct ProducerShared
{
	int			tranche;
	int32		slots;			/* of each stripe; as many chains */
	int32		ready_slots;	/* as many chains */
	int32		ready_free;
	uint64		ready_number;	/* the last one given */
	LWLockPadded ready_lock;
	ProducerStripe stripe[STRIPES];
	/* then: slots, heads of their chains, ready partitions, heads of their chains */
} ProducerShared;

static ProducerShared *shared = NULL;
static ProducerSlot *slots;
static int32 *chains;
static ReadyPartition *ready;
static int32 *ready_chains;

/* The share of a stripe, with some more because hashing is not perfectly even. */
static int32
slots_per_stripe(void)
{
	return kguc_max_producer_ids / STRIPES + kguc_max_producer_ids / STRIPES / 8 + 16;
}

Size
kproducer_shmem_size(void)
{
	Size		n = (Size) slots_per_stripe() * STRIPES;
	Size		size = MAXALIGN(sizeof(ProducerShared));

	size = add_size(size, MAXALIGN(mul_size(n, sizeof(ProducerSlot))));
	size = add_size(size, MAXALIGN(mul_size(n, sizeof(int32))));
	size = add_size(size, MAXALIGN(mul_size(kguc_max_partitions, sizeof(ReadyPartition))));
	return add_size(size, MAXALIGN(mul_size(kguc_max_partitions, sizeof(int32))));
}

static void
init_shared(void)
{
	int32		per_stripe = slots_per_stripe();

	shared->tranche = LWLockNewTrancheId();
	shared->slots = per_stripe;
	for (int s = 0; s < STRIPES; s++)
	{
		LWLockInitialize(&shared->stripe[s].lock.lock, shared->tranche);
		shared->stripe[s].free = NO_SLOT;
		for (int32 i = s * per_stripe; i < (s + 1) * per_stripe; i++)
		{
			slots[i].used = false;
			slots[i].next = shared->stripe[s].free;
			shared->stripe[s].free = i;
			chains[i] = NO_SLOT;
		}
	}

	LWLockInitialize(&shared->ready_lock.lock, shared->tranche);
	shared->ready_slots = kguc_max_partitions;
	shared->ready_number = 0;
	shared->ready_free = NO_SLOT;
	for (int32 i = 0; i < shared->ready_slots; i++)
	{
		ready[i].partition.relid = InvalidOid;
		ready[i].next = shared->ready_free;
		shared->ready_free = i;
		ready_chains[i] = NO_SLOT;
	}
}

void
kproducer_shmem_init(void)
{
	Size		n = (Size) slots_per_stripe() * STRIPES;
	bool		found;
	char	   *p;

	shared = ShmemInitStruct("kafka_pg producers", kproducer_shmem_size(), &found);
	p = (char *) shared + MAXALIGN(sizeof(ProducerShared));
	slots = (ProducerSlot *) p;
	p += MAXALIGN(n * sizeof(ProducerSlot));
	chains = (int32 *) p;
	p += MAXALIGN(n * sizeof(int32));
	ready = (ReadyPartition *) p;
	p += MAXALIGN(kguc_max_partitions * sizeof(ReadyPartition));
	ready_chains = (int32 *) p;

	if (!found)
		init_shared();
	LWLockRegisterTranche(shared->tranche, "kafka_producer");
}

static bool
same_partition(const KProducerPartition *a, const KProducerPartition *b)
{
	return a->relid == b->relid && a->relfilenumber == b->relfilenumber &&
		a->partition == b->partition;
}

/* ---- slots; under the lock of their stripe ---- */

static uint32
make_key(ProducerKey *key, const KProducerPartition *partition, int64 producer_id)
{
	key->partition = *partition;
	key->unused = 0;
	key->producer_id = producer_id;
	return hash_bytes((unsigned char *) key, sizeof(*key));
}

static int
stripe_of(uint32 hash)
{
	return hash % STRIPES;
}

static int32 *
chain_of(uint32 hash)
{
	return &chains[stripe_of(hash) * shared->slots + (hash / STRIPES) % shared->slots];
}

static ProducerSlot *
find_slot(const ProducerKey *key, uint32 hash)
{
	for (int32 i = *chain_of(hash); i != NO_SLOT; i = slots[i].next)
	{
		if (memcmp(&slots[i].key, key, sizeof(*key)) == 0)
			return &slots[i];
	}
	return NULL;
}

static void
free_slot(int32 index)
{
	ProducerSlot *slot = &slots[index];
	uint32		hash = hash_bytes((unsigned char *) &slot->key, sizeof(slot->key));
	int32	   *link = chain_of(hash);

	while (*link != index)
		link = &slots[*link].next;
	*link = slot->next;

	slot->used = false;
	slot->next = shared->stripe[stripe_of(hash)].free;
	shared->stripe[stripe_of(hash)].free = index;
}

/*
 * The slot of a producer, made if there is none.  It takes the place of the
 * one whose last batch is longest ago; if that is not long enough, NULL is
 * returned, unless "must".
 */
static ProducerSlot *
get_slot(const ProducerKey *key, uint32 hash, int64 now, bool must)
{
	ProducerStripe *stripe = &shared->stripe[stripe_of(hash)];
	ProducerSlot *slot = find_slot(key, hash);
	int32		index;

	if (slot != NULL)
		return slot;

	if (stripe->free == NO_SLOT)
	{
		int32		first = stripe_of(hash) * shared->slots;
		int32		oldest = first;

		for (int32 i = first + 1; i < first + shared->slots; i++)
		{
			if (slots[i].last_batch < slots[oldest].last_batch)
				oldest = i;
		}
		if (!must && now - slots[oldest].last_batch < BUSY_MS)
			return NULL;
		free_slot(oldest);
	}

	index = stripe->free;
	slot = &slots[index];
	stripe->free = slot->next;
	slot->key = *key;
	slot->used = true;
	slot->touched = now;
	slot->last_batch = now;
	kproducer_state_init(&slot->state);
	slot->next = *chain_of(hash);
	*chain_of(hash) = index;
	return slot;
}

/* Free what belongs to a table, or to one partition of it. */
static void
free_slots(Oid relid, const KProducerPartition *partition)
{
	for (int s = 0; s < STRIPES; s++)
	{
		LWLockAcquire(&shared->stripe[s].lock.lock, LW_EXCLUSIVE);
		for (int32 i = s * shared->slots; i < (s + 1) * shared->slots; i++)
		{
			if (slots[i].used && slots[i].key.partition.relid == relid &&
				(partition == NULL || partition->partition == slots[i].key.partition.partition))
				free_slot(i);
		}
		LWLockRelease(&shared->stripe[s].lock.lock);
	}
}

/* ---- which partitions' producers are known ---- */

static int32 *
ready_chain_of(const KProducerPartition *partition)
{
	uint32		hash = hash_bytes((const unsigned char *) partition, sizeof(*partition));

	return &ready_chains[hash % shared->ready_slots];
}

static void
free_ready(int32 index)
{
	int32	   *link = ready_chain_of(&ready[index].partition);

	while (*link != index)
		link = &ready[*link].next;
	*link = ready[index].next;
	ready[index].partition.relid = InvalidOid;
	ready[index].next = shared->ready_free;
	shared->ready_free = index;
}

static ReadyPartition *
find_ready(const KProducerPartition *partition)
{
	for (int32 i = *ready_chain_of(partition); i != NO_SLOT; i = ready[i].next)
	{
		if (same_partition(&ready[i].partition, partition))
			return &ready[i];
	}
	return NULL;
}

uint64
kproducer_ready_number(const KProducerPartition *partition)
{
	ReadyPartition *found;
	uint64		number = 0;

	LWLockAcquire(&shared->ready_lock.lock, LW_SHARED);
	found = find_ready(partition);
	if (found != NULL && found->next_offset < 0)
		number = found->number;
	LWLockRelease(&shared->ready_lock.lock);
	return number;
}

bool
kproducer_is_ready(const KProducerPartition *partition)
{
	return kproducer_ready_number(partition) != 0;
}

int64
kproducer_rebuild_next(const KProducerPartition *partition)
{
	ReadyPartition *found;
	int64		next_offset = -1;

	LWLockAcquire(&shared->ready_lock.lock, LW_SHARED);
	found = find_ready(partition);
	if (found != NULL)
		next_offset = found->next_offset;
	LWLockRelease(&shared->ready_lock.lock);
	return next_offset;
}

static void
forget_ready(Oid relid, const KProducerPartition *partition)
{
	LWLockAcquire(&shared->ready_lock.lock, LW_EXCLUSIVE);
	for (int32 i = 0; i < shared->ready_slots; i++)
	{
		if (ready[i].partition.relid == relid &&
			(partition == NULL || ready[i].partition.partition == partition->partition))
			free_ready(i);
	}
	LWLockRelease(&shared->ready_lock.lock);
}

void
kproducer_forget(Oid relid)
{
	forget_ready(relid, NULL);
	free_slots(relid, NULL);
}

/* ---- rebuilding ---- */

/*
 * Whatever is there of this partition's number is from a rebuild that failed,
 * or from another file of the table.
 */
void
kproducer_rebuild_begin(const KProducerPartition *partition)
{
	forget_ready(partition->relid, partition);
	free_slots(partition->relid, partition);
}

void
kproducer_observe_batch(const KProducerPartition *partition, const KBatchHeader *header,
						XLogRecPtr lsn, int64 now)
{
	ProducerKey key;
	ProducerSlot *slot;
	uint32		hash;

	if (!kbatch_has_producer_id(header))
		return;

	hash = make_key(&key, partition, header->producer_id);
	LWLockAcquire(&shared->stripe[stripe_of(hash)].lock.lock, LW_EXCLUSIVE);

	/* producers that come later in the log are worth more than those before */
	slot = get_slot(&key, hash, now, true);
	if (header->base_offset <= slot->state.last_offset)
	{
		/* from a snapshot, or a walk that failed: what follows from it is there already */
		LWLockRelease(&shared->stripe[stripe_of(hash)].lock.lock);
		return;
	}
	if (kbatch_is_control(header))
		kproducer_state_end_txn(&slot->state, header->producer_epoch, header->base_offset);
	else
		kproducer_state_append(&slot->state, header, header->base_offset, lsn);

	/*
	 * When it was appended is not known.  A producer may have set its records' timestamps to long
	 * ago, which must not make us forget it earlier than others.
	 */
	slot->touched = now;
	slot->last_batch = Min(header->max_timestamp, now);
	LWLockRelease(&shared->stripe[stripe_of(hash)].lock.lock);
}

void
kproducer_rebuild_end(const KProducerPartition *partition, int64 now)
{
	kproducer_rebuild_pause(partition, -1, now);
}

void
kproducer_rebuild_pause(const KProducerPartition *partition, int64 next_offset, int64 now)
{
	ReadyPartition *found;
	int32		index;
	int32	   *chain;

	LWLockAcquire(&shared->ready_lock.lock, LW_EXCLUSIVE);
	found = find_ready(partition);
	if (found == NULL)
	{
		/* if all are in use, some of them belong to tables that are gone */
		if (shared->ready_free == NO_SLOT)
		{
			int32		oldest = 0;

			for (int32 i = 1; i < shared->ready_slots; i++)
			{
				if (ready[i].touched < ready[oldest].touched)
					oldest = i;
			}
			free_ready(oldest);
		}
		index = shared->ready_free;
		shared->ready_free = ready[index].next;
		found = &ready[index];
		found->partition = *partition;
		found->number = ++shared->ready_number;
		chain = ready_chain_of(partition);
		found->next = *chain;
		*chain = index;
	}
	found->touched = now;
	found->next_offset = next_offset;
	LWLockRelease(&shared->ready_lock.lock);
}

/* ---- snapshots ---- */

int
kproducer_copy(const KProducerPartition *partition, KProducerEntry *entries, int size)
{
	int			n = 0;

	for (int s = 0; s < STRIPES; s++)
	{
		LWLockAcquire(&shared->stripe[s].lock.lock, LW_SHARED);
		for (int32 i = s * shared->slots; i < (s + 1) * shared->slots; i++)
		{
			/* one without a batch was made for one that is yet to be appended */
			if (!slots[i].used || !same_partition(&slots[i].key.partition, partition) ||
				slots[i].state.last_offset < 0)
				continue;
			if (n < size)
			{
				entries[n].producer_id = slots[i].key.producer_id;
				entries[n].touched = slots[i].touched;
				entries[n].last_batch = slots[i].last_batch;
				entries[n].state = slots[i].state;
			}
			n++;
		}
		LWLockRelease(&shared->stripe[s].lock.lock);
	}
	return n;
}

void
kproducer_put(const KProducerPartition *partition, const KProducerEntry *entry, int64 now)
{
	ProducerKey key;
	ProducerSlot *slot;
	uint32		hash = make_key(&key, partition, entry->producer_id);

	LWLockAcquire(&shared->stripe[stripe_of(hash)].lock.lock, LW_EXCLUSIVE);
	slot = get_slot(&key, hash, now, true);
	slot->state = entry->state;
	/* a clock that went backwards must not keep a producer for ever */
	slot->touched = Min(entry->touched, now);
	slot->last_batch = Min(entry->last_batch, now);
	LWLockRelease(&shared->stripe[stripe_of(hash)].lock.lock);
}

/* ---- appending ---- */

void
kproducer_turn_begin(KProducerTurn *turn, const KProducerPartition *partition, int64 now)
{
	turn->partition = *partition;
	turn->now = now;
	turn->count = 0;
}

/*
 * Put the producer's state into the turn.  Makes a slot in shared memory as
 * well, if there is room, and marks it as used, so that it will be there for
 * kproducer_apply().
 */
static KProducerResult
load_producer(KProducerTurn *turn, int64 producer_id, KProducerState **state)
{
	ProducerKey key;
	ProducerSlot *slot;
	uint32		hash;

	for (int i = 0; i < turn->count; i++)
	{
		if (turn->producers[i].producer_id == producer_id)
		{
			*state = &turn->producers[i].state;
			return KPRODUCER_OK;
		}
	}
	if (turn->count == KPRODUCER_TURN_MAX)
		return KPRODUCER_TURN_FULL;

	*state = &turn->producers[turn->count].state;
	hash = make_key(&key, &turn->partition, producer_id);
	LWLockAcquire(&shared->stripe[stripe_of(hash)].lock.lock, LW_EXCLUSIVE);
	slot = get_slot(&key, hash, turn->now, false);
	if (slot != NULL)
	{
		if (turn->now - slot->touched >= kguc_producer_id_expiration &&
			slot->state.txn_first_offset < 0)
			kproducer_state_init(&slot->state);
		slot->touched = turn->now;
		slot->last_batch = turn->now;
		**state = slot->state;
	}
	LWLockRelease(&shared->stripe[stripe_of(hash)].lock.lock);
	if (slot == NULL)
		return KPRODUCER_FULL;

	turn->producers[turn->count++].producer_id = producer_id;
	return KPRODUCER_OK;
}

KProducerResult
kproducer_check(KProducerTurn *turn, const KBatchHeader *header, int64 base_offset,
				KProducerBatch *duplicate)
{
	KProducerState *state;
	KProducerResult result = load_producer(turn, header->producer_id, &state);

	if (result == KPRODUCER_OK)
		result = kproducer_state_check(state, header, duplicate);
	if (result == KPRODUCER_OK)
		kproducer_state_append(state, header, base_offset, InvalidXLogRecPtr);
	return result;
}

void
kproducer_apply(const KProducerTurn *turn, const KBatchHeader *header, int64 base_offset,
				XLogRecPtr lsn)
{
	ProducerKey key;
	ProducerSlot *slot;
	uint32		hash = make_key(&key, &turn->partition, header->producer_id);

	LWLockAcquire(&shared->stripe[stripe_of(hash)].lock.lock, LW_EXCLUSIVE);
	slot = get_slot(&key, hash, turn->now, true);
	kproducer_state_append(&slot->state, header, base_offset, lsn);
	LWLockRelease(&shared->stripe[stripe_of(hash)].lock.lock);
}
