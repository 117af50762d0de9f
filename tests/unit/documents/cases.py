"""The pages that are looked at: each case an event and its logo, and what its page looked like when it was last judged.

`python -m tests.unit.documents.cases` draws the references again, after the newest template has changed.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from pypdfium2 import PdfDocument

from documents.render import DocumentEvent, render
from domain.records import Address
from streams.invoice_events import TEMPLATE_VERSION
from tests.invoice_events import BREAKFAST, Line, address, credited, issued

REFERENCES = Path(__file__).with_name("references")
_WIDTH_PIXELS = 300
#: Rendered larger and scaled down, so that strokes keep their weight.
_OVERSAMPLING = 3
_GREYS = 48
_PAYMENT = (
    *("due_date", "terms", "means", "means_text", "iban", "bic", "account_name", "card_last_digits", "mandate"),
    *("creditor_id", "debited_iban", "remittance", "paid_at"),
)
_REFERENCES = (
    *("buyer_reference", "project", "contract", "purchase_order", "sales_order", "receiving_advice", "despatch_advice"),
    "tender",
)
_ALLOWANCE = ("amount", "percent", "base_amount", "vat_category", "vat_rate", "reason", "reason_code")


def details(**given: Any) -> Any:
    """What few invoices say, the rest absent."""
    absent: dict[str, Any] = {
        **dict.fromkeys(("prices_include_tax", "accounting", "payment", "period", "delivery", "references")),
        **dict.fromkeys(("rounding_amount", "prepaid_amount", "tax_point_date", "language"), ""),
        **{name: [] for name in ("allowances", "charges", "exemptions", "preceding_invoices", "notes", "attachments")},
    }
    return {**absent, **given}


def payment(**given: str) -> Any:
    """Terms and means, the rest absent."""
    return {**dict.fromkeys(_PAYMENT, ""), **given}


def references(**given: str) -> Any:
    """Documents that are referred to, the rest absent."""
    return {**dict.fromkeys(_REFERENCES, ""), **given}


def line_details(**given: Any) -> Any:
    """What few lines say, the rest absent."""
    absent: dict[str, Any] = {
        **dict.fromkeys(("period", "stock")),
        **dict.fromkeys(
            ("unit", "base_quantity", "gross_price", "price_discount", "note", "order_line", "buyer_item_id"), ""
        ),
        "allowances": [],
        "charges": [],
    }
    return {**absent, **given}


def allowance(amount: str, **given: str) -> Any:
    """An allowance or a charge, the rest absent."""
    return {**dict.fromkeys(_ALLOWANCE, ""), "amount": amount, **given}


def invoice(lines: Sequence[Line] = BREAKFAST, **changed: Any) -> Any:
    """An invoice of the newest template."""
    return issued(lines, **{"template_version": TEMPLATE_VERSION, **changed})


def plain() -> Any:
    """As most storefronts ask for it, paid at the checkout."""
    return invoice(paid_on="2026-11-21")


def paid_by_card() -> Any:
    """With the card that it was paid by."""
    card = payment(means="48", card_last_digits="4242", paid_at="2026-11-21")
    return invoice(details=details(payment=card))


def due() -> Any:
    """By bank transfer within SEPA, in German, with units, discounts, references and another place of delivery."""
    seller_address = address("Hauptstraße 5", "Köln", "50667", "DE")
    event = invoice(
        details=details(
            language="de",
            payment=payment(
                means="58",
                iban="DE89370400440532013000",
                bic="COBADEFFXXX",
                account_name="Kaffeerösterei Müller GmbH",
                due_date="2026-12-21",
                terms="30 Tage netto, 2 % Skonto bei Zahlung binnen 10 Tagen.",
            ),
            references=references(purchase_order="PO-4711", buyer_reference="04011000-12345-34"),
            delivery={
                "date": "2026-11-20",
                "name": "Lager Süd",
                "location_id": "",
                "address": {**address("Hafenstraße 9", "Hamburg", "20457", "DE"), "line2": "Tor 3"},
            },
        )
    )
    event["seller"] |= {
        "legal_name": "Kaffeerösterei Müller GmbH",
        "address": seller_address,
        "vat_id": "DE123456789",
        "tax_number": "214/5678/1234",
        "details": {
            "trading_name": "",
            "legal_id": {"id": "HRB 12345", "scheme": ""},
            "electronic_address": None,
            "contact": {"name": "Erika Muster", "phone": "+49 221 1234", "email": "rechnung@kaffee.example"},
        },
    }
    event["buyer"] |= {"address": address("Ringstraße 1", "Hamburg", "20095", "DE"), "vat_id": "DE987654321"}
    event["lines"][0]["details"] = line_details(
        unit="KGM", allowances=[allowance("2.00", reason="Treuerabatt", percent="5")], note="Ernte 2025/26"
    )
    event["lines"][1]["details"] = line_details(unit="HUR")
    event["lines"][2]["details"] = line_details(
        unit="KWH", base_quantity="100", gross_price="5.50", price_discount="0.60"
    )
    return event


def credit_note() -> Any:
    """In French, refunded."""
    return credited(
        template_version=TEMPLATE_VERSION,
        paid_on="2026-11-25",
        preceding_issue_date="2026-11-21",
        details=details(language="fr"),
    )


def reverse_charge() -> Any:
    """A service from one member state to another."""
    event = invoice(
        [("ADV-1", "Consulting on site", "12.5", "95.00", "0.00", "AE", 118_750)],
        seller_name="Acme Advice B.V.",
        details=details(
            payment=payment(means="30", iban="NL91ABNA0417164300", account_name="Acme Advice B.V."),
            period={"start": "2026-10-01", "end": "2026-10-31"},
            references=references(contract="C-77/2026"),
        ),
    )
    event["lines"][0]["details"] = line_details(unit="HUR")
    event["buyer"] |= {"name": "Example Industries SA", "vat_id": "FR40303265045"}
    event["seller"] |= {"address": address("Keizersgracht 1", "Amsterdam", "1015 CJ", "NL"), "vat_id": "NL123456782B90"}
    return event


def many_lines(count: int = 75) -> Any:
    """Over several pages."""
    goes_on = " with a description that needs a second line because it goes on and on"
    return invoice(
        [
            (f"SKU-{place:04d}", f"Item {place}{goes_on if place % 5 == 0 else ''}", "1", "12.34", "19.00", "S", 1_234)
            for place in range(1, count + 1)
        ]
    )


def right_to_left() -> Any:
    """Hebrew and Arabic beside Latin, brackets between them."""
    texts = (
        "הודעה מ John (Work)",
        "رسالة من John (Work)",
        "مرحبا (hello) world وداعا",
        "Cohen & Sons (כהן) ובניו",
        "שולחן [Desk] 120x60",
        "AC-DC מתאם (12V) 2A",
    )
    return invoice(
        [(f"B{place}", text, "1", "1.00", "20.00", "S", 100) for place, text in enumerate(texts)], note=texts[0]
    )


def thai() -> Any:
    """Words without spaces."""
    words = ("นโยบาย", "สาธารณะ", "มี", "ความ", "สำคัญ", "ต่อ", "การ", "สนับสนุน", "การ", "ออกแบบ", "และ", "การ", "สร้าง")
    marked = "\u200b".join(words)
    texts = ("ดูการบ้าน" * 12, marked, marked.replace("\u200b", ""))
    return invoice(
        [(f"TH{place}", text, "1", "1.00", "7.00", "S", 100) for place, text in enumerate(texts)],
        currency="THB",
        note=marked * 3,
    )


def scripts() -> Any:
    """One line for each."""
    texts = (
        "தமிழ் புத்தகம்",
        "বাংলা বই ৳",
        "తెలుగు పుస్తకం",
        "ગુજરાતી પુસ્તક",
        "ਪੰਜਾਬੀ ਕਿਤਾਬ",
        "ಕನ್ನಡ ಪುಸ್ತಕ",
        "മലയാളം പുസ്തകം",
        "සිංහල පොත",
        "បន្ទាត់ខ្មែរ",
        "ປຶ້ມລາວ",
        "မြန်မာစာအုပ်",
        "የአማርኛ መጽሐፍ",
        "ދިވެހި ފޮތް",
        "ქართული წიგნი",
        "Հայերեն գիրք",
        "Gift 🎁 ❤️ 🏳️\u200d🌈 👨\u200d👩\u200d👧 🇫🇷 1️⃣",
        "𠮷野家 の 牛丼",
    )
    lines: list[Line] = [(f"S{place}", text, "1", "1.00", "20.00", "S", 100) for place, text in enumerate(texts)]
    return invoice(lines, buyer_name="முருகன் சுப்பிரமணியம்")


def coloured() -> Any:
    """In Italian, with a logo and a colour, allowances, a part prepaid, and a direct debit."""
    event = invoice(
        details=details(
            language="it",
            allowances=[allowance("5.00", reason="Sconto fedeltà", vat_category="S", vat_rate="20.00")],
            charges=[allowance("3.00", reason="Imballaggio", vat_category="S", vat_rate="20.00")],
            payment=payment(
                means="59",
                mandate="MND-1",
                creditor_id="IT66ZZZA1B2C3D4E5F6G7H8",
                debited_iban="IT60X0542811101000000123456",
                due_date="2026-12-01",
            ),
        )
    )
    # 58.08 less 5.00 plus 3.00, and 20% of 42.88 and 5.5% of 13.20.
    event["totals"] |= {"net_minor": 5_608, "tax_minor": 931, "gross_minor": 6_539}
    event["totals"]["per_rate"] = [
        {"vat_category": "S", "vat_rate": "20.00", "taxable_minor": 4_288, "tax_minor": 858},
        {"vat_category": "S", "vat_rate": "5.50", "taxable_minor": 1_320, "tax_minor": 73},
    ]
    event["totals"]["details"] = {
        "lines_minor": 5_808,
        "allowances_minor": 500,
        "charges_minor": 300,
        "prepaid_minor": 1_000,
        "rounding_minor": 1,
        "payable_minor": 5_540,
        "accounting_tax_minor": None,
    }
    event["seller"]["colour"] = "#c83c1e"
    return event


def japanese() -> Any:
    """A qualified invoice."""
    event = invoice(
        [
            (
                "GT-1",
                "有機緑茶ティーバッグ（二十五個入り）「特選」新茶、静岡県産の一番茶のみ",
                "3",
                "1280",
                "8.00",
                "S",
                3_840,
            ),
            ("CUP", "湯呑み 骨董 𠮷野焼", "1", "4500", "10.00", "S", 4_500),
        ],
        currency="JPY",
        seller_name="静岡茶舗株式会社",
        details=details(language="ja", payment=payment(means="30", due_date="2026-12-31")),
        note="毎度ありがとうございます。",
    )
    event["buyer"] |= {"name": "山田 太郎 様", "address": _japan("千代田区丸の内一丁目", "東京都", "100-0005")}
    event["seller"] |= {"address": _japan("葵区追手町9-6", "静岡市", "420-8601"), "vat_id": "T1234567890123"}
    return event


def long_texts() -> Any:
    """Names without end, and numbers of twenty digits."""
    return invoice(
        [
            (
                "X" * 60,
                "A very long description, " * 50,
                "123456789.123456",
                "1234567890.1234567891",
                "20.00",
                "S",
                10**15,
            ),
            ("S-2", "Short", "1", "1.00", "20.00", "S", 100),
        ],
        seller_name="The Association of Associations for the Advancement of Long Names in All Countries Limited",
        invoice_number="N" * 50,
        buyer_name="Ω" * 90,
        order_id="O" * 64,
    )


def _japan(street: str, city: str, postal_code: str) -> Address:
    return address(street, city, postal_code, "JP")


def logo() -> bytes:
    """A disc and a bar on nothing."""
    picture = Image.new("RGBA", (480, 160), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((0, 0, 160, 160), fill=(200, 60, 30, 255))
    draw.rectangle((190, 50, 470, 110), fill=(200, 60, 30, 255))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


CASES: dict[str, tuple[DocumentEvent, bytes | None]] = {
    "plain": (plain(), None),
    "paid-by-card": (paid_by_card(), None),
    "due": (due(), None),
    "credit-note": (credit_note(), None),
    "reverse-charge": (reverse_charge(), None),
    "many-lines": (many_lines(), None),
    "right-to-left": (right_to_left(), None),
    "thai": (thai(), None),
    "scripts": (scripts(), None),
    "coloured": (coloured(), logo()),
    "japanese": (japanese(), None),
    "long-texts": (long_texts(), None),
}


def draw_pages(name: str) -> Image.Image:
    """All pages of a case side by side, small and grey."""
    document = PdfDocument(render(*CASES[name]))
    try:
        drawn: list[Image.Image] = []
        for page in document:
            whole = page.render(scale=_OVERSAMPLING * _WIDTH_PIXELS / page.get_width()).to_pil().convert("L")
            size = (_WIDTH_PIXELS, round(whole.height / _OVERSAMPLING))
            drawn.append(whole.resize(size, Image.Resampling.LANCZOS))
    finally:
        document.close()
    together = Image.new("L", (sum(each.width for each in drawn), drawn[0].height), 255)
    for place, each in enumerate(drawn):
        together.paste(each, (place * _WIDTH_PIXELS, 0))
    return together


if __name__ == "__main__":
    REFERENCES.mkdir(exist_ok=True)
    for each_name in CASES:
        draw_pages(each_name).quantize(_GREYS).save(REFERENCES / f"{each_name}.png", optimize=True)
