"""Which requests of a batch become invoices and credit notes: the first of each order or refund, in offset order."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from domain.refusals import Refusal

INVOICE = "invoice"
CREDIT_NOTE = "credit_note"
#: What has numbers.
KINDS = (INVOICE, CREDIT_NOTE)

#: Why a credit note was rejected whose order has no invoice before it.
NOT_INVOICED = "not-invoiced"


class InvoiceIdentity(NamedTuple):
    """The identity of an order's invoice, or of the credit note of one of its refunds."""

    seller_id: str
    order_id: str
    kind: str
    #: Empty for an invoice.
    refund_id: str = ""

    @property
    def invoice(self) -> "InvoiceIdentity":
        """That of the order's invoice."""
        return InvoiceIdentity(self.seller_id, self.order_id, INVOICE)


class Content(NamedTuple):
    """A priced request, as far as deciding needs it."""

    offset: int
    key: InvoiceIdentity
    content_sha256: bytes
    #: Of a credit note of an invoice that was issued elsewhere: its order has none.
    is_external: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """An order or refund id that came again with other content; the first stands."""

    content: Content
    first_content_sha256: bytes


@dataclass(frozen=True, slots=True)
class Decision:
    """What a batch amounts to: requests to issue, in order, conflicts to record, and how many were repeats."""

    fresh: list[Content]
    conflicts: list[Conflict]
    repeats: int
    #: Credit notes of orders that have no invoice before them: to reject.
    not_invoiced: list[Content]
    #: What would be new, and what its order does not permit: to reject.
    refused: list[tuple[Content, Refusal]]

    @classmethod
    def nothing(cls) -> "Decision":
        """That of no requests."""
        return cls([], [], 0, [], [])


def decide(
    requests: Iterable[Content],
    issued: Mapping[InvoiceIdentity, bytes],
    accept: Callable[[Content], Refusal | None] = lambda _: None,
) -> Decision:
    """`issued` maps each key of the batch that was issued before to the digest of the content that stands.

    For a credit note the key of its order's invoice is one of them. `accept` is asked of each request that is new.
    """
    standing = dict(issued)
    fresh: list[Content] = []
    conflicts: list[Conflict] = []
    not_invoiced: list[Content] = []
    refused: list[tuple[Content, Refusal]] = []
    repeats = 0
    for request in requests:
        key = request.key
        first = standing.get(key)
        if first is None:
            # Rejected, it leaves no trace here: should it come again after the invoice, it is new.
            if key.kind == CREDIT_NOTE and not request.is_external and key.invoice not in standing:
                not_invoiced.append(request)
                continue
            refusal = accept(request)
            if refusal is not None:
                refused.append((request, refusal))
                continue
            standing[key] = request.content_sha256
            fresh.append(request)
        elif first == request.content_sha256:
            repeats += 1
        else:
            conflicts.append(Conflict(request, first))
    return Decision(fresh, conflicts, repeats, not_invoiced, refused)
