"""The traces of a batch's records: what each came with, and what follows from it carries."""

from collections.abc import Iterable, Mapping, Sequence
from time import time_ns
from typing import Protocol

from runtime import traces
from runtime.traces import TRACEPARENT, Span


class HasHeaders(Protocol):
    """A record as aiokafka hands it over."""

    @property
    def offset(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def _came_with(records: Iterable[HasHeaders]) -> dict[int, str]:
    # Plain loops: this is done for every record, and most have no such header.
    came = {}
    for record in records:
        for name, value in record.headers:
            if name == TRACEPARENT:
                traceparent = traces.parse(value)
                if traceparent is not None:
                    came[record.offset] = traceparent
    return came


class BatchTraces:
    """The traces of a batch's records, by offset. Most have none; then it costs next to nothing."""

    def __init__(self, topic: str, partition: int, records: Iterable[HasHeaders]) -> None:
        self._topic = topic
        self._partition = partition
        self._came = _came_with(records)
        self._began_ns = time_ns() if self._came else 0
        self._spans: dict[int, Span] = {}

    def follow(self, offset: int) -> str | None:
        """The `traceparent` of what follows from a record; None for a record without one.

        While tracing is on, it is that of the record's span, which begins with the batch and ends with the commit.
        """
        came = self._came.get(offset)
        if came is None:
            return None
        span = self._spans.get(offset)
        if span is None:
            span = traces.follow("CONSUMER", f"process {self._topic}", came, self._began_ns)
            if span is None:
                return came
            span.describe(traces.of_record(self._topic, self._partition, offset))
            self._spans[offset] = span
        return span.traceparent

    def decision(self, offset: int, fields: dict[str, object]) -> Mapping[str, object]:
        """The fields of a decision on a record, for the log, with its trace id. The record's span has them, too."""
        traceparent = self.follow(offset)
        if traceparent is None:
            return fields
        span = self._spans.get(offset)
        if span is not None:
            span.add(fields)
        return {**fields, "trace_id": traces.trace_id(traceparent)}

    def end(self, records: Iterable[HasHeaders]) -> None:
        """End the spans of records that are committed."""
        if self._spans:
            for record in records:
                span = self._spans.pop(record.offset, None)
                if span is not None:
                    span.end()


#: Of a batch that nobody has looked at yet.
NO_TRACES = BatchTraces("", 0, ())
