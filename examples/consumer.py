"""Events as JSON lines, with Confluent's library alone: `python consumer.py order-events invoice-events`.

It keeps nothing: each start reads what the topics still have. `warehouse.py` shows how a consumer goes on where it was.
"""

import json
import os
import signal
import sys
from typing import Any

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def main(topics: list[str]) -> None:
    """Run until SIGTERM."""
    decode = AvroDeserializer(SchemaRegistryClient({"url": os.environ["GAPLESS_URL"]}))
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA"],
            "group.id": "example-consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe(topics)
    #: The last seq of each partition: what is not greater is a repeat.
    last: dict[tuple[Any, Any], int] = {}
    is_stopping = False

    def stop(*_: Any) -> None:
        nonlocal is_stopping
        is_stopping = True

    signal.signal(signal.SIGTERM, stop)
    while not is_stopping:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        headers: dict[str, Any] = dict(message.headers() or [])  # type: ignore[arg-type]
        seq, place = int(headers["seq"]), (message.topic(), message.partition())
        if seq <= last.get(place, 0):
            continue
        last[place] = seq
        # The deserializer gives a bare dict: the header tells what it is.
        value = decode(message.value(), SerializationContext(str(message.topic()), MessageField.VALUE))
        event = {"id": headers["ce_id"].decode(), "type": headers["type"].decode(), "value": value}
        print(json.dumps(event, default=str), flush=True)
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
