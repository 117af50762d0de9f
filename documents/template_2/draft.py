"""A document while it is drawn: what it says, in which language, and its pages so far."""

from dataclasses import dataclass

from documents.clean import lines, one_line
from documents.page import Colour
from documents.template_2.language import Language
from documents.template_2.sheet import Sheet
from documents.template_2.words import Words
from domain.records import Address, CreditNoteIssued, InvoiceDetails, InvoiceIssued, Payment

DocumentEvent = InvoiceIssued | CreditNoteIssued


@dataclass(frozen=True, slots=True)
class Look:
    """The seller's colour, and the one of text on it."""

    accent: Colour
    on_accent: Colour
    #: Of large text on white: the accent unless it is too light to be read.
    title: Colour


@dataclass(frozen=True, slots=True)
class Draft:
    """What all parts of the page need."""

    event: DocumentEvent
    sheet: Sheet
    language: Language
    look: Look
    currency: str
    #: What the tax is called.
    tax: str

    @property
    def words(self) -> Words:
        """Those of the language."""
        return self.language.words

    @property
    def details(self) -> InvoiceDetails | None:
        """What few documents say."""
        return self.event.get("details")

    @property
    def payment(self) -> Payment | None:
        """When and how it is paid: as the document says, otherwise as its seller says of all."""
        details = self.details
        return (details["payment"] if details else None) or self.event["seller"].get("payment")

    @property
    def preceding(self) -> str | None:
        """The number of the invoice that a credit note corrects."""
        event = self.event
        return event["preceding_invoice_number"] if "preceding_invoice_number" in event else None  # noqa: SIM401

    @property
    def preceding_date(self) -> str:
        """That invoice's date; empty if the event does not say it."""
        event = self.event
        return event.get("preceding_issue_date", "") if "preceding_invoice_number" in event else ""

    @property
    def payable_minor(self) -> int:
        """BT-115."""
        totals = self.event["totals"]
        details = totals.get("details")
        return int(details["payable_minor"] if details else totals["gross_minor"])

    @property
    def paid_on(self) -> str:
        """The day on which it was paid, or the money of a credit note went back; empty if neither is known."""
        payment = self.details["payment"] if self.details else None
        return str(self.event.get("paid_on", "") or (payment["paid_at"] if payment else ""))

    def said(self, words: str, **values: str) -> str:
        """Words with what their braces stand for."""
        return words.format(tax=self.tax, currency=self.currency, **values)

    def amount(self, minor: int) -> str:
        """With the currency's sign."""
        return self.language.amount(minor, self.currency)

    def address(self, address: Address) -> list[str]:
        """Its lines, made safe."""
        town = one_line(address["city"])
        if address["postal_code"]:
            town = f"{one_line(address['postal_code'])} {town}".strip()
        country = self.language.country(one_line(address["country"])) if address["country"] else ""
        return [
            text
            for text in (
                *lines(address["street"]),
                *lines(address.get("line2", "")),
                *lines(address.get("line3", "")),
                town,
                one_line(address.get("subdivision", "")),
                country,
            )
            if text
        ]


def look_of(colour: str) -> Look:
    """The look for a seller's `#rrggbb`, or of the template for an empty text."""
    if not colour:
        return Look("0.09 0.23 0.39", "1 1 1", "0.09 0.23 0.39")
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    accent = " ".join(f"{share:.3g}" for share in shares)
    light = _luminance(shares)
    # WCAG 2.2, 1.4.3: 4.5 to 1 for text, 3 to 1 for large text.
    white_is_legible = 1.05 / (light + 0.05) >= 4.5
    dark = "0.11 0.13 0.16"
    return Look(accent, "1 1 1" if white_is_legible else dark, accent if 1.05 / (light + 0.05) >= 3 else dark)


def _luminance(shares: list[float]) -> float:
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
