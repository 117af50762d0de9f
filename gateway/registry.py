"""The read side of a Confluent schema registry, so that any Avro consumer can decode our topics.

A subject has the versions of its record's schema; ids and texts never change.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import msgspec
from aiohttp import web

from gateway.http.intake import read_body
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation
from gateway.http.parameters import whole_number
from schemas import catalog
from schemas.canonical import NotASchemaError, canonical
from schemas.catalog import Schema, subjects

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
#: Names of a subject's newest version.
_LATEST = ("latest", "-1")
#: The largest number that a version, an id or a place in a list may be: Confluent's are 32 bits wide.
_NUMBER_MAX = 2**31 - 1
#: A schema to look up: ours have some 5 KB.
_LOOK_UP_BYTES_MAX = 64 * 1024
#: Where a registry's resources are, those included that we don't have.
_PATHS = re.compile(r"/(?:subjects|schemas|config|mode|compatibility|contexts|exporters)(?:/.*)?", re.DOTALL)
#: As clients name the contexts of a registry: all of them, and ours, which is the default one.
_CONTEXTS = re.compile(r":(?:\*|\.)?:")


class Version(TypedDict):
    """A version of a subject; `schema` is JSON in a text."""

    subject: str
    version: int
    id: int
    schema: str


class SubjectVersion(TypedDict):
    """A version of a subject, in short."""

    subject: str
    version: int


class SchemaText(TypedDict):
    """A schema, as JSON in a text."""

    schema: str


class LookUp(msgspec.Struct):
    """A schema to be looked up; other fields are ignored."""

    schema: str
    schemaType: str = "AVRO"  # noqa: N815


class RegistryProblem(TypedDict):
    """An error as Confluent's clients expect it."""

    error_code: int
    message: str


class RegistryError(Exception):
    """An error as Confluent's clients expect it."""

    def __init__(self, status: int, error_code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.headers = headers or {}


_SUBJECT = Parameter("subject", "path", {"type": "string"}, "Topic and record: `invoice-events-…`.", required=True)
_VERSION_NAME = Parameter("version", "path", {"type": "string"}, "1, 2, … or latest.", required=True)
_ID = Parameter("id", "path", {"type": "string"}, "As it stands in each record.", required=True)
_PREFIX = Parameter("subjectPrefix", "query", {"type": "string"}, "How the subjects' names begin.")
_LATEST_ONLY = Parameter("latestOnly", "query", {"type": "boolean"}, "The newest version of each subject alone.")
_USED_IN = Parameter("subject", "query", {"type": "string"}, "Only in this subject.")
_PAGE = (
    Parameter("offset", "query", {"type": "integer", "default": 0}, "How many are left out at the beginning."),
    Parameter("limit", "query", {"type": "integer", "default": -1}, "How many there are at most; all for 0 and less."),
    Parameter("deleted", "query", {"type": "boolean"}, "Deleted ones too: nothing ever is."),
    Parameter("deletedOnly", "query", {"type": "boolean"}, "Only deleted ones: none."),
)
_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[web.Response]])
_Item = TypeVar("_Item")

_look_up_decoder = msgspec.json.Decoder(LookUp)


def _operation(summary: str, answer: Any, *parameters: Parameter, body: Any = None) -> Callable[[_Handler], _Handler]:
    errors = []
    if any(each.where == "path" for each in parameters):
        errors.append(DeclaredResponse(404, "The resource does not exist", RegistryProblem, CONTENT_TYPE))
    if body is not None or _VERSION_NAME in parameters or _PAGE[0] in parameters:
        errors.append(
            DeclaredResponse(422, "The version, number or schema is not valid", RegistryProblem, CONTENT_TYPE)
        )
    return open_operation(
        summary,
        DeclaredResponse(200, "As a schema registry says it", answer, CONTENT_TYPE),
        *errors,
        body=body,
        parameters=parameters,
    )


def routes() -> list[web.RouteDef]:
    """The registry's resources."""
    return [
        web.get("/subjects", _subjects),
        web.post("/subjects/{subject}", _look_up),
        web.get("/subjects/{subject}/versions", _versions),
        web.get("/subjects/{subject}/versions/{version}", _version),
        web.get("/subjects/{subject}/versions/{version}/schema", _version_schema),
        web.get("/schemas", _schemas),
        web.get("/schemas/types", _types),
        web.get("/schemas/ids/{id}", _schema),
        web.get("/schemas/ids/{id}/schema", _schema_text),
        web.get("/schemas/ids/{id}/versions", _schema_versions),
        web.get("/schemas/ids/{id}/subjects", _schema_subjects),
        web.get("/config", _config),
        web.get("/config/{subject}", _subject_config),
        web.get("/mode", _mode),
    ]


def owns(path: str) -> bool:
    """Whether this path belongs to the registry, whose errors have a form of their own."""
    return _PATHS.fullmatch(path) is not None


def error_response(error: RegistryError) -> web.Response:
    """The error as a response."""
    answer = _json({"error_code": error.error_code, "message": str(error)}, error.status)
    answer.headers.update(error.headers)
    return answer


@_operation("All subjects", list[str], _PREFIX, *_PAGE)
async def _subjects(request: web.Request) -> web.Response:
    return _json(_page(request, _named(request)))


@_operation("The version of a subject that a schema is", Version, _SUBJECT, body=LookUp)
async def _look_up(request: web.Request) -> web.Response:
    """POST that changes nothing: serializers send a schema to learn its id."""
    body = await read_body(request, _LOOK_UP_BYTES_MAX)
    name, schema = _subject(request)
    try:
        asked = _look_up_decoder.decode(body)
        wanted = canonical(asked.schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotASchemaError) as error:
        raise RegistryError(422, 42201, f"Invalid schema: {error}") from None
    for version in reversed(schema.versions):
        if asked.schemaType == "AVRO" and canonical(version.text) == wanted:
            return _json(_shown(name, version))
    raise RegistryError(404, 40403, "Schema not found")


@_operation("A subject's versions", list[int], _SUBJECT, *_PAGE)
async def _versions(request: web.Request) -> web.Response:
    _, schema = _subject(request)
    return _json(_page(request, [version.number for version in schema.versions]))


@_operation("A version of a subject", Version, _SUBJECT, _VERSION_NAME)
async def _version(request: web.Request) -> web.Response:
    return _json(_shown(*_subject_version(request)))


@_operation("Its schema", dict[str, Any], _SUBJECT, _VERSION_NAME)
async def _version_schema(request: web.Request) -> web.Response:
    _, version = _subject_version(request)
    return web.Response(body=version.text.encode(), content_type=CONTENT_TYPE)


@_operation("All schemas", list[Version], _PREFIX, _LATEST_ONLY, *_PAGE)
async def _schemas(request: web.Request) -> web.Response:
    is_latest_only = request.query.get("latestOnly", "").lower() == "true"
    return _json(
        _page(
            request,
            [
                _shown(name, version)
                for name in _named(request)
                for version in subjects()[name].versions[-1 if is_latest_only else 0 :]
            ],
        )
    )


@_operation("The schemas' types", list[str])
async def _types(_: web.Request) -> web.Response:
    return _json(["AVRO"])


@_operation("A schema", SchemaText, _ID)
async def _schema(request: web.Request) -> web.Response:
    _, version = _schema_by_id(request)
    return _json({"schema": version.text})


@_operation("A schema, as it is", dict[str, Any], _ID)
async def _schema_text(request: web.Request) -> web.Response:
    _, version = _schema_by_id(request)
    return web.Response(body=version.text.encode(), content_type=CONTENT_TYPE)


@_operation("Where a schema is used", list[SubjectVersion], _ID, _USED_IN, *_PAGE)
async def _schema_versions(request: web.Request) -> web.Response:
    schema, version = _schema_by_id(request)
    used = [{"subject": name, "version": version.number} for name in _subjects_of(request, schema)]
    return _json(_page(request, used))


@_operation("The subjects of a schema", list[str], _ID, _USED_IN, *_PAGE)
async def _schema_subjects(request: web.Request) -> web.Response:
    schema, _ = _schema_by_id(request)
    return _json(_page(request, _subjects_of(request, schema)))


@_operation("How schemas may change", dict[str, str])
async def _config(_: web.Request) -> web.Response:
    return _json({"compatibilityLevel": "FULL_TRANSITIVE"})


@_operation("How a subject's schemas may change", dict[str, str], _SUBJECT)
async def _subject_config(request: web.Request) -> web.Response:
    return await _config(request)


@_operation("What may be done here", dict[str, str])
async def _mode(_: web.Request) -> web.Response:
    return _json({"mode": "READONLY"})


def _shown(name: str, version: catalog.SchemaVersion) -> Version:
    return {"subject": name, "version": version.number, "id": version.schema_id, "schema": version.text}


def _named(request: web.Request) -> list[str]:
    """The subjects whose names begin with the requested prefix. All are in the default context."""
    prefix = _CONTEXTS.sub("", request.query.get("subjectPrefix", ""), count=1)
    return [name for name in sorted(subjects()) if name.startswith(prefix)]


def _subjects_of(request: web.Request, schema: Schema[Any]) -> list[str]:
    only = request.query.get("subject", "")
    return sorted(name for name, each in subjects().items() if each is schema and only in ("", name))


def _page(request: web.Request, found: Sequence[_Item]) -> Sequence[_Item]:
    """The requested page of a list."""
    offset, limit = _number(request, "offset"), _number(request, "limit")
    if request.query.get("deletedOnly", "").lower() == "true":
        return []
    return found[offset : offset + limit if limit else None]


def _number(request: web.Request, name: str) -> int:
    """A number of the query; 0 if it is missing or negative. Raises `RegistryError` if it is not a number."""
    text = request.query.get(name, "0")
    number = whole_number(text.removeprefix("-"), 0, _NUMBER_MAX)
    if number is None:
        raise RegistryError(422, 422, f"{name} must be a whole number")
    return 0 if text.startswith("-") else number


def _subject(request: web.Request) -> tuple[str, Schema[Any]]:
    name = request.match_info["subject"]
    schema = subjects().get(name)
    if schema is None:
        raise RegistryError(404, 40401, f"Subject '{name}' not found.")
    return name, schema


def _subject_version(request: web.Request) -> tuple[str, catalog.SchemaVersion]:
    name, schema = _subject(request)
    asked = request.match_info["version"]
    if asked in _LATEST:
        return name, schema.newest
    number = whole_number(asked, 1, _NUMBER_MAX)
    if number is None:
        raise RegistryError(422, 42202, f"The specified version '{asked}' is not a valid version id.")
    for version in schema.versions:
        if version.number == number:
            return name, version
    raise RegistryError(404, 40402, f"Version {asked} not found.")


def _schema_by_id(request: web.Request) -> tuple[Schema[Any], catalog.SchemaVersion]:
    text = request.match_info["id"]
    number = whole_number(text, 1, _NUMBER_MAX)
    found = None if number is None else catalog.VERSIONS.get(number)
    if found is None:
        raise RegistryError(404, 40403, f"Schema {text} not found")
    return found


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=CONTENT_TYPE)
