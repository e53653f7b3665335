"""The questions: one good request of each API, and what is changed in it.

Every field of the good request is set to the edges of its type, every array to empty, null and
doubled, in every version of the API; ODD adds what cannot be made that way.  Texts in requests may
hold names of what each broker has on its own: 'ID:topic', 'EPOCH', 'EPOCH+1', 'END:topic'.
"""
import gzip

from kwire import APIS, batch, now_ms, record

import groups

# All of it new: Kafka begins a segment where times jump, and a read ends with a segment.
NOW = now_ms() - 10000
ID = 'ID:diff-one'


def fetch(v):
    return {'replica_id': -1, 'max_wait_ms': 0, 'min_bytes': 1, 'max_bytes': 1 << 20,
            'isolation_level': 0, 'session_id': 0, 'session_epoch': -1, 'rack_id': '',
            'topics': [{'topic': 'diff-one', 'topic_id': ID, 'partitions': [
                {'partition': 0, 'current_leader_epoch': -1, 'fetch_offset': 0,
                 'last_fetched_epoch': -1, 'log_start_offset': -1,
                 'partition_max_bytes': 1 << 20}]}],
            'forgotten_topics_data': []}


def produce(v):
    return {'transactional_id': None, 'acks': -1, 'timeout_ms': 5000,
            'topic_data': [{'name': 'diff-write', 'topic_id': 'ID:diff-write', 'partition_data': [
                {'index': 0, 'records': batch([b'a', b'b'])}]}]}


def list_offsets(v):
    return {'replica_id': -1, 'isolation_level': 0, 'timeout_ms': 5000, 'topics': [
        {'name': 'diff-one', 'partitions': [
            {'partition_index': 0, 'current_leader_epoch': -1, 'timestamp': -1}]}]}


def metadata(v):
    return {'topics': [{'topic_id': bytes(16), 'name': 'diff-one'}],
            'allow_auto_topic_creation': False,
            'include_cluster_authorized_operations': False,
            'include_topic_authorized_operations': False}


def create_topics(v):
    return {'topics': [{'name': 'diff-made', 'num_partitions': 1, 'replication_factor': 1,
                        'assignments': [],
                        'configs': [{'name': 'retention.ms', 'value': '1000'}]}],
            'timeout_ms': 10000, 'validate_only': True}


def delete_topics(v):
    return {'topics': [{'name': 'none-such', 'topic_id': bytes(16)}],
            'topic_names': ['none-such'], 'timeout_ms': 5000}


def offset_for_leader_epoch(v):
    return {'replica_id': -1, 'topics': [{'topic': 'diff-one', 'partitions': [
        {'partition': 0, 'current_leader_epoch': -1, 'leader_epoch': 'EPOCH'}]}]}


def describe_topic_partitions(v):
    return {'topics': [{'name': 'diff-three'}], 'response_partition_limit': 2000, 'cursor': None}


def api_versions(v):
    return {'client_software_name': 'diff', 'client_software_version': '1.0',
            'cluster_id': None, 'node_id': -1}


def describe_cluster(v):
    return {'include_cluster_authorized_operations': False, 'endpoint_type': 1,
            'include_fenced_brokers': False}


def init_producer_id(v):
    return {'transactional_id': None, 'transaction_timeout_ms': 60000, 'producer_id': -1,
            'producer_epoch': -1}


def describe_configs(v):
    return {'resources': [{'resource_type': 2, 'resource_name': 'diff-one',
                           'configuration_keys': ['retention.ms', 'cleanup.policy']}],
            'include_synonyms': False, 'include_documentation': False}


def find_coordinator(v):
    return {'key': 'diff-group', 'key_type': 0, 'coordinator_keys': ['diff-group']}


GOOD = {'Fetch': fetch, 'Produce': produce, 'ListOffsets': list_offsets, 'Metadata': metadata,
        'CreateTopics': create_topics, 'DeleteTopics': delete_topics,
        'OffsetForLeaderEpoch': offset_for_leader_epoch,
        'DescribeTopicPartitions': describe_topic_partitions, 'ApiVersions': api_versions,
        'DescribeCluster': describe_cluster, 'InitProducerId': init_producer_id,
        'DescribeConfigs': describe_configs, 'FindCoordinator': find_coordinator, **groups.GOOD}

INTS = {'int8': 7, 'int16': 15, 'int32': 31, 'int64': 63}

# Would only make both wait.
SLOW = {'max_wait_ms', 'timeout_ms'}


def edges(field, value):
    """Values for a field that holds this one in the good request."""
    if field.array:
        found = [('empty', []), ('null', None)]
        if value:
            found.append(('twice', value + value[:1]))
            found.append(('three times', value + value[:1] + value[:1]))
        return found
    if field.type in INTS:
        if field.name in SLOW:
            return [('-1', -1), ('0', 0)]
        top = 1 << INTS[field.type]
        return [(str(n), n) for n in (-top, -2, -1, 0, 1, 2, 3, top - 1) if n != value]
    if field.type == 'string':
        return [(repr(s)[:20], s) for s in
                ('', None, 'none-such', 'a b', 'x' * 249, 'x' * 250, '..', '\xe9', 'a\0b',
                 '__consumer_offsets2')]
    if field.type == 'uuid':
        return [('zero', bytes(16)), ('unknown', b'\7' * 16), ('known', ID)]
    if field.name == 'validate_only':
        # False would leave a topic, and all that follows would find that it exists.
        return []
    if field.type == 'bool':
        return [(str(not value).lower(), not value)]
    if field.type in ('bytes', 'records'):
        # Not null: Kafka's Produce runs into a NullPointerException and never answers.
        return [('empty', b''), ('one byte', b'x'), ('garbage', b'\xff' * 100),
                ('zeroes', bytes(100))]
    return []


def mutations(fields, version, body, path=''):
    """(what, changed body) for every field of the good request."""
    for field in fields:
        if not field.has(version) or field.name not in body:
            continue
        value = body[field.name]
        here = path + field.name
        for what, edge in edges(field, value):
            yield '%s=%s' % (here, what), dict(body, **{field.name: edge})
        if field.fields and field.array and value and isinstance(value[0], dict):
            for what, item in mutations(field.fields, version, value[0], here + '.'):
                yield what, dict(body, **{field.name: [item] + value[1:]})


def change(api, version, **path):
    """The good request with fields of its first (topic and) partition changed."""
    body = GOOD[api](version)
    topics = body.get('topics') or body.get('topic_data')
    for key, value in path.items():
        for part in (body, topics[0],
                     (topics[0].get('partitions') or topics[0].get('partition_data') or [{}])[0]):
            if key in part:
                part[key] = value
                break
        else:
            raise KeyError(key)
    return body


def zstd(data):
    """A zstd frame with one block that is not packed; less than 256 bytes."""
    return (b'\x28\xb5\x2f\xfd\x20' + bytes([len(data)]) +
            (len(data) << 3 | 1).to_bytes(3, 'little') + data)


def lz4(data):
    """An lz4 frame with one block that is not packed."""
    return (b'\x04\x22\x4d\x18\x60\x40\x82' + (len(data) | 1 << 31).to_bytes(4, 'little') + data +
            bytes(4))


def snappy(data):
    """A snappy block of one literal; less than 60 bytes."""
    return bytes([len(data), len(data) - 1 << 2]) + data


PLAIN = record(0, None, b'a')

BATCHES = {
    'gzip': batch([b'a'], attributes=1, payload=gzip.compress(PLAIN)),
    'snappy': batch([b'a'], attributes=2, payload=snappy(PLAIN)),
    'lz4': batch([b'a'], attributes=3, payload=lz4(PLAIN)),
    'zstd': batch([b'a'], attributes=4, payload=zstd(PLAIN)),
    'snappy that is none': batch([b'a'], attributes=2),
    'zstd that is none': batch([b'a'], attributes=4),
    'gzip with rest': batch([b'a'], attributes=1, payload=gzip.compress(PLAIN + b'zz')),
    'gzip of too few': batch([b'a', b'b'], attributes=1, payload=gzip.compress(PLAIN)),
    'gzip with a gap': batch([b'a', b'b'], attributes=1, payload=gzip.compress(
        PLAIN + record(5, None, b'b'))),
    'offsets with a gap': batch([b'a', b'b'], payload=PLAIN + record(5, None, b'b')),
    'crc': batch([b'a'], crc=1),
    'base offset 5': batch([b'a'], base_offset=5),
    'sequence without producer': batch([b'a'], base_sequence=3),
    'unknown producer': batch([b'a'], producer_id=1 << 40, producer_epoch=0, base_sequence=0),
    'great sequence': batch([b'a'], producer_id=1 << 41, producer_epoch=7, base_sequence=99),
    'delete horizon': batch([b'a'], attributes=0x40),
    'key of negative length': batch([b'a'], payload=bytes([14, 0, 0, 0, 3, 1, 0, 0])),
    'more headers than bytes': batch([b'a'], payload=bytes([12, 0, 0, 0, 1, 1, 9])),
    'header with a null key': batch([b'a'], payload=bytes([16, 0, 0, 0, 1, 1, 2, 1, 1])),
    'record of length 0': batch([b'a'], payload=bytes([0])),
    'record of negative length': batch([b'a'], payload=bytes([1])),
    'record longer than the batch': batch([b'a'], payload=bytes([126, 0, 0, 0, 1, 1, 0])),
    'record attributes': batch([b'a'], payload=bytes([12, 7, 0, 0, 1, 1, 0])),
    'two records': batch([b'a', b'b']),
    'two batches': batch([b'a']) + batch([b'b']),
    'magic 0': batch([b'a'], magic=0),
    'magic 1': batch([b'a'], magic=1),
    'magic 3': batch([b'a'], magic=3),
    'no records': batch([], count=0, last_offset_delta=0),
    'too many records': batch([b'a'], count=2),
    'too few records': batch([b'a', b'b'], count=1),
    'last offset delta': batch([b'a'], last_offset_delta=5),
    'negative last offset delta': batch([b'a'], last_offset_delta=-1),
    'control batch': batch([b'a'], attributes=0x20),
    'transactional': batch([b'a'], attributes=0x10),
    'codec 5': batch([b'a'], attributes=5),
    'codec 7': batch([b'a'], attributes=7),
    'gzip that is none': batch([b'a'], attributes=1),
    'lz4 that is none': batch([b'a'], attributes=3),
    'LogAppendTime': batch([b'a'], attributes=8),
    'unknown attributes': batch([b'a'], attributes=0x4000),
    'future': batch([b'a'], timestamp=NOW * 2),
    'no timestamp': batch([b'a'], timestamp=-1),
    'past': batch([b'a'], timestamp=1),
    'producer without sequence': batch([b'a'], producer_id=77, producer_epoch=0,
                                       base_sequence=-1),
    'record with rest': batch([b'a'], payload=record(0, None, b'a') + b'zz'),
    'cut': batch([b'a', b'b'])[:-3],
    'cut in the header': batch([b'a'])[:40],
    'with rest': batch([b'a']) + b'rest',
    'too large': batch([b'x' * 1100000]),
}


def odd():
    """(api, version, what, steps); a step is a body, or bytes that stand for one."""
    for v in (3, 7, 8, 9, 12, 13):
        for what, data in BATCHES.items():
            yield 'Produce', v, 'batch: ' + what, [change('Produce', v, records=data)]
        for topic in ('diff-compact', 'diff-append'):
            for what in ('two records', 'future', 'magic 1', 'LogAppendTime'):
                yield ('Produce', v, '%s: %s' % (topic, what),
                       [change('Produce', v, name=topic, topic_id='ID:' + topic,
                               records=BATCHES[what])])
        yield ('Produce', v, 'transaction', [change(
            'Produce', v, transactional_id='diff', records=BATCHES['transactional'])])
        if v < 13:
            yield 'Produce', v, 'internal topic', [change('Produce', v, name='__consumer_offsets')]
        yield ('Produce', v, 'acks=0', [change('Produce', v, acks=0)])
        yield ('Produce', v, 'acks=0 of an unknown partition',
               [change('Produce', v, acks=0, index=9)])
    for v in range(9, 19):
        for epoch in ('EPOCH', 'EPOCH+1', -1):
            yield ('Fetch', v, 'epoch ' + str(epoch),
                   [change('Fetch', v, current_leader_epoch=epoch)])
            for offset in (0, 4, 'END:diff-one', 99):
                yield ('Fetch', v, 'last epoch %s at %s' % (epoch, offset),
                       [change('Fetch', v, last_fetched_epoch=epoch, fetch_offset=offset)])
    for v in range(7, 19):
        full = dict(GOOD['Fetch'](v), session_epoch=0)
        none = dict(full, topics=[], session_id='SESSION')

        def forget(*parts):
            return [{'topic': 'diff-one', 'topic_id': ID, 'partitions': list(parts)}]
        yield 'Fetch', v, 'session', [full, dict(none, session_epoch=1),
                                      dict(none, session_epoch=2)]
        yield 'Fetch', v, 'session, wrong epoch', [full, dict(none, session_epoch=2),
                                                   dict(none, session_epoch=1)]
        yield 'Fetch', v, 'session, forget', [
            full, dict(none, session_epoch=1, forgotten_topics_data=forget(0)),
            dict(none, session_epoch=2)]
        yield 'Fetch', v, 'session, forget what it has not', [
            full, dict(none, session_epoch=1, forgotten_topics_data=forget(5, 5)),
            dict(none, session_epoch=2)]
        yield 'Fetch', v, 'session, add and end', [
            full, dict(GOOD['Fetch'](v), session_id='SESSION', session_epoch=1),
            dict(none, session_epoch=-1), dict(none, session_epoch=2)]
        bad = change('Fetch', v, topic='none-such', topic_id=b'\7' * 16)
        yield 'Fetch', v, 'session of nothing that is there', [
            dict(bad, session_epoch=0), dict(none, session_epoch=1), dict(none, session_epoch=2)]
        two = dict(full, topics=bad['topics'] + full['topics'])
        yield 'Fetch', v, 'unknown topic first', [dict(two, session_epoch=-1)]
    for v in range(4, 12):
        for epoch in ('EPOCH', 'EPOCH+1'):
            yield ('ListOffsets', v, 'epoch ' + epoch,
                   [change('ListOffsets', v, current_leader_epoch=epoch)])
        for t in (NOW, NOW + 1, NOW + 5000, -3, -4, -5, -6, -7):
            for topic in ('diff-one', 'diff-empty'):
                yield ('ListOffsets', v, '%s at %s' % (topic, t),
                       [change('ListOffsets', v, timestamp=t, name=topic)])
    for v in range(1, 12):
        yield 'ListOffsets', v, 'partitions and topics twice', [dict(list_offsets(v), topics=[
            {'name': n, 'partitions': [{'partition_index': p, 'current_leader_epoch': -1,
                                        'timestamp': -1} for p in ps]}
            for n, ps in (('diff-one', [0]), ('diff-three', [2, 1]), ('none-such', [0]),
                          ('diff-one', []), ('diff-three', [0, 1]), ('none-such', [0, 1]),
                          ('diff-empty', []))])]
    for v in range(2, 5):
        for epoch in (-1, 'EPOCH', 'EPOCH+1'):
            for believed in (-1, 'EPOCH', 'EPOCH+1'):
                for topic in ('diff-one', 'diff-empty'):
                    yield ('OffsetForLeaderEpoch', v,
                           '%s: %s, believed %s' % (topic, epoch, believed),
                           [change('OffsetForLeaderEpoch', v, topic=topic, leader_epoch=epoch,
                                   current_leader_epoch=believed)])
    three = GOOD['DescribeTopicPartitions'](0)
    for limit in (1, 2, 3, 4):
        for cursor in (None, ('diff-three', 0), ('diff-three', 1), ('diff-three', 3),
                       ('diff-three', 9), ('diff-one', 0), ('diff-zzz', 0), ('diff-three', -1)):
            yield ('DescribeTopicPartitions', 0, 'limit %d from %s' % (limit, cursor), [dict(
                three, response_partition_limit=limit,
                topics=[{'name': n} for n in ('diff-three', 'diff-one', 'none-such', 'a b')],
                cursor=cursor and {'topic_name': cursor[0], 'partition_index': cursor[1]})])
    for v in range(0, 7):
        for kind in range(0 if v > 0 else 2, 3):
            for what, keys in {'empty': [''], 'long': ['x' * 32767], 'many': list('abcdefgh'),
                               'empty first': ['', 'a'], 'twice': ['a', 'b', 'a', 'a'],
                               'odd': ['a b', 'a\0b', '\u20ac']}.items():
                if v >= 4 or len(keys) == 1:
                    yield ('FindCoordinator', v, 'type %d, keys: %s' % (kind, what), [
                        {'key': keys[0], 'key_type': kind, 'coordinator_keys': keys}])
    for v in range(0, 7):
        def begin(timeout=60000, pid=-1, epoch=-1):
            return {'transactional_id': 'diff-txn-%d' % v, 'transaction_timeout_ms': timeout,
                    'producer_id': pid, 'producer_epoch': epoch}
        for timeout in (0, -1, 2147483647):
            yield 'InitProducerId', v, 'transaction: timeout %d' % timeout, [begin(timeout)]
        if v >= 3:
            yield 'InitProducerId', v, 'transaction: of a producer', [
                begin(), begin(pid='PID', epoch=0), begin(pid='PID', epoch=0),
                begin(pid='PID', epoch=99), begin(pid=1 << 40, epoch=0), begin(pid=-1, epoch=3),
                begin(pid='PID', epoch=-1)]
    for v in range(1, 5):
        for kind in (2, 4, 8, 16, 32):
            for name in ('', '1', '2', '-1', 'x', '01', '9' * 20, 'diff-one'):
                yield 'DescribeConfigs', v, 'type %d, name %r' % (kind, name), [{'resources': [
                    {'resource_type': kind, 'resource_name': name, 'configuration_keys': [
                        'log.retention.ms', 'retention.ms', 'no.such', 'interval.ms',
                        'consumer.session.timeout.ms']}]}]
    for v in range(2, 8):
        def create(**topic):
            body = create_topics(v)
            body['topics'][0].update(topic)
            return body

        def assign(*parts):
            return [{'partition_index': p, 'broker_ids': list(b)} for p, b in parts]
        for what, parts in {
                'one': [(0, [1])], 'two': [(0, [1]), (1, [1])], 'gap': [(0, [1]), (2, [1])],
                'not from 0': [(1, [1])], 'twice': [(0, [1]), (0, [1])], 'no broker': [(0, [])],
                'unknown broker': [(0, [99])], 'broker twice': [(0, [1, 1])],
                'uneven': [(0, [1]), (1, [1, 99])], 'negative': [(-1, [1])]}.items():
            yield ('CreateTopics', v, 'assignment: ' + what, [create(
                num_partitions=-1, replication_factor=-1, assignments=assign(*parts))])
        yield 'CreateTopics', v, 'assignment and a number of partitions', [create(
            num_partitions=1, replication_factor=-1, assignments=assign((0, [1])))]
        yield 'CreateTopics', v, 'assignment and a replication factor', [create(
            num_partitions=-1, replication_factor=1, assignments=assign((0, [1])))]
        yield 'CreateTopics', v, 'exists', [create(name='diff-one')]
        for name, value in (('no.such', '1'), ('retention.ms', 'x'), ('retention.ms', None),
                            ('cleanup.policy', 'compact,delete'), ('cleanup.policy', 'no'),
                            ('segment.bytes', '0'), ('compression.type', 'zstd'),
                            ('compression.type', 'rar'), ('max.message.bytes', '-1'),
                            ('min.insync.replicas', '2')):
            yield 'CreateTopics', v, 'config %s=%s' % (name, value), [
                create(configs=[{'name': name, 'value': value}])]
        yield 'CreateTopics', v, 'made and gone', [
            dict(create(name='diff-real', num_partitions=2), validate_only=False),
            dict(create(name='diff-real'), validate_only=False)]
    for v in range(1, 7):
        yield 'DeleteTopics', v, 'that is there', [dict(
            delete_topics(v), topic_names=['diff-delete-%d' % v],
            topics=[{'name': 'diff-delete-%d' % v, 'topic_id': bytes(16)}])]
    yield 'DeleteTopics', 6, 'by id', [dict(
        delete_topics(6), topics=[{'name': None, 'topic_id': 'ID:diff-delete-id'}])]
    yield 'DeleteTopics', 6, 'by unknown id', [dict(
        delete_topics(6), topics=[{'name': None, 'topic_id': b'\7' * 16}])]
    for v in range(0, 14):
        yield 'Metadata', v, 'two of three', [dict(metadata(v), topics=[
            {'name': n} for n in ('diff-three', 'none-such', 'diff-one')])]
        if v >= 10:
            yield 'Metadata', v, 'by id', [dict(metadata(v), topics=[
                {'name': None, 'topic_id': i} for i in (ID, b'\7' * 16)])]


def all_cases():
    """(api, version, what, steps), of which bytes are the raw body."""
    from kwire import encode
    for api, good in GOOD.items():
        first, last = APIS[api].versions
        for v in range(first, last + 1):
            yield api, v, 'good', [good(v)]
            for what, body in mutations(APIS[api].request, v, good(v)):
                yield api, v, what, [body]
        for v in (first - 1, last + 1, -1, 32767):
            if not first <= v <= last and not (api == 'Produce' and v == 2):
                yield api, v, 'version not served', [b'']
    yield from odd()
