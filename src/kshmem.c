/*
 * kshmem.c
 *		Requests and initialises the shared memory of all modules.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "api/kapi.h"
#include "coord/kcoord.h"
#include "kshmem.h"
#include "kstop.h"
#include "log/klog.h"
#include "topic/ktopic.h"
#include "txn/kproducer.h"
#include "worker/kworker.h"

typedef struct KShmemModule
{
	Size		(*size) (void);
	void		(*init) (void);
} KShmemModule;

static const KShmemModule modules[] = {
	{kstop_shmem_size, kstop_shmem_init},
	{klog_shmem_size, klog_shmem_init},
	{kepoch_shmem_size, kepoch_shmem_init},
	{kproducer_shmem_size, kproducer_shmem_init},
	{kcoord_shmem_size, kcoord_shmem_init},
	{kapi_shmem_size, kapi_shmem_init},
	{kworker_shmem_size, kworker_shmem_init},
};

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
request_shmem(void)
{
	Size		size = 0;

	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	for (int i = 0; i < (int) lengthof(modules); i++)
		size = add_size(size, modules[i].size());
	RequestAddinShmemSpace(size);
}

static void
startup_shmem(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < (int) lengthof(modules); i++)
		modules[i].init();
	LWLockRelease(AddinShmemInitLock);
}

void
kshmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}
