/*
 * ktopic_ddl.h
 *		What DDL may and may not do to topics' tables; private to src/topic.
 */
#ifndef KTOPIC_DDL_H
#define KTOPIC_DDL_H

/* Installs the object access hook. */
extern void ktopic_ddl_init(void);

/* Deletes what the catalogs know of a table that is being dropped. */
extern void ktopic_catalog_forget(Oid relid);

#endif							/* KTOPIC_DDL_H */
