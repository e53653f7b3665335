/*
 * klog_readin.c
 *		Pages on their way from the file into shared buffers, many with one call.
 *
 * The server reads a buffer at a time (ReadBuffer), and through the kernel's page cache.  Consumers
 * of old records were kept waiting by both: by the calls, and by the memory that the page cache
 * needs, which on a virtual machine may have to be made first.  So neighbours are read together
 * here, past the page cache where kafka_pg.drop_behind keeps topics out of it, into memory of the
 * reader's own, and are copied from there.
 *
 * A copy is as good as the page only if nobody changes that page between the one and the other.
 * Whoever holds no lock on it meanwhile must know that nobody will:
 *
 * 1. it lies before the last page of its partition: nothing is appended to it;
 * 2. every batch that starts on it is settled for good: RESOLVE does not come back to it;
 * 3. after these two were found out, it was in no shared buffer: all that was ever done to it is
 *    in the file.
 *
 * Then the file is read, and RBM_ZERO_AND_LOCK gives a buffer, locked.  If it is a new one it is
 * filled; one that somebody else has filled meanwhile is the same page.
 *
 * Everything else, and what looks wrong in any way, is left to the server, with its messages.  When
 * segments are freed one day, 4. must be that the page, once it is locked, is still its segment's.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#include "kguc.h"
#include "kstop.h"
#include "log/klog_buffer.h"

#define RUN_PAGES		64		/* read with one system call */
#define RUN_BYTES		(RUN_PAGES * BLCKSZ)
#define DIRECT_ALIGN	4096	/* what O_DIRECT asks of addresses, at most */

#ifdef O_DIRECT
#define OPEN_DIRECT		O_DIRECT
#else
#define OPEN_DIRECT		0
#endif

/* Neighbours in the file and in one segment of it. */
typedef struct Run
{
	int			npages;
	BlockNumber first;
	uint32		page;			/* of the log's segment: the first one's number */
	bool		wanted[RUN_PAGES];	/* is in no shared buffer */
	KLogFile	file;
	char	   *memory;			/* RUN_BYTES */
} Run;

/* Of this process.  Nothing but its file outlives an ERROR, and that until the next time. */
static Run run = {.file = KLOG_NO_FILE};

/* Does the kernel know how to keep out of its page cache?  Else what is written stays there. */
static enum
{
	UNKNOWN, NO, YES
}			past_cache = UNKNOWN;

/* Where the pages of all readers are read to: shared, since that may lie in huge pages. */
static char *memory = NULL;

Size
klog_readin_shmem_size(void)
{
	return add_size(mul_size(kguc_readers, RUN_BYTES), DIRECT_ALIGN);
}

void
klog_readin_shmem_init(void)
{
	bool		found;

	memory = ShmemInitStruct("kafka_pg readers", klog_readin_shmem_size(), &found);
	memory = (char *) TYPEALIGN(DIRECT_ALIGN, memory);
}

void
klog_readin_attach(int n)
{
	Assert(n < kguc_readers);
	run.memory = memory + (Size) n * RUN_BYTES;
}

/* Pins and releases; ERROR: it cannot be read. */
static void
read_one(Relation rel, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(rel, block);

	klog_buffer_note(rel, block, buffer);
	ReleaseBuffer(buffer);
}

static bool
run_open(Relation rel)
{
	if (past_cache == YES && klog_file_drops_behind() &&
		klog_file_open(&run.file, rel, run.first, O_RDONLY | OPEN_DIRECT))
		return true;
	return klog_file_open(&run.file, rel, run.first, O_RDONLY);
}

/* Reads the file into the run's memory.  False: not all of it, for whatever reason. */
static bool
run_read(void)
{
	struct iovec iov = {run.memory, (size_t) run.npages * BLCKSZ};
	off_t		offset = (off_t) (run.first % RELSEG_SIZE) * BLCKSZ;
	ssize_t		got = -1;
	int			fd;

	/* its size does not matter: fd.c opens a file again that it had to close */
	if (FileSize(run.file.file) < 0)
		return false;
	fd = FileGetRawDesc(run.file.file);
	pgstat_report_wait_start(WAIT_EVENT_DATA_FILE_READ);
	if (past_cache == UNKNOWN && klog_file_drops_behind())
	{
		got = preadv2(fd, &iov, 1, offset, RWF_DONTCACHE);
		if (got >= 0 || klog_file_cannot_drop(errno))
			past_cache = got >= 0 ? YES : NO;
	}
	if (got < 0)
		got = pread(fd, iov.iov_base, iov.iov_len, offset);
	pgstat_report_wait_end();
	return got == (ssize_t) iov.iov_len;
}

static void
fill(Relation rel, BlockNumber block, Page from)
{
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_ZERO_AND_LOCK, NULL);

	if (PageIsNew(BufferGetPage(buffer)))
		memcpy(BufferGetPage(buffer), from, BLCKSZ);
	klog_buffer_note(rel, block, buffer);
	UnlockReleaseBuffer(buffer);
}

/* Was page i of the run read as what it must be? */
static bool
is_sound(const KLogPartition *part, uint32 segment, int i)
{
	Page		page = run.memory + (Size) i * BLCKSZ;

	return klog_checksum_is_right(page, run.first + i) &&
		klog_page_is(page, KLOG_PAGE_DATA, part->partition, segment, run.page + i);
}

/*
 * Brings in what is wanted of the run.  settled: every batch below that offset is settled for good.
 * ERROR: a page cannot be read.
 */
static void
run_end(Relation rel, KLogPartition *part, uint32 segment, int64 settled, uint32 *reading)
{
	int			n;
	bool		sound;

	while (run.npages > 0 && !run.wanted[run.npages - 1])
		run.npages--;
	n = run.npages;
	if (n == 0)
		return;
	*reading = run.page;
	sound = run_open(rel) && run_read() && is_sound(part, segment, 0);
	KSTOP("klog-readin-read");
	run.npages = 0;
	for (int i = 0; i < n; i++)
	{
		Page		page = run.memory + (Size) i * BLCKSZ;
		bool		next_sound = sound && i + 1 < n && is_sound(part, segment, i + 1);

		*reading = run.page + i;
		/* what starts on a page lies before what the next one continues */
		if (!run.wanted[i])
			;
		else if (sound && KLogPageGetTag(page)->nlisted == 0 &&
				 (settled == PG_INT64_MAX ||
				  (next_sound && KLogPageGetTag(page + BLCKSZ)->base_offset < settled)))
			fill(rel, run.first + i, page);
		else
			read_one(rel, run.first + i);
		sound = next_sound;
	}
}

void
klog_readin(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 page, uint32 npages,
			uint32 *reading)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	uint32		segment = seg->entry.segment;
	KLogEnd		end = klog_end(part);
	KLogPosition cold;
	int64		settled;

	/* in this order: what is appended now lies behind that end */
	settled = klog_settled_to(part);
	klog_file_close(&run.file);
	run.npages = 0;
	for (uint32 i = 0; i < npages; i++)
	{
		BlockNumber block;
		bool		last = segment > end.segment ||
			(segment == end.segment && page + i >= end.page);
		Buffer		buffer;

		*reading = page + i;
		if (!klog_segment_knows(seg, page + i))
			run_end(rel, part, segment, settled, reading);
		block = klog_segment_block(rel, part, seg, page + i, NULL);
		if (block == InvalidBlockNumber)
			break;
		if (run.npages == RUN_PAGES || block != run.first + run.npages || block % RELSEG_SIZE == 0)
		{
			run_end(rel, part, segment, settled, reading);
			CHECK_FOR_INTERRUPTS();
		}
		*reading = page + i;
		buffer = klog_buffer_find(rel, block);
		if (block >= nblocks || last ||
			(BufferIsValid(buffer) && !klog_buffer_is_hot(rel, block, &cold)))
		{
			/* it may change, is on its way, or there is something to tell of it */
			run_end(rel, part, segment, settled, reading);
			*reading = page + i;
			read_one(rel, block);
			if (last)
				break;
		}
		else if (run.npages > 0 || !BufferIsValid(buffer))
		{
			if (run.npages == 0)
			{
				run.first = block;
				run.page = page + i;
			}
			run.wanted[run.npages++] = !BufferIsValid(buffer);
		}
	}
	run_end(rel, part, segment, settled, reading);
	klog_file_close(&run.file);
}
