/*-------------------------------------------------------------------------
 *
 * kbatch_build.h
 *	  Making record batches.
 *
 * Include c.h (or postgres.h) first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KBATCH_BUILD_H
#define KBATCH_BUILD_H

#include "batch/kbatch.h"

/*
 * A batch being built.  The records stand uncompressed in "records", after
 * room for the header.
 */
typedef struct KBatchBuilder
{
	KBuffer		records;
	int32		record_count;
	int64		base_timestamp; /* of the first record */
	int64		max_timestamp;
} KBatchBuilder;

/* What goes into the header when a batch is finished. */
typedef struct KBatchSeal
{
	KCodecType	codec;
	int			level;			/* KCODEC_DEFAULT_LEVEL, or the codec's */
	int16		attributes;		/* flags other than the codec */
	int64		base_offset;
	int32		leader_epoch;
	int64		producer_id;
	int16		producer_epoch;
	int32		base_sequence;
} KBatchSeal;

/* no codec, no flags, offset 0, no producer */
extern void kbatch_seal_init(KBatchSeal *seal);

/* max bounds the uncompressed batch */
extern void kbatch_builder_init(KBatchBuilder *builder, const KAllocator *allocator, size_t max);
extern void kbatch_builder_free(KBatchBuilder *builder);

/* Start over, keeping the memory. */
extern void kbatch_builder_reset(KBatchBuilder *builder);

/* size of the batch so far if it stays uncompressed */
extern size_t kbatch_builder_size(const KBatchBuilder *builder);

/*
 * By how much kbatch_builder_append() would let kbatch_builder_size() grow.
 * 0 if the record is too large for any batch.
 */
extern size_t kbatch_builder_record_size(const KBatchBuilder *builder, int64 timestamp,
										 const uint8 *key, int32 key_len,
										 const uint8 *value, int32 value_len,
										 const KRecordHeader *headers, int32 header_count);

/*
 * Append a record; key_len or value_len -1 stands for null.  KBATCH_TOO_LARGE
 * (max would be passed) and KBATCH_NO_MEMORY leave the builder as it was.
 */
extern KBatchResult kbatch_builder_append(KBatchBuilder *builder, int64 timestamp,
										  const uint8 *key, int32 key_len,
										  const uint8 *value, int32 value_len,
										  const KRecordHeader *headers, int32 header_count);

/*
 * Complete the batch.  Uncompressed, *batch points into the builder and stays
 * valid until the builder is touched; compressed, the batch is put into *out
 * (its old contents are given up) and *batch points there.  codec and out may
 * be NULL for KCODEC_NONE.  At least one record is required.  The builder may
 * go on being appended to, or be finished again otherwise.
 */
extern KBatchResult kbatch_builder_finish(KBatchBuilder *builder, const KBatchSeal *seal,
										  KCodec *codec, KBuffer *out,
										  const uint8 **batch, size_t *size);

/* ---- batches of the broker's own ---- */

typedef enum KControlType
{
	KCONTROL_ABORT = 0,
	KCONTROL_COMMIT = 1
} KControlType;

#define KBATCH_END_MARKER_SIZE	78

/* The end marker of a Kafka transaction: one control record at base_offset. */
extern void kbatch_write_end_marker(uint8 out[KBATCH_END_MARKER_SIZE], KControlType type,
									int64 base_offset, int32 leader_epoch,
									int64 producer_id, int16 producer_epoch,
									int32 coordinator_epoch, int64 timestamp);

#define KBATCH_FILLER_MAX_SIZE	82

/*
 * Write a batch that occupies the offsets of *dead and that every client
 * steps over without showing it to anybody, and return its size (which can
 * exceed that of *dead).  It stands for a batch whose Postgres transaction
 * did not commit.  README.md says why it looks as it does.
 */
extern size_t kbatch_write_filler(uint8 out[KBATCH_FILLER_MAX_SIZE], const KBatchHeader *dead);

#endif							/* KBATCH_BUILD_H */
