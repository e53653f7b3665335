/*-------------------------------------------------------------------------
 *
 * kbuffer.c
 *	  A growable byte buffer with a hard limit, over the caller's allocator.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include "batch/kbuffer.h"

#define KBUFFER_FIRST_CAPACITY	1024

static void *
malloc_resize(void *arg, void *chunk, size_t size)
{
	(void) arg;
	return realloc(chunk, size);
}

static void
malloc_release(void *arg, void *chunk)
{
	(void) arg;
	free(chunk);
}

const KAllocator kallocator_malloc = {malloc_resize, malloc_release, NULL};

void
kbuffer_init(KBuffer *buf, const KAllocator *allocator, size_t max)
{
	buf->data = NULL;
	buf->len = 0;
	buf->capacity = 0;
	buf->max = max;
	buf->allocator = allocator;
}

void
kbuffer_free(KBuffer *buf)
{
	if (buf->data != NULL)
		buf->allocator->release(buf->allocator->arg, buf->data);
	kbuffer_init(buf, buf->allocator, buf->max);
}

KBufferResult
kbuffer_reserve(KBuffer *buf, size_t extra)
{
	size_t		needed;
	size_t		capacity;
	void	   *data;

	if (buf->len > buf->max || extra > buf->max - buf->len)
		return KBUFFER_FULL;

	needed = buf->len + extra;
	if (needed <= buf->capacity)
		return KBUFFER_OK;

	/* doubling makes a long run of small appends cost linear time */
	capacity = Max(needed, KBUFFER_FIRST_CAPACITY);
	if (buf->capacity <= SIZE_MAX / 2)
		capacity = Max(capacity, buf->capacity * 2);
	capacity = Max(needed, Min(capacity, buf->max));

	data = buf->allocator->resize(buf->allocator->arg, buf->data, capacity);
	if (data == NULL)
		return KBUFFER_NO_MEMORY;

	buf->data = data;
	buf->capacity = capacity;
	return KBUFFER_OK;
}

KBufferResult
kbuffer_append(KBuffer *buf, const void *bytes, size_t n)
{
	KBufferResult result = kbuffer_reserve(buf, n);

	if (result == KBUFFER_OK && n > 0)
	{
		memcpy(buf->data + buf->len, bytes, n);
		buf->len += n;
	}
	return result;
}
