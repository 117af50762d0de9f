"""Files of requests: read as they are sent, and errors that name where they are."""

import json
from pathlib import Path

import pytest

from producers.files import FileError, read_requests
from producers.generate import bodies
from tests.unit.producers.test_shopify import ORDER, export


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_jsonl_is_sent_as_it_stands(tmp_path: Path) -> None:
    lines = [json.dumps(body) for body in bodies(20, seed=1)]
    path = write(tmp_path / "orders.jsonl", lines[0], "", *lines[1:])
    assert list(read_requests(path)) == [line.encode() for line in lines]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order_id": 7}, "orders.jsonl:2: order_id: Expected `str`, got `int`"),
        ({"lines": [{"sku": "S"}]}, "orders.jsonl:2: lines[0]: Object missing required field `description`"),
        ({"buyer": None}, "orders.jsonl:2: buyer: Expected `object`, got `null`"),
        ({"colour": "red"}, "orders.jsonl:2: the request: Object contains unknown field `colour`"),
    ],
)
def test_an_error_names_file_line_and_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    good = next(bodies(1, seed=1))
    path = write(tmp_path / "orders.jsonl", json.dumps(good), json.dumps({**good, **change}))
    with pytest.raises(FileError) as raised:
        list(read_requests(path))
    assert str(raised.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize("line", ["{", "[1", '{"order_id": "\\ud800"}', "\x00"])
def test_what_is_no_json_is_said_to_be(tmp_path: Path, line: str) -> None:
    with pytest.raises(FileError, match=r"orders.jsonl:1: "):
        list(read_requests(write(tmp_path / "orders.jsonl", line)))


def test_a_line_longer_than_any_request_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r":1: longer than"):
        list(read_requests(write(tmp_path / "orders.jsonl", "x" * 2_000_000)))


def test_csv_is_shopifys_export_with_or_without_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "orders_export.csv"
    path.write_text(export(ORDER).getvalue(), encoding="utf-8-sig")
    (payload,) = read_requests(path)
    assert json.loads(payload)["order_id"] == "#1001"


def test_errors_in_csv_name_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "orders_export.csv"
    path.write_text(export({**ORDER, "Email": ""}).getvalue(), encoding="utf-8")
    with pytest.raises(FileError, match=r"orders_export\.csv: row 2, column Email: is empty"):
        list(read_requests(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FileError, match="not UTF-8"):
        list(read_requests(path))


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"ends in \.jsonl"):
        read_requests(tmp_path / "orders.xlsx")
    with pytest.raises(FileError, match="No such file"):
        list(read_requests(tmp_path / "none.jsonl"))
