"""Which dead letters can be redriven, and what is sent."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from schemas import catalog
from schemas.placement import misplaced, partition_of
from sinks.postgres.dead_letters import CarriedBytes, DeadLetterFilter, DeadLetterId, DeadLetterRow
from sinks.redrive import Resend, Unredrivable, plan_request
from tests.records import written
from tests.unit.domain.test_invoice import request

PARTITIONS = 4
LETTER = DeadLetterRow(
    partition=0,
    seq=17,
    occurred_at=datetime(2026, 11, 29, tzinfo=UTC),
    agent="invoices",
    source_topic=catalog.INVOICE_REQUESTS.name,
    source_partition=0,
    source_offset=5,
    order_id="A-1",
    reason="wrong-partition",
    error="wrong-partition: …",
    state="open",
    closed_by=None,
    closed_at=None,
    closed_why=None,
    redriven_partition=None,
    redriven_offset=None,
)


@pytest.mark.parametrize("order_id", ["A-1", "Ä-2", "x" * 64, "3"])
def test_a_record_is_sent_where_it_belongs_whatever_was_wrong_with_its_place(order_id: str) -> None:
    """It is sent under its order id, in that key's partition, with unchanged bytes."""
    value = written(catalog.INVOICE_REQUEST, request(order_id=order_id))
    plan = plan_request(LETTER, CarriedBytes(b"x", value, None), PARTITIONS)
    assert isinstance(plan, Resend)
    assert misplaced(PARTITIONS, plan.partition, plan.key, plan.value) is None
    assert plan == Resend(
        LETTER.source_topic,
        partition_of(order_id.encode(), PARTITIONS),
        order_id.encode(),
        value,
        (("dead-letter", b"0-17"),),
    )


def test_a_record_that_is_sent_again_stays_in_its_trace() -> None:
    value, traceparent = written(catalog.INVOICE_REQUEST, request()), f"00-{'a' * 32}-{'b' * 16}-01"
    plan = plan_request(LETTER, CarriedBytes(b"x", value, traceparent), PARTITIONS)
    assert isinstance(plan, Resend)
    assert dict(plan.headers)["traceparent"] == traceparent.encode()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "a tombstone"),
        (b"hello", "magic byte 104"),
        (written(catalog.INVOICE_REQUEST, request())[:-1], "not a gapless.InvoiceRequest"),
        (written(catalog.INVOICE_REQUEST, request(order_id="")), "order_id can't be stored: it must have 1 to 64"),
        (written(catalog.INVOICE_REQUEST, request(seller_id="No One")), "seller_id can't be stored"),
    ],
)
def test_a_record_that_would_stop_again_stays_a_dead_letter(value: bytes | None, why: str) -> None:
    plan = plan_request(LETTER, CarriedBytes(b"x", value, None), PARTITIONS)
    assert isinstance(plan, Unredrivable)
    assert why in plan.why


def test_a_record_of_another_topic_s_schema_stays_a_dead_letter() -> None:
    value = written(catalog.INVOICE_REQUEST, request())
    plan = plan_request(
        replace(LETTER, source_topic=catalog.CHECKOUT_REQUESTS.name), CarriedBytes(b"x", value, None), PARTITIONS
    )
    assert plan == Unredrivable("this release can't decode it: schema gapless.InvoiceRequest does not belong here")


@pytest.mark.parametrize("text", ["", "3", "-", "3-", "-3", "a-1", "1-2-3", "1--2", "٣-1", "1-" + "9" * 19])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no dead letter's id"):
        DeadLetterId.parse(text)


def test_an_id_is_written_as_it_is_read() -> None:
    assert str(DeadLetterId.parse("3-17")) == "3-17"
    assert DeadLetterId.parse("3-17") == (3, 17)


def test_a_filter_that_names_only_a_state_is_empty() -> None:
    assert DeadLetterFilter().is_empty
    assert DeadLetterFilter(state="open").is_empty
    assert not DeadLetterFilter(topic="invoice-requests").is_empty
    assert not DeadLetterFilter(ids=(DeadLetterId(3, 17),)).is_empty
