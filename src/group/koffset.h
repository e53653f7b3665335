/*
 * koffset.h
 *		Committed offsets: who may commit, fetch and delete them, and when they expire.
 *
 * Only the rules; where offsets are kept is not known here.  Follows Kafka's
 * OffsetMetadataManager and the validateOffset* methods of its groups.  Needs no server.
 */
#ifndef KOFFSET_H
#define KOFFSET_H

#include "group/kgroup.h"

/*
 * A group without an image that has committed offsets: to Kafka, an empty classic group.  Call
 * this after kgroup_open(), if so.
 */
extern void koffset_has_offsets(KGroup *g);

typedef struct KOffsetCommitter
{
	KStr		member_id;
	KStr		instance_id;	/* null: none */
	int32_t		generation;		/* or member epoch; negative: no member */
	int			api_version;
	bool		transactional;	/* TxnOffsetCommit */
} KOffsetCommitter;

/*
 * May it commit?  *error_code: NONE, or the error of all partitions.  *by_partition: ask
 * koffset_check_partition() for each, too; the first error there is the error of all.  A commit
 * prolongs a classic member's session: so the result may be "changed".  There are no answers.
 */
extern KGroupResult koffset_check_commit(KGroup *g, const KOffsetCommitter *committer,
										 int16_t *error_code, bool *by_partition);
extern int16_t koffset_check_partition(const KGroup *g, const KOffsetCommitter *committer,
									   const KUuid *topic_id, int32_t partition);

/*
 * The same for members at rest, without opening the group.  True: it may; false: open the group.
 */
extern bool koffset_image_commit(uint8_t *image, size_t len, int64_t now_ms,
								 const KOffsetCommitter *committer);

/*
 * OffsetFetch with a member (from version 9 on).  GROUP_ID_NOT_FOUND is no error to the client:
 * nothing is committed.
 */
extern int16_t koffset_check_fetch(const KGroup *g, KStr member_id, int32_t member_epoch);

/* OffsetDelete: the error of the whole request, and the one of a topic. */
extern int16_t koffset_check_delete(const KGroup *g);
extern int16_t koffset_check_delete_topic(KGroup *g, KStr topic);

/*
 * Is this offset to be forgotten at env.wall_ms?  commit_ms: when it was committed; expire_ms: as
 * old clients ask for, or -1.
 */
extern bool koffset_expired(KGroup *g, KStr topic, int64_t commit_ms, int64_t expire_ms,
							int64_t retention_ms);

#endif							/* KOFFSET_H */
