"""The whole way, once, as a storefront sees it."""

import hashlib
import json
import random
from pathlib import Path

from producers.generate import bodies, body
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
    shown = await running.gapless("order", "WAY-1", "--json")
    assert shown.code == 0, shown.error
    [order] = json.loads(shown.output)["orders"]
    assert (order["state"], order["numbers"], order["outstanding"]) == ("stored", [issued["invoice_number"]], [])
    assert [step["by"] for step in order["steps"] if step["at"]][:3] == ["kafka", "invoices", "documents"]
    assert document.payload.startswith(b"%PDF")
    assert hashlib.sha256(document.payload).hexdigest() == stored["document"]["sha256"]
    report = running.assert_clean()
    assert report.outcomes["issued"] >= 1
    assert report.counts["documents"] >= 1


async def test_another_content_under_the_same_id_is_a_conflict_that_the_caller_sees(running: Running) -> None:
    request = body("WAY-2", random.Random(2))
    async with running.client() as client:
        first = (await client.post_invoice(request, wait_s=30)).json()
        other = await client.post_invoice({**request, "note": "something else"}, wait_s=30)
        assert other.status == 409, other.payload
        running.wait_until_drained()
        shown = (await client.get_invoice("WAY-2")).json()
    assert (shown["number"], shown["invoice_number"]) == (first["number"], first["invoice_number"])
    running.assert_clean()


async def test_gapless_load_and_audit_work_on_a_running_stack(running: Running, tmp_path: Path) -> None:
    """The two commands a newcomer tries after `gapless up`."""
    orders = tmp_path / "orders.jsonl"
    orders.write_text("".join(json.dumps(each) + "\n" for each in bodies(90, seed=9, prefix="CLI")))
    load = await running.gapless("load", str(orders), "--repeat", "0.1", "--json")
    assert load.code == 0, load.error
    assert json.loads(load.output)["statuses"] == {"202": 100}
    running.wait_until_drained()
    audit = await running.gapless("audit", "--complete", "--json")
    assert audit.code == 0, audit.error
    told = json.loads(audit.output)
    assert told["clean"] is True
    assert told["outcomes"]["repeat"] >= 10
