"""`gapless load`: its output and its exit status."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gapless.load import load
from producers.generate import bodies
from tests.unit.producers.importers.exports import INSIDE, text

#: Bodies, in the order in which they came.
received: list[dict[str, object]] = []


class Gateway(BaseHTTPRequestHandler):
    """Accepts every order except those whose id ends in 3."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = body["order_id"].endswith("3")
        received.append(body)
        answer = json.dumps({"detail": "lines: too odd"} if refused else {}).encode()
        self.send_response(422 if refused else 202)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    received.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(url: str, folder: Path, *arguments: str, orders: int = 2) -> Result:
    (folder / "key").write_text("secret\n")
    orders_file = folder / "orders.jsonl"
    if not orders_file.exists():
        orders_file.write_text("".join(json.dumps(body) + "\n" for body in bodies(orders, seed=1)))
    target = ["--url", url, "--api-key-file", str(folder / "key")]
    return CliRunner().invoke(load, [str(orders_file), *target, *arguments], standalone_mode=False)


def test_what_came_of_the_requests_is_told_to_machines_and_people(url: str, tmp_path: Path) -> None:
    result = run(url, tmp_path, "--repeat", "0.5", "--json")
    told = json.loads(result.stdout)
    assert result.return_value == 0
    assert (told["requests"], told["statuses"], told["unanswered"]) == (4, {"202": 4}, 0)
    assert set(told["latency_ms"]) == {"p50", "p90", "p95", "p99", "max"}
    assert "answered 202" in run(url, tmp_path).stdout


def test_a_refused_request_is_named_with_its_line_and_makes_the_exit_code_1(url: str, tmp_path: Path) -> None:
    result = run(url, tmp_path, orders=5)
    assert result.return_value == 1
    assert f"{tmp_path}/orders.jsonl:3: A-3: 422 lines: too odd" in result.stderr


def test_count_and_rate_bound_the_load(url: str, tmp_path: Path) -> None:
    told = json.loads(run(url, tmp_path, "--count", "3", "--rate", "100", "--repeat", "0.6", "--json").stdout)
    assert told["requests"] == 3


def shop(folder: Path, *rows: dict[str, str]) -> Path:
    """A shop's export as the file to send."""
    path = folder / "orders_export.csv"
    path.write_text(text(rows), encoding="utf-8")
    return path


ROWS = (
    {**INSIDE, "Name": "#1"},
    {**INSIDE, "Name": "#2", "Total": "99.00"},
    {**INSIDE, "Name": "#4", "Financial Status": "pending"},
    {**INSIDE, "Name": "#5"},
)


def send(url: str, folder: Path, *arguments: str) -> Result:
    (folder / "key").write_text("secret\n")
    target = ["--url", url, "--api-key-file", str(folder / "key")]
    return CliRunner().invoke(load, [str(shop(folder, *ROWS)), *target, *arguments], standalone_mode=False)


def test_every_order_is_for_itself_and_what_is_left_out_is_listed(url: str, tmp_path: Path) -> None:
    result = send(url, tmp_path)
    assert sorted(str(body["order_id"]) for body in received) == ["#1", "#5"]
    assert "orders_export.csv:3: #2: Total: 99.00 is neither" in result.stderr
    assert "left out: pending" in result.stdout
    assert result.return_value == 1


def test_a_report_for_programs_has_every_order(url: str, tmp_path: Path) -> None:
    told = json.loads(send(url, tmp_path, "--json").stdout)
    assert (told["orders"], told["accepted"], told["skipped"]) == (4, 2, {"pending": 1})
    (rejected,) = told["rejected"]
    assert (rejected["order_id"], rejected["row"], rejected["field"]) == ("#2", 3, "Total")
    assert rejected["reason"].startswith("99.00 is neither")


def test_a_report_names_what_was_concluded_and_what_was_given_back(tmp_path: Path) -> None:
    given_back = {"Financial Status": "refunded", "Refunded Amount": "12.10"}
    path = shop(tmp_path, {**INSIDE, "Email": ""}, {**INSIDE, **given_back, "Name": "#2"})
    options = ["--dry-run", "--json", "--without-email"]
    told = json.loads(CliRunner().invoke(load, [str(path), *options], standalone_mode=False).stdout)
    assert told["remarks"] == {"no e-mail address: nobody is sent the invoice": ["#1001"]}
    assert [(each["order_id"], each["amount"], each["currency"]) for each in told["refunds"]] == [
        ("#2", "12.10", "EUR")
    ]


def test_an_order_without_an_answer_is_named(tmp_path: Path) -> None:
    result = send("http://127.0.0.1:1", tmp_path, "--give-up-after", "0.1", "--json")
    told = json.loads(result.stdout)
    reasons = {each["order_id"]: each["reason"] for each in told["rejected"]}
    assert reasons["#1"] == reasons["#5"] == "no answer from the gateway: send the file again"
    assert (told["accepted"], result.return_value) == (0, 1)


def test_strict_sends_nothing_unless_all_can_be_sent(url: str, tmp_path: Path) -> None:
    result = send(url, tmp_path, "--strict")
    assert (result.return_value, received) == (1, [])
    assert "#2: Total: 99.00 is neither" in result.stderr


def test_a_dry_run_needs_no_gateway_and_sends_nothing(tmp_path: Path) -> None:
    path = shop(tmp_path, *ROWS)
    result = CliRunner().invoke(load, [str(path), "--dry-run", "--json"], standalone_mode=False)
    told = json.loads(result.stdout)
    assert (told["ready"], told["accepted"], len(told["rejected"]), result.return_value) == (2, 0, 1, 1)
    path.write_text(text([INSIDE]), encoding="utf-8")
    assert CliRunner().invoke(load, [str(path), "--dry-run"], standalone_mode=False).return_value == 0


def test_a_wrong_file_is_one_line(url: str, tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text("{}\n")
    result = run(url, tmp_path, "--strict")
    assert f"{tmp_path}/orders.jsonl:1: currency: is missing" in result.stderr


@pytest.mark.parametrize("rate", ["-1", "101", "ten", "NaN"])
def test_a_rate_is_from_0_to_100(rate: str) -> None:
    result = CliRunner().invoke(load, ["x.csv", "--dry-run", "--vat-rate", rate])
    assert (result.exit_code, "is no rate from 0 to 100" in result.output) == (2, True)


def test_a_url_needs_its_key(tmp_path: Path) -> None:
    result = CliRunner().invoke(load, ["x.jsonl", "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, "belong together" in result.output) == (2, True)
