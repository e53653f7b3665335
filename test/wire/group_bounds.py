"""What clients can make the server keep for consumer groups has bounds: who reaches one is told so,
others do not notice, and afterwards nothing is left.

kafka_pg.max_groups is 20, group_memory 1 MB, group_max_bytes 110,000, group_max_size 2, and
sessions are 7 to 60 seconds; a group of which nothing is left goes soon.
"""
from kmember import Member, commit, committed, groups, remove, sql, until
from ktap import fresh, main, make_topic, ok, same
from kwire import Client, err

MAX_GROUPS = 20


def memory():
    return sql('SELECT groups, blocks, bytes FROM kafka.stat_group_memory')[0]


def refusal(m):
    """Why it may not join; it does not stay as one that has got an id and may come back."""
    error = err(m.join()['error_code'])
    remove(m.client, m.group, m.id)
    return error


def undisturbed(members):
    same({m.heartbeat() for m in members}, {'NONE'}, 'the others do not notice')


def give_back(members, before):
    """All leave: nothing is left of them."""
    c = Client()
    left = {remove(c, m.group, m.id) for m in members}
    ok(left <= {'NONE', 'UNKNOWN_MEMBER_ID'}, 'all leave, if they were in')
    ok(until(lambda: memory() == before), 'nothing is left in memory')
    same(sql('SELECT count(*) FROM kafka.group_state WHERE group_id = ANY (%s)',
             [m.group for m in members]), [(0,)], 'nor in the table')


def comes_in(m):
    """What the end of a rebalance says, nothing if it may be asked again."""
    error = m.sync([(m.id, b'all')])[0]
    return None if error == 'COORDINATOR_NOT_AVAILABLE' else error


def fill(most, metadata=None):
    """Members of their own groups, at one time, until one is refused or there are enough of them:
    those that are in, those that are not quite, and errors. While many rows are being written there
    may be no room to sync; who got a generation may ask again and comes in."""
    joining = []
    inside = []
    outside = []
    refusals = []
    while len(joining) < most and not refusals:
        m = Member(Client(), fresh('group'), metadata=metadata)
        r = m.client.request('JoinGroup', 9, m.join_body())
        if err(r['error_code']) == 'MEMBER_ID_REQUIRED':
            m.id = r['member_id']
            joining.append((m, m.client.send('JoinGroup', 9, m.join_body())))
        else:
            refusals.append(err(r['error_code']))
    for m, number in joining:
        r = m.client.receive('JoinGroup', 9, number)
        m.generation = r['generation_id']
        error = err(r['error_code'])
        if error == 'NONE':
            error = until(lambda m=m: comes_in(m)) or 'COORDINATOR_NOT_AVAILABLE'
        if error != 'NONE':
            refusals.append(error)
        (inside if error == 'NONE' else outside).append(m)
    return inside, outside, refusals


def number_of_groups():
    before = memory()
    members, outside, refusals = fill(MAX_GROUPS + 1)
    same(refusals, ['COORDINATOR_NOT_AVAILABLE'], 'one group too many')
    same(len(members), MAX_GROUPS - before[0], 'as many as the setting says')
    same(memory()[0], MAX_GROUPS, 'all places are taken')
    undisturbed(members)
    c, topic, simple = Client(), fresh(), fresh('simple')
    make_topic(c, topic)
    same(commit(c, simple, topic, 5), 'NONE', 'offsets without members need no place')
    same(committed(c, simple, topic), 5, 'and are there')
    same(remove(c, members[0].group, members[0].id), 'NONE', 'one leaves')
    gone = members.pop(0)
    ok(until(lambda: memory()[0] < MAX_GROUPS), 'and its group goes')
    members.append(Member(Client(), fresh('group')))
    ok(members[-1].enter(), 'there is room for another')
    ok(gone.group not in groups(c), 'the list says so')
    give_back(members, before)


def bytes_of_groups():
    before = memory()
    members, outside, refusals = fill(20, bytes(60000))
    same(set(refusals), {'COORDINATOR_NOT_AVAILABLE'}, 'memory is full at some time')
    ok(8 < len(members) < 15, '%d groups have room' % len(members))
    same({m.generation for m in outside}, {-1}, 'who has no room knows from the beginning')
    undisturbed(members)
    same(refusal(Member(Client(), members[0].group)), 'COORDINATOR_NOT_AVAILABLE',
         'nor may one of them grow')
    undisturbed(members)
    same(members[0].join()['error_code'], 0, 'but a member may join again')
    same(members[0].sync([(members[0].id, b'new')]), ('NONE', b'new'), 'and get something new')
    give_back(members + outside, before)
    again, outside, refusals = fill(3, bytes(60000))
    same((len(again), refusals), (3, []), 'there is room again')
    give_back(again, before)


def one_large_group():
    before = memory()
    a, b = Member(Client(), fresh('group'), metadata=bytes(100000)), Member(Client(), fresh('group'))
    ok(a.enter() and b.enter(), 'a large group and a small one')
    same(refusal(Member(Client(), fresh('group'), metadata=bytes(111000))),
         'GROUP_MAX_SIZE_REACHED', 'one that is too large')
    undisturbed([a, b])
    same(a.join()['error_code'], 0, 'the large one joins again')
    same(a.sync([(a.id, bytes(20000))])[0], 'UNKNOWN_SERVER_ERROR', 'too large an assignment')
    same(a.sync([(a.id, b'all')]), ('NONE', b'all'), 'one that is not')
    undisturbed([a, b])
    give_back([a, b], before)


def members_of_a_group():
    before = memory()
    group = fresh('group')
    a, b, c = Member(Client(), group), Member(Client(), group), Member(Client(), group)
    ok(a.enter(), 'one member')
    b.id = b.client.request('JoinGroup', 9, b.join_body())['member_id']
    number = b.client.send('JoinGroup', 9, b.join_body())
    ok(until(lambda: a.heartbeat() == 'REBALANCE_IN_PROGRESS'), 'another one joins')
    r = a.join()
    b.generation = b.client.receive('JoinGroup', 9, number)['generation_id']
    same([m['member_id'] in (a.id, b.id) for m in r['members']], [True, True], 'there are two')
    same(a.sync([(a.id, b'a'), (b.id, b'b')]), ('NONE', b'a'), 'with an assignment')
    same(b.sync(), ('NONE', b'b'), 'each')
    same(refusal(c), 'GROUP_MAX_SIZE_REACHED', 'a third one is too many')
    undisturbed([a, b])
    give_back([a, b], before)


def sizes_and_times():
    c, topic, group = Client(), fresh(), fresh('group')
    make_topic(c, topic)
    before = memory()
    same(commit(c, group, topic, 1, 0, 'm' * 100), 'NONE', 'metadata as long as it may be')
    same(commit(c, group, topic, 2, 0, 'm' * 101), 'OFFSET_METADATA_TOO_LARGE', 'a byte longer')
    same(committed(c, group, topic), 1, 'which commits nothing')
    for ms in (6999, 60001):
        r = Member(c, group, [topic], session_ms=ms).join()
        same(err(r['error_code']), 'INVALID_SESSION_TIMEOUT', 'a session of %d ms' % ms)
    same(err(Member(c, 'x' * 1025, [topic]).join()['error_code']), 'INVALID_GROUP_ID',
         'an id of 1025 bytes')
    same(commit(c, 'x' * 1025, topic, 1), 'INVALID_GROUP_ID', 'also of a group that commits')
    same(memory(), before, 'nothing is kept of all that')


def many_answers():
    """A request may name a group very often; what is told of it has a bound."""
    c, group = Client(), fresh('group')
    n = 40000
    described = c.request('DescribeGroups', 6, {
        'groups': [group] * n, 'include_authorized_operations': False})['groups']
    same(len(described), n, 'each is answered')
    same((err(described[0]['error_code']), err(described[-1]['error_code'])),
         ('GROUP_ID_NOT_FOUND', 'COORDINATOR_NOT_AVAILABLE'), 'but not the last ones')
    described = c.request('DescribeGroups', 6, {
        'groups': [group], 'include_authorized_operations': False})['groups']
    same(err(described[0]['error_code']), 'GROUP_ID_NOT_FOUND', 'the next request is')


main(number_of_groups, bytes_of_groups, one_large_group, members_of_a_group, sizes_and_times,
     many_answers)
