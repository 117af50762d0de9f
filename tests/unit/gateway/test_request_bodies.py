"""Request bodies: how they may be encoded, when a client is asked for one, and what becomes of one that never ends."""

import asyncio
import gzip
import logging
import tracemalloc
import zlib
from typing import Any

import pytest

from gateway.http import intake, telemetry
from gateway.http.intake import BODY_BYTES_MAX
from tests.unit.gateway.edge import split, talk

#: Refused by what is inside of it, so that the answer tells that it was read.
BODY = b'{"currency": "EUR"}'
READ = (400, "/problems/malformed", "buyer: is missing")


def post(*lines: bytes, path: bytes = b"/v1/invoices") -> bytes:
    """The head of a request that ends the connection."""
    return b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", *lines, b"", b""])


def _gzip(body: bytes) -> bytes:
    """Without the time, so that each worker of a test run makes the same."""
    return gzip.compress(body, mtime=0)


def _deflate(body: bytes, wbits: int) -> bytes:
    made = zlib.compressobj(wbits=wbits)
    return made.compress(body) + made.flush()


async def answer_to(port: int, *parts: bytes) -> tuple[int, str, str]:
    status, _, problem = split((await talk(port, *parts))[0])
    return status, problem["type"], problem["detail"]


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ([], BODY),
        ([b"Content-Encoding: identity"], BODY),
        ([b"Content-Encoding:"], BODY),
        ([b"Content-Encoding: gzip"], _gzip(BODY)),
        ([b"content-encoding: GZip"], _gzip(BODY)),
        ([b"Content-Encoding: x-gzip"], _gzip(BODY)),
        ([b"Content-Encoding: identity", b"Content-Encoding: gzip"], _gzip(BODY)),
        # A file may be put together of several (RFC 1952, 2.2).
        ([b"Content-Encoding: gzip"], _gzip(BODY[:5]) + _gzip(b"") + _gzip(BODY[5:])),
        ([b"Content-Encoding: deflate"], _deflate(BODY, 15)),
        # What clients send who took the name at its word.
        ([b"Content-Encoding: deflate"], _deflate(BODY, -15)),
        # A byte order mark comes first where software of Windows writes.
        ([], b"\xef\xbb\xbf" + BODY),
        ([b"Content-Encoding: gzip"], _gzip(b"\xef\xbb\xbf" + BODY)),
    ],
)
async def test_a_body_is_read_as_it_is_encoded(port: int, lines: list[bytes], body: bytes) -> None:
    assert await answer_to(port, post(b"Content-Length: %d" % len(body), *lines) + body) == READ
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert await answer_to(port, post(b"Transfer-Encoding: chunked", *lines) + chunk) == READ


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Encoding: br"],
        [b"Content-Encoding: zstd"],
        [b"Content-Encoding: compress"],
        [b"Content-Encoding: gzip, gzip"],
        [b"Content-Encoding: deflate, gzip"],
        [b"Content-Encoding: gzip", b"Content-Encoding: gzip"],
        [b"Content-Encoding: nonsense"],
        [b'Content-Encoding: "gzip"'],
        [b"Content-Encoding: gzip;q=1"],
        [b"Content-Encoding: \xc7zip"],
    ],
)
async def test_a_coding_that_is_not_taken_is_said_with_those_that_are(port: int, lines: list[bytes]) -> None:
    """In the version of HTTP that was spoken."""
    answer, _ = await talk(port, post(b"Content-Length: 2", *lines) + b"{}")
    assert answer.startswith(b"HTTP/1.1 415 ")
    _, headers, problem = split(answer)
    assert problem["type"] == "/problems/unsupported-coding"
    assert headers["accept-encoding"] == "gzip, deflate"


WHOLE = _gzip(BODY)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", BODY),
        (b"gzip", WHOLE[:-1]),
        (b"gzip", WHOLE + b"x"),
        (b"gzip", WHOLE[:-8] + bytes(8)),
        (b"gzip", WHOLE * 17),
        (b"gzip", _deflate(BODY, 15)),
        (b"deflate", WHOLE),
        (b"deflate", BODY),
        (b"deflate", _deflate(BODY, 15) * 2),
        (b"deflate", _deflate(BODY, 15)[:-1]),
    ],
)
async def test_a_body_that_is_not_encoded_as_it_says_can_not_be_read(port: int, coding: bytes, body: bytes) -> None:
    head = post(b"Content-Encoding: " + coding, b"Content-Length: %d" % len(body))
    status, kind, detail = await answer_to(port, head + body)
    assert (status, kind) == (400, "/problems/malformed")
    assert "Content-Encoding" in detail


@pytest.mark.parametrize("size", [BODY_BYTES_MAX, BODY_BYTES_MAX + 1])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_what_a_body_becomes_is_what_is_bounded(port: int, coding: str, size: int) -> None:
    body = _deflate(b" " * (size - len(BODY)) + BODY, 31 if coding == "gzip" else 15)
    head = post(f"Content-Encoding: {coding}".encode(), b"Content-Length: %d" % len(body))
    status, kind, _ = await answer_to(port, head + body)
    assert (status, kind) == (READ[:2] if size == BODY_BYTES_MAX else (413, "/problems/too-large"))


def test_no_more_than_the_bound_is_ever_made() -> None:
    """A kibibyte may become a mebibyte, and several a gibibyte."""
    bomb = _gzip(bytes(50_000))
    with pytest.raises(intake.DecodedTooLargeError):
        intake.decode("gzip", bomb * 16, 100_000)
    assert intake.decode("gzip", bomb * 2, 100_000) == bytes(100_000)
    assert intake.decode("gzip", b"", 100) == b""
    # Not even for as long as it takes to see that it is too much.
    large = _gzip(bytes(32 * 2**20))
    tracemalloc.start()
    try:
        with pytest.raises(intake.DecodedTooLargeError):
            intake.decode("gzip", bomb + large, 100_000)
        _, bytes_most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bytes_most < 2**20


EXPECT = b"Expect: 100-continue"
LENGTH = b"Content-Length: %d" % len(BODY)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def exchange(port: int, head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """What comes before the body is sent, which is the end where it comes to one, and what comes after."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            writer.write(head)
            before = await reader.readuntil(b"\r\n\r\n")
            if not before.startswith(b"HTTP/1.1 100 "):
                return before + await reader.read(), b""
            writer.write(body)
            return before, await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("lines", [[EXPECT], [b"expect: 100-Continue"], [EXPECT, EXPECT], [b"Expect: 100-continue,"]])
async def test_a_client_that_waits_for_it_is_asked_for_its_body(port: int, lines: list[bytes]) -> None:
    before, after = await exchange(port, post(LENGTH, *lines), BODY)
    assert before == CONTINUE
    status, _, problem = split(after)
    assert (status, problem["type"], problem["detail"]) == READ


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (post(EXPECT, b"Content-Length: 2000000"), 413),
        (post(EXPECT, LENGTH, b"Content-Encoding: br"), 415),
        (post(EXPECT, LENGTH, path=b"/v1/nothing"), 404),
        (post(EXPECT, LENGTH, path=b"/v1/series"), 405),
        (post(EXPECT, LENGTH, b"Expect: mind-reading"), 417),
        (post(b"Expect: mind-reading", LENGTH), 417),
        (post(b"Expect: 100-continue=1", LENGTH), 417),
        (post(b"Expect: mind-reading", LENGTH, path=b"/v1/nothing"), 417),
    ],
)
async def test_what_is_refused_by_its_head_is_told_so_at_once(port: int, head: bytes, status: int) -> None:
    """And is not asked for its body before."""
    answer, _ = await exchange(port, head, b"")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert split(answer)[1]["connection"] == "close"


async def test_so_is_one_that_comes_too_much(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http.intake.IN_FLIGHT_MAX", 0)
    answer, _ = await exchange(port, post(EXPECT, LENGTH), b"")
    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_a_client_of_http_1_0_is_never_asked(port: int) -> None:
    """It doesn't know an answer that another one follows."""
    head = b"POST /v1/invoices HTTP/1.0\r\n" + LENGTH + b"\r\n" + EXPECT + b"\r\n\r\n"
    answer, _ = await talk(port, head + BODY)
    assert split(answer)[0] == 400
    assert b" 100 " not in answer


async def test_the_next_request_of_a_connection_expects_nothing(port: int) -> None:
    first = post(LENGTH, EXPECT).replace(b"Connection: close\r\n", b"")
    answer, _ = await talk(port, first + BODY, post(LENGTH) + BODY, pause=0.1)
    assert answer.count(CONTINUE) == 1
    assert answer.count(b"HTTP/1.1 400 ") == 2


@pytest.mark.parametrize(
    "sent", [post(b"Content-Length: 100") + b"{", post(b"Transfer-Encoding: chunked") + b"5\r\n{    \r\n"]
)
async def test_a_client_that_hangs_up_amid_its_body_is_nobodys_fault(
    port: int, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """It is counted as what it is, and nobody is called to look into it."""
    caplog.set_level(logging.WARNING)
    failed, hung_up = _count("500"), _count("499")
    for abruptly in (False, True):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort() if abruptly else writer.close()
    async with asyncio.timeout(60):
        while _count("499") < hung_up + 2:  # noqa: ASYNC110 - it tells nobody.
            await asyncio.sleep(0.01)
    assert _count("500") == failed
    assert caplog.records == []


def _count(status: str) -> float:
    histogram: Any = telemetry.REQUEST_SECONDS.labels("POST /v1/invoices", status)
    [value] = [sample.value for sample in histogram._samples() if sample.name == "_count"]
    return float(value)
