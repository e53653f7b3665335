/*
 * measure.c
 *		Clock, histogram, errors, the values that are sent, and the line of JSON.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "driver.h"

#define HIST_BINS		(8 * 1000 * 1000)	/* microseconds: up to 8 s */

atomic_long acked;
atomic_long errors;
char	   *pool;
size_t		value_size;
int64_t		window_start;
int64_t		window_end;

static char first_error[512];
static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;

void
fail(const char *fmt,...)
{
	va_list		args;

	pthread_mutex_lock(&error_lock);
	if (atomic_fetch_add(&errors, 1) == 0)
	{
		va_start(args, fmt);
		vsnprintf(first_error, sizeof first_error, fmt, args);
		va_end(args);
		for (char *c = first_error; *c; c++)
			if (*c == '"' || *c == '\\' || (unsigned char) *c < ' ')
				*c = '\'';
	}
	pthread_mutex_unlock(&error_lock);
}

void
die(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	fputs("driver: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void
sleep_until(int64_t when)
{
	struct timespec ts = {.tv_sec = when / 1000000000,.tv_nsec = when % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

void
window_open(int64_t start)
{
	window_start = start + (int64_t) (number_option("warmup") * 1e9);
	window_end = window_start + (int64_t) (number_option("seconds") * 1e9);
}

void
hist_init(Histogram *hist)
{
	hist->bins = calloc(HIST_BINS, sizeof *hist->bins);
	if (hist->bins == NULL)
		die("out of memory");
}

void
hist_add(Histogram *hist, int64_t ns)
{
	long		us = ns < 0 ? 0 : ns / 1000;
	long		max = atomic_load_explicit(&hist->max, memory_order_relaxed);

	atomic_fetch_add_explicit(&hist->bins[us < HIST_BINS ? us : HIST_BINS - 1], 1,
							  memory_order_relaxed);
	atomic_fetch_add_explicit(&hist->n, 1, memory_order_relaxed);
	while (us > max && !atomic_compare_exchange_weak(&hist->max, &max, us))
		;
}

/* The least number of microseconds that a fraction q of all does not exceed. */
static long
hist_quantile(Histogram *hist, double q)
{
	long		wanted = (long) (q * hist->n);
	long		seen = 0;

	for (long us = 0; us < HIST_BINS; us++)
	{
		seen += hist->bins[us];
		if (seen > wanted)
			return us;
	}
	return hist->max;
}

void
hist_print(const char *name, Histogram *hist)
{
	printf(", \"%s_p50_us\": %ld, \"%s_p99_us\": %ld, \"%s_p999_us\": %ld, \"%s_max_us\": %ld",
		   name, hist_quantile(hist, 0.5), name, hist_quantile(hist, 0.99),
		   name, hist_quantile(hist, 0.999), name, (long) hist->max);
}

/*
 * Values like those of real topics: JSON with numbers and words, so that codecs find about as
 * much to do as in life (lz4 makes 1 KB values about two and a half times smaller).
 */
void
pool_make(void)
{
	static const char *words[] = {
		"checkout", "session", "warehouse", "refund", "price", "customer", "basket", "payment",
		"Frankfurt", "Lisbon", "express", "invoice", "pending", "delivered", "item", "stock",
	};
	uint64_t	seed = 88172645463325252ULL;

	value_size = (size_t) number_option("size");
	if (value_size < 16)
		die("size must be 16 at least");
	pool = malloc(POOL * value_size + 256);
	if (pool == NULL)
		die("out of memory");
	for (int i = 0; i < POOL; i++)
	{
		char	   *at = pool + i * value_size;
		char	   *end = at + value_size;

		at += snprintf(at, 256, "{\"id\": %d, \"ts\": 17%08d", i * 7919, i * 104729 % 100000000);
		while (at < end)
		{
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			at += snprintf(at, 256, ", \"%s\": {\"%s\": %u, \"n\": \"%08x\"}",
						   words[seed & 15], words[seed >> 4 & 15],
						   (unsigned) (seed >> 8 & 0xffff), (unsigned) (seed >> 24));
		}
		end[-1] = '}';
	}
}

static double
client_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int
finish(void)
{
	printf(", \"client_cpu_s\": %.3f, \"errors\": %ld", client_cpu(), (long) errors);
	if (errors)
		printf(", \"error\": \"%s\"", first_error);
	printf("}\n");
	return errors ? 1 : 0;
}
