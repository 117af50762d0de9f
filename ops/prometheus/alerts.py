"""The alerts: on what buyers, accountants and disks suffer, each with a runbook.

`ops/prometheus/alerts.yml` is generated from here.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml

#: Wakes somebody at any hour: buyers wait, or a ledger is wrong.
PAGE = "page"
#: Is looked at in the next working hours.
TICKET = "ticket"

_HEAD = "# Generated from ops/prometheus/alerts.py by `make ops`.\n"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule."""

    name: str
    #: PromQL: an alert fires for each series that it returns for `for_seconds`.
    expr: str
    for_seconds: float
    severity: str
    #: One line, with Prometheus' templates for labels and the value.
    summary: str

    @property
    def runbook(self) -> str:
        """Its file in this repository."""
        words = re.findall("[A-Z][a-z]+", self.name)
        return f"ops/runbooks/{'-'.join(words).lower()}.md"


def alerts(faster: float = 1.0) -> list[Alert]:
    """Every alert. What it waits for is divided by `faster`, for tests that can't wait."""

    def seconds(usual: float) -> str:
        return f"{usual / faster:g}"

    def window(usual: float) -> str:
        return duration(usual / faster)

    return [
        Alert(
            "OrdersLate",
            f"max by (stage) (gapless_lag_seconds) > {seconds(60)}",
            60 / faster,
            PAGE,
            "{{ $labels.stage }} is {{ $value | humanizeDuration }} behind",
        ),
        Alert(
            "OrderStuck",
            f"max(gapless_oldest_order_seconds) > {seconds(1800)}",
            300 / faster,
            PAGE,
            "The oldest order under way was accepted {{ $value | humanizeDuration }} ago",
        ),
        Alert(
            "NothingNumbered",
            f"max(avg_over_time(gapless_accepted_per_second[{window(600)}])) > 0"
            f" unless max(avg_over_time(gapless_numbered_per_second[{window(600)}])) > 0",
            120 / faster,
            PAGE,
            "{{ $value | humanize }} requests are accepted a second and none is numbered",
        ),
        Alert(
            "ProbeSlow",
            "max by (step) ("
            'label_replace(gapless_probe_number_seconds > 15, "step", "number", "", "")'
            ' or label_replace(gapless_probe_document_seconds > 60, "step", "document", "", ""))',
            120 / faster,
            PAGE,
            "The probe's {{ $labels.step }} takes {{ $value | humanizeDuration }}",
        ),
        Alert(
            "RequestsFail",
            "(sum(rate(gapless_gateway_request_seconds_count"
            f'{{route=~".* /v1/.*",status=~"5.."}}[{window(300)}])) or vector(0))'
            f' / sum(rate(gapless_gateway_request_seconds_count{{route=~".* /v1/.*"}}[{window(300)}])) > 0.05',
            120 / faster,
            PAGE,
            "{{ $value | humanizePercentage }} of the requests are answered with 5xx",
        ),
        Alert(
            "AuditViolation",
            # The auditor ends with what it found, and finds it again after its restart.
            f"max by (check) (max_over_time(gapless_audit_violations[{window(900)}])) > 0",
            0,
            PAGE,
            "The audit found {{ $value }} violations of {{ $labels.check }}",
        ),
        Alert(
            "AuditorSilent",
            f"min(gapless_audit_unchecked_seconds) > {seconds(900)} or absent(gapless_audit_unchecked_seconds)",
            300 / faster,
            TICKET,
            "Nothing is being audited",
        ),
        Alert(
            "DeadLetters",
            "sum by (topic, reason) (gapless_open_dead_letters) > 0",
            0,
            TICKET,
            "{{ $value }} records of {{ $labels.topic }} are dead letters: {{ $labels.reason }}",
        ),
        Alert(
            "ProviderUnavailable",
            # Of all workers: one that alone can't reach the provider leaves its attempts to the others.
            'max(gapless_payment_breaker{state="closed"}) == 0',
            60 / faster,
            PAGE,
            "No payments worker can reach the payment provider",
        ),
        Alert(
            "EmailLate",
            # Three tries take a quarter of an hour: what is older waits for the mail server.
            f'max(gapless_deliveries_oldest_seconds{{channel="email"}}) > {seconds(3600)}',
            300 / faster,
            TICKET,
            "A mail has been waiting for {{ $value | humanizeDuration }}",
        ),
        Alert(
            "SearchBehind",
            f"max by (instance) (gapless_search_lag_seconds) > {seconds(60)}",
            60 / faster,
            TICKET,
            "The search index of {{ $labels.instance }} is {{ $value | humanizeDuration }} behind",
        ),
        Alert(
            "RedisDrift",
            # Longer than the window: what one outage of Redis has left is corrected once, and no news.
            f"sum(increase(gapless_stock_drift_pieces_total[{window(600)}])) > 0",
            900 / faster,
            TICKET,
            "Redis differs from Postgres again and again, in the last 10 minutes by {{ $value | humanize }} pieces",
        ),
        Alert(
            "DiskFilling",
            "min by (instance, mountpoint) ("
            'node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|squashfs"} / node_filesystem_size_bytes'
            " and node_filesystem_readonly == 0) < 0.15",
            300 / faster,
            PAGE,
            "{{ $labels.mountpoint }} of {{ $labels.instance }} has {{ $value | humanizePercentage }} left",
        ),
        Alert(
            "JournalEndsSoon",
            "max(gapless_journal_end_timestamp_seconds) - time() < 90 * 86400",
            600 / faster,
            TICKET,
            "The journal has partitions for {{ $value | humanizeDuration }} more",
        ),
        Alert(
            "ProcessDown",
            'up{job="gapless"} == 0',
            60 / faster,
            PAGE,
            "{{ $labels.role }} at {{ $labels.instance }} does not answer",
        ),
        Alert(
            "ProcessNotReady",
            "gapless_process_ready == 0",
            120 / faster,
            PAGE,
            "{{ $labels.process }} says that it can't work, or says nothing",
        ),
        Alert(
            "MonitorSilent",
            "time() - max(gapless_monitor_measured_timestamp_seconds) > 30",
            60 / faster,
            PAGE,
            "The monitor has measured nothing for {{ $value | humanizeDuration }}: other alerts are blind",
        ),
    ]


def duration(seconds: float) -> str:
    """As Prometheus reads it."""
    if seconds >= 60 and seconds % 60 == 0:
        return f"{seconds / 60:g}m"
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{seconds:g}s"


def render(faster: float = 1.0) -> str:
    """The file of rules."""
    rules: list[dict[str, Any]] = [
        {
            "alert": each.name,
            "expr": each.expr,
            "for": duration(each.for_seconds),
            "labels": {"severity": each.severity},
            "annotations": {"summary": each.summary, "runbook": each.runbook},
        }
        for each in alerts(faster)
    ]
    return _HEAD + yaml.safe_dump({"groups": [{"name": "gapless", "rules": rules}]}, sort_keys=False, width=1000)
