"""The types of products in requests and responses; the OpenAPI document is made from them."""

from typing import Annotated, TypedDict

from msgspec import UNSET, Struct, UnsetType

from domain import records
from domain.checkout import SKU_CHARS_MAX
from domain.iso import CURRENCY_EXPONENTS
from domain.product import (
    ATTRIBUTE_NAME_CHARS_MAX,
    ATTRIBUTES_MAX,
    CATEGORIES_MAX,
    CATEGORY,
    DESCRIPTION_CHARS_MAX,
    IMAGE_URL,
    IMAGES_MAX,
    PRODUCT_ID,
    TEXTS_MAX,
    VARIANTS_MAX,
)
from domain.terms import LANGUAGE, VAT_CATEGORIES
from domain.texts import LONG_CHARS_MAX, SHORT_CHARS_MAX, in_lines, in_one_line
from gateway.http.details import Decimal
from gateway.http.openapi import Parameter, limits, whole

_Short = Annotated[str, limits(minLength=1, maxLength=SHORT_CHARS_MAX)]
PRODUCT = Parameter(
    "product_id", "path", {"type": "string", "pattern": whole(PRODUCT_ID)}, "The product's id.", required=True
)


class ProductText(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A product in one language."""

    language: Annotated[str, limits(pattern=whole(LANGUAGE))]
    name: _Short
    description: Annotated[str, limits(maxLength=DESCRIPTION_CHARS_MAX)] = ""


class ProductAttribute(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A property by its name."""

    name: Annotated[str, limits(minLength=1, maxLength=ATTRIBUTE_NAME_CHARS_MAX)]
    value: _Short


class ProductImage(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A picture, and what it shows for those who do not see it."""

    url: Annotated[str, limits(maxLength=LONG_CHARS_MAX, pattern=whole(IMAGE_URL))]
    alt: Annotated[str, limits(maxLength=SHORT_CHARS_MAX)] = ""


_Attributes = Annotated[list[ProductAttribute], limits(maxItems=ATTRIBUTES_MAX)]


class ProductVariant(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What is sold: one SKU and its price."""

    sku: Annotated[str, limits(minLength=1, maxLength=SKU_CHARS_MAX)]
    unit_price: Decimal
    attributes: _Attributes | UnsetType = UNSET


class ProductBody(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """All of a product but its id."""

    texts: Annotated[list[ProductText], limits(minItems=1, maxItems=TEXTS_MAX)]
    currency: Annotated[str, limits(enum=sorted(CURRENCY_EXPONENTS))]
    vat_category: Annotated[str, limits(enum=list(VAT_CATEGORIES))]
    vat_rate: Decimal
    variants: Annotated[list[ProductVariant], limits(minItems=1, maxItems=VARIANTS_MAX)]
    prices_include_tax: bool = False
    brand: Annotated[str, limits(maxLength=SHORT_CHARS_MAX)] = ""
    categories: (
        Annotated[list[Annotated[str, limits(pattern=whole(CATEGORY))]], limits(maxItems=CATEGORIES_MAX)] | UnsetType
    ) = UNSET
    attributes: _Attributes | UnsetType = UNSET
    images: Annotated[list[ProductImage], limits(maxItems=IMAGES_MAX)] | UnsetType = UNSET


class BulkLine(ProductBody, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """A line of a bulk request: a product with its id."""

    product_id: Annotated[str, limits(pattern=whole(PRODUCT_ID))]


class ProductTextView(TypedDict):
    """A product in one language."""

    language: str
    name: str
    description: str


class ProductAttributeView(TypedDict):
    """A property by its name."""

    name: str
    value: str


class ProductImageView(TypedDict):
    """A picture."""

    url: str
    alt: str


class ProductVariantView(TypedDict):
    """What is sold: one SKU and its price."""

    sku: str
    unit_price: str
    attributes: list[ProductAttributeView]


class ProductView(TypedDict):
    """A product."""

    product_id: str
    version: int
    texts: list[ProductTextView]
    brand: str
    categories: list[str]
    attributes: list[ProductAttributeView]
    images: list[ProductImageView]
    currency: str
    vat_category: str
    vat_rate: str
    prices_include_tax: bool
    variants: list[ProductVariantView]


class ProductList(TypedDict):
    """A page of a seller's products."""

    products: list[ProductView]
    next: str | None


def as_record(body: ProductBody) -> records.Product:
    """The product as it goes into the journal."""
    return {
        "texts": [
            {"language": text.language, "name": in_one_line(text.name), "description": in_lines(text.description)}
            for text in body.texts
        ],
        "brand": in_one_line(body.brand),
        "categories": [] if body.categories is UNSET else [{"path": path} for path in body.categories],
        "attributes": _attributes(body.attributes),
        "images": [] if body.images is UNSET else [{"url": image.url, "alt": image.alt} for image in body.images],
        "currency": body.currency,
        "vat_category": body.vat_category,
        "vat_rate": body.vat_rate,
        "prices_include_tax": body.prices_include_tax,
        "variants": [
            {
                "sku": variant.sku,
                "unit_price": variant.unit_price,
                "attributes": _attributes(variant.attributes),
            }
            for variant in body.variants
        ],
    }


def shown(product_id: str, version: int, product: records.Product) -> ProductView:
    """The product in answers."""
    return {
        "product_id": product_id,
        "version": version,
        "texts": [
            {"language": each["language"], "name": each["name"], "description": each["description"]}
            for each in product["texts"]
        ],
        "brand": product["brand"],
        "categories": [category["path"] for category in product["categories"]],
        "attributes": _shown_attributes(product["attributes"]),
        "images": [{"url": image["url"], "alt": image["alt"]} for image in product["images"]],
        "currency": product["currency"],
        "vat_category": product["vat_category"],
        "vat_rate": product["vat_rate"],
        "prices_include_tax": product["prices_include_tax"],
        "variants": [
            {
                "sku": variant["sku"],
                "unit_price": variant["unit_price"],
                "attributes": _shown_attributes(variant["attributes"]),
            }
            for variant in product["variants"]
        ],
    }


def _attributes(attributes: list[ProductAttribute] | UnsetType) -> list[records.ProductAttribute]:
    return [] if attributes is UNSET else [{"name": each.name, "value": each.value} for each in attributes]


def _shown_attributes(attributes: list[records.ProductAttribute]) -> list[ProductAttributeView]:
    return [{"name": each["name"], "value": each["value"]} for each in attributes]
