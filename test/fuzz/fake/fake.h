/*
 * fake.h
 *		As much of a server as the broker's code needs to run in a fuzzer: one process, no files,
 *		no other process, nothing that waits.
 *
 * What is faked is stricter than the server: a page may only be touched while its lock is held, an
 * allocation or an error in a critical section ends the program, and so does a lock, a pin or a
 * snapshot that is left behind.  Every page has poisoned memory on both sides.
 */
#ifndef FAKE_H
#define FAKE_H

#include "postgres.h"

#include "access/xlogreader.h"
#include "storage/buf.h"
#include "storage/bufpage.h"
#include "utils/rel.h"

#include "topic/ktopic.h"

/* ------------------------------------------------------------------------
 * fake_server.c: memory, errors, transactions, locks, time
 * ------------------------------------------------------------------------
 */

/* Says why and aborts: a finding. */
extern void fake_fail(const char *fmt,...) pg_attribute_printf(1, 2) pg_attribute_noreturn();

/* Memory contexts and the other things of a process; the first call of every target. */
extern void fake_start(void);

/* Before each input: what happens by chance follows the seed, the clock stands at its beginning. */
extern void fake_begin(uint64 seed);

/* After each input: nothing may be held. */
extern void fake_check_released(void);

/* More than that is "out of memory". */
extern Size fake_memory_limit;
extern Size fake_memory_used(void);

/* Contexts of that name that have not been deleted. */
extern int	fake_contexts(const char *name);

/* Percentage of the conditional locks that are not free. */
extern int	fake_busy;
extern bool fake_chance(int percent);

/* Asked of each message from LOG on; false: it is a finding.  NULL: all errors are. */
extern bool (*fake_error_expected) (int elevel, int code, const char *message);

/* Runs it; false: an error ended it, and what the server lets go of then has been let go. */
extern bool fake_try(void (*fn) (void *arg), void *arg);

extern int64 fake_clock_us;		/* since 2000, and the monotonic clock too */
extern bool fake_recovery;		/* RecoveryInProgress() */

typedef enum FakeXact
{
	FAKE_ABORTED,
	FAKE_RUNNING,
	FAKE_COMMITTED
} FakeXact;

#define FAKE_XIDS	64

/* Of xids 3 to FAKE_XIDS - 1; all others have aborted. */
extern FakeXact fake_xacts[FAKE_XIDS];

extern void fake_transaction_begin(void);
extern void fake_transaction_end(bool commit);

/* Forgets all of shared memory. */
extern void fake_shmem_reset(void);

/* ------------------------------------------------------------------------
 * fake_storage.c: relations, buffers, WAL
 * ------------------------------------------------------------------------
 */

#define FAKE_RELATIONS		6	/* topics and, last, a sequence */
#define FAKE_BLOCKS			2048	/* a relation never has more: the disk is full */
#define FAKE_FIRST_RELID	5000

extern Relation fake_relation(int n);
extern void fake_drop(int n);

/* Empties all relations, their standbys' copies, and WAL. */
extern void fake_storage_reset(void);

/* As many blocks as all relations together may still grow by. */
extern int	fake_disk;
extern void fake_set_blocks(int n, BlockNumber nblocks);
extern BlockNumber fake_blocks(int n);

/* Writes a page, as the disk has it. */
extern void fake_write_page(int n, BlockNumber block, const void *data, Size len);

/* So many buffers may still be read: more than that is an endless loop.  0: any number. */
extern long fake_reads_left;

/* Nothing is in shared buffers any longer. */
extern void fake_evict(void);

/*
 * Each WAL record is replayed at once into copies of the pages, which must then be equal.  Of the
 * pages that a record changes this percentage is restored from a full-page image instead.
 */
extern bool fake_replay;
extern int	fake_full_pages;
extern uint64 fake_replayed;	/* records so far */

/* A record's pages are the copies; missing ones are not found, as in redo of a dropped relation. */
extern void fake_redo(XLogReaderState *record);
extern XLogRecPtr fake_insert_lsn(void);

/* ------------------------------------------------------------------------
 * fake_values.c: jsonb
 * ------------------------------------------------------------------------
 */

/* An object of n names and values; a value in brackets becomes an array of its words. */
extern Jsonb *fake_jsonb(int n, char *const *names, char *const *values);

/* ------------------------------------------------------------------------
 * fake_catalog.c: topics, roles, settings, DDL; for requests
 * ------------------------------------------------------------------------
 */

#define FAKE_TOPICS		(FAKE_RELATIONS - 1)
#define FAKE_ROLE		10

/*
 * Three topics, with 2, 20 and 2000 partitions, and room for two that are made later; variant:
 * bits that choose their configs.
 */
extern void fake_catalog_reset(uint32 variant);
extern const char *const fake_topic_names[3];

/* NULL when there is none at that place. */
extern const KTopic *fake_topic(int n);

/* The DDL process: does what is in its queue. */
extern void fake_ddl_turn(void);
struct KApiDdl;
struct KApiDdlResult;
extern uint64 fake_ddl_submit(const struct KApiDdl *ddl);
extern bool fake_ddl_poll(uint64 ticket, struct KApiDdlResult *result);
extern void fake_ddl_cancel(uint64 ticket);
extern int	fake_ddl_tickets(void);

#endif							/* FAKE_H */
