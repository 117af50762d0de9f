"""What part of time a request for analytics is about."""

import functools
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from domain.analytics import MINUTES_KEPT, POINTS_MAX, Range, Step, cut
from domain.refusals import INVALID_FIELD, Refusal
from gateway.http import problems
from gateway.http.openapi import Parameter, text
from gateway.http.problems import ProblemError

#: What is shown of each step where the request names no beginning.
_DEFAULTS = {Step.MINUTE: timedelta(hours=1), Step.HOUR: timedelta(days=1), Step.DAY: timedelta(days=30)}
_YEAR_MIN, _YEAR_MAX = 2000, 2200
_CHARS_MAX = 64

_MOMENT = {**text(_CHARS_MAX), "examples": ["2026-11-30", "2026-11-30T09:00:00Z"]}
ZONE = Parameter(
    "zone", "query", {**text(_CHARS_MAX), "examples": ["Europe/Paris"]}, "An IANA time zone; by default the seller's."
)
SINCE = Parameter("since", "query", _MOMENT, "From when on, in ISO 8601; in the zone, if it has no offset.")
UNTIL = Parameter("until", "query", _MOMENT, "Until when, exclusively; by default now.")
STEP = Parameter(
    "step",
    "query",
    {"type": "string", "enum": [each.value for each in Step], "default": Step.HOUR.value},
    f"How long each step is; at most {POINTS_MAX:,} of them. Minutes are kept for {MINUTES_KEPT.days} days.",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A range of time, cut into whole steps."""

    zone: str
    step: Step
    cut: Range


def read_asked(query: Mapping[str, str], seller_zone: str, now: datetime) -> Asked:
    """What the query asks for; raises `ProblemError` that names the parameter."""
    name = query.get("zone", seller_zone)
    if name not in _zones():
        raise _refused("zone", "must be an IANA time zone, such as Europe/Paris")
    zone = ZoneInfo(name)
    try:
        step = Step(query.get("step", Step.HOUR.value))
    except ValueError:
        raise _refused("step", f"must be {' or '.join(Step)}") from None
    until = _moment("until", query["until"], zone) if "until" in query else now
    since = _moment("since", query["since"], zone) if "since" in query else until - _DEFAULTS[step]
    if step is Step.MINUTE and since < now - MINUTES_KEPT:
        detail = f"minutes are kept for {MINUTES_KEPT.days} days: ask for hours, or for a later since"
        raise _refused("step", detail)
    found = cut(since, until, step, zone)
    if isinstance(found, Refusal):
        raise problems.refused(found)
    return Asked(name, step, found)


def _moment(field: str, value: str, zone: ZoneInfo) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        detail = "must be a time in ISO 8601, such as 2026-11-30T09:00:00Z; write + as %2B in a URL"
        raise _refused(field, detail) from None
    if not _YEAR_MIN <= at.year < _YEAR_MAX:
        raise _refused(field, f"must be from {_YEAR_MIN} to {_YEAR_MAX - 1}")
    return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(UTC)


def _refused(field: str, detail: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, field, detail))


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
