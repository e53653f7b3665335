"""ApiVersions, Metadata, DescribeCluster, FindCoordinator: every version, usual and unusual."""
import struct

from ktap import *
from kwire import Reader, request_frame


def api_versions():
    with Client() as c:
        for v in every_version('ApiVersions'):
            r = c.request('ApiVersions', v, {'client_software_name': 'kwire',
                                             'client_software_version': '1.0-x'})
            keys = {k['api_key']: (k['min_version'], k['max_version']) for k in r['api_keys']}
            same(r['error_code'], 0, 'ApiVersions %d' % v)
            same([k for k in keys if keys[k][1] != APIS[k].versions[1]
                  or keys[k][0] != APIS[k].listed], [],
                 'ApiVersions %d: the versions of Kafka 4.3' % v)
            same(keys[0], (0, 13), 'ApiVersions %d: Produce is listed from version 0' % v)

        for name, version in (('', '1'), ('a b', '1'), ('-a', '1'), ('a-', '1'), ('a', ''),
                              ('a', '.1')):
            r = c.request('ApiVersions', 3, {'client_software_name': name,
                                             'client_software_version': version})
            same((err(r['error_code']), r['api_keys']), ('INVALID_REQUEST', []),
                 'software name "%s" version "%s"' % (name, version))

        # A version from the future: an answer in version 0, on a connection that goes on.
        for v in (5, 99, 32767):
            c.send_raw(request_frame('ApiVersions', v, {}, 77, raw=b''))
            r = c.receive('ApiVersions', 0, 77)
            same((err(r['error_code']), r['api_keys']),
                 ('UNSUPPORTED_VERSION',
                  [{'api_key': 18, 'min_version': 0, 'max_version': 4}]),
                 'ApiVersions %d is answered in version 0' % v)
        same(c.request('ApiVersions', 0)['error_code'], 0, 'the connection goes on after that')


def throttle_times():
    """Nobody is throttled, and every answer that has room for it says so."""
    bodies = {
        'Produce': {'acks': 1, 'timeout_ms': 1000},
        'Fetch': {'replica_id': -1, 'max_bytes': 1000, 'session_epoch': -1},
        'ListOffsets': {'replica_id': -1},
        'Metadata': {'topics': []},
        'FindCoordinator': {'key': 'g', 'coordinator_keys': ['g']},
        'ApiVersions': {'client_software_name': 'kwire', 'client_software_version': '1'},
        'CreateTopics': {'timeout_ms': 1000},
        'DeleteTopics': {'timeout_ms': 1000},
        'InitProducerId': {'transactional_id': None, 'producer_id': -1, 'producer_epoch': -1},
        'OffsetForLeaderEpoch': {'replica_id': -1},
        'DescribeConfigs': {},
        'DescribeCluster': {},
        'DescribeTopicPartitions': {'response_partition_limit': 10},
    }
    # the first version that has the field
    since = {'ApiVersions': 1, 'ListOffsets': 2, 'Metadata': 3, 'FindCoordinator': 1,
             'OffsetForLeaderEpoch': 2}
    with Client() as c:
        for name, body in bodies.items():
            for v in every_version(name):
                r = c.request(name, v, body)
                has = v >= since.get(name, 0)
                same([f.name for f in APIS[name].response
                      if f.name == 'throttle_time_ms' and f.has(v)],
                     ['throttle_time_ms'] if has else [], '%s %d: throttle time' % (name, v))
                same(r['throttle_time_ms'], 0, '%s %d: none' % (name, v))


def served_versions():
    """Whatever is not listed closes the connection."""
    with Client() as c:
        listed = {k['api_key']: (k['min_version'], k['max_version'])
                  for k in c.request('ApiVersions', 0)['api_keys']}
    tried = [(0, 2), (1, 3), (1, 19), (3, 14), (2, 0), (60, 3), (4, 0), (7, 0), (200, 0), (-1, 0),
             (18 + 0x4000, 0)]
    if not REFERENCE:
        tried += [(k, APIS[k].versions[1]) for k in APIS
                  if isinstance(k, int) and k not in listed]
    for key, version in tried:
        with Client() as c:
            c.send_raw(struct.pack('>ihhihb', 11, key, version, 1, -1, 0))
            ok(c.is_closed(), 'API %d version %d is not served' % (key, version))


def metadata():
    with Client() as c:
        a, a_id = make_topic(c, partitions=3)
        b, b_id = make_topic(c)
        for v in every_version('Metadata'):
            name = 'Metadata %d: ' % v
            r = c.request('Metadata', v, {'topics': [{'name': b}, {'name': a}],
                                          'include_topic_authorized_operations': True,
                                          'allow_auto_topic_creation': False})
            topics = {t['name']: t for t in r['topics']}
            same(sorted(topics), sorted([a, b]), name + 'the topics asked for')
            same([(b['node_id'], b['port'] > 0, b['host'] != '') for b in r['brokers']],
                 [(1, True, True)], name + 'one broker')
            if v >= 1:
                same(r['controller_id'], 1, name + 'controller')
            if v >= 2:
                same(len(r['cluster_id']), 22, name + 'cluster id')
            parts = sorted((p['partition_index'], p['error_code'], p['leader_id'],
                            p['replica_nodes'], p['isr_nodes'], p['offline_replicas'])
                           for p in topics[a]['partitions'])
            same(parts, [(i, 0, 1, [1], [1], []) for i in range(3)], name + 'partitions')
            same(topics[a]['is_internal'], False, name + 'not internal')
            if v >= 10:
                same(topics[a]['topic_id'], a_id, name + 'topic id')
            if v >= 8:
                ops = topics[a]['topic_authorized_operations']
                same([bit for bit in range(16) if ops >> bit & 1], [3, 4, 5, 6, 7, 8, 10, 11],
                     name + 'a superuser may do everything to a topic')

            r = c.request('Metadata', v, {'topics': None if v >= 1 else []})
            ok({a, b} <= {t['name'] for t in r['topics']}, name + 'all topics')
            if v >= 1:
                r = c.request('Metadata', v, {'topics': []})
                same(r['topics'], [], name + 'no topics')
            no = fresh('none')
            if v >= 4:
                r = c.request('Metadata', v, {'topics': [{'name': no}],
                                              'allow_auto_topic_creation': False})
                same([(t['name'], err(t['error_code']), t['partitions']) for t in r['topics']],
                     [(no, 'UNKNOWN_TOPIC_OR_PARTITION', [])], name + 'a topic that is not there')
                for bad in ('', '.', '..', 'a b', 'x' * 250, 'ä'):
                    r = c.request('Metadata', v, {'topics': [{'name': bad}],
                                                  'allow_auto_topic_creation': False})
                    same([(t['name'], err(t['error_code'])) for t in r['topics']],
                         [(bad, 'INVALID_TOPIC_EXCEPTION')], name + 'bad name "%.10s"' % bad)
            r = c.request('Metadata', v, {'topics': [{'name': a}, {'name': a}],
                                          'allow_auto_topic_creation': False})
            same([t['name'] for t in r['topics']], [a], name + 'a name given twice counts once')
            if 8 <= v <= 10:
                r = c.request('Metadata', v, {'topics': [],
                                              'include_cluster_authorized_operations': True})
                ok(r['cluster_authorized_operations'] > 0, name + 'cluster operations')
            if v >= 12:
                r = c.request('Metadata', v, {'topics': [{'topic_id': a_id, 'name': None},
                                                         {'topic_id': b'\7' * 16, 'name': None}]})
                got = {t['topic_id']: (t['name'], err(t['error_code'])) for t in r['topics']}
                same(got, {a_id: (a, 'NONE'), b'\7' * 16: (None, 'UNKNOWN_TOPIC_ID')},
                     name + 'by id')
        for v, topic in ((10, {'name': a, 'topic_id': a_id}), (11, {'name': a, 'topic_id': a_id}),
                         (10, {'name': None}), (11, {'name': None})):
            r = c.request('Metadata', v, {'topics': [topic]})
            same([err(t['error_code']) for t in r['topics']], ['INVALID_REQUEST'],
                 'Metadata %d refuses what is version 12' % v)
        many = [{'name': fresh('n')} for _ in range(2000)]
        r = c.request('Metadata', 9, {'topics': many, 'allow_auto_topic_creation': False})
        same({err(t['error_code']) for t in r['topics']}, {'UNKNOWN_TOPIC_OR_PARTITION'},
             'two thousand unknown topics')
        same(len(r['topics']), 2000, 'each is answered')


def auto_creation():
    with Client() as c:
        name = fresh('auto')
        for _ in range(50):
            r = c.request('Metadata', 9, {'topics': [{'name': name}],
                                          'allow_auto_topic_creation': True})
            if r['topics'][0]['error_code'] == 0:
                break
            time.sleep(0.1)
        same((r['topics'][0]['error_code'], len(r['topics'][0]['partitions']) > 0), (0, True),
             'a topic is made by asking for it')
        r = c.request('Metadata', 9, {'topics': [{'name': 'a b'}, {'name': name}],
                                      'allow_auto_topic_creation': True})
        same({t['name']: err(t['error_code']) for t in r['topics']},
             {'a b': 'INVALID_TOPIC_EXCEPTION', name: 'NONE'}, 'but not with a bad name')


def describe_cluster():
    with Client() as c:
        for v in every_version('DescribeCluster'):
            r = c.request('DescribeCluster', v, {'include_cluster_authorized_operations': True,
                                                 'endpoint_type': 1})
            same((r['error_code'], r['controller_id'], len(r['cluster_id']),
                  [b['broker_id'] for b in r['brokers']]), (0, 1, 22, [1]),
                 'DescribeCluster %d' % v)
            ok(r['cluster_authorized_operations'] > 0, 'DescribeCluster %d: operations' % v)
            if v >= 1:
                for kind, error in ((2, 'MISMATCHED_ENDPOINT_TYPE'),
                                    (0, 'UNSUPPORTED_ENDPOINT_TYPE'),
                                    (9, 'UNSUPPORTED_ENDPOINT_TYPE')):
                    r = c.request('DescribeCluster', v, {'endpoint_type': kind})
                    same(err(r['error_code']), error,
                         'DescribeCluster %d: endpoint type %d' % (v, kind))


def find_coordinator():
    with Client() as c:
        for v in every_version('FindCoordinator'):
            body = {'key': 'g1', 'coordinator_keys': ['g1', 'g2'], 'key_type': 0}
            for _ in range(100):
                r = c.request('FindCoordinator', v, body)
                answers = r['coordinators'] if v >= 4 else [r]
                if all(a['error_code'] == 0 for a in answers):
                    break
                time.sleep(0.1)
            same([(a['error_code'], a['node_id'], a['port'] > 0) for a in answers],
                 [(0, 1, True)] * (2 if v >= 4 else 1), 'FindCoordinator %d of groups' % v)
            if v >= 4:
                same([a['key'] for a in answers], ['g1', 'g2'], 'FindCoordinator %d: keys' % v)
            if v >= 1:
                body['key_type'] = 1
                if not REFERENCE:
                    r = c.request('FindCoordinator', v, body)
                    answers = r['coordinators'] if v >= 4 else [r]
                    same({(err(a['error_code']), a['node_id'], a['port']) for a in answers},
                         {('TRANSACTIONAL_ID_AUTHORIZATION_FAILED', -1, -1)},
                         'FindCoordinator %d of transactions' % v)


def advertised():
    """Settings of test/t/050_wire_requests.t: what clients are told of this node."""
    expected = ('broker.example', 19092)
    with Client() as c:
        for _ in range(100):
            b = c.request('Metadata', 9, {'topics': []})['brokers'][0]
            if (b['host'], b['port']) == expected:
                break
            time.sleep(0.05)
        same((b['host'], b['port'], b['rack']), expected + ('r1',), 'advertised in Metadata')
        b = c.request('DescribeCluster', 1, {'endpoint_type': 1})['brokers'][0]
        same((b['host'], b['port'], b['rack']), expected + ('r1',), 'in DescribeCluster')
        b = c.request('FindCoordinator', 3, {'key': 'g'})
        same((b['host'], b['port']), expected, 'in FindCoordinator')


if 'advertised' in sys.argv:
    main(advertised)
main(api_versions, throttle_times, served_versions, metadata, auto_creation, describe_cluster,
     find_coordinator)
