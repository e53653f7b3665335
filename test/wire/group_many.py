"""Requests of very many groups and offsets, on which the server works in slices: nothing is left out,
and nothing is told twice."""
from kmember import Member, commit, groups, sql
from ktap import fresh, main, make_topic, ok, same
from kwire import Client, err

PARTITIONS = 3000
GROUPS = 2000


def commit_all(client, group, names, offset):
    r = client.request('OffsetCommit', 9, {
        'group_id': group, 'generation_id_or_member_epoch': -1, 'member_id': '',
        'group_instance_id': None, 'topics': [
            {'name': n, 'partitions': [
                {'partition_index': p, 'committed_offset': offset + p,
                 'committed_leader_epoch': -1, 'committed_metadata': str(p)}
                for p in range(PARTITIONS)]} for n in names]})
    return {err(p['error_code']) for t in r['topics'] for p in t['partitions']}


def fetched(client, group, topics):
    """(topic, partition) -> offset and metadata, or the error."""
    g = client.request('OffsetFetch', 8, {'groups': [{'group_id': group, 'topics': topics}]})
    g = g['groups'][0]
    found = [((t['name'], p['partition_index']), (p['committed_offset'], p['metadata'])
              if p['error_code'] == 0 else err(p['error_code']))
             for t in g['topics'] for p in t['partitions']]
    return dict(found) if len(dict(found)) == len(found) else 'something is told twice'


def offsets():
    c, group, names = Client(), fresh('group'), [fresh('a'), fresh('b')]
    for n in names:
        make_topic(c, n, partitions=PARTITIONS)
    named = [{'name': n, 'partition_indexes': list(range(PARTITIONS))} for n in names]
    for offset in (10, 20000):
        same(commit_all(c, group, names, offset), {'NONE'}, 'offsets of all partitions')
        expected = {(n, p): (offset + p, str(p)) for n in names for p in range(PARTITIONS)}
        ok(fetched(c, group, named) == expected, 'are fetched by name')
        ok(fetched(c, group, None) == expected, 'and without')
    r = c.request('OffsetDelete', 0, {'group_id': group, 'topics': [
        {'name': n, 'partitions': [{'partition_index': p} for p in range(1, PARTITIONS)]}
        for n in names]})
    same({err(p['error_code']) for t in r['topics'] for p in t['partitions']}, {'NONE'},
         'they are deleted, but for two')
    ok(fetched(c, group, None) == {(n, 0): (20000, '0') for n in names}, 'which are left')
    missing = fetched(c, group, named)
    same((len(missing), {v for k, v in missing.items() if k[1] > 0}),
         (2 * PARTITIONS, {(-1, '')}), 'the others are told to be missing')
    r = c.request('DeleteGroups', 2, {'groups_names': [group]})
    same(err(r['results'][0]['error_code']), 'NONE', 'the group is deleted')
    same(fetched(c, group, None), {}, 'with what was left')


def many_groups():
    c, topic, prefix = Client(), fresh(), fresh('group')
    make_topic(c, topic)
    names = ['%s-%04d' % (prefix, i) for i in range(GROUPS)]
    same({commit(c, n, topic, 5) for n in names}, {'NONE'}, 'an offset of each')
    members = [Member(Client(), n, [topic]) for n in names[::500]]
    ok(all(m.enter() for m in members), 'some have members')
    alone = Member(Client(), fresh('alone'), [topic])
    ok(alone.enter(), 'one has no offset')
    expected = {n: 'Stable' if n in names[::500] else 'Empty' for n in names}
    listed = [g for g in c.request('ListGroups', 4)['groups'] if g['group_id'].startswith(prefix)]
    same(len(listed), GROUPS, 'each is listed once')
    ok({g['group_id']: g['group_state'] for g in listed} == expected, 'as what it is')
    same(groups(c)[alone.group], 'Stable', 'the last one too')
    listed = c.request('ListGroups', 4, {'states_filter': ['Stable']})['groups']
    same(sorted(g['group_id'] for g in listed), sorted(names[::500] + [alone.group]),
         'and only those that are asked for')
    r = c.request('DescribeGroups', 5, {'groups': names, 'include_authorized_operations': False})
    ok([(g['group_id'], g['group_state']) for g in r['groups']] == list(expected.items()),
       'they are described in their order')
    r = c.request('ConsumerGroupDescribe', 0, {'group_ids': names,
                                               'include_authorized_operations': False})
    same([g['group_id'] for g in r['groups']], names, 'in the other protocol as well')
    r = c.request('OffsetFetch', 8, {'groups': [{'group_id': n, 'topics': None} for n in names]})
    ok([(g['group_id'], g['topics'][0]['partitions'][0]['committed_offset'])
        for g in r['groups']] == [(n, 5) for n in names], 'their offsets')
    r = c.request('DeleteGroups', 2, {'groups_names': names})
    same({g['group_id']: err(g['error_code']) for g in r['results']},
         {n: 'NON_EMPTY_GROUP' if n in names[::500] else 'NONE' for n in names},
         'those without members are deleted')
    same(sorted(n for n in groups(c) if n.startswith(prefix)), names[::500], 'the others are left')
    same(sql('SELECT count(*) FROM kafka.group_offset WHERE group_id LIKE %s', prefix + '%'),
         [(len(members),)], 'with their offsets')


main(offsets, many_groups)
