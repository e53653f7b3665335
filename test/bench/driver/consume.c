/*
 * consume.c
 *		Consumers that read a whole topic.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "driver.h"

static atomic_long received;	/* bytes of values */

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
		/* waits for a whole batch: the last one of a pass, which is none, must not count as time */
		ssize_t		n = rd_kafka_consume_batch_queue(queue, 2, messages, batch);

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
	long		passes = (long) number_option("passes");
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
	while ((passes ? reader->passes < passes : now_ns() < end) && errors == 0);
	rd_kafka_queue_destroy(queue);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
	return NULL;
}

int
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
