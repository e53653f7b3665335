"""Leader epochs that have passed: where each ends, who is behind, and who has read what was lost.

test/t/058_wire_epochs.t promotes servers between the functions named write_*.  What they wrote is
remembered in the file KWIRE_STATE: where each epoch begins in each partition of topic "e", and
where the partition ends.  The record at offset n of a partition has the timestamp n * 1000.
"""
import json

import psycopg2

from ktap import *
from kwire import record, values

TOPIC = 'e'
BATCHES = 60
LATEST = {name: every_version(name)[-1] for name in ('Fetch', 'ListOffsets', 'OffsetForLeaderEpoch')}


class State:
    def __init__(self):
        self.path = os.environ['KWIRE_STATE']
        if os.path.exists(self.path):
            with open(self.path) as f:
                self.partitions = json.load(f)
        else:
            self.partitions = [{'starts': [], 'end': 0} for _ in range(4)]

    def save(self):
        with open(self.path, 'w') as f:
            json.dump(self.partitions, f)

    def epoch_end(self, partition, epoch, current):
        """What OffsetForLeaderEpoch is to answer."""
        starts, end = self.partitions[partition]['starts'], self.partitions[partition]['end']
        if epoch == -1 or epoch > current:
            return -1, -1
        if epoch == current:
            return epoch, end
        later = [first for e, first in starts if e > epoch]
        known = [e for e, _ in starts if e <= epoch]
        return max(known, default=epoch), min(later, default=end)

    def epoch_at(self, partition, offset):
        return max(e for e, first in self.partitions[partition]['starts'] if first <= offset)


def current_epoch(c):
    return list_offset(c, TOPIC, -1, version=LATEST['ListOffsets'])['leader_epoch']


def append(c, state, partition, epoch, n=BATCHES, save=True):
    """n batches of two records."""
    part = state.partitions[partition]
    end = part['end']
    for _ in range(n):
        payload = b''.join(record(i, None, b'%d' % (end + i) + b'.' * 10000, i * 1000)
                           for i in (0, 1))
        p = produce(c, TOPIC, batch([b''] * 2, timestamp=end * 1000,
                                    max_timestamp=(end + 1) * 1000, payload=payload), partition)
        if (p['error_code'], p['base_offset']) != (0, end):
            raise RuntimeError('append: %r instead of %d' % (p, end))
        end += 2
    if save:
        if not part['starts'] or part['starts'][-1][0] != epoch:
            part['starts'].append([epoch, part['end']])
        part['end'] = end


def write(*partitions):
    with Client() as c:
        state = State()
        epoch = current_epoch(c)
        for partition in partitions:
            append(c, state, partition, epoch)
        before = {e for p in state.partitions for e, _ in p['starts'] if e != epoch}
        ok(all(e < epoch for e in before), 'epoch %d is later than all before' % epoch)
        state.save()


def write_first():
    write(0, 1)


def write_second():
    write(0)


def write_third():
    write(0, 1, 3)


def write_lost():
    """Acknowledged by a primary whose standby is away, and read by somebody."""
    with Client() as c:
        state = State()
        append(c, state, 0, current_epoch(c), 3, save=False)
        end = state.partitions[0]['end']
        p = fetch(c, TOPIC, end)
        same(p['high_watermark'], end + 6, 'records that will be lost are read')


def promoted_while_asked():
    """Epochs that clients see while a standby becomes a primary: the old one, then the new one."""
    sql = psycopg2.connect('')
    sql.autocommit = True
    cur = sql.cursor()
    seen = []
    clients = [Client() for _ in range(8)]
    try:
        for c in clients:
            seen.append(current_epoch(c))
        cur.execute('SELECT pg_promote(wait => false)')
        for _ in range(20000):
            for i, c in enumerate(clients):
                try:
                    seen.append(current_epoch(c))
                except Closed:
                    c.close()
                    clients[i] = Client()
            if seen[-1] > seen[0]:
                break
            time.sleep(0.005)
    finally:
        for c in clients:
            c.close()
        sql.close()
    same(sorted(set(seen)), [seen[0], seen[0] + 1], 'one epoch later')
    same(seen, sorted(seen), 'never back')


def after_loss():
    """Whoever has read them is told where to go back to, before and after others took their place."""
    with Client() as c:
        state = State()
        current = current_epoch(c)
        end = state.partitions[0]['end']
        old = state.epoch_at(0, end - 1)
        ok(old < current, 'the standby leads in a later epoch')
        for v in range(12, LATEST['Fetch'] + 1):
            for offset in (end + 1, end + 2, end + 6):
                same(fetch_after(c, 0, old, offset, v), ('NONE', None, (old, end)),
                     'Fetch %d of what was lost, from offset %d' % (v, offset))
        append(c, state, 0, current, 4)
        state.save()
        for v in range(12, LATEST['Fetch'] + 1):
            for offset in (end + 1, end + 2, end + 6, end + 8, end + 100):
                same(fetch_after(c, 0, old, offset, v), ('NONE', None, (old, end)),
                     'Fetch %d of what others took the place of, from %d' % (v, offset))
            same(fetch_after(c, 0, old, end, v), ('NONE', end, None),
                 'Fetch %d from where it was lost' % v)
        for v in every_version('OffsetForLeaderEpoch'):
            same(epoch_end(c, 0, old, v), ('NONE', old, end),
                 'OffsetForLeaderEpoch %d: where the old primary was left' % v)


def fetch_after(c, partition, epoch, offset, version, believed=-1):
    """Error, first record's offset, and the diverging epoch with its end."""
    _, topic_id = topic_ids(c)
    part = {'partition': partition, 'fetch_offset': offset, 'partition_max_bytes': 1000,
            'current_leader_epoch': believed, 'log_start_offset': -1, 'last_fetched_epoch': epoch}
    r = c.request('Fetch', version, {
        'replica_id': -1, 'max_wait_ms': 0, 'min_bytes': 1, 'max_bytes': 1000, 'session_epoch': -1,
        'topics': [{'topic_id' if version >= 13 else 'topic': topic_id if version >= 13 else TOPIC,
                    'partitions': [part]}]})
    return fetched(r)


def fetched(r):
    p = r['responses'][0]['partitions'][0]
    records = [o for o, _ in values(p['records'] or b'')]
    diverging = p['diverging_epoch']
    return (err(p['error_code']), records[0] if records else None,
            (diverging['epoch'], diverging['end_offset']) if diverging.get('epoch', -1) >= 0 else None)


_ids = []


def topic_ids(c):
    if not _ids:
        r = c.request('Metadata', 12, {'topics': [{'name': TOPIC}],
                                       'allow_auto_topic_creation': False})
        _ids.append((TOPIC, r['topics'][0]['topic_id']))
    return _ids[0]


def epoch_end(c, partition, epoch, version, believed=-1):
    r = c.request('OffsetForLeaderEpoch', version, {'replica_id': -1, 'topics': [
        {'topic': TOPIC, 'partitions': [{'partition': partition, 'leader_epoch': epoch,
                                         'current_leader_epoch': believed}]}]})
    p = r['topics'][0]['partitions'][0]
    return err(p['error_code']), p['leader_epoch'], p['end_offset']


def ends():
    """OffsetForLeaderEpoch for every epoch that was, of partitions that have some, all or none."""
    with Client() as c:
        state = State()
        current = current_epoch(c)
        for v in every_version('OffsetForLeaderEpoch'):
            for partition in range(4):
                for epoch in range(-1, current + 2):
                    same(epoch_end(c, partition, epoch, v),
                         ('NONE',) + state.epoch_end(partition, epoch, current),
                         'OffsetForLeaderEpoch %d: epoch %d in partition %d' % (v, epoch, partition))


def diverging():
    with Client() as c:
        state = State()
        current = current_epoch(c)
        for v in (12, 13, LATEST['Fetch']):
            for partition in range(4):
                for epoch in range(current + 1):
                    found, end = state.epoch_end(partition, epoch, current)
                    tag = 'Fetch %d, partition %d, last epoch %d: ' % (v, partition, epoch)
                    offsets = {end - 1, end, end + 1, end + 50, 0}
                    for offset in sorted(o for o in offsets if o >= 0):
                        if found < epoch or offset > end:
                            expected = ('NONE', None, (found, end))
                        elif offset == state.partitions[partition]['end']:
                            expected = ('NONE', None, None)
                        else:
                            expected = ('NONE', offset - offset % 2, None)
                        same(fetch_after(c, partition, epoch, offset, v), expected,
                             tag + 'offset %d' % offset)


def believed():
    """Clients that believe in an epoch that is over, or not yet begun."""
    with Client() as c:
        state = State()
        current = current_epoch(c)
        end = state.partitions[0]['end']
        wrong = {e: 'FENCED_LEADER_EPOCH' for e in range(current)}
        wrong.update({current + 1: 'UNKNOWN_LEADER_EPOCH', 1 << 30: 'UNKNOWN_LEADER_EPOCH'})
        ok(current >= 2, 'there are older epochs: %d' % current)
        for epoch, error in wrong.items():
            for v in every_version('OffsetForLeaderEpoch'):
                same(epoch_end(c, 0, 0, v, epoch), (error, -1, -1),
                     'OffsetForLeaderEpoch %d with epoch %d' % (v, epoch))
            for v in every_version('ListOffsets')[3:]:
                p = list_offset(c, TOPIC, -1, version=v, current_leader_epoch=epoch)
                same((err(p['error_code']), p['offset'], p['leader_epoch']), (error, -1, -1),
                     'ListOffsets %d with epoch %d' % (v, epoch))
            for v in range(9, LATEST['Fetch'] + 1):
                topic = topic_ids(c)[v >= 13]
                p = fetch(c, topic, 0, version=v, current_leader_epoch=epoch)
                same((err(p['error_code']), p['high_watermark'], p['records']), (error, -1, b''),
                     'Fetch %d with epoch %d' % (v, epoch))
                leader = p['current_leader']
                fenced = v >= 16 and epoch < current
                same((leader.get('leader_id', -1), leader.get('leader_epoch', -1)),
                     (1, current) if fenced else (-1, -1),
                     'Fetch %d with epoch %d: the leader' % (v, epoch))
            for v in range(12, LATEST['Fetch'] + 1):
                same(fetch_after(c, 0, 0, end, v, epoch), (error, None, None),
                     'Fetch %d with epoch %d, before anything diverges' % (v, epoch))
        part = {'partition': 0, 'fetch_offset': 0, 'current_leader_epoch': 0,
                'log_start_offset': -1, 'partition_max_bytes': 1000}
        r = c.request('Fetch', LATEST['Fetch'], {
            'replica_id': -1, 'max_wait_ms': 0, 'min_bytes': 1, 'max_bytes': 1000,
            'session_epoch': -1, 'topics': [{'topic_id': topic_ids(c)[1], 'partitions': [part]}]})
        host, port = os.environ['KAFKA_BOOTSTRAP'].rsplit(':', 1)
        same([(n['node_id'], n['host'], n['port']) for n in r['node_endpoints']],
             [(1, host, int(port))], 'and where to find it')
        same(epoch_end(c, 0, 0, 4, current)[0], 'NONE', 'the current epoch is right')
        same(fetch(c, TOPIC, 0, current_leader_epoch=current)['error_code'], 0, 'for fetches too')


def times():
    """ListOffsets by time: pages anywhere in the partition, and the epoch of what is found."""
    with Client() as c:
        state = State()
        for partition in (0, 1, 3):
            end = state.partitions[partition]['end']
            for n in sorted({0, 1, 2, end // 2, end - 2, end - 1} | set(range(0, end, 17))):
                p = list_offset(c, TOPIC, n * 1000 - 500, partition,
                                LATEST['ListOffsets']) if n else \
                    list_offset(c, TOPIC, 0, partition, LATEST['ListOffsets'])
                same((p['offset'], p['timestamp'], p['leader_epoch']),
                     (n, n * 1000, state.epoch_at(partition, n)),
                     'partition %d, time of record %d' % (partition, n))
            p = list_offset(c, TOPIC, end * 1000, partition, LATEST['ListOffsets'])
            same((p['offset'], p['timestamp'], p['leader_epoch']), (-1, -1, -1),
                 'partition %d, after the last' % partition)
            p = list_offset(c, TOPIC, -3, partition, LATEST['ListOffsets'])
            same((p['offset'], p['timestamp'], p['leader_epoch']),
                 (end - 1, (end - 1) * 1000, state.epoch_at(partition, end - 1)),
                 'partition %d, greatest timestamp' % partition)
            p = list_offset(c, TOPIC, -2, partition, LATEST['ListOffsets'])
            same((p['offset'], p['leader_epoch']), (0, state.epoch_at(partition, 0)),
                 'partition %d, earliest' % partition)


def parked():
    """Pages on disk: who needs them waits for the readers, and nobody else does."""
    sql = psycopg2.connect('')
    sql.autocommit = True
    cur = sql.cursor()
    state = State()
    clients = [Client(timeout=60) for _ in range(4)]
    with Client() as other:
        # what the partition is like is known, but not all of its pages are in memory
        current = current_epoch(other)
        old = state.epoch_at(0, 0)
        found, old_end = state.epoch_end(0, old, current)
        cur.execute("SELECT kafka_test.stop_arm('klog-reader-begin')")
        version = LATEST['ListOffsets']

        for client, n in zip(clients, (50, 130)):
            client.send('ListOffsets', version, {'replica_id': -1, 'topics': [
                {'name': TOPIC, 'partitions': [{'partition_index': 0, 'timestamp': n * 1000,
                                                'current_leader_epoch': -1}]}]})
        clients[2].send('OffsetForLeaderEpoch', 4, {'replica_id': -1, 'topics': [
            {'topic': TOPIC, 'partitions': [{'partition': 0, 'leader_epoch': old,
                                             'current_leader_epoch': -1}]}]})
        clients[3].send('Fetch', 12, {
            'replica_id': -1, 'max_wait_ms': 60000, 'min_bytes': 1, 'max_bytes': 1000,
            'session_epoch': -1, 'topics': [{'topic': TOPIC, 'partitions': [
                {'partition': 0, 'fetch_offset': old_end + 1, 'partition_max_bytes': 1000,
                 'current_leader_epoch': -1, 'log_start_offset': -1,
                 'last_fetched_epoch': old}]}]})
        cur.execute("SELECT kafka_test.stop_await('klog-reader-begin')")
        ports = [c.sock.getsockname()[1] for c in clients]
        for _ in range(200):
            cur.execute('SELECT client_port, requests, parked_requests, bytes_sent'
                        ' FROM kafka.stat_connection WHERE client_port = ANY (%s)', (ports,))
            waiting = [row[1:] for row in sorted(cur, key=lambda row: ports.index(row[0]))]
            if waiting == [(1, 1, 0)] * 4:
                break
            time.sleep(0.05)
        same(waiting, [(1, 1, 0)] * 4, 'four requests wait for pages')
        start = time.monotonic()
        for _ in range(300):
            list_offset(other, TOPIC, -1, version=version)
            other.request('Metadata', 9, {'topics': []})
        name, _ = make_topic(other)
        same(produce(other, name, batch([b'x']))['error_code'], 0, 'others are served meanwhile')
        ok(time.monotonic() - start < 20, 'at once')
        cur.execute("SELECT kafka_test.stop_release('klog-reader-begin')")

        for client, n in zip(clients, (50, 130)):
            p = client.receive('ListOffsets', version)['topics'][0]['partitions'][0]
            same((err(p['error_code']), p['offset'], p['timestamp'], p['leader_epoch']),
                 ('NONE', n, n * 1000, state.epoch_at(0, n)), 'then the time of %d is found' % n)
        p = clients[2].receive('OffsetForLeaderEpoch', 4)['topics'][0]['partitions'][0]
        same((err(p['error_code']), p['leader_epoch'], p['end_offset']), ('NONE', found, old_end),
             'and where an epoch ends')
        same(fetched(clients[3].receive('Fetch', 12)), ('NONE', None, (found, old_end)),
             'and that a fetch diverges')
    for c in clients:
        c.close()
    sql.close()


if len(sys.argv) < 2:
    sys.exit('name the functions to run')
main(write_first, write_second, write_third, write_lost, promoted_while_asked, after_loss, ends,
     diverging, believed, times, parked)
