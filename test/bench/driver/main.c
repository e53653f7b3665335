/*
 * main.c
 *		The load of one cell of the benchmark, on librdkafka and libpq, and its measurement.
 *
 *		driver VERB [option=value ...]
 *
 *		create        topic partitions [config.NAME=VALUE]   makes the topic, waits for its leaders
 *		delete        topic                                  deletes it
 *		produce       as fast as it goes; counts acknowledged records
 *		consume       readers consumers, each reads every partition, again and again
 *		latency       threads producers with one record in flight each
 *		rate          open loop: rate records a second, each at its intended time, and a consumer
 *		fetch         reads partition 0, one small Fetch request after the other
 *		connections   many connections that ask once, are idle, and ask again
 *		commit        threads members of a group with one OffsetCommit in flight each
 *		join          members of a group that join and sync again and again
 *		idle          groups of members that only send heartbeats, until a line comes in
 *		stall         as rate, read by a group of members; one more comes and goes meanwhile
 *		transactions  sessions of Postgres that run a statement with a key and a value
 *		copy          sessions of Postgres that COPY keys and values into a table
 *		query         a statement that reads, again and again
 *		touch         mb megabytes of memory, so that the machine has given them out once
 *
 * Prints one line of JSON and exits with 0 only if no record failed, none was lost and none
 * came out of order. Options and their defaults are in the table below; rdkafka.NAME=VALUE sets
 * any property of librdkafka.
 *
 * Latencies count from the time at which the record should have been sent, not from the time at
 * which the producer got round to it: a stall is seen by every record that it holds up.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "driver.h"

typedef struct Option
{
	const char *name;
	const char *value;
	const char *help;
} Option;

static Option options[] = {
	{"broker", "localhost:9092", "bootstrap address"},
	{"topic", "bench", "name of the topic"},
	{"partitions", "4", "its partitions"},
	{"size", "1024", "bytes of a value"},
	{"codec", "none", "compression.codec"},
	{"acks", "all", "0, 1 or all"},
	{"idempotent", "0", "1: enable.idempotence"},
	{"keyed", "0", "1: a key a record decides its partition, as the Java client's"},
	{"inflight", "", "max.in.flight.requests.per.connection; empty: librdkafka's default"},
	{"linger", "", "linger.ms; empty: 5 for produce, 0 for latency and rate"},
	{"outstanding", "100000", "produce: most records sent and not acknowledged"},
	{"seconds", "3", "time measured"},
	{"warmup", "1", "time before it, not measured"},
	{"count", "0", "produce, copy: so many records instead of a time; else how many are there"},
	{"readers", "1", "consume: consumers"},
	{"passes", "0", "consume: so many times through the topic instead of a time"},
	{"threads", "1", "latency: producers; commit: members"},
	{"groups", "1", "idle: groups"},
	{"members", "3", "join, idle, stall: members of a group"},
	{"assignor", "cooperative-sticky", "stall: partition.assignment.strategy"},
	{"rate", "1000", "rate: records a second"},
	{"pace", "0", "copy: rows a second; 0: as fast as it goes"},
	{"consumer", "1", "rate: 0 for none"},
	{"connections", "1000", "connections: how many"},
	{"conninfo", "", "Postgres: where to connect"},
	{"sessions", "1", "Postgres: sessions"},
	{"statement", "", "transactions: its $1 is a key, $2 a value, or it has none; query: what is run"},
	{"table", "", "copy: the table, which has columns key and value"},
	{"format", "binary", "copy: binary or text"},
	{"rows", "100000", "copy, transactions: rows of each; query: the right answer"},
	{"fetchsize", "65536", "fetch: bytes that an answer may have"},
	{"mb", "1024", "touch: megabytes"},
};

const char *properties[MAX_PROPERTIES][2];
int			n_properties;
const char *configs[MAX_PROPERTIES][2];
int			n_configs;

const char *
text_option(const char *name)
{
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (strcmp(options[i].name, name) == 0)
			return options[i].value;
	die("no option \"%s\"", name);
}

double
number_option(const char *name)
{
	char	   *end;
	const char *text = text_option(name);
	double		number = strtod(text, &end);

	if (end == text ||*end || !(number >= 0 && number <= 1e12))
		die("%s must be a number", name);
	return number;
}

static void
parse_option(const char *arg)
{
	char	   *name = strdup(arg);
	char	   *value = strchr(name, '=');

	if (value == NULL)
		die("not option=value: \"%s\"", arg);
	*value++ = '\0';
	if (strncmp(name, "rdkafka.", 8) == 0 && n_properties < MAX_PROPERTIES)
	{
		properties[n_properties][0] = name + 8;
		properties[n_properties++][1] = value;
		return;
	}
	if (strncmp(name, "config.", 7) == 0 && n_configs < MAX_PROPERTIES)
	{
		configs[n_configs][0] = name + 7;
		configs[n_configs++][1] = value;
		return;
	}
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (strcmp(options[i].name, name) == 0)
		{
			options[i].value = value;
			return;
		}
	die("no option \"%s\"", name);
}

static int
touch(void)
{
	size_t		bytes = (size_t) number_option("mb") << 20;
	char	   *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
							  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("no memory: %s", strerror(errno));
	for (size_t at = 0; at < bytes; at += 4096)
		memory[at] = 1;
	printf("{\"mb\": %zu", bytes >> 20);
	return finish();
}

static int
create(void)
{
	return create_or_delete(true);
}

static int
delete(void)
{
	return create_or_delete(false);
}

static const struct
{
	const char *name;
	int			(*run) (void);
}			verbs[] =

{
	{"create", create},
	{"delete", delete},
	{"produce", produce},
	{"consume", consume},
	{"latency", latency},
	{"rate", rate},
	{"fetch", fetch},
	{"connections", connections},
	{"commit", commit},
	{"join", join},
	{"idle", idle},
	{"stall", stall},
	{"transactions", sql_transactions},
	{"copy", sql_copy},
	{"query", sql_query},
	{"touch", touch},
};

int
main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	for (int i = 2; i < argc; i++)
		parse_option(argv[i]);
	if (number_option("partitions") < 1 || number_option("partitions") > MAX_PARTITIONS)
		die("partitions must be from 1 to %d", MAX_PARTITIONS);
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (strcmp(verb, verbs[i].name) == 0)
			return verbs[i].run();
	fputs("usage: driver VERB [option=value ...]\nverbs:", stderr);
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		fprintf(stderr, " %s", verbs[i].name);
	fputc('\n', stderr);
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		fprintf(stderr, "  %-12s %s (%s)\n", options[i].name, options[i].help, options[i].value);
	return 2;
}
