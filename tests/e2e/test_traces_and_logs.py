"""What the stack tells of itself: the trace of an order, the lines about it, and those of a broker's restart."""

import asyncio
import json

import aiohttp
import msgspec

from local.stack import READY_SECONDS_MAX
from producers.generate import checkouts
from tests.collector import Collector, Seen
from tests.e2e.running import Running, wait_for

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER_ID = "00f067aa0ba902b7"
#: Each span of a paid order's way, after its service; after whom it follows.
WAY = {
    "gateway: POST /v1/checkouts": None,
    "gateway: publish checkout-requests": "gateway: POST /v1/checkouts",
    "checkouts: process checkout-requests": "gateway: publish checkout-requests",
    "relay: publish inventory-events": "checkouts: process checkout-requests",
    "payments: process order-events": "checkouts: process checkout-requests",
    "payments: authorize payment": "checkouts: process checkout-requests",
    "relay: publish payment-events": "checkouts: process checkout-requests",
    "orders: process payment-events": "checkouts: process checkout-requests",
    "relay: publish invoice-requests": "checkouts: process checkout-requests",
    "invoices: process invoice-requests": "checkouts: process checkout-requests",
    "documents: process invoice-events": "invoices: process invoice-requests",
}
#: Of topics that several of the above write to.
WAY_MORE = {
    ("relay: publish order-events", "checkouts: process checkout-requests"),
    ("relay: publish invoice-events", "invoices: process invoice-requests"),
    ("relay: publish invoice-events", "documents: process invoice-events"),
}
LINES_MAX = 50
LINES_OF_AN_ORDER = 6


def named(span: Seen) -> str:
    return f"{span.service.removeprefix('gapless-')}: {span.name}"


def way(spans: list[Seen]) -> set[tuple[str, str | None]]:
    """Each span with the one that it follows."""
    by_id = {span.span_id: named(span) for span in spans}
    return {(named(span), by_id.get(span.parent_id)) for span in spans}


async def test_a_trace_goes_from_the_request_to_the_document_and_the_log_names_it(
    running: Running, collector: Collector
) -> None:
    [body] = checkouts(1, seed=4, skus=["TRACE-1"], customers=1, tokens={"tok_ok": 1.0}, prefix="TRACE")
    order_id = msgspec.json.decode(body)["order_id"]
    async with running.client() as client:
        assert (await client.put_stock("TRACE-1", 1)).status == 200
    headers = {
        "Authorization": f"Bearer {running.api_key}",
        "Content-Type": "application/json",
        "Prefer": "wait=30",
        "traceparent": f"00-{TRACE_ID}-{CALLER_ID}-01",
    }
    async with (
        aiohttp.ClientSession(running.url) as session,
        session.post("/v1/checkouts", data=body, headers=headers) as answer,
    ):
        assert answer.status == 201
    await asyncio.to_thread(running.wait_until_drained)
    expected = {*WAY.items(), *WAY_MORE}
    await asyncio.to_thread(
        wait_for, lambda: expected <= way(collector.spans(TRACE_ID)), f"the whole trace: {expected}", 120.0
    )
    spans = collector.spans(TRACE_ID)
    assert way(spans) == expected
    by_name = {named(span): span for span in spans}
    assert by_name["gateway: POST /v1/checkouts"].parent_id == CALLER_ID
    numbered, stored = (
        by_name[f"{name}"].attributes
        for name in ("invoices: process invoice-requests", "documents: process invoice-events")
    )
    assert numbered["gapless.order_id"] == stored["gapless.order_id"] == order_id
    assert numbered["gapless.number"] == stored["gapless.number"]
    # Nobody else has asked for a trace.
    assert {span.trace_id for span in collector.spans()} == {TRACE_ID}

    def told_of_it() -> list[dict[str, str]]:
        return [json.loads(line) for lines in running.logs().values() for line in lines if f'"{order_id}"' in line]

    # Some lines follow what they tell of.
    await asyncio.to_thread(wait_for, lambda: len(told_of_it()) >= LINES_OF_AN_ORDER, "all its lines", 120.0)
    told = told_of_it()
    assert {line["trace_id"] for line in told} == {TRACE_ID}
    assert sorted((line["process"], line["event"]) for line in told) == [
        ("checkouts-1", "decided"),
        ("documents-1", "stored"),
        ("gateway", "request"),
        ("invoices-1", "issued"),
        ("payments-1", "moved"),
        ("payments-1", "payment attempt finished"),
    ]


async def test_a_brokers_restart_is_under_fifty_lines_in_all_logs(running: Running) -> None:
    """However many processes there are, each with several clients that try again dozens of times a second."""
    before = running.logs()
    running.kill("kafka")

    def new() -> dict[str, list[str]]:
        return {name: lines[len(before.get(name, ())) :] for name, lines in running.logs().items()}

    def telling(words: str) -> set[str]:
        return {name for name, lines in new().items() if any(words in line for line in lines)}

    def is_over() -> bool:
        back = telling("Kafka is available again")
        return back >= {"gateway", "relay", "invoices-1"} and back == telling("Kafka is unavailable")

    await asyncio.to_thread(wait_for, is_over, "each process says that Kafka is back", READY_SECONDS_MAX)
    await asyncio.to_thread(running.wait_until_ready)
    assert sum(map(len, new().values())) < LINES_MAX, json.dumps(new(), indent=1)
