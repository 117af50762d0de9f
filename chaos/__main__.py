"""`python -m chaos`: seeded faults on a temporary stack under load, and then an independent judge."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import uvloop
from rich.console import Console

from chaos import run as runs
from chaos.run import Outcome
from chaos.scenario import Scenario, by_ground
from chaos.scenarios.all import SCENARIOS
from gapless import cli
from gapless.demo_sale import raise_file_limit

LOGS = Path("gapless-chaos-logs")
_WIDTH_UNSEEN = 140
_FILES = 12_000


class Numbers(click.ParamType):
    """A scenario's number, several separated by commas, or `all`."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Return the numbers; unknown ones are an error."""
        if value == "all":
            return sorted(SCENARIOS)
        names = {str(number): number for number in SCENARIOS}
        parts = [part.strip() for part in str(value).split(",")]
        if unknown := [part for part in parts if part not in names]:
            self.fail(f"there is no scenario {', '.join(unknown)}; --list shows them", param, ctx)
        return [names[part] for part in parts]


@click.command()
@click.option("--scenario", "numbers", type=Numbers(), default="all", show_default=True, metavar="N[,N…]|all")
@click.option("--seed", type=int, default=1, show_default=True, help="Determines the faults and the requests.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of runs.")
@click.option(
    "--minutes", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Duration of faults in each run."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line per run.")
@click.option("--list", "listing", is_flag=True, help="Show the scenarios, and run nothing.")
def chaos(numbers: list[int], seed: int, seeds: int, minutes: float, as_json: bool, listing: bool) -> int:
    """Run faults against a real stack under load, and judge the outcome.

    The stack is temporary, and is removed at the end. The judge reads what a customer could read, and compares it with
    its own record of what was promised. Exits with 1 if a run did not hold.
    """
    console = Console(highlight=False, stderr=as_json, width=None if os.isatty(1) else _WIDTH_UNSEEN)
    if listing:
        for each in SCENARIOS.values():
            console.print(f"[bold]{each.number:2}[/bold]  {each.name}", soft_wrap=True)
            console.print(f"    holds when: {each.holds_when}", soft_wrap=True)
        return 0
    raise_file_limit(_FILES)
    failed = 0
    total = 0
    for outcome in _run_all(console, [SCENARIOS[number] for number in numbers], range(seed, seed + seeds), minutes):
        total += 1
        failed += not outcome.holds
        if as_json:
            click.echo(json.dumps(outcome.as_json()))
    if failed:
        console.print(f"[bold red]{failed} of {total} runs did not hold[/bold red]", soft_wrap=True)
        console.print(f"the stacks' logs are in {LOGS.absolute()}", soft_wrap=True)
    else:
        console.print(f"[bold green]all {total} runs held[/bold green]")
    return 1 if failed else 0


def _run_all(console: Console, scenarios: list[Scenario], seeds: range, minutes: float) -> Iterator[Outcome]:
    """Run scenarios; those on equal grounds share a stack, which is healed and drained between runs."""

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False)

    for ground, same in by_ground((each, seed) for each in scenarios for seed in seeds):
        with runs.standing(ground, LOGS) as made:
            for each, seed in same:
                console.print(f"[bold]scenario {each.number}: {each.name}[/bold], seed {seed}", soft_wrap=True)
                outcome = uvloop.run(runs.run(each, made, seed, 60 * minutes, say))
                _show(console, outcome)
                yield outcome


def _show(console: Console, outcome: Outcome) -> None:
    answers = ", ".join(f"{count:,} × {status}" for status, count in outcome.statuses.items())
    looked = ", ".join(f"{count:,} {what}" for what, count in sorted(outcome.verdict.counts.items()))
    console.print(f"  {outcome.faults} faults; answers: {answers}", soft_wrap=True)
    console.print(f"  the judge looked at {looked}", soft_wrap=True)
    for name, value in outcome.measured.items():
        console.print(f"  {name}: {value:,.2f}", soft_wrap=True)
    for line in (*outcome.found, *outcome.verdict.shown):
        console.print(f"  {line}", soft_wrap=True, markup=False, style="red")
    verdict = "[green]holds[/green]" if outcome.holds else "[red]does NOT hold[/red]"
    console.print(f"  {verdict}: {outcome.scenario.holds_when} ({outcome.seconds:.0f} s)\n", soft_wrap=True)


if __name__ == "__main__":
    cli.main(command=chaos, name="python -m chaos")
