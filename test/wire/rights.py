"""What a client may do; the server's roles are prepared by test/t/052_wire_rights.t."""
from ktap import *
from kwire import batches, values


def wait_for(condition):
    for _ in range(200):
        try:
            if condition():
                return True
        except Closed:
            pass
        time.sleep(0.05)
    return False


def visible(c):
    return sorted(t['name'] for t in c.request('Metadata', 9, {'topics': None})['topics'])


def metadata_error(c, name, create=False):
    r = c.request('Metadata', 9, {'topics': [{'name': name}],
                                  'allow_auto_topic_creation': create})
    return err(r['topics'][0]['error_code'])


def operations(c, name):
    r = c.request('Metadata', 9, {'topics': [{'name': name}], 'allow_auto_topic_creation': False,
                                  'include_topic_authorized_operations': True})
    ops = r['topics'][0]['topic_authorized_operations']
    return [bit for bit in range(16) if ops >> bit & 1]


READ, WRITE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS = 3, 4, 6, 7, 8, 10, 11
DENIED = 'TOPIC_AUTHORIZATION_FAILED'


def limited_role():
    def see():
        with Client() as c:
            return visible(c) == ['both', 'owned', 'readable', 'writable']
    ok(wait_for(see), 'only topics with a right are listed')
    with Client() as c:
        same(metadata_error(c, 'hidden'), DENIED, 'a topic without rights, by name')
        same(metadata_error(c, 'not-there'), 'UNKNOWN_TOPIC_OR_PARTITION', 'one that is not there')
        same(metadata_error(c, 'not-there', True), DENIED, 'and may not be made')
        same(operations(c, 'readable'), [READ, DESCRIBE, DESCRIBE_CONFIGS], 'SELECT')
        same(operations(c, 'writable'), [WRITE, DESCRIBE, DESCRIBE_CONFIGS], 'INSERT')
        ok({DELETE, ALTER, DESCRIBE, ALTER_CONFIGS} <= set(operations(c, 'owned')), 'owner')

        def write(name):
            return err(produce(c, name, batch([b'x']))['error_code'])

        def read(name):
            p = fetch(c, name, 0, max_wait_ms=0)
            return err(p['error_code']), p['high_watermark']

        def where(name):
            return err(list_offset(c, name, -1)['error_code'])
        same([write(n) for n in ('readable', 'writable', 'both', 'hidden')],
             [DENIED, 'NONE', 'NONE', DENIED], 'Produce needs INSERT')
        same([read(n) for n in ('readable', 'writable', 'both', 'hidden')],
             [('NONE', 1), (DENIED, -1), ('NONE', 1), (DENIED, -1)], 'Fetch needs SELECT')
        same([where(n) for n in ('readable', 'writable', 'both', 'hidden')],
             ['NONE', 'NONE', 'NONE', DENIED], 'ListOffsets needs either')
        r = c.request('CreateTopics', 7, {'timeout_ms': 10000, 'topics': [
            {'name': 'made', 'num_partitions': 1, 'replication_factor': 1}]})
        same(err(r['topics'][0]['error_code']), DENIED, 'CreateTopics needs CREATE')
        r = c.request('DeleteTopics', 5, {'timeout_ms': 10000,
                                          'topic_names': ['hidden', 'both', 'not-there']})
        same(sorted((t['name'], err(t['error_code'])) for t in r['responses']),
             [('both', DENIED), ('hidden', DENIED), ('not-there', 'UNKNOWN_TOPIC_OR_PARTITION')],
             'DeleteTopics needs the owner')
        r = c.request('DeleteTopics', 5, {'timeout_ms': 10000, 'topic_names': ['owned']})
        same(err(r['responses'][0]['error_code']), 'NONE', 'who may delete')
        same(c.request('InitProducerId', 4, {'transactional_id': None})['error_code'], 0,
             'a role that may write somewhere may have a producer id')


def after_grant():
    with Client() as c:
        ok(wait_for(lambda: 'granted' in visible(c)), 'a GRANT counts for connected clients')
        same(fetch(c, 'granted', 0, max_wait_ms=0)['error_code'], 0, 'it may be read')


def after_revoke():
    with Client() as c:
        ok(wait_for(lambda: 'granted' not in visible(c)), 'so does a REVOKE')
        same(err(fetch(c, 'granted', 0, max_wait_ms=0)['error_code']), DENIED, 'no more reading')


def may_create():
    with Client() as c:
        make_topic(c, 'made')
        same(metadata_error(c, 'made'), 'NONE', 'with CREATE a topic can be made')
        same(err(produce(c, 'made', batch([b'x']))['error_code']), 'NONE', 'and written by its maker')
        name = fresh('auto')
        same(metadata_error(c, name, True), 'NONE', 'also by asking for it')


def closed():
    with Client() as c:
        c.send('Metadata', 9, {'topics': None})
        try:
            c.receive('Metadata', 9)
            return False
        except Closed:
            return True


def no_such_role():
    ok(wait_for(closed), 'a role that is not there is refused, whatever PUBLIC may do')


def refused():
    ok(wait_for(closed), 'without a role every request is refused')
    for name in ('Produce', 'Fetch', 'ListOffsets', 'FindCoordinator', 'CreateTopics',
                 'DeleteTopics', 'InitProducerId', 'DescribeCluster'):
        with Client() as c:
            c.send(name, APIS[name].versions[1], {})
            ok(c.is_closed(), 'refused: ' + name)
    with Client() as c:
        same(c.request('ApiVersions', 4, {'client_software_name': 'x',
                                          'client_software_version': '1'})['error_code'], 0,
             'but ApiVersions is answered')
        c.send_raw(b'\0\2\0\0' + b'\0' * 1000)
        ok(c.is_closed(), 'a frame of more than 64 kB closes the connection')


main(limited_role, after_grant, after_revoke, may_create, no_such_role, refused)
