/*
 * ktable_read.h
 *		From the log to rows: what scans share beyond ktable.h; private to src/table.
 */
#ifndef KTABLE_READ_H
#define KTABLE_READ_H

#include "executor/tuptable.h"

#include "batch/kcompress.h"
#include "table/ktable.h"

/* What a scan did, for EXPLAIN (ANALYZE). */
typedef struct KTableCounters
{
	int64		batches;
	int64		pages;
	int64		bytes;
} KTableCounters;

/* Offsets of one partition, from <= offset < limit. */
typedef struct KTableRange
{
	int32		partition;
	int64		from;
	int64		limit;
} KTableRange;

/* In ktable_read.c, beyond what ktable.h has. */
extern KTableReader *ktable_reader_make(Relation rel, uint32 columns);

/* Moves a reader to another range of its relation, keeping its memory. */
extern void ktable_reader_seek(KTableReader *reader, int32 partition, int64 from, int64 limit);
extern void ktable_reader_widen(KTableReader *reader, int64 floor);
extern int64 ktable_reader_from(const KTableReader *reader);
extern const KTableCounters *ktable_reader_counters(const KTableReader *reader);

/* Where the row that was last returned comes from. */
extern int64 ktable_reader_offset(const KTableReader *reader);

/* All that a statement which begins now may see of all stored partitions, in their order. */
extern KTableRange *ktable_visible_ranges(Relation rel, int *nranges);

/* Forgets what the transaction has looked at. */
extern void ktable_read_at_xact_end(void);

/* For ANALYZE: the caller fills the reader's buffer and has it read. */
extern void ktable_reader_load(KTableReader *reader, int32 partition, Size len);
extern uint8 *ktable_reader_buffer(KTableReader *reader, Size *cap);

/*
 * ktable_cursor.c: several ranges, one after the other, into slots; forward, or from the last
 * range's end to the first one's beginning.
 */
typedef struct KTableCursor
{
	Relation	rel;
	KTableReader *reader;
	KTableRange *ranges;
	int			nranges;
	int			current;		/* the range that is being read */
	bool		backward;
	bool		want_tid;		/* fill tts_tid: see ktable_tid.c */

	/* backward: rows of a window of offsets, the last of them to be returned next */
	MemoryContext window_context;
	struct KTableWindowRow *rows;
	int			nrows;
	int			max_rows;
	int64		width;			/* of the next window, in offsets */
	int64		below;			/* the next window ends here; -1: at the range's end */
} KTableCursor;

/* Over no ranges yet; in the current memory context. */
extern void ktable_cursor_open(KTableCursor *cursor, Relation rel, uint32 columns, bool backward);

/* Takes over the array of ranges, and starts over. */
extern void ktable_cursor_set(KTableCursor *cursor, KTableRange *ranges, int nranges);
extern bool ktable_cursor_next(KTableCursor *cursor, TupleTableSlot *slot);
extern void ktable_cursor_close(KTableCursor *cursor);

/* For buffers of the batch module; ends with the context. */
extern const KAllocator *ktable_allocator(MemoryContext context);

/* The process's codec contexts. */
extern KCodec *ktable_codec(void);

/* ktable_tid.c: row identities that hold until the end of the transaction. */
extern void ktable_tid_make(Oid relid, int32 partition, int64 offset, ItemPointer tid);
extern bool ktable_tid_find(Oid relid, ItemPointer tid, int32 *partition, int64 *offset);
extern void ktable_tid_at_xact_end(void);

#endif							/* KTABLE_READ_H */
