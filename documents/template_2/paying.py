"""Whether it is paid, or how to pay it: by whom, until when, into which account."""

from collections.abc import Sequence
from decimal import Decimal

from segno import helpers

from documents.clean import lines, one_line
from documents.template_2.draft import Draft
from documents.template_2.head import figure
from documents.template_2.sheet import (
    BODY_SIZE,
    INK,
    LEADING,
    LEFT,
    MUTED,
    RIGHT,
    SMALL_SIZE,
    WIDTH,
    Text,
)
from domain.issuing import INVOICE
from domain.records import Payment

_DIRECT_DEBITS = frozenset({"49", "59"})
#: Credit transfers, and payments whose means nobody named.
_TRANSFERS = frozenset({"", "30", "58"})
_QR_SIDE_POINTS = 76.0
_QR_GAP = 18.0
#: Four squares at least are empty around a code.
_QR_QUIET = 8.0
#: What the code may hold (EPC069-12).
_QR_MINOR_MAX = 99_999_999_999
_NAME_CHARS_MAX = 70
_REMITTANCE_CHARS_MAX = 140
_LABEL_WIDTH = 118.0
_IBAN_GROUP = 4


def draw_payment(draft: Draft) -> None:
    """Nothing where the event says nothing of it."""
    sentence, particulars = _sentence(draft), _particulars(draft)
    if not sentence and not particulars:
        return
    sheet, words = draft.sheet, draft.words
    code = _code(draft)
    width = WIDTH - (_QR_SIDE_POINTS + _QR_GAP if code else 0.0)
    texts = sheet.texts(sentence, width, bold=True) if sentence else []
    rows = [
        (sheet.texts(label, _LABEL_WIDTH - 10.0, SMALL_SIZE, MUTED), sheet.texts(value, width - _LABEL_WIDTH))
        for label, value in particulars
    ]
    caption = sheet.texts(words.scan, _QR_SIDE_POINTS + 20.0, SMALL_SIZE, MUTED) if code else []
    height = SMALL_SIZE * LEADING + sum(text.leading for text in texts)
    height += sum(max(_height(label), _height(value)) for label, value in rows)
    sheet.y -= 14.0
    # In one piece where a page has room for it: an account number is not looked for on two pages.
    sheet.need(max(min(height, 300.0), _QR_SIDE_POINTS + 2 * SMALL_SIZE * LEADING if code else 0.0))
    top, first_page = sheet.y, sheet.page
    sheet.paragraph(sheet.texts(words.payment, WIDTH, SMALL_SIZE, MUTED, bold=True), sheet.root.add("H2"))
    sheet.paragraph(texts, sheet.root.add("P"), LEFT, width)
    sheet.y -= 2.0
    for label, value in rows:
        _draw_particular(draft, label, value, width)
    if code:
        end = sheet.y
        if sheet.page is first_page:
            sheet.y = top
            _draw_code(draft, code, caption)
            sheet.y = min(sheet.y, end)


def _height(texts: Sequence[Text]) -> float:
    return sum(text.leading for text in texts)


def _draw_particular(draft: Draft, label: Sequence[Text], value: Sequence[Text], width: float) -> None:
    sheet = draft.sheet
    element = sheet.root.add("P")
    sheet.need(max(_height(label), value[0].leading))
    top, first_page = sheet.y, sheet.page
    sheet.page.belongs_to(element)
    # On the baseline of the value beside it.
    sheet.y -= BODY_SIZE - SMALL_SIZE
    for text in label:
        sheet.draw(text, LEFT, _LABEL_WIDTH)
        sheet.y -= text.leading
    label_end, sheet.y = sheet.y, top
    sheet.paragraph(value, element, LEFT + _LABEL_WIDTH, width - _LABEL_WIDTH)
    if sheet.page is first_page:
        sheet.y = min(sheet.y, label_end)


def _sentence(draft: Draft) -> str:
    words, language, payment = draft.words, draft.language, draft.payment
    amount = draft.amount(draft.payable_minor)
    paid_on = draft.paid_on
    if draft.event["kind"] != INVOICE:
        return draft.said(words.refunded_on, date=language.date(paid_on)) if paid_on else ""
    if paid_on:
        # What the seller says of all its invoices is not how this one was paid.
        own = draft.details["payment"] if draft.details else None
        means = _means(draft, own) if own else ""
        return (
            draft.said(words.paid_by, date=language.date(paid_on), means=means)
            if means
            else draft.said(words.paid_on, date=language.date(paid_on))
        )
    if draft.payable_minor <= 0:
        return words.nothing_due
    if payment is None:
        return ""
    due = language.date(payment["due_date"]) if payment["due_date"] else ""
    if payment["means"] in _DIRECT_DEBITS:
        return draft.said(words.debit_on, amount=amount, date=due) if due else draft.said(words.debit, amount=amount)
    return draft.said(words.pay_by, amount=amount, date=due) if due else draft.said(words.pay, amount=amount)


def _means(draft: Draft, payment: Payment) -> str:
    if payment["card_last_digits"]:
        return draft.said(draft.words.card, digits=one_line(payment["card_last_digits"]))
    return draft.words.means.get(payment["means"], "") or one_line(payment["means_text"])


def _particulars(draft: Draft) -> list[tuple[str, str]]:
    payment, words = draft.payment, draft.words
    if payment is None or draft.event["kind"] != INVOICE:
        return []
    if draft.paid_on:
        return []
    means = _means(draft, payment)
    remittance = one_line(payment["remittance"]) or (one_line(draft.event["invoice_number"]) if payment["iban"] else "")
    found = [
        (words.means_of_payment, means[:1].upper() + means[1:]),
        (words.account_name, one_line(payment["account_name"])),
        ("IBAN", _grouped(payment["iban"])),
        ("BIC", one_line(payment["bic"])),
        (words.remittance, remittance),
        (words.mandate, one_line(payment["mandate"])),
        (words.creditor_id, one_line(payment["creditor_id"])),
        (words.account, _grouped(payment["debited_iban"])),
        *((words.terms if place == 0 else "", text) for place, text in enumerate(lines(payment["terms"]))),
    ]
    return [(label, value) for label, value in found if value]


def _grouped(iban: str) -> str:
    """Four by four, as banks print it."""
    compact = one_line(iban).replace(" ", "")
    groups = (compact[start : start + _IBAN_GROUP] for start in range(0, len(compact), _IBAN_GROUP))
    return "\u00a0".join(groups)


def _code(draft: Draft) -> Sequence[Sequence[bool]]:
    """The QR code of a SEPA credit transfer; empty where there is none."""
    payment, minor = draft.payment, draft.payable_minor
    if (
        payment is None
        or draft.event["kind"] != INVOICE
        or draft.paid_on
        or draft.currency != "EUR"
        or not payment["iban"]
        or payment["means"] not in _TRANSFERS
        or not 0 < minor <= _QR_MINOR_MAX
    ):
        return ()
    name = one_line(payment["account_name"] or draft.event["seller"]["legal_name"])[:_NAME_CHARS_MAX]
    remittance = one_line(payment["remittance"] or draft.event["invoice_number"])[:_REMITTANCE_CHARS_MAX]
    try:
        code = helpers.make_epc_qr(
            name, payment["iban"].replace(" ", ""), Decimal(minor) / 100, text=remittance,
            bic=payment["bic"] or None, encoding="utf-8",
        )  # fmt: skip
    except ValueError:
        # What the code can't hold is printed all the same.
        return ()
    return [[bool(module) for module in row] for row in code.matrix]


def _draw_code(draft: Draft, code: Sequence[Sequence[bool]], caption: Sequence[Text]) -> None:
    sheet = draft.sheet
    left = RIGHT - _QR_SIDE_POINTS
    side = _QR_SIDE_POINTS / len(code)
    entries = figure(draft.words.scan, left, sheet.y - _QR_SIDE_POINTS, _QR_SIDE_POINTS, _QR_SIDE_POINTS)
    sheet.page.belongs_to(sheet.root.add("Figure", entries))
    sheet.page.squares(left, sheet.y, side, code, INK)
    sheet.y -= _QR_SIDE_POINTS + _QR_QUIET
    element = sheet.root.add("P")
    for text in caption:
        sheet.page.belongs_to(element)
        sheet.draw(text, left - 20.0, _QR_SIDE_POINTS + 20.0, right=True)
        sheet.y -= text.leading
