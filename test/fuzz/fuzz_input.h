/*
 * fuzz_input.h
 *		An input as a row of numbers: what is missing at its end is zero.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include "postgres.h"

typedef struct Input
{
	const uint8 *data;
	size_t		left;
} Input;

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);
extern size_t LLVMFuzzerMutate(uint8 *data, size_t size, size_t max_size);
extern size_t LLVMFuzzerCustomMutator(uint8 *data, size_t size, size_t max_size,
									  unsigned int seed);

static inline uint8
take8(Input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static inline uint16
take16(Input *in)
{
	uint16		low = take8(in);

	return (uint16) (low | take8(in) << 8);
}

static inline uint32
take32(Input *in)
{
	uint32		low = take16(in);

	return low | (uint32) take16(in) << 16;
}

static inline uint64
take64(Input *in)
{
	uint64		low = take32(in);

	return low | (uint64) take32(in) << 32;
}

/* len bytes, or fewer: what is left. */
static inline const uint8 *
take_bytes(Input *in, size_t *len)
{
	const uint8 *bytes = in->data;

	*len = Min(*len, in->left);
	in->data += *len;
	in->left -= *len;
	return bytes;
}

#endif							/* FUZZ_INPUT_H */
