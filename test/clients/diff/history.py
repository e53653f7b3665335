"""The same history on both brokers, and then the same questions: answers that depend on state.

A history is a list of steps on topics of its own.  A step is
    Topic(name, configs, partitions)    makes a topic, with every default that its configs leave
    (api, version, body)                asks; texts stand for each broker's own values, as in cases
    Aside(name, api, version, body)     asks on a connection of that name, and does not wait
    Heard(name)                         for what comes back there
and whatever is answered is compared, except to Topic.  Made has what a broker must be asked for
first: Made(lambda target: ...) in place of any value.
"""
import gzip
import time

from kwire import APIS, batch, record

# Exact, and not to be taken for the time of an append.
from cases import NOW
T = NOW - 3600000


class Topic:
    def __init__(self, name, configs=None, partitions=1):
        self.name = name
        self.configs = configs or {}
        self.partitions = partitions


class Made:
    def __init__(self, make):
        self.make = make


class Aside:
    def __init__(self, name, *step):
        self.name = name
        self.step = step


class Heard:
    def __init__(self, name):
        self.name = name


SHOWN = ('fetch_offset', 'last_fetched_epoch', 'partition_max_bytes', 'max_bytes', 'session_epoch',
         'isolation_level', 'timestamp', 'leader_epoch', 'acks')


def shown(body):
    """A request in a few words."""
    if isinstance(body, list):
        return ' '.join(filter(None, map(shown, body)))
    if isinstance(body, dict):
        return ' '.join(filter(None, ['%s=%s' % (k, v) if k in SHOWN and v not in (-1, 1 << 20)
                                      else shown(v) for k, v in body.items()]))
    return ''


def records(*items):
    """Of (timestamp - T, key, value)."""
    return b''.join(record(i, k, v, t - items[0][0]) for i, (t, k, v) in enumerate(items))


def batch_of(*items, pack=None, **more):
    payload = records(*items)
    if pack is not None:
        payload = pack(payload)
    return batch([v for _, _, v in items], timestamp=T + items[0][0],
                 max_timestamp=T + max(t for t, _, _ in items), payload=payload, **more)


def gzipped(*items, **more):
    return batch_of(*items, pack=gzip.compress, attributes=1, **more)


def produce(topic, *batches, partition=0, version=9, acks=-1):
    """One request for each batch."""
    return [('Produce', version, {
        'acks': acks, 'timeout_ms': 5000, 'topic_data': [
            {'name': topic, 'topic_id': 'ID:' + topic, 'partition_data': [
                {'index': partition, 'records': b}]}]}) for b in batches]


def produce_many(version, *partitions, acks=-1):
    """One request; each partition is (topic, index, batch), topics as often as they are named."""
    return [('Produce', version, {
        'acks': acks, 'timeout_ms': 5000, 'topic_data': [
            {'name': t, 'topic_id': 'ID:' + t, 'partition_data': [{'index': i, 'records': b}]}
            for t, i, b in partitions]})]


def fetch(topic, offset, version=17, partition=0, max_bytes=1 << 20, partition_bytes=1 << 20,
          last_epoch=-1, **more):
    return ('Fetch', version, dict({
        'replica_id': -1, 'max_wait_ms': 0, 'min_bytes': 0, 'max_bytes': max_bytes,
        'isolation_level': 0, 'session_id': 0, 'session_epoch': -1, 'rack_id': '',
        'topics': [{'topic': topic, 'topic_id': 'ID:' + topic, 'partitions': [
            {'partition': partition, 'current_leader_epoch': -1, 'fetch_offset': offset,
             'last_fetched_epoch': last_epoch, 'log_start_offset': -1,
             'partition_max_bytes': partition_bytes}]}],
        'forgotten_topics_data': []}, **more))


def list_offsets(topic, timestamp, version=9, partition=0, isolation=0):
    return ('ListOffsets', version, {
        'replica_id': -1, 'isolation_level': isolation, 'timeout_ms': 5000, 'topics': [
            {'name': topic, 'partitions': [
                {'partition_index': partition, 'current_leader_epoch': -1,
                 'timestamp': timestamp}]}]})


def epoch_end(topic, epoch='EPOCH', version=4, partition=0):
    return ('OffsetForLeaderEpoch', version, {'replica_id': -1, 'topics': [
        {'topic': topic, 'partitions': [
            {'partition': partition, 'current_leader_epoch': -1, 'leader_epoch': epoch}]}]})


def all_versions(make, api, first=0):
    low, high = APIS[api].versions
    return [make(v) for v in range(max(low, first), high + 1)]


def look(topic, end, times=(), sizes=(0, 1, 70, 100, 200)):
    """What there is to see of partition 0, in all versions."""
    steps = []
    for offset in sorted({0, 1, end - 1, end, end + 1, -1, 1 << 40} | set(range(min(end, 12)))):
        steps += [fetch(topic, offset, v) for v in (4, 6, 11, 12, 13, 18)]
    for size in sizes:
        steps += [fetch(topic, 0, partition_bytes=size), fetch(topic, 1, max_bytes=size)]
    for isolation in (0, 1):
        for t in (-1, -2, -3, -4, -5, -6, 0, *times):
            steps += all_versions(lambda v, t=t, i=isolation: list_offsets(topic, t, v, 0, i),
                                  'ListOffsets', 0 if isolation == 0 else 2)
    for epoch in ('EPOCH', 'EPOCH+1', 0, 1, -1, 100, 2147483647):
        steps += all_versions(lambda v, e=epoch: epoch_end(topic, e, v), 'OffsetForLeaderEpoch')
    for last in ('EPOCH', 'EPOCH+1', 0):
        for offset in (0, 1, end, end + 1):
            steps.append(fetch(topic, offset, last_epoch=last))
    return steps


def idempotent(topic, epoch, sequence, *values, **more):
    n = [(0, b'k', v) for v in values]
    return Made(lambda target: batch_of(*n, producer_id=target.producer_id, producer_epoch=epoch,
                                        base_sequence=sequence, **more))


NEW_PRODUCER = ('InitProducerId', 4, {'transactional_id': None, 'transaction_timeout_ms': 60000,
                                      'producer_id': -1, 'producer_epoch': -1})

K = b'key'
ONE = batch_of((0, K, b'one'))
TWO = batch_of((0, K, b'one'), (0, K, b'two'))


def sized(n):
    """A batch of exactly n bytes."""
    for length in range(n):
        b = batch_of((0, K, b'v' * length))
        if len(b) == n:
            return b
    raise ValueError(n)


def all_histories():
    """(what, steps)"""
    # Time: batches in and out of order, ties, several greatest ones in a batch, none at all.
    steps = [Topic('diff-time')]
    steps += produce(
        'diff-time', batch_of((1000, K, b'a'), (3000, K, b'b'), (2000, K, b'c')),
        batch_of((500, K, b'd')), gzipped((3000, K, b'e'), (2500, K, b'f'), (4000, K, b'g')),
        batch_of((4000, K, b'h')), batch_of((3999, K, b'i'), (4000, K, b'j')))
    yield 'time', steps + look('diff-time', 10, [
        T + t for t in (-1, 0, 1, 500, 501, 999, 1000, 1001, 2000, 2001, 2500, 2999, 3000, 3001,
                        3999, 4000, 4001, 9000)])
    yield 'empty topic', [Topic('diff-nothing')] + look('diff-nothing', 0, [1, T, NOW])
    yield 'no timestamps', [Topic('diff-timeless')] + produce(
        'diff-timeless', batch([b'a'], timestamp=-1), batch([b'b', b'c'], timestamp=-1)) + look(
            'diff-timeless', 3, [0, 1, T])
    yield 'a time, and then none', [Topic('diff-half')] + produce(
        'diff-half', batch_of((5, K, b'a')), batch([b'b', b'c'], timestamp=-1)) + look(
            'diff-half', 3, [0, 1, T, T + 5, T + 6])
    steps = [Topic('diff-append-time', {'message.timestamp.type': 'LogAppendTime'})]
    for b in (batch_of((0, K, b'a'), (9, K, b'b')), gzipped((0, K, b'c')),
              batch([b'd'], timestamp=-1), batch([b'e'], attributes=8)):
        # Each in a millisecond of its own.
        steps += [Made(lambda target: time.sleep(0.005)), *produce('diff-append-time', b)]
    yield 'LogAppendTime', steps + look('diff-append-time', 4, [1, T, NOW * 2])
    # Where timestamps are refused.
    steps = [Topic('diff-range', {'message.timestamp.before.max.ms': '7200000',
                                  'message.timestamp.after.max.ms': '600000'})]
    hour = 3600000
    steps += produce(
        'diff-range', ONE, batch_of((-2 * hour, K, b'old')), batch_of((2 * hour, K, b'new')),
        batch_of((0, K, b'a'), (-2 * hour, K, b'b'), (0, K, b'c'), (2 * hour, None, b'')),
        gzipped((0, K, b'a'), (-2 * hour, None, b'b'), (2 * hour, K, b'c')),
        batch([b'none'], timestamp=-1), batch([b'0'], timestamp=0))
    yield 'timestamps out of range', steps + look('diff-range', 2, [0, T])
    for what, flags in (('', 8), (' (gzip)', 9)):
        make = gzip.compress if flags & 1 else bytes
        yield 'LogAppendTime by the producer' + what, [
            Topic('diff-flagged-%d' % flags), *produce('diff-flagged-%d' % flags, *[
                batch([b'a', b'b'], attributes=flags, timestamp=t, payload=make(
                    record(0, None, b'a', 0) + record(1, K, b'b', 0))) for t in (-1, 5, T)])]
    # Keys.
    for policy in ('compact', 'compact,delete'):
        name = 'diff-keys-%d' % len(policy)
        steps = [Topic(name, {'cleanup.policy': policy})]
        bad = [(0, None, b'%d' % i) for i in range(8)]
        steps += produce(name, ONE, batch_of((0, None, b'a')), batch_of((0, b'', b'a')),
                         batch_of((0, K, b'a'), (0, None, b'b'), (0, K, b'c'), (0, None, None)),
                         batch_of(*bad), gzipped(*bad), gzipped((0, K, None)),
                         batch_of((0, None, b'a'), (9 * 3600000, K, b'b')),
                         batch_of((0, None, b'a'), (9 * 3600000, None, b'b')))
        for v in (3, 5, 7, 8, 13):
            steps += produce(name, batch_of((0, None, b'a'), (0, K, b'b')), version=v)
        yield 'keys: ' + policy, steps + look(name, 3)
    yield 'many bad records', [Topic('diff-bad', {'cleanup.policy': 'compact'})] + produce(
        'diff-bad', *[batch_of(*[(0, None, b'a')] * n) for n in (99, 100, 101)])
    # Sizes.
    steps = [Topic('diff-small', {'max.message.bytes': '200'})]
    steps += produce('diff-small', sized(200), sized(201), sized(199), sized(1000),
                     gzipped((0, K, b'x' * 10000)))
    yield 'max.message.bytes', steps + look('diff-small', 3)
    steps = [Topic('diff-packed', {'max.message.bytes': '200', 'compression.type': 'gzip'})]
    steps += produce('diff-packed', batch_of((0, K, bytes(range(120)))), sized(201), sized(150))
    steps += [Topic('diff-unpacked', {'max.message.bytes': '200',
                                      'compression.type': 'uncompressed'})]
    steps += produce('diff-unpacked', gzipped((0, K, b'x' * 10000)), gzipped((0, K, b'x' * 100)))
    yield 'max.message.bytes and compression', steps + look('diff-unpacked', 2)
    yield 'min.insync.replicas', [Topic('diff-isr', {'min.insync.replicas': '2'})] + produce(
        'diff-isr', ONE) + produce('diff-isr', ONE, acks=1)
    yield 'a batch larger than a segment', [Topic('diff-segment', {
        'segment.bytes': '1048576', 'max.message.bytes': '3000000'})] + produce(
            'diff-segment', ONE, batch_of((0, K, b'v' * 1100000)))
    # Codecs.
    for codec in ('gzip', 'lz4', 'snappy', 'zstd', 'uncompressed', 'producer'):
        name = 'diff-codec-' + codec
        steps = [Topic(name, {'compression.type': codec})]
        steps += produce(name, TWO, gzipped((5, K, b'a'), (3, None, b'b'), (7, K, None)),
                         batch([b'a'], timestamp=-1),
                         batch_of((0, K, b'h'), (1, K, b'i')), batch([b'x'], headers=[
                             (b'h', b'v'), (b'h', None), (b'', b'')], timestamp=T))
        # Two libraries do not pack to the same size.
        yield 'compression.type=' + codec, steps + look(
            name, 9, [T, T + 3, T + 5, T + 6, T + 7], sizes=[0, 1])
    # A partition twice in a request; what is refused leaves no trace.
    a, b, c = [batch_of((i, K, b'%c' % (97 + i)), (i, K, b'z')) for i in range(3)]
    bad = batch_of((0, K, b'a'), crc=1)
    for v in (3, 8, 12, 13):
        one, two = 'diff-twice-%d' % v, 'diff-other-%d' % v
        steps = [Topic(one, partitions=3), Topic(two)]
        steps += produce_many(v, (one, 0, a), (one, 0, b))
        steps += produce_many(v, (one, 0, a), (one, 1, b), (one, 0, c), (two, 0, a))
        steps += produce_many(v, (one, 2, a), (two, 0, b), (one, 2, b), (two, 0, c), (one, 1, a))
        steps += produce_many(v, (one, 0, a), (one, 0, bad))
        steps += produce_many(v, (one, 0, bad), (one, 0, a))
        steps += produce_many(v, (one, 7, a), (one, 7, a), (one, 0, a))
        steps += produce_many(v, (one, 0, a), (one, 0, b), acks=1)
        steps += produce_many(v, (one, 0, a), (one, 0, b), acks=2)
        yield 'a partition twice, version %d' % v, steps + look(one, 10) + look(two, 4)
    # Idempotence.
    name = 'diff-idempotent'
    steps = [Topic(name), NEW_PRODUCER]
    steps += produce(
        name, idempotent(name, 0, 0, b'a'), idempotent(name, 0, 1, b'b', b'c'),
        idempotent(name, 0, 1, b'b', b'c'), idempotent(name, 0, 0, b'a'),
        idempotent(name, 0, 5, b'gap'), idempotent(name, 0, 2, b'half'),
        idempotent(name, 0, 3, b'd'), idempotent(name, 1, 4, b'new epoch, not from 0'),
        idempotent(name, 1, 0, b'e'), idempotent(name, 0, 4, b'old epoch'),
        idempotent(name, 0, 0, b'a'), idempotent(name, 1, 1, b'f'),
        *[idempotent(name, 1, 2 + i, b'%d' % i) for i in range(6)],
        idempotent(name, 1, 0, b'e'), idempotent(name, 1, 1, b'f'),
        idempotent(name, 1, 7, b'5'), idempotent(name, 1, 3, b'1'),
        idempotent(name, 1, -1, b'no sequence'), idempotent(name, -1, 8, b'no epoch'))
    steps += [NEW_PRODUCER] + produce(
        name, idempotent(name, 0, 7, b'begins at 7'), idempotent(name, 0, 8, b'goes on'),
        idempotent(name, 3, 0, b'epoch 3'))
    steps += [NEW_PRODUCER] + produce(
        name, idempotent(name, 0, 2147483647, b'last'), idempotent(name, 0, 0, b'wraps'),
        idempotent(name, 0, 0, b'wraps'), idempotent(name, 0, 2147483647, b'last'))
    yield 'idempotence', steps + look(name, 16)
    name = 'diff-idempotent-appended'
    yield 'idempotence and LogAppendTime', [
        Topic(name, {'message.timestamp.type': 'LogAppendTime'}), NEW_PRODUCER] + produce(
            name, idempotent(name, 0, 0, b'a'), idempotent(name, 0, 0, b'a'))
    # A session over a growing log, and one that loses its topic.
    name = 'diff-session'
    for v in (7, 12, 13, 18):
        steps = [Topic(name + '-%d' % v)]
        start = fetch(name + '-%d' % v, 0, v, session_epoch=0, min_bytes=0)
        again = dict(start[2], topics=[], session_id='SESSION')
        steps += [start, ('Fetch', v, dict(again, session_epoch=1))]
        steps += produce(name + '-%d' % v, ONE)
        steps += [('Fetch', v, dict(again, session_epoch=2)),
                  ('Fetch', v, dict(again, session_epoch=3))]
        steps += produce(name + '-%d' % v, TWO)
        moved = fetch(name + '-%d' % v, 1, v, session_epoch=4, session_id='SESSION')
        steps += [moved, ('Fetch', v, dict(again, session_epoch=5)),
                  fetch(name + '-%d' % v, 9, v, session_epoch=6, session_id='SESSION'),
                  ('Fetch', v, dict(again, session_epoch=7)),
                  fetch(name + '-%d' % v, 3, v, session_epoch=8, session_id='SESSION'),
                  ('Fetch', v, dict(again, session_epoch=9)),
                  ('DeleteTopics', 5, {'topic_names': [name + '-%d' % v], 'timeout_ms': 5000})]
        yield 'a session, version %d' % v, steps
    for v, other in ((12, 13), (13, 12), (18, 7), (7, 18)):
        name = 'diff-session-%d-%d' % (v, other)
        yield 'a session, version %d, and then %d' % (v, other), [
            Topic(name), fetch(name, 0, v, session_epoch=0),
            fetch(name, 0, other, session_epoch=1, session_id='SESSION'),
            fetch(name, 0, v, session_epoch=1, session_id='SESSION')]
    # What is gone, and comes back under its name.
    name = 'diff-again'
    old = Made(lambda target: target.old)
    steps = [Topic(name), *produce(name, TWO), Made(lambda target: setattr(
        target, 'old', target.ids[name])), ('DeleteTopics', 5, {
            'topic_names': [name], 'timeout_ms': 5000}), Topic(name), fetch(name, 0), fetch(name, 2),
             list_offsets(name, -1)]
    gone = fetch(name, 0)
    gone[2]['topics'][0]['topic_id'] = old
    lost = produce(name, ONE, version=13)[0]
    lost[2]['topic_data'][0]['topic_id'] = old
    yield 'a topic anew', steps + [gone, lost, *produce(name, ONE)] + look(name, 1)
