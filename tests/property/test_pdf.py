"""Documents of whatever people write."""

import io
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from documents.clean import WITHOUT_GLYPH, one_line
from documents.fonts import face
from documents.render import TEMPLATES, render
from documents.shaping import PAIRED, TextLine, _paired, _shape_in_full
from documents.text import Typesetter
from domain.records import InvoiceIssued
from tests.invoice_events import issued

WIDTH = 9_000

#: Half of it from everywhere, half of it what text from several scripts, and from attackers, is made of.
TEXT = st.lists(
    st.one_of(
        st.characters(),
        st.sampled_from(
            "aB9 .,-/()[]<>«»éßΩжישׁעبلالة١٢ّ山。）（ハ김हिक्षที่น\ufdfd\ufefb😀"
            "\u200b\ufe0f\u200c\u200d\u200e\u200f\u202e\u2066\u0301\0\n"
        ),
    ),
    max_size=60,
).map("".join)
MONEY = st.integers(-(10**15), 10**15)


def told(set_line: TextLine) -> str:
    """All characters that a reader copies from a line, in some order."""
    parts: list[str] = []
    for run in set_line.runs:
        texts = dict(run.texts)
        for show in run.shows:
            digits = "".join(re.findall("<([0-9A-F]*)>", show.array))
            glyphs = [int(digits[start : start + 4], 16) for start in range(0, len(digits), 4)]
            if show.actual_text is not None:
                parts.append(show.actual_text)
            else:
                parts += [face(run.face).text(glyph) or texts[glyph] for glyph in glyphs]
    return "".join(parts)


def visible(text: str) -> str:
    """The characters that must be on the page, sorted: not spaces, joiners and direction marks."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(sorted(each for each in parts if not each.isspace() and each not in WITHOUT_GLYPH))


@settings(max_examples=400, deadline=None)
@given(TEXT, st.booleans())
def test_every_character_is_on_a_line_that_fits(text: str, bold: bool) -> None:
    """As itself or as its code point, whatever stands beside it."""
    cleaned = one_line(text)
    set_lines = Typesetter().wrapped(cleaned, WIDTH, bold)
    assert visible("".join(map(told, set_lines))) == visible(cleaned)
    for set_line in set_lines:
        # The one exception is a single glyph wider than the line, which is drawn smaller.
        assert set_line.width <= WIDTH or sum(len(run.glyphs) for run in set_line.runs) == 1


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from(sorted(PAIRED)), min_size=1, max_size=30), st.booleans())
def test_text_put_together_from_pairs_is_what_harfbuzz_makes_of_it(text: str, bold: bool) -> None:
    """The quick way and the whole one, to the last unit of kerning."""
    assert _paired(text, int(bold)) == _shape_in_full(text, int(bold), "Latn", False)


@settings(max_examples=400, deadline=None)
@given(TEXT)
def test_nothing_that_is_cleaned_can_act_on_the_page(text: str) -> None:
    """No control, no override, no surrogate; and cleaning again changes nothing."""
    cleaned = one_line(text)
    for each in cleaned:
        assert unicodedata.category(each) not in {"Cc", "Cs", "Co", "Cn"}
        assert each not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert one_line(cleaned) == cleaned


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_event_has_one_document(data: st.DataObject) -> None:
    """It opens, and made again it is the same."""
    event = _event(data)
    document = render(event, None)
    assert render(event, None) == document
    reader = PdfReader(io.BytesIO(document), strict=True)
    text = "\n".join(page.extract_text() for page in reader.pages)
    assert f"Page 1 of {len(reader.pages)}" in text
    assert "Amount due" in text


def _event(data: st.DataObject) -> InvoiceIssued:
    lines = data.draw(
        st.lists(
            st.tuples(TEXT, TEXT, TEXT, TEXT, TEXT, st.sampled_from(["S", "AE", "E", "?"]), MONEY),
            min_size=1,
            max_size=5,
        )
    )
    event: Any = issued(buyer_name=data.draw(TEXT), seller_name=data.draw(TEXT), note=data.draw(st.none() | TEXT))
    event["template_version"] = data.draw(st.sampled_from(sorted(TEMPLATES)))
    names = ("sku", "description", "quantity", "unit_price", "vat_rate", "vat_category", "net_minor")
    event["lines"] = [dict(zip(names, line, strict=True)) for line in lines]
    event["totals"] = {
        "net_minor": data.draw(MONEY),
        "tax_minor": data.draw(MONEY),
        "gross_minor": data.draw(MONEY),
        "per_rate": [
            {"vat_category": category, "vat_rate": rate, "taxable_minor": net, "tax_minor": net}
            for *_, rate, category, net in lines
        ],
    }
    for party in ("buyer", "seller"):
        event[party]["vat_id"] = data.draw(st.none() | TEXT)
        event[party]["address"] = {name: data.draw(TEXT) for name in ("street", "city", "postal_code", "country")}
    for name in ("order_id", "invoice_number", "issue_date", "currency"):
        event[name] = data.draw(TEXT)
    made: InvoiceIssued = event
    return made
