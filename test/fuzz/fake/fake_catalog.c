/*
 * fake_catalog.c
 *		What requests need of the server besides pages: settings, topics, rights, DDL.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "api/kapi.h"
#include "fake.h"
#include "kguc.h"
#include "log/klog.h"
#include "log/klog_xlog.h"
#include "table/ktable.h"
#include "topic/kcatalog.h"
#include "txn/kproducer.h"
#include "wire/kmsg.h"

/* ------------------------------------------------------------------------
 * Settings
 * ------------------------------------------------------------------------
 */

char	   *kguc_database = "postgres";
char	   *kguc_listen_addresses = "localhost";
int			kguc_port = 9092;
char	   *kguc_advertised_listeners = "";
int			kguc_node_id = 1;
char	   *kguc_rack = "";
int			kguc_brokers = 1;
int			kguc_readers = 1;
int			kguc_wal_prealloc_mb = 0;
int			kguc_drop_behind = KDROP_OFF;
char	   *kguc_anonymous_role = "kafka";
bool		kguc_auto_create_topics = true;
int			kguc_num_partitions = 1;
int			kguc_max_connections = 100;
int			kguc_max_connections_per_address = 100;
int			kguc_max_request_size = 1024 * 1024;
int			kguc_max_inflight_kb = 4096;
int			kguc_connection_idle_timeout = 600000;
int			kguc_max_partitions = 32;
int			kguc_max_pending_appends = 32;
int			kguc_max_producer_ids = 64;
int			kguc_producer_id_expiration = 86400000;
int			kguc_max_fetch_sessions = 64;
int			kguc_max_offset_metadata = 100;
int			kguc_offset_retention = 10080;
int			kguc_offset_expiry_interval = 600000;
int			kguc_group_min_session_timeout = 6000;
int			kguc_group_max_session_timeout = 1800000;
int			kguc_group_initial_rebalance_delay = 100;
int			kguc_group_max_size = 5;
int			kguc_group_max_bytes = 20000;
int			kguc_group_consumer_session_timeout = 5000;
int			kguc_group_consumer_heartbeat_interval = 1000;
int			kguc_group_consumer_assignment_interval = 100;
int			kguc_group_consumer_regex_refresh_interval = 20000;
int			kguc_group_consumer_max_size = 5;
int			kguc_group_consumer_migration_policy = KMIGRATE_UPGRADE | KMIGRATE_DOWNGRADE;
char	   *kguc_group_consumer_assignors = "uniform, range";
int			kguc_group_assignor_set = 3;
int			kguc_group_default_assignor = KASSIGNOR_UNIFORM;
int			kguc_produce_buffer_size = 64;
bool		kguc_test_ack_before_flush;
int			kguc_test_fetch_session_age;
int			kguc_test_near_round_trip = INT_MAX;

const KAdvertised *
kguc_advertised_find(const char *protocol)
{
	static const KAdvertised advertised = {"PLAINTEXT", "broker.example", 9092};

	return strcmp(protocol, "PLAINTEXT") == 0 ? &advertised : NULL;
}

/* ------------------------------------------------------------------------
 * Topics
 * ------------------------------------------------------------------------
 */

#define LONG50	"long-topic-name-0123456789-0123456789-0123456789-0"

const char *const fake_topic_names[3] = {"a", LONG50 LONG50 LONG50 LONG50, "wide"};

static KTopic topics[FAKE_TOPICS];
static char names[FAKE_TOPICS][KTOPIC_NAME_MAX + 1];
static int	ntopics;			/* ever made; dropped ones have no name */
static MemoryContext catalog;

static KTopic *
add_topic(const char *name, int32 partitions)
{
	KTopic	   *topic = &topics[ntopics];
	MemoryContext caller = CurrentMemoryContext;

	memset(topic, 0, sizeof(*topic));
	strlcpy(names[ntopics], name, sizeof(names[0]));
	topic->relid = FAKE_FIRST_RELID + ntopics;
	memset(topic->id.data, ntopics + 1, UUID_LEN);
	topic->name = names[ntopics];
	topic->partitions = partitions;
	ktopic_config_defaults(&topic->config);
	CurrentMemoryContext = catalog;
	topic->config_given = fake_jsonb(0, NULL, NULL);
	CurrentMemoryContext = caller;
	ntopics++;
	return topic;
}

void
fake_catalog_reset(uint32 variant)
{
	KTopicConfig *config;

	if (catalog != NULL)
		MemoryContextDelete(catalog);
	catalog = AllocSetContextCreate(TopMemoryContext, "fake catalog", ALLOCSET_DEFAULT_SIZES);
	ntopics = 0;
	memset(topics, 0, sizeof(topics));

	/* defaults must not stay in the transaction's memory */
	CurrentMemoryContext = catalog;
	config = &add_topic(fake_topic_names[0], 2)->config;
	config->compression_type = (KCompressionType) (variant % 8 < 6 ? (int) (variant % 8) - 1 : -1);
	config->segment_bytes = variant & 8 ? 4000 : 1024 * 1024;
	config = &add_topic(fake_topic_names[1], 20)->config;
	config->log_append_time = variant & 16;
	config->cleanup_compact = variant & 32;
	config->max_message_bytes = variant & 64 ? 500 : config->max_message_bytes;
	config = &add_topic(fake_topic_names[2], 2000)->config;
	config->segment_ms = variant & 128 ? 1 : config->segment_ms;
	config->min_insync_replicas = variant & 256 ? 2 : 1;
	CurrentMemoryContext = TopMemoryContext;
	pg_global_prng_state.s0 = 0;
	fake_set_blocks(FAKE_RELATIONS - 1, 1);
}

const KTopic *
fake_topic(int n)
{
	return n < ntopics && topics[n].name != NULL ? &topics[n] : NULL;
}

static bool
is_busy(bool *busy)
{
	if (busy == NULL)
		fake_fail("a wait for the catalog");
	*busy = fake_chance(fake_busy);
	return *busy;
}

const KTopic *
ktopic_by_name(const char *name, bool *busy)
{
	if (is_busy(busy))
		return NULL;
	for (int i = 0; i < ntopics; i++)
	{
		if (topics[i].name != NULL && strcmp(topics[i].name, name) == 0)
			return &topics[i];
	}
	return NULL;
}

const KTopic *
ktopic_by_id(const pg_uuid_t *id, bool *busy)
{
	if (is_busy(busy))
		return NULL;
	for (int i = 0; i < ntopics; i++)
	{
		if (topics[i].name != NULL && memcmp(topics[i].id.data, id->data, UUID_LEN) == 0)
			return &topics[i];
	}
	return NULL;
}

List *
ktopic_list(bool *busy)
{
	List	   *list = NIL;

	if (is_busy(busy))
		return NIL;
	for (int i = 0; i < ntopics; i++)
	{
		if (topics[i].name != NULL)
			list = lappend(list, &topics[i]);
	}
	return list;
}

const char *
ktopic_name_problem(const char *name)
{
	if (name[0] == '\0')
		return "the empty string is not allowed";
	return strlen(name) > KTOPIC_NAME_MAX ? "too long" : NULL;
}

bool
ktable_is_log(Relation rel)
{
	return true;
}

/* ------------------------------------------------------------------------
 * Rights, the cluster, producers
 * ------------------------------------------------------------------------
 */

/* Nobody but the owner has anything to do with the second topic. */
static bool
has_right(Oid relid, Oid roleid)
{
	if (roleid != FAKE_ROLE)
		fake_fail("rights of role %u are asked for", roleid);
	return relid != FAKE_FIRST_RELID + 1 || fake_chance(90);
}

bool
kacl_topic_read(Oid relid, Oid roleid)
{
	return has_right(relid, roleid);
}

bool
kacl_topic_write(Oid relid, Oid roleid)
{
	return has_right(relid, roleid);
}

bool
kacl_topic_describe(Oid relid, Oid roleid)
{
	return has_right(relid, roleid);
}

bool
kacl_topic_owner(Oid relid, Oid roleid)
{
	return has_right(relid, roleid);
}

bool
kacl_topic_create(Oid roleid)
{
	return true;
}

Oid
get_role_oid(const char *rolname, bool missing_ok)
{
	return FAKE_ROLE;
}

const char *
kcluster_id(void)
{
	return pstrdup("0123456789012345678901");
}

int32
kepoch_current(void)
{
	return 3;
}

bool
kepoch_known(int32 *epoch)
{
	*epoch = kepoch_current();
	return true;
}

int32
kepoch_latest(void)
{
	return 3;
}

bool
knode_leader(KNode *node)
{
	*node = (KNode) {7, pstrdup("primary.example"), 9092, NULL};
	return true;
}

Oid
get_namespace_oid(const char *nspname, bool missing_ok)
{
	return 11;
}

Oid
get_relname_relid(const char *relname, Oid relnamespace)
{
	return FAKE_FIRST_RELID + FAKE_RELATIONS - 1;
}

int64
nextval_internal(Oid relid, bool check_permissions)
{
	static int64 last = 1000;

	return ++last;
}

KProducerLoad
kproducer_snapshot_load(KLogPartition *log, const KProducerPartition *partition, int64 now,
						int64 *next_offset)
{
	return fake_chance(fake_busy) ? KPRODUCER_BUSY : KPRODUCER_NO_SNAPSHOT;
}

void
kproducer_snapshot_write(Relation rel, KLogPartition *log, int32 partition)
{
}

/* ------------------------------------------------------------------------
 * DDL
 * ------------------------------------------------------------------------
 */

#define MAX_TICKETS	16

typedef struct Ticket
{
	uint64		number;			/* 0: free */
	bool		done;
	bool		cancelled;
	KApiDdlOp	op;
	char		name[KTOPIC_NAME_MAX + 1];
	uint8		topic_id[16];
	int32		partitions;
	KApiDdlResult result;
} Ticket;

static Ticket tickets[MAX_TICKETS];
static uint64 last_ticket;

uint64
fake_ddl_submit(const KApiDdl *ddl)
{
	for (int i = 0; i < MAX_TICKETS; i++)
	{
		Ticket	   *ticket = &tickets[i];

		if (ticket->number != 0)
			continue;
		memset(ticket, 0, sizeof(*ticket));
		ticket->number = ++last_ticket;
		ticket->op = ddl->op;
		if (strlen(ddl->name) > KTOPIC_NAME_MAX)
			fake_fail("DDL with a long name");
		strlcpy(ticket->name, ddl->name, sizeof(ticket->name));
		memcpy(ticket->topic_id, ddl->topic_id, sizeof(ticket->topic_id));
		ticket->partitions = ddl->partitions;
		if (ddl->config != NULL && strlen(ddl->config) == 0)
			fake_fail("DDL with an empty config");
		return ticket->number;
	}
	return 0;
}

static Ticket *
find_ticket(uint64 number)
{
	for (int i = 0; i < MAX_TICKETS; i++)
	{
		if (number != 0 && tickets[i].number == number && !tickets[i].cancelled)
			return &tickets[i];
	}
	fake_fail("there is no such DDL");
}

bool
fake_ddl_poll(uint64 number, KApiDdlResult *result)
{
	Ticket	   *ticket = find_ticket(number);

	if (!ticket->done)
		return false;
	*result = ticket->result;
	ticket->number = 0;
	return true;
}

void
fake_ddl_cancel(uint64 number)
{
	Ticket	   *ticket = find_ticket(number);

	if (ticket->done)
		ticket->number = 0;
	ticket->cancelled = true;
}

int
fake_ddl_tickets(void)
{
	int			n = 0;

	for (int i = 0; i < MAX_TICKETS; i++)
		n += tickets[i].number != 0;
	return n;
}

static void
carry_out(Ticket *ticket)
{
	KApiDdlResult *result = &ticket->result;
	int			found = -1;

	for (int i = 0; i < ntopics; i++)
	{
		if (topics[i].name != NULL && strcmp(topics[i].name, ticket->name) == 0)
			found = i;
	}
	if (ticket->op == KAPI_DDL_CREATE_TOPIC)
	{
		if (found >= 0)
			result->error = KERR_TOPIC_ALREADY_EXISTS;
		else if (ntopics == FAKE_TOPICS)
			result->error = KERR_POLICY_VIOLATION;
		else
		{
			add_topic(ticket->name, Max(ticket->partitions, 1));
			memcpy(result->topic_id, topics[ntopics - 1].id.data, UUID_LEN);
		}
	}
	else if (found < 0)
		result->error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
	else
	{
		memcpy(result->topic_id, topics[found].id.data, UUID_LEN);
		topics[found].name = NULL;
		fake_drop(found);
		klog_forget(topics[found].relid);
	}
	if (result->error == 0)
	{
		XLogBeginInsert();
		result->lsn = XLogInsert(RM_KAFKA_LOG_ID, XLOG_KLOG_HEARTBEAT);
	}
	else
		strlcpy(result->message, "no", sizeof(result->message));
}

void
fake_ddl_turn(void)
{
	for (int i = 0; i < MAX_TICKETS; i++)
	{
		Ticket	   *ticket = &tickets[i];

		if (ticket->number == 0 || ticket->done)
			continue;
		carry_out(ticket);
		ticket->done = true;
		if (ticket->cancelled)
			ticket->number = 0;
	}
}
