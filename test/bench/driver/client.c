/*
 * client.c
 *		Clients of librdkafka, and topics made and deleted with them.
 */
#include <stdio.h>
#include <string.h>

#include "driver.h"

void
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

rd_kafka_conf_t *
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

rd_kafka_t *
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

rd_kafka_t *
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

static void
check_answer(rd_kafka_event_t *event)
{
	const rd_kafka_CreateTopics_result_t *created;
	const rd_kafka_DeleteTopics_result_t *deleted;
	const rd_kafka_topic_result_t **results;
	size_t		n;

	if (event == NULL)
		die("no answer in time");
	if (rd_kafka_event_error(event))
		die("%s", rd_kafka_event_error_string(event));
	created = rd_kafka_event_CreateTopics_result(event);
	deleted = rd_kafka_event_DeleteTopics_result(event);
	results = created ? rd_kafka_CreateTopics_result_topics(created, &n) :
		rd_kafka_DeleteTopics_result_topics(deleted, &n);
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

int
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
		check_answer(rd_kafka_queue_poll(queue, 60000));
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
		check_answer(rd_kafka_queue_poll(queue, 60000));
		rd_kafka_DeleteTopic_destroy(topic);
	}
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(rk);
	printf("{\"topic\": \"%s\"", name);
	return finish();
}
