/*
 * stall.c
 *		Open loop: records sent each at its time and read by a group of consumers, while one more
 *		comes and goes. How long is a record kept waiting by that?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define SETTLE_MS		60000	/* in this time a group has shared its partitions */

typedef struct Consumer
{
	rd_kafka_t *rk;
	pthread_t	thread;
	atomic_int	partitions;		/* that it has now */
	atomic_bool stopping;
} Consumer;

typedef struct Record
{
	int64_t		due;
	int64_t		number;
} Record;

static Histogram e2e_hist;
static atomic_uchar *received;	/* by record number: how often, up to 255 */
static long room;
static atomic_long distinct;
static atomic_long again;

static void
on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *partitions,
			 void *opaque)
{
	Consumer   *consumer = opaque;
	bool		cooperative = strcmp(rd_kafka_rebalance_protocol(rk), "COOPERATIVE") == 0;
	bool		assign = err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;

	if (!assign && partitions->cnt > 0)
	{
		err = rd_kafka_commit(rk, NULL, 0);
		/* Too late for a commit: the next owner reads again what this one has. */
		if (err && err != RD_KAFKA_RESP_ERR__NO_OFFSET &&
			err != RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION &&
			err != RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS &&
			err != RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID)
			fail("commit: %s", rd_kafka_err2str(err));
	}
	if (cooperative)
	{
		rd_kafka_error_t *error = assign ? rd_kafka_incremental_assign(rk, partitions) :
			rd_kafka_incremental_unassign(rk, partitions);

		if (error)
		{
			fail("assign: %s", rd_kafka_error_string(error));
			rd_kafka_error_destroy(error);
		}
	}
	else
		rd_kafka_assign(rk, assign ? partitions : NULL);
	atomic_fetch_add(&consumer->partitions, assign ? partitions->cnt : -partitions->cnt);
}

static void
consumer_read(const rd_kafka_message_t *message)
{
	Record		record;

	if (message->err)
	{
		fail("consume: %s", rd_kafka_message_errstr(message));
		return;
	}
	if (message->len < sizeof record)
		return;
	memcpy(&record, message->payload, sizeof record);
	if (record.number < 0 || record.number >= room)
		fail("record %ld was never sent", (long) record.number);
	else if (atomic_fetch_add(&received[record.number], 1) > 0)
		atomic_fetch_add(&again, 1);
	else
	{
		atomic_fetch_add(&distinct, 1);
		if (record.due >= window_start && record.due < window_end)
			hist_add(&e2e_hist, now_ns() - record.due);
	}
}

static void *
consumer_main(void *arg)
{
	Consumer   *consumer = arg;

	while (!consumer->stopping && errors == 0)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, 50);

		if (message == NULL)
			continue;
		consumer_read(message);
		rd_kafka_message_destroy(message);
	}
	rd_kafka_consumer_close(consumer->rk);
	rd_kafka_destroy(consumer->rk);
	return NULL;
}

static void
consumer_start(Consumer *consumer)
{
	rd_kafka_conf_t *conf = conf_make();
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);

	conf_set(conf, "group.id", text_option("topic"));
	conf_set(conf, "enable.auto.commit", "false");
	conf_set(conf, "auto.offset.reset", "earliest");
	conf_set(conf, "partition.assignment.strategy", text_option("assignor"));
	conf_set(conf, "heartbeat.interval.ms", "500");
	rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
	rd_kafka_conf_set_opaque(conf, consumer);
	consumer->rk = client_make(RD_KAFKA_CONSUMER, conf);
	rd_kafka_poll_set_consumer(consumer->rk);
	rd_kafka_topic_partition_list_add(topics, text_option("topic"), RD_KAFKA_PARTITION_UA);
	if (rd_kafka_subscribe(consumer->rk, topics))
		die("subscribe failed");
	rd_kafka_topic_partition_list_destroy(topics);
	if (pthread_create(&consumer->thread, NULL, consumer_main, consumer))
		die("no thread");
}

static void
consumer_stop(Consumer *consumer)
{
	consumer->stopping = true;
	pthread_join(consumer->thread, NULL);
}

/* Waits until every partition has an owner and every consumer its share. */
static void
settle(Consumer *consumers, int n, int partitions)
{
	int			total = -1;
	bool		all = false;

	for (int i = 0; i < SETTLE_MS / 20 && errors == 0 && !(all && total == partitions); i++)
	{
		sleep_until(now_ns() + 20000000);
		total = 0;
		all = true;
		for (int k = 0; k < n; k++)
		{
			total += consumers[k].partitions;
			all = all && consumers[k].partitions > 0;
		}
	}
	if (!all || total != partitions)
		fail("%d of %d partitions have an owner", total, partitions);
}

int
stall(void)
{
	int			n = (int) number_option("members");
	int			partitions = (int) number_option("partitions");
	double		interval = 1e9 / number_option("rate");
	rd_kafka_t *rk = producer_make("0", on_latency_ack);
	rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, text_option("topic"), NULL);
	Consumer   *consumers = calloc((size_t) n + 1, sizeof *consumers);
	bool		came = false;
	bool		left = false;
	long		sent = 0;
	int64_t		began;

	pool_make();
	hist_init(&ack_hist);
	hist_init(&e2e_hist);
	room = (long) ((number_option("seconds") + number_option("warmup")) * number_option("rate")) + 2;
	received = calloc((size_t) room, sizeof *received);
	if (consumers == NULL || received == NULL)
		die("out of memory");
	for (int i = 0; i < n; i++)
		consumer_start(&consumers[i]);
	settle(consumers, n, partitions);

	began = now_ns() + 100000000;
	window_open(began);
	for (int64_t due = began; due < window_end && errors == 0;
		 due = began + (int64_t) (sent * interval))
	{
		char	   *value = pool + sent % POOL * value_size;
		Record		record = {due, sent};

		for (int64_t now = now_ns(); now < due; now = now_ns())
		{
			rd_kafka_poll(rk, 0);
			sleep_until(due < now + 1000000 ? due : now + 1000000);
		}
		memcpy(value, &record, sizeof record);
		if (rd_kafka_produce(topic, (int) (sent % partitions), RD_KAFKA_MSG_F_COPY, value,
							 value_size, NULL, 0, (void *) (intptr_t) due))
			fail("produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
		else
			sent++;
		if (!came && due >= window_start)
		{
			came = true;
			consumer_start(&consumers[n]);
		}
		if (!left && due >= (window_start + window_end) / 2)
		{
			left = true;
			if (consumers[n].partitions == 0)
				fail("the member that came has no partition yet");
			consumers[n].stopping = true;
		}
	}
	if (rd_kafka_flush(rk, FLUSH_MS) != RD_KAFKA_RESP_ERR_NO_ERROR || acked != sent)
		fail("%ld records sent, %ld acknowledged", sent, (long) acked);
	for (int i = 0; i < 3000 && distinct < sent && errors == 0; i++)
		sleep_until(now_ns() + 10000000);
	if (distinct != sent)
		fail("%ld records sent, %ld received", sent, (long) distinct);
	for (int i = n; i >= 0; i--)
		consumer_stop(&consumers[i]);

	printf("{\"records\": %ld, \"bytes\": %ld, \"rate\": %.0f, \"again\": %ld", (long) acked,
		   (long) (acked * value_size), ack_hist.n / number_option("seconds"), (long) again);
	hist_print("e2e", &e2e_hist);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(rk);
	return finish();
}
