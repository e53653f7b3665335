/*
 * ktopic_cache.c
 *		Each process's cache of kafka.topic.
 *
 * Filled one topic at a time, by scans like those of the system catalogs (the newest committed
 * row, the transaction's own changes included), and thrown away whole when a relcache invalidation
 * for kafka.topic arrives: its triggers and ktopic.c send one with every change, so it reaches
 * other processes when the change commits and this one at once.
 *
 * What callers hold must outlive an invalidation, which can arrive with any lock that is
 * taken: thrown-away generations are kept until the end of the transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_collation.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "topic/kcatalog.h"
#include "topic/ktopic.h"
#include "topic/ktopic_ddl.h"

typedef struct NameEntry
{
	char		name[KTOPIC_NAME_MAX + 1];	/* hash key */
	const KTopic *topic;
} NameEntry;

typedef struct IdEntry
{
	pg_uuid_t	id;				/* hash key */
	const KTopic *topic;
} IdEntry;

typedef struct RelidEntry
{
	Oid			relid;			/* hash key */
	const KTopic *topic;
} RelidEntry;

static struct
{
	MemoryContext current;		/* holds the tables and all they point to; NULL: empty */
	MemoryContext retired;		/* parent of generations that callers may still look at */
	HTAB	   *by_name;
	HTAB	   *by_id;
	HTAB	   *by_relid;
	bool		complete;		/* every topic is in it */
	bool		stale;			/* an invalidation came: throw away before the next use */
	Oid			catalog;		/* kafka.topic, as of when the generation was begun */
} cache;

static void
cache_relcache_callback(Datum arg, Oid relid)
{
	if (cache.current == NULL || (OidIsValid(relid) && relid != cache.catalog))
		return;
	cache.		stale = true;
}

static void
cache_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			if (cache.retired != NULL)
				MemoryContextDeleteChildren(cache.retired);
			break;
		default:
			break;
	}
}

void
ktopic_init(void)
{
	CacheRegisterRelcacheCallback(cache_relcache_callback, (Datum) 0);
	RegisterXactCallback(cache_xact_callback, NULL);
	ktopic_ddl_init();
}

static HTAB *
cache_table(const char *name, Size keysize, Size entrysize, int flags)
{
	HASHCTL		ctl;

	ctl.keysize = keysize;
	ctl.entrysize = entrysize;
	ctl.hcxt = cache.current;

	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_CONTEXT | flags);
}

/* Makes the cache usable: empty if what it held is out of date. */
static void
cache_begin(void)
{
	if (cache.current != NULL && !cache.stale)
		return;

	if (cache.retired == NULL)
		cache.		retired = AllocSetContextCreate(CacheMemoryContext, "kafka_pg old topics",
													ALLOCSET_SMALL_SIZES);

	if (cache.current != NULL)
	{
		MemoryContextSetParent(cache.current, cache.retired);
		cache.		current = NULL;
	}

	cache.		complete = false;
	cache.		current = AllocSetContextCreate(CacheMemoryContext, "kafka_pg topics",
												ALLOCSET_DEFAULT_SIZES);
	cache.		stale = true;	/* until the tables are there, should one of them fail */
	cache.		by_name = cache_table("kafka_pg topics by name", KTOPIC_NAME_MAX + 1,
									  sizeof(NameEntry), HASH_STRINGS);
	cache.		by_id = cache_table("kafka_pg topics by id", sizeof(pg_uuid_t),
									sizeof(IdEntry), HASH_BLOBS);
	cache.		by_relid = cache_table("kafka_pg topics by relid", sizeof(Oid),
									   sizeof(RelidEntry), HASH_BLOBS);
	cache.		catalog = InvalidOid;
	cache.		stale = false;
}

/*
 * Opens kafka.topic (or another catalog of ours) for reading.  NULL when the extension is not
 * there, or with *busy when the lock was not free.
 */
static Relation
catalog_open(const char *name, bool *busy)
{
	Oid			relid = kcatalog_relation(name);
	Relation	rel;

	if (!OidIsValid(relid))
		return NULL;
	if (busy == NULL)
		return try_table_open(relid, AccessShareLock);
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
	{
		*busy = true;
		return NULL;
	}
	/* The lock may have come after a DROP EXTENSION. */
	rel = try_table_open(relid, NoLock);
	if (rel == NULL)
		UnlockRelationOid(relid, AccessShareLock);
	return rel;
}

/* Turns a row into a cached topic, complete and in all three tables. */
static const KTopic *
cache_add(Relation rel, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext old;
	Datum		values[Anum_topic_created];
	KTopic	   *topic;
	NameEntry  *by_name;
	char	   *name;
	char	   *problem;

	for (int i = 0; i < Anum_topic_created; i++)
	{
		bool		isnull;

		values[i] = heap_getattr(tuple, i + 1, desc, &isnull);
		if (isnull)
			elog(ERROR, "unexpected null in column %d of kafka.topic", i + 1);
	}

	name = TextDatumGetCString(values[Anum_topic_name - 1]);
	if (strlen(name) > KTOPIC_NAME_MAX)
		return NULL;			/* not made by us, and no client can name it */
	by_name = hash_search(cache.by_name, name, HASH_FIND, NULL);
	if (by_name != NULL)
		return by_name->topic;

	old = MemoryContextSwitchTo(cache.current);
	topic = palloc0_object(KTopic);
	topic->name = pstrdup(name);
	topic->id = *DatumGetUUIDP(values[Anum_topic_id - 1]);
	topic->relid = DatumGetObjectId(values[Anum_topic_table - 1]);
	topic->partitions = DatumGetInt32(values[Anum_topic_partitions - 1]);
	topic->config_given = DatumGetJsonbPCopy(values[Anum_topic_config - 1]);
	topic->created = DatumGetTimestampTz(values[Anum_topic_created - 1]);
	MemoryContextSwitchTo(old);

	problem = ktopic_config_parse(topic->config_given, &topic->config);
	if (problem != NULL)
		ereport(LOG,
				(errmsg("topic \"%s\" has a config that is not valid, its default is used",
						topic->name),
				 errdetail("%s", problem)));

	((IdEntry *) hash_search(cache.by_id, &topic->id, HASH_ENTER, NULL))->topic = topic;
	((RelidEntry *) hash_search(cache.by_relid, &topic->relid, HASH_ENTER, NULL))->topic = topic;
	((NameEntry *) hash_search(cache.by_name, name, HASH_ENTER, NULL))->topic = topic;
	return topic;
}

/* Reads the one row that key finds through the index. */
static const KTopic *
cache_load(const char *index, ScanKey key, bool *busy)
{
	const KTopic *topic = NULL;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	rel = catalog_open("topic", busy);
	if (rel == NULL)
		return NULL;
	/* An invalidation that came with the lock emptied nothing yet; begin anew if so. */
	cache_begin();
	cache.		catalog = RelationGetRelid(rel);

	scan = systable_beginscan(rel, kcatalog_relation(index), true, NULL, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		topic = cache_add(rel, tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return topic;
}

/*
 * Is a topic that was not found not there?  In the middle of a transaction it may be news that this
 * process has not read yet: nothing but locks makes it read them.
 */
static bool
cache_knows_all(void)
{
	if (!cache.complete)
		return false;
	AcceptInvalidationMessages();
	cache_begin();
	return cache.complete;
}

const KTopic *
ktopic_by_name(const char *name, bool *busy)
{
	NameEntry  *entry;
	ScanKeyData key;

	if (busy != NULL)
		*busy = false;
	if (strlen(name) > KTOPIC_NAME_MAX)
		return NULL;
	cache_begin();
	entry = hash_search(cache.by_name, name, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->topic;
	if (cache_knows_all())
		return NULL;

	ScanKeyEntryInitialize(&key, 0, Anum_topic_name, BTEqualStrategyNumber, InvalidOid,
						   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(name));
	return cache_load("topic_pkey", &key, busy);
}

const KTopic *
ktopic_by_id(const pg_uuid_t *id, bool *busy)
{
	IdEntry    *entry;
	ScanKeyData key;

	if (busy != NULL)
		*busy = false;
	cache_begin();
	entry = hash_search(cache.by_id, id, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->topic;
	if (cache_knows_all())
		return NULL;

	ScanKeyInit(&key, Anum_topic_id, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	return cache_load("topic_id_key", &key, busy);
}

const KTopic *
ktopic_by_relid(Oid relid, bool *busy)
{
	RelidEntry *entry;
	ScanKeyData key;

	if (busy != NULL)
		*busy = false;
	cache_begin();
	entry = hash_search(cache.by_relid, &relid, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->topic;
	if (cache_knows_all())
		return NULL;

	/* regclass has no operators of its own: the index is one on oid. */
	ScanKeyInit(&key, Anum_topic_table, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	return cache_load("topic_table_key", &key, busy);
}

static int
topic_name_cmp(const ListCell *a, const ListCell *b)
{
	return strcmp(((const KTopic *) lfirst(a))->name, ((const KTopic *) lfirst(b))->name);
}

List	   *
ktopic_list(bool *busy)
{
	List	   *topics = NIL;

	if (busy != NULL)
		*busy = false;
	cache_begin();
	if (!cache.complete)
	{
		Relation	rel = catalog_open("topic", busy);
		SysScanDesc scan;
		HeapTuple	tuple;

		if (rel == NULL)
			return NIL;
		cache_begin();
		cache.		catalog = RelationGetRelid(rel);

		scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			const KTopic *topic = cache_add(rel, tuple);

			if (topic != NULL)
				topics = lappend(topics, unconstify(KTopic *, topic));
		}
		systable_endscan(scan);
		table_close(rel, AccessShareLock);
		cache.		complete = true;
	}
	else
	{
		HASH_SEQ_STATUS status;
		NameEntry  *entry;

		hash_seq_init(&status, cache.by_name);
		while ((entry = hash_seq_search(&status)) != NULL)
			topics = lappend(topics, unconstify(KTopic *, entry->topic));
	}
	list_sort(topics, topic_name_cmp);
	return topics;
}

const KTopic *
ktopic_get(const char *name)
{
	const KTopic *topic = ktopic_by_name(name, NULL);

	if (topic == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("topic \"%s\" does not exist", name),
				 errhint("Topics are listed in view kafka.topics and created with kafka.create_topic.")));
	return topic;
}
