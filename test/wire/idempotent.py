"""Sends batches of an idempotent producer, one record each, and prints what is answered.

	idempotent.py TOPIC PRODUCER FIRST COUNT [BYTES]

Sequences FIRST to FIRST + COUNT - 1; a line "error offset" for each.  Errors by which a server that has
just started asks for another try are tried again.
"""
import sys
import time

from kwire import Client, Closed, batch, err
from ktap import produce

AGAIN = ('UNKNOWN_TOPIC_OR_PARTITION', 'LEADER_NOT_AVAILABLE', 'NOT_LEADER_OR_FOLLOWER',
         'COORDINATOR_LOAD_IN_PROGRESS', 'REQUEST_TIMED_OUT', 'NOT_ENOUGH_REPLICAS')


def connect():
    for _ in range(300):
        try:
            return Client()
        except OSError:
            time.sleep(0.1)
    raise RuntimeError('nobody listens')


def send(topic, producer, sequence, size):
    data = batch([b'%06d' % sequence + bytes(size)], producer_id=producer, producer_epoch=0,
                 base_sequence=sequence)
    for _ in range(300):
        try:
            with connect() as c:
                c.request('ApiVersions', 0)     # a first frame may not be large
                answer = produce(c, topic, data)
        except Closed:
            time.sleep(0.1)
            continue
        if err(answer['error_code']) not in AGAIN:
            return err(answer['error_code']), answer['base_offset']
        time.sleep(0.1)
    raise RuntimeError('no answer but ' + err(answer['error_code']))


def main(topic, producer, first, count, size=0):
    for sequence in range(int(first), int(first) + int(count)):
        print('%s %d' % send(topic, int(producer), sequence, int(size)), flush=True)


main(*sys.argv[1:])
