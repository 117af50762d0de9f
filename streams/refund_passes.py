"""Lists the refunds at the payment providers at intervals, so that one whose notice was lost is found later, not never.

The row of `refund_passes` decides which worker lists, a page a turn. A page's refunds that are not in our books have
their orders checked, as a notice would, in the transaction that moves the row on. If the worker dies, another one goes
on from there once the lease has run out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import Gauge

from domain.credit import found_refund_id
from domain.order import OrderIdentity
from domain.payment import REFERENCE_CHARS_MAX, ListedRefund, RefundPage, plain, provider_key
from providers.provider import ForbiddenError, NotNowError, Provider, UnknownOutcomeError
from runtime.metrics import REGISTRY
from sinks.postgres import refund_passes as ledger
from sinks.postgres.refund_checks import insert_checks
from sinks.postgres.refund_passes import PassTurn
from sinks.postgres.session import Connection, Session
from streams.engine.patience import patiently
from streams.payment_outcomes import REFUND

_log = logging.getLogger(__name__)

AGE = Gauge(
    "gapless_refunds_listed_seconds",
    "Time since the last pass through the provider's whole list of refunds began.",
    ["provider"],
    registry=REGISTRY,
)


@dataclass(frozen=True, slots=True)
class PassPolicy:
    """How often the refunds at a provider are listed, and how fast."""

    #: From the end of a pass to the beginning of the next.
    every_seconds: float = 600.0
    #: Between two pages of a pass, of all workers: a long list must not use up the rate that the provider permits.
    page_seconds: float = 1.0
    #: How often a worker looks whether a page is due.
    poll_seconds: float = 5.0
    #: How long a page is ours; longer than its call may take.
    lease_seconds: float = 30.0
    #: By so much a pass overlaps the one before it: the provider's clock may differ from Postgres'.
    overlap_seconds: float = 3_600.0
    #: How far back a provider's first pass looks: notices may have been lost before there were passes.
    first_seconds: float = 30 * 86_400.0


class RefundPasses:
    """This worker's part in the passes through the lists of some providers."""

    def __init__(
        self,
        url: str,
        providers: Sequence[Provider],
        policy: PassPolicy,
        *,
        call: Callable[[str, Awaitable[RefundPage | None]], Awaitable[RefundPage | None]],
        may_call: Callable[[], bool],
        pause_seconds: Callable[[int], float],
    ) -> None:
        """`url` is the ledger's. `call` makes a call of a provider, under a name, where `may_call` permits it.

        `pause_seconds` is how long to wait after so many tries.
        """
        self._session = Session(url)
        self._providers = {each.name: each for each in providers}
        self._policy = policy
        self._call = call
        self._may_call = may_call
        self._pause_seconds = pause_seconds

    async def run(self) -> None:
        """List pages when they are due, until cancelled."""
        policy, names = self._policy, list(self._providers)
        try:
            await patiently(
                self._session,
                lambda connection: ledger.add_passes(connection, names, policy.first_seconds, policy.every_seconds),
            )
            while True:
                listed = [await self._list(each) for each in self._providers.values()]
                ages = await patiently(self._session, lambda connection: ledger.read_ages(connection, names))
                for name, age in ages.items():
                    AGE.labels(name).set(age)
                idle_seconds = min(policy.poll_seconds, policy.every_seconds)
                await asyncio.sleep(policy.page_seconds if any(listed) else idle_seconds)
        finally:
            await self._session.close()

    async def _list(self, provider: Provider) -> bool:
        """List the next page of a provider's refunds; False if it isn't due."""
        if not self._may_call():
            return False
        turn = await patiently(
            self._session, lambda connection: ledger.take_pass(connection, provider.name, self._policy.lease_seconds)
        )
        if turn is None:
            return False
        since = turn.listed_until - timedelta(seconds=self._policy.overlap_seconds)
        try:
            page = await self._call("list-refunds", provider.list_refunds(since, turn.after))
            _check(turn, page)
        except (UnknownOutcomeError, NotNowError, ForbiddenError, TimeoutError) as error:
            # Without permission to list, too, payments go on: they don't depend on it.
            pause = self._pause_seconds(turn.tries)
            why = str(error) or type(error).__name__
            _log.warning("%s does not list its refunds (%s): it is asked again in %.1f s", provider.name, why, pause)
            await patiently(self._session, lambda connection: ledger.retry_pass(connection, turn, pause))
        else:
            await self._write(turn, page)
        return True

    async def _write(self, turn: PassTurn, page: RefundPage | None) -> None:
        """Have the orders of refunds that are not in our books checked, and go on to the next page."""

        async def write(connection: Connection) -> tuple[set[OrderIdentity], set[OrderIdentity]]:
            # From the beginning, if the provider does not know any more where we were.
            after = "" if page is None else page.after
            pause = self._policy.every_seconds if after is None else self._policy.page_seconds
            if not await ledger.move_pass(connection, turn, after, pause) or page is None:
                return set(), set()
            keys = {each: _key(each) for each in page.refunds}
            known = await ledger.read_known_attempts(connection, set(keys.values()))
            unknown = {each.order for each, key in keys.items() if key not in known}
            checked = await insert_checks(connection, [(order, True) for order in sorted(unknown)])
            return checked, unknown - checked

        checked, missing = await patiently(self._session, write, in_transaction=True)
        if checked:
            _log.info("%d orders have refunds at %s that are not in our books", len(checked), turn.provider)
        if missing:
            example = "/".join(min(missing))
            _log.warning(
                "%s has refunds of %d orders that do not exist here, such as %s", turn.provider, len(missing), example
            )


def _check(turn: PassTurn, page: RefundPage | None) -> None:
    """Raise `UnknownOutcomeError` for a page that the pass can't go on from."""
    after = None if page is None else page.after
    if page is None and not turn.after:
        raise UnknownOutcomeError("it knows no first page")
    if after is not None and (after in ("", turn.after) or after != plain(after, REFERENCE_CHARS_MAX)):
        raise UnknownOutcomeError("its next page begins after no refund")


def _key(refund: ListedRefund) -> str:
    """The key of the attempt that the refund has in our books, if it is there."""
    return refund.provider_key or provider_key(*refund.order, REFUND + found_refund_id(refund.refund))
