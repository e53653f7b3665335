/*
 * kshmem.h
 *		Our shared memory: one pair of hooks for all modules.
 *
 * A module X that keeps state in shared memory supplies
 *
 *		Size X_shmem_size(void);	how much it needs; may use settings, and nothing else
 *		void X_shmem_init(void);	finds or makes its areas with ShmemInitStruct()
 *
 * and a line in kshmem.c. Both are called in the postmaster; X_shmem_init with AddinShmemInitLock
 * held. Locks: LWLockNewTrancheId() in X_shmem_init when the area is new, LWLockRegisterTranche()
 * always.
 */
#ifndef KSHMEM_H
#define KSHMEM_H

/* Sets the hooks. Only while shared_preload_libraries are loaded. */
extern void kshmem_init(void);

#endif							/* KSHMEM_H */
