"""The audit against the payment provider's own ledger."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import psycopg
import pytest

from audit.report import AuditError
from tests.integration.test_audit import found, world
from tests.integration.test_audit_orders import clean
from tests.integration.world import World

pytestmark = pytest.mark.usefixtures("orders_anywhere")

__all__ = ["clean", "world"]


class Ledger(BaseHTTPRequestHandler):
    """A provider that knows what it is told."""

    payments: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        body = json.dumps({"payments": self.payments}).encode()
        self.send_response(200 if self.path == "/ledger" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


#: A refund as the local provider lists it.
DASHBOARD = {"id": "re_9", "amount_minor": 500, "key": ""}


@pytest.fixture
def provider(world: World) -> Iterator[str]:
    """One that has done exactly what the shop's attempts say."""
    with psycopg.connect(world.postgres_url) as connection:
        rows = connection.execute(
            "SELECT a.order_id, a.provider_key, a.amount_minor, a.state, coalesce(sum(b.amount_minor) FILTER (WHERE"
            " b.action = 'capture'), 0)::bigint, coalesce(sum(b.amount_minor) FILTER (WHERE b.action = 'refund'),"
            " 0)::bigint, count(*) FILTER (WHERE b.action = 'void') FROM payment_attempts a JOIN payment_attempts b"
            " USING (order_id) WHERE a.action = 'authorize' GROUP BY 1, 2, 3, 4"
        ).fetchall()
    Ledger.payments[:] = [
        {
            "key": key, "seller_id": "demo", "order_id": order_id, "amount_minor": amount, "currency": "EUR",
            "status": "declined" if state == "declined" else "voided" if voids else "authorized",
            "acted": int(state != "declined"), "captured_minor": captured, "refunded_minor": refunded,
        }
        for order_id, key, amount, state, captured, refunded, voids in rows
    ]  # fmt: skip
    with ThreadingHTTPServer(("127.0.0.1", 0), Ledger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def payment(order_id: str) -> dict[str, Any]:
    """The provider's, to be changed."""
    return next(each for each in Ledger.payments if each["order_id"] == order_id)


def test_a_provider_that_agrees_is_clean(world: World, provider: str) -> None:
    report = world.audit(complete=True, provider_url=provider)
    assert found(report) == ""
    assert report.counts["provider's payments"] == 7


_AT_THE_PROVIDER: dict[str, tuple[Callable[[], object], str]] = {
    "charged twice under a key": (
        lambda: payment("confirmed").update(acted=2),
        "order demo/confirmed: was charged 2 times under one key",
    ),
    "charged under another key": (
        lambda: Ledger.payments.append(payment("confirmed") | {"key": "k2"}),
        "order demo/confirmed: was charged under 2 keys",
    ),
    "charged though declined": (
        lambda: payment("declined").update(status="authorized", acted=1),
        "order demo/declined: is charged, but its authorisation has declined",
    ),
    "never charged": (
        lambda: Ledger.payments.remove(payment("confirmed")),
        "order demo/confirmed: is authorised, but the provider has no payment",
    ),
    "another amount": (
        lambda: payment("confirmed").update(amount_minor=1),
        "order demo/confirmed: is authorised for 6000 EUR, at the provider for 1 EUR",
    ),
    "not captured": (
        lambda: payment("delivered").update(captured_minor=0),
        "order demo/delivered: 3600 are captured, at the provider 0",
    ),
    "refunded twice": (
        lambda: payment("delivered").update(refunded_minor=2400),
        "order demo/delivered: 1200 are refunded, at the provider 2400",
    ),
    "refunded in the dashboard": (
        lambda: payment("delivered").update(refunded_minor=1700, refunds=[DASHBOARD]),
        "order demo/delivered: the refund re_9 of 500 was made at the provider, and is unknown here: run `gapless"
        " refunds find`",
    ),
    "not voided": (
        lambda: payment("given-up").update(status="authorized"),
        "order demo/given-up: is voided, but the provider has it as authorized",
    ),
    "voided": (
        lambda: payment("confirmed").update(status="voided"),
        "order demo/confirmed: is not voided, but the provider has it as voided",
    ),
}


@pytest.mark.parametrize("what", _AT_THE_PROVIDER)
def test_a_provider_that_disagrees_is_reported(world: World, provider: str, what: str) -> None:
    change, expected = _AT_THE_PROVIDER[what]
    change()
    assert f"provider {expected}" in found(world.audit(provider_url=provider))


def test_what_is_under_way_may_have_happened_at_the_provider_or_not(world: World, provider: str) -> None:
    world.execute("UPDATE payment_attempts SET state = 'open' WHERE action = 'void' AND order_id = 'given-up'")
    for status in ("voided", "authorized"):
        payment("given-up").update(status=status)
        assert "provider" not in found(world.audit(provider_url=provider))


def test_a_refund_in_the_dashboard_is_no_difference_where_it_is_known(world: World, provider: str) -> None:
    """About to be compared, it is waited for; what can't be credited is reported with the reason, once."""
    payment("delivered").update(refunded_minor=1700, refunds=[DASHBOARD])
    world.execute("INSERT INTO refund_checks (seller_id, order_id, next_try_at) VALUES ('demo', 'delivered', now())")
    assert found(world.audit(provider_url=provider)) == ""
    world.execute("DELETE FROM refund_checks")
    world.execute(
        "INSERT INTO uncredited_refunds"
        " VALUES ('demo', 'delivered', 're_9', 'local', 500, 'EUR', 'nothing is left', now())"
    )
    assert found(world.audit(provider_url=provider)) == (
        "payment order demo/delivered: the refund re_9 of 500 EUR, made at the provider, is not credited: "
        "nothing is left"
    )


def test_a_provider_that_cannot_be_read_is_an_error(world: World) -> None:
    with pytest.raises(AuditError, match=r"the provider's ledger at http://127\.0\.0\.1:1 can't be read"):
        world.audit(provider_url="http://127.0.0.1:1")
