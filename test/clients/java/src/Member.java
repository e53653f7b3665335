import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.stream.Collectors;

import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member of a group: the Java consumer. See ../../member.py. */
public final class Member implements ConsumerRebalanceListener {
    private final BlockingQueue<String[]> commands = new LinkedBlockingQueue<>();
    private final TreeSet<Integer> owned = new TreeSet<>();
    private final String topic;
    private final KafkaConsumer<String, String> consumer;

    private Member(String topic, Map<String, Object> config) {
        this.topic = topic;
        consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(topic), this);
        Thread reader = new Thread(this::read);
        reader.setDaemon(true);
        reader.start();
    }

    private void read() {
        new BufferedReader(new InputStreamReader(System.in)).lines().forEach(line -> commands.add(line.split(" ")));
        commands.add(new String[] {"close"});
    }

    private static String text(Collection<Integer> partitions) {
        return partitions.isEmpty() ? "-" : partitions.stream().map(String::valueOf).collect(Collectors.joining(","));
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        partitions.forEach(p -> owned.add(p.partition()));
        System.out.println("assigned " + text(owned));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        if (!partitions.isEmpty())
            consumer.commitSync();
        onPartitionsLost(partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        TreeSet<Integer> numbers = new TreeSet<>();
        partitions.forEach(p -> numbers.add(p.partition()));
        owned.removeAll(numbers);
        if (!numbers.isEmpty())
            System.out.println("revoked " + text(numbers));
    }

    private TopicPartition partition(String[] command) {
        return new TopicPartition(topic, Integer.parseInt(command[1]));
    }

    private void obey(String[] command) {
        switch (command[0]) {
            case "commit":
                consumer.commitSync();
                break;
            case "pause":
                consumer.pause(List.of(partition(command)));
                break;
            case "resume":
                consumer.resume(List.of(partition(command)));
                break;
            case "seek":
                consumer.seek(partition(command), Long.parseLong(command[2]));
                break;
            default:
                consumer.close();
        }
        System.out.println("ok");
    }

    private void run() {
        String[] command = {""};
        while (!command[0].equals("close")) {
            for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100)))
                System.out.println("record " + r.partition() + " " + r.offset() + " " + r.value());
            command = commands.poll();
            if (command == null)
                command = new String[] {""};
            else
                obey(command);
        }
    }

    public static void main(String[] args) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", System.getenv("KAFKA_BOOTSTRAP"));
        config.put("group.id", args[1]);
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        config.put("fetch.max.wait.ms", "100");
        if (args.length > 4)
            config.put("group.instance.id", args[4]);
        if (args[2].equals("consumer")) {
            // Sessions and heartbeats are the server's matter.
            config.put("group.protocol", "consumer");
        } else {
            config.put("partition.assignment.strategy",
                args[2].equals("cooperative") ? CooperativeStickyAssignor.class.getName() : RangeAssignor.class.getName());
            config.put("session.timeout.ms", args[3]);
            config.put("heartbeat.interval.ms", "500");
        }
        new Member(args[0], config).run();
        System.exit(0);
    }
}
