"""The read side of a Confluent schema registry, so that any Avro consumer can decode our topics.

Every subject has one version: a schema that changes keeps its id until a reader of the old could not read the new.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypedDict, TypeVar

import msgspec
from aiohttp import web

from gateway.openapi import Answer, Parameter, operation
from schemas.catalog import SCHEMAS, Schema, subjects

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_VERSION = 1
_VERSIONS = (str(_VERSION), "latest", "-1")


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


class RegistryProblem(TypedDict):
    """An error as Confluent's clients expect it."""

    error_code: int
    message: str


class RegistryError(Exception):
    """An error as Confluent's clients expect it."""

    def __init__(self, status: int, error_code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code


_SUBJECT = Parameter("subject", "path", {"type": "string"}, "Topic and record: `invoice-events-…`.", required=True)
_VERSION_NAME = Parameter("version", "path", {"type": "string"}, "1, or latest.", required=True)
_ID = Parameter("id", "path", {"type": "string"}, "As it stands in each record.", required=True)
_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[web.Response]])


def _operation(summary: str, body: Any, *parameters: Parameter) -> Callable[[_Handler], _Handler]:
    errors = []
    if parameters:
        errors.append(Answer(404, "There is no such thing", RegistryProblem, CONTENT_TYPE))
    if _VERSION_NAME in parameters:
        errors.append(Answer(422, "This is no version", RegistryProblem, CONTENT_TYPE))
    return operation(
        summary,
        Answer(200, "As a schema registry says it", body, CONTENT_TYPE),
        *errors,
        parameters=parameters,
        needs_key=False,
    )


def routes() -> list[web.RouteDef]:
    """The registry's resources."""
    return [
        web.get("/subjects", _subjects),
        web.get("/subjects/{subject}/versions", _versions),
        web.get("/subjects/{subject}/versions/{version}", _version),
        web.get("/subjects/{subject}/versions/{version}/schema", _version_schema),
        web.get("/schemas/types", _types),
        web.get("/schemas/ids/{id}", _schema),
        web.get("/schemas/ids/{id}/schema", _schema_text),
        web.get("/schemas/ids/{id}/versions", _schema_versions),
        web.get("/schemas/ids/{id}/subjects", _schema_subjects),
        web.get("/config", _config),
        web.get("/config/{subject}", _subject_config),
        web.get("/mode", _mode),
    ]


def error_response(error: RegistryError) -> web.Response:
    """The error as an answer."""
    return _json({"error_code": error.error_code, "message": str(error)}, error.status)


@_operation("All subjects", list[str])
async def _subjects(_: web.Request) -> web.Response:
    return _json(sorted(subjects()))


@_operation("A subject's versions", list[int], _SUBJECT)
async def _versions(request: web.Request) -> web.Response:
    _subject(request)
    return _json([_VERSION])


@_operation("A version of a subject", Version, _SUBJECT, _VERSION_NAME)
async def _version(request: web.Request) -> web.Response:
    name, schema = _subject_version(request)
    return _json({"subject": name, "version": _VERSION, "id": schema.schema_id, "schema": schema.text})


@_operation("Its schema", dict[str, Any], _SUBJECT, _VERSION_NAME)
async def _version_schema(request: web.Request) -> web.Response:
    _, schema = _subject_version(request)
    return web.Response(body=schema.text.encode(), content_type=CONTENT_TYPE)


@_operation("The schemas' types", list[str])
async def _types(_: web.Request) -> web.Response:
    return _json(["AVRO"])


@_operation("A schema", SchemaText, _ID)
async def _schema(request: web.Request) -> web.Response:
    return _json({"schema": _schema_by_id(request).text})


@_operation("A schema, as it is", dict[str, Any], _ID)
async def _schema_text(request: web.Request) -> web.Response:
    return web.Response(body=_schema_by_id(request).text.encode(), content_type=CONTENT_TYPE)


@_operation("Where a schema is used", list[SubjectVersion], _ID)
async def _schema_versions(request: web.Request) -> web.Response:
    return _json([{"subject": name, "version": _VERSION} for name in _subjects_of(_schema_by_id(request))])


@_operation("The subjects of a schema", list[str], _ID)
async def _schema_subjects(request: web.Request) -> web.Response:
    return _json(_subjects_of(_schema_by_id(request)))


@_operation("How schemas may change", dict[str, str])
async def _config(_: web.Request) -> web.Response:
    return _json({"compatibilityLevel": "BACKWARD"})


@_operation("How a subject's schemas may change", dict[str, str], _SUBJECT)
async def _subject_config(request: web.Request) -> web.Response:
    return await _config(request)


@_operation("What may be done here", dict[str, str])
async def _mode(_: web.Request) -> web.Response:
    return _json({"mode": "READONLY"})


def _subjects_of(schema: Schema) -> list[str]:
    return sorted(name for name, each in subjects().items() if each is schema)


def _subject(request: web.Request) -> tuple[str, Schema]:
    name = request.match_info["subject"]
    schema = subjects().get(name)
    if schema is None:
        raise RegistryError(404, 40401, f"Subject '{name}' not found.")
    return name, schema


def _subject_version(request: web.Request) -> tuple[str, Schema]:
    found = _subject(request)
    version = request.match_info["version"]
    if version not in _VERSIONS:
        if version.isdecimal() and int(version[:10]) > 0:
            raise RegistryError(404, 40402, f"Version {version} not found.")
        raise RegistryError(422, 42202, f"The specified version '{version}' is not a valid version id.")
    return found


def _schema_by_id(request: web.Request) -> Schema:
    text = request.match_info["id"]
    schema = SCHEMAS.get(int(text)) if text.isdecimal() and len(text) < 10 else None
    if schema is None:
        raise RegistryError(404, 40403, f"Schema {text} not found")
    return schema


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=CONTENT_TYPE)
