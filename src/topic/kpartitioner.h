/*-------------------------------------------------------------------------
 *
 * kpartitioner.h
 *	  Which partition a record goes to when its producer does not say.
 *
 * The same keys must go to the same partitions whether they are written by a
 * Java client or by SQL, so this follows the Java client.  Needs no server;
 * include c.h (or postgres.h) first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KPARTITIONER_H
#define KPARTITIONER_H

/* bytes of records without a key that go to one partition in a row */
#define KPARTITIONER_STICKY_BYTES		16384

/* For records without a key: start with all zeroes, one for each topic. */
typedef struct KStickyPartition
{
	int32		partitions;		/* as many as there were at the last choice */
	int32		partition;
	size_t		bytes;			/* sent there so far */
} KStickyPartition;

/* Java's murmur2 of a key, as an unsigned number */
extern uint32 kpartitioner_hash(const uint8 *key, size_t len);

extern int32 kpartitioner_for_key(const uint8 *key, size_t len, int32 partitions);

/*
 * The partition for a record of record_bytes without a key.  A random one,
 * chosen by "random", is kept for KPARTITIONER_STICKY_BYTES, so that records
 * end up in few large batches.
 */
extern int32 kpartitioner_without_key(KStickyPartition *sticky, int32 partitions,
									  size_t record_bytes, uint32 random);

#endif							/* KPARTITIONER_H */
