"""The gateway's OpenAPI document: made from its routes, and from what stands beside each handler.

Nothing is written twice. Paths and methods are the application's own; bodies and answers are the types that are decoded
and returned; limits are the constants that are enforced; errors are kinds of `gateway.problems`. A route whose handler
says nothing, or something else than its path, keeps the gateway from starting.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from gateway import problems
from gateway.answers import json_answer
from gateway.problems import Kind, ProblemError

PATH = "/openapi.json"
#: Of the interface, and not of the package: it changes when a caller would notice.
VERSION = "1"

_SCHEMA_REF = "#/components/schemas/{name}"
_KEY = "key"
_PLACEHOLDER = re.compile(r"{(\w+)}")
_ATTRIBUTE = "openapi_operation"

#: What every handler may answer: HTTP that can't be read, and our own faults.
_ANYWHERE = (problems.MALFORMED, problems.INTERNAL)
#: Where a key is needed.
_WITH_KEY = (problems.UNAUTHORIZED, problems.UNAVAILABLE)
#: Where a body is taken.
_WITH_BODY = (problems.TOO_LARGE, problems.TIMEOUT, problems.OVERLOADED)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path, the query or the headers; `schema` is JSON Schema."""

    name: str
    where: str
    schema: dict[str, Any]
    description: str
    required: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """As OpenAPI has it."""
        return {
            "name": self.name,
            "in": self.where,
            "required": self.required,
            "description": self.description,
            "schema": self.schema,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no problem: `body` is the type of its JSON, or several, any of which it may be.

    Without one, `media_type` says what else it is; without either it has no body. All of `headers` are there.
    """

    status: int
    description: str
    body: Any = None
    media_type: str | None = None
    headers: tuple[str, ...] = ()

    @property
    def types(self) -> tuple[Any, ...]:
        """The types of the body."""
        if isinstance(self.body, tuple):
            return self.body
        return () if self.body is None else (self.body,)

    @property
    def content(self) -> str | None:
        """The media type of the body."""
        return self.media_type or ("application/json" if self.types else None)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a handler says of itself; see `operation`."""

    summary: str
    answers: Sequence[Answer]
    body: Any = None
    needs_body: bool = True
    parameters: Sequence[Parameter] = ()
    needs_key: bool = True
    problems: Sequence[Kind] = field(default=())

    @property
    def kinds(self) -> list[Kind]:
        """All problems that it may answer, each once."""
        kinds = [*_ANYWHERE, *self.problems]
        kinds += _WITH_KEY if self.needs_key else ()
        kinds += _WITH_BODY if self.body is not None else ()
        return list(dict.fromkeys(kinds))


_Handler = TypeVar("_Handler", bound=Callable[..., Any])


def operation(
    summary: str,
    *answers: Answer,
    body: Any = None,
    needs_body: bool = True,
    parameters: Sequence[Parameter] = (),
    needs_key: bool = True,
    problems: Sequence[Kind] = (),
) -> Callable[[_Handler], _Handler]:
    """Say beside a handler what it takes and answers.

    `body` is the type that its body is decoded with. `problems` are the kinds that it raises besides those that follow
    from a body or a key.
    """
    described = Operation(summary, answers, body, needs_body, parameters, needs_key, problems)

    def attach(handler: _Handler) -> _Handler:
        setattr(handler, _ATTRIBUTE, described)
        return handler

    return attach


def limits(**schema: Any) -> Meta:
    """What JSON Schema says of a body's field, for its annotation: `Annotated[str, limits(maxLength=64)]`.

    It only describes: whoever enforces the limit says what is wrong, and answers 422 where the decoder would say 400.
    """
    return Meta(extra_json_schema=schema)


def text(chars_max: int, chars_min: int = 1) -> dict[str, Any]:
    """JSON Schema of a text of so many characters."""
    return {"type": "string", "minLength": chars_min, "maxLength": chars_max}


def whole(pattern: re.Pattern[str]) -> str:
    """As JSON Schema writes a pattern that the whole text must match."""
    return f"^(?:{pattern.pattern})$"


class ProblemType(TypedDict):
    """What the type of a problem stands for."""

    type: str
    title: str
    status: int


class Interface:
    """Tells about the interface itself: its document, and what each type of problem stands for."""

    def __init__(self) -> None:
        self._document = b""

    def routes(self) -> list[web.RouteDef]:
        """The resources, open to all."""
        return [web.get(PATH, self.show), web.get("/problems/{name}", self.explain)]

    def describe(self, app: web.Application) -> None:
        """Make the document, once the application has all its routes; raises `ValueError` as `document` does."""
        self._document = msgspec.json.encode(document(app))

    @operation("This document", Answer(200, "OpenAPI 3.1", dict[str, Any]), needs_key=False)
    async def show(self, _: web.Request) -> web.Response:
        """GET /openapi.json."""
        return web.Response(body=self._document, content_type="application/json")

    @operation(
        "What a type of problem stands for",
        Answer(200, "The type, its title and its status", ProblemType),
        parameters=[Parameter("name", "path", {"type": "string"}, "The type's last part.", required=True)],
        needs_key=False,
        problems=[problems.NOT_FOUND],
    )
    async def explain(self, request: web.Request) -> web.Response:
        """GET /problems/{name}."""
        kind = problems.KINDS.get(request.match_info["name"])
        if kind is None:
            raise ProblemError(problems.NOT_FOUND, "there is no problem type of this name")
        return json_answer(ProblemType(type=kind.type, title=kind.title, status=kind.status))


def document(app: web.Application) -> dict[str, Any]:
    """The document of all routes; raises `ValueError` for one that isn't described, or not as it is."""
    described = list(_described(app))
    types: list[Any] = [problems.Problem]
    for _, _, each in described:
        types += [each.body] if each.body is not None else []
        types += [each_type for answer in each.answers for each_type in answer.types]
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMA_REF)
    schema_of = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for path, method, each in described:
        paths.setdefault(path, {})[method.lower()] = _operation(each, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gapless",
            "version": VERSION,
            "description": "Checkouts and invoices. A repeat of the same request has the same answer, for ever.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {_KEY: {"type": "http", "scheme": "bearer", "description": "A seller's API key."}},
        },
    }


def _described(app: web.Application) -> Iterator[tuple[str, str, Operation]]:
    for route in app.router.routes():
        path = route.resource.canonical if route.resource is not None else ""
        # As aiohttp adds it to each GET: the same answer without its body.
        if route.method == "HEAD":
            continue
        described = getattr(route.handler, _ATTRIBUTE, None)
        if not isinstance(described, Operation):
            raise ValueError(f"{route.method} {path} says nothing of itself: see gateway.openapi.operation")
        named = [each.name for each in described.parameters if each.where == "path"]
        if sorted(named) != sorted(_PLACEHOLDER.findall(path)):
            raise ValueError(f"{route.method} {path} describes the path's parameters {named}")
        yield path, route.method, described


def _operation(described: Operation, schema_of: dict[int, dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {"summary": described.summary}
    if described.needs_key:
        made["security"] = [{_KEY: []}]
    if described.parameters:
        made["parameters"] = [each.document for each in described.parameters]
    if described.body is not None:
        content = {"application/json": {"schema": schema_of[id(described.body)]}}
        made["requestBody"] = {"required": described.needs_body, "content": content}
    made["responses"] = responses = {}
    for answer in described.answers:
        responses[str(answer.status)] = _response(answer, schema_of)
    for status, kinds in _by_status(described.kinds):
        made_response = responses.setdefault(str(status), {"description": "", "content": {}})
        made_response["description"] = made_response["description"] or " / ".join(kind.title for kind in kinds)
        made_response["content"][problems.CONTENT_TYPE] = {"schema": _problem_schema(kinds)}
    return made


def _response(answer: Answer, schema_of: dict[int, dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        made["headers"] = {name: {"required": True, "schema": {"type": "string"}} for name in answer.headers}
    if answer.content is not None:
        schemas = [schema_of[id(each)] for each in answer.types]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        made["content"] = {answer.content: {"schema": schema} if schemas else {}}
    return made


def _by_status(kinds: Iterable[Kind]) -> Iterator[tuple[int, list[Kind]]]:
    by_status: dict[int, list[Kind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    yield from sorted(by_status.items())


def _problem_schema(kinds: Iterable[Kind]) -> dict[str, Any]:
    return {
        "allOf": [{"$ref": _SCHEMA_REF.format(name=problems.Problem.__name__)}],
        "properties": {"type": {"enum": [kind.type for kind in kinds]}},
    }
