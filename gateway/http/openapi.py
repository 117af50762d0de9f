"""What each route declares: its parameters, answers and who may call it; and the OpenAPI document made from that.

Nothing is written twice. Paths and methods are the application's own; bodies and answers are the types that are decoded
and returned; limits are the constants that are enforced; errors are kinds of `gateway.http.problems`. A handler is
declared with `operation`, which authenticates the caller, or with `open_operation`. A route that declares nothing, or
other parameters than its path has, keeps the gateway from starting.
"""

import functools
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

import msgspec
from aiohttp import web
from msgspec import Meta

from gateway.http import problems
from gateway.http.auth import KEYS
from gateway.http.problems import ProblemError, ProblemKind

PATH = "/openapi.json"
#: The version of the interface, not of the package: it changes when callers would notice.
VERSION = "1"

_SCHEMA_REF = "#/components/schemas/{name}"
_KEY = "key"
_PLACEHOLDER = re.compile(r"{(\w+)}")
_ATTRIBUTE = "openapi_operation"

#: Problems that every handler may return: malformed or unsupported HTTP, and internal errors.
_ANYWHERE = (problems.MALFORMED, problems.EXPECTATION_FAILED, problems.INTERNAL)
#: Problems of operations that need a key.
_WITH_KEY = (problems.UNAUTHORIZED, problems.UNAVAILABLE)
#: Problems of operations that accept a body.
_WITH_BODY = (
    problems.TOO_LARGE,
    problems.UNSUPPORTED_CODING,
    problems.TIMEOUT,
    problems.SELLER_OVERLOADED,
    problems.OVERLOADED,
    problems.SERVERS_DISAGREE,
    problems.UNAVAILABLE,
)


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
        """As an OpenAPI parameter object."""
        return {
            "name": self.name,
            "in": self.where,
            "required": self.required,
            "description": self.description,
            "schema": self.schema,
        }


@dataclass(frozen=True, slots=True)
class DeclaredResponse:
    """A response other than a problem: `body` is the type of its JSON, or several possible ones.

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
    """What a handler declares; see `operation` and `open_operation`."""

    summary: str
    answers: Sequence[DeclaredResponse]
    body: Any = None
    body_media_type: str = "application/json"
    needs_body: bool = True
    parameters: Sequence[Parameter] = ()
    needs_key: bool = True
    problems: Sequence[ProblemKind] = field(default=())

    @property
    def bodies(self) -> tuple[Any, ...]:
        """The types of the body, of which a request has one; none of what is no JSON."""
        if isinstance(self.body, tuple):
            return self.body
        return () if self.body in (None, bytes) else (self.body,)

    @property
    def kinds(self) -> list[ProblemKind]:
        """All problems that it may return, each once."""
        kinds = [*_ANYWHERE, *self.problems]
        kinds += _WITH_KEY if self.needs_key else ()
        kinds += _WITH_BODY if self.body is not None else ()
        return list(dict.fromkeys(kinds))


class Details(TypedDict, total=False):
    """What an operation may declare besides its responses."""

    #: The type that its body is decoded with, or several possible ones; of JSON Lines, the type of each line; `bytes`
    #: where it is no JSON.
    body: Any
    body_media_type: str
    needs_body: bool
    parameters: Sequence[Parameter]
    #: The kinds that it raises besides those that follow from a body or a key.
    problems: Sequence[ProblemKind]


_Owner = TypeVar("_Owner")
#: A method that answers a request, as the router calls it.
Handler = Callable[[_Owner, web.Request], Awaitable[web.StreamResponse]]
#: A method that answers a request of the seller with this id.
SellerHandler = Callable[[_Owner, web.Request, str], Awaitable[web.StreamResponse]]
_OpenHandler = TypeVar("_OpenHandler", bound=Callable[..., Any])


class ForSellers(Protocol):
    """Turns a handler that takes the seller id into one that authenticates the request."""

    def __call__(self, handler: SellerHandler[_Owner], /) -> Handler[_Owner]: ...


def operation(summary: str, *answers: DeclaredResponse, **details: Unpack[Details]) -> ForSellers:
    """Declare a method that serves a seller: it is called with the request and the seller id of the request's key.

    Callers without a valid key get their 401 before anything else of the request is looked at.
    """
    declared = Operation(summary, answers, needs_key=True, **details)

    def attach(handler: SellerHandler[_Owner]) -> Handler[_Owner]:
        @functools.wraps(handler)
        async def authenticate(owner: _Owner, request: web.Request) -> web.StreamResponse:
            return await handler(owner, request, await request.app[KEYS].seller_of(request))

        setattr(authenticate, _ATTRIBUTE, declared)
        return authenticate

    return attach


def open_operation(
    summary: str, *answers: DeclaredResponse, **details: Unpack[Details]
) -> Callable[[_OpenHandler], _OpenHandler]:
    """Declare a handler that anyone may call; it gets no seller id."""
    declared = Operation(summary, answers, needs_key=False, **details)

    def attach(handler: _OpenHandler) -> _OpenHandler:
        setattr(handler, _ATTRIBUTE, declared)
        return handler

    return attach


def limits(**schema: Any) -> Meta:
    """JSON Schema limits of a body's field, for its annotation: `Annotated[str, limits(maxLength=64)]`.

    It only describes. The code that enforces the limit responds with 422, where the decoder would respond with 400.
    """
    return Meta(extra_json_schema=schema)


def described(description: str) -> Meta:
    """The description of a body's field, for its annotation."""
    return Meta(description=description)


def text(chars_max: int, chars_min: int = 1) -> dict[str, Any]:
    """JSON Schema of a text with a limited number of characters."""
    return {"type": "string", "minLength": chars_min, "maxLength": chars_max}


def whole(pattern: re.Pattern[str]) -> str:
    """The JSON Schema pattern that the whole text must match."""
    return f"^(?:{pattern.pattern})$"


class ProblemType(TypedDict):
    """The meaning of a problem's type."""

    type: str
    title: str
    status: int


class Interface:
    """Describes the interface: its document, and the meaning of each problem's type."""

    def __init__(self) -> None:
        self._document = b""

    def routes(self) -> list[web.RouteDef]:
        """The resources, open to all."""
        return [web.get(PATH, self.show), web.get("/problems/{name}", self.explain)]

    def describe(self, app: web.Application) -> None:
        """Make the document, once the application has all its routes; raises `ValueError` as `document` does."""
        self._document = msgspec.json.encode(document(app))

    @open_operation("This document", DeclaredResponse(200, "OpenAPI 3.1", dict[str, Any]))
    async def show(self, _: web.Request) -> web.Response:
        """GET /openapi.json."""
        return web.Response(body=self._document, content_type="application/json")

    @open_operation(
        "What a type of problem stands for",
        DeclaredResponse(200, "The type, its title and its status", ProblemType),
        parameters=[Parameter("name", "path", {"type": "string"}, "The type's last part.", required=True)],
        problems=[problems.NOT_FOUND],
    )
    async def explain(self, request: web.Request) -> web.Response:
        """GET /problems/{name}."""
        kind = problems.KINDS.get(request.match_info["name"])
        if kind is None:
            raise ProblemError(problems.NOT_FOUND, "there is no problem type of this name")
        meaning = ProblemType(type=kind.type, title=kind.title, status=kind.status)
        return web.Response(body=msgspec.json.encode(meaning), content_type="application/json")


def document(app: web.Application) -> dict[str, Any]:
    """The document of all routes; raises `ValueError` for a route without a description, or with a wrong one."""
    routes = list(_described(app))
    types: list[Any] = [problems.Problem]
    for _, _, each in routes:
        types += each.bodies
        types += [each_type for answer in each.answers for each_type in answer.types]
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMA_REF)
    schema_of = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for path, method, each in routes:
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
        # aiohttp adds HEAD to each GET: the same response without its body.
        if route.method == "HEAD":
            continue
        described = getattr(route.handler, _ATTRIBUTE, None)
        if not isinstance(described, Operation):
            raise ValueError(
                f"{route.method} {path} declares nothing, not even who may call it:"
                " see `operation` and `open_operation` in gateway.http.openapi"
            )
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
        schema = {"schema": _one_of(described.bodies, schema_of)} if described.bodies else {}
        content = {described.body_media_type: schema}
        made["requestBody"] = {"required": described.needs_body, "content": content}
    made["responses"] = responses = {}
    for answer in described.answers:
        responses[str(answer.status)] = _response(answer, schema_of)
    for status, kinds in _by_status(described.kinds):
        made_response = responses.setdefault(str(status), {"description": "", "content": {}})
        made_response["description"] = made_response["description"] or " / ".join(kind.title for kind in kinds)
        made_response["content"][problems.CONTENT_TYPE] = {"schema": _problem_schema(kinds)}
    return made


def _response(answer: DeclaredResponse, schema_of: dict[int, dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        made["headers"] = {name: {"required": True, "schema": {"type": "string"}} for name in answer.headers}
    if answer.content is not None:
        made["content"] = {answer.content: {"schema": _one_of(answer.types, schema_of)} if answer.types else {}}
    return made


def _one_of(types: Sequence[Any], schema_of: dict[int, dict[str, Any]]) -> dict[str, Any]:
    schemas = [schema_of[id(each)] for each in types]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _by_status(kinds: Iterable[ProblemKind]) -> Iterator[tuple[int, list[ProblemKind]]]:
    by_status: dict[int, list[ProblemKind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    yield from sorted(by_status.items())


def _problem_schema(kinds: Iterable[ProblemKind]) -> dict[str, Any]:
    return {
        "allOf": [{"$ref": _SCHEMA_REF.format(name=problems.Problem.__name__)}],
        "properties": {"type": {"enum": [kind.type for kind in kinds]}},
    }
