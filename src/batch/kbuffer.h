/*-------------------------------------------------------------------------
 *
 * kbuffer.h
 *	  A growable byte buffer with a hard limit, over the caller's allocator.
 *
 * Include c.h (or postgres.h) first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KBUFFER_H
#define KBUFFER_H

/*
 * Where the batch module gets memory from.  resize() behaves like realloc():
 * it takes NULL for a new chunk, keeps the old chunk when it fails, and
 * reports failure by returning NULL.  It must not throw: callers hold codec
 * contexts that nobody else would free.
 */
typedef struct KAllocator
{
	void	   *(*resize) (void *arg, void *chunk, size_t size);
	void		(*release) (void *arg, void *chunk);
	void	   *arg;
} KAllocator;

/* malloc(), for programs and for memory that lives as long as the process */
extern const KAllocator kallocator_malloc;

/*
 * The bytes are data[0 .. len).  No function makes len exceed max; "capacity"
 * only grows, so that a buffer kept between uses stops allocating.
 */
typedef struct KBuffer
{
	uint8	   *data;
	size_t		len;
	size_t		capacity;
	size_t		max;
	const KAllocator *allocator;
} KBuffer;

typedef enum KBufferResult
{
	KBUFFER_OK,
	KBUFFER_FULL,				/* would pass max */
	KBUFFER_NO_MEMORY
} KBufferResult;

extern void kbuffer_init(KBuffer *buf, const KAllocator *allocator, size_t max);
extern void kbuffer_free(KBuffer *buf);

/*
 * Make room for "extra" more bytes at data + len.  On failure the buffer and
 * its contents are as before.
 */
extern KBufferResult kbuffer_reserve(KBuffer *buf, size_t extra);

extern KBufferResult kbuffer_append(KBuffer *buf, const void *bytes, size_t n);

#endif							/* KBUFFER_H */
