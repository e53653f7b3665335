/*
 * kapi_session.h
 *		Fetch sessions: what a consumer fetches, remembered between its requests.  For src/api
 *		only.
 */
#ifndef KAPI_SESSION_H
#define KAPI_SESSION_H

#include "api/kapi_request.h"

/* A partition that is to be fetched. */
typedef struct KFetchPart
{
	KStr		topic;			/* versions up to 12 */
	KUuid		topic_id;		/* later ones */
	KFetchRequestPartition in;
	bool		curtailed;		/* got less than it might have, had it been the first one */
} KFetchPart;

typedef enum KFetchMode
{
	KFETCH_ALONE,				/* no session */
	KFETCH_FULL,				/* begins one, if there is room */
	KFETCH_INCREMENTAL			/* goes on with one */
} KFetchMode;

/*
 * For requests outside of sessions: the partition that the last answer of a connection had too
 * little room for, with which the next one begins.  It is known by name, not by its place in the
 * request, for clients have ways of their own to change the order.  All zero: none.
 */
typedef struct KFetchTurn
{
	bool		known;
	KFetchPart	part;
	char		topic[KAPI_TOPIC_NAME_MAX];
} KFetchTurn;

/* What a request has to do with a session. */
typedef struct KFetchContext
{
	KFetchMode	mode;
	int32		session_id;
	uint64		serial;			/* of the session; ids can come again */
	int32		epoch;			/* that it has if no other request has come in between */
} KFetchContext;

/*
 * What a request asks for, each partition once, as Kafka has it: the request's own partitions, or
 * those of its session, which the request changes.  *parts is in the current memory context.
 * Returns an error code for the whole request, or 0.
 */
extern int16 kapi_session_begin(KRequest *req, KFetchContext *context, KFetchPart **parts,
								int32 *n);

/*
 * The request is about to be answered with outs[0 .. *n), where outs[i] answers *parts[i].
 * Begins a session with them, or takes out what its client knows already.  *session_id is for the
 * answer. Returns an error code for the whole request, or 0.
 */
extern int16 kapi_session_end(KRequest *req, const KFetchContext *context,
							  const KFetchPart **parts, KFetchResponsePartition **outs, int32 *n,
							  int32 *session_id);

/* Which of these partitions has its turn; the first one, if it is none of them. */
extern int32 kapi_turn_find(const KFetchTurn *turn, const KFetchPart *parts, int32 n);

/* They are about to be answered; "first" was read first, and the others behind it, going round. */
extern void kapi_turn_pass(KFetchTurn *turn, const KFetchPart *parts, int32 n, int32 first);

#endif							/* KAPI_SESSION_H */
