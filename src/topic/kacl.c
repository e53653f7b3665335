/*
 * kacl.c
 *		What a role may do with a topic: its privileges on the topic's table.
 *
 * The same functions answer for SQL sessions and for Kafka clients, whose principal is a role.
 * Superusers may do everything, as everywhere.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "topic/kcatalog.h"
#include "topic/ktopic.h"

/*
 * One of the privileges of mask on the table, and USAGE on its schema, without which SQL could not
 * name the table either.
 */
static bool
table_privilege(Oid relid, Oid roleid, AclMode mask)
{
	bool		missing = false;
	Oid			namespace;

	if (pg_class_aclmask_ext(relid, roleid, mask, ACLMASK_ANY, &missing) == 0 || missing)
		return false;
	namespace = get_rel_namespace(relid);
	return OidIsValid(namespace) &&
		pg_namespace_aclcheck(namespace, roleid, ACL_USAGE) == ACLCHECK_OK;
}

bool
kacl_topic_read(Oid relid, Oid roleid)
{
	return table_privilege(relid, roleid, ACL_SELECT);
}

bool
kacl_topic_write(Oid relid, Oid roleid)
{
	return table_privilege(relid, roleid, ACL_INSERT);
}

bool
kacl_topic_describe(Oid relid, Oid roleid)
{
	return table_privilege(relid, roleid, ACL_SELECT | ACL_INSERT) ||
		kacl_topic_owner(relid, roleid);
}

bool
kacl_topic_owner(Oid relid, Oid roleid)
{
	/* pg_class_ownercheck throws when the table is gone. */
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) &&
		pg_class_ownercheck(relid, roleid);
}

bool
kacl_topic_create(Oid roleid)
{
	Oid			namespace = kcatalog_topics_namespace();

	return OidIsValid(namespace) &&
		pg_namespace_aclcheck(namespace, roleid, ACL_CREATE) == ACLCHECK_OK;
}
