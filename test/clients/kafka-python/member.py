"""A member of a group: kafka-python. See ../member.py."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

import member


class Member(member.Member, AsyncConsumerRebalanceListener):
    def __init__(self):
        super().__init__()
        self.positions = {}
        assignor = CooperativeStickyAssignor if self.protocol == 'cooperative' else RangePartitionAssignor
        self.consumer = KafkaConsumer(
            bootstrap_servers=os.environ['KAFKA_BOOTSTRAP'], group_id=self.group,
            group_instance_id=self.instance, partition_assignment_strategy=[assignor],
            enable_auto_commit=False, auto_offset_reset='earliest', fetch_max_wait_ms=100,
            session_timeout_ms=self.session_ms, heartbeat_interval_ms=500)
        self.consumer.subscribe([self.topic], listener=self)

    async def on_partitions_assigned(self, assigned):
        self.assigned(p.partition for p in assigned)

    async def on_partitions_revoked(self, revoked):
        # commit_async() on its own has no positions for what a cooperative rebalance takes away
        read = {p: OffsetAndMetadata(self.positions[p.partition], '', -1)
                for p in revoked if p.partition in self.positions}
        if read:
            await self.consumer.commit_async(read)
        for p in revoked:
            self.positions.pop(p.partition, None)
        self.revoked([p.partition for p in revoked])

    async def on_partitions_lost(self, lost):
        for p in lost:
            self.positions.pop(p.partition, None)
        self.revoked([p.partition for p in lost])

    def poll(self):
        records = [r for batch in self.consumer.poll(100).values() for r in batch]
        for r in records:
            self.positions[r.partition] = r.offset + 1
        return [(r.partition, r.offset, r.value) for r in records]

    def commit(self):
        self.consumer.commit()

    def pause(self, p):
        self.consumer.pause(TopicPartition(self.topic, p))

    def resume(self, p):
        self.consumer.resume(TopicPartition(self.topic, p))

    def seek(self, p, offset):
        self.positions[p] = offset
        self.consumer.seek(TopicPartition(self.topic, p), offset)

    def close(self):
        self.consumer.close(autocommit=False)


Member().run()
