"""The payments agent: calls the provider for the rows of what orders ask for, and looks after the rows themselves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from domain import payment
from domain.dead_letter import DeadLetterReason
from domain.order import OrderIdentity
from domain.payment import Action
from domain.records import OrderPlaced, PaymentRequested
from providers.provider import Provider
from runtime.settings import ENV_PREFIX, Settings, SettingsError
from schemas import catalog
from schemas.codec import DecodeError, decode, schema_of
from sinks.postgres import journal
from sinks.postgres import payments as ledger
from sinks.postgres.journal import JournalRow
from sinks.postgres.payments import NewAttempt, new_attempt
from sinks.postgres.refund_checks import insert_checks
from sinks.postgres.session import Connection, believed
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch, Record
from streams.engine.dead_letters import dead_letter, dead_of
from streams.engine.transport import BatchApp
from streams.engine.work import Part
from streams.payment_calls import Caller, Policy
from streams.refund_passes import PassPolicy

AGENT = "payments"
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: Nearly all that it reads has its row already; a buyer waits for the rows.
_GATHER_S = 0.2

_ID_CHARS_MAX = 128
#: Of the year 9999, in microseconds since 1970.
_MICROS_MAX = 253_402_300_799_000_000
_ASKING = (catalog.ORDER_PLACED, catalog.PAYMENT_REQUESTED)
#: Events of the topic that ask for no payment; they are not decoded.
_OTHERS = frozenset(catalog.ORDER_EVENTS.schemas) - frozenset(_ASKING)


@dataclass(slots=True)
class PreparedPayments:
    """A batch decoded."""

    #: By id, with the record that it came from.
    wanted: dict[tuple[str, str, str], tuple[NewAttempt, Record]] = field(default_factory=dict)
    #: Orders that the provider has told of, by record: whether of a refund; None if the gateway did not note it.
    noticed: list[tuple[OrderIdentity, bool | None, Record]] = field(default_factory=list)
    dead: list[JournalRow] = field(default_factory=list)


def run(settings: Settings, policy: Policy | None = None) -> None:
    """Run a payments worker until SIGTERM. Raises `SettingsError`."""

    def wire(_: BatchApp) -> Wired:
        caller = Caller(
            connect(settings),
            settings.postgres_url.get_secret_value(),
            policy or Policy(passes=PassPolicy(every_seconds=settings.refund_pass_seconds)),
            settings.worker_slot,
            former=connect(settings.former()) if settings.former_provider is not None else None,
        )
        work = PaymentsWork(caller, lambda: datetime.now(UTC))
        return Wired(lambda _: work, BATCH_BYTES_MAX, gather_s=_GATHER_S, service=caller.run)

    _check(settings)
    if settings.former_provider is not None:
        _check(settings.former(), "FORMER_PROVIDER")
    run_agent(AGENT, settings, wire)


def connect(settings: Settings) -> Provider:
    """The provider that the settings name. Called on the running loop."""
    # Each on use: Stripe's package is large, and most of it is for other things.
    key = settings.provider_api_key.get_secret_value() if settings.provider_api_key is not None else None
    if settings.provider == "stripe":
        from providers.stripe import StripeProvider

        return StripeProvider(key or "", settings.provider_url)
    from providers.local import LocalProvider

    return LocalProvider(settings.provider_url or "", key)


def _check(settings: Settings, names: str = "PROVIDER") -> None:
    if settings.provider == "local" and not settings.provider_url:
        raise SettingsError(f"{ENV_PREFIX}{names}_URL: the local provider has no place of its own: say where it is")
    if settings.provider == "stripe" and settings.provider_api_key is None:
        raise SettingsError(f"{ENV_PREFIX}{names}_API_KEY: Stripe needs a secret key, sk_… or rk_…")


class PaymentsWork:
    """Sees to it that what is asked for has its attempt, and hastens those that the provider has told of.

    Whoever asks has made the attempt's row already; unless that was an older release.
    """

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(
        self, caller: Caller, now: Callable[[], datetime], give_up_after: timedelta = payment.GIVE_UP_AFTER_HOLD
    ) -> None:
        """`give_up_after` is how long after the end of its hold an order's payment is waited for."""
        self._caller = caller
        self._now = now
        self._give_up_after = give_up_after

    async def prepare(self, batch: Batch) -> PreparedPayments:
        """Decode what asks for a payment."""
        prepared = PreparedPayments()
        now = self._now()
        is_notices = batch.topic == catalog.PAYMENT_NOTICES.name
        for record in batch.records:
            try:
                if is_notices:
                    prepared.noticed.append((*_noticed(record), record))
                else:
                    wanted = self._wanted(record, batch.partition)
                    if wanted is not None:
                        traceparent = batch.traces.follow(record.offset)
                        if traceparent is not None:
                            wanted = wanted._replace(traceparent=traceparent)
                            names = ("seller_id", "order_id", "request_id")
                            batch.traces.decision(record.offset, dict(zip(names, wanted.id, strict=True)))
                        prepared.wanted.setdefault(wanted.id, (wanted, record))
            except DecodeError as error:
                prepared.dead.append(dead_letter(AGENT, batch, record, DeadLetterReason.UNDECODABLE, str(error), now))
        return prepared

    def distrust(self, prepared: PreparedPayments) -> bool:
        """It trusts no hint."""
        return False

    async def apply(self, connection: Connection, parts: Sequence[Part[PreparedPayments]]) -> None:
        """Write the rows that are missing."""
        now = await believed(connection, self._now())
        of_refunds = [
            (order, bool(of_refund))
            for part in parts
            for order, of_refund, _ in part.prepared.noticed
            if of_refund is not False
        ]
        # Before the attempts: it locks orders. Who has such an order now may be about to finish its attempt.
        checked = await insert_checks(connection, of_refunds)
        wanted = [row for part in parts for row, _ in part.prepared.wanted.values()]
        await ledger.insert_attempts(connection, wanted, now)
        known = await ledger.known_attempts(connection, [row.id for row in wanted]) if wanted else set()
        noticed = {order for part in parts for order, _, _ in part.prepared.noticed}
        if noticed:
            await ledger.hasten_attempts(connection, sorted(noticed))
        output = dead_of(parts, now)
        for part in parts:
            dead = output[catalog.DEAD_LETTERS.name, part.batch.partition]
            for row, record in part.prepared.wanted.values():
                if row.id not in known:
                    error = "no order of ours owes this: it is not the relay's"
                    dead.append(dead_letter(AGENT, part.batch, record, DeadLetterReason.FOREIGN, error, now))
            for order, of_refund, record in part.prepared.noticed:
                if of_refund and order not in checked:
                    error = "the provider tells of a refund of an order that does not exist here"
                    dead.append(dead_letter(AGENT, part.batch, record, DeadLetterReason.FOREIGN, error, now))
        await journal.append(connection, output)

    async def committed(self, batch: Batch, prepared: PreparedPayments) -> None:
        """Have a look at the rows. Not before: without its row, a call would be forgotten by a crash."""
        if prepared.wanted or prepared.noticed:
            self._caller.wake()

    def _wanted(self, record: Record, partition: int) -> NewAttempt | None:
        """The attempt that an event asks for. Raises `DecodeError`."""
        if record.value is not None and schema_of(record.value) in _OTHERS:
            return None
        schema, event = decode(record.value, *_ASKING, bytes_max=catalog.ORDER_EVENTS.value_bytes_max)
        if catalog.ORDER_PLACED.describes(event, schema):
            if not 0 <= event["hold_expires_at"] <= _MICROS_MAX:
                raise DecodeError("hold_expires_at is no time that Postgres can hold")
            give_up_at = event["hold_expires_at"] / 1e6 + self._give_up_after.total_seconds()
            amount = event["gross_minor"]
            return _new_attempt(event, partition, Action.AUTHORIZE, Action.AUTHORIZE.value, amount, give_up_at)
        if catalog.PAYMENT_REQUESTED.describes(event, schema):
            request_id = event["request_id"]
            action = payment.action_of(request_id)
            if action is None or action is Action.AUTHORIZE or event["action"] != action.value:
                raise DecodeError(f"request_id and action don't belong together: {event['action'][:20]!r}")
            return _new_attempt(event, partition, action, request_id, event["amount_minor"], None)
        raise LookupError(f"a {schema.name} asks for no payment")


def _new_attempt(
    event: OrderPlaced | PaymentRequested,
    partition: int,
    action: Action,
    request_id: str,
    amount_minor: int,
    give_up_at: float | None,
) -> NewAttempt:
    """The attempt. Raises `DecodeError` for what Postgres can't hold."""
    seller_id, order_id, currency = event["seller_id"], event["order_id"], event["currency"]
    _check_ids(seller_id, order_id, request_id, currency)
    if amount_minor < 0:
        raise DecodeError("amount_minor is negative")
    order = OrderIdentity(seller_id, order_id)
    return new_attempt(order, partition, request_id, action, amount_minor, currency, give_up_at)


def _noticed(record: Record) -> tuple[OrderIdentity, bool | None]:
    """The order, and whether the provider tells of a refund. Raises `DecodeError`."""
    _, notice = decode(record.value, catalog.PAYMENT_NOTICE, bytes_max=catalog.PAYMENT_NOTICES.value_bytes_max)
    _check_ids(notice["seller_id"], notice["order_id"])
    kind = notice.get("kind")
    return OrderIdentity(notice["seller_id"], notice["order_id"]), None if kind is None else "refund" in kind


def _check_ids(*ids: str) -> None:
    """Raise `DecodeError` for what Postgres can't hold or look up."""
    for each in ids:
        if "\0" in each or len(each) > _ID_CHARS_MAX:
            raise DecodeError("an id holds a NUL, or is longer than 128 characters")
