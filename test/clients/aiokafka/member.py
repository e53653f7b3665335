"""A member of a group: aiokafka. See ../member.py."""
import asyncio
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

import member


class Member(member.Member, ConsumerRebalanceListener):
    async def on_partitions_assigned(self, assigned):
        self.assigned(p.partition for p in assigned)

    async def on_partitions_revoked(self, revoked):
        if revoked:
            await self.consumer.commit()
        self.revoked([p.partition for p in revoked])

    async def obey(self, what, p=None, offset=None):
        tp = TopicPartition(self.topic, p)
        if what == 'commit':
            await self.consumer.commit()
        elif what == 'pause':
            self.consumer.pause(tp)
        elif what == 'resume':
            self.consumer.resume(tp)
        elif what == 'seek':
            self.consumer.seek(tp, offset)
        elif what == 'close':
            # It would take what it has to be given up, without asking the listener.
            await self.consumer.commit()
            await self.consumer.stop()

    async def main(self):
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=os.environ['KAFKA_BOOTSTRAP'], group_id=self.group,
            group_instance_id=self.instance, enable_auto_commit=False, auto_offset_reset='earliest',
            fetch_max_wait_ms=100, session_timeout_ms=self.session_ms, heartbeat_interval_ms=500)
        self.consumer.subscribe([self.topic], listener=self)
        await self.consumer.start()
        while True:
            batches = await self.consumer.getmany(timeout_ms=100)
            self.records([(r.partition, r.offset, r.value)
                          for batch in batches.values() for r in batch])
            command = self.next_command()
            if command:
                await self.obey(command[0], *map(int, command[1:]))
                self.say('ok')
                if command[0] == 'close':
                    return


asyncio.run(Member().main())
