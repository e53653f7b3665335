/*
 * kmsg.h
 *		Kafka's messages: bytes <-> C structs.
 *
 * The layouts are data (messages.txt).  gen_wire.pl makes a struct and a descriptor of each
 * message; one walker (kmsg.c) decodes and encodes all of them in every version.  This is the
 * only header of src/wire that other modules include.
 *
 * Nothing here allocates, throws or knows the server.  Memory comes from an arena or a writer
 * that the caller supplies; a failure is "false" and a constant string.  A decoded message
 * points into the bytes it was decoded from: they must outlive it.
 */
#ifndef KMSG_H
#define KMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------------
 * Values.  All zeroes is the empty, not null, value of each of them.
 * ------------------------------------------------------------------------
 */

/* Bytes that should be UTF-8 but are not checked; not terminated; null: len -1. */
typedef struct KStr
{
	const char *data;
	int32_t		len;
} KStr;

/* Bytes or record batches; null: len -1. */
typedef struct KBytes
{
	const uint8_t *data;
	int32_t		len;
} KBytes;

typedef struct KUuid
{
	uint8_t		b[16];
} KUuid;

/* Arrays; null: count -1.  Arrays of structs have an unnamed type of the same shape. */
typedef struct KInt8Array
{
	int8_t	   *items;
	int32_t		count;
} KInt8Array;

typedef struct KInt16Array
{
	int16_t    *items;
	int32_t		count;
} KInt16Array;

typedef struct KInt32Array
{
	int32_t    *items;
	int32_t		count;
} KInt32Array;

typedef struct KInt64Array
{
	int64_t    *items;
	int32_t		count;
} KInt64Array;

typedef struct KStrArray
{
	KStr	   *items;
	int32_t		count;
} KStrArray;

/*
 * Tagged fields that we do not know, as they stood on the wire, so that they survive a round
 * trip.  Known tags are 0, 1, ... without a gap, so all unknown ones follow them; those that come
 * after a known one again, in a wrong order, are read over.
 */
typedef struct KTags
{
	const uint8_t *data;
	uint32_t	len;
	uint32_t	count;
} KTags;

#define KSTR(literal)	((KStr) {(literal), (int32_t) sizeof(literal) - 1})
#define KSTR_NULL		((KStr) {NULL, -1})
#define KBYTES_NULL		((KBytes) {NULL, -1})

/* ------------------------------------------------------------------------
 * Descriptors: what the generator writes and the walker reads
 * ------------------------------------------------------------------------
 */
typedef struct KMsgDesc KMsgDesc;

typedef enum KFieldType
{
	KF_BOOL,
	KF_INT8,
	KF_INT16,
	KF_UINT16,
	KF_INT32,
	KF_INT64,
	KF_FLOAT64,
	KF_UUID,
	KF_STRING,
	KF_BYTES,
	KF_STRUCT
} KFieldType;

#define KFF_ARRAY		0x01	/* an array of that type */
#define KFF_POINTER		0x02	/* a struct that can be null: a pointer to it */
#define KFF_IGNORABLE	0x04	/* silently left out of versions that do not have it */
#define KFF_PLAIN		0x08	/* never compact, not even in flexible versions */

/* A range of versions; empty when last < first. */
typedef struct KVersions
{
	int8_t		first;
	int8_t		last;
} KVersions;

typedef struct KFieldDesc
{
	const char *name;
	const KMsgDesc *sub;		/* of KF_STRUCT */
	uint16_t	offset;			/* in the C struct */
	uint8_t		type;			/* KFieldType */
	uint8_t		flags;			/* KFF_* */
	KVersions	versions;		/* has the field */
	KVersions	nullable;		/* may be null */
	int8_t		tag;			/* -1: not a tagged field */
} KFieldDesc;

/* A message, or a struct inside one.  Untagged fields stand first, then tagged ones by tag. */
struct KMsgDesc
{
	const char *name;
	const void *defaults;		/* a C struct with every field's default */
	const KFieldDesc *fields;
	const uint16_t *min_size;	/* fewest bytes on the wire, by version - versions.first */
	uint16_t	size;			/* of the C struct */
	uint16_t	nfields;
	uint16_t	nuntagged;
	uint16_t	tags_offset;	/* of the KTags member, if any version is flexible */
	KVersions	versions;
	int8_t		flexible_from;	/* KMSG_NEVER_FLEXIBLE: no version is */
};

#define KMSG_NEVER_FLEXIBLE	INT8_MAX

/* An API that a single node can serve. */
typedef struct KApiInfo
{
	const char *name;
	const KMsgDesc *request;
	const KMsgDesc *response;
	int16_t		key;
	KVersions	versions;		/* that can be decoded */
	int8_t		listed_first;	/* oldest version to list in ApiVersions */
	int8_t		flexible_from;
	int8_t		response_header;	/* header version of every answer; -1: by flexible_from */
} KApiInfo;

/* NULL when no such API is known. */
extern const KApiInfo *kapi_info(int key);
extern int	kapi_request_header_version(const KApiInfo *api, int version);
extern int	kapi_response_header_version(const KApiInfo *api, int version);

/* Never NULL; "UNKNOWN_SERVER_ERROR" for a code that is none. */
extern const char *kerr_name(int code);
/* May a client try again after this error? */
extern bool kerr_retriable(int code);

/* ------------------------------------------------------------------------
 * Memory: a bump allocator with a hard limit
 * ------------------------------------------------------------------------
 */

/* Returns a block of at least "size" bytes, aligned for any type, or NULL. */
typedef void *(*KArenaGrow) (void *ctx, size_t size);

typedef struct KArena
{
	uint8_t    *next;
	uint8_t    *end;
	size_t		left;			/* bytes that may still be asked of "grow" */
	KArenaGrow	grow;
	void	   *ctx;
} KArena;

/*
 * "first" (aligned for any type, may be NULL) is used up before "grow" (may be NULL) is asked,
 * for "limit" bytes in all.  Blocks from "grow" belong to the caller: it frees them when it is
 * done with what was decoded.
 */
extern void karena_init(KArena *a, void *first, size_t first_size, size_t limit,
						KArenaGrow grow, void *ctx);
/* Aligned for any type, not cleared; NULL when the limit would be passed or "grow" says NULL. */
extern void *karena_alloc(KArena *a, size_t size);

/* ------------------------------------------------------------------------
 * Decoding
 * ------------------------------------------------------------------------
 */

/* Sets every field of a message, or of a struct in one, to its default. */
extern void kmsg_init(const KMsgDesc *desc, void *msg);
/* An array of such structs, set to their defaults; NULL when the arena gives no more. */
extern void *kmsg_new(const KMsgDesc *desc, int32_t count, KArena *arena);

/*
 * Fills *msg from the first *consumed bytes of "in"; whether bytes may follow is the caller's
 * decision.  On false *msg is undefined and *err says why.
 */
extern bool kmsg_decode(const KMsgDesc *desc, int version, const uint8_t *in, size_t len,
						size_t *consumed, KArena *arena, void *msg, const char **err);

/* ------------------------------------------------------------------------
 * Encoding
 * ------------------------------------------------------------------------
 */

/*
 * realloc() of the caller's choice: returns at least "size" bytes with the first "used" ones
 * of "old" kept, or NULL, which fails the encoding.
 */
typedef void *(*KMsgResize) (void *ctx, void *old, size_t used, size_t size);

/* "len" bytes at "data" belong between the writer's own bytes [pos-1] and [pos]. */
typedef struct KMsgRef
{
	size_t		pos;
	const uint8_t *data;
	size_t		len;
} KMsgRef;

/*
 * Own bytes, and references to long fields of bytes or records that are sent without being
 * copied.  What is referred to must outlive the sending.
 */
typedef struct KMsgWriter
{
	uint8_t    *data;
	size_t		len;
	size_t		cap;
	KMsgRef    *refs;
	size_t		nrefs;
	size_t		refs_cap;
	size_t		ref_bytes;		/* sum of the references' lengths */
	size_t		ref_min;		/* refer to fields of at least this many bytes; 0: never */
	KMsgResize	resize;
	void	   *ctx;
	const char *field;			/* the field that made an encoding fail, or NULL */
} KMsgWriter;

typedef struct KMsgPiece
{
	const uint8_t *data;
	size_t		len;
} KMsgPiece;

extern void kmsg_writer_init(KMsgWriter *w, size_t ref_min, KMsgResize resize, void *ctx);
/* Forgets the contents, keeps the memory. */
extern void kmsg_writer_reset(KMsgWriter *w);
/* Bytes to send: own ones and referred ones. */
extern size_t kmsg_writer_total(const KMsgWriter *w);
/*
 * Describes what is to be sent from byte "skip" on, in order, by at most "max" pieces; returns
 * how many it set (0: nothing is left).
 */
extern int	kmsg_writer_pieces(const KMsgWriter *w, size_t skip, KMsgPiece *pieces, int max);

/* Appends plain bytes, copied.  False: no memory, nothing appended. */
extern bool kmsg_writer_put(KMsgWriter *w, const void *data, size_t len);
/* Appends a reference to bytes. */
extern bool kmsg_writer_refer(KMsgWriter *w, const uint8_t *data, size_t len);

/* Appends to the writer.  On false the writer holds what it held before. */
extern bool kmsg_encode(const KMsgDesc *desc, int version, const void *msg,
						KMsgWriter *w, const char **err);
/* The bytes that kmsg_encode would append, references included. */
extern bool kmsg_size(const KMsgDesc *desc, int version, const void *msg,
					  size_t *size, const char **err);

/* ------------------------------------------------------------------------
 * Frames
 * ------------------------------------------------------------------------
 */
typedef struct KRequestFrame
{
	int16_t		api_key;
	int16_t		api_version;
	int32_t		correlation_id;
	KStr		client_id;
	const KApiInfo *api;		/* NULL: unknown API, or a version that we do not know */
	size_t		body;			/* where the request's body starts, if "api" is set */
} KRequestFrame;

/*
 * Reads the header of a request (the frame without its length).  An unknown API or version is
 * no failure: all but "api" and "body" is still set, the client id as far as it can be read.
 */
extern bool kmsg_request_header_decode(const uint8_t *in, size_t len, KRequestFrame *frame,
									   const char **err);
/* Appends a whole frame: length, header, body.  On false the writer is as it was. */
extern bool kmsg_request_encode(const KApiInfo *api, int version, int32_t correlation_id,
								KStr client_id, const void *body, KMsgWriter *w,
								const char **err);
extern bool kmsg_response_encode(const KApiInfo *api, int version, int32_t correlation_id,
								 const void *body, KMsgWriter *w, const char **err);

#include "wire/kmsg_gen.h"

#endif							/* KMSG_H */
