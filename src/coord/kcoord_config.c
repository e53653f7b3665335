/*
 * kcoord_config.c
 *		kafka.group_config: what groups have of their own in the place of the server's settings.
 *
 * Each process has all of it in memory, and reads it anew after an invalidation of the table,
 * which its trigger sends with every change.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "coord/kcoord.h"
#include "kguc.h"
#include "topic/kcatalog.h"

/* Kafka's, and settings of its own there. */
#define MIN_ASSIGNMENT_INTERVAL		0
#define MAX_ASSIGNMENT_INTERVAL		15000

static const int min_assignment_interval = MIN_ASSIGNMENT_INTERVAL;
static const int max_assignment_interval = MAX_ASSIGNMENT_INTERVAL;

const KCoordConfigDef kcoord_config_defs[KCOORD_CONFIGS] = {
	{"consumer.assignment.interval.ms", "group.consumer.assignment.interval.ms",
		&kguc_group_consumer_assignment_interval, &min_assignment_interval,
		&max_assignment_interval,
	"Shortest time from one assignment of the group's partitions to the next."},
	{"consumer.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms",
		&kguc_group_consumer_heartbeat_interval, &kguc_group_consumer_min_heartbeat_interval,
		&kguc_group_consumer_max_heartbeat_interval,
	"Time between heartbeats that the group's members are told."},
	{"consumer.session.timeout.ms", "group.consumer.session.timeout.ms",
		&kguc_group_consumer_session_timeout, &kguc_group_consumer_min_session_timeout,
		&kguc_group_consumer_max_session_timeout,
	"Time after which a silent member of the group is out."}
};

typedef struct ConfigEntry
{
	KStr		group_id;		/* key */
	KCoordConfig config;
} ConfigEntry;

static MemoryContext config_context;
static HTAB *configs;			/* NULL: never read */
static bool stale;				/* to be read again */
static Oid	config_relid;
static bool registered;

static uint32
hash_id(const void *key, Size size)
{
	const KStr *id = key;

	return hash_bytes((const unsigned char *) id->data, id->len);
}

static int
compare_ids(const void *a, const void *b, Size size)
{
	const KStr *x = a;
	const KStr *y = b;

	return x->len != y->len || memcmp(x->data, y->data, x->len) != 0;
}

static void
config_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == config_relid)
		stale = true;
}

/* As a number in JSON, or a string of digits; false: neither. */
static bool
value_int(const JsonbValue *value, int32 *result)
{
	char	   *text = NULL;
	char	   *end;
	long		number;

	if (value->type == jbvNumeric)
		text = DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	else if (value->type == jbvString)
		text = pnstrdup(value->val.string.val, value->val.string.len);
	if (text == NULL || *text == '\0')
		return false;
	errno = 0;
	number = strtol(text, &end, 10);
	*result = (int32) number;
	return *end == '\0' && errno == 0 && number >= 0 && number <= PG_INT32_MAX;
}

bool
kcoord_config_value(Jsonb *json, int i, int32 *value)
{
	const char *name = kcoord_config_defs[i].name;
	JsonbValue	found;

	*value = -1;
	if (!JB_ROOT_IS_OBJECT(json) ||
		getKeyJsonValueFromContainer(&json->root, name, strlen(name), &found) == NULL)
		return true;
	if (value_int(&found, value))
		return true;
	*value = -1;
	return false;
}

static void
add_config(HTAB *loading, TupleDesc desc, HeapTuple tuple)
{
	bool		isnull;
	ConfigEntry *entry;
	text	   *id = DatumGetTextPP(heap_getattr(tuple, Anum_group_config_group_id, desc, &isnull));
	Jsonb	   *json = DatumGetJsonbP(heap_getattr(tuple, Anum_group_config_config, desc,
												   &isnull));
	KStr		key;

	key.len = (int32) VARSIZE_ANY_EXHDR(id);
	key.data = pnstrdup(VARDATA_ANY(id), key.len);
	entry = hash_search(loading, &key, HASH_ENTER, NULL);
	for (int i = 0; i < KCOORD_CONFIGS; i++)
	{
		int32		value;

		/* bounds that have changed since then cut it */
		if (kcoord_config_value(json, i, &value) && value >= 0)
			value = Max(*kcoord_config_defs[i].min, Min(value, *kcoord_config_defs[i].max));
		entry->config.values[i] = value;
	}
}

bool
kcoord_config_load(bool *busy)
{
	HASHCTL		ctl = {0};
	MemoryContext old;
	KCoordTable table;
	SysScanDesc scan;
	HeapTuple	tuple;
	HTAB	   *loading;

	*busy = false;
	if (configs != NULL && !stale)
		return true;
	if (!registered)
	{
		CacheRegisterRelcacheCallback(config_changed, (Datum) 0);
		config_context = AllocSetContextCreate(TopMemoryContext, "kafka group configs",
											   ALLOCSET_SMALL_SIZES);
		registered = true;
	}
	if (!kcoord_table_open("group_config", "group_config_pkey", Anum_group_config_config,
						   AccessShareLock, &table, busy))
		return false;
	config_relid = RelationGetRelid(table.rel);
	configs = NULL;
	stale = false;				/* an invalidation may come while it is read */
	MemoryContextReset(config_context);
	old = MemoryContextSwitchTo(config_context);
	ctl.keysize = sizeof(KStr);
	ctl.entrysize = sizeof(ConfigEntry);
	ctl.hash = hash_id;
	ctl.match = compare_ids;
	ctl.hcxt = config_context;
	loading = hash_create("kafka group configs", 16, &ctl,
						  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	scan = systable_beginscan(table.rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		add_config(loading, RelationGetDescr(table.rel), tuple);
	systable_endscan(scan);
	MemoryContextSwitchTo(old);
	kcoord_table_close(&table);
	configs = loading;
	*busy = stale;
	return !stale;
}

const KCoordConfig *
kcoord_config_find(KStr group_id)
{
	ConfigEntry *entry = configs == NULL || stale ? NULL :
		hash_search(configs, &group_id, HASH_FIND, NULL);

	return entry == NULL ? NULL : &entry->config;
}

void
kcoord_config_apply(KStr group_id, KGroupConfig *config)
{
	const KCoordConfig *own = kcoord_config_find(group_id);
	int32	   *const places[KCOORD_CONFIGS] = {
		&config->assignment_interval_ms, &config->consumer_heartbeat_ms,
		&config->consumer_session_timeout_ms
	};

	for (int i = 0; own != NULL && i < KCOORD_CONFIGS; i++)
	{
		if (own->values[i] >= 0)
			*places[i] = own->values[i];
	}
}
