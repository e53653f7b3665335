/*
 * driver.h
 *		What the parts of the driver share.
 */
#ifndef DRIVER_H
#define DRIVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <librdkafka/rdkafka.h>

#define MAX_PARTITIONS	10000
#define MAX_PROPERTIES	32
#define POOL			4096	/* different values */
#define FLUSH_MS		120000	/* what was sent is acknowledged in this time, or lost */

/* ---- main.c: the command line ---- */

extern const char *properties[MAX_PROPERTIES][2];	/* rdkafka.NAME=VALUE */
extern int	n_properties;
extern const char *configs[MAX_PROPERTIES][2];	/* config.NAME=VALUE */
extern int	n_configs;

extern const char *text_option(const char *name);
extern double number_option(const char *name);

/* ---- measure.c ---- */

typedef struct Histogram
{
	_Atomic uint32_t *bins;
	atomic_long n;
	atomic_long max;
} Histogram;

extern atomic_long acked;		/* records acknowledged in all */
extern atomic_long errors;
extern char *pool;				/* POOL values of value_size bytes each */
extern size_t value_size;
extern int64_t window_start;	/* intended times from here ... */
extern int64_t window_end;		/* ... to here are measured */

/* Counts an error, and keeps the first one's text for the result. */
extern void fail(const char *fmt,...) __attribute__((format(printf, 1, 2)));

/* Ends the program without a result. */
extern void die(const char *fmt,...) __attribute__((format(printf, 1, 2), noreturn));

extern int64_t now_ns(void);
extern void sleep_until(int64_t when);

/* Measures what is due from "warmup" seconds after start on, for "seconds" seconds. */
extern void window_open(int64_t start);
extern void hist_init(Histogram *hist);
extern void hist_add(Histogram *hist, int64_t ns);
extern void hist_print(const char *name, Histogram *hist);
extern void pool_make(void);

/* Prints the end of the line of JSON; returns the exit status. */
extern int	finish(void);

/* ---- client.c ---- */

extern void conf_set(rd_kafka_conf_t *conf, const char *name, const char *value);
extern rd_kafka_conf_t *conf_make(void);
extern rd_kafka_t *client_make(rd_kafka_type_t type, rd_kafka_conf_t *conf);
extern rd_kafka_t *producer_make(const char *linger,
								 void (*on_delivery) (rd_kafka_t *, const rd_kafka_message_t *,
													  void *));

/* ---- produce.c ---- */

extern Histogram ack_hist;

/* For records whose private pointer is the time at which they were due. */
extern void on_latency_ack(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque);

/* ---- raw.c: requests without librdkafka ---- */

typedef struct Buffer
{
	char	   *data;
	size_t		length;
	size_t		at;				/* the next byte to read */
	size_t		room;
} Buffer;

extern int	raw_connect(bool nonblocking);
extern void put_number(Buffer *buffer, int64_t number, int bytes);
extern void put_string(Buffer *buffer, const char *string);
extern int64_t get_number(Buffer *buffer, int bytes);
extern void get_skip(Buffer *buffer, size_t n);

/* Puts a request's header into an emptied buffer. */
extern void request_begin(Buffer *buffer, int api, int version, int id);

/* Fills in the request's length. */
extern void request_end(Buffer *buffer);
extern void metadata_request(Buffer *buffer, int id);

/* Does the answer name the topic with all its leaders? Its length has been taken off. */
extern bool metadata_answered(Buffer *answer, int id);

extern void send_request(int fd, Buffer *request);

/* Waits for an answer; its length has been taken off. */
extern void receive_answer(int fd, Buffer *answer);
extern void round_trip(int fd, Buffer *request, Buffer *answer);

/* Room for so many connections. */
extern void files_raise(size_t n);

/* ---- the verbs ---- */

extern int	create_or_delete(bool create);
extern int	produce(void);
extern int	latency(void);
extern int	consume(void);
extern int	rate(void);
extern int	fetch(void);
extern int	connections(void);
extern int	join(void);
extern int	idle(void);
extern int	commit(void);
extern int	stall(void);
extern int	sql_transactions(void);
extern int	sql_copy(void);
extern int	sql_query(void);

#endif							/* DRIVER_H */
