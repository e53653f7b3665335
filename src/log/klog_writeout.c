/*
 * klog_writeout.c
 *		Full pages on their way to the file before a checkpoint or an eviction asks for them.
 *
 * The server writes a buffer at a time (FlushOneBuffer), and half of what a system call of 8 kB
 * costs is the call: it was a fifth of all that a producer's record costs the server. So neighbours
 * are written together here, in what is otherwise the server's own order (FlushBuffer in
 * storage/buffer/bufmgr.c): WAL first, then the file, then the checkpointer is told that the file
 * must be synced, and last the buffers are called clean.
 *
 * What makes it this short: all that time the pages are share-locked, and nobody sets hint bits on
 * them. So they do not change, nobody makes them dirty again, and if a checkpoint or another
 * process writes one at the same time it writes the same bytes.
 */
#include "postgres.h"

#include <sys/uio.h>
#include <unistd.h>

#include "access/transam.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_iovec.h"
#include "storage/buf_internals.h"
#include "storage/sync.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "kguc.h"
#include "log/klog_buffer.h"

#define RUN_PAGES		32		/* written with one system call; as many locks are held */
#define GO_PAGES		1024	/* written in one go */
#define DROP_PAGES		8		/* so many neighbours are worth a disk's request of their own */

/* Neighbours in the file and in one segment of it, all of them locked. */
typedef struct Run
{
	int			npages;
	BlockNumber first;
	Buffer		buffer[RUN_PAGES];
	KLogFile	file;
} Run;

/* Of this process. Nothing but its file outlives an ERROR, and that until the next time. */
static Run run = {.file = KLOG_NO_FILE};

static bool
is_dirty(Buffer buffer)
{
	return (pg_atomic_read_u32(&GetBufferDescriptor(buffer - 1)->state) & BM_DIRTY) != 0;
}

static void
set_clean(Buffer buffer)
{
	BufferDesc *desc = GetBufferDescriptor(buffer - 1);
	uint32		state = LockBufHdr(desc);

	/* who writes it at the moment will call it clean himself */
	if ((state & BM_IO_IN_PROGRESS) == 0)
		state &= ~(BM_DIRTY | BM_JUST_DIRTIED | BM_CHECKPOINT_NEEDED);
	UnlockBufHdr(desc, state);
}

/*
 * As pg_pwritev(), and as it says of errors.  Where the kernel can (Linux 6.14, most file systems)
 * it begins to write at once and keeps nothing in its page cache: see kafka_pg.drop_behind.
 */
static ssize_t
run_pwritev(const struct iovec *iov, off_t offset)
{
	int			fd = FileGetRawDesc(run.file.file);
	ssize_t		written;

	if (klog_file_drops_behind() && run.npages >= DROP_PAGES)
	{
		written = pwritev2(fd, iov, run.npages, offset, RWF_DONTCACHE);
		if (written >= 0 || !klog_file_cannot_drop(errno))
			return written;
	}
	return pg_pwritev(fd, iov, run.npages, offset);
}

/*
 * Writes the run, and lets go of its pages.  The checksums are set where the pages lie: whoever
 * else writes one sets its own, in a copy.
 */
static void
run_write(Relation rel)
{
	struct iovec iov[RUN_PAGES];
	ssize_t		size = (ssize_t) run.npages * BLCKSZ;
	ssize_t		written = -1;
	FileTag		tag;

	if (run.npages == 0)
		return;
	if (!klog_file_open(&run.file, rel, run.first, O_RDWR))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", klog_file_path(rel, run.first))));
	for (int i = 0; i < run.npages; i++)
	{
		iov[i].iov_base = BufferGetPage(run.buffer[i]);
		iov[i].iov_len = BLCKSZ;
		klog_checksum_page(iov[i].iov_base, run.first + i);
	}
	/* its size does not matter: fd.c opens a file again that it had to close */
	if (FileSize(run.file.file) >= 0)
	{
		pgstat_report_wait_start(WAIT_EVENT_DATA_FILE_WRITE);
		do
		{
			errno = 0;
			written = run_pwritev(iov, (off_t) (run.first % RELSEG_SIZE) * BLCKSZ);
		} while (written < 0 && errno == EINTR);
		pgstat_report_wait_end();
	}
	if (written != size)
	{
		bool		full = written >= 0 || errno == ENOSPC;

		if (full)
			errno = ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write blocks %u..%u in file \"%s\": %m", run.first,
						run.first + run.npages - 1, FilePathName(run.file.file)),
				 full ? errhint("Check free disk space.") : 0));
	}
	pgBufferUsage.shared_blks_written += run.npages;

	kcompat_sync_tag(&tag, rel->rd_locator, MAIN_FORKNUM, run.file.segno);
	if (!RegisterSyncRequest(&tag, SYNC_REQUEST, false) &&
		FileSync(run.file.file, WAIT_EVENT_DATA_FILE_SYNC) < 0)
		ereport(data_sync_elevel(ERROR),
				(errcode_for_file_access(),
				 errmsg("could not fsync file \"%s\": %m", FilePathName(run.file.file))));
	for (int i = 0; i < run.npages; i++)
	{
		set_clean(run.buffer[i]);
		UnlockReleaseBuffer(run.buffer[i]);
	}
	run.npages = 0;
}

/*
 * Writes full pages of the open segment out whose WAL is flushed.  Returns whether there's more to
 * do.
 */
bool
klog_writeout(Relation rel, KLogPartition *part)
{
	XLogRecPtr	flushed = klog_flushed_lsn();
	KLogSegment seg;
	uint32		segment;
	uint32		pageno;
	uint32		end;
	int			n = 0;

	/* an error may have ended the last time, and let go of its locks and pins */
	klog_file_close(&run.file);
	run.npages = 0;
	run.first = 0;

	LWLockAcquire(&part->lock, LW_SHARED);
	segment = part->segment;
	pageno = Max(part->clean_page, 1);
	end = part->tail_page;
	LWLockRelease(&part->lock);
	if (pageno >= end || klog_segment_by_number(rel, part, segment, &seg, NULL) != KLOG_OK)
		return false;
	for (; pageno < end && n < GO_PAGES; pageno++, n++)
	{
		BlockNumber block;
		Buffer		buffer;

		if (!klog_segment_knows(&seg, pageno))
			run_write(rel);
		block = klog_segment_block(rel, part, &seg, pageno, NULL);
		if (block == InvalidBlockNumber)
			break;
		if (run.npages == RUN_PAGES || block != run.first + run.npages ||
			block % RELSEG_SIZE == 0)
		{
			run_write(rel);
			run.first = block;
			CHECK_FOR_INTERRUPTS();
		}
		/* a page that is not in shared buffers has been written by whoever evicted it */
		buffer = klog_buffer_pin_hot(rel, block);
		if (!BufferIsValid(buffer))
			continue;
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		if (PageGetLSN(BufferGetPage(buffer)) > flushed)
		{
			UnlockReleaseBuffer(buffer);
			break;
		}
		if (!is_dirty(buffer))
		{
			UnlockReleaseBuffer(buffer);
			continue;
		}
		run.buffer[run.npages++] = buffer;
	}
	run_write(rel);
	klog_file_close(&run.file);

	LWLockAcquire(&part->lock, LW_EXCLUSIVE);
	if (part->segment == segment)
		part->clean_page = Max(part->clean_page, pageno);
	LWLockRelease(&part->lock);
	return n == GO_PAGES;
}
