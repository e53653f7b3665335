"""CreateTopics and DeleteTopics: every version, and everything that can be wrong."""
from ktap import *

ZERO = bytes(16)


def create(c, version, *topics, **body):
    """Answers by name: (error, message)."""
    body.update(topics=list(topics))
    body.setdefault('timeout_ms', 30000)
    r = c.request('CreateTopics', version, body)
    return {t['name']: t for t in r['topics']}


def topic(name, partitions=1, replication=1, assignments=None, configs=None):
    return {'name': name, 'num_partitions': partitions, 'replication_factor': replication,
            'assignments': [{'partition_index': p, 'broker_ids': b}
                            for p, b in (assignments or [])],
            'configs': [{'name': k, 'value': v} for k, v in (configs or {}).items()]}


def exists(c, name):
    m = c.request('Metadata', 9, {'topics': [{'name': name}], 'allow_auto_topic_creation': False})
    return len(m['topics'][0]['partitions'])


def wait_for(condition):
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False


def create_versions():
    with Client() as c:
        for v in every_version('CreateTopics'):
            name = fresh('create')
            tag = 'CreateTopics %d: ' % v
            r = create(c, v, topic(name, 3, 1, None, {'retention.ms': '1234567'}))[name]
            same((err(r['error_code']), r['error_message']), ('NONE', None), tag + 'created')
            ok(wait_for(lambda: exists(c, name) == 3), tag + 'it is there')
            if v >= 5:
                same((r['num_partitions'], r['replication_factor']), (3, 1),
                     tag + 'says what it has made')
                configs = {k['name']: (k['value'], k['config_source'], k['read_only'],
                                       k['is_sensitive']) for k in r['configs']}
                same(configs['retention.ms'], ('1234567', 1, False, False), tag + 'config given')
                same(configs['cleanup.policy'], ('delete', 5, False, False), tag + 'default')
                same(configs['max.message.bytes'][0], '1048588', tag + 'default size')
            if v >= 7:
                ok(r['topic_id'] != ZERO, tag + 'topic id')
            r = create(c, v, topic(name))[name]
            same((err(r['error_code']), r['error_message']),
                 ('TOPIC_ALREADY_EXISTS', "Topic '%s' already exists." % name),
                 tag + 'a second time')
            if v >= 5:
                same((r['num_partitions'], r['replication_factor'], r['configs']), (-1, -1, []),
                     tag + 'nothing more with an error')
            twice = fresh()
            r = c.request('CreateTopics', v, {'topics': [topic(twice), topic(twice)],
                                              'timeout_ms': 30000})
            same([(t['name'], err(t['error_code']), t['error_message']) for t in r['topics']],
                 [(twice, 'INVALID_REQUEST', 'Duplicate topic name.')], tag + 'a name twice')
            dry = fresh()
            r = create(c, v, topic(dry, 2), validate_only=True)[dry]
            same((err(r['error_code']), exists(c, dry)), ('NONE', 0), tag + 'validate_only')
            r = create(c, v, topic('a b'), validate_only=True)['a b']
            same(err(r['error_code']), 'INVALID_TOPIC_EXCEPTION', tag + 'validate_only validates')


def create_errors():
    with Client() as c:
        cases = [
            ('no partitions', 'INVALID_PARTITIONS', dict(partitions=0)),
            ('-2 partitions', 'INVALID_PARTITIONS', dict(partitions=-2)),
            ('replication factor 0', 'INVALID_REPLICATION_FACTOR', dict(replication=0)),
            ('replication factor -2', 'INVALID_REPLICATION_FACTOR', dict(replication=-2)),
            ('replication factor 2', 'INVALID_REPLICATION_FACTOR', dict(replication=2)),
            ('unknown config', 'INVALID_CONFIG', dict(configs={'no.such.config': 'x'})),
            ('bad number', 'INVALID_CONFIG', dict(configs={'retention.ms': 'soon'})),
            ('number too small', 'INVALID_CONFIG', dict(configs={'retention.ms': '-2'})),
            ('bad word', 'INVALID_CONFIG', dict(configs={'cleanup.policy': 'burn'})),
            ('null config', 'INVALID_CONFIG', dict(configs={'retention.ms': None})),
            ('assignment and partitions', 'INVALID_REQUEST',
             dict(partitions=1, replication=-1, assignments=[(0, [1])])),
            ('assignment and factor', 'INVALID_REQUEST',
             dict(partitions=-1, replication=1, assignments=[(0, [1])])),
            ('unknown broker', 'INVALID_REPLICA_ASSIGNMENT',
             dict(partitions=-1, replication=-1, assignments=[(0, [7])])),
            ('broker twice', 'INVALID_REPLICA_ASSIGNMENT',
             dict(partitions=-1, replication=-1, assignments=[(0, [1, 1])])),
            ('no replicas', 'INVALID_REPLICA_ASSIGNMENT',
             dict(partitions=-1, replication=-1, assignments=[(0, [])])),
            ('a hole', 'INVALID_REPLICA_ASSIGNMENT',
             dict(partitions=-1, replication=-1, assignments=[(0, [1]), (2, [1])])),
            ('partition twice', 'INVALID_REPLICA_ASSIGNMENT',
             dict(partitions=-1, replication=-1, assignments=[(0, [1]), (0, [1])])),
        ]
        for what, error, args in cases:
            name = fresh()
            r = create(c, 7, topic(name, **args))[name]
            same(err(r['error_code']), error, 'create: ' + what)
            ok(r['error_message'], 'create: %s: with a message' % what)
            same(r['topic_id'], ZERO, 'create: %s: no id' % what)
            ok(exists(c, name) == 0, 'create: %s: nothing made' % what)
        for name in ('', '.', '..', 'a b', 'x' * 250, 'ü', 'a\0b'):
            r = create(c, 7, topic(name))[name]
            same(err(r['error_code']), 'INVALID_TOPIC_EXCEPTION', 'create: name "%.8r"' % name)
        name = fresh('long')
        name += 'x' * (249 - len(name))
        r = create(c, 7, topic(name))[name]
        same(err(r['error_code']), 'NONE', 'create: a name of 249 characters')
        name = fresh('col.li')
        create(c, 7, topic(name))
        wait_for(lambda: exists(c, name))
        other = name.replace('.', '_')
        r = create(c, 7, topic(other))[other]
        same((err(r['error_code']), r['error_message']),
             ('INVALID_TOPIC_EXCEPTION',
              "Topic '%s' collides with existing topic: %s" % (other, name)),
             'create: a name that collides')
        name = fresh()
        r = create(c, 7, topic(name, -1, -1, [(1, [1]), (0, [1])]))[name]
        same((err(r['error_code']), r['num_partitions']), ('NONE', 2), 'create: by assignment')
        name = fresh()
        r = create(c, 7, topic(name, -1, -1))[name]
        ok(r['error_code'] == 0 and r['num_partitions'] > 0, 'create: defaults')
        names = [fresh() for _ in range(30)]
        r = create(c, 7, *[topic(n) for n in names], topic('a b'))
        same({n: err(t['error_code']) for n, t in r.items()},
             dict({n: 'NONE' for n in names}, **{'a b': 'INVALID_TOPIC_EXCEPTION'}),
             'create: thirty at once, and a bad one')
        same(c.request('CreateTopics', 7, {'topics': []})['topics'], [], 'create: none')


def delete_by_name():
    with Client() as c:
        for v in every_version('DeleteTopics'):
            tag = 'DeleteTopics %d: ' % v
            name, _ = make_topic(c)
            no = fresh()
            twice = fresh()

            def ask(*names):
                body = {'timeout_ms': 30000}
                if v >= 6:
                    body['topics'] = [{'name': n} for n in names]
                else:
                    body['topic_names'] = list(names)
                r = c.request('DeleteTopics', v, body)
                return sorted((t['name'], err(t['error_code'])) for t in r['responses'])
            same(ask(name, no, twice, twice, ''),
                 sorted([(name, 'NONE'), (no, 'UNKNOWN_TOPIC_OR_PARTITION'),
                         (twice, 'INVALID_REQUEST'), ('', 'UNKNOWN_TOPIC_OR_PARTITION')]),
                 tag + 'by name')
            ok(wait_for(lambda: exists(c, name) == 0), tag + 'it has gone')
            same(ask(name), [(name, 'UNKNOWN_TOPIC_OR_PARTITION')], tag + 'once')
            again, _ = make_topic(c, name)
            same(exists(c, again), 1, tag + 'the name is free again')


def delete_by_id():
    with Client() as c:
        name, topic_id = make_topic(c)
        other, other_id = make_topic(c)

        def ask(*topics):
            r = c.request('DeleteTopics', 6, {'topics': list(topics), 'timeout_ms': 30000})
            return sorted(((t['name'], t['topic_id'], err(t['error_code']))
                           for t in r['responses']), key=repr)
        same(ask({'name': name, 'topic_id': topic_id}, {'name': None}),
             sorted([(name, topic_id, 'INVALID_REQUEST'), (None, ZERO, 'INVALID_REQUEST')],
                    key=repr), 'delete: both or neither of name and id')
        same(ask({'name': None, 'topic_id': topic_id}, {'name': None, 'topic_id': b'\3' * 16},
                 {'name': None, 'topic_id': b'\4' * 16}, {'name': None, 'topic_id': b'\4' * 16}),
             sorted([(name, topic_id, 'NONE'), (None, b'\3' * 16, 'UNKNOWN_TOPIC_ID'),
                     (None, b'\4' * 16, 'INVALID_REQUEST')], key=repr), 'delete: by id')
        ok(wait_for(lambda: exists(c, name) == 0), 'delete: it has gone')
        same(exists(c, other), 1, 'delete: the other has not')
        r = ask({'name': other}, {'name': None, 'topic_id': other_id})
        ok('INVALID_REQUEST' in [e for _, _, e in r], 'delete: one topic by name and by id')


main(create_versions, create_errors, delete_by_name, delete_by_id)
