"""The path of every request into Kafka: limits on size and number, and when a request counts as durable."""

import asyncio
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import cast

from aiohttp import web
from multidict import MultiMapping

from gateway.http import problems, telemetry
from gateway.http.problems import ProblemError
from gateway.http.server import BoundedHandler
from gateway.http.shedding import Shares, Stay
from runtime import traces
from runtime.publisher import Delivered, NotAcknowledgedError, OverloadedError, Publisher

BODY_BYTES_MAX = 1024 * 1024
#: A slow body holds memory; this is enough for 1 MiB over a slow connection.
BODY_SECONDS_MAX = 15.0
#: Requests under way. Each is a connection and a body; beyond this they only wait for each other. Orders on the
#: waitlist count, and a flash sale has thousands.
IN_FLIGHT_MAX = 20_000
#: Bytes received of the bodies under way. Decoded, each takes some ten: this bounds the gateway's memory.
IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
#: The same for requests that need no key, such as a provider's notices: anyone can send them, so they have limits
#: separate from the sellers'.
KEYLESS_IN_FLIGHT_MAX = 1_000
KEYLESS_BYTES_MAX = 8 * 1024 * 1024
#: After so many requests in a row without an acknowledgement the gateway is not ready, however healthy Kafka reports
#: itself; and for how long after the last of them. Then new requests are let through: only they show a recovery.
FAILING_RUN = 3
FAILING_SECONDS = 5.0

#: Content codings of bodies (RFC 9110, 8.4) by name, and how zlib reads them. `x-gzip` is gzip (RFC 9110, 8.4.1.3).
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": zlib.MAX_WBITS}
_ACCEPTED = "gzip, deflate"
#: Members that a gzip body may have. Each costs a copy of all that follows it.
_MEMBERS_MAX = 16

#: The place of the request that this task serves.
_place: "ContextVar[_Place]" = ContextVar("place")


class _Place:
    """One request under way: its time in the backlog, its trace, and the bytes received of its body.

    It is taken while its block runs, by the task that enters it.
    """

    __slots__ = ("_bytes", "_held_bytes", "_outer", "_requests", "_seller_id", "stay", "traceparent")

    def __init__(
        self, stay: Stay, requests: Shares, of_all: Shares, seller_id: str | None, traceparent: str | None
    ) -> None:
        self.stay, self.traceparent = stay, traceparent
        self._requests, self._bytes, self._seller_id = requests, of_all, seller_id
        self._held_bytes = 0

    def __enter__(self) -> None:
        self._outer = _place.set(self)
        self._requests.take(self._seller_id, 1)

    def __exit__(self, *_: object) -> None:
        _place.reset(self._outer)
        self._requests.give(self._seller_id, 1)
        self._bytes.give(self._seller_id, self._held_bytes)

    def take(self, count: int) -> None:
        """Count received bytes; raises `ProblemError` if they exceed a limit."""
        if self._seller_id is None:
            refusal = self._bytes.overflow(count, KEYLESS_BYTES_MAX)
        else:
            refusal = self._bytes.refusal(self._seller_id, count, IN_FLIGHT_BYTES_MAX)
        if refusal is not None:
            raise refusal
        self._bytes.take(self._seller_id, count)
        self._held_bytes += count


class Intake:
    """Limits the requests under way, in total and per seller, and publishes them."""

    def __init__(self, publisher: Publisher, permit: Callable[[], object] = lambda: None) -> None:
        """`permit` raises `ProblemError` while no request may be accepted."""
        self._publisher = publisher
        self._permit = permit
        self._requests, self._keyless_requests = Shares(), Shares()
        self._bytes, self._keyless_bytes = Shares(), Shares()
        self._unacknowledged_run = 0
        self._unacknowledged_at = -math.inf

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return self._requests.total + self._keyless_requests.total

    @property
    def is_failing(self) -> bool:
        """Whether the last requests were not acknowledged, one of them recently. Later only a new request can tell."""
        is_recent = monotonic() - self._unacknowledged_at < FAILING_SECONDS
        return is_recent and self._unacknowledged_run >= FAILING_RUN

    def place(self, request: web.Request, seller_id: str | None) -> AbstractContextManager[None]:
        """A place among the seller's requests under way; None for a request that needs no key.

        Raises `ProblemError` if there is no place, or the request's head forbids it.
        """
        self._permit()
        coding_of(request.headers)
        requests = self._keyless_requests if seller_id is None else self._requests
        refusal = (
            requests.overflow(1, KEYLESS_IN_FLIGHT_MAX)
            if seller_id is None
            else requests.refusal(seller_id, 1, IN_FLIGHT_MAX)
        )
        if refusal is not None:
            raise refusal
        stay = cast(BoundedHandler, request.protocol).stay
        stay.join(seller_id)
        of_all = self._keyless_bytes if seller_id is None else self._bytes
        return _Place(stay, requests, of_all, seller_id, request.get(telemetry.TRACEPARENT))

    async def keep(self, topic: str, key: bytes, payload: bytes) -> Delivered:
        """Publish, with the request's trace; return when all in-sync replicas have the record.

        Raises `ProblemError`: with `NOT_ACKNOWLEDGED` it may be durable; with others it is not.
        """
        began = monotonic()
        is_kept = False
        traceparent = _place.get().traceparent
        span = traces.follow("PRODUCER", f"publish {topic}", traceparent)
        if span is not None:
            traceparent = span.traceparent
        headers = None if traceparent is None else [(traces.TRACEPARENT, traceparent.encode())]
        try:
            delivered = await self._publisher.publish(topic, key, payload, headers)
            is_kept = True
            if span is not None:
                span.describe(traces.of_record(topic, *delivered))
            self._unacknowledged_run = 0
        except OverloadedError:
            raise ProblemError(
                problems.OVERLOADED, "too many requests wait for the brokers", retry_after_seconds=1
            ) from None
        except NotAcknowledgedError:
            self._unacknowledged_run += 1
            self._unacknowledged_at = monotonic()
            telemetry.NOT_ACKNOWLEDGED.inc()
            raise ProblemError(
                problems.NOT_ACKNOWLEDGED,
                "the brokers did not acknowledge in time: send it again under the same id; it has one effect",
                retry_after_seconds=2,
            ) from None
        except ValueError:
            raise too_large() from None
        finally:
            _place.get().stay.end(is_kept=is_kept)
            if span is not None:
                span.end("" if is_kept else "not acknowledged")
        telemetry.ACKNOWLEDGE_SECONDS.observe(monotonic() - began)
        return delivered


@contextmanager
def not_ours() -> Iterator[None]:
    """Take the block's time out of the backlog: it waits for what the gateway does not control."""
    stay = _place.get().stay
    stay.leave()
    try:
        yield
    finally:
        stay.begin()


class HungUpError(Exception):
    """The client disconnected before its request was done: no response can be sent."""


async def read_body(request: web.Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The whole body, decoded; sends 100 Continue if the client expects it.

    Limits count received bytes, and decoded bytes of an encoded body; a declared length reserves nothing.
    Raises `HungUpError`, and `ProblemError` for a body that is too large, too slow or not encoded as declared.
    """
    coding = coding_of(request.headers)
    if request.content_length is not None and request.content_length > bytes_max:
        raise too_large(bytes_max)
    place = _place.get(None)
    body = bytearray()

    async def receive() -> None:
        await cast(BoundedHandler, request.protocol).ask_for_body(request)
        while not request.content.at_eof():
            chunk = await request.content.readany()
            if len(body) + len(chunk) > bytes_max:
                raise too_large(bytes_max)
            if place is not None:
                place.take(len(chunk))
            body.extend(chunk)
            request[telemetry.REQUEST_BYTES] = len(body)

    try:
        if request.content.is_eof():
            # It came with its head, as most do, and nothing is waited for.
            await receive()
        else:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                await receive()
        whole = bytes(body)
        if coding is not None:
            whole = decode(coding, whole, bytes_max)
            if place is not None:
                place.take(len(whole))
    except TimeoutError:
        raise ProblemError(problems.TIMEOUT, f"the body did not arrive within {BODY_SECONDS_MAX:g} s") from None
    except ConnectionError:
        raise HungUpError from None
    except (web.RequestPayloadError, NotDecodableError):
        raise ProblemError(
            problems.MALFORMED,
            "the body is not encoded as its Content-Encoding or Transfer-Encoding says",
        ) from None
    except DecodedTooLargeError:
        raise too_large(bytes_max) from None
    if place is not None:
        place.stay.begin()
    return whole


class NotDecodableError(Exception):
    """The body is not encoded as its Content-Encoding says."""


class DecodedTooLargeError(Exception):
    """The decoded body exceeds its size limit."""


def coding_of(headers: MultiMapping[str]) -> str | None:
    """The coding of a body, None for a plain one; raises `ProblemError` for an unsupported one, and for several."""
    if "Content-Encoding" not in headers:
        return None
    names = [name.strip().lower() for line in headers.getall("Content-Encoding", ()) for name in line.split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _WINDOW_BITS:
        raise ProblemError(
            problems.UNSUPPORTED_CODING,
            f"Content-Encoding must be one of {_ACCEPTED}, once, or be omitted",
            headers={"Accept-Encoding": _ACCEPTED},
        )
    return codings[0]


def decode(coding: str, body: bytes, bytes_max: int) -> bytes:
    """The plain body, of at most `bytes_max`; raises `NotDecodableError` and `DecodedTooLargeError`."""
    window_bits = _WINDOW_BITS[coding]
    # The standard means zlib's format; some clients send the raw stream inside it.
    if coding == "deflate" and body and body[0] & 0x0F != 8:
        window_bits = -zlib.MAX_WBITS
    plain = b""
    for _ in range(_MEMBERS_MAX):
        if not body:
            return plain
        stream = zlib.decompressobj(window_bits)
        try:
            plain += stream.decompress(body, bytes_max + 1 - len(plain))
        except zlib.error:
            raise NotDecodableError from None
        if len(plain) > bytes_max:
            raise DecodedTooLargeError
        if not stream.eof or (stream.unused_data and coding == "deflate"):
            raise NotDecodableError
        body = stream.unused_data
    raise NotDecodableError


def too_large(bytes_max: int = BODY_BYTES_MAX) -> ProblemError:
    """The problem of a body of more than `bytes_max`."""
    return ProblemError(problems.TOO_LARGE, f"the body must have at most {bytes_max} bytes")
