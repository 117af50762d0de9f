"""`gapless load checkouts`: generated buyers of a few articles, all at once or at a rate."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import uvloop

from gapless.load_report import Bar, is_refused, refusal, show, target, target_options, told
from producers.client import GaplessClient, GatewayAnswer
from producers.generate import checkouts as make_checkouts
from producers.load import WORKERS, LoadReport, run
from producers.wire import WireClient

#: Unexpected answers that are shown with their reason.
_ODDITIES_MAX = 10
_STOCK_AT_ONCE = 32
#: The report's names of outcomes, by the answer's status or the problem's name.
_CONFIRMED, _PENDING = "confirmed", "accepted"
_EXPECTED = {
    "out-of-stock": "out of stock",
    "payment-declined": "declined",
    "order-cancelled": "not paid in time",
}


class _Problem(msgspec.Struct):
    """The field of a problem that is read."""

    type: str = ""


_problems = msgspec.json.Decoder(_Problem)


class TokenShares(click.ParamType):
    """`tok_ok=0.9,tok_decline=0.1`; a name without a number has share 1."""

    name = "shares"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        """Return the weights by name."""
        shares = {}
        for part in str(value).split(","):
            name, _, weight = part.partition("=")
            try:
                shares[name.strip()] = float(weight or 1)
            except ValueError:
                self.fail(f"{part!r} is not NAME=SHARE", param, ctx)
        if "" in shares or min(shares.values()) < 0 or not sum(shares.values()):
            self.fail("each share needs a name and a number of 0 or more, at least one above 0", param, ctx)
        return shares


@click.command()
@click.option("--count", type=click.IntRange(min=1), required=True, help="Checkouts to send.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Checkouts a second. Default: full speed.")
@click.option("--sku", help="The one article that all checkouts want.")
@click.option("--skus", type=click.IntRange(min=1), metavar="K", help="Articles to spread over: SKU-1 to SKU-K.")
@click.option("--stock", type=click.IntRange(min=0), metavar="PIECES", help="Set each article's stock first.")
@click.option("--customers", type=click.IntRange(min=1), help="Customers, in turn. Default: one for each checkout.")
@click.option("--wait", type=click.IntRange(1, 30), metavar="SECONDS", help="Have each answer wait for the outcome.")
@click.option(
    "--tokens", type=TokenShares(), default="tok_ok", show_default=True, help="Means of payment, by their shares."
)
@click.option(
    "--buyers",
    type=click.IntRange(min=1),
    default=WORKERS,
    show_default=True,
    help="Concurrent buyers, each with a connection of its own; the others queue in this process.",
)
@click.option("--prefix", default="C", show_default=True, help="Of order ids: the same prefix repeats the same orders.")
@click.option("--seed", type=int, default=1, show_default=True, help="Determines who pays how.")
@click.option("--give-up-after", type=float, default=60.0, show_default=True, help="Seconds a request is retried.")
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def checkouts(
    count: int,
    rate: float | None,
    sku: str | None,
    skus: int | None,
    stock: int | None,
    customers: int | None,
    wait: int | None,
    tokens: dict[str, float],
    buyers: int,
    prefix: str,
    seed: int,
    give_up_after: float,
    data: Path,
    url: str | None,
    api_key_file: Path | None,
    as_json: bool,
) -> int:
    """Send checkouts of one piece each, and report their outcomes.

    Requests that the gateway asks to retry are retried; out of stock and a declined payment are outcomes. Exits with 1
    if a request got no answer, or was refused for another reason.
    """
    if (sku is None) == (skus is None):
        raise click.UsageError("give --sku or --skus")
    articles = [sku] if sku is not None else [f"SKU-{number}" for number in range(1, (skus or 1) + 1)]
    where, api_key = target(data, url, api_key_file)
    payloads = make_checkouts(
        count, seed=seed, skus=articles, customers=customers or count, tokens=tokens, prefix=prefix
    )
    outcomes: Counter[str] = Counter()
    oddities: list[str] = []

    def look(payload: bytes, answer: GatewayAnswer) -> None:
        outcome = outcome_of(answer)
        outcomes[outcome] += 1
        if is_refused(answer.status) and outcome not in _EXPECTED.values() and len(oddities) < _ODDITIES_MAX:
            oddities.append(refusal(payload, answer))
        bar.moved()

    async def send() -> LoadReport:
        make = WireClient if where.startswith("http://") else GaplessClient
        chance = random.Random(seed)  # noqa: S311 - spreads retries, guards nothing.
        async with make(where, api_key, connections=buyers, give_up_after_s=give_up_after, chance=chance) as client:
            if stock is not None:
                await put_stock(client, articles, stock)
            return await run(
                client, payloads, rate=rate, workers=buyers, wait_s=wait, on_answer=look, post=client.post_checkout
            )

    with Bar(count, outcomes) as bar:
        report = uvloop.run(send())
    if as_json:
        click.echo(json.dumps(told(report, outcomes), indent=2))
    else:
        show(report, outcomes)
    for line in (*oddities, *report.failures):
        click.echo(line, err=True)
    return 1 if oddities or report.failed else 0


def outcome_of(answer: GatewayAnswer) -> str:
    """The report's name of a checkout's outcome."""
    if not is_refused(answer.status):
        return _PENDING if answer.status == 202 else _CONFIRMED
    try:
        name = _problems.decode(answer.payload).type.rpartition("/")[2]
    except msgspec.DecodeError:
        name = ""
    return _EXPECTED.get(name, name or f"answered {answer.status}")


async def put_stock(client: GaplessClient, skus: Sequence[str], pieces: int) -> None:
    """Set the stock of each article. Raises `click.ClickException` for a refusal, and `UnavailableError`."""
    gate = asyncio.Semaphore(_STOCK_AT_ONCE)

    async def put(sku: str) -> None:
        async with gate:
            answer = await client.put_stock(sku, pieces)
        if is_refused(answer.status):
            raise click.ClickException(f"the stock of {sku}: {answer.status} {answer.payload[:200].decode()}")

    await asyncio.gather(*(put(sku) for sku in skus))
