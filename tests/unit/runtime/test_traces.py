"""Traces: which `traceparent` is passed on, and which spans a collector receives."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import structlog

from local.layout import free_port
from runtime import logs, outages, traces
from runtime.outages import Outage
from tests.collector import Collector

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-00"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Restore the root logger afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("header", "passed_on"),
    [
        (SAMPLED, SAMPLED),
        (SAMPLED.encode(), SAMPLED),
        (UNSAMPLED, UNSAMPLED),
        # A later version may have further fields.
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-what-else", SAMPLED),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01", SAMPLED),
        (None, None),
        ("", None),
        (f"{SAMPLED}-more", None),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01.more", None),
        (f"ff-{TRACE_ID}-{PARENT_ID}-01", None),
        (f"00-{'0' * 32}-{PARENT_ID}-01", None),
        (f"00-{TRACE_ID}-{'0' * 16}-01", None),
        (SAMPLED.upper(), None),
        (f" {SAMPLED}", None),
        (f"{SAMPLED}\n", None),
        (f"cc-{TRACE_ID}-{PARENT_ID}-01-a\nb", None),
        (b"\xff" * 55, None),
        (SAMPLED[:-1], None),
    ],
)
def test_only_a_valid_traceparent_is_passed_on(header: str | bytes | None, passed_on: str | None) -> None:
    assert traces.parse(header) == passed_on


def test_the_trace_id_is_that_of_the_traceparent() -> None:
    assert traces.trace_id(SAMPLED) == TRACE_ID


def test_without_a_collector_no_span_is_made_and_nothing_of_it_is_imported() -> None:
    """The gateway is left out, because redis-py imports OpenTelemetry where it is installed."""
    code = (
        "import sys, gapless.processes, streams.relay.relay, streams.invoices\n"
        "from runtime import traces\n"
        "with traces.sent_to(None, 'gateway', 'gateway'):\n"
        f"    assert traces.begin('SERVER', 'x', '{SAMPLED}') is None\n"
        f"    assert traces.follow('CONSUMER', 'x', '{SAMPLED}') is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_spans_arrive_with_their_parents_and_what_was_added() -> None:
    """This includes spans that ended just before the process."""
    with Collector() as collector:
        with traces.sent_to(collector.url, "gateway", "gateway"):
            first = traces.begin("SERVER", "POST /v1/invoices", SAMPLED)
            assert first is not None
            second = traces.follow("PRODUCER", "publish t", first.traceparent, time.time_ns() - 10**9)
            assert second is not None
            second.describe(traces.of_record("t", 3, 7))
            second.end()
            first.add({"order_id": "A-1", "number": 7, "reason": None})
            first.end("500")
            # Dropped, because it is never ended.
            traces.follow("CONSUMER", "process t", second.traceparent)
        sent, answered = collector.spans()
    assert (sent.service, sent.name, sent.trace_id, sent.parent_id) == (
        "gapless-gateway",
        "publish t",
        TRACE_ID,
        answered.span_id,
    )
    assert sent.seconds >= 1
    assert (sent.attributes["messaging.kafka.offset"], sent.is_error) == (7, False)
    assert (answered.parent_id, answered.is_error) == (PARENT_ID, True)
    assert answered.attributes == {"gapless.order_id": "A-1", "gapless.number": 7}


def test_what_the_caller_does_not_sample_leaves_no_span_and_keeps_its_trace() -> None:
    with Collector() as collector:
        with traces.sent_to(collector.url, "gateway", "gateway"):
            first = traces.begin("SERVER", "POST /v1/invoices", UNSAMPLED)
            assert first is not None
            assert traces.trace_id(first.traceparent) == TRACE_ID
            assert traces.follow("PRODUCER", "publish t", first.traceparent) is None
            first.end()
        assert collector.spans() == []


def test_a_request_without_a_trace_begins_one() -> None:
    with Collector() as collector:
        with traces.sent_to(collector.url, "gateway", "gateway"):
            span = traces.begin("SERVER", "POST /v1/invoices", None)
            assert span is not None
            assert traces.parse(span.traceparent) == span.traceparent
            span.end()
        [seen] = collector.spans()
    assert (seen.trace_id, seen.parent_id) == (traces.trace_id(span.traceparent), "")


def test_a_collector_that_is_unavailable_holds_nothing_up_and_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for any number of spans, also at the end of the process."""
    away = Outage("the collector of traces")
    monkeypatch.setattr(logs, "COLLECTOR", away)
    monkeypatch.setattr(traces, "COLLECTOR", away)
    # Measured by the thread's CPU time and the lines, since other load on the machine affects the clock.
    logs.configure()
    began = time.monotonic()
    with traces.sent_to(f"http://127.0.0.1:{free_port()}", "gateway", "gateway"):
        for _ in range(5_000):
            span = traces.begin("SERVER", "x", SAMPLED)
            assert span is not None
            span.end()
        while away.reason is None:
            assert time.monotonic() < began + 60
            time.sleep(0.01)
        ending = time.monotonic()
    assert time.monotonic() - ending < 30
    [line] = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["event"].startswith("the collector of traces is unavailable: Transient error ")
    assert line["logger"] == outages.__name__
