"""The read side of a Confluent schema registry, so that any Avro client can decode and encode our topics' records.

`schemas.catalog.subjects` names the subjects; ids and texts never change.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, TypeVar

import msgspec
from aiohttp import web

from gateway.http.intake import read_body
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation
from gateway.http.parameters import whole_number
from schemas import catalog
from schemas.canonical import NotASchemaError, canonical
from schemas.catalog import Schema, SchemaVersion, subjects
from schemas.compatibility import full_name, incompatibilities

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
#: Names of a subject's newest version.
_LATEST = ("latest", "-1")
#: The largest number that a version, an id or a place in a list may be: Confluent's are 32 bits wide.
_NUMBER_MAX = 2**31 - 1
#: A schema to look up: ours have some 5 KB.
_LOOK_UP_BYTES_MAX = 64 * 1024
#: Where a registry's resources are, those included that we don't have.
_PATHS = re.compile(r"/(?:subjects|schemas|config|mode|compatibility|contexts|exporters)(?:/.*)?", re.DOTALL)
#: Each version reads what any other wrote; where a subject has several records, those of the same record do.
_ONE_RECORD, _SEVERAL_RECORDS = "FULL_TRANSITIVE", "NONE"
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


class SchemaId(TypedDict):
    """The id of a schema."""

    id: int


class Compatibility(TypedDict):
    """Whether a schema may be the next version; `messages` say why not, if `verbose` asks for them."""

    is_compatible: bool
    messages: NotRequired[list[str]]


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


_SUBJECT = Parameter("subject", "path", {"type": "string"}, "As in `GET /subjects`.", required=True)
_VERSION_NAME = Parameter("version", "path", {"type": "string"}, "1, 2, … or latest.", required=True)
_ID = Parameter("id", "path", {"type": "string"}, "As it stands in each record.", required=True)
_PREFIX = Parameter("subjectPrefix", "query", {"type": "string"}, "How the subjects' names begin.")
_LATEST_ONLY = Parameter("latestOnly", "query", {"type": "boolean"}, "The newest version of each subject alone.")
_VERBOSE = Parameter("verbose", "query", {"type": "boolean"}, "With the reasons.")
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
        web.post("/subjects/{subject}/versions", _register),
        web.get("/subjects/{subject}/versions/{version}", _version),
        web.get("/subjects/{subject}/versions/{version}/schema", _version_schema),
        web.get("/subjects/{subject}/versions/{version}/referencedby", _referencing),
        web.get("/schemas", _schemas),
        web.get("/schemas/types", _types),
        web.get("/schemas/ids/{id}", _schema),
        web.get("/schemas/ids/{id}/schema", _schema_text),
        web.get("/schemas/ids/{id}/versions", _schema_versions),
        web.get("/schemas/ids/{id}/subjects", _schema_subjects),
        web.get("/config", _config),
        web.get("/config/{subject}", _subject_config),
        web.get("/mode", _mode),
        web.get("/mode/{subject}", _subject_mode),
        web.get("/contexts", _contexts),
        web.post("/compatibility/subjects/{subject}/versions", _compatible),
        web.post("/compatibility/subjects/{subject}/versions/{version}", _compatible_with),
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
    name, versions = _subject(request)
    found = _known(versions, await _asked(request))
    if found is None:
        raise RegistryError(404, 40403, "Schema not found")
    return _json(_shown(name, *found))


@_operation("The id of a schema that a subject has already", SchemaId, _SUBJECT, body=LookUp)
async def _register(request: web.Request) -> web.Response:
    """As serializers register a schema before they use it. Nothing is registered: one that is new is refused."""
    name, versions = _subject(request)
    found = _known(versions, await _asked(request))
    if found is None:
        # As Confluent's says it of a subject that is read-only.
        raise RegistryError(
            422,
            42205,
            f"Subject {name} is read-only, and this schema is none of its {len(versions)} versions: use one of those, "
            f"as GET /subjects/{name}/versions lists them, and set auto.register.schemas=false",
        )
    return _json({"id": found[1].schema_id})


@_operation("A subject's versions", list[int], _SUBJECT, *_PAGE)
async def _versions(request: web.Request) -> web.Response:
    _, versions = _subject(request)
    return _json(_page(request, list(range(1, len(versions) + 1))))


@_operation("A version of a subject", Version, _SUBJECT, _VERSION_NAME)
async def _version(request: web.Request) -> web.Response:
    return _json(_shown(*_subject_version(request)))


@_operation("Its schema", dict[str, Any], _SUBJECT, _VERSION_NAME)
async def _version_schema(request: web.Request) -> web.Response:
    *_, version = _subject_version(request)
    return web.Response(body=version.text.encode(), content_type=CONTENT_TYPE)


@_operation("Schemas that refer to it: none", list[int], _SUBJECT, _VERSION_NAME)
async def _referencing(request: web.Request) -> web.Response:
    _subject_version(request)
    return _json([])


@_operation("All schemas", list[Version], _PREFIX, _LATEST_ONLY, *_PAGE)
async def _schemas(request: web.Request) -> web.Response:
    is_latest_only = request.query.get("latestOnly", "").lower() == "true"
    found = subjects()
    return _json(
        _page(
            request,
            [
                _shown(name, number, version)
                for name in _named(request)
                for number, version in list(enumerate(found[name], 1))[-1 if is_latest_only else 0 :]
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
    return _json(_page(request, _uses(request)))


@_operation("The subjects of a schema", list[str], _ID, _USED_IN, *_PAGE)
async def _schema_subjects(request: web.Request) -> web.Response:
    return _json(_page(request, [each["subject"] for each in _uses(request)]))


@_operation("How schemas may change", dict[str, str])
async def _config(_: web.Request) -> web.Response:
    return _json({"compatibilityLevel": _ONE_RECORD})


@_operation("How a subject's schemas may change", dict[str, str], _SUBJECT)
async def _subject_config(request: web.Request) -> web.Response:
    name = _plain_name(request)
    several = len({version.record for version in subjects().get(name, ())}) > 1
    return _json({"compatibilityLevel": _SEVERAL_RECORDS if several else _ONE_RECORD})


@_operation("What may be done here", dict[str, str])
async def _mode(_: web.Request) -> web.Response:
    return _json({"mode": "READONLY"})


@_operation("What may be done to a subject", dict[str, str], _SUBJECT)
async def _subject_mode(request: web.Request) -> web.Response:
    return await _mode(request)


@_operation("The contexts: the default one", list[str])
async def _contexts(_: web.Request) -> web.Response:
    return _json([":.:"])


@_operation(
    "Whether a schema and every version read each other's records", Compatibility, _SUBJECT, _VERBOSE, body=LookUp
)
async def _compatible(request: web.Request) -> web.Response:
    _, versions = _subject(request)
    return await _compared(request, versions)


@_operation(
    "Whether a schema and a version read each other's records",
    Compatibility,
    _SUBJECT,
    _VERSION_NAME,
    _VERBOSE,
    body=LookUp,
)
async def _compatible_with(request: web.Request) -> web.Response:
    *_, version = _subject_version(request)
    return await _compared(request, (version,))


async def _compared(request: web.Request, versions: Sequence[SchemaVersion]) -> web.Response:
    """Both ways. Of a subject with several records, only the versions of this one are compared with."""
    asked = await _asked(request)
    if len({each.record for each in _subject(request)[1]}) > 1:
        versions = [each for each in versions if each.name == full_name(asked.schema)]
    messages = [f"the schema is {asked.schemaType}, not AVRO"] if asked.schemaType != "AVRO" else []
    for each in versions:
        messages += [f"reading version {each.number}: {why}" for why in incompatibilities(asked.schema, each.text)]
        messages += [f"read as version {each.number}: {why}" for why in incompatibilities(each.text, asked.schema)]
    answer = Compatibility(is_compatible=not messages)
    if request.query.get("verbose", "").lower() == "true":
        answer["messages"] = messages
    return _json(answer)


def _shown(name: str, number: int, version: SchemaVersion) -> Version:
    return {"subject": name, "version": number, "id": version.schema_id, "schema": version.text}


async def _asked(request: web.Request) -> LookUp:
    """The schema in the body. Raises `RegistryError` if it is none."""
    body = await read_body(request, _LOOK_UP_BYTES_MAX)
    try:
        asked = _look_up_decoder.decode(body)
        canonical(asked.schema)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotASchemaError) as error:
        raise RegistryError(422, 42201, f"Invalid schema: {error}") from None
    return asked


def _known(versions: Sequence[SchemaVersion], asked: LookUp) -> tuple[int, SchemaVersion] | None:
    """The newest version that this schema is, with its number in the subject."""
    if asked.schemaType != "AVRO":
        return None
    wanted = canonical(asked.schema)
    same = ((number, each) for number, each in enumerate(versions, 1) if canonical(each.text) == wanted)
    return max(same, default=None, key=lambda found: found[0])


def _named(request: web.Request) -> list[str]:
    """The subjects whose names begin with the requested prefix. All are in the default context."""
    prefix = _CONTEXTS.sub("", request.query.get("subjectPrefix", ""), count=1)
    return [name for name in sorted(subjects()) if name.startswith(prefix)]


def _uses(request: web.Request) -> list[SubjectVersion]:
    """The subjects that have the schema of the requested id, sorted."""
    _, version = _schema_by_id(request)
    only = _CONTEXTS.sub("", request.query.get("subject", ""), count=1)
    return [
        {"subject": name, "version": versions.index(version) + 1}
        for name, versions in sorted(subjects().items())
        if version in versions and only in ("", name)
    ]


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


def _plain_name(request: web.Request) -> str:
    """The requested subject, without the name of the context."""
    return _CONTEXTS.sub("", request.match_info["subject"], count=1)


def _subject(request: web.Request) -> tuple[str, tuple[SchemaVersion, ...]]:
    name = _plain_name(request)
    versions = subjects().get(name)
    if versions is None:
        raise RegistryError(404, 40401, f"Subject '{name}' not found.")
    return name, versions


def _subject_version(request: web.Request) -> tuple[str, int, SchemaVersion]:
    """The subject, the number of the version in it, and the version."""
    name, versions = _subject(request)
    asked = request.match_info["version"]
    number = len(versions) if asked in _LATEST else whole_number(asked, 1, _NUMBER_MAX)
    if number is None:
        raise RegistryError(422, 42202, f"The specified version '{asked}' is not a valid version id.")
    if number > len(versions):
        raise RegistryError(404, 40402, f"Version {asked} not found.")
    return name, number, versions[number - 1]


def _schema_by_id(request: web.Request) -> tuple[Schema[Any], SchemaVersion]:
    text = request.match_info["id"]
    number = whole_number(text, 1, _NUMBER_MAX)
    found = None if number is None else catalog.VERSIONS.get(number)
    if found is None:
        raise RegistryError(404, 40403, f"Schema {text} not found")
    return found


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=CONTENT_TYPE)
