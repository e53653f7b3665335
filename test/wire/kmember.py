"""Members of classic groups, request by request, and connections to a chosen broker process."""
import os
import struct
import time

import psycopg2

from kwire import Client, err

SESSION_MS = 30000


def sql(query, *args):
    connection = psycopg2.connect('')
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(query, args)
    rows = cursor.fetchall() if cursor.description else []
    connection.close()
    return rows


def client_of(broker):
    """A connection that the broker process of that number serves."""
    for _ in range(200):
        c = Client()
        c.request('ApiVersions', 0)
        rows = sql('SELECT broker FROM kafka.stat_connection WHERE client_port = %s',
                   c.sock.getsockname()[1])
        if rows and rows[0][0] == broker:
            return c
        c.close()
    raise RuntimeError('no connection to broker %d' % broker)


def subscription(topics):
    data = struct.pack('>hi', 0, len(topics))
    for name in topics:
        data += struct.pack('>h', len(name)) + name.encode()
    return data + struct.pack('>i', -1)


class Member:
    """One member of a classic group; "client" is its connection."""

    def __init__(self, client, group, topics=(), instance=None, session_ms=SESSION_MS,
                 metadata=None):
        self.client = client
        self.group = group
        self.instance = instance
        self.session_ms = session_ms
        self.metadata = subscription(topics) if metadata is None else metadata
        self.id = ''
        self.generation = -1

    def join_body(self):
        return {'group_id': self.group, 'session_timeout_ms': self.session_ms,
                'rebalance_timeout_ms': self.session_ms, 'member_id': self.id,
                'group_instance_id': self.instance, 'protocol_type': 'consumer',
                'protocols': [{'name': 'range', 'metadata': self.metadata}]}

    def join(self):
        """The answer to JoinGroup, after the one that gives an id."""
        r = self.client.request('JoinGroup', 9, self.join_body())
        if err(r['error_code']) == 'MEMBER_ID_REQUIRED':
            self.id = r['member_id']
            r = self.client.request('JoinGroup', 9, self.join_body())
        if r['error_code'] == 0:
            self.id = r['member_id']
            self.generation = r['generation_id']
        return r

    def sync(self, assignments=()):
        r = self.client.request('SyncGroup', 5, {
            'group_id': self.group, 'generation_id': self.generation, 'member_id': self.id,
            'group_instance_id': self.instance, 'protocol_type': 'consumer',
            'protocol_name': 'range',
            'assignments': [{'member_id': m, 'assignment': a} for m, a in assignments]})
        return err(r['error_code']), r['assignment']

    def enter(self):
        """Joins alone; True if it is the stable group's only member then."""
        r = self.join()
        return r['error_code'] == 0 and self.sync([(self.id, b'all')]) == ('NONE', b'all')

    def heartbeat(self):
        return err(self.client.request('Heartbeat', 4, {
            'group_id': self.group, 'generation_id': self.generation, 'member_id': self.id,
            'group_instance_id': self.instance})['error_code'])

    def commit(self, topic, offset, partition=0, metadata=''):
        return commit(self.client, self.group, topic, offset, partition, metadata, self.id,
                      self.generation, self.instance)


def commit_body(group, topic, offset, partition=0, metadata='', member='', generation=-1,
                instance=None):
    return {'group_id': group, 'generation_id_or_member_epoch': generation, 'member_id': member,
            'group_instance_id': instance,
            'topics': [{'name': topic, 'partitions': [
                {'partition_index': partition, 'committed_offset': offset,
                 'committed_leader_epoch': -1, 'committed_metadata': metadata}]}]}


def commit_error(r):
    return err(r['topics'][0]['partitions'][0]['error_code'])


def commit(client, *args):
    return commit_error(client.request('OffsetCommit', 9, commit_body(*args)))


def committed(client, group, topic, partition=0):
    """The committed offset, -1: none; or the error."""
    r = client.request('OffsetFetch', 8, {'groups': [
        {'group_id': group, 'topics': [{'name': topic, 'partition_indexes': [partition]}]}]})
    g = r['groups'][0]
    if g['error_code'] != 0:
        return err(g['error_code'])
    p = g['topics'][0]['partitions'][0]
    return p['committed_offset'] if p['error_code'] == 0 else err(p['error_code'])


def remove(client, group, member):
    """As an administrator does."""
    r = client.request('LeaveGroup', 5, {'group_id': group, 'members': [{'member_id': member}]})
    return err(r['members'][0]['error_code'] or r['error_code'])


def groups(client):
    """Group id -> state."""
    r = client.request('ListGroups', 4)
    return {g['group_id']: g['group_state'] for g in r['groups']}


def until(condition, seconds=30):
    """The condition's first value that is true, or its last."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.05)
