import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/** Our codec, as recode.c serves it. */
final class Recode implements AutoCloseable {
    private final Process process;
    private final DataOutputStream out;
    private final DataInputStream in;

    Recode(String program) throws IOException {
        process = new ProcessBuilder(program).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        out = new DataOutputStream(new java.io.BufferedOutputStream(process.getOutputStream(), 1 << 16));
        in = new DataInputStream(new java.io.BufferedInputStream(process.getInputStream(), 1 << 16));
    }

    /** What is wrong with a question, in recode's words. */
    static final class Refused extends Exception {
        private static final long serialVersionUID = 1;

        Refused(String why) {
            super(why);
        }
    }

    private byte[] ask(ByteBuffer question) throws IOException, Refused {
        out.writeInt(question.remaining());
        out.write(question.array(), question.arrayOffset() + question.position(), question.remaining());
        out.flush();
        int length = in.readInt();
        int status = in.readByte();
        byte[] answer = in.readNBytes(length - 1);
        if (status != 0)
            throw new Refused(new String(answer, StandardCharsets.UTF_8));
        return answer;
    }

    private static ByteBuffer question(char what, int size) {
        return ByteBuffer.allocate(1 + size).put((byte) what);
    }

    private static ByteBuffer question(char what, String name, int version, int size) {
        byte[] bytes = name.getBytes(StandardCharsets.UTF_8);
        return question(what, 3 + bytes.length + size).put((byte) bytes.length).put(bytes).putShort((short) version);
    }

    String[] messages() throws IOException, Refused {
        return new String(ask(question('L', 0).flip()), StandardCharsets.UTF_8).split("\n");
    }

    byte[] message(String name, int version, byte[] bytes) throws IOException, Refused {
        return ask(question('M', name, version, bytes.length).put(bytes).flip());
    }

    byte[] random(String name, int version, long seed) throws IOException, Refused {
        return ask(question('R', name, version, 8).putLong(seed).flip());
    }

    byte[] batch(ByteBuffer batch, int codec) throws IOException, Refused {
        return ask(question('B', 1 + batch.remaining()).put((byte) codec).put(batch.duplicate()).flip());
    }

    byte[] endMarker(int type, long baseOffset, int leaderEpoch, long producerId, short producerEpoch,
                     int coordinatorEpoch, long timestamp) throws IOException, Refused {
        return ask(question('E', 35).put((byte) type).putLong(baseOffset).putInt(leaderEpoch).putLong(producerId)
                .putShort(producerEpoch).putInt(coordinatorEpoch).putLong(timestamp).flip());
    }

    @Override
    public void close() throws Exception {
        out.close();
        if (process.waitFor() != 0)
            throw new IOException("recode ended with status " + process.exitValue());
    }
}
