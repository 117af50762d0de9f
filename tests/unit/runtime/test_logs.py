"""Logs: JSON lines, without floods and without secrets."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from runtime import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Restore the root logger afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """The lines written to standard error."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_both_libraries_write_json_lines_of_one_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line has the process and the extra fields."""
    logs.configure("INFO", {"process": "gateway"})
    structlog.get_logger("a").info("one", count=1)
    logging.getLogger("b").info("two %s", 2, extra={"count": 2})
    logging.getLogger("b").debug("not this")
    first, second = lines(capsys)
    assert (first["event"], first["count"], first["process"], first["level"]) == ("one", 1, "gateway", "info")
    assert (second["event"], second["count"], second["process"], second["level"]) == ("two 2", 2, "gateway", "info")
    assert set(first) == set(second)


def test_a_noisy_library_says_a_thing_once_and_then_how_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that differ only in their arguments count as equal."""
    now = 0.0
    monkeypatch.setattr(logs, "monotonic", lambda: now)
    logs.configure()
    noisy = logging.getLogger("aiokafka.conn")
    for port in range(50):
        noisy.error("cannot reach port %s", port)
    noisy.error("something else")
    now = logs.REPEAT_SECONDS_MIN
    noisy.error("cannot reach port %s", 50)
    written = lines(capsys)
    assert [line["event"] for line in written] == ["cannot reach port 0", "something else", "cannot reach port 50"]
    assert written[2]["repeats"] == 49


def test_other_loggers_are_never_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Two losses are two lines."""
    logs.configure()
    for _ in range(3):
        logging.getLogger("streams.invoices").error("lost one")
    assert len(lines(capsys)) == 3


def test_remembering_what_was_said_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages that always differ must not fill the memory."""
    repeats = logs.RepeatFilter()
    for n in range(5_000):
        repeats.filter(logging.LogRecord("aiokafka", logging.ERROR, "", 0, f"message {n}", None, None))
    assert len(repeats._said) <= 200


def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """They contain keys and customers' data."""
    logs.configure()
    secret = "gpl_" + "x" * 43
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("a").exception("failed")
        logging.getLogger("b").exception("failed")
    text = capsys.readouterr().err
    assert "ValueError: broken" in text
    assert secret not in text


def test_decisions_are_lines_of_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """They are written together, because separate writes would cost a tenth of an agent's throughput."""
    logs.configure("INFO", {"process": "invoices-1"})
    logger = logging.getLogger("streams.invoices")
    logger.info("other")
    logs.tell_decisions(logger, "issued", [{"order_id": "Ä\n1", "number": "INV-1"}, {"order_id": "B"}])
    logs.tell_decisions(logger, "issued", [])
    other, first, second = lines(capsys)
    assert (first["event"], first["order_id"], first["number"]) == ("issued", "Ä\n1", "INV-1")
    assert second["order_id"] == "B"
    shared = ("process", "logger", "level")
    assert [first[name] for name in shared] == [other[name] for name in shared]
    assert str(first["timestamp"])[:16] == str(other["timestamp"])[:16]


def test_decisions_obey_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING")
    logs.tell_decisions(logging.getLogger("streams.invoices"), "issued", [{"order_id": "A"}])
    assert lines(capsys) == []


def test_progress_of_libraries_is_left_to_who_debugs_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Forty lines at each start would hide ours. Their warnings are logged."""
    logs.configure("INFO")
    for name in ("faust.app.base", "mode.supervisors", "aiokafka.consumer", "streams.engine.transport"):
        logging.getLogger(name).info("progress")
        logging.getLogger(name).warning("a warning")
    written = [(line["logger"], line["event"]) for line in lines(capsys)]
    assert ("streams.engine.transport", "progress") in written
    assert [event for _, event in written].count("a warning") == 4
    assert len(written) == 5
    logs.configure("DEBUG")
    logging.getLogger("faust.app.base").info("progress")
    assert len(lines(capsys)) == 1
