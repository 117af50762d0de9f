"""What follows from a record is of the record's trace, and so is what the log says of it."""

from dataclasses import dataclass

from runtime import traces
from streams.engine.batch import Batch
from tests.collector import Collector

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
UNSAMPLED = f"00-{TRACE_ID}-00f067aa0ba902b7-00"


@dataclass(frozen=True)
class Sent:
    offset: int
    headers: tuple[tuple[str, bytes], ...] = ()
    key: bytes | None = None
    value: bytes | None = None


def traced(*traceparents: str | None) -> Batch:
    """A batch of a record for each."""
    headers = [(("seq", b"1"), *([("traceparent", each.encode())] if each else [])) for each in traceparents]
    return Batch("t", 3, [Sent(offset, each) for offset, each in enumerate(headers)]).traced()


def test_without_a_collector_the_trace_is_passed_on_and_in_the_log() -> None:
    batch = traced(SAMPLED, None, "00-nonsense", UNSAMPLED)
    assert [batch.traces.follow(offset) for offset in range(4)] == [SAMPLED, None, None, UNSAMPLED]
    logged = [batch.traces.decision(offset, {"order_id": "A"}) for offset in range(4)]
    with_trace = {"order_id": "A", "trace_id": TRACE_ID}
    assert logged == [with_trace, {"order_id": "A"}, {"order_id": "A"}, with_trace]


def test_parts_of_a_batch_know_the_traces_of_the_whole() -> None:
    batch = traced(SAMPLED, SAMPLED)
    left = batch.after(batch.first(1))
    assert left is not None
    assert [each.traces.follow(1) for each in (left, batch.since(1), batch.without({0}))] == [SAMPLED] * 3


def test_a_span_is_sent_for_each_record_that_something_follows_from_once_it_is_committed() -> None:
    """All that follows from a record has the same parent, however often it is tried."""
    with Collector() as collector:
        with traces.sent_to(collector.url, "invoices", "invoices-1"):
            batch = traced(SAMPLED, SAMPLED, SAMPLED, UNSAMPLED, None)
            first, again, second = (batch.traces.follow(offset) for offset in (0, 0, 1))
            assert first == again != second
            assert first is not None
            assert first[:36] == SAMPLED[:36]
            assert batch.traces.follow(3) == UNSAMPLED
            batch.traces.decision(0, {"order_id": "A", "number": "INV-1"})
            # Nothing follows from 2, and 1 is not committed.
            batch.traces.end([each for each in batch.records if each.offset != 1])
        [span] = collector.spans()
    assert (span.service, span.name, span.trace_id) == ("gapless-invoices", "process t", TRACE_ID)
    assert (span.span_id, span.parent_id) == (first[36:52], SAMPLED[36:52])
    assert (span.attributes["gapless.number"], span.attributes["messaging.kafka.offset"]) == ("INV-1", 0)
