"""Webhooks as Standard Webhooks 1.0 has them: signed, sent, and to addresses that may be called.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import asyncio
import base64
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook
from yarl import URL

from domain.addresses import Network, refusal
from domain.delivery import Answer, Answered, Unanswered

TIMEOUT_SECONDS = 15.0
#: Characters of an answer's body that the log has.
ANSWER_CHARS_MAX = 1_000
_ERROR_CHARS_MAX = 200
#: Names are looked up in threads, where one that nobody answers for takes half a minute.
_LOOKUPS_MAX = 64
_SECRET_PREFIX, _PUBLIC_PREFIX = "whsec_", "whpk_"


class RefusedAddressError(OSError):
    """The connection would lead to an address that may not be called."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What came of a call."""

    answer: Answer
    #: The beginning of its body.
    text: str = ""


class Signer:
    """Signs for one endpoint with one pair of secrets."""

    def __init__(self, hmac_secret: bytes, ed25519_seed: bytes, expires_at: datetime | None = None) -> None:
        """`expires_at` is when a replaced one ends to be used; None for the current one."""
        self.expires_at = expires_at
        self._webhook = Webhook(hmac_secret)
        self._key = Ed25519PrivateKey.from_private_bytes(ed25519_seed)

    def sign(self, webhook_id: str, at: datetime, payload: bytes) -> list[str]:
        """The signatures of both schemes, each as the header has it."""
        content = b"%b.%d.%b" % (webhook_id.encode(), int(at.timestamp()), payload)
        signature = base64.b64encode(self._key.sign(content)).decode()
        return [self._webhook.sign(webhook_id, at, payload.decode()), f"v1a,{signature}"]


def secret_text(hmac_secret: bytes) -> str:
    """The secret as receivers configure it."""
    return _SECRET_PREFIX + base64.b64encode(hmac_secret).decode()


def public_key_text(ed25519_seed: bytes) -> str:
    """The key that v1a signatures are verified with, as receivers configure it."""
    key = Ed25519PrivateKey.from_private_bytes(ed25519_seed).public_key()
    return _PUBLIC_PREFIX + base64.b64encode(key.public_bytes_raw()).decode()


class WebhookCalls:
    """Posts to receivers. Made on the running loop."""

    def __init__(self, allowed: Sequence[Network] = (), *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """`allowed` are networks that may be called although they are not of the public Internet."""
        self._allowed = allowed
        self._lookups = ThreadPoolExecutor(_LOOKUPS_MAX, thread_name_prefix="lookup")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # Whoever calls bounds how many calls there are.
                limit=0,
                keepalive_timeout=30,
                resolver=_Resolver(self._lookups),
                # Asked for each connection with the address that is about to be called: what a name resolves to, and
                # addresses in URLs, which no resolver sees.
                socket_factory=self._open_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A few bytes can unpack to gigabytes.
            auto_decompress=False,
            # No proxy of the environment: the address that is checked is the receiver's.
            trust_env=False,
        )

    async def post(
        self, url: str, webhook_id: str, payload: bytes, signers: Sequence[Signer], now: datetime
    ) -> CallResult:
        """Post a payload, signed by all of `signers` that are valid at `now`."""
        valid = [each for each in signers if each.expires_at is None or each.expires_at > now]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "gapless",
            "Webhook-Id": webhook_id,
            "Webhook-Timestamp": str(int(now.timestamp())),
            "Webhook-Signature": " ".join(
                signature for each in valid for signature in each.sign(webhook_id, now, payload)
            ),
        }
        try:
            async with self._session.post(
                URL(url, encoded=True), data=payload, headers=headers, allow_redirects=False
            ) as response:
                text = await response.content.read(ANSWER_CHARS_MAX)
                if not response.content.at_eof():
                    # The rest is of no interest, however long it goes on.
                    response.close()
                answered = Answered(response.status, _retry_after(response.headers.get("Retry-After"), now))
                return CallResult(answered, _plain(text.decode(errors="replace"), ANSWER_CHARS_MAX))
        except TimeoutError:
            return CallResult(Unanswered("no answer in time"))
        # ValueError: what aiohttp says of some URLs and some answers.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return CallResult(Unanswered(_why(error)))

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()
        # Connections are closed in the loop's next turn.
        await asyncio.sleep(0)
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _open_socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, where = address
        refused = refusal(str(where[0]), self._allowed)
        if refused is not None:
            raise RefusedAddressError(refused)
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """The system's, in threads of its own: names of a receiver that hang must not hold up what else needs threads."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._executor, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(where[0]),
                port=port,
                family=its_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for its_family, _, protocol, _, where in found
        ]

    async def close(self) -> None:
        """Nothing: the threads are the caller's."""


def _why(error: Exception) -> str:
    cause = error.__cause__ or getattr(error, "os_error", None)
    refused = next((each for each in (error, cause) if isinstance(each, RefusedAddressError)), None)
    return _plain(str(refused) if refused is not None else f"{type(error).__name__}: {error}", _ERROR_CHARS_MAX)


def _plain(text: str, chars_max: int) -> str:
    """As one line that can be stored and shown."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:chars_max]


def _retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds or a date, as RFC 9110 has it; None for anything else."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - now).total_seconds())
