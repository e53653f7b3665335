"""Consumer groups from both sides: Kafka clients and SQL sessions, at one time and in turns."""
import struct
import threading
import time
import uuid

import psycopg2
from psycopg2 import errors

from kmember import Member, commit, committed, groups, sql, until
from ktap import fresh, main, make_topic, ok, produce, same
from kwire import Client, batch, err


class Session:
    """A connection in a transaction."""

    def __init__(self):
        self.connection = psycopg2.connect('')
        self.cursor = self.connection.cursor()

    def run(self, query, *args):
        self.cursor.execute(query, args)
        return self.cursor.fetchall() if self.cursor.description else []

    def commit(self):
        self.connection.commit()

    def rollback(self):
        self.connection.rollback()


CONSUME = 'SELECT "offset" FROM kafka.consume(%s, %s)'


def setup(records=3, partitions=1):
    c = Client()
    topic, group = fresh(), fresh('group')
    make_topic(c, topic, partitions)
    for p in range(partitions):
        produce(c, topic, batch([b'x'] * records), p)
    return c, topic, group


def refused(action):
    """The SQLSTATE, or None."""
    try:
        action()
    except psycopg2.Error as e:
        return e.pgcode
    return None


def members_keep_sessions_out():
    c, topic, group = setup()
    m = Member(c, group, [topic])
    ok(m.enter(), 'a group has a member')
    same(m.commit(topic, 1), 'NONE', 'which commits')
    for what in ("SELECT * FROM kafka.consume('%s', '%s')",
                 "SELECT * FROM kafka.consume('%s', '%s', 1, '1 hour')",
                 "CALL kafka.wait_group('%s', '%s', '1 hour')",
                 "SELECT kafka.commit_offset('%s', '%s', 0, 2)",
                 "SELECT kafka.reset_offsets('%s', '%s', 'earliest')"):
        same(refused(lambda: sql(what % (group, topic))), '55006', what[:30] + ' is refused')
    same(sql("SELECT kafka.committed_offset(%s, %s, 0)", group, topic), [(1,)],
         'looking is not')
    same(sql('SELECT state, type, protocol_type, epoch, members, sessions FROM kafka.groups '
             'WHERE group_id = %s', group), [('Stable', 'classic', 'consumer', 1, 1, 0)],
         'the view shows the group')
    same(sql('SELECT member_id, client_id, client_host, protocol, epoch, assignment '
             'FROM kafka.group_members WHERE group_id = %s', group),
         [(m.id, 'kwire', '127.0.0.1', 'classic', 1, None)], 'and its member')
    c.request('LeaveGroup', 5, {'group_id': group, 'members': [{'member_id': m.id}]})
    same(sql(CONSUME, group, topic), [(1,), (2,)], 'a session goes on where the member has ended')
    m.id = ''
    ok(m.enter(), 'and the member comes back')
    same(committed(c, group, topic), 3, 'to where the session has ended')


def sessions_keep_members_out():
    c, topic, group = setup()
    s = Session()
    same(s.run(CONSUME, group, topic), [(0,), (1,), (2,)], 'a session consumes')
    m = Member(Client(), group, [topic])
    same(err(m.join()['error_code']), 'INCONSISTENT_GROUP_PROTOCOL', 'a client cannot join')
    same(err(m.join()['error_code']), 'INCONSISTENT_GROUP_PROTOCOL', 'nor later')
    ok(Member(c, fresh('group'), [topic]).enter(), 'another group is free')
    s.run('SAVEPOINT s')
    same(s.run(CONSUME, group, topic), [], 'a second call in a savepoint')
    s.run('ROLLBACK TO s')
    same(err(m.join()['error_code']), 'INCONSISTENT_GROUP_PROTOCOL', 'which rolls back')
    s.commit()
    same(committed(c, group, topic), 3, 'it commits')
    ok(m.enter(), 'now a client can join')
    same(refused(lambda: s.run(CONSUME, group, topic)), '55006', 'and the session cannot go on')
    s.rollback()

    group = fresh('group')
    s.run('SAVEPOINT s')
    s.run(CONSUME, group, topic)
    s.run('ROLLBACK TO s')
    ok(Member(Client(), group, [topic]).enter(), 'who has rolled back to a savepoint is out')
    s.rollback()


def members_of_the_consumer_protocol():
    c, topic, group = setup(2, 2)
    member = str(uuid.uuid4())

    def beat(epoch, **fields):
        body = {'group_id': group, 'member_id': member, 'member_epoch': epoch,
                'rebalance_timeout_ms': -1}
        body.update(fields)
        return c.request('ConsumerGroupHeartbeat', 1, body)

    def join():
        return beat(0, rebalance_timeout_ms=30000, subscribed_topic_names=[topic],
                    topic_partitions=[])

    s = Session()
    s.run(CONSUME, group, topic)
    same(err(join()['error_code']), 'INCONSISTENT_GROUP_PROTOCOL', 'a session keeps them out too')
    s.rollback()
    r = join()
    same(err(r['error_code']), 'NONE', 'until it ends')
    same(refused(lambda: s.run(CONSUME, group, topic)), '55006', 'then it is refused')
    s.rollback()
    same(sql('SELECT type, members FROM kafka.groups WHERE group_id = %s', group),
         [('consumer', 1)], 'the view shows the group')
    both = {topic: [0, 1]}
    same(sql('SELECT member_id, protocol, epoch, partitions, assignment, target '
             'FROM kafka.group_members WHERE group_id = %s', group),
         [(member, 'consumer', r['member_epoch'], 2, both, both)], 'and the member')
    same(err(beat(-1)['error_code']), 'NONE', 'it leaves')
    same(len(s.run(CONSUME, group, topic)), 4, 'and a session goes on')
    s.commit()


def what_members_have():
    """Assignments of classic members as their leader writes them."""
    c, topic, group = setup()
    m = Member(c, group, [topic], instance='one')
    m.join()
    name = topic.encode()
    assignment = struct.pack('>hih', 0, 2, len(name)) + name + struct.pack('>ii', 1, 0)
    assignment += struct.pack('>h', 4) + b'"\\\0\xff' + struct.pack('>iii', 2, 5, 6)
    assignment += struct.pack('>i', -1)
    m.sync([(m.id, assignment)])
    same(sql('SELECT instance_id, partitions, assignment, target FROM kafka.group_members '
             'WHERE group_id = %s', group),
         [('one', 3, {topic: [0], '"\\\\x00\\xff': [5, 6]}, None)], 'are shown, whatever they are')
    for cut in range(len(assignment)):
        m.join()
        m.sync([(m.id, assignment[:cut])])
        rows = sql('SELECT partitions FROM kafka.group_members WHERE group_id = %s', group)
        if len(rows) != 1:
            ok(False, 'damaged after %d bytes: %r' % (cut, rows))
    ok(True, 'also when they are damaged')


def a_group_in_use_is_not_deleted():
    c, topic, group = setup()
    sql(CONSUME, group, topic)
    same(groups(c).get(group), 'Empty', 'to clients a group of sessions is empty')
    s = Session()
    s.run('SELECT kafka.commit_offset(%s, %s, 0, 1)', group, topic)

    def delete():
        return err(c.request('DeleteGroups', 2, {'groups_names': [group]})['results'][0]
                   ['error_code'])
    same(delete(), 'NON_EMPTY_GROUP', 'it is not deleted while a session is in it')
    s.commit()
    same(delete(), 'NONE', 'but then')
    same(sql('SELECT count(*) FROM kafka.group_offset WHERE group_id = %s', group), [(0,)],
         'with its offsets')


def one_row_from_both_sides():
    """A client that is no member commits the offset that a session has."""
    c, topic, group = setup()
    s = Session()
    s.run('SELECT kafka.commit_offset(%s, %s, 0, 1)', group, topic)
    answer = []
    t = threading.Thread(target=lambda: answer.append(commit(Client(), group, topic, 2)))
    t.start()
    time.sleep(0.3)
    same(answer, [], 'it waits for the session')
    same(committed(c, group, topic), -1, 'whose offset is not there before its commit')
    s.commit()
    t.join()
    same(answer, ['NONE'], 'and then commits')
    same(committed(c, group, topic), 2, 'the last one stands')
    s.run('SELECT kafka.commit_offset(%s, %s, 0, 1)', group, topic)
    s.rollback()
    same(committed(c, group, topic), 2, 'a rollback undoes')

    s.run('SELECT FROM kafka.group_offset WHERE group_id = %s FOR UPDATE', group)
    answer.clear()
    t = threading.Thread(target=lambda: answer.append(commit(Client(), group, topic, 3)))
    t.start()
    time.sleep(0.2)
    same((answer, committed(c, group, topic)), ([], 2), 'a row that is only locked is waited for')
    s.rollback()
    t.join()
    same((answer, committed(c, group, topic)), (['NONE'], 3), 'until it is free')

    errors = []
    last = []

    def write(offset):
        e = commit(c, group, topic, offset)
        if e != 'NONE':
            errors.append(e)
    for i in range(100):
        t = threading.Thread(target=write, args=(2 * i,))
        t.start()
        s.run('SELECT kafka.commit_offset(%s, %s, 0, %s)', group, topic, 2 * i + 1)
        s.commit()
        t.join()
        if committed(c, group, topic) not in (2 * i, 2 * i + 1):
            last.append(i)
    same((errors, last), ([], []), 'both at once, a hundred times: either of them')
    same(sql('SELECT count(*) FROM kafka.group_offset WHERE group_id = %s', group), [(1,)],
         'in one row')


def both_at_once():
    """A client joins and leaves while sessions consume: never both in the group."""
    c, topic, group = setup(1)
    inside = []
    wrong = []
    stop = threading.Event()
    counts = {'in': 0, 'out': 0, 'consumed': 0, 'refused': 0}

    def consume():
        s = Session()
        while not stop.is_set():
            try:
                s.run(CONSUME, group, topic)
                if inside:
                    wrong.append('a session beside a member')
                counts['consumed'] += 1
                s.commit()
            except errors.ObjectInUse:
                counts['refused'] += 1
                s.rollback()
                time.sleep(0.01)

    threads = [threading.Thread(target=consume) for _ in range(2)]
    for t in threads:
        t.start()
    m = Member(Client(), group, [topic])
    end = time.monotonic() + 60
    while time.monotonic() < end and min(counts.values()) < 5:
        m.id = ''
        if m.enter():
            counts['in'] += 1
            inside.append(1)
            time.sleep(0.005)
            inside.clear()
            m.client.request('LeaveGroup', 5, {'group_id': group,
                                               'members': [{'member_id': m.id}]})
            # every other time a session may be first, however busy the machine
            before = counts['consumed']
            until = time.monotonic() + 2
            while (counts['in'] % 2 == 0 and counts['consumed'] == before and
                   time.monotonic() < until):
                time.sleep(0.001)
        else:
            counts['out'] += 1
    stop.set()
    for t in threads:
        t.join()
    ok(min(counts.values()) >= 5, 'each had its times: %r' % counts)
    same(wrong, [], 'never both')


def waiting():
    """What wakes a session that waits: records, and what others give back."""
    c, topic, group = setup(1)

    def later(action):
        t = threading.Thread(target=lambda: (time.sleep(0.5), action()))
        t.start()
        return t

    def waits(query, *args):
        began = time.monotonic()
        s.run(query, *args)
        return time.monotonic() - began

    s = Session()
    s.connection.autocommit = True
    call = 'CALL kafka.wait_group(%s, %s, %s)'
    ok(waits(call, group, topic, '60 s') < 5, 'there is something to begin with')
    s.run(CONSUME, group, topic)
    ok(0.3 <= waits(call, group, topic, '0.3 s') < 10, 'there is nothing')
    t = later(lambda: produce(c, topic, batch([b'y'])))
    ok(0.3 < waits(call, group, topic, '60 s') < 10, 'a record wakes')
    t.join()

    other = Session()
    same(other.run(CONSUME, group, topic), [(1,)], 'another session is quicker')
    t = later(other.rollback)
    ok(0.3 < waits(call, group, topic, '60 s') < 10, 'its rollback wakes')
    t.join()
    other.run('SAVEPOINT s')
    same(other.run(CONSUME, group, topic), [(1,)], 'the same in a savepoint')
    t = later(lambda: other.run('ROLLBACK TO s'))
    ok(0.3 < waits(call, group, topic, '60 s') < 10, 'that is rolled back')
    t.join()
    other.run(CONSUME, group, topic)
    t = later(lambda: sql('SELECT pg_terminate_backend(%s)', other.connection.info.backend_pid))
    ok(0.3 < waits(call, group, topic, '60 s') < 10, 'so does its end')
    t.join()

    other = Session()
    other.run(CONSUME, group, topic)
    t = later(other.rollback)
    same(s.run('SELECT "offset" FROM kafka.consume(%s, %s, max_wait => %s)', group, topic, '60 s'),
         [(1,)], 'kafka.consume waits too')
    t.join()

    t = threading.Thread(target=lambda: s.run(call, group, topic, '5 s'))
    t.start()
    waiting = until(lambda: sql("SELECT backend_xmin IS NULL AND backend_xid IS NULL "
                                "FROM pg_stat_activity WHERE pid = %s AND wait_event = 'Extension'",
                                s.connection.info.backend_pid))
    same(waiting, [(True,)], 'who waits holds no snapshot')
    same(sql("SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype <> 'virtualxid'",
             s.connection.info.backend_pid), [(0,)], 'and no lock')
    m = Member(Client(), group, [topic])
    ok(m.enter(), 'so that a client can join')
    produce(c, topic, batch([b'z']))
    t.join()

    s.run('SELECT * FROM kafka.reset_offsets(%s, %s, %s)', 'another', topic, 'latest')
    t = later(lambda: sql('SELECT kafka.drop_topic(%s)', topic))
    same(refused(lambda: s.run(call, 'another', topic, '60 s')), '42P01', 'a dropped topic ends it')
    t.join()


def prepared():
    c, topic, group = setup()
    s = Session()
    s.run(CONSUME, group, topic)
    s.run("PREPARE TRANSACTION 'consumed'")
    s.commit()
    same(sql(CONSUME, group, topic), [], 'a prepared transaction keeps its claim')
    m = Member(Client(), group, [topic])
    same(err(m.join()['error_code']), 'INCONSISTENT_GROUP_PROTOCOL', 'and clients out')
    same(sql('SELECT count(*) FROM pg_prepared_xacts'), [(1,)], 'it is there')
    sql("ROLLBACK PREPARED 'consumed'")
    s.run(CONSUME, group, topic)
    s.run("PREPARE TRANSACTION 'consumed'")
    s.commit()
    sql("COMMIT PREPARED 'consumed'")
    same(sql("SELECT kafka.committed_offset(%s, %s, 0)", group, topic), [(3,)], 'until it commits')
    ok(m.enter(), 'which lets clients in')


main(members_keep_sessions_out, sessions_keep_members_out,
     members_of_the_consumer_protocol, what_members_have, a_group_in_use_is_not_deleted,
     one_row_from_both_sides, both_at_once, waiting, prepared)
