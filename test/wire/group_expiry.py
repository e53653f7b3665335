"""Offsets and groups that expire, and the offsets of topics that are dropped.

The server looks for them every 200 ms; kafka_pg.offset_retention is a minute, so times are set back
by SQL.
"""
import time

import psycopg2

from kmember import Member, commit, commit_body, commit_error, committed, groups, remove, sql
from kmember import until
from ktap import fresh, main, make_topic, ok, same
from kwire import Client, err


def set_back(group):
    """Its offsets were committed long ago."""
    sql("UPDATE kafka.group_offset SET committed = now() - interval '1 day' WHERE group_id = %s",
        group)


def rows(table, group):
    return sql('SELECT count(*) FROM kafka.group_%s WHERE group_id = %%s' % table, group)[0][0]


def memory():
    return sql('SELECT groups, blocks, bytes FROM kafka.stat_group_memory')[0]


def looked():
    """The server has looked twice at least."""
    time.sleep(1)


def without_members():
    c, topic, old, new = Client(), fresh(), fresh('old'), fresh('new')
    make_topic(c, topic)
    same([commit(c, old, topic, 1), commit(c, new, topic, 1)], ['NONE', 'NONE'], 'two offsets')
    set_back(old)
    ok(until(lambda: old not in groups(c)), 'the old one goes, and its group')
    same(committed(c, old, topic), -1, 'it is not there any more')
    looked()
    same((committed(c, new, topic), groups(c).get(new)), (1, 'Empty'), 'the new one stays')
    r = c.request('OffsetCommit', 2, dict(commit_body(new, topic, 2), retention_time_ms=1500))
    same(commit_error(r), 'NONE', 'a commit with a time of its own')
    same(committed(c, new, topic), 2, 'is there')
    ok(until(lambda: committed(c, new, topic) == -1), 'and expires then')
    same((rows('offset', old), rows('offset', new)), (0, 0), 'no row is left')


def of_sessions():
    """What SQL has committed stays: no member says that the group is still in use."""
    c, topic, old, group = Client(), fresh(), fresh('old'), fresh('group')
    make_topic(c, topic)
    same(commit(c, old, topic, 1), 'NONE', 'an offset of a client')
    sql('SELECT kafka.commit_offset(%s, %s, 0, 1)', group, topic)
    set_back(group)
    set_back(old)
    ok(until(lambda: old not in groups(c)), 'goes')
    looked()
    same((committed(c, group, topic), groups(c).get(group)), (1, 'Empty'),
         'one of SQL that is as old stays')
    same(commit(c, group, topic, 2), 'NONE', 'when a client commits it')
    set_back(group)
    ok(until(lambda: committed(c, group, topic) == -1), 'it goes, too')


def with_members():
    c, topic, other, group = Client(), fresh(), fresh(), fresh('group')
    make_topic(c, topic)
    make_topic(c, other)
    before = memory()
    a = Member(Client(), group, [topic])
    ok(a.enter(), 'a member that reads one of two topics')
    same((a.commit(topic, 1), a.commit(other, 1)), ('NONE', 'NONE'), 'and commits for both')
    set_back(group)
    ok(until(lambda: committed(c, group, other) == -1), 'what is not read expires')
    looked()
    same(committed(c, group, topic), 1, 'what is read stays')
    same(a.heartbeat(), 'NONE', 'nothing else happens')
    same(remove(c, group, a.id), 'NONE', 'it leaves')
    looked()
    same(committed(c, group, topic), 1, 'the time counts from then')
    r = c.request('OffsetDelete', 0, {'group_id': group, 'topics': [
        {'name': topic, 'partitions': [{'partition_index': 0}]}]})
    same(err(r['topics'][0]['partitions'][0]['error_code']), 'NONE', 'its last offset is deleted')
    ok(until(lambda: group not in groups(c)), 'then the group goes')
    ok(until(lambda: memory() == before), 'with its memory')
    same(rows('state', group), 0, 'and its rows')
    same(Member(Client(), group, [topic]).enter(), True, 'one of the same name can begin')
    same(memory()[0], before[0] + 1, 'in a place of its own')


def dropped_topics():
    c, group = Client(), fresh('group')
    for way in ('SQL', 'DeleteTopics'):
        topic, kept = fresh(), fresh()
        make_topic(c, topic)
        make_topic(c, kept)
        for name in (topic, kept):
            same(commit(c, group, name, 5), 'NONE', 'an offset')
        same(rows('offset', group), 2, 'two')
        if way == 'SQL':
            connection = psycopg2.connect('')
            cursor = connection.cursor()
            cursor.execute('DROP TABLE topics."%s"' % topic)
            cursor.execute('SELECT count(*) FROM kafka.group_offset WHERE group_id = %s', [group])
            same(cursor.fetchone(), (1,), 'in the transaction that drops it, its offset is gone')
            connection.rollback()
            same(committed(c, group, topic), 5, 'undone, it is there again')
            cursor.execute('DROP TABLE topics."%s"' % topic)
            connection.commit()
            connection.close()
        else:
            r = c.request('DeleteTopics', 6, {'topics': [{'name': topic}], 'timeout_ms': 30000})
            same(err(r['responses'][0]['error_code']), 'NONE', 'dropped')
        same((rows('offset', group), committed(c, group, topic), committed(c, group, kept)),
             (1, -1, 5), way + ': the offset goes with its topic, and no other')
        make_topic(c, topic)
        same(committed(c, group, topic), -1, 'a new topic of that name begins without')
        same(commit(c, group, topic, 7), 'NONE', 'it has its own')
        same(committed(c, group, topic), 7, 'as any other')
        r = c.request('DeleteGroups', 2, {'groups_names': [group]})
        same(err(r['results'][0]['error_code']), 'NONE', 'all is deleted')
        same(rows('offset', group), 0, 'no row is left')


def after_an_error():
    """What is wrong with one group keeps no other's offsets, and no group, from going."""
    c, topic = Client(), fresh()
    wrong, right, empty = fresh('a-wrong'), fresh('b-right'), fresh('c-empty')
    make_topic(c, topic)
    same([commit(c, g, topic, 1) for g in (wrong, right)], ['NONE', 'NONE'], 'offsets of two groups')
    m = Member(Client(), empty, [topic])
    ok(m.enter(), 'and one without offsets')
    point = 'group-expire-' + wrong
    sql('SELECT kafka_test.stop_arm(%s, %s)', point, 'error')
    same(remove(c, empty, m.id), 'NONE', 'that all have left')
    set_back(wrong)
    set_back(right)
    ok(until(lambda: right not in groups(c)), 'the second one goes')
    ok(until(lambda: empty not in groups(c)), 'the third one goes')
    same(committed(c, wrong, topic), 1, 'the first one, which fails, stays')
    sql('SELECT kafka_test.stop_release(%s)', point)
    ok(until(lambda: wrong not in groups(c)), 'until it does not')


main(without_members, of_sessions, with_members, dropped_topics, after_an_error)
