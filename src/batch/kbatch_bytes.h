/*-------------------------------------------------------------------------
 *
 * kbatch_bytes.h
 *	  Integers of the record batch format: big-endian, and variable-length.
 *
 * Private to this directory.  Nothing here checks bounds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KBATCH_BYTES_H
#define KBATCH_BYTES_H

#include "port/pg_bswap.h"

static inline uint16
kbytes_get16(const uint8 *p)
{
	uint16		v;

	memcpy(&v, p, sizeof(v));
	return pg_ntoh16(v);
}

static inline uint32
kbytes_get32(const uint8 *p)
{
	uint32		v;

	memcpy(&v, p, sizeof(v));
	return pg_ntoh32(v);
}

static inline uint64
kbytes_get64(const uint8 *p)
{
	uint64		v;

	memcpy(&v, p, sizeof(v));
	return pg_ntoh64(v);
}

static inline uint32
kbytes_get32_le(const uint8 *p)
{
	return (uint32) p[0] | (uint32) p[1] << 8 | (uint32) p[2] << 16 | (uint32) p[3] << 24;
}

static inline void
kbytes_put16(uint8 *p, uint16 v)
{
	v = pg_hton16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void
kbytes_put32(uint8 *p, uint32 v)
{
	v = pg_hton32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void
kbytes_put64(uint8 *p, uint64 v)
{
	v = pg_hton64(v);
	memcpy(p, &v, sizeof(v));
}

/*
 * Variable-length integers hold 7 bits a byte, lowest first; signed ones are
 * first folded so that small negative numbers are small too.
 */
#define KBYTES_MAX_VARINT32		5
#define KBYTES_MAX_VARINT64		10

static inline uint64
kbytes_zigzag(int64 v)
{
	return ((uint64) v << 1) ^ (v < 0 ? PG_UINT64_MAX : 0);
}

static inline int64
kbytes_unzigzag(uint64 v)
{
	return (int64) ((v >> 1) ^ (UINT64CONST(0) - (v & 1)));
}

static inline size_t
kbytes_varint_size(int64 value)
{
	uint64		v = kbytes_zigzag(value);
	size_t		n = 1;

	while (v >= 0x80)
	{
		v >>= 7;
		n++;
	}
	return n;
}

/* returns the place after what was written */
static inline uint8 *
kbytes_put_varint(uint8 *p, int64 value)
{
	uint64		v = kbytes_zigzag(value);

	while (v >= 0x80)
	{
		*p++ = (uint8) (v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8) v;
	return p;
}

#endif							/* KBATCH_BYTES_H */
