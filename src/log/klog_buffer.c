/*
 * klog_buffer.c
 *		Getting pages of the log by what they are.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/buf_internals.h"
#include "storage/shmem.h"

#include "compat.h"
#include "log/klog_buffer.h"

/*
 * In which buffer a block was last seen: one entry for several blocks, read and written without a
 * lock, and only believed when the buffer says so itself (ReadRecentBuffer).  It spares the look-up
 * in the table of all buffers, which was an eighth of what a hot fetch costs the server.
 */
static pg_atomic_uint32 *hints = NULL;

static uint32
hints_number(void)
{
	return pg_nextpower2_32(Max(NBuffers, 1024));
}

Size
klog_buffer_shmem_size(void)
{
	return mul_size(hints_number(), sizeof(pg_atomic_uint32));
}

void
klog_buffer_shmem_init(void)
{
	bool		found;

	hints = ShmemInitStruct("kafka_pg buffer hints", klog_buffer_shmem_size(), &found);
	for (uint32 i = 0; !found && i < hints_number(); i++)
		pg_atomic_init_u32(&hints[i], InvalidBuffer);
}

/* Blocks that follow each other have entries that do. */
static pg_atomic_uint32 *
hint_of(Relation rel, BlockNumber block)
{
	uint32		hash = RelationGetRelid(rel) * 0x9E3779B1u;

	return &hints[(hash + block) & (hints_number() - 1)];
}

void
klog_buffer_note(Relation rel, BlockNumber block, Buffer buffer)
{
	pg_atomic_write_u32(hint_of(rel, block), buffer);
}

/*
 * Pins and locks a block; mode: BUFFER_LOCK_SHARE or BUFFER_LOCK_EXCLUSIVE.  The number may come
 * from a damaged page: one that no block has would make the server add a block.
 */
Buffer
klog_buffer_get(Relation rel, BlockNumber block, int mode, KLogPosition *cold)
{
	Buffer		buffer;

	if (unlikely(block == InvalidBlockNumber))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a page of \"%s\" refers to a block that cannot be",
						RelationGetRelationName(rel))));
	if (cold == NULL)
		buffer = ReadBuffer(rel, block);
	else
	{
		buffer = klog_buffer_pin_hot(rel, block);
		if (!BufferIsValid(buffer))
		{
			*cold = KLOG_COLD_BLOCK(block);
			return InvalidBuffer;
		}
	}
	LockBuffer(buffer, mode);
	return buffer;
}

/*
 * A data page, share-locked.  As *cold it is told by its place in the segment, so that a reader
 * brings in those that follow, too.
 */
Buffer
klog_buffer_get_data(Relation rel, BlockNumber block, const KLogSegment *seg, uint32 page,
					 KLogPosition *cold)
{
	Buffer		buffer = klog_buffer_get(rel, block, BUFFER_LOCK_SHARE, cold);

	if (!BufferIsValid(buffer))
		*cold = (KLogPosition) {-1, seg->entry.segment, page, 0};
	return buffer;
}

/* Is the block in shared buffers?  If so, it most likely will be in a moment. */
bool
klog_buffer_is_hot(Relation rel, BlockNumber block, KLogPosition *cold)
{
	Buffer		buffer = klog_buffer_pin_hot(rel, block);

	if (BufferIsValid(buffer))
		ReleaseBuffer(buffer);
	else
		*cold = KLOG_COLD_BLOCK(block);
	return BufferIsValid(buffer);
}

/* In which buffer is the block, or will be when it has been read?  Takes no pin. */
Buffer
klog_buffer_find(Relation rel, BlockNumber block)
{
	BufferTag	tag;
	uint32		hash;
	LWLock	   *lock;
	int			id;

	kcompat_buffer_tag(&tag, rel->rd_locator, MAIN_FORKNUM, block);
	hash = BufTableHashCode(&tag);
	lock = BufMappingPartitionLock(hash);
	LWLockAcquire(lock, LW_SHARED);
	id = BufTableLookup(&tag, hash);
	LWLockRelease(lock);
	return id < 0 ? InvalidBuffer : id + 1;
}

/* Pins a block if it is in shared buffers; else InvalidBuffer. */
Buffer
klog_buffer_pin_hot(Relation rel, BlockNumber block)
{
	Buffer		buffer = pg_atomic_read_u32(hint_of(rel, block));

	if (BufferIsValid(buffer) &&
		ReadRecentBuffer(rel->rd_locator, MAIN_FORKNUM, block, buffer))
		return buffer;
	buffer = klog_buffer_find(rel, block);
	if (!BufferIsValid(buffer) ||
		!ReadRecentBuffer(rel->rd_locator, MAIN_FORKNUM, block, buffer))
		return InvalidBuffer;
	klog_buffer_note(rel, block, buffer);
	return buffer;
}

/* Copies the metapage's content; false when the relation has none yet. */
bool
klog_meta_read(Relation rel, KLogMeta *copy, KLogPosition *cold)
{
	Buffer		buffer;
	bool		valid;

	/*
	 * The file has its first unit before the metapage is in it, see klog_relation_init.  A new file
	 * that has nothing is an empty topic.
	 */
	if (RelationGetNumberOfBlocks(rel) == 0)
		return false;
	buffer = klog_buffer_get(rel, KLOG_META_BLOCK, BUFFER_LOCK_SHARE, cold);
	if (!BufferIsValid(buffer))
		return false;
	if (PageIsNew(BufferGetPage(buffer)))
	{
		UnlockReleaseBuffer(buffer);
		return false;
	}
	valid = klog_page_is(BufferGetPage(buffer), KLOG_PAGE_META, -1, 0, 0);
	if (valid)
		memcpy(copy, KLogPageContent(BufferGetPage(buffer)), sizeof(KLogMeta));
	UnlockReleaseBuffer(buffer);
	if (!valid || copy->magic != KLOG_META_MAGIC || copy->layout != KLOG_LAYOUT_VERSION ||
		(copy->extent_units != 1 && copy->extent_units != 2 &&
		 copy->extent_units != KLOG_MAX_EXTENT_UNITS) ||
		copy->npartitions < 0 || copy->npartitions > KLOG_MAX_PARTITIONS)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("\"%s\" has no valid kafka_log metapage", RelationGetRelationName(rel))));
	return true;
}

/* The partition's header page, locked; InvalidBuffer when it does not exist yet (or is cold). */
Buffer
klog_partition_header(Relation rel, int32 partition, int mode, KLogPosition *cold)
{
	KLogMeta	meta;
	KLogPartitionHeader *header;
	BlockNumber block;
	Buffer		buffer;

	if (!klog_meta_read(rel, &meta, cold))
		return InvalidBuffer;
	block = klog_page_partition_block(&meta, partition);
	if (block == InvalidBlockNumber || block >= RelationGetNumberOfBlocks(rel))
		return InvalidBuffer;
	buffer = klog_buffer_get(rel, block, mode, cold);
	if (!BufferIsValid(buffer))
		return InvalidBuffer;
	if (PageIsNew(BufferGetPage(buffer)))
	{
		UnlockReleaseBuffer(buffer);
		return InvalidBuffer;
	}
	header = KLogPageContent(BufferGetPage(buffer));
	if (!klog_page_is(BufferGetPage(buffer), KLOG_PAGE_PARTITION, partition, 0, 0) ||
		header->nentries > KLOG_HEADER_ENTRIES || header->nmaps > KLOG_HEADER_MAPS)
	{
		UnlockReleaseBuffer(buffer);
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("block %u of \"%s\" is not the header of partition %d", block,
						RelationGetRelationName(rel), partition)));
	}
	return buffer;
}
