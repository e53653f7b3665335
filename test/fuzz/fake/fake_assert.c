/*
 * fake_assert.c
 *		How a fuzzer says that it has found something.
 */
#include "postgres.h"

#include <stdarg.h>

#include "fake.h"

void
fake_fail(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	fprintf(stderr, "FINDING: ");
	vfprintf(stderr, fmt, args);
	fprintf(stderr, "\n");
	va_end(args);
	abort();
}

#ifdef USE_ASSERT_CHECKING
void
ExceptionalCondition(const char *condition, const char *type, const char *file, int line)
{
	fake_fail("%s: %s, %s:%d", type, condition, file, line);
}
#endif
