/*
 * kpattern_class.c
 *		Characters in a pattern's text, escape sequences, and classes of characters.
 *
 * Of characters beyond ASCII nothing is kept, as no topic's name has any, except that two of them
 * are equal to ASCII letters when case does not count.
 */
#include "group/kpattern_int.h"

#include <string.h>

#define MAX_RUNE		0x10FFFF

/* Equal to "k" and "s" when case does not count. */
#define KELVIN_SIGN		0x212A
#define LONG_S			0x017F

/* ---- sets ---- */

static void
set_add(KPSet *set, int c)
{
	set->bits[c >> 6] |= UINT64_C(1) << (c & 63);
}

static void
set_join(KPSet *set, const KPSet *other, bool negated)
{
	for (int i = 0; i < 2; i++)
		set->bits[i] |= negated ? ~other->bits[i] : other->bits[i];
}

/* lo to hi, both included; characters beyond ASCII are forgotten. */
static void
set_range(KPSet *set, int32_t lo, int32_t hi)
{
	for (int32_t c = lo; c <= hi && c < 128; c++)
		set_add(set, (int) c);
}

static void
set_fold(KPSet *set)
{
	for (int c = 'a'; c <= 'z'; c++)
	{
		if (kp_set_has(set, c))
			set_add(set, c - 'a' + 'A');
		else if (kp_set_has(set, c - 'a' + 'A'))
			set_add(set, c);
	}
}

void
kp_set_runes(KPSet *set, int32_t lo, int32_t hi, int flags)
{
	KPSet		range = {{0, 0}};

	set_range(&range, lo, hi);
	if ((flags & KP_FLAG_FOLD) != 0)
	{
		if (lo <= KELVIN_SIGN && hi >= KELVIN_SIGN)
			set_add(&range, 'k');
		if (lo <= LONG_S && hi >= LONG_S)
			set_add(&range, 's');
		set_fold(&range);
	}
	set_join(set, &range, false);
}

/* As "azAZ09": pairs of ends. */
static void
set_ranges(KPSet *set, const char *ranges)
{
	for (; *ranges != '\0'; ranges += 2)
		set_range(set, ranges[0], ranges[1]);
}

/* ---- characters of the pattern ---- */

bool
kp_looking_at(const KPParser *p, const char *text)
{
	size_t		len = strlen(text);

	return (size_t) (p->end - p->at) >= len && memcmp(p->at, text, len) == 0;
}

bool
kp_accept(KPParser *p, const char *text)
{
	if (!kp_looking_at(p, text))
		return false;
	p->at += strlen(text);
	return true;
}

/* The next character, which is there. */
int32_t
kp_next_rune(KPParser *p)
{
	static const int32_t smallest[] = {0, 0x80, 0x800, 0x10000};
	int32_t		rune = (unsigned char) *p->at++;
	int			n = rune < 0x80 ? 0 : (rune & 0xE0) == 0xC0 ? 1 : (rune & 0xF0) == 0xE0 ? 2 : 3;

	if (n == 0)
		return rune;
	if (rune < 0xC0 || rune > 0xF4 || p->end - p->at < n)
		kp_fail(p, "it is not valid UTF-8");
	rune &= 0x3F >> n;
	for (int i = 0; i < n; i++, p->at++)
	{
		if ((*p->at & 0xC0) != 0x80)
			kp_fail(p, "it is not valid UTF-8");
		rune = rune << 6 | (*p->at & 0x3F);
	}
	if (rune < smallest[n] || rune > MAX_RUNE || (rune >= 0xD800 && rune <= 0xDFFF))
		kp_fail(p, "it is not valid UTF-8");
	return rune;
}

static int
digit_value(int32_t c)
{
	if (c >= '0' && c <= '9')
		return (int) c - '0';
	if (c >= 'a' && c <= 'f')
		return (int) c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return (int) c - 'A' + 10;
	return 16;
}

bool
kp_is_word(int32_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* \x41 or \x{1F600}, behind the x */
static int32_t
hex_escape(KPParser *p)
{
	bool		braces = kp_accept(p, "{");
	int32_t		rune = 0;
	int			digits = 0;

	while (kp_more(p) && (braces || digits < 2) && digit_value(*p->at) < 16)
	{
		rune = rune * 16 + digit_value(*p->at++);
		digits++;
		if (rune > MAX_RUNE)
			kp_fail(p, "invalid escape sequence");
	}
	if (braces ? digits == 0 || !kp_accept(p, "}") : digits != 2)
		kp_fail(p, "invalid escape sequence");
	return rune;
}

/* The character that an escape sequence means, which begins at the backslash. */
int32_t
kp_escape(KPParser *p)
{
	int32_t		c;

	p->at++;
	if (!kp_more(p))
		kp_fail(p, "trailing backslash");
	c = kp_next_rune(p);
	switch (c)
	{
		case 'a':
			return '\a';
		case 'f':
			return '\f';
		case 'n':
			return '\n';
		case 'r':
			return '\r';
		case 't':
			return '\t';
		case 'v':
			return '\v';
		case 'x':
			return hex_escape(p);
		default:
			break;
	}
	/* one digit alone would be a back reference, unless it is 0 */
	if (c >= '0' && c <= '7' && (c == '0' || (kp_more(p) && *p->at >= '0' && *p->at <= '7')))
	{
		c -= '0';
		for (int i = 0; i < 2 && kp_more(p) && *p->at >= '0' && *p->at <= '7'; i++)
			c = c * 8 + (*p->at++ - '0');
		return c;
	}
	if (kp_is_word(c) && c != '_')
		kp_fail(p, "invalid escape sequence");
	return c;
}

/* ---- classes ---- */

/* \d and its kind; false: it is something else. */
bool
kp_perl_class(KPParser *p, KPSet *set)
{
	static const char *const ranges[] = {"09", "\t\n\f\r  ", "09AZaz__"};
	static const char letters[] = "dswDSW";
	const char *letter;
	KPSet		found = {{0, 0}};

	if (p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] == '\0' ||
		(letter = strchr(letters, p->at[1])) == NULL)
		return false;
	p->at += 2;
	set_ranges(&found, ranges[(letter - letters) % 3]);
	set_join(set, &found, letter - letters >= 3);
	return true;
}

typedef struct NamedClass
{
	const char *name;
	const char *ranges;
} NamedClass;

static const NamedClass posix_classes[] = {
	{"alnum", "09AZaz"}, {"alpha", "AZaz"}, {"ascii", "\001\177"}, {"blank", "\t\t  "},
	{"cntrl", "\001\037\177\177"}, {"digit", "09"}, {"graph", "!~"}, {"lower", "az"},
	{"print", " ~"}, {"punct", "!/:@[`{~"}, {"space", "\t\r  "}, {"upper", "AZ"},
	{"word", "09AZaz__"}, {"xdigit", "09AFaf"}
};

/* [:alpha:] within brackets */
static bool
posix_class(KPParser *p, KPSet *set)
{
	const char *name = p->at + 2;
	const char *end;
	KPSet		found = {{0, 0}};
	bool		negated;

	if (!kp_looking_at(p, "[:"))
		return false;
	for (end = name - 1; end + 1 < p->end && (end[0] != ':' || end[1] != ']'); end++)
		;
	if (end + 1 >= p->end)
		return false;
	negated = *name == '^';
	name += negated;
	for (size_t i = 0; i < sizeof(posix_classes) / sizeof(posix_classes[0]); i++)
	{
		size_t		len = strlen(posix_classes[i].name);

		if (end - name == (ptrdiff_t) len && memcmp(name, posix_classes[i].name, len) == 0)
		{
			p->at = end + 2;
			set_ranges(&found, posix_classes[i].ranges);
			if ((p->flags & KP_FLAG_FOLD) != 0)
				set_fold(&found);
			set_join(set, &found, negated);
			return true;
		}
	}
	kp_fail(p, "invalid character class range");
}

/* Of those that have characters which names of topics may have. */
static const NamedClass unicode_classes[] = {
	{"Any", "\001\177"}, {"L", "AZaz"}, {"Ll", "az"}, {"Lu", "AZ"}, {"N", "09"}, {"Nd", "09"},
	{"P", "-.__"}, {"Pc", "__"}, {"Pd", "--"}, {"Po", ".."}, {"Latin", "AZaz"},
	{"Common", "-.09__"}
};

/* The others: categories and scripts. */
static const char unicode_names[] =
	" C Cc Cf Co Cs Lm Lo Lt M Mc Me Mn Nl No Pe Pf Pi Ps S Sc Sk Sm So Z Zl Zp Zs "
	"Arabic Armenian Avestan Balinese Bamum Batak Bengali Bopomofo Brahmi Braille Buginese Buhid "
	"Canadian_Aboriginal Carian Cham Cherokee Coptic Cuneiform Cypriot Cyrillic Deseret "
	"Devanagari Egyptian_Hieroglyphs Ethiopic Georgian Glagolitic Gothic Greek Gujarati Gurmukhi "
	"Han Hangul Hanunoo Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi "
	"Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kayah_Li Kharoshthi Khmer Lao "
	"Lepcha Limbu Linear_B Lisu Lycian Lydian Malayalam Mandaic Meetei_Mayek Mongolian Myanmar "
	"New_Tai_Lue Nko Ogham Ol_Chiki Old_Italic Old_Persian Old_South_Arabian Old_Turkic Oriya "
	"Osmanya Phags_Pa Phoenician Rejang Runic Samaritan Saurashtra Shavian Sinhala Sundanese "
	"Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Tamil Telugu Thaana Thai "
	"Tibetan Tifinagh Ugaritic Unknown Vai Yi ";

static bool
is_unicode_name(const char *name, size_t len)
{
	for (const char *at = unicode_names; at[1] != '\0'; at = strchr(at + 1, ' '))
		if (strncmp(at + 1, name, len) == 0 && at[len + 1] == ' ')
			return true;
	return false;
}

/* \pL, \p{Greek} */
bool
kp_unicode_class(KPParser *p, KPSet *set)
{
	KPSet		found = {{0, 0}};
	const char *name;
	size_t		len;
	bool		negated;

	if (!kp_looking_at(p, "\\p") && !kp_looking_at(p, "\\P"))
		return false;
	negated = p->at[1] == 'P';
	p->at += 2;
	if (!kp_more(p))
		kp_fail(p, "invalid character class range");
	if (kp_accept(p, "{"))
	{
		const char *end = memchr(p->at, '}', (size_t) (p->end - p->at));

		if (end == NULL)
			kp_fail(p, "invalid character class range");
		if (kp_accept(p, "^"))
			negated = !negated;
		name = p->at;
		len = (size_t) (end - name);
		p->at = end + 1;
	}
	else
	{
		name = p->at;
		(void) kp_next_rune(p);
		len = (size_t) (p->at - name);
	}

	for (size_t i = 0; i < sizeof(unicode_classes) / sizeof(unicode_classes[0]); i++)
	{
		if (strlen(unicode_classes[i].name) != len ||
			memcmp(unicode_classes[i].name, name, len) != 0)
			continue;
		set_ranges(&found, unicode_classes[i].ranges);
		if ((p->flags & KP_FLAG_FOLD) != 0)
			set_fold(&found);
		set_join(set, &found, negated);
		return true;
	}
	if (len == 0 || memchr(name, ' ', len) != NULL || memchr(name, '\0', len) != NULL ||
		!is_unicode_name(name, len))
		kp_fail(p, "invalid character class range");
	set_join(set, &found, negated);
	return true;
}

static int32_t
class_rune(KPParser *p)
{
	if (!kp_more(p))
		kp_fail(p, "missing closing ]");
	return *p->at == '\\' ? kp_escape(p) : kp_next_rune(p);
}

/* [...], from its bracket on */
KPSet
kp_bracket_class(KPParser *p)
{
	KPSet		set = {{0, 0}};
	KPSet		result = {{0, 0}};
	bool		negated;
	int32_t		lo;
	int32_t		hi;

	p->at++;
	negated = kp_accept(p, "^");
	for (bool first = true; !kp_more(p) || *p->at != ']' || first; first = false)
	{
		if (!kp_more(p))
			kp_fail(p, "missing closing ]");
		if (posix_class(p, &set) || kp_unicode_class(p, &set) || kp_perl_class(p, &set))
			continue;
		lo = hi = class_rune(p);
		if (p->end - p->at >= 2 && p->at[0] == '-' && p->at[1] != ']')
		{
			p->at++;
			hi = class_rune(p);
			if (hi < lo)
				kp_fail(p, "invalid character class range");
		}
		kp_set_runes(&set, lo, hi, p->flags);
	}
	p->at++;
	set_join(&result, &set, negated);
	return result;
}
