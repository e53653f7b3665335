"""Batches that become much when they are decompressed, on the wire and in SQL.

A batch may grow to 256 MB, or to a hundred times its size, whichever is more; what would become
more than that is refused. Beside it somebody else produces and fetches undisturbed.
"""
import struct
import threading
import zlib

import psycopg2

from abuse import Bystander, memory, sql
from ktap import *
from kwire import batches, record, varint

MB = 1 << 20
CODECS = {'gzip': 1, 'snappy': 2, 'lz4': 3, 'zstd': 4}


def gzip_zeros(head, zeros):
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = [z.compress(head)]
    piece = bytes(MB)
    while zeros > 0:
        out.append(z.compress(piece[:zeros]))
        zeros -= len(piece)
    return b''.join(out) + z.flush()


def zstd_zeros(head, zeros):
    """A frame of one raw block and run-length blocks: four bytes for 128 KB."""
    out = [b'\x28\xb5\x2f\xfd\0\x38', struct.pack('<I', len(head) << 3)[:3], head]
    while zeros > 0:
        n = min(zeros, 1 << 17)
        zeros -= n
        out.append(struct.pack('<I', n << 3 | 2 | (zeros == 0))[:3] + b'\0')
    return b''.join(out)


def lz4_block(literals, zeros):
    """literals, then at least 24 zeros."""
    n = zeros - 6
    out = (bytes([min(len(literals) + 1, 15) << 4 | 15])
           + (bytes([len(literals) + 1 - 15]) if len(literals) >= 14 else b'')
           + literals + b'\0\1\0')
    n -= 19
    out += b'\xff' * (n // 255) + bytes([n % 255]) + b'\x50' + bytes(5)
    return struct.pack('<I', len(out)) + out


def lz4_zeros(head, zeros):
    out = [b'\x04\x22\x4d\x18\x60\x40\x82']
    while zeros >= 65536 + 100:
        n = 65536 - len(head)
        out.append(lz4_block(head, n))
        head = b''
        zeros -= n
    if len(head) + zeros > 65536:
        out.append(lz4_block(head, 30000))
        head, zeros = b'', zeros - 30000
    out.append(lz4_block(head, zeros))
    return b''.join(out) + bytes(4)


def snappy_zeros(head, zeros):
    total = len(head) + zeros
    n = (zeros - 1) // 64
    rest = zeros - 1 - 64 * n
    first = head + b'\0'
    out = uvarint_(total) + bytes([(len(first) - 1) << 2]) + first + b'\xfe\1\0' * n
    return out + (bytes([(rest - 1) << 2 | 2]) + b'\1\0' if rest else b'')


def uvarint_(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


ZEROS = {'gzip': gzip_zeros, 'snappy': snappy_zeros, 'lz4': lz4_zeros, 'zstd': zstd_zeros}


def bomb(codec, size, key=b'k', count=1, **fields):
    """A batch with a record whose value is size zeros."""
    body = b'\0\0\0' + varint(len(key)) + key + varint(size)
    head = varint(len(body) + size + 1) + body
    packed = ZEROS[codec](head, size + 1)
    return batch([b''] * count, payload=packed, attributes=CODECS[codec], **fields)


def crowd(count):
    """A gzip batch of that many empty records."""
    z = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = []
    for at in range(0, count, 100000):
        out.append(z.compress(b''.join(record(i, b'k', None)
                                       for i in range(at, min(at + 100000, count)))))
    return batch([b''] * count, payload=b''.join(out) + z.flush(), attributes=1)


def send(client, topic, data, partition=0):
    began = time.monotonic()
    p = produce(client, topic, data, partition)
    return err(p['error_code']), p['base_offset'], time.monotonic() - began


def patient():
    c = Client(timeout=120)
    c.request('ApiVersions', 0)
    return c


def honest():
    """A hundred to one is no bomb."""
    with patient() as c:
        for config in ({}, {'cleanup_policy': 'compact'}, {'compression_type': 'lz4'},
                       {'compression_type': 'gzip'}):
            name, _ = make_topic(c, **config)
            for codec in CODECS:
                size = 15 * MB if codec == 'snappy' else 30 * MB
                data = bomb(codec, size)
                error, offset, seconds = send(c, name, data)
                same((error, len(data) <= size // 20), ('NONE', True),
                     '%s of %d KB with %d MB in it, %s (%d ms)' % (
                         codec, len(data) >> 10, size >> 20, config or 'as it is', seconds * 1000))
                if not config:
                    back = batches(fetch(c, name, offset)['records'])[0]['raw']
                    same(back[61:], data[61:], 'consumers get it as it is')
            same(sql('SELECT string_agg(length(value)::text, %r ORDER BY "offset") '
                     'FROM topics."%s"' % (',', name)),
                 ','.join(str(15 * MB if x == 'snappy' else 30 * MB) for x in CODECS),
                 'SQL reads them')


def refused():
    """What is more than that is refused, and costs others no more than a moment."""
    with patient() as c:
        for config in ({}, {'cleanup_policy': 'compact'}, {'compression_type': 'lz4'}):
            name, _ = make_topic(c, **config)
            before = memory()
            with Bystander(1000) as b:
                for codec in ('gzip', 'zstd'):
                    size = {'gzip': 600, 'zstd': 1900}[codec] * MB
                    data = bomb(codec, size)
                    error, _, seconds = send(c, name, data)
                    same(error, 'MESSAGE_TOO_LARGE', '%s of %d KB with %d MB in it, %s (%d ms)' % (
                        codec, len(data) >> 10, size >> 20, config or 'as it is', seconds * 1000))
                b.undisturbed('bombs')
            ok(memory() - before < 64, 'no memory is left behind (%d MB)' % (memory() - before))


def many_at_once():
    """A request with a bomb for each of many partitions, from many clients."""
    with patient() as c:
        name, _ = make_topic(c, partitions=8)
    data = bomb('gzip', 60 * MB)
    body = {'acks': -1, 'timeout_ms': 60000, 'topic_data': [
        {'name': name, 'partition_data': [{'index': p, 'records': data} for p in range(8)]}]}
    answers = []

    def one():
        with patient() as c:
            r = c.request('Produce', 9, body)
            answers.extend(p['error_code'] for p in r['responses'][0]['partition_responses'])
    before = memory()
    with Bystander(1000) as b:
        began = time.monotonic()
        threads = [threading.Thread(target=one) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        took = time.monotonic() - began
        b.undisturbed('16 bombs at once')
    same(answers, [0] * 16, '16 batches of 60 MB in two requests, %d ms' % (took * 1000))
    ok(b.worst < took / 2, 'nobody waits for all of them: %d ms' % (b.worst * 1000))
    ok(memory() - before < 64, 'no memory is left behind (%d MB)' % (memory() - before))


def by_time():
    """ListOffsets looks for a time inside."""
    with patient() as c:
        name, _ = make_topic(c)
        now = 1700000000000
        for codec in ('gzip', 'zstd'):
            for _ in range(3):
                send(c, name, bomb(codec, 30 * MB, timestamp=now, max_timestamp=now + 5))
        with Bystander(1000) as b:
            began = time.monotonic()
            got = [list_offset(c, name, t)['offset'] for t in (now - 1, now, now + 1, -3)]
            took = time.monotonic() - began
            b.undisturbed('times looked for in bombs')
        same(got, [0, 0, -1, 0], 'times inside are found (%d ms)' % (took * 1000))


def in_sql():
    """What SQL reads has a bound, and can be cancelled."""
    with patient() as c:
        name, _ = make_topic(c, partitions=2)
        small = batch([b'a', b'b'])
        send(c, name, small, 1)
        for data in (bomb('gzip', 250 * MB), crowd(200000), small):
            same(send(c, name, data)[0], 'NONE', 'produced %d KB' % (len(data) >> 10))
    table = 'topics."%s"' % name
    db = psycopg2.connect('')
    db.autocommit = True
    cursor = db.cursor()

    def run(query):
        began = time.monotonic()
        cursor.execute(query)
        row = cursor.fetchone()
        return row, time.monotonic() - began

    def rss():
        for line in open('/proc/%d/status' % db.get_backend_pid()):
            if line.startswith('RssAnon'):
                return int(line.split()[1]) // 1024

    before = rss()
    same(run('SELECT count(*), min("offset"), max("offset") FROM %s WHERE partition = 0' % table)[0],
         (200003, 0, 200002), 'counting needs no values')
    ok(rss() - before < 32, 'nor memory')
    same(run('SELECT sum(length(value)), count(value) FROM %s WHERE partition = 0' % table)[0],
         (250 * MB + 2, 3), 'all values')
    ok(rss() - before < 64, 'what was decompressed is given back (%d MB)' % (rss() - before))
    same(run("SELECT length(value) FROM kafka.fetch('%s', 0, 0) LIMIT 1" % name)[0], (250 * MB,),
         'kafka.fetch')
    same(run('SELECT convert_from(value, %r) FROM %s WHERE partition = 1 LIMIT 1' % ('UTF8', table))[0],
         ('a',), 'other partitions')
    cursor.execute('SET statement_timeout = 300')
    for query in ('SELECT count(value) FROM %s' % table,
                  'SELECT sum(length(key)) FROM %s' % table,
                  'COPY (SELECT encode(value, %r) FROM %s) TO STDOUT' % ('hex', table)):
        began = time.monotonic()
        try:
            if query.startswith('COPY'):
                with open('/dev/null', 'w') as sink:
                    cursor.copy_expert(query, sink)
            else:
                cursor.execute(query)
            ok(False, 'cancelled: ' + query)
        except psycopg2.errors.QueryCanceled:
            ok(True, 'cancelled after %d ms: %s' % ((time.monotonic() - began) * 1000, query[:30]))
    db.close()


if __name__ == '__main__':
    main(honest, refused, many_at_once, by_time, in_sql)
