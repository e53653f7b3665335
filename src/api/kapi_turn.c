/*
 * kapi_turn.c
 *		The transaction of one turn of the loop, and the relations locked in it.
 *
 * A transaction is opened when a step needs catalogs or relations, and ended with the turn,
 * before the process waits: no lock and no snapshot is held while nothing is done.  Locks are
 * never waited for.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "api/kapi_request.h"
#include "kguc.h"
#include "table/ktable.h"

/* Most entries of the table of relations; it starts anew when that is reached. */
#define MAX_RELATIONS	16384

/* A relation as it was last seen; good only in the transaction of that number. */
typedef struct TurnRelation
{
	Oid			relid;
	uint64		turn;
	LOCKMODE	mode;
	Relation	rel;
	slist_node	node;			/* in opened, if rel is set */
} TurnRelation;

static uint64 turn = 1;
static bool in_txn;
static HTAB *relations;
static slist_head opened = SLIST_STATIC_INIT(opened);

static uint64 role_turn;
static Oid	role;

void
kapi_txn(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (in_txn)
		return;
	StartTransactionCommand();
	MemoryContextSwitchTo(caller);
	in_txn = true;
}

bool
kapi_in_txn(void)
{
	return in_txn;
}

void
kapi_txn_abort(void)
{
	MemoryContext caller = CurrentMemoryContext;

	turn++;
	in_txn = false;
	slist_init(&opened);
	AbortCurrentTransaction();
	MemoryContextSwitchTo(caller);
}

void
kapi_txn_end(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (!in_txn)
		return;
	while (!slist_is_empty(&opened))
	{
		TurnRelation *entry = slist_container(TurnRelation, node, slist_pop_head_node(&opened));

		relation_close(entry->rel, NoLock);
	}
	if (relations != NULL && hash_get_num_entries(relations) > MAX_RELATIONS)
	{
		hash_destroy(relations);
		relations = NULL;
	}
	turn++;
	in_txn = false;
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

Relation
kapi_relation(Oid relid, LOCKMODE mode, bool *busy)
{
	TurnRelation *entry;
	bool		found;

	*busy = false;
	if (relations == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(TurnRelation);
		ctl.hcxt = kapi_context;
		relations = hash_create("kafka turn relations", 64, &ctl,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(relations, &relid, HASH_ENTER, &found);
	if (!found || entry->turn != turn)
	{
		entry->turn = turn;
		entry->mode = NoLock;
		entry->rel = NULL;
	}
	if (entry->mode >= mode)
		return entry->rel;

	if (entry->rel != NULL)
	{
		*busy = !ConditionalLockRelationOid(relid, mode);
		if (*busy)
			return NULL;
	}
	else
	{
		Relation	rel = klog_relation_open(relid, mode, busy);

		/* with row security it is no topic, in SQL neither: clients would see all rows */
		if (rel != NULL && (!ktable_is_log(rel) || rel->rd_rel->relrowsecurity))
		{
			relation_close(rel, mode);
			rel = NULL;
		}
		if (rel == NULL)
			return NULL;
		entry->rel = rel;
		slist_push_head(&opened, &entry->node);
	}
	entry->mode = mode;
	return entry->rel;
}

bool
kapi_is_refused(KApiConn * conn)
{
	return kguc_anonymous_role == NULL || kguc_anonymous_role[0] == '\0';
}

Oid
kapi_role(KRequest * req)
{
	kapi_txn();
	if (role_turn != turn)
	{
		role = kapi_is_refused(req->conn) ? InvalidOid :
			get_role_oid(kguc_anonymous_role, true);
		role_turn = turn;
		if (!OidIsValid(role) && !kapi_is_refused(req->conn))
			ereport(WARNING,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("role \"%s\" of kafka_pg.anonymous_role does not exist",
							kguc_anonymous_role),
					 errhint("Kafka clients are refused until it is created.")));
	}
	return role;
}
