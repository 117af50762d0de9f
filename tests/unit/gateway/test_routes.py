"""Paths, methods and cursors that there are not: each is told so as a problem, whichever method asked."""

import json

import pytest

from gateway.http import parameters
from tests.unit.gateway.edge import split, talk


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/nothing", 404, None),
        ("HEAD", "/v1/nothing", 404, None),
        ("OPTIONS", "/v1/nothing", 404, None),
        ("OPTIONS", "*", 404, None),
        ("GET", "/v1/invoices/", 404, None),
        ("GET", "/v1/invoices/a/b/c", 404, None),
        ("GET", "//v1/series", 404, None),
        ("GET", "/v1/invoices", 405, "POST"),
        ("HEAD", "/v1/invoices", 405, "POST"),
        ("OPTIONS", "/v1/invoices", 405, "POST"),
        ("POST", "/v1/series", 405, "GET, HEAD"),
        ("OPTIONS", "/v1/series", 405, "GET, HEAD"),
        ("PATCH", "/v1/invoices/A", 405, "GET, HEAD"),
        ("TRACE", "/healthz", 405, "GET, HEAD"),
    ],
)
async def test_what_is_not_there_is_a_problem_with_the_methods_that_are(
    port: int, method: str, path: str, status: int, allow: str | None
) -> None:
    answer, _ = await talk(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first.startswith(f"HTTP/1.1 {status} ")
    assert (headers["Content-Type"], headers.get("Allow")) == ("application/problem+json", allow)
    if method == "HEAD":
        assert (body, int(headers["Content-Length"]) > 0) == (b"", True)
    else:
        assert json.loads(body)["status"] == status


@pytest.mark.parametrize("place", [(0, "nul\0"), (0, "."), (0, ""), (0, "x" * 65), (2**62, "A"), (-(2**62), "A")])
async def test_a_cursor_that_no_page_had_is_refused_by_its_field(port: int, place: tuple[int, str]) -> None:
    """Postgres is not asked, which could not even read some of them."""
    path = f"/v1/orders?customer=C-1&cursor={parameters.cursor(*place)}"
    answer, _ = await talk(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status, _, problem = split(answer)
    assert (status, problem["field"]) == (422, "cursor")
