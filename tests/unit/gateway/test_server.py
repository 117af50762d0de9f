"""The server's edges: slow, malformed and unknown requests, and the schema registry."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

import pytest
from aiohttp.web_protocol import RequestHandler

from gateway.http import intake, problems, server, telemetry
from gateway.http.problems import ProblemError
from gateway.http.shedding import Backlog, Stay
from schemas import catalog
from tests.unit.gateway.edge import split, talk

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience with slow heads and bodies. Not for tests without any: a machine may stand still for so long."""
    monkeypatch.setattr(server, "HEAD_SECONDS_MAX", 0.4)
    monkeypatch.setattr(intake, "BODY_SECONDS_MAX", 1.5)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """More comes than can be kept, while this holds "full"; it may soon, while this holds anything."""
    says = ["full"]
    refusal = ProblemError(problems.OVERLOADED, "too many", retry_after_seconds=1)
    monkeypatch.setattr(Backlog, "refusal", lambda *_: refusal if "full" in says else None)
    monkeypatch.setattr(Backlog, "is_crowded", property(lambda _: bool(says)))
    yield says


async def get(port: int, path: str) -> tuple[int, dict[str, str], Any]:
    """GET on a connection of its own."""
    answer, _ = await talk(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return split(answer)


@pytest.mark.usefixtures("impatient")
async def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    """It holds memory."""
    answer, seconds = await talk(port)
    assert answer == b""
    assert seconds < 8


@pytest.mark.usefixtures("impatient")
async def test_a_head_that_drips_is_closed(port: int) -> None:
    """However steadily: the whole head has so long."""
    answer, seconds = await talk(port, *[HEAD[at : at + 1] for at in range(len(HEAD))], pause=0.05)
    assert answer == b""
    assert seconds < 8


@pytest.mark.usefixtures("impatient")
async def test_a_second_head_that_drips_is_closed_too(port: int) -> None:
    """After a proper request on the same connection."""
    answer, seconds = await talk(port, HEAD + b"\r\n", HEAD, pause=0.1)
    assert answer.count(b"200 OK") == 1
    assert seconds < 8


@pytest.mark.usefixtures("impatient")
async def test_an_idle_connection_is_kept(port: int) -> None:
    """Longer than a head may take: clients keep their connections."""
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer, _ = await talk(port, HEAD + b"\r\n", b"", last, pause=0.5)
    assert answer.count(b"200 OK") == 2


async def test_who_is_answered_before_the_bodys_end_is_told_that_the_connection_ends(port: int) -> None:
    """Else the next request would be sent into its end, and be lost without an answer."""
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
    answer, _ = await talk(port, head + b"{", b"  }", pause=0.2)
    status, headers, _ = split(answer)
    assert (status, headers["connection"]) == (404, "close")
    answer, _ = await talk(port, head + b"{  }", head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"{  }")
    assert re.findall(rb"HTTP/1.1 (\d+)|connection: (\w+)", answer, re.IGNORECASE) == [
        (b"404", b""),
        (b"404", b""),
        (b"", b"close"),
    ]


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_does_not_come_is_a_timeout(port: int) -> None:
    """408, and the connection ends."""
    head = b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    answer, seconds = await talk(port, head)
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"/problems/request-timeout" in answer
    assert seconds < 8


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("limit", "value"), [("IN_FLIGHT_MAX", 1), ("IN_FLIGHT_BYTES_MAX", 150)])
async def test_beyond_what_it_can_hold_the_gateway_says_so(
    port: int, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """503 with Retry-After, until those under way are through."""
    monkeypatch.setattr(intake, limit, value)
    head = b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
    # What has come counts, and not the length that was declared.
    slow = asyncio.create_task(talk(port, head + b"x" * 60))
    await asyncio.sleep(0.1)
    status, headers, body = split((await talk(port, head + b"x" * 100))[0])
    assert (status, body["type"]) == (503, "/problems/overloaded")
    assert headers["retry-after"] == "1"
    await slow
    assert split((await talk(port, head + b"x" * 100))[0])[0] == 400


class Slow:
    """Connections whose requests hold all they may of a body, and never end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        #: What each of them was answered, as far as it was.
        self.answers: list[asyncio.Task[bytes]] = []

    async def begin(self, count: int, path: str, body_bytes: int, *headers: str) -> None:
        """So many requests, each of which wants one more byte than comes."""
        is_chunked = "Transfer-Encoding: chunked" in headers
        lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
        if not is_chunked:
            lines.append(f"Content-Length: {body_bytes + 1}")
        size = f"{body_bytes + 1:x}\r\n".encode() if is_chunked else b""
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + size + b" " * body_bytes)
            self._writers.append(writer)
            self.answers.append(asyncio.create_task(reader.read()))

    async def refused(self, count: int) -> list[tuple[int, str, str]]:
        """Status, type and Retry-After of the first so many that are answered."""
        async with asyncio.timeout(60):
            while sum(each.done() for each in self.answers) < count:
                await asyncio.wait([each for each in self.answers if not each.done()], return_when="FIRST_COMPLETED")
        answers = [split(each.result()) for each in self.answers if each.done()]
        return [(status, body["type"], headers.get("retry-after", "")) for status, headers, body in answers]

    async def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self.answers, return_exceptions=True)


@pytest.fixture
async def slow(port: int) -> AsyncIterator[Slow]:
    made = Slow(port)
    yield made
    await made.end()


async def test_one_sellers_slow_bodies_leave_room_for_anothers(port: int, slow: Slow) -> None:
    """48 connections that hold what they may: most of the memory is theirs, and another seller posts unhindered."""
    await slow.begin(48, "/v1/invoices", 1024 * 1023, "Authorization: Bearer greedy")
    of_greedy = 48 - intake.IN_FLIGHT_BYTES_MAX * 4 // 5 // (1024 * 1023)
    assert set(await slow.refused(of_greedy)) == {(429, "/problems/seller-overloaded", "1")}
    for _ in range(20):
        began = monotonic()
        body = b"x" * 300_000
        head = f"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer modest\r\nContent-Length: {len(body)}"
        answer, _ = await talk(port, f"{head}\r\nConnection: close\r\n\r\n".encode() + body)
        assert split(answer)[0] == 400  # It was read whole, and is no JSON.
        assert monotonic() - began < 5


@pytest.mark.parametrize("length", [None, 1024 * 63])
async def test_whoever_has_no_key_takes_nothing_from_sellers(port: int, slow: Slow, length: int | None) -> None:
    """However many notices there are whose signature nobody has seen yet, and however large they are said to be."""
    count = 200
    if length is None:
        await slow.begin(count, "/v1/providers/local/notices", 1, "Transfer-Encoding: chunked")
    else:
        await slow.begin(count, "/v1/providers/local/notices", length)
        await slow.refused(count - intake.KEYLESS_BYTES_MAX // length)
    assert split((await talk(port, LAST_ORDER))[0])[0] == 400


async def test_a_notice_may_be_no_larger_than_notices_are(port: int) -> None:
    """Also one that doesn't say how large it is."""
    head = b"POST /v1/providers/local/notices HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer, _ = await talk(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk + b"0\r\n\r\n")
    assert split(answer)[0] == 413


def order(body: bytes) -> bytes:
    """A whole request."""
    return b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


ORDER = order(b"{}")
LAST_ORDER = ORDER.replace(b"Host: x", b"Host: x\r\nConnection: close")


@pytest.mark.parametrize(
    "parts",
    [
        (ORDER, ORDER, LAST_ORDER),
        (LAST_ORDER,),
        (ORDER, HEAD + b"Connection: close\r\n\r\n"),
        (LAST_ORDER[:9], LAST_ORDER[9:-1], LAST_ORDER[-1:]),
        (ORDER, LAST_ORDER[:30], LAST_ORDER[30:]),
        (ORDER + LAST_ORDER,),
    ],
)
async def test_of_too_much_every_order_is_refused_and_only_orders(
    port: int, full: list[str], parts: tuple[bytes, ...]
) -> None:
    """However it comes in pieces: each has one answer, and the connection goes on."""
    answer, _ = await talk(port, *parts, pause=0.1)
    heads = [part for part in answer.split(b"\r\n") if part.startswith((b"HTTP/1.1 ", b"}HTTP/1.1 "))]
    whole = b"".join(parts)
    assert answer.count(b"HTTP/1.1 503 ") == answer.count(b"/problems/overloaded") == whole.count(b"POST"), heads
    assert answer.count(b"Retry-After: 1\r\n") == whole.count(b"POST")
    assert answer.count(b"HTTP/1.1 200 ") == whole.count(b"GET")


async def test_what_only_looks_like_an_order_is_not_answered(port: int, full: list[str]) -> None:
    """The rest of a head, or a body: its answer would be taken for the next one's."""
    last = HEAD + b"Connection: close\r\n\r\n"
    answer, _ = await talk(port, b"GET /healthz HTTP/1.1\r\nX: ", ORDER, last, pause=0.1)
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1 ") == 2
    answer, _ = await talk(port, ORDER + b"GET /healthz HTTP/1.1\r\nX: ", ORDER, last, pause=0.1)
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"503", b"200", b"200"]
    head = LAST_ORDER.partition(b"Content-Length")[0] + f"Content-Length: {len(ORDER)}\r\n\r\n".encode()
    answer, _ = await talk(port, head, ORDER, pause=0.1)
    assert answer.count(b"HTTP/1.1 503 ") == answer.count(b"HTTP/1.1 ") == 1
    inner = HEAD + b"\r\nGET /healthz HTTP/1.1\r\nX: "
    looks_whole = order(inner)
    head = order(b"").replace(b"Content-Length: 0", f"Content-Length: {len(looks_whole) - len(inner)}".encode())
    answer, _ = await talk(port, head, looks_whole, pause=0.1)
    assert re.findall(rb"HTTP/1.1 (\d+) |Connection: (\w+)", answer) == [(b"503", b""), (b"", b"close")]


@pytest.mark.usefixtures("impatient")
async def test_what_was_refused_over_a_connection_does_not_hinder_what_comes_then(port: int, full: list[str]) -> None:
    """The slow head after it too has its time, and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            writer.write(ORDER)
            assert b" 503 " in await reader.readuntil(b"}")
            full.clear()
            writer.write(ORDER)
            assert b" 400 " in await reader.readuntil(b"}")
            full.append("full")
            writer.write(ORDER)
            assert b" 503 " in await reader.readuntil(b"}")
            writer.write(ORDER[:20])
            assert await reader.read() == b""
    finally:
        writer.close()


async def test_refusals_cost_no_parser_as_soon_as_a_connection_is_known(
    port: int, full: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came over it before more came than could be kept was not looked at; nor is what is sent in pieces."""
    parsed: list[bytes] = []
    feed = RequestHandler.data_received

    def note(its: RequestHandler, data: bytes) -> None:
        parsed.append(data)
        feed(its, data)

    monkeypatch.setattr(RequestHandler, "data_received", note)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            for says, sent, expected in [
                ("full", ORDER, False),
                ("", ORDER, True),
                ("full", ORDER, True),
                ("full", ORDER, False),
                ("full", ORDER, False),
                ("crowded", ORDER, True),
                ("full", ORDER, False),
                ("full", ORDER + ORDER, True),
                ("full", ORDER, True),
                ("full", ORDER, False),
            ]:
                full[:] = filter(None, [says])
                parsed.clear()
                for _ in range(sent.count(b"POST")):
                    writer.write(sent)
                    sent = b""
                    await reader.readuntil(b"}")
                assert bool(parsed) is expected
    finally:
        writer.close()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections are kept for a second."""
    monkeypatch.setattr(server, "KEEPALIVE_SECONDS", 1.0)


@pytest.mark.usefixtures("forgetful")
async def test_a_connection_over_which_only_refusals_go_is_not_idle(port: int, full: list[str]) -> None:
    """It would be closed in the moment in which its client sends the next request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = monotonic()
    try:
        async with asyncio.timeout(60):
            while monotonic() < began + 2.5:
                writer.write(ORDER)
                assert b" 503 " in await reader.readuntil(b"}")
                await asyncio.sleep(0.2)
            assert await reader.read() == b""
    finally:
        writer.close()


async def test_refusals_are_counted_as_answers_are(port: int, full: list[str]) -> None:
    count = telemetry.REQUEST_SECONDS.labels("POST /v1/invoices", "503")
    before = _count(count)
    await talk(port, ORDER, LAST_ORDER, pause=0.1)
    assert _count(count) == before + 2


def _count(histogram: Any) -> float:
    [value] = [sample.value for sample in histogram._samples() if sample.name == "_count"]
    return float(value)


async def test_whoever_is_answered_is_in_the_backlog_no_more(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept or not, or gone before: else the gateway would fill up with requests that are not there."""
    made: list[Backlog] = []
    begin = Stay.begin

    def note(its: Stay) -> None:
        made.append(its._backlog)
        begin(its)

    monkeypatch.setattr(Stay, "begin", note)
    await talk(port, ORDER, ORDER + ORDER, LAST_ORDER, pause=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ORDER)
    writer.transport.abort()
    del reader
    async with asyncio.timeout(60):
        while len(made) < 5 or made[0]._shares.total:  # noqa: ASYNC110 - it tells nobody.
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"POST /v1/invoices HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_in_our_own_words(port: int, raw: bytes) -> None:
    """A problem like any other, without a word about what runs here."""
    answer, _ = await talk(port, raw)
    status, headers, body = split(answer)
    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    assert body["type"] == "/problems/malformed"
    assert b"aiohttp" not in answer


async def test_a_bug_shows_nothing_of_our_insides(port: int) -> None:
    """There is no Postgres behind this gateway, not even a reader."""
    status, headers, body = await get(port, "/v1/series")
    assert status == 500
    assert headers["server"] == "gapless"
    assert body == {
        "type": "/problems/internal",
        "title": "Internal error",
        "status": 500,
        "detail": "the request failed; the cause is in our log",
    }


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/subjects/invoice-events-gapless.InvoiceIssued/versions", [1, 2, 3]),
        ("/schemas/types", ["AVRO"]),
        ("/config", {"compatibilityLevel": "FULL_TRANSITIVE"}),
        ("/mode", {"mode": "READONLY"}),
        ("/subjects/order-events-gapless.OrderCommandAnswered/versions", [1, 2, 3]),
    ],
)
async def test_the_registry_answers_as_confluents_does(port: int, path: str, says: Any) -> None:
    """Content type and shape."""
    status, headers, body = await get(port, path)
    assert (status, body) == (200, says)
    assert headers["content-type"] == "application/vnd.schemaregistry.v1+json"


async def test_every_schema_is_there_by_id_and_by_subject(port: int) -> None:
    """Byte for byte as the catalogue has it."""
    for name, versions in catalog.subjects().items():
        numbers = range(1, len(versions) + 1)
        assert (await get(port, f"/subjects/{name}/versions"))[2] == list(numbers)
        for number, asked in [*((each, str(each)) for each in numbers), (len(versions), "latest")]:
            version = versions[number - 1]
            by_id = (await get(port, f"/schemas/ids/{version.schema_id}"))[2]
            assert by_id == {"schema": version.text}
            found = (await get(port, f"/subjects/{name}/versions/{asked}"))[2]
            said = {"subject": name, "version": number, "id": version.schema_id, "schema": version.text}
            assert found == said
    assert (await get(port, "/subjects"))[2] == sorted(catalog.subjects())


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/subjects/nobody/versions", 404, 40401),
        ("/subjects/nobody/versions/1", 404, 40401),
        ("/subjects/invoice-events-gapless.InvoiceIssued/versions/4", 404, 40402),
        ("/subjects/invoice-events-gapless.InvoiceIssued/versions/x", 422, 42202),
        ("/schemas/ids/999", 404, 40403),
        ("/schemas/ids/x", 404, 40403),
        ("/schemas/ids/" + "9" * 50, 404, 40403),
    ],
)
async def test_what_the_registry_does_not_have_is_said_in_its_clients_codes(
    port: int, path: str, status: int, code: int
) -> None:
    """They branch on the code."""
    found, _, body = await get(port, path)
    assert (found, body["error_code"]) == (status, code)
