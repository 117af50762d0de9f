"""Publishes to Kafka from asyncio: one future per message, done when the brokers have acknowledged it."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runtime.exits import fatal
from runtime.kafka import log_client_error, reason_of
from runtime.outages import KAFKA

_log = logging.getLogger(__name__)

#: Above every topic's `max.message.bytes`, so that the broker, which knows the topic, rejects what is too large.
_MESSAGE_BYTES_MAX = 5 * 1024 * 1024
#: Interval of fetching delivery reports while some are outstanding: the resolution of an acknowledgement's latency.
#: Costs 1% of a core; with none outstanding `_IDLE_POLL_SECONDS` applies.
_POLL_SECONDS = 0.001
#: Interval of handling errors and connections while no report is outstanding.
_IDLE_POLL_SECONDS = 1.0
#: librdkafka checks for timed-out messages once a second, so its report may be this late.
_REPORT_LATE_SECONDS_MAX = 1.0


class OverloadedError(Exception):
    """The queue of unacknowledged messages is full; nothing was sent."""


class NotAcknowledgedError(Exception):
    """The brokers did not acknowledge in time. The message may or may not be durable: send it again."""


class Delivered(NamedTuple):
    """The position of an acknowledged message."""

    partition: int
    offset: int


class Publisher:
    """Publishes to Kafka; one future per message, done when all in-sync replicas have it.

    Create it on the running event loop, to which it belongs. The loop itself fetches the delivery reports: a thread
    would wait for the interpreter's lock, which a busy loop holds, for each report.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "gapless",
        timeout_seconds: float = 30.0,
        linger_seconds: float = 0.010,
        queued_messages_max: int = 100_000,
        queued_bytes_max: int = 256 * 1024 * 1024,
    ) -> None:
        """`timeout_seconds` bounds the wait for an acknowledgement; it must be above 2.

        The queue holds unacknowledged messages. Beyond `queued_messages_max` or `queued_bytes_max`, `publish` raises
        `OverloadedError`.
        """
        if timeout_seconds <= 2 * _REPORT_LATE_SECONDS_MAX:
            raise ValueError(f"timeout_seconds must be above {2 * _REPORT_LATE_SECONDS_MAX}")
        self._loop = asyncio.get_running_loop()
        self._timeout_seconds = timeout_seconds
        self._config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "client.id": client_id,
            "acks": "all",
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 5,
            # As Java clients do, so that any client may join; librdkafka's own default differs.
            "partitioner": "murmur2_random",
            "compression.type": "none",
            "linger.ms": linger_seconds * 1000,
            "message.timeout.ms": int((timeout_seconds - _REPORT_LATE_SECONDS_MAX) * 1000),
            "message.max.bytes": _MESSAGE_BYTES_MAX,
            "queue.buffering.max.messages": queued_messages_max,
            "queue.buffering.max.kbytes": queued_bytes_max // 1024,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "socket.keepalive.enable": True,
            "logger": logging.getLogger("librdkafka"),
            "error_cb": self._on_error,
        }
        self._producer = Producer(self._config)
        #: Ordered by deadline, as all have the same timeout.
        self._due: deque[tuple[float, asyncio.Future[Delivered]]] = deque()
        self._broken = False
        self._closed = False
        self._timer = self._loop.call_later(_IDLE_POLL_SECONDS, self._poll)
        self._polls_fast = False

    @property
    def in_flight(self) -> int:
        """How many messages wait for their acknowledgement, or were sent after one that does."""
        return len(self._due)

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Delivered]:
        """Send a message; the future ends with `Delivered` or raises `NotAcknowledgedError`.

        Without `partition` the key determines it. Messages of one partition arrive in the order of the calls. Raises
        `OverloadedError`, and `ValueError` for a message larger than any topic accepts.
        """
        future: asyncio.Future[Delivered] = self._loop.create_future()
        try:
            self._producer.produce(
                topic,
                value,
                key,
                -1 if partition is None else partition,
                on_delivery=_reporter(future),
                headers=None if headers is None else list(headers),
            )
        except BufferError:
            raise OverloadedError("too many messages wait for the brokers") from None
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise ValueError(f"a message of {len(value or b'')} bytes is too large") from None
            self._broken = self._broken or error.args[0].fatal()
            future.set_exception(NotAcknowledgedError(reason_of(error.args[0])))
            return future
        self._due.append((monotonic() + self._timeout_seconds, future))
        if not self._polls_fast:
            self._polls_fast = True
            self._timer.cancel()
            self._timer = self._loop.call_later(_POLL_SECONDS, self._poll)
        return future

    async def drain(self) -> None:
        """Wait until every message is acknowledged, failed or timed out."""
        while self._due:
            await asyncio.wait([future for _, future in self._due])
            self._drop_done()

    async def close(self) -> None:
        """Drain, for at most the timeout, then close. Messages that were not acknowledged have failed."""
        await self.drain()
        self._closed = True
        self._timer.cancel()
        self._producer.purge()
        self._producer.poll(0)

    def _poll(self) -> None:
        try:
            self._producer.poll(0)
            self._drop_done()
            if self._broken:
                self._replace()
        except Exception as error:  # noqa: BLE001
            # The loop only logs a timer's exception: no report would be fetched any more, and no message would time
            # out.
            fatal("cannot fetch acknowledgements", error)
        if self._closed:
            return
        self._polls_fast = bool(self._due)
        wait = _POLL_SECONDS if self._polls_fast else _IDLE_POLL_SECONDS
        self._timer = self._loop.call_later(wait, self._poll)

    def _drop_done(self) -> None:
        due = self._due
        now = monotonic()
        while due:
            deadline, future = due[0]
            if not future.done():
                if deadline > now:
                    break
                reason = f"no answer within {self._timeout_seconds:g} s"
                KAFKA.failed(reason)
                future.set_exception(NotAcknowledgedError(reason))
            due.popleft()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._broken = True
        log_client_error(error)

    def _replace(self) -> None:
        """Replace the producer: after a fatal error librdkafka refuses every message."""
        _log.warning("kafka: the producer failed fatally; continuing with a new one")
        self._producer.purge()
        self._producer.poll(0)
        # The old producer will report nothing more about these messages.
        for _, future in self._due:
            if not future.done():
                future.set_exception(NotAcknowledgedError("the producer failed"))
        self._due.clear()
        self._producer = Producer(self._config)
        self._broken = False


def _reporter(future: asyncio.Future[Delivered]) -> Callable[[KafkaError | None, Message], None]:
    """The callback for one message's delivery report; `poll` calls it on the loop's own thread."""

    def report(error: KafkaError | None, message: Message) -> None:
        if future.done():  # The caller was cancelled, or the deadline has passed.
            return
        if error is None:
            KAFKA.answered()
            future.set_result(Delivered(message.partition() or 0, message.offset() or 0))
        else:
            if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                KAFKA.failed(reason_of(error))
            future.set_exception(NotAcknowledgedError(reason_of(error)))

    return report
