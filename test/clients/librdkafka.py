"""librdkafka through confluent-kafka: producers, consumers, admin client as people use them."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../wire'))

from confluent_kafka import (OFFSET_BEGINNING, Consumer, KafkaError, KafkaException,
                             Producer, TopicPartition)
from confluent_kafka.admin import AdminClient, NewTopic

from ktap import fresh, main, ok, same

BOOTSTRAP = {'bootstrap.servers': os.environ['KAFKA_BOOTSTRAP']}


def create(partitions=1, **config):
    name = fresh('rdk')
    admin = AdminClient(BOOTSTRAP)
    new = NewTopic(name, num_partitions=partitions, replication_factor=1,
                   config={k.replace('_', '.'): str(v) for k, v in config.items()})
    admin.create_topics([new], operation_timeout=30)[name].result(30)
    return name


def consumer(**config):
    return Consumer(dict(BOOTSTRAP, **{'group.id': 'none', 'enable.auto.commit': False,
                                       'enable.partition.eof': True}, **config))


def read_all(topic, partitions=1, start=OFFSET_BEGINNING, **config):
    """Every record up to the ends of the partitions."""
    c = consumer(**dict({'fetch.wait.max.ms': 50}, **config))
    c.assign([TopicPartition(topic, p, start) for p in range(partitions)])
    records = []
    ends = 0
    deadline = time.monotonic() + 60
    while ends < partitions:
        if time.monotonic() > deadline:
            raise RuntimeError('the end of %s did not come' % topic)
        m = c.poll(1)
        if m is None:
            continue
        if m.error():
            if m.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(m.error())
            ends += 1
        else:
            records.append(m)
    c.close()
    return records


def admin():
    a = AdminClient(BOOTSTRAP)
    name = create(5, retention_ms=1000000)
    m = a.list_topics(timeout=30)
    same(len(m.topics[name].partitions), 5, 'created with five partitions')
    same((len(m.brokers), m.controller_id), (1, 1), 'one broker, which is the controller')
    ok(len(m.cluster_id) == 22, 'cluster id')
    try:
        a.create_topics([NewTopic(name, 1, 1)])[name].result(30)
        ok(False, 'created twice')
    except KafkaException as e:
        same(e.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS, 'created twice')
    a.delete_topics([name], operation_timeout=30)[name].result(30)
    ok(name not in a.list_topics(timeout=30).topics, 'deleted')


def round_trip():
    """All codecs, with and without idempotence: keys, headers, nulls, timestamps."""
    for codec in ('none', 'gzip', 'snappy', 'lz4', 'zstd'):
        for idempotent in (False, True):
            topic = create()
            p = Producer(dict(BOOTSTRAP, **{'compression.type': codec, 'linger.ms': 5,
                                            'enable.idempotence': idempotent, 'acks': 'all'}))
            sent = []
            for i in range(3000):
                record = (b'k%d' % (i % 7) if i % 3 else None,
                          (b'value %d ' % i) * (i % 20) if i % 11 else None,
                          # no null: confluent-kafka 1.7 miscounts its references to None
                          [('h1', b'x%d' % i), ('h1', b'2'), ('', b'')] if i % 2 else None,
                          1600000000000 + i)
                sent.append(record)
                p.produce(topic, key=record[0], value=record[1], headers=record[2],
                          timestamp=record[3])
            same(p.flush(60), 0, '%s%s: all are acknowledged' %
                 (codec, ', idempotent' if idempotent else ''))
            got = [(m.key(), m.value(), m.headers(), m.timestamp()[1])
                   for m in read_all(topic)]
            ok(got == sent, '%s: come back as they were' % codec)


def partitions():
    topic = create(8)
    p = Producer(BOOTSTRAP)
    for i in range(5000):
        p.produce(topic, key=b'%d' % (i % 100), value=b'%d' % i)
    same(p.flush(60), 0, 'eight partitions')
    got = read_all(topic, 8)
    same(sorted(int(m.value()) for m in got), list(range(5000)), 'nothing is lost or doubled')
    by_key = {}
    for m in got:
        by_key.setdefault(m.key(), []).append((m.partition(), int(m.value())))
    ok(all(len({part for part, _ in v}) == 1 and [n for _, n in v] == sorted(n for _, n in v)
           for v in by_key.values()), 'a key has one partition and keeps its order')


def offsets():
    topic = create()
    p = Producer(BOOTSTRAP)
    for i in range(100):
        p.produce(topic, value=b'%d' % i, timestamp=1600000000000 + 1000 * i)
    p.flush(60)
    c = consumer()
    same(c.get_watermark_offsets(TopicPartition(topic, 0), timeout=30), (0, 100), 'watermarks')
    found = c.offsets_for_times([TopicPartition(topic, 0, 1600000000000 + 41500)], timeout=30)
    same(found[0].offset, 42, 'offsets for times')
    c.assign([TopicPartition(topic, 0, 90)])
    got = []
    while len(got) < 10:
        m = c.poll(10)
        if m is not None and not m.error():
            got.append(int(m.value()))
    same(got, list(range(90, 100)), 'from an offset')
    c.seek(TopicPartition(topic, 0, 5))
    while True:
        m = c.poll(10)
        if m is not None and not m.error():
            break
    same(int(m.value()), 5, 'after a seek')
    c.close()
    c = consumer(**{'auto.offset.reset': 'earliest'})
    c.assign([TopicPartition(topic, 0, 5000)])
    while True:
        m = c.poll(10)
        if m is not None and not m.error():
            break
    same(int(m.value()), 0, 'an offset out of range starts at the earliest')
    c.close()


def waiting_consumer():
    topic = create()
    # Its fetches wait for longer than the test does: only being woken helps.
    c = consumer(**{'fetch.wait.max.ms': 90000, 'socket.timeout.ms': 120000})
    c.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    c.poll(1)
    p = Producer(dict(BOOTSTRAP, **{'linger.ms': 0}))
    for i in range(20):
        p.produce(topic, value=b'%d' % i)
        p.flush(30)
        while True:
            m = c.poll(30)
            if m is None or not m.error():
                break
        if m is None or int(m.value()) != i:
            ok(False, 'record %d reaches a waiting consumer' % i)
            return
    ok(True, 'records reach a waiting consumer at once')
    c.close()


def errors():
    def note(error, message):
        seen.append(None if error is None else error.code())
    topic = create(max_message_bytes=5000)
    seen = []
    p = Producer(dict(BOOTSTRAP, **{'message.timeout.ms': 10000}))
    p.produce(topic, value=os.urandom(9000), on_delivery=note)
    p.flush(30)
    p.produce(topic, value=b'ok', on_delivery=note)
    p.flush(30)
    same(seen, [KafkaError.MSG_SIZE_TOO_LARGE, None], 'a message too large for the topic')
    topic = create(cleanup_policy='compact')
    seen = []
    p.produce(topic, value=b'no key', on_delivery=note)
    p.flush(30)
    same(seen, [KafkaError.INVALID_RECORD], 'no key on a compacted topic')
    p = Producer(dict(BOOTSTRAP, **{'transactional.id': 't1', 'transaction.timeout.ms': 5000}))
    try:
        p.init_transactions(10)
        ok(False, 'transactions are refused')
    except KafkaException as e:
        same(e.args[0].code(), KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
             'transactions are refused')


def crowd():
    """Ten producers and five consumers at once."""
    topic = create(4)
    n = 2000
    failed = []

    def writer(k):
        p = Producer(dict(BOOTSTRAP, **{'enable.idempotence': k % 2 == 0, 'linger.ms': k % 3}))
        for i in range(n):
            p.produce(topic, value=b'%d:%d' % (k, i), partition=(k + i) % 4)
            p.poll(0)
        if p.flush(60) != 0:
            failed.append('writer %d' % k)

    def reader():
        c = consumer()
        c.assign([TopicPartition(topic, i, OFFSET_BEGINNING) for i in range(4)])
        seen = {}
        total = 0
        deadline = time.monotonic() + 90
        while total < 10 * n and time.monotonic() < deadline:
            m = c.poll(1)
            if m is None or m.error():
                continue
            k, i = map(int, m.value().split(b':'))
            key = (k, m.partition())
            if seen.get(key, -1) >= i:
                failed.append('writer %d out of order' % k)
                break
            seen[key] = i
            total += 1
        c.close()
        if total != 10 * n:
            failed.append('read %d of %d' % (total, 10 * n))
    threads = [threading.Thread(target=reader) for _ in range(5)]
    threads += [threading.Thread(target=writer, args=(k,)) for k in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    same(failed, [], 'ten producers and five consumers at once')
    same(len(read_all(topic, 4)), 10 * n, 'each record is there once')


main(admin, round_trip, partitions, offsets, waiting_consumer, errors, crowd)
