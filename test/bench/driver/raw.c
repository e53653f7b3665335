/*
 * raw.c
 *		Kafka requests of our own making over plain sockets, where librdkafka would do more than is
 *		to be measured; and Metadata 1, which several verbs ask.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"

#define API_METADATA	3
#define MAX_ANSWER		(64 * 1024 * 1024)

/* A socket connected to the broker, or connecting to it. */
int
raw_connect(bool nonblocking)
{
	static struct addrinfo *address;
	int			on = 1;
	int			fd;

	if (address == NULL)
	{
		struct addrinfo hints = {.ai_family = AF_INET,.ai_socktype = SOCK_STREAM};
		char	   *host = strdup(text_option("broker"));
		char	   *port = strrchr(host, ':');

		if (port == NULL)
			die("no port in \"%s\"", host);
		*port++ = '\0';
		if (getaddrinfo(host, port, &hints, &address) != 0)
			die("no address: \"%s\"", host);
		free(host);
	}
	fd = socket(AF_INET, SOCK_STREAM | (nonblocking ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		die("no socket: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(fd, address->ai_addr, address->ai_addrlen) < 0 && errno != EINPROGRESS)
		die("no connection: %s", strerror(errno));
	return fd;
}

void
put_number(Buffer *buffer, int64_t number, int bytes)
{
	if (buffer->length + (size_t) bytes > buffer->room)
	{
		buffer->room = buffer->room * 2 + 256;
		buffer->data = realloc(buffer->data, buffer->room);
		if (buffer->data == NULL)
			die("out of memory");
	}
	for (int i = bytes - 1; i >= 0; i--)
		buffer->data[buffer->length++] = (char) (number >> (8 * i));
}

void
put_string(Buffer *buffer, const char *string)
{
	put_number(buffer, (int64_t) strlen(string), 2);
	while (*string)
		put_number(buffer, *string++, 1);
}

int64_t
get_number(Buffer *buffer, int bytes)
{
	int64_t		number;

	if (buffer->length - buffer->at < (size_t) bytes)
		die("an answer ends too early");
	number = (signed char) buffer->data[buffer->at++];
	for (int i = 1; i < bytes; i++)
		number = (int64_t) ((uint64_t) number << 8 | (unsigned char) buffer->data[buffer->at++]);
	return number;
}

void
get_skip(Buffer *buffer, size_t n)
{
	if (buffer->length - buffer->at < n)
		die("an answer ends too early");
	buffer->at += n;
}

static void
skip_string(Buffer *buffer)
{
	int64_t		length = get_number(buffer, 2);

	get_skip(buffer, length > 0 ? (size_t) length : 0);
}

void
request_begin(Buffer *buffer, int api, int version, int id)
{
	buffer->length = 0;
	put_number(buffer, 0, 4);
	put_number(buffer, api, 2);
	put_number(buffer, version, 2);
	put_number(buffer, id, 4);
	put_string(buffer, "kafka_pg-bench");
}

void
request_end(Buffer *buffer)
{
	size_t		length = buffer->length;

	buffer->length = 0;
	put_number(buffer, (int64_t) length - 4, 4);
	buffer->length = length;
}

void
metadata_request(Buffer *buffer, int id)
{
	request_begin(buffer, API_METADATA, 1, id);
	put_number(buffer, 1, 4);
	put_string(buffer, text_option("topic"));
	request_end(buffer);
}

bool
metadata_answered(Buffer *answer, int id)
{
	int64_t		n;

	if (get_number(answer, 4) != id)
		return false;
	for (n = get_number(answer, 4); n > 0; n--)
	{
		get_number(answer, 4);	/* node */
		skip_string(answer);	/* host */
		get_number(answer, 4);	/* port */
		skip_string(answer);	/* rack */
	}
	get_number(answer, 4);		/* controller */
	if (get_number(answer, 4) != 1 || get_number(answer, 2) != 0)
		return false;
	skip_string(answer);
	get_number(answer, 1);		/* is internal */
	n = get_number(answer, 4);
	if (n != (int64_t) number_option("partitions"))
		return false;
	for (; n > 0; n--)
	{
		if (get_number(answer, 2) != 0)
			return false;
		get_number(answer, 4);
		if (get_number(answer, 4) < 0)
			return false;
		for (int i = 0; i < 2; i++) /* replicas, in sync replicas */
			for (int64_t nodes = get_number(answer, 4); nodes > 0; nodes--)
				get_number(answer, 4);
	}
	return true;
}

static void
receive(int fd, char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		n = recv(fd, data, length, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("connection lost: %s", n < 0 ? strerror(errno) : "closed by the server");
		data += n;
		length -= (size_t) n;
	}
}

void
send_request(int fd, Buffer *request)
{
	if (send(fd, request->data, request->length, MSG_NOSIGNAL) != (ssize_t) request->length)
		die("cannot send: %s", strerror(errno));
}

void
receive_answer(int fd, Buffer *answer)
{
	char		prefix[4];
	Buffer		length = {.data = prefix,.length = 4};
	int64_t		n;

	receive(fd, prefix, sizeof prefix);
	n = get_number(&length, 4);
	if (n < 4 || n > MAX_ANSWER)
		die("an answer of %ld bytes", (long) n);
	if ((size_t) n > answer->room)
	{
		answer->room = (size_t) n;
		answer->data = realloc(answer->data, answer->room);
		if (answer->data == NULL)
			die("out of memory");
	}
	receive(fd, answer->data, (size_t) n);
	answer->length = (size_t) n;
	answer->at = 0;
}

void
round_trip(int fd, Buffer *request, Buffer *answer)
{
	send_request(fd, request);
	receive_answer(fd, answer);
}

void
files_raise(size_t n)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max < (rlim_t) n + 64)
		die("%zu connections need as many file descriptors: raise ulimit -n", n);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}
