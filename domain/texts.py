"""Texts and dates of a request: how long they may be, and which characters they may hold."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date

from domain.refusals import INVALID_FIELD, Refusal

#: By the path of the field; of a line, its name.
TEXT_CHARS_MAX = {
    "buyer.name": 200,
    "buyer.email": 254,
    "buyer.vat_id": 32,
    "buyer.address.street": 200,
    "buyer.address.city": 100,
    "buyer.address.postal_code": 20,
    "sku": 64,
    "description": 500,
    "note": 2_000,
}
#: Of a text that is not in the table: a name, a reference, a reason.
SHORT_CHARS_MAX = 200
#: Of a text that may have line breaks, and of an address on the web.
LONG_CHARS_MAX = 2_000

# Control characters end a log line, a C string or a Postgres text. Some texts may have line breaks.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_IN_NOTE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_BREAKS = re.compile(r"[ ]*[\t\n\v\f\r\x85\u2028\u2029]+[\t\n\v\f\r\x85\u2028\u2029 ]*")
_LINE_BREAK = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def check_text(field: str, text: str, chars_max: int | None = None, *, required: bool = False) -> Refusal | None:
    """A text in one line."""
    limit = chars_max or TEXT_CHARS_MAX[field]
    if len(text) > limit:
        return _invalid(field, f"must have at most {limit} characters")
    # Most texts are printable, which is the cheaper question.
    if not text.isprintable() and _CONTROL.search(text):
        return _invalid(field, "must hold no control characters")
    if required and not text.strip():
        return _invalid(field, "must not be empty")
    return None


def check_lines(field: str, text: str, chars_max: int, *, required: bool = False) -> Refusal | None:
    """A text that may have line breaks (LF)."""
    if len(text) > chars_max:
        return _invalid(field, f"must have at most {chars_max} characters")
    if not text.isprintable() and _CONTROL_IN_LINES.search(text):
        return _invalid(field, "must hold no control characters but line breaks (LF)")
    if required and not text.strip():
        return _invalid(field, "must not be empty")
    return None


def check_note(text: str) -> Refusal | None:
    """The note, which may also have tabs and carriage returns."""
    if not text:
        return None
    if len(text) > TEXT_CHARS_MAX["note"] or _CONTROL_IN_NOTE.search(text):
        chars_max = TEXT_CHARS_MAX["note"]
        return _invalid("note", f"must have at most {chars_max} characters, no control character among them")
    return None


def check_date(field: str, text: str) -> Refusal | None:
    """A day as YYYY-MM-DD; the empty text is none."""
    if text:
        try:
            if _DATE.fullmatch(text) is None:
                raise ValueError
            date.fromisoformat(text)
        except ValueError:
            return _invalid(field, "must be a day as YYYY-MM-DD, such as 2026-11-29")
    return None


def in_one_line(text: str) -> str:
    """The text with each run of line breaks and tabs as one space, and none of them at its ends.

    Any other text is as it is: spaces that somebody typed are theirs.
    """
    return text if text.isprintable() else _BREAKS.sub(" ", text).strip(" ") if _BREAKS.search(text) else text


def in_lines(text: str) -> str:
    """The text with LF as its only line break, spaces for tabs, and no line break at its ends."""
    if text.isprintable():
        return text
    return _LINE_BREAK.sub("\n", text).replace("\t", " ").strip("\n")


def first_refusal(refusals: Iterable[Refusal | None]) -> Refusal | None:
    """The first that is one."""
    return next((each for each in refusals if each is not None), None)


def short_texts(path: str, record: Mapping[str, object], *names: str) -> Iterator[Refusal | None]:
    """Whether each of the fields is a short text."""
    for name in names:
        yield check_text(f"{path}{name}", str(record.get(name) or ""), SHORT_CHARS_MAX)


def _invalid(field: str, detail: str) -> Refusal:
    return Refusal(INVALID_FIELD, field, detail)
