"""What a payment provider must be able to do. One class for each provider; the rules are in `domain/payment.py`."""

from collections.abc import Awaitable
from typing import Protocol

from domain.payment import Action, Attempt, Known, ProviderAnswer


class UnknownOutcomeError(Exception):
    """No answer, or a failure on the provider's side: it may have acted. Ask before anything else."""


class NoAnswerError(UnknownOutcomeError):
    """The provider can't be reached, or has cut the connection: the only failure that the breaker counts."""


class NotNowError(Exception):
    """The provider has not acted, and wants to be left alone for a while."""


class ForbiddenError(Exception):
    """The provider doesn't take us for who we are: the API key is wrong. For a person to mend."""


class Provider(Protocol):
    """Every call is one attempt's, made under its `provider_key`: again under it, nothing happens twice.

    Raises `UnknownOutcomeError` (`NoAnswerError` where nothing came back), `NotNowError` and `ForbiddenError`. What the
    provider has done already is a success.
    A token is passed on, never kept, logged or put into an error.
    """

    #: As events name it.
    name: str

    async def authorize(self, attempt: Attempt, token: str) -> ProviderAnswer:
        """Have the amount kept for us."""
        ...

    async def capture(self, attempt: Attempt) -> ProviderAnswer:
        """Take what was authorised."""
        ...

    async def void(self, attempt: Attempt) -> ProviderAnswer:
        """Let go of what was authorised.

        Of an authorisation's own attempt, known to the provider or not: afterwards it can't be authorised any more.
        """
        ...

    async def refund(self, attempt: Attempt) -> ProviderAnswer:
        """Give back a part of what was captured."""
        ...

    async def ask(self, attempt: Attempt) -> Known:
        """What the provider knows of the attempt."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def send(provider: Provider, attempt: Attempt, token: str) -> Awaitable[ProviderAnswer]:
    """Ask for what the attempt is about."""
    match attempt.action:
        case Action.AUTHORIZE:
            return provider.authorize(attempt, token)
        case Action.CAPTURE:
            return provider.capture(attempt)
        case Action.VOID:
            return provider.void(attempt)
        case Action.REFUND:
            return provider.refund(attempt)
