/*
 * ksql_value.c
 *		Keys, values and headers as text and JSON, and back.
 *
 * A producer may store any bytes.  What reads them in a query must not fail because of one
 * record, so these functions show what is not text, and have NULL for what is not JSON.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/jsonapi.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "sql/ksql.h"

/*
 * What jsonb can hold, with room to spare: nesting within the default stack, numbers within
 * numeric, and all of it within jsonb's limit of 256 MB although a short number grows sixfold.
 */
#define JSON_MAX_DEPTH		1000
#define JSON_MAX_LENGTH		(32 * 1024 * 1024)
#define JSON_MAX_INTEGER	100000
#define JSON_MAX_FRACTION	16000

PG_FUNCTION_INFO_V1(ksql_to_text);
PG_FUNCTION_INFO_V1(ksql_to_jsonb);
PG_FUNCTION_INFO_V1(ksql_to_bytea);
PG_FUNCTION_INFO_V1(ksql_jsonb_to_bytea);
PG_FUNCTION_INFO_V1(ksql_header_value);
PG_FUNCTION_INFO_V1(ksql_header_text);

text *
ksql_bytes_to_text(const char *data, int len)
{
	StringInfoData out;
	int			pos = 0;

	if (pg_verify_mbstr(GetDatabaseEncoding(), data, len, true))
		return cstring_to_text_with_len(data, len);

	initStringInfo(&out);
	while (pos < len)
	{
		int			valid = pg_encoding_verifymbstr(GetDatabaseEncoding(), data + pos, len - pos);

		appendBinaryStringInfo(&out, data + pos, valid);
		pos += valid;
		if (pos < len)
			appendStringInfo(&out, "\\x%02x", (unsigned char) data[pos++]);
	}
	return cstring_to_text_with_len(out.data, out.len);
}

/* kafka.to_text(bytea) -> text */
Datum
ksql_to_text(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_TEXT_P(ksql_bytes_to_text(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

/* A JSON number that numeric could not hold clears *arg. */
static void
json_scalar(void *arg, char *token, JsonTokenType type)
{
	int			integer = 0;
	int			fraction = 0;
	long		exponent = 0;
	const char *p = token;

	if (type != JSON_TOKEN_NUMBER)
		return;
	if (*p == '-')
		p++;
	integer = strspn(p, "0123456789");
	p += integer;
	if (*p == '.')
	{
		fraction = strspn(p + 1, "0123456789");
		p += 1 + fraction;
	}
	if (*p == 'e' || *p == 'E')
		exponent = strtol(p + 1, NULL, 10); /* saturates */
	if (exponent > JSON_MAX_INTEGER || exponent < -JSON_MAX_FRACTION ||
		integer + exponent > JSON_MAX_INTEGER || fraction - exponent > JSON_MAX_FRACTION)
		*(bool *) arg = false;
}

/* Is the text one that jsonb_in takes? */
static bool
is_json(char *data, int len)
{
	JsonSemAction actions = {0};
	JsonLexContext *lex;
	bool		fits = true;
	bool		in_string = false;
	int			depth = 0;

	if (len > JSON_MAX_LENGTH || !pg_verify_mbstr(GetDatabaseEncoding(), data, len, true))
		return false;

	/* Before the parser, which uses the stack for nesting. */
	for (int i = 0; i < len; i++)
	{
		if (in_string)
		{
			if (data[i] == '\\')
				i++;
			else if (data[i] == '"')
				in_string = false;
		}
		else if (data[i] == '"')
			in_string = true;
		else if ((data[i] == '[' || data[i] == '{') && ++depth > JSON_MAX_DEPTH)
			return false;
		else if (data[i] == ']' || data[i] == '}')
			depth--;
	}

	/* With the escapes looked at: they can stand for what text cannot have. */
	lex = makeJsonLexContextCstringLen(data, len, GetDatabaseEncoding(), true);
	actions.semstate = &fits;
	actions.scalar = json_scalar;
	return pg_parse_json(lex, &actions) == JSON_SUCCESS && fits;
}

/* kafka.to_jsonb(bytea) -> jsonb, NULL when the bytes are not JSON */
Datum
ksql_to_jsonb(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	int			len = VARSIZE_ANY_EXHDR(bytes);
	char	   *data = palloc(len + 1);

	/* not pnstrdup(), whose copy ends with the first zero byte */
	memcpy(data, VARDATA_ANY(bytes), len);
	data[len] = '\0';
	if (!is_json(data, len))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(data)));
}

/* kafka.to_bytea(text), kafka.to_bytea(json) -> bytea: the bytes as they are */
Datum
ksql_to_bytea(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(PointerGetDatum(PG_GETARG_VARLENA_PP(0)));
}

/* kafka.to_bytea(jsonb) -> bytea */
Datum
ksql_jsonb_to_bytea(PG_FUNCTION_ARGS)
{
	Jsonb	   *json = PG_GETARG_JSONB_P(0);
	StringInfoData out;

	initStringInfo(&out);
	(void) JsonbToCString(&out, &json->root, VARSIZE(json));
	PG_RETURN_BYTEA_P((bytea *) cstring_to_text_with_len(out.data, out.len));
}

/*
 * The value of the last header with this key, as Kafka's clients choose among several; false when
 * there is none, or its value is null.
 */
static bool
find_header(FunctionCallInfo fcinfo, bytea **value)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	text	   *key = PG_GETARG_TEXT_PP(1);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elements, &nulls, &n);
	while (--n >= 0)
	{
		HeapTupleHeader header;
		text	   *found;
		bool		isnull;
		Datum		datum;

		if (nulls[n])
			continue;
		header = DatumGetHeapTupleHeader(elements[n]);
		datum = GetAttributeByNum(header, 1, &isnull);
		if (isnull)
			continue;
		found = DatumGetTextPP(datum);
		if (VARSIZE_ANY_EXHDR(found) != VARSIZE_ANY_EXHDR(key) ||
			memcmp(VARDATA_ANY(found), VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)) != 0)
			continue;
		datum = GetAttributeByNum(header, 2, &isnull);
		if (isnull)
			return false;
		*value = DatumGetByteaPP(datum);
		return true;
	}
	return false;
}

/* kafka.header_value(headers kafka.header[], key text) -> bytea */
Datum
ksql_header_value(PG_FUNCTION_ARGS)
{
	bytea	   *value;

	if (!find_header(fcinfo, &value))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(value);
}

/* kafka.header_text(headers kafka.header[], key text) -> text */
Datum
ksql_header_text(PG_FUNCTION_ARGS)
{
	bytea	   *value;

	if (!find_header(fcinfo, &value))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(ksql_bytes_to_text(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)));
}
