import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, '..')

from confluent_kafka import (OFFSET_BEGINNING, OFFSET_END, TIMESTAMP_CREATE_TIME, Consumer,
                             KafkaError, KafkaException, Producer, TopicPartition)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import workload
from workload import CODECS, RECORDS, Report

NAME = 'confluent'
SERVER = {'bootstrap.servers': os.environ['KAFKA_BOOTSTRAP']}
report = Report()


def produce(topic, todo, **config):
    """Sends (partition, key, value, headers, timestamp); returns what was acknowledged."""
    acked = []

    def delivered(error, message):
        if error:
            raise KafkaException(error)
        acked.append((message.partition(), message.offset()))
    producer = Producer(dict(SERVER, **{k.replace('_', '.'): v for k, v in config.items()}))
    for partition, key, value, headers, timestamp in todo:
        producer.produce(topic, value, key, partition, headers=headers, timestamp=timestamp,
                         on_delivery=delivered)
        producer.poll(0)
    producer.flush(60)
    return acked


def consumer():
    return Consumer(dict(SERVER, **{'group.id': 'unused', 'enable.auto.commit': False,
                                    'enable.partition.eof': True, 'fetch.wait.max.ms': 100}))


def read(c, topic, partition, start):
    """Every record from there to the end."""
    c.assign([TopicPartition(topic, partition, start)])
    records = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        m = c.poll(1)
        if m is None:
            continue
        if m.error():
            if m.error().code() == KafkaError._PARTITION_EOF:
                return records
            raise KafkaException(m.error())
        kind, timestamp = m.timestamp()
        assert kind == TIMESTAMP_CREATE_TIME
        records.append((m.offset(), m.key(), m.value(), m.headers() or [], timestamp))
    raise RuntimeError('the end of %s/%d did not come' % (topic, partition))


def create(admin, topic, partitions, config):
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(30)


def main():
    admin = AdminClient(SERVER)
    records, big, auto = NAME + '-records', NAME + '-big', NAME + '-auto'
    create(admin, records, len(CODECS), {})
    create(admin, big, 1, {'max.message.bytes': '10485760'})
    topics = admin.list_topics(timeout=30).topics
    report.same([len(topics[t].partitions) for t in (records, big)], [5, 1], 'create topics')
    resource = ConfigResource(ConfigResource.Type.TOPIC, big)
    config = admin.describe_configs([resource])[resource].result(30)
    report.same(config['max.message.bytes'].value, '10485760', 'describe a topic\'s configs')

    for partition, codec in enumerate(CODECS):
        acked = produce(records, [(partition,) + workload.record(i) for i in range(RECORDS)],
                        compression_type=codec, enable_idempotence=True, linger_ms=20)
        report.same(acked, [(partition, i) for i in range(RECORDS)], 'produce with ' + codec)
    for i, codec in enumerate(workload.BIG_CODECS):
        produce(big, [(0,) + workload.big_record(i)], compression_type=CODECS[codec],
                message_max_bytes=10000000)

    c = consumer()
    for partition, codec in enumerate(CODECS):
        report.same_records(read(c, records, partition, OFFSET_BEGINNING), workload.wanted(),
                            'consume from the beginning, ' + codec)
    report.same_records(read(c, big, 0, OFFSET_BEGINNING), workload.wanted_big(), 'values up to 5 MB')
    report.same_records(read(c, records, 3, 100), workload.wanted(100), 'consume from an offset')
    found = c.offsets_for_times([TopicPartition(records, p, workload.timestamp(50) - 500)
                                 for p in range(len(CODECS))], timeout=30)
    report.same([t.offset for t in found], [50] * 5, 'offsets of a timestamp')
    found = c.offsets_for_times([TopicPartition(records, 0, workload.timestamp(RECORDS))],
                                timeout=30)
    report.same(found[0].offset, OFFSET_END, 'no offset after the last timestamp')
    report.same(c.get_watermark_offsets(TopicPartition(records, 2), timeout=30), (0, RECORDS),
                'first and last offset')

    produce(auto, [(0,) + workload.record(2)], acks=1)
    report.same_records(read(c, auto, 0, OFFSET_BEGINNING), [(0,) + workload.record(2)],
                        'a topic that was created on its own')
    report.same(read(c, auto, 0, OFFSET_END), [], 'consume from the end: nothing yet')
    produce(auto, [(0,) + workload.record(3)], acks=1)
    m = c.poll(30)
    report.same((m.offset(), m.value()), (1, workload.record(3)[1]), 'consume from the end')

    live = [read(c, NAME + '-gaps', 0, start) for start in (OFFSET_BEGINNING, 50, 150)]
    report.same([[(r[0], r[2]) for r in batch] for batch in live],
                [[(i, b'live %d' % i) for i in offsets]
                 for offsets in ((0, 1, 102, 103), (102, 103), ())], 'step over gaps')
    report.same(produce(NAME + '-gaps', [(0,) + workload.record(3)]), [(0, 204)], 'write after a gap')
    m = c.poll(30)
    report.same((m.offset(), m.value()), (204, workload.record(3)[1]), 'read on after a gap')
    c.close()

    admin.delete_topics([auto])[auto].result(30)
    report.ok(auto not in admin.list_topics(timeout=30).topics, 'delete a topic')


main()
sys.exit(report.exit_code())
