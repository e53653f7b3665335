"""diff.py REFERENCE:PORT OURS:PORT [API...]

Sends every question of cases.py to both, decodes both answers with test/wire/kwire.py and compares
them.  What differs must be in known.txt, with its reason; what is there and does not differ (any
more) is a failure too.  One line "ok - ..." or "not ok - ..." per API and version.
"""
import collections
import fnmatch
import gzip
import itertools
import os
import re
import socket
import struct
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, '../../wire'))

import cases                                                        # noqa: E402
import frames                                                       # noqa: E402
import groups                                                       # noqa: E402
import history                                                      # noqa: E402
import kwire                                                        # noqa: E402
from kwire import (APIS, Client, Closed, batch, batches, err, now_ms,  # noqa: E402
                   request_frame)

WAIT = 5
kwire.STRINGS = 'surrogateescape'

# Groups of this run; and ids that brokers make up: with a UUID, or one as Kafka writes it.
GROUPS = 'diff-group-%d-' % now_ms()
MADE_UP = re.compile(r'(.*-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\w-]{22}')


class Target:
    """One broker, and what its answers call differently from the other's."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.host, self.port = bootstrap.rsplit(':', 1)
        self.ids = {}
        self.api = None
        self.exact = False
        self.epoch = 0
        self.session = 0
        self.producer_id = -1
        self.errors = set()
        self.ends = {}
        self.groups = 0
        self.members = {}
        self.member = ''
        self.generation = -1
        self.named = '-'

    def client(self):
        return Client(self.bootstrap, WAIT)

    def setup(self):
        with self.client() as c:
            topics = [('diff-one', 1, {}), ('diff-three', 3, {}), ('diff-empty', 1, {}),
                      ('diff-write', 1, {}), ('diff-compact', 1, {'cleanup.policy': 'compact'}),
                      ('diff-append', 1, {'message.timestamp.type': 'LogAppendTime'}),
                      ('diff-delete-id', 1, {})]
            topics += [('diff-delete-%d' % v, 1, {}) for v in range(1, 7)]
            # Left from a run before, when the brokers are not new.
            left = [t['name'] for t in c.request('Metadata', 12, {'topics': None})['topics']
                    if t['name'].startswith('diff-')]
            if left:
                c.request('DeleteTopics', 5, {'topic_names': left, 'timeout_ms': 30000})
                time.sleep(1)
            self.make_topics(c, topics)
            for i in range(3):
                c.request('Produce', 9, {'acks': -1, 'timeout_ms': 30000, 'topic_data': [
                    {'name': 'diff-one', 'partition_data': [
                        {'index': 0, 'records': batch([b'a%d' % i, b'b'],
                                                      timestamp=cases.NOW + 1000 * i)}]}]})
            m = c.request('Metadata', 12, {'topics': [{'name': 'diff-one'}]})
            while c.request('InitProducerId', 2, {'transactional_id': None})['error_code'] != 0:
                time.sleep(0.1)
            self.epoch = m['topics'][0]['partitions'][0]['leader_epoch']
            # Kafka makes its internal topics when it is first asked.
            for kind in (0, 1):
                while err(c.request('FindCoordinator', 1, {'key': 'diff', 'key_type': kind})[
                        'error_code']) == 'COORDINATOR_NOT_AVAILABLE':
                    time.sleep(0.1)

    def make_topics(self, c, topics):
        """(name, partitions, configs) of each; returns when they can be used."""
        r = c.request('CreateTopics', 7, {'timeout_ms': 30000, 'topics': [
            {'name': n, 'num_partitions': p, 'replication_factor': 1,
             'configs': [{'name': k, 'value': v} for k, v in configs.items()]}
            for n, p, configs in topics]})
        for t in r['topics']:
            if t['error_code'] != 0:
                sys.exit('%s: %s' % (t['name'], err(t['error_code'])))
            self.ids[t['name']] = t['topic_id']
        for name, partitions, _ in topics:
            for p in range(partitions):
                while self.end(c, name, p) < 0:
                    time.sleep(0.01)

    def end(self, c, topic, partition=0):
        p = c.request('ListOffsets', 7, {'replica_id': -1, 'topics': [
            {'name': topic, 'partitions': [{'partition_index': partition, 'timestamp': -1,
                                            'current_leader_epoch': -1}]}]})
        p = p['topics'][0]['partitions'][0]
        return p['offset'] if p['error_code'] == 0 else -1

    def prepare(self, c, api):
        self.api = api
        for topic in ('diff-one', 'diff-write', 'diff-compact', 'diff-append'):
            if api == 'Produce' or topic == 'diff-one':
                self.ends[topic] = self.end(c, topic)

    def fill_in(self, value):
        """This broker's own values for the names in a request."""
        if isinstance(value, history.Made):
            return self.fill_in(value.make(self))
        if isinstance(value, dict):
            return {k: self.fill_in(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.fill_in(v) for v in value]
        if isinstance(value, str):
            if value.startswith('ID:'):
                return self.ids[value[3:]]
            if value.startswith('END:'):
                return self.ends[value[4:]]
            if value == 'GROUP':
                return '%s%d' % (GROUPS, self.groups)
            if value.startswith('GROUP:'):
                return '%s%s' % (GROUPS, value[6:])
            return {'MEMBER': self.member, 'GENERATION': self.generation,
                    'EPOCH': self.epoch, 'EPOCH+1': self.epoch + 1,
                    'SESSION': self.session, 'PID': self.producer_id}.get(value, value)
        return value

    def plain(self, value, key=''):
        """The names again, for values in an answer."""
        if isinstance(value, dict):
            return {k: self.plain(v, k) for k, v in value.items()}
        names = {v: 'ID:' + k for k, v in self.ids.items()}
        if key == 'topic_id':
            return names.get(value, 'new' if value not in (bytes(16), b'\7' * 16) else
                             value.hex())
        if key in ('topics', 'api_keys') and isinstance(value, list) and len(value) > 4:
            # All topics: in no order, and with those that others have made.
            value = sorted((t for t in value if t.get('name', 'diff-').startswith('diff-')),
                           key=str if key == 'api_keys' else lambda t: t['name'])
        if self.api == 'Produce' and key in ('responses', 'partition_responses'):
            # As those are.
            value = sorted(value, key=lambda v: v['index'] if 'index' in v else
                           v['name'] or names.get(v['topic_id'], ''))
        if self.api == 'ListGroups' and key == 'groups':
            # All groups, in no order; those of a history, while it lasts.
            value = sorted((g for g in value if g['group_id'].startswith(GROUPS + self.named) and
                            self.exact), key=lambda g: g['group_id'])
        if self.api == 'DeleteGroups' and key == 'results':
            value = sorted(value, key=lambda g: g['group_id'])
        if key == 'topic_partitions':
            # By ids, which each broker makes up.
            value = sorted(value, key=lambda t: names.get(t['topic_id'], ''))
        if self.api == 'JoinGroup' and key == 'members':
            value = sorted(value, key=lambda m: self.members.get(m['member_id'], ''))
        if self.api == 'OffsetDelete' and key == 'partitions':
            value = sorted(value, key=lambda p: p['partition_index'])
        if self.api == 'ListOffsets' and key in ('topics', 'partitions'):
            value = sorted(value, key=lambda v: v.get('name') or v.get('partition_index', 0))
        if isinstance(value, list):
            plain = [self.plain(v, key) for v in value]
            # The order of these is that of a hash table in Java.
            return sorted(plain, key=lambda c: c['name']) if key == 'configs' else plain
        if key == 'error_code':
            if value != 0:
                self.errors.add((self.api, err(value)))
            return err(value)
        if key.endswith('error_message') and value is not None:
            # Of now, or of that long ago.
            return re.sub(r'-?\d{12,}', 'TIME', value)
        if key in ('member_id', 'leader') and MADE_UP.fullmatch(value or ''):
            return self.members.setdefault(value, 'MEMBER%d' % len(self.members))
        if key == 'session_id':
            return 'SESSION' if value > 0 else value
        if key in ('leader_epoch', 'epoch'):
            return 'EPOCH' if value == self.epoch else value
        if key == 'producer_id':
            return 'PID' if value >= 0 else value
        if key == 'port':
            return 'PORT' if value == int(self.port) else value
        if key == 'cluster_id':
            return value and 'CLUSTER'
        if key == 'timestamp' and value in range(cases.NOW, cases.NOW + 3000):
            return value - cases.NOW
        if (key in ('log_append_time_ms', 'first_timestamp', 'max_timestamp', 'timestamp') and
                abs(value - now_ms()) < 600000):
            return 'NOW'
        if key == 'base_offset' and value >= 0 and self.api == 'Produce' and not self.exact:
            found = [value - e for e in self.ends.values() if value == e]
            return 'END' if found else 'OFFSET'
        if key == 'records' and value:
            return [dict({k: self.plain(v, k) for k, v in b.items() if k not in ('raw', 'crc')},
                         content=content(b)) for b in batches(value)]
        return value

    def ask(self, api, version, steps):
        """What comes back for each step."""
        out = []
        self.session = 0
        self.groups += 1
        self.members = {}
        with self.client() as c:
            self.prepare(c, api)
        with self.client() as c:
            for step in steps:
                out.append(self.step(c, api, version, step))
                if out[-1] in ('closed', 'nothing'):
                    break
        return out

    def step(self, c, api, version, step):
        body = self.fill_in(step) if isinstance(step, dict) else None
        raw = None if body is not None else step
        try:
            c.send_raw(request_frame(api, version, body, 77, raw=raw))
            if api == 'Produce' and body and body['acks'] == 0:
                c.send_raw(request_frame('ApiVersions', 0, {}, 78))
                c.recv_frame()
                # The next case must find it: here it may be read when it is durable.
                for _ in range(100):
                    if self.end(c, 'diff-write') != self.ends['diff-write']:
                        break
                    time.sleep(0.01)
                return 'no answer'
            return self.hear(c, api, version)
        except Closed:
            return 'closed'

    def hear(self, c, api, version):
        try:
            return self.decode(api, version, c.recv_frame())
        except Closed:
            return 'closed'
        except TimeoutError:
            return 'nothing'

    def live(self, steps):
        """(api, version, body, answer) of a history's steps that are compared."""
        self.session = 0
        self.members = {}
        self.named = steps[0][2].get('group_id', '-')[6:] if isinstance(steps[0], tuple) else '-'
        self.exact = True
        c = self.client()
        aside = {}
        for step in steps:
            if isinstance(step, history.Topic):
                self.make_topics(c, [(step.name, step.partitions, step.configs)])
            elif isinstance(step, history.Made):
                step.make(self)
            elif isinstance(step, history.Aside):
                api, version, body = step.step
                aside[step.name] = (self.client(), *step.step)
                aside[step.name][0].send_raw(request_frame(api, version, self.fill_in(body), 77))
            elif isinstance(step, history.Heard):
                other, self.api, version, body = aside.pop(step.name)
                with other:
                    yield self.api, version, body, self.hear(other, self.api, version)
            else:
                self.api, version, body = step
                answer = self.step(c, self.api, version, body)
                if answer in ('closed', 'nothing'):
                    c.close()
                    c = self.client()
                yield self.api, version, body, answer
        c.close()
        self.exact = False

    def say(self, api, version, data, more):
        """What comes back for these bytes; more: and for a good request after them."""
        out = []
        self.session = 0
        self.members = {}
        with self.client() as c:
            self.prepare(c, api)
        with self.client() as c:
            try:
                if more:
                    c.send_raw(data + request_frame('ApiVersions', 0, {}, 78))
                else:
                    c.send_raw(data)
                    c.sock.shutdown(socket.SHUT_WR)
                while out[-1:] != ['goes on']:
                    frame = c.recv_frame()
                    out.append('goes on' if frame[:4] == struct.pack('>i', 78) else
                               self.decode(api, version, frame))
            except (Closed, OSError) as e:
                out.append('nothing' if isinstance(e, TimeoutError) else 'closed')
        return out

    def decode(self, api, version, frame):
        class Replay(Client):
            def __init__(self):
                pass

            def recv_frame(self):
                return frame
        if not APIS[api].versions[0] <= version <= APIS[api].versions[1]:
            version = 0
        try:
            message = Replay().receive(api, version, 77)
        except (ValueError, struct.error, UnicodeDecodeError) as e:
            return 'undecodable: %s' % e
        self.session = message.get('session_id') or self.session
        self.member = message.get('member_id') or self.member
        self.generation = message.get('generation_id', self.generation)
        if message.get('producer_id', -1) >= 0:
            self.producer_id = message['producer_id']
        return self.plain(message)


def content(found):
    """The records of a batch, as far as Python has the codec."""
    codec = found['attributes'] & 7
    data = found['raw'][61:]
    return data if codec == 0 else gzip.decompress(data) if codec == 1 else None


def differences(a, b, path=''):
    """(path, there, here) of everything that is not equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        for k in a:
            yield from differences(a[k], b.get(k), path + '.' + k if path else k)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for x, y in zip(a, b):
            yield from differences(x, y, path)
    elif a != b:
        yield path, a, b


class Known:
    """known.txt: API, versions, what was asked, field[=Kafka's answer]; the reason after '#'."""

    def __init__(self):
        self.lines = []
        for number, line in enumerate(open(os.path.join(here, 'known.txt')), 1):
            text, _, reason = line.partition('#')
            if not text.strip():
                continue
            api, versions, what, field = [w.strip() for w in text.split('|')]
            if not reason.strip():
                sys.exit('known.txt:%d: no reason' % number)
            low, _, high = versions.partition('-')
            self.lines.append([number, api, range(int(low), int(high or low) + 1)
                               if versions != '*' else None, what, field, 0])

    def covers(self, api, version, what, field, there):
        for line in self.lines:
            if (line[1] in (api, '*') and (line[2] is None or version in line[2]) and
                    fnmatch.fnmatchcase(what, line[3]) and
                    (fnmatch.fnmatchcase(field, line[4]) or
                     fnmatch.fnmatchcase('%s=%s' % (field, there), line[4]))):
                line[5] += 1
                return True
        return False


def unexpected_errors(given):
    """What Kafka has given and errors.txt does not say, and the reverse."""
    listed = {}
    for line in open(os.path.join(here, 'errors.txt')):
        if line.strip() and not line.startswith('#'):
            api, names, reason = [w.strip() for w in line.split('|')]
            listed.update({(api, name): reason for name in names.split()})
    for api, name in sorted(given | set(listed)):
        if (api, name) not in listed:
            yield '%s gives %s, which is not listed' % (api, name)
        elif listed[(api, name)] == '' and (api, name) not in given:
            yield '%s has not given %s' % (api, name)
        elif listed[(api, name)] != '' and (api, name) in given:
            yield '%s gives %s, said to be out of reach' % (api, name)


def questions(there, ours, only):
    """(api, version, what was asked, [the answer there, here])"""
    for api, version, what, steps in cases.all_cases():
        if not only or api in only:
            yield api, version, what, [t.ask(api, version, steps) for t in (there, ours)]
    told = itertools.chain(history.all_histories() if not only or 'history' in only else (),
                           groups.all_histories() if not only or 'groups' in only else ())
    for what, steps in told:
        for i, (a, b) in enumerate(itertools.zip_longest(there.live(steps),
                                                       ours.live(steps))):
            yield a[0], a[1], 'history: %s: %d: %s' % (what, i, history.shown(a[2])), [a[3], b[3]]
    good = {api: make for api, make in dict(cases.GOOD, **groups.FRAMES).items()
            if not only or api in only}
    for a, b in zip(frames.all_frames(good, there.fill_in), frames.all_frames(good, ours.fill_in)):
        more = not a[2].startswith(frames.UNFINISHED)
        yield (*a[:3], [t.say(*c[:2], c[3], more) for t, c in ((there, a), (ours, b))])


def main():
    there, ours = Target(sys.argv[1]), Target(sys.argv[2])
    only = sys.argv[3:]
    known = Known()
    tally = collections.OrderedDict()
    there.setup()
    ours.setup()
    for api, version, what, results in questions(there, ours, only):
        count = tally.setdefault((api, version), [0, 0])
        count[0] += 1
        found = [d for d in differences(*results) if not known.covers(api, version, what, *d[:2])]
        if found:
            count[1] += 1
            for field, a, b in found:
                print('# %s %d: %s: %s: Kafka %.300s, here %.300s'
                      % (api, version, what, field or 'answer', repr(a), repr(b)))
    failed = 0
    for (api, version), (n, bad) in tally.items():
        failed += bad > 0
        print('%s - %s version %d: %d questions%s'
              % ('not ok' if bad else 'ok', api, version, n,
                 ', %d answered otherwise' % bad if bad else ''))
    for line in known.lines:
        if line[5] == 0 and not only:
            failed += 1
            print('not ok - known.txt line %d: no such difference' % line[0])
    for wrong in unexpected_errors(there.errors):
        if not only or wrong.split()[0] in only:
            failed += 1
            print('not ok - errors.txt: ' + wrong)
    print('# %d questions' % sum(n for n, _ in tally.values()), flush=True)
    sys.exit(0)


main()
