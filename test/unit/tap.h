/*
 * tap.h
 *		Test results in the Test Anything Protocol, for programs that need no server.
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int	tap_run;
static int	tap_failed;

/* One test; what it is about in printf's way. Returns "passed", so that a caller can say more. */
__attribute__((format(printf, 2, 3), unused))
static bool
ok(bool passed, const char *format, ...)
{
	va_list		args;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_run);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	tap_failed += !passed;
	return passed;
}

/* A line for people, above all after a failed test. */
__attribute__((format(printf, 1, 2), unused))
static void
note(const char *format, ...)
{
	va_list		args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

__attribute__((unused))
static bool
is_int(int64_t got, int64_t want, const char *what)
{
	bool		passed = ok(got == want, "%s", what);

	if (!passed)
		note("got %lld, want %lld", (long long) got, (long long) want);
	return passed;
}

__attribute__((unused))
static bool
is_str(const char *got, const char *want, const char *what)
{
	bool		passed = ok(got && want ? strcmp(got, want) == 0 : got == want, "%s", what);

	if (!passed)
		note("got \"%s\", want \"%s\"", got ? got : "(null)", want ? want : "(null)");
	return passed;
}

__attribute__((unused))
static bool
is_bytes(const void *got, size_t got_len, const void *want, size_t want_len, const char *what)
{
	bool		passed = ok(got_len == want_len &&
							(want_len == 0 || memcmp(got, want, want_len) == 0), "%s", what);

	if (!passed)
	{
		for (int side = 0; side < 2; side++)
		{
			const uint8_t *p = side ? want : got;
			size_t		len = side ? want_len : got_len;

			printf("# %s (%zu):", side ? "want" : "got", len);
			for (size_t i = 0; i < len && i < 256; i++)
				printf(" %02x", p[i]);
			printf("\n");
		}
	}
	return passed;
}

/* The plan, and main()'s result. */
__attribute__((unused))
static int
done_testing(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed > 0;
}

#endif							/* TAP_H */
