/*
 * knet_shared.c
 *	  What all loops of the server share: bytes in flight and connection counts.
 *
 * Both are limits of the server, not of a process. Every loop keeps its own
 * part in shared memory as well, so that the one that takes the place of a loop
 * that died gives back what its predecessor held.
 *
 * Bytes are counted with atomics. Connections are counted under a lock in a hash
 * table with one entry for each pair of (address, loop): accepting is rare.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "net/knet_int.h"

#define KNET_BUCKETS 1024

typedef struct KNetCount
{
	KNetPeer	peer;
	int			loop_no;
	int			connections;
	int			next;			/* in bucket or free list, -1 at the end */
} KNetCount;

typedef struct KNetLoopShared
{
	Latch	   *latch;			/* may belong to a successor: harmless */
	pg_atomic_uint64 request_bytes;
	pg_atomic_uint64 answer_bytes;
} KNetLoopShared;

typedef struct KNetShared
{
	pg_atomic_uint64 request_bytes;
	pg_atomic_uint64 answer_bytes;
	pg_atomic_uint64 starved;	/* bit n: loop n waits for request bytes */
	KNetLoopShared loops[KNET_MAX_LOOPS];
	int			tranche;
	LWLock		lock;			/* protects all that follows */
	int			connections;
	int			free;
	int			buckets[KNET_BUCKETS];
	int			capacity;
	KNetCount	counts[FLEXIBLE_ARRAY_MEMBER];
} KNetShared;

static KNetShared *shared;

#define my_part (&shared->loops[knet_loop.no])

Size
knet_shmem_size(int max_connections)
{
	return add_size(offsetof(KNetShared, counts),
					mul_size(max_connections, sizeof(KNetCount)));
}

void
knet_shmem_init(int max_connections)
{
	bool		found;

	shared = ShmemInitStruct("kafka_pg net", knet_shmem_size(max_connections), &found);
	if (!found)
	{
		memset(shared, 0, offsetof(KNetShared, counts));
		pg_atomic_init_u64(&shared->request_bytes, 0);
		pg_atomic_init_u64(&shared->answer_bytes, 0);
		pg_atomic_init_u64(&shared->starved, 0);
		for (int i = 0; i < KNET_MAX_LOOPS; i++)
		{
			pg_atomic_init_u64(&shared->loops[i].request_bytes, 0);
			pg_atomic_init_u64(&shared->loops[i].answer_bytes, 0);
		}
		shared->tranche = LWLockNewTrancheId();
		LWLockInitialize(&shared->lock, shared->tranche);
		for (int i = 0; i < KNET_BUCKETS; i++)
			shared->buckets[i] = -1;
		shared->capacity = max_connections;
		for (int i = 0; i < max_connections; i++)
			shared->counts[i].next = i + 1 < max_connections ? i + 1 : -1;
		shared->free = max_connections > 0 ? 0 : -1;
	}
	LWLockRegisterTranche(shared->tranche, "KafkaNet");
}

static int
knet_bucket(const KNetPeer *peer)
{
	return hash_bytes(peer->bytes, sizeof(peer->bytes)) % KNET_BUCKETS;
}

/* Unlink an entry from its bucket. Lock held. */
static void
knet_count_free(int *link)
{
	int			i = *link;

	*link = shared->counts[i].next;
	shared->counts[i].next = shared->free;
	shared->free = i;
}

/*
 * Become loop loop_no: forget what an earlier process in this place held when
 * it died.
 */
void
knet_shared_attach(int loop_no)
{
	KNetLoopShared *part = &shared->loops[loop_no];

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int b = 0; b < KNET_BUCKETS; b++)
	{
		int		   *link = &shared->buckets[b];

		while (*link >= 0)
		{
			KNetCount  *count = &shared->counts[*link];

			if (count->loop_no == loop_no)
			{
				shared->connections -= count->connections;
				knet_count_free(link);
			}
			else
				link = &count->next;
		}
	}
	LWLockRelease(&shared->lock);

	pg_atomic_fetch_sub_u64(&shared->request_bytes,
							pg_atomic_exchange_u64(&part->request_bytes, 0));
	pg_atomic_fetch_sub_u64(&shared->answer_bytes,
							pg_atomic_exchange_u64(&part->answer_bytes, 0));
	pg_atomic_fetch_and_u64(&shared->starved, ~(UINT64CONST(1) << loop_no));
	part->latch = MyLatch;
}

/* Count a new connection, unless a cap forbids it; then say which. */
bool
knet_shared_admit(const KNetPeer *peer, const char **why)
{
	int			bucket = knet_bucket(peer);
	int			from_address = 0;
	KNetCount  *mine = NULL;
	bool		admitted = false;

	*why = NULL;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = shared->buckets[bucket]; i >= 0; i = shared->counts[i].next)
	{
		KNetCount  *count = &shared->counts[i];

		if (memcmp(&count->peer, peer, sizeof(KNetPeer)) != 0)
			continue;
		from_address += count->connections;
		if (count->loop_no == knet_loop.no)
			mine = count;
	}
	if (shared->connections >= Min(knet_loop.limits.max_connections, shared->capacity))
		*why = "too many connections";
	else if (from_address >= knet_loop.limits.max_connections_per_address)
		*why = "too many connections from this address";
	else
	{
		if (mine == NULL)
		{
			int			i = shared->free;

			/* there are as many entries as there can be connections */
			Assert(i >= 0);
			mine = &shared->counts[i];
			shared->free = mine->next;
			mine->peer = *peer;
			mine->loop_no = knet_loop.no;
			mine->connections = 0;
			mine->next = shared->buckets[bucket];
			shared->buckets[bucket] = i;
		}
		mine->connections++;
		shared->connections++;
		admitted = true;
	}
	LWLockRelease(&shared->lock);
	return admitted;
}

void
knet_shared_leave(const KNetPeer *peer)
{
	int			bucket = knet_bucket(peer);

	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int *link = &shared->buckets[bucket]; *link >= 0; link = &shared->counts[*link].next)
	{
		KNetCount  *count = &shared->counts[*link];

		if (count->loop_no != knet_loop.no || memcmp(&count->peer, peer, sizeof(KNetPeer)) != 0)
			continue;
		shared->connections--;
		if (--count->connections == 0)
			knet_count_free(link);
		break;
	}
	LWLockRelease(&shared->lock);
}

/*
 * Take bytes of the server's budget for frames. A frame's bytes are taken as a
 * whole before the first of them is read, so a frame that has been admitted
 * never waits for memory again: no set of half-read frames can hold each other
 * up. One frame is always admitted, however small the budget. Small ones may use an
 * eighth more: heartbeats get through while large ones wait.
 */
bool
knet_shared_take(size_t bytes)
{
	uint64		held = pg_atomic_read_u64(&shared->request_bytes);
	uint64		limit = knet_loop.limits.inflight_bytes;

	if (bytes <= KNET_SMALL_FRAME)
		limit += limit / 8;
	do
	{
		if (held > 0 && held + bytes > limit)
			return false;
	} while (!pg_atomic_compare_exchange_u64(&shared->request_bytes, &held, held + bytes));
	pg_atomic_fetch_add_u64(&my_part->request_bytes, bytes);
	return true;
}

/* Count bytes that are in memory already, budget or not. */
void
knet_shared_force(size_t bytes)
{
	pg_atomic_fetch_add_u64(&shared->request_bytes, bytes);
	pg_atomic_fetch_add_u64(&my_part->request_bytes, bytes);
}

void
knet_shared_give(size_t bytes)
{
	if (bytes == 0)
		return;
	pg_atomic_fetch_sub_u64(&my_part->request_bytes, bytes);
	pg_atomic_fetch_sub_u64(&shared->request_bytes, bytes);

	/* full barrier above, and in knet_shared_want: one of the two sees the other */
	for (uint64 starved = pg_atomic_read_u64(&shared->starved); starved != 0;)
	{
		Latch	   *latch;
		int			i = pg_rightmost_one_pos64(starved);

		starved &= starved - 1;
		latch = shared->loops[i].latch;
		if (latch != NULL)
			SetLatch(latch);
	}
}

/*
 * Say whether this loop wants its latch set when bytes are given back. Having
 * said yes, try once more before waiting.
 */
void
knet_shared_want(bool starved)
{
	uint64		bit = UINT64CONST(1) << knet_loop.no;

	if (starved)
		(void) pg_atomic_fetch_or_u64(&shared->starved, bit);
	else if (pg_atomic_read_u64(&shared->starved) & bit)
		(void) pg_atomic_fetch_and_u64(&shared->starved, ~bit);
}

/* Does any loop wait for bytes to be given back? */
bool
knet_shared_is_wanted(void)
{
	return pg_atomic_read_u64(&shared->starved) != 0;
}

void
knet_shared_answer_add(size_t bytes)
{
	pg_atomic_fetch_add_u64(&shared->answer_bytes, bytes);
	pg_atomic_fetch_add_u64(&my_part->answer_bytes, bytes);
}

void
knet_shared_answer_sub(size_t bytes)
{
	pg_atomic_fetch_sub_u64(&my_part->answer_bytes, bytes);
	pg_atomic_fetch_sub_u64(&shared->answer_bytes, bytes);
}

size_t
knet_shared_answer_bytes(void)
{
	return pg_atomic_read_u64(&shared->answer_bytes);
}
