/*
 * kstop.h
 *		Named stop points, by which tests make races and crashes happen on purpose.
 *
 *		KSTOP("klog-append-before-insert");
 *
 * does nothing, at the price of one predictable branch, until a test arms the name with an action:
 *
 *		wait	the process stays there until the point is released
 *		error	ERROR
 *		fatal	FATAL
 *		kill	the process kills itself with SIGKILL, so the server goes through a crash
 *		panic	PANIC
 *
 * A test arms a point with the SQL functions that KafkaPg.pm declares (see kstop.c), or from the
 * server's start with the setting kafka_pg.test_stop_points = 'name=action, ...'. A stop point may
 * stand anywhere, also in a critical section or with locks held: waiting needs no latch, lock or
 * memory. Where an ERROR must not be thrown, a test must not ask for one.
 */
#ifndef KSTOP_H
#define KSTOP_H

#include "port/atomics.h"

/* Number of armed points, in shared memory; NULL before there is any. */
extern pg_atomic_uint32 *kstop_armed;

#define KSTOP(name) \
	do { \
		if (unlikely(kstop_armed != NULL && pg_atomic_read_u32(kstop_armed) != 0)) \
			kstop_reached(name); \
	} while (0)

extern void kstop_reached(const char *name);

extern Size kstop_shmem_size(void);
extern void kstop_shmem_init(void);

#endif							/* KSTOP_H */
