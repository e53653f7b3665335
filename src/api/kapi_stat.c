/*
 * kapi_stat.c
 *		What the broker processes know of their connections, for all to read: kafka.stat_connection.
 *
 * One slot a connection in shared memory.  What seldom changes is guarded as Postgres guards
 * PgBackendStatus (backend_status.h): the owner makes a count odd, writes, and makes it even again;
 * a reader copies all, and again if the count was odd or has moved.  So brokers wait for nobody.
 * What changes with each request are numbers that are stored at once, outside of the count.
 *
 * The spinlock is for the list of free slots, and held for a few instructions.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "api/kapi_stat.h"
#include "kguc.h"

#define NO_BROKER	(-1)

struct KApiStatSlot
{
	int			changecount;
	int			next_free;		/* index, -1 at the end; spinlock */

	/* by single stores */
	pg_atomic_uint64 last_request;
	pg_atomic_uint64 requests;
	pg_atomic_uint64 received;	/* bytes; written by the event loop */
	pg_atomic_uint64 sent;
	pg_atomic_uint32 parked;

	/* under changecount */
	int			broker;			/* NO_BROKER: free */
	int			pid;
	Oid			role;
	TimestampTz connected;
	int			port;
	int16		client_id_len;	/* -1: null */
	int16		software_name_len;
	int16		software_version_len;
	char		host[KAPI_STAT_HOST];
	char		client_id[KAPI_STAT_CLIENT_ID];
	char		software_name[KAPI_STAT_SOFTWARE];
	char		software_version[KAPI_STAT_SOFTWARE];
};

/* src/api/README.md promises this. */
StaticAssertDecl(sizeof(KApiStatSlot) <= 384, "a slot of kafka.stat_connection is too large");

typedef struct StatShared
{
	slock_t		mutex;			/* protects first_free and next_free of free slots */
	int			first_free;
	int			capacity;
	KApiStatSlot slots[FLEXIBLE_ARRAY_MEMBER];
} StatShared;

static StatShared *shared;

static void
begin_write(KApiStatSlot *slot)
{
	*(volatile int *) &slot->changecount += 1;
	pg_write_barrier();
}

static void
end_write(KApiStatSlot *slot)
{
	pg_write_barrier();
	*(volatile int *) &slot->changecount += 1;
	Assert((slot->changecount & 1) == 0);
}

Size
kapi_shmem_size(void)
{
	return add_size(offsetof(StatShared, slots),
					mul_size(kguc_max_connections, sizeof(KApiStatSlot)));
}

void
kapi_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("kafka_pg connections", kapi_shmem_size(), &found);
	if (found)
		return;
	memset(shared, 0, kapi_shmem_size());
	SpinLockInit(&shared->mutex);
	shared->capacity = kguc_max_connections;
	for (int i = 0; i < shared->capacity; i++)
	{
		KApiStatSlot *slot = &shared->slots[i];

		pg_atomic_init_u64(&slot->last_request, 0);
		pg_atomic_init_u64(&slot->requests, 0);
		pg_atomic_init_u64(&slot->received, 0);
		pg_atomic_init_u64(&slot->sent, 0);
		pg_atomic_init_u32(&slot->parked, 0);
		slot->broker = NO_BROKER;
		slot->next_free = i + 1 < shared->capacity ? i + 1 : -1;
	}
	shared->first_free = 0;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------
 */

static void
release_slot(KApiStatSlot *slot)
{
	begin_write(slot);
	slot->broker = NO_BROKER;
	end_write(slot);

	SpinLockAcquire(&shared->mutex);
	slot->next_free = shared->first_free;
	shared->first_free = slot - shared->slots;
	SpinLockRelease(&shared->mutex);
}

/* The process ends: with FATAL it had no time to close its connections. */
static void
release_all(int code, Datum arg)
{
	for (int i = 0; i < shared->capacity; i++)
	{
		KApiStatSlot *slot = &shared->slots[i];

		if (slot->broker == kapi_broker && slot->pid == MyProcPid)
			release_slot(slot);
	}
}

void
kapi_stat_attach(void)
{
	on_shmem_exit(release_all, 0);
}

/* As much of s as there is room for, and no half characters; returns the length, -1 for null. */
static int16
copy_string(char *to, int room, KStr s)
{
	int			len = Min(s.len, room);

	if (len < s.len)
	{
		for (int i = 0; i < 3 && ((unsigned char) s.data[len] & 0xC0) == 0x80; i++)
			len--;
	}
	if (len > 0)
		memcpy(to, s.data, len);
	return len;
}

void
kapi_stat_open(KApiConn *conn)
{
	KApiStatSlot *slot = NULL;

	SpinLockAcquire(&shared->mutex);
	if (shared->first_free >= 0)
	{
		slot = &shared->slots[shared->first_free];
		shared->first_free = slot->next_free;
	}
	SpinLockRelease(&shared->mutex);

	/*
	 * There are as many slots as connections, but a connection that died in this turn counts no
	 * longer and still has its own: then the next request tries again.
	 */
	if (slot == NULL)
		return;

	begin_write(slot);
	slot->broker = kapi_broker;
	slot->pid = MyProcPid;
	slot->role = InvalidOid;
	slot->connected = conn->connected;
	slot->port = conn->client_port;
	strlcpy(slot->host, conn->client_host, sizeof(slot->host));
	slot->client_id_len = slot->software_name_len = slot->software_version_len = -1;
	pg_atomic_write_u64(&slot->last_request, 0);
	pg_atomic_write_u64(&slot->requests, 0);
	pg_atomic_write_u64(&slot->received, 0);
	pg_atomic_write_u64(&slot->sent, 0);
	pg_atomic_write_u32(&slot->parked, conn->nparked);
	end_write(slot);
	conn->stat = slot;
	kapi_io->meter(conn->io_conn, &slot->received, &slot->sent);
}

void
kapi_stat_close(KApiConn *conn)
{
	if (conn->stat == NULL)
		return;
	kapi_io->meter(conn->io_conn, NULL, NULL);
	release_slot(conn->stat);
	conn->stat = NULL;
}

void
kapi_stat_request(KApiConn *conn, KStr client_id)
{
	static uint64 stamp_turn;
	static TimestampTz stamp;
	KApiStatSlot *slot;

	if (conn->stat == NULL)
		kapi_stat_open(conn);
	slot = conn->stat;
	if (slot == NULL)
		return;
	if (stamp_turn != kapi_turn())
	{
		stamp_turn = kapi_turn();
		stamp = GetCurrentTimestamp();
	}
	pg_atomic_write_u64(&slot->last_request, (uint64) stamp);
	pg_atomic_write_u64(&slot->requests, pg_atomic_read_u64(&slot->requests) + 1);

	/* one that was cut off differs each time, and is copied each time */
	if (client_id.len != slot->client_id_len ||
		(client_id.len > 0 && memcmp(client_id.data, slot->client_id, client_id.len) != 0))
	{
		begin_write(slot);
		slot->client_id_len = copy_string(slot->client_id, KAPI_STAT_CLIENT_ID, client_id);
		end_write(slot);
	}
}

void
kapi_stat_software(KApiConn *conn, KStr name, KStr version)
{
	KApiStatSlot *slot = conn->stat;

	if (slot == NULL)
		return;
	begin_write(slot);
	slot->software_name_len = copy_string(slot->software_name, KAPI_STAT_SOFTWARE, name);
	slot->software_version_len = copy_string(slot->software_version, KAPI_STAT_SOFTWARE, version);
	end_write(slot);
}

void
kapi_stat_role(KApiConn *conn, Oid role)
{
	KApiStatSlot *slot = conn->stat;

	if (slot == NULL || slot->role == role)
		return;
	begin_write(slot);
	slot->role = role;
	end_write(slot);
}

void
kapi_stat_parked(KApiConn *conn)
{
	if (conn->stat != NULL)
		pg_atomic_write_u32(&conn->stat->parked, conn->nparked);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------
 */

int
kapi_stat_capacity(void)
{
	return shared->capacity;
}

static void
copy_slot(const KApiStatSlot *slot, KApiStat *stat)
{
	stat->broker = slot->broker;
	stat->pid = slot->pid;
	stat->role = slot->role;
	stat->connected = slot->connected;
	stat->port = slot->port;
	memcpy(stat->host, slot->host, sizeof(stat->host));
	stat->client_id_len = slot->client_id_len;
	stat->software_name_len = slot->software_name_len;
	stat->software_version_len = slot->software_version_len;
	memcpy(stat->client_id, slot->client_id, sizeof(stat->client_id));
	memcpy(stat->software_name, slot->software_name, sizeof(stat->software_name));
	memcpy(stat->software_version, slot->software_version, sizeof(stat->software_version));
}

bool
kapi_stat_read(int i, KApiStat *stat)
{
	KApiStatSlot *slot = &shared->slots[i];

	for (;;)
	{
		int			before = *(volatile int *) &slot->changecount;
		int			after;

		pg_read_barrier();
		if (slot->broker == NO_BROKER && (before & 1) == 0)
			return false;
		copy_slot(slot, stat);
		stat->last_request = (TimestampTz) pg_atomic_read_u64(&slot->last_request);
		stat->requests = pg_atomic_read_u64(&slot->requests);
		stat->received = pg_atomic_read_u64(&slot->received);
		stat->sent = pg_atomic_read_u64(&slot->sent);
		stat->parked = pg_atomic_read_u32(&slot->parked);
		pg_read_barrier();
		after = *(volatile int *) &slot->changecount;
		if (before == after && (before & 1) == 0)
			break;

		/* the owner is writing: it takes no longer than a few copies */
		CHECK_FOR_INTERRUPTS();
	}
	return stat->broker != NO_BROKER;
}
