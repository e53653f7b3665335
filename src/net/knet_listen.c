/*
 * knet_listen.c
 *	  Addresses, listening sockets, and accepting.
 *
 * Every loop has sockets of its own with SO_REUSEPORT, so the kernel spreads the
 * clients. The same option would let a second server of the same user share the
 * port without anybody noticing: the launcher therefore probes without it first.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "storage/fd.h"
#include "utils/memutils.h"

#include "net/knet_int.h"

#define KNET_MAX_LISTENERS 16
#define KNET_ACCEPTS_PER_GO 32
#define KNET_BACKLOG 1024
#define KNET_ACCEPT_RETRY_US INT64CONST(200000)
#define KNET_COMPLAIN_US INT64CONST(10000000)

typedef struct KNetListener
{
	KNetKind	kind;			/* first: epoll events point here */
	int			fd;
} KNetListener;

static KNetListener listeners[KNET_MAX_LISTENERS];
static int	nlisteners;
static bool accepting = true;
static KNetTimer accept_timer;
static int64 complained_us;

static void
knet_address_name(KNetAddress *address)
{
	char		host[INET6_ADDRSTRLEN] = "?";

	if (address->addr.ss_family == AF_INET)
	{
		struct sockaddr_in *in = (struct sockaddr_in *) &address->addr;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(address->name, sizeof(address->name), "%s:%d", host, ntohs(in->sin_port));
	}
	else if (address->addr.ss_family == AF_INET6)
	{
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) &address->addr;

		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(address->name, sizeof(address->name), "[%s]:%d", host, ntohs(in6->sin6_port));
	}
	else
		strlcpy(address->name, "?", sizeof(address->name));
}

bool
knet_address_is_loopback(const KNetAddress *address)
{
	if (address->addr.ss_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) &address->addr;

		return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
	}
	if (address->addr.ss_family == AF_INET6)
	{
		const struct in6_addr *in6 = &((const struct sockaddr_in6 *) &address->addr)->sin6_addr;

		return IN6_IS_ADDR_LOOPBACK(in6) ||
			(IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
	}
	return false;
}

/*
 * The addresses behind a list of names as in listen_addresses: separated by
 * commas, "*" for all. Asks the resolver, so it may block: not for a turn of the
 * loop. NULL with *error set (both palloc'd) when a name means nothing or the
 * list is empty.
 */
KNetAddress *
knet_listen_resolve(const char *names, int port, int *count, char **error)
{
	KNetAddress *addresses = palloc0(KNET_MAX_LISTENERS * sizeof(KNetAddress));
	char	   *list = pstrdup(names);
	char	   *save = NULL;
	char		service[16];

	*count = 0;
	*error = NULL;
	snprintf(service, sizeof(service), "%d", port);
	for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save))
	{
		struct addrinfo hints = {0};
		struct addrinfo *found = NULL;
		char	   *end;
		int			rc;

		while (*name == ' ' || *name == '\t')
			name++;
		for (end = name + strlen(name); end > name && (end[-1] == ' ' || end[-1] == '\t');)
			*--end = '\0';
		if (*name == '\0')
			continue;

		hints.ai_family = AF_UNSPEC;
		hints.ai_socktype = SOCK_STREAM;
		hints.ai_flags = AI_PASSIVE;
		rc = getaddrinfo(strcmp(name, "*") == 0 ? NULL : name, service, &hints, &found);
		if (rc != 0)
		{
			*error = psprintf("could not translate host name \"%s\" to address: %s",
							  name, gai_strerror(rc));
			return NULL;
		}
		for (struct addrinfo *ai = found; ai != NULL; ai = ai->ai_next)
		{
			bool		known = false;

			if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
				continue;
			for (int i = 0; i < *count; i++)
				known |= addresses[i].len == ai->ai_addrlen &&
					memcmp(&addresses[i].addr, ai->ai_addr, ai->ai_addrlen) == 0;
			if (known || *count == KNET_MAX_LISTENERS)
				continue;
			memcpy(&addresses[*count].addr, ai->ai_addr, ai->ai_addrlen);
			addresses[*count].len = ai->ai_addrlen;
			knet_address_name(&addresses[*count]);
			(*count)++;
		}
		freeaddrinfo(found);
	}
	pfree(list);
	if (*count == 0)
	{
		*error = pstrdup("the list of addresses is empty");
		return NULL;
	}
	return addresses;
}

/* A bound, listening socket, or -1 with errno and *error (palloc'd) set. */
static int
knet_listen_socket(const KNetAddress *address, bool shared_port, char **error)
{
	int			family = address->addr.ss_family;
	int			on = 1;
	int			save_errno;
	const char *step = "socket";
	int			fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0)
	{
		step = "setsockopt";
		if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
			(family != AF_INET6 ||
			 setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
			(!shared_port ||
			 setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0))
		{
			step = "bind";
			if (bind(fd, (const struct sockaddr *) &address->addr, address->len) == 0)
			{
				step = "listen";
				if (listen(fd, KNET_BACKLOG) == 0)
					return fd;
			}
		}
	}
	save_errno = errno;
	*error = psprintf("%s() for %s failed: %s", step, address->name, strerror(save_errno));
	if (fd >= 0)
		close(fd);
	errno = save_errno;
	return -1;
}

/*
 * Is the address free? Listens without SO_REUSEPORT for a moment, which no other
 * listener tolerates. A family that the system does not have is no error:
 * "localhost" may name ::1 where there is no IPv6; then *error is set and the
 * answer is true.
 */
bool
knet_listen_probe(const KNetAddress *address, char **error)
{
	int			fd = knet_listen_socket(address, false, error);

	if (fd < 0)
		return errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT;
	*error = NULL;
	close(fd);
	return true;
}

/* Ask epoll for new clients, or stop asking. */
static void
knet_listen_interest(bool on)
{
	accepting = on;
	for (int i = 0; i < nlisteners; i++)
	{
		struct epoll_event event = {0};

		event.events = on ? EPOLLIN : 0;
		event.data.ptr = &listeners[i];
		if (epoll_ctl(knet_loop.epoll_fd, EPOLL_CTL_MOD, listeners[i].fd, &event) < 0)
			ereport(LOG,
					(errcode_for_socket_access(),
					 errmsg("%s() failed: %m", "epoll_ctl")));
	}
}

/* Listen on the address in this loop. False with *error set (palloc'd). */
bool
knet_listen_open(const KNetAddress *address, char **error)
{
	struct epoll_event event = {0};
	KNetListener *listener = &listeners[nlisteners];

	if (nlisteners == KNET_MAX_LISTENERS)
	{
		*error = pstrdup("too many addresses to listen on");
		return false;
	}
	listener->kind = KNET_KIND_LISTENER;
	listener->fd = knet_listen_socket(address, true, error);
	if (listener->fd < 0)
		return false;
	event.events = EPOLLIN;
	event.data.ptr = listener;
	if (epoll_ctl(knet_loop.epoll_fd, EPOLL_CTL_ADD, listener->fd, &event) < 0)
	{
		*error = psprintf("%s() failed: %s", "epoll_ctl", strerror(errno));
		close(listener->fd);
		return false;
	}
	nlisteners++;
	return true;
}

void
knet_listen_close(void)
{
	knet_timer_clear(&accept_timer);
	for (int i = 0; i < nlisteners; i++)
		close(listeners[i].fd);
	nlisteners = 0;
}

/*
 * Let this process have descriptors for so many connections beside what the
 * server itself may open, as far as the system allows. Returns for how many
 * there are.
 */
int
knet_listen_raise_nofile(int connections)
{
	struct rlimit limit;
	rlim_t		base = max_safe_fds + 64;
	rlim_t		want = base + connections;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return connections;
	if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < want)
	{
		rlim_t		soft = limit.rlim_cur;

		limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? want : Min(want, limit.rlim_max);
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			limit.rlim_cur = soft;
		if (limit.rlim_cur < want)
			connections = limit.rlim_cur > base ? (int) (limit.rlim_cur - base) : 1;
	}
	knet_loop.max_conns = connections;
	return connections;
}

/* Complain, but not about every single client. */
static void
knet_listen_complain(const char *name, const char *why)
{
	if (complained_us != 0 && knet_loop.now_us - complained_us < KNET_COMPLAIN_US)
		return;
	complained_us = knet_loop.now_us;
	ereport(LOG,
			(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
			 errmsg("Kafka client %s refused: %s", name, why)));
}

static void
knet_listen_again(void *arg)
{
	if (!accepting)
		knet_listen_interest(true);
}

/* A descriptor is free again. */
void
knet_listen_conn_closed(void)
{
	if (!accepting && !knet_loop.draining)
	{
		knet_timer_clear(&accept_timer);
		knet_listen_interest(true);
	}
}

static void
knet_listen_admit(int fd, KNetAddress *address)
{
	const char *why;
	KNetPeer	peer = {{0}};
	uint16		port = 0;

	knet_address_name(address);
	if (address->addr.ss_family == AF_INET)
	{
		peer.bytes[10] = peer.bytes[11] = 0xff;
		memcpy(peer.bytes + 12, &((struct sockaddr_in *) &address->addr)->sin_addr, 4);
		port = ntohs(((struct sockaddr_in *) &address->addr)->sin_port);
	}
	else if (address->addr.ss_family == AF_INET6)
	{
		memcpy(peer.bytes, &((struct sockaddr_in6 *) &address->addr)->sin6_addr, 16);
		port = ntohs(((struct sockaddr_in6 *) &address->addr)->sin6_port);
	}

	if (knet_loop.nconns >= knet_loop.max_conns)
		why = "no file descriptors left";
	else if (knet_shared_admit(&peer, &why))
	{
		knet_conn_accept(fd, &peer, port, address->name);
		return;
	}
	knet_listen_complain(address->name, why);
	close(fd);
}

void
knet_listen_event(void *listener)
{
	int			listen_fd = ((KNetListener *) listener)->fd;

	for (int i = 0; i < KNET_ACCEPTS_PER_GO && accepting; i++)
	{
		KNetAddress address = {.len = sizeof(address.addr)};
		int			fd = accept4(listen_fd, (struct sockaddr *) &address.addr, &address.len,
								 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
		{
			knet_listen_admit(fd, &address);
			continue;
		}
		switch (errno)
		{
			case EINTR:
			case ECONNABORTED:
				continue;
			case EMFILE:
			case ENFILE:
			case ENOBUFS:
			case ENOMEM:
				/* the client stays in the queue: do not ask again at once */
				knet_listen_complain("connection", strerror(errno));
				knet_listen_interest(false);
				knet_timer_set(&accept_timer, KNET_ACCEPT_RETRY_US, knet_listen_again, NULL);
				return;
			default:
				return;
		}
	}
}
