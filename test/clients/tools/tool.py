"""Runs Kafka's own command line tools, as people call them."""
import json
import os
import re
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, '..')

from workload import Report

SERVER = os.environ['KAFKA_BOOTSTRAP']
CLASSES = {
    'kafka-topics': 'org.apache.kafka.tools.TopicCommand',
    'kafka-configs': 'kafka.admin.ConfigCommand',
    'kafka-console-producer': 'org.apache.kafka.tools.ConsoleProducer',
    'kafka-console-consumer': 'org.apache.kafka.tools.consumer.ConsoleConsumer',
    'kafka-consumer-groups': 'org.apache.kafka.tools.consumer.group.ConsumerGroupCommand',
    'kafka-verifiable-consumer': 'org.apache.kafka.tools.VerifiableConsumer',
    'kafka-get-offsets': 'org.apache.kafka.tools.GetOffsetShell',
    'kafka-broker-api-versions': 'org.apache.kafka.tools.BrokerApiVersionsCommand',
    'kafka-cluster': 'org.apache.kafka.tools.ClusterTool',
}
# A short life does not pay for much compilation, nor for loading the same classes each time (suite
# makes the archive).
JAVA = ['java', '-Xmx256m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto',
        '-XX:SharedArchiveFile=%s/classes.jsa' % os.environ['BUILD'], '-Xlog:cds=off',
        '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', '-cp', os.environ['BUILD'] + '/libs/*']
report = Report()


def command(name, args):
    return [*JAVA, CLASSES[name], *args, '--bootstrap-server', SERVER]


def tool(name, *args, data='', status=0):
    """Its output; a test fails when it does not end with that status."""
    done = subprocess.run(command(name, args), input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=120, text=True)
    if done.returncode != status:
        report.ok(False, '%s %s' % (name, ' '.join(args)))
        print('# status %d\n%s' % (done.returncode, re.sub(
            '^', '# ', (done.stdout + done.stderr)[-3000:], flags=re.M)))
    return done.stdout


class Running:
    """A tool that goes on until it is told to end, and writes JSON."""

    def __init__(self, name, *args):
        self.said = []
        self.process = subprocess.Popen(command(name, args), stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith('{'):
                self.said.append(json.loads(line))

    def named(self, name):
        return [event for event in self.said if event['name'] == name]

    def end(self):
        self.process.terminate()
        self.process.wait(60)
        self.reader.join()
