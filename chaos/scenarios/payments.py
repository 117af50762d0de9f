"""Faults of the payment provider, and payments that outlast the hold: no sale unpaid, no payment without a sale."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg

from chaos.buyers import shop_for
from chaos.record import Kind
from chaos.scenario import ENVIRONMENT, Ground, scenario
from chaos.traffic import Traffic
from chaos.world import World

_CALL_SECONDS_MAX = 10.0
#: Checkouts a second in scenarios about payments.
_RATE = 20.0
#: How long an open breaker refuses all calls, and how many trial calls follow. See `docs/payments.md`.
_BREAKER_SECONDS = 30.0
_PROBES_MAX = 3
_BREAKER_SEEN_SECONDS_MAX = 120.0
_AWAY_SECONDS_MAX = 300.0
_AWAY_SHARE = 0.7
#: Orders that are shipped before anything is refunded in the dashboard.
_SHIPPED_MIN = 8
#: Share of turns with a kill, and of refunds in the dashboard of all that is left.
_KILLED, _WHOLE = 0.25, 0.3
#: Share of refunds in the dashboard of which a notice tells.
_NOTICED = 0.5
_PASS_SECONDS_MAX = 90.0
_OPEN = 'gapless_payment_breaker{state="open"}'


@scenario(
    12,
    "the payment provider is down for 5 minutes",
    "the breaker opens; orders wait or are refused with a reason; nothing is lost",
)
async def provider_down(world: World) -> None:
    """The provider is down for most of the run, while orders continue to come."""
    away_s = min(_AWAY_SECONDS_MAX, world.seconds * _AWAY_SHARE)
    async with world.traffic():
        await asyncio.sleep((world.seconds - away_s) / 2)
        world.hold("provider")
        opened = await world.until(
            lambda: world.metrics("payments-1").get(_OPEN) == 1.0, "the breaker is open", _BREAKER_SEEN_SECONDS_MAX
        )
        before = _calls(world)
        if opened:
            world.timeline.note("the breaker is open")
        await asyncio.sleep(away_s)
        spent = _calls(world) - before
        world.measured["calls of the unavailable provider behind an open breaker"] = spent
        probes_max = _PROBES_MAX * (math.ceil(away_s / _BREAKER_SECONDS) + 1)
        if opened and spent > probes_max:
            world.found.append(f"{spent:g} calls in {away_s:g} s of an open breaker, which permits {probes_max} trials")
        world.release("provider")
        await asyncio.sleep((world.seconds - away_s) / 2)
    await world.drained()
    await _check_outcomes(world)


@scenario(
    10,
    "a hold expires while its payment goes through",
    "sold and paid, or released and voided: never both, never neither",
    Ground(detours={"payments-1": ("provider",)}, environment={"GAPLESS_HOLD_SECONDS": "2"}),
)
async def holds_expire(world: World) -> None:
    """Holds of two seconds, and a provider that answers before, around and after their end."""
    shop = world.shop()
    scarce = f"{world.prefix}-FEW"
    tokens = {"tok_ok": 50, "tok_slow": 30, "tok_timeout_charged": 4, "tok_late": 4, "tok_timeout": 2, "tok_decline": 5}
    async with world.client(128) as client:
        traffic = Traffic(client, shop, rate=1.0)
        await traffic.prepare()
        # Pieces released by a late payment are sold to another order, so that the late payment finds none.
        await traffic.stock(scarce, max(5, int(world.seconds)))
        loading = asyncio.create_task(
            shop_for(
                traffic,
                world.seconds,
                _RATE,
                lambda: shop.checkout(
                    token=shop.chance.choices(list(tokens), list(tokens.values()))[0],
                    sku=shop.chance.choice((shop.articles[0], scarce)),
                    quantity=1,
                ),
            )
        )
        try:
            await _vary_latency(world)
        finally:
            await loading
    world.heal()
    if await world.drained():
        found = await _check_outcomes(world)
        expired = sum(count for (state, _), count in found.items() if state == "CANCELLED")
        if not expired or not found["CONFIRMED", "authorized"]:
            world.found.append(f"payments were all in time, or all too late, so nothing was tested: {dict(found)}")


async def _vary_latency(world: World) -> None:
    """Vary the provider's latency: tok_slow around the end of a hold, other calls at random."""
    async for _ in world.turns(0.3, 1.0):
        delay_s = world.chance.choice((0.0, 0.0, 0.4, 0.8, 1.0, 1.2))
        world.proxy("payments-1", "provider").delay(delay_s)
        slow_s = round(world.chance.uniform(1.6, 2.4), 2)
        await _behave(world, slow_s=slow_s)
        world.timeline.befell(f"the provider is delayed by {delay_s:g} s, tok_slow by {slow_s:g} s")


@scenario(
    11,
    "the payment provider times out after it has charged",
    "at most one charge; the outcome is asked for, not assumed",
    Ground(environment={"GAPLESS_HOLD_SECONDS": "60"}),
)
async def charged_in_silence(world: World) -> None:
    """Charges whose answer is lost, late or cut, while the payments worker is killed again and again."""
    tokens = {"tok_ok": 50, "tok_timeout_charged": 15, "tok_cut": 15, "tok_duplicate": 10, "tok_late": 10}
    shop = world.shop()
    async with world.client(128) as client:
        traffic = Traffic(client, shop, rate=1.0)
        await traffic.prepare()
        loading = asyncio.create_task(
            shop_for(
                traffic,
                world.seconds,
                _RATE,
                lambda: shop.checkout(
                    token=shop.chance.choices(list(tokens), list(tokens.values()))[0], sku=shop.articles[0], quantity=1
                ),
            )
        )
        try:
            async for _ in world.turns(2.0, 5.0):
                await world.restart("payments-1")
        finally:
            await loading
    if await world.drained():
        await _check_outcomes(world)
    payments = _ledger(world)
    asked = sum(value for name, value in world.metrics("payments-1").items() if 'calls_total{action="ask"' in name)
    world.measured["charges"] = len(payments)
    world.measured["asked by the last worker"] = asked
    for payment in payments:
        if payment["acted"] > 1 or payment["blind"]:
            world.found.append(f"charged {payment['acted']} times, sent {payment['blind']} times blindly: {payment}")
    if not asked:
        world.found.append("the provider was never asked about a payment, so nothing was tested")


@scenario(
    29,
    "payments are refunded in the provider's dashboard",
    "each such refund has one credit note; here and there together no more is refunded than was captured",
    Ground(environment={**ENVIRONMENT, "GAPLESS_REFUND_PASS_SECONDS": "2"}),
)
async def refunded_in_dashboard(world: World) -> None:
    """Refunds of random payments, here and there at once, while payments workers and gateways are killed.

    Half of the notices are lost, besides those that no gateway took: passes through the provider's list find the rest.
    """
    made = 0
    await _behave(world, dashboard_notices=_NOTICED)
    async with world.traffic() as traffic:
        for _ in range(_SHIPPED_MIN):
            asked = traffic.shop.checkout(token="tok_ok", sku=traffic.shop.articles[0], quantity=2)  # noqa: S106
            await traffic.post(asked, wait_s=30)
            await traffic.ship(asked.order_id)
        async for _ in world.turns(0.1, 0.6):
            made += await asyncio.to_thread(_refund_in_dashboard, world)
            if world.chance.random() < _KILLED:
                await world.restart(world.chance.choice(world.processes("payments", "gateway")))
    await world.until_ready()
    over_at = datetime.now(UTC)
    await world.until(lambda: _is_listed(world, over_at), "all refunds are listed", _PASS_SECONDS_MAX)
    await world.drained()
    await _check_outcomes(world)
    world.measured["refunds in the dashboard"] = made
    if not made:
        world.found.append("nothing was refunded in the dashboard, so nothing was tested")


def _refund_in_dashboard(world: World) -> bool:
    """Refund a random payment in part, or all that is left of it; False if there is none."""
    left = {
        payment["order_id"]: payment["captured_minor"] - payment["refunded_minor"]
        for payment in _ledger(world)
        if payment["captured_minor"] > payment["refunded_minor"]
    }
    if not left:
        return False
    order_id = world.chance.choice(sorted(left))
    amount_minor = left[order_id] if world.chance.random() < _WHOLE else world.chance.randint(1, left[order_id])
    body = json.dumps({"order_id": order_id, "amount_minor": amount_minor}).encode()
    request = Request(f"{world.settings.provider_url}/dashboard/refunds", body, method="POST")  # noqa: S310 - our own.
    try:
        with urlopen(request, timeout=_CALL_SECONDS_MAX):  # noqa: S310 - our own.
            pass
    except HTTPError as error:
        # Refunded here since the ledger was read.
        if error.code != HTTPStatus.CONFLICT:
            raise
        return False
    world.timeline.count("a refund in the dashboard")
    return True


def _is_listed(world: World, until: datetime) -> bool:
    """Whether a pass through the provider's list has ended that began later than that."""
    with psycopg.connect(world.postgres_url, connect_timeout=5) as connection:
        rows = connection.execute("SELECT listed_until FROM refund_passes").fetchall()
    return bool(rows) and all(listed_until > until for (listed_until,) in rows)


async def _check_outcomes(world: World) -> Counter[tuple[str, str]]:
    """Count checkouts by state and payment; report those that are neither sold and paid, nor released and unpaid."""
    found: Counter[tuple[str, str]] = Counter()
    async with world.client(32) as client:
        accepted = [
            order_id
            for (kind, order_id), asked in world.record.asked.items()
            if kind is Kind.CHECKOUT and asked.accepted
        ]
        for order_id in accepted:
            order = (await client.get_order(order_id)).json()
            end = order.get("state", "none"), (order.get("payment") or {}).get("status", "none")
            found[end] += 1
            if end not in _ENDS:
                world.found.append(f"{order_id} ended as {end}")
    for (state, payment), count in sorted(found.items()):
        world.measured[f"orders {state}, payment {payment}"] = count
    return found


#: The permitted pairs of an order's state and payment after draining.
_ENDS = frozenset(
    {
        ("CONFIRMED", "authorized"),
        ("CANCELLED", "voided"),
        ("CANCELLED", "failed"),
        ("CANCELLED", "declined"),
        ("REFUSED", "none"),
        ("rejected", "none"),
        ("SHIPPED", "captured"),
        ("DELIVERED", "captured"),
        ("SHIPPED", "partially-refunded"),
        ("DELIVERED", "partially-refunded"),
        ("REFUNDED", "refunded"),
    }
)


def _calls(world: World) -> float:
    """The payments worker's calls of the provider since it started."""
    told = world.metrics("payments-1")
    return sum(value for name, value in told.items() if name.startswith("gapless_payment_calls_total{"))


def _ledger(world: World) -> list[dict[str, Any]]:
    """This run's payments in the provider's ledger."""
    with urlopen(f"{world.settings.provider_url}/ledger", timeout=_CALL_SECONDS_MAX) as answer:  # noqa: S310 - our own.
        payments: list[dict[str, Any]] = json.load(answer)["payments"]
    return [payment for payment in payments if payment["order_id"].startswith(world.prefix)]


async def _behave(world: World, **changes: float) -> None:
    """Change the provider's behaviour."""
    await asyncio.to_thread(_put, f"{world.settings.provider_url}/behaviour", changes)


def _put(url: str, value: Mapping[str, Any]) -> None:
    request = Request(url, json.dumps(value).encode(), method="PUT")  # noqa: S310 - our own.
    with urlopen(request, timeout=_CALL_SECONDS_MAX):  # noqa: S310 - our own.
        pass
