/*
 * ktopic_config.c
 *		Topic configs: the ones Kafka 4.3 knows, their types, defaults and limits.
 *
 * From SQL a value comes as a JSON scalar, or a list as an array, from clients as text.  It is
 * kept as it was given and parsed as Kafka parses text, so that "1000" and 1000 are the same.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "topic/ktopic.h"

/* One config with what is needed to check it and, where the server acts upon it, to store it. */
typedef struct ConfigRule
{
	KTopicConfigDef def;
	double		min;			/* numbers */
	double		max;
	const char *valid;			/* strings and lists: the allowed words, separated by blanks */
	bool		(*check) (const char *value);	/* what else must hold, or NULL ... */
	const char *expected;		/* ... and the words for it */
	int			field;			/* offset in KTopicConfig of the number or boolean, or -1 */
} ConfigRule;

#define NO_FIELD	(-1)
#define FIELD(name) ((int) offsetof(KTopicConfig, name))

#define NUMBER(name, type, default, min, max, field, doc) \
	{{name, type, default, doc}, min, max, NULL, NULL, NULL, field}
#define INT(name, default, min, max, field, doc) \
	NUMBER(name, KCONFIG_INT, default, min, max, field, doc)
#define LONG(name, default, min, field, doc) \
	NUMBER(name, KCONFIG_LONG, default, min, INFINITY, field, doc)
#define BOOL(name, doc) \
	{{name, KCONFIG_BOOLEAN, "false", doc}, 0, 0, NULL, NULL, NULL, NO_FIELD}
#define WORD(name, default, valid, doc) \
	{{name, KCONFIG_STRING, default, doc}, 0, 0, valid, NULL, NULL, NO_FIELD}

static bool is_replica_list(const char *value);
static bool is_zlib_level(const char *value);
static bool is_false(const char *value);

#define REPLICAS "either * or a list of partition:broker"

/* Ordered by name: KTopicConfigDefs are handed out in this order. */
static const ConfigRule rules[] = {
	{{"cleanup.policy", KCONFIG_LIST, "delete",
	"Whether old segments are deleted, compacted by key, or both."},
	0, 0, "compact delete", NULL, NULL, NO_FIELD},
	{{"compression.gzip.level", KCONFIG_INT, "-1",
	"Level used when compression.type is gzip."},
	-1, 9, NULL, is_zlib_level, "-1 or between 1 and 9", FIELD(compression_gzip_level)},
	INT("compression.lz4.level", "9", 1, 17, FIELD(compression_lz4_level),
		"Level used when compression.type is lz4."),
	WORD("compression.type", "producer", "uncompressed zstd lz4 snappy gzip producer",
		 "Codec that batches are stored in; producer keeps them as they came."),
	INT("compression.zstd.level", "3", -131072, 22, FIELD(compression_zstd_level),
		"Level used when compression.type is zstd."),
	LONG("delete.retention.ms", "86400000", 0, FIELD(delete_retention_ms),
		 "How long compaction keeps a tombstone."),
	LONG("file.delete.delay.ms", "60000", 0, NO_FIELD,
		 "Kept for clients; space is freed when no reader needs it."),
	LONG("flush.messages", "9223372036854775807", 1, NO_FIELD,
		 "Kept for clients; every acknowledged record is flushed."),
	LONG("flush.ms", "9223372036854775807", 0, NO_FIELD,
		 "Kept for clients; every acknowledged record is flushed."),
	{{"follower.replication.throttled.replicas", KCONFIG_LIST, "",
	"Kept for clients; replication is Postgres'."},
	0, 0, NULL, is_replica_list, REPLICAS, NO_FIELD},
	INT("index.interval.bytes", "4096", 0, INT_MAX, NO_FIELD,
		"Kept for clients; there is no index file."),
	{{"internal.segment.bytes", KCONFIG_INT, NULL,
	"Overrides segment.bytes without its lower limit; for tests."},
	1, INT_MAX, NULL, NULL, NULL, NO_FIELD},
	{{"leader.replication.throttled.replicas", KCONFIG_LIST, "",
	"Kept for clients; replication is Postgres'."},
	0, 0, NULL, is_replica_list, REPLICAS, NO_FIELD},
	LONG("local.retention.bytes", "-2", -2, NO_FIELD,
		 "Kept for clients; there is no tiered storage."),
	LONG("local.retention.ms", "-2", -2, NO_FIELD,
		 "Kept for clients; there is no tiered storage."),
	LONG("max.compaction.lag.ms", "9223372036854775807", 1, FIELD(max_compaction_lag_ms),
		 "After this time a record must be compacted."),
	INT("max.message.bytes", "1048588", 0, INT_MAX, FIELD(max_message_bytes),
		"Largest record batch that is accepted, after compression."),
	LONG("message.timestamp.after.max.ms", "3600000", 0, FIELD(timestamp_after_max_ms),
		 "How far ahead of the server's clock a record's timestamp may be."),
	LONG("message.timestamp.before.max.ms", "9223372036854775807", 0,
		 FIELD(timestamp_before_max_ms),
		 "How far behind the server's clock a record's timestamp may be."),
	WORD("message.timestamp.type", "CreateTime", "CreateTime LogAppendTime",
		 "Whether timestamps are the producer's or the server's."),
	NUMBER("min.cleanable.dirty.ratio", KCONFIG_DOUBLE, "0.5", 0, 1,
		   FIELD(min_cleanable_dirty_ratio),
		   "Share of records not yet compacted from which on it is worth while."),
	LONG("min.compaction.lag.ms", "0", 0, FIELD(min_compaction_lag_ms),
		 "Before this time a record is not compacted."),
	INT("min.insync.replicas", "1", 1, INT_MAX, FIELD(min_insync_replicas),
		"Replicas that must have a batch before acks=all is answered."),
	BOOL("preallocate", "Kept for clients; space is always made ahead of need."),
	BOOL("remote.log.copy.disable", "Kept for clients; there is no tiered storage."),
	BOOL("remote.log.delete.on.disable", "Kept for clients; there is no tiered storage."),
	{{"remote.storage.enable", KCONFIG_BOOLEAN, "false", "There is no tiered storage."},
	0, 0, NULL, is_false, "false: there is no tiered storage", NO_FIELD},
	LONG("retention.bytes", "-1", -INFINITY, FIELD(retention_bytes),
		 "Size of a partition beyond which its oldest segments are deleted; -1: no limit."),
	LONG("retention.ms", "604800000", -1, FIELD(retention_ms),
		 "Age beyond which segments are deleted; -1: no limit."),
	INT("segment.bytes", "1073741824", 1048576, INT_MAX, NO_FIELD,
		"Size at which a new segment is begun."),
	INT("segment.index.bytes", "10485760", 4, INT_MAX, NO_FIELD,
		"Kept for clients; there is no index file."),
	LONG("segment.jitter.ms", "0", 0, NO_FIELD,
		 "Kept for clients; segments do not end all at once here."),
	LONG("segment.ms", "604800000", 1, FIELD(segment_ms),
		 "Age at which a new segment is begun."),
	BOOL("unclean.leader.election.enable", "Kept for clients; promotion is Postgres'.")
};

/* What a value turned out to be. */
typedef struct ConfigValue
{
	bool		boolean;
	int64		integer;
	double		number;
	List	   *words;			/* of palloc'd strings */
} ConfigValue;

static const ConfigRule *
find_rule(const char *name)
{
	for (int i = 0; i < (int) lengthof(rules); i++)
		if (strcmp(rules[i].def.name, name) == 0)
			return &rules[i];
	return NULL;
}

const KTopicConfigDef *const *
ktopic_config_defs(int *n)
{
	static const KTopicConfigDef *defs[lengthof(rules)];

	for (int i = 0; i < (int) lengthof(rules); i++)
		defs[i] = &rules[i].def;
	*n = lengthof(rules);
	return defs;
}

static bool
is_replica_list(const char *value)
{
	if (strcmp(value, "*") == 0)
		return true;
	while (*value != '\0')
	{
		const char *colon = value + strspn(value, "0123456789");
		const char *end = colon;

		if (*colon == ':')
			end = colon + 1 + strspn(colon + 1, "0123456789");
		if (end != value && (colon == value || *colon != ':' || end == colon + 1))
			return false;
		if (*end != ',' && *end != '\0')
			return false;
		value = *end == ',' ? end + 1 : end;
	}
	return true;
}

static bool
is_zlib_level(const char *value)
{
	return strtol(value, NULL, 10) != 0;
}

static bool
is_false(const char *value)
{
	return pg_strcasecmp(value, "false") == 0;
}

/* A copy without the white space around it, as Java's trim() understands it. */
static char *
trimmed(const char *value)
{
	size_t		len = strlen(value);

	while (len > 0 && (unsigned char) value[len - 1] <= ' ')
		len--;
	while (len > 0 && (unsigned char) *value <= ' ')
	{
		value++;
		len--;
	}
	return pnstrdup(value, len);
}

static bool
is_word_of(const char *word, const char *words)
{
	size_t		len = strlen(word);

	while (*words != '\0')
	{
		size_t		n = strcspn(words, " ");

		if (n == len && memcmp(word, words, n) == 0)
			return true;
		words += n;
		words += strspn(words, " ");
	}
	return false;
}

static char *
words_with_commas(const char *words)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (; *words != '\0'; words++)
	{
		if (*words == ' ')
			appendStringInfoChar(&buf, ',');
		appendStringInfoChar(&buf, *words);
	}
	return buf.data;
}

/* Splits at commas, without the white space beside them; "" is an empty list. */
static List *
split_list(const char *value)
{
	List	   *words = NIL;

	if (*value == '\0')
		return NIL;
	for (;;)
	{
		size_t		n = strcspn(value, ",");

		words = lappend(words, trimmed(pnstrdup(value, n)));
		if (value[n] == '\0')
			return words;
		value += n + 1;
	}
}

/* Digits with an optional sign, and in range of int64: what Java's parseLong takes. */
static bool
parse_integer(const char *value, int64 *result)
{
	const char *digits = value + (*value == '-' || *value == '+');
	char	   *end;

	if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
		return false;
	errno = 0;
	*result = strtoll(value, &end, 10);
	return errno == 0;
}

static bool
parse_double(const char *value, double *result)
{
	char	   *end;

	/* Not what C takes beyond decimal numbers: hexadecimals, infinity, nan. */
	if (*value == '\0' || value[strspn(value, "0123456789+-.eE")] != '\0')
		return false;
	errno = 0;
	*result = strtod(value, &end);
	return *end == '\0' && errno == 0;
}

static char *
check_number(const ConfigRule *rule, const char *value, double number)
{
	if (number < rule->min)
		return psprintf("Invalid value %s for configuration %s: Value must be at least %.0f",
						value, rule->def.name, rule->min);
	if (number > rule->max)
		return psprintf("Invalid value %s for configuration %s: Value must be no more than %.0f",
						value, rule->def.name, rule->max);
	return NULL;
}

static char *
check_words(const ConfigRule *rule, const char *value, List *words)
{
	ListCell   *lc;

	foreach(lc, words)
	{
		const char *word = lfirst(lc);

		if (*word == '\0')
			return psprintf("Configuration '%s' values must not be empty.", rule->def.name);
		for (int i = 0; i < foreach_current_index(lc); i++)
			if (strcmp(word, list_nth(words, i)) == 0)
				return psprintf("Configuration '%s' values must not be duplicated.",
								rule->def.name);
		if (rule->valid != NULL && !is_word_of(word, rule->valid))
			return psprintf("Invalid value %s for configuration %s: String must be one of: %s",
							value, rule->def.name, words_with_commas(rule->valid));
	}
	return NULL;
}

/* Returns NULL and the value, or what is wrong with it. */
static char *
parse_value(const ConfigRule *rule, const char *value, ConfigValue *result)
{
	const char *name = rule->def.name;
	char	   *problem = NULL;

	value = trimmed(value);
	switch (rule->def.type)
	{
		case KCONFIG_BOOLEAN:
			result->boolean = pg_strcasecmp(value, "true") == 0;
			if (!result->boolean && pg_strcasecmp(value, "false") != 0)
				problem = psprintf("Invalid value %s for configuration %s: "
								   "Expected value to be either true or false", value, name);
			break;
		case KCONFIG_INT:
		case KCONFIG_LONG:
			if (!parse_integer(value, &result->integer) ||
				(rule->def.type == KCONFIG_INT &&
				 (result->integer < INT_MIN || result->integer > INT_MAX)))
				problem = psprintf("Invalid value %s for configuration %s: Not a number of type %s",
								   value, name, rule->def.type == KCONFIG_INT ? "INT" : "LONG");
			else
				problem = check_number(rule, value, (double) result->integer);
			break;
		case KCONFIG_DOUBLE:
			if (!parse_double(value, &result->number))
				problem = psprintf("Invalid value %s for configuration %s: "
								   "Not a number of type DOUBLE", value, name);
			else
				problem = check_number(rule, value, result->number);
			break;
		case KCONFIG_STRING:
			result->words = list_make1(unconstify(char *, value));
			problem = check_words(rule, value, result->words);
			break;
		case KCONFIG_LIST:
			result->words = split_list(value);
			problem = check_words(rule, value, result->words);
			break;
	}
	if (problem == NULL && rule->check != NULL && !rule->check(value))
		problem = psprintf("Invalid value %s for configuration %s: Value must be %s",
						   value, name, rule->expected);
	return problem;
}

static bool
list_has(List *words, const char *word)
{
	ListCell   *lc;

	foreach(lc, words)
		if (strcmp(lfirst(lc), word) == 0)
		return true;
	return false;
}

/* Stores a value that has been found good. */
static void
store_value(const ConfigRule *rule, const ConfigValue *value, KTopicConfig *config)
{
	const char *name = rule->def.name;
	char	   *field = (char *) config + rule->field;

	if (strcmp(name, "cleanup.policy") == 0)
	{
		config->cleanup_compact = list_has(value->words, "compact");
		config->cleanup_delete = list_has(value->words, "delete");
	}
	else if (strcmp(name, "compression.type") == 0)
	{
		static const char *const codecs[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};

		config->compression_type = KCOMPRESSION_PRODUCER;
		for (int i = 0; i < (int) lengthof(codecs); i++)
			if (list_has(value->words, codecs[i]))
				config->compression_type = (KCompressionType) i;
	}
	else if (strcmp(name, "message.timestamp.type") == 0)
		config->log_append_time = list_has(value->words, "LogAppendTime");
	else if (strcmp(name, "segment.bytes") == 0 || strcmp(name, "internal.segment.bytes") == 0)
		/* With both given the internal one comes last: jsonb orders short keys first. */
		config->segment_bytes = value->integer;
	else if (rule->field == NO_FIELD)
		return;
	else if (rule->def.type == KCONFIG_INT)
		*(int32 *) field = (int32) value->integer;
	else if (rule->def.type == KCONFIG_LONG)
		*(int64 *) field = value->integer;
	else
		*(double *) field = value->number;
}

void
ktopic_config_defaults(KTopicConfig *config)
{
	static KTopicConfig defaults;
	static bool known = false;

	for (int i = 0; !known && i < (int) lengthof(rules); i++)
	{
		ConfigValue value = {0};

		if (rules[i].def.default_value == NULL)
			continue;
		if (parse_value(&rules[i], rules[i].def.default_value, &value) != NULL)
			elog(ERROR, "bad default of topic config \"%s\"", rules[i].def.name);
		store_value(&rules[i], &value, &defaults);
	}
	known = true;
	*config = defaults;
}

/*
 * The text of a JSON value: scalars as they are written, an array of scalars as a list.  NULL for
 * null, objects and nested arrays.
 */
static char *
json_value_text(JsonbValue *v)
{
	switch (v->type)
	{
		case jbvString:
			return pnstrdup(v->val.string.val, v->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(v->val.numeric)));
		case jbvBool:
			return pstrdup(v->val.boolean ? "true" : "false");
		case jbvBinary:
			{
				JsonbIterator *it = JsonbIteratorInit(v->val.binary.data);
				JsonbValue	element;
				JsonbIteratorToken token;
				StringInfoData buf;

				if (JsonbIteratorNext(&it, &element, true) != WJB_BEGIN_ARRAY)
					return NULL;
				initStringInfo(&buf);
				while ((token = JsonbIteratorNext(&it, &element, true)) == WJB_ELEM)
				{
					char	   *text;

					if (element.type == jbvBinary ||
						(text = json_value_text(&element)) == NULL)
						return NULL;
					if (buf.len > 0)
						appendStringInfoChar(&buf, ',');
					appendStringInfoString(&buf, text);
				}
				return buf.data;
			}
		default:
			return NULL;
	}
}

char	   *
ktopic_config_parse(Jsonb *json, KTopicConfig *config)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *first = NULL;

	ktopic_config_defaults(config);
	if (!JB_ROOT_IS_OBJECT(json))
		return pstrdup("Topic configs must be a JSON object");

	it = JsonbIteratorInit(&json->root);
	token = JsonbIteratorNext(&it, &v, true);
	while ((token = JsonbIteratorNext(&it, &v, true)) == WJB_KEY)
	{
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);
		const ConfigRule *rule = find_rule(name);
		ConfigValue value = {0};
		char	   *text;
		char	   *problem;

		(void) JsonbIteratorNext(&it, &v, true);
		if (rule == NULL)
			problem = psprintf("Unknown topic config name: %s", name);
		else if ((text = json_value_text(&v)) == NULL)
			problem = psprintf("Invalid value for configuration %s: "
							   "Value must be a string, a number, a boolean or a list of them", name);
		else if ((problem = parse_value(rule, text, &value)) == NULL)
			store_value(rule, &value, config);
		if (problem != NULL && first == NULL)
			first = problem;
	}

	if (first == NULL && config->min_compaction_lag_ms > config->max_compaction_lag_ms)
		first = psprintf("conflict topic config setting min.compaction.lag.ms (" INT64_FORMAT
						 ") > max.compaction.lag.ms (" INT64_FORMAT ")",
						 config->min_compaction_lag_ms, config->max_compaction_lag_ms);
	return first;
}

char	   *
ktopic_config_value(Jsonb *json, const KTopicConfigDef *def, bool *is_default)
{
	JsonbValue	v;

	*is_default = getKeyJsonValueFromContainer(&json->root, def->name, strlen(def->name),
											   &v) == NULL;
	if (*is_default)
		return def->default_value != NULL ? pstrdup(def->default_value) : NULL;
	return json_value_text(&v);
}

Jsonb	   *
ktopic_config_build(int n, const char *const *names, const char *const *values)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	v = {.type = jbvString};

		if (values[i] == NULL)
			continue;
		v.val.string.val = unconstify(char *, names[i]);
		v.val.string.len = strlen(names[i]);
		(void) pushJsonbValue(&state, WJB_KEY, &v);
		v.val.string.val = unconstify(char *, values[i]);
		v.val.string.len = strlen(values[i]);
		(void) pushJsonbValue(&state, WJB_VALUE, &v);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
