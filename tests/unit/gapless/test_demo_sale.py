"""The demo's flash sale: what counts as answered, and how many buyers can be connected."""

import resource

import pytest

from gapless.demo_sale import PIECES, SaleResult, raise_file_limit
from producers.client import GatewayAnswer
from producers.load import LoadReport


def report(*statuses: int, failed: int = 0) -> LoadReport:
    """A report of answers with these statuses."""
    made = LoadReport(failed=failed)
    for status in statuses:
        made.take(GatewayAnswer(status, b"{}", 1), 0.1)
    return made


def test_sold_out_and_declined_are_answers_and_errors_are_not() -> None:
    assert SaleResult(3, answers=report(202, 409, 409), others=report(201, 402, 202)).unanswered == 0
    assert SaleResult(3, answers=report(202, 422), others=report(402, failed=2)).unanswered == 3


def test_no_more_is_sold_than_there_are_buyers() -> None:
    assert (SaleResult(10).pieces, SaleResult(10 * PIECES).pieces) == (10, PIECES)


def test_as_many_buyers_come_at_once_as_the_machine_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1_024, 2_048)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, wanted: limits.append(wanted))
    assert raise_file_limit(50_000) == 2_048 - 512
    assert raise_file_limit(7) == 7
    assert limits[-1] == (2_048, 2_048)
