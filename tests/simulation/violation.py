"""How a history ends badly."""


class Violation(BaseException):
    """An invariant doesn't hold. Not an `Exception`: no handler of the code under test may take it for an outage."""


class Exited(BaseException):
    """A process has ended itself with exit 70, in the code under test."""


def require(condition: bool, message: str) -> None:
    """Raise `Violation` unless it holds."""
    if not condition:
        raise Violation(message)
