"""The AsyncAPI document of all topics, made from the catalogue."""

import json
from typing import Any

from schemas import catalog

#: The version of the interface, as of the OpenAPI document.
VERSION = "1"
_AVRO = "application/vnd.apache.avro"
_BINDING = {"bindingVersion": "0.5.0"}
_TEXT = {"type": "string"}
#: As `streams.relay.headers` makes them.
_HEADERS = {
    "type": "object",
    "properties": {
        catalog.SEQ_HEADER: {**_TEXT, "pattern": "^[0-9]+$", "description": "Counts in the partition, without a gap."},
        "type": {**_TEXT, "description": "The record's full name."},
        "ce_type": {**_TEXT, "description": "The same, for CloudEvents."},
        "ce_id": {**_TEXT, "description": "The event's id: topic, partition and seq."},
        "ce_time": {**_TEXT, "format": "date-time", "description": "When the transaction was, UTC."},
        "ce_source": {**_TEXT, "const": "/gapless"},
        "ce_specversion": {**_TEXT, "const": "1.0"},
        "traceparent": {**_TEXT, "description": "W3C Trace Context; only of events that follow from a traced request."},
    },
    "required": [catalog.SEQ_HEADER, "type", "ce_type", "ce_id", "ce_time", "ce_source", "ce_specversion"],
}


def document() -> dict[str, Any]:
    """AsyncAPI 3.0: each topic a channel, each record a message, in its newest version."""
    topics = [topic for topic in catalog.TOPICS.values() if topic.schemas]
    schemas = {schema.type.__name__: schema for topic in topics for schema in topic.schemas}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "gapless: topics",
            "version": VERSION,
            "description": "Values are Avro in the Confluent wire format; the gateway is the schema registry."
            " Read committed records only, and ignore records whose `seq` is not greater than the last of their"
            " partition.",
        },
        "defaultContentType": _AVRO,
        "channels": {topic.name: _channel(topic) for topic in topics},
        "operations": {
            f"{action}-{topic.name}": _operation(topic, action) for topic in topics for action in _actions(topic)
        },
        "components": {"messages": {name: _message(schema) for name, schema in sorted(schemas.items())}},
    }


def _actions(topic: catalog.Topic) -> list[str]:
    """What gapless does with the topic: into some it writes, and others may too."""
    sends = topic in catalog.OUTPUT_TOPICS
    receives = topic in catalog.INPUT_TOPICS
    return [*(["send"] if sends else []), *(["receive"] if receives else [])]


def _channel(topic: catalog.Topic) -> dict[str, Any]:
    names = [schema.type.__name__ for schema in topic.schemas]
    kept = "for ever" if topic.retention_ms is None else f"{topic.retention_ms // (24 * 3600 * 1000)} days"
    written = "Only the relay writes to it" if not _is_open(topic) else "Permitted producers may write to it"
    retention = {} if topic.retention_ms is None else {"retention.ms": topic.retention_ms}
    return {
        "address": topic.name,
        "description": f"{written}. Records are kept {kept}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    **retention,
                    "max.message.bytes": int(topic.config["max.message.bytes"]),
                },
                **_BINDING,
            }
        },
    }


def _operation(topic: catalog.Topic, action: str) -> dict[str, Any]:
    done = "Published by the relay" if action == "send" else "Read by the agents"
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"{done}.",
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{schema.type.__name__}"} for schema in topic.schemas],
    }


def _message(schema: catalog.Schema[Any]) -> dict[str, Any]:
    """A record; headers are those that the relay gives it, if it is the relay's alone."""
    avro = json.loads(schema.newest.text)
    is_relayed = not any(_is_open(topic) for topic in catalog.TOPICS.values() if schema in topic.schemas)
    meant = "The order id; of a product its id; of synonyms the seller; of a stock change that is no order's the SKU."
    key = {**_TEXT, "description": meant}
    return {
        "name": schema.name,
        "title": schema.type.__name__,
        "summary": avro["doc"],
        "contentType": _AVRO,
        **({"headers": _HEADERS} if is_relayed else {}),
        "payload": {"schemaFormat": f"{_AVRO};version=1.9.0", "schema": avro},
        "bindings": {"kafka": {"key": key, "schemaIdLocation": "payload", "schemaIdPayloadEncoding": "4", **_BINDING}},
    }


def _is_open(topic: catalog.Topic) -> bool:
    return topic in catalog.INPUT_TOPICS
