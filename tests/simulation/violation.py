"""Exceptions that end a history."""


class Violation(BaseException):
    """An invariant is violated. Not an `Exception`, so that the code under test can't handle it as an outage."""


class Exited(BaseException):
    """A process has ended itself with exit 70, in the code under test."""


def require(condition: bool, message: str) -> None:
    """Raise `Violation` unless the condition holds."""
    if not condition:
        raise Violation(message)
