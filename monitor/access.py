"""Who may see the dashboard: those who know the operator's token."""

import hashlib
import hmac

from aiohttp import web

_SCHEME = "Bearer "


class Access:
    """Compares in constant time, and gives out a cookie from which the token can't be found."""

    def __init__(self, token: str, port: int) -> None:
        """Cookies of one host are shared by its ports; `port` keeps those of two monitors apart."""
        self._token = token.encode()
        self.cookie_name = f"gapless_monitor_{port}"
        self.cookie_value = hmac.digest(self._token, b"gapless dashboard", hashlib.sha256).hex()

    def is_token(self, given: str) -> bool:
        """Whether it is the token."""
        return hmac.compare_digest(given.encode(), self._token)

    def allows(self, request: web.Request) -> bool:
        """Whether a request carries the token, or a cookie given for it."""
        authorization = request.headers.get("Authorization", "")
        if authorization.startswith(_SCHEME):
            return self.is_token(authorization.removeprefix(_SCHEME).strip())
        return hmac.compare_digest(request.cookies.get(self.cookie_name, "").encode(), self.cookie_value.encode())
