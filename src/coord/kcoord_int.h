/*
 * kcoord_int.h
 *		What the files of src/coord share of shared memory.
 */
#ifndef KCOORD_INT_H
#define KCOORD_INT_H

#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "coord/kcoord.h"

#define KCOORD_BROKERS	64		/* kafka_pg.brokers is at most that */
#define NO_WRITER		(-1)

struct KCoordSlot
{
	LWLock		lock;

	/* changed with this lock and the table's; read with either */
	bool		used;
	int			next;			/* in its chain, or in the list of free slots; -1: the end */
	uint64		hash;
	dsa_pointer id;
	int			id_len;

	/* with this lock */
	dsa_pointer image_block;
	size_t		image_len;
	size_t		image_room;		/* size of its block */
	int			writer;
	uint64		forsaken;		/* the stamp of an image that is to be deleted */

	/* read without a lock */
	pg_atomic_uint64 incarnation;	/* 0: no group */
	pg_atomic_uint64 stamp;		/* of the image */
	pg_atomic_uint64 durable;
	pg_atomic_uint64 waiting;	/* brokers, as bits */
	pg_atomic_uint64 deadline;	/* INT64_MAX: none */
};

typedef struct KCoordBroker
{
	Latch	   *latch;			/* NULL: not alive; table lock */
	slock_t		mutex;			/* of the queue */
	dsa_pointer head;
	dsa_pointer tail;
} KCoordBroker;

/* An answer on its way, a block of the area. */
struct KCoordLetter
{
	dsa_pointer next;
	KGroupWaiter waiter;
	KCoordVersion version;		/* version 0: at once */
	size_t		len;
	uint8		body[FLEXIBLE_ARRAY_MEMBER];
};

typedef struct KCoordShared
{
	LWLock		attach_lock;	/* one broker at a time begins */
	LWLock		table_lock;		/* chains, free list, who lives */
	uint64		seed;
	int			capacity;
	int			nbuckets;
	int			first_free;
	pg_atomic_uint64 requests;	/* numbers given out */
	pg_atomic_uint64 bytes;		/* in blocks of the area */
	pg_atomic_uint64 blocks;
	pg_atomic_uint32 groups;	/* slots in use */
	pg_atomic_uint64 incarnations;
	pg_atomic_uint64 timer;		/* not later than any slot's deadline */
	pg_atomic_uint32 loaded;
	pg_atomic_uint32 deleters;	/* processes that are deleting offsets */
	pg_atomic_uint64 deleted;	/* greatest end of a commit of those that did */
	KCoordBroker brokers[KCOORD_BROKERS];
} KCoordShared;

extern KCoordShared *kcoord_shared;
extern int	kcoord_broker;		/* number of this process, -1: none */

/* The area, attached to. */
extern dsa_area *kcoord_area(void);

/* Links a letter that is complete; neither allocates nor throws. */
extern void kcoord_post(dsa_pointer block);

/* Frees what is in a broker's queue. */
extern void kcoord_discard(int broker);

/* A block of that many bytes, InvalidDsaPointer when there is none. */
extern dsa_pointer kcoord_alloc(size_t size);

/* Gives one of that size back, and makes the pointer invalid; it may be that already. */
extern void kcoord_free(dsa_pointer *block, size_t size);

/* Size of a letter with a body of that many bytes. */
#define KCOORD_LETTER_SIZE(len)	(offsetof(KCoordLetter, body) + (len))

#endif							/* KCOORD_INT_H */
