/*
 * kmsg_frame.c
 *		What surrounds the walker: memory to decode into, bytes to encode into, and
 *		the frames with their headers.
 */
#include <string.h>

#include "wire/kmsg.h"

#define ARENA_ALIGN		_Alignof(max_align_t)
#define ARENA_BLOCK		((size_t) 8192)
#define WRITER_FIRST	((size_t) 512)
#define REFS_FIRST		((size_t) 8)

/* Key, version and correlation id: what an answer to any request needs. */
#define REQUEST_PREFIX	8

/* ------------------------------------------------------------------------
 * Arena
 * ------------------------------------------------------------------------
 */
void
karena_init(KArena *a, void *first, size_t first_size, size_t limit, KArenaGrow grow, void *ctx)
{
	a->next = first;
	a->end = first ? a->next + first_size : NULL;
	a->left = limit;
	a->grow = grow;
	a->ctx = ctx;
}

void *
karena_alloc(KArena *a, size_t size)
{
	size_t		want;
	uint8_t    *block;

	if (size > SIZE_MAX - ARENA_ALIGN)
		return NULL;
	size = (size + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
	if (size <= (size_t) (a->end - a->next))
	{
		block = a->next;
		a->next += size;
		return block;
	}

	if (size > a->left || a->grow == NULL)
		return NULL;
	/* Something large gets a block to itself, so that the rest of the current one stays in use. */
	want = size > ARENA_BLOCK / 4 ? size : ARENA_BLOCK;
	if (want > a->left)
		want = size;
	block = a->grow(a->ctx, want);
	if (block == NULL)
		return NULL;
	a->left -= want;
	if (want > size)
	{
		a->next = block + size;
		a->end = block + want;
	}
	return block;
}

/* ------------------------------------------------------------------------
 * Writer
 * ------------------------------------------------------------------------
 */
void
kmsg_writer_init(KMsgWriter *w, size_t ref_min, KMsgResize resize, void *ctx)
{
	memset(w, 0, sizeof(*w));
	w->ref_min = ref_min;
	w->resize = resize;
	w->ctx = ctx;
}

void
kmsg_writer_reset(KMsgWriter *w)
{
	w->len = 0;
	w->nrefs = 0;
	w->ref_bytes = 0;
	w->field = NULL;
}

size_t
kmsg_writer_total(const KMsgWriter *w)
{
	return w->len + w->ref_bytes;
}

bool
kmsg_writer_put(KMsgWriter *w, const void *data, size_t len)
{
	if (len > w->cap - w->len)
	{
		size_t		cap = w->cap > 0 ? w->cap : WRITER_FIRST;
		void	   *grown;

		while (cap - w->len < len)
		{
			if (cap > SIZE_MAX / 2)
				return false;
			cap *= 2;
		}
		grown = w->resize(w->ctx, w->data, w->len, cap);
		if (grown == NULL)
			return false;
		w->data = grown;
		w->cap = cap;
	}
	if (len > 0)
		memcpy(w->data + w->len, data, len);
	w->len += len;
	return true;
}

bool
kmsg_writer_refer(KMsgWriter *w, const uint8_t *data, size_t len)
{
	if (w->nrefs == w->refs_cap)
	{
		size_t		cap = w->refs_cap > 0 ? w->refs_cap * 2 : REFS_FIRST;
		void	   *grown = w->resize(w->ctx, w->refs, w->nrefs * sizeof(KMsgRef),
									  cap * sizeof(KMsgRef));

		if (grown == NULL)
			return false;
		w->refs = grown;
		w->refs_cap = cap;
	}
	w->refs[w->nrefs++] = (KMsgRef) {w->len, data, len};
	w->ref_bytes += len;
	return true;
}

int
kmsg_writer_pieces(const KMsgWriter *w, size_t skip, KMsgPiece *pieces, int max)
{
	size_t		own = 0;		/* own bytes walked over */
	int			n = 0;

	if (skip >= kmsg_writer_total(w))
		return 0;
	/* Own bytes before each reference, the reference, and after the last one the rest. */
	for (size_t i = 0; i <= w->nrefs && n < max; i++)
	{
		size_t		until = i < w->nrefs ? w->refs[i].pos : w->len;
		KMsgPiece	both[2] = {{w->data + own, until - own}, {NULL, 0}};

		if (i < w->nrefs)
			both[1] = (KMsgPiece) {w->refs[i].data, w->refs[i].len};
		own = until;
		for (int k = 0; k < 2 && n < max; k++)
		{
			if (skip >= both[k].len)
				skip -= both[k].len;
			else
			{
				pieces[n++] = (KMsgPiece) {both[k].data + skip, both[k].len - skip};
				skip = 0;
			}
		}
	}
	return n;
}

/* ------------------------------------------------------------------------
 * Headers and frames
 * ------------------------------------------------------------------------
 */
int
kapi_request_header_version(const KApiInfo *api, int version)
{
	return version >= api->flexible_from ? 2 : 1;
}

int
kapi_response_header_version(const KApiInfo *api, int version)
{
	if (api->response_header >= 0)
		return api->response_header;
	return version >= api->flexible_from ? 1 : 0;
}

bool
kmsg_request_header_decode(const uint8_t *in, size_t len, KRequestFrame *frame, const char **err)
{
	KRequestHeader header;
	const KApiInfo *api;
	bool		known;
	size_t		body;

	/* Version 0 is what all versions begin with. */
	if (!kmsg_decode(&kmsg_request_header, 0, in, len < REQUEST_PREFIX ? len : REQUEST_PREFIX,
					 &body, NULL, &header, err))
		return false;
	frame->api_key = header.request_api_key;
	frame->api_version = header.request_api_version;
	frame->correlation_id = header.correlation_id;
	frame->client_id = KSTR_NULL;
	frame->api = NULL;
	frame->body = 0;

	api = kapi_info(frame->api_key);
	known = api && frame->api_version >= api->versions.first &&
		frame->api_version <= api->versions.last;
	if (!kmsg_decode(&kmsg_request_header,
					 known ? kapi_request_header_version(api, frame->api_version) : 1,
					 in, len, &body, NULL, &header, err))
	{
		/* Of a request that can only be refused anyway, a wrong client id is no matter. */
		if (known)
			return false;
		*err = NULL;
		return true;
	}
	frame->client_id = header.client_id;
	if (known)
	{
		frame->api = api;
		frame->body = body;
	}
	return true;
}

/* Length, header, body. */
static bool
frame_encode(const KMsgDesc *header_desc, int header_version, const void *header,
			 const KMsgDesc *body_desc, int version, const void *body,
			 KMsgWriter *w, const char **err)
{
	const KMsgWriter before = *w;
	uint8_t		length[4] = {0};
	size_t		total;

	*err = "no memory for the message";
	w->field = NULL;
	if (kmsg_writer_put(w, length, sizeof(length)) &&
		kmsg_encode(header_desc, header_version, header, w, err) &&
		kmsg_encode(body_desc, version, body, w, err))
	{
		total = kmsg_writer_total(w) - before.len - before.ref_bytes - sizeof(length);
		if (total <= INT32_MAX)
		{
			for (int i = 0; i < 4; i++)
				w->data[before.len + i] = (uint8_t) (total >> (24 - 8 * i));
			return true;
		}
		*err = "message of more than 2147483647 bytes";
	}
	w->len = before.len;
	w->nrefs = before.nrefs;
	w->ref_bytes = before.ref_bytes;
	return false;
}

bool
kmsg_request_encode(const KApiInfo *api, int version, int32_t correlation_id, KStr client_id,
					const void *body, KMsgWriter *w, const char **err)
{
	KRequestHeader header;

	kmsg_init(&kmsg_request_header, &header);
	header.request_api_key = api->key;
	header.request_api_version = (int16_t) version;
	header.correlation_id = correlation_id;
	header.client_id = client_id;
	return frame_encode(&kmsg_request_header, kapi_request_header_version(api, version), &header,
						api->request, version, body, w, err);
}

bool
kmsg_response_encode(const KApiInfo *api, int version, int32_t correlation_id, const void *body,
					 KMsgWriter *w, const char **err)
{
	KResponseHeader header;

	kmsg_init(&kmsg_response_header, &header);
	header.correlation_id = correlation_id;
	return frame_encode(&kmsg_response_header, kapi_response_header_version(api, version),
						&header, api->response, version, body, w, err);
}
