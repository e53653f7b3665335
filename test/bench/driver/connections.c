/*
 * connections.c
 *		Many connections: each asks ApiVersions and Metadata, then all are idle until a line comes
 *		from standard input, then each asks Metadata once more, all at the same time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"

#define API_VERSIONS	18
#define AT_ONCE			256		/* connections being made */
#define GIVE_UP			60		/* seconds without any answer */

typedef struct Connection
{
	int			fd;
	int			answers;		/* still to come */
	size_t		received;
	char		data[16384];
} Connection;

static Histogram answer_hist;
static int64_t asked;			/* when all were asked for the last time; 0: before that */

/* A whole answer has come: it is checked, and the next request is sent. */
static void
connection_answered(Connection *connection, Buffer *answer)
{
	Buffer		request = {0};

	connection->answers--;
	if (asked == 0 && connection->answers == 1)
	{
		if (get_number(answer, 4) != 1 || get_number(answer, 2) != 0)
			fail("ApiVersions was refused");
		metadata_request(&request, 2);
		if (send(connection->fd, request.data, request.length, MSG_NOSIGNAL) < 0)
			fail("cannot send: %s", strerror(errno));
		free(request.data);
	}
	else if (!metadata_answered(answer, asked ? 3 : 2))
		fail("Metadata does not tell the topic's leaders");
	else if (asked)
		hist_add(&answer_hist, now_ns() - asked);
}

static void
connection_readable(Connection *connection)
{
	ssize_t		n = recv(connection->fd, connection->data + connection->received,
						 sizeof connection->data - connection->received, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		fail("connection lost: %s", n < 0 ? strerror(errno) : "closed by the server");
		connection->answers = 0;
		close(connection->fd);
		return;
	}
	connection->received += (size_t) n;
	if (connection->received >= 4)
	{
		Buffer		answer = {.data = connection->data,.length = connection->received};
		int64_t		length = get_number(&answer, 4);

		if (length < 4 || length > (int64_t) sizeof connection->data - 4)
			die("an answer of %ld bytes", (long) length);
		if (connection->received < (size_t) length + 4)
			return;
		connection->received = 0;
		connection_answered(connection, &answer);
	}
}

/* Waits until at most "rest" answers are outstanding. */
static void
serve(int epoll_fd, long *outstanding, long rest)
{
	struct epoll_event events[256];

	while (*outstanding > rest && errors == 0)
	{
		int			n = epoll_wait(epoll_fd, events, 256, GIVE_UP * 1000);

		if (n < 0 && errno != EINTR)
			die("epoll: %s", strerror(errno));
		if (n == 0)
			fail("no answer in %d s; %ld are outstanding", GIVE_UP, *outstanding);
		for (int i = 0; i < n; i++)
		{
			Connection *connection = events[i].data.ptr;
			int			before = connection->answers;

			connection_readable(connection);
			*outstanding -= before - connection->answers;
		}
	}
}

int
connections(void)
{
	int			n = (int) number_option("connections");
	Connection *all = calloc((size_t) n, sizeof *all);
	int			epoll_fd = epoll_create1(0);
	Buffer		request = {0};
	long		outstanding = 0;
	int64_t		began = now_ns();
	double		connecting;

	files_raise((size_t) n);
	if (all == NULL || epoll_fd < 0)
		die("out of memory");
	hist_init(&answer_hist);

	request_begin(&request, API_VERSIONS, 0, 1);
	request_end(&request);
	for (int i = 0; i < n && errors == 0; i++)
	{
		struct epoll_event event = {.events = EPOLLIN,.data.ptr = &all[i]};

		/* connect() waits: the queue of connections being made is the kernel's business. */
		all[i].fd = raw_connect(false);
		all[i].answers = 2;
		outstanding += 2;
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, all[i].fd, &event);
		if (send(all[i].fd, request.data, request.length, MSG_NOSIGNAL) < 0)
			fail("cannot send: %s", strerror(errno));
		serve(epoll_fd, &outstanding, AT_ONCE);
	}
	serve(epoll_fd, &outstanding, 0);
	connecting = (double) (now_ns() - began) / 1e9;
	if (errors == 0)
	{
		printf("ready\n");
		fflush(stdout);
		while (getchar() != '\n' && !feof(stdin))
			;
		metadata_request(&request, 3);
		asked = now_ns();
		for (int i = 0; i < n && errors == 0; i++)
		{
			all[i].answers = 1;
			outstanding++;
			if (send(all[i].fd, request.data, request.length, MSG_NOSIGNAL) < 0)
				fail("cannot send: %s", strerror(errno));
		}
		serve(epoll_fd, &outstanding, 0);
	}
	if (answer_hist.n != n && errors == 0)
		fail("%d connections, %ld answers", n, (long) answer_hist.n);
	printf("{\"connections\": %d, \"served\": %ld, \"connecting_s\": %.3f", n,
		   (long) answer_hist.n, connecting);
	hist_print("answer", &answer_hist);
	return finish();
}
