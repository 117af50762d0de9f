package gapless.examples;

import java.nio.charset.StandardCharsets;
import java.util.Set;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorSupplier;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** Leaves out records whose seq is not greater than the last of their partition: the relay may repeat itself. */
final class Repeats implements FixedKeyProcessor<byte[], GenericRecord, GenericRecord> {
    private static final String STORE = "last-seq";

    private FixedKeyProcessorContext<byte[], GenericRecord> context;
    private KeyValueStore<String, Long> last;

    /** With the store that it needs. */
    static FixedKeyProcessorSupplier<byte[], GenericRecord, GenericRecord> supplier() {
        return new FixedKeyProcessorSupplier<>() {
            @Override
            public FixedKeyProcessor<byte[], GenericRecord, GenericRecord> get() {
                return new Repeats();
            }

            @Override
            public Set<StoreBuilder<?>> stores() {
                var store = Stores.persistentKeyValueStore(STORE);
                return Set.of(Stores.keyValueStoreBuilder(store, Serdes.String(), Serdes.Long()));
            }
        };
    }

    @Override
    public void init(FixedKeyProcessorContext<byte[], GenericRecord> context) {
        this.context = context;
        this.last = context.getStateStore(STORE);
    }

    @Override
    public void process(FixedKeyRecord<byte[], GenericRecord> record) {
        RecordMetadata from = context.recordMetadata().orElseThrow();
        String place = from.topic() + "-" + from.partition();
        byte[] header = record.headers().lastHeader("seq").value();
        long seq = Long.parseLong(new String(header, StandardCharsets.UTF_8));
        Long before = last.get(place);
        if (before == null || seq > before) {
            last.put(place, seq);
            context.forward(record);
        }
    }
}
