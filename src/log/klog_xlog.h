/*
 * klog_xlog.h
 *		WAL records of the log.
 */
#ifndef KLOG_XLOG_H
#define KLOG_XLOG_H

#include "access/xlogreader.h"
#include "lib/stringinfo.h"
#include "log/klog_page.h"

/*
 * Number of our resource manager.  Custom resource managers share a list on the PostgreSQL wiki
 * (CustomWALResourceManagers); a cluster that preloads another extension with
 * this number does not start, and says so.
 */
#define RM_KAFKA_LOG_ID			144

#define XLOG_KLOG_INIT			0x00	/* 0 metapage, 1 first bitmap page */
#define XLOG_KLOG_BITMAP		0x10	/* 0 further bitmap page */
#define XLOG_KLOG_PARTITION		0x20	/* 0 metapage, 1 partition header, [2 bitmap] */
#define XLOG_KLOG_SEGMENT		0x30	/* 0 partition header, 1 bitmap, 2 head */
#define XLOG_KLOG_MAP			0x40	/* 0 partition header, 1 map page, [2 bitmap] */
#define XLOG_KLOG_EXTENT		0x50	/* 0 head, 1 bitmap */
#define XLOG_KLOG_APPEND		0x60	/* 0..n data pages */
#define XLOG_KLOG_RESOLVE		0x70	/* 0 data page */
#define XLOG_KLOG_MARK			0x80	/* 0 partition header */
#define XLOG_KLOG_HEARTBEAT		0x90	/* no page */

typedef struct xl_klog_init
{
	uint16		extent_units;
} xl_klog_init;

typedef struct xl_klog_partition
{
	int64		log_start;
	int32		partition;
	uint32		unit;			/* new unit of headers, 0: none */
	uint32		bit;			/* the unit's bit in block 2 */
} xl_klog_partition;

typedef struct xl_klog_segment
{
	KLogSegmentEntry seal;
	KLogSegmentEntry open;
	int64		high_watermark;
	int32		partition;
	uint32		bit;
} xl_klog_segment;

/* block 1's data: the entries */
typedef struct xl_klog_map
{
	int32		partition;
	uint32		index;
	uint32		nentries;
	BlockNumber block;
	uint32		unit;			/* new unit of map pages, 0: none */
	uint32		bit;
} xl_klog_map;

typedef struct xl_klog_extent
{
	int32		partition;
	uint32		segment;
	BlockNumber block;
	uint32		bit;
	uint32		nbits;
} xl_klog_extent;

/* each block's data: KLogPageEdit, positions, bytes */
typedef struct xl_klog_append
{
	int64		first_offset;	/* of the first batch */
	int64		next_offset;	/* after the last one */
	int32		partition;
	uint32		segment;
	TransactionId xid;
	uint16		nbatches;		/* 0: pages of a long batch that does not exist yet */
	uint16		reserved;
} xl_klog_append;

typedef struct xl_klog_resolve
{
	int32		partition;
	uint16		ncommitted;
	uint16		ndead;
	/* positions follow */
} xl_klog_resolve;

typedef struct xl_klog_mark
{
	int64		resolved_to;
	int64		high_watermark;
	int32		partition;
} xl_klog_mark;

extern void klog_redo(XLogReaderState *record);
extern void klog_desc(StringInfo buf, XLogReaderState *record);
extern const char *klog_identify(uint8 info);
/* Is the main data as long as the record's type, and what it counts, say? */
extern bool klog_record_is_whole(XLogReaderState *record);
extern void klog_mask(char *pagedata, BlockNumber block);

#endif							/* KLOG_XLOG_H */
