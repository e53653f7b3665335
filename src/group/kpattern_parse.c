/*
 * kpattern_parse.c
 *		A pattern's text into the program that kpattern.c runs: RE2/J's syntax, in the reading of
 *		its Pattern.compile(), with what it accepts and what it refuses.
 */
#include "group/kpattern_int.h"

#include <string.h>

#define MAX_DEPTH		1000	/* of parentheses */
#define MAX_REPEAT		1000	/* also of one in another */

typedef enum Kind
{
	NODE_SET,
	NODE_ASSERT,
	NODE_CAT,
	NODE_ALT,
	NODE_REPEAT
} Kind;

typedef struct Node Node;

struct Node
{
	Kind		kind;
	KPAssert	assert;
	int			min;
	int			max;			/* -1: no bound */
	KPSet		set;
	Node	   *child;			/* the first, or the only one */
	Node	   *last_child;
	Node	   *next;			/* the parent's next one */
};

void
kp_fail(KPParser *p, const char *problem)
{
	p->problem = problem;
	longjmp(p->failed, 1);
}

static void *
get_memory(KPParser *p, size_t size)
{
	void	   *memory = karena_alloc(p->arena, size);

	if (memory == NULL)
		kp_fail(p, NULL);
	return memory;
}

static const KPSet all_chars = {{UINT64_MAX, UINT64_MAX}};

/* ---- the tree ---- */

static Node *
new_node(KPParser *p, Kind kind)
{
	Node	   *node = get_memory(p, sizeof(Node));

	memset(node, 0, sizeof(*node));
	node->kind = kind;
	return node;
}

static void
add_child(Node *parent, Node *child)
{
	if (parent->child == NULL)
		parent->child = child;
	else
		parent->last_child->next = child;
	parent->last_child = child;
}

static Node *
set_node(KPParser *p, const KPSet *set)
{
	Node	   *node = new_node(p, NODE_SET);

	node->set = *set;
	return node;
}

static Node *
literal(KPParser *p, int32_t rune)
{
	KPSet		set = {{0, 0}};

	kp_set_runes(&set, rune, rune, p->flags);
	return set_node(p, &set);
}

static Node *
assertion(KPParser *p, KPAssert assert)
{
	Node	   *node = new_node(p, NODE_ASSERT);

	node->assert = assert;
	p->program->asserts = true;
	return node;
}

/* ---- repetition ---- */

/* A number without leading zeros; too large ones become -1.  False: none. */
static bool
repeat_number(const char **at, const char *end, int *number)
{
	const char *begin = *at;
	long		value = 0;

	while (*at < end && **at >= '0' && **at <= '9')
	{
		if (value >= 0)
			value = value * 10 + (**at - '0');
		if (value > MAX_REPEAT)
			value = -1;
		(*at)++;
	}
	*number = (int) value;
	return *at > begin && (*at - begin == 1 || *begin != '0');
}

/* {2}, {2,}, {2,3}; false: the brace is a character like others, and nothing was read. */
static bool
repeat_bounds(KPParser *p, int *min, int *max)
{
	const char *at = p->at + 1;

	if (!repeat_number(&at, p->end, min))
		return false;
	*max = *min;
	if (at < p->end && *at == ',')
	{
		at++;
		if (at < p->end && *at == '}')
		{
			*max = -1;
			if (*min < 0)
				kp_fail(p, "invalid repeat count");
		}
		else if (!repeat_number(&at, p->end, max))
			return false;
		else if (*max < 0)
			*min = -1;
	}
	if (at >= p->end || *at != '}')
		return false;
	if (*min < 0 || (*max >= 0 && *min > *max))
		kp_fail(p, "invalid repeat count");
	p->at = at + 1;
	return true;
}

/* Counts that stand in one another may not give more than "left" together. */
static bool
repeats_are_few(const Node *node, int left)
{
	if (node->kind == NODE_REPEAT)
	{
		int			m = node->max >= 0 ? node->max : node->min;

		if (node->max == 0)
			return true;
		if (m > left)
			return false;
		if (m > 1)
			left /= m;
	}
	for (const Node *child = node->child; child != NULL; child = child->next)
		if (!repeats_are_few(child, left))
			return false;
	return true;
}

static Node *
repetition(KPParser *p, Node *node, int min, int max, bool counted, bool doubled)
{
	Node	   *repeat;

	(void) kp_accept(p, "?");		/* reluctant: the same names */
	if (doubled)
		kp_fail(p, "invalid nested repetition operator");
	if (node == NULL)
		kp_fail(p, "missing argument to repetition operator");
	repeat = new_node(p, NODE_REPEAT);
	repeat->min = min;
	repeat->max = max;
	repeat->child = repeat->last_child = node;
	if (counted && (min >= 2 || max >= 2) && !repeats_are_few(repeat, MAX_REPEAT))
		kp_fail(p, "invalid repeat count");
	return repeat;
}

/* ---- groups and flags ---- */

static void
group_name(KPParser *p)
{
	const char *end = memchr(p->at, '>', (size_t) (p->end - p->at));
	KPName	   *name;

	if (end == NULL || end == p->at)
		kp_fail(p, "invalid named capture");
	for (const char *c = p->at; c < end; c++)
		if (!kp_is_word((unsigned char) *c))
			kp_fail(p, "invalid named capture");
	for (name = p->names; name != NULL; name = name->next)
		if (name->len == end - p->at && memcmp(name->data, p->at, (size_t) name->len) == 0)
			kp_fail(p, "duplicate capture group name");
	name = get_memory(p, sizeof(KPName));
	*name = (KPName)
	{
		p->names, p->at, (int32_t) (end - p->at)
	};
	p->names = name;
	p->at = end + 1;
}

/* (?i) or (?i:, from the i on; true: a group begins.  *flags: as they are then. */
static bool
read_flags(KPParser *p, int *flags)
{
	bool		off = false;
	bool		any = false;

	*flags = p->flags;
	while (kp_more(p))
	{
		int32_t		c = kp_next_rune(p);

		if (c == 'i' || c == 'm' || c == 's' || c == 'U')
		{
			int			flag = c == 'i' ? KP_FLAG_FOLD : KP_FLAG_OTHER;

			*flags = off ? *flags & ~flag : *flags | flag;
			any = true;
		}
		else if (c == '-' && !off)
		{
			off = true;
			any = false;
		}
		else if ((c == ':' || c == ')') && (any || !off))
			return c == ':';
		else
			break;
	}
	kp_fail(p, "missing or invalid flags of a group");
}

/* ---- the grammar ---- */

static Node *parse_alternatives(KPParser *p);

/* Behind the opening parenthesis and its flags. */
static Node *
parse_group(KPParser *p, int outer_flags)
{
	Node	   *node;

	if (++p->depth > MAX_DEPTH)
		kp_fail(p, "expression nests too deeply");
	node = parse_alternatives(p);
	if (!kp_accept(p, ")"))
		kp_fail(p, "missing closing )");
	p->depth--;
	p->flags = outer_flags;
	return node;
}

/* NULL: it was only flags. */
static Node *
parse_parenthesis(KPParser *p)
{
	int			outer_flags = p->flags;
	int			flags;

	if (kp_accept(p, "(?P<") || kp_accept(p, "(?<"))
		group_name(p);
	else if (kp_accept(p, "(?"))
	{
		bool		group = read_flags(p, &flags);

		p->flags = flags;
		if (!group)
			return NULL;
	}
	else
		p->at++;
	return parse_group(p, outer_flags);
}

/* \Q...\E: each character for itself. */
static void
parse_quoted(KPParser *p, Node *cat, Node **last)
{
	while (kp_more(p) && !kp_accept(p, "\\E"))
	{
		Node	   *node = literal(p, kp_next_rune(p));

		if (*last != NULL)
			add_child(cat, *last);
		*last = node;
	}
}

static Node *
parse_backslash(KPParser *p)
{
	KPSet		set = {{0, 0}};

	if (kp_accept(p, "\\A"))
		return assertion(p, KP_BEGIN);
	if (kp_accept(p, "\\z"))
		return assertion(p, KP_END);
	if (kp_accept(p, "\\b"))
		return assertion(p, KP_WORD_BOUNDARY);
	if (kp_accept(p, "\\B"))
		return assertion(p, KP_NO_WORD_BOUNDARY);
	if (kp_unicode_class(p, &set) || kp_perl_class(p, &set))
		return set_node(p, &set);
	return literal(p, kp_escape(p));
}

/* What one of the operators ?, *, + and {} repeats is not yet in "cat", but in "last". */
static Node *
parse_sequence(KPParser *p)
{
	Node	   *cat = new_node(p, NODE_CAT);
	Node	   *last = NULL;
	bool		was_repeat = false;

	while (kp_more(p) && *p->at != '|' && *p->at != ')')
	{
		bool		repeat = false;
		Node	   *node = NULL;
		KPSet		set;
		int			min = 0;
		int			max = -1;

		switch (*p->at)
		{
			case '(':
				node = parse_parenthesis(p);
				break;
			case '^':
				p->at++;
				node = assertion(p, KP_BEGIN);
				break;
			case '$':
				p->at++;
				node = assertion(p, KP_END);
				break;
			case '.':
				p->at++;
				node = set_node(p, &all_chars);
				break;
			case '[':
				set = kp_bracket_class(p);
				node = set_node(p, &set);
				break;
			case '?':
			case '*':
			case '+':
				if (*p->at == '?')
					max = 1;
				else if (*p->at == '+')
					min = 1;
				p->at++;
				last = repetition(p, last, min, max, false, was_repeat);
				repeat = true;
				break;
			case '{':
				/* RE2/J takes the brace for a repetition even where it is none */
				if (repeat_bounds(p, &min, &max))
					last = repetition(p, last, min, max, true, was_repeat);
				else
					node = literal(p, kp_next_rune(p));
				repeat = true;
				break;
			case '\\':
				if (kp_accept(p, "\\Q"))
					parse_quoted(p, cat, &last);
				else
					node = parse_backslash(p);
				break;
			default:
				node = literal(p, kp_next_rune(p));
				break;
		}
		was_repeat = repeat;
		if (node != NULL)
		{
			if (last != NULL)
				add_child(cat, last);
			last = node;
		}
	}
	if (last != NULL)
		add_child(cat, last);
	return cat;
}

static Node *
parse_alternatives(KPParser *p)
{
	Node	   *alt = new_node(p, NODE_ALT);

	do
		add_child(alt, parse_sequence(p));
	while (kp_accept(p, "|"));
	return alt->child == alt->last_child ? alt->child : alt;
}

/* ---- the program ---- */

static uint16_t
add_inst(KPParser *p, KPOp op, uint16_t x, uint16_t y)
{
	KPProgram  *program = p->program;

	if (program->count == KPATTERN_MAX_INSTS)
		kp_fail(p, "it is too large");
	program->insts[program->count] = (KPInst)
	{
		.op = (uint8_t) op,.x = x,.y = y
	};
	return (uint16_t) program->count++;
}

static uint16_t emit(KPParser *p, const Node *node, uint16_t next);

/* Children in order, from the last one on: each must know where to go on. */
static uint16_t
emit_children(KPParser *p, const Node *child, uint16_t next)
{
	int32_t		n = 0;
	const Node **children;

	for (const Node *c = child; c != NULL; c = c->next)
		n++;
	children = get_memory(p, (size_t) (n + 1) * sizeof(Node *));
	n = 0;
	for (const Node *c = child; c != NULL; c = c->next)
		children[n++] = c;
	while (n > 0)
		next = emit(p, children[--n], next);
	return next;
}

static uint16_t
emit_repeat(KPParser *p, const Node *node, uint16_t next)
{
	const Node *body = node->child;
	int			copies = node->min;

	if (node->max < 0)
	{
		uint16_t	again = add_inst(p, KP_SPLIT, 0, next);

		p->program->insts[again].x = emit(p, body, again);
		if (copies == 0)
			return again;
		next = p->program->insts[again].x;
		copies--;
	}
	else
	{
		uint16_t	end = next;

		for (int i = node->min; i < node->max; i++)
			next = add_inst(p, KP_SPLIT, emit(p, body, next), end);
	}
	for (int i = 0; i < copies; i++)
		next = emit(p, body, next);
	return next;
}

static uint16_t
emit(KPParser *p, const Node *node, uint16_t next)
{
	uint16_t	at = next;

	/* also of what repeats nothing there is no endless amount */
	if (++p->emitted > 16 * KPATTERN_MAX_INSTS)
		kp_fail(p, "it is too large");
	switch (node->kind)
	{
		case NODE_SET:
			at = add_inst(p, KP_CHAR, next, 0);
			p->program->insts[at].set = node->set;
			break;
		case NODE_ASSERT:
			at = add_inst(p, KP_ASSERT, next, 0);
			p->program->insts[at].assert = (uint8_t) node->assert;
			break;
		case NODE_CAT:
			at = emit_children(p, node->child, next);
			break;
		case NODE_ALT:
			at = emit(p, node->child, next);
			for (const Node *child = node->child->next; child != NULL; child = child->next)
				at = add_inst(p, KP_SPLIT, at, emit(p, child, next));
			break;
		case NODE_REPEAT:
			at = emit_repeat(p, node, next);
			break;
	}
	return at;
}

bool
kpattern_parse(KStr text, KArena *arena, KPProgram *program, const char **problem)
{
	KPParser		p = {.at = text.data,.end = text.data + text.len,.arena = arena,
		.program = program};
	Node	   *root;

	*problem = NULL;
	memset(program, 0, sizeof(*program));
	if (text.len < 0 || text.len > KPATTERN_MAX_LEN)
	{
		*problem = "it is too long";
		return false;
	}
	if (setjmp(p.failed) != 0)
	{
		*problem = p.problem;
		return false;
	}
	program->insts = get_memory(&p, KPATTERN_MAX_INSTS * sizeof(KPInst));
	root = parse_alternatives(&p);
	if (kp_more(&p))
		kp_fail(&p, "unexpected )");
	program->start = emit(&p, root, add_inst(&p, KP_MATCH, 0, 0));
	return true;
}
