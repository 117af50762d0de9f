"""CPU time of an accepted request at the gateway, beside a bare aiohttp server that only parses and answers.

`python -m benchmarks.gateway --against FOLDER` measures the gateway of another checkout of the project too, on the same
servers: the processes take turns, and the ratio is taken turn by turn.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import msgspec
import uvloop
from aiohttp import web

from benchmarks.result import Result
from benchmarks.stacks import cpu_seconds, stack, wait_until_answered, wait_until_ready
from gapless.load_checkouts import put_stock
from local.layout import SERVERS, free_port, read_secret
from local.stack import Stack
from producers.generate import bodies, checkouts
from producers.load import run as send
from producers.wire import WireClient

REQUESTS = 2_000
ROUNDS = 5
#: Clients, each with one request after the other.
CLIENTS = 256
SKUS = 100
TARGET_US = 140
_PLENTY = 100_000_000
#: Parses each body by the same types, and answers 202: what no gateway on this HTTP server can be below.
_BARE = "bare aiohttp"

#: CPU µs a request by what is asked for, of each process in turn.
Turns = dict[str, dict[str, list[float]]]


def run() -> list[Result]:
    """All workers are stopped, so that the gateway has a core."""
    turns = measure({"gateway": Path(__file__).parents[1]})
    results = []
    for kind, by_process in turns.items():
        own, bare = median(by_process["gateway"]), median(by_process[_BARE])
        note = f"median of {ROUNDS} turns of {REQUESTS:,}, {CLIENTS} clients; {_BARE} in the same turns {bare:.0f} µs"
        results.append(Result(f"CPU time of an accepted {kind}", own, "µs", TARGET_US, less_is_better=True, note=note))
    return results


def measure(trees: Mapping[str, Path]) -> Turns:
    """The gateway of each tree, and the bare server."""
    with stack({"documents": 0}) as made, ExitStack() as processes:
        _set_stock(made)
        held = [each["name"] for each in made.status()["processes"] if each["name"] not in SERVERS]
        for each in held:
            made.hold(each)
            processes.callback(made.release, each)
        started = {name: processes.enter_context(_gateway(made, tree)) for name, tree in trees.items()}
        started[_BARE] = processes.enter_context(_bare())
        turns: Turns = {"invoice": {name: [] for name in started}, "checkout": {name: [] for name in started}}
        api_key = read_secret(made.data / "api_key") or ""
        for number in range(-1, ROUNDS):
            for kind, by_process in turns.items():
                for name, (pid, port) in started.items():
                    before = cpu_seconds(pid)
                    uvloop.run(_send(f"http://127.0.0.1:{port}", api_key, kind, f"{kind}-{name[:4]}-{number}"))
                    # The first turn warms up.
                    if number >= 0:
                        by_process[name].append((cpu_seconds(pid) - before) / REQUESTS * 1e6)
    return turns


async def _send(url: str, api_key: str, kind: str, prefix: str) -> None:
    async with WireClient(url, api_key, connections=CLIENTS) as client:
        if kind == "invoice":
            payloads = (msgspec.json.encode(body) for body in bodies(REQUESTS, seed=1, prefix=prefix))
            report = await send(client, payloads, workers=CLIENTS)
        else:
            skus = [f"SKU-{number}" for number in range(SKUS)]
            tokens = {"tok_ok": 1.0}
            orders = checkouts(REQUESTS, seed=1, skus=skus, customers=REQUESTS, tokens=tokens, prefix=prefix)
            report = await send(client, orders, workers=CLIENTS, post=client.post_checkout)
    if set(report.statuses) != {202}:
        raise RuntimeError(f"not every {kind} was accepted: {dict(report.statuses)} {report.failures[:1]}")


def _set_stock(made: Stack) -> None:
    async def put() -> None:
        api_key = read_secret(made.data / "api_key") or ""
        async with WireClient(made.endpoints()["gateway"], api_key, connections=8) as client:
            await put_stock(client, [f"SKU-{number}" for number in range(SKUS)], _PLENTY)

    uvloop.run(put())
    wait_until_ready(made)


@contextmanager
def _gateway(made: Stack, tree: Path) -> Iterator[tuple[int, int]]:
    """A gateway with the modules of `tree`: its pid and its port."""
    port = free_port()
    own = {"GAPLESS_GATEWAY_PORT": str(port), "GAPLESS_METRICS_PORT": "0", "PYTHONPATH": str(tree)}
    with (
        (made.data / "logs" / f"gateway-{port}.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "gapless", "gateway"],
            cwd=tree,
            env={**os.environ, **made.environment("gateway"), **own},
            stderr=log,
        ) as process,
    ):
        try:
            wait_until_answered(f"http://127.0.0.1:{port}/readyz", Path(log.name))
            yield process.pid, port
        finally:
            process.terminate()


@contextmanager
def _bare() -> Iterator[tuple[int, int]]:
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "benchmarks.gateway", "--bare", str(port)]) as process:
        try:
            wait_until_answered(f"http://127.0.0.1:{port}/readyz", Path(os.devnull))
            yield process.pid, port
        finally:
            process.terminate()


def _serve_bare(port: int) -> None:
    """Parse each body by the same schema, and answer 202."""
    from gateway.http.bodies import CheckoutRequest, InvoiceRequest

    def answering(body: type[InvoiceRequest]) -> Callable[[web.Request], Awaitable[web.Response]]:
        decoder = msgspec.json.Decoder(body)

        async def answer(request: web.Request) -> web.Response:
            asked = decoder.decode(await request.read())
            told = msgspec.json.encode({"order_id": asked.order_id})
            return web.Response(status=202, body=told, content_type="application/json")

        return answer

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    async def serve() -> None:
        app = web.Application()
        app.add_routes(
            [web.post("/v1/invoices", answering(InvoiceRequest)), web.post("/v1/checkouts", answering(CheckoutRequest))]
        )
        app.add_routes([web.get("/readyz", ready)])
        await web._run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)

    uvloop.run(serve())


def main() -> None:
    """Print CPU µs of each, and the ratio to that of the other tree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway")
    parser.add_argument("--against", type=Path, help="another checkout of the project, such as a git worktree")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        _serve_bare(arguments.bare)
        return
    trees = {"against": arguments.against.resolve()} if arguments.against else {}
    turns = measure({**trees, "here": Path(__file__).parents[1]})
    for kind, by_process in turns.items():
        for name, each in by_process.items():
            ratio = median(own / other for own, other in zip(by_process["here"], each, strict=True))
            print(f"{kind:10} {name:14} {median(each):6.0f} µs   here / {name} {ratio:.2f}")


if __name__ == "__main__":
    main()
