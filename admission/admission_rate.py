"""The rate limit that each gateway applies by itself while Redis, which limits across gateways, is unavailable."""

from collections.abc import Iterable

#: As in `stock.lua`: checkouts of one SKU that a customer may make at once, and the seconds until one more is allowed.
BURST = 5
TOKEN_SECONDS = 0.2
#: Buckets remembered; beyond this full ones are dropped, which changes nothing.
BUCKETS_MAX = 100_000


class Buckets:
    """Token buckets, each stored as the time at which it will be full again."""

    def __init__(self) -> None:
        self._full_at: dict[tuple[str, str, str], float] = {}

    def spend(self, seller_id: str, customer: str, skus: Iterable[str], now: float) -> float:
        """Take a token of each SKU and return 0, or take none and return the seconds until all are available."""
        full_at = {}
        wait = 0.0
        for sku in skus:
            bucket = (seller_id, customer, sku)
            at = max(now, self._full_at.get(bucket, 0.0))
            wait = max(wait, at - (BURST - 1) * TOKEN_SECONDS - now)
            full_at[bucket] = at + TOKEN_SECONDS
        if wait > 1e-9:
            return wait
        if len(self._full_at) + len(full_at) > BUCKETS_MAX:
            self._full_at = {bucket: at for bucket, at in self._full_at.items() if at > now}
        self._full_at.update(full_at)
        return 0.0
