"""The demo's flash sale: all buyers want the same article at the same instant, while others shop as usual."""

import asyncio
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from gapless.demo_steps import StuckError, Target
from gapless.load_checkouts import outcome_of, put_stock
from gapless.stock import connected, copy_levels
from producers.client import GatewayAnswer
from producers.generate import checkouts
from producers.load import LoadReport, run
from runtime.settings import Settings

#: The article of the sale, and its pieces.
SKU = "FLASH"
PIECES = 500
#: Other shoppers meanwhile: their checkouts, the rate per second, and their articles.
OTHERS = 400
_OTHERS_A_SECOND = 40.0
_ARTICLES = 20
_PLENTY = 10_000
#: Some cards are declined, and some calls of the provider fail or never return, with or without an effect.
_TOKENS = {"tok_ok": 0.87, "tok_decline": 0.1, "tok_5xx": 0.01, "tok_timeout_charged": 0.01, "tok_timeout": 0.01}
_WAIT_S = 15
_SEED = 1
_POLL_S = 0.2
_STANDSTILL_S_MAX = 90.0
#: Open files that a process needs in addition to the buyers' connections.
_FILES_KEPT = 512

_DECIDED = """
SELECT count(*) FILTER (WHERE o.state = 'CONFIRMED' AND l.sku = %(sku)s),
       count(*) FILTER (WHERE o.state IN ('PLACED', 'PAYMENT_PENDING')), count(*)
FROM orders o LEFT JOIN order_lines l USING (seller_id, order_id)
"""


@dataclass(slots=True)
class SaleResult:
    """The sale's results."""

    buyers: int
    answers: LoadReport = field(default_factory=LoadReport)
    outcomes: Counter[str] = field(default_factory=Counter)
    others: LoadReport = field(default_factory=LoadReport)
    others_outcomes: Counter[str] = field(default_factory=Counter)
    sold: int = 0
    #: Orders that still hold stock without being paid.
    holds_left: int = 0

    @property
    def pieces(self) -> int:
        """How many pieces can be sold."""
        return min(PIECES, self.buyers)

    @property
    def unanswered(self) -> int:
        """Checkouts without an answer, and those refused for a reason that has nothing to do with the sale."""
        odd = sum(count for status, count in self.answers.statuses.items() if status not in (202, 201, 409))
        odd += sum(count for status, count in self.others.statuses.items() if status not in (202, 201, 402))
        return self.answers.failed + self.others.failed + odd


def raise_file_limit(buyers: int) -> int:
    """Raise this process's limit of open files, which its children inherit; returns how many buyers can connect."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > soft:
        wanted = buyers + 2 * _FILES_KEPT
        soft = max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(buyers, soft - _FILES_KEPT))


async def flash_sale(console: Console, target: Target, settings: Settings, buyers: int, connections: int) -> SaleResult:
    """Run the sale, and return when every buyer has an answer and no payment is under way.

    As many buyers as there are `connections` post at the same instant, the others as connections become free.
    Raises `StuckError`, `producers.client.UnavailableError`.
    """
    sale = SaleResult(buyers)
    articles = [f"SKU-{number}" for number in range(1, _ARTICLES + 1)]
    async with target.client(8) as client:
        await put_stock(client, [SKU], PIECES)
        await put_stock(client, articles, _PLENTY)
    # As a seller does before a sale, so that admission knows the stock.
    await connected(settings, lambda mirror, session: copy_levels(mirror, session, [SKU, *articles], shards=1))
    flash = checkouts(buyers, seed=_SEED, skus=[SKU], customers=buyers, tokens={"tok_ok": 1.0}, prefix="SALE")
    shopping = checkouts(OTHERS, seed=_SEED, skus=articles, customers=OTHERS, tokens=_TOKENS, prefix="SHOP")

    async def sell() -> None:
        async with target.client(connections) as client:
            sale.answers = await run(
                client, flash, workers=connections, on_answer=_counted(sale.outcomes), post=client.post_checkout
            )

    async def shop() -> None:
        async with target.client(OTHERS) as client:
            sale.others = await run(
                client,
                shopping,
                rate=_OTHERS_A_SECOND,
                wait_s=_WAIT_S,
                on_answer=_counted(sale.others_outcomes),
                post=client.post_checkout,
            )

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(shop()), group.create_task(sell())]
        await _watch(console, target, sale, tasks)
    return sale


def _counted(outcomes: Counter[str]) -> Any:
    def count(payload: bytes, answer: GatewayAnswer) -> None:
        outcomes[outcome_of(answer)] += 1

    return count


async def _watch(console: Console, target: Target, sale: SaleResult, tasks: list["asyncio.Task[None]"]) -> None:
    """Show progress until all checkouts are answered and decided."""
    columns = (
        TextColumn("   {task.description:<21}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[found]}"),
    )
    with Progress(*columns, console=console) as bars, psycopg.connect(target.postgres_url, autocommit=True) as ledger:
        answered = bars.add_task("buyers answered", total=sale.buyers, found="")
        sold = bars.add_task(f"of {PIECES} sold and paid", total=sale.pieces, found="")
        others = bars.add_task("others answered", total=OTHERS, found="")
        last: tuple[int, ...] = ()
        moved_at = time.monotonic()
        while True:
            rows = ledger.execute(_DECIDED, {"sku": SKU}).fetchone() or (0, 0, 0)
            sale.sold, sale.holds_left = int(rows[0]), int(rows[1])
            bars.update(answered, completed=sale.outcomes.total(), found=_words(sale.outcomes))
            bars.update(sold, completed=sale.sold, found=f"{sale.holds_left:,} payments under way")
            bars.update(others, completed=sale.others_outcomes.total(), found=_words(sale.others_outcomes))
            if all(task.done() for task in tasks) and not sale.holds_left and sale.sold >= sale.pieces:
                return
            now = (*rows, sale.outcomes.total(), sale.others_outcomes.total())
            if now != last:
                last, moved_at = now, time.monotonic()
            elif time.monotonic() - moved_at > _STANDSTILL_S_MAX:
                raise StuckError(f"nothing moved for {_STANDSTILL_S_MAX:g} s; {sale.sold} of {sale.pieces} are sold")
            await asyncio.sleep(_POLL_S)


def _words(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
