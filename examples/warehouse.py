"""A warehouse that lives from the topics: each confirmed order is packed and shipped, once. `python warehouse.py`."""

import os
import signal
import threading

import psycopg
from gapless_client import records
from gapless_client.client import Client
from gapless_client.consumer import Consumer
from gapless_client.errors import ProblemError, UnavailableError
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
_PAUSE_SECONDS = 1.0
_TO_PACK = "SELECT order_id FROM parcels WHERE (seller_id, state) = (%s, 'to pack')"


def ship(stop: threading.Event) -> None:
    """Ship what is to be packed, until `stop` is set."""
    with (
        psycopg.connect(os.environ["DATABASE"], autocommit=True) as database,
        Client(os.environ["GAPLESS_URL"], os.environ["GAPLESS_KEY"]) as gapless,
    ):
        while not stop.wait(_PAUSE_SECONDS):
            for (order_id,) in database.execute(_TO_PACK, (os.environ["SELLER"],)).fetchall():
                try:
                    # It is sent when the event says so. Until then, and after a crash, shipping again changes nothing.
                    gapless.ship(order_id)
                except (ProblemError, UnavailableError) as error:
                    # It was cancelled, and an event says so soon; or the gateway is asked again.
                    print(f"{order_id} is not shipped: {error}", flush=True)


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

            stop = threading.Event()
            shipping = threading.Thread(target=ship, args=(stop,))
            signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
            shipping.start()
            try:
                consumer.run()
            finally:
                stop.set()
                shipping.join()


if __name__ == "__main__":
    main()
