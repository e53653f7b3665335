/*
 * klog_desc.c
 *		Texts for the log's WAL records: pg_get_wal_records_info, error contexts.
 */
#include "postgres.h"

#include "log/klog_xlog.h"

bool
klog_record_is_whole(XLogReaderState *record)
{
	Size		len = XLogRecGetDataLen(record);
	xl_klog_resolve *resolve;

	switch (XLogRecGetInfo(record) & ~XLR_INFO_MASK)
	{
		case XLOG_KLOG_INIT:
			return len == sizeof(xl_klog_init);
		case XLOG_KLOG_BITMAP:
		case XLOG_KLOG_HEARTBEAT:
			return len == 0;
		case XLOG_KLOG_PARTITION:
			return len == sizeof(xl_klog_partition);
		case XLOG_KLOG_SEGMENT:
			return len == sizeof(xl_klog_segment);
		case XLOG_KLOG_MAP:
			return len == sizeof(xl_klog_map);
		case XLOG_KLOG_EXTENT:
			return len == sizeof(xl_klog_extent);
		case XLOG_KLOG_APPEND:
			return len == sizeof(xl_klog_append);
		case XLOG_KLOG_RESOLVE:
			resolve = (xl_klog_resolve *) XLogRecGetData(record);
			return len >= sizeof(xl_klog_resolve) &&
				len - sizeof(xl_klog_resolve) ==
				sizeof(uint16) * ((Size) resolve->ncommitted + resolve->ndead);
		case XLOG_KLOG_MARK:
			return len == sizeof(xl_klog_mark);
	}
	return false;
}

void
klog_desc(StringInfo buf, XLogReaderState *record)
{
	char	   *rec = XLogRecGetData(record);

	if (!klog_record_is_whole(record))
	{
		appendStringInfo(buf, "not a record of this version: %u bytes",
						 XLogRecGetDataLen(record));
		return;
	}
	switch (XLogRecGetInfo(record) & ~XLR_INFO_MASK)
	{
		case XLOG_KLOG_INIT:
			appendStringInfo(buf, "extent %u kB",
							 ((xl_klog_init *) rec)->extent_units * KLOG_UNIT_BLOCKS *
							 (BLCKSZ / 1024));
			break;
		case XLOG_KLOG_PARTITION:
			{
				xl_klog_partition *xlrec = (xl_klog_partition *) rec;

				appendStringInfo(buf, "partition %d log start " INT64_FORMAT " unit %u",
								 xlrec->partition, xlrec->log_start, xlrec->unit);
				break;
			}
		case XLOG_KLOG_SEGMENT:
			{
				xl_klog_segment *xlrec = (xl_klog_segment *) rec;

				appendStringInfo(buf, "partition %d segment %u first offset " INT64_FORMAT
								 " head %u",
								 xlrec->partition, xlrec->open.segment,
								 xlrec->open.first_offset, xlrec->open.head);
				break;
			}
		case XLOG_KLOG_MAP:
			{
				xl_klog_map *xlrec = (xl_klog_map *) rec;

				appendStringInfo(buf, "partition %d map %u block %u segments %u",
								 xlrec->partition, xlrec->index, xlrec->block, xlrec->nentries);
				break;
			}
		case XLOG_KLOG_EXTENT:
			{
				xl_klog_extent *xlrec = (xl_klog_extent *) rec;

				appendStringInfo(buf, "partition %d segment %u block %u units %u",
								 xlrec->partition, xlrec->segment, xlrec->block, xlrec->nbits);
				break;
			}
		case XLOG_KLOG_APPEND:
			{
				xl_klog_append *xlrec = (xl_klog_append *) rec;

				appendStringInfo(buf, "partition %d segment %u offsets " INT64_FORMAT ".."
								 INT64_FORMAT " batches %u xid %u",
								 xlrec->partition, xlrec->segment, xlrec->first_offset,
								 xlrec->next_offset - 1, xlrec->nbatches, xlrec->xid);
				break;
			}
		case XLOG_KLOG_RESOLVE:
			{
				xl_klog_resolve *xlrec = (xl_klog_resolve *) rec;

				appendStringInfo(buf, "partition %d committed %u dead %u", xlrec->partition,
								 xlrec->ncommitted, xlrec->ndead);
				break;
			}
		case XLOG_KLOG_MARK:
			{
				xl_klog_mark *xlrec = (xl_klog_mark *) rec;

				appendStringInfo(buf, "partition %d resolved to " INT64_FORMAT
								 " high watermark " INT64_FORMAT,
								 xlrec->partition, xlrec->resolved_to, xlrec->high_watermark);
				break;
			}
		case XLOG_KLOG_HEARTBEAT:
			break;
	}
}

const char *
klog_identify(uint8 info)
{
	switch (info & ~XLR_INFO_MASK)
	{
		case XLOG_KLOG_INIT:
			return "INIT";
		case XLOG_KLOG_BITMAP:
			return "BITMAP";
		case XLOG_KLOG_PARTITION:
			return "PARTITION";
		case XLOG_KLOG_SEGMENT:
			return "SEGMENT";
		case XLOG_KLOG_MAP:
			return "MAP";
		case XLOG_KLOG_EXTENT:
			return "EXTENT";
		case XLOG_KLOG_APPEND:
			return "APPEND";
		case XLOG_KLOG_RESOLVE:
			return "RESOLVE";
		case XLOG_KLOG_MARK:
			return "MARK";
		case XLOG_KLOG_HEARTBEAT:
			return "HEARTBEAT";
	}
	return NULL;
}
