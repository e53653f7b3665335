"""Fetch and ListOffsets: every version, limits, waiting, offsets and times."""
import threading

from ktap import *
from kwire import batches, now_ms, values


def versions():
    with Client() as c:
        name, topic_id = make_topic(c)
        for i in range(5):
            produce(c, name, batch([b'%d' % i]))
        for v in every_version('Fetch'):
            for isolation in (0, 1):
                p = fetch(c, topic_id if v >= 13 else name, 0, version=v,
                          isolation_level=isolation)
                same((err(p['error_code']), p['high_watermark'], p['last_stable_offset'],
                      [x for _, x in values(p['records'])]),
                     ('NONE', 5, 5, [b'0', b'1', b'2', b'3', b'4']),
                     'Fetch %d isolation %d' % (v, isolation))
                same(p['aborted_transactions'], [] if isolation else None,
                     'Fetch %d isolation %d: aborted transactions' % (v, isolation))
                if v >= 5:
                    same(p['log_start_offset'], 0, 'Fetch %d: log start' % v)
                if v >= 11:
                    same(p['preferred_read_replica'], -1, 'Fetch %d: preferred replica' % v)
            p = fetch(c, topic_id if v >= 13 else name, 5, version=v, max_wait_ms=0)
            same((err(p['error_code']), p['high_watermark'], p['records']), ('NONE', 5, b''),
                 'Fetch %d at the end: no records' % v)
            p = fetch(c, topic_id if v >= 13 else name, 6, version=v)
            same((err(p['error_code']), p['high_watermark'], p['records']),
                 ('OFFSET_OUT_OF_RANGE', -1, b''), 'Fetch %d beyond the end' % v)
            p = fetch(c, topic_id if v >= 13 else name, -5, version=v)
            same(err(p['error_code']), 'OFFSET_OUT_OF_RANGE', 'Fetch %d before the start' % v)
            p = fetch(c, topic_id if v >= 13 else name, 0, 7, version=v, max_wait_ms=0)
            same(err(p['error_code']), 'UNKNOWN_TOPIC_OR_PARTITION',
                 'Fetch %d: no such partition' % v)
            p = fetch(c, b'\6' * 16 if v >= 13 else 'none-such', 0, version=v, max_wait_ms=0)
            same(err(p['error_code']),
                 'UNKNOWN_TOPIC_ID' if v >= 13 else 'UNKNOWN_TOPIC_OR_PARTITION',
                 'Fetch %d: no such topic' % v)
            if v >= 9:
                p = fetch(c, topic_id if v >= 13 else name, 0, version=v,
                          current_leader_epoch=1000)
                same(err(p['error_code']), 'UNKNOWN_LEADER_EPOCH',
                     'Fetch %d with an epoch to come' % v)


def limits():
    with Client() as c:
        name, _ = make_topic(c, partitions=3)
        for i in range(20):
            produce(c, name, batch([b'x' * 1000]), i % 2)
        size = len(batch([b'x' * 1000]))

        def ask(first, max_bytes, partition_max_bytes, offset=0):
            t = {'topic': name, 'partitions': [
                {'partition': p, 'fetch_offset': offset, 'partition_max_bytes': partition_max_bytes,
                 'current_leader_epoch': -1, 'log_start_offset': -1}
                for p in ((0, 1, 2) if first == 0 else (2, 1, 0))]}
            # a connection of its own: on one, partitions take turns
            with Client() as c:
                r = c.request('Fetch', 11, {'replica_id': -1, 'max_wait_ms': 0, 'min_bytes': 1,
                                            'max_bytes': max_bytes, 'session_epoch': -1,
                                            'topics': [t]})
            return {p['partition_index']: len(batches(p['records']))
                    for p in r['responses'][0]['partitions']}
        same(ask(0, 1 << 20, 1 << 20), {0: 10, 1: 10, 2: 0}, 'no limits')
        same(ask(0, 1 << 20, size * 3), {0: 3, 1: 3, 2: 0}, 'three batches a partition')
        same(ask(0, size * 4, size * 3), {0: 3, 1: 1, 2: 0}, 'four batches in all')
        same(ask(0, 1, 1), {0: 1, 1: 0, 2: 0}, 'the first batch of the first partition at least')
        same(ask(2, 1, 1), {0: 0, 1: 1, 2: 0}, 'of the first that has any')
        same(ask(0, 0, 0), {0: 1, 1: 0, 2: 0}, 'even with limits of 0')
        same(ask(0, 1 << 20, 1), {0: 1, 1: 0, 2: 0}, 'only the first partition exceeds its limit')
        same(ask(0, 1 << 20, 1 << 20, 7), {0: 3, 1: 3, 2: 0}, 'from the middle')


def inside_a_batch():
    with Client() as c:
        name, _ = make_topic(c)
        produce(c, name, batch([b'%d' % i for i in range(10)]))
        produce(c, name, batch([b'%d' % i for i in range(10)]))
        for offset, base in ((0, 0), (5, 0), (9, 0), (10, 10), (19, 10)):
            p = fetch(c, name, offset)
            same(batches(p['records'])[0]['base_offset'], base,
                 'offset %d is in the batch of %d' % (offset, base))


def waiting():
    with Client() as c, Client() as other:
        name, _ = make_topic(c, partitions=2)

        def timed(**params):
            start = time.monotonic()
            p = fetch(c, name, 0, **params)
            return p, time.monotonic() - start
        p, t = timed(max_wait_ms=0)
        same(p['records'], b'', 'nothing there, no wait')
        p, t = timed(max_wait_ms=300)
        ok(p['records'] == b'' and t >= 0.29, 'waits as long as it was asked to')

        def later(seconds, partition, data):
            def run():
                time.sleep(seconds)
                produce(other, name, data, partition)
            thread = threading.Thread(target=run)
            thread.start()
            return thread
        thread = later(0.2, 0, batch([b'woken']))
        p, t = timed(max_wait_ms=60000)
        thread.join()
        same([v for _, v in values(p['records'])], [b'woken'], 'woken by a record')
        ok(t < 30, 'at once, not when its time was over')

        # min_bytes: one record is not enough
        thread = later(0.2, 1, batch([b'y' * 2000]))
        c.send('Fetch', 11, {'replica_id': -1, 'max_wait_ms': 60000, 'min_bytes': 3000,
                             'max_bytes': 1 << 20, 'session_epoch': -1, 'topics': [
                                 {'topic': name, 'partitions': [
                                     {'partition': p, 'fetch_offset': o,
                                      'partition_max_bytes': 1 << 20, 'log_start_offset': -1,
                                      'current_leader_epoch': -1}
                                     for p, o in ((0, 1), (1, 0))]}]})
        thread.join()
        later(0.1, 0, batch([b'z' * 2000])).join()
        r = c.receive('Fetch', 11)
        same([len(p['records']) > 2000 for p in r['responses'][0]['partitions']], [True, True],
             'min_bytes is counted over all partitions')

        # Nothing asked for: answered at once
        start = time.monotonic()
        r = c.request('Fetch', 11, {'replica_id': -1, 'max_wait_ms': 60000, 'min_bytes': 1,
                                    'max_bytes': 1 << 20, 'session_epoch': -1, 'topics': []})
        ok(r['responses'] == [] and time.monotonic() - start < 30, 'an empty fetch does not wait')

        # A client that leaves while it waits
        for _ in range(20):
            with Client() as gone:
                gone.send('Fetch', 11, {'replica_id': -1, 'max_wait_ms': 60000, 'min_bytes': 1,
                                        'max_bytes': 1 << 20, 'session_epoch': -1, 'topics': [
                                            {'topic': name, 'partitions': [
                                                {'partition': 0, 'fetch_offset': 2,
                                                 'partition_max_bytes': 1 << 20,
                                                 'log_start_offset': -1,
                                                 'current_leader_epoch': -1}]}]})
        produce(c, name, batch([b'after']))
        same([v for _, v in values(fetch(c, name, 2)['records'])], [b'after'],
             'clients that left are forgotten')


def sessions():
    with Client() as c, Client() as other:
        name, topic_id = make_topic(c, partitions=3)
        for session, epoch in ((0, 1), (0, 5), (12345, 1), (12345, 77)):
            r = session_fetch(c, name, [(0, 0)], session, epoch)
            same((answered(r), r['session_id']), (('FETCH_SESSION_ID_NOT_FOUND', []), 0),
                 'no session %d epoch %d' % (session, epoch))
        r = session_fetch(c, name, [(0, 0)], 12345, -1)
        same((answered(r), r['session_id']), (('NONE', [(0, 0, 'NONE')]), 0), 'without a session')
        for v in (7, 11, 12, 13, every_version('Fetch')[-1]):
            tag = 'version %d: ' % v
            topic = topic_id if v >= 13 else name
            end = list_offset(c, name, -1, 1)['offset']
            parts = [(0, 0), (1, end), (2, 0)]
            r = session_fetch(c, topic, parts, version=v)
            sid = r['session_id']
            ok(sid > 0, tag + 'a full fetch opens a session')
            same(answered(r), ('NONE', [(p, 0, 'NONE') for p in range(3)]),
                 tag + 'and answers all its partitions')
            r = session_fetch(c, topic, [], sid, 1, v)
            same((answered(r), r['session_id']), (('NONE', []), sid), tag + 'no news')
            produce(other, name, batch([b'x']), 1)
            r = session_fetch(c, topic, [], sid, 2, v, wait=5000)
            same(answered(r), ('NONE', [(1, 1, 'NONE')]), tag + 'news of one partition')
            r = session_fetch(c, topic, [], sid, 3, v)
            same(answered(r), ('NONE', [(1, 1, 'NONE')]), tag + 'its offset has not moved')
            r = session_fetch(c, topic, [(1, end + 1)], sid, 4, v)
            same(answered(r), ('NONE', []), tag + 'now it has')
            r = session_fetch(c, topic, [(7, 0), (0, 1000)], sid, 5, v)
            same(answered(r), ('NONE', [(0, 0, 'OFFSET_OUT_OF_RANGE'),
                                        (7, 0, 'UNKNOWN_TOPIC_OR_PARTITION')]),
                 tag + 'errors, those without a partition last')
            r = session_fetch(c, topic, [(0, 0)], sid, 6, v, forget=[7])
            same(answered(r), ('NONE', [(0, 0, 'NONE')]), tag + 'the end of an error is news')
            for epoch in (6, 8, 1):
                r = session_fetch(c, topic, [], sid, epoch, v)
                same((answered(r), r['session_id']), (('INVALID_FETCH_SESSION_EPOCH', []), 0),
                     tag + 'epoch %d instead of 7' % epoch)
            r = session_fetch(c, topic_id if v < 13 else name, [], sid, 7, 13 if v < 13 else 12)
            same(answered(r), ('FETCH_SESSION_TOPIC_ID_ERROR', []), tag + 'names or ids')
            r = session_fetch(c, topic, [], sid, 7, v, forget=[0, 1, 2])
            same((answered(r), r['session_id']), (('NONE', []), 0), tag + 'nothing left')
            r = session_fetch(c, topic, [], sid, 8, v)
            same(answered(r), ('FETCH_SESSION_ID_NOT_FOUND', []), tag + 'which ends it')
            sid = session_fetch(c, topic, parts, version=v)['session_id']
            new = session_fetch(c, topic, parts, sid, 0, v)['session_id']
            ok(new not in (0, sid), tag + 'a full fetch begins a new session')
            same(answered(session_fetch(c, topic, [], sid, 1, v))[0], 'FETCH_SESSION_ID_NOT_FOUND',
                 tag + 'and ends the old one')
            same(session_fetch(c, topic, [], new, -1, v)['session_id'], 0, tag + 'the last fetch')
            same(answered(session_fetch(c, topic, [], new, 1, v))[0], 'FETCH_SESSION_ID_NOT_FOUND',
                 tag + 'ends it too')


def aborted_transactions():
    """Null or an empty list, by isolation level and by what became of the partition."""
    with Client() as c:
        name, topic_id = make_topic(c)
        produce(c, name, batch([b'a', b'b']))
        for v in every_version('Fetch'):
            topic, unknown = (topic_id, b'\6' * 16) if v >= 13 else (name, 'none-such')
            for isolation in (0, 1):
                def ask(t, offset, partition=0, **params):
                    p = fetch(c, t, offset, partition, v, isolation_level=isolation,
                              max_wait_ms=0, **params)
                    return (err(p['error_code']), p['aborted_transactions'],
                            p['last_stable_offset'], p['records'] == b'')
                tag = 'Fetch %d, isolation %d: ' % (v, isolation)
                listed = [] if isolation else None
                same(ask(topic, 0), ('NONE', listed, 2, False), tag + 'records')
                same(ask(topic, 2), ('NONE', listed, 2, True), tag + 'the end')
                same(ask(topic, 3), ('OFFSET_OUT_OF_RANGE', None, -1, True), tag + 'beyond it')
                same(ask(topic, 0, 9), ('UNKNOWN_TOPIC_OR_PARTITION', [], -1, True),
                     tag + 'no such partition')
                same(ask(unknown, 0)[1:], ([], -1, True), tag + 'no such topic')
                if v >= 9:
                    same(ask(topic, 0, current_leader_epoch=1 << 20),
                         ('UNKNOWN_LEADER_EPOCH', None, -1, True), tag + 'an epoch to come')
            if v >= 12:
                r = session_fetch(c, topic, [(0, 0)], epoch=-1, version=v, isolation=1)
                same(r['responses'][0]['partitions'][0]['aborted_transactions'], [],
                     'Fetch %d without a session' % v)
                part = {'partition': 0, 'fetch_offset': 9, 'partition_max_bytes': 1000,
                        'current_leader_epoch': -1, 'log_start_offset': -1,
                        'last_fetched_epoch': list_offset(c, name, -1)['leader_epoch']}
                for isolation in (0, 1):
                    r = c.request('Fetch', v, {
                        'replica_id': -1, 'max_wait_ms': 0, 'min_bytes': 1, 'max_bytes': 1000,
                        'isolation_level': isolation, 'session_epoch': -1, 'topics': [
                            {'topic_id' if v >= 13 else 'topic': topic, 'partitions': [part]}]})
                    p = r['responses'][0]['partitions'][0]
                    same((err(p['error_code']), p['aborted_transactions'],
                          p['last_stable_offset'], p['diverging_epoch']['end_offset']),
                         ('NONE', None, 2, 2), 'Fetch %d, isolation %d: diverging' % (v, isolation))
            # a session answers what is new in the shape of the request that asks for it
            if v >= 7:
                sid = session_fetch(c, topic, [(0, 2)], version=v, isolation=1)['session_id']
                for epoch, isolation in ((1, 0), (2, 1)):
                    r = session_fetch(c, topic, [(0, 0)], sid, epoch, v, isolation=isolation)
                    same(r['responses'][0]['partitions'][0]['aborted_transactions'],
                         [] if isolation else None,
                         'Fetch %d, isolation %d in a session' % (v, isolation))
                session_fetch(c, topic, [], sid, -1, v)


def duplicates():
    with Client() as c:
        name, _ = make_topic(c, partitions=2)
        produce(c, name, batch([b'a']))
        produce(c, name, batch([b'b']))
        r = session_fetch(c, name, [(0, 0), (1, 0), (0, 1)], epoch=-1)
        same(answered(r), ('NONE', [(0, 1, 'NONE'), (1, 0, 'NONE')]),
             'a partition named twice: once, with what was said last')


def deleted_while_waiting():
    with Client() as c, Client() as other:
        for v in (12, 13):
            name, topic_id = make_topic(c)
            part = {'partition': 0, 'fetch_offset': 0, 'partition_max_bytes': 1000,
                    'current_leader_epoch': -1, 'log_start_offset': -1}
            start = time.monotonic()
            c.send('Fetch', v, {'replica_id': -1, 'max_wait_ms': 20000, 'min_bytes': 1,
                                'max_bytes': 1000, 'session_epoch': -1, 'topics': [
                                    {'topic_id' if v >= 13 else 'topic':
                                     topic_id if v >= 13 else name, 'partitions': [part]}]})
            time.sleep(0.2)
            other.request('DeleteTopics', 5, {'topic_names': [name], 'timeout_ms': 10000})
            r = c.receive('Fetch', v)
            code = err(r['responses'][0]['partitions'][0]['error_code'])
            ok(code in ('UNKNOWN_TOPIC_OR_PARTITION', 'UNKNOWN_TOPIC_ID', 'NOT_LEADER_OR_FOLLOWER'),
               'Fetch %d of a topic that is deleted meanwhile: %s' % (v, code))
            ok(time.monotonic() - start < 15, 'Fetch %d: at once' % v)


def epochs():
    with Client() as c:
        name, topic_id = make_topic(c)
        produce(c, name, batch([b'a', b'b']))
        produce(c, name, batch([b'c']))
        current = list_offset(c, name, -1)['leader_epoch']
        for v in every_version('OffsetForLeaderEpoch'):
            def ask(epoch, partition=0, topic=name, believed=-1):
                r = c.request('OffsetForLeaderEpoch', v, {'replica_id': -1, 'topics': [
                    {'topic': topic, 'partitions': [
                        {'partition': partition, 'current_leader_epoch': believed,
                         'leader_epoch': epoch}]}]})
                p = r['topics'][0]['partitions'][0]
                return err(p['error_code']), p['leader_epoch'], p['end_offset']
            tag = 'OffsetForLeaderEpoch %d: ' % v
            same(ask(current), ('NONE', current, 3), tag + 'the current epoch')
            same(ask(current, believed=current), ('NONE', current, 3), tag + 'believed too')
            same(ask(current + 1), ('NONE', -1, -1), tag + 'one to come')
            same(ask(-1), ('NONE', -1, -1), tag + 'none')
            same(ask(current, believed=current + 1)[0], 'UNKNOWN_LEADER_EPOCH', tag + 'believed')
            same(ask(current, 1), ('UNKNOWN_TOPIC_OR_PARTITION', -1, -1), tag + 'no partition')
            same(ask(current, 0, 'none-such'), ('UNKNOWN_TOPIC_OR_PARTITION', -1, -1),
                 tag + 'no topic')
        for v in range(12, every_version('Fetch')[-1] + 1):
            def ask(epoch, offset):
                part = {'partition': 0, 'fetch_offset': offset, 'partition_max_bytes': 1000,
                        'current_leader_epoch': -1, 'log_start_offset': -1,
                        'last_fetched_epoch': epoch}
                r = c.request('Fetch', v, {
                    'replica_id': -1, 'max_wait_ms': 0, 'min_bytes': 1, 'max_bytes': 1000,
                    'session_epoch': -1, 'topics': [
                        {'topic_id' if v >= 13 else 'topic': topic_id if v >= 13 else name,
                         'partitions': [part]}]})
                p = r['responses'][0]['partitions'][0]
                return (err(p['error_code']), len(batches(p['records'] or b'')),
                        p['diverging_epoch'].get('epoch', -1),
                        p['diverging_epoch'].get('end_offset', -1))
            same(ask(current, 2), ('NONE', 1, -1, -1), 'Fetch %d: the epoch is right' % v)
            same(ask(current, 4), ('NONE', 0, current, 3), 'Fetch %d: diverging' % v)
            same(ask(current + 1, 1), ('OFFSET_OUT_OF_RANGE', 0, -1, -1),
                 'Fetch %d: an epoch to come' % v)
        for v in range(9, every_version('Fetch')[-1] + 1):
            if current == 0:
                break           # there is no older one
            p = fetch(c, topic_id if v >= 13 else name, 0, version=v,
                      current_leader_epoch=current - 1)
            same(err(p['error_code']), 'FENCED_LEADER_EPOCH', 'Fetch %d: an old epoch' % v)


def list_offsets():
    with Client() as c:
        name, _ = make_topic(c, partitions=2)
        times = [1000, 3000, 2000, 5000, 5000, 4000]
        for t in times:
            produce(c, name, batch([b'a', b'b'], timestamp=t))
        for v in every_version('ListOffsets'):
            def ask(timestamp, partition=0):
                p = list_offset(c, name, timestamp, partition, version=v)
                return err(p['error_code']), p['offset'], p['timestamp']
            tag = 'ListOffsets %d: ' % v
            same(ask(-1), ('NONE', 12, -1), tag + 'latest')
            same(ask(-2), ('NONE', 0, -1), tag + 'earliest')
            same(ask(-1, 1), ('NONE', 0, -1), tag + 'latest of an empty partition')
            same(ask(1), ('NONE', 0, 1000), tag + 'before all')
            same(ask(1000), ('NONE', 0, 1000), tag + 'the first')
            same(ask(1001), ('NONE', 2, 3000), tag + 'after the first')
            same(ask(3001), ('NONE', 6, 5000), tag + 'not what is older, though later')
            same(ask(5000), ('NONE', 6, 5000), tag + 'the last')
            same(ask(5001), ('NONE', -1, -1), tag + 'after all')
            same(ask(1, 1), ('NONE', -1, -1), tag + 'by time in an empty partition')
            for timestamp, since, expected in ((-3, 7, ('NONE', 6, 5000)), (-4, 8, ('NONE', 0, -1)),
                                               (-5, 9, ('NONE', -1, -1)),
                                               (-6, 11, ('NONE', -1, -1)), (-7, 99, None),
                                               (-100, 99, None)):
                same(ask(timestamp), expected if v >= since else ('UNSUPPORTED_VERSION', -1, -1),
                     tag + 'timestamp %d' % timestamp)
            same(ask(-1, 5)[0], 'UNKNOWN_TOPIC_OR_PARTITION', tag + 'no such partition')
            same(ask(-1, -1)[0], 'UNKNOWN_TOPIC_OR_PARTITION', tag + 'partition -1')
            if v >= 4:
                p = list_offset(c, name, -1, version=v)
                ok(p['leader_epoch'] >= 0, tag + 'leader epoch')
                p = list_offset(c, name, -1, version=v, current_leader_epoch=1000)
                same(err(p['error_code']), 'UNKNOWN_LEADER_EPOCH', tag + 'an epoch to come')
            if v >= 7:
                same(list_offset(c, name, -3, 1, version=v)['offset'], -1,
                     tag + 'greatest timestamp of an empty partition')
        p = list_offset(c, 'none-such', -1)
        same(err(p['error_code']), 'UNKNOWN_TOPIC_OR_PARTITION', 'no such topic')
        r = c.request('ListOffsets', 7, {'replica_id': -1, 'topics': [
            {'name': name, 'partitions': [{'partition_index': 0, 'timestamp': -1},
                                          {'partition_index': 0, 'timestamp': -2}]}]})
        same({err(p['error_code']) for p in r['topics'][0]['partitions']}, {'INVALID_REQUEST'},
             'a partition named twice')


def within_a_batch_by_time():
    with Client() as c:
        from kwire import record
        name, _ = make_topic(c)
        payload = b''.join(record(i, None, b'x', d) for i, d in enumerate((0, 10, 5, 20)))
        produce(c, name, batch([b'x'] * 4, timestamp=1000, max_timestamp=1020, payload=payload))
        for t, expected in ((1000, (0, 1000)), (1001, (1, 1010)), (1010, (1, 1010)),
                            (1011, (3, 1020)), (1021, (-1, -1)), (-3, (3, 1020))):
            p = list_offset(c, name, t)
            same((p['offset'], p['timestamp']), expected, 'time %d in a batch' % t)


main(versions, limits, inside_a_batch, waiting, sessions, aborted_transactions, duplicates,
     deleted_while_waiting, epochs, list_offsets, within_a_batch_by_time)
