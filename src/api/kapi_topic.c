/*
 * kapi_topic.c
 *		CreateTopics and DeleteTopics.
 *
 * What is wrong with a request is said here, in Kafka's order and words; what is left is handed to
 * the DDL process.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "api/kapi_request.h"
#include "api/kapi_wait.h"
#include "kguc.h"

/* The least time that DDL gets, whatever the client's timeout. */
#define MIN_TIMEOUT			1000	/* ms */
#define MAX_TIMEOUT			600000

/* Where a config's value comes from, in Kafka's numbers. */
#define SOURCE_TOPIC		1
#define SOURCE_DEFAULT		5

#define MSG_DUPLICATE_NAME	"Duplicate topic name."
#define MSG_NOT_AUTHORIZED	"Authorization failed."
#define MSG_TOPIC_NOT_AUTHORIZED "Topic authorization failed."
#define MSG_UNKNOWN_TOPIC	"This server does not host this topic-partition."
#define MSG_UNKNOWN_ID		"This server does not host this topic ID."

/* ------------------------------------------------------------------------
 * CreateTopics
 * ------------------------------------------------------------------------
 */

typedef struct CreateTopic
{
	KCreateTopicsRequestTopic *in;
	KCreateTopicsResponseTopic *out;
	char	   *name;
	int32		partitions;
	Jsonb	   *config;
} CreateTopic;

typedef struct CreateWork
{
	KCreateTopicsResponse resp;
	const		KMsgDesc *desc; /* of a topic in the response */
	CreateTopic *topics;
	KDdlJob    *jobs;
	int			njobs;
} CreateWork;

static void
create_error(KCreateTopicsResponseTopic * out, int16 error, const char *message)
{
	out->error_code = error;
	out->error_message = kapi_kstr(message);
}

void
kapi_create_topics_fail(KRequest * req, int16 error)
{
	const		KCreateTopicsRequest *body = req->body;
	KCreateTopicsResponse resp;
	int32		n = Max(body->topics.count, 0);

	kmsg_init(&kmsg_create_topics_response, &resp);
	resp.topics.count = n;
	resp.topics.items = kapi_items(&kmsg_create_topics_response,
								   offsetof(KCreateTopicsResponse, topics), n, NULL);
	for (int32 i = 0; i < n; i++)
	{
		resp.topics.items[i].name = body->topics.items[i].name;
		create_error(&resp.topics.items[i], error, NULL);
	}
	kapi_answer(req, &resp);
}

/*
 * Replicas named by hand: there is one node, so each partition's list must be that.  NULL, or
 * what is wrong.
 */
static const char *
assignment_problem(const KCreateTopicsRequestTopic * in)
{
	int32		n = in->assignments.count;
	bool	   *seen = palloc0(n);

	for (int32 i = 0; i < n; i++)
	{
		KCreateTopicsRequestAssignment *a = &in->assignments.items[i];

		if (a->partition_index >= 0 && a->partition_index < n)
		{
			if (seen[a->partition_index])
				return psprintf("Found multiple manual partition assignments for partition %d",
								a->partition_index);
			seen[a->partition_index] = true;
		}
		if (a->broker_ids.count <= 0)
			return "The manual partition assignment includes an empty replica list.";
		for (int32 b = 0; b < a->broker_ids.count; b++)
		{
			if (a->broker_ids.items[b] != kguc_node_id)
				return psprintf("The manual partition assignment includes broker %d, "
								"but no such broker is registered.", a->broker_ids.items[b]);
			if (b > 0)
				return psprintf("The manual partition assignment includes the broker %d "
								"more than once.", a->broker_ids.items[b]);
		}
	}
	for (int32 i = 0; i < n; i++)
	{
		if (!seen[i])
			return "partitions should be a consecutive 0-based integer sequence";
	}
	return NULL;
}

/*
 * The name of a topic that differs from this one in dots and underscores only, or NULL.  *busy
 * as elsewhere.
 */
static const char *
colliding_topic(const char *name, bool *busy)
{
	List	   *list;
	ListCell   *cell;

	*busy = false;
	if (strpbrk(name, "._") == NULL)
		return NULL;
	list = ktopic_list(busy);
	if (*busy)
		return NULL;
	foreach(cell, list)
	{
		const char *other = ((const KTopic *) lfirst(cell))->name;
		const char *p = name;
		const char *q = other;

		while (*p != '\0' && (*p == *q || ((*p == '.' || *p == '_') && (*q == '.' || *q == '_'))))
			p++, q++;
		if (*p == '\0' && *q == '\0')
			return other;
	}
	return NULL;
}

/* The configs as jsonb; NULL, or what is wrong with them. */
static const char *
build_config(const KCreateTopicsRequestTopic * in, Jsonb **config)
{
	int32		n = Max(in->configs.count, 0);
	const char **names = palloc_extended(Max(n, 1) * sizeof(char *), MCXT_ALLOC_HUGE);
	const char **values = palloc_extended(Max(n, 1) * sizeof(char *), MCXT_ALLOC_HUGE);
	KTopicConfig parsed;

	for (int32 i = 0; i < n; i++)
	{
		KCreateTopicsRequestConfig *c = &in->configs.items[i];

		names[i] = kapi_cstring(c->name);
		values[i] = kapi_cstring(c->value);
		if (names[i] == NULL || !pg_verify_mbstr(PG_UTF8, names[i], c->name.len, true))
			return "Invalid topic config name";
		if (c->value.len < 0)
			return psprintf("Null value not supported for topic configs: %s", names[i]);
		if (values[i] == NULL || !pg_verify_mbstr(PG_UTF8, values[i], c->value.len, true))
			return psprintf("Invalid value for configuration %s: not a text", names[i]);
	}
	*config = ktopic_config_build(n, names, values);
	return ktopic_config_parse(*config, &parsed);
}

/* What Kafka would say about a new topic, or nothing.  False: busy. */
static bool
create_check(CreateTopic *topic)
{
	KCreateTopicsRequestTopic *in = topic->in;
	KCreateTopicsResponseTopic *out = topic->out;
	const char *problem;
	bool		busy;

	topic->name = kapi_cstring(in->name);
	problem = kapi_topic_name_problem(in->name);
	if (problem != NULL)
	{
		create_error(out, KERR_INVALID_TOPIC_EXCEPTION, problem);
		return true;
	}
	if (kapi_topic(in->name, &busy) != NULL)
	{
		create_error(out, KERR_TOPIC_ALREADY_EXISTS,
					 psprintf("Topic '%s' already exists.", topic->name));
		return true;
	}
	if (busy)
		return false;
	problem = colliding_topic(topic->name, &busy);
	if (busy)
		return false;
	if (problem != NULL)
	{
		create_error(out, KERR_INVALID_TOPIC_EXCEPTION,
					 psprintf("Topic '%s' collides with existing topic: %s",
							  topic->name, problem));
		return true;
	}
	problem = build_config(in, &topic->config);
	if (problem != NULL)
	{
		create_error(out, KERR_INVALID_CONFIG, problem);
		return true;
	}

	if (in->assignments.count > 0)
	{
		if (in->replication_factor != -1)
			create_error(out, KERR_INVALID_REQUEST,
						 "A manual partition assignment was specified, "
						 "but replication factor was not set to -1.");
		else if (in->num_partitions != -1)
			create_error(out, KERR_INVALID_REQUEST,
						 "A manual partition assignment was specified, "
						 "but numPartitions was not set to -1.");
		else if ((problem = assignment_problem(in)) != NULL)
			create_error(out, KERR_INVALID_REPLICA_ASSIGNMENT, problem);
		topic->partitions = in->assignments.count;
	}
	else if (in->replication_factor < -1 || in->replication_factor == 0)
		create_error(out, KERR_INVALID_REPLICATION_FACTOR,
					 "Replication factor must be larger than 0, or -1 to use the default value.");
	else if (in->num_partitions < -1 || in->num_partitions == 0)
		create_error(out, KERR_INVALID_PARTITIONS,
					 "Number of partitions was set to an invalid non-positive value.");
	else if (in->replication_factor > 1)
		create_error(out, KERR_INVALID_REPLICATION_FACTOR,
					 psprintf("Unable to replicate the partition %d time(s): The target "
							  "replication factor of %d cannot be reached because only 1 "
							  "broker(s) are registered.",
							  in->replication_factor, in->replication_factor));
	else
		topic->partitions = in->num_partitions == -1 ? kguc_num_partitions : in->num_partitions;
	if (out->error_code == 0 && topic->partitions > KTOPIC_MAX_PARTITIONS)
		create_error(out, KERR_INVALID_PARTITIONS,
					 psprintf("A topic has at most %d partitions.", KTOPIC_MAX_PARTITIONS));
	return true;
}

/* What versions from 5 on tell of a new topic. */
static void
create_describe(CreateWork *work, CreateTopic *topic)
{
	KCreateTopicsResponseTopic *out = topic->out;
	int			n;
	const		KTopicConfigDef *const *defs = ktopic_config_defs(&n);

	out->num_partitions = topic->partitions;
	out->replication_factor = 1;
	out->configs.count = 0;
	out->configs.items = kapi_items(work->desc, offsetof(KCreateTopicsResponseTopic, configs),
									n, NULL);
	for (int i = 0; i < n; i++)
	{
		KCreateTopicsResponseConfig *config = &out->configs.items[out->configs.count];
		bool		is_default;
		char	   *value = ktopic_config_value(topic->config, defs[i], &is_default);

		if (value == NULL)
			continue;
		config->name = kapi_kstr(defs[i]->name);
		config->value = kapi_kstr(value);
		config->config_source = is_default ? SOURCE_DEFAULT : SOURCE_TOPIC;
		out->configs.count++;
	}
}

static void
create_done(KRequest * req)
{
	CreateWork *work = req->work;

	for (int i = 0; i < work->njobs; i++)
	{
		KDdlJob    *job = &work->jobs[i];
		CreateTopic *topic = &work->topics[job->index];

		if (job->result.error != 0)
			create_error(topic->out, job->result.error,
						 job->result.message[0] != '\0' ? job->result.message : NULL);
		else
		{
			memcpy(topic->out->topic_id.b, job->result.topic_id, sizeof(job->result.topic_id));
			create_describe(work, topic);
		}
	}
	kapi_answer(req, &work->resp);
}

void
kapi_create_topics(KRequest * req)
{
	const		KCreateTopicsRequest *body = req->body;
	CreateWork *work = palloc0(sizeof(CreateWork));
	int32		n = Max(body->topics.count, 0);
	Oid			role = kapi_role(req);
	bool		may_create = kacl_topic_create(role);
	KStr	   *names = palloc_extended(Max(n, 1) * sizeof(KStr), MCXT_ALLOC_HUGE);
	int32	   *first = palloc_extended(Max(n, 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	bool	   *repeated = palloc_extended(Max(n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int			timeout = Min(Max(body->timeout_ms, MIN_TIMEOUT), MAX_TIMEOUT);

	req->work = work;
	work->topics = palloc_extended(Max(n, 1) * sizeof(CreateTopic),
								   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	work->jobs = palloc_extended(Max(n, 1) * sizeof(KDdlJob), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	kmsg_init(&kmsg_create_topics_response, &work->resp);
	work->resp.topics.items = kapi_items(&kmsg_create_topics_response,
										 offsetof(KCreateTopicsResponse, topics), n, &work->desc);

	/* A name that is there twice is refused, and answered once. */
	for (int32 i = 0; i < n; i++)
		names[i] = body->topics.items[i].name;
	kapi_find_first(names, n, first);
	for (int32 i = 0; i < n; i++)
		repeated[first[i]] |= first[i] != i;

	for (int32 i = 0; i < n; i++)
	{
		CreateTopic *topic = &work->topics[i];

		if (first[i] != i)
			continue;
		topic->in = &body->topics.items[i];
		topic->out = &work->resp.topics.items[work->resp.topics.count++];
		topic->out->name = topic->in->name;
		topic->out->error_message = KSTR_NULL;
		if (repeated[i])
			create_error(topic->out, KERR_INVALID_REQUEST, MSG_DUPLICATE_NAME);
		else if (!may_create)
			create_error(topic->out, KERR_TOPIC_AUTHORIZATION_FAILED, MSG_NOT_AUTHORIZED);
		else if (!create_check(topic))
		{
			kapi_retry(req, kapi_create_topics);
			return;
		}
		else if (topic->out->error_code == 0 && body->validate_only)
			create_describe(work, topic);
		else if (topic->out->error_code == 0)
		{
			KDdlJob    *job = &work->jobs[work->njobs++];

			job->index = i;
			job->ddl.op = KAPI_DDL_CREATE_TOPIC;
			job->ddl.role = role;
			job->ddl.name = topic->name;
			job->ddl.partitions = topic->partitions;
			job->ddl.config = JsonbToCString(NULL, &topic->config->root, VARSIZE(topic->config));
		}
	}
	if (work->njobs == 0)
		kapi_answer(req, &work->resp);
	else
		kapi_ddl_run(req, work->jobs, work->njobs, timeout, create_done);
}

/* ------------------------------------------------------------------------
 * DeleteTopics
 * ------------------------------------------------------------------------
 */

typedef struct DeleteWork
{
	KDeleteTopicsResponse resp;
	KDdlJob    *jobs;
	int			njobs;
} DeleteWork;

/* What the request names, in one shape for all versions. */
static int32
delete_named(KRequest * req, KDeleteTopicsRequestTopic * *topics)
{
	const		KDeleteTopicsRequest *body = req->body;
	int32		n;

	if (req->version >= 6)
	{
		*topics = body->topics.items;
		return Max(body->topics.count, 0);
	}
	n = Max(body->topic_names.count, 0);
	*topics = palloc_extended(Max(n, 1) * sizeof(KDeleteTopicsRequestTopic),
							  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int32 i = 0; i < n; i++)
		(*topics)[i].name = body->topic_names.items[i];
	return n;
}

static void
delete_error(KDeleteTopicsResponseTopic * out, int16 error, const char *message)
{
	out->error_code = error;
	out->error_message = kapi_kstr(message);
}

void
kapi_delete_topics_fail(KRequest * req, int16 error)
{
	KDeleteTopicsResponse resp;
	KDeleteTopicsRequestTopic *topics;
	int32		n = delete_named(req, &topics);

	kmsg_init(&kmsg_delete_topics_response, &resp);
	resp.responses.count = n;
	resp.responses.items = kapi_items(&kmsg_delete_topics_response,
									  offsetof(KDeleteTopicsResponse, responses), n, NULL);
	for (int32 i = 0; i < n; i++)
	{
		resp.responses.items[i].name = topics[i].name;
		resp.responses.items[i].topic_id = topics[i].topic_id;
		delete_error(&resp.responses.items[i], error, NULL);
	}
	kapi_answer(req, &resp);
}

static void
delete_done(KRequest * req)
{
	DeleteWork *work = req->work;

	for (int i = 0; i < work->njobs; i++)
	{
		KDdlJob    *job = &work->jobs[i];

		if (job->result.error != 0)
			delete_error(&work->resp.responses.items[job->index], job->result.error,
						 job->result.message[0] != '\0' ? job->result.message : NULL);
	}
	kapi_answer(req, &work->resp);
}

/*
 * Finds a topic that is to be deleted and checks the role's rights.  NULL: the answer is set, or
 * busy.
 */
static const KTopic *
delete_check(const KDeleteTopicsRequestTopic * in, KDeleteTopicsResponseTopic * out, Oid role,
			 bool *busy)
{
	const		KTopic *topic;

	if (in->name.len < 0)
		topic = kapi_topic_by_uuid(&in->topic_id, busy);
	else
		topic = kapi_topic(in->name, busy);
	if (*busy)
		return NULL;
	if (topic == NULL)
	{
		if (in->name.len < 0)
			delete_error(out, KERR_UNKNOWN_TOPIC_ID, MSG_UNKNOWN_ID);
		else
			delete_error(out, KERR_UNKNOWN_TOPIC_OR_PARTITION, MSG_UNKNOWN_TOPIC);
		return NULL;
	}
	if (!kacl_topic_owner(topic->relid, role))
	{
		/* A name that was not asked for is told only to those who may know it. */
		if (in->name.len < 0 && kacl_topic_describe(topic->relid, role))
			out->name = kapi_kstr(pstrdup(topic->name));
		delete_error(out, KERR_TOPIC_AUTHORIZATION_FAILED, MSG_TOPIC_NOT_AUTHORIZED);
		return NULL;
	}
	return topic;
}

void
kapi_delete_topics(KRequest * req)
{
	const		KDeleteTopicsRequest *body = req->body;
	DeleteWork *work = palloc0(sizeof(DeleteWork));
	KDeleteTopicsRequestTopic *topics;
	int32		n = delete_named(req, &topics);
	int32		nresp = 0;
	Oid			role = kapi_role(req);
	KStr	   *keys = palloc_extended(Max(n, 1) * sizeof(KStr), MCXT_ALLOC_HUGE);
	int32	   *first = palloc_extended(Max(n, 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	bool	   *repeated = palloc_extended(Max(n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	int			timeout = Min(Max(body->timeout_ms, MIN_TIMEOUT), MAX_TIMEOUT);

	req->work = work;
	work->jobs = palloc_extended(Max(n, 1) * sizeof(KDdlJob), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	kmsg_init(&kmsg_delete_topics_response, &work->resp);
	work->resp.responses.items = kapi_items(&kmsg_delete_topics_response,
											offsetof(KDeleteTopicsResponse, responses), n, NULL);

	/* A name and an id that happen to have the same bytes only make the request look repeated. */
	for (int32 i = 0; i < n; i++)
	{
		bool		has_id = !kapi_uuid_is_zero(&topics[i].topic_id);

		keys[i] = has_id == (topics[i].name.len >= 0) ? KSTR_NULL :
			has_id ? (KStr)
		{
			(const char *) topics[i].topic_id.b, UUID_LEN
		} : topics[i].name;
	}
	kapi_find_first(keys, n, first);
	for (int32 i = 0; i < n; i++)
		repeated[first[i]] |= first[i] != i;

	for (int32 i = 0; i < n; i++)
	{
		KDeleteTopicsResponseTopic *out = &work->resp.responses.items[nresp];
		const		KTopic *topic;
		bool		busy = false;

		if (first[i] != i)
			continue;
		out->name = topics[i].name;
		out->topic_id = topics[i].topic_id;
		nresp++;
		if (keys[i].len < 0)
			delete_error(out, KERR_INVALID_REQUEST, topics[i].name.len < 0 ?
						 "Neither topic name nor id were specified." :
						 "You may not specify both topic name and topic id.");
		else if (repeated[i])
			delete_error(out, KERR_INVALID_REQUEST, topics[i].name.len < 0 ?
						 "Duplicate topic id." : MSG_DUPLICATE_NAME);
		else if ((topic = delete_check(&topics[i], out, role, &busy)) != NULL)
		{
			KDdlJob    *job = &work->jobs[work->njobs++];

			job->index = nresp - 1;
			job->ddl.op = KAPI_DDL_DELETE_TOPIC;
			job->ddl.role = role;
			job->ddl.name = pstrdup(topic->name);
			memcpy(job->ddl.topic_id, topic->id.data, UUID_LEN);
			out->name = kapi_kstr(job->ddl.name);
			out->topic_id = kapi_uuid(&topic->id);
			for (int k = 0; k < work->njobs - 1; k++)
			{
				if (memcmp(work->jobs[k].ddl.topic_id, topic->id.data, UUID_LEN) != 0)
					continue;
				delete_error(out, KERR_INVALID_REQUEST,
							 "The provided topic name maps to an ID that was already supplied.");
				work->njobs--;
				break;
			}
		}
		else if (busy)
		{
			kapi_retry(req, kapi_delete_topics);
			return;
		}
	}
	work->resp.responses.count = nresp;
	if (work->njobs == 0)
		kapi_answer(req, &work->resp);
	else
		kapi_ddl_run(req, work->jobs, work->njobs, timeout, delete_done);
}
