"""DescribeConfigs."""
from ktap import *
from kwire import APIS

TOPIC, BROKER, LOGGER, GROUP = 2, 4, 8, 32
SOURCE_TOPIC, SOURCE_STATIC, SOURCE_DEFAULT = 1, 4, 5


def describe(c, version, *resources, **options):
    body = {'resources': [{'resource_type': t, 'resource_name': n, 'configuration_keys': keys}
                          for t, n, keys in resources]}
    body.update(options)
    return c.request('DescribeConfigs', version, body)['results']


def topic_configs():
    name = fresh('configs')
    with Client() as c:
        r = c.request('CreateTopics', 7, {'timeout_ms': 30000, 'topics': [
            {'name': name, 'num_partitions': 1, 'replication_factor': 1,
             'configs': [{'name': 'max.message.bytes', 'value': '5000'}]}]})
        same(r['topics'][0]['error_code'], 0, 'a topic with a config')
        for v in range(1, 5):
            full = describe(c, v, (TOPIC, name, None))[0]
            same((full['error_code'], full['resource_type'], full['resource_name']), (0, TOPIC, name),
                 'version %d' % v)
            configs = {x['name']: x for x in full['configs']}
            given, default = configs['max.message.bytes'], configs['segment.bytes']
            same((given['value'], given['config_source'], given['read_only'], given['synonyms']),
                 ('5000', SOURCE_TOPIC, False, []), 'version %d: given' % v)
            same((default['value'], default['config_source']), ('1073741824', SOURCE_DEFAULT),
                 'version %d: default' % v)
            same(len(configs), 33, 'version %d: all that Kafka has' % v)
            if v >= 3:
                same((given['config_type'], configs['cleanup.policy']['config_type'],
                      configs['min.cleanable.dirty.ratio']['config_type'], given['documentation']),
                     (3, 7, 6, None), 'version %d: types' % v)
        some = describe(c, 4, (TOPIC, name, ['retention.ms', 'max.message.bytes', 'nonsense']),
                        include_synonyms=True, include_documentation=True)[0]['configs']
        same(sorted(x['name'] for x in some), ['max.message.bytes', 'retention.ms'], 'by keys')
        given = [x for x in some if x['name'] == 'max.message.bytes'][0]
        same([(s['name'], s['value'], s['source']) for s in given['synonyms']],
             [('max.message.bytes', '5000', SOURCE_TOPIC), ('message.max.bytes', '1048588', SOURCE_DEFAULT)],
             'synonyms')
        ok(len(given['documentation']) > 10, 'documentation')


def broker_configs():
    with Client() as c:
        r = describe(c, 4, (BROKER, '1', None), (BROKER, '', None), (LOGGER, '1', ['none']))
        configs = {x['name']: x for x in r[0]['configs']}
        same((configs['node.id']['value'], configs['node.id']['config_source'],
              configs['node.id']['read_only']), ('1', SOURCE_STATIC, True), 'node.id')
        same((configs['message.max.bytes']['value'], configs['log.segment.bytes']['value']),
             ('1048588', '1073741824'), 'defaults of topics')
        same([x['error_code'] for x in r], [0, 0, 0], 'no errors')
        same((r[1]['configs'], r[2]['configs']), ([], []), 'nothing is dynamic, no logger of that name')


def mistakes():
    with Client() as c:
        r = describe(c, 4, (TOPIC, 'not-there', None), (TOPIC, 'a/b', None), (BROKER, '2', None),
                     (BROKER, 'x', None), (LOGGER, '', None))
        same([err(x['error_code']) for x in r],
             ['UNKNOWN_TOPIC_OR_PARTITION', 'INVALID_TOPIC_EXCEPTION', 'INVALID_REQUEST',
              'INVALID_REQUEST', 'INVALID_REQUEST'], 'errors')
        same([x['error_message'] for x in r[2:]],
             ['Unexpected broker id, expected 1 or empty string, but received 2',
              'Broker id must be an integer, but it is: x', 'Broker id must not be empty'], 'messages')
        same([x['configs'] for x in r], 5 * [[]], 'nothing with them')
        r = describe(c, 4, (TOPIC, 'not-there', None), (3, 'x', None))
        same([err(x['error_code']) for x in r], 2 * ['INVALID_REQUEST'], 'an unknown type fails all')
        same(describe(c, 4), [], 'no resources')


def limited_role():
    """Roles as test/t/055_wire_configs.t prepares them."""
    def errors():
        with Client() as c:
            r = describe(c, 4, (TOPIC, 'readable', None), (TOPIC, 'hidden', None), (BROKER, '1', None))
            return [(err(x['error_code']), len(x['configs']) > 0) for x in r]
    wanted = [('NONE', True), ('TOPIC_AUTHORIZATION_FAILED', False), ('NONE', True)]
    for _ in range(200):
        if errors() == wanted:
            break
        time.sleep(0.05)
    same(errors(), wanted, 'any right on the topic')


main(topic_configs, broker_configs, mistakes, limited_role)
