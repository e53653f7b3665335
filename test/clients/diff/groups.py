"""Consumer groups: good requests for cases.py, and histories of members.

'GROUP' is a group that nobody has used, 'MEMBER' and 'GENERATION' what the broker last told; 'GROUP:a'
is one group in all of a history.
"""
import struct
import time

from kwire import APIS

TOPIC = 'diff-three'


def subscription(*topics):
    data = struct.pack('>hi', 0, len(topics))
    for name in topics:
        data += struct.pack('>h', len(name)) + name.encode()
    return data + struct.pack('>i', -1)


def join_group(v, **more):
    return dict({'group_id': 'GROUP', 'session_timeout_ms': 60000, 'rebalance_timeout_ms': 10000,
                 'member_id': '', 'group_instance_id': None, 'protocol_type': 'consumer',
                 'protocols': [{'name': 'range', 'metadata': subscription(TOPIC)}],
                 'reason': None}, **more)


def sync_group(v, **more):
    return dict({'group_id': 'GROUP', 'generation_id': 1, 'member_id': 'nobody',
                 'group_instance_id': None, 'protocol_type': 'consumer', 'protocol_name': 'range',
                 'assignments': [{'member_id': 'nobody', 'assignment': b'x'}]}, **more)


def heartbeat(v, **more):
    return dict({'group_id': 'GROUP', 'generation_id': 1, 'member_id': 'nobody',
                 'group_instance_id': None}, **more)


def leave_group(v, **more):
    return dict({'group_id': 'GROUP', 'member_id': 'nobody', 'members': [
        {'member_id': 'nobody', 'group_instance_id': None, 'reason': None}]}, **more)


def offset_commit(v, **more):
    return dict({'group_id': 'GROUP', 'generation_id_or_member_epoch': -1, 'member_id': '',
                 'group_instance_id': None, 'retention_time_ms': -1, 'topics': [
                     {'name': 'diff-one', 'topic_id': 'ID:diff-one', 'partitions': [
                         {'partition_index': 0, 'committed_offset': 5,
                          'committed_leader_epoch': -1, 'committed_metadata': 'm'}]}]}, **more)


def offset_fetch(v, **more):
    topics = [{'name': 'diff-one', 'topic_id': 'ID:diff-one', 'partition_indexes': [0]}]
    return dict({'group_id': 'GROUP', 'topics': topics, 'require_stable': False, 'groups': [
        dict({'group_id': 'GROUP', 'member_id': None, 'member_epoch': -1, 'topics': topics},
             **more)]}, **{k: x for k, x in more.items() if k != 'member_id'})


def offset_delete(v, **more):
    return dict({'group_id': 'GROUP', 'topics': [
        {'name': 'diff-one', 'partitions': [{'partition_index': 0}]}]}, **more)


def describe_groups(v, *groups):
    return {'groups': list(groups) or ['GROUP'], 'include_authorized_operations': False}


def list_groups(v, **more):
    return dict({'states_filter': [], 'types_filter': []}, **more)


def delete_groups(v, *groups):
    return {'groups_names': list(groups) or ['GROUP']}


def consumer_group_heartbeat(v, **more):
    return dict({'group_id': 'GROUP', 'member_id': 'm1' if v > 0 else '', 'member_epoch': 0,
                 'instance_id': None, 'rack_id': None, 'rebalance_timeout_ms': 10000,
                 'subscribed_topic_names': [TOPIC], 'subscribed_topic_regex': None,
                 'server_assignor': None, 'topic_partitions': []}, **more)


def consumer_group_describe(v, *groups):
    return {'group_ids': list(groups) or ['GROUP'], 'include_authorized_operations': False}


# Broken requests all have one group: nobody becomes a member of it.
FRAMES = {'ConsumerGroupHeartbeat': lambda v: consumer_group_heartbeat(
    v, member_id='nobody', member_epoch=-1),
    # a group without members is gone with its last offset, to Kafka a good while later
    'OffsetDelete': lambda v: offset_delete(v, topics=[
        {'name': 'none-such', 'partitions': [{'partition_index': 0}]}])}

# Nobody becomes a member, for whom the next one would have to wait: from version 4 on that takes a
# second request.
GOOD = {'JoinGroup': lambda v: join_group(v, member_id='' if v >= 4 else 'nobody'),
        'SyncGroup': sync_group, 'Heartbeat': heartbeat,
        'LeaveGroup': leave_group, 'OffsetCommit': offset_commit, 'OffsetFetch': offset_fetch,
        'OffsetDelete': offset_delete, 'DescribeGroups': describe_groups,
        'ListGroups': list_groups, 'DeleteGroups': delete_groups,
        'ConsumerGroupHeartbeat': consumer_group_heartbeat,
        'ConsumerGroupDescribe': consumer_group_describe}

A, B = 'GROUP:a', 'GROUP:b'


def all_versions(api, make, first=0):
    low, high = APIS[api].versions
    return [(api, v, make(v)) for v in range(max(low, first), high + 1)]


def seen(group):
    return ([('DescribeGroups', v, describe_groups(v, group)) for v in (0, 3, 5, 6)] +
            [('ConsumerGroupDescribe', v, consumer_group_describe(v, group)) for v in (0, 1)] +
            [('ListGroups', v, list_groups(v)) for v in (0, 4, 5)])


def classic():
    def member(**more):
        return dict({'group_id': A, 'member_id': 'MEMBER', 'generation_id': 'GENERATION'}, **more)
    steps = [('JoinGroup', 9, join_group(9, group_id=A)),
             ('Heartbeat', 4, heartbeat(4, **member())), *seen(A),
             ('JoinGroup', 9, join_group(9, group_id=A, member_id='MEMBER')), *seen(A),
             ('Heartbeat', 4, heartbeat(4, **member())),
             ('OffsetCommit', 9, offset_commit(9, group_id=A, member_id='MEMBER',
                                               generation_id_or_member_epoch='GENERATION'))]
    for wrong in ({'generation_id': 9}, {'generation_id': -1}, {'member_id': 'x'},
                  {'member_id': ''}, {'group_instance_id': 'i'}, {'protocol_type': 'other'},
                  {'protocol_name': 'other'}):
        steps.append(('SyncGroup', 5, sync_group(5, **member(**wrong))))
    steps += [('SyncGroup', 5, sync_group(5, **member(assignments=[
        {'member_id': 'MEMBER', 'assignment': b'mine'}]))), *seen(A)]
    for v in range(0, 6):
        steps.append(('SyncGroup', v, sync_group(v, **member(assignments=[]))))
    for v in range(0, 5):
        for wrong in ({}, {'generation_id': 9}, {'generation_id': -1}, {'member_id': 'x'},
                      {'member_id': ''}, {'group_instance_id': 'i'}):
            steps.append(('Heartbeat', v, heartbeat(v, **member(**wrong))))
    for v in range(2, 11):
        for generation in ('GENERATION', 9, 0, -1, -2):
            for name in ('MEMBER', 'x', ''):
                for instance in (None, 'i'):
                    steps.append(('OffsetCommit', v, offset_commit(
                        v, group_id=A, member_id=name, group_instance_id=instance,
                        generation_id_or_member_epoch=generation)))
    large = offset_commit(9, group_id=A, member_id='MEMBER',
                          generation_id_or_member_epoch='GENERATION')
    large['topics'][0]['partitions'] = [dict(
        large['topics'][0]['partitions'][0], committed_metadata='x' * n) for n in (4096, 4097)]
    steps.append(('OffsetCommit', 9, large))
    for v in range(1, 11):
        for name in (None, 'MEMBER', 'x', ''):
            for epoch in (-1, 0, 'GENERATION', 9):
                steps.append(('OffsetFetch', v, offset_fetch(v, group_id=A, member_id=name,
                                                             member_epoch=epoch)))
        steps.append(('OffsetFetch', v, offset_fetch(v, group_id=A, topics=None)))
        steps.append(('OffsetFetch', v, offset_fetch(v, group_id=A, topics=[])))
    for topic in (TOPIC, 'diff-one', 'none-such'):
        steps.append(('OffsetDelete', 0, offset_delete(0, group_id=A, topics=[
            {'name': topic, 'partitions': [{'partition_index': p} for p in (0, 1, 9, 0)]}])))
    steps += all_versions('DeleteGroups', lambda v: delete_groups(v, A, 'GROUP', A))
    for states in (['Stable'], ['stable', 'EMPTY'], ['none'], ['']):
        steps.append(('ListGroups', 5, list_groups(5, states_filter=states)))
    for types in (['classic'], ['CONSUMER'], ['share'], ['none'], ['']):
        steps.append(('ListGroups', 5, list_groups(5, types_filter=types)))
    # a consumer of the other protocol's requests
    steps += [('ConsumerGroupHeartbeat', 1, consumer_group_heartbeat(1, group_id=A,
                                                                      member_epoch=1)),
              ('LeaveGroup', 5, leave_group(5, group_id=A, members=[
                  {'member_id': m, 'group_instance_id': i, 'reason': None}
                  for m, i in (('x', None), ('', 'i'), ('MEMBER', None), ('MEMBER', None))])),
              *seen(A), ('Heartbeat', 4, heartbeat(4, **member())),
              ('OffsetCommit', 9, offset_commit(9, group_id=A)),
              ('OffsetFetch', 9, offset_fetch(9, group_id=A)),
              *[('JoinGroup', v, join_group(v, group_id=A, **more)) for v in range(4, 10) for more in (
                  {'member_id': 'x'}, {'protocol_type': 'other'}, {'protocol_type': ''},
                  {'protocols': []}, {'session_timeout_ms': 1})],
              ('OffsetDelete', 0, offset_delete(0, group_id=A)),
              ('OffsetFetch', 9, offset_fetch(9, group_id=A)),
              *all_versions('DeleteGroups', lambda v: delete_groups(v, A)), *seen(A)]
    return steps


def made(make):
    from history import Made
    return Made(make)


def remember(name):
    """The member that the broker has last told of."""
    return made(lambda target: setattr(target, name, target.member))


def wait_for_state(group, state):
    """What has been asked aside has come so far that the group has this state."""
    def look(target):
        deadline = time.monotonic() + 30
        with target.client() as c:
            while c.request('DescribeGroups', 5, target.fill_in(describe_groups(5, group)))[
                    'groups'][0]['group_state'] != state:
                if time.monotonic() > deadline:
                    raise RuntimeError('the group does not become ' + state)
                time.sleep(0.01)
    return made(look)


def rebalances():
    """Two members, each of which knows what the other one waits for."""
    from history import Aside, Heard
    group = 'GROUP:r'
    a, b = made(lambda target: target.a), made(lambda target: target.b)

    def join(member, **more):
        return ('JoinGroup', 9, join_group(9, group_id=group, member_id=member, **more))

    def sync(member, generation, v=5, **more):
        return ('SyncGroup', v, sync_group(v, group_id=group, member_id=member,
                                           generation_id=generation, **more))

    def asked(member, generation):
        """In this phase."""
        steps = [('ListGroups', 5, list_groups(5))]
        for v in range(0, 5):
            for g in (generation, generation - 1, generation + 1, -1):
                steps.append(('Heartbeat', v, heartbeat(v, group_id=group, member_id=member,
                                                        generation_id=g)))
        for v in range(2, 11):
            for g in (generation, generation - 1, generation + 1, -1):
                steps.append(('OffsetCommit', v, offset_commit(
                    v, group_id=group, member_id=member, generation_id_or_member_epoch=g)))
        return steps + [('OffsetFetch', 9, offset_fetch(9, group_id=group)),
                        ('DeleteGroups', 2, delete_groups(2, group))]
    other = [{'name': 'range', 'metadata': subscription('diff-one')}]
    both = [{'member_id': a, 'assignment': b'of a'}, {'member_id': b, 'assignment': b'of b'}]
    return [join(''), remember('a'), join(a), sync(a, 1, assignments=both[:1]),
            # the second one waits for the first
            join(''), remember('b'), Aside('b', *join(b)),
            wait_for_state(group, 'PreparingRebalance'), *asked(a, 1),
            *[sync(a, g, v, assignments=[]) for v in range(0, 6) for g in (1, 0, 2)],
            join(a), Heard('b'),
            # both wait for the leader
            *asked(a, 2), *asked(b, 2),
            # which begins anew instead
            Aside('b', *sync(b, 2, assignments=[])), Aside('a', *join(a, protocols=other)),
            Heard('b'), wait_for_state(group, 'PreparingRebalance'), *asked(b, 2),
            join(b), Heard('a'), Aside('b', *sync(b, 3, assignments=[])),
            sync(a, 3, assignments=both), Heard('b'), *asked(a, 3), *asked(b, 3),
            # one leaves: the other one learns of it
            ('LeaveGroup', 5, leave_group(5, group_id=group, members=[
                {'member_id': b, 'group_instance_id': None, 'reason': None}])),
            *asked(a, 3), *asked(b, 3), sync(a, 3, assignments=[]), join(a),
            sync(a, 4, assignments=both[:1]), *asked(a, 4)]


def joins():
    return [('JoinGroup', v, join_group(v, group_id='GROUP:j%d-%d' % (v, i), **more))
            for v in range(0, 10) for i, more in enumerate((
                {}, {'group_instance_id': 'i'}, {'rebalance_timeout_ms': -1},
                {'protocol_type': 'x'}, {'protocols': [{'name': n, 'metadata': b'x'}
                                                       for n in 'ba']}))]


def static():
    def join(v=9, **more):
        return ('JoinGroup', v, join_group(v, group_id=B, group_instance_id='i', **more))
    member = {'group_id': B, 'member_id': 'MEMBER', 'generation_id': 'GENERATION',
              'group_instance_id': 'i'}
    return [join(), ('SyncGroup', 5, sync_group(5, **member, assignments=[
                {'member_id': 'MEMBER', 'assignment': b'mine'}])), *seen(B),
            ('Heartbeat', 4, heartbeat(4, **member)),
            ('Heartbeat', 4, heartbeat(4, **dict(member, member_id='x'))),
            ('Heartbeat', 4, heartbeat(4, **dict(member, group_instance_id='j'))),
            ('SyncGroup', 5, sync_group(5, **dict(member, member_id='x'))),
            join(member_id='x'),
            ('OffsetCommit', 9, offset_commit(9, group_id=B, member_id='x', group_instance_id='i',
                                              generation_id_or_member_epoch='GENERATION')),
            ('OffsetCommit', 9, offset_commit(9, group_id=B, member_id='MEMBER',
                                              group_instance_id='i',
                                              generation_id_or_member_epoch='GENERATION')),
            join(), *seen(B), ('SyncGroup', 5, sync_group(5, **member)),
            ('LeaveGroup', 5, leave_group(5, group_id=B, members=[
                {'member_id': 'x', 'group_instance_id': 'i', 'reason': None}])),
            ('LeaveGroup', 5, leave_group(5, group_id=B, members=[
                {'member_id': '', 'group_instance_id': 'i', 'reason': None}])), *seen(B)]


def consumer():
    def beat(member, epoch, v=1, **more):
        return ('ConsumerGroupHeartbeat', v, dict({
            'group_id': A, 'member_id': member, 'member_epoch': epoch + (epoch > 0),
            'instance_id': None, 'rack_id': None, 'rebalance_timeout_ms': -1, 'subscribed_topic_names': None,
            'subscribed_topic_regex': None, 'server_assignor': None, 'topic_partitions': None},
            **more))

    def join(member, **more):
        return ('ConsumerGroupHeartbeat', 1, consumer_group_heartbeat(
            1, group_id=A, member_id=member, **more))

    def owns(*partitions):
        return [{'topic_id': 'ID:' + TOPIC, 'partitions': list(partitions)}] if partitions else []
    # A group begins with epoch 1, so that its first member has epoch 2: here they count from 1.
    steps = [beat('m', 1), beat('m', -1), beat('m', -2, instance_id='i'), join('m'), *seen(A),
             beat('m', 1), beat('m', 1, v=0), beat('m', 2), beat('m', -2), beat('x', 1),
             beat('m', 1, topic_partitions=owns(0, 1, 2)),
             beat('m', 1, server_assignor='range'), beat('m', 1, server_assignor='x'),
             beat('m', 1, rack_id='r'), *seen(A), beat('m', 1, rebalance_timeout_ms=20000),
             beat('m', 1, subscribed_topic_names=['none-such']),
             beat('m', 2), beat('m', 1), beat('m', 1, topic_partitions=[]), beat('m', 2),
             beat('m', 2, subscribed_topic_names=[TOPIC]), beat('m', 3),
             beat('m', 2, topic_partitions=[]), beat('m', 2, topic_partitions=owns(0, 1, 2)),
             *seen(A), ('ConsumerGroupDescribe', 1, consumer_group_describe(1, '')),
             ('DescribeGroups', 6, describe_groups(6, '')), ('DeleteGroups', 2, delete_groups(2, ''))]
    for v in range(2, 11):
        for epoch in (4, 5, 3, 0, -1):
            for name in ('m', 'x', ''):
                steps.append(('OffsetCommit', v, offset_commit(
                    v, group_id=A, member_id=name, generation_id_or_member_epoch=epoch)))
    for v in range(1, 11):
        for name in (None, 'm', 'x', ''):
            for epoch in (-1, 0, 3, 4, 5):
                steps.append(('OffsetFetch', v, offset_fetch(v, group_id=A, member_id=name,
                                                             member_epoch=epoch)))
    steps += [('OffsetDelete', 0, offset_delete(0, group_id=A, topics=[
        {'name': t, 'partitions': [{'partition_index': 0}]} for t in (TOPIC, 'diff-one')])),
        ('Heartbeat', 4, heartbeat(4, group_id=A, member_id='m', generation_id=4)),
        ('SyncGroup', 5, sync_group(5, group_id=A, member_id='m', generation_id=4)),
        ('LeaveGroup', 5, leave_group(5, group_id=A)),
        ('DeleteGroups', 2, delete_groups(2, A)),
        join('s', instance_id='i'), join('t', instance_id='i'), beat('t', 4, instance_id='i'),
        beat('s', -2, instance_id='i'), join('t', instance_id='i'),
        beat('s', 4, instance_id='i'), beat('t', -1, instance_id='i'),
        join('m'), join('n'), beat('n', -1), beat('m', -1),
        beat('m', -1), *seen(A), beat('m', 1),
        ('OffsetCommit', 9, offset_commit(9, group_id=A)),
        ('DeleteGroups', 2, delete_groups(2, A)), *seen(A)]
    return steps


PATTERNS = ['diff-(one|three)', 'diff-one|', '(?i)DIFF-ONE', 'DIFF-ONE', '.*-one', 'diff-[n-p]ne',
            '\\Qdiff-one\\E', '\\pLiff-one', 'diff-one$', '^diff-one', 'diff', '(', 'a**', '(?=a)',
            '\\1', 'a{1001}', '[b-a]', '[[:foo:]]', '\\p{Foo}', '(?P<n>diff-one)', '(?<n>diff-one)',
            'diff-\\one', '(?i)diff-\u00f6ne', 'x{2}{3}', '[[:alpha:]]+-one', '']


def patterns():
    from history import Made
    steps = []
    for i, pattern in enumerate(PATTERNS):
        def beat(**more):
            return ('ConsumerGroupHeartbeat', 1, consumer_group_heartbeat(
                1, **dict({'group_id': 'GROUP:p%d' % i, 'subscribed_topic_names': None,
                           'subscribed_topic_regex': pattern}, **more)))
        # Kafka looks for topics after it has answered.
        steps += [beat(), Made(lambda target: time.sleep(0.3)), beat(), ('ConsumerGroupDescribe', 1,
                           consumer_group_describe(1, 'GROUP:p%d' % i))]
    return steps


def all_histories():
    yield 'first joins', joins()
    yield 'a classic member', classic()
    yield 'two members', rebalances()
    yield 'a static member', static()
    yield 'members of the consumer protocol', consumer()
    yield 'patterns', patterns()
