/*
 * klog_pending.c
 *		Appends of Postgres transactions that are not over: they hold the high watermark back
 *		until their commit is durable.
 *
 * An entry is taken from the pool before the append, linked to its partition when the append is
 * done, and settled by the transaction's end. The callbacks neither allocate nor throw.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "utils/memutils.h"

#include "kguc.h"
#include "log/klog_state.h"

/* What this process's transaction has appended. */
typedef struct OwnPending
{
	KLogPartition *part;
	uint64		generation;		/* of the partition's slot */
	int			index;			/* in the pool */
	int			level;			/* nesting level of the (sub)transaction */
	TransactionId xid;
	int64		end_offset;		/* after its last append */
	bool		linked;
} OwnPending;

static OwnPending *own = NULL;
static int	nown = 0;
static int	own_size = 0;
static XLogRecPtr own_lsn = InvalidXLogRecPtr;	/* end of the last append in own[] */

static int
take_entry(void)
{
	int			index;

	SpinLockAcquire(&klog_shared->mutex);
	index = klog_shared->free_pending;
	if (index != KLOG_NO_INDEX)
		klog_shared->free_pending = klog_pendings[index].next;
	SpinLockRelease(&klog_shared->mutex);
	return index;
}

static void
give_entry(int index)
{
	SpinLockAcquire(&klog_shared->mutex);
	klog_pendings[index].next = klog_shared->free_pending;
	klog_shared->free_pending = index;
	SpinLockRelease(&klog_shared->mutex);
}

/* Gives back a list of entries that was unlinked from a partition. */
void
klog_pending_give(int list)
{
	while (list != KLOG_NO_INDEX)
	{
		int			next = klog_pendings[list].next;

		give_entry(list);
		list = next;
	}
}

/* Makes sure that klog_pending_add() cannot fail.  Throws when the pool is empty. */
void
klog_pending_reserve(KLogPartition *part, TransactionId xid)
{
	OwnPending *mine;

	for (int i = nown - 1; i >= 0; i--)
	{
		if (own[i].part == part && own[i].xid == xid && own[i].generation == part->generation)
			return;
	}
	if (nown == own_size)
	{
		int			size = own_size ? own_size * 2 : 64;

		if (own == NULL)
			own = MemoryContextAlloc(TopMemoryContext, sizeof(OwnPending) * size);
		else
			own = repalloc(own, sizeof(OwnPending) * size);
		own_size = size;
	}
	mine = &own[nown];
	mine->index = take_entry();
	if (mine->index == KLOG_NO_INDEX)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many partitions are written by transactions in progress"),
				 errhint("Increase kafka_pg.max_pending_appends (now %d) and restart the server, "
						 "or produce to fewer partitions in one transaction.",
						 kguc_max_pending_appends)));
	mine->part = part;
	mine->generation = part->generation;
	mine->xid = xid;
	mine->level = GetCurrentTransactionNestLevel();
	mine->linked = false;
	nown++;
}

/* Links the reserved entry; from now on the watermark stays at or below first_offset. */
void
klog_pending_add(KLogPartition *part, int64 first_offset, int64 end_offset, XLogRecPtr lsn)
{
	OwnPending *mine = NULL;
	KLogPending *entry;

	own_lsn = lsn;
	for (int i = nown - 1; i >= 0; i--)
	{
		if (own[i].part != part || own[i].generation != part->generation)
			continue;
		own[i].end_offset = end_offset;
		if (!own[i].linked)
			mine = &own[i];
	}
	if (mine == NULL)
		return;					/* a further append of the same transaction */
	entry = &klog_pendings[mine->index];
	entry->xid = mine->xid;
	entry->state = KLOG_PENDING_RUNNING;
	entry->first_offset = first_offset;
	entry->commit_lsn = InvalidXLogRecPtr;
	SpinLockAcquire(&part->mutex);
	entry->next = part->pending;
	part->pending = mine->index;
	SpinLockRelease(&part->mutex);
	mine->linked = true;
}

/* Is xid known to be running, with a live entry here? */
bool
klog_pending_running(KLogPartition *part, TransactionId xid)
{
	bool		found = false;

	SpinLockAcquire(&part->mutex);
	for (int i = part->pending; i != KLOG_NO_INDEX && !found; i = klog_pendings[i].next)
		found = klog_pendings[i].xid == xid && klog_pendings[i].state == KLOG_PENDING_RUNNING;
	SpinLockRelease(&part->mutex);
	return found;
}

/* Drops all entries of a partition whose relation is gone. */
void
klog_pending_drop(KLogPartition *part)
{
	int			list;

	SpinLockAcquire(&part->mutex);
	list = part->pending;
	part->pending = KLOG_NO_INDEX;
	SpinLockRelease(&part->mutex);
	klog_pending_give(list);
}

/* The (sub)transaction of one of our entries is over. */
static void
settle(OwnPending *mine, bool commit)
{
	KLogPartition *part = mine->part;
	bool		found = false;

	if (!mine->linked)
	{
		give_entry(mine->index);
		return;
	}
	SpinLockAcquire(&part->mutex);
	if (part->generation == mine->generation)
	{
		int		   *link = &part->pending;

		while (*link != KLOG_NO_INDEX && *link != mine->index)
			link = &klog_pendings[*link].next;
		found = *link == mine->index;
		if (found && commit)
		{
			klog_pendings[mine->index].commit_lsn = XactLastCommitEnd;
			klog_pendings[mine->index].state = KLOG_PENDING_COMMITTED;
		}
		else if (found)
		{
			*link = klog_pendings[mine->index].next;
			part->has_died = true;
		}
	}
	SpinLockRelease(&part->mutex);
	if (!found)
		return;					/* dropped with the relation's state */
	if (!commit)
		give_entry(mine->index);
	klog_dirty_push(part);
}

static void
end_transaction(XactEvent event, void *arg)
{
	bool		commit = event == XACT_EVENT_COMMIT;

	if (nown == 0 || (!commit && event != XACT_EVENT_ABORT))
		return;
	for (int i = 0; i < nown; i++)
		settle(&own[i], commit);
	if (commit && XactLastCommitEnd > klog_flushed_lsn() &&
		XactLastCommitEnd > GetFlushRecPtr(NULL))
		klog_request_flush(XactLastCommitEnd);
	else
		klog_publish();

	/*
	 * Who commits and then looks sees its records: also if another process is just publishing with
	 * an older LSN, or others have appended behind them.
	 */
	for (int i = 0; i < nown && commit; i++)
		klog_watermark_reach(own[i].part, own[i].generation, own[i].end_offset,
							 XactLastCommitEnd);
	nown = 0;
	if (!commit)
		klog_request_flush(own_lsn);	/* the watermark passes dead batches once durable */
}

static void
end_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	int			kept = 0;

	if (nown == 0)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = 0; i < nown; i++)
		{
			if (own[i].level >= level)
				own[i].level = level - 1;
		}
	}
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		for (int i = 0; i < nown; i++)
		{
			if (own[i].level >= level)
				settle(&own[i], false);
			else
				own[kept++] = own[i];
		}
		nown = kept;
		klog_request_flush(own_lsn);
	}
}

void
klog_xact_register(void)
{
	RegisterXactCallback(end_transaction, NULL);
	RegisterSubXactCallback(end_subtransaction, NULL);
}
