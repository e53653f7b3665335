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
#else
#include "storage/relfilelocator.h"
#endif

/* Since 16 several blocks are added to a file in one call. */
#if PG_VERSION_NUM < 160000
#include "storage/bufpage.h"
#include "storage/smgr.h"

static inline void
smgrzeroextend(SMgrRelation reln, ForkNumber fork, BlockNumber block, int nblocks, bool skip_fsync)
{
	PGAlignedBlock zero;

	memset(&zero, 0, sizeof(zero));
	for (int i = 0; i < nblocks; i++)
		smgrextend(reln, fork, block + i, zero.data, skip_fsync);
}
#endif

#endif							/* KAFKA_PG_COMPAT_H */
