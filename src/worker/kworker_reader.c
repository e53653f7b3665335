/*
 * kworker_reader.c
 *		Brings cold pages into shared buffers for brokers, which must not wait for a disk.
 */
#include "postgres.h"

#include "log/klog.h"
#include "worker/kworker_int.h"

static long
kworker_reader_turn(void)
{
	return klog_reader_turn() ? 0 : -1;
}

void
kworker_reader(int no)
{
	klog_reader_attach(no);
	kworker_loop(kworker_reader_turn);
}
