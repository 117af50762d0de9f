"""`gapless top`: the dashboard's stages, live in a terminal."""

import time
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gapless.local import data_option, settings_for
from monitor.figures import Measurement, StageFigures, StageState
from monitor.meter import Meter, open_meter
from monitor.reports import Reports, parse_processes
from monitor.watch import MEASURE_EVERY_SECONDS
from runtime.kafka import TopicError

_COLOURS = {StageState.OK: "green", StageState.BEHIND: "yellow", StageState.STALLED: "bold red"}
_WIDTH_UNSEEN = 120


@click.command()
@data_option
def top(data: Path | None) -> None:
    """Show every stage, once a second, until Ctrl-C: its lag, and when it will have drained.

    It measures by itself, so it also works without a monitor. Without a terminal it prints one table.
    """
    settings = settings_for(data)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_UNSEEN)
    reports = Reports(parse_processes(settings.monitor_processes))
    meter = open_meter(settings)
    reports.start()
    try:
        if not console.is_terminal:
            # The first measurement has no rates.
            for _ in range(2):
                measurement = _measure(meter, reports)
                time.sleep(MEASURE_EVERY_SECONDS)
            console.print(render(measurement))
            return
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(render(_measure(meter, reports)), refresh=True)
                time.sleep(MEASURE_EVERY_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        reports.stop()
        meter.close()


def _measure(meter: Meter, reports: Reports) -> Measurement:
    try:
        return meter.measure(reports.latest())
    except TopicError as error:
        raise click.ClickException(str(error)) from None


def render(measurement: Measurement) -> Group:
    """The display of a measurement."""
    headline = measurement.headline
    summary = Text.assemble(
        ("accepted ", "dim"), f"{_rate(headline.accepted_per_second)}/s   ",
        ("numbered ", "dim"), f"{_rate(headline.numbered_per_second)}/s   ",
        ("accepted to numbered ", "dim"),
        f"{_duration(headline.numbering_seconds_p50)} p50, {_duration(headline.numbering_seconds_p99)} p99   ",
        ("oldest ", "dim"), _duration(headline.oldest_order_seconds),
    )  # fmt: skip
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("stage", "state"):
        table.add_column(name)
    for name in ("behind", "records", "in /s", "out /s", "drained in"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cause", overflow="fold")
    for stage in measurement.stages:
        table.add_row(
            stage.name,
            Text(stage.state.value, style=_COLOURS[stage.state]),
            _duration(stage.lag_seconds),
            f"{stage.lag_records:,}",
            _rate(stage.rates.in_10s),
            _rate(stage.rates.out_10s),
            _drain(stage),
            # Without markup: a cause may contain text of others.
            Text(stage.cause),
        )
    letters = sum(each.count for each in measurement.dead_letters)
    payments = measurement.payments
    rest = (
        f"{payments.open_attempts:,} payments under way, {payments.holds:,} orders hold stock, {letters:,} dead letters"
    )
    silent = [f"{each.name}: {each.says}" for each in measurement.processes if not each.is_ready]
    return Group(summary, Text(), table, Text(), Text(rest, style="dim"), *(Text(each, style="red") for each in silent))


def _rate(value: float) -> str:
    return f"{value:,.1f}" if 0 < value < 10 else f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if 0 < seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _drain(stage: StageFigures) -> str:
    if stage.seconds_to_drain is None:
        return "–" if stage.state is StageState.OK else "not at this rate"
    return _duration(stage.seconds_to_drain)
