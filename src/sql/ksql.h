/*
 * ksql.h
 *		What the SQL functions share; private to src/sql.
 */
#ifndef KSQL_H
#define KSQL_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "coord/kcoord.h"
#include "topic/ktopic.h"

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

/* ------------------------------------------------------------------------
 * Topics and times as arguments: ksql_record.c
 * ------------------------------------------------------------------------
 */
typedef enum KSqlRight
{
	KSQL_READ,
	KSQL_WRITE
} KSqlRight;

/*
 * Looks a topic up by name, checks the current user's right, and opens its table.  ERROR when there
 * is no such topic.
 */
extern Relation ksql_open_topic(const char *name, KSqlRight right, LOCKMODE lockmode,
								const KTopic **topic);

/* ERROR unless the topic has this partition. */
extern void ksql_check_partition(const KTopic *topic, int32 partition);

/*
 * An interval as whole milliseconds, rounded up, and at most some 30 years; ERROR when it is
 * negative.
 */
extern int64 ksql_interval_ms(const Interval *interval, const char *name);

/* The first whole millisecond since 1970 that is not before it. */
extern int64 ksql_timestamp_ms(TimestampTz timestamp);

/* ------------------------------------------------------------------------
 * Groups: ksql_offset.c
 * ------------------------------------------------------------------------
 */

/* A group's id as an argument, not null; ERROR when it is none. */
extern KStr ksql_group_id(const text *argument);

/* kafka.group_offset; closed by kcoord_table_close(); the lock is held until the transaction's end. */
extern void ksql_offsets_open(KCoordTable *table, LOCKMODE mode);

/* A row of it as SQL writes them. */
extern KCoordOffset ksql_offset(const KTopic *topic, int32 partition, int64 offset);

/*
 * An offset that is committed may not lie behind the partition's end: ERROR; "end" is that of all
 * records, readable or not.
 */
extern void ksql_check_committed(const KTopic *topic, int32 partition, int64 committed, int64 end);

#endif							/* KSQL_H */
