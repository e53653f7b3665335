/*
 * kpattern.h
 *		Regular expressions over names of topics: Kafka's syntax, which is RE2/J's.
 *
 * Names are ASCII, and a pattern matches all of a name or not at all; so what remains of a
 * regular expression is a set of names, and matching one takes time that grows with the name's
 * length only, whatever the pattern: nothing is ever tried twice.  Needs no server.
 */
#ifndef KPATTERN_H
#define KPATTERN_H

#include "wire/kmsg.h"

/* Longer patterns are refused, and those that need more states; Kafka has larger bounds. */
#define KPATTERN_MAX_LEN	8192	/* bytes */
#define KPATTERN_MAX_INSTS	4096

typedef struct KPattern KPattern;

/*
 * Makes a pattern in memory of the arena, about 300 kB.  NULL: *problem says why, a constant; it
 * is NULL if there was no memory.
 */
extern KPattern *kpattern_compile(KStr text, KArena *arena, const char **problem);

/* Does it match all of this name?  Adds to *work what it took, in steps of some nanoseconds. */
extern bool kpattern_matches(KPattern *pattern, KStr name, uint64_t *work);

#endif							/* KPATTERN_H */
