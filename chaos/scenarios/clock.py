"""Faults of the clock: an hour forward, an hour back, and midnight on 31 December."""

import asyncio
import importlib.util
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg

from chaos.scenario import ENVIRONMENT, WORKERS, Ground, scenario
from chaos.world import World
from runtime.roles import READERS

_LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"
_ZONE = ZoneInfo("Europe/Paris")
_HOUR_S = 3600
#: Seconds between the start of the load and midnight.
_BEFORE_MIDNIGHT_S = 3.0
_SET_UP_S_MAX = 180.0
#: Invoices whose series or number has another year than their date in the seller's time zone.
_WRONG_YEAR = """
SELECT i.series_id, i.invoice_number, i.issued_at AT TIME ZONE s.time_zone
FROM invoices i JOIN sellers s USING (seller_id)
WHERE right(i.series_id, 5) <> '.' || extract(year FROM i.issued_at AT TIME ZONE s.time_zone)::text
   OR i.invoice_number NOT LIKE '%-' || extract(year FROM i.issued_at AT TIME ZONE s.time_zone)::text || '-%'
"""
_YEARS = """
SELECT extract(year FROM i.issued_at AT TIME ZONE s.time_zone)::int, count(*)
FROM invoices i JOIN sellers s USING (seller_id) GROUP BY 1
"""
#: Postgres' clock can't be set, so this replaces the function that reads it: by the same rule, but seconds ahead.
_BELIEVED = """
CREATE OR REPLACE FUNCTION believed(worker_clock timestamptz) RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE
    WHEN abs(extract(epoch FROM worker_clock - now()) - {ahead_s}) <= 60 THEN worker_clock
    ELSE now() + make_interval(secs => {ahead_s})
END
"""


def faketime_library() -> str | None:
    """The library to preload into a process to fake its clock; None if it is not installed."""
    spec = importlib.util.find_spec("libfaketime")
    if spec is None or spec.origin is None or sys.platform != "linux":
        return None
    path = Path(spec.origin).parent / _LIBRARY
    return str(path) if path.exists() else None


def _environment() -> dict[str, str]:
    library = faketime_library()
    if library is None:
        return dict(ENVIRONMENT)
    return {
        **ENVIRONMENT,
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": "{data}/clock.{name}",
        # How often it reads its file, which is also its delay.
        "FAKETIME_CACHE_DURATION": "1",
        # Setting a clock does not change the monotonic clock.
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


class Clocks:
    """The clocks of the agents and the provider; gateway, relay and services have the machine's."""

    def __init__(self, world: World) -> None:
        self._world = world
        # Not those of other processes: their Kafka library waits for absolute times of the machine's clock.
        self.names = world.processes("provider", *READERS)
        #: Seconds by which all clocks are ahead of the machine's.
        self.ahead_s = 0.0

    def agree_on(self, ahead_s: float) -> None:
        """Set all clocks this many seconds ahead of the machine's, Postgres' too."""
        self.ahead_s = ahead_s
        with psycopg.connect(self._world.postgres_url) as connection:
            connection.execute(_BELIEVED.format(ahead_s=round(ahead_s, 3)).encode())
        self.set(0)

    def set(self, seconds: float, *names: str) -> None:
        """Set clocks this far from what `agree_on` set; of all processes if none is named."""
        for name in names or self.names:
            file = self._world.stack.data / f"clock.{name}"
            partial = file.with_suffix(".partial")
            partial.write_text(f"{self.ahead_s + seconds:+.3f}\n")
            # Atomically: a partly written number would be another time.
            partial.replace(file)


@scenario(
    18,
    "the clock jumps an hour, either way; 31 December at local midnight",
    "no order lost, right year in the series",
    Ground(workers=dict(WORKERS), environment=_environment(), single_use=True),
)
async def set_the_clock(world: World) -> None:
    """The year ends under load; then the clocks of all or some processes jump to the old year and back."""
    if faketime_library() is None:
        world.found.append("clocks can't be set: libfaketime is not installed")
        return
    await asyncio.to_thread(_number_by_year, world)
    clocks = Clocks(world)
    midnight = datetime(datetime.now(_ZONE).year + 1, 1, 1, tzinfo=_ZONE)
    async with world.traffic():
        ahead = midnight - timedelta(seconds=_HOUR_S) - datetime.now(UTC)
        await asyncio.to_thread(clocks.agree_on, ahead.total_seconds())
        await world.until(lambda: _has_numbers(world), "numbers of the old year", _SET_UP_S_MAX)
        ahead = midnight - timedelta(seconds=_BEFORE_MIDNIGHT_S) - datetime.now(UTC)
        await asyncio.to_thread(clocks.agree_on, ahead.total_seconds())
        world.timeline.befell(f"it is {_BEFORE_MIDNIGHT_S:g} s to midnight of 31 December in {_ZONE.key}")
        await asyncio.sleep(2 * _BEFORE_MIDNIGHT_S)
        async for _ in world.turns(0.5, 2.0):
            seconds = world.chance.choice((_HOUR_S, -_HOUR_S, 0))
            names = clocks.names
            if world.chance.random() < 0.6:
                names = world.chance.sample(names, world.chance.randrange(1, len(names)))
            clocks.set(seconds, *names)
            world.timeline.befell(f"{seconds:+} s: the clocks of {len(names)} processes")
        # Otherwise work deferred to a time that no clock reaches any more would wait for ever.
        await asyncio.to_thread(clocks.agree_on, clocks.ahead_s + _HOUR_S)
        world.timeline.note("all clocks agree, an hour later")
    await world.until_ready()
    if await world.drained():
        await asyncio.to_thread(_check, world)


def _number_by_year(world: World) -> None:
    options = ("--numbering-policy", "continuous", "--time-zone", _ZONE.key, "--data", str(world.stack.data))
    command = [sys.executable, "-m", "gapless", "sellers", "set", "demo", *options]
    subprocess.run(command, check=True, capture_output=True, timeout=_SET_UP_S_MAX)  # noqa: S603


def _has_numbers(world: World) -> bool:
    with psycopg.connect(world.postgres_url) as connection:
        return connection.execute("SELECT FROM invoices LIMIT 1").fetchone() is not None


def _check(world: World) -> None:
    with psycopg.connect(world.postgres_url) as connection:
        wrong = connection.execute(_WRONG_YEAR).fetchall()
        years: dict[int, int] = dict(connection.execute(_YEARS).fetchall())
    for series_id, number, issued_at in wrong[:10]:
        world.found.append(f"{number} of {series_id} was issued on {issued_at}")
    for year, count in years.items():
        world.measured[f"invoices of {year}"] = count
    if len(years) < 2:
        world.found.append(f"all invoices are of one year: {years}")
