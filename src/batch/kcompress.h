/*-------------------------------------------------------------------------
 *
 * kcompress.h
 *	  The compression formats of Kafka record batches.
 *
 * Include c.h (or postgres.h) first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KCOMPRESS_H
#define KCOMPRESS_H

#include "batch/kbuffer.h"

/* the numbers are those of the batch attributes' low three bits */
typedef enum KCodecType
{
	KCODEC_NONE = 0,
	KCODEC_GZIP = 1,
	KCODEC_SNAPPY = 2,
	KCODEC_LZ4 = 3,
	KCODEC_ZSTD = 4
} KCodecType;

#define KCODEC_LAST		KCODEC_ZSTD

typedef enum KCodecResult
{
	KCODEC_OK,
	KCODEC_END,					/* stream: all has been given out */
	KCODEC_CORRUPT,				/* not a valid, complete stream of this format */
	KCODEC_TOO_LARGE,			/* the limit on decompressed bytes is passed */
	KCODEC_NO_MEMORY,
	KCODEC_UNSUPPORTED			/* no such codec */
} KCodecResult;

/*
 * Contexts and scratch space for every format, made when first needed and
 * used again and again.  One per process (or thread) is enough; it runs one
 * stream at a time, and starting the next one ends the last, whatever state
 * that was left in.
 *
 * The libraries' own contexts come from malloc(), so a KCodec must be freed
 * with kcodec_free(), not by forgetting it.
 */
typedef struct KCodec KCodec;

extern KCodec *kcodec_create(const KAllocator *allocator);
extern void kcodec_free(KCodec *codec);

/*
 * Have a function called before each piece that is decompressed.  It need not return: the
 * next stream that is begun does not mind.
 */
extern void kcodec_set_interrupt(KCodec *codec, void (*interrupt) (void));

/* "none", "gzip", "snappy", "lz4", "zstd"; NULL for another number */
extern const char *kcodec_name(int type);

/* reverse of kcodec_name(), -1 when there is none of this name */
extern int	kcodec_from_name(const char *name);

/* each format's own */
#define KCODEC_DEFAULT_LEVEL	PG_INT32_MIN

/*
 * Append the compressed form of src to dst, where there must be room for the
 * worst case, which is a little longer than src.  On failure dst->len is as
 * before.
 */
extern KCodecResult kcodec_compress(KCodec *codec, KCodecType type, int level,
									const void *src, size_t len, KBuffer *dst);

/*
 * Append the decompressed form of src to dst, no further than dst->max.  On
 * failure dst->len is as before.
 */
extern KCodecResult kcodec_decompress(KCodec *codec, KCodecType type,
									  const void *src, size_t len, KBuffer *dst);

/*
 * Decompress piecewise.  After kcodec_stream_begin(), each
 * kcodec_stream_next() gives KCODEC_OK and a piece of at least one byte,
 * valid until the next call on this codec; then KCODEC_END, or an error.  src
 * must stay in place until then.  No more than max bytes are given out in
 * all, and memory is bounded by the format's window (128 MB for zstd at
 * worst, 4 MB for lz4), or for snappy, which has no streams, by max.
 */
extern KCodecResult kcodec_stream_begin(KCodec *codec, KCodecType type,
										const void *src, size_t len, size_t max);
extern KCodecResult kcodec_stream_next(KCodec *codec, const uint8 **piece, size_t *len);

#endif							/* KCOMPRESS_H */
