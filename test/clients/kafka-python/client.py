"""kafka-python's producer, consumer (with assign) and admin client."""
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, '..')

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

import workload
from workload import CODECS, RECORDS, Report

NAME = 'kafka-python'
SERVER = os.environ['KAFKA_BOOTSTRAP']
report = Report()


def produce(topic, todo, codec, **config):
    """Sends (partition, key, value, headers, timestamp); returns partitions and offsets."""
    producer = KafkaProducer(bootstrap_servers=SERVER, max_request_size=10000000,
                             compression_type=None if codec == 'none' else codec, **config)
    futures = [producer.send(topic, value, key, headers, partition, timestamp)
               for partition, key, value, headers, timestamp in todo]
    done = [future.get(60) for future in futures]
    producer.close()
    return [(d.partition, d.offset) for d in done]


def poll(consumer, count, seconds=60):
    records = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        for batch in consumer.poll(200).values():
            records += [(r.offset, r.key, r.value, list(r.headers), r.timestamp) for r in batch]
    return records


def main():
    admin = KafkaAdminClient(bootstrap_servers=SERVER)
    records, big, auto = NAME + '-records', NAME + '-big', NAME + '-auto'
    admin.create_topics([NewTopic(records, len(CODECS), 1),
                         NewTopic(big, 1, 1, topic_configs={'max.message.bytes': '10485760'})])
    sizes = [len(t['partitions']) for t in admin.describe_topics([records, big])]
    report.same(sorted(sizes), [1, 5], 'create topics')
    try:
        admin.create_topics([NewTopic(big, 1, 1)])
        report.ok(False, 'create a topic twice')
    except TopicAlreadyExistsError:
        report.ok(True, 'create a topic twice')
    configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, big)])
    report.ok('10485760' in str(configs), 'describe a topic\'s configs')

    for partition, codec in enumerate(CODECS):
        acked = produce(records, [(partition,) + workload.record(i) for i in range(RECORDS)],
                        codec, enable_idempotence=True, linger_ms=20, batch_size=500000)
        report.same(acked, [(partition, i) for i in range(RECORDS)], 'produce with ' + codec)
    for i, codec in enumerate(workload.BIG_CODECS):
        produce(big, [(0,) + workload.big_record(i)], CODECS[codec], enable_idempotence=False)

    consumer = KafkaConsumer(bootstrap_servers=SERVER, fetch_max_wait_ms=100,
                             enable_auto_commit=False)

    def read(topic, partition, start, count):
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        if start is None:
            consumer.seek_to_beginning(tp)
        else:
            consumer.seek(tp, start)
        return poll(consumer, count)

    for partition, codec in enumerate(CODECS):
        report.same_records(read(records, partition, None, RECORDS), workload.wanted(),
                            'consume from the beginning, ' + codec)
    report.same_records(read(big, 0, None, len(workload.BIG_SIZES)), workload.wanted_big(),
                        'values up to 5 MB')
    report.same_records(read(records, 3, 100, RECORDS - 100), workload.wanted(100),
                        'consume from an offset')
    partitions = [TopicPartition(records, p) for p in range(len(CODECS))]
    found = consumer.offsets_for_times({p: workload.timestamp(50) - 500 for p in partitions})
    report.same([found[p].offset for p in partitions], [50] * 5, 'offsets of a timestamp')
    report.same_records(read(records, 2, found[partitions[2]].offset, RECORDS - 50),
                        workload.wanted(50), 'consume from a timestamp')
    found = consumer.offsets_for_times({partitions[0]: workload.timestamp(RECORDS)})
    report.same(found[partitions[0]], None, 'no offset after the last timestamp')
    report.same((consumer.beginning_offsets(partitions[2:3]),
                 consumer.end_offsets(partitions[2:3])),
                ({partitions[2]: 0}, {partitions[2]: RECORDS}), 'first and last offset')

    produce(auto, [(0,) + workload.record(2)], 'none', acks=1, enable_idempotence=False)
    report.same_records(read(auto, 0, None, 1), [(0,) + workload.record(2)],
                        'a topic that was created on its own')
    consumer.seek_to_end(TopicPartition(auto, 0))
    report.same(poll(consumer, 1, 1), [], 'consume from the end: nothing yet')
    produce(auto, [(0,) + workload.record(3)], 'none', acks=0, enable_idempotence=False)
    report.same_records(poll(consumer, 1), [(1,) + workload.record(3)], 'consume from the end')

    live = read(NAME + '-gaps', 0, None, 4)
    report.same([(r[0], r[2]) for r in live], [(i, b'live %d' % i) for i in (0, 1, 102, 103)],
                'step over gaps')
    report.same(produce(NAME + '-gaps', [(0,) + workload.record(3)], 'none'), [(0, 204)],
                'write after a gap')
    report.same_records(poll(consumer, 1), [(204,) + workload.record(3)], 'read on after a gap')
    report.same([r[0] for r in read(NAME + '-gaps', 0, 50, 3)], [102, 103, 204], 'start in a gap')
    consumer.close()

    admin.delete_topics([auto])
    names = admin.list_topics()
    report.ok(auto not in names and big in names, 'delete a topic')
    try:
        admin.delete_topics([auto])
        report.ok(False, 'delete a topic twice')
    except UnknownTopicOrPartitionError:
        report.ok(True, 'delete a topic twice')
    admin.close()


main()
sys.exit(report.exit_code())
