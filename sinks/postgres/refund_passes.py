"""Passes through the lists of refunds at the payment providers: who lists, from when, and how far it has come."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sinks.postgres.session import SQL, Connection


class PassTurn(NamedTuple):
    """The next page of a pass, taken up under a lease."""

    provider: str
    #: Another number each time.
    turn: int
    #: How often this page was taken up, this time included.
    tries: int
    #: Refunds made before this were listed by earlier passes.
    listed_until: datetime
    #: The provider's id of the refund after which the page begins; empty for the first page.
    after: str


async def add_passes(
    connection: Connection, providers: Sequence[str], first_seconds: float, every_seconds: float
) -> None:
    """Add the passes that are missing, and have none due later than `every_seconds` from now. Commits.

    The first pass of a provider looks `first_seconds` back.
    """
    await connection.execute(
        SQL["add_refund_passes"], {"providers": sorted(providers), "first": first_seconds, "every": every_seconds}
    )


async def take_pass(connection: Connection, provider: str, lease_seconds: float) -> PassTurn | None:
    """Take up the next page if it is due, for `lease_seconds`; None if it isn't. Commits."""
    cursor = await connection.execute(SQL["take_refund_pass"], {"provider": provider, "lease": lease_seconds})
    row = await cursor.fetchone()
    return None if row is None else PassTurn(*row)


async def move_pass(connection: Connection, turn: PassTurn, after: str | None, pause_seconds: float) -> bool:
    """Go on after this refund, or end the pass if it is None; False if the turn is over already.

    Empty is the beginning. In the caller's transaction. The next page, or the next pass, is due after the pause.
    """
    cursor = await connection.execute(
        SQL["move_refund_pass"],
        {
            "provider": turn.provider,
            "turn": turn.turn,
            "is_over": after is None,
            "after": after or "",
            "pause": pause_seconds,
        },
    )
    return await cursor.fetchone() is not None


async def retry_pass(connection: Connection, turn: PassTurn, after_seconds: float) -> None:
    """Have the page taken up again later, unless the turn is over already. Commits."""
    await connection.execute(
        SQL["retry_refund_pass"], {"provider": turn.provider, "turn": turn.turn, "after": after_seconds}
    )


async def ask_for_passes(connection: Connection, since: datetime) -> list[str]:
    """Have all refunds listed now that were made since then; return the providers that are asked. Commits."""
    cursor = await connection.execute(SQL["ask_for_refund_passes"], {"since": since})
    return sorted(provider for (provider,) in await cursor.fetchall())


async def read_ages(connection: Connection, providers: Sequence[str]) -> dict[str, float]:
    """By provider, the seconds since the last pass that has come to its end began."""
    cursor = await connection.execute(SQL["read_refund_pass_ages"], {"providers": list(providers)})
    return {provider: float(age) for provider, age in await cursor.fetchall()}


async def read_known_attempts(connection: Connection, provider_keys: Collection[str]) -> set[str]:
    """Those of these provider keys under which there is an attempt."""
    cursor = await connection.execute(SQL["read_known_attempts"], {"provider_keys": sorted(provider_keys)})
    return {provider_key for (provider_key,) in await cursor.fetchall()}
