"""The benchmarks' open-model load: requests are sent when they are due, and latencies count from then."""

import asyncio
from itertools import pairwise

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hdrh.histogram import HdrHistogram

from benchmarks.arrivals import Arrivals, due_times, load


def test_arrivals_are_as_many_as_asked_for_and_the_same_for_a_seed() -> None:
    due = due_times(200, 20, seed=3)
    assert due == due_times(200, 20, seed=3)
    assert due != due_times(200, 20, seed=4)
    assert len(due) == pytest.approx(4_000, rel=0.1)
    assert 0 < due[0]
    assert due[-1] < 20
    assert all(one < other for one, other in pairwise(due))


async def test_a_slow_answer_delays_no_other_request() -> None:
    """Ten that are due at once are answered together, although each takes half a second."""
    under_way = asyncio.Barrier(10)

    async def answer(_: web.Request) -> web.Response:
        # Nobody is answered before all are there.
        await under_way.wait()
        return web.Response(status=201)

    app = web.Application()
    app.add_routes([web.post("/v1/checkouts", answer)])
    async with TestServer(app) as server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        arrivals = Arrivals(session, str(server.make_url("/")))
        async with asyncio.timeout(30):
            await arrivals.run([b"{}"] * 10, [0.0] * 10)
    assert arrivals.statuses == {"201": 10}


async def test_a_request_that_is_sent_late_has_waited_since_it_was_due() -> None:
    """As after a stall of the load tool itself; what never had an answer is counted by its error."""
    async with aiohttp.ClientSession() as session:
        arrivals = Arrivals(session, "http://127.0.0.1:1")
        await arrivals.run([b"{}"], [-2.0])
    assert arrivals.statuses == {"ClientConnectorError": 1}
    assert arrivals.histogram.get_min_value() >= 1_990_000


async def test_the_report_holds_every_answer_and_its_histogram() -> None:
    stocked: list[str] = []

    async def stock(request: web.Request) -> web.Response:
        stocked.append(request.match_info["sku"])
        return web.Response()

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Prefer"] == "wait=60"
        assert (await request.json())["order_id"].startswith("T-")
        return web.Response(status=201)

    app = web.Application()
    app.add_routes([web.put("/v1/stock/{sku}", stock), web.post("/v1/checkouts", answer)])
    async with TestServer(app) as server:
        told = await load(str(server.make_url("/")), "gpl_key", 100, 0.5, seed=1, prefix="T")
    assert len(set(stocked)) == len(stocked) > 0
    assert told["requests"] == len(due_times(100, 0.5, seed=1))
    assert told["statuses"] == {"201": told["requests"]}
    decoded = HdrHistogram.decode(told["histogram"])
    assert decoded.get_total_count() == told["requests"]
