/*
 * klog_state.h
 *		Shared memory of the log: partition states, pending appends, who is to be woken.
 *		For src/log only.
 */
#ifndef KLOG_STATE_H
#define KLOG_STATE_H

#include "common/hashfn.h"
#include "compat.h"
#include "log/klog.h"
#include "log/klog_page.h"
#include "port/atomics.h"
#include "storage/buf.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#define KLOG_MAX_BROKERS		64
#define KLOG_MAX_READERS		16
#define KLOG_NO_INDEX			(-1)
#define KLOG_REPLAY_COUNTS		4096	/* a power of two */
/*
 * After so many bytes the partition header learns what is resolved: bounds what a start must look
 * at.
 */
#define KLOG_MARK_BYTES			(16 * 1024 * 1024)

/*
 * An append of a transaction that is not known to be durably over.  Kept in a
 * pool, linked from its partition, protected by the partition's mutex.
 */
typedef enum KLogPendingState
{
	KLOG_PENDING_RUNNING,
	KLOG_PENDING_COMMITTED
} KLogPendingState;

typedef struct KLogPending
{
	TransactionId xid;
	KLogPendingState state;
	int64		first_offset;	/* of its first batch in the partition */
	XLogRecPtr	commit_lsn;		/* when committed */
	int			next;			/* in the partition's list, or the free list */
} KLogPending;

/* Something that brokers wait for and a reader has been asked for. */
typedef struct KLogAsked
{
	pg_atomic_uint64 brokers;	/* bit n: broker n waits */
	pg_atomic_uint64 at;		/* TimestampTz of the request that is on its way, 0: none is */
	pg_atomic_uint64 failed;	/* when a reader met an ERROR, 0: never */
} KLogAsked;

/* "Everything below offset is in WAL up to lsn" */
typedef struct KLogMark
{
	int64		offset;
	XLogRecPtr	lsn;
} KLogMark;

struct KLogPartition
{
	/* fixed while the slot is in the hash table (hash_lock) */
	Oid			relid;
	int32		partition;
	uint64		generation;		/* changes whenever the slot gets another owner */

	LWLock		lock;			/* the append lock */

	/* ---- protected by lock ---- */
	RelFileLocator rlocator;			/* whose pages this state was built from */
	uint16		extent_units;	/* 0: no metapage yet */
	BlockNumber header;			/* the partition's header page, Invalid: none yet */
	uint32		segment;		/* the open one */
	BlockNumber head;			/* its head page, Invalid: no segment yet */
	uint32		npages;			/* pages that its extents have */
	uint32		tail_page;		/* page number of the last page with data, 0: none yet */
	BlockNumber tail_block;
	uint16		tail_lower;		/* its pd_lower */
	uint16		tail_listed;	/* its nlisted */
	int64		segment_first_offset;
	int64		segment_bytes;
	int64		segment_first_timestamp;	/* of its first batch, -1: none yet */
	int64		segment_max_timestamp;
	int64		max_timestamp;	/* of the partition */
	uint32		alloc_hint;		/* unit from which to look for free space */
	int64		unresolved_from;	/* first batch that may be on a page's list, -1: none */
	int64		unresolved_to;	/* end of the last one */
	int64		marked_to;		/* resolved_to in the partition header */
	int64		marked_bytes;	/* total_bytes when that was written */
	uint32		clean_page;		/* pages of the open segment before this were written out */

	bool		standby;		/* built during recovery */
	uint64		built_at;		/* and then: after so many of its records were replayed */
	TimestampTz floor_asked;	/* and then: when the floors were looked up */
	int			maps_counted;	/* map pages whose bytes are known, */
	int64		maps_bytes;		/* and these bytes */
	pg_atomic_uint32 valid;		/* built, and rlocator is right */

	/* ---- protected by mutex ---- */
	slock_t		mutex;
	bool		known;			/* what follows is this partition's, not a former owner's */
	int64		log_start;
	int64		next_offset;
	int64		floor_start;	/* the log starts there or later */
	int64		gap_from;		/* -1, or next_offset before an append behind floor_next */
	int64		check_end;		/* keeper: does a dead batch end there? 0: no need to look */
	uint32		last_segment;	/* where the last page with data is */
	uint32		last_page;
	int64		total_bytes;	/* of batches, log start to end */
	int64		durable_offset; /* below it everything is durable */
	KLogMark	sealed;
	KLogMark	open;
	int			pending;		/* list of KLogPending */
	bool		dirty;			/* is on the dirty list */
	int			dirty_next;
	bool		keep_queued;	/* is on the keeper's list */
	bool		keep_grow;		/* and its file is nearly used up */
	int			keep_next;
	bool		has_died;		/* a transaction was aborted: tell the keeper when it is passed */
	bool		mark_listed;	/* is on the list of those whose watermark moved */
	int			mark_next;
	int64		mark_seen;		/* keeper: the watermark when it last looked */
	int64		told_bytes;		/* total_bytes when klog_on_growth's callback was last called */
	uint32		told_segment;	/* and last_segment */
	int			free_next;		/* hash_lock: list of free slots */

	/*
	 * What is appended without an offset of its own gets floor_next or a later one; it changes
	 * under the mutex. high_watermark is that of what is on pages: klog_high_watermark() tells
	 * others the higher of both.
	 */
	pg_atomic_uint64 floor_next;
	pg_atomic_uint64 high_watermark;
	pg_atomic_uint64 waiting_brokers;	/* bit n: broker n */
	KLogAsked	asked[KLOG_READER_LEARN + 1];
	pg_atomic_uint64 failed_page;	/* which a reader could not read: segment << 32 | page */
	pg_atomic_uint64 failed_page_at;	/* TimestampTz of that, 0: never */
	ConditionVariable moved;	/* the watermark moved */
};

#define KLOG_READER_QUEUE		256

typedef struct KLogShared
{
	LWLock		hash_lock;
	uint64		next_generation;	/* hash_lock */
	int			free_slot;		/* hash_lock */
	int			tranche;

	/* LSNs; see klog_durable.c */
	pg_atomic_uint64 requested;
	pg_atomic_uint64 flushed;
	pg_atomic_uint64 durable;
	pg_atomic_uint64 wants_durable; /* bit n: broker n */

	/* the WAL file of the latest flush; has another begun since the start of the server? */
	pg_atomic_uint64 wal_segno;
	pg_atomic_uint32 prealloc_wanted;

	/*
	 * recovery: records replayed, by partition as far as hashing tells them apart; brokers to be
	 * told of the next
	 */
	pg_atomic_uint64 replayed[KLOG_REPLAY_COUNTS];
	pg_atomic_uint64 wants_replay;

	slock_t		mutex;			/* lists and latches below */
	int			dirty_head;
	int			keep_head;
	int			mark_head;
	int			free_pending;
	Latch	   *flusher;
	Latch	   *keeper;
	Latch	   *syncwait;
	Latch	   *prealloc;
	Latch	   *broker[KLOG_MAX_BROKERS];
	Latch	   *reader[KLOG_MAX_READERS];
	pg_atomic_uint32 flushing;	/* somebody is in XLogFlush for us */

	/* sessions that wait for any partition of a relation; klog_wait_slot() */
	ConditionVariable any_moved[KLOG_WAIT_SLOTS];

	slock_t		reader_mutex;
	uint32		reader_head;	/* next to take */
	uint32		reader_tail;	/* next free */
	KLogReaderRequest reader_request[KLOG_READER_QUEUE];
} KLogShared;

extern KLogShared *klog_shared;
extern KLogPartition *klog_partitions;	/* kafka_pg.max_partitions slots */
extern KLogPending *klog_pendings;

static inline int
klog_partition_index(KLogPartition *part)
{
	return (int) (part - klog_partitions);
}

/* Has it grown so much that others are to be told? Under the mutex. */
static inline bool
klog_has_grown(const KLogPartition *part)
{
	return part->total_bytes - part->told_bytes > KLOG_MARK_BYTES ||
		part->last_segment != part->told_segment;
}

/* How many records of a partition have been replayed; others' may be counted, too. */
static inline pg_atomic_uint64 *
klog_replay_count(RelFileLocator rlocator, int32 partition)
{
	uint32		hash = hash_combine(murmurhash32(rlocator.relNumber),
									murmurhash32((uint32) partition));

	return &klog_shared->replayed[hash % KLOG_REPLAY_COUNTS];
}

/* klog_state.c */
extern KLogPartition *klog_lookup(Oid relid, int32 partition);
/* As klog_attach, for processes that may read from disk, but wait for nobody's lock. */
extern KLogPartition *klog_attach_build(Relation rel, int32 partition);
extern void klog_state_appended(KLogPartition *part, int64 first_offset, int64 next_offset,
								int64 bytes, XLogRecPtr lsn);
/* klog_build.c */
/*
 * Builds the state from the pages.  The caller holds the append lock.  KLOG_BUSY: replay went on
 * meanwhile, try again; if this is the last try, that is an ERROR.  cold: not NULL on a standby
 * only, or for a partition without pages.
 */
extern KLogResult klog_build_state(Relation rel, KLogPartition *part, bool standby, bool last_try,
								   KLogPosition *cold);

/* klog_pending.c */
extern void klog_pending_reserve(KLogPartition *part, TransactionId xid);
extern void klog_pending_add(KLogPartition *part, int64 first_offset, int64 end_offset,
							 XLogRecPtr lsn);
extern bool klog_pending_running(KLogPartition *part, TransactionId xid);
extern void klog_pending_drop(KLogPartition *part);
extern void klog_pending_give(int list);

/* klog_durable.c */
extern bool klog_watermark_advance(KLogPartition *part);
extern void klog_watermark_follow(KLogPartition *part);
extern void klog_watermark_reach(KLogPartition *part, uint64 generation, int64 offset,
								 XLogRecPtr lsn);
extern void klog_dirty_push(KLogPartition *part);
extern void klog_publish(void);
extern void klog_wake_keeper(void);
extern void klog_replayed(RelFileLocator rlocator, int32 partition);
extern void klog_wake_readers(void);
extern void klog_wake_broker(int n);
extern void klog_wake_brokers(uint64 bits);

/* The first offset on a page, or yet to come, that is not durably settled. */
static inline int64
klog_watermark(KLogPartition *part)
{
	return (int64) pg_atomic_read_u64(&part->high_watermark);
}

/* klog_floor.c */
extern bool klog_floor_ask(Relation rel, KLogPartition *part, bool nowait);
extern void klog_floor_appended(KLogPartition *part, int64 first_offset, int64 next_offset);
extern bool klog_floor_tell(Relation rel, KLogPartition *part);
extern bool klog_in_gap(KLogPartition *part, int64 offset, int64 *end);

/* klog_reader.c */
extern int	klog_broker;		/* number of this process, if it is a broker, else -1 */
extern void klog_reader_want_state(Relation rel, KLogPartition *part);
extern void klog_reader_answer(KLogPartition *part, KLogReaderWork what);

/* klog_keeper.c */
extern void klog_keeper_queue(KLogPartition *part, bool grow);
extern void klog_keeper_moved(KLogPartition *part);

/* klog_resolve.c */
extern void klog_write_mark(Relation rel, KLogPartition *part, int64 resolved_to,
							int64 high_watermark);
extern TransactionId klog_resolve_partition(Relation rel, KLogPartition *part, bool mark);

#endif							/* KLOG_STATE_H */
