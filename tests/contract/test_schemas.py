"""The contracts with those who read our topics: they may rely on what was once published."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema
from fastavro.schema import fullname

from schemas import catalog

#: Schemas as they were first published. A file here is replaced only by one that reads what the old one wrote.
BASELINE = Path(__file__).parent / "baseline"

#: Ids are written into every record of the topics, for ever.
IDS = {
    "gapless.InvoiceRequest": 1,
    "gapless.InvoiceIssued": 2,
    "gapless.InvoiceDocumentStored": 3,
    "gapless.InvoiceRequestConflicted": 4,
    "gapless.InvoiceRequestRejected": 5,
    "gapless.DeadLetter": 6,
    "gapless.CheckoutRequest": 7,
    "gapless.OrderCommand": 8,
    "gapless.OrderPlaced": 9,
    "gapless.OrderRefused": 10,
    "gapless.OrderConflicted": 11,
    "gapless.OrderRejected": 12,
    "gapless.OrderStateChanged": 13,
    "gapless.OrderCommandAnswered": 14,
    "gapless.PaymentRequested": 15,
    "gapless.PaymentAttemptFinished": 16,
    "gapless.StockChanged": 17,
    "gapless.PaymentNotice": 18,
    "gapless.CreditNoteRequest": 19,
    "gapless.CreditNoteIssued": 20,
}


def test_schema_ids_are_those_that_were_published() -> None:
    assert {schema.name: number for number, schema in catalog.SCHEMAS.items()} == IDS


@pytest.mark.parametrize("schema", catalog.SCHEMAS.values(), ids=lambda schema: schema.file)
def test_a_schema_reads_what_its_published_version_wrote(schema: catalog.Schema) -> None:
    old = json.loads((BASELINE / f"{schema.file}.avsc").read_text(encoding="utf-8"))
    assert not list(_incompatibilities(json.loads(schema.text), old, schema.file))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda fields: fields.append({"name": "new", "type": "string"}), "new has no default"),
        (lambda fields: fields[1].update(type="long"), "type"),
        (lambda fields: fields[1].update(name="renamed"), "renamed has no default"),
    ],
)
def test_an_incompatible_change_would_be_noticed(change: Any, why: str) -> None:
    old = json.loads(catalog.INVOICE_REQUEST.text)
    new = json.loads(catalog.INVOICE_REQUEST.text)
    change(new["fields"])
    assert any(why in problem for problem in _incompatibilities(new, old, "request"))


@pytest.mark.parametrize("schema", catalog.SCHEMAS.values(), ids=lambda schema: schema.file)
def test_every_field_is_documented_and_no_schema_recurs(schema: catalog.Schema) -> None:
    document = json.loads(schema.text)
    parse_schema(document)
    _walk(document, ())


def test_no_two_topics_share_a_name_and_every_topic_has_a_size() -> None:
    assert all(topic.value_bytes_max > 0 and topic.partitions > 0 for topic in catalog.TOPICS.values())
    assert set(catalog.OUTPUT_TOPICS) <= set(catalog.TOPICS.values())


def test_a_dead_letter_has_room_for_the_largest_record() -> None:
    room = catalog.DEAD_LETTERS.value_bytes_max - 64 * 1024
    assert all(topic.value_bytes_max < room for topic in catalog.TOPICS.values() if topic != catalog.DEAD_LETTERS)


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


def _incompatibilities(new: Any, old: Any, path: str) -> Any:
    """Why a reader with `new` could not read what `old` wrote: the rules of Avro's schema resolution we rely on."""
    if isinstance(new, dict) and isinstance(old, dict) and new["type"] == old["type"] == "record":
        before = {field["name"]: field for field in old["fields"]}
        for field in new["fields"]:
            name = f"{path}.{field['name']}"
            if field["name"] in before:
                yield from _incompatibilities(field["type"], before[field["name"]]["type"], name)
            elif "default" not in field:
                yield f"{name} has no default"
    elif isinstance(new, dict) and isinstance(old, dict) and new["type"] == old["type"] == "array":
        yield from _incompatibilities(new["items"], old["items"], f"{path}[]")
    elif isinstance(new, list):
        branches = old if isinstance(old, list) else [old]
        for branch in branches:
            if all(list(_incompatibilities(each, branch, path)) for each in new):
                yield f"{path}: {branch} has no branch in the union"
    elif new != old:
        yield f"{path}: type {old} became {new}"
