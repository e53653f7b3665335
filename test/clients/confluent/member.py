"""A member of a group: librdkafka as Debian has it. See ../member.py."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import member


class Member(member.Member):
    def __init__(self):
        super().__init__()
        config = {
            'bootstrap.servers': os.environ['KAFKA_BOOTSTRAP'], 'group.id': self.group,
            'enable.auto.commit': False, 'auto.offset.reset': 'earliest', 'fetch.wait.max.ms': 100,
            'session.timeout.ms': self.session_ms, 'heartbeat.interval.ms': 500,
            'partition.assignment.strategy':
                'cooperative-sticky' if self.protocol == 'cooperative' else 'range,roundrobin'}
        if self.instance:
            config['group.instance.id'] = self.instance
        self.consumer = Consumer(config)
        self.consumer.subscribe(
            [self.topic], on_assign=lambda c, ps: self.assigned(p.partition for p in ps),
            on_revoke=self.on_revoke, on_lost=lambda c, ps: self.revoked([p.partition for p in ps]))

    def on_revoke(self, consumer, partitions):
        self.commit()
        self.revoked([p.partition for p in partitions])

    def poll(self):
        # not consume(), which drops what it has counted as read when partitions are taken away
        message = self.consumer.poll(0.1)
        if message is None:
            return []
        if message.error():
            raise KafkaException(message.error())
        return [(message.partition(), message.offset(), message.value())]

    def commit(self):
        try:
            self.consumer.commit(asynchronous=False)
        except KafkaException as e:
            if e.args[0].code() != KafkaError._NO_OFFSET:
                raise

    def pause(self, p):
        self.consumer.pause([TopicPartition(self.topic, p)])

    def resume(self, p):
        self.consumer.resume([TopicPartition(self.topic, p)])

    def seek(self, p, offset):
        self.consumer.seek(TopicPartition(self.topic, p, offset))

    def close(self):
        self.consumer.close()


Member().run()
