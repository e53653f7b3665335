// KafkaJS' producer, consumer (in groups, it has no other) and admin client. See ../workload.py for the common workload.
'use strict';

const { CompressionTypes, CompressionCodecs, ConfigResourceTypes, Kafka, Partitioners, logLevel } =
  require('kafkajs');
const lz4 = require('lz4js');
const xxh32 = require('lz4js/xxh32.js');
const { ZstdCodec } = require('zstd-codec');

const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'];
const RECORDS = 120;
const SIZES = [1, 2, 10, 100, 1000, 20000, 300000];
const BIG_SIZES = [1, 1000000, 5242880, 5242880, 5242880, 5242880, 5242880];
const BIG_CODECS = [0, 0, 0, 1, 2, 3, 4];

// lz4js makes frames of blocks that depend on each other, which Kafka refuses: here they do not.
function lz4Frame(plain) {
  const size = 4 << 20;
  const flags = Buffer.from([0x60, 0x70]);
  const parts = [Buffer.from([0x04, 0x22, 0x4d, 0x18]), flags,
    Buffer.from([xxh32.hash(0, flags, 0, 2) >> 8 & 255])];
  for (let from = 0; from < plain.length; from += size) {
    const block = plain.subarray(from, from + size);
    const out = Buffer.alloc(lz4.compressBound(block.length));
    const n = lz4.compressBlock(block, out, 0, block.length, new Uint32Array(1 << 16));
    const packed = n > 0 && n < block.length;
    const length = Buffer.alloc(4);
    length.writeUInt32LE(packed ? n : (0x80000000 | block.length) >>> 0);
    parts.push(length, packed ? out.subarray(0, n) : block);
  }
  return Buffer.concat([...parts, Buffer.alloc(4)]);
}

// Codecs that KafkaJS leaves to others.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4Frame(encoder.buffer),
  decompress: async buffer => Buffer.from(lz4.decompress(buffer)),
});
const zstd = new Promise(resolve => ZstdCodec.run(z => resolve(new z.Streaming())));
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from((await zstd).decompress(buffer)),
});

function contents(i, size) {
  const bytes = Buffer.alloc(size);
  for (let j = 0; j < size; j++)
    bytes[j] = (7 * i + 13 * j + (j >> 8)) & 255;
  return bytes;
}

const timestamp = i => 1700000000000 + 1000 * i;

function headers(i) {
  const n = i % 4;
  const all = {};
  if (n > 0)
    all.h0 = n > 1 ? [Buffer.from('v' + i), Buffer.alloc(0)] : Buffer.from('v' + i);
  if (n > 2)
    all.h2 = Buffer.from([0, 255, i & 255]);
  return all;
}

function record(partition, i) {
  return {
    partition,
    key: i % 5 === 0 ? null : i % 5 === 1 ? Buffer.alloc(0) : Buffer.from('key-' + i),
    value: i % 11 === 7 && i % 5 !== 0 ? null : contents(i, SIZES[i % 7]),
    headers: headers(i),
    timestamp: String(timestamp(i)),
  };
}

function bigRecord(i) {
  return {
    partition: 0, key: Buffer.from('big-' + i), value: contents(i, BIG_SIZES[i]), headers: headers(i),
    timestamp: String(timestamp(i)),
  };
}

let failed = 0;

function ok(good, what) {
  if (!good)
    failed++;
  console.log((good ? 'ok - ' : 'not ok - ') + what);
}

function same(got, wanted, what) {
  const good = JSON.stringify(got) === JSON.stringify(wanted);
  ok(good, what);
  if (!good)
    console.log('# got ' + JSON.stringify(got) + '\n# not ' + JSON.stringify(wanted));
}

async function fails(promise) {
  try {
    await promise;
    return 'nothing';
  } catch (e) {
    return e.message;
  }
}

async function produce(kafka, topic, batches, options) {
  const producer = kafka.producer({
    createPartitioner: Partitioners.DefaultPartitioner, idempotent: options.idempotent,
    maxInFlightRequests: 1, allowAutoTopicCreation: true,
  });
  await producer.connect();
  const offsets = [];
  for (const messages of batches) {
    const result = await producer.send({ topic, messages, acks: options.acks, compression: options.codec });
    offsets.push(...result.map(r => r.baseOffset));
  }
  await producer.disconnect();
  return offsets;
}

// What a record of `record(partition, i)` or `bigRecord(i)` looks like when it is read.
function wanted({ key, value, headers, timestamp }, offset) {
  const all = Object.entries(headers).map(([name, h]) => [name, [].concat(h).map(b => b.toString('hex'))]);
  return { offset: String(offset), key, value, headers: all, timestamp };
}

function difference(message, record) {
  const got = wanted({ ...message, headers: message.headers || {} }, message.offset);
  const equal = (a, b) => (a === null || b === null) ? a === b : a.equals(b);
  for (const name of ['offset', 'timestamp'])
    if (got[name] !== record[name])
      return name;
  if (!equal(got.key, record.key))
    return 'key';
  if (!equal(got.value, record.value))
    return 'value';
  return JSON.stringify(got.headers) === JSON.stringify(record.headers) ? '' : 'headers';
}

// Reads a topic in a new group, until it has so many records of each partition; they are committed.
async function consume(kafka, topic, counts, { groupId, seek } = {}) {
  const consumer = kafka.consumer({
    groupId: groupId || 'kafkajs-' + Math.random(), maxWaitTimeInMs: 100, maxBytesPerPartition: 1 << 20,
  });
  const messages = counts.map(() => []);
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('not all of ' + topic + ' came')), 60000);
    const enough = () => messages.every((m, p) => m.length >= counts[p]);
    consumer.run({
      autoCommitThreshold: 10,
      eachMessage: async ({ partition, message }) => {
        messages[partition].push(message);
        if (enough()) {
          clearTimeout(timer);
          resolve();
        }
      },
    }).catch(reject);
    if (seek !== undefined)
      consumer.seek({ topic, partition: 0, offset: String(seek) });
  });
  await consumer.disconnect();
  return messages;
}

function sameRecords(messages, records, what) {
  let problem = messages.length === records.length ? '' : messages.length + ' records, not ' + records.length;
  for (let i = 0; problem === '' && i < records.length; i++) {
    const name = difference(messages[i], records[i]);
    if (name !== '')
      problem = 'offset ' + records[i].offset + ': wrong ' + name;
  }
  ok(problem === '', what);
  if (problem !== '')
    console.log('# ' + problem);
}

async function main() {
  const kafka = new Kafka({
    clientId: 'kafkajs', brokers: [process.env.KAFKA_BOOTSTRAP], logLevel: logLevel.NOTHING,
  });
  const admin = kafka.admin();
  await admin.connect();
  const [records, big, auto] = ['kafkajs-records', 'kafkajs-big', 'kafkajs-auto'];

  await admin.createTopics({
    topics: [
      { topic: records, numPartitions: 5 },
      { topic: big, numPartitions: 1, configEntries: [{ name: 'max.message.bytes', value: '10485760' }] },
    ],
  });
  const { topics } = await admin.fetchTopicMetadata({ topics: [records, big] });
  same(topics.map(t => t.partitions.length).sort(), [1, 5], 'create topics');
  same(await admin.createTopics({ topics: [{ topic: big }] }), false, 'create a topic twice');
  const configs = await admin.describeConfigs({
    includeSynonyms: true, resources: [{ type: ConfigResourceTypes.TOPIC, name: big, configNames: ['max.message.bytes'] }],
  });
  same(configs.resources[0].configEntries.map(c => c.configValue), ['10485760'], "describe a topic's configs");
  same((await admin.describeCluster()).brokers.length, 1, 'describe the cluster');

  for (let partition = 0; partition < 5; partition++) {
    const batches = [];
    for (let i = 0; i < RECORDS; i += 5)
      batches.push([0, 1, 2, 3, 4].map(k => record(partition, i + k)));
    const offsets = await produce(kafka, records, batches, { codec: partition, idempotent: true, acks: -1 });
    same(offsets, batches.map((_, n) => String(5 * n)), 'produce with ' + CODECS[partition]);
  }
  for (let i = 0; i < BIG_SIZES.length; i++)
    await produce(kafka, big, [[bigRecord(i)]], { codec: BIG_CODECS[i], acks: -1 });
  same((await admin.fetchTopicOffsets(big)).map(p => p.offset), ['7'], 'values up to 5 MB');

  same((await admin.fetchTopicOffsets(records)).map(p => [p.partition, p.low, p.high]).sort(),
    [0, 1, 2, 3, 4].map(p => [p, '0', '120']), 'first and last offsets');
  same((await admin.fetchTopicOffsetsByTimestamp(records, timestamp(50) - 500)).map(p => p.offset),
    ['50', '50', '50', '50', '50'], 'offsets of a timestamp');

  const read = await consume(kafka, records, [120, 120, 120, 120, 120]);
  for (let partition = 0; partition < 5; partition++) {
    const all = Array.from({ length: RECORDS }, (_, i) => wanted(record(partition, i), i));
    sameRecords(read[partition], all, 'consume in a group, ' + CODECS[partition]);
  }
  const bigs = BIG_SIZES.map((_, i) => wanted(bigRecord(i), i));
  sameRecords((await consume(kafka, big, [7], { groupId: 'kafkajs-big' }))[0], bigs, 'consume values up to 5 MB');
  const committed = await admin.fetchOffsets({ groupId: 'kafkajs-big', topics: [big] });
  same(committed[0].partitions, [{ partition: 0, offset: '7', metadata: null }], 'what was read is committed');
  await admin.resetOffsets({ groupId: 'kafkajs-big', topic: big, earliest: true });
  sameRecords((await consume(kafka, big, [7], { groupId: 'kafkajs-big' }))[0], bigs, 'reset to the beginning');
  const groups = await admin.listGroups();
  ok(groups.groups.some(g => g.groupId === 'kafkajs-big' && g.protocolType === 'consumer'), 'list groups');
  same((await admin.describeGroups(['kafkajs-big'])).groups.map(g => [g.state, g.members.length]), [['Empty', 0]],
    'describe a group');
  await admin.deleteGroups(['kafkajs-big']);
  ok(!(await admin.listGroups()).groups.some(g => g.groupId === 'kafkajs-big'), 'delete a group');

  const live = (await consume(kafka, 'kafkajs-gaps', [4]))[0];
  same(live.map(m => [m.offset, m.value.toString()]), [0, 1, 102, 103].map(i => [String(i), 'live ' + i]),
    'step over gaps');
  same(await produce(kafka, 'kafkajs-gaps', [[record(0, 3)]], { codec: 0, acks: -1 }), ['204'], 'write after a gap');
  same((await consume(kafka, 'kafkajs-gaps', [3], { seek: 50 }))[0].map(m => m.offset), ['102', '103', '204'],
    'start in a gap');

  same(await produce(kafka, auto, [[record(0, 2)], [record(0, 3)]], { codec: 0, acks: 1 }), ['0', '1'],
    'a topic that was created on its own');
  await admin.deleteTopics({ topics: [auto] });
  const names = await admin.listTopics();
  ok(!names.includes(auto) && names.includes(big), 'delete a topic');
  same(await fails(admin.deleteTopics({ topics: [auto] })), 'This server does not host this topic-partition',
    'delete a topic twice');
  await admin.disconnect();
}

main().catch(e => {
  console.log('# ' + e.stack);
  failed++;
}).finally(() => process.exit(failed > 0 ? 1 : 0));
