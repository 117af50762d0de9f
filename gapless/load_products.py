"""`gapless load products`: put the products of files into the catalogue."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec
import uvloop

from gapless.load_report import Bar, target, target_options
from producers.client import GaplessClient, UnavailableError

#: Of one request, below the gateway's limits.
LINES_MAX = 500
_BYTES_MAX = 900_000
#: The next request is read while the last is written; more only wait for each other.
AT_ONCE = 2
_GIVE_UP_AFTER_S = 60.0
_REFUSALS_SHOWN = 20


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE…"
)
@target_options
def products(files: tuple[Path, ...], data: Path, url: str | None, api_key_file: Path | None) -> int:
    """Put the products of JSON Lines files, one with its `product_id` a line, into the catalogue.

    Lines are independent: what is refused is listed with its line and reason. Exits with 1 if any was. Sending a file
    again is harmless, and changes what differs alone.
    """
    where, api_key = target(data, url, api_key_file)
    outcomes: Counter[str] = Counter()
    refusals: list[str] = []
    total = sum(1 for _ in _lines(files))
    try:
        with Bar(total, outcomes) as bar:
            uvloop.run(_put(where, api_key, files, outcomes, refusals, bar))
    except* UnavailableError as group:
        raise click.ClickException(str(group.exceptions[0])) from None
    for line in refusals[:_REFUSALS_SHOWN]:
        click.echo(line, err=True)
    if len(refusals) > _REFUSALS_SHOWN:
        click.echo(f"and {len(refusals) - _REFUSALS_SHOWN:,} more", err=True)
    click.echo(f"{outcomes['new']:,} new, {outcomes['there already']:,} there already, {outcomes['refused']:,} refused")
    return 1 if refusals else 0


async def _put(
    url: str, api_key: str, files: Iterable[Path], outcomes: Counter[str], refusals: list[str], bar: Bar
) -> None:
    requests = _requests(_lines(files))
    async with GaplessClient(url, api_key, connections=AT_ONCE, give_up_after_s=_GIVE_UP_AFTER_S) as client:

        async def send() -> None:
            for places, body in requests:
                answer = await client.put_products(body)
                if answer.status != 200:
                    raise click.ClickException(f"answered {answer.status}: {answer.payload[:200].decode()}")
                for place, line in zip(places, answer.payload.splitlines(), strict=True):
                    told = msgspec.json.decode(line)
                    if told["status"] < 400:
                        outcomes["new" if told["status"] == 201 else "there already"] += 1
                        continue
                    outcomes["refused"] += 1
                    field = f"{told['field']}: " if "field" in told else ""
                    refusals.append(f"{place}: {told['product_id'] or '-'}: {field}{told['detail']}")
                bar.moved()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(send())


def _lines(files: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Each line that is not empty, with its file and number."""
    for path in files:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}:{number}", line.rstrip(b"\r\n")


def _requests(lines: Iterable[tuple[str, bytes]]) -> Iterator[tuple[list[str], bytes]]:
    """The lines in bodies that the gateway takes, each with where its lines stand."""
    places: list[str] = []
    body: list[bytes] = []
    size = 0
    for place, line in lines:
        if body and (len(body) >= LINES_MAX or size + len(line) > _BYTES_MAX):
            yield places, b"\n".join(body)
            places, body, size = [], [], 0
        places.append(place)
        body.append(line)
        size += len(line) + 1
    if body:
        yield places, b"\n".join(body)
