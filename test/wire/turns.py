"""Fetch where one answer has not room for all: how much it has, and whose turn it is.

For a server with kafka_pg.test_near_round_trip so high that every client is near.
"""
from ktap import *

MB = 1 << 20
VALUE = 60000
ROUNDS = 12
NEWEST = every_version('Fetch')[-1]


class Reader:
    """Fetches the same partitions again and again, going on behind what it has got."""

    def __init__(self, topics, version, size, share, max_bytes=MB):
        self.client = Client()
        self.version = version
        self.size = size
        self.share = share
        self.max_bytes = max_bytes
        # (topic, partition): offset, which is the number of batches too
        self.offsets = {(topic_id if version >= 13 else name, p): 0
                        for name, topic_id in topics for p in (0, 1)}
        self.order = list(self.offsets)
        self.session = self.epoch = 0

    def fetch(self, session=False, order=None, min_bytes=1):
        """One answer; how many bytes each partition got."""
        field = 'topic_id' if self.version >= 13 else 'topic'
        topics = []
        for key, p in order or self.order:
            if not topics or topics[-1][field] != key:
                topics.append({field: key, 'partitions': []})
            topics[-1]['partitions'].append(
                {'partition': p, 'fetch_offset': self.offsets[key, p], 'log_start_offset': -1,
                 'partition_max_bytes': self.share, 'current_leader_epoch': -1})
        r = self.client.request('Fetch', self.version, {
            'replica_id': -1, 'max_wait_ms': 60000, 'min_bytes': min_bytes,
            'max_bytes': self.max_bytes, 'session_id': self.session,
            'session_epoch': self.epoch if session else -1, 'topics': topics})
        if session:
            same(err(r['error_code']), 'NONE', 'the session goes on')
            self.session = r['session_id']
            self.epoch += 1
        got = dict.fromkeys(self.offsets, 0)
        for topic in r['responses']:
            for part in topic['partitions']:
                place = topic[field], part['partition_index']
                got[place] = len(part['records'])
                self.offsets[place] += got[place] // self.size
        return got

    def served(self):
        return [offset * self.size for offset in self.offsets.values()]


def setup():
    """Two topics of two partitions, each with more than will be read; and a batch's size."""
    data = batch([b'x' * VALUE])
    topics = []
    with Client() as c:
        for _ in range(2):
            topics.append(make_topic(c, partitions=2))
            for p in (0, 1):
                for _ in range((ROUNDS // 4 + 1) * MB // VALUE):
                    produce(c, topics[-1][0], data, p, acks=1)
    return topics, len(data)


def turns():
    topics, size = setup()
    for session in (False, True):
        for version in (7 if session else 4, 12, 13, NEWEST):
            for share in (MB, 350000):
                for rotating in ((False,) if session else (False, True)):
                    tag = 'Fetch %d%s%s, %d bytes a partition: ' % (
                        version, ' with a session' if session else '',
                        ', the order changing' if rotating else '', share)
                    reader = Reader(topics, version, size, share)
                    most = 0
                    for _ in range(ROUNDS):
                        most = max(most, sum(reader.fetch(session).values()))
                        if rotating:
                            reader.order.append(reader.order.pop(0))
                    served = reader.served()
                    ok(most <= MB, tag + 'no answer is too large')
                    ok(min(served) > 0 and max(served) - min(served) <= share,
                       tag + 'all get the same, %s' % served)
                    reader.client.close()


def left_out():
    """Partitions have their turns by name, wherever they stand in the request."""
    topics, size = setup()
    for version in (4, 13):
        tag = 'Fetch %d: ' % version
        reader = Reader(topics, version, size, MB)
        a, b, c, d = reader.order

        def first(*order):
            got = reader.fetch(order=order)
            return [place for place in order if got[place] > 0]
        same(first(a, b, c, d), [a], tag + 'the first one')
        same(first(c, a, d, b), [b], tag + 'the one behind it, which is the last now')
        same(first(d, c, a), [c], tag + 'the one behind that, going round')
        same(first(d, b), [d], tag + 'the first, as it is not the turn of any')
        same(first(a, b), [b], tag + 'and on')
        reader.client.close()


def near():
    """One megabyte for a client that is near, if it is content with that."""
    topics, size = setup()
    for version in (4, NEWEST):
        tag = 'Fetch %d: ' % version
        reader = Reader(topics, version, size, MB, 50 * MB)
        answers = [sum(reader.fetch().values()) for _ in range(ROUNDS)]
        ok(all(MB - size < n <= MB for n in answers), tag + 'a megabyte each, %s' % answers)
        served = reader.served()
        ok(max(served) - min(served) <= MB, tag + 'and each partition in turn, %s' % served)
        reader.client.close()

        reader = Reader(topics, version, size, MB, 50 * MB)
        n = sum(reader.fetch(min_bytes=3 * MB).values())
        ok(n >= 3 * MB, tag + 'more for one that wants it, %d' % n)
        reader.client.close()


main(turns, left_out, near)
