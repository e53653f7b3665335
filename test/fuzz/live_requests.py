#!/usr/bin/python3 -B
"""requests.py [--record PORT] FILE TOPIC...: the requests that test/fuzz/fire mutates, into FILE.

One of each API and version that the server (KAFKA_BOOTSTRAP) advertises, and all that librdkafka
and kcat say to it in a short life: with --record PORT a proxy listens there, which the server must
advertise as its own address.  Each request comes with the places of its fields:

	frame length, number of fields, weight (4 bytes each, big-endian)
	for each field: offset, length, kind ('i' number, 'l' length, 'v' varint, 'b' bytes, 'r' records)
	the frame, its own length included

Weight: 1 for what makes and drops topics, 50 for all else.
"""
import argparse
import os
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../wire'))
from kwire import APIS, Client, Reader, batch, decode, err, request_frame  # noqa: E402

SELDOM = {'CreateTopics', 'DeleteTopics', 'CreatePartitions', 'DeleteRecords', 'AlterConfigs',
          'IncrementalAlterConfigs', 'DeleteGroups'}


class Places(Reader):
    """A reader that remembers where each field stands."""

    def __init__(self, data, pos=0, places=None):
        super().__init__(data, pos)
        self.places = [] if places is None else places

    def unpack(self, fmt):
        self.places.append((self.pos, struct.calcsize(fmt), 'i'))
        return struct.unpack(fmt, Reader.take(self, struct.calcsize(fmt)))[0]

    def uvarint(self):
        start = self.pos
        n = shift = 0
        while True:
            b = Reader.take(self, 1)[0]
            n |= (b & 0x7f) << shift
            if b < 0x80:
                break
            shift += 7
        self.places.append((start, self.pos - start, 'v'))
        return n

    def length(self, flexible, wide):
        n = Reader.length(self, flexible, wide)
        self.places[-1] = self.places[-1][:2] + ('v' if flexible else 'l',)
        return n

    def take(self, n):
        if n > 0:
            is_batch = n > 61 and self.data[self.pos + 16] == 2
            self.places.append((self.pos, n, 'r' if is_batch else 'b'))
        return Reader.take(self, n)


def describe(frame):
    """The fields of a request: [(offset, length, kind)], API; None if it is not known."""
    key, version = struct.unpack_from('>hh', frame, 4)
    if key not in APIS:
        return None
    api = APIS[key]
    r = Places(frame, 4)
    for fmt in ('>h', '>h', '>i'):
        r.unpack(fmt)
    n = r.length(False, False)
    if n > 0:
        r.take(n)
    flexible = version >= api.flexible
    if flexible:
        r.uvarint()
    decode(api.request, version, flexible, r)
    return r.places, api


def write(out, frame):
    found = describe(frame)
    if found is None:
        return 0
    places, api = found
    places.append((0, 4, 'l'))
    out.write(struct.pack('>iii', len(frame), len(places), 1 if api.name in SELDOM else 50))
    for offset, length, kind in places:
        out.write(struct.pack('>iii', offset, length, ord(kind)))
    out.write(frame)
    return 1


# ---- one of each ----

class Filler:
    """Bodies whose fields mean something to this server."""

    def __init__(self, topics, ids):
        self.topics = topics
        self.ids = ids
        self.n = 0

    def scalar(self, field, path):
        name = field.name
        self.n += 1
        if field.type in ('bytes', 'records'):
            return batch([b'v%d' % self.n, b''], key=b'k') if field.type == 'records' else b'bytes'
        if field.type == 'uuid':
            return self.ids[self.n % len(self.ids)]
        if field.type == 'bool':
            return bool(self.n & 1)
        if field.type == 'string':
            if path == 'CreateTopics' and name == 'name':
                return 'fuzz-made-%d' % (self.n % 7)
            if path == 'DeleteTopics':
                return 'fuzz-made-%d' % (self.n % 7)
            if name in ('name', 'topic', 'topic_name', 'resource_name', 'topic_names'):
                return self.topics[self.n % len(self.topics)]
            if name == 'transactional_id':
                return None if field.nullable else 'fuzz-txn'
            return 'fuzz-' + name.replace('_', '-')[:20]
        known = {'acks': (-1, 1, 0)[self.n % 3], 'timeout_ms': 1000, 'max_wait_ms': 10, 'min_bytes': 1,
                 'max_bytes': 1 << 16, 'partition_max_bytes': 1 << 12, 'replica_id': -1,
                 'session_epoch': (-1, 0)[self.n % 2], 'current_leader_epoch': -1,
                 'last_fetched_epoch': -1, 'timestamp': (-1, -2, -3, 1700000000000)[self.n % 4],
                 'num_partitions': 2, 'replication_factor': 1, 'resource_type': 2, 'count': 3,
                 'response_partition_limit': 100}
        return known.get(name, 0)

    def value(self, field, version, path):
        if field.fields:
            return {f.name: self.field(f, version, path) for f in field.fields if f.has(version)}
        return self.scalar(field, path)

    def field(self, field, version, path):
        if field.name in ('assignments', 'forgotten_topics_data', 'configs', 'cursor'):
            return [] if field.array else None
        if not field.array:
            return self.value(field, version, path)
        return [self.value(field, version, path) for _ in range(2)]

    def body(self, api, version):
        return {f.name: self.field(f, version, api.name) for f in api.request
                if f.has(version) and f.tag is None}


def one_of_each(out, topics):
    count = 0
    with Client() as c:
        listed = c.request('ApiVersions', 3, {'client_software_name': 'fuzz',
                                              'client_software_version': '1'})
        made = c.request('Metadata', 12, {'topics': [{'name': t} for t in topics]})
        for t in made['topics']:
            if t['error_code'] != 0:
                raise RuntimeError('%s: %s' % (t['name'], err(t['error_code'])))
        filler = Filler(topics, [t['topic_id'] for t in made['topics']])
        for entry in listed['api_keys']:
            api = APIS.get(entry['api_key'])
            for version in range(max(entry['min_version'], api.versions[0]),
                                 entry['max_version'] + 1):
                for _ in range(3):
                    frame = request_frame(api, version, filler.body(api, version),
                                          filler.n, client_id='fuzz')
                    count += write(out, frame)
    return count


# ---- recording ----

class Recorder:
    """A proxy that keeps the requests that go through it."""

    def __init__(self, port, target):
        self.frames = []
        self.target = target
        self.listener = socket.create_server(('127.0.0.1', port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            for source, sink, keep in ((client, server, True), (server, client, False)):
                threading.Thread(target=self.copy, args=(source, sink, keep), daemon=True).start()

    def copy(self, source, sink, keep):
        rest = b''
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                sink.sendall(data)
                if keep:
                    rest += data
                    while len(rest) >= 4 and len(rest) >= 4 + struct.unpack_from('>i', rest)[0]:
                        n = 4 + struct.unpack_from('>i', rest)[0]
                        self.frames.append(rest[:n])
                        rest = rest[n:]
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def record(out, port, topics):
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

    host, target = os.environ['KAFKA_BOOTSTRAP'].rsplit(':', 1)
    recorder = Recorder(port, (host, int(target)))
    conf = {'bootstrap.servers': '127.0.0.1:%d' % port}
    for i, codec in enumerate(('none', 'gzip', 'snappy', 'lz4', 'zstd')):
        p = Producer({**conf, 'compression.type': codec, 'linger.ms': 20,
                      'enable.idempotence': bool(i & 1)})
        for n in range(200):
            p.produce(topics[n % len(topics)], b'value %d of many' % n * (n % 9), b'key %d' % n,
                      headers=[('h', b'1'), ('h', None)])
        p.flush(30)
    admin = AdminClient(conf)
    for future in admin.create_topics([NewTopic('fuzz-recorded', 2)]).values():
        future.result(30)
    for future in admin.describe_configs([ConfigResource('topic', topics[0])]).values():
        future.result(30)
    for future in admin.delete_topics(['fuzz-recorded']).values():
        future.result(30)
    c = Consumer({**conf, 'group.id': 'fuzz', 'enable.auto.commit': False})
    c.assign([TopicPartition(t, 0, 0) for t in topics])
    for _ in range(20):
        c.consume(50, 0.1)
    c.offsets_for_times([TopicPartition(topics[0], 0, 1700000000000)])
    c.close()
    for args in (['-L'], ['-P', '-t', topics[0]], ['-C', '-t', topics[0], '-e', '-q']):
        subprocess.run(['kcat', '-b', conf['bootstrap.servers'], *args], input=b'one\ntwo\n',
                       stdout=subprocess.DEVNULL, check=True, timeout=60)
    seen = set()
    for frame in list(recorder.frames):
        # many of a kind teach little
        kind = (frame[4:8], len(frame) // 64)
        if kind not in seen and len(frame) < 1 << 18:
            seen.add(kind)
            write(out, frame)
    return len(seen)


def main():
    options = argparse.ArgumentParser()
    options.add_argument('--record', type=int)
    options.add_argument('output')
    options.add_argument('topics', nargs='+')
    options = options.parse_args()
    with open(options.output, 'wb') as out:
        made = one_of_each(out, options.topics)
        recorded = record(out, options.record, options.topics) if options.record else 0
    print('%d made, %d recorded' % (made, recorded))


main()
