"""Reviews over HTTP: of what was delivered, shown once approved, and counted with the journal's word for it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from audit.events import JournalEntry
from audit.report import AuditReport
from audit.reviews import ReviewCheck
from audit.snapshot import Snapshot
from domain.review import ReviewTrigger, Words
from schemas import catalog, codec
from schemas.placement import partition_of
from sinks.postgres.reviews import Review, ReviewChange, Reviews
from tests.conftest import PARTITIONS, Services
from tests.integration.gateways import KEYS, Answer, Client, Topics, link_to, running, through
from tests.integration.hooks_world import Query
from tests.integration.test_gateway import new_id

DELIVERED = ("PLACED", "PAYMENT_PENDING", "CONFIRMED", "SHIPPED", "DELIVERED")
GOOD = {"stars": 5, "title": "Good", "body": "Very\ngood.", "author": "Zoë"}


def deliver(query: Query, order_id: str, *skus: str, states: tuple[str, ...] = DELIVERED, seller: str = "demo") -> None:
    """An order of a line for each SKU; an empty one is of no article."""
    history = [
        {"version": number, "from": None, "to": each, "reason": "", "detail": "", "at": 0}
        for number, each in enumerate(states, 1)
    ]
    query(
        "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency, net_minor,"
        " tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at, placed_at,"
        " source_offset) VALUES (%s, %s, 0, 'C-1', %s, 5, %s, 'EUR', 0, 0, 0, '', '', '', now(), now(), 0)",
        seller, order_id, states[-1], msgspec.json.encode(history).decode(),
    )  # fmt: skip
    for line, sku in enumerate(skus):
        query("INSERT INTO order_lines VALUES (%s, %s, %s, %s, 1)", seller, order_id, line, sku)


def path(order_id: str, line: int | str = 0) -> str:
    """Of a line's review."""
    return f"/v1/orders/{order_id}/lines/{line}/review"


async def write(client: Client, order_id: str, line: int = 0, headers: Any = None, **changes: Any) -> Answer:
    """A good review, but for the changes."""
    return await client.call("PUT", path(order_id, line), headers, json={**GOOD, **changes})


async def moderate(client: Client, order_id: str, action: str, version: int, line: int = 0, **more: Any) -> Answer:
    """Approve or reject it."""
    body = {"action": action, "version": version, **more}
    return await client.call("POST", f"{path(order_id, line)}/moderation", json=body)


async def rating(client: Client, sku: str) -> tuple[int, str | None]:
    """Count and average."""
    shown = (await client.get(f"/v1/ratings/{sku}")).json
    assert shown["count"] == sum(shown["stars"].values())
    return shown["count"], shown["average"]


def events(query: Query) -> list[dict[str, Any]]:
    """What the journal has, in its order."""
    rows = query("SELECT partition, key, payload FROM journal WHERE topic = 'review-events' ORDER BY partition, seq")
    found = []
    for partition, key, payload in rows:
        _, event = codec.decode(payload, catalog.REVIEW_CHANGED, bytes_max=catalog.REVIEW_EVENTS.value_bytes_max)
        assert key == event["sku"].encode()
        assert partition == partition_of(key, PARTITIONS)
        found.append(dict(event))
    return found


async def test_a_review_is_written_approved_changed_and_withdrawn(client: Client, query: Query) -> None:
    order_id = new_id()
    deliver(query, order_id, "S-1")
    made = await write(client, order_id)
    assert (made.status, made.headers["ETag"]) == (200, '"1"')
    assert {name: made.json[name] for name in ("state", "version", "sku", *GOOD)} == {
        "state": "pending", "version": 1, "sku": "S-1", **GOOD
    }  # fmt: skip
    assert await rating(client, "S-1") == (0, None)
    approved = await moderate(client, order_id, "approve", 1)
    assert (approved.json["state"], approved.json["version"]) == ("published", 2)
    assert await rating(client, "S-1") == (1, "5.00")
    # Whoever changes it has it approved again.
    changed = await write(client, order_id, stars=2)
    assert (changed.json["state"], changed.json["version"]) == ("pending", 3)
    assert await rating(client, "S-1") == (0, None)
    await moderate(client, order_id, "approve", 3)
    assert await rating(client, "S-1") == (1, "2.00")
    rejected = await moderate(client, order_id, "reject", 4, reason="an advertisement")
    assert (rejected.json["state"], rejected.json["reason"]) == ("rejected", "an advertisement")
    assert await rating(client, "S-1") == (0, None)
    withdrawn = await client.call("DELETE", path(order_id))
    assert {name: withdrawn.json[name] for name in ("state", "stars", "title", "body", "author")} == {
        "state": "withdrawn", "stars": 0, "title": "", "body": "", "author": ""
    }  # fmt: skip
    assert (await client.get(path(order_id))).json == withdrawn.json
    said = [(each["version"], each["state"], each["stars"], each["rating"]["version"]) for each in events(query)]
    assert said == [
        (1, "pending", 5, 1), (2, "published", 5, 2), (3, "pending", 2, 3), (4, "published", 2, 4),
        (5, "rejected", 2, 5), (6, "withdrawn", 0, 6),
    ]  # fmt: skip
    counted = [each["rating"] for each in events(query)]
    assert [(each["five"], each["two"]) for each in counted] == [(0, 0), (1, 0), (0, 0), (0, 1), (0, 0), (0, 0)]


async def test_what_was_done_before_is_no_change(client: Client, query: Query) -> None:
    order_id = new_id()
    deliver(query, order_id, "S-1")
    first = await write(client, order_id)
    assert (await write(client, order_id)).json == first.json
    approved = await moderate(client, order_id, "approve", 1)
    assert (await moderate(client, order_id, "approve", 2)).json == approved.json
    assert (await write(client, order_id)).json == approved.json
    await client.call("DELETE", path(order_id))
    await client.call("DELETE", path(order_id))
    assert [each["state"] for each in events(query)] == ["pending", "published", "withdrawn"]


@pytest.mark.parametrize("reached", range(1, len(DELIVERED)))
async def test_nothing_is_reviewed_before_it_is_delivered(client: Client, query: Query, reached: int) -> None:
    order_id = new_id()
    deliver(query, order_id, "S-1", states=DELIVERED[:reached])
    refused = await write(client, order_id)
    assert (refused.status, refused.json["type"]) == (409, "/problems/not-permitted")
    assert query("SELECT count(*) FROM reviews") == [(0,)]
    assert events(query) == []


async def test_what_was_delivered_and_refunded_may_be_reviewed(client: Client, query: Query) -> None:
    order_id = new_id()
    deliver(query, order_id, "S-1", states=(*DELIVERED, "REFUNDED"))
    assert (await write(client, order_id)).status == 200


async def test_only_lines_of_articles_of_ones_own_customers_are_reviewed(client: Client, query: Query) -> None:
    order_id = new_id()
    deliver(query, order_id, "S-1", "")
    assert (await write(client, order_id, customer="C-1")).status == 200
    for answer, kind in (
        (await write(client, order_id, customer="C-2"), "not-found"),
        (await write(client, order_id, 1), "not-found"),
        (await write(client, order_id, 2), "not-found"),
        (await write(client, "never"), "unknown-order"),
        (await write(client.as_(KEYS["other"]), order_id), "unknown-order"),
        (await client.as_(KEYS["other"]).get(path(order_id)), "not-found"),
        (await moderate(client.as_(KEYS["other"]), order_id, "approve", 1), "unknown-order"),
        (await client.get(path(order_id, 1)), "not-found"),
        (await client.get(path(order_id, "x")), "not-found"),
    ):
        assert (answer.status, answer.json["type"]) == (404, f"/problems/{kind}")
    never = new_id()
    deliver(query, never, "S-1")
    assert (await moderate(client, never, "approve", 1)).json["type"] == "/problems/not-found"
    assert (await client.call("DELETE", path(never))).json["type"] == "/problems/not-found"


@pytest.mark.parametrize(
    ("change", "field"), [({"stars": 6}, "stars"), ({"title": "a\nb"}, "title"), ({"body": "\u0000"}, "body")]
)
async def test_a_field_that_breaks_a_rule_is_named(
    client: Client, query: Query, change: dict[str, Any], field: str
) -> None:
    order_id = new_id()
    deliver(query, order_id, "S-1")
    refused = await write(client, order_id, **change)
    assert (refused.status, refused.json["field"]) == (422, field)


async def test_whoever_decides_on_other_words_than_they_read_is_told(client: Client, query: Query) -> None:
    order_id = new_id()
    deliver(query, order_id, "S-1")
    await write(client, order_id)
    await write(client, order_id, body="Visit evil.example")
    stale = await moderate(client, order_id, "approve", 1)
    assert (stale.status, stale.json["version"]) == (412, 2)
    assert (await write(client, order_id, headers={"If-Match": '"1"'}, stars=1)).status == 412
    assert (await write(client, order_id, headers={"If-None-Match": "*"}, stars=1)).status == 412
    assert (await write(client, order_id, headers={"If-Match": '"2"'}, stars=1)).status == 200
    other = new_id()
    deliver(query, other, "S-1")
    assert (await write(client, other, headers={"If-Match": '"1"'})).status == 412


async def test_reviews_are_listed_newest_first_page_by_page(client: Client, query: Query) -> None:
    for number in range(5):
        deliver(query, f"A-{number}", "S-1", "S-2")
        for line in (0, 1):
            await write(client, f"A-{number}", line)
            if number != 3:
                await moderate(client, f"A-{number}", "approve", 1, line)
    found: list[tuple[str, int]] = []
    cursor = ""
    while True:
        page = (await client.get(f"/v1/reviews?sku=S-1&limit=3{cursor}")).json
        found += [(each["order_id"], each["line"]) for each in page["reviews"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == [("A-4", 0), ("A-2", 0), ("A-1", 0), ("A-0", 0)]
    pending = (await client.get("/v1/reviews?state=pending")).json["reviews"]
    assert [(each["order_id"], each["line"]) for each in pending] == [("A-3", 1), ("A-3", 0)]
    assert (await client.as_(KEYS["other"]).get("/v1/reviews")).json == {"reviews": [], "next": None}
    for wrong in ("state=good", "cursor=x", "sku=", "limit=0"):
        assert (await client.get(f"/v1/reviews?{wrong}")).status == 422, wrong


async def test_ratings_are_right_whoever_writes_at_the_same_time(ledger: str, query: Query) -> None:
    """Several gateways, one article: each review counts once."""
    gateways = [Reviews(ledger) for _ in range(4)]
    for number in range(20):
        deliver(query, f"A-{number}", "S-1")

    async def act(number: int, reviews: Reviews) -> None:
        for trigger in (ReviewTrigger.WRITE, ReviewTrigger.APPROVE, ReviewTrigger.WRITE, ReviewTrigger.APPROVE):
            words = Words(1 + (number + (trigger is ReviewTrigger.WRITE)) % 5, str(trigger), "", "")
            change = ReviewChange("demo", f"A-{number}", 0, trigger, words)
            done = await reviews.change(change, PARTITIONS, datetime.now(UTC), lambda _: True)
            assert isinstance(done, Review), done

    async def work(reviews: Reviews, numbers: range) -> None:
        for number in numbers:
            await act(number, reviews)

    # Each order by two of them.
    await asyncio.gather(*(work(each, range(place % 2, 20, 2)) for place, each in enumerate(gateways)))
    stars = "count(*) FILTER (WHERE stars = {0} AND state = 'published')"
    [counted] = query(f"SELECT {', '.join(stars.format(each) for each in range(1, 6))} FROM reviews")
    [(version, *rated)] = query("SELECT version, one, two, three, four, five FROM ratings")
    assert (list(counted), sum(rated)) == (rated, 20)
    said = events(query)
    assert [each["rating"]["version"] for each in said] == list(range(1, version + 1))
    last = said[-1]["rating"]
    assert [last[name] for name in ("one", "two", "three", "four", "five")] == rated
    for each in gateways:
        await each.close()


DAMAGE = {
    "nothing": ("SELECT", ""),
    "a rating": ("UPDATE ratings SET five = five + 1", "says [0, 0, 0, 0, 2], but the reviews are [0, 0, 0, 0, 1]"),
    "no rating": ("DELETE FROM ratings", "says [0, 0, 0, 0, 0], but the reviews are [0, 0, 0, 0, 1]"),
    "words": ("UPDATE reviews SET body = 'Bad.'", "has another body than its event"),
    "a state": ("UPDATE reviews SET state = 'pending'", "has another state than its event"),
    "an older version": ("UPDATE reviews SET version = 1", "is at version 1, and an event says 2"),
    "no review": ("DELETE FROM reviews", "is at version 0, and an event says 2"),
    "a review without an event": ("UPDATE reviews SET version = 3", "3 versions, but 2 events that agree"),
    "a lost event": ("DELETE FROM journal WHERE seq = 1", "goes from version 0 to 2"),
    "another key": ("UPDATE journal SET key = 'S-2'", "its key is not its SKU"),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_the_audit_compares_reviews_events_and_ratings(
    client: Client, ledger: str, query: Query, damage: str
) -> None:
    order_id = new_id()
    deliver(query, order_id, "S-1")
    await write(client, order_id)
    await moderate(client, order_id, "approve", 1)
    statement, told = DAMAGE[damage]
    query(statement)
    report, snapshot = AuditReport(), Snapshot(ledger)
    check = ReviewCheck(snapshot, report, is_from_the_start=True)
    rows = query("SELECT seq, key, payload, occurred_at FROM journal ORDER BY seq")
    check.take("review-events", 0, [JournalEntry(*row) for row in rows])
    check.finish()
    snapshot.close()
    whole = "\n".join(f"{each.where} {each.what}" for each in report.shown())
    assert (told in whole, report.clean) == (True, damage == "nothing"), whole


async def test_without_postgres_the_answer_is_503(services: Services, ledger: str, topics: Topics) -> None:
    link = await link_to(ledger)
    async with running(services, through(link, ledger), topics) as client:
        await link.cut()
        for answer in (
            await client.get(path("A-1")), await client.get("/v1/reviews"), await client.get("/v1/ratings/S-1"),
            await write(client, "A-1"),
        ):  # fmt: skip
            assert (answer.status, answer.json["type"]) == (503, "/problems/unavailable")
