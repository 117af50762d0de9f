"""The flash sale: everybody wants the same article, and exactly as many get it as there are pieces."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import cycle

import psycopg
import uvloop

from benchmarks.result import Result
from benchmarks.stacks import stack, target_of, wait_until_ready
from gapless.demo_sale import raise_file_limit
from gapless.demo_steps import Target
from gapless.load_checkouts import put_stock
from gapless.stock import connected, copy_levels
from local.stack import Stack
from producers import load
from producers.client import GatewayAnswer
from producers.generate import checkouts
from producers.load import LoadReport

BUYERS = 50_000
#: Buyers at the same instant, each on a connection of its own; the next comes when one of them is answered.
CONNECTIONS = 5_000
PIECES = 500
WORKERS = {"checkouts": 2, "documents": 0}
_WARM_UP = 2_000
_REDIS_KILLED_AFTER_S = 2.0
_CHECKOUTS_KILLED_EVERY_S = 3.0
#: Who was told no more than "kept" asks again, over so many connections, waiting so long each time.
_ASKING_AT_ONCE = 64
_WAIT_S = 30
#: As often as that: a worker that was killed needs some seconds.
_ASKED_MAX = 8
_END_S_MAX = 60.0
_CONFIRMED, _KEPT, _SHORT = 201, 202, 409


@dataclass(slots=True)
class _Sale:
    """What the buyers of one sale were told."""

    answers: LoadReport = field(default_factory=LoadReport)
    #: The last status of each, by what it sent.
    told: dict[bytes, int] = field(default_factory=dict)
    decided_after_s: float = 0.0

    def take(self, payload: bytes, answer: GatewayAnswer) -> None:
        """Note an answer."""
        self.told[payload] = answer.status


def run() -> list[Result]:
    """Four sales on one stack; raises `RuntimeError` if one is not exact."""
    connections = raise_file_limit(CONNECTIONS)
    workers = [f"checkouts-{number}" for number in range(1, WORKERS["checkouts"] + 1)]
    results = []
    with stack(WORKERS) as made:
        _sell(made, "WARM", _WARM_UP, PIECES, connections)
        results += _results("50,000 buyers of 500", _sell(made, "MANY", BUYERS, PIECES, connections))
        results += _results("50,000 buyers of 1", _sell(made, "ONE", BUYERS, 1, connections))
        killed = _killed(made, ["redis"], after_s=_REDIS_KILLED_AFTER_S)
        sale = _sell(made, "REDIS", BUYERS, PIECES, connections, killed)
        results += _results("the same of 500, Redis killed", sale)
        killed = _killed(made, workers, after_s=0.0, every_s=_CHECKOUTS_KILLED_EVERY_S)
        sale = _sell(made, "WORKERS", BUYERS, PIECES, connections, killed)
        results += _results("the same of 500, a checkouts worker killed every 3 s", sale)
    return results


def _sell(
    made: Stack,
    sku: str,
    buyers: int,
    pieces: int,
    connections: int,
    beside: AbstractContextManager[None] | None = None,
) -> _Sale:
    """Sell, within `beside` while there are buyers; return when everybody knows what became of it.

    Raises `RuntimeError` unless the sale is exact.
    """
    orders = uvloop.run(_prepare(made, sku, buyers, pieces))
    # Only now: what prepares the sale needs all that may be killed.
    with beside or nullcontext():
        sale = uvloop.run(_rush(made, orders, connections))
    told = Counter(sale.told.values())
    if sale.answers.failed or told != {_CONFIRMED: pieces, _SHORT: buyers - pieces}:
        raise RuntimeError(f"{sku}: {dict(told)} for {pieces} pieces, {sale.answers.failed} without an answer")
    with psycopg.connect(made.endpoints()["postgres"]) as ledger:
        row = ledger.execute("SELECT on_hand, reserved FROM stock WHERE sku = %s", (sku,)).fetchone()
        sold = ledger.execute(
            "SELECT count(*) FROM orders JOIN order_lines USING (seller_id, order_id)"
            " WHERE sku = %s AND state = 'CONFIRMED'",
            (sku,),
        ).fetchone()
    if row != (pieces, pieces) or sold != (pieces,):
        raise RuntimeError(f"{sku}: {pieces} pieces, of which {sold} are sold; the stock says {row}")
    return sale


async def _prepare(made: Stack, sku: str, buyers: int, pieces: int) -> list[bytes]:
    async with target_of(made).client(4) as client:
        await put_stock(client, [sku], pieces)
    # As a seller does before a sale: the stock is known to those at the door.
    await connected(made.settings(), lambda mirror, session: copy_levels(mirror, session, [sku], shards=1))
    return list(checkouts(buyers, seed=1, skus=[sku], customers=buyers, tokens={"tok_ok": 1.0}, prefix=f"SALE-{sku}"))


async def _rush(made: Stack, orders: Sequence[bytes], connections: int) -> _Sale:
    sale = _Sale()
    target = target_of(made)
    began = time.perf_counter()
    sale.answers = await _post(target, orders, sale, connections)
    for _ in range(_ASKED_MAX):
        undecided = [payload for payload, status in sale.told.items() if status == _KEPT]
        if not undecided:
            break
        await _post(target, undecided, sale, _ASKING_AT_ONCE, _WAIT_S)
    sale.decided_after_s = time.perf_counter() - began
    return sale


async def _post(
    target: Target, orders: Sequence[bytes], sale: _Sale, connections: int, wait_s: int | None = None
) -> LoadReport:
    async with target.client(connections) as client:
        return await load.run(
            client, orders, workers=connections, wait_s=wait_s, on_answer=sale.take, post=client.post_checkout
        )


def _results(name: str, sale: _Sale) -> list[Result]:
    answers = sale.answers
    p50, p95 = (answers.percentile_s(percent) * 1000 for percent in (50, 95))
    statuses = ", ".join(f"{count:,} × {status}" for status, count in sorted(answers.statuses.items()))
    note = f"exact; first {statuses}; all decided after {sale.decided_after_s:.1f} s"
    return [
        Result(f"{name}: until all are answered", answers.seconds, "s", less_is_better=True, note=note),
        Result(f"{name}: p50 of the answers", p50, "ms", less_is_better=True),
        Result(f"{name}: p95 of the answers", p95, "ms", less_is_better=True),
    ]


@contextmanager
def _killed(made: Stack, names: Sequence[str], *, after_s: float, every_s: float | None = None) -> Iterator[None]:
    """Kill the first of the processes, or one after the other again and again; each is started again at once."""
    over = threading.Event()

    def kill() -> None:
        over.wait(after_s)
        for name in cycle(names):
            if over.is_set():
                return
            _restart(made, name)
            if every_s is None:
                return
            over.wait(every_s)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        # The next sale begins with all of it, as this one did.
        wait_until_ready(made)


def _restart(made: Stack, name: str) -> None:
    """Killed and held until its end was seen, so that it doesn't count as one that fails again and again."""
    pid = made.process_pid(name)
    made.hold(name)
    give_up_at = time.monotonic() + _END_S_MAX
    while pid is not None and made.process_pid(name) == pid and time.monotonic() < give_up_at:
        time.sleep(0.02)
    made.release(name)
