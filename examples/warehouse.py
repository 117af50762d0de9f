"""A warehouse that lives from the topics: a parcel for each confirmed order, exactly once. `python warehouse.py`."""

import os
import signal

import psycopg
from gapless_client import records
from gapless_client.consumer import Consumer
from gapless_client.events import Decoder, Event
from gapless_client.positions import PostgresPositions

TABLES = """
CREATE TABLE IF NOT EXISTS gapless_positions (
    consumer text, topic text, partition integer, seq bigint NOT NULL, next_offset bigint NOT NULL,
    PRIMARY KEY (consumer, topic, partition));
-- Order ids are unique per seller.
CREATE TABLE IF NOT EXISTS parcels (
    seller_id text, order_id text, contents text NOT NULL, state text NOT NULL DEFAULT 'waits for payment',
    PRIMARY KEY (seller_id, order_id));
"""
_PACK = {"CONFIRMED": "to pack", "CANCELLED": "cancelled", "SHIPPED": "sent"}


def main() -> None:
    """Run until SIGTERM."""
    with psycopg.connect(os.environ["DATABASE"], autocommit=True) as database:
        database.execute(TABLES)
        kafka = {"bootstrap.servers": os.environ["KAFKA"], "group.id": "warehouse"}
        positions = PostgresPositions(database, "warehouse")
        with Consumer(["order-events"], positions, kafka, Decoder(os.environ["GAPLESS_URL"])) as consumer:

            @consumer.on(records.OrderPlaced)
            def placed(event: Event[records.OrderPlaced]) -> None:
                order = event.value
                contents = ", ".join(f"{line['quantity']} {line['sku']}" for line in order["lines"])
                # A plain insert: an event that came twice would be an error.
                database.execute(
                    "INSERT INTO parcels (seller_id, order_id, contents) VALUES (%s, %s, %s)",
                    (order["seller_id"], order["order_id"], contents),
                )

            @consumer.on(records.OrderStateChanged)
            def changed(event: Event[records.OrderStateChanged]) -> None:
                order = event.value
                state = _PACK.get(order["to_state"])
                if state is not None:
                    database.execute(
                        "UPDATE parcels SET state = %s WHERE (seller_id, order_id) = (%s, %s)",
                        (state, order["seller_id"], order["order_id"]),
                    )

            signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
            consumer.run()


if __name__ == "__main__":
    main()
