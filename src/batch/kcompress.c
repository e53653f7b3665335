/*-------------------------------------------------------------------------
 *
 * kcompress.c
 *	  The compression formats of Kafka record batches.
 *
 * What other clients write and can read is narrower or wider than what the
 * libraries do by themselves:
 *
 * gzip: several members may follow each other; what follows them is ignored.
 *
 * snappy: blocks in the framing of the Java library (a 16 byte header, then
 * each block after its length).  librdkafka and others write one bare block instead,
 * which the Java library reads as well, and so do we.
 *
 * lz4: one frame of independent blocks; Java's reader knows no others, so a
 * batch in linked blocks must not be accepted.
 *
 * zstd: frames, of any window that fits ZSTD_WINDOWLOG_LIMIT_DEFAULT.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include <limits.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "batch/kbatch_bytes.h"
#include "batch/kcompress.h"

/* how much a stream gives out at a time */
#define PIECE_SIZE				(64 * 1024)

/* what has grown beyond this is not kept for the next batch */
#define ZSTD_KEEP_SIZE			(16 * 1024 * 1024)
#define SCRATCH_KEEP_SIZE		(1024 * 1024)

#define GZIP_WINDOW_BITS		(15 + 16)	/* the largest; with gzip's wrapping */
#define GZIP_MEMORY_LEVEL		8

#define LZ4_FRAME_MAGIC			0x184D2204
#define LZ4_FRAME_MIN_SIZE		7
#define LZ4_FLG_OFFSET			4
#define LZ4_FLG_INDEPENDENT		0x20
#define LZ4_FLG_UNSUPPORTED		0x03	/* a reserved bit, and "has dictionary" */

#define XERIAL_HEADER_SIZE		16
#define XERIAL_MAGIC_SIZE		8
#define XERIAL_VERSION			1
#define XERIAL_BLOCK_SIZE		(32 * 1024)

static const uint8 xerial_magic[XERIAL_MAGIC_SIZE] = {
	0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0
};

/* No snappy block grows by more: its densest element makes 64 bytes of 3. */
#define SNAPPY_MAX_RATIO		22

struct KCodec
{
	const KAllocator *allocator;
	KBuffer		scratch;		/* the piece given out last */
	void		(*interrupt) (void);

	bool		inflate_ready;
	bool		deflate_ready;
	int			deflate_level;
	z_stream	inflate;
	z_stream	deflate;
	LZ4F_dctx  *lz4_dctx;
	ZSTD_CCtx  *zstd_cctx;
	ZSTD_DCtx  *zstd_dctx;

	/* the stream being read */
	KCodecType	type;
	const uint8 *src;			/* what is not yet consumed */
	size_t		src_len;
	size_t		budget;			/* bytes that may still be given out */
	bool		frame_done;		/* at a place where the stream may end */
	bool		bare_block;		/* snappy without framing */
	KCodecResult ended;			/* KCODEC_OK while there may be more */
};

static const char *const codec_names[] = {"none", "gzip", "snappy", "lz4", "zstd"};

KCodec *
kcodec_create(const KAllocator *allocator)
{
	KCodec	   *codec = allocator->resize(allocator->arg, NULL, sizeof(KCodec));

	if (codec == NULL)
		return NULL;
	memset(codec, 0, sizeof(KCodec));
	codec->allocator = allocator;
	kbuffer_init(&codec->scratch, allocator, SIZE_MAX);
	codec->ended = KCODEC_END;
	return codec;
}

void
kcodec_free(KCodec *codec)
{
	if (codec == NULL)
		return;
	if (codec->inflate_ready)
		inflateEnd(&codec->inflate);
	if (codec->deflate_ready)
		deflateEnd(&codec->deflate);
	LZ4F_freeDecompressionContext(codec->lz4_dctx);
	ZSTD_freeCCtx(codec->zstd_cctx);
	ZSTD_freeDCtx(codec->zstd_dctx);
	kbuffer_free(&codec->scratch);
	codec->allocator->release(codec->allocator->arg, codec);
}

void
kcodec_set_interrupt(KCodec *codec, void (*interrupt) (void))
{
	codec->interrupt = interrupt;
}

const char *
kcodec_name(int type)
{
	return type >= 0 && type <= KCODEC_LAST ? codec_names[type] : NULL;
}

int
kcodec_from_name(const char *name)
{
	for (int type = 0; type <= KCODEC_LAST; type++)
	{
		if (strcmp(name, codec_names[type]) == 0)
			return type;
	}
	return -1;
}

static KCodecResult
from_buffer_result(KBufferResult result)
{
	switch (result)
	{
		case KBUFFER_OK:
			return KCODEC_OK;
		case KBUFFER_FULL:
			return KCODEC_TOO_LARGE;
		case KBUFFER_NO_MEMORY:
			break;
	}
	return KCODEC_NO_MEMORY;
}

/* ---- compression ---- */

/*
 * Each function below appends to dst and may leave dst->len anywhere when it
 * fails.
 */

static KCodecResult
compress_gzip(KCodec *codec, int level, const void *src, size_t len, KBuffer *dst)
{
	z_stream   *z = &codec->deflate;
	KCodecResult result;
	size_t		bound;

	if (level == KCODEC_DEFAULT_LEVEL)
		level = Z_DEFAULT_COMPRESSION;
	if (codec->deflate_ready && codec->deflate_level != level)
	{
		deflateEnd(z);
		codec->deflate_ready = false;
	}
	if (!codec->deflate_ready)
	{
		memset(z, 0, sizeof(*z));
		if (deflateInit2(z, level, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEMORY_LEVEL,
						 Z_DEFAULT_STRATEGY) != Z_OK)
			return KCODEC_NO_MEMORY;
		codec->deflate_ready = true;
		codec->deflate_level = level;
	}
	else if (deflateReset(z) != Z_OK)
		return KCODEC_CORRUPT;

	bound = deflateBound(z, len);
	if (len > UINT_MAX || bound > UINT_MAX)
		return KCODEC_TOO_LARGE;
	result = from_buffer_result(kbuffer_reserve(dst, bound));
	if (result != KCODEC_OK)
		return result;

	z->next_in = unconstify(Bytef *, (const Bytef *) src);
	z->avail_in = (uInt) len;
	z->next_out = dst->data + dst->len;
	z->avail_out = (uInt) bound;
	if (deflate(z, Z_FINISH) != Z_STREAM_END)
		return KCODEC_CORRUPT;
	dst->len += bound - z->avail_out;
	return KCODEC_OK;
}

static KCodecResult
compress_snappy(const uint8 *src, size_t len, KBuffer *dst)
{
	KCodecResult result;
	uint8		header[XERIAL_HEADER_SIZE];

	memcpy(header, xerial_magic, XERIAL_MAGIC_SIZE);
	kbytes_put32(header + XERIAL_MAGIC_SIZE, XERIAL_VERSION);
	kbytes_put32(header + XERIAL_MAGIC_SIZE + 4, XERIAL_VERSION);
	result = from_buffer_result(kbuffer_append(dst, header, XERIAL_HEADER_SIZE));

	while (result == KCODEC_OK && len > 0)
	{
		size_t		n = Min(len, XERIAL_BLOCK_SIZE);
		size_t		compressed_len = snappy_max_compressed_length(n);
		uint8	   *block;

		result = from_buffer_result(kbuffer_reserve(dst, compressed_len + sizeof(uint32)));
		if (result != KCODEC_OK)
			break;
		block = dst->data + dst->len + sizeof(uint32);
		if (snappy_compress((const char *) src, n, (char *) block, &compressed_len) != SNAPPY_OK)
			return KCODEC_CORRUPT;
		kbytes_put32(dst->data + dst->len, (uint32) compressed_len);
		dst->len += compressed_len + sizeof(uint32);
		src += n;
		len -= n;
	}
	return result;
}

static KCodecResult
compress_lz4(int level, const void *src, size_t len, KBuffer *dst)
{
	LZ4F_preferences_t preferences;
	KCodecResult result;
	size_t		n;

	memset(&preferences, 0, sizeof(preferences));
	preferences.frameInfo.blockSizeID = LZ4F_max64KB;
	preferences.frameInfo.blockMode = LZ4F_blockIndependent;
	preferences.compressionLevel = level == KCODEC_DEFAULT_LEVEL ? 0 : level;

	result = from_buffer_result(kbuffer_reserve(dst, LZ4F_compressFrameBound(len, &preferences)));
	if (result != KCODEC_OK)
		return result;
	n = LZ4F_compressFrame(dst->data + dst->len, dst->capacity - dst->len, src, len,
						   &preferences);
	if (LZ4F_isError(n))
		return KCODEC_NO_MEMORY;
	dst->len += n;
	return KCODEC_OK;
}

static KCodecResult
compress_zstd(KCodec *codec, int level, const void *src, size_t len, KBuffer *dst)
{
	KCodecResult result;
	size_t		n;

	if (codec->zstd_cctx == NULL)
		codec->zstd_cctx = ZSTD_createCCtx();
	if (codec->zstd_cctx == NULL)
		return KCODEC_NO_MEMORY;

	result = from_buffer_result(kbuffer_reserve(dst, ZSTD_compressBound(len)));
	if (result != KCODEC_OK)
		return result;
	n = ZSTD_compressCCtx(codec->zstd_cctx, dst->data + dst->len, dst->capacity - dst->len,
						  src, len, level == KCODEC_DEFAULT_LEVEL ? ZSTD_CLEVEL_DEFAULT : level);
	if (ZSTD_isError(n))
		return KCODEC_NO_MEMORY;
	dst->len += n;

	if (ZSTD_sizeof_CCtx(codec->zstd_cctx) > ZSTD_KEEP_SIZE)
	{
		ZSTD_freeCCtx(codec->zstd_cctx);
		codec->zstd_cctx = NULL;
	}
	return KCODEC_OK;
}

KCodecResult
kcodec_compress(KCodec *codec, KCodecType type, int level,
				const void *src, size_t len, KBuffer *dst)
{
	size_t		old_len = dst->len;
	KCodecResult result = KCODEC_UNSUPPORTED;

	switch (type)
	{
		case KCODEC_NONE:
			result = from_buffer_result(kbuffer_append(dst, src, len));
			break;
		case KCODEC_GZIP:
			result = compress_gzip(codec, level, src, len, dst);
			break;
		case KCODEC_SNAPPY:
			result = compress_snappy(src, len, dst);
			break;
		case KCODEC_LZ4:
			result = compress_lz4(level, src, len, dst);
			break;
		case KCODEC_ZSTD:
			result = compress_zstd(codec, level, src, len, dst);
			break;
	}
	if (result != KCODEC_OK)
		dst->len = old_len;
	return result;
}

/* ---- decompression ---- */

static KCodecResult
begin_gzip(KCodec *codec)
{
	if (codec->inflate_ready)
		return inflateReset(&codec->inflate) == Z_OK ? KCODEC_OK : KCODEC_CORRUPT;

	memset(&codec->inflate, 0, sizeof(codec->inflate));
	if (inflateInit2(&codec->inflate, GZIP_WINDOW_BITS) != Z_OK)
		return KCODEC_NO_MEMORY;
	codec->inflate_ready = true;
	return KCODEC_OK;
}

static KCodecResult
begin_snappy(KCodec *codec)
{
	codec->bare_block = codec->src_len < XERIAL_HEADER_SIZE ||
		memcmp(codec->src, xerial_magic, XERIAL_MAGIC_SIZE) != 0;
	if (codec->bare_block)
		return KCODEC_OK;

	if (kbytes_get32(codec->src + XERIAL_MAGIC_SIZE) < XERIAL_VERSION)
		return KCODEC_CORRUPT;
	codec->src += XERIAL_HEADER_SIZE;
	codec->src_len -= XERIAL_HEADER_SIZE;
	codec->frame_done = true;
	return KCODEC_OK;
}

static KCodecResult
begin_lz4(KCodec *codec)
{
	uint8		flg;

	if (codec->src_len < LZ4_FRAME_MIN_SIZE ||
		kbytes_get32_le(codec->src) != LZ4_FRAME_MAGIC)
		return KCODEC_CORRUPT;
	flg = codec->src[LZ4_FLG_OFFSET];
	if ((flg & LZ4_FLG_INDEPENDENT) == 0 || (flg & LZ4_FLG_UNSUPPORTED) != 0)
		return KCODEC_CORRUPT;

	if (codec->lz4_dctx != NULL)
		LZ4F_resetDecompressionContext(codec->lz4_dctx);
	else if (LZ4F_isError(LZ4F_createDecompressionContext(&codec->lz4_dctx, LZ4F_VERSION)))
	{
		codec->lz4_dctx = NULL;
		return KCODEC_NO_MEMORY;
	}
	return KCODEC_OK;
}

static KCodecResult
begin_zstd(KCodec *codec)
{
	if (codec->zstd_dctx != NULL && ZSTD_sizeof_DCtx(codec->zstd_dctx) > ZSTD_KEEP_SIZE)
	{
		ZSTD_freeDCtx(codec->zstd_dctx);
		codec->zstd_dctx = NULL;
	}
	if (codec->zstd_dctx == NULL)
		codec->zstd_dctx = ZSTD_createDCtx();
	if (codec->zstd_dctx == NULL)
		return KCODEC_NO_MEMORY;
	ZSTD_DCtx_reset(codec->zstd_dctx, ZSTD_reset_session_only);
	return KCODEC_OK;
}

KCodecResult
kcodec_stream_begin(KCodec *codec, KCodecType type, const void *src, size_t len, size_t max)
{
	KCodecResult result = KCODEC_UNSUPPORTED;

	codec->type = type;
	codec->src = src;
	codec->src_len = len;
	codec->budget = max;
	codec->frame_done = false;
	if (codec->scratch.capacity > SCRATCH_KEEP_SIZE)
		kbuffer_free(&codec->scratch);

	switch (type)
	{
		case KCODEC_NONE:
			result = KCODEC_OK;
			break;
		case KCODEC_GZIP:
			result = begin_gzip(codec);
			break;
		case KCODEC_SNAPPY:
			result = begin_snappy(codec);
			break;
		case KCODEC_LZ4:
			result = begin_lz4(codec);
			break;
		case KCODEC_ZSTD:
			result = begin_zstd(codec);
			break;
	}
	codec->ended = result;
	return result;
}

static void
consume(KCodec *codec, size_t n)
{
	codec->src += n;
	codec->src_len -= n;
}

/*
 * The functions below put the next decompressed bytes into scratch, which has
 * room for PIECE_SIZE; none at all means that the stream is complete.
 */

static KCodecResult
next_gzip(KCodec *codec)
{
	z_stream   *z = &codec->inflate;
	int			rc;

	while (codec->scratch.len == 0)
	{
		if (codec->frame_done)
		{
			if (codec->src_len < 2 || codec->src[0] != 0x1f || codec->src[1] != 0x8b)
				return KCODEC_OK;
			if (inflateReset(z) != Z_OK)
				return KCODEC_CORRUPT;
			codec->frame_done = false;
		}

		z->next_in = unconstify(Bytef *, codec->src);
		z->avail_in = (uInt) Min(codec->src_len, UINT_MAX);
		z->next_out = codec->scratch.data;
		z->avail_out = PIECE_SIZE;
		rc = inflate(z, Z_NO_FLUSH);
		consume(codec, z->next_in - codec->src);
		codec->scratch.len = PIECE_SIZE - z->avail_out;

		if (rc == Z_STREAM_END)
			codec->frame_done = true;
		else if (rc == Z_MEM_ERROR)
			return KCODEC_NO_MEMORY;
		else if (rc != Z_OK)	/* Z_BUF_ERROR: the input ends too soon */
			return KCODEC_CORRUPT;
	}
	return KCODEC_OK;
}

static KCodecResult
next_snappy(KCodec *codec)
{
	while (codec->scratch.len == 0)
	{
		size_t		block_len;
		size_t		len;
		KCodecResult result;

		if (codec->bare_block)
		{
			if (codec->frame_done)
				return KCODEC_OK;
			codec->frame_done = true;
			block_len = codec->src_len;
		}
		else
		{
			if (codec->src_len == 0)
				return KCODEC_OK;
			if (codec->src_len < sizeof(uint32))
				return KCODEC_CORRUPT;

			/* streams may have been joined; a length never looks like the magic */
			if (codec->src_len >= XERIAL_HEADER_SIZE &&
				memcmp(codec->src, xerial_magic, XERIAL_MAGIC_SIZE) == 0)
			{
				consume(codec, XERIAL_HEADER_SIZE);
				continue;
			}
			block_len = kbytes_get32(codec->src);
			consume(codec, sizeof(uint32));
			if (block_len > codec->src_len)
				return KCODEC_CORRUPT;
		}

		if (snappy_uncompressed_length((const char *) codec->src, block_len, &len) != SNAPPY_OK ||
			len / SNAPPY_MAX_RATIO > block_len)
			return KCODEC_CORRUPT;
		if (len > codec->budget)
			return KCODEC_TOO_LARGE;
		result = from_buffer_result(kbuffer_reserve(&codec->scratch, len));
		if (result != KCODEC_OK)
			return result;
		if (snappy_uncompress((const char *) codec->src, block_len,
							  (char *) codec->scratch.data, &len) != SNAPPY_OK)
			return KCODEC_CORRUPT;
		consume(codec, block_len);
		codec->scratch.len = len;
	}
	return KCODEC_OK;
}

static KCodecResult
next_lz4(KCodec *codec)
{
	while (codec->scratch.len == 0 && !codec->frame_done)
	{
		size_t		consumed = codec->src_len;
		size_t		produced = PIECE_SIZE;
		size_t		hint;

		hint = LZ4F_decompress(codec->lz4_dctx, codec->scratch.data, &produced,
							   codec->src, &consumed, NULL);
		if (LZ4F_isError(hint))
			return KCODEC_CORRUPT;
		if (hint != 0 && consumed == 0 && produced == 0)
			return KCODEC_CORRUPT;	/* the input ends too soon */
		consume(codec, consumed);
		codec->scratch.len = produced;
		codec->frame_done = hint == 0;
	}
	return KCODEC_OK;
}

static KCodecResult
next_zstd(KCodec *codec)
{
	while (codec->scratch.len == 0)
	{
		ZSTD_inBuffer in = {codec->src, codec->src_len, 0};
		ZSTD_outBuffer out = {codec->scratch.data, PIECE_SIZE, 0};
		size_t		hint;

		if (codec->frame_done && codec->src_len == 0)
			return KCODEC_OK;
		hint = ZSTD_decompressStream(codec->zstd_dctx, &out, &in);
		if (ZSTD_isError(hint))
			return ZSTD_getErrorCode(hint) == ZSTD_error_memory_allocation ?
				KCODEC_NO_MEMORY : KCODEC_CORRUPT;
		if (hint != 0 && in.pos == 0 && out.pos == 0)
			return KCODEC_CORRUPT;	/* the input ends too soon */
		consume(codec, in.pos);
		codec->scratch.len = out.pos;
		codec->frame_done = hint == 0;
	}
	return KCODEC_OK;
}

KCodecResult
kcodec_stream_next(KCodec *codec, const uint8 **piece, size_t *len)
{
	KCodecResult result = codec->ended;

	if (result != KCODEC_OK)
		return result;
	if (codec->interrupt != NULL)
		codec->interrupt();

	codec->scratch.len = 0;
	if (codec->type != KCODEC_NONE)
		result = from_buffer_result(kbuffer_reserve(&codec->scratch, PIECE_SIZE));
	*piece = codec->scratch.data;
	*len = 0;

	if (result == KCODEC_OK)
	{
		switch (codec->type)
		{
			case KCODEC_NONE:
				*piece = codec->src;
				*len = codec->src_len;
				consume(codec, codec->src_len);
				break;
			case KCODEC_GZIP:
				result = next_gzip(codec);
				break;
			case KCODEC_SNAPPY:
				result = next_snappy(codec);
				break;
			case KCODEC_LZ4:
				result = next_lz4(codec);
				break;
			case KCODEC_ZSTD:
				result = next_zstd(codec);
				break;
		}
	}
	if (result == KCODEC_OK && codec->type != KCODEC_NONE)
	{
		*piece = codec->scratch.data;
		*len = codec->scratch.len;
	}
	if (result == KCODEC_OK && *len == 0)
		result = KCODEC_END;
	else if (result == KCODEC_OK && *len > codec->budget)
		result = KCODEC_TOO_LARGE;

	if (result == KCODEC_OK)
		codec->budget -= *len;
	codec->ended = result;
	return result;
}

KCodecResult
kcodec_decompress(KCodec *codec, KCodecType type, const void *src, size_t len, KBuffer *dst)
{
	size_t		old_len = dst->len;
	size_t		max = dst->max > dst->len ? dst->max - dst->len : 0;
	KCodecResult result;

	result = kcodec_stream_begin(codec, type, src, len, max);
	while (result == KCODEC_OK)
	{
		const uint8 *piece;
		size_t		n;

		result = kcodec_stream_next(codec, &piece, &n);
		if (result == KCODEC_OK)
			result = from_buffer_result(kbuffer_append(dst, piece, n));
	}
	if (result == KCODEC_END)
		return KCODEC_OK;
	dst->len = old_len;
	return result;
}
