/*
 * kapi_metadata.c
 *		What clients ask first: ApiVersions, Metadata, DescribeCluster, FindCoordinator.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/kapi_request.h"
#include "api/kapi_stat.h"
#include "api/kapi_wait.h"
#include "kguc.h"

/* How long Metadata waits for topics that it has made on its own. */
#define AUTO_CREATE_TIMEOUT		5000	/* ms */
/* And how many of them one request makes. */
#define AUTO_CREATE_MAX			64

#define ENDPOINT_BROKERS		1
#define ENDPOINT_CONTROLLERS	2

#define COORDINATOR_GROUP		0
#define COORDINATOR_TRANSACTION	1
#define COORDINATOR_SHARE		2

/* Kafka's text for its error INVALID_REQUEST. */
#define MSG_INVALID_REQUEST \
	"This most likely occurs because of a request being malformed by the client library or the " \
	"message was sent to an incompatible broker. See the broker logs for more details."

/* ------------------------------------------------------------------------
 * ApiVersions
 * ------------------------------------------------------------------------
 */

void
kapi_api_versions_fail(KRequest * req, int16 error)
{
	KApiVersionsResponse resp;

	kmsg_init(&kmsg_api_versions_response, &resp);
	resp.error_code = error;
	kapi_answer(req, &resp);
}

/* The request's own version is not known: answered in version 0, which says what is. */
void
kapi_api_versions_unsupported(KRequest * req)
{
	const		KApiInfo *info = kapi_info(KAPI_API_VERSIONS);
	KApiVersionsResponse resp;

	kmsg_init(&kmsg_api_versions_response, &resp);
	resp.error_code = KERR_UNSUPPORTED_VERSION;
	resp.api_keys.count = 1;
	resp.api_keys.items = kapi_items(&kmsg_api_versions_response,
									 offsetof(KApiVersionsResponse, api_keys), 1, NULL);
	resp.api_keys.items[0].api_key = KAPI_API_VERSIONS;
	resp.api_keys.items[0].min_version = info->listed_first;
	resp.api_keys.items[0].max_version = info->versions.last;
	kapi_answer_version(req, 0, &resp);
}

/* Letters and digits, in between also dots and hyphens. */
static bool
software_name_ok(KStr s)
{
	for (int32 i = 0; i < s.len; i++)
	{
		char		c = s.data[i];
		bool		alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9');

		if (!alnum && (i == 0 || i == s.len - 1 || (c != '.' && c != '-')))
			return false;
	}
	return s.len > 0;
}

void
kapi_api_versions(KRequest * req)
{
	const		KApiVersionsRequest *body = req->body;
	KApiVersionsResponse resp;

	if (req->version >= 3 && !(software_name_ok(body->client_software_name) &&
							   software_name_ok(body->client_software_version)))
	{
		kapi_api_versions_fail(req, KERR_INVALID_REQUEST);
		return;
	}
	if (req->version >= 3)
		kapi_stat_software(req->conn, body->client_software_name, body->client_software_version);
	kmsg_init(&kmsg_api_versions_response, &resp);
	resp.api_keys.count = kapi_table_size;
	resp.api_keys.items = kapi_items(&kmsg_api_versions_response,
									 offsetof(KApiVersionsResponse, api_keys),
									 kapi_table_size, NULL);
	for (int i = 0; i < kapi_table_size; i++)
	{
		const		KApiInfo *info = kapi_info(kapi_table[i].key);

		resp.api_keys.items[i].api_key = info->key;
		resp.api_keys.items[i].min_version = info->listed_first;
		resp.api_keys.items[i].max_version = info->versions.last;
	}
	kapi_answer(req, &resp);
}

/* ------------------------------------------------------------------------
 * Metadata
 * ------------------------------------------------------------------------
 */

/* What is known of one topic that the request names, or of one of all. */
typedef struct MetaTopic
{
	KStr		name;			/* as asked for, or the topic's */
	KUuid		id;
	bool		by_id;
	const		KTopic *topic;	/* of this turn only; NULL: none */
	int16		error;
	KDdlJob    *job;			/* that makes it */
} MetaTopic;

typedef struct MetaWork
{
	MetaTopic  *topics;
	int			n;
	bool		all;
	KDdlJob    *jobs;
	int			njobs;
} MetaWork;

void
kapi_metadata_fail(KRequest * req, int16 error)
{
	const		KMetadataRequest *body = req->body;
	KMetadataResponse resp;
	int32		n = Max(body->topics.count, 0);

	kmsg_init(&kmsg_metadata_response, &resp);
	resp.error_code = error;
	resp.topics.count = n;
	resp.topics.items = kapi_items(&kmsg_metadata_response,
								   offsetof(KMetadataResponse, topics), n, NULL);
	for (int32 i = 0; i < n; i++)
	{
		resp.topics.items[i].error_code = error;
		resp.topics.items[i].name = body->topics.items[i].name.len < 0 ?
			KSTR("") : body->topics.items[i].name;
		resp.topics.items[i].topic_id = body->topics.items[i].topic_id;
	}
	kapi_answer(req, &resp);
}

static void
fill_topic(const KMsgDesc * desc, KMetadataResponseTopic * out, const KTopic * topic,
		   const KApiNodes * nodes)
{
	int32		epoch = kepoch_latest();
	KInt32Array replicas;
	const		KMsgDesc *sub;

	replicas.count = nodes->count;
	replicas.items = palloc(sizeof(int32_t) * nodes->count);
	for (int i = 0; i < nodes->count; i++)
		replicas.items[i] = nodes->node[i].id;
	out->name = kapi_kstr(pstrdup(topic->name));
	out->topic_id = kapi_uuid(&topic->id);
	out->partitions.count = topic->partitions;
	out->partitions.items = kapi_items(desc, offsetof(KMetadataResponseTopic, partitions),
									   topic->partitions, &sub);
	for (int32 p = 0; p < topic->partitions; p++)
	{
		out->partitions.items[p].partition_index = p;
		out->partitions.items[p].leader_id = nodes->node[nodes->leader].id;
		out->partitions.items[p].leader_epoch = epoch;
		out->partitions.items[p].replica_nodes = replicas;
		out->partitions.items[p].isr_nodes = replicas;
	}
}

/* All topics are looked up: answers. */
static void
metadata_answer(KRequest * req, MetaWork *work)
{
	const		KMetadataRequest *body = req->body;
	Oid			role = kapi_role(req);
	KMetadataResponse resp;
	const		KMsgDesc *desc;
	const char *cluster_id = kcluster_id();
	KApiNodes	nodes;

	kmsg_init(&kmsg_metadata_response, &resp);
	kapi_nodes(req->conn, &nodes);
	resp.brokers.count = nodes.count;
	resp.brokers.items = kapi_items(&kmsg_metadata_response,
									offsetof(KMetadataResponse, brokers), nodes.count, NULL);
	for (int i = 0; i < nodes.count; i++)
	{
		resp.brokers.items[i].node_id = nodes.node[i].id;
		resp.brokers.items[i].host = nodes.node[i].host;
		resp.brokers.items[i].port = nodes.node[i].port;
		resp.brokers.items[i].rack = nodes.node[i].rack;
	}
	resp.cluster_id = cluster_id != NULL ? kapi_kstr(pstrdup(cluster_id)) : KSTR_NULL;
	resp.controller_id = nodes.node[nodes.leader].id;
	if (req->version >= 8 && req->version <= 10 && body->include_cluster_authorized_operations)
		resp.cluster_authorized_operations = kapi_cluster_operations(role);

	resp.topics.count = 0;
	resp.topics.items = kapi_items(&kmsg_metadata_response,
								   offsetof(KMetadataResponse, topics), work->n, &desc);
	/* As Kafka's: ids that nobody has, topics, names that nobody has. */
	for (int i = 0; i < work->n * 3; i++)
	{
		MetaTopic  *topic = &work->topics[i % work->n];
		KMetadataResponseTopic *out = &resp.topics.items[resp.topics.count];
		int			place = topic->error == 0 ? 1 :
			topic->error == KERR_UNKNOWN_TOPIC_ID ? 0 : 2;

		if (place != i / work->n)
			continue;
		resp.topics.count++;
		out->error_code = topic->error;
		if (topic->error == 0)
		{
			fill_topic(desc, out, topic->topic, &nodes);
			if (body->include_topic_authorized_operations && req->version >= 8)
				out->topic_authorized_operations = kapi_topic_operations(topic->topic, role);
		}
		else if (topic->by_id)
		{
			/* Old versions cannot say "no name", but they cannot ask by id either. */
			out->name = KSTR_NULL;
			out->topic_id = topic->id;
		}
		else
			out->name = topic->name;
	}
	kapi_answer(req, &resp);
}

/* Looks up what the request names.  False: something was busy. */
static bool
metadata_lookup(KRequest * req, MetaWork *work)
{
	Oid			role = kapi_role(req);
	bool		busy = false;

	if (work->all)
	{
		List	   *list;
		ListCell   *cell;

		kapi_txn();
		list = ktopic_list(&busy);
		if (busy)
			return false;
		work->topics = palloc0(Max(list_length(list), 1) * sizeof(MetaTopic));
		work->n = 0;
		foreach(cell, list)
		{
			const		KTopic *topic = lfirst(cell);

			if (kacl_topic_describe(topic->relid, role))
				work->topics[work->n++].topic = topic;
		}
		return true;
	}

	for (int i = 0; i < work->n; i++)
	{
		MetaTopic  *topic = &work->topics[i];

		topic->topic = topic->by_id ? kapi_topic_by_uuid(&topic->id, &busy) :
			kapi_topic(topic->name, &busy);
		if (busy)
			return false;
		topic->error = 0;
		if (topic->topic != NULL)
		{
			if (!kacl_topic_describe(topic->topic->relid, role))
				topic->error = KERR_TOPIC_AUTHORIZATION_FAILED;
		}
		else if (topic->by_id)
			topic->error = KERR_UNKNOWN_TOPIC_ID;
		else
		{
			char	   *name = kapi_cstring(topic->name);

			topic->error = name == NULL || ktopic_name_problem(name) != NULL ?
				KERR_INVALID_TOPIC_EXCEPTION : KERR_UNKNOWN_TOPIC_OR_PARTITION;
		}
	}
	return true;
}

static void
metadata_look_again(KRequest * req)
{
	MetaWork   *work = req->work;

	if (!metadata_lookup(req, work))
	{
		kapi_retry(req, metadata_look_again);
		return;
	}
	for (int i = 0; i < work->n; i++)
	{
		MetaTopic  *topic = &work->topics[i];

		/*
		 * Made by somebody meanwhile, or not: what the lookup says holds, except for a reason to
		 * give.
		 */
		if (topic->error == KERR_UNKNOWN_TOPIC_OR_PARTITION && topic->job != NULL &&
			(topic->job->result.error == KERR_INVALID_TOPIC_EXCEPTION ||
			 topic->job->result.error == KERR_TOPIC_AUTHORIZATION_FAILED))
			topic->error = topic->job->result.error;
	}
	metadata_answer(req, work);
}

/* Has missing topics made, if that is allowed; false: there is nothing to make. */
static bool
metadata_create(KRequest * req, MetaWork *work)
{
	const		KMetadataRequest *body = req->body;
	Oid			role = kapi_role(req);
	bool		may_create;

	/* Versions before 4 cannot say no. */
	if (!kguc_auto_create_topics || kapi_standby || work->all ||
		(req->version >= 4 && !body->allow_auto_topic_creation))
		return false;
	may_create = kacl_topic_create(role);
	work->jobs = palloc0(Max(Min(work->n, AUTO_CREATE_MAX), 1) * sizeof(KDdlJob));
	work->njobs = 0;
	for (int i = 0; i < work->n && work->njobs < AUTO_CREATE_MAX; i++)
	{
		MetaTopic  *topic = &work->topics[i];
		KDdlJob    *job = &work->jobs[work->njobs];

		if (topic->error != KERR_UNKNOWN_TOPIC_OR_PARTITION)
			continue;
		if (!may_create)
		{
			topic->error = KERR_TOPIC_AUTHORIZATION_FAILED;
			continue;
		}
		job->ddl.op = KAPI_DDL_CREATE_TOPIC;
		job->ddl.role = role;
		job->ddl.name = kapi_cstring(topic->name);
		job->ddl.partitions = kguc_num_partitions;
		topic->job = job;
		work->njobs++;
	}
	if (work->njobs == 0)
		return false;
	kapi_ddl_run(req, work->jobs, work->njobs, AUTO_CREATE_TIMEOUT, metadata_look_again);
	return true;
}

static void
metadata_begin(KRequest * req)
{
	MetaWork   *work = req->work;

	if (!metadata_lookup(req, work))
		kapi_retry(req, metadata_begin);
	else if (!metadata_create(req, work))
		metadata_answer(req, work);
}

void
kapi_metadata(KRequest * req)
{
	const		KMetadataRequest *body = req->body;
	MetaWork   *work = palloc0(sizeof(MetaWork));
	int32		n = Max(body->topics.count, 0);
	bool		by_id = false;
	KStr	   *keys;
	int32	   *first;

	req->work = work;
	work->all = body->topics.count < 0 || (req->version == 0 && n == 0);
	for (int32 i = 0; i < n; i++)
	{
		bool		has_id = !kapi_uuid_is_zero(&body->topics.items[i].topic_id);

		if (req->version < 12 && (has_id || body->topics.items[i].name.len < 0))
		{
			kapi_fail(req, KERR_INVALID_REQUEST);
			return;
		}
		by_id |= has_id;
	}

	/* Each topic once; if any is given by its id, those are that count. */
	keys = palloc_extended(Max(n, 1) * sizeof(KStr), MCXT_ALLOC_HUGE);
	first = palloc_extended(Max(n, 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	work->topics = palloc_extended(Max(n, 1) * sizeof(MetaTopic),
								   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int32 i = 0; i < n; i++)
	{
		KMetadataRequestTopic *topic = &body->topics.items[i];

		keys[i] = !by_id ? topic->name : kapi_uuid_is_zero(&topic->topic_id) ? KSTR_NULL :
			(KStr)
		{
			(const char *) topic->topic_id.b, sizeof(topic->topic_id.b)
		};
	}
	kapi_find_first(keys, n, first);
	for (int32 i = 0; i < n; i++)
	{
		if (first[i] != i || keys[i].len < 0)
			continue;
		work->topics[work->n].by_id = by_id;
		work->topics[work->n].id = body->topics.items[i].topic_id;
		work->topics[work->n].name = body->topics.items[i].name;
		work->n++;
	}
	metadata_begin(req);
}

/* ------------------------------------------------------------------------
 * DescribeCluster
 * ------------------------------------------------------------------------
 */

void
kapi_describe_cluster_fail(KRequest * req, int16 error)
{
	KDescribeClusterResponse resp;

	kmsg_init(&kmsg_describe_cluster_response, &resp);
	resp.error_code = error;
	resp.error_message = KSTR_NULL;
	kapi_answer(req, &resp);
}

void
kapi_describe_cluster(KRequest * req)
{
	const		KDescribeClusterRequest *body = req->body;
	KDescribeClusterResponse resp;
	KApiNodes	nodes;
	const char *cluster_id;

	kmsg_init(&kmsg_describe_cluster_response, &resp);
	if (body->endpoint_type != ENDPOINT_BROKERS)
	{
		if (body->endpoint_type == ENDPOINT_CONTROLLERS)
		{
			resp.error_code = KERR_MISMATCHED_ENDPOINT_TYPE;
			resp.error_message = KSTR("The request was sent to an endpoint of type BROKER, "
									  "but we wanted an endpoint of type CONTROLLER");
		}
		else
		{
			resp.error_code = KERR_UNSUPPORTED_ENDPOINT_TYPE;
			resp.error_message = kapi_kstr(psprintf("Unsupported endpoint type %d",
													body->endpoint_type));
		}
		kapi_answer(req, &resp);
		return;
	}

	kapi_txn();
	cluster_id = kcluster_id();
	resp.endpoint_type = ENDPOINT_BROKERS;
	resp.cluster_id = cluster_id != NULL ? kapi_kstr(pstrdup(cluster_id)) : KSTR("");
	kapi_nodes(req->conn, &nodes);
	resp.controller_id = nodes.node[nodes.leader].id;
	resp.brokers.count = nodes.count;
	resp.brokers.items = kapi_items(&kmsg_describe_cluster_response,
									offsetof(KDescribeClusterResponse, brokers), nodes.count,
									NULL);
	for (int i = 0; i < nodes.count; i++)
	{
		resp.brokers.items[i].broker_id = nodes.node[i].id;
		resp.brokers.items[i].host = nodes.node[i].host;
		resp.brokers.items[i].port = nodes.node[i].port;
		resp.brokers.items[i].rack = nodes.node[i].rack;
	}
	if (body->include_cluster_authorized_operations)
		resp.cluster_authorized_operations = kapi_cluster_operations(kapi_role(req));
	kapi_answer(req, &resp);
}

/* ------------------------------------------------------------------------
 * FindCoordinator
 * ------------------------------------------------------------------------
 */

static void
answer_coordinators(KRequest * req, int16 error)
{
	const		KFindCoordinatorRequest *body = req->body;
	KFindCoordinatorResponse resp;
	KStr		host = KSTR("");
	int32		port = -1;
	int32		node = -1;

	if (error == 0)
	{
		KApiNodes	nodes;

		kapi_txn();
		kapi_nodes(req->conn, &nodes);
		node = nodes.node[nodes.leader].id;
		host = nodes.node[nodes.leader].host;
		port = nodes.node[nodes.leader].port;
	}
	kmsg_init(&kmsg_find_coordinator_response, &resp);
	if (req->version < 4)
	{
		resp.error_code = error;
		resp.error_message = kapi_kstr(error == KERR_INVALID_REQUEST ? MSG_INVALID_REQUEST :
									   kerr_name(error));
		resp.node_id = node;
		resp.host = host;
		resp.port = port;
	}
	else
	{
		int32		n = Max(body->coordinator_keys.count, 0);

		resp.coordinators.count = n;
		resp.coordinators.items = kapi_items(&kmsg_find_coordinator_response,
											 offsetof(KFindCoordinatorResponse, coordinators),
											 n, NULL);
		for (int32 i = 0; i < n; i++)
		{
			resp.coordinators.items[i].key = body->coordinator_keys.items[i];
			resp.coordinators.items[i].error_code = error;
			/* of a type that there is, Kafka says nothing */
			if (error == KERR_INVALID_REQUEST && body->key_type != COORDINATOR_SHARE)
				resp.coordinators.items[i].error_message = kapi_kstr(MSG_INVALID_REQUEST);
			resp.coordinators.items[i].node_id = node;
			resp.coordinators.items[i].host = host;
			resp.coordinators.items[i].port = port;
		}
	}
	kapi_answer(req, &resp);
}

void
kapi_find_coordinator_fail(KRequest * req, int16 error)
{
	answer_coordinators(req, error);
}

void
kapi_find_coordinator(KRequest * req)
{
	const		KFindCoordinatorRequest *body = req->body;

	switch (body->key_type)
	{
		case COORDINATOR_GROUP:
			/* Every group is coordinated here. */
			answer_coordinators(req, 0);
			break;
		case COORDINATOR_TRANSACTION:
			/* Nobody may use transactional ids yet. */
			answer_coordinators(req, KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
			break;
		case COORDINATOR_SHARE:
			answer_coordinators(req, req->version < 6 ? KERR_INVALID_REQUEST :
								KERR_CLUSTER_AUTHORIZATION_FAILED);
			break;
		default:
			answer_coordinators(req, KERR_INVALID_REQUEST);
			break;
	}
}
