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
