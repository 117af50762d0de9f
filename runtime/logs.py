"""Logs: one JSON object per line on standard error, through structlog and the standard library alike."""

import logging
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from time import gmtime, monotonic, strftime, time_ns

import msgspec
import structlog

from runtime.outages import COLLECTOR, KAFKA

#: A dead broker makes aiokafka log thousands of lines a minute; one in ten seconds is as informative.
REPEAT_SECONDS_MIN = 10.0
#: Distinct messages remembered; beyond this the oldest is forgotten and may be logged again.
_REMEMBERED_MAX = 200
#: Loggers that repeat messages while a server is unavailable.
NOISY_LOGGERS = (
    *("aiokafka", "faust", "mode", "librdkafka", "psycopg"),
    *("admission", "gateway", "providers", "runtime.kafka", "runtime.publisher", "sinks"),
)
#: Messages that aiokafka repeats, dozens a second, while brokers can't be reached; they are logged as one outage.
_UNREACHABLE = re.compile(
    "Unable (connect|to request metadata|to update metadata)|Failed fetch|Cannot send|Could not send|Error sending"
    "|Got error produce response: "
    "|Heartbeat (send request failed|session expired)|oordinator (Request failed|dead)|is either not started"
)
#: Messages of librdkafka about one broker: its client continues with the others, or retries. If no broker is left, the
#: `error_cb` or the caller is informed.
_OF_ONE_BROKER = frozenset(("FAIL", "ERROR", "REQTMOUT", "GETPID"))
#: Loggers whose INFO lines, dozens at each start, are only useful for debugging those libraries.
CHATTY_LOGGERS = ("aiokafka", "faust", "mode")
_encode = msgspec.json.Encoder().encode


class RepeatFilter(logging.Filter):
    """Passes a repeated message once in `REPEAT_SECONDS_MIN`; its `repeats` counts those suppressed since the last.

    Two messages are equal if their severity and their text before arguments are equal: ports and counters in the
    arguments would make every repeat look new.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record."""
        what = (record.name, record.levelno, str(record.msg)[:200])
        now = monotonic()
        last, held_back = self._said.get(what, (-REPEAT_SECONDS_MIN, 0))
        if now - last < REPEAT_SECONDS_MIN:
            self._said[what] = (last, held_back + 1)
            return False
        self._said.pop(what, None)  # Reinsert at the end, so that the dictionary is ordered by the time of logging.
        self._said[what] = (now, 0)
        while len(self._said) > _REMEMBERED_MAX:
            del self._said[next(iter(self._said))]
        if held_back:
            record.repeats = held_back
        return True


def configure(level: str = "INFO", process: Mapping[str, str] | None = None) -> None:
    """Send all logs to standard error as JSON lines; the fields of `process` are in each line."""
    constant = dict(process or {})
    LineWriter.process = constant

    def add_process(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**constant, **event}

    def add_repeats(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        repeats = getattr(event.get("_record"), "repeats", None)
        return event if repeats is None else {**event, "repeats": repeats}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_process,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), add_repeats],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # As text: the structured form contains local variables, and so keys and customers' data.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    # On the handler and not on the loggers: a logger's filter doesn't see what its children log.
    handler.addFilter(_tell_as_outage)
    handler.addFilter(_NoisyOnly(RepeatFilter()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "DEBUG" else max(logging.WARNING, root.level))
    # It logs errors of closing a connection that was reported as lost before, by an exception that we handle.
    logging.getLogger("psycopg").setLevel(max(logging.ERROR, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class LineWriter:
    """Writes lines of the same shape as `logging` does, at a tenth of the cost: for one line per request."""

    #: Fields of every line; set by `configure`.
    process: Mapping[str, str] = {}

    def __init__(self, logger: str, event: str) -> None:
        self._constant = {"event": event, "logger": logger}
        #: By severity, the line up to the fraction of the second; valid within `_second`.
        self._beginnings: dict[int, str] = {}
        self._second = -1

    def __call__(self, level: int, fields: Mapping[str, object]) -> None:
        """Write one line; `fields` must not be empty. The caller checks whether the level is enabled."""
        self.write_all(level, (fields,))

    def write_all(self, level: int, lines: Iterable[Mapping[str, object]]) -> None:
        """Write one line per mapping, with the same time and in one write: for thousands of orders at once."""
        second, ns = divmod(time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._beginnings.clear()
        beginning = self._beginnings.get(level)
        if beginning is None:
            beginning = self._beginnings[level] = self._beginning(level)
        timed = f'{beginning}.{ns // 1000:06d}Z",'
        sys.stderr.write("".join([f"{timed}{_encode(fields).decode()[1:]}\n" for fields in lines]))

    def _beginning(self, level: int) -> str:
        name = logging.getLevelName(level).lower()
        constant = msgspec.json.encode({**self.process, **self._constant, "level": name}).decode()
        return f'{constant[:-1]},"timestamp":"{strftime("%Y-%m-%dT%H:%M:%S", gmtime(self._second))}'


def tell_decisions(
    logger: logging.Logger, event: str, decisions: Collection[Mapping[str, object]], level: int = logging.INFO
) -> None:
    """Log one line per decision with its fields, such as the order, its seller and the outcome.

    No field may identify a buyer or contain payment data.
    """
    if decisions and logger.isEnabledFor(level):
        LineWriter(logger.name, event).write_all(level, decisions)


def _tell_as_outage(record: logging.LogRecord) -> bool:
    """Whether to write the record; False if it only repeats that Kafka or the collector is unavailable."""
    if record.name == "librdkafka":
        facility = record.args[0] if isinstance(record.args, tuple) and record.args else None
        return facility not in _OF_ONE_BROKER or logging.getLogger().isEnabledFor(logging.DEBUG)
    if record.name.startswith("opentelemetry.exporter"):
        COLLECTOR.failed(record.getMessage())
        return False
    if record.levelno < logging.WARNING or not record.name.startswith("aiokafka"):
        return True
    text = record.getMessage()
    if not _UNREACHABLE.search(text):
        return True
    KAFKA.failed(text)
    return False


class _NoisyOnly(logging.Filter):
    """Applies a filter only to the records of `NOISY_LOGGERS` and their children."""

    def __init__(self, repeats: RepeatFilter) -> None:
        super().__init__()
        self._repeats = repeats

    def filter(self, record: logging.LogRecord) -> bool:
        name = record.name
        noisy = any(name == each or name.startswith(each + ".") for each in NOISY_LOGGERS)
        return self._repeats.filter(record) if noisy else True
