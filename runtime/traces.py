"""Traces: `traceparent` (W3C Trace Context) from header to header, and spans in OTLP where a collector is set.

Without `GAPLESS_OTLP_URL` no span is made and OpenTelemetry is not imported; a `traceparent` that a caller sends is
passed on unchanged, so that logs and consumers have its trace id all the same.
"""

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from runtime.outages import COLLECTOR

# Both on use: a process without tracing carries none of it.
if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

#: The name of the header, in HTTP and in Kafka.
TRACEPARENT = "traceparent"
#: A process that ends waits so long for the collector to take its last spans.
_LAST_SPANS_SECONDS_MAX = 1.0
#: https://www.w3.org/TR/trace-context-2/#traceparent-header. Versions after 00 may add fields.
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_CHARS = 55

#: What a span does: answers a request, sends a record, handles one, or calls a service.
Kind = Literal["SERVER", "PRODUCER", "CONSUMER", "CLIENT"]

_tracer: "trace.Tracer | None" = None


class Span:
    """A span that has begun. It is sent to the collector only if it is ended."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: "trace.Span") -> None:
        self._span = span
        context = span.get_span_context()
        #: What follows from it carries this.
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def add(self, fields: Mapping[str, object]) -> None:
        """Add `fields` as attributes of gapless; those that are None say nothing."""
        for name, value in fields.items():
            if value is not None:
                self._span.set_attribute(f"gapless.{name}", value if isinstance(value, int) else str(value))

    def describe(self, attributes: Mapping[str, str | int]) -> None:
        """Add attributes under names of OpenTelemetry's conventions."""
        self._span.set_attributes(attributes)

    def end(self, error: str = "") -> None:
        """End it, as failed if there is an `error`."""
        if error:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


def parse(header: str | bytes | None) -> str | None:
    """The `traceparent` as it is passed on; None for one that is absent or invalid."""
    if not header:
        return None
    text = header.decode("ascii", "replace") if isinstance(header, bytes) else header
    if _FORM.fullmatch(text) is None or (text.startswith("00") and len(text) != _CHARS):
        return None
    return f"00{text[2:_CHARS]}"


def trace_id(traceparent: str) -> str:
    """Its trace id, 32 hex digits."""
    return traceparent[3:35]


def of_partition(topic: str, partition: int) -> dict[str, str | int]:
    """Attributes of a span that sends a Kafka record there."""
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
    }


def of_record(topic: str, partition: int, offset: int) -> dict[str, str | int]:
    """Attributes of a span that sends or handles the record there."""
    return {**of_partition(topic, partition), "messaging.kafka.offset": offset}


def begin(kind: Kind, name: str, parent: str | None) -> Span | None:
    """A span under `parent`, or of a new trace if the sampler wants one; None while tracing is off."""
    return None if _tracer is None else _begin(_tracer, kind, name, parent, None)


def follow(kind: Kind, name: str, parent: str | None, began_ns: int | None = None) -> Span | None:
    """A span under a `parent` that is sampled; None without such a parent, and while tracing is off.

    `began_ns` is when it began, in nanoseconds since 1970, if that is not now.
    """
    if _tracer is None or parent is None or not int(parent[-1], 16) & 1:
        return None
    return _begin(_tracer, kind, name, parent, began_ns)


@contextmanager
def following(kind: Kind, name: str, parent: str | None) -> Iterator[None]:
    """Span the block, as `follow` does; an exception ends the span as failed."""
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
    """Send the spans of this process to the collector at `url` while the block runs; None makes none.

    `url` is the collector's address without `/v1/traces`. Spans are sent from a thread, some seconds later. Those that
    the collector does not take in time are dropped: nothing waits for it but the end of the process, for a second.
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
        """Tells when the collector is back; `runtime.logs` tells from the library's lines that it is unavailable."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = super().export(spans)
            if result is SpanExportResult.SUCCESS:
                COLLECTOR.answered()
            return result

    # It says of each span that there is no room for it.
    logging.getLogger("opentelemetry.sdk").setLevel(logging.ERROR)
    resource = Resource.create({"service.name": f"gapless-{role}", "service.instance.id": process})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Exporter(f"{url.rstrip('/')}/v1/traces")))
    return provider
