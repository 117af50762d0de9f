"""The interface of a payment provider: one class for each provider. The rules are in `domain/payment.py`."""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Protocol

from domain.payment import Action, Attempt, Known, PaymentIdentity, ProviderAnswer, ProviderRefund, RefundPage


class UnknownOutcomeError(Exception):
    """No answer, or an error of the provider: it may have acted. Ask before sending anything else."""


class NoAnswerError(UnknownOutcomeError):
    """The provider can't be reached or closed the connection: the only failure that the breaker counts."""


class NotNowError(Exception):
    """The provider has not acted, and is to be called again later."""


class ForbiddenError(Exception):
    """The provider refuses our API key. An operator must correct it."""


class Provider(Protocol):
    """One call per attempt, made under its `provider_key`, which makes it idempotent.

    Raises `UnknownOutcomeError` (`NoAnswerError` if nothing came back), `NotNowError` and `ForbiddenError`. An action
    that the provider has already carried out is a success. Tokens are passed on, and never stored, logged or put into
    errors.
    """

    #: The provider's name in events.
    name: str

    async def authorize(self, attempt: Attempt, token: str) -> ProviderAnswer:
        """Authorise the attempt's amount with the payment token."""
        ...

    async def capture(self, attempt: Attempt) -> ProviderAnswer:
        """Capture what was authorised."""
        ...

    async def void(self, attempt: Attempt) -> ProviderAnswer:
        """Void what was authorised.

        Called with the attempt of an authorisation, known to the provider or not, it makes sure that this attempt can't
        be authorised any more.
        """
        ...

    async def refund(self, attempt: Attempt) -> ProviderAnswer:
        """Refund a part of what was captured."""
        ...

    async def ask(self, attempt: Attempt) -> Known:
        """What the provider knows of the attempt."""
        ...

    async def refunds(self, payment: PaymentIdentity) -> Sequence[ProviderRefund]:
        """All refunds of a payment, ours and others'; none for a payment that the provider does not know."""
        ...

    async def list_refunds(self, since: datetime, after: str) -> RefundPage | None:
        """A page of the refunds of all payments that were made since then, latest first.

        It begins after the refund with the provider's id `after`, or, if that is empty, at the latest. None if the
        provider does not know that refund.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def send(provider: Provider, attempt: Attempt, token: str) -> Awaitable[ProviderAnswer]:
    """Call the provider for the attempt's action."""
    match attempt.action:
        case Action.AUTHORIZE:
            return provider.authorize(attempt, token)
        case Action.CAPTURE:
            return provider.capture(attempt)
        case Action.VOID:
            return provider.void(attempt)
        case Action.REFUND:
            return provider.refund(attempt)
