"""Checkout orders as the API shows them, and the problems of those that ended without a sale."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from domain.credit import is_found
from domain.iso import CURRENCY_EXPONENTS
from domain.issuing import CREDIT_NOTE
from domain.moments import moment
from domain.money import minor_text
from domain.order import LATE_PAYMENT_VOIDED, OrderState, Trigger
from domain.payment import Action, AttemptState
from domain.records import RequestedLine, ShortLine
from domain.reservation import Short
from gateway.http import problems
from gateway.http.problems import ProblemError
from gateway.invoices import invoice_views
from gateway.invoices.invoice_views import time_text
from gateway.orders.order_shapes import (
    AcceptedOrder,
    OrderInvoice,
    OrderLine,
    OrderSummary,
    OrderTotals,
    OrderView,
    Payment,
    RejectedOrder,
    ShortSku,
    Step,
    UncreditedRefund,
    WaitingOrder,
)
from schemas.catalog import INVOICE_REQUEST, INVOICE_REQUESTS
from schemas.codec import decode
from sinks.postgres.orders import HistoryStep
from sinks.postgres.orders_reader import (
    AttemptSummary,
    InvoiceSummary,
    ListedOrder,
    PlacedOrder,
    UncreditedSummary,
)
from sinks.postgres.refusals_reader import RefusedRequest

#: States of an order that Postgres doesn't know, in small letters: they are none of the transition table's.
ACCEPTED, WAITING, REJECTED = "accepted", "waiting", "rejected"

_OPEN = frozenset({OrderState.PLACED, OrderState.PAYMENT_PENDING})


def path_of(order_id: str) -> str:
    """The order's resource."""
    return f"/v1/orders/{quote(order_id, safe='')}"


def accepted(order_id: str) -> AcceptedOrder:
    """An accepted order that is not decided yet."""
    return {"order_id": order_id, "state": ACCEPTED, "links": {"self": path_of(order_id)}}


def waiting(order_id: str, position: int) -> WaitingOrder:
    """An order on the waitlist; `position` 1 is next. It is accepted only once it gets stock."""
    return {
        "order_id": order_id,
        "state": WAITING,
        "waitlist_position": position,
        "links": {"self": path_of(order_id)},
    }


def rejected(order_id: str, last: RefusedRequest) -> RejectedOrder:
    """A request that became no order; `last` is its latest refusal."""
    return {
        "order_id": order_id,
        "state": REJECTED,
        "reason": last.reason,
        "detail": last.detail,
        "rejected_at": time_text(last.occurred_at),
        "links": {"self": path_of(order_id)},
    }


def placed(order: PlacedOrder, refused: Sequence[RefusedRequest], invoice_request: bytes) -> OrderView:
    """An order that was decided, in full."""
    _, request = decode(invoice_request, INVOICE_REQUEST, bytes_max=INVOICE_REQUESTS.value_bytes_max)
    currency = order.currency
    credit_notes = {each["refund_id"]: each for each in order.invoices if each["kind"] == CREDIT_NOTE}
    invoices = [each for each in order.invoices if each["kind"] != CREDIT_NOTE]
    path = path_of(order.order_id)
    body: OrderView = {
        "order_id": order.order_id,
        "state": order.state,
        "version": order.version,
        "customer": order.customer or None,
        "currency": currency,
        "totals": _totals(order),
        "lines": _lines(request["lines"], dict(order.refunded)),
        "placed_at": time_text(order.placed_at),
        "history": [_step(step) for step in order.history],
        "payment": None if order.state == OrderState.REFUSED else payment(order),
        "refunds": [
            {
                "refund_id": refund["refund_id"],
                "state": refund["state"],
                "origin": "provider" if is_found(refund["refund_id"]) else "request",
                "amount": minor_text(refund["amount"], currency),
                "reason": refund["reason"],
                "lines": refund["lines"],
                "requested_at": _micros_text(refund["at"]),
                "credit_note": credit_notes[refund["refund_id"]]["number"]
                if refund["refund_id"] in credit_notes
                else None,
                # Of one that nobody asked for, the attempt's reason says just that.
                "provider_reason": None if is_found(refund["refund_id"]) else refund["provider_reason"],
            }
            for refund in order.refunds
        ],
        "invoice": _invoice(order.order_id, invoices[0]) if invoices else None,
        "credit_notes": [
            {
                "refund_id": each["refund_id"],
                "number": each["number"],
                "status": _status(each),
                "link": invoice_views.credit_note_path(order.order_id, each["refund_id"]),
            }
            for each in credit_notes.values()
        ],
        "links": {"self": path, "invoice": invoice_views.path_of(order.order_id)},
    }
    if order.state in _OPEN:
        body["hold_expires_at"] = time_text(order.hold_expires_at)
    if order.short is not None:
        body["short"] = [_short(each) for each in order.short]
    conflicts = [each for each in refused if each.outcome == invoice_views.CONFLICT]
    if order.uncredited:
        body["uncredited_refunds"] = [_uncredited(each) for each in order.uncredited]
    if conflicts:
        body["conflicts"] = [{"detail": each.detail, "occurred_at": time_text(each.occurred_at)} for each in conflicts]
    return body


def _uncredited(refund: UncreditedSummary) -> UncreditedRefund:
    # The provider may name a currency that we don't know.
    exponent = CURRENCY_EXPONENTS.get(refund["currency"])
    amount = str(refund["amount"]) if exponent is None else minor_text(refund["amount"], refund["currency"])
    return {
        "provider_refund": refund["provider_refund"],
        "amount": amount,
        "currency": refund["currency"],
        "reason": refund["reason"],
    }


def payment(order: PlacedOrder) -> Payment:
    """The payment's status, from the outcomes of its attempts."""
    attempts = {each["action"]: each for each in order.attempts}
    authorize, capture, void = attempts.get("authorize"), attempts.get("capture"), attempts.get("void")
    reasons = [each["reason"] for each in (authorize, capture, void) if each is not None and each["reason"]]
    return {
        "status": _payment_status(order, authorize, capture, void),
        "authorized": minor_text(_succeeded(authorize), order.currency),
        "captured": minor_text(_succeeded(capture), order.currency),
        "refunded": minor_text(order.refunded_minor or 0, order.currency),
        "reason": reasons[-1] if reasons else None,
    }


def _payment_status(
    order: PlacedOrder,
    authorize: AttemptSummary | None,
    capture: AttemptSummary | None,
    void: AttemptSummary | None,
) -> str:
    if authorize is None or authorize["state"] == "open":
        return "pending"
    if authorize["state"] != "succeeded":
        return authorize["state"]
    if void is not None and void["state"] == "succeeded":
        return "voided"
    if capture is None or capture["state"] == "open":
        return "authorized"
    if capture["state"] != "succeeded":
        return "failed"
    if order.refunded_minor is None:
        return "captured"
    return "refunded" if order.refunded_minor >= capture["amount"] else "partially-refunded"


def summary(order: ListedOrder) -> OrderSummary:
    """An order in a list."""
    return {
        "order_id": order.order_id,
        "state": order.state,
        "customer": order.customer or None,
        "currency": order.currency,
        "totals": _totals(order),
        "placed_at": time_text(order.placed_at),
        "links": {"self": path_of(order.order_id)},
    }


def out_of_stock(order_id: str, short: Sequence[ShortLine | Short]) -> ProblemError:
    """The problem of a shortage; it lists the SKUs."""
    listed = [_short(each) for each in short]
    return ProblemError(
        problems.OUT_OF_STOCK,
        "there is not enough stock; nothing was reserved",
        more={"order_id": order_id, "short": listed},
    )


def ended_without_sale(order_id: str, last: HistoryStep) -> ProblemError:
    """The problem of a cancelled order; `last` is the last step of its history."""
    links = {"order_id": order_id, "links": {"self": path_of(order_id)}}
    if last["reason"] == Trigger.PAYMENT_DECLINED:
        return ProblemError(
            problems.PAYMENT_DECLINED,
            "the payment provider declined: the order is cancelled and its stock released",
            more={"decline_code": last["detail"], **links},
        )
    return ProblemError(
        problems.ORDER_CANCELLED,
        f"the order was cancelled: {last['reason']}",
        more={"reason": last["reason"], **links},
    )


def not_placed(order: PlacedOrder) -> ProblemError | None:
    """The problem of an order that ended without a sale; None if it is a sale, or may become one."""
    if order.state == OrderState.REFUSED:
        return out_of_stock(order.order_id, order.short or [])
    if order.state == OrderState.CANCELLED:
        # A late payment that was given back is not the reason for the end.
        ended_by = [each for each in order.history if each["reason"] != LATE_PAYMENT_VOIDED]
        return ended_without_sale(order.order_id, ended_by[-1])
    return None


def may_be_retaken(order: PlacedOrder) -> bool:
    """Whether the order is cancelled because its hold has expired, and its payment may still succeed and confirm it."""
    if order.state != OrderState.CANCELLED or order.history[-1]["reason"] != Trigger.HOLD_EXPIRED:
        return False
    return any(each["action"] == Action.AUTHORIZE and each["state"] == AttemptState.OPEN for each in order.attempts)


def is_open(order: PlacedOrder) -> bool:
    """Whether its payment is still under way."""
    return order.state in _OPEN


def _succeeded(attempt: AttemptSummary | None) -> int:
    return attempt["amount"] if attempt is not None and attempt["state"] == "succeeded" else 0


def _lines(lines: Sequence[RequestedLine], refunded: Mapping[int, int]) -> list[OrderLine]:
    views: list[OrderLine] = [
        {
            "line": index,
            "sku": line["sku"],
            "description": line["description"],
            "quantity": int(line["quantity"].partition(".")[0]),
            "unit_price": line["unit_price"],
            "vat_rate": line["vat_rate"],
            "vat_category": line["vat_category"],
            "refunded": refunded.get(index, 0),
        }
        for index, line in enumerate(lines)
    ]
    for view, line in zip(views, lines, strict=True):
        details = line.get("details")
        if details is not None and details["stock"] is False:
            view["stock"] = False
    return views


def _invoice(order_id: str, invoice: InvoiceSummary) -> OrderInvoice:
    return {"number": invoice["number"], "status": _status(invoice), "link": invoice_views.path_of(order_id)}


def _status(invoice: InvoiceSummary) -> str:
    return invoice_views.STORED if invoice["is_stored"] else invoice_views.ISSUED


def _step(step: HistoryStep) -> Step:
    view: Step = {
        "version": step["version"],
        "from": step["from"],
        "to": step["to"],
        "reason": step["reason"],
        "detail": step["detail"],
        "at": _micros_text(step["at"]),
    }
    if "parcel" in step:
        parcel = step["parcel"]
        view["parcel"] = {
            "carrier": parcel["carrier"],
            "tracking_number": parcel["tracking_number"],
            "tracking_url": parcel["tracking_url"],
        }
    return view


def _short(short: ShortLine | Short) -> ShortSku:
    if isinstance(short, Short):
        return {"sku": short.sku, "wanted": short.wanted, "free": short.free}
    return {"sku": short["sku"], "wanted": short["wanted"], "free": short["free"]}


def _totals(order: PlacedOrder | ListedOrder) -> OrderTotals:
    return {
        "net": minor_text(order.net_minor, order.currency),
        "tax": minor_text(order.tax_minor, order.currency),
        "gross": minor_text(order.gross_minor, order.currency),
    }


def _micros_text(at: int) -> str:
    return time_text(moment(at))
