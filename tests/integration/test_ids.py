"""Every id that is accepted can be reached: whatever it holds, and through every resource that has it in its path.

On a real gateway with real Kafka, Postgres and Valkey behind it.
"""

import json
import re
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain import document_link
from domain.checkout import check_sku
from domain.credit import check_asked_refund_id
from domain.invoice import check_order_id
from domain.tracking_link import read_tracking, tracking_keys_of
from tests.integration.gateways import KEYS, order
from tests.integration.test_fuzz_http import LINK_KEY, Target, bounded, target

__all__ = ["target"]

Query = Callable[..., list[tuple[Any, ...]]]

#: What paths, routes, templates, shells and Unicode have special meanings for.
_ODD = [
    *"{}/\\%.;:?#&=+ ~*'\"<>|^`@[]()!$,-_",
    *("%2F", "%2f", "%7B", "%25", "%00", "..", "/../", "{order_id}", "{:d}"),
    *("é", "e\u0301", "\u212b", "\u00a0", "\u200b", "\u202e", "\ufeff", "\uffff", "\U0001f600", "\ue000"),
]
_CHARACTERS = st.one_of(st.sampled_from(_ODD), st.characters(exclude_categories=["Cs", "Cc"]))
_IDS = st.lists(_CHARACTERS, min_size=1, max_size=12).map("".join)
_PLACEHOLDER = re.compile(r"{(\w+)}")
#: What a resource lacks that knows its order: the kinds of its problem.
_LACKS = ("document-not-stored", "unknown-order", "refund-id-missing", "credit-note-id-missing")


def reach(target: Target, method: str, path: str, body: Any = None, *, seller: str = "demo") -> tuple[int, Any]:
    """Status and JSON, asked for by a client that sends the path as it is."""
    where = urlsplit(target.url)
    connection = HTTPConnection(where.hostname or "", where.port or 0, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {KEYS[seller]}", "Prefer": "wait=0"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.getheader("Content-Type") == "text/event-stream":
            # It does not end by itself.
            return answer.status, json.loads(next(line[5:] for line in answer if line.startswith(b"data:")))
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_every_accepted_id_can_be_reached_through_every_resource(target: Target, query: Query) -> None:
    templates = [
        (method.upper(), path)
        for path, methods in target.contract.document["paths"].items()
        for method in methods
        # Not a review, which is of an order that was delivered, nor a cart's line, which is of a product.
        if set() < set(_PLACEHOLDER.findall(path)) <= {"order_id", "refund_id", "sku"}
    ]
    assert len(templates) >= 10

    order_ids = _IDS.filter(lambda text: check_order_id(text) is None)

    @bounded(60)
    @given(
        ids=st.tuples(order_ids, order_ids).filter(lambda two: two[0] != two[1]),
        sku=_IDS.filter(lambda text: check_sku(text) is None),
        refund_id=_IDS.filter(lambda text: check_asked_refund_id(text) is None),
    )
    @example(ids=("{", "}"), sku="}", refund_id="{}")
    @example(ids=("{order_id}", "a{b}c"), sku="a{b}c", refund_id="R{1}")
    @example(ids=(" A ", " "), sku=" S ", refund_id=" R ")
    @example(ids=("%2F", "/"), sku="/", refund_id="..%2F..")
    def holds(ids: tuple[str, str], sku: str, refund_id: str) -> None:
        path = f"/v1/stock/{quote(sku, safe='')}"
        assert reach(target, "PUT", path, {"on_hand": 10**6})[1]["sku"] == sku
        bought, invoiced = ids
        query("DELETE FROM invoices")
        _insert_credit_note(query, invoiced, refund_id)
        customer = {"customer": "C-1", "payment_token": "tok_ok"}
        # Another seller's invoices: of one, an id is either a checkout's or an invoice's, in whichever example.
        for seller, path, sent in (
            ("demo", "/v1/checkouts", order(bought, **customer)),
            ("other", "/v1/invoices", order(invoiced)),
        ):
            status, accepted = reach(target, "POST", path, sent, seller=seller)
            assert (status, accepted.get("order_id")) == (202, sent["order_id"]), accepted
            # The link that it shows leads there, also for a client that tidies URLs up.
            shown = target.call("GET", accepted["links"]["self"], Authorization=f"Bearer {KEYS[seller]}")
            assert (shown.status_code, shown.json()["order_id"]) == (200, sent["order_id"])
        for method, template in templates:
            seller, order_id = ("other", invoiced) if template.startswith("/v1/invoices") else ("demo", bought)
            named = {"order_id": order_id, "sku": sku, "refund_id": refund_id}
            path = _PLACEHOLDER.sub(lambda match, named=named: quote(named[match.group(1)], safe=""), template)  # type: ignore[misc]
            status, answer = reach(target, method, path, {"on_hand": 10**6} if method == "PUT" else None, seller=seller)
            if template.endswith("/document-link") and status == 201:
                link = document_link.read(answer["url"].rpartition("/")[2], document_link.keys_of(LINK_KEY))
                assert link is not None
                assert (link.seller_id, link.order_id) == (seller, order_id), path
                assert link.refund_id == (refund_id if "refund_id" in template else ""), path
            elif template.endswith("/tracking-link"):
                page = read_tracking(answer["url"].rpartition("/")[2], tracking_keys_of(LINK_KEY))
                assert page is not None
                assert (status, page.seller_id, page.order_id) == (201, seller, order_id), path
            elif status < 300:
                [name] = [name for name in ("order_id", "sku") if name in answer]
                assert answer[name] == named[name], path
            else:
                # Each of these knows the thing, and says what it lacks.
                kind = answer["type"].removeprefix("/problems/")
                assert kind in _LACKS, (path, answer)
                assert kind != "unknown-order" or answer["detail"] == "this order is not placed yet"

    holds()
    target.lives()


def _insert_credit_note(query: Query, order_id: str, refund_id: str) -> None:
    query(
        "INSERT INTO invoices (series_id, number, seller_id, order_id, kind, refund_id, invoice_number, issued_at,"
        " currency, net_minor, tax_minor, gross_minor, content_sha256, source_partition, source_offset, event_seq)"
        " VALUES ('other.credit_note.p00', 1, 'other', %s, 'credit_note', %s, 'X', now(), 'EUR', 0, 0, 0, '', 0, 0, 1)",
        order_id,
        refund_id,
    )


@pytest.mark.parametrize("text", [".", ".."])
def test_an_id_that_clients_take_out_of_a_url_is_refused(target: Target, text: str) -> None:
    """By its field: as an order's id, a SKU or a refund's id."""
    body = {**order(text), "customer": "C-1", "payment_token": "tok_ok"}
    sold = {**order("A-1"), "customer": "C-1", "payment_token": "tok_ok"}
    sold["lines"][0]["sku"] = text
    for path, sent, field in (
        ("/v1/checkouts", body, "order_id"),
        ("/v1/invoices", order(text), "order_id"),
        ("/v1/checkouts", sold, "lines[0].sku"),
        ("/v1/orders/A-1/refunds", {"refund_id": text}, "refund_id"),
    ):
        status, problem = reach(target, "POST", path, sent)
        assert (status, problem["type"], problem["field"]) == (422, "/problems/invalid-field", field)
    status, problem = reach(target, "PUT", f"/v1/stock/{quote(text).replace('.', '%2E')}", {"on_hand": 1})
    assert (status, problem.get("field")) == (422, "sku")


def test_ids_are_told_apart_by_every_character(target: Target) -> None:
    """Nothing is trimmed, folded or composed: what looks alike is another order, and each shows as it was given."""
    alike = ["Café", "Cafe\u0301", "café", " Café", "Café ", "Ｃafé"]
    for number, order_id in enumerate(alike):
        # Were two of them one, the second would be a conflict.
        status, accepted = reach(target, "POST", "/v1/invoices", order(order_id, note=str(number)))
        assert (status, accepted["order_id"]) == (202, order_id)
        status, shown = reach(target, "GET", f"/v1/invoices/{quote(order_id, safe='')}")
        assert (status, shown["order_id"]) == (200, order_id)
