/*
 * kapi_config.c
 *		DescribeConfigs: what a topic's, a group's or this server's settings are, and where from.
 *
 * A topic's configs are all that Kafka knows.  This server has settings of its own: those that say
 * the same as one of Kafka's are shown under Kafka's name, and so are the defaults of topic configs
 * under the names that they have for a broker.  What means nothing here is left out.
 */
#include "postgres.h"

#include "api/kapi_request.h"
#include "coord/kcoord.h"
#include "kguc.h"

/* Kinds of resources, in Kafka's numbers. */
#define RESOURCE_TOPIC			2
#define RESOURCE_BROKER			4
#define RESOURCE_BROKER_LOGGER	8
#define RESOURCE_CLIENT_METRICS	16
#define RESOURCE_GROUP			32

/* Where a value comes from, likewise. */
#define SOURCE_TOPIC			1
#define SOURCE_SETTING			4	/* static broker config */
#define SOURCE_DEFAULT			5
#define SOURCE_GROUP			8

/* An answer holds some kB for each resource: this bounds it. */
#define MAX_RESOURCES			10000

#define MSG_UNKNOWN_TOPIC		"This server does not host this topic-partition."
#define MSG_TOPIC_NOT_AUTHORIZED "Topic authorization failed."
#define MSG_NOT_AUTHORIZED		"Cluster authorization failed."

/*
 * The broker's config that is the default of a topic's.  Not here: topic configs that have none, or
 * one in another unit only.
 */
static const char *const broker_names[][2] = {
	{"cleanup.policy", "log.cleanup.policy"},
	{"compression.gzip.level", "compression.gzip.level"},
	{"compression.lz4.level", "compression.lz4.level"},
	{"compression.type", "compression.type"},
	{"compression.zstd.level", "compression.zstd.level"},
	{"delete.retention.ms", "log.cleaner.delete.retention.ms"},
	{"file.delete.delay.ms", "log.segment.delete.delay.ms"},
	{"flush.messages", "log.flush.interval.messages"},
	{"index.interval.bytes", "log.index.interval.bytes"},
	{"local.retention.bytes", "log.local.retention.bytes"},
	{"local.retention.ms", "log.local.retention.ms"},
	{"max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"},
	{"max.message.bytes", "message.max.bytes"},
	{"message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms"},
	{"message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms"},
	{"message.timestamp.type", "log.message.timestamp.type"},
	{"min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio"},
	{"min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"},
	{"min.insync.replicas", "min.insync.replicas"},
	{"preallocate", "log.preallocate"},
	{"retention.bytes", "log.retention.bytes"},
	{"segment.bytes", "log.segment.bytes"},
	{"segment.index.bytes", "log.index.size.max.bytes"},
	{"unclean.leader.election.enable", "unclean.leader.election.enable"}
};

/* One config on its way into the answer. */
typedef struct Config
{
	const char *name;
	const char *value;			/* NULL: none */
	const char *default_name;	/* what the default is called, NULL: not shown */
	const char *default_value;
	KConfigType type;
	int8		source;
	bool		read_only;
	const char *doc;
} Config;

typedef struct Described
{
	const		KDescribeConfigsRequest *request;
	const		KDescribeConfigsRequestResource *resource;
	KDescribeConfigsResponseResult *out;
	const		KMsgDesc *desc; /* of a result */
	const		KMsgDesc *config_desc;	/* of a config in it */
} Described;

static int8
config_type(KConfigType type)
{
	switch (type)
	{
		case KCONFIG_BOOLEAN:
			return 1;
		case KCONFIG_STRING:
			return 2;
		case KCONFIG_INT:
			return 3;
		case KCONFIG_LONG:
			return 5;
		case KCONFIG_DOUBLE:
			return 6;
		case KCONFIG_LIST:
			return 7;
	}
	return 0;
}

static const char *
broker_name(const char *name)
{
	for (int i = 0; i < (int) lengthof(broker_names); i++)
	{
		if (strcmp(broker_names[i][0], name) == 0)
			return broker_names[i][1];
	}
	return NULL;
}

/* Has the client asked for this one?  No keys at all means every one. */
static bool
is_wanted(const Described *described, const char *name)
{
	const		KStrArray *keys = &described->resource->configuration_keys;
	int32		len = (int32) strlen(name);

	for (int32 i = 0; i < keys->count; i++)
	{
		if (keys->items[i].len == len && memcmp(keys->items[i].data, name, len) == 0)
			return true;
	}
	return keys->count <= 0;
}

static void
add_synonym(KDescribeConfigsResponseConfig * out, const char *name, const char *value, int8 source)
{
	KDescribeConfigsResponseSynonym *synonym = &out->synonyms.items[out->synonyms.count++];

	synonym->name = kapi_kstr(name);
	synonym->value = kapi_kstr(value);
	synonym->source = source;
}

/* There must be room for it. */
static void
add_config(Described *described, const Config *config)
{
	KDescribeConfigsResponseConfig *out;

	if (!is_wanted(described, config->name))
		return;
	out = &described->out->configs.items[described->out->configs.count++];
	out->name = kapi_kstr(config->name);
	out->value = kapi_kstr(config->value);
	out->read_only = config->read_only;
	out->config_source = config->source;
	out->config_type = config_type(config->type);
	out->documentation = kapi_kstr(described->request->include_documentation ? config->doc : NULL);
	if (!described->request->include_synonyms)
		return;
	out->synonyms.count = 0;
	out->synonyms.items = kapi_items(described->config_desc,
									 offsetof(KDescribeConfigsResponseConfig, synonyms), 2, NULL);
	if (config->source != SOURCE_DEFAULT && config->value != NULL)
		add_synonym(out, config->name, config->value, config->source);
	if (config->default_name != NULL && config->default_value != NULL)
		add_synonym(out, config->default_name, config->default_value, SOURCE_DEFAULT);
}

static void
make_room(Described *described, int n)
{
	described->out->configs.count = 0;
	described->out->configs.items = kapi_items(described->desc,
											   offsetof(KDescribeConfigsResponseResult, configs),
											   n, &described->config_desc);
}

static void
describe_error(Described *described, int16 error, const char *message)
{
	described->out->error_code = error;
	described->out->error_message = kapi_kstr(message);
}

/* ------------------------------------------------------------------------
 * Topics
 * ------------------------------------------------------------------------
 */

/* False: busy. */
static bool
describe_topic(Described *described, Oid role)
{
	const char *problem = kapi_topic_name_problem(described->resource->resource_name);
	const		KTopic *topic;
	bool		busy;
	int			n;
	const		KTopicConfigDef *const *defs = ktopic_config_defs(&n);

	if (problem != NULL)
	{
		describe_error(described, KERR_INVALID_TOPIC_EXCEPTION, problem);
		return true;
	}
	topic = kapi_topic(described->resource->resource_name, &busy);
	if (busy)
		return false;
	if (topic == NULL)
	{
		describe_error(described, KERR_UNKNOWN_TOPIC_OR_PARTITION, MSG_UNKNOWN_TOPIC);
		return true;
	}
	if (!kacl_topic_describe(topic->relid, role))
	{
		describe_error(described, KERR_TOPIC_AUTHORIZATION_FAILED, MSG_TOPIC_NOT_AUTHORIZED);
		return true;
	}

	make_room(described, n);
	for (int i = 0; i < n; i++)
	{
		Config		config = {.name = defs[i]->name};
		bool		is_default;

		config.value = ktopic_config_value(topic->config_given, defs[i], &is_default);
		if (config.value == NULL)
			continue;
		config.default_name = broker_name(config.name);
		config.default_value = defs[i]->default_value;
		config.type = defs[i]->type;
		config.source = is_default ? SOURCE_DEFAULT : SOURCE_TOPIC;
		config.doc = defs[i]->doc;
		add_config(described, &config);
	}
	return true;
}

/* ------------------------------------------------------------------------
 * This server
 * ------------------------------------------------------------------------
 */

static void
add_setting(Described *described, const char *name, KConfigType type, const char *value,
			const char *doc)
{
	Config		config = {.name = name,.value = value,.type = type,.source = SOURCE_SETTING,
	.read_only = true,.doc = doc};

	add_config(described, &config);
}

static void
add_number(Described *described, const char *name, KConfigType type, int64 value, const char *doc)
{
	add_setting(described, name, type, psprintf(INT64_FORMAT, value), doc);
}

/* What follows from how this server works, whatever its settings. */
static void
add_fact(Described *described, const char *name, KConfigType type, const char *value,
		 const char *doc)
{
	Config		config = {.name = name,.value = value,.default_name = name,.default_value = value,
	.type = type,.source = SOURCE_DEFAULT,.read_only = true,.doc = doc};

	add_config(described, &config);
}

/* As Java parses an int. */
static bool
parse_int(const char *text, int32 *result)
{
	const char *digits = text + (*text == '-' || *text == '+');
	long		number;

	if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
		return false;
	errno = 0;
	number = strtol(text, NULL, 10);
	*result = (int32) number;
	return errno == 0 && number >= PG_INT32_MIN && number <= PG_INT32_MAX;
}

static char *
endpoint_text(KApiConn *conn)
{
	KStr		host;
	int32		port;

	kapi_endpoint(conn, &host, &port);
	return psprintf(memchr(host.data, ':', host.len) != NULL ? "%s://[%.*s]:%d" : "%s://%.*s:%d",
					conn->protocol, (int) host.len, host.data, port);
}

/* Ours, and what Kafka calls them. */
static void
describe_group_settings(Described *described)
{
	const struct
	{
		const char *name;
		int			value;
		const char *doc;
	}			settings[] = {
		{"group.consumer.assignment.interval.ms", kguc_group_consumer_assignment_interval,
		"Setting kafka_pg.group_consumer_assignment_interval."},
		{"group.consumer.heartbeat.interval.ms", kguc_group_consumer_heartbeat_interval,
		"Setting kafka_pg.group_consumer_heartbeat_interval."},
		{"group.consumer.max.size", kguc_group_consumer_max_size,
		"Setting kafka_pg.group_consumer_max_size."},
		{"group.consumer.session.timeout.ms", kguc_group_consumer_session_timeout,
		"Setting kafka_pg.group_consumer_session_timeout."},
		{"group.initial.rebalance.delay.ms", kguc_group_initial_rebalance_delay,
		"Setting kafka_pg.group_initial_rebalance_delay."},
		{"group.max.session.timeout.ms", kguc_group_max_session_timeout,
		"Setting kafka_pg.group_max_session_timeout."},
		{"group.max.size", kguc_group_max_size, "Setting kafka_pg.group_max_size."},
		{"group.min.session.timeout.ms", kguc_group_min_session_timeout,
		"Setting kafka_pg.group_min_session_timeout."},
		{"offset.metadata.max.bytes", kguc_max_offset_metadata,
		"Setting kafka_pg.max_offset_metadata."},
		{"offsets.retention.minutes", kguc_offset_retention,
		"Setting kafka_pg.offset_retention."}
	};

	add_setting(described, "group.consumer.assignors", KCONFIG_LIST, pstrdup(kguc_group_consumer_assignors),
				"Setting kafka_pg.group_consumer_assignors.");
	for (int i = 0; i < (int) lengthof(settings); i++)
		add_number(described, settings[i].name, KCONFIG_INT, settings[i].value, settings[i].doc);
}

static void
describe_server(Described *described, KApiConn *conn)
{
	int			n;
	const		KTopicConfigDef *const *defs = ktopic_config_defs(&n);

	make_room(described, n + 32);
	add_setting(described, "advertised.listeners", KCONFIG_LIST, endpoint_text(conn),
				"Address that clients are told, as this connection is; "
				"setting kafka_pg.advertised_listeners.");
	add_setting(described, "auto.create.topics.enable", KCONFIG_BOOLEAN,
				kguc_auto_create_topics ? "true" : "false", "Setting kafka_pg.auto_create_topics.");
	add_number(described, "broker.id", KCONFIG_INT, kguc_node_id, "Setting kafka_pg.node_id.");
	add_setting(described, "broker.rack", KCONFIG_STRING,
				kguc_rack[0] != '\0' ? pstrdup(kguc_rack) : NULL, "Setting kafka_pg.rack.");
	add_number(described, "connections.max.idle.ms", KCONFIG_LONG, kguc_connection_idle_timeout,
			   "Setting kafka_pg.connection_idle_timeout.");
	add_fact(described, "default.replication.factor", KCONFIG_INT, "1",
			 "Replication is Postgres'.");
	add_fact(described, "delete.topic.enable", KCONFIG_BOOLEAN, "true",
			 "A topic's owner may delete it.");
	describe_group_settings(described);
	add_number(described, "max.connections", KCONFIG_INT, kguc_max_connections,
			   "Setting kafka_pg.max_connections.");
	add_number(described, "max.connections.per.ip", KCONFIG_INT, kguc_max_connections_per_address,
			   "Setting kafka_pg.max_connections_per_address.");
	add_number(described, "node.id", KCONFIG_INT, kguc_node_id, "Setting kafka_pg.node_id.");
	add_number(described, "num.partitions", KCONFIG_INT, kguc_num_partitions,
			   "Setting kafka_pg.num_partitions.");
	add_number(described, "producer.id.expiration.ms", KCONFIG_INT, kguc_producer_id_expiration,
			   "Setting kafka_pg.producer_id_expiration.");
	add_number(described, "socket.request.max.bytes", KCONFIG_INT, kguc_max_request_size,
			   "Setting kafka_pg.max_request_size.");
	for (int i = 0; i < n; i++)
	{
		const char *name = broker_name(defs[i]->name);

		if (name != NULL)
			add_fact(described, name, defs[i]->type, defs[i]->default_value, defs[i]->doc);
	}
}

/* The server's own settings can be read by everybody who may connect, as with SHOW. */
static void
describe_broker(Described *described, KApiConn *conn)
{
	bool		logger = described->resource->resource_type == RESOURCE_BROKER_LOGGER;
	const char *name = kapi_cstring(described->resource->resource_name);
	int32		id;

	if (name != NULL && name[0] == '\0')
	{
		/* The defaults of all brokers that were changed while they ran: none can be. */
		if (logger)
			describe_error(described, KERR_INVALID_REQUEST, "Broker id must not be empty");
		else
			make_room(described, 0);
	}
	else if (name == NULL || !parse_int(name, &id))
		describe_error(described, KERR_INVALID_REQUEST,
					   psprintf("Broker id must be an integer, but it is: %s",
								name != NULL ? name : ""));
	else if (id != kguc_node_id)
		describe_error(described, KERR_INVALID_REQUEST,
					   psprintf(logger ? "Unexpected broker id, expected %d but received %s" :
								"Unexpected broker id, expected %d or empty string, "
								"but received %s", kguc_node_id, name));
	else if (logger)
		make_room(described, 0);	/* what is logged is Postgres' to say */
	else
		describe_server(described, conn);
}

/* ------------------------------------------------------------------------
 * Groups
 * ------------------------------------------------------------------------
 */

/* Any group has configs, whether it is there or not.  False: busy. */
static bool
describe_group(Described *described)
{
	KStr		id = described->resource->resource_name;
	const KCoordConfig *own;
	bool		busy;

	if (id.len == 0)
	{
		describe_error(described, KERR_INVALID_REQUEST, "Group name must not be empty");
		return true;
	}
	kapi_txn();
	if (!kcoord_config_load(&busy))
		return false;
	own = kcoord_config_find(id);
	make_room(described, KCOORD_CONFIGS);
	for (int i = 0; i < KCOORD_CONFIGS; i++)
	{
		const KCoordConfigDef *def = &kcoord_config_defs[i];
		Config		config = {.name = def->name,.type = KCONFIG_INT,.doc = def->doc};
		bool		given = own != NULL && own->values[i] >= 0;

		config.value = psprintf("%d", given ? own->values[i] : *def->setting);
		config.default_name = def->broker_name;
		config.default_value = psprintf("%d", *def->setting);
		config.source = given ? SOURCE_GROUP : SOURCE_DEFAULT;
		add_config(described, &config);
	}
	return true;
}

/* ------------------------------------------------------------------------
 * The request
 * ------------------------------------------------------------------------
 */

static KDescribeConfigsResponseResult *
make_results(const KDescribeConfigsRequest *body, KDescribeConfigsResponse *resp,
			 const KMsgDesc **desc)
{
	int32		n = Max(body->resources.count, 0);

	kmsg_init(&kmsg_describe_configs_response, resp);
	resp->results.count = n;
	resp->results.items = kapi_items(&kmsg_describe_configs_response,
									 offsetof(KDescribeConfigsResponse, results), n, desc);
	for (int32 i = 0; i < n; i++)
	{
		resp->results.items[i].resource_type = body->resources.items[i].resource_type;
		resp->results.items[i].resource_name = body->resources.items[i].resource_name;
	}
	return resp->results.items;
}

static void
fail_all(KRequest *req, int16 error, const char *message)
{
	const		KDescribeConfigsRequest *body = req->body;
	KDescribeConfigsResponse resp;

	make_results(body, &resp, NULL);
	for (int32 i = 0; i < resp.results.count; i++)
	{
		resp.results.items[i].error_code = error;
		resp.results.items[i].error_message = kapi_kstr(message);
	}
	kapi_answer(req, &resp);
}

void
kapi_describe_configs_fail(KRequest *req, int16 error)
{
	fail_all(req, error, NULL);
}

static bool
is_known_type(int8 type)
{
	return type == RESOURCE_TOPIC || type == RESOURCE_BROKER || type == RESOURCE_BROKER_LOGGER ||
		type == RESOURCE_CLIENT_METRICS || type == RESOURCE_GROUP;
}

void
kapi_describe_configs(KRequest *req)
{
	const		KDescribeConfigsRequest *body = req->body;
	KDescribeConfigsResponse resp;
	Described	described = {.request = body};
	Oid			role = kapi_role(req);
	int32		n = Max(body->resources.count, 0);

	if (n > MAX_RESOURCES)
	{
		fail_all(req, KERR_INVALID_REQUEST,
				 psprintf("A request describes at most %d resources.", MAX_RESOURCES));
		return;
	}
	for (int32 i = 0; i < n; i++)
	{
		if (!is_known_type(body->resources.items[i].resource_type))
		{
			fail_all(req, KERR_INVALID_REQUEST, "Unexpected resource type");
			return;
		}
	}

	described.out = make_results(body, &resp, &described.desc);
	for (int32 i = 0; i < n; i++, described.out++)
	{
		described.resource = &body->resources.items[i];
		switch (described.resource->resource_type)
		{
			case RESOURCE_TOPIC:
				if (!describe_topic(&described, role))
				{
					kapi_retry(req, kapi_describe_configs);
					return;
				}
				break;
			case RESOURCE_BROKER:
			case RESOURCE_BROKER_LOGGER:
				if (OidIsValid(role))
					describe_broker(&described, req->conn);
				else
					describe_error(&described, KERR_CLUSTER_AUTHORIZATION_FAILED,
								   MSG_NOT_AUTHORIZED);
				break;
			case RESOURCE_GROUP:
				if (!describe_group(&described))
				{
					kapi_retry(req, kapi_describe_configs);
					return;
				}
				break;
			default:
				describe_error(&described, KERR_INVALID_REQUEST,
							   "This server has no configs of that type.");
				break;
		}
	}
	kapi_answer(req, &resp);
}
