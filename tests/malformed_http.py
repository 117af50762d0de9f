"""Bytes that are no HTTP/1.1, or look like one request and could be read as two."""

from tests.integration.gateways import KEYS

_HEAD = f"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['demo']}\r\n"
_SMUGGLED = "GET /v1/series HTTP/1.1\r\nHost: x\r\n\r\n"
MALFORMED = [
    "\r\n\r\n",
    "GET\r\n\r\n",
    "GET / HTTP/9.9\r\n\r\n",
    "GET / HTTP/1.1\r\nHost x\r\n\r\n",
    "\x16\x03\x01\x02\0\x01\0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "G\0T / HTTP/1.1\r\nHost: x\r\n\r\n",
    f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: x\r\nA: {'a' * 70_000}\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n" + "A: b\r\n" * 20_000 + "\r\n",
    "GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v1/orders/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v1/orders/\u00ff HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET //x/..//%2e%2e/ HTTP/1.1\r\nHost: x\r\n\r\n",
    f"{_HEAD}Content-Length: -1\r\n\r\n",
    f"{_HEAD}Content-Length: 1e3\r\n\r\n",
    f"{_HEAD}Content-Length: {'9' * 40}\r\n\r\n",
    f"{_HEAD}Content-Length: +2\r\n\r\n{{}}",
    f"{_HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}",
    f"{_HEAD}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{_SMUGGLED}",
    f"{_HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    f"{_HEAD}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{_SMUGGLED}",
    f"{_HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    f"{_HEAD}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n2;{'x' * 70_000}\r\n{{}}\r\n0\r\n\r\n",
    f"{_HEAD} Content-Length: 2\r\n\r\n{{}}",
    f"{_HEAD}Content-Length : 2\r\n\r\n{{}}",
    f"{_HEAD}Expect: 200-maybe\r\nContent-Length: 2\r\n\r\n{{}}",
    f"{_HEAD}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}",
    f"{_HEAD}Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
]
