"""JSON Lines are sent as they stand; other files by what they are; a file that can't be read doesn't stop the next."""

import json
from pathlib import Path

import pytest

from producers.generate import bodies
from producers.importers.files import found
from producers.importers.found import File, Options, Rejected, Request
from tests.unit.producers.importers.exports import INSIDE, read_bytes, reason, text

CHECKED = Options(are_bodies_checked=True)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_jsonl_is_sent_as_it_stands(tmp_path: Path) -> None:
    lines = [json.dumps(each) for each in bodies(20, seed=1)]
    path = write(tmp_path / "orders.jsonl", lines[0], "", *lines[1:])
    requests = list(found([File(path)]))
    assert [each.payload for each in requests if isinstance(each, Request)] == [line.encode() for line in lines]
    assert [each.place.row for each in requests][:3] == [1, 3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order_id": 7}, "orders.jsonl:2: order_id: expected str, got int"),
        ({"lines": [{"sku": "S"}]}, "orders.jsonl:2: A-1: lines[0].description: is missing"),
        ({"buyer": None}, "orders.jsonl:2: A-1: buyer: expected object, got null"),
        ({"colour": "red"}, "orders.jsonl:2: A-1: colour: is not a field of this request"),
        ({"currency": "EURO"}, "orders.jsonl:2: A-1: currency: must be an ISO 4217 code"),
        ({"totals": {"gross": "1.00"}}, "orders.jsonl:2: A-1: totals.gross: the lines amount to"),
    ],
)
def test_the_gateways_own_rules_say_what_is_wrong_before_it_is_sent(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    good = next(bodies(1, seed=1))
    path = write(tmp_path / "orders.jsonl", json.dumps(good), json.dumps({**good, **change}))
    first, second = found([File(path, CHECKED)])
    assert isinstance(first, Request)
    assert reason(second).startswith(f"{tmp_path}/{message}")


@pytest.mark.parametrize("line", ["{", "[1", '{"order_id": "\\ud800"}', "\x00", "7"])
def test_what_is_no_json_is_said_to_be(tmp_path: Path, line: str) -> None:
    (refused,) = found([File(write(tmp_path / "orders.jsonl", line), CHECKED)])
    assert isinstance(refused, Rejected)
    assert refused.place.row == 1


def test_a_line_longer_than_any_request_is_named_and_the_next_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "orders.jsonl", "x" * 3_000_000, json.dumps(next(bodies(1, seed=1))))
    first, second = found([File(path)])
    assert "longer than the 1048576 bytes" in reason(first)
    assert isinstance(second, Request)


def test_a_file_that_cannot_be_read_does_not_stop_the_next(tmp_path: Path) -> None:
    good = tmp_path / "orders.csv"
    good.write_text(text([INSIDE]), encoding="utf-8")
    first, second, third = found([File(tmp_path / "none.jsonl"), File(tmp_path / "none.csv"), File(good)])
    assert "No such file" in reason(first)
    assert "No such file" in reason(second)
    assert isinstance(third, Request)


def test_text_files_of_other_names_are_read_by_what_they_hold(tmp_path: Path) -> None:
    (order,) = read_bytes(tmp_path, text([INSIDE], separator="\t").encode("utf-16"), name="orders.txt")
    assert isinstance(order, Request)
