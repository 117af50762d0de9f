"""What was promised has its one outcome, what was told is true, and nothing is there that nobody asked for."""

import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from chaos.judge import amounts
from chaos.judge.amounts import Totals
from chaos.judge.evidence import Evidence
from chaos.judge.ledger import Invoice, Order, OrderKey
from chaos.judge.topics import INVOICE_EVENTS, Issued
from chaos.record import Asked, Commanded, Kind

RULE = "promises"
#: An order that is in one of these is sold; it has an invoice, and its money is authorised or was captured.
SOLD = frozenset(("CONFIRMED", "SHIPPED", "DELIVERED", "REFUNDED"))
#: Once everything is drained, none is in another.
FINAL = SOLD | {"CANCELLED", "REFUSED"}
_CONFLICT, _DECLINED = "/problems/conflict", "/problems/payment-declined"
#: The id belongs to a checkout, or to an invoice that was asked for directly.
_OF_ANOTHER_KIND = frozenset(("/problems/already-ordered", "/problems/already-invoiced"))
_OUT_OF_STOCK, _CANCELLED = "/problems/out-of-stock", "/problems/order-cancelled"
#: Command → the state an order has been in once it has obeyed, and the command's name in events.
_OBEYED = {
    "shipments": ("SHIPPED", "ship"),
    "deliveries": ("DELIVERED", "deliver"),
    "cancellations": ("CANCELLED", "cancel"),
    "refunds": ("", "refund"),
}
#: Ids of a run are its prefix and a number.
_NUMBERED = re.compile(r"(.*\D)\d+", re.DOTALL)


def judge_promises(evidence: Evidence) -> None:
    """Everything that was asked for, and every order of the ledger."""
    invoices = evidence.invoices
    events = {each.place: each for each in evidence.topics.issued}
    rejected = Counter(
        (each.order_id, each.kind)
        for each in evidence.ledger.refused
        if each.outcome == "rejected" and each.seller_id == evidence.ledger.seller_id
    )
    sold_after_all = 0
    for (kind, order_id), asked in evidence.record.asked.items():
        key = (evidence.ledger.seller_id, order_id)
        mine = invoices.get(key, [])
        evidence.verdict.counts[f"{kind} kept" if asked.kept else f"{kind} asked for, not kept"] += 1
        _judge_conflicts(evidence, asked, bool(mine or key in evidence.ledger.orders or rejected[order_id, "checkout"]))
        if kind is Kind.INVOICE:
            _judge_invoice(evidence, asked, mine, rejected[order_id, "invoice"])
        else:
            sold_after_all += _judge_checkout(evidence, asked, rejected[order_id, "checkout"])
        for invoice in mine:
            event = events.get((INVOICE_EVENTS, invoice.source_partition, invoice.event_seq))
            _judge_content(evidence, asked, invoice, event)
    if sold_after_all > evidence.record.unanswered:
        # Who had no answer to one attempt may have been served by it. Nobody else may.
        what = f"{sold_after_all} were told that it is sold out and are sold to, {evidence.record.unanswered} gave up"
        evidence.verdict.add(RULE, "checkouts", what)
    for commanded in evidence.record.commanded:
        _judge_command(evidence, commanded)
    _judge_refusals(evidence)
    _judge_thin_air(evidence)
    for order in evidence.ledger.orders.values():
        _judge_sale(evidence, order, invoices.get(order.key, []))


def _judge_conflicts(evidence: Evidence, asked: Asked, stands: bool) -> None:
    """A conflict is with something else that stands."""
    told = {body.get("type") for status, body in asked.answers if status == 409}
    if told & _OF_ANOTHER_KIND:
        evidence.verdict.counts["told that the id is of another kind"] += 1
        if not stands or not all((kind, asked.order_id) in evidence.record.asked for kind in Kind):
            evidence.verdict.add(RULE, asked.order_id, "was refused for a checkout or an invoice that nobody asked for")
    if _CONFLICT not in told:
        return
    evidence.verdict.counts["told of a conflict"] += 1
    if not stands:
        evidence.verdict.add(RULE, asked.order_id, "a conflict was told, with nothing that stands")
    if len(_bodies(evidence, asked.order_id)) < 2:
        evidence.verdict.add(RULE, asked.order_id, "a conflict was told, but it was posted with one content only")


def _judge_invoice(evidence: Evidence, asked: Asked, mine: list[Invoice], rejections: int) -> None:
    add, order_id = evidence.verdict.add, asked.order_id
    if (evidence.ledger.seller_id, order_id) in evidence.ledger.orders:
        # The id is a checkout's, whose invoice is judged with its sale.
        evidence.verdict.counts["invoices refused for a checkout"] += 1
        if any(status == 200 for status, _ in asked.answers):
            add(RULE, order_id, "an invoice was told, but the id belongs to a checkout")
        elif asked.kept and not rejections:
            add(RULE, order_id, "kept, and there is neither an invoice nor a rejection")
        return
    if len(mine) > 1 or (asked.kept and not mine):
        add(RULE, order_id, f"{'kept' if asked.kept else 'asked for'}, and has {len(mine)} invoices")
    if not mine:
        return
    invoice = mine[0]
    for status, body in asked.answers:
        if status == 200 and (body.get("series_id"), body.get("number"), body.get("invoice_number")) != (
            invoice.series_id,
            invoice.number,
            invoice.invoice_number,
        ):
            add(RULE, order_id, f"{body.get('invoice_number')} was told, {invoice.invoice_number} is in the ledger")
    shown = evidence.shown.invoices.get(order_id)
    if shown is None:
        return
    evidence.verdict.counts["invoices looked at over HTTP"] += 1
    body = shown.json()
    statuses = {"stored", "conflict"} if len(asked.bodies) > 1 else {"stored"}
    if shown.status != 200 or body.get("status") not in statuses:
        add(RULE, order_id, f"is shown as {shown.status} {body.get('status')} {body.get('detail', '')}")
    elif (body["series_id"], body["number"], body["invoice_number"]) != (
        invoice.series_id,
        invoice.number,
        invoice.invoice_number,
    ):
        add("numbers", order_id, f"shows {body['invoice_number']}, in the ledger {invoice.invoice_number}")
    elif _shown_totals(body) != Totals(invoice.net_minor, invoice.tax_minor, invoice.gross_minor):
        add(RULE, order_id, f"shows {body['totals']}, in the ledger are {invoice.net_minor} + {invoice.tax_minor}")


def _judge_checkout(evidence: Evidence, asked: Asked, rejections: int) -> bool:
    """Return whether it was sold to somebody who was told only that it is sold out."""
    add, order_id = evidence.verdict.add, asked.order_id
    order = evidence.ledger.orders.get((evidence.ledger.seller_id, order_id))
    if asked.kept and order is None and not rejections:
        add(RULE, order_id, "kept, and there is neither an order nor a rejection")
    for status, body in asked.answers:
        _judge_told(evidence, order_id, order, status, body)
    shown = evidence.shown.orders.get(order_id)
    if shown is not None:
        evidence.verdict.counts["orders looked at over HTTP"] += 1
        body = shown.json()
        wanted = ("rejected", None) if order is None else (order.state, order.version)
        if shown.status != 200 or (body.get("state"), body.get("version")) != wanted:
            add(RULE, order_id, f"is shown as {shown.status} {body.get('state')} {body.get('version')}, not {wanted}")
    if order is None:
        return False
    if not any(_is_made_of(order, body) for body in asked.bodies):
        add(RULE, order_id, "the order is none of those that were posted")
    sold_out = [body for status, body in asked.answers if status == 409 and body.get("type") == _OUT_OF_STOCK]
    return bool(sold_out) and len(sold_out) == len(asked.answers) and order.was("CONFIRMED")


def _judge_told(evidence: Evidence, order_id: str, order: Order | None, status: int, body: Mapping[str, Any]) -> None:
    """A decided answer is true, and stays true."""
    kind = body.get("type")
    said = ""
    if status == 201:
        if order is None or not order.was("CONFIRMED"):
            said = "confirmed"
        elif _shown_totals(body) != Totals(order.net_minor, order.tax_minor, order.gross_minor):
            said = f"totals {body['totals']}"
        elif not any((step.version, step.after) == (body["version"], body["state"]) for step in order.history):
            said = f"{body['state']} in version {body['version']}"
    elif kind == _DECLINED:
        if order is None or order.was("CONFIRMED") or order.history[-1].reason != "payment-declined":
            said = "declined"
    elif kind == _CANCELLED:
        reason = body.get("reason")
        if order is None or not any((step.after, step.reason) == ("CANCELLED", reason) for step in order.history):
            said = f"cancelled by {reason}"
    else:
        return
    evidence.verdict.counts[f"decided answers {status}"] += 1
    if said:
        history = "there is no order" if order is None else " → ".join(step.after for step in order.history)
        evidence.verdict.add(RULE, order_id, f"the buyer was told: {said}; but {history}")


def _judge_content(evidence: Evidence, asked: Asked, invoice: Invoice, event: Issued | None) -> None:
    """The invoice is made of something that was posted under its id."""
    contents = {}
    for body in _bodies(evidence, asked.order_id):
        try:
            contents[amounts.content(body)] = amounts.totals(body["lines"], body["currency"])
        except (KeyError, TypeError, ValueError, ArithmeticError):
            continue  # Nobody could accept it.
    told = Totals(invoice.net_minor, invoice.tax_minor, invoice.gross_minor)
    evidence.verdict.counts["contents compared"] += 1
    if event is not None and event.content not in contents:
        evidence.verdict.add(RULE, asked.order_id, f"{invoice.name}, to {event.buyer}, is none of what was posted")
    wanted = list(contents.values()) if event is None or event.content not in contents else [contents[event.content]]
    if told not in wanted:
        evidence.verdict.add(RULE, asked.order_id, f"{invoice.name} amounts to {told}, what was posted to {wanted}")


def _judge_command(evidence: Evidence, commanded: Commanded) -> None:
    state, action = _OBEYED[commanded.what]
    key: OrderKey = (evidence.ledger.seller_id, commanded.order_id)
    refund_id = commanded.body.get("refund_id", "")
    command_id = _command_id(commanded)
    statuses = [status for status, _ in commanded.answers]
    applied = evidence.topics.answered[key, command_id, "applied"]
    where = f"{commanded.order_id} {command_id}"
    order = evidence.ledger.orders.get(key)
    if 200 in statuses or 202 in statuses:
        evidence.verdict.counts["commands kept"] += 1
        if not applied and not evidence.topics.answered[key, command_id, "refused"]:
            evidence.verdict.add(RULE, where, "kept, and never answered")
    if 200 in statuses and not applied:
        evidence.verdict.add(RULE, where, "it was told that this is done, but no event says so")
    if not applied:
        return
    if action == "refund":
        refunds = [each for each in evidence.ledger.refunds if (each.seller_id, each.order_id) == key]
        if not any(each.refund_id == refund_id for each in refunds):
            evidence.verdict.add(RULE, where, "applied, but there is no such refund")
    elif order is None or not order.was(state):
        evidence.verdict.add(RULE, where, f"applied, but the order never was {state}")


def _judge_refusals(evidence: Evidence) -> None:
    """Each "no" to a command is an answer of its own: whoever was told so by another's, may do it again elsewhere."""
    told: Counter[tuple[str, str]] = Counter()
    for each in evidence.record.commanded:
        told[each.order_id, _command_id(each)] += sum(status == 409 for status, _ in each.answers)
    for (order_id, command_id), times in told.items():
        evidence.verdict.counts["commands refused"] += times
        refused = evidence.topics.answered[(evidence.ledger.seller_id, order_id), command_id, "refused"]
        if times > refused:
            where = f"{order_id} {command_id}"
            evidence.verdict.add(RULE, where, f"{times} were told that it is refused, by {refused} refusals")


def _command_id(commanded: Commanded) -> str:
    _, action = _OBEYED[commanded.what]
    return f"refund:{commanded.body.get('refund_id', '')}" if action == "refund" else action


def _judge_thin_air(evidence: Evidence) -> None:
    """What has an id of this run was asked for in it."""
    asked = {order_id for _, order_id in evidence.record.asked}
    stems = {match[1] for order_id in asked if (match := _NUMBERED.fullmatch(order_id))}
    everything = [(*each.order, each.name) for each in evidence.ledger.invoices]
    everything += [(*key, "order") for key in evidence.ledger.orders]
    everything += [(each.seller_id, each.order_id, each.outcome) for each in evidence.ledger.refused]
    for seller_id, order_id, what in everything:
        # The record is one seller's: what another one may have asked for isn't in it.
        match = _NUMBERED.fullmatch(order_id) if seller_id == evidence.ledger.seller_id else None
        if match and match[1] in stems and order_id not in asked:
            evidence.verdict.add(RULE, order_id, f"nobody asked for this: {what}")


def _judge_sale(evidence: Evidence, order: Order, mine: list[Invoice]) -> None:
    """What was sold has one invoice, what wasn't has none, and nothing is left undecided."""
    counts, add = evidence.verdict.counts, evidence.verdict.add
    counts[f"orders {order.state}"] += 1
    if order.state not in FINAL:
        add(RULE, order.order_id, f"is still {order.state}")
    if order.was("CONFIRMED"):
        if len(mine) != 1:
            add(RULE, order.order_id, f"is {order.state}, was confirmed, and has {len(mine)} invoices")
        wanted = (order.currency, order.net_minor, order.tax_minor, order.gross_minor)
        for each in mine:
            if (each.currency, each.net_minor, each.tax_minor, each.gross_minor) != wanted:
                add(RULE, order.order_id, f"{each.name} is of {each.gross_minor}, the order of {order.gross_minor}")
    elif mine:
        add(RULE, order.order_id, f"is {order.state}, never was confirmed, and has the invoice {mine[0].name}")


def _bodies(evidence: Evidence, order_id: str) -> list[Mapping[str, Any]]:
    """All that was posted under an id, on whichever path."""
    found = (evidence.record.asked.get((kind, order_id)) for kind in Kind)
    return [body for asked in found if asked is not None for body in asked.bodies]


def _is_made_of(order: Order, body: Mapping[str, Any]) -> bool:
    try:
        wanted = amounts.totals(body["lines"], body["currency"])
        lines = tuple((line["sku"], int(Decimal(line["quantity"]))) for line in body["lines"])
        # A guest's has none.
        customer = body.get("customer") or ""
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return False
    if order.state == "REFUSED":
        lines = ()
    has = (order.customer, order.lines, Totals(order.net_minor, order.tax_minor, order.gross_minor))
    return has == (customer, lines, wanted)


def _shown_totals(body: Mapping[str, Any]) -> Totals:
    shown, currency = body["totals"], body["currency"]
    return Totals(*(amounts.minor(shown[name], currency) for name in ("net", "tax", "gross")))
