"""Compares the products of the catalogue with the events that tell of them."""

from collections.abc import Sequence

from audit import statements
from audit.events import JournalEntry
from audit.report import AuditReport
from audit.snapshot import Snapshot
from schemas.catalog import CATALOGUE_EVENTS, PRODUCT_CHANGED
from schemas.codec import DecodeError, decode

_Identity = tuple[str, str]


class ProductCheck:
    """`take` receives rows of the journal, in order; `finish` then reports products without an event."""

    def __init__(self, snapshot: Snapshot, report: AuditReport, *, is_from_the_start: bool) -> None:
        """Unless it `is_from_the_start`, the first event seen of a product may have any version."""
        self._snapshot = snapshot
        self._report = report
        self._is_from_the_start = is_from_the_start
        #: Of the last event of each product.
        self._versions: dict[_Identity, int] = {}

    def take(self, topic: str, partition: int, entries: Sequence[JournalEntry]) -> None:
        """Compare rows of one journal partition."""
        last: dict[_Identity, tuple[int, bytes]] = {}
        for entry in entries:
            where = f"{topic}/{partition} seq {entry.seq}"
            try:
                _, event = decode(entry.payload, PRODUCT_CHANGED, bytes_max=CATALOGUE_EVENTS.value_bytes_max)
            except DecodeError as error:
                self._report.add("journal", where, f"can't be decoded: {error}")
                continue
            identity, version = (event["seller_id"], event["product_id"]), event["version"]
            if entry.key != identity[1].encode():
                self._report.add("product", where, "its key is not its product id")
            before = self._versions.get(identity, 0 if self._is_from_the_start else version - 1)
            if version != before + 1:
                self._report.add("product", _named(identity), f"goes from version {before} to {version}")
            self._versions[identity] = version
            last[identity] = version, entry.payload
        self._report.counts["product events"] += len(entries)
        if not last:
            return
        names = {"seller_ids": [seller for seller, _ in last], "product_ids": [product for _, product in last]}
        rows = {
            (seller, product): rest for seller, product, *rest in self._snapshot.rows(statements.PRODUCTS_OF, **names)
        }
        for identity, (version, payload) in last.items():
            stored, row = rows.get(identity, (0, b""))
            if stored < version:
                self._report.add("product", _named(identity), f"is at version {stored}, and an event says {version}")
            elif stored == version and row != payload:
                self._report.add("product", _named(identity), f"is not what its event of version {version} says")

    def finish(self) -> None:
        """Compare counts: each version of each product has one event."""
        versions = self._snapshot.count(statements.PRODUCT_VERSIONS)
        events = sum(self._versions.values())
        if versions != events:
            self._report.add("product", "products", f"{versions} versions, but {events} events that agree")


def _named(identity: _Identity) -> str:
    return f"product {identity[0]}/{identity[1]}"
