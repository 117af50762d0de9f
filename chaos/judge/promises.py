"""Every promise has exactly one outcome, every answer is true, and nothing exists that was not requested."""

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
#: States of an order that is sold: it has an invoice, and its money is authorised or captured.
SOLD = frozenset(("CONFIRMED", "SHIPPED", "DELIVERED", "REFUNDED"))
#: The only states after draining.
FINAL = SOLD | {"CANCELLED", "REFUSED"}
_CONFLICT, _DECLINED = "/problems/conflict", "/problems/payment-declined"
#: Problems for an id that belongs to a checkout, or to a directly requested invoice.
_OF_ANOTHER_KIND = frozenset(("/problems/already-ordered", "/problems/already-invoiced"))
_OUT_OF_STOCK, _CANCELLED = "/problems/out-of-stock", "/problems/order-cancelled"
#: Command → the state that an order has been in after it, and the command's name in events.
_OBEYED = {
    "shipments": ("SHIPPED", "ship"),
    "deliveries": ("DELIVERED", "deliver"),
    "cancellations": ("CANCELLED", "cancel"),
    "refunds": ("", "refund"),
}
#: A credit of an invoice, which is answered by the invoices agent.
CREDIT = "credit-notes"
#: Order ids of a run: its prefix and a number.
_NUMBERED = re.compile(r"(.*\D)\d+", re.DOTALL)


def judge_promises(evidence: Evidence) -> None:
    """Checks everything that was requested, and every order of the ledger."""
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
        evidence.verdict.counts[f"{kind} accepted" if asked.accepted else f"{kind} asked for, not accepted"] += 1
        _judge_conflicts(evidence, asked, bool(mine or key in evidence.ledger.orders or rejected[order_id, "checkout"]))
        if kind is Kind.INVOICE:
            _judge_invoice(evidence, asked, mine, rejected[order_id, "invoice"])
        else:
            sold_after_all += _judge_checkout(evidence, asked, rejected[order_id, "checkout"])
        for invoice in mine:
            event = events.get((INVOICE_EVENTS, invoice.source_partition, invoice.event_seq))
            _judge_content(evidence, asked, invoice, event)
    if sold_after_all > evidence.record.unanswered:
        # An unanswered attempt may have been sold after another was told "sold out". Without one, no such order may
        # exist.
        what = f"{sold_after_all} were told sold out but sold to, while {evidence.record.unanswered} clients gave up"
        evidence.verdict.add(RULE, "checkouts", what)
    for commanded in evidence.record.commanded:
        judge_one = _judge_credit if commanded.what == CREDIT else _judge_command
        judge_one(evidence, commanded)
    _judge_refusals(evidence)
    _judge_thin_air(evidence)
    for order in evidence.ledger.orders.values():
        _judge_sale(evidence, order, invoices.get(order.key, []))


def _judge_conflicts(evidence: Evidence, asked: Asked, stands: bool) -> None:
    """A reported conflict needs an order that exists and other content."""
    told = {body.get("type") for status, body in asked.answers if status == 409}
    if told & _OF_ANOTHER_KIND:
        evidence.verdict.counts["told that the id is of another kind"] += 1
        if not stands or not all((kind, asked.order_id) in evidence.record.asked for kind in Kind):
            evidence.verdict.add(RULE, asked.order_id, "was refused for an order that was never requested")
    if _CONFLICT not in told:
        return
    evidence.verdict.counts["told of a conflict"] += 1
    if not stands:
        evidence.verdict.add(RULE, asked.order_id, "a conflict was reported, but nothing exists under the id")
    if len(_bodies(evidence, asked.order_id)) < 2:
        evidence.verdict.add(RULE, asked.order_id, "a conflict was reported, but only one content was posted")


def _judge_invoice(evidence: Evidence, asked: Asked, mine: list[Invoice], rejections: int) -> None:
    add, order_id = evidence.verdict.add, asked.order_id
    if (evidence.ledger.seller_id, order_id) in evidence.ledger.orders:
        # The id belongs to a checkout, whose invoice is judged with its sale.
        evidence.verdict.counts["invoices refused for a checkout"] += 1
        if any(status == 200 for status, _ in asked.answers):
            add(RULE, order_id, "an invoice was returned, but the id belongs to a checkout")
        elif asked.accepted and not rejections:
            add(RULE, order_id, "accepted, and has neither an invoice nor a rejection")
        return
    if len(mine) > 1 or (asked.accepted and not mine):
        add(RULE, order_id, f"{'accepted' if asked.accepted else 'asked for'}, and has {len(mine)} invoices")
    if not mine:
        return
    invoice = mine[0]
    for status, body in asked.answers:
        if status == 200 and (body.get("series_id"), body.get("number"), body.get("invoice_number")) != (
            invoice.series_id,
            invoice.number,
            invoice.invoice_number,
        ):
            add(RULE, order_id, f"{body.get('invoice_number')} was returned, {invoice.invoice_number} is in the ledger")
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
    """Check a checkout; returns whether it was sold although every answer was "sold out"."""
    add, order_id = evidence.verdict.add, asked.order_id
    order = evidence.ledger.orders.get((evidence.ledger.seller_id, order_id))
    if asked.accepted and order is None and not rejections:
        add(RULE, order_id, "accepted, and has neither an order nor a rejection")
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
        add(RULE, order_id, "the order has a content that was never posted")
    sold_out = [body for status, body in asked.answers if status == 409 and body.get("type") == _OUT_OF_STOCK]
    return bool(sold_out) and len(sold_out) == len(asked.answers) and order.was("CONFIRMED")


def _judge_told(evidence: Evidence, order_id: str, order: Order | None, status: int, body: Mapping[str, Any]) -> None:
    """Check that an answer about a decided order agrees with its history."""
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
    """Check that the invoice's content was posted under its id."""
    contents = {}
    for body in _bodies(evidence, asked.order_id):
        try:
            contents[amounts.content(body)] = amounts.totals(body["lines"], body["currency"], body)
        except (KeyError, TypeError, ValueError, ArithmeticError):
            continue  # An invalid body, which is never accepted.
    told = Totals(invoice.net_minor, invoice.tax_minor, invoice.gross_minor)
    evidence.verdict.counts["contents compared"] += 1
    if event is not None and event.content not in contents:
        evidence.verdict.add(RULE, asked.order_id, f"{invoice.name}, to {event.buyer}, has a content never posted")
    wanted = list(contents.values()) if event is None or event.content not in contents else [contents[event.content]]
    if told not in wanted:
        evidence.verdict.add(RULE, asked.order_id, f"{invoice.name} amounts to {told}, the posted content to {wanted}")


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
        evidence.verdict.counts["commands accepted"] += 1
        if not applied and not evidence.topics.answered[key, command_id, "refused"]:
            evidence.verdict.add(RULE, where, "accepted, and never answered")
    if 200 in statuses and not applied:
        evidence.verdict.add(RULE, where, "was reported as done, but no event says so")
    if not applied:
        return
    if action == "refund":
        refunds = [each for each in evidence.ledger.refunds if (each.seller_id, each.order_id) == key]
        if not any(each.refund_id == refund_id for each in refunds):
            evidence.verdict.add(RULE, where, "applied, but there is no such refund")
    elif order is None or not order.was(state):
        evidence.verdict.add(RULE, where, f"applied, but the order never was {state}")


def _judge_credit(evidence: Evidence, commanded: Commanded) -> None:
    """Check that a credit that was accepted has its credit note, the very one that was shown, or a refusal."""
    key: OrderKey = (evidence.ledger.seller_id, commanded.order_id)
    credit_id = commanded.body["credit_note_id"]
    notes = [each for each in evidence.credit_notes.get(key, ()) if each.refund_id == credit_id]
    where = f"{commanded.order_id} credit note {credit_id}"
    is_refused = any(
        (each.seller_id, each.order_id) == key and each.kind == "credit_note" for each in evidence.ledger.refused
    )
    for status, body in commanded.answers:
        if status in (200, 202):
            evidence.verdict.counts["credits accepted"] += 1
            if not notes and not (is_refused and status == 202):
                evidence.verdict.add(RULE, where, "accepted, and has neither a credit note nor a refusal")
        if status == 200 and notes and body["invoice_number"] != notes[0].invoice_number:
            shown = body["invoice_number"]
            evidence.verdict.add(RULE, where, f"{shown} was returned, {notes[0].invoice_number} is in the ledger")
        if status == 409 and body.get("type") == "/problems/credit-too-large":
            evidence.verdict.counts["credits refused"] += 1


def _judge_refusals(evidence: Evidence) -> None:
    """Each refused command has a refusal of its own: a client that got another's answer might act on it wrongly."""
    told: Counter[tuple[str, str]] = Counter()
    for each in evidence.record.commanded:
        if each.what == CREDIT:
            continue
        told[each.order_id, _command_id(each)] += sum(status == 409 for status, _ in each.answers)
    for (order_id, command_id), times in told.items():
        evidence.verdict.counts["commands refused"] += times
        refused = evidence.topics.answered[(evidence.ledger.seller_id, order_id), command_id, "refused"]
        if times > refused:
            where = f"{order_id} {command_id}"
            evidence.verdict.add(RULE, where, f"{times} answers were refusals, but there are {refused} refusals")


def _command_id(commanded: Commanded) -> str:
    _, action = _OBEYED[commanded.what]
    return f"refund:{commanded.body.get('refund_id', '')}" if action == "refund" else action


def _judge_thin_air(evidence: Evidence) -> None:
    """Report orders and invoices with ids of this run that were never requested."""
    asked = {order_id for _, order_id in evidence.record.asked}
    stems = {match[1] for order_id in asked if (match := _NUMBERED.fullmatch(order_id))}
    everything = [(*each.order, each.name) for each in evidence.ledger.invoices]
    everything += [(*key, "order") for key in evidence.ledger.orders]
    everything += [(each.seller_id, each.order_id, each.outcome) for each in evidence.ledger.refused]
    for seller_id, order_id, what in everything:
        # The record has only one seller's requests.
        match = _NUMBERED.fullmatch(order_id) if seller_id == evidence.ledger.seller_id else None
        if match and match[1] in stems and order_id not in asked:
            evidence.verdict.add(RULE, order_id, f"was never requested: {what}")


def _judge_sale(evidence: Evidence, order: Order, mine: list[Invoice]) -> None:
    """A sold order has one invoice, any other has none, and every order is decided."""
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
    """All bodies posted under an id, as checkout or as invoice."""
    found = (evidence.record.asked.get((kind, order_id)) for kind in Kind)
    return [body for asked in found if asked is not None for body in asked.bodies]


def _is_made_of(order: Order, body: Mapping[str, Any]) -> bool:
    try:
        wanted = amounts.totals(body["lines"], body["currency"], body)
        skus = ["" if line.get("stock") is False else line["sku"] for line in body["lines"]]
        pieces = [abs(int(Decimal(line["quantity"]))) for line in body["lines"]]
        lines = tuple(zip(skus, pieces, strict=True))
        # A guest's checkout has no customer.
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
