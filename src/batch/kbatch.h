/*-------------------------------------------------------------------------
 *
 * kbatch.h
 *	  Kafka record batches, format version 2: header, validation, reading.
 *
 * Nothing here needs a running server, throws, or trusts a byte it is given.
 * Include c.h (or postgres.h) first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KBATCH_H
#define KBATCH_H

#include "batch/kbuffer.h"
#include "batch/kcompress.h"

/* where the fields are, in big-endian order */
#define KBATCH_OFF_BASE_OFFSET			0
#define KBATCH_OFF_BATCH_LENGTH			8
#define KBATCH_OFF_LEADER_EPOCH			12
#define KBATCH_OFF_MAGIC				16
#define KBATCH_OFF_CRC					17
#define KBATCH_OFF_ATTRIBUTES			21
#define KBATCH_OFF_LAST_OFFSET_DELTA	23
#define KBATCH_OFF_BASE_TIMESTAMP		27
#define KBATCH_OFF_MAX_TIMESTAMP		35
#define KBATCH_OFF_PRODUCER_ID			43
#define KBATCH_OFF_PRODUCER_EPOCH		51
#define KBATCH_OFF_BASE_SEQUENCE		53
#define KBATCH_OFF_RECORD_COUNT			57

#define KBATCH_HEADER_SIZE				61
#define KBATCH_LENGTH_OVERHEAD			12	/* bytes before what batch_length counts */
#define KBATCH_MAGIC					2

#define KBATCH_ATTR_CODEC_MASK			0x0007
#define KBATCH_ATTR_LOG_APPEND_TIME		0x0008
#define KBATCH_ATTR_TRANSACTIONAL		0x0010
#define KBATCH_ATTR_CONTROL				0x0020
#define KBATCH_ATTR_DELETE_HORIZON		0x0040

#define KBATCH_NO_TIMESTAMP				INT64CONST(-1)
#define KBATCH_NO_PRODUCER_ID			INT64CONST(-1)
#define KBATCH_NO_PRODUCER_EPOCH		(-1)
#define KBATCH_NO_SEQUENCE				(-1)
#define KBATCH_NO_LEADER_EPOCH			(-1)

typedef struct KBatchHeader
{
	int64		base_offset;
	int32		batch_length;	/* bytes that follow this field */
	int32		leader_epoch;
	int8		magic;
	uint32		crc;			/* CRC-32C of everything from attributes on */
	int16		attributes;
	int32		last_offset_delta;
	int64		base_timestamp;
	int64		max_timestamp;
	int64		producer_id;
	int16		producer_epoch;
	int32		base_sequence;
	int32		record_count;
} KBatchHeader;

typedef enum KBatchResult
{
	KBATCH_OK,
	KBATCH_END,					/* walker, iterator: there is no next one */
	KBATCH_TRUNCATED,			/* walker, header: the bytes end before the batch does */
	KBATCH_CORRUPT,
	KBATCH_INVALID_RECORD,
	KBATCH_INVALID_TIMESTAMP,
	KBATCH_UNSUPPORTED_VERSION, /* magic 0 or 1 */
	KBATCH_UNSUPPORTED_COMPRESSION,
	KBATCH_TOO_LARGE,
	KBATCH_NO_MEMORY,
	KBATCH_AGAIN				/* kbatch_check_step: not done yet */
} KBatchResult;

/*
 * The error code of Kafka's protocol with which a broker answers a batch
 * refused for this reason; 0 for KBATCH_OK.
 */
extern int16 kbatch_result_error_code(KBatchResult result);

/* ---- header ---- */

/*
 * Read a header.  KBATCH_TRUNCATED: fewer than 61 bytes (and nothing is
 * known to be wrong with those).  KBATCH_CORRUPT: a length or magic that no
 * batch can have.  Does not ask whether the records are there too; compare
 * kbatch_size().  *out is set only on KBATCH_OK.
 */
extern KBatchResult kbatch_header_read(const uint8 *p, size_t len, KBatchHeader *out);

/* Write all 61 bytes as they stand in *header, the CRC included. */
extern void kbatch_header_write(uint8 *p, const KBatchHeader *header);

/* size of the whole batch in bytes, header included */
static inline size_t
kbatch_size(const KBatchHeader *header)
{
	return (size_t) header->batch_length + KBATCH_LENGTH_OVERHEAD;
}

static inline int64
kbatch_last_offset(const KBatchHeader *header)
{
	return header->base_offset + header->last_offset_delta;
}

static inline int64
kbatch_next_offset(const KBatchHeader *header)
{
	return header->base_offset + header->last_offset_delta + 1;
}

/* a number of 0 to 7, of which 5 to 7 are no codec */
static inline int
kbatch_codec(const KBatchHeader *header)
{
	return header->attributes & KBATCH_ATTR_CODEC_MASK;
}

static inline bool
kbatch_is_log_append_time(const KBatchHeader *header)
{
	return (header->attributes & KBATCH_ATTR_LOG_APPEND_TIME) != 0;
}

static inline bool
kbatch_is_transactional(const KBatchHeader *header)
{
	return (header->attributes & KBATCH_ATTR_TRANSACTIONAL) != 0;
}

static inline bool
kbatch_is_control(const KBatchHeader *header)
{
	return (header->attributes & KBATCH_ATTR_CONTROL) != 0;
}

static inline bool
kbatch_has_delete_horizon(const KBatchHeader *header)
{
	return (header->attributes & KBATCH_ATTR_DELETE_HORIZON) != 0;
}

static inline bool
kbatch_has_producer_id(const KBatchHeader *header)
{
	return header->producer_id > KBATCH_NO_PRODUCER_ID;
}

/* Sequence numbers go from 0 to 2^31-1 and then start again at 0. */
extern int32 kbatch_sequence_add(int32 sequence, int32 increment);

/* KBATCH_NO_SEQUENCE when the batch has none */
extern int32 kbatch_last_sequence(const KBatchHeader *header);

/* ---- changes in place; size is that of the whole batch, already checked ---- */

extern uint32 kbatch_compute_crc(const uint8 *batch, size_t size);
extern bool kbatch_check_crc(const uint8 *batch, size_t size);

/* outside the CRC */
extern void kbatch_set_base_offset(uint8 *batch, int64 base_offset);
extern void kbatch_set_leader_epoch(uint8 *batch, int32 leader_epoch);

/*
 * Set the timestamp type and the greatest timestamp, and the CRC with them.
 * Does nothing when both are so already.
 */
extern void kbatch_set_max_timestamp(uint8 *batch, size_t size,
									 bool log_append_time, int64 max_timestamp);

/* ---- walking over batches that follow each other ---- */

typedef struct KBatchWalker
{
	const uint8 *data;
	size_t		len;
	size_t		pos;			/* where the next batch starts */
} KBatchWalker;

extern void kbatch_walk_begin(KBatchWalker *walker, const uint8 *data, size_t len);

/*
 * KBATCH_OK and the next batch, wholly within the data; KBATCH_END exactly at
 * the data's end; KBATCH_TRUNCATED when a part of a batch is left, which is
 * no error in what a fetch returned; KBATCH_CORRUPT or
 * KBATCH_UNSUPPORTED_VERSION.  After anything but KBATCH_OK, pos stays where
 * it is.  The CRC is not looked at.
 */
extern KBatchResult kbatch_walk_next(KBatchWalker *walker, KBatchHeader *header,
									 const uint8 **batch);

/*
 * The records field of one partition in a Produce request must hold exactly
 * one batch of version 2.  As in Kafka, a cut-off batch after it is ignored,
 * and version (the request's) must be 7 or more for zstd.  On KBATCH_OK the
 * batch starts at data[0] and *header is set.  *message is a constant, on
 * every other result.
 */
extern KBatchResult kbatch_produce_batch(const uint8 *data, size_t len, int version,
										 KBatchHeader *header, const char **message);

/* ---- validation of what a producer sent ---- */

typedef struct KBatchPolicy
{
	size_t		max_batch_bytes;	/* max.message.bytes */
	size_t		max_record_bytes;	/* limit on the decompressed records */
	bool		keys_required;	/* cleanup.policy contains "compact" */
	bool		log_append_time;	/* message.timestamp.type */
	int64		now;			/* milliseconds since 1970 */
	int64		timestamp_before_max;	/* message.timestamp.before.max.ms */
	int64		timestamp_after_max;	/* message.timestamp.after.max.ms */
} KBatchPolicy;

/*
 * What the records of a batch of so many bytes may become: 256 MB, or a hundred times as much as
 * they are, but less than 1 GB.
 */
extern size_t kbatch_max_record_bytes(size_t size);

/* Kafka's defaults, and a limit of 256 MB on the decompressed records */
extern void kbatch_policy_init(KBatchPolicy *policy, int64 now);

#define KBATCH_MAX_RECORD_ERRORS	100

/* What is wrong with one record. */
typedef struct KBatchRecordError
{
	enum
	{
		KBATCH_NO_KEY,			/* in a compacted topic */
		KBATCH_FAR_TIMESTAMP,	/* too far from the present */
		KBATCH_LOG_APPEND_TIME	/* the producer claims to be a broker */
	}			fault;
	int32		index;			/* which is its offset too, in a produced batch */
	int64		timestamp;
	int32		key_len;		/* -1 for a null key */
	int32		value_len;
} KBatchRecordError;

typedef struct KBatchVerdict
{
	KBatchResult result;
	const char *message;		/* a constant; NULL when KBATCH_OK, or for the records' faults */

	/*
	 * Records refused for themselves, the first few of record_error_count. None when the batch as
	 * a whole is at fault.
	 */
	int			record_error_count;
	KBatchRecordError record_errors[KBATCH_MAX_RECORD_ERRORS];

	/* on KBATCH_OK, what the header has to say; see kbatch_set_max_timestamp() */
	int64		max_timestamp;
	int32		max_timestamp_delta;	/* offset delta of the first record having it */
	size_t		record_bytes;	/* size of the records, decompressed */
} KBatchVerdict;

/*
 * Check a client's batch by Kafka's rules, in one pass over its records and
 * without keeping any of them.  size is that of the whole batch, as
 * kbatch_produce_batch() has found it; the batch is not changed.  Returns
 * verdict->result.
 */
extern KBatchResult kbatch_validate(const uint8 *batch, size_t size,
									const KBatchPolicy *policy, KCodec *codec,
									KBatchVerdict *verdict);

/* ---- reading records ---- */

typedef struct KBatchRecord
{
	int64		offset;
	int64		timestamp;
	int8		attributes;
	int32		offset_delta;
	const uint8 *key;			/* NULL for a null key */
	int32		key_len;		/* -1 for a null key */
	const uint8 *value;
	int32		value_len;
	int32		header_count;
	const uint8 *headers;		/* as encoded, checked; see kbatch_record_header() */
	int32		headers_len;
} KBatchRecord;

typedef struct KRecordHeader
{
	const uint8 *key;			/* never null; any bytes, no terminator */
	int32		key_len;
	const uint8 *value;			/* NULL for a null value */
	int32		value_len;		/* -1 for a null value */
} KRecordHeader;

typedef struct KBatchIterator
{
	KBatchHeader header;
	const uint8 *pos;
	size_t		left;			/* bytes from pos on */
	int32		returned;
	int32		last_delta;		/* of the record returned last, -1 at first */
	KBatchResult ended;			/* KBATCH_OK while there may be more */
	const char *message;		/* a constant that says what is wrong, or NULL */
} KBatchIterator;

/*
 * Start reading the records of one batch, which lies wholly within size bytes.
 * Those of a compressed batch are decompressed into *scratch (its old contents
 * are given up), no further than scratch->max; pointers given out later point
 * there, or else into the batch.  The CRC is not looked at.
 */
extern KBatchResult kbatch_iterate(KBatchIterator *it, const uint8 *batch, size_t size,
								   KCodec *codec, KBuffer *scratch);

/* KBATCH_OK and a record, KBATCH_END, or an error, after which it is over */
extern KBatchResult kbatch_iterator_next(KBatchIterator *it, KBatchRecord *record);

/*
 * The headers of a record, in order: start with *pos = 0, until it returns
 * false.  It cannot fail, since kbatch_iterator_next() has looked at them.
 */
extern bool kbatch_record_header(const KBatchRecord *record, size_t *pos,
								 KRecordHeader *header);

#endif							/* KBATCH_H */
