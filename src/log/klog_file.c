/*
 * klog_file.c
 *		The files of a relation, for those who read or write many neighbouring blocks at once.
 */
#include "postgres.h"

#include <unistd.h>

#include "common/relpath.h"
#include "miscadmin.h"

#include "compat.h"
#include "kguc.h"
#include "log/klog_buffer.h"

void
klog_file_close(KLogFile *file)
{
	if (file->file >= 0)
		FileClose(file->file);
	file->file = -1;
}

bool
klog_file_open(KLogFile *file, Relation rel, BlockNumber block, int flags)
{
	uint32		segno = block / RELSEG_SIZE;
	char	   *path;

	if (file->file >= 0 && file->segno == segno)
		return true;
	klog_file_close(file);
	path = klog_file_path(rel, block);
	file->segno = segno;
	file->file = PathNameOpenFile(path, flags | PG_BINARY);
	return file->file >= 0;
}

char *
klog_file_path(Relation rel, BlockNumber block)
{
	char	   *base = kcompat_relpath(rel->rd_locator, MAIN_FORKNUM);
	uint32		segno = block / RELSEG_SIZE;

	return segno > 0 ? psprintf("%s.%u", base, segno) : base;
}

/*
 * What lies in shared buffers, or lay there until a moment ago, is nothing to keep another copy of
 * at the expense of everybody else's files; unless there are so few of them that readers who lag a
 * little live from the page cache.
 */
bool
klog_file_drops_behind(void)
{
	static int	suggested = -1;

	if (kguc_drop_behind != KDROP_AUTO)
		return kguc_drop_behind == KDROP_ON;
	if (suggested < 0)
		suggested = (double) NBuffers * BLCKSZ >=
			(double) sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 8;
	return suggested != 0;
}

bool
klog_file_cannot_drop(int error)
{
	return error == EOPNOTSUPP || error == EINVAL || error == ENOSYS;
}
