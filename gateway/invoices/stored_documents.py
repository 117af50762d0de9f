"""Documents as responses: only ever the one that was recorded, whatever happened to the object store."""

import asyncio
import hashlib
import logging
import re

from aiohttp import web

from admission.hints import Hints, credit_name, of_credits
from domain.credit import check_refund_id
from gateway.http import problems
from gateway.http.openapi import DeclaredResponse, Parameter
from gateway.http.parameters import entity_tags
from gateway.http.problems import ProblemError
from sinks.object_store.store import NotStoredError, ObjectStore, StoreUnavailableError
from sinks.postgres.invoices_reader import Invoice, InvoiceOutcome, InvoicesReader
from sinks.postgres.order_ids import CHECKOUT

_log = logging.getLogger(__name__)

#: `Cache-Control` of what only its seller may see.
PRIVATE = "private, max-age=31536000, immutable"
_SECONDS_MAX = 10.0
_SECONDS_UNTIL_STORED = 2
_UNSAFE_IN_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_PDF = "application/pdf"

IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", {"type": "string"}, "The ETag of one's own copy, or several, or `*`."
)
DOCUMENT_RESPONSES = (
    DeclaredResponse(200, "The PDF, which never changes", media_type=_PDF, headers=("ETag", "Cache-Control")),
    DeclaredResponse(304, "The caller already has it", headers=("ETag", "Cache-Control")),
)


class StoredDocuments:
    """Finds what a document is of, and reads it from the object store."""

    def __init__(self, store: ObjectStore, reader: InvoicesReader, hints: Hints) -> None:
        self._store = store
        self._reader = reader
        self._hints = hints

    async def invoice(self, seller_id: str, order_id: str) -> Invoice:
        """The order's invoice; raises `ProblemError`, also while it is not issued."""
        with problems.needing_postgres():
            outcome = await self._reader.outcome(seller_id, order_id)
        if outcome.invoice is not None:
            return outcome.invoice
        is_hinted = not outcome.refused and isinstance(await self._hints.known(seller_id, order_id), bytes)
        if is_hinted or await self.is_sold(seller_id, order_id, outcome):
            raise _not_stored()
        raise ProblemError(problems.NOT_FOUND, "no invoice of this order is known")

    async def credit_note(self, seller_id: str, order_id: str, refund_id: str) -> Invoice:
        """A refund's credit note; raises `ProblemError`, also while it is not issued."""
        if check_refund_id(refund_id) is not None:
            raise _no_credit_note()
        with problems.needing_postgres():
            notes = await self._reader.credit_notes(seller_id, order_id)
            note = next((each for each in notes if each.refund_id == refund_id), None)
            if note is not None:
                return note
            is_asked = await self._reader.is_refunded(seller_id, order_id, refund_id)
            refused = [] if is_asked else await self._reader.refused_credits(seller_id, order_id)
        if not is_asked and all(each.credit_note_id != refund_id for each in refused):
            hint = await self._hints.known(of_credits(seller_id), credit_name(order_id, refund_id))
            is_asked = isinstance(hint, bytes)
        if is_asked:
            raise _not_stored()
        raise _no_credit_note()

    async def is_sold(self, seller_id: str, order_id: str, outcome: InvoiceOutcome) -> bool:
        """Whether the order is a confirmed checkout: its invoice is about to be issued."""
        if outcome.owner != CHECKOUT:
            return False
        with problems.needing_postgres():
            return await self._reader.is_sold(seller_id, order_id)

    async def answer(self, request: web.Request, invoice: Invoice, cache_control: str) -> web.Response:
        """The document, or 304 for a caller that has it; raises `ProblemError`, also while it is not stored."""
        if invoice.document_key is None or invoice.document_sha256 is None:
            raise _not_stored()
        tag = invoice.document_sha256.hex()
        headers = {
            "ETag": f'"{tag}"',
            "Cache-Control": cache_control,
            "Content-Disposition": f'inline; filename="{_file_name(invoice.invoice_number)}"',
            # Keeps browsers from guessing another content type.
            "X-Content-Type-Options": "nosniff",
        }
        known = entity_tags(request.headers, "If-None-Match")
        if known is not None and known.match_weakly(tag):
            return web.Response(status=304, headers=headers)
        body = await self._read(invoice.document_key, invoice.document_sha256)
        return web.Response(body=body, content_type=_PDF, headers=headers)

    async def _read(self, key: str, sha256: bytes) -> bytes:
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                body = await self._store.get(key)
        except (StoreUnavailableError, TimeoutError) as error:
            _log.warning("the object store returns no documents: %s: %s", type(error).__name__, error)
            raise ProblemError(problems.UNAVAILABLE, "the object store is unavailable", retry_after_seconds=2) from None
        except NotStoredError:
            body = b""
        if hashlib.sha256(body).digest() != sha256:
            _log.error("the document %s is not the one that was recorded, or missing", key)
            raise ProblemError(
                problems.INTERNAL, "the stored document is damaged; the operator can have it rendered again"
            )
        return body


def _no_credit_note() -> ProblemError:
    return ProblemError(problems.NOT_FOUND, "this order has no credit note for a refund with this id")


def _not_stored() -> ProblemError:
    """The problem of a document that is still being rendered."""
    return ProblemError(
        problems.NOT_STORED, "the document is being rendered", retry_after_seconds=_SECONDS_UNTIL_STORED
    )


def _file_name(invoice_number: str) -> str:
    """The printed number as a portable file name: no path, no quotes, nothing to escape."""
    return f"{_UNSAFE_IN_FILE_NAME.sub('-', invoice_number).strip('.-') or 'invoice'}.pdf"
