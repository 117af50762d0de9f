"""The audit of credits of invoices that were asked for directly: each outcome, and what is amiss."""

import psycopg
import pytest

from tests.conftest import Services
from tests.integration.test_audit import clone, world
from tests.integration.test_invoice_credits import asked
from tests.integration.test_invoices_work import sent
from tests.integration.world import World, build

__all__ = ["world"]

pytestmark = pytest.mark.usefixtures("orders_anywhere")


@pytest.fixture(scope="module")
def clean(services: Services, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once; tests change clones of it."""
    records = [
        sent(0, "A"),
        asked(1, "CR-1", {0: "0.5"}),
        asked(2, "CR-1", {0: "0.50"}),  # A repeat.
        asked(3, "CR-1", amount="1"),  # Other content: a conflict.
        asked(4, "CR-2", {0: "2"}),  # More than is left.
        asked(5, "CR-3", {0: "-1"}),  # Breaks a rule by itself.
        asked(6, "CR-4", order_id="B"),  # No invoice.
        asked(7, "R\0"),  # Can't be stored.
        asked(8, "CR-5", amount="10"),
        asked(9, "CR-6"),
        asked(10, "CR-7"),  # Nothing is left.
    ]
    url = clone(services.postgres_url, template_database)
    requests = [[(each.key, each.value) for each in records]]
    return build(services.kafka_bootstrap, url, tmp_path_factory.mktemp("objects"), requests)


def test_credits_of_every_outcome_have_nothing_wrong(world: World) -> None:
    report = world.audit(complete=True)
    assert [f"{each.check} {each.where}: {each.what}" for each in report.shown()] == []
    assert report.outcomes == {"issued": 4, "repeat": 1, "conflict": 1, "rejected": 4, "dead letter": 1}
    assert (report.counts["invoices"], report.counts["credit notes"], report.counts["documents"]) == (1, 3, 4)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM invoice_credits WHERE credit_note_id = 'CR-1'", "has a credit note CR-1, but no such refund"),
        (
            "DELETE FROM documents WHERE series_id LIKE '%credit%' AND number = 3;"
            "DELETE FROM invoices WHERE refund_id = 'CR-6'",
            "was credited by CR-6, without a credit note",
        ),
        (
            "UPDATE invoice_credits SET asked_sha256 = sha256('x') WHERE credit_note_id = 'CR-5'",
            "was made from other content",
        ),
        ("UPDATE invoices SET gross_minor = gross_minor + 1 WHERE refund_id = 'CR-5'", "has credit notes of"),
        (
            "UPDATE refused_requests SET reason = 'tax-rule' WHERE refund_id = 'CR-2'",
            "was rejected for tax-rule, but breaks no rule",
        ),
        ("DELETE FROM refused_requests WHERE refund_id = 'CR-7'", "its refund has no credit note"),
    ],
)
def test_what_is_amiss_is_found(world: World, damage: str, said: str) -> None:
    with psycopg.connect(world.postgres_url, autocommit=True) as connection:
        connection.execute(damage.encode())
    report = world.audit(complete=True)
    assert said in "\n".join(f"{each.check} {each.where}: {each.what}" for each in report.shown())
