/*
 * klog_prealloc.c
 *		Makes WAL files before they are needed.
 *
 * Postgres uses old WAL files again, but only a checkpoint renames them. Until enough were made,
 * whoever writes at the end of one makes the next: it writes 16 MB of zeroes and waits for their
 * fsync, with everybody who waits for a flush behind it. A server that producers load makes some
 * thirty a second, and spends a third of its time so.
 *
 * As PreallocXlogFiles() in xlog.c, which does so for one file after a checkpoint; XLogFileInit()
 * lets several processes make the same file.
 */
#include "postgres.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "portability/instr_time.h"

#include "kguc.h"
#include "log/klog_state.h"

/* What is not urgent waits until no file was begun for so long; it takes a part of the time. */
#define PREALLOC_QUIET_MS	1000
#define PREALLOC_UNHURRIED	4

static bool
prealloc_exists(XLogSegNo segno, TimeLineID timeline)
{
	char		path[MAXPGPATH];

	XLogFilePath(path, timeline, segno, wal_segment_size);
	return access(path, F_OK) == 0;
}

/* A disk's last space is for files that are needed now. */
static bool
prealloc_has_room(void)
{
	struct statvfs disk;

	return statvfs(XLOGDIR, &disk) == 0 &&
		(uint64) disk.f_bavail * disk.f_frsize / (1024 * 1024) > (uint64) max_wal_size_mb;
}

static uint64
prealloc_files(int mb)
{
	return (uint64) mb * 1024 * 1024 / wal_segment_size;
}

/*
 * Makes the next missing file, if one is missing: as many as kafka_pg.wal_prealloc_size asks for
 * at once, and when it is quiet those that min_wal_size makes every checkpoint keep. Returns how
 * long to sleep, in ms: 0 when there is more, -1 until a flush begins another file. ERROR when a
 * file cannot be made.
 */
long
klog_prealloc_turn(void)
{
	static XLogSegNo next = 0;	/* those before it were there */
	static XLogSegNo seen = 0;
	TimeLineID	timeline = GetWALInsertionTimeLine();
	instr_time	began;
	instr_time	took;
	XLogSegNo	current;
	XLogSegNo	soon;
	XLogSegNo	kept;

	XLByteToPrevSeg(klog_flushed_lsn(), current, wal_segment_size);
	XLByteToSeg(GetRedoRecPtr(), kept, wal_segment_size);
	if (!pg_atomic_read_u32(&klog_shared->prealloc_wanted) || kguc_wal_prealloc_mb == 0 ||
		!wal_recycle)
		return -1;
	soon = current + Max(prealloc_files(kguc_wal_prealloc_mb), 1);
	kept += prealloc_files(min_wal_size_mb);

	for (next = Max(next, current + 1); next <= Max(soon, kept); next++)
	{
		if (!prealloc_exists(next, timeline))
			break;
	}
	if (next > Max(soon, kept) || !prealloc_has_room())
		return -1;
	if (next > soon && current != seen)
	{
		seen = current;
		return PREALLOC_QUIET_MS;
	}

	INSTR_TIME_SET_CURRENT(began);
	close(XLogFileInit(next, timeline));
	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, began);
	if (next++ < soon)
		return 0;
	return 1 + (long) (PREALLOC_UNHURRIED - 1) * (long) INSTR_TIME_GET_MILLISEC(took);
}
