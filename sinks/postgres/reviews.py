"""Reviews of delivered lines: each change is one transaction for the review, its article's rating, and the event."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import LiteralString

from domain.moments import micros
from domain.order import OrderState
from domain.records import ReviewChanged
from domain.refusals import NOT_PERMITTED, UNKNOWN_ORDER, Refusal
from domain.review import OBEYED, Rating, ReviewState, ReviewTrigger, Words, step
from schemas.catalog import REVIEW_CHANGED, REVIEW_EVENTS
from schemas.codec import encode
from schemas.placement import partition_of
from sinks.microbatch import MicroBatch
from sinks.postgres import journal
from sinks.postgres.journal import JournalRow
from sinks.postgres.lanes import Lane, check_url
from sinks.postgres.session import Connection, Session, believed, fetch_dicts

NO_WORDS = Words(0, "", "", "")

_READ_LINE: LiteralString = """
    SELECT l.sku, s.product_id, o.customer, o.history @> %(delivered)s::jsonb AS was_delivered
    FROM orders o LEFT JOIN order_lines l
        ON l.seller_id = o.seller_id AND l.order_id = o.order_id AND l.line = %(line)s
    LEFT JOIN product_skus s ON s.seller_id = l.seller_id AND s.sku = l.sku
    WHERE o.seller_id = %(seller_id)s AND o.order_id = %(order_id)s
"""
_DELIVERED = f'[{{"to": "{OrderState.DELIVERED.value}"}}]'

#: Whoever changes a review of an article holds its rating's lock, so that no two write one review.
_LOCK_RATING: LiteralString = """
    INSERT INTO ratings AS r (seller_id, sku) VALUES (%(seller_id)s, %(sku)s)
    ON CONFLICT (seller_id, sku) DO UPDATE SET version = r.version
    RETURNING one, two, three, four, five, version
"""

_WRITE_RATING: LiteralString = """
    UPDATE ratings SET one = %(one)s, two = %(two)s, three = %(three)s, four = %(four)s, five = %(five)s,
        version = %(version)s
    WHERE seller_id = %(seller_id)s AND sku = %(sku)s
"""

_READ: LiteralString = """
    SELECT order_id, line, sku, state, version, stars, title, body, author, reason, written_at, changed_at
    FROM reviews WHERE seller_id = %(seller_id)s AND order_id = %(order_id)s AND line = %(line)s
"""

_WRITE: LiteralString = """
    INSERT INTO reviews (seller_id, order_id, line, sku, state, version, stars, title, body, author, reason, written_at,
        changed_at)
    VALUES (%(seller_id)s, %(order_id)s, %(line)s, %(sku)s, %(state)s, %(version)s, %(stars)s, %(title)s, %(body)s,
        %(author)s, %(reason)s, %(written_at)s, %(changed_at)s)
    ON CONFLICT (seller_id, order_id, line) DO UPDATE SET state = excluded.state, version = excluded.version,
        stars = excluded.stars, title = excluded.title, body = excluded.body, author = excluded.author,
        reason = excluded.reason, written_at = excluded.written_at, changed_at = excluded.changed_at
"""

# Each of the two finds its place in an index of its own.
_LIST: LiteralString = """
    SELECT order_id, line, sku, state, version, stars, title, body, author, reason, written_at, changed_at
    FROM reviews WHERE seller_id = %(seller_id)s AND state = %(state)s
        AND (written_at, order_id, line) < (%(written_at)s::timestamptz, %(order_id)s, %(line)s)
    ORDER BY written_at DESC, order_id DESC, line DESC LIMIT %(limit)s
"""
_LIST_OF_SKU: LiteralString = """
    SELECT order_id, line, sku, state, version, stars, title, body, author, reason, written_at, changed_at
    FROM reviews WHERE seller_id = %(seller_id)s AND sku = %(sku)s AND state = %(state)s
        AND (written_at, order_id, line) < (%(written_at)s::timestamptz, %(order_id)s, %(line)s)
    ORDER BY written_at DESC, order_id DESC, line DESC LIMIT %(limit)s
"""

_READ_RATING: LiteralString = """
    SELECT one, two, three, four, five FROM ratings WHERE seller_id = %(seller_id)s AND sku = %(sku)s
"""


@dataclass(frozen=True, slots=True)
class Review:
    """A review's row."""

    order_id: str
    line: int
    sku: str
    state: str
    version: int
    stars: int
    title: str
    body: str
    author: str
    reason: str
    written_at: datetime
    changed_at: datetime

    @property
    def words(self) -> Words:
        """What it says."""
        return Words(self.stars, self.title, self.body, self.author)


@dataclass(frozen=True, slots=True)
class ReviewChange:
    """What is asked for of a line's review."""

    seller_id: str
    order_id: str
    line: int
    trigger: ReviewTrigger
    #: To be written.
    words: Words = NO_WORDS
    #: The customer whose order it must be; None for any.
    customer: str | None = None
    #: The moderator's.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NoReview:
    """Refused: there is no such line, or no review of it."""

    detail: str


@dataclass(frozen=True, slots=True)
class StaleReview:
    """Refused: the caller does not permit the review's version; None if there is no review."""

    version: int | None


Result = Review | Refusal | NoReview | StaleReview
#: Whether a review of this version may be changed; the version is None if there is no review.
Permits = Callable[[int | None], bool]
#: Where a page begins: behind the review of this time, order and line.
Place = tuple[datetime, str, int]
_Change = tuple[ReviewChange, int, datetime, Permits]


class Reviews:
    """Reads and writes reviews for one gateway. Every method raises `PostgresUnavailableError`."""

    def __init__(self, url: str, *, events: str = REVIEW_EVENTS.name) -> None:
        """Connects on first use. Raises `ValueError`."""
        check_url(url)
        self._events = events
        self._writes = lane = Lane(url, read_only=False)
        self._reads = Lane(url, read_only=True)
        self._changes: MicroBatch[_Change, Result] = MicroBatch(
            lambda changes: lane.run(lambda session: self._change(session, changes)), questions_max=1
        )

    async def change(self, change: ReviewChange, partitions: int, now: datetime, permits: Permits) -> Result:
        """The review after the change, or why it was refused. `partitions` is the number of each topic's partitions.

        What a review says or is already is no change: repeating one is harmless.
        """
        return await self._writes.ask(self._changes, (change, partitions, now, permits))

    async def read(self, seller_id: str, order_id: str, line: int) -> Review | None:
        """A line's review; None if there is none."""
        rows = await self._reads.query(_READ, seller_id=seller_id, order_id=order_id, line=line)
        return Review(**rows[0]) if rows else None

    async def page(
        self, seller_id: str, state: ReviewState, sku: str | None, before: Place | None, limit: int
    ) -> list[Review]:
        """Reviews in a state, of an article or of all, newest first, behind `before`."""
        written_at, order_id, line = before or ("infinity", "", 0)
        parameters = {
            "seller_id": seller_id,
            "state": state.value,
            "written_at": written_at,
            "order_id": order_id,
            "line": line,
            "limit": limit,
        }
        if sku is None:
            rows = await self._reads.query(_LIST, **parameters)
        else:
            rows = await self._reads.query(_LIST_OF_SKU, **parameters, sku=sku)
        return [Review(**row) for row in rows]

    async def rating(self, seller_id: str, sku: str) -> Rating:
        """An article's rating."""
        rows = await self._reads.query(_READ_RATING, seller_id=seller_id, sku=sku)
        return _rating(*rows[0].values()) if rows else Rating()

    async def close(self) -> None:
        """Close the connections, even hanging ones."""
        await self._writes.close(self._changes)
        await self._reads.close()

    async def _change(self, session: Session, changes: list[_Change]) -> list[Result]:
        results = []
        for change in changes:
            async with session.pipelined_transaction() as connection:
                results.append(await self._change_one(connection, *change))
        return results

    async def _change_one(
        self, connection: Connection, change: ReviewChange, partitions: int, now: datetime, permits: Permits
    ) -> Result:
        identity = {"seller_id": change.seller_id, "order_id": change.order_id, "line": change.line}
        cursor = await connection.execute(_READ_LINE, {**identity, "delivered": _DELIVERED})
        found = await fetch_dicts(cursor)
        refusal = _refuse(found[0] if found else None, change)
        if refusal is not None:
            return refusal
        sku, product_id = str(found[0]["sku"]), found[0]["product_id"]
        cursor = await connection.execute(_LOCK_RATING, {"seller_id": change.seller_id, "sku": sku})
        [(*counts, rating_version)] = await cursor.fetchall()
        rows = await fetch_dicts(await connection.execute(_READ, identity))
        before = Review(**rows[0]) if rows else None
        if before is None and change.trigger is not ReviewTrigger.WRITE:
            return NoReview("this line has no review")
        version = None if before is None else before.version
        if not permits(version):
            return StaleReview(version)
        if before is not None and _is_done(before, change):
            return before
        state = step(None if before is None else ReviewState(before.state), change.trigger)
        if isinstance(state, Refusal):
            return state
        now = await believed(connection, now)
        after = _after(before, change, sku, state, now)
        rating = _rating(*counts).changed(_counted(before), _counted(after))
        await connection.execute(_WRITE, {**identity, **_values(after)})
        names = ("one", "two", "three", "four", "five")
        await connection.execute(
            _WRITE_RATING,
            {
                "seller_id": change.seller_id,
                "sku": sku,
                "version": rating_version + 1,
                **dict(zip(names, rating.counts, strict=True)),
            },
        )
        partition = partition_of(sku.encode(), partitions)
        row = _event(change.seller_id, product_id, after, rating, rating_version + 1, now)
        await journal.append(connection, {(self._events, partition): [row]})
        return after


def _refuse(line: dict[str, object] | None, change: ReviewChange) -> Refusal | NoReview | None:
    """Why this line can't be reviewed."""
    if line is None:
        return Refusal(UNKNOWN_ORDER, "order_id", "no checkout order with this id is known")
    if not line["sku"]:
        return NoReview("the order has no such line, or it is of no article")
    if change.customer is not None and change.customer != line["customer"]:
        return NoReview("the order is of another customer")
    if not line["was_delivered"]:
        return Refusal(NOT_PERMITTED, "action", "an order can be reviewed once it is DELIVERED")
    return None


def _is_done(before: Review, change: ReviewChange) -> bool:
    if change.trigger is ReviewTrigger.WRITE:
        return before.words == change.words
    return before.state == OBEYED[change.trigger]


def _after(before: Review | None, change: ReviewChange, sku: str, state: ReviewState, now: datetime) -> Review:
    if before is None or change.trigger in (ReviewTrigger.WRITE, ReviewTrigger.WITHDRAW):
        words = change.words
        return Review(
            order_id=change.order_id,
            line=change.line,
            sku=sku,
            state=state.value,
            version=1 if before is None else before.version + 1,
            stars=words.stars,
            title=words.title,
            body=words.body,
            author=words.author,
            reason="",
            written_at=now,
            changed_at=now,
        )
    return replace(before, state=state.value, version=before.version + 1, reason=change.reason, changed_at=now)


def _rating(one: int, two: int, three: int, four: int, five: int) -> Rating:
    return Rating((one, two, three, four, five))


def _counted(review: Review | None) -> int | None:
    """The stars that it adds to the rating."""
    return review.stars if review is not None and review.state == ReviewState.PUBLISHED else None


def _values(review: Review) -> dict[str, object]:
    return {
        "sku": review.sku,
        "state": review.state,
        "version": review.version,
        "stars": review.stars,
        "title": review.title,
        "body": review.body,
        "author": review.author,
        "reason": review.reason,
        "written_at": review.written_at,
        "changed_at": review.changed_at,
    }


def _event(
    seller_id: str, product_id: str | None, review: Review, rating: Rating, rating_version: int, now: datetime
) -> JournalRow:
    one, two, three, four, five = rating.counts
    value: ReviewChanged = {
        "seller_id": seller_id,
        "sku": review.sku,
        "product_id": product_id,
        "order_id": review.order_id,
        "line": review.line,
        "version": review.version,
        "state": review.state,
        "stars": review.stars,
        "title": review.title,
        "body": review.body,
        "author": review.author,
        "rating": {"version": rating_version, "one": one, "two": two, "three": three, "four": four, "five": five},
        "occurred_at": micros(now),
        "event_id": None,
    }
    return JournalRow(review.sku.encode(), encode(REVIEW_CHANGED, value), now)
