"""/v1/orders/{order_id}/lines/{line}/review and /v1/reviews: what buyers say of what they were delivered."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from aiohttp import web
from msgspec import UNSET

from domain.checkout import SKU_CHARS_MAX, check_sku
from domain.invoice import LINES_MAX, check_order_id
from domain.moments import micros, moment
from domain.refusals import INVALID_FIELD, Refusal
from domain.review import REASON_CHARS_MAX as REASON_MAX
from domain.review import ReviewState, ReviewTrigger, Words, check_words
from domain.texts import check_text
from gateway.http import bodies, parameters, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, operation, text
from gateway.http.parameters import ORDER_ID, entity_tags, order_id_of, whole_number
from gateway.http.problems import ProblemError
from gateway.invoices.invoice_views import time_text
from gateway.reviews.review_shapes import ModerationBody, RatingView, ReviewBody, ReviewList, ReviewView
from sinks.postgres.reviews import NoReview, Permits, Result, Review, ReviewChange, Reviews, StaleReview

_BODY_BYTES_MAX = 64 * 1024

_LINE = Parameter(
    "line", "path", {"type": "integer", "minimum": 0, "maximum": LINES_MAX - 1}, "The first is 0.", required=True
)
_SKU = Parameter("sku", "path", text(SKU_CHARS_MAX), "The article's number.", required=True)
_OF_SKU = Parameter("sku", "query", text(SKU_CHARS_MAX), "Only those of this article.")
_STATE = Parameter(
    "state",
    "query",
    {"type": "string", "enum": [each.value for each in ReviewState], "default": ReviewState.PUBLISHED.value},
    "Only those in this state.",
)
_IF_MATCH = Parameter("If-Match", "header", {"type": "string"}, "The ETag of the review that may be changed.")
_IF_NONE_MATCH = Parameter("If-None-Match", "header", {"type": "string"}, "`*`: only a first review is written.")

_decoder = msgspec.json.Decoder(ReviewBody)
_moderation_decoder = msgspec.json.Decoder(ModerationBody)
_TRIGGERS = {"approve": ReviewTrigger.APPROVE, "reject": ReviewTrigger.REJECT}


class ReviewEndpoints:
    """Takes, shows and moderates reviews, in Postgres directly."""

    def __init__(self, intake: Intake, reviews: Reviews, partitions: Callable[[], int]) -> None:
        """`partitions` says how many each topic has, or raises `ProblemError` where that is not known."""
        self._intake = intake
        self._reviews = reviews
        self._partitions = partitions

    def routes(self) -> list[web.RouteDef]:
        """The resources."""
        one = "/v1/orders/{order_id}/lines/{line}/review"
        return [
            web.get(one, self.get),
            web.put(one, self.put),
            web.delete(one, self.withdraw),
            web.post(f"{one}/moderation", self.moderate),
            web.get("/v1/reviews", self.get_all),
            web.get("/v1/ratings/{sku}", self.rating),
        ]

    @operation(
        "Review a line of an order that was delivered, or change its review",
        DeclaredResponse(200, "The review, which waits to be approved", ReviewView, headers=("ETag",)),
        body=ReviewBody,
        parameters=[ORDER_ID, _LINE, _IF_MATCH, _IF_NONE_MATCH],
        problems=[
            problems.NOT_FOUND,
            problems.UNKNOWN_ORDER,
            problems.NOT_PERMITTED,
            problems.PRECONDITION_FAILED,
            problems.INVALID_FIELD,
        ],
    )
    async def put(self, request: web.Request, seller_id: str) -> web.Response:
        """PUT /v1/orders/{order_id}/lines/{line}/review."""
        order_id, line = order_id_of(request), _line_of(request)
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_decoder, await read_body(request, _BODY_BYTES_MAX))
            words = Words(asked.stars, asked.title, asked.body, asked.author)
            refusal = check_words(words)
            if refusal is not None:
                raise problems.refused(refusal)
            customer = None if asked.customer is UNSET else asked.customer
            change = ReviewChange(seller_id, order_id, line, ReviewTrigger.WRITE, words, customer)
            return _answer(await self._change(change, _permits(request)))

    @operation(
        "Take a review back: its words are deleted",
        DeclaredResponse(200, "The review without its words", ReviewView, headers=("ETag",)),
        parameters=[ORDER_ID, _LINE, _IF_MATCH],
        problems=[problems.NOT_FOUND, problems.UNKNOWN_ORDER, problems.NOT_PERMITTED, problems.PRECONDITION_FAILED],
    )
    async def withdraw(self, request: web.Request, seller_id: str) -> web.Response:
        """DELETE /v1/orders/{order_id}/lines/{line}/review."""
        change = ReviewChange(seller_id, order_id_of(request), _line_of(request), ReviewTrigger.WITHDRAW)
        return _answer(await self._change(change, _permits(request)))

    @operation(
        "Approve or reject a review",
        DeclaredResponse(200, "The review as it is now", ReviewView, headers=("ETag",)),
        body=ModerationBody,
        parameters=[ORDER_ID, _LINE],
        problems=[
            problems.NOT_FOUND,
            problems.UNKNOWN_ORDER,
            problems.NOT_PERMITTED,
            problems.PRECONDITION_FAILED,
            problems.INVALID_FIELD,
        ],
    )
    async def moderate(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/orders/{order_id}/lines/{line}/review/moderation."""
        order_id, line = order_id_of(request), _line_of(request)
        with self._intake.place(request, seller_id):
            asked = bodies.decode_small(_moderation_decoder, await read_body(request, _BODY_BYTES_MAX))
            refusal = check_text("reason", asked.reason, REASON_MAX)
            if refusal is not None:
                raise problems.refused(refusal)
            change = ReviewChange(seller_id, order_id, line, _TRIGGERS[asked.action], reason=asked.reason)
            return _answer(await self._change(change, lambda version: version == asked.version))

    @operation(
        "A line's review",
        DeclaredResponse(200, "The review", ReviewView, headers=("ETag",)),
        parameters=[ORDER_ID, _LINE],
        problems=[problems.NOT_FOUND],
    )
    async def get(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/orders/{order_id}/lines/{line}/review."""
        order_id, line = order_id_of(request), _line_of(request)
        with problems.needing_postgres():
            found = await self._reviews.read(seller_id, order_id, line)
        if found is None:
            raise ProblemError(problems.NOT_FOUND, "this line has no review")
        return json_answer(_shown(found), headers=_etag(found.version))

    @operation(
        "Reviews, newest first",
        DeclaredResponse(200, "A page of them", ReviewList),
        parameters=[_STATE, _OF_SKU, *parameters.PAGE],
        problems=[problems.INVALID_FIELD],
    )
    async def get_all(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/reviews."""
        limit = parameters.limit_of(request.query)
        try:
            state = ReviewState(request.query.get("state", ReviewState.PUBLISHED.value))
        except ValueError:
            named = " or ".join(each.value for each in ReviewState)
            raise problems.refused(Refusal(INVALID_FIELD, "state", f"must be {named}")) from None
        sku = request.query.get("sku")
        refusal = None if sku is None else check_sku(sku)
        if refusal is not None:
            raise problems.refused(refusal)
        before = None
        if "cursor" in request.query:
            written_at, order_id, line = parameters.read_cursor(request.query["cursor"], tuple[int, str, int])
            if check_order_id(order_id) is not None or not 0 <= line < LINES_MAX:
                raise parameters.foreign_cursor()
            before = (_moment(written_at), order_id, line)
        with problems.needing_postgres():
            found = await self._reviews.page(seller_id, state, sku, before, limit + 1)
        body: ReviewList = {"reviews": [_shown(each) for each in found[:limit]], "next": None}
        if len(found) > limit:
            last = found[limit - 1]
            body["next"] = parameters.cursor(micros(last.written_at), last.order_id, last.line)
        return json_answer(body)

    @operation(
        "How an article's published reviews rate it",
        DeclaredResponse(200, "Count, average and stars", RatingView),
        parameters=[_SKU],
        problems=[problems.NOT_FOUND],
    )
    async def rating(self, request: web.Request, seller_id: str) -> web.Response:
        """GET /v1/ratings/{sku}."""
        sku = request.match_info["sku"]
        if check_sku(sku) is not None:
            raise ProblemError(problems.NOT_FOUND, "no article can have a SKU like this")
        with problems.needing_postgres():
            rating = await self._reviews.rating(seller_id, sku)
        one, two, three, four, five = rating.counts
        body: RatingView = {
            "sku": sku,
            "count": rating.count,
            "average": rating.average,
            "stars": {"one": one, "two": two, "three": three, "four": four, "five": five},
        }
        return json_answer(body)

    async def _change(self, change: ReviewChange, permits: Permits) -> Result:
        with problems.needing_postgres():
            return await self._reviews.change(change, self._partitions(), datetime.now(UTC), permits)


def _answer(result: Result) -> web.Response:
    if isinstance(result, Refusal):
        raise problems.refused(result)
    if isinstance(result, NoReview):
        raise ProblemError(problems.NOT_FOUND, result.detail)
    if isinstance(result, StaleReview):
        if result.version is None:
            raise ProblemError(problems.PRECONDITION_FAILED, "this line has no review: send no If-Match")
        raise ProblemError(
            problems.PRECONDITION_FAILED,
            f"this review is at version {result.version}: read it and decide again",
            headers=_etag(result.version),
            more={"version": result.version},
        )
    return json_answer(_shown(result), headers=_etag(result.version))


def _line_of(request: web.Request) -> int:
    line = whole_number(request.match_info["line"], 0, LINES_MAX - 1)
    if line is None:
        raise ProblemError(problems.NOT_FOUND, "no order has a line like this")
    return line


def _permits(request: web.Request) -> Permits:
    """The versions that `If-Match` and `If-None-Match` permit to be changed."""
    wanted = entity_tags(request.headers, "If-Match")
    unwanted = entity_tags(request.headers, "If-None-Match")

    def permits(version: int | None) -> bool:
        if version is None:
            return wanted is None
        tag = str(version)
        return (wanted is None or wanted.match_strongly(tag)) and (unwanted is None or not unwanted.match_weakly(tag))

    return permits


def _etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


def _shown(review: Review) -> ReviewView:
    return {
        "order_id": review.order_id,
        "line": review.line,
        "sku": review.sku,
        "state": review.state,
        "version": review.version,
        "stars": review.stars,
        "title": review.title,
        "body": review.body,
        "author": review.author,
        "reason": review.reason,
        "written_at": time_text(review.written_at),
        "changed_at": time_text(review.changed_at),
    }


def _moment(written_at: int) -> datetime:
    try:
        return moment(written_at)
    except OverflowError:
        raise parameters.foreign_cursor() from None
