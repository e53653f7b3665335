/*
 * fuzz_requests.h
 *		Random requests that mean something: valid in their version, about topics, partitions and
 *		sessions that there are, with record batches.  For a mutator to begin with.
 */
#ifndef FUZZ_REQUESTS_H
#define FUZZ_REQUESTS_H

#include "postgres.h"

#include "kmsg_random.h"

#include "api/kapi_request.h"
#include "batch/kbatch_build.h"
#include "fake.h"

static bool
named(const KFieldDesc *f, const char *names)
{
	size_t		len = strlen(f->name);

	for (const char *at = names; (at = strstr(at, f->name)) != NULL; at += len)
	{
		if ((at == names || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
			return true;
	}
	return false;
}

static KStr
random_pick(Random *r, const char *const *texts, int n)
{
	const char *text = texts[random_below(r, n)];

	return (KStr) {text, (int32_t) strlen(text)};
}

/* One or two batches, mostly good ones. */
static KBytes
random_records(Random *r, Pool *pool)
{
	static KBatchBuilder builder;
	static KCodec *codec;
	static KBuffer packed;
	int			nbatches = 1 + (random_below(r, 8) == 0);
	uint8	   *bytes = NULL;
	size_t		len = 0;

	if (codec == NULL)
	{
		kbatch_builder_init(&builder, &kallocator_malloc, 100000);
		codec = kcodec_create(&kallocator_malloc);
		kbuffer_init(&packed, &kallocator_malloc, SIZE_MAX);
	}
	for (int b = 0; b < nbatches; b++)
	{
		KBatchSeal	seal;
		int			n = 1 + random_below(r, 3);
		const uint8 *data;
		size_t		size;
		uint8	   *whole;
		int64		timestamp = random_below(r, 4) ? (int64) random_below(r, 3000) :
			INT64CONST(1746684800000) + (int64) random_below(r, 10000000);

		kbatch_builder_reset(&builder);
		for (int i = 0; i < n; i++)
		{
			int32		value_len = random_below(r, random_below(r, 12) ? 40 : 9000);
			KRecordHeader header = {(const uint8 *) "h", 1, (const uint8 *) "v", 1};

			(void) kbatch_builder_append(&builder, timestamp + i, (const uint8 *) "key",
										 (int32) random_below(r, 4) - 1,
										 random_bytes(r, pool, value_len), value_len, &header,
										 random_below(r, 2));
		}
		kbatch_seal_init(&seal);
		seal.codec = random_below(r, 2) ? KCODEC_NONE : random_below(r, KCODEC_LAST + 1);
		if (random_below(r, 2))
		{
			seal.producer_id = random_below(r, 3);
			seal.producer_epoch = random_below(r, 2);
			seal.base_sequence = random_below(r, 4);
		}
		if (random_below(r, 12) == 0)
			seal.attributes = random_bits(r) & 0x7F;
		if (kbatch_builder_finish(&builder, &seal, codec, &packed, &data, &size) != KBATCH_OK)
			continue;
		whole = pool_alloc(pool, len + size);
		memcpy(whole, bytes != NULL ? bytes : data, len);
		memcpy(whole + len, data, size);
		bytes = whole;
		len += size;
	}
	return (KBytes) {bytes, (int32) len};
}

/* Turns some of what random_message has made into what a broker knows. */
static void
flavour(Random *r, Pool *pool, const KMsgDesc *desc, int version, void *msg)
{
	static const char *const topics[] = {"a", NULL, "wide", "new", "newer", "", "no such topic"};
	static const char *const configs[] = {"cleanup.policy", "retention.ms", "segment.bytes",
	"compression.type", "min.insync.replicas", "max.message.bytes", "nonsense"};
	static const char *const values[] = {"delete", "1", "zstd", "1048576", "-1", "", "x"};
	static const char *const groups[] = {"g", "g", "h", ""};
	static const char *const members[] = {"m", "n", "o", ""};
	static const int32 small[] = {-1, 0, 1, 2, 3, 6, 19, 20, 1999, 2000, -2, 0x7FFFFFFF};

	for (int i = 0; i < desc->nfields; i++)
	{
		const KFieldDesc *f = &desc->fields[i];
		char	   *member = (char *) msg + f->offset;
		KInt8Array	items = {(int8_t *) member, 1};

		if (!versions_have(f->versions, version) || random_below(r, 16) == 0)
			continue;
		if (f->flags & KFF_ARRAY)
			memcpy(&items, member, sizeof(items));
		else if (f->flags & KFF_POINTER)
		{
			memcpy(&items.items, member, sizeof(void *));
			items.count = items.items != NULL;
		}
		for (int k = 0; k < items.count; k++)
		{
			void	   *value = items.items + (size_t) k * value_size(f);
			KStr	   *text = value;

			switch (f->type)
			{
				case KF_STRUCT:
					flavour(r, pool, f->sub, version, value);
					break;
				case KF_STRING:
					if (strstr(desc->name, "Config") != NULL &&
						named(f, "name configuration_keys"))
						*text = random_pick(r, configs, lengthof(configs));
					else if (named(f, "name topic topic_names resource_name topic_name"))
					{
						const char *const *names = topics;
						int			n = random_below(r, 3) ? 3 : lengthof(topics);
						int			at = random_below(r, n);

						*text = (KStr) {names[at] ? names[at] : fake_topic_names[1], 0};
						text->len = (int32_t) strlen(text->data);
					}
					else if (named(f, "value"))
						*text = random_pick(r, values, lengthof(values));
					else if (named(f, "group_id group_ids groups groups_names"))
						*text = random_pick(r, groups, lengthof(groups));
					else if (named(f, "member_id"))
						*text = random_pick(r, members, lengthof(members));
					else if (named(f, "protocol_type"))
						*text = KSTR("consumer");
					else if (named(f, "transactional_id group_instance_id instance_id rack_id") &&
							 random_below(r, 4))
						*text = KSTR_NULL;
					break;
				case KF_UUID:
					memset(value, random_below(r, FAKE_TOPICS + 1), 16);
					break;
				case KF_BYTES:
					if (named(f, "records"))
						*(KBytes *) value = random_records(r, pool);
					break;
				case KF_INT8:
					if (named(f, "resource_type"))
						*(int8 *) value = random_below(r, 2) ? 2 : 4;
					else if (random_below(r, 4))
						*(int8 *) value = random_below(r, 3);
					break;
				case KF_INT16:
					*(int16 *) value = (int16) random_below(r, 4) - 1;
					break;
				case KF_INT32:
					*(int32 *) value =
						small[random_below(r, random_below(r, 3) ? 4 : lengthof(small))];
					if (named(f, "session_id"))
						*(int32 *) value = (int32) random_below(r, 4) << 6;
					else if (named(f, "max_bytes partition_max_bytes") && random_below(r, 3))
						*(int32 *) value = 1 << random_below(r, 22);
					else if (named(f, "timeout_ms max_wait_ms") && random_below(r, 2))
						*(int32 *) value = random_below(r, 3000);
					break;
				case KF_INT64:
					*(int64 *) value = (int64) random_below(r, random_below(r, 4) ? 12 : 300) - 3;
					break;
				default:
					break;
			}
		}
	}
}

/* A member of the consumer protocol as it mostly is: it joins, or goes on, and so on. */
static void
flavour_heartbeat(Random *r, Pool *pool, KConsumerGroupHeartbeatRequest *msg)
{
	static const char *const patterns[] = {"a|wide", ".*", "(", "[a-w]+", "(?i)A", "", "w{2,3}.*"};
	static const char *const assignors[] = {"uniform", "range", "x"};
	static const int32 epochs[] = {0, 0, 0, 1, 2, 3, -1, -2};
	KStr	   *names = pool_alloc(pool, 2 * sizeof(KStr));

	msg->member_epoch = epochs[random_below(r, lengthof(epochs))];
	msg->rebalance_timeout_ms = msg->member_epoch == 0 || random_below(r, 4) == 0 ? 1000 : -1;
	msg->server_assignor = random_below(r, 3) ? KSTR_NULL :
		random_pick(r, assignors, lengthof(assignors));
	msg->subscribed_topic_regex = random_below(r, 2) ? KSTR_NULL :
		random_pick(r, patterns, lengthof(patterns));
	names[0] = KSTR("a");
	names[1] = KSTR("wide");
	msg->subscribed_topic_names = (KStrArray)
	{
		names, random_below(r, 4) - 1
	};
	if (msg->subscribed_topic_names.count > 2)
		msg->subscribed_topic_names.count = 2;
	if (msg->member_epoch == 0)
		msg->topic_partitions.count = 0;
	else if (random_below(r, 2))
		msg->topic_partitions.count = -1;
}

static const KApiEntry *
random_api(Random *r)
{
	static const KApiKey groups[] = {
		KAPI_JOIN_GROUP, KAPI_SYNC_GROUP, KAPI_HEARTBEAT, KAPI_LEAVE_GROUP, KAPI_OFFSET_COMMIT,
		KAPI_OFFSET_FETCH, KAPI_CONSUMER_GROUP_HEARTBEAT, KAPI_CONSUMER_GROUP_HEARTBEAT,
		KAPI_CONSUMER_GROUP_HEARTBEAT, KAPI_CONSUMER_GROUP_DESCRIBE
	};

	switch (random_below(r, 3))
	{
		case 0:
			return &kapi_table[random_below(r, 3)];
		case 1:
			return kapi_entry(groups[random_below(r, lengthof(groups))]);
		default:
			return &kapi_table[random_below(r, kapi_table_size)];
	}
}

/* A whole frame with its length, in the pool's memory. */
static KBytes
random_request(Random *r, Pool *pool)
{
	const KApiEntry *entry = random_api(r);
	const KApiInfo *api = kapi_info(entry->key);
	int			version = api->versions.first +
		random_below(r, api->versions.last - api->versions.first + 1);
	void	   *msg = pool_alloc(pool, api->request->size);
	KMsgWriter	w;
	const char *err;
	KBytes		frame = {NULL, 0};

	random_message(r, pool, api->request, version, msg);
	flavour(r, pool, api->request, version, msg);
	if (entry->key == KAPI_CONSUMER_GROUP_HEARTBEAT && random_below(r, 8))
		flavour_heartbeat(r, pool, msg);
	kmsg_writer_init(&w, 0, heap_resize, NULL);
	if (kmsg_request_encode(api, version, (int32_t) random_bits(r), KSTR("fuzz"), msg, &w, &err))
	{
		uint8	   *copy = pool_alloc(pool, w.len);

		memcpy(copy, w.data, w.len);
		frame = (KBytes) {copy, (int32_t) w.len};
	}
	writer_free(&w);
	return frame;
}

#endif							/* FUZZ_REQUESTS_H */
