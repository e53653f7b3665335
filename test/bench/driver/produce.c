/*
 * produce.c
 *		Producers: as fast as it goes, and with one record in flight.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define CHUNK			500		/* records handed to librdkafka at once */

/* ---- as fast as it goes ---- */

static void
on_ack(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	(void) rk;
	(void) opaque;
	if (message->err)
		fail("delivery: %s", rd_kafka_err2str(message->err));
	else
		atomic_store_explicit(&acked, acked + 1, memory_order_relaxed); /* one thread polls */
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

int
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
	if (rd_kafka_flush(rk, FLUSH_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		fail("%ld records were not acknowledged in %d s", sent - acked, FLUSH_MS / 1000);
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

/* ---- one record in flight ---- */

Histogram	ack_hist;

void
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

int
latency(void)
{
	int			n = (int) number_option("threads");
	pthread_t  *threads = calloc(n, sizeof *threads);

	pool_make();
	hist_init(&ack_hist);
	window_open(now_ns());
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
