/*
 * pattern_test.c
 *		Patterns of topics' names: what is one, what it matches, and that none takes long.
 *
 * What is expected here is what RE2/J 1.8 does, which Kafka uses.
 */
#include "tap.h"

#include "group/kpattern.h"

static _Alignas(16) uint8_t memory[2 << 20];

static KPattern *
compile(const char *text, size_t len, const char **problem)
{
	KArena		arena;

	karena_init(&arena, memory, sizeof(memory), sizeof(memory), NULL, NULL);
	return kpattern_compile((KStr) {text, (int32_t) len}, &arena, problem);
}

static bool
matches(KPattern *pattern, const char *name, uint64_t *work)
{
	return kpattern_matches(pattern, (KStr) {name, (int32_t) strlen(name)}, work);
}

/* Names, separated by blanks, of which the pattern matches those behind the "|". */
static void
matches_these(const char *text, const char *names)
{
	const char *problem;
	KPattern   *pattern = compile(text, strlen(text), &problem);
	bool		want = false;
	bool		good = pattern != NULL;
	uint64_t	work = 0;
	char		name[256];

	while (good && *names != '\0')
	{
		size_t		len = strcspn(names, " ");

		memcpy(name, names, len);
		name[len] = '\0';
		names += len + (names[len] == ' ');
		if (strcmp(name, "|") == 0)
			want = true;
		else if (matches(pattern, name, &work) != want)
		{
			note("%s %s", name, want ? "should match" : "should not match");
			good = false;
		}
	}
	ok(good, "%s", text);
}

static void
test_matches(void)
{
	matches_these("orders", "order orderss xorders | orders");
	matches_these("orders.*", "xorders | orders orders-eu orders.us");
	matches_these("orders\\.(eu|us)", "orders-eu orders.asia | orders.eu orders.us");
	matches_these("a|b|", "ab c | a b");
	matches_these("a{2,3}", "a aaaa | aa aaa");
	matches_these("a{2,}?", "a | aa aaaaaa");
	matches_these("(a{2}){0,2}b", "ab aaab | b aab aaaab");
	matches_these("a{0}b", "ab | b");
	matches_these("a{,2}", "a aa |");
	matches_these("^a$", "ab | a");
	matches_these("\\Aa\\z|b(?m:$)", "ab | a b");
	matches_these("a^b", "ab |");
	matches_these(".*\\beu\\b.*", "neu eus | eu orders-eu a.eu.b");
	matches_these("\\Beu.*", "eu |");
	matches_these("a\\Bb", "a.b | ab");
	matches_these("(?i)Orders-k", "orders_k | ORDERS-K orders-k");
	matches_these("(?i:a)b", "aB AB | ab Ab");
	matches_these("(?i)a(?-i)b", "aB | ab Ab");
	matches_these("(?i)\xE2\x84\xAA\xC5\xBF", "k | ks KS kS");
	matches_these("(?i)[^\xE2\x84\xAA]", "k K | a");
	matches_these("\xE2\x84\xAA|\xC3\xA9", "k K e");
	matches_these("[a-c]+", "d abd | a abc");
	matches_these("[^a-c]", "a c | d - 0");
	matches_these("[]a-]+", "b | a a- -");
	matches_these("[a\\-c]", "b | a - c");
	matches_these("[[:alpha:][:digit:]_]+", "a-b | a_1 Z9");
	matches_these("[[:^alpha:]]", "a Z | 1 _ . -");
	matches_these("\\w\\W\\d\\D", "a_1b a.bb | a.1b _-0_");
	matches_these("\\s|[\\d.]+", "a | 1.2 . 7");
	matches_these("\\pL\\PL\\p{Nd}\\p{^Nd}", "aa11 1.1. | a.1a Z-0_");
	matches_these("\\p{Greek}|\\P{Greek}x|[\\p{Lu}]", "x a | ax -x A");
	matches_these("(?i)\\p{Lu}", "1 | a A");
	matches_these("\\p{Po}\\p{Pd}\\p{Pc}\\p{Common}", ".-a_ | .-_. .-_7");
	matches_these("\\Qa.b\\E+", "axb a.bb. | a.b a.bbb");
	matches_these("a\\Q*+", "a aa |");
	matches_these("\\x41\\x{42}\\103\\0?\\.", "abc. | ABC.");
	matches_these("(?P<n>a)(?<m>b)", "a | ab");
	matches_these("(|a)*b(()|(a*)*)*", "a | b ab aab baa");
	matches_these("a(?i)*", "b | aa aaa");
	matches_these("(?U)a+?(?s).", "a | aa ab a.");
}

static void
test_refused(void)
{
	static const char *const texts[] = {
		"(", ")", "(a", "a)", "[", "[a", "[b-a]", "[[:foo:]]", "*", "a**", "a*+", "a{2}{3}", "a|*",
		"(*)", "a{1001}", "a{2,1}", "(a{100}){100}", "{2}", "{*", "\\", "\\8", "\\1", "\\q", "\\Z",
		"\\C", "\\x", "\\x{}", "\\x{110000}", "\\p{Foo}", "\\p", "\\p{L u}", "\\p{}", "\\p{L",
		"(?=a)", "(?!a)", "(?<=a)", "(?>a)", "(?P=n)", "(?P<n>a)(?P<n>b)", "(?P<>a)", "(?P<n",
		"[a-\\d]", "(?x)a", "(?", "(?-)", "(?i-)", "\xC3", "\xC0\xAF", "\xED\xA0\x80", "\xFF", "[\\d-z",
		"a{99999999999}"
	};
	const char *problem;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		ok(compile(texts[i], strlen(texts[i]), &problem) == NULL && problem != NULL,
		   "refused: %s", texts[i][0] < 0 ? "bytes that are not UTF-8" : texts[i]);
}

/* ---- bounds ---- */

static char text[KPATTERN_MAX_LEN + 2];

static void
fill(const char *piece)
{
	size_t		len = strlen(piece);

	memset(text, 0, sizeof(text));
	for (size_t at = 0; at + len <= KPATTERN_MAX_LEN; at += len)
		memcpy(text + at, piece, len);
}

static void
test_bounds(void)
{
	static const char *const bad[] = {
		"(a*)*(a*)*(a*)*b", "(a|a)*(a|aa)*(a?){300}c", "(.*)(.*)(.*)(.*)(.*)(.*)(.*)x",
		"(a|b|ab|ba|aab|bba)*(.?){400}a{400}c", "((a{0,10}){0,10}){0,10}x"
	};
	char		name[250];
	const char *problem;
	KPattern   *pattern;

	for (int i = 0; i < 249; i++)
		name[i] = i % 7 == 3 ? 'b' : 'a';
	name[249] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		uint64_t	work = 0;

		pattern = compile(bad[i], strlen(bad[i]), &problem);
		ok(pattern != NULL && !matches(pattern, name, &work) &&
		   work < UINT64_C(250) * 3 * KPATTERN_MAX_INSTS, "not much work: %s", bad[i]);
		note("%llu steps", (unsigned long long) work);
	}

	fill("a");
	ok(compile(text, KPATTERN_MAX_LEN, &problem) == NULL, "too many states");
	text[KPATTERN_MAX_LEN] = 'a';
	ok(compile(text, KPATTERN_MAX_LEN + 1, &problem) == NULL, "too long");
	fill("(");
	ok(compile(text, KPATTERN_MAX_LEN, &problem) == NULL, "too deep");
	fill("(){1000}");
	ok(compile(text, KPATTERN_MAX_LEN, &problem) == NULL, "too much of nothing");
	fill("[^-a]|");
	pattern = compile(text, 682 * 6, &problem);
	ok(pattern != NULL, "many alternatives");
	ok(pattern != NULL && matches(pattern, "b", &(uint64_t) {0}), "of which one matches");
}

/* More states than there is room for: they are forgotten, and found again. */
static void
test_many_states(void)
{
	const char *problem;
	KPattern   *pattern = compile("(a|b)*a(a|b){12}", 16, &problem);
	uint64_t	work = 0;
	bool		good = pattern != NULL;
	char		name[41];

	for (uint32_t seed = 1; good && seed < 3000; seed++)
	{
		uint64_t	bits = seed * UINT64_C(6364136223846793005);

		for (int i = 0; i < 40; i++)
			name[i] = bits >> (i + 20) & 1 ? 'a' : 'b';
		name[40] = '\0';
		good = matches(pattern, name, &work) == (name[27] == 'a');
	}
	ok(good, "4,096 states in room for 512");
}

static void
test_memory(void)
{
	const char *problem = "";
	KArena		arena;
	bool		good = true;

	for (size_t size = 0; good && size < 200000; size += 1009)
	{
		karena_init(&arena, memory, size, size, NULL, NULL);
		good = kpattern_compile((KStr) {"(a|b)*c{3}", 10}, &arena, &problem) == NULL &&
			problem == NULL;
	}
	ok(good, "no memory is no problem of the pattern");
}

int
main(void)
{
	test_matches();
	test_refused();
	test_bounds();
	test_many_states();
	test_memory();
	return done_testing();
}
