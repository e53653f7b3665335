"""One story of a group's life, told by members of any client. ../member.py says how they are driven.

A record's value is its partition and number. Every record that a member reports is counted: it has to be read
exactly once, or as often as seeks and members that were killed before they committed explain.
"""
import collections
import os
import queue
import subprocess
import sys
import threading
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../wire'))

import psycopg2
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = {'bootstrap.servers': os.environ['KAFKA_BOOTSTRAP'], 'log_level': 0}
PARTITIONS = 6
ALL = set(range(PARTITIONS))
SHORT, LONG = 6000, 45000		# sessions, in ms


class Failed(Exception):
    """Nothing that follows would make sense."""


class Member:
    """A process, what it has, and what it has said."""

    def __init__(self, story, instance=None, session=SHORT):
        client = story.client
        command = [*client.command, story.topic, story.group, client.protocol, str(session)]
        command += [instance] if instance else []
        self.story = story
        self.owned = set()
        self.rebalances = []		# what it was assigned and what was revoked, in order
        self.obeyed = queue.Queue()
        self.stderr = open(os.path.join(os.environ['BUILD'], '%s-%d.err' % (story.group, len(story.members))), 'wb')
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.stderr, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        story.members.append(self)

    def read(self):
        for line in self.process.stdout:
            what, *words = line.split()
            if what == 'record':
                self.story.read(self, *words)
            elif what == 'ok':
                self.obeyed.put(True)
            elif what in ('assigned', 'revoked'):
                partitions = set(map(int, words[0].split(','))) if words[0] != '-' else set()
                self.rebalances.append((what, partitions))
                self.owned = partitions if what == 'assigned' else self.owned - partitions
        self.obeyed.put(False)

    def do(self, *words):
        try:
            self.process.stdin.write(' '.join(map(str, words)) + '\n')
            self.process.stdin.flush()
            obeyed = self.obeyed.get(timeout=60)
        except (OSError, queue.Empty):
            obeyed = False
        if not obeyed:
            raise Failed('a member did not obey "%s"; see %s' % (words[0], self.stderr.name))

    def end(self):
        """Leaves in good order."""
        self.do('close')
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired as e:
            raise Failed('a member did not end') from e
        self.reader.join()
        self.owned = set()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.owned = set()

    def revoked(self, since=0):
        return set().union(*(partitions for what, partitions in self.rebalances[since:] if what == 'revoked'))


class Story:
    def __init__(self, client, name, report):
        self.client = client
        self.name = '%s: ' % client.name
        self.report = report
        self.topic = self.group = 'groups-%s-%s-%s' % (client.name.replace(', ', '-'), name, uuid.uuid4().hex[:6])
        self.members = []
        self.lock = threading.Lock()
        self.got = collections.Counter()		# (partition, offset) -> how often it was read
        self.wanted = collections.Counter()
        self.strange = []
        self.written = 0		# records in each partition
        self.producer = Producer(dict(BOOTSTRAP, **{'enable.idempotence': True, 'linger.ms': 1}))
        admin = AdminClient(BOOTSTRAP)
        new = NewTopic(self.topic, PARTITIONS, 1)
        admin.create_topics([new], operation_timeout=30)[self.topic].result(60)

    def shorten_session(self):
        """With KIP-848 the server says when a member is dead: as soon as with the others."""
        if not os.environ.get('PGHOST'):
            self.report.note('%ssessions of 45 s' % self.name)
            return
        connection = psycopg2.connect('')
        with connection, connection.cursor() as cursor:
            cursor.execute('SELECT kafka.alter_group(%s, %s)',
                           (self.group, '{"consumer.session.timeout.ms": %d}' % SHORT))
        connection.close()

    def ok(self, good, what):
        return self.report.ok(good, self.name + what)

    def same(self, got, wanted, what):
        self.report.same(got, wanted, self.name + what)

    def read(self, member, partition, offset, value='-'):
        """A member has read this; the thread that reads its output tells."""
        with self.lock:
            if value != '%s-%s' % (partition, offset):
                self.strange.append('%s-%s has value %s' % (partition, offset, value))
            self.got[int(partition), int(offset)] += 1

    def write(self, count):
        """So many to each partition."""
        for _ in range(count):
            for p in ALL:
                self.producer.produce(self.topic, '%d-%d' % (p, self.written), partition=p)
                self.wanted[p, self.written] += 1
            self.written += 1
        if self.producer.flush(60):
            raise Failed('not all records could be written')

    def again(self, partitions, since):
        """These will be read once more, from that offset on."""
        for p in partitions:
            for offset in range(since, self.written):
                self.wanted[p, offset] += 1

    def wait(self, until, what, seconds=90):
        deadline = time.monotonic() + seconds
        while not until():
            dead = [m for m in self.members if m.process.poll() is not None and m.owned]
            if time.monotonic() > deadline or dead:
                self.ok(False, what)
                raise Failed('members have ' + ', '.join(str(sorted(m.owned)) for m in self.members) +
                             '; %d have died' % len(dead))
            time.sleep(0.02)
        self.ok(True, what)

    def owned(self, *members):
        """Does each partition have one owner, and each member its part?"""
        owned = sorted(p for m in members for p in m.owned)
        return owned == sorted(ALL) and all(m.owned for m in members)

    def each_once(self, what, wanted=None):
        """All records have been read, none more often than it should."""
        wanted = wanted or self.wanted
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with self.lock:
                if all(self.got[key] >= n for key, n in wanted.items()):
                    break
            time.sleep(0.02)
        time.sleep(0.2)
        with self.lock:
            wrong = {key: (self.got[key], wanted.get(key, 0))
                     for key in self.got.keys() | wanted.keys()
                     if self.got[key] != wanted.get(key, 0)}
            strange = self.strange[:]
        if not self.ok(not wrong and not strange, what):
            raise Failed('(partition, offset): (read, wanted): %s %s' % (str(sorted(wrong.items()))[:600], strange[:5]))

    def quietly(self, action, *members):
        """Does that while records are written, if the client can commit when partitions are taken from it."""
        if not self.client.commits_when_revoked:
            for m in members:
                m.do('commit')
            return action()
        result = []
        thread = threading.Thread(target=lambda: result.append(action()))
        thread.start()
        for _ in range(10):
            self.write(1)
            time.sleep(0.1)
        thread.join()
        return result[0] if result else None

    def committed(self):
        consumer = Consumer(dict(BOOTSTRAP, **{'group.id': self.group}))
        partitions = [TopicPartition(self.topic, p) for p in range(PARTITIONS)]
        got = consumer.committed(partitions, timeout=60)
        consumer.close()
        return [p.offset for p in got]

    def play(self):
        try:
            self.act()
        except Failed as e:
            self.ok(False, 'goes on to the end')
            self.report.note(str(e))
        finally:
            for m in self.members:
                m.process.kill()


class Dynamic(Story):
    """Members come, go and die."""

    def __init__(self, client, report):
        super().__init__(client, 'dynamic', report)
        if client.protocol == 'consumer':
            self.shorten_session()

    def act(self):
        self.write(10)
        a = Member(self)
        self.wait(lambda: self.owned(a), 'a first member has all partitions')
        self.each_once('and reads each record')

        b = self.arrival(a)
        if self.client.pauses:
            self.pause(a)
        if self.client.seeks:
            self.seek(a)
        self.departure(a, b)
        self.death(a)

        a.do('commit')
        a.end()
        self.same(self.committed(), [self.written] * PARTITIONS, 'what was read is committed')
        self.write(5)
        d = Member(self)
        self.wait(lambda: self.owned(d), 'a new member')
        self.each_once('goes on where the others stopped')
        d.end()

    def arrival(self, a):
        before = len(a.rebalances)
        b = self.quietly(lambda: Member(self), a)
        self.wait(lambda: self.owned(a, b), 'a second member arrives, and they share the partitions')
        self.each_once('meanwhile each record is read once')
        if self.client.tells_revoked:
            self.same(sorted(a.revoked(before)), sorted(ALL if self.client.protocol == 'eager' else b.owned),
                      'the first gave up ' + ('all it had' if self.client.protocol == 'eager' else 'only what the second got'))
        self.write(5)
        self.each_once('both read on')
        return b

    def pause(self, a):
        p = min(a.owned)
        a.do('pause', p)
        self.write(5)
        others = {(q, offset): n for (q, offset), n in self.wanted.items()
                  if q != p or offset < self.written - 5}
        self.each_once('a paused partition is not read, the others are', others)
        a.do('resume', p)
        self.each_once('resumed, it is')

    def seek(self, a):
        p = max(a.owned)
        self.again([p], 3)
        a.do('seek', p, 3)
        self.each_once('after a seek back it reads again from there')

    def departure(self, a, b):
        b.do('commit')
        self.quietly(b.end, a, b)
        self.wait(lambda: self.owned(a), 'the second leaves, the first has all')
        self.write(5)
        self.each_once('each record is read once')

    def death(self, a):
        c = self.quietly(lambda: Member(self), a)
        self.wait(lambda: self.owned(a, c), 'a third member arrives')
        self.write(5)
        self.each_once('and both read')
        a.do('commit')
        c.do('commit')
        self.write(5)
        self.each_once('more than they commit')
        a.do('commit')
        self.again(c.owned, self.written - 5)
        c.kill()
        self.wait(lambda: self.owned(a), 'it is killed, and loses its partitions', seconds=120)
        self.each_once('what it had not committed is read again, and nothing else')


class Static(Story):
    """Members with an instance id restart."""

    def __init__(self, client, report):
        super().__init__(client, 'static', report)

    def restart(self, other, instance, partitions, what):
        """A member that has gone comes back; the other must not notice."""
        before = len(other.rebalances)
        m = Member(self, instance, LONG)
        self.wait(lambda: m.owned == partitions, what + ', and has its partitions again')
        self.write(5)
        self.each_once('both go on where they were')
        self.same(other.rebalances[before:], [], 'the other one noticed nothing')
        return m

    def act(self):
        self.write(10)
        a = Member(self, 'first', LONG)
        b = Member(self, 'second', LONG)
        self.wait(lambda: self.owned(a, b), 'two static members share the partitions')
        self.each_once('and read each record')
        a.do('commit')
        b.do('commit')
        partitions = set(a.owned)

        noticed = len(b.rebalances)
        a.end()
        a = self.restart(b, 'first', partitions, 'a static member restarts')
        if self.client.protocol != 'consumer':
            # There it would have to wait (UNRELEASED_INSTANCE_ID) until its old session has ended.
            a.do('commit')
            self.write(5)
            self.each_once('they read more than is committed')
            self.again(partitions, self.written - 5)
            a.kill()
            a = self.restart(b, 'first', partitions, 'it is killed and comes back')
        self.same(b.rebalances[noticed:], [], 'and nobody else had to do anything at all')
        a.do('commit')
        b.do('commit')
        self.same(self.committed(), [self.written] * PARTITIONS, 'they commit what they read')
        a.end()
        b.end()
