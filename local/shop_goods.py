"""What the demo shop sells: a thousand products, each the same in every run, with a drawn picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product as combinations
from typing import Any

#: Colours of the glaze, cloth or lacquer: in English, French and German, with what they look like.
_COLOURS = {
    "ocean": ("bleu océan", "ozeanblau", "#1f6f8b"),
    "moss": ("vert mousse", "moosgrün", "#5b7f3a"),
    "brick": ("rouge brique", "ziegelrot", "#a8432f"),
    "sand": ("sable", "sandfarben", "#c8a974"),
    "night": ("bleu nuit", "nachtblau", "#2b2f55"),
    "plum": ("prune", "pflaumenblau", "#6d3a63"),
    "honey": ("miel", "honiggelb", "#d19a1f"),
    "slate": ("ardoise", "schiefergrau", "#5a6570"),
    "rose": ("rose", "rosa", "#c9657d"),
    "chalk": ("craie", "kreideweiß", "#b9b4a6"),
}
#: Makers, whose prices differ.
_MAKERS = ("Aubel", "Brandt", "Corvo", "Dahlin", "Estrel", "Fjord", "Gallo", "Hanso", "Ivry", "Juno")
#: What is made: in English, French and German, its category, its price in cents, its sizes and its drawing. In the
#: drawing `fill` is the colour.
_THINGS: dict[str, tuple[str, str, str, int, tuple[str, ...], str]] = {
    "mug": ("Tasse", "Becher", "kitchen/mugs", 890, (), (
        '<path d="M55 60h70v70a20 20 0 0 1-20 20H75a20 20 0 0 1-20-20z" fill="{fill}"/>'
        '<path d="M125 75h12a18 18 0 0 1 0 45h-12" fill="none" stroke="{fill}" stroke-width="10"/>'
    )),
    "bowl": ("Bol", "Schale", "kitchen/bowls", 1190, (), (
        '<path d="M40 80h120a60 60 0 0 1-120 0z" fill="{fill}"/><path d="M78 138h44v10H78z" fill="{fill}"/>'
    )),
    "plate": ("Assiette", "Teller", "kitchen/plates", 1090, (), (
        '<circle cx="100" cy="105" r="62" fill="{fill}"/><circle cx="100" cy="105" r="40" fill="#fff" opacity=".3"/>'
    )),
    "vase": ("Vase", "Vase", "home/vases", 2490, (), (
        '<path d="M82 45h36v25c0 20 25 30 25 60 0 20-15 30-43 30s-43-10-43-30c0-30 25-40 25-60z" fill="{fill}"/>'
    )),
    "lamp": ("Lampe", "Lampe", "home/lamps", 4990, (), (
        '<path d="M75 50h50l25 55H50z" fill="{fill}"/><path d="M95 105h10v45H95zM70 150h60v10H70z" fill="#555"/>'
    )),
    "clock": ("Horloge", "Uhr", "home/clocks", 3490, (), (
        '<circle cx="100" cy="105" r="58" fill="{fill}"/><circle cx="100" cy="105" r="46" fill="#fff"/>'
        '<path d="M100 72v33l22 14" fill="none" stroke="#333" stroke-width="6"/>'
    )),
    "cushion": ("Coussin", "Kissen", "textiles/cushions", 1990, ("40", "60"), (
        '<path d="M45 60q55-14 110 0 14 50 0 95-55 14-110 0-14-45 0-95z" fill="{fill}"/>'
    )),
    "blanket": ("Couverture", "Decke", "textiles/blankets", 5990, ("150", "200"), (
        '<path d="M45 65h95l20 20v70H45z" fill="{fill}"/><path d="M45 90h115M45 115h115M45 140h115" stroke="#fff"'
        ' stroke-width="4" opacity=".4"/>'
    )),
    "bag": ("Sac", "Tasche", "textiles/bags", 2990, ("S", "L"), (
        '<path d="M50 80h100l10 80H40z" fill="{fill}"/><path d="M75 80a25 30 0 0 1 50 0" fill="none" stroke="{fill}"'
        ' stroke-width="8"/>'
    )),
    "notebook": ("Carnet", "Notizbuch", "paper/notebooks", 690, ("A5", "A6"), (
        '<path d="M60 48h80a8 8 0 0 1 8 8v96a8 8 0 0 1-8 8H60z" fill="{fill}"/>'
        '<path d="M52 48h12v112H52z" fill="#333"/>'
    )),
}  # fmt: skip
#: Every so many products one is sold out.
_SOLD_OUT_EVERY = 23


@dataclass(frozen=True, slots=True)
class Good:
    """A product as `POST /v1/products/bulk` takes it, the pieces of each SKU, and its picture."""

    body: dict[str, Any]
    on_hand: int
    picture: str

    @property
    def product_id(self) -> str:
        """Its id."""
        return str(self.body["product_id"])

    @property
    def skus(self) -> list[str]:
        """What is sold of it."""
        return [variant["sku"] for variant in self.body["variants"]]


@cache
def goods() -> dict[str, Good]:
    """All of them, by id."""
    return {each.product_id: each for each in _made()}


def categories() -> list[str]:
    """Where they are found, the widest ones first."""
    paths = [thing[2] for thing in _THINGS.values()]
    return sorted({path.partition("/")[0] for path in paths}) + sorted(paths)


def _made() -> Iterator[Good]:
    for index, (thing, (number, maker), colour) in enumerate(combinations(_THINGS, enumerate(_MAKERS), _COLOURS)):
        french, german, category, cents, sizes, drawing = _THINGS[thing]
        colour_fr, colour_de, fill = _COLOURS[colour]
        product_id = f"{thing}-{maker.lower()}-{colour}"
        price = cents + 150 * number
        body = {
            "product_id": product_id,
            "texts": [
                {
                    "language": "en",
                    "name": f"{colour.title()} {thing} by {maker}",
                    "description": f"A {thing} from {maker}'s workshop, in {colour}.\nNo two are quite alike.",
                },
                {"language": "fr", "name": f"{french} {colour_fr} de {maker}"},
                {"language": "de", "name": f"{german} von {maker}, {colour_de}"},
            ],
            "brand": maker,
            "categories": [category],
            "attributes": [{"name": "colour", "value": colour}],
            "images": [{"url": f"/shop/pictures/{product_id}.svg", "alt": f"A {thing}, {colour}"}],
            "currency": "EUR",
            "vat_category": "S",
            "vat_rate": "20.00",
            "prices_include_tax": True,
            "variants": [
                {
                    "sku": "-".join(part for part in (product_id.upper(), size) if part),
                    "unit_price": _euros(price + 500 * place),
                    "attributes": [{"name": "size", "value": size}] if size else [],
                }
                for place, size in enumerate(sizes or ("",))
            ],
        }
        picture = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200" width="200" height="200">'
            f'<rect width="200" height="200" fill="{fill}" opacity=".12"/>{drawing.format(fill=fill)}</svg>'
        )
        on_hand = 0 if index % _SOLD_OUT_EVERY == 1 else 5 + index * 37 % 60
        yield Good(body, on_hand, picture)


def _euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"
