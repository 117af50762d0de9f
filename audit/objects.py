"""Checks the stored documents: each row's object, read in full."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from audit import statements
from audit.report import AuditReport
from audit.snapshot import Snapshot
from schemas.catalog import CREDIT_NOTE_ISSUED, INVOICE_EVENTS, INVOICE_ISSUED, is_issued
from schemas.codec import DecodeError, decode

#: The name by which a document's pages refer to its logo.
_LOGO = b"/XObject << /Logo "
#: Objects read concurrently; each has one chunk in memory.
_READERS = 8
_QUEUED = 64


#: Yields an object's bytes in chunks; raises `FileNotFoundError`.
ReadObject = Callable[[str], Iterable[bytes]]


#: Returns an object's size in bytes; raises `FileNotFoundError`.
SizeOf = Callable[[str], int]


class StoredDocument(NamedTuple):
    series_id: str
    number: int
    seller_id: str
    key: str
    sha256: bytes
    size_bytes: int
    #: The event that it was made from; None if no seller ever had a logo.
    event: bytes | None


def check_documents(snapshot: Snapshot, report: AuditReport, read: ReadObject) -> set[tuple[str, int]]:
    """Check each document's object, with size and digest; returns invoices whose document is pending."""
    pending = {(series_id, number) for series_id, number in snapshot.stream(statements.PENDING_DOCUMENTS)}
    report.pending_documents = len(pending)
    for series_id, number in snapshot.stream(statements.DOCUMENTS_WITHOUT_INVOICE):
        report.add("document", f"series {series_id} number {number}", "has a document, but no invoice")
    verdicts: deque[tuple[StoredDocument, Future[str]]] = deque()
    with ThreadPoolExecutor(_READERS, thread_name_prefix="audit-objects") as readers:
        for row in snapshot.stream(statements.DOCUMENTS, topic=INVOICE_EVENTS.name):
            document = StoredDocument(*row)
            verdicts.append((document, readers.submit(_compare, document, read)))
            if len(verdicts) >= _QUEUED:
                _take(report, *verdicts.popleft())
        while verdicts:
            _take(report, *verdicts.popleft())
    return pending


def check_some(
    report: AuditReport, rows: Iterable[tuple[Any, ...]], read: ReadObject, size: SizeOf, read_max: int
) -> None:
    """Check that objects exist with the right sizes, and read at most `read_max` of them in full."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="audit-objects") as readers:
        verdicts = [
            (
                document,
                readers.submit(_compare, document, read) if n < read_max else readers.submit(_weigh, document, size),
            )
            for n, document in enumerate(StoredDocument(*row) for row in rows)
        ]
        for document, verdict in verdicts:
            _take(report, document, verdict)


def _take(report: AuditReport, document: StoredDocument, verdict: "Future[str]") -> None:
    report.counts["documents"] += 1
    if wrong := verdict.result():
        report.add("document", f"series {document.series_id} number {document.number}", wrong)


def _compare(document: StoredDocument, read: ReadObject) -> str:
    """What is wrong with a document's object; empty if nothing."""
    hexdigest = document.sha256.hex()
    if wrong := _key_wrong(document):
        return wrong
    digest = hashlib.sha256()
    size = 0
    shows_logo, tail = False, b""
    try:
        for chunk in read(document.key):
            digest.update(chunk)
            size += len(chunk)
            tail += chunk
            shows_logo = shows_logo or _LOGO in tail
            tail = tail[1 - len(_LOGO) :]
    except FileNotFoundError:
        return f"{document.key} is not in the store"
    if size != document.size_bytes:
        return f"{document.key} has {size} bytes, not {document.size_bytes}"
    if digest.digest() != document.sha256:
        return f"{document.key} has digest {digest.hexdigest()[:16]}, not {hexdigest[:16]}"
    if not shows_logo and _names_logo(document.event):
        return f"{document.key} does not hold the logo that its event names"
    return ""


def _names_logo(event: bytes | None) -> bool:
    if event is None:
        return False
    try:
        schema, issued = decode(event, INVOICE_ISSUED, CREDIT_NOTE_ISSUED, bytes_max=INVOICE_EVENTS.value_bytes_max)
    except DecodeError:  # Reported by the check of events.
        return False
    return is_issued(issued, schema) and issued["seller"]["logo_sha256"] is not None


def _weigh(document: StoredDocument, size_of: SizeOf) -> str:
    """What is wrong with a document's object, without reading it; empty if nothing."""
    if wrong := _key_wrong(document):
        return wrong
    try:
        size = size_of(document.key)
    except FileNotFoundError:
        return f"{document.key} is not in the store"
    return "" if size == document.size_bytes else f"{document.key} has {size} bytes, not {document.size_bytes}"


def _key_wrong(document: StoredDocument) -> str:
    digest = document.sha256.hex()[:16]
    if document.key.startswith(f"invoices/{document.seller_id}/") and document.key.endswith(f"-{digest}.pdf"):
        return ""
    return f"its key does not carry its seller and digest {digest}: {document.key}"
