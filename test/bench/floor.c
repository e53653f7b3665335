/*
 * floor.c
 *		What a record must cost a server that keeps it in Postgres' WAL and in a table's pages:
 *		each step that no such server can do without, alone, with nothing around it.
 *
 * floor DIRECTORY [RECORDS]
 *
 * Prints nanoseconds of CPU a record for values of 1 KB as the benchmark sends them, in batches of
 * 1 MB, plain and compressed with lz4.
 *
 * floor DIRECTORY cold
 *
 * Prints what it costs to send what is in no memory: through buffers with checked pages, page by
 * page and past the page cache, and straight from a file, as Kafka does; how fast one process does
 * it, and the server's CPU.
 *
 * floor DIRECTORY answers
 *
 * Prints how many small requests a second a server can answer that does nothing with them but to
 * flush what came together. See README.md for what both say about the goals.
 */
#include "c.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <lz4frame.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "port/pg_crc32c.h"
#include "storage/bufpage.h"
#include "storage/checksum.h"
#include "storage/checksum_impl.h"

/* Since Linux 6.14; headers may be older. */
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE	0x00000080
#endif

#define VALUE_SIZE		1024
#define BATCH			(1024 * 1024)	/* of values, before they are compressed */
#define MEMORY			(64 * 1024 * 1024)	/* that stands for WAL and shared buffers */
#define WAL_SEGMENT		(16 * 1024 * 1024)
#define WAL_SEGMENTS	16
#define RUN_PAGES		32
#define DIRECT_PAGES	64

/* as in the cell commit-64 */
#define CLIENTS			64
#define REQUEST_SIZE	120
#define ANSWER_SIZE		40
#define REQUEST_WAL		200
#define ANSWERS_SECONDS	3

typedef struct Batch
{
	const char *name;
	char	   *data;
	size_t		len;
	bool		compressed;
} Batch;

static const char *directory;
static long records = 2 * 1024 * 1024;
static char *memory;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

/* CPU seconds of this process: user and system. */
static double
cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int
open_file(const char *name, off_t size)
{
	char		path[MAXPGPATH];
	int			fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || unlink(path) < 0)
		die(path);
	if (size > 0 && (errno = posix_fallocate(fd, 0, size)) != 0)
		die("posix_fallocate");
	return fd;
}

/* A listening socket, and where it is to be reached. */
static int
listener_open(struct sockaddr_in *address)
{
	socklen_t	len = sizeof(*address);
	int			listener = socket(AF_INET, SOCK_STREAM, 0);

	*address = (struct sockaddr_in) {.sin_family = AF_INET};
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (listener < 0 || bind(listener, (struct sockaddr *) address, len) < 0 ||
		listen(listener, CLIENTS) < 0 ||
		getsockname(listener, (struct sockaddr *) address, &len) < 0)
		die("socket");
	return listener;
}

static int
connect_to(const struct sockaddr_in *address)
{
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (const struct sockaddr *) address, sizeof(*address)) < 0)
		die("connect");
	return fd;
}

/* A child sends batches; what they cost to be received. */
static void
receive(const Batch *batch, long batches)
{
	struct sockaddr_in address;
	int			listener = listener_open(&address);
	int			fd;
	pid_t		child;

	child = fork();
	if (child == 0)
	{
		fd = connect_to(&address);
		for (long i = 0; i < batches; i++)
		{
			for (size_t done = 0; done < batch->len;)
			{
				ssize_t		n = write(fd, batch->data + done, batch->len - done);

				if (n <= 0)
					die("write");
				done += n;
			}
		}
		_exit(0);
	}
	fd = accept(listener, NULL, NULL);
	for (size_t left = batches * batch->len; left > 0;)
	{
		ssize_t		n = read(fd, memory, Min(left, BATCH));

		if (n <= 0)
			die("read");
		left -= n;
	}
	close(fd);
	close(listener);
	waitpid(child, NULL, 0);
}

static void
checksum(const Batch *batch, long batches)
{
	volatile uint32 sum = 0;

	for (long i = 0; i < batches; i++)
		sum ^= crc32_iscsi((unsigned char *) batch->data, (int) batch->len, 0xFFFFFFFF);
}

/* The broker looks at each record, as Kafka's does. */
static void
decompress(const Batch *batch, long batches)
{
	for (long i = 0; i < batches && batch->compressed; i++)
	{
		LZ4F_dctx  *context;
		size_t		at = 0;
		size_t		more = 1;

		LZ4F_createDecompressionContext(&context, LZ4F_VERSION);
		while (more > 0)
		{
			size_t		in = batch->len - at;
			size_t		out = 64 * 1024;

			more = LZ4F_decompress(context, memory, &out, batch->data + at, &in, NULL);
			if (LZ4F_isError(more))
				die("LZ4F_decompress");
			at += in;
		}
		LZ4F_freeDecompressionContext(context);
	}
}

/* Into WAL buffers, with the record's checksum. */
static void
log_copy(const Batch *batch, long batches)
{
	volatile pg_crc32c sum;
	pg_crc32c	crc;
	size_t		at = 0;

	INIT_CRC32C(crc);
	for (long i = 0; i < batches; i++)
	{
		crc = crc32_iscsi((unsigned char *) batch->data, (int) batch->len, crc);
		if (at + batch->len > MEMORY)
			at = 0;
		memcpy(memory + at, batch->data, batch->len);
		at += batch->len;
	}
	sum = crc;
	(void) sum;
}

/* WAL that is recycled: files that have been written before; one flush a megabyte of values. */
static void
log_write(const Batch *batch, long batches)
{
	static int	fd[WAL_SEGMENTS];
	size_t		at = 0;

	for (int i = 0; i < WAL_SEGMENTS && fd[i] == 0; i++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "wal%d", i);
		fd[i] = open_file(name, 0);
		if (pwrite(fd[i], memory, WAL_SEGMENT, 0) != WAL_SEGMENT || fsync(fd[i]) < 0)
			die("pwrite");
	}
	for (long i = 0; i < batches; i++)
	{
		size_t		len = TYPEALIGN(8192, batch->len);
		int			segment;

		if (at % WAL_SEGMENT + len > WAL_SEGMENT)
			at = TYPEALIGN(WAL_SEGMENT, at);
		segment = (int) (at / WAL_SEGMENT % WAL_SEGMENTS);
		if (pwrite(fd[segment], memory + at % (MEMORY / 2), len,
				   at % WAL_SEGMENT) != (ssize_t) len ||
			fdatasync(fd[segment]) < 0)
			die("pwrite");
		at += len;
	}
}

/* Into pages, with their checksums. */
static void
page_copy(const Batch *batch, long batches)
{
	size_t		page = 0;

	for (long i = 0; i < batches; i++)
	{
		for (size_t done = 0; done < batch->len;)
		{
			char	   *at = memory + page * BLCKSZ;
			size_t		n = Min(batch->len - done, BLCKSZ - SizeOfPageHeaderData);

			memcpy(at + SizeOfPageHeaderData, batch->data + done, n);
			((PageHeader) at)->pd_upper = BLCKSZ;	/* pg_checksum_page() wants no new page */
			((PageHeader) at)->pd_checksum = pg_checksum_page(at, (BlockNumber) page);
			done += n;
			page = (page + 1) % (MEMORY / BLCKSZ);
		}
	}
}

/* Pages, many with a call, into a file that has room for them. */
static void
page_write(const Batch *batch, long batches)
{
	size_t		pages = (batch->len * batches + BLCKSZ - 1) / (BLCKSZ - SizeOfPageHeaderData);
	int			fd = open_file("pages", (off_t) pages * BLCKSZ);

	for (size_t page = 0; page < pages; page += RUN_PAGES)
	{
		struct iovec iov[RUN_PAGES];
		int			n = (int) Min(RUN_PAGES, pages - page);

		for (int i = 0; i < n; i++)
		{
			iov[i].iov_base = memory + (page + i) % (MEMORY / BLCKSZ) * BLCKSZ;
			iov[i].iov_len = BLCKSZ;
		}
		if (pwritev2(fd, iov, n, (off_t) page * BLCKSZ, RWF_DONTCACHE) != (ssize_t) n * BLCKSZ &&
			pwritev(fd, iov, n, (off_t) page * BLCKSZ) != (ssize_t) n * BLCKSZ)
			die("pwritev");
	}
	close(fd);
}

static const struct Step
{
	const char *name;
	void		(*run) (const Batch *batch, long batches);
	bool		also_log_only;	/* a server that writes each record once does it, too */
}			steps[] = {
	{"receive from a socket", receive, true},
	{"checksum of the batch", checksum, true},
	{"decompress", decompress, true},
	{"WAL: copy and checksum", log_copy, false},
	{"WAL: write, one flush a megabyte", log_write, false},
	{"pages: copy and checksum", page_copy, false},
	{"pages: write", page_write, true},
};

/* ---- answers ---- */

static volatile bool ending;

typedef struct Client
{
	pthread_t	thread;
	int			fd;
	long		answers;
} Client;

static void *
client_main(void *arg)
{
	Client	   *client = arg;
	char		bytes[REQUEST_SIZE] = {0};

	while (!ending)
	{
		if (send(client->fd, bytes, REQUEST_SIZE, 0) != REQUEST_SIZE ||
			recv(client->fd, bytes, ANSWER_SIZE, MSG_WAITALL) != ANSWER_SIZE)
			die("client");
		client->answers++;
	}
	return NULL;
}

/* Receives what is there, flushes as much as that needs, answers. */
static void
serve(const int *fds, int n, bool flush)
{
	int			epoll = epoll_create1(0);
	char		name[32];
	int			wal;
	off_t		at = 0;

	snprintf(name, sizeof(name), "wal.%d", (int) getpid());
	wal = open_file(name, 0);
	if (pwrite(wal, memory, WAL_SEGMENT, 0) != WAL_SEGMENT || fsync(wal) < 0)
		die("pwrite");
	for (int i = 0; i < n; i++)
	{
		struct epoll_event event = {.events = EPOLLIN,.data.fd = fds[i]};

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) < 0)
			die("epoll_ctl");
	}
	for (;;)
	{
		struct epoll_event events[CLIENTS];
		char		bytes[REQUEST_SIZE] = {0};
		int			ready = epoll_wait(epoll, events, CLIENTS, -1);
		size_t		len = TYPEALIGN(BLCKSZ, ready * REQUEST_WAL);

		for (int i = 0; i < ready; i++)
			if (recv(events[i].data.fd, bytes, REQUEST_SIZE, MSG_WAITALL) != REQUEST_SIZE)
				return;
		if (at + len > WAL_SEGMENT)
			at = 0;
		if (flush && (pwrite(wal, memory, len, at) != (ssize_t) len || fdatasync(wal) < 0))
			die("pwrite");
		at += len;
		for (int i = 0; i < ready; i++)
			if (send(events[i].data.fd, bytes, ANSWER_SIZE, MSG_NOSIGNAL) != ANSWER_SIZE)
				return;
	}
}

/* The rate with so many processes that share the clients. */
static double
answers(int processes, bool flush)
{
	static Client clients[CLIENTS];
	struct sockaddr_in address;
	int			listener = listener_open(&address);
	struct timespec duration = {.tv_sec = ANSWERS_SECONDS};
	int			fds[CLIENTS];
	int			on = 1;
	long		n = 0;

	for (int i = 0; i < CLIENTS; i++)
	{
		clients[i] = (Client) {.fd = connect_to(&address)};
		fds[i] = accept(listener, NULL, NULL);
		if (fds[i] < 0)
			die("accept");
		(void) setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void) setsockopt(clients[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
	for (int p = 0; p < processes; p++)
	{
		if (fork() == 0)
		{
			for (int i = 0; i < CLIENTS; i++)
				close(clients[i].fd);
			serve(fds + CLIENTS / processes * p, CLIENTS / processes, flush);
			_exit(0);
		}
	}
	ending = false;
	for (int i = 0; i < CLIENTS; i++)
		if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) != 0)
			die("pthread_create");
	nanosleep(&duration, NULL);
	ending = true;
	for (int i = 0; i < CLIENTS; i++)
	{
		pthread_join(clients[i].thread, NULL);
		n += clients[i].answers;
	}
	/* which ends the processes */
	for (int i = 0; i < CLIENTS; i++)
	{
		close(clients[i].fd);
		close(fds[i]);
	}
	close(listener);
	while (wait(NULL) > 0)
		;
	return (double) n / ANSWERS_SECONDS;
}

/* ---- cold: sending what is on the disk ---- */

static double
wall(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* A client that throws away what it gets. */
static void
swallow(const struct sockaddr_in *address)
{
	int			fd = connect_to(address);
	char	   *buffer = malloc(BATCH);

	while (recv(fd, buffer, BATCH, 0) > 0)
		;
	_exit(0);
}

static void
check_page(char *page, off_t block)
{
	if (pg_checksum_page(page, block) != ((PageHeader) page)->pd_checksum)
		die("checksum");
}

static void
send_buffer(int fd, const char *buffer)
{
	for (ssize_t n, sent = 0; sent < BATCH; sent += n)
	{
		n = send(fd, buffer + sent, BATCH - sent, 0);
		if (n <= 0)
			die("send");
	}
}

/* A megabyte at that place of the file. */
static void
send_through_buffers(int fd, int file, off_t at)
{
	char	   *buffer = memory + at % MEMORY;

	for (int i = 0; i < BATCH / BLCKSZ; i++)
	{
		char	   *page = buffer + i * BLCKSZ;

		if (pread(file, page, BLCKSZ, at + i * BLCKSZ) != BLCKSZ)
			die("pread");
		check_page(page, at / BLCKSZ + i);
	}
	send_buffer(fd, buffer);
}

/* As src/log/klog_readin.c: file is opened with O_DIRECT. */
static void
send_past_cache(int fd, int file, off_t at)
{
	char	   *read_to = memory;
	char	   *buffer = memory + BATCH + at % (MEMORY - BATCH);

	for (int i = 0; i < BATCH; i += DIRECT_PAGES * BLCKSZ)
	{
		if (pread(file, read_to, DIRECT_PAGES * BLCKSZ, at + i) != DIRECT_PAGES * BLCKSZ)
			die("pread");
		for (int k = 0; k < DIRECT_PAGES * BLCKSZ; k += BLCKSZ)
		{
			check_page(read_to + k, (at + i + k) / BLCKSZ);
			memcpy(buffer + i + k, read_to + k, BLCKSZ);
		}
	}
	send_buffer(fd, buffer);
}

static void
send_file(int fd, int file, off_t at)
{
	for (ssize_t n, sent = 0; sent < BATCH; sent += n)
	{
		n = sendfile(fd, file, &at, BATCH - sent);
		if (n <= 0)
			die("sendfile");
	}
}

static void
cold(const char *name, int file, void (*step) (int fd, int file, off_t at))
{
	struct sockaddr_in address;
	int			listener = listener_open(&address);
	pid_t		child = fork();
	double		used;
	double		began;
	int			fd;

	if (child == 0)
		swallow(&address);
	fd = accept(listener, NULL, NULL);
	if (fsync(file) < 0 || (errno = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED)) != 0)
		die("fsync");
	used = cpu();
	began = wall();
	for (off_t at = 0; at < (off_t) records * VALUE_SIZE; at += BATCH)
		step(fd, file, at);
	printf("%-34s %10.0f %10.0f\n", name, (cpu() - used) * 1e9 / records,
		   records / (wall() - began));
	close(fd);
	close(listener);
	waitpid(child, NULL, 0);
}

static void
cold_compare(void)
{
	int			file = open_file("cold", 0);
	char		again[32];
	int			direct;

	snprintf(again, sizeof(again), "/proc/self/fd/%d", file);
	direct = open(again, O_RDONLY | O_DIRECT);
	if (direct < 0)
		die("open");
	records = 1024 * 1024;
	for (off_t block = 0; block < records * VALUE_SIZE / BLCKSZ; block++)
	{
		char	   *page = memory;

		memset(page, (int) block, BLCKSZ);
		((PageHeader) page)->pd_checksum = pg_checksum_page(page, block);
		if (write(file, page, BLCKSZ) != BLCKSZ)
			die("write");
	}
	printf("%-34s %10s %10s\n", "1 KB records that are on the disk", "ns of CPU", "a second");
	for (int round = 0; round < 3; round++)
	{
		cold("pages through buffers, checked", file, send_through_buffers);
		cold("pages past the page cache, checked", direct, send_past_cache);
		cold("a file, sendfile", file, send_file);
	}
}

int
main(int argc, char **argv)
{
	Batch		batch[2] = {{"1 KB", NULL, BATCH, false}, {"1 KB, lz4", NULL, 0, true}};
	LZ4F_preferences_t as = {.frameInfo = {.blockMode = LZ4F_blockIndependent}};
	double		all[2] = {0};
	double		once[2] = {0};

	if (argc < 2)
	{
		fprintf(stderr, "usage: floor DIRECTORY [RECORDS | cold | answers]\n");
		return 2;
	}
	directory = argv[1];
	if (argc > 2)
		records = atol(argv[2]);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("mmap");
	(void) madvise(memory, MEMORY, MADV_HUGEPAGE);
	memset(memory, 1, MEMORY);
	if (argc > 2 && strcmp(argv[2], "cold") == 0)
	{
		cold_compare();
		return 0;
	}
	if (argc > 2 && strcmp(argv[2], "answers") == 0)
	{
		printf("%d clients, one request in flight each: answers a second\n", CLIENTS);
		for (int processes = 1; processes <= 2; processes++)
			printf("%d process%s %10.0f, with flushes %10.0f\n", processes,
				   processes > 1 ? "es" : "  ", answers(processes, false),
				   answers(processes, true));
		return 0;
	}

	/* text like the driver's, which lz4 makes about half as large */
	batch[0].data = malloc(BATCH + 256);
	for (size_t at = 0; at < BATCH;)
		at += sprintf(batch[0].data + at, "{\"%s\": %ld, \"n\": \"%08lx\"}, ",
					  random() % 2 ? "customer" : "delivered", random() % 65536, random());
	batch[1].data = malloc(LZ4F_compressFrameBound(BATCH, &as));
	batch[1].len = LZ4F_compressFrame(batch[1].data, LZ4F_compressFrameBound(BATCH, &as),
									  batch[0].data, BATCH, &as);
	printf("%-34s %10s %10s\n", "ns of CPU a record", batch[0].name, batch[1].name);
	for (int s = 0; s < (int) lengthof(steps); s++)
	{
		printf("%-34s", steps[s].name);
		for (int b = 0; b < (int) lengthof(batch); b++)
		{
			long		batches = records / (BATCH / VALUE_SIZE);
			double		ns;

			steps[s].run(&batch[b], Min(batches, 16));	/* touches what is touched first */
			ns = cpu();
			steps[s].run(&batch[b], batches);
			ns = (cpu() - ns) * 1e9 / (batches * (BATCH / VALUE_SIZE));
			printf(" %10.0f", ns);
			fflush(stdout);
			all[b] += ns;
			once[b] += steps[s].also_log_only ? ns : 0;
		}
		printf("\n");
	}
	printf("%-34s %10.0f %10.0f\n", "all of it", all[0], all[1]);
	printf("%-34s %10.0f %10.0f\n", "if it were written once, as a file", once[0], once[1]);
	printf("lz4 makes %d bytes of %d\n", (int) batch[1].len, BATCH);
	return 0;
}
