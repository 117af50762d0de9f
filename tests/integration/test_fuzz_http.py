"""Anything at all over HTTP: the gateway lives, and answers as its own document says.

On a real gateway with real Kafka, Postgres and Valkey behind it. `FUZZ_EXAMPLES` multiplies how much is tried.
"""

import asyncio
import contextlib
import copy
import json
import os
import socket
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conformance import Conformance
from tests.conftest import Services
from tests.integration.gateways import KEYS, Topics, make_topics, order, running
from tests.malformed_http import MALFORMED

TIMES = int(os.environ.get("FUZZ_EXAMPLES", "1"))
PROBLEM = "application/problem+json"
_SECONDS_MAX = 60.0
#: The gateway signs its links with it.
LINK_KEY = "k" * 32
# A line of a bulk request is JSON.
schemathesis.serializer.alias("application/x-ndjson", "application/json")
_CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def bounded(examples: int) -> settings:
    """So many examples, the same each time unless more are asked for."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@dataclass
class Target:
    """A running gateway, from outside."""

    url: str
    contract: Conformance
    session: requests.Session

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        """A request; the answer must be one that the document lists, and no fault of the gateway's."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Authorization", f"Bearer {KEYS['demo']}")
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        response = self.session.request(method, self.url + path, data=data, headers=named, timeout=_SECONDS_MAX)
        self.check(method, path, response.status_code, dict(response.headers), response.content)
        return response

    def check(self, method: str, path: str, status: int, headers: dict[str, str], body: bytes) -> None:
        """As the document says; 503 is documented, other faults of ours are never right."""
        wrong = list(self.contract.answer_errors(method, path, status, headers, body))
        assert not wrong, (method, path, wrong)
        assert status < 500 or status == 503, (method, path, status, body)
        if status >= 400 and path != "/readyz" and "vnd.schemaregistry" not in headers["Content-Type"]:
            problem = json.loads(body)
            assert headers["Content-Type"] == PROBLEM
            assert (problem["status"], bool(problem["detail"])) == (status, True)

    def lives(self) -> None:
        """It still takes orders."""
        assert self.session.get(self.url + "/readyz", timeout=_SECONDS_MAX).status_code == 200


@pytest.fixture
def target(services: Services, ledger: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A gateway on a loop of its own: what asks it here blocks."""
    monkeypatch.setenv("GAPLESS_PROVIDER_WEBHOOK_SECRET", "whsec_of_the_tests")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()
    stack = contextlib.AsyncExitStack()

    async def start() -> str:
        topics: Topics = make_topics(services.kafka_bootstrap)
        made = running(services, ledger, topics, link_keys=LINK_KEY)
        return (await stack.enter_async_context(made)).url

    try:
        url = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
        with requests.Session() as session:
            document = session.get(f"{url}/openapi.json", timeout=_SECONDS_MAX).json()
            yield Target(url, Conformance(document), session)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_every_operation_answers_what_the_document_lists(target: Target) -> None:
    """Whatever Schemathesis makes of the document, valid or not."""
    schema = schemathesis.openapi.from_dict(target.contract.document)
    target.call("PUT", "/v1/stock/S-1", {"on_hand": 5})
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @bounded(2)
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: "schemathesis.Case[Any]") -> None:
                # Nobody answers here: who waits, waits in vain.
                named = {"Prefer": "wait=0", "Authorization": f"Bearer {KEYS['demo']}"}
                response = case.call(base_url=target.url, timeout=_SECONDS_MAX, session=target.session, headers=named)
                case.validate_response(response, checks=_CHECKS)
                assert response.status_code < 500 or response.status_code == 503

            # Of an operation that takes nothing, nothing can be wrong.
            with contextlib.suppress(Unsatisfiable):
                holds()
                tried += 1
    assert tried >= len(target.contract.document["paths"])
    target.lives()


INVOICE, CHECKOUT, STOCK = "/v1/invoices", "/v1/checkouts", "/v1/stock/S-1"
REFUND, CANCEL = "/v1/orders/A-1/refunds", "/v1/orders/A-1/cancellations"
VALID: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", INVOICE, order("A-1", note="n", totals={"net": "39.98"})),
    ("POST", CHECKOUT, order("A-2", customer="C-1", payment_token="tok_ok")),
    ("PUT", STOCK, {"adjust": 3, "key": "k"}),
    ("POST", REFUND, {"refund_id": "R-1", "reason": "r", "lines": [{"line": 0, "quantity": 1}]}),
    ("POST", CANCEL, {"reason": "r"}),
]
_ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    10**400,
    2**63,
    "",
    " ",
    "\0",
    "a\x00b",
    "\ud800",
    "x" * 70_000,
    "\u202e",
    "NaN",
    "-0",
    "1e5",
    [],
    {},
    [[]],
    {"a": 1},
    ["x"] * 1_001,
    "9" * 13,
    "0.0000001",
    "../..",
    "wait=30",
]
_RAW = [
    b"",
    b" ",
    b"{",
    b"[]",
    b"null",
    b"NaN",
    b'{"lines":NaN}',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'"\xed\xa0\x80"',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"order_id":"a","order_id":"b"}',
    b"1" * 100_000,
    b"{}" * 2,
    b" " * (1024 * 1024 + 1),
    b"\0" * 1_000,
]


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """A request whose body was valid once."""
    method, path, valid = draw(st.sampled_from(VALID))
    how = draw(st.sampled_from(["field", "field", "field", "bytes", "raw", "twice", "many"]))
    body = copy.deepcopy(valid)
    if how == "raw":
        return method, path, draw(st.sampled_from(_RAW))
    if how == "many" and "lines" in body:
        body["lines"] *= draw(st.sampled_from([999, 1_000, 1_001, 10_000]))
    if how == "field":
        for _ in range(draw(st.integers(1, 2))):
            places = list(_places(body))
            if not places:
                break
            container, name = draw(st.sampled_from(places))
            what = draw(st.sampled_from(["odd", "odd", "gone", "more", "text"]))
            if what == "gone" and isinstance(container, dict):
                container.pop(name, None)
            elif what == "more" and isinstance(container, dict):
                container["surprise"] = 1
            else:
                container[name] = (
                    draw(st.text(max_size=70)) if what == "text" else copy.deepcopy(draw(st.sampled_from(_ODD)))
                )
    encoded = json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if how == "twice":
        encoded = encoded[:-1] + b", " + encoded[1:]
    if how == "bytes":
        at = draw(st.integers(0, len(encoded)))
        encoded = encoded[:at] + draw(st.binary(max_size=4)) + encoded[at + draw(st.integers(0, 4)) :]
    return method, path, encoded


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, dict | list):
        for name in node if isinstance(node, dict) else range(len(node)):
            yield node, name
            yield from _places(node[name])


def test_a_spoiled_body_is_refused_or_taken_and_never_a_fault(target: Target) -> None:
    @bounded(250)
    @given(request=spoiled())
    def holds(request: tuple[str, str, bytes]) -> None:
        method, path, body = request
        answer = target.call(method, path, body, Prefer="wait=0")
        if answer.status_code == 422:
            assert answer.json()["field"]

    holds()
    target.lives()


@pytest.mark.parametrize(("method", "path", "valid"), VALID)
def test_a_field_of_the_wrong_type_is_named(target: Target, method: str, path: str, valid: dict[str, Any]) -> None:
    for names in _paths(valid):
        body = copy.deepcopy(valid)
        container = body
        for name in names[:-1]:
            container = container[name]
        container[names[-1]] = {"odd": 1}
        answer = target.call(method, path, body, Prefer="wait=0")
        field = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)[1:]
        assert answer.status_code == 400
        # An object where a struct belongs lacks its fields, or has a surprising one.
        assert answer.json()["field"].startswith(field), answer.text


def _paths(node: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict | list):
        for name in node if isinstance(node, dict) else range(len(node)):
            yield (name,)
            yield from ((name, *inner) for inner in _paths(node[name]))


@pytest.mark.parametrize(
    ("encoding", "status"), [("gzip", 400), ("x-gzip", 400), ("deflate", 400), ("br", 415), ("zstd", 415), ("x", 415)]
)
def test_a_body_that_is_not_compressed_as_it_says_can_not_be_read(target: Target, encoding: str, status: int) -> None:
    answer = target.call("POST", INVOICE, order("A-1"), Content_Encoding=encoding)
    kind = "malformed" if status == 400 else "unsupported-coding"
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")


def test_a_compressed_body_counts_by_what_it_becomes(target: Target) -> None:
    """A kibibyte that becomes a gibibyte is too large, and never is one."""
    body = zlib.compress(b" " * (64 * 1024 * 1024), 9)
    assert len(body) < 128 * 1024
    answer = target.call("POST", INVOICE, body, Content_Encoding="deflate")
    assert answer.status_code == 413
    fits = zlib.compress(json.dumps(order("A-9")).encode())
    assert target.call("POST", INVOICE, fits, Content_Encoding="deflate").status_code == 202


def test_of_a_body_that_nobody_reads_the_rest_is_not_worth_an_error(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer came before it."""
    answer = target.call(
        "POST", INVOICE, order("A-1"), Authorization="Bearer wrong", Content_Encoding="deflate", Connection="close"
    )
    assert answer.status_code == 401
    assert not [record for record in caplog.records if record.name.startswith(("aiohttp", "gateway"))]


def test_headers_may_hold_anything(target: Target) -> None:
    chars = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
    prefers = st.one_of(
        st.sampled_from(
            ["wait=-1", "wait=0x9", "wait", "wait=", "respond-async, wait=0", 'wait="0"', "wait=0;wait=9" * 300]
        ),
        chars.filter(lambda text: "wait" not in text.lower()),
    )

    @bounded(80)
    @given(
        request=st.sampled_from(VALID),
        headers=st.fixed_dictionaries(
            {"Prefer": prefers},
            optional={
                "Authorization": st.one_of(
                    chars, chars.map(lambda text: f"Bearer {text}"), st.just("Bearer " + "x" * 7_000)
                ),
                "Content-Type": st.one_of(
                    chars, st.sampled_from(["text/plain", "application/json; charset=utf-16", ";;;"])
                ),
                "Idempotency-Key": chars,
                "Accept": chars,
                "If-None-Match": chars,
                "Accept-Encoding": chars,
                "Cookie": chars,
                "Range": chars,
                "Content-Encoding": st.sampled_from(
                    ["identity", "gzip", "x-gzip", "br", "deflate", "zstd", "nonsense"]
                ),
            },
        ),
    )
    def holds(request: tuple[str, str, Any], headers: dict[str, str]) -> None:
        method, path, body = request
        encoded: Any = {name: value.strip().encode("latin-1") for name, value in headers.items()}
        encoded.setdefault("Authorization", f"Bearer {KEYS['demo']}".encode())
        # An answer may come before a body that can't be read, and end the connection.
        encoded["Connection"] = b"close"
        answer = target.session.request(
            method, target.url + path, data=json.dumps(body).encode(), headers=encoded, timeout=_SECONDS_MAX
        )
        target.check(method, path, answer.status_code, dict(answer.headers), answer.content)

    holds()
    target.lives()


def test_malformed_http_is_told_so_and_smuggles_nothing(target: Target) -> None:
    """Each answer to it is one of ours, and no second request in its body is answered with a seller's things."""
    for text in MALFORMED:
        for status, headers, body in _exchange(target, text.encode("latin-1")):
            assert status < 500, (text[:200], status, body)
            if status >= 400:
                assert headers.get("Content-Type") == PROBLEM, (text[:200], status, headers, body)
                assert json.loads(body)["status"] == status
            assert b'"series"' not in body, text[:200]
    target.lives()


def test_random_bytes_end_at_most_their_connection(target: Target) -> None:
    pieces = st.one_of(
        st.binary(max_size=60),
        st.sampled_from([text.encode("latin-1")[:2_000] for text in MALFORMED]),
        st.sampled_from(
            [
                b"\r\n",
                b"\n",
                b"\r",
                b"Content-Length: 5\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"0\r\n\r\n",
                b"HTTP/1.1",
            ]
        ),
    )

    @bounded(60)
    @given(st.lists(pieces, min_size=1, max_size=6))
    def holds(parts: list[bytes]) -> None:
        for status, _, _ in _exchange(target, b"".join(parts)):
            assert status < 500

    holds()
    target.lives()


def _exchange(target: Target, sent: bytes) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Send bytes, say that there are no more, and read what comes back."""
    parts = urlsplit(target.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=_SECONDS_MAX) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        with contextlib.suppress(OSError):
            while piece := connection.recv(65_536):
                received += piece
    while received:
        head, _, rest = bytes(received).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(each.split(": ", 1) for each in lines)
        status, length = int(first.split(" ")[1]), int(headers.get("Content-Length", "0"))
        yield status, headers, rest[:length]
        received = bytearray(rest[length:])
