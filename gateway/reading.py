"""GET: orders, documents, series. Another seller's things don't exist."""

import asyncio
import hashlib
import logging
import re
from typing import Any

import msgspec
from aiohttp import web

from domain.invoice import check_order_id
from gateway import orders, problems
from gateway.auth import KeyRing
from gateway.problems import ProblemError
from sinks.object_store.store import NotStoredError, ObjectStore, StoreUnavailableError
from sinks.postgres.reader import Invoice, PostgresUnavailableError, Reader
from sinks.redis.hints import Hints, Silence

_log = logging.getLogger(__name__)

_DOCUMENT_SECONDS_MAX = 10.0
_NUMBER_MAX = 2**63 - 1
_UNSAFE_IN_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_SECONDS_UNTIL_ISSUED = 1
_SECONDS_UNTIL_STORED = 2
_WHY_UNKNOWN = {
    Silence.UNAVAILABLE: "no invoice of this order is known; whether it was accepted a moment ago can't be looked up"
    " just now, because Redis is away",
    Silence.FORGOTTEN: "no invoice of this order is known; if it was accepted a moment ago, Redis has lost its note of"
    " that, and the invoice will be here soon",
}


class Reading:
    """Answers questions about orders, from Postgres; from the hints where Postgres doesn't know yet."""

    def __init__(self, keys: KeyRing, reader: Reader, hints: Hints, documents: ObjectStore) -> None:
        self._keys = keys
        self._reader = reader
        self._hints = hints
        self._documents = documents

    async def order(self, request: web.Request) -> web.Response:
        """GET /v1/invoices/{order_id}."""
        seller_id = await self._keys.seller_of(request)
        order_id = _order_id(request)
        try:
            order = await self._reader.order(seller_id, order_id)
            if order.invoice is not None:
                return _json(orders.known(order_id, order, await self._reader.event(order.invoice)))
        except PostgresUnavailableError:
            return await self._hinted_order(seller_id, order_id)
        if order.refused:
            return _json(orders.known(order_id, order, None))
        hint = await self._hints.known(seller_id, order_id)
        if hint is None:
            raise ProblemError(problems.NOT_FOUND, "no order of this id is known")
        if isinstance(hint, Silence):
            raise ProblemError(problems.NOT_FOUND, _WHY_UNKNOWN[hint], retry_after_seconds=_SECONDS_UNTIL_ISSUED)
        return _json(orders.accepted(order_id), {"Retry-After": str(_SECONDS_UNTIL_ISSUED)})

    async def _hinted_order(self, seller_id: str, order_id: str) -> web.Response:
        """What can be said without Postgres."""
        if isinstance(await self._hints.known(seller_id, order_id), bytes):
            return _json(orders.accepted(order_id), {"Retry-After": "2"})
        raise _postgres_away()

    async def document(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/invoices/{order_id}/document."""
        seller_id = await self._keys.seller_of(request)
        order_id = _order_id(request)
        try:
            order = await self._reader.order(seller_id, order_id)
        except PostgresUnavailableError:
            raise _postgres_away() from None
        invoice = order.invoice
        if invoice is None:
            if not order.refused and isinstance(await self._hints.known(seller_id, order_id), bytes):
                raise _not_stored()
            raise ProblemError(problems.NOT_FOUND, "no invoice of this order is known")
        if invoice.document_key is None or invoice.document_sha256 is None:
            raise _not_stored()
        headers = {
            "ETag": f'"{invoice.document_sha256.hex()}"',
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Disposition": f'inline; filename="{_file_name(invoice.invoice_number)}"',
            # A document is never what the browser might take it for.
            "X-Content-Type-Options": "nosniff",
        }
        if _is_known(request.headers.get("If-None-Match"), invoice.document_sha256.hex()):
            return web.Response(status=304, headers=headers)
        body = await self._read_document(invoice, invoice.document_key)
        return web.Response(body=body, content_type="application/pdf", headers=headers)

    async def _read_document(self, invoice: Invoice, key: str) -> bytes:
        try:
            async with asyncio.timeout(_DOCUMENT_SECONDS_MAX):
                body = await self._documents.get(key)
        except (StoreUnavailableError, TimeoutError) as error:
            _log.warning("the object store gives no documents: %s: %s", type(error).__name__, error)
            raise ProblemError(
                problems.UNAVAILABLE, "the object store can't be reached just now", retry_after_seconds=2
            ) from None
        except NotStoredError:
            body = b""
        # Whatever happened to the store: nobody is ever shown another document than the one that was recorded.
        if hashlib.sha256(body).digest() != invoice.document_sha256:
            _log.error("the document %s is not the one that was recorded, or missing", key)
            raise ProblemError(problems.INTERNAL, "the document is damaged; it can be made again")
        return body

    async def series(self, request: web.Request) -> web.Response:
        """GET /v1/series."""
        seller_id = await self._keys.seller_of(request)
        try:
            found = await self._reader.series(seller_id)
        except PostgresUnavailableError:
            raise _postgres_away() from None
        return _json(
            {
                "series": [
                    {
                        "series_id": series.series_id,
                        "policy": series.policy,
                        "next_number": series.next_number,
                        "issued": series.next_number - 1,
                    }
                    for series in found
                ]
            }
        )

    async def number(self, request: web.Request) -> web.Response:
        """GET /v1/series/{series_id}/numbers/{number}."""
        seller_id = await self._keys.seller_of(request)
        series_id, digits = request.match_info["series_id"], request.match_info["number"]
        if not (digits.isascii() and digits.isdigit()) or not 1 <= int(digits[:20]) <= _NUMBER_MAX:
            raise ProblemError(problems.NOT_FOUND, "a number is 1, 2, 3 …")
        try:
            invoice = None
            if series_id.isprintable():
                invoice = await self._reader.number(seller_id, series_id, int(digits))
        except PostgresUnavailableError:
            raise _postgres_away() from None
        if invoice is None:
            raise ProblemError(problems.NOT_FOUND, "this number is not taken in a series of yours")
        return _json(orders.number_of(invoice))


def _order_id(request: web.Request) -> str:
    order_id = request.match_info["order_id"]
    if check_order_id(order_id) is not None:
        raise ProblemError(problems.NOT_FOUND, "no order can have this id")
    return order_id


def _is_known(if_none_match: str | None, sha256: str) -> bool:
    """Whether the caller has the document already; weak comparison, as RFC 9110 wants it here."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or f'"{sha256}"' in tags


def _file_name(invoice_number: str) -> str:
    """The printed number, as a file may be called on every system; no path, no quotes, nothing to escape."""
    return f"{_UNSAFE_IN_FILE_NAME.sub('-', invoice_number).strip('.-') or 'invoice'}.pdf"


def _json(body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers=headers)


def _not_stored() -> ProblemError:
    return ProblemError(problems.NOT_STORED, "the document is being made", retry_after_seconds=_SECONDS_UNTIL_STORED)


def _postgres_away() -> ProblemError:
    return ProblemError(problems.UNAVAILABLE, "Postgres can't be reached just now", retry_after_seconds=2)
