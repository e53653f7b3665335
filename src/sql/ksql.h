/*
 * ksql.h
 *		What the SQL functions share; private to src/sql.
 */
#ifndef KSQL_H
#define KSQL_H

#include "fmgr.h"

/*
 * ERROR unless argument n is given; name is what the user calls it.  The functions are not
 * strict: a null topic is a mistake that should not pass for an empty result.
 */
#define KSQL_NOT_NULL(n, name) \
	do { \
		if (PG_ARGISNULL(n)) \
			ereport(ERROR, \
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), \
					 errmsg("%s must not be null", name))); \
	} while (0)

/*
 * Bytes as text; what is not valid in the database's encoding is written as \xNN, byte by byte:
 * ksql_value.c
 */
extern text *ksql_bytes_to_text(const char *data, int len);

#endif							/* KSQL_H */
