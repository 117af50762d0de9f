"""The gateway's OpenAPI document: valid, complete, and what docs/http.md shows is valid against it."""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.app import Gateway, make_app
from gateway.http import openapi, problems
from gateway.http.auth import KeyRing
from gateway.http.openapi import DeclaredResponse, open_operation
from gateway.http.parameters import IDEMPOTENCY_KEY
from runtime.settings import load
from tests.conformance import Conformance
from tests.e2e.shown import commands

_ELLIPSIS = "…"
NO_KEYS = KeyRing(cast(Any, None))


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> web.Application:
    """That of a gateway, never started."""

    async def make() -> web.Application:
        gateway = Gateway(
            load(
                kafka_bootstrap="127.0.0.1:1",
                postgres_url="postgresql://nobody@127.0.0.1:1/nothing",
                redis_url="redis://127.0.0.1:1",
                objects_url=tmp_path_factory.mktemp("objects").as_uri(),
            )
        )
        await gateway.stop()
        return gateway.application

    return asyncio.run(make())


@pytest.fixture(scope="module")
def document(application: web.Application) -> dict[str, Any]:
    """What it serves."""
    made: dict[str, Any] = json.loads(json.dumps(openapi.document(application)))
    return made


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_in_the_document(application: web.Application, document: dict[str, Any]) -> None:
    routes = {
        (route.resource.canonical, route.method.lower())
        for route in application.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == routes
    assert len(routes) > 30


def test_every_problem_can_be_answered_by_something(document: dict[str, Any]) -> None:
    """But for what no resource answers: a method that it doesn't have."""
    assert set(_types(document["paths"])) == {
        kind.type for kind in problems.KINDS.values() if kind is not problems.METHOD_NOT_ALLOWED
    }


def test_a_route_that_is_not_declared_keeps_the_gateway_from_starting() -> None:
    async def mute(_: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(ValueError, match="POST /v1/things declares nothing, not even who may call it"):
        make_app([web.post("/v1/things", mute)], NO_KEYS)


def test_a_path_whose_parameters_are_not_described_keeps_the_gateway_from_starting() -> None:
    @open_operation("A thing", DeclaredResponse(200, "It"), parameters=[IDEMPOTENCY_KEY])
    async def vague(_: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(ValueError, match=r"GET /v1/things/\{id\} describes the path's parameters"):
        make_app([web.get("/v1/things/{id}", vague)], NO_KEYS)


def test_limits_are_those_that_are_enforced(document: dict[str, Any]) -> None:
    """As one reads them, next to what docs/http.md promises."""
    schemas = document["components"]["schemas"]
    checkout = schemas["CheckoutRequest"]
    assert checkout["properties"]["order_id"]["maxLength"] == 64
    assert checkout["properties"]["lines"]["maxItems"] == 1000
    assert checkout["properties"]["payment_token"]["maxLength"] == 200
    assert checkout["additionalProperties"] is False
    assert set(checkout["required"]) == {"currency", "buyer", "lines", "payment_token"}
    assert checkout["properties"]["customer"]["anyOf"][0]["maxLength"] == 254
    limit = document["paths"]["/v1/stock"]["get"]["parameters"][0]
    assert (limit["name"], limit["schema"]["maximum"]) == ("limit", 100)


def test_the_requests_of_the_documentation_are_valid(document: dict[str, Any]) -> None:
    contract = Conformance(document)
    seen = 0
    for call, _ in _examples():
        found = contract.find(call.method, call.path)
        assert found is not None, call
        if call.body is not None:
            assert contract.request_errors(found, call.body) == [], call
            seen += 1
    assert seen >= 5


def test_the_answers_of_the_documentation_are_valid(document: dict[str, Any]) -> None:
    contract = Conformance(document)
    seen = 0
    for call, answer in _examples():
        if answer is not None:
            # Of headers the documentation shows what matters.
            headers = {"Content-Type": "application/json", "ETag": '"2"'}
            body = json.dumps(answer).encode()
            errors = [
                list(contract.answer_errors(call.method, call.path, status, headers, body)) for status in (200, 201)
            ]
            assert [] in errors, (call, errors)
            seen += 1
    assert seen >= 4


@dataclass(frozen=True, eq=False)
class _Call:
    """A call of curl."""

    method: str
    path: str
    body: Any


def _examples() -> Iterator[tuple[_Call, Any]]:
    """The calls in docs/http.md, and the answer of each that is shown whole."""
    variables: dict[str, str] = {}
    for shown in commands("docs/http.md"):
        words = shlex.split(shown.command)
        name, assigned, value = words[0].partition("=")
        if assigned:
            variables[name] = value
        elif words[0] == "curl":
            whole = shown.output and "…}" not in shown.output
            yield _call(words, variables), _without_ellipses(json.loads(shown.output)) if whole else None


def _call(words: list[str], variables: Mapping[str, str]) -> _Call:
    url = next(word for word in words if word.startswith("$GATEWAY"))
    body = json.loads(_expand(words[words.index("--json") + 1], variables)) if "--json" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
    return _Call(method, url.removeprefix("$GATEWAY"), body)


def _expand(word: str, variables: Mapping[str, str]) -> str:
    """As the shell does it with `$NAME` and `${NAME/this/that}`."""
    expansion = re.fullmatch(r"\$\{?(\w+)(?:/(.*)/(.*))?\}?", word)
    if expansion is None:
        return word
    name, this, that = expansion.groups(default="")
    return variables[name].replace(this, that, 1)


def _without_ellipses(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_ellipses(child) for child in node if child != _ELLIPSIS]
    if isinstance(node, dict):
        return {name: _without_ellipses(child) for name, child in node.items()}
    return node


def _types(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, child in node.items():
            if name == "type" and isinstance(child, dict) and "enum" in child:
                yield from child["enum"]
            else:
                yield from _types(child)
    elif isinstance(node, list):
        for child in node:
            yield from _types(child)
