"""How amounts, dates, countries and units are written in the language of a document."""

import datetime
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from babel import Locale
from babel.core import UnknownLocaleError
from babel.dates import format_date
from babel.languages import get_official_languages
from babel.numbers import format_currency
from babel.units import format_unit

from documents.clean import one_line
from documents.template_2.languages import de, en, es, fr, it, ja, nl, pl, pt
from documents.template_2.words import Words
from documents.text import Typesetter
from domain.iso import CURRENCY_EXPONENTS
from domain.money import minor_text

_WORDS = {
    "en": en.WORDS,
    "de": de.WORDS,
    "fr": fr.WORDS,
    "es": es.WORDS,
    "it": it.WORDS,
    "pl": pl.WORDS,
    "nl": nl.WORDS,
    "pt": pt.WORDS,
    "ja": ja.WORDS,
}
_DEFAULT = "en"
#: English of no country: days before months.
_DEFAULT_LOCALE = "en_001"
#: UN/ECE Recommendation 20 codes by CLDR's names of units.
_UNITS = {
    "KGM": "mass-kilogram",
    "GRM": "mass-gram",
    "MGM": "mass-milligram",
    "TNE": "mass-tonne",
    "LBR": "mass-pound",
    "ONZ": "mass-ounce",
    "MTR": "length-meter",
    "CMT": "length-centimeter",
    "MMT": "length-millimeter",
    "KMT": "length-kilometer",
    "INH": "length-inch",
    "FOT": "length-foot",
    "YRD": "length-yard",
    "SMI": "length-mile",
    "MTK": "area-square-meter",
    "CMK": "area-square-centimeter",
    "HAR": "area-hectare",
    "FTK": "area-square-foot",
    "MTQ": "volume-cubic-meter",
    "LTR": "volume-liter",
    "MLT": "volume-milliliter",
    "CLT": "volume-centiliter",
    "DLT": "volume-deciliter",
    "HLT": "volume-hectoliter",
    "GLL": "volume-gallon",
    "SEC": "duration-second",
    "MIN": "duration-minute",
    "HUR": "duration-hour",
    "DAY": "duration-day",
    "WEE": "duration-week",
    "MON": "duration-month",
    "ANN": "duration-year",
    "KWH": "energy-kilowatt-hour",
    "JOU": "energy-joule",
    "KWT": "power-kilowatt",
    "WTT": "power-watt",
    "AD": "digital-byte",
    "4L": "digital-megabyte",
    "E34": "digital-gigabyte",
    "E35": "digital-terabyte",
    "CEL": "temperature-celsius",
}
#: Not printed: a quantity without a unit is of pieces.
_PIECES = frozenset({"", "C62", "H87"})
_MINUS = "-"


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """A language of documents with the formats of one region."""

    code: str
    #: BCP 47, for the file.
    tag: str
    words: Words
    #: Babel's, by its name.
    locale: str
    typesetter: Typesetter
    point: str
    group: str
    #: Digits between separators: next to the point, and further left.
    groups: tuple[int, int]
    percent_space: str

    def money(self, minor: int, currency: str) -> str:
        """Minor units as a decimal number. Of a currency that we don't know they are printed as they are."""
        return _number(self, minor_text(minor, currency) if currency in CURRENCY_EXPONENTS else str(minor), 0)

    def amount(self, minor: int, currency: str) -> str:
        """Minor units with the currency's sign where the region puts it."""
        if currency not in CURRENCY_EXPONENTS:
            return f"{self.money(minor, currency)} {currency}"
        before, after = _currency_signs(self.locale, currency)
        sign = _MINUS if minor < 0 else ""
        return f"{sign}{before}{self.money(abs(minor), currency)}{after}"

    def added(self, text: str, currency: str, sign: int) -> str:
        """Decimal text as an amount that is added (1) or taken off (-1), with its sign and the currency's."""
        negative = text.startswith("-") == (sign > 0)
        before, after = _currency_signs(self.locale, currency) if currency in CURRENCY_EXPONENTS else ("", "")
        return f"{_MINUS if negative else '+'}{before}{self.price(text.removeprefix('-'), currency)}{after}"

    def price(self, text: str, currency: str) -> str:
        """Decimal text with at least the currency's decimals."""
        return _number(self, text, CURRENCY_EXPONENTS.get(currency, 0))

    def number(self, text: str) -> str:
        """Decimal text without idle zeros."""
        return _number(self, text, 0, idle_zeros=False)

    def percent(self, text: str) -> str:
        """A rate: 20 % or 20%."""
        return f"{self.number(text)}{self.percent_space}%"

    def date(self, text: str) -> str:
        """A day, YYYY-MM-DD, with its month in words."""
        return _date(text, self.locale)

    def country(self, code: str) -> str:
        """The name of a country by its ISO 3166-1 code; the code where there is none."""
        return _country(code, self.locale)

    def quantity(self, text: str, unit: str) -> tuple[str, str]:
        """Decimal text and its unit in words; empty for pieces."""
        return self.number(text), self.unit(text, unit)

    def unit(self, text: str, unit: str) -> str:
        """A unit's name as it stands after a number: `1 hour`, `2 hours`."""
        if unit in _PIECES:
            return ""
        known = _UNITS.get(unit)
        if known is None:
            return self.words.units.get(unit, unit)
        return _unit(text, known, self.locale)


@lru_cache(maxsize=256)
def language_of(tag: str, country: str) -> Language:
    """The language of a BCP 47 tag, English for one that we don't print; `country` formats where the tag says none."""
    parts = tag.replace("_", "-").split("-")
    code = parts[0].lower() if parts[0].lower() in _WORDS else _DEFAULT
    region = next((part.upper() for part in parts[1:] if len(part) == 2), "") if code == parts[0].lower() else ""
    locale = _locale(code, region or country)
    pattern = locale.decimal_formats[None]
    symbols = locale.number_symbols["latn"]
    sample = locale.percent_formats[None].pattern
    return Language(
        code=code,
        tag=f"{code}-{region}" if region else code,
        words=_WORDS[code],
        locale=str(locale),
        typesetter=Typesetter(japanese=code == "ja"),
        point=symbols["decimal"],
        group=symbols["group"],
        groups=pattern.grouping,
        percent_space="\u00a0" if "\u00a0" in sample or "\u202f" in sample else "",
    )


def _locale(code: str, region: str) -> Locale:
    # CLDR has English for countries that don't write it, with their separators: 1,234 would be read as either.
    own = code in get_official_languages(region, de_facto=True) if region else False
    for name in (f"{code}_{region}" if own else "", _DEFAULT_LOCALE if code == _DEFAULT else code):
        try:
            return Locale.parse(name)
        except (UnknownLocaleError, ValueError):
            continue
    return Locale.parse(_DEFAULT_LOCALE)


@lru_cache(maxsize=16_384)
def _number(language: Language, text: str, decimals_min: int, idle_zeros: bool = True) -> str:
    whole, _, fraction = text.removeprefix("-").partition(".")
    if not (whole.isascii() and whole.isdecimal() and (not fraction or fraction.isdecimal())):
        # Not a number after all: shown as it came.
        return one_line(text)
    if decimals_min or not idle_zeros:
        fraction = fraction.rstrip("0").ljust(decimals_min, "0")
    sign = _MINUS if text.startswith("-") else ""
    whole = _grouped(language, whole.lstrip("0") or "0")
    return f"{sign}{whole}{language.point}{fraction}" if fraction else f"{sign}{whole}"


def _grouped(language: Language, whole: str) -> str:
    first, further = language.groups
    parts = [whole[-first:]]
    rest = whole[:-first]
    while rest:
        parts.append(rest[-further:])
        rest = rest[:-further]
    return language.group.join(reversed(parts))


@lru_cache(maxsize=1_024)
def _currency_signs(locale: str, currency: str) -> tuple[str, str]:
    sample = format_currency(Decimal(7), currency, locale=locale, numbering_system="latn")
    found = re.fullmatch(r"(.*?)7(?:[^\d\s]0+)?(.*)", sample)
    if found is None:
        return "", f"\u00a0{currency}"
    # CLDR sets letters apart from digits, and Babel doesn't.
    before = f"{found[1]}\u00a0" if found[1][-1:].isalpha() else found[1]
    return before, f"\u00a0{found[2]}" if found[2][:1].isalpha() else found[2]


@lru_cache(maxsize=4_096)
def _date(text: str, locale: str) -> str:
    try:
        return format_date(datetime.date.fromisoformat(text), "long", locale=locale)
    except ValueError:
        return one_line(text)


@lru_cache(maxsize=1_024)
def _country(code: str, locale: str) -> str:
    return str(Locale.parse(locale).territories.get(code, code))


@lru_cache(maxsize=4_096)
def _unit(text: str, unit: str, locale: str) -> str:
    try:
        value = Decimal(text)
    except ArithmeticError:
        value = Decimal(2)
    # The number is formatted as the document formats it, and only taken out of the phrase here.
    phrase = format_unit(value, unit, "long", format="0", locale=locale, numbering_system="latn")
    return re.sub(r"^[\s\u00a0]+|[\s\u00a0]+$|-?\d+", "", phrase).strip()
