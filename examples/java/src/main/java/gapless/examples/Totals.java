package gapless.examples;

import java.nio.ByteBuffer;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** How many invoices and credit notes there are, and what is left of the amounts, in minor units of one currency. */
record Totals(long invoices, long creditNotes, long grossMinor) {

    /** What one event adds. */
    static Totals of(GenericRecord event) {
        long gross = (Long) ((GenericRecord) event.get("totals")).get("gross_minor");
        return isCreditNote(event) ? new Totals(0, 1, -gross) : new Totals(1, 0, gross);
    }

    /** Whether the event adds something. */
    static boolean areChangedBy(GenericRecord event) {
        return isCreditNote(event) || event.getSchema().getFullName().equals("gapless.InvoiceIssued");
    }

    private static boolean isCreditNote(GenericRecord event) {
        return event.getSchema().getFullName().equals("gapless.CreditNoteIssued");
    }

    /** Both together; an overflow is an error. */
    Totals plus(Totals other) {
        return new Totals(
                invoices + other.invoices,
                creditNotes + other.creditNotes,
                Math.addExact(grossMinor, other.grossMinor));
    }

    /** As they stand in the topics of Kafka Streams. */
    static Serde<Totals> serde() {
        return Serdes.serdeFrom(
                (topic, totals) -> totals == null
                        ? null
                        : ByteBuffer.allocate(3 * Long.BYTES)
                                .putLong(totals.invoices)
                                .putLong(totals.creditNotes)
                                .putLong(totals.grossMinor)
                                .array(),
                (topic, bytes) -> {
                    if (bytes == null) {
                        return null;
                    }
                    ByteBuffer from = ByteBuffer.wrap(bytes);
                    return new Totals(from.getLong(), from.getLong(), from.getLong());
                });
    }
}
