"""The contracts with those who read our topics: they may rely on what was once published."""

import io
import itertools
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader
from fastavro.schema import fullname

from domain import content
from schemas import catalog
from schemas.codec import decode, decode_field, encode, lacks_event_id
from schemas.compatibility import incompatibilities
from tests.tomorrow import LATER, LATER_WITHIN, SCHEMAS, tomorrow

#: Of each version one record, written once by the code of its time. A file here is never made again.
GOLDEN = Path(__file__).parent / "golden"

VERSIONS = [(schema, version) for schema in SCHEMAS for version in schema.versions]

#: Ids are written into every record of the topics, for ever: one a version, oldest first.
IDS = {
    "gapless.InvoiceRequest": (1, 22),
    "gapless.InvoiceIssued": (2, 25, 46),
    "gapless.InvoiceDocumentStored": (3, 31),
    "gapless.InvoiceRequestConflicted": (4, 32),
    "gapless.InvoiceRequestRejected": (5, 33),
    "gapless.DeadLetter": (6, 35),
    "gapless.CheckoutRequest": (7, 23),
    "gapless.OrderCommand": (8, 28, 45),
    "gapless.OrderPlaced": (9, 27, 36),
    "gapless.OrderRefused": (10, 37),
    "gapless.OrderConflicted": (11, 38),
    "gapless.OrderRejected": (12, 39),
    "gapless.OrderStateChanged": (13, 40),
    "gapless.OrderCommandAnswered": (14, 21, 41),
    "gapless.PaymentRequested": (15, 42),
    "gapless.PaymentAttemptFinished": (16, 43),
    "gapless.StockChanged": (17, 44),
    "gapless.PaymentNotice": (18, 48),
    "gapless.CreditNoteRequest": (19, 24),
    "gapless.CreditNoteIssued": (20, 26, 34),
    "gapless.CreditRequest": (29,),
    "gapless.ProductChanged": (30,),
    "gapless.ReviewChanged": (47,),
    "gapless.SynonymsChanged": (49,),
}

#: What the relay alone writes to, but for products: their rows hold the very bytes of their events.
RELAYED = [each for each in catalog.OUTPUT_TOPICS if each not in (*catalog.INPUT_TOPICS, catalog.CATALOGUE_EVENTS)]

by_record = pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.record)
by_version = pytest.mark.parametrize(
    ("schema", "version"), VERSIONS, ids=[f"{schema.record}-v{version.number}" for schema, version in VERSIONS]
)


def test_schema_ids_are_those_that_were_published() -> None:
    assert {schema.name: schema.ids for schema in SCHEMAS} == IDS
    assert sorted(catalog.VERSIONS) == sorted(itertools.chain.from_iterable(IDS.values()))


@by_record
def test_every_version_of_a_schema_has_an_id(schema: catalog.Schema[Any]) -> None:
    there = {each.name for each in files("schemas").joinpath("avro", schema.record).iterdir()}
    assert there == {f"v{version.number}.avsc" for version in schema.versions}
    assert {version.name for version in schema.versions} == {schema.name}


@by_record
def test_each_version_of_a_schema_reads_what_any_other_wrote(schema: catalog.Schema[Any]) -> None:
    """Consumers and agents are updated one by one, before or after the writers."""
    for reader, writer in itertools.permutations(schema.versions, 2):
        assert not incompatibilities(reader.text, writer.text), f"v{writer.number} read as v{reader.number}"


@by_version
def test_the_bytes_of_every_version_are_read_for_ever(
    schema: catalog.Schema[Any], version: catalog.SchemaVersion
) -> None:
    """They stay in topics, in the journal and in the rows of orders and refunds."""
    payload = (GOLDEN / schema.record / f"v{version.number}.bin").read_bytes()
    written = json.loads(
        (GOLDEN / schema.record / f"v{version.number}.json").read_text(encoding="utf-8"), object_hook=_bytes
    )
    found, value = decode(payload, schema, bytes_max=len(payload))
    assert found is schema
    assert _as_far_as(_shape(json.loads(version.text)), value) == written
    assert set(value) == {field["name"] for field in schema.newest.parsed["fields"]}


@by_version
def test_a_record_of_today_is_read_by_every_version_before(
    schema: catalog.Schema[Any], version: catalog.SchemaVersion
) -> None:
    """A consumer that was not updated sees the fields that it knows, as they are."""
    golden = (GOLDEN / schema.record / f"v{schema.newest.number}.bin").read_bytes()
    _, value = decode(golden, schema, bytes_max=len(golden))
    body = io.BytesIO(encode(schema, value)[5:])
    # The overload for a resolved reader is not in its types.
    seen: Any = schemaless_reader(body, schema.newest.parsed, version.parsed)
    assert seen == _as_far_as(_shape(json.loads(version.text)), value)


@by_version
def test_a_field_by_itself_is_what_it_is_in_its_record(
    schema: catalog.Schema[Any], version: catalog.SchemaVersion
) -> None:
    """Whatever stands around it is skipped as it was written."""
    payload = (GOLDEN / schema.record / f"v{version.number}.bin").read_bytes()
    _, value = decode(payload, schema, bytes_max=len(payload))
    assert {name: decode_field(payload, schema, name, bytes_max=len(payload)) for name in value} == value


@by_version
def test_a_release_to_come_reads_the_bytes_of_every_version_before(
    schema: catalog.Schema[Any], version: catalog.SchemaVersion
) -> None:
    """With each field that it adds as it was not said; and it writes what each version before reads."""
    payload = (GOLDEN / schema.record / f"v{version.number}.bin").read_bytes()
    _, today = decode(payload, schema, bytes_max=len(payload))
    with tomorrow():
        found, value = decode(payload, schema, bytes_max=len(payload))
        assert found is schema
        assert value[LATER] is None
        assert _without_later(value) == today
        said = encode(schema, {**value, LATER: "said"})
        assert int.from_bytes(said[1:5]) == schema.newest.schema_id > 1_000
        assert decode(said, schema, bytes_max=len(said))[1] == {**value, LATER: "said"}
        seen: Any = schemaless_reader(io.BytesIO(said[5:]), schema.newest.parsed, version.parsed)
        assert seen == _as_far_as(_shape(json.loads(version.text)), today)
        for reader, writer in itertools.permutations(schema.versions, 2):
            assert not incompatibilities(reader.text, writer.text)
    assert decode(payload, schema, bytes_max=len(payload))[1] == today


def test_a_command_answered_before_answers_named_their_record_says_so() -> None:
    payload = (GOLDEN / "order_command_answered" / "v1.bin").read_bytes()
    _, value = decode(payload, catalog.ORDER_COMMAND_ANSWERED, bytes_max=len(payload))
    assert (value["source_partition"], value["source_offset"]) == (-1, -1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda fields: fields.append({"name": "new", "type": "string"}), "new has no default"),
        (lambda fields: fields[1].update(type="long"), "type"),
        (lambda fields: fields[1].update(name="renamed"), "renamed has no default"),
    ],
)
def test_an_incompatible_change_would_be_noticed(change: Any, why: str) -> None:
    old = json.loads(catalog.INVOICE_REQUEST.newest.text)
    new = json.loads(catalog.INVOICE_REQUEST.newest.text)
    change(new["fields"])
    assert any(why in problem for problem in incompatibilities(json.dumps(new), json.dumps(old)))


@by_version
def test_every_field_is_documented_and_no_schema_recurs(
    schema: catalog.Schema[Any], version: catalog.SchemaVersion
) -> None:
    document = json.loads(version.text)
    parse_schema(document)
    _walk(document, ())


def test_no_two_topics_share_a_name_and_every_topic_has_a_size() -> None:
    assert all(topic.value_bytes_max > 0 for topic in catalog.TOPICS.values())
    assert set(catalog.OUTPUT_TOPICS) <= set(catalog.TOPICS.values())


@pytest.mark.parametrize("topic", RELAYED, ids=lambda topic: topic.name)
def test_every_event_ends_with_its_id(topic: catalog.Topic) -> None:
    """The journal writes it where it is null: at the very end, with a length of one byte."""
    assert len(f"{topic.name}-{2**31 - 1}-{2**63 - 1}") < 64
    for schema in topic.schemas:
        assert schema.newest.ends_with_event_id, schema.name
        golden = (GOLDEN / schema.record / f"v{schema.newest.number}.bin").read_bytes()
        value = dict(decode(golden, schema, bytes_max=len(golden))[1])
        assert value.pop(catalog.EVENT_ID) == f"{topic.name}-2-1042"
        without = encode(schema, value)
        assert (lacks_event_id(without), lacks_event_id(golden)) == (True, False)
        text = f"{topic.name}-2-1042".encode()
        assert without[:-1] + b"\x02" + bytes([2 * len(text)]) + text == golden


def test_what_is_no_event_lacks_no_id() -> None:
    former = (GOLDEN / "order_placed" / "v2.bin").read_bytes()
    for payload in (b"", b"\0", b"\0\0\0\0\0", b"\0\0\0\xff\xff\0", former, former[:-1] + b"\0"):
        assert not lacks_event_id(payload), payload


def test_a_dead_letter_has_room_for_the_largest_record() -> None:
    room = catalog.DEAD_LETTERS.value_bytes_max - 64 * 1024
    assert all(topic.value_bytes_max < room for topic in catalog.TOPICS.values() if topic != catalog.DEAD_LETTERS)


REQUESTS = (catalog.INVOICE_REQUEST, catalog.CREDIT_NOTE_REQUEST, catalog.CHECKOUT_REQUEST)


def test_the_first_version_of_a_content_is_the_first_version_of_the_requests() -> None:
    """Else a field that was there from the first would be hashed by its name, and old digests be others."""
    first: dict[str, Any] = {}
    for schema in REQUESTS[:2]:
        _merge(first, _shape(json.loads(schema.versions[0].text)))
    assert first == content.FIRST


@pytest.mark.parametrize("schema", REQUESTS, ids=lambda schema: schema.record)
def test_a_field_that_a_request_gains_says_nothing_by_default(schema: catalog.Schema[Any]) -> None:
    """Then a request from before has the digest that it always had."""
    assert list(_loud(schema)) == []
    with tomorrow():
        assert list(_loud(schema)) == []


def test_a_default_that_says_something_would_be_noticed() -> None:
    schema = catalog.INVOICE_REQUEST
    with tomorrow(), pytest.MonkeyPatch.context() as patch:
        said_nothing = f'"name": "{LATER_WITHIN}", "type": "string", "default": ""'
        assert said_nothing in schema.newest.text
        text = schema.newest.text.replace(said_nothing, said_nothing.replace('""', '"by post"'))
        patch.setitem(schema.newest.__dict__, "text", text)
        assert list(_loud(schema)) == [LATER_WITHIN]


@pytest.mark.parametrize(
    ("asked", "told", "unsaid"),
    [
        (catalog.INVOICE_REQUEST, catalog.INVOICE_ISSUED, {"received_at"}),
        (catalog.CREDIT_NOTE_REQUEST, catalog.CREDIT_NOTE_ISSUED, {"received_at"}),
        (catalog.CHECKOUT_REQUEST, catalog.INVOICE_REQUEST, {"customer", "payment_token"}),
    ],
    ids=["invoice", "credit note", "checkout"],
)
def test_what_is_asked_for_is_told_in_the_same_words(
    asked: catalog.Schema[Any], told: catalog.Schema[Any], unsaid: set[str]
) -> None:
    """The audit computes the digest of a request from the event that came of it."""
    there = _shape(json.loads(told.newest.text))
    missing = [name for name in _names(_shape(json.loads(asked.newest.text))) if name not in set(_names(there))]
    assert set(missing) == unsaid


def _as_far_as(shape: Any, value: Any) -> Any:
    """The value with the fields of the shape alone."""
    if isinstance(value, list):
        return [_as_far_as(shape, each) for each in value]
    if isinstance(value, dict):
        return {name: _as_far_as(within, value[name]) for name, within in shape.items()}
    return value


def _shape(node: Any, named: dict[str, Any] | None = None) -> Any:
    """The names of a record's fields, with those of the records within them; None for what has none."""
    named = {} if named is None else named
    if isinstance(node, list):
        return next((shape for each in node if (shape := _shape(each, named)) is not None), None)
    if isinstance(node, str):
        return named.get(node.removeprefix("gapless."))
    if node["type"] == "array":
        return _shape(node["items"], named)
    if node["type"] != "record":
        return None
    named[node["name"]] = shape = {}
    shape.update({field["name"]: _shape(field["type"], named) for field in node["fields"]})
    return shape


def _merge(into: dict[str, Any], shape: dict[str, Any]) -> None:
    for name, within in shape.items():
        if within is None:
            into[name] = None
        else:
            _merge(into.setdefault(name, {}), within)


def _names(shape: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, within in shape.items():
        yield f"{above}{name}"
        yield from _names(within or {}, f"{above}{name}.")


def _loud(schema: catalog.Schema[Any]) -> Iterator[str]:
    """Fields that are not in the first version of the content, and say something by default."""
    customers = {"customer": None, "payment_token": None}
    return _loud_fields(json.loads(schema.newest.text), {**content.FIRST, **customers})


def _loud_fields(node: Any, first: Mapping[str, Any] | None) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _loud_fields(each, first)
    elif isinstance(node, dict) and node["type"] == "array":
        yield from _loud_fields(node["items"], first)
    elif isinstance(node, dict) and node["type"] == "record":
        for field in node["fields"]:
            if first is None or field["name"] not in first:
                if field.get("default", ...) not in content.ABSENT:
                    yield field["name"]
            else:
                yield from _loud_fields(field["type"], first[field["name"]])


def _without_later(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_later(each) for each in node]
    if isinstance(node, dict):
        assert node.get(LATER) is None
        assert node.get(LATER_WITHIN, "") == ""
        return {name: _without_later(each) for name, each in node.items() if name not in (LATER, LATER_WITHIN)}
    return node


def _bytes(node: dict[str, Any]) -> Any:
    return bytes.fromhex(node["hex"]) if set(node) == {"hex"} else node


def _walk(node: Any, above: tuple[str, ...]) -> None:
    if isinstance(node, list):
        for each in node:
            _walk(each, above)
    elif isinstance(node, str):
        # fastavro crashes the interpreter on data of a schema that contains itself.
        assert node not in above
    elif node["type"] == "record":
        name = fullname(node)
        assert node.get("doc")
        for field in node["fields"]:
            assert field.get("doc"), f"{name}.{field['name']} is undocumented"
            _walk(field["type"], (*above, name))
    elif node["type"] == "array":
        _walk(node["items"], above)
