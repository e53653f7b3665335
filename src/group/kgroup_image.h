/*
 * kgroup_image.h
 *		How an image begins; private to kgroup_image.c and kgroup_rest.c.
 */
#ifndef KGROUP_IMAGE_H
#define KGROUP_IMAGE_H

#include "group/kgroup_int.h"

#define IMAGE_MAGIC			0x4b475231	/* "KGR1" */

#define MEMBER_IDLE			0x01	/* consumer protocol: has all that it shall have */
#define MEMBER_LEADS		0x02	/* classic groups, as those that follow: see KGMember */
#define MEMBER_NEW			0x04
#define MEMBER_PENDING_SYNC	0x08

typedef struct ImageHeader
{
	uint32_t	magic;
	uint32_t	len;			/* of the whole image */
	uint64_t	version;
	uint64_t	durable;
	int64_t		next_deadline;
	int64_t		regex_due;		/* from then on a heartbeat resolves patterns anew */
	int64_t		sync_deadline;	/* of a classic group */
	uint64_t	topics_version;
	int32_t		generation;
	int32_t		nmembers;
	uint32_t	protocol_type;	/* where it begins */
	int32_t		protocol_type_len;
	uint32_t	protocol_name;	/* of a classic group */
	int32_t		protocol_name_len;
	uint8_t		type;			/* KGroupType */
	uint8_t		state;			/* KGroupState */
	uint8_t		unused[2];
	uint32_t	unwritten;		/* where walk_unwritten() begins */
} ImageHeader;

typedef struct ImageMember
{
	int64_t		session_deadline;
	uint32_t	hash;
	uint32_t	id;				/* where it begins */
	int32_t		id_len;
	uint32_t	instance;
	int32_t		instance_len;
	int32_t		session_timeout_ms;
	int32_t		epoch;
	uint32_t	flags;			/* MEMBER_* */

	/* classic groups */
	int32_t		rebalance_timeout_ms;
	uint32_t	protocols;		/* where walk_protocols() begins */
	KGroupWaiter join;
	KGroupWaiter sync;
} ImageMember;

/* The header and its members, if these bytes are an image; else NULL. */
extern ImageHeader *kg_image_header(uint8_t *image, size_t len);

#endif							/* KGROUP_IMAGE_H */
