"""Compares the products and synonyms of the catalogue with the events that tell of them."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from audit import statements
from audit.events import JournalEntry
from audit.report import AuditReport
from audit.snapshot import Snapshot
from schemas.catalog import CATALOGUE_EVENTS, PRODUCT_CHANGED, SYNONYMS_CHANGED
from schemas.codec import DecodeError, decode


class _Identity(NamedTuple):
    seller_id: str
    #: None: it is no product, but the seller's synonyms.
    product_id: str | None

    @property
    def key(self) -> bytes:
        """The key of its events."""
        return (self.seller_id if self.product_id is None else self.product_id).encode()

    @property
    def name(self) -> str:
        """What reports call it."""
        if self.product_id is None:
            return f"synonyms of {self.seller_id}"
        return f"product {self.seller_id}/{self.product_id}"


class ProductCheck:
    """`take` receives rows of the journal, in order; `finish` then reports products and synonyms without an event."""

    def __init__(self, snapshot: Snapshot, report: AuditReport, *, is_from_the_start: bool) -> None:
        """Unless it `is_from_the_start`, the first event seen of a product may have any version."""
        self._snapshot = snapshot
        self._report = report
        self._is_from_the_start = is_from_the_start
        #: Of the last event of each.
        self._versions: dict[_Identity, int] = {}

    def take(self, topic: str, partition: int, entries: Sequence[JournalEntry]) -> None:
        """Compare rows of one journal partition."""
        last: dict[_Identity, tuple[int, bytes]] = {}
        for entry in entries:
            where = f"{topic}/{partition} seq {entry.seq}"
            try:
                identity, version = _read(entry.payload)
            except DecodeError as error:
                self._report.add("journal", where, f"can't be decoded: {error}")
                continue
            if entry.key != identity.key:
                self._report.add("product", where, f"its key is not that of the {identity.name}")
            before = self._versions.get(identity, 0 if self._is_from_the_start else version - 1)
            if version != before + 1:
                self._report.add("product", identity.name, f"goes from version {before} to {version}")
            self._versions[identity] = version
            last[identity] = version, entry.payload
        self._report.counts["product events"] += len(entries)
        if not last:
            return
        rows = self._rows(last)
        for identity, (version, payload) in last.items():
            stored, row = rows.get(identity, (0, b""))
            if stored < version:
                self._report.add("product", identity.name, f"is at version {stored}, and an event says {version}")
            elif stored == version and row != payload:
                self._report.add("product", identity.name, f"is not what its event of version {version} says")

    def finish(self) -> None:
        """Compare counts: each version of each product, and of each seller's synonyms, has one event."""
        versions = self._snapshot.count(statements.PRODUCT_VERSIONS)
        events = sum(self._versions.values())
        if versions != events:
            self._report.add("product", "products", f"{versions} versions, but {events} events that agree")

    def _rows(self, identities: Collection[_Identity]) -> dict[_Identity, tuple[int, bytes]]:
        """The version and the event of each that has a row."""
        products = [(each.seller_id, each.product_id) for each in identities if each.product_id is not None]
        names = {"seller_ids": [seller for seller, _ in products], "product_ids": [product for _, product in products]}
        found = {
            _Identity(seller, product): (version, event)
            for seller, product, version, event in self._snapshot.rows(statements.PRODUCTS_OF, **names)
        }
        sellers = [each.seller_id for each in identities if each.product_id is None]
        if sellers:
            rows = self._snapshot.rows(statements.SYNONYMS_OF, seller_ids=sellers)
            found |= {_Identity(seller, None): (version, event) for seller, version, event in rows}
        return found


def _read(payload: bytes) -> tuple[_Identity, int]:
    """What an event is about, and the version that it says. Raises `DecodeError`."""
    schema, event = decode(payload, *CATALOGUE_EVENTS.schemas, bytes_max=CATALOGUE_EVENTS.value_bytes_max)
    if PRODUCT_CHANGED.describes(event, schema):
        return _Identity(event["seller_id"], event["product_id"]), event["version"]
    if SYNONYMS_CHANGED.describes(event, schema):
        return _Identity(event["seller_id"], None), event["version"]
    raise DecodeError(f"the audit knows no {schema.name} of the catalogue")
