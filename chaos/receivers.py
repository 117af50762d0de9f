"""Receivers of webhooks: one that fails in many ways and writes down what it accepts, and one that never answers."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.request import Request, urlopen

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from chaos.record import Hooked
from chaos.world import World

_CALL_SECONDS_MAX = 10.0
#: Of first tries; a delivery that is tried again is accepted, or a run would last for the hours of later pauses.
_FAILING_SHARE = 0.2
#: An answer this late is accepted all the same.
_SLOW_S_MAX = 1.0
_FAULTS = ("500", "503", "redirect", "slow", "cut", "garbage", "lost")


class Receiver:
    """Fails in its own ways at a share of first tries."""

    def __init__(self, chance: random.Random) -> None:
        self.accepted: list[Hooked] = []
        self.secret = ""
        self.failures = 0
        self._chance = chance
        self._seen: set[str] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        body = await request.read()
        webhook_id = request.headers.get("webhook-id", "")
        is_first = webhook_id not in self._seen
        self._seen.add(webhook_id)
        fault = self._chance.choice(_FAULTS) if is_first and self._chance.random() < _FAILING_SHARE else ""
        self.failures += bool(fault)
        if fault in ("500", "503"):
            return web.Response(status=int(fault), text="not now")
        if fault == "redirect":
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        if fault == "slow":
            await asyncio.sleep(self._chance.uniform(0.0, _SLOW_S_MAX))
        transport = request.transport
        if fault == "garbage" and transport is not None:
            transport.write(b"\0\xffSMTP ready\r\n\r\n")
        if fault in ("cut", "garbage") and transport is not None:
            transport.close()
            return web.Response()
        self._accept(webhook_id, request, body)
        if fault == "lost" and transport is not None:
            # Done, and the answer does not arrive: it comes again, under the same id.
            transport.close()
        return web.Response(status=204)

    def _accept(self, webhook_id: str, request: web.Request, body: bytes) -> None:
        try:
            Webhook(self.secret).verify(body, dict(request.headers))
            signed = True
        except WebhookVerificationError:
            signed = False
        event = json.loads(body)
        data = event["data"]
        place = (data.get("order_id", ""), event["sequence"], event["type"], data.get("version"))
        self.accepted.append(Hooked(webhook_id, *place, signed))


@asynccontextmanager
async def receiving(world: World) -> AsyncIterator[Receiver]:
    """An endpoint for everything with a receiver that fails, and one whose receiver never answers.

    The latter is deleted at the end of the block, when the former may still wait for deliveries.
    """
    receiver = Receiver(random.Random(world.chance.random()))

    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3_600)
        return web.Response()

    application = web.Application()
    application.router.add_post("/hooks", receiver.handle)
    application.router.add_post("/hangs", hang)
    # 0 would wait without end for a handler that does not answer.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port, *_ = runner.addresses[0]
    ids = []
    try:
        for path in ("hooks", "hangs"):
            made = await asyncio.to_thread(_ask, world, "POST", "", {"url": f"http://{host}:{port}/{path}"})
            ids.append(made["id"])
            receiver.secret = receiver.secret or made["secret"]
        yield receiver
        await asyncio.to_thread(_ask, world, "DELETE", f"/{ids.pop()}")
        # What a killed sender had tried may wait for minutes.
        await asyncio.to_thread(_ask, world, "PATCH", f"/{ids[0]}", {"state": "active"})
        await world.drained()
    finally:
        for each in ids:
            await asyncio.to_thread(_ask, world, "DELETE", f"/{each}")
        await runner.cleanup()


def _ask(world: World, method: str, path: str, body: object = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {world.api_key}"}
    data = None if body is None else json.dumps(body).encode()
    asked = Request(f"{world.url}/v1/webhooks{path}", data, headers, method=method)  # noqa: S310
    with urlopen(asked, timeout=_CALL_SECONDS_MAX) as answer:  # noqa: S310
        answered: dict[str, str] = json.loads(answer.read() or b"{}")
        return answered
