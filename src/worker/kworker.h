/*
 * kworker.h
 *		The processes of kafka_pg. This is the only header of src/worker that other
 *		modules include.
 *
 * src/worker/README.md says who starts and stops what, and when.
 */
#ifndef KWORKER_H
#define KWORKER_H

/* Registers the launcher and what wakes it; from _PG_init. */
extern void kworker_init(void);

extern Size kworker_shmem_size(void);
extern void kworker_shmem_init(void);

#endif							/* KWORKER_H */
