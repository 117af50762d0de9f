"""What every request goes through that is kept in Kafka: how large, how many at once, and when it counts as kept."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import cast

from aiohttp import web

from gateway import measures, problems
from gateway.openapi import Parameter
from gateway.problems import ProblemError
from gateway.server import BoundedHandler
from gateway.shedding import Stay
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

PREFER = Parameter(
    "Prefer",
    "header",
    {"type": "string", "examples": ["wait=10"]},
    f"`wait=N`: wait for the outcome, for at most {WAIT_SECONDS_MAX} seconds.",
)

_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?:;|,|$)', re.IGNORECASE)

#: Of the request that this task serves.
_stay: ContextVar[Stay] = ContextVar("stay")


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
        # Of a compressed body, the length says nothing of what it will be.
        is_unknown = (length is None and request.can_read_body) or "Content-Encoding" in request.headers
        held_bytes = BODY_BYTES_MAX if is_unknown else length or 0
        if self.in_flight >= IN_FLIGHT_MAX or self._in_flight_bytes + held_bytes > IN_FLIGHT_BYTES_MAX:
            raise ProblemError(problems.OVERLOADED, "too many requests are under way", retry_after_seconds=1)
        stay = cast(BoundedHandler, request.protocol).stay
        stay.join()
        outer = _stay.set(stay)
        self.in_flight += 1
        self._in_flight_bytes += held_bytes
        try:
            yield
        finally:
            _stay.reset(outer)
            self.in_flight -= 1
            self._in_flight_bytes -= held_bytes

    async def keep(self, topic: str, key: bytes, payload: bytes) -> Delivered:
        """Publish; return when all brokers in sync have it.

        Raises `ProblemError`: whether it is kept is unknown for `NOT_ACKNOWLEDGED`; for others it is not.
        """
        began = monotonic()
        is_kept = False
        try:
            delivered = await self._publisher.publish(topic, key, payload)
            is_kept = True
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
        finally:
            _stay.get().end(is_kept=is_kept)
        measures.ACKNOWLEDGE_SECONDS.observe(monotonic() - began)
        return delivered


@contextmanager
def not_ours() -> Iterator[None]:
    """What the block waits for is not up to the gateway: a place in line for stock, or an outcome."""
    stay = _stay.get()
    stay.leave()
    try:
        yield
    finally:
        stay.begin()


async def read_body(request: web.Request) -> bytes:
    """The whole body; raises `ProblemError` for one that is too large, too slow or not encoded as it says."""
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            body = await request.read()
        _stay.get().begin()
        return body
    except TimeoutError:
        raise ProblemError(problems.TIMEOUT, f"the body did not come within {BODY_SECONDS_MAX:g} s") from None
    except web.RequestPayloadError:
        raise ProblemError(
            problems.MALFORMED,
            "the body is not encoded as its Content-Encoding or Transfer-Encoding says",
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large() from None


def too_large() -> ProblemError:
    """A body that no topic takes."""
    return ProblemError(problems.TOO_LARGE, f"a request has at most {BODY_BYTES_MAX} bytes")
