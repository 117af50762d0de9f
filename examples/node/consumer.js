// Events as JSON lines, with kafkajs and Confluent's deserializer: `node consumer.js order-events invoice-events`.
//
// It keeps nothing: each start reads what the topics still have. To go on where it was, store the last `seq` of each
// partition together with your own effects.

import { AvroDeserializer, SchemaRegistryClient, SerdeType } from "@confluentinc/schemaregistry";
import { Kafka, logLevel } from "kafkajs";

const topics = process.argv.slice(2);
const { KAFKA, GAPLESS_URL } = process.env;
if (!KAFKA || !GAPLESS_URL || topics.length === 0) {
  console.error("usage: KAFKA=host:port GAPLESS_URL=http://host:port node consumer.js TOPIC…");
  process.exit(2);
}

const issued = ({ invoice_number, currency, totals: { gross_minor } }) => ({
  invoice_number,
  currency,
  totals: { gross_minor },
});
// What is done with an event, by its type. A type without a handler is one that you don't need, or one of a later
// release.
const handlers = {
  "gapless.OrderPlaced": ({ currency, gross_minor }) => ({ currency, gross_minor }),
  "gapless.OrderStateChanged": ({ version, to_state }) => ({ version, to_state }),
  "gapless.InvoiceIssued": issued,
  "gapless.CreditNoteIssued": issued,
};

const registry = new SchemaRegistryClient({ baseURLs: [GAPLESS_URL] });
const deserializer = new AvroDeserializer(registry, SerdeType.VALUE, {});
const kafka = new Kafka({ clientId: "example-node", brokers: KAFKA.split(","), logLevel: logLevel.WARN });
const consumer = kafka.consumer({ groupId: "example-node", readUncommitted: false });

// The last seq of each partition: what is not greater is a repeat.
const last = new Map();

async function handle({ topic, partition, message: { headers, value } }) {
  const place = `${topic}-${partition}`;
  const seq = Number(headers.seq);
  if (seq <= (last.get(place) ?? 0)) return;
  const type = headers.type.toString();
  const event = await deserializer.deserialize(topic, value);
  const { seller_id, order_id } = event;
  const line = { id: headers.ce_id.toString(), type, seller_id, order_id, ...handlers[type]?.(event) };
  process.stdout.write(`${JSON.stringify(line)}\n`);
  last.set(place, seq);
}

// kafkajs would call `handle` again and again, and log the error: let whoever runs this program see it end.
const end = (error) => {
  console.error(error);
  process.exit(1);
};
consumer.on(consumer.events.CRASH, ({ payload: { error, restart } }) => {
  // It goes on by itself once the brokers are back.
  if (!restart) end(error);
});
process.once("SIGTERM", () => consumer.disconnect());

await consumer.connect();
await consumer.subscribe({ topics, fromBeginning: true });
await consumer.run({ autoCommit: false, eachMessage: (record) => handle(record).catch(end) });
