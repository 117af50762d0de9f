"""Commands as they come over HTTP."""

import msgspec
import pytest

from domain.order import Trigger
from gateway.http.problems import ProblemError
from gateway.orders.commands import read
from schemas import catalog
from streams.engine.batch import Batch
from streams.orders import OrdersWork
from tests.integration.test_invoices_work import NOW, Sent
from tests.records import written

REASONS = ["", "it broke", "Zoë: 100 %", "x" * 500, "x" * 501, " ", "two\nlines", "a\tb", "a\rb", "nul\0", "\x85"]


@pytest.mark.parametrize("reason", REASONS)
async def test_a_reason_is_taken_only_if_the_agent_can_take_it(reason: str) -> None:
    """It was kept and never answered where the two had rules of their own."""
    body = msgspec.json.encode({"reason": reason})
    record = {"received_at": 0, "seller_id": "demo", "order_id": "A", "command_id": "cancel", "action": "cancel"}
    payload = written(catalog.ORDER_COMMAND, {**record, "reason": reason, "refund_id": "", "lines": []})
    batch = Batch(catalog.ORDER_COMMANDS.name, 0, [Sent(0, payload)])
    agent_takes = not (await OrdersWork(lambda: NOW).prepare(batch)).dead
    try:
        gateway_takes = read("demo", "A", Trigger.CANCEL, body, None).reason == reason
    except ProblemError as problem:
        assert (problem.kind.status, problem.field) == (422, "reason")
        gateway_takes = False
    assert gateway_takes is agent_takes


PARCELS = [
    ({"carrier": "DHL", "tracking_number": "00 340", "tracking_url": "https://dhl.example/t?n=1"}, None),
    ({"carrier": "Poczta Polska"}, None),
    ({"tracking_number": "x" * 60}, None),
    ({}, "parcel"),
    ({"tracking_url": "https://dhl.example"}, "parcel"),
    ({"carrier": "x" * 61}, "parcel.carrier"),
    ({"carrier": "two\nlines"}, "parcel.carrier"),
    ({"carrier": " "}, "parcel.carrier"),
    ({"tracking_number": "x" * 61}, "parcel.tracking_number"),
    ({"carrier": "DHL", "tracking_url": "http://dhl.example"}, "parcel.tracking_url"),
    ({"carrier": "DHL", "tracking_url": "javascript:alert(1)"}, "parcel.tracking_url"),
    ({"carrier": "DHL", "tracking_url": "https://"}, "parcel.tracking_url"),
    ({"carrier": "DHL", "tracking_url": "https://[dhl"}, "parcel.tracking_url"),
    ({"carrier": "DHL", "tracking_url": "https://shop@dhl.example"}, "parcel.tracking_url"),
    ({"carrier": "DHL", "tracking_url": "https://dhl.example/a b"}, "parcel.tracking_url"),
    ({"carrier": "DHL", "tracking_url": f"https://dhl.example/{'x' * 500}"}, "parcel.tracking_url"),
]


@pytest.mark.parametrize(("parcel", "field"), PARCELS)
async def test_a_parcel_is_taken_only_if_the_agent_can_take_it(parcel: dict[str, str], field: str | None) -> None:
    """Buyers are shown it, its link too."""
    full = {"carrier": "", "tracking_number": "", "tracking_url": "", **parcel}
    record = {"received_at": 0, "seller_id": "demo", "order_id": "A", "command_id": "ship", "action": "ship"}
    payload = written(
        catalog.ORDER_COMMAND, {**record, "reason": "", "refund_id": "", "lines": [], "amount": "", "parcel": full}
    )
    batch = Batch(catalog.ORDER_COMMANDS.name, 0, [Sent(0, payload)])
    assert bool((await OrdersWork(lambda: NOW).prepare(batch)).dead) is (field is not None)
    body = msgspec.json.encode({"parcel": parcel})
    if field is None:
        assert read("demo", "A", Trigger.SHIP, body, None).parcel == full
    else:
        with pytest.raises(ProblemError) as refused:
            read("demo", "A", Trigger.SHIP, body, None)
        assert (refused.value.kind.status, refused.value.field) == (422, field)


async def test_what_ships_nothing_has_no_parcel() -> None:
    with pytest.raises(ProblemError):
        read("demo", "A", Trigger.DELIVER, b'{"parcel": {"carrier": "DHL"}}', None)
    parcel = {"carrier": "DHL", "tracking_number": "", "tracking_url": ""}
    record = {"received_at": 0, "seller_id": "demo", "order_id": "A", "command_id": "deliver", "action": "deliver"}
    payload = written(catalog.ORDER_COMMAND, {**record, "reason": "", "lines": [], "amount": "", "parcel": parcel})
    [dead] = (await OrdersWork(lambda: NOW).prepare(Batch(catalog.ORDER_COMMANDS.name, 0, [Sent(0, payload)]))).dead
    assert b"belongs to a shipment" in dead.payload
