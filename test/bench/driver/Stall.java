import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;

import com.sun.management.OperatingSystemMXBean;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What stall.c does, for members that speak the consumer protocol (KIP-848): records sent each at
 * its time and read by a group, while one more member comes and goes. Options and the line of JSON
 * are the driver's. A member that loses its partitions without having been asked for them is an
 * error.
 */
public final class Stall {
    private static final int SETTLE_MS = 60000; // in this time a group has shared its partitions
    private static final int ARRIVE_MS = 30000; // in this time everything sent has been received

    private static final Map<String, String> OPTIONS = new HashMap<>(Map.of(
            "broker", "localhost:9092", "topic", "bench", "partitions", "64", "members", "20",
            "rate", "1000", "size", "100", "seconds", "6", "warmup", "1"));
    private static final AtomicLong ERRORS = new AtomicLong();
    private static volatile String firstError;

    private final String topic = OPTIONS.get("topic");
    private final int partitions = (int) number("partitions");
    private final int size = (int) number("size");
    private final double interval = 1e9 / number("rate");
    private final AtomicLong acked = new AtomicLong();
    private final AtomicLong distinct = new AtomicLong();
    private final AtomicLong again = new AtomicLong();
    private final AtomicLongArray waited; // by record number: due to received, in ns; 0: not yet
    private volatile long began;

    private Stall() {
        double seconds = number("warmup") + number("seconds");
        waited = new AtomicLongArray((int) (seconds * number("rate")) + 2);
    }

    private static double number(String name) {
        return Double.parseDouble(OPTIONS.get(name));
    }

    private static void fail(String what) {
        if (ERRORS.getAndIncrement() == 0) {
            firstError = what.replaceAll("[\"\\\\\\p{Cntrl}]", "'");
        }
    }

    private static void sleepUntil(long when) {
        for (long left = when - System.nanoTime(); left > 0; left = when - System.nanoTime()) {
            LockSupport.parkNanos(left);
        }
    }

    private static boolean wait(int ms, BooleanSupplier condition) {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ms);
        while (ERRORS.get() == 0 && !condition.getAsBoolean() && System.nanoTime() < end) {
            sleepUntil(System.nanoTime() + 10_000_000);
        }
        return condition.getAsBoolean();
    }

    /** When a record is due to be sent. */
    private long due(long number) {
        return began + (long) (number * interval);
    }

    private void received(ConsumerRecord<byte[], byte[]> record) {
        String value = new String(record.value());
        int number = Integer.parseInt(value.substring(value.indexOf(' ') + 1, value.indexOf(',')));
        if (number >= waited.length()) {
            fail("record " + number + " was never sent");
        } else if (waited.compareAndSet(number, 0, Math.max(1, System.nanoTime() - due(number)))) {
            distinct.incrementAndGet();
        } else {
            again.incrementAndGet();
        }
    }

    /** One consumer in a thread of its own, which begins with making it. */
    private final class Member extends Thread implements ConsumerRebalanceListener {
        private final AtomicInteger owned = new AtomicInteger();
        private volatile boolean stopping;
        private KafkaConsumer<byte[], byte[]> consumer;

        Member(int number) {
            super("member " + number);
            setDaemon(true);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> some) {
            owned.addAndGet(some.size());
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> some) {
            try {
                consumer.commitSync();
            } catch (CommitFailedException e) {
                // Too late: the next owner reads again what this one has.
            }
            owned.addAndGet(-some.size());
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> some) {
            fail(getName() + " lost its partitions");
        }

        @Override
        public void run() {
            Map<String, Object> config = Map.of("bootstrap.servers", OPTIONS.get("broker"),
                    "group.id", topic, "group.protocol", "consumer",
                    "enable.auto.commit", false, "auto.offset.reset", "earliest");
            ByteArrayDeserializer bytes = new ByteArrayDeserializer();
            try (KafkaConsumer<byte[], byte[]> made = new KafkaConsumer<>(config, bytes, bytes)) {
                consumer = made;
                consumer.subscribe(List.of(topic), this);
                while (!stopping && ERRORS.get() == 0) {
                    consumer.poll(Duration.ofMillis(50)).forEach(Stall.this::received);
                }
            } catch (Exception e) {
                fail(getName() + ": " + e);
            }
        }
    }

    private void send(KafkaProducer<byte[], byte[]> producer, long number) {
        String value = "{\"id\": " + number + ", \"ts\": 17" + number * 104729 % 100000000
                + ", \"customer\": {\"basket\": " + number * 7919 % 65536 + ", \"item\": \"";
        byte[] bytes = Arrays.copyOf(value.getBytes(), size);
        Arrays.fill(bytes, value.length(), size, (byte) 'x');
        int partition = (int) (number % partitions);
        producer.send(new ProducerRecord<>(topic, partition, null, bytes), (metadata, e) -> {
            if (e == null) {
                acked.incrementAndGet();
            } else {
                fail("produce: " + e);
            }
        });
    }

    /** Sends everything; returns how many records and the first that counts. */
    private long[] load(KafkaProducer<byte[], byte[]> producer, Member guest) {
        long length = (long) (number("seconds") * 1e9);
        began = System.nanoTime() + 100_000_000;
        long start = began + (long) (number("warmup") * 1e9);
        long first = -1;
        boolean left = false;
        long sent = 0;

        for (; due(sent) < start + length && ERRORS.get() == 0; sent++) {
            sleepUntil(due(sent));
            send(producer, sent);
            if (first < 0 && due(sent) >= start) {
                first = sent;
                guest.start();
            }
            if (!left && due(sent) >= start + length / 2) {
                left = true;
                if (guest.owned.get() == 0) {
                    fail("the member that came has no partition yet");
                }
                guest.stopping = true;
            }
        }
        return new long[] {sent, first};
    }

    private static long quantile(long[] sorted, double q) {
        return sorted[Math.min((int) (q * sorted.length), sorted.length - 1)];
    }

    /** In microseconds. */
    private String quantiles(long first, long end) {
        long[] sorted = new long[(int) (end - first)];
        Arrays.setAll(sorted, i -> waited.get((int) first + i) / 1000);
        Arrays.sort(sorted);
        return String.format(Locale.ROOT, ", \"e2e_p50_us\": %d, \"e2e_p99_us\": %d"
                + ", \"e2e_p999_us\": %d, \"e2e_max_us\": %d", quantile(sorted, 0.5),
                quantile(sorted, 0.99), quantile(sorted, 0.999), quantile(sorted, 1));
    }

    /** Has every partition an owner and every member its share? */
    private boolean all(List<Member> members) {
        return members.stream().allMatch(member -> member.owned.get() > 0)
                && members.stream().mapToInt(member -> member.owned.get()).sum() == partitions;
    }

    private void run() throws InterruptedException {
        Member[] members = new Member[(int) number("members") + 1];
        Arrays.setAll(members, Member::new);
        List<Member> residents = Arrays.asList(members).subList(0, members.length - 1);
        Map<String, Object> config = Map.of("bootstrap.servers", OPTIONS.get("broker"),
                "acks", "all", "enable.idempotence", false, "linger.ms", 0);
        ByteArraySerializer bytes = new ByteArraySerializer();
        long[] sent = {0, 0};

        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config, bytes, bytes)) {
            producer.partitionsFor(topic);
            residents.forEach(Thread::start);
            if (!wait(SETTLE_MS, () -> all(residents))) {
                fail("not every partition and not every member has its share");
            } else {
                sent = load(producer, members[members.length - 1]);
            }
        }
        long count = sent[0];
        if (acked.get() != count) {
            fail(count + " records sent, " + acked + " acknowledged");
        }
        if (!wait(ARRIVE_MS, () -> distinct.get() == count)) {
            fail(count + " records sent, " + distinct + " received");
        }
        for (Member member : members) {
            member.stopping = true;
        }
        for (Member member : members) {
            member.join(SETTLE_MS);
            if (member.isAlive()) {
                fail(member.getName() + " does not end");
            }
        }
        System.out.printf(Locale.ROOT, "{\"records\": %d, \"bytes\": %d, \"rate\": %.0f",
                count, count * size, (count - sent[1]) / number("seconds"));
        System.out.printf(Locale.ROOT, ", \"again\": %d", again.get());
        if (ERRORS.get() == 0) {
            System.out.print(quantiles(sent[1], count));
        }
    }

    public static void main(String[] args) throws InterruptedException {
        for (String arg : args) {
            String[] option = arg.split("=", 2);
            if (option.length != 2 || OPTIONS.replace(option[0], option[1]) == null) {
                System.err.println("Stall: no option \"" + arg + "\"; there are: " + OPTIONS);
                System.exit(2);
            }
        }
        // At the end those that stay are given what others leave, and are told so while they close.
        System.setProperty("org.slf4j.simpleLogger.log.org.apache.kafka.clients.consumer.internals"
                + ".ConsumerMembershipManager", "off");
        new Stall().run();
        double cpu = ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class)
                .getProcessCpuTime() / 1e9;
        System.out.printf(Locale.ROOT, ", \"client_cpu_s\": %.3f", cpu);
        System.out.print(", \"errors\": " + ERRORS);
        System.out.println(firstError == null ? "}" : ", \"error\": \"" + firstError + "\"}");
        System.exit(ERRORS.get() == 0 ? 0 : 1);
    }
}
