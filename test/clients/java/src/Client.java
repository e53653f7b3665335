import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java producer, consumer (with assign) and admin client. */
public final class Client {
    private static final String SERVER = System.getenv("KAFKA_BOOTSTRAP");
    private static final String RECORDS = "java-records";
    private static final String BIG = "java-big";
    private static final String AUTO = "java-auto";

    private Client() {
    }

    private static Map<String, Object> config(Object... pairs) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", SERVER);
        for (int i = 0; i < pairs.length; i += 2)
            config.put((String) pairs[i], pairs[i + 1]);
        return config;
    }

    private static List<Long> produce(List<ProducerRecord<byte[], byte[]>> records, Object... pairs) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(config(pairs), new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> record : records)
                futures.add(producer.send(record));
            List<Long> offsets = new ArrayList<>();
            for (Future<RecordMetadata> future : futures)
                offsets.add(future.get().offset());
            return offsets;
        }
    }

    private static List<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long deadline = System.currentTimeMillis() + 60000;
        while (records.size() < count && System.currentTimeMillis() < deadline)
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        return records;
    }

    private static void sameRecords(List<ConsumerRecord<byte[], byte[]>> got, long first,
                                    List<ProducerRecord<byte[], byte[]>> wanted, String what) {
        String problem = got.size() == wanted.size() ? null : got.size() + " records, not " + wanted.size();
        for (int i = 0; problem == null && i < got.size(); i++)
            problem = Workload.difference(got.get(i), first + i, wanted.get(i));
        if (!Report.ok(problem == null, what))
            Report.note(problem);
    }

    private static List<ProducerRecord<byte[], byte[]>> records(int partition, int first) {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = first; i < Workload.RECORDS; i++)
            records.add(Workload.record(RECORDS, partition, i));
        return records;
    }

    private static List<Long> numbers(int count) {
        List<Long> numbers = new ArrayList<>();
        for (long i = 0; i < count; i++)
            numbers.add(i);
        return numbers;
    }

    private static String failure(Future<?> future) throws InterruptedException {
        try {
            future.get();
            return "none";
        } catch (ExecutionException e) {
            return e.getCause().getClass().getSimpleName();
        }
    }

    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(config())) {
            create(admin);
            write();
            read();
            offsets(admin);
            auto(admin);
            gaps();
        }
        System.exit(Report.exitCode());
    }

    private static void create(Admin admin) throws Exception {
        NewTopic big = new NewTopic(BIG, 1, (short) 1).configs(Map.of("max.message.bytes", "10485760"));
        admin.createTopics(List.of(new NewTopic(RECORDS, Workload.CODECS.length, (short) 1), big)).all().get();
        Map<String, TopicDescription> topics = admin.describeTopics(List.of(RECORDS, BIG)).allTopicNames().get();
        Report.same(List.of(topics.get(RECORDS).partitions().size(), topics.get(BIG).partitions().size(),
            topics.get(BIG).partitions().get(0).leader().id()), List.of(5, 1, 1), "create and describe topics");
        Report.same(admin.describeTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(
            List.of(topics.get(BIG).topicId()))).allTopicIds().get().values().iterator().next().name(), BIG,
            "describe a topic by its id");
        Report.same(failure(admin.createTopics(List.of(new NewTopic(BIG, 1, (short) 1))).all()),
            TopicExistsException.class.getSimpleName(), "create a topic twice");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, BIG);
        Report.same(admin.describeConfigs(List.of(resource)).all().get().get(resource).get("max.message.bytes").value(),
            "10485760", "describe a topic's configs");
        Report.same(admin.describeCluster().nodes().get().size(), 1, "describe the cluster");
    }

    private static void write() throws Exception {
        for (int partition = 0; partition < Workload.CODECS.length; partition++)
            Report.same(produce(records(partition, 0), "compression.type", Workload.CODECS[partition],
                "enable.idempotence", true, "linger.ms", 20), numbers(Workload.RECORDS),
                "produce with " + Workload.CODECS[partition]);
        for (int i = 0; i < Workload.BIG_SIZES.length; i++)
            produce(List.of(Workload.bigRecord(BIG, i)), "compression.type", Workload.CODECS[Workload.BIG_CODECS[i]],
                "max.request.size", 10000000, "enable.idempotence", false);
        try {
            produce(List.of(new ProducerRecord<>(RECORDS, 0, null, Workload.contents(0, 2000000))), "max.request.size", 10000000);
            Report.ok(false, "a record that is too large");
        } catch (ExecutionException e) {
            Report.same(e.getCause().getClass(), RecordTooLargeException.class, "a record that is too large");
        }
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String topic, int partition) {
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config("enable.auto.commit", false, "fetch.max.wait.ms", 100),
            new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.assign(List.of(new TopicPartition(topic, partition)));
        return consumer;
    }

    private static void read() {
        for (int partition = 0; partition < Workload.CODECS.length; partition++) {
            try (KafkaConsumer<byte[], byte[]> consumer = consumer(RECORDS, partition)) {
                consumer.seekToBeginning(consumer.assignment());
                sameRecords(poll(consumer, Workload.RECORDS), 0, records(partition, 0),
                    "consume from the beginning, " + Workload.CODECS[partition]);
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(BIG, 0)) {
            List<ProducerRecord<byte[], byte[]>> wanted = new ArrayList<>();
            for (int i = 0; i < Workload.BIG_SIZES.length; i++)
                wanted.add(Workload.bigRecord(BIG, i));
            consumer.seekToBeginning(consumer.assignment());
            sameRecords(poll(consumer, wanted.size()), 0, wanted, "values up to 5 MB");
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(RECORDS, 3)) {
            consumer.seek(new TopicPartition(RECORDS, 3), 100);
            sameRecords(poll(consumer, Workload.RECORDS - 100), 100, records(3, 100), "consume from an offset");
            Map<TopicPartition, Long> times = new HashMap<>();
            for (int p = 0; p < 5; p++)
                times.put(new TopicPartition(RECORDS, p), p < 4 ? Workload.timestamp(50) - 500 : Workload.timestamp(Workload.RECORDS));
            Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(times);
            List<Object> offsets = new ArrayList<>();
            for (int p = 0; p < 4; p++)
                offsets.add(found.get(new TopicPartition(RECORDS, p)).offset());
            offsets.add(found.get(new TopicPartition(RECORDS, 3)).timestamp());
            Report.same(offsets, List.of(50L, 50L, 50L, 50L, Workload.timestamp(50)), "offsets of a timestamp");
            Report.same(found.get(new TopicPartition(RECORDS, 4)), null, "no offset after the last timestamp");
            consumer.seek(new TopicPartition(RECORDS, 3), found.get(new TopicPartition(RECORDS, 3)).offset());
            sameRecords(poll(consumer, Workload.RECORDS - 50), 50, records(3, 50), "consume from a timestamp");
        }
    }

    private static void offsets(Admin admin) throws Exception {
        TopicPartition partition = new TopicPartition(RECORDS, 2);
        List<Long> offsets = new ArrayList<>();
        for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp(),
                OffsetSpec.forTimestamp(Workload.timestamp(7))))
            offsets.add(admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset());
        Report.same(offsets, List.of(0L, 120L, 119L, 7L), "list offsets");
    }

    private static void gaps() throws Exception {
        TopicPartition partition = new TopicPartition("java-gaps", 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(partition.topic(), 0)) {
            List<Long> offsets = new ArrayList<>();
            consumer.seekToBeginning(consumer.assignment());
            poll(consumer, 4).forEach(r -> offsets.add(r.offset()));
            Report.same(offsets, List.of(0L, 1L, 102L, 103L), "step over gaps");
            for (int i = 0; i < 100 && consumer.position(partition) < 204; i++)
                consumer.poll(Duration.ofMillis(100));
            Report.same(consumer.position(partition), 204L, "come to the end after a gap");
            Report.same(produce(List.of(Workload.record(partition.topic(), 0, 3))), List.of(204L), "write after a gap");
            sameRecords(poll(consumer, 1), 204, List.of(Workload.record(partition.topic(), 0, 3)), "read on after a gap");
            consumer.seek(partition, 50);
            Report.same(poll(consumer, 3).get(0).offset(), 102L, "start in a gap");
        }
    }

    private static void auto(Admin admin) throws Exception {
        produce(List.of(Workload.record(AUTO, 0, 2)), "acks", "1", "enable.idempotence", false);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(AUTO, 0)) {
            consumer.seekToBeginning(consumer.assignment());
            sameRecords(poll(consumer, 1), 0, List.of(Workload.record(AUTO, 0, 2)), "a topic that was created on its own");
            consumer.seekToEnd(consumer.assignment());
            Report.same(consumer.position(new TopicPartition(AUTO, 0)), 1L, "consume from the end: nothing yet");
            produce(List.of(Workload.record(AUTO, 0, 3)), "acks", "0", "enable.idempotence", false);
            sameRecords(poll(consumer, 1), 1, List.of(Workload.record(AUTO, 0, 3)), "consume from the end");
        }
        admin.deleteTopics(List.of(AUTO)).all().get();
        Set<String> names = admin.listTopics().names().get();
        Report.ok(!names.contains(AUTO) && names.contains(BIG), "delete a topic");
        Report.same(failure(admin.deleteTopics(List.of(AUTO)).all()),
            UnknownTopicOrPartitionException.class.getSimpleName(), "delete a topic twice");
    }
}
