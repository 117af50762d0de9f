"""A seller of a test's own in Redis, and a Valkey of a test's own to be killed."""

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import psutil
import pytest

from admission.admission import Admission, AdmissionVerdict, Admitted, Asked, Limited, SoldOut
from admission.admission_rate import BURST, TOKEN_SECONDS
from admission.mirror import Mirror, Mirrored, MirrorEvent, StockMove
from admission.product_cache import ProductCache
from domain.reservation import Level
from local import redis as valkey
from local.layout import free_port
from tests.integration.gateways import until

#: What a call of Redis may take where a test is not about late answers: a busy machine is no fault.
PATIENT_SECONDS = 10.0


class World:
    """Gateways over one Redis, and the mirror that tells it what Postgres says."""

    def __init__(self, url: str, seller_id: str, gateways: list[Admission]) -> None:
        self.url = url
        self.seller_id = seller_id
        self.gateways = gateways
        self.gateway = gateways[0]
        self.mirror = Mirror(url)
        self.cache = ProductCache(url, call_seconds_max=PATIENT_SECONDS)

    async def stock(self, shards: int = 1, *, claimed: int = 0, **levels: int) -> None:
        """So many pieces of each SKU are free in Postgres and `claimed` are not, and Redis has a full copy."""
        await self.mirror.adopt(
            self.seller_id,
            [(sku, Level(pieces + claimed, claimed, 1)) for sku, pieces in levels.items()],
            shards=shards,
        )
        await self.believe()

    async def believe(self) -> None:
        """The copy is complete."""
        _, run_id, *_ = await self.mirror.tick(self.seller_id)
        assert await self.mirror.complete(self.seller_id, run_id)

    def asked(self, order_id: str, customer: str = "", **pieces: int) -> Asked:
        """An order, of a customer of its own unless one is named."""
        return Asked(self.seller_id, order_id, customer or f"customer of {order_id}", tuple(sorted(pieces.items())))

    async def admit(self, order_id: str, customer: str = "", **pieces: int) -> AdmissionVerdict:
        return await self.gateway.admit(self.asked(order_id, customer, **pieces))

    def wait(self, order_id: str, seconds: float = 10, **pieces: int) -> "asyncio.Task[Admitted | SoldOut]":
        return asyncio.create_task(self.gateway.join_waitlist(self.asked(order_id, "", **pieces), seconds))

    async def line(self, *order_ids: str) -> list[int | None]:
        """Places on the waitlist."""
        return [await self.gateway.position(self.seller_id, order_id) for order_id in order_ids]

    async def lined_up(self, order_id: str, seconds: float = 10, **pieces: int) -> "asyncio.Task[Admitted | SoldOut]":
        """Like `wait`, when the order is on the waitlist."""
        task = self.wait(order_id, seconds, **pieces)
        await self.until_line([order_id], lambda places: places != [None])
        return task

    async def until_line(self, order_ids: Sequence[str], holds: Callable[[list[int | None]], bool]) -> None:
        """Return when the places are as wanted."""
        await until(lambda: self.line(*order_ids), holds)

    async def known(self, sku: str = "S") -> Mirrored:
        """What Redis knows of the SKU."""
        return (await self.mirror.read(self.seller_id, [sku]))[sku]

    async def apply(self, *events: MirrorEvent) -> None:
        await self.mirror.apply(self.seller_id, events)


def change(by: int, free: int, version: int, *, sku: str = "S", on_hand: int = 1_000) -> StockMove:
    """A change of a SKU."""
    return StockMove(sku, by, on_hand, free, version)


@asynccontextmanager
async def world(
    url: str, *, gateways: int = 1, hold_seconds: int = 60, call_seconds: float = PATIENT_SECONDS
) -> AsyncIterator[World]:
    """A fresh seller. A call of the gateways may take `call_seconds`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("admission.admission.CALL_SECONDS_MAX", call_seconds)
        patched.setattr("admission.mirror.CALL_SECONDS_MAX", PATIENT_SECONDS)
        admissions = [Admission(url, hold_seconds=hold_seconds) for _ in range(gateways)]
        made = World(url, f"seller-{time.time_ns()}", admissions)
    try:
        yield made
    finally:
        for gateway in made.gateways:
            await gateway.close()
        await made.mirror.close()
        await made.cache.close()


class OwnValkey:
    """A Valkey of the test's own, which keeps its data on disk as ours does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        command = valkey.prepare(self._folder, self._port)
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)  # noqa: ASYNC220
        give_up_at = monotonic() + 60
        while monotonic() < give_up_at:
            with suppress(OSError):
                if await valkey.answers(self._port):
                    return
            await asyncio.sleep(0.02)
        raise AssertionError("Valkey did not start")

    def kill(self) -> None:
        """Kill it."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal; after SIGSTOP it stands still."""
        if self._process is None:
            return
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            # On a busy machine it is stopped when it is its turn.
            while psutil.Process(self._process.pid).status() != psutil.STATUS_STOPPED:
                time.sleep(0.001)


async def until_limited(
    ask: Callable[[int], Awaitable[AdmissionVerdict]], *, least: int = BURST
) -> tuple[list[AdmissionVerdict], Limited]:
    """The verdicts on what is asked for again and again, until one is that a customer asks too often; and that one.

    However long it takes: on a busy machine tokens come back meanwhile.
    """
    began = monotonic()
    verdicts: list[AdmissionVerdict] = []
    while not isinstance(verdict := await ask(len(verdicts)), Limited):
        verdicts.append(verdict)
        assert len(verdicts) <= BURST + (monotonic() - began) / TOKEN_SECONDS + 1
    assert len(verdicts) >= least
    assert 0 < verdict.retry_after_seconds <= TOKEN_SECONDS
    return verdicts, verdict


def held(verdicts: Iterable[AdmissionVerdict]) -> int:
    """How many are admitted and held."""
    return sum(verdict == Admitted(held=True) for verdict in verdicts)
