// A member of a group: KafkaJS. See ../member.py.
'use strict';

const { Kafka, logLevel } = require('kafkajs');
const readline = require('readline');

const [topic, groupId, , session] = process.argv.slice(2);
const kafka = new Kafka({ brokers: [process.env.KAFKA_BOOTSTRAP], logLevel: logLevel.ERROR });
const consumer = kafka.consumer({
  groupId, sessionTimeout: Number(session), heartbeatInterval: 500, maxWaitTimeInMs: 100,
});
const read = new Map();
let owned = [];

function say(...words) {
  process.stdout.write(words.join(' ') + '\n');
}

async function commit() {
  const offsets = owned.filter(p => read.has(p)).map(p => ({ topic, partition: p, offset: String(read.get(p)) }));
  if (offsets.length > 0)
    await consumer.commitOffsets(offsets);
}

const commands = {
  commit,
  pause: async p => consumer.pause([{ topic, partitions: [p] }]),
  resume: async p => consumer.resume([{ topic, partitions: [p] }]),
  seek: async (p, offset) => consumer.seek({ topic, partition: p, offset: String(offset) }),
  close: async () => {
    await commit();
    await consumer.disconnect();
  },
};

async function main() {
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    owned = payload.memberAssignment[topic] || [];
    read.clear();
    say('assigned', owned.join(',') || '-');
  });
  // It has them until it joins again; but what it would still read then, others read as well.
  consumer.on(consumer.events.REBALANCING, () => {
    if (owned.length > 0)
      say('revoked', owned.join(','));
    owned = [];
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      read.set(partition, BigInt(message.offset) + 1n);
      say('record', partition, message.offset, message.value);
    },
  });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [what, ...words] = line.split(' ');
    await commands[what](...words.map(Number));
    say('ok');
    if (what === 'close')
      break;
  }
  process.exit(0);
}

main().catch(e => {
  console.error(e);
  process.exit(1);
});
