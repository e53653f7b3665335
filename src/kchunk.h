/*
 * kchunk.h
 *	  A run of bytes on its way to a socket, and who owns it.
 *
 * Answers are lists of chunks: the few encoded bytes around them and the large
 * buffers of records between them, which are never copied.
 *
 * release == NULL: the receiver copies the bytes before it returns.
 * release != NULL: the bytes belong to the receiver, who calls release(arg)
 * exactly once when it is through with them, also when they were never sent.
 * release must neither throw nor call back into the receiver.
 */
#ifndef KCHUNK_H
#define KCHUNK_H

#include <stddef.h>

typedef struct KChunk
{
	const void *data;
	size_t		len;
	void		(*release) (void *arg);
	void	   *arg;
} KChunk;

#endif							/* KCHUNK_H */
