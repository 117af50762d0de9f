"""Signed links: `GET /d/{token}` returns a document to whoever has the link, until it expires."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape

from aiohttp import web

from domain import document_link
from domain.document_link import SECONDS_DEFAULT, TOKEN_CHARS_MAX, DocumentLink
from gateway.http import problems
from gateway.http.intake import Intake
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation, operation, text
from gateway.http.parameters import ORDER_ID, order_id_of
from gateway.http.problems import ProblemError
from gateway.invoices.reading import REFUND
from gateway.invoices.stored_documents import DOCUMENT_RESPONSES, IF_NONE_MATCH, StoredDocuments
from gateway.links import LinkRequest, LinkView, link_answer, seconds_asked
from sinks.postgres.invoices_reader import Invoice

PATH = "/d/{token}"
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><meta name="viewport" content="width=device-width"></head>
<body><h1>{title}</h1><p>{detail}</p></body>
</html>
"""
_TOKEN = Parameter("token", "path", text(TOKEN_CHARS_MAX), "The link's token.", required=True)


class DocumentLinks:
    """Makes links, and follows them."""

    def __init__(
        self,
        intake: Intake,
        documents: StoredDocuments,
        keys: Sequence[bytes],
        public_url: str | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """The first of `keys` signs; without any there are no links. `public_url` None: as the caller addresses us."""
        self._intake = intake
        self._documents = documents
        self._keys = keys
        self._public_url = public_url
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        return [
            web.post("/v1/invoices/{order_id}/document-link", self.make),
            web.post("/v1/invoices/{order_id}/credit-notes/{refund_id}/document-link", self.make_for_credit_note),
            web.get(PATH, self.follow),
        ]

    @operation(
        "A link to an invoice's document, for people without a key",
        DeclaredResponse(201, "The link", LinkView),
        body=LinkRequest,
        needs_body=False,
        parameters=[ORDER_ID],
        problems=[problems.NOT_FOUND, problems.NOT_STORED, problems.INVALID_FIELD],
    )
    async def make(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/invoices/{order_id}/document-link."""
        return await self._make(request, seller_id, "")

    @operation(
        "A link to a credit note's document, for people without a key",
        DeclaredResponse(201, "The link", LinkView),
        body=LinkRequest,
        needs_body=False,
        parameters=[ORDER_ID, REFUND],
        problems=[problems.NOT_FOUND, problems.NOT_STORED, problems.INVALID_FIELD],
    )
    async def make_for_credit_note(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/invoices/{order_id}/credit-notes/{refund_id}/document-link."""
        return await self._make(request, seller_id, request.match_info["refund_id"])

    @open_operation(
        "The document that a signed link leads to",
        *DOCUMENT_RESPONSES,
        parameters=[_TOKEN, IF_NONE_MATCH],
        problems=[problems.NOT_FOUND, problems.NOT_STORED, problems.LINK_EXPIRED, problems.UNAVAILABLE],
    )
    async def follow(self, request: web.Request) -> web.Response:
        """GET /d/{token}."""
        try:
            return await self._follow(request)
        except ProblemError as problem:
            # People follow links, with browsers.
            if "text/html" not in request.headers.get("Accept", ""):
                raise
            answer = problems.response(problem)
            page = _PAGE.format(title=escape(problem.kind.title), detail=escape(problem.detail))
            answer.body, answer.content_type, answer.charset = page.encode(), "text/html", "utf-8"
            answer.headers["Content-Security-Policy"] = "default-src 'none'"
            return answer

    async def _follow(self, request: web.Request) -> web.Response:
        link = document_link.read(request.match_info["token"], self._keys)
        if link is None:
            raise ProblemError(problems.NOT_FOUND, "this link leads to no document: it is incomplete, or was revoked")
        left = document_link.seconds_left(link, self._now())
        if left <= 0:
            raise ProblemError(problems.LINK_EXPIRED, "ask the seller for a new link")
        invoice = await self._find(link.seller_id, link.order_id, link.refund_id)
        # Shared caches may keep it exactly as long as the link is valid.
        return await self._documents.answer(request, invoice, f"public, max-age={left}, immutable")

    async def _make(self, request: web.Request, seller_id: str, refund_id: str) -> web.Response:
        order_id = order_id_of(request)
        with self._intake.place(request, seller_id):
            seconds = await seconds_asked(request, SECONDS_DEFAULT, can_sign=bool(self._keys))
        await self._find(seller_id, order_id, refund_id)
        expires_at = int(self._now().timestamp()) + seconds
        token = document_link.sign(DocumentLink(seller_id, order_id, refund_id, expires_at), self._keys[0])
        return link_answer(request, self._public_url, PATH.format(token=token), expires_at)

    async def _find(self, seller_id: str, order_id: str, refund_id: str) -> Invoice:
        if refund_id:
            return await self._documents.credit_note(seller_id, order_id, refund_id)
        return await self._documents.invoice(seller_id, order_id)
