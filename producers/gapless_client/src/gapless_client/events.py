"""Records of the topics as typed events. Needs the extra `consumer`."""

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from threading import Lock
from typing import Any, Generic, TypeVar

import httpx
from fastavro import parse_schema, schemaless_reader

from gapless_client.errors import GaplessError

R = TypeVar("R", bound=Mapping[str, Any], covariant=True)

_WIRE_HEADER = struct.Struct(">bI")


class DecodeError(GaplessError):
    """The bytes are no record that this library or the registry knows."""


@dataclass(frozen=True, slots=True)
class Event(Generic[R]):
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    #: Counts 1, 2, 3 … in the partition, without a gap.
    seq: int
    #: The record's full name, such as `gapless.OrderPlaced`.
    type: str
    key: bytes | None
    value: R
    headers: Mapping[str, bytes]

    @property
    def id(self) -> str:
        """Identifies the event for ever: a key for upserts."""
        return f"{self.topic}-{self.partition}-{self.seq}"


class Decoder:
    """Decodes records of every version into the newest that this library knows.

    A version that is newer is fetched from the registry, once. May be used by several threads.
    """

    def __init__(self, registry_url: str | None = None, http: httpx.Client | None = None) -> None:
        """`registry_url` is the gateway's; without one, only versions that this library has are decoded."""
        self._registry_url = registry_url
        self._http = http or httpx.Client()
        self._fetched: dict[int, Any] = {}
        self._lock = Lock()

    @cached_property
    def _known(self) -> Mapping[str, Any]:
        known: dict[str, Any] = json.loads(files("gapless_client").joinpath("schemas.json").read_text("utf-8"))
        known["parsed"] = {int(number): parse_schema(schema) for number, schema in known["schemas"].items()}
        return known

    def decode(self, payload: bytes) -> tuple[str, dict[str, Any]]:
        """The record's full name, and the record; times are microseconds since 1970.

        Raises `DecodeError`, and `httpx.HTTPError` if the registry can't be asked.
        """
        if len(payload) < _WIRE_HEADER.size or payload[0] != 0:
            raise DecodeError("not in the Confluent wire format")
        _, schema_id = _WIRE_HEADER.unpack_from(payload)
        writer = self._known["parsed"].get(schema_id) or self._fetch(schema_id)
        name = str(writer["name"])
        newest = self._known["newest"].get(name)
        # A record that is newer than this library is as it was written.
        reader = None if newest is None or newest == schema_id else self._known["parsed"][newest]
        body = io.BytesIO(payload)
        body.seek(_WIRE_HEADER.size)
        try:
            value: Any = schemaless_reader(body, writer, reader)
        except (EOFError, ValueError, IndexError) as error:
            raise DecodeError(f"no {name} of schema {schema_id}: {error}") from error
        if body.read(1):
            raise DecodeError(f"bytes are left over behind a {name} of schema {schema_id}")
        return name, value

    def _fetch(self, schema_id: int) -> Any:
        with self._lock:
            if schema_id not in self._fetched:
                if self._registry_url is None:
                    raise DecodeError(f"schema {schema_id} is unknown, and no registry is set")
                response = self._http.get(f"{self._registry_url.rstrip('/')}/schemas/ids/{schema_id}")
                if response.status_code == httpx.codes.NOT_FOUND:
                    raise DecodeError(f"schema {schema_id} is unknown to the registry")
                text = response.raise_for_status().json()["schema"]
                plain = json.loads(text, object_hook=_without_logical_type)
                self._fetched[schema_id] = parse_schema(plain)
            return self._fetched[schema_id]


def _without_logical_type(node: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name != "logicalType"}
