/*
 * kapi_describe.c
 *		DescribeTopicPartitions: topics' partitions page by page, in the order of their names.
 */
#include "postgres.h"

#include "api/kapi_request.h"
#include "api/kapi_wait.h"

/* One answer tells of no more partitions: max.request.partition.size.limit of Kafka. */
#define MAX_PARTITIONS	2000

typedef struct DescribeTopic
{
	KStr		name;
	const		KTopic *topic;	/* of this turn only; NULL: none */
} DescribeTopic;

void
kapi_describe_topic_partitions_fail(KRequest *req, int16 error)
{
	const		KDescribeTopicPartitionsRequest *body = req->body;
	KDescribeTopicPartitionsResponse resp;
	int32		n = Max(body->topics.count, 0);

	kmsg_init(&kmsg_describe_topic_partitions_response, &resp);
	resp.topics.count = n;
	resp.topics.items = kapi_items(&kmsg_describe_topic_partitions_response,
								   offsetof(KDescribeTopicPartitionsResponse, topics), n, NULL);
	for (int32 i = 0; i < n; i++)
	{
		resp.topics.items[i].error_code = error;
		resp.topics.items[i].name = body->topics.items[i].name;
	}
	kapi_answer(req, &resp);
}

/* Byte by byte, which is Java's order too for the names that topics can have. */
static int
compare_names(KStr a, KStr b)
{
	int			c = memcmp(a.data, b.data, Min(Max(a.len, 0), Max(b.len, 0)));

	return c != 0 ? c : a.len - b.len;
}

static int
compare_topics(const void *a, const void *b)
{
	return compare_names(((const DescribeTopic *) a)->name, ((const DescribeTopic *) b)->name);
}

/* The topics to tell of, sorted, each once; -1: something was busy. */
static int
find_topics(KRequest *req, DescribeTopic **topics)
{
	const		KDescribeTopicPartitionsRequest *body = req->body;
	Oid			role = kapi_role(req);
	bool		busy = false;
	int			n = 0;
	int			kept = 0;

	if (body->topics.count <= 0)
	{
		List	   *list;
		ListCell   *cell;

		kapi_txn();
		list = ktopic_list(&busy);
		if (busy)
			return -1;
		*topics = palloc0(Max(list_length(list), 1) * sizeof(DescribeTopic));
		foreach(cell, list)
		{
			const		KTopic *topic = lfirst(cell);

			if (kacl_topic_describe(topic->relid, role))
			{
				(*topics)[n].name = kapi_kstr(pstrdup(topic->name));
				(*topics)[n++].topic = topic;
			}
		}
	}
	else
	{
		*topics = palloc_extended(body->topics.count * sizeof(DescribeTopic),
								  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
		for (; n < body->topics.count; n++)
		{
			(*topics)[n].name = body->topics.items[n].name;
			(*topics)[n].topic = kapi_topic((*topics)[n].name, &busy);
			if (busy)
				return -1;
		}
	}
	qsort(*topics, n, sizeof(DescribeTopic), compare_topics);
	for (int i = 0; i < n; i++)
	{
		if ((i > 0 && compare_topics(&(*topics)[i], &(*topics)[i - 1]) == 0) ||
			(body->cursor != NULL &&
			 compare_names((*topics)[i].name, body->cursor->topic_name) < 0))
			continue;
		(*topics)[kept++] = (*topics)[i];
	}
	return kept;
}

static void
fill_partitions(const KMsgDesc *desc, KDescribeTopicPartitionsResponseTopic *out,
				int32 first, int32 n, const KApiNodes *nodes)
{
	int32		epoch = kepoch_latest();
	KInt32Array replicas;

	replicas.count = nodes->count;
	replicas.items = palloc(sizeof(int32_t) * nodes->count);
	for (int i = 0; i < nodes->count; i++)
		replicas.items[i] = nodes->node[i].id;
	out->partitions.count = n;
	out->partitions.items =
		kapi_items(desc, offsetof(KDescribeTopicPartitionsResponseTopic, partitions), n, NULL);
	for (int32 p = 0; p < n; p++)
	{
		KDescribeTopicPartitionsResponsePartition *part = &out->partitions.items[p];

		part->partition_index = first + p;
		part->leader_id = nodes->node[nodes->leader].id;
		part->leader_epoch = epoch;
		part->replica_nodes = replicas;
		part->isr_nodes = replicas;
		part->eligible_leader_replicas.count = 0;
		part->last_known_elr.count = 0;
	}
}

void
kapi_describe_topic_partitions(KRequest *req)
{
	const		KDescribeTopicPartitionsRequest *body = req->body;
	const		KDescribeTopicPartitionsRequestCursor *cursor = body->cursor;
	KDescribeTopicPartitionsResponse resp;
	KDescribeTopicPartitionsResponseCursor *next = NULL;
	const		KMsgDesc *desc;
	DescribeTopic *topics;
	KApiNodes	nodes;
	Oid			role = kapi_role(req);
	int			n = find_topics(req, &topics);
	int32		room = Max(Min(MAX_PARTITIONS, body->response_partition_limit), 1);
	int			denied = 0;

	if (n < 0)
	{
		kapi_retry(req, kapi_describe_topic_partitions);
		return;
	}
	if (cursor != NULL &&
		(cursor->partition_index < 0 ||
		 (body->topics.count > 0 &&
		  (n == 0 || compare_names(topics[0].name, cursor->topic_name) != 0))))
	{
		kapi_fail(req, KERR_INVALID_REQUEST);
		return;
	}

	kapi_nodes(req->conn, &nodes);
	kmsg_init(&kmsg_describe_topic_partitions_response, &resp);
	resp.topics.count = 0;
	resp.topics.items = kapi_items(&kmsg_describe_topic_partitions_response,
								   offsetof(KDescribeTopicPartitionsResponse, topics), n, &desc);
	for (int i = 0; i < n; i++)
	{
		const		KTopic *topic = topics[i].topic;
		KDescribeTopicPartitionsResponseTopic *out = &resp.topics.items[resp.topics.count];
		int32		first = 0;
		int32		count;

		/* Those that the client must not see come last, and take no room. */
		if (topic != NULL && !kacl_topic_describe(topic->relid, role))
		{
			topics[denied++] = topics[i];
			continue;
		}
		if (next != NULL)
			continue;
		if (room == 0)
		{
			next = palloc0(sizeof(*next));
			next->topic_name = topics[i].name;
			continue;
		}
		resp.topics.count++;
		out->name = topics[i].name;
		if (topic == NULL)
		{
			char	   *name = kapi_cstring(topics[i].name);

			out->error_code = name == NULL || ktopic_name_problem(name) != NULL ?
				KERR_INVALID_TOPIC_EXCEPTION : KERR_UNKNOWN_TOPIC_OR_PARTITION;
			continue;
		}
		if (cursor != NULL && compare_names(topics[i].name, cursor->topic_name) == 0)
			first = Min(cursor->partition_index, topic->partitions);
		count = Min(room, topic->partitions - first);
		room -= count;
		out->topic_id = kapi_uuid(&topic->id);
		out->topic_authorized_operations = kapi_topic_operations(topic, role);
		fill_partitions(desc, out, first, count, &nodes);
		if (first + count < topic->partitions)
		{
			next = palloc0(sizeof(*next));
			next->topic_name = topics[i].name;
			next->partition_index = first + count;
		}
	}
	for (int i = 0; i < denied && body->topics.count > 0; i++)
	{
		resp.topics.items[resp.topics.count].error_code = KERR_TOPIC_AUTHORIZATION_FAILED;
		resp.topics.items[resp.topics.count++].name = topics[i].name;
	}
	resp.next_cursor = next;
	kapi_answer(req, &resp);
}
