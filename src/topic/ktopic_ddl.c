/*
 * ktopic_ddl.c
 *		Keeps the tables of access method kafka_log as the log knows them: an object access
 *		hook that refuses what would change their shape or hang something on them, and takes
 *		a dropped table out of the catalogs.
 *
 * The access method itself refuses what reaches it (rewrites, indexes' builds, unlogged storage).
 * Here is what it would never hear of.  Columns may not change, nor get defaults or constraints: a
 * Kafka client's record has none of them applied.  Renaming the table, giving it another
 * owner, schema, tablespace or statistics target is no business of ours.  ENABLE ROW LEVEL SECURITY
 * calls no hook: whoever opens the table checks for that.
 *
 * The hook runs just after the server's own change and before the command counter is
 * incremented: the new version of a row is seen with SnapshotSelf, the old one in the caches.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_publication_rel.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "kafka_pg.h"
#include "log/klog.h"
#include "topic/kcatalog.h"
#include "topic/ktopic.h"
#include "topic/ktopic_ddl.h"

static object_access_hook_type previous_hook;

/*
 * Tables of ours that this transaction has created or dropped: the log is told to forget their
 * partitions' shared state when they are really gone, which also ends what waits for them.  In
 * TopTransactionContext.
 */
typedef struct Change
{
	struct Change *next;
	Oid			relid;
	bool		dropped;		/* else created */
	SubTransactionId subid;
} Change;

static Change *changes;

/* The table whose columns this transaction altered last; what follows may rewrite it. */
static Oid	altered_relid;

/* The columns of a topic's table, in order; the last one's type is kafka.header[]. */
static const struct
{
	const char *name;
	Oid			type;
}			columns[] = {
	{"partition", INT4OID},
	{"offset", INT8OID},
	{"timestamp", TIMESTAMPTZOID},
	{"key", BYTEAOID},
	{"value", BYTEAOID},
	{"headers", InvalidOid}
};

/* Has the table, as the caches know it, our access method? */
static bool
is_log(Oid relid, Oid am)
{
	HeapTuple	tuple;
	bool		result;

	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_class) GETSTRUCT(tuple))->relam == am;
	ReleaseSysCache(tuple);
	return result;
}

/* A copy of the newest version of a catalog's row, or NULL. */
static HeapTuple
newest_row(Oid catalog, Oid index, AttrNumber oid_column, Oid oid)
{
	Relation	rel = table_open(catalog, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, oid_column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(rel, index, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return tuple;
}

static void
refuse(Oid relid, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot %s topic table \"%s\"", what, get_rel_name(relid)),
			 hint != NULL ? errhint("%s", hint) : 0));
}

#define COLUMNS_HINT \
	"A topic's table has exactly the columns partition, offset, timestamp, key, value and headers, " \
	"without defaults or constraints. Use a view for another shape."

/* Is this pg_attribute row what column n of a topic has to be? */
static bool
column_is_right(int n, Form_pg_attribute att, Oid headers_type)
{
	Oid			type = OidIsValid(columns[n].type) ? columns[n].type : headers_type;

	return strcmp(NameStr(att->attname), columns[n].name) == 0 &&
		att->atttypid == type && att->atttypmod == -1 && !att->attisdropped &&
		!att->attnotnull && !att->atthasdef && att->attidentity == '\0' &&
		att->attgenerated == '\0';
}

static Oid
headers_type(void)
{
	return get_array_type(kcatalog_type("header"));
}

static void
remember_change(Oid relid, bool dropped)
{
	Change	   *change;

	if (!kafka_pg_in_database())
		return;
	change = MemoryContextAlloc(TopTransactionContext, sizeof(Change));
	change->next = changes;
	change->relid = relid;
	change->dropped = dropped;
	change->subid = GetCurrentSubTransactionId();
	changes = change;
}

/* Before the locks are given back, and the transaction's fate is known to others. */
static void
xact_callback(XactEvent event, void *arg)
{
	bool		commit = event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE && event != XACT_EVENT_ABORT)
		return;
	for (Change *change = changes; change != NULL; change = change->next)
		if (change->dropped == commit)
			klog_forget(change->relid);
	changes = NULL;				/* goes with its context */
	altered_relid = InvalidOid;
}

static void
subxact_callback(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	Change	  **link = &changes;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (*link != NULL)
	{
		Change	   *change = *link;

		if (change->subid != subid)
			link = &change->next;
		else if (event == SUBXACT_EVENT_COMMIT_SUB)
		{
			change->subid = parent;
			link = &change->next;
		}
		else
		{
			if (!change->dropped)
				klog_forget(change->relid);
			*link = change->next;
		}
	}
}

/*
 * A relation has just been created, and is in the relation cache.  internal: it is the new file of
 * another one.
 */
static void
relation_created(Oid relid, Oid am, bool internal)
{
	Relation	rel = RelationIdGetRelation(relid);
	TupleDesc	desc;
	Oid			headers;
	bool		right;

	if (!RelationIsValid(rel))
		return;

	if (rel->rd_rel->relkind == RELKIND_INDEX || rel->rd_rel->relkind == RELKIND_PARTITIONED_INDEX)
	{
		HeapTuple	tuple = newest_row(IndexRelationId, IndexRelidIndexId,
									   Anum_pg_index_indexrelid, relid);

		if (HeapTupleIsValid(tuple) &&
			is_log(((Form_pg_index) GETSTRUCT(tuple))->indrelid, am))
			refuse(((Form_pg_index) GETSTRUCT(tuple))->indrelid, "create an index on",
				   "Conditions on partition, offset and timestamp find their pages without one.");
	}
	else if (rel->rd_rel->relam == am)
	{
		/*
		 * VACUUM FULL copies the file.  ALTER COLUMN ... TYPE ... USING would give records other
		 * values, though the columns look the same afterwards.
		 */
		if (internal && OidIsValid(altered_relid))
			refuse(altered_relid, "rewrite", "Records never change. Use a view for other values.");
		if (rel->rd_rel->relkind != RELKIND_RELATION)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("access method kafka_log is for ordinary tables only")));
		if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a topic's table cannot be temporary or unlogged"),
					 errhint("What a broker acknowledges must survive a crash.")));

		desc = RelationGetDescr(rel);
		headers = headers_type();
		right = desc->natts == (int) lengthof(columns) && !OidIsValid(rel->rd_rel->reloftype);
		for (int i = 0; right && i < desc->natts; i++)
			right = column_is_right(i, TupleDescAttr(desc, i), headers);
		if (!right)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("table \"%s\" does not have the columns of a topic",
							RelationGetRelationName(rel)),
					 errhint(COLUMNS_HINT)));
		remember_change(relid, false);
	}
	RelationClose(rel);
}

/* A column's pg_attribute row was changed. */
static void
column_altered(Oid relid, int attnum)
{
	Relation	catalog = table_open(AttributeRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key[2];
	HeapTuple	tuple;

	ScanKeyInit(&key[0], Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&key[1], Anum_pg_attribute_attnum, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(attnum));
	scan = systable_beginscan(catalog, AttributeRelidNumIndexId, true, SnapshotSelf, 2, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) && attnum > 0 &&
		(attnum > (int) lengthof(columns) ||
		 !column_is_right(attnum - 1, (Form_pg_attribute) GETSTRUCT(tuple), headers_type())))
		refuse(relid, "change the columns of", COLUMNS_HINT);
	altered_relid = relid;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/* A relation's pg_class row was changed. */
static void
relation_altered(Oid relid, Oid am)
{
	bool		was_log = is_log(relid, am);
	HeapTuple	tuple = newest_row(RelationRelationId, ClassOidIndexId, Anum_pg_class_oid, relid);
	Form_pg_class class;

	if (!HeapTupleIsValid(tuple))
		return;
	class = (Form_pg_class) GETSTRUCT(tuple);
	if (was_log != (class->relam == am))
		refuse(relid, "change the access method of",
			   "Create a topic with kafka.create_topic, or a table, and copy with INSERT ... SELECT.");
	if (!was_log)
		return;
	if (OidIsValid(class->reloftype))
		refuse(relid, "use a type for", COLUMNS_HINT);
	if (class->relpersistence != RELPERSISTENCE_PERMANENT)
		refuse(relid, "make unlogged", "What a broker acknowledges must survive a crash.");
}

/*
 * A column is about to be dropped: refused when it is ALTER TABLE that does it, which keeps the
 * table open meanwhile.  When a cascade comes through the column's type, as that of DROP EXTENSION
 * may, the whole table goes with it: every topic hangs on the access method, too.
 */
static void
column_dropped(Oid relid)
{
	Relation	rel = RelationIdGetRelation(relid);
	bool		altering;

	if (!RelationIsValid(rel))
		return;
	altering = rel->rd_refcnt > 1;
	RelationClose(rel);
	if (altering)
		refuse(relid, "drop a column of", COLUMNS_HINT);
}

/*
 * Refuses tables of ours in those rows of pg_publication_rel.  FOR ALL TABLES and FOR TABLES IN
 * SCHEMA name no table: there topics are passed over.
 */
static void
refuse_published(Oid index, AttrNumber column, Oid oid, Oid am)
{
	Relation	catalog = table_open(PublicationRelRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(catalog, index, true, SnapshotSelf, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			relid = ((Form_pg_publication_rel) GETSTRUCT(tuple))->prrelid;

		if (is_log(relid, am))
			refuse(relid, "publish",
				   "Logical replication does not see records. Subscribe with a Kafka client, or use physical replication.");
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/* Something that names a relation in a column of its own catalog row was created. */
static void
attachment_created(Oid catalog, Oid oid, Oid am)
{
	HeapTuple	tuple;

	switch (catalog)
	{
		case AttrDefaultRelationId:
			/* This one comes with the table's OID, and the column as sub-object. */
			if (is_log(oid, am))
				refuse(oid, "set a default in", COLUMNS_HINT);
			break;
		case ConstraintRelationId:
			tuple = newest_row(catalog, ConstraintOidIndexId, Anum_pg_constraint_oid, oid);
			if (HeapTupleIsValid(tuple) &&
				is_log(((Form_pg_constraint) GETSTRUCT(tuple))->conrelid, am))
				refuse(((Form_pg_constraint) GETSTRUCT(tuple))->conrelid,
					   ((Form_pg_constraint) GETSTRUCT(tuple))->contype == CONSTRAINT_FOREIGN ?
					   "create a foreign key on" : "create a constraint on",
					   "Kafka clients could not obey it. Check records where they are consumed.");
			break;
		case TriggerRelationId:
			tuple = newest_row(catalog, TriggerOidIndexId, Anum_pg_trigger_oid, oid);
			if (HeapTupleIsValid(tuple) &&
				is_log(((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid, am))
				refuse(((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid, "create a trigger on",
					   "It would not fire for Kafka clients. Consume the topic instead.");
			break;
		case PolicyRelationId:
			tuple = newest_row(catalog, PolicyOidIndexId, Anum_pg_policy_oid, oid);
			if (HeapTupleIsValid(tuple) &&
				is_log(((Form_pg_policy) GETSTRUCT(tuple))->polrelid, am))
				refuse(((Form_pg_policy) GETSTRUCT(tuple))->polrelid, "create a policy on",
					   "Kafka clients could not obey it. Use a view.");
			break;
		case PublicationRelRelationId:
			refuse_published(PublicationRelObjectIndexId, Anum_pg_publication_rel_oid, oid, am);
			break;
		case PublicationRelationId:
			/* With a list of tables, whose rows in pg_publication_rel come without a call. */
			refuse_published(PublicationRelPrpubidIndexId, Anum_pg_publication_rel_prpubid, oid,
							 am);
			break;
		case RewriteRelationId:
			tuple = newest_row(catalog, RewriteOidIndexId, Anum_pg_rewrite_oid, oid);
			if (HeapTupleIsValid(tuple) &&
				is_log(((Form_pg_rewrite) GETSTRUCT(tuple))->ev_class, am))
				refuse(((Form_pg_rewrite) GETSTRUCT(tuple))->ev_class, "create a rule on",
					   "It would not apply to Kafka clients. Use a view.");
			break;
	}
}

/* Deletes the rows of one catalog whose column of type regclass is relid. */
static bool
catalog_delete(const char *name, const char *index, AttrNumber column, Oid relid)
{
	Oid			catalog = kcatalog_relation(name);
	Oid			index_oid = kcatalog_relation(index);
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		found = false;

	/* In DROP EXTENSION the catalog may have gone before the topic. */
	if (!OidIsValid(catalog) || !OidIsValid(index_oid))
		return false;
	rel = try_table_open(catalog, RowExclusiveLock);
	if (rel == NULL)
		return false;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, index_oid, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CatalogTupleDelete(rel, &tuple->t_self);
		found = true;
	}
	systable_endscan(scan);
	if (found)
		CacheInvalidateRelcache(rel);
	table_close(rel, NoLock);
	return found;
}

/*
 * The offsets of a topic that is dropped, which lie all over the table, since its index is by
 * group.  Brokers and sessions may be writing them: waits for those.
 */
static void
offsets_forget(const pg_uuid_t *id)
{
	Oid			relid = kcatalog_relation("group_offset");
	Relation	rel = OidIsValid(relid) ? try_table_open(relid, RowExclusiveLock) : NULL;
	bool		again = rel != NULL;

	while (again)
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		SysScanDesc scan;
		ScanKeyData key;
		HeapTuple	tuple;

		again = false;
		ScanKeyInit(&key, Anum_group_offset_topic_id, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(id));
		scan = systable_beginscan(rel, InvalidOid, false, snapshot, 1, &key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			TM_FailureData failure;

			if (heap_delete(rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true,
							&failure, false) == TM_Updated)
				again = true;
		}
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
	}
	if (rel != NULL)
		table_close(rel, NoLock);
}

void
ktopic_catalog_forget(Oid relid)
{
	const KTopic *topic = ktopic_by_relid(relid, NULL);
	pg_uuid_t	id;

	if (topic != NULL)
	{
		id = topic->id;
		offsets_forget(&id);
	}
	catalog_delete("topic", "topic_table_key", Anum_topic_table, relid);
	catalog_delete("partition", "partition_pkey", Anum_partition_table, relid);
	catalog_delete("producer_snapshot", "producer_snapshot_pkey", Anum_producer_snapshot_table,
				   relid);
}

static void
ktopic_object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	Oid			am;

	if (previous_hook != NULL)
		previous_hook(access, class, object, sub, arg);

	/* What concerns us is about relations and what hangs on them. */
	switch (access)
	{
		case OAT_POST_CREATE:
		case OAT_POST_ALTER:
		case OAT_DROP:
			break;
		default:
			return;
	}
	am = kcatalog_am();
	if (!OidIsValid(am))
		return;

	switch (access)
	{
		case OAT_POST_CREATE:
			if (class != RelationRelationId)
				attachment_created(class, object, am);
			else if (sub == 0)
				relation_created(object, am, ((ObjectAccessPostCreate *) arg)->is_internal);
			else if (is_log(object, am))
				refuse(object, "add a column to", COLUMNS_HINT);
			break;
		case OAT_POST_ALTER:
			if (class == RelationRelationId && sub == 0)
				relation_altered(object, am);
			else if (class == RelationRelationId && is_log(object, am))
				column_altered(object, sub);
			else if (class == InheritsRelationId)
			{
				Oid			parent = ((ObjectAccessPostAlter *) arg)->auxiliary_id;

				if (is_log(object, am) || is_log(parent, am))
					refuse(is_log(object, am) ? object : parent, "use inheritance or partitioning with",
						   "A topic is partitioned by its column partition. Use a view with UNION ALL to join topics.");
			}
			break;
		case OAT_DROP:
			if (class == RelationRelationId && is_log(object, am))
			{
				if (sub == 0)
				{
					ktopic_catalog_forget(object);
					remember_change(object, true);
				}
				else
					column_dropped(object);
			}
			break;
		default:
			break;
	}
}

void
ktopic_ddl_init(void)
{
	previous_hook = object_access_hook;
	object_access_hook = ktopic_object_access;
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
