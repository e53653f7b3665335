import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The common workload; see workload.py. */
final class Workload {
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    static final int RECORDS = 120;
    static final int[] BIG_SIZES = {1, 1000000, 5242880, 5242880, 5242880, 5242880, 5242880};
    static final int[] BIG_CODECS = {0, 0, 0, 1, 2, 3, 4};
    private static final int[] SIZES = {1, 2, 10, 100, 1000, 20000, 300000};

    private Workload() {
    }

    static byte[] contents(int i, int size) {
        byte[] bytes = new byte[size];
        for (int j = 0; j < size; j++)
            bytes[j] = (byte) (7 * i + 13 * j + (j >> 8));
        return bytes;
    }

    static long timestamp(int i) {
        return 1700000000000L + 1000L * i;
    }

    private static List<Header> headers(int i) {
        List<Header> headers = new ArrayList<>();
        headers.add(new RecordHeader("h0", ("v" + i).getBytes()));
        headers.add(new RecordHeader("h0", new byte[0]));
        headers.add(new RecordHeader("h2", new byte[] {0, (byte) 255, (byte) i}));
        return headers.subList(0, i % 4);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int partition, int i) {
        byte[] key = i % 5 == 0 ? null : i % 5 == 1 ? new byte[0] : ("key-" + i).getBytes();
        byte[] value = i % 11 == 7 && i % 5 != 0 ? null : contents(i, SIZES[i % 7]);
        return new ProducerRecord<>(topic, partition, timestamp(i), key, value, headers(i));
    }

    static ProducerRecord<byte[], byte[]> bigRecord(String topic, int i) {
        return new ProducerRecord<>(topic, 0, timestamp(i), ("big-" + i).getBytes(), contents(i, BIG_SIZES[i]), headers(i));
    }

    /** Null, or how a record that was read differs from the one that was sent. */
    static String difference(ConsumerRecord<byte[], byte[]> got, long offset, ProducerRecord<byte[], byte[]> wanted) {
        String what = got.offset() != offset ? "offset " + got.offset()
            : !Arrays.equals(got.key(), wanted.key()) ? "key"
            : !Arrays.equals(got.value(), wanted.value()) ? "value"
            : !Arrays.equals(got.headers().toArray(), wanted.headers().toArray()) ? "headers"
            : got.timestamp() != wanted.timestamp() ? "timestamp " + got.timestamp() : null;
        return what == null ? null : "offset " + offset + " of partition " + got.partition() + ": wrong " + what;
    }
}
