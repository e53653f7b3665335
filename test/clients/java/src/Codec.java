import java.lang.reflect.InvocationTargetException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.Readable;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;

/**
 * Compares our codec with Kafka's own classes.
 *
 * A message is filled at random by its schema, encoded, read by Kafka's class and encoded by that:
 * these bytes must come back from our codec as they are. The other way round, a random message of
 * ours must come back from Kafka's class. Record batches likewise.
 */
public final class Codec {
    private static final int ROUNDS = 40;
    private static final int BATCHES = 60;

    private final Random random;
    private final Recode recode;
    private int messages;

    private Codec(long seed, Recode recode) {
        this.random = new Random(seed);
        this.recode = recode;
    }

    public static void main(String[] args) throws Exception {
        long seed = args.length > 1 ? Long.parseLong(args[1]) : System.nanoTime();
        Report.note("SEED=" + seed);
        try (Recode recode = new Recode(args[0])) {
            Codec codec = new Codec(seed, recode);
            codec.allMessages();
            codec.allBatches();
            codec.endMarkers();
            Report.note(codec.messages + " messages and batches compared");
        }
        System.exit(Report.exitCode());
    }

    // ------------------------------------------------------------------
    // Messages
    // ------------------------------------------------------------------

    private void allMessages() throws Exception {
        Map<String, int[]> ours = new TreeMap<>();
        for (String line : recode.messages()) {
            String[] words = line.split(" ");
            ours.put(words[0], new int[] {Integer.parseInt(words[1]), Integer.parseInt(words[2])});
        }
        List<String> missing = new ArrayList<>();
        for (ApiKeys api : ApiKeys.apisForListener(ApiMessageType.ListenerType.BROKER)) {
            for (String name : new String[] {api.name + "Request", api.name + "Response"}) {
                int[] range = ours.get(name);
                if (!api.hasValidVersion() || api == ApiKeys.GET_TELEMETRY_SUBSCRIPTIONS || api == ApiKeys.PUSH_TELEMETRY)
                    continue; // served with a telemetry plugin only
                int oldest = api == ApiKeys.PRODUCE ? 3 : api.oldestVersion(); // 0 to 2 are listed, not served
                if (range == null || range[0] > oldest || range[1] < api.latestVersion(false))
                    missing.add(name + " " + oldest + "-" + api.latestVersion(false));
            }
        }
        Report.same(missing, List.of(), "every message that a single node serves");
        for (Map.Entry<String, int[]> message : ours.entrySet())
            oneMessage(message.getKey(), message.getValue()[0], message.getValue()[1]);
    }

    private void oneMessage(String name, int first, int last) throws Exception {
        String suffix = name.startsWith("ConsumerProtocol") ? "" : "Data";
        Class<?> type = Class.forName("org.apache.kafka.common.message." + name + suffix);
        Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
        String problem = null;

        for (int version = first; version <= last && problem == null; version++) {
            if (version >= schemas.length || schemas[version] == null)
                continue; // a header that Kafka's classes no longer have
            for (int round = 0; round < ROUNDS && problem == null; round++) {
                budget = round == 0 ? 200_000 : 3_000;
                problem = theirs(type, name, version, schemas[version]);
                if (problem == null)
                    problem = ours(type, name, version);
                if (problem != null)
                    problem = "version " + version + ": " + problem;
                messages += 2;
            }
        }
        if (!Report.ok(problem == null, name + " versions " + first + "-" + last))
            Report.note(problem);
    }

    /** From Kafka's class through our codec; null or what is wrong. */
    private String theirs(Class<?> type, String name, int version, Schema schema) throws Exception {
        Struct struct = (Struct) randomValue(schema);
        ByteBuffer buffer = ByteBuffer.allocate(schema.sizeOf(struct));
        struct.writeTo(buffer);
        byte[] wanted = throughTheirs(type, version, buffer.array());
        try {
            byte[] got = recode.message(name, version, wanted);
            if (!Arrays.equals(got, wanted))
                return "theirs came back differently: " + difference(got, wanted);
            // The schema also writes tagged fields that hold their default, which is never sent.
            if (!Arrays.equals(recode.message(name, version, buffer.array()), wanted))
                return "a message with tagged defaults came back differently: " + hex(buffer.array());
        } catch (Recode.Refused e) {
            return "theirs was refused: " + e.getMessage() + ": " + hex(wanted);
        }
        return null;
    }

    /** From our codec through Kafka's class. */
    private String ours(Class<?> type, String name, int version) throws Exception {
        byte[] wanted;
        try {
            wanted = recode.random(name, version, random.nextLong());
        } catch (Recode.Refused e) {
            return "ours cannot be encoded: " + e.getMessage();
        }
        try {
            byte[] got = throughTheirs(type, version, wanted);
            return Arrays.equals(got, wanted) ? null : "ours came back differently: " + difference(got, wanted);
        } catch (InvocationTargetException e) {
            return "ours was refused: " + e.getCause() + ": " + hex(wanted);
        }
    }

    private static byte[] throughTheirs(Class<?> type, int version, byte[] bytes) throws Exception {
        ByteBufferAccessor in = new ByteBufferAccessor(ByteBuffer.wrap(bytes));
        Message message = (Message) type.getConstructor(Readable.class, short.class).newInstance(in, (short) version);
        if (in.remaining() != 0)
            throw new IllegalStateException(in.remaining() + " bytes are left: " + hex(bytes));
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer out = ByteBuffer.allocate(message.size(cache, (short) version));
        message.write(new ByteBufferAccessor(out), cache, (short) version);
        return out.array();
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes, 0, Math.min(bytes.length, 200));
    }

    private static String difference(byte[] got, byte[] wanted) {
        int at = Arrays.mismatch(got, wanted);
        return got.length + " bytes, not " + wanted.length + ", first difference at " + at + ": got " + hex(got)
            + " not " + hex(wanted);
    }

    // ------------------------------------------------------------------
    // Random values of a schema
    // ------------------------------------------------------------------

    /** How many more bytes and elements a message may get. */
    private int budget;

    private static final int[] LENGTHS = {0, 0, 1, 2, 3, 10, 63, 64, 126, 127, 128, 129, 1000, 16382, 16383, 16384,
        32766, 32767};

    /** With the limits of the formats among them: compact lengths, two-byte lengths. */
    private int randomLength(int most) {
        int length = random.nextInt(3) > 0 ? random.nextInt(6) : LENGTHS[random.nextInt(LENGTHS.length)];
        length = Math.min(Math.min(length, most), Math.max(budget, 0));
        budget -= length;
        return length;
    }

    private String randomString() {
        int length = randomLength(32767);
        StringBuilder text = new StringBuilder();
        boolean ascii = random.nextInt(3) > 0;
        for (int bytes = 0; bytes < length;) {
            int point = ascii || length - bytes < 4 ? random.nextInt(128) : random.nextInt(0x10ffff);
            if (point >= 0xd800 && point <= 0xdfff)
                continue;
            text.appendCodePoint(point);
            bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
        }
        return text.toString();
    }

    private byte[] randomBytes(int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }

    private long randomNumber(int bits) {
        switch (random.nextInt(5)) {
            case 0: return 0;
            case 1: return -1;
            case 2: return (1L << (bits - 1)) - 1;
            case 3: return -1L << (bits - 1);
            default: return random.nextLong() >> (64 - bits);
        }
    }

    private Object randomValue(Type type) {
        if (type.isNullable() && random.nextInt(5) == 0)
            return null;
        if (type instanceof Schema)
            return randomStruct((Schema) type);
        if (type.isArray()) {
            Object[] items = new Object[random.nextInt(10) == 0 ? randomLength(300) : Math.min(random.nextInt(4), Math.max(budget, 0))];
            budget -= items.length;
            for (int i = 0; i < items.length; i++)
                items[i] = randomValue(type.arrayElementType().get());
            return items;
        }
        if (type instanceof TaggedFields)
            return randomTags((TaggedFields) type);
        if (type == Type.BOOLEAN)
            return random.nextBoolean();
        if (type == Type.INT8)
            return (byte) randomNumber(8);
        if (type == Type.INT16)
            return (short) randomNumber(16);
        if (type == Type.UINT16)
            return (int) randomNumber(16) & 0xffff;
        if (type == Type.INT32)
            return (int) randomNumber(32);
        if (type == Type.UNSIGNED_INT32)
            return randomNumber(32) & 0xffffffffL;
        if (type == Type.INT64)
            return randomNumber(64);
        if (type == Type.UUID)
            return new Uuid(randomNumber(64), randomNumber(64));
        if (type == Type.FLOAT64)
            return random.nextInt(4) == 0 ? 0.0 : random.nextGaussian() * 1e9;
        switch (type.toString()) {
            case "STRING": case "COMPACT_STRING": case "NULLABLE_STRING": case "COMPACT_NULLABLE_STRING":
                return randomString();
            case "BYTES": case "COMPACT_BYTES": case "NULLABLE_BYTES": case "COMPACT_NULLABLE_BYTES":
                return ByteBuffer.wrap(randomBytes(randomLength(100_000)));
            case "RECORDS": case "COMPACT_RECORDS": case "NULLABLE_RECORDS": case "COMPACT_NULLABLE_RECORDS":
                return MemoryRecords.readableRecords(ByteBuffer.wrap(randomBytes(randomLength(100_000))));
            default:
                throw new IllegalStateException("unknown type " + type);
        }
    }

    private Struct randomStruct(Schema schema) {
        Struct struct = new Struct(schema);
        budget--;
        for (BoundField field : schema.fields())
            struct.set(field, randomValue(field.def.type));
        return struct;
    }

    /** Some of the known tagged fields, and some that nobody knows. */
    private Map<Integer, Object> randomTags(TaggedFields type) {
        Map<Integer, Object> tags = new TreeMap<>();
        for (Map.Entry<Integer, Field> field : type.fields().entrySet())
            if (random.nextBoolean())
                tags.put(field.getKey(), randomValue(field.getValue().type));
        if (random.nextInt(4) == 0) {
            int tag = 50;
            for (int n = 1 + random.nextInt(3); n > 0; n--) {
                tag += 1 + (random.nextInt(3) == 0 ? random.nextInt(100_000) : random.nextInt(100));
                tags.put(tag, new RawTaggedField(tag, randomBytes(randomLength(300))));
            }
        }
        return tags;
    }

    // ------------------------------------------------------------------
    // Record batches
    // ------------------------------------------------------------------

    private static ByteBuffer batch(List<Record> records, RecordBatch like, CompressionType codec) {
        ByteBuffer buffer = ByteBuffer.allocate(1 << 16);
        // 4.3's builder grows the buffer it was given and returns its own.
        MemoryRecordsBuilder builder = MemoryRecords.builder(buffer, RecordBatch.MAGIC_VALUE_V2,
            Compression.of(codec).build(), TimestampType.CREATE_TIME, like.baseOffset(), RecordBatch.NO_TIMESTAMP,
            like.producerId(), like.producerEpoch(), like.baseSequence(), like.isTransactional(), like.isControlBatch(),
            like.partitionLeaderEpoch());
        for (Record record : records)
            builder.append(record);
        return builder.build().buffer();
    }

    private void allBatches() throws Exception {
        for (CompressionType codec : CompressionType.values()) {
            for (boolean transactional : new boolean[] {false, true}) {
                String problem = null;
                for (int round = 0; round < BATCHES && problem == null; round++) {
                    problem = oneBatch(codec, transactional, round);
                    messages += 2;
                }
                if (!Report.ok(problem == null, (transactional ? "transactional" : "plain") + " batches, " + codec.name))
                    Report.note(problem);
            }
        }
    }

    private ByteBuffer randomData(int most) {
        if (random.nextInt(6) == 0)
            return null;
        byte[] bytes = randomBytes(randomLength(most));
        if (random.nextBoolean())
            Arrays.fill(bytes, bytes.length / 3, bytes.length, (byte) 'a'); // something to compress
        return ByteBuffer.wrap(bytes);
    }

    private String oneBatch(CompressionType codec, boolean transactional, int round) throws Exception {
        boolean idempotent = transactional || random.nextBoolean();
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(codec).build(), TimestampType.CREATE_TIME, random.nextInt(4) == 0 ? 0 : random.nextLong() >>> 2,
            RecordBatch.NO_TIMESTAMP, idempotent ? random.nextLong() >>> 1 : -1,
            (short) (idempotent ? random.nextInt(32768) : -1), idempotent ? random.nextInt() >>> 1 : -1, transactional,
            false, random.nextInt(1000));
        budget = round % 10 == 0 ? 5_000_000 : 20_000;
        long timestamp = random.nextLong() >>> 20;
        for (int n = 1 + random.nextInt(round % 7 == 0 ? 2000 : 20); n > 0; n--) {
            Header[] headers = new Header[random.nextInt(3) == 0 ? random.nextInt(5) : 0];
            for (int i = 0; i < headers.length; i++) {
                ByteBuffer value = randomData(200);
                headers[i] = new RecordHeader(randomString(), value == null ? null : value.array());
            }
            builder.append(Math.max(0, timestamp + random.nextInt(100_000) - 50_000), randomData(32767),
                round % 10 == 0 && n == 1 ? ByteBuffer.wrap(randomBytes(3_000_000)) : randomData(32767), headers);
        }
        return compareBatch(builder.build(), codec);
    }

    private String compareBatch(MemoryRecords records, CompressionType codec) throws Exception {
        MutableRecordBatch batch = records.batches().iterator().next();
        List<Record> list = new ArrayList<>();
        batch.forEach(list::add);
        byte[] plain = bytes(codec == CompressionType.NONE ? records.buffer() : batch(list, batch, CompressionType.NONE));
        try {
            // Theirs, decompressed and built again by us.
            byte[] got = recode.batch(records.buffer(), 0);
            if (!Arrays.equals(got, plain))
                return "theirs came back differently: " + difference(got, plain);
            // Ours, compressed by us, read by them.
            MemoryRecords ours = MemoryRecords.readableRecords(ByteBuffer.wrap(recode.batch(ByteBuffer.wrap(plain), codec.id)));
            MutableRecordBatch back = ours.batches().iterator().next();
            back.ensureValid();
            List<Record> again = new ArrayList<>();
            back.forEach(again::add);
            if (back.compressionType() != codec || !Arrays.equals(bytes(batch(again, back, CompressionType.NONE)), plain))
                return "ours was read differently: " + back;
        } catch (Recode.Refused e) {
            return "refused: " + e.getMessage() + ": " + batch;
        }
        return null;
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    private void endMarkers() throws Exception {
        Map<ControlRecordType, Integer> types = new HashMap<>();
        types.put(ControlRecordType.ABORT, 0);
        types.put(ControlRecordType.COMMIT, 1);
        for (Map.Entry<ControlRecordType, Integer> type : types.entrySet()) {
            String problem = null;
            for (int round = 0; round < 20 && problem == null; round++) {
                long offset = random.nextLong() >>> 1, producer = random.nextLong() >>> 1, time = random.nextLong() >>> 20;
                int leaderEpoch = random.nextInt() >>> 1, coordinatorEpoch = random.nextInt() >>> 1;
                short epoch = (short) random.nextInt(32768);
                MemoryRecords marker = MemoryRecords.withEndTransactionMarker(offset, time, leaderEpoch, producer, epoch,
                    new EndTransactionMarker(type.getKey(), coordinatorEpoch));
                byte[] wanted = bytes(marker.buffer());
                byte[] got = recode.endMarker(type.getValue(), offset, leaderEpoch, producer, epoch, coordinatorEpoch, time);
                if (!Arrays.equals(got, wanted))
                    problem = "ours differs: " + difference(got, wanted);
                else if (!Arrays.equals(recode.batch(marker.buffer(), 0), wanted))
                    problem = "theirs came back differently";
                messages += 2;
            }
            if (!Report.ok(problem == null, "control batches, " + type.getKey()))
                Report.note(problem);
        }
    }
}
