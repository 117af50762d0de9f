"""What the client raises."""

from typing import Any


class GaplessError(Exception):
    """Everything that the client raises of its own."""


class UnavailableError(GaplessError):
    """No answer, or only "later", until the deadline. The request may or may not have been kept: send it again."""


class ProblemError(GaplessError):
    """The gateway refused the request, and says why (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('title', '')}: {problem.get('detail', '')}")
        #: The HTTP status.
        self.status = status
        #: The whole problem, with the members that its kind has.
        self.problem = problem

    @property
    def type(self) -> str:
        """What to branch on, such as `/problems/out-of-stock`; it never changes."""
        return str(self.problem.get("type", "about:blank"))

    @property
    def field(self) -> str | None:
        """The path of the offending field, if there is one."""
        found = self.problem.get("field")
        return None if found is None else str(found)
