/*
 * kcatalog.c
 *		OIDs of the extension's own objects.
 *
 * Nothing is cached here: each answer is two or three lookups in the server's system caches, which
 * know of DROP EXTENSION, and the callers that are in a hurry keep what they found
 * until the next invalidation (ktopic_cache.c).
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "topic/kcatalog.h"

Oid
kcatalog_am(void)
{
	return get_am_oid("kafka_log", true);
}

Oid
kcatalog_namespace(void)
{
	if (!OidIsValid(kcatalog_am()))
		return InvalidOid;
	return get_namespace_oid("kafka", true);
}

Oid
kcatalog_topics_namespace(void)
{
	if (!OidIsValid(kcatalog_am()))
		return InvalidOid;
	return get_namespace_oid("topics", true);
}

Oid
kcatalog_relation(const char *name)
{
	Oid			namespace = kcatalog_namespace();

	return OidIsValid(namespace) ? get_relname_relid(name, namespace) : InvalidOid;
}

Oid
kcatalog_type(const char *name)
{
	Oid			namespace = kcatalog_namespace();

	if (!OidIsValid(namespace))
		return InvalidOid;
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
						   CStringGetDatum(name), ObjectIdGetDatum(namespace));
}
