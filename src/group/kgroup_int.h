/*
 * kgroup_int.h
 *		An open group: what the files of this folder share.
 */
#ifndef KGROUP_INT_H
#define KGROUP_INT_H

#include <setjmp.h>
#include <string.h>

#include "group/kgroup.h"

#define KG_NEVER			INT64_MAX

/* of a waiter whose broker is gone: nobody will get that answer */
#define KG_NO_BROKER		(-1)

/* Member epochs with a meaning of their own */
#define KG_EPOCH_JOIN		0
#define KG_EPOCH_LEAVE		(-1)
#define KG_EPOCH_LEAVE_STATIC	(-2)

#define KG_CONSUMER_PROTOCOL	KSTR("consumer")

/* Of one member.  Clients have one to three; comparing them all takes time. */
#define KG_MAX_PROTOCOLS	256

/* Kafka resolves patterns anew no more often than this. */
#define KG_REGEX_MIN_INTERVAL_MS	10000

/* One partition of a member, with the member epoch at which it was given; of a target: 0. */
typedef struct KGPartition
{
	KUuid		topic;
	int32_t		partition;
	int32_t		epoch;
} KGPartition;

/* Sorted by topic and partition, none twice. */
typedef struct KGPartitions
{
	KGPartition *items;
	int32_t		count;
} KGPartitions;

typedef struct KGProtocol
{
	KStr		name;
	KBytes		metadata;
} KGProtocol;

/* Of a member of the consumer protocol; on disk, do not renumber. */
typedef enum KGMemberState
{
	KG_MEMBER_STABLE = 0,
	KG_MEMBER_UNREVOKED = 1,	/* has not yet confirmed that it gave partitions up */
	KG_MEMBER_UNRELEASED = 2	/* waits for partitions that others have not given up */
} KGMemberState;

typedef struct KGMember
{
	KStr		id;
	uint32_t	hash;			/* of the id */
	KStr		instance_id;	/* null: a dynamic member */
	KStr		client_id;
	KStr		client_host;
	int32_t		rebalance_timeout_ms;
	int32_t		session_timeout_ms; /* of members that use the classic protocol */
	int64_t		session_deadline;

	/* the classic protocol, in either type of group */
	bool		classic;		/* its requests are of the classic protocol */
	bool		is_new;			/* classic group: has not been answered yet */
	bool		pending_sync;	/* classic group: has joined the generation, not yet synced */
	KGProtocol *protocols;
	int32_t		nprotocols;
	KBytes		assignment;		/* classic group: as its leader sent it */
	KGroupWaiter join;			/* request 0: none */
	KGroupWaiter sync;

	/* consumer groups */
	int32_t		epoch;
	int32_t		previous_epoch;
	KGMemberState state;
	KStr		rack_id;		/* null: none */
	KStr		assignor;		/* null: no preference */
	KStr		regex;			/* empty: none */
	KStrArray	topics;			/* sorted, none twice */
	KGPartitions target;
	KGPartitions assigned;
	KGPartitions revoking;
	int64_t		rebalance_deadline; /* to confirm what it gives up, at rebalance_epoch */
	int64_t		join_deadline;	/* classic member: to join again */
	int64_t		sync_deadline;
	int32_t		rebalance_epoch;

	bool		dirty;			/* its row is to be written */
	bool		has_row;		/* it has one, or will when this image's rows are written */
} KGMember;

/* A member as its group's image had it, and there. */
typedef struct KGLoaded
{
	KGMember	member;
	const uint8_t *bytes;
	size_t		len;
	size_t		protocols;		/* where they begin in the bytes */
} KGLoaded;

/* A member id that was given out, and whose owner has not joined with it yet (KIP-394). */
typedef struct KGPending
{
	KStr		id;
	int64_t		deadline;
} KGPending;

typedef struct KGRegex
{
	KStr		pattern;
	KStrArray	topics;			/* sorted */
} KGRegex;

typedef enum KGJoinTimer
{
	KG_JOIN_REBALANCE,			/* complete the join phase */
	KG_JOIN_INITIAL				/* of an empty group: wait on if somebody came meanwhile */
} KGJoinTimer;

struct KGroup
{
	const KGroupEnv *env;
	int64_t		now;
	KStr		id;
	jmp_buf		no_memory;		/* where kg_alloc() goes when there is none */
	int32_t		opened_members; /* numbers at that time */
	int32_t		opened_pending;

	KGroupType	type;
	uint64_t	version;
	uint64_t	durable;
	int32_t		generation;		/* or group epoch */

	/* classic groups */
	KGroupState state;			/* consumer groups: see kgroup_consumer_state() */
	KGroupState previous_state;
	int64_t		state_since;
	KStr		protocol_type;	/* null: never had a member */
	KStr		protocol_name;	/* null: none selected */
	KStr		leader;			/* null: none */
	bool		member_added;	/* during the initial delay */
	KGJoinTimer join_timer;
	int64_t		join_deadline;
	int32_t		delay_ms;		/* of KG_JOIN_INITIAL */
	int32_t		remaining_ms;
	int64_t		sync_deadline;
	KGPending  *pending;
	int32_t		npending;
	int32_t		pending_capacity;
	bool		subscribed_known;	/* koffset.c: computed when it is asked for */
	KStrArray	subscribed;

	/* consumer groups */
	int32_t		assignment_epoch;
	int64_t		assignment_time;	/* 0: never, or not known */
	uint64_t	metadata_hash;
	uint64_t	topics_version; /* at which that was computed; not durable */
	KGRegex    *regexes;
	int32_t		nregexes;
	int64_t		regex_time;		/* when they were resolved */
	uint64_t	regex_version;

	KGMember  **members;
	int32_t		nmembers;
	int32_t		members_capacity;

	/* what the event leaves behind */
	KGroupAnswer *answers;
	bool	   *answer_waits;	/* for this event's version */
	int32_t		nanswers;
	int32_t		answers_capacity;
	KGroupRow  *rows;
	int32_t		nrows;
	int32_t		rows_capacity;
	KStr	   *removed;		/* ids whose rows the next ones are to delete; in the image */
	int32_t		nremoved;
	int32_t		removed_capacity;
	bool		changed;
	bool		dirty;			/* the group's row is to be written */
	bool		wiped;			/* all rows are to be deleted first */
	size_t		image_size;		/* after the event; 0: not computed */

	/* classic groups: members as they were in the image, which are most of them afterwards */
	KGMember   *first_loaded;
	KGLoaded   *loaded;
	int32_t		nloaded;
};

/* ---- kgroup.c: memory, members, answers ---- */

/* Cleared, aligned for any type.  Does not return when there is no memory. */
extern void *kg_alloc(KGroup *g, size_t size);
/* Room for one more item; items may move. */
extern void *kg_grow(KGroup *g, void *items, int32_t count, int32_t *capacity, size_t size);
extern KStr kg_copy(KGroup *g, KStr s);

/*
 * First thing in each event, as the condition of an "if".  It is true when memory ran out later
 * on: then return what kg_out_of_memory() returns.
 */
#define KG_NO_MEMORY(g)		(setjmp((g)->no_memory) != 0)
extern KGroupResult kg_out_of_memory(KGroup *g);
/*
 * Last thing in each event: makes rows, and versions.  "bounded": of events by which a client can
 * make the group grow.
 */
extern KGroupResult kg_finish(KGroup *g);
extern KGroupResult kg_finish_bounded(KGroup *g);

static inline bool
kg_str_equal(KStr a, KStr b)
{
	return a.len == b.len && (a.len <= 0 || memcmp(a.data, b.data, (size_t) a.len) == 0);
}

static inline bool
kg_bytes_equal(KBytes a, KBytes b)
{
	return a.len == b.len && (a.len <= 0 || memcmp(a.data, b.data, (size_t) a.len) == 0);
}

static inline bool
kg_present(KStr s)
{
	return s.len > 0;
}

extern int	kg_str_compare(KStr a, KStr b);
extern uint32_t kg_hash(KStr s);

/* NULL: no such member.  A null or empty id is nobody's. */
extern KGMember *kg_member(const KGroup *g, KStr id);
extern KGMember *kg_static_member(const KGroup *g, KStr instance_id);
extern KGMember *kg_add_member(KGroup *g, KStr id);
extern void kg_remove_member(KGroup *g, KGMember *member);
/* The row under the member's present id is to be deleted. */
extern void kg_forget_row(KGroup *g, KGMember *member);
/* "PREFIX-uuid", or the uuid in Kafka's base 64 when the prefix is null. */
extern KStr kg_new_member_id(KGroup *g, KStr prefix);

/* The member's row, or the group's, is to be written. */
extern void kg_dirty_member(KGroup *g, KGMember *member);
extern void kg_dirty_group(KGroup *g);
/* The rows of the group and of all its members. */
extern void kg_dirty_all(KGroup *g);

/* Forgets the group; what can be made of it then is a new one.  Rows of members are not touched. */
extern void kg_reset(KGroup *g, KGroupType type);
/* The same, and all rows are to be deleted. */
extern void kg_wipe(KGroup *g, KGroupType type);

/* now + ms, also for an ms that is none or absurd */
extern int64_t kg_after(const KGroup *g, int64_t ms);

/* "waits": for the rows of this event, or of the latest that made any */
extern void kg_answer(KGroup *g, KGroupWaiter waiter, KApiKey api, const void *response,
					  bool waits);
/* Takes back everything but this answer: the event is refused. */
extern KGroupResult kg_refuse(KGroup *g, KGroupWaiter waiter, KApiKey api,
							  const void *response);

/* ---- kgroup_image.c ---- */

extern bool kg_load(KGroup *g, const uint8_t *image, size_t len);
extern bool kg_load_rows(KGroup *g, const KGroupRow *rows, int32_t count);
extern void kg_make_rows(KGroup *g);
extern int64_t kg_next_deadline(const KGroup *g);

/* ---- kgroup_rebalance.c: classic groups ---- */

extern bool kg_is_leader(const KGroup *g, const KGMember *member);
extern bool kg_supports_protocols(const KGroup *g, KStr type, const KJoinGroupRequest *request);
extern KStr kg_select_protocol(KGroup *g);
extern KBytes kg_protocol_metadata(const KGMember *member, KStr name);
extern void kg_set_protocols(KGroup *g, KGMember *member, const KJoinGroupRequest *request);
extern bool kg_same_protocols(const KGMember *member, const KJoinGroupRequest *request);

extern void kg_answer_join(KGroup *g, KGMember *member, const KJoinGroupResponse *response,
						   bool waits);
extern KGroupResult kg_answer_join_now(KGroup *g, const KGroupCaller *caller,
									   const KJoinGroupResponse *response);
extern void kg_answer_sync(KGroup *g, KGMember *member, int16_t error_code);
extern KJoinGroupResponse *kg_join_response(KGroup *g, int16_t error_code, KStr member_id);
/* The answer of a completed join; "members": also for the leader to assign */
extern KJoinGroupResponse *kg_joined_response(KGroup *g, const KGMember *member, bool members);

extern void kg_transition(KGroup *g, KGroupState state);
extern void kg_classic_remove(KGroup *g, KGMember *member);
extern void kg_classic_forget_pending(KGroup *g, int32_t i);
extern void kg_prepare_rebalance(KGroup *g);
extern void kg_rebalance_or_complete_join(KGroup *g);
extern void kg_complete_join_phase(KGroup *g);
extern void kg_complete_sync(KGroup *g, const KSyncGroupRequest *request);
extern void kg_schedule_session(KGroup *g, KGMember *member, int64_t timeout_ms);
extern void kg_classic_tick(KGroup *g);

/* ---- kgroup_consumer.c ---- */

extern KGroupState kg_consumer_state(const KGroup *g);
/* What most members ask for. */
extern const struct KAssignor *kg_preferred_assignor(const KGroup *g);
extern void kg_consumer_fence(KGroup *g, KGMember *const *members, int32_t count);
extern void kg_consumer_tick(KGroup *g);
/* The member of that name gets a new id, and starts at epoch 0. */
extern KGMember *kg_consumer_replace(KGroup *g, KGMember *old, KStr new_id);
extern void kg_update_epoch(KGroup *g, bool bump);
/* Computes a new target if there is need, and the time has come. */
extern void kg_update_target(KGroup *g);

/* ---- kgroup_subscription.c ---- */

/* Sorts, and drops what is there twice; copies the array, not the bytes. */
extern KStrArray kg_sorted_names(KGroup *g, const KStrArray *names);
extern bool kg_same_names(const KStrArray *a, const KStrArray *b);
/* False: not a pattern. */
extern bool kg_resolve_regex(KGroup *g, KStr pattern);
extern bool kg_refresh_regexes(KGroup *g);
extern void kg_drop_regexes(KGroup *g);
extern uint64_t kg_metadata_hash(KGroup *g);

typedef struct KGTopics
{
	KGroupTopic *items;			/* that exist, sorted by id */
	int32_t		count;
} KGTopics;

extern KGTopics kg_subscribed_topics(KGroup *g, const KGMember *member);
extern const KGroupTopic *kg_find_topic(const KGTopics *topics, const KUuid *id);

/* ---- kgroup_reconcile.c ---- */

extern int	kg_partition_compare(const KGPartition *a, const KGPartition *b);
extern const KGPartition *kg_find_partition(const KGPartitions *set, const KUuid *topic,
											int32_t partition);
extern bool kg_same_partitions(const KGPartitions *a, const KGPartitions *b, bool epochs_too);
extern void kg_sort_partitions(KGPartitions *set);



extern void kg_reconcile(KGroup *g, KGMember *member, const KGPartitions *owned,
						 bool subscription_changed);
/* Is a partition of its target still with somebody else? */
extern bool kg_waits_for_release(const KGroup *g, const KGMember *member);

/* ---- kgroup_migrate.c ---- */

/* KERR_NONE: the group is of the consumer type now. */
extern int16_t kg_upgrade(KGroup *g);
/* What a member of a classic group of consumers subscribes to; false: it cannot be read. */
extern bool kg_classic_topics(KGroup *g, const KGMember *member, KStrArray *topics);
extern bool kg_can_downgrade(const KGroup *g, KGMember *const *leaving, int32_t count,
							 const KGMember *replaced);
extern bool kg_downgrade(KGroup *g, bool rebalance);
extern KGroupResult kg_join_consumer(KGroup *g, const KGroupCaller *caller,
									 const KJoinGroupRequest *request);
extern KGroupResult kg_sync_consumer(KGroup *g, const KGroupCaller *caller,
									 const KSyncGroupRequest *request);
extern KGroupResult kg_heartbeat_consumer(KGroup *g, const KGroupCaller *caller,
										  const KHeartbeatRequest *request);
extern int16_t kg_leave_consumer(KGroup *g, const KLeaveGroupRequestMember *identity,
								 KGMember **member);

#endif							/* KGROUP_INT_H */
