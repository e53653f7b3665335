/*
 * kgroup.h
 *		Consumer groups: who is a member, and who owns which partition.
 *
 * A state machine without I/O.  A group at rest is an *image*: one run of bytes without pointers
 * that can lie in shared memory.  An event is handled so (README.md has the reasons):
 *
 *		lock the group; g = kgroup_open(env, now, id, image, len)
 *		result = kgroup_join(g, ...)		one event, and no more, for an open group
 *		if KGROUP_CHANGED: write the new image over the old one; unlock
 *		write kgroup_rows(), if there are any, to a table
 *		send kgroup_answers(), each when the version that it depends on is durable
 *
 * Nothing is changed but memory of the environment's arena, so that an event that fails, at
 * whatever point, has not happened.  Time is a parameter, random bytes and topics come from
 * callbacks, requests and answers are the structs of wire/kmsg.h.  A request must live until the
 * new image is written and the answers are encoded; the old image is copied.
 *
 * Needs no server.  Follows Kafka 4.3's GroupMetadataManager, ClassicGroup, ConsumerGroup;
 * KIP-62, 345, 394, 429, 848.
 */
#ifndef KGROUP_H
#define KGROUP_H

#include "wire/kmsg.h"

typedef struct KGroup KGroup;

/* ------------------------------------------------------------------------
 * The environment
 * ------------------------------------------------------------------------
 */

/* Milliseconds, members and bytes.  Kafka's name of a setting stands beside ours. */
typedef struct KGroupConfig
{
	/* the classic protocol */
	int32_t		min_session_timeout_ms; /* group.min.session.timeout.ms */
	int32_t		max_session_timeout_ms; /* group.max.session.timeout.ms */
	int32_t		initial_delay_ms;	/* group.initial.rebalance.delay.ms */
	int32_t		new_member_timeout_ms;	/* 5 minutes, fixed in Kafka */
	int32_t		max_size;		/* group.max.size */

	/* the consumer protocol; the first three are also configurations of one group */
	int32_t		consumer_session_timeout_ms;	/* consumer.session.timeout.ms */
	int32_t		consumer_heartbeat_ms;	/* consumer.heartbeat.interval.ms */
	int32_t		assignment_interval_ms; /* consumer.assignment.interval.ms */
	int32_t		consumer_max_size;	/* group.consumer.max.size */
	int32_t		regex_refresh_ms;	/* group.consumer.regex.refresh.interval.ms */
	uint32_t	assignors;		/* group.consumer.assignors: bits of kassign_all[] */
	int32_t		default_assignor;	/* the first of them */
	bool		may_upgrade;	/* group.consumer.migration.policy */
	bool		may_downgrade;

	int32_t		max_image_bytes;	/* without rows; who would make it grow more is refused */
} KGroupConfig;

extern const KGroupConfig kgroup_config_defaults;

/* A group may have so many different patterns; Kafka has no bound. */
#define KGROUP_MAX_PATTERNS	256

typedef struct KGroupTopic
{
	KUuid		id;
	KStr		name;
	int32_t		partitions;
} KGroupTopic;

/* Receives one topic name that a pattern matches; the bytes need not outlive the call. */
typedef void (*KGroupMatch) (void *match_arg, KStr topic);

/*
 * What an event may ask of the world.  None of the callbacks may block.  "arena" gives all
 * memory; what it gave belongs to the caller, who frees it when done with the group.  A callback
 * may leave by longjmp: nothing needs to be undone.
 */
typedef struct KGroupEnv
{
	KGroupConfig config;
	KArena	   *arena;
	int64_t		wall_ms;		/* since 1970; only for what is to be kept over restarts */
	uint64_t	topics_version; /* differs when any topic may have come, gone, or grown */

	bool		(*topic_by_name) (void *arg, KStr name, KGroupTopic *topic);
	bool		(*topic_by_id) (void *arg, const KUuid *id, KGroupTopic *topic);

	/*
	 * All topics whose whole name the pattern matches and that the client may describe.  False:
	 * not a valid pattern.  Kafka's syntax is RE2's (README.md).
	 */
	bool		(*match_topics) (void *arg, KStr pattern, KGroupMatch match, void *match_arg);
	void		(*random) (void *arg, uint8_t *bytes, size_t len);
	void	   *arg;
} KGroupEnv;

/* ------------------------------------------------------------------------
 * Requests and answers
 * ------------------------------------------------------------------------
 */

/*
 * Where an answer goes: a request that a broker holds.  The machine only keeps and returns it.
 * "request" is not 0, and not used again while any group may still hold it.
 */
typedef struct KGroupWaiter
{
	uint64_t	request;
	int32_t		broker;
	int32_t		api_version;	/* this wide since images are compared byte by byte */
} KGroupWaiter;

/* Who asks. */
typedef struct KGroupCaller
{
	KGroupWaiter waiter;
	KStr		client_id;
	KStr		client_host;	/* as Kafka shows it: "/127.0.0.1" */
} KGroupCaller;

typedef enum KGroupResult
{
	KGROUP_UNCHANGED,			/* there may be answers */
	KGROUP_CHANGED,				/* write the image; there may be answers and rows */
	KGROUP_NO_MEMORY,			/* nothing happened, and there is no answer */
	KGROUP_FULL					/* the same, because of max_image_bytes */
} KGroupResult;

/*
 * One answer, to the caller or to somebody who waited.  "response" is the struct of the API,
 * in the group's memory.
 */
typedef struct KGroupAnswer
{
	KGroupWaiter waiter;
	KApiKey		api;
	const void *response;
	uint64_t	version;		/* send it when this version is durable; 0: at once */
} KGroupAnswer;

extern const KGroupAnswer *kgroup_answers(const KGroup *g, int32_t *count);

/*
 * Opens a group on a copy of its image, or, with image NULL, one that does not exist.  NULL: no
 * memory, or not an image.  "now_ms" is any clock's that all who open groups share; it may stand
 * still or jump back.
 */
extern KGroup *kgroup_open(const KGroupEnv *env, int64_t now_ms, KStr group_id,
						   const uint8_t *image, size_t len);

/* Each of these answers the caller, at once or in a later event, exactly once. */
extern KGroupResult kgroup_join(KGroup *g, const KGroupCaller *caller,
								const KJoinGroupRequest *request);
extern KGroupResult kgroup_sync(KGroup *g, const KGroupCaller *caller,
								const KSyncGroupRequest *request);
extern KGroupResult kgroup_heartbeat(KGroup *g, const KGroupCaller *caller,
									 const KHeartbeatRequest *request);
extern KGroupResult kgroup_leave(KGroup *g, const KGroupCaller *caller,
								 const KLeaveGroupRequest *request);
extern KGroupResult kgroup_consumer_heartbeat(KGroup *g, const KGroupCaller *caller,
											  const KConsumerGroupHeartbeatRequest *request);

/* Does what is due.  Call it at the image's next deadline or later. */
extern KGroupResult kgroup_tick(KGroup *g);

/* A broker is gone, and with it all requests that it held: forgets them. */
extern KGroupResult kgroup_forget_broker(KGroup *g, int32_t broker);

/*
 * DeleteGroups.  *error_code: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, or NONE: then the group's
 * image, rows and offsets are to be deleted.
 */
extern KGroupResult kgroup_delete(KGroup *g, int16_t *error_code);

/*
 * Has the group more members, or more ids given to future ones, than when it was opened?  Where
 * memory is short, those should be kept out, and no other event.
 */
extern bool kgroup_has_grown(const KGroup *g);

/* ------------------------------------------------------------------------
 * Images and rows
 * ------------------------------------------------------------------------
 */

/*
 * Size of the group's image as it is now; 0: there is no such group (any more), and no rows of
 * it that are still to be deleted.  kgroup_image_write() writes exactly that many bytes and
 * cannot fail.
 */
extern size_t kgroup_image_size(KGroup *g);
extern void kgroup_image_write(KGroup *g, uint8_t *image);

/*
 * What must survive a restart, as rows of (group, member) -> bytes.  An event makes the rows of
 * what it changed; the image carries them until they are durable.  member_id null: the row of
 * the group itself.  data null: the row is to be deleted; both null: all rows of the group.
 */
typedef struct KGroupRow
{
	KStr		member_id;
	KBytes		data;
	uint64_t	version;		/* of the event that made it */
} KGroupRow;

/*
 * The rows that are not durable yet, in the order in which to write them, in one transaction.
 * One writer a group at a time.  When they are durable, tell the image with *version (it may
 * have moved on by then), and send the answers that wait for it.
 */
extern int32_t kgroup_rows(const KGroup *g, const KGroupRow **rows, uint64_t *version);
extern void kgroup_image_durable(uint8_t *image, size_t len, uint64_t version);

/* Takes rows that are durable out of an image; its new length. */
extern size_t kgroup_image_trim(uint8_t *image, size_t len);

/*
 * A group from its rows, after a restart.  Members get their full session timeout from now on,
 * and nobody waits.  The result is "changed": write its image.  NULL: no memory or bad rows.
 */
extern KGroup *kgroup_restore(const KGroupEnv *env, int64_t now_ms, KStr group_id,
							  const KGroupRow *rows, int32_t count);

/* ------------------------------------------------------------------------
 * Looking at an image, and touching it
 * ------------------------------------------------------------------------
 */
typedef enum KGroupType
{
	KGROUP_NONE,
	KGROUP_CLASSIC,
	KGROUP_CONSUMER
} KGroupType;

typedef enum KGroupState
{
	KGROUP_EMPTY,
	KGROUP_PREPARING_REBALANCE,
	KGROUP_COMPLETING_REBALANCE,
	KGROUP_STABLE,
	KGROUP_DEAD,
	KGROUP_ASSIGNING,			/* consumer groups only, as the next one */
	KGROUP_RECONCILING
} KGroupState;

typedef struct KGroupSummary
{
	KGroupType	type;
	KGroupState state;
	int32_t		generation;		/* or group epoch */
	int32_t		members;
	int64_t		next_deadline;	/* call kgroup_tick() then; INT64_MAX: never */
	uint64_t	version;		/* of the latest rows */
	uint64_t	durable;		/* of the latest rows that are durable */
	KStr		protocol_type;	/* in the image */
} KGroupSummary;

/* False: not an image. */
extern bool kgroup_image_summary(const uint8_t *image, size_t len, KGroupSummary *summary);

/* Kafka's names: "Stable", "classic". */
extern const char *kgroup_state_name(KGroupState state);
extern const char *kgroup_type_name(KGroupType type);

/*
 * Heartbeats at rest, without opening the group: if nothing but the member's session is
 * concerned, prolongs that in the image and returns true: the answer is NONE.  False: nothing was
 * done, open the group.
 */
extern bool kgroup_image_heartbeat(uint8_t *image, size_t len, int64_t now_ms,
								   const KHeartbeatRequest *request);

/* The same for the consumer protocol; the answer repeats member id and epoch. */
extern bool kgroup_image_consumer_heartbeat(const KGroupEnv *env, uint8_t *image, size_t len,
											int64_t now_ms,
											const KConsumerGroupHeartbeatRequest *request);

/*
 * JoinGroup of a classic group's member that changes nothing but that it waits: it has joined with
 * what it had before (metadata of protocols may differ, if their sizes do not), and is not the
 * last.  True: the member waits, and will be answered by another's event.
 */
extern bool kgroup_image_join(const KGroupConfig *config, uint8_t *image, size_t len,
							  KGroupWaiter waiter, const KJoinGroupRequest *request);

/*
 * SyncGroup of one that does not lead, or of a stable group.  KGROUP_REST_ANSWERED: *answer points
 * into the image, and waits for this version.
 */
typedef enum KGroupRest
{
	KGROUP_REST_NO,				/* nothing was done, open the group */
	KGROUP_REST_WAITS,
	KGROUP_REST_ANSWERED
} KGroupRest;

extern KGroupRest kgroup_image_sync(uint8_t *image, size_t len, KGroupWaiter waiter,
									const KSyncGroupRequest *request,
									KSyncGroupResponse *answer, uint64_t *version);

/* ------------------------------------------------------------------------
 * Describing
 * ------------------------------------------------------------------------
 */

/* DescribeGroups and ConsumerGroupDescribe of one group; false: no memory. */
extern bool kgroup_describe(KGroup *g, int version, KDescribeGroupsResponseGroup *out);
extern bool kgroup_consumer_describe(KGroup *g, KConsumerGroupDescribeResponseGroup *out);

/* ListGroups: does the group pass the filters?  Names in any case, blanks around a state. */
extern bool kgroup_summary_matches(const KGroupSummary *summary, const KStrArray *states,
								   const KStrArray *types);

#endif							/* KGROUP_H */
