"""Clients that wait for an outcome: each gateway tails the output topics and compares keys, nothing more."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any, NamedTuple, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from runtime.exits import start_thread
from runtime.kafka import log_client_error
from schemas.catalog import Topic

_POLL_SECONDS = 0.5
_BATCH_MAX = 1_000
_RETRY_SECONDS = 1.0
_OFFSETS_SECONDS_MAX = 2.0
#: While a client waits, Postgres is polled as well: the outcome may be there although no event arrives. A request
#: without a hint is nearly always new, and its event arrives sooner than this.
_LOOK_SECONDS_MIN = 1.5
_LOOK_SECONDS_MAX = 4.0

_Known_co = TypeVar("_Known_co", covariant=True)


class TailedRecord(NamedTuple):
    """A record of the tail with the key of a waiter, not decoded yet."""

    key: bytes
    value: bytes


class Tail:
    """Reads a topic's partitions from their ends, without a group, in a thread of its own.

    Only records whose key is in `wanted` reach `deliver`, which runs on the loop, once per fetched batch.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: Topic,
        wanted: Mapping[bytes, object],
        deliver: Callable[[list[TailedRecord]], None],
    ) -> None:
        self._topic = topic
        self._wanted = wanted
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            # The library requires a name; nothing joins a group or commits under it.
            "group.id": "gapless-gateway-tail",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            # For a recreated topic: records older than the waiters are of no use to them.
            "auto.offset.reset": "latest",
            "fetch.wait.max.ms": 500,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1000,
            "queued.max.messages.kbytes": 32 * 1024,
            "logger": logging.getLogger("librdkafka"),
            "error_cb": log_client_error,
        }
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        #: Whether the ends are known: before that an event may be missed.
        self.follows = False

    def start(self) -> None:
        """Start at the current ends. An error other than an outage of Kafka ends the process."""
        self._thread = start_thread(f"tail-{self._topic.name}", self._run)

    async def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._stopping.is_set():
            consumer = Consumer(self._config)
            try:
                if self._assign(consumer):
                    self._follow(consumer)
            except KafkaException as error:
                log_client_error(error.args[0])
            finally:
                self.follows = False
                consumer.close()
            self._stopping.wait(_RETRY_SECONDS)

    def _follow(self, consumer: Consumer) -> None:
        self.follows = True
        while not self._stopping.is_set():
            self._read(consumer)

    def _assign(self, consumer: Consumer) -> bool:
        """Seek to each partition's end; False if the brokers can't report it.

        These are all partitions of the topic: the agreement checks that they are as many as recorded.
        """
        try:
            topic = consumer.list_topics(self._topic.name, timeout=_OFFSETS_SECONDS_MAX).topics[self._topic.name]
            if topic.error is not None:
                raise KafkaException(topic.error)
            at = [TopicPartition(self._topic.name, partition) for partition in topic.partitions]
            for each in at:
                _, each.offset = consumer.get_watermark_offsets(each, timeout=_OFFSETS_SECONDS_MAX) or (0, 0)
        except KafkaException as error:
            log_client_error(error.args[0])
            return False
        consumer.assign(at)
        return True

    def _read(self, consumer: Consumer) -> None:
        # consume() alone would wait for a full batch; poll() returns with the first, and the rest is there by then.
        first = consumer.poll(_POLL_SECONDS)
        if first is None:
            return
        events = [event for event in map(self._wanted_event, [first, *consumer.consume(_BATCH_MAX, 0)]) if event]
        if events:
            self._loop.call_soon_threadsafe(self._deliver, events)

    def _wanted_event(self, message: Message) -> TailedRecord | None:
        error = message.error()
        if error is not None:
            log_client_error(error)
            return None
        key, value = message.key(), message.value()
        # Safe while the loop changes the dictionary: a look-up is one step under the interpreter's lock.
        return TailedRecord(key, value) if key in self._wanted and isinstance(value, bytes) else None  # type: ignore[arg-type]


class Waiter:
    """One client's wait for one order. `event` wakes it; the client's request interprets it.

    Not an `asyncio.Queue`, which takes 2 kB: there is one for each request that waits, and for each stream.
    """

    __slots__ = ("_events", "_woken", "cut_short")

    def __init__(self) -> None:
        self._events: list[bytes] = []
        #: What `next` waits for, while it waits.
        self._woken: asyncio.Future[None] | None = None
        #: The gateway is stopping: the wait ends.
        self.cut_short = False

    def wake(self, value: bytes) -> None:
        """Pass it an event of its order id, which may be another seller's."""
        self._events.append(value)
        self._wake()

    def cut(self) -> None:
        """End the wait."""
        self.cut_short = True
        self._wake()

    async def next(self, timeout_seconds: float) -> bytes | None:
        """The next event; None after the timeout, and where the wait is cut short. One caller at a time."""
        if not self._events and not self.cut_short:
            loop = asyncio.get_running_loop()
            self._woken = loop.create_future()
            timer = loop.call_later(timeout_seconds, self._wake)
            try:
                await self._woken
            finally:
                timer.cancel()
                self._woken = None
        return self._events.pop(0) if self._events else None

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class Waiters:
    """The waiters by order id."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, set[Waiter]] = {}
        self._stopping = False

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    @contextmanager
    def waiting(self, key: bytes, seconds: float) -> Iterator[Waiter | None]:
        """Wait for events with this key, from now until the block ends; None for a client that does not wait.

        The block publishes the request too: its event may arrive before the acknowledgement.
        """
        if not seconds:
            yield None
            return
        waiter = self.add(key)
        try:
            yield waiter
        finally:
            self.remove(key, waiter)

    def add(self, key: bytes) -> Waiter:
        """Wait for events with this key, from now on."""
        waiter = Waiter()
        self.join(key, waiter)
        return waiter

    def join(self, key: bytes, waiter: Waiter) -> None:
        """Wake this waiter too by events with this key, from now on."""
        self.by_key.setdefault(key, set()).add(waiter)
        if self._stopping:
            waiter.cut()

    def cut_all(self) -> None:
        """End all waits, present and future, with what is known: the gateway is stopping."""
        self._stopping = True
        for waiters in self.by_key.values():
            for waiter in waiters:
                waiter.cut()

    def remove(self, key: bytes, waiter: Waiter) -> None:
        """Remove a waiter."""
        waiters = self.by_key.get(key, set())
        waiters.discard(waiter)
        if not waiters:
            self.by_key.pop(key, None)

    def deliver(self, events: list[TailedRecord]) -> None:
        """Wake the waiters for these events."""
        for key, value in events:
            for waiter in self.by_key.get(key, ()):
                waiter.wake(value)


class Outcome(Protocol[_Known_co]):
    """The outcome that a client waits for. Both methods raise `ProblemError` for a refusal."""

    async def look(self) -> _Known_co | None:
        """The outcome in Postgres; None while there is none, or Postgres is unavailable."""

    async def judge(self, event: bytes) -> _Known_co | None:
        """The outcome in an event of the same key; None if it decides nothing, or is about another request."""


async def until_known(
    waiter: Waiter, outcome: Outcome[_Known_co], seconds: float, *, look_at_once: bool
) -> _Known_co | None:
    """The outcome; None if it is not known in time. Raises `ProblemError` as `outcome` does.

    `look_at_once` for a known order: it may be an old one, for which no event will arrive.
    """
    deadline = monotonic() + seconds
    pause = _LOOK_SECONDS_MIN
    look_at = monotonic() + (0 if look_at_once else pause)
    while True:
        now = monotonic()
        if now >= min(look_at, deadline) or waiter.cut_short:
            known = await outcome.look()
            if known is not None or now >= deadline or waiter.cut_short:
                return known
            look_at, pause = now + pause, min(2 * pause, _LOOK_SECONDS_MAX)
        event = await waiter.next(min(look_at, deadline) - monotonic())
        if event is None:
            continue
        known = await outcome.judge(event)
        if known is not None:
            return known
