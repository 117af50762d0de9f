"""Compares reviews with the events that tell of them, and ratings with the reviews that they count."""

from collections.abc import Mapping, Sequence
from typing import Any

from audit import statements
from audit.events import JournalEntry
from audit.report import AuditReport
from audit.snapshot import Snapshot
from schemas.catalog import REVIEW_CHANGED, REVIEW_EVENTS
from schemas.codec import DecodeError, decode

#: What a row and its event of the same version both say.
_SAID = ("sku", "state", "stars", "title", "body", "author")
_Identity = tuple[str, str, int]


class ReviewCheck:
    """`take` receives rows of the journal, in order; `finish` then compares what there is in all."""

    def __init__(self, snapshot: Snapshot, report: AuditReport, *, is_from_the_start: bool) -> None:
        """Unless it `is_from_the_start`, the first event seen of a review or rating may have any version."""
        self._snapshot = snapshot
        self._report = report
        self._is_from_the_start = is_from_the_start
        #: Of the last event of each review, and of each article's rating.
        self._reviews: dict[_Identity, int] = {}
        self._ratings: dict[tuple[str, str], int] = {}

    def take(self, topic: str, partition: int, entries: Sequence[JournalEntry]) -> None:
        """Compare rows of one journal partition."""
        last: dict[_Identity, Mapping[str, Any]] = {}
        for entry in entries:
            try:
                _, event = decode(entry.payload, REVIEW_CHANGED, bytes_max=REVIEW_EVENTS.value_bytes_max)
            except DecodeError as error:
                self._report.add("journal", f"{topic}/{partition} seq {entry.seq}", f"can't be decoded: {error}")
                continue
            if entry.key != event["sku"].encode():
                self._report.add("review", f"{topic}/{partition} seq {entry.seq}", "its key is not its SKU")
            identity = (event["seller_id"], event["order_id"], event["line"])
            article = (event["seller_id"], event["sku"])
            self._walk(_named(identity), self._reviews, identity, event["version"])
            self._walk(f"rating of {article[0]}/{article[1]}", self._ratings, article, event["rating"]["version"])
            last[identity] = event
        self._report.counts["review events"] += len(entries)
        if last:
            self._compare(last)

    def finish(self) -> None:
        """Report reviews without an event, and ratings that are not what the published reviews come to."""
        versions, events = self._snapshot.count(statements.REVIEW_VERSIONS), sum(self._reviews.values())
        if versions != events:
            self._report.add("review", "reviews", f"{versions} versions, but {events} events that agree")
        for seller_id, sku, rated, counted in self._snapshot.rows(statements.WRONG_RATINGS):
            self._report.add("review", f"rating of {seller_id}/{sku}", f"says {rated}, but the reviews are {counted}")

    def _walk(self, where: str, versions: dict[Any, int], identity: object, version: int) -> None:
        before = versions.get(identity, 0 if self._is_from_the_start else version - 1)
        if version != before + 1:
            self._report.add("review", where, f"goes from version {before} to {version}")
        versions[identity] = version

    def _compare(self, last: Mapping[_Identity, Mapping[str, Any]]) -> None:
        sellers, orders, lines = map(list, zip(*last, strict=True))
        rows = {
            (row["seller_id"], row["order_id"], row["line"]): row
            for row in self._snapshot.dicts(statements.REVIEWS_OF, seller_ids=sellers, order_ids=orders, lines=lines)
        }
        for identity, event in last.items():
            row = rows.get(identity)
            stored = 0 if row is None else row["version"]
            if row is None or stored < event["version"]:
                what = f"is at version {stored}, and an event says {event['version']}"
                self._report.add("review", _named(identity), what)
            elif stored == event["version"]:
                for name in _SAID:
                    if row[name] != event[name]:
                        self._report.add("review", _named(identity), f"has another {name} than its event")


def _named(identity: _Identity) -> str:
    seller_id, order_id, line = identity
    return f"review of {seller_id}/{order_id} line {line}"
