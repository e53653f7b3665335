"""Frames: what is malformed ends the connection and nothing else; answers keep their order."""
import random
import struct

from ktap import *
from kwire import encode, request_frame, uvarint, values


def alive():
    with Client() as c:
        return c.request('ApiVersions', 0)['error_code'] == 0


def bad_frames():
    whole = request_frame('Metadata', 9, {'topics': []})
    cases = [
        ('a negative length', struct.pack('>i', -1)),
        ('a length of 2 GB', struct.pack('>i', 0x7fffffff)),
        ('a length of 0', struct.pack('>i', 0)),
        ('a header cut off', struct.pack('>ihh', 4, 3, 9)),
        ('a client id longer than the frame', struct.pack('>ihhih', 10, 3, 1, 1, 500)),
        ('a body cut off', struct.pack('>i', len(whole) - 5) + whole[4:-1]),
        ('an array longer than the frame',
         request_frame('Metadata', 1, {}, raw=struct.pack('>i', 1000000))),
        ('an array of 2^31 - 1', request_frame('Metadata', 1, {}, raw=b'\x7f\xff\xff\xff')),
        ('a compact array beyond the frame',
         request_frame('Metadata', 9, {}, raw=uvarint(1 << 30))),
        ('a varint without an end', request_frame('Metadata', 9, {}, raw=b'\xff' * 20)),
        ('a null that may not be', request_frame('Metadata', 1, {}, raw=b'\0\0\0\1\xff\xff')),
        ('more tagged fields than bytes',
         request_frame('Metadata', 9, {}, raw=b'\1\0\0\0' + uvarint(1 << 20))),
    ]
    for what, frame in cases:
        with Client() as c:
            c.send_raw(frame)
            ok(c.is_closed(), what + ' closes the connection')
    ok(alive(), 'and harms nobody else')


def pieces():
    """A frame arrives byte by byte; several arrive in one piece."""
    with Client() as c:
        for b in request_frame('ApiVersions', 3, {'client_software_name': 'a',
                                                  'client_software_version': '1'}, 5):
            c.send_raw(bytes([b]))
        same(c.receive('ApiVersions', 3, 5)['error_code'], 0, 'byte by byte')
        n = 200
        c.send_raw(b''.join(request_frame('Metadata', 1 + i % 8, {'topics': []}, 1000 + i)
                            for i in range(n)))
        got = [c.receive('Metadata', 1 + i % 8, 1000 + i)['controller_id'] for i in range(n)]
        same(got, [1] * n, '200 requests in one piece')
        same(c.request('ApiVersions', 0, client_id=None)['error_code'], 0, 'a null client id')
        same(c.request('ApiVersions', 0, client_id='x' * 3000)['error_code'], 0,
             'a long client id')


def order():
    """Answers come in the order of requests, whatever each of them has to wait for."""
    with Client() as c:
        name, _ = make_topic(c)
        fetch_body = {'replica_id': -1, 'max_wait_ms': 400, 'min_bytes': 1, 'max_bytes': 1 << 20,
                      'session_epoch': -1, 'topics': [{'topic': name, 'partitions': [
                          {'partition': 0, 'fetch_offset': 0, 'partition_max_bytes': 1 << 20,
                           'current_leader_epoch': -1, 'log_start_offset': -1}]}]}
        produce_body = {'acks': -1, 'timeout_ms': 30000, 'topic_data': [
            {'name': name, 'partition_data': [{'index': 0, 'records': batch([b'x'])}]}]}
        created = fresh()
        a = c.send('Fetch', 11, fetch_body)
        b = c.send('CreateTopics', 5, {'timeout_ms': 30000, 'topics': [
            {'name': created, 'num_partitions': 1, 'replication_factor': 1}]})
        d = c.send('Produce', 9, produce_body)
        e = c.send('ListOffsets', 5, {'replica_id': -1, 'topics': [
            {'name': name, 'partitions': [{'partition_index': 0, 'timestamp': -1,
                                           'current_leader_epoch': -1}]}]})
        f = c.send('ApiVersions', 0, {})
        r = c.receive('Fetch', 11, a)
        same(r['responses'][0]['partitions'][0]['records'], b'',
             'a fetch does not see what was sent after it')
        same(c.receive('CreateTopics', 5, b)['topics'][0]['error_code'], 0, 'then the topic')
        r = c.receive('Produce', 9, d)
        same(r['responses'][0]['partition_responses'][0]['base_offset'], 0, 'then the produce')
        r = c.receive('ListOffsets', 5, e)
        same(r['topics'][0]['partitions'][0]['offset'], 1, 'which the next request sees')
        same(c.receive('ApiVersions', 0, f)['error_code'], 0, 'then the rest')

        # Many produce requests under way at once, over several partitions
        name, _ = make_topic(c, partitions=4)
        sent = []
        for i in range(100):
            sent.append(c.send('Produce', 9, {'acks': (1, -1)[i % 2], 'timeout_ms': 30000,
                                              'topic_data': [{'name': name, 'partition_data': [
                                                  {'index': i % 4,
                                                   'records': batch([b'%d' % i])}]}]}))
        got = [c.receive('Produce', 9, i)['responses'][0]['partition_responses'][0]
               for i in sent]
        same([(p['index'], p['base_offset']) for p in got],
             [(i % 4, i // 4) for i in range(100)], 'a hundred in flight keep their order')
        p = fetch(c, name, 0, 1)
        same([v for _, v in values(p['records'])], [b'%d' % i for i in range(1, 100, 4)],
             'in the log too')


def garbage():
    """Valid requests with bytes changed at random: an answer or the end, and life goes on."""
    if REFERENCE:
        return
    rng = random.Random(4711)
    with Client() as c:
        name, topic_id = make_topic(c)
    part = {'partition': 0, 'partition_index': 0, 'index': 0, 'fetch_offset': 0,
            'partition_max_bytes': 1000, 'timestamp': -1, 'records': batch([b'hello', b'world'])}
    bodies = {
        'Produce': {'acks': -1, 'timeout_ms': 100, 'topic_data': [
            {'name': name, 'topic_id': topic_id, 'partition_data': [part]}]},
        'Fetch': {'max_wait_ms': 0, 'max_bytes': 1000, 'replica_id': -1, 'session_epoch': -1,
                  'topics': [{'topic': name, 'topic_id': topic_id, 'partitions': [part]}]},
        'ListOffsets': {'replica_id': -1, 'topics': [{'name': name, 'partitions': [part]}]},
        'Metadata': {'topics': [{'name': name}, {'name': name}],
                     'allow_auto_topic_creation': False},
        'FindCoordinator': {'key': 'group', 'coordinator_keys': ['group', 'group2']},
        'ApiVersions': {'client_software_name': 'x', 'client_software_version': '1'},
        'CreateTopics': {'validate_only': True, 'timeout_ms': 1000, 'topics': [
            {'name': 'x', 'num_partitions': 1, 'replication_factor': 1,
             'configs': [{'name': 'retention.ms', 'value': '1'}]}]},
        'DeleteTopics': {'topics': [{'name': 'not-there'}], 'topic_names': ['not-there']},
        'InitProducerId': {'transactional_id': None},
        'DescribeCluster': {'endpoint_type': 1},
    }
    count = 0
    for name, body in bodies.items():
        api = APIS[name]
        for v in every_version(name):
            raw = encode(api.request, v, v >= api.flexible, body)
            for _ in range(12):
                changed = bytearray(raw)
                kind = rng.randrange(4)
                if changed and kind == 0:
                    del changed[rng.randrange(len(changed)):]
                elif changed and kind == 1:
                    changed.insert(rng.randrange(len(changed)), rng.randrange(256))
                elif changed:
                    for _ in range(rng.choice((1, 1, 2, 5))):
                        changed[rng.randrange(len(changed))] = rng.choice(
                            (0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
                # Not a topic that is really made or waited for
                with Client() as c:
                    c.sock.settimeout(20)
                    c.send_raw(request_frame(api, v, {}, 9, raw=bytes(changed)))
                    c.sock.shutdown(1)
                    try:
                        c.recv_frame()
                    except Closed:
                        pass
                    count += 1
    ok(count > 700, '%d requests with changed bytes' % count)
    ok(alive(), 'harm nobody')


def big_requests():
    with Client() as c:
        name, _ = make_topic(c)
        data = batch([b'x' * 900000])
        same(produce(c, name, data)['base_offset'], 0, 'a request of 900 kB')
        p = fetch(c, name, 0)
        same(p['records'][61:], data[61:], 'comes back')


main(bad_frames, pieces, order, garbage, big_requests)
