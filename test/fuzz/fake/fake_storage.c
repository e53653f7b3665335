/*
 * fake_storage.c
 *		Relations, buffers and WAL of the fake server.
 *
 * Every block of every relation has a buffer of its own, with poisoned memory before and behind it,
 * and is poisoned itself while nobody has its lock.  Each relation has a twin, which is what a
 * standby would have: the WAL records that are inserted are replayed into it at once.
 */
#include "postgres.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include "access/bufmask.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xloginsert.h"
#include "access/xlogutils.h"
#include "catalog/pg_class.h"
#include "common/relpath.h"
#include "miscadmin.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/smgr.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "fake.h"
#include "log/klog_buffer.h"
#include "log/klog_xlog.h"

#define FILES		(2 * FAKE_RELATIONS)	/* twins behind the others */
#define PAGES		(FILES * FAKE_BLOCKS)
#define MAX_TOUCHED	PAGES

/* Buffer numbers: 2, 4, 6 ...; what lies between is poisoned. */
#define BUFFER_OF(file, block)	((Buffer) (2 * ((file) * FAKE_BLOCKS + (block)) + 2))
#define INDEX_OF(buffer)		(((buffer) - 2) / 2)

typedef struct FakeBuffer
{
	int16		pins;
	int8		lock;			/* BUFFER_LOCK_* */
	bool		hot;
	bool		touched;
	bool		dirty;
} FakeBuffer;

char	   *BufferBlocks;
int			NBuffers = 2 * PAGES + 1;
int			NLocBuffer;
Block	   *LocalBufferBlockPointers;
int			XLOGbuffers = 64;
int			wal_segment_size = 16 * 1024 * 1024;

static FakeBuffer buffers[PAGES];
static Buffer touched[MAX_TOUCHED];
static int	ntouched;
static Buffer pinned[256];
static int	npinned;

static FormData_pg_class classes[FAKE_RELATIONS];
static RelationData relations[FAKE_RELATIONS];
static SMgrRelationData smgrs[FAKE_RELATIONS];
static BlockNumber nblocks[FAKE_RELATIONS];
static bool dropped[FAKE_RELATIONS];

long		fake_reads_left;
int			fake_disk;
bool		fake_replay;
int			fake_full_pages;
uint64		fake_replayed;

static XLogRecPtr insert_lsn;
static XLogRecPtr flush_lsn;

#define MAX_RECORD_BLOCKS	(XLR_MAX_BLOCK_ID + 1)
#define MAX_PARTS			4096

typedef struct RecordPart
{
	const char *data;
	Size		len;
} RecordPart;

static struct
{
	bool		begun;
	int			max_blocks;		/* as XLogEnsureRecordSpace said */
	int			nparts;			/* of all blocks and the main data */
	Buffer		buffer[MAX_RECORD_BLOCKS];
	uint8		flags[MAX_RECORD_BLOCKS];
	int			nblocks;
	struct
	{
		int			block;		/* -1: main data */
		RecordPart	part;
	}			parts[MAX_PARTS];
}			record;

/* ------------------------------------------------------------------------
 * Relations
 * ------------------------------------------------------------------------
 */

static int
relation_number(Oid relid)
{
	int			n = (int) relid - FAKE_FIRST_RELID;

	return n >= 0 && n < FAKE_RELATIONS ? n : -1;
}

Relation
fake_relation(int n)
{
	return &relations[n];
}

void
fake_set_blocks(int n, BlockNumber count)
{
	nblocks[n] = count;
}

BlockNumber
fake_blocks(int n)
{
	return nblocks[n];
}

static void
init_relations(void)
{
	for (int i = 0; i < FAKE_RELATIONS; i++)
	{
		Relation	rel = &relations[i];

		rel->rd_id = FAKE_FIRST_RELID + i;
		rel->rd_node = (RelFileNode) {1663, 5, FAKE_FIRST_RELID + i};
		rel->rd_rel = &classes[i];
		rel->rd_backend = InvalidBackendId;
		classes[i].relfilenode = FAKE_FIRST_RELID + i;
		classes[i].relkind = RELKIND_RELATION;
		classes[i].relpersistence = RELPERSISTENCE_PERMANENT;
		snprintf(NameStr(classes[i].relname), NAMEDATALEN, "fake%d", i);
		smgrs[i].smgr_rnode.node = rel->rd_node;
		smgrs[i].smgr_rnode.backend = InvalidBackendId;
	}
}

Relation
RelationIdGetRelation(Oid relid)
{
	int			n = relation_number(relid);

	return n < 0 || dropped[n] ? NULL : &relations[n];
}

/* Its pages may still be replayed, but nobody finds it. */
void
fake_drop(int n)
{
	dropped[n] = true;
	nblocks[n] = 0;
}

Relation
try_relation_open(Oid relid, LOCKMODE mode)
{
	return RelationIdGetRelation(relid);
}

Relation
relation_open(Oid relid, LOCKMODE mode)
{
	Relation	rel = RelationIdGetRelation(relid);

	if (rel == NULL)
		fake_fail("relation %u does not exist", relid);
	return rel;
}

void
relation_close(Relation rel, LOCKMODE mode)
{
}

void
RelationClose(Relation rel)
{
}

bool
SearchSysCacheExists(int cache, Datum key1, Datum key2, Datum key3, Datum key4)
{
	return RelationIdGetRelation(DatumGetObjectId(key1)) != NULL;
}

BlockNumber
RelationGetNumberOfBlocksInFork(Relation rel, ForkNumber fork)
{
	return nblocks[relation_number(RelationGetRelid(rel))];
}

SMgrRelation
smgropen(RelFileNode rnode, BackendId backend)
{
	return &smgrs[relation_number(rnode.relNode)];
}

void
smgrsetowner(SMgrRelation *owner, SMgrRelation reln)
{
	*owner = reln;
}

void
smgrextend(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer, bool skip_fsync)
{
	int			n = relation_number(reln->smgr_rnode.node.relNode);

	nblocks[n] = Max(nblocks[n], block + 1);
}

char *
GetRelationPath(Oid dbNode, Oid spcNode, Oid relNode, int backendId, ForkNumber forkNumber)
{
	return psprintf("%u", relNode);
}

static int	open_files;

File
PathNameOpenFile(const char *path, int flags)
{
	open_files++;
	return atoi(path) - FAKE_FIRST_RELID;
}

int
FileGetRawDesc(File file)
{
	return 1000 + file;
}

void
FileClose(File file)
{
	open_files--;
}

/* The C library's, but the descriptor is one of ours. */
int
posix_fallocate(int fd, off_t offset, off_t len)
{
	int			n = fd - 1000;
	BlockNumber end = (BlockNumber) ((offset + len) / BLCKSZ);
	int			more = end > nblocks[n] ? (int) (end - nblocks[n]) : 0;

	if (end > FAKE_BLOCKS || more > fake_disk)
		return ENOSPC;
	fake_disk -= more;
	return 0;
}

/* ------------------------------------------------------------------------
 * Buffers
 * ------------------------------------------------------------------------
 */

static Page
page_of(Buffer buffer)
{
	return BufferBlocks + (Size) (buffer - 1) * BLCKSZ;
}

static void
poison(Buffer buffer)
{
	ASAN_POISON_MEMORY_REGION(page_of(buffer), BLCKSZ);
}

static void
unpoison(Buffer buffer)
{
	ASAN_UNPOISON_MEMORY_REGION(page_of(buffer), BLCKSZ);
}

static void
touch(Buffer buffer)
{
	FakeBuffer *b = &buffers[INDEX_OF(buffer)];

	if (b->touched)
		return;
	b->touched = true;
	touched[ntouched++] = buffer;
	ASAN_POISON_MEMORY_REGION(page_of(buffer) - BLCKSZ, 3 * BLCKSZ);
}

void
fake_storage_reset(void)
{
	if (BufferBlocks == NULL)
	{
		BufferBlocks = mmap(NULL, (Size) (2 * PAGES + 2) * BLCKSZ, PROT_READ | PROT_WRITE,
							MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		init_relations();
	}
	if (npinned > 0)
		fake_fail("pins are left");
	for (int i = 0; i < ntouched; i++)
	{
		unpoison(touched[i]);
		memset(page_of(touched[i]), 0, BLCKSZ);
		poison(touched[i]);
		memset(&buffers[INDEX_OF(touched[i])], 0, sizeof(FakeBuffer));
	}
	ntouched = 0;
	memset(nblocks, 0, sizeof(nblocks));
	memset(dropped, 0, sizeof(dropped));
	record.begun = false;
	fake_disk = PAGES;
	fake_full_pages = 0;
	fake_replay = true;
	fake_replayed = 0;
	/* never goes back, since somebody may remember one from the input before */
	insert_lsn = Max(insert_lsn, 0x1000000);
	flush_lsn = insert_lsn;
}

void
fake_evict(void)
{
	for (int i = 0; i < ntouched; i++)
		buffers[INDEX_OF(touched[i])].hot = false;
}

void
fake_write_page(int n, BlockNumber block, const void *data, Size len)
{
	Buffer		buffer = BUFFER_OF(n, block);

	touch(buffer);
	unpoison(buffer);
	memset(page_of(buffer), 0, BLCKSZ);
	memcpy(page_of(buffer), data, Min(len, BLCKSZ));
	poison(buffer);
}

static void
pin(Buffer buffer)
{
	FakeBuffer *b = &buffers[INDEX_OF(buffer)];

	touch(buffer);
	b->hot = true;
	b->pins++;
	if (npinned == lengthof(pinned))
		fake_fail("too many pins");
	pinned[npinned++] = buffer;
}

static void
unpin(Buffer buffer)
{
	FakeBuffer *b = &buffers[INDEX_OF(buffer)];

	for (int i = npinned - 1; i >= 0; i--)
	{
		if (pinned[i] != buffer)
			continue;
		pinned[i] = pinned[--npinned];
		b->pins--;
		if (b->pins == 0 && b->lock != BUFFER_LOCK_UNLOCK)
			fake_fail("a buffer is released that is locked");
		return;
	}
	fake_fail("a buffer is released that is not pinned");
}

static void
check_buffer(Buffer buffer)
{
	if (buffer < 2 || buffer >= NBuffers || buffer % 2 != 0)
		fake_fail("bad buffer %d", buffer);
}

Buffer
ReadBufferExtended(Relation rel, ForkNumber fork, BlockNumber block, ReadBufferMode mode,
				   BufferAccessStrategy strategy)
{
	int			n = relation_number(RelationGetRelid(rel));
	Buffer		buffer;

	if (fake_reads_left > 0 && --fake_reads_left == 0)
		fake_fail("so many buffers are read that it must be an endless loop");
	if (block == P_NEW)
		fake_fail("a block number of a page would have extended the relation");
	if (block >= nblocks[n])
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not read block %u of relation %d", block, n)));
	buffer = BUFFER_OF(n, block);
	pin(buffer);
	if (mode == RBM_ZERO_AND_LOCK)
	{
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		memset(page_of(buffer), 0, BLCKSZ);
	}
	return buffer;
}

Buffer
ReadBuffer(Relation rel, BlockNumber block)
{
	return ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, NULL);
}

bool
ReadRecentBuffer(RelFileNode rnode, ForkNumber fork, BlockNumber block, Buffer recent)
{
	int			n = relation_number(rnode.relNode);

	if (block >= FAKE_BLOCKS || recent != BUFFER_OF(n, block) || !buffers[INDEX_OF(recent)].hot)
		return false;
	pin(recent);
	return true;
}

uint32
BufTableHashCode(BufferTag *tag)
{
	return tag->blockNum;
}

int
BufTableLookup(BufferTag *tag, uint32 hash)
{
	int			n = relation_number(tag->rnode.relNode);

	if (tag->blockNum >= nblocks[n] || !buffers[INDEX_OF(BUFFER_OF(n, tag->blockNum))].hot)
		return -1;
	return BUFFER_OF(n, tag->blockNum) - 1;
}

void
LockBuffer(Buffer buffer, int mode)
{
	FakeBuffer *b = &buffers[INDEX_OF(buffer)];

	check_buffer(buffer);
	if (b->pins == 0)
		fake_fail("a buffer is locked that is not pinned");
	if (mode == BUFFER_LOCK_UNLOCK)
	{
		if (b->lock == BUFFER_LOCK_UNLOCK)
			fake_fail("a buffer is unlocked that is not locked");
		poison(buffer);
	}
	else
	{
		if (b->lock != BUFFER_LOCK_UNLOCK)
			fake_fail("a buffer is locked twice: the server would wait for ever");
		unpoison(buffer);
	}
	b->lock = (int8) mode;
}

void
ReleaseBuffer(Buffer buffer)
{
	check_buffer(buffer);
	unpin(buffer);
}

void
UnlockReleaseBuffer(Buffer buffer)
{
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	ReleaseBuffer(buffer);
}

/* What an error's end of transaction does, for pins too. */
void
UnlockBuffers(void)
{
	while (npinned > 0)
	{
		Buffer		buffer = pinned[npinned - 1];

		if (buffers[INDEX_OF(buffer)].lock != BUFFER_LOCK_UNLOCK)
			LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
		unpin(buffer);
	}
}

void
MarkBufferDirty(Buffer buffer)
{
	check_buffer(buffer);
	if (buffers[INDEX_OF(buffer)].lock != BUFFER_LOCK_EXCLUSIVE)
		fake_fail("a buffer is changed without its lock");
	buffers[INDEX_OF(buffer)].dirty = true;
}

void
FlushOneBuffer(Buffer buffer)
{
}

/* Of src/log, but all about files: there are none here. */
bool
klog_writeout(Relation rel, KLogPartition *part)
{
	return false;
}

Size
klog_readin_shmem_size(void)
{
	return 0;
}

void
klog_readin_shmem_init(void)
{
}

void
klog_readin_attach(int n)
{
}

void
klog_readin(Relation rel, KLogPartition *part, KLogSegment *seg, uint32 page, uint32 last,
			uint32 final, uint32 *reading)
{
	fake_fail("there is no reader to read");
}

BlockNumber
BufferGetBlockNumber(Buffer buffer)
{
	return INDEX_OF(buffer) % FAKE_BLOCKS;
}

void
fake_check_released(void)
{
	if (npinned > 0)
		fake_fail("%d pins are held", npinned);
	if (InterruptHoldoffCount > 0)
		fake_fail("locks are held");
	if (open_files > 0)
		fake_fail("files are open");
}

/* ------------------------------------------------------------------------
 * Pages
 * ------------------------------------------------------------------------
 */

void
PageInit(Page page, Size size, Size special)
{
	PageHeader	header = (PageHeader) page;

	memset(page, 0, size);
	header->pd_lower = SizeOfPageHeaderData;
	header->pd_upper = header->pd_special = size - MAXALIGN(special);
	PageSetPageSizeAndVersion(page, size, PG_PAGE_LAYOUT_VERSION);
}

void
mask_page_lsn_and_checksum(Page page)
{
	PageHeader	header = (PageHeader) page;

	header->pd_lsn = (PageXLogRecPtr) {0, 0};
	header->pd_checksum = MASK_MARKER;
}

void
mask_unused_space(Page page)
{
	PageHeader	header = (PageHeader) page;

	if (header->pd_lower > header->pd_upper || header->pd_special < header->pd_upper ||
		header->pd_lower < SizeOfPageHeaderData || header->pd_special > BLCKSZ)
		fake_fail("a page whose bounds contradict each other");
	memset(page + header->pd_lower, MASK_MARKER, header->pd_upper - header->pd_lower);
}

/* ------------------------------------------------------------------------
 * Redo
 * ------------------------------------------------------------------------
 */

static Buffer
redo_buffer(XLogReaderState *record, uint8 id, DecodedBkpBlock **block)
{
	int			n;
	Buffer		buffer;

	if (!XLogRecHasBlockRef(record, id))
		elog(PANIC, "failed to locate backup block with ID %d in WAL record", id);
	*block = XLogRecGetBlock(record, id);
	n = relation_number((*block)->rnode.relNode);
	if (n < 0 || (*block)->blkno >= FAKE_BLOCKS)
		return InvalidBuffer;
	buffer = BUFFER_OF(FAKE_RELATIONS + n, (*block)->blkno);
	pin(buffer);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	return buffer;
}

XLogRedoAction
XLogReadBufferForRedo(XLogReaderState *record, uint8 id, Buffer *buffer)
{
	DecodedBkpBlock *block;

	*buffer = redo_buffer(record, id, &block);
	if (*buffer == InvalidBuffer)
		return BLK_NOTFOUND;
	if ((block->flags & BKPBLOCK_WILL_INIT) != 0)
		elog(PANIC, "block to be initialized in redo routine must be zeroed or initialized");
	if (block->apply_image)
	{
		memcpy(page_of(*buffer), block->bkp_image, BLCKSZ);
		return BLK_RESTORED;
	}
	return BLK_NEEDS_REDO;
}

Buffer
XLogInitBufferForRedo(XLogReaderState *record, uint8 id)
{
	DecodedBkpBlock *block;
	Buffer		buffer = redo_buffer(record, id, &block);

	if (buffer == InvalidBuffer)
		elog(PANIC, "a block to be initialized was not found");
	memset(page_of(buffer), 0, BLCKSZ);
	return buffer;
}

char *
XLogRecGetBlockData(XLogReaderState *record, uint8 id, Size *len)
{
	DecodedBkpBlock *block;

	if (id > record->record->max_block_id || !record->record->blocks[id].in_use)
		return NULL;
	block = &record->record->blocks[id];
	if (len != NULL)
		*len = block->has_data ? block->data_len : 0;
	return block->has_data ? block->data : NULL;
}

void
XLogRecGetBlockTag(XLogReaderState *record, uint8 id, RelFileNode *rnode, ForkNumber *fork,
				   BlockNumber *block)
{
	*rnode = record->record->blocks[id].rnode;
}

void
fake_redo(XLogReaderState *record)
{
	StringInfoData text;
	MemoryContext caller = CurrentMemoryContext;

	CurrentMemoryContext = AllocSetContextCreate(TopMemoryContext, "desc",
												 ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&text);
	klog_desc(&text, record);
	(void) klog_identify(XLogRecGetInfo(record));
	{
		MemoryContext mine = CurrentMemoryContext;

		CurrentMemoryContext = caller;
		MemoryContextDelete(mine);
	}
	klog_redo(record);
}

/* ------------------------------------------------------------------------
 * WAL
 * ------------------------------------------------------------------------
 */

static int	max_blocks = 4;
static int	max_parts = 20;

void
XLogEnsureRecordSpace(int max_block_id, int ndatas)
{
	if (CritSectionCount > 0)
		fake_fail("record space is asked for in a critical section");
	max_blocks = Max(max_blocks, max_block_id);
	max_parts = Max(max_parts, ndatas);
}

void
XLogBeginInsert(void)
{
	if (record.begun)
		fake_fail("a WAL record in a WAL record");
	record.begun = true;
	record.nparts = 0;
	record.nblocks = 0;
}

static void
add_part(int block, const char *data, Size len)
{
	if (record.nparts == max_parts || record.nparts == MAX_PARTS)
		fake_fail("too many parts of a WAL record");
	record.parts[record.nparts].block = block;
	record.parts[record.nparts].part.data = data;
	record.parts[record.nparts++].part.len = len;
}

void
XLogRegisterData(char *data, int len)
{
	add_part(-1, data, len);
}

void
XLogRegisterBuffer(uint8 id, Buffer buffer, uint8 flags)
{
	if (id != record.nblocks || id > max_blocks)
		fake_fail("block %d of a WAL record is out of order, or too many", id);
	check_buffer(buffer);
	if (!buffers[INDEX_OF(buffer)].dirty)
		fake_fail("a page in a WAL record that is not dirty");
	record.buffer[id] = buffer;
	record.flags[id] = flags;
	record.nblocks++;
}

void
XLogRegisterBufData(uint8 id, char *data, int len)
{
	if (id >= record.nblocks)
		fake_fail("data of a block that is not in the record");
	add_part(id, data, len);
}

/* Concatenates what was registered; malloc'd, so that its end is guarded. */
static char *
gather(int block, Size *len)
{
	char	   *data;
	Size		at = 0;

	*len = 0;
	for (int i = 0; i < record.nparts; i++)
		*len += record.parts[i].block == block ? record.parts[i].part.len : 0;
	data = malloc(Max(*len, 1));
	for (int i = 0; i < record.nparts; i++)
	{
		if (record.parts[i].block != block)
			continue;
		memcpy(data + at, record.parts[i].part.data, record.parts[i].part.len);
		at += record.parts[i].part.len;
	}
	return data;
}

static void
compare(Buffer buffer, Buffer twin)
{
	PGAlignedBlock a;
	PGAlignedBlock b;

	unpoison(twin);
	memcpy(a.data, page_of(buffer), BLCKSZ);
	memcpy(b.data, page_of(twin), BLCKSZ);
	poison(twin);
	klog_mask(a.data, 0);
	klog_mask(b.data, 0);
	for (int i = 0; memcmp(a.data, b.data, BLCKSZ) != 0 && i < BLCKSZ; i++)
	{
		if (a.data[i] != b.data[i])
			fake_fail("redo differs from do: byte %d of the page is %02x, done %02x", i,
					  (uint8) b.data[i], (uint8) a.data[i]);
	}
}

/* As the standby would: from the record alone. */
static void
replay(uint8 info)
{
	DecodedXLogRecord *decoded = calloc(1, offsetof(DecodedXLogRecord, blocks) +
										sizeof(DecodedBkpBlock) * MAX_RECORD_BLOCKS);
	XLogReaderState state = {0};
	char	   *images[MAX_RECORD_BLOCKS] = {0};
	uint32		critical = CritSectionCount;
	Size		limit = fake_memory_limit;
	Size		len;

	state.record = decoded;
	state.EndRecPtr = insert_lsn;
	decoded->header.xl_info = info;
	decoded->main_data = gather(-1, &len);
	decoded->main_data_len = (uint32) len;
	decoded->max_block_id = record.nblocks - 1;
	for (int i = 0; i < record.nblocks; i++)
	{
		DecodedBkpBlock *block = &decoded->blocks[i];
		int			index = INDEX_OF(record.buffer[i]);
		bool		init = (record.flags[i] & REGBUF_WILL_INIT) == REGBUF_WILL_INIT;

		block->in_use = true;
		block->rnode = relations[index / FAKE_BLOCKS].rd_node;
		block->forknum = MAIN_FORKNUM;
		block->blkno = index % FAKE_BLOCKS;
		block->flags = init ? BKPBLOCK_WILL_INIT : 0;
		if (!init && fake_chance(fake_full_pages))
		{
			PageHeader	header;

			block->has_image = block->apply_image = true;
			block->bkp_image = images[i] = malloc(BLCKSZ);
			memcpy(images[i], page_of(record.buffer[i]), BLCKSZ);
			header = (PageHeader) images[i];
			memset(images[i] + header->pd_lower, 0, header->pd_upper - header->pd_lower);
		}
		block->data = gather(i, &len);
		if (len > UINT16_MAX)
			fake_fail("too much data of a block for a WAL record");
		block->data_len = (uint16) len;
		/* a page image takes the place of the data */
		block->has_data = len > 0 && !block->has_image;
	}
	/* what replays is another process: with memory of its own */
	CritSectionCount = 0;
	fake_memory_limit = 0;
	fake_redo(&state);
	fake_memory_limit = limit;
	CritSectionCount = critical;
	for (int i = 0; i < record.nblocks; i++)
	{
		compare(record.buffer[i], record.buffer[i] + PAGES);
		free(images[i]);
		free(decoded->blocks[i].data);
	}
	free(decoded->main_data);
	free(decoded);
	fake_replayed++;
}

XLogRecPtr
XLogInsert(RmgrId rmid, uint8 info)
{
	if (!record.begun)
		fake_fail("a WAL record without a begin");
	for (int i = 0; i < record.nblocks; i++)
	{
		if (buffers[INDEX_OF(record.buffer[i])].lock != BUFFER_LOCK_EXCLUSIVE)
			fake_fail("a page in a WAL record that is not locked");
	}
	insert_lsn += 64;
	for (int i = 0; i < record.nparts; i++)
		insert_lsn += MAXALIGN(record.parts[i].part.len);
	if (fake_replay)
		replay(info);
	for (int i = 0; i < record.nblocks; i++)
		buffers[INDEX_OF(record.buffer[i])].dirty = false;
	record.begun = false;
	return insert_lsn;
}

XLogRecPtr
fake_insert_lsn(void)
{
	return insert_lsn;
}

XLogRecPtr
GetXLogInsertRecPtr(void)
{
	return insert_lsn;
}

void
XLogFlush(XLogRecPtr lsn)
{
	if (lsn > insert_lsn)
		elog(ERROR, "xlog flush request is not satisfied");
	if (CritSectionCount > 0)
		fake_fail("a flush in a critical section");
	flush_lsn = Max(flush_lsn, lsn);
}

XLogRecPtr
GetFlushRecPtr(TimeLineID *tli)
{
	return flush_lsn;
}

void
RegisterCustomRmgr(RmgrId rmid, RmgrData *rmgr)
{
}
