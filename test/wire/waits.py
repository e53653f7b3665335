"""Requests that wait for SQL sessions: locks, open transactions, dropped topics."""
import threading

import psycopg2

from ktap import *
from kwire import values


def session():
    s = psycopg2.connect('')
    s.autocommit = False
    return s, s.cursor()


def produce_body(topic, value):
    return {'acks': -1, 'timeout_ms': 60000, 'topic_data': [
        {'name': topic, 'partition_data': [{'index': 0, 'records': batch([value])}]}]}


def fetch_body(topic, offset, max_wait=60000):
    return {'replica_id': -1, 'max_wait_ms': max_wait, 'min_bytes': 1, 'max_bytes': 1 << 20,
            'session_epoch': -1, 'topics': [{'topic': topic, 'partitions': [
                {'partition': 0, 'fetch_offset': offset, 'partition_max_bytes': 1 << 20,
                 'current_leader_epoch': -1, 'log_start_offset': -1}]}]}


def locked_table():
    """A table locked by a session: its requests wait, in order, and nobody else's do."""
    s, cur = session()
    with Client() as waiting, Client() as reading, Client() as other:
        produce(other, 'a', batch([b'first']))
        cur.execute('LOCK TABLE topics.a IN ACCESS EXCLUSIVE MODE')
        sent = [waiting.send('Produce', 9, produce_body('a', b'%d' % i)) for i in range(3)]
        f = reading.send('Fetch', 11, fetch_body('a', 0))
        start = time.monotonic()
        for i in range(20):
            same(produce(other, 'b', batch([b'x']))['error_code'], 0, 'another topic is written')
        ok(time.monotonic() - start < 20, 'without waiting for the lock')
        same(len(fetch(other, 'b', 0)['records']) > 0, True, 'and read')
        waiting.sock.settimeout(0.3)
        try:
            waiting.recv_frame()
            ok(False, 'the locked topic is not written')
        except OSError:
            ok(True, 'the locked topic is not written')
        waiting.sock.settimeout(60)
        s.rollback()
        got = [waiting.receive('Produce', 9, i)['responses'][0]['partition_responses'][0]
               for i in sent]
        same([(err(p['error_code']), p['base_offset']) for p in got],
             [('NONE', 1), ('NONE', 2), ('NONE', 3)], 'then it is, in order')
        r = reading.receive('Fetch', 11, f)
        ok(values(r['responses'][0]['partitions'][0]['records'])[0] == (0, b'first'),
           'and read')
    s.close()


def lock_timeout():
    """A producer's time is over before the lock is free: what it sent is not written later."""
    s, cur = session()
    with Client() as c:
        end = list_offset(c, 'a', -1)['offset']
        cur.execute('LOCK TABLE topics.a IN ACCESS EXCLUSIVE MODE')
        p = produce(c, 'a', batch([b'late']), timeout=100)
        same(err(p['error_code']), 'REQUEST_TIMED_OUT', 'a lock for longer than timeout_ms')
        s.rollback()
        time.sleep(0.3)
        same(list_offset(c, 'a', -1)['offset'], end, 'nothing is written afterwards')
    s.close()


def open_transaction():
    """A record of an open transaction keeps readers waiting, and lets nobody else's answer wait."""
    s, cur = session()
    with Client() as c, Client() as reader:
        end = list_offset(c, 'b', -1)['offset']
        f = reader.send('Fetch', 11, fetch_body('b', end))
        cur.execute("SELECT kafka.produce('b', 'from sql', partition => 0)")
        s.commit()
        r = reader.receive('Fetch', 11, f)
        p = r['responses'][0]['partitions'][0]
        same(values(p['records']), [(end, b'from sql')], 'a COMMIT wakes a waiting fetch')
        cur.execute("SELECT kafka.produce('b', 'never', partition => 0)")
        s.rollback()
        p = fetch(c, 'b', end + 1, max_wait_ms=300)
        same(values(p['records']), [], 'a ROLLBACK shows nothing')
    s.close()


def dropped_topic():
    with Client() as c, Client() as reader:
        name, _ = make_topic(c)
        f = reader.send('Fetch', 11, fetch_body(name, 0, 3000))
        time.sleep(0.2)
        r = c.request('DeleteTopics', 5, {'timeout_ms': 20000, 'topic_names': [name]})
        same(err(r['responses'][0]['error_code']), 'NONE', 'a topic that is being read can go')
        r = reader.receive('Fetch', 11, f)
        same(err(r['responses'][0]['partitions'][0]['error_code']), 'UNKNOWN_TOPIC_OR_PARTITION',
             'the reader is told')
        same(err(produce(c, name, batch([b'x']))['error_code']), 'UNKNOWN_TOPIC_OR_PARTITION',
             'so is a writer')
        again, _ = make_topic(c, name)
        same(produce(c, name, batch([b'y']))['base_offset'], 0, 'a new topic of the name is empty')


def dropped_while_parked():
    """DROP in an open transaction holds requests up; its COMMIT ends them."""
    s, cur = session()
    with Client() as writer, Client() as reader, Client() as other:
        name, _ = make_topic(other)
        produce(other, name, batch([b'x']))
        cur.execute('SELECT kafka.drop_topic(%s)', (name,))
        p = writer.send('Produce', 9, produce_body(name, b'y'))
        f = reader.send('Fetch', 11, fetch_body(name, 0, 20000))
        same(produce(other, 'b', batch([b'x']))['error_code'], 0, 'others go on meanwhile')
        time.sleep(0.3)
        s.commit()
        r = writer.receive('Produce', 9, p)
        same(err(r['responses'][0]['partition_responses'][0]['error_code']),
             'UNKNOWN_TOPIC_OR_PARTITION', 'a parked Produce of a dropped topic')
        r = reader.receive('Fetch', 11, f)
        same(err(r['responses'][0]['partitions'][0]['error_code']), 'UNKNOWN_TOPIC_OR_PARTITION',
             'a parked Fetch of a dropped topic')
    s.close()


def deaf_client():
    """A client that takes no answers gets no more made, and harms nobody."""
    with Client() as deaf, Client() as c:
        name, _ = make_topic(c, max_message_bytes=2000000)
        for _ in range(8):
            produce(c, name, batch([b'z' * 1000000]))
        n = 100
        body = fetch_body(name, 0, 0)
        body['max_bytes'] = body['topics'][0]['partitions'][0]['partition_max_bytes'] = 8000000

        def ask():
            for _ in range(n):
                deaf.send('Fetch', 11, body)
        asking = threading.Thread(target=ask)
        asking.start()
        for i in range(20):
            same(produce(c, 'b', batch([b'x']))['error_code'], 0, 'others write')
            ok(len(fetch(c, 'b', 0)['records']) > 0, 'and read')
        got = [len(deaf.receive('Fetch', 11)['responses'][0]['partitions'][0]['records'])
               for _ in range(n)]
        asking.join()
        ok(min(got) > 1000000, 'and all %d answers come when they are taken' % n)


def rolled_back_ddl():
    s, cur = session()
    with Client() as c:
        name = fresh('rolled')
        cur.execute('SELECT kafka.create_topic(%s)', (name,))
        r = c.request('Metadata', 9, {'topics': [{'name': name}],
                                      'allow_auto_topic_creation': False})
        same(err(r['topics'][0]['error_code']), 'UNKNOWN_TOPIC_OR_PARTITION',
             'a topic that is not committed is not seen')
        s.rollback()
        r = c.request('Metadata', 9, {'topics': [{'name': name}],
                                      'allow_auto_topic_creation': False})
        same(err(r['topics'][0]['error_code']), 'UNKNOWN_TOPIC_OR_PARTITION', 'nor one rolled back')
        cur.execute('SELECT kafka.create_topic(%s)', (name,))
        s.commit()
        same(produce(c, name, batch([b'x']))['base_offset'], 0, 'a committed one is, at once')
    s.close()


main(locked_table, lock_timeout, open_transaction, dropped_topic, dropped_while_parked, deaf_client,
     rolled_back_ddl)
