/*
 * kapi_ddl.c
 *		Requests that wait for CREATE or DROP, which the DDL process does.
 *
 * An answer that says "created" must not be forgotten by a crash, and the DDL process commits
 * asynchronously: so it is held until its commit record is durable.
 */
#include "postgres.h"

#include "api/kapi_request.h"
#include "api/kapi_wait.h"

/* One request has so many jobs in the queue at a time: others want to get in. */
#define MAX_SUBMITTED	8

typedef struct KDdlWork
{
	KDdlJob    *jobs;
	int			n;
	int			submitted;		/* and not done */
	int			next;			/* first job that was not handed over */
	int64		deadline;
	XLogRecPtr	lsn;
	void		(*then) (KRequest * req);
} KDdlWork;

static void
time_out(KDdlJob * job)
{
	if (job->ticket != 0)
		kapi_io->ddl_cancel(job->ticket);
	job->ticket = 0;
	job->done = true;
	memset(&job->result, 0, sizeof(job->result));
	job->result.error = KERR_REQUEST_TIMED_OUT;
	strlcpy(job->result.message, "The request timed out.", sizeof(job->result.message));
}

static void
ddl_step(KRequest * req)
{
	KDdlWork   *work = req->ddl;
	bool		late = kapi_now() >= work->deadline;
	bool		all = true;

	for (int i = 0; i < work->next; i++)
	{
		KDdlJob    *job = &work->jobs[i];

		if (job->done)
			continue;
		if (kapi_io->ddl_poll(job->ticket, &job->result))
		{
			job->ticket = 0;
			job->done = true;
			work->submitted--;
			work->lsn = Max(work->lsn, job->result.lsn);
		}
		else if (late)
			time_out(job);
		else
			all = false;
	}
	while (work->next < work->n)
	{
		KDdlJob    *job = &work->jobs[work->next];

		if (late)
			time_out(job);
		else
		{
			all = false;
			if (work->submitted >= MAX_SUBMITTED ||
				(job->ticket = kapi_io->ddl_submit(&job->ddl)) == 0)
				break;
			work->submitted++;
		}
		work->next++;
	}

	if (all && work->lsn > klog_durable_lsn())
	{
		if (!late)
		{
			kapi_wait_lsn(req, work->lsn, true, ddl_step);
			kapi_wait_until(req, work->deadline, ddl_step);
			return;
		}
		for (int i = 0; i < work->n; i++)
		{
			if (work->jobs[i].result.lsn > klog_durable_lsn())
				time_out(&work->jobs[i]);
		}
	}
	if (all)
	{
		work->then(req);
		return;
	}

	/* The DDL process sets our latch; a full queue is looked at again by time. */
	kapi_wait_poll(req, ddl_step);
	if (work->submitted == 0)
		kapi_wait_retry(req, ddl_step);
	kapi_wait_until(req, work->deadline, ddl_step);
}

void
kapi_ddl_run(KRequest * req, KDdlJob * jobs, int n, int timeout_ms, void (*then) (KRequest * req))
{
	KDdlWork   *work = palloc0(sizeof(KDdlWork));

	work->jobs = jobs;
	work->n = n;
	work->then = then;
	work->deadline = kapi_now() + timeout_ms;
	for (int i = 0; i < n; i++)
		jobs[i].ddl.timeout_ms = timeout_ms;
	req->ddl = work;
	ddl_step(req);
}

void
kapi_ddl_end(KRequest * req)
{
	KDdlWork   *work = req->ddl;

	if (work == NULL)
		return;
	for (int i = 0; i < work->next; i++)
	{
		if (work->jobs[i].ticket != 0)
			kapi_io->ddl_cancel(work->jobs[i].ticket);
		work->jobs[i].ticket = 0;
	}
}
