"""What the demo shop shows and takes of reviews, and what its owner does for them: ship, deliver, approve."""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from local.shop_gateway import Gateway, ShopError

#: Of each SKU of a product.
_SHOWN_MAX = 5
#: What the owner may do to an order in a state, and what it is called.
OWNER_STEPS = {"CONFIRMED": ("shipments", "Ship it"), "SHIPPED": ("deliveries", "Say that it has arrived")}
_WAIT_SECONDS = 5


async def reviews_of(gateway: Gateway, product: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The newest published reviews of a product's SKUs."""
    if not product["rating"]["count"]:
        return []
    paths = [f"/v1/reviews?limit={_SHOWN_MAX}&sku={quote(each['sku'], safe='')}" for each in product["variants"]]
    pages = await asyncio.gather(*(gateway.call("GET", path) for path in paths))
    found = [review for page in pages for review in page["reviews"]]
    return sorted(found, key=lambda review: str(review["written_at"]), reverse=True)


async def reviewed_lines(gateway: Gateway, order: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of a delivered order, each with its review or None."""
    if order["state"] != "DELIVERED":
        return []
    lines = [line for line in order["lines"] if line.get("sku")]
    reviews = await asyncio.gather(*(_review(gateway, order["order_id"], line["line"]) for line in lines))
    return [{**line, "review": review} for line, review in zip(lines, reviews, strict=True)]


async def write_review(gateway: Gateway, order_id: str, form: Mapping[str, str]) -> None:
    """Send what the buyer's form says. Raises `ShopError`."""
    stars = form.get("stars", "")
    body = {
        "stars": int(stars) if stars.isascii() and stars.isdecimal() and len(stars) == 1 else 0,
        "title": form.get("title", ""),
        "body": form.get("body", "").replace("\r\n", "\n"),
        "author": form.get("author", ""),
    }
    await gateway.call("PUT", _path(order_id, form.get("line", "")), body)


async def approve(gateway: Gateway, order_id: str, line: str) -> None:
    """Publish the review as it is now. Raises `ShopError`."""
    path = _path(order_id, line)
    version = (await gateway.call("GET", path))["version"]
    await gateway.call("POST", f"{path}/moderation", {"action": "approve", "version": version})


async def take_step(gateway: Gateway, order_id: str, state: str) -> None:
    """Do what an order in this state waits for. Raises `ShopError`."""
    if state in OWNER_STEPS:
        path = f"/v1/orders/{quote(order_id, safe='')}/{OWNER_STEPS[state][0]}"
        await gateway.call("POST", path, {}, Prefer=f"wait={_WAIT_SECONDS}")


async def _review(gateway: Gateway, order_id: str, line: int) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = await gateway.call("GET", _path(order_id, str(line)))
    except ShopError as error:
        if error.problem.get("status") != 404:
            raise
        return None
    return found if found["stars"] else None


def _path(order_id: str, line: str) -> str:
    return f"/v1/orders/{quote(order_id, safe='')}/lines/{quote(line, safe='')}/review"
