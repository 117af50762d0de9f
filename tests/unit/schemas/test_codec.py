"""Records in and out, and what is refused before it can hurt."""

import random
import struct
import tracemalloc

import pytest

from domain.records import InvoiceRequest
from schemas import catalog
from schemas.codec import DecodeError, decode, decode_field
from tests.records import said, written
from tests.unit.domain.test_invoice import line, request

MIB = 1024 * 1024


def decode_request(payload: bytes | None, bytes_max: int = 2 * MIB) -> InvoiceRequest:
    return decode(payload, catalog.INVOICE_REQUEST, bytes_max=bytes_max)[1]


def test_a_record_comes_back_as_it_was_sent() -> None:
    body = request(received_at=1_795_000_000_000_001)
    assert said(decode_request(written(catalog.INVOICE_REQUEST, body))) == said(body)


def test_the_header_is_that_of_the_confluent_wire_format() -> None:
    payload = written(catalog.INVOICE_REQUEST, request())
    assert payload[:5] == struct.pack(">bI", 0, catalog.INVOICE_REQUEST.newest.schema_id)


def test_a_large_honest_record_passes_the_measure() -> None:
    body = request(lines=[line(description="x" * 100)] * 1_000)
    assert said(decode_request(written(catalog.INVOICE_REQUEST, body))) == said(body)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (None, "tombstone"),
        (b"", "header"),
        (b"\0\0\0", "header"),
        (b"{}" * 10, "magic"),
        (b"\0" + struct.pack(">I", 999), "unknown schema id 999"),
        (b"\0" + struct.pack(">I", catalog.DEAD_LETTER.newest.schema_id), "does not belong"),
        (written(catalog.INVOICE_REQUEST, request())[:-3], "not a gapless.InvoiceRequest"),
        (written(catalog.INVOICE_REQUEST, request()) + b"x", "left over"),
    ],
)
def test_what_is_no_record_is_refused_and_says_why(payload: bytes | None, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode_request(payload)


def test_a_record_over_its_size_is_refused_undecoded() -> None:
    with pytest.raises(DecodeError, match="more than the 100 permitted"):
        decode_request(written(catalog.INVOICE_REQUEST, request()), bytes_max=100)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "header"),
        (written(catalog.INVOICE_REQUEST, request())[:-3], "not a gapless.InvoiceRequest"),
        (written(catalog.INVOICE_REQUEST, request()) + b"x", "left over"),
        (written(catalog.INVOICE_REQUEST, request()) * 10, "permitted"),
    ],
)
def test_of_a_damaged_record_no_field_is_read(payload: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode_field(payload, catalog.INVOICE_REQUEST, "seller_id", bytes_max=1_000)


def test_an_array_that_claims_too_much_costs_no_memory() -> None:
    honest = written(catalog.INVOICE_REQUEST, request())
    # At the end is the array of lines (count 1, one line and its absent details, 0), then the request's absent details.
    bomb = honest[: -len(encode_line()) - 4] + zigzag(200_000) + b"\0" * 1_300_000
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="array of 200000 items"):
            decode_request(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_random_bytes_never_raise_anything_but_a_decode_error() -> None:
    rng = random.Random(20261121)
    honest = written(catalog.INVOICE_REQUEST, request())
    for _ in range(3_000):
        payload = bytearray(honest)
        for _ in range(rng.randrange(1, 6)):
            payload[rng.randrange(5, len(payload))] = rng.randrange(256)
        try:
            decode_request(bytes(payload))
        except DecodeError:
            continue


def encode_line() -> bytes:
    return b"".join(zigzag(len(text.encode())) + text.encode() for text in map(str, line().values()))


def zigzag(value: int) -> bytes:
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
