"""The whole way, once, as a storefront sees it."""

import hashlib
import random

from producers.generate import body
from tests.e2e.running import Running


async def test_an_order_becomes_a_number_a_document_and_a_clean_audit(running: Running) -> None:
    request = body("WAY-1", random.Random(1))
    async with running.client() as client:
        answer = await client.post_invoice(request, wait_s=30)
        assert answer.status == 200, answer.payload
        issued = answer.json()
        assert issued["order_id"] == "WAY-1"
        assert issued["invoice_number"]
        again = await client.post_invoice(request, wait_s=30)
        assert (again.status, again.json()["invoice_number"]) == (200, issued["invoice_number"])
        running.wait_until_drained()
        stored = (await client.get_invoice("WAY-1")).json()
        assert (stored["status"], stored["number"]) == ("stored", issued["number"])
        document = await client.get_document("WAY-1")
    assert document.payload.startswith(b"%PDF")
    assert hashlib.sha256(document.payload).hexdigest() == stored["document"]["sha256"]
    report = running.assert_clean()
    assert report.outcomes["issued"] >= 1
    assert report.counts["documents"] >= 1
