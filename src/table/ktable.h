/*
 * ktable.h
 *		The table access method kafka_log: topics as SQL tables.  This is the only header of
 *		src/table that other modules include.
 *
 * It joins three things that do not know each other: the server's executor (slots, scans,
 * transactions), src/log (pages and WAL) and src/batch (record batches).  What a row of a
 * topic looks like in SQL is decided in ktable_row.c and nowhere else.
 *
 * src/table/README.md has the hooks, the order of the transaction callbacks and the crash cases.
 */
#ifndef KTABLE_H
#define KTABLE_H

#include "access/tableam.h"
#include "utils/relcache.h"

/* The row shape of every topic: positions in values[] and isnull[], attribute number - 1. */
#define KTABLE_PARTITION	0	/* int4 */
#define KTABLE_OFFSET		1	/* int8 */
#define KTABLE_TIMESTAMP	2	/* timestamptz, whole milliseconds */
#define KTABLE_KEY			3	/* bytea */
#define KTABLE_VALUE		4	/* bytea */
#define KTABLE_HEADERS		5	/* kafka.header[] */
#define KTABLE_NCOLUMNS		6

/* A set of columns. */
#define KTABLE_COLUMN(n)	(1u << (n))
#define KTABLE_ALL_COLUMNS	((1u << KTABLE_NCOLUMNS) - 1)

/* Registers the hooks, the custom scan and the transaction callbacks; from _PG_init. */
extern void ktable_init(void);

/* Is this an ordinary table whose access method is kafka_log? */
extern bool ktable_is_log(Relation rel);

/*
 * Raises an ERROR unless the relation is a kafka_log table of exactly the six columns, without
 * row security.  Cheap after the first call for a relation and its shape.
 */
extern void ktable_check_shape(Relation rel);

/* Type kafka.header[] and its element type; ERROR when the extension is not created. */
extern Oid	ktable_headers_type(void);
extern Oid	ktable_header_type(void);

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

/*
 * The first offset that a statement beginning now must not see: the partition's high watermark, or
 * under REPEATABLE READ and SERIALIZABLE what it was when the transaction first looked.
 */
extern int64 ktable_visible_end(Relation rel, int32 partition);

/*
 * Reads the records of one partition, from <= offset < limit, in order.  Offsets below the log
 * start are stepped over: the caller who wants to complain about them asks klog_log_start first.
 * Control batches are never shown.
 *
 * The reader lives in the memory context that was current at ktable_reader_open, holds no pin and
 * no lock between calls (the caller keeps its AccessShareLock on the relation), and checks for
 * interrupts.  Values of ktable_reader_next are good until its next call; columns that were not
 * asked for are null.
 */
typedef struct KTableReader KTableReader;

extern KTableReader *ktable_reader_open(Relation rel, int32 partition, int64 from, int64 limit,
										uint32 columns);
extern bool ktable_reader_next(KTableReader *reader, Datum *values, bool *isnull);
extern void ktable_reader_close(KTableReader *reader);

/* ------------------------------------------------------------------------
 * Producing
 * ------------------------------------------------------------------------
 */

/*
 * Adds one record to those that the current transaction appends when it commits (a savepoint's
 * rollback takes it back).  values and isnull are the six columns; offset must be null, a null
 * partition is chosen as Kafka's clients choose it, a null timestamp is now.  Returns the
 * partition.
 *
 * The caller has opened the relation with RowExclusiveLock, keeps that lock until the
 * transaction ends, and has checked the user's right to INSERT.
 */
extern int32 ktable_produce(Relation rel, const Datum *values, const bool *isnull);

#endif							/* KTABLE_H */
