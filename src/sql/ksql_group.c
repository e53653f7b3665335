/*
 * ksql_group.c
 *		Consumer groups and their members, as views show them.
 *
 * Each group is copied out of shared memory and opened from the copy: its lock is held for no
 * longer than that.  What clients have sent is shown as text, whatever it is.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "sql/ksql.h"

PG_FUNCTION_INFO_V1(ksql_stat_get_group);
PG_FUNCTION_INFO_V1(ksql_stat_get_group_member);
PG_FUNCTION_INFO_V1(ksql_group_sessions);

/* An opened group may use so much memory. */
#define OPEN_MAX	((size_t) 256 * 1024 * 1024)

static Datum
text_of(KStr s, bool *isnull)
{
	*isnull = s.len < 0;
	return *isnull ? (Datum) 0 : PointerGetDatum(ksql_bytes_to_text(s.data, s.len));
}

/*
 * kafka.stat_get_group() -> TABLE (group_id text, state text, type text, protocol_type text,
 *		epoch int, members int)
 */
Datum
ksql_stat_get_group(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < kcoord_capacity(); i++)
	{
		KGroupSummary summary;
		Datum		values[6];
		bool		isnull[6] = {0};
		uint8	   *image;
		size_t		len;
		KStr		id;

		CHECK_FOR_INTERRUPTS();
		image = kcoord_session_copy(i, &id, &len);
		if (image == NULL)
			continue;
		if (kgroup_image_summary(image, len, &summary) && summary.type != KGROUP_NONE)
		{
			values[0] = text_of(id, &isnull[0]);
			values[1] = CStringGetTextDatum(kgroup_state_name(summary.state));
			values[2] = CStringGetTextDatum(kgroup_type_name(summary.type));
			values[3] = text_of(summary.protocol_type, &isnull[3]);
			values[4] = Int32GetDatum(summary.generation);
			values[5] = Int32GetDatum(summary.members);
			tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
		}
		pfree(image);
	}
	return (Datum) 0;
}

/* kafka.group_sessions(group_id text) -> int */
Datum
ksql_group_sessions(PG_FUNCTION_ARGS)
{
	text	   *id = PG_GETARG_TEXT_PP(0);

	PG_RETURN_INT32(kcoord_session_count((KStr) {VARDATA_ANY(id), VARSIZE_ANY_EXHDR(id)}));
}

/* ------------------------------------------------------------------------
 * Members
 * ------------------------------------------------------------------------
 */

static bool
tell_topic(const KTopic *topic, KGroupTopic *out)
{
	if (topic == NULL)
		return false;
	memcpy(out->id.b, topic->id.data, UUID_LEN);
	out->name = (KStr) {topic->name, (int32) strlen(topic->name)};
	out->partitions = topic->partitions;
	return true;
}

static bool
topic_by_name(void *arg, KStr name, KGroupTopic *out)
{
	return tell_topic(ktopic_by_name(pnstrdup(name.data, name.len), NULL), out);
}

static bool
topic_by_id(void *arg, const KUuid *id, KGroupTopic *out)
{
	pg_uuid_t	uuid;

	memcpy(uuid.data, id->b, UUID_LEN);
	return tell_topic(ktopic_by_id(&uuid, NULL), out);
}

/* Who only looks resolves no patterns, and gives out no ids. */
static bool
match_topics(void *arg, KStr pattern, KGroupMatch match, void *match_arg)
{
	return false;
}

static void
random_bytes(void *arg, uint8_t *bytes, size_t len)
{
	memset(bytes, 0, len);
}

static void *
arena_grow(void *context, size_t size)
{
	return MemoryContextAllocHuge(context, size);
}

/* An assignment as it is written: {"topic": [0, 1]}, and the number of its partitions. */
typedef struct Assignment
{
	StringInfoData json;
	int32		partitions;
} Assignment;

static void
assignment_begin(Assignment *assignment)
{
	initStringInfo(&assignment->json);
	appendStringInfoChar(&assignment->json, '{');
	assignment->partitions = 0;
}

static void
assignment_add(Assignment *assignment, KStr topic, const int32_t *partitions, int32_t count)
{
	StringInfo	json = &assignment->json;

	if (json->len > 1)
		appendStringInfoString(json, ", ");
	escape_json(json, text_to_cstring(ksql_bytes_to_text(topic.data, Max(topic.len, 0))));
	appendStringInfoString(json, ": [");
	for (int32_t i = 0; i < count; i++)
		appendStringInfo(json, i == 0 ? "%d" : ", %d", partitions[i]);
	appendStringInfoChar(json, ']');
	assignment->partitions += count;
}

static Datum
assignment_end(Assignment *assignment)
{
	appendStringInfoChar(&assignment->json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(assignment->json.data));
}

/* What a leader has sent for a classic member; false: it is not the consumers' layout. */
static bool
classic_assignment(KBytes bytes, KArena *arena, Assignment *assignment)
{
	KConsumerProtocolAssignment parsed;
	const char *err = NULL;
	size_t		consumed;
	int			version;

	assignment_begin(assignment);
	if (bytes.len < 2)
		return bytes.len <= 0;
	version = Min(bytes.data[0] << 8 | bytes.data[1], 3);
	if (!kmsg_decode(&kmsg_consumer_protocol_assignment, version, bytes.data + 2, bytes.len - 2,
					 &consumed, arena, &parsed, &err))
		return false;
	for (int32_t i = 0; i < parsed.assigned_partitions.count; i++)
		assignment_add(assignment, parsed.assigned_partitions.items[i].topic,
					   parsed.assigned_partitions.items[i].partitions.items,
					   parsed.assigned_partitions.items[i].partitions.count);
	return true;
}

static void
consumer_assignment(const KConsumerGroupDescribeResponseAssignment *from, Assignment *assignment)
{
	assignment_begin(assignment);
	for (int32_t i = 0; i < from->topic_partitions.count; i++)
		assignment_add(assignment, from->topic_partitions.items[i].topic_name,
					   from->topic_partitions.items[i].partitions.items,
					   from->topic_partitions.items[i].partitions.count);
}

/* Columns of kafka.stat_get_group_member() */
enum
{
	MEMBER_GROUP_ID,
	MEMBER_ID,
	MEMBER_INSTANCE_ID,
	MEMBER_CLIENT_ID,
	MEMBER_CLIENT_HOST,
	MEMBER_RACK,
	MEMBER_PROTOCOL,
	MEMBER_EPOCH,
	MEMBER_PARTITIONS,
	MEMBER_ASSIGNMENT,
	MEMBER_TARGET,
	MEMBER_COLUMNS
};

/* As Kafka's tools show it, without the slash. */
static KStr
host_of(KStr host)
{
	if (host.len > 0 && host.data[0] == '/')
		return (KStr) {host.data + 1, host.len - 1};
	return host;
}

static void
put_classic(ReturnSetInfo *result, KStr id, int32 generation,
			const KDescribeGroupsResponseMember *m, KArena *arena)
{
	Datum		values[MEMBER_COLUMNS] = {0};
	bool		isnull[MEMBER_COLUMNS] = {0};
	Assignment	assignment;

	values[MEMBER_GROUP_ID] = text_of(id, &isnull[MEMBER_GROUP_ID]);
	values[MEMBER_ID] = text_of(m->member_id, &isnull[MEMBER_ID]);
	values[MEMBER_INSTANCE_ID] = text_of(m->group_instance_id, &isnull[MEMBER_INSTANCE_ID]);
	values[MEMBER_CLIENT_ID] = text_of(m->client_id, &isnull[MEMBER_CLIENT_ID]);
	values[MEMBER_CLIENT_HOST] = text_of(host_of(m->client_host), &isnull[MEMBER_CLIENT_HOST]);
	isnull[MEMBER_RACK] = isnull[MEMBER_TARGET] = true;
	values[MEMBER_PROTOCOL] = CStringGetTextDatum("classic");
	values[MEMBER_EPOCH] = Int32GetDatum(generation);
	if (classic_assignment(m->member_assignment, arena, &assignment))
	{
		values[MEMBER_PARTITIONS] = Int32GetDatum(assignment.partitions);
		values[MEMBER_ASSIGNMENT] = assignment_end(&assignment);
	}
	else
		isnull[MEMBER_PARTITIONS] = isnull[MEMBER_ASSIGNMENT] = true;
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

static void
put_consumer(ReturnSetInfo *result, KStr id, const KConsumerGroupDescribeResponseMember *m)
{
	Datum		values[MEMBER_COLUMNS] = {0};
	bool		isnull[MEMBER_COLUMNS] = {0};
	Assignment	assignment;

	values[MEMBER_GROUP_ID] = text_of(id, &isnull[MEMBER_GROUP_ID]);
	values[MEMBER_ID] = text_of(m->member_id, &isnull[MEMBER_ID]);
	values[MEMBER_INSTANCE_ID] = text_of(m->instance_id, &isnull[MEMBER_INSTANCE_ID]);
	values[MEMBER_CLIENT_ID] = text_of(m->client_id, &isnull[MEMBER_CLIENT_ID]);
	values[MEMBER_CLIENT_HOST] = text_of(host_of(m->client_host), &isnull[MEMBER_CLIENT_HOST]);
	values[MEMBER_RACK] = text_of(m->rack_id, &isnull[MEMBER_RACK]);
	values[MEMBER_PROTOCOL] = CStringGetTextDatum(m->member_type == 0 ? "classic" : "consumer");
	values[MEMBER_EPOCH] = Int32GetDatum(m->member_epoch);
	consumer_assignment(&m->assignment, &assignment);
	values[MEMBER_PARTITIONS] = Int32GetDatum(assignment.partitions);
	values[MEMBER_ASSIGNMENT] = assignment_end(&assignment);
	consumer_assignment(&m->target_assignment, &assignment);
	values[MEMBER_TARGET] = assignment_end(&assignment);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

static void
put_members(ReturnSetInfo *result, KStr id, const uint8 *image, size_t len, KArena *arena)
{
	KGroupEnv	env = {
		.config = kgroup_config_defaults,.arena = arena,.topics_version = 0,
		.topic_by_name = topic_by_name,.topic_by_id = topic_by_id,.match_topics = match_topics,
		.random = random_bytes
	};
	KGroupSummary summary;
	KGroup	   *g;

	if (!kgroup_image_summary(image, len, &summary) || summary.members == 0)
		return;
	g = kgroup_open(&env, kcoord_now(), id, image, len);
	if (g != NULL && summary.type == KGROUP_CLASSIC)
	{
		KDescribeGroupsResponseGroup group;

		if (kgroup_describe(g, 5, &group))
		{
			for (int32_t i = 0; i < group.members.count; i++)
				put_classic(result, id, summary.generation, &group.members.items[i], arena);
			return;
		}
	}
	if (g != NULL && summary.type == KGROUP_CONSUMER)
	{
		KConsumerGroupDescribeResponseGroup group;

		if (kgroup_consumer_describe(g, &group))
		{
			for (int32_t i = 0; i < group.members.count; i++)
				put_consumer(result, id, &group.members.items[i]);
			return;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory"),
			 errdetail("A consumer group could not be described.")));
}

/* kafka.stat_get_group_member() -> the rows of view kafka.group_members */
Datum
ksql_stat_get_group_member(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context;
	MemoryContext old;

	InitMaterializedSRF(fcinfo, 0);
	context = AllocSetContextCreate(CurrentMemoryContext, "kafka group", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	for (int i = 0; i < kcoord_capacity(); i++)
	{
		KArena		arena;
		uint8	   *image;
		size_t		len;
		KStr		id;

		CHECK_FOR_INTERRUPTS();
		image = kcoord_session_copy(i, &id, &len);
		if (image == NULL)
			continue;
		karena_init(&arena, NULL, 0, OPEN_MAX, arena_grow, context);
		put_members(result, id, image, len, &arena);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return (Datum) 0;
}
