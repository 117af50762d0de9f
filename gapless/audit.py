"""`gapless audit`: prove that nothing is missing, duplicate or different."""

import json
import os
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from audit.report import CHECKS, AuditError, AuditReport
from audit.run import run_audit
from audit.store import open_reader
from gapless.local import data_option, settings_for
from runtime import logs
from runtime.settings import Settings

EXIT_VIOLATIONS = 1
EXIT_UNREADABLE = 2
_WIDTH_UNSEEN = 120
_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--complete", is_flag=True, help="Report everything still in progress as a violation.")
@click.option("--provider-url", help="Also compare with the ledger of the local payment provider at this URL.")
@click.option("--follow", is_flag=True, help="Continue: after this audit, check new data every few seconds.")
@click.option("--every", default=5.0, show_default=True, type=_SECONDS, help="With --follow: seconds between rounds.")
@click.option(
    "--wait-max",
    default=600.0,
    show_default=True,
    type=_SECONDS,
    help="With --follow: seconds that an invoice, a document or an event may take.",
)
@data_option
def audit(
    as_json: bool,
    complete: bool,
    provider_url: str | None,
    follow: bool,
    every: float,
    wait_max: float,
    data: Path | None,
) -> int:
    """Check Postgres, Kafka and the object store against each other, also while everything runs.

    Exits with 1 after printing what is wrong and where, or with 2 if a service can't be read.

    With --follow it runs until it is stopped: it starts with a full audit, then checks only what is new. At the first
    violation it prints it and exits with 1. It waits for services that can't be read, and exits with 0 on SIGTERM.
    GAPLESS_METRICS_PORT serves its metrics. With --json it prints an object per round.
    """
    errors = Console(stderr=True, highlight=False)
    if follow and (complete or provider_url is not None):
        raise click.UsageError("--complete and --provider-url need a full audit: leave out --follow")
    settings = settings_for(data)
    if follow:
        return _follow(settings, every, wait_max, as_json)
    try:
        with errors.status("reading") as status:
            report = run_audit(
                settings.postgres_url.get_secret_value(),
                settings.kafka_bootstrap,
                open_reader(settings),
                complete=complete,
                provider_url=provider_url,
                on_step=lambda step: status.update(f"checking {step}"),
            )
    except AuditError as error:
        click.echo(f"gapless: {error}", err=True)
        return EXIT_UNREADABLE
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        show(report, Console(highlight=False, width=None if os.isatty(1) else _WIDTH_UNSEEN))
    return 0 if report.clean else EXIT_VIOLATIONS


def _follow(settings: Settings, every: float, wait_max: float, as_json: bool) -> int:
    # Imported on use: it registers metrics of the follower, which no other process has.
    from audit import watch

    logs.configure(settings.log_level, {"process": "audit"})

    def tell(report: AuditReport) -> None:
        click.echo(json.dumps(report.as_json()))

    return watch.run(settings, every_seconds=every, wait_seconds_max=wait_max, tell=tell if as_json else None)


def show(report: AuditReport, console: Console) -> None:
    """Print a report for people: what was examined, each check, and each violation."""
    console.print(_counted(report), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for check, claim in CHECKS.items():
        if check == "complete" and not report.complete:
            continue
        if check == "provider" and "provider's payments" not in report.counts:
            continue
        found = report.violations[check]
        table.add_row(
            "[red]✗[/red]" if found else "[green]✓[/green]", check, claim, f"[red]{found:,}[/red]" if found else ""
        )
    console.print(table)
    for violation in report.shown():
        console.print(f"[red]{violation.check}[/red] {violation.where}: {violation.what}", soft_wrap=True)
    unshown = report.violations.total() - sum(1 for _ in report.shown())
    if unshown > 0:
        console.print(f"… and {unshown:,} more; --json has the counts")
    console.print(verdict(report), soft_wrap=True)


def verdict(report: AuditReport) -> str:
    """The last line: clean or not, and what is still in progress."""
    waiting = [
        f"{count:,} {what}"
        for count, what in (
            (report.lag.total(), "records not yet handled"),
            (report.held_back.total(), "offsets held back by open transactions"),
            (report.unpublished, "journal rows not yet published"),
            (report.pending_documents, "documents not yet made"),
            *((count, f"orders {what}") for what, count in sorted(report.pending.items())),
        )
        if count
    ]
    on_its_way = f"; in progress: {', '.join(waiting)}" if waiting else ""
    if report.clean:
        return f"[bold green]audit: clean[/bold green], in {report.seconds:.1f} s{on_its_way}"
    return (
        f"[bold red]audit: {report.violations.total():,} violations[/bold red], in {report.seconds:.1f} s{on_its_way}"
    )


def _counted(report: AuditReport) -> str:
    counts = report.counts
    return (
        f"{counts['requests']:,} requests ({_most_common(report.outcomes)}); {counts['invoices']:,} invoices in"
        f" {counts['series']:,} series; {counts['checkouts']:,} checkouts ({_most_common(report.checkouts)});"
        f" {counts['orders']:,} orders, {counts['stock changes']:,} changes of {counts['skus']:,} SKUs;"
        f" {counts['journal rows']:,} journal rows, {counts['topic records']:,} records"
        f" ({counts['topic repeats']:,} repeats); {counts['documents']:,} documents"
    )


def _most_common(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in outcomes.most_common()) or "none"
