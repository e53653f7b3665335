"""Settings of consumer groups, each by what it changes, and groups' own configs.

Each function sets what it tests, and waits until a broker has read it: only one process serves.
"""
import select

import psycopg2

from group_consumer import Consumer, describe, heartbeat, settle, sharing, wait_for
from kmember import Member, sql
from ktap import *


def setting(name, value):
    sql('ALTER SYSTEM SET kafka_pg.%s = %s' % (name, value))
    sql('SELECT pg_reload_conf()')


def reset(*names):
    for name in names:
        sql('ALTER SYSTEM RESET kafka_pg.' + name)
    sql('SELECT pg_reload_conf()')


def shown(name):
    """A setting as clients are told: it is in force then."""
    with Client() as c:
        r = c.request('DescribeConfigs', 4, {'resources': [
            {'resource_type': 4, 'resource_name': '1', 'configuration_keys': [name]}]})
        return r['results'][0]['configs'][0]['value']


def join_error(session_ms, **more):
    with Client() as c:
        m = Member(c, fresh('group'), [], session_ms=session_ms, **more)
        error = err(m.join()['error_code'])
        leave(m)
        return error


def leave(m):
    m.client.request('LeaveGroup', 5, {'group_id': m.group, 'members': [
        {'member_id': m.id, 'group_instance_id': None}]})


def session_timeouts():
    setting('group_initial_rebalance_delay', 0)
    ok(wait_for(lambda: shown('group.initial.rebalance.delay.ms') == '0'), 'no delay')
    same(join_error(5000), 'INVALID_SESSION_TIMEOUT', 'shorter than the shortest')
    same(join_error(6000), 'NONE', 'the shortest')
    setting('group_min_session_timeout', "'5s'")
    ok(wait_for(lambda: join_error(5000) == 'NONE'), 'a new minimum')
    setting('group_max_session_timeout', "'7s'")
    ok(wait_for(lambda: join_error(8000) == 'INVALID_SESSION_TIMEOUT'), 'a new maximum')
    same(join_error(7000), 'NONE', 'the longest')
    reset('group_min_session_timeout', 'group_max_session_timeout')


def rebalance_delay():
    setting('group_initial_rebalance_delay', "'10min'")
    ok(wait_for(lambda: shown('group.initial.rebalance.delay.ms') == '600000'), 'a long delay')
    with Client() as c:
        m = Member(c, fresh('group'), [])
        body = m.join_body()
        body['member_id'] = c.request('JoinGroup', 9, body)['member_id']
        c.send('JoinGroup', 9, body)
        ok(not select.select([c.sock], [], [], 1)[0], 'the first member waits')
    setting('group_initial_rebalance_delay', 0)
    ok(wait_for(lambda: shown('group.initial.rebalance.delay.ms') == '0'), 'no delay')
    same(join_error(10000), 'NONE', 'it does not')


def sizes():
    with Client() as c:
        group = fresh('group')
        setting('group_max_size', 1)
        ok(wait_for(lambda: shown('group.max.size') == '1'), 'one member a group')
        a = Member(c, group, [])
        same(err(a.join()['error_code']), 'NONE', 'is in')
        with Client() as d:
            same(err(Member(d, group, []).join()['error_code']), 'GROUP_MAX_SIZE_REACHED',
                 'another one is not')
        leave(a)
        setting('group_max_bytes', "'16kB'")
        ok(wait_for(lambda: join_error(10000, metadata=b'x' * 20000) == 'GROUP_MAX_SIZE_REACHED'),
           'nor one that needs too much memory')
        reset('group_max_size', 'group_max_bytes')
        ok(wait_for(lambda: join_error(10000, metadata=b'x' * 20000) == 'NONE'), 'until it may')

    setting('group_consumer_max_size', 1)
    ok(wait_for(lambda: shown('group.consumer.max.size') == '1'), 'the same in the new protocol')
    group = fresh('group')
    a, b = (Consumer(0, group, ['none']) for _ in range(2))
    same((a.join(), b.join()), ('NONE', 'GROUP_MAX_SIZE_REACHED'), 'one member')
    same(a.join(), 'NONE', 'may come again')
    reset('group_consumer_max_size')
    ok(wait_for(lambda: b.join() == 'NONE'), 'two members')


def consumer_times():
    group = fresh('group')
    a = Consumer(0, group, ['none'])
    same((a.join(), a.beat()['heartbeat_interval_ms']), ('NONE', 5000), 'the interval is told')
    setting('group_consumer_heartbeat_interval', "'7s'")
    ok(wait_for(lambda: a.beat()['heartbeat_interval_ms'] == 7000), 'another one')
    setting('group_consumer_session_timeout', "'1s'")
    ok(wait_for(lambda: shown('group.consumer.session.timeout.ms') == '1000'), 'short sessions')
    b = Consumer(0, group, ['none'])
    same(b.join(), 'NONE', 'a member that is silent')
    with Client() as c:
        ok(wait_for(lambda: b.id not in [m['member_id'] for m in describe(c, group)['members']]),
           'is out')
    same(b.go_on(), 'UNKNOWN_MEMBER_ID', 'and fenced')
    reset('group_consumer_heartbeat_interval', 'group_consumer_session_timeout')
    ok(wait_for(lambda: shown('group.consumer.session.timeout.ms') == '45000'), 'long sessions')


def assignment_interval():
    with Client() as c:
        name, _ = make_topic(c, partitions=2)
    setting('group_consumer_assignment_interval', "'10min'")
    ok(wait_for(lambda: shown('group.consumer.assignment.interval.ms') == '600000'), 'a long one')
    group = fresh('group')
    a, b = (Consumer(0, group, [name]) for _ in range(2))
    same((a.join(), b.join()), ('NONE', 'NONE'), 'two members')
    for _ in range(5):
        a.go_on()
        b.go_on()
        time.sleep(0.3)
    same((len(a.owned), len(b.owned)), (2, 0), 'the second one gets nothing')
    same(describe(a.client, group)['group_state'], 'Assigning', 'as the group waits')
    setting('group_consumer_assignment_interval', 0)
    ok(settle([a, b], 2), 'until it need not')
    reset('group_consumer_assignment_interval')


def refresh():
    with Client() as c:
        name, _ = make_topic(c, partitions=1)
    sql('CREATE ROLE narrow')
    sql('GRANT USAGE ON SCHEMA topics TO narrow')
    setting('anonymous_role', 'narrow')
    setting('group_consumer_regex_refresh_interval', "'10s'")
    a = Consumer(0, fresh('group'), regex=name)
    ok(wait_for(lambda: a.join() == 'NONE' and not a.owned), 'a topic that one may not see')
    sql('GRANT SELECT ON topics."%s" TO narrow' % name)
    deadline = time.monotonic() + 90
    while not a.owned and time.monotonic() < deadline:
        a.go_on()
        time.sleep(0.2)
    same(len(a.owned), 1, 'is found when patterns are matched anew')
    reset('anonymous_role', 'group_consumer_regex_refresh_interval')


def refused(query, text):
    try:
        sql(query)
        ok(False, text)
    except psycopg2.Error as e:
        ok(True, '%s: %s' % (text, str(e).splitlines()[0]))


def assignors():
    for bad in ("''", "'best'", "'range, range'", "'range,'"):
        refused('ALTER SYSTEM SET kafka_pg.group_consumer_assignors = ' + bad,
                'not a list of assignors')
    setting('group_consumer_assignors', 'range')
    ok(wait_for(lambda: shown('group.consumer.assignors') == 'range'), 'one assignor')
    group = fresh('group')
    a = Consumer(0, group, ['none'])
    same(err(a.whole(server_assignor='uniform')['error_code']), 'UNSUPPORTED_ASSIGNOR',
         'the other one is not there')
    same(a.join(), 'NONE', 'a member')
    same(describe(a.client, group)['assignor_name'], 'range', 'has the one')
    reset('group_consumer_assignors')
    ok(wait_for(lambda: describe(a.client, group)['assignor_name'] == 'uniform'), 'the default')


def migration():
    with Client() as c:
        name, _ = make_topic(c, partitions=1)

    def classic():
        m = Member(Client(), fresh('group'), [name])
        m.join()
        m.sync([(m.id, sharing({name: [0]}))])
        return m

    def try_upgrade():
        m = classic()
        n = Consumer(0, m.group, [name])
        error = n.join()
        if error == 'NONE':
            n.leave()
            again = describe(m.client, m.group)['error_code']
            error = 'consumer' if again == 0 else 'classic'
        leave(m)
        return error

    same(try_upgrade(), 'classic', 'both ways')
    setting('group_consumer_migration_policy', 'upgrade')
    ok(wait_for(lambda: try_upgrade() == 'consumer'), 'one way')
    setting('group_consumer_migration_policy', 'disabled')
    ok(wait_for(lambda: try_upgrade() == 'GROUP_ID_NOT_FOUND'), 'no way')
    setting('group_consumer_migration_policy', 'downgrade')
    ok(wait_for(lambda: try_upgrade() == 'GROUP_ID_NOT_FOUND'), 'the other way only')
    reset('group_consumer_migration_policy')


GROUP = 'configured'


def described(client, *keys):
    r = client.request('DescribeConfigs', 4, {
        'resources': [{'resource_type': 32, 'resource_name': GROUP,
                       'configuration_keys': list(keys) or None}], 'include_synonyms': True})
    return {c['name']: (c['value'], c['config_source'], [(s['name'], s['source'])
                                                         for s in c['synonyms']])
            for c in r['results'][0]['configs']}


def group_configs():
    beat, session = 'consumer.heartbeat.interval.ms', 'consumer.session.timeout.ms'
    with Client() as c:
        same(described(c), {n: (v, 5, [('group.' + n, 5)]) for n, v in (
            ('consumer.assignment.interval.ms', '1000'), (beat, '5000'), (session, '45000'))},
            'a group has the defaults')
        r = c.request('DescribeConfigs', 4, {'resources': [
            {'resource_type': 32, 'resource_name': '', 'configuration_keys': None}]})
        same(err(r['results'][0]['error_code']), 'INVALID_REQUEST', 'a group without a name')
        a = Consumer(0, GROUP, ['none'])
        same((a.join(), a.beat()['heartbeat_interval_ms']), ('NONE', 5000), 'a member')
        sql('SELECT kafka.alter_group(%s, %s)', GROUP, '{"%s": 6000, "%s": "50000"}' %
            (beat, session))
        ok(wait_for(lambda: a.beat()['heartbeat_interval_ms'] == 6000), 'its own interval')
        same(described(c, beat), {beat: ('6000', 8, [(beat, 8), ('group.' + beat, 5)])},
             'is described')
        same(described(c)[session][:2], ('50000', 8), 'and the other one')
        other = Consumer(0, fresh('group'), ['none'])
        same((other.join(), other.beat()['heartbeat_interval_ms']), ('NONE', 5000),
             'other groups have the setting')
        sql('SELECT kafka.alter_group(%s, %s)', GROUP, '{"%s": null}' % session)
        ok(wait_for(lambda: described(c)[session][:2] == ('45000', 5)), 'one is taken away')
        same(sql('SELECT config FROM kafka.group_config'), [({beat: 6000},)], 'the other one not')

    for bad, why in (('{"%s": 4999}' % beat, 'below the minimum'),
                     ('{"%s": 15001}' % beat, 'above the maximum'),
                     ('{"%s": 44999}' % session, 'a session'), ('{"%s": 60001}' % session, 'too'),
                     ('{"%s": "x"}' % session, 'no number'), ('{"%s": [1]}' % session, 'a list'),
                     ('{"%s": ""}' % session, 'nothing'), ('{"%s": 45000.5}' % session, 'a fraction'),
                     ('{"consumer.assignment.interval.ms": 15001}', 'an assignment'),
                     ('{"retention.ms": 5}', 'a config of topics'), ('[]', 'no object')):
        refused("SELECT kafka.alter_group('g', '%s')" % bad, why)
    refused("SELECT kafka.alter_group('', '{}')", 'no group')
    refused("SELECT kafka.alter_group(NULL, '{}')", 'null')

    setting('group_consumer_min_session_timeout', "'2s'")
    setting('group_consumer_max_session_timeout', "'70s'")
    setting('group_consumer_min_heartbeat_interval', "'1s'")
    setting('group_consumer_max_heartbeat_interval', "'20s'")
    ok(wait_for(lambda: sql("SELECT current_setting('kafka_pg."
                            "group_consumer_max_heartbeat_interval')")[0][0] == '20s'), 'bounds')
    sql('SELECT kafka.alter_group(%s, %s)', 'g', '{"%s": 2000, "%s": 1000}' % (session, beat))
    sql('SELECT kafka.alter_group(%s, %s)', 'g', '{"%s": 70000, "%s": 20000}' % (session, beat))
    refused("SELECT kafka.alter_group('g', '{\"%s\": 2000}')" % session,
            'a session that is shorter than the interval')
    sql('SELECT kafka.alter_group(%s, %s)', 'g', '{"%s": null, "%s": null}' % (session, beat))
    same(sql("SELECT * FROM kafka.group_config WHERE group_id = 'g'"), [], 'nothing is left')
    reset('group_consumer_min_session_timeout', 'group_consumer_max_session_timeout',
          'group_consumer_min_heartbeat_interval', 'group_consumer_max_heartbeat_interval')


def after_restart():
    with Client() as c:
        same(described(c)['consumer.heartbeat.interval.ms'][:2], ('6000', 8), 'it is still there')


if __name__ == '__main__':
    main(session_timeouts, rebalance_delay, sizes, consumer_times, assignment_interval, assignors,
         migration, refresh, group_configs, *([after_restart] if 'after_restart' in sys.argv else []))
