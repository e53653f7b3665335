/*
 * kchunk.h
 *	  A run of bytes on its way to a socket, and who owns it.
 *
 * Answers are lists of chunks: a few encoded bytes, and between them records, which are
 * in a large buffer that is never copied, or stay on their pages and are lent.
 *
 * release == NULL: the receiver copies the bytes before it returns.
 * release != NULL: the bytes belong to the receiver, who calls release(arg)
 * exactly once when it is through with them, also when they were never sent.
 * release must neither throw nor call back into the receiver.
 */
#ifndef KCHUNK_H
#define KCHUNK_H

#include <stddef.h>

struct iovec;

/*
 * Bytes that are nowhere until they are sent: whoever sends them borrows them for the length of
 * one system call.
 */
typedef struct KChunkLender
{
	/*
	 * Fills in at most max entries of iov with the next bytes, and returns how many; 0: not now,
	 * ask again soon; -1: never, the answer cannot be completed.  If it is more than 0, settle()
	 * must follow at once.  Does not throw.
	 */
	int			(*lend) (void *arg, struct iovec *iov, int max);

	/* Ends the loan: so many of its bytes were sent, the others come again. */
	void		(*settle) (void *arg, size_t sent);
} KChunkLender;

typedef struct KChunk
{
	const void *data;			/* not used if there is a lender */
	size_t		len;
	void		(*release) (void *arg);
	void	   *arg;
	const KChunkLender *lender; /* or NULL; then release is set */
	void	   *lender_arg;
} KChunk;

#endif							/* KCHUNK_H */
