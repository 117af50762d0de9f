"""Logs: one JSON object per line on standard error, through structlog and the standard library alike."""

import logging
import sys
from collections.abc import Mapping
from time import monotonic

import structlog

#: A dead broker makes aiokafka write thousands of lines a minute; one in ten seconds says as much.
REPEAT_SECONDS_MIN = 10.0
#: Different messages remembered per logger; beyond it the oldest is forgotten, and may be said again.
_REMEMBERED_MAX = 200
#: Loggers that repeat themselves while a server is away.
NOISY_LOGGERS = ("aiokafka", "faust", "mode", "librdkafka", "runtime.kafka", "psycopg", "sinks", "gateway")


class RepeatFilter(logging.Filter):
    """Lets the same message pass once in `REPEAT_SECONDS_MIN`, with `repeats`: how many were held back since the last.

    The same is what has the same text before its arguments are filled in, at the same severity: ports and counters in
    the arguments would make every repeat look new.
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
        self._said.pop(what, None)  # Put at the end again: the dictionary stays in the order of saying.
        self._said[what] = (now, 0)
        while len(self._said) > _REMEMBERED_MAX:
            del self._said[next(iter(self._said))]
        if held_back:
            record.repeats = held_back
        return True


def configure(level: str = "INFO", process: Mapping[str, str] | None = None) -> None:
    """Send everything that is logged to standard error as JSON lines; `process` stands in each of them."""
    constant = dict(process or {})

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
            # Text, and not the structured form: that one holds local variables, and so keys and customers' data.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    # On the handler and not on the loggers: a logger's filter doesn't see what its children log.
    handler.addFilter(_NoisyOnly(RepeatFilter()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
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


class _NoisyOnly(logging.Filter):
    """Applies a filter to the records of `NOISY_LOGGERS` and their children alone."""

    def __init__(self, repeats: RepeatFilter) -> None:
        super().__init__()
        self._repeats = repeats

    def filter(self, record: logging.LogRecord) -> bool:
        name = record.name
        noisy = any(name == each or name.startswith(each + ".") for each in NOISY_LOGGERS)
        return self._repeats.filter(record) if noisy else True
