"""A product of the catalogue: what it must be, and where it is found."""

import re
from collections.abc import Iterator, Sequence

from domain.checkout import check_sku
from domain.iso import CURRENCY_EXPONENTS
from domain.money import PRICE_DECIMALS, RATE_DECIMALS, NotDecimalError, scaled
from domain.records import Product, ProductAttribute, ProductVariant
from domain.refusals import INVALID_FIELD, Refusal
from domain.terms import LANGUAGE, VAT_CATEGORIES, check_rate
from domain.texts import LONG_CHARS_MAX, SHORT_CHARS_MAX, check_lines, check_text, first_refusal

#: Of a product's body as JSON, and so of its event: a page of it is still a page.
PRODUCT_BYTES_MAX = 64 * 1024
#: A segment of a URL, a word of a `Surrogate-Key`, an id in HTML: as it is, in all of them.
PRODUCT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}", re.ASCII)
CATEGORY = re.compile(r"[a-z0-9][a-z0-9-]{0,39}(?:/[a-z0-9][a-z0-9-]{0,39}){0,4}", re.ASCII)
IMAGE_URL = re.compile(r"(?:https?://|/(?!/))[\x21-\x7e]+", re.ASCII)
DESCRIPTION_CHARS_MAX = 10_000
ATTRIBUTE_NAME_CHARS_MAX = 64
TEXTS_MAX, CATEGORIES_MAX, ATTRIBUTES_MAX, IMAGES_MAX, VARIANTS_MAX = 30, 20, 100, 20, 200


def check_product_id(product_id: str) -> Refusal | None:
    """1-64 of A-Z, a-z, 0-9 and `. _ ~ -`, the first a letter or a digit."""
    if PRODUCT_ID.fullmatch(product_id) is None:
        return _invalid("product_id", "must be 1 to 64 of A-Z, a-z, 0-9 and . _ ~ -, the first a letter or a digit")
    return None


def check(product: Product) -> Refusal | None:
    """The first rule that the product breaks."""
    return first_refusal(_broken(product))


def found_in(product: Product) -> list[str]:
    """The categories that the product is found in: its own, and those that they are part of."""
    paths: dict[str, None] = {}
    for category in product["categories"]:
        parts = category["path"].split("/")
        paths.update(dict.fromkeys("/".join(parts[:count]) for count in range(1, len(parts) + 1)))
    return list(paths)


def skus_of(product: Product) -> list[str]:
    """The SKUs of its variants."""
    return [variant["sku"] for variant in product["variants"]]


def _broken(product: Product) -> Iterator[Refusal | None]:
    yield _check_count("texts", product["texts"], 1, TEXTS_MAX)
    for index, text in enumerate(product["texts"]):
        path = f"texts[{index}]."
        if LANGUAGE.fullmatch(text["language"]) is None:
            yield _invalid(f"{path}language", "must be a BCP 47 tag, such as de or pt-BR")
        yield check_text(f"{path}name", text["name"], SHORT_CHARS_MAX, required=True)
        yield check_lines(f"{path}description", text["description"], DESCRIPTION_CHARS_MAX)
    yield _check_distinct("texts", "language", [text["language"].lower() for text in product["texts"]])
    yield check_text("brand", product["brand"], SHORT_CHARS_MAX)
    yield _check_count("categories", product["categories"], 0, CATEGORIES_MAX)
    for index, category in enumerate(product["categories"]):
        if CATEGORY.fullmatch(category["path"]) is None:
            detail = "must be 1 to 5 words of a-z, 0-9 and -, with / between them, such as kitchen/mugs"
            yield _invalid(f"categories[{index}]", detail)
    yield _check_distinct("categories", "", [category["path"] for category in product["categories"]])
    yield from _broken_attributes("", product["attributes"])
    yield _check_count("images", product["images"], 0, IMAGES_MAX)
    for index, image in enumerate(product["images"]):
        yield check_text(f"images[{index}].url", image["url"], LONG_CHARS_MAX)
        if IMAGE_URL.fullmatch(image["url"]) is None:
            yield _invalid(f"images[{index}].url", "must begin with https://, http:// or a single /, without spaces")
        yield check_text(f"images[{index}].alt", image["alt"], SHORT_CHARS_MAX)
    if product["currency"] not in CURRENCY_EXPONENTS:
        yield _invalid("currency", "must be an ISO 4217 code in capitals, such as EUR")
    if product["vat_category"] not in VAT_CATEGORIES:
        yield _invalid("vat_category", f"must be one of {', '.join(VAT_CATEGORIES)}")
    rate = _scaled(product["vat_rate"], RATE_DECIMALS)
    if rate is None:
        yield _invalid("vat_rate", f"must be a decimal text with at most {RATE_DECIMALS} decimals, such as 20.00")
    else:
        yield check_rate("", product["vat_category"], rate)
    yield _check_count("variants", product["variants"], 1, VARIANTS_MAX)
    for index, variant in enumerate(product["variants"]):
        yield from _broken_variant(f"variants[{index}].", variant)
    yield _check_distinct("variants", "sku", skus_of(product))


def _broken_variant(path: str, variant: ProductVariant) -> Iterator[Refusal | None]:
    refusal = check_sku(variant["sku"])
    if refusal is not None:
        yield Refusal(refusal.reason, f"{path}sku", refusal.detail)
    price = _scaled(variant["unit_price"], PRICE_DECIMALS)
    if price is None or price < 0:
        detail = f"must be a decimal text with at most {PRICE_DECIMALS} decimals, not below zero, such as 19.99"
        yield _invalid(f"{path}unit_price", detail)
    yield from _broken_attributes(path, variant["attributes"])


def _broken_attributes(path: str, attributes: Sequence[ProductAttribute]) -> Iterator[Refusal | None]:
    yield _check_count(f"{path}attributes", attributes, 0, ATTRIBUTES_MAX)
    for index, attribute in enumerate(attributes):
        where = f"{path}attributes[{index}]."
        yield check_text(f"{where}name", attribute["name"], ATTRIBUTE_NAME_CHARS_MAX, required=True)
        yield check_text(f"{where}value", attribute["value"], SHORT_CHARS_MAX, required=True)
    yield _check_distinct(f"{path}attributes", "name", [attribute["name"] for attribute in attributes])


def _check_count(field: str, items: Sequence[object], at_least: int, at_most: int) -> Refusal | None:
    if at_least <= len(items) <= at_most:
        return None
    return _invalid(field, f"must be {at_least} to {at_most}, not {len(items)}")


def _check_distinct(field: str, within: str, names: Sequence[str]) -> Refusal | None:
    for index, name in enumerate(names):
        if name in names[:index]:
            where = f"{field}[{index}].{within}" if within else f"{field}[{index}]"
            return _invalid(where, "is given twice: each may be there once")
    return None


def _scaled(text: str, decimals: int) -> int | None:
    try:
        return scaled(text, decimals)
    except NotDecimalError:
        return None


def _invalid(field: str, detail: str) -> Refusal:
    return Refusal(INVALID_FIELD, field, detail)
