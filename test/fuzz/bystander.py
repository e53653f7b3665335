#!/usr/bin/python3 -B
"""bystander.py TOPIC: a well-behaved producer and a consumer, whose experience is measured.

Works until a line arrives on the standard input; each line before that, "mark NAME", begins a new phase.
Every record is numbered. The journal of what was acknowledged is kept here, outside the server, and
compared with what the consumer has got: all of it, in order, once. Prints what is wrong, one
line each that begins with "problem: ", and for each phase how long acknowledgements took.
"""
import os
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

SILENCE = 10                # seconds without an answer that are too many
PACE = 0.004

topic = sys.argv[1]
conf = {'bootstrap.servers': os.environ['KAFKA_BOOTSTRAP'], 'socket.timeout.ms': 10000,
        'client.id': 'bystander'}
problems = []
phases = [('quiet', [])]
acknowledged = {}           # offset: number
received = []               # (offset, number)
state = {'answered': time.monotonic(), 'consumed': time.monotonic(), 'stop': False, 'flushed': False,
         'waiting': 0}


def problem(text):
    if len(problems) < 20:
        problems.append(text)


def on_error(error):
    # an idle connection that is closed, or one of two addresses that does not listen, is no harm
    if error.code() in (KafkaError._TRANSPORT, KafkaError._RESOLVE):
        return
    problem('client: %s' % error)


def consume():
    c = Consumer({**conf, 'group.id': 'bystander', 'enable.auto.commit': False, 'error_cb': on_error,
                  'fetch.wait.max.ms': 100})
    c.assign([TopicPartition(topic, 0, 0)])
    last_check = 0
    while True:
        for m in c.consume(500, 0.2):
            if m.error():
                problem('consumer: %s' % m.error())
                continue
            received.append((m.offset(), int(m.value().split()[0])))
            state['consumed'] = time.monotonic()
        now = time.monotonic()
        behind = len(acknowledged) > len(received)
        if behind and now - state['consumed'] > SILENCE and now - last_check > SILENCE:
            problem('consumer: nothing for %d s' % (now - state['consumed']))
            last_check = now
        if state['flushed'] and (not behind or now - state['consumed'] > 3 * SILENCE):
            break
    c.close()


def produce():
    p = Producer({**conf, 'acks': 'all', 'enable.idempotence': True, 'linger.ms': 0,
                  'message.timeout.ms': SILENCE * 1000, 'error_cb': on_error})
    number = 0

    def delivered(error, message, n, sent, phase):
        now = time.monotonic()
        state['waiting'] -= 1
        state['answered'] = now
        if error is not None:
            problem('record %d: %s' % (n, error))
            return
        if message.offset() in acknowledged:
            problem('offset %d acknowledged twice' % message.offset())
        acknowledged[message.offset()] = n
        phase.append(now - sent)

    while not state['stop']:
        number += 1
        phase = phases[-1][1]
        sent = time.monotonic()
        size = (10, 100, 1000, 20000)[number % 4 if number % 16 == 3 else number % 3]
        if state['waiting'] == 0:
            state['answered'] = sent
        state['waiting'] += 1
        p.produce(topic, b'%d ' % number + b'x' * size, partition=0,
                  on_delivery=lambda e, m, n=number, s=sent, ph=phase: delivered(e, m, n, s, ph))
        p.poll(PACE)
        if time.monotonic() - state['answered'] > SILENCE:
            problem('producer: no answer for %d s' % SILENCE)
            state['answered'] = time.monotonic()
    if p.flush(3 * SILENCE):
        problem('%d records without an answer at the end' % len(p))
    state['flushed'] = True


def verify():
    got = dict(received)
    if len(got) != len(received):
        problem('the consumer got an offset twice')
    if [o for o, _ in received] != sorted(got):
        problem('the consumer got offsets out of order')
    for offset, number in sorted(acknowledged.items()):
        if got.get(offset) != number:
            problem('record %d was acknowledged at offset %d, where the consumer found %s'
                    % (number, offset, got.get(offset)))
    numbers = [n for _, n in sorted(received)]
    if numbers != sorted(set(numbers)):
        problem('records are out of order, or there twice')


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] * 1000


def main():
    workers = [threading.Thread(target=f) for f in (consume, produce)]
    for w in workers:
        w.start()
    print('ready', flush=True)
    for line in sys.stdin:
        if not line.startswith('mark '):
            break
        phases.append((line.split(None, 1)[1].strip(), []))
    state['stop'] = True
    for w in workers:
        w.join()
    verify()
    for p in problems:
        print('problem: ' + p)
    for name, latencies in phases:
        if latencies:
            print('%s: %d records, acknowledged after %.1f ms (median), %.1f ms (99 %%), %.1f ms (all)'
                  % (name, len(latencies), percentile(latencies, 0.5), percentile(latencies, 0.99),
                     percentile(latencies, 1)))
        else:
            print('problem: nothing was acknowledged in phase "%s"' % name)
    print('%d records acknowledged, %d received' % (len(acknowledged), len(received)), flush=True)


main()
