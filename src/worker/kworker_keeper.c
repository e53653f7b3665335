/*
 * kworker_keeper.c
 *		Keeps the log in order: grows files ahead of need, settles transactions on their
 *		pages, writes full pages out.
 */
#include "postgres.h"

#include "log/klog.h"
#include "worker/kworker_int.h"

void
kworker_keeper(int no)
{
	klog_keeper_attach();
	kworker_loop(klog_keeper_turn);
}
