/*
 * fullshim.c
 *		A disk that is full when a test says so, for LD_PRELOAD.
 *
 * While the file named by FULLSHIM exists, writes that would make a file longer fail with ENOSPC,
 * if its path contains one of the control file's lines ("/pg_wal/", "/base/").  What has its blocks
 * already can be overwritten, as on a real file system.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) \
	static __typeof__(&name) real; \
	if (real == NULL) \
		real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)

/* Is there no room for bytes up to end?  end < 0: they come after the file's end or position. */
static int
is_full(int fd, off_t end, size_t length)
{
	const char *control = getenv("FULLSHIM");
	char		link[64];
	char		path[PATH_MAX];
	char		pattern[256];
	struct stat st;
	ssize_t		n;
	FILE	   *file;
	int			result = 0;
	int			save = errno;

	if (control == NULL || access(control, R_OK) != 0)
		goto out;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		goto out;
	if (end < 0)
	{
		end = (fcntl(fd, F_GETFL) & O_APPEND) ? st.st_size : lseek(fd, 0, SEEK_CUR);
		end += (off_t) length;
	}
	if (end <= st.st_size)
		goto out;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		goto out;
	path[n] = '\0';
	file = fopen(control, "re");
	if (file == NULL)
		goto out;
	while (!result && fgets(pattern, sizeof(pattern), file) != NULL)
	{
		pattern[strcspn(pattern, "\n")] = '\0';
		result = pattern[0] != '\0' && strstr(path, pattern) != NULL;
	}
	fclose(file);
out:
	errno = result ? ENOSPC : save;
	return result;
}

static size_t
iov_length(const struct iovec *iov, int n)
{
	size_t		length = 0;

	for (int i = 0; i < n; i++)
		length += iov[i].iov_len;
	return length;
}

ssize_t
write(int fd, const void *buf, size_t n)
{
	REAL(write);
	return is_full(fd, -1, n) ? -1 : real(fd, buf, n);
}

ssize_t
pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	REAL(pwrite);
	return is_full(fd, offset + (off_t) n, n) ? -1 : real(fd, buf, n, offset);
}

ssize_t
pwrite64(int fd, const void *buf, size_t n, off64_t offset)
{
	REAL(pwrite64);
	return is_full(fd, offset + (off_t) n, n) ? -1 : real(fd, buf, n, offset);
}

ssize_t
writev(int fd, const struct iovec *iov, int n)
{
	REAL(writev);
	return is_full(fd, -1, iov_length(iov, n)) ? -1 : real(fd, iov, n);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	REAL(pwritev);
	return is_full(fd, offset + (off_t) iov_length(iov, n), 0) ? -1 : real(fd, iov, n, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
	REAL(pwritev64);
	return is_full(fd, offset + (off_t) iov_length(iov, n), 0) ? -1 : real(fd, iov, n, offset);
}

ssize_t
pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	REAL(pwritev2);
	return is_full(fd, offset + (off_t) iov_length(iov, n), 0) ? -1 :
		real(fd, iov, n, offset, flags);
}

ssize_t
pwritev64v2(int fd, const struct iovec *iov, int n, off64_t offset, int flags)
{
	REAL(pwritev64v2);
	return is_full(fd, offset + (off_t) iov_length(iov, n), 0) ? -1 :
		real(fd, iov, n, offset, flags);
}

int
posix_fallocate(int fd, off_t offset, off_t length)
{
	REAL(posix_fallocate);
	return is_full(fd, offset + length, 0) ? ENOSPC : real(fd, offset, length);
}

int
posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	REAL(posix_fallocate64);
	return is_full(fd, offset + length, 0) ? ENOSPC : real(fd, offset, length);
}
