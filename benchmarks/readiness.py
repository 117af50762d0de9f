"""How soon /readyz answers while clients keep the gateway busy: at its own port, and at its metrics port."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import msgspec
import uvloop

from benchmarks.result import Result
from benchmarks.stacks import stack, target_of
from gapless.demo_steps import Target
from local.layout import GATEWAY_METRICS, read_description
from producers.generate import bodies
from producers.load import percentile
from producers.load import run as send
from producers.wire import WireClient

BUSY_CLIENTS = (10, 100)
SECONDS = 30.0
TARGET_MS = 50.0
_EVERY_S = 0.025
_WARM_UP_S = 3.0


def run() -> list[Result]:
    """Each request over a new connection, as load balancers ask; at both ports in turn, under the same load."""
    results = []
    with stack({"invoices": 1, "documents": 0}) as made:
        ports = read_description(made.data)["ports"]
        for clients in BUSY_CLIENTS:
            with _busy(target_of(made), clients):
                time.sleep(_WARM_UP_S)
                took = _ask({"own": ports["gateway"], "metrics": ports[GATEWAY_METRICS]})
            for door, target_ms in (("own", None), ("metrics", TARGET_MS)):
                ms = [seconds * 1000 for seconds in took[door]]
                results.append(
                    Result(
                        f"/readyz at the {door} port, {clients} busy clients, p99",
                        percentile(ms, 99),
                        "ms",
                        target_ms,
                        less_is_better=True,
                        note=f"p50 {percentile(ms, 50):.1f} ms, worst {max(ms):.0f} ms of {len(ms)}",
                    )
                )
    return results


def _ask(ports: dict[str, int]) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {door: [] for door in ports}
    end = time.monotonic() + SECONDS
    # A turn asks at every door, however long one takes.
    while time.monotonic() < end:
        for door, port in ports.items():
            began = time.monotonic()
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            answer.read()
            connection.close()
            took[door].append(time.monotonic() - began)
            if answer.status != 200:
                raise RuntimeError(f"/readyz at {port}: {answer.status}")
            time.sleep(max(0.0, _EVERY_S - (time.monotonic() - began)))
    return took


@contextmanager
def _busy(target: Target, clients: int) -> Iterator[None]:
    """So many clients, in a process of their own, each with one order after the other."""
    process = multiprocessing.get_context("spawn").Process(target=_load, args=(target, clients), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _load(target: Target, clients: int) -> None:
    uvloop.run(_send(target, clients))


async def _send(target: Target, clients: int) -> None:
    payloads = (msgspec.json.encode(body) for body in bodies(10_000_000, seed=clients, prefix=f"READY{clients}"))
    async with WireClient(target.url, target.api_key, connections=clients) as client:
        await send(client, payloads, workers=clients)
