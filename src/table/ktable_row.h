/*
 * ktable_row.h
 *		The one conversion between a Kafka record and the six columns; private to src/table.
 */
#ifndef KTABLE_ROW_H
#define KTABLE_ROW_H

#include "access/tupdesc.h"

#include "batch/kbatch.h"
#include "table/ktable.h"

/* What records are turned into rows with; kept by whoever reads many of them. */
typedef struct KTableRow
{
	MemoryContext context;		/* holds the values of one row; reset for the next */
	Oid			header_type;
	TupleDesc	header_desc;	/* NULL until a record with headers is met */
} KTableRow;

/* In the current memory context; ends with it. */
extern void ktable_row_init(KTableRow *row);

/*
 * Fills values and isnull; columns that were not asked for become null.  What is passed by
 * reference lies in row->context, which is reset first.
 */
extern void ktable_row_from_record(KTableRow *row, int32 partition, const KBatchRecord *record,
								   uint32 columns, Datum *values, bool *isnull);

/* A row on its way to the log.  Pointers lead into the datums or the current memory context. */
typedef struct KTableRecord
{
	int32		partition;		/* -1: to be chosen */
	int64		offset;			/* -1: given at commit */
	int64		timestamp;		/* ms since 1970; KBATCH_NO_TIMESTAMP: none given */
	bool		timestamp_infinite; /* as given; timestamp then stands for it */
	const uint8 *key;
	int32		key_len;		/* -1: null */
	const uint8 *value;
	int32		value_len;		/* -1: null */
	KRecordHeader *headers;
	int32		header_count;
} KTableRecord;

/* ERROR for what no record can be: a null header key, a negative partition or offset. */
extern void ktable_record_from_row(const Datum *values, const bool *isnull, KTableRecord *record);

/* Milliseconds since 1970 <-> timestamptz. */
extern TimestampTz ktable_timestamp_from_ms(int64 ms);
extern int64 ktable_timestamp_to_ms(TimestampTz timestamp);

#endif							/* KTABLE_ROW_H */
