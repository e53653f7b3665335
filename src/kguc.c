/*
 * kguc.c
 *		The settings, kafka_pg.*: names, defaults, bounds, contexts.
 *
 * A setting that sizes shared memory, or decides about processes and sockets that exist from the
 * start, needs a restart (PGC_POSTMASTER); limits and policies follow a reload (PGC_SIGHUP).
 */
#include "postgres.h"

#include <limits.h>

#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "compat.h"
#include "kafka_pg.h"
#include "kguc.h"

char	   *kguc_database;
char	   *kguc_listen_addresses;
int			kguc_port;
char	   *kguc_advertised_listeners;
int			kguc_node_id;
char	   *kguc_rack;
int			kguc_brokers;
int			kguc_readers;
int			kguc_wal_prealloc_mb;
int			kguc_drop_behind;
char	   *kguc_anonymous_role;
bool		kguc_auto_create_topics;
int			kguc_num_partitions;
int			kguc_max_connections;
int			kguc_max_connections_per_address;
int			kguc_max_request_size;
int			kguc_max_inflight_kb;
int			kguc_connection_idle_timeout;
int			kguc_max_partitions;
int			kguc_max_pending_appends;
int			kguc_max_producer_ids;
int			kguc_producer_id_expiration;
int			kguc_max_fetch_sessions;
int			kguc_max_groups;
int			kguc_group_memory;
int			kguc_max_offset_metadata;
int			kguc_offset_retention;
int			kguc_offset_expiry_interval;
int			kguc_group_min_session_timeout;
int			kguc_group_max_session_timeout;
int			kguc_group_initial_rebalance_delay;
int			kguc_group_max_size;
int			kguc_group_max_bytes;
int			kguc_group_consumer_session_timeout;
int			kguc_group_consumer_min_session_timeout;
int			kguc_group_consumer_max_session_timeout;
int			kguc_group_consumer_heartbeat_interval;
int			kguc_group_consumer_min_heartbeat_interval;
int			kguc_group_consumer_max_heartbeat_interval;
int			kguc_group_consumer_assignment_interval;
int			kguc_group_consumer_regex_refresh_interval;
int			kguc_group_consumer_max_size;
int			kguc_group_consumer_migration_policy;
char	   *kguc_group_consumer_assignors;
int			kguc_group_assignor_set;
int			kguc_group_default_assignor;
int			kguc_produce_buffer_size;
bool		kguc_test_ack_before_flush;
int			kguc_test_fetch_session_age;
int			kguc_test_near_round_trip;
char	   *kguc_test_stop_points;

/* kafka_pg.advertised_listeners, parsed: the setting's "extra". */
typedef struct KAdvertisedList
{
	int			count;
	KAdvertised entry[FLEXIBLE_ARRAY_MEMBER];
} KAdvertisedList;

static const KAdvertisedList *advertised = NULL;

static void define_identity(void);
static void define_disk(void);
static void define_policies(void);
static void define_caps(void);
static void define_groups(void);
static void define_tests(void);
static bool check_address_list(char **newval, void **extra, GucSource source);
static bool check_database(char **newval, void **extra, GucSource source);
static bool check_assignors(char **newval, void **extra, GucSource source);
static void assign_assignors(const char *newval, void *extra);
static bool check_advertised(char **newval, void **extra, GucSource source);
static void assign_advertised(const char *newval, void *extra);
static bool parse_advertised(char *item, KAdvertised *entry);

/*
 * Defines all settings. Only while shared_preload_libraries are loaded.
 */
void
kguc_init(void)
{
	define_identity();
	define_disk();
	define_policies();
	define_caps();
	define_groups();
	define_tests();
	MarkGUCPrefixReserved(KAFKA_PG_NAME);
}

static void
define_identity(void)
{
	DefineCustomStringVariable("kafka_pg.database",
							   "Database whose topics are served to Kafka clients.",
							   NULL,
							   &kguc_database, "postgres",
							   PGC_POSTMASTER, 0,
							   check_database, NULL, NULL);
	DefineCustomStringVariable("kafka_pg.listen_addresses",
							   "Addresses on which Kafka clients are accepted.",
							   "A list as in listen_addresses; empty accepts none.",
							   &kguc_listen_addresses, "localhost",
							   PGC_POSTMASTER, GUC_LIST_INPUT,
							   check_address_list, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.port",
							"TCP port on which Kafka clients are accepted.",
							NULL,
							&kguc_port, 9092, 1, 65535,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("kafka_pg.advertised_listeners",
							   "Addresses that clients are told to connect to.",
							   "A list of [PROTOCOL://]host:port; empty tells each client the address it came to.",
							   &kguc_advertised_listeners, "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_advertised, assign_advertised, NULL);
	DefineCustomIntVariable("kafka_pg.node_id",
							"Number of this server among the nodes of its Kafka cluster.",
							NULL,
							&kguc_node_id, 1, 0, INT_MAX,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("kafka_pg.rack",
							   "Rack or zone of this server, for clients that prefer a near one.",
							   NULL,
							   &kguc_rack, "",
							   PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.brokers",
							"Number of processes that serve Kafka clients.",
							NULL,
							&kguc_brokers, 2, 1, 64,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.readers",
							"Number of processes that read cold pages for the brokers.",
							NULL,
							&kguc_readers, 2, 1, 16,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
}

static void
define_disk(void)
{
	static const struct config_enum_entry drops[] = {
		{"auto", KDROP_AUTO, false},
		{"on", KDROP_ON, false},
		{"off", KDROP_OFF, false},
		{NULL, 0, false}
	};

	DefineCustomIntVariable("kafka_pg.wal_prealloc_size",
							"How much WAL space is made before it is needed.",
							"Up to min_wal_size is made when it is quiet.",
							&kguc_wal_prealloc_mb, 64, 0, 65536,
							PGC_SIGHUP, GUC_UNIT_MB,
							NULL, NULL, NULL);
	DefineCustomEnumVariable("kafka_pg.drop_behind",
							 "Whether pages of topics leave the kernel's page cache when they are written.",
							 "\"auto\": if shared_buffers is an eighth of the memory or more. Needs Linux 6.14.",
							 &kguc_drop_behind, KDROP_AUTO, drops,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
}

static void
define_policies(void)
{
	DefineCustomStringVariable("kafka_pg.anonymous_role",
							   "Role of clients that have not authenticated.",
							   "Empty refuses them.",
							   &kguc_anonymous_role, "",
							   PGC_SIGHUP, 0,
							   NULL, NULL, NULL);

	/* On, as Kafka's auto.create.topics.enable: client programs rely on it. */
	DefineCustomBoolVariable("kafka_pg.auto_create_topics",
							 "Creates a topic when a client that may do so asks for one that is missing.",
							 NULL,
							 &kguc_auto_create_topics, true,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.num_partitions",
							"Number of partitions of a topic that is created without saying how many.",
							NULL,
							&kguc_num_partitions, 1, 1, 100000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
}

static void
define_caps(void)
{
	DefineCustomIntVariable("kafka_pg.max_connections",
							"Greatest number of connections of Kafka clients.",
							NULL,
							&kguc_max_connections, 1000, 1, 1000000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_connections_per_address",
							"Greatest number of connections of Kafka clients from one address.",
							NULL,
							&kguc_max_connections_per_address, 500, 1, 1000000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_request_size",
							"Greatest size of one request.",
							NULL,
							&kguc_max_request_size, 100 * 1024 * 1024, 1024, 1024 * 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_BYTE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_inflight_bytes",
							"Memory for requests and answers in flight, in all brokers together.",
							"At the limit no more requests are read until answers have left; "
							"a single request is let in whatever its size.",
							&kguc_max_inflight_kb, 256 * 1024, 1024, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.connection_idle_timeout",
							"Time after which a connection without requests is closed.",
							NULL,
							&kguc_connection_idle_timeout, 10 * 60 * 1000, 10, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_partitions",
							"Number of partitions, of all topics together, that shared memory has room for.",
							NULL,
							&kguc_max_partitions, 10000, 16, 4000000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_pending_appends",
							"Number of appends by transactions not yet ended that shared memory has room for.",
							"One for each transaction and partition.",
							&kguc_max_pending_appends, 16384, 64, 4000000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_fetch_sessions",
							"Number of consumers whose partitions are remembered between fetches.",
							"Shared out among the brokers. Consumers beyond that name all their partitions every time.",
							&kguc_max_fetch_sessions, 1000, 1, 1000000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_producer_ids",
							"Number of idempotent producers that shared memory has room for.",
							"One for each producer and partition; the one unused for longest gives way, if it was idle for five minutes.",
							&kguc_max_producer_ids, 10000, 16, 4000000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.producer_id_expiration",
							"Time after which a partition forgets an idempotent producer that sends nothing.",
							"Kafka's producer.id.expiration.ms.",
							&kguc_producer_id_expiration, 24 * 60 * 60 * 1000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_groups",
							"Greatest number of consumer groups with members.",
							"Committed offsets of other groups are only rows of a table.",
							&kguc_max_groups, 1000, 1, 1000000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_memory",
							"Shared memory for the members of all consumer groups.",
							NULL,
							&kguc_group_memory, 8 * 1024, 1024, 4 * 1024 * 1024,
							PGC_POSTMASTER, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.max_offset_metadata",
							"Longest text that a consumer may commit with an offset.",
							"Kafka's offset.metadata.max.bytes.",
							&kguc_max_offset_metadata, 4096, 0, 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_BYTE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.offset_retention",
							"Time for which a group that nobody belongs to keeps its committed offsets.",
							"Kafka's offsets.retention.minutes.",
							&kguc_offset_retention, 7 * 24 * 60, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.offset_expiry_interval",
							"Time between two looks for offsets and groups that have expired.",
							"Kafka's offsets.retention.check.interval.ms.",
							&kguc_offset_expiry_interval, 10 * 60 * 1000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.produce_buffer_size",
							"Memory for records that a transaction has produced, before they are put elsewhere.",
							"A load outside of a transaction block appends them to the log, any other transaction writes a temporary file.",
							&kguc_produce_buffer_size, 4 * 1024, 64, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB,
							NULL, NULL, NULL);
}

static void
define_groups(void)
{
	static const struct config_enum_entry policies[] = {
		{"disabled", 0, false},
		{"upgrade", KMIGRATE_UPGRADE, false},
		{"downgrade", KMIGRATE_DOWNGRADE, false},
		{"bidirectional", KMIGRATE_UPGRADE | KMIGRATE_DOWNGRADE, false},
		{NULL, 0, false}
	};

	DefineCustomIntVariable("kafka_pg.group_min_session_timeout",
							"Shortest session timeout that a member of a classic consumer group may ask for.",
							"Kafka's group.min.session.timeout.ms.",
							&kguc_group_min_session_timeout, 6000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_max_session_timeout",
							"Longest session timeout that a member of a classic consumer group may ask for.",
							"Kafka's group.max.session.timeout.ms.",
							&kguc_group_max_session_timeout, 30 * 60 * 1000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_initial_rebalance_delay",
							"Time for which a new classic group waits for more members.",
							"Kafka's group.initial.rebalance.delay.ms.",
							&kguc_group_initial_rebalance_delay, 3000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_max_size",
							"Greatest number of members of a classic consumer group.",
							"Kafka's group.max.size.",
							&kguc_group_max_size, 10000, 1, 1000000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_max_bytes",
							"Memory for the members of one consumer group.",
							"Who would make it grow beyond that is refused.",
							&kguc_group_max_bytes, 1024 * 1024, 16 * 1024, 1024 * 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_BYTE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_session_timeout",
							"Time after which a silent member of a consumer group is out.",
							"Kafka's group.consumer.session.timeout.ms.",
							&kguc_group_consumer_session_timeout, 45000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_min_session_timeout",
							"Smallest consumer.session.timeout.ms of a group.",
							"Kafka's group.consumer.min.session.timeout.ms.",
							&kguc_group_consumer_min_session_timeout, 45000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_max_session_timeout",
							"Greatest consumer.session.timeout.ms of a group.",
							"Kafka's group.consumer.max.session.timeout.ms.",
							&kguc_group_consumer_max_session_timeout, 60000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_heartbeat_interval",
							"Time between heartbeats that members of consumer groups are told.",
							"Kafka's group.consumer.heartbeat.interval.ms.",
							&kguc_group_consumer_heartbeat_interval, 5000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_min_heartbeat_interval",
							"Smallest consumer.heartbeat.interval.ms of a group.",
							"Kafka's group.consumer.min.heartbeat.interval.ms.",
							&kguc_group_consumer_min_heartbeat_interval, 5000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_max_heartbeat_interval",
							"Greatest consumer.heartbeat.interval.ms of a group.",
							"Kafka's group.consumer.max.heartbeat.interval.ms.",
							&kguc_group_consumer_max_heartbeat_interval, 15000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_assignment_interval",
							"Shortest time from one assignment of a consumer group's partitions to the next.",
							"Kafka's group.consumer.assignment.interval.ms.",
							&kguc_group_consumer_assignment_interval, 1000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_regex_refresh_interval",
							"Time after which the patterns of a consumer group are matched anew.",
							"Kafka's group.consumer.regex.refresh.interval.ms.",
							&kguc_group_consumer_regex_refresh_interval,
							10 * 60 * 1000, 10 * 1000, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.group_consumer_max_size",
							"Greatest number of members of a consumer group.",
							"Kafka's group.consumer.max.size.",
							&kguc_group_consumer_max_size, 10000, 1, 1000000,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("kafka_pg.group_consumer_assignors",
							   "Assignors that members of consumer groups may ask for; the first is the default.",
							   "A list of uniform and range; Kafka's group.consumer.assignors.",
							   &kguc_group_consumer_assignors, "uniform, range",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_assignors, assign_assignors, NULL);
	DefineCustomEnumVariable("kafka_pg.group_consumer_migration_policy",
							 "Whether live groups may change from the classic to the consumer protocol, and back.",
							 "Kafka's group.consumer.migration.policy.",
							 &kguc_group_consumer_migration_policy,
							 KMIGRATE_UPGRADE | KMIGRATE_DOWNGRADE, policies,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
}

static void
define_tests(void)
{
	const int	flags = GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_AUTO_FILE;

	DefineCustomBoolVariable("kafka_pg.test_ack_before_flush",
							 "Answers producers before their records are flushed: loses data.",
							 "Only to prove that the crash test can fail.",
							 &kguc_test_ack_before_flush, false,
							 PGC_SUSET, flags,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.test_fetch_session_age",
							"Time after which a fetch session may make room for another.",
							"Two minutes, as in Kafka; tests have less patience.",
							&kguc_test_fetch_session_age, 120 * 1000, 0, INT_MAX,
							PGC_SIGHUP, flags | GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("kafka_pg.test_near_round_trip",
							"Microseconds there and back below which a client is near.",
							"Fetch answers it with less at a time; tests want to know whether.",
							&kguc_test_near_round_trip, 100, 0, INT_MAX,
							PGC_SIGHUP, flags,
							NULL, NULL, NULL);
	DefineCustomStringVariable("kafka_pg.test_stop_points",
							   "Stop points that are armed when the server starts.",
							   "A list of name or name=action, as kstop.h describes.",
							   &kguc_test_stop_points, "",
							   PGC_POSTMASTER, flags | GUC_LIST_INPUT,
							   NULL, NULL, NULL);
}

/* Assignors that there are, each once; the first one is the default. */
static bool
check_assignors(char **newval, void **extra, GucSource source)
{
	static const char *const names[] = {"uniform", "range"};
	char	   *copy = pstrdup(*newval);
	int		   *parsed;
	List	   *items;
	ListCell   *lc;
	int			set = 0;
	int			first = -1;
	bool		ok = SplitGUCList(copy, ',', &items);

	foreach(lc, ok ? items : NIL)
	{
		int			i = 0;

		while (i < (int) lengthof(names) && strcmp(names[i], lfirst(lc)) != 0)
			i++;
		ok = ok && i < (int) lengthof(names) && (set & 1 << i) == 0;
		set |= 1 << i;
		if (first < 0)
			first = i;
	}
	if (!ok || first < 0)
	{
		GUC_check_errdetail("It is a list of the assignors \"uniform\" and \"range\", or of one of them.");
		return false;
	}
	parsed = guc_malloc(LOG, 2 * sizeof(int));
	if (parsed == NULL)
		return false;
	parsed[0] = set;
	parsed[1] = first;
	*extra = parsed;
	return true;
}

static void
assign_assignors(const char *newval, void *extra)
{
	const int  *parsed = extra;

	kguc_group_assignor_set = parsed[0];
	kguc_group_default_assignor = parsed[1];
}

/* The database's name must be one that a database can have. */
static bool
check_database(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] == '\0' || strlen(*newval) >= NAMEDATALEN)
	{
		GUC_check_errdetail("A database name has 1 to %d bytes.", NAMEDATALEN - 1);
		return false;
	}
	return true;
}

/* Only the list's syntax: what an address means is for the process that binds it. */
static bool
check_address_list(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *items;
	bool		ok = SplitGUCList(copy, ',', &items);

	if (!ok)
		GUC_check_errdetail("List syntax is invalid.");
	else
		list_free(items);
	pfree(copy);
	return ok;
}

/*
 * Parses the list once, for kguc_advertised_find(). The result becomes the setting's "extra" only
 * when all of it is right: nobody frees the extra of a refused value.
 */
static bool
check_advertised(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *items;
	ListCell   *lc;
	KAdvertisedList *list;
	Size		size;

	if (!SplitGUCList(copy, ',', &items))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}

	size = offsetof(KAdvertisedList, entry) + list_length(items) * sizeof(KAdvertised);
	list = palloc0(size);
	foreach(lc, items)
	{
		if (!parse_advertised(pstrdup(lfirst(lc)), &list->entry[list->count++]))
		{
			GUC_check_errdetail("\"%s\" is not of the form [PROTOCOL://]host:port.",
								(char *) lfirst(lc));
			return false;
		}
	}

	*extra = guc_malloc(LOG, size);
	if (*extra == NULL)
		return false;
	memcpy(*extra, list, size);
	pfree(list);
	list_free(items);
	pfree(copy);
	return true;
}

static void
assign_advertised(const char *newval, void *extra)
{
	advertised = extra;
}

/*
 * One entry, [PROTOCOL://]host:port, where an IPv6 address stands in brackets. Changes item.
 */
static bool
parse_advertised(char *item, KAdvertised *entry)
{
	static const char *const protocols[] = {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"};
	const char *protocol = protocols[0];
	char	   *host = item;
	char	   *port;
	char	   *end = strstr(item, "://");
	long		number;

	if (end != NULL)
	{
		int			i;

		*end = '\0';
		host = end + 3;
		for (i = 0; i < (int) lengthof(protocols); i++)
			if (pg_strcasecmp(item, protocols[i]) == 0)
				break;
		if (i == (int) lengthof(protocols))
			return false;
		protocol = protocols[i];
	}

	port = strrchr(host, ':');
	if (port == NULL)
		return false;
	*port++ = '\0';
	if (host[0] == '[' && port[-2] == ']')
	{
		port[-2] = '\0';
		host++;
	}
	else if (strchr(host, ':') != NULL)
		return false;

	if (host[0] == '\0' || strlen(host) >= sizeof(entry->host) ||
		port[0] == '\0' || strspn(port, "0123456789") != strlen(port) || strlen(port) > 5)
		return false;
	number = strtol(port, NULL, 10);
	if (number < 1 || number > 65535)
		return false;

	strlcpy(entry->protocol, protocol, sizeof(entry->protocol));
	strlcpy(entry->host, host, sizeof(entry->host));
	entry->port = (int) number;
	return true;
}

const KAdvertised *
kguc_advertised_find(const char *protocol)
{
	for (int i = 0; advertised != NULL && i < advertised->count; i++)
		if (strcmp(advertised->entry[i].protocol, protocol) == 0)
			return &advertised->entry[i];
	return NULL;
}
