"""How many orders a second one invoices worker commits: Avro in, Avro out, RocksDB dedupe, a tenth repeats."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

import psycopg
from confluent_kafka import Producer

from benchmarks.result import Result
from schemas import catalog, codec

#: Enough for some 5 s of steady work.
REQUESTS = 60_000
REPEAT_EVERY = 10
_LINES = 3
_DEADLINE_S = 120.0


def run(environment: Mapping[str, str]) -> list[Result]:
    """`environment` holds the GAPLESS_… settings of a stack whose servers run and whose topics are empty."""
    _fill(environment["GAPLESS_KAFKA_BOOTSTRAP"])
    command = [sys.executable, "-m", "gapless", "worker", "invoices"]
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as worker:
        try:
            rate, rss_mb = _measure(environment["GAPLESS_POSTGRES_URL"], worker.pid)
        finally:
            worker.send_signal(signal.SIGTERM)
    note = f"{REQUESTS} requests of {_LINES} lines, 1 in {REPEAT_EVERY} a repeat, 4 partitions"
    return [
        Result("invoices agent, one worker", rate, "orders/s", 8_000, note=note),
        Result("invoices worker, resident memory", rss_mb, "MB", 250, less_is_better=True),
    ]


def _fill(bootstrap: str) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": REQUESTS + 1,
            "linger.ms": 5,
        }
    )
    for index in range(REQUESTS):
        order = index - 7 if index % REPEAT_EVERY == REPEAT_EVERY - 1 else index
        order_id = f"bench-{order}"
        producer.produce(
            catalog.INVOICE_REQUESTS.name,
            key=order_id.encode(),
            value=codec.encode(catalog.INVOICE_REQUEST, _request(order_id, order)),
        )
        if index % 1_000 == 0:
            producer.poll(0)
    producer.flush()


def _request(order_id: str, index: int) -> dict[str, object]:
    address = {"street": "1 Main St", "city": "Lyon", "postal_code": "69001", "country": "FR"}
    line = {"sku": "S-1", "description": "Café crème", "quantity": "2", "vat_rate": "20.00", "vat_category": "S"}
    return {
        "received_at": 0,
        "seller_id": "demo",
        "order_id": order_id,
        "kind": "invoice",
        "currency": "EUR",
        "note": None,
        "buyer": {"name": "Zoë O'Neil", "email": "zoe@example.com", "vat_id": None, "address": address},
        "lines": [{**line, "unit_price": f"{(index + each) % 1_000}.99"} for each in range(_LINES)],
    }


def _measure(postgres_url: str, pid: int) -> tuple[float, float]:
    """Requests a second from the first commit that is seen to the last, and the worker's memory in MB then."""
    deadline = time.monotonic() + _DEADLINE_S
    first: tuple[float, int] | None = None
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute("SELECT coalesce(sum(next_offset), 0) FROM positions WHERE agent = 'invoices'")
            done = int((row.fetchone() or (0,))[0])
            now = time.monotonic()
            if done and first is None:
                first = (now, done)
            if first is not None and done >= REQUESTS:
                return (done - first[1]) / (now - first[0]), _rss_mb(pid)
            time.sleep(0.02)
    raise TimeoutError(f"the worker did not finish {REQUESTS} requests within {_DEADLINE_S:.0f} s")


def _rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123
        kib = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return kib / 1024
