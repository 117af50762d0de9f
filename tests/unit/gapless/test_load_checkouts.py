"""`gapless load checkouts`: its requests, its output and its exit status."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from gapless.load import load


class Gateway(BaseHTTPRequestHandler):
    """Sells its stock one piece at a time; declines `tok_decline`; is overloaded once per order of `hurry`."""

    protocol_version = "HTTP/1.1"
    stock: ClassVar[dict[str, int]] = {}
    sent: ClassVar[list[dict[str, Any]]] = []
    hurried: ClassVar[set[str]] = set()
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_PUT(self) -> None:
        with self.lock:
            self.stock[self.path.rpartition("/")[2]] = self.read()["on_hand"]
        self.answer(200, {})

    def do_POST(self) -> None:
        body = self.read()
        sku = body["lines"][0]["sku"]
        with self.lock:
            if body["customer"].startswith("hurry") and body["order_id"] not in self.hurried:
                self.hurried.add(body["order_id"])
                return self.answer(429, {"type": "https://x/problems/too-many-requests"}, ("Retry-After", "0"))
            self.sent.append(body | {"prefer": self.headers["Prefer"]})
            if sku == "odd":
                return self.answer(422, {"type": "https://x/problems/invalid-field", "detail": "lines: odd"})
            if self.stock.get(sku, 10**6) < 1:
                return self.answer(409, {"type": "https://x/problems/out-of-stock"})
            if body["payment_token"] == "tok_decline":
                return self.answer(402, {"type": "https://x/problems/payment-declined"})
            if sku in self.stock:
                self.stock[sku] -= 1
        return self.answer(201 if self.headers["Prefer"] else 202, {"order_id": body["order_id"]})

    def read(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return body

    def answer(self, status: int, body: dict[str, Any], *headers: tuple[str, str]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Length", str(len(payload))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Gateway.stock.clear()
    Gateway.sent.clear()
    Gateway.hurried.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(url: str, folder: Path, *arguments: str) -> Result:
    (folder / "key").write_text("secret\n")
    where = ["--url", url, "--api-key-file", str(folder / "key")]
    return CliRunner().invoke(load, ["checkouts", *arguments, *where, "--buyers", "4"], standalone_mode=False)


def test_a_sale_tells_who_got_a_piece_and_who_did_not(url: str, tmp_path: Path) -> None:
    result = run(url, tmp_path, "--count", "30", "--sku", "MUG", "--stock", "7", "--wait", "10", "--json")
    told = json.loads(result.stdout)
    assert told["outcomes"] == {"confirmed": 7, "out of stock": 23}
    assert (told["statuses"], told["unanswered"], result.return_value) == ({"201": 7, "409": 23}, 0, 0)
    assert set(told["latency_ms"]) == {"p50", "p90", "p95", "p99", "max"}
    assert set(told["latency_ms_by_status"]) == {"201", "409"}
    assert {body["prefer"] for body in Gateway.sent} == {"wait=10"}


def test_articles_customers_and_means_of_payment_are_spread(url: str, tmp_path: Path) -> None:
    options = ["--count", "60", "--skus", "3", "--customers", "5", "--tokens", "tok_ok=0.5,tok_decline=0.5", "--json"]
    told = json.loads(run(url, tmp_path, *options).stdout)
    assert {body["lines"][0]["sku"] for body in Gateway.sent} == {"SKU-1", "SKU-2", "SKU-3"}
    assert len({body["customer"] for body in Gateway.sent}) == 5
    assert len({body["order_id"] for body in Gateway.sent}) == 60
    assert set(told["outcomes"]) == {"accepted", "declined"}
    assert 15 <= told["outcomes"]["declined"] <= 45


def test_a_customer_who_is_too_fast_is_asked_again_and_counts_once(url: str, tmp_path: Path) -> None:
    result = run(url, tmp_path, "--count", "5", "--sku", "MUG", "--prefix", "hurry", "--json")
    told = json.loads(result.stdout)
    assert (told["requests"], told["retries"], told["statuses"]) == (5, 5, {"202": 5})


def test_an_answer_that_is_no_outcome_of_a_sale_is_named_and_makes_the_exit_code_1(url: str, tmp_path: Path) -> None:
    result = run(url, tmp_path, "--count", "2", "--sku", "odd")
    assert result.return_value == 1
    assert "C-1: 422 lines: odd" in result.stderr
    assert "invalid-field" in result.stdout


def test_people_see_the_same(url: str, tmp_path: Path) -> None:
    result = run(url, tmp_path, "--count", "3", "--sku", "MUG", "--stock", "1")
    assert result.return_value == 0
    for words in (
        "3 requests in",
        "out of stock",
        "unanswered",
        "latency, p95",
        "latency of 409, p50 and p95",
    ):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--count", "1"], "give --sku or --skus"),
        (["--count", "1", "--sku", "A", "--skus", "2"], "give --sku or --skus"),
        (["--count", "1", "--sku", "A", "--tokens", "tok_ok=x"], "'tok_ok=x' is not NAME=SHARE"),
        (["--count", "1", "--sku", "A", "--tokens", "tok_ok=0"], "at least one above 0"),
    ],
)
def test_wrong_usage_is_one_line(url: str, tmp_path: Path, arguments: list[str], why: str) -> None:
    result = run(url, tmp_path, *arguments)
    assert why in str(result.exception)
