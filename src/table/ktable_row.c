/*
 * ktable_row.c
 *		A record of Kafka as a row, and a row as a record.
 *
 * No record that a producer can store may make a SELECT or a pg_dump fail: so that whatever has
 * no exact counterpart in SQL is shown as the nearest thing that has one.  src/table/README.md
 * lists these cases.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "table/ktable_row.h"
#include "topic/kcatalog.h"

/* 2000-01-01, the beginning of Postgres' time, in milliseconds since 1970. */
#define KTABLE_POSTGRES_EPOCH_MS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

/* The milliseconds that timestamptz can tell from infinity: first and first no more. */
#define KTABLE_MIN_MS	(MIN_TIMESTAMP / 1000 + KTABLE_POSTGRES_EPOCH_MS)
#define KTABLE_END_MS	(END_TIMESTAMP / 1000 + KTABLE_POSTGRES_EPOCH_MS)

/*
 * What infinity is stored as.  Quarters, so that differences within a batch do not overflow.
 */
#define KTABLE_INFINITE_MS	(PG_INT64_MAX / 4)

/*
 * Beyond this many bytes of headers a record's array might not fit into a value of 1 GB, with
 * some 50 bytes for each header: such headers are not shown.
 */
#define KTABLE_MAX_HEADER_BYTES (32 * 1024 * 1024)

TimestampTz
ktable_timestamp_from_ms(int64 ms)
{
	if (ms < KTABLE_MIN_MS)
		return DT_NOBEGIN;
	if (ms >= KTABLE_END_MS)
		return DT_NOEND;
	return (ms - KTABLE_POSTGRES_EPOCH_MS) * 1000;
}

/* Rounds down, to the millisecond. */
int64
ktable_timestamp_to_ms(TimestampTz timestamp)
{
	int64		ms;

	if (TIMESTAMP_IS_NOBEGIN(timestamp))
		return -KTABLE_INFINITE_MS;
	if (TIMESTAMP_IS_NOEND(timestamp))
		return KTABLE_INFINITE_MS;
	ms = timestamp / 1000;
	if (timestamp % 1000 < 0)
		ms--;
	return ms + KTABLE_POSTGRES_EPOCH_MS;
}

void
ktable_row_init(KTableRow *row)
{
	row->context = AllocSetContextCreate(CurrentMemoryContext, "kafka_log row",
										 ALLOCSET_DEFAULT_SIZES);
	row->header_type = InvalidOid;
	row->header_desc = NULL;
}

static Datum
ktable_bytea(const uint8 *data, int32 len)
{
	bytea	   *result = (bytea *) palloc(VARHDRSZ + (Size) len);

	SET_VARSIZE(result, VARHDRSZ + (Size) len);
	if (len > 0)
		memcpy(VARDATA(result), data, len);
	return PointerGetDatum(result);
}

/*
 * A header's key as text.  Kafka asks for UTF-8 and checks nothing.  A key that is not
 * valid is shown with \xNN for each byte that is at fault, and \\ for a backslash.
 */
static Datum
ktable_header_key(const uint8 *key, int32 len)
{
	const unsigned char *p = key;
	const unsigned char *end = key + len;
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;
	bool		valid;
	StringInfoData out;

	if (utf8)
		valid = pg_verify_mbstr(PG_UTF8, (const char *) key, len, true);
	else
	{
		/* Only ASCII means the same in all encodings. */
		valid = memchr(key, '\0', len) == NULL;
		for (int i = 0; i < len && valid; i++)
			valid = !IS_HIGHBIT_SET(key[i]);
	}
	if (valid)
		return PointerGetDatum(cstring_to_text_with_len((const char *) key, len));

	initStringInfo(&out);
	while (p < end)
	{
		int			n = 1;

		if (*p == '\0')
			n = 0;
		else if (IS_HIGHBIT_SET(*p))
		{
			n = utf8 ? pg_utf_mblen(p) : 0;
			if (n > end - p || (n > 0 && !pg_utf8_islegal(p, n)))
				n = 0;
		}
		if (n == 0)
			appendStringInfo(&out, "\\x%02x", *p++);
		else
		{
			if (*p == '\\')
				appendStringInfoChar(&out, '\\');
			appendBinaryStringInfo(&out, (const char *) p, n);
			p += n;
		}
	}
	return PointerGetDatum(cstring_to_text_with_len(out.data, out.len));
}

static Datum
ktable_headers(KTableRow *row, const KBatchRecord *record)
{
	Datum	   *elements;
	Datum		result;
	KRecordHeader header;
	size_t		pos = 0;
	int			n = 0;

	if (!OidIsValid(row->header_type))
		row->header_type = ktable_header_type();
	if (record->header_count == 0)
		return PointerGetDatum(construct_empty_array(row->header_type));

	if (row->header_desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(MemoryContextGetParent(row->context));
		TupleDesc	desc = lookup_rowtype_tupdesc(row->header_type, -1);

		/* A copy, since ours must not depend on who releases the cache's reference when. */
		row->header_desc = CreateTupleDescCopy(desc);
		row->header_desc->tdtypeid = row->header_type;
		row->header_desc->tdtypmod = -1;
		ReleaseTupleDesc(desc);
		MemoryContextSwitchTo(old);
	}

	elements = palloc(sizeof(Datum) * record->header_count);
	while (n < record->header_count && kbatch_record_header(record, &pos, &header))
	{
		Datum		values[2];
		bool		isnull[2] = {false, header.value == NULL};

		values[0] = ktable_header_key(header.key, header.key_len);
		values[1] = isnull[1] ? (Datum) 0 : ktable_bytea(header.value, header.value_len);
		elements[n++] = HeapTupleGetDatum(heap_form_tuple(row->header_desc, values, isnull));
	}
	result = PointerGetDatum(construct_array(elements, n, row->header_type, -1, false,
											 TYPALIGN_DOUBLE));
	return result;
}

void
ktable_row_from_record(KTableRow *row, int32 partition, const KBatchRecord *record,
					   uint32 columns, Datum *values, bool *isnull)
{
	MemoryContext old;

	MemoryContextReset(row->context);
	old = MemoryContextSwitchTo(row->context);
	for (int i = 0; i < KTABLE_NCOLUMNS; i++)
	{
		values[i] = (Datum) 0;
		isnull[i] = true;
	}

	if (columns & KTABLE_COLUMN(KTABLE_PARTITION))
	{
		values[KTABLE_PARTITION] = Int32GetDatum(partition);
		isnull[KTABLE_PARTITION] = false;
	}
	if (columns & KTABLE_COLUMN(KTABLE_OFFSET))
	{
		values[KTABLE_OFFSET] = Int64GetDatum(record->offset);
		isnull[KTABLE_OFFSET] = false;
	}
	if ((columns & KTABLE_COLUMN(KTABLE_TIMESTAMP)) && record->timestamp != KBATCH_NO_TIMESTAMP)
	{
		values[KTABLE_TIMESTAMP] =
			TimestampTzGetDatum(ktable_timestamp_from_ms(record->timestamp));
		isnull[KTABLE_TIMESTAMP] = false;
	}
	if ((columns & KTABLE_COLUMN(KTABLE_KEY)) && record->key_len >= 0)
	{
		values[KTABLE_KEY] = ktable_bytea(record->key, record->key_len);
		isnull[KTABLE_KEY] = false;
	}
	if ((columns & KTABLE_COLUMN(KTABLE_VALUE)) && record->value_len >= 0)
	{
		values[KTABLE_VALUE] = ktable_bytea(record->value, record->value_len);
		isnull[KTABLE_VALUE] = false;
	}
	if (columns & KTABLE_COLUMN(KTABLE_HEADERS))
	{
		if (record->headers_len > KTABLE_MAX_HEADER_BYTES)
			ereport(WARNING,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("headers of the record at offset %lld of partition %d are too large to be shown",
							(long long) record->offset, partition),
					 errdetail("They have %d bytes.", record->headers_len)));
		else
		{
			values[KTABLE_HEADERS] = ktable_headers(row, record);
			isnull[KTABLE_HEADERS] = false;
		}
	}
	MemoryContextSwitchTo(old);
}

/* Bytes of a bytea or text datum, detoasted. */
static const uint8 *
ktable_datum_bytes(Datum datum, int32 *len)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(datum);

	*len = VARSIZE_ANY_EXHDR(v);
	return (const uint8 *) VARDATA_ANY(v);
}

static void
ktable_record_headers(Datum datum, KTableRecord *record)
{
	ArrayType  *array = DatumGetArrayTypeP(datum);
	TupleDesc	desc;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elements, &nulls, &n);
	if (n == 0)
		return;
	desc = lookup_rowtype_tupdesc_copy(ARR_ELEMTYPE(array), -1);
	record->headers = palloc(sizeof(KRecordHeader) * n);
	record->header_count = n;
	for (int i = 0; i < n; i++)
	{
		KRecordHeader *header = &record->headers[i];
		HeapTupleData tuple;
		Datum		values[2];
		bool		isnull[2];

		if (!nulls[i])
		{
			HeapTupleHeader data = DatumGetHeapTupleHeader(elements[i]);

			memset(&tuple, 0, sizeof(tuple));
			tuple.t_len = HeapTupleHeaderGetDatumLength(data);
			tuple.t_data = data;
			heap_deform_tuple(&tuple, desc, values, isnull);
		}
		if (nulls[i] || isnull[0])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key of a record's header must not be null")));
		header->key = ktable_datum_bytes(values[0], &header->key_len);
		if (GetDatabaseEncoding() != PG_UTF8)
		{
			char	   *key = pnstrdup((const char *) header->key, header->key_len);

			header->key = (const uint8 *) pg_server_to_any(key, header->key_len, PG_UTF8);
			header->key_len = strlen((const char *) header->key);
		}
		header->value = NULL;
		header->value_len = -1;
		if (!isnull[1])
			header->value = ktable_datum_bytes(values[1], &header->value_len);
	}
}

void
ktable_record_from_row(const Datum *values, const bool *isnull, KTableRecord *record)
{
	memset(record, 0, sizeof(*record));
	record->partition = -1;
	record->offset = -1;
	record->timestamp = KBATCH_NO_TIMESTAMP;
	record->key_len = -1;
	record->value_len = -1;

	if (!isnull[KTABLE_PARTITION])
	{
		record->partition = DatumGetInt32(values[KTABLE_PARTITION]);
		if (record->partition < 0)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("partition must not be negative")));
	}
	if (!isnull[KTABLE_OFFSET])
	{
		record->offset = DatumGetInt64(values[KTABLE_OFFSET]);
		if (record->offset < 0)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("offset must not be negative")));
	}
	if (!isnull[KTABLE_TIMESTAMP])
	{
		TimestampTz timestamp = DatumGetTimestampTz(values[KTABLE_TIMESTAMP]);

		record->timestamp = ktable_timestamp_to_ms(timestamp);
		record->timestamp_infinite = TIMESTAMP_NOT_FINITE(timestamp);

		/* One millisecond before 1970 is what Kafka writes for "none". */
		if (record->timestamp == KBATCH_NO_TIMESTAMP)
			record->timestamp = 0;
	}
	if (!isnull[KTABLE_KEY])
		record->key = ktable_datum_bytes(values[KTABLE_KEY], &record->key_len);
	if (!isnull[KTABLE_VALUE])
		record->value = ktable_datum_bytes(values[KTABLE_VALUE], &record->value_len);
	if (!isnull[KTABLE_HEADERS])
		ktable_record_headers(values[KTABLE_HEADERS], record);
}
