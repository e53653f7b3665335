"""The consumer protocol (KIP-848), request by request, with members on three broker processes.

Runs in part against Apache Kafka too: KWIRE_REFERENCE=1 leaves out what needs our processes.
"""
import os
import random
import signal
import struct
import threading
import uuid

import psycopg2

from kmember import Member, client_of, sql, subscription
from ktap import *


def connect(broker):
    return Client() if REFERENCE else client_of(broker)


class Consumer:
    """A member; what it says that it owns is what it was last told."""

    def __init__(self, broker, group, topics=None, regex=None, instance=None, member=None,
                 timeout_ms=30000):
        self.client = connect(broker)
        self.group = group
        self.topics = topics
        self.regex = regex
        self.instance = instance
        self.id = member or str(uuid.uuid4())
        self.timeout_ms = timeout_ms
        self.epoch = 0
        self.owned = set()

    def beat(self, **fields):
        body = {'group_id': self.group, 'member_id': self.id, 'member_epoch': self.epoch,
                'instance_id': self.instance, 'rack_id': None, 'rebalance_timeout_ms': -1,
                'subscribed_topic_names': None, 'subscribed_topic_regex': None,
                'server_assignor': None, 'topic_partitions': None}
        body.update(fields)
        return self.client.request('ConsumerGroupHeartbeat', 1, body)

    def whole(self, **fields):
        """A heartbeat with everything in it."""
        body = {'rebalance_timeout_ms': self.timeout_ms, 'subscribed_topic_names': self.topics,
                'subscribed_topic_regex': self.regex,
                'topic_partitions': partitions_of(self.owned)}
        body.update(fields)
        return self.beat(**body)

    def take(self, r):
        """Does what an answer says; returns its error."""
        if r['error_code'] == 0:
            self.epoch = r['member_epoch']
            if r['assignment'] is not None:
                self.owned = owned_in(r['assignment'])
        return err(r['error_code'])

    def join(self):
        self.epoch = 0
        self.owned = set()
        return self.take(self.whole())

    def go_on(self):
        """Says what it owns, and takes what it is told."""
        return self.take(self.beat(topic_partitions=partitions_of(self.owned)))

    def leave(self, epoch=-1):
        return err(self.beat(member_epoch=epoch)['error_code'])


def owned_in(assignment):
    return {(t['topic_id'], p) for t in assignment['topic_partitions'] for p in t['partitions']}


def partitions_of(owned):
    topics = {}
    for topic, p in sorted(owned):
        topics.setdefault(topic, []).append(p)
    return [{'topic_id': t, 'partitions': p} for t, p in topics.items()]


def settle(members, total, seconds=60):
    """Heartbeats until all partitions are owned, evenly; never twice at one time."""
    deadline = time.monotonic() + seconds
    twice = False
    while time.monotonic() < deadline:
        for m in members:
            before = len(m.owned)
            if m.go_on() != 'NONE':
                return False
            owned = [p for o in members for p in o.owned]
            twice = twice or len(m.owned) > before and len(set(owned)) < len(owned)
        sizes = [len(m.owned) for m in members]
        if sum(sizes) == total and max(sizes) - min(sizes) <= 1:
            return not twice and len({m.epoch for m in members}) == 1
        time.sleep(0.1)
    print('# %r' % sizes)
    return False


def describe(client, group, api='ConsumerGroupDescribe', version=1):
    return client.request(api, version, {'group_ids': [group]})['groups'][0]


def reconcile():
    group = fresh('group')
    with Client() as c:
        name, topic = make_topic(c, partitions=7)
    a = Consumer(0, group, [name])
    same(a.join(), 'NONE', 'one member joins')
    same(a.owned, {(topic, p) for p in range(7)}, 'and has all partitions at once')
    b = Consumer(1, group, [name])
    same((b.join(), b.owned), ('NONE', set()), 'a second one has to wait for them')
    ok(settle([a, b], 7), 'until the first one gave them up')
    d = Consumer(2, group, [name])
    same(d.join(), 'NONE', 'a third one')
    ok(settle([a, b, d], 7), 'each partition has one owner all the time')

    group_now = describe(a.client, group)
    same((group_now['error_code'], group_now['group_state'], group_now['assignor_name']),
         (0, 'Stable', 'uniform'), 'the group is stable')
    same((group_now['group_epoch'], group_now['assignment_epoch']), (a.epoch, a.epoch),
         'at their epoch')
    same({m['member_id']: owned_in(m['assignment']) for m in group_now['members']},
         {m.id: m.owned for m in (a, b, d)}, 'with the partitions that they have')
    same({(m['subscribed_topic_names'][0], m['client_host'][:1], m['member_type'])
          for m in group_now['members']}, {(name, '/', 1)}, 'and subscriptions')
    same({t['topic_name'] for m in group_now['members']
          for t in m['target_assignment']['topic_partitions']}, {name}, 'by name')
    classic = a.client.request('DescribeGroups', 6, {'groups': [group]})['groups'][0]
    same((err(classic['error_code']), classic['group_state']), ('GROUP_ID_NOT_FOUND', 'Dead'),
         'it is no classic group')
    listed = a.client.request('ListGroups', 5, {'types_filter': ['consumer'],
                                                'states_filter': ['Stable']})['groups']
    ok(group in [g['group_id'] for g in listed], 'it is listed as one of consumers')

    same(b.leave(), 'NONE', 'one leaves')
    ok(settle([a, d], 7), 'the others take over')
    same(a.take(a.beat(subscribed_topic_names=[])), 'NONE', 'one wants nothing any more')
    ok(settle_one(a, d, 7), 'the other one has all')
    for m in (a, d):
        same(m.leave(), 'NONE', 'the end')
    same(describe(a.client, group)['group_state'], 'Empty', 'an empty group')
    same(err(a.client.request('DeleteGroups', 2, {'groups_names': [group]})
             ['results'][0]['error_code']), 'NONE', 'is deleted')
    same(err(describe(a.client, group)['error_code']), 'GROUP_ID_NOT_FOUND', 'and gone')


def settle_one(nothing, everything, total, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        nothing.go_on()
        everything.go_on()
        if not nothing.owned and len(everything.owned) == total:
            return True
        time.sleep(0.1)
    return False


def static():
    group = fresh('group')
    with Client() as c:
        name, topic = make_topic(c, partitions=4)
    a = Consumer(0, group, [name], instance='one')
    b = Consumer(1, group, [name], instance='two')
    same((a.join(), b.join()), ('NONE', 'NONE'), 'two static members')
    ok(settle([a, b], 4), 'share')
    again = Consumer(2, group, [name], instance='one')
    same(again.join(), 'UNRELEASED_INSTANCE_ID', 'an instance that is in use')
    same(err(a.beat(member_id=b.id)['error_code']), 'FENCED_INSTANCE_ID',
         "another member's instance")
    had, epoch = set(a.owned), a.epoch
    same(a.leave(-2), 'NONE', 'one goes for a while')
    same(b.go_on(), 'NONE', 'the other one')
    same(len(b.owned), 2, 'does not get its partitions')
    same(again.join(), 'NONE', 'it comes back under another id')
    same((again.owned, again.epoch), (had, epoch), 'and has what it had, without a new epoch')
    same(a.go_on(), 'FENCED_INSTANCE_ID', 'the old id is fenced')
    same(again.leave(), 'NONE', 'this time it leaves')
    ok(settle([b], 4), 'the other one has all')
    b.leave()


def commit(m, topic, epoch, version=9, member=None, partition=0):
    t = {'partitions': [{'partition_index': partition, 'committed_offset': 5}]}
    t['topic_id' if version >= 10 else 'name'] = topic
    r = m.client.request('OffsetCommit', version, {
        'group_id': m.group, 'generation_id_or_member_epoch': epoch,
        'member_id': m.id if member is None else member, 'topics': [t]})
    return err(r['topics'][0]['partitions'][0]['error_code'])


def offset(m, topic, epoch, member=None):
    r = m.client.request('OffsetFetch', 9, {'groups': [{
        'group_id': m.group, 'member_id': m.id if member is None else member,
        'member_epoch': epoch, 'topics': [{'name': topic, 'partition_indexes': [0]}]}]})
    group = r['groups'][0]
    if group['error_code']:
        return err(group['error_code'])
    return group['topics'][0]['partitions'][0]['committed_offset']


def fencing():
    group = fresh('group')
    with Client() as c:
        name, topic = make_topic(c, partitions=2)
    a = Consumer(0, group, [name])
    same(err(a.beat(member_epoch=3)['error_code']), 'GROUP_ID_NOT_FOUND', 'no such group')
    same(err(a.beat()['error_code']), 'INVALID_REQUEST', 'who joins must say for what')
    same(err(a.whole(server_assignor='best')['error_code']), 'UNSUPPORTED_ASSIGNOR',
         'an assignor that there is not')
    same(err(a.whole(instance_id='')['error_code']), 'INVALID_REQUEST', 'an empty instance id')
    same(err(a.whole(member_id='')['error_code']), 'INVALID_REQUEST', 'version 1 needs an id')
    same(err(a.whole(group_id='')['error_code']), 'INVALID_REQUEST', 'and a group')
    same(err(a.beat(member_epoch=-3)['error_code']), 'INVALID_REQUEST', 'epoch -3')
    same(err(describe(a.client, group)['error_code']), 'GROUP_ID_NOT_FOUND',
         'nothing of that makes a group')
    same(a.take(a.whole(server_assignor='range')), 'NONE', 'a member')
    same(describe(a.client, group)['assignor_name'], 'range', 'with the assignor that it wants')
    same(err(a.beat(member_epoch=a.epoch + 1)['error_code']), 'FENCED_MEMBER_EPOCH',
         'a later epoch')
    same(err(a.beat(member_id='x')['error_code']), 'UNKNOWN_MEMBER_ID', 'an unknown member')
    b = Consumer(1, group, [name])
    b.join()
    ok(settle([a, b], 2), 'two members')
    same(err(a.beat(member_epoch=a.epoch - 1)['error_code']), 'FENCED_MEMBER_EPOCH',
         'an earlier epoch')
    mine = sorted(a.owned)[0][1]

    same(commit(a, name, a.epoch, partition=mine), 'NONE', 'a member commits')
    same(commit(a, topic, a.epoch, 10, partition=mine), 'NONE', 'by topic id')
    same(commit(a, name, a.epoch + 1), 'STALE_MEMBER_EPOCH', 'not at a later epoch')
    same(commit(a, name, a.epoch - 1, partition=1 - mine), 'STALE_MEMBER_EPOCH',
         'nor at an earlier one for what it has not')
    same(commit(a, name, a.epoch - 1, partition=mine), 'NONE', 'but for what it had then')
    same(commit(a, name, a.epoch, 8, partition=mine), 'UNSUPPORTED_VERSION',
         'not with an old version')
    same(commit(a, name, a.epoch, member='x'), 'UNKNOWN_MEMBER_ID', 'nor as somebody else')
    same(commit(a, name, -1, member=''), 'UNKNOWN_MEMBER_ID', 'nor as nobody')
    same(offset(a, name, a.epoch), 5 if mine == 0 else -1, 'a member fetches')
    same(offset(a, name, a.epoch + 1), 'STALE_MEMBER_EPOCH', 'at its epoch only')
    same(offset(a, name, a.epoch, 'x'), 'UNKNOWN_MEMBER_ID', 'as itself only')
    for m in (a, b):
        m.leave()
    same(commit(a, name, -1, member=''), 'NONE', 'anybody commits when the members have gone')


def patterns():
    prefix = fresh('p')
    group = fresh('group')
    with Client() as c:
        ids = {n: make_topic(c, '%s.%s' % (prefix, n), partitions=2)[1]
               for n in ('eu', 'us', 'eux')}
    a = Consumer(0, group, regex=prefix + '\\.(eu|us)')
    for bad in ('(', 'a**', '(?=a)', '\\1', 'a{1001}', '[b-a]'):
        same(err(a.whole(subscribed_topic_regex=bad)['error_code']), 'INVALID_REGULAR_EXPRESSION',
             'not a pattern: ' + bad)
    a.join()
    ok(settle([a], 4), 'a pattern')
    same({t for t, _ in a.owned}, {ids['eu'], ids['us']}, 'matches whole names')
    b = Consumer(1, group, topics=[prefix + '.eux'], regex=prefix + '\\.EUX|(?i)' + prefix + '.US')
    same(b.join(), 'NONE', 'names and another pattern')
    ok(settle([a, b], 6), 'together')
    same({t for t, _ in b.owned} - {ids['us'], ids['eux']}, set(), 'each has what it wants')
    same(describe(a.client, group)['members'][0]['subscribed_topic_regex'] in (a.regex, b.regex),
         True, 'the pattern is told')
    same(a.take(a.beat(subscribed_topic_regex=prefix + '\\.n.*')), 'NONE', 'a new pattern')
    ok(settle_one(a, b, 4), 'that matches nothing')
    with Client() as c:
        new = make_topic(c, prefix + '.new')[1]
    deadline = time.monotonic() + 60
    while a.owned != {(new, 0)} and time.monotonic() < deadline:
        a.go_on()
        b.go_on()
        time.sleep(0.2)
    same(a.owned, {(new, 0)}, 'until there is a topic')
    for m in (a, b):
        m.leave()


def hard_patterns():
    """They may be refused, but must not stop others."""
    group = fresh('group')
    with Client() as c:
        make_topic(c, 'a' * 240 + fresh('b')[:9])
    a = Consumer(0, group, regex='x')
    for hard in ('(a*)*(a*)*b', '((a{0,10}){0,10}){0,10}c', '(.*)(.*)(.*)(.*)x',
                 '(a|b|ab)*(.?){400}a{400}', '(a{30}){33}', '.' * 4000, '(' * 5000,
                 '(?i:[\\x{100}-\\x{3000}])', 'a|' * 1300):
        r = a.whole(subscribed_topic_regex=hard)
        ok(err(r['error_code']) in ('NONE', 'INVALID_REGULAR_EXPRESSION'),
           'a hard pattern: ' + hard[:30])
        a.take(r)


def hard_patterns_at_once():
    """Each comes to its end, and then the next."""
    stem, chance = fresh('hard'), random.Random(1)
    with Client() as c:
        for _ in range(200):
            make_topic(c, stem + ''.join(chance.choice('ab') for _ in range(220)))
    # many ways at once, and other ones in each name
    hard = ['.*(%s)%d' % ('|'.join(['a.{250}'] * 15), i) for i in range(2)]
    answers = {}

    def ask(pattern):
        m = Consumer(0, fresh('group'), regex=pattern)
        m.client.sock.settimeout(120)
        answers[pattern] = m.join()
        while answers[pattern] == 'COORDINATOR_NOT_AVAILABLE':      # a slow machine
            answers[pattern] = m.join()

    threads = [threading.Thread(target=ask, args=(p,)) for p in hard + [stem + '.*']]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    same([answers.get(p) for p in hard], ['INVALID_REGULAR_EXPRESSION'] * len(hard),
         'patterns that are too expensive are refused')
    same(answers.get(stem + '.*'), 'NONE', 'and one that is not is taken')


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def may_create(client):
    r = client.request('CreateTopics', 7, {'timeout_ms': 30000, 'validate_only': True, 'topics': [
        {'name': fresh(), 'num_partitions': 1, 'replication_factor': 1}]})
    return r['topics'][0]['error_code'] == 0


def rights():
    """Topics that the client may not describe match nothing."""
    prefix = fresh('r')
    group = fresh('group')
    with Client() as c:
        topics = [make_topic(c, '%s.%d' % (prefix, i)) for i in range(2)]
    table = 'topics."%s"' % topics[1][0]
    sql('CREATE ROLE limited')
    sql('GRANT USAGE ON SCHEMA topics TO limited')
    sql('GRANT SELECT ON topics."%s" TO limited' % topics[0][0])
    sql('ALTER SYSTEM SET kafka_pg.anonymous_role = limited')
    sql('SELECT pg_reload_conf()')
    b = Consumer(1, group, topics=[topics[1][0]])
    ok(wait_for(lambda: b.join() == 'TOPIC_AUTHORIZATION_FAILED'), 'a topic that one may not see')
    a = Consumer(0, group, regex=prefix + '.*')
    ok(wait_for(lambda: a.join() == 'NONE'), 'a pattern is none of its')
    same({t for t, _ in a.owned}, {topics[0][1]}, 'business: it does not match')
    sql('GRANT SELECT ON %s TO limited' % table)
    same(b.join(), 'NONE', 'until one may')
    ok(wait_for(lambda: b.go_on() == 'NONE' and b.owned), 'and reads it')
    same(describe(a.client, group)['error_code'], 0, 'the group is described')
    sql('REVOKE SELECT ON %s FROM limited' % table)
    same(err(describe(a.client, group)['error_code']), 'TOPIC_AUTHORIZATION_FAILED',
         'but not to who may not know all of its topics')
    sql('ALTER SYSTEM RESET kafka_pg.anonymous_role')
    sql('SELECT pg_reload_conf()')
    for broker in range(3):
        with client_of(broker) as c:
            ok(wait_for(lambda: may_create(c)), 'broker %d has its role again' % broker)
    for m in (a, b):
        m.leave()


def restarted(pid):
    """Are there brokers, but not this one?  The crash may meet the question."""
    try:
        found = [p for p, in sql("SELECT pid FROM pg_stat_activity "
                                 "WHERE backend_type LIKE 'kafka broker%%'")]
    except psycopg2.OperationalError:
        return False
    return len(found) == 3 and pid not in found


def restart():
    """A broker process is killed, and so the server restarts: the members go on."""
    group = fresh('group')
    with Client() as c:
        name, topic = make_topic(c, partitions=6)
    members = [Consumer(i, group, [name], instance='i2' if i == 2 else None,
                        regex=name[:-1] + '.') for i in range(3)]
    for m in members:
        same(m.join(), 'NONE', 'a member')
    ok(settle(members, 6), 'they share')
    before = [(m.id, m.epoch, sorted(m.owned)) for m in members]
    same(commit(members[0], name, members[0].epoch), 'NONE', 'a commit')
    pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'kafka broker%%'")[0][0]
    os.kill(pid, signal.SIGKILL)
    ok(wait_for(lambda: restarted(pid)), 'the server has restarted')
    deadline = time.monotonic() + 60
    for i, m in enumerate(members):
        while True:
            try:
                m.client = client_of(i)
                r = m.whole()
                if err(r['error_code']) not in ('COORDINATOR_LOAD_IN_PROGRESS',
                                                'COORDINATOR_NOT_AVAILABLE'):
                    break
            except Exception:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)
        same(m.take(r), 'NONE', 'a member goes on')
    same([(m.id, m.epoch, sorted(m.owned)) for m in members], before,
         'with id, epoch and partitions')
    same(offset(members[0], name, members[0].epoch), 5, 'and offset')
    same(describe(members[0].client, group)['group_epoch'], members[0].epoch, 'nothing rebalances')
    for m in members:
        m.leave()


def classic_partitions(assignment):
    """ConsumerPartitionAssignor's format: version, topics."""
    if not assignment:
        return set()
    found = set()
    at = 6
    for _ in range(struct.unpack_from('>hi', assignment)[1]):
        n = struct.unpack_from('>h', assignment, at)[0]
        name = assignment[at + 2:at + 2 + n].decode()
        count = struct.unpack_from('>i', assignment, at + 2 + n)[0]
        at += 6 + n
        for p in struct.unpack_from('>%di' % count, assignment, at):
            found.add((name, p))
        at += 4 * count
    return found


def sharing(topics):
    """What a leader of the classic protocol hands out to one member."""
    data = struct.pack('>hi', 0, len(topics))
    for name, partitions in topics.items():
        data += struct.pack('>h', len(name)) + name.encode()
        data += struct.pack('>i%di' % len(partitions), len(partitions), *partitions)
    return data + struct.pack('>i', -1)


def heartbeat(member):
    r = member.client.request('Heartbeat', 4, {
        'group_id': member.group, 'generation_id': member.generation, 'member_id': member.id,
        'group_instance_id': None})
    return err(r['error_code'])


def migrate():
    """A live classic group becomes a consumer group, and the other way round."""
    group = fresh('group')
    with Client() as c:
        name, topic = make_topic(c, partitions=4)
    old = Member(connect(0), group, [name])
    same(old.join()['error_code'], 0, 'a classic member')
    same(old.sync([(old.id, sharing({name: [0, 1, 2, 3]}))])[0], 'NONE', 'has all')
    new = Consumer(1, group, [name])
    same((new.join(), new.owned), ('NONE', set()), 'one of the new protocol joins')
    same(describe(new.client, group)['error_code'], 0, 'it is a consumer group now')
    same({m['member_type'] for m in describe(new.client, group)['members']}, {0, 1},
         'with members of both kinds')
    deadline = time.monotonic() + 60
    mine = {(name, p) for p in range(4)}
    while time.monotonic() < deadline and (len(mine) != 2 or len(new.owned) != 2):
        if heartbeat(old) == 'REBALANCE_IN_PROGRESS':
            old.metadata = owned_subscription(name, mine)
            same(old.join()['error_code'], 0, 'the classic member joins again')
            error, assignment = old.sync()
            same(error, 'NONE', 'and syncs')
            mine = classic_partitions(assignment)
        new.go_on()
        time.sleep(0.1)
    same((len(mine), len(new.owned)), (2, 2), 'they share')
    same({p for _, p in mine} | {p for _, p in new.owned}, {0, 1, 2, 3}, 'all partitions')
    same(commit(new, name, new.epoch, partition=sorted(new.owned)[0][1]), 'NONE', 'one commits')

    same(new.leave(), 'NONE', 'the last member of the new protocol leaves')
    r = old.client.request('DescribeGroups', 6, {'groups': [group]})['groups'][0]
    same((err(r['error_code']), len(r['members'])), ('NONE', 1), 'a classic group again')
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and heartbeat(old) != 'REBALANCE_IN_PROGRESS':
        time.sleep(0.1)
    same(old.join()['error_code'], 0, 'that rebalances')
    same(old.sync([(old.id, sharing({name: [0, 1, 2, 3]}))])[0], 'NONE', 'in its own way')
    same(heartbeat(old), 'NONE', 'and is stable')
    old.client.request('LeaveGroup', 5, {'group_id': group, 'members': [
        {'member_id': old.id, 'group_instance_id': None}]})


def owned_subscription(name, owned):
    """Version 1: with the partitions that the member has."""
    partitions = sorted(p for _, p in owned)
    data = struct.pack('>hi', 1, 1) + struct.pack('>h', len(name)) + name.encode()
    data += struct.pack('>i', -1) + struct.pack('>i', 1)
    data += struct.pack('>h', len(name)) + name.encode()
    return data + struct.pack('>i%di' % len(partitions), len(partitions), *partitions)


if __name__ == '__main__':
    if REFERENCE:
        main(reconcile, static, fencing, patterns, migrate)
    else:
        main(reconcile, static, fencing, patterns, hard_patterns, hard_patterns_at_once, rights,
             migrate, restart)
