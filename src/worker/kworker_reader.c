/*
 * kworker_reader.c
 *		Waits for the disk in the place of brokers, which must not: see klog_reader.c.
 */
#include "postgres.h"

#include "log/klog.h"
#include "worker/kworker_int.h"

static long
kworker_reader_turn(void)
{
	KLogReaderRequest request;

	if (!klog_reader_take(&request))
		return -1;
	/* an ERROR is this request's alone: others need not wait for the pause after one */
	if (!kworker_guard(klog_reader_do, &request))
		klog_reader_failed(&request);
	return 0;
}

void
kworker_reader(int no)
{
	klog_reader_attach(no);
	kworker_loop(kworker_reader_turn);
}
