"""The schema registry, as Confluent's clients use it beyond reading a schema."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.registry import CONTENT_TYPE
from schemas import catalog
from tests.tomorrow import tomorrow
from tests.unit.gateway.edge import split, talk

ISSUED = "invoice-events-gapless.InvoiceIssued"
ALL = sorted(catalog.subjects())


async def ask(
    port: int, method: str, path: str, body: bytes = b"", query: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, dict[str, str], Any]:
    target = f"{path}?{urlencode(query)}" if query else path
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return split((await talk(port, head.encode() + body))[0])


async def get(port: int, path: str, **query: str) -> Any:
    status, headers, body = await ask(port, "GET", path, query=query)
    assert (status, headers["content-type"]) == (200, CONTENT_TYPE)
    return body


async def look_up(port: int, subject: str, schema: str, **more: Any) -> tuple[int, Any]:
    body = json.dumps({"schema": schema, **more}).encode()
    status, headers, found = await ask(
        port, "POST", f"/subjects/{subject}", body, {"normalize": "true", "deleted": "true"}
    )
    assert headers["content-type"] == CONTENT_TYPE
    return status, found


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/subjects/", 404, None),
        ("GET", "/subjects/x/y/z", 404, None),
        ("GET", "/schemas/nothing", 404, None),
        ("GET", "/compatibility/subjects/x", 404, None),
        ("GET", "/compatibility/subjects/x/versions/latest", 405, "POST"),
        ("GET", "/mode/x/y", 404, None),
        ("DELETE", f"/subjects/{ISSUED}/versions/1", 405, "GET, HEAD"),
        ("DELETE", f"/subjects/{ISSUED}", 405, "POST"),
        ("GET", f"/subjects/{ISSUED}", 405, "POST"),
        ("PUT", "/config", 405, "GET, HEAD"),
        ("PUT", f"/config/{ISSUED}", 405, "GET, HEAD"),
        ("PUT", "/mode", 405, "GET, HEAD"),
    ],
)
async def test_what_there_is_not_is_said_in_its_clients_words(
    port: int, method: str, path: str, status: int, allow: str | None
) -> None:
    found, headers, body = await ask(port, method, path)
    assert (found, body["error_code"], set(body)) == (status, status, {"error_code", "message"})
    assert (headers["content-type"], headers.get("allow")) == (CONTENT_TYPE, allow)


@pytest.mark.parametrize("path", ["/subjectsx", "/v1/subjects", "/"])
async def test_elsewhere_it_is_a_problem_as_always(port: int, path: str) -> None:
    status, headers, body = await ask(port, "GET", path)
    assert (status, body["type"]) == (404, "/problems/not-found")
    assert headers["content-type"] == "application/problem+json"


async def test_every_version_of_a_subject_is_found_by_its_schema(port: int) -> None:
    for name, versions in catalog.subjects().items():
        for number, version in enumerate(versions, 1):
            expected = {"subject": name, "version": number, "id": version.schema_id, "schema": version.text}
            assert await look_up(port, name, version.text) == (200, expected)


def _rewritten(text: str) -> str:
    """The same schema as another library writes it: no spaces, no comments, other order, short and full names."""

    def rewrite(node: Any) -> Any:
        if isinstance(node, list):
            return [rewrite(each) for each in node]
        if not isinstance(node, dict):
            return {"type": node} if node == "string" else node
        made = {name: rewrite(value) if name in ("type", "items", "fields") else value for name, value in node.items()}
        made.pop("doc", None)
        if "namespace" in made:
            made["name"] = f"{made.pop('namespace')}.{made['name']}"
        # A type that stands alone needs no object around it.
        return dict(reversed(made.items()))

    return json.dumps(rewrite(json.loads(text)), separators=(",", ":"))


async def test_a_schema_is_known_however_it_is_written(port: int) -> None:
    for name, versions in catalog.subjects().items():
        status, found = await look_up(port, name, _rewritten(versions[-1].text))
        assert (status, found.get("id")) == (200, versions[-1].schema_id), name


@pytest.mark.parametrize(
    ("subject", "schema", "more", "status", "code"),
    [
        ("nobody", '"string"', {}, 404, 40401),
        (ISSUED, '"string"', {}, 404, 40403),
        (ISSUED, catalog.DEAD_LETTER.newest.text, {}, 404, 40403),
        (ISSUED, catalog.INVOICE_ISSUED.newest.text.replace('"seller_id"', '"merchant_id"'), {}, 404, 40403),
        (ISSUED, catalog.INVOICE_ISSUED.newest.text, {"schemaType": "JSON"}, 404, 40403),
        (ISSUED, "{", {}, 422, 42201),
        (ISSUED, "7", {}, 422, 42201),
        (ISSUED, '{"type": "record"}', {}, 422, 42201),
        (ISSUED, "[" * 50_000, {}, 422, 42201),
        (ISSUED, '"string"', {"schemaType": 7}, 422, 42201),
    ],
)
async def test_a_schema_that_a_subject_does_not_have_is_not_found(
    port: int, subject: str, schema: str, more: dict[str, Any], status: int, code: int
) -> None:
    found, body = await look_up(port, subject, schema, **more)
    assert (found, body["error_code"]) == (status, code)


@pytest.mark.parametrize(("body", "status"), [(b"", 422), (b"[]", 422), (b"{}", 422), (b" " * 70_000, 413)])
async def test_what_is_no_look_up_is_refused(port: int, body: bytes, status: int) -> None:
    assert (await ask(port, "POST", f"/subjects/{ISSUED}", body))[0] == status


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ALL),
        ({"offset": "2"}, ALL[2:]),
        ({"limit": "3"}, ALL[:3]),
        ({"offset": "2", "limit": "3"}, ALL[2:5]),
        ({"offset": "2147483647", "limit": "2147483647"}, []),
        ({"limit": "0"}, ALL),
        ({"limit": "-1"}, ALL),
        ({"offset": "-1"}, ALL),
        ({"deleted": "true"}, ALL),
        ({"deletedOnly": "true"}, []),
        ({"deletedOnly": "false"}, ALL),
        ({"subjectPrefix": "invoice-events"}, [name for name in ALL if name.startswith("invoice-events")]),
        ({"subjectPrefix": "invoice-events", "limit": "1"}, [name for name in ALL if name.startswith("invoice-e")][:1]),
        ({"subjectPrefix": "nobody"}, []),
        ({"subjectPrefix": ""}, ALL),
        ({"subjectPrefix": ":*:"}, ALL),
        ({"subjectPrefix": ":.:dead"}, [name for name in ALL if name.startswith("dead")]),
        ({"subjectPrefix": ":.other:"}, []),
    ],
)
async def test_subjects_come_in_the_pages_that_were_asked_for(
    port: int, query: dict[str, str], found: list[str]
) -> None:
    assert await get(port, "/subjects", **query) == found


async def test_other_lists_come_in_pages_too(port: int) -> None:
    name, schema = "order-events-gapless.OrderCommandAnswered", catalog.ORDER_COMMAND_ANSWERED
    numbers = [version.number for version in schema.versions]
    assert len(numbers) > 1
    assert await get(port, f"/subjects/{name}/versions", offset="1") == numbers[1:]
    assert await get(port, f"/subjects/{name}/versions", limit="1") == numbers[:1]
    assert await get(port, f"/subjects/{name}/versions", deletedOnly="true") == []
    used = f"/schemas/ids/{schema.newest.schema_id}"
    assert await get(port, f"{used}/subjects", subject=name) == [name]
    assert await get(port, f"{used}/subjects", subject="nobody") == []
    of_topic = sorted(version.schema_id for each in catalog.ORDER_EVENTS.schemas for version in each.versions)
    uses = [
        {"subject": "gapless.OrderCommandAnswered", "version": len(numbers)},
        {"subject": name, "version": len(numbers)},
        {"subject": "order-events-value", "version": of_topic.index(schema.newest.schema_id) + 1},
    ]
    assert await get(port, f"{used}/versions") == uses
    assert await get(port, f"{used}/versions", offset="1", limit="1") == uses[1:2]
    every = await get(port, "/schemas", subjectPrefix="order-events")
    assert [each["version"] for each in every if each["subject"] == name] == numbers
    assert [each["id"] for each in every if each["subject"] == "order-events-value"] == of_topic
    newest = await get(port, "/schemas", subjectPrefix=name, latestOnly="true")
    assert [(each["id"], each["version"]) for each in newest] == [(schema.newest.schema_id, numbers[-1])]


@pytest.mark.parametrize("query", [{"limit": "x"}, {"offset": "1.5"}, {"limit": "9" * 5000}, {"offset": "--1"}])
async def test_a_page_is_told_by_numbers(port: int, query: dict[str, str]) -> None:
    status, _, body = await ask(port, "GET", "/subjects", query=query)
    assert (status, body["error_code"]) == (422, 422)


async def test_every_version_of_a_subject_is_served(port: int) -> None:
    """Consumers of a topic that holds records of several versions ask for each by its id."""
    today = catalog.INVOICE_ISSUED.newest
    with tomorrow():
        newest = catalog.INVOICE_ISSUED.newest
        assert await get(port, f"/subjects/{ISSUED}/versions") == [1, 2, 3, 4]
        assert (await get(port, f"/subjects/{ISSUED}/versions/latest"))["id"] == newest.schema_id
        for version in (today, newest):
            named = {"subject": ISSUED, "version": version.number, "id": version.schema_id}
            served = await get(port, f"/subjects/{ISSUED}/versions/{version.number}")
            assert {name: served[name] for name in named} == named
            assert json.loads(served["schema"]) == json.loads(version.text)
            by_id = await get(port, f"/schemas/ids/{version.schema_id}")
            assert json.loads(by_id["schema"]) == json.loads(version.text)
            status, found = await look_up(port, ISSUED, version.text)
            assert (status, {name: found[name] for name in named}) == (200, named)


async def post(port: int, path: str, schema: str, **query: str) -> tuple[int, Any]:
    status, headers, found = await ask(port, "POST", path, json.dumps({"schema": schema}).encode(), query)
    assert headers["content-type"] == CONTENT_TYPE
    return status, found


async def test_registering_a_schema_that_is_there_returns_its_id(port: int) -> None:
    """As serializers do it that register what they write: it changes nothing."""
    for subject in (ISSUED, "invoice-events-value", "gapless.InvoiceIssued", f":.:{ISSUED}"):
        found = await post(port, f"/subjects/{subject}/versions", _rewritten(catalog.INVOICE_ISSUED.newest.text))
        assert found == (200, {"id": catalog.INVOICE_ISSUED.newest.schema_id})


async def test_registering_another_schema_is_refused_with_what_to_do(port: int) -> None:
    status, body = await post(port, f"/subjects/{ISSUED}/versions", catalog.DEAD_LETTER.newest.text)
    assert (status, body["error_code"]) == (422, 42205)
    assert "read-only" in body["message"]
    assert "auto.register.schemas=false" in body["message"]
    assert (await post(port, "/subjects/nobody/versions", '"string"'))[1]["error_code"] == 40401
    assert (await post(port, f"/subjects/{ISSUED}/versions", "{"))[1]["error_code"] == 42201


async def test_subjects_of_every_naming_strategy_are_there(port: int) -> None:
    names = set(await get(port, "/subjects"))
    for topic in catalog.TOPICS.values():
        assert (f"{topic.name}-value" in names) == bool(topic.schemas)
        for schema in topic.schemas:
            assert {schema.name, f"{topic.name}-{schema.name}"} <= names


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/mode/order-events-value", {"mode": "READONLY"}),
        ("/contexts", [":.:"]),
        ("/config/dead-letters-value", {"compatibilityLevel": "FULL_TRANSITIVE"}),
        ("/config/gapless.OrderCommandAnswered", {"compatibilityLevel": "FULL_TRANSITIVE"}),
        ("/config/order-events-value", {"compatibilityLevel": "NONE"}),
        (f"/subjects/{ISSUED}/versions/1/referencedby", []),
    ],
)
async def test_how_a_subject_may_change_is_said(port: int, path: str, says: Any) -> None:
    """Of a subject with several records, each is compatible with itself alone."""
    assert await get(port, path) == says


def _changed(change: str) -> str:
    schema = json.loads(catalog.ORDER_REFUSED.versions[0].text)
    field = {"name": "new", "type": "string", "doc": "?"}
    schema["fields"] += {"with a default": [{**field, "default": ""}], "without": [field], "fewer": []}[change]
    if change == "fewer":
        schema["fields"] = [each for each in schema["fields"] if each["name"] != "order_id"]
    return json.dumps(schema)


@pytest.mark.parametrize("version", ["", "/latest", "/1"])
@pytest.mark.parametrize("subject", ["order-events-gapless.OrderRefused", "gapless.OrderRefused"])
async def test_a_schema_is_compatible_if_each_reads_the_other(port: int, subject: str, version: str) -> None:
    path = f"/compatibility/subjects/{subject}/versions{version}"
    assert await post(port, path, _changed("with a default")) == (200, {"is_compatible": True})
    for change, why in [
        ("without", "reading version 1: record.new has no default"),
        ("fewer", "read as version 1: record.order_id has no default"),
    ]:
        assert await post(port, path, _changed(change)) == (200, {"is_compatible": False})
        status, said = await post(port, path, _changed(change), verbose="true")
        assert (status, said["is_compatible"]) == (200, False)
        assert version == "/latest" or why in said["messages"]
    assert (await post(port, path, '"string"'))[1] == {"is_compatible": False}
    assert (await post(port, path, "{"))[1]["error_code"] == 42201


async def test_a_record_is_compared_with_its_own_versions_where_a_topic_has_several(port: int) -> None:
    path = "/compatibility/subjects/order-events-value/versions"
    assert (await post(port, path, _changed("with a default")))[1] == {"is_compatible": True}
    assert (await post(port, path, _changed("without")))[1] == {"is_compatible": False}
    assert (await post(port, path, '"string"'))[1] == {"is_compatible": True}
    assert (await post(port, f"{path}/99", '"string"'))[1]["error_code"] == 40402
