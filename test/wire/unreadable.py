"""Partition 1 of topic "hurt" has something on its disk that cannot be read; partition 0 has not."""
import time

from kmember import until
from ktap import answered, fetch, list_offset, main, ok, produce, same, session_fetch
from kwire import Client, batch, batches, err

RECORDS = 400                   # of partition 1, a batch each
BESIDE = [(True, 'NONE'), (False, 'KAFKA_STORAGE_ERROR')]


def at(c, offset, version=11):
    return fetch(c, 'hurt', offset, partition=1, version=version)


def reads_on(c, offset):
    """Reads partition 1 as far as it goes; the next offset, and the error that ended it."""
    while offset < RECORDS:
        r = at(c, offset)
        if r['error_code']:
            return offset, err(r['error_code'])
        found = batches(r['records'] or b'')
        if found:
            offset = found[-1]['base_offset'] + found[-1]['last_offset_delta'] + 1
    return offset, 'NONE'


def read_both(c, offset):
    """One fetch of both partitions: was anything read, and what is told of each?"""
    return [(n > 0, e) for p, n, e in answered(session_fetch(c, 'hurt', [(0, 0), (1, offset)]))[1]]


def page():
    c = Client()
    began = time.monotonic()
    bad, error = reads_on(c, 0)
    same(error, 'KAFKA_STORAGE_ERROR', 'what is before the page can be read, then there is an error')
    ok(0 < bad < RECORDS, 'at offset %d' % bad)
    ok(time.monotonic() - began < 20, 'soon')
    same(err(at(c, bad, version=5)['error_code']), 'NOT_LEADER_OR_FOLLOWER', 'in old words for old clients')
    ok(until(lambda: read_both(c, bad) == BESIDE), 'the other partition is read beside it')
    for behind in range(bad + 1, RECORDS):
        if reads_on(c, behind)[1] == 'NONE':
            break
    ok(behind < bad + 40, 'what is behind it can be read, from %d on' % behind)
    same(produce(c, 'hurt', batch([b'new']), partition=1)['error_code'], 0, 'and more can be written')
    time.sleep(1.2)
    same(reads_on(c, bad), (bad, 'KAFKA_STORAGE_ERROR'), 'a second later it is tried again')


def header():
    c = Client()
    ok(until(lambda: err(at(c, 0)['error_code']) == 'KAFKA_STORAGE_ERROR'), 'nothing can be read')
    ok(until(lambda: read_both(c, 0) == BESIDE), 'but the other partition, beside it')
    same(err(list_offset(c, 'hurt', -1, partition=1)['error_code']), 'KAFKA_STORAGE_ERROR',
         'it has no offsets')
    same(list_offset(c, 'hurt', -1, partition=0)['error_code'], 0, 'the other has')
    r = c.request('OffsetForLeaderEpoch', 4, {'replica_id': -1, 'topics': [
        {'topic': 'hurt', 'partitions': [
            {'partition': p, 'current_leader_epoch': -1, 'leader_epoch': 0} for p in (0, 1)]}]})
    same([err(p['error_code']) for p in r['topics'][0]['partitions']],
         ['NONE', 'KAFKA_STORAGE_ERROR'], 'nor epochs')
    same(err(produce(c, 'hurt', batch([b'x']), partition=1)['error_code']), 'KAFKA_STORAGE_ERROR',
         'nothing can be written')
    same(produce(c, 'hurt', batch([b'x']), partition=0)['error_code'], 0, 'there it can')


def mended():
    c = Client()
    ok(until(lambda: reads_on(c, 0)[0] >= RECORDS, 5), 'all can be read again')
    same(list_offset(c, 'hurt', -1, partition=1)['offset'], RECORDS + 1, 'nothing is lost')


main(page, header, mended)
