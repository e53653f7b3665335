/*
 * compat.h
 *		Differences between Postgres versions, and nothing else.
 *
 * This is the only file that may name PG_VERSION_NUM. Code elsewhere is written as for the newest
 * version that we know; what older ones lack is supplied here.
 */
#ifndef KAFKA_PG_COMPAT_H
#define KAFKA_PG_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "kafka_pg needs Postgres 15 or newer: older ones have no custom WAL resource managers"
#endif

/* Since 16 the "extra" of a setting's check hook comes from guc_malloc; before, from malloc. */
#if PG_VERSION_NUM < 160000
#include <stdlib.h>

static inline void *
guc_malloc(int elevel, size_t size)
{
	void	   *p = malloc(size > 0 ? size : 1);

	if (p == NULL)
		ereport(elevel, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return p;
}
#endif

/* Since 16 a relation's file is named by a RelFileLocator, before by a RelFileNode. */
#if PG_VERSION_NUM < 160000
#include "storage/relfilenode.h"
#define RelFileLocator				RelFileNode
#define RelFileLocatorEquals(a, b)	RelFileNodeEquals(a, b)
#define rd_locator					rd_node
#define relNumber					relNode
#define rd_firstRelfilelocatorSubid	rd_firstRelfilenodeSubid
#define relation_set_new_filelocator relation_set_new_filenode
#else
#include "storage/relfilelocator.h"
#endif

/*
 * Since 16 several blocks are added to a file in one call, which reserves their space instead of
 * writing zeroes that pages are soon to be written over.
 */
#if PG_VERSION_NUM < 160000
#include <fcntl.h>

#include "storage/bufpage.h"
#include "storage/fd.h"
#include "storage/smgr.h"

/* Space for blocks of one segment file; a full disk is an error here. */
static inline void
kcompat_reserve(SMgrRelation reln, ForkNumber fork, BlockNumber block, int nblocks)
{
	BlockNumber segment = block / RELSEG_SIZE;
	char	   *base = relpath(reln->smgr_rnode, fork);
	char	   *path = segment > 0 ? psprintf("%s.%u", base, segment) : base;
	File		file = PathNameOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);
	int			error;

	if (file < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	do
		error = posix_fallocate(FileGetRawDesc(file), (off_t) (block % RELSEG_SIZE) * BLCKSZ,
								(off_t) nblocks * BLCKSZ);
	while (error == EINTR);
	FileClose(file);
	if (error != 0)
	{
		errno = error;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not extend file \"%s\": %m", path),
				 error == ENOSPC ? errhint("Check free disk space.") : 0));
	}
	if (path != base)
		pfree(path);
	pfree(base);
}

static inline void
smgrzeroextend(SMgrRelation reln, ForkNumber fork, BlockNumber block, int nblocks, bool skip_fsync)
{
	PGAlignedBlock zero;

	memset(&zero, 0, sizeof(zero));
	while (nblocks > 0)
	{
		int			n = Min(nblocks, RELSEG_SIZE - (int) (block % RELSEG_SIZE));

		kcompat_reserve(reln, fork, block, n);
		/*
		 * the last one in the ordinary way: so that a checkpoint syncs the file, and its length is
		 * known
		 */
		smgrextend(reln, fork, block + n - 1, zero.data, skip_fsync);
		block += n;
		nblocks -= n;
	}
}
#endif

/* Since 18 the path of a relation's file is a struct. */
#if PG_VERSION_NUM < 180000
#define kcompat_relpath(locator, fork) relpathperm(locator, fork)
#else
#define kcompat_relpath(locator, fork) pstrdup(relpathperm(locator, fork).str)
#endif

/* What a buffer holds. Needs storage/buf_internals.h. */
#if PG_VERSION_NUM < 160000
#define kcompat_buffer_tag(tag, locator, fork, block) \
	INIT_BUFFERTAG(*(tag), locator, fork, block)
#else
#define kcompat_buffer_tag(tag, locator, fork, block) \
	InitBufferTag(tag, &(locator), fork, block)
#endif

/* Names one file of a relation to the checkpointer, as md.c does. Needs storage/sync.h. */
#if PG_VERSION_NUM < 160000
#define kcompat_sync_locator rnode
#else
#define kcompat_sync_locator rlocator
#endif
#define kcompat_sync_tag(tag, locator, fork, segment) \
	(memset((tag), 0, sizeof(FileTag)), \
	 (tag)->handler = SYNC_HANDLER_MD, \
	 (tag)->forknum = (fork), \
	 (tag)->kcompat_sync_locator = (locator), \
	 (tag)->segno = (segment))

/* What tuple_update tells of the indexes was a bool before 16. */
#if PG_VERSION_NUM < 160000
typedef bool TU_UpdateIndexes;
#endif

/* One function for the owners of all kinds of objects, since 16. */
#if PG_VERSION_NUM < 160000
#define kcompat_table_ownercheck(relid, roleid) pg_class_ownercheck(relid, roleid)
#else
#define kcompat_table_ownercheck(relid, roleid) \
	object_ownercheck(RelationRelationId, relid, roleid)
#endif

/* Outer joins no longer matter to it since 16. */
#if PG_VERSION_NUM < 160000
#define kcompat_expression_pathkey(root, expr, opno, relids) \
	build_expression_pathkey(root, expr, NULL, opno, relids, false)
#else
#define kcompat_expression_pathkey(root, expr, opno, relids) \
	build_expression_pathkey(root, expr, opno, relids, false)
#endif

/* Since 18 what EXPLAIN prints with is declared in headers of its own. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/*
 * ANALYZE names the block to sample; since 17 it hands over a stream of buffers.  Both as
 * parameters of a function, and as an expression that sets *block, or is false at the end.
 */
#if PG_VERSION_NUM < 170000
#define KCOMPAT_ANALYZE_PARAMS BlockNumber analyze_block, BufferAccessStrategy bstrategy
#define kcompat_analyze_block(block) (*(block) = analyze_block, true)
#else
#include "storage/bufmgr.h"
#include "storage/read_stream.h"

#define KCOMPAT_ANALYZE_PARAMS ReadStream *analyze_stream
#define kcompat_analyze_block(block) kcompat_stream_block(analyze_stream, block)

static inline bool
kcompat_stream_block(ReadStream *stream, BlockNumber *block)
{
	Buffer		buffer = read_stream_next_buffer(stream, NULL);

	if (!BufferIsValid(buffer))
		return false;
	*block = BufferGetBlockNumber(buffer);
	ReleaseBuffer(buffer);
	return true;
}
#endif

/* Since 18 the number of all-frozen pages is among a relation's statistics. */
#if PG_VERSION_NUM < 180000
#define kcompat_update_relstats(rel, pages, tuples, frozenxid, minmulti) \
	vac_update_relstats(rel, pages, tuples, 0, false, frozenxid, minmulti, NULL, NULL, false)
#define kcompat_report_vacuum(rel, tuples, started) \
	pgstat_report_vacuum(RelationGetRelid(rel), (rel)->rd_rel->relisshared, tuples, 0)
#else
#define kcompat_update_relstats(rel, pages, tuples, frozenxid, minmulti) \
	vac_update_relstats(rel, pages, tuples, 0, 0, false, frozenxid, minmulti, NULL, NULL, false)
#define kcompat_report_vacuum(rel, tuples, started) \
	pgstat_report_vacuum(RelationGetRelid(rel), (rel)->rd_rel->relisshared, tuples, 0, started)
#endif

#endif							/* KAFKA_PG_COMPAT_H */
