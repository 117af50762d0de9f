"""The rate limit as one gateway keeps it for itself, while Redis can't keep it for all of them."""

from collections.abc import Iterable

#: As in `stock.lua`: a customer may check out one SKU so often at once, and then once every so many seconds.
BURST = 5
TOKEN_SECONDS = 0.2
#: Beyond it those that are full are forgotten, which changes nothing.
BUCKETS_MAX = 100_000


class Buckets:
    """Token buckets, each kept as the moment at which it will be full again."""

    def __init__(self) -> None:
        self._full_at: dict[tuple[str, str, str], float] = {}

    def spend(self, seller_id: str, customer: str, skus: Iterable[str], now: float) -> float:
        """Take a token of each SKU and return 0; or take none and return the seconds until there is one of each."""
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
