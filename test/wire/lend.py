"""Large answers, whose records are lent to the socket from their pages while it takes them."""
import os
import random
import select
import socket
import struct

import psycopg2

from ktap import *
from kwire import batches, values, Client

# so that the kernel holds little of an answer that is not read
SMALL = 4096


class Slow(Client):
    """A client that takes its answers in small pieces."""

    def __init__(self):
        host, port = os.environ['KAFKA_BOOTSTRAP'].rsplit(':', 1)
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self.sock.settimeout(60)
        self.sock.connect((host, int(port)))
        self.next_id = 1
        self.random = random.Random(1)
        self.pause = None

    def recv_exact(self, n):
        """What pause() does happens once, early in a long answer."""
        data = bytearray()
        while len(data) < n:
            if self.pause is not None and n > 1 << 20 and len(data) > 65536:
                pause, self.pause = self.pause, None
                pause()
            try:
                size = self.random.choice([1, 100, 5000, 70000])
                piece = self.sock.recv(min(n - len(data), size))
            except ConnectionResetError as e:
                raise Closed from e
            if not piece:
                raise Closed
            data += piece
        return bytes(data)


def sql(command):
    s = psycopg2.connect('')
    s.autocommit = True
    cur = s.cursor()
    cur.execute(command)
    rows = cur.fetchall() if cur.description else None
    s.close()
    return rows


def read_all(client, topic, partition, max_bytes):
    """All there is, each answer's records appended to the others."""
    end = list_offset(client, topic, -1, partition)['offset']
    data = b''
    offset = 0
    answers = 0
    while offset < end:
        part = fetch(client, topic, offset, partition, partition_max_bytes=max_bytes,
                     max_bytes=1 << 23)
        found = batches(part['records'])
        data += part['records']
        offset = found[-1]['base_offset'] + found[-1]['last_offset_delta'] + 1
        answers += 1
    return data, answers


def as_if_copied():
    """Lent or copied, fast or slow: the same bytes, also of batches that are dead."""
    with Client() as c, Slow() as slow:
        copied, n = read_all(c, 'mixed', 0, 20000)
        ok(n > 20, 'small answers are copied')
        found = batches(copied)
        ok(all(b['crc_ok'] for b in found), 'and right')
        ok(sum(b['attributes'] & 0x20 != 0 for b in found) >= 3, 'dead batches among them')
        for size in 40000, 333333, 1 << 23:
            lent, n = read_all(c, 'mixed', 0, size)
            same(len(lent), len(copied), 'answers of %d bytes' % size)
            ok(lent == copied, 'have the same bytes')
        lent, n = read_all(slow, 'mixed', 0, 1 << 23)
        ok(lent == copied, 'also for a client that takes little at a time')


def long_batches():
    """Batches over many pages, the last answers of which begin in the middle of the log."""
    with Client() as c, Slow() as slow:
        wanted = []
        for i in range(16):
            value = random.Random(i).randbytes(random.Random(i).randrange(1, 900000))
            wanted.append((i, value))
            same(produce(c, 'long', batch([value]))['error_code'], 0, 'a long batch')
        for client in c, slow:
            for start in 0, 5, 15:
                data = b''
                offset = start
                while offset < 16:
                    data += fetch(client, 'long', offset, partition_max_bytes=2000000,
                                  max_bytes=1 << 22)['records']
                    offset = batches(data)[-1]['base_offset'] + 1
                ok(values(data) == wanted[start:], 'from %d on' % start)


def pipelined():
    """Answers that follow each other on one connection do not mix."""
    with Slow() as slow:
        whole = fetch(slow, 'long', 0, partition_max_bytes=1 << 22, max_bytes=1 << 23)['records']
        body = {'replica_id': -1, 'max_wait_ms': 1000, 'min_bytes': 1, 'max_bytes': 1 << 23,
                'session_epoch': -1, 'topics': [{'topic': 'long', 'partitions': [
                    {'partition': 0, 'fetch_offset': 0, 'partition_max_bytes': 1 << 22,
                     'current_leader_epoch': -1, 'log_start_offset': -1}]}]}
        sent = []
        for i in range(3):
            sent.append(('Fetch', 11, slow.send('Fetch', 11, body)))
            sent.append(('Metadata', 9, slow.send('Metadata', 9, {'topics': [{'name': 'long'}]})))
        for api, version, correlation_id in sent:
            r = slow.receive(api, version, correlation_id)
            if api == 'Fetch':
                ok(r['responses'][0]['partitions'][0]['records'] == whole, 'a large answer')
            else:
                same(r['topics'][0]['name'], 'long', 'and a small one')


def locked_meanwhile():
    """An answer waits for a lock on its topic; nobody else does."""
    s = psycopg2.connect('')
    with Client() as other, Slow() as slow:
        def lock():
            s.cursor().execute('LOCK TABLE topics.long IN ACCESS EXCLUSIVE MODE')
            drained = 0
            # what the kernel has already is no proof
            while select.select([slow.sock], [], [], 0.5)[0] and drained < 1 << 22:
                self_data.append(slow.sock.recv(65536))
                drained += len(self_data[-1])
            ok(not select.select([slow.sock], [], [], 0.2)[0], 'nothing more comes')
            same(fetch(other, 'mixed', 0)['error_code'], 0, 'others are served')
            s.rollback()

        self_data = []
        body = {'replica_id': -1, 'max_wait_ms': 1000, 'min_bytes': 1, 'max_bytes': 1 << 23,
                'session_epoch': -1, 'topics': [{'topic': 'long', 'partitions': [
                    {'partition': 0, 'fetch_offset': 0, 'partition_max_bytes': 1 << 23,
                     'current_leader_epoch': -1, 'log_start_offset': -1}]}]}
        whole = fetch(other, 'long', 0, partition_max_bytes=1 << 23, max_bytes=1 << 23)['records']
        slow.send('Fetch', 11, body)
        size = struct.unpack('>i', slow.recv_exact(4))[0]
        lock()
        got = b''.join(self_data)
        got += slow.recv_exact(size - len(got))
        ok(whole in got, 'when the lock is free the rest comes')
    s.close()


def evicted_meanwhile():
    """Pages that are pushed out of shared buffers in the middle of an answer are brought back."""
    with Client() as c, Slow() as slow:
        whole = fetch(c, 'long', 0, partition_max_bytes=1 << 23, max_bytes=1 << 23)['records']
        before = sql("SELECT count(*) FROM pg_buffercache WHERE relfilenode = "
                     "pg_relation_filenode('topics.long')")[0][0]

        def evict():
            for _ in range(3):
                sql('SELECT count(*), sum(hashtext(v)) FROM filler')
                sql('UPDATE filler SET n = n + 1')
            left = sql("SELECT count(*) FROM pg_buffercache WHERE relfilenode = "
                       "pg_relation_filenode('topics.long')")[0][0]
            ok(left < before / 2, 'pages are pushed out: %d of %d are left' % (left, before))

        slow.pause = evict
        data = fetch(slow, 'long', 0, partition_max_bytes=1 << 23, max_bytes=1 << 23)['records']
        ok(slow.pause is None, 'the client has paused')
        ok(data == whole, 'the answer is the same')


def dropped_meanwhile():
    """A topic that is dropped in the middle of an answer: the rest never comes."""
    with Client() as c, Slow() as slow:
        # an answer ends before what is on disk only; ask until all of it is in shared buffers
        while len(fetch(c, 'long', 0, partition_max_bytes=1 << 23, max_bytes=1 << 23)['records']) \
                < 7000000:
            time.sleep(0.05)
        slow.pause = lambda: sql("SELECT kafka.drop_topic('long')")
        closes(lambda: fetch(slow, 'long', 0, partition_max_bytes=1 << 23, max_bytes=1 << 23),
               'the connection is closed')
    with Client() as c:
        same(err(fetch(c, 'long', 0)['error_code']), 'UNKNOWN_TOPIC_OR_PARTITION',
             'the client finds out why')
        same(fetch(c, 'mixed', 0)['error_code'], 0, 'others are served')


if __name__ == '__main__':
    main(as_if_copied, long_batches, pipelined, locked_meanwhile, evicted_meanwhile,
         dropped_meanwhile)
