/*
 * klog_readin.c
 *		Pages on their way from the file into shared buffers, many with one call.
 *
 * The server reads a buffer at a time (ReadBuffer), and through the kernel's page cache.  Consumers
 * of old records were kept waiting by both: by the calls, and by the memory that the page cache
 * needs, which on a virtual machine may have to be made first.  So neighbours are read together
 * here, past the page cache where kafka_pg.drop_behind keeps topics out of it, into memory that
 * each reader has for that, and are copied from there.
 *
 * A copy is as good as the page only if nobody changes that page between the one and the other.
 * This is why nobody does:
 *
 * 1. The page lies before the last one of its partition, so nothing is appended to it any more.
 * 2. When that was known, it was in no shared buffer.  So all that was ever done to it is in the
 *    file, and RESOLVE alone may still come to it.
 * 3. What was read lists no batch, by its tag at one end and by its header at the other: RESOLVE
 *    has nothing to do there.  If it was just there, and the page was written while it was read,
 *    both ends have what it made of them, and between them it changes nothing that counts.
 *
 * Then RBM_ZERO_AND_LOCK gives a buffer, locked.  If it is a new one it is filled; one that
 * somebody else has filled meanwhile is the same page.
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
	bool		direct;			/* that was opened to go past the page cache */
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
	bool		direct = past_cache == YES && klog_file_drops_behind();

	/* it was opened before that was known, or is another segment's */
	if (direct && !run.direct)
		klog_file_close(&run.file);
	run.direct = direct &&
		klog_file_open(&run.file, rel, run.first, O_RDONLY | OPEN_DIRECT);
	return run.direct || klog_file_open(&run.file, rel, run.first, O_RDONLY);
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
	if (!run.direct && past_cache != NO && klog_file_drops_behind())
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

/* Was page i of the run read as what it must be, and stays? */
static bool
is_final(const KLogPartition *part, uint32 segment, int i)
{
	Page		page = run.memory + (Size) i * BLCKSZ;

	return klog_checksum_is_right(page, run.first + i) &&
		klog_page_is(page, KLOG_PAGE_DATA, part->partition, segment, run.page + i) &&
		KLogPageGetTag(page)->nlisted == 0 && ((PageHeader) page)->pd_upper == KLOG_DATA_END;
}

/* Brings in what is wanted of the run.  ERROR: a page cannot be read. */
static void
run_end(Relation rel, KLogPartition *part, uint32 segment, uint32 *reading)
{
	int			n;
	bool		have;

	while (run.npages > 0 && !run.wanted[run.npages - 1])
		run.npages--;
	n = run.npages;
	if (n == 0)
		return;
	*reading = run.page;
	have = run_open(rel) && run_read();
	KSTOP("klog-readin-read");
	run.npages = 0;
	for (int i = 0; i < n; i++)
	{
		if (!run.wanted[i])
			continue;
		*reading = run.page + i;
		if (have && is_final(part, segment, i))
			fill(rel, run.first + i, run.memory + (Size) i * BLCKSZ);
		else
			read_one(rel, run.first + i);
	}
}

void
klog_readin(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 page, uint32 last,
			uint32 final, uint32 *reading)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	uint32		segment = seg->entry.segment;
	KLogPosition cold;

	klog_file_close(&run.file);
	run.npages = 0;
	for (; page <= last; page++)
	{
		BlockNumber block;
		Buffer		buffer;

		if (!klog_segment_knows(seg, page))
			run_end(rel, part, segment, reading);
		*reading = page;
		block = klog_segment_block(rel, part, seg, page, NULL);
		if (block == InvalidBlockNumber)
			break;
		if (run.npages == RUN_PAGES || block != run.first + run.npages || block % RELSEG_SIZE == 0)
		{
			run_end(rel, part, segment, reading);
			*reading = page;
			CHECK_FOR_INTERRUPTS();
		}
		buffer = klog_buffer_find(rel, block);
		if (block >= nblocks || page >= final ||
			(BufferIsValid(buffer) && !klog_buffer_is_hot(rel, block, &cold)))
		{
			/* it may change, is on its way, or there is something to tell of it */
			run_end(rel, part, segment, reading);
			*reading = page;
			read_one(rel, block);
		}
		else if (run.npages > 0 || !BufferIsValid(buffer))
		{
			if (run.npages == 0)
			{
				run.first = block;
				run.page = page;
			}
			run.wanted[run.npages++] = !BufferIsValid(buffer);
		}
	}
	run_end(rel, part, segment, reading);
	klog_file_close(&run.file);
}
