/*
 * fire.c
 *		Mutated requests at full speed, against a server that runs.
 *
 *		fire HOST PORT REQUESTS SECONDS CONNECTIONS SEED
 *
 * REQUESTS is what live_requests.py has written. Each connection sends mutated requests without
 * waiting for answers, throws away what comes back (or, one in eight, reads nothing at all), and
 * ends after some milliseconds, politely or not. A mutation keeps to the fields (numbers at their
 * edges, lengths that lie, strings cut and swapped), or does not (flipped bits, pieces of other
 * requests, truncation). Batches in Produce requests are changed inside too, compressed anew, and
 * given their right checksum, so that what stands behind the checksum is met.
 *
 * Prints one line of what was done. The same SEED makes the same requests, though not the same
 * races.
 */
#include "c.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "batch/kbatch.h"
#include "batch/kbatch_bytes.h"

#define MAX_FRAME		(1024 * 1024)
#define MAX_OUT			(256 * 1024)
#define MAX_BATCH		(256 * 1024)

typedef struct Field
{
	uint32		off;
	uint32		len;
	uint32		kind;
} Field;

typedef struct Seed
{
	uint8	   *frame;
	uint32		len;
	Field	   *fields;
	uint32		nfields;
} Seed;

typedef struct Client
{
	int			fd;				/* -1: to be connected */
	bool		deaf;			/* never reads */
	bool		gentle;			/* sends requests that can be decoded */
	bool		writable;		/* epoll asks for room */
	int64		end;			/* when it has had enough */
	uint8	   *out;
	size_t		out_off;
	size_t		out_len;
	uint8		head[4];		/* of the answer being skipped */
	uint32		head_have;
	uint32		skip;
} Client;

static Seed *seeds;
static uint32 nseeds;
static uint32 *wheel;			/* seeds by weight */
static uint32 nwheel;
static uint64 random_state;
static struct sockaddr_in server;
static int	epoll_fd;
static KCodec *codec;

static uint64 sent_frames;
static uint64 sent_bytes;
static uint64 answers;
static uint64 connects;
static uint64 refused;
static uint64 closed_on_us;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

/* xorshift64*: the same everywhere, and fast */
static uint32
chance(uint32 n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32) ((random_state * UINT64CONST(2685821657736338717)) >> 33) % n;
}

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------------
 * The requests
 * ------------------------------------------------------------------------
 */

static uint32
read32(FILE *file)
{
	uint8		bytes[4];

	if (fread(bytes, 4, 1, file) != 1)
		die("the requests end early");
	return kbytes_get32(bytes);
}

static void
load(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	int			c;

	if (file == NULL)
		die(path);
	while ((c = getc(file)) != EOF)
	{
		Seed	   *seed;
		uint32		weight;

		ungetc(c, file);
		seeds = realloc(seeds, (nseeds + 1) * sizeof(Seed));
		seed = &seeds[nseeds];
		seed->len = read32(file);
		seed->nfields = read32(file);
		weight = read32(file);
		seed->fields = malloc(Max(seed->nfields, 1) * sizeof(Field));
		for (uint32 i = 0; i < seed->nfields; i++)
		{
			seed->fields[i].off = read32(file);
			seed->fields[i].len = read32(file);
			seed->fields[i].kind = read32(file);
		}
		seed->frame = malloc(seed->len);
		if (fread(seed->frame, seed->len, 1, file) != 1)
			die("the requests end early");
		wheel = realloc(wheel, (nwheel + weight) * sizeof(uint32));
		for (uint32 i = 0; i < weight; i++)
			wheel[nwheel++] = nseeds;
		nseeds++;
	}
	fclose(file);
	if (nseeds == 0)
		die("there are no requests");
}

static const Seed *
any_seed(void)
{
	return &seeds[wheel[chance(nwheel)]];
}

/* ------------------------------------------------------------------------
 * Mutation
 * ------------------------------------------------------------------------
 */

/* One frame in the making. */
static uint8 frame[MAX_FRAME];
static size_t frame_len;

static void
put_number(uint8 *p, uint32 len, uint64 v)
{
	for (uint32 i = 0; i < len; i++)
		p[i] = (uint8) (v >> (8 * (len - 1 - i)));
}

static uint64
odd_number(uint64 old)
{
	static const uint64 odd[] = {
		0, 1, 2, UINT64_MAX, UINT64_MAX - 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
		0x80000000, 0xffffffff, UINT64CONST(0x7fffffffffffffff), UINT64CONST(0x8000000000000000),
		1000, 100000, 1 << 20, 1 << 24
	};

	switch (chance(4))
	{
		case 0:
			return old + 1 + chance(3);
		case 1:
			return old - 1 - chance(3);
		case 2:
			return chance(256);
		default:
			return odd[chance(lengthof(odd))];
	}
}

static uint32
put_varint(uint8 *p, uint64 v)
{
	uint32		n = 0;

	while (v >= 0x80)
	{
		p[n++] = (uint8) (v | 0x80);
		v >>= 7;
	}
	p[n++] = (uint8) v;
	return n;
}

/* Replace len bytes at off by new ones. */
static void
replace_bytes(size_t off, size_t len, const uint8 *bytes, size_t n)
{
	if (off > frame_len || len > frame_len - off || frame_len - len + n > MAX_FRAME)
		return;
	memmove(frame + off + n, frame + off + len, frame_len - off - len);
	memcpy(frame + off, bytes, n);
	frame_len = frame_len - len + n;
}

/* Change the records of a batch, pack them, and make its length and checksum right. */
static size_t
mutate_batch(uint8 *batch, size_t len, size_t room)
{
	KBatchHeader header;
	KBuffer		records;
	KBuffer		packed;
	int			type;

	if (kbatch_header_read(batch, len, &header) != KBATCH_OK || kbatch_size(&header) > len ||
		kbatch_codec(&header) > KCODEC_LAST)
		return len;
	kbuffer_init(&records, &kallocator_malloc, MAX_BATCH);
	kbuffer_init(&packed, &kallocator_malloc, 2 * MAX_BATCH);
	if (kcodec_decompress(codec, kbatch_codec(&header), batch + KBATCH_HEADER_SIZE,
						  kbatch_size(&header) - KBATCH_HEADER_SIZE, &records) != KCODEC_OK ||
		records.len == 0)
		goto done;

	for (uint32 n = chance(4); n > 0; n--)
	{
		uint8	   *at = records.data + chance((uint32) records.len);

		if (chance(2))
			*at ^= (uint8) (1 << chance(8));
		else
			*at = (uint8) odd_number(*at);
	}
	if (chance(8) == 0)
		records.len = 1 + chance((uint32) records.len);
	if (chance(16) == 0)
	{
		/* compresses well: a little that becomes much */
		size_t		zeros = chance(MAX_BATCH / 2);

		if (kbuffer_reserve(&records, zeros) == KBUFFER_OK)
		{
			memset(records.data + records.len, 0, zeros);
			records.len += zeros;
		}
	}

	type = (int) chance(KCODEC_LAST + 1);
	if (kcodec_compress(codec, type, KCODEC_DEFAULT_LEVEL, records.data, records.len,
						&packed) != KCODEC_OK || packed.len > room - KBATCH_HEADER_SIZE)
		goto done;
	if (packed.len > 0 && chance(8) == 0)
		packed.data[chance((uint32) packed.len)] ^= (uint8) (1 << chance(8));
	memcpy(batch + KBATCH_HEADER_SIZE, packed.data, packed.len);
	len = KBATCH_HEADER_SIZE + packed.len;

	header.attributes = (int16) ((header.attributes & ~KBATCH_ATTR_CODEC_MASK) | type);
	header.batch_length = (int32) (len - KBATCH_LENGTH_OVERHEAD);
	switch (chance(16))
	{
		case 0:
			header.attributes = (int16) odd_number(header.attributes);
			break;
		case 1:
			header.last_offset_delta = (int32) odd_number(header.last_offset_delta);
			break;
		case 2:
			header.record_count = (int32) odd_number(header.record_count);
			break;
		case 3:
			header.base_timestamp = (int64) odd_number(header.base_timestamp);
			break;
		case 4:
			header.max_timestamp = (int64) odd_number(header.max_timestamp);
			break;
		case 5:
			header.producer_id = (int64) odd_number(header.producer_id);
			header.producer_epoch = (int16) odd_number(header.producer_epoch);
			header.base_sequence = (int32) odd_number(header.base_sequence);
			break;
		case 6:
			header.base_offset = (int64) odd_number(header.base_offset);
			break;
		case 7:
			header.record_count = header.last_offset_delta = (int32) chance(100);
			break;
	}
	kbatch_header_write(batch, &header);
	kbytes_put32(batch + KBATCH_OFF_CRC, kbatch_compute_crc(batch, len));

done:
	kbuffer_free(&records);
	kbuffer_free(&packed);
	return len;
}

/* The records of a request, with the length before them. */
static void
mutate_records(const Seed *seed, const Field *field)
{
	static uint8 batch[MAX_FRAME];
	size_t		len;
	uint32		off = field->off;
	const Field *before = field == seed->fields ? NULL : field - 1;

	if (field->len > MAX_BATCH || before == NULL || before->off + before->len != off)
		return;
	memcpy(batch, seed->frame + off, field->len);
	len = mutate_batch(batch, field->len, 2 * MAX_BATCH);
	replace_bytes(off, field->len, batch, len);
	if (before->kind == 'l' && before->len == 4)
		kbytes_put32(frame + before->off, (uint32) len);
	else if (before->kind == 'v')
	{
		uint8		varint[KBYTES_MAX_VARINT64];

		replace_bytes(before->off, before->len, varint, put_varint(varint, len + 1));
	}
}

/*
 * One change that knows where the fields are. A gentle one leaves a request that can be decoded,
 * and no longer or shorter than it was.
 */
static void
mutate_field(const Seed *seed, bool gentle)
{
	const Field *field = &seed->fields[chance(seed->nfields)];
	uint8		bytes[64];

	if (field->off + field->len > frame_len)
		return;
	if (gentle && (field->kind == 'v' || field->kind == 'l'))
		return;
	switch (field->kind)
	{
		case 'i':
		case 'l':
			{
				uint64		old = 0;

				if (field->off < 8 && (gentle || chance(4) != 0))
					return;		/* mostly, API and version stay */
				for (uint32 i = 0; i < field->len; i++)
					old = old << 8 | frame[field->off + i];
				put_number(frame + field->off, field->len, odd_number(old));
				break;
			}
		case 'v':
			replace_bytes(field->off, field->len, bytes,
				   put_varint(bytes, odd_number(frame[field->off] & 0x7f)));
			break;
		case 'b':
			{
				const Seed *other = any_seed();
				const Field *from = &other->fields[chance(other->nfields)];

				if (gentle)
				{
					if (from->len == field->len)
						memcpy(frame + field->off, other->frame + from->off, from->len);
					else if (chance(4) == 0)
						frame[field->off + chance(field->len)] = (uint8) ('a' + chance(26));
				}
				else if (chance(2))
					frame[field->off + chance(field->len)] = (uint8) chance(256);
				else if (from->len < 4096)
					replace_bytes(field->off, chance(4) ? Min(field->len, from->len) : field->len,
						   other->frame + from->off, from->len);
				break;
			}
		case 'r':
			if (!gentle)
				mutate_records(seed, field);
			break;
	}
}

static void
mutate_bytes(void)
{
	switch (chance(5))
	{
		case 0:
			frame[chance((uint32) frame_len)] ^= (uint8) (1 << chance(8));
			break;
		case 1:
			frame_len = 1 + chance((uint32) frame_len);
			break;
		case 2:
			{
				const Seed *other = any_seed();
				uint32		from = chance(other->len);

				replace_bytes(chance((uint32) frame_len), 0, other->frame + from,
					   Min(other->len - from, chance(200)));
				break;
			}
		case 3:
			{
				uint32		at = chance((uint32) frame_len);

				replace_bytes(at, Min(frame_len - at, chance(20)), NULL, 0);
				break;
			}
		case 4:
			{
				uint32		width = 1 << chance(4);
				uint32		at = chance((uint32) frame_len);

				if (at + width <= frame_len)
					put_number(frame + at, width, odd_number(0));
				break;
			}
	}
}

/* The next frame to send, into frame. A gentle one can be decoded. */
static void
make_frame(bool gentle)
{
	const Seed *seed = any_seed();
	bool		wild = !gentle && chance(3) == 0;

	memcpy(frame, seed->frame, seed->len);
	frame_len = seed->len;

	for (uint32 n = chance(4); n > 0 && seed->nfields > 0 && gentle; n--)
		mutate_field(seed, true);

	/* The batch before other fields move. */
	if (chance(4) != 0)
	{
		for (uint32 i = 0; i < seed->nfields; i++)
		{
			if (seed->fields[i].kind == 'r')
			{
				mutate_records(seed, &seed->fields[i]);
				break;
			}
		}
	}
	for (uint32 n = chance(4); n > 0 && seed->nfields > 0 && !gentle; n--)
		mutate_field(seed, false);
	for (uint32 n = wild ? 1 + chance(3) : 0; n > 0 && frame_len > 0; n--)
		mutate_bytes();

	/* Mostly the length is right, so that the next request is one. */
	if (frame_len >= 4 && (gentle || chance(64) != 0))
		kbytes_put32(frame, (uint32) frame_len - 4);
}

/* ------------------------------------------------------------------------
 * Connections
 * ------------------------------------------------------------------------
 */

static void
client_interest(Client *client, bool writable)
{
	struct epoll_event event = {0};

	event.events = (client->deaf ? 0 : EPOLLIN) | (writable ? EPOLLOUT : 0);
	event.data.ptr = client;
	client->writable = writable;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event) < 0)
		die("epoll_ctl");
}

static void
client_connect(Client *client)
{
	struct epoll_event event = {0};
	int			on = 1;

	client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (client->fd < 0)
		die("socket");
	if (connect(client->fd, (struct sockaddr *) &server, sizeof(server)) < 0 &&
		errno != EINPROGRESS)
	{
		/* no port free, or nobody there: tried again soon */
		close(client->fd);
		client->fd = -1;
		refused++;
		return;
	}
	(void) setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	connects++;
	client->deaf = chance(8) == 0;
	client->gentle = chance(4) != 0;
	client->end = now_ms() + 5 + chance(chance(20) == 0 ? 2000 : 200);
	client->out_off = client->out_len = 0;
	client->head_have = client->skip = 0;
	client->writable = true;
	event.events = (client->deaf ? 0 : EPOLLIN) | EPOLLOUT;
	event.data.ptr = client;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->fd, &event) < 0)
		die("epoll_ctl");
}

static void
client_close(Client *client)
{
	struct linger reset = {1, 0};

	if (chance(4) == 0)
		(void) setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(client->fd);
	client->fd = -1;
}

/* False: the server has closed. */
static bool
client_read(Client *client)
{
	static uint8 junk[256 * 1024];
	ssize_t		n = recv(client->fd, junk, sizeof(junk), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	for (ssize_t i = 0; i < n;)
	{
		if (client->skip > 0)
		{
			uint32		step = Min(client->skip, (uint32) (n - i));

			client->skip -= step;
			i += step;
			continue;
		}
		client->head[client->head_have++] = junk[i++];
		if (client->head_have == 4)
		{
			client->skip = kbytes_get32(client->head);
			client->head_have = 0;
			answers++;
		}
	}
	return true;
}

/* False: the server has closed. */
static bool
client_write(Client *client)
{
	for (int i = 0; i < 8; i++)
	{
		ssize_t		n;

		if (client->out_off == client->out_len)
		{
			client->out_off = client->out_len = 0;
			for (uint32 k = 1 + chance(16); k > 0; k--)
			{
				make_frame(client->gentle);
				if (client->out_len + frame_len > MAX_OUT)
					break;
				memcpy(client->out + client->out_len, frame, frame_len);
				client->out_len += frame_len;
				sent_frames++;
			}
			if (client->out_len == 0)
				return true;
		}
		n = send(client->fd, client->out + client->out_off, client->out_len - client->out_off,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
		{
			if (errno != EAGAIN && errno != EINTR)
				return false;
			if (!client->writable)
				client_interest(client, true);
			return true;
		}
		client->out_off += n;
		sent_bytes += n;
	}
	return true;
}

int
main(int argc, char **argv)
{
	Client	   *clients;
	int			nclients;
	int64		end;

	if (argc != 7)
	{
		fprintf(stderr, "usage: fire HOST PORT REQUESTS SECONDS CONNECTIONS SEED\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	server.sin_family = AF_INET;
	server.sin_port = htons((uint16) atoi(argv[2]));
	if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
		die(argv[1]);
	load(argv[3]);
	end = now_ms() + (int64) (atof(argv[4]) * 1000);
	nclients = atoi(argv[5]);
	random_state = strtoull(argv[6], NULL, 10) * UINT64CONST(0x9e3779b97f4a7c15) + 1;
	codec = kcodec_create(&kallocator_malloc);
	epoll_fd = epoll_create1(0);
	clients = calloc(nclients, sizeof(Client));
	if (codec == NULL || epoll_fd < 0 || clients == NULL)
		die("out of memory");
	for (int i = 0; i < nclients; i++)
	{
		clients[i].fd = -1;
		clients[i].out = malloc(MAX_OUT);
	}

	while (now_ms() < end)
	{
		struct epoll_event events[64];
		int64		now = now_ms();
		int			n;

		for (int i = 0; i < nclients; i++)
		{
			if (clients[i].fd >= 0 && clients[i].end <= now)
				client_close(&clients[i]);
			if (clients[i].fd < 0)
				client_connect(&clients[i]);
		}
		n = epoll_wait(epoll_fd, events, lengthof(events), 5);
		for (int i = 0; i < n; i++)
		{
			Client	   *client = events[i].data.ptr;
			bool		ok = (events[i].events & EPOLLERR) == 0;

			if (ok && (events[i].events & (EPOLLIN | EPOLLHUP)))
				ok = !client->deaf && client_read(client);
			if (ok && (events[i].events & EPOLLOUT))
				ok = client_write(client);
			if (!ok)
			{
				closed_on_us++;
				client_close(client);
			}
		}
	}
	printf("%llu frames (%llu MB) on %llu connections, %llu answers, %llu closed by the server, "
		   "%llu not connected\n",
		   (unsigned long long) sent_frames, (unsigned long long) (sent_bytes >> 20),
		   (unsigned long long) connects, (unsigned long long) answers,
		   (unsigned long long) closed_on_us, (unsigned long long) refused);
	return 0;
}
