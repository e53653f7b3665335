"""kafka-consumer-groups, kafka-console-consumer --group and kafka-verifiable-consumer.

What is expected is what they say of Apache Kafka, which this runs against as well.
"""
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from tool import SERVER, Running, report, tool

sys.path.insert(0, '../../wire')

from kwire import Client

TOPIC, OTHER = 'tools-groups', 'tools-groups-other'
START = 1700000000		# of the first record, seconds; a record a second
RECORDS, PARTITIONS = 30, 3


def groups(*args, status=0):
    return tool('kafka-consumer-groups', *args, status=status)


def rows(out):
    """The lines of a table, with ids that are new each time left out."""
    lines = [line.split() for line in out.splitlines() if line.strip()]
    while lines and lines[0][:1] not in (['GROUP'], ['TOPIC']):
        lines.pop(0)
    return sorted([re.sub(r'[0-9a-f]{8}-[0-9a-f-]{27}', 'UUID', word) for word in line]
                  for line in lines[1:])


def describe(group, *args):
    return rows(groups('--describe', '--group', group, *args))


def together(*calls):
    """Several commands at a time; what each returned."""
    with ThreadPoolExecutor(3) as pool:
        return [future.result() for future in [pool.submit(*call) for call in calls]]


def write():
    """By the wire, since records need timestamps: record i is in partition i % 3 at START + i seconds."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic
    config = {'bootstrap.servers': SERVER, 'log_level': 0}
    admin = AdminClient(config)
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1), NewTopic(OTHER, 1, 1)],
                                      operation_timeout=30).values():
        future.result(30)
    producer = Producer(dict(config, **{'enable.idempotence': True}))
    for i in range(RECORDS):
        producer.produce(TOPIC, 'value %d' % i, partition=i % PARTITIONS, timestamp=1000 * (START + i))
    producer.produce(OTHER, 'value', partition=0)
    producer.flush(30)


def consume(group, count, *args):
    return sorted(tool('kafka-console-consumer', '--topic', TOPIC, '--group', group, '--max-messages',
                       str(count), '--timeout-ms', '60000', *args).splitlines())


def console():
    """A group that has left its offsets behind: tools-gone."""
    values = sorted('value %d' % i for i in range(RECORDS))
    got, other = together(
        (consume, 'tools-gone', RECORDS, '--from-beginning'),
        (tool, 'kafka-console-consumer', '--include', OTHER + '.*', '--group', 'tools-other',
         '--from-beginning', '--max-messages', '1'))
    report.same([v for v in got if v.startswith('value')], values, 'kafka-console-consumer --group')
    report.ok('value\n' in other, 'kafka-console-consumer --include')


def wait(until, what):
    deadline = time.monotonic() + 60
    while not until() and time.monotonic() < deadline:
        time.sleep(0.05)
    report.ok(until(), what)


def has(member):
    """The partitions that it has now."""
    now = set()
    for event in list(member.said):
        partitions = {p['partition'] for p in event.get('partitions', []) if p.get('topic') == TOPIC}
        if event['name'] == 'partitions_assigned':
            now |= partitions
        elif event['name'] == 'partitions_revoked':
            now -= partitions
    return now


def read(*members):
    """(partition, offset, value) of all that they read."""
    return sorted((r['partition'], r['offset'], r['value']) for m in members for r in m.named('record_data'))


def live(protocol):
    """A group with two members: tools-classic or tools-consumer."""
    group = 'tools-' + protocol
    args = ['--topic', TOPIC, '--group-id', group, '--group-protocol', protocol, '--reset-policy', 'earliest',
            '--verbose']
    session = ['--session-timeout', '6000'] if protocol == 'classic' else []
    a = Running('kafka-verifiable-consumer', *args, *session, '--group-instance-id', 'first')
    wait(lambda: len(read(a)) == RECORDS, 'kafka-verifiable-consumer, %s: reads all' % protocol)
    report.same(read(a), sorted((i % PARTITIONS, i // PARTITIONS, 'value %d' % i) for i in range(RECORDS)),
                'kafka-verifiable-consumer, %s: each record once' % protocol)
    b = Running('kafka-verifiable-consumer', *args, *session)
    wait(lambda: has(a) and has(b) and sorted([*has(a), *has(b)]) == [0, 1, 2],
         'kafka-verifiable-consumer, %s: a second member gets partitions' % protocol)
    wait(lambda: len(a.named('offsets_committed')) > 0 and len(rows(groups(
        '--describe', '--group', group, '--members'))) == 2, 'kafka-consumer-groups: both are there')

    offsets, verbose, members, all_members, state, all_state = together(
        (describe, group), (describe, group, '--offsets', '--verbose'), (describe, group, '--members'),
        (describe, group, '--members', '--verbose'), (describe, group, '--state'),
        (describe, group, '--state', '--verbose'))
    report.same([row[:6] for row in offsets], [[group, TOPIC, str(p), '10', '10', '0'] for p in range(3)],
                'kafka-consumer-groups --describe, ' + protocol)
    report.same([row[:3] + row[4:7] for row in verbose],
                [[group, TOPIC, str(p), '10', '10', '0'] for p in range(3)],
                'kafka-consumer-groups --describe --offsets --verbose, ' + protocol)
    report.ok(all(row[-2] == '/127.0.0.1' and row[-1].startswith('consumer-' + group) for row in offsets),
              'kafka-consumer-groups --describe: hosts and clients, ' + protocol)
    counts = sorted((row[2] if len(row) == 6 else '', row[-1]) for row in members)
    report.ok(counts in ([('', '1'), ('first', '2')], [('', '2'), ('first', '1')]),
              'kafka-consumer-groups --describe --members, ' + protocol)
    assigned = [re.findall(TOPIC + r':([\d,]+)', ' '.join(row)) for row in all_members]
    report.same(sorted(p for words in assigned for p in words[0].split(',')), ['0', '1', '2'],
                'kafka-consumer-groups --describe --members --verbose, ' + protocol)
    if protocol == 'consumer':
        report.ok(all(len(words) == 2 and words[0] == words[1] for words in assigned),
                  'kafka-consumer-groups --describe --members --verbose: what they have is what they should')
    assignor = 'range' if protocol == 'classic' else 'uniform'
    report.same(state, [[group, SERVER, '(1)', assignor, 'Stable', '2']],
                'kafka-consumer-groups --describe --state, ' + protocol)
    epochs = all_state[0][5:7]
    report.ok(epochs == ['-', '-'] if protocol == 'classic' else epochs[0] == epochs[1] and int(epochs[0]) > 1,
              'kafka-consumer-groups --describe --state --verbose, ' + protocol)

    refused, kept, deleted = together(
        (groups, '--reset-offsets', '--group', group, '--topic', TOPIC, '--to-earliest', '--execute'),
        (groups, '--delete-offsets', '--group', group, '--topic', TOPIC), (groups, '--delete', '--group', group))
    report.ok("Assignments can only be reset if the group '%s' is inactive, but the current state is Stable."
              % group in refused, 'kafka-consumer-groups --reset-offsets: refused while members live')
    report.ok(kept.count('GroupSubscribedToTopicException') == 3,
              'kafka-consumer-groups --delete-offsets: refused while members live')
    report.ok("Group '%s' could not be deleted due to: org.apache.kafka.common.errors.GroupNotEmptyException"
              % group in deleted, 'kafka-consumer-groups --delete: refused while members live')
    b.end()
    wait(lambda: has(a) == {0, 1, 2}, 'kafka-verifiable-consumer, %s: the first has all again' % protocol)
    a.end()
    report.same(read(b), [], 'kafka-verifiable-consumer, %s: nothing is read twice' % protocol)


def lists(protocols):
    names, states, stable, empty, types = together(
        (groups, '--list'), (groups, '--list', '--state'), (groups, '--list', '--state', 'Stable'),
        (groups, '--list', '--state', 'Empty'), (groups, '--list', '--type'))
    report.ok({'tools-gone', 'tools-other'} <= set(names.split()), 'kafka-consumer-groups --list')
    report.ok(['tools-gone', 'Empty'] in rows(states), 'kafka-consumer-groups --list --state')
    report.ok(['tools-gone', 'Empty'] not in rows(stable) and ['tools-gone', 'Empty'] in rows(empty),
              'kafka-consumer-groups --list --state STATE')
    report.ok(['tools-gone', 'Classic'] in rows(types) and
              all(['tools-' + p, p.capitalize()] in rows(types) for p in protocols), 'kafka-consumer-groups --list --type')
    report.same(describe('tools-gone'), [['tools-gone', TOPIC, str(p), '10', '10', '0', '-', '-', '-']
                                         for p in range(3)], 'kafka-consumer-groups --describe: without members')
    report.same(describe('tools-gone', '--state'), [['tools-gone', SERVER, '(1)', '-', 'Empty', '0']],
                'kafka-consumer-groups --describe --state: without members')
    out = groups('--describe', '--group', 'tools-nobody', '--members')
    report.ok('Group tools-nobody not found' in out or "group 'tools-nobody' does not exist" in out,
              'kafka-consumer-groups --describe: of no group')


def reset(*args):
    """New offsets by partition."""
    return [int(row[3]) for row in rows(groups('--reset-offsets', '--group', 'tools-gone', *args))]


def resets():
    here = ['--topic', TOPIC, '--execute']
    for args, wanted in ((['--to-earliest'], 0), (['--to-latest'], 10), (['--to-offset', '4'], 4),
                         (['--to-offset', '400'], 10), (['--shift-by', '-2'], 8), (['--shift-by', '-99'], 0),
                         (['--by-duration', 'PT1H'], 10)):
        report.same(reset(*here, *args), [wanted] * 3, 'kafka-consumer-groups --reset-offsets ' + ' '.join(args))
    when = time.strftime('%Y-%m-%dT%H:%M:%S.000', time.localtime(START + 10))
    report.same(reset(*here, '--to-datetime', when), [4, 3, 3], 'kafka-consumer-groups --reset-offsets --to-datetime')
    report.same(reset(*here, '--to-current'), [4, 3, 3], 'kafka-consumer-groups --reset-offsets --to-current')
    report.same(reset('--topic', TOPIC + ':1,2', '--to-offset', '9', '--dry-run'), [9, 9],
                'kafka-consumer-groups --reset-offsets --dry-run')
    out = groups('--reset-offsets', '--group', 'tools-gone', '--all-topics', '--to-current', '--export', '--dry-run')
    plan = sorted(line for line in out.splitlines() if line.startswith(TOPIC))
    report.same(plan, ['%s,%d,%d' % (TOPIC, p, o) for p, o in enumerate([4, 3, 3])],
                'kafka-consumer-groups --reset-offsets --export')
    with tempfile.NamedTemporaryFile('w', suffix='.csv') as file:
        file.write(''.join(line[:line.rindex(',')] + ',%d\n' % (p + 5) for p, line in enumerate(plan)))
        file.flush()
        report.same(reset('--from-file', file.name, '--execute'), [5, 6, 7],
                    'kafka-consumer-groups --reset-offsets --from-file')
    report.same([row[2:6] for row in describe('tools-gone')],
                [[str(p), str(p + 5), '10', str(5 - p)] for p in range(3)], 'kafka-consumer-groups --describe: the lag')
    wanted = sorted('value %d' % i for i in range(RECORDS) if i // PARTITIONS >= i % PARTITIONS + 5)
    report.same([v for v in consume('tools-gone', len(wanted)) if v.startswith('value')], wanted,
                'kafka-console-consumer --group: goes on from there')
    report.same(rows(groups('--reset-offsets', '--group', 'tools-new', '--topic', TOPIC, '--to-latest', '--execute')),
                [['tools-new', TOPIC, str(p), '10'] for p in range(3)],
                'kafka-consumer-groups --reset-offsets: of a group that is new')


def deletes(protocols):
    report.same(rows(groups('--delete-offsets', '--group', 'tools-gone', '--topic', TOPIC + ':0')),
                [[TOPIC, '0', 'Successful']], 'kafka-consumer-groups --delete-offsets')
    report.same([row[2] for row in describe('tools-gone')], ['1', '2'], 'kafka-consumer-groups: they are gone')
    out = groups('--delete-offsets', '--group', 'tools-gone', '--topic', 'tools-nothing')
    report.ok('UnknownTopicOrPartitionException' in out, 'kafka-consumer-groups --delete-offsets: of no topic')
    out = groups('--delete', '--group', 'tools-nobody')
    report.ok("Group 'tools-nobody' could not be deleted due to: "
              'org.apache.kafka.common.errors.GroupIdNotFoundException' in out,
              'kafka-consumer-groups --delete: of no group')
    names = ['tools-gone', 'tools-other', 'tools-new'] + ['tools-' + p for p in protocols]
    left = set(names)
    deadline = time.monotonic() + 90		# the static members' sessions have to end
    while left and time.monotonic() < deadline:
        out = groups('--delete', *(word for name in sorted(left) for word in ('--group', name)))
        left &= set(groups('--list').split())
    report.same(left, set(), 'kafka-consumer-groups --delete')
    report.ok('Deletion of requested consumer groups' in out, 'kafka-consumer-groups --delete: says so')


def main():
    with Client() as connection:
        answer = connection.request('ApiVersions', 3, {'client_software_name': 'test', 'client_software_version': '1'})
    protocols = ['classic']
    if any(api['api_key'] == 68 for api in answer['api_keys']):
        protocols.append('consumer')
    write()
    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(console)] + [pool.submit(live, p) for p in protocols]:
            future.result()
    lists(protocols)
    resets()
    deletes(protocols)


try:
    main()
except Exception as e:
    report.ok(False, 'goes on to the end: %r' % e)
    raise
sys.exit(report.exit_code())
