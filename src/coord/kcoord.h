/*
 * kcoord.h
 *		Groups in the server: images in shared memory, rows and offsets in tables, answers between
 *		brokers.  README.md says how an event goes from here to there and back.
 *
 * Nothing here waits for a lock that may be held for long; what would have to is told to be busy.
 */
#ifndef KCOORD_H
#define KCOORD_H

#include "access/htup.h"
#include "access/xlogdefs.h"
#include "storage/lockdefs.h"
#include "utils/dsa.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "group/kgroup.h"

/* Longest ids of groups and members that are taken, bytes; Kafka has no bound. */
#define KCOORD_ID_MAX		1024

/* ------------------------------------------------------------------------
 * Groups in shared memory: kcoord_table.c
 * ------------------------------------------------------------------------
 */
typedef struct KCoordSlot KCoordSlot;

extern Size kcoord_shmem_size(void);
extern void kcoord_shmem_init(void);

/* How much of what kafka_pg.max_groups and group_memory allow is in use; blocks of memory. */
typedef struct KCoordMemory
{
	int			groups;
	int			max_groups;
	int64		blocks;
	int64		bytes;
	int64		max_bytes;
} KCoordMemory;

extern void kcoord_memory(KCoordMemory *memory);

/*
 * Largest image that an event can always be run on: there may be a new one, and answers of about
 * the same size, in what is kept back for events that do not make a group grow.
 */
extern size_t kcoord_max_image(void);

/*
 * A broker process, once, before it serves: takes its number, and forgets what a predecessor of
 * that number held.  May wait for other brokers' short locks.
 */
extern void kcoord_attach(int broker);

/* The groups' rows have been read. */
extern bool kcoord_loaded(void);

/* Only the live broker of the lowest number reads rows and looks after deadlines. */
extern bool kcoord_is_timekeeper(void);

/* Milliseconds of the clock that all processes share. */
extern int64 kcoord_now(void);

/* Milliseconds since 1970. */
extern int64 kcoord_wall_clock(void);

/* A number that no request has had before. */
extern uint64 kcoord_request_number(void);

typedef enum KCoordLock
{
	KCOORD_LOCKED,
	KCOORD_BUSY,				/* somebody else is just making it: try again later */
	KCOORD_NO_GROUP,			/* and "create" was not asked for */
	KCOORD_NO_ROOM				/* for one more */
} KCoordLock;

/*
 * Locks a group; a new one has an empty image.  Waits for the lock, which nobody holds for longer
 * than an event takes; the caller holds no other group's lock.  BUSY only if it shall be created.
 * kcoord_unlock() gives a group without an image and without a writer back.  Errors that are
 * thrown in between let go of the lock.
 */
extern KCoordLock kcoord_lock(KStr group_id, bool create, KCoordSlot **slot);
extern void kcoord_unlock(KCoordSlot *slot);

/*
 * Of a locked group: a number that changes whenever it gets another image, and is never used
 * again.  What a look at the image has found is true as long as kcoord_unchanged(), which needs
 * no lock; slot -1: there was no group.  What is done to a group at rest (kgroup_rest.c)
 * leaves it: that ends no generation and begins none.
 */
typedef struct KCoordStamp
{
	int			slot;
	uint64		stamp;
} KCoordStamp;

extern KCoordStamp kcoord_stamp(const KCoordSlot *slot);
extern bool kcoord_unchanged(const KCoordStamp *stamp);

/* The same by number, 0 <= i < kcoord_capacity(); KCOORD_NO_GROUP: no group there. */
extern int	kcoord_capacity(void);
extern KCoordLock kcoord_lock_number(int i, KCoordSlot **slot);
extern int	kcoord_number(const KCoordSlot *slot);

/* Of a locked group. */
extern KStr kcoord_id(const KCoordSlot *slot);
extern uint8 *kcoord_image(const KCoordSlot *slot, size_t *len);

/* The image was touched in place: its deadline, if that is earlier now. */
extern void kcoord_touched(KCoordSlot *slot);

/*
 * Which group a slot has, and how far its rows are durable; for those who wait for that.
 * kcoord_is_durable() needs no lock; after it has said no the latch of this broker will be set.
 */
typedef struct KCoordVersion
{
	int			slot;
	uint64		incarnation;
	uint64		version;
} KCoordVersion;

extern KCoordVersion kcoord_version(const KCoordSlot *slot, uint64 version);
extern bool kcoord_is_durable(const KCoordVersion *version);

/*
 * The end of an event on a locked group: a new image, and letters.  kcoord_prepare() makes room,
 * false: there is none and nothing has happened.  Then write the image to change->image (if
 * size is not 0), and kcoord_apply(), which cannot fail.
 */
typedef struct KCoordLetter KCoordLetter;

typedef struct KCoordChange
{
	bool		has_image;		/* else the image stays */
	bool		grows;			/* it is better refused than that memory gets short */
	size_t		size;
	uint8	   *image;
	dsa_pointer image_block;
	int			nletters;
	dsa_pointer *letters;		/* given by the caller, room for all */
} KCoordChange;

/* One answer for somebody else; "body" is encoded for the waiter's version. */
typedef struct KCoordPost
{
	KGroupWaiter waiter;
	uint64		version;
	const void *body;
	size_t		len;
} KCoordPost;

extern bool kcoord_prepare(KCoordSlot *slot, KCoordChange *change, const KCoordPost *posts,
						   int nposts);
extern void kcoord_apply(KCoordSlot *slot, KCoordChange *change);

/*
 * A locked group has neither members nor offsets: unless it changes before, its deadline is now,
 * and who looks after that finds it forsaken.
 */
extern void kcoord_forsake(KCoordSlot *slot);
extern bool kcoord_is_forsaken(const KCoordSlot *slot);

/* Make this broker the writer of a locked group's rows; false: it has one. */
extern bool kcoord_become_writer(KCoordSlot *slot);
extern bool kcoord_am_writer(const KCoordSlot *slot);

/*
 * Rows up to this version are durable, of a locked group that this broker writes.  False: there
 * are newer
 * ones, go on; else it is the writer no longer.
 */
extern bool kcoord_written(KCoordSlot *slot, uint64 version);

/* Time: is a deadline due?  Milliseconds until the next one, -1: none. */
extern bool kcoord_timer_take(void);
extern void kcoord_timer_again(int64 deadline);
extern int64 kcoord_deadline(int i);
extern long kcoord_timeout(void);

/*
 * For who restores the rows: begin is false if somebody else is just doing that, or has done it;
 * two at once would undo what has happened to groups since the first was ready.
 */
extern bool kcoord_load_begin(void);
extern void kcoord_load_end(bool loaded);

/* ------------------------------------------------------------------------
 * Answers from other brokers: kcoord_letter.c
 * ------------------------------------------------------------------------
 */

/*
 * The next letter to this broker: into the current memory context.  False: none.  The body is
 * palloc'd.
 */
extern bool kcoord_receive(KCoordPost *post, KCoordVersion *version);

/* ------------------------------------------------------------------------
 * Rows: kcoord_row.c, kcoord_state.c.  In a transaction with an active snapshot.
 * ------------------------------------------------------------------------
 */
typedef enum KCoordPut
{
	KCOORD_PUT,
	KCOORD_PUT_BUSY				/* somebody is writing that row just now */
} KCoordPut;

/*
 * Opens a table of ours and the index of its primary key; false: the extension is not there, or
 * *busy.  A session, which may wait for the lock, passes NULL.  ERROR when somebody has given the
 * table other columns or indexes.
 */
typedef struct KCoordTable
{
	Relation	rel;
	Relation	index;
} KCoordTable;

extern bool kcoord_table_open(const char *name, const char *index, int ncolumns, LOCKMODE mode,
							  KCoordTable *table, bool *busy);
extern void kcoord_table_close(KCoordTable *table);

/*
 * Inserts a row, or updates the one with the same key: the first nkeys columns, which are the
 * primary
 * key in this order and have the given equality functions.
 */
extern KCoordPut kcoord_row_put(KCoordTable *table, Datum *values, bool *nulls, int nkeys,
								const Oid *equal);

/* Deletes all rows with that beginning of the key. */
extern KCoordPut kcoord_row_delete(KCoordTable *table, Datum *values, int nkeys,
								   const Oid *equal);

/*
 * The same for sessions, which hold what they have locked until their transaction's end.
 *
 * kcoord_row_peek(): the row as it is now, a copy, or NULL; BUSY: somebody is writing it.
 * kcoord_row_lock(): and locks it; if it may not wait, a row that somebody else has locked is BUSY.
 * ERROR under REPEATABLE READ and above if others have written it since the transaction began.
 * kcoord_row_insert(): a row that there was not, BUSY: somebody was quicker; it is locked then.
 * kcoord_row_update(): a row that is locked or was inserted; *tid becomes out of date.
 */
extern KCoordPut kcoord_row_peek(KCoordTable *table, const Datum *values, int nkeys,
								 const Oid *equal, HeapTuple *row);
extern KCoordPut kcoord_row_lock(KCoordTable *table, const Datum *values, int nkeys,
								 const Oid *equal, bool wait, HeapTuple *row);
extern KCoordPut kcoord_row_insert(KCoordTable *table, Datum *values, bool *nulls,
								   ItemPointer tid);
extern void kcoord_row_update(KCoordTable *table, ItemPointer tid, Datum *values, bool *nulls);

/* Makes a text or bytea of bytes. */
extern Datum kcoord_varlena(const void *data, int len);

/* Writes rows of kgroup_rows(); table: kafka.group_state. */
extern bool kcoord_state_open(KCoordTable *table, LOCKMODE mode, bool *busy);
extern KCoordPut kcoord_state_write(KCoordTable *table, KStr group_id, const KGroupRow *rows,
									int count);

/*
 * Reads all rows, and calls back for each group with all of its rows.  False: *busy, or the
 * extension is not there.
 */
typedef void (*KCoordLoad) (void *arg, KStr group_id, const KGroupRow *rows, int count);
extern bool kcoord_state_load(KCoordLoad load, void *arg, bool *busy);

/* ------------------------------------------------------------------------
 * Committed offsets: kcoord_offset.c
 * ------------------------------------------------------------------------
 */
typedef struct KCoordOffset
{
	KUuid		topic_id;
	int32		partition;
	int64		offset;
	int32		leader_epoch;	/* -1: none */
	KStr		metadata;
	int64		commit_ms;		/* since 1970 */
	int64		expire_ms;		/* -1: none */
} KCoordOffset;

extern bool kcoord_offset_open(KCoordTable *table, LOCKMODE mode, bool *busy);
extern KCoordPut kcoord_offset_put(KCoordTable *table, KStr group_id, const KCoordOffset *offset);

/*
 * One offset, in the current memory context.  *lsn becomes the greatest LSN that must be durable
 * before somebody is told.
 */
extern bool kcoord_offset_get(KCoordTable *table, KStr group_id, const KUuid *topic_id,
							  int32 partition, KCoordOffset *offset, XLogRecPtr *lsn);

/*
 * The same for all of a group, in the order of the key: adds up to "max" of those that come after
 * the list's last one.  True: there may be more.
 */
typedef struct KCoordOffsets
{
	KCoordOffset *items;
	int			count;
	int			room;
} KCoordOffsets;

extern bool kcoord_offset_list(KCoordTable *table, KStr group_id, int max, KCoordOffsets *list,
							   XLogRecPtr *lsn);

/* Has the group any? */
extern bool kcoord_offset_any(KCoordTable *table, KStr group_id);

/*
 * The group with offsets that comes next in the order of ids (bytes), len < 0: the first; false:
 * none.  And up to "max" of them; fewer: there are no more.
 */
extern bool kcoord_offset_next_group(KCoordTable *table, KStr after, KStr *group_id);
extern int	kcoord_offset_groups(KCoordTable *table, KStr after, KStr *groups, int max);

/*
 * Offsets in a session's transaction; rows are locked until its end.
 *
 * kcoord_offset_peek(): the offset as it is now, -1: none; false: somebody is moving it.
 * kcoord_offset_claim(): locks the offset's row; if there is none, inserts "first" and sets
 * claim->inserted. False: somebody else has it, and "wait" is not set. kcoord_offset_move(): gives
 * the claimed row new values, once.
 */
typedef struct KCoordClaim
{
	ItemPointerData tid;
	int64		offset;
	bool		inserted;
} KCoordClaim;

extern bool kcoord_offset_peek(KCoordTable *table, KStr group_id, const KUuid *topic_id,
							   int32 partition, int64 *offset);
extern bool kcoord_offset_claim(KCoordTable *table, KStr group_id, const KCoordOffset *first,
								bool wait, KCoordClaim *claim);
extern void kcoord_offset_move(KCoordTable *table, KStr group_id, KCoordClaim *claim,
							   const KCoordOffset *offset);

/*
 * Deletes one offset, or all of a group.  When its transaction has ended, in whichever way, the
 * process calls kcoord_offset_deleted().
 */
extern KCoordPut kcoord_offset_delete(KCoordTable *table, KStr group_id, const KUuid *topic_id,
									  int32 partition);
extern KCoordPut kcoord_offset_delete_all(KCoordTable *table, KStr group_id);

/*
 * Deletes those that "expired" says so of, unless somebody has written them since the snapshot;
 * returns their number.
 */
typedef bool (*KCoordExpired) (void *arg, const KCoordOffset *offset);
extern int	kcoord_offset_delete_some(KCoordTable *table, KStr group_id, KCoordExpired expired,
									  void *arg);

extern void kcoord_offset_deleted(void);

/*
 * An offset was not there in a snapshot that was taken before, perhaps since it was deleted, and
 * nothing is left that tells by which commit.  *lsn becomes at least what must be durable before
 * somebody is told so; false: not known yet, since some are just being deleted: ask again later.
 */
extern bool kcoord_offset_missed(XLogRecPtr *lsn);

/* ------------------------------------------------------------------------
 * Expiry: kcoord_expire.c
 * ------------------------------------------------------------------------
 */

/*
 * Deletes offsets that were committed too long ago (koffset_expired), and has brokers delete groups
 * that have neither members nor offsets.  In a process that may be kept waiting; in transactions
 * of its own.  "go_on" is asked between groups; false: there is more to do, call again.
 */
extern bool kcoord_expire(int64 wall_ms, int64 retention_ms, bool (*go_on) (void));

/*
 * After an error that it has thrown: true: the next call goes on behind what was wrong; else it
 * would meet the same.  *group_id: what it was about, if it was a group's offsets, or NULL.
 */
extern bool kcoord_expire_failed(const char **group_id);

/* ------------------------------------------------------------------------
 * Sessions that use a group: kcoord_session.c
 * ------------------------------------------------------------------------
 */

/* Waits until groups are there after a start; ERROR when the group has members. */
extern void kcoord_session_check(KStr group_id);

/*
 * Makes it a group of sessions until the transaction, or the subtransaction, ends: nobody
 * becomes a member.  ERROR when it has members.
 */
extern void kcoord_session_enter(KStr group_id);

/* For a broker, in a transaction, before it lets somebody become the first member. */
extern bool kcoord_session_active(KStr group_id);

/* How many transactions are in the group, prepared ones included. */
extern int	kcoord_session_count(KStr group_id);

/* Copies a group's id and image; into the current memory context.  NULL: no group there. */
extern uint8 *kcoord_session_copy(int i, KStr *group_id, size_t *len);

/* ------------------------------------------------------------------------
 * Groups' own configs: kcoord_config.c
 * ------------------------------------------------------------------------
 */

/* In the order of Kafka's names for them. */
#define KCOORD_CONFIG_ASSIGNMENT	0
#define KCOORD_CONFIG_HEARTBEAT		1
#define KCOORD_CONFIG_SESSION		2
#define KCOORD_CONFIGS				3

typedef struct KCoordConfigDef
{
	const char *name;
	const char *broker_name;	/* the same for all groups, to Kafka */
	const int  *setting;		/* and here */
	const int  *min;
	const int  *max;
	const char *doc;
} KCoordConfigDef;

extern const KCoordConfigDef kcoord_config_defs[KCOORD_CONFIGS];

typedef struct KCoordConfig
{
	int32		values[KCOORD_CONFIGS]; /* -1: not given */
} KCoordConfig;

/*
 * Has all groups' configs in memory; false: *busy, or the extension is not there.  The others need
 * no catalog and no lock, and see none until then.
 */
extern bool kcoord_config_load(bool *busy);

/* NULL: it has none.  Good until kcoord_config_load() is called again. */
extern const KCoordConfig *kcoord_config_find(KStr group_id);

/* Puts them in the place of the server's settings. */
extern void kcoord_config_apply(KStr group_id, KGroupConfig *config);

/* The value of one; false: it has one that is no number. */
extern bool kcoord_config_value(Jsonb *json, int i, int32 *value);

#endif							/* KCOORD_H */
