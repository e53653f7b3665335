"""The cache of fetch sessions: its bounds, and who makes room for whom.

For one broker process with kafka_pg.max_fetch_sessions = 3 and
kafka_pg.test_fetch_session_age = AGE seconds, which Kafka has 120 of.
"""
import struct

from ktap import *

AGE = 3
MAX_PARTITIONS = 200000


class TooSlow(Exception):
    """The machine was busy: sessions are older than the test wants them to be."""


class Sessions:
    """Fetch sessions of one topic's first partitions, and a clock."""
    def __init__(self, client, topic):
        self.client = client
        self.topic = topic
        self.start = time.monotonic()
        self.epochs = {}

    def open(self, partitions):
        """The id of a new session, 0: there was no room for it."""
        r = session_fetch(self.client, self.topic, [(p, 0) for p in range(partitions)])
        if len(answered(r)[1]) != partitions or r['error_code'] != 0:
            raise RuntimeError('a full fetch is answered whole, whether it gets a session or not')
        if r['session_id'] != 0:
            self.epochs[r['session_id']] = 1
        return r['session_id']

    def use(self, *ids):
        """What fetches in these sessions are answered."""
        errors = []
        for session in ids:
            r = session_fetch(self.client, self.topic, [], session, self.epochs[session])
            errors.append(err(r['error_code']))
            self.epochs[session] += 1
        return errors

    def wait_until(self, seconds, then):
        """Until so many ages after the start; too slow, if "then" is over already."""
        now = time.monotonic() - self.start
        if now > then * AGE:
            raise TooSlow
        time.sleep(max(seconds * AGE - now, 0))

    def close(self):
        for session in self.epochs:
            session_fetch(self.client, self.topic, [], session, -1)


def patiently(test):
    """Runs test(Sessions) until the machine is quick enough for it."""
    def run():
        with Client() as c:
            name, _ = make_topic(c, partitions=8)
            for _ in range(10):
                sessions = Sessions(c, name)
                try:
                    results = test(sessions)
                    break
                except TooSlow:
                    continue
                finally:
                    sessions.close()
            for got, expected, what in results:
                same(got, expected, what)
    run.__name__ = test.__name__
    return run


NOT_FOUND = 'FETCH_SESSION_ID_NOT_FOUND'


@patiently
def full_cache(s):
    a, b, c = s.open(2), s.open(3), s.open(4)
    more = [s.open(8), s.open(2), s.open(1)]
    used = s.use(a, b, c)
    s.wait_until(0, 0.9)
    # one that ends makes room, also when it begins anew at once
    session_fetch(s.client, s.topic, [], b, -1)
    d = s.open(1)
    anew = session_fetch(s.client, s.topic, [(0, 0)], c, 0)['session_id']
    s.epochs[anew] = 1
    left = s.use(a, b, c, d, anew)
    s.wait_until(0, 0.9)
    return ((0 not in (a, b, c), True, 'as many sessions as there may be'),
            (more, [0, 0, 0], 'no more, while all are young'),
            (used, ['NONE'] * 3, 'and the first are not disturbed'),
            (0 not in (d, anew), True, 'where one ends another may begin'),
            (left, ['NONE', NOT_FOUND, NOT_FOUND, 'NONE', 'NONE'], 'those that ended are unknown'))


@patiently
def unused(s):
    a, b, c = s.open(8), s.open(8), s.open(8)
    s.wait_until(0.6, 0.9)
    s.use(a, c)
    s.wait_until(1.1, 1.5)
    d = s.open(1)
    left = s.use(a, b, c, d)
    more = s.open(7)
    s.wait_until(0, 1.5)
    return ((0 not in (a, b, c, d), True, 'a session not used for long makes room, however large'),
            (left, ['NONE', NOT_FOUND, 'NONE', 'NONE'], 'it alone'),
            (more, 0, 'the others do not'))


@patiently
def smaller(s):
    a, b, c = s.open(6), s.open(2), s.open(4)
    for when in (0.6, 1.1):
        s.wait_until(when, when + 0.3)
        s.use(a, b, c)
    refused = [s.open(1), s.open(2)]
    d = s.open(3)
    first = s.use(a, b, c, d)
    refused += [s.open(3), s.open(4)]
    e = s.open(5)
    second = s.use(a, c, d, e)
    s.wait_until(0, 1.5)
    return ((refused, [0, 0, 0, 0], 'one with as many partitions, or fewer, is not let in'),
            (0 not in (d, e), True, 'one with more partitions than an old one is'),
            (first, ['NONE', NOT_FOUND, 'NONE', 'NONE'], 'instead of the smallest'),
            (second, ['NONE', NOT_FOUND, 'NONE', 'NONE'], 'that is not young itself'))


@patiently
def old_since_its_last_use(s):
    a, b, c = s.open(1), s.open(2), s.open(3)
    s.wait_until(0.7, 0.9)
    s.use(a, b, c)
    s.wait_until(1.1, 1.5)
    d = s.open(8)
    left = s.use(a, b, c)
    s.wait_until(0, 1.5)
    return ((d, 0, 'who was old enough only after the last use stays'),
            (left, ['NONE'] * 3, 'until it is used again'))


def other_connection():
    with Client() as c, Client() as other:
        name, _ = make_topic(c)
        session = session_fetch(c, name, [(0, 0)])['session_id']
        c.close()
        same(answered(session_fetch(other, name, [], session, 1)), ('NONE', []),
             'a session goes on over another connection')
        session_fetch(other, name, [], session, -1)


def fetch_many(c, topic, first, n, session=0, epoch=0, forget=0):
    """A fetch of partitions first.. of a topic that has one: (error, session)."""
    name = struct.pack('>h', len(topic)) + topic.encode()
    body = struct.pack('>iiiibii', -1, 0, 1, 1 << 20, 0, session, epoch)
    body += struct.pack('>i', 1) + name + struct.pack('>i', n) if n else struct.pack('>i', 0)
    body += b''.join(struct.pack('>iiqqi', p, -1, 0, -1, 1000) for p in range(first, first + n))
    body += struct.pack('>i', 1) + name + struct.pack('>i', forget) if forget else struct.pack('>i', 0)
    body += b''.join(struct.pack('>i', p) for p in range(forget))
    body += struct.pack('>h', 0)
    c.send('Fetch', 11, None, raw=body)
    _, _, error, session = struct.unpack('>iihi', c.recv_frame()[:14])
    return err(error), session


def partition_cap():
    with Client() as c:
        topic, _ = make_topic(c)
        error, a = fetch_many(c, topic, 0, 150000)
        ok(error == 'NONE' and a > 0, 'a session of many partitions')
        same(fetch_many(c, topic, 0, 50001), ('NONE', 0), 'one with more than all may have together')
        error, b = fetch_many(c, topic, 0, 40000)
        ok(error == 'NONE' and b > 0, 'one that fits')
        same(fetch_many(c, topic, 0, 150000, a, 1), ('NONE', a),
             'partitions that a session has already may be named again')
        same(fetch_many(c, topic, 40000, 10001, b, 1), (NOT_FOUND, 0), 'a session that outgrows that ends')
        same(fetch_many(c, topic, 0, 0, b, 2), (NOT_FOUND, 0), 'and is forgotten')
        error, b = fetch_many(c, topic, 0, 50000)
        ok(error == 'NONE' and b > 0, 'its partitions are free for another')
        same(fetch_many(c, topic, 50000, 1, b, 1), (NOT_FOUND, 0), 'that has not one more')
        same(fetch_many(c, topic, 150000, 20000, a, 2, forget=140000), ('NONE', a),
             'a session forgets some and takes others')
        error, b = fetch_many(c, topic, 0, 170000)
        ok(error == 'NONE' and b > 0, 'what is forgotten is free')
        for session in (a, b):
            fetch_many(c, topic, 0, 0, session, -1)
        same(fetch_many(c, topic, 0, MAX_PARTITIONS + 1), ('NONE', 0), 'too many for one alone')
        error, b = fetch_many(c, topic, 0, MAX_PARTITIONS)
        ok(error == 'NONE' and b > 0, 'as many as there may be')
        fetch_many(c, topic, 0, 0, b, -1)


main(full_cache, unused, smaller, old_since_its_last_use, other_connection, partition_cap)
