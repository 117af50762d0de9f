"""Problems: every type is explained, and says nothing about our insides."""

import re
from pathlib import Path

import msgspec

from domain.refusals import REASONS
from gateway.http import problems

DOCS = Path(__file__).parents[3] / "docs" / "problems.md"


def test_every_type_is_explained_in_the_documentation() -> None:
    """And the documentation explains nothing that doesn't exist."""
    explained = re.findall(r"^## `/problems/([a-z-]+)` · ([0-9]{3})$", DOCS.read_text(), re.MULTILINE)
    assert sorted(explained) == sorted((kind.name, str(kind.status)) for kind in problems.KINDS.values())


def test_every_refusal_of_the_domain_has_its_type() -> None:
    """A refusal without one would be an internal error."""
    assert set(REASONS) <= set(problems.KINDS)


def test_a_rejection_of_an_unknown_reason_is_still_a_problem() -> None:
    """The agent may be newer than the gateway."""
    assert problems.rejected("from-the-future", "why").kind is problems.INVALID_FIELD


def test_a_problem_has_the_members_of_rfc_9457() -> None:
    """And its own field, where it has one."""
    answer = problems.response(
        problems.ProblemError(
            problems.NOT_ACKNOWLEDGED, "why", field="x", retry_after_seconds=2, more={"order_id": "A"}
        )
    )
    assert answer.status == 503
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Retry-After"] == "2"
    assert isinstance(answer.body, bytes)
    assert msgspec.json.decode(answer.body) == {
        "type": "/problems/not-acknowledged",
        "title": problems.NOT_ACKNOWLEDGED.title,
        "status": 503,
        "detail": "why",
        "field": "x",
        "order_id": "A",
    }


def test_who_is_not_let_in_is_told_how() -> None:
    """RFC 9110 wants the scheme."""
    answer = problems.response(problems.ProblemError(problems.UNAUTHORIZED, "why"))
    assert answer.headers["WWW-Authenticate"] == "Bearer"
