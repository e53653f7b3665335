/*
 * kpattern_int.h
 *		What parsing and matching of patterns share: the program between them.
 */
#ifndef KPATTERN_INT_H
#define KPATTERN_INT_H

#include <setjmp.h>

#include "group/kpattern.h"

/* A set of ASCII characters. */
typedef struct KPSet
{
	uint64_t	bits[2];
} KPSet;

typedef enum KPOp
{
	KP_CHAR,					/* one of the set, then x */
	KP_SPLIT,					/* x, or y */
	KP_ASSERT,					/* if it holds, x */
	KP_MATCH
} KPOp;

typedef enum KPAssert
{
	KP_BEGIN,
	KP_END,
	KP_WORD_BOUNDARY,
	KP_NO_WORD_BOUNDARY
} KPAssert;

typedef struct KPInst
{
	uint8_t		op;
	uint8_t		assert;
	uint16_t	x;
	uint16_t	y;
	KPSet		set;
} KPInst;

typedef struct KPProgram
{
	KPInst	   *insts;			/* room for KPATTERN_MAX_INSTS */
	int32_t		count;
	uint16_t	start;
	bool		asserts;		/* it has some */
} KPProgram;

static inline bool
kp_set_has(const KPSet *set, int c)
{
	return (set->bits[c >> 6] >> (c & 63) & 1) != 0;
}

/* ---- parsing ---- */

#define KP_FLAG_FOLD	0x01	/* (?i) */
#define KP_FLAG_OTHER	0x02	/* the others do not matter here */

typedef struct KPName
{
	struct KPName *next;
	const char *data;
	int32_t		len;
} KPName;

typedef struct KPParser
{
	const char *at;
	const char *end;
	int			flags;
	int			depth;
	KPName	   *names;			/* of groups */
	KArena	   *arena;
	KPProgram  *program;
	int			emitted;		/* nodes, again when repeated */
	const char *problem;		/* NULL: no memory */
	jmp_buf		failed;
} KPParser;

static inline bool
kp_more(const KPParser *p)
{
	return p->at < p->end;
}

/* Ends the parsing: to p->failed. */
extern void kp_fail(KPParser *p, const char *problem) __attribute__((noreturn));

/* kpattern_class.c.  Each takes from the text what it reads; bools: false, and nothing was read. */
extern bool kp_looking_at(const KPParser *p, const char *text);
extern bool kp_accept(KPParser *p, const char *text);
extern int32_t kp_next_rune(KPParser *p);
extern int32_t kp_escape(KPParser *p);
extern bool kp_is_word(int32_t c);
extern bool kp_perl_class(KPParser *p, KPSet *set);
extern bool kp_unicode_class(KPParser *p, KPSet *set);
extern KPSet kp_bracket_class(KPParser *p);

/* Adds characters from lo to hi, in either case if the flags say so. */
extern void kp_set_runes(KPSet *set, int32_t lo, int32_t hi, int flags);

/* As kpattern_compile(). */
extern bool kpattern_parse(KStr text, KArena *arena, KPProgram *program, const char **problem);

#endif							/* KPATTERN_INT_H */
