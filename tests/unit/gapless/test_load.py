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


class Gateway(BaseHTTPRequestHandler):
    """Accepts every order except those whose id ends in 3."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = body["order_id"].endswith("3")
        answer = json.dumps({"detail": "lines: too odd"} if refused else {}).encode()
        self.send_response(422 if refused else 202)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
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


def test_a_refused_request_is_named_and_makes_the_exit_code_1(url: str, tmp_path: Path) -> None:
    result = run(url, tmp_path, orders=5)
    assert result.return_value == 1
    assert "A-3: 422 lines: too odd" in result.stderr


def test_count_and_rate_bound_the_load(url: str, tmp_path: Path) -> None:
    told = json.loads(run(url, tmp_path, "--count", "3", "--rate", "100", "--repeat", "0.6", "--json").stdout)
    assert told["requests"] == 3


def test_a_wrong_file_is_one_line(url: str, tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text("{}\n")
    result = run(url, tmp_path)
    assert str(result.exception).startswith(f"{tmp_path}/orders.jsonl:1: the request: Object missing required field")


def test_a_url_needs_its_key(tmp_path: Path) -> None:
    result = CliRunner().invoke(load, ["x.jsonl", "--url", "http://127.0.0.1:1"])
    assert (result.exit_code, "belong together" in result.output) == (2, True)
