"""The two documents of the interface for people: `/docs` and `/docs/topics`, and the one for consumers' tools.

The pages load nothing from elsewhere, and what they may load is said in their Content-Security-Policy.
"""

import functools
import gzip
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

from gateway.http import openapi
from gateway.http.openapi import DeclaredResponse, open_operation
from schemas import asyncapi

ASYNCAPI_PATH = "/asyncapi.json"
#: See gateway/pages/README.md. The version is in its path, so that it may be cached for ever.
_SCRIPT = "redoc-3.0.1.js"
_SCRIPT_PATH = f"/docs/{_SCRIPT}"
#: The hash is that of an empty style element: Redoc adds its rules to one, by script. No other inline style, no inline
#: script, and nothing of another host: Redoc's telemetry and its logo are neither.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
        "connect-src 'self'",
        "img-src 'self' data:",
        "font-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>gapless: {title}</title><meta name="viewport" content="width=device-width"></head>
<body>
<nav><a href="/docs">HTTP</a> · <a href="/docs/topics">topics</a></nav>
<redoc spec-url="{document}" disable-telemetry="true"></redoc>
<script type="module" src="{script}"></script>
</body>
</html>
"""
_HTML = DeclaredResponse(200, "A page", media_type="text/html", headers=("Content-Security-Policy",))


def routes() -> list[web.RouteDef]:
    """The pages, what they load, and the AsyncAPI document; open to all."""
    return [
        web.get("/docs", _http),
        web.get("/docs/topics", _topics),
        web.get(_SCRIPT_PATH, _script),
        web.get(ASYNCAPI_PATH, _asyncapi),
    ]


@open_operation("The HTTP interface, for people", _HTML)
async def _http(_: web.Request) -> web.Response:
    """GET /docs."""
    return _page("HTTP", openapi.PATH)


@open_operation("The topics, for people", _HTML)
async def _topics(_: web.Request) -> web.Response:
    """GET /docs/topics."""
    return _page("topics", ASYNCAPI_PATH)


@open_operation("What draws the pages", DeclaredResponse(200, "A script", media_type="text/javascript"))
async def _script(request: web.Request) -> web.Response:
    """GET /docs/redoc-….js."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    body = _compressed_script()
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    return web.Response(body=body, content_type="text/javascript", headers=headers)


@open_operation("The topics and their records", DeclaredResponse(200, "AsyncAPI 3.0", dict[str, Any]))
async def _asyncapi(_: web.Request) -> web.Response:
    """GET /asyncapi.json."""
    return web.Response(body=msgspec.json.encode(asyncapi.document()), content_type="application/json")


def _page(title: str, document: str) -> web.Response:
    text = _PAGE.format(title=title, document=document, script=_SCRIPT_PATH)
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    return web.Response(text=text, content_type="text/html", headers=headers)


@functools.cache
def _compressed_script() -> bytes:
    return files("gateway").joinpath("pages", f"{_SCRIPT}.gz").read_bytes()
