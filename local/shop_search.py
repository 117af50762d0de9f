"""The demo shop's search: what the page shows, and where its links lead. It needs no script."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

#: What the page's address may have; the gateway reads them under the same names.
_FIELDS = ("q", "category", "brand", "currency", "price_min", "price_max", "in_stock", "sort", "cursor")
_SORTS = (("", "Best match"), ("price", "Cheapest first"), ("-price", "Dearest first"), ("newest", "Newest first"))
_BY_PRICE = ("price", "-price")
_PATH = "/shop/search"

#: A value, its label, how many products have it, and whether it is chosen.
Facet = tuple[str, str, int, bool]


def asked_of(query: Mapping[str, str]) -> dict[str, str]:
    """What the page's address asks for, without empty fields."""
    return {name: query[name] for name in _FIELDS if query.get(name)}


def gateway_query(asked: Mapping[str, str], language: str, limit: int) -> str:
    """The same for the gateway."""
    return urlencode({**asked, "limit": limit, **({"lang": language} if language else {})})


def page_of(asked: Mapping[str, str], found: Mapping[str, Any]) -> dict[str, Any]:
    """What the template is given."""
    facets = found["facets"]
    currencies = facets["currencies"]
    return {
        "asked": {**dict.fromkeys(_FIELDS, ""), **asked},
        "found": found,
        "sorts": [(value, label, _sorted_by(asked, value, currencies)) for value, label in _SORTS],
        "narrowed": lambda name, value: narrowed(asked, name, value),
        "without": lambda name: narrowed(asked, name, ""),
        "categories_found": _values(asked, "category", facets["categories"]),
        "brands_found": _values(asked, "brand", facets["brands"]),
        # With one there is nothing to choose.
        "currencies_found": _values(asked, "currency", currencies) if len(currencies) > 1 else [],
        "prices_found": [_band(asked, each) for each in facets["prices"]],
    }


def narrowed(asked: Mapping[str, str], name: str, value: str) -> str:
    """The address of the same search with another value of one field; empty for none. It begins at its first page."""
    changes = {name: value}
    if name == "price":
        currency, low, high = value.split("-") if value else (asked.get("currency", ""), "", "")
        changes = {"currency": currency, "price_min": low, "price_max": high}
    if name == "currency":
        # What was said of prices was said in another one.
        by_price = asked.get("sort") in _BY_PRICE
        changes |= {"price_min": "", "price_max": "", **({"sort": ""} if by_price else {})}
    fields = {**{key: text for key, text in asked.items() if key != "cursor"}, **changes}
    return f"{_PATH}?{urlencode({key: text for key, text in fields.items() if text})}"


def _sorted_by(asked: Mapping[str, str], sort: str, currencies: list[Mapping[str, Any]]) -> str:
    """The address of the same search in this order. Prices are compared in one currency: the most frequent."""
    address = narrowed(asked, "sort", sort)
    if sort in _BY_PRICE and currencies and "currency" not in asked:
        address += "&" + urlencode({"currency": currencies[0]["value"]})
    return address


def _values(asked: Mapping[str, str], name: str, counts: list[Mapping[str, Any]]) -> list[Facet]:
    return [(each["value"], _label(each["value"]), each["count"], asked.get(name) == each["value"]) for each in counts]


def _label(value: str) -> str:
    return " › ".join(part.title() if part.islower() else part for part in value.split("/"))


def _band(asked: Mapping[str, str], band: Mapping[str, Any]) -> Facet:
    currency, low, high = band["currency"], band["price_min"], band["price_max"]
    # A band ends below its end; the filter includes it: so it ends a cent before.
    last = "" if high is None else f"{int(high) - 1}.99"
    label = f"{low} {currency} and more" if high is None else f"{low} to {last} {currency}"
    is_chosen = tuple(asked.get(name, "") for name in ("currency", "price_min", "price_max")) == (currency, low, last)
    return f"{currency}-{low}-{last}", label, band["count"], is_chosen
