"""The gateway over HTTP, with real Kafka, Postgres and Valkey behind it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
import yarl
from multidict import CIMultiDict

from runtime import metrics
from runtime.publisher import Publisher
from schemas.catalog import INVOICE_ISSUED
from tests.cases.requests import BROKEN, EN16931, SHOP
from tests.conftest import Services
from tests.integration.gateways import (
    KEYS,
    Answer,
    Client,
    Topics,
    kept,
    line,
    order,
    running,
    statuses,
    until,
)
from tests.integration.issuer import Issuer
from tests.records import written


@pytest.fixture
async def issuer(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Issuer]:
    """Somebody who issues what the gateway accepts."""
    async with Issuer(services, ledger, topics) as made:
        yield made


def new_id() -> str:
    """An order id that no other test has used: hints outlive a test."""
    return f"A-{uuid4().hex[:12]}"


def issued_event(seller_id: str, order_id: str, number: int) -> dict[str, Any]:
    """What the agent would say of `order(order_id)`."""
    body = order(order_id)
    address = body["buyer"]["address"]
    rate = {"vat_category": "S", "vat_rate": "20.00", "taxable_minor": 3998, "tax_minor": 800}
    return {
        "seller_id": seller_id,
        "order_id": order_id,
        "kind": "invoice",
        "series_id": f"{seller_id}.invoice.p00",
        "number": number,
        "invoice_number": f"INV-00-{number:08d}",
        "issued_at": 1_795_000_000_000_000,
        "issue_date": "2026-11-21",
        "currency": "EUR",
        "note": None,
        "buyer": {**body["buyer"], "vat_id": None},
        "seller": {"legal_name": "Shop", "vat_id": None, "address": address, "logo_sha256": None},
        "lines": [{**each, "net_minor": 3998} for each in body["lines"]],
        "totals": {"net_minor": 3998, "tax_minor": 800, "gross_minor": 4798, "per_rate": [rate]},
        "template_version": 1,
    }


async def test_an_order_is_accepted_issued_and_stored(client: Client, issuer: Issuer) -> None:
    """The whole life of an order, as its seller sees it."""
    order_id = new_id()
    answer = await client.post(order(order_id))
    path = f"/v1/invoices/{order_id}"
    assert answer.status == 202
    assert answer.headers["Location"] == path
    assert "Retry-After" in answer.headers
    links = {"self": path, "document": f"{path}/document"}
    assert answer.json == {"order_id": order_id, "status": "accepted", "links": links}

    issued = (await until(lambda: client.get(path), lambda got: got.json["status"] == "issued")).json
    assert issued["number"] == 1
    assert issued["invoice_number"] == f"INV-{issued['series_id'][-2:]}-00000001"
    rates = [{"vat_category": "S", "vat_rate": "20.00", "taxable": "39.98", "tax": "8.00"}]
    assert issued["totals"] == {"net": "39.98", "tax": "8.00", "gross": "47.98", "per_rate": rates}
    assert issued["document"] is None
    early = await client.get(f"{path}/document")
    assert (early.status, early.json["type"]) == (404, "/problems/document-not-stored")
    assert "Retry-After" in early.headers

    digest = await issuer.store_document(order_id, b"%PDF-1.7 a document")
    stored = (await client.get(path)).json
    assert stored["status"] == "stored"
    assert stored["document"] == {"sha256": digest, "size": 19, "link": f"{path}/document"}
    document = await client.get(f"{path}/document")
    assert document.body == b"%PDF-1.7 a document"
    assert document.headers["Content-Type"] == "application/pdf"
    assert document.headers["ETag"] == f'"{digest}"'
    assert "immutable" in document.headers["Cache-Control"]
    assert document.headers["Content-Disposition"] == f'inline; filename="{issued["invoice_number"]}.pdf"'
    for known, status in ([f'W/"x", "{digest}"'], 304), (['"x"', f'W/"{digest}"'], 304), (["*"], 304), (['"*"'], 200):
        again = await client.call("GET", f"{path}/document", CIMultiDict(("If-None-Match", line) for line in known))
        assert (again.status, again.body) == (status, b"" if status == 304 else document.body)

    number = await client.get(f"/v1/series/{issued['series_id']}/numbers/1")
    assert number.json["order_id"] == order_id
    assert number.json["document"]["sha256"] == digest
    series = await client.get("/v1/series")
    assert series.json["series"] == [
        {"series_id": issued["series_id"], "policy": "partitioned", "next_number": 2, "issued": 1}
    ]


async def test_a_redis_that_is_merely_new_has_lost_nothing(services: Services, ledger: str, topics: Topics) -> None:
    """An id never sent is unknown, for good, while nothing was ever accepted. Later, a note of it may be lost."""
    url = services.redis_url.rpartition("/")[0] + "/7"
    async with redis.asyncio.Redis.from_url(url) as server:
        await server.flushdb()
        async with running(services, ledger, topics, redis_url=url) as client:
            for path in ("/v1/invoices/A", "/v1/orders/A", "/v1/invoices/A"):
                answer = await client.get(path)
                assert (answer.status, answer.headers.get("Retry-After")) == (404, None), path
                assert "Redis" not in answer.json["detail"]
            await client.post(order(new_id()))
            assert (await client.get("/v1/invoices/A")).headers.get("Retry-After") is None
            await server.flushdb()
            answer = await client.get("/v1/invoices/A")
            assert (answer.status, answer.headers.get("Retry-After")) == (404, "1")
            assert "Redis has lost its note" in answer.json["detail"]


async def test_series_are_listed_in_pages(client: Client, query: Callable[..., object]) -> None:
    """By id, the seller's own alone; a cursor of nobody's is refused."""
    query(
        "INSERT INTO series (series_id, seller_id, policy) SELECT seller_id || '.' || n, seller_id, 'partitioned'"
        " FROM generate_series(1, 5) n, unnest('{demo,other}'::text[]) seller_id"
    )
    found: list[str] = []
    page = "/v1/series?limit=2"
    while page:
        answer = (await client.get(page)).json
        assert len(answer["series"]) <= 2
        found += [each["series_id"] for each in answer["series"]]
        page = answer["next"] and f"/v1/series?limit=2&cursor={answer['next']}"
    assert found == [f"demo.{n}" for n in range(1, 6)]
    for wrong in ("limit=0", "limit=101", "cursor=x", "cursor=WyIAIl0"):
        assert (await client.get(f"/v1/series?{wrong}")).status == 422, wrong


async def test_a_request_just_accepted_is_never_unknown(client: Client) -> None:
    """Although nobody issues it."""
    order_id = new_id()
    await client.post(order(order_id))
    answer = await client.get(f"/v1/invoices/{order_id}")
    assert (answer.status, answer.json["status"]) == (200, "accepted")
    assert (await client.get(f"/v1/invoices/{new_id()}")).status == 404


async def test_where_the_note_of_an_accepted_order_is_lost_that_is_said(client: Client, services: Services) -> None:
    """404 with Retry-After, and why."""
    order_id = new_id()
    await client.post(order(order_id))
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        await server.flushall()
    answer = await client.get(f"/v1/invoices/{order_id}")
    assert answer.status == 404
    assert "Retry-After" in answer.headers
    assert "lost" in answer.json["detail"]
    command = await client.call("POST", f"/v1/orders/{order_id}/cancellations")
    assert (command.status, command.json["type"]) == (404, "/problems/unknown-order")
    assert "Retry-After" in command.headers
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        await server.set("accepted-since", 1)
    assert "Retry-After" not in (await client.get(f"/v1/invoices/{order_id}")).headers
    assert "Retry-After" not in (await client.call("POST", f"/v1/orders/{order_id}/cancellations")).headers


async def test_a_client_may_wait_for_its_number(client: Client, issuer: Issuer) -> None:
    """And gets what it would read."""
    order_id = new_id()
    answer = await client.post(order(order_id), Prefer="wait=20")
    assert answer.status == 200
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.json["status"] == "issued"
    assert answer.json == (await client.get(f"/v1/invoices/{order_id}")).json


async def test_an_event_answers_its_own_seller_and_nobody_else(
    client: Client, services: Services, topics: Topics
) -> None:
    """Two sellers may use the same order id for the same things. Postgres knows of neither here."""
    order_id = new_id()
    waiting = asyncio.create_task(client.post(order(order_id), Prefer="wait=30"))
    publisher = Publisher(services.kafka_bootstrap)

    async def publish(seller_id: str, number: int) -> None:
        event = written(INVOICE_ISSUED, issued_event(seller_id, order_id, number))
        await publisher.publish(topics.events.name, order_id.encode(), event)

    await until(lambda: asyncio.to_thread(kept, services, topics), bool)
    await publish("other", 7)
    await asyncio.sleep(1)
    assert not waiting.done()
    await publish("demo", 8)
    answer = await waiting
    await publisher.close()
    assert (answer.status, answer.json["number"]) == (200, 8)
    assert answer.seconds < 25


async def test_who_waits_in_vain_is_told_that_the_order_is_kept(client: Client) -> None:
    """202, after the time asked for."""
    answer = await client.post(order(new_id()), Prefer="wait=1")
    assert (answer.status, answer.json["status"]) == (202, "accepted")
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert 0.9 < answer.seconds < 20


async def test_an_old_order_sent_again_has_its_number_at_once(client: Client, issuer: Issuer) -> None:
    """No event comes for it any more."""
    body = order(new_id())
    first = await client.post(body, Prefer="wait=20")
    again = await client.post(body, Prefer="wait=20")
    assert again.status == 200
    assert again.json == first.json
    assert again.seconds < 15


async def test_a_number_is_found_although_its_event_does_not_come(client: Client, issuer: Issuer) -> None:
    """The relay may be away."""
    issuer.publishes = False
    answer = await client.post(order(new_id()), Prefer="wait=30")
    assert answer.status == 200
    assert answer.seconds < 25


async def test_the_same_order_with_other_content_is_a_conflict_at_once(
    client: Client, services: Services, topics: Topics
) -> None:
    """Nothing of it reaches the log."""
    order_id = new_id()
    assert (await client.post(order(order_id))).status == 202
    before = kept(services, topics)
    answer = await client.post(order(order_id, note="other"))
    assert (answer.status, answer.json["type"]) == (409, "/problems/conflict")
    assert answer.json["links"]["self"] == f"/v1/invoices/{order_id}"
    assert kept(services, topics) == before
    assert (await client.post(order(order_id))).status == 202


async def test_a_conflict_found_later_shows_in_the_status_and_changes_nothing(
    client: Client, issuer: Issuer, services: Services
) -> None:
    """Redis has forgotten the first, so both are accepted."""
    order_id = new_id()
    first = await client.post(order(order_id), Prefer="wait=20")
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        assert await server.delete(f"accepted:demo:{order_id}") == 1
    assert (await client.post(order(order_id, note="other"))).status == 202
    path = f"/v1/invoices/{order_id}"
    answer = await until(lambda: client.get(path), lambda got: got.json["status"] == "conflict")
    assert answer.json["number"] == first.json["number"]
    assert answer.json["totals"] == first.json["totals"]
    assert len(answer.json["conflicts"]) == 1
    # The hint now tells of the second; what stands is what counts.
    assert (await client.post(order(order_id))).status == 202


async def test_who_waits_for_a_conflict_is_told_of_it(client: Client, issuer: Issuer, services: Services) -> None:
    """By its event or by what stands, never by the other's number."""
    order_id = new_id()
    await client.post(order(order_id), Prefer="wait=20")
    async with redis.asyncio.Redis.from_url(services.redis_url) as server:
        await server.delete(f"accepted:demo:{order_id}")
    answer = await client.post(order(order_id, note="other"), Prefer="wait=20")
    assert answer.status == 409
    assert answer.seconds < 15


async def test_of_two_at_once_one_gets_the_number_and_one_the_conflict(client: Client, issuer: Issuer) -> None:
    """Whichever came first in the log."""
    order_id = new_id()
    answers = await asyncio.gather(
        *(client.post(order(order_id, note=note), Prefer="wait=20") for note in ("one", "two"))
    )
    assert statuses(answers) == {200: 1, 409: 1}
    status = (await client.get(f"/v1/invoices/{order_id}")).json
    assert status["number"] == next(answer.json["number"] for answer in answers if answer.status == 200)


async def test_sellers_do_not_see_each_other(client: Client, issuer: Issuer) -> None:
    """Not by order, document, series or number; and the same order id is two orders."""
    order_id = new_id()
    mine = (await client.post(order(order_id), Prefer="wait=20")).json
    await issuer.store_document(order_id, b"mine")
    other = client.as_(KEYS["other"])
    paths = [
        f"/v1/invoices/{order_id}",
        f"/v1/invoices/{order_id}/document",
        f"/v1/series/{mine['series_id']}/numbers/1",
    ]
    for path in paths:
        assert (await client.get(path)).status == 200
        assert (await other.get(path)).status == 404
    assert (await other.get("/v1/series")).json == {"series": [], "next": None}
    theirs = await other.post(order(order_id, note="theirs"), Prefer="wait=20")
    assert theirs.status == 200
    assert theirs.json["series_id"].startswith("other.")
    assert (await client.get(f"/v1/invoices/{order_id}")).json["status"] == "stored"


@pytest.mark.parametrize("key", [None, "", "wrong", KEYS["demo"] + "x"])
async def test_nothing_is_told_without_a_valid_key(client: Client, key: str | None) -> None:
    """Neither taken nor shown."""
    stranger = client.as_(key)
    for answer in (
        await stranger.post(order(new_id())),
        await stranger.get("/v1/invoices/A"),
        await stranger.get("/v1/series"),
    ):
        assert (answer.status, answer.json["type"]) == (401, "/problems/unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"currency": "XXX"}, 422, "currency"),
        ({"currency": "eur"}, 422, "currency"),
        ({"surprise": 1}, 400, "surprise"),
        ({"lines": []}, 422, "lines"),
        ({"lines": [line()] * 1001}, 422, "lines"),
        ({"lines": [line(vat_category="Q")]}, 422, "lines[0].vat_category"),
        ({"lines": [line(), line(unit_price="1.23456789012")]}, 422, "lines[1].unit_price"),
        ({"lines": [line(quantity="NaN")]}, 422, "lines[0].quantity"),
        ({"lines": [line(quantity="-2")]}, 422, "lines"),
        ({"totals": {"gross": "47.99"}}, 422, "totals.gross"),
        ({"totals": {"gross": "x"}}, 422, "totals.gross"),
        ({"buyer": None}, 400, "buyer"),
    ],
)
async def test_what_breaks_a_rule_is_refused_by_its_field(
    client: Client, services: Services, topics: Topics, change: dict[str, Any], status: int, field: str
) -> None:
    """Nothing of it reaches the log."""
    answer = await client.post(order(new_id(), **change))
    assert (answer.status, answer.json["field"]) == (status, field)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["detail"]
    assert kept(services, topics) == 0


async def test_totals_that_agree_are_taken(client: Client) -> None:
    """Also with fewer decimals."""
    totals = {"net": "39.98", "tax": "8", "gross": "47.980"}
    assert (await client.post(order(new_id(), totals=totals))).status == 202


async def test_a_body_over_a_mebibyte_is_too_large(client: Client) -> None:
    """Whether it says its size beforehand or not."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65536

    assert (await client.post(b" " * (1024 * 1024 + 1))).status == 413
    answer = await client.call("POST", "/v1/invoices", data=chunks())
    assert (answer.status, answer.json["type"]) == (413, "/problems/too-large")
    big = json.dumps(order(new_id(), lines=[line(description="é" * 170)] * 1000), ensure_ascii=False).encode()
    assert len(big) < 1024 * 1024
    assert (await client.post(big)).status == 202


async def test_the_idempotency_key_is_the_order_id(client: Client) -> None:
    """Where the body has none; two that differ are refused."""
    order_id = new_id()
    answer = await client.post(order(None), Idempotency_Key=f'"{order_id}"')
    assert (answer.status, answer.json["order_id"]) == (202, order_id)
    assert (await client.post(order("A"), Idempotency_Key="B")).status == 400
    assert (await client.post(order(None))).status == 400


@pytest.mark.parametrize("order_id", ["a/b", "ä ö", "100%", "a?b#c", "a+b&c", "日本", "x" * 64, "'; --"])
async def test_any_order_id_has_its_own_address(client: Client, order_id: str) -> None:
    """The link in the answer leads there."""
    name = f"{new_id()[-6:]}{order_id}"[:64]
    location = (await client.post(order(name))).headers["Location"]
    async with client.session.get(
        yarl.URL(client.url + location, encoded=True), headers={"Authorization": f"Bearer {client.key}"}
    ) as response:
        assert response.status == 200
        assert (await response.json())["order_id"] == name


async def test_what_can_not_be_an_order_or_a_number_is_not_found(client: Client) -> None:
    """And asks Postgres nothing that it chokes on."""
    paths = [
        "/v1/invoices/%00",
        "/v1/invoices/" + "x" * 65,
        "/v1/invoices/%00/document",
        "/v1/series/demo.invoice.p00/numbers/0",
        "/v1/series/demo.invoice.p00/numbers/-1",
        "/v1/series/demo.invoice.p00/numbers/x",
        "/v1/series/demo.invoice.p00/numbers/%C2%B2",
        "/v1/series/demo.invoice.p00/numbers/" + "9" * 30,
        "/v1/series/demo.invoice.p00/numbers/" + "0" * 4_400 + "1",
        "/v1/series/%00/numbers/1",
        "/v1/nothing",
        "/problems/nothing",
    ]
    for path in paths:
        answer = await client.get(path)
        assert (answer.status, answer.json["type"]) == (404, "/problems/not-found"), path
    answer = await client.call("DELETE", "/v1/series")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    explained = await client.get(answer.json["type"])
    assert explained.json["status"] == 405


async def test_five_hundred_clients_at_the_same_instant_all_get_their_number(client: Client, issuer: Issuer) -> None:
    """Each its own, without an error."""
    answers = await asyncio.gather(*(client.post(order(new_id()), Prefer="wait=30") for _ in range(500)))
    assert statuses(answers) == {200: 500}
    assert len({answer.json["invoice_number"] for answer in answers}) == 500


async def test_a_damaged_document_is_never_shown(client: Client, issuer: Issuer, services: Services) -> None:
    """Another content under its key is an error, and not somebody's invoice."""
    order_id = new_id()
    await client.post(order(order_id), Prefer="wait=20")
    digest = await issuer.store_document(order_id, b"right")
    assert digest == hashlib.sha256(b"right").hexdigest()
    file = next(services.objects.rglob(f"{order_id}-*.pdf"))
    file.write_bytes(b"wrong")
    answer = await client.get(f"/v1/invoices/{order_id}/document")
    assert (answer.status, answer.json["type"]) == (500, "/problems/internal")
    file.unlink()
    assert (await client.get(f"/v1/invoices/{order_id}/document")).status == 500


async def test_the_gateway_tells_what_it_counts(client: Client) -> None:
    """By route, never by order."""
    order_id = new_id()
    await client.post(order(order_id))
    await client.get(f"/v1/invoices/{order_id}")

    async def told() -> str:
        return metrics.render().decode()

    # A busy machine may have kept Redis from answering in time: for a second it is left alone then.
    text = await until(told, lambda text: "gapless_gateway_hints_available 1.0" in text)
    assert 'gapless_gateway_request_seconds_count{route="POST /v1/invoices",status="202"}' in text
    assert 'route="GET /v1/invoices/{order_id}"' in text
    assert order_id not in text


async def test_what_shops_and_accountants_send_is_accepted_and_what_breaks_a_rule_is_named(client: Client) -> None:
    for case in SHOP + EN16931:
        totals = {"net": case.net, "tax": case.tax, "gross": case.gross, "payable": case.payable or case.gross}
        asked = {**case.body, "order_id": f"CASE-{uuid4().hex[:12]}", "totals": totals}
        answer = await client.post(asked)
        assert answer.status == 202, (case.name, answer.json)
    for broken in BROKEN:
        answer = await client.post({**broken.body, "order_id": f"CASE-{uuid4().hex[:12]}"})
        assert (answer.status, answer.json["type"]) == (422, "/problems/tax-rule"), (broken.name, answer.json)
        assert answer.json["field"] == broken.field
        assert broken.rule in answer.json["detail"]


async def test_what_is_due_is_shown_beside_what_leads_to_it(client: Client, issuer: Issuer) -> None:
    """In the answer to who waits, by the event, and in every later one."""
    order_id = new_id()
    asked = order(order_id) | {"prepaid_amount": "40.00", "rounding_amount": "0.02"}
    waited = await client.post(asked, Prefer="wait=20")
    due = {"prepaid": "40.00", "rounding": "0.02", "payable": "8.00"}
    assert due.items() <= waited.json["totals"].items()
    assert (await client.get(f"/v1/invoices/{order_id}")).json["totals"] == waited.json["totals"]
    whole = await client.post(order(new_id()) | {"payment": {"due_date": "2026-12-31"}}, Prefer="wait=20")
    assert whole.json["totals"]["payable"] == whole.json["totals"]["gross"]
    assert {"prepaid", "rounding"}.isdisjoint(whole.json["totals"])


async def credit(client: Client, order_id: str, body: dict[str, Any], **headers: str) -> Answer:
    return await client.call("POST", f"/v1/invoices/{order_id}/credit-notes", headers, json=body)


async def test_an_invoice_is_credited_in_parts_until_nothing_is_left(client: Client, issuer: Issuer) -> None:
    order_id = new_id()
    await client.post(order(order_id), Prefer="wait=20")
    line = {"credit_note_id": "CR-1", "lines": [{"line": 0, "quantity": "1"}], "reason": "broken"}
    first = await credit(client, order_id, line, Prefer="wait=20")
    assert (first.status, first.json["credit_note_id"], first.json["status"]) == (200, "CR-1", "issued")
    assert first.json["totals"] == {"net": "19.99", "tax": "4.00", "gross": "23.99"}
    again = await credit(client, order_id, line, Prefer="wait=20")
    assert (again.status, again.json) == (200, first.json)
    amount = await credit(client, order_id, {"amount": "3.99"}, Idempotency_Key="CR-2", Prefer="wait=20")
    assert (amount.status, amount.json["totals"]["gross"]) == (200, "3.99")
    rest = await credit(client, order_id, {"credit_note_id": "CR-3"}, Prefer="wait=20")
    assert (rest.status, rest.json["totals"]["gross"]) == (200, "20.00")
    beyond = await credit(client, order_id, {"credit_note_id": "CR-4", "amount": "0.01"}, Prefer="wait=20")
    assert (beyond.status, beyond.json["type"]) == (409, "/problems/credit-too-large")
    shown = (await client.get(f"/v1/invoices/{order_id}/credit-notes")).json
    assert [each["credit_note_id"] for each in shown["credit_notes"]] == ["CR-1", "CR-2", "CR-3"]
    assert [(each["credit_note_id"], each["reason"]) for each in shown["rejected"]] == [("CR-4", "credit-too-large")]
    assert len({each["number"] for each in shown["credit_notes"]}) == 3


async def test_a_credit_under_a_used_id_says_so_at_once(client: Client, issuer: Issuer) -> None:
    order_id = new_id()
    await client.post(order(order_id), Prefer="wait=20")
    await credit(client, order_id, {"credit_note_id": "CR-1", "amount": "1"}, Prefer="wait=20")
    for other in ({"amount": "2"}, {"amount": "1", "reason": "why"}, {}, {"lines": [{"line": 0, "quantity": "1"}]}):
        answer = await credit(client, order_id, {"credit_note_id": "CR-1", **other})
        assert (answer.status, answer.json["type"]) == (409, "/problems/credit-conflict")
    same = await credit(client, order_id, {"credit_note_id": "CR-1", "amount": "1.00"})
    assert same.status == 200


async def test_of_two_credits_at_once_under_one_id_one_stands(client: Client, issuer: Issuer) -> None:
    order_id = new_id()
    await client.post(order(order_id), Prefer="wait=20")
    bodies = [{"credit_note_id": "CR-1", "amount": amount} for amount in ("1", "2")]
    answers = await asyncio.gather(*(credit(client, order_id, body, Prefer="wait=20") for body in bodies))
    assert sorted(answer.status for answer in answers) == [200, 409]
    shown = (await client.get(f"/v1/invoices/{order_id}/credit-notes")).json
    assert len(shown["credit_notes"]) == 1


async def test_a_credit_is_found_although_its_event_does_not_come(client: Client, issuer: Issuer) -> None:
    """Both what was made and what was refused: Postgres has them."""
    order_id = new_id()
    await client.post(order(order_id), Prefer="wait=20")
    issuer.publishes = False
    made = await credit(client, order_id, {"credit_note_id": "CR-1", "amount": "1"}, Prefer="wait=20")
    assert made.status == 200
    refused = await credit(client, order_id, {"credit_note_id": "CR-2", "amount": "1000"}, Prefer="wait=20")
    assert (refused.status, refused.json["type"]) == (409, "/problems/credit-too-large")


async def test_what_has_no_invoice_yet_is_to_be_asked_again_and_what_has_none_is_not_found(client: Client) -> None:
    """Nobody issues here."""
    order_id = new_id()
    await client.post(order(order_id))
    answer = await credit(client, order_id, {"credit_note_id": "CR-1"})
    assert (answer.status, answer.json["type"]) == (409, "/problems/not-invoiced")
    assert "Retry-After" in answer.headers
    unknown = await credit(client, new_id(), {"credit_note_id": "CR-1"})
    assert (unknown.status, unknown.json["type"]) == (404, "/problems/not-found")


async def test_a_credit_without_a_wait_is_accepted_and_found_later(client: Client, issuer: Issuer) -> None:
    order_id = new_id()
    await client.post(order(order_id), Prefer="wait=20")
    answer = await credit(client, order_id, {"credit_note_id": "CR-1"}, Prefer="wait=0")
    path = f"/v1/invoices/{order_id}/credit-notes"
    assert (answer.status, answer.headers["Location"]) == (202, path)
    assert answer.json == {
        "order_id": order_id, "credit_note_id": "CR-1", "status": "accepted", "links": {"self": path},
    }  # fmt: skip
    shown = await until(lambda: client.get(path), lambda got: got.json["credit_notes"])
    assert shown.json["credit_notes"][0]["credit_note_id"] == "CR-1"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "credit_note_id"),
        ({"credit_note_id": "cancellation"}, 422, "credit_note_id"),
        ({"credit_note_id": "A", "lines": []}, 422, "lines"),
        ({"credit_note_id": "A", "amount": ""}, 422, "amount"),
        ({"credit_note_id": "A", "amount": "-1"}, 422, "amount"),
        ({"credit_note_id": "A", "amount": "1", "lines": [{"line": 0, "quantity": "1"}]}, 422, "amount"),
        ({"credit_note_id": "A", "lines": [{"line": -1, "quantity": "1"}]}, 422, "lines[0].line"),
        ({"credit_note_id": "A", "lines": [{"line": 0, "quantity": "0"}]}, 422, "lines[0].quantity"),
        ({"credit_note_id": "A", "lines": [{"line": 0, "quantity": "1"}] * 2}, 422, "lines[1].line"),
        ({"credit_note_id": "A", "reason": "x" * 501}, 422, "reason"),
        ({"credit_note_id": "A", "lines": [{"line": 0, "quantity": 1}]}, 400, "lines[0].quantity"),
        ({"credit_note_id": "A", "price": "1"}, 400, "price"),
    ],
)
async def test_a_credit_that_cannot_be_right_is_named_by_its_field(
    client: Client, body: dict[str, Any], status: int, field: str
) -> None:
    answer = await credit(client, new_id(), body)
    assert (answer.status, answer.json.get("field")) == (status, field), answer.json
