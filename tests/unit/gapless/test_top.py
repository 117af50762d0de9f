"""`gapless top` shows a measurement as a table."""

from rich.console import Console

from gapless.top import render
from monitor.figures import (
    DeadLetters,
    Headline,
    Measurement,
    Payments,
    ProcessFigures,
    Rates,
    StageFigures,
    StageState,
)


def stage(name: str, state: StageState, lag: int, seconds: float, drain: float | None, cause: str = "") -> StageFigures:
    """A stage with the rates of a load."""
    return StageFigures(name, "does", state, lag, seconds, Rates(12.5, 3.0, 0, 0), drain, cause, (), ())


def shown(*stages: StageFigures) -> list[str]:
    """The printed lines."""
    measurement = Measurement(
        0.0,
        "",
        Headline(1_234.4, 0.0, None, 61.0, 3_725.0),
        stages,
        Payments(2, 1.0, 3, 4.0),
        (DeadLetters("invoice-requests", "undecodable", 4, 9.0), DeadLetters("order-commands", "foreign", 1, 9.0)),
        (
            ProcessFigures("relay", False, "can't be reached: refused, since 14:03:22"),
            ProcessFigures("gateway", True, ""),
        ),
    )
    console = Console(width=120)
    with console.capture() as captured:
        console.print(render(measurement))
    return [" ".join(line.split()) for line in captured.get().splitlines() if line.strip()]


def test_each_stage_has_a_line_with_its_cause() -> None:
    lines = shown(
        stage("checkouts", StageState.OK, 0, 0.0, 0.0),
        stage("invoices", StageState.STALLED, 4_321, 75.0, None, "no worker owns it [b]since[/b] 14:03:22"),
        stage("documents", StageState.BEHIND, 12, 7.25, 9.5),
        stage("relay", StageState.OK, 3, 0.01, None),
    )
    assert "accepted 1,234/s numbered 0/s accepted to numbered – p50, 1 min 1 s p99 oldest 1 h 2 min" in lines
    assert "checkouts ok 0 s 0 12 3.0 0 s" in lines
    assert "invoices stalled 1 min 15 s 4,321 12 3.0 not at this rate no worker owns it [b]since[/b] 14:03:22" in lines
    assert "documents behind 7.2 s 12 12 3.0 9.5 s" in lines
    assert "relay ok 0.0 s 3 12 3.0 –" in lines


def test_what_else_waits_is_counted_and_who_is_not_ready_is_named() -> None:
    lines = shown()
    assert "2 payments under way, 3 orders hold stock, 5 dead letters" in lines
    assert "relay: can't be reached: refused, since 14:03:22" in lines
    assert not any("gateway" in line for line in lines)
