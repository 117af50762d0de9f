"""Where a key's records go."""

import pytest

from schemas.catalog import INPUT_TOPICS, INVOICE_REQUEST
from schemas.codec import DecodeError, order_id_of
from schemas.placement import misplaced, partition_of
from tests.records import written
from tests.unit.domain.test_invoice import request


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_a_key_goes_where_java_clients_put_it(key: bytes, murmur2: int) -> None:
    """The values are those of Kafka's own test of `Utils.murmur2`."""
    assert partition_of(key, 1 << 31) == murmur2 & 0x7FFFFFFF
    assert partition_of(key, 4) == (murmur2 & 0x7FFFFFFF) % 4


def test_every_version_of_every_input_record_shows_its_order_id_to_who_reads_no_further() -> None:
    versions = [version for topic in INPUT_TOPICS for schema in topic.schemas for version in schema.versions]
    assert all(version.before_order_id is not None for version in versions)


@pytest.mark.parametrize("order_id", ["", "A", "x" * 63, "x" * 64, "x" * 9_000, "Zoë 7", "😀"])
def test_the_order_id_is_read_without_the_rest_of_the_record(order_id: str) -> None:
    for received_at in (0, 1, -1, 2**62, -(2**63)):
        body = request(order_id=order_id, received_at=received_at)
        payload = written(INVOICE_REQUEST, body)
        assert order_id_of(payload) == order_id.encode()
        for end in range(len(payload)):
            try:
                assert order_id_of(payload[:end]) == order_id.encode()
            except DecodeError:
                continue


def test_a_record_belongs_where_its_order_id_as_its_key_puts_it() -> None:
    value = written(INVOICE_REQUEST, request(order_id="A-1"))
    at = partition_of(b"A-1", 4)
    assert misplaced(4, at, b"A-1", value) is None
    for partition in {0, 1, 2, 3} - {at}:
        reason = misplaced(4, partition, b"A-1", value)
        assert reason is not None
        assert reason.startswith("wrong-partition: ")
    for key in (b"A-2", b"", None):
        reason = misplaced(4, at, key, value)
        assert reason is not None
        assert reason.startswith("wrong-key: ")


def test_what_names_no_order_is_judged_by_its_key_alone() -> None:
    """That it can't be decoded is for its reader to say."""
    at = partition_of(b"k", 4)
    for value in (None, b"", b"\0", b"\0\0\0\0\x01", written(INVOICE_REQUEST, request())[:9]):
        assert misplaced(4, at, b"k", value) is None
        assert misplaced(4, (at + 1) % 4, b"k", value) is not None
