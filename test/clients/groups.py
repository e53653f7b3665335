"""Consumer groups through librdkafka: who gets which partition, and what survives a crash."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../wire'))

import psycopg2
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ktap import fresh, main, ok, same

BOOTSTRAP = {'bootstrap.servers': os.environ['KAFKA_BOOTSTRAP']}
PARTITIONS = 4


def create():
    name = fresh('grp')
    admin = AdminClient(BOOTSTRAP)
    new = NewTopic(name, num_partitions=PARTITIONS, replication_factor=1)
    admin.create_topics([new], operation_timeout=30)[name].result(30)
    return name


def write(topic, values):
    # what is tried again after a crash must not be there twice
    p = Producer(dict(BOOTSTRAP, **{'enable.idempotence': True}))
    for i in values:
        p.produce(topic, value=str(i), partition=i % PARTITIONS)
    same(p.flush(60), 0, 'all is written')


class Member:
    def __init__(self, group, topic, **config):
        self.assigned = 0
        self.values = []
        self.consumer = Consumer(dict(BOOTSTRAP, **{
            'group.id': group, 'enable.auto.commit': False, 'auto.offset.reset': 'earliest',
            'session.timeout.ms': 30000, 'heartbeat.interval.ms': 300}, **config))
        self.consumer.subscribe([topic], on_assign=self.on_assign)

    def on_assign(self, consumer, partitions):
        self.assigned += 1

    def partitions(self):
        return sorted(p.partition for p in self.consumer.assignment())


def poll(members, until, seconds=60):
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        for m in members:
            message = m.consumer.poll(0.05)
            if message is not None and not message.error():
                m.values.append(int(message.value()))
    return until()


def shared(members):
    """Does each partition have one owner, and each member its part?"""
    owned = [p for m in members for p in m.partitions()]
    return sorted(owned) == list(range(PARTITIONS)) and all(m.partitions() for m in members)


def rebalance():
    topic = create()
    group = fresh('group')
    write(topic, range(100))
    a = Member(group, topic)
    ok(poll([a], lambda: len(a.values) == 100), 'one member reads all')
    same(sorted(a.values), list(range(100)), 'each record once')
    a.consumer.commit(asynchronous=False)
    b = Member(group, topic)
    ok(poll([a, b], lambda: shared([a, b])), 'two members share the partitions')
    write(topic, range(100, 200))
    ok(poll([a, b], lambda: len(a.values) + len(b.values) >= 200), 'both read')
    same(sorted(a.values + b.values), list(range(200)), 'again each record once')
    ok(b.values, 'the second one too')
    a.consumer.commit(asynchronous=False)
    b.consumer.commit(asynchronous=False)
    b.consumer.close()
    ok(poll([a], lambda: shared([a])), 'who stays has all partitions')
    a.consumer.close()

    write(topic, range(200, 240))
    c = Member(group, topic)
    ok(poll([c], lambda: len(c.values) >= 40), 'a newcomer goes on')
    same(sorted(c.values), list(range(200, 240)), 'behind what was committed')
    c.consumer.close()


def brokers():
    """The pids of broker processes; none while the server is down."""
    try:
        connection = psycopg2.connect('')
        cursor = connection.cursor()
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'kafka broker%'")
        pids = [pid for pid, in cursor]
        connection.close()
        return pids
    except psycopg2.OperationalError:
        return []


def kill_a_broker():
    """The whole server restarts; the members do not notice but for the broken connections."""
    topic = create()
    group = fresh('group')
    members = [Member(group, topic), Member(group, topic)]
    ok(poll(members, lambda: shared(members)), 'two members')
    before = [(m.assigned, m.partitions()) for m in members]
    write(topic, range(40))
    ok(poll(members, lambda: sum(len(m.values) for m in members) >= 40), 'they read')
    for m in members:
        m.consumer.commit(asynchronous=False)

    killed = brokers()[0]
    os.kill(killed, signal.SIGKILL)
    # a busy machine takes its time to notice, and the other brokers go on meanwhile
    deadline = time.monotonic() + 60
    while (killed in brokers() or not brokers()) and time.monotonic() < deadline:
        time.sleep(0.1)
    ok(killed not in brokers(), 'the server has restarted')
    write(topic, range(40, 80))
    ok(poll(members, lambda: sum(len(m.values) for m in members) >= 80), 'they read on')
    same([(m.assigned, m.partitions()) for m in members], before, 'without a rebalance')
    same(sorted(v for m in members for v in m.values), list(range(80)), 'each record once')
    committed = members[0].consumer.committed([TopicPartition(topic, p)
                                               for p in range(PARTITIONS)], timeout=30)
    same([p.offset for p in committed], [10] * PARTITIONS, 'no commit is lost')
    for m in members:
        m.consumer.commit(asynchronous=False)
        m.consumer.close()


main(rebalance, kill_a_broker)
