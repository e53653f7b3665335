/*
 * kgroup_assign.h
 *		Server-side assignors: which member of a consumer group shall own which partition.
 *
 * Pure functions over arrays: partitions are numbered through all topics, and an assignment is
 * an array of their owners.
 */
#ifndef KGROUP_ASSIGN_H
#define KGROUP_ASSIGN_H

#include "wire/kmsg.h"

#define KASSIGN_NOBODY	(-1)

typedef struct KAssignTopic
{
	KUuid		id;				/* breaks ties */
	int32_t		partitions;
	int32_t		first;			/* number of its partition 0; see kassign_number() */
} KAssignTopic;

typedef struct KAssignMember
{
	KStr		id;
	KStr		instance_id;	/* null: a dynamic member */
	const int32_t *topics;		/* subscribed ones, ascending indexes into KAssign.topics */
	int32_t		ntopics;
} KAssignMember;

typedef struct KAssign
{
	KAssignTopic *topics;
	int32_t		ntopics;
	const KAssignMember *members;
	int32_t		nmembers;
	int32_t    *owners;			/* by partition number: index of a member, or KASSIGN_NOBODY */
	int32_t		npartitions;
	KArena	   *arena;			/* for what is needed while it runs */
} KAssign;

/*
 * Sets "first" of each topic; returns the number of all partitions, as long as "owners" must
 * be.  -1: too many.
 */
extern int32_t kassign_number(KAssignTopic *topics, int32_t ntopics);

/*
 * Both get the present owners, and leave the new ones; every partition of a topic that somebody
 * subscribes to has an owner then, who subscribes to it.  False: no memory, owners are undefined.
 *
 * range: each topic's partitions in runs, to its subscribers in order (static members by their
 * instance id, then dynamic ones by member id), so that topics of equal size are split alike.
 * Present owners do not matter.
 *
 * uniform: members with as equally many partitions as their subscriptions allow, and as few
 * partitions as possible change their owner.
 */
extern bool kassign_range(KAssign *assign);
extern bool kassign_uniform(KAssign *assign);

typedef struct KAssignor
{
	const char *name;
	bool		(*assign) (KAssign *assign);
} KAssignor;

/* The first one is the default. */
extern const KAssignor kassign_all[];
extern const int kassign_count;

/* NULL: there is none of that name. */
extern const KAssignor *kassign_find(KStr name);

#endif							/* KGROUP_ASSIGN_H */
