"""The log of deliveries and replays, in requests and responses: the same for webhooks and e-mail."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from aiohttp import web
from msgspec import UNSET, UnsetType

from domain.delivery import FINISHED, DeliveryState
from domain.invoice import ORDER_ID_CHARS_MAX
from domain.refusals import INVALID_FIELD, Refusal
from gateway.http import parameters, problems
from gateway.http.openapi import Parameter, text
from gateway.http.problems import ProblemError
from gateway.invoices.invoice_views import time_text
from gateway.webhooks.webhook_shapes import DeliveryDetailsView, DeliveryList, DeliveryView, ReplayRequest
from sinks.postgres.delivery_log import DeliveryDetails, DeliverySummary, LogFilter

#: Far more than an id has.
ID_CHARS_MAX = 80

DELIVERY = Parameter("delivery_id", "path", text(ID_CHARS_MAX), "The delivery's id.", required=True)
#: Of a list of deliveries.
LOG = (
    Parameter("state", "query", {"enum": [each.value for each in DeliveryState]}, "Only deliveries in this state."),
    Parameter("order_id", "query", text(ORDER_ID_CHARS_MAX), "Only deliveries about this order."),
    *parameters.PAGE,
)

_Result = TypeVar("_Result")


def asked_log(request: web.Request) -> tuple[LogFilter, str | None, int]:
    """Which deliveries a request asks for, the last id of the page before, and how many. Raises `ProblemError`."""
    query = request.query
    limit = parameters.limit_of(query)
    wanted = LogFilter(order_id=plain(query.get("order_id")), state=query.get("state"))
    if wanted.state is not None and wanted.state not in set(DeliveryState):
        raise invalid("state", f"must be one of {', '.join(DeliveryState)}")
    before = None
    if "cursor" in query:
        (before,) = parameters.read_cursor(query["cursor"], tuple[str])
        if plain(before) is None:
            raise parameters.foreign_cursor()
    return wanted, before, limit


def page_view(found: Sequence[DeliverySummary], limit: int) -> DeliveryList:
    """A page of those that were found, which may be one more than the page has."""
    following = parameters.cursor(found[limit - 1].delivery_id) if len(found) > limit else None
    return {"deliveries": [delivery_view(each) for each in found[:limit]], "next": following}


def details_view(details: DeliveryDetails) -> DeliveryDetailsView:
    """A delivery with its tries."""
    return {
        **delivery_view(details.summary),
        "payload": details.payload.decode(),
        "tries": [
            {
                "at": time_text(each.tried_at),
                "url": each.url,
                "seconds": round(each.seconds, 3),
                "status": each.status,
                "error": each.error or None,
                "answer": each.answer,
            }
            for each in details.attempts
        ],
    }


def replay_filter(asked: ReplayRequest) -> LogFilter:
    """Which deliveries a request asks to send again. Raises `ProblemError`."""
    ids = () if asked.delivery_ids is UNSET else tuple(asked.delivery_ids)
    if any(plain(each) is None for each in ids):
        raise invalid("delivery_ids", "holds something that is no id")
    order_id = None if asked.order_id is UNSET else plain(asked.order_id)
    if order_id is None and asked.order_id is not UNSET:
        raise invalid("order_id", "is no order id")
    state = None if asked.state is UNSET else asked.state
    if state not in (None, *FINISHED):
        raise invalid("state", f"must be one of {', '.join(FINISHED)}")
    since, until = _time("since", asked.since), _time("until", asked.until)
    if not ids and order_id is None and state is None and since is None:
        raise invalid("since", "say which: delivery_ids, order_id, state or since")
    return LogFilter(ids, order_id, state, since, until)


def _time(field: str, given: str | UnsetType) -> datetime | None:
    if given is UNSET:
        return None
    try:
        moment = datetime.fromisoformat(given)
        # Years that no id of ours can begin with, and times without a zone.
        if moment.utcoffset() is None or not 1970 < moment.year < 9000:
            raise ValueError
    except ValueError:
        raise invalid(field, "must be a time with its zone, such as 2026-11-29T14:03:00Z") from None
    return moment


def plain(given: str | None) -> str | None:
    """The text, if Postgres can look it up."""
    return given if given is not None and given.isprintable() and len(given) <= ID_CHARS_MAX else None


def delivery_view(each: DeliverySummary) -> DeliveryView:
    """A delivery as it is shown."""
    return {
        "id": each.delivery_id,
        "order_id": each.order_id or None,
        "sequence": each.sequence,
        "type": each.type,
        "state": each.state,
        "created_at": time_text(each.created_at),
        "finished_at": None if each.finished_at is None else time_text(each.finished_at),
        "next_try_at": None if each.next_try_at is None else time_text(each.next_try_at),
        "attempts": each.attempts,
        "status": each.status,
        "error": each.error or None,
        "bounced_at": None if each.bounced_at is None else time_text(each.bounced_at),
        "bounce": each.bounce or None,
    }


def not_refused(result: _Result | Refusal) -> _Result:
    """The result. Raises `ProblemError` for a refusal."""
    if isinstance(result, Refusal):
        raise problems.refused(result)
    return result


def invalid(field: str, detail: str) -> ProblemError:
    """What is wrong with a field."""
    return problems.refused(Refusal(INVALID_FIELD, field, detail))
