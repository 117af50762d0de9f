"""What every request goes through that is kept in Kafka: how large, how many at once, and when it counts as kept."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from aiohttp import web

from gateway import measures, problems
from gateway.problems import ProblemError
from runtime.kafka import Delivered, NotAcknowledgedError, OverloadedError, Publisher

BODY_BYTES_MAX = 1024 * 1024
#: A body that trickles in holds memory; this much time is enough for 1 MiB over a bad line.
BODY_SECONDS_MAX = 15.0
WAIT_SECONDS_MAX = 30
#: Requests under way. Each is a connection and a body; beyond this they only wait for each other. Buyers in a waitlist
#: are among them, and a flash sale has thousands.
IN_FLIGHT_MAX = 20_000
#: Bytes of the bodies under way. Decoded, each byte takes some ten: this is what bounds the gateway's memory.
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024

_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?:;|,|$)', re.IGNORECASE)


def wait_seconds(prefer: str | None, default: int = 0) -> int:
    """What `Prefer: wait=N` asks for, at most `WAIT_SECONDS_MAX`, else `default`. Other preferences are ignored."""
    match = _WAIT.search(prefer) if prefer else None
    return min(int(match.group(1)), WAIT_SECONDS_MAX) if match else default


class Intake:
    """Bounds what is under way, and publishes it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._in_flight_bytes = 0
        #: How many requests are under way.
        self.in_flight = 0

    @contextmanager
    def place(self, request: web.Request) -> Iterator[None]:
        """A place among the requests under way; raises `ProblemError` where there is none."""
        length = request.content_length
        if length is not None and length > BODY_BYTES_MAX:
            raise too_large()
        held_bytes = BODY_BYTES_MAX if length is None and request.can_read_body else length or 0
        if self.in_flight >= IN_FLIGHT_MAX or self._in_flight_bytes + held_bytes > IN_FLIGHT_BYTES_MAX:
            raise ProblemError(problems.OVERLOADED, "too many requests are under way", retry_after_seconds=1)
        self.in_flight += 1
        self._in_flight_bytes += held_bytes
        try:
            yield
        finally:
            self.in_flight -= 1
            self._in_flight_bytes -= held_bytes

    async def keep(self, topic: str, key: bytes, payload: bytes) -> Delivered:
        """Publish; return when all brokers in sync have it.

        Raises `ProblemError`: whether it is kept is unknown for `NOT_ACKNOWLEDGED`; for others it is not.
        """
        began = monotonic()
        try:
            delivered = await self._publisher.publish(topic, key, payload)
        except OverloadedError:
            raise ProblemError(
                problems.OVERLOADED, "too many requests wait for the brokers", retry_after_seconds=1
            ) from None
        except NotAcknowledgedError:
            measures.NOT_ACKNOWLEDGED.inc()
            raise ProblemError(
                problems.NOT_ACKNOWLEDGED,
                "the brokers did not acknowledge in time; sent again under the same id it has one effect",
                retry_after_seconds=2,
            ) from None
        except ValueError:
            raise too_large() from None
        measures.ACKNOWLEDGE_SECONDS.observe(monotonic() - began)
        return delivered


async def read_body(request: web.Request) -> bytes:
    """The whole body; raises `ProblemError` for one that is too large or too slow."""
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await request.read()
    except TimeoutError:
        raise ProblemError(
            problems.TIMEOUT, f"the body did not come within {BODY_SECONDS_MAX:g} s", headers={"Connection": "close"}
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large() from None


def too_large() -> ProblemError:
    """A body that no topic takes."""
    return ProblemError(problems.TOO_LARGE, f"a request has at most {BODY_BYTES_MAX} bytes")
