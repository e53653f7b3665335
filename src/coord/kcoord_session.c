/*
 * kcoord_session.c
 *		Groups that SQL sessions use, and so nobody may be a member of.
 *
 * A session takes a heavyweight lock on the group, in a mode that sessions share, and then looks
 * whether the group has members.  A broker looks at the lock while it holds the group, before it
 * lets a first member in.  So at least one of the two sees the other.  The lock needs no memory
 * of ours, and goes whichever way the transaction ends, its savepoints and PREPARE included.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lock.h"

#include "coord/kcoord.h"

#define SESSIONS_LOCK	ShareLock
#define MEMBERS_LOCK	ExclusiveLock

/* After a start brokers read the groups' rows: that is waited for. */
#define LOAD_LIMIT_MS	10000
#define LOAD_LOOK_MS	20

/* Beside those of pg_advisory_lock(), which have 1 and 2. */
#define LOCK_KIND		3

/* No catalog is asked: a broker has the group locked. */
static void
make_tag(KStr group_id, LOCKTAG *tag)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) group_id.data, group_id.len, 0);

	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash, LOCK_KIND);
}

static void
pause_ms(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
wait_loaded(void)
{
	for (int ms = 0; !kcoord_loaded(); ms += LOAD_LOOK_MS)
	{
		if (ms >= LOAD_LIMIT_MS)
			ereport(ERROR,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("consumer groups are not there yet"),
					 errhint("Brokers read them when they start; the server's log tells what keeps them.")));
		pause_ms(LOAD_LOOK_MS);
	}
}

static int
count_members(KStr group_id)
{
	KCoordSlot *slot;
	KGroupSummary summary = {.type = KGROUP_NONE};
	size_t		len;
	const uint8 *image;

	if (kcoord_lock(group_id, false, &slot) != KCOORD_LOCKED)
		return 0;
	image = kcoord_image(slot, &len);
	if (image == NULL || !kgroup_image_summary(image, len, &summary))
		summary.members = 0;
	kcoord_unlock(slot);
	return summary.type == KGROUP_NONE ? 0 : summary.members;
}

void
kcoord_session_check(KStr group_id)
{
	int			members;

	do
	{
		wait_loaded();
		members = count_members(group_id);
	} while (!kcoord_loaded());
	if (members > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("consumer group \"%.*s\" has Kafka clients as members",
						group_id.len, group_id.data),
				 errdetail_plural("It has %d member.", "It has %d members.", members, members),
				 errhint("Stop them, or wait until their sessions have expired: view kafka.group_members.")));
}

void
kcoord_session_enter(KStr group_id)
{
	LOCKTAG		tag;

	wait_loaded();
	make_tag(group_id, &tag);
	(void) LockAcquire(&tag, SESSIONS_LOCK, false, false);
	kcoord_session_check(group_id);
}

bool
kcoord_session_active(KStr group_id)
{
	LOCKTAG		tag;

	make_tag(group_id, &tag);
	if (LockAcquire(&tag, MEMBERS_LOCK, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, MEMBERS_LOCK, false);
	return false;
}

int
kcoord_session_count(KStr group_id)
{
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	int			count;

	make_tag(group_id, &tag);
	holders = GetLockConflicts(&tag, MEMBERS_LOCK, &count);
	if (!RecoveryInProgress())
		pfree(holders);
	return count;
}

uint8 *
kcoord_session_copy(int i, KStr *group_id, size_t *len)
{
	KCoordSlot *slot;
	uint8	   *copy = NULL;
	const uint8 *image;
	KStr		id;

	if (kcoord_lock_number(i, &slot) != KCOORD_LOCKED)
		return NULL;
	image = kcoord_image(slot, len);
	if (image != NULL)
	{
		id = kcoord_id(slot);
		group_id->data = pnstrdup(id.data, id.len);
		group_id->len = id.len;
		copy = MemoryContextAllocHuge(CurrentMemoryContext, *len);
		memcpy(copy, image, *len);
	}
	kcoord_unlock(slot);
	return copy;
}
