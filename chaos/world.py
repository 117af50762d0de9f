"""A stack under test as scenarios see it: processes by name, proxies between them, the load, and the seed."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from chaos.drain import Drain
from chaos.logo import set_logo
from chaos.object_store import Mood, ObjectServer
from chaos.proxy import Proxies, Proxy
from chaos.record import Record
from chaos.scenario import Ground
from chaos.timeline import Timeline
from chaos.traffic import Shop, Traffic
from local.layout import Special
from local.stack import READY_SECONDS_MAX, Stack
from producers.client import GaplessClient
from runtime.settings import ENV_PREFIX, Settings

#: Requests a second, of every kind: enough that every fault meets some, and few enough for two cores during a fault.
RATE = 40.0
_POLL_S = 0.05
_METRICS_SECONDS_MAX = 5.0
#: Time limit for draining, in scenarios that examine the result themselves.
_DRAIN_SECONDS_MAX = 300.0
#: Time limit for the supervisor to notice that a process ended; a process that ends on SIGTERM takes longer.
_NOTICED_S_MAX = 12.0


class World:
    """One run of one scenario. Random choices depend on the seed; the timing depends on the machine."""

    def __init__(self, standing: "Standing", name: str, seed: int, seconds: float, say: Callable[[str], None]) -> None:
        self.stack = standing.stack
        self.objects = standing.objects
        #: Of each topic.
        self.partitions = standing.ground.partitions
        self.settings: Settings = self.stack.settings()
        status = self.stack.status()
        self.url: str = status["endpoints"]["gateway"]
        self.api_key: str = status["api_key"]
        self.redis_url: str = status["endpoints"]["redis"]
        self.postgres_url = self.settings.postgres_url.get_secret_value()
        #: Duration of faults.
        self.seconds = seconds
        self.seed = seed
        #: Source of random choices about faults; the load has another, so that neither changes the other.
        self.chance = random.Random(f"{name}/{seed}/faults")
        self.record = Record()
        self.timeline = Timeline(say)
        #: Violations that the scenario itself has found.
        self.found: list[str] = []
        #: Figures to report, by name, such as the seconds until the first number.
        self.measured: dict[str, float] = {}
        #: Prefix of the ids of this run's orders, customers and articles.
        self.prefix = f"{name}-{seed}-{time.time_ns() % 10**9:09d}"
        self._proxies = standing.proxies
        self._held: set[str] = set()
        self._stopped: set[str] = set()

    def client(self, connections: int = 32, give_up_after_s: float = 120.0) -> GaplessClient:
        """A storefront's client."""
        return GaplessClient(self.url, self.api_key, connections=connections, give_up_after_s=give_up_after_s)

    def shop(self) -> Shop:
        """The storefronts of this run: their requests depend on the seed, and are written to the record."""
        return Shop(random.Random(f"{self.prefix.rpartition('-')[0]}/load"), self.record, self.prefix)

    @asynccontextmanager
    async def traffic(self, rate: float = RATE) -> AsyncIterator[Traffic]:
        """Send orders of every kind while the block runs; at its end each request has an answer or was given up."""
        async with self.client(64) as client:
            traffic = Traffic(client, self.shop(), rate)
            await traffic.prepare()
            running = asyncio.create_task(traffic.run())
            try:
                yield traffic
            finally:
                traffic.stop()
                await running
        if not self.record.statuses:
            self.found.append("the load got no answer at all, so nothing was tested")

    async def turns(self, least_s: float, most_s: float, chance: random.Random | None = None) -> AsyncIterator[None]:
        """Yield at random intervals while faults last. Concurrent users pass a `chance` of their own."""
        over_at = time.monotonic() + self.seconds
        while time.monotonic() < over_at:
            yield
            await asyncio.sleep((chance or self.chance).uniform(least_s, most_s))

    def processes(self, *roles: str) -> list[str]:
        """Names of the processes of these roles, or of all our own, in the order of their start."""
        ours = [each for each in self.stack.status()["processes"] if each["role"] not in ("kafka", "postgres", "redis")]
        return [each["name"] for each in ours if not roles or each["role"] in roles]

    def pids(self) -> dict[str, int | None]:
        """The pids of all our own processes."""
        return {name: self.stack.process_pid(name) for name in self.processes()}

    def check_alive(self, before: Mapping[str, int | None]) -> None:
        """Report each process whose pid differs from `before`: it has died."""
        for name, pid in self.pids().items():
            if pid != before[name]:
                self.found.append(f"{name} has died: its pid was {before[name]} and is {pid}")

    def kill(self, name: str) -> None:
        """Kill a process; the supervisor restarts it."""
        self.send(name, signal.SIGKILL)

    async def restart(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process and have it restarted at once, without the supervisor's backoff."""
        pid = self.stack.process_pid(name)
        self.stack.hold(name, number)
        self.timeline.befell(f"{number.name} to {name}")
        give_up_at = time.monotonic() + _NOTICED_S_MAX
        # If released sooner, its end would count as a crash, after which the supervisor waits longer each time.
        while pid is not None and self.stack.process_pid(name) == pid and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S / 5)
        self.stack.release(name)

    def send(self, name: str, number: signal.Signals) -> bool:
        """Send a signal to a process; False if it is down."""
        pid = self.stack.process_pid(name)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        self.timeline.befell(f"{number.name} to {name}")
        if number == signal.SIGSTOP:
            self._stopped.add(name)
        elif number == signal.SIGCONT:
            self._stopped.discard(name)
        return True

    def hold(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process and keep it down until `release`."""
        self._held.add(name)
        self.stack.hold(name, number)
        self.timeline.befell(f"{name} is down ({number.name})")

    def release(self, name: str) -> None:
        """Let a held process start again."""
        self.stack.release(name)
        self._held.discard(name)
        self.timeline.note(f"{name} may start again")

    def proxy(self, name: str, service: str) -> Proxy:
        """The proxy between a process and a service; the scenario's ground must have this detour."""
        return self._proxies[name, service]

    def proxies(self, service: str) -> dict[str, Proxy]:
        """All proxies to a service, by process."""
        return {name: proxy for (name, its), proxy in self._proxies.items() if its == service}

    def heal(self) -> None:
        """End all lasting faults: continue stopped processes, start held ones, and heal all proxies."""
        for name in list(self._stopped):
            self.send(name, signal.SIGCONT)
        for name in list(self._held):
            self.release(name)
        for proxy in self._proxies.values():
            proxy.heal()
        self.objects.mood = Mood()
        self.timeline.note("healed")

    async def until(self, condition: Callable[[], bool], what: str, seconds_max: float) -> bool:
        """Wait until `condition` holds and return True; report it as `what` if it doesn't in time."""
        give_up_at = time.monotonic() + seconds_max
        while not await asyncio.to_thread(condition):
            if time.monotonic() > give_up_at:
                self.found.append(f"not within {seconds_max:g} s: {what}")
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def until_ready(self) -> bool:
        """Wait until all processes run and are ready."""
        return await self.until(lambda: bool(self.stack.status()["ready"]), "the stack is ready", READY_SECONDS_MAX)

    def metrics(self, name: str) -> dict[str, float]:
        """A process's current metrics, by name and labels as in `/metrics`; empty while it is down."""
        port = self.stack.environment(name)[f"{ENV_PREFIX}METRICS_PORT"]
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_METRICS_SECONDS_MAX) as answer:
                lines = answer.read().decode().splitlines()
        # Killed amid its answer, it may have sent a part.
        except (OSError, HTTPException):
            return {}
        told = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {what: float(value) for what, _, value in told}

    async def drained(self) -> bool:
        """Wait until nothing is in progress; for scenarios that examine the result themselves."""
        drain = Drain(self.postgres_url, self.settings.kafka_bootstrap, self.partitions)
        if await self.until(drain.done, "everything is drained", _DRAIN_SECONDS_MAX):
            return True
        self.found.append(f"left: {drain.left}")
        return False


class Standing:
    """A stack on a scenario's ground, with its proxies. Use it in `with`; its data stays."""

    def __init__(self, ground: Ground, data: Path) -> None:
        self.ground = ground
        self._proxies = Proxies()
        self._data = data
        self.proxies: dict[tuple[str, str], Proxy] = {}
        #: Started only if the ground requires it.
        self.objects = ObjectServer()
        self.stack: Stack
        self._ends: contextlib.ExitStack

    def __enter__(self) -> "Standing":
        with contextlib.ExitStack() as ends:
            ends.enter_context(self._proxies)
            for name, services in self.ground.detours.items():
                for service in services:
                    self.proxies[name, service] = self._proxies.add()
            detours = _nested((name, service, proxy.port) for (name, service), proxy in self.proxies.items())
            environment = dict(self.ground.environment)
            if self.ground.object_server:
                environment |= ends.enter_context(self.objects).environment()
            special = Special(detours, environment, self.ground.partitions)
            self.stack = Stack(self._data, self.ground.workers, bound=True, special=special)
            self.stack.describe()
            for (name, service), proxy in self.proxies.items():
                proxy.target = self.stack.target(name, service)
            self.stack.start()
            ends.callback(self.stack.stop)
            set_logo(self.stack)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self.proxies.values():
            proxy.heal()
        self._ends.close()


def _nested(ways: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for name, service, port in ways:
        nested.setdefault(name, {})[service] = port
    return nested
