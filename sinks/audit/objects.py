"""The documents: each row's object, read in full."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from sinks.audit import statements
from sinks.audit.report import Report
from sinks.audit.snapshot import Snapshot

#: Objects read at a time; each holds one chunk in memory.
_READERS = 8
_QUEUED = 64


#: Yields an object's bytes in chunks; raises `FileNotFoundError`.
ReadObject = Callable[[str], Iterable[bytes]]


class _Document(NamedTuple):
    series_id: str
    number: int
    seller_id: str
    key: str
    sha256: bytes
    size_bytes: int


def check_documents(snapshot: Snapshot, report: Report, read: ReadObject) -> None:
    """Each document row's object is there, with its size and digest; the rest is counted as pending."""
    report.pending_documents = snapshot.count(statements.COUNT_PENDING_DOCUMENTS)
    for series_id, number in snapshot.stream(statements.DOCUMENTS_WITHOUT_INVOICE):
        report.add("document", f"series {series_id} number {number}", "has a document, but no invoice")
    verdicts: deque[tuple[_Document, Future[str]]] = deque()
    with ThreadPoolExecutor(_READERS, thread_name_prefix="audit-objects") as readers:
        for row in snapshot.stream(statements.DOCUMENTS):
            document = _Document(*row)
            verdicts.append((document, readers.submit(_compare, document, read)))
            if len(verdicts) >= _QUEUED:
                _take(report, *verdicts.popleft())
        while verdicts:
            _take(report, *verdicts.popleft())


def _take(report: Report, document: _Document, verdict: "Future[str]") -> None:
    report.counts["documents"] += 1
    if wrong := verdict.result():
        report.add("document", f"series {document.series_id} number {document.number}", wrong)


def _compare(document: _Document, read: ReadObject) -> str:
    """What is wrong with a document's object; empty if nothing."""
    hexdigest = document.sha256.hex()
    if not (
        document.key.startswith(f"invoices/{document.seller_id}/") and document.key.endswith(f"-{hexdigest[:16]}.pdf")
    ):
        return f"its key does not carry its seller and digest {hexdigest[:16]}: {document.key}"
    digest = hashlib.sha256()
    size = 0
    try:
        for chunk in read(document.key):
            digest.update(chunk)
            size += len(chunk)
    except FileNotFoundError:
        return f"{document.key} is not in the store"
    if size != document.size_bytes:
        return f"{document.key} has {size} bytes, not {document.size_bytes}"
    if digest.digest() != document.sha256:
        return f"{document.key} has digest {digest.hexdigest()[:16]}, not {hexdigest[:16]}"
    return ""
