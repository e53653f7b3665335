/*
 * klog.h
 *		The log: partitions of one relation as append-only sequences of Kafka
 *		record batches, stored in shared buffers and logged by an own WAL resource
 *		manager.  This is the only header of src/log that other modules include.
 *
 * Nothing in here knows a topic's name, a client or a SQL row: callers pass an
 * opened and locked Relation, a partition number and whole batches.
 *
 * Unless a comment says otherwise a function may ereport(ERROR) for I/O errors and
 * corruption, and must be called inside a transaction with at least AccessShareLock
 * (reads) or RowExclusiveLock (appends) on the relation.
 *
 * src/log/README.md has the layout, the locks and the crash cases.
 */
#ifndef KLOG_H
#define KLOG_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "storage/block.h"
#include "storage/latch.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

/* The shared state of one partition; opaque outside src/log. */
typedef struct KLogPartition KLogPartition;

typedef enum KLogResult
{
	KLOG_OK,
	KLOG_BUSY,					/* a lock was not free and the caller may not wait */
	KLOG_NO_EXTENT,				/* let go of the append lock, call klog_grow(), try again */
	KLOG_COLD,					/* pages must come from disk first: klog_reader_request() */
	KLOG_OUT_OF_RANGE,			/* below the log start or above the limit */
	KLOG_TOO_SMALL,				/* buffer smaller than the first batch; see 'needed' */
	KLOG_FULL,					/* the partition's offsets or segment map are exhausted */
	KLOG_CORRUPT				/* the pages contradict each other; logged */
} KLogResult;

/* A place in a partition.  Only a hint: every use checks the page's tag. */
typedef struct KLogPosition
{
	int64		offset;			/* base offset of the batch that starts there; -1: no hint */
	uint32		segment;
	uint32		page;			/* page number in the segment */
	uint16		pos;			/* byte position in the page, 0: not known */
} KLogPosition;

#define KLOG_NO_POSITION	((KLogPosition) {-1, 0, 0, 0})

/* As a page to ask a reader for: this block of the file, whatever it is. */
#define KLOG_BLOCK_PAGE		PG_UINT32_MAX
#define KLOG_COLD_BLOCK(b)	((KLogPosition) {-1, (b), KLOG_BLOCK_PAGE, 0})

/* ------------------------------------------------------------------------
 * Start-up: called by kafka_pg.c and kshmem.c
 * ------------------------------------------------------------------------
 */

/* Registers resource manager "kafka_log"; first thing in _PG_init. */
extern void klog_rmgr_register(void);
/* Computes the server's checksums of WAL faster; in the postmaster. */
extern void klog_checksum_init(void);
extern Size klog_shmem_size(void);
extern void klog_shmem_init(void);
/* Registers the transaction callbacks that settle pending appends; once in each process. */
extern void klog_xact_register(void);

/* ------------------------------------------------------------------------
 * Partition state
 * ------------------------------------------------------------------------
 */

/*
 * Returns the shared state of a partition, built from its pages when it is not there yet or belongs
 * to another relfilenumber.  The pointer is good while the caller holds its lock on the relation.
 * nowait: neither waits nor reads from disk.  If there is no state it has a reader build it and
 * returns NULL: a broker's latch is set when it is there, but try again after a while without that.
 * ERROR when kafka_pg.max_partitions is reached.  A partition that has no pages yet is valid: it is
 * empty and starts at 0.
 */
extern KLogPartition *klog_attach(Relation rel, int32 partition, bool nowait);

/*
 * Has a reader met an ERROR with the partition's state, or with that page, in the last second?
 * Then it is not worth waiting for; it is tried again when somebody wants it after that.
 */
extern bool klog_state_failed(Relation rel, int32 partition);
extern bool klog_page_failed(KLogPartition *part, KLogPosition cold);

extern int64 klog_log_start(KLogPartition *part);
/* First offset that nobody may read yet; never goes back.  Cheap: a spinlock. */
extern int64 klog_high_watermark(KLogPartition *part);
/* Next offset to be assigned. */
extern int64 klog_end_offset(KLogPartition *part);
/* Bytes of batches between log start and end (Kafka's "size"). */
extern int64 klog_size_bytes(KLogPartition *part);

/* Number of partitions that have storage in the relation (0 for a new file). */
extern int32 klog_stored_partitions(Relation rel);

/* ------------------------------------------------------------------------
 * Append
 * ------------------------------------------------------------------------
 */

typedef struct KLogBatch
{
	/* in: one whole, validated record batch (magic 2); header fields base offset and
	 * leader epoch are overwritten in place, nothing else is touched */
	uint8	   *data;
	uint32		len;
	int32		last_offset_delta;
	int64		max_timestamp;
	/* in when KLogAppend.explicit_offsets, else out */
	int64		base_offset;
	/* out: end of the WAL record that made the batch exist */
	XLogRecPtr	lsn;
} KLogBatch;

typedef struct KLogAppend
{
	int32		leader_epoch;
	TransactionId xid;			/* the Postgres transaction whose fate it shares, or Invalid:
								 * visible as soon as it is durable */
	bool		explicit_offsets;	/* base_offset is given, must be >= end offset */
	int64		segment_bytes;	/* Kafka's segment.bytes */
	int64		segment_ms;		/* Kafka's segment.ms */
	int32		partitions;		/* the topic's partition count; chooses the extent size when
								 * the file is new; 0: not known */
} KLogAppend;

/*
 * The append lock of a partition.  Order: one at a time, never while holding a buffer
 * lock.  klog_lock with nowait returns false when it is held.  Released by abort like every LWLock.
 */
extern bool klog_lock(KLogPartition *part, bool nowait);
extern void klog_unlock(KLogPartition *part);

/*
 * Appends the first *done (>= 1) of n batches as one WAL record (several for one long batch); the
 * caller holds the append lock and calls again for the rest.  Between calls it may settle its own
 * state (producer state) for what is done.  KLOG_NO_EXTENT: nothing was appended, unlock,
 * klog_grow(), lock, try again.  With a valid xid a pending entry is kept for the transaction: it
 * is settled at its end by itself. After return the batches are in WAL buffers, not durable: see
 * klog_request_flush.  cold: NULL, or see "Read"; with KLOG_COLD nothing was appended.
 */
extern KLogResult klog_append(Relation rel, KLogPartition *part, const KLogAppend *how,
							  KLogBatch *batches, int n, int *done, KLogPosition *cold);

/*
 * Extends the file by what its size suggests (zeroes, so that a full disk is met here, as an
 * ERROR).  nowait: by as little as is worth it; false if somebody else is at it.
 */
extern bool klog_grow(Relation rel, bool nowait);

/* ------------------------------------------------------------------------
 * Durability: see DESIGN 4, rules 2 to 5
 * ------------------------------------------------------------------------
 */

/* Everything up to here survives a crash of this machine. */
extern XLogRecPtr klog_flushed_lsn(void);
/* The same, and the quorum of synchronous_standby_names has it. acks=all waits for this. */
extern XLogRecPtr klog_durable_lsn(void);
/* Asks the flusher for this LSN (one that XLogInsert returned); does not wait. */
extern void klog_request_flush(XLogRecPtr lsn);
/*
 * For a broker with nothing else to do and an idle flusher: flush here and now. False: somebody is
 * at it.
 */
extern bool klog_flush_inline(XLogRecPtr lsn);

/* Does synchronous_standby_names ask for a quorum? */
extern bool klog_quorum_wanted(void);

extern void klog_flusher_attach(void);
extern bool klog_flusher_turn(void);	/* false: nothing was asked for */

/* Makes WAL files ahead of need: for how long to sleep, in ms, as a turn of kworker_loop(). */
extern void klog_prealloc_attach(void);
extern long klog_prealloc_turn(void);

/* The process that waits for the quorum. Runs with synchronous_commit = on. */
extern void klog_syncwait_attach(void);
extern bool klog_syncwait_turn(void);	/* false: nothing to wait for */

/* ------------------------------------------------------------------------
 * Waking up
 * ------------------------------------------------------------------------
 */

/*
 * A broker process registers its latch (MyLatch) under its number, 0 <= n < 64; detach at exit is
 * automatic.
 */
extern void klog_broker_attach(int n);
/* Set my latch when the durable LSN moves (answers are parked); cleared by the wake-up. */
extern void klog_broker_wants_durable(int n);
/* Set my latch when this partition's high watermark moves; cleared by the wake-up. Check
 * the watermark again after the call. */
extern void klog_broker_wants_data(KLogPartition *part, int n);
/*
 * Waits in an SQL session until the high watermark passes offset (true) or the time is over
 * (false); CHECK_FOR_INTERRUPTS inside.  The caller needs no lock on the relation: relid and
 * partition are looked up again, a dropped topic ends the wait with false.  timeout_ms < 0: for
 * ever.
 */
extern bool klog_wait(Oid relid, int32 partition, int64 offset, int64 timeout_ms);

/*
 * The same for whoever waits for more than one offset: prepare, look at what is waited for, sleep
 * until a watermark of the relation moves or somebody wakes the slot, begin again; then end.
 * Relations share slots, and so one may be woken for nothing.  A look may end a preparation: the
 * sleep then returns at once.  None of these throws but klog_wait_sleep(), for interrupts.
 */
#define KLOG_WAIT_SLOTS		64

extern int	klog_wait_slot(Oid relid);
extern void klog_wait_prepare(int slot);
extern void klog_wait_sleep(int slot, long timeout_ms);
extern void klog_wait_end(void);
/* Does not allocate: good in a transaction's callbacks. */
extern void klog_wait_wake(int slot);

/* ------------------------------------------------------------------------
 * Read
 * ------------------------------------------------------------------------
 */

typedef struct KLogRead
{
	/* in */
	int64		offset;			/* first wanted; the batch that holds it comes first, whole */
	int64		limit;			/* exclusive: no batch that starts at or above it (a watermark) */
	uint8	   *buf;			/* NULL: copy nothing, only measure; see klog_lend() */
	Size		cap;			/* bytes in buf; whole batches only are returned */
	bool		nowait;			/* never read from disk: KLOG_COLD instead */
	/* in/out: where the last read ended, or KLOG_NO_POSITION */
	KLogPosition position;
	/* out */
	KLogPosition cold;			/* with KLOG_COLD: the page to ask for */
	Size		len;			/* bytes returned */
	Size		needed;			/* with KLOG_TOO_SMALL: length of the first batch */
	int64		next_offset;	/* first offset after what was returned */
	int			nbatches;
	int			npages;			/* pages looked at */
	KLogPosition begin;			/* of the first batch; page 0: it is on no page */
} KLogRead;

/*
 * Copies whole batches into buf, as clients and SQL may see them: a batch of an aborted
 * transaction is replaced by a control batch over the same offsets.  KLOG_OK with len 0: offset ==
 * limit, nothing yet.
 */
extern KLogResult klog_read(Relation rel, KLogPartition *part, KLogRead *r);

/*
 * Bytes that klog_read has measured, to be sent from the pages on which they lie. Begins with
 * segment, page and pos of KLogRead.begin, and remaining = KLogRead.len; all else is zero. Can be
 * thrown away at any time.
 */
typedef struct KLogSpan
{
	uint32		segment;
	uint32		page;
	uint32		pos;
	bool		skip;			/* the batch in which we are is dead: not sent */
	Size		left;			/* bytes of that batch from here on */
	Size		filler_sent;	/* of the control batch that stands for the dead one that comes */
	Size		remaining;		/* bytes to be sent in all */
} KLogSpan;

/* Most entries that klog_lend fills in. */
#define KLOG_LEND_MAX	128

/*
 * Lends the next bytes of the span, at most 'most', as *niov (in: entries of iov; out: used ones)
 * runs. Until klog_lend_end, which must follow KLOG_OK at once, their pages are pinned and
 * share-locked: do nothing but one system call that does not wait. taken: how many bytes it took;
 * the span goes on behind them. One loan at a time.
 * KLOG_COLD: as with klog_read, nothing is lent. KLOG_OUT_OF_RANGE: the batches are gone.
 */
struct iovec;
extern KLogResult klog_lend(Relation rel, KLogPartition *part, const KLogSpan *span, Size most,
							struct iovec *iov, int *niov, KLogPosition *cold);
extern void klog_lend_end(KLogSpan *span, Size taken);

/*
 * Functions with an argument "cold" never read from disk if it is not NULL: when a page is not in
 * shared buffers *cold becomes its position (cold->page is 0 otherwise), and the result means
 * nothing.  Have the page brought in (klog_reader_request) and ask again.
 */

/*
 * Asks the reader processes for the pages from position on (up to bytes); broker n's latch is set
 * when they are in shared buffers.  Returns for how many pages; 0: they have too much to do, ask
 * later.
 */
extern uint32 klog_reader_request(Relation rel, KLogPartition *part, KLogPosition position,
								  Size bytes, int broker);

/* Would it have to be asked for, this page of a segment?  Not if it is not there at all. */
extern bool klog_page_is_cold(Relation rel, KLogPartition *part, KLogPosition position);

/*
 * Has a reader call the callback of klog_on_learn for a partition, until it is done; then the latch
 * of the broker that has asked is set.  Ask again if it does not come.  ERROR if the callback has
 * thrown a moment ago.
 */
extern void klog_learn(Relation rel, KLogPartition *part);

typedef enum KLogLearn
{
	KLOG_LEARN_DONE,
	KLOG_LEARN_MORE,			/* after others' requests */
	KLOG_LEARN_BUSY				/* when it is asked for again */
} KLogLearn;

/*
 * In a transaction of a reader, with RowExclusiveLock on the relation and no lock of ours.  Should
 * return after some megabytes.  Registered once, from _PG_init.
 */
typedef KLogLearn (*klog_learn_callback) (Relation rel, KLogPartition *part, int32 partition);
extern void klog_on_learn(klog_learn_callback cb);

typedef enum KLogReaderWork
{
	KLOG_READER_STATE,			/* a partition's state, for klog_attach */
	KLOG_READER_LEARN,
	KLOG_READER_PAGES
} KLogReaderWork;

typedef struct KLogReaderRequest
{
	KLogReaderWork what;
	Oid			relid;
	int32		partition;
	uint32		segment;		/* KLOG_READER_PAGES: as in KLogPosition */
	uint32		page;
	uint32		npages;
	int			broker;			/* to be woken; -1: those whom the partition's state names */
} KLogReaderRequest;

/* For reader processes.  klog_reader_do gets a request, and may throw; then call _failed. */
extern void klog_reader_attach(int n);
extern bool klog_reader_take(KLogReaderRequest *request);
extern void klog_reader_do(void *arg);
extern void klog_reader_failed(const KLogReaderRequest *request);

/*
 * Opens a relation without waiting for its lock, which is held until the transaction's end.  NULL:
 * *busy tells whether it was the lock, else there is no such relation.
 */
extern Relation klog_relation_open(Oid relid, LOCKMODE mode, bool *busy);

typedef struct KLogFound
{
	int64		offset;			/* -1: none */
	int64		timestamp;		/* ms since 1970, -1: none */
	int32		leader_epoch;
} KLogFound;

/*
 * A search by time in shares, for those who must not block: what an aborted transaction has
 * written is found by its time and then has to be read past, which may be all of the log.  Zeroed
 * before the first call.  Without one (NULL) a search reads from disk, and comes to its end.
 */
typedef struct KLogSearch
{
	/* out: the result means nothing if one of these is set: call again, in the latter case */
	KLogPosition cold;			/* page != 0: when this page is in shared buffers */
	bool		more;			/* in a moment: this was a share of it */
	/* its own */
	bool		reading;
	bool		greatest;
	int64		offset;			/* all before it has been read */
	int64		timestamp;
	KLogFound	found;			/* so far */
} KLogSearch;

/*
 * First record at or after log start and below limit whose timestamp is >= timestamp (Kafka
 * ListOffsets).
 */
extern KLogFound klog_find_timestamp(Relation rel, KLogPartition *part, int64 timestamp,
									 int64 limit, KLogSearch *search);
/* Record with the greatest timestamp below limit (ListOffsets -3, KIP-734). */
extern KLogFound klog_find_max_timestamp(Relation rel, KLogPartition *part, int64 limit,
										 KLogSearch *search);
/* Leader epoch of the batch that holds offset, -1 when none. */
extern int32 klog_epoch_at(Relation rel, KLogPartition *part, int64 offset, KLogPosition *cold);

typedef struct KLogEpochEnd
{
	int32		epoch;			/* greatest one in the log that is <= the one asked for; -1: none */
	int64		end_offset;		/* where the first later one begins, or the partition's end */
} KLogEpochEnd;

/* Where batches with a later leader epoch than this one begin.  KLOG_COLD: see above. */
extern KLogResult klog_epoch_end(Relation rel, KLogPartition *part, int32 epoch,
								 KLogEpochEnd *found, KLogPosition *cold);

/*
 * For the access method's ANALYZE: the batches that start on one block, in file order, as
 * klog_read would give them, only below the high watermark; false when the block is not a data
 * page.  Returns bytes in buf.
 */
extern bool klog_read_block(Relation rel, BlockNumber block, uint8 *buf, Size cap, Size *len,
							int32 *partition);

/*
 * Calls back for every batch from the one at or after 'from' on, in order, headers only
 * (header: 61 bytes). Used by producer state. Returns -1 at the end, or, after about max_pages
 * pages, the offset from which to go on.
 */
typedef void (*klog_batch_callback) (void *arg, const uint8 *header, XLogRecPtr page_lsn);
extern int64 klog_walk_headers(Relation rel, KLogPartition *part, int64 from, uint32 max_pages,
							   klog_batch_callback cb, void *arg);

/* ------------------------------------------------------------------------
 * Keeping
 * ------------------------------------------------------------------------
 */

extern void klog_keeper_attach(void);
/*
 * One round of what is queued: grow files ahead, resolve, write out full pages. Returns ms until
 * the next, -1: wait for the latch.
 */
extern long klog_keeper_turn(void);

/*
 * Asks for a call by the keeper whenever a partition has grown by some 16 MB, or begun a segment:
 * to remember what was learnt from its batches. In a transaction of the keeper, with
 * RowExclusiveLock on the relation and no lock of ours; may throw: then the next call is the next
 * chance. Called once, from _PG_init.
 */
typedef void (*klog_growth_callback) (Relation rel, KLogPartition *part, int32 partition);
extern void klog_on_growth(klog_growth_callback cb);

/* ------------------------------------------------------------------------
 * Floors: what offsets a partition has to go on from although its pages do not
 * say so; src/log/README.md. The functions are registered once, from _PG_init.
 * ------------------------------------------------------------------------
 */

/*
 * Asks for a partition's floors, 0 when there are none. Called with the relation locked, and no
 * lock of ours. False: with nowait, a lock was not free.
 */
typedef bool (*klog_floor_callback) (Relation rel, int32 partition, bool nowait,
									 int64 *log_start, int64 *next_offset);
extern void klog_on_build(klog_floor_callback cb);
/* The same have come into being, or risen. Does not throw. */
extern void klog_raise_floor(Oid relid, int32 partition, int64 log_start, int64 next_offset);

/*
 * Asks for a call by the keeper when a dead batch is the last before the high watermark: nobody
 * who copies what can be read will know that these offsets were given out. In a transaction of the
 * keeper, with RowExclusiveLock on the relation and no lock of ours. False: not now, call again
 * soon.
 */
typedef bool (*klog_dead_end_callback) (Relation rel, int32 partition, int64 log_start,
										int64 high_watermark);
extern void klog_on_dead_end(klog_dead_end_callback cb);

/* Takes resolved transactions off the pages; returns the oldest xid left on a page (or
 * Invalid).  For VACUUM and the keeper. */
extern TransactionId klog_resolve(Relation rel);

/*
 * The relation's storage went away or was replaced in this process's transaction (SET TABLESPACE,
 * DROP).
 */
extern void klog_forget(Oid relid);
/*
 * Asks for a call with klog_forget, for who keeps something beside a partition's state. At the end
 * of a transaction: must not throw. Called once, from _PG_init.
 */
typedef void (*klog_forget_callback) (Oid relid);
extern void klog_on_forget(klog_forget_callback cb);

/* ------------------------------------------------------------------------
 * Checking: kafka.check_topic
 * ------------------------------------------------------------------------
 */
typedef void (*klog_problem_callback) (void *arg, int32 partition, BlockNumber block, int64 offset,
									   const char *problem);
/* Walks everything; calls back once per problem. */
extern void klog_check(Relation rel, klog_problem_callback cb, void *arg);

#endif							/* KLOG_H */
