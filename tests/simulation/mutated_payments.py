"""Mutations of payments and holds: plausible mistakes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from domain.order import OrderState as OrderState
from domain.order import Trigger
from domain.payment import (
    Attempt,
    AttemptState,
    AttemptStep,
    Declined,
    Finish,
    Known,
    Settle,
    first_step,
    step_after_asking,
)
from providers.provider import UnknownOutcomeError
from sinks.postgres import payments as ledger
from streams.order_book import OrderBook
from tests.simulation import order_statements
from tests.simulation.cluster import Rules
from tests.simulation.mutation import mutation
from tests.simulation.payments import Provider
from tests.simulation.postgres import Backend, Rows


@mutation
def a_new_key_for_each_try(_: Rules) -> Iterator[None]:
    """Each try of an authorisation has a provider key of its own."""
    authorize = Provider.authorize

    async def anew(provider: Provider, attempt: Attempt, token: str) -> Any:
        return await authorize(
            provider, replace(attempt, provider_key=f"{attempt.provider_key}-{attempt.tries}"), token
        )

    with patch.object(Provider, "authorize", anew):
        yield


@mutation
def send_without_asking(_: Rules) -> Iterator[None]:
    """An attempt that was taken up before is treated as one that was never sent."""

    def hopeful(attempt: Attempt) -> AttemptStep:
        return first_step(replace(attempt, may_have_acted=False))

    with patch("domain.payment.first_step", hopeful):
        yield


@mutation
def give_up_without_voiding(_: Rules) -> Iterator[None]:
    """An expired attempt that the provider doesn't know counts as failed, though a request may still be under way."""

    def hasty(attempt: Attempt, known: Known) -> AttemptStep:
        step = step_after_asking(attempt, known)
        return Finish(AttemptState.FAILED) if isinstance(step, Settle) else step

    with patch("domain.payment.step_after_asking", hasty):
        yield


@mutation
def no_answer_is_a_refusal(_: Rules) -> Iterator[None]:
    """A call without an answer counts as declined."""
    authorize = Provider.authorize

    async def impatient(provider: Provider, attempt: Attempt, token: str) -> Any:
        try:
            return await authorize(provider, attempt, token)
        except UnknownOutcomeError:
            return Declined("timeout")

    with patch.object(Provider, "authorize", impatient):
        yield


@mutation
def finish_what_is_finished(rules: Rules) -> Iterator[None]:
    """An outcome is written without checking that the attempt is still open."""

    def finish(tx: Backend, p: Mapping[str, Any]) -> Rows:
        return order_statements.finish_payment_attempts(tx, p, ("open", "succeeded", "declined", "failed"))

    rules.statements["finish_payment_attempts"] = finish
    yield


@mutation
def move_whatever_has_become_of_the_attempt(_: Rules) -> Iterator[None]:
    """An outcome moves its order, also where the attempt had another one before, or is about to be voided."""
    finish = ledger.finish_attempts

    async def hopeful(connection: Any, rows: Any, now: Any) -> set[str]:
        await finish(connection, rows, now)
        return {row.provider_key for row in rows}

    with patch("sinks.postgres.payments.finish_attempts", hopeful):
        yield


@mutation
def place_without_an_attempt(rules: Rules) -> Iterator[None]:
    """The placing transaction leaves the attempt to who reads the event; unread, nobody would ask for the payment."""
    rules.statements["insert_payment_attempts"] = lambda *_: ()
    yield


@mutation
def expire_without_looking_again(_: Rules) -> Iterator[None]:
    """A hold that had expired when it was looked for is released, whatever has happened to the order since."""
    move = OrderBook.move

    def blind(book: OrderBook, order: Any, trigger: Any, *rest: Any) -> bool:
        if trigger is Trigger.HOLD_EXPIRED:
            book._orders[order].state = OrderState.PAYMENT_PENDING
        return move(book, order, trigger, *rest)

    with patch.object(OrderBook, "move", blind):
        yield


@mutation
def settle_without_a_note(rules: Rules) -> Iterator[None]:
    """The decision to void is not recorded, so a void may be acted on after the provider has reported success."""
    rules.late_voids_percent = 70

    def settle(tx: Any, p: Any) -> Any:
        return [(p["provider_key"],)]

    rules.statements["settle_payment_attempt"] = settle
    yield
