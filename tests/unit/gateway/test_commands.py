"""Commands as they come over HTTP."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from domain.order import Trigger
from gateway.commands import read
from gateway.intake import IN_FLIGHT_BYTES_MAX, Intake
from gateway.problems import ProblemError
from gateway.shedding import Backlog, Stay
from schemas import catalog, codec
from streams.batch import Batch
from streams.orders import OrdersWork
from tests.integration.test_invoices_work import NOW, Sent

REASONS = ["", "it broke", "Zoë: 100 %", "x" * 500, "x" * 501, " ", "two\nlines", "a\tb", "a\rb", "nul\0", "\x85"]


@pytest.mark.parametrize("reason", REASONS)
async def test_a_reason_is_taken_only_if_the_agent_can_take_it(reason: str) -> None:
    """It was kept and never answered where the two had rules of their own."""
    body = msgspec.json.encode({"reason": reason})
    record = {"received_at": 0, "seller_id": "demo", "order_id": "A", "command_id": "cancel", "action": "cancel"}
    payload = codec.encode(catalog.ORDER_COMMAND, {**record, "reason": reason, "refund_id": "", "lines": []})
    batch = Batch(catalog.ORDER_COMMANDS.name, 0, [Sent(0, payload)])
    agent_takes = not (await OrdersWork(lambda: NOW).prepare(batch)).dead
    try:
        gateway_takes = read("demo", "A", Trigger.CANCEL, body, None).reason == reason
    except ProblemError as problem:
        assert (problem.kind.status, problem.field) == (422, "reason")
        gateway_takes = False
    assert gateway_takes is agent_takes


def test_a_compressed_body_takes_the_place_of_the_largest() -> None:
    """What it becomes isn't known before, and it is what the memory must hold."""
    publisher: Any = None
    intake = Intake(publisher)
    connection = SimpleNamespace(stay=Stay(Backlog()))
    headers = {"Content-Encoding": "gzip"}
    request: Any = SimpleNamespace(content_length=100, can_read_body=True, headers=headers, protocol=connection)
    places = [intake.place(request) for _ in range(IN_FLIGHT_BYTES_MAX // (1024 * 1024) + 1)]
    for place in places[:-1]:
        place.__enter__()
    with pytest.raises(ProblemError, match="under way"):
        places[-1].__enter__()
