"""Identity and hostile input: other sellers' ids, forged keys, forged and replayed notices, hostile names."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from chaos.record import Kind
from chaos.scenario import scenario
from chaos.strangers import add_seller, get, post
from chaos.traffic import Traffic
from chaos.world import RATE, World

_RATE = RATE / 2
#: Gateways must refuse a revoked key within this time.
_REVOKED_S_MAX = 30.0


@scenario(
    19,
    "another seller's order id; the same seller's with other content",
    "treated as new; conflict",
)
async def same_ids(world: World) -> None:
    """A second seller uses the ids of the first, before or after it; the first repeats its own with other content."""
    other_key = await add_seller(world)
    async with world.traffic(_RATE) as traffic, aiohttp.ClientSession() as session:
        async for _ in world.turns(0.05, 0.2):
            world.timeline.count("an id used by two sellers")
            asked = traffic.shop.invoice()
            body = asked.bodies[0]
            theirs = {**body, "note": "the other seller's"}
            posts = [post(session, world, "/v1/invoices", theirs, other_key, 10), traffic.post(asked, wait_s=10)]
            if world.chance.random() < 0.5:
                posts.reverse()
            answers = await asyncio.gather(*posts)
            status, told = next(answer for answer in answers if isinstance(answer, tuple))
            if status not in (200, 201, 202):
                world.found.append(f"the other seller's {body['order_id']} was answered {status}: {told}")
            conflict = await traffic.post(asked, traffic.shop.conflict(asked), wait_s=10)
            if conflict is None or conflict.status != 409:
                world.found.append(f"{body['order_id']} with other content was answered {conflict}")
            status, seen = await get(session, world, f"/v1/invoices/{body['order_id']}", other_key)
            if status != 200 or seen.get("state") == "conflict":
                world.found.append(f"the other seller sees {status} {seen} of its own {body['order_id']}")


@scenario(
    20,
    "token: alg none, wrong key, wrong audience, expired",
    "401, and no internals are shown",
)
async def tokens(world: World) -> None:
    """API keys are opaque, so no claim in a token may count."""
    revoked = await add_seller(world, revoke=True)
    await world.until(lambda: _is_refused(world, revoked), "a revoked key is refused", _REVOKED_S_MAX)
    async with world.traffic(_RATE), aiohttp.ClientSession() as session:
        async for _ in world.turns(0.02, 0.1):
            world.timeline.count("a forged key")
            header = world.chance.choice(_forged(world, revoked))
            path = world.chance.choice(("/v1/invoices", "/v1/checkouts", "/v1/stock", "/v1/orders/X-1", "/v1/orders"))
            method = "POST" if path in ("/v1/invoices", "/v1/checkouts") else "GET"
            headers = {} if header is None else {"Authorization": header}
            async with session.request(method, world.url + path, data=b"{}", headers=headers) as answer:
                told = await answer.text()
                if answer.status != 401:
                    world.found.append(f"{method} {path} with {header!r} was answered {answer.status}")
                if any(word in told for word in ("Traceback", "psycopg", "sha256", "postgres", world.api_key)):
                    world.found.append(f"{method} {path} shows internals: {told[:200]}")


@scenario(
    21,
    "notices: forged, stale, replayed, of other bytes",
    "refused; the signature covers a timestamp",
)
async def notices(world: World) -> None:
    """A notice only makes us ask the provider; it is refused unless it is signed and recent."""
    secret = (Path(world.stack.data) / "provider_webhook_secret").read_text().strip()
    async with world.traffic(_RATE) as traffic, aiohttp.ClientSession() as session:
        async for _ in world.turns(0.02, 0.1):
            asked = traffic.shop.earlier()
            order_id = asked.order_id if asked else "nobody's"
            made = {"seller_id": world.chance.choice(("demo", "nobody")), "order_id": order_id}
            body = json.dumps({"id": f"evt_{world.chance.random()}", "data": {"object": {"metadata": made}}}).encode()
            now = int(time.time())
            expected, header = world.chance.choice(
                (
                    (202, _signature(secret, now, body)),
                    (401, _signature(secret, now - 3600, body)),
                    (401, _signature(secret, now + 3600, body)),
                    (401, _signature("whsec_another", now, body)),
                    (401, _signature(secret, now, body + b" ")),
                    (401, f"t={now},v1="),
                    (401, f"v1={'0' * 64}"),
                    (401, ""),
                )
            )
            world.timeline.count("a notice")
            # A replay within the tolerance is accepted without effect, because it only causes a question.
            for _again in range(3 if expected == 202 else 1):
                url = f"{world.url}/v1/providers/local/notices"
                async with session.post(url, data=body, headers={"Provider-Signature": header}) as answer:
                    if answer.status != expected:
                        world.found.append(f"a notice signed {header!r} was answered {answer.status}, not {expected}")


@scenario(24, "names and notes written to break a PDF, a log line, CSV or SQL", "shown as text")
async def names(world: World) -> None:
    """Hostile texts as a buyer's name, street, line description and note; read back over HTTP and from the logs."""
    asked = []
    async with world.traffic(_RATE) as traffic:
        async for _ in world.turns(0.05, 0.2):
            world.timeline.count("a hostile text")
            text = world.chance.choice(_WORDS)
            order = traffic.shop.invoice()
            body: dict[str, Any] = json.loads(json.dumps(order.bodies[0]))
            body["buyer"]["name"] = text
            body["buyer"]["address"]["street"] = text
            body["lines"][0]["description"] = text
            body["note"] = text
            del world.record.asked[Kind.INVOICE, order.order_id]
            order = world.record.ask(Kind.INVOICE, body)
            answer = await traffic.post(order, wait_s=20)
            if answer is None or answer.status not in (200, 201, 422):
                world.found.append(f"{text!r} was answered {answer}")
            elif answer.status != 422:
                asked.append((order.order_id, text))
        world.timeline.note(f"{len(asked)} orders have hostile texts")
        if not asked:
            world.found.append("no such order was accepted, so nothing was tested")
        await _read_back(world, traffic, asked)
    for log in (Path(world.stack.data) / "logs").glob("*.log"):
        forged = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(_FORGED_LINE)]
        if forged:
            world.found.append(f"{log.name} has a line that a customer wrote: {forged[0][:100]}")


_FORGED_LINE = '{"level": "forged"'
_WORDS = (
    "=cmd|'/C calc'!A0",
    "@SUM(1+1)*cmd",
    "Robert'); DROP TABLE invoices;--",
    "' OR '1'='1",
    "%s %d %(x)s {0} ${jndi:ldap://x}",
    "(Tj) ET endstream endobj %%EOF",
    ") Tj /F1 12 Tf (broken out",
    "<script>alert(1)</script>",
    "\\u0000 \\n \\r\\n",
    f"x\n{_FORGED_LINE}, y",
    f"x\r\n{_FORGED_LINE}, y",
    "a\x00b",
    "\x1b[2J\x1b[31mred",
    "\u202egnihtyreve sesrever\u202c",
    "\ufeff\u200b\u200d",
    "x" * 200,
    "\U0001f600" * 40,
    "\u0301" * 60,
    "../../../etc/passwd",
)


async def _read_back(world: World, traffic: Traffic, asked: list[tuple[str, str]]) -> None:
    for order_id, text in asked:
        document = await traffic.client.get_document(order_id)
        # It may not be stored yet, which is no violation here: the judge checks all of them at the end.
        if document.status == 200 and not (document.payload.startswith(b"%PDF") and b"%%EOF" in document.payload[-32:]):
            world.found.append(f"the document of {order_id}, written {text!r}, is not a PDF")


def _is_refused(world: World, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{world.url}/v1/stock", headers=headers)  # noqa: S310 - of this machine.
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            return False
    except urllib.error.HTTPError as error:
        return error.code == 401


def _forged(world: World, revoked: str) -> list[str | None]:
    """Authorization headers that must all be refused."""
    own = world.api_key
    at = world.chance.randrange(5, len(own))
    hour = int(time.time()) - 3600
    return [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {base64.b64encode(f'demo:{own}'.encode()).decode()}",
        f"Bearer {own[:-1]}",
        f"Bearer {own}x",
        f"Bearer {own[:at]}{'x' if own[at] != 'x' else 'y'}{own[at + 1 :]}",
        f"Bearer {own.upper()}",
        f"Bearer {revoked}",
        f"Bearer {hashlib.sha256(own.encode()).hexdigest()}",
        f"Bearer {_jwt({'alg': 'none'}, {'sub': 'demo'}, '')}",
        f"Bearer {_jwt({'alg': 'HS256'}, {'sub': 'demo', 'aud': 'another'}, 'guessed')}",
        f"Bearer {_jwt({'alg': 'HS256'}, {'sub': 'demo', 'exp': hour}, own)}",
        f"Bearer {'A' * 4000}",
        "Bearer ' OR 1=1 --",
        "Bearer \xff\xfe",
    ]


def _jwt(head: Mapping[str, Any], claims: Mapping[str, Any], secret: str) -> str:
    signed = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
    signature = _base64(hmac.new(secret.encode(), signed, hashlib.sha256).digest()) if secret else b""
    return (signed + b"." + signature).decode()


def _base64(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def _signature(secret: str, at: int, body: bytes) -> str:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
