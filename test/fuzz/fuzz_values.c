/*
 * fuzz_values.c
 *		Small readers of bytes that others have written: topic configs, snapshots of producers,
 *		values that are shown as text or JSON in SQL.
 *
 * Input: a byte that chooses, then
 *
 * configs: names and values, each ended by a zero byte.  What was found good must be in its range.
 * snapshots: next_offset, and the column "state", whose checksum is made right.
 * values: the bytes.  As text they must be valid in the database's encoding.
 */
#include "fuzz_input.h"

#include "access/genam.h"
#include "access/table.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "fake.h"

/* Its parser is nobody's but its own; what it takes from there goes to the functions below. */
#define kproducer_snapshot_load real_snapshot_load
#define kproducer_snapshot_write real_snapshot_write
#include "../../src/txn/kproducer_snapshot.c"

extern Datum ksql_to_text(PG_FUNCTION_ARGS);
extern Datum ksql_to_jsonb(PG_FUNCTION_ARGS);

/* ------------------------------------------------------------------------
 * Of the server
 * ------------------------------------------------------------------------
 */

#define NEVER(declaration) \
declaration \
{ \
	fake_fail("%s was called", __func__); \
}

NEVER(Oid kcatalog_relation(const char *name))
NEVER(Relation try_table_open(Oid relid, LOCKMODE mode))
NEVER(void table_close(Relation rel, LOCKMODE mode))
NEVER(SysScanDesc systable_beginscan(Relation rel, Oid index, bool ok, Snapshot snapshot, int n,
									 ScanKey key))
NEVER(HeapTuple systable_getnext(SysScanDesc scan))
NEVER(void systable_endscan(SysScanDesc scan))
NEVER(void ScanKeyInit(ScanKey entry, AttrNumber n, StrategyNumber strategy, RegProcedure proc,
					   Datum argument))
NEVER(int SPI_connect(void))
NEVER(int SPI_finish(void))
NEVER(int SPI_execute_with_args(const char *src, int nargs, Oid *types, Datum *values,
								const char *nulls, bool read_only, long count))
NEVER(Snapshot GetTransactionSnapshot(void))
NEVER(Snapshot GetActiveSnapshot(void))
NEVER(void PushActiveSnapshot(Snapshot snapshot))
NEVER(void PopActiveSnapshot(void))
NEVER(Datum getmissingattr(TupleDesc desc, int n, bool *isnull))
NEVER(Datum nocachegetattr(HeapTuple tuple, int n, TupleDesc desc))
NEVER(Datum heap_getsysattr(HeapTuple tuple, int n, TupleDesc desc, bool *isnull))
NEVER(struct varlena *pg_detoast_datum_copy(struct varlena *datum))
NEVER(void deconstruct_array(ArrayType *array, Oid type, int len, bool byval, char align,
							 Datum **elements, bool **nulls, int *n))
NEVER(Datum GetAttributeByNum(HeapTupleHeader tuple, AttrNumber n, bool *isnull))
NEVER(struct HeapTupleHeaderData *DatumGetHeapTupleHeader(Datum datum))
NEVER(Datum jsonb_in(PG_FUNCTION_ARGS))

struct varlena *
pg_detoast_datum(struct varlena *datum)
{
	return datum;
}

struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	return datum;
}

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

text *
cstring_to_text_with_len(const char *s, int len)
{
	text	   *result = palloc(len + VARHDRSZ);

	SET_VARSIZE(result, len + VARHDRSZ);
	memcpy(VARDATA(result), s, len);
	return result;
}

/* As in pqformat.c: too few bytes are an error. */
static void
need(StringInfo msg, int n)
{
	if (n < 0 || n > msg->len - msg->cursor)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("insufficient data left in message")));
	msg->cursor += n;
}

int
pq_getmsgbyte(StringInfo msg)
{
	need(msg, 1);
	return (unsigned char) msg->data[msg->cursor - 1];
}

unsigned int
pq_getmsgint(StringInfo msg, int b)
{
	unsigned int value = 0;

	need(msg, b);
	for (int i = b; i > 0; i--)
		value = value << 8 | (unsigned char) msg->data[msg->cursor - i];
	return value;
}

int64
pq_getmsgint64(StringInfo msg)
{
	uint64		high = pq_getmsgint(msg, 4);

	return (int64) (high << 32 | pq_getmsgint(msg, 4));
}

/* ------------------------------------------------------------------------
 * Inputs
 * ------------------------------------------------------------------------
 */

static char *
next_string(Input *in)
{
	const char *begin = (const char *) in->data;
	size_t		len = strnlen(begin, in->left);
	char	   *copy = pnstrdup(begin, len);

	len = Min(len + 1, in->left);
	(void) take_bytes(in, &len);
	return copy;
}

static void
configs(Input *in)
{
	char	   *names[16];
	char	   *values[16];
	int			n = 0;
	int			ndefs;
	const KTopicConfigDef *const *defs = ktopic_config_defs(&ndefs);
	KTopicConfig config;
	Jsonb	   *json;
	char	   *problem;

	for (; n < 16 && in->left > 0; n++)
	{
		/* a byte may stand for a name: they are long */
		uint8		at = in->data[0];

		names[n] = next_string(in);
		if (at >= 0x80)
			names[n] = pstrdup(defs[at % ndefs]->name);
		values[n] = next_string(in);
	}
	json = fake_jsonb(n, names, values);
	problem = ktopic_config_parse(json, &config);
	if (problem == NULL &&
		(config.segment_bytes <= 0 || config.max_message_bytes < 0 ||
		 config.min_insync_replicas < 1 || config.retention_ms < -1 ||
		 config.compression_type < KCOMPRESSION_PRODUCER ||
		 config.compression_type > KCOMPRESSION_ZSTD))
		fake_fail("a config out of range was found good");
	for (int i = 0; i < ndefs; i++)
	{
		bool		is_default;
		char	   *value = ktopic_config_value(json, defs[i], &is_default);

		if (value != NULL && strlen(value) > 100000)
			fake_fail("a long value");
	}
	json = ktopic_config_build(n, (const char *const *) names, (const char *const *) values);
	(void) ktopic_config_parse(json, &config);
}

static void
snapshot(Input *in)
{
	KProducerPartition partition = {FAKE_FIRST_RELID, FAKE_FIRST_RELID, 0};
	KProducerTurn turn;
	int64		next_offset = (int64) take64(in);
	size_t		len = in->left;
	char	   *state = palloc(VARHDRSZ + len + 4);
	uint32		crc;

	memcpy(state + VARHDRSZ, in->data, len);
	crc = pg_hton32(checksum(&partition, next_offset, state + VARHDRSZ, len));
	memcpy(state + VARHDRSZ + len, &crc, 4);
	SET_VARSIZE(state, VARHDRSZ + len + 4);
	kproducer_rebuild_begin(&partition);
	if (load_state(&partition, next_offset, (bytea *) state, 1000))
	{
		KProducerEntry *entries = palloc(64 * sizeof(KProducerEntry));
		KBatchHeader header = {.producer_id = 1,.record_count = 1};
		KProducerBatch duplicate;
		int			n = kproducer_copy(&partition, entries, 64);

		for (int i = 0; i < Min(n, 64); i++)
		{
			if (entries[i].state.count < 0 || entries[i].state.count > KPRODUCER_BATCHES)
				fake_fail("a producer with %d batches", entries[i].state.count);
		}
		kproducer_rebuild_end(&partition, 1000);
		kproducer_turn_begin(&turn, &partition, 1000);
		(void) kproducer_check(&turn, &header, 0, &duplicate);
		(void) encode(&partition, next_offset, entries, Min(n, 64));
	}
	kproducer_forget(FAKE_FIRST_RELID);
}

static void
value(Input *in)
{
	LOCAL_FCINFO(fcinfo, 1);
	text	   *shown;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(cstring_to_text_with_len((const char *) in->data,
																	 (int) in->left));
	fcinfo->args[0].isnull = false;
	shown = DatumGetTextP(ksql_to_text(fcinfo));
	if (!pg_verify_mbstr(PG_UTF8, VARDATA_ANY(shown), VARSIZE_ANY_EXHDR(shown), true))
		fake_fail("a value is shown as what is not text");
	(void) ksql_to_jsonb(fcinfo);
}

static void
any(void *arg)
{
	Input	   *in = arg;

	switch (take8(in) % 3)
	{
		case 0:
			configs(in);
			break;
		case 1:
			snapshot(in);
			break;
		default:
			value(in);
			break;
	}
}

/* A snapshot that is cut off is an error, which a rebuild from the log follows. */
static bool
expected(int elevel, int code, const char *message)
{
	return elevel < ERROR || code == ERRCODE_PROTOCOL_VIOLATION;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	/* an exact copy: these readers are given no terminator */
	uint8	   *copy = malloc(Max(size, 1));
	Input		in = {copy, size};
	MemoryContext ctx;

	memcpy(copy, data, size);
	if (TopMemoryContext == NULL)
	{
		fake_start();
		fake_error_expected = expected;
		fake_begin(0);
		kproducer_shmem_init();
	}
	ctx = AllocSetContextCreate(TopMemoryContext, "input", ALLOCSET_DEFAULT_SIZES);
	CurrentMemoryContext = ctx;
	(void) fake_try(any, &in);
	CurrentMemoryContext = TopMemoryContext;
	MemoryContextDelete(ctx);
	fake_check_released();
	free(copy);
	return 0;
}
