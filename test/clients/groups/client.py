"""Every client's members live through the stories of scenario.py, all at the same time.

CLIENTS="java kafkajs" does with some; PARALLEL=n tells n stories at a time.
"""
import concurrent.futures
import dataclasses
import os
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, '..')
sys.path.insert(0, '../../wire')

import workload
from kwire import Client as Connection
from scenario import Dynamic, Static

CLIENTS = os.path.abspath('..')
BUILT = os.path.dirname(os.path.abspath(os.environ['BUILD']))
JAVA = ['java', '-Xmx128m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto',
        '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
        '-cp', BUILT + '/java/target/classes:' + BUILT + '/java/libs/*', 'Member']


@dataclasses.dataclass
class Client:
    suite: str
    protocol: str
    command: list
    static: bool = True
    pauses: bool = True
    seeks: bool = True
    tells_revoked: bool = True
    commits_when_revoked: bool = True		# KafkaJS gives partitions up without asking

    @property
    def name(self):
        return '%s, %s' % (self.suite, self.protocol)


def python(suite, interpreter=None):
    return [interpreter or '%s/%s/venv/bin/python' % (BUILT, suite), '%s/%s/member.py' % (CLIENTS, suite)]


def go(suite):
    return ['%s/%s/client' % (BUILT, suite), 'member']


ALL = [
    Client('java', 'eager', JAVA),
    Client('java', 'cooperative', JAVA),
    Client('java', 'consumer', JAVA),
    Client('confluent', 'eager', python('confluent', '/usr/bin/python3')),
    Client('confluent', 'cooperative', python('confluent', '/usr/bin/python3')),
    Client('rust', 'cooperative', [BUILT + '/rust/target/debug/rust-client', 'member']),
    Client('rust', 'consumer', [BUILT + '/rust/target/debug/rust-client', 'member']),
    Client('franz-go', 'eager', go('franz-go')),
    Client('franz-go', 'cooperative', go('franz-go')),
    Client('sarama', 'eager', go('sarama'), seeks=False),
    Client('kafka-python', 'eager', python('kafka-python')),
    Client('kafka-python', 'cooperative', python('kafka-python')),
    Client('aiokafka', 'eager', python('aiokafka')),
    Client('kafkajs', 'eager', ['node', BUILT + '/kafkajs/member.js'], static=False, tells_revoked=False,
           commits_when_revoked=False),
]


class Report(workload.Report):
    """For many threads."""

    def __init__(self):
        super().__init__()
        self.lock = threading.RLock()

    def ok(self, good, what):
        with self.lock:
            return super().ok(good, what)

    def same(self, got, wanted, what):
        with self.lock:
            super().same(got, wanted, what)

    def note(self, text):
        with self.lock:
            print('# ' + text.replace('\n', '\n# '), flush=True)


def has_consumer_protocol():
    """Does the server speak KIP-848?"""
    with Connection() as connection:
        answer = connection.request('ApiVersions', 3, {'client_software_name': 'test', 'client_software_version': '1'})
    return any(api['api_key'] == 68 for api in answer['api_keys'])


def main():
    report = Report()
    wanted = os.environ.get('CLIENTS', '').split()
    consumer = has_consumer_protocol()
    stories = []
    for client in ALL:
        if wanted and client.suite not in wanted and client.name.replace(', ', '-') not in wanted:
            continue
        if client.protocol == 'consumer' and not consumer:
            report.note('skipped: %s: the server does not list ConsumerGroupHeartbeat' % client.name)
        elif os.path.exists('%s/%s/skipped' % (BUILT, client.suite)):
            report.note('skipped: %s' % client.name)
        else:
            stories.append(Dynamic(client, report))
            if client.static:
                stories.append(Static(client, report))
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get('PARALLEL', 8))) as pool:
        for done in [pool.submit(story.play) for story in stories]:
            try:
                done.result()
            except Exception as e:
                report.ok(False, 'a story ran to its end')
                report.note(repr(e))
    return report.exit_code()


sys.exit(main())
