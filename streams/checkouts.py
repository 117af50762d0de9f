"""The checkouts agent: claims the stock of each new order, all of its lines or none, in the order of arrival."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
from prometheus_client import Counter

from domain import checkout, order
from domain.buyer import buyer_key
from domain.checkout import Checkout
from domain.dead_letter import DeadLetterReason
from domain.invoice import check_order_id
from domain.issuing import Conflict, Content, Decision, InvoiceIdentity, decide
from domain.moments import micros
from domain.numbering import SELLER_ID
from domain.order import OrderIdentity
from domain.payment import GIVE_UP_AFTER_HOLD, Action
from domain.records import CheckoutRequest, OrderConflicted, OrderPlaced, OrderRefused, OrderRejected, ShortLine
from domain.refusals import ALREADY_INVOICED, INVALID_FIELD, UNKNOWN_SELLER, Refusal
from domain.reservation import Change, Shelf, Short
from domain.rules import SellerFacts, check_rules
from runtime.logs import tell_decisions
from runtime.metrics import REGISTRY
from runtime.settings import Settings
from schemas import catalog
from schemas.codec import DecodeError, decode, encode
from sinks.postgres import invoices as ledger
from sinks.postgres import journal, order_ids, orders, payments
from sinks.postgres.journal import JournalRow
from sinks.postgres.orders import LineRow, OrderRow
from sinks.postgres.payments import NewAttempt, new_attempt
from sinks.postgres.session import Connection, believed
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch
from streams.engine.dead_letters import dated, dead_letter
from streams.engine.dedupe_table import DedupeTable, add_dedupe_table, digest, must_look_up
from streams.engine.transport import BatchApp
from streams.engine.work import Part
from streams.stock_events import stock_changed

_log = logging.getLogger(__name__)

AGENT = "checkouts"
BATCH_BYTES_MAX = 4 * 1024 * 1024

OUTCOMES = Counter("gapless_checkouts_total", "Checkouts by outcome.", ["outcome"], registry=REGISTRY)


@dataclass(frozen=True, slots=True)
class CheckedCheckout:
    """A decoded and checked request, and where it stands."""

    content: Content
    body: CheckoutRequest
    checkout: Checkout


@dataclass(slots=True)
class PreparedCheckouts:
    """A batch decoded and checked, and what the table says of it."""

    requests: dict[int, CheckedCheckout] = field(default_factory=dict)
    rejected: list[tuple[Content, Refusal]] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)
    digests: dict[InvoiceIdentity, bytes] = field(default_factory=dict)
    buyer_keys: dict[InvoiceIdentity, int] = field(default_factory=dict)
    #: Orders that must be looked up in Postgres before they count as new.
    look_up: list[InvoiceIdentity] = field(default_factory=list)
    decided: list[InvoiceIdentity] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    #: What became of each checkout that was decided, for the log.
    told: list[Mapping[str, object]] = field(default_factory=list)


@dataclass(slots=True)
class _Out:
    """What a batch comes to: rows of the transaction."""

    batch: Batch
    decision: Decision
    orders: list[OrderRow] = field(default_factory=list)
    lines: list[LineRow] = field(default_factory=list)
    refused: list[ledger.RefusedRow] = field(default_factory=list)
    events: list[tuple[int, JournalRow]] = field(default_factory=list)
    stock: list[JournalRow] = field(default_factory=list)
    attempts: list[NewAttempt] = field(default_factory=list)


def run(settings: Settings) -> None:
    """Run a checkouts worker until SIGTERM."""

    def wire(app: BatchApp) -> Wired:
        table = add_dedupe_table(app, "placed")
        if table.changelog_topic_name != catalog.CHECKOUTS_CHANGELOG.name:
            raise ValueError(f"the catalogue does not know the changelog {table.changelog_topic_name}")
        hold = timedelta(seconds=settings.hold_seconds)
        work = CheckoutsWork(table, lambda: datetime.now(UTC), hold)
        return Wired(lambda _: work, BATCH_BYTES_MAX)

    run_agent(AGENT, settings, wire)


class CheckoutsWork:
    """Places what is new, once, in the transaction that claims its stock."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(
        self,
        table: DedupeTable,
        now: Callable[[], datetime],
        hold: timedelta,
        give_up_after: timedelta = GIVE_UP_AFTER_HOLD,
    ) -> None:
        """`hold` is how long stock is kept for a payment that isn't known, `give_up_after` how long that is waited for
        then.
        """
        self._table = table
        self._now = now
        self._hold = hold
        self._give_up_after = give_up_after

    async def prepare(self, batch: Batch) -> PreparedCheckouts:
        """Decode, check, price, and ask the table which orders may be old."""
        prepared = PreparedCheckouts()
        now = self._now()
        for record in batch.records:
            try:
                _, body = decode(
                    record.value, catalog.CHECKOUT_REQUEST, bytes_max=catalog.CHECKOUT_REQUESTS.value_bytes_max
                )
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(error), now))
                continue
            key = InvoiceIdentity(body["seller_id"], body["order_id"], order_ids.CHECKOUT)
            refusal = _refuse_identity(key)
            if refusal is not None:
                # Its identity can't be stored, so it can't be shown under it either.
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(refusal), now))
                continue
            checked = checkout.check(body)
            if isinstance(checked, Refusal):
                prepared.rejected.append((Content(record.offset, key, b""), checked))
                continue
            content = Content(record.offset, key, checked.content_sha256)
            prepared.requests[record.offset] = CheckedCheckout(content, body, checked)
            if key not in prepared.digests:
                prepared.digests[key] = digest(key)
                prepared.buyer_keys[key] = buyer_key(body["buyer"]["email"])
        prepared.look_up = must_look_up(self._table, batch, prepared.digests)
        return prepared

    def distrust(self, prepared: PreparedCheckouts) -> bool:
        """Look every order up, if the table had spared us some."""
        if len(prepared.look_up) == len(prepared.digests):
            return False
        prepared.look_up = list(prepared.digests)
        return True

    async def apply(self, connection: Connection, parts: Sequence[Part[PreparedCheckouts]]) -> None:
        """Serve the fresh orders of each batch in offset order and write everything."""
        now = await believed(connection, self._now())
        batches = [part.prepared for part in parts]
        sellers, standing = await orders.read_known(
            connection,
            (key.seller_id for each in batches for key in each.digests),
            [_id(key) for each in batches for key in each.look_up],
        )
        new = {
            _id(key): order_ids.Claim(order_ids.CHECKOUT, its_buyer)
            for each in batches
            for key, its_buyer in each.buyer_keys.items()
            if key.seller_id in sellers and _id(key) not in standing
        }
        invoiced = await order_ids.claim(connection, new)
        placed_before = {_key(each): content for each, content in standing.items()}
        outs = [_decide(part, sellers, invoiced, placed_before, now) for part in parts]
        fresh = [
            [part.prepared.requests[each.offset] for each in out.decision.fresh] for part, out in _both(parts, outs)
        ]
        skus = {sku for requests in fresh for request in requests for sku in request.checkout.wanted}
        shelf = Shelf(await orders.lock_stock(connection, skus))
        for out, requests in zip(outs, fresh, strict=True):
            for request in requests:
                self._place(out, request, shelf, now)
        await self._write(connection, parts, outs, shelf, now)
        for part, out in _both(parts, outs):
            _tell(part.prepared, out)

    async def committed(self, batch: Batch, prepared: PreparedCheckouts) -> None:
        """Mark the table. Not before: a mark without its commit would be believed by nobody, but cost a look-up."""
        pairs = [(prepared.digests[key], 0) for key in prepared.decided]
        self._table.mark(batch.partition, batch.first_offset, batch.next_offset, pairs)
        for outcome, count in prepared.outcomes.items():
            OUTCOMES.labels(outcome).inc(count)
        tell_decisions(_log, "decided", prepared.told)

    def _place(self, out: _Out, request: CheckedCheckout, shelf: Shelf, now: datetime) -> None:
        """Claim the order's stock, or refuse it; its rows and events either way."""
        traceparent = out.batch.traces.follow(request.content.offset)
        reserved = shelf.reserve(request.checkout.wanted)
        at = micros(now)
        placed: list[Change] = [each for each in reserved if isinstance(each, Change)]
        short: list[Short] = [each for each in reserved if isinstance(each, Short)]
        body, offset = request.body, request.content.offset
        if short:
            steps = [order.StepTaken(1, None, order.OrderState.REFUSED, order.OUT_OF_STOCK, "", at)]
            event = encode(catalog.ORDER_REFUSED, _refused_event(body, short, at))
        else:
            steps = order.birth(at)
            event = encode(catalog.ORDER_PLACED, _placed_event(request, at, micros(now + self._hold)))
            out.stock.append(stock_changed(body["seller_id"], body["order_id"], "reserved", placed, now, traceparent))
            out.lines += [
                LineRow(body["seller_id"], body["order_id"], index, checkout.sku_of(line), abs(pieces))
                for index, (line, pieces) in enumerate(zip(body["lines"], request.checkout.pieces, strict=True))
            ]
            out.attempts.append(self._authorization(out, request, now, traceparent))
        out.events.append((offset, JournalRow(body["order_id"].encode(), event, now, traceparent)))
        priced = request.checkout.priced
        out.orders.append(
            OrderRow(
                body["seller_id"],
                body["order_id"],
                out.batch.partition,
                body["customer"],
                steps[-1].to_state.value,
                orders.history_text(steps),
                body["currency"],
                priced.net_minor,
                priced.tax_minor,
                priced.gross_minor,
                request.content.content_sha256,
                body["payment_token"],
                encode(catalog.INVOICE_REQUEST, request.checkout.invoice_request),
                _short_text(short) if short else None,
                offset,
            )
        )

    def _authorization(self, out: _Out, request: CheckedCheckout, now: datetime, traceparent: str | None) -> NewAttempt:
        body = request.body
        return new_attempt(
            _id(request.content.key),
            out.batch.partition,
            Action.AUTHORIZE.value,
            Action.AUTHORIZE,
            request.checkout.priced.gross_minor,
            body["currency"],
            (now + self._hold + self._give_up_after).timestamp(),
            traceparent,
        )

    async def _write(
        self,
        connection: Connection,
        parts: Sequence[Part[PreparedCheckouts]],
        outs: Sequence[_Out],
        shelf: Shelf,
        now: datetime,
    ) -> None:
        await orders.write_stock(connection, shelf.levels, shelf.changed)
        rows = [row for out in outs for row in out.orders]
        if rows:
            lines = [line for out in outs for line in out.lines]
            await orders.insert_orders(connection, rows, lines, placed_at=now, hold_expires_at=now + self._hold)
        # The payment need not wait until the event that asks for it has been read.
        await payments.insert_attempts(connection, [attempt for out in outs for attempt in out.attempts], now)
        refused = [row for out in outs for row in out.refused]
        if refused:
            await ledger.insert_refused(connection, catalog.CHECKOUT_REQUESTS.name, refused, now)
        output: dict[journal.OutputKey, list[JournalRow]] = {}
        for part, out in _both(parts, outs):
            out.events.sort(key=lambda event: event[0])
            partition = part.batch.partition
            output[catalog.DEAD_LETTERS.name, partition] = dated(part.prepared.dead, now)
            output[catalog.INVENTORY_EVENTS.name, partition] = out.stock
            output[catalog.ORDER_EVENTS.name, partition] = [row for _, row in out.events]
        await journal.append(connection, output)


def _both(
    parts: Sequence[Part[PreparedCheckouts]], outs: Sequence[_Out]
) -> Iterator[tuple[Part[PreparedCheckouts], _Out]]:
    return zip(parts, outs, strict=True)


def _decide(
    part: Part[PreparedCheckouts],
    sellers: Mapping[str, SellerFacts],
    invoiced: Collection[OrderIdentity],
    standing: Mapping[InvoiceIdentity, bytes],
    now: datetime,
) -> _Out:
    """Which of a batch's requests are new orders, and what is said of the others."""
    prepared = part.prepared
    refused = list(prepared.rejected)
    candidates: list[Content] = []
    for request in prepared.requests.values():
        key = request.content.key
        facts = sellers.get(key.seller_id)
        broken = None
        if facts is not None and key not in standing:
            broken = check_rules(request.checkout.invoice_request, request.checkout.priced, facts)
        if facts is None:
            detail = "no such seller: create it with `gapless sellers add`"
            refused.append((request.content, Refusal(UNKNOWN_SELLER, "seller_id", detail)))
        elif _id(key) in invoiced:
            detail = "this order_id has an invoice, or a credit note, that was asked for directly: use another one"
            refused.append((request.content, Refusal(ALREADY_INVOICED, "order_id", detail)))
        elif broken is not None:
            refused.append((request.content, broken))
        else:
            candidates.append(request.content)
    out = _Out(part.batch, decide(candidates, standing))
    for content, refusal in refused:
        _reject(out, content, refusal, now)
    for conflict in out.decision.conflicts:
        _record_conflict(out, conflict, now)
    return out


def _tell(prepared: PreparedCheckouts, out: _Out) -> None:
    """Note what became of the batch, for the table, the log and the metrics."""
    decision = out.decision
    prepared.decided = [content.key for content in decision.fresh]
    refused = sum(row.short is not None for row in out.orders)
    logged = out.batch.traces.decision
    prepared.told = [
        *(
            logged(row.source_offset, {"seller_id": row.seller_id, "order_id": row.order_id, "state": row.state})
            for row in out.orders
        ),
        *(
            logged(
                row.log_offset,
                {"seller_id": row.seller_id, "order_id": row.order_id, "state": row.outcome, "reason": row.reason},
            )
            for row in out.refused
        ),
    ]
    prepared.outcomes = {
        "placed": len(out.orders) - refused,
        "refused": refused,
        "repeat": decision.repeats,
        "conflict": len(decision.conflicts),
        "rejected": len(out.refused) - len(decision.conflicts),
        "dead letter": len(prepared.dead),
    }


def _refuse_identity(key: InvoiceIdentity) -> Refusal | None:
    if not SELLER_ID.fullmatch(key.seller_id):
        return Refusal(INVALID_FIELD, "seller_id", "must be 1 to 40 of a-z, 0-9 and -")
    return check_order_id(key.order_id)


def _id(key: InvoiceIdentity) -> OrderIdentity:
    return OrderIdentity(key.seller_id, key.order_id)


def _key(each: OrderIdentity) -> InvoiceIdentity:
    return InvoiceIdentity(each.seller_id, each.order_id, order_ids.CHECKOUT)


def _reject(out: _Out, content: Content, refusal: Refusal, now: datetime) -> None:
    key, batch = content.key, out.batch
    value: OrderRejected = {
        "seller_id": key.seller_id,
        "order_id": key.order_id,
        "source_topic": batch.topic,
        "source_partition": batch.partition,
        "source_offset": content.offset,
        "reason": refusal.reason,
        "detail": str(refusal),
        "occurred_at": micros(now),
    }
    row = ledger.RefusedRow(batch.partition, content.offset, *key, "rejected", refusal.reason, str(refusal), None)
    out.refused.append(row)
    payload = encode(catalog.ORDER_REJECTED, value)
    traceparent = batch.traces.follow(content.offset)
    out.events.append((content.offset, JournalRow(key.order_id.encode(), payload, now, traceparent)))


def _record_conflict(out: _Out, conflict: Conflict, now: datetime) -> None:
    content, batch = conflict.content, out.batch
    key = content.key
    value: OrderConflicted = {
        "seller_id": key.seller_id,
        "order_id": key.order_id,
        "source_topic": batch.topic,
        "source_partition": batch.partition,
        "source_offset": content.offset,
        "content_sha256": content.content_sha256.hex(),
        "first_content_sha256": conflict.first_content_sha256.hex(),
        "occurred_at": micros(now),
    }
    detail = "the order id was used before with other content; the first stands"
    row = ledger.RefusedRow(
        batch.partition, content.offset, *key, "conflict", "conflict", detail, content.content_sha256
    )
    out.refused.append(row)
    payload = encode(catalog.ORDER_CONFLICTED, value)
    traceparent = batch.traces.follow(content.offset)
    out.events.append((content.offset, JournalRow(key.order_id.encode(), payload, now, traceparent)))


def _short_text(short: list[Short]) -> str:
    return msgspec.json.encode(_short(short)).decode()


def _short(short: list[Short]) -> list[ShortLine]:
    return [{"sku": each.sku, "wanted": each.wanted, "free": each.free} for each in short]


def _refused_event(body: CheckoutRequest, short: list[Short], at: int) -> OrderRefused:
    return {
        "seller_id": body["seller_id"],
        "order_id": body["order_id"],
        "customer": body["customer"],
        "short": _short(short),
        "occurred_at": at,
    }


def _placed_event(request: CheckedCheckout, at: int, hold_expires_at: int) -> OrderPlaced:
    body, priced = request.body, request.checkout.priced
    lines = zip(request.checkout.invoice_request["lines"], request.checkout.pieces, priced.nets_minor, strict=True)
    return {
        "seller_id": body["seller_id"],
        "order_id": body["order_id"],
        "customer": body["customer"],
        "currency": body["currency"],
        "net_minor": priced.net_minor,
        "tax_minor": priced.tax_minor,
        "gross_minor": priced.gross_minor,
        "lines": [
            {
                "sku": line["sku"],
                "description": line["description"],
                "quantity": pieces,
                "unit_price": line["unit_price"],
                "net_minor": net,
                "stock": False if checkout.claims_no_stock(line) else None,
            }
            for line, pieces, net in lines
        ],
        "hold_expires_at": hold_expires_at,
        "state": order.OrderState.PAYMENT_PENDING.value,
        "version": 2,
        "placed_at": at,
    }
