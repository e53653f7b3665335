/*
 * kworker_int.h
 *		What the processes of kafka_pg have in common; private to src/worker.
 */
#ifndef KWORKER_INT_H
#define KWORKER_INT_H

#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "api/kapi.h"

/* In the order in which they are started. */
typedef enum KWorkerKind
{
	KWORKER_FLUSHER,
	KWORKER_SYNCWAIT,
	KWORKER_KEEPER,
	KWORKER_PREALLOC,
	KWORKER_READER,
	KWORKER_BROKER,
	KWORKER_DDL
} KWorkerKind;

/* The place of one process; there is at most one process in it. */
typedef struct KWorkerSlot
{
	KWorkerKind kind;
	int			no;				/* number among those of its kind */
	uint32		ticket;			/* of the latest start: others come too late */
	pid_t		pid;			/* 0: nobody */
} KWorkerSlot;

typedef struct KWorkerShared
{
	int			tranche;
	LWLock		lock;			/* protects the slots and the latches */
	Latch	   *launcher;		/* NULL: there is none */
	Oid			extension;		/* the processes serve this one */
	int			nslots;
	KWorkerSlot slots[FLEXIBLE_ARRAY_MEMBER];
} KWorkerShared;

extern KWorkerShared *kworker_shared;

/* kworker.c */
extern void kworker_connect(void);
extern bool kworker_interrupts(void);
extern bool kworker_stopping(void);
extern bool kworker_guard(void (*fn) (void *arg), void *arg);
extern bool kworker_try(void (*fn) (void *arg), void *arg, ErrorData **error);
extern void kworker_loop(long (*turn) (void));
extern void kworker_wake_launcher(void);
extern const char *kworker_slot_name(const KWorkerSlot *slot, char *buf, size_t size);

/* kworker_launcher.c */
extern const char *kworker_refusal(const char **hint);

/* The processes: return when they are asked to stop. */
extern void kworker_broker(int no);
extern void kworker_flusher(int no);
extern void kworker_syncwait(int no);
extern void kworker_keeper(int no);
extern void kworker_prealloc(int no);
extern void kworker_reader(int no);
extern void kworker_ddl(int no);

/* kworker_ddl.c: the queue */
extern Size kworker_ddl_shmem_size(void);
extern void kworker_ddl_shmem_init(void);
extern bool kworker_ddl_pending(void);
extern uint64 kworker_ddl_submit(const KApiDdl *ddl);
extern bool kworker_ddl_poll(uint64 ticket, KApiDdlResult *result);
extern void kworker_ddl_cancel(uint64 ticket);

#endif							/* KWORKER_INT_H */
