/*
 * kworker_flusher.c
 *		Flushes the WAL for whoever has asked, and publishes how far it is durable.
 *
 * Appends that are made during a flush wait for the next one, together: that is the
 * group commit.
 */
#include "postgres.h"

#include "log/klog.h"
#include "worker/kworker_int.h"

static long
kworker_flusher_turn(void)
{
	return klog_flusher_turn() ? 0 : -1;
}

void
kworker_flusher(int no)
{
	klog_flusher_attach();
	kworker_loop(kworker_flusher_turn);
}
