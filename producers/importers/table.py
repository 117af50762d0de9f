"""A table in a text file, whoever saved it: encoding, separator and number format are recognised, or the file refused.

Exports pass through spreadsheets on their way. Those write other encodings, separators and decimal signs, put an
apostrophe before digits, add empty rows at the end, and quote what is quoted already.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from charset_normalizer import from_bytes

from producers.importers.shop_order import UntellableError

#: A table is read as a whole, as an order's rows may be anywhere in it.
_FILE_BYTES_MAX = 512 * 1024 * 1024
_SEPARATORS = (",", ";", "\t", "|")
#: What spreadsheets write where it is not UTF-8: the code pages of Windows, and those of East Asia.
_CODE_PAGES = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("cp932", "gb18030", "big5", "cp949", "mac_roman"),
]
#: What names and streets of Western Europe have beyond ASCII, and what word processors put around them. Without the six
#: letters of Iceland, in whose places others have those of Turkey.
_WESTERN = re.compile(r"[\x00-\x7fÀ-ÏÑ-ÖØ-Üß-ïñ-öø-üÿŒœŠšŽžŸ€£®™©«»°´·–—‘’“”„…•ªº¡¿\xa0]*")
#: What other code pages look like in the Western one: symbols before letters, capitals after small ones, and words of
#: accents only.
_NOT_WESTERN = re.compile(r"[£€°·®™©´][^\W\d_]|[a-zß-öø-ÿ][À-ÖØ-ÞŒŠŽŸ]|[À-ÖØ-öø-ÿ]{3}")
#: Countries whose letters are in other code pages, as the code in a cell.
_ELSEWHERE = re.compile(r"""[,;\t|"](?:PL|CZ|SK|HU|RO|MD|HR|SI|RS|BA|ME|MK|AL|BG|EE|LV|LT|TR|IS|VN)[,;\t|"]""")
#: Bytes that show the encoding: lines of ASCII alone only hide them.
_SAMPLE_BYTES = 64 * 1024
#: Encodings that a message suggests.
_CANDIDATES_MAX = 3

_BLANKS = " \t\u00a0\u202f\u2009"
#: A spreadsheet's sign for "this is text": before a number, or before what would be a formula.
_GUARD = re.compile(r"'(?=[+\-=@]|[\d .,/]+$)")
_GUARD_BEFORE_DIGIT = re.compile(r"'(?=[\d+\-=@(])")
#: Most amounts, which mean the same everywhere.
_PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]{1,2})?")
_NUMBER = re.compile(
    r"([-+]?)(?:[^\d\s.,+\-]{1,4} ?)?([-+]?)(\d[\d.,'’ \u00a0\u202f\u2009]*|[.,]\d+)(?: ?[^\d\s.,]{1,4})?"
)
_DECIMAL_COMMA = re.compile(r"[-+]?(?:0|\d{1,3}(?:[. ]?\d{3})*),(?:\d{1,2}|\d{4,})|0,\d{3}")
_DECIMAL_POINT = re.compile(r"[-+]?(?:0|\d{1,3}(?:[, ]?\d{3})*)\.(?:\d{1,2}|\d{4,})|0\.\d{3}")


class FileError(Exception):
    """A file can't be read, or holds something else; the message says why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows; `columns` as its first row names them."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple["Row", ...]
    encoding: str
    separator: str
    #: Whether some amounts are written with a comma before the cents, which decides what `1.234` means.
    has_decimal_commas: bool

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was recognised beyond UTF-8 with commas."""
        if self.encoding in ("utf-8", "utf-16"):
            return ()
        return (f"read as {self.encoding}; if letters are wrong, say --encoding",)


@dataclass(frozen=True, slots=True)
class Row:
    """A row and its number as spreadsheets show it: the one with the columns' names is 1."""

    number: int
    cells: Mapping[str, str]
    has_decimal_commas: bool
    #: Cells beyond the last column.
    surplus: int = 0

    def text(self, *columns: str) -> str:
        """The first of the columns with a text, without blanks around it; a guard before a number is removed."""
        for column in columns:
            cell = self.cells.get(column)
            if cell and (text := _GUARD.sub("", cell.strip(_BLANKS), count=1)):
                return text
        return ""

    def code(self, *columns: str) -> str:
        """Like `text`, of postal codes and telephone numbers: no guard before a digit is a part of them."""
        return _GUARD_BEFORE_DIGIT.sub("", self.text(*columns), count=1)

    def amount(self, *columns: str, decimals: int = 2) -> Decimal:
        """The first of the columns with a text as a number; 0 if none has one. Raises `UntellableError`.

        `decimals` are those of the currency: `1.234` is a thousand in a file with decimal commas, unless it has three.
        """
        for column in columns:
            text = self.text(column)
            if text:
                value = number(text, has_decimal_commas=self.has_decimal_commas, decimals=decimals)
                if value is None:
                    raise UntellableError(self.number, column, f"{text!r} is no amount such as 19.99")
                return value
        return Decimal(0)

    def lines(self, column: str) -> str:
        """A text of several lines: without control characters but line breaks and tabs."""
        return self.text(column).replace("\r\n", "\n").replace("\r", "\n")


def number(text: str, *, has_decimal_commas: bool = False, decimals: int = 2) -> Decimal | None:
    """A number as spreadsheets and shops write it: `1,210.00`, `1.210,00`, `1 210,00`, `€12`; None for all else."""
    if _PLAIN.fullmatch(text):
        return Decimal(text)
    match = _NUMBER.fullmatch(text.strip(_BLANKS))
    if match is None:
        return None
    signs = match.group(1) + match.group(2)
    digits = re.sub(r"['’ \u00a0\u202f\u2009]", "", match.group(3))
    last = max(digits.rfind("."), digits.rfind(","))
    whole, fraction = (digits[:last], digits[last + 1 :]) if last >= 0 else (digits, "")
    if last >= 0:
        sign = digits[last]
        is_alone = not (set(".,") - {sign}) & set(digits)
        if digits.count(sign) > 1 or (is_alone and _is_thousands(sign, fraction, has_decimal_commas, decimals)):
            whole, fraction = digits, ""
    first, *groups = re.split(r"[.,]", whole)
    # Thousands come in threes, but in India, where only the last group does: 1,00,000.
    if groups and (not first or len(groups[-1]) != 3 or any(len(group) not in (2, 3) for group in groups)):
        return None
    digits = f"{first}{''.join(groups)}" or "0"
    if len(signs) > 1 or not (digits + fraction).isdecimal():
        return None
    return Decimal(f"{signs}{digits}.{fraction}" if fraction else f"{signs}{digits}")


def _is_thousands(sign: str, fraction: str, has_decimal_commas: bool, decimals: int) -> bool:
    """Whether the only separator of a number separates thousands."""
    if len(fraction) != 3:
        return False
    return not has_decimal_commas if sign == "," else has_decimal_commas and decimals != 3


def read_table(path: Path, encoding: str | None = None) -> Table:
    """The table in a file; raises `FileError` for what is none."""
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise FileError(f"larger than {_FILE_BYTES_MAX // 1024 // 1024} MiB: export fewer orders at a time")
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"{error.strerror}") from None
    if content.startswith(b"PK\x03\x04"):
        raise FileError("a spreadsheet's own format: save it as CSV")
    text, encoding = _decode(content, encoding)
    return parse_table(path, text, encoding)


def parse_table(path: Path, text: str, encoding: str = "utf-8") -> Table:
    """The table in a text; raises `FileError`."""
    separator, columns, rows = _split(text)
    cells = [cell for _, row in rows for cell in row]
    commas = sum(1 for cell in cells if _DECIMAL_COMMA.fullmatch(cell))
    points = sum(1 for cell in cells if _DECIMAL_POINT.fullmatch(cell))
    # Between semicolons a comma is a decimal sign, if nothing contradicts.
    has_decimal_commas = commas > points or (separator == ";" and not points)
    made = []
    for line, row in rows:
        if any(cell.strip(_BLANKS) for cell in row):
            surplus = sum(1 for cell in row[len(columns) :] if cell.strip(_BLANKS))
            made.append(Row(line, dict(zip(columns, row, strict=False)), has_decimal_commas, surplus))
    return Table(path, columns, tuple(made), encoding, separator, has_decimal_commas)


def _decode(content: bytes, encoding: str | None) -> tuple[str, str]:
    if encoding is None:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
        elif b"\0" in content[:4096]:
            # ASCII in UTF-16 has every other byte 0.
            encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
        else:
            encoding = "utf-8-sig"
    try:
        return content.decode(encoding), "utf-16" if encoding.startswith("utf-16") else encoding.removesuffix("-sig")
    except LookupError:
        raise FileError(f"{encoding} is no encoding that Python knows") from None
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise FileError(f"not {encoding} (byte {error.start})") from None
    sample = b"\n".join(line for line in content.splitlines() if not line.isascii())[:_SAMPLE_BYTES]
    if _fits(content, "cp1252") and _is_western(sample.decode("cp1252", errors="replace")):
        return content.decode("cp1252"), "cp1252"
    found = [match.encoding for match in from_bytes(sample, cp_isolation=_CODE_PAGES) if _fits(content, match.encoding)]
    which = f" (it may be {' or '.join(found[:_CANDIDATES_MAX])})" if found else ""
    raise FileError(f"not UTF-8, and the encoding is not certain{which}: save it as UTF-8, or name it by --encoding")


def _is_western(text: str) -> bool:
    """Whether a text that was read as Western Europe's code page is in it: code pages differ in few letters."""
    return bool(_WESTERN.fullmatch(text)) and not _NOT_WESTERN.search(text) and not _ELSEWHERE.search(text)


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _split(text: str) -> tuple[str, tuple[str, ...], list[tuple[int, list[str]]]]:
    """Separator, names of the columns, and the rows with their numbers."""
    head = next((line for line in text.splitlines() if line.strip(_BLANKS + "".join(_SEPARATORS))), "")
    # Names of columns hold none of them, so the one with the most cells is it.
    separator = max(_SEPARATORS, key=lambda each: len(next(csv.reader([head], delimiter=each), [])))
    rows = list(_numbered(text, separator))
    while rows and not any(cell.strip(_BLANKS) for cell in rows[0][1]):
        del rows[0]
    if not rows or len(rows[0][1]) < 2:
        raise FileError("holds no table: an export has the names of its columns in the first row")
    names = [name.strip(_BLANKS) for name in rows[0][1]]
    # A file that was saved twice ends its rows in the other separator.
    names[-1] = names[-1].rstrip("".join(_SEPARATORS))
    while names and not names[-1]:
        names.pop()
    repeated = {name for name in names if name and names.count(name) > 1}
    if repeated:
        raise FileError(f"has the column {sorted(repeated)[0]!r} twice")
    return separator, tuple(names), [(line, _unwrapped(row, separator, len(names))) for line, row in rows[1:]]


def _numbered(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows by number: a cell of several lines does not count as several rows."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        yield from enumerate(reader, 1)
    except csv.Error as error:
        raise FileError(f"line {reader.line_num}: not CSV: {error}: does a quoted cell end?") from None


def _unwrapped(row: list[str], separator: str, columns: int) -> list[str]:
    """A row that a spreadsheet saved a second time: all of it is one quoted cell."""
    if len(row) == 1 or not any(row[1:]):
        inner = row[0].rstrip(";") if row else ""
        if columns > 2 and inner.count(separator) >= columns // 2:
            return next(csv.reader([inner], delimiter=separator), row)
    return row


def missing(columns: Sequence[str], present: Iterable[str]) -> list[str]:
    """Those of `columns` that are not `present`."""
    return [name for name in columns if name not in set(present)]
