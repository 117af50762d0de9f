"""Takes up refunds that were made at the provider itself, in its dashboard: as refunds of their orders that are done.

Our own refunds are recognised by the keys that we sent with them, and those taken up before by their ids, which follow
from the provider's. Both are compared under the order's lock: so a refund is taken up once, however often it is found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from domain.credit import found_refund_id
from domain.order import OrderIdentity
from domain.payment import (
    MADE_AT_PROVIDER,
    REFERENCE_CHARS_MAX,
    Action,
    Attempt,
    AttemptState,
    Finish,
    ProviderRefund,
    plain,
    provider_key,
)
from domain.refusals import REFUND_IN_PROGRESS, Refusal
from schemas import catalog
from sinks.postgres import refund_checks as ledger
from sinks.postgres.refund_checks import Checked, FoundRefund, Moved, Uncredited
from sinks.postgres.session import Connection
from streams.order_book import OrderBook
from streams.payment_outcomes import REFUND, finished_event


@dataclass(slots=True)
class TakenUp:
    """What became of some checks, to be told once it is committed."""

    #: What was taken up, for the log.
    refunds: list[Mapping[str, object]] = field(default_factory=list)
    uncredited: list[Uncredited] = field(default_factory=list)
    #: Each step that an order took, for the log.
    steps: Sequence[Mapping[str, object]] = ()


async def take_up_refunds(connection: Connection, rows: Sequence[Checked], now: datetime) -> TakenUp:
    """Take up the refunds that are not ours, and end the checks, or have them again later."""
    # An order may be here twice: taken up again while its first call was under way. Either answer will do.
    answered = {row.check.order: row for row in rows if row.refunds is not None}
    book = OrderBook(now)
    await book.load(connection, {order: [None] for order in answered})
    moved = await ledger.read_money_moved(connection, answered)
    taken, found, over = TakenUp(), [], []
    waiting = [row for row in rows if row.refunds is None]
    for order, row in answered.items():
        # The provider's words are stored and shown.
        refunds = [(plain(each.refund, REFERENCE_CHARS_MAX), each) for each in row.refunds or ()]
        is_over = True
        for name, each in refunds:
            verdict = _take_up(book, order, each, moved[order])
            if isinstance(verdict, Refusal) and verdict.reason == REFUND_IN_PROGRESS:
                is_over = False
            elif isinstance(verdict, Refusal):
                currency = plain(each.currency, 3)
                uncredited = Uncredited(order, name, row.check.provider, each.amount_minor, currency, verdict.detail)
                taken.uncredited.append(uncredited)
            elif verdict:
                found.append(_found(book, order, each, name, row.check.provider))
        if is_over:
            over.append(row.check)
        else:
            waiting.append(row)
    for made in found:
        attempt = made.attempt
        finish = Finish(AttemptState.SUCCEEDED, made.reference, made.reason)
        order = OrderIdentity(attempt.seller_id, attempt.order_id)
        book.say(catalog.PAYMENT_EVENTS, order, finished_event(attempt, finish, made.provider, now))
        amount = {"amount_minor": attempt.amount_minor, "currency": attempt.currency}
        taken.refunds.append({**order._asdict(), "request_id": attempt.request_id, **amount})
    await ledger.insert_found_refunds(connection, found, now)
    await ledger.write_uncredited(connection, list(answered), taken.uncredited, now)
    await ledger.end_checks(connection, over)
    await ledger.retry_checks(connection, waiting)
    await book.write(connection, {})
    taken.steps = book.steps
    return taken


def _take_up(book: OrderBook, order: OrderIdentity, refund: ProviderRefund, moved: Moved) -> Refusal | bool:
    """Note a refund; False if it is ours or was noted before, a refusal if it can't be credited, or not yet."""
    if refund.provider_key in moved.refund_keys:
        return False
    if refund.provider_key:
        detail = "gapless has asked for it, under a key that this ledger does not have: was it restored?"
        return Refusal("unknown-key", "provider_key", detail)
    if refund.is_pending or moved.capture is AttemptState.OPEN:
        return Refusal(REFUND_IN_PROGRESS, "refund_id", "it is not certain yet")
    if moved.capture in (AttemptState.DECLINED, AttemptState.FAILED):
        return Refusal("not-captured", "capture", f"the order's capture has {moved.capture.value}")
    refund_id = found_refund_id(refund.refund)
    return book.take_up_refund(order, refund_id, refund.amount_minor, refund.currency)


def _found(book: OrderBook, order: OrderIdentity, refund: ProviderRefund, name: str, provider: str) -> FoundRefund:
    request_id = REFUND + found_refund_id(refund.refund)
    attempt = Attempt(
        *order,
        request_id,
        book.partition(order),
        Action.REFUND,
        refund.amount_minor,
        refund.currency,
        provider_key(*order, request_id),
        # Never sent.
        tries=0,
        may_have_acted=False,
    )
    return FoundRefund(attempt, name, MADE_AT_PROVIDER, provider)
