package gapless.examples;

import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * What each seller has invoiced, as JSON lines: {@code java -jar revenue.jar invoice-events}.
 *
 * <p>Kafka Streams keeps the totals and the last seq of each partition, in one transaction with its offsets: a start
 * after a crash goes on where they stand, and nothing is counted twice.
 */
public final class Revenue {
    private Revenue() {}

    /** Runs until SIGTERM. */
    public static void main(String[] topics) throws InterruptedException {
        String kafka = System.getenv("KAFKA");
        String registry = System.getenv("GAPLESS_URL");
        if (kafka == null || registry == null || topics.length == 0) {
            System.err.println("usage: KAFKA=host:port GAPLESS_URL=http://host:port java -jar revenue.jar TOPIC…");
            System.exit(2);
        }
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, kafka);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "example-revenue");
        // This also makes it read committed records only.
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        // One name for each instance: it has its partitions again as soon as it is started again, also after a crash.
        settings.put(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG, "1");

        KafkaStreams streams = new KafkaStreams(topology(List.of(topics), registry), settings);
        CountDownLatch ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) {
                ended.countDown();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        ended.await();
        if (streams.state() == KafkaStreams.State.ERROR) {
            System.exit(1);
        }
    }

    private static Topology topology(List<String> topics, String registry) {
        StreamsBuilder builder = new StreamsBuilder();
        Serde<GenericRecord> events = Serdes.serdeFrom(
                (topic, event) -> {
                    throw new UnsupportedOperationException("events are only read");
                },
                new RegistryDeserializer(registry));
        Serde<Totals> totals = Totals.serde();
        Materialized<String, Totals, KeyValueStore<Bytes, byte[]>> kept = Materialized.as("totals");
        builder.stream(topics, Consumed.with(Serdes.ByteArray(), events))
                .processValues(Repeats.supplier())
                .filter((orderId, event) -> Totals.areChangedBy(event))
                .map((orderId, event) -> KeyValue.pair(seller(event), Totals.of(event)))
                .groupByKey(Grouped.with("by-seller", Serdes.String(), totals))
                .reduce(Totals::plus, kept.withKeySerde(Serdes.String()).withValueSerde(totals))
                .toStream()
                .foreach(Revenue::print);
        return builder.build();
    }

    /** Whose event it is, and the currency. The topic's key does not say: two sellers may have the same order id. */
    private static String seller(GenericRecord event) {
        return event.get("seller_id") + " " + event.get("currency");
    }

    private static void print(String key, Totals totals) {
        String[] parts = key.split(" ");
        System.out.printf(
                "{\"seller_id\":\"%s\",\"currency\":\"%s\",\"invoices\":%d,\"credit_notes\":%d,\"gross_minor\":%d}%n",
                parts[0], parts[1], totals.invoices(), totals.creditNotes(), totals.grossMinor());
    }
}
