/*
 * powerloss.c
 *		A disk that forgets: loaded with LD_PRELOAD into the server, it keeps beside the data
 *		directory what a disk would have if the power went now, that is only what was fsynced.
 *
 * POWERLOSS_ROOT is the data directory, POWERLOSS_DISK the copy, which begins as an exact one.
 * fsync and fdatasync of a file replace its copy, as a whole; names (creation of directories,
 * renames, removals) take effect at once, but a file that was never fsynced has no copy.
 * POWERLOSS_STATE is a file with two counters: how often something was fsynced, and after how many
 * times the disk stops: from then on every fsync hangs, until somebody kills the server.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct State
{
	_Atomic unsigned long count;
	_Atomic unsigned long stop_after;	/* 0: never */
} State;

static State *state;
static const char *root;
static const char *disk;
static const char *state_file;

static int	(*real_rename) (const char *, const char *);
static int	(*real_unlink) (const char *);
static int	(*real_mkdir) (const char *, mode_t);
static int	(*real_rmdir) (const char *);
static int	(*real_link) (const char *, const char *);

__attribute__((constructor))
static void
init(void)
{
	const char *file = getenv("POWERLOSS_STATE");
	int			fd;

	real_rename = dlsym(RTLD_NEXT, "rename");
	real_unlink = dlsym(RTLD_NEXT, "unlink");
	real_mkdir = dlsym(RTLD_NEXT, "mkdir");
	real_rmdir = dlsym(RTLD_NEXT, "rmdir");
	real_link = dlsym(RTLD_NEXT, "link");
	root = getenv("POWERLOSS_ROOT");
	disk = getenv("POWERLOSS_DISK");

	/* copies: a server that shows its doings in ps writes over its environment */
	root = root ? strdup(root) : NULL;
	disk = disk ? strdup(disk) : NULL;
	state_file = file ? strdup(file) : NULL;
	if (!root || !disk || !file || (fd = open(file, O_RDWR)) < 0)
	{
		root = NULL;
		return;
	}
	state = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (state == MAP_FAILED)
		abort();
}

/* The copy's name of a file in the data directory; false: it is somewhere else. */
static int
copy_name(const char *path, char *out)
{
	char		absolute[PATH_MAX];
	size_t		len = root ? strlen(root) : 0;

	if (!root)
		return 0;
	if (path[0] != '/')
	{
		size_t		n;

		if (!getcwd(absolute, sizeof(absolute)))
			return 0;
		n = strlen(absolute);
		if (snprintf(absolute + n, sizeof(absolute) - n, "/%s", path) >=
			(int) (sizeof(absolute) - n))
			return 0;
		path = absolute;
	}
	if (strncmp(path, root, len) != 0 || (path[len] != '/' && path[len] != '\0'))
		return 0;
	return snprintf(out, PATH_MAX, "%s%s", disk, path + len) < PATH_MAX;
}

static void
die(const char *what, const char *path)
{
	fprintf(stderr, "powerloss: %s \"%s\": %m\n", what, path);
	abort();
}

/*
 * One at a time changes the copy, together with what it is a copy of: else an older content of a
 * file, read a moment ago, could replace one that another process has synced meanwhile, as when a
 * WAL segment is renamed and synced by one process while another already writes to it.
 */
static int
lock_copy(void)
{
	int			fd = open(state_file, O_RDWR);

	if (fd < 0 || flock(fd, LOCK_EX) != 0)
		die("could not lock", state_file);
	return fd;
}

/* The file is on disk now, with all that it holds. */
static int
sync_file(int fd)
{
	char		link[64];
	char		path[PATH_MAX];
	char		copy[PATH_MAX];
	char		temporary[PATH_MAX + 32];
	struct stat st;
	ssize_t		n;
	int			in;
	int			out;
	int			lock;
	unsigned long count;

	if (!root)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -1;
	path[n] = '\0';
	if (!copy_name(path, copy) || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink == 0)
		return 0;
	count = atomic_fetch_add(&state->count, 1) + 1;
	if (state->stop_after != 0 && count > state->stop_after)
		for (;;)
			pause();
	lock = lock_copy();

	/* a name that another process has given it since then */
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		die("could not read", link);
	path[n] = '\0';
	if (!copy_name(path, copy) || fstat(fd, &st) != 0 || st.st_nlink == 0)
	{
		close(lock);
		return 0;
	}
	snprintf(temporary, sizeof(temporary), "%s.fsync%d", copy, (int) getpid());
	in = open(path, O_RDONLY);
	out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (in < 0 || out < 0)
		die("could not copy", copy);
	for (;;)
	{
		static _Thread_local char buf[256 * 1024];

		n = read(in, buf, sizeof(buf));
		if (n <= 0)
			break;
		if (write(out, buf, n) != n)
			die("could not write", temporary);
	}
	if (n < 0)
		die("could not read", path);
	close(in);
	close(out);
	if (real_rename(temporary, copy) != 0)
		die("could not rename", temporary);
	close(lock);
	return 0;
}

int
fsync(int fd)
{
	return sync_file(fd);
}

int
fdatasync(int fd)
{
	return sync_file(fd);
}

int
rename(const char *from, const char *to)
{
	char		copy_from[PATH_MAX];
	char		copy_to[PATH_MAX];
	int			lock = root ? lock_copy() : -1;
	int			rc = real_rename(from, to);
	int			saved = errno;

	if (rc == 0 && copy_name(from, copy_from) && copy_name(to, copy_to) &&
		real_rename(copy_from, copy_to) != 0)
	{
		/* never fsynced: on disk there is nothing by either name */
		if (errno != ENOENT)
			die("could not rename", copy_from);
		real_unlink(copy_to);
	}
	if (lock >= 0)
		close(lock);
	errno = saved;
	return rc;
}

int
link(const char *from, const char *to)
{
	char		copy_from[PATH_MAX];
	char		copy_to[PATH_MAX];
	int			lock = root ? lock_copy() : -1;
	int			rc = real_link(from, to);
	int			saved = errno;

	if (rc == 0 && copy_name(from, copy_from) && copy_name(to, copy_to))
		real_link(copy_from, copy_to);
	if (lock >= 0)
		close(lock);
	errno = saved;
	return rc;
}

int
unlink(const char *path)
{
	char		copy[PATH_MAX];
	int			lock = root ? lock_copy() : -1;
	int			rc = real_unlink(path);
	int			saved = errno;

	if (rc == 0 && copy_name(path, copy))
		real_unlink(copy);
	if (lock >= 0)
		close(lock);
	errno = saved;
	return rc;
}

int
mkdir(const char *path, mode_t mode)
{
	char		copy[PATH_MAX];
	int			rc = real_mkdir(path, mode);
	int			saved = errno;

	if (rc == 0 && copy_name(path, copy))
		real_mkdir(copy, mode);
	errno = saved;
	return rc;
}

int
rmdir(const char *path)
{
	char		copy[PATH_MAX];
	int			rc = real_rmdir(path);
	int			saved = errno;

	if (rc == 0 && copy_name(path, copy))
		real_rmdir(copy);
	errno = saved;
	return rc;
}
