"""The interface for people: pages that load nothing from elsewhere, and the AsyncAPI document behind one."""

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from gateway.http import pages
from schemas import catalog
from tests.unit.gateway.edge import talk

VENDORED = Path(pages.__file__).parents[1] / "pages"


async def get(port: int, path: str, more: str = "") -> tuple[dict[str, str], bytes]:
    answer, _ = await talk(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first == "HTTP/1.1 200 OK"
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


async def test_the_pages_load_only_what_the_gateway_has(port: int) -> None:
    for path, document in [("/docs", "/openapi.json"), ("/docs/topics", "/asyncapi.json")]:
        headers, body = await get(port, path)
        assert headers["content-type"] == "text/html; charset=utf-8"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        text = body.decode()
        assert f'spec-url="{document}"' in text
        assert "disable-telemetry" in text
        assert "://" not in text
        for loaded in re.findall(r'(?:src|href|spec-url)="([^"]+)"', text):
            await get(port, loaded)


async def test_the_script_is_the_published_one(port: int) -> None:
    """Its hash is written beside it."""
    [digest] = re.findall(r"`([0-9a-f]{64})`", (VENDORED / "README.md").read_text())
    headers, body = await get(port, "/docs/redoc-3.0.1.js")
    assert "content-encoding" not in headers
    assert hashlib.sha256(body).hexdigest() == digest
    headers, compressed = await get(port, "/docs/redoc-3.0.1.js", "Accept-Encoding: br, gzip\r\n")
    assert headers["content-encoding"] == "gzip"
    assert "immutable" in headers["cache-control"]
    assert gzip.decompress(compressed) == body


async def test_every_topic_and_every_record_is_in_the_asyncapi_document(port: int) -> None:
    headers, body = await get(port, "/asyncapi.json")
    assert headers["content-type"] == "application/json"
    document = json.loads(body)
    assert document["asyncapi"] == "3.0.0"
    topics = {name: topic for name, topic in catalog.TOPICS.items() if topic.schemas}
    assert document["channels"].keys() == topics.keys()
    messages = document["components"]["messages"]
    for name, topic in topics.items():
        channel = document["channels"][name]
        assert set(channel["messages"]) == {schema.type.__name__ for schema in topic.schemas}
        configuration = channel["bindings"]["kafka"]["topicConfiguration"]
        assert configuration.get("retention.ms", -1) == int(topic.config["retention.ms"])
        for schema in topic.schemas:
            message = messages[schema.type.__name__]
            assert (message["name"], message["payload"]["schema"]) == (schema.name, json.loads(schema.newest.text))
            assert ("headers" in message) == (topic not in catalog.INPUT_TOPICS)
    actions = {(each["channel"]["$ref"].rpartition("/")[2], each["action"]) for each in document["operations"].values()}
    assert actions == {(topic.name, "send") for topic in catalog.OUTPUT_TOPICS} | {
        (topic.name, "receive") for topic in catalog.INPUT_TOPICS
    }


async def test_every_reference_of_the_asyncapi_document_leads_somewhere(port: int) -> None:
    document = json.loads((await get(port, "/asyncapi.json"))[1])

    def references(node: Any) -> list[str]:
        if isinstance(node, list):
            return [found for each in node for found in references(each)]
        if isinstance(node, dict):
            return [node["$ref"]] if "$ref" in node else references(list(node.values()))
        return []

    found = references(document)
    assert len(found) > 50
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
