"""When a request is sent again, apart from how it is sent: the same rule for both clients."""

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from gapless_client.errors import ProblemError, UnavailableError
from gapless_client.following import Following

#: Responses that say "later".
_LATER = frozenset((429, 502, 503, 504))
#: Responses that say so only with a Retry-After: another refund of the order is under way, or an order that was just
#: accepted can't be seen yet.
_LATER_IF_TOLD = frozenset((404, 409))
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
#: A longer Retry-After is cut: the caller sets the deadline.
_RETRY_AFTER_S_MAX = 30.0
#: Between two looks at what is not decided yet.
_POLL_FIRST_S = 0.2
_POLL_MAX_S = 2.0
#: What a gateway needs beyond the wait that was asked for.
_ANSWER_S_MAX = 15.0
#: A stream that is silent for longer is lost: the gateway says every 15 seconds that it lives.
_SILENCE_S_MAX = 45.0

#: What one sending came to: a response, or the error instead of one.
Outcome = httpx.Response | httpx.TransportError
#: Yields a request to send, or seconds to pause; is sent the outcome of the request.
Steps = Generator[httpx.Request | float, Outcome | None, Any]


@dataclass(frozen=True, slots=True)
class Calls:
    """Makes the steps of calls to one gateway with one API key."""

    url: str
    api_key: str
    #: How long a call is repeated at most.
    give_up_after_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    #: Spreads the repeats of clients that failed together.
    chance: random.Random = field(default_factory=random.Random)

    def steps(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, Any] | None = None,
        wait_seconds: int | None = None,
        key: str | None = None,
        is_repeatable: bool = True,
        is_json: bool = True,
    ) -> Steps:
        """Send the request until it is answered; returns the answer's body.

        `key` names the body's field that makes a repeat harmless. What is not repeatable is sent again only if it had
        no effect. Raises `ValueError` without the key, `ProblemError` for a refusal and `UnavailableError` after the
        deadline.
        """
        if key is not None and not (body or {}).get(key):
            raise ValueError(f"{key} is missing: give one of your own, so that the request may be repeated")
        request = httpx.Request(
            method,
            self.url.rstrip("/") + path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            json=body,
            headers={
                "Authorization": f"Bearer {self.api_key}",
                **({} if wait_seconds is None else {"Prefer": f"wait={wait_seconds}"}),
            },
            extensions={"timeout": httpx.Timeout(_ANSWER_S_MAX, read=_ANSWER_S_MAX + (wait_seconds or 0)).as_dict()},
        )
        response = yield from self._until_answered(request, is_repeatable)
        if response.is_success:
            if response.status_code == httpx.codes.NO_CONTENT:
                return None
            return response.json() if is_json else response.content
        raise ProblemError(response.status_code, _problem(response))

    def stream(self, path: str, following: Following) -> Steps:
        """Ask for a stream behind what was followed, until there is one; returns the response, its body unread."""
        headers = {"Authorization": f"Bearer {self.api_key}", "Accept": "text/event-stream"}
        if following.last_id:
            headers["Last-Event-ID"] = following.last_id
        following.begin()
        request = httpx.Request(
            "GET",
            self.url.rstrip("/") + path,
            headers=headers,
            extensions={"timeout": httpx.Timeout(_ANSWER_S_MAX, read=_SILENCE_S_MAX).as_dict()},
        )
        response = yield from self._until_answered(request, is_repeatable=True)
        if response.is_success:
            return response
        raise ProblemError(response.status_code, _problem(response))

    def until(self, path: str, is_done: Callable[[Any], bool], seconds: float) -> Steps:
        """Ask until the answer is as wanted; returns it. Raises as `steps` does, and `TimeoutError`."""
        give_up_at = self.clock() + seconds
        pause_s = _POLL_FIRST_S
        while True:
            answer = yield from self.steps("GET", path)
            if is_done(answer):
                return answer
            if self.clock() + pause_s > give_up_at:
                raise TimeoutError(f"{path} is still {answer.get('state') or answer.get('status')} after {seconds:g} s")
            yield pause_s
            pause_s = min(1.5 * pause_s, _POLL_MAX_S)

    def _until_answered(
        self, request: httpx.Request, is_repeatable: bool
    ) -> Generator[httpx.Request | float, Any, httpx.Response]:
        give_up_at = self.clock() + self.give_up_after_s
        pause_s = _BACKOFF_FIRST_S
        while True:
            outcome: Outcome = yield request
            wait_s = pause_s * self.chance.uniform(0.5, 1.0)
            if isinstance(outcome, httpx.Response):
                after = outcome.headers.get("Retry-After")
                later = _LATER if after is None else _LATER | _LATER_IF_TOLD
                if outcome.status_code not in later:
                    return outcome
                wait_s += min(retry_after_seconds(after, datetime.now(UTC)), _RETRY_AFTER_S_MAX)
            if self.clock() + wait_s >= give_up_at or not (is_repeatable or _had_no_effect(outcome)):
                raise UnavailableError(f"{request.method} {request.url.path}: {_said(outcome)}")
            yield wait_s
            pause_s = min(2 * pause_s, _BACKOFF_MAX_S)


def retry_after_seconds(text: str | None, now: datetime) -> float:
    """Seconds or an HTTP date (RFC 9110, 10.2.3); 0 for what can't be read."""
    if text is None:
        return 0.0
    if text.strip().isascii() and text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds())


def _had_no_effect(outcome: Outcome) -> bool:
    if isinstance(outcome, httpx.Response):
        # Behind a proxy that says so, the gateway may have done it.
        return outcome.status_code not in (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT)
    return isinstance(outcome, httpx.ConnectError | httpx.ConnectTimeout)


def _said(outcome: Outcome) -> str:
    if isinstance(outcome, httpx.Response):
        return f"{outcome.status_code} {outcome.text[:200]}"
    return f"no answer: {outcome or type(outcome).__name__}"


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The problem; one made of the status where a proxy has answered."""
    try:
        found = response.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"title": response.reason_phrase, "detail": response.text[:200]}
