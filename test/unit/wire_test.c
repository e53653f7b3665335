/*
 * wire_test.c
 *		The codec against bytes written by hand from the protocol's description, its limits,
 *		and what surrounds it: headers, frames, tables.
 */
#include "kmsg_random.h"
#include "tap.h"

static Pool pool;

static bool
decode(const KMsgDesc *desc, int version, const void *in, size_t len, void *msg,
	   size_t *consumed, const char **err)
{
	KArena		arena;
	uint8_t    *copy = pool_alloc(&pool, len);

	if (len > 0)
		memcpy(copy, in, len);
	karena_init(&arena, NULL, 0, 65536, pool_alloc, &pool);
	return kmsg_decode(desc, version, copy, len, consumed, &arena, msg, err);
}

/* Bytes of a literal, which may hold \0, without its end. */
#define BYTES(literal)	(literal), sizeof(literal) - 1

/* Decodes all of the bytes; then encodes and wants the same bytes again. */
static bool
both_ways(const KMsgDesc *desc, int version, const void *bytes, size_t len, void *msg,
		  const char *what)
{
	KMsgWriter	w;
	const char *err;
	size_t		consumed;
	bool		done;

	if (!ok(decode(desc, version, bytes, len, msg, &consumed, &err), "%s: decodes", what))
	{
		note("%s", err);
		return false;
	}
	is_int((int64_t) consumed, (int64_t) len, "... to its end");
	kmsg_writer_init(&w, 0, heap_resize, NULL);
	done = kmsg_encode(desc, version, msg, &w, &err) &&
		is_bytes(w.data, w.len, bytes, len, "... and encodes to the same bytes");
	if (!done)
		note("%s", err ? err : "-");
	writer_free(&w);
	return done;
}

static void
is_kstr(KStr got, const char *want, const char *what)
{
	if (want == NULL)
		is_int(got.len, -1, what);
	else
		is_bytes(got.data, got.len < 0 ? 0 : (size_t) got.len, want, strlen(want), what);
}

static void
refused(const KMsgDesc *desc, int version, const void *bytes, size_t len, const char *why,
		const char *what)
{
	_Alignas(max_align_t) char msg[4096];
	const char *err = NULL;
	size_t		consumed;

	if (ok(!decode(desc, version, bytes, len, msg, &consumed, &err), "%s: refused", what))
		is_str(err, why, "... because");
}

static void
not_encoded(const KMsgDesc *desc, int version, const void *msg, const char *field,
			const char *why, const char *what)
{
	KMsgWriter	w;
	const char *err;

	kmsg_writer_init(&w, 0, heap_resize, NULL);
	if (!kmsg_writer_put(&w, "xyz", 3))
		abort();
	ok(!kmsg_encode(desc, version, msg, &w, &err), "%s: not encoded", what);
	is_str(err, why, "... because");
	is_str(w.field, field, "... of the field");
	is_bytes(w.data, w.len, "xyz", 3, "... and the writer is as it was");
	writer_free(&w);
}

static void
test_api_versions(void)
{
	KApiVersionsRequest req;
	KApiVersionsResponse resp;

	both_ways(&kmsg_api_versions_request, 0, BYTES(""), &req, "ApiVersions request v0");
	is_kstr(req.client_software_name, "", "client_software_name has its default");
	both_ways(&kmsg_api_versions_request, 3, BYTES("\4lib" "\4" "1.2" "\0"), &req,
			  "ApiVersions request v3");
	is_kstr(req.client_software_name, "lib", "client_software_name");
	is_kstr(req.client_software_version, "1.2", "client_software_version");

	both_ways(&kmsg_api_versions_response, 0,
			  BYTES("\0\x23" "\0\0\0\1" "\0\x12\0\0\0\4"), &resp, "ApiVersions response v0");
	is_int(resp.error_code, KERR_UNSUPPORTED_VERSION, "error_code");
	is_int(resp.api_keys.count, 1, "one API");
	is_int(resp.api_keys.items[0].api_key, KAPI_API_VERSIONS, "api_key");
	is_int(resp.api_keys.items[0].max_version, 4, "max_version");
	is_int(resp.finalized_features_epoch, -1, "an absent tagged field has its default");

	/* tag 0 (supported features), 1 (epoch), and 9, which nobody knows */
	both_ways(&kmsg_api_versions_response, 3,
			  BYTES("\0\0" "\3" "\0\0\0\0\0\15\0" "\0\1\0\4\0\22\0" "\0\0\0\0"
					"\3" "\0\x0b\2\5kv-x\0\1\0\1\0"
					"\1\10\0\0\0\0\0\0\0\7" "\x09\2ab"), &resp, "ApiVersions response v3");
	is_int(resp.api_keys.count, 2, "two APIs");
	is_int(resp.supported_features.count, 1, "a supported feature");
	is_kstr(resp.supported_features.items[0].name, "kv-x", "its name");
	is_int(resp.finalized_features_epoch, 7, "finalized_features_epoch");
	is_int(resp.unknown_tags.count, 1, "the unknown tag is kept");
	both_ways(&kmsg_api_versions_response, 4, BYTES("\0\0" "\1" "\0\0\0\5" "\1\3\1\1"), &resp,
			  "ApiVersions response v4");
	ok(resp.zk_migration_ready, "zk_migration_ready");
	is_int(resp.throttle_time_ms, 5, "throttle_time_ms");
}

static void
test_metadata(void)
{
	KMetadataRequest req;
	KMetadataResponse resp;

	both_ways(&kmsg_metadata_request, 0, BYTES("\0\0\0\0"), &req, "Metadata request v0");
	is_int(req.topics.count, 0, "no topics");
	both_ways(&kmsg_metadata_request, 1, BYTES("\xff\xff\xff\xff"), &req,
			  "Metadata request v1");
	is_int(req.topics.count, -1, "null topics");
	ok(req.allow_auto_topic_creation, "allow_auto_topic_creation defaults to true");
	both_ways(&kmsg_metadata_request, 12,
			  BYTES("\3"
					"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" "\7orders" "\0"
					"\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20" "\0" "\0"
					"\0" "\1" "\0"), &req, "Metadata request v12");
	is_int(req.topics.count, 2, "two topics");
	is_kstr(req.topics.items[0].name, "orders", "by name");
	is_kstr(req.topics.items[1].name, NULL, "by id");
	is_int(req.topics.items[1].topic_id.b[15], 16, "the id's last byte");
	ok(!req.allow_auto_topic_creation, "allow_auto_topic_creation");
	ok(req.include_topic_authorized_operations, "include_topic_authorized_operations");

	both_ways(&kmsg_metadata_response, 12,
			  BYTES("\0\0\0\0" "\2" "\0\0\0\1" "\5host" "\0\0\x23\x84" "\0" "\0"
					"\3cl" "\0\0\0\1"
					"\2" "\0\0" "\2t" "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1" "\0"
					"\2" "\0\0" "\0\0\0\0" "\0\0\0\1" "\0\0\0\6"
					"\2\0\0\0\1" "\2\0\0\0\1" "\1" "\0"
					"\x80\0\0\0" "\0" "\0"), &resp, "Metadata response v12");
	is_int(resp.brokers.items[0].port, 9092, "port");
	is_kstr(resp.brokers.items[0].rack, NULL, "rack");
	is_kstr(resp.cluster_id, "cl", "cluster_id");
	is_int(resp.topics.items[0].partitions.items[0].leader_epoch, 6, "leader_epoch");
	is_int(resp.topics.items[0].partitions.items[0].replica_nodes.items[0], 1, "a replica");
	is_int(resp.topics.items[0].topic_authorized_operations, INT32_MIN, "no operations asked");
}

static void
test_produce_fetch(void)
{
	KProduceRequest produce;
	KFetchRequest fetch;
	KFetchResponse fetched;
	KMsgWriter	w;
	KMsgPiece	pieces[8];
	const char *err;

	both_ways(&kmsg_produce_request, 9,
			  BYTES("\0" "\xff\xff" "\0\0\x75\x30" "\2" "\2t" "\2" "\0\0\0\3" "\6batch" "\0"
					"\0" "\0"), &produce, "Produce request v9");
	is_kstr(produce.transactional_id, NULL, "transactional_id");
	is_int(produce.acks, -1, "acks");
	is_int(produce.timeout_ms, 30000, "timeout_ms");
	is_int(produce.topic_data.items[0].partition_data.items[0].index, 3, "index");
	is_bytes(produce.topic_data.items[0].partition_data.items[0].records.data,
			 (size_t) produce.topic_data.items[0].partition_data.items[0].records.len,
			 "batch", 5, "records");

	/* version 3 has plain lengths, and null records are a length of -1 */
	both_ways(&kmsg_produce_request, 3,
			  BYTES("\0\2tx" "\0\1" "\0\0\0\1" "\0\0\0\1" "\0\1t" "\0\0\0\1" "\0\0\0\0"
					"\xff\xff\xff\xff"), &produce, "Produce request v3");
	is_kstr(produce.transactional_id, "tx", "transactional_id");
	is_int(produce.topic_data.items[0].partition_data.items[0].records.len, -1, "null records");

	/* cluster id in tag 0 of the message */
	both_ways(&kmsg_fetch_request, 13,
			  BYTES("\xff\xff\xff\xff" "\0\0\1\xf4" "\0\0\0\1" "\0\0\4\0" "\1"
					"\0\0\0\0" "\xff\xff\xff\xff"
					"\2" "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20"
					"\2" "\0\0\0\0" "\0\0\0\5" "\0\0\0\0\0\0\0\x64" "\xff\xff\xff\xff"
					"\xff\xff\xff\xff\xff\xff\xff\xff" "\0\0\2\0" "\0" "\0"
					"\1" "\2r" "\1\0\3\3cl"), &fetch, "Fetch request v13");
	is_int(fetch.max_wait_ms, 500, "max_wait_ms");
	is_int(fetch.isolation_level, 1, "isolation_level");
	is_int(fetch.topics.items[0].partitions.items[0].fetch_offset, 100, "fetch_offset");
	is_int(fetch.topics.items[0].partitions.items[0].high_watermark, INT64_MAX,
		   "high_watermark is not in this version: default");
	is_kstr(fetch.rack_id, "r", "rack_id");
	is_kstr(fetch.cluster_id, "cl", "cluster_id");

	/* current leader in tag 1 of the partition */
	both_ways(&kmsg_fetch_response, 13,
			  BYTES("\0\0\0\0" "\0\0" "\0\0\0\0"
					"\2" "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"
					"\2" "\0\0\0\2" "\0\0" "\0\0\0\0\0\0\0\x0a" "\0\0\0\0\0\0\0\x0a"
					"\0\0\0\0\0\0\0\0" "\0" "\xff\xff\xff\xff" "\13records-10"
					"\1\1\11\0\0\0\1\0\0\0\2\0" "\0" "\0"), &fetched, "Fetch response v13");
	is_int(fetched.responses.items[0].partitions.items[0].aborted_transactions.count, -1,
		   "null aborted_transactions");
	is_int(fetched.responses.items[0].partitions.items[0].current_leader.leader_epoch, 2,
		   "leader_epoch in a tagged field");

	/* with references the records stay where they are */
	kmsg_writer_init(&w, 10, heap_resize, NULL);
	ok(kmsg_encode(&kmsg_fetch_response, 13, &fetched, &w, &err), "encodes with references");
	is_int((int64_t) w.nrefs, 1, "one reference");
	is_int(kmsg_writer_pieces(&w, 0, pieces, 8), 3, "three pieces");
	ok(pieces[1].data == fetched.responses.items[0].partitions.items[0].records.data,
	   "the second one is not a copy");
	is_bytes(pieces[1].data, pieces[1].len, BYTES("records-10"), "... and holds the records");
	is_int(kmsg_writer_pieces(&w, kmsg_writer_total(&w), pieces, 8), 0, "nothing after the end");
	is_int(kmsg_writer_pieces(&w, kmsg_writer_total(&w) - 1, pieces, 8), 1, "one before it");
	is_int((int64_t) pieces[0].len, 1, "... of one byte");
	writer_free(&w);
}

static void
test_nullable_struct(void)
{
	KDescribeTopicPartitionsRequest req;
	const char *err;
	size_t		consumed;

	both_ways(&kmsg_describe_topic_partitions_request, 0, BYTES("\1\0\0\0\12\xff\0"), &req,
			  "a struct that is null");
	ok(req.cursor == NULL, "cursor is null");
	ok(decode(&kmsg_describe_topic_partitions_request, 0, BYTES("\1\0\0\0\12\x80\0"), &req,
			  &consumed, &err) && req.cursor == NULL, "any negative byte means null");
	both_ways(&kmsg_describe_topic_partitions_request, 0,
			  BYTES("\1\0\0\0\12\1\2t\0\0\0\3\0\0"), &req, "a struct that is there");
	ok(req.cursor && req.cursor->partition_index == 3, "cursor");
}

/* What the protocol does not allow and Kafka accepts. */
static void
test_lenience(void)
{
	KApiVersionsRequest req;
	KApiVersionsResponse resp;
	KInitProducerIdRequest init;
	const char *err;
	size_t		consumed;

	ok(decode(&kmsg_init_producer_id_request, 2, BYTES("\xff\xff\xff\xff\x7f\0\0\0\1\0"), &init,
			  &consumed, &err) && init.transactional_id.len == -1, "a negative length is null");
	ok(decode(&kmsg_api_versions_request, 3, BYTES("\1\1\2\6\0\5\1x"), &req, &consumed, &err) &&
	   req.unknown_tags.count == 2 && req.unknown_tags.len == 5, "tags in a wrong order");
	ok(decode(&kmsg_api_versions_request, 3, BYTES("\1\1\xff\xff\xff\xff\x0f"), &req, &consumed,
			  &err) && consumed == 7 && req.unknown_tags.count == 0, "a negative number of tags");
	ok(decode(&kmsg_api_versions_response, 3,
			  BYTES("\0\0\1\0\0\0\0\4\1\10\0\0\0\0\0\0\0\7\11\1x"
					"\1\10\0\0\0\0\0\0\0\10\11\1y"), &resp, &consumed, &err) &&
	   consumed == 34 && resp.finalized_features_epoch == 8, "the last of a tag twice");
	is_int(resp.unknown_tags.count, 1, "... and unknown ones are kept up to a known one");
	is_bytes(resp.unknown_tags.data, resp.unknown_tags.len, BYTES("\11\1x"), "... as they were");
}

static void
test_refusals(void)
{
	_Alignas(max_align_t) char msg[4096];
	KArena		arena;
	const char *err;
	size_t		consumed;
	char	   *lengthy;
	const uint8_t many[] = {0x7f, 0xff, 0xff, 0xff, 0, 1, 'x'};
	const KMsgDesc *meta = &kmsg_metadata_request;
	const char	cut[] = "message ends inside a number";
	const char	beyond[] = "length goes beyond the end of the message";
	const char	null[] = "null in a field that can not be null";

	refused(meta, 14, BYTES("\0"), "unknown version", "a version that is not there");
	refused(meta, -1, BYTES("\0"), "unknown version", "a negative version");
	refused(meta, 1, BYTES("\0\0\0"), "message ends inside a length", "a cut count");
	refused(meta, 12, BYTES(""), cut, "an empty message");
	refused(meta, 12, BYTES("\xff\xff\xff\xff\xff\xff"), "number of more than five bytes",
			"an endless varint");
	refused(meta, 12, BYTES("\x80\x80\x80\x80\x80\0\0\0"), "number of more than five bytes",
			"a varint of six bytes");
	refused(meta, 12, BYTES("\x80\x80\x80\x80\x08\1\1\1"), beyond, "a count of 2^31 - 1");
	refused(&kmsg_api_versions_request, 3, BYTES("\x81\x80\x80\x80\x08\1\0"), null,
			"a string of 2^31 bytes");
	refused(&kmsg_api_versions_request, 3, BYTES("\xff\xff\xff\xff\x7f\1\0"), null,
			"a length of 35 bits, of which 32 are a null string's");
	refused(meta, 0, BYTES("\xff\xff\xff\xff"), null, "a null array");
	refused(meta, 0, BYTES("\0\0\0\1\xff\xff"), null, "a null string");
	refused(&kmsg_describe_configs_request, 1, BYTES("\0\0\0\1\2\0\1x\0\0\0\1\xff\xff\0"), null,
			"a null item of an array that may be null");
	refused(meta, 0, BYTES("\0\0\0\2\0\0"), beyond, "more items than there can be");
	refused(&kmsg_init_producer_id_request, 2, BYTES("\xff\xff\3xx"), beyond,
			"a string longer than the message");
	refused(&kmsg_api_versions_request, 3, BYTES("\1\1\5\1\0\2\0"),
			"more tagged fields than the message can hold", "too many tags");
	refused(&kmsg_api_versions_request, 3, BYTES("\1\1\2\5\0\6"),
			"more tagged fields than the message can hold", "one tag too many");
	refused(&kmsg_api_versions_request, 3, BYTES("\1\1\1\1\3xx"),
			"tagged field goes beyond the end of the message", "a tag that is too long");
	refused(&kmsg_api_versions_response, 3, BYTES("\0\0\1\0\0\0\0\1\1\11\0\0\0\0\0\0\0\7\0"),
			"tagged field is shorter than its size", "a known tag with more than its value");
	refused(&kmsg_api_versions_response, 3, BYTES("\0\0\1\0\0\0\0\1\1\7\0\0\0\0\0\0\0"),
			"message ends inside a field", "a known tag with less than its value");
	refused(&kmsg_fetch_response, 12, BYTES("\0\0\0\0\0\0\0\0\0\0\1\1\0\1\1"),
			"tagged field does not exist in this version", "a tag of a later version");

	/* compact lengths could express longer strings than Kafka allows */
	lengthy = random_bytes(&(Random) {1}, &pool, 40000);
	memcpy(lengthy, "\x81\x80\x02", 3);
	refused(&kmsg_api_versions_request, 3, lengthy, 40000, "string of more than 32767 bytes",
			"a string of 32768 bytes");

	/* a count alone gets no memory */
	karena_init(&arena, NULL, 0, SIZE_MAX, pool_alloc, &pool);
	pool.bytes = 0;
	ok(!kmsg_decode(meta, 0, many, sizeof(many), &consumed, &arena, msg, &err), "a huge count");
	is_int((int64_t) pool.bytes, 0, "... asks for no memory");

	/* the arena's limit holds */
	karena_init(&arena, NULL, 0, 16, pool_alloc, &pool);
	ok(!kmsg_decode(meta, 0, (const uint8_t *) "\0\0\0\3\0\0\0\0\0\0", 10, &consumed, &arena,
					msg, &err), "more than the arena may give");
	is_str(err, "message needs more memory than is allowed", "... because");

	/* bytes after the message are the caller's matter */
	ok(decode(meta, 0, BYTES("\0\0\0\0tail"), msg, &consumed, &err), "bytes after the message");
	is_int((int64_t) consumed, 4, "... are not consumed");
}

static void
test_versions_when_encoding(void)
{
	const char	inexpressible[] = "field has a value that this version can not express";
	const char	null[] = "null in a field that can not be null in this version";
	KArena		arena;
	KFetchRequest fetch;
	KMetadataRequest meta;
	KApiVersionsResponse versions;
	KApiVersionsRequest client;
	KDescribeConfigsRequest configs;
	KFetchResponse fetched;
	KFetchResponsePartition *partition;
	size_t		with;
	size_t		without;
	KMsgWriter	w;
	const char *err;

	karena_init(&arena, NULL, 0, 65536, pool_alloc, &pool);

	/* ignorable: dropped where it does not exist */
	kmsg_init(&kmsg_fetch_request, &fetch);
	fetch.session_epoch = 5;
	fetch.rack_id = KSTR("rack");
	kmsg_writer_init(&w, 0, heap_resize, NULL);
	if (ok(kmsg_encode(&kmsg_fetch_request, 4, &fetch, &w, &err), "ignorable fields are dropped"))
		is_bytes(w.data, w.len,
				 BYTES("\xff\xff\xff\xff\0\0\0\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0\0"),
				 "... and nothing else");
	writer_free(&w);

	/* not ignorable */
	fetch.topics.count = 1;
	fetch.topics.items = kmsg_new(&kmsg_fetch_request_topic, 1, &arena);
	fetch.topics.items->partitions.count = 1;
	fetch.topics.items->partitions.items = kmsg_new(&kmsg_fetch_request_partition, 1, &arena);
	is_int(fetch.topics.items->partitions.items->last_fetched_epoch, -1, "kmsg_new sets defaults");
	fetch.topics.items->partitions.items->last_fetched_epoch = 3;
	not_encoded(&kmsg_fetch_request, 11, &fetch, "last_fetched_epoch", inexpressible,
				"a field of a later version");
	fetch.topics.items->partitions.items->last_fetched_epoch = -1;
	fetch.replica_state.replica_epoch = 1;
	not_encoded(&kmsg_fetch_request, 14, &fetch, "replica_state", inexpressible,
				"a struct of a later version");

	kmsg_init(&kmsg_metadata_request, &meta);
	meta.topics.count = -1;
	not_encoded(&kmsg_metadata_request, 0, &meta, "topics", null, "a null array");
	meta.topics.count = 1;
	meta.topics.items = kmsg_new(&kmsg_metadata_request_topic, 1, &arena);
	meta.topics.items->name = KSTR_NULL;
	not_encoded(&kmsg_metadata_request, 9, &meta, "name", null, "a null string");
	not_encoded(&kmsg_metadata_request, 14, &meta, NULL, "unknown version", "an unknown version");

	kmsg_init(&kmsg_describe_configs_request, &configs);
	configs.resources.count = 1;
	configs.resources.items = kmsg_new(&kmsg_describe_configs_request_resource, 1, &arena);
	configs.resources.items->configuration_keys = (KStrArray) {&(KStr) {NULL, -1}, 1};
	not_encoded(&kmsg_describe_configs_request, 1, &configs, "configuration_keys", null,
				"a null item of an array that may be null");

	kmsg_init(&kmsg_api_versions_request, &client);
	client.client_software_name = (KStr) {random_bytes(&(Random) {1}, &pool, 32768), 32768};
	not_encoded(&kmsg_api_versions_request, 3, &client, "client_software_name",
				"string of more than 32767 bytes", "a string that is too long");

	/* a tagged struct that holds nothing but an unknown tag is there all the same */
	kmsg_init(&kmsg_fetch_response, &fetched);
	fetched.responses.count = 1;
	fetched.responses.items = kmsg_new(&kmsg_fetch_response_topic, 1, &arena);
	partition = kmsg_new(&kmsg_fetch_response_partition, 1, &arena);
	fetched.responses.items->partitions.count = 1;
	fetched.responses.items->partitions.items = partition;
	kmsg_size(&kmsg_fetch_response, 12, &fetched, &without, &err);
	partition->current_leader.unknown_tags = (KTags) {(const uint8_t *) "\11\1x", 3, 1};
	kmsg_size(&kmsg_fetch_response, 12, &fetched, &with, &err);
	is_int((int64_t) (with - without), 2 + 4 + 4 + 1 + 3, "a struct with an unknown tag only");

	kmsg_init(&kmsg_api_versions_response, &versions);
	versions.unknown_tags = (KTags) {(const uint8_t *) "\11\1x", 3, 1};
	not_encoded(&kmsg_api_versions_response, 2, &versions, NULL,
				"unknown tagged fields, but this version has no tags", "an unknown tag");
}

static void
test_request_headers(void)
{
	KRequestFrame frame;
	const char *err;

	/* Metadata v1: header version 1 */
	ok(kmsg_request_header_decode((const uint8_t *) "\0\3\0\1\0\0\0\7\0\2me\0\0\0\0", 16, &frame,
								  &err), "a plain header");
	is_int(frame.api_key, KAPI_METADATA, "api_key");
	is_int(frame.api_version, 1, "api_version");
	is_int(frame.correlation_id, 7, "correlation_id");
	is_kstr(frame.client_id, "me", "client_id");
	ok(frame.api == kapi_info(KAPI_METADATA), "the API");
	is_int((int64_t) frame.body, 12, "the body's start");

	/* Metadata v9: header version 2, its client id still plain, a tag that nobody knows */
	ok(kmsg_request_header_decode((const uint8_t *) "\0\3\0\11\0\0\0\7\xff\xff\1\5\1x\0\1\0\0", 18,
								  &frame, &err), "a flexible header");
	is_kstr(frame.client_id, NULL, "client_id");
	is_int((int64_t) frame.body, 14, "the body's start");

	/* ApiVersions v99 must be answered, so all that is needed for it is there */
	ok(kmsg_request_header_decode((const uint8_t *) "\0\22\0\x63\0\0\0\11\0\2me\0\1\2\3", 16,
								  &frame, &err), "an unknown version");
	ok(frame.api == NULL, "has no API");
	is_int(frame.api_key, KAPI_API_VERSIONS, "but a key");
	is_int(frame.api_version, 99, "a version");
	is_int(frame.correlation_id, 9, "a correlation id");
	is_kstr(frame.client_id, "me", "and a client id");
	ok(kmsg_request_header_decode((const uint8_t *) "\x7f\xff\0\0\0\0\0\1", 8, &frame, &err),
	   "an unknown API, no client id");
	ok(frame.api == NULL && err == NULL && frame.client_id.len == -1, "is no failure");
	ok(kmsg_request_header_decode((const uint8_t *) "\0\0\0\0\0\0\0\1\0\0", 10, &frame, &err) &&
	   frame.api == NULL, "Produce v0 is listed but not known");

	ok(!kmsg_request_header_decode((const uint8_t *) "\0\3\0\1\0\0\0", 7, &frame, &err),
	   "seven bytes are no header");
	ok(!kmsg_request_header_decode((const uint8_t *) "\0\3\0\1\0\0\0\7\0\5me", 12, &frame, &err),
	   "nor is one with half a client id");
}

static void *
no_resize(void *ctx, void *old, size_t used, size_t size)
{
	size_t	   *allowed = ctx;

	return size <= *allowed ? realloc(old, size) : NULL;
}

static void
test_frames(void)
{
	KApiVersionsRequest req;
	KApiVersionsResponse resp;
	KHeartbeatResponse heartbeat;
	KSaslAuthenticateResponse sasl;
	KMsgWriter	w;
	const char *err;
	size_t		allowed = 4096;

	kmsg_writer_init(&w, 0, heap_resize, NULL);
	kmsg_init(&kmsg_api_versions_request, &req);
	ok(kmsg_request_encode(kapi_info(KAPI_API_VERSIONS), 3, 258, KSTR("me"), &req, &w, &err),
	   "a request's frame");
	is_bytes(w.data, w.len, BYTES("\0\0\0\20" "\0\22\0\3\0\0\1\2\0\2me\0" "\1\1\0"), "its bytes");

	/* ApiVersions answers with header version 0 even in flexible versions */
	kmsg_writer_reset(&w);
	kmsg_init(&kmsg_api_versions_response, &resp);
	ok(kmsg_response_encode(kapi_info(KAPI_API_VERSIONS), 3, 258, &resp, &w, &err),
	   "an ApiVersions answer's frame");
	is_bytes(w.data, w.len, BYTES("\0\0\0\14" "\0\0\1\2" "\0\0\1\0\0\0\0\0"), "its bytes");

	/* a second frame behind it; others have tags in the header */
	kmsg_init(&kmsg_heartbeat_response, &heartbeat);
	ok(kmsg_response_encode(kapi_info(KAPI_HEARTBEAT), 4, 1, &heartbeat, &w, &err),
	   "a flexible answer's frame");
	is_bytes(w.data + 16, w.len - 16, BYTES("\0\0\0\14" "\0\0\0\1\0" "\0\0\0\0\0\0\0"),
			 "its bytes");
	writer_free(&w);

	/* the length counts what is only referred to; no memory is a plain failure */
	kmsg_init(&kmsg_sasl_authenticate_response, &sasl);
	sasl.auth_bytes = (KBytes) {random_bytes(&(Random) {1}, &pool, 5000), 5000};
	kmsg_writer_init(&w, 1000, no_resize, &allowed);
	ok(kmsg_response_encode(kapi_info(KAPI_SASL_AUTHENTICATE), 0, 1, &sasl, &w, &err),
	   "a frame with a reference");
	is_int(w.data[2] << 8 | w.data[3], 4 + 2 + 2 + 4 + 5000, "its length");
	is_int((int64_t) kmsg_writer_total(&w), 4 + 4 + 2 + 2 + 4 + 5000, "all that is to be sent");
	kmsg_writer_reset(&w);
	w.ref_min = 0;
	ok(!kmsg_response_encode(kapi_info(KAPI_SASL_AUTHENTICATE), 0, 1, &sasl, &w, &err),
	   "more than the writer may hold");
	is_str(err, "no memory for the message", "... because");
	is_int((int64_t) kmsg_writer_total(&w), 0, "... and nothing is left of it");
	w.ref_min = 1;
	sasl.auth_bytes.len = INT32_MAX;	/* never read: a reference only */
	ok(!kmsg_response_encode(kapi_info(KAPI_SASL_AUTHENTICATE), 0, 1, &sasl, &w, &err),
	   "more than a frame's length can say");
	is_str(err, "message of more than 2147483647 bytes", "... because");
	is_int((int64_t) (kmsg_writer_total(&w) + w.nrefs), 0, "... and no reference is left");

	/* a failure after a reference takes that back too */
	sasl.auth_bytes.len = 5000;
	sasl.unknown_tags = (KTags) {(const uint8_t *) "\11\1x", 3, 1};
	ok(!kmsg_encode(&kmsg_sasl_authenticate_response, 0, &sasl, &w, &err), "a late failure");
	is_int((int64_t) (kmsg_writer_total(&w) + w.nrefs), 0, "... leaves no reference either");
	writer_free(&w);
}

static void
test_tables(void)
{
	int			served = 0;

	for (int key = -1; key <= KAPI_END; key++)
		served += kapi_info(key) != NULL;
	is_int(served, 75, "APIs");
	ok(kapi_info(-1) == NULL && kapi_info(KAPI_END) == NULL && kapi_info(4) == NULL,
	   "no API where there is none");
	is_str(kapi_info(KAPI_PRODUCE)->name, "Produce", "an API's name");
	is_int(kapi_info(KAPI_PRODUCE)->versions.first, 3, "Produce is decoded from version 3 on");
	is_int(kapi_info(KAPI_PRODUCE)->listed_first, 0, "... but listed from 0 on");
	is_int(kapi_info(KAPI_FETCH)->listed_first, 4, "Fetch is listed as it is decoded");
	is_int(kapi_request_header_version(kapi_info(KAPI_SASL_HANDSHAKE), 1), 1,
		   "an API without flexible versions");
	is_int(kapi_response_header_version(kapi_info(KAPI_SASL_HANDSHAKE), 1), 0, "... both ways");

	is_str(kerr_name(KERR_NONE), "NONE", "no error");
	is_str(kerr_name(KERR_OFFSET_OUT_OF_RANGE), "OFFSET_OUT_OF_RANGE", "an error's name");
	is_str(kerr_name(-2), "UNKNOWN_SERVER_ERROR", "a code below all errors");
	is_str(kerr_name(9999), "UNKNOWN_SERVER_ERROR", "a code above all errors");
	ok(kerr_retriable(KERR_NOT_LEADER_OR_FOLLOWER), "a retriable error");
	ok(!kerr_retriable(KERR_TOPIC_ALREADY_EXISTS), "one that is not");
}

static void
test_arena(void)
{
	_Alignas(max_align_t) char first[64];
	KArena		arena;
	char	   *a;
	char	   *b;

	karena_init(&arena, first, sizeof(first), 10000, pool_alloc, &pool);
	pool.bytes = 0;
	a = karena_alloc(&arena, 1);
	b = karena_alloc(&arena, 1);
	ok(a == first && b > a && (uintptr_t) b % _Alignof(max_align_t) == 0,
	   "the first block, aligned");
	is_int((int64_t) pool.bytes, 0, "nothing was asked for");
	ok(karena_alloc(&arena, 5000) != NULL, "a large piece");
	b = karena_alloc(&arena, 1);
	ok(b > a && b < first + sizeof(first), "the first block is still in use");
	ok(karena_alloc(&arena, 5000) == NULL, "beyond the limit");
	ok(karena_alloc(&arena, SIZE_MAX) == NULL, "far beyond the limit");
	ok(karena_alloc(&arena, 4000) != NULL, "within it");
	ok(pool.bytes <= 10000, "never more than the limit was asked for");
	karena_init(&arena, NULL, 0, 100, pool_alloc, &pool);
	pool.bytes = 0;
	ok(karena_alloc(&arena, 64) != NULL && pool.bytes == 64, "a limit below a usual block");
}

int
main(void)
{
	test_api_versions();
	test_metadata();
	test_produce_fetch();
	test_nullable_struct();
	test_lenience();
	test_refusals();
	test_versions_when_encoding();
	test_request_headers();
	test_frames();
	test_tables();
	test_arena();
	pool_free(&pool);
	return done_testing();
}
