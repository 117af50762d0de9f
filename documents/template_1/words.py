"""What an invoice and a credit note call themselves and their parts."""

from dataclasses import dataclass

from domain.issuing import CREDIT_NOTE, INVOICE


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one kind of document."""

    title: str
    number: str
    amount: str
    buyer: str
    #: Stands before the number of the document that this one corrects; empty for one that corrects none.
    corrects: str


_WORDS = {
    INVOICE: Words("Invoice", "Invoice number", "Amount due", "Billed to", ""),
    CREDIT_NOTE: Words("Credit note", "Credit note number", "Amount credited", "Credited to", "for invoice"),
}


def words_of(kind: str) -> Words:
    """Those of an event's kind. Raises `KeyError` for one that has no documents."""
    return _WORDS[kind]
