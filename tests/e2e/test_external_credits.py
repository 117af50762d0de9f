"""A credit note of an invoice that was issued elsewhere, on the real stack: one request, one number, one document."""

import asyncio
import io
import time
from typing import Any

import aiohttp
from pypdf import PdfReader

from tests.e2e.running import Running

_STEP_S_MAX = 60.0
BODY: dict[str, Any] = {
    "order_id": "OLD-17",
    "credit_note_id": "CR-1",
    "reason": "one was cold",
    "preceding_invoices": [{"number": "2025-00417", "issue_date": "2025-12-01"}],
    "currency": "EUR",
    "language": "en",
    "buyer": {
        "name": "Muster GmbH",
        "address": {"street": "Hauptstr. 1", "city": "Berlin", "postal_code": "10115", "country": "DE"},
    },
    "lines": [
        {
            "sku": "S-2",
            "description": "Coffee",
            "quantity": "1",
            "unit_price": "19.99",
            "vat_rate": "20.00",
            "vat_category": "S",
        }
    ],
}


async def test_it_has_a_number_and_a_document_and_an_order_id_of_its_own(running: Running) -> None:
    headers = {"Authorization": f"Bearer {running.api_key}"}
    async with aiohttp.ClientSession(running.url, headers=headers) as session:

        async def post(path: str, **changes: Any) -> tuple[int, dict[str, Any]]:
            body = {name: value for name, value in {**BODY, **changes}.items() if value is not None}
            async with session.post(path, json=body) as response:
                return response.status, await response.json()

        status, note = await post("/v1/credit-notes", totals={"net": "19.99", "gross": "23.99"})
        assert (status, note["totals"]["gross"], note["credit_note_id"]) == (200, "23.99", "CR-1"), note
        assert note["invoice_number"].startswith("CN-")
        # Again, with what does not count: the same, whatever became of it meanwhile.
        status, again = await post("/v1/credit-notes")
        assert (status, again["invoice_number"]) == (200, note["invoice_number"])
        status, other = await post("/v1/credit-notes", credit_note_id="CR-2")
        assert (status, other["number"]) == (200, note["number"] + 1)
        for changes, expected in (
            ({"reason": "another"}, (409, "credit-conflict", "credit_note_id")),
            ({"preceding_invoices": None}, (422, "invalid-field", "preceding_invoices")),
            ({"preceding_invoices": [{"number": "1"}]}, (422, "invalid-field", "preceding_invoices[0].issue_date")),
            ({"credit_note_id": "CR-9", "totals": {"gross": "24.00"}}, (422, "totals-disagree", "totals.gross")),
            ({"credit_note_id": "cancellation"}, (422, "invalid-field", "credit_note_id")),
            ({"credit_note_id": None}, (400, "credit-note-id-missing", "credit_note_id")),
            ({"prepaid_amount": "1.00"}, (422, "invalid-field", "prepaid_amount")),
        ):
            status, problem = await post("/v1/credit-notes", **changes)
            assert (status, problem["type"].rpartition("/")[2], problem.get("field")) == expected, problem

        async def invoice(order_id: str) -> tuple[int, dict[str, Any]]:
            unsaid = dict.fromkeys(("credit_note_id", "reason", "preceding_invoices"))
            async with session.post(
                "/v1/invoices",
                json={name: value for name, value in BODY.items() if name not in unsaid} | {"order_id": order_id},
                headers={"Prefer": "wait=30"},
            ) as response:
                return response.status, await response.json()

        status, problem = await invoice("OLD-17")
        assert (status, problem["type"].rpartition("/")[2]) == (409, "already-invoiced"), problem
        status, _ = await invoice("NEW-17")
        assert status == 200
        status, problem = await post("/v1/credit-notes", order_id="NEW-17")
        assert (status, problem["type"].rpartition("/")[2]) == (409, "already-invoiced"), problem
        async with session.get("/v1/invoices/OLD-17/credit-notes") as response:
            listed = await response.json()
        assert [each["credit_note_id"] for each in listed["credit_notes"]] == ["CR-1", "CR-2"]
        text = _text(await _document(session, "/v1/invoices/OLD-17/credit-notes/CR-1/document"))
        # Once: under the title.
        assert (text.count("2025-00417"), "one was cold" in text, note["invoice_number"] in text) == (1, True, True)
    shown = await running.gapless("order", "OLD-17")
    assert (shown.code, note["invoice_number"] in shown.output) == (0, True), shown
    assert "nothing is outstanding" in shown.output
    await asyncio.to_thread(running.assert_clean)


async def _document(session: aiohttp.ClientSession, path: str) -> bytes:
    give_up_at = time.monotonic() + _STEP_S_MAX
    while True:
        async with session.get(path) as response:
            if response.status == 200:
                return await response.read()
            assert time.monotonic() < give_up_at, await response.text()
        await asyncio.sleep(0.1)


def _text(document: bytes) -> str:
    return " ".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)
