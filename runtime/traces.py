"""Traces: passes `traceparent` (W3C Trace Context) from header to header, and exports spans in OTLP if configured.

Without `GAPLESS_OTLP_URL` no spans are created and OpenTelemetry is not imported. A caller's `traceparent` is still
passed on unchanged, so that logs and consumers have its trace id.
"""

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from runtime.outages import COLLECTOR

# Imported on use: a process without tracing does not load them.
if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

#: The name of the header, in HTTP and in Kafka.
TRACEPARENT = "traceparent"
#: How long a process that ends waits for the collector to accept its last spans.
_LAST_SPANS_SECONDS_MAX = 1.0
#: https://www.w3.org/TR/trace-context-2/#traceparent-header. Versions after 00 may add fields.
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_CHARS = 55

#: The kinds of spans: answering a request, sending a record, handling a record, calling a service.
Kind = Literal["SERVER", "PRODUCER", "CONSUMER", "CLIENT"]

_tracer: "trace.Tracer | None" = None


class Span:
    """A span under way. It is exported only after `end`."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: "trace.Span") -> None:
        self._span = span
        context = span.get_span_context()
        #: The header value to pass on.
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def add(self, fields: Mapping[str, object]) -> None:
        """Add `fields` as attributes named `gapless.<name>`; None values are left out."""
        for name, value in fields.items():
            if value is not None:
                self._span.set_attribute(f"gapless.{name}", value if isinstance(value, int) else str(value))

    def describe(self, attributes: Mapping[str, str | int]) -> None:
        """Add attributes named by OpenTelemetry's conventions."""
        self._span.set_attributes(attributes)

    def end(self, error: str = "") -> None:
        """End the span, as failed if `error` is not empty."""
        if error:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


def parse(header: str | bytes | None) -> str | None:
    """The `traceparent` to pass on; None if the header is absent or invalid."""
    if not header:
        return None
    text = header.decode("ascii", "replace") if isinstance(header, bytes) else header
    if _FORM.fullmatch(text) is None or (text.startswith("00") and len(text) != _CHARS):
        return None
    return f"00{text[2:_CHARS]}"


def trace_id(traceparent: str) -> str:
    """The trace id of a `traceparent`, 32 hex digits."""
    return traceparent[3:35]


def of_partition(topic: str, partition: int) -> dict[str, str | int]:
    """Attributes of a span that sends a record to this partition."""
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
    }


def of_record(topic: str, partition: int, offset: int) -> dict[str, str | int]:
    """Attributes of a span that sends or handles the record at this offset."""
    return {**of_partition(topic, partition), "messaging.kafka.offset": offset}


def begin(kind: Kind, name: str, parent: str | None) -> Span | None:
    """A span under `parent`, or in a new trace if the sampler selects it; None if tracing is off."""
    return None if _tracer is None else _begin(_tracer, kind, name, parent, None)


def follow(kind: Kind, name: str, parent: str | None, began_ns: int | None = None) -> Span | None:
    """A span under `parent` if that is sampled; None otherwise, without a parent, and if tracing is off.

    `began_ns` is the time it began in nanoseconds since 1970; by default now.
    """
    if _tracer is None or parent is None or not int(parent[-1], 16) & 1:
        return None
    return _begin(_tracer, kind, name, parent, began_ns)


@contextmanager
def following(kind: Kind, name: str, parent: str | None) -> Iterator[None]:
    """Run the block in a span of `follow`; an exception ends the span as failed."""
    span = follow(kind, name, parent)
    error = "cancelled"
    try:
        yield
        error = ""
    except Exception as raised:
        error = type(raised).__name__
        raise
    finally:
        if span is not None:
            span.end(error)


def _begin(tracer: "trace.Tracer", kind: Kind, name: str, parent: str | None, began_ns: int | None) -> Span:
    from opentelemetry import trace
    from opentelemetry.context import Context

    context = Context()
    if parent is not None:
        flags = trace.TraceFlags(int(parent[53:55], 16))
        remote = trace.SpanContext(int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=flags)
        context = trace.set_span_in_context(trace.NonRecordingSpan(remote), context)
    return Span(tracer.start_span(name, context, trace.SpanKind[kind], start_time=began_ns))


@contextmanager
def sent_to(url: str | None, role: str, process: str) -> Iterator[None]:
    """Export the spans of this process to the collector at `url` while the block runs; with None there are no spans.

    `url` is the collector's address without `/v1/traces`. A thread exports spans some seconds later. Spans that the
    collector does not accept in time are dropped: only the end of the process waits for it, for a second at most.
    """
    global _tracer
    if url is None:
        yield
        return
    provider = _provider(url, role, process)
    _tracer = provider.get_tracer("gapless")
    try:
        yield
    finally:
        _tracer = None
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(_LAST_SPANS_SECONDS_MAX)


def _provider(url: str, role: str, process: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

    class Exporter(OTLPSpanExporter):
        """Reports when the collector answers; `runtime.logs` finds from the library's lines that it is unavailable."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = super().export(spans)
            if result is SpanExportResult.SUCCESS:
                COLLECTOR.answered()
            return result

    # It logs a line for each span that is dropped because its queue is full.
    logging.getLogger("opentelemetry.sdk").setLevel(logging.ERROR)
    resource = Resource.create({"service.name": f"gapless-{role}", "service.instance.id": process})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Exporter(f"{url.rstrip('/')}/v1/traces")))
    return provider
