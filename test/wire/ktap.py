"""What the wire tests share: TAP on standard output, and a few kinds of requests.

Every script runs against our server and against Apache Kafka alike, so that what it expects can be
compared with the reference: KWIRE_REFERENCE=1 leaves out what only we do.
"""
import os
import sys
import time
import traceback
import uuid

from kwire import APIS, Client, Closed, batch, batches, err

REFERENCE = bool(os.environ.get('KWIRE_REFERENCE'))

_count = 0
_failed = 0


def ok(condition, name):
    global _count, _failed
    _count += 1
    if not condition:
        _failed += 1
    print('%s %d - %s' % ('ok' if condition else 'not ok', _count, name), flush=True)
    return bool(condition)


def same(got, expected, name):
    if not ok(got == expected, name):
        print('#      got: %r\n# expected: %r' % (got, expected), flush=True)


def closes(action, name):
    """The server closes the connection instead of answering."""
    try:
        action()
        ok(False, name)
    except Closed:
        ok(True, name)


def main(*tests):
    """Runs the functions; each may throw without keeping the others from running."""
    only = sys.argv[1:]
    for test in tests:
        if only and test.__name__ not in only:
            continue
        try:
            test()
        except Exception:
            ok(False, '%s ran to its end' % test.__name__)
            for line in traceback.format_exc().splitlines():
                print('# ' + line)
    print('1..%d' % _count, flush=True)
    sys.exit(1 if _failed else 0)


def every_version(name):
    api = APIS[name]
    return range(api.versions[0], api.versions[1] + 1)


def fresh(prefix='wire'):
    """A topic name that nobody has used."""
    return '%s-%s' % (prefix, uuid.uuid4().hex[:12])


def make_topic(client, name=None, partitions=1, **configs):
    """Creates a topic and waits until it is there; returns (name, id)."""
    name = name or fresh()
    r = client.request('CreateTopics', 7, {
        'topics': [{'name': name, 'num_partitions': partitions, 'replication_factor': 1,
                    'configs': [{'name': k.replace('_', '.'), 'value': str(v)}
                                for k, v in configs.items()]}],
        'timeout_ms': 30000})
    topic = r['topics'][0]
    if topic['error_code'] != 0:
        raise RuntimeError('%s: %s %s' % (name, err(topic['error_code']), topic['error_message']))
    for _ in range(100):
        m = client.request('Metadata', 12, {'topics': [{'name': name}],
                                            'allow_auto_topic_creation': False})
        if m['topics'][0]['error_code'] == 0 and all(
                p['leader_id'] >= 0 for p in m['topics'][0]['partitions']):
            break
        time.sleep(0.05)
    for p in range(partitions):
        while list_offset(client, name, -1, p)['error_code'] != 0:
            time.sleep(0.05)
    return name, topic['topic_id']


def produce(client, topic, data, partition=0, version=9, acks=-1, timeout=30000):
    """Sends one batch; returns the partition's answer."""
    t = {'partition_data': [{'index': partition, 'records': data}]}
    t['topic_id' if version >= 13 else 'name'] = topic
    r = client.request('Produce', version, {'acks': acks, 'timeout_ms': timeout,
                                            'topic_data': [t]})
    return r['responses'][0]['partition_responses'][0]


def fetch(client, topic, offset, partition=0, version=11, **params):
    """Fetches one partition; returns its answer."""
    part = {'partition': partition, 'fetch_offset': offset, 'current_leader_epoch': -1,
            'log_start_offset': -1,
            'partition_max_bytes': params.pop('partition_max_bytes', 1 << 20)}
    if 'current_leader_epoch' in params:
        part['current_leader_epoch'] = params.pop('current_leader_epoch')
    t = {'partitions': [part]}
    t['topic_id' if version >= 13 else 'topic'] = topic
    body = {'replica_id': -1, 'max_wait_ms': 1000, 'min_bytes': 1, 'max_bytes': 1 << 22,
            'session_epoch': -1, 'topics': [t]}
    body.update(params)
    r = client.request('Fetch', version, body)
    if version >= 7 and r['error_code'] != 0:
        raise RuntimeError('fetch: ' + err(r['error_code']))
    return r['responses'][0]['partitions'][0]


def list_offset(client, topic, timestamp, partition=0, version=7, **params):
    """Asks for one offset; returns the partition's answer."""
    part = {'partition_index': partition, 'timestamp': timestamp, 'current_leader_epoch': -1}
    part.update(params)
    r = client.request('ListOffsets', version, {
        'replica_id': -1, 'topics': [{'name': topic, 'partitions': [part]}]})
    return r['topics'][0]['partitions'][0]


def session_fetch(c, topic, parts, session=0, epoch=0, version=11, forget=(), wait=0,
                  isolation=0):
    """A fetch within a session; parts: (partition, offset)."""
    key = 'topic_id' if version >= 13 else 'topic'
    body = {'replica_id': -1, 'max_wait_ms': wait, 'min_bytes': 1, 'max_bytes': 1 << 20,
            'isolation_level': isolation, 'session_id': session, 'session_epoch': epoch,
            'topics': [], 'forgotten_topics_data': []}
    if parts:
        body['topics'] = [{key: topic, 'partitions': [
            {'partition': p, 'fetch_offset': o, 'partition_max_bytes': 1 << 20,
             'current_leader_epoch': -1, 'log_start_offset': -1} for p, o in parts]}]
    if forget:
        body['forgotten_topics_data'] = [{key: topic, 'partitions': list(forget)}]
    return c.request('Fetch', version, body)


def answered(r):
    """Top error, and of each partition: number, records and error."""
    return (err(r['error_code']), [
        (p['partition_index'], len(batches(p['records'] or b'')), err(p['error_code']))
        for t in r['responses'] for p in t['partitions']])
