import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;

import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.ApiMessageType.ListenerType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Errors;

/**
 * Writes out of Kafka's jar what test/lint/lint_messages compares with: the definitions of messages,
 * and tables of APIs and errors.
 */
public final class Reference {
    private Reference() {
    }

    public static void main(String[] args) throws Exception {
        Path messages = Files.createDirectories(Path.of(args[0], "kafka-messages"));
        Path tables = Files.createDirectories(Path.of(args[0], "kafka-reference"));
        try (JarFile jar = new JarFile(Path.of(ApiKeys.class.getProtectionDomain().getCodeSource().getLocation().toURI()).toFile())) {
            for (JarEntry entry : java.util.Collections.list(jar.entries()))
                if (entry.getName().matches("common/message/\\w+\\.json"))
                    Files.write(messages.resolve(Path.of(entry.getName()).getFileName()),
                        jar.getInputStream(entry).readAllBytes());
        }
        try (PrintStream out = new PrintStream(tables.resolve("apis.tsv").toFile())) {
            out.print("key\tname\toldest\tlatest\tflexible_from\tserved_by_a_single_node\n");
            for (ApiKeys api : ApiKeys.values())
                writeApi(out, api);
        }
        try (PrintStream out = new PrintStream(tables.resolve("errors.tsv").toFile())) {
            out.print("code\tname\tretriable\n");
            for (Errors error : Errors.values())
                out.print(error.code() + "\t" + error.name() + "\t" + (error.exception() instanceof RetriableException) + "\n");
        }
    }

    private static void writeApi(PrintStream out, ApiKeys api) throws IOException {
        boolean telemetry = api == ApiKeys.GET_TELEMETRY_SUBSCRIPTIONS || api == ApiKeys.PUSH_TELEMETRY;
        boolean served = api.inScope(ListenerType.BROKER) && api.hasValidVersion() && !telemetry;
        int oldest = api == ApiKeys.PRODUCE ? ApiKeys.PRODUCE_API_VERSIONS_RESPONSE_MIN_VERSION : api.oldestVersion();
        int latest = api.latestVersion(false);
        int flexible = -1;
        for (int version = latest; version >= oldest && api.requestHeaderVersion((short) version) >= 2; version--)
            flexible = version;
        out.print(api.id + "\t" + api.name + "\t" + oldest + "\t" + latest + "\t" + flexible + "\t"
            + (served ? "yes" : "no") + "\n");
    }
}
