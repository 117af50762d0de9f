"""The audit's report."""

from audit.report import AuditReport


def test_a_notice_that_has_just_come_leaves_nothing_incomplete() -> None:
    """The provider sends notices at any time, even after everything was handled."""
    report = AuditReport(complete=True)
    report.lag.update({"payments payment-notices": 1, "stock inventory-events": 2, "orders payment-events": 0})
    report.judge_completeness()
    assert [each.where for each in report.shown()] == ["stock inventory-events"]
