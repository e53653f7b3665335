/*
 * kapi_lookup.c
 *		What requests name: topics, addresses, rights; and how parts of answers are made.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/memutils.h"

#include "api/kapi_request.h"
#include "api/kapi_wait.h"
#include "kguc.h"

/* How long a step is tried again because of somebody's lock. */
#define RETRY_LIMIT		10000	/* ms */

/* Kafka's operations of its authorizer, as bits. */
#define OP_READ				(1 << 3)
#define OP_WRITE			(1 << 4)
#define OP_CREATE			(1 << 5)
#define OP_DELETE			(1 << 6)
#define OP_ALTER			(1 << 7)
#define OP_DESCRIBE			(1 << 8)
#define OP_DESCRIBE_CONFIGS	(1 << 10)
#define OP_ALTER_CONFIGS	(1 << 11)
#define OP_IDEMPOTENT_WRITE	(1 << 12)

/* So much of a name that is too long is given back in a message. */
#define MAX_NAME_TOLD	1000

char	   *
kapi_cstring(KStr s)
{
	if (s.len < 0 || (s.len > 0 && memchr(s.data, 0, s.len) != NULL))
		return NULL;
	return pnstrdup(s.len > 0 ? s.data : "", s.len);
}

const char *
kapi_topic_name_problem(KStr s)
{
	const char *name = kapi_cstring(s);

	if (name == NULL)
		return "Topic name is invalid: it contains a zero byte";
	if (ktopic_name_problem(name) == NULL)
		return NULL;
	if (name[0] == '\0')
		return "Topic name is invalid: the empty string is not allowed";
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return psprintf("Topic name is invalid: '%s' is not allowed", name);
	if (strlen(name) > KTOPIC_NAME_MAX)
		return psprintf("Topic name is invalid: the length of '%.*s' is longer than the max allowed "
						"length %d", MAX_NAME_TOLD, name, KTOPIC_NAME_MAX);
	return psprintf("Topic name is invalid: '%s' contains one or more characters other than ASCII "
					"alphanumerics, '.', '_' and '-'", name);
}

KStr
kapi_kstr(const char *s)
{
	return s == NULL ? KSTR_NULL : (KStr)
	{
		s, (int32_t) strlen(s)
	};
}

KUuid
kapi_uuid(const pg_uuid_t *id)
{
	KUuid		result;

	StaticAssertStmt(sizeof(result.b) == UUID_LEN, "UUIDs differ in size");
	memcpy(result.b, id->data, UUID_LEN);
	return result;
}

bool
kapi_uuid_is_zero(const KUuid * id)
{
	static const KUuid zero;

	return memcmp(id, &zero, sizeof(zero)) == 0;
}

const		KTopic *
kapi_topic(KStr name, bool *busy)
{
	char		buf[KTOPIC_NAME_MAX + 1];

	*busy = false;
	if (name.len <= 0 || name.len > KTOPIC_NAME_MAX || memchr(name.data, 0, name.len) != NULL)
		return NULL;
	memcpy(buf, name.data, name.len);
	buf[name.len] = '\0';
	kapi_txn();
	return ktopic_by_name(buf, busy);
}

const		KTopic *
kapi_topic_by_uuid(const KUuid * id, bool *busy)
{
	pg_uuid_t	uuid;

	*busy = false;
	if (kapi_uuid_is_zero(id))
		return NULL;
	memcpy(uuid.data, id->b, UUID_LEN);
	kapi_txn();
	return ktopic_by_id(&uuid, busy);
}

void
kapi_retry(KRequest * req, void (*step) (KRequest * req))
{
	if (kapi_now() - req->begun > RETRY_LIMIT)
		kapi_fail(req, KERR_REQUEST_TIMED_OUT);
	else
		kapi_wait_retry(req, step);
}

static int
compare_strings(const void *a, const void *b, void *arg)
{
	const		KStr *strings = arg;
	int32		i = *(const int32 *) a;
	int32		j = *(const int32 *) b;
	int			c;

	if (strings[i].len != strings[j].len)
		return strings[i].len < strings[j].len ? -1 : 1;
	c = strings[i].len > 0 ? memcmp(strings[i].data, strings[j].data, strings[i].len) : 0;
	return c != 0 ? c : i - j;
}

void
kapi_find_first(const KStr * strings, int32 n, int32 *first)
{
	int32	   *order = palloc_extended(Max(n, 1) * sizeof(int32), MCXT_ALLOC_HUGE);

	for (int32 i = 0; i < n; i++)
		order[i] = first[i] = i;
	qsort_arg(order, n, sizeof(int32), compare_strings, unconstify(KStr *, strings));
	for (int32 i = 1; i < n; i++)
	{
		const		KStr *a = &strings[order[i - 1]];
		const		KStr *b = &strings[order[i]];

		if (a->len >= 0 && a->len == b->len &&
			(a->len == 0 || memcmp(a->data, b->data, a->len) == 0))
			first[order[i]] = first[order[i - 1]];
	}
	pfree(order);
}

void
kapi_shape(const KStr * topics, const int32 *npartitions, int32 ntopics, const int32 *indexes,
		   KApiShape * shape)
{
	/* A partition that is named; equal ones are equal bytes. */
	typedef struct Name
	{
		int32		topic;
		int32		index;
	} Name;
	int32		n = 0;
	int32		k = 0;
	int32	   *first_topic = palloc_extended((ntopics + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	int32	   *first;
	int32	   *where;
	Name	   *names;
	KStr	   *strings;

	for (int32 i = 0; i < ntopics; i++)
		n += Max(npartitions[i], 0);
	names = palloc_extended((n + 1) * sizeof(Name), MCXT_ALLOC_HUGE);
	strings = palloc_extended((n + 1) * sizeof(KStr), MCXT_ALLOC_HUGE);
	first = palloc_extended((n + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	where = palloc_extended((ntopics + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	shape->ntopics = shape->nparts = 0;
	shape->source = palloc_extended((ntopics + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	shape->counts = palloc_extended((ntopics + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	shape->topic = palloc_extended((n + 1) * sizeof(int32), MCXT_ALLOC_HUGE);
	shape->part = palloc_extended((n + 1) * sizeof(int32), MCXT_ALLOC_HUGE);

	kapi_find_first(topics, ntopics, first_topic);
	for (int32 i = 0; i < ntopics; i++)
	{
		where[i] = -1;
		for (int32 p = 0; p < npartitions[i]; p++, k++)
		{
			names[k] = (Name) {first_topic[i], indexes[k]};
			strings[k] = (KStr) {(const char *) &names[k], sizeof(Name)};
		}
	}
	kapi_find_first(strings, n, first);
	for (k = 0; k < n; k++)
	{
		int32	   *topic = &where[names[k].topic];

		if (*topic < 0)
		{
			*topic = shape->ntopics++;
			shape->source[*topic] = names[k].topic;
			shape->counts[*topic] = 0;
		}
		shape->topic[k] = *topic;
		if (first[k] == k)
		{
			shape->counts[*topic]++;
			shape->part[k] = shape->nparts++;
		}
		else
			shape->part[k] = shape->part[first[k]];
	}
}

void	   *
kapi_items(const KMsgDesc * desc, Size offset, int32 n, const KMsgDesc * *sub)
{
	for (int i = 0; i < desc->nfields; i++)
	{
		const		KFieldDesc *field = &desc->fields[i];

		if (field->offset == offset && field->sub != NULL && (field->flags & KFF_ARRAY))
		{
			char	   *items = palloc_extended(Max((Size) n, 1) * field->sub->size,
												MCXT_ALLOC_HUGE);

			for (int32 k = 0; k < n; k++)
				kmsg_init(field->sub, items + (Size) k * field->sub->size);
			if (sub != NULL)
				*sub = field->sub;
			return items;
		}
	}
	elog(ERROR, "message %s has no array at offset %zu", desc->name, offset);
}

KLogPartition *
kapi_partition(Relation rel, int32 partition, bool *failed)
{
	KLogPartition *part = klog_attach(rel, partition, true);

	*failed = part == NULL && klog_state_failed(rel, partition);
	return part;
}

bool
kapi_was_asked(const KColdPages *last, KLogPosition page)
{
	return page.segment == last->position.segment && page.page >= last->position.page &&
		page.page - last->position.page < last->npages;
}

bool
kapi_ask_reader(Relation rel, KLogPartition *part, KLogPosition cold, Size bytes, KColdPages *last)
{
	uint32		npages;

	if (klog_page_failed(part, cold))
		return false;
	if (kapi_was_asked(last, cold) && kapi_now() - last->asked < KAPI_COLD_AGAIN)
		return true;
	npages = klog_reader_request(rel, part, cold, bytes, kapi_broker);
	if (npages > 0)
		*last = (KColdPages) {cold, npages, kapi_now()};
	return true;
}

void
kapi_endpoint(KApiConn * conn, KStr * host, int32 *port)
{
	const		KAdvertised *advertised = kguc_advertised_find(conn->protocol);

	/* Copied: a reload of the settings may come before the answer has left. */
	*host = kapi_kstr(pstrdup(advertised != NULL ? advertised->host : conn->local_host));
	*port = advertised != NULL ? advertised->port : conn->local_port;
}

void
kapi_nodes(KApiConn * conn, KApiNodes * nodes)
{
	KApiNode   *self = &nodes->node[0];
	KNode		leader;

	nodes->count = 1;
	nodes->leader = 0;
	self->id = kguc_node_id;
	kapi_endpoint(conn, &self->host, &self->port);
	self->rack = kguc_rack != NULL && kguc_rack[0] != '\0' ? kapi_kstr(pstrdup(kguc_rack)) :
		KSTR_NULL;
	if (!kapi_standby || !knode_leader(&leader))
		return;

	/* A standby that has its primary's number, as after a base backup, is not told of. */
	if (leader.id != self->id)
		nodes->leader = nodes->count++;
	nodes->node[nodes->leader].id = leader.id;
	nodes->node[nodes->leader].host = kapi_kstr(leader.host);
	nodes->node[nodes->leader].port = leader.port;
	nodes->node[nodes->leader].rack = leader.rack != NULL ? kapi_kstr(leader.rack) : KSTR_NULL;
}

int32
kapi_topic_operations(const KTopic * topic, Oid role)
{
	int32		ops = 0;

	if (kacl_topic_read(topic->relid, role))
		ops |= OP_READ | OP_DESCRIBE;
	if (kacl_topic_write(topic->relid, role))
		ops |= OP_WRITE | OP_DESCRIBE;
	if (kacl_topic_owner(topic->relid, role))
		ops |= OP_ALTER | OP_DELETE | OP_DESCRIBE | OP_ALTER_CONFIGS;
	if (kacl_topic_create(role))
		ops |= OP_CREATE;
	if (ops & OP_DESCRIBE)
		ops |= OP_DESCRIBE_CONFIGS;
	return ops;
}

int32
kapi_cluster_operations(Oid role)
{
	int32		ops = OP_DESCRIBE | OP_DESCRIBE_CONFIGS | OP_IDEMPOTENT_WRITE;

	if (kacl_topic_create(role))
		ops |= OP_CREATE;
	return ops;
}

int16
kapi_check_epoch(int32 epoch)
{
	int32		current;

	if (epoch == -1)
		return 0;
	current = kepoch_latest();
	return epoch < current ? KERR_FENCED_LEADER_EPOCH :
		epoch > current ? KERR_UNKNOWN_LEADER_EPOCH : 0;
}
