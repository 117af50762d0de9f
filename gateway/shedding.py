"""Load shedding: where requests come faster than they are kept, those beyond are refused at once.

All that come would else be served, each later than the one before, until nobody waits for any of them. And a refusal
must cost next to nothing: where two of three are refused, whatever it costs is taken twice from the one that is served.
"""

import math
import re
from collections.abc import Callable
from time import monotonic
from typing import cast

from gateway import measures, problems
from gateway.problems import ProblemError

#: A request that took longer than this until it was kept shows that more come than can be served.
LATE_SECONDS = 2.0
#: So many are served however late they are: a rush that comes once, on a slow machine.
SERVED_ALWAYS = 500

#: What opens new work. Everything else is done for orders that are kept already.
ORDER_PATHS = ("/v1/checkouts", "/v1/invoices")
#: A head without a liberty that another reader might take for something else.
_HEAD = re.compile(
    rb"POST (" + "|".join(map(re.escape, ORDER_PATHS)).encode() + rb") HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)++\r\n"
)
_LENGTHS = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[ \t]*[0-9]{1,7}[ \t]*")
#: What says more about a message and its connection than its length does.
_UNUSUAL = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade|(?:proxy-)?connection:[^\r]*(?:close|upgrade))", re.IGNORECASE
)


class Backlog:
    """Requests received and not yet kept, and how many there may be.

    Any number, as long as nobody is late or for as long as nobody had to be refused; else as many as are kept within
    `LATE_SECONDS` (Little's law), but `SERVED_ALWAYS` at least. How many are kept is counted over the stay of whoever
    is late, which is long enough for a measurement, and ends in the moment for which it is wanted.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._count_max = math.inf
        self._kept = 0
        self._refused_at = -math.inf

    @property
    def is_crowded(self) -> bool:
        """Whether somebody may have to be refused soon."""
        return self._count >= SERVED_ALWAYS or self._count_max < math.inf

    @property
    def is_full(self) -> bool:
        """Whether whoever comes now is to be refused."""
        return self._count >= self._count_max

    def refuse(self) -> None:
        """Somebody is refused."""
        self._refused_at = self._clock()


class Stay:
    """The time that one connection's request is in the backlog."""

    __slots__ = ("_backlog", "_began_at", "_kept_before")

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._began_at: float | None = None
        self._kept_before = 0

    def join(self) -> None:
        """Raises `ProblemError` for a request that comes too late; what has begun is served."""
        if self._began_at is None and self._backlog.is_full:
            self._backlog.refuse()
            raise refused()

    def begin(self) -> None:
        """The request is here, and its time is ours from now on; nothing if it has begun."""
        if self._began_at is None:
            backlog = self._backlog
            self._began_at, self._kept_before = backlog._clock(), backlog._kept
            backlog._count += 1

    def end(self, *, is_kept: bool) -> None:
        """The brokers have answered, or have not in time; nothing if its time is not ours."""
        if self._began_at is None:
            return
        backlog = self._backlog
        now = backlog._clock()
        took = now - self._began_at
        backlog._kept += is_kept
        if took > LATE_SECONDS:
            kept_a_second = (backlog._kept - self._kept_before) / took
            backlog._count_max = max(SERVED_ALWAYS, LATE_SECONDS * kept_a_second)
        elif now - backlog._refused_at > LATE_SECONDS:
            backlog._count_max = math.inf
        self.leave()

    def leave(self) -> None:
        """It is answered without a word from the brokers, or waits for something that is not ours."""
        if self._began_at is not None:
            self._began_at = None
            self._backlog._count -= 1


def refused() -> ProblemError:
    """What those beyond are told."""
    return ProblemError(problems.OVERLOADED, "requests come faster than they are kept", retry_after_seconds=1)


def whole_order(data: bytes) -> str | None:
    """The path, if this is one whole request for an order and nothing else; None for all that needs a parser."""
    match = _HEAD.match(data)
    if match is None:
        return None
    head = match.group()
    lengths = _LENGTHS.findall(head)
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]) or _UNUSUAL.search(head):
        return None
    if int(lengths[0]) != len(data) - len(head):
        return None
    return match.group(1).decode()


class Refusals:
    """Answers to requests of which nothing but the head was looked at; counted like all others."""

    def __init__(self, server: str) -> None:
        """`server` is what its header says."""
        answer = problems.response(refused())
        headers = {**answer.headers, "Content-Length": str(answer.content_length), "Server": server}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._answer = f"HTTP/1.1 {answer.status} {answer.reason}\r\n{head}\r\n".encode() + cast(bytes, answer.body)
        self._seconds = {
            path: measures.REQUEST_SECONDS.labels(f"POST {path}", str(answer.status)) for path in ORDER_PATHS
        }

    def answer(self, path: str) -> bytes:
        """The whole answer to a request for an order, one of `ORDER_PATHS`."""
        self._seconds[path].observe(0.0)
        return self._answer
