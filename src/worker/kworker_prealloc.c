/*
 * kworker_prealloc.c
 *		Makes WAL files before they are needed, so that no flush has to wait for one.
 */
#include "postgres.h"

#include "log/klog.h"
#include "worker/kworker_int.h"

void
kworker_prealloc(int no)
{
	klog_prealloc_attach();
	kworker_loop(klog_prealloc_turn);
}
