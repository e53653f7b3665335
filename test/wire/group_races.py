"""Groups served by two broker processes, one of which stands still between looking at a group and
writing: what it writes then must still be right."""
import threading

from kmember import Member, client_of, commit, commit_body, commit_error, committed, sql
from kmember import groups, remove, subscription, until
from ktap import fresh, main, make_topic, ok, same
from kwire import err

POINT = 'group-before-write-1'


class Stopped:
    """Broker 1 stops before it writes; released at the end."""

    def __enter__(self):
        sql('SELECT kafka_test.stop_arm(%s, %s)', POINT, 'wait')
        return self

    def reached(self):
        return sql('SELECT kafka_test.stop_await(%s)', POINT) == [(True,)]

    def release(self):
        sql('SELECT kafka_test.stop_release(%s)', POINT)

    def __exit__(self, *args):
        self.release()


def commit_of_a_former_owner():
    """A's commit is checked; B gets the partition and commits; A's must not be written."""
    here, there, topic, group = client_of(0), client_of(1), fresh(), fresh('group')
    make_topic(here, topic)
    a = Member(there, group, [topic])
    b = Member(here, group, [topic])
    ok(a.enter(), 'A is the owner')
    same(a.commit(topic, 10), 'NONE', 'and commits')
    with Stopped() as stop:
        there.send('OffsetCommit', 9, commit_body(group, topic, 50, 0, '', a.id, a.generation))
        ok(stop.reached(), 'a commit of A is under way')
        same(remove(here, group, a.id), 'NONE', 'A is removed')
        ok(b.enter(), 'B is the owner')
        same(b.commit(topic, 100), 'NONE', 'and commits')
        stop.release()
        same(commit_error(there.receive('OffsetCommit', 9)), 'UNKNOWN_MEMBER_ID',
             'A is told that it is no member')
    same(committed(here, group, topic), 100, "B's commit stands")
    same(b.commit(topic, 101), 'NONE', 'B goes on')


def commit_of_a_member():
    """The group changes meanwhile, but not so that the commit is wrong."""
    here, there, topic, group = client_of(0), client_of(1), fresh(), fresh('group')
    make_topic(here, topic)
    a = Member(there, group, [topic])
    ok(a.enter(), 'A is the owner')
    other = client_of(0)            # not while broker 1 takes connections and does not serve them
    with Stopped() as stop:
        there.send('OffsetCommit', 9, commit_body(group, topic, 50, 0, '', a.id, a.generation))
        ok(stop.reached(), 'a commit of A is under way')
        b = Member(here, group, [topic])
        r = b.client.request('JoinGroup', 9, b.join_body())
        b.id = r['member_id']
        b.client.send('JoinGroup', 9, b.join_body())
        same(err(other.request('Heartbeat', 4, {
            'group_id': group, 'generation_id': a.generation, 'member_id': a.id})['error_code']),
             'REBALANCE_IN_PROGRESS', 'B joins')
        stop.release()
        same(commit_error(there.receive('OffsetCommit', 9)), 'NONE', 'A commits, as it may')
    same(committed(other, group, topic), 50, 'and that is written')


def deletion_of_offsets():
    """Nobody reads the topic; then B does."""
    here, there, topic, group = client_of(0), client_of(1), fresh(), fresh('group')
    make_topic(here, topic)
    same(commit(here, group, topic, 10), 'NONE', 'an offset without a member')
    b = Member(here, group, [topic])
    with Stopped() as stop:
        there.send('OffsetDelete', 0, {'group_id': group, 'topics': [
            {'name': topic, 'partitions': [{'partition_index': 0}]}]})
        ok(stop.reached(), 'it is being deleted')
        ok(b.enter(), 'B begins to read')
        same(b.commit(topic, 100), 'NONE', 'and commits')
        stop.release()
        r = there.receive('OffsetDelete', 0)
        same(err(r['topics'][0]['partitions'][0]['error_code']), 'GROUP_SUBSCRIBED_TO_TOPIC',
             'it is not deleted')
    same(committed(here, group, topic), 100, "B's commit stands")


def deletion_of_a_group():
    """A group that has only offsets; then B joins it."""
    here, there, topic, group = client_of(0), client_of(1), fresh(), fresh('group')
    make_topic(here, topic)
    same(commit(here, group, topic, 10), 'NONE', 'an offset without a member')
    b = Member(here, group, [topic])
    with Stopped() as stop:
        there.send('DeleteGroups', 2, {'groups_names': [group]})
        ok(stop.reached(), 'the group is being deleted')
        ok(b.enter(), 'B joins')
        same(b.commit(topic, 100), 'NONE', 'and commits')
        stop.release()
        r = there.receive('DeleteGroups', 2)
        same(err(r['results'][0]['error_code']), 'NON_EMPTY_GROUP', 'it is not deleted')
    same(committed(here, group, topic), 100, "B's commit stands")


def deletion_is_durable():
    """Another broker writes the group's rows: the answer waits for that one."""
    here, there, topic, group = client_of(0), client_of(1), fresh(), fresh('group')
    make_topic(here, topic)
    a = Member(there, group, [topic])
    ok(a.enter(), 'a group')
    with Stopped() as stop:
        # the writer of what follows is broker 1
        there.send('LeaveGroup', 5, {'group_id': group, 'members': [{'member_id': a.id}]})
        ok(stop.reached(), 'its last member leaves')
        here.send('DeleteGroups', 2, {'groups_names': [group]})
        here.sock.settimeout(1)
        try:
            here.recv_frame()
            ok(False, 'a deletion that is not written is not answered')
        except TimeoutError:
            ok(True, 'a deletion that is not written is not answered')
        here.sock.settimeout(30)
        stop.release()
        same(err(here.receive('DeleteGroups', 2)['results'][0]['error_code']), 'NONE',
             'it is, when that broker goes on')
        same(sql('SELECT count(*) FROM kafka.group_state WHERE group_id = %s', group), [(0,)],
             'and no row is left')


def deletion_that_others_see():
    """An offset that is deleted, but not durably, is not told to be gone."""
    here, there, topic, group = client_of(0), client_of(1), fresh(), fresh('group')
    make_topic(here, topic)
    same(commit(here, group, topic, 10), 'NONE', 'an offset')
    fetch = {'groups': [{'group_id': group, 'topics': [{'name': topic, 'partition_indexes': [0]}]}]}
    point = 'group-after-commit'
    sql('SELECT kafka_test.stop_arm(%s, %s)', point, 'wait')
    there.send('OffsetDelete', 0, {'group_id': group, 'topics': [
        {'name': topic, 'partitions': [{'partition_index': 0}]}]})
    ok(sql('SELECT kafka_test.stop_await(%s)', point) == [(True,)], 'it is deleted')
    same(sql('SELECT count(*) FROM kafka.group_offset WHERE group_id = %s', group), [(0,)],
         'as all can see')
    here.send('OffsetFetch', 8, fetch)
    here.sock.settimeout(1)
    try:
        here.recv_frame()
        ok(False, 'who asks for it is not told yet')
    except TimeoutError:
        ok(True, 'who asks for it is not told yet')
    here.sock.settimeout(30)
    sql('SELECT kafka_test.stop_release(%s)', point)
    r = here.receive('OffsetFetch', 8)['groups'][0]['topics'][0]['partitions'][0]
    same((err(r['error_code']), r['committed_offset']), ('NONE', -1), 'but when that is durable')
    r = there.receive('OffsetDelete', 0)
    same(err(r['topics'][0]['partitions'][0]['error_code']), 'NONE', 'as the one who deletes it')


def two_at_once():
    """Two brokers commit the same offset at one time, again and again."""
    here, there, topic, group = client_of(0), client_of(1), fresh(), fresh('group')
    make_topic(here, topic)
    errors = []
    last = []

    def write(c, offset):
        e = commit(c, group, topic, offset)
        if e != 'NONE':
            errors.append(e)

    for i in range(200):
        pair = (2 * i, 2 * i + 1)
        threads = [threading.Thread(target=write, args=a)
                   for a in ((here, pair[i % 2]), (there, pair[1 - i % 2]))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        seen = (committed(here, group, topic), committed(there, group, topic))
        if seen[0] != seen[1] or seen[0] not in pair:
            last.append((pair, seen))
    same(errors, [], 'both commit')
    same(last, [], 'one of the latest two is there, and no other')


def broker_that_ends():
    """A waits in broker 1 for the others, and that process ends in good order: nobody is there any
    more for that answer when A joins again."""
    here, there, topic, group = client_of(0), client_of(1), fresh(), fresh('group')
    make_topic(here, topic)
    a = Member(there, group, [topic])
    b = Member(here, group, [topic])
    for m in (a, b):
        m.id = m.client.request('JoinGroup', 9, m.join_body())['member_id']
        m.client.send('JoinGroup', 9, m.join_body())
    for m in (a, b):
        m.generation = m.client.receive('JoinGroup', 9)['generation_id']
    same((a.generation, b.generation), (1, 1), 'two members')
    a.metadata = subscription([topic, fresh()])
    there.send('JoinGroup', 9, a.join_body())
    ok(until(lambda: groups(here)[group] == 'PreparingRebalance'), 'A waits for B')
    pid, = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'kafka broker 1'")[0]
    same(sql('SELECT pg_terminate_backend(%s, 30000)', pid), [(True,)], 'its broker ends')
    a.client = until_served(1)
    ok(until(lambda: a.heartbeat() == 'REBALANCE_IN_PROGRESS'), 'another one serves A')
    a.client.send('JoinGroup', 9, a.join_body())
    b.client.send('JoinGroup', 9, b.join_body())
    for m in (a, b):
        r = m.client.receive('JoinGroup', 9)
        same((err(r['error_code']), r['generation_id']), ('NONE', 2), 'both are in')


def until_served(broker):
    """A connection to a broker process that is just starting."""
    def attempt():
        try:
            return client_of(broker)
        except (OSError, RuntimeError):
            return None
    return until(attempt)


main(broker_that_ends, commit_of_a_former_owner, commit_of_a_member, deletion_of_offsets,
     deletion_of_a_group, deletion_is_durable, deletion_that_others_see, two_at_once)
