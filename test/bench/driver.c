/*
 * driver.c
 *		The load of one cell of the benchmark, on librdkafka, and its measurement.
 *
 *		driver VERB [option=value ...]
 *
 *		create    topic partitions [config.NAME=VALUE]   makes the topic and waits for its leaders
 *		delete    topic                                  deletes it
 *		produce   as fast as it goes; counts acknowledged records
 *		consume   readers consumers, each reads every partition, again and again
 *		latency   threads producers with one record in flight each
 *		rate      open loop: rate records a second, each at its intended time, and a consumer
 *		touch     mb megabytes of memory, so that the machine has given them out once
 *
 * Prints one line of JSON and exits with 0 only if no record failed, none was lost and none
 * came out of order. Options and their defaults are in the table below; rdkafka.NAME=VALUE sets
 * any property of librdkafka.
 *
 * Latencies count from the time at which the record should have been sent, not from the time at
 * which the producer got round to it: a stall is seen by every record that it holds up.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define MAX_PARTITIONS	10000
#define MAX_PROPERTIES	32
#define CHUNK			500		/* records handed to librdkafka at once */
#define POOL			4096	/* different values */
#define HIST_BINS		(8 * 1000 * 1000)	/* microseconds: up to 8 s */

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
	{"count", "0", "produce: so many records instead of a time; consume: so many must be there"},
	{"readers", "1", "consume: consumers"},
	{"threads", "1", "latency: producers"},
	{"rate", "1000", "rate: records a second"},
	{"mb", "1024", "touch: megabytes"},
};

static const char *properties[MAX_PROPERTIES][2];
static int	n_properties;
static const char *configs[MAX_PROPERTIES][2];
static int	n_configs;

/* What is measured. */
static atomic_long acked;		/* acknowledged in all */
static atomic_long received;	/* bytes of values received, consume */
static atomic_long errors;
static char first_error[512];
static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct Histogram
{
	_Atomic uint32_t *bins;
	atomic_long n;
	atomic_long max;
} Histogram;

static char *pool;
static size_t value_size;
static atomic_bool stopping;
static int64_t window_start;	/* intended times from here ... */
static int64_t window_end;		/* ... to here are measured */

static void fail(const char *fmt,...) __attribute__((format(printf, 1, 2)));
static void die(const char *fmt,...) __attribute__((format(printf, 1, 2), noreturn));

static void
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

static void
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

static const char *
text_option(const char *name)
{
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (strcmp(options[i].name, name) == 0)
			return options[i].value;
	die("no option \"%s\"", name);
}

static double
number_option(const char *name)
{
	char	   *end;
	const char *text = text_option(name);
	double		number = strtod(text, &end);

	if (end == text || *end || !(number >= 0 && number <= 1e12))
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

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void
sleep_until(int64_t when)
{
	struct timespec ts = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void
hist_init(Histogram *hist)
{
	hist->bins = calloc(HIST_BINS, sizeof *hist->bins);
	if (hist->bins == NULL)
		die("out of memory");
}

static void
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

static void
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
static void
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

static void
conf_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		problem[512];

	if (rd_kafka_conf_set(conf, name, value, problem, sizeof problem) != RD_KAFKA_CONF_OK)
		die("%s", problem);
}

static void
on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	(void) rk;
	(void) opaque;
	fail("%s: %s", rd_kafka_err2name(err), reason);
}

static void
on_log(const rd_kafka_t *rk, int level, const char *facility, const char *line)
{
	(void) rk;
	if (level <= 4)
		fprintf(stderr, "driver: %s: %s\n", facility, line);
}

static rd_kafka_conf_t *
conf_make(void)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	conf_set(conf, "bootstrap.servers", text_option("broker"));
	conf_set(conf, "client.id", "kafka_pg-bench");
	conf_set(conf, "socket.nagle.disable", "true");
	rd_kafka_conf_set_error_cb(conf, on_error);
	rd_kafka_conf_set_log_cb(conf, on_log);
	return conf;
}

static rd_kafka_t *
client_make(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
	char		problem[512];
	rd_kafka_t *rk;

	for (int i = 0; i < n_properties; i++)
		conf_set(conf, properties[i][0], properties[i][1]);
	rk = rd_kafka_new(type, conf, problem, sizeof problem);
	if (rk == NULL)
		die("%s", problem);
	return rk;
}

static rd_kafka_t *
producer_make(const char *linger,
			  void (*on_delivery) (rd_kafka_t *, const rd_kafka_message_t *, void *))
{
	rd_kafka_conf_t *conf = conf_make();

	conf_set(conf, "acks", text_option("acks"));
	conf_set(conf, "compression.codec", text_option("codec"));
	conf_set(conf, "linger.ms", *text_option("linger") ? text_option("linger") : linger);
	if (number_option("idempotent") != 0)
		conf_set(conf, "enable.idempotence", "true");
	if (*text_option("inflight"))
		conf_set(conf, "max.in.flight", text_option("inflight"));
	/* The driver itself bounds what is outstanding. */
	conf_set(conf, "queue.buffering.max.messages", "10000000");
	conf_set(conf, "queue.buffering.max.kbytes", "2097151");
	conf_set(conf, "partitioner", "murmur2_random");
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	return client_make(RD_KAFKA_PRODUCER, conf);
}

static double
client_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* The end of the line of JSON, and the exit status. */
static int
finish(void)
{
	printf(", \"client_cpu_s\": %.3f, \"errors\": %ld", client_cpu(), (long) errors);
	if (errors)
		printf(", \"error\": \"%s\"", first_error);
	printf("}\n");
	return errors ? 1 : 0;
}

/* ---- topics ---- */

static void
check_answer(rd_kafka_event_t *event, bool created)
{
	const rd_kafka_topic_result_t **results;
	size_t		n;

	if (event == NULL)
		die("no answer in time");
	if (rd_kafka_event_error(event))
		die("%s", rd_kafka_event_error_string(event));
	if (created)
		results = rd_kafka_CreateTopics_result_topics(
			rd_kafka_event_CreateTopics_result(event), &n);
	else
		results = rd_kafka_DeleteTopics_result_topics(
			rd_kafka_event_DeleteTopics_result(event), &n);
	for (size_t i = 0; i < n; i++)
		if (rd_kafka_topic_result_error(results[i]))
			die("%s: %s", rd_kafka_topic_result_name(results[i]),
				rd_kafka_topic_result_error_string(results[i]));
	rd_kafka_event_destroy(event);
}

static bool
leaders_known(rd_kafka_t *rk, const char *name, int partitions)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
	bool		known = false;

	if (rd_kafka_metadata(rk, 0, topic, &metadata, 5000) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		known = metadata->topic_cnt == 1 && metadata->topics[0].partition_cnt == partitions;
		for (int i = 0; known && i < partitions; i++)
			known = metadata->topics[0].partitions[i].leader >= 0;
		rd_kafka_metadata_destroy(metadata);
	}
	rd_kafka_topic_destroy(topic);
	return known;
}

static int
create_or_delete(bool create)
{
	rd_kafka_t *rk = client_make(RD_KAFKA_PRODUCER, conf_make());
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	const char *name = text_option("topic");
	int			partitions = (int) number_option("partitions");
	char		problem[512];

	if (create)
	{
		rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, 1, problem,
														   sizeof problem);

		if (topic == NULL)
			die("%s", problem);
		for (int i = 0; i < n_configs; i++)
			rd_kafka_NewTopic_set_config(topic, configs[i][0], configs[i][1]);
		rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
		check_answer(rd_kafka_queue_poll(queue, 60000), true);
		rd_kafka_NewTopic_destroy(topic);
		for (int i = 0; !leaders_known(rk, name, partitions); i++)
		{
			if (i == 300)
				die("topic \"%s\" has no leaders", name);
			sleep_until(now_ns() + 100000000);
		}
	}
	else
	{
		rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(name);

		rd_kafka_DeleteTopics(rk, &topic, 1, NULL, queue);
		check_answer(rd_kafka_queue_poll(queue, 60000), false);
		rd_kafka_DeleteTopic_destroy(topic);
	}
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(rk);
	printf("{\"topic\": \"%s\"", name);
	return finish();
}

/* ---- produce ---- */

static void
on_ack(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	(void) rk;
	(void) opaque;
	if (message->err)
		fail("delivery: %s", rd_kafka_err2str(message->err));
	else
		atomic_store_explicit(&acked, acked + 1, memory_order_relaxed);	/* one thread polls */
}

static long
send_chunk(rd_kafka_topic_t *topic, int partitions, bool keyed, long sent, long most)
{
	static rd_kafka_message_t messages[CHUNK];
	static char keys[CHUNK][16];
	int			n = most < CHUNK ? (int) most : CHUNK;
	int			done;

	memset(messages, 0, sizeof messages);
	for (int i = 0; i < n; i++)
	{
		messages[i].payload = pool + (sent + i) % POOL * value_size;
		messages[i].len = value_size;
		if (keyed)
		{
			messages[i].key = keys[i];
			messages[i].key_len = (size_t) snprintf(keys[i], sizeof keys[i], "key-%08ld",
													(sent + i) * 7919 % 1000003);
		}
	}
	/* Without a flag librdkafka sends the values from where they are: they stay. */
	done = rd_kafka_produce_batch(topic,
								  keyed ? RD_KAFKA_PARTITION_UA : (int) (sent / CHUNK % partitions),
								  0, messages, n);
	for (int i = 0; done < n && i < n; i++)
		if (messages[i].err)
		{
			fail("produce: %s", rd_kafka_err2str(messages[i].err));
			break;
		}
	return done;
}

static int
produce(void)
{
	rd_kafka_t *rk = producer_make("5", on_ack);
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, text_option("topic"), NULL);
	int			partitions = (int) number_option("partitions");
	bool		keyed = number_option("keyed") != 0;
	long		count = (long) number_option("count");
	long		outstanding = (long) number_option("outstanding");
	long		sent = 0;
	long		acked_start = 0;
	long		acked_end;
	int64_t		began = now_ns();
	int64_t		start = began + (int64_t) (count ? 0 : number_option("warmup") * 1e9);
	int64_t		end = count ? INT64_MAX : start + (int64_t) (number_option("seconds") * 1e9);
	int64_t		now = began;
	bool		started = count != 0;

	pool_make();
	while (now < end && (count == 0 || acked < count) && errors == 0)
	{
		while (sent - acked + CHUNK <= outstanding && (count == 0 || sent < count))
		{
			sent += send_chunk(topic, partitions, keyed, sent, count ? count - sent : CHUNK);
			rd_kafka_poll(rk, 0);
			if (now_ns() >= (started ? end : start) || errors)
				break;
		}
		rd_kafka_poll(rk, 1);
		now = now_ns();
		if (!started && now >= start)
		{
			started = true;
			start = now;
			acked_start = acked;
		}
	}
	end = now;
	acked_end = acked;
	if (rd_kafka_flush(rk, 30000) != RD_KAFKA_RESP_ERR_NO_ERROR)
		fail("%ld records were not acknowledged in 30 s", sent - acked);
	if (sent != acked)
		fail("%ld records sent, %ld acknowledged", sent, (long) acked);

	printf("{\"records\": %ld, \"bytes\": %ld, \"seconds\": %.3f, \"rate\": %.0f, \"mb_s\": %.1f",
		   (long) acked, (long) (acked * value_size), (end - start) / 1e9,
		   (acked_end - acked_start) / ((end - start) / 1e9),
		   (acked_end - acked_start) * value_size / ((end - start) / 1e3));
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(rk);
	return finish();
}

/* ---- consume ---- */

typedef struct Reader
{
	pthread_t	thread;
	long		records;
	long		passes;
	int64_t		reading;		/* ns between the first and the last record of each pass */
} Reader;

/* One pass over the whole topic, from its beginning to its end. */
static void
read_pass(rd_kafka_t *rk, rd_kafka_queue_t *queue, Reader *reader, int64_t deadline)
{
	static const int batch = 10000;
	const char *topic = text_option("topic");
	int			partitions = (int) number_option("partitions");
	long		count = (long) number_option("count");
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
	rd_kafka_message_t **messages = calloc(batch, sizeof *messages);
	int64_t    *next = calloc(partitions, sizeof *next);
	int64_t		first = 0;
	int64_t		last = 0;
	long		records = 0;
	long		bytes = 0;
	int			ended = 0;

	for (int i = 0; i < partitions; i++)
		rd_kafka_topic_partition_list_add(list, topic, i)->offset = 0;
	if (rd_kafka_assign(rk, list))
		die("assign failed");
	while (ended < partitions && errors == 0)
	{
		long		records_before = records;
		ssize_t		n = rd_kafka_consume_batch_queue(queue, 200, messages, batch);

		if (n < 0)
			die("consume: %s", rd_kafka_err2str(rd_kafka_last_error()));
		if (now_ns() > deadline)
			fail("a pass over the topic took too long: %ld records so far", records);
		for (ssize_t i = 0; i < n; i++)
		{
			rd_kafka_message_t *message = messages[i];

			if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
				ended++;
			else if (message->err)
				fail("consume: %s", rd_kafka_message_errstr(message));
			else
			{
				if (message->offset != next[message->partition])
					fail("partition %d: offset %" PRId64 " came where %" PRId64 " was due",
						 message->partition, message->offset, next[message->partition]);
				next[message->partition] = message->offset + 1;
				bytes += message->len;
				if (records++ == 0)
					first = last = now_ns();
			}
			rd_kafka_message_destroy(message);
		}
		if (records > records_before)
			last = now_ns();
	}
	if (count && records != count)
		fail("%ld records read where %ld are", records, count);
	reader->records += records;
	reader->passes++;
	reader->reading += last - first;
	atomic_fetch_add(&received, bytes);
	free(messages);
	free(next);
	rd_kafka_topic_partition_list_destroy(list);
}

static void *
reader_main(void *arg)
{
	Reader	   *reader = arg;
	rd_kafka_conf_t *conf = conf_make();
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;
	int64_t		end = now_ns() + (int64_t) (number_option("seconds") * 1e9);

	conf_set(conf, "group.id", "kafka_pg-bench");
	conf_set(conf, "enable.auto.commit", "false");
	conf_set(conf, "enable.partition.eof", "true");
	/* A fetch that waits at the end of one pass must not hold up the next one. */
	conf_set(conf, "fetch.wait.max.ms", "20");
	rk = client_make(RD_KAFKA_CONSUMER, conf);
	rd_kafka_poll_set_consumer(rk);
	queue = rd_kafka_queue_get_consumer(rk);
	do
		read_pass(rk, queue, reader, end + 60000000000);
	while (now_ns() < end && errors == 0);
	rd_kafka_queue_destroy(queue);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	return NULL;
}

static int
consume(void)
{
	int			n = (int) number_option("readers");
	Reader	   *readers = calloc(n, sizeof *readers);
	double		rate = 0;
	double		seconds = 0;
	long		records = 0;
	long		passes = 0;

	for (int i = 0; i < n; i++)
		if (pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]))
			die("no thread");
	for (int i = 0; i < n; i++)
	{
		pthread_join(readers[i].thread, NULL);
		records += readers[i].records;
		passes += readers[i].passes;
		seconds += readers[i].reading / 1e9 / n;
		if (readers[i].reading > 0)
			rate += readers[i].records / (readers[i].reading / 1e9);
	}
	if (records == 0)
		fail("nothing to read");
	printf("{\"records\": %ld, \"bytes\": %ld, \"passes\": %ld, \"seconds\": %.3f, \"rate\": %.0f, "
		   "\"mb_s\": %.1f", records, (long) received, passes, seconds, rate,
		   records ? rate * received / records / 1e6 : 0);
	return finish();
}

/* ---- latency: one record in flight ---- */

static Histogram ack_hist;

static void
on_latency_ack(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	int64_t		now = now_ns();
	int64_t		sent = (int64_t) (intptr_t) message->_private;

	(void) rk;
	(void) opaque;
	if (message->err)
		fail("delivery: %s", rd_kafka_err2str(message->err));
	atomic_fetch_add(&acked, 1);
	if (sent >= window_start && sent < window_end)
		hist_add(&ack_hist, now - sent);
}

static void *
latency_main(void *arg)
{
	rd_kafka_t *rk = producer_make("0", on_latency_ack);
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, text_option("topic"), NULL);
	int			partitions = (int) number_option("partitions");
	long		n = (long) (intptr_t) arg;

	for (int64_t now = now_ns(); now < window_end && errors == 0; now = now_ns(), n++)
	{
		int64_t		deadline = now + 30000000000;

		if (rd_kafka_produce(topic, (int) (n % partitions), 0, pool + n % POOL * value_size,
							 value_size, NULL, 0, (void *) (intptr_t) now))
			fail("produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
		while (rd_kafka_outq_len(rk) > 0 && errors == 0)
			if (rd_kafka_poll(rk, 1000) == 0 && now_ns() > deadline)
				fail("no acknowledgement in 30 s");
	}
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(rk);
	return NULL;
}

static int
latency(void)
{
	int			n = (int) number_option("threads");
	pthread_t  *threads = calloc(n, sizeof *threads);

	pool_make();
	hist_init(&ack_hist);
	window_start = now_ns() + (int64_t) (number_option("warmup") * 1e9);
	window_end = window_start + (int64_t) (number_option("seconds") * 1e9);
	for (long i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, latency_main, (void *) (intptr_t) i))
			die("no thread");
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	printf("{\"records\": %ld, \"bytes\": %ld, \"rate\": %.0f", (long) acked,
		   (long) (acked * value_size), ack_hist.n / number_option("seconds"));
	hist_print("ack", &ack_hist);
	return finish();
}

/* ---- rate: open loop, end to end ---- */

static Histogram e2e_hist;
static atomic_long consumed;

static void *
tail_main(void *arg)
{
	rd_kafka_t *rk = arg;

	while (!stopping && errors == 0)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 100);
		int64_t		sent;

		if (message == NULL)
			continue;
		if (message->err)
			fail("consume: %s", rd_kafka_message_errstr(message));
		else if (message->len >= sizeof sent)
		{
			memcpy(&sent, message->payload, sizeof sent);
			if (sent >= window_start && sent < window_end)
				hist_add(&e2e_hist, now_ns() - sent);
			atomic_fetch_add(&consumed, 1);
		}
		rd_kafka_message_destroy(message);
	}
	return NULL;
}

static int
rate(void)
{
	rd_kafka_t *rk = producer_make("0", on_latency_ack);
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, text_option("topic"), NULL);
	rd_kafka_conf_t *conf = conf_make();
	rd_kafka_t *consumer;
	rd_kafka_topic_partition_list_t *list;
	int			partitions = (int) number_option("partitions");
	double		interval = 1e9 / number_option("rate");
	pthread_t	thread;
	long		sent = 0;
	int64_t		began;

	pool_make();
	hist_init(&ack_hist);
	hist_init(&e2e_hist);
	conf_set(conf, "group.id", "kafka_pg-bench");
	conf_set(conf, "enable.auto.commit", "false");
	consumer = client_make(RD_KAFKA_CONSUMER, conf);
	rd_kafka_poll_set_consumer(consumer);
	list = rd_kafka_topic_partition_list_new(partitions);
	for (int i = 0; i < partitions; i++)
		rd_kafka_topic_partition_list_add(list, text_option("topic"), i)->offset = 0;
	if (rd_kafka_assign(consumer, list))
		die("assign failed");
	began = now_ns() + 100000000;
	window_start = began + (int64_t) (number_option("warmup") * 1e9);
	window_end = window_start + (int64_t) (number_option("seconds") * 1e9);
	if (pthread_create(&thread, NULL, tail_main, consumer))
		die("no thread");

	for (int64_t due = began; due < window_end && errors == 0;
		 due = began + (int64_t) (sent * interval))
	{
		char	   *value = pool + sent % POOL * value_size;

		/* Sleep no more than a millisecond: acknowledgements are served between records. */
		for (int64_t now = now_ns(); now < due; now = now_ns())
		{
			rd_kafka_poll(rk, 0);
			sleep_until(due < now + 1000000 ? due : now + 1000000);
		}
		memcpy(value, &due, sizeof due);
		if (rd_kafka_produce(topic, (int) (sent % partitions), RD_KAFKA_MSG_F_COPY, value,
							 value_size, NULL, 0, (void *) (intptr_t) due))
			fail("produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
		else
			sent++;
		if (sent % 16 == 0)
			rd_kafka_poll(rk, 0);
	}
	if (rd_kafka_flush(rk, 30000) != RD_KAFKA_RESP_ERR_NO_ERROR || acked != sent)
		fail("%ld records sent, %ld acknowledged", sent, (long) acked);
	for (int i = 0; i < 1000 && consumed < sent && errors == 0; i++)
		sleep_until(now_ns() + 10000000);
	if (consumed != sent)
		fail("%ld records sent, %ld received", sent, (long) consumed);
	stopping = true;
	pthread_join(thread, NULL);

	printf("{\"records\": %ld, \"bytes\": %ld, \"rate\": %.0f", (long) acked,
		   (long) (acked * value_size), ack_hist.n / number_option("seconds"));
	hist_print("ack", &ack_hist);
	hist_print("e2e", &e2e_hist);
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_consumer_close(consumer);
	rd_kafka_destroy(consumer);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(rk);
	return finish();
}

/* ---- */

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

int
main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	for (int i = 2; i < argc; i++)
		parse_option(argv[i]);
	if (number_option("partitions") < 1 || number_option("partitions") > MAX_PARTITIONS)
		die("partitions must be from 1 to %d", MAX_PARTITIONS);
	if (strcmp(verb, "create") == 0)
		return create_or_delete(true);
	if (strcmp(verb, "delete") == 0)
		return create_or_delete(false);
	if (strcmp(verb, "produce") == 0)
		return produce();
	if (strcmp(verb, "consume") == 0)
		return consume();
	if (strcmp(verb, "latency") == 0)
		return latency();
	if (strcmp(verb, "rate") == 0)
		return rate();
	if (strcmp(verb, "touch") == 0)
		return touch();
	fputs("usage: driver create|delete|produce|consume|latency|rate|touch [option=value ...]\n",
		  stderr);
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		fprintf(stderr, "  %-12s %s (%s)\n", options[i].name, options[i].help, options[i].value);
	return 2;
}
