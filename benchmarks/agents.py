"""How many requests a second one worker commits, from the log to Postgres: Avro in, Avro out, RocksDB dedupe."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

import psycopg
from confluent_kafka import Producer

from benchmarks.rate import per_second
from benchmarks.result import Result
from benchmarks.stacks import PARTITIONS, servers, settings_of
from domain.records import Address, Buyer, CheckoutRequest, InvoiceRequest, RequestedLine
from schemas import catalog, codec

#: Enough for some 5 s of steady work.
REQUESTS = 60_000
REPEAT_EVERY = 10
#: SKUs of a shop whose orders are spread.
SPREAD_SKUS = 10_000
_LINES = 3
_POLL_S = 0.02

_ADDRESS: Address = {"street": "1 Main St", "city": "Lyon", "postal_code": "69001", "country": "FR"}
_BUYER: Buyer = {"name": "Zoë O'Neil", "email": "zoe@example.com", "vat_id": None, "address": _ADDRESS}


def invoices() -> list[Result]:
    """One invoices worker, a tenth of the requests repeats."""
    with servers() as made:
        rate, rss_mb = _run(settings_of(made), "invoices", catalog.INVOICE_REQUESTS, _invoice_requests())
    note = f"{REQUESTS} requests of {_LINES} lines, 1 in {REPEAT_EVERY} a repeat, {PARTITIONS} partitions"
    return [
        Result("invoices agent, one worker", rate, "orders/s", 8_000, note=note),
        Result("invoices worker, resident memory", rss_mb, "MB", 250, less_is_better=True),
    ]


def checkouts() -> list[Result]:
    """One checkouts worker: every order wants the same SKU, and one SKU of many."""
    rates = {}
    for skus in (1, SPREAD_SKUS):
        with servers() as made:
            _stock(made.endpoints()["postgres"], skus)
            rates[skus], rss_mb = _run(
                settings_of(made), "checkouts", catalog.CHECKOUT_REQUESTS, _checkout_requests(skus)
            )
    note = f"{REQUESTS} orders of one line, 1 in {REPEAT_EVERY} a repeat, {PARTITIONS} partitions"
    return [
        Result("checkouts agent, one worker, all on one SKU", rates[1], "orders/s", note=note),
        Result(f"checkouts agent, one worker, over {SPREAD_SKUS:,} SKUs", rates[SPREAD_SKUS], "orders/s", note=note),
        Result("checkouts worker, resident memory", rss_mb, "MB", 250, less_is_better=True),
    ]


def _run(
    environment: Mapping[str, str], role: str, topic: catalog.Topic, requests: Iterator[tuple[str, bytes]]
) -> tuple[float, float]:
    """Fill the topic, then start a worker; its rate, and its memory in MB."""
    producer = Producer(
        {
            "bootstrap.servers": environment["GAPLESS_KAFKA_BOOTSTRAP"],
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": REQUESTS + 1,
            "linger.ms": 5,
        }
    )
    for index, (order_id, value) in enumerate(requests):
        producer.produce(topic.name, key=order_id.encode(), value=value)
        if index % 1_000 == 0:
            producer.poll(0)
    producer.flush()
    command = [sys.executable, "-m", "gapless", "worker", role]
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as worker:
        try:
            return _measure(environment["GAPLESS_POSTGRES_URL"], role, worker.pid)
        finally:
            worker.send_signal(signal.SIGTERM)


def _orders(prefix: str) -> Iterator[tuple[str, int]]:
    for index in range(REQUESTS):
        order = index - 7 if index % REPEAT_EVERY == REPEAT_EVERY - 1 else index
        yield f"{prefix}-{order}", order


def _invoice_requests() -> Iterator[tuple[str, bytes]]:
    for order_id, order in _orders("INVOICE"):
        lines = [_line("S-1", f"{(order + each) % 1_000}.99") for each in range(_LINES)]
        yield order_id, codec.encode(catalog.INVOICE_REQUEST, _invoice_request(order_id, lines))


def _checkout_requests(skus: int) -> Iterator[tuple[str, bytes]]:
    for order_id, order in _orders(f"OF-{skus}"):
        # Neighbours in the log want SKUs far apart, as customers do.
        body = _checkout_request(order_id, [_line(f"S-{order * 7_919 % skus}", "19.99")])
        yield order_id, codec.encode(catalog.CHECKOUT_REQUEST, body)


def _invoice_request(order_id: str, lines: list[RequestedLine]) -> InvoiceRequest:
    return {
        "received_at": 0,
        "seller_id": "demo",
        "order_id": order_id,
        "kind": "invoice",
        "currency": "EUR",
        "note": None,
        "buyer": _BUYER,
        "lines": lines,
    }


def _checkout_request(order_id: str, lines: list[RequestedLine]) -> CheckoutRequest:
    return {
        "received_at": 0,
        "seller_id": "demo",
        "order_id": order_id,
        "customer": "C-1",
        "payment_token": "tok_ok",
        "currency": "EUR",
        "note": None,
        "buyer": _BUYER,
        "lines": lines,
    }


def _line(sku: str, unit_price: str) -> RequestedLine:
    return {
        "sku": sku,
        "description": "Café crème",
        "quantity": "2",
        "unit_price": unit_price,
        "vat_rate": "20.00",
        "vat_category": "S",
    }


def _stock(postgres_url: str, skus: int) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO stock (seller_id, sku, on_hand) SELECT 'demo', 'S-' || n, %s FROM generate_series(0, %s) AS n"
            " ON CONFLICT (seller_id, sku) DO NOTHING",
            (10 * REQUESTS, skus - 1),
        )


def _measure(postgres_url: str, role: str, pid: int) -> tuple[float, float]:
    """Requests committed a second, and the worker's memory in MB then."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:

        def committed() -> int:
            row = connection.execute("SELECT coalesce(sum(next_offset), 0) FROM positions WHERE agent = %s", (role,))
            return int((row.fetchone() or (0,))[0])

        before = committed()
        return per_second(lambda: committed() - before, REQUESTS, poll_s=_POLL_S), _rss_mb(pid)


def _rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return kib / 1024
