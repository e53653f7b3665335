"""Clients that misuse the server, in great numbers, beside one that does not.

For a server with kafka_pg.max_connections = 600, max_connections_per_address = 400,
max_request_size = 8MB, max_inflight_bytes = 32MB, connection_idle_timeout = 3s.
"""
import os
import select
import signal
import socket
import struct
import threading

import psycopg2

from ktap import *
from kwire import batches, request_frame

PER_ADDRESS = 400
SILENCE = 10


def sql(query):
    db = psycopg2.connect('')
    db.autocommit = True
    with db.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    db.close()
    return row[0]


def memory():
    """Private memory of the hungriest broker, MB."""
    db = psycopg2.connect('')
    with db.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'kafka broker%'")
        pids = [pid for pid, in cursor]
    db.close()
    most = 0
    for pid in pids:
        for line in open('/proc/%d/status' % pid):
            if line.startswith('RssAnon'):
                most = max(most, int(line.split()[1]) / 1024)
    return most


def connections():
    return sql('SELECT count(*) FROM kafka.stat_connection')


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


class Bystander:
    """Produces and fetches on a topic of its own while others misbehave."""

    def __init__(self, size=100000):
        self.client = Client(timeout=SILENCE)
        self.topic, _ = make_topic(self.client)
        self.size = size
        self.stop = False
        self.count = 0
        self.worst = 0
        self.problem = None
        self.data = batch([b'x' * size])

    def work(self):
        try:
            while not self.stop:
                began = time.monotonic()
                got = produce(self.client, self.topic, self.data)
                if (got['error_code'], got['base_offset']) != (0, self.count):
                    raise ValueError('%s at %d' % (err(got['error_code']), got['base_offset']))
                back = fetch(self.client, self.topic, self.count)
                if batches(back['records'])[0]['count'] != 1:
                    raise ValueError('fetched something else')
                self.count += 1
                self.worst = max(self.worst, time.monotonic() - began)
                time.sleep(0.01)
        except Exception as e:
            self.problem = repr(e)

    def __enter__(self):
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        time.sleep(0.3)
        self.count_before = self.count
        return self

    def __exit__(self, *args):
        self.stop = True
        self.thread.join()
        self.client.close()

    def undisturbed(self, name):
        self.__exit__()
        same(self.problem, None, name + ': another client has no problem')
        ok(self.count > self.count_before, name + ': it goes on, %d requests, the slowest %d ms'
           % (self.count, self.worst * 1000))


def hello():
    c = Client()
    c.request('ApiVersions', 0)
    return c


def announcements():
    """Large frames that are announced and never sent."""
    before = memory()
    with Bystander() as b:
        liars = [hello() for _ in range(100)]
        for c in liars:
            c.send_raw(struct.pack('>i', 8 << 20) + b'\0\0')
        time.sleep(5)
        b.undisturbed('100 requests of 8 MB announced')
    for c in liars:
        c.close()
    ok(memory() - before < 16, 'announcements cost no memory')
    before = memory()
    for length in (0x7fffffff, -1, -0x80000000, (8 << 20) + 1):
        liars = [hello() for _ in range(20)]
        for c in liars:
            c.send_raw(struct.pack('>i', length) + b'x' * 1000)
        ok(all(c.is_closed() for c in liars), '20 frames of %d bytes close their connections' % length)
    ok(memory() - before < 4, 'and move no memory')


def slow_senders():
    """A byte now and then: of the length, of the header, of a body."""
    whole = request_frame('Metadata', 1, {'topics': None})
    large = request_frame('Produce', 9, {'acks': 1, 'timeout_ms': 1000, 'topic_data': [
        {'name': 'none', 'partition_data': [{'index': 0, 'records': b'x' * 200000}]}]})
    with Bystander() as b:
        slow = [[hello(), frame, sent] for frame, sent in
                ((whole, 1), (whole, 5), (large, 4), (large, 100000)) for _ in range(10)]
        for s in slow:
            s[0].send_raw(s[1][:s[2]])
        open_ = len(slow)
        end = time.monotonic() + 20
        while open_ and time.monotonic() < end:
            time.sleep(0.5)
            for s in slow:
                if s[0] is None:
                    continue
                readable, _, _ = select.select([s[0].sock], [], [], 0)
                try:
                    if readable and s[0].is_closed():
                        raise Closed
                    s[0].send_raw(s[1][s[2]:s[2] + 1])
                    s[2] += 1
                except Closed:
                    s[0] = None
                    open_ -= 1
        same(open_, 0, 'slow senders are disconnected')
        b.undisturbed('40 slow senders')


def half_open():
    """Clients that are gone without having said so: stopped processes."""
    before = connections()
    children = []
    for n in range(20):
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            c = hello()
            if n % 2:
                c.send_raw(request_frame('Metadata', 1, {'topics': None})[:7])
            os.write(tell, b'.')
            time.sleep(600)
            os._exit(0)
        os.read(ready, 1)
        os.kill(pid, signal.SIGSTOP)
        children.append(pid)
    ok(connections() >= before + 20, '20 clients that are stopped')
    ok(until(lambda: connections() <= before), 'their connections are closed by the idle timeout')
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def knock():
    """A connection that is tried: 'served', 'refused', or why not."""
    try:
        c = Client(timeout=SILENCE)
        c.request('ApiVersions', 0)
        return c
    except (Closed, OSError):
        return None


def flood():
    """Thousands of connections: above the cap they are closed at once."""
    ok(until(lambda: connections() == 0), 'nobody is there')
    with Bystander(1000) as b:
        kept = []
        refused = 0
        slowest = 0
        for _ in range(3000):
            began = time.monotonic()
            c = knock()
            slowest = max(slowest, time.monotonic() - began)
            if c is None:
                refused += 1
            else:
                kept.append(c)
        ok(PER_ADDRESS - 5 <= len(kept) < 3000,
           '%d of 3000 are served, as they come and go' % len(kept))
        ok(slowest < SILENCE, 'nobody waits to be refused: %d ms at most' % (slowest * 1000))
        ok(connections() <= PER_ADDRESS, 'never more than the cap')
        b.undisturbed('3000 connections')
    for c in kept:
        c.close()
    # all at once, without a word
    raw = []
    host, port = os.environ['KAFKA_BOOTSTRAP'].rsplit(':', 1)
    with Bystander(1000) as b:
        for _ in range(3000):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((host, int(port)))
            raw.append(s)
            if len(raw) == 800:
                for s in raw:
                    s.close()
                raw = []
        b.undisturbed('3000 connects without a word')
    for s in raw:
        s.close()
    ok(until(lambda: knock() is not None), 'afterwards clients are served')


def deaf_clients():
    """Clients that ask for much and read nothing."""
    with Client() as c:
        name, _ = make_topic(c)
        for _ in range(8):
            produce(c, name, batch([b'y' * 900000]))
    ask = request_frame('Fetch', 11, {
        'max_wait_ms': 100, 'min_bytes': 1, 'max_bytes': 1 << 26, 'session_epoch': -1, 'topics': [
            {'topic': name, 'partitions': [{'partition': 0, 'fetch_offset': 0,
                                            'current_leader_epoch': -1, 'log_start_offset': -1,
                                            'partition_max_bytes': 1 << 26}]}]})
    before = memory()
    with Bystander() as b:
        deaf = []
        for _ in range(60):
            c = hello()
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.sock.setblocking(False)
            try:
                c.sock.send(ask * 200)
            except BlockingIOError:
                pass
            deaf.append(c)
        time.sleep(2)
        most = memory()
        b.undisturbed('60 clients that ask for 1.4 GB each and read nothing')
    ok(most - before < 160, 'the answers that nobody reads have a bound (%d MB)' % (most - before))
    ok(until(lambda: connections() == 0), 'and these clients are given up in the end')


def pipelining():
    """Thousands of requests before the first answer is read."""
    with Bystander() as b:
        with Client(timeout=60) as c:
            name, _ = make_topic(c)
            n = 5000
            frames = b''.join(request_frame('ListOffsets', 7, {'replica_id': -1, 'topics': [
                {'name': name, 'partitions': [{'partition_index': 0, 'timestamp': -1,
                                               'current_leader_epoch': -1}]}]}, i)
                              for i in range(n))
            sender = threading.Thread(target=c.send_raw, args=(frames,))
            sender.start()
            time.sleep(0.5)
            got = [c.receive('ListOffsets', 7, i)['topics'][0]['partitions'][0]['error_code']
                   for i in range(n)]
            sender.join()
            same(got, [0] * n, '%d requests are answered in order' % n)
        b.undisturbed('%d requests in one go' % n)


if __name__ == '__main__':
    main(announcements, slow_senders, half_open, deaf_clients, pipelining, flood)
