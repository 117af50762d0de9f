"""What a payment provider must be able to do. One class for each provider; the rules are in `domain/payment.py`."""

from typing import Protocol

from domain.payment import Answer, Attempt, Known


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

    async def authorize(self, attempt: Attempt, token: str) -> Answer:
        """Have the amount kept for us."""
        ...

    async def capture(self, attempt: Attempt) -> Answer:
        """Take what was authorised."""
        ...

    async def void(self, attempt: Attempt) -> Answer:
        """Let go of what was authorised.

        Of an authorisation's own attempt, known to the provider or not: afterwards it can't be authorised any more.
        """
        ...

    async def refund(self, attempt: Attempt) -> Answer:
        """Give back a part of what was captured."""
        ...

    async def ask(self, attempt: Attempt) -> Known:
        """What the provider knows of the attempt."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
