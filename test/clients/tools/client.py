"""kafka-topics, kafka-console-producer and -consumer, kafka-get-offsets and others, as people call them."""
import re
import sys

from tool import SERVER, report, tool


def main():
    out = tool('kafka-topics', '--create', '--topic', 'tools', '--partitions', '3',
               '--config', 'max.message.bytes=2000000', '--config', 'retention.ms=86400000')
    report.same(out, 'Created topic tools.\n', 'kafka-topics --create')
    out = tool('kafka-topics', '--create', '--topic', 'tools', status=1)
    report.ok("Topic 'tools' already exists." in out, 'kafka-topics --create, twice')
    tool('kafka-topics', '--create', '--topic', 'tools', '--if-not-exists')
    report.ok('tools' in tool('kafka-topics', '--list').split(), 'kafka-topics --list')
    lines = tool('kafka-topics', '--describe', '--topic', 'tools').splitlines()
    head = re.fullmatch(r'Topic: tools\tTopicId: [\w-]{22}\tPartitionCount: 3\tReplicationFactor: 1\t'
                        r'Configs: (.*)', lines[0])
    report.same(sorted(head[1].split(',')) if head else lines[0], ['max.message.bytes=2000000', 'retention.ms=86400000'],
                'kafka-topics --describe')
    report.same([re.match(r'\tTopic: tools\tPartition: (\d)\tLeader: 1\tReplicas: 1\tIsr: 1', line)[1]
                 for line in lines[1:]], ['0', '1', '2'], 'kafka-topics --describe: partitions')

    out = tool('kafka-configs', '--describe', '--topic', 'tools')
    report.ok('max.message.bytes=2000000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000, '
              'DEFAULT_CONFIG:message.max.bytes=1048588}' in out, 'kafka-configs --describe, of a topic')
    out = tool('kafka-configs', '--describe', '--all', '--broker', '1')
    report.ok('node.id=1 sensitive=false synonyms={STATIC_BROKER_CONFIG:node.id=1}' in out,
              'kafka-configs --describe, of the broker')

    # All of the lines go to partitions by key.
    sent = ['key-%d:value %d' % (i, i) for i in range(1000)]
    tool('kafka-console-producer', '--topic', 'tools', '--reader-property', 'parse.key=true',
         '--reader-property', 'key.separator=:', '--compression-codec', 'zstd', data='\n'.join(sent) + '\n')
    ends = tool('kafka-get-offsets', '--topic', 'tools').splitlines()
    counts = [int(re.fullmatch(r'tools:%d:(\d+)' % p, line)[1]) for p, line in enumerate(ends)]
    report.same((len(counts), sum(counts)), (3, 1000), 'kafka-get-offsets: ends')
    report.same(tool('kafka-get-offsets', '--topic', 'tools', '--time', 'earliest').split(),
                ['tools:0:0', 'tools:1:0', 'tools:2:0'], 'kafka-get-offsets: beginnings')
    report.same(len(tool('kafka-get-offsets', '--topic', 'tools', '--time', 'max-timestamp').split()), 3,
                'kafka-get-offsets: greatest timestamps')
    report.same(tool('kafka-get-offsets', '--topic-partitions', 'tools:1', '--time', '1000000000000').split(),
                ['tools:1:0'], 'kafka-get-offsets: of a timestamp')
    got = []
    for p, count in enumerate(counts):
        got += tool('kafka-console-consumer', '--topic', 'tools', '--partition', str(p), '--from-beginning',
                    '--max-messages', str(count), '--formatter-property', 'print.key=true',
                    '--formatter-property', 'key.separator=:').splitlines()
    report.same(sorted(got), sorted(sent), 'kafka-console-consumer --partition --from-beginning')
    first = [line for line in got[:counts[0]]]
    report.same(tool('kafka-console-consumer', '--topic', 'tools', '--partition', '0', '--offset',
                     str(counts[0] - 5), '--timeout-ms', '5000', '--formatter-property', 'print.key=true',
                     '--formatter-property', 'key.separator=:').splitlines(), first[-5:],
                'kafka-console-consumer --offset')

    # A topic that the producer makes by naming it.
    tool('kafka-console-producer', '--topic', 'tools-auto', data='hello\n')
    report.same(tool('kafka-console-consumer', '--topic', 'tools-auto', '--partition', '0', '--from-beginning',
                     '--max-messages', '1'), 'hello\n', 'a topic that was created on its own')

    out = tool('kafka-broker-api-versions')
    report.ok(out.startswith('127.0.0.1:' + SERVER.split(':')[1] + ' (id: 1 '), 'kafka-broker-api-versions')
    for api in ('Produce(0): 0 to 13 [usable: 13]', 'Fetch(1): 4 to 18 [usable: 18]',
                'CreateTopics(19): 2 to 7 [usable: 7]'):
        report.ok(api in out, 'kafka-broker-api-versions: ' + api)
    report.ok(re.match(r'Cluster ID: [\w-]{22}\n', tool('kafka-cluster', 'cluster-id')), 'kafka-cluster cluster-id')

    tool('kafka-topics', '--delete', '--topic', 'tools-auto')
    report.ok('tools-auto' not in tool('kafka-topics', '--list').split(), 'kafka-topics --delete')
    out = tool('kafka-topics', '--delete', '--topic', 'tools-auto', status=1)
    report.ok("Topic 'tools-auto' does not exist as expected" in out, 'kafka-topics --delete, twice')


main()
sys.exit(report.exit_code())
