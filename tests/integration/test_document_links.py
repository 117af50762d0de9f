"""Links to documents: made by the seller, followed by anybody who has one, until they expire or their key is gone."""

import time
from collections.abc import AsyncIterator

import pytest

from domain.document_link import DocumentLink, keys_of, sign
from tests.conftest import Services
from tests.integration.gateways import KEYS, Client, Topics, order, running
from tests.integration.hooks_world import Query
from tests.integration.issuer import Issuer
from tests.integration.test_gateway import new_id

KEY = "a" * 32
PUBLIC = "https://shop.example/bills/"


@pytest.fixture
async def client(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Client]:
    """A client of the seller `demo`."""
    async with running(services, ledger, topics, link_keys=KEY, public_url=PUBLIC) as made:
        yield made


@pytest.fixture
async def stored(client: Client, services: Services, ledger: str, topics: Topics) -> AsyncIterator[str]:
    """The id of an order whose document is stored."""
    async with Issuer(services, ledger, topics) as issuer:
        order_id = new_id()
        await client.post(order(order_id), Prefer="wait=20")
        await issuer.store_document(order_id, b"%PDF of it")
        yield order_id


async def test_anybody_with_the_link_reads_the_document(client: Client, stored: str) -> None:
    made = await client.call("POST", f"/v1/invoices/{stored}/document-link")
    assert made.status == 201
    assert made.json["url"].startswith(f"{PUBLIC}d/")
    path = made.json["url"].removeprefix(PUBLIC.rstrip("/"))
    anybody = client.as_(None)
    found = await anybody.get(path)
    assert (found.status, found.body, found.headers["Content-Type"]) == (200, b"%PDF of it", "application/pdf")
    left = int(found.headers["Cache-Control"].removeprefix("public, max-age=").removesuffix(", immutable"))
    assert 0 < left <= 7 * 86_400
    again = await anybody.get(path, If_None_Match=found.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


async def test_its_time_is_the_callers_to_choose_within_bounds(client: Client, stored: str) -> None:
    path = f"/v1/invoices/{stored}/document-link"
    made = await client.call("POST", path, json={"expires_in": 60})
    assert made.status == 201
    for wrong in (59, 366 * 86_400 + 1, 0, -1):
        refused = await client.call("POST", path, json={"expires_in": wrong})
        assert (refused.status, refused.json["field"]) == (422, "expires_in")
    assert (await client.call("POST", path, json={"expires": 60})).status == 400


async def test_an_expired_link_says_so_to_programs_and_to_people(client: Client, stored: str) -> None:
    (key,) = keys_of(KEY)
    token = sign(DocumentLink("demo", stored, "", int(time.time()) - 1), key)
    told = await client.as_(None).get(f"/d/{token}")
    assert (told.status, told.json["type"]) == (410, "/problems/link-expired")
    async with client.session.get(f"{client.url}/d/{token}", headers={"Accept": "text/html,*/*"}) as page:
        assert (page.status, page.content_type) == (410, "text/html")
        assert "The link has expired" in await page.text()
        assert page.headers["Content-Security-Policy"] == "default-src 'none'"


async def test_a_forged_or_foreign_link_leads_nowhere(client: Client, stored: str) -> None:
    (foreign,) = keys_of("b" * 32)
    token = sign(DocumentLink("demo", stored, "", int(time.time()) + 60), foreign)
    for path in (f"/d/{token}", "/d/x", "/d/%00", "/d/" + "A" * 2_000):
        assert (await client.as_(None).get(path)).status == 404


async def test_a_link_is_only_made_for_ones_own_documents(client: Client, stored: str) -> None:
    path = f"/v1/invoices/{stored}/document-link"
    assert (await client.as_(KEYS["other"]).call("POST", path)).status == 404
    assert (await client.as_(None).call("POST", path)).status == 401
    assert (await client.call("POST", "/v1/invoices/none/document-link")).status == 404
    assert (await client.call("POST", f"/v1/invoices/{stored}/credit-notes/R-1/document-link")).status == 404


async def test_links_of_a_key_that_was_replaced_work_until_it_is_taken_out(
    client: Client, stored: str, services: Services, ledger: str, topics: Topics
) -> None:
    made = await client.call("POST", f"/v1/invoices/{stored}/document-link")
    path = made.json["url"].removeprefix(PUBLIC.rstrip("/"))
    async with running(services, ledger, topics, link_keys=f"{'c' * 32},{KEY}") as rotated:
        assert (await rotated.as_(None).get(path)).status == 200
        # Without a public URL, a link leads where the request for it went.
        fresh = await rotated.call("POST", f"/v1/invoices/{stored}/document-link")
        assert fresh.json["url"].startswith(f"{rotated.url}/d/")
    async with running(services, ledger, topics, link_keys="c" * 32) as without:
        assert (await without.as_(None).get(path)).status == 404
    async with running(services, ledger, topics) as none:
        refused = await none.call("POST", f"/v1/invoices/{stored}/document-link")
        assert (refused.status, "no keys" in refused.json["detail"]) == (404, True)


async def test_a_document_that_is_not_stored_yet_is_told_so(
    client: Client, services: Services, ledger: str, topics: Topics
) -> None:
    async with Issuer(services, ledger, topics):
        order_id = new_id()
        await client.post(order(order_id), Prefer="wait=20")
        made = await client.call("POST", f"/v1/invoices/{order_id}/document-link")
        found = await client.as_(None).get(made.json["url"].removeprefix(PUBLIC.rstrip("/")))
        assert (found.status, found.json["type"]) == (404, "/problems/document-not-stored")


async def test_a_credit_note_that_was_asked_for_and_is_not_issued_is_told_so(
    client: Client, services: Services, ledger: str, topics: Topics
) -> None:
    order_id = new_id()
    notes = f"/v1/invoices/{order_id}/credit-notes"
    async with Issuer(services, ledger, topics):
        await client.post(order(order_id), Prefer="wait=20")
        refused = await client.call("POST", notes, json={"credit_note_id": "LARGE", "amount": "1000000.00"})
        assert refused.json["type"] == "/problems/credit-too-large"
    # Nobody issues any more.
    asked = await client.call("POST", notes, {"Prefer": "wait=0"}, json={"credit_note_id": "ASKED"})
    assert asked.status == 202
    for credit_note_id, told in (("ASKED", "document-not-stored"), ("LARGE", "not-found"), ("NEVER", "not-found")):
        found = await client.get(f"{notes}/{credit_note_id}/document")
        linked = await client.call("POST", f"{notes}/{credit_note_id}/document-link")
        assert found.json["type"] == linked.json["type"] == f"/problems/{told}", credit_note_id
    assert (await client.as_(KEYS["other"]).get(f"{notes}/ASKED/document")).json["type"] == "/problems/not-found"


@pytest.mark.parametrize(
    ("state", "told"), [("requested", "document-not-stored"), ("done", "document-not-stored"), ("failed", "not-found")]
)
async def test_so_is_the_credit_note_of_a_refund_unless_the_refund_failed(
    client: Client, query: Query, state: str, told: str
) -> None:
    order_id = new_id()
    query(
        "INSERT INTO orders (seller_id, order_id, partition, customer, state, version, history, currency, net_minor,"
        " tax_minor, gross_minor, content_sha256, payment_token, invoice_request, hold_expires_at, placed_at,"
        " source_offset) VALUES ('demo', %s, 0, 'C', 'SHIPPED', 4, '[]', 'EUR', 1, 0, 1, '', '', '', now(), now(), 0)",
        order_id,
    )
    query(
        "INSERT INTO refunds (seller_id, order_id, refund_id, lines, amount_minor, state, reason, credit_note_request,"
        " requested_at) VALUES ('demo', %s, 'R-1', '[]', 100, %s, '', '', now())",
        order_id,
        state,
    )
    path = f"/v1/invoices/{order_id}/credit-notes"
    assert (await client.get(f"{path}/R-1/document")).json["type"] == f"/problems/{told}"
    for other in ("R-2", "%00", "x" * 41):
        assert (await client.get(f"{path}/{other}/document")).json["type"] == "/problems/not-found"
