"""Answers to commands: each names a command of its own, and commands answered as applied were carried out."""

from collections.abc import Sequence

from audit import order_statements
from audit.report import AuditReport
from audit.snapshot import Snapshot
from domain.order import OrderState, Trigger
from domain.records import OrderCommandAnswered

#: The state in the order's history that shows that a command was carried out.
_SHOWN = {Trigger.SHIP: OrderState.SHIPPED, Trigger.DELIVER: OrderState.DELIVERED, Trigger.CANCEL: OrderState.CANCELLED}
#: The source offset of answers by releases that did not record it.
_UNNAMED = -1


class AnswerCheck:
    """Checks the answers of one audit, in the order of the journal."""

    def __init__(self, snapshot: Snapshot, report: AuditReport) -> None:
        self._snapshot = snapshot
        self._report = report
        #: Offset of the last answered command, by partition.
        self._answered: dict[int, int] = {}

    def take(self, partition: int, answers: Sequence[tuple[int, OrderCommandAnswered]]) -> None:
        """Check answers of one partition, each with its seq."""
        applied = [event for _, event in answers if event["outcome"] == "applied"]
        done = self._done(applied) if applied else {}
        for seq, event in answers:
            for wrong in (self._misnamed(partition, event), _unfounded(event, done)):
                if wrong:
                    self._report.add("answer", f"order-events/{partition} seq {seq}", wrong)

    def _misnamed(self, partition: int, event: OrderCommandAnswered) -> str:
        offset = event["source_offset"]
        if offset == _UNNAMED:
            return ""
        # A single agent answers the commands of a partition, in their order.
        before = self._answered.get(partition, -1)
        self._answered[partition] = max(before, offset)
        if event["source_partition"] != partition:
            return f"answers a command of partition {event['source_partition']}"
        return "" if offset > before else f"answers the command at {offset}, after the one at {before}"

    def _done(self, applied: Sequence[OrderCommandAnswered]) -> dict[tuple[str, str], set[str]]:
        """The states that each order has been in, and its refunds' command ids."""
        orders = sorted({(event["seller_id"], event["order_id"]) for event in applied})
        sellers, ids = zip(*orders, strict=True)
        rows = self._snapshot.rows(order_statements.DONE_OF, seller_ids=list(sellers), order_ids=list(ids))
        return {(seller_id, order_id): {*states, *refunds} for seller_id, order_id, states, refunds in rows}


def _unfounded(event: OrderCommandAnswered, done: dict[tuple[str, str], set[str]]) -> str:
    if event["outcome"] != "applied":
        return ""
    action, command_id = event["action"], event["command_id"]
    shown = command_id if action == Trigger.REFUND else _SHOWN[Trigger(action)].value
    if shown in done.get((event["seller_id"], event["order_id"]), ()):
        return ""
    return f"says that {command_id} of order {event['seller_id']}/{event['order_id']} was applied, and it was not"
