"""Clients who wait for their number: each gateway tails the invoice events and compares keys, nothing more."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas.catalog import Topic

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_BATCH_MAX = 1_000
_RETRY_SECONDS = 1.0
_OFFSETS_SECONDS_MAX = 2.0


class Event(NamedTuple):
    """A record of the tail whose key somebody waits for, not decoded yet."""

    key: bytes
    value: bytes


class Tail:
    """Reads a topic's partitions from their ends, without a group, in a thread of its own.

    Only records whose key is in `wanted` reach `deliver`, which runs on the loop, once per fetched batch.
    """

    def __init__(
        self, bootstrap: str, topic: Topic, wanted: Mapping[bytes, object], deliver: Callable[[list[Event]], None]
    ) -> None:
        self._topic = topic
        self._wanted = wanted
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            # The library wants a name; nothing joins a group or commits under it.
            "group.id": "gapless-gateway-tail",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # A topic that was made anew: what is older than the waiters is of no use to them.
            "auto.offset.reset": "latest",
            "fetch.wait.max.ms": 500,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1000,
            "queued.max.messages.kbytes": 32 * 1024,
            "logger": logging.getLogger("librdkafka"),
            "error_cb": lambda error: _log.warning("kafka: %s", error),
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        #: Whether the ends are known: before that an event may be missed.
        self.follows = False

    def start(self) -> None:
        """Begin at the ends as they are now."""
        self._thread.start()

    async def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._stopping.is_set():
            consumer = Consumer(self._config)
            try:
                if self._assign(consumer):
                    self._follow(consumer)
            except KafkaException as error:
                _log.warning("kafka: the tail begins anew: %s", error)
            finally:
                self.follows = False
                consumer.close()
            self._stopping.wait(_RETRY_SECONDS)

    def _follow(self, consumer: Consumer) -> None:
        self.follows = True
        while not self._stopping.is_set():
            self._read(consumer)

    def _assign(self, consumer: Consumer) -> bool:
        """Stand at each partition's end; False if the brokers can't say where that is."""
        at = [TopicPartition(self._topic.name, partition) for partition in range(self._topic.partitions)]
        try:
            for each in at:
                _, each.offset = consumer.get_watermark_offsets(each, timeout=_OFFSETS_SECONDS_MAX) or (0, 0)
        except KafkaException as error:
            _log.warning("the ends of %s can't be read: %s", self._topic.name, error)
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

    def _wanted_event(self, message: Message) -> Event | None:
        if message.error() is not None:
            _log.warning("kafka: %s", message.error())
            return None
        key, value = message.key(), message.value()
        # A dictionary may be asked while the loop changes it: that is one step under the interpreter's lock.
        return Event(key, value) if key in self._wanted and isinstance(value, bytes) else None  # type: ignore[arg-type]


class Waiter:
    """One client's wait for one order. `event` wakes it; what it means is for the client's request to say."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        #: The gateway stops: there is no time to wait for more.
        self.cut_short = False

    def wake(self, value: bytes) -> None:
        """Give it an event of its order id, which may be another seller's."""
        self._events.put_nowait(value)

    def cut(self) -> None:
        """End the wait."""
        self.cut_short = True
        self._events.put_nowait(None)

    async def next(self, timeout_seconds: float) -> bytes | None:
        """The next event, or None when the time is over."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._events.get()
        except TimeoutError:
            return None


class Waiters:
    """Who waits for which order id."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, set[Waiter]] = {}
        self._stopping = False

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    def add(self, key: bytes) -> Waiter:
        """Wait for events with this key, from now on."""
        waiter = Waiter()
        self.by_key.setdefault(key, set()).add(waiter)
        if self._stopping:
            waiter.cut()
        return waiter

    def cut_all(self) -> None:
        """Let everybody go with what is known, now and from now on: the gateway stops."""
        self._stopping = True
        for waiters in self.by_key.values():
            for waiter in waiters:
                waiter.cut()

    def remove(self, key: bytes, waiter: Waiter) -> None:
        """Wait no longer."""
        waiters = self.by_key.get(key, set())
        waiters.discard(waiter)
        if not waiters:
            self.by_key.pop(key, None)

    def deliver(self, events: list[Event]) -> None:
        """Wake those who wait for these events."""
        for key, value in events:
            for waiter in self.by_key.get(key, ()):
                waiter.wake(value)
