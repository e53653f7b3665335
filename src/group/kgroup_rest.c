/*
 * kgroup_rest.c
 *		A group at rest: what can be told of an image, and done to it, without opening it.
 *
 * Most requests of members change nothing but the end of a session, and in a rebalance most of them
 * only wait for the last one.
 */
#include "group/kgroup_image.h"
#include "group/koffset.h"

ImageHeader *
kg_image_header(uint8_t *image, size_t len)
{
	ImageHeader *header = (ImageHeader *) image;

	if (len < sizeof(ImageHeader) || header->magic != IMAGE_MAGIC || header->len > len ||
		header->nmembers < 0 || header->type > KGROUP_CONSUMER ||
		header->state > KGROUP_RECONCILING ||
		(size_t) header->nmembers > (len - sizeof(ImageHeader)) / sizeof(ImageMember))
		return NULL;
	return header;
}

bool
kgroup_image_summary(const uint8_t *image, size_t len, KGroupSummary *summary)
{
	const ImageHeader *header = kg_image_header((uint8_t *) (uintptr_t) image, len);

	if (header == NULL || header->protocol_type > header->len ||
		(header->protocol_type_len > 0 &&
		 (uint32_t) header->protocol_type_len > header->len - header->protocol_type))
		return false;
	*summary = (KGroupSummary)
	{
		.type = (KGroupType) header->type,
		.state = (KGroupState) header->state,
		.generation = header->generation,
		.members = header->nmembers,
		.next_deadline = header->next_deadline,
		.version = header->version,
		.durable = header->durable,
		.protocol_type = header->type == KGROUP_CONSUMER ? KG_CONSUMER_PROTOCOL :
			(KStr) {(const char *) image + header->protocol_type,
			header->protocol_type_len > 0 ? header->protocol_type_len : 0},
	};
	return true;
}

void
kgroup_image_durable(uint8_t *image, size_t len, uint64_t version)
{
	ImageHeader *header = kg_image_header(image, len);

	if (header != NULL && header->durable < version && version <= header->version)
		header->durable = version;
}

/* Behind the two counts of walk_unwritten() there is nothing then. */
size_t
kgroup_image_trim(uint8_t *image, size_t len)
{
	static const int32_t none = 0;
	ImageHeader *header = kg_image_header(image, len);
	int32_t		removed;

	if (header == NULL || header->durable < header->version ||
		header->unwritten + 2 * sizeof(int32_t) > header->len)
		return len;
	memcpy(&removed, image + header->unwritten, sizeof(removed));
	if (removed != 0)
		return len;
	memcpy(image + header->unwritten + sizeof(int32_t), &none, sizeof(none));
	header->len = header->unwritten + 2 * (uint32_t) sizeof(int32_t);
	return header->len;
}

/* ---- heartbeats at rest ---- */

static ImageMember *
find_in_image(uint8_t *image, const ImageHeader *header, KStr id)
{
	ImageMember *members = (ImageMember *) (image + sizeof(ImageHeader));
	uint32_t	hash = kg_hash(id);

	for (int32_t i = 0; i < header->nmembers; i++)
		if (members[i].hash == hash && kg_present(id) &&
			kg_str_equal((KStr) {(char *) image + members[i].id, members[i].id_len}, id))
			return &members[i];
	return NULL;
}

static bool
same_instance(const uint8_t *image, const ImageMember *member, KStr instance_id)
{
	return instance_id.len < 0 ||
		kg_str_equal((KStr) {(const char *) image + member->instance, member->instance_len},
					 instance_id);
}

bool
kgroup_image_heartbeat(uint8_t *image, size_t len, int64_t now_ms,
					   const KHeartbeatRequest *request)
{
	ImageHeader *header = kg_image_header(image, len);
	ImageMember *member;

	if (header == NULL || header->type != KGROUP_CLASSIC ||
		(header->state != KGROUP_STABLE && header->state != KGROUP_COMPLETING_REBALANCE) ||
		header->generation != request->generation_id)
		return false;
	member = find_in_image(image, header, request->member_id);
	if (member == NULL || !same_instance(image, member, request->group_instance_id) ||
		member->session_deadline == KG_NEVER || member->session_deadline <= now_ms)
		return false;

	/* Not earlier than before, or the next deadline could be missed. */
	if (member->session_deadline < now_ms + member->session_timeout_ms)
		member->session_deadline = now_ms + member->session_timeout_ms;
	return true;
}

/* ---- waiting for the others ---- */

static uint32_t
get_u32(const uint8_t *bytes)
{
	return (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 | (uint32_t) bytes[2] << 8 |
		bytes[3];
}

/* The number at *pos of an image; false: the image ends before. */
static bool
get_count(const uint8_t *image, const ImageHeader *header, uint32_t *pos, int32_t *count)
{
	if (header->len < sizeof(uint32_t) || *pos > header->len - sizeof(uint32_t))
		return false;
	*count = (int32_t) get_u32(image + *pos);
	*pos += (uint32_t) sizeof(uint32_t);
	return true;
}

/* The next string or bytes. */
static bool
get_data(const uint8_t *image, const ImageHeader *header, uint32_t *pos, const uint8_t **data,
		 int32_t *len)
{
	if (!get_count(image, header, pos, len))
		return false;
	*data = image + *pos;
	if (*len > 0 && (uint32_t) *len > header->len - *pos)
		return false;
	*pos += *len > 0 ? (uint32_t) *len : 0;
	return true;
}

/*
 * Has the member the protocols of this request, with metadata of the same sizes?  "put": writes the
 * request's in their places.
 */
static bool
fit_protocols(uint8_t *image, const ImageHeader *header, const ImageMember *member,
			  const KJoinGroupRequest *request, bool put)
{
	uint32_t	pos = member->protocols;
	int32_t		count;

	if (!get_count(image, header, &pos, &count) || count != request->protocols.count)
		return false;
	for (int32_t i = 0; i < count; i++)
	{
		const KJoinGroupRequestProtocol *protocol = &request->protocols.items[i];
		const uint8_t *data;
		int32_t		len;

		if (!get_data(image, header, &pos, &data, &len) ||
			!kg_str_equal((KStr) {(const char *) data, len}, protocol->name) ||
			!get_data(image, header, &pos, &data, &len) || len != protocol->metadata.len)
			return false;
		if (put && len > 0)
			memcpy(image + (data - image), protocol->metadata.data, (size_t) len);
	}
	return count > 0;
}

/* What stands behind the protocols. */
static bool
find_assignment(const uint8_t *image, const ImageHeader *header, const ImageMember *member,
				KBytes *assignment)
{
	uint32_t	pos = member->protocols;
	int32_t		count;

	if (!get_count(image, header, &pos, &count))
		return false;
	for (int64_t i = 0; i < 2 * (int64_t) count; i++)
		if (!get_data(image, header, &pos, &assignment->data, &assignment->len))
			return false;
	return get_data(image, header, &pos, &assignment->data, &assignment->len);
}

/* A string of the image; false: it is not in it. */
static bool
get_str(const uint8_t *image, const ImageHeader *header, uint32_t pos, int32_t len, KStr *s)
{
	*s = (KStr) {(const char *) image + pos, len};
	return pos <= header->len && (len <= 0 || (uint32_t) len <= header->len - pos);
}

bool
kgroup_image_join(const KGroupConfig *config, uint8_t *image, size_t len, KGroupWaiter waiter,
				  const KJoinGroupRequest *request)
{
	ImageHeader *header = kg_image_header(image, len);
	const ImageMember *members = (const ImageMember *) (image + sizeof(ImageHeader));
	ImageMember *member;
	KStr		type;
	int32_t		joined = 0;

	if (header == NULL || header->type != KGROUP_CLASSIC ||
		header->state != KGROUP_PREPARING_REBALANCE || waiter.api_version == 0 ||
		!get_str(image, header, header->protocol_type, header->protocol_type_len, &type) ||
		!kg_str_equal(type, request->protocol_type) ||
		request->session_timeout_ms < config->min_session_timeout_ms ||
		request->session_timeout_ms > config->max_session_timeout_ms)
		return false;
	member = find_in_image(image, header, request->member_id);
	if (member == NULL || !same_instance(image, member, request->group_instance_id) ||
		member->join.request != 0 ||
		member->session_timeout_ms != request->session_timeout_ms ||
		member->rebalance_timeout_ms != request->rebalance_timeout_ms ||
		!fit_protocols(image, header, member, request, false))
		return false;
	for (int32_t i = 0; i < header->nmembers; i++)
		joined += members[i].join.request != 0;
	if (joined >= config->max_size || joined + 1 >= header->nmembers)
		return false;

	fit_protocols(image, header, member, request, true);
	member->join = waiter;
	return true;
}

/* Does the request name the group's protocol, as its version has to? */
static bool
same_protocol(const KSyncGroupRequest *request, int32_t api_version, KStr type, KStr name)
{
	if (api_version < 5)
		return request->protocol_type.len < 0 && request->protocol_name.len < 0;
	return type.len >= 0 && kg_str_equal(request->protocol_type, type) &&
		name.len >= 0 && kg_str_equal(request->protocol_name, name);
}

KGroupRest
kgroup_image_sync(uint8_t *image, size_t len, KGroupWaiter waiter,
				  const KSyncGroupRequest *request, KSyncGroupResponse *answer,
				  uint64_t *version)
{
	ImageHeader *header = kg_image_header(image, len);
	const ImageMember *members = (const ImageMember *) (image + sizeof(ImageHeader));
	ImageMember *member;
	bool		pending = false;
	KBytes		assignment;
	KStr		type;
	KStr		name;

	if (header == NULL || header->type != KGROUP_CLASSIC ||
		(header->state != KGROUP_COMPLETING_REBALANCE && header->state != KGROUP_STABLE) ||
		header->generation != request->generation_id ||
		!get_str(image, header, header->protocol_type, header->protocol_type_len, &type) ||
		!get_str(image, header, header->protocol_name, header->protocol_name_len, &name) ||
		!same_protocol(request, waiter.api_version, type, name))
		return KGROUP_REST_NO;
	member = find_in_image(image, header, request->member_id);
	if (member == NULL || !same_instance(image, member, request->group_instance_id) ||
		member->sync.request != 0 ||
		(header->state != KGROUP_STABLE && (member->flags & MEMBER_LEADS) != 0) ||
		!find_assignment(image, header, member, &assignment))
		return KGROUP_REST_NO;

	member->flags &= ~(uint32_t) MEMBER_PENDING_SYNC;
	for (int32_t i = 0; i < header->nmembers && !pending; i++)
		pending = (members[i].flags & MEMBER_PENDING_SYNC) != 0;
	if (!pending)
		header->sync_deadline = KG_NEVER;
	if (header->state == KGROUP_STABLE)
	{
		kmsg_init(&kmsg_sync_group_response, answer);
		answer->protocol_type = type;
		answer->protocol_name = name;
		answer->assignment = assignment;
		*version = header->version;
		return KGROUP_REST_ANSWERED;
	}
	member->sync = waiter;
	return KGROUP_REST_WAITS;
}

/* ---- commits ---- */

bool
koffset_image_commit(uint8_t *image, size_t len, int64_t now_ms,
					 const KOffsetCommitter *committer)
{
	ImageHeader *header = kg_image_header(image, len);
	ImageMember *member;
	int64_t		deadline;

	if (header == NULL || committer->transactional || committer->generation < 0)
		return false;
	member = find_in_image(image, header, committer->member_id);
	if (member == NULL || !same_instance(image, member, committer->instance_id))
		return false;
	if (header->type == KGROUP_CONSUMER)
		return member->epoch == committer->generation && committer->api_version >= 9;
	if ((header->state != KGROUP_STABLE && header->state != KGROUP_PREPARING_REBALANCE) ||
		header->generation != committer->generation || member->session_deadline <= now_ms ||
		member->session_deadline == KG_NEVER)
		return false;

	deadline = now_ms + member->session_timeout_ms;
	if (member->session_deadline < deadline)
		member->session_deadline = deadline;
	return true;
}

bool
kgroup_image_consumer_heartbeat(const KGroupEnv *env, uint8_t *image, size_t len,
								int64_t now_ms,
								const KConsumerGroupHeartbeatRequest *request)
{
	ImageHeader *header = kg_image_header(image, len);
	ImageMember *member;
	int64_t		deadline = now_ms + env->config.consumer_session_timeout_ms;

	if (header == NULL || header->type != KGROUP_CONSUMER ||
		header->topics_version != env->topics_version || header->regex_due <= now_ms ||
		request->member_epoch <= 0 || request->rack_id.len >= 0 ||
		request->rebalance_timeout_ms != -1 || request->subscribed_topic_names.count >= 0 ||
		request->subscribed_topic_regex.len >= 0 || request->server_assignor.len >= 0 ||
		request->topic_partitions.count >= 0)
		return false;
	member = find_in_image(image, header, request->member_id);
	if (member == NULL || !same_instance(image, member, request->instance_id) ||
		(member->flags & MEMBER_IDLE) == 0 || member->epoch != request->member_epoch ||
		member->session_deadline <= now_ms)
		return false;

	if (member->session_deadline < deadline)
		member->session_deadline = deadline;
	return true;
}
