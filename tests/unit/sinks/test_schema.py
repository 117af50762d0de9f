"""The versions of servers that a release runs on."""

import pytest

from runtime.exits import StartRefusedError
from sinks.postgres.migrate import migration_files
from sinks.postgres.schema import require_server


@pytest.mark.parametrize("version", [150_018, 160_004])
def test_a_server_that_is_too_old_is_refused_by_its_version(version: int) -> None:
    """Every statement would fail on it, because it doesn't know `transaction_timeout`."""
    with pytest.raises(StartRefusedError, match=rf"Postgres {version // 10_000}\.\d+, and gapless needs 17 or later"):
        require_server(version)


def test_servers_from_17_on_are_accepted() -> None:
    for version in (170_000, 180_006, 190_000):
        require_server(version)


def test_migrations_are_numbered_one_by_one() -> None:
    """They are applied in the order of their names, which two equal numbers would leave undefined."""
    numbers = [int(file.name[:4]) for file in migration_files()]
    assert numbers == list(range(1, len(numbers) + 1))
