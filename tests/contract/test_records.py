"""The types of the records are those of the schemas, and what the codec gives."""

from typing import Any

import msgspec

from schemas import catalog
from schemas.codec import decode
from schemas.generate import RECORDS, generate
from tests.contract.test_schemas import GOLDEN, by_version


def test_the_types_of_the_records_are_those_of_the_newest_schemas() -> None:
    assert RECORDS.read_text(encoding="utf-8") == generate(), "run `python -m schemas.generate`"


@by_version
def test_a_record_of_any_version_is_decoded_as_its_type_says(
    schema: catalog.Schema[Any], version: catalog.SchemaVersion
) -> None:
    payload = (GOLDEN / schema.record / f"v{version.number}.bin").read_bytes()
    _, value = decode(payload, schema, bytes_max=len(payload))
    assert msgspec.convert(value, schema.type, strict=True, builtin_types=(bytes,)) == value


def test_a_record_is_called_as_its_schema_is() -> None:
    schemas = {schema for schema, _ in catalog.VERSIONS.values()}
    assert all(schema.name == f"gapless.{schema.type.__name__}" for schema in schemas)
