package gapless.examples;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;

/**
 * Decodes Avro in the Confluent wire format, with the schemas that a registry has for the ids.
 *
 * <p>What Confluent's KafkaAvroDeserializer does, for those who use Maven Central alone.
 */
public final class RegistryDeserializer implements Deserializer<GenericRecord> {
    private static final int HEADER_BYTES = 5;

    private final HttpClient http = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build();
    private final Map<Integer, Schema> schemas = new ConcurrentHashMap<>();
    private final String url;

    /** Decodes with the registry at GAPLESS_URL: Kafka Connect makes one by its name. */
    public RegistryDeserializer() {
        this(System.getenv("GAPLESS_URL"));
    }

    /** Decodes with the registry at {@code url}. */
    RegistryDeserializer(String url) {
        this.url = url;
    }

    @Override
    public GenericRecord deserialize(String topic, byte[] value) {
        if (value == null) {
            return null;
        }
        ByteBuffer header = ByteBuffer.wrap(value);
        if (value.length < HEADER_BYTES || header.get() != 0) {
            throw new SerializationException("a record of " + topic + " is not in the Confluent wire format");
        }
        // An id never changes its schema, so it is asked for once.
        Schema schema = schemas.computeIfAbsent(header.getInt(), this::fetch);
        var body = DecoderFactory.get().binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, null);
        try {
            return new GenericDatumReader<GenericRecord>(schema).read(null, body);
        } catch (IOException error) {
            throw new SerializationException("a record of " + topic + " is no " + schema.getFullName(), error);
        }
    }

    private Schema fetch(int id) {
        URI schema = URI.create(url + "/schemas/ids/" + id + "/schema");
        try {
            HttpRequest request = HttpRequest.newBuilder(schema).timeout(Duration.ofSeconds(10)).build();
            HttpResponse<String> response = http.send(request, HttpResponse.BodyHandlers.ofString());
            if (response.statusCode() != 200) {
                throw new SerializationException(schema + ": " + response.statusCode() + " " + response.body());
            }
            return new Schema.Parser().parse(response.body());
        } catch (IOException error) {
            throw new SerializationException(schema + " can't be read", error);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new SerializationException(schema + " was not read", error);
        }
    }
}
