"""Sends webhooks by Standard Webhooks 1.0: signed, and only to permitted addresses.

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
#: Characters of an answer's body that are logged.
ANSWER_CHARS_MAX = 1_000
_ERROR_CHARS_MAX = 200
#: Threads for name look-ups; one for a name without an answer takes half a minute.
_LOOKUPS_MAX = 64
_SECRET_PREFIX, _PUBLIC_PREFIX = "whsec_", "whpk_"


class RefusedAddressError(OSError):
    """The connection would lead to an address that is not permitted."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a call."""

    answer: Answer
    #: The beginning of the answer's body.
    text: str = ""


class Signer:
    """Signs for one endpoint with one pair of secrets."""

    def __init__(self, hmac_secret: bytes, ed25519_seed: bytes, expires_at: datetime | None = None) -> None:
        """`expires_at` is when a replaced pair of secrets becomes invalid; None for the current pair."""
        self.expires_at = expires_at
        self._webhook = Webhook(hmac_secret)
        self._key = Ed25519PrivateKey.from_private_bytes(ed25519_seed)

    def sign(self, webhook_id: str, at: datetime, payload: bytes) -> list[str]:
        """The signatures by both schemes, in the form of the header."""
        content = b"%b.%d.%b" % (webhook_id.encode(), int(at.timestamp()), payload)
        signature = base64.b64encode(self._key.sign(content)).decode()
        return [self._webhook.sign(webhook_id, at, payload.decode()), f"v1a,{signature}"]


def secret_text(hmac_secret: bytes) -> str:
    """The HMAC secret in the form that receivers configure."""
    return _SECRET_PREFIX + base64.b64encode(hmac_secret).decode()


def public_key_text(ed25519_seed: bytes) -> str:
    """The public key of v1a signatures, in the form that receivers configure."""
    key = Ed25519PrivateKey.from_private_bytes(ed25519_seed).public_key()
    return _PUBLIC_PREFIX + base64.b64encode(key.public_bytes_raw()).decode()


class WebhookCalls:
    """Posts to receivers. Create it on the running event loop."""

    def __init__(self, allowed: Sequence[Network] = (), *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """`allowed` are networks that may be called although they are not in the public Internet."""
        self._allowed = allowed
        self._lookups = ThreadPoolExecutor(_LOOKUPS_MAX, thread_name_prefix="lookup")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # No limit here: the caller bounds the number of calls.
                limit=0,
                keepalive_timeout=30,
                resolver=_Resolver(self._lookups),
                # Called for each connection with the address to connect to, both for names that were resolved and for
                # addresses in URLs, which no resolver sees.
                socket_factory=self._open_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A few bytes can unpack to gigabytes.
            auto_decompress=False,
            # No proxy from the environment, so that the checked address is the receiver's.
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
                    # The rest of the body is not read, however long it is.
                    response.close()
                answered = Answered(response.status, _retry_after(response.headers.get("Retry-After"), now))
                return CallResult(answered, _plain(text.decode(errors="replace"), ANSWER_CHARS_MAX))
        except TimeoutError:
            return CallResult(Unanswered("no answer in time"))
        # aiohttp raises ValueError for some URLs and some answers.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return CallResult(Unanswered(_why(error)))

    async def close(self) -> None:
        """Close all connections."""
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
    """The system's resolver in threads of its own, so that look-ups that hang don't block other uses of threads."""

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
        """Do nothing: the threads belong to the caller."""


def _why(error: Exception) -> str:
    cause = error.__cause__ or getattr(error, "os_error", None)
    refused = next((each for each in (error, cause) if isinstance(each, RefusedAddressError)), None)
    return _plain(str(refused) if refused is not None else f"{type(error).__name__}: {error}", _ERROR_CHARS_MAX)


def _plain(text: str, chars_max: int) -> str:
    """The text as one line that can be stored and shown."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:chars_max]


def _retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds to wait, from seconds or a date by RFC 9110; None for anything else."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - now).total_seconds())
