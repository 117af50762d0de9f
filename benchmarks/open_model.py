"""How long buyers wait at a steady rate, from when each request is due: invoices, and checkouts of which some fail.

`benchmarks.arrivals` says why the times of the requests are fixed beforehand.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import uvloop

from benchmarks.arrivals import Waits, due_times, send
from benchmarks.checkouts import drain
from benchmarks.posting import post_checkouts, post_invoices, put_stock
from benchmarks.result import Result
from benchmarks.stacks import stack, target_of
from gapless.demo_steps import Target
from producers.client import GaplessClient, GatewayAnswer
from producers.generate import bodies, checkouts

#: Invoice requests a second → what 99 of 100 may wait for their number, in milliseconds.
INVOICES_PER_S = {100: 60.0, 300: 80.0, 500: 150.0}
CHECKOUTS_PER_S = (100, 300)
#: Shares of the checkouts that are declined, and that are charged without a response to the payments worker.
FAULTS = {"tok_decline": 0.01, "tok_timeout_charged": 0.01}
SECONDS = 20.0
WARM_UP_ORDERS = 3_000
#: Many, so that none is hot.
SKUS = 200
_WAIT_S = 30
#: Five minutes: then something is wrong, and the run fails.
_ASKED_MAX = 10
_SEED = 1
_OK = "tok_ok"


def run() -> list[Result]:
    """One rate after the other on one stack, without documents, whose rate is another benchmark."""
    with stack({"documents": 0}) as made:
        target = target_of(made)
        uvloop.run(_warm_up(target))
        drain(made)
        return uvloop.run(_run(target))


async def _run(target: Target) -> list[Result]:
    results = []
    for per_s, target_ms in INVOICES_PER_S.items():
        waits = await _invoices(target, per_s)
        name = f"POST → number at {per_s}/s, p99"
        results.append(Result(name, waits.ms(99), "ms", target_ms, less_is_better=True, note=_note(waits)))
    for per_s in CHECKOUTS_PER_S:
        by_token = await _checkouts(target, per_s)
        waits = by_token.pop(_OK)
        faults = (f"{len(each)} with {token} up to {each.ms(100):,.0f} ms" for token, each in sorted(by_token.items()))
        name, note = f"POST → CONFIRMED at {per_s}/s, p99", "; ".join((_note(waits), *faults))
        results.append(Result(name, waits.ms(99), "ms", less_is_better=True, note=note))
    return results


async def _warm_up(target: Target) -> None:
    """Orders of both kinds, at full speed."""
    await put_stock(target, _skus())
    await post_invoices(target, WARM_UP_ORDERS, "OPEN-WARM-I")
    await post_checkouts(target, WARM_UP_ORDERS, "OPEN-WARM-C", _skus())


async def _invoices(target: Target, per_s: int) -> Waits:
    due_s = due_times(per_s, SECONDS, seed=_SEED)
    waits = Waits()

    def take(_: bytes, answer: GatewayAnswer, wait_s: float) -> None:
        _require(answer, 200)
        waits.add(wait_s)

    async with _client(target, len(due_s)) as client:
        post = partial(_post, partial(client.post_invoice, wait_s=_WAIT_S))
        await send(_invoice_payloads(len(due_s), f"OPEN-I{per_s}"), due_s, post, take)
    return waits


async def _checkouts(target: Target, per_s: int) -> dict[str, Waits]:
    """By means of payment: the faulty ones take as long as the provider's timeout, and would hide what others wait."""
    due_s = due_times(per_s, SECONDS, seed=_SEED)
    tokens = {_OK: 1 - sum(FAULTS.values())} | FAULTS
    waits: dict[str, Waits] = defaultdict(Waits)

    def take(payload: bytes, answer: GatewayAnswer, wait_s: float) -> None:
        token = msgspec.json.decode(payload)["payment_token"]
        _require(answer, 402 if token == "tok_decline" else 201)
        waits[token].add(wait_s)

    async with _client(target, len(due_s)) as client:
        post = partial(_post, partial(client.post_checkout, wait_s=_WAIT_S))
        await send(_checkout_payloads(len(due_s), f"OPEN-C{per_s}", tokens), due_s, post, take)
    return waits


async def _post(once: Callable[[bytes], Awaitable[GatewayAnswer]], payload: bytes) -> GatewayAnswer:
    """Until it is decided: who is told that it takes longer asks again, as where the machine can't carry the rate."""
    for _ in range(_ASKED_MAX):
        answer = await once(payload)
        if answer.status != 202:
            break
    return answer


def _client(target: Target, requests: int) -> GaplessClient:
    """With a connection for each request, so that none waits for one. One that is told to come later does."""
    return target.client(requests)


def _invoice_payloads(count: int, prefix: str) -> list[bytes]:
    return [msgspec.json.encode(body) for body in bodies(count, seed=_SEED, prefix=prefix)]


def _checkout_payloads(count: int, prefix: str, tokens: dict[str, float]) -> list[bytes]:
    return list(checkouts(count, seed=_SEED, skus=_skus(), customers=count, tokens=tokens, prefix=prefix))


def _skus() -> list[str]:
    return [f"OPEN-{number}" for number in range(SKUS)]


def _require(answer: GatewayAnswer, status: int) -> None:
    if answer.status != status:
        raise RuntimeError(f"answered {answer.status} instead of {status}: {answer.payload[:200]!r}")


def _note(waits: Waits) -> str:
    percentiles = ", ".join(f"p{percent:g} {waits.ms(percent):,.0f}" for percent in (50, 95, 99.9))
    return f"{len(waits):,} orders; {percentiles}, longest {waits.ms(100):,.0f} ms"
