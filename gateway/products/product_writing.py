"""/v1/products: what a seller offers, written and read by the seller."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

import msgspec
from aiohttp import web

from admission.product_cache import ProductCache
from admission.unavailable import RedisUnavailableError
from domain.product import PRODUCT_BYTES_MAX, check, check_product_id
from domain.records import Product
from gateway.http import bodies, parameters, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, operation
from gateway.http.parameters import entity_tags, permits
from gateway.http.problems import ProblemError
from gateway.products.product_shapes import (
    PRODUCT,
    BulkLine,
    ProductBody,
    ProductList,
    ProductView,
    as_record,
    shown,
)
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.products import (
    CHANGES_MAX,
    ProductResult,
    Products,
    PutProduct,
    SkuTaken,
    StaleProduct,
    StoredProduct,
)
from sinks.postgres.products_reader import ProductsReader

BULK_LINES_MAX = 1_000
_NDJSON = "application/x-ndjson"

_IF_MATCH = Parameter(
    "If-Match", "header", {"type": "string"}, "The ETag of the product that may be changed, or `*` for any."
)
_IF_NONE_MATCH_PUT = Parameter("If-None-Match", "header", {"type": "string"}, "`*`: only a new product is made.")
_IF_NONE_MATCH_GET = Parameter("If-None-Match", "header", {"type": "string"}, "The ETag of one's own copy.")

_decoder = msgspec.json.Decoder(ProductBody)
_line_decoder = msgspec.json.Decoder(BulkLine)


class BulkAnswer(TypedDict):
    """What became of a line: its version, or what is wrong with it, as a problem says it."""

    line: int
    product_id: str | None
    status: int
    version: NotRequired[int]
    type: NotRequired[str]
    title: NotRequired[str]
    detail: NotRequired[str]
    field: NotRequired[str]


class ProductWriting:
    """Writes products to Postgres, with their events."""

    def __init__(
        self,
        intake: Intake,
        reader: ProductsReader,
        products: Products,
        cache: ProductCache,
        partitions: Callable[[], int],
    ) -> None:
        """`partitions` says how many each topic has, or raises `ProblemError` where that is not known."""
        self._intake = intake
        self._reader = reader
        self._products = products
        self._cache = cache
        self._partitions = partitions

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        one = "/v1/products/{product_id}"
        return [
            web.get("/v1/products", self.get_all),
            web.post("/v1/products/bulk", self.bulk),
            web.get(one, self.get),
            web.put(one, self.put),
            web.delete(one, self.delete),
        ]

    @operation(
        "Put a product into the catalogue, or replace it",
        DeclaredResponse(200, "The product as it is now", ProductView, headers=("ETag",)),
        DeclaredResponse(201, "The new product", ProductView, headers=("ETag",)),
        body=ProductBody,
        parameters=[PRODUCT, _IF_MATCH, _IF_NONE_MATCH_PUT],
        problems=[problems.INVALID_FIELD, problems.SKU_TAKEN, problems.PRECONDITION_FAILED],
    )
    async def put(self, request: web.Request, seller_id: str) -> web.Response:
        """PUT /v1/products/{product_id}."""
        product_id = request.match_info["product_id"]
        refusal = check_product_id(product_id)
        if refusal is not None:
            raise problems.refused(refusal)
        with self._intake.place(request, seller_id):
            body = await read_body(request, PRODUCT_BYTES_MAX)
            product = _checked(bodies.decode_small(_decoder, body))
            [result] = await self._change(seller_id, [PutProduct(product_id, product, permits(request.headers))])
        stored = _stored(result)
        return json_answer(_view(stored), status=201 if stored.is_new else 200, headers=_etag(stored.version))

    @operation(
        "Take a product out of the catalogue",
        DeclaredResponse(204, "It is gone"),
        parameters=[PRODUCT, _IF_MATCH],
        problems=[problems.NOT_FOUND, problems.PRECONDITION_FAILED, problems.SERVERS_DISAGREE],
    )
    async def delete(self, request: web.Request, seller_id: str) -> web.Response:
        """DELETE /v1/products/{product_id}."""
        product_id = _named(request)
        [result] = await self._change(seller_id, [PutProduct(product_id, None, permits(request.headers))])
        _stored(result)
        return web.Response(status=204)

    @operation(
        "Put many products into the catalogue: one JSON object a line",
        DeclaredResponse(200, "An answer for each line, in their order", media_type=_NDJSON),
        body=BulkLine,
        body_media_type=_NDJSON,
    )
    async def bulk(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/products/bulk."""
        with self._intake.place(request, seller_id):
            lines = [line for line in (await read_body(request)).split(b"\n") if line.strip()]
            if len(lines) > BULK_LINES_MAX:
                detail = f"must have at most {BULK_LINES_MAX} lines: send more in several requests"
                raise ProblemError(problems.TOO_LARGE, detail)
            answers: list[BulkAnswer] = []
            for first in range(0, len(lines), CHANGES_MAX):
                answers += await self._put_some(seller_id, first + 1, lines[first : first + CHANGES_MAX])
                # Others have their turn between two parts.
                await asyncio.sleep(0)
        return web.Response(body=msgspec.json.Encoder().encode_lines(answers), content_type=_NDJSON)

    async def _put_some(self, seller_id: str, first: int, lines: Sequence[bytes]) -> list[BulkAnswer]:
        """Put the products of some lines in one transaction; `first` is the number of the first line."""
        answers: list[BulkAnswer] = []
        changes: list[PutProduct] = []
        places: list[int] = []
        for number, line in enumerate(lines, first):
            product_id = None
            try:
                body = _read_line(line)
                product_id = body.product_id
                change = PutProduct(product_id, _checked(body))
            except ProblemError as problem:
                answers.append(_wrong(number, product_id, problem))
                continue
            places.append(len(answers))
            answers.append({"line": number, "product_id": change.product_id, "status": 200})
            changes.append(change)
        try:
            results = await self._change(seller_id, changes) if changes else []
        except ProblemError as problem:
            for place in places:
                answers[place] = _wrong(answers[place]["line"], answers[place]["product_id"], problem)
            return answers
        for place, result in zip(places, results, strict=True):
            try:
                stored = _stored(result)
            except ProblemError as problem:
                answers[place] = _wrong(answers[place]["line"], answers[place]["product_id"], problem)
            else:
                answers[place]["status"] = 201 if stored.is_new else 200
                answers[place]["version"] = stored.version
        return answers

    @operation(
        "A product, as the seller has written it",
        DeclaredResponse(200, "The product", ProductView, headers=("ETag",)),
        DeclaredResponse(304, "The caller already has it", headers=("ETag",)),
        parameters=[PRODUCT, _IF_NONE_MATCH_GET],
        problems=[problems.NOT_FOUND],
    )
    async def get(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/products/{product_id}, from Postgres."""
        product_id = _named(request)
        with problems.needing_postgres():
            found = await self._reader.product(seller_id, product_id)
        if found is None:
            raise _unknown()
        known, tag = entity_tags(request.headers, "If-None-Match"), _etag(found.stored.version)
        if known is not None and known.match_weakly(str(found.stored.version)):
            return web.Response(status=304, headers=tag)
        return json_answer(_view(found.stored), headers=tag)

    @operation(
        "The seller's products, by id",
        DeclaredResponse(200, "A page of them", ProductList),
        parameters=parameters.PAGE,
        problems=[problems.INVALID_FIELD],
    )
    async def get_all(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/products, in the order of their ids."""
        limit = parameters.limit_of(request.query)
        after = cursor_of(request.query)
        with problems.needing_postgres():
            ids = await self._reader.product_ids(seller_id, None, after, limit + 1)
            found = await asyncio.gather(*(self._reader.product(seller_id, each) for each in ids[:limit]))
        following = parameters.cursor(ids[limit - 1]) if len(ids) > limit else None
        return json_answer({"products": [_view(each.stored) for each in found if each is not None], "next": following})

    async def _change(self, seller_id: str, changes: Sequence[PutProduct]) -> list[ProductResult]:
        partitions = self._partitions()
        try:
            results = await self._products.change(seller_id, changes, partitions, datetime.now(UTC))
        except PostgresUnavailableError:
            raise ProblemError(
                problems.UNAVAILABLE,
                "Postgres does not answer, so it is unknown whether the change was made: send it again, which is safe",
                retry_after_seconds=2,
            ) from None
        changed = [each.product_id for each in results if isinstance(each, StoredProduct) and each.is_changed]
        # Best effort, for buyers to see it at once: the events mark them again.
        with contextlib.suppress(RedisUnavailableError):
            await self._cache.mark(seller_id, changed)
        return results


def cursor_of(query: Mapping[str, str]) -> str:
    """The id behind which a page begins; raises `ProblemError` for a cursor that no page had."""
    if "cursor" not in query:
        return ""
    (after,) = parameters.read_cursor(query["cursor"], tuple[str])
    if check_product_id(after) is not None:
        raise parameters.foreign_cursor()
    return after


def _named(request: web.Request) -> str:
    """The product id in the path; raises `ProblemError` for one that no product can have."""
    product_id = request.match_info["product_id"]
    if check_product_id(product_id) is not None:
        raise _unknown()
    return product_id


def _read_line(line: bytes) -> BulkLine:
    if len(line) > PRODUCT_BYTES_MAX:
        raise ProblemError(problems.TOO_LARGE, f"a line must have at most {PRODUCT_BYTES_MAX} bytes")
    body = bodies.decode_small(_line_decoder, line)
    refusal = check_product_id(body.product_id)
    if refusal is not None:
        raise problems.refused(refusal)
    return body


def _checked(body: ProductBody) -> Product:
    product = as_record(body)
    refusal = check(product)
    if refusal is not None:
        raise problems.refused(refusal)
    return product


def _stored(result: ProductResult) -> StoredProduct:
    """The product after its change; raises `ProblemError` where it was refused."""
    if result is None:
        raise _unknown()
    if isinstance(result, SkuTaken):
        raise ProblemError(
            problems.SKU_TAKEN,
            f"{result.sku} is sold by the product {result.owner}: a SKU belongs to one product",
            field="variants",
            more={"sku": result.sku, "product_id": result.owner},
        )
    if isinstance(result, StaleProduct):
        raise _stale(result)
    return result


def _stale(stale: StaleProduct) -> ProblemError:
    if stale.version is None:
        return ProblemError(problems.PRECONDITION_FAILED, "there is no such product: send no If-Match")
    return ProblemError(
        problems.PRECONDITION_FAILED,
        f"this product is at version {stale.version}, to which If-Match or If-None-Match doesn't permit a change:"
        " read it and decide again",
        headers=_etag(stale.version),
        more={"product_id": stale.product_id, "version": stale.version},
    )


def _wrong(line: int, product_id: str | None, problem: ProblemError) -> BulkAnswer:
    kind = problem.kind
    answer: BulkAnswer = {
        "line": line,
        "product_id": product_id,
        "status": kind.status,
        "type": kind.type,
        "title": kind.title,
        "detail": problem.detail,
    }
    if problem.field is not None:
        answer["field"] = problem.field
    return answer


def _view(stored: StoredProduct) -> ProductView:
    if stored.product is None:
        raise LookupError(f"{stored.product_id} was deleted and is to be shown")
    return shown(stored.product_id, stored.version, stored.product)


def _etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


def _unknown() -> ProblemError:
    return ProblemError(problems.NOT_FOUND, "there is no such product")
