"""The payments agent: what orders ask of the provider becomes rows, in the batch's transaction; the calls follow."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from domain import payment
from domain.dead_letter import DeadLetterReason
from domain.payment import Action, AttemptState, Finish
from domain.records import OrderPlaced, PaymentRequested
from providers.provider import Provider
from runtime.settings import ENV_PREFIX, Settings, SettingsError
from schemas import catalog
from schemas.codec import DecodeError, decode, schema_of
from sinks.postgres import journal
from sinks.postgres import payments as ledger
from sinks.postgres.journal import JournalRow
from sinks.postgres.payments import Leased, NewAttempt
from sinks.postgres.session import Connection, believed
from streams.engine.app import Wired, run_agent
from streams.engine.batch import Batch, Record
from streams.engine.dead_letters import dated, dead_letter
from streams.engine.transport import BatchApp
from streams.payment_calls import Caller, Policy
from streams.payment_rows import FINISHED, finished_event

AGENT = "payments"
BATCH_BYTES_MAX = 4 * 1024 * 1024
#: A buyer waits for the payment; and of what it reads only the orders just placed are work.
_PACE_S = (0.1, 0.15)

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
    noticed: set[tuple[str, str]] = field(default_factory=set)
    dead: list[JournalRow] = field(default_factory=list)
    #: What was inserted with its lease, to be called once it is committed, and until when.
    leased: list[Leased] = field(default_factory=list)
    lease_ends_at: float = 0.0
    #: There are rows that are due.
    is_due: bool = False
    #: Attempts that needed no provider.
    finished: int = 0


def run(settings: Settings, policy: Policy | None = None) -> None:
    """Run a payments worker until SIGTERM. Raises `SettingsError`."""

    def wire(_: BatchApp) -> Wired:
        caller = Caller(
            connect(settings),
            settings.postgres_url.get_secret_value(),
            policy or Policy(),
            settings.worker_slot,
            former=connect(settings.former()) if settings.former_provider is not None else None,
        )
        work = PaymentsWork(caller, settings.provider, lambda: datetime.now(UTC))
        return Wired(lambda _: work, BATCH_BYTES_MAX, pace_s=_PACE_S, service=caller.run)

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
    """Writes the attempts, and hands them to the caller once they are committed."""

    agent = AGENT
    outages: tuple[type[Exception], ...] = ()

    def __init__(self, caller: Caller, provider: str, now: Callable[[], datetime]) -> None:
        self._caller = caller
        self._provider = provider
        self._now = now

    async def prepare(self, batch: Batch) -> PreparedPayments:
        """Decode what asks for a payment."""
        prepared = PreparedPayments()
        now = self._now()
        is_notices = batch.topic == catalog.PAYMENT_NOTICES.name
        for record in batch.records:
            try:
                if is_notices:
                    prepared.noticed.add(_noticed(record))
                else:
                    wanted = self._wanted(record)
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

    async def apply(self, connection: Connection, batch: Batch, prepared: PreparedPayments) -> None:
        """Write the rows, and the answers of those that need no provider."""
        prepared.leased, prepared.finished, prepared.is_due = [], 0, False
        now = await believed(connection, self._now())
        dead = dated(prepared.dead, now)
        events: list[JournalRow] = []
        if prepared.wanted:
            made = await self._insert(connection, batch, prepared)
            for key, leased in made.items():
                row, record = prepared.wanted[key]
                if row.state is not AttemptState.OPEN:
                    event = finished_event(leased.attempt, Finish(row.state), leased.provider, now)
                    events.append(JournalRow(record.key, event, now, row.traceparent))
                    prepared.finished += 1
                elif row.is_leased:
                    prepared.leased.append(leased)
                else:
                    prepared.is_due = True
            dead += await _without_order(connection, batch, prepared, set(made), now)
        if prepared.noticed:
            prepared.is_due = await ledger.hasten_attempts(connection, sorted(prepared.noticed)) > 0
        output = {catalog.DEAD_LETTERS.name: dead, catalog.PAYMENT_EVENTS.name: events}
        await journal.append_all(connection, batch.partition, output)

    async def committed(self, batch: Batch, prepared: PreparedPayments) -> None:
        """Have the new ones called. Not before: without its row, a call would be forgotten by a crash."""
        if prepared.leased:
            self._caller.offer(prepared.leased, prepared.lease_ends_at)
        if prepared.is_due:
            self._caller.wake()
        FINISHED.labels(AttemptState.SUCCEEDED.value).inc(prepared.finished)

    async def _insert(
        self, connection: Connection, batch: Batch, prepared: PreparedPayments
    ) -> dict[tuple[str, str, str], Leased]:
        # Read before the transaction's time, so that the lease ends here first.
        prepared.lease_ends_at = asyncio.get_running_loop().time() + self._caller.policy.lease_seconds
        room = self._caller.room
        rows = []
        for row, _ in prepared.wanted.values():
            is_leased = row.state is AttemptState.OPEN and room > 0
            room -= is_leased
            rows.append(row._replace(is_leased=is_leased))
        prepared.wanted = {
            row.id: (row, record) for row, (_, record) in zip(rows, prepared.wanted.values(), strict=True)
        }
        caller = self._caller
        return await ledger.insert_attempts(
            connection, batch.partition, rows, caller.slot, caller.policy.lease_seconds, self._provider
        )

    def _wanted(self, record: Record) -> NewAttempt | None:
        """The attempt that an event asks for. Raises `DecodeError`."""
        if record.value is not None and schema_of(record.value) in _OTHERS:
            return None
        schema, event = decode(record.value, *_ASKING, bytes_max=catalog.ORDER_EVENTS.value_bytes_max)
        if catalog.ORDER_PLACED.describes(event, schema):
            if not 0 <= event["hold_expires_at"] <= _MICROS_MAX:
                raise DecodeError("hold_expires_at is no time that Postgres can hold")
            give_up_at = event["hold_expires_at"] / 1e6 + self._caller.policy.give_up_after_hold_seconds
            return _new_attempt(event, Action.AUTHORIZE, Action.AUTHORIZE.value, event["gross_minor"], give_up_at)
        if catalog.PAYMENT_REQUESTED.describes(event, schema):
            request_id = event["request_id"]
            action = payment.action_of(request_id)
            if action is None or action is Action.AUTHORIZE or event["action"] != action.value:
                raise DecodeError(f"request_id and action don't belong together: {event['action'][:20]!r}")
            return _new_attempt(event, action, request_id, event["amount_minor"], 0.0)
        raise LookupError(f"a {schema.name} asks for no payment")


def _new_attempt(
    event: OrderPlaced | PaymentRequested, action: Action, request_id: str, amount_minor: int, give_up_at: float
) -> NewAttempt:
    """The attempt, not leased. Raises `DecodeError` for what Postgres can't hold."""
    seller_id, order_id, currency = event["seller_id"], event["order_id"], event["currency"]
    _check_ids(seller_id, order_id, request_id, currency)
    if amount_minor < 0:
        raise DecodeError("amount_minor is negative")
    key = payment.provider_key(seller_id, order_id, request_id)
    state = AttemptState.SUCCEEDED if amount_minor == 0 else AttemptState.OPEN
    return NewAttempt(
        seller_id, order_id, request_id, action, amount_minor, currency, key, "", state, give_up_at, False
    )


async def _without_order(
    connection: Connection,
    batch: Batch,
    prepared: PreparedPayments,
    made: set[tuple[str, str, str]],
    now: datetime,
) -> list[JournalRow]:
    """Dead letters for what was neither made nor there before: no order of ours owes it."""
    left = [key for key in prepared.wanted if key not in made]
    if not left:
        return []
    known = await ledger.known_attempts(connection, left)
    error = "no order of ours owes this: it is not the relay's"
    foreign = [prepared.wanted[key][1] for key in left if key not in known]
    return [dead_letter(AGENT, batch, record, DeadLetterReason.FOREIGN, error, now) for record in foreign]


def _noticed(record: Record) -> tuple[str, str]:
    _, notice = decode(record.value, catalog.PAYMENT_NOTICE, bytes_max=catalog.PAYMENT_NOTICES.value_bytes_max)
    _check_ids(notice["seller_id"], notice["order_id"])
    return notice["seller_id"], notice["order_id"]


def _check_ids(*ids: str) -> None:
    """Raise `DecodeError` for what Postgres can't hold or look up."""
    for each in ids:
        if "\0" in each or len(each) > _ID_CHARS_MAX:
            raise DecodeError("an id holds a NUL, or is longer than 128 characters")
