/*-------------------------------------------------------------------------
 *
 * kbatch_record.h
 *	  Decoding one record after another, from memory or from a codec's stream.
 *
 * Private to this directory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KBATCH_RECORD_H
#define KBATCH_RECORD_H

#include "batch/kbatch.h"

/*
 * Where records are read from.  From memory, all is there from the beginning.
 * From a stream, there is a piece of it at a time, and a field that lies across
 * two of them is skipped over and has no address.
 */
typedef struct KRecordSource
{
	const uint8 *pos;
	const uint8 *limit;			/* may be read up to here: min(record's end, end) */
	const uint8 *end;			/* of what is in memory */
	size_t		left;			/* bytes of this record beyond limit */
	KCodec	   *stream;			/* gives the next piece; NULL: none to come */
	size_t		total;			/* bytes that came from the stream */
	size_t		pause_at;		/* of them; krecord_read then returns with KBATCH_AGAIN */
	int			step;			/* where it goes on */
	size_t		skip;			/* bytes of a field still to be passed over */
	int64		fields;			/* of headers, still to be read */
	const char *message;		/* a constant: why reading failed */
	KBatchResult result;		/* and how */
} KRecordSource;

/*
 * Decode a header without judging what it says about offsets and records.
 * False if this is no batch of version 2 of exactly this size.
 */
extern bool kbatch_header_decode(const uint8 *batch, size_t size, KBatchHeader *out);

extern void krecord_source_memory(KRecordSource *source, const uint8 *data, size_t len);

/* The records of a batch; compressed ones become at most max bytes. */
extern KBatchResult krecord_source_batch(KRecordSource *source, const uint8 *records, size_t len,
										 KCodecType type, KCodec *codec, size_t max);

/*
 * Decode the next record into *record.  From a stream, all of its pointers
 * are meaningless, except that key is NULL for a null key.  Checks everything
 * that can be told without the batch's header.  On failure, source->result
 * and source->message say why.  KBATCH_AGAIN is no failure: having raised
 * pause_at and set the result back to KBATCH_OK, call again with the same
 * record.
 */
extern bool krecord_read(KRecordSource *source, KBatchRecord *record);

/* Is there nothing after the last record?  If not, result and message are set. */
extern bool krecord_source_at_end(KRecordSource *source);

#endif							/* KBATCH_RECORD_H */
