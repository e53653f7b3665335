/*
 * fake_values.c
 *		Lists, numbers and jsonb of the fake server.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "fake.h"

/* ------------------------------------------------------------------------
 * Lists
 * ------------------------------------------------------------------------
 */

List *
lappend(List *list, void *datum)
{
	if (list == NIL)
	{
		list = palloc0(sizeof(List));
		list->type = T_List;
	}
	if (list->length == list->max_length)
	{
		int			room = list->max_length == 0 ? 4 : list->max_length * 2;
		ListCell   *cells = palloc(room * sizeof(ListCell));

		if (list->length > 0)
		{
			memcpy(cells, list->elements, list->length * sizeof(ListCell));
			pfree(list->elements);
		}
		list->elements = cells;
		list->max_length = room;
	}
	list->elements[list->length++].ptr_value = datum;
	return list;
}

List *
list_make1_impl(NodeTag t, ListCell datum)
{
	return lappend(NIL, datum.ptr_value);
}

/* ------------------------------------------------------------------------
 * Numbers and texts
 * ------------------------------------------------------------------------
 */

pg_prng_state pg_global_prng_state;

/* Session ids follow each other, so that an input can name them. */
uint64
pg_prng_uint64_range(pg_prng_state *state, uint64 rmin, uint64 rmax)
{
	return rmin + state->s0++ % (rmax - rmin + 1);
}

Datum
numeric_out(PG_FUNCTION_ARGS)
{
	return PG_GETARG_DATUM(0);
}

/* Only numeric_out is called; a number is its text here. */
Datum
DirectFunctionCall1Coll(PGFunction func, Oid collation, Datum arg1)
{
	return CStringGetDatum(pstrdup(DatumGetCString(arg1)));
}

bool
pg_verify_mbstr(int encoding, const char *text, int len, bool noError)
{
	return pg_encoding_verifymbstr(PG_UTF8, text, len) == len;
}

/* ------------------------------------------------------------------------
 * jsonb: an array of values, which the container points to
 * ------------------------------------------------------------------------
 */

static JsonbValue *
values_of(const JsonbContainer *container)
{
	JsonbValue *values;

	memcpy(&values, container->children, sizeof(values));
	return values;
}

static Jsonb *
make(uint32 kind, JsonbValue *values, int n)
{
	Size		size = offsetof(Jsonb, root) + offsetof(JsonbContainer, children) + sizeof(values);
	Jsonb	   *json = palloc(size);

	SET_VARSIZE(json, size);
	json->root.header = kind | n;
	memcpy(json->root.children, &values, sizeof(values));
	return json;
}

Jsonb *
fake_jsonb(int n, char *const *names, char *const *values)
{
	JsonbValue *all = palloc0(Max(2 * n, 1) * sizeof(JsonbValue));

	for (int i = 0; i < n; i++)
	{
		JsonbValue *key = &all[2 * i];
		JsonbValue *value = key + 1;

		key->type = value->type = jbvString;
		key->val.string.val = names[i];
		key->val.string.len = strlen(names[i]);
		value->val.string.val = values[i];
		value->val.string.len = strlen(values[i]);
		if (values[i][0] >= '0' && values[i][0] <= '9')
		{
			value->type = jbvNumeric;
			value->val.numeric = (Numeric) values[i];
		}
		else if (strcmp(values[i], "true") == 0 || strcmp(values[i], "null") == 0)
		{
			value->type = values[i][0] == 't' ? jbvBool : jbvNull;
			value->val.boolean = true;
		}
		else if (values[i][0] == '[')
		{
			JsonbValue *words = palloc0(strlen(values[i]) * sizeof(JsonbValue));
			int			count = 0;

			for (char *word = values[i] + 1; *word != '\0'; word += strcspn(word, ","))
			{
				word += *word == ',';
				words[count].type = jbvString;
				words[count].val.string.val = word;
				words[count++].val.string.len = strcspn(word, ",");
			}
			value->type = jbvBinary;
			value->val.binary.data = &make(JB_FARRAY, words, count)->root;
		}
	}
	return make(JB_FOBJECT, all, n);
}

JsonbIterator *
JsonbIteratorInit(JsonbContainer *container)
{
	JsonbIterator *it = palloc0(sizeof(JsonbIterator));

	it->container = container;
	it->nElems = container->header & JB_CMASK;
	it->curIndex = -1;
	return it;
}

JsonbIteratorToken
JsonbIteratorNext(JsonbIterator **itp, JsonbValue *value, bool skip_nested)
{
	JsonbIterator *it = *itp;
	bool		object = (it->container->header & JB_FOBJECT) != 0;
	int			i = it->curIndex++;

	if (i < 0)
		return object ? WJB_BEGIN_OBJECT : WJB_BEGIN_ARRAY;
	if (i == (int) it->nElems * (object ? 2 : 1))
	{
		*itp = NULL;
		return object ? WJB_END_OBJECT : WJB_END_ARRAY;
	}
	*value = values_of(it->container)[i];
	return !object ? WJB_ELEM : i % 2 == 0 ? WJB_KEY : WJB_VALUE;
}

JsonbValue *
getKeyJsonValueFromContainer(JsonbContainer *container, const char *name, int len,
							 JsonbValue *result)
{
	JsonbValue *values = values_of(container);

	for (uint32 i = 0; i < (container->header & JB_CMASK); i++)
	{
		if (values[2 * i].val.string.len == len &&
			memcmp(values[2 * i].val.string.val, name, len) == 0)
		{
			if (result == NULL)
				result = palloc(sizeof(JsonbValue));
			*result = values[2 * i + 1];
			return result;
		}
	}
	return NULL;
}

/* One object without others in it is all that is built. */
JsonbValue *
pushJsonbValue(JsonbParseState **state, JsonbIteratorToken token, JsonbValue *value)
{
	JsonbValue *object;

	if (token == WJB_BEGIN_OBJECT)
		*state = palloc0(sizeof(JsonbParseState));
	object = &(*state)->contVal;
	object->type = jbvObject;
	if (token == WJB_KEY || token == WJB_VALUE)
	{
		int			n = object->val.object.nPairs;
		JsonbPair  *pairs = palloc((n + 1) * sizeof(JsonbPair));

		if (n > 0)
			memcpy(pairs, object->val.object.pairs, n * sizeof(JsonbPair));
		object->val.object.pairs = pairs;
		if (token == WJB_KEY)
			pairs[n].key = *value;
		else
		{
			pairs[n - 1].value = *value;
			return object;
		}
		/* the last one of a name counts */
		for (int i = 0; i < n; i++)
		{
			if (pairs[i].key.val.string.len == value->val.string.len &&
				memcmp(pairs[i].key.val.string.val, value->val.string.val,
					   value->val.string.len) == 0)
			{
				pairs[i] = pairs[n - 1];
				pairs[n - 1].key = *value;
				return object;
			}
		}
		object->val.object.nPairs = n + 1;
	}
	return object;
}

Jsonb *
JsonbValueToJsonb(JsonbValue *object)
{
	int			n = object->val.object.nPairs;
	JsonbValue *values = palloc(Max(2 * n, 1) * sizeof(JsonbValue));

	for (int i = 0; i < n; i++)
	{
		JsonbPair  *from = &object->val.object.pairs[i];
		JsonbValue *pair[2] = {&from->key, &from->value};

		for (int k = 0; k < 2; k++)
		{
			values[2 * i + k] = *pair[k];
			values[2 * i + k].val.string.val = pnstrdup(pair[k]->val.string.val,
														pair[k]->val.string.len);
		}
	}
	return make(JB_FOBJECT, values, n);
}

char *
JsonbToCString(StringInfo out, JsonbContainer *container, int estimated)
{
	return psprintf("{%u}", container->header & JB_CMASK);
}
