"""aiokafka's producer, consumer (with assign) and admin client."""
import asyncio
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, '..')

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import workload
from workload import CODECS, RECORDS, Report

NAME = 'aiokafka'
SERVER = os.environ['KAFKA_BOOTSTRAP']
report = Report()


async def produce(topic, todo, codec, **config):
    """Sends (partition, key, value, headers, timestamp); returns partitions and offsets."""
    async with AIOKafkaProducer(bootstrap_servers=SERVER, max_request_size=10000000,
                                compression_type=None if codec == 'none' else codec, **config) as producer:
        futures = [await producer.send(topic, value, key, partition, timestamp, headers)
                   for partition, key, value, headers, timestamp in todo]
        done = await asyncio.gather(*futures)
    return [d and (d.partition, d.offset) for d in done]


async def poll(consumer, count, seconds=60):
    records = []
    try:
        async with asyncio.timeout(seconds):
            while len(records) < count:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += [(r.offset, r.key, r.value, list(r.headers), r.timestamp)
                                for r in batch]
    except TimeoutError:
        pass
    return records


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=SERVER)
    await admin.start()
    records, big, auto = NAME + '-records', NAME + '-big', NAME + '-auto'
    await admin.create_topics([NewTopic(records, len(CODECS), 1),
                               NewTopic(big, 1, 1, topic_configs={'max.message.bytes': '10485760'})])
    sizes = [len(t['partitions']) for t in await admin.describe_topics([records, big])]
    report.same(sorted(sizes), [1, 5], 'create topics')
    answer = await admin.create_topics([NewTopic(big, 1, 1)])
    report.same(answer.topic_errors[0][1], 36, 'create a topic twice')
    configs = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, big)])
    report.ok('10485760' in str(configs), 'describe a topic\'s configs')

    for partition, codec in enumerate(CODECS):
        acked = await produce(records, [(partition,) + workload.record(i) for i in range(RECORDS)],
                              codec, enable_idempotence=True, linger_ms=20, max_batch_size=500000)
        report.same(acked, [(partition, i) for i in range(RECORDS)], 'produce with ' + codec)
    for i, codec in enumerate(workload.BIG_CODECS):
        await produce(big, [(0,) + workload.big_record(i)], CODECS[codec], acks='all')

    consumer = AIOKafkaConsumer(bootstrap_servers=SERVER, fetch_max_wait_ms=100,
                                enable_auto_commit=False)
    await consumer.start()

    async def read(topic, partition, start, count):
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        if start is None:
            await consumer.seek_to_beginning(tp)
        else:
            consumer.seek(tp, start)
        return await poll(consumer, count)

    for partition, codec in enumerate(CODECS):
        report.same_records(await read(records, partition, None, RECORDS), workload.wanted(),
                            'consume from the beginning, ' + codec)
    report.same_records(await read(big, 0, None, len(workload.BIG_SIZES)), workload.wanted_big(),
                        'values up to 5 MB')
    report.same_records(await read(records, 3, 100, RECORDS - 100), workload.wanted(100),
                        'consume from an offset')
    partitions = [TopicPartition(records, p) for p in range(len(CODECS))]
    found = await consumer.offsets_for_times({p: workload.timestamp(50) - 500 for p in partitions})
    report.same([found[p].offset for p in partitions], [50] * 5, 'offsets of a timestamp')
    report.same_records(await read(records, 2, found[partitions[2]].offset, RECORDS - 50),
                        workload.wanted(50), 'consume from a timestamp')
    found = await consumer.offsets_for_times({partitions[0]: workload.timestamp(RECORDS)})
    report.same(found[partitions[0]], None, 'no offset after the last timestamp')
    report.same((await consumer.beginning_offsets(partitions[2:3]),
                 await consumer.end_offsets(partitions[2:3])),
                ({partitions[2]: 0}, {partitions[2]: RECORDS}), 'first and last offset')

    await produce(auto, [(0,) + workload.record(2)], 'none', acks=1)
    report.same_records(await read(auto, 0, None, 1), [(0,) + workload.record(2)],
                        'a topic that was created on its own')
    await consumer.seek_to_end(TopicPartition(auto, 0))
    report.same(await poll(consumer, 1, 1), [], 'consume from the end: nothing yet')
    await produce(auto, [(0,) + workload.record(3)], 'none', acks=0)
    report.same_records(await poll(consumer, 1), [(1,) + workload.record(3)], 'consume from the end')

    live = await read(NAME + '-gaps', 0, None, 4)
    report.same([(r[0], r[2]) for r in live], [(i, b'live %d' % i) for i in (0, 1, 102, 103)],
                'step over gaps')
    report.same(await produce(NAME + '-gaps', [(0,) + workload.record(3)], 'none'), [(0, 204)],
                'write after a gap')
    report.same_records(await poll(consumer, 1), [(204,) + workload.record(3)], 'read on after a gap')
    report.same([r[0] for r in await read(NAME + '-gaps', 0, 50, 3)], [102, 103, 204],
                'start in a gap')
    await consumer.stop()

    await admin.delete_topics([auto])
    names = await admin.list_topics()
    report.ok(auto not in names and big in names, 'delete a topic')
    answer = await admin.delete_topics([auto])
    report.same(answer.topic_error_codes[0][1], 3, 'delete a topic twice')
    await admin.close()


asyncio.run(main())
sys.exit(report.exit_code())
