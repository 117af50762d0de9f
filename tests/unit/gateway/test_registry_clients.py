"""The schema registry, through Confluent's own client and serializers: what works for them works."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    record_subject_name_strategy,
    topic_record_subject_name_strategy,
    topic_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas import catalog
from schemas.codec import decode

GOLDEN = Path(__file__).parents[2] / "contract" / "golden"
STRATEGIES = {
    "TopicName": topic_subject_name_strategy,
    "TopicRecordName": topic_record_subject_name_strategy,
    "RecordName": record_subject_name_strategy,
}
T = TypeVar("T")
by_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


async def with_client(port: int, use: Callable[[SchemaRegistryClient], T]) -> T:
    """What `use` returns, in a thread: the client is synchronous, and the gateway runs in the test's own loop."""

    def run() -> T:
        with SchemaRegistryClient({"url": f"http://127.0.0.1:{port}", "max.retries": 0}) as client:
            return use(client)

    return await asyncio.to_thread(run)


def topic_of(schema: catalog.Schema[Any]) -> catalog.Topic:
    return next(topic for topic in catalog.TOPICS.values() if schema in topic.schemas)


def golden(schema: catalog.Schema[Any], version: catalog.SchemaVersion) -> bytes:
    return (GOLDEN / schema.record / f"v{version.number}.bin").read_bytes()


SCHEMAS = sorted({schema for topic in catalog.TOPICS.values() for schema in topic.schemas}, key=lambda each: each.name)


async def test_records_of_every_version_are_read(port: int) -> None:
    """By their id alone, and with a reader's schema that is the newest."""

    def use(client: SchemaRegistryClient) -> None:
        plain = AvroDeserializer(client)
        for schema in SCHEMAS:
            newest = AvroDeserializer(client, schema.newest.text)
            context = SerializationContext(topic_of(schema).name, MessageField.VALUE)
            for version in schema.versions:
                payload = golden(schema, version)
                read: Any = plain(payload, context)
                assert set(read) == {field["name"] for field in version.parsed["fields"]}
                assert set(newest(payload, context) or {}) == {
                    field["name"] for field in schema.newest.parsed["fields"]
                }

    await with_client(port, use)


@by_strategy
@pytest.mark.parametrize("registers", [False, True])
async def test_what_a_serializer_writes_is_what_we_read(port: int, strategy: Any, registers: bool) -> None:
    """Whether it only looks its schema up, or registers it first, as it does by default."""

    def use(client: SchemaRegistryClient) -> None:
        config = {"auto.register.schemas": registers, "subject.name.strategy": strategy}
        for schema in SCHEMAS:
            context = SerializationContext(topic_of(schema).name, MessageField.VALUE)
            value = AvroDeserializer(client, schema.newest.text)(golden(schema, schema.newest), context)
            written = AvroSerializer(client, schema.newest.text, conf=config)(value, context)
            assert written == golden(schema, schema.newest)
            assert decode(written, schema, bytes_max=10**7)[0] is schema

    await with_client(port, use)


@by_strategy
async def test_a_producer_may_ask_for_the_newest_version(port: int, strategy: Any) -> None:
    """Of a topic that has one record, whatever the strategy."""
    schema = catalog.CHECKOUT_REQUEST

    def use(client: SchemaRegistryClient) -> Any:
        config = {"auto.register.schemas": False, "use.latest.version": True, "subject.name.strategy": strategy}
        context = SerializationContext(catalog.CHECKOUT_REQUESTS.name, MessageField.VALUE)
        value = AvroDeserializer(client, schema.newest.text)(golden(schema, schema.newest), context)
        return AvroSerializer(client, schema.newest.text, conf=config)(value, context)

    assert await with_client(port, use) == golden(schema, schema.newest)


async def test_a_serializer_with_a_schema_of_its_own_is_told_that_the_registry_is_read_only(port: int) -> None:
    changed = json.loads(catalog.CHECKOUT_REQUEST.newest.text)
    changed["fields"].append({"name": "mine", "type": "string", "default": "", "doc": "?"})

    def use(client: SchemaRegistryClient) -> None:
        context = SerializationContext(catalog.CHECKOUT_REQUESTS.name, MessageField.VALUE)
        with pytest.raises(SchemaRegistryError, match=r"read-only.*auto\.register\.schemas=false") as refused:
            AvroSerializer(client, json.dumps(changed))({}, context)
        assert (refused.value.http_status_code, refused.value.error_code) == (422, 42205)
        with pytest.raises(SchemaRegistryError, match="Schema not found"):
            AvroSerializer(client, json.dumps(changed), conf={"auto.register.schemas": False})({}, context)

    await with_client(port, use)


async def test_everything_else_that_the_client_can_ask_is_answered(port: int) -> None:
    name = "order-events-gapless.OrderRefused"
    version = catalog.ORDER_REFUSED.newest

    def use(client: SchemaRegistryClient) -> None:
        schema = Schema(version.text, "AVRO")
        assert {f"{topic.name}-value" for topic in catalog.TOPICS.values() if topic.schemas} < set(
            client.get_subjects()
        )
        assert client.get_versions(name) == [each.number for each in catalog.ORDER_REFUSED.versions]
        assert client.get_latest_version(name).schema_id == version.schema_id
        assert client.get_version(name, version.number).schema_id == version.schema_id
        assert client.get_schema(version.schema_id).schema_str == version.text
        assert client.lookup_schema(name, schema).version == version.number
        assert client.register_schema(name, schema) == version.schema_id
        assert client.get_subjects_by_schema_id(version.schema_id) == sorted(
            [name, "gapless.OrderRefused", "order-events-value"]
        )
        assert {each.subject for each in client.get_schema_versions(version.schema_id)} >= {name}
        assert client.test_compatibility(name, schema)
        assert client.test_compatibility_all_versions(name, schema)
        assert not client.test_compatibility(name, Schema('"string"', "AVRO"))
        config: Any = client.get_config(name)
        assert (config.compatibility_level or config.compatibility) == "FULL_TRANSITIVE"
        assert client.get_mode(name) == client.get_global_mode() == "READONLY"
        assert client.get_contexts() == [":.:"]
        with pytest.raises(SchemaRegistryError, match="does not support this method"):
            client.delete_subject(name)
        with pytest.raises(SchemaRegistryError) as missing:
            client.get_latest_version("nobody-value")
        assert missing.value.error_code == 40401

    await with_client(port, use)
