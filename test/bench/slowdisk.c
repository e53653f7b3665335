/*
 * slowdisk.c
 *		A disk whose flush takes long, as in clouds, for LD_PRELOAD: fsync and fdatasync, and what
 *		else waits for the disk, take longer.
 *
 * SLOWDISK is the least and the greatest delay, in microseconds: "2000,3000". Delays are even
 * between these, and flushes of several threads or processes wait beside each other, as disks
 * behind a network serve them. Writes are not slowed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) \
	static __typeof__(&name) real; \
	if (real == NULL) \
		real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

static long least;
static long greatest;

__attribute__((constructor))
static void
init(void)
{
	const char *text = getenv("SLOWDISK");

	if (text == NULL || sscanf(text, "%ld,%ld", &least, &greatest) != 2 || least < 0 ||
		greatest < least || greatest > 1000000)
	{
		fputs("slowdisk: SLOWDISK must be two numbers of microseconds\n", stderr);
		_exit(1);
	}
}

static void
delay(void)
{
	static __thread uint32_t seed;
	int			save = errno;
	long		us;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	if (seed == 0)
		seed = (uint32_t) until.tv_nsec ^ (uint32_t) getpid() * 2654435761u;
	seed = seed * 1664525u + 1013904223u;
	us = least + (long) ((uint64_t) seed * (uint64_t) (greatest - least + 1) >> 32);
	until.tv_nsec += us * 1000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	errno = save;
}

int
fsync(int fd)
{
	REAL(fsync);
	delay();
	return real(fd);
}

int
fdatasync(int fd)
{
	REAL(fdatasync);
	delay();
	return real(fd);
}

int
msync(void *address, size_t length, int flags)
{
	REAL(msync);
	if (flags & MS_SYNC)
		delay();
	return real(address, length, flags);
}

/* Asking for writes to begin is no flush; waiting for them is. */
int
sync_file_range(int fd, off64_t offset, off64_t length, unsigned int flags)
{
	REAL(sync_file_range);
	if (flags & SYNC_FILE_RANGE_WAIT_AFTER)
		delay();
	return real(fd, offset, length, flags);
}
