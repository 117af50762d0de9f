"""Stopping a gateway under load: a load balancer must lose no request over it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from local.layout import free_port
from tests.conftest import Services
from tests.integration.gateways import KEYS, order, until

pytestmark = pytest.mark.usefixtures("empty_outputs")

#: Long enough for a busy machine to look more than once while it drains.
DRAIN_SECONDS = 6.0


class Process:
    """A gateway in a process of its own."""

    def __init__(self, services: Services, ledger: str) -> None:
        self.port = free_port()
        self.metrics_port = free_port()
        environment = {
            **os.environ,
            "GAPLESS_KAFKA_BOOTSTRAP": services.kafka_bootstrap,
            "GAPLESS_POSTGRES_URL": ledger,
            "GAPLESS_REDIS_URL": services.redis_url,
            "GAPLESS_OBJECTS_URL": services.objects.as_uri(),
            "GAPLESS_GATEWAY_PORT": str(self.port),
            "GAPLESS_METRICS_PORT": str(self.metrics_port),
            "GAPLESS_GATEWAY_DRAIN_SECONDS": str(DRAIN_SECONDS),
        }
        command = [sys.executable, "-m", "gapless", "gateway"]
        self.popen = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    async def readiness(self, port: int | None = None) -> int:
        """The status of `/readyz`, at its own port unless another is given; 0 while nobody listens."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        except ConnectionRefusedError:
            return 0
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ")[1])


@contextlib.asynccontextmanager
async def process(services: Services, ledger: str) -> AsyncIterator[Process]:
    """One that is ready."""
    started = Process(services, ledger)
    try:
        await until(started.readiness, lambda status: status == 200, 60)
        yield started
    finally:
        started.popen.kill()
        await asyncio.to_thread(started.popen.wait)


class Balancer:
    """Sends orders over connections that it keeps, and goes to the next gateway only where the connect is refused."""

    def __init__(self, *gateways: Process) -> None:
        self._gateways = gateways
        self._refusing: set[Process] = set()
        #: Orders answered with 202, by gateway.
        self.accepted = dict.fromkeys(gateways, 0)
        #: Answers that ended their connection, by gateway.
        self.ended = dict.fromkeys(gateways, 0)
        #: All that a client behind it would have noticed.
        self.errors: list[str] = []
        self.stopped = False

    async def run(self) -> None:
        """Send one order after the other over one connection until `stopped`."""
        while not self.stopped:
            gateway = next(each for each in self._gateways if each not in self._refusing)
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            except ConnectionRefusedError:
                self._refusing.add(gateway)
                continue
            try:
                while not self.stopped and await self._exchange(gateway, reader, writer):
                    pass
            except (OSError, EOFError) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            finally:
                writer.close()

    async def _exchange(self, gateway: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One order; whether the connection goes on."""
        body = json.dumps(order(f"O-{uuid4().hex[:12]}")).encode()
        head = f"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['demo']}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in answer.split("\r\n") if line.startswith("content-length:"))
        content = await reader.readexactly(int(length.partition(":")[2]))
        if answer.startswith("http/1.1 202 "):
            self.accepted[gateway] += 1
        else:
            self.errors.append(f"{answer} {content.decode()}")
        goes_on = "\r\nconnection: close\r\n" not in answer
        self.ended[gateway] += not goes_on
        return goes_on


async def test_a_load_balancer_loses_no_order_when_a_gateway_stops(services: Services, ledger: str) -> None:
    """Not ready at once, accepting and serving on until the drain delay is over, each answer the connection's last."""
    async with process(services, ledger) as first, process(services, ledger) as second:
        balancer = Balancer(first, second)
        clients = [asyncio.create_task(balancer.run()) for _ in range(24)]
        await until(lambda: asyncio.sleep(0, balancer.accepted[first]), lambda count: count > 500, 60)
        assert balancer.ended[first] == 0

        first.popen.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        await until(first.readiness, lambda status: status != 200)
        assert await first.readiness() == 503
        assert await first.readiness(first.metrics_port) == 503
        before = balancer.accepted[first]
        await asyncio.sleep(DRAIN_SECONDS / 2)
        assert balancer.accepted[first] > before + 20, "it does not serve while it drains"
        assert await first.readiness() == 503
        assert await first.readiness(first.metrics_port) == 503
        assert await second.readiness(second.metrics_port) == 200

        await until(lambda: asyncio.sleep(0, first.popen.poll()), lambda code: code is not None, 30)
        assert first.popen.returncode == 0
        assert time.monotonic() - told_at > DRAIN_SECONDS
        after = balancer.accepted[second]
        await until(lambda: asyncio.sleep(0, balancer.accepted[second]), lambda count: count > after + 100, 60)
        balancer.stopped = True
        await asyncio.gather(*clients)
    assert balancer.errors == []
    assert balancer.ended[first] >= 24
    assert balancer.ended[second] == 0


async def test_whoever_asks_twice_to_stop_waits_for_no_load_balancer(services: Services, ledger: str) -> None:
    """As Ctrl-C does once."""
    async with process(services, ledger) as gateway:
        gateway.popen.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert await asyncio.to_thread(gateway.popen.wait, 60) == 0
        assert time.monotonic() - began < DRAIN_SECONDS


@pytest.mark.parametrize("sent", [b"", b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\n"])
async def test_a_request_that_was_on_its_way_is_answered(services: Services, ledger: str, sent: bytes) -> None:
    """Over a connection that was made while the gateway still listened: its bytes come when it does no more."""
    async with process(services, ledger) as gateway:
        gateway.popen.send_signal(signal.SIGTERM)
        await asyncio.sleep(DRAIN_SECONDS / 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(sent)
        await until(gateway.readiness, lambda status: status == 0)
        writer.write((sent and b"X: y\r\n\r\n") or b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 401 " if sent else b"HTTP/1.1 200 "), answer
