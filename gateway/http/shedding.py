"""Load shedding: requests that arrive faster than they become durable are refused at once.

Without shedding, latency grows until clients have given up before we answer. A refusal must be cheap: if two of three
requests are refused, the one that is served pays for both refusals.

A bounded capacity is divided among sellers, so that none can use up what the others need. A seller may hold four times
what is left free after it. One seller alone can hold four fifths of the whole. However many sellers hold all they can
get, some is left for a new one. Requests without a known key count as one seller.
"""

import math
import re
from collections.abc import Callable
from time import monotonic
from typing import cast

from gateway.http import problems, telemetry
from gateway.http.problems import ProblemError, ProblemKind

#: A request that took longer than this to become durable shows an overload.
LATE_SECONDS = 2.0
#: So many are served however late they are: on a slow machine a rush of 500 to one seller, who may hold four fifths.
SERVED_ALWAYS = 625

#: A seller may hold this many times what stays free.
_OF_FREE = 4

#: Requests that open new work. All others serve orders that are durable already.
ORDER_PATHS = ("/v1/checkouts", "/v1/invoices")
#: A head so plain that every parser reads it the same way.
_HEAD = re.compile(
    rb"POST (" + "|".join(map(re.escape, ORDER_PATHS)).encode() + rb") HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)++\r\n"
)
_AUTHORIZATION = re.compile(rb"\r\nauthorization:[ \t]*([^\r]*)", re.IGNORECASE)
_LENGTHS = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"[ \t]*[0-9]{1,7}[ \t]*")
#: Headers that change how a message or its connection is handled.
_UNUSUAL = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade|(?:proxy-)?connection:[^\r]*(?:close|upgrade))", re.IGNORECASE
)


class Shares:
    """How much each seller holds of one capacity; None stands for requests without a known key."""

    def __init__(self) -> None:
        self.total = 0
        self._held: dict[str | None, int] = {}

    def overflow(self, more: int, most: float) -> ProblemError | None:
        """The problem if `more` exceeds what is free of `most`; None if it fits."""
        if self.total + more <= most:
            return None
        return ProblemError(problems.OVERLOADED, "too many requests are under way", retry_after_seconds=1)

    def refusal(self, seller_id: str | None, more: int, most: float) -> ProblemError | None:
        """The problem if `more` exceeds the seller's share of `most`; None if it fits.

        A seller that holds nothing is refused only if the whole is used up.
        """
        held = self._held.get(seller_id, 0)
        if held and held + more > _OF_FREE * (most - self.total - more) and self.total + more <= most:
            return ProblemError(
                problems.SELLER_OVERLOADED, "this seller's requests under way use up its share", retry_after_seconds=1
            )
        return self.overflow(more, most)

    def take(self, seller_id: str | None, more: int) -> None:
        """Add `more` to what the seller holds, without a check."""
        self.total += more
        self._held[seller_id] = self._held.get(seller_id, 0) + more

    def give(self, seller_id: str | None, less: int) -> None:
        """Subtract `less` from what the seller holds."""
        self.total -= less
        left = self._held.get(seller_id, 0) - less
        if left:
            self._held[seller_id] = left
        else:
            self._held.pop(seller_id, None)


class Backlog:
    """Requests received and not yet durable, and how many there may be.

    Unlimited while no request is late, or as long as none had to be refused. Otherwise as many as become durable in
    `LATE_SECONDS` (Little's law), but `SERVED_ALWAYS` at least. The rate is counted over the stay of the late request,
    which is long enough for a measurement and ends now. Each seller has a share.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._shares = Shares()
        self._count_max = math.inf
        self._kept = 0
        self._refused_at = -math.inf

    @property
    def is_crowded(self) -> bool:
        """Whether a request may have to be refused soon."""
        return self._shares.total >= SERVED_ALWAYS or self._count_max < math.inf

    def refusal(self, seller_id: str | None) -> ProblemError | None:
        """The problem of a request of the seller that arrives now; None if it is served."""
        if self._count_max == math.inf:
            return None
        return self._shares.refusal(seller_id, 1, self._count_max)

    def refused(self) -> None:
        """Note that a request was refused."""
        self._refused_at = self._clock()


class Stay:
    """The time that one connection's request is in the backlog."""

    __slots__ = ("_backlog", "_began_at", "_kept_before", "_seller_id")

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._began_at: float | None = None
        self._kept_before = 0
        self._seller_id: str | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the request is in the backlog now."""
        return self._began_at is not None

    def join(self, seller_id: str | None) -> None:
        """Assign the request to the seller. Raises `ProblemError` if it is refused; one that has begun is served."""
        backlog = self._backlog
        if self._began_at is not None:
            # It may have begun before its key was known.
            backlog._shares.give(self._seller_id, 1)
            backlog._shares.take(seller_id, 1)
        elif (refusal := backlog.refusal(seller_id)) is not None:
            backlog.refused()
            raise refusal
        self._seller_id = seller_id

    def begin(self) -> None:
        """Start the request's time in the backlog; no effect if it has begun."""
        if self._began_at is None:
            backlog = self._backlog
            self._began_at, self._kept_before = backlog._clock(), backlog._kept
            backlog._shares.take(self._seller_id, 1)

    def end(self, *, is_kept: bool) -> None:
        """End its time when the brokers have answered, or have not in time; no effect outside the backlog."""
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
        """End its time without an answer of the brokers, because it is answered or waits for something else."""
        if self._began_at is not None:
            self._began_at = None
            self._backlog._shares.give(self._seller_id, 1)


def whole_order(data: bytes) -> str | None:
    """The path, if the data is exactly one whole request for an order; None for anything that needs a parser."""
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


def authorization(order: bytes) -> str:
    """The Authorization header of data that `whole_order` accepts; empty without one."""
    match = _AUTHORIZATION.search(order, 0, order.index(b"\r\n\r\n"))
    return match.group(1).decode("utf-8", "surrogateescape") if match else ""


class Refusals:
    """Responses to requests refused by their head alone; counted like all others."""

    def __init__(self, server: str) -> None:
        """`server` is the value of the Server header."""
        self._server = server
        self._answers: dict[ProblemKind, bytes] = {}
        self._seconds = {
            (path, kind): telemetry.REQUEST_SECONDS.labels(f"POST {path}", str(kind.status))
            for path in ORDER_PATHS
            for kind in (problems.OVERLOADED, problems.SELLER_OVERLOADED)
        }

    def answer(self, path: str, refusal: ProblemError) -> bytes:
        """The whole response to a refused request on one of `ORDER_PATHS`; one for each kind of refusal."""
        self._seconds[path, refusal.kind].observe(0.0)
        found = self._answers.get(refusal.kind)
        if found is None:
            found = self._answers[refusal.kind] = self._made(refusal)
        return found

    def _made(self, refusal: ProblemError) -> bytes:
        answer = problems.response(refusal)
        headers = {**answer.headers, "Content-Length": str(answer.content_length), "Server": self._server}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {answer.status} {answer.reason}\r\n{head}\r\n".encode() + cast(bytes, answer.body)
