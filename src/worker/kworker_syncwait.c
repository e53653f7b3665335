/*
 * kworker_syncwait.c
 *		Waits for synchronous standbys, so that no broker has to.
 *
 * Runs while synchronous_standby_names is set. A wait that the end of the server cuts short
 * acknowledges nothing.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "log/klog.h"
#include "worker/kworker_int.h"

static long
kworker_syncwait_turn(void)
{
	return klog_syncwait_turn() ? 0 : -1;
}

void
kworker_syncwait(int no)
{
	/* the other processes' "off" would make the wait return at once */
	SetConfigOption("synchronous_commit", "on", PGC_SUSET, PGC_S_OVERRIDE);
	klog_syncwait_attach();
	kworker_loop(kworker_syncwait_turn);
}
