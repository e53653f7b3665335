/*
 * rate.c
 *		Open loop: records sent each at its time, and received by a consumer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static Histogram e2e_hist;
static atomic_long consumed;
static atomic_bool stopping;

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

/* A consumer of the whole topic. */
static rd_kafka_t *
consumer_make(void)
{
	rd_kafka_conf_t *conf = conf_make();
	int			partitions = (int) number_option("partitions");
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
	rd_kafka_t *consumer;

	conf_set(conf, "group.id", "kafka_pg-bench");
	conf_set(conf, "enable.auto.commit", "false");
	consumer = client_make(RD_KAFKA_CONSUMER, conf);
	rd_kafka_poll_set_consumer(consumer);
	for (int i = 0; i < partitions; i++)
		rd_kafka_topic_partition_list_add(list, text_option("topic"), i)->offset = 0;
	if (rd_kafka_assign(consumer, list))
		die("assign failed");
	rd_kafka_topic_partition_list_destroy(list);
	return consumer;
}

int
rate(void)
{
	rd_kafka_t *rk = producer_make("0", on_latency_ack);
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, text_option("topic"), NULL);
	rd_kafka_t *consumer = NULL;
	int			partitions = (int) number_option("partitions");
	double		interval = 1e9 / number_option("rate");
	pthread_t	thread;
	long		sent = 0;
	int64_t		began;

	pool_make();
	hist_init(&ack_hist);
	hist_init(&e2e_hist);
	if (number_option("consumer") != 0)
		consumer = consumer_make();
	began = now_ns() + 100000000;
	window_open(began);
	if (consumer && pthread_create(&thread, NULL, tail_main, consumer))
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
	if (rd_kafka_flush(rk, FLUSH_MS) != RD_KAFKA_RESP_ERR_NO_ERROR || acked != sent)
		fail("%ld records sent, %ld acknowledged", sent, (long) acked);
	for (int i = 0; consumer && i < 1000 && consumed < sent && errors == 0; i++)
		sleep_until(now_ns() + 10000000);
	if (consumer && consumed != sent)
		fail("%ld records sent, %ld received", sent, (long) consumed);
	stopping = true;
	if (consumer)
		pthread_join(thread, NULL);

	printf("{\"records\": %ld, \"bytes\": %ld, \"rate\": %.0f", (long) acked,
		   (long) (acked * value_size), ack_hist.n / number_option("seconds"));
	hist_print("ack", &ack_hist);
	if (consumer)
	{
		hist_print("e2e", &e2e_hist);
		rd_kafka_consumer_close(consumer);
		rd_kafka_destroy(consumer);
	}
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(rk);
	return finish();
}
