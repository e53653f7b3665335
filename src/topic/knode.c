/*
 * knode.c
 *		Which server leads, and where: the primary writes it down, its standbys read it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "kguc.h"
#include "topic/kcatalog.h"
#include "topic/ktopic.h"

static void
run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	if (SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not write kafka.node");
}

void
knode_startup(void)
{
	const KAdvertised *advertised = kguc_advertised_find("PLAINTEXT");

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(kcatalog_relation("node")))
	{
		Oid			types[] = {INT4OID, TEXTOID, INT4OID, TEXTOID};
		Datum		values[4] = {0};
		char		nulls[5] = "    ";

		values[0] = Int32GetDatum(kguc_node_id);
		values[1] = CStringGetTextDatum(advertised ? advertised->host : "");
		values[2] = Int32GetDatum(advertised ? advertised->port : 0);
		if (kguc_rack[0] != '\0')
			values[3] = CStringGetTextDatum(kguc_rack);
		else
			nulls[3] = 'n';
		SPI_connect();
		/* rows that say it already are left alone: a restart writes nothing */
		run("DELETE FROM kafka.node WHERE leads AND node_id <> $1 OR node_id = $1 AND $2 = ''",
			lengthof(types), types, values, nulls);
		if (advertised)
			run("INSERT INTO kafka.node VALUES ($1, $2, $3, $4, true)"
				" ON CONFLICT (node_id) DO UPDATE SET host = $2, port = $3, rack = $4, leads = true"
				" WHERE (node.host, node.port, node.leads) <> ($2, $3, true)"
				" OR node.rack IS DISTINCT FROM $4",
				lengthof(types), types, values, nulls);
		SPI_finish();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
}

bool
knode_leader(KNode *node)
{
	Oid			relid = kcatalog_relation("node");
	Relation	rel = OidIsValid(relid) ? try_table_open(relid, AccessShareLock) : NULL;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	if (rel == NULL)
		return false;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		Datum		rack;
		bool		isnull;

		if (!DatumGetBool(heap_getattr(tuple, Anum_node_leads, desc, &isnull)))
			continue;
		found = true;
		node->id = DatumGetInt32(heap_getattr(tuple, Anum_node_node_id, desc, &isnull));
		node->host = TextDatumGetCString(heap_getattr(tuple, Anum_node_host, desc, &isnull));
		node->port = DatumGetInt32(heap_getattr(tuple, Anum_node_port, desc, &isnull));
		rack = heap_getattr(tuple, Anum_node_rack, desc, &isnull);
		node->rack = isnull ? NULL : TextDatumGetCString(rack);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}
