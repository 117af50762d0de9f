"""Invalid or excessive HTTP: malformed, smuggled, oversized, slow; and bodies that no order may have."""

import asyncio
from typing import Any

import aiohttp

from chaos.record import Kind
from chaos.scenario import scenario
from chaos.strangers import post
from chaos.traffic import Traffic
from chaos.world import RATE, World

_RATE = RATE / 2
_REFUSED = frozenset((400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 417, 422, 431))
_DRIPPING = 200


@scenario(
    22,
    "malformed, oversized or smuggled HTTP; 10,000-line order; NUL bytes; slow-loris",
    "400, 413 or 408; the process stays alive",
)
async def malformed_http(world: World) -> None:
    """Malformed requests over raw sockets, while 200 clients send a byte a second and ordinary traffic continues."""
    pids = world.pids()
    async with world.traffic(_RATE) as traffic, asyncio.TaskGroup() as group:
        lorises = [group.create_task(_drip(world)) for _ in range(_DRIPPING)]
        group.create_task(_bodies_that_break_rules(world, traffic))
        async for _ in world.turns(0.02, 0.1):
            name, request = world.chance.choice(_malformed(world))
            world.timeline.count(name)
            status = await _raw(world, request, ends=name in _CLOSED)
            world.record.statuses[status] += 1
            if status not in _REFUSED and not (status == 0 and name in _CLOSED):
                world.found.append(f"{name}: answered {status}")
        for loris in lorises:
            loris.cancel()
    world.check_alive(pids)


#: For these the server may also close the connection without an answer, since there is no request.
_CLOSED = frozenset(("nothing but NULs", "TLS", "half a head"))


def _malformed(world: World) -> list[tuple[str, bytes]]:
    key = world.api_key.encode()
    head = b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + b"\r\n"
    body = b'{"order_id": "SMUGGLED"}'
    hidden = b"GET /v1/stock HTTP/1.1\r\nHost: x\r\n\r\n"
    return [
        ("nothing but NULs", b"\x00" * 200 + b"\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60),
        ("half a head", b"POST /v1/invoices HTT"),
        ("no version", b"POST /v1/invoices\r\n\r\n"),
        ("NUL in the path", b"GET /v1/invoices/\x00 HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("NUL in a header", head + b"X-A: a\x00b\r\n\r\n"),
        ("two lengths", head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body),
        ("length and chunks", head + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden),
        ("chunks in disguise", head + b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + hidden),
        ("a chunk of letters", head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n"),
        ("a negative length", head + b"Content-Length: -5\r\n\r\n" + body),
        ("a length with a sign", head + b"Content-Length: +5\r\n\r\n" + body),
        ("a length of words", head + b"Content-Length: five\r\n\r\n" + body),
        ("too long a body", head + b"Content-Length: 2000000000\r\n\r\n" + body),
        ("a header without end", head + b"X-A: " + b"a" * 70_000 + b"\r\n\r\n"),
        ("many headers", head + b"".join(b"X-%d: a\r\n" % n for n in range(20_000)) + b"\r\n"),
        ("a folded header", head + b"X-A: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"),
        ("a space before the colon", head + b"Content-Length : 2\r\n\r\n{}"),
        ("line ends alone", b"GET /v1/stock HTTP/1.1\nHost: x\n\n"),
        ("a path without end", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a bad escape", b"GET /v1/orders/%zz%00 HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("out of the tree", b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("not JSON", head + b"Content-Length: 4\r\n\r\n\xff\xfe\x00\x00"),
        ("a deep tree", head + b"Content-Length: 20000\r\n\r\n" + b"[" * 20_000),
    ]


async def _raw(world: World, request: bytes, *, ends: bool) -> int:
    """The status of the first answer; 0 if the connection was closed. With `ends`, no more data is sent after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
    try:
        writer.write(request)
        await writer.drain()
        if ends:
            writer.write_eof()
        line = await asyncio.wait_for(reader.readline(), 20)
        words = line.split(b" ")
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    except (OSError, TimeoutError):
        return 0
    finally:
        writer.close()


async def _drip(world: World) -> None:
    """Send a request at a byte a second, and reconnect when the server closes the connection."""
    while True:
        writer = None
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
            for byte in b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 600:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(1.0)
        except OSError:
            await asyncio.sleep(0.5)
        finally:
            if writer is not None:
                writer.close()


async def _bodies_that_break_rules(world: World, traffic: Traffic) -> None:
    """Post well-formed HTTP with bodies that no order may have."""
    good = traffic.shop.invoice().bodies[0]
    del world.record.asked[Kind.INVOICE, str(good["order_id"])]
    wrong: list[tuple[str, Any, set[int]]] = [
        ("10,000 lines", {**good, "lines": list(good["lines"][:1]) * 10_000}, {413, 422}),
        ("NUL in the order id", {**good, "order_id": "a\x00b"}, {400, 422}),
        ("NUL in a name", {**good, "buyer": {**good["buyer"], "name": "a\x00b"}}, {400, 422}),
        ("2 MB of note", {**good, "note": "x" * 2_000_000}, {413}),
        ("an order id without end", {**good, "order_id": "x" * 10_000}, {400, 422}),
        ("no lines", {**good, "lines": []}, {400, 422}),
        ("a number for an amount", {**good, "lines": [{**good["lines"][0], "unit_price": 19.99}]}, {400, 422}),
        ("an amount beyond measure", {**good, "lines": [{**good["lines"][0], "unit_price": "9" * 400}]}, {400, 422}),
    ]
    async with aiohttp.ClientSession() as session:
        for name, body, expected in wrong:
            status, told = await post(session, world, "/v1/invoices", body, world.api_key, 1)
            if status not in expected:
                world.found.append(f"{name}: answered {status} {told}")
