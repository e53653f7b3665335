"""Produce and InitProducerId: every version, acks, what is refused and how."""
import struct
import zlib

from ktap import *
from kwire import batches, now_ms, record, request_frame, values, varint

ATTR_GZIP, ATTR_ZSTD = 1, 4
ATTR_LOG_APPEND_TIME, ATTR_TRANSACTIONAL, ATTR_CONTROL = 8, 16, 32


def versions():
    with Client() as c:
        name, topic_id = make_topic(c, partitions=2)
        count = 0
        for v in every_version('Produce'):
            t = {'name': name, 'topic_id': topic_id, 'partition_data': [
                {'index': 0, 'records': batch([b'v%d' % v, b'w%d' % v])},
                {'index': 9, 'records': batch([b'x'])}]}
            r = c.request('Produce', v, {'acks': -1, 'timeout_ms': 30000, 'topic_data': [t]})
            same(len(r['responses']), 1, 'Produce %d: one topic' % v)
            out = r['responses'][0]
            same(out['topic_id' if v >= 13 else 'name'], topic_id if v >= 13 else name,
                 'Produce %d: the topic' % v)
            got = {p['index']: p for p in out['partition_responses']}
            good, bad = got[0], got[9]
            same((err(good['error_code']), good['base_offset'], good['log_append_time_ms']),
                 ('NONE', count, -1), 'Produce %d: offset' % v)
            if v >= 5:
                same(good['log_start_offset'], 0, 'Produce %d: log start' % v)
            if v >= 8:
                same((good['record_errors'], good['error_message']), ([], None),
                     'Produce %d: no errors' % v)
            same((err(bad['error_code']), bad['base_offset']),
                 ('UNKNOWN_TOPIC_OR_PARTITION', -1), 'Produce %d: no such partition' % v)
            count += 2
        p = fetch(c, name, 0)
        same([o for o, _ in values(p['records'])], list(range(count)), 'all are there, in order')
        ok(all(b['crc_ok'] for b in batches(p['records'])), 'and whole')
        t = {'topic_id': b'\5' * 16, 'partition_data': [{'index': 0, 'records': batch([b'x'])}]}
        r = c.request('Produce', 13, {'acks': -1, 'timeout_ms': 1000, 'topic_data': [t]})
        same(err(r['responses'][0]['partition_responses'][0]['error_code']), 'UNKNOWN_TOPIC_ID',
             'Produce 13: unknown id')
        r = c.request('Produce', 9, {'acks': -1, 'timeout_ms': 1000, 'topic_data': []})
        same(r['responses'], [], 'a request without topics')


def zeros(size):
    """A small batch with a record of so many zeros."""
    z = zlib.compressobj(1, zlib.DEFLATED, 31)
    body = b'\0\0\0' + varint(1) + b'k' + varint(size)
    packed = z.compress(varint(len(body) + size + 1) + body) + z.compress(bytes(size + 1))
    return batch([b''], payload=packed + z.flush(), attributes=ATTR_GZIP)


def wait_for_end(name, end, what):
    with Client() as c:
        for _ in range(200):
            found = list_offset(c, name, -1)['offset']
            if found >= end:
                break
            time.sleep(0.05)
        same(found, end, what)


def acks():
    with Client() as c:
        name, _ = make_topic(c)
        same(produce(c, name, batch([b'a']), acks=1)['base_offset'], 0, 'acks=1')
        same(produce(c, name, batch([b'b']), acks=-1, timeout=0)['base_offset'], 1,
             'acks=all with a timeout of 0')
        for n in (2, -2, 100):
            p = produce(c, name, batch([b'x']), acks=n)
            same((err(p['error_code']), p['base_offset']), ('INVALID_REQUIRED_ACKS', -1),
                 'acks=%d' % n)
        body = {'acks': 0, 'timeout_ms': 1000, 'topic_data': [
            {'name': name, 'partition_data': [{'index': 0, 'records': batch([b'c'])}]}]}
        c.send('Produce', 9, body)
        c.send('Produce', 9, body)
        same(produce(c, name, batch([b'd']))['base_offset'], 4, 'acks=0 has no answer')
    # An error with acks=0 can only be told by closing; what came before it holds.
    with Client() as c:
        c.send('Produce', 9, body)
        body['topic_data'][0]['partition_data'][0]['index'] = 99
        c.send('Produce', 9, body)
        ok(c.is_closed(), 'an error with acks=0 closes the connection')
    # The connection ends before the server can look: what was received whole counts.
    with Client() as c:
        body['topic_data'][0]['partition_data'][0]['index'] = 0
        c.send('Produce', 9, body)
    wait_for_end(name, 7, 'acks=0 and a closed connection')
    # So does what stands behind a batch that takes more than a moment to check.
    with Client() as c:
        large = dict(body, topic_data=[{'name': name, 'partition_data': [
            {'index': 0, 'records': zeros(60 << 20)}]}])
        c.sock.sendall(b''.join(request_frame('Produce', 9, b, i) for i, b in
                                enumerate([large, body, body, body])))
    wait_for_end(name, 11, 'acks=0 behind a large one and a closed connection')


def idempotent_producer():
    with Client() as c:
        ids = set()
        for v in every_version('InitProducerId'):
            for _ in range(100):
                r = c.request('InitProducerId', v, {'transactional_id': None})
                if err(r['error_code']) != 'COORDINATOR_LOAD_IN_PROGRESS':
                    break
                time.sleep(0.1)
            r = c.request('InitProducerId', v, {'transactional_id': None,
                                                'transaction_timeout_ms': 60000})
            same((err(r['error_code']), r['producer_epoch']), ('NONE', 0), 'InitProducerId %d' % v)
            ids.add(r['producer_id'])
        same(len(ids), 6, 'six different ids')
        ok(min(ids) >= 0, 'none negative')
        for v in (3, 4, 5):
            r = c.request('InitProducerId', v, {'transactional_id': None,
                                                'producer_id': 5, 'producer_epoch': -1})
            same((err(r['error_code']), r['producer_id'], r['producer_epoch']),
                 ('INVALID_REQUEST', -1, -1), 'InitProducerId %d: an id without an epoch' % v)
        if not REFERENCE:
            r = c.request('InitProducerId', 4, {'transactional_id': 't1'})
            same(err(r['error_code']), 'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
                 'nobody may use a transactional id')

        pid = max(ids)
        name, _ = make_topic(c)

        def send(sequence, n=1, epoch=0, producer=pid):
            p = produce(c, name, batch([b'%d' % (sequence + i) for i in range(n)],
                                       producer_id=producer, producer_epoch=epoch,
                                       base_sequence=sequence))
            return err(p['error_code']), p['base_offset']
        same(send(0), ('NONE', 0), 'sequence 0')
        same(send(1, 3), ('NONE', 1), 'sequence 1 to 3')
        same(send(1, 3), ('NONE', 1), 'sent again: the same offset')
        same(send(0), ('NONE', 0), 'the one before, again')
        same(send(5), ('OUT_OF_ORDER_SEQUENCE_NUMBER', -1), 'a gap')
        same(send(4), ('NONE', 4), 'sequence 4')
        for i in range(5, 10):
            send(i)
        same(send(0)[0], 'OUT_OF_ORDER_SEQUENCE_NUMBER',
             'a duplicate older than five batches is out of order')
        same(send(9), ('NONE', 9), 'one of the last five is known again')
        same(send(0, 1, 1), ('NONE', 10), 'a new epoch starts anew')
        same(send(10)[0], 'INVALID_PRODUCER_EPOCH', 'the old epoch is fenced')
        same(send(100, 1, 0, pid + 1000000), ('NONE', 11),
             'an unknown producer may begin anywhere')

        # Pipelined: five batches under way, answered in order, then all of them again.
        name, _ = make_topic(c)

        def pipeline():
            sent = [c.send('Produce', 9, {'acks': -1, 'timeout_ms': 30000, 'topic_data': [
                {'name': name, 'partition_data': [{'index': 0, 'records': batch(
                    [b'x'], producer_id=pid, producer_epoch=1, base_sequence=i)}]}]})
                for i in range(5)]
            answers = [c.receive('Produce', 9, i) for i in sent]
            return [(err(p['error_code']), p['base_offset']) for p in
                    (a['responses'][0]['partition_responses'][0] for a in answers)]
        expected = [('NONE', i) for i in range(5)]
        same(pipeline(), expected, 'five in flight')
        same(pipeline(), expected, 'the same five again')


def refused():
    """Batches that a broker must not store."""
    with Client() as c:
        name, _ = make_topic(c, max_message_bytes=2000)
        good = batch([b'hello'])
        gap = [record(0, None, b'a'), record(2, None, b'b')]
        cases = [
            ('nothing', b'', 'INVALID_RECORD'),
            ('a magic of 1', batch([b'x'], magic=1), 'INVALID_RECORD'),
            ('a magic of 9', batch([b'x'], magic=9), 'CORRUPT_MESSAGE'),
            ('two batches', good + good, 'INVALID_RECORD'),
            ('a wrong CRC', batch([b'x'], crc=1), 'CORRUPT_MESSAGE'),
            ('a count too small', batch([b'x', b'y'], count=1), 'INVALID_RECORD'),
            ('a count too large', batch([b'x'], count=2), 'INVALID_RECORD'),
            ('a wrong last offset delta', batch([b'x'], last_offset_delta=5), 'INVALID_RECORD'),
            ('a base offset of its own', batch([b'x'], base_offset=77), 'INVALID_RECORD'),
            ('bytes that are no record', batch([b'x'], payload=b'\xff' * 20),
             'INVALID_RECORD' if not REFERENCE else 'UNKNOWN_SERVER_ERROR'),
            ('a control batch', batch([b'x'], key=b'\0\0\0\0', attributes=ATTR_CONTROL),
             'INVALID_RECORD'),
            ('a batch too large', batch([b'x' * 3000]), 'MESSAGE_TOO_LARGE'),
            ('a codec that is none', batch([b'x'], attributes=7), None),
            ('bytes that are not gzip', batch([b'x'], attributes=ATTR_GZIP), None),
            ('an idempotent batch without a sequence',
             batch([b'x'], producer_id=5, producer_epoch=0), None),
            ('a batch and a piece of another', good + good[:30], 'NONE'),
        ]
        if not REFERENCE:
            cases.append(('a gap in the offsets', batch([b'a', b'b'], payload=b''.join(gap)),
                          'INVALID_RECORD'))
        for what, data, error in cases:
            p = produce(c, name, data)
            if error is None:
                ok(p['error_code'] != 0, 'refused: %s (%s)' % (what, err(p['error_code'])))
            else:
                same(err(p['error_code']), error, 'refused: ' + what)
        p = fetch(c, name, 0)
        got = [v for _, v in values(p['records'])]
        same(got, [b'hello'], 'and only the good ones are there')

        # cut off at every byte: never an answer of success, never the end of the connection
        errors = set()
        for n in range(1, len(good)):
            errors.add(err(produce(c, name, good[:n])['error_code']))
        ok('NONE' not in errors, 'a batch cut off anywhere is refused: ' + ', '.join(sorted(errors)))

        p = produce(c, name, batch([b'x'], attributes=ATTR_ZSTD), version=6)
        same(err(p['error_code']), 'UNSUPPORTED_COMPRESSION_TYPE', 'zstd before version 7')
        p = produce(c, name, batch([b'x'], attributes=ATTR_TRANSACTIONAL, producer_id=5,
                                   producer_epoch=0, base_sequence=0))
        same(err(p['error_code']), 'TRANSACTIONAL_ID_AUTHORIZATION_FAILED',
             'a transactional batch without a transactional id')


def configs():
    with Client() as c:
        name, _ = make_topic(c, cleanup_policy='compact')
        p = produce(c, name, batch([b'x', b'y']))
        same((err(p['error_code']), p['base_offset']), ('INVALID_RECORD', -1),
             'a compacted topic wants keys')
        same([e['batch_index'] for e in p['record_errors']], [0, 1], 'and says of which records')
        ok(p['error_message'], 'with a message')
        same(err(produce(c, name, batch([b'x'], key=b'k'))['error_code']), 'NONE', 'with a key')

        name, _ = make_topic(c, message_timestamp_type='LogAppendTime')
        before = now_ms()
        p = produce(c, name, batch([b'x'], timestamp=1000))
        ok(before - 1 <= p['log_append_time_ms'] <= now_ms() + 1, 'LogAppendTime is answered')
        b = batches(fetch(c, name, 0)['records'])[0]
        same((b['max_timestamp'], b['attributes'] & ATTR_LOG_APPEND_TIME, b['crc_ok']),
             (p['log_append_time_ms'], ATTR_LOG_APPEND_TIME, True), 'and stored')

        name, _ = make_topic(c, message_timestamp_after_max_ms=60000,
                             message_timestamp_before_max_ms=60000)
        for what, ts, error in (('the future', now_ms() + 3600000, 'INVALID_TIMESTAMP'),
                                ('the past', now_ms() - 3600000, 'INVALID_TIMESTAMP'),
                                ('now', now_ms(), 'NONE')):
            p = produce(c, name, batch([b'x'], timestamp=ts))
            same(err(p['error_code']), error, 'a timestamp from ' + what)

        for kind, number in (('gzip', 1), ('snappy', 2), ('lz4', 3), ('zstd', 4),
                             ('uncompressed', 0)):
            name, _ = make_topic(c, compression_type=kind)
            sent = batch([b'a' * 100, b'b', None], timestamp=5000, headers=[(b'h', b'1')],
                         producer_id=77, producer_epoch=3, base_sequence=12)
            same(err(produce(c, name, sent)['error_code']), 'NONE', 'compression.type=' + kind)
            b = batches(fetch(c, name, 0)['records'])[0]
            same((b['attributes'] & 7, b['count'], b['crc_ok'], b['producer_id'],
                  b['producer_epoch'], b['base_sequence'], b['first_timestamp']),
                 (number, 3, True, 77, 3, 12, 5000), 'stored as ' + kind)

        # what the header says of the greatest timestamp is put right
        name, _ = make_topic(c)
        produce(c, name, batch([b'x'], timestamp=5000, max_timestamp=9000))
        b = batches(fetch(c, name, 0)['records'])[0]
        same((b['max_timestamp'], b['crc_ok']), (5000, True), 'a wrong greatest timestamp')


def large():
    with Client() as c:
        name, _ = make_topic(c, max_message_bytes=4000000)
        big = batch([bytes([i]) * 100000 for i in range(30)])
        for i in range(3):
            same(produce(c, name, big)['base_offset'], 30 * i, '3 MB batch %d' % i)
        p = fetch(c, name, 35, max_bytes=1000, partition_max_bytes=1000)
        same([b['base_offset'] for b in batches(p['records'])], [30],
             'the first batch comes whole, however small the limits')
        got = batches(p['records'])[0]
        same(got['raw'][61:], big[61:], 'byte for byte')


main(versions, acks, idempotent_producer, refused, configs, large)
